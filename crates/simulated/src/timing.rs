//! How long tokens take.

use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Decides how long the model takes for each request by itself.
pub trait Timing: Send + Sync {
    /// From the request to the first token, for so many input tokens that no cache served and so
    /// many that one did.
    fn ttft(&self, input_uncached: u64, cached: u64) -> Duration;

    /// From one token to the next while so many exchanges run, this one included.
    fn tpot(&self, running: usize) -> Duration;
}

/// Always the same. Zero means as fast as possible, with a yield after each token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constant {
    /// To the first token.
    pub ttft: Duration,
    /// From token to token.
    pub tpot: Duration,
}

impl Timing for Constant {
    fn ttft(&self, _: u64, _: u64) -> Duration {
        self.ttft
    }

    fn tpot(&self, _: usize) -> Duration {
        self.tpot
    }
}

/// When the next token of one exchange is due. Deadlines add up from the start, so that a timer's
/// coarse grain does not slow the stream down: a late token is followed at once by those that have
/// become due meanwhile.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Instant,
    speed: u32,
}

impl Pace {
    pub(crate) fn start(speed: u32) -> Self {
        Self { due: Instant::now(), speed: speed.max(1) }
    }

    /// From now on.
    pub(crate) fn restart(&mut self) {
        self.due = Instant::now();
    }

    /// Moves the deadline on by so much simulated time. `None` if no time passes.
    pub(crate) fn after(&mut self, gap: Duration) -> Option<Wait> {
        if gap.is_zero() {
            return None;
        }
        self.due += gap / self.speed;
        let wait = self.due.saturating_duration_since(Instant::now());
        Some(if wait.is_zero() {
            Wait::Due
        } else {
            Wait::Until(Box::pin(tokio::time::sleep_until(self.due)))
        })
    }
}

/// Until a token is due.
#[derive(Debug)]
pub(crate) enum Wait {
    Due,
    Until(std::pin::Pin<Box<Sleep>>),
}

/// Waits for a deadline; only yields if no time passes.
pub(crate) async fn rest(wait: Option<Wait>) {
    match wait {
        None => tokio::task::yield_now().await,
        Some(Wait::Due) => {}
        Some(Wait::Until(sleep)) => sleep.await,
    }
}

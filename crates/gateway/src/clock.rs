//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime};

use quantity::UnixTime;

/// Where time comes from: the system, or a time of its own that runs faster for a while.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    System,
    /// `fast` of its time pass `speed` times as fast; then it goes on as time does.
    Injected {
        start: UnixTime,
        since: Instant,
        speed: u32,
        fast: Duration,
    },
}

/// Time within one exchange: the wall clock read once, then a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    clock: Clock,
    wall: UnixTime,
    started: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` now, runs `speed` times as fast as the system's until `fast` of
    /// its own time have passed, and then as fast as it.
    #[must_use]
    pub fn injected(start: UnixTime, speed: u32, fast: Duration) -> Self {
        Self(Source::Injected { start, since: Instant::now(), speed: speed.max(1), fast })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match self.0 {
            Source::System => {
                let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                UnixTime::from_nanos(0).plus(since_epoch.unwrap_or(Duration::ZERO))
            }
            Source::Injected { start, since, speed, fast } => {
                let passed = since.elapsed();
                let beyond = passed.saturating_sub(fast / speed);
                start.plus((passed * speed).min(fast)).plus(beyond)
            }
        }
    }

    /// A timer that starts now.
    #[must_use]
    pub fn timer(&self) -> Timer {
        Timer { clock: *self, wall: self.now(), started: Instant::now() }
    }
}

impl Timer {
    /// The time, by the monotonic clock since the timer started.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match self.clock.0 {
            Source::System => self.wall.plus(self.started.elapsed()),
            // Monotonic of itself.
            Source::Injected { .. } => self.clock.now(),
        }
    }
}

//! How far an answer is that takes longer than a second.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A bar on stderr, if that is a terminal: drawn once a second has passed, and gone when this is dropped.
pub(crate) struct Progress {
    drawing: Option<(Sender<&'static str>, JoinHandle<()>)>,
}

/// What is answered sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// Characters of the bar.
const WIDTH: usize = 24;

impl Progress {
    /// Of so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { drawing: None };
        }
        let (sender, steps_begun) = channel();
        let drawing = std::thread::Builder::new().name("progress".into());
        let drawing = drawing.spawn(move || draw(&steps_begun, steps)).ok();
        Self { drawing: drawing.map(|thread| (sender, thread)) }
    }

    /// A step begins; those before it are done.
    pub(crate) fn step(&self, what: &'static str) {
        if let Some((sender, _)) = &self.drawing {
            // Whoever no longer draws has nothing to be told.
            let _ = sender.send(what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.drawing.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bar goes by real time, and decides nothing")]
fn draw(begun: &Receiver<&'static str>, steps: usize) {
    let start = Instant::now();
    let (mut done, mut now, mut drawn) = (0_usize, None, false);
    loop {
        let wait = match PATIENCE.saturating_sub(start.elapsed()) {
            Duration::ZERO => PATIENCE,
            left => left,
        };
        match begun.recv_timeout(wait) {
            Ok(what) => {
                done += usize::from(now.is_some());
                now = Some(what);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if start.elapsed() >= PATIENCE {
            drawn = true;
            eprint!("\r\x1b[2K{}", bar(done, steps, now.unwrap_or_default()));
            let _ = std::io::stderr().flush();
        }
    }
    if drawn {
        eprint!("\r\x1b[2K");
    }
}

/// `[########----------------] 1 of 3: what would save`.
fn bar(done: usize, steps: usize, now: &str) -> String {
    let full = WIDTH * done.min(steps) / steps.max(1);
    let mut bar = format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full));
    let _ = write!(bar, " {done} of {steps}: {now}");
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows_by_what_is_done() {
        assert_eq!(bar(0, 3, "one"), "[------------------------] 0 of 3: one");
        assert_eq!(bar(1, 3, "two"), "[########----------------] 1 of 3: two");
        assert_eq!(bar(3, 3, "end"), "[########################] 3 of 3: end");
        assert_eq!(bar(9, 3, ""), "[########################] 9 of 3: ");
        assert_eq!(bar(0, 0, ""), "[------------------------] 0 of 0: ");
    }
}

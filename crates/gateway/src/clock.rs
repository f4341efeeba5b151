//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime};

use quantity::UnixTime;

/// Where time comes from: the system, or a time of its own that may run faster.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The instant and speed of an injected clock; `None` for the system's.
    injected: Option<(UnixTime, Instant, u32)>,
}

/// Time within one exchange: the wall clock read once, then a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    wall: UnixTime,
    started: Instant,
    speed: u32,
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { injected: None }
    }

    /// A clock that stands at `start` now and runs `speed` times as fast as the system's.
    #[must_use]
    pub fn injected(start: UnixTime, speed: u32) -> Self {
        Self { injected: Some((start, Instant::now(), speed)) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match self.injected {
            Some((start, since, speed)) => start.plus(since.elapsed() * speed),
            None => {
                let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                UnixTime::from_nanos(0).plus(since_epoch.unwrap_or(Duration::ZERO))
            }
        }
    }

    /// A timer that starts now.
    #[must_use]
    pub fn timer(&self) -> Timer {
        let speed = self.injected.map_or(1, |(_, _, speed)| speed);
        Timer { wall: self.now(), started: Instant::now(), speed }
    }
}

impl Timer {
    /// The time, by the monotonic clock since the timer started.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.wall.plus(self.started.elapsed() * self.speed)
    }
}

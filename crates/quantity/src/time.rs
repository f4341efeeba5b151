//! Wall-clock time. Durations are [`std::time::Duration`]; instants are never measured here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};

/// Nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// From `start` (included) to `end` (excluded); an open side is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// First instant inside.
    pub start: Option<UnixTime>,
    /// First instant after.
    pub end: Option<UnixTime>,
}

/// A text that is neither a date nor an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a date such as `2026-11-22` or an instant such as `2026-11-22T14:05:00Z`, found `{0}`"
)]
pub struct ParseTimeError(String);

impl UnixTime {
    /// An instant from nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The instant `after` later; stays at the end of time (year 2262) rather than wrap.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this instant; zero if a stepped clock put it before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// The UTC day it falls on.
    #[must_use]
    pub fn day(self) -> Day {
        Day(self.timestamp().to_zoned(TimeZone::UTC).date())
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.0)).expect("every i64 of nanoseconds is a date")
    }
}

impl Day {
    /// Midnight UTC that begins the day; `None` outside the years that nanoseconds reach.
    #[must_use]
    pub fn start(self) -> Option<UnixTime> {
        let nanos = self.0.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond();
        i64::try_from(nanos).ok().map(UnixTime)
    }

    /// The day after; `None` after the last that there is.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.tomorrow().ok().map(Self)
    }

    /// The same day so many months later, or the last of that month if it is shorter; `None` beyond the
    /// years that dates have.
    #[must_use]
    pub fn months_later(self, months: u32) -> Option<Self> {
        let span = Span::new().try_months(months).ok()?;
        self.0.checked_add(span).ok().map(Self)
    }
}

impl Period {
    /// Whether the instant is inside.
    #[must_use]
    pub fn contains(&self, at: UnixTime) -> bool {
        self.start.is_none_or(|start| at >= start) && self.end.is_none_or(|end| at < end)
    }
}

/// RFC 3339 with milliseconds: `2026-11-22T14:05:00.000Z`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timestamp())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A date is its midnight UTC.
impl FromStr for UnixTime {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let error = || ParseTimeError(text.to_owned());
        if let Ok(day) = text.parse::<Day>() {
            return day.start().ok_or_else(error);
        }
        let at: Timestamp = text.parse().map_err(|_| error())?;
        i64::try_from(at.as_nanosecond()).map(Self).map_err(|_| error())
    }
}

impl FromStr for Day {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let bare = text.len() == "2026-11-22".len();
        let date = text.parse().ok().filter(|_| bare);
        date.map(Self).ok_or_else(|| ParseTimeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_instants() {
        let midnight: UnixTime = "2026-11-22".parse().unwrap();
        assert_eq!(midnight.to_string(), "2026-11-22T00:00:00.000Z");
        assert_eq!(midnight.day().to_string(), "2026-11-22");
        assert_eq!("2026-11-22T01:00:00+01:00".parse::<UnixTime>().unwrap(), midnight);
        assert!("yesterday".parse::<UnixTime>().is_err());
        assert!("2026-11-31".parse::<UnixTime>().is_err());
    }

    #[test]
    fn months_end_where_they_do() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        for (from, months, to) in [
            ("2026-11-22", 0, "2026-11-22"),
            ("2026-11-22", 2, "2027-01-22"),
            ("2027-01-31", 1, "2027-02-28"),
            ("2027-01-31", 13, "2028-02-29"),
            ("2027-01-31", 2, "2027-03-31"),
        ] {
            assert_eq!(day(from).months_later(months), Some(day(to)));
        }
        assert_eq!(day("2026-11-22").months_later(u32::MAX), None);
        assert_eq!(day("2026-12-31").next(), Some(day("2027-01-01")));
        assert_eq!(day("9999-12-31").next(), None);
    }

    #[test]
    fn a_period_excludes_its_end() {
        let at = |n| UnixTime::from_nanos(n);
        let period = Period { start: Some(at(10)), end: Some(at(20)) };
        assert!(period.contains(at(10)) && period.contains(at(19)));
        assert!(!period.contains(at(9)) && !period.contains(at(20)));
        assert!(Period::default().contains(at(i64::MIN)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_time() {
        assert_eq!(UnixTime(5).since(UnixTime(9)), Duration::ZERO);
        assert_eq!(UnixTime(i64::MAX).since(UnixTime(i64::MIN)).as_nanos(), u128::from(u64::MAX));
    }
}

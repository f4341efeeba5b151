//! Windows of the day and the week, on the clocks of a place.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use quantity::UnixTime;

const SECOND_NANOS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// 1970-01-01 was a Thursday; days count from Monday.
const EPOCH_WEEKDAY: i64 = 3;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A window of the day, in seconds since midnight; past midnight where `end` < `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// First second inside.
    pub start: u32,
    /// First second after.
    pub end: u32,
}

/// Days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

/// A time zone by its name in the IANA database.
#[derive(Debug, Clone)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

/// When in the week a price holds. A window past midnight belongs to the day on which it begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// The part of the day; `None` is all of it.
    pub daily: Option<Daily>,
    /// The days; `None` is every day.
    pub days: Option<Days>,
    /// Whose clocks; `None` is UTC.
    pub zone: Option<Zone>,
}

impl Window {
    /// Whether it says anything.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.daily.is_none() && self.days.is_none()
    }

    /// Whether the instant is inside.
    #[must_use]
    pub fn contains(&self, at: UnixTime) -> bool {
        let seconds = at.nanos().div_euclid(SECOND_NANOS);
        let offset = self.zone.as_ref().map_or(0, |zone| zone.offset(seconds));
        let local = seconds.saturating_add(offset);
        let weekday = local.div_euclid(DAY_SECONDS).saturating_add(EPOCH_WEEKDAY).rem_euclid(7);
        let second = local.rem_euclid(DAY_SECONDS);
        let on = |weekday: i64| self.days.is_none_or(|days| days.contains(weekday));
        let Some(daily) = self.daily else { return on(weekday) };
        let (start, end) = (i64::from(daily.start), i64::from(daily.end));
        if start < end {
            second >= start && second < end && on(weekday)
        } else {
            second >= start && on(weekday)
                || second < end && on(weekday.saturating_sub(1).rem_euclid(7))
        }
    }

    /// Whether there is an instant inside both. Looked for where one of them begins, in a week of
    /// January and one of July, so that summer time is seen on both halves of the globe.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        // Mondays, as days since the epoch: 2026-01-05 and 2026-07-06.
        let weeks = [20_458_i64, 20_640];
        let begins = |window: &Self| {
            let start = window.daily.map_or(0, |daily| i64::from(daily.start));
            let zone = window.zone.clone();
            weeks.into_iter().flat_map(|week| week..week.saturating_add(7)).map(move |day| {
                let local = day.saturating_mul(DAY_SECONDS).saturating_add(start);
                let offset = zone.as_ref().map_or(0, |zone| zone.offset(local));
                let seconds = local.saturating_sub(offset);
                UnixTime::from_nanos(seconds.saturating_mul(SECOND_NANOS))
            })
        };
        begins(self).chain(begins(other)).any(|at| self.contains(at) && other.contains(at))
    }
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |second: u32| {
            let (hour, rest) = (second.div_euclid(3600), second.rem_euclid(3600));
            format!("{hour:02}:{:02}:{:02}", rest.div_euclid(60), rest.rem_euclid(60))
        };
        write!(f, "{}-{}", clock(self.start), clock(self.end))
    }
}

impl Daily {
    /// Reads what `Display` wrote; `None` for anything else, and for a window without time in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, end) = text.split_once('-')?;
        let daily = Self { start: parse_clock(start)?, end: parse_clock(end)? };
        (daily.start != daily.end).then_some(daily)
    }
}

/// `16:30:00` in seconds since midnight.
fn parse_clock(text: &str) -> Option<u32> {
    let mut second = 0_u32;
    let mut parts = text.split(':');
    for limit in [24, 60, 60] {
        let part = parts.next()?;
        let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let value = part.parse::<u32>().ok().filter(|value| plain && *value < limit)?;
        second = second.checked_mul(60)?.checked_add(value)?;
    }
    parts.next().is_none().then_some(second)
}

impl Days {
    /// Reads `sat,sun` or `mon-fri`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let day = |name: &str| NAMES.iter().position(|known| *known == name);
        let mut set = 0_u8;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            if first > last {
                return None;
            }
            for one in first..=last {
                let bit = 1_u8 << one;
                if set & bit != 0 {
                    return None;
                }
                set |= bit;
            }
        }
        Some(Self(set))
    }

    fn contains(self, weekday: i64) -> bool {
        u32::try_from(weekday)
            .is_ok_and(|day| self.0.checked_shr(day).is_some_and(|set| set & 1 == 1))
    }
}

/// Runs of three days or more as `mon-fri`.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        let mut run: Vec<&str> = Vec::new();
        for day in 0..=7 {
            if self.contains(day) {
                run.extend(usize::try_from(day).ok().and_then(|day| NAMES.get(day)));
                continue;
            }
            match run.as_slice() {
                [first, _, .., last] => parts.push(format!("{first}-{last}")),
                few => parts.extend(few.iter().map(|&day| day.to_owned())),
            }
            run.clear();
        }
        f.write_str(&parts.join(","))
    }
}

impl Zone {
    /// The zone of this name, such as `Asia/Shanghai`; `None` if the database that is built in has none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let rules = TimeZone::get(name).ok()?;
        Some(Self { name: name.into(), rules })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far its clocks are ahead of UTC, seconds.
    fn offset(&self, seconds: i64) -> i64 {
        let at = Timestamp::from_second(seconds);
        at.map_or(0, |at| i64::from(self.rules.to_offset(at).seconds()))
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(daily: &str, days: &str, zone: &str) -> Window {
        Window {
            daily: (!daily.is_empty()).then(|| Daily::parse(daily).unwrap()),
            days: (!days.is_empty()).then(|| Days::parse(days).unwrap()),
            zone: (!zone.is_empty()).then(|| Zone::named(zone).unwrap()),
        }
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
        let nights = window("22:00:00-06:00:00", "mon-fri", "");
        // 2026-11-20 is a Friday.
        for (at, inside) in [
            ("2026-11-20T21:59:59Z", false),
            ("2026-11-20T22:00:00Z", true),
            ("2026-11-21T05:59:59.999Z", true),
            ("2026-11-21T06:00:00Z", false),
            ("2026-11-21T23:00:00Z", false),
            ("2026-11-23T05:00:00Z", false),
            ("2026-11-23T22:00:00Z", true),
            ("1969-12-31T23:00:00Z", true),
        ] {
            assert_eq!(nights.contains(at.parse().unwrap()), inside, "{at}");
        }
    }

    #[test]
    fn clocks_are_those_of_the_place_in_summer_and_winter() {
        let berlin = window("09:00:00-17:00:00", "mon-fri", "Europe/Berlin");
        for (at, inside) in [
            ("2026-07-06T06:59:59Z", false),
            ("2026-07-06T07:00:00Z", true),
            ("2026-01-05T07:30:00Z", false),
            ("2026-01-05T08:00:00Z", true),
            ("2026-01-05T16:00:00Z", false),
        ] {
            assert_eq!(berlin.contains(at.parse().unwrap()), inside, "{at}");
        }
        let shanghai = window("", "sat,sun", "Asia/Shanghai");
        assert!(shanghai.contains("2026-11-20T16:00:00Z".parse().unwrap()));
        assert!(!shanghai.contains("2026-11-22T16:00:00Z".parse().unwrap()));
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn days_and_clocks_are_read_as_they_are_written() {
        for text in ["mon-fri", "sat,sun", "mon,wed-fri", "sun", "mon-sun"] {
            assert_eq!(Days::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "fri-mon", "mon,mon", "Mon", "mon-", "mon-tue-wed"] {
            assert!(Days::parse(text).is_none(), "{text}");
        }
        for text in ["10:00:00-10:00:00", "24:00:00-01:00:00", "1:00:00-2:00:00", "10:00-11:00"] {
            assert!(Daily::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn windows_that_share_an_hour_meet() {
        let meets = |a: &Window, b: &Window| {
            assert_eq!(a.meets(b), b.meets(a));
            a.meets(b)
        };
        let morning = window("01:00:00-04:00:00", "", "");
        assert!(!meets(&morning, &window("06:00:00-10:00:00", "", "")));
        assert!(!meets(&morning, &window("04:00:00-10:00:00", "", "")));
        assert!(meets(&morning, &window("22:00:00-01:00:01", "", "")));
        assert!(!meets(&window("", "sat,sun", ""), &window("", "mon-fri", "")));
        assert!(meets(&window("", "sat,sun", ""), &window("23:00:00-01:00:00", "fri", "")));
        // In July Berlin is two hours ahead, in January one.
        assert!(meets(&morning, &window("05:30:00-07:00:00", "", "Europe/Berlin")));
        assert!(!meets(&morning, &window("06:00:00-07:00:00", "", "Europe/Berlin")));
    }
}

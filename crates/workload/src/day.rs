//! Traffic that follows the day.

use std::f64::consts::TAU;
use std::time::Duration;

/// A day's length.
const DAY_S: f64 = 86_400.0;

/// How the rate of arrivals goes up and down in a day: as a cosine, `peak_to_floor` times as high at its peak as twelve hours
/// from it, and 1 in the mean of a day. The first day begins with the first arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Day {
    /// How far it goes from the mean, from 0 to below 1.
    swing: f64,
    /// Seconds from midnight to the peak.
    peak_s: f64,
}

impl Day {
    /// With a peak at this hour of the day.
    #[must_use]
    pub fn new(peak_to_floor: f64, peak_hour: f64) -> Self {
        let ratio = peak_to_floor.max(1.0);
        Self { swing: (ratio - 1.0) / (ratio + 1.0), peak_s: peak_hour * 3600.0 }
    }

    /// The rate at a time, over the mean.
    #[must_use]
    pub fn weight(&self, at: Duration) -> f64 {
        1.0 + self.swing * libm::cos((at.as_secs_f64() - self.peak_s) / DAY_S * TAU)
    }

    /// Seconds at the mean rate in which as many come as up to this second.
    fn passed(&self, at: f64) -> f64 {
        let wave = |at: f64| libm::sin((at - self.peak_s) / DAY_S * TAU);
        at + self.swing * DAY_S / TAU * (wave(at) - wave(0.0))
    }

    /// When so many have come as at the mean rate would in this time: what makes of evenly spread arrivals those of a day.
    #[must_use]
    pub fn when(&self, passed: Duration) -> Duration {
        let passed = passed.as_secs_f64();
        // It is never further away than the wave is high.
        let reach = 2.0 * self.swing * DAY_S / TAU;
        let (mut low, mut high) = ((passed - reach).max(0.0), passed + reach);
        let mut at = passed;
        // Newton's steps, and halves where they would leave what is left.
        for _ in 0..64 {
            let off = self.passed(at) - passed;
            if off < 0.0 {
                low = low.max(at);
            } else {
                high = high.min(at);
            }
            let step = off / (1.0 + self.swing * libm::cos((at - self.peak_s) / DAY_S * TAU));
            let next = at - step;
            at = if (low..=high).contains(&next) { next } else { f64::midpoint(low, high) };
            // Less than a nanosecond.
            if step.abs() < 1e-9 {
                break;
            }
        }
        Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Poisson;

    #[test]
    fn a_day_has_its_mean_its_peak_and_its_floor() {
        let day = Day::new(5.0, 14.0);
        let hour = |hour: u64| day.weight(Duration::from_secs(hour * 3600));
        assert!((hour(14) / hour(2) - 5.0).abs() < 1e-12);
        let mean = (0..24).map(hour).sum::<f64>() / 24.0;
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
        // Of what comes in a day at the mean rate, as much comes in this one.
        let days = |count: u64| Duration::from_secs(count * 86_400);
        for count in [1, 2, 30] {
            let off = day.when(days(count)).as_secs_f64() - days(count).as_secs_f64();
            assert!(off.abs() < 1e-3, "{off}");
        }
        assert_eq!(Day::new(1.0, 9.0).when(Duration::from_secs(12_345)).as_secs(), 12_345);
    }

    #[test]
    fn arrivals_follow_the_day_at_the_mean_rate_bursty_or_not() {
        for cv in [1.0, 2.0] {
            let rows = Poisson::new(3, Duration::from_secs(1), 10.into(), 10.into()).with_cv(cv);
            let day = Day::new(4.0, 15.0);
            let at: Vec<u64> = rows
                .with_day(day)
                .map(|row| row.at.as_secs())
                .take_while(|at| *at < 10 * 86_400)
                .collect();
            let mean = at.len() as f64 / (10.0 * 86_400.0);
            assert!((mean - 1.0).abs() < 0.01, "{cv}: {mean}");
            let within = |hour: u64| at.iter().filter(|at| **at / 3600 % 24 == hour).count() as f64;
            // The hour about the peak, and the one about the floor: the mean of the cosine over each.
            let hours = [within(14) + within(15), within(2) + within(3)];
            let expected = hours.iter().zip([15, 3]).map(|(found, hour)| {
                let mean = day.weight(Duration::from_secs(hour * 3600));
                found / (2.0 * 10.0 * 3600.0 * mean)
            });
            let off: Vec<f64> = expected.collect();
            assert!(off.iter().all(|off| (off - 1.0).abs() < 0.03), "{cv}: {off:?}");
            assert!(at.is_sorted());
        }
    }
}

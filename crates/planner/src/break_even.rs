//! From which volume on it is cheaper to run whole machines than to pay by the token.

use crate::unit::{PerMonth, PerMtok};

/// What one's own machines cost beside an API, by volume: `F + c ceil(V / cap)` against `p V`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Staircase {
    /// What does not depend on the volume: people, licences, a one-off cost by the month. Not negative.
    pub fixed: PerMonth,
    /// One more machine, or one more group of them that only works together. Above 0.
    pub step: PerMonth,
    /// Million tokens a month that one step serves within the SLO at the traffic's peaks: full throughput times the highest
    /// safe load over the ratio of peak to mean. Above 0.
    pub step_mtok: f64,
    /// What the API takes.
    pub price: PerMtok,
}

/// Volumes in million tokens a month, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// From here.
    pub from: f64,
    /// To here.
    pub to: f64,
}

/// Where own machines cost no more than the API.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BreakEven {
    /// Separate volumes before they always do; the gaps are where the next machine is not filled yet.
    pub intervals: Vec<Interval>,
    /// More such intervals than are listed.
    pub more: u64,
    /// From this volume on they always do; `None`: never, for a full machine costs as much as the API takes for what it
    /// serves, or more.
    pub always_from: Option<f64>,
}

/// So many intervals are listed at most.
const MOST_INTERVALS: usize = 1_000;

impl Staircase {
    /// What own machines cost at a volume.
    #[must_use]
    pub fn own(&self, mtok: f64) -> PerMonth {
        self.fixed + self.step * (mtok / self.step_mtok).ceil()
    }

    /// What the API costs at a volume.
    #[must_use]
    pub fn api(&self, mtok: f64) -> PerMonth {
        PerMonth::new(self.price.usd() * mtok)
    }

    /// What a full step saves a month against the API, before fixed costs; if it saves nothing, owning never wins.
    #[must_use]
    pub fn saved_by_a_full_step(&self) -> PerMonth {
        self.api(self.step_mtok) - self.step
    }

    /// Where own machines win. With `k` of them that is from `(F + k c) / p` to `k cap`; from `k* = (c + F) / (p cap - c)` on
    /// these intervals touch.
    #[must_use]
    pub fn break_even(&self) -> BreakEven {
        let (fixed, step, cap) = (self.fixed.usd(), self.step.usd(), self.step_mtok);
        let price = self.price.usd();
        let saved = price * cap - step;
        // Beyond that the volumes are no numbers any more.
        let reach = (fixed + step) / saved;
        if saved <= 0.0 || !reach.is_finite() {
            return BreakEven::default();
        }
        let from = |machines: f64| {
            let pays = (fixed + machines * step) / price;
            pays.max((machines - 1.0) * cap)
        };
        let first = (fixed / saved).ceil().max(1.0);
        let touching = reach.ceil().max(first);
        let mut intervals = Vec::new();
        let mut machines = first;
        while machines < touching && intervals.len() < MOST_INTERVALS {
            let interval = Interval { from: from(machines), to: machines * cap };
            // Rounding may leave an interval of less than nothing where it is one point.
            if interval.from <= interval.to {
                intervals.push(interval);
            }
            machines += 1.0;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let more = (touching - machines).max(0.0) as u64;
        BreakEven { intervals, more, always_from: Some(from(touching)) }
    }
}

/// What an API costs by volume: something that does not change, and so much for each unit, but no less than a minimum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Linear {
    pub(crate) fixed: f64,
    pub(crate) each: f64,
    pub(crate) minimum: f64,
}

impl Linear {
    /// The least volume at which it costs so much; `None`: at none.
    fn reaches(&self, usd: f64) -> Option<f64> {
        let variable = usd - self.fixed;
        if variable <= self.minimum {
            return Some(0.0);
        }
        (self.each > 0.0).then(|| variable / self.each)
    }
}

/// Where own machines cost no more than an API, whatever the steps of their cost: each step is the volume up to which it goes,
/// from the one before, and what it costs. From `surely` on they always win; `None`: they do not at last.
pub(crate) fn steps_below(steps: &[(f64, f64)], api: &Linear, surely: Option<f64>) -> BreakEven {
    let mut intervals: Vec<Interval> = Vec::new();
    let mut start = 0.0;
    for &(end, usd) in steps {
        let from = api.reaches(usd).map_or(f64::INFINITY, |from| from.max(start));
        if from <= end {
            match intervals.last_mut() {
                // The volume just after an edge belongs to the next step.
                Some(last) if last.to >= from => last.to = end,
                _ => intervals.push(Interval { from, to: end }),
            }
        }
        start = end;
    }
    let reached = steps.last().map_or(0.0, |(end, _)| *end);
    // What was not looked at lies before `surely`, and is not claimed.
    let to_the_end = intervals.last().is_some_and(|last| last.to >= reached);
    let always_from = match surely {
        Some(surely) if to_the_end && reached >= surely => intervals.pop().map(|last| last.from),
        surely => surely,
    };
    let more = intervals.len().saturating_sub(MOST_INTERVALS) as u64;
    intervals.truncate(MOST_INTERVALS);
    BreakEven { intervals, more, always_from }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl BreakEven {
        fn wins(&self, mtok: f64) -> bool {
            self.always_from.is_some_and(|from| mtok >= from)
                || self.intervals.iter().any(|part| part.from <= mtok && mtok <= part.to)
        }
    }

    #[test]
    fn machines_that_cost_more_than_they_serve_never_win() {
        let dear = Staircase {
            fixed: PerMonth::ZERO,
            step: PerMonth::new(100.0),
            step_mtok: 50.0,
            price: PerMtok::new(2.0),
        };
        assert_eq!(dear.break_even(), BreakEven::default());
        assert_eq!(dear.saved_by_a_full_step(), PerMonth::ZERO);
        let free = Staircase { price: PerMtok::ZERO, ..dear };
        assert_eq!(free.break_even(), BreakEven::default());
    }

    #[test]
    fn many_intervals_are_counted_rather_than_listed() {
        let close = Staircase {
            fixed: PerMonth::ZERO,
            step: PerMonth::new(100.0),
            step_mtok: 100.0,
            price: PerMtok::new(1.000_01),
        };
        let found = close.break_even();
        assert_eq!(found.intervals.len(), MOST_INTERVALS);
        assert!((98_900..99_100).contains(&found.more), "{}", found.more);
    }

    proptest! {
        #[test]
        fn intervals_agree_with_asking_at_every_volume(
            fixed in 0.0..5_000.0_f64, step in 1.0..5_000.0_f64, cap in 1.0..5_000.0_f64,
            price in 0.01..10.0_f64, volumes in prop::collection::vec(0.0..30.0_f64, 50),
        ) {
            let stairs = Staircase {
                fixed: PerMonth::new(fixed), step: PerMonth::new(step), step_mtok: cap, price: PerMtok::new(price),
            };
            let found = stairs.break_even();
            prop_assume!(found.more == 0);
            for steps in volumes {
                let volume = steps * cap;
                let (own, api) = (stairs.own(volume).usd(), stairs.api(volume).usd());
                // Where both cost the same, rounding decides.
                if volume > 0.0 && (own - api).abs() > 1e-9 * (own + api) {
                    prop_assert_eq!(found.wins(volume), own < api, "at {}: {:?}", volume, found);
                }
            }
        }
    }
}

//! Traffic that nobody recorded: arrivals at random, all of one size.

use std::time::Duration;

use quantity::TokenCount;

use crate::{Random, Row};

/// Requests of one size that arrive independently of each other, at a rate that stays the same: a
/// Poisson process. Never ends.
#[derive(Debug, Clone)]
pub struct Poisson {
    random: Random,
    gap: Duration,
    next: Row,
}

impl Poisson {
    /// With this mean gap between arrivals. The first one comes at 0, as in a trace.
    #[must_use]
    pub const fn new(seed: u64, gap: Duration, input: TokenCount, output: TokenCount) -> Self {
        let next = Row { at: Duration::ZERO, input, output };
        Self { random: Random::new(seed), gap, next }
    }
}

impl Iterator for Poisson {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.next;
        let gap = self.random.exponential(self.gap);
        self.next.at = row.at.saturating_add(gap);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(seed: u64) -> impl Iterator<Item = Row> {
        Poisson::new(seed, Duration::from_millis(250), 2000.into(), 500.into())
    }

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let at: Vec<f64> = rows(3).take(40_001).map(|row| row.at.as_secs_f64()).collect();
        let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / 40_000.0;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 40_000.0;
        assert_eq!(at[0], 0.0);
        assert!((mean - 0.25).abs() < 0.005, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn a_seed_names_one_traffic() {
        let some = |seed| rows(seed).take(50).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }
}

//! Traffic that nobody recorded: arrivals at random, all of one size.

use std::time::Duration;

use quantity::TokenCount;

use crate::{Day, Random, Row};

/// Requests of one size that arrive independently of each other, at a rate that stays the same or follows
/// the day: a Poisson process, or one whose gaps vary more or less than that. Never ends.
#[derive(Debug, Clone)]
pub struct Poisson {
    random: Random,
    gap: Duration,
    /// The shape of gaps that are gamma distributed.
    shape: Option<f64>,
    day: Option<Day>,
    next: Row,
}

impl Poisson {
    /// With this mean gap between arrivals. The first one comes at 0, as in a trace.
    #[must_use]
    pub const fn new(seed: u64, gap: Duration, input: TokenCount, output: TokenCount) -> Self {
        let next = Row { at: Duration::ZERO, input, output };
        Self { random: Random::new(seed), gap, shape: None, day: None, next }
    }

    /// With gaps whose coefficient of variation is this, above 0: gamma distributed. 1 is a Poisson
    /// process, more is burstier; traces of LLM services have 1 to 13 (Azure 2023).
    #[must_use]
    pub fn with_cv(self, cv: f64) -> Self {
        Self { shape: Some(1.0 / (cv * cv)), ..self }
    }

    /// At a rate that follows the day, about the mean that the gap says: gaps are as much shorter as it is higher.
    #[must_use]
    pub const fn with_day(self, day: Day) -> Self {
        Self { day: Some(day), ..self }
    }

    /// Tokens of each prompt and each reply.
    pub(crate) const fn size(&self) -> (TokenCount, TokenCount) {
        (self.next.input, self.next.output)
    }
}

impl Iterator for Poisson {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.next;
        let gap = match self.shape {
            None => self.random.exponential(self.gap),
            Some(shape) => self.gap.mul_f64(self.random.gamma(shape) / shape),
        };
        self.next.at = row.at.saturating_add(gap);
        Some(Row { at: self.day.map_or(row.at, |day| day.when(row.at)), ..row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(seed: u64) -> Poisson {
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
    fn bursty_gaps_have_their_mean_and_their_spread() {
        for cv in [0.5, 1.0, 3.0] {
            let at = rows(5).with_cv(cv).take(100_001).map(|row| row.at.as_secs_f64());
            let at: Vec<f64> = at.collect();
            let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / 100_000.0;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 100_000.0;
            assert!((mean / 0.25 - 1.0).abs() < 0.04, "{cv}: {mean}");
            assert!((variance.sqrt() / mean / cv - 1.0).abs() < 0.05, "{cv}: {variance}");
        }
    }

    #[test]
    fn a_seed_names_one_traffic() {
        let some = |seed| rows(seed).take(50).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }
}

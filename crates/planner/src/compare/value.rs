//! What money buys: how good the answers are, and how quickly they come.

use super::Quoted;
use super::quotes::RouteNeed;
use crate::demand::Demand;

/// What an offer is worth to a user: a score, tokens a second, and what a task costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The score; more is better.
    pub quality: f64,
    /// Tokens a second for a user; more is better.
    pub tokens_per_s: f64,
    /// USD for a task; less is better.
    pub usd: f64,
}

/// Whether one is as good as another in each value and better in one.
#[must_use]
pub fn dominates(one: &Fit, other: &Fit) -> bool {
    let as_good = one.quality >= other.quality
        && one.tokens_per_s >= other.tokens_per_s
        && one.usd <= other.usd;
    as_good && one != other
}

impl Quoted {
    /// Its three values; `None` if one of them is not known.
    #[must_use]
    pub fn fit(&self, demand: &[Demand]) -> Option<Fit> {
        Some(Fit {
            quality: self.first.quality?,
            tokens_per_s: self.first.tokens_per_s?,
            usd: self.per_task(demand).0?,
        })
    }

    fn serves(&self, need: &RouteNeed) -> bool {
        self.first.quality.is_some_and(|quality| quality >= need.quality)
            && self.first.tokens_per_s.is_some_and(|speed| speed >= need.tokens_per_s)
    }
}

/// Marks those that no other offer dominates.
pub(super) fn mark_pareto(quoted: &mut [Quoted], demand: &[Demand]) {
    let fits: Vec<_> = quoted.iter().map(|one| one.fit(demand)).collect();
    for (one, fit) in quoted.iter_mut().zip(&fits) {
        one.pareto =
            fit.as_ref().map(|fit| !fits.iter().flatten().any(|other| dominates(other, fit)));
    }
}

/// The cheapest admissible offer that a route can use. The offers are sorted by what they cost.
pub(super) fn cheapest_for(need: &RouteNeed, quoted: &[Quoted]) -> Option<usize> {
    quoted.iter().position(|one| one.is_admissible() && one.serves(need))
}

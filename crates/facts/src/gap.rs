//! Exchanges that the ledger does not have: how many, and what is known of them.

use quantity::{Money, UnixTime, UsageSource};

use crate::{Admission, AttemptEnd, Settlement};

/// What passed, or ended, while the journal could take no records. It is no part of any sum: it says
/// what sums lack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// The first time that a record would have told.
    pub since: UnixTime,
    /// The last.
    pub until: UnixTime,
    /// Exchanges whose settlement is not on the journal.
    pub exchanges: u64,
    /// Attempts whose end is not on the journal.
    pub attempts: u64,
    /// What those of them cost whose cost is known; `None` if none is.
    pub cost: Option<Money>,
    /// Tokens of those of them whose usage is known or estimated; `None` if none is.
    pub tokens: Option<u64>,
    /// Why the journal took no records, in words; the first reason where there were several.
    pub cause: String,
}

impl Gap {
    /// Nothing so far, from a time on.
    #[must_use]
    pub fn new(at: UnixTime, cause: String) -> Self {
        Self { since: at, until: at, exchanges: 0, attempts: 0, cost: None, tokens: None, cause }
    }

    /// An exchange was admitted.
    pub fn admitted(&mut self, admission: &Admission) {
        self.reach(admission.at);
    }

    /// An attempt ended.
    pub fn ended(&mut self, end: &AttemptEnd) {
        self.reach(end.at);
        self.attempts += 1;
        if let Some(cost) = end.charged.cost() {
            *self.cost.get_or_insert_default() += cost;
        }
        if end.metered.source != UsageSource::Unknown {
            let tokens = self.tokens.get_or_insert_default();
            *tokens = tokens.saturating_add(end.metered.usage.total());
        }
    }

    /// An exchange settled.
    pub fn settled(&mut self, settlement: &Settlement) {
        self.reach(settlement.at);
        self.exchanges += 1;
    }

    /// Adds another gap.
    pub fn merge(&mut self, other: &Self) {
        self.reach(other.since);
        self.reach(other.until);
        self.exchanges = self.exchanges.saturating_add(other.exchanges);
        self.attempts = self.attempts.saturating_add(other.attempts);
        if let Some(cost) = other.cost {
            *self.cost.get_or_insert_default() += cost;
        }
        if let Some(tokens) = other.tokens {
            let ours = self.tokens.get_or_insert_default();
            *ours = ours.saturating_add(tokens);
        }
    }

    /// Whether an exchange or an attempt ended in it; until then there is nothing to tell.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.exchanges > 0 || self.attempts > 0
    }

    fn reach(&mut self, at: UnixTime) {
        self.since = self.since.min(at);
        self.until = self.until.max(at);
    }
}

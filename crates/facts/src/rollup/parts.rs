//! Rollups made in parts: by a projection that keeps sums, by threads that each count a share.

use quantity::UnixTime;

use super::{Key, Rollup};
use crate::{Attempt, Exchange, Measures};

impl Exchange {
    /// Whether answers count it: a list of models, a response shown again, or a count of tokens is no
    /// use of a model.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        !self.admission.api.is_free()
    }

    /// What it adds to a rollup, row by row: one for each attempt, the last of which also counts the
    /// exchange; one without an attempt if there was none. The group of a row is that of its attempt.
    pub fn rows(&self) -> impl Iterator<Item = (Option<&Attempt>, Measures)> {
        let last = self.attempts.len().saturating_sub(1);
        (0..=last).map(move |index| {
            let attempt = self.attempts.get(index);
            let mut measures = Measures::default();
            if let Some(attempt) = attempt {
                measures.add_attempt(attempt);
            }
            if index == last {
                measures.add_exchange(self);
            }
            (attempt, measures)
        })
    }
}

/// The groups of an answer are sums, so a rollup may be made of parts that were summed elsewhere. In
/// whatever order parts come, the answer is the same.
impl Rollup {
    /// Counts what was summed for a group: `key` has a value for each dimension of the query.
    pub fn add_group(&mut self, key: Key, measures: &Measures) {
        let place = self.place(key);
        self.groups.entry(place).or_default().merge(measures);
    }

    /// Notes when the first and the last of the exchanges in such sums were admitted.
    pub fn add_seen(&mut self, first: UnixTime, last: UnixTime) {
        let (least, most) = self.seen.unwrap_or((first, last));
        self.seen = Some((first.min(least), last.max(most)));
    }

    /// Notes attempts of a group that ran on an upstream paid by the hour: from when to when, and
    /// their useful tokens. They are counted by [`add_group`](Self::add_group).
    pub fn add_busy(
        &mut self,
        key: &Key,
        upstream: &str,
        times: impl IntoIterator<Item = (UnixTime, UnixTime)>,
        useful_tokens: u64,
    ) {
        self.hosts.busy(&self.place(key.clone()), upstream, times, useful_tokens);
    }

    /// Adds what another rollup of the same query counted; both keep every group.
    pub fn merge(&mut self, other: Self) {
        debug_assert!(self.limit.is_none() && other.limit.is_none(), "both keep every group");
        for (place, measures) in other.groups {
            self.groups.entry(place).or_default().merge(&measures);
        }
        if let Some((first, last)) = other.seen {
            self.add_seen(first, last);
        }
        self.hosts.merge(other.hosts);
        for ((day, ..), line) in other.adjustments {
            self.add_adjustments(day, line);
        }
        self.gaps.extend(other.gaps);
    }
}

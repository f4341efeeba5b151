//! Answers, kept up to date one settled exchange at a time.

mod names;
mod parts;

use std::collections::BTreeMap;

use quantity::{Money, UnixTime};

use crate::hosting::Hosts;
use crate::{Exchange, HostedLine, Hosting, Measures, PriceRecord, Query};

/// The values of the query's dimensions, in its order; `None` where an attempt has no such label.
type Key = Vec<Option<String>>;

/// One row of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The values of the query's dimensions, in its order; `None` where there is no such label.
    pub key: Vec<Option<String>>,
    /// What was counted.
    pub measures: Measures,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub query: Query,
    /// The groups, dearest first, then by key.
    pub groups: Vec<Group>,
    /// Their sum.
    pub total: Measures,
    /// Upstreams paid by the hour, with their idle time, which no group bears.
    pub hosting: Vec<HostedLine>,
    /// Admission of the first and of the last exchange counted.
    pub seen: Option<(UnixTime, UnixTime)>,
}

impl Answer {
    /// Everything that was spent: by the token, and by the hour busy and idle.
    #[must_use]
    pub fn spend(&self) -> Money {
        self.total.spend() + self.hosting.iter().map(|line| line.idle).sum()
    }
}

/// A query that is kept answered.
#[derive(Debug, Clone)]
pub struct Rollup {
    query: Query,
    groups: BTreeMap<Key, Measures>,
    hosts: Hosts<Key>,
    seen: Option<(UnixTime, UnixTime)>,
}

impl Rollup {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self { query, groups: BTreeMap::new(), hosts: Hosts::default(), seen: None }
    }

    /// Takes note of a price by the hour; prices by use come with each charge.
    pub fn price(&mut self, price: &PriceRecord) {
        if let PriceRecord::PerHour { upstream, cost, from } = price {
            self.hosts.rate(upstream, *cost, *from);
        }
    }

    /// Counts a settled exchange, if it was admitted in the query's period. Lists of models and stored
    /// responses that are shown again are not counted: they are no use of a model.
    pub fn add(&mut self, exchange: &Exchange) {
        let admission = &exchange.admission;
        if !self.query.period.contains(admission.at) || !exchange.is_counted() {
            return;
        }
        self.add_seen(admission.at, admission.at);
        let by = &self.query.by;
        let key = |attempt| by.iter().map(|by| by.of(exchange, attempt)).collect::<Key>();
        for attempt in &exchange.attempts {
            let key = key(Some(attempt));
            if let Some(busy) = attempt.hosted_busy() {
                let useful = attempt.useful_tokens();
                self.hosts.busy(&key, &attempt.dispatch.upstream, [busy], useful);
            }
            self.groups.entry(key).or_default().add_attempt(attempt);
        }
        let last = key(exchange.attempts.last());
        self.groups.entry(last).or_default().add_exchange(exchange);
    }

    /// The answer as of `now`, which ends hours that the query's period leaves open.
    #[must_use]
    pub fn answer(&self, now: UnixTime) -> Answer {
        let mut groups = self.groups.clone();
        let mut hosting = Vec::new();
        for Hosting { line, shares } in self.hosts.settle(&self.query.period, now) {
            for (key, cost) in shares {
                groups.entry(key).or_default().hosted_cost += cost;
            }
            hosting.push(line);
        }
        let mut total = Measures::default();
        groups.values().for_each(|measures| total.merge(measures));
        let groups = by_spend(groups);
        Answer { query: self.query.clone(), groups, total, hosting, seen: self.seen }
    }
}

/// Dearest first, then by key.
fn by_spend(groups: BTreeMap<Key, Measures>) -> Vec<Group> {
    let groups = groups.into_iter().map(|(key, measures)| Group { key, measures });
    let mut groups: Vec<Group> = groups.collect();
    groups.sort_by(|a, b| b.measures.spend().cmp(&a.measures.spend()).then(a.key.cmp(&b.key)));
    groups
}

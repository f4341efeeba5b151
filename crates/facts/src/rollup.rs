//! Answers, kept up to date one settled exchange at a time.

mod names;
mod parts;

use std::collections::BTreeMap;

use quantity::{Billable, Money, PerClass, UnixTime, UsageSource};

use crate::hosting::Hosts;
use crate::{
    Attempt, Charged, Exchange, HostedLine, Hosting, PriceRecord, Query, Verdict, WasteCause,
};

/// What is counted for a group.
///
/// Every measure is additive: the groups of an answer sum to its total, to the pico-dollar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// Exchanges, each in the group of its last attempt; one that ended before any attempt counts too.
    pub exchanges: u64,
    /// Exchanges that completed.
    pub completed: u64,
    /// Attempts.
    pub attempts: u64,
    /// Tokens by class, as reported or estimated.
    pub tokens: PerClass<u64>,
    /// Those of them that were priced by the token: what `cost_by_class` is divided by.
    pub priced_tokens: PerClass<u64>,
    /// Contracted cost of priced attempts, hosted cost excluded.
    pub cost: Money,
    /// List cost of priced attempts.
    pub list_cost: Money,
    /// Contracted cost by token class.
    pub cost_by_class: PerClass<Money>,
    /// Contracted cost of searches, calls and other units.
    pub cost_of_units: Money,
    /// The part of `cost` that rests on usage that was not fully reported.
    pub estimated_cost: Money,
    /// Attempts whose usage was estimated, in whole or in part.
    pub estimated: u64,
    /// Attempts of which nothing is known.
    pub unknown: u64,
    /// Attempts that may have cost something and have no price.
    pub unpriced: u64,
    /// Their tokens.
    pub unpriced_tokens: u64,
    /// Attempts that ran on an upstream paid by the hour.
    pub hosted: u64,
    /// Their share of its busy hours.
    pub hosted_cost: Money,
    /// Input tokens of attempts that were of use.
    pub useful_input: u64,
    /// Output tokens of attempts that were of use.
    pub useful_output: u64,
    /// Cost of attempts by cause of waste, hosted cost excluded.
    pub waste: BTreeMap<WasteCause, Money>,
}

impl Measures {
    /// Everything that was spent on the group.
    #[must_use]
    pub fn spend(&self) -> Money {
        self.cost + self.hosted_cost
    }

    /// Input tokens, cached or not.
    #[must_use]
    pub fn input(&self) -> u64 {
        self.tokens.iter().filter(|(class, _)| class.is_input()).map(|(_, count)| count).sum()
    }

    /// Output tokens, reasoning included.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.tokens.iter().filter(|(class, _)| !class.is_input()).map(|(_, count)| count).sum()
    }

    fn add_exchange(&mut self, exchange: &Exchange) {
        self.exchanges += 1;
        self.completed += u64::from(exchange.settlement.verdict == Verdict::Completed);
    }

    fn add_attempt(&mut self, attempt: &Attempt) {
        let end = &attempt.end;
        self.attempts += 1;
        let usage = &end.metered.usage;
        for (class, count) in usage.tokens.iter() {
            self.tokens[class] += count.get();
        }
        match end.metered.source {
            UsageSource::Reported => {}
            UsageSource::Partial | UsageSource::Estimated => self.estimated += 1,
            UsageSource::Unknown => self.unknown += 1,
        }
        let waste = attempt.waste();
        if waste.is_none() {
            self.useful_input += usage.input();
            self.useful_output += usage.output();
        }
        match &end.charged {
            Charged::Priced { lines, .. } => {
                for (class, count) in usage.tokens.iter() {
                    self.priced_tokens[class] += count.get();
                }
                let mut cost = Money::ZERO;
                for line in lines {
                    cost += line.contracted;
                    self.list_cost += line.list;
                    match line.item {
                        Billable::Tokens(class) => self.cost_by_class[class] += line.contracted,
                        Billable::Unit(_) => self.cost_of_units += line.contracted,
                    }
                }
                self.cost += cost;
                if end.metered.source != UsageSource::Reported {
                    self.estimated_cost += cost;
                }
                if let Some(cause) = waste {
                    *self.waste.entry(cause).or_default() += cost;
                }
            }
            Charged::Hosted => self.hosted += 1,
            Charged::NotBilled => {}
            Charged::Unpriced { .. } => {
                self.unpriced += 1;
                self.unpriced_tokens += usage.total();
            }
        }
    }

    /// Adds what another group counted.
    pub fn merge(&mut self, other: &Self) {
        self.exchanges += other.exchanges;
        self.completed += other.completed;
        self.attempts += other.attempts;
        self.cost += other.cost;
        self.list_cost += other.list_cost;
        self.cost_of_units += other.cost_of_units;
        self.estimated_cost += other.estimated_cost;
        self.estimated += other.estimated;
        self.unknown += other.unknown;
        self.unpriced += other.unpriced;
        self.unpriced_tokens += other.unpriced_tokens;
        self.hosted += other.hosted;
        self.hosted_cost += other.hosted_cost;
        self.useful_input += other.useful_input;
        self.useful_output += other.useful_output;
        for (class, count) in other.tokens.iter() {
            self.tokens[class] += count;
            self.priced_tokens[class] += other.priced_tokens[class];
            self.cost_by_class[class] += other.cost_by_class[class];
        }
        for (cause, cost) in &other.waste {
            *self.waste.entry(*cause).or_default() += *cost;
        }
    }
}

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

//! Answers, kept up to date one settled exchange at a time.

mod names;
mod other;
mod parts;

use std::collections::BTreeMap;

use quantity::{Day, Money, UnixTime};

use self::other::Limit;
pub use self::other::Other;
use crate::hosting::Hosts;
use crate::{
    Adjustment, AdjustmentLine, Exchange, Gap, HostedLine, Hosting, Measures, PriceRecord, Query,
};

/// The values of the query's dimensions, in its order; `None` where an attempt has no such label.
type Key = Vec<Option<String>>;

/// Where an attempt is counted: in the group with a key, or with all that have no group of their own.
type Place = Option<Key>;

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
    /// Groups that are counted as one, all of them cheaper once than those that were kept.
    pub other: Option<Other>,
    /// The sum of all groups.
    pub total: Measures,
    /// Upstreams paid by the hour, with their idle time, which no group bears.
    pub hosting: Vec<HostedLine>,
    /// What was posted in the period for attempts that are priced otherwise now, by provider and model;
    /// in no group, for the attempts may be of any period.
    pub adjustments: Vec<AdjustmentLine>,
    /// What is in none of this because the ledger could not record it, in order of time.
    pub gaps: Vec<Gap>,
    /// Admission of the first and of the last exchange counted.
    pub seen: Option<(UnixTime, UnixTime)>,
}

impl Answer {
    /// Everything that was spent: by the token, by the hour busy and idle, and what was adjusted.
    #[must_use]
    pub fn spend(&self) -> Money {
        let idle = self.hosting.iter().map(|line| line.idle).sum::<Money>();
        self.total.spend() + idle + self.adjusted()
    }

    /// What all adjustments of the period come to.
    #[must_use]
    pub fn adjusted(&self) -> Money {
        self.adjustments.iter().map(|line| line.contracted).sum()
    }
}

/// A query that is kept answered.
#[derive(Debug, Clone)]
pub struct Rollup {
    query: Query,
    groups: BTreeMap<Place, Measures>,
    hosts: Hosts<Place>,
    /// By the day they were posted, provider and model.
    adjustments: BTreeMap<(Day, String, String), AdjustmentLine>,
    gaps: Vec<Gap>,
    seen: Option<(UnixTime, UnixTime)>,
    limit: Option<Limit>,
}

impl Rollup {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self {
            query,
            groups: BTreeMap::new(),
            hosts: Hosts::default(),
            adjustments: BTreeMap::new(),
            gaps: Vec::new(),
            seen: None,
            limit: None,
        }
    }

    /// Takes note of a gap that began in the query's period.
    pub fn gap(&mut self, gap: &Gap) {
        if self.query.period.contains(gap.since) {
            self.gaps.push(gap.clone());
        }
    }

    /// Counts an adjustment that was posted in the query's period.
    pub fn adjust(&mut self, adjustment: &Adjustment) {
        let Adjustment { at, provider, model, contracted, list, .. } = adjustment;
        if self.query.period.contains(*at) {
            let line = AdjustmentLine {
                provider: provider.clone(),
                model: model.clone(),
                adjustments: 1,
                contracted: *contracted,
                list: *list,
            };
            self.add_adjustments(at.day(), line);
        }
    }

    fn add_adjustments(&mut self, day: Day, line: AdjustmentLine) {
        let key = (day, line.provider.clone(), line.model.clone());
        add_line(&mut self.adjustments, key, line);
    }

    /// What was posted in the period, by the UTC day of posting, provider and model.
    pub fn adjusted_by_day(&self) -> impl Iterator<Item = (Day, &AdjustmentLine)> {
        self.adjustments.iter().map(|((day, ..), line)| (*day, line))
    }

    /// Takes note of a price by the hour; prices by use come with each charge.
    pub fn price(&mut self, price: &PriceRecord) {
        if let PriceRecord::PerHour { upstream, cost, from } = price {
            self.hosts.rate(upstream, *cost, *from);
        }
    }

    /// The gaps so far.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
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
            let place = self.place(key(Some(attempt)));
            if let Some(busy) = attempt.hosted_busy() {
                let useful = attempt.useful_tokens();
                self.hosts.busy(&place, &attempt.dispatch.upstream, [busy], useful);
            }
            self.groups.entry(place).or_default().add_attempt(attempt);
        }
        let last = self.place(key(exchange.attempts.last()));
        self.groups.entry(last).or_default().add_exchange(exchange);
        self.shrink();
    }

    fn place(&self, key: Key) -> Place {
        let Some(limit) = &self.limit else { return Some(key) };
        let dropped = limit.dropped(&key);
        let place = Some(key);
        // One that is kept may look like one that was dropped.
        if dropped && !self.groups.contains_key(&place) { None } else { place }
    }

    /// The answer as of `now`, which ends hours that the query's period leaves open.
    #[must_use]
    pub fn answer(&self, now: UnixTime) -> Answer {
        let mut places = self.groups.clone();
        let mut hosting = Vec::new();
        for Hosting { line, shares } in self.hosts.settle(&self.query.period, now) {
            for (place, cost) in shares {
                places.entry(place).or_default().hosted_cost += cost;
            }
            hosting.push(line);
        }
        let mut total = Measures::default();
        places.values().for_each(|measures| total.merge(measures));
        let other = places.remove(&None);
        let other = other.zip(self.limit.as_ref()).map(|(sum, limit)| limit.other(sum));
        let groups = places.into_iter().filter_map(|(place, sum)| Some((place?, sum))).collect();
        let groups = by_spend(groups);
        let mut gaps = self.gaps.clone();
        gaps.sort();
        let (query, seen) = (self.query.clone(), self.seen);
        let mut adjustments = BTreeMap::new();
        for line in self.adjustments.values().cloned() {
            add_line(&mut adjustments, (line.provider.clone(), line.model.clone()), line);
        }
        let adjustments = adjustments.into_values().collect();
        Answer { query, groups, other, total, hosting, adjustments, gaps, seen }
    }
}

fn add_line<K: Ord>(lines: &mut BTreeMap<K, AdjustmentLine>, key: K, line: AdjustmentLine) {
    use std::collections::btree_map::Entry;
    match lines.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(line);
        }
        Entry::Occupied(mut entry) => {
            let sum = entry.get_mut();
            sum.adjustments += line.adjustments;
            sum.contracted += line.contracted;
            sum.list += line.list;
        }
    }
}

/// Dearest first, then by key.
fn by_spend(groups: BTreeMap<Key, Measures>) -> Vec<Group> {
    let groups = groups.into_iter().map(|(key, measures)| Group { key, measures });
    let mut groups: Vec<Group> = groups.collect();
    groups.sort_by(|a, b| b.measures.spend().cmp(&a.measures.spend()).then(a.key.cmp(&b.key)));
    groups
}

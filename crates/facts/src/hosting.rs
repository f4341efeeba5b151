//! Own GPUs: hours × cost, spread over the exchanges that they served, idle time apart.

use std::collections::BTreeMap;
use std::time::Duration;

use quantity::{Money, Period, UnixTime};

use crate::{Attempt, Charged};

const NANOS_PER_HOUR: u64 = 3_600_000_000_000;

impl Attempt {
    /// From when to when it kept an upstream that is paid by the hour busy; `None` if it ran on none.
    #[must_use]
    pub fn hosted_busy(&self) -> Option<(UnixTime, UnixTime)> {
        let start = self.dispatch.at;
        (self.end.charged == Charged::Hosted).then(|| (start, self.end.at.max(start)))
    }

    /// Its tokens, if it was of use.
    #[must_use]
    pub fn useful_tokens(&self) -> u64 {
        if self.waste().is_none() { self.end.metered.usage.total() } else { 0 }
    }
}

/// What an upstream paid by the hour cost in a period. `busy` is borne by the exchanges it served,
/// `idle` by nobody: it is a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedLine {
    /// The upstream's name.
    pub upstream: String,
    /// Time that was paid for.
    pub paid: Duration,
    /// Time in which at least one attempt ran.
    pub busy_time: Duration,
    /// Cost of the busy time.
    pub busy: Money,
    /// Cost of the idle time.
    pub idle: Money,
    /// Attempts served.
    pub attempts: u64,
    /// Input and output tokens of attempts that were of use.
    pub useful_tokens: u64,
}

/// A hosted line with the share of its busy cost that each group bears.
#[derive(Debug, Clone)]
pub struct Hosting<K> {
    /// The line.
    pub line: HostedLine,
    /// The shares; they sum to `line.busy`.
    pub shares: Vec<(K, Money)>,
}

/// The upstreams paid by the hour and when they were busy for whom.
#[derive(Debug, Clone)]
pub(crate) struct Hosts<K>(BTreeMap<String, Host<K>>);

#[derive(Debug, Clone)]
struct Host<K> {
    /// Cost an hour from a time on, in order of time.
    rates: BTreeMap<UnixTime, Option<Money>>,
    /// The groups served, numbered as they came.
    groups: BTreeMap<K, usize>,
    busy: Vec<Busy>,
    useful_tokens: u64,
}

#[derive(Debug, Clone, Copy)]
struct Busy {
    group: usize,
    start: UnixTime,
    end: UnixTime,
}

impl<K> Default for Hosts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone + Ord> Hosts<K> {
    pub(crate) fn rate(&mut self, upstream: &str, cost: Option<Money>, from: UnixTime) {
        self.host(upstream).rates.insert(from, cost);
    }

    pub(crate) fn busy(
        &mut self,
        key: &K,
        upstream: &str,
        times: impl IntoIterator<Item = (UnixTime, UnixTime)>,
        useful_tokens: u64,
    ) {
        let host = self.host(upstream);
        let group = host.group(key);
        host.busy.extend(times.into_iter().map(|(start, end)| Busy { group, start, end }));
        host.useful_tokens = host.useful_tokens.saturating_add(useful_tokens);
    }

    /// Adds what others were busy with. Of two rates from the same time, the other's counts.
    pub(crate) fn merge(&mut self, other: Self) {
        for (upstream, theirs) in other.0 {
            let host = self.host(&upstream);
            host.rates.extend(theirs.rates);
            let mut ours = vec![0; theirs.groups.len()];
            for (key, group) in &theirs.groups {
                ours[*group] = host.group(key);
            }
            let busy = theirs.busy.iter().map(|busy| Busy { group: ours[busy.group], ..*busy });
            host.busy.extend(busy);
            host.useful_tokens = host.useful_tokens.saturating_add(theirs.useful_tokens);
        }
    }

    fn host(&mut self, upstream: &str) -> &mut Host<K> {
        if !self.0.contains_key(upstream) {
            let (rates, groups) = (BTreeMap::new(), BTreeMap::new());
            let host = Host { rates, groups, busy: Vec::new(), useful_tokens: 0 };
            self.0.insert(upstream.to_owned(), host);
        }
        self.0.get_mut(upstream).expect("inserted above")
    }

    pub(crate) fn settle(&self, period: &Period, now: UnixTime) -> Vec<Hosting<K>> {
        self.0.iter().map(|(name, host)| host.settle(name, period, now)).collect()
    }
}

impl<K: Clone + Ord> Host<K> {
    fn group(&mut self, key: &K) -> usize {
        if let Some(group) = self.groups.get(key) {
            return *group;
        }
        let next = self.groups.len();
        *self.groups.entry(key.clone()).or_insert(next)
    }

    fn settle(&self, upstream: &str, period: &Period, now: UnixTime) -> Hosting<K> {
        let mut line = HostedLine {
            upstream: upstream.to_owned(),
            paid: Duration::ZERO,
            busy_time: Duration::ZERO,
            busy: Money::ZERO,
            idle: Money::ZERO,
            attempts: self.busy.len() as u64,
            useful_tokens: self.useful_tokens,
        };
        // In the order of their keys, so that what cannot be split evenly does not depend on who came
        // first.
        let mut shares: Vec<_> = self.groups.keys().map(|key| (key.clone(), Money::ZERO)).collect();
        let ends = self.rates.keys().skip(1).copied().chain([UnixTime::from_nanos(i64::MAX)]);
        for ((&from, cost), until) in self.rates.iter().zip(ends) {
            let Some(cost) = *cost else { continue };
            let start = period.start.map_or(from, |start| start.max(from));
            let end = until.min(period.end.unwrap_or(now).min(now));
            if start >= end {
                continue;
            }
            let weights = self.weights(start, end);
            let paid = end.since(start);
            let whole = for_time(cost, paid);
            let busy = for_time(cost, weights.busy).min(whole);
            // An upstream that ran nothing is idle for the whole stretch.
            let each: Vec<u64> = self.groups.values().map(|group| weights.each[*group]).collect();
            let (busy, parts) = match busy.allocate(&each) {
                Some(parts) => (busy, parts),
                None => (Money::ZERO, Vec::new()),
            };
            for ((_, share), part) in shares.iter_mut().zip(parts) {
                *share += part;
            }
            line.paid += paid;
            line.busy_time += weights.busy;
            line.busy += busy;
            line.idle += whole - busy;
        }
        Hosting { line, shares }
    }

    /// Each group's share of `start..end`: while k attempts run, each has 1/k of the time.
    ///
    /// Sweeps over starts and ends while accumulating ∫ dt/k; an attempt's share is the integral
    /// over its own time. In fixed point with up to 8 fractional bits, fewer where a stretch of years
    /// would leave no room for the product with its cost.
    fn weights(&self, start: UnixTime, end: UnixTime) -> Weights {
        let whole = u64::try_from(end.since(start).as_nanos()).unwrap_or(u64::MAX);
        let fraction = whole.leading_zeros().saturating_sub(8).min(8);
        let mut marks: Vec<(UnixTime, bool, usize)> = Vec::with_capacity(2 * self.busy.len());
        for busy in &self.busy {
            let (from, until) = (busy.start.max(start), busy.end.min(end));
            if from < until {
                marks.push((from, true, busy.group));
                marks.push((until, false, busy.group));
            }
        }
        // Marks of one instant may stand in any order: no time passes between them.
        marks.sort_by_key(|(at, ..)| *at);
        let mut each = vec![0_u64; self.groups.len()];
        let (mut running, mut integral, mut last) = (0_u64, 0_u64, start);
        let mut busy = Duration::ZERO;
        for (at, opens, group) in marks {
            let passed = at.since(last);
            let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
            if let Some(step) = (nanos << fraction).checked_div(running) {
                busy += passed;
                integral += step;
            }
            last = at;
            // The difference of the integral between end and start, summed over attempts: it is in
            // range at the end, and wraps only in between.
            if opens {
                running += 1;
                each[group] = each[group].wrapping_sub(integral);
            } else {
                running -= 1;
                each[group] = each[group].wrapping_add(integral);
            }
        }
        Weights { each, busy }
    }
}

struct Weights {
    each: Vec<u64>,
    busy: Duration,
}

fn for_time(hourly: Money, time: Duration) -> Money {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    hourly.scaled(nanos, NANOS_PER_HOUR).expect("an hourly cost times three centuries fits i128")
}

//! Own GPUs: hours × cost, spread over the exchanges that they served, idle time apart.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Attempts that are not folded, each cut to what comes after `folded_to`.
    busy: Vec<Busy>,
    /// What attempts weigh up to `folded_to`, by the time from which their rate holds.
    folded: BTreeMap<UnixTime, Weights>,
    folded_to: Option<UnixTime>,
    attempts: u64,
    useful_tokens: u64,
}

#[derive(Debug, Clone, Copy)]
struct Busy {
    group: usize,
    start: UnixTime,
    end: UnixTime,
}

/// A stretch of time at one rate.
struct Stretch {
    /// From when the rate holds, which may be before the stretch.
    rate_from: UnixTime,
    cost: Money,
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
        let before = host.busy.len();
        host.busy.extend(times.into_iter().map(|(start, end)| Busy { group, start, end }));
        host.attempts += (host.busy.len() - before) as u64;
        host.useful_tokens = host.useful_tokens.saturating_add(useful_tokens);
    }

    /// Adds what others were busy with, of which nothing is folded. Of two rates from the same time,
    /// the other's counts.
    pub(crate) fn merge(&mut self, other: Self) {
        for (upstream, theirs) in other.0 {
            let host = self.host(&upstream);
            debug_assert!(theirs.folded.is_empty(), "what is folded is merged with nothing");
            host.rates.extend(theirs.rates);
            let mut ours = vec![0; theirs.groups.len()];
            for (key, group) in &theirs.groups {
                ours[*group] = host.group(key);
            }
            let busy = theirs.busy.iter().map(|busy| Busy { group: ours[busy.group], ..*busy });
            host.busy.extend(busy);
            host.attempts += theirs.attempts;
            host.useful_tokens = host.useful_tokens.saturating_add(theirs.useful_tokens);
        }
    }

    /// Moves what groups were busy with to another group.
    pub(crate) fn regroup(&mut self, into: &K, from: &BTreeSet<K>) {
        self.0.values_mut().for_each(|host| host.regroup(into, from));
    }

    /// Folds attempts into what they weigh, up to some time before `late` ago: the answer stays the
    /// same to the pico-dollar, and what is kept is what was busy since. An attempt that is told even
    /// later bears nothing of the time that is folded, which others bear or nobody.
    pub(crate) fn fold(&mut self, period: &Period, late: Duration) {
        self.0.values_mut().for_each(|host| host.fold(period, late));
    }

    /// Attempts that are kept one by one.
    pub(crate) fn kept(&self) -> usize {
        self.0.values().map(|host| host.busy.len()).sum()
    }

    fn host(&mut self, upstream: &str) -> &mut Host<K> {
        if !self.0.contains_key(upstream) {
            self.0.insert(upstream.to_owned(), Host::new());
        }
        self.0.get_mut(upstream).expect("inserted above")
    }

    pub(crate) fn settle(&self, period: &Period, now: UnixTime) -> Vec<Hosting<K>> {
        self.0.iter().map(|(name, host)| host.settle(name, period, now)).collect()
    }
}

impl<K: Clone + Ord> Host<K> {
    fn new() -> Self {
        Self {
            rates: BTreeMap::new(),
            groups: BTreeMap::new(),
            busy: Vec::new(),
            folded: BTreeMap::new(),
            folded_to: None,
            attempts: 0,
            useful_tokens: 0,
        }
    }

    fn group(&mut self, key: &K) -> usize {
        if let Some(group) = self.groups.get(key) {
            return *group;
        }
        let next = self.groups.len();
        *self.groups.entry(key.clone()).or_insert(next)
    }

    fn regroup(&mut self, into: &K, from: &BTreeSet<K>) {
        let groups = std::mem::take(&mut self.groups);
        let mut moved = vec![0; groups.len()];
        for (key, group) in groups {
            moved[group] = self.group(if from.contains(&key) { into } else { &key });
        }
        self.busy.iter_mut().for_each(|busy| busy.group = moved[busy.group]);
        for weights in self.folded.values_mut() {
            let each = std::mem::take(&mut weights.each);
            each.into_iter().zip(&moved).for_each(|(weight, group)| *weights.of(*group) += weight);
        }
    }

    /// The stretches of a period up to `now` in which an hourly cost was in force.
    fn stretches(&self, period: &Period, now: UnixTime) -> Vec<Stretch> {
        let ends = self.rates.keys().skip(1).copied().chain([UnixTime::from_nanos(i64::MAX)]);
        let stretches = self.rates.iter().zip(ends).filter_map(|((&rate_from, cost), until)| {
            let start = period.start.map_or(rate_from, |start| start.max(rate_from));
            let end = until.min(period.end.unwrap_or(now).min(now));
            Some(Stretch { rate_from, cost: (*cost)?, start, end })
        });
        stretches.filter(|stretch| stretch.start < stretch.end).collect()
    }

    /// What attempts weigh in a stretch: what is folded, and what is not.
    fn weights(&self, stretch: &Stretch) -> Weights {
        let mut weights = self.folded.get(&stretch.rate_from).cloned().unwrap_or_default();
        let start = self.folded_to.map_or(stretch.start, |to| to.max(stretch.start));
        weights.sweep(&self.busy, start, stretch.end);
        weights
    }

    fn fold(&mut self, period: &Period, late: Duration) {
        // Sums of steps are the same only if they are cut where an attempt begins or ends.
        let lasting = || self.busy.iter().filter(|busy| busy.start < busy.end);
        let Some(latest) = lasting().map(|busy| busy.end).max() else { return };
        let late = i64::try_from(late.as_nanos()).unwrap_or(i64::MAX);
        let until = UnixTime::from_nanos(latest.nanos().saturating_sub(late));
        let marks = lasting().flat_map(|busy| [busy.start, busy.end]);
        let Some(to) = marks.filter(|mark| *mark <= until).max() else { return };
        if self.folded_to.is_some_and(|folded_to| to <= folded_to) {
            return;
        }
        let folded = self.stretches(period, to).into_iter();
        let folded =
            folded.map(|stretch| (stretch.rate_from, self.weights(&stretch))).collect::<Vec<_>>();
        self.folded.extend(folded);
        self.folded_to = Some(to);
        self.busy.retain_mut(|busy| {
            busy.start = busy.start.max(to);
            busy.start < busy.end
        });
        self.busy.shrink_to(2 * self.busy.len());
    }

    fn settle(&self, upstream: &str, period: &Period, now: UnixTime) -> Hosting<K> {
        let mut line = HostedLine {
            upstream: upstream.to_owned(),
            paid: Duration::ZERO,
            busy_time: Duration::ZERO,
            busy: Money::ZERO,
            idle: Money::ZERO,
            attempts: self.attempts,
            useful_tokens: self.useful_tokens,
        };
        // In the order of their keys, so that what cannot be split evenly does not depend on who came
        // first.
        let mut shares: Vec<_> = self.groups.keys().map(|key| (key.clone(), Money::ZERO)).collect();
        for stretch in self.stretches(period, now) {
            let weights = self.weights(&stretch);
            let paid = stretch.end.since(stretch.start);
            let whole = for_time(stretch.cost, paid);
            let busy_time = weights.busy.min(paid);
            let busy = for_time(stretch.cost, busy_time);
            // An upstream that ran nothing is idle for the whole stretch.
            let (busy, parts) = match busy.allocate(&weights.of_each(self.groups.values())) {
                Some(parts) => (busy, parts),
                None => (Money::ZERO, Vec::new()),
            };
            for ((_, share), part) in shares.iter_mut().zip(parts) {
                *share += part;
            }
            line.paid += paid;
            line.busy_time += busy_time;
            line.busy += busy;
            line.idle += whole - busy;
        }
        Hosting { line, shares }
    }
}

/// Each group's share of a stretch of time: while k attempts run, each has 1/k of the time.
#[derive(Debug, Clone, Default)]
struct Weights {
    /// By the number of the group, in nanoseconds with [`FRACTION`] more bits. Groups that weigh
    /// nothing may be missing at the end.
    each: Vec<u128>,
    /// Time in which at least one attempt ran.
    busy: Duration,
}

/// Fractional bits of weights.
const FRACTION: u32 = 8;
/// Bits of all weights together that leave room for the product with a cost.
const WEIGHT_BITS: u32 = 56;

impl Weights {
    fn of(&mut self, group: usize) -> &mut u128 {
        if self.each.len() <= group {
            self.each.resize(group + 1, 0);
        }
        &mut self.each[group]
    }

    /// Adds what attempts weigh from `start` to `end`.
    ///
    /// Sweeps over starts and ends while accumulating ∫ dt/k; an attempt's share is the integral
    /// over its own time.
    fn sweep(&mut self, busy: &[Busy], start: UnixTime, end: UnixTime) {
        let mut marks: Vec<(UnixTime, bool, usize)> = Vec::with_capacity(2 * busy.len());
        for busy in busy {
            let (from, until) = (busy.start.max(start), busy.end.min(end));
            if from < until {
                marks.push((from, true, busy.group));
                marks.push((until, false, busy.group));
            }
        }
        // Marks of one instant may stand in any order: no time passes between them.
        marks.sort_by_key(|(at, ..)| *at);
        let (mut running, mut integral, mut last) = (0_u128, 0_u128, start);
        for (at, opens, group) in marks {
            let passed = at.since(last);
            if let Some(step) = (passed.as_nanos() << FRACTION).checked_div(running) {
                self.busy += passed;
                integral += step;
            }
            last = at;
            // The difference of the integral between end and start, summed over attempts: it is in
            // range at the end, and wraps only in between.
            let weight = self.of(group);
            if opens {
                running += 1;
                *weight = weight.wrapping_sub(integral);
            } else {
                running -= 1;
                *weight = weight.wrapping_add(integral);
            }
        }
    }

    /// The weights of groups, in fewer bits where a stretch of years would leave no room for the
    /// product with its cost.
    fn of_each<'a>(&self, groups: impl Iterator<Item = &'a usize>) -> Vec<u64> {
        let bits = u128::BITS - self.each.iter().sum::<u128>().leading_zeros();
        let drop = bits.saturating_sub(WEIGHT_BITS);
        let weight = |group: &usize| self.each.get(*group).map_or(0, |weight| weight >> drop);
        groups.map(|group| u64::try_from(weight(group)).unwrap_or(u64::MAX)).collect()
    }
}

fn for_time(hourly: Money, time: Duration) -> Money {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    hourly.scaled(nanos, NANOS_PER_HOUR).expect("an hourly cost times three centuries fits i128")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many odd seconds after the beginning.
    fn at(time: i64) -> UnixTime {
        UnixTime::from_nanos(time * 1_000_000_007)
    }

    fn assert_same(folding: &Hosts<u8>, whole: &Hosts<u8>, period: &Period, now: UnixTime) {
        let lines = |hosts: &Hosts<u8>| {
            let settled = hosts.settle(period, now).into_iter();
            settled.map(|hosting| (hosting.line, hosting.shares)).collect::<Vec<_>>()
        };
        assert_eq!(lines(folding), lines(whole));
    }

    proptest! {
        /// Attempts last up to 3,000 and are told up to 1,000 after they ended. The hours are so dear that
        /// a part of a nanosecond shows.
        #[test]
        fn what_is_folded_costs_the_same_to_the_pico_dollar(
            attempts in prop::collection::vec((0_i64..40_000, 0_i64..3_000, 0_i64..1_000, 0_u8..4), 1..60),
            rates in prop::collection::btree_map(
                0_i64..40_000, prop::option::of(0_i128..5_000_000_000_000_000), 1..4),
            ends in prop::option::of((0_i64..40_000, 1_i64..40_000)),
            every in 1_usize..8,
        ) {
            let period = ends.map_or(Period::default(), |(start, length)| {
                Period { start: Some(at(start)), end: Some(at(start + length)) }
            });
            let (mut folding, mut whole) = (Hosts::default(), Hosts::default());
            let mut told: Vec<(i64, _)> = Vec::new();
            for (from, cost) in rates {
                // A price is told when it comes into force.
                told.push((from, Err(cost.map(Money::from_pico))));
            }
            for (start, length, late, group) in attempts {
                told.push((start + length + late, Ok((start, start + length, group))));
            }
            told.sort_by_key(|(at, _)| *at);
            for (place, (when, told)) in told.into_iter().enumerate() {
                for hosts in [&mut folding, &mut whole] {
                    match told {
                        Err(cost) => hosts.rate("gpu", cost, at(when)),
                        Ok((start, end, group)) => {
                            hosts.busy(&group, "gpu", [(at(start), at(end))], 7);
                        }
                    }
                }
                if place % every == 0 {
                    folding.fold(&period, at(4_000).since(at(0)));
                    assert_same(&folding, &whole, &period, at(when));
                }
            }
            assert_same(&folding, &whole, &period, at(50_000));
            // And so it stays when groups come together.
            let some = BTreeSet::from([1, 2]);
            folding.regroup(&0, &some);
            whole.regroup(&0, &some);
            assert_same(&folding, &whole, &period, at(50_000));
        }
    }

    #[test]
    fn what_is_over_is_not_kept() {
        let mut hosts = Hosts::default();
        hosts.rate("gpu", Some(Money::from_pico(1_000_003)), at(0));
        for n in 0..5_000 {
            hosts.busy(&(n % 3), "gpu", [(at(n * 60), at(n * 60 + 90))], 1);
            hosts.fold(&Period::default(), at(600).since(at(0)));
            assert!(hosts.kept() <= 14, "{}", hosts.kept());
        }
        let settled = hosts.settle(&Period::default(), at(5_000 * 60));
        assert_eq!(settled[0].line.attempts, 5_000);
    }

    #[test]
    fn what_is_told_too_late_leaves_the_hours_whole() {
        let mut hosts = Hosts::default();
        hosts.rate("gpu", Some(Money::from_pico(3_600_000)), at(0));
        hosts.busy(&1, "gpu", [(at(1_000), at(2_000)), (at(5_000), at(6_000))], 1);
        hosts.fold(&Period::default(), at(3_000).since(at(0)));
        // It ran beside the first and on for as long, and hears of the rest alone.
        hosts.busy(&2, "gpu", [(at(1_000), at(3_000))], 1);
        let Hosting { line, shares } = hosts.settle(&Period::default(), at(10_000)).remove(0);
        assert_eq!(line.busy_time, at(3_000).since(at(0)));
        assert_eq!(line.busy + line.idle, for_time(Money::from_pico(3_600_000), line.paid));
        assert_eq!(shares.iter().map(|(_, cost)| *cost).sum::<Money>(), line.busy);
        assert_eq!(shares[1].1, for_time(Money::from_pico(3_600_000), at(1_000).since(at(0))));
    }
}

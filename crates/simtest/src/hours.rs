//! What upstreams that are paid by the hour must come to, instant by instant and apart from the code.

use std::collections::BTreeMap;
use std::time::Duration;

use facts::Answer;
use quantity::{Money, UnixTime};

use crate::Violation;

/// Nanoseconds in an hour.
const HOUR: i128 = 3_600_000_000_000;
/// Parts of a nanosecond in which shares are counted: times over the number of attempts that run.
const PARTS: i128 = 1 << 20;

/// The cost of an hour of an upstream from an instant on; `None` ends it.
pub(crate) type Rate = (String, Option<Money>, UnixTime);

/// An attempt that kept an upstream busy for a group.
#[derive(Debug, Clone)]
pub(crate) struct Busy {
    pub(crate) upstream: String,
    pub(crate) group: Vec<Option<String>>,
    pub(crate) start: UnixTime,
    pub(crate) end: UnixTime,
}

/// Checks the lines of hosted upstreams and what groups bear of them. Gives what all of them cost,
/// with idle time, in pico-dollars, and how much of that may be rounding.
pub(crate) fn check(
    answer: &Answer,
    rates: &[Rate],
    busy: &[Busy],
    now: UnixTime,
) -> Result<(), Violation> {
    let wrong = |what: String| Err(Violation::new("SIM-11", what));
    let mut shares: BTreeMap<&[Option<String>], (i128, i128)> = BTreeMap::new();
    let mut borne = 0;
    for line in &answer.hosting {
        let name = &line.upstream;
        let mut steps: BTreeMap<UnixTime, Option<Money>> = BTreeMap::new();
        for (_, cost, from) in rates.iter().filter(|(upstream, ..)| upstream == name) {
            steps.insert(*from, *cost);
        }
        let served: Vec<&Busy> = busy.iter().filter(|busy| busy.upstream == *name).collect();
        let (mut paid, mut ran) = (0, 0);
        let (mut whole, mut part, mut rounding) = (0, 0, 0);
        let mut own: BTreeMap<&[Option<String>], i128> = BTreeMap::new();
        let steps: Vec<_> = steps.into_iter().collect();
        for (n, (from, cost)) in steps.iter().enumerate() {
            let until = steps.get(n + 1).map_or(now, |(next, _)| (*next).min(now));
            let Some(cost) = cost.filter(|_| *from < until) else { continue };
            let time = nanos(*from, until);
            paid += time;
            whole += cost.pico() * time;
            // Between two of these instants nothing begins or ends.
            let mut instants = vec![*from, until];
            instants.extend(served.iter().flat_map(|busy| [busy.start, busy.end]));
            instants.retain(|at| (*from..=until).contains(at));
            instants.sort();
            instants.dedup();
            for pair in instants.windows(2) {
                let runs = |busy: &&&Busy| busy.start <= pair[0] && pair[1] <= busy.end;
                let count = served.iter().filter(runs).count() as i128;
                if count == 0 {
                    continue;
                }
                let time = nanos(pair[0], pair[1]);
                ran += time;
                part += cost.pico() * time;
                for busy in served.iter().filter(runs) {
                    *own.entry(&busy.group).or_default() += cost.pico() * time * PARTS / count;
                }
            }
            // One for the whole, one for the part, and what fixed point loses at each mark.
            rounding += 3 + 2 * served.len() as i128 * (1 + cost.pico() / HOUR);
        }
        let near = |found: i128, exact: i128| (found * HOUR - exact).abs() <= rounding * HOUR;
        if line.attempts != served.len() as u64 {
            return wrong(format!("`{name}` served {}, counted {}", served.len(), line.attempts));
        }
        if (line.paid, line.busy_time) != (duration(paid), duration(ran)) {
            return wrong(format!("{line:?}: {paid} ns are paid, {ran} ns busy"));
        }
        let (found, idle) = (line.busy.pico(), line.idle.pico());
        if !near(found, part) || !near(found + idle, whole) || found < 0 || idle < 0 {
            return wrong(format!("{line:?}: {part} of {whole} pico-dollar nanoseconds are busy"));
        }
        borne += found;
        for (group, share) in own {
            let held = shares.entry(group).or_default();
            *held = (held.0 + share, held.1 + rounding);
        }
    }
    let mut upstreams =
        rates.iter().map(|rate| &rate.0).chain(busy.iter().map(|busy| &busy.upstream));
    let listed = |name: &String| answer.hosting.iter().any(|line| line.upstream == *name);
    if let Some(name) = upstreams.find(|name| !listed(name)) {
        return wrong(format!("`{name}` has no line"));
    }
    let mut sum = 0;
    for group in &answer.groups {
        let (share, rounding) = shares.remove(group.key.as_slice()).unwrap_or_default();
        let found = group.measures.hosted_cost.pico();
        sum += found;
        if (found * HOUR * PARTS - share).abs() > (rounding + 1) * HOUR * PARTS {
            let exact = share / HOUR / PARTS;
            return wrong(format!("{:?} bears {found}, its share is {exact}", group.key));
        }
    }
    if !shares.is_empty() || sum != borne || answer.total.hosted_cost.pico() != borne {
        return wrong(format!("the groups bear {sum}, the busy hours cost {borne}, {shares:?}"));
    }
    Ok(())
}

fn nanos(from: UnixTime, until: UnixTime) -> i128 {
    i128::try_from(until.since(from).as_nanos()).unwrap_or(i128::MAX)
}

fn duration(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

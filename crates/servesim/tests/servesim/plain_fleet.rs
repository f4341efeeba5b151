//! Many replicas behind a router, with nothing left out and nothing kept in mind.

use servesim::{Balance, Record, Report, Request, Scaling};

use crate::agree::Case;
use crate::reference::Reference;
use crate::setting::{Machine, Named};

struct Member<'a> {
    replica: Reference<'a, Machine>,
    /// The places in the trace of its requests.
    numbers: Vec<usize>,
    begun: u64,
    opens: u64,
    /// When it was told to take no more.
    stopped: Option<u64>,
}

/// Serves a case; tells of each request which replica had it and what became of it, and of each replica
/// what it came to. `scaling` says how many there are, and what else may be.
pub(crate) fn simulate(
    case: &Case,
    scaling: &Scaling,
    balance: Balance,
) -> (Vec<Report>, Vec<(u32, Record)>, Seen) {
    let Case { engine, machine, requests, prefixes, slo } = case;
    let start = |begun: u64, opens: u64| Member {
        replica: Reference::new(engine, machine, slo, opens),
        numbers: Vec::new(),
        begun,
        opens,
        stopped: None,
    };
    let mut members: Vec<Member<'_>> = (0..scaling.least).map(|_| start(0, 0)).collect();
    let mut seen = Seen::default();
    let (mut turn, mut look, mut spare) = (0, scaling.every_ps, None::<(u64, usize)>);
    for (number, (request, prefix)) in requests.iter().zip(prefixes).enumerate() {
        let at = request.arrival_ps;
        while look <= at {
            let open = members.iter_mut().filter(|one| one.opens <= look && one.stopped.is_none());
            let load: usize = open
                .map(|one| {
                    one.replica.settle(look);
                    one.replica.load(look)
                })
                .sum();
            let wanted = load.div_ceil(scaling.target_load as usize);
            let wanted = wanted.clamp(scaling.least as usize, scaling.most as usize);
            let current = members.iter().filter(|one| one.stopped.is_none()).count();
            if wanted >= current {
                spare = None;
                seen.started += wanted - current;
                let opens = look + scaling.cold_start_ps;
                members.extend((current..wanted).map(|_| start(look, opens)));
            } else {
                let (since, most) = spare.unwrap_or((look, wanted));
                spare = Some((since, most.max(wanted)));
                if look - since >= scaling.hold_ps {
                    let most = spare.take().unwrap().1;
                    let on = members.iter_mut().rev().filter(|one| one.stopped.is_none());
                    for one in on.take(current - most) {
                        seen.stopped += 1;
                        seen.stopped_while_starting += usize::from(one.opens > look);
                        seen.stopped_with_work += usize::from(one.replica.load(look) > 0);
                        one.stopped = Some(look);
                    }
                }
            }
            look += scaling.every_ps;
        }
        let mut open: Vec<_> = members
            .iter_mut()
            .map(|one| (one.opens <= at && one.stopped.is_none()).then_some(&mut one.replica))
            .collect();
        let (which, for_its_cache) = choose(&mut open, turn, at, (request, prefix), balance);
        seen.for_its_cache += usize::from(for_its_cache);
        members[which].replica.push(request, prefix);
        members[which].numbers.push(number);
        turn = (which + 1) % members.len();
    }
    let last_arrival = requests.last().map_or(0, |request| request.arrival_ps);
    let mut end = 0;
    for one in &mut members {
        one.replica.settle(u64::MAX);
        if one.opens <= last_arrival && one.stopped.is_none() {
            end = end.max(one.replica.now);
        }
    }
    let mut records = Vec::new();
    let mut reports = Vec::new();
    for (which, one) in (0..).zip(members) {
        let end = match one.stopped {
            Some(at) if at < one.opens => at,
            Some(at) => at.max(one.replica.now),
            None => end,
        };
        let mut report = one.replica.report;
        report.time.idle_ps += end.saturating_sub(one.replica.now);
        report.time.cold_ps = one.opens.min(end) - one.begun;
        assert_eq!(report.time.total_ps(), end - one.begun);
        reports.push(report);
        records.extend(one.replica.records.into_iter().map(|mut record| {
            record.number = one.numbers[usize::try_from(record.number).unwrap()] as u64;
            (which, record)
        }));
    }
    records.sort_by_key(|(_, record)| record.number);
    (reports, records, seen)
}

/// Whom the router gives a request, of those that are open, and whether for its cache alone.
pub(crate) fn choose(
    open: &mut [Option<&mut Reference<'_, Machine>>],
    turn: usize,
    at: u64,
    (request, prefix): (&Request, &Option<Named>),
    balance: Balance,
) -> (usize, bool) {
    // In turn, so that the first of several is the next.
    let order: Vec<usize> = (turn..open.len()).chain(0..turn).collect();
    let mut best = None;
    for &which in &order {
        let Some(one) = &mut open[which] else { continue };
        one.settle(at);
        let load = one.load(at);
        best = Some(match (balance, best) {
            (_, None) => (which, load),
            (Balance::LeastLoaded | Balance::PrefixAware { .. }, Some((_, least)))
                if load < least =>
            {
                (which, load)
            }
            (_, Some(best)) => best,
        });
    }
    let (which, least) = best.unwrap();
    let Balance::PrefixAware { slack } = balance else { return (which, false) };
    let mut most = None;
    for &which in &order {
        let Some(one) = &open[which] else { continue };
        let load = one.load(at);
        if load > least + slack as usize {
            continue;
        }
        let cached = one.cached(request, prefix);
        if most.is_none_or(|(found, at, _)| cached > found || (cached == found && load < at)) {
            most = Some((cached, load, which));
        }
    }
    let (cached, load, which) = most.unwrap();
    (which, cached > 0 && load > least)
}

/// What happened, so that it can be told whether everything does.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) started: usize,
    pub(crate) stopped: usize,
    pub(crate) stopped_while_starting: usize,
    pub(crate) stopped_with_work: usize,
    /// A request went to a replica for its cache, though another one had less to do.
    pub(crate) for_its_cache: usize,
}

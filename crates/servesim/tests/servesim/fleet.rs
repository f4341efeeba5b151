//! Many replicas behind a router.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use servesim::{Balance, Record, Report, Scaling, serve, serve_fleet, serve_scaled};

use crate::agree::{Case, at_least, small_case};
use crate::plain_fleet::simulate;

/// Serves a case; returns of each request which replica had it and what became of it, in order.
fn run(case: &Case, replicas: u32, balance: Balance) -> (Vec<Report>, Vec<(u32, Record)>) {
    let Case { engine, machine, requests, slo, .. } = case;
    let mut records = Vec::new();
    let reports =
        serve_fleet(engine, machine, replicas, balance, slo, case.incoming(), |who, one| {
            records.push((who, *one));
        });
    records.sort_by_key(|(_, record)| record.number);
    assert_eq!(records.len(), requests.len());
    (reports.unwrap(), records)
}

pub(crate) fn balances() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastLoaded),
        (0_u32..6).prop_map(|slack| Balance::PrefixAware { slack }),
    ]
}

fn scalings() -> impl Strategy<Value = Scaling> {
    let counts = (1_u32..4, 0_u32..5, 1_u32..4);
    (counts, 1_u64..60, 0_u64..100, 0_u64..80).prop_map(|(counts, every_ps, cold, hold_ps)| {
        let (least, more, target_load) = counts;
        Scaling { least, most: least + more, target_load, every_ps, cold_start_ps: cold, hold_ps }
    })
}

/// Twice as many requests as a single replica is tested with.
pub(crate) fn busy_case() -> impl Strategy<Value = Case> {
    (small_case(), small_case(), 1_u64..6).prop_map(|(mut case, mut other, pause)| {
        // The second lot comes when the first has been served, or nearly.
        let pause = pause * case.requests.last().map_or(0, |one| one.arrival_ps);
        other.requests.iter_mut().for_each(|one| one.arrival_ps += pause);
        let all = case.requests.iter().chain(&other.requests).copied();
        let named = case.prefixes.iter().chain(&other.prefixes).cloned();
        let mut both: Vec<_> = all.zip(named).collect();
        both.sort_by_key(|(request, _)| request.arrival_ps);
        (case.requests, case.prefixes) = both.into_iter().unzip();
        case
    })
}

/// A step takes some time, nobody leaves, and there are more requests.
fn patient_case() -> impl Strategy<Value = Case> {
    (small_case(), small_case()).prop_map(|(mut case, other)| {
        case.machine.step += 1;
        (case.engine.timeout_ps, case.engine.queue_timeout_ps) = (None, None);
        case.requests.extend(other.requests);
        case.prefixes.extend(other.prefixes);
        case.requests.sort_by_key(|request| request.arrival_ps);
        case.requests.iter_mut().for_each(|request| request.patience_ps = None);
        case
    })
}

proptest! {
    #![proptest_config(at_least(10_000))]

    #[test]
    fn each_replica_serves_its_share_as_if_alone(
        case in small_case(), replicas in 1_u32..5, balance in balances(),
    ) {
        let (reports, records) = run(&case, replicas, balance);
        let span = reports[0].time.total_ps();
        let mut merged = reports[0].clone();
        for (which, report) in (0..).zip(&reports) {
            let share = records.iter().filter(|(who, _)| *who == which);
            let share: Vec<usize> =
                share.map(|(_, record)| usize::try_from(record.number).unwrap()).collect();
            let all: Vec<_> = case.incoming().collect();
            let requests = share.iter().map(|&number| all[number].clone());
            let mut alone = Vec::new();
            let mut expected =
                serve(&case.engine, case.machine, &case.slo, requests, |one| alone.push(*one))
                    .unwrap();
            for mut record in alone {
                record.number = share[usize::try_from(record.number).unwrap()] as u64;
                let (_, found) = records[usize::try_from(record.number).unwrap()];
                prop_assert_eq!(found, record);
            }
            expected.time.idle_ps += span - expected.time.total_ps();
            prop_assert_eq!(report, &expected);
            if which > 0 {
                merged.merge(report);
            }
        }
        prop_assert_eq!(merged.outcomes.iter().sum::<u64>(), case.requests.len() as u64);
        prop_assert_eq!(merged.time.total_ps(), span * u64::from(replicas));
        prop_assert_eq!(merged.batch_ps.iter().sum::<u64>(), merged.time.busy_ps());
    }

    #[test]
    fn a_fleet_agrees_with_plain_replicas_behind_a_plain_router(
        case in busy_case(), scaling in scalings(), balance in balances(), fixed: bool,
    ) {
        let Case { engine, machine, slo, .. } = &case;
        let mut found = Vec::new();
        let mut each = |who: u32, one: &Record| found.push((who, *one));
        // No look comes before the last request.
        let never = u64::MAX / 2;
        let scaling = if fixed { Scaling { every_ps: never, ..scaling } } else { scaling };
        let reports = if fixed {
            serve_fleet(engine, machine, scaling.least, balance, slo, case.incoming(), each)
        } else {
            serve_scaled(engine, machine, &scaling, balance, slo, case.incoming(), &mut each)
        };
        found.sort_by_key(|(_, record)| record.number);
        let (expected, records, _) = simulate(&case, &scaling, balance);
        for (found, expected) in found.iter().zip(&records) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(found.len(), records.len());
        let reports = reports.unwrap();
        for (found, expected) in reports.iter().zip(&expected) {
            prop_assert_eq!(found.time, expected.time);
            prop_assert_eq!(found.work, expected.work);
            prop_assert!(found == expected, "{found:?}\n{expected:?}");
        }
        prop_assert_eq!(reports.len(), expected.len());
    }

    #[test]
    fn the_router_does_what_it_says(case in patient_case(), replicas in 1_u32..5) {
        let (_, records) = run(&case, replicas, Balance::RoundRobin);
        for (number, (who, _)) in (0..).zip(&records) {
            prop_assert_eq!(*who, number % replicas);
        }
        let (_, records) = run(&case, replicas, Balance::LeastLoaded);
        for (number, (who, record)) in records.iter().enumerate() {
            let mut loads = vec![0; replicas as usize];
            for (other, earlier) in &records[..number] {
                loads[*other as usize] += u32::from(earlier.end_ps > record.arrival_ps);
            }
            prop_assert_eq!(loads[*who as usize], *loads.iter().min().unwrap(), "{:?}", loads);
        }
    }
}

#[test]
fn in_the_fleets_everything_happens() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, u32>::new();
    for _ in 0..4_000 {
        let all = (busy_case(), scalings(), balances()).new_tree(&mut runner).unwrap();
        let (case, scaling, balance) = all.current();
        let found = simulate(&case, &scaling, balance).2;
        let mut see = |what, times: usize| *seen.entry(what).or_default() += u32::from(times > 0);
        see("started", found.started);
        see("stopped", found.stopped);
        see("stopped while starting", found.stopped_while_starting);
        see("stopped with work", found.stopped_with_work);
        see("chosen for its cache", found.for_its_cache);
    }
    for (what, cases) in seen {
        assert!(cases >= 20, "`{what}` happens in {cases} of 4,000 cases");
    }
}

#[test]
fn a_fleet_of_none_is_refused() {
    let engine = servesim::Engine::new(100, 100);
    let none = serve_fleet(
        &engine,
        crate::setting::Machine::FREE,
        0,
        Balance::RoundRobin,
        &servesim::Slo::default(),
        [] as [servesim::Request; 0],
        |_, _| (),
    );
    assert_eq!(
        none.unwrap_err().to_string(),
        "`replicas` of the engine: found 0, expected at least 1"
    );
}

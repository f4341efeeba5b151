//! Many replicas behind a router.

use proptest::prelude::*;
use servesim::{Balance, Record, Report, serve, serve_fleet};

use crate::agree::{Case, at_least, small_case};

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
    #![proptest_config(at_least(2_000))]

    #[test]
    fn each_replica_serves_its_share_as_if_alone(
        case in small_case(), replicas in 1_u32..5, least_loaded: bool,
    ) {
        let balance = if least_loaded { Balance::LeastLoaded } else { Balance::RoundRobin };
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

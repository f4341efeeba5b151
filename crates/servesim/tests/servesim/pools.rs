//! Replicas that compute prompts, and others that decode.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use servesim::{
    Engine, Link, Outcome, Pool, Pools, Record, Report, Request, SECOND_PS, Slo, serve_pools,
};

use crate::agree::{Case, at_least, small_engine, small_machine};
use crate::fleet::{balances, busy_case};
use crate::laws::{LLAMA, poisson};
use crate::plain_pools::{Split, simulate};
use crate::setting::Machine;

fn links() -> impl Strategy<Value = Link> {
    // A byte a picosecond, so that prompts take about as long as steps.
    let speed = prop_oneof![Just(SECOND_PS), (1..9_u64).prop_map(|part| SECOND_PS / part)];
    (speed, 0_u64..30, 0_u64..4, 0_u64..3, 0_u32..20).prop_map(
        |(bytes_per_second, latency_ps, bytes_per_token, windowed_bytes_per_token, window)| Link {
            bytes_per_second,
            latency_ps,
            bytes_per_token,
            windowed_bytes_per_token,
            window,
        },
    )
}

fn splits() -> impl Strategy<Value = Split> {
    let replicas = [1_u32..4, 1_u32..4];
    (replicas, [balances(), balances()], small_engine(), small_machine(), links()).prop_map(
        |(replicas, balances, engine, machine, link)| Split {
            replicas,
            balances,
            engine,
            machine,
            link,
        },
    )
}

/// A step takes some time: else whoever is preempted because blocks are being sent would try again for
/// ever in the same instant.
fn split_case() -> impl Strategy<Value = (Case, Split)> {
    (busy_case(), splits()).prop_map(|(mut case, split)| {
        case.machine.step += 1;
        (case, split)
    })
}

fn run(case: &Case, split: &Split) -> (Pools, Vec<(u32, Record)>) {
    let Case { engine, machine, slo, .. } = case;
    let Split { replicas, balances, .. } = split;
    let prefill = Pool { engine, time: machine, replicas: replicas[0], balance: balances[0] };
    let decode = Pool {
        engine: &split.engine,
        time: &split.machine,
        replicas: replicas[1],
        balance: balances[1],
    };
    let mut found = Vec::new();
    let pools = serve_pools(&prefill, &decode, &split.link, slo, case.incoming(), |which, one| {
        found.push((which, *one));
    });
    found.sort_by_key(|(_, record)| record.number);
    (pools.unwrap(), found)
}

proptest! {
    #![proptest_config(at_least(40_000))]

    #[test]
    fn two_pools_agree_with_plain_replicas_one_pool_after_the_other((case, split) in split_case()) {
        let (pools, found) = run(&case, &split);
        let (expected, records, _) = simulate(&case, &split);
        prop_assert_eq!(found.len(), case.requests.len());
        for (found, expected) in found.iter().zip(&records) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(found.len(), records.len());
        let reports: Vec<&Report> = pools.prefill.iter().chain(&pools.decode).collect();
        prop_assert_eq!(reports.len(), expected.len());
        let mut all = Report::default();
        all.merge(reports[0]);
        for (which, (found, expected)) in reports.iter().zip(&expected).enumerate() {
            prop_assert_eq!(found.time, expected.time);
            prop_assert_eq!(found.work, expected.work);
            prop_assert!(**found == *expected, "{which}: {found:?}\n{expected:?}");
            prop_assert_eq!(found.time.total_ps(), reports[0].time.total_ps());
            prop_assert_eq!(found.batch_ps.iter().sum::<u64>(), found.time.busy_ps());
            let work = found.work;
            let got = work.prefill_tokens + work.decode_tokens + work.cached_tokens + work.received_tokens;
            let gone = work.useful_tokens + work.preempted_tokens + work.abandoned_tokens;
            prop_assert_eq!(got, gone + work.sent_tokens);
            if which > 0 {
                all.merge(found);
            }
        }
        prop_assert_eq!(all.work.sent_tokens, all.work.received_tokens);
        prop_assert_eq!(all.requests(), case.requests.len() as u64);
        prop_assert!(pools.prefill.iter().all(|report| report.work.decode_tokens == 0));
    }
}

#[test]
fn in_the_pools_everything_happens() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, u32>::new();
    for _ in 0..4_000 {
        let (case, split) = split_case().new_tree(&mut runner).unwrap().current();
        let found = simulate(&case, &split).2;
        let mut see = |what, times: usize| *seen.entry(what).or_default() += u32::from(times > 0);
        see("sent", found.sent);
        see("lost on the way", found.lost_on_the_way);
        see("waited for the link", found.waited_for_the_link);
        see("waited for blocks that were being sent", found.waited_for_blocks_being_sent);
        see("overtaken", found.overtaken);
        see("preempted where it decodes", found.preempted_there);
        see("given up where it decodes", found.given_up_there);
        see("given up there before it began", found.given_up_before_it_began_there);
        see("chosen there for its cache", found.chosen_there_for_its_cache);
        see("shared there", found.shared_there);
    }
    for (what, cases) in seen {
        assert!(cases >= 20, "`{what}` happens in {cases} of 4,000 cases");
    }
}

/// 131 KB a token, as Llama-3.1-8B's.
const NVLINK: Link = Link {
    bytes_per_second: 450_000_000_000,
    latency_ps: 10_000_000,
    bytes_per_token: 131_072,
    windowed_bytes_per_token: 0,
    window: 0,
};

fn llama(replicas: [u32; 2], link: &Link, requests: Vec<Request>) -> (Pools, Vec<Record>) {
    let engine = Engine::new(20_000, 8192);
    let [prefill, decode] = replicas.map(|replicas| Pool {
        engine: &engine,
        time: LLAMA,
        replicas,
        balance: servesim::Balance::RoundRobin,
    });
    let mut records = Vec::new();
    let slo = Slo::default();
    let pools = serve_pools(&prefill, &decode, link, &slo, requests, |_, one| records.push(*one));
    records.sort_by_key(|record| record.number);
    (pools.unwrap(), records)
}

/// The closed form of a lone request: its prompt, the link, and its steps with nobody else.
#[test]
fn a_lone_request_goes_through_both_pools() {
    let one = Request { arrival_ps: 7, prompt: 1000, output: 3, priority: 0, patience_ps: None };
    let (pools, records) = llama([1, 1], &NVLINK, vec![one]);
    let prefill = LLAMA.step + 1000 * LLAMA.per_token + 500_500 * LLAMA.per_pair;
    let first = 7 + prefill;
    // 131 MB at 450 GB/s, rounded up.
    let link = 291_271_112 + 10_000_000;
    let steps = 2 * (LLAMA.step + LLAMA.per_bucket) + (1001 + 1002) * LLAMA.per_context;
    assert_eq!(NVLINK.sending_ps(1000), Some(291_271_112));
    assert_eq!(records[0].first_token_ps, Some(first));
    assert_eq!(records[0].end_ps, first + link + steps);
    let [prefills, decodes] = [&pools.prefill[0], &pools.decode[0]];
    assert_eq!(decodes.handover.sum_ps(), u128::from(link));
    assert_eq!((prefills.time.input_ps, prefills.time.output_ps), (prefill, 0));
    assert_eq!((decodes.time.input_ps, decodes.time.output_ps), (0, steps));
    assert_eq!((prefills.work.sent_tokens, decodes.work.received_tokens), (1000, 1000));
    assert_eq!(decodes.work.useful_tokens, 1002);
    // One token needs no other replica.
    let (pools, records) = llama([1, 1], &NVLINK, vec![Request { output: 1, ..one }]);
    assert_eq!(records[0].end_ps, first);
    assert_eq!(pools.prefill[0].work.useful_tokens, 1000);
    assert_eq!(pools.decode[0].time.busy_ps(), 0);
}

/// Little's law, to the picosecond: the time that sequences spend in the batches of the decode pool is the
/// time from their first token to their last, but for what the hand-over took.
#[test]
fn who_decodes_is_what_comes_times_how_long_it_stays() {
    let (pools, records) = llama([2, 3], &NVLINK, poisson(5_000, 20.0, 1200, 200));
    let mut all = pools.decode[0].clone();
    pools.decode[1..].iter().for_each(|report| all.merge(report));
    assert_eq!(all.work.preemptions, 0);
    let in_batches: u128 = (0..).zip(&all.batch_ps).map(|(size, &ps)| u128::from(size * ps)).sum();
    let after_first = records.iter().map(|one| one.end_ps - one.first_token_ps.unwrap());
    assert_eq!(in_batches + all.handover.sum_ps(), after_first.map(u128::from).sum::<u128>());
    // Nobody computes a prompt there, and nobody decodes before.
    assert_eq!((all.time.input_ps, all.work.prefill_tokens), (0, 0));
    assert!(pools.prefill.iter().all(|report| report.time.output_ps == 0));
    assert_eq!(all.count(Outcome::Completed), 5_000);
}

/// What decodes is not held up by prompts: gaps are shorter than with as many replicas that do both,
/// and a slower link makes the first of them longer.
#[test]
fn prompts_do_not_hold_up_who_decodes() {
    let requests = || poisson(3_000, 16.0, 2000, 200);
    let (pools, _) = llama([2, 2], &NVLINK, requests());
    let itl = |reports: &[Report]| {
        let mut all = reports[0].clone();
        reports[1..].iter().for_each(|report| all.merge(report));
        (all.itl.quantile_ps(0.99).unwrap(), all.handover.mean_ps().unwrap_or(0.0))
    };
    let engine = Engine::new(20_000, 8192);
    let balance = servesim::Balance::RoundRobin;
    let slo = Slo::default();
    let both = servesim::serve_fleet(&engine, LLAMA, 4, balance, &slo, requests(), |_, _| ());
    let (apart, handover) = itl(&pools.decode);
    assert!(apart * 3 < itl(&both.unwrap()).0, "{apart} ps");
    let slow = Link { bytes_per_second: 5_000_000_000, ..NVLINK };
    let (slower, _) = llama([2, 2], &slow, requests());
    // 262 MB at 5 GB/s are 52 ms, and some wait for the link.
    let more = itl(&slower.decode).1 - handover;
    assert!((50e9..100e9).contains(&more), "{more} ps");
}

#[test]
fn pools_that_make_no_sense_are_refused() {
    let engine = Engine::new(100, 100);
    let pool = |replicas| Pool {
        engine: &engine,
        time: Machine::FREE,
        replicas,
        balance: servesim::Balance::RoundRobin,
    };
    let refused = |prefill: u32, decode: u32, link: &Link| {
        let none: [Request; 0] = [];
        let slo = Slo::default();
        let pools = serve_pools(&pool(prefill), &pool(decode), link, &slo, none, |_, _| ());
        pools.unwrap_err().to_string()
    };
    let none = "`replicas` of the engine: found 0, expected at least 1";
    assert_eq!(refused(0, 1, &NVLINK), none);
    assert_eq!(refused(1, 0, &NVLINK), none);
    let cut = Link { bytes_per_second: 0, ..NVLINK };
    assert!(refused(1, 1, &cut).starts_with("`link bytes_per_second`"));
    let slow = Link { bytes_per_second: 1, bytes_per_token: u64::MAX, ..NVLINK };
    let one = Request { arrival_ps: 0, prompt: 9, output: 2, priority: 0, patience_ps: None };
    let late = serve_pools(&pool(1), &pool(1), &slow, &Slo::default(), [one], |_, _| ());
    assert_eq!(late.unwrap_err(), servesim::Error::RunTooLong);
}

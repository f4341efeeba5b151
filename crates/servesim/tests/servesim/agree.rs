//! The simulator and the reference tell the same of every request.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestCaseResult, TestRunner};
use servesim::Outcome::{Aborted, Completed, QueueFull, QueueTimeout, Timeout, TooLong};
use servesim::{Engine, Incoming, Request, Slo, serve};

use crate::reference::simulate;
use crate::setting::{Machine, Named};

/// What a case should be served with, and what is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) engine: Engine,
    pub(crate) machine: Machine,
    pub(crate) requests: Vec<Request>,
    /// What their prompts begin with.
    pub(crate) prefixes: Vec<Option<Named>>,
    pub(crate) slo: Slo,
}

impl Case {
    pub(crate) fn incoming(&self) -> impl Iterator<Item = Incoming> {
        let all = self.requests.iter().zip(&self.prefixes);
        all.map(|(&request, named)| Incoming { request, prefix: named.as_ref().map(Named::prefix) })
    }
}

fn agree(case: &Case) -> TestCaseResult {
    let Case { engine, machine, requests, prefixes, slo } = case;
    let mut expected = simulate(engine, machine, slo, requests, prefixes);
    let mut records = Vec::new();
    let report = serve(engine, machine, slo, case.incoming(), |record| records.push(*record));
    prop_assert_eq!(records.len(), requests.len());
    records.sort_by_key(|record| record.number);
    expected.records.sort_by_key(|record| record.number);
    for (found, expected) in records.iter().zip(&expected.records) {
        prop_assert_eq!(found, expected);
    }
    let report = report.unwrap();
    prop_assert_eq!(report.work, expected.report.work);
    prop_assert_eq!(report.time, expected.report.time);
    prop_assert_eq!(&report.batch_ps, &expected.report.batch_ps);
    prop_assert_eq!(&report.kv_ps, &expected.report.kv_ps);
    prop_assert_eq!(report.itl.sum_ps(), expected.report.itl.sum_ps());
    prop_assert!(report == expected.report, "{report:?}\n{:?}", expected.report);
    let work = &report.work;
    let computed = work.prefill_tokens + work.decode_tokens + work.cached_tokens;
    let lost = report.work.preempted_tokens + report.work.abandoned_tokens;
    prop_assert_eq!(computed, report.work.useful_tokens + lost);
    prop_assert_eq!(report.batch_ps.iter().sum::<u64>(), report.time.busy_ps());
    prop_assert_eq!(report.kv_ps.iter().sum::<u64>(), report.time.busy_ps());
    Ok(())
}

pub(crate) fn small_machine() -> impl Strategy<Value = Machine> {
    let costs = (0_u64..30, 1_u32..5, 0_u64..4, 0_u64..3, 0_u64..3, 0_u64..3);
    let contexts = (0_u64..2, 0_u64..2, 0_u64..3, 0_u64..2, prop::option::of(1_u32..20));
    (costs, contexts).prop_map(|(costs, contexts)| Machine {
        step: costs.0,
        bucket: costs.1,
        per_bucket: costs.2,
        per_token: costs.3,
        per_chunk: costs.4,
        per_sampled: costs.5,
        per_pair: contexts.0,
        per_windowed_pair: contexts.1,
        per_context: contexts.2,
        per_windowed: contexts.3,
        window: contexts.4.and_then(NonZeroU32::new),
    })
}

/// Engines so small that everything happens in them.
pub(crate) fn small_engine() -> impl Strategy<Value = Engine> {
    let memory = (0_u32..4, 2_u32..50, 0_u32..12);
    let limits = (1_u32..6, 0_u32..20, prop_oneof![3 => Just(1_u8), 2 => 2_u8..4]);
    let spans = |most: u64| prop::option::weighted(0.3, 0..most);
    let patience = (prop::option::weighted(0.3, 1_u32..6), spans(300), spans(900), any::<bool>());
    (memory, limits, patience).prop_map(|(memory, limits, patience)| Engine {
        kv_blocks: memory.1.div_ceil(1 << memory.0) + memory.2,
        block_tokens: 1 << memory.0,
        max_model_len: memory.1,
        max_num_batched_tokens: limits.0 + limits.1,
        max_num_seqs: limits.0,
        priority_classes: limits.2,
        max_queue: patience.0,
        queue_timeout_ps: patience.1,
        timeout_ps: patience.2,
        enable_prefix_caching: patience.3,
    })
}

/// Prompts that begin alike, some of them.
fn prefixes(number: usize) -> impl Strategy<Value = Vec<Option<Named>>> {
    let run = prop_oneof![3 => 1_u32..12, 1 => Just(16_u32)];
    let names = prop::collection::vec(prop_oneof![3 => Just(0_u64), 1 => 1_u64..3], 0..12);
    let salt = prop_oneof![6 => Just(0_u32), 1 => Just(1)];
    let all = (run, prop::collection::vec(prop::option::weighted(0.8, (names, salt)), number));
    all.prop_map(|(run, all)| {
        let named = |(names, salt)| Named { names, run, salt };
        all.into_iter().map(|one| one.map(named)).collect()
    })
}

fn cases(
    engine: impl Strategy<Value = Engine>,
    machine: impl Strategy<Value = Machine>,
    requests: impl Strategy<Value = Vec<Request>>,
    slo: impl Strategy<Value = Slo>,
) -> impl Strategy<Value = Case> {
    let requests = requests.prop_flat_map(|requests| {
        let prefixes = prefixes(requests.len());
        (Just(requests), prefixes)
    });
    (engine, machine, requests, slo).prop_map(|(engine, machine, (requests, prefixes), slo)| Case {
        engine,
        machine,
        requests,
        prefixes,
        slo,
    })
}

fn small_requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (
        prop_oneof![1 => Just(0_u64), 2 => 0_u64..60],
        1_u32..40,
        1_u32..40,
        0_u8..4,
        prop::option::weighted(0.2, 0_u64..400),
    );
    prop::collection::vec(request, 0..14).prop_map(in_order)
}

fn in_order(requests: Vec<(u64, u32, u32, u8, Option<u64>)>) -> Vec<Request> {
    let mut arrival_ps = 0;
    let requests = requests.into_iter().map(|(gap, prompt, output, priority, patience_ps)| {
        arrival_ps += gap;
        Request { arrival_ps, prompt, output, priority, patience_ps }
    });
    requests.collect()
}

fn slo(most: u64) -> impl Strategy<Value = Slo> {
    let span = |most: u64| prop::option::of(0..most);
    (span(most), span(most / 10), span(most)).prop_map(|(ttft_ps, tpot_ps, latency_ps)| Slo {
        ttft_ps,
        tpot_ps,
        latency_ps,
    })
}

pub(crate) fn small_case() -> impl Strategy<Value = Case> {
    cases(small_engine(), small_machine(), small_requests(), slo(300))
}

/// Classes of priority in a cache that is always too small: the rarest paths of all.
fn crowded_case() -> impl Strategy<Value = Case> {
    let engine = (0_u32..3, 20_u32..60, 0_u32..4, 3_u32..9, 0_u32..20, 2_u8..5, any::<bool>());
    let engine = engine.prop_map(|(shift, len, more, seqs, tokens, classes, caching)| Engine {
        enable_prefix_caching: caching,
        block_tokens: 1 << shift,
        max_num_seqs: seqs,
        max_num_batched_tokens: seqs + tokens,
        priority_classes: classes,
        ..Engine::new(len.div_ceil(1 << shift) + more, len)
    });
    let request = (0_u64..40, 1_u32..12, 1_u32..40, 0_u8..5, Just(None));
    let requests = prop::collection::vec(request, 3..20).prop_map(in_order);
    cases(engine, small_machine(), requests, slo(300))
}

/// Hundreds of requests on something like an accelerator, with too little memory for them.
fn large_case() -> impl Strategy<Value = Case> {
    let window = prop_oneof![Just(None), (1_u32..600).prop_map(NonZeroU32::new)];
    let machine =
        (window, 1_u32..9, 0_u64..100_000).prop_map(|(window, bucket, per_context)| Machine {
            step: 5_000_000_000,
            bucket,
            per_bucket: 9_000_000,
            per_token: 40_000_000,
            per_chunk: 6_000_000,
            per_sampled: 3_000_000,
            per_pair: 2_500,
            per_windowed_pair: 700,
            per_context,
            per_windowed: per_context / 5,
            window,
        });
    let engine = (60_u32..600, 1_u32..65, 0_u32..500, 1_u8..3, prop::option::of(1_u32..60));
    let engine = engine.prop_map(|(kv_blocks, seqs, more, classes, max_queue)| Engine {
        max_num_seqs: seqs,
        max_num_batched_tokens: seqs + more,
        priority_classes: classes,
        max_queue,
        timeout_ps: max_queue.map(|_| 4_000_000_000_000),
        enable_prefix_caching: seqs % 2 == 0,
        ..Engine::new(kv_blocks, 900)
    });
    let patience = prop::option::weighted(0.1, 0_u64..5_000_000_000_000);
    let request = (0_u64..200_000_000_000, 1_u32..600, 1_u32..400, 0_u8..3, patience);
    let requests = prop::collection::vec(request, 100..300).prop_map(in_order);
    cases(engine, machine, requests, slo(3_000_000_000_000))
}

/// `PROPTEST_CASES` asks for more.
pub(crate) fn at_least(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(cases), ..asked }
}

proptest! {
    #![proptest_config(at_least(40_000))]

    #[test]
    fn skipping_and_stepping_agree_on_every_request(case in small_case()) {
        agree(&case)?;
    }
}

proptest! {
    #![proptest_config(at_least(10_000))]

    #[test]
    fn they_agree_where_memory_is_always_short(case in crowded_case()) {
        agree(&case)?;
    }
}

proptest! {
    #![proptest_config(at_least(60))]

    #[test]
    fn they_agree_on_hundreds_of_requests_too(case in large_case()) {
        agree(&case)?;
    }
}

#[test]
fn in_the_small_cases_everything_happens() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..4_000 {
        let case = small_case().new_tree(&mut runner).unwrap().current();
        let Case { engine, machine, requests, prefixes, slo } = &case;
        let found = simulate(engine, machine, slo, requests, prefixes);
        let mut see = |what: String, is: bool| *seen.entry(what).or_default() += u32::from(is);
        for outcome in [Completed, QueueFull, TooLong, QueueTimeout, Timeout, Aborted] {
            let any = found.records.iter().any(|record| record.outcome == outcome);
            see(format!("{outcome:?}"), any);
        }
        let classes = case.engine.priority_classes > 1;
        see("preempted".into(), found.report.work.preemptions > 0 && !classes);
        see("preempted by class".into(), found.report.work.preemptions > 0 && classes);
        see("preempted twice".into(), found.records.iter().any(|record| record.preemptions > 1));
        see(
            "cut".into(),
            found.records.iter().any(|record| {
                let output = case.requests[usize::try_from(record.number).unwrap()].output;
                record.outcome == Completed && record.generated < output
            }),
        );
        see("stood still".into(), found.stalls > 0);
        see("given up on the way".into(), found.report.work.abandoned_tokens > 0);
        see("chunks".into(), found.chunks > 0);
        see("found what is free".into(), found.kv.idle > 0);
        see("found what is used".into(), found.kv.in_use > 0);
        see("found its own again".into(), found.own_hits > 0);
        see("computed what is cached".into(), found.kv.copies > 0);
        see("found one of several".into(), found.kv.of_several > 0);
        see("lost from the cache".into(), found.kv.evicted > 0);
        see("caused by cached input".into(), found.report.time.cached_ps > 0);
    }
    for (what, cases) in seen {
        assert!(cases >= 20, "`{what}` happens in {cases} of 4,000 cases");
    }
}

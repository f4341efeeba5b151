//! What queueing theory and bookkeeping say of every server.

use std::num::NonZeroU32;

use servesim::{
    Balance, Engine, Error, Outcome, Prefix, Record, Report, Request, SECOND_PS, Slo, Time, serve,
    serve_closed, serve_fleet,
};
use workload::Random;

use crate::setting::Machine;

/// About Llama-3.1-8B on an H100: 6.5 ms for the weights, 20 us a token of a prompt.
pub(crate) const LLAMA: Machine = Machine {
    step: 6_500_000_000,
    bucket: 8,
    per_bucket: 50_000_000,
    per_token: 20_000_000,
    per_pair: 1_000,
    per_context: 48_000,
    ..Machine::FREE
};

/// Poisson arrivals of requests of one size.
pub(crate) fn poisson(number: u32, per_second: f64, prompt: u32, output: u32) -> Vec<Request> {
    let mut random = Random::new(7);
    let gap = std::time::Duration::from_secs_f64(1.0 / per_second);
    let mut arrival_ps = 0;
    let requests = (0..number).map(|_| {
        arrival_ps += servesim::picoseconds(random.exponential(gap)).unwrap();
        Request { arrival_ps, prompt, output, priority: 0, patience_ps: None }
    });
    requests.collect()
}

fn run(engine: &Engine, machine: &Machine, requests: Vec<Request>) -> (Report, Vec<Record>) {
    let mut records = Vec::new();
    let report = serve(engine, machine, &Slo::default(), requests, |one| records.push(*one));
    (report.unwrap(), records)
}

/// A server that takes one request at a time, each for the same time, is M/D/1: the mean wait is
/// `rho / (2 (1 - rho))` service times (Pollaczek and Khinchine).
#[test]
fn one_seat_and_one_size_is_m_d_1() {
    let engine = Engine { max_num_seqs: 1, ..Engine::new(1000, 100) };
    // A step for the prompt and nine for the rest, a tenth of a second each.
    let machine = Machine { step: SECOND_PS / 10, ..Machine::FREE };
    for load in [0.3, 0.6, 0.85] {
        let (report, _) = run(&engine, &machine, poisson(400_000, load, 5, 10));
        let wait = report.wait.mean_ps().unwrap() / SECOND_PS as f64;
        let expected = load / (2.0 * (1.0 - load));
        assert!((wait / expected - 1.0).abs() < 0.05, "load {load}: {wait} for {expected}");
        assert!((report.busy().unwrap() / load - 1.0).abs() < 0.01);
        assert_eq!(report.ttft.count(), 400_000);
    }
}

/// So many seats that nobody waits is M/D/infinity: as many run as come in a service time.
#[test]
fn seats_for_all_is_m_d_infinity() {
    let machine = Machine { step: SECOND_PS / 1000, ..Machine::FREE };
    let (report, _) = run(&Engine::new(100_000, 2000), &machine, poisson(60_000, 30.0, 5, 1000));
    let batch = report.batch_ps.iter().enumerate().map(|(size, &ps)| size as f64 * ps as f64);
    let mean = batch.sum::<f64>() / report.time.total_ps() as f64;
    assert!((mean / 30.0 - 1.0).abs() < 0.02, "{mean} run");
    // Nobody waits for more than the step that runs.
    assert!(report.wait.quantile_ps(1.0).unwrap() < SECOND_PS / 990);
}

/// Little's law holds in every run, to the picosecond: the time that sequences spend in batches is
/// the time that requests spend in the engine.
#[test]
fn what_runs_is_what_comes_times_how_long_it_stays() {
    for per_second in [2.0, 12.0, 40.0] {
        let (report, records) =
            run(&Engine::new(100_000, 8192), &LLAMA, poisson(5_000, per_second, 1200, 200));
        assert_eq!(report.work.preemptions, 0);
        let in_batches: u128 =
            (0..).zip(&report.batch_ps).map(|(size, &ps)| u128::from(size * ps)).sum();
        let stays = records.iter().map(|one| u128::from(one.end_ps - one.admitted_ps.unwrap()));
        assert_eq!(in_batches, stays.sum::<u128>());
        // And so do the gaps between tokens, which last from the first to the last.
        let decoding = report.latency.sum_ps() - report.ttft.sum_ps();
        assert_eq!(report.itl.sum_ps(), decoding);
        assert_eq!(report.itl.count(), 5_000 * 199);
    }
}

/// The same with prompts that begin alike: what is cached is not computed, and costs little.
#[test]
fn what_is_cached_is_not_computed_and_all_laws_hold() {
    let requests = poisson(5_000, 12.0, 1200, 200);
    let run = |enable_prefix_caching: bool| {
        let engine = Engine { enable_prefix_caching, ..Engine::new(100_000, 8192) };
        // Two blocks of 512 tokens, the first of which all have, the second a seventh of them.
        let named = requests.iter().zip(0..).map(|(&request, number)| {
            (request, Prefix::new([1, 2 + number % 7], NonZeroU32::new(512).unwrap()))
        });
        let mut records = Vec::new();
        let report = serve(&engine, LLAMA, &Slo::default(), named, |one| records.push(*one));
        (report.unwrap(), records)
    };
    let (without, _) = run(false);
    let (report, records) = run(true);
    assert_eq!(without.cached_tokens + without.time.cached_ps, 0);
    // All find both blocks but those that come first, in blocks of 16 tokens.
    assert_eq!(report.cached_tokens, 5_000 * 1024 - 512 - 7 * 512);
    assert_eq!(report.work.prefill_tokens + report.cached_tokens, report.prompt_tokens);
    let cached = records.iter().map(|one| u64::from(one.cached));
    assert_eq!(cached.sum::<u64>(), report.cached_tokens);
    assert!(report.time.cached_ps > 0 && report.time.cached_ps < report.time.input_ps);
    assert!(report.time.busy_ps() < without.time.busy_ps());
    let in_batches: u128 =
        (0..).zip(&report.batch_ps).map(|(size, &ps)| u128::from(size * ps)).sum();
    let stays = records.iter().map(|one| u128::from(one.end_ps - one.admitted_ps.unwrap()));
    assert_eq!(in_batches, stays.sum::<u128>());
    let Time { input_ps, cached_ps, output_ps, idle_ps, cold_ps } = report.time;
    let end = records.iter().map(|one| one.end_ps).max().unwrap();
    assert_eq!(input_ps + cached_ps + output_ps + idle_ps + cold_ps, end);
}

#[test]
fn the_same_load_twice_as_fast_is_served_in_longer_steps() {
    let engine = Engine::new(24_000, 8192);
    let (slow, _) = run(&engine, &LLAMA, poisson(4_000, 5.0, 1200, 200));
    let (fast, _) = run(&engine, &LLAMA, poisson(4_000, 10.0, 1200, 200));
    assert!(fast.itl.mean_ps() > slow.itl.mean_ps());
    assert!(fast.work.steps < slow.work.steps, "larger batches need fewer steps");
    assert!(fast.busy() > slow.busy());
    assert_eq!(fast.work.useful_tokens, slow.work.useful_tokens);
}

#[test]
fn requests_of_a_million_tokens_are_no_trouble() {
    let engine = Engine::new(1 << 20, 10_000_000);
    let long = Request {
        arrival_ps: 0,
        prompt: 5_000_000,
        output: 4_999_999,
        priority: 0,
        patience_ps: None,
    };
    let (report, _) = run(&engine, &LLAMA, vec![long, Request { prompt: 9_999_999, ..long }]);
    assert_eq!(report.count(Outcome::Completed), 2);
    assert_eq!(report.work.decode_tokens, 4_999_998);
    let (report, _) =
        run(&engine, &LLAMA, vec![Request { prompt: u32::MAX, output: u32::MAX, ..long }]);
    assert_eq!(report.count(Outcome::TooLong), 1);
}

#[test]
fn what_cannot_be_simulated_is_said() {
    let message = |engine: &Engine, machine: &Machine, requests: Vec<Request>| {
        serve(engine, machine, &Slo::default(), requests, |_| ()).unwrap_err().to_string()
    };
    let engine = Engine::new(100, 1600);
    let one = Request { arrival_ps: 5, prompt: 1, output: 2, priority: 0, patience_ps: None };
    let earlier = Request { arrival_ps: 4, ..one };
    assert_eq!(
        message(&engine, &LLAMA, vec![one, earlier]),
        "request 1 arrives before request 0: sort the trace by arrival"
    );
    assert_eq!(
        message(&engine, &LLAMA, vec![one, Request { output: 0, ..one }]),
        "request 1 has 1 prompt and 0 output tokens, expected at least one of each"
    );
    assert_eq!(
        message(&Engine::new(99, 1600), &LLAMA, vec![]),
        "`kv_blocks` of the engine: found 99, expected at least 100, \
         which one sequence of max_model_len needs"
    );
    let batched = Engine { max_num_batched_tokens: 512, ..engine.clone() };
    assert_eq!(
        message(&batched, &LLAMA, vec![]),
        "`max_num_batched_tokens` of the engine: found 512, expected at least max_num_seqs, \
         at most 2^28"
    );
    let slow = Machine { step: 1 << 60, ..Machine::FREE };
    assert!(message(&engine, &slow, vec![one]).starts_with("a step of 0 decodes and 1 prefill"));
    let steep = Machine { per_context: 1 << 40, ..Machine::FREE };
    assert!(message(&engine, &steep, vec![one]).contains("takes too long"));
    let late = Request { arrival_ps: u64::MAX - 1, ..one };
    assert_eq!(message(&engine, &LLAMA, vec![late]), Error::RunTooLong.to_string());
    // That is how a time is told that nobody can count to.
    let never = Request { arrival_ps: u64::MAX, ..one };
    assert_eq!(message(&engine, &LLAMA, vec![never]), Error::RunTooLong.to_string());
    // A fleet's replicas are added up.
    let days = Request { arrival_ps: 100 * 86_400 * SECOND_PS, ..one };
    let fleet = |replicas: u32| {
        let (slo, balance) = (Slo::default(), Balance::RoundRobin);
        serve_fleet(&engine, LLAMA, replicas, balance, &slo, [one, days], |_, _| ())
    };
    assert_eq!(fleet(2).unwrap().len(), 2);
    assert_eq!(fleet(3).unwrap_err(), Error::RunTooLong);
    let none: [Request; 0] = [];
    let report = serve(&engine, LLAMA, &Slo::default(), none, |_| ()).unwrap();
    assert_eq!((report.busy(), report.per_second(1)), (None, None));
}

/// What the roofline model says of single steps is what the simulator makes of them.
#[test]
fn a_lone_request_takes_the_steps_of_the_roofline() {
    use roofline::{Batch, Formats, Layout, Routing, Setup, Sheets};
    let sheets = Sheets::built_in().unwrap();
    let setup = |model: &str| {
        Setup::new(
            sheets.model(model).unwrap(),
            sheets.accelerator("h100-sxm").unwrap(),
            sheets.engine("vllm").unwrap(),
            &sheets.kernels,
            Layout::default(),
            Formats::default(),
            Routing::Balanced,
        )
        .unwrap()
    };
    for model in ["llama-3.1-8b", "gpt-oss-20b"] {
        let setup = setup(model);
        let (engine, steps) = (Engine::of(&setup).unwrap(), setup.compile());
        let one = Request { arrival_ps: 0, prompt: 100, output: 3, priority: 0, patience_ps: None };
        let mut records = Vec::new();
        let report = serve(&engine, &steps, &Slo::default(), [one], |one| records.push(*one));
        let report = report.unwrap();
        let window = steps.window();
        let decode = |context: u64| Batch {
            decodes: 1,
            context,
            windowed_context: window.map_or(context, |window| context.min(window.get().into())),
            sampled: 1,
            ..Batch::default()
        };
        let prefill = Batch {
            prefill_tokens: 100,
            prefill_pairs: roofline::pairs(100, 0),
            windowed_pairs: roofline::windowed_pairs(100, 0, window),
            sampled: 1,
            ..Batch::default()
        };
        let all = [prefill, decode(101), decode(102)];
        let times = all.map(|batch| steps.time(&batch).at(&batch));
        assert_eq!(records[0].first_token_ps, Some(times[0]), "{model}");
        assert_eq!(report.time.total_ps(), times.iter().sum::<u64>(), "{model}");
        let flops = all.map(|batch| u128::from(steps.flops(&batch).at(&batch)));
        assert_eq!(report.work.flops, Some(flops.iter().sum()));
        let bytes = all.map(|batch| u128::from(steps.bytes(&batch).at(&batch)));
        assert_eq!(report.work.bytes, Some(bytes.iter().sum()));
    }
}

/// A closed loop is the open one whose requests come when the loop's did: clients add nothing but the times of arrival.
#[test]
fn a_closed_loop_is_an_open_one_at_the_times_at_which_its_clients_ask() {
    let engine = Engine { max_num_seqs: 6, ..Engine::new(400, 400) };
    let mut random = Random::new(11);
    let mut draw = |most: u64| 1 + u32::try_from(random.below(most)).unwrap();
    let sizes: Vec<(u32, u32)> = (0..400).map(|_| (draw(300), draw(90))).collect();
    let sized = |&(prompt, output): &(u32, u32)| Request {
        arrival_ps: u64::MAX,
        prompt,
        output,
        priority: 0,
        patience_ps: None,
    };
    for clients in [1, 5, 9] {
        let mut closed = Vec::new();
        let each = |record: &Record| closed.push(*record);
        let requests = sizes.iter().map(sized);
        let report =
            serve_closed(&engine, LLAMA, &Slo::default(), clients, requests, each).unwrap();
        assert_eq!(report.count(Outcome::Completed), 400);
        // No more than there are clients are on their way at any time.
        let under_way =
            |at: u64| closed.iter().filter(|r| r.arrival_ps <= at && at < r.end_ps).count();
        assert!(closed.iter().all(|r| under_way(r.arrival_ps) <= clients as usize));
        closed.sort_by_key(|record| record.number);
        let at_times = closed.iter().zip(&sizes);
        let requests =
            at_times.map(|(r, size)| Request { arrival_ps: r.arrival_ps, ..sized(size) });
        let (open, mut records) = run(&engine, &LLAMA, requests.collect());
        records.sort_by_key(|record| record.number);
        assert_eq!(closed, records);
        assert_eq!(report, open);
    }
}

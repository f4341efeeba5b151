//! The search for the highest rate, against a scan of all rates.

use roofline::{Formats, Layout, Routing, Setup, Sheets};
use servesim::{
    Engine, Error, Goal, HighestRate, Keeper, Limit, MOST_TRIALS, Report, Request, SECOND_PS, Slo,
    at_rate, closed_form, serve,
};

use crate::laws::{LLAMA, poisson};

const MS: u64 = SECOND_PS / 1000;

/// What chatters ask for: lengths differ.
fn requests(number: u32) -> Vec<Request> {
    let mut requests = poisson(number, 1.0, 1, 1);
    for (turn, request) in (0..).zip(&mut requests) {
        request.prompt = 50 + turn * 7919 % 1500;
        request.output = 20 + turn * 104_729 % 300;
    }
    requests
}

fn engine() -> Engine {
    Engine { max_num_seqs: 256, ..Engine::new(25_000, 8192) }
}

fn goal(ttft_ms: u64, tpot_ms: u64, share: f64) -> Goal {
    let limit = |ms: u64| (ms > 0).then_some(ms * MS);
    let slo = Slo { ttft_ps: limit(ttft_ms), tpot_ps: limit(tpot_ms), latency_ps: None };
    Goal { slo, share, keeper: Keeper::EachLimit }
}

fn at(goal: &Goal, requests: &[Request], rate: f64) -> Result<Report, Error> {
    let requests = at_rate(requests.iter().copied(), rate);
    serve(&engine(), LLAMA, &goal.slo, requests, |_| {})
}

fn search(goal: &Goal, requests: &[Request], guess: f64) -> HighestRate {
    goal.highest_rate(guess, 0.01, |rate| at(goal, requests, rate)).unwrap()
}

#[test]
fn it_finds_what_a_fine_scan_finds() {
    let requests = requests(4000);
    // The SLOs are of very different kinds: one binds at once, another hardly ever.
    let goals = [
        goal(300, 20, 0.99),
        goal(60, 0, 0.99),
        goal(0, 9, 0.9),
        goal(0, 30, 0.5),
        goal(2000, 100, 0.999),
        Goal { keeper: Keeper::Request, ..goal(150, 12, 0.95) },
        goal(0, 0, 1.0),
    ];
    for goal in goals {
        // The guess decides how long it takes, not what is found.
        for guess in [12.0, 20.0, 30.0] {
            let found = search(&goal, &requests, guess);
            let rate = found.rate.unwrap();
            let meets = |rate: f64| goal.judge(rate, &at(&goal, &requests, rate).unwrap()).met;
            // Steps of a fifth of a percent, from where all is well to where nothing is.
            let steps = (-150..150).map(|step| rate * 1.002_f64.powi(step));
            let scan: Vec<(f64, bool)> = steps.map(|rate| (rate, meets(rate))).collect();
            let last_met = scan.iter().rev().find(|(_, met)| *met).unwrap().0;
            let first_fails = scan.iter().find(|(_, met)| !met).unwrap().0;
            let told = format!("{goal:?} from {guess}: {rate}, scan {last_met} {first_fails}");
            assert!(found.trials.len() <= MOST_TRIALS, "{told} {found:?}");
            // A guess within a factor of two is good enough for one percent.
            let near = (0.5..2.0).contains(&(guess / rate));
            let apart = found.fails_at.unwrap() / rate;
            assert!(apart < if near { 1.0101 } else { 1.04 }, "{told} {found:#?}");
            // A percentile of a sample is not quite monotone; the answer lies where it wavers.
            assert!(last_met / first_fails < 1.2, "{told}");
            assert!(rate < last_met * 1.0001 && rate > first_fails / 1.04, "{told}");
        }
    }
}

#[test]
fn a_laxer_slo_allows_no_lower_rate() {
    let requests = requests(2000);
    let rate = |goal: &Goal| search(goal, &requests, 20.0).rate.unwrap();
    let of_tpot = [9, 12, 16, 25, 60].map(|ms| rate(&goal(0, ms, 0.99)));
    assert!(of_tpot.is_sorted_by(|one, next| *next > one * 0.99), "{of_tpot:?}");
    assert!(of_tpot[4] > 3.0 * of_tpot[0], "{of_tpot:?}");
    let of_share = [0.999, 0.99, 0.9, 0.5].map(|share| rate(&goal(100, 0, share)));
    assert!(of_share.is_sorted_by(|one, next| *next > one * 0.99), "{of_share:?}");
    // Whoever keeps all limits at once keeps each.
    let each = goal(80, 12, 0.9);
    let together = Goal { keeper: Keeper::Request, ..each };
    assert!(rate(&together) <= rate(&each) * 1.01);
}

#[test]
fn an_slo_that_no_rate_keeps_has_none_and_tells_the_best() {
    let requests = requests(1000);
    // A step alone takes 6.5 ms.
    let goal = goal(0, 6, 0.99);
    let found = search(&goal, &requests, 20.0);
    assert_eq!((found.rate, found.trials.len() <= MOST_TRIALS), (None, true));
    let best = found.best().unwrap();
    assert_eq!((best.worst, best.kept), (Limit::Tpot, 0.0));
    assert!((best.rate - 0.01).abs() < 1e-9, "{best:?}");
    let [_, tpot, _] = best.times_ps;
    assert!((6_500..6_900).contains(&(tpot.unwrap() / 1_000_000)), "{best:?}");
}

#[test]
fn without_limits_it_finds_what_is_served_as_fast_as_it_comes() {
    let requests = poisson(20_000, 1.0, 500, 100);
    let found = search(&goal(0, 0, 1.0), &requests, 50.0);
    assert_eq!(found.bound(), Some(Limit::Throughput));
    // What is completed a second where far more come.
    let flood = at(&goal(0, 0, 1.0), &requests, 1e4).unwrap();
    let most = flood.per_second(20_000).unwrap();
    let rate = found.rate.unwrap();
    assert!(rate > 0.95 * most && rate < 1.06 * most, "{rate} of {most}");
}

#[test]
fn who_does_not_complete_is_not_served_well() {
    let mut requests = requests(1000);
    // One in fifty has a prompt that is too long at any rate.
    requests.iter_mut().step_by(50).for_each(|request| request.prompt = 9000);
    assert_eq!(search(&goal(1000, 0, 0.99), &requests, 20.0).rate, None);
    let found = search(&goal(1000, 0, 0.98), &requests, 20.0);
    assert!(found.rate.unwrap() > 5.0, "{found:?}");
    assert!(found.best().unwrap().times_ps[2].is_some());
}

#[test]
fn from_the_closed_form_few_simulations_are_enough() {
    let sheets = Sheets::built_in().unwrap();
    let mut counts = Vec::new();
    for (model, gpu, tp) in
        [("llama-3.1-8b", "h100", 1), ("llama-3.1-70b", "h100", 4), ("qwen3-32b", "h200", 1)]
    {
        let setup = Setup::new(
            sheets.model(model).unwrap(),
            sheets.accelerator(gpu).unwrap(),
            sheets.engine("vllm").unwrap(),
            &sheets.kernels,
            Layout::tensor(tp),
            Formats::default(),
            Routing::default(),
        );
        let setup = setup.unwrap();
        let (engine, steps) = (Engine::of(&setup).unwrap(), setup.compile());
        for (isl, osl, ttft, tpot) in [
            (1000, 1000, 1000, 40),
            (4000, 200, 2000, 60),
            (200, 50, 500, 30),
            (8000, 500, 4000, 0),
        ] {
            let goal = goal(ttft, tpot, 0.99);
            let requests = poisson(2000, 1.0, isl, osl);
            let guess = closed_form(&setup, &engine, &goal.slo, 1, (isl, osl)).unwrap();
            let run = |rate| {
                let requests = at_rate(requests.iter().copied(), rate);
                serve(&engine, &steps, &goal.slo, requests, |_| {})
            };
            let found = goal.highest_rate(guess, guess / 100.0, run).unwrap();
            let told = format!("{model} {isl}/{osl}: {guess} {found:#?}");
            assert!(found.fails_at.unwrap() / found.rate.unwrap() < 1.0101, "{told}");
            counts.push(found.trials.len());
        }
    }
    let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    assert!(mean <= 8.0 && counts.iter().all(|count| *count <= MOST_TRIALS), "{counts:?}");
}

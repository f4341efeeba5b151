//! How many requests a core simulates per second of CPU time.
//! `cargo bench -p servesim -- TRACE.csv [COPIES]`, a trace of the form that `workload::AzureReader`
//! reads, repeated end to end.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]

#[path = "../../../bench/cpu.rs"]
mod cpu;

use roofline::{Formats, Layout, Routing, Setup, Sheets};
use servesim::{Balance, Engine, Outcome, Report, Request, SECOND_PS, Slo, serve, serve_fleet};
use workload::AzureReader;

fn main() {
    // Cargo passes `--bench`.
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let Some(path) = given.next() else {
        println!("usage: cargo bench -p servesim -- TRACE.csv [COPIES]");
        return;
    };
    let copies: u64 = given.next().map_or(100, |copies| copies.parse().unwrap());
    let text = std::fs::read_to_string(path).unwrap();
    let rows = AzureReader::rows(&text).map(|row| Request::of(&row.unwrap()).unwrap());
    let trace: Vec<Request> = rows.collect();
    // The next copy begins a mean gap behind the last request of the one before.
    let span = trace[trace.len() - 1].arrival_ps;
    let length = span + span / trace.len() as u64;

    let sheets = Sheets::built_in().unwrap();
    let setup = Setup::new(
        sheets.model("llama-3.1-8b").unwrap(),
        sheets.accelerator("h100-sxm").unwrap(),
        sheets.engine("vllm").unwrap(),
        &sheets.kernels,
        Layout::default(),
        Formats::default(),
        Routing::Balanced,
    )
    .unwrap();
    let (engine, llama) = (Engine::of(&setup).unwrap(), setup.compile());
    println!("{engine:?}");
    let slo = Slo { ttft_ps: Some(SECOND_PS), tpot_ps: Some(SECOND_PS / 20), latency_ps: None };
    let requests = |faster: u64| {
        let trace = &trace;
        (0..copies).flat_map(move |copy| {
            trace.iter().map(move |&request| Request {
                arrival_ps: (request.arrival_ps + copy * length) / faster,
                ..request
            })
        })
    };
    let number = copies * trace.len() as u64;
    let bench = |who: &str, faster: u64, run: &dyn Fn() -> Report| {
        let report = run();
        assert_eq!(report.outcomes.iter().sum::<u64>(), number);
        describe(who, faster, &report);
        let what = format!("servesim: {who}, the trace {copies} times, {faster} x its rate");
        cpu::rate(&what, "requests", number, Some("2 million"), || {
            std::hint::black_box(run());
        });
    };
    for faster in [1, 2, 4] {
        bench("one replica", faster, &|| {
            serve(&engine, &llama, &slo, requests(faster), |_| ()).unwrap()
        });
    }
    let fleet = [
        ("200 replicas in turn", Balance::RoundRobin),
        ("200 replicas, the least loaded", Balance::LeastLoaded),
    ];
    for (who, balance) in fleet {
        bench(who, 400, &|| {
            let replicas =
                serve_fleet(&engine, &llama, 200, balance, &slo, requests(400), |_, _| ());
            let mut replicas = replicas.unwrap().into_iter();
            let first = replicas.next().unwrap();
            replicas.fold(first, |mut all, one| {
                all.merge(&one);
                all
            })
        });
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("peak memory, trace included: {}", peak.trim_start_matches("VmHWM:").trim());
}

fn describe(who: &str, faster: u64, report: &Report) {
    let seconds = |ps: Option<u64>| ps.map_or(0.0, |ps| ps as f64 / SECOND_PS as f64);
    println!(
        "{who}, {faster} x: {} completed, {} good, {} preemptions, {:.1} steps a request, busy {:.0} %; \
         seconds p50 / p99: TTFT {:.3} / {:.3}, ITL {:.4} / {:.4}, latency {:.2} / {:.2}",
        report.count(Outcome::Completed),
        report.good,
        report.work.preemptions,
        report.work.steps as f64 / report.latency.count() as f64,
        report.busy().unwrap() * 100.0,
        seconds(report.ttft.quantile_ps(0.5)),
        seconds(report.ttft.quantile_ps(0.99)),
        seconds(report.itl.quantile_ps(0.5)),
        seconds(report.itl.quantile_ps(0.99)),
        seconds(report.latency.quantile_ps(0.5)),
        seconds(report.latency.quantile_ps(0.99)),
    );
}

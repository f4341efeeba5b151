//! How many requests a core simulates per second of CPU time.
//! `cargo bench -p servesim -- TRACE [COPIES]`, a trace of the form that `workload::AzureReader` reads,
//! or one of the form that `workload::BlockReader` does (`.jsonl`), whose prompts have blocks in common:
//! then with prefix caching, each copy with blocks of its own. Repeated end to end.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]

#[path = "../../../bench/cpu.rs"]
mod cpu;

use roofline::{Formats, Layout, Routing, Setup, Sheets};
use servesim::{
    Balance, Engine, Incoming, Outcome, Prefix, Report, Request, SECOND_PS, Slo, serve, serve_fleet,
};
use workload::{AzureReader, BlockReader};

fn main() {
    // Cargo passes `--bench`.
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let Some(path) = given.next() else {
        println!("usage: cargo bench -p servesim -- TRACE [COPIES]");
        return;
    };
    let copies: u32 = given.next().map_or(100, |copies| copies.parse().unwrap());
    let trace = read(&path);
    // The next copy begins a mean gap behind the last request of the one before.
    let span = trace[trace.len() - 1].request.arrival_ps;
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
    let (mut engine, llama) = (Engine::of(&setup).unwrap(), setup.compile());
    engine.enable_prefix_caching = trace[0].prefix.is_some();
    println!("{engine:?}");
    let slo = Slo { ttft_ps: Some(SECOND_PS), tpot_ps: Some(SECOND_PS / 20), latency_ps: None };
    // So many times as fast, prompts and outputs so many times as short.
    let requests = |faster: u64, shorter: u32| {
        let trace = &trace;
        (0..copies).flat_map(move |copy| {
            trace.iter().map(move |Incoming { request, prefix }| Incoming {
                request: Request {
                    arrival_ps: (request.arrival_ps + u64::from(copy) * length) / faster,
                    prompt: request.prompt.div_ceil(shorter),
                    output: request.output.div_ceil(shorter),
                    ..*request
                },
                prefix: prefix.as_ref().map(|prefix| prefix.salted(copy)),
            })
        })
    };
    let number = u64::from(copies) * trace.len() as u64;
    let bench = |who: &str, faster: u64, goal: Option<&str>, run: &dyn Fn() -> Report| {
        let report = run();
        assert_eq!(report.outcomes.iter().sum::<u64>(), number);
        describe(who, faster, &report);
        let what = format!("servesim: {who}, the trace {copies} times, {faster} x its rate");
        cpu::rate(&what, "requests", number, goal, || {
            std::hint::black_box(run());
        });
    };
    let fleet = |replicas: u32, balance: Balance, faster: u64, shorter: u32| {
        let requests = requests(faster, shorter);
        let reports = serve_fleet(&engine, &llama, replicas, balance, &slo, requests, |_, _| ());
        let mut reports = reports.unwrap().into_iter();
        let first = reports.next().unwrap();
        reports.fold(first, |mut all, one| {
            all.merge(&one);
            all
        })
    };
    if engine.enable_prefix_caching {
        let cached_first = Balance::PrefixAware { slack: 8 };
        let all = [
            ("4 replicas in turn", 4, Balance::RoundRobin, 1),
            ("4 replicas, most cached first", 4, cached_first, 1),
            ("16 replicas in turn", 16, Balance::RoundRobin, 4),
            ("16 replicas, most cached first", 16, cached_first, 4),
        ];
        for (who, replicas, balance, faster) in all {
            bench(who, faster, Some("500 thousand"), &|| fleet(replicas, balance, faster, 1));
        }
    } else {
        for faster in [1, 2, 4] {
            bench("one replica", faster, Some("2 million"), &|| {
                serve(&engine, &llama, &slo, requests(faster, 1), |_| ()).unwrap()
            });
        }
        let all = [
            ("200 replicas in turn", Balance::RoundRobin),
            ("200 replicas, the least loaded", Balance::LeastLoaded),
        ];
        for (who, balance) in all {
            bench(who, 400, None, &|| fleet(200, balance, 400, 1));
            // 10,000 requests a second, of a size that so many replicas can serve: a day of them in
            // 15 minutes.
            let short = format!("{who}, requests a quarter as long");
            bench(&short, 1_800, Some("960 thousand"), &|| fleet(200, balance, 1_800, 4));
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("peak memory, trace included: {}", peak.trim_start_matches("VmHWM:").trim());
}

fn read(path: &str) -> Vec<Incoming> {
    let text = std::fs::read_to_string(path).unwrap();
    if std::path::Path::new(path).extension().is_some_and(|extension| extension == "jsonl") {
        let rows = BlockReader::rows(&text).map(|row| {
            let row = row.unwrap();
            let request = Request::of(&row.row).unwrap();
            (request, Prefix::new(row.names, row.block_tokens)).into()
        });
        return rows.collect();
    }
    let rows = AzureReader::rows(&text).map(|row| Request::of(&row.unwrap()).unwrap().into());
    rows.collect()
}

fn describe(who: &str, faster: u64, report: &Report) {
    let seconds = |ps: Option<u64>| ps.map_or(0.0, |ps| ps as f64 / SECOND_PS as f64);
    println!(
        "{who}, {faster} x: {} completed, {} good, {} preemptions, {:.1} steps a request, \
         {:.0} % of prompts cached, busy {:.0} %; \
         seconds p50 / p99: TTFT {:.3} / {:.3}, ITL {:.4} / {:.4}, latency {:.2} / {:.2}",
        report.count(Outcome::Completed),
        report.good,
        report.work.preemptions,
        report.work.steps as f64 / report.latency.count() as f64,
        report.cached_tokens as f64 / report.prompt_tokens as f64 * 100.0,
        report.busy().unwrap() * 100.0,
        seconds(report.ttft.quantile_ps(0.5)),
        seconds(report.ttft.quantile_ps(0.99)),
        seconds(report.itl.quantile_ps(0.5)),
        seconds(report.itl.quantile_ps(0.99)),
        seconds(report.latency.quantile_ps(0.5)),
        seconds(report.latency.quantile_ps(0.99)),
    );
}

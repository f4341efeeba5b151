//! How much memory a request in flight takes, as the system counts it: `cargo bench -p servesim --bench
//! memory`. A million requests come at once, and either all run or all wait but a few, with two pools
//! for the one that computes prompts. Each case is a process of its own, for memory that was given back
//! is not seen to be taken again.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]

use std::num::NonZeroU32;
use std::process::Command;

use servesim::{
    Balance, Batch, Engine, Incoming, Linear, Link, Outcome, Pool, Prefix, Report, Request,
    SECOND_PS, Slo, StepTime, serve, serve_pools,
};

const REQUESTS: u32 = 1_000_000;
const PROMPT: u32 = 1000;

/// Who serves them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A replica with seats and blocks for a thousandth of them.
    Few,
    /// A replica with seats and blocks for all.
    All,
    /// Two such as the first, one that computes prompts and one that decodes.
    Pools,
}

/// Whose prompts have names, and so may be found in the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Nobody,
    /// Everybody's prompt begins with the same tokens.
    Alike,
    /// Nobody has anything in common with another.
    Apart,
}

/// What happens to them.
const CASES: [(&str, By, Named); 7] = [
    ("all wait", By::Few, Named::Nobody),
    ("all run", By::All, Named::Nobody),
    ("two pools, all wait", By::Pools, Named::Nobody),
    ("prefix caching, all wait", By::Few, Named::Apart),
    ("prefix caching, all run with the same blocks", By::All, Named::Alike),
    (
        "prefix caching, all run with different blocks, the cache's list of them included",
        By::All,
        Named::Apart,
    ),
    ("prefix caching, two pools, all wait", By::Pools, Named::Apart),
];

fn main() {
    // Cargo passes `--bench`.
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if let Some(case) = given.next() {
        return measure(&CASES[case.parse::<usize>().unwrap()]);
    }
    for case in 0..CASES.len() {
        let this = std::env::current_exe().unwrap();
        assert!(Command::new(this).arg(case.to_string()).status().unwrap().success());
    }
}

fn measure(&(what, by, named): &(&str, By, Named)) {
    let seats = if by == By::All { REQUESTS } else { REQUESTS / 1000 };
    // All that run do at the same time; of two pools it is the first that has more to do.
    let output = if by == By::Pools { 2 } else { 4000 };
    let kv_blocks = seats * (PROMPT + output).div_ceil(16);
    let engine = Engine {
        max_num_seqs: seats,
        max_num_batched_tokens: 2 * REQUESTS,
        enable_prefix_caching: named != Named::Nobody,
        ..Engine::new(kv_blocks, PROMPT + output)
    };
    // They share the names, so that the trace takes no memory.
    let prefix = Prefix::new(0..10, NonZeroU32::new(100).unwrap());
    let requests = (0..REQUESTS).map(|number| Incoming {
        request: Request { arrival_ps: 0, prompt: PROMPT, output, priority: 0, patience_ps: None },
        prefix: match named {
            Named::Nobody => None,
            Named::Alike => Some(prefix.clone()),
            Named::Apart => Some(prefix.salted(number)),
        },
    });
    let before = status("VmRSS");
    let slo = Slo::default();
    let report = match by {
        By::Pools => pools(&engine, requests),
        By::Few | By::All => serve(&engine, Even, &slo, requests, |_| ()).unwrap(),
    };
    let taken = (status("VmHWM") - before) as f64;
    assert_eq!(report.count(Outcome::Completed), u64::from(REQUESTS));
    let most = report.batch_ps.iter().rposition(|&time| time > 0);
    assert_eq!(most, Some(seats as usize));
    let each = taken / f64::from(REQUESTS);
    // What the cache keeps of blocks is there as long as they are, whoever uses them.
    let goal = if by == By::All && named == Named::Apart { "" } else { "; goal less than 200" };
    println!("servesim: {what}: {each:.0} bytes a request in flight{goal}");
}

/// What two pools of one replica each come to, whose link takes no time.
fn pools(engine: &Engine, requests: impl Iterator<Item = Incoming>) -> Report {
    let pool = || Pool { engine, time: Even, replicas: 1, balance: Balance::RoundRobin };
    let link = Link {
        bytes_per_second: u64::MAX,
        latency_ps: 0,
        bytes_per_token: 0,
        windowed_bytes_per_token: 0,
        window: 0,
    };
    let all = serve_pools(&pool(), &pool(), &link, &Slo::default(), requests, |_, _| ()).unwrap();
    let mut report = all.decode[0].clone();
    report.merge(&all.prefill[0]);
    report
}

/// A figure of this process, in bytes.
fn status(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() * 1024
}

/// All steps take the same time.
struct Even;

impl StepTime for Even {
    fn step(&self, _: &Batch) -> Linear {
        Linear { base: SECOND_PS / 100, ..Linear::default() }
    }
}

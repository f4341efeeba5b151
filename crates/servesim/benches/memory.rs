//! How much memory a request in flight takes, as the system counts it: `cargo bench -p servesim --bench
//! memory`. A million requests come at once, and either all wait but a few or all run. Each case is a
//! process of its own, for memory that was given back is not seen to be taken again.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]

use std::num::NonZeroU32;
use std::process::Command;

use servesim::{
    Batch, Engine, Incoming, Linear, Outcome, Prefix, Request, SECOND_PS, Slo, StepTime, serve,
};

const REQUESTS: u32 = 1_000_000;
const PROMPT: u32 = 1000;
const OUTPUT: u32 = 4000;

/// Whose prompts have names, and so may be found in the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Nobody,
    /// Everybody's prompt begins with the same tokens.
    Alike,
    /// Nobody has anything in common with another.
    Apart,
}

/// What happens to them, whether they run, and what their prompts are like.
const CASES: [(&str, bool, Named); 5] = [
    ("all wait", false, Named::Nobody),
    ("all run", true, Named::Nobody),
    ("prefix caching, all wait", false, Named::Apart),
    ("prefix caching, all run with the same blocks", true, Named::Alike),
    (
        "prefix caching, all run with different blocks, the cache's list of them included",
        true,
        Named::Apart,
    ),
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

fn measure(&(what, run, named): &(&str, bool, Named)) {
    // Seats and blocks for all, or for a thousandth of them.
    let seats = if run { REQUESTS } else { REQUESTS / 1000 };
    let kv_blocks = seats * (PROMPT + OUTPUT).div_ceil(16);
    let engine = Engine {
        max_num_seqs: seats,
        max_num_batched_tokens: 2 * REQUESTS,
        enable_prefix_caching: named != Named::Nobody,
        ..Engine::new(kv_blocks, PROMPT + OUTPUT)
    };
    // They share the names, so that the trace takes no memory.
    let prefix = Prefix::new(0..10, NonZeroU32::new(100).unwrap());
    let requests = (0..REQUESTS).map(|number| Incoming {
        request: Request {
            arrival_ps: 0,
            prompt: PROMPT,
            output: OUTPUT,
            priority: 0,
            patience_ps: None,
        },
        prefix: match named {
            Named::Nobody => None,
            Named::Alike => Some(prefix.clone()),
            Named::Apart => Some(prefix.salted(number)),
        },
    });
    let before = status("VmRSS");
    let report = serve(&engine, Even, &Slo::default(), requests, |_| ()).unwrap();
    let taken = (status("VmHWM") - before) as f64;
    assert_eq!(report.count(Outcome::Completed), u64::from(REQUESTS));
    let most = report.batch_ps.iter().rposition(|&time| time > 0);
    assert_eq!(most, Some(seats as usize));
    let each = taken / f64::from(REQUESTS);
    // What the cache keeps of blocks is there as long as they are, whoever uses them.
    let goal = if run && named == Named::Apart { "" } else { "; goal less than 200" };
    println!("servesim: {what}: {each:.0} bytes a request in flight{goal}");
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

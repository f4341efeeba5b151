//! Ten thousand worlds, those that once found something, and faults planted to be found.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use simtest::{Failure, Mode, Mutant, Report, run, run_mutant};

/// Worlds in the test command. A million: `cargo run --release -p simtest -- --seeds 1000000`.
const SEEDS: u64 = 10_000;

/// Seeds that found something once.
const REGRESSIONS: &[u64] = &[
    // Output after a running count was lost when the stream broke off.
    282, 366,
];

/// Runs the worlds of many seeds on all processors.
fn every(seeds: Range<u64>, run: impl Fn(u64) -> Result<Report, Box<Failure>> + Sync) -> Report {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut own = Report::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return own;
            }
            match run(seed) {
                Ok(report) => own.add(&report),
                Err(failure) => panic!("{failure}"),
            }
        }
    };
    let mut total = Report::default();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let own = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            total.add(&own);
        }
    });
    total
}

#[test]
fn ten_thousand_worlds_keep_their_promises() {
    let total = every(0..SEEDS, |seed| run(seed, Mode::Plain));
    // The worlds are worth what happens in them: in so many of them, at least.
    let least = [
        (
            1_000,
            &[
                "anthropic.messages",
                "another attempt",
                "asked on the way",
                "client gone",
                "clock step",
                "cumulative usage",
                "cut in a character",
                "cut in a line",
                "cut",
                "error event",
                "estimated",
                "failed append",
                "full disk",
                "gemini.generate",
                "hosted",
                "kill",
                "lost",
                "odd line ends",
                "openai.chat",
                "openai.completions",
                "openai.embeddings",
                "openai.responses",
                "partial",
                "power cut",
                "price change under way",
                "priced",
                "projected",
                "released",
                "reported",
                "repeated usage",
                "reset",
                "status 429",
                "status 4xx",
                "status 5xx",
                "unknown",
                "usage left out",
            ][..],
        ),
        (
            400,
            &[
                "broken before its head",
                "client_gone",
                "cut in a line end",
                "deepseek",
                "died in recovery",
                "early end",
                "failed cut",
                "failed sync",
                "fireworks",
                "groq",
                "html",
                "llama_cpp",
                "lost sync",
                "mistral",
                "no connection",
                "openai_compatible",
                "openrouter",
                "retry",
                "stall",
                "stream_error",
                "timeout",
                "together",
                "vllm",
                "xai",
            ][..],
        ),
        (100, &["lost sync seen"][..]),
    ];
    for (least, names) in least {
        for what in names {
            let worlds = total.worlds.get(what).copied().unwrap_or(0);
            assert!(worlds >= least, "{what}: in {worlds} worlds, of {:?}", total.worlds);
        }
    }
}

#[test]
fn projections_may_be_harmed_by_every_crash() {
    let total = every(0..400, |seed| run(seed, Mode::Store));
    let worlds = total.worlds.get("harmed projection").copied().unwrap_or(0);
    assert!(worlds >= 150, "{worlds} of {:?}", total.worlds);
}

#[test]
fn threads_that_race_for_the_journal_settle_once() {
    let total = every(0..600, |seed| run(seed, Mode::Race));
    for (what, least) in [("closed", 100), ("failed for good", 100), ("refused", 50)] {
        let worlds = total.worlds.get(what).copied().unwrap_or(0);
        assert!(worlds >= least, "{what}: in {worlds} worlds, of {:?}", total.worlds);
    }
}

#[test]
fn seeds_that_found_something_stay_found() {
    for &seed in REGRESSIONS {
        if let Err(failure) = run(seed, Mode::Plain) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_gateway_may_die_within_every_call_of_its_disk() {
    let total = every(0..40, |seed| {
        let mut all = Report::default();
        let calls = run(seed, Mode::CrashAt(u64::MAX))?.calls;
        for call in 0..calls {
            all.add(&run(seed, Mode::CrashAt(call))?);
        }
        Ok(all)
    });
    let deaths = total.worlds["died at a call"];
    assert!(deaths > 500, "{deaths}");
}

#[test]
fn a_seed_is_one_world() {
    let traces = |_| (0..300).map(|seed| run(seed, Mode::Plain).map(|report| report.trace));
    let (once, twice): (Vec<_>, Vec<_>) = (traces(0).collect(), traces(1).collect());
    assert_eq!(once, twice);
    let distinct: std::collections::BTreeSet<_> = once.into_iter().flatten().collect();
    assert_eq!(distinct.len(), 300);
}

#[test]
fn every_check_sees_the_fault_planted_for_it() {
    for &(mutant, check) in Mutant::ALL {
        let mut found = BTreeMap::<&str, u64>::new();
        let seen = (0..3_000).any(|seed| {
            let failure = run_mutant(seed, mutant).err();
            let id = failure.map(|failure| failure.violation.id);
            id.inspect(|id| *found.entry(id).or_default() += 1) == Some(check)
        });
        assert!(seen, "{check} does not see {mutant:?}; seen were {found:?}");
    }
}

//! Runs worlds by their seeds: one to look at, or very many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use simtest::{Failure, Mode, Report, Violation, run};

const USAGE: &str = "usage: simtest --seed N [--crash-at CALL | --store | --race] [--twice]
       simtest --seeds COUNT [--from N] [--jobs N] [--store | --race] [--twice]";

/// Failures that are printed before it stops.
const MOST_FAILURES: usize = 5;

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: Option<u64>,
    from: u64,
    jobs: u64,
    mode: Mode,
    twice: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let (from, count) = match (arguments.seed, arguments.seeds) {
        (Some(seed), None) => (seed, 1),
        (None, Some(count)) => (arguments.from, count),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let next = AtomicU64::new(0);
    let total = Mutex::new((Report::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| work(&arguments, from, count, &next, &total));
        }
    });
    let (report, failures) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    eprintln!("{:>12} {:>12}", "times", "seeds");
    for (name, count) in &report.counts {
        let worlds = report.worlds.get(name).copied().unwrap_or(0);
        eprintln!("{count:>12} {worlds:>12}  {name}");
    }
    let seen = next.into_inner().min(count);
    eprintln!("{seen} seeds from {from}: {} found something", failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}

fn work(
    arguments: &Arguments,
    from: u64,
    count: u64,
    next: &AtomicU64,
    total: &Mutex<(Report, Vec<Failure>)>,
) {
    let mut own = Report::default();
    loop {
        let index = next.fetch_add(1, Relaxed);
        if index >= count {
            break;
        }
        if index > 0 && index.is_multiple_of(10_000) {
            eprintln!("{index} of {count} seeds, from {from}");
        }
        let seed = from + index;
        let outcome = run(seed, arguments.mode);
        let outcome = if arguments.twice && outcome != run(seed, arguments.mode) {
            let what = "the same seed went two ways".to_owned();
            let violation = Violation { id: "determinism", what };
            Err(Box::new(Failure { seed, mode: arguments.mode, violation }))
        } else {
            outcome
        };
        match outcome {
            Ok(report) => own.add(&report),
            Err(failure) => {
                // At once: the rest of a long run may take days.
                eprintln!("{failure}\n");
                let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                total.1.push(*failure);
                if total.1.len() >= MOST_FAILURES {
                    next.store(count, Relaxed);
                }
            }
        }
    }
    total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.add(&own);
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.seeds = Some(number()?),
            "--from" => arguments.from = number()?,
            "--jobs" => arguments.jobs = number()?,
            "--crash-at" => arguments.mode = Mode::CrashAt(number()?),
            "--store" => arguments.mode = Mode::Store,
            "--race" => arguments.mode = Mode::Race,
            "--twice" => arguments.twice = true,
            _ => return None,
        }
    }
    Some(arguments)
}

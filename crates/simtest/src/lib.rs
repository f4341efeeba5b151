//! Seeded fault simulation: the real metering, tariff, journal and ledger on one thread in virtual
//! time, between upstreams whose bytes and true usage are known and a disk that fails.
//!
//! A seed is a world. It draws some faults, lets exchanges happen, kills the gateway now and then,
//! and checks what is left against a naive model:
//!
//! | check | what must hold |
//! |---|---|
//! | SIM-1 | every admitted exchange settles exactly once, once its gateway was started again |
//! | SIM-2 | what is read back is what was settled live; who follows reads the same |
//! | SIM-3 | the bill is the true usage at the prices of the book's text, to the pico-dollar |
//! | SIM-4 | a charge stands behind its price row in the journal |
//! | SIM-5 | what a client has whole is on the journal, also after a kill (a power cut: if synced) |
//! | SIM-6 | nothing is sent before its admission is on the journal |
//! | SIM-7 | bytes pass unchanged, but for the usage chunk that the client did not ask for |
//! | SIM-8 | what was not told is not told: output that passed is booked or unknown, never $0 |
//! | SIM-9 | a sound journal is read whole; a flipped bit never goes unseen |
//! | SIM-10 | a reply is complete, or failed, if and only if its end came |
//! | SIM-11 | hours: what groups bear and what is idle is the whole, and each bears its share |
//! | SIM-12 | the warehouse says what the whole journal says, whatever became of its files |
//!
//! The committer's threads are not of that one thread: they race for themselves ([`Mode::Race`]).
//!
//! `cargo run --release -p simtest -- --seed N` runs one, `--seeds N` many.

mod check;
mod exchange;
mod gateway;
mod hours;
mod kind;
mod model;
mod plan;
mod race;
mod replay;
mod reply;
mod totals;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use journal::Storage;

pub use plan::Mutant;
use world::World;

/// What must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The check: `SIM-1`; `panic` if the code broke down.
    pub id: &'static str,
    /// What was found.
    pub what: String,
}

/// A seed that found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How it was run.
    pub mode: Mode,
    /// What it found.
    pub violation: Violation,
}

/// How a seed is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As it is.
    #[default]
    Plain,
    /// The first gateway dies within this call of the storage.
    CrashAt(u64),
    /// Projections are stored in files, to which crashes do harm.
    Store,
    /// No world, but the committer's own threads, many who submit at once, and a disk that fails.
    Race,
}

/// What happened in a world.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// A hash of every event and every byte on the disk: equal for equal seeds.
    pub trace: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// In how many worlds it happened.
    pub worlds: BTreeMap<&'static str, u64>,
    /// Calls of the storage by the last gateway that was not the final one.
    pub calls: u64,
}

impl Violation {
    pub(crate) fn new(id: &'static str, what: String) -> Self {
        Self { id, what }
    }
}

impl Report {
    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Self) {
        for (sums, counts) in [(&mut self.counts, &other.counts), (&mut self.worlds, &other.worlds)]
        {
            for (name, count) in counts {
                *sums.entry(name).or_default() += count;
            }
        }
    }

    pub(crate) fn add_to(&mut self, name: &'static str, count: usize) {
        if count > 0 {
            *self.counts.entry(name).or_default() += count as u64;
        }
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// FNV-1a.
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Runs the world of a seed.
///
/// # Errors
/// [`Failure`] with the first thing that must not happen.
pub fn run(seed: u64, mode: Mode) -> Result<Report, Box<Failure>> {
    run_with(seed, mode, None)
}

/// Runs the world of a seed with a fault planted.
///
/// # Errors
/// As [`run`].
pub fn run_mutant(seed: u64, mutant: Mutant) -> Result<Report, Box<Failure>> {
    run_with(seed, Mode::Plain, Some(mutant))
}

fn run_with(seed: u64, mode: Mode, mutant: Option<Mutant>) -> Result<Report, Box<Failure>> {
    let shelf = (mode == Mode::Store).then(|| {
        let name = format!("farthing-simtest-{}-{seed}", std::process::id());
        std::env::temp_dir().join(name)
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| match mode {
        Mode::Race => race::race(seed),
        _ => run_world(seed, mode, mutant, shelf.as_deref()),
    }));
    if let Some(shelf) = shelf {
        // What cannot be removed is left to the system.
        drop(std::fs::remove_dir_all(shelf));
    }
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(Violation::new("panic", text.unwrap_or_default()))
    });
    let outcome = outcome.map(|mut report| {
        report.worlds = report.counts.keys().map(|name| (*name, 1)).collect();
        report
    });
    outcome.map_err(|violation| Box::new(Failure { seed, mode, violation }))
}

fn run_world(
    seed: u64,
    mode: Mode,
    mutant: Option<Mutant>,
    shelf: Option<&Path>,
) -> Result<Report, Violation> {
    let crash_at = match mode {
        Mode::CrashAt(call) => Some(call),
        _ => None,
    };
    let mut world = World::new(seed, mutant, crash_at, shelf)?;
    world.run()?;
    world.report.calls = world.storage.calls();
    world.finish()?;
    if !world.over {
        world.check_bill()?;
        world.check_flips()?;
    }
    for name in world.storage.list().unwrap_or_default() {
        world.report.mix(&world.storage.bytes(&name));
    }
    Ok(world.report)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, mode, violation: Violation { id, what } } = self;
        write!(
            f,
            "seed {seed} breaks {id}: {what}\n\nhint: cargo run --release -p simtest -- --seed {seed}"
        )?;
        match mode {
            Mode::Plain => Ok(()),
            Mode::CrashAt(call) => write!(f, " --crash-at {call}"),
            Mode::Store => f.write_str(" --store"),
            Mode::Race => f.write_str(" --race"),
        }
    }
}

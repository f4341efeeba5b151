//! `farthing journal`: the record of every exchange, as it is on disk.

use std::collections::HashMap;

use anyhow::bail;
use gateway::Clock;
use journal::{Body, Missing};
use quantity::grouped;
use warehouse::{Passed, Pruned, Pruning, Why};

use crate::bill::When;
use crate::config::Config;
use crate::data::DataDir;
use crate::{Place, output};

/// Check, print or prune the journal, the record of every exchange
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Read every record, check sums and sequence, and that every exchange settles once
    Check(Place),
    /// Print every record as a line of JSON
    Dump(Place),
    /// Remove old segments; what bills need of them stays, in the archive
    Prune(Prune),
}

/// Segments are files of about 64 MiB. One is pruned when all of it is older, its exchanges are settled,
/// and the archive has what bills need of it. `retention` in the configuration has `serve` do so.
#[derive(clap::Args, Debug)]
#[group(id = "age", required = true, multiple = false, args = ["before", "older_than"])]
struct Prune {
    /// Segments written before this time: 2026-08-01, or 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    before: Option<When>,
    /// Segments written longer ago than this: 90d, 12h
    #[arg(long, value_name = "AGE", value_parser = When::ago)]
    older_than: Option<When>,
    /// Only say what would be pruned
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Check(place) => check(&open(place)?),
        Command::Dump(place) => dump(&open(place)?),
        Command::Prune(arguments) => prune(arguments, &open(&arguments.place)?),
    }
}

fn open(place: &Place) -> anyhow::Result<DataDir> {
    DataDir::open(&Config::load(place)?.data_dir)
}

fn check(data: &DataDir) -> anyhow::Result<()> {
    let read = data.read()?;
    let mut out = format!(
        "{} records: {} settled exchanges, {} open, {} prices, {} adjustments, {} gaps, {} of a \
         newer version\n",
        grouped(read.records),
        grouped(read.settled),
        grouped(read.ledger.open() as u64),
        grouped(read.prices),
        grouped(read.adjustments),
        grouped(read.gaps.len() as u64),
        grouped(read.unknown),
    );
    if !read.pruned.is_empty() {
        out.push_str(&format!("pruned earlier: {}\n", described(data, &read.pruned)));
    }
    let passed: u64 = read.gaps.iter().map(|gap| gap.exchanges).fold(0, u64::saturating_add);
    if passed > 0 {
        out.push_str(&format!("{} exchanges passed without ledger\n", grouped(passed)));
    }
    for missing in &read.end.missing {
        out.push_str(&format!("{missing}\n"));
    }
    for tail in &read.end.tails {
        out.push_str(&format!(
            "{}: {} bytes at offset {} are no whole record: a writer at work, or the tail of one \
             that was killed, which the next one cuts\n",
            tail.file, tail.bytes, tail.offset
        ));
    }
    output::print(&out)?;
    let missing: u64 = read.end.missing.iter().map(Missing::count).fold(0, u64::saturating_add);
    if missing > 0 {
        bail!(
            "{} records are missing: they are neither in the journal nor pruned",
            grouped(missing)
        );
    }
    Ok(())
}

/// What segments were, and what is left of them.
fn described(data: &DataDir, pruned: &[Pruned]) -> String {
    let sum = |of: fn(&Pruned) -> u64| pruned.iter().map(of).sum::<u64>();
    format!(
        "{} segments with {} records, {}; what bills need of them, {}, is in {}",
        grouped(pruned.len() as u64),
        grouped(sum(Pruned::records)),
        size(sum(|one| one.bytes)),
        size(sum(|one| one.kept_bytes)),
        data.archive().display()
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{} bytes", grouped(bytes)),
        10_240..10_485_760 => format!("{} KiB", grouped(bytes >> 10)),
        _ => format!("{} MiB", grouped(bytes >> 20)),
    }
}

fn prune(arguments: &Prune, data: &DataDir) -> anyhow::Result<()> {
    let now = Clock::system().now();
    let when = arguments.before.or(arguments.older_than);
    let before = when.map_or(now, |when| when.at(now));
    let warehouse = data.warehouse()?;
    crate::project::tell_if_long(&warehouse)?;
    let Pruning { pruned, kept } = warehouse.prune(before, now, arguments.dry_run)?;
    let mut out = match (pruned.is_empty(), arguments.dry_run) {
        (true, _) => format!("nothing to prune: no further segment was complete before {before}\n"),
        (false, true) => format!("would prune {}\n", described(data, &pruned)),
        (false, false) => format!("pruned {}\n", described(data, &pruned)),
    };
    for (file, why) in kept {
        let why = match why {
            Why::Open => "an exchange in it is not settled",
            Why::Newer => "it holds records of a newer version",
        };
        out.push_str(&format!("{file} stays, with those that follow it: {why}\n"));
    }
    output::print(&out)
}

fn dump(data: &DataDir) -> anyhow::Result<()> {
    let mut out = String::new();
    // What an attempt was sent is told at its admission.
    let mut prompts = HashMap::new();
    data.warehouse()?.each(|passed| {
        let line = match passed {
            Passed::Pruned(pruned) => pruned_line(pruned),
            Passed::Record(record) => match record.decode()?.body {
                Body::Admitted(admission) => {
                    let line = report::record::admission(&admission);
                    prompts.insert(admission.exchange, admission.prompt);
                    line
                }
                Body::Dispatched(dispatch) => report::record::dispatch(&dispatch),
                Body::AttemptEnded(end) => {
                    report::record::attempt_end(&end, prompts.get(&end.exchange))
                }
                Body::Settled(settlement) => {
                    prompts.remove(&settlement.exchange);
                    report::record::settlement(&settlement)
                }
                Body::Price(price) => report::record::price(&price),
                Body::Adjusted(adjustment) => report::record::adjustment(&adjustment),
                Body::Gap(gap) => report::record::gap(&gap),
                Body::Unknown { kind, version, bytes, .. } => format!(
                    r#"{{"kind":"unknown","number":{kind},"version":{version},"bytes":{}}}"#,
                    bytes.len()
                ),
            },
        };
        out.push_str(line.trim_end());
        out.push('\n');
        if out.len() > 1 << 16 {
            output::print(&out)?;
            out.clear();
        }
        anyhow::Ok(())
    })?;
    output::print(&out)
}

/// Stands where the records of a pruned segment were; those that the archive keeps follow it.
fn pruned_line(pruned: &Pruned) -> String {
    format!(
        r#"{{"kind":"pruned","writer":"{:016x}","first_sequence":{},"records":{},"bytes":{},"at":"{}"}}"#,
        pruned.writer.0,
        pruned.first_sequence,
        pruned.records(),
        pruned.bytes,
        pruned.at
    )
}

//! `farthing journal`: the record of every exchange, as it is on disk.

use std::collections::HashMap;

use anyhow::bail;
use journal::Body;
use quantity::grouped;

use crate::config::Config;
use crate::data::DataDir;
use crate::{Place, output};

/// Check or print the journal, the record of every exchange
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
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Check(place) => check(&open(place)?),
        Command::Dump(place) => dump(&open(place)?),
    }
}

fn open(place: &Place) -> anyhow::Result<DataDir> {
    DataDir::open(&Config::load(place)?.data_dir)
}

fn check(data: &DataDir) -> anyhow::Result<()> {
    let read = data.read()?;
    let mut reader = data.journal()?;
    let mut records = 0_u64;
    while reader.next()?.is_some() {
        records += 1;
    }
    let tails: Vec<_> = reader.tails().collect();
    let mut out = format!(
        "{} records: {} settled exchanges, {} open, {} prices, {} of a newer version\n",
        grouped(records),
        grouped(read.settled),
        grouped(read.ledger.open() as u64),
        grouped(read.prices),
        grouped(read.unknown),
    );
    for tail in &tails {
        out.push_str(&format!(
            "{}: {} bytes at offset {} are no whole record: a writer at work, or the tail of one \
             that was killed, which the next one cuts\n",
            tail.file, tail.bytes, tail.offset
        ));
    }
    output::print(&out)?;
    if read.missing > 0 {
        bail!("{} records are missing in the middle of the journal", read.missing);
    }
    Ok(())
}

fn dump(data: &DataDir) -> anyhow::Result<()> {
    let mut reader = data.journal()?;
    let mut out = String::new();
    // What an attempt was sent is told at its admission.
    let mut prompts = HashMap::new();
    while let Some(record) = reader.next()? {
        let line = match record.decode()?.body {
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
            Body::Unknown { kind, version, bytes, .. } => format!(
                r#"{{"kind":"unknown","number":{kind},"version":{version},"bytes":{}}}"#,
                bytes.len()
            ),
        };
        out.push_str(line.trim_end());
        out.push('\n');
        if out.len() > 1 << 16 {
            output::print(&out)?;
            out.clear();
        }
    }
    output::print(&out)
}

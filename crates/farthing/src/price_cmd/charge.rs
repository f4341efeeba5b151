//! `farthing price charge`: itemised charges of usage records.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use quantity::{Billable, TokenCount, UnixTime, Usage};
use report::price::{Charged, Charges};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tariff::{Book, Key};

use crate::bill::book_line;
use crate::config::Config;
use crate::{Place, output};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Usage records, one JSON object a line; `-` for stdin
    ///
    /// {"provider": "openai", "model": "gpt-5-mini", "time": "2026-11-22T12:00:00Z", "tier": "standard",
    /// "tokens": {"input_uncached": 1200, "output_text": 300}}. The tier is the one that served; it, an
    /// "id" and a "region" may be left out. Beside classes of tokens, "tokens" may hold calls,
    /// web_searches and other units.
    #[arg(value_name = "FILE", verbatim_doc_comment)]
    file: PathBuf,
    /// One line of JSON for each record, with its charge; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// A usage record, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: Option<String>,
    provider: String,
    model: String,
    time: String,
    tier: Option<String>,
    region: Option<String>,
    tokens: Counts,
}

/// Counts by name, each once: of two, who says which is meant?
struct Counts(BTreeMap<String, u64>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Counts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counts by class of token or unit")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = BTreeMap::new();
                while let Some((name, count)) = map.next_entry::<String, u64>()? {
                    if counts.insert(name.clone(), count).is_some() {
                        let message = format!("expected `{name}` once in `tokens`, found it twice");
                        return Err(de::Error::custom(message));
                    }
                }
                Ok(Counts(counts))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let name = arguments.file.display().to_string();
    let input: Box<dyn BufRead> = if name == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(&arguments.file).with_context(|| format!("cannot open `{name}`"))?;
        Box::new(BufReader::new(file))
    };
    let mut charges = Charges::default();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in (1_u64..).zip(input.lines()) {
        let line = line.with_context(|| format!("cannot read `{name}`, line {number}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let outcome = one(&config.book, number, &line, |charged| {
            if arguments.json {
                return writeln!(out, "{}", charged.json()).context("cannot write to stdout");
            }
            charges.add(charged);
            Ok(())
        });
        // What was written of the lines before is right.
        outcome.with_context(|| format!("`{name}`, line {number}"))?;
    }
    out.flush().context("cannot write to stdout")?;
    drop(out);
    if arguments.json {
        return Ok(());
    }
    output::print(&charges.text(output::style(), &book_line(&config.book)))
}

/// Charges one record.
fn one(
    book: &Book,
    line: u64,
    text: &str,
    tell: impl FnOnce(&Charged<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let record: Record = serde_json::from_str(text).map_err(|error| {
        anyhow!(
            "expected a usage record such as {{\"provider\": ..., \"model\": ..., \"time\": ..., \
                 \"tokens\": {{\"input_uncached\": 1200}}}}, found: {error}"
        )
    })?;
    let at: UnixTime = record.time.parse().map_err(|error| anyhow!("invalid `time`: {error}"))?;
    let mut usage = Usage::default();
    for (item, count) in &record.tokens.0 {
        let Some(billable) = Billable::from_name(item) else {
            let known: Vec<_> = Billable::all().map(Billable::name).collect();
            bail!("invalid `tokens`: expected one of {}, found `{item}`", known.join(", "));
        };
        let count = TokenCount::new(*count).ok_or_else(|| {
            anyhow!("invalid `tokens.{item}`: expected a count below 2^63, found {count}")
        })?;
        match billable {
            Billable::Tokens(class) => usage.tokens[class] = count,
            Billable::Unit(unit) => usage.units[unit] = count,
        }
    }
    let key = Key {
        tier: record.tier.as_deref(),
        region: record.region.as_deref(),
        ..Key::new(&record.provider, &record.model, at)
    };
    let charged = book.charge(&key, &usage);
    let outcome = charged.as_ref().map(|(row, charge)| (*row, charge));
    tell(&Charged { id: record.id.as_deref(), line, key, usage: &usage, outcome })
}

//! `farthing price charge`: itemised charges of usage records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use quantity::{Billable, TokenClass, TokenCount, UnixTime, Usage, grouped};
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
    ///   {"provider": "openai", "model": "gpt-5-mini", "time": "2026-11-22T12:00:00Z",
    ///    "tier": "standard", "tokens": {"input_uncached": 1200, "cache_read": 800,
    ///    "output_text": 300, "reasoning": 120}}
    ///
    /// `time` is when the call was sent, an instant or a date (UTC), and also read as
    /// `timestamp`. `tier` is the one that served, also read as `service_tier`. It may be
    /// left out, as may `region` and an `id`, which is told again. `tokens` may be `usage`.
    ///
    /// Counts do not overlap: `input_uncached` is what no cache served or stored,
    /// `output_text` is without reasoning. `_tokens` behind a name changes nothing.
    ///
    ///   input   input_uncached, cache_read, cache_write_5m, cache_write_1h,
    ///           input_audio, input_image, input_video,
    ///           cache_read_audio, cache_read_image, cache_read_video
    ///   output  output_text, reasoning, output_audio, output_image, output_video
    ///   others  calls, web_searches, file_searches, audio_seconds, characters, pages
    ///
    /// What has no price is told as unpriced, and why. A line that is no such record is told
    /// with its number, and makes the exit code 1; the others are charged all the same.
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
    #[serde(alias = "timestamp")]
    time: String,
    #[serde(alias = "service_tier")]
    tier: Option<String>,
    region: Option<String>,
    #[serde(alias = "usage")]
    tokens: Counts,
}

/// How many lines that are no records are told one by one.
const TOLD: usize = 20;

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
    let (mut read, mut bad) = (0_u64, Vec::new());
    for (number, line) in (1_u64..).zip(input.split(b'\n')) {
        let line = line.with_context(|| format!("cannot read `{name}`, line {number}"))?;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        read += 1;
        let told = match parse(line) {
            Ok(record) => record.charge(&config.book, number, |charged| match arguments.json {
                true => Some(charged.json()),
                false => {
                    charges.add(charged);
                    None
                }
            }),
            Err(error) => {
                let error = format!("{error:#}");
                let json = arguments.json.then(|| report::price::unread(number, &error));
                bad.push((number, error));
                json
            }
        };
        if let Some(json) = told {
            writeln!(out, "{json}").context("cannot write to stdout")?;
        }
    }
    out.flush().context("cannot write to stdout")?;
    drop(out);
    if !arguments.json {
        output::print(&charges.text(output::style(), &book_line(&config.book)))?;
    }
    if bad.is_empty() {
        return Ok(());
    }
    let mut message =
        format!("`{name}`: {} of {} lines are no usage records", bad.len(), grouped(read));
    for (number, error) in bad.iter().take(TOLD) {
        message.push_str(&format!("\nline {number}: {error}"));
    }
    if bad.len() > TOLD {
        message.push_str(&format!("\nand {} more", bad.len() - TOLD));
    }
    bail!(message)
}

/// A record with its counts by what they are for.
struct Read {
    record: Record,
    at: UnixTime,
    usage: Usage,
}

/// Reads a line.
fn parse(line: &[u8]) -> anyhow::Result<Read> {
    let record: Record = serde_json::from_slice(line).map_err(|error| {
        anyhow!(
            "expected a usage record such as {{\"provider\": ..., \"model\": ..., \"time\": ..., \
                 \"tokens\": {{\"input_uncached\": 1200}}}}, found: {error}"
        )
    })?;
    let at: UnixTime = record.time.parse().map_err(|error| anyhow!("invalid `time`: {error}"))?;
    let mut usage = Usage::default();
    let mut seen = BTreeSet::new();
    for (name, count) in &record.tokens.0 {
        let item = billable(name)?;
        if !seen.insert(item) {
            bail!("invalid `tokens`: expected `{item}` once, found it twice");
        }
        let count = TokenCount::new(*count).ok_or_else(|| {
            anyhow!("invalid `tokens.{name}`: expected a count below 2^63, found {count}")
        })?;
        match item {
            Billable::Tokens(class) => usage.tokens[class] = count,
            Billable::Unit(unit) => usage.units[unit] = count,
        }
    }
    Ok(Read { record, at, usage })
}

/// What a count is for.
fn billable(name: &str) -> anyhow::Result<Billable> {
    let short = name.strip_suffix("_tokens").unwrap_or(name);
    if let Some(item) =
        Billable::from_name(name).or_else(|| TokenClass::from_name(short).map(Billable::Tokens))
    {
        return Ok(item);
    }
    // Providers' own names, of which one must know whether they have the others inside.
    let expected = match short {
        "input" | "prompt" => {
            "`input_uncached`, without what a cache served (`cache_read`) or stored (`cache_write_5m`)"
                .to_owned()
        }
        "output" | "completion" => "`output_text`, without `reasoning`".to_owned(),
        "cached" | "cached_input" | "cache_read_input" => "`cache_read`".to_owned(),
        "cache_write" | "cache_creation" | "cache_creation_input" => {
            "`cache_write_5m` or `cache_write_1h`".to_owned()
        }
        _ => {
            let known: Vec<_> = Billable::all().map(Billable::name).collect();
            format!("one of {}", known.join(", "))
        }
    };
    bail!("invalid `tokens`: expected {expected}, found `{name}`")
}

impl Read {
    fn charge<T>(&self, book: &Book, line: u64, tell: impl FnOnce(&Charged<'_>) -> T) -> T {
        let Self { record, at, usage } = self;
        let key = Key {
            tier: record.tier.as_deref(),
            region: record.region.as_deref(),
            ..Key::new(&record.provider, &record.model, *at)
        };
        let charged = book.charge(&key, usage);
        let outcome = charged.as_ref().map(|(row, charge)| (*row, charge));
        tell(&Charged { id: record.id.as_deref(), line, key, usage, outcome })
    }
}

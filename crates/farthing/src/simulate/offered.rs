//! The workload that is simulated: a trace from a file, or one made from a seed.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use report::simulation::Source;
use servesim::{Incoming, Prefix, Request};
use workload::{AzureReader, BlockReader, NamedRow, Poisson, Row, TraceError};

use super::{Arguments, Positive};

/// Requests of a workload that nobody says the number of.
const REQUESTS: u32 = 10_000;

/// A workload that can be gone through several times.
pub(super) struct Traffic {
    kind: Kind,
    /// No more than so many requests.
    most: Option<u32>,
}

enum Kind {
    Trace {
        file: PathBuf,
        scale: Positive,
    },
    /// Without a rate, one a second.
    Poisson {
        rate: Option<Positive>,
        input: u32,
        output: u32,
        seed: u64,
    },
}

impl Traffic {
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let Arguments { trace, scale, rate, input, output, requests, seed, .. } = arguments;
        if let Some(file) = trace {
            let kind = Kind::Trace { file: file.clone(), scale: scale.clone() };
            return Ok(Self { kind, most: *requests });
        }
        let (Some(input), Some(output)) = (*input, *output) else {
            return Err(anyhow!("expected --trace, or --in and --out"));
        };
        if rate.is_none() && arguments.find_rate.is_none() {
            return Err(anyhow!("expected --rate, or --find-rate"));
        }
        let kind = Kind::Poisson { rate: rate.clone(), input, output, seed: *seed };
        Ok(Self { kind, most: Some(requests.unwrap_or(REQUESTS)) })
    }

    pub(super) fn source(&self) -> Source {
        match &self.kind {
            Kind::Trace { file, scale } => {
                Source::Trace { file: file.display().to_string(), scale: scale.text.clone() }
            }
            &Kind::Poisson { ref rate, input, output, seed } => {
                let rate = rate.as_ref().map(|rate| rate.text.clone());
                Source::Poisson { rate, input, output, seed }
            }
        }
    }

    /// Whether it tells what prompts have in common.
    pub(super) fn names_blocks(&self) -> bool {
        matches!(&self.kind, Kind::Trace { file, .. } if names_blocks(file))
    }

    /// From the first one, all coming so many times as fast.
    pub(super) fn requests(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>>>> {
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        Ok(match &self.kind {
            Kind::Trace { file, scale } => {
                let name = file.display().to_string();
                let open = File::open(file).with_context(|| format!("cannot read {name}"))?;
                let reader = BufReader::new(open);
                let form = if names_blocks(file) {
                    Form::Blocks(BlockReader::default())
                } else {
                    Form::Azure(AzureReader::default())
                };
                let lines = Lines { name, reader, form, line: 0 };
                let scale = scale.value * faster;
                let faster = move |row: Row| Row { at: row.at.div_f64(scale), ..row };
                Box::new(lines.take(most).map(move |row| {
                    let (row, prefix) = row?;
                    Ok(Incoming { request: request(&faster(row))?, prefix })
                }))
            }
            &Kind::Poisson { ref rate, input, output, seed } => {
                let rate = rate.as_ref().map_or(1.0, |rate| rate.value);
                let gap = Duration::from_secs_f64(1.0 / (rate * faster));
                let rows = Poisson::new(seed, gap, input.into(), output.into());
                Box::new(rows.take(most).map(|row| Ok(request(&row)?.into())))
            }
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Trace { file, .. } => write!(f, "{}", file.display()),
            Kind::Poisson { .. } => f.write_str("the workload"),
        }
    }
}

/// Whether a trace is of JSON lines, which name the blocks of prompts.
fn names_blocks(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

fn request(row: &Row) -> anyhow::Result<Request> {
    Request::of(row).with_context(|| {
        let (at, tokens) = (row.at.as_secs(), row.input.get().max(row.output.get()));
        format!(
            "a request after {at} s of {tokens} tokens: expected at most 213 days and 2^32 tokens"
        )
    })
}

/// The rows of a trace's file. Nothing comes after an error.
struct Lines {
    name: String,
    reader: BufReader<File>,
    form: Form,
    line: u64,
}

/// What the lines look like.
enum Form {
    Azure(AzureReader),
    Blocks(BlockReader),
}

impl Form {
    /// Far more than a line has, and how much that is: names of a million tokens in blocks of 16 are
    /// 1.3 MB.
    const fn line_bytes(&self) -> (u64, &'static str) {
        match self {
            Self::Azure(_) => (1 << 12, "less than 4 KiB in a line"),
            Self::Blocks(_) => (1 << 22, "less than 4 MiB in a line"),
        }
    }

    fn line(&mut self, line: &str) -> Result<Option<(Row, Option<Prefix>)>, TraceError> {
        Ok(match self {
            Self::Azure(reader) => reader.line(line)?.map(|row| (row, None)),
            Self::Blocks(reader) => reader.line(line)?.map(|row| {
                let NamedRow { row, block_tokens, names } = row;
                (row, Some(Prefix::new(names, block_tokens)))
            }),
        })
    }
}

impl Lines {
    fn next_row(&mut self) -> anyhow::Result<Option<(Row, Option<Prefix>)>> {
        let mut line = Vec::new();
        let (most, less) = self.form.line_bytes();
        loop {
            line.clear();
            self.line += 1;
            let at_most = &mut self.reader.by_ref().take(most);
            if at_most.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let wrong = |expected: &str| anyhow!("line {}: expected {expected}", self.line);
            if line.len() as u64 == most {
                return Err(wrong(less));
            }
            let text = str::from_utf8(&line).map_err(|_| wrong("a line of UTF-8"))?;
            let Some((row, prefix)) = self.form.line(text)? else { continue };
            if row.input.get() == 0 || row.output.get() == 0 {
                let expected = "at least one token of a prompt and one of a reply";
                return Err(anyhow!("{}, found `{}`", wrong(expected), text.trim_end()));
            }
            return Ok(Some((row, prefix)));
        }
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<(Row, Option<Prefix>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().with_context(|| self.name.clone());
        row.transpose()
    }
}

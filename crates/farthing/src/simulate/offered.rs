//! The workload that is simulated: a trace from a file, or one made from a seed.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use report::simulation::Source;
use servesim::{Incoming, Prefix, Request};
use workload::{Columns, NamedRow, Poisson, Row, TraceReader};

use super::{Arguments, Positive};

/// Requests of a workload that nobody says the number of.
const REQUESTS: u32 = 10_000;
/// Far more than a line of a trace has: names of a million tokens in blocks of 16 are 1.3 MB.
const LINE_BYTES: u64 = 1 << 22;

/// A workload that can be gone through several times.
pub(super) struct Traffic {
    kind: Kind,
    /// No more than so many requests.
    most: Option<u32>,
    /// Requests of the trace that had no reply, once it was gone through.
    left_out: AtomicU64,
}

enum Kind {
    Trace {
        file: PathBuf,
        columns: Option<Columns>,
        /// The part of it that is played.
        from: Duration,
        until: Duration,
        scale: Positive,
        /// Whether it is told what prompts have in common.
        named: bool,
    },
    /// Without a rate, one a second.
    Poisson {
        rate: Option<Positive>,
        input: u32,
        output: u32,
        /// The coefficient of variation of gaps, if it is not that of a Poisson process.
        cv: Option<Positive>,
        seed: u64,
    },
}

impl Traffic {
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let Arguments { trace, scale, rate, input, output, requests, seed, .. } = arguments;
        let left_out = AtomicU64::new(0);
        if let Some(file) = trace {
            let from = arguments.from.unwrap_or(Duration::ZERO);
            let until = arguments.until.unwrap_or(Duration::MAX);
            anyhow::ensure!(
                from < until,
                "--from is not before --until: nothing of the trace is between"
            );
            let (file, columns) = (file.clone(), arguments.columns.clone());
            let (scale, named) = (scale.clone(), !arguments.no_prefix_caching);
            let kind = Kind::Trace { file, columns, from, until, scale, named };
            return Ok(Self { kind, most: *requests, left_out });
        }
        let (Some(input), Some(output)) = (*input, *output) else {
            return Err(anyhow!("expected --trace, or --in and --out"));
        };
        if rate.is_none() && arguments.find_rate.is_none() {
            return Err(anyhow!("expected --rate, or --find-rate"));
        }
        let (rate, cv) = (rate.clone(), arguments.cv.clone());
        let kind = Kind::Poisson { rate, input, output, cv, seed: *seed };
        Ok(Self { kind, most: Some(requests.unwrap_or(REQUESTS)), left_out })
    }

    /// Where the requests are from. Of a trace that was gone through, also what was left out of it.
    pub(super) fn source(&self) -> anyhow::Result<Source> {
        Ok(match &self.kind {
            Kind::Trace { file, columns, from, until, scale, .. } => {
                let mut lines = Lines::open(file, columns.clone(), &self.left_out)?;
                lines.next_row()?;
                let format = lines.reader.format().unwrap_or("unknown").to_owned();
                let part = (*from > Duration::ZERO || *until < Duration::MAX).then(|| {
                    let seconds = |time: &Duration| time.as_secs_f64();
                    match *until {
                        Duration::MAX => format!("after {} s", seconds(from)),
                        _ => format!("from {} s to {} s", seconds(from), seconds(until)),
                    }
                });
                Source::Trace {
                    file: file.display().to_string(),
                    format,
                    part,
                    left_out: self.left_out.load(Ordering::Relaxed),
                    scale: scale.text.clone(),
                }
            }
            &Kind::Poisson { ref rate, input, output, ref cv, seed } => {
                let [rate, cv] = [rate, cv].map(|one| one.as_ref().map(|one| one.text.clone()));
                Source::Poisson { rate, input, output, cv, seed }
            }
        })
    }

    /// Whether it tells what prompts have in common, and that is to be used.
    pub(super) fn names_blocks(&self) -> anyhow::Result<bool> {
        let Kind::Trace { file, columns, named: true, .. } = &self.kind else { return Ok(false) };
        let mut lines = Lines::open(file, columns.clone(), &self.left_out)?;
        let first = lines.next_row().with_context(|| lines.name.clone())?;
        Ok(first.is_some() && lines.reader.names_blocks())
    }

    /// From the first one, all coming so many times as fast.
    pub(super) fn requests(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        Ok(match self.kind {
            Kind::Trace { ref file, ref columns, from, until, ref scale, named } => {
                let lines = Lines::open(file, columns.clone(), &self.left_out)?;
                let scale = scale.value * faster;
                let at = move |row: &anyhow::Result<NamedRow>| {
                    row.as_ref().map_or(from, |row| row.row.at)
                };
                // The first line that is wrong ends it, wherever it is.
                let part = lines.skip_while(move |row| at(row) < from);
                let part = part.take_while(move |row| at(row) < until).take(most);
                Box::new(part.map(move |row| {
                    let NamedRow { row, block_tokens, names } = row?;
                    let request = request(&Row { at: (row.at - from).div_f64(scale), ..row })?;
                    let prefix =
                        (named && !names.is_empty()).then(|| Prefix::new(names, block_tokens));
                    Ok(Incoming { request, prefix })
                }))
            }
            Kind::Poisson { ref rate, input, output, ref cv, seed } => {
                let rate = rate.as_ref().map_or(1.0, |rate| rate.value);
                let gap = Duration::from_secs_f64(1.0 / (rate * faster));
                let rows = Poisson::new(seed, gap, input.into(), output.into());
                let rows = match cv {
                    Some(cv) => rows.with_cv(cv.value),
                    None => rows,
                };
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

fn request(row: &Row) -> anyhow::Result<Request> {
    Request::of(row).with_context(|| {
        let (at, tokens) = (row.at.as_secs(), row.input.get().max(row.output.get()));
        format!(
            "a request after {at} s of {tokens} tokens: expected at most 213 days and 2^32 tokens"
        )
    })
}

/// The rows of a trace's file. Nothing comes after an error.
struct Lines<'a> {
    name: String,
    file: BufReader<File>,
    reader: TraceReader,
    line: u64,
    left_out: &'a AtomicU64,
}

impl<'a> Lines<'a> {
    fn open(
        path: &Path,
        columns: Option<Columns>,
        left_out: &'a AtomicU64,
    ) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let (file, reader) = (BufReader::new(file), TraceReader::new(columns));
        Ok(Self { name, file, reader, line: 0, left_out })
    }

    fn next_row(&mut self) -> anyhow::Result<Option<NamedRow>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let at_most = &mut self.file.by_ref().take(LINE_BYTES);
            if at_most.read_until(b'\n', &mut line)? == 0 {
                self.left_out.store(self.reader.left_out(), Ordering::Relaxed);
                return Ok(None);
            }
            let wrong = |expected: &str| anyhow!("line {}: expected {expected}", self.line);
            if line.len() as u64 == LINE_BYTES {
                return Err(wrong("less than 4 MiB in a line"));
            }
            let text = str::from_utf8(&line).map_err(|_| wrong("a line of UTF-8"))?;
            let Some(named) = self.reader.line(text)? else { continue };
            if named.row.input.get() == 0 || named.row.output.get() == 0 {
                let expected = "at least one token of a prompt and one of a reply";
                return Err(anyhow!("{}, found `{}`", wrong(expected), text.trim_end()));
            }
            return Ok(Some(named));
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = anyhow::Result<NamedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().with_context(|| self.name.clone());
        row.transpose()
    }
}

//! The workload that is simulated: a trace from a file, or one made from a seed.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use report::simulation::Source;
use servesim::{Incoming, Prefix, Request};
use workload::{Columns, NamedRow, Poisson, Row};

use super::{Arguments, Positive, Until};
use crate::bill::period;
use crate::config::Config;
use crate::metered::Calls;
use crate::trace_file::Lines;

/// Requests of a workload that nobody says the number of.
const REQUESTS: u32 = 10_000;

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
    Ledger {
        calls: Calls,
        route: Option<String>,
        scale: Positive,
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
        if arguments.from_ledger {
            let config = Config::load(&arguments.place)?;
            let now = gateway::Clock::system().now();
            let until = arguments.until.as_ref().map(Until::when).transpose()?;
            let period = period(arguments.since, until, now)?;
            let route = arguments.route.clone();
            let calls = Calls::read(&config, route.as_deref(), period)?;
            let (scale, named) = (scale.clone(), !arguments.no_prefix_caching);
            let kind = Kind::Ledger { calls, route, scale, named };
            return Ok(Self { kind, most: *requests, left_out });
        }
        if let Some(file) = trace {
            let from = arguments.from.unwrap_or(Duration::ZERO);
            let until = arguments.until.as_ref().map_or(Ok(Duration::MAX), Until::span)?;
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
            return Err(anyhow!("expected --trace, --from-ledger, or --in and --out"));
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
                let mut lines = Lines::open(file, columns.clone(), 1, &self.left_out)?;
                lines.next().transpose()?;
                let format = lines.reader().format().unwrap_or("unknown").to_owned();
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
            Kind::Ledger { calls, route, scale, .. } => Source::Ledger {
                route: route.clone(),
                unknown: calls.unknown,
                without_tokens: calls.without_tokens,
                estimated: calls.estimated,
                input: calls.input(),
                cached: calls.cached,
                scale: scale.text.clone(),
            },
            &Kind::Poisson { ref rate, input, output, ref cv, seed } => {
                let [rate, cv] = [rate, cv].map(|one| one.as_ref().map(|one| one.text.clone()));
                Source::Poisson { rate, input, output, cv, seed }
            }
        })
    }

    /// Whether it tells what prompts have in common, and that is to be used.
    pub(super) fn names_blocks(&self) -> anyhow::Result<bool> {
        let (file, columns) = match &self.kind {
            Kind::Trace { file, columns, named: true, .. } => (file, columns),
            Kind::Ledger { calls, named: true, .. } => {
                return Ok(calls.rows().any(|row| !row.names.is_empty()));
            }
            _ => return Ok(false),
        };
        let mut lines = Lines::open(file, columns.clone(), 1, &self.left_out)?;
        Ok(lines.next().transpose()?.is_some() && lines.reader().names_blocks())
    }

    /// From the first one, all coming so many times as fast.
    pub(super) fn requests(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        Ok(match self.kind {
            Kind::Trace { ref file, ref columns, from, until, ref scale, named } => {
                let lines = Lines::open(file, columns.clone(), 1, &self.left_out)?;
                let scale = scale.value * faster;
                let at = move |row: &anyhow::Result<NamedRow>| {
                    row.as_ref().map_or(from, |row| row.row.at)
                };
                // The first line that is wrong ends it, wherever it is.
                let part = lines.skip_while(move |row| at(row) < from);
                let part = part.take_while(move |row| at(row) < until).take(most);
                Box::new(part.map(move |row| incoming(row?, from, scale, named)))
            }
            Kind::Ledger { ref calls, ref scale, named, .. } => {
                let scale = scale.value * faster;
                let rows = calls.rows().take(most);
                Box::new(rows.map(move |row| incoming(row, Duration::ZERO, scale, named)))
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
            Kind::Ledger { .. } => f.write_str("the ledger"),
            Kind::Poisson { .. } => f.write_str("the workload"),
        }
    }
}

/// A request that came after a time, so many times as fast.
fn incoming(
    named_row: NamedRow,
    from: Duration,
    faster: f64,
    named: bool,
) -> anyhow::Result<Incoming> {
    let NamedRow { row, block_tokens, names } = named_row;
    let request = request(&Row { at: (row.at - from).div_f64(faster), ..row })?;
    let prefix = (named && !names.is_empty()).then(|| Prefix::new(names, block_tokens));
    Ok(Incoming { request, prefix })
}

fn request(row: &Row) -> anyhow::Result<Request> {
    Request::of(row).with_context(|| {
        let (at, tokens) = (row.at.as_secs(), row.input.get().max(row.output.get()));
        format!(
            "a request after {at} s of {tokens} tokens: expected at most 213 days and 2^32 tokens"
        )
    })
}

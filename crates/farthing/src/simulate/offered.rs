//! The workload that is simulated: a trace from a file, what the gateway metered, or one made from a seed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use report::simulation::Source;
use servesim::{Incoming, Prefix, Request};
use workload::{Columns, NamedRow, Poisson, Random, Row, Sessions};

use super::Positive;
use super::asked::{Asked, Diurnal, Turns, Until};
use crate::bill::period;
use crate::config::Config;
use crate::metered::Calls;
use crate::trace_file::Trace;

/// Requests of a workload that nobody says the number of.
const REQUESTS: u32 = 10_000;
const DAY_S: f64 = 86_400.0;
/// As many classes of priority as an engine can have.
const MOST_CLASSES: usize = u8::MAX as usize;
/// No prompt of a session is longer.
const LONGEST: u64 = 10_000_000;

/// A workload that can be gone through several times.
pub(super) struct Traffic {
    kind: Kind,
    /// No more than so many requests.
    most: Option<u32>,
    /// The share that is served first, and what names who that is.
    first: Option<(f64, u64)>,
}

enum Kind {
    Trace {
        trace: Trace,
        /// The part of it that is played.
        from: Duration,
        until: Duration,
        scale: Positive,
        /// Whether it is told what prompts have in common.
        named: bool,
        /// What its column of priorities holds there, the lowest first, each of which is a class; empty
        /// without such a column.
        priorities: Vec<i64>,
    },
    Ledger {
        calls: Calls,
        route: Option<String>,
        scale: Positive,
        named: bool,
    },
    Made(Made),
}

/// Requests that nobody recorded.
struct Made {
    /// As it was asked for.
    rate: Option<String>,
    /// The mean time between two.
    gap: Duration,
    input: u32,
    output: u32,
    /// The coefficient of variation of gaps, if it is not that of a Poisson process.
    cv: Option<Positive>,
    diurnal: Option<Diurnal>,
    sessions: Option<Turns>,
    named: bool,
    seed: u64,
}

impl Traffic {
    pub(super) fn of(asked: &Asked, searched: bool) -> anyhow::Result<Self> {
        let Asked { trace, scale, rate, input, output, requests, seed, .. } = asked;
        let (scale, named) = (scale.clone(), !asked.no_prefix_caching);
        if asked.from_ledger {
            let config = Config::load(&asked.place)?;
            let now = gateway::Clock::system().now();
            let until = asked.until.as_ref().map(Until::when).transpose()?;
            let period = period(asked.since, until, now)?;
            let route = asked.route.clone();
            let calls = Calls::read(&config, route.as_deref(), period)?;
            return Ok(Self {
                kind: Kind::Ledger { calls, route, scale, named },
                most: *requests,
                first: None,
            });
        }
        if let Some(file) = trace {
            let from = asked.from.unwrap_or(Duration::ZERO);
            let until = asked.until.as_ref().map_or(Ok(Duration::MAX), Until::span)?;
            anyhow::ensure!(
                from < until,
                "--from is not before --until: nothing of the trace is between"
            );
            let trace = Trace::open(file, asked.columns.clone(), 1, *seed)?;
            let column = asked.columns.as_ref().and_then(Columns::priority);
            let priorities = match column {
                Some(column) => priorities(column, &trace, part(&trace, from, until, *requests)?)?,
                None => Vec::new(),
            };
            let kind = Kind::Trace { trace, from, until, scale, named, priorities };
            return Ok(Self { kind, most: *requests, first: None });
        }
        let (Some(input), Some(output)) = (*input, *output) else {
            return Err(anyhow!("expected --trace, --from-ledger, or --in and --out"));
        };
        if rate.is_none() && !searched {
            return Err(anyhow!("expected --rate, or --find-rate"));
        }
        let (diurnal, sessions) = (asked.diurnal.clone(), asked.sessions);
        if let Some(Turns { turns, .. }) = sessions {
            let last = u64::from(turns) * (u64::from(input) + u64::from(output));
            anyhow::ensure!(
                last <= LONGEST,
                "--sessions: a session of {turns} turns ends with {last} tokens; expected at most {LONGEST}"
            );
        }
        let per_second = rate.as_ref().map(|rate| rate.value);
        let a_day = per_second.filter(|_| diurnal.is_some()).map(|rate| rate * DAY_S);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and saturates"
        )]
        let usual = a_day.map_or(REQUESTS, |requests| (requests.ceil() as u32).max(1));
        let most = requests.unwrap_or(usual);
        // What is searched is played faster and slower: a day, or one a second.
        let unsaid = if diurnal.is_some() { f64::from(most) / DAY_S } else { 1.0 };
        let gap = Duration::from_secs_f64(1.0 / per_second.unwrap_or(unsaid));
        let (rate, cv) = (rate.as_ref().map(|rate| rate.text.clone()), asked.cv.clone());
        let seed = seed.unwrap_or(1);
        let made = Made { rate, gap, input, output, cv, diurnal, sessions, named, seed };
        Ok(Self { kind: Kind::Made(made), most: Some(most), first: None })
    }

    /// Where the requests are from. Of a trace that was gone through, also what was left out of it.
    pub(super) fn source(&self) -> anyhow::Result<Source> {
        Ok(match &self.kind {
            Kind::Trace { trace, from, until, scale, priorities, .. } => {
                let (format, _) = trace.format()?;
                let part = (*from > Duration::ZERO || *until < Duration::MAX).then(|| {
                    let seconds = |time: &Duration| time.as_secs_f64();
                    match *until {
                        Duration::MAX => format!("after {} s", seconds(from)),
                        _ => format!("from {} s to {} s", seconds(from), seconds(until)),
                    }
                });
                Source::Trace {
                    file: trace.name(),
                    format: format.to_owned(),
                    part,
                    left_out: trace.left_out(),
                    scale: scale.text.clone(),
                    seed: trace.seed(),
                    priorities: priorities.clone(),
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
            Kind::Made(Made { rate, input, output, cv, diurnal, sessions, seed, .. }) => {
                Source::Made {
                    rate: rate.clone(),
                    input: *input,
                    output: *output,
                    cv: cv.as_ref().map(|cv| cv.text.clone()),
                    diurnal: diurnal
                        .as_ref()
                        .map(|one| (one.peak_to_floor.clone(), one.peak_hour.clone())),
                    sessions: sessions.map(|Turns { turns, between }| (turns, between)),
                    seed: *seed,
                }
            }
        })
    }

    /// Whether it tells what prompts have in common, and that is to be used.
    pub(super) fn names_blocks(&self) -> anyhow::Result<bool> {
        Ok(match &self.kind {
            Kind::Trace { trace, named: true, .. } => trace.format()?.1,
            Kind::Ledger { calls, named: true, .. } => {
                calls.rows().any(|row| !row.names.is_empty())
            }
            Kind::Made(made) => made.named && made.sessions.is_some(),
            Kind::Trace { .. } | Kind::Ledger { .. } => false,
        })
    }

    /// The same, of which a share is served first.
    ///
    /// # Errors
    /// If a trace tells who is.
    pub(super) fn ranked(self, share: Option<f64>, seed: Option<u64>) -> anyhow::Result<Self> {
        if let Kind::Trace { trace, priorities, .. } = &self.kind {
            anyhow::ensure!(
                share.is_none() || priorities.is_empty(),
                "--priority-share: {} tells priorities, in the column that --columns names",
                trace.name()
            );
        }
        Ok(Self { first: share.map(|share| (share, seed.unwrap_or(1))), ..self })
    }

    /// How many classes of priority there are, if that is told or asked for.
    pub(super) fn classes(&self) -> Option<u8> {
        match &self.kind {
            Kind::Trace { priorities, .. } if !priorities.is_empty() => {
                Some(u8::try_from(priorities.len()).unwrap_or(u8::MAX))
            }
            _ => self.first.map(|_| 2),
        }
    }

    /// From the first one, all coming so many times as fast.
    pub(super) fn requests(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let all = self.told(faster)?;
        let Some((share, seed)) = self.first else { return Ok(all) };
        // Not the numbers that the arrivals are made of.
        let mut random = Random::new(seed).fork("priority");
        Ok(Box::new(all.map(move |request| {
            let priority = u8::from(!random.chance(share));
            request.map(|mut incoming| {
                incoming.request.priority = priority;
                incoming
            })
        })))
    }

    /// Requests whose replies are longer than sequences of so many tokens leave room for.
    pub(super) fn shortened(&self, most: u32) -> anyhow::Result<u64> {
        let mut all = self.told(1.0)?;
        all.try_fold(0, |count, request| {
            let request = request?.request;
            let whole = request.prompt.saturating_add(request.output);
            Ok(count + u64::from(request.prompt < most && whole > most))
        })
    }

    /// Of classes that a trace tells, or all of one.
    fn told(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        Ok(match self.kind {
            Kind::Trace { ref trace, from, until, ref scale, named, ref priorities } => {
                let scale = scale.value * faster;
                let rows = part(trace, from, until, self.most)?;
                Box::new(rows.map(move |row| {
                    let row = row?;
                    // One that was not there when they were gone through is the last.
                    let class = priorities.partition_point(|priority| *priority < row.priority);
                    let mut incoming = incoming(row, from, scale, named)?;
                    incoming.request.priority = u8::try_from(class).unwrap_or(u8::MAX);
                    Ok(incoming)
                }))
            }
            Kind::Ledger { ref calls, ref scale, named, .. } => {
                let scale = scale.value * faster;
                let rows = calls.rows().take(most);
                Box::new(rows.map(move |row| incoming(row, Duration::ZERO, scale, named)))
            }
            Kind::Made(ref made) => made.requests(faster, most),
        })
    }
}

impl Made {
    /// A day and the times between turns are as much shorter as all come faster.
    fn requests(
        &self,
        faster: f64,
        most: usize,
    ) -> Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_> {
        let turns = self.sessions.map_or(1, |sessions| sessions.turns);
        let plain = self.diurnal.is_none() && self.sessions.is_none();
        let gap = if plain { self.gap.div_f64(faster) } else { self.gap * turns };
        let rows = Poisson::new(self.seed, gap, self.input.into(), self.output.into());
        let rows = match &self.cv {
            Some(cv) => rows.with_cv(cv.value),
            None => rows,
        };
        if plain {
            return Box::new(rows.take(most).map(|row| Ok(request(&row)?.into())));
        }
        let rows = match &self.diurnal {
            Some(diurnal) => rows.with_day(diurnal.day),
            None => rows,
        };
        let between = self.sessions.map_or(Duration::ZERO, |sessions| sessions.between);
        let rows = Sessions::new(self.seed, rows, turns, between).take(most);
        let named = self.named && self.sessions.is_some();
        Box::new(rows.map(move |row| incoming(row, Duration::ZERO, faster, named)))
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Trace { trace, .. } => f.write_str(&trace.name()),
            Kind::Ledger { .. } => f.write_str("the ledger"),
            Kind::Made(_) => f.write_str("the workload"),
        }
    }
}

/// The rows of a part of a trace, at most so many. The first line that is wrong ends it, wherever it is.
fn part(
    trace: &Trace,
    from: Duration,
    until: Duration,
    most: Option<u32>,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<NamedRow>>> {
    let at = move |row: &anyhow::Result<NamedRow>| row.as_ref().map_or(from, |row| row.row.at);
    let rows = trace.rows()?.skip_while(move |row| at(row) < from);
    let most = most.map_or(usize::MAX, |most| most as usize);
    Ok(rows.take_while(move |row| at(row) < until).take(most))
}

/// The priorities that rows have, the lowest first.
fn priorities(
    column: &str,
    trace: &Trace,
    rows: impl Iterator<Item = anyhow::Result<NamedRow>>,
) -> anyhow::Result<Vec<i64>> {
    let mut found = BTreeSet::new();
    for row in rows {
        found.insert(row?.priority);
        anyhow::ensure!(
            found.len() <= MOST_CLASSES,
            "{}: the column `{column}` holds more than {MOST_CLASSES} different priorities; expected at most so \
             many, each of which is a class",
            trace.name()
        );
    }
    Ok(found.into_iter().collect())
}

/// A request that came after a time, so many times as fast.
fn incoming(
    named_row: NamedRow,
    from: Duration,
    faster: f64,
    named: bool,
) -> anyhow::Result<Incoming> {
    let NamedRow { row, block_tokens, names, .. } = named_row;
    // Slowed down, it may come later than can be counted at all, which is told as too late.
    let at = (row.at - from).as_secs_f64() / faster;
    let at = Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX);
    let request = request(&Row { at, ..row })?;
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

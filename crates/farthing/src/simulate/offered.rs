//! The workload that is simulated: a trace from a file, what the gateway metered, or one made from a seed.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use report::simulation::Source;
use servesim::{Incoming, Prefix, Request};
use workload::{NamedRow, Poisson, Random, Row, Sessions};

use super::Positive;
use super::asked::{Asked, Diurnal, Turns, Until};
use crate::bill::period;
use crate::config::Config;
use crate::metered::Calls;
use crate::trace_file::Trace;

/// Requests of a workload that nobody says the number of.
const REQUESTS: u32 = 10_000;
const DAY_S: f64 = 86_400.0;
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
            let kind = Kind::Trace { trace, from, until, scale, named };
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
            Kind::Trace { trace, from, until, scale, .. } => {
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
    pub(super) fn ranked(self, share: Option<f64>, seed: Option<u64>) -> Self {
        Self { first: share.map(|share| (share, seed.unwrap_or(1))), ..self }
    }

    /// From the first one, all coming so many times as fast.
    pub(super) fn requests(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let all = self.alike(faster)?;
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

    /// All of one class.
    fn alike(
        &self,
        faster: f64,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Incoming>> + '_>> {
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        Ok(match self.kind {
            Kind::Trace { ref trace, from, until, ref scale, named } => {
                let rows = trace.rows()?;
                let scale = scale.value * faster;
                let at = move |row: &anyhow::Result<NamedRow>| {
                    row.as_ref().map_or(from, |row| row.row.at)
                };
                // The first line that is wrong ends it, wherever it is.
                let part = rows.skip_while(move |row| at(row) < from);
                let part = part.take_while(move |row| at(row) < until).take(most);
                Box::new(part.map(move |row| incoming(row?, from, scale, named)))
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

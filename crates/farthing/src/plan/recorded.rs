//! Quantities that a scenario takes from what was recorded: the ledger, or a trace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facts::{Dimension, Measures, Query};
use planner::scenario::Recorded;
use planner::{HOURS_PER_MONTH, Var};
use quantity::{Period, TokenClass, UnixTime};

use crate::bill::{When, answer, period};
use crate::config::Config;
use crate::data::DataDir;
use crate::metered::Calls;
use crate::trace_file::Trace;

/// What was recorded, looked up once for each source.
pub(crate) struct Recordings<'a> {
    config: &'a Config,
    file: &'a Path,
    now: UnixTime,
    ledgers: BTreeMap<[Option<String>; 3], Sums>,
    spreads: BTreeMap<[Option<String>; 3], f64>,
    traces: BTreeMap<String, Sums>,
}

/// Sums over attempts, in the terms of a scenario. A trace does not tell them all.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    exchanges: f64,
    completed: Option<f64>,
    attempts: f64,
    input: f64,
    cached: Option<f64>,
    answer: f64,
    reasoning: Option<f64>,
    /// Attempts beyond the first, for each exchange.
    retries: Option<f64>,
    /// Of the output's square, for the spread; only of a trace.
    squares: Option<f64>,
    hours: f64,
}

impl<'a> Recordings<'a> {
    pub(crate) fn new(config: &'a Config, file: &'a Path, now: UnixTime) -> Self {
        let (ledgers, spreads, traces) = Default::default();
        Self { config, file, now, ledgers, spreads, traces }
    }

    /// What was recorded of a quantity.
    pub(crate) fn value(&mut self, var: Var, asked: &Recorded) -> anyhow::Result<f64> {
        let sums = match asked {
            Recorded::Ledger { route, since, until } => {
                let key = [route.clone(), since.clone(), until.clone()];
                if var == Var::Spread {
                    return match self.spreads.get(&key) {
                        Some(spread) => Ok(*spread),
                        None => {
                            let [route, since, until] = &key;
                            let period = self.period(since.as_deref(), until.as_deref())?;
                            let spread = self.spread(route.as_deref(), period)?;
                            Ok(*self.spreads.entry(key).or_insert(spread))
                        }
                    };
                }
                match self.ledgers.get(&key) {
                    Some(sums) => *sums,
                    None => {
                        let [route, since, until] = &key;
                        let sums =
                            self.ledger(route.as_deref(), since.as_deref(), until.as_deref())?;
                        *self.ledgers.entry(key).or_insert(sums)
                    }
                }
            }
            Recorded::Trace { file } => match self.traces.get(file) {
                Some(sums) => *sums,
                None => {
                    let sums = self.trace(file)?;
                    *self.traces.entry(file.clone()).or_insert(sums)
                }
            },
        };
        sums.value(var)
    }

    fn period(&self, since: Option<&str>, until: Option<&str>) -> anyhow::Result<Period> {
        let when = |text: Option<&str>| {
            let when = text.map(|text| text.parse::<When>().map_err(anyhow::Error::msg));
            when.transpose().context("expected a time such as `30d` or `2026-11-01`")
        };
        period(when(since)?, when(until)?, self.now)
    }

    /// Sums do not tell it: each exchange is read.
    fn spread(&self, route: Option<&str>, period: Period) -> anyhow::Result<f64> {
        let calls = Calls::read(self.config, route, period)?;
        let outputs = || calls.outputs().map(|tokens| tokens as f64);
        let squares = outputs().map(|tokens| tokens * tokens).sum();
        spread(outputs().count() as f64, outputs().sum(), squares)
    }

    fn ledger(
        &self,
        route: Option<&str>,
        since: Option<&str>,
        until: Option<&str>,
    ) -> anyhow::Result<Sums> {
        let period = self.period(since, until)?;
        let data = DataDir::open(&self.config.data_dir)?;
        let query = Query { by: vec![Dimension::Route], period };
        let answer = answer(&data, &query, self.now)?;
        // Derived routes go by the names that were given to them since.
        let answer = answer.renamed(&Dimension::Route, &self.config.settings.route_names);
        let mut total = Measures::default();
        let mut routes = Vec::new();
        for group in &answer.groups {
            let name = group.key.first().cloned().flatten().unwrap_or_default();
            if route.is_none_or(|route| route == name) {
                total.merge(&group.measures);
            }
            routes.push(name);
        }
        if total.attempts == 0 || total.exchanges == 0 {
            let of = route.map_or(String::new(), |route| format!(" of route `{route}`"));
            bail!(
                "the ledger has nothing{of} in that period; its routes then: {}",
                if routes.is_empty() { "none".to_owned() } else { routes.join(", ") }
            );
        }
        let start = period.start.or(answer.seen.map(|(first, _)| first));
        let end = period.end.unwrap_or(self.now).min(self.now);
        let span = start.map_or(std::time::Duration::ZERO, |start| end.since(start));
        let tokens = |fits: fn(TokenClass) -> bool| -> f64 {
            let some = total.tokens.iter().filter(|(class, _)| fits(*class));
            some.map(|(_, count)| *count).sum::<u64>() as f64
        };
        let reasoning = total.tokens[TokenClass::Reasoning] as f64;
        Ok(Sums {
            exchanges: total.exchanges as f64,
            completed: Some(total.completed as f64),
            attempts: total.attempts as f64,
            input: total.input() as f64,
            cached: Some(tokens(TokenClass::is_cache_read)),
            answer: total.output() as f64 - reasoning,
            reasoning: Some(reasoning),
            retries: Some((total.attempts as f64 / total.exchanges as f64 - 1.0).max(0.0)),
            squares: None,
            hours: span.as_secs_f64() / 3600.0,
        })
    }

    fn trace(&self, file: &str) -> anyhow::Result<Sums> {
        let path: PathBuf = self.file.parent().unwrap_or(Path::new("")).join(file);
        let mut sums = Sums { squares: Some(0.0), ..Sums::default() };
        let trace = Trace::open(&path, None, 0, None)?;
        for row in trace.rows()? {
            let row = row?.row;
            let (input, output) = (row.input.get() as f64, row.output.get() as f64);
            sums.exchanges += 1.0;
            sums.input += input;
            sums.answer += output;
            sums.squares = sums.squares.map(|squares| squares + output * output);
            sums.hours = row.at.as_secs_f64() / 3600.0;
        }
        sums.attempts = sums.exchanges;
        // Some formats tell of requests without a reply.
        let failed = trace.left_out();
        if failed > 0 {
            sums.completed = Some(sums.exchanges);
            sums.exchanges += failed as f64;
        }
        if sums.attempts == 0.0 {
            bail!("{}: no requests in it", path.display());
        }
        Ok(sums)
    }
}

/// Why a trace cannot say a quantity.
const TOLD: &str = "this trace does not tell it; the ledger does";

/// The standard deviation of replies over their mean.
fn spread(count: f64, sum: f64, squares: f64) -> anyhow::Result<f64> {
    let mean = sum / count;
    anyhow::ensure!(mean > 0.0, "there are no tokens of replies");
    Ok((squares / count - mean * mean).max(0.0).sqrt() / mean)
}

impl Sums {
    fn value(&self, var: Var) -> anyhow::Result<f64> {
        Ok(match var {
            Var::Tasks => {
                // Shorter spans would say little of a month.
                if self.hours < 0.1 {
                    bail!("what was recorded spans less than six minutes, too little for a rate");
                }
                self.exchanges / self.hours * HOURS_PER_MONTH
            }
            Var::Input => self.input / self.attempts,
            Var::Answer => self.answer / self.attempts,
            Var::Cached => self.cached.context(TOLD)? / self.input.max(1.0),
            Var::Reasoning => 1.0 + self.reasoning.context(TOLD)? / self.answer.max(1.0),
            Var::Retries => self.retries.context(TOLD)?,
            Var::Failures => 1.0 - self.completed.context(TOLD)? / self.exchanges,
            Var::Spread => {
                let squares = self.squares.context("the spread is of each reply, not of sums")?;
                spread(self.attempts, self.answer, squares)?
            }
            _ => bail!(
                "nothing recorded tells it; `demand.tasks` (an exchange being a task), `tokens.input`, `tokens.answer`, \
                 `tokens.cached`, `tokens.reasoning`, `tokens.spread`, `task.retries` and `task.failures` can be taken \
                 from there"
            ),
        })
    }
}

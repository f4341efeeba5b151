//! Quantities that a scenario takes from what was recorded: the ledger, or a trace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facts::{Dimension, Measures, Query};
use planner::scenario::Recorded;
use planner::{HOURS_PER_MONTH, Var};
use quantity::{TokenClass, UnixTime};
use workload::AzureReader;

use crate::bill::{When, answer, period};
use crate::config::Config;
use crate::data::DataDir;

/// What was recorded, looked up once for each source.
pub(super) struct Recordings<'a> {
    config: &'a Config,
    file: &'a Path,
    now: UnixTime,
    ledgers: BTreeMap<[Option<String>; 3], Sums>,
    traces: BTreeMap<String, Sums>,
}

/// Sums over attempts, in the terms of a scenario.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    exchanges: f64,
    completed: f64,
    attempts: f64,
    input: f64,
    cached: f64,
    answer: f64,
    reasoning: f64,
    /// Of output and of its square, for the spread; only of a trace.
    squares: Option<f64>,
    hours: f64,
}

impl<'a> Recordings<'a> {
    pub(super) fn new(config: &'a Config, file: &'a Path, now: UnixTime) -> Self {
        Self { config, file, now, ledgers: BTreeMap::new(), traces: BTreeMap::new() }
    }

    /// What was recorded of a quantity.
    pub(super) fn value(&mut self, var: Var, asked: &Recorded) -> anyhow::Result<f64> {
        let sums = match asked {
            Recorded::Ledger { route, since, until } => {
                let key = [route.clone(), since.clone(), until.clone()];
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

    fn ledger(
        &self,
        route: Option<&str>,
        since: Option<&str>,
        until: Option<&str>,
    ) -> anyhow::Result<Sums> {
        let when = |text: Option<&str>| {
            let when = text.map(|text| text.parse::<When>().map_err(anyhow::Error::msg));
            when.transpose().context("expected a time such as `30d` or `2026-11-01`")
        };
        let period = period(when(since)?, when(until)?, self.now)?;
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
            completed: total.completed as f64,
            attempts: total.attempts as f64,
            input: total.input() as f64,
            cached: tokens(|class| {
                matches!(
                    class,
                    TokenClass::CacheRead
                        | TokenClass::CacheReadAudio
                        | TokenClass::CacheReadImage
                        | TokenClass::CacheReadVideo
                )
            }),
            answer: total.output() as f64 - reasoning,
            reasoning,
            squares: None,
            hours: span.as_secs_f64() / 3600.0,
        })
    }

    fn trace(&self, file: &str) -> anyhow::Result<Sums> {
        let path: PathBuf = self.file.parent().unwrap_or(Path::new("")).join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut sums = Sums { squares: Some(0.0), ..Sums::default() };
        for row in AzureReader::rows(&text) {
            let row = row.with_context(|| path.display().to_string())?;
            let (input, output) = (row.input.get() as f64, row.output.get() as f64);
            sums.exchanges += 1.0;
            sums.input += input;
            sums.answer += output;
            sums.squares = sums.squares.map(|squares| squares + output * output);
            sums.hours = row.at.as_secs_f64() / 3600.0;
        }
        (sums.completed, sums.attempts) = (sums.exchanges, sums.exchanges);
        if sums.exchanges == 0.0 {
            bail!("{}: no requests in it", path.display());
        }
        Ok(sums)
    }
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
            Var::Cached => self.cached / self.input.max(1.0),
            Var::Reasoning => 1.0 + self.reasoning / self.answer.max(1.0),
            Var::Retries => (self.attempts / self.exchanges - 1.0).max(0.0),
            Var::Failures => 1.0 - self.completed / self.exchanges,
            Var::Spread => {
                let squares = self
                    .squares
                    .context("the ledger's sums do not tell the spread; a trace does")?;
                let mean = self.answer / self.exchanges;
                (squares / self.exchanges - mean * mean).max(0.0).sqrt() / mean.max(1e-9)
            }
            _ => bail!(
                "nothing recorded tells it; `demand.tasks` (an exchange being a task), `tokens.input`, `tokens.answer`, \
                 `tokens.cached`, `tokens.reasoning`, `tokens.spread` (of a trace), `task.retries` and `task.failures` \
                 can be taken from there"
            ),
        })
    }
}

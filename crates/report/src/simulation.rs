//! A workload on a serving setup, as simulated: throughput, latency, and what a token costs there.
//!
//! Nothing here was measured or is owed: times come of a model, and money is [`EstimatedUsd`], which
//! never becomes booked money.

use std::time::Duration;

use calibration::{Band, Metric, Regime};
use planner::Var;
use quantity::EstimatedUsd;
use roofline::{Memory, Row, Setup};
use servesim::{
    Classes, Engine, Goal, HighestRate, Link, Outcome, Report, SECOND_PS, Scaling, Slo, Timeline,
    Work,
};

mod html;
mod json;
mod lessons;
mod ranking;
mod search;
mod text;

pub use ranking::Ranking;

/// A simulated run, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Simulation<'a> {
    /// The model on its accelerators.
    pub setup: &'a Setup,
    /// What fits there.
    pub memory: &'a Memory,
    /// What the engine was set to.
    pub engine: &'a Engine,
    /// Copies of the setup that served.
    pub fleet: &'a Fleet,
    /// Where the requests are from.
    pub source: &'a Source,
    /// What a request must keep to be served well.
    pub slo: &'a Slo,
    /// How the rate was found, if it was searched.
    pub search: Option<&'a Search>,
    /// What all replicas came to, each up to the end of the last.
    pub run: &'a Report,
    /// What became of each class of priority, if there are several.
    pub classes: Option<&'a Classes>,
    /// Requests whose replies are ended early, for they are longer than a sequence may be.
    pub shortened: u64,
    /// What an accelerator costs by the hour.
    pub gpu_hour: Option<EstimatedUsd>,
    /// What a real day takes beside the run.
    pub beside: Beside,
}

/// What a real day takes beside what a run does, as shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// Replies that come to nothing and are asked for again, of all that are computed; below 1.
    pub failures: f64,
    /// Capacity above what the load needs, for bursts.
    pub headroom: f64,
    /// Replicas that stand by for those that fail.
    pub spare: u32,
    /// Monitoring, hands, second sites: of what GPUs cost.
    pub reliability: f64,
}

impl Default for Beside {
    /// As a plan assumes it where a scenario does not say it.
    fn default() -> Self {
        let of = |var: Var| var.spec().default.unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small whole number"
        )]
        let spare = of(Var::Spare) as u32;
        Self {
            failures: of(Var::Failures),
            headroom: of(Var::Headroom),
            spare,
            reliability: of(Var::Reliability),
        }
    }
}

/// Copies of a setup, and what they are for.
#[derive(Debug, Clone, PartialEq)]
pub enum Fleet {
    /// So many that all do the same.
    Copies(u32),
    /// Some compute prompts for others that decode.
    Pools(Pools),
    /// As many as are needed.
    Scaled(Scaled),
}

impl Fleet {
    /// How many there were all the time; `None` if they were started and stopped.
    fn replicas(&self) -> Option<u32> {
        match self {
            Self::Copies(replicas) => Some(*replicas),
            Self::Pools(Pools { prefill, decode, .. }) => {
                Some(prefill.replicas.saturating_add(decode.replicas))
            }
            Self::Scaled(_) => None,
        }
    }
}

/// Copies that were started and stopped by need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaled {
    /// By which rule.
    pub scaling: Scaling,
    /// How many there ever were.
    pub started: u32,
    /// How long it all lasted.
    pub span_ps: u64,
}

/// Copies that compute prompts, and copies that decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Pools {
    /// What KV caches are sent over.
    pub link: Link,
    /// Those that compute prompts.
    pub prefill: Pool,
    /// Those that decode.
    pub decode: Pool,
}

/// Some of the copies.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// How many.
    pub replicas: u32,
    /// What they came to.
    pub run: Box<Report>,
}

/// What came of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// All replicas together, each up to the end of the last.
    pub run: Report,
    /// Who they were.
    pub fleet: Fleet,
    /// What became of each class of priority, if there are several.
    pub classes: Option<Classes>,
}

/// A search for the highest rate; the run is at the best rate that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// What a rate had to keep.
    pub goal: Goal,
    /// The guess in closed form from which it went, in requests a second.
    pub guess: f64,
    /// What was found.
    pub found: HighestRate,
}

/// Where a workload is from. Figures are texts as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A recorded trace.
    Trace {
        /// The file.
        file: String,
        /// Whose format it has.
        format: String,
        /// Which part of it was played, if not all.
        part: Option<String>,
        /// Requests without a reply, which are left out.
        left_out: u64,
        /// How many times as fast it was played.
        scale: String,
        /// What names the requests, if they were drawn from tables.
        seed: Option<u64>,
        /// What its column of priorities holds, the lowest first, each of which is a class; empty
        /// without such a column.
        priorities: Vec<i64>,
    },
    /// What the gateway metered.
    Ledger {
        /// The one route whose exchanges these are.
        route: Option<String>,
        /// Exchanges that are no requests here, for nothing is known of their usage.
        unknown: u64,
        /// Those that had no prompt or no reply.
        without_tokens: u64,
        /// Requests whose usage was estimated.
        estimated: u64,
        /// Input tokens of all exchanges that are requests.
        input: u64,
        /// Of these, tokens that providers told to have read from a cache.
        cached: u64,
        /// How many times as fast they were played.
        scale: String,
    },
    /// Random arrivals of one size.
    Made {
        /// Requests per second; `None` where it was searched.
        rate: Option<String>,
        /// Tokens of each prompt.
        input: u32,
        /// Tokens of each reply.
        output: u32,
        /// The coefficient of variation of gaps; `None`: a Poisson process.
        cv: Option<String>,
        /// How the rate follows the day: peak over floor, and the hour of the peak.
        diurnal: Option<(String, String)>,
        /// Requests are turns of sessions: how many each has, and the mean time between them.
        sessions: Option<(u32, Duration)>,
        /// What names these arrivals.
        seed: u64,
    },
}

/// What is drawn of a run besides.
#[derive(Debug, Clone, Copy)]
pub struct Charts<'a> {
    /// The same workload at other rates, in requests a second and in their order.
    pub sweep: &'a [(f64, Served)],
    /// The run through time.
    pub timeline: &'a Timeline,
}

/// How a figure is spread over the time in which steps ran.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    mean: f64,
    p50: usize,
    p95: usize,
    most: usize,
}

impl Spread {
    /// Of times by index; `None` if there are none.
    fn of(times: &[u64]) -> Option<Self> {
        let total: u128 = times.iter().map(|&time| u128::from(time)).sum();
        let most = times.iter().rposition(|&time| time > 0)?;
        let sum: u128 = (0..).zip(times).map(|(index, &time)| index * u128::from(time)).sum();
        let quantile = |percent: u128| {
            let mut seen = 0;
            times.iter().position(|&time| {
                seen += u128::from(time);
                seen > 0 && seen * 100 >= total * percent
            })
        };
        let (p50, p95) = (quantile(50)?, quantile(95)?);
        Some(Self { mean: sum as f64 / total as f64, p50, p95, most })
    }
}

/// Electricity, in joules.
#[derive(Debug, Clone, Copy)]
struct Energy {
    /// Watts of an accelerator.
    watts: f64,
    /// In all.
    joules: f64,
    /// For a token of a prompt, cached or not.
    per_input: Option<f64>,
    /// For a token of a reply.
    per_output: Option<f64>,
}

/// A part of the time of all accelerators, with what it costs.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: &'static str,
    /// Time of one accelerator.
    gpu_ps: u64,
    /// Tokens of the class that caused it.
    tokens: Option<u64>,
}

impl Simulation<'_> {
    /// The 90 % interval of a quantity, from the errors of measured runs of this kind in this regime, wider where none was like
    /// this one; `None` only if the carried intervals are damaged.
    fn interval(&self, metric: Metric) -> Option<Band> {
        let wait = self.run.wait.mean_ps().unwrap_or(0.0);
        let wait_share = self.run.latency.mean_ps().map_or(0.0, |latency| wait / latency);
        let regime = Regime::of_arrivals(wait_share);
        let band = calibration::interval(self.setup, metric, regime).ok()?;
        let requests = self.completed().max(1) as f64;
        let lengths = [self.run.prompt_tokens, self.run.generated_tokens];
        let lengths = lengths.map(|tokens| tokens as f64 / requests);
        Some(match calibration::beyond(self.setup, lengths) {
            Some(why) => band.wider(&why),
            None => band,
        })
    }

    /// The sheets that the figures are from; what was fitted to own runs last.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        let setup = self.setup;
        let fit = setup.fit.as_ref().map(roofline::Fit::row);
        [setup.model.row(), setup.accelerator.row(), setup.engine.row()].into_iter().chain(fit)
    }

    fn accelerators_of_replica(&self) -> u32 {
        self.setup.layout.accelerators()
    }

    /// Replicas in the mean, each from its start to its stop.
    fn replicas(&self) -> f64 {
        let time = || self.run.time.total_ps() as f64 / self.span_ps() as f64;
        self.fleet.replicas().map_or_else(time, f64::from)
    }

    /// Accelerators in the mean.
    fn accelerators(&self) -> f64 {
        self.replicas() * f64::from(self.accelerators_of_replica())
    }

    /// So many of them: a whole number, or with a decimal where they were started and stopped.
    fn accelerators_text(&self) -> String {
        let places = if self.fleet.replicas().is_some() { 0 } else { 1 };
        text::decimals(self.accelerators(), places)
    }

    /// How long it lasted, in picoseconds.
    fn span_ps(&self) -> u64 {
        match self.fleet {
            Fleet::Scaled(scaled) => scaled.span_ps,
            _ => self.run.time.total_ps() / u64::from(self.fleet.replicas().unwrap_or(1).max(1)),
        }
    }

    /// So many of something per second; `None` if it took no time.
    fn per_second(&self, count: u64) -> Option<f64> {
        let span = self.span_ps();
        (span > 0).then(|| count as f64 * SECOND_PS as f64 / span as f64)
    }

    /// Requests per second while they came; `None` if they came at once.
    fn offered_per_second(&self) -> Option<f64> {
        let last_arrival_ps = self.run.last_arrival_ps;
        let gaps = self.run.requests().saturating_sub(1);
        (last_arrival_ps > 0).then(|| gaps as f64 * SECOND_PS as f64 / last_arrival_ps as f64)
    }

    /// What a trace's column of priorities holds, by class.
    fn priorities(&self) -> &[i64] {
        match self.source {
            Source::Trace { priorities, .. } => priorities,
            Source::Ledger { .. } | Source::Made { .. } => &[],
        }
    }

    fn has_slo(&self) -> bool {
        *self.slo != Slo::default()
    }

    fn completed(&self) -> u64 {
        self.run.count(Outcome::Completed)
    }

    /// Time of all accelerators by what caused it: input, cached input, output, idle. Sums to the total.
    fn parts(&self) -> [Part; 4] {
        let time = self.run.time;
        let all = u64::from(self.accelerators_of_replica());
        let part = |name, ps: u64, tokens| Part { name, gpu_ps: ps.saturating_mul(all), tokens };
        [
            part("input", time.input_ps, Some(self.run.prompt_tokens - self.run.cached_tokens)),
            part("cached input", time.cached_ps, Some(self.run.cached_tokens)),
            part("output", time.output_ps, Some(self.run.generated_tokens)),
            part("idle", time.idle_ps + time.cold_ps, None),
        ]
    }

    /// Those of them that there are, for without a prefix cache nothing is cached.
    fn shown_parts(&self) -> impl Iterator<Item = Part> {
        self.parts().into_iter().filter(|part| part.gpu_ps > 0 || part.tokens != Some(0))
    }

    /// Time of all accelerators.
    fn gpu_ps(&self) -> u64 {
        self.parts().iter().map(|part| part.gpu_ps).sum()
    }

    /// What accelerators cost in a time of one of them.
    fn cost(&self, gpu_ps: u64) -> Option<EstimatedUsd> {
        let hours = gpu_ps as f64 / SECOND_PS as f64 / 3600.0;
        EstimatedUsd::new(self.gpu_hour?.usd() * hours)
    }

    /// What a time of one accelerator costs for each of so many, times a factor.
    fn cost_per(&self, gpu_ps: u64, count: u64, factor: f64) -> Option<EstimatedUsd> {
        EstimatedUsd::new(self.cost(gpu_ps)?.usd() * factor / count as f64)
    }

    /// What all accelerators cost by the hour.
    fn hourly(&self) -> Option<EstimatedUsd> {
        EstimatedUsd::new(self.gpu_hour?.usd() * self.accelerators())
    }

    /// Time of all accelerators for each million useful tokens of replies, in seconds.
    fn gpu_seconds_per_useful_mtok(&self) -> Option<f64> {
        let tokens = self.run.good_generated_tokens;
        (tokens > 0).then(|| self.gpu_ps() as f64 / SECOND_PS as f64 / tokens as f64 * 1e6)
    }

    /// What all accelerators cost for each million useful tokens of replies.
    fn cost_per_useful_mtok(&self) -> Option<EstimatedUsd> {
        self.cost_per(self.gpu_ps(), self.run.good_generated_tokens, 1e6)
    }

    /// Electricity at most: the thermal design power of all accelerators, all the time.
    fn energy(&self) -> Option<Energy> {
        let watts = self.setup.accelerator.tdp_watts().ok()?;
        let joules = |gpu_ps: u64| gpu_ps as f64 / SECOND_PS as f64 * watts;
        let [input, cached, output, _] = self.parts();
        let per = |gpu_ps: u64, tokens: u64| (tokens > 0).then(|| joules(gpu_ps) / tokens as f64);
        Some(Energy {
            watts,
            joules: joules(self.gpu_ps()),
            per_input: per(input.gpu_ps.saturating_add(cached.gpu_ps), self.run.prompt_tokens),
            per_output: per(output.gpu_ps, self.run.generated_tokens),
        })
    }

    /// Operations and bytes of a run by what the accelerators could have done while they were busy: MFU and MBU.
    fn utilisation(&self, run: &Report) -> (Option<f64>, Option<f64>) {
        let gpu_s = run.time.busy_ps() as f64 / SECOND_PS as f64
            * f64::from(self.accelerators_of_replica());
        let of = |work: Option<u128>, peak: Result<f64, _>| -> Option<f64> {
            let peak: f64 = peak.map_err(|_: roofline::Missing| ()).ok()?;
            Some(work? as f64 / (peak * gpu_s)).filter(|share| share.is_finite())
        };
        let Setup { accelerator, formats, .. } = self.setup;
        let work = run.work;
        (
            of(work.flops, accelerator.flops(formats.weights.arithmetic())),
            of(work.bytes, accelerator.hbm_bytes_per_s()),
        )
    }

    /// What the reader must know of the figures.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.run.falls_behind() {
            notes.push(
                "requests came faster than they were served: the queue grew to the end, so latencies depend on how \
                 long the run is"
                    .to_owned(),
            );
        }
        let too_long = self.run.count(Outcome::TooLong);
        if too_long > 0 {
            notes.push(format!(
                "{} of the requests have a prompt that leaves no room within {} tokens, and were rejected",
                quantity::grouped(too_long),
                quantity::grouped(u64::from(self.engine.max_model_len)),
            ));
        }
        if self.shortened > 0 {
            notes.push(format!(
                "{} of the requests have longer replies than fit into {} tokens with their prompts: they end there",
                quantity::grouped(self.shortened),
                quantity::grouped(u64::from(self.engine.max_model_len)),
            ));
        }
        let mixes = self.setup.engine.mixes();
        if mixes == Ok(false) {
            notes.push(format!(
                "simulated with prompts and decodes in one step, which {} does only when it is told to",
                self.setup.engine.row().name()
            ));
        }
        if self.setup.layout.data > 1 {
            notes.push(
                "groups of data parallel GPUs are simulated as one scheduler with one KV cache, as if they were always \
                 balanced"
                    .to_owned(),
            );
        }
        if let Fleet::Pools(_) = self.fleet {
            notes.push(
                "no measured run had a pool for prompts and one that decodes: the intervals are those of replicas that do \
                 both"
                    .to_owned(),
            );
        }
        if self.memory.kv_bytes_per_sequence > 0.0 {
            notes.push(format!(
                "each running sequence takes {:.1} MiB besides in layers with a window, which is not taken off the KV \
                 cache here",
                self.memory.kv_bytes_per_sequence / (1 << 20) as f64
            ));
        }
        notes
    }
}

/// Tokens that were computed and came to nothing.
const fn wasted_tokens(work: &Work) -> u64 {
    work.preempted_tokens + work.abandoned_tokens
}

//! What a replica serves within an SLO, found by simulation.

use roofline::{ClosedLoop, Format, MemoryError, Setup, Steps};
use servesim::{Engine, Goal, Keeper, RANDOM_ARRIVALS, Record, Report, SECOND_PS};

use crate::mix::Mix;
use crate::scenario::Slo;

/// A setup that could serve, with everything looked up.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The model on its accelerators.
    pub setup: Setup,
    engine: Engine,
    steps: Steps,
}

/// What became of calls at a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Calls a second of one replica.
    pub rate: f64,
    /// Seconds to the first token that the SLO's share of calls kept; `None` if fewer got one.
    pub ttft_s: Option<f64>,
    /// Mean seconds for each further token that the SLO's share of calls kept.
    pub tpot_s: Option<f64>,
    /// Mean seconds from a call's arrival to its last token.
    pub latency_s: f64,
    /// Whether the SLO was kept, and calls served as fast as they came.
    pub met: bool,
    /// The share of time caused by input.
    pub input: f64,
    /// The share of time caused by output.
    pub output: f64,
}

/// Why nothing can be said of a setup.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CapacityError {
    /// The model does not fit, or a figure is missing.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It cannot be simulated.
    #[error(transparent)]
    Serve(#[from] servesim::Error),
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Highest {
    /// The highest rate that was seen to meet the SLO.
    Rate(Service),
    /// Not even calls that come one by one meet it: what is best.
    Never(Service),
}

/// Calls of a search's simulations.
pub(crate) const CALLS: usize = 1_500;

impl Service {
    fn of(goal: &Goal, rate: f64, report: &Report) -> Self {
        let trial = goal.judge(rate, report);
        let seconds = |ps: Option<u64>| ps.map(|ps| ps as f64 / SECOND_PS as f64);
        let total = report.time.total_ps().max(1) as f64;
        Self {
            rate,
            ttft_s: seconds(trial.times_ps[0]),
            tpot_s: seconds(trial.times_ps[1]),
            latency_s: report.latency.mean_ps().unwrap_or(0.0) / SECOND_PS as f64,
            met: trial.met,
            input: report.time.input_ps as f64 / total,
            output: report.time.output_ps as f64 / total,
        }
    }
}

impl Candidate {
    /// A setup, at its engine's defaults.
    ///
    /// # Errors
    /// If the model does not fit, or a data sheet lacks a figure.
    pub fn new(setup: Setup) -> Result<Self, MemoryError> {
        let engine = Engine::of(&setup)?;
        let steps = setup.compile();
        Ok(Self { setup, engine, steps })
    }

    /// Accelerators of a replica.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.setup.layout.accelerators()
    }

    /// Tokens that a call may have, input and output.
    #[must_use]
    pub const fn longest(&self) -> u32 {
        self.engine.max_model_len
    }

    /// What it is called: `1 x h100-sxm, fp8`.
    #[must_use]
    pub fn name(&self) -> String {
        let format: Format = self.setup.formats.weights;
        format!("{} x {}, {}", self.gpus(), self.setup.accelerator.row().name(), format.name())
    }

    /// What a replica serves in a steady state of calls of these mean lengths (input that is computed, and output), with as
    /// many at once as the mean time per token allows, in calls a second: what it may serve at most. Waiting and variation
    /// are not in it.
    ///
    /// # Errors
    /// If a data sheet lacks a figure.
    pub fn closed_form(&self, lengths: (f64, f64), slo: &Slo) -> Result<f64, MemoryError> {
        let limit = slo.tpot_s.unwrap_or(f64::INFINITY);
        let most = closed_loop(lengths, self.engine.max_num_seqs);
        Ok(self.setup.steady_within(most, limit)?.output_tokens_per_s / lengths.1)
    }

    fn run(&self, mix: &Mix, slo: &servesim::Slo, rate: f64) -> Result<Report, servesim::Error> {
        let enable_prefix_caching = mix.has_prefixes();
        let engine = Engine { enable_prefix_caching, ..self.engine.clone() };
        servesim::serve(&engine, &self.steps, slo, mix.at_rate(rate), |_: &Record| {})
    }

    /// What becomes of calls that come at a rate.
    ///
    /// # Errors
    /// If it cannot be simulated.
    pub fn serve(&self, mix: &Mix, slo: &Slo, rate: f64) -> Result<Service, servesim::Error> {
        let goal = goal(slo);
        Ok(Service::of(&goal, rate, &self.run(mix, &goal.slo, rate)?))
    }

    /// The highest rate of a replica that meets the SLO, from a guess in closed form.
    ///
    /// # Errors
    /// If it cannot be simulated, or a data sheet lacks a figure.
    pub fn highest_rate(&self, mix: &Mix, slo: &Slo) -> Result<Highest, CapacityError> {
        let guess = self.closed_form(mix.computed(), slo)?;
        // Calls that come so seldom meet an empty replica. A simulation spans 213 days at most.
        let alone = self.setup.steady(closed_loop(mix.computed(), 1))?;
        let alone = alone.output_tokens_per_s / mix.computed().1;
        let least = (alone * 0.05).max(CALLS as f64 / 1e7);
        let goal = goal(slo);
        let mut seen = Vec::new();
        let run = |rate| {
            let report = self.run(mix, &goal.slo, rate)?;
            seen.push(Service::of(&goal, rate, &report));
            Ok::<_, CapacityError>(report)
        };
        let found = goal.highest_rate((guess * RANDOM_ARRIVALS).max(least), least, run)?;
        let rate = found.rate.unwrap_or(least);
        let service = match seen.into_iter().find(|service| service.rate.total_cmp(&rate).is_eq()) {
            Some(service) => service,
            // Trials were used up before the lowest rate was.
            None => self.serve(mix, slo, rate)?,
        };
        Ok(if found.rate.is_some() { Highest::Rate(service) } else { Highest::Never(service) })
    }
}

/// Calls of these mean lengths, input that is computed and output, so many at once.
fn closed_loop((input, output): (f64, f64), concurrency: u32) -> ClosedLoop {
    let whole = |tokens: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let whole = tokens.round().max(1.0) as u32;
        whole
    };
    ClosedLoop { isl: whole(input), osl: whole(output), concurrency }
}

/// Each limit must be kept by the SLO's share of calls.
fn goal(slo: &Slo) -> Goal {
    let picoseconds = |seconds: Option<f64>| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let picoseconds = seconds.map(|seconds| (seconds * SECOND_PS as f64) as u64);
        picoseconds
    };
    let (ttft_ps, tpot_ps) = (picoseconds(slo.ttft_s), picoseconds(slo.tpot_s));
    let slo_ps = servesim::Slo { ttft_ps, tpot_ps, latency_ps: None };
    Goal { slo: slo_ps, share: slo.share, keeper: Keeper::EachLimit }
}

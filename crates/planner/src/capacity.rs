//! What a replica serves within an SLO, found by simulation.

use std::cell::Cell;

use roofline::{ClosedLoop, Format, MemoryError, Setup, Steady, Steps};
use servesim::{Engine, Outcome, Record, SECOND_PS};

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
    /// The share of calls that kept every limit.
    pub kept: f64,
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
/// The first calls meet an empty replica and do not count.
const WARM_UP: u64 = 300;
/// A search ends when the rates on both sides are so close.
const CLOSE: f64 = 1.03;
/// A search takes so many simulations at most.
const MOST_TRIALS: u32 = 14;

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

    /// What a replica serves in a steady state of calls of the mean length, with as many at once as the mean time per token
    /// allows, in calls a second: what it may serve at most. Waiting and variation are not in it.
    ///
    /// # Errors
    /// If a data sheet lacks a figure.
    pub fn closed_form(&self, mix: &Mix, slo: &Slo) -> Result<f64, MemoryError> {
        let limit = slo.tpot_s.unwrap_or(f64::INFINITY);
        let (mut fits, mut above) = (1, self.engine.max_num_seqs.max(1) + 1);
        while above - fits > 1 {
            let middle = fits.midpoint(above);
            if self.steady(mix, middle)?.tpot_s <= limit { fits = middle } else { above = middle }
        }
        Ok(self.steady(mix, fits)?.output_tokens_per_s / mix.computed().1)
    }

    fn steady(&self, mix: &Mix, concurrency: u32) -> Result<Steady, MemoryError> {
        let whole = |tokens: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            let whole = tokens.round().max(1.0) as u32;
            whole
        };
        let (input, output) = mix.computed();
        self.setup.steady(ClosedLoop { isl: whole(input), osl: whole(output), concurrency })
    }

    /// What becomes of calls that come at a rate.
    ///
    /// # Errors
    /// If it cannot be simulated.
    pub fn serve(&self, mix: &Mix, slo: &Slo, rate: f64) -> Result<Service, servesim::Error> {
        let (mut ttfts, mut tpots, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        let (mut counted, mut kept, mut latency) = (0_u64, 0_u64, 0.0);
        let last_arrival = Cell::new(0);
        let seconds = |ps: u64| ps as f64 / SECOND_PS as f64;
        let within = |time: f64, limit: Option<f64>| limit.is_none_or(|limit| time <= limit);
        let each = |record: &Record| {
            last_arrival.set(last_arrival.get().max(record.arrival_ps));
            if record.number < WARM_UP {
                return;
            }
            counted += 1;
            let first = record.first_token_ps.filter(|_| record.outcome == Outcome::Completed);
            let (Some(first), Some(admitted)) = (first, record.admitted_ps) else { return };
            let ttft = seconds(first - record.arrival_ps);
            let further = u64::from(record.generated).saturating_sub(1).max(1);
            let tpot = seconds((record.end_ps - first) / further);
            latency += seconds(record.end_ps - record.arrival_ps);
            ttfts.push(ttft);
            tpots.push(tpot);
            waits.push(admitted - record.arrival_ps);
            kept += u64::from(within(ttft, slo.ttft_s) && within(tpot, slo.tpot_s));
        };
        let limits = servesim::Slo::default();
        let enable_prefix_caching = mix.has_prefixes();
        let engine = Engine { enable_prefix_caching, ..self.engine.clone() };
        let report = servesim::serve(&engine, &self.steps, &limits, mix.at_rate(rate), each)?;
        let ttft_s = reached(&mut ttfts, counted, slo.share);
        let tpot_s = reached(&mut tpots, counted, slo.share);
        // A queue that grows is longest at the end, and a good part of the whole.
        waits.sort_unstable();
        let waited = waits.get(waits.len() * 19 / 20).copied().unwrap_or(0);
        let falls_behind = waited > SECOND_PS && waited > last_arrival.get() / 20;
        let keeps = |time: Option<f64>, limit| time.is_some_and(|time| within(time, limit));
        let met = keeps(ttft_s, slo.ttft_s) && keeps(tpot_s, slo.tpot_s) && !falls_behind;
        let total = report.time.total_ps().max(1) as f64;
        Ok(Service {
            rate,
            ttft_s,
            tpot_s,
            latency_s: latency / (waits.len() as f64).max(1.0),
            kept: kept as f64 / counted.max(1) as f64,
            met,
            input: report.time.input_ps as f64 / total,
            output: report.time.output_ps as f64 / total,
        })
    }

    /// The highest rate of a replica that meets the SLO, to 3 %, from a guess in closed form.
    ///
    /// # Errors
    /// If it cannot be simulated, or a data sheet lacks a figure.
    pub fn highest_rate(&self, mix: &Mix, slo: &Slo) -> Result<Highest, CapacityError> {
        let guess = self.closed_form(mix, slo)?;
        // Calls that come so seldom meet an empty replica. A simulation spans 213 days at most.
        let alone = self.steady(mix, 1)?.output_tokens_per_s / mix.computed().1;
        let least = (alone * 0.05).max(CALLS as f64 / 1e7);
        let mut meets: Option<Service> = None;
        let mut fails: Option<Service> = None;
        let mut rate = guess * 0.75;
        for _ in 0..MOST_TRIALS {
            let service = self.serve(mix, slo, rate)?;
            if service.met {
                meets = Some(service)
            } else {
                fails = Some(service)
            }
            rate = match (meets, fails) {
                (Some(meets), Some(fails)) if fails.rate / meets.rate <= CLOSE => break,
                (Some(meets), Some(fails)) => (meets.rate * fails.rate).sqrt(),
                (Some(meets), None) => meets.rate * 1.25,
                (None, Some(fails)) if fails.rate <= least => break,
                // Far off it is sought in ever longer steps.
                (None, Some(fails)) => {
                    (fails.rate * (fails.rate / guess).clamp(0.02, 0.7)).max(least)
                }
                (None, None) => guess,
            };
        }
        match (meets, fails) {
            (Some(service), _) => Ok(Highest::Rate(service)),
            (None, Some(service)) => Ok(Highest::Never(service)),
            (None, None) => Ok(Highest::Never(self.serve(mix, slo, least)?)),
        }
    }
}

/// The time that so many of all kept; `None` if fewer have one.
fn reached(times: &mut [f64], of: u64, share: f64) -> Option<f64> {
    times.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let needed = (share * of as f64 - 1e-6).ceil().max(1.0) as usize;
    times.get(needed - 1).copied()
}

//! The highest rate that keeps an SLO, found with few simulations.

use roofline::{ClosedLoop, MemoryError, Setup};

use crate::engine::{Engine, Incoming, Request};
use crate::histogram::Histogram;
use crate::report::{Report, Slo};

/// A search makes no more simulations.
pub const MOST_TRIALS: usize = 10;

/// A search ends when the rate that keeps the goal and the one that does not are so close, as a
/// logarithm: 1 %.
const CLOSE: f64 = 0.01;
/// The farthest that one step goes while only one side is known: a factor of 7.
const FARTHEST: f64 = 2.0;
/// How far from a goal a rate is where a line through two of them leads to it, as a logarithm.
const NEAR: f64 = 0.4;
/// How far from a goal a rate counts that leaves requests without an answer, as a logarithm.
const FAR: f64 = 3.0;

/// What arrivals at random leave of the rate of a steady state within the same limits, about: they have
/// a tail above the mean.
pub const RANDOM_ARRIVALS: f64 = 0.85;

/// What a rate must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The limits. Without any, requests must only be served as fast as they come.
    pub slo: Slo,
    /// The share of all requests, above 0 and up to 1. Those that do not complete are not served
    /// well.
    pub share: f64,
    /// Who must keep them.
    pub keeper: Keeper,
}

/// Who must keep the limits of an SLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Each limit by the share, not always by the same requests: a percentile of TTFT and one of
    /// TPOT.
    EachLimit,
    /// All limits by the same requests: goodput.
    Request,
}

/// What a rate fails by, or would first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The time to the first token.
    Ttft,
    /// The time for each token after it.
    Tpot,
    /// The time to the last token.
    Latency,
    /// All of them together, for the same requests.
    Together,
    /// None of them: requests come faster than they are served.
    Throughput,
}

/// One simulation of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Requests a second.
    pub rate: f64,
    /// Whether the goal was met.
    pub met: bool,
    /// What was kept worst.
    pub worst: Limit,
    /// The share of requests that kept it.
    pub kept: f64,
    /// TTFT, TPOT and latency that the goal's share of requests kept, in picoseconds, to 0.8 %;
    /// `None` if fewer got so far.
    pub times_ps: [Option<u64>; 3],
    /// How far above its limit the worst was, as a logarithm; not positive if the goal was met.
    margin: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct HighestRate {
    /// The highest rate that was seen to meet the goal; `None` if the lowest that was tried does
    /// not.
    pub rate: Option<f64>,
    /// The lowest rate above it that was seen not to, at most 1 % more unless the trials were used
    /// up; `None` if there was none.
    pub fails_at: Option<f64>,
    /// All simulations, in the order in which they were made.
    pub trials: Vec<Trial>,
}

impl HighestRate {
    /// The trial at the highest rate, or the one at the lowest if none met the goal.
    #[must_use]
    pub fn best(&self) -> Option<&Trial> {
        let lowest = || self.trials.iter().min_by(|left, right| left.rate.total_cmp(&right.rate));
        self.rate.and_then(|rate| self.at(rate)).or_else(lowest)
    }

    /// What stands in the way of more: what the next rate above fails by.
    #[must_use]
    pub fn bound(&self) -> Option<Limit> {
        Some(self.at(self.fails_at?)?.worst)
    }

    fn at(&self, rate: f64) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.rate.total_cmp(&rate).is_eq())
    }
}

impl Goal {
    /// What became of requests that came at a rate.
    #[must_use]
    pub fn judge(&self, rate: f64, report: &Report) -> Trial {
        let requests = report.requests();
        let needed = self.share * requests as f64;
        // A product that should be whole may be a little more.
        let needed = (needed - 1e-6).ceil().max(1.0);
        let single = report.latency.count() - report.tpot.count();
        let times_ps = [
            reached(&report.ttft, needed),
            reached(&report.tpot, needed - single as f64),
            reached(&report.latency, needed),
        ];
        let limits = [self.slo.ttft_ps, self.slo.tpot_ps, self.slo.latency_ps];
        let of_all = |kept: u64| kept as f64 / (requests as f64).max(1.0);
        // The counts decide, for they are exact; times say how far off it is.
        let signed = |kept: u64, margin: f64| {
            if kept as f64 >= needed { margin.min(0.0) } else { margin.max(1e-9) }
        };
        let each = [Limit::Ttft, Limit::Tpot, Limit::Latency].into_iter().zip(report.kept);
        let each = each.zip(limits.into_iter().zip(times_ps));
        let each = each.filter_map(|((limit, kept), (most, time))| {
            let most = most?.max(1) as f64;
            let above = time.map_or(FAR, |time| (time.max(1) as f64 / most).ln());
            Some((limit, of_all(kept), signed(kept, above)))
        });
        let together = || {
            // Shares that are missed, smoothed by half a request.
            let half = 0.5 / (requests as f64).max(1.0);
            let above = (1.0 - of_all(report.good) + half) / (1.0 - self.share + half);
            (Limit::Together, of_all(report.good), signed(report.good, above.ln()))
        };
        let worst = match self.keeper {
            Keeper::EachLimit => each.max_by(|left, right| left.2.total_cmp(&right.2)),
            Keeper::Request => Some(together()),
        };
        let served = (Limit::Throughput, of_all(report.good), -FAR);
        let mut worst = worst.unwrap_or(served);
        if report.falls_behind() && worst.2 <= 0.0 {
            worst = (Limit::Throughput, of_all(report.good), NEAR);
        }
        let (worst, kept, margin) = worst;
        Trial { rate, met: margin <= 0.0, worst, kept, times_ps, margin }
    }

    /// Searches the highest rate from a guess that is best made by [`closed_form`]. Each simulation
    /// must be of the same requests in the same order, whose arrivals [`at_rate`] moves together,
    /// so that rates differ in nothing else. No lower rate than `least` is tried.
    ///
    /// # Errors
    /// Those of `run`, which simulates a rate in requests a second.
    pub fn highest_rate<E>(
        &self,
        guess: f64,
        least: f64,
        mut run: impl FnMut(f64) -> Result<Report, E>,
    ) -> Result<HighestRate, E> {
        let mut trials = Vec::new();
        let (highest, fails_at) = highest_rate(guess, least, |rate| {
            let trial = self.judge(rate, &run(rate)?);
            trials.push(trial);
            Ok(trial.margin)
        })?;
        Ok(HighestRate { rate: highest, fails_at, trials })
    }
}

/// Searches the highest rate that meets a goal, from a guess, by how far each rate that is tried is from it: a logarithm, not
/// positive if the goal is met. Returns the highest rate that met it and the lowest above that did not, most 1 % more
/// unless [`MOST_TRIALS`] were made. No lower rate than `least` is tried.
///
/// # Errors
/// Those of `margin`.
pub fn highest_rate<E>(
    guess: f64,
    least: f64,
    mut margin: impl FnMut(f64) -> Result<f64, E>,
) -> Result<(Option<f64>, Option<f64>), E> {
    let least = least.ln();
    let mut at = guess.ln().max(least);
    let (mut met, mut failed) = (Vec::new(), Vec::new());
    let mut bracket = Bracket::default();
    for _ in 0..MOST_TRIALS {
        let rate = at.exp();
        let margin = margin(rate)?;
        bracket.narrow(at, margin);
        let side = if margin <= 0.0 { &mut met } else { &mut failed };
        side.push(rate);
        match bracket.next(least) {
            Some(next) => at = next,
            None => break,
        }
    }
    // A rate that fails ends what is below it, should a higher one happen to do.
    let fails_at = failed.into_iter().min_by(f64::total_cmp);
    let below = |rate: &f64| fails_at.is_none_or(|fails| *rate < fails);
    Ok((met.into_iter().filter(below).max_by(f64::total_cmp), fails_at))
}

/// The time by which so many of all requests got so far.
fn reached(times: &Histogram, needed: f64) -> Option<u64> {
    let count = times.count() as f64;
    if needed <= 0.0 {
        return Some(0);
    }
    (needed <= count).then(|| times.quantile_ps(needed / count)).flatten()
}

/// What is known of the rate in question: logarithms, with their margins.
#[derive(Debug, Default)]
struct Bracket {
    meets: Option<(f64, f64)>,
    fails: Option<(f64, f64)>,
    /// The one before, while all were on one side.
    before: Option<(f64, f64)>,
    /// How wide the bracket was the last two times.
    widths: [f64; 2],
    /// How often the same side moved in a row; positive: the one that meets.
    moved: i32,
}

impl Bracket {
    fn narrow(&mut self, at: f64, margin: f64) {
        let met = margin <= 0.0;
        let side = if met { &mut self.meets } else { &mut self.fails };
        self.before = side.replace((at, margin));
        self.moved = match (met, self.moved) {
            (true, moved @ 0..) => moved + 1,
            (true, _) => 1,
            (false, moved @ ..=0) => moved - 1,
            (false, _) => -1,
        };
    }

    /// Where to look next; `None` when it is known well enough.
    fn next(&mut self, least: f64) -> Option<f64> {
        match (self.meets, self.fails) {
            (Some((at, margin)), None) => {
                // A quarter more, then half, and so on; or where a line through the last two meets
                // it, for it is soon passed where curves rise.
                let steps = [0.22, 0.35, 0.5, 0.9];
                let step = steps[usize::try_from(self.moved - 1).unwrap_or(0).min(3)];
                let line = self.before.map_or(f64::NAN, |(before, better)| {
                    -1.1 * margin * (at - before) / (margin - better)
                });
                Some(at + if line > 0.0 { line.clamp(step / 4.0, step) } else { step })
            }
            (None, Some((at, _))) if at <= least => None,
            (None, Some((at, margin))) => {
                let steps = [0.25, 0.6, 1.2, FARTHEST];
                let step = steps[usize::try_from(-self.moved - 1).unwrap_or(0).min(3)];
                // Where a line through the last two would meet it, and somewhat farther, for curves
                // are flat at low rates.
                let line = self.before.map_or(f64::NAN, |(before, worse)| {
                    1.3 * margin * (before - at) / (worse - margin)
                });
                let step = if line > 0.0 { line.clamp(step / 3.0, FARTHEST) } else { step };
                Some((at - step).max(least))
            }
            (Some(meets), Some(fails)) => {
                let width = fails.0 - meets.0;
                if width <= CLOSE {
                    return None;
                }
                Some(meets.0 + width * self.part(meets.1, fails.1, width))
            }
            (None, None) => Some(least),
        }
    }

    /// Which part of the bracket to go up: where a line meets the goal, the side that stayed for
    /// long pulled nearer (the Illinois rule); or half-way where that narrowed too little.
    fn part(&mut self, meets: f64, fails: f64, width: f64) -> f64 {
        let slow = self.widths[0] > 0.0 && width > self.widths[0] * 0.5;
        self.widths = [self.widths[1], width];
        if slow {
            self.widths = [0.0; 2];
            return 0.5;
        }
        // Beyond that, how far it is says nothing of where the goal is met: queues grow without end.
        let (meets, fails) = (meets.max(-NEAR), fails.min(NEAR));
        let half = |times: i32| 0.5_f64.powi(times.clamp(0, 3));
        let (low, high) = (-meets * half(-self.moved - 1), fails * half(self.moved - 1));
        let part = low / (low + high);
        // A little beyond the nearer side, so that it closes if the answer is there.
        let least = (CLOSE * 0.9 / width).min(0.5);
        if part.is_finite() { part.clamp(least, 1.0 - least) } else { 0.5 }
    }
}

/// A guess of the highest rate in closed form, in requests a second: what so many replicas serve in
/// a steady state with as many sequences as the mean time per token allows.
///
/// # Errors
/// As [`Setup::steady`].
pub fn closed_form(
    setup: &Setup,
    engine: &Engine,
    slo: &Slo,
    replicas: u32,
    (isl, osl): (u32, u32),
) -> Result<f64, MemoryError> {
    let limit = slo.tpot_ps.map_or(f64::INFINITY, |ps| ps as f64 / crate::SECOND_PS as f64);
    let most = ClosedLoop { isl, osl, concurrency: engine.max_num_seqs };
    let rate = setup.steady_within(most, limit)?.output_tokens_per_s / f64::from(osl.max(1));
    Ok(RANDOM_ARRIVALS * rate * f64::from(replicas))
}

/// The same for replicas of which some compute prompts and the others decode: what the busier of both pools
/// serves. Of the time that a request takes of a replica that does both, its prompt alone is the first pool's.
///
/// # Errors
/// As [`Setup::steady`].
pub fn closed_form_of_pools(
    setup: &Setup,
    engine: &Engine,
    slo: &Slo,
    [prefill, decode]: [u32; 2],
    (isl, osl): (u32, u32),
) -> Result<f64, MemoryError> {
    let both = RANDOM_ARRIVALS / closed_form(setup, engine, slo, 1, (isl, osl))?;
    let prompt = setup.step(setup.prefill(isl, 0)).seconds();
    // Prompts in large steps may cost less than alone.
    let reply = (both - prompt).max(both / 10.0);
    Ok(RANDOM_ARRIVALS * (f64::from(prefill) / prompt).min(f64::from(decode) / reply))
}

/// Requests that come at one a second on average, or so they are counted, moved together to so many
/// a second: the same requests in the same order, whatever the rate.
pub fn at_rate(
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    rate: f64,
) -> impl Iterator<Item = Incoming> {
    requests.into_iter().map(move |request| {
        let Incoming { request, prefix } = request.into();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let arrival_ps = (request.arrival_ps as f64 / rate) as u64;
        Incoming { request: Request { arrival_ps, ..request }, prefix }
    })
}

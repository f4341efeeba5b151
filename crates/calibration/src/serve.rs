//! A run of a benchmark, simulated.

use std::time::Duration;

use roofline::{MemoryError, Setup, Steps};
use servesim::{Batch, Engine, Linear, Outcome, Record, Report, Request, SECOND_PS, Slo, StepTime};
use workload::Random;

use crate::load::{Load, Stage};
use crate::point::{Lengths, Point, Reason, Settings};

/// Requests that are simulated at most.
const MOST_REQUESTS: f64 = 400_000.0;
/// Tokens of replies that are simulated at most.
const MOST_TOKENS: f64 = 4e9;
const SEED: u64 = 20_260_401;

/// One replica, ready to serve.
#[derive(Clone)]
pub(crate) struct Replica {
    steps: Steps,
    engine: Engine,
    mixes: bool,
    request_s: f64,
    /// Steps that are under way or decided when a request comes, and which it waits for beyond the one that runs.
    ahead: f64,
    /// Tokens of each prompt that are cached.
    cached: u32,
    /// Whether only sequences are admitted that fit to their ends.
    whole: bool,
}

/// What came of the requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Served {
    /// Seconds to the first token of each, in order.
    pub(crate) ttft: Times,
    pub(crate) tpot: Times,
    pub(crate) latency: Times,
    /// Tokens of replies per second from the first arrival to the last end.
    pub(crate) output_tokens_per_s: f64,
    /// Share of the busy time that prompts caused.
    pub(crate) input_share: f64,
    /// Mean wait for a place over the mean time to the last token.
    pub(crate) wait_share: f64,
    /// Share of the time in which steps ran.
    pub(crate) busy: f64,
}

/// Times in seconds, in ascending order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    /// The time that a share of them does not exceed.
    pub(crate) fn at(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let rank = ((share * self.0.len() as f64).ceil() as usize).clamp(1, last + 1);
        self.0.get(rank - 1).copied()
    }
}

/// The steps of an engine.
struct Timed<'a> {
    steps: &'a Steps,
    /// Whether a step prefills and decodes at once; else it takes the time of one after the other.
    mixes: bool,
    /// Tokens of each prompt that are cached: nothing is computed for them, and everything attends to them.
    cached: u32,
}

impl StepTime for Timed<'_> {
    fn window(&self) -> Option<std::num::NonZeroU32> {
        StepTime::window(self.steps)
    }

    fn step(&self, batch: &Batch) -> Linear {
        let before = u64::from(self.cached) * u64::from(batch.prefill_tokens);
        let batch = &Batch {
            prefill_pairs: batch.prefill_pairs + before,
            windowed_pairs: batch.windowed_pairs + before,
            ..*batch
        };
        let both = if self.mixes || batch.decodes == 0 || batch.prefill_tokens == 0 {
            StepTime::step(self.steps, batch)
        } else {
            let decodes =
                Batch { decodes: batch.decodes, sampled: batch.decodes, ..Batch::default() };
            let prompts = Batch { decodes: 0, sampled: batch.sampled - batch.decodes, ..*batch };
            let (first, second) =
                (StepTime::step(self.steps, &prompts), StepTime::step(self.steps, &decodes));
            Linear { base: first.base.saturating_add(second.base), ..second }
        };
        let attended =
            both.per_context.saturating_mul(u64::from(self.cached) * u64::from(batch.decodes));
        Linear { base: both.base.saturating_add(attended), ..both }
    }
}

pub(crate) fn memory_reason(error: MemoryError) -> Reason {
    match error {
        MemoryError::Missing(missing) => Reason::new(missing.to_string()),
        MemoryError::DoesNotFit { model, accelerator, .. } => {
            Reason::new(format!("`{model}` in this format does not fit `{accelerator}` so split"))
        }
    }
}

impl Replica {
    /// The engine's defaults, and what it was told instead.
    pub(crate) fn new(setup: &Setup, settings: &Settings) -> Result<Self, Reason> {
        let mut engine = Engine::of(setup).map_err(memory_reason)?;
        let missing = |missing: roofline::Missing| Reason::new(missing.to_string());
        let mixes = setup.engine.mixes().map_err(missing)?;
        // Each group of ranks has limits of its own.
        let groups = setup.layout.data * setup.layout.pipeline;
        engine.max_num_seqs = settings
            .max_num_seqs
            .unwrap_or(engine.max_num_seqs)
            .saturating_mul(groups)
            .clamp(1, 1 << 20);
        let budget = settings.max_num_batched_tokens.unwrap_or(engine.max_num_batched_tokens);
        engine.max_num_batched_tokens = budget.saturating_mul(groups).clamp(1, 1 << 28);
        engine.max_num_seqs = engine.max_num_seqs.min(engine.max_num_batched_tokens);
        if let Some(blocks) = settings.kv_blocks {
            engine.kv_blocks = blocks;
        }
        let held = u64::from(engine.kv_blocks) * u64::from(engine.block_tokens);
        let told = settings.max_model_len.unwrap_or(engine.max_model_len);
        let most = u64::from(engine.max_model_len.min(told)).min(held).max(2);
        engine.max_model_len = u32::try_from(most).unwrap_or(u32::MAX);
        let request_s = setup.request_seconds();
        let ahead = setup.engine.steps_ahead();
        Ok(Self {
            steps: setup.compile(),
            engine,
            mixes,
            request_s,
            ahead,
            cached: 0,
            whole: setup.engine.admits_whole_sequences(),
        })
    }

    /// Sequences of so many tokens in all that run at a time.
    pub(crate) fn places(&self, tokens: f64) -> f64 {
        let held = f64::from(self.engine.kv_blocks) * f64::from(self.engine.block_tokens);
        (held / tokens.max(1.0)).floor().clamp(1.0, f64::from(self.engine.max_num_seqs))
    }

    /// Serves the point's load, of which this is one of so many replicas.
    pub(crate) fn serve(&self, point: &Point, replicas: u32) -> Result<Served, Reason> {
        let (Some(isl), Some(osl), Some(load)) = (point.isl, point.osl, &point.load) else {
            return Err(Reason::new("lengths or load are not stated"));
        };
        if isl + osl > f64::from(self.engine.max_model_len) + 0.5 {
            return Err(Reason::new(
                "the KV cache or the model's context does not hold one sequence",
            ));
        }
        let share = f64::from(replicas);
        // Only whole blocks are cached, and something is always left to compute.
        let mut own = self.clone();
        if point.settings.cached {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be a length"
            )]
            let prompt = isl as u32;
            own.cached =
                prompt.saturating_sub(1) / self.engine.block_tokens * self.engine.block_tokens;
        }
        own.serve_drawn(point, share, isl - f64::from(own.cached), osl, load)
    }

    fn serve_drawn(
        &self,
        point: &Point,
        share: f64,
        isl: f64,
        osl: f64,
        load: &Load,
    ) -> Result<Served, Reason> {
        let mut engine = self.engine.clone();
        if self.whole {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most max_num_seqs"
            )]
            let places = self.places(isl + osl) as u32;
            engine.max_num_seqs = engine.max_num_seqs.min(places);
        }
        let own = Self { engine, ..self.clone() };
        own.serve_load(point, share, isl, osl, load)
    }

    fn serve_load(
        &self,
        point: &Point,
        share: f64,
        isl: f64,
        osl: f64,
        load: &Load,
    ) -> Result<Served, Reason> {
        let lengths = Drawn { isl, osl, spread: point.lengths, most: self.engine.max_model_len };
        let bounded = |requests: f64| -> Result<usize, Reason> {
            if requests > MOST_REQUESTS || requests * osl > MOST_TOKENS {
                return Err(Reason::new("the run is too long to be simulated"));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounded above"
            )]
            Ok(requests.ceil().max(1.0) as usize)
        };
        match *load {
            Load::Closed { clients, requests } => {
                let own = (f64::from(clients) / share).ceil();
                // A benchmark of ten rounds starts with a burst and ends with a tail, as the measured one does.
                let all = requests.map_or(10.0 * own, |all| (f64::from(all) / share).max(own));
                let all = bounded(all)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most a million"
                )]
                self.run(lengths.requests(std::iter::repeat_n(0, all)), Some(own as u32))
            }
            Load::Together { requests } => {
                let all = bounded((f64::from(requests) / share).ceil())?;
                self.run(lengths.requests(std::iter::repeat_n(0, all)), None)
            }
            Load::Queue { requests } => {
                let rounds = (4.0 * self.places(isl + osl)).clamp(64.0, 4_000.0);
                let all = requests.map_or(rounds, |all| (f64::from(all) / share).max(1.0));
                let all = bounded(all.min(MOST_TOKENS / osl))?;
                self.run(lengths.requests(std::iter::repeat_n(0, all)), None)
            }
            Load::Open { ref stages, requests } => {
                let arrivals = arrivals(stages, requests, share);
                bounded(arrivals.len() as f64)?;
                self.run(lengths.requests(arrivals), None)
            }
        }
    }

    /// Serves so many requests at a rate, arriving at random.
    pub(crate) fn at_rate(
        &self,
        point: &Point,
        per_second: f64,
        requests: u32,
    ) -> Result<Served, Reason> {
        let stage = Stage { per_second, seconds: None };
        let load = Load::Open { stages: vec![stage], requests: Some(requests) };
        self.serve(&Point { load: Some(load), ..point.clone() }, 1)
    }

    fn run(
        &self,
        requests: impl Iterator<Item = Request>,
        clients: Option<u32>,
    ) -> Result<Served, Reason> {
        let mut all = Vec::new();
        let each = |record: &Record| all.push(*record);
        let slo = Slo::default();
        let timed = Timed { steps: &self.steps, mixes: self.mixes, cached: self.cached };
        let report = match clients {
            Some(clients) => {
                servesim::serve_closed(&self.engine, timed, &slo, clients, requests, each)
            }
            None => servesim::serve(&self.engine, timed, &slo, requests, each),
        };
        let report = report.map_err(|error| Reason::new(error.to_string()))?;
        self.sum_up(&report, &all)
    }

    fn sum_up(&self, report: &Report, all: &[Record]) -> Result<Served, Reason> {
        let seconds = |ps: u64| ps as f64 / SECOND_PS as f64;
        let done = || all.iter().filter(|one| one.outcome == Outcome::Completed);
        let first = |one: &Record| one.first_token_ps.unwrap_or(one.end_ps);
        let end = done().map(|one| one.end_ps).max();
        let end = end.ok_or_else(|| Reason::new("no request could be served"))?;
        let start = done().map(|one| one.arrival_ps).min().unwrap_or(0);
        let tokens: u64 = done().map(|one| u64::from(one.generated)).sum();
        let several = || done().filter(|one| one.generated > 1);
        let tpot = |one: &Record| seconds(one.end_ps - first(one)) / f64::from(one.generated - 1);
        let tpot = Times::of(several().map(tpot).collect());
        let before_s = self.request_s + self.ahead * tpot.at(0.5).unwrap_or(0.0);
        let wait = report.wait.mean_ps().unwrap_or(0.0) / SECOND_PS as f64;
        let latency =
            Times::of(done().map(|one| seconds(one.end_ps - one.arrival_ps) + before_s).collect());
        let mean = latency.mean().unwrap_or(0.0);
        Ok(Served {
            ttft: Times::of(
                done().map(|one| seconds(first(one) - one.arrival_ps) + before_s).collect(),
            ),
            tpot,
            output_tokens_per_s: tokens as f64 / (seconds(end - start) + self.request_s),
            input_share: report.time.input_ps as f64 / (report.time.busy_ps() as f64).max(1.0),
            wait_share: if mean > 0.0 { wait / mean } else { 0.0 },
            busy: report.busy().unwrap_or(0.0),
            latency,
        })
    }
}

/// Times of arrival in picoseconds, at random at each stage's rate, of one of so many replicas.
fn arrivals(stages: &[Stage], requests: Option<u32>, share: f64) -> Vec<u64> {
    /// What is simulated if nobody says how long.
    const SECONDS: f64 = 300.0;
    const LEAST: f64 = 500.0;
    let mut random = Random::new(SEED).fork("arrivals");
    let mut found = Vec::new();
    let mut from = Duration::ZERO;
    for stage in stages {
        let rate = stage.per_second / share;
        let told = requests.map(|all| f64::from(all) / share / stages.len() as f64);
        let many = told.or(stage.seconds.map(|seconds| seconds * rate));
        let many =
            many.unwrap_or_else(|| (rate * SECONDS).max(LEAST)).clamp(1.0, MOST_REQUESTS + 1.0);
        let gap = Duration::from_secs_f64((1.0 / rate).min(1e6));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        for _ in 0..many.ceil() as u32 {
            from += random.exponential(gap);
            let Some(at) = servesim::picoseconds(from) else { return found };
            found.push(at);
        }
    }
    found
}

/// Lengths of requests, drawn.
struct Drawn {
    isl: f64,
    osl: f64,
    spread: Lengths,
    most: u32,
}

impl Drawn {
    fn requests(&self, arrivals: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Request> {
        let mut random = Random::new(SEED).fork("lengths");
        let [prompts, replies] = match self.spread {
            Lengths::Fixed => [self.isl, self.osl].map(Length::Fixed),
            Lengths::Even => [self.isl, self.osl].map(Length::Even),
            Lengths::Varied { longest_prompt, longest_reply } => {
                [(1, self.isl, longest_prompt), (2, self.osl, longest_reply)].map(
                    |(shape, mean, longest)| {
                        let longest = longest.map_or(4.0 * mean, f64::from);
                        Length::Varied(Bounded::new(shape, mean, longest))
                    },
                )
            }
        };
        arrivals.into_iter().map(move |arrival_ps| {
            let prompt = prompts.draw(self.most, &mut random).min(self.most - 1);
            let output = replies.draw(self.most, &mut random).min(self.most - prompt);
            Request { arrival_ps, prompt, output, priority: 0, patience_ps: None }
        })
    }
}

/// How one of the two lengths is drawn, with its mean.
enum Length {
    Fixed(f64),
    Even(f64),
    Varied(Bounded),
}

impl Length {
    /// At least one token, and so many at most.
    fn draw(&self, most: u32, random: &mut Random) -> u32 {
        let drawn = match self {
            Self::Fixed(mean) => *mean,
            // Evenly from 0.8 to 1.0 of the nominal length is from 8/9 to 10/9 of the mean.
            Self::Even(mean) => mean * (8.0 + 2.0 * random.unit()) / 9.0,
            Self::Varied(lengths) => lengths.at(random.unit()),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let whole = drawn.round().clamp(1.0, f64::from(most)) as u32;
        whole
    }
}

/// Lengths of which the mean and the longest are known: a gamma distribution that is cut off at the longest, and rises up to
/// it where the mean is near it.
///
/// # Source
/// The shapes are those of Azure's conversation trace of 2023 (19,366 requests). Of its replies, 1 % are shorter than
/// 0.08 means, 5 % than 0.19, 10 % than 0.26, and 10 % are longer than 2.0, 1 % than 2.8; of shape 2: 0.07, 0.18, 0.27, 1.9,
/// 3.3. Its prompts vary as much as their mean (0.96), as those of shape 1 do, which also says the least where nothing but the
/// mean is known.
#[derive(Debug, Clone)]
struct Bounded {
    longest: f64,
    /// What share of all is below each of so many equal parts of the longest.
    below: Vec<f64>,
}

impl Bounded {
    const PARTS: usize = 2_048;

    fn new(shape: i32, mean: f64, longest: f64) -> Self {
        let longest = longest.max(mean);
        let middle = |part: usize| (part as f64 + 0.5) / Self::PARTS as f64;
        // Relative to the largest of all, so that nothing overflows.
        let weights = |rate: f64| {
            (0..Self::PARTS).map(middle).map(move |x| {
                (x, x.powi(shape - 1) * (-rate * if rate < 0.0 { x - 1.0 } else { x }).exp())
            })
        };
        let share = |rate: f64| {
            let (sum, all) =
                weights(rate).fold((0.0, 0.0), |(sum, all), (x, w)| (sum + x * w, all + w));
            sum / all
        };
        let (mut low, mut high) = (-500.0, 500.0);
        for _ in 0..60 {
            let rate = f64::midpoint(low, high);
            if share(rate) > mean / longest { low = rate } else { high = rate }
        }
        let mut all = 0.0;
        let mut below: Vec<f64> = weights(low)
            .map(|(_, weight)| {
                all += weight;
                all
            })
            .collect();
        below.iter_mut().for_each(|share| *share /= all);
        Self { longest, below }
    }

    /// The length that a share of all stays below.
    fn at(&self, share: f64) -> f64 {
        let part = self.below.partition_point(|&below| below < share).min(Self::PARTS - 1);
        let from = part.checked_sub(1).map_or(0.0, |part| self.below[part]);
        let within = ((share - from) / (self.below[part] - from)).clamp(0.0, 1.0);
        self.longest * (part as f64 + within) / Self::PARTS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_lengths_have_their_mean_and_stay_below_the_longest() {
        for (mean, longest) in
            [(294.0, 1_024.0), (9_428.0, 20_000.0), (900.0, 1_000.0), (5.0, 10.0), (7.0, 7.0)]
        {
            let lengths = Bounded::new(1, mean, longest);
            let all: Vec<f64> =
                (0..10_000).map(|at| lengths.at((f64::from(at) + 0.5) / 1e4)).collect();
            let found = all.iter().sum::<f64>() / 1e4;
            assert!((found / mean - 1.0).abs() < 0.003, "{mean} of {longest}: {found}");
            assert!(all.iter().all(|one| (0.0..=longest).contains(one)));
            assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
        }
    }
}

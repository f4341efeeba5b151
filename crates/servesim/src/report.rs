//! What a run comes to.

use crate::engine::{Outcome, Record};
use crate::histogram::Histogram;

/// Shares of the KV cache that are told apart.
pub const KV_SHARES: usize = 100;

/// What a request must keep to count as served well. What is `None` does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slo {
    /// Time to the first token.
    pub ttft_ps: Option<u64>,
    /// Mean time for each token after the first; a single token keeps it.
    pub tpot_ps: Option<u64>,
    /// Time to the last token.
    pub latency_ps: Option<u64>,
}

impl Slo {
    /// Whether a request completed and kept it.
    #[must_use]
    pub fn is_kept_by(&self, record: &Record) -> bool {
        Times::of(record).is_some_and(|times| self.kept_in(&times) == [true; 3])
    }

    /// Which of its limits are kept: TTFT, TPOT, latency.
    fn kept_in(&self, times: &Times) -> [bool; 3] {
        let keeps = |time: u64, most: Option<u64>| most.is_none_or(|most| time <= most);
        [
            keeps(times.ttft, self.ttft_ps),
            keeps(times.tpot.unwrap_or(0), self.tpot_ps),
            keeps(times.latency, self.latency_ps),
        ]
    }
}

/// How long a request took that completed.
struct Times {
    ttft: u64,
    /// `None` with a single token.
    tpot: Option<u64>,
    latency: u64,
}

impl Times {
    fn of(record: &Record) -> Option<Self> {
        let first = record.first_token_ps.filter(|_| record.outcome == Outcome::Completed)?;
        let ttft = first - record.arrival_ps;
        let latency = record.end_ps - record.arrival_ps;
        let tpot = (latency - ttft).checked_div(u64::from(record.generated) - 1);
        Some(Self { ttft, tpot, latency })
    }
}

/// What a run comes to.
///
/// Sums of integers: the same requests give the same report, and two ways to simulate them must
/// agree on all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests by how they ended, in the order of [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Requests that completed within the SLO.
    pub good: u64,
    /// Prompt tokens of those.
    pub good_prompt_tokens: u64,
    /// Tokens that those got.
    pub good_generated_tokens: u64,
    /// Requests that completed within each of its limits: TTFT, TPOT, latency. What has no limit
    /// is kept.
    pub kept: [u64; 3],
    /// When the last request arrived.
    pub last_arrival_ps: u64,
    /// When the last one ended, or left.
    pub last_end_ps: u64,
    /// Prompt tokens of the requests that completed.
    pub prompt_tokens: u64,
    /// Those of them that were in the prefix cache when the request was first admitted.
    pub cached_tokens: u64,
    /// Tokens that requests got that completed.
    pub generated_tokens: u64,
    /// From arrival to the first step that computes something of a request.
    pub wait: Histogram,
    /// From arrival to the first token.
    pub ttft: Histogram,
    /// Of each completed request with two tokens or more: time from its first token to its last,
    /// over the tokens after the first; rounded down.
    pub tpot: Histogram,
    /// Each gap between two tokens of a request.
    pub itl: Histogram,
    /// From arrival to the last token of each completed request.
    pub latency: Histogram,
    /// From the first token, which a prefill replica gave, to the first step of a decode replica.
    pub handover: Histogram,
    /// What was computed, and what of it was of use.
    pub work: Work,
    /// Where the time of the replica went.
    pub time: Time,
    /// Time by how many sequences were computed, by index.
    pub batch_ps: Vec<u64>,
    /// Time by how much of the KV cache was allocated during the step: index `i` is more than `i`
    /// and up to `i + 1` parts of [`KV_SHARES`].
    pub kv_ps: Vec<u64>,
}

/// What was computed.
///
/// Every token is accounted for: `prefill_tokens + decode_tokens + cached_tokens + received_tokens`
/// is `useful_tokens + preempted_tokens + abandoned_tokens + sent_tokens`. What one replica sends
/// another receives, so that neither is there in the sum of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Steps of the engine.
    pub steps: u64,
    /// Tokens computed in prompts, again after a preemption too.
    pub prefill_tokens: u64,
    /// Tokens computed in decodes.
    pub decode_tokens: u64,
    /// Tokens that were found in the prefix cache instead, again after a preemption too.
    pub cached_tokens: u64,
    /// Tokens whose KV a request held when it completed: its prompt and all outputs but the last.
    pub useful_tokens: u64,
    /// Tokens whose KV was lost to preemptions.
    pub preempted_tokens: u64,
    /// Tokens whose KV requests held that were given up.
    pub abandoned_tokens: u64,
    /// Tokens whose KV was sent to a decode replica.
    pub sent_tokens: u64,
    /// Tokens whose KV came from a prefill replica.
    pub received_tokens: u64,
    /// How often a request was preempted.
    pub preemptions: u64,
    /// Floating-point operations; `None` if the step time does not tell.
    pub flops: Option<u128>,
    /// Bytes moved between memory and chip; `None` if the step time does not tell.
    pub bytes: Option<u128>,
}

/// Where the time of a replica went, from the start to the last event. Its parts sum to the whole.
///
/// A step that only decodes is caused by output, one that only computes prompts by input. A step
/// that does both is divided by the Shapley value: each side bears the mean of what it costs alone
/// and what it adds to the other, so that what they save together is shared evenly. What is
/// computed again after a preemption counts as input. Of a prompt's time, cached input causes what
/// the prompts alone would take less if they had nothing cached before them: new tokens attend to
/// those that are cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Caused by prompts.
    pub input_ps: u64,
    /// Caused by tokens of prompts that were in the prefix cache.
    pub cached_ps: u64,
    /// Caused by decodes.
    pub output_ps: u64,
    /// Nothing to do.
    pub idle_ps: u64,
    /// Starting: paid for, but not serving yet.
    pub cold_ps: u64,
}

impl Time {
    /// Time in which steps ran.
    #[must_use]
    pub const fn busy_ps(&self) -> u64 {
        self.input_ps + self.cached_ps + self.output_ps
    }

    /// The whole.
    #[must_use]
    pub const fn total_ps(&self) -> u64 {
        self.busy_ps() + self.idle_ps + self.cold_ps
    }

    /// A step with prompts: what it takes, what its prompts would take alone, what they would if
    /// nothing were cached before them, and what its decodes would take alone.
    pub(crate) fn share(&mut self, both: u64, input: u64, fresh: u64, output: u64) {
        // Half of (both - output) + input, within what there is to be shared.
        let doubled = (both + input).saturating_sub(output);
        let share = (doubled / 2).min(both);
        let more = u128::from(input.saturating_sub(fresh));
        let cached = match more {
            // Mostly, and a division of 128 bits would take as long as the rest of the step.
            0 => 0,
            more => u128::from(share) * more / u128::from(input),
        };
        let cached = u64::try_from(cached).expect("a part of the share");
        self.cached_ps += cached;
        self.input_ps += share - cached;
        self.output_ps += both - share;
    }
}

impl Report {
    /// For batches of up to so many sequences.
    pub(crate) fn new(most_sequences: u32) -> Self {
        Self {
            batch_ps: vec![0; most_sequences as usize + 1],
            kv_ps: vec![0; KV_SHARES],
            work: Work { flops: Some(0), bytes: Some(0), ..Work::default() },
            ..Self::default()
        }
    }

    /// Takes in what became of a request.
    pub(crate) fn add(&mut self, record: &Record, slo: &Slo) {
        self.outcomes[record.outcome as usize] += 1;
        self.last_arrival_ps = self.last_arrival_ps.max(record.arrival_ps);
        self.last_end_ps = self.last_end_ps.max(record.end_ps);
        if let Some(admitted) = record.admitted_ps {
            self.wait.add(admitted - record.arrival_ps, 1);
        }
        let Some(first) = record.first_token_ps else { return };
        self.ttft.add(first - record.arrival_ps, 1);
        let Some(times) = Times::of(record) else { return };
        self.prompt_tokens += u64::from(record.prompt);
        self.cached_tokens += u64::from(record.cached);
        self.generated_tokens += u64::from(record.generated);
        self.latency.add(times.latency, 1);
        if let Some(tpot) = times.tpot {
            self.tpot.add(tpot, 1);
        }
        let kept = slo.kept_in(&times);
        self.kept.iter_mut().zip(kept).for_each(|(count, kept)| *count += u64::from(kept));
        if kept == [true; 3] {
            self.good += 1;
            self.good_prompt_tokens += u64::from(record.prompt);
            self.good_generated_tokens += u64::from(record.generated);
        }
    }

    /// All requests, however they ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Whether requests came faster than they were served: at the end of the arrivals a queue stood
    /// that was a good part of the whole. What it tells of latencies depends on how long the run is.
    #[must_use]
    pub fn falls_behind(&self) -> bool {
        let last = self.last_arrival_ps;
        let quantile = |times: &Histogram| times.quantile_ps(0.95).unwrap_or(0);
        // A queue may stand before either of two pools.
        let waited = quantile(&self.wait).max(quantile(&self.handover));
        // A queue that grows is longest at the end. With a step or two a request does not wait for
        // room.
        waited > last / 20
            && waited > crate::SECOND_PS
            && self.last_end_ps.saturating_sub(last) > last / 20
    }

    /// How many requests ended so.
    #[must_use]
    pub const fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// So many of something per second of a replica's time: of one replica, per second of the run.
    /// `None` if it took no time.
    #[must_use]
    pub fn per_second(&self, count: u64) -> Option<f64> {
        let total = self.time.total_ps();
        (total > 0).then(|| count as f64 * crate::SECOND_PS as f64 / total as f64)
    }

    /// The share of time in which steps ran; `None` if it took no time.
    #[must_use]
    pub fn busy(&self) -> Option<f64> {
        let total = self.time.total_ps();
        (total > 0).then(|| self.time.busy_ps() as f64 / total as f64)
    }

    /// Takes in the report of another replica or another part of the traffic. Figures that one of
    /// them does not know are not known of both.
    pub fn merge(&mut self, other: &Self) {
        fn add(to: &mut Vec<u64>, from: &[u64]) {
            to.resize(to.len().max(from.len()), 0);
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        let both = |left: Option<u128>, right: Option<u128>| Some(left? + right?);
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(to, from)| *to += from);
        self.good += other.good;
        self.good_prompt_tokens += other.good_prompt_tokens;
        self.good_generated_tokens += other.good_generated_tokens;
        self.kept.iter_mut().zip(other.kept).for_each(|(to, from)| *to += from);
        self.last_arrival_ps = self.last_arrival_ps.max(other.last_arrival_ps);
        self.last_end_ps = self.last_end_ps.max(other.last_end_ps);
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.generated_tokens += other.generated_tokens;
        self.wait.merge(&other.wait);
        self.ttft.merge(&other.ttft);
        self.tpot.merge(&other.tpot);
        self.itl.merge(&other.itl);
        self.latency.merge(&other.latency);
        self.handover.merge(&other.handover);
        let (left, right) = (self.work, other.work);
        self.work = Work {
            steps: left.steps + right.steps,
            prefill_tokens: left.prefill_tokens + right.prefill_tokens,
            decode_tokens: left.decode_tokens + right.decode_tokens,
            cached_tokens: left.cached_tokens + right.cached_tokens,
            useful_tokens: left.useful_tokens + right.useful_tokens,
            preempted_tokens: left.preempted_tokens + right.preempted_tokens,
            abandoned_tokens: left.abandoned_tokens + right.abandoned_tokens,
            sent_tokens: left.sent_tokens + right.sent_tokens,
            received_tokens: left.received_tokens + right.received_tokens,
            preemptions: left.preemptions + right.preemptions,
            flops: both(left.flops, right.flops),
            bytes: both(left.bytes, right.bytes),
        };
        self.time.input_ps += other.time.input_ps;
        self.time.cached_ps += other.time.cached_ps;
        self.time.output_ps += other.time.output_ps;
        self.time.idle_ps += other.time.idle_ps;
        self.time.cold_ps += other.time.cold_ps;
        add(&mut self.batch_ps, &other.batch_ps);
        add(&mut self.kv_ps, &other.kv_ps);
    }
}

//! A step's time compiled to integers, for a simulator that asks millions of times a second.

use std::num::NonZeroU32;

use crate::model::as_f64;
use crate::setup::Setup;
use crate::step::{Batch, PrefillAttention, Work};

/// A quantity of a step as a function of its decodes' contexts:
/// `base + per_context x (their sum) + per_windowed x (their sum, each capped at the window)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Linear {
    /// What does not depend on the contexts.
    pub base: u64,
    /// For each token of context, in layers that see everything.
    pub per_context: u64,
    /// For each token of context within the window, in layers that have one; 0 without.
    pub per_windowed: u64,
}

impl Linear {
    /// Its value for the batch's contexts.
    #[must_use]
    pub fn at(self, batch: &Batch) -> u64 {
        let full = self.per_context.saturating_mul(batch.context);
        let windowed = self.per_windowed.saturating_mul(batch.windowed_context);
        self.base.saturating_add(full).saturating_add(windowed)
    }
}

/// Steps of one setup in whole picoseconds, operations and bytes.
///
/// The coefficients depend on the batch and not on its contexts, so while the batch stays the same, `k` decode steps of `d`
/// sequences that start at a summed context `C` take exactly `k base + per_context (k C + d k (k - 1) / 2)`.
///
/// Up to 1,024 tokens, and as far as steps are padded to captured graphs, the table has an entry for each count; beyond, it
/// is interpolated between every 64th, where the functions are smooth. A question is a few table look-ups.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    window: Option<NonZeroU32>,
    linear: Curve,
    sampled: Curve,
    decode_start: u64,
    /// Picoseconds for each token of context, whole and within the window, by how many groups of ranks share them.
    per_context: Vec<(u64, u64)>,
    prefill: PrefillAttention,
    share: f64,
    work: Work,
    weights: Curve,
    cache: (f64, f64),
}

const FINE: u32 = 1_024;
const MOST_FINE: u32 = 32_768;
const COARSE: u32 = 64;
/// Far beyond any token budget; beyond this the last slope goes on.
const MOST_TOKENS: u32 = 131_072;
const MOST_SEQUENCES: u32 = 16_384;

#[derive(Debug, Clone, PartialEq)]
struct Curve {
    fine: Vec<u64>,
    coarse: Vec<u64>,
}

impl Curve {
    fn new(fine: u32, most: u32, at: impl Fn(u32) -> u64) -> Self {
        let knots = most.saturating_sub(fine).div_ceil(COARSE).max(1);
        Self {
            fine: (0..=fine).map(&at).collect(),
            coarse: (0..=knots).map(|knot| at(fine + knot * COARSE)).collect(),
        }
    }

    fn at(&self, count: u32) -> u64 {
        if let Some(&ps) = self.fine.get(count as usize) {
            return ps;
        }
        let beyond = count as usize + 1 - self.fine.len();
        let coarse = COARSE as usize;
        // Beyond the last knot its slope goes on.
        let left = (beyond / coarse).min(self.coarse.len() - 2);
        let (from, to) = (self.coarse[left], self.coarse[left + 1]);
        let steps = (beyond - left * coarse) as u64;
        from.saturating_add((to - from).saturating_mul(steps) / u64::from(COARSE))
    }
}

/// Seconds as whole picoseconds, half up.
fn picoseconds(seconds: f64) -> u64 {
    rounded(seconds * 1e12)
}

/// A quantity that is not negative as a whole number, half up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn rounded(value: f64) -> u64 {
    (value + 0.5) as u64
}

impl Steps {
    /// Tokens that layers with a window look back at.
    #[must_use]
    pub fn window(&self) -> Option<NonZeroU32> {
        self.window
    }

    /// Picoseconds of the step; nothing for an empty one. More of anything never makes it shorter.
    #[must_use]
    pub fn time(&self, batch: &Batch) -> Linear {
        let tokens = batch.decodes.saturating_add(batch.prefill_tokens);
        if tokens == 0 {
            return Linear::default();
        }
        let mut base = self.linear.at(tokens).saturating_add(self.sampled.at(batch.sampled));
        let (mut per_context, mut per_windowed) = (0, 0);
        if batch.decodes > 0 {
            base = base.saturating_add(self.decode_start);
            let busy = (batch.decodes as usize).min(self.per_context.len());
            (per_context, per_windowed) = self.per_context[busy - 1];
        }
        if batch.prefill_tokens > 0 {
            let seconds = self.prefill.seconds(
                f64::from(batch.prefill_tokens) * self.share,
                as_f64(batch.prefill_pairs) * self.share,
                as_f64(batch.windowed_pairs) * self.share,
            );
            base = base.saturating_add(picoseconds(seconds));
        }
        Linear { base, per_context, per_windowed }
    }

    /// Useful operations of the step, on all accelerators together.
    #[must_use]
    pub fn flops(&self, batch: &Batch) -> Linear {
        let tokens = f64::from(batch.decodes) + f64::from(batch.prefill_tokens);
        let base = self.work.per_token * tokens
            + self.work.per_sampled * f64::from(batch.sampled)
            + self.work.per_pair * as_f64(batch.prefill_pairs)
            + self.work.per_windowed_pair * as_f64(batch.windowed_pairs);
        Linear {
            base: rounded(base),
            per_context: rounded(self.work.per_context),
            per_windowed: rounded(self.work.per_windowed),
        }
    }

    /// Bytes that the step must read, on all accelerators together: weights and the decodes' caches.
    #[must_use]
    pub fn bytes(&self, batch: &Batch) -> Linear {
        let tokens = batch.decodes.saturating_add(batch.prefill_tokens);
        Linear {
            base: self.weights.at(tokens),
            per_context: rounded(self.cache.0),
            per_windowed: rounded(self.cache.1),
        }
    }
}

impl Setup {
    /// Compiles the setup's steps. Takes about a millisecond.
    #[must_use]
    pub fn compile(&self) -> Steps {
        let decode = self.decode_attention();
        let linear = |tokens: u32| {
            if tokens == 0 {
                return 0;
            }
            let tokens = f64::from(tokens);
            picoseconds(
                self.weights_seconds(tokens)
                    + self.element_wise_seconds(tokens)
                    + self.experts_seconds(tokens)
                    + self.communication_seconds(tokens)
                    + self.constants.step_s,
            )
        };
        let sampled = |sampled: u32| {
            let sampled = f64::from(sampled);
            picoseconds(
                self.head_seconds(sampled)
                    + self.head_communication(sampled)
                    + self.constants.sequence_s * sampled,
            )
        };
        // Each group pads its own share.
        let graphs = self.constants.graph_tokens * f64::from(decode.groups);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let fine = graphs.clamp(f64::from(FINE), f64::from(MOST_FINE)) as u32;
        let weights = |tokens: u32| rounded(self.weight_bytes_read(f64::from(tokens)));
        Steps {
            window: self.window(),
            linear: Curve::new(fine, MOST_TOKENS, linear),
            sampled: Curve::new(FINE, MOST_SEQUENCES, sampled),
            decode_start: picoseconds(decode.start_s),
            per_context: (1..=decode.groups)
                .map(|busy| {
                    let share = |seconds: f64| picoseconds(seconds / f64::from(busy));
                    (share(decode.per_context_s), share(decode.per_windowed_s))
                })
                .collect(),
            prefill: self.prefill_attention(),
            share: 1.0 / f64::from(decode.groups),
            work: self.work(),
            weights: Curve::new(FINE, MOST_TOKENS, weights),
            cache: self.cache_bytes_per_context(),
        }
    }
}

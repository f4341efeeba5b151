//! A step's time compiled to integers, for a simulator that asks millions of times a second.

use crate::setup::Setup;
use crate::step::PrefillAttention;

/// Step times of one setup in picoseconds: `base(decodes, prefill tokens, prefill pairs) + per_context(decodes) x context`.
///
/// Between changes of the batch both are constant, so `k` decode steps of `d` sequences that start at a summed context `C`
/// take exactly `k base + per_context (k C + d k (k - 1) / 2)`.
///
/// Up to 1,024 tokens, and as far as steps are padded to captured graphs, the table has an entry for each count; beyond, it
/// is interpolated between every 64th, where the functions are smooth. Layers with a window count a whole window for each
/// decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    linear: Curve,
    sampled: Curve,
    decode_start: u64,
    /// Of one group of ranks; groups share it.
    per_window: f64,
    per_context: f64,
    groups: u32,
    prefill: PrefillAttention,
    shares: f64,
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
    fn new(fine: u32, most: u32, seconds: impl Fn(u32) -> f64) -> Self {
        let at = |count: u32| picoseconds(seconds(count));
        let knots = most.saturating_sub(fine).div_ceil(COARSE).max(1);
        Self {
            fine: (0..=fine).map(at).collect(),
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
    // Far from 2^64: a step of a day is 8.64e16. A float beyond the range saturates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let ps = (seconds * 1e12 + 0.5) as u64;
    ps
}

impl Steps {
    /// Picoseconds of a step without what each token of context adds; 0 for an empty step. It never falls when an
    /// argument grows.
    #[must_use]
    pub fn base(&self, decodes: u32, prefill_tokens: u32, prefill_pairs: u64) -> u64 {
        let tokens = decodes.saturating_add(prefill_tokens);
        if tokens == 0 {
            return 0;
        }
        let sampled = decodes.saturating_add(prefill_tokens.min(1));
        let mut ps = self.linear.at(tokens).saturating_add(self.sampled.at(sampled));
        if decodes > 0 {
            ps = ps.saturating_add(self.decode_start);
            if self.per_window > 0.0 {
                let windows = self.per_window * f64::from(decodes) / self.busy(decodes);
                ps = ps.saturating_add(picoseconds(windows));
            }
        }
        if prefill_tokens > 0 {
            let pairs = crate::model::as_f64(prefill_pairs) * self.shares;
            let tokens = f64::from(prefill_tokens) * self.shares;
            ps = ps.saturating_add(picoseconds(self.prefill.seconds(tokens, pairs)));
        }
        ps
    }

    /// Picoseconds that each token of the decoding sequences' summed context adds to a step.
    #[must_use]
    pub fn per_context(&self, decodes: u32) -> u64 {
        picoseconds(self.per_context / self.busy(decodes))
    }

    fn busy(&self, decodes: u32) -> f64 {
        f64::from(decodes.clamp(1, self.groups))
    }
}

impl Setup {
    /// Compiles the setup's step times. Takes about a millisecond.
    #[must_use]
    pub fn compile(&self) -> Steps {
        let decode = self.decode_attention();
        let linear = |tokens: u32| {
            if tokens == 0 {
                return 0.0;
            }
            let tokens = f64::from(tokens);
            self.weights_seconds(tokens)
                + self.experts_seconds(tokens)
                + self.communication_seconds(tokens)
                + self.constants.step_s
        };
        let sampled = |sampled: u32| {
            let sampled = f64::from(sampled);
            self.head_seconds(sampled)
                + self.head_communication(sampled)
                + self.constants.sequence_s * sampled
        };
        // Each group pads its own share.
        let graphs = self.constants.graph_tokens * f64::from(decode.groups);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let fine = graphs.clamp(f64::from(FINE), f64::from(MOST_FINE)) as u32;
        Steps {
            linear: Curve::new(fine, MOST_TOKENS, linear),
            sampled: Curve::new(FINE, MOST_SEQUENCES, sampled),
            decode_start: picoseconds(decode.start_s),
            per_window: decode.per_window_s,
            per_context: decode.per_context_s,
            groups: decode.groups,
            prefill: self.prefill_attention(),
            shares: 1.0 / f64::from(decode.groups),
        }
    }
}

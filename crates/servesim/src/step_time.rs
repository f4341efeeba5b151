//! How long an engine step takes: the joint between this crate and a model of the hardware.

use std::num::NonZeroU32;

/// How long the steps of one replica take.
///
/// A pure function: the same batch gives the same answer. It is asked a few times per request, so
/// it should look things up rather than work them out.
pub trait StepTime {
    /// How many tokens the windowed layers look back at, the token itself included; `None` if
    /// every layer attends to everything. Constant.
    fn window(&self) -> Option<NonZeroU32> {
        None
    }

    /// The time that a step of this batch takes, in picoseconds.
    fn step(&self, batch: &Batch) -> Linear;

    /// Floating-point operations of the step; `None` if they are not known.
    fn flops(&self, batch: &Batch) -> Option<Linear> {
        let _ = batch;
        None
    }

    /// Bytes that the step moves between memory and chip; `None` if they are not known.
    fn bytes(&self, batch: &Batch) -> Option<Linear> {
        let _ = batch;
        None
    }
}

impl<T: StepTime + ?Sized> StepTime for &T {
    fn window(&self) -> Option<NonZeroU32> {
        (**self).window()
    }

    fn step(&self, batch: &Batch) -> Linear {
        (**self).step(batch)
    }

    fn flops(&self, batch: &Batch) -> Option<Linear> {
        (**self).flops(batch)
    }

    fn bytes(&self, batch: &Batch) -> Option<Linear> {
        (**self).bytes(batch)
    }
}

/// What one step computes, for all sequences in it together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sequences that compute one token each, the last one generated.
    pub decodes: u32,
    /// Chunks of prompts; what is recomputed after a preemption is a prompt too.
    pub prefills: u32,
    /// Sequences that get a token: the decodes and the prefills that end in this step.
    pub sampled: u32,
    /// Tokens of all chunks.
    pub prefill_tokens: u32,
    /// Pairs of query and key in the chunks: `t*s + t*(t+1)/2` for `t` tokens after `s` others.
    pub prefill_pairs: u64,
    /// The same where no query sees more keys than the window has; equal without a window.
    pub windowed_pairs: u64,
}

/// A quantity that is linear in the contexts of a batch's decodes:
/// `base + per_context * sum(c) + per_windowed * sum(min(c, window))`.
///
/// The context `c` of a decode is the number of keys it attends to: its prompt and everything
/// generated so far, the token that is fed included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linear {
    /// What does not depend on the decodes' contexts.
    pub base: u64,
    /// For each token of context.
    pub per_context: u64,
    /// For each token of context within the window.
    pub per_windowed: u64,
}

impl Batch {
    /// Takes in a chunk of `tokens` that come after `before` others of the same sequence.
    pub(crate) fn add_chunk(&mut self, before: u32, tokens: u32, ends: bool, window: u32) {
        self.prefills += 1;
        self.prefill_tokens += tokens;
        self.sampled += u32::from(ends);
        let all = pairs(before, tokens);
        self.prefill_pairs += all;
        // Queries that lie so far back that they see all keys, and those that see the window.
        let open = window.saturating_sub(before).min(tokens);
        self.windowed_pairs += if open == tokens {
            all
        } else {
            pairs(before, open) + u64::from(tokens - open) * u64::from(window)
        };
    }
}

fn pairs(before: u32, tokens: u32) -> u64 {
    let (before, tokens) = (u64::from(before), u64::from(tokens));
    tokens * before + tokens * (tokens + 1) / 2
}

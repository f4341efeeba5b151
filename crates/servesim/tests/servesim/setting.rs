//! Step times for tests.

use std::num::NonZeroU32;

use servesim::{Batch, Linear, Prefix, StepTime};

/// A made-up machine: every part of a batch costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) step: u64,
    /// Decodes are computed in groups of this size, full or not.
    pub(crate) bucket: u32,
    pub(crate) per_bucket: u64,
    pub(crate) per_token: u64,
    pub(crate) per_chunk: u64,
    pub(crate) per_sampled: u64,
    pub(crate) per_pair: u64,
    pub(crate) per_windowed_pair: u64,
    pub(crate) per_context: u64,
    pub(crate) per_windowed: u64,
    pub(crate) window: Option<NonZeroU32>,
}

impl Machine {
    /// One that takes no time.
    pub(crate) const FREE: Self = Self {
        step: 0,
        bucket: 1,
        per_bucket: 0,
        per_token: 0,
        per_chunk: 0,
        per_sampled: 0,
        per_pair: 0,
        per_windowed_pair: 0,
        per_context: 0,
        per_windowed: 0,
        window: None,
    };
}

/// What a prompt begins with, in plain sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) names: Vec<u64>,
    /// Tokens that each stands for.
    pub(crate) run: u32,
    pub(crate) salt: u32,
}

impl Named {
    pub(crate) fn prefix(&self) -> Prefix {
        let run = NonZeroU32::new(self.run).unwrap();
        Prefix::new(self.names.iter().copied(), run).salted(self.salt)
    }
}

impl StepTime for Machine {
    fn window(&self) -> Option<NonZeroU32> {
        self.window
    }

    fn step(&self, batch: &Batch) -> Linear {
        Linear {
            base: self.step
                + self.per_bucket * u64::from(batch.decodes.div_ceil(self.bucket))
                + self.per_token * u64::from(batch.prefill_tokens)
                + self.per_chunk * u64::from(batch.prefills)
                + self.per_sampled * u64::from(batch.sampled)
                + self.per_pair * batch.prefill_pairs
                + self.per_windowed_pair * batch.windowed_pairs,
            per_context: self.per_context,
            // Depends on the batch, as bandwidth does.
            per_windowed: self.per_windowed * u64::from(1 + batch.decodes % 3),
        }
    }

    fn flops(&self, batch: &Batch) -> Option<Linear> {
        let tokens = u64::from(batch.decodes + batch.prefill_tokens);
        let base = tokens * 7 + batch.prefill_pairs * 3;
        Some(Linear { base, per_context: 3, per_windowed: 0 })
    }

    fn bytes(&self, batch: &Batch) -> Option<Linear> {
        // Known only where there are no prompts of many tokens.
        let known = batch.prefill_tokens < 35 || self.window.is_some();
        known.then_some(Linear { base: 11, per_context: 2, per_windowed: 1 })
    }
}

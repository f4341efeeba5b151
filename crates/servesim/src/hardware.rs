//! What the roofline model says of a setup, as this crate asks for it.

use std::num::NonZeroU32;

use roofline::{MemoryError, Setup, Steps};

use crate::engine::{Engine, MOST_MODEL_LEN};
use crate::pools::Link;
use crate::step_time::{Batch, Linear, StepTime};

impl StepTime for Steps {
    fn window(&self) -> Option<NonZeroU32> {
        self.window()
    }

    #[inline]
    fn step(&self, batch: &Batch) -> Linear {
        self.time(&batch.into()).into()
    }

    #[inline]
    fn flops(&self, batch: &Batch) -> Option<Linear> {
        Some(self.flops(&batch.into()).into())
    }

    #[inline]
    fn bytes(&self, batch: &Batch) -> Option<Linear> {
        Some(self.bytes(&batch.into()).into())
    }
}

impl From<&Batch> for roofline::Batch {
    /// Contexts are left out: what is asked for is a function of them.
    #[inline]
    fn from(batch: &Batch) -> Self {
        Self {
            decodes: batch.decodes,
            sampled: batch.sampled,
            prefill_tokens: batch.prefill_tokens,
            prefill_pairs: batch.prefill_pairs,
            windowed_pairs: batch.windowed_pairs,
            ..Self::default()
        }
    }
}

impl From<roofline::Linear> for Linear {
    fn from(linear: roofline::Linear) -> Self {
        let roofline::Linear { base, per_context, per_windowed } = linear;
        Self { base, per_context, per_windowed }
    }
}

/// From the last byte of a KV cache until the other side can use it: what aiconfigurator takes a message from
/// one accelerator to another to cost (10 us).
const MESSAGE_PS: u64 = 10_000_000;

impl Link {
    /// What a replica of a setup sends a prompt's KV cache over: the accelerator's link, or what carries so many
    /// bytes a second instead, such as a network card between machines.
    ///
    /// # Errors
    /// If the model does not fit, or a data sheet lacks a figure: most of all that of the link.
    pub fn of(setup: &Setup, bytes_per_second: Option<f64>) -> Result<Self, MemoryError> {
        let memory = setup.memory()?;
        let bytes_per_second = match bytes_per_second {
            Some(stated) => stated,
            None => setup.accelerator.link_bytes_per_s()?,
        };
        let window = setup.window().map_or(0, NonZeroU32::get);
        let windowed = memory.kv_bytes_per_sequence / f64::from(window.max(1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let whole = |figure: f64| figure.ceil() as u64;
        Ok(Self {
            bytes_per_second: whole(bytes_per_second).max(1),
            latency_ps: MESSAGE_PS,
            bytes_per_token: whole(memory.kv_bytes_per_token),
            windowed_bytes_per_token: whole(windowed),
            window,
        })
    }
}

impl Engine {
    /// The defaults of a setup's engine, with the KV cache that fits and contexts as long as the
    /// model and the cache allow. Steps mix prompts and decodes, which some engines do only when
    /// they are told to (`roofline::Engine::mixes`).
    ///
    /// # Errors
    /// If the model does not fit, or a data sheet lacks a figure.
    pub fn of(setup: &Setup) -> Result<Self, MemoryError> {
        let memory = setup.memory()?;
        let limits = setup.engine.limits(&setup.accelerator)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let context = setup.model.max_context()? as u64;
        let most = context.min(memory.kv_tokens).min(u64::from(MOST_MODEL_LEN));
        Ok(Self {
            block_tokens: memory.block_tokens,
            max_num_seqs: limits.max_seqs,
            max_num_batched_tokens: limits.token_budget,
            ..Self::new(
                u32::try_from(memory.kv_blocks).unwrap_or(u32::MAX),
                u32::try_from(most).unwrap_or(MOST_MODEL_LEN),
            )
        })
    }
}

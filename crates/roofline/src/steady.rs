//! A steady state in closed form: what a fixed number of clients get, without simulating.

use crate::memory::MemoryError;
use crate::model::as_f64;
use crate::setup::Setup;
use crate::step::{Batch, pairs, windowed_pairs};

/// A closed loop: so many clients, each of which sends its next request when the last is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedLoop {
    /// Tokens of a prompt.
    pub isl: u32,
    /// Tokens of a reply.
    pub osl: u32,
    /// Clients.
    pub concurrency: u32,
}

/// What they get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steady {
    /// Sequences that decode at once: the clients, or what the engine's limits or the KV cache admit of them.
    pub running: u32,
    /// Mean seconds from one token of a reply to the next.
    pub tpot_s: f64,
    /// Seconds from admission to the first token: the rest of a step, and the prompt's chunks. Queueing for a place is
    /// not in it, nor prompts that arrive together.
    pub ttft_s: f64,
    /// Tokens of replies per second of the replica.
    pub output_tokens_per_s: f64,
    /// Fraction of steps that also prefill.
    pub mixed_steps: f64,
}

impl Setup {
    /// The steady state of a closed loop, in closed form.
    ///
    /// While a reply's `OSL` tokens are decoded, each of the `N` running sequences is replaced once, so `N` prompts are
    /// prefilled, in `N x ceil(ISL / budget)` of the steps while those suffice and in all steps otherwise. `TPOT` is
    /// the mean over steps with and without a prompt, at the mean context `ISL + OSL / 2`; where an engine does not mix,
    /// steps of prompts stand between.
    ///
    /// # Errors
    /// [`MemoryError`] if the model does not fit, or a figure is missing.
    pub fn steady(&self, load: ClosedLoop) -> Result<Steady, MemoryError> {
        let memory = self.memory()?;
        let limits = self.engine.limits(&self.accelerator)?;
        let groups = self.layout.data * self.layout.pipeline;
        let (isl, osl) = (load.isl.max(1), load.osl.max(1));
        let context = isl.saturating_add(osl / 2);
        let room = as_f64(memory.kv_tokens) / f64::from(context);
        let seqs = limits.max_seqs.saturating_mul(groups);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let running = load.concurrency.min(seqs).min(room as u32).max(1);
        // Each group of ranks has a budget of its own.
        let budget = limits.token_budget.saturating_mul(groups);
        let mixes = self.engine.mixes()?;
        let for_prompts = if mixes { budget.saturating_sub(running).max(1) } else { budget };

        let decode = self.decodes(running, context);
        let decode_s = self.step(decode).seconds();
        // Prompts of different groups are prefilled side by side.
        let together = groups.min(running);
        let chunks = (f64::from(isl) * f64::from(together) / f64::from(for_prompts)).ceil();
        let mixed_per_reply = f64::from(running) / f64::from(together) * chunks;
        let osl_steps = f64::from(osl);
        // When more steps are wanted than a reply has, prompts share them.
        let mixed_steps = (mixed_per_reply / osl_steps).min(1.0);
        let prompts_per_mixed = f64::from(running) / (osl_steps * mixed_steps);
        let mut with_prompt = self.prompts(isl, prompts_per_mixed);
        if mixes {
            let sampled = decode.sampled + with_prompt.sampled;
            let Batch { decodes, context, windowed_context, .. } = decode;
            with_prompt = Batch { decodes, context, windowed_context, sampled, ..with_prompt };
        }
        let prompt_s = self.step(with_prompt).seconds();
        let (tpot_s, between_s) = if mixes {
            (mixed_steps * prompt_s + (1.0 - mixed_steps) * decode_s, 0.0)
        } else {
            let standing = mixed_per_reply.min(osl_steps) / osl_steps;
            (decode_s + standing * prompt_s, decode_s)
        };
        let ttft_s = tpot_s / 2.0 + chunks * (prompt_s + between_s) - between_s.min(decode_s);
        let reply_s = ttft_s + tpot_s * (osl_steps - 1.0);
        Ok(Steady {
            running,
            tpot_s,
            ttft_s,
            output_tokens_per_s: f64::from(running) * osl_steps / reply_s,
            mixed_steps,
        })
    }

    /// A batch that prefills so many prompts, or a part of one.
    fn prompts(&self, isl: u32, prompts: f64) -> Batch {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let of_each = |count: u64| ((as_f64(count) * prompts).round() as u64).max(1);
        let tokens = u32::try_from(of_each(u64::from(isl))).unwrap_or(u32::MAX);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let sampled = prompts.ceil() as u32;
        Batch {
            prefill_tokens: tokens,
            prefill_pairs: of_each(pairs(isl, 0)),
            windowed_pairs: of_each(windowed_pairs(isl, 0, self.window())),
            sampled,
            ..Batch::default()
        }
    }
}

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
    /// prefilled, and the mean context is `ISL + OSL / 2`.
    ///
    /// Where an engine mixes, they are prefilled in `N x ceil(ISL / budget)` of the `OSL` steps while those suffice and in
    /// all steps otherwise; `TPOT` is the mean over steps with and without a prompt. Where prompts go first, replies that
    /// end together are replaced together, so that their prompts are prefilled in a row: on average a reply waits for half
    /// of them before its first token, and for the other half after it.
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
        // Each group of ranks has a budget of its own, and prefills prompts beside the others.
        let budget = limits.token_budget.saturating_mul(groups);
        let decode = self.decodes(running, context);
        let decode_s = self.step(decode).seconds();
        let (running_f, osl_f) = (f64::from(running), f64::from(osl));
        let (tpot_s, ttft_s, mixed_steps) = if self.engine.mixes()? {
            let beside = f64::from(groups.min(running));
            let for_prompts = f64::from(budget.saturating_sub(running).max(1));
            let chunks = (f64::from(isl) * beside / for_prompts).ceil();
            let mixed_steps = (running_f / beside * chunks / osl_f).min(1.0);
            let prompts = self.prompts(isl, running_f / (osl_f * mixed_steps));
            let Batch { decodes, context, windowed_context, .. } = decode;
            let sampled = decode.sampled + prompts.sampled;
            let both = Batch { decodes, context, windowed_context, sampled, ..prompts };
            let both_s = self.step(both).seconds();
            let tpot_s = mixed_steps * both_s + (1.0 - mixed_steps) * decode_s;
            (tpot_s, tpot_s / 2.0 + chunks * both_s, mixed_steps)
        } else {
            let together = f64::from((budget / isl).clamp(1, running));
            let prompts_s = self.step(self.prompts(isl, together)).seconds();
            let half_s = running_f / together * prompts_s / 2.0;
            (decode_s + half_s / osl_f, decode_s / 2.0 + half_s + prompts_s / 2.0, 0.0)
        };
        let reply_s = ttft_s + tpot_s * (osl_f - 1.0);
        Ok(Steady {
            running,
            tpot_s,
            ttft_s,
            output_tokens_per_s: running_f * osl_f / reply_s,
            mixed_steps,
        })
    }

    /// The steady state of as many clients, up to those of the load and at least one, as leave each token of a reply no more
    /// than so many seconds in the mean.
    ///
    /// # Errors
    /// As [`Self::steady`].
    pub fn steady_within(&self, most: ClosedLoop, tpot_s: f64) -> Result<Steady, MemoryError> {
        let steady = |concurrency| self.steady(ClosedLoop { concurrency, ..most });
        let (mut fits, mut above) = (1, most.concurrency.max(1) + 1);
        while above - fits > 1 {
            let middle = fits.midpoint(above);
            if steady(middle)?.tpot_s <= tpot_s { fits = middle } else { above = middle }
        }
        steady(fits)
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

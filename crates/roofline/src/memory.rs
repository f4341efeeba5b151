//! What fits: weights, and the KV cache in what they leave.

use crate::accelerator::GIB;
use crate::model::as_f64;
use crate::setup::Setup;
use crate::sheet::Missing;

/// How one accelerator's memory is used, and what cache the whole replica has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Memory of one accelerator, in bytes.
    pub hbm_bytes: f64,
    /// What the engine allows itself of it.
    pub usable_bytes: f64,
    /// Weights on the fullest accelerator.
    pub weight_bytes: f64,
    /// Activations, captured graphs and communication buffers.
    pub other_bytes: f64,
    /// What is left for the KV cache.
    pub kv_bytes: f64,
    /// Bytes that a token of context takes on each accelerator that keeps it.
    pub kv_bytes_per_token: f64,
    /// Bytes that a running sequence takes besides, in layers with a window.
    pub kv_bytes_per_sequence: f64,
    /// Tokens of a block.
    pub block_tokens: u32,
    /// Blocks of the whole replica.
    pub kv_blocks: u64,
    /// Tokens of context that the whole replica keeps: whole blocks.
    pub kv_tokens: u64,
}

/// Why a setup has no memory for a KV cache.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MemoryError {
    /// A figure that the sheets do not state.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It does not fit.
    #[error(
        "`{model}` does not fit: weights {:.1} GiB and {:.1} GiB besides on each accelerator, \
         which leaves no block of the KV cache in the usable {:.1} of {:.1} GiB of `{accelerator}`",
        .weight_bytes / GIB, .other_bytes / GIB, .usable_bytes / GIB, .hbm_bytes / GIB
    )]
    DoesNotFit {
        /// The model.
        model: String,
        /// The accelerator.
        accelerator: String,
        /// Weights on the fullest accelerator, in bytes.
        weight_bytes: f64,
        /// Activations, graphs and buffers, in bytes.
        other_bytes: f64,
        /// What the engine allows itself, in bytes.
        usable_bytes: f64,
        /// Memory of one accelerator, in bytes.
        hbm_bytes: f64,
    },
}

impl Setup {
    /// Bytes of weights on the fullest accelerator: what tensor ranks share is divided, heads are copied when there are
    /// fewer than ranks, routed experts are divided by all ranks, a stage holds its layers and one of the embeddings.
    #[must_use]
    pub fn weight_bytes(&self) -> f64 {
        let model = &self.model;
        let stages = f64::from(self.layout.pipeline);
        let layers = (as_f64(model.layers) / stages).ceil();
        let of_layers = layers / as_f64(model.layers);
        let shared = self.shared_elements_per_rank() * self.formats.weights.weight_bytes();
        let experts = model.experts.map_or(0.0, |experts| {
            let ranks = f64::from(self.layout.expert) * f64::from(self.layout.expert_tensor());
            let one = 3.0 * as_f64(model.hidden) * as_f64(experts.ffn);
            as_f64(experts.layers) * as_f64(experts.routed) * one / ranks
                * self.formats.experts.weight_bytes()
        });
        let embeddings = if model.tied || self.layout.pipeline > 1 { 1.0 } else { 2.0 };
        let embedding = as_f64(model.vocab * model.hidden) / f64::from(self.layout.tensor) * 2.0;
        (shared + experts) * of_layers + embeddings * embedding
    }

    /// What fits on the accelerators: `KV = usable - weights - other`, where usable is a fraction of the memory (or, for an
    /// engine with `memory_of_free`, the fraction is of what the others leave). Never less than a block.
    ///
    /// # Errors
    /// [`MemoryError::DoesNotFit`] says the figures; [`MemoryError::Missing`] names one that a sheet lacks.
    pub fn memory(&self) -> Result<Memory, MemoryError> {
        let engine = self.engine.row();
        let hbm_bytes = self.accelerator.hbm_bytes()?;
        let fraction = engine.figure("memory_fraction")?;
        let of_free = engine.stated("memory_of_free") == Some(1.0);
        let either = |special: bool, key: &'static str, general: &'static str| {
            let stated = if special { engine.stated(key) } else { None };
            stated.map_or_else(|| engine.figure(general), Ok)
        };
        let activation =
            either(self.model.experts.is_some(), "activation_gib_moe", "activation_gib")?;
        let other = either(self.layout.accelerators() > 1, "other_gib_parallel", "other_gib")?;
        let other_bytes = (activation + other) * GIB;
        let weight_bytes = self.weight_bytes();
        let (usable_bytes, kv_bytes) = if of_free {
            (hbm_bytes, fraction * (hbm_bytes - weight_bytes - other_bytes))
        } else {
            let usable = fraction * hbm_bytes;
            (usable, usable - weight_bytes - other_bytes)
        };
        let block_tokens = self.engine.block_tokens()?;
        let stages = f64::from(self.layout.pipeline);
        let layer = self.kv_elements_per_rank() * self.formats.kv.bytes();
        let windowed = self.model.window.map_or(0, |window| window.layers);
        // Where every layer has a window, blocks are still kept per token.
        let (full, windowed) = match self.model.full_layers() {
            0 => (self.model.layers, 0),
            full => (full, windowed),
        };
        let window = self.model.window.map_or(0.0, |window| as_f64(window.tokens));
        let kv_bytes_per_token = (as_f64(full) / stages).ceil() * layer;
        let kv_bytes_per_sequence = (as_f64(windowed) / stages).ceil() * window * layer;
        let blocks = (kv_bytes / (kv_bytes_per_token * f64::from(block_tokens))).floor();
        if blocks < 1.0 {
            return Err(MemoryError::DoesNotFit {
                model: self.model.row().name().to_owned(),
                accelerator: self.accelerator.row().name().to_owned(),
                weight_bytes,
                other_bytes,
                usable_bytes,
                hbm_bytes,
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to 2^63, or saturates"
        )]
        let kv_blocks = (blocks as u64).saturating_mul(u64::from(self.layout.data));
        Ok(Memory {
            hbm_bytes,
            usable_bytes,
            weight_bytes,
            other_bytes,
            kv_bytes,
            kv_bytes_per_token,
            kv_bytes_per_sequence,
            block_tokens,
            kv_blocks,
            kv_tokens: kv_blocks.saturating_mul(u64::from(block_tokens)),
        })
    }

    /// Energy of a step of so many seconds, in joules, if all accelerators drew their thermal design power: an upper bound.
    /// Divide by the step's tokens for joules per token.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state the power.
    pub fn energy_joules(&self, seconds: f64) -> Result<f64, Missing> {
        Ok(self.accelerator.tdp_watts()? * f64::from(self.layout.accelerators()) * seconds)
    }

    /// MFU and MBU of a step: its useful operations and the bytes it must read, by what all accelerators could have done in
    /// its time. Operations are compared with the peak of the weights' arithmetic.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state a peak.
    pub fn utilisation(&self, cost: crate::StepCost) -> Result<(f64, f64), Missing> {
        let all = f64::from(self.layout.accelerators()) * cost.seconds();
        let flops = self.accelerator.flops(self.formats.weights.arithmetic())?;
        Ok((cost.flops / (flops * all), cost.bytes / (self.constants.bandwidth * all)))
    }
}

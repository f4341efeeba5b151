//! The time of one step, from first principles.
//!
//! A step computes `T` tokens: one for each sequence that decodes, and the chunks of prompts that are prefilled. Each matrix
//! is read once and shared by all of them; each sequence's cache is read for itself. Per layer and kernel
//! `t0 + ((F / (ec P))^4 + (B / (em W))^4)^(1/4)` ([`crate::smooth_roofline`]), and kernels follow each other.

use std::num::NonZeroU32;

use crate::kernel::smooth_roofline;
use crate::model::{Attention, as_f64};
use crate::setup::{Class, Setup};

/// What one step of a replica computes, for all its sequences together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Batch {
    /// Sequences that each decode a token.
    pub decodes: u32,
    /// Keys that they attend to, summed: tokens so far, the one being fed included.
    pub context: u64,
    /// The same with each sequence's keys capped at the model's window; the same number for a model without one.
    pub windowed_context: u64,
    /// Tokens of prompts that are prefilled.
    pub prefill_tokens: u32,
    /// Pairs of a new token and one that it attends to ([`pairs`]), over all chunks of prompts.
    pub prefill_pairs: u64,
    /// The same with each new token's keys capped at the window.
    pub windowed_pairs: u64,
    /// Positions whose next token is sampled: all that decode, and prompts that end in this step.
    pub sampled: u32,
}

/// Pairs of a new token and one that it attends to, for a chunk of `new` tokens after `before` others:
/// `n s + n (n + 1) / 2`.
#[must_use]
pub fn pairs(new: u32, before: u32) -> u64 {
    let (new, before) = (u64::from(new), u64::from(before));
    new * before + new * (new + 1) / 2
}

/// [`pairs`] with each new token's keys capped at a window.
#[must_use]
pub fn windowed_pairs(new: u32, before: u32, window: Option<NonZeroU32>) -> u64 {
    let Some(window) = window.map(NonZeroU32::get) else { return pairs(new, before) };
    let below = window.saturating_sub(before).min(new);
    pairs(below, before) + u64::from(new - below) * u64::from(window)
}

/// Where the time of a step goes, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepCost {
    /// Seconds in matrices that every token passes: attention's projections, feed-forward layers, shared experts, output.
    pub weights_s: f64,
    /// Seconds in norms, rotations, activations and residuals.
    pub element_wise_s: f64,
    /// Seconds in routed experts.
    pub experts_s: f64,
    /// Seconds that decoding sequences attend to their caches.
    pub decode_attention_s: f64,
    /// Seconds that prompts attend to themselves.
    pub prefill_attention_s: f64,
    /// Seconds between accelerators.
    pub communication_s: f64,
    /// Seconds that accelerators wait for the host.
    pub host_s: f64,
    /// Useful floating point operations of the whole replica.
    pub flops: f64,
    /// Bytes that all its accelerators must read: weights once each, and the cache.
    pub bytes: f64,
}

impl StepCost {
    /// Seconds from one token of a sequence to its next.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.weights_s
            + self.element_wise_s
            + self.experts_s
            + self.decode_attention_s
            + self.prefill_attention_s
            + self.communication_s
            + self.host_s
    }
}

/// A matrix on one rank.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    input: f64,
    output: f64,
    /// Layers that have it.
    layers: f64,
}

/// Seconds of the prefill's attention: `layers x (t0 + roofline)`, for full and for windowed layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PrefillAttention {
    start_s: f64,
    per_pair_s: f64,
    per_token_s: f64,
    full_layers: f64,
    windowed_layers: f64,
}

impl PrefillAttention {
    /// Seconds for so many tokens and pairs; the latter in layers that see everything, and in those with a window.
    pub(crate) fn seconds(self, tokens: f64, pairs: f64, windowed: f64) -> f64 {
        if tokens <= 0.0 {
            return 0.0;
        }
        let layer =
            |pairs: f64| smooth_roofline(self.per_pair_s * pairs, self.per_token_s * tokens);
        let mut seconds = self.start_s + self.full_layers * layer(pairs);
        if self.windowed_layers > 0.0 {
            seconds += self.windowed_layers * layer(windowed);
        }
        seconds
    }
}

/// Seconds of the decodes' attention: a start, and each token of summed context, whole or capped at the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DecodeAttention {
    pub(crate) start_s: f64,
    pub(crate) per_context_s: f64,
    pub(crate) per_windowed_s: f64,
    /// Groups of ranks that share the sequences among them.
    pub(crate) groups: u32,
}

impl DecodeAttention {
    /// How many groups have one of the sequences at least.
    pub(crate) fn busy(self, decodes: u32) -> f64 {
        f64::from(decodes.clamp(1, self.groups))
    }
}

impl Setup {
    /// Where the time of a step goes.
    ///
    /// With pipeline stages a step is the round in which every sequence gets a token: the stages work on as many parts of
    /// the batch, so it takes one part's way through all layers. A lone prompt is not helped by the stages, and takes
    /// longer than this says. Data ranks share the sequences evenly.
    #[must_use]
    pub fn step(&self, batch: Batch) -> StepCost {
        let tokens = f64::from(batch.decodes) + f64::from(batch.prefill_tokens);
        if tokens == 0.0 {
            return StepCost::default();
        }
        let sampled = f64::from(batch.sampled);
        let decode = self.decode_attention();
        let prefill = self.prefill_attention();
        let decode_attention_s = if batch.decodes == 0 {
            0.0
        } else {
            let read = decode.per_context_s * as_f64(batch.context)
                + decode.per_windowed_s * as_f64(batch.windowed_context);
            decode.start_s + read / decode.busy(batch.decodes)
        };
        let share = 1.0 / f64::from(decode.groups);
        let prefill_attention_s = prefill.seconds(
            f64::from(batch.prefill_tokens) * share,
            as_f64(batch.prefill_pairs) * share,
            as_f64(batch.windowed_pairs) * share,
        );
        StepCost {
            weights_s: self.weights_seconds(tokens) + self.head_seconds(sampled),
            element_wise_s: self.element_wise_seconds(tokens),
            experts_s: self.experts_seconds(tokens),
            decode_attention_s,
            prefill_attention_s,
            communication_s: self.communication_seconds(tokens) + self.head_communication(sampled),
            host_s: self.constants.step_s + self.constants.sequence_s * sampled,
            flops: self.flops(batch),
            bytes: self.weight_bytes_read(tokens) + self.cache_bytes_read(batch),
        }
    }

    /// Tokens of one part of the batch on its way through the stages, and those of one data rank.
    fn shares(&self, tokens: f64) -> (f64, f64) {
        let least = tokens.min(1.0);
        let part = (tokens / f64::from(self.layout.pipeline)).max(least);
        (part, (part / f64::from(self.layout.data)).max(least))
    }

    /// Tokens that layers with a window look back at.
    #[must_use]
    pub fn window(&self) -> Option<NonZeroU32> {
        let window = self.model.window?;
        NonZeroU32::new(u32::try_from(window.tokens).unwrap_or(u32::MAX))
    }

    /// A batch of sequences that decode, each attending to so many tokens.
    #[must_use]
    pub fn decodes(&self, decodes: u32, context_each: u32) -> Batch {
        let of_each = |keys: u32| u64::from(decodes) * u64::from(keys);
        let seen = self.window().map_or(context_each, |window| context_each.min(window.get()));
        Batch {
            decodes,
            context: of_each(context_each),
            windowed_context: of_each(seen),
            sampled: decodes,
            ..Batch::default()
        }
    }

    /// A batch of one chunk of a prompt: `new` tokens after `before` others, the last of which is sampled.
    #[must_use]
    pub fn prefill(&self, new: u32, before: u32) -> Batch {
        Batch {
            prefill_tokens: new,
            prefill_pairs: pairs(new, before),
            windowed_pairs: windowed_pairs(new, before, self.window()),
            sampled: new.min(1),
            ..Batch::default()
        }
    }

    /// The matrices that every token passes, on one rank.
    fn matrices(&self) -> Vec<Matrix> {
        let model = &self.model;
        let (h, layers) = (as_f64(model.hidden), as_f64(model.layers));
        let ranks = f64::from(self.layout.tensor);
        let mut all = Vec::new();
        let mut matrix = |input: f64, output: f64, layers: f64| {
            if layers > 0.0 && input > 0.0 && output > 0.0 {
                all.push(Matrix { input, output, layers });
            }
        };
        match model.attention {
            Attention::Grouped { heads, head_dim, .. } => {
                let queries = as_f64(heads * head_dim) / ranks;
                matrix(h, queries + self.kv_elements_per_rank(), layers);
                matrix(queries, h, layers);
            }
            Attention::Latent { heads, q_lora, kv_lora, nope, rope, value } => {
                let [heads, kv_lora, nope, rope, value] =
                    [heads, kv_lora, nope, rope, value].map(as_f64);
                let heads = heads / ranks;
                match q_lora.map(as_f64) {
                    Some(q_lora) => {
                        // Both compressions are one multiplication, which every rank repeats.
                        matrix(h, q_lora + kv_lora + rope, layers);
                        matrix(q_lora, heads * (nope + rope), layers);
                    }
                    None => matrix(h, heads * (nope + rope) + kv_lora + rope, layers),
                }
                matrix(kv_lora, heads * (nope + value), layers);
                matrix(heads * value, h, layers);
            }
        }
        let mut feed_forward = |width: f64, layers: f64| {
            matrix(h, 2.0 * width / ranks, layers);
            matrix(width / ranks, h, layers);
        };
        let moe_layers = model.experts.map_or(0, |experts| experts.layers);
        feed_forward(as_f64(model.ffn), as_f64(model.layers - moe_layers));
        if let Some(experts) = model.experts {
            feed_forward(as_f64(experts.shared_ffn), as_f64(experts.layers));
            matrix(h, as_f64(experts.routed), as_f64(experts.layers));
        }
        all
    }

    /// Elements of those matrices on one rank, of all layers.
    pub(crate) fn shared_elements_per_rank(&self) -> f64 {
        self.matrices().into_iter().map(|m| m.layers * m.input * m.output).sum()
    }

    /// Seconds in the matrices of all layers. The tokens are padded to a captured CUDA graph.
    pub(crate) fn weights_seconds(&self, tokens: f64) -> f64 {
        let (_, own) = self.shares(tokens);
        let own = graph_size(own, self.constants.graph_tokens);
        let format = self.formats.weights;
        let seconds = self.matrices().into_iter().map(|matrix| {
            let one = matrix_seconds(
                &self.constants.weights,
                own,
                matrix,
                format.weight_bytes(),
                format.activation_bytes(),
            );
            matrix.layers * one
        });
        seconds.sum()
    }

    /// Seconds in the four element-wise kernels of a layer: two norms with their residuals, the rotation with the write to
    /// the cache, and the activation; each starts in 3 us and moves its bytes at 0.8 of the bandwidth (aiconfigurator's
    /// constants for such kernels).
    pub(crate) fn element_wise_seconds(&self, tokens: f64) -> f64 {
        const KERNELS: f64 = 4.0;
        const START_S: f64 = 3e-6;
        const BANDWIDTH: f64 = 0.8;
        let model = &self.model;
        let (_, own) = self.shares(tokens);
        let ranks = f64::from(self.layout.tensor);
        let norms = 2.0 * 4.0 * as_f64(model.hidden);
        let rotation = 2.0 * self.kv_elements_per_rank();
        let width = model.experts.map_or(model.ffn, |experts| experts.shared_ffn.max(model.ffn));
        let activation = 3.0 * as_f64(width) / ranks;
        let bytes = 2.0 * own * (norms + rotation + activation);
        let seconds = KERNELS * START_S + bytes / (BANDWIDTH * self.constants.bandwidth);
        as_f64(model.layers) * seconds
    }

    /// Seconds in the output matrix, which stays in bfloat16.
    pub(crate) fn head_seconds(&self, sampled: f64) -> f64 {
        let (_, own) = self.shares(sampled);
        if own == 0.0 {
            return 0.0;
        }
        let output = as_f64(self.model.vocab) / f64::from(self.layout.tensor);
        let matrix = Matrix { input: as_f64(self.model.hidden), output, layers: 1.0 };
        matrix_seconds(&self.constants.head, own, matrix, 2.0, 2.0)
    }

    /// Seconds in routed experts: `F = 2 x 3 h I k T` and the bytes of the distinct experts that `T` tokens touch, shared by
    /// the ranks; and the traffic of activations, `2 (rows x r (h + I) + results x T k h)` bytes, where `r` are the rows that
    /// the rank's experts compute, and the results of all choices are gathered and summed on every rank that has the tokens.
    pub(crate) fn experts_seconds(&self, tokens: f64) -> f64 {
        let (Some(experts), Some(class)) = (self.model.experts, self.constants.experts) else {
            return 0.0;
        };
        let (part, own) = self.shares(tokens);
        let (h, active) = (as_f64(self.model.hidden), as_f64(experts.active));
        let width = as_f64(experts.ffn) / f64::from(self.layout.expert_tensor());
        let ranks = f64::from(self.layout.expert);
        let one = 3.0 * h * width / ranks;
        let flops = 2.0 * one * active * part;
        let bytes = one * experts.touched(part) * self.formats.experts.weight_bytes();
        let seconds = smooth_roofline(flops / class.flops, bytes / class.bytes_per_s);
        let (rows, results) = class.fractions.traffic;
        let moved = 2.0 * active * (rows * part / ranks * (h + width) + results * own * h);
        as_f64(experts.layers) * (class.start_s + seconds + moved / self.constants.bandwidth)
    }

    /// Seconds between accelerators for all layers: two all-reduces a layer among tensor ranks; with data ranks the tokens
    /// are sent to their experts and back; between stages, 10 us and the residual stream (aiconfigurator's p2p latency).
    pub(crate) fn communication_seconds(&self, tokens: f64) -> f64 {
        const NEXT_STAGE_S: f64 = 10e-6;
        let (part, own) = self.shares(tokens);
        let c = &self.constants;
        let h = as_f64(self.model.hidden);
        let moe_layers = as_f64(self.model.experts.map_or(0, |experts| experts.layers));
        let exchanging = if self.layout.data > 1 { moe_layers } else { 0.0 };
        let reductions = 2.0 * as_f64(self.model.layers) - exchanging;
        let mut seconds = 0.0;
        if self.layout.tensor > 1 {
            seconds += reductions * c.all_reduce.seconds(own * h * 2.0);
        }
        if let Some(experts) = self.model.experts
            && exchanging > 0.0
            && self.layout.expert > 1
        {
            // A token goes once to every rank that has one of its experts, and its result comes back in bfloat16. The bus
            // counts a byte of an all-reduce twice.
            let ranks = f64::from(self.layout.expert);
            let copies = as_f64(experts.active).min(ranks);
            let sent = own / f64::from(self.layout.tensor) * copies * h;
            let bytes = sent * (self.formats.experts.activation_bytes() + 2.0);
            seconds += exchanging * (c.exchange.seconds(bytes / 2.0) + c.exchange.seconds(0.0));
        }
        let boundaries = f64::from(self.layout.pipeline - 1);
        seconds + boundaries * (NEXT_STAGE_S + part * h * 2.0 / c.link)
    }

    /// Seconds to gather the output from the tensor ranks: half an all-reduce.
    pub(crate) fn head_communication(&self, sampled: f64) -> f64 {
        let (_, own) = self.shares(sampled);
        if own == 0.0 || self.layout.tensor == 1 {
            return 0.0;
        }
        self.constants.all_reduce.seconds(own * as_f64(self.model.vocab))
    }

    /// Attention of a new token: `F = 4 H d` and `B = 2 K d` elements for each token before it. For latent attention
    /// `F = 2 H (kv_lora + rope) + 2 H kv_lora` and `B = kv_lora + rope` elements, which tensor ranks do not share.
    pub(crate) fn decode_attention(&self) -> DecodeAttention {
        let model = &self.model;
        let class = &self.constants.decode;
        let flops = self.decode_flops_per_context() / f64::from(self.layout.tensor);
        let bytes = self.kv_elements_per_rank() * self.formats.kv.bytes();
        let per_token = smooth_roofline(flops / class.flops, bytes / class.bytes_per_s);
        let windowed = as_f64(model.layers - model.full_layers());
        DecodeAttention {
            start_s: as_f64(model.layers) * class.start_s,
            per_context_s: as_f64(model.full_layers()) * per_token,
            per_windowed_s: windowed * per_token,
            groups: self.layout.data * self.layout.pipeline,
        }
    }

    /// Attention of prompts: `F = 4 H d` for each pair (`2 H (nope + rope + value)` if latent), `B` the queries, keys, values
    /// and results of the new tokens.
    pub(crate) fn prefill_attention(&self) -> PrefillAttention {
        let model = &self.model;
        let class = &self.constants.prefill;
        let ranks = f64::from(self.layout.tensor);
        let (flops, elements) = match model.attention {
            Attention::Grouped { heads, head_dim, .. } => {
                let queries = as_f64(heads * head_dim) / ranks;
                (4.0 * queries, 2.0 * queries + self.kv_elements_per_rank())
            }
            Attention::Latent { heads, nope, rope, value, .. } => {
                let [heads, nope, rope, value] = [heads, nope, rope, value].map(as_f64);
                let widths = heads / ranks * (nope + rope + value);
                (2.0 * widths, 2.0 * widths)
            }
        };
        PrefillAttention {
            start_s: as_f64(model.layers) * class.start_s,
            per_pair_s: flops / class.flops,
            per_token_s: elements * 2.0 / class.bytes_per_s,
            full_layers: as_f64(model.full_layers()),
            windowed_layers: as_f64(model.layers - model.full_layers()),
        }
    }

    fn decode_flops_per_context(&self) -> f64 {
        match self.model.attention {
            Attention::Grouped { heads, head_dim, .. } => 4.0 * as_f64(heads * head_dim),
            Attention::Latent { heads, kv_lora, rope, .. } => {
                2.0 * as_f64(heads) * (2.0 * as_f64(kv_lora) + as_f64(rope))
            }
        }
    }

    /// Useful operations of a step: two for each active parameter and token, and attention's.
    fn flops(&self, batch: Batch) -> f64 {
        let work = self.work();
        let tokens = f64::from(batch.decodes) + f64::from(batch.prefill_tokens);
        work.per_token * tokens
            + work.per_sampled * f64::from(batch.sampled)
            + work.per_context * as_f64(batch.context)
            + work.per_windowed * as_f64(batch.windowed_context)
            + work.per_pair * as_f64(batch.prefill_pairs)
            + work.per_windowed_pair * as_f64(batch.windowed_pairs)
    }

    pub(crate) fn work(&self) -> Work {
        let model = &self.model;
        let head = as_f64(model.vocab) * as_f64(model.hidden);
        let full = as_f64(model.full_layers());
        let windowed = as_f64(model.layers) - full;
        let decode = self.decode_flops_per_context();
        let prefill = match model.attention {
            Attention::Grouped { .. } => decode,
            Attention::Latent { heads, nope, rope, value, .. } => {
                2.0 * as_f64(heads * (nope + rope + value))
            }
        };
        Work {
            per_token: 2.0 * (as_f64(model.active_parameters()) - head),
            per_sampled: 2.0 * head,
            per_context: full * decode,
            per_windowed: windowed * decode,
            per_pair: full * prefill,
            per_windowed_pair: windowed * prefill,
        }
    }

    /// Bytes of weights that all accelerators together read in a step of so many tokens: each matrix once, of the routed
    /// experts those that are touched, and all of it again for each part of the batch that stages work on.
    pub(crate) fn weight_bytes_read(&self, tokens: f64) -> f64 {
        let model = &self.model;
        let (part, _) = self.shares(tokens);
        let copies = f64::from(self.layout.data) * f64::from(self.layout.tensor);
        let head = as_f64(model.vocab) * as_f64(model.hidden) * 2.0 * f64::from(self.layout.data);
        let shared = self.shared_elements_per_rank() * copies * self.formats.weights.weight_bytes();
        let experts = model.experts.map_or(0.0, |experts| {
            let one = 3.0 * as_f64(model.hidden) * as_f64(experts.ffn);
            as_f64(experts.layers)
                * one
                * experts.touched(part)
                * self.formats.experts.weight_bytes()
        });
        (shared + experts + head) * f64::from(self.layout.pipeline).min(tokens)
    }

    /// Bytes that all accelerators together read for a token of context, in layers that see everything and in those with
    /// a window.
    pub(crate) fn cache_bytes_per_context(&self) -> (f64, f64) {
        let model = &self.model;
        let layer =
            self.kv_elements_per_rank() * f64::from(self.layout.tensor) * self.formats.kv.bytes();
        let full = as_f64(model.full_layers());
        (layer * full, layer * (as_f64(model.layers) - full))
    }

    fn cache_bytes_read(&self, batch: Batch) -> f64 {
        let (full, windowed) = self.cache_bytes_per_context();
        full * as_f64(batch.context) + windowed * as_f64(batch.windowed_context)
    }
}

/// Useful operations by what causes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Work {
    pub(crate) per_token: f64,
    pub(crate) per_sampled: f64,
    pub(crate) per_context: f64,
    pub(crate) per_windowed: f64,
    pub(crate) per_pair: f64,
    pub(crate) per_windowed_pair: f64,
}

/// Seconds of a multiplication of `tokens` rows: `F = 2 m k n`, `B = k n` weights, `m k` activations, `m n` results of two
/// bytes.
fn matrix_seconds(class: &Class, tokens: f64, matrix: Matrix, weight: f64, activation: f64) -> f64 {
    let Matrix { input, output, .. } = matrix;
    let flops = 2.0 * tokens * input * output;
    let bytes = input * output * weight + tokens * input * activation + tokens * output * 2.0;
    class.start_s + smooth_roofline(flops / class.flops, bytes / class.bytes_per_s)
}

/// The captured CUDA graph that so many tokens are padded to: 1, 2, 4, multiples of 8 to 256, of 16 beyond (vLLM's sizes).
/// Larger steps run as they are.
#[must_use]
pub fn graph_size(tokens: f64, largest: f64) -> f64 {
    if tokens > largest {
        return tokens;
    }
    let step = if tokens > 256.0 {
        16.0
    } else if tokens > 4.0 {
        8.0
    } else if tokens > 2.0 {
        4.0
    } else {
        1.0
    };
    ((tokens / step).ceil() * step).min(largest.max(tokens))
}

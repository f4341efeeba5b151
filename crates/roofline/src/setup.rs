//! A serving setup: a model on accelerators with an engine, how it is split, and in which formats.

use crate::accelerator::Accelerator;
use crate::engine::Engine;
use crate::fit::Fit;
use crate::format::{Format, KvFormat};
use crate::kernel::{AllReduce, Basis, Fractions, Kernel, Kernels, Routing};
use crate::model::{Attention, Model, as_f64};
use crate::sheet::Missing;

/// How a model is split. `tensor x data x pipeline` accelerators make one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Ranks that share every matrix and every head.
    pub tensor: u32,
    /// Stages that each hold some of the layers.
    pub pipeline: u32,
    /// Groups of tensor ranks that attend for sequences of their own, in step with each other.
    pub data: u32,
    /// Ranks that hold different experts; what is left of `tensor x data` splits each expert's width.
    pub expert: u32,
}

impl Default for Layout {
    fn default() -> Self {
        Self { tensor: 1, pipeline: 1, data: 1, expert: 1 }
    }
}

impl Layout {
    /// Everything split over so many tensor ranks.
    #[must_use]
    pub fn tensor(ranks: u32) -> Self {
        Self { tensor: ranks, ..Self::default() }
    }

    /// Accelerators of one replica.
    #[must_use]
    pub fn accelerators(self) -> u32 {
        self.tensor * self.data * self.pipeline
    }

    /// Ranks that split the width of each expert.
    pub(crate) fn expert_tensor(self) -> u32 {
        self.tensor * self.data / self.expert
    }
}

/// In which formats a model is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Formats {
    /// Weights of attention and feed-forward layers. Embeddings, routers and the output matrix stay in bfloat16.
    pub weights: Format,
    /// Weights of the routed experts.
    pub experts: Format,
    /// The KV cache.
    pub kv: KvFormat,
}

impl Default for Formats {
    fn default() -> Self {
        Self::all(Format::Bf16)
    }
}

impl Formats {
    /// All weights in one format, the cache in bfloat16.
    #[must_use]
    pub fn all(weights: Format) -> Self {
        Self { weights, experts: weights, kv: KvFormat::Bf16 }
    }
}

/// Why a setup cannot be timed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// A figure that the sheets do not state.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A layout that this model cannot have.
    #[error("invalid layout: `{part}`: expected {expected}, found {found}")]
    Layout {
        /// The part of the layout.
        part: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: u32,
    },
    /// A kernel that nobody measured.
    #[error("no measurement of {kernel:?} on any accelerator")]
    Kernel {
        /// The kernel.
        kernel: Kernel,
    },
}

/// A model on accelerators with an engine, split and kept in a certain way, with all constants looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The model.
    pub model: Model,
    /// The accelerator; all of a replica are alike.
    pub accelerator: Accelerator,
    /// The engine.
    pub engine: Engine,
    /// How the model is split.
    pub layout: Layout,
    /// In which formats it is kept.
    pub formats: Formats,
    /// What measured runs of this engine on this accelerator say, if it was added: it is in all times.
    pub fit: Option<Fit>,
    pub(crate) constants: Constants,
}

/// What a step's time is computed from, in SI units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constants {
    pub(crate) bandwidth: f64,
    pub(crate) weights: Class,
    pub(crate) head: Class,
    pub(crate) experts: Option<Class>,
    pub(crate) decode: Class,
    pub(crate) prefill: Class,
    pub(crate) all_reduce: AllReduce,
    pub(crate) exchange: AllReduce,
    pub(crate) link: f64,
    pub(crate) graph_tokens: f64,
    pub(crate) step_s: f64,
    pub(crate) sequence_s: f64,
    pub(crate) request_s: f64,
}

/// A class of kernels on this accelerator: seconds to start, operations and bytes per second that it achieves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Class {
    pub(crate) start_s: f64,
    pub(crate) flops: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) fractions: Fractions,
}

impl Setup {
    /// Looks up everything that a step's time needs.
    ///
    /// # Errors
    /// [`SetupError`]: a figure that a sheet lacks, a layout that the model cannot have.
    pub fn new(
        model: &Model,
        accelerator: &Accelerator,
        engine: &Engine,
        kernels: &Kernels,
        layout: Layout,
        formats: Formats,
        routing: Routing,
    ) -> Result<Self, SetupError> {
        check_layout(model, layout)?;
        let bandwidth = accelerator.hbm_bytes_per_s()?;
        let name = engine.kernels();
        let fit = kernels.fit(accelerator, engine.row().name());
        let factor = |key| fit.map_or(1.0, |fit| fit.factor(key));
        let class = |kernel: Kernel| -> Result<Class, SetupError> {
            let peak = accelerator.flops(match kernel {
                Kernel::Gemm(format) | Kernel::Experts(format, _) => format.arithmetic(),
                _ => Format::Bf16.arithmetic(),
            })?;
            let fractions = kernels.fractions(accelerator, name, kernel);
            let fractions = fractions.ok_or(SetupError::Kernel { kernel })?;
            Ok(Class {
                start_s: fractions.start_s,
                flops: fractions.compute * peak * factor("compute"),
                bytes_per_s: fractions.memory * bandwidth * factor("memory"),
                fractions,
            })
        };
        let kv = formats.kv;
        let (decode, prefill) = match model.attention {
            Attention::Grouped { .. } => {
                (Kernel::DecodeAttention(kv), Kernel::PrefillAttention(kv))
            }
            Attention::Latent { .. } => (Kernel::DecodeLatent(kv), Kernel::PrefillLatent(kv)),
        };
        // A replica of one accelerator needs no link.
        let link = match layout.accelerators() {
            1 => accelerator.link_bytes_per_s().unwrap_or(f64::INFINITY),
            _ => accelerator.link_bytes_per_s()?,
        };
        let (step_s, sequence_s) = engine.host_seconds()?;
        let fitted = |key, own| fit.and_then(|fit| fit.seconds(key)).unwrap_or(own);
        let communication = factor("communication");
        let exchange = if layout.data > 1 && model.experts.is_some() { layout.expert } else { 1 };
        let head = class(Kernel::Gemm(Format::Bf16))?;
        let mut weights = class(Kernel::Gemm(formats.weights))?;
        // What other formats take longer to start is the quantisation of activations, which was timed with the kernel;
        // engines do it in the element-wise kernel before.
        weights.start_s = weights.start_s.min(head.start_s);
        let constants = Constants {
            bandwidth,
            weights,
            head,
            experts: match model.experts {
                Some(_) => Some(experts(formats.experts, routing, layout, class)?),
                None => None,
            },
            decode: class(decode)?,
            prefill: class(prefill)?,
            all_reduce: kernels
                .all_reduce(accelerator, name, layout.tensor, link)
                .times(communication),
            exchange: kernels.all_reduce(accelerator, name, exchange, link).times(communication),
            link,
            graph_tokens: f64::from(engine.graph_tokens()?),
            step_s: fitted("step_us", step_s),
            sequence_s: fitted("sequence_us", sequence_s),
            request_s: fitted("request_us", engine.request_seconds()),
        };
        Ok(Self {
            model: model.clone(),
            accelerator: accelerator.clone(),
            engine: engine.clone(),
            layout,
            formats,
            fit: fit.cloned(),
            constants,
        })
    }

    /// The least certain basis of the setup's kernels, and the largest median error among their fits: what a single
    /// step's kernels may be off by.
    #[must_use]
    pub fn certainty(&self) -> (Basis, f64) {
        let c = &self.constants;
        let classes = [Some(c.weights), c.experts, Some(c.decode), Some(c.prefill)];
        let fractions = || classes.iter().flatten().map(|class| class.fractions);
        let basis =
            fractions().map(|f| f.basis).chain([c.all_reduce.basis, c.exchange.basis]).max();
        let error = fractions().map(|f| f.error).fold(0.0, f64::max);
        (basis.unwrap_or(Basis::Generic), error)
    }

    /// What a request waits for the host before the engine sees it, and its first token after, in seconds.
    #[must_use]
    pub fn request_seconds(&self) -> f64 {
        self.constants.request_s
    }

    /// The constants of every class of kernels in use.
    #[must_use]
    pub fn fractions(&self) -> Vec<(&'static str, Fractions)> {
        let c = &self.constants;
        let all = [
            ("weights", Some(c.weights)),
            ("experts", c.experts),
            ("decode attention", Some(c.decode)),
            ("prefill attention", Some(c.prefill)),
        ];
        all.into_iter().filter_map(|(name, class)| Some((name, class?.fractions))).collect()
    }

    /// Key and value heads on one rank: heads are copied when there are fewer than ranks.
    pub(crate) fn kv_heads_per_rank(&self) -> f64 {
        match self.model.attention {
            Attention::Grouped { kv_heads, .. } => {
                as_f64(kv_heads.div_ceil(u64::from(self.layout.tensor)))
            }
            Attention::Latent { .. } => 1.0,
        }
    }

    /// Elements that a layer keeps in one rank's cache for a token.
    pub(crate) fn kv_elements_per_rank(&self) -> f64 {
        match self.model.attention {
            Attention::Grouped { head_dim, .. } => {
                2.0 * self.kv_heads_per_rank() * as_f64(head_dim)
            }
            Attention::Latent { .. } => as_f64(self.model.kv_elements_per_layer()),
        }
    }
}

/// Routed experts. Tokens that choose unevenly touch fewer experts, which the constants of skewed routing have in their
/// bandwidth. That some ranks have more to compute than others, which those constants have too, is only so where ranks hold
/// experts of their own: where all share each expert, arithmetic and activations go as with even choices.
fn experts(
    format: Format,
    routing: Routing,
    layout: Layout,
    class: impl Fn(Kernel) -> Result<Class, SetupError>,
) -> Result<Class, SetupError> {
    let mut own = class(Kernel::Experts(format, routing))?;
    if layout.expert == 1
        && let Ok(even) = class(Kernel::Experts(format, Routing::Balanced))
    {
        own.flops = own.flops.max(even.flops);
        own.fractions.compute = own.fractions.compute.max(even.fractions.compute);
        own.fractions.traffic = even.fractions.traffic;
    }
    Ok(own)
}

fn check_layout(model: &Model, layout: Layout) -> Result<(), SetupError> {
    const MOST: u32 = 1_024;
    let wrong = |part, expected: String, found| Err(SetupError::Layout { part, expected, found });
    let Layout { tensor, pipeline, data, expert } = layout;
    for (part, ranks) in
        [("tensor", tensor), ("pipeline", pipeline), ("data", data), ("expert", expert)]
    {
        if !(1..=MOST).contains(&ranks) {
            return wrong(part, format!("1 to {MOST}"), ranks);
        }
    }
    let heads = match model.attention {
        Attention::Grouped { heads, .. } | Attention::Latent { heads, .. } => heads,
    };
    if !heads.is_multiple_of(u64::from(tensor)) {
        return wrong("tensor", format!("a divisor of {heads} heads"), tensor);
    }
    if u64::from(pipeline) > model.layers {
        return wrong("pipeline", format!("at most {} layers", model.layers), pipeline);
    }
    if expert > 1 {
        let Some(experts) = model.experts else {
            return wrong("expert", "1, as the model has no experts".to_owned(), expert);
        };
        if !experts.routed.is_multiple_of(u64::from(expert)) {
            return wrong("expert", format!("a divisor of {} experts", experts.routed), expert);
        }
        if !(tensor * data).is_multiple_of(expert) {
            return wrong(
                "expert",
                format!("a divisor of tensor x data = {}", tensor * data),
                expert,
            );
        }
    }
    Ok(())
}

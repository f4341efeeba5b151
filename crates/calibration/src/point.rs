//! What somebody measured.

use crate::load::Load;

/// A benchmark run: who served what on which accelerators, under which load, and what came of it. What its source did not
/// say is empty or `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// Its line in the file, from 1; 0 if it has none.
    pub line: usize,
    /// Who measured it.
    pub source: String,
    /// The model, as it was called.
    pub model: String,
    /// How weights were kept, as it was told.
    pub quantization: String,
    /// The accelerator, as it was called.
    pub accelerator: String,
    /// How many of them.
    pub accelerators: Option<u32>,
    /// Tensor ranks.
    pub tensor: Option<u32>,
    /// Pipeline stages.
    pub pipeline: Option<u32>,
    /// Ranks that hold different experts; 0 says that experts are spread, not over how many.
    pub expert: Option<u32>,
    /// Groups of ranks that attend for sequences of their own.
    pub data: Option<u32>,
    /// The engine, as it was called.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// When it was measured, or the commit of the file it is from.
    pub date: String,
    /// Mean tokens of a prompt.
    pub isl: Option<f64>,
    /// Mean tokens of a reply.
    pub osl: Option<f64>,
    /// How they are spread.
    pub lengths: Lengths,
    /// What it was asked to serve, as it was written.
    pub asked: String,
    /// What it was asked to serve.
    pub load: Option<Load>,
    /// What the engine was told.
    pub settings: Settings,
    /// What came of it.
    pub measured: Measured,
    /// Cells of its row that could not be used, and why, though it can be predicted without them.
    pub passed_over: Vec<String>,
    /// Why nothing can be predicted for it, found when it was read.
    pub refused: Option<Reason>,
}

impl Point {
    /// The `17` of an engine's version `0.17` or `v0.17.1`.
    pub(crate) fn minor_version(&self) -> Option<u32> {
        let version = self.engine_version.trim_start_matches('v');
        version.strip_prefix("0.")?.split('.').next()?.parse().ok()
    }

    /// Whether the engine is of before 2025, as far as version or date tell it.
    #[must_use]
    pub fn engine_is_old(&self) -> bool {
        let told = |text: &str| ["2023", "2024"].iter().any(|year| text.contains(year));
        let engine = self.engine.to_ascii_lowercase();
        let old = match self.minor_version() {
            Some(minor) if engine.contains("vllm") => minor < 7,
            Some(minor) if engine.contains("sglang") => minor < 4,
            Some(minor) if engine.contains("trtllm") => minor < 16,
            _ => false,
        };
        // Rounds of MLPerf before 5.0, static batches of LLM-Inference-Bench (software of mid 2024).
        let round = self.date == "v4.1" || self.source.starts_with("LLM-Inference-Bench");
        let told = told(&self.engine_version) || told(&self.engine);
        old || round || told || self.settings.multi_step
    }
}

/// Why a point cannot be predicted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{0}")]
pub struct Reason(String);

impl Reason {
    /// A reason in words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

/// How lengths of prompts and replies are spread about their means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lengths {
    /// All alike.
    #[default]
    Fixed,
    /// Evenly from 0.8 to 1.0 of the nominal length, whose 0.9 is the mean.
    Even,
    /// As chats are: exponentially, up to four times the mean, or up to the longest of a set of prompts where that is known.
    Varied {
        /// The longest prompt, in tokens.
        longest_prompt: Option<u32>,
        /// The longest reply, in tokens.
        longest_reply: Option<u32>,
    },
}

impl Lengths {
    /// As chats are, of which only the means are known.
    pub const CHATS: Self = Self::Varied { longest_prompt: None, longest_reply: None };
}

/// What an engine was told besides its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// Tokens of a step.
    pub max_num_batched_tokens: Option<u32>,
    /// Sequences at a time.
    pub max_num_seqs: Option<u32>,
    /// Tokens of a sequence.
    pub max_model_len: Option<u32>,
    /// Blocks of KV cache.
    pub kv_blocks: Option<u32>,
    /// Whether prompts repeat so often that all but the last block of each is in the prefix cache.
    pub cached: bool,
    /// Whether the KV cache is kept in 8 bits.
    pub kv_fp8: bool,
    /// Whether the scheduler was asked for how many steps at a time, as only that of vLLM's first engine could be.
    pub multi_step: bool,
    /// The limits that the rate was searched under, at the 99th percentile: seconds to the first token, and for each
    /// further token.
    pub slo: Option<(f64, f64)>,
}

/// A measured time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Time {
    /// Seconds.
    pub seconds: f64,
    /// Whether it is a median; else a mean.
    pub median: bool,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    /// Tokens of replies per second of the whole deployment.
    pub output_tokens_per_s: Option<f64>,
    /// Whether the throughput was derived from the times and the clients, not measured.
    pub derived: bool,
    /// Whether the throughput is that of decoding alone.
    pub decode_only: bool,
    /// Time to the first token.
    pub ttft: Option<Time>,
    /// Time for each further token.
    pub tpot: Option<Time>,
    /// Time to the last token.
    pub latency: Option<Time>,
    /// The rate that kept the limits, in requests a second of the whole deployment.
    pub rate: Option<f64>,
}

//! What an engine is set to, and what it is asked to serve.

use std::time::Duration;

use workload::Row;

use crate::prefix::Prefix;

/// Picoseconds in a second.
pub const SECOND_PS: u64 = 1_000_000_000_000;

/// The longest sequences that can be simulated, in tokens.
pub(crate) const MOST_MODEL_LEN: u32 = 1 << 28;

/// The settings of one replica's engine. Names are vLLM's where it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Blocks of KV cache on the replica.
    pub kv_blocks: u32,
    /// Tokens that a block holds; a power of two up to 1,024.
    pub block_tokens: u32,
    /// Tokens that a sequence may have, prompt and output. A longer prompt is rejected, a longer
    /// output is cut.
    pub max_model_len: u32,
    /// Tokens that a step may compute.
    pub max_num_batched_tokens: u32,
    /// Sequences that may run at a time.
    pub max_num_seqs: u32,
    /// Classes of priority: 1 serves first come, first served. Classes beyond the last are the
    /// last.
    pub priority_classes: u8,
    /// Requests that may wait; whoever comes then is rejected.
    pub max_queue: Option<u32>,
    /// A request that has never run for so long after its arrival is given up.
    pub queue_timeout_ps: Option<u64>,
    /// A request that is not done so long after its arrival is given up.
    pub timeout_ps: Option<u64>,
    /// Whether blocks that are given back keep their content until they are taken again, and
    /// prompts that begin like it are not computed. Who was preempted finds its own.
    pub enable_prefix_caching: bool,
}

impl Engine {
    /// vLLM's defaults for its server on an accelerator with 70 GiB or more: blocks of 16 tokens,
    /// steps of up to 8,192 tokens, up to 1,024 sequences, first come, first served, no limits
    /// on waiting. Prefix caching is off, for most traces do not tell what prompts have in common.
    ///
    /// # Source
    /// vLLM v1, `vllm/engine/arg_utils.py` and `vllm/config/scheduler.py`, 2026.
    #[must_use]
    pub const fn new(kv_blocks: u32, max_model_len: u32) -> Self {
        Self {
            kv_blocks,
            block_tokens: 16,
            max_model_len,
            max_num_batched_tokens: 8192,
            max_num_seqs: 1024,
            priority_classes: 1,
            max_queue: None,
            queue_timeout_ps: None,
            timeout_ps: None,
            enable_prefix_caching: false,
        }
    }

    /// Whether it can run at all.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what: &'static str, found: u32, expected: String| {
            Err(Error::Setting { what, found, expected })
        };
        if !self.block_tokens.is_power_of_two() || self.block_tokens > 1024 {
            let expected = "a power of two up to 1024".to_owned();
            return wrong("block_tokens", self.block_tokens, expected);
        }
        if self.max_model_len < 2 || self.max_model_len > MOST_MODEL_LEN {
            let expected = "a prompt token and an output token, at most 2^28".to_owned();
            return wrong("max_model_len", self.max_model_len, expected);
        }
        let least = self.max_model_len.div_ceil(self.block_tokens);
        if self.kv_blocks < least {
            let expected = format!("at least {least}, which one sequence of max_model_len needs");
            return wrong("kv_blocks", self.kv_blocks, expected);
        }
        if self.max_num_seqs == 0 || self.max_num_seqs > 1 << 20 {
            return wrong("max_num_seqs", self.max_num_seqs, "1 to 2^20".to_owned());
        }
        if self.max_num_batched_tokens < self.max_num_seqs || self.max_num_batched_tokens > 1 << 28
        {
            let expected = "at least max_num_seqs, at most 2^28".to_owned();
            return wrong("max_num_batched_tokens", self.max_num_batched_tokens, expected);
        }
        if self.priority_classes == 0 {
            return wrong("priority_classes", 0, "at least 1".to_owned());
        }
        Ok(())
    }
}

/// A request as an engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When it arrives, in picoseconds.
    pub arrival_ps: u64,
    /// Tokens of its prompt; at least 1.
    pub prompt: u32,
    /// Tokens that it generates unless it is cut off; at least 1.
    pub output: u32,
    /// Its class, 0 being served first. Without effect in an engine of one class.
    pub priority: u8,
    /// The client leaves if it is not done so long after its arrival.
    pub patience_ps: Option<u64>,
}

impl Request {
    /// A row of a trace: no priority, a patient client. `None` if its counts or its time are
    /// beyond what can be simulated (2^32 tokens, 213 days).
    #[must_use]
    pub fn of(row: &Row) -> Option<Self> {
        Some(Self {
            arrival_ps: picoseconds(row.at)?,
            prompt: u32::try_from(row.input.get()).ok()?,
            output: u32::try_from(row.output.get()).ok()?,
            priority: 0,
            patience_ps: None,
        })
    }
}

/// A request and what its prompt begins with, if that is known: what [`crate::serve`] is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What is asked for.
    pub request: Request,
    /// What the prompt has in common with others; `None` is nothing.
    pub prefix: Option<Prefix>,
}

impl From<Request> for Incoming {
    fn from(request: Request) -> Self {
        Self { request, prefix: None }
    }
}

impl From<(Request, Prefix)> for Incoming {
    fn from((request, prefix): (Request, Prefix)) -> Self {
        Self { request, prefix: Some(prefix) }
    }
}

/// A span of time in picoseconds, if it is within 213 days.
#[must_use]
pub fn picoseconds(span: Duration) -> Option<u64> {
    u64::try_from(span.as_nanos().checked_mul(1000)?).ok()
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It got all its tokens.
    Completed,
    /// Too many were waiting when it came.
    QueueFull,
    /// Its prompt leaves no room for an output.
    TooLong,
    /// It waited too long to be started.
    QueueTimeout,
    /// It took too long.
    Timeout,
    /// The client left.
    Aborted,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::QueueFull,
        Self::TooLong,
        Self::QueueTimeout,
        Self::Timeout,
        Self::Aborted,
    ];
}

/// What became of a request, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its place in the trace, from 0.
    pub number: u64,
    /// Its class of priority.
    pub priority: u8,
    /// When it arrived.
    pub arrival_ps: u64,
    /// The start of the step that first computed a token of it.
    pub admitted_ps: Option<u64>,
    /// When its first token came.
    pub first_token_ps: Option<u64>,
    /// When its last token came, or when it left without.
    pub end_ps: u64,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens of its prompt that were in the prefix cache when it was first admitted.
    pub cached: u32,
    /// Tokens that it got.
    pub generated: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why nothing could be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting of the engine makes no sense.
    #[error("`{what}` of the engine: found {found}, expected {expected}")]
    Setting {
        /// Its name.
        what: &'static str,
        /// What it is.
        found: u32,
        /// What it may be.
        expected: String,
    },
    /// A request comes before its predecessor.
    #[error("request {number} arrives before request {}: sort the trace by arrival", number - 1)]
    Unsorted {
        /// Its place in the trace, from 0.
        number: u64,
    },
    /// A request with nothing to compute.
    #[error(
        "request {number} has {prompt} prompt and {output} output tokens, expected at least one of each"
    )]
    Empty {
        /// Its place in the trace, from 0.
        number: u64,
        /// Tokens of its prompt.
        prompt: u32,
        /// Tokens that it generates.
        output: u32,
    },
    /// A step takes longer than 18 minutes, or its time rises by more than a quarter of a second
    /// with each token.
    #[error(
        "a step of {decodes} decodes and {prefill_tokens} prefill tokens takes too long: {ps} ps"
    )]
    StepTooLong {
        /// Sequences that decode in it.
        decodes: u32,
        /// Tokens of prompts in it.
        prefill_tokens: u32,
        /// How long it takes, or as much as can be told.
        ps: u64,
    },
    /// The run lasts longer than picoseconds can count (213 days), of all its replicas together.
    #[error("the run lasts longer than 213 days of simulated time, all replicas together")]
    RunTooLong,
}

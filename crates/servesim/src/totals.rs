//! What all requests of a run come to.

/// Sums over a run.
///
/// Every token that was computed is accounted for: `prefill_tokens + decode_tokens` is
/// `useful_tokens + preempted_tokens + abandoned_tokens`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Steps of the engine.
    pub steps: u64,
    /// Time in which a step ran.
    pub busy_ps: u64,
    /// Time before the last end in which there was nothing to do.
    pub idle_ps: u64,
    /// Tokens computed in prompts, again after a preemption too.
    pub prefill_tokens: u64,
    /// Tokens computed in decodes.
    pub decode_tokens: u64,
    /// Tokens whose KV a request held when it completed: its prompt and all outputs but the last.
    pub useful_tokens: u64,
    /// Tokens whose KV was lost to preemptions.
    pub preempted_tokens: u64,
    /// Tokens whose KV requests held that were given up.
    pub abandoned_tokens: u64,
    /// How often a request was preempted.
    pub preemptions: u64,
}

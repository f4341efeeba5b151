//! What the server has done, so that a test can see what reached it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::serving::Begun;

/// Counts since the start. Once nothing runs, `requests` is the sum of the four outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests for a reply that were read whole; lists of models are not counted.
    pub requests: u64,
    /// Answered to the end.
    pub completed: u64,
    /// Answered with an error status, by the client's fault or on demand.
    pub refused: u64,
    /// Begun, then broken off by us: cut, stalled, or an error event.
    pub broken: u64,
    /// The client left before the end, and we stopped.
    pub cancelled: u64,
    /// In progress now.
    pub running: u64,
    /// Input tokens of accepted requests, cached or not.
    pub input_tokens: u64,
    /// Those of them that the prefix cache served; with an engine of replies that have begun.
    pub cached_tokens: u64,
    /// Replies that an engine has begun.
    pub begun: u64,
    /// Their times to the first token by the engine's clock, together.
    pub ttft_ps: u64,
    /// Tokens generated, reasoning included; what a leaving client did not wait for is not.
    pub generated_tokens: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    completed: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    cancelled: AtomicU64,
    running: AtomicUsize,
    input_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    begun: AtomicU64,
    ttft_ps: AtomicU64,
    generated_tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Relaxed),
            completed: self.completed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            broken: self.broken.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            running: self.running() as u64,
            input_tokens: self.input_tokens.load(Relaxed),
            cached_tokens: self.cached_tokens.load(Relaxed),
            begun: self.begun.load(Relaxed),
            ttft_ps: self.ttft_ps.load(Relaxed),
            generated_tokens: self.generated_tokens.load(Relaxed),
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Relaxed)
    }
}

/// One request in progress. Dropped before its end, it counts as cancelled: that is how a client
/// that hangs up is seen.
#[derive(Debug)]
pub(crate) struct Running {
    counters: Arc<Counters>,
    ended: bool,
}

/// How a request ended, if its client stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Refused,
    Broken,
}

impl Running {
    /// Begins a request; also gives its ordinal, from 0.
    pub(crate) fn begin(counters: &Arc<Counters>) -> (Self, u64) {
        let ordinal = counters.requests.fetch_add(1, Relaxed);
        counters.running.fetch_add(1, Relaxed);
        (Self { counters: Arc::clone(counters), ended: false }, ordinal)
    }

    pub(crate) fn count_input(&self, input: u64, cached: u64) {
        self.counters.input_tokens.fetch_add(input, Relaxed);
        self.counters.cached_tokens.fetch_add(cached, Relaxed);
    }

    /// An engine has begun the reply.
    pub(crate) fn count_begun(&self, begun: Begun) {
        self.counters.begun.fetch_add(1, Relaxed);
        self.counters.ttft_ps.fetch_add(begun.ttft_ps, Relaxed);
        self.counters.cached_tokens.fetch_add(begun.cached.into(), Relaxed);
    }

    pub(crate) fn count_generated(&self, tokens: u64) {
        self.counters.generated_tokens.fetch_add(tokens, Relaxed);
    }

    pub(crate) fn batch(&self) -> usize {
        self.counters.running()
    }

    /// Ends it, the first time.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let counter = match outcome {
            Outcome::Completed => &self.counters.completed,
            Outcome::Refused => &self.counters.refused,
            Outcome::Broken => &self.counters.broken,
        };
        counter.fetch_add(1, Relaxed);
        self.counters.running.fetch_sub(1, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.counters.cancelled.fetch_add(1, Relaxed);
            self.counters.running.fetch_sub(1, Relaxed);
        }
    }
}

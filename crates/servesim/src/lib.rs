//! What an inference engine makes of a workload: a discrete-event simulation of its scheduler.
//!
//! [`serve`] puts [`Request`]s before an engine with continuous batching, chunked prefill and a paged KV
//! cache, by the rules of vLLM's v1 scheduler and in exact integer picoseconds, asking a
//! [`StepTime`] how long a step takes. It never touches a token: what decodes is kept as sums, and
//! all steps between two events are one closed form. A plain simulator that goes step by step
//! lives in the tests, and both agree on every request to the picosecond.
//!
//! [`serve_fleet`] does the same with many replicas behind a router, [`serve_scaled`] with as many as
//! are needed, [`serve_pools`] with some that compute prompts and others that decode, [`serve_closed`]
//! with clients that wait for an answer before they ask again.
//! [`Goal::highest_rate`] searches the highest rate that keeps an SLO, and a [`Live`] replica is
//! driven step by step, by requests that come while it runs.
//!
//! # The rules
//!
//! Each step first goes through what runs, in the order of admission: a decode computes one token,
//! a prompt as many as the step has left. If there are too few blocks, the request that is last
//! (of the least urgent class, by arrival) is preempted: it loses its blocks and starts again at
//! the head of the queue. Unless somebody was preempted, the queue is served next, in order, until
//! a request finds no seat, no tokens or no blocks. Whoever has computed all its tokens gets one
//! at the end of the step. What comes in during a step (arrivals, clients that leave, time-outs)
//! is seen at its end, in the order of time.
//!
//! With prefix caching, who leaves the queue first takes what the cache has of it: full blocks, but
//! never its last token. What is computed of a prompt can be found by whoever is admitted in the same
//! step or later, what was generated only by the same request after a preemption. Free blocks are
//! taken in the order in which they were given back, those of a sequence from its end.
//!
//! Source: vLLM, `vllm/v1/core/sched/scheduler.py` at commit 00024d31, `block_pool.py` at 002f3491
//! (2026). Left out: speculative decoding, `long_prefill_token_threshold`. Other than there, a request
//! that is preempted in the very step that was to compute a block does not leave it in the cache.

// A replica is compiled where its step time is known, in another crate: what is small and often
// called says `#[inline]`, or it would be a call.
mod cache;
mod classes;
mod closed;
mod decodes;
mod engine;
mod fleet;
mod hardware;
mod histogram;
mod live;
mod pools;
mod prefix;
mod progression;
mod replica;
mod report;
mod search;
mod sequence;
mod step_time;
mod timeline;

pub use classes::{Class, Classes};
pub use closed::serve_closed;
pub use engine::{Engine, Error, Incoming, Outcome, Record, Request, SECOND_PS, picoseconds};
pub use fleet::{Balance, Scaling, serve_fleet, serve_scaled};
pub use histogram::Histogram;
pub use live::{Event, Live};
pub use pools::{Link, Pool, Pools, serve_pools};
pub use prefix::Prefix;
pub use replica::serve;
pub use report::{KV_SHARES, Report, Slo, Time, Work};
pub use search::{
    Goal, HighestRate, Keeper, Limit, MOST_TRIALS, RANDOM_ARRIVALS, Trial, at_rate, closed_form,
    closed_form_of_pools, highest_rate,
};
pub use step_time::{Batch, Linear, StepTime};
pub use timeline::{Moment, Timeline};

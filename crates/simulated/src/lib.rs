//! A model server without a model: all dialects, token by token, with faults on demand.
//!
//! [`Simulated`] listens on a socket and speaks OpenAI's Chat Completions, Responses, Completions,
//! Embeddings and Models, Anthropic's Messages and count_tokens and Gemini's generateContent and
//! countTokens, unary and streamed. It stands where a provider would
//! stand in the demo, in tests and in measurements. The same request gets the same reply text and
//! counts; only ids, which name one reply, and what the prefix cache knows depend on what came
//! before.
//!
//! A token is four bytes of text, rounded up for each message, so that a test can count by hand.
//! How long tokens take is a [`Timing`]'s decision, shortened by [`Options::speed`], or that of an
//! engine that serves all requests together ([`Serving`]).
//!
//! A client says what it wishes in the request's `metadata` (`sim_output_tokens`,
//! `sim_reasoning_tokens`, `sim_tool_calls`, `sim_fault`) or, where a client library has no way
//! to, in the last user message: `[[sim output=120 reasoning=64 tools=1 fault=cut:20]]`.
//! The faults are [`workload::Fault`]. [`http_request`] writes such requests from a workload.

mod anthropic;
mod body;
mod cache;
mod client;
mod embeddings;
mod gemini;
mod openai;
mod prompt;
mod refusal;
mod reply;
mod responses;
mod route;
mod server;
mod serving;
mod stats;
#[cfg(test)]
mod tests;
mod timing;
mod wish;
mod words;

pub use client::{HttpRequest, http_request};
pub use server::{Options, Simulated};
pub use serving::Serving;
pub use stats::Stats;
pub use timing::{Constant, Timing};

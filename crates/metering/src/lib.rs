//! What passes through the gateway, read on the side: requests, responses and streams become usage.
//!
//! Nothing here does IO or reads a clock. Bytes go in, the bytes to forward come out, and at the end
//! of an attempt there is one [`facts::AttemptEnd`], however it ended.

// The form of fixtures names this crate as other crates do.
#[cfg(test)]
extern crate self as metering;

mod anthropic;
mod attempt;
mod contained;
mod convention;
mod dialect;
mod gemini;
mod json;
mod learner;
mod openai;
mod price;
mod prompt;
mod repeat;
mod reprice;
mod request;
mod responses;
mod seen;
mod sse;
mod told;

pub use attempt::{AttemptMeter, Close, Step};
pub use convention::Convention;
pub use learner::{EstimateError, Learner};
pub use price::{Served, bound, charge};
pub use reprice::{Repriced, Supposed, reprice};
pub use request::{Request, RequestError};
pub use told::COST_HEADER;

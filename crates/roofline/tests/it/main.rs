//! Data sheets and step times.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod huggingface;
mod setups;
mod shapes;
mod sheets;
mod steps;

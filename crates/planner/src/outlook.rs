//! How things may turn out: ways to serve in many draws of all that is uncertain.

mod choice;
mod grid;

pub use choice::{Accuracy, ApiChoice, Choice, Draw, GpuChoice};

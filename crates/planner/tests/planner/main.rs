//! The planner: formulas against published numbers, scenarios as they are written, plans by what must hold of them.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod comparisons;
mod golden;
mod levers;
mod outlooks;
mod plans;
mod scenarios;

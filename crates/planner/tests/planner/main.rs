//! The planner's formulas against numbers that others published.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod golden;

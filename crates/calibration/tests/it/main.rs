//! Measured points, predictions, intervals and fits.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bands;
mod fits;
mod formats;
mod rows;

//! The serving model beside what was measured: predictions for measured points, how far they are off, and the few
//! constants that measured points can settle.
//!
//! - A [`Point`] is a benchmark run that somebody measured: who served what on which accelerators, under which [`Load`], and
//!   what came of it. [`Sheet`] reads a CSV of them.
//!   [`points`] makes some of single requests that were seen served.
//! - [`predict`] simulates the run on [`roofline`]'s step times with [`servesim`]'s scheduler: a closed loop as a closed
//!   loop, a rate as Poisson arrivals, a batch as requests that come at once. What cannot be predicted says why.
//! - [`Bands`] are the intervals around predictions: quantiles of the errors of points that no constant was fitted to.
//!
//! No IO, no clock, no randomness but from seeds.

mod bands;
mod csv;
mod fit;
mod formats;
mod load;
mod names;
mod point;
mod predict;
mod rate;
mod seen;
mod serve;
mod summary;

pub use bands::{Band, Bands, Metric, Residual, beyond, interval, made};
pub use csv::{ColumnError, Sheet};
pub use fit::{Fitted, fit};
pub use formats::{FormatError, read};
pub use load::{Load, Stage};
pub use point::{Lengths, Measured, Point, Reason, Settings, Time};
pub use predict::{Kind, Prediction, Regime, predict};
pub use seen::{Seen, points};
pub use summary::{Errors, Summary};

//! From demand to capacity to bill: what a product costs to serve, on whose hardware, and from when owning wins.
//!
//! All money here is modelled: rates ([`PerHour`], [`PerMonth`], [`PerYear`], [`PerMtok`]) and amounts
//! ([`quantity::EstimatedUsd`]), none of which becomes booked money. The formulas stand by themselves, each with its source,
//! and are tested against published numbers in `tests/planner/golden.rs`.
//!
//! One rule holds throughout: what is paid by the hour is paid whether or not it is used. Utilisation divides tokens
//! ([`PerHour::per_mtok`] takes useful tokens an hour); it never multiplies rent.

mod break_even;
mod margin;
mod owned;
mod queueing;
mod shapley;
mod unit;

pub use break_even::{BreakEven, Interval, Staircase};
pub use margin::{concentration, gross_margin, profit_on_cost, quality_adjusted};
pub use owned::{Power, Purchase, capital_recovery};
pub use queueing::{Queue, TooBusy, square_root_staffing};
pub use shapley::{MOST_FACTORS, parts_of_change};
pub use unit::{HOURS_PER_MONTH, HOURS_PER_YEAR, PerHour, PerMonth, PerMtok, PerYear};

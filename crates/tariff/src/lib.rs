//! The price book: which price was in force for a model at a moment, and what a usage costs at it.
//!
//! Pure: no IO, no clock, no floats. A [`Book`] holds [`PriceRow`]s; [`Book::quote`] picks the one
//! that was in force, or says why there is none; [`PriceRow::charge`] prices a usage exactly, line by
//! line. What has no price is [`Unpriced`], with the reason, and never $0.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::float_arithmetic))]

mod book;
mod charge;
mod check;
pub mod commitment;
mod compare;
mod contract;
pub mod estimate;
mod exchange;
mod find;
pub mod import;
mod reader;
mod row;
mod rule;
mod text;
mod window;

pub use book::{Book, BookInfo, Considered, Key, ModelInfo};
pub use charge::{Charge, ChargeLine, Unpriced};
pub use check::check_rows;
pub use commitment::{Agreements, Commitment, Credit};
pub use compare::{Change, Changes, Comparison, Difference, Sheet};
pub use contract::{Contract, Discount};
pub use exchange::Exchange;
pub use find::{FindError, Found};
pub use row::{Above, Misfit, Price, PriceRow, Rate, STANDARD, Source, Terms};
pub use rule::Rule;
pub use text::{ParseBookError, ParseRowError, without_noise};
pub use window::{Daily, Days, Window, Zone};

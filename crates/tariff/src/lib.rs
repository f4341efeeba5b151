//! The price book: which price was in force for a model at a moment, and what a usage costs at it.
//!
//! Pure: no IO, no clock, no floats. A [`Book`] holds [`PriceRow`]s; [`Book::quote`] picks the one
//! that was in force, or says why there is none; [`PriceRow::charge`] prices a usage exactly, line by
//! line. What has no price is [`Unpriced`], with the reason, and never $0.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::float_arithmetic))]

mod book;
mod charge;
pub mod estimate;
mod find;
mod row;
mod rule;
mod text;

pub use book::{Book, BookInfo, Key, ModelInfo};
pub use charge::{Charge, ChargeLine, Unpriced};
pub use find::{FindError, Found};
pub use row::{Daily, Price, PriceRow, Rate, STANDARD, Source};
pub use rule::Rule;
pub use text::{ParseBookError, ParseRowError};

//! The quantities everything else is counted in: exact money, unit prices, token classes, time, ids.
//!
//! Booked money is [`Money`], an integer number of pico-dollars; modelled money is [`EstimatedUsd`],
//! a float. Nothing converts one to the other.

mod id;
mod list;
mod money;
mod text;
mod time;
mod usage;

pub use id::{ExchangeId, Fingerprint, HashKey, ParseIdError, PriceRowId, WriterId};
pub use money::{EstimatedUsd, Money, ParseMoneyError, ParsePriceError, UnitPrice};
pub use text::{edit_distance, group_digits, grouped};
pub use time::{Day, ParseTimeError, Period, UnixTime};
pub use usage::{
    Billable, Doubt, Doubts, Metered, PerClass, PerUnit, TokenClass, TokenCount, Unit, Usage,
    UsageSource,
};

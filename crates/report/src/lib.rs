//! What people and programs read: view models and their renderers. Pure: everything returns text.
//!
//! Money in JSON and CSV is a decimal string of US dollars, exact to the pico-dollar; in tables it
//! is rounded and says its unit. What is unknown or unpriced is said so and is never `0`. Labels come
//! from clients and are hostile until escaped: [`table`] and [`exchange::line`] escape what would
//! move a cursor, [`csv`] what a spreadsheet would run, [`page`] what would be markup.

pub mod bill;
pub mod compare;
pub mod contracts;
pub mod csv;
pub mod estimate;
pub mod exchange;
pub mod json;
mod modelled;
pub mod number;
mod outlook;
pub mod page;
pub mod plan;
pub mod plot;
pub mod price;
pub mod record;
pub mod rerate;
mod sections;
pub mod simulation;
pub mod table;
mod workload;

pub use bill::{Bill, BookLine};
pub use contracts::Contracts;
pub use number::Cost;
pub use table::Style;

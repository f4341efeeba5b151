//! From demand to capacity to bill: what a product costs to serve, on whose hardware, and from when owning wins.
//!
//! All money here is modelled: rates ([`PerHour`], [`PerMonth`], [`PerYear`], [`PerMtok`]) and amounts
//! ([`quantity::EstimatedUsd`]), none of which becomes booked money. The formulas stand by themselves, each with its source,
//! and are tested against published numbers in `tests/planner/golden.rs`.
//!
//! One rule holds throughout: what is paid by the hour is paid whether or not it is used. Utilisation divides tokens
//! ([`PerHour::per_mtok`] takes useful tokens an hour); it never multiplies rent.

mod break_even;
mod capacity;
pub mod compare;
mod costs;
mod demand;
mod fleet;
mod gpu_price;
mod lane;
mod levers;
mod margin;
mod mix;
mod needs;
mod outlook;
mod owned;
mod plan;
mod queueing;
mod read;
pub mod scenario;
mod shapley;
mod uncertain;
mod unit;

pub use break_even::{BreakEven, Interval, Staircase};
pub use capacity::{Candidate, CapacityError, Highest, Service};
pub use costs::{HourlyCost, Item, Paid, hourly_cost};
pub use demand::{Demand, Shape, Tokens};
pub use fleet::{Fleet, Hour, Schedule};
pub use gpu_price::GpuPrice;
pub use lane::{
    ApiOffer, Bounds, Capability, Chosen, Found, GpuOffer, Month, Part, Prices, Taken, TokenPrices,
    Unfit, choose,
};
pub use levers::{Beside, Lever, Saving, levers};
pub use margin::{concentration, gross_margin, profit_on_cost, quality_adjusted};
pub use mix::Mix;
pub use needs::{Need, needs};
pub use outlook::{
    Accuracy, ApiChoice, Choice, Draw, Draws, GpuChoice, Matter, Moved, Outlook, Prospect, Range,
    Unsure, outlook,
};
pub use owned::{Power, Purchase, capital_recovery};
pub use plan::{Lane, Offers, Own, Plan, demand, plan, revenue, taken};
pub use queueing::{Queue, TooBusy, square_root_staffing};
pub use scenario::{Case, Scenario, ScenarioError, Var};
pub use shapley::{MOST_FACTORS, parts_of_change};
pub use uncertain::{Uncertain, normal_quantile};
pub use unit::{HOURS_PER_MONTH, HOURS_PER_YEAR, PerHour, PerMonth, PerMtok, PerYear};

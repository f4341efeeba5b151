//! The facts of a recorded workload and the questions that can be asked of them.
//!
//! An [`Exchange`] is told in the order it happens: an [`Admission`], then for each attempt a
//! [`Dispatch`] and an [`AttemptEnd`], then one [`Settlement`]. The journal stores these; a
//! [`Rollup`] turns settled exchanges into the [`Answer`] of a [`Query`].

mod adjustment;
mod exchange;
mod gap;
mod hosting;
mod measures;
mod query;
mod rollup;
mod told;

pub use adjustment::{Adjustment, AdjustmentLine, Booked};
pub use exchange::{
    Admission, Api, Attempt, AttemptEnd, AttemptReason, ChargeLine, Charged, Dispatch, End,
    Exchange, Labels, MessageShape, PriceRecord, PromptShape, Role, RouteSource, Settlement,
    Verdict, WasteCause,
};
pub use gap::Gap;
pub use hosting::{HostedLine, Hosting};
pub use measures::{Measures, Tally};
pub use query::{Dimension, ParseDimensionError, Query};
pub use rollup::{Answer, Group, Other, Rollup};
pub use told::{Compared, Told, ToldCost};

//! What a token costs on an accelerator, from first principles: data sheets, and the time of a step.
//!
//! - [`Accelerator`], [`Model`], [`Engine`] are data sheets: rows of figures, each with its source. What a sheet does not
//!   state is an error that names it, never a guess. [`Sheets`] are those that are carried; users add their own, and models
//!   come from a Hugging Face `config.json` too.
//! - [`Kernels`] are what measured kernels achieve of the peaks: fitted to kernels alone, never to a served request.
//! - A [`Fit`] is what measured runs of an engine on an accelerator say beyond its kernels.
//! - A [`Setup`] puts them together. [`Setup::step`] says where the time of a step goes, [`Setup::memory`] what fits,
//!   [`Setup::steady`] what a closed loop of clients gets, [`Setup::compile`] makes the step time quick to ask for.
//!
//! All modelled quantities are floats in SI units: seconds, bytes, operations. None becomes booked money.

mod accelerator;
mod compiled;
mod engine;
mod fit;
mod format;
mod huggingface;
mod kernel;
mod memory;
mod model;
mod setup;
mod sheet;
mod sheets;
mod steady;
mod step;

pub use accelerator::{Accelerator, Arithmetic};
pub use compiled::{Linear, Steps};
pub use engine::{Engine, Limits};
pub use fit::Fit;
pub use format::{Format, KvFormat, ParseFormatError};
pub use huggingface::ConfigError;
pub use kernel::{AllReduce, Basis, Fractions, Kernel, Kernels, Routing, smooth_roofline};
pub use memory::{Memory, MemoryError};
pub use model::{Attention, Experts, Model, Window};
pub use setup::{Formats, Layout, Setup, SetupError};
pub use sheet::{Missing, Row, SheetError};
pub use sheets::{Sheets, UnknownRow};
pub use steady::{ClosedLoop, Steady};
pub use step::{Batch, StepCost, graph_size, pairs, windowed_pairs};

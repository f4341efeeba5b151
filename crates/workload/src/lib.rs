//! Who asked for what, when: the joint of the whole.
//!
//! A [`Workload`] is the one description of traffic that every part understands. It can be read
//! from what the gateway recorded or generated from a seed ([`demo`]); it is played against real
//! sockets, replayed by a serving model, and priced by a planner, so that the numbers of all three
//! are about the same requests.
//!
//! - An exchange arrives at a fixed offset or after another one and a think time ([`Arrival`]):
//!   an agent's next step waits for the last one, however fast the server is.
//! - What it sends is a list of [`Segment`]s with identities. Two prompts share a prefix exactly
//!   as far as their leading segments are equal, which is all that a prefix cache needs to know.
//! - What it gets is a number of tokens. Content is nowhere: counts and identities only.
//!
//! Nothing here does IO, reads a clock or iterates in an unspecified order; a seed names exactly
//! one workload on every machine.

mod blocks;
mod clients;
mod day;
mod demo;
mod describe;
mod fault;
mod poisson;
mod random;
mod request;
mod sessions;
mod trace;
mod trace_reader;
mod workload;

pub use blocks::{BlockReader, NamedRow, block_names};
pub use clients::{Client, ClientError, client_rows};
pub use day::Day;
pub use demo::demo;
pub use describe::{Description, RouteCounts};
pub use fault::{Fault, ParseFaultError};
pub use poisson::Poisson;
pub use random::Random;
pub use request::{Api, Arrival, Labels, Request, Role, Segment, Shape};
pub use sessions::Sessions;
pub use trace::{AzureReader, Row, TraceError};
pub use trace_reader::{Columns, TraceReader};
pub use workload::{OrderError, Workload};

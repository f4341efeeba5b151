//! The binary as its users meet it: real processes, real sockets, journals read back from disk.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod alarm;
mod attempts;
mod bill;
mod canary;
mod classes;
mod client;
mod commands;
mod compare;
mod contracts;
mod crash;
mod dialects;
mod diff;
mod drains;
mod failures;
mod hardened;
mod home;
mod hostile;
mod keys;
mod lies;
mod many;
mod operation;
mod outages;
mod passthrough;
mod plan;
mod prices;
mod refusals;
mod regions;
mod rerate;
mod retention;
mod scripted;
mod simulate;
mod simulated;
mod stalls;
mod streams;
mod told;
mod unmetered;
mod validate;
mod wires;

//! The `farthing` command: what LLM tokens really cost, measured, priced and explained.
//!
//! A library only so that the configuration's reader can be tried from outside, by the fuzzer; the
//! program is [`main`].

mod agreed;
mod bill;
mod calibrate;
mod compare;
mod config;
mod data;
mod demo;
mod estimate;
mod journal_cmd;
mod key_cmd;
mod key_file;
mod metered;
mod output;
mod plan;
mod price_alarm;
mod price_cmd;
mod process;
mod progress;
mod project;
mod secrets;
mod serve;
mod simulate;
mod simulated_cmd;
mod trace_file;
mod validate;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use config::Config;

/// What every useful LLM token and every finished task really costs, why, and how to pay less.
#[derive(Parser)]
#[command(name = "farthing", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// An hour of a small company's traffic in a minute: no key, no GPU, real metering
    Demo(demo::Arguments),
    /// Gateway, ledger and dashboard: clients change only their base URL
    Serve(serve::Arguments),
    /// What was spent, by route, model, team and more
    Bill(bill::Arguments),
    /// The bill of an idea before any traffic, and what each lever would save
    Estimate(estimate::Arguments),
    /// A workload on a model, an accelerator and an engine: throughput, latency, cost per token
    Simulate(Box<simulate::Arguments>),
    /// A model server without a model, at the pace of one on a GPU: to load-test an application
    ///
    /// It speaks OpenAI's, Anthropic's and Gemini's APIs. Tokens come when the engine's scheduler would have computed
    /// them for all requests together, as in `farthing simulate`. A token is four bytes of text. What a reply shall be
    /// stands in the last message, such as [[sim output=120]]; `max_tokens` caps it.
    Simulated(Box<simulated_cmd::Arguments>),
    /// A scenario's demand: what it will cost, on which GPUs or behind which API, and what matters most
    Plan(plan::Arguments),
    /// Quotes on one workload: what each offer costs, and from which volume it pays to have GPUs
    Compare(compare::Arguments),
    /// Fits the serving model to measured runs
    Calibrate(calibrate::Arguments),
    /// Predictions of the serving model beside measured points, and how far they are off
    Validate(validate::Arguments),
    /// Which price applies and why, and what usages cost
    Price(price_cmd::Arguments),
    /// Keys for clients: who may call, for which team, until when
    Key(key_cmd::Arguments),
    /// Check or print the journal, the record of every exchange
    Journal(journal_cmd::Arguments),
}

/// Where the configuration and the data are.
#[derive(clap::Args, Clone, Debug)]
struct Place {
    /// Configuration file [default: farthing.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, with the journal [default: as configured, else in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The program: its arguments come from the process, its exit code goes to it.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Bill(arguments) => bill::run(&arguments),
        Command::Estimate(arguments) => estimate::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Simulated(arguments) => simulated_cmd::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Price(arguments) => price_cmd::run(&arguments),
        Command::Key(arguments) => key_cmd::run(&arguments),
        Command::Journal(arguments) => journal_cmd::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farthing: {error:#}");
            ExitCode::FAILURE
        }
    }
}

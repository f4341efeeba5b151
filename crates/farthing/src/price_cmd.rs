//! `farthing price`: which price applies and why, what usages cost, and where prices come from.

mod books;
mod charge;
mod contracts;
mod diff;
mod explain;
mod rerate;
mod traffic;

/// Which price applies and why, and what usages cost
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Which rows were considered for a model, and which one applies
    Explain(explain::Arguments),
    /// Itemised charges of usage records
    Charge(charge::Arguments),
    Rerate(rerate::Arguments),
    /// How commitments and credits stand with what was charged
    Contracts(contracts::Arguments),
    /// Take over a price list of others, whole or not at all
    Import(books::Import),
    /// Where price books disagree
    Check(books::Check),
    Diff(diff::Arguments),
    Schedule(books::Schedule),
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Explain(arguments) => explain::run(arguments),
        Command::Charge(arguments) => charge::run(arguments),
        Command::Rerate(arguments) => rerate::run(arguments),
        Command::Contracts(arguments) => contracts::run(arguments),
        Command::Import(arguments) => books::import(arguments),
        Command::Check(arguments) => books::check(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Schedule(arguments) => books::schedule(arguments),
    }
}

//! `farthing price contracts`: how commitments and credits stand.

use anyhow::Context;
use quantity::Period;
use report::Contracts;

use crate::bill::folded;
use crate::config::Config;
use crate::data::DataDir;
use crate::{Place, agreed, output};

/// How commitments and credits stand with what was charged
///
/// Over all of the ledger: every period of each commitment since the ledger began, with its shortfall or
/// what is due if no more is used, and what each credit paid and has left. Charges are those of this
/// ledger: what was used beside it is not known here.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// As JSON; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let data = DataDir::open(&config.data_dir)?;
    let all = folded(&data, &[agreed::query()])?;
    let all = all.first().context("an answer for each query")?;
    let charges = agreed::charges(all, &config.book, now)?;
    let standing = config.prices.agreements.standing(&charges, now.day());
    let contracts = Contracts { standing: &standing, days: agreed::days(&Period::default(), now) };
    output::print(&if arguments.json {
        contracts.json(now)
    } else {
        contracts.text(output::style(), now)
    })
}

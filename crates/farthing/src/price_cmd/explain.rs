//! `farthing price explain`: which rows were considered for a model, and which one applies.

use anyhow::Context;
use quantity::UnixTime;
use report::price::Explanation;
use tariff::Key;

use crate::bill::book_line;
use crate::config::Config;
use crate::{Place, output};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The model: gpt-5-mini, or PROVIDER/MODEL
    model: String,
    /// The service tier that served: standard, batch, flex, priority
    #[arg(long)]
    tier: Option<String>,
    /// The region that served
    #[arg(long)]
    region: Option<String>,
    /// When the attempt was dispatched [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<UnixTime>,
    /// As far as was known at this time [default: all that is known]
    #[arg(long, value_name = "TIME")]
    known_at: Option<UnixTime>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let book = &config.book;
    let found = book.find(&arguments.model).context("MODEL")?;
    let key = Key {
        tier: arguments.tier.as_deref(),
        region: arguments.region.as_deref(),
        known_at: arguments.known_at,
        ..Key::new(
            &found.provider,
            &found.model,
            arguments.at.unwrap_or_else(|| gateway::Clock::system().now()),
        )
    };
    let outcome = book.quote(&key);
    let explanation = Explanation {
        key,
        considered: &book.explain(&key),
        outcome: outcome.as_ref().map(|row| *row),
        book: &book_line(book),
    };
    output::print(&if arguments.json {
        explanation.json()
    } else {
        explanation.text(output::style())
    })
}

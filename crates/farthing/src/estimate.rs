//! `farthing estimate`: the bill of an idea before any traffic.

use anyhow::Context;
use report::estimate::EstimateReport;
use tariff::estimate::{Idea, estimate};

use crate::bill::book_line;
use crate::config::Config;
use crate::{Place, output};

/// The bill of an idea before any traffic, and what each lever would save
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The model: gpt-5-mini, or PROVIDER/MODEL
    #[arg(long)]
    model: String,
    /// Input tokens of an exchange, cached ones included
    #[arg(long = "in", value_name = "TOKENS")]
    input: u32,
    /// Output tokens of an exchange, reasoning included
    #[arg(long = "out", value_name = "TOKENS")]
    output: u32,
    /// Exchanges a day
    #[arg(long, value_name = "COUNT")]
    per_day: u32,
    /// How much of the input the provider's cache serves: 60%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    cached: u8,
    /// Models to compare with
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    against: Vec<String>,
    /// As JSON; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| format!("expected 0% to 100%, found `{text}`"))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let book = &config.book;
    let now = gateway::Clock::system().now();
    let idea = Idea {
        input: arguments.input,
        output: arguments.output,
        per_day: arguments.per_day,
        cached_percent: arguments.cached,
    };
    let model = book.find(&arguments.model).context("--model")?;
    let others = arguments.against.iter().map(|name| book.find(name).context("--against"));
    let others = others.collect::<anyhow::Result<Vec<_>>>()?;
    let base = estimate(book, &model, now, idea, &others)?;
    let against: Vec<_> = arguments
        .against
        .iter()
        .zip(&others)
        .map(|(name, other)| (name.clone(), estimate(book, other, now, idea, &[])))
        .collect();
    let book = book_line(book);
    let report = EstimateReport { idea, estimate: &base, against: &against, book: &book };
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

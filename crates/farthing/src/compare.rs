//! `farthing compare`: offers to serve a workload, side by side.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facts::{Dimension, Query};
use planner::compare::{Comparison, Market, Offer, Place, Quotes, Serving, Spend, compare};
use planner::scenario::{Recorded, ScenarioError};
use planner::{ApiOffer, Choice, Draws, Outlook, PerMonth, Scenario, Var};
use quantity::UnixTime;
use report::compare::CompareReport;
use tariff::Book;

use crate::bill::{When, answer, book_line, period};
use crate::config::Config;
use crate::data::DataDir;
use crate::plan::recorded::Recordings;
use crate::plan::{self, accuracy, api, gpu_offers, read_file, write_page};
use crate::progress::Progress;
use crate::{Place as Where, output};

/// What `--init` writes.
const STARTING: &str = include_str!("../../../examples/quotes.toml");
/// The scenario that it names.
const SCENARIO: &str = "support-chat.toml";

/// Quotes on one workload: what each offer costs, and from which volume it pays to have GPUs
///
/// A file of quotes says the workload (the tables of a scenario, or `scenario = "support-chat.toml"`; any quantity may be
/// `{ from = "ledger" }`) and has an `[[offer]]` table for each offer: APIs at the list price or as negotiated, provisioned
/// throughput, rented, reserved, dedicated or owned GPUs, and mixes of these. All are priced on the same calls.
///
/// At what volume should we buy GPUs? `--init` writes a file to start from; put your volume and your offers into it. The table
/// "When GPUs win" then has the volumes at which each offer on GPUs costs less than each API, and the month when growth gets
/// there. Money is modelled, in US dollars, by months of 730 hours.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The quotes: a TOML file
    quotes: PathBuf,
    /// Write a commented file of quotes to start from, with its scenario, and do nothing else
    #[arg(long, conflicts_with_all = ["json", "html"])]
    init: bool,
    /// Own data sheets of models, accelerators or engines, before those that are carried
    #[arg(long, value_name = "FILE")]
    sheet: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also as one page with plots: bills by month and by volume, quality against speed, and all tables
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How often all that is unsure is drawn
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    draws: u32,
    /// Which draws: the same seed, the same answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let file = &arguments.quotes;
    if arguments.init {
        return init(file);
    }
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let name = file.display().to_string();
    let text = read_file(file)?;
    let progress = Progress::new(3);
    progress.step("what was recorded");
    let mut quotes = read(&text, file, &config, now)?;
    let start = *quotes.scenario.start.get_or_insert(now);
    let (places, left_out) = places(&mut quotes, &config.book, start, &arguments.sheet, file)
        .with_context(|| name.clone())?;
    let case = quotes.scenario.likely();
    let demands = planner::demand(&quotes.scenario, &case);
    progress.step("what each offer costs");
    let market = Market::open(&quotes, &places, &case, &demands);
    let found = compare(&market, &case);
    if found.quoted.is_empty() {
        let why = found
            .ruled_out
            .iter()
            .map(|(offer, why)| format!("\n  {}: {why}", quotes.offers[*offer].name));
        bail!("{name}: no offer can serve this:{}", why.collect::<String>());
    }
    let draws = (arguments.draws, arguments.seed);
    progress.step("how sure it is");
    let outlook = outlook(&quotes.scenario, &market, &found, draws)?;
    drop(progress);
    let spend = spend(&quotes.spend, &config, now).with_context(|| format!("{name}: `spend`"))?;
    let book = book_line(&config.book);
    let report = CompareReport {
        quotes: &quotes,
        case: &case,
        comparison: &found,
        outlook: &outlook,
        left_out: &left_out,
        spend: &spend,
        book: &book,
    };
    if let Some(file) = &arguments.html {
        write_page(file, &report.html())?;
    }
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

fn init(file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    write_new(file, STARTING)
        .with_context(|| format!("cannot make `{shown}`, which must not be there yet"))?;
    // The scenario that it names; one that is there already is the user's own.
    let scenario = file.with_file_name(SCENARIO);
    let also = match write_new(&scenario, plan::STARTING) {
        Ok(()) => format!(", their scenario in `{}`", scenario.display()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => String::new(),
        Err(error) => bail!("cannot make `{}`: {error}", scenario.display()),
    };
    eprintln!(
        "farthing: quotes to start from are in `{shown}`{also}; `farthing compare {shown}` answers them"
    );
    Ok(())
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}

/// The quotes of a text, with the scenario that it names beside its file.
fn read(text: &str, file: &Path, config: &Config, now: UnixTime) -> anyhow::Result<Quotes> {
    let name = file.display().to_string();
    let named = Quotes::scenario_file(text).with_context(|| name.clone())?;
    let scenario = named.map(|named| {
        let beside = file.parent().unwrap_or(Path::new("")).join(&named);
        let shown = beside.display().to_string();
        let text = std::fs::read_to_string(&beside)
            .with_context(|| format!("{name}: invalid `scenario`: cannot read `{shown}`"))?;
        let mut recordings = Recordings::new(config, &beside, now);
        let mut lookup = |var: Var, asked: &Recorded| {
            recordings.value(var, asked).map_err(|error| format!("{error:#}"))
        };
        Scenario::read_workload(&text, &mut lookup).context(shown)
    });
    let scenario = scenario.transpose()?;
    let mut recordings = Recordings::new(config, file, now);
    let mut lookup = |var: Var, asked: &Recorded| {
        recordings.value(var, asked).map_err(|error| format!("{error:#}"))
    };
    Quotes::read(text, scenario, &mut lookup).context(name)
}

/// Setups that cannot be had, with the offer that they are of and the reason.
type LeftOut = Vec<(String, String)>;

/// What each offer is served by. Who is paid for a model of the book is noted.
fn places(
    quotes: &mut Quotes,
    book: &Book,
    start: UnixTime,
    sheet: &[PathBuf],
    file: &Path,
) -> anyhow::Result<(Vec<Place>, LeftOut)> {
    let mut left_out = Vec::new();
    let mut places = Vec::new();
    for offer in &mut quotes.offers {
        places.push(match &offer.serving {
            Serving::Api(_) => api_place(offer, book, start)?,
            Serving::Gpus(on) => {
                let setups = gpu_offers(&offer.key, &on.gpus, on.price, sheet, file);
                let (setups, out) = setups.with_context(|| format!("line {}", offer.line))?;
                let name = |setup: String| format!("{}: {setup}", offer.name);
                left_out.extend(out.into_iter().map(|(setup, why)| (name(setup), why)));
                Place::Gpus(setups)
            }
            _ => Place::AsOffered,
        });
    }
    Ok((places, left_out))
}

fn api_place(offer: &mut Offer, book: &Book, start: UnixTime) -> anyhow::Result<Place> {
    let Serving::Api(terms) = offer.serving.clone() else { return Ok(Place::AsOffered) };
    let list = match &terms.model {
        None => None,
        Some(model) => {
            let found = book.find(model).map_err(|error| {
                let message = format!("invalid `{}.model`: {error}", offer.key);
                ScenarioError { line: Some(offer.line), message }
            })?;
            offer.vendor.get_or_insert_with(|| found.provider.clone());
            Some(api(book.clone(), found, terms.tier.clone(), start))
        }
    };
    let prices = move |month: u32, input: u64| {
        let list = list.as_ref().map(|list| (list.prices)(month, input));
        terms.prices(list.transpose()?)
    };
    Ok(Place::Api(ApiOffer { name: offer.name.clone(), prices: Box::new(prices) }))
}

/// How those offers may turn out that could be taken: the admissible ones, or all if none is.
fn outlook(
    scenario: &Scenario,
    market: &Market<'_>,
    found: &Comparison,
    (count, seed): (u32, u64),
) -> anyhow::Result<Outlook> {
    let on_gpus = |offer: usize| {
        let served = found.quoted.iter().any(|one| one.offer == offer && one.own.is_some());
        if served { market.setup(offer) } else { None }
    };
    let all = found.choices().map(|one| {
        // Of a mix that of its part on GPUs.
        let setup = market.leaves(one.offer).into_iter().find_map(on_gpus);
        let accuracy = setup.map(|setup| accuracy(scenario, setup)).transpose()?;
        Ok(market.choice(one.offer, accuracy))
    });
    let all = all.collect::<anyhow::Result<Vec<_>>>()?;
    let choices: Vec<&dyn Choice> = all.iter().map(|one| one as &dyn Choice).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(planner::outlook(scenario, &choices, Draws { count, seed, threads }))
}

/// What is spent by vendor today, a month.
fn spend(spend: &Spend, config: &Config, now: UnixTime) -> anyhow::Result<Vec<(String, PerMonth)>> {
    let since = match spend {
        Spend::Unknown => return Ok(Vec::new()),
        Spend::Told(told) => return Ok(told.clone()),
        Spend::Ledger { since } => since,
    };
    let when = since.as_deref().map(|text| text.parse::<When>().map_err(anyhow::Error::msg));
    let period = period(when.transpose()?, None, now)?;
    let data = DataDir::open(&config.data_dir)?;
    let answer = answer(&data, &Query { by: vec![Dimension::Provider], period }, now)?;
    let start = period.start.or(answer.seen.map(|(first, _)| first)).unwrap_or(now);
    let months = now.since(start).as_secs_f64() / 3600.0 / planner::HOURS_PER_MONTH;
    let all = answer.groups.iter().map(|group| {
        let name = group.key.first().cloned().flatten().unwrap_or("own servers".to_owned());
        // Booked money becomes a modelled rate by its text.
        let usd: f64 = group.measures.cost.to_string().parse().unwrap_or(0.0);
        (name, PerMonth::new(usd / months.max(f64::MIN_POSITIVE)))
    });
    Ok(all.filter(|(_, paid)| *paid > PerMonth::ZERO).collect())
}

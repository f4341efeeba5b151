//! `farthing plan`: what a scenario will cost, where, and what matters most.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use calibration::{Metric, Regime};
use planner::scenario::{Gpus, Terms};
use planner::{
    Accuracy, ApiChoice, ApiOffer, Beside, Candidate, Case, Choice, Draws, GpuChoice, GpuOffer,
    GpuPrice, Offers, PerHour, PerMtok, Plan, Scenario, TokenPrices, Var, levers, needs, outlook,
    plan,
};
use quantity::{Billable, TokenClass, Unit, UnixTime};
use report::plan::PlanReport;
use roofline::{Format, Formats, Layout, Routing, Setup};
use tariff::{Book, Found, Key};

use crate::bill::book_line;
use crate::config::Config;
use crate::progress::Progress;
use crate::{Place, output, simulate};

pub(crate) mod recorded;

use recorded::Recordings;

/// What `--init` writes.
pub(crate) const STARTING: &str = include_str!("../../../examples/support-chat.toml");

/// A scenario's demand: what it will cost, on which GPUs or behind which API, and what matters most
///
/// Money here is modelled, in US dollars, by months of 730 hours; none of it is booked. Prices of APIs are those of the price
/// book in each month, with changes that are known; prices of GPUs are as the scenario says, or the usual ones.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The scenario: a TOML file
    scenario: PathBuf,
    /// Write a commented scenario to start from, and do nothing else
    #[arg(long, conflicts_with_all = ["json", "html"])]
    init: bool,
    /// Own data sheets of models, accelerators or engines, before those that are carried
    #[arg(long, value_name = "FILE")]
    sheet: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also as one page with plots: bill and unit price through time, the week, and all tables
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How often all that is unsure is drawn
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    draws: u32,
    /// Which draws: the same seed, the same answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let file = &arguments.scenario;
    if arguments.init {
        return init(file);
    }
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let name = file.display().to_string();
    let text = read_file(file)?;
    let progress = Progress::new(5);
    progress.step("what was recorded");
    let mut recordings = Recordings::new(&config, file, now);
    let mut lookup = |var: Var, asked: &planner::scenario::Recorded| {
        recordings.value(var, asked).map_err(|error| format!("{error:#}"))
    };
    let mut scenario = Scenario::read(&text, &mut lookup).with_context(|| name.clone())?;
    let start = *scenario.start.get_or_insert(now);
    let (offers, mut left_out) = offers(&scenario, &config.book, start, &arguments.sheet, file)
        .with_context(|| name.clone())?;
    let case = scenario.likely();
    progress.step("setups that serve it");
    let mut found = plan(&scenario, &case, &offers);
    left_out.append(&mut found.ruled_out);
    found.ruled_out = left_out;
    if found.lanes.is_empty() {
        let why = found.ruled_out.iter().map(|(name, why)| format!("\n  {name}: {why}"));
        bail!("{name}: nothing that is offered can serve this:{}", why.collect::<String>());
    }
    progress.step("what would have to be true");
    let needs: Vec<_> =
        found.lanes.iter().map(|lane| needs(&scenario, &case, &offers, lane)).collect();
    progress.step("how sure it is");
    let choices = choices(&scenario, &case, &offers, &found)?;
    let choices: Vec<&dyn Choice> = choices.iter().map(AsRef::as_ref).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let draws = Draws { count: arguments.draws, seed: arguments.seed, threads };
    let outlook = outlook(&scenario, &choices, draws);
    progress.step("what would save");
    let beside = Beside {
        batch: batch(&scenario, &config.book, start)?,
        quantised: quantised(&scenario, &offers, &found, &arguments.sheet, file)?,
    };
    let levers = levers((&scenario, &case), &offers, (&found, &choices), &beside);
    drop(progress);
    let book = book_line(&config.book);
    let report = PlanReport {
        scenario: &scenario,
        case: &case,
        offers: &offers,
        plan: &found,
        needs: &needs,
        outlook: &outlook,
        levers: &levers,
        book: &book,
    };
    if let Some(file) = &arguments.html {
        write_page(file, &report.html())?;
    }
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

/// The lanes of a plan as choices, in their order.
fn choices<'a>(
    scenario: &'a Scenario,
    case: &Case,
    offers: &'a Offers,
    plan: &Plan,
) -> anyhow::Result<Vec<Box<dyn Choice + 'a>>> {
    let choice = |lane: &planner::Lane| -> anyhow::Result<Box<dyn Choice + 'a>> {
        if lane.own.is_none() {
            return Ok(Box::new(ApiChoice::new(&offers.apis[lane.offer], scenario.months)));
        }
        let offer = &offers.gpus[lane.offer];
        let accuracy = accuracy(scenario, offer)?;
        let choice = GpuChoice::new(scenario, case, offer, (lane, &plan.demand), accuracy);
        Ok(Box::new(choice.map_err(|why| anyhow!(why))?))
    };
    plan.lanes.iter().map(choice).collect()
}

/// How far off the rate of a replica may be, by the errors of measured runs: of the highest rate within an SLO, or where
/// there is none of what is served at full load.
pub(crate) fn accuracy(scenario: &Scenario, offer: &GpuOffer) -> anyhow::Result<Accuracy> {
    let (metric, regime) = match scenario.slo.ttft_s.or(scenario.slo.tpot_s) {
        Some(_) => (Metric::Rate, Regime::Paced),
        None => (Metric::Throughput, Regime::Saturated),
    };
    let band = calibration::interval(&offer.candidate.setup, metric, regime)?;
    Ok(Accuracy { low: band.low, high: band.high })
}

/// The batch lanes of the scenario's APIs that are not taken already.
fn batch(
    scenario: &Scenario,
    book: &Book,
    start: UnixTime,
) -> anyhow::Result<Vec<Option<ApiOffer>>> {
    const BATCH: &str = "batch";
    let Some(wanted) = &scenario.api else { return Ok(Vec::new()) };
    let other = wanted.tier.as_deref() != Some(BATCH);
    let lane = |model: &String| {
        Ok(other.then_some(api(book.clone(), book.find(model)?, Some(BATCH.to_owned()), start)))
    };
    wanted.models.iter().map(lane).collect()
}

/// The setup of the lane on GPUs with its weights in fewer bits, if it can be had.
fn quantised(
    scenario: &Scenario,
    offers: &Offers,
    plan: &Plan,
    sheet: &[PathBuf],
    file: &Path,
) -> anyhow::Result<Option<GpuOffer>> {
    let own = plan.lanes.iter().find(|lane| lane.own.is_some());
    let Some((gpus, lane)) = scenario.gpus.as_ref().zip(own) else { return Ok(None) };
    let offer = &offers.gpus[lane.offer];
    let fewer = match offer.candidate.setup.formats.weights {
        Format::Bf16 => Format::Fp8,
        Format::Fp8 | Format::Fp8Block | Format::Int8 => Format::Int4,
        _ => return Ok(None),
    };
    let alone = Gpus {
        accelerators: vec![offer.candidate.setup.accelerator.row().name().to_owned()],
        tensor_parallel: vec![offer.candidate.gpus()],
        weights: vec![fewer],
        ..gpus.clone()
    };
    let price = scenario.likely().get(Var::GpuHour).map(PerHour::new);
    let (mut found, _) = gpu_offers("gpus", &alone, price, sheet, file)?;
    Ok(found.pop())
}

/// The text of a file that `--init` could have written.
pub(crate) fn read_file(file: &Path) -> anyhow::Result<String> {
    const HINT: &str = "\n\nhint: --init writes one to start from";
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`{HINT}", file.display()))
}

/// Writes a page and says so.
pub(crate) fn write_page(file: &Path, html: &str) -> anyhow::Result<()> {
    std::fs::write(file, html).with_context(|| format!("cannot write `{}`", file.display()))?;
    eprintln!("farthing: wrote {}", file.display());
    Ok(())
}

fn init(file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let new = OpenOptions::new().write(true).create_new(true).open(file);
    let mut new =
        new.with_context(|| format!("cannot make `{shown}`, which must not be there yet"))?;
    new.write_all(STARTING.as_bytes()).with_context(|| format!("cannot write `{shown}`"))?;
    eprintln!(
        "farthing: a scenario to start from is in `{shown}`; `farthing plan {shown}` answers it"
    );
    Ok(())
}

/// What a scenario names, with prices; and setups that cannot be had, with the reason.
fn offers(
    scenario: &Scenario,
    book: &Book,
    start: UnixTime,
    sheet: &[PathBuf],
    file: &Path,
) -> anyhow::Result<(Offers, Vec<(String, String)>)> {
    let mut offers = Offers::default();
    let mut left_out = Vec::new();
    for (index, model) in scenario.api.iter().flat_map(|api| &api.models).enumerate() {
        let found = book.find(model).with_context(|| format!("invalid `api.models[{index}]`"))?;
        let tier = scenario.api.as_ref().and_then(|api| api.tier.clone());
        offers.apis.push(api(book.clone(), found, tier, start));
    }
    if let Some(gpus) = &scenario.gpus {
        let price = scenario.likely().get(Var::GpuHour).map(PerHour::new);
        (offers.gpus, left_out) = gpu_offers("gpus", gpus, price, sheet, file)?;
    }
    Ok((offers, left_out))
}

/// A month in the mean.
const MONTH: Duration = Duration::from_secs(2_628_000);

/// A model's prices, each month as it begins. Prices that hold by the hour of the day are those of the hour of the start.
pub(crate) fn api(book: Book, found: Found, tier: Option<String>, start: UnixTime) -> ApiOffer {
    let tiered = tier.as_ref().map_or(String::new(), |tier| format!(", {tier}"));
    let name = format!("{}/{}{tiered}", found.provider, found.model);
    let prices = move |month: u32, input: u64| {
        let at = start.plus(MONTH.saturating_mul(month));
        let key = Key { hours_of: Some(start), ..Key::new(&found.provider, &found.model, at) };
        let row = book.quote(&key.on(tier.as_deref())).map_err(|error| error.to_string())?;
        let price = |item: Billable| -> Option<f64> {
            let (_, price) = row.price_for(item)?;
            // A price of a list becomes a modelled one by its text; booked money never does.
            price.at_input(input).price().usd_per_million().parse().ok()
        };
        let of = |class: TokenClass| {
            let usd = price(Billable::Tokens(class));
            usd.map(PerMtok::new).ok_or_else(|| format!("the book has no price for `{class}`"))
        };
        Ok(TokenPrices {
            input: of(TokenClass::InputUncached)?,
            cached: of(TokenClass::CacheRead).or_else(|_| of(TokenClass::InputUncached))?,
            answer: of(TokenClass::OutputText)?,
            reasoning: of(TokenClass::Reasoning)?,
            call: price(Billable::Unit(Unit::Call)).map_or(0.0, |usd| usd / 1e6),
        })
    };
    ApiOffer { name, prices: Box::new(prices) }
}

/// Setups on GPUs, and those that cannot be had, each with the reason.
pub(crate) type Setups = (Vec<GpuOffer>, Vec<(String, String)>);

/// What GPUs may serve, by the table `key` of a file, at a price of one's own or the usual one.
pub(crate) fn gpu_offers(
    key: &str,
    gpus: &Gpus,
    own: Option<PerHour>,
    sheet: &[PathBuf],
    file: &Path,
) -> anyhow::Result<Setups> {
    let sheets = simulate::sheets(sheet)?;
    // A file beside the scenario is named as seen from there.
    let beside = file.parent().unwrap_or(Path::new("")).join(&gpus.model);
    let model = match gpus.model.ends_with(".json") && beside.exists() {
        true => beside.display().to_string(),
        false => gpus.model.clone(),
    };
    let model =
        simulate::model(&sheets, &model).with_context(|| format!("invalid `{key}.model`"))?;
    let engine = simulate::engine(&sheets, &gpus.engine)
        .with_context(|| format!("invalid `{key}.engine`"))?;
    let (mut offers, mut left_out) = (Vec::new(), Vec::new());
    for (index, name) in gpus.accelerators.iter().enumerate() {
        let accelerator = simulate::accelerator(&sheets, name)
            .with_context(|| format!("invalid `{key}.accelerators[{index}]`"))?;
        let name = accelerator.row().name();
        let price = price(key, gpus.terms, own, name);
        let (price, source) =
            price.with_context(|| format!("invalid `{key}.accelerators[{index}]`"))?;
        // Without a figure of the whole, half as much again as the chip for its share of the server.
        let watts = accelerator
            .all_in_watts()
            .or_else(|_| accelerator.tdp_watts().map(|watts| watts * 1.5));
        let kilowatts = match (watts, gpus.terms) {
            (Ok(watts), _) => watts / 1e3,
            (Err(error), Terms::Owned) => return Err(error.into()),
            (Err(_), _) => 0.0,
        };
        for &tensor in &gpus.tensor_parallel {
            for &weights in &gpus.weights {
                let formats = Formats { weights, experts: weights, kv: gpus.kv };
                let layout = Layout::tensor(tensor);
                let routing = Routing::default();
                let setup = Setup::new(
                    &model,
                    accelerator,
                    engine,
                    &sheets.kernels,
                    layout,
                    formats,
                    routing,
                );
                let candidate = setup.map_err(|error| error.to_string());
                let candidate = candidate
                    .and_then(|setup| Candidate::new(setup).map_err(|error| error.to_string()));
                match candidate {
                    Ok(candidate) => {
                        let source = source.clone();
                        let found = planner::Found::default();
                        offers.push(GpuOffer { candidate, price, source, kilowatts, found });
                    }
                    Err(why) => left_out.push((format!("{tensor} x {name}, {weights}"), why)),
                }
            }
        }
    }
    Ok((offers, left_out))
}

/// What a GPU costs by the hour, and who says so.
fn price(
    key: &str,
    terms: Terms,
    own: Option<PerHour>,
    accelerator: &str,
) -> anyhow::Result<(PerHour, String)> {
    if terms == Terms::Owned {
        return Ok((PerHour::ZERO, "bought, as the file says".to_owned()));
    }
    if let Some(price) = own {
        return Ok((price, format!("as `{key}.price` says")));
    }
    let usual = GpuPrice::usual(accelerator, terms).ok_or_else(|| {
        anyhow!(
            "no price of {accelerator} with terms `{}` is known; expected `{key}.price`",
            terms.name()
        )
    });
    let (usual, all) = usual?;
    let dearest = all.last().unwrap_or(&usual).price.usd();
    let source = format!(
        "middle of {} offers of {} to {} USD: {}, {} ({})",
        all.len(),
        all.first().unwrap_or(&usual).price.usd(),
        dearest,
        usual.provider,
        usual.as_of,
        usual.source
    );
    Ok((usual.price, source))
}

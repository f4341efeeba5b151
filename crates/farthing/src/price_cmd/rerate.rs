//! `farthing price rerate`: settled attempts by the prices that are known now.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use facts::{Adjustment, Attempt, Booked, Exchange, PriceRecord};
use journal::{Batch, Body, DirStorage, JournalError, Missing, Writer};
use metering::reprice;
use quantity::{ExchangeId, PriceRowId, UnixTime};
use report::rerate::{Rerating, Supposed};
use warehouse::Passed;

use crate::bill::{When, book_line, period};
use crate::config::Config;
use crate::data::DataDir;
use crate::price_cmd::books::{Source, named_book};
use crate::price_cmd::traffic::each_attempt;
use crate::{Place, output};

/// What settled exchanges cost by the prices known now, and adjustments for the difference
///
/// Each attempt is priced again: the same usage, the model and tier that served, the price in force when
/// it was dispatched, as the price book and the configuration have it now. The difference from what is
/// booked is shown; with --apply it is posted as an adjustment, which is on the bill of the day it is
/// posted. Bills of the past do not change, and what was posted is not posted again.
///
/// With --as, --tier or --book it is a counterfactual: what the same usage had cost on another model or
/// another host of the same weights, on the batch lane, at the prices of another list. That is only
/// shown, with what has no price so, and why.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Exchanges admitted from this time on: 2026-11-01, 2026-11-22T14:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME")]
    since: When,
    /// Up to this time, which is not included [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Post the differences; no gateway may run meanwhile
    #[arg(long, conflicts_with_all = ["served_by", "tier", "book", "model"])]
    apply: bool,
    /// As if another model had served, or another provider: openai/gpt-5-mini
    #[arg(long = "as", value_name = "PROVIDER/MODEL")]
    served_by: Option<String>,
    /// As if it had been served on another tier: standard, batch, flex, priority
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// As if the prices of another book had been in force: a name that was imported, a file, `builtin`
    #[arg(long, value_name = "BOOK")]
    book: Option<String>,
    /// Whose list --book is, if it is not in a book's form
    #[arg(long, value_name = "SOURCE", requires = "book")]
    format: Option<Source>,
    /// Attempts alone that this model served: gpt-5, or PROVIDER/MODEL
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// As JSON; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = Config::load(&arguments.place)?;
    if let Some(name) = &arguments.book {
        let other = named_book(&config, name, arguments.format).context("--book")?;
        config.book = config.book_below(Some(other))?;
    }
    let now = gateway::Clock::system().now();
    let until = arguments.until.unwrap_or(When::At(now));
    let period = period(Some(arguments.since), Some(until), now)?;
    let found = arguments.served_by.as_deref().map(|asked| config.book.find(asked));
    let found = found.transpose().context("--as")?;
    let supposed = Supposed {
        served_by: found.map(|found| (found.provider, found.model)),
        tier: arguments.tier.clone(),
        book: arguments.book.as_ref().map(|_| book_line(&config.book)),
    };
    let data = DataDir::open(&config.data_dir)?;
    // Held until all is posted: what is read stays all there is.
    let writer = arguments.apply.then(|| writer(&data, now)).transpose()?;
    let posted = Posted::read(&data)?;
    if writer.is_some()
        && let Some(missing) = posted.missing.first()
    {
        bail!("nothing is posted, for adjustments may be among what is missing: {missing}");
    }
    let book = book_line(&config.book);
    let mut rerating = Rerating::new(period, now, &book, supposed);
    rerating.only.clone_from(&arguments.model);
    let due = rate(&config, &data, &posted, &mut rerating)?;
    if let Some(writer) = writer {
        due.post(writer, &posted.rows, now)?;
        rerating.posted = Some(due.adjustments.len() as u64);
    }
    for (row, text) in posted.rows {
        rerating.rows.entry(row).or_insert(text);
    }
    output::print(&if arguments.json { rerating.json() } else { rerating.text(output::style()) })
}

fn writer(data: &DataDir, now: UnixTime) -> anyhow::Result<Writer<DirStorage>> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).context("the system gives no random numbers")?;
    match Writer::open(data.journal_to_write()?, now, u64::from_le_bytes(random)) {
        Ok((writer, _)) => Ok(writer),
        Err(JournalError::Locked) => Err(anyhow!(
            "a gateway writes to the journal in `{}`, and adjustments can be posted only while none \
             does\n\nhint: stop `farthing serve`, post them, and start it again; without --apply they \
             are shown beside it",
            data.path().display()
        )),
        Err(error) => {
            Err(error).with_context(|| format!("data directory `{}`", data.path().display()))
        }
    }
}

/// What the journal has of earlier adjustments.
#[derive(Default)]
struct Posted {
    /// Their sums by attempt, with the row of the last.
    adjusted: BTreeMap<(ExchangeId, u32), Booked>,
    /// Price rows whose texts are on the journal.
    rows: BTreeMap<PriceRowId, String>,
    /// Where records are missing.
    missing: Vec<Missing>,
}

impl Posted {
    fn read(data: &DataDir) -> anyhow::Result<Self> {
        let mut posted = Self::default();
        let end = data.warehouse()?.each(|passed| {
            let Passed::Record(record) = passed else { return anyhow::Ok(()) };
            match record.decode()?.body {
                Body::Adjusted(adjustment) => {
                    let attempt = (adjustment.exchange, adjustment.ordinal);
                    let so_far = posted.adjusted.get(&attempt).copied();
                    posted.adjusted.insert(attempt, Booked::adjusted(so_far, &adjustment));
                }
                Body::Price(PriceRecord::PerUse { row, text }) => {
                    posted.rows.insert(row, text);
                }
                _ => {}
            }
            Ok(())
        })?;
        posted.missing = end.missing;
        Ok(posted)
    }
}

/// What is to be posted.
#[derive(Default)]
struct Due {
    /// Rows that they name, by id.
    rows: BTreeMap<PriceRowId, String>,
    adjustments: Vec<Adjustment>,
}

/// Prices every attempt of the period again.
fn rate(
    config: &Config,
    data: &DataDir,
    posted: &Posted,
    rerating: &mut Rerating<'_>,
) -> anyhow::Result<Due> {
    let mut due = Due::default();
    each_attempt(data, rerating.period, |exchange, attempt| {
        rate_one(config, posted, exchange, attempt, rerating, &mut due);
    })?;
    Ok(due)
}

fn rate_one(
    config: &Config,
    posted: &Posted,
    exchange: &Exchange,
    attempt: &Attempt,
    rerating: &mut Rerating<'_>,
    due: &mut Due,
) {
    let model = match (&attempt.dispatch.provider, attempt.model()) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        (_, model) => model.unwrap_or("-").to_owned(),
    };
    if let Some(only) = &rerating.only
        && *only != model
        && Some(only.as_str()) != attempt.model()
    {
        return;
    }
    let supposed = &rerating.supposed;
    let served_by = supposed.served_by.as_ref();
    let supposed = metering::Supposed {
        served_by: served_by.map(|(provider, model)| (provider.as_str(), model.as_str())),
        tier: supposed.tier.as_deref(),
        in_force: None,
    };
    let adjusted = posted.adjusted.get(&(attempt.dispatch.exchange, attempt.dispatch.ordinal));
    let Some(repriced) = reprice(&config.book, attempt, adjusted, &supposed) else {
        rerating.untouched += 1;
        return;
    };
    let route = &exchange.admission.labels.route;
    let route = config.settings.route_names.get(route).unwrap_or(route);
    let now = repriced.now.as_ref().map(|(now, _)| *now).map_err(String::as_str);
    rerating.add(route, &model, repriced.booked, now);
    if let Ok((now, row)) = &repriced.now {
        rerating.rows.entry(now.row).or_insert_with(|| row.to_text());
        if let Some(adjustment) = repriced.adjustment(attempt, rerating.now) {
            due.rows.entry(now.row).or_insert_with(|| row.to_text());
            due.adjustments.push(adjustment);
        }
    }
}

/// Adjustments that are appended at once.
const AT_ONCE: usize = 4_096;

impl Due {
    /// Writes rows that are not on the journal yet, and then the adjustments. Whatever of them is
    /// written when this ends early is part of what is booked the next time.
    fn post(
        &self,
        mut writer: Writer<DirStorage>,
        known: &BTreeMap<PriceRowId, String>,
        now: UnixTime,
    ) -> anyhow::Result<()> {
        const CANNOT: &str = "not all adjustments could be posted; run this again for the rest";
        let mut batch = Batch::new();
        for (row, text) in self.rows.iter().filter(|(row, _)| !known.contains_key(row)) {
            batch.push(&PriceRecord::PerUse { row: *row, text: text.clone() })?;
        }
        writer.append(&mut batch, now).context(CANNOT)?;
        for adjustments in self.adjustments.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            adjustments.iter().try_for_each(|adjustment| batch.push(adjustment))?;
            writer.append(&mut batch, now).context(CANNOT)?;
        }
        writer.sync().context(CANNOT)
    }
}

//! What the ledger has of a period, attempt by attempt, and changes of prices weighed with it.

use std::time::Duration;

use facts::{Attempt, Booked, Exchange};
use metering::{Supposed, reprice};
use quantity::{Period, UnixTime};
use report::price::Weighed;
use tariff::{Book, Key, PriceRow, Sheet};

use crate::bill::{When, period};
use crate::config::Config;
use crate::data::DataDir;

/// How far back changes are weighed unless told otherwise.
const USUAL: Duration = Duration::from_secs(30 * 86_400);

/// Whose traffic is weighed.
#[derive(clap::Args, Debug)]
pub(super) struct Traffic {
    /// Weighed with exchanges admitted from this time on: 2026-11-01, or 7d, 12h ago [default: 30d]
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Up to this time, which is not included [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
}

impl Traffic {
    /// The last 30 days.
    pub(super) const USUAL: Self = Self { since: None, until: None };

    /// The ledger and the period; `None` where there is no ledger yet.
    pub(super) fn of(
        &self,
        config: &Config,
        now: UnixTime,
    ) -> anyhow::Result<Option<(DataDir, Period)>> {
        let since = self.since.unwrap_or(When::Away(USUAL));
        let period = period(Some(since), Some(self.until.unwrap_or(When::At(now))), now)?;
        let asked = self.since.is_some() || self.until.is_some();
        match DataDir::open(&config.data_dir) {
            Ok(data) => Ok(Some((data, period))),
            Err(error) if asked => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// Every attempt of the exchanges that were admitted in a period and are settled. What is left out is
/// told on stderr.
pub(super) fn each_attempt(
    data: &DataDir,
    period: Period,
    mut take: impl FnMut(&Exchange, &Attempt),
) -> anyhow::Result<()> {
    data.each_exchange(period, |exchange| {
        exchange.attempts.iter().for_each(|attempt| take(exchange, attempt));
    })
}

/// Weighs what is otherwise in a later sheet.
pub(super) fn weigh(
    data: &DataDir,
    period: Period,
    before: &Sheet<'_>,
    after: &Sheet<'_>,
) -> anyhow::Result<Weighed> {
    let mut weighed = Weighed::new(period);
    each_attempt(data, period, |_, attempt| add(&mut weighed, attempt, before, after))?;
    Ok(weighed)
}

/// Weighs every change of a book's prices after one instant and not after another.
pub(super) fn weigh_scheduled(
    data: &DataDir,
    period: Period,
    book: &Book,
    after: UnixTime,
    until: UnixTime,
) -> anyhow::Result<Weighed> {
    let mut weighed = Weighed::new(period);
    each_attempt(data, period, |_, attempt| {
        let named = attempt.dispatch.provider.as_deref().zip(attempt.model());
        let Some((provider, model)) = named else { return };
        let key = Key::new(provider, model, after).on(attempt.end.tier_served.as_deref());
        let key = key.in_region(attempt.region());
        for at in book.turns(&key, after, until) {
            let then = Sheet { book, at };
            add(&mut weighed, attempt, &then.just_before(), &then);
        }
    })?;
    Ok(weighed)
}

/// Prices an attempt by both sheets, at the hour and weekday of its own dispatch.
fn add(weighed: &mut Weighed, attempt: &Attempt, before: &Sheet<'_>, after: &Sheet<'_>) {
    let Some((before, later)) = price(attempt, before).zip(price(attempt, after)) else {
        weighed.untouched += 1;
        return;
    };
    let usage = &attempt.end.metered.usage;
    let [before, later] = [&before, &later].map(|priced| {
        priced.as_ref().map(|(booked, row)| (*row, booked.contracted)).map_err(String::as_str)
    });
    weighed.add(after.at, usage, before, later);
}

type Priced<'a> = Result<(Booked, &'a PriceRow), String>;

fn price<'a>(attempt: &Attempt, sheet: &Sheet<'a>) -> Option<Priced<'a>> {
    let supposed = Supposed { in_force: Some(sheet.at), ..Supposed::default() };
    Some(reprice(sheet.book, attempt, None, &supposed)?.now)
}

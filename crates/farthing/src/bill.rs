//! `farthing bill`: what was spent.

use std::time::Duration;

use anyhow::{Context, bail};
use facts::{Answer, Dimension, Query, Rollup};
use quantity::{Period, UnixTime};
use report::{Bill, BookLine, Contracts};
use tariff::Book;
use warehouse::Folded;

use crate::config::Config;
use crate::data::DataDir;
use crate::price_alarm::{Changes, NOTICE};
use crate::{Place, agreed, output};

/// What was spent, by route, model, team and more
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What to split by, in order: route, model, task_type, task, team, user, tag:NAME, upstream, provider, day, api, key, region
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "route")]
    by: Vec<Dimension>,
    /// From this time on: 2026-11-22, 2026-11-22T14:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Up to this time, which is not included
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// The N dearest groups alone, the others as one; the total stays
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// As JSON; money is an exact decimal text
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    place: Place,
}

/// A time, said as it is or as how far from now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    At(UnixTime),
    /// So long before now, or after.
    Away(Duration),
}

impl std::str::FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let at = |_| text.parse().map(Self::At).map_err(|error| format!("{error}"));
        Self::ago(text).or_else(at)
    }
}

impl When {
    /// How long ago, such as `90d`.
    pub(crate) fn ago(text: &str) -> Result<Self, String> {
        let time = || {
            let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let seconds = match unit {
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            let count: u64 = count.parse().ok()?;
            count.checked_mul(seconds).map(Duration::from_secs)
        };
        let time = time().ok_or_else(|| "expected a time such as `90d` or `12h`".to_owned())?;
        Ok(Self::Away(time))
    }

    /// The time gone by.
    pub(crate) fn at(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(at) => at,
            Self::Away(ago) => {
                let nanos = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
                UnixTime::from_nanos(now.nanos().saturating_sub(nanos))
            }
        }
    }

    /// The time to come.
    pub(crate) fn ahead(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(at) => at,
            Self::Away(away) => now.plus(away),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let period = period(arguments.since, arguments.until, now)?;
    let query = Query { by: dimensions(&arguments.by)?, period };
    let data = DataDir::open(&config.data_dir)?;
    // What is closed stays as it was; a table for programs has no place for words.
    let looks_ahead = !arguments.csv && period.end.is_none_or(|end| end >= now);
    let changes = looks_ahead.then(|| Changes::of(config.book.clone(), now, NOTICE));
    let mut changes = changes.filter(|changes| !changes.is_empty());
    let agreements = &config.prices.agreements;
    let served = changes.is_some().then(|| Changes::query(period));
    let all = (!agreements.is_empty()).then(agreed::query);
    let queries: Vec<_> = std::iter::once(query).chain(served).chain(all).collect();
    let mut rollups = folded(&data, &queries)?.into_iter();
    let mut next = || rollups.next().context("an answer for each query");
    let answer = next()?.answer(now);
    if let Some(changes) = &mut changes {
        changes.served_in(&next()?.answer(now), &config.settings.upstreams, now);
    }
    let coming = changes.iter().flat_map(|changes| changes.within(now, NOTICE));
    let coming: Vec<_> = coming.cloned().collect();
    let charges = if agreements.is_empty() {
        None
    } else {
        Some(agreed::charges(&next()?, &config.book, now)?)
    };
    let standing = charges.as_ref().map(|charges| agreements.standing(charges, now.day()));
    let days = agreed::days(&period, now);
    let contracts = standing.as_ref().map(|standing| Contracts { standing, days });
    // Derived routes go by the names that were given to them since.
    let answer = answer.renamed(&Dimension::Route, &config.settings.route_names);
    let answer = answer.top(arguments.top.unwrap_or(usize::MAX));
    let book = book_line(&config.book);
    let bill = Bill::new(&answer, &book, now).with_coming(&coming).with_contracts(contracts);
    output::print(&if arguments.json {
        bill.json()
    } else if arguments.csv {
        bill.csv()
    } else {
        bill.text(output::style())
    })
}

/// The time from `since` until `until`, each as far as it is said.
pub(crate) fn period(
    since: Option<When>,
    until: Option<When>,
    now: UnixTime,
) -> anyhow::Result<Period> {
    let [start, end] = [since, until].map(|when| when.map(|when| when.at(now)));
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        bail!("--since is not before --until: the period is empty");
    }
    Ok(Period { start, end })
}

/// Each dimension once. Names of tags are lower-case: they come from headers, whose case is lost.
fn dimensions(by: &[Dimension]) -> anyhow::Result<Vec<Dimension>> {
    let mut once = Vec::new();
    for dimension in by {
        let dimension = match dimension {
            Dimension::Tag(name) => Dimension::Tag(name.to_lowercase()),
            other => other.clone(),
        };
        if once.contains(&dimension) {
            bail!("--by: `{dimension}` is named twice");
        }
        once.push(dimension);
    }
    Ok(once)
}

/// The answer to a query, from the warehouse and what came to the journal since.
pub(crate) fn answer(data: &DataDir, query: &Query, now: UnixTime) -> anyhow::Result<Answer> {
    let mut rollups = folded(data, std::slice::from_ref(query))?.into_iter();
    Ok(rollups.next().context("an answer for each query")?.answer(now))
}

/// What answers queries, each in its place, from the warehouse and what came to the journal since.
pub(crate) fn folded(data: &DataDir, queries: &[Query]) -> anyhow::Result<Vec<Rollup>> {
    let warehouse = data.warehouse()?;
    crate::project::tell_if_long(&warehouse)?;
    let folded = warehouse.fold(queries).map_err(|error| data.explained(error.into()))?;
    let Folded { rollups, ledger, unknown, missing, refreshed, .. } = folded;
    let open = ledger.open();
    if open > 0 {
        eprintln!("farthing: {open} exchanges are not settled; they are not in the bill");
    }
    if missing > 0 {
        eprintln!("farthing: {missing} records are missing in the journal");
        for missing in data.missing()? {
            eprintln!("farthing: {missing}");
        }
    }
    if unknown > 0 {
        eprintln!("farthing: {unknown} records are of a newer version and not in the bill");
    }
    if let Some(error) = refreshed.unstored {
        eprintln!(
            "farthing: cannot keep what was read of the journal for the next bill, which will take \
             as long: {error}"
        );
    }
    Ok(rollups)
}

/// How reports name the price book.
pub(crate) fn book_line(book: &Book) -> BookLine {
    let info = book.info();
    BookLine { name: info.name, as_of: info.as_of }
}

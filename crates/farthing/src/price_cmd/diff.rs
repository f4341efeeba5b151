//! `farthing price diff`: what is otherwise in another book or at another time, weighed with traffic.

use anyhow::bail;
use quantity::{Period, UnixTime};
use report::price::{PriceDiff, SheetLine, Weighed};
use tariff::{Book, Sheet};

use crate::bill::book_line;
use crate::config::Config;
use crate::data::DataDir;
use crate::price_cmd::books::{Source, named_book};
use crate::price_cmd::traffic::{Traffic, weigh};
use crate::{Place, output};

/// What other prices change, and what that does to your traffic
///
/// One BOOK is laid over the book in force, below your own prices and contracts, as `price_books`
/// would; two are compared as they are; without any, the book in force is compared at two times. Where
/// there is a ledger, every attempt of the last 30 days, or of another period, is priced before and
/// after: the same usage, model, tier and hour of the week.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// A name that was imported, a file, or `builtin`
    #[arg(value_name = "BOOK", num_args = 0..=2)]
    books: Vec<String>,
    /// Whose list a file is, if it is not in a book's form
    #[arg(long, value_name = "SOURCE")]
    format: Option<Source>,
    /// Prices in force at this time, before and after [default: now]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    at: Option<UnixTime>,
    /// Before: prices in force at this time [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<UnixTime>,
    /// After: prices in force at this time [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<UnixTime>,
    #[command(flatten)]
    traffic: Traffic,
    /// List changes too that touch none of your traffic
    #[arg(long)]
    all: bool,
    /// Fail if your traffic gets dearer by more than this, or loses a price
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<u32>,
    /// As JSON; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.ok_or_else(|| format!("expected a whole percentage such as 5%, found `{text}`"))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let named = |name: &String| named_book(&config, name, arguments.format);
    let (before, after): (Book, Book) = match arguments.books.as_slice() {
        [] => (config.book.clone(), config.book.clone()),
        [one] => (config.book.clone(), config.book_below(Some(named(one)?))?),
        [one, other, ..] => (named(one)?, named(other)?),
    };
    let at = |time: Option<UnixTime>| time.or(arguments.at).unwrap_or(now);
    let before = Sheet { book: &before, at: at(arguments.from) };
    let after = Sheet { book: &after, at: at(arguments.to) };
    if arguments.books.is_empty() && before.at == after.at {
        bail!("expected a book, or two times: --from and --to");
    }
    let traffic = arguments.traffic.of(&config, now)?;
    let Arguments { all, json, .. } = *arguments;
    let told = Told { before, after, traffic: traffic.as_ref(), all, json };
    let weighed = told.print()?;
    let Some((limit, weighed)) = arguments.fail_above.zip(weighed) else { return Ok(()) };
    if weighed.loses_a_price() {
        bail!("some of your traffic has no price any more");
    }
    if weighed.is_dearer_by(limit) {
        bail!("your traffic gets dearer by more than {limit}%");
    }
    Ok(())
}

/// Two sheets, to be told.
pub(super) struct Told<'a> {
    pub(super) before: Sheet<'a>,
    pub(super) after: Sheet<'a>,
    pub(super) traffic: Option<&'a (DataDir, Period)>,
    pub(super) all: bool,
    pub(super) json: bool,
}

impl Told<'_> {
    /// Prints what differs, weighed if there is traffic to weigh it with.
    pub(super) fn print(&self) -> anyhow::Result<Option<Weighed>> {
        let Self { before, after, all, json, .. } = *self;
        let weighed = self.traffic.map(|(data, period)| weigh(data, *period, &before, &after));
        let weighed = weighed.transpose()?;
        let line = |sheet: &Sheet<'_>| SheetLine { book: book_line(sheet.book), at: sheet.at };
        let changes = before.changes_to(&after);
        let report = PriceDiff {
            before: &line(&before),
            after: &line(&after),
            changes: &changes,
            weighed: weighed.as_ref(),
            all,
        };
        output::print(&if json { report.json() } else { report.text(output::style()) })?;
        Ok(weighed)
    }
}

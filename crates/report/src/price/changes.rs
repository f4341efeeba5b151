//! How prices change: from one book or time to another, and what is known to come.

use quantity::{Billable, TokenClass, UnixTime, grouped};
use tariff::{Change, Changes, Price, PriceRow};

use super::books::{QUOTED, difference_json, figures, quoted};
use super::limits;
use super::weighed::Weighed;
use crate::bill::BookLine;
use crate::json::Json;
use crate::number::{signed_percent, span};
use crate::object;
use crate::table::{Style, Table, printable};

const DAY_NANOS: i64 = 86_400_000_000_000;

/// A book at an instant, as reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetLine {
    /// The book.
    pub book: BookLine,
    /// When its prices are in force.
    pub at: UnixTime,
}

impl SheetLine {
    fn text(&self) -> String {
        format!("{}, prices of {}", self.book.text(), minute(self.at))
    }

    fn json(&self) -> Json {
        object! { "price_book" => self.book.json(), "at" => self.at }
    }
}

fn minute(at: UnixTime) -> String {
    at.to_string()[..16].replace('T', " ") + " UTC"
}

/// What is otherwise in another book, or at another time, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct PriceDiff<'a> {
    /// The one.
    pub before: &'a SheetLine,
    /// The other.
    pub after: &'a SheetLine,
    /// From the one to the other.
    pub changes: &'a Changes<'a>,
    /// What they do to recorded usage; `None` without a ledger.
    pub weighed: Option<&'a Weighed>,
    /// Whether changes that touch none of it are listed too.
    pub all: bool,
}

impl PriceDiff<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let all = &self.changes.all;
        let count = |wanted: fn(&Change<'_>) -> bool| all.iter().filter(|one| wanted(one)).count();
        let counts = format!(
            "rows: {} changed, {} appeared, {} vanished, {} the same",
            number(count(|one| one.before.is_some() && one.after.is_some())),
            number(count(|one| one.before.is_none())),
            number(count(|one| one.after.is_none())),
            number(self.changes.same),
        );
        let heading = match self.weighed {
            Some(weighed) => format!("Your traffic: {}", weighed.outcome()),
            None => counts.clone(),
        };
        let mut out = style.heading(&heading) + "\n";
        let sides = format!("before: {}; after: {}", self.before.text(), self.after.text());
        out.push_str(&style.faint_words(&printable(&sides)));
        let Some(weighed) = self.weighed else {
            let none = "Not weighed: there is no ledger in the data directory yet.";
            out.push_str(&style.faint_words(none));
            out.push_str(&format!("\n{}", table(style, all.iter(), false)));
            return out;
        };
        let basis = format!(
            "your traffic: exchanges admitted {}, each attempt priced at its own hour by the prices \
             before and after; US dollars",
            span(weighed.period, self.after.at),
        );
        out.push_str(&style.faint_words(&basis));
        let traffic = weighed.table(style, false);
        if !traffic.is_empty() {
            out.push_str(&format!("\n{traffic}"));
        }
        let (touched, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| weighed.touches(one));
        if !touched.is_empty() {
            out.push_str(&format!("\n{}", table(style, touched.iter().copied(), false)));
        }
        if self.all && !others.is_empty() {
            let heading = style.heading("Not in your traffic");
            out.push_str(&format!("\n{heading}\n{}", table(style, others.iter().copied(), false)));
        }
        out.push('\n');
        out.push_str(&style.faint_words(&weighed.counts()));
        out.push_str(&style.faint_words(&format!("Of the {counts}.")));
        if !self.all && !others.is_empty() {
            let hidden = format!(
                "{} of these touch none of your traffic; --all lists them.",
                number(others.len())
            );
            out.push_str(&style.faint_words(&hidden));
        }
        out
    }

    /// As JSON, schema `farthing.price_diff/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let touched = |one: &Change<'_>| self.weighed.map(|weighed| weighed.touches(one));
        let changes = self.changes.all.iter().map(|one| change_json(one, touched(one)));
        object! {
            "schema" => "farthing.price_diff/1",
            "before" => self.before.json(),
            "after" => self.after.json(),
            "same" => self.changes.same as u64,
            "changes" => changes.collect::<Json>(),
            "traffic" => self.weighed.map(Weighed::json),
        }
        .pretty()
    }
}

/// Prices that are going to change, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Scheduled<'a> {
    /// The changes, in order of time.
    pub changes: &'a [Change<'a>],
    /// The price book.
    pub book: &'a BookLine,
    /// When it was asked.
    pub now: UnixTime,
    /// How far ahead was looked.
    pub until: UnixTime,
    /// What they do to recorded usage; `None` without a ledger.
    pub weighed: Option<&'a Weighed>,
}

impl Scheduled<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let heading = format!(
            "{} models and tiers change their price until {}",
            number(self.changes.len()),
            self.until.day()
        );
        let mut out = style.heading(&heading) + "\n";
        out.push_str(&style.faint_words(&printable(&self.book.text())));
        if let Some(weighed) = self.weighed {
            let traffic = weighed.table(style, true);
            let basis = format!("exchanges admitted {}", span(weighed.period, self.now));
            if traffic.is_empty() {
                let none = format!("None of them touches your traffic ({basis}).");
                out.push_str(&style.faint_words(&none));
                out.push('\n');
            } else {
                out.push_str(&format!("\n{}\n", style.heading("What they do to your traffic")));
                let basis = format!(
                    "{basis}, each attempt priced at its own hour by the prices before and after the \
                     change; US dollars"
                );
                out.push_str(&style.faint_words(&basis));
                out.push_str(&traffic);
                if !self.changes.is_empty() {
                    out.push_str(&format!("\n{}\n", style.heading("All that is scheduled")));
                }
            }
        }
        if self.weighed.is_none() {
            out.push('\n');
        }
        if !self.changes.is_empty() {
            out.push_str(&table(style, self.changes.iter(), true));
        }
        out
    }

    /// As JSON, schema `farthing.price_schedule/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let touched = |one: &Change<'_>| self.weighed.map(|weighed| weighed.touches(one));
        let changes = self.changes.iter().map(|one| change_json(one, touched(one)));
        object! {
            "schema" => "farthing.price_schedule/1",
            "price_book" => self.book.json(),
            "until" => self.until,
            "changes" => changes.collect::<Json>(),
            "traffic" => self.weighed.map(Weighed::json),
        }
        .pretty()
    }
}

/// A change to come of a price that somebody pays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coming {
    /// When.
    pub at: UnixTime,
    /// The provider of the row.
    pub provider: String,
    /// The model of the row.
    pub model: String,
    /// The tier of the row.
    pub tier: String,
    /// The prices before and after.
    pub words: String,
}

impl Coming {
    /// What a change is of; `None` where there is no price before it.
    #[must_use]
    pub fn of(change: &Change<'_>) -> Option<Self> {
        let row = change.before?;
        let words = match change.after {
            None => "no price from then on".to_owned(),
            Some(_) => {
                let differences = change.differences();
                let words = differences.iter().map(|one| {
                    let [item, before, after] = figures(one);
                    format!("{item} {before} -> {after}")
                });
                words.collect::<Vec<_>>().join(", ")
            }
        };
        Some(Self {
            at: change.at,
            provider: row.provider().to_owned(),
            model: row.model().to_owned(),
            tier: row.tier().to_owned(),
            words,
        })
    }

    /// The day, or the time where it is not at midnight.
    #[must_use]
    pub fn day(&self) -> String {
        match self.at.day() {
            day if day.start() == Some(self.at) => day.to_string(),
            _ => self.at.to_string(),
        }
    }

    /// What is going to be, as seen from `now`.
    #[must_use]
    pub fn notice(&self, now: UnixTime) -> String {
        let Self { at, provider, model, tier, words } = self;
        let days = at.nanos().saturating_sub(now.nanos()).div_euclid(DAY_NANOS);
        let away = match days {
            ..1 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        let day = self.day();
        printable(&format!("{provider}/{model} ({tier}) changes on {day}, {away}: {words}"))
    }

    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        object! {
            "from" => self.at,
            "provider" => &self.provider,
            "model" => &self.model,
            "tier" => &self.tier,
            "prices" => &self.words,
        }
    }
}

/// Changes, price by price; with `dated`, each with its day.
fn table<'a>(style: Style, changes: impl Iterator<Item = &'a Change<'a>>, dated: bool) -> String {
    let mut table = Table::default();
    if dated {
        table = table.text("from");
    }
    table = table.text("provider").text("model").text("tier").text("item");
    table = table.number("before").number("after").number("change");
    let mut rows = 0_usize;
    for change in changes {
        let Some(row) = change.after.or(change.before) else { continue };
        let tier = format!("{}{}", row.tier(), limits(row));
        let names = [row.provider().to_owned(), row.model().to_owned(), tier];
        let mut line = |cells: [String; 4]| {
            let day = dated.then(|| change.at.day().to_string());
            table.row(day.into_iter().chain(names.clone()).chain(cells));
            rows += 1;
        };
        match (change.before, change.after) {
            (None, _) => usual(row).into_iter().for_each(|[item, price]| {
                line([item, "-".to_owned(), price, "appears".to_owned()]);
            }),
            (_, None) => usual(row).into_iter().for_each(|[item, price]| {
                line([item, price, "-".to_owned(), "vanishes".to_owned()]);
            }),
            _ => change.differences().iter().for_each(|one| {
                let [item, before, after] = figures(one);
                let pico = one.our_price.zip(one.their_price);
                let share = pico.map_or("-".to_owned(), |(before, after)| {
                    signed_percent(i128::from(before.pico()), i128::from(after.pico()))
                });
                line([item, before, after, share]);
            }),
        }
    }
    if rows == 0 {
        return String::new();
    }
    table.render(style) + &style.faint_words(QUOTED)
}

/// What a row asks for plain input and output, or for the first thing that it has a price for.
fn usual(row: &PriceRow) -> Vec<[String; 2]> {
    let plain = [TokenClass::InputUncached, TokenClass::OutputText].map(Billable::Tokens);
    let prices = row.prices().iter();
    let mut usual: Vec<_> = prices.clone().filter(|(item, _)| plain.contains(item)).collect();
    if usual.is_empty() {
        usual.extend(prices.clone().next());
    }
    let price = |(item, price): &(Billable, Price)| {
        [item.name().to_owned(), quoted(*item, price.base().price())]
    };
    usual.into_iter().map(price).collect()
}

fn change_json(one: &Change<'_>, touched: Option<bool>) -> Json {
    object! {
        "from" => one.at,
        "before" => one.before.map(PriceRow::to_text),
        "after" => one.after.map(PriceRow::to_text),
        "differ" => one.differences().iter().map(difference_json).collect::<Json>(),
        "in_traffic" => touched,
    }
}

fn number(count: usize) -> String {
    grouped(count as u64)
}

//! Why a price was chosen, and what usages cost, line by line.

use quantity::{Billable, Money, TokenClass, TokenCount, UnitPrice, UnixTime, Usage, grouped};
use tariff::{Change, Charge, Comparison, Considered, Difference, Key, PriceRow, Unpriced};

use crate::bill::BookLine;
use crate::json::Json;
use crate::object;
use crate::table::{Style, Table, printable};

/// The choice of a price, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// What was asked for.
    pub key: Key<'a>,
    /// Every row of the model.
    pub considered: &'a [Considered<'a>],
    /// The row chosen, or what is missing.
    pub outcome: Result<&'a PriceRow, &'a Unpriced>,
    /// The price book.
    pub book: &'a BookLine,
}

impl Explanation<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let Self { key, outcome, .. } = self;
        let asked = format!("{}/{}", key.provider, key.model);
        let heading = match outcome {
            Ok(row) => format!("{asked}: row {}", row.id()),
            Err(reason) => format!("{asked}: unpriced, because {reason}"),
        };
        let mut out = style.heading(&printable(&heading));
        let tier = key.tier.unwrap_or(tariff::STANDARD);
        let region = key.region.map_or(String::new(), |region| format!(", region {region}"));
        let known = key.known_at.map_or(String::new(), |at| format!(", as known at {at}"));
        let asked = format!(
            "tier {tier}{region}, dispatched at {}{known}; {}; prices in US dollars per million tokens",
            key.at,
            self.book.text()
        );
        out.push_str(&format!("\n{}\n", style.faint_words(&printable(&asked))));
        if self.considered.is_empty() {
            out.push_str("No row of this model is in the book.\n");
            return out;
        }
        let mut table =
            Table::default().text("").text("tier").text("holds").number("input").number("output");
        table = table.minor("cached", 1).text("book").prose("verdict");
        for one in self.considered {
            let row = one.row;
            let price = |class| {
                let price = row.price_for(Billable::Tokens(class));
                price.map_or("-".to_owned(), |(_, price)| {
                    let more = if price.steps().is_empty() { "" } else { "+" };
                    price.base().price().usd_per_million() + more
                })
            };
            table.row([
                if one.chosen { ">" } else { "" }.to_owned(),
                row.tier().to_owned(),
                holds(row),
                price(TokenClass::InputUncached),
                price(TokenClass::OutputText),
                price(TokenClass::CacheRead),
                row.source().book.to_string(),
                verdict(one),
            ]);
        }
        out.push_str(&table.render(style));
        let steps =
            |row: &PriceRow| row.prices().iter().any(|(_, price)| !price.steps().is_empty());
        if self.considered.iter().any(|one| steps(one.row)) {
            out.push_str(
                &style.faint_words("+ another price above a number of tokens: see the row's text."),
            );
        }
        if let Ok(row) = outcome {
            out.push_str(&style.faint(&printable(&row.to_text())));
            out.push('\n');
        }
        out
    }

    /// As JSON, schema `farthing.price/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { key, outcome, .. } = self;
        let considered = self.considered.iter().map(|one| {
            object! {
                "price_row" => one.row.id().to_string(),
                "price_row_text" => one.row.to_text(),
                "chosen" => one.chosen,
                "verdict" => verdict(one),
            }
        });
        object! {
            "schema" => "farthing.price/1",
            "price_book" => self.book.json(),
            "provider" => key.provider,
            "model" => key.model,
            "tier" => key.tier.unwrap_or(tariff::STANDARD),
            "region" => key.region,
            "at" => key.at,
            "known_at" => key.known_at,
            "price_row" => outcome.ok().map(|row| row.id().to_string()),
            "unpriced" => outcome.err().map(ToString::to_string),
            "considered" => considered.collect::<Json>(),
        }
        .pretty()
    }
}

/// When and where a row holds, in short.
fn holds(row: &PriceRow) -> String {
    let terms = row.terms();
    let day = |at: UnixTime| match at.day() {
        day if day.start() == Some(at) => day.to_string(),
        _ => at.to_string(),
    };
    let mut text = match (terms.from, terms.until) {
        (None, None) => "always".to_owned(),
        (Some(from), None) => format!("from {}", day(from)),
        (None, Some(until)) => format!("until {}", day(until)),
        (Some(from), Some(until)) => format!("{} to {}", day(from), day(until)),
    };
    let window = &terms.window;
    for part in [
        window.days.map(|days| days.to_string()),
        window.daily.map(|daily| daily.to_string()),
        window.zone.as_ref().map(|zone| zone.name().to_owned()),
        terms.region.as_ref().map(|region| format!("region {region}")),
        terms.discount.as_ref().map(|discount| format!("list less {discount}")),
    ] {
        text.extend(part.map(|part| format!(", {part}")));
    }
    text
}

fn verdict(one: &Considered<'_>) -> String {
    match &one.misfit {
        _ if one.chosen => "applies".to_owned(),
        Some(misfit) => misfit.to_string(),
        None => "gives way to the one that applies".to_owned(),
    }
}

/// A usage and what it costs, or why that is not known.
#[derive(Debug, Clone, Copy)]
pub struct Charged<'a> {
    /// Which record it is: its own id, else its line.
    pub id: Option<&'a str>,
    /// The line of the file, from 1.
    pub line: u64,
    /// What was asked for.
    pub key: Key<'a>,
    /// What was used.
    pub usage: &'a Usage,
    /// The row and the charge.
    pub outcome: Result<(&'a PriceRow, &'a Charge), &'a Unpriced>,
}

impl Charged<'_> {
    /// As one line of JSON. Money is an exact decimal text of US dollars.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { id, line, key, outcome, .. } = self;
        let charge = outcome.ok();
        let lines = charge.map(|(_, charge)| {
            let lines = charge.lines.iter().map(|line| {
                object! {
                    "item" => line.item.name(),
                    "count" => line.count.get(),
                    "unit_price_pico_usd" => line.price.pico(),
                    "amount_usd" => line.amount,
                    "list_amount_usd" => line.list_amount,
                    "priced_as" => line.priced_as.name(),
                }
            });
            lines.collect::<Json>()
        });
        object! {
            "line" => *line,
            "id" => *id,
            "provider" => key.provider,
            "model" => key.model,
            "tier" => key.tier.unwrap_or(tariff::STANDARD),
            "time" => key.at,
            "total_usd" => charge.map(|(_, charge)| charge.total),
            "list_usd" => charge.map(|(_, charge)| charge.list_total),
            "price_row" => charge.map(|(row, _)| row.id().to_string()),
            "price_row_text" => charge.map(|(row, _)| row.to_text()),
            "lines" => lines,
            "unpriced" => outcome.err().map(ToString::to_string),
        }
        .line()
    }
}

/// Charges added up by provider, model, tier and item, with what has no price beside them.
#[derive(Debug, Clone, Default)]
pub struct Charges {
    lines: std::collections::BTreeMap<[String; 4], (u64, Money)>,
    rows: std::collections::BTreeMap<String, String>,
    records: u64,
    unpriced: std::collections::BTreeMap<String, u64>,
    total: Money,
    list_total: Money,
}

impl Charges {
    /// Adds one.
    pub fn add(&mut self, charged: &Charged<'_>) {
        self.records += 1;
        let (row, charge) = match charged.outcome {
            Ok(found) => found,
            Err(reason) => {
                *self.unpriced.entry(reason.to_string()).or_default() += 1;
                return;
            }
        };
        self.rows.entry(row.id().to_string()).or_insert_with(|| row.to_text());
        for line in &charge.lines {
            let names = [row.provider(), row.model(), row.tier(), line.item.name()];
            let sum = self.lines.entry(names.map(str::to_owned)).or_default();
            sum.0 = sum.0.saturating_add(line.count.get());
            sum.1 += line.amount;
        }
        self.total += charge.total;
        self.list_total += charge.list_total;
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style, book: &BookLine) -> String {
        let unpriced: u64 = self.unpriced.values().sum();
        let heading = format!(
            "{} usage records, {}",
            grouped(self.records),
            crate::number::usd(self.total, 6)
        );
        let mut out = style.heading(&heading) + "\n";
        out.push_str(&style.faint_words(&book.text()));
        if !self.lines.is_empty() {
            let mut table =
                Table::default().text("provider").text("model").text("tier").text("item");
            table = table.number("count").number("USD");
            let amounts = self.lines.values().map(|(_, amount)| *amount);
            let decimals = crate::number::decimals(amounts);
            for ([provider, model, tier, item], (count, amount)) in &self.lines {
                let names = [provider, model, tier, item].map(Clone::clone);
                let figures = [grouped(*count), crate::number::dollars(*amount, decimals)];
                table.row(names.into_iter().chain(figures));
            }
            let none = || String::new();
            let total = crate::number::dollars(self.total, decimals);
            table.total(["total".to_owned(), none(), none(), none(), none(), total]);
            out.push_str(&table.render(style));
        }
        if self.list_total != self.total {
            let saved = self.list_total - self.total;
            out.push_str(&format!(
                "At list prices {}, {} more.\n",
                crate::number::usd(self.list_total, 6),
                crate::number::usd(saved, 6)
            ));
        }
        if unpriced > 0 {
            out.push_str(&format!(
                "{} records are unpriced, which is not $0:\n",
                grouped(unpriced)
            ));
            for (reason, count) in &self.unpriced {
                out.push_str(&printable(&format!("  {} x {reason}", grouped(*count))));
                out.push('\n');
            }
        }
        for (id, text) in &self.rows {
            out.push_str(&style.faint(&printable(&format!("price row {id}: {text}"))));
            out.push('\n');
        }
        out
    }
}

/// What the prices of a table are for.
const QUOTED: &str = "US dollars per million tokens, or as the item is quoted.";

/// Where two books disagree, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Disagreement<'a> {
    /// The two side by side.
    pub comparison: &'a Comparison<'a>,
    /// Our book.
    pub ours: &'a BookLine,
    /// The other.
    pub theirs: &'a BookLine,
}

impl Disagreement<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let Comparison { agree, differ, only_theirs } = self.comparison;
        let heading = format!(
            "{} prices differ; {} models and tiers agree, {} models are in the other book alone",
            grouped(differ.len() as u64),
            grouped(*agree as u64),
            grouped(only_theirs.len() as u64),
        );
        let mut out = style.heading(&heading) + "\n";
        let books = format!("ours: {}; other: {}", self.ours.text(), self.theirs.text());
        out.push_str(&style.faint_words(&printable(&books)));
        if !differ.is_empty() {
            let table = Table::default().text("provider").text("model").text("tier").text("item");
            let mut table = table.number("ours").number("other").number("other to\nours");
            for one in differ {
                let names = [one.ours.provider(), one.theirs.model(), one.ours.tier()];
                table.row(names.map(str::to_owned).into_iter().chain(figures(one)));
            }
            out.push_str(&table.render(style));
            out.push_str(&style.faint_words(QUOTED));
        }
        out
    }

    /// As JSON, schema `farthing.price_check/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let Comparison { agree, differ, only_theirs } = self.comparison;
        object! {
            "schema" => "farthing.price_check/1",
            "price_book" => self.ours.json(),
            "other_book" => self.theirs.json(),
            "agree" => *agree as u64,
            "differ" => differ.iter().map(difference_json).collect::<Json>(),
            "only_other" => only_theirs.iter().collect::<Json>(),
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
    /// How far ahead was looked.
    pub until: UnixTime,
}

impl Scheduled<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let heading = format!(
            "{} models and tiers change their price until {}",
            grouped(self.changes.len() as u64),
            self.until.day()
        );
        let mut out = style.heading(&heading) + "\n";
        out.push_str(&style.faint_words(&printable(&self.book.text())));
        if self.changes.is_empty() {
            return out;
        }
        let table = Table::default().text("from").text("provider").text("model").text("tier");
        let mut table = table.text("item").number("now").number("then").number("then to\nnow");
        for change in self.changes {
            let row = change.after.or(change.before);
            let Some(row) = row else { continue };
            let names = [row.provider(), row.model(), row.tier()].map(str::to_owned);
            let day = change.at.day().to_string();
            let mut line = |cells: [String; 4]| {
                let names = [day.clone()].into_iter().chain(names.clone());
                table.row(names.chain(cells));
            };
            let none = String::new;
            match (change.before, change.after) {
                (None, _) => line(["begins".to_owned(), none(), none(), none()]),
                (_, None) => line(["ends".to_owned(), none(), none(), none()]),
                _ => change.differences().iter().for_each(|one| line(figures(one))),
            }
        }
        out.push_str(&table.render(style));
        out.push_str(&style.faint_words(QUOTED));
        out
    }

    /// As JSON, schema `farthing.price_schedule/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let change = |change: &Change<'_>| {
            object! {
                "from" => change.at,
                "before" => change.before.map(PriceRow::to_text),
                "after" => change.after.map(PriceRow::to_text),
                "differ" => change.differences().iter().map(difference_json).collect::<Json>(),
            }
        };
        object! {
            "schema" => "farthing.price_schedule/1",
            "price_book" => self.book.json(),
            "until" => self.until,
            "changes" => self.changes.iter().map(change).collect::<Json>(),
        }
        .pretty()
    }
}

/// The item, its two prices as quoted, and the second as a share of the first.
fn figures(one: &Difference<'_>) -> [String; 4] {
    let quoted =
        |price: Option<UnitPrice>| price.map_or("-".to_owned(), |price| quoted(one.item, price));
    let item = match one.above {
        0 => one.item.name().to_owned(),
        above => format!("{} > {}", one.item.name(), grouped(above)),
    };
    let share = one.our_price.zip(one.their_price).and_then(|(ours, theirs)| {
        crate::number::per_mille(i128::from(theirs.pico()), i128::from(ours.pico()))
    });
    [item, quoted(one.our_price), quoted(one.their_price), crate::number::percent(share)]
}

/// A price for the amount that the item is quoted for.
fn quoted(item: Billable, price: UnitPrice) -> String {
    price.times(TokenCount::from(item.quoted_per())).to_string()
}

fn difference_json(one: &Difference<'_>) -> Json {
    object! {
        "provider" => one.ours.provider(),
        "model" => one.theirs.model(),
        "tier" => one.ours.tier(),
        "item" => one.item.name(),
        "above_input_tokens" => one.above,
        "unit_price_pico_usd" => one.our_price.map(UnitPrice::pico),
        "other_unit_price_pico_usd" => one.their_price.map(UnitPrice::pico),
    }
}

//! Why a price was chosen, what usages cost, line by line, and how prices differ.

mod books;
mod changes;
mod weighed;

use quantity::{Billable, Money, TokenClass, UnixTime, Usage, grouped};
use tariff::{Charge, Considered, Key, PriceRow, Unpriced};

pub use books::Disagreement;
pub use changes::{Coming, PriceDiff, Scheduled, SheetLine};
pub use weighed::{Priced, Weighed};

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
    text += &limits(row);
    let discount = terms.discount.as_ref();
    text.extend(discount.map(|discount| format!(", list less {discount}")));
    text
}

/// The part of the week and the region that a row is limited to, each after a comma.
fn limits(row: &PriceRow) -> String {
    let terms = row.terms();
    let window = &terms.window;
    let parts = [
        window.days.map(|days| days.to_string()),
        window.daily.map(|daily| daily.to_string()),
        window.zone.as_ref().map(|zone| zone.name().to_owned()),
        terms.region.as_ref().map(|region| format!("region {region}")),
    ];
    parts.into_iter().flatten().map(|part| format!(", {part}")).collect()
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

/// A line of a file that is no usage record, as one line of JSON.
#[must_use]
pub fn unread(line: u64, error: &str) -> String {
    object! { "line" => line, "error" => error }.line()
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

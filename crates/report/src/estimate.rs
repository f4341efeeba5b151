//! The bill of an idea before any traffic, side by side with other models, and what each lever would
//! save.

use quantity::{Money, TokenClass, grouped};
use tariff::PriceRow;
use tariff::estimate::{Estimate, EstimateError, Idea, Later, MONTH_DAYS, Split};

use crate::bill::BookLine;
use crate::json::Json;
use crate::number::{dollars, money_share, percent, signed_percent, usd};
use crate::object;
use crate::table::{Style, Table, printable};

/// An estimate, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct EstimateReport<'a> {
    /// What was assumed.
    pub idea: Idea,
    /// Its bill.
    pub estimate: &'a Estimate,
    /// The same idea on other models, by the name asked for; or why they have no bill.
    pub against: &'a [(String, Result<Estimate, EstimateError>)],
    /// What scheduled changes of their prices make of the bills.
    pub later: &'a [Later],
    /// The price book.
    pub book: &'a BookLine,
}

impl EstimateReport<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let Self { idea, estimate, .. } = self;
        let month = estimate.per_month.total();
        let mut out = style.heading(&format!(
            "{}: {} a day, {} per {MONTH_DAYS} days",
            printable(estimate.row.model()),
            usd(estimate.per_day.total(), 2),
            usd(month, 2),
        ));
        let cached = match idea.cached_percent {
            0 => String::new(),
            percent => format!(" ({percent}% of it cached)"),
        };
        let assumed = format!(
            "{} exchanges a day, each {} input tokens{cached} and {} output tokens; {}; US dollars",
            grouped(u64::from(idea.per_day)),
            grouped(u64::from(idea.input)),
            grouped(u64::from(idea.output)),
            self.book.text(),
        );
        out.push_str(&format!("\n{}\n", style.faint_words(&assumed)));
        out.push_str(&self.split(style));
        if !self.against.is_empty() {
            out.push('\n');
            out.push_str(&self.side_by_side(style));
        }
        if !self.later.is_empty() {
            out.push('\n');
            out.push_str(&self.changes(style));
        }
        out.push('\n');
        out.push_str(&self.levers(style));
        out.push('\n');
        for row in self.rows() {
            out.push_str(&style.faint(&format!("price row {}: {}", row.id(), row_text(row))));
            out.push('\n');
        }
        out
    }

    fn split(&self, style: Style) -> String {
        let mut table = Table::default().text("");
        for header in ["per exchange", "per day", "per 30 days", "share"] {
            table = table.number(header);
        }
        let Estimate { per_exchange, per_day, per_month, .. } = self.estimate;
        let cells = |part: fn(&Split) -> Money| {
            [
                dollars(part(per_exchange), 6),
                dollars(part(per_day), 2),
                dollars(part(per_month), 2),
                percent(money_share(part(per_month), per_month.total())),
            ]
        };
        let mut row = |name: &str, part: fn(&Split) -> Money| {
            table.row([name.to_owned()].into_iter().chain(cells(part)));
        };
        row("input", |split| split.input);
        row("output", |split| split.output);
        if per_month.fees > Money::ZERO {
            row("fees per call", |split| split.fees);
        }
        table.total(["total".to_owned()].into_iter().chain(cells(|split| split.total())));
        table.render(style)
    }

    fn side_by_side(&self, style: Style) -> String {
        let mut table = Table::default().text("model").text("provider");
        table = table.minor("input USD\nper Mtok", 2).minor("output USD\nper Mtok", 3);
        table = table.number("USD per\n30 days").minor("of which\noutput", 1);
        table = table.number("bill against\nthe first");
        let base = self.estimate.per_month.total();
        let mut row = |estimate: &Estimate| {
            let total = estimate.per_month.total();
            let price = |class: TokenClass| {
                let mut prices = estimate.row.prices().iter();
                let price = prices.find(|(item, _)| item.name() == class.name());
                let price = price.map(|(_, price)| price.at_input(u64::from(self.idea.input)));
                price.map_or("-".to_owned(), |rate| rate.price().usd_per_million())
            };
            table.row([
                estimate.row.model().to_owned(),
                estimate.row.provider().to_owned(),
                price(TokenClass::InputUncached),
                price(TokenClass::OutputText),
                dollars(total, 2),
                percent(money_share(estimate.per_month.output, total)),
                percent(money_share(total, base)),
            ]);
        };
        row(self.estimate);
        for estimate in self.against.iter().filter_map(|(_, estimate)| estimate.as_ref().ok()) {
            row(estimate);
        }
        let mut out = table.render(style);
        for (name, estimate) in self.against {
            if let Err(error) = estimate {
                let line = printable(&format!("{name}: unpriced: {error}"));
                out.push_str(&style.faint_words(&line));
            }
        }
        out
    }

    /// The bills after each scheduled change.
    fn changes(&self, style: Style) -> String {
        let mut table = Table::default().text("prices change").text("model").text("provider");
        table = table.number("until then, USD\nper 30 days");
        table = table.number("from then on, USD\nper 30 days").number("change");
        let mut unpriced = String::new();
        for Later { model, at, before, after } in self.later {
            let cost = |split: Option<Split>| {
                split.map_or("unpriced".to_owned(), |split| dollars(split.total(), 2))
            };
            let then = after.as_ref().ok().map(|(_, split)| *split);
            let change = before.zip(then).map_or("-".to_owned(), |(before, then)| {
                signed_percent(before.total().pico(), then.total().pico())
            });
            table.row([
                at.day().to_string(),
                model.model.clone(),
                model.provider.clone(),
                cost(*before),
                cost(then),
                change,
            ]);
            if let Err(error) = after {
                let line = format!("{} from {}: unpriced: {error}", model.model, at.day());
                unpriced.push_str(&style.faint_words(&printable(&line)));
            }
        }
        table.render(style) + &unpriced
    }

    /// Levers that save, largest saving first; below them those that do not apply, with the reason.
    fn levers(&self, style: Style) -> String {
        let mut table = Table::default().text("lever").number("saves USD\nper 30 days");
        table = table.minor("of the\nbill", 1).prose("if");
        let base = self.estimate.per_month.total();
        let saving = self
            .estimate
            .levers
            .iter()
            .filter_map(|lever| Some((lever, lever.effect.as_ref().ok()?)));
        let mut saving: Vec<_> = saving.collect();
        saving.sort_by_key(|(_, effect)| std::cmp::Reverse(effect.saved));
        for (lever, effect) in &saving {
            table.row([
                lever.name.to_owned(),
                dollars(effect.saved, 2),
                percent(money_share(effect.saved, base)),
                lever.assumption.clone(),
            ]);
        }
        let mut out = if saving.is_empty() { String::new() } else { table.render(style) };
        for lever in &self.estimate.levers {
            if let Err(reason) = &lever.effect {
                let line = printable(&format!(
                    "{} does not apply: {reason} ({})",
                    lever.name, lever.assumption
                ));
                out.push_str(&style.faint_words(&line));
            }
        }
        if !saving.is_empty() {
            out.push_str(&style.faint("Each lever alone; savings do not add up."));
            out.push('\n');
        }
        out
    }

    fn rows(&self) -> impl Iterator<Item = &PriceRow> {
        let against = self.against.iter().filter_map(|(_, estimate)| estimate.as_ref().ok());
        std::iter::once(self.estimate).chain(against).map(|estimate| &estimate.row)
    }

    /// The estimate as JSON, schema `farthing.estimate/1`. Money (`*_usd`) is a decimal string of
    /// dollars, exact under the assumptions; counts are integers.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { idea, estimate, .. } = self;
        let lever = |lever: &tariff::estimate::Lever| {
            let effect = lever.effect.as_ref().ok();
            object! {
                "name" => lever.name,
                "assumption" => &lever.assumption,
                "saved_per_30_days_usd" => effect.map(|effect| effect.saved),
                "per_30_days" => effect.map(|effect| split_json(&effect.per_month)),
                "does_not_apply" => lever.effect.as_ref().err(),
            }
        };
        let against = |(name, estimate): &(String, Result<Estimate, EstimateError>)| {
            object! {
                "asked" => name,
                "estimate" => estimate.as_ref().ok().map(bill_json),
                "unpriced" => estimate.as_ref().err().map(ToString::to_string),
            }
        };
        object! {
            "schema" => "farthing.estimate/1",
            "price_book" => self.book.json(),
            "assumed" => object! {
                "exchanges_per_day" => idea.per_day,
                "input_tokens" => idea.input,
                "cached_input_percent" => u32::from(idea.cached_percent),
                "output_tokens" => idea.output,
                "days_per_month" => MONTH_DAYS,
            },
            "estimate" => bill_json(estimate),
            "against" => self.against.iter().map(against).collect::<Json>(),
            "scheduled" => self.later.iter().map(later_json).collect::<Json>(),
            "levers" => estimate.levers.iter().map(lever).collect::<Json>(),
        }
        .pretty()
    }
}

fn row_text(row: &PriceRow) -> String {
    printable(&row.to_text())
}

fn bill_json(estimate: &Estimate) -> Json {
    let row = &estimate.row;
    object! {
        "price_row" => row.id().to_string(),
        "price_row_text" => row.to_text(),
        "provider" => row.provider(),
        "model" => row.model(),
        "tier" => row.tier(),
        "per_exchange" => split_json(&estimate.per_exchange),
        "per_day" => split_json(&estimate.per_day),
        "per_30_days" => split_json(&estimate.per_month),
    }
}

fn later_json(later: &Later) -> Json {
    let after = later.after.as_ref();
    object! {
        "from" => later.at,
        "provider" => &later.model.provider,
        "model" => &later.model.model,
        "before" => later.before.as_ref().map(split_json),
        "after" => after.ok().map(|(_, split)| split_json(split)),
        "price_row" => after.ok().map(|(row, _)| row.id().to_string()),
        "price_row_text" => after.ok().map(|(row, _)| row.to_text()),
        "unpriced" => after.err().map(ToString::to_string),
    }
}

fn split_json(split: &Split) -> Json {
    object! {
        "input_usd" => split.input,
        "output_usd" => split.output,
        "fees_usd" => split.fees,
        "total_usd" => split.total(),
    }
}

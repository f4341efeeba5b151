//! Where price books disagree.

use quantity::{Billable, TokenCount, UnitPrice, grouped};
use tariff::{Comparison, Difference};

use crate::bill::BookLine;
use crate::json::Json;
use crate::object;
use crate::table::{Style, Table, printable};

/// What the prices of a table are for.
pub(super) const QUOTED: &str = "US dollars per million tokens, or as the item is quoted.";

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
                let pico = one.our_price.zip(one.their_price);
                let share = pico.and_then(|(ours, theirs)| {
                    crate::number::per_mille(i128::from(theirs.pico()), i128::from(ours.pico()))
                });
                let figures = figures(one).into_iter().chain([crate::number::percent(share)]);
                table.row(names.map(str::to_owned).into_iter().chain(figures));
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

/// The item and its two prices as quoted.
pub(super) fn figures(one: &Difference<'_>) -> [String; 3] {
    let quoted =
        |price: Option<UnitPrice>| price.map_or("-".to_owned(), |price| quoted(one.item, price));
    let item = match one.above {
        0 => one.item.name().to_owned(),
        above => format!("{} > {}", one.item.name(), grouped(above)),
    };
    [item, quoted(one.our_price), quoted(one.their_price)]
}

/// A price for the amount that the item is quoted for.
pub(super) fn quoted(item: Billable, price: UnitPrice) -> String {
    price.times(TokenCount::from(item.quoted_per())).to_string()
}

pub(super) fn difference_json(one: &Difference<'_>) -> Json {
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

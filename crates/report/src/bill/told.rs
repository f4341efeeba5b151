//! What providers told of costs, beside what we charge.

use facts::{Compared, Told};
use quantity::grouped;

use super::Bill;
use crate::json::Json;
use crate::number::{decimals, dollars};
use crate::object;
use crate::table::{Style, Table};

impl Bill<'_> {
    /// Costs that providers told, as a table; `None` if none did.
    pub(super) fn told(&self, style: Style) -> Option<String> {
        let told = &self.answer.total.told;
        if told.attempts() == 0 {
            return None;
        }
        // As many as show the difference, where there is one.
        let places = match told.compared.attempts {
            0 => decimals([told.unpriced_cost]),
            _ => decimals([told.compared.ours, told.compared.theirs]),
        };
        let mut table = Table::default().text("told by providers").number("attempts");
        table = table.number("cost here\nUSD").number("told\nUSD").number("difference\nUSD");
        let mut row = |name: &str, of: &Compared| {
            let money = [of.ours, of.theirs, of.difference()].map(|cost| dollars(cost, places));
            table.row([name.to_owned(), grouped(of.attempts)].into_iter().chain(money));
        };
        if told.compared.attempts > 0 {
            row("priced here", &told.compared);
        }
        if told.apart.attempts > 0 {
            row("  over 1% apart", &told.apart);
        }
        if told.unpriced > 0 {
            let none = || "-".to_owned();
            let cost = dollars(told.unpriced_cost, places);
            table.row(["no price here".to_owned(), grouped(told.unpriced), none(), cost, none()]);
        }
        Some(table.render(style))
    }
}

/// For programs; null where nothing was told.
pub(super) fn told_json(told: &Told) -> Json {
    let Told { compared, apart, unpriced, unpriced_cost, refused } = told;
    if told.attempts() == 0 && *refused == 0 {
        return Json::Null;
    }
    object! {
        "told_attempts" => told.attempts(),
        "told_usd" => told.cost(),
        "compared" => compared_json(compared),
        "apart" => compared_json(apart),
        "unpriced_attempts" => *unpriced,
        "unpriced_told_usd" => *unpriced_cost,
        "refused_attempts" => *refused,
    }
}

fn compared_json(compared: &Compared) -> Json {
    object! {
        "attempts" => compared.attempts,
        "cost_usd" => compared.ours,
        "told_usd" => compared.theirs,
        "difference_usd" => compared.difference(),
    }
}

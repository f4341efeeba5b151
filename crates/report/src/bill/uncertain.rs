//! What of a bill is not certain: how many attempts, what they cost, and what is known instead.

use facts::{Measures, Tally};
use quantity::{Doubt, Money, grouped};

use super::Bill;
use crate::json::Json;
use crate::number::{decimals, dollars, money_share, percent, usd};
use crate::object;
use crate::table::{Style, Table};

/// One way in which a bill is not certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncertain {
    /// Which.
    pub name: &'static str,
    /// Attempts that it touches.
    pub attempts: u64,
    /// What they cost by the token, written out: `-` where nothing of it is known, with a `*` where
    /// not all of it is.
    pub cost: String,
    /// Its part of the whole cost by the token, in thousandths.
    pub share: Option<u64>,
    /// What is known instead, or what it means.
    pub note: String,
}

/// All ways in which a bill with this total is not certain; an attempt may be in several.
#[must_use]
pub fn uncertain(total: &Measures) -> Vec<Uncertain> {
    let places = decimals([total.cost]);
    let line = |name, tally: Tally, note: String| {
        let mark = if tally.priced < tally.attempts { "*" } else { "" };
        Uncertain {
            name,
            attempts: tally.attempts,
            cost: tally
                .known_cost()
                .map_or_else(|| "-".to_owned(), |cost| dollars(cost, places) + mark),
            share: tally.known_cost().and_then(|cost| money_share(cost, total.cost)),
            note,
        }
    };
    let nameless = |attempts| Tally { attempts, ..Tally::default() };
    let hours_unknown = if total.hosted_cost == Money::ZERO { total.hosted } else { 0 };
    let mut lines = vec![
        line("* unpriced", nameless(total.unpriced), unpriced(total)),
        line("usage never told", nameless(total.unknown), at_most(total)),
        line(
            "by the hour",
            nameless(hours_unknown),
            "no hourly cost was in force; in no cost here".to_owned(),
        ),
        line(
            "usage estimated",
            total.estimated,
            "all or a part of it, from the bytes that passed".into(),
        ),
        line("  as learned", total.learned, "as earlier calls of the model taught".to_owned()),
    ];
    let apart = &total.told.apart;
    let both = Tally { attempts: apart.attempts, priced: apart.attempts, cost: apart.ours };
    lines.push(line("told otherwise", both, told_otherwise(total)));
    lines.push(line(
        "told cost refused",
        nameless(total.told.refused),
        "negative, broken or absurd; left out".to_owned(),
    ));
    lines.extend(total.doubts.iter().map(|(doubt, tally)| {
        let (name, note) = in_words(*doubt);
        line(name, *tally, note.to_owned())
    }));
    lines.retain(|line| line.attempts > 0);
    lines
}

fn unpriced(total: &Measures) -> String {
    let mut note = "in no cost here".to_owned();
    if total.unpriced_tokens > 0 {
        note.push_str(&format!("; {} tokens of them are known", grouped(total.unpriced_tokens)));
    }
    if total.told.unpriced > 0 {
        let cost = total.told.unpriced_cost;
        let (told, cost) = (grouped(total.told.unpriced), usd(cost, decimals([cost])));
        note.push_str(&format!("; providers say {cost} for {told} of them"));
    }
    note
}

/// What providers say of attempts that cost something else by our prices.
fn told_otherwise(total: &Measures) -> String {
    let told = total.told.apart.theirs;
    format!("their providers say {}: over 1% apart", usd(told, decimals([told])))
}

/// What usage that was never told may have cost.
fn at_most(total: &Measures) -> String {
    let bound = total.unknown_bound;
    let bounded = format!("cost at most {}", usd(bound, decimals([bound])));
    match total.unbounded {
        0 => bounded,
        without if without >= total.unknown => "no bound of their cost is known".to_owned(),
        without => format!("{bounded}, without {} that have no known bound", grouped(without)),
    }
}

/// A doubt's name in a bill, and what it means for the cost.
fn in_words(doubt: Doubt) -> (&'static str, &'static str) {
    match doubt {
        Doubt::SplitUnknown => ("cached part not told", "its input is priced as not cached"),
        Doubt::OverlapOpen => ("details may overlap", "of two classes, tokens are in one"),
        Doubt::SumMismatch => ("sum differs", "the parts told do not make the total told"),
        Doubt::LowerBound => ("lower bound", "used at least so much, maybe more"),
        Doubt::ReasoningUnknown => ("reasoning not shown", "what was thought may be missing"),
        Doubt::ChoicesUnderReported => ("choices not told", "told of one choice of several"),
        Doubt::CountRefused => ("count refused", "was negative, broken or too large; left out"),
        Doubt::MixedModels => ("models mixed", "several served, told as one: no price is right"),
        Doubt::Unread => ("not read", "encoded or too large: nothing is known of it"),
        Doubt::MeterFailed => ("meter failed", "a bug of the gateway's: nothing is known of it"),
    }
}

impl Bill<'_> {
    /// What is not certain, as a table; `None` if all of it is.
    pub(super) fn uncertainty(&self, style: Style) -> Option<String> {
        let lines = uncertain(&self.answer.total);
        if lines.is_empty() {
            return None;
        }
        let mut table = Table::default().text("not certain").number("attempts").number("cost\nUSD");
        table = table.minor("share of\ntoken cost", 1).prose("");
        for Uncertain { name, attempts, cost, share, note } in lines {
            table.row([name.to_owned(), grouped(attempts), cost, percent(share), note]);
        }
        Some(table.render(style))
    }
}

/// Attempts that have something in common, for programs.
pub(super) fn tally_json(tally: &Tally) -> Json {
    object! { "attempts" => tally.attempts, "cost_usd" => tally.known_cost() }
}

/// What usage that was never told may have cost at most; `None` where no bound is known.
pub(super) fn known_bound(measures: &Measures) -> Option<Money> {
    let none = measures.unknown > 0 && measures.unbounded == measures.unknown;
    (!none).then_some(measures.unknown_bound)
}

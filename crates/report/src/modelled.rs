//! Modelled numbers as text: for people in digits that are worth reading, for programs as decimals.

use planner::scenario::Kind;
use planner::{Month, Part};
use quantity::group_digits;

use crate::json::Json;
use crate::object;

/// A quantity for people, in the unit of its kind.
pub(crate) fn shown(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Share => format!("{}%", trimmed(value * 100.0, 2)),
        Kind::Growth => format!("{}%", trimmed(value * 100.0, 2)),
        Kind::Count | Kind::PerMonth => trimmed(value, if value.abs() < 100.0 { 2 } else { 0 }),
        Kind::Factor => trimmed(value, 3),
        Kind::Usd | Kind::UsdPerHour => trimmed(value, if value.abs() < 100.0 { 4 } else { 0 }),
        Kind::Seconds => trimmed(value, 3),
    }
}

/// Grouped digits, with so many decimals at most.
pub(crate) fn trimmed(value: f64, places: usize) -> String {
    let text = decimals(value, places);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Grouped digits, with so many decimals.
pub(crate) fn decimals(value: f64, places: usize) -> String {
    let text = format!("{:.places$}", value.abs());
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let nothing = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let sign = if value < 0.0 && !nothing { "-" } else { "" };
    let whole = group_digits(whole);
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// Decimals that show the least of some amounts well.
pub(crate) fn places(amounts: impl IntoIterator<Item = f64>) -> usize {
    let least = amounts
        .into_iter()
        .map(f64::abs)
        .filter(|amount| *amount > 0.0)
        .fold(f64::INFINITY, f64::min);
    match least {
        least if least >= 100.0 => 0,
        least if least >= 1.0 => 2,
        least if least >= 0.01 => 4,
        _ => 6,
    }
}

/// A decimal text for programs, rounded to six decimals.
pub(crate) fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    if text == "-0.000000" { "0.000000".to_owned() } else { text }
}

/// The parts of a month's bill for programs.
pub(crate) fn parts_json(month: &Month) -> Json {
    let part = |part: &Part| {
        object! {
            "part" => part.name,
            "modelled_usd" => decimal(part.cost.usd()),
            "useful_tokens" => part.useful.map(decimal),
            "modelled_usd_per_mtok" => part.per_mtok().map(|per| decimal(per.usd())),
        }
    };
    month.parts.iter().map(part).collect()
}

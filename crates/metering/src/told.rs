//! What a provider says itself that a response cost. It is text to the last: no float touches it.
//!
//! Told beside the counts, in the usage object:
//!
//! | by | as |
//! |---|---|
//! | xAI | `cost_in_usd_ticks`, of 10^-10 dollars |
//! | OpenRouter, and those that follow it | `cost`, a number; what an upstream charged to one's own key is beside it |
//! | Perplexity | `cost`, an object with its `total_cost` and `currency` |
//! | DeepInfra | `estimated_cost` |
//!
//! LiteLLM's proxy tells it in a header of unary replies.
//! Sources: docs.x.ai, cost tracking; openrouter.ai, usage accounting; the API references of the
//! others, as of 2026-11.

use facts::ToldCost;
use quantity::Money;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Text, plain_string, read};

/// The header of a unary reply in which LiteLLM's proxy tells its cost, in dollars.
pub const COST_HEADER: &str = "x-litellm-response-cost";

/// A tick is so many tenths of a dollar, as a power of ten.
const TICK: u32 = 10;
/// No response costs as much as a million dollars: pico-dollars.
const MOST: i128 = 1_000_000_000_000_000_000;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Costs<'a> {
    #[serde(borrow)]
    cost_in_usd_ticks: Option<&'a RawValue>,
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
    #[serde(borrow)]
    cost_details: Option<&'a RawValue>,
    #[serde(borrow)]
    is_byok: Option<&'a RawValue>,
    #[serde(borrow)]
    estimated_cost: Option<&'a RawValue>,
}

/// The cost as an object.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole<'a> {
    #[serde(borrow)]
    total_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    upstream_inference_cost: Option<&'a RawValue>,
}

/// The cost that a usage object tells; `None` where it tells none.
pub(crate) fn in_usage(usage: &RawValue) -> Option<ToldCost> {
    // Most have none, and a stream may have one with every chunk.
    if !usage.get().contains("cost") {
        return None;
    }
    let costs: Costs<'_> = read(Some(usage));
    if let Some(ticks) = costs.cost_in_usd_ticks {
        return Some(amount(ticks, TICK));
    }
    let Some(cost) = costs.cost else { return costs.estimated_cost.map(|cost| amount(cost, 0)) };
    if cost.get().starts_with('{') {
        let whole: Whole<'_> = read(Some(cost));
        let dollars =
            whole.currency.as_deref().is_none_or(|currency| currency.eq_ignore_ascii_case("usd"));
        return whole
            .total_cost
            .map(|cost| if dollars { amount(cost, 0) } else { ToldCost::Refused });
    }
    let cost = amount(cost, 0);
    if costs.is_byok.is_none_or(|own| own.get() != "true") {
        return Some(cost);
    }
    // With a key of one's own at the provider behind it, the cost is the router's fee alone.
    let details: Details<'_> = read(costs.cost_details);
    let upstream = amount(details.upstream_inference_cost?, 0);
    match (cost, upstream) {
        (ToldCost::Of(fee), ToldCost::Of(upstream)) => Some(ToldCost::Of(fee + upstream)),
        _ => Some(ToldCost::Refused),
    }
}

/// The cost that a header tells; `None` where it tells none.
pub(crate) fn in_header(value: &str) -> Option<ToldCost> {
    let value = value.trim();
    (!value.is_empty() && value != "None").then(|| of_text(value, 0))
}

/// A number, or a string with one inside, in units of 10^-`power` dollars.
fn amount(raw: &RawValue, power: u32) -> ToldCost {
    of_text(plain_string(Some(raw)).unwrap_or(raw.get()), power)
}

fn of_text(text: &str, power: u32) -> ToldCost {
    let read = Money::rounded_from(text, power).ok();
    let sane = read.filter(|(cost, _)| cost.pico() < MOST);
    sane.map_or(ToldCost::Refused, |(cost, _)| ToldCost::Of(cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(usage: &str) -> Option<ToldCost> {
        in_usage(serde_json::from_str(usage).unwrap())
    }

    #[track_caller]
    fn costs(usage: &str, dollars: &str) {
        assert_eq!(told(usage), Some(ToldCost::Of(dollars.parse().unwrap())), "{usage}");
    }

    #[test]
    fn every_way_in_which_a_cost_is_told_is_read_exactly() {
        costs(r#"{"cost":0.0042}"#, "0.0042");
        costs(r#"{"cost":"0.0042"}"#, "0.0042");
        costs(r#"{"cost":1.2e-05,"is_byok":false}"#, "0.000012");
        costs(r#"{"cost":0,"cost_details":{"upstream_inference_cost":null}}"#, "0");
        costs(r#"{"cost":0.00011018000000000001}"#, "0.00011018");
        costs(r#"{"cost_in_usd_ticks":37756000}"#, "0.0037756");
        costs(r#"{"cost_in_usd_ticks":1,"cost":9}"#, "0.0000000001");
        costs(r#"{"cost":{"currency":"USD","input_cost":0.1,"total_cost":0.006}}"#, "0.006");
        costs(r#"{"cost":{"total_cost":0.25}}"#, "0.25");
        costs(r#"{"estimated_cost":2.68e-05}"#, "0.0000268");
        let byok = r#"{"cost":0.95,"is_byok":true,"cost_details":{"upstream_inference_cost":19}}"#;
        costs(byok, "19.95");
        assert_eq!(in_header(" 0.00021 "), Some(ToldCost::Of("0.00021".parse().unwrap())));
    }

    #[test]
    fn what_tells_no_cost_is_none_and_what_is_no_cost_is_refused() {
        for none in [
            "{}",
            "[1]",
            r#"{"cost":null}"#,
            r#"{"costs":1}"#,
            r#"{"cost":{}}"#,
            r#"{"cost":{"total_cost":null}}"#,
            r#"{"cost_in_usd_ticks":null}"#,
            // The fee alone is not what it cost.
            r#"{"cost":0.01,"is_byok":true}"#,
            r#"{"cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":null}}"#,
        ] {
            assert_eq!(told(none), None, "{none}");
        }
        for refused in [
            r#"{"cost":-0.01}"#,
            r#"{"cost":-0.0}"#,
            r#"{"cost":"NaN"}"#,
            r#"{"cost":"free"}"#,
            r#"{"cost":""}"#,
            r#"{"cost":true}"#,
            r#"{"cost":[1]}"#,
            r#"{"cost":1e39}"#,
            r#"{"cost":1e400}"#,
            r#"{"cost":1e-400}"#,
            r#"{"cost":1000000}"#,
            r#"{"cost":{"total_cost":1,"currency":"EUR"}}"#,
            r#"{"cost_in_usd_ticks":-1}"#,
            r#"{"cost":-1,"is_byok":true,"cost_details":{"upstream_inference_cost":1}}"#,
            r#"{"cost":1,"is_byok":true,"cost_details":{"upstream_inference_cost":"x"}}"#,
        ] {
            assert_eq!(told(refused), Some(ToldCost::Refused), "{refused}");
        }
        assert_eq!([in_header(""), in_header("None")], [None, None]);
        assert_eq!(in_header("nan"), Some(ToldCost::Refused));
    }
}

//! The bill for programs.

use facts::{AdjustmentLine, Answer, Group, HostedLine, Measures, Tally};
use quantity::{Money, TokenClass};

use super::told::told_json;
use super::uncertain::{known_bound, tally_json};
use super::{
    Bill, adjusted_name, class_cost, idle_name, other_name, paid, per_useful_mtok, shown,
    utilisation,
};
use crate::csv::{self, Csv};
use crate::json::Json;
use crate::number::{Cost, blended, class_price, per_thousand};
use crate::object;
use crate::price::Coming;
use crate::record::{gap_fields, nanos};

impl Bill<'_> {
    /// The bill as JSON, schema `farthing.bill/1`. Money (`*_usd`) is a decimal string of dollars,
    /// exact; ratios (`usd_per_*`) are rounded half to even to four decimals; counts are integers;
    /// what is not known is `null`.
    #[must_use]
    pub fn json(&self) -> String {
        self.value().pretty()
    }

    /// The bill as a JSON value; see [`Bill::json`].
    #[must_use]
    pub fn value(&self) -> Json {
        let Answer { query, groups, other, total, hosting, adjustments, gaps, seen } = self.answer;
        let group = |group: &Group| {
            let names = query.by.iter().map(ToString::to_string);
            let values = group.key.iter().map(|value| Json::from(value.as_ref()));
            object! {
                "key" => Json::Object(names.zip(values).collect()),
                "measures" => measures_json(&group.measures),
            }
        };
        object! {
            "schema" => "farthing.bill/1",
            "as_of" => self.now,
            "period" => object! {
                "since" => query.period.start,
                "until" => query.period.end,
                "first_admitted" => seen.map(|(first, _)| first),
                "last_admitted" => seen.map(|(_, last)| last),
            },
            "price_book" => self.book.json(),
            "by" => query.by.iter().map(ToString::to_string).collect::<Json>(),
            "spend_usd" => self.cost().amount(),
            "spend_is_complete" => matches!(self.cost(), Cost::Known(_)),
            "idle_cost_usd" => hosting.iter().map(|line| line.idle).sum::<Money>(),
            "groups" => groups.iter().map(group).collect::<Json>(),
            "other" => other.as_ref().map(|other| object! {
                "groups" => other.groups,
                "measures" => measures_json(&other.measures),
            }),
            "total" => measures_json(total),
            "hosting" => hosting.iter().map(hosting_json).collect::<Json>(),
            "adjusted_cost_usd" => self.answer.adjusted(),
            "adjustments" => adjustments.iter().map(adjustment_json).collect::<Json>(),
            "gaps" => gaps.iter().map(gap_fields).collect::<Json>(),
            "price_changes" => self.coming.iter().map(Coming::json).collect::<Json>(),
            "contracts" => self.contracts.map(|contracts| contracts.value()),
        }
    }

    /// The groups as CSV: the dimensions, then figures named as in JSON, the price book and the period
    /// in every row. What is unknown or does not apply is empty. Idle hours of own GPUs have rows of
    /// their own, whose `line` is `idle`, adjustments have rows whose `line` is `adjustment`, and groups that are counted as one have a row whose `line` is
    /// `other`, so that `cost_usd` sums to the bill.
    #[must_use]
    pub fn csv(&self) -> String {
        const FIGURES: [&str; 22] = [
            "exchanges",
            "completed",
            "attempts",
            "cost_usd",
            "usd_per_1k_exchanges",
            "usd_per_mtok",
            "list_cost_usd",
            "estimated_cost_usd",
            "waste_usd",
            "hosted_cost_usd",
            "estimated_attempts",
            "unknown_attempts",
            "unknown_at_most_usd",
            "unbounded_attempts",
            "doubtful_attempts",
            "doubtful_cost_usd",
            "unpriced_attempts",
            "unpriced_tokens",
            "other_units_usd",
            "told_attempts",
            "told_usd",
            "told_difference_usd",
        ];
        let mut csv = Csv::default();
        let by = self.answer.query.by.iter().map(|by| csv::label(&by.to_string()));
        let classes = TokenClass::ALL.iter();
        let classes = classes.flat_map(|class| [format!("{class}_tokens"), format!("{class}_usd")]);
        let basis = ["price_book", "price_book_as_of", "period"].map(str::to_owned);
        let line = || ["line".to_owned()];
        csv.row(by.chain(line()).chain(FIGURES.map(str::to_owned)).chain(classes).chain(basis));
        let basis = [csv::label(&self.book.name), self.book.as_of.to_string(), self.period()];
        let dimensions = self.answer.query.by.len();
        // A line that is no group has its name where the first label would be.
        let named = |name: String| {
            let rest = std::iter::repeat_n(String::new(), dimensions.saturating_sub(1));
            (dimensions > 0).then(|| csv::label(&name)).into_iter().chain(rest).collect::<Vec<_>>()
        };
        let groups = self.answer.groups.iter().map(|Group { key, measures }| {
            let labels = key.iter().map(|label| csv::label(label.as_deref().unwrap_or("")));
            (labels.collect::<Vec<_>>(), "use", measures)
        });
        let other = self.answer.other.iter();
        let other = other.map(|other| (named(other_name(other)), "other", &other.measures));
        for (labels, line, measures) in groups.chain(other) {
            let (cost, told) = (Cost::of(measures).amount(), &measures.told);
            let text = |amount: Option<Money>| amount.map_or_else(String::new, |m| m.to_string());
            let figures = [
                measures.exchanges.to_string(),
                measures.completed.to_string(),
                measures.attempts.to_string(),
                text(cost),
                text(cost.and_then(|cost| per_thousand(cost, measures.exchanges))),
                text(blended(measures)),
                measures.list_cost.to_string(),
                measures.estimated.cost.to_string(),
                measures.waste.values().copied().sum::<Money>().to_string(),
                measures.hosted_cost.to_string(),
                measures.estimated.attempts.to_string(),
                measures.unknown.to_string(),
                text(known_bound(measures)),
                measures.unbounded.to_string(),
                measures.doubtful.attempts.to_string(),
                text(known_cost(&measures.doubtful)),
                measures.unpriced.to_string(),
                measures.unpriced_tokens.to_string(),
                measures.cost_of_units.to_string(),
                told.attempts().to_string(),
                text((told.attempts() > 0).then(|| told.cost())),
                text((told.compared.attempts > 0).then(|| told.compared.difference())),
            ];
            let classes = measures.tokens.iter().flat_map(|(class, tokens)| {
                [tokens.to_string(), text(class_cost(measures, class))]
            });
            let labels = labels.into_iter().chain([line.to_owned()]);
            csv.row(labels.chain(figures).chain(classes).chain(basis.clone()));
        }
        for line in self.idle() {
            let figures = FIGURES.map(|figure| match figure {
                "cost_usd" => line.idle.to_string(),
                _ => String::new(),
            });
            let classes = std::iter::repeat_n(String::new(), 2 * TokenClass::ALL.len());
            let labels = named(idle_name(line)).into_iter().chain(["idle".to_owned()]);
            csv.row(labels.chain(figures).chain(classes).chain(basis.clone()));
        }
        for line in &self.answer.adjustments {
            let figures = FIGURES.map(|figure| match figure {
                "cost_usd" => line.contracted.to_string(),
                "list_cost_usd" => line.list.to_string(),
                _ => String::new(),
            });
            let classes = std::iter::repeat_n(String::new(), 2 * TokenClass::ALL.len());
            let labels = named(adjusted_name(line)).into_iter().chain(["adjustment".to_owned()]);
            csv.row(labels.chain(figures).chain(classes).chain(basis.clone()));
        }
        csv.finish()
    }
}

fn hosting_json(line: &HostedLine) -> Json {
    object! {
        "upstream" => &line.upstream,
        "paid_ns" => nanos(line.paid),
        "busy_ns" => nanos(line.busy_time),
        "utilisation_per_mille" => utilisation(line),
        "busy_cost_usd" => paid(line).then_some(line.busy),
        "idle_cost_usd" => paid(line).then_some(line.idle),
        "attempts" => line.attempts,
        "useful_tokens" => line.useful_tokens,
        "usd_per_useful_mtok" => per_useful_mtok(line),
    }
}

fn adjustment_json(line: &AdjustmentLine) -> Json {
    object! {
        "provider" => &line.provider,
        "model" => &line.model,
        "adjustments" => line.adjustments,
        "cost_usd" => line.contracted,
        "list_cost_usd" => line.list,
    }
}

/// What attempts cost, as far as it is known; nothing where there are none.
fn known_cost(tally: &Tally) -> Option<Money> {
    if tally.attempts == 0 { Some(Money::ZERO) } else { tally.known_cost() }
}

fn measures_json(measures: &Measures) -> Json {
    let cost = Cost::of(measures);
    let classes = shown(measures).map(|class| {
        let value = object! {
            "tokens" => measures.tokens[class],
            "priced_tokens" => measures.priced_tokens[class],
            "cost_usd" => class_cost(measures, class),
            "usd_per_mtok" => class_price(measures, class),
        };
        (class.name().to_owned(), value)
    });
    let waste =
        measures.waste.iter().map(|(cause, cost)| (cause.name().to_owned(), (*cost).into()));
    let doubts = measures.doubts.iter();
    let doubts = doubts.map(|(doubt, tally)| (doubt.name().to_owned(), tally_json(tally)));
    object! {
        "exchanges" => measures.exchanges,
        "completed" => measures.completed,
        "attempts" => measures.attempts,
        "input_tokens" => measures.input(),
        "output_tokens" => measures.output(),
        "useful_input_tokens" => measures.useful_input,
        "useful_output_tokens" => measures.useful_output,
        "cost_usd" => cost.amount(),
        "cost_is_complete" => matches!(cost, Cost::Known(_)),
        "list_cost_usd" => measures.list_cost,
        "hosted_cost_usd" => measures.hosted_cost,
        "estimated_cost_usd" => measures.estimated.cost,
        "other_units_usd" => measures.cost_of_units,
        "usd_per_1k_exchanges" => cost.amount().and_then(|c| per_thousand(c, measures.exchanges)),
        "usd_per_mtok" => blended(measures),
        "estimated_attempts" => measures.estimated.attempts,
        "learned_attempts" => measures.learned.attempts,
        "learned_cost_usd" => known_cost(&measures.learned),
        "unknown_attempts" => measures.unknown,
        "unknown_at_most_usd" => known_bound(measures),
        "unbounded_attempts" => measures.unbounded,
        "doubtful_attempts" => measures.doubtful.attempts,
        "doubtful_cost_usd" => known_cost(&measures.doubtful),
        "doubts" => Json::Object(doubts.collect()),
        "unpriced_attempts" => measures.unpriced,
        "unpriced_tokens" => measures.unpriced_tokens,
        "hosted_attempts" => measures.hosted,
        "token_classes" => Json::Object(classes.collect()),
        "waste_usd" => Json::Object(waste.collect()),
        "told" => told_json(&measures.told),
    }
}

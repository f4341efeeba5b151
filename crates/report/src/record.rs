//! The body of one journal record as one line of JSON with its `kind`, for `farthing journal dump`.
//! Fields are named as in [`crate::exchange::json`]. Facts hold no words of prompts, so neither does
//! this.

use std::time::Duration;

use facts::{
    Adjustment, Admission, AttemptEnd, ChargeLine, Charged, Dispatch, Gap, MessageShape,
    PriceRecord, PromptShape, Settlement, ToldCost,
};
use quantity::{Money, TokenCount, Usage};

use crate::json::Json;
use crate::object;

type Fields = Vec<(String, Json)>;

/// An admission.
#[must_use]
pub fn admission(record: &Admission) -> String {
    let id = object! { "exchange" => record.exchange.to_string() };
    line("admitted", id, admission_fields(record))
}

/// A dispatch.
#[must_use]
pub fn dispatch(record: &Dispatch) -> String {
    let id = object! { "exchange" => record.exchange.to_string() };
    line("dispatched", id, dispatch_fields(record))
}

/// The end of an attempt, with its input split over the parts of the prompt that it was sent.
#[must_use]
pub fn attempt_end(record: &AttemptEnd, prompt: Option<&PromptShape>) -> String {
    let id = object! {
        "exchange" => record.exchange.to_string(),
        "ordinal" => record.ordinal,
    };
    let mut fields = end_fields(record);
    let by_part = prompt.map(|prompt| input_by_part(prompt, record));
    fields.push(("input_by_part".to_owned(), by_part.into()));
    line("attempt_ended", id, fields)
}

/// A settlement.
#[must_use]
pub fn settlement(record: &Settlement) -> String {
    let fields = object! {
        "exchange" => record.exchange.to_string(),
        "settled_at" => record.at,
        "verdict" => record.verdict.name(),
    };
    line("settled", fields, Vec::new())
}

/// A price.
#[must_use]
pub fn price(record: &PriceRecord) -> String {
    let fields = match record {
        PriceRecord::PerUse { row, text } => object! {
            "price_row" => row.to_string(),
            "text" => text,
        },
        PriceRecord::PerHour { upstream, cost, from } => object! {
            "upstream" => upstream,
            "hourly_cost_usd" => *cost,
            "from" => *from,
        },
    };
    line("price", fields, Vec::new())
}

/// An adjustment.
#[must_use]
pub fn adjustment(record: &Adjustment) -> String {
    let fields = object! {
        "exchange" => record.exchange.to_string(),
        "ordinal" => record.ordinal,
        "posted_at" => record.at,
        "provider" => &record.provider,
        "model" => &record.model,
        "from_row" => record.from.map(|row| row.to_string()),
        "to_row" => record.to.to_string(),
        "cost_usd" => record.contracted,
        "list_cost_usd" => record.list,
    };
    line("adjusted", fields, Vec::new())
}

/// Exchanges that the journal does not have.
#[must_use]
pub fn gap(record: &Gap) -> String {
    line("gap", gap_fields(record), Vec::new())
}

pub(crate) fn gap_fields(gap: &Gap) -> Json {
    object! {
        "since" => gap.since,
        "until" => gap.until,
        "exchanges" => gap.exchanges,
        "attempts" => gap.attempts,
        "cost_usd" => gap.cost,
        "tokens" => gap.tokens,
        "cause" => &gap.cause,
    }
}

fn line(kind: &str, first: Json, rest: Fields) -> String {
    let mut fields = vec![("kind".to_owned(), Json::from(kind))];
    fields.extend(unwrapped(first));
    fields.extend(rest);
    Json::Object(fields).line()
}

/// The fields of an object.
fn unwrapped(json: Json) -> Fields {
    match json {
        Json::Object(fields) => fields,
        other => vec![("value".to_owned(), other)],
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn count(count: TokenCount) -> u64 {
    count.get()
}

pub(crate) fn admission_fields(record: &Admission) -> Fields {
    let labels = &record.labels;
    let tags = labels.tags.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    unwrapped(object! {
        "admitted_at" => record.at,
        "api" => record.api.name(),
        "stream" => record.stream,
        "model_asked" => record.model_asked.as_ref(),
        "max_tokens" => record.max_tokens.map(count),
        "choices" => record.choices,
        "tier_asked" => record.tier_asked.as_ref(),
        "labels" => object! {
            "route" => &labels.route,
            "route_source" => labels.route_source.name(),
            "task" => labels.task.as_ref(),
            "task_type" => labels.task_type.as_ref(),
            "user" => labels.user.as_ref(),
            "team" => labels.team.as_ref(),
            "tags" => Json::Object(tags),
        },
        "caller" => record.caller.map(|caller| caller.to_string()),
        "key" => record.key.as_ref(),
        "path" => record.path.as_ref(),
        "client_retry" => record.client_retry,
        "request_bytes" => record.request_bytes,
        "prompt" => prompt(&record.prompt),
    })
}

fn prompt(prompt: &PromptShape) -> Json {
    let message = |message: &MessageShape| {
        object! {
            "role" => message.role.name(),
            "text_bytes" => message.text_bytes,
            "media" => message.media,
            "content" => message.content.to_string(),
            "chain" => message.chain.to_string(),
        }
    };
    object! {
        "messages" => prompt.messages.iter().map(message).collect::<Json>(),
        "tools" => prompt.tools.iter().collect::<Json>(),
        "tool_schema_bytes" => prompt.tool_schema_bytes,
    }
}

/// The input tokens of an attempt split over roles and tool schemas by their bytes: an estimate.
pub(crate) fn input_by_part(prompt: &PromptShape, end: &AttemptEnd) -> Json {
    let split = || {
        let known = end.metered.source != quantity::UsageSource::Unknown;
        let input = TokenCount::new(end.metered.usage.input()).filter(|_| known)?;
        let (roles, tools) = prompt.split(input)?;
        let roles = roles.iter().map(|(role, tokens)| (role.name().to_owned(), (*tokens).into()));
        Some(object! {
            "estimated" => true,
            "role_tokens" => Json::Object(roles.collect()),
            "tool_schema_tokens" => tools,
        })
    };
    split().into()
}

pub(crate) fn dispatch_fields(record: &Dispatch) -> Fields {
    unwrapped(object! {
        "ordinal" => record.ordinal,
        "dispatched_at" => record.at,
        "reason" => record.reason.name(),
        "upstream" => &record.upstream,
        "provider" => record.provider.as_ref(),
        "model" => record.model.as_ref(),
        "region" => record.region.as_ref(),
        "input_tokens_estimated" => count(record.input_estimate),
        "bound_usd" => record.bound,
    })
}

pub(crate) fn end_fields(record: &AttemptEnd) -> Fields {
    let metered = &record.metered;
    unwrapped(object! {
        "first_byte_at" => record.first_byte_at,
        "first_token_at" => record.first_token_at,
        "last_token_at" => record.last_token_at,
        "ended_at" => record.at,
        "status" => record.status,
        "end" => record.end.name(),
        "error" => record.error.as_ref(),
        "response_id" => record.response_id.as_ref(),
        "model_served" => record.model_served.as_ref(),
        "tier_served" => record.tier_served.as_ref(),
        "region_served" => record.region_served.as_ref(),
        "finish_reason" => record.finish_reason.as_ref(),
        "usage_source" => metered.source.name(),
        // Counts of an unknown usage mean nothing.
        "usage" => (metered.source != quantity::UsageSource::Unknown).then(|| usage(&metered.usage)),
        "doubts" => metered.doubts.iter().map(quantity::Doubt::name).collect::<Json>(),
        "raw_usage" => record.raw_usage.as_ref(),
        "response_bytes" => record.response_bytes,
        "tools_called" => record.tools_called.iter().collect::<Json>(),
        "charge" => charge(&record.charged),
        "told_cost_usd" => record.told.and_then(ToldCost::amount),
        "told_cost_refused" => record.told == Some(ToldCost::Refused),
    })
}

/// The classes and units that were used, by name.
fn usage(usage: &Usage) -> Json {
    let tokens = usage.tokens.iter().map(|(class, count)| (class.name(), count.get()));
    let units = usage.units.iter().map(|(unit, count)| (unit.name(), count.get()));
    let used = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| {
        let used = counts.filter(|(_, count)| *count > 0);
        Json::Object(used.map(|(name, count)| (name.to_owned(), count.into())).collect())
    };
    object! {
        "input_tokens" => usage.input(),
        "output_tokens" => usage.output(),
        "tokens" => used(&mut { tokens }),
        "units" => used(&mut { units }),
    }
}

fn charge(charged: &Charged) -> Json {
    let kind = |kind: &str| object! { "kind" => kind };
    match charged {
        Charged::Hosted => kind("by_the_hour"),
        Charged::NotBilled => kind("not_billed"),
        Charged::Unpriced { reason } => object! { "kind" => "unpriced", "reason" => reason },
        Charged::Priced { row, lines } => object! {
            "kind" => "priced",
            "price_row" => row.to_string(),
            "cost_usd" => charged.cost(),
            "list_cost_usd" => lines.iter().map(|line| line.list).sum::<Money>(),
            "lines" => lines.iter().map(charge_line).collect::<Json>(),
        },
    }
}

fn charge_line(line: &ChargeLine) -> Json {
    object! {
        "item" => line.item.name(),
        "count" => line.count.get(),
        "list_usd_per_million" => line.price.usd_per_million(),
        "list_usd" => line.list,
        "contracted_usd" => line.contracted,
    }
}

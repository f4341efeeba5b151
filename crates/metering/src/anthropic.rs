//! Anthropic's dialect: Messages and its token counter.

use quantity::{Doubt, Doubts, TokenClass, TokenCount, Unit, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Convention;
use crate::dialect::Kind;
use crate::json::{Count, Text, TextBytes, list, plain_string, read};
use crate::seen::{Reading, Seen};

/// A unary reply, or the `message` of a stream's `message_start`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Text<'a>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    text: TextBytes,
    thinking: TextBytes,
    input: TextBytes,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    thinking: TextBytes,
    partial_json: TextBytes,
    #[serde(borrow)]
    stop_reason: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawUsage<'a> {
    input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    #[serde(borrow)]
    cache_creation: Option<&'a RawValue>,
    output_tokens: Count,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    server_tool_use: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Text<'a>,
    #[serde(borrow)]
    speed: Text<'a>,
    #[serde(borrow)]
    inference_geo: Text<'a>,
    #[serde(borrow)]
    iterations: Option<&'a RawValue>,
}

/// One run of a model inside a response: the answer, a compaction before it, an answer that was
/// declined, one of another model in its place, or one of a model that was asked for advice.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Iteration<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    output_tokens: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Count,
}

/// Reads an event of a stream into what was seen so far.
pub(crate) fn read_event<'a>(data: &'a [u8], seen: &mut Seen) -> Kind<'a> {
    let event: Event<'_> = serde_json::from_slice(data).unwrap_or_default();
    match event.kind.as_deref().unwrap_or_default() {
        "message_stop" => return Kind::Terminal,
        "error" => {
            seen.error(event.error);
            return Kind::Terminal;
        }
        "message_start" => {
            let message: Message<'_> = read(event.message);
            seen.identify(&message.id, &message.model, &Text(None));
            keep_usage(message.usage, false, seen);
        }
        "message_delta" => {
            seen.finish(&read::<Delta<'_>>(event.delta).stop_reason);
            keep_usage(event.usage, false, seen);
        }
        "content_block_start" => block(&read(event.content_block), seen),
        "content_block_delta" => {
            let delta: Delta<'_> = read(event.delta);
            let text: TextBytes = read(delta.text);
            seen.output(text.0 + delta.partial_json.0, delta.thinking.0);
            if delta.partial_json.0 + delta.thinking.0 == 0 {
                return plain_string(delta.text).map_or(Kind::Other, Kind::Text);
            }
        }
        _ => {}
    }
    Kind::Other
}

/// Reads a unary reply; tells whether it is one.
pub(crate) fn read_reply(data: &[u8], seen: &mut Seen) -> bool {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(data) else { return false };
    if message.error.is_some() {
        seen.error(message.error);
    }
    seen.identify(&message.id, &message.model, &Text(None));
    seen.finish(&message.stop_reason);
    for content in list::<Block<'_>>(message.content) {
        block(&content, seen);
    }
    keep_usage(message.usage, true, seen);
    message.content.or(message.usage).is_some()
}

fn block(block: &Block<'_>, seen: &mut Seen) {
    if matches!(block.kind.as_deref(), Some("tool_use" | "server_tool_use"))
        && let Some(name) = block.name.owned()
    {
        seen.tool(name);
    }
    seen.output(block.text.0 + block.input.0, block.thinking.0);
}

/// Keeps the first usage object and the last: what lies between is cumulative.
fn keep_usage(usage: Option<&RawValue>, last: bool, seen: &mut Seen) {
    let Some(usage) = usage else { return };
    seen.usage(usage, true, last);
    let usage: RawUsage<'_> = read(Some(usage));
    // Fast mode has prices of its own, whatever the tier is called; it is not told again at the end.
    if usage.speed.as_deref() == Some("fast") {
        seen.tier_served = Some("fast".to_owned());
    } else if let Some(tier) = usage.service_tier.owned()
        && seen.tier_served.as_deref() != Some("fast")
    {
        seen.tier_served = Some(tier);
    }
    if let Some(geo) = usage.inference_geo.owned().filter(|geo| geo != "not_available") {
        seen.region_served = Some(geo.to_lowercase());
    }
}

/// Converts usage objects to disjoint classes. Later objects are cumulative and may repeat earlier
/// counts: the largest of each count holds, nothing is added. `None` when there are none.
pub(crate) fn usage(seen: &Seen, convention: Convention) -> Option<Reading> {
    let objects = &seen.raw_usage;
    if objects.is_empty() {
        return None;
    }
    let mut doubts = Doubts::NONE;
    let mut largest = |held: &mut Option<TokenCount>, count: Count| {
        if count == Count::Refused {
            doubts = doubts.with(Doubt::CountRefused);
        }
        *held = (*held).max(count.get());
    };
    let [mut input, mut output, mut cached, mut written, mut written_5m, mut written_1h] =
        [None; 6];
    let [mut thinking, mut searches, mut last_output] = [None; 3];
    for object in objects {
        let raw: RawUsage<'_> = serde_json::from_str(object).unwrap_or_default();
        let creation: CacheCreation = read(raw.cache_creation);
        let details: OutputDetails = read(raw.output_tokens_details);
        let tools: ServerTools = read(raw.server_tool_use);
        largest(&mut input, raw.input_tokens);
        largest(&mut output, raw.output_tokens);
        largest(&mut cached, raw.cache_read_input_tokens);
        largest(&mut written, raw.cache_creation_input_tokens);
        largest(&mut written_5m, creation.ephemeral_5m_input_tokens);
        largest(&mut written_1h, creation.ephemeral_1h_input_tokens);
        largest(&mut thinking, details.thinking_tokens);
        largest(&mut searches, tools.web_search_requests);
        last_output = raw.output_tokens.get();
    }
    let last: RawUsage<'_> =
        objects.last().and_then(|last| serde_json::from_str(last).ok()).unwrap_or_default();
    let runs = list::<Iteration<'_>>(last.iterations);
    if of_several_models(&runs, seen.model.as_deref()) {
        doubts = doubts.with(Doubt::MixedModels);
    } else if !runs.is_empty() {
        // Of one model: all of them are billed, and the counts beside them may be of the last alone.
        for (held, of) in [
            (&mut input, (|run| run.input_tokens) as fn(&Iteration<'_>) -> Count),
            (&mut cached, |run| run.cache_read_input_tokens),
            (&mut written, |run| run.cache_creation_input_tokens),
            (&mut output, |run| run.output_tokens),
        ] {
            let counts = runs.iter().filter_map(|run| of(run).get());
            let sum = counts.reduce(|sum, count| sum.plus(count).unwrap_or(sum));
            if sum.is_some() && sum < *held {
                doubts = doubts.with(Doubt::SumMismatch);
            }
            *held = (*held).max(sum);
        }
        last_output = last_output.and(output);
    }
    // The first object only holds a place for the output: the last one must count it.
    let (has_input, has_output) = (input.is_some(), last_output.is_some());
    let input = input.unwrap_or_default();
    if cached.is_none() && convention.may_hide_cache() && input > TokenCount::ZERO {
        doubts = doubts.with(Doubt::SplitUnknown);
    }
    let output = output.unwrap_or_default();
    let split = written_5m.is_some() || written_1h.is_some();
    let (written_5m, written_1h) = (written_5m.unwrap_or_default(), written_1h.unwrap_or_default());
    let by_lifetime = written_5m.plus(written_1h).unwrap_or_default();
    let written = written.unwrap_or(by_lifetime);
    if split && by_lifetime != written {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    // What was written for a lifetime that is not told is of five minutes, the default.
    let untold = written.minus(by_lifetime).unwrap_or_default();
    let thinking = thinking.unwrap_or_default();
    if thinking > output {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    let thinking = thinking.min(output);
    let mut usage = Usage::default();
    let tokens = &mut usage.tokens;
    tokens[TokenClass::InputUncached] = input;
    tokens[TokenClass::CacheRead] = cached.unwrap_or_default();
    tokens[TokenClass::CacheWrite5m] = written_5m.plus(untold).unwrap_or(written_5m);
    tokens[TokenClass::CacheWrite1h] = written_1h;
    tokens[TokenClass::Reasoning] = thinking;
    tokens[TokenClass::OutputText] = output.minus(thinking).expect("cut to the output above");
    usage.units[Unit::WebSearch] = searches.unwrap_or_default();
    Some(Reading { usage, doubts, has_input, has_output })
}

/// Whether more than one model ran: then the counts are no one model's.
fn of_several_models(runs: &[Iteration<'_>], served: Option<&str>) -> bool {
    let kind = |name: &str| runs.iter().any(|run| run.kind.as_deref() == Some(name));
    let mut models: Vec<&str> = runs.iter().filter_map(|run| run.model.as_deref()).collect();
    models.extend(served.filter(|_| !models.is_empty()));
    let differ = models.windows(2).any(|pair| pair[0] != pair[1]);
    differ || kind("advisor_message") || (kind("fallback_message") && runs.len() > 1)
}

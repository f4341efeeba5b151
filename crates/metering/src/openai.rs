//! OpenAI's dialect: Chat Completions, Completions and Embeddings, and everyone who speaks it.

use facts::Api;
use quantity::{Doubt, Doubts, TokenClass, TokenCount, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Convention;
use crate::dialect::Kind;
use crate::json::{Count, List, Text, TextBytes, list, plain_string, read};
use crate::seen::{Reading, Seen, split};

/// A unary reply or a chunk of a stream: the same fields in both.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Reply<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    service_tier: Text<'a>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    /// The vectors of an embeddings reply.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Text<'a>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Of Completions.
    text: TextBytes,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Output<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    refusal: TextBytes,
    reasoning: TextBytes,
    reasoning_content: TextBytes,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    arguments: TextBytes,
}

/// A usage object. The names of Responses differ; some servers send both.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawUsage<'a> {
    input_tokens: Count,
    output_tokens: Count,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_cache_hit_tokens: Count,
    prompt_cache_miss_tokens: Count,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
}

/// Reads a unary reply; tells whether it is one.
pub(crate) fn read_reply(data: &[u8], seen: &mut Seen) -> bool {
    let Ok(reply) = serde_json::from_slice::<Reply<'_>>(data) else { return false };
    read_fields(&reply, true, seen);
    reply.choices.or(reply.data).or(reply.usage).is_some()
}

/// Reads a chunk of a stream.
pub(crate) fn read_chunk<'a>(data: &'a [u8], seen: &mut Seen) -> Kind<'a> {
    if data.trim_ascii() == b"[DONE]" {
        return Kind::Terminal;
    }
    let Ok(reply) = serde_json::from_slice::<Reply<'_>>(data) else { return Kind::Other };
    // Choices that cannot be read may hold anything.
    let no_choices = reply.choices.is_none_or(|raw| {
        serde_json::from_str(raw.get())
            .is_ok_and(|List(choices): List<&RawValue>| choices.is_empty())
    });
    let alone = no_choices && reply.usage.is_some();
    let text = read_fields(&reply, alone, seen);
    match reply.error {
        Some(_) => Kind::Terminal,
        None if alone => Kind::UsageOnly,
        None => text.map_or(Kind::Other, Kind::Text),
    }
}

/// Gives the text, if that is all.
fn read_fields<'a>(reply: &Reply<'a>, usage_is_last: bool, seen: &mut Seen) -> Option<&'a str> {
    seen.identify(&reply.id, &reply.model, &reply.service_tier);
    let choices = list::<Choice<'_>>(reply.choices);
    let mut text = None;
    for choice in &choices {
        seen.finish(&choice.finish_reason);
        let output: Output<'_> = read(choice.delta.or(choice.message));
        let content: TextBytes = read(output.content);
        let mut bytes = choice.text.0 + content.0 + output.refusal.0;
        let reasoning = output.reasoning.0.max(output.reasoning_content.0);
        for call in list::<ToolCall<'_>>(output.tool_calls) {
            bytes += call.function.arguments.0;
            if let Some(name) = call.function.name.owned() {
                seen.tool(name);
            }
        }
        seen.output(bytes, reasoning);
        let rest = output.tool_calls.or(reply.usage).or(reply.error).is_some() || reasoning > 0;
        let alone = choices.len() == 1 && choice.finish_reason.0.is_none() && !rest;
        text = plain_string(output.content).filter(|text| alone && text.len() as u64 == bytes);
    }
    // Continuous usage is cumulative: the last one holds.
    if let Some(usage) = reply.usage {
        seen.usage(usage, false, usage_is_last);
    }
    if reply.error.is_some() {
        seen.error(reply.error);
    }
    text
}

/// Converts a usage object to disjoint classes; `None` when it is no object.
pub(crate) fn usage(
    raw: &str,
    api: Api,
    convention: Convention,
    choices: Option<u32>,
) -> Option<Reading> {
    let raw: RawUsage<'_> = serde_json::from_str(raw).ok()?;
    let mut doubts = Doubts::NONE;
    let mut count = |count: Count| {
        if count == Count::Refused {
            doubts = doubts.with(Doubt::CountRefused);
        }
        count.get()
    };
    let is_responses = api == Api::OpenAiResponses;
    // The output of an embedding has no tokens.
    let expects_output = api != Api::OpenAiEmbeddings;
    let (prompt, completion, input, output) = if is_responses {
        let details = (raw.input_tokens_details, raw.output_tokens_details);
        (raw.input_tokens, raw.output_tokens, details.0, details.1)
    } else {
        let details = (raw.prompt_tokens_details, raw.completion_tokens_details);
        (raw.prompt_tokens, raw.completion_tokens, details.0, details.1)
    };
    let input: InputDetails = read(input);
    let output: OutputDetails = read(output);
    let prompt = count(prompt);
    let completion = count(completion);
    let total = count(raw.total_tokens);
    let hit = count(raw.prompt_cache_hit_tokens);
    let miss = count(raw.prompt_cache_miss_tokens);
    let cached = count(input.cached_tokens).or(hit);
    let written = count(input.cache_write_tokens).unwrap_or_default();
    let input_audio = count(input.audio_tokens).unwrap_or_default();
    let input_image = count(input.image_tokens).unwrap_or_default();
    let reasoning = count(output.reasoning_tokens).unwrap_or_default();
    let output_audio = count(output.audio_tokens).unwrap_or_default();
    let output_image = count(output.image_tokens).unwrap_or_default();

    let has_input = prompt.is_some();
    let has_output = completion.is_some() || (has_input && !expects_output);
    let prompt = prompt.unwrap_or_default();
    let completion = completion.unwrap_or_default();
    let untold = cached.is_none() && convention.may_hide_cache() && expects_output;
    if untold && prompt > TokenCount::ZERO {
        doubts = doubts.with(Doubt::SplitUnknown);
    }
    if let (Some(hit), Some(miss)) = (hit, miss)
        && hit.plus(miss) != Some(prompt)
    {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    let cached = cached.unwrap_or_default();
    if cached > TokenCount::ZERO && (input_audio, input_image) != Default::default() {
        doubts = doubts.with(Doubt::OverlapOpen);
    }
    if convention.counts_one_choice() && choices.is_some_and(|n| n > 1) {
        doubts = doubts.with(Doubt::ChoicesUnderReported).with(Doubt::LowerBound);
    }

    let mut usage = Usage::default();
    let parts = [
        (TokenClass::CacheRead, cached),
        (TokenClass::CacheWrite5m, written),
        (TokenClass::InputAudio, input_audio),
        (TokenClass::InputImage, input_image),
    ];
    split(prompt, &parts, TokenClass::InputUncached, &mut usage, &mut doubts);
    let mut beside = convention.reasoning_beside_output();
    if is_responses {
        // Only Chat is known to leave reasoning out; here the total must say so.
        let all = prompt.plus(completion).and_then(|sum| sum.plus(reasoning));
        beside = beside && total.is_some() && total == all;
    }
    let parts = [
        (TokenClass::Reasoning, if beside { TokenCount::ZERO } else { reasoning }),
        (TokenClass::OutputAudio, output_audio),
        (TokenClass::OutputImage, output_image),
    ];
    split(completion, &parts, TokenClass::OutputText, &mut usage, &mut doubts);
    if beside {
        usage.tokens[TokenClass::Reasoning] = reasoning;
    }
    if total.is_some_and(|total| total.get() != usage.total()) {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    Some(Reading { usage, doubts, has_input, has_output })
}

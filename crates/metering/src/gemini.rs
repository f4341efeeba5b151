//! Google's dialect: Gemini's generateContent, whole or streamed.

use quantity::{Doubt, Doubts, TokenClass, TokenCount, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Kind;
use crate::json::{Count, Text, TextBytes, list, read};
use crate::seen::{Reading, Seen, split};

/// A unary reply or an event of a stream: the same fields in both.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Reply<'a> {
    #[serde(borrow)]
    candidates: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    model_version: Text<'a>,
    #[serde(borrow)]
    response_id: Text<'a>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Text<'a>,
    #[serde(borrow)]
    grounding_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Part<'a> {
    text: TextBytes,
    thought: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    executable_code: Option<&'a RawValue>,
    #[serde(borrow)]
    inline_data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FunctionCall<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    args: TextBytes,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow)]
    web_search_queries: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawUsage<'a> {
    prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    tool_use_prompt_token_count: Count,
    total_token_count: Count,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    candidates_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    traffic_type: Text<'a>,
    #[serde(borrow)]
    service_tier: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(borrow)]
    modality: Text<'a>,
    token_count: Count,
}

/// Reads an event of a stream into what was seen so far. No event says that it is the last: from the
/// first on that says why the model stopped, any may be.
pub(crate) fn read_event(data: &[u8], seen: &mut Seen) -> Kind<'static> {
    let Ok(reply) = serde_json::from_slice::<Reply<'_>>(data) else { return Kind::Other };
    read_fields(&reply, false, seen);
    match reply.error {
        Some(_) => Kind::Terminal,
        None if seen.finish_reason.is_some() => Kind::MaybeLast,
        None => Kind::Other,
    }
}

/// Reads a unary reply; tells whether it is one.
pub(crate) fn read_reply(data: &[u8], seen: &mut Seen) -> bool {
    let Ok(reply) = serde_json::from_slice::<Reply<'_>>(data) else { return false };
    read_fields(&reply, true, seen);
    reply.candidates.or(reply.prompt_feedback).or(reply.usage_metadata).is_some()
}

fn read_fields(reply: &Reply<'_>, last: bool, seen: &mut Seen) {
    seen.identify(&reply.response_id, &reply.model_version, &Text(None));
    for candidate in list::<Candidate<'_>>(reply.candidates) {
        seen.finish(&candidate.finish_reason);
        let content: Content<'_> = read(candidate.content);
        for part in list::<Part<'_>>(content.parts) {
            read_part(&part, seen);
        }
        // Billed by the query or by the prompt, as the model is old or new; the usage counts neither.
        let grounding: Grounding<'_> = read(candidate.grounding_metadata);
        if !list::<&RawValue>(grounding.web_search_queries).is_empty() {
            seen.doubt(Doubt::LowerBound);
        }
    }
    let feedback: Feedback<'_> = read(reply.prompt_feedback);
    seen.finish(&feedback.block_reason);
    if let Some(usage) = reply.usage_metadata {
        // Each is cumulative: the last one holds.
        seen.usage(usage, false, last);
        if let Some(tier) = tier(&read(Some(usage))) {
            seen.tier_served = Some(tier);
        }
    }
    if reply.error.is_some() {
        seen.error(reply.error);
    }
}

fn read_part(part: &Part<'_>, seen: &mut Seen) {
    let call: FunctionCall<'_> = read(part.function_call);
    if let Some(name) = call.name.owned() {
        seen.tool(name);
    }
    let code: TextBytes = read(part.executable_code);
    // A picture has tokens, but not by its bytes: a piece of output all the same.
    let media = u64::from(part.inline_data.is_some());
    if part.thought.is_some_and(|thought| thought.get() == "true") {
        seen.output(0, part.text.0);
    } else {
        seen.output(part.text.0 + call.args.0 + code.0 + media, 0);
    }
}

/// The tier that served, by the names of the price book.
fn tier(usage: &RawUsage<'_>) -> Option<String> {
    let named = usage.service_tier.owned().or_else(|| usage.traffic_type.owned())?;
    let tier = match named.to_ascii_uppercase().as_str() {
        "TRAFFIC_TYPE_UNSPECIFIED" | "SERVICE_TIER_UNSPECIFIED" | "UNSPECIFIED" => return None,
        "ON_DEMAND" | "STANDARD" => "standard",
        "ON_DEMAND_FLEX" | "FLEX" => "flex",
        "ON_DEMAND_PRIORITY" | "PRIORITY" => "priority",
        "PROVISIONED_THROUGHPUT" => "provisioned",
        _ => return Some(named.to_ascii_lowercase()),
    };
    Some(tier.to_owned())
}

/// Tokens that are not text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Media {
    audio: TokenCount,
    image: TokenCount,
    video: TokenCount,
}

impl Media {
    /// What a list of details counts; one that does not fit makes doubtful.
    fn read(raw: Option<&RawValue>, doubts: &mut Doubts) -> Self {
        let mut media = Self::default();
        for detail in list::<Detail<'_>>(raw) {
            if detail.token_count == Count::Refused {
                *doubts = doubts.with(Doubt::CountRefused);
            }
            let held = match detail.modality.as_deref() {
                Some("AUDIO") => &mut media.audio,
                Some("IMAGE") => &mut media.image,
                Some("VIDEO") => &mut media.video,
                // Documents are priced as text.
                _ => continue,
            };
            let count = detail.token_count.get().unwrap_or_default();
            *held = held.plus(count).unwrap_or(*held);
        }
        media
    }

    fn as_classes(self, [audio, image, video]: [TokenClass; 3]) -> [(TokenClass, TokenCount); 3] {
        [(audio, self.audio), (image, self.image), (video, self.video)]
    }

    /// What is left without a part; a part that is larger than the whole makes doubtful.
    fn without(self, part: Self, doubts: &mut Doubts) -> Self {
        let mut less = |whole: TokenCount, part: TokenCount| match whole.minus(part) {
            Some(rest) => rest,
            None => {
                *doubts = doubts.with(Doubt::SumMismatch);
                TokenCount::ZERO
            }
        };
        Self {
            audio: less(self.audio, part.audio),
            image: less(self.image, part.image),
            video: less(self.video, part.video),
        }
    }
}

const INPUT: [TokenClass; 3] =
    [TokenClass::InputAudio, TokenClass::InputImage, TokenClass::InputVideo];
const CACHE: [TokenClass; 3] =
    [TokenClass::CacheReadAudio, TokenClass::CacheReadImage, TokenClass::CacheReadVideo];
const OUTPUT: [TokenClass; 3] =
    [TokenClass::OutputAudio, TokenClass::OutputImage, TokenClass::OutputVideo];

/// Converts the last usage object to disjoint classes; `None` when there is none.
///
/// The prompt's count includes what was cached; what tools added to it and what was thought stand
/// beside it and beside the candidates' count. A count of zero is left out.
pub(crate) fn usage(seen: &Seen) -> Option<Reading> {
    let raw: RawUsage<'_> = serde_json::from_str(seen.raw_usage.last()?).ok()?;
    let mut doubts = Doubts::NONE;
    let mut count = |count: Count| {
        if count == Count::Refused {
            doubts = doubts.with(Doubt::CountRefused);
        }
        count.get()
    };
    let prompt = count(raw.prompt_token_count);
    let candidates = count(raw.candidates_token_count);
    let total = count(raw.total_token_count);
    let cached = count(raw.cached_content_token_count).unwrap_or_default();
    let thoughts = count(raw.thoughts_token_count).unwrap_or_default();
    let by_tools = count(raw.tool_use_prompt_token_count).unwrap_or_default();
    let has_input = prompt.is_some();
    // Without a count of candidates there were none, unless some passed.
    let has_output = candidates.is_some() || (has_input && !seen.shows_text());
    let prompt = prompt.unwrap_or_default();
    let candidates = candidates.unwrap_or_default();

    let in_prompt = Media::read(raw.prompt_tokens_details, &mut doubts);
    let in_cache = Media::read(raw.cache_tokens_details, &mut doubts);
    let in_output = Media::read(raw.candidates_tokens_details, &mut doubts);
    let in_tools = Media::read(raw.tool_use_prompt_tokens_details, &mut doubts);
    if cached > TokenCount::ZERO
        && raw.cache_tokens_details.is_none()
        && in_prompt != Media::default()
    {
        doubts = doubts.with(Doubt::OverlapOpen);
    }
    let read = cached.min(prompt);
    if read < cached {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    let rest = prompt.minus(read).expect("the part was cut to the whole");
    let mut usage = Usage::default();
    split(read, &in_cache.as_classes(CACHE), TokenClass::CacheRead, &mut usage, &mut doubts);
    let uncached = in_prompt.without(in_cache, &mut doubts).as_classes(INPUT);
    split(rest, &uncached, TokenClass::InputUncached, &mut usage, &mut doubts);
    let mut tools = Usage::default();
    let added = in_tools.as_classes(INPUT);
    split(by_tools, &added, TokenClass::InputUncached, &mut tools, &mut doubts);
    for (class, count) in tools.tokens.iter() {
        let held = &mut usage.tokens[class];
        *held = held.plus(*count).unwrap_or(*held);
    }
    let out = in_output.as_classes(OUTPUT);
    split(candidates, &out, TokenClass::OutputText, &mut usage, &mut doubts);
    usage.tokens[TokenClass::Reasoning] = thoughts;
    if total.is_some_and(|total| total.get() != usage.total()) {
        doubts = doubts.with(Doubt::SumMismatch);
    }
    Some(Reading { usage, doubts, has_input, has_output })
}

//! Requests of the younger and the oldest APIs: Responses, Gemini, Completions.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Asked, Chain, Dialect, Message, Metadata, Part, Text, last_user, parts, tools, wish};
use crate::refusal::Refusal;
use crate::words;

fn tier(asked: Option<&str>) -> &'static str {
    match asked {
        Some("flex") => "flex",
        Some("priority") => "priority",
        _ => "default",
    }
}

#[derive(Deserialize)]
struct Responses<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    instructions: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: &'a RawValue,
    stream: Option<bool>,
    background: Option<bool>,
    max_output_tokens: Option<u64>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    metadata: Option<Metadata>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// Reads the body of OpenAI's `/v1/responses`.
pub(crate) fn responses(body: &[u8]) -> Result<Asked, Refusal> {
    let request: Responses<'_> = serde_json::from_slice(body)?;
    if request.background == Some(true) {
        return Err(Refusal::invalid("`background` is not simulated"));
    }
    let mut chain = Chain::new(&request.model);
    let tools = tools(&mut chain, &request.tools.unwrap_or_default())?;
    if let Some(instructions) = &request.instructions {
        chain.feed("system");
        chain.feed(instructions);
        chain.block(words::count(instructions.len()), None);
    }
    let raw = if request.input.get().starts_with('[') {
        serde_json::from_str(request.input.get())?
    } else {
        Vec::new()
    };
    let mut messages = Vec::new();
    if raw.is_empty() {
        let role = Cow::Borrowed("user");
        messages.push(Message { role, content: Some(request.input), tool_calls: None });
    }
    for raw in raw {
        let raw: &RawValue = raw;
        let item: Item<'_> = serde_json::from_str(raw.get())?;
        // An item that is no message counts as it is written.
        let (role, content, tool_calls) = match item.role {
            Some(role) => (role, item.content, None),
            None => (Cow::Borrowed("item"), None, Some(raw)),
        };
        messages.push(Message { role, content, tool_calls });
    }
    for message in &messages {
        chain.feed(&message.role);
        let mut tokens = 0;
        if let Some(content) = message.content {
            for part in parts(content)? {
                tokens += part.feed(&mut chain)?;
            }
        }
        if let Some(item) = message.tool_calls {
            chain.feed(item.get());
            tokens += words::count(item.get().len());
        }
        chain.block(tokens, None);
    }
    Ok(Asked {
        dialect: Dialect::Responses,
        model: request.model.into_owned(),
        stream: request.stream.unwrap_or(false),
        include_usage: true,
        continuous_usage: false,
        cap: request.max_output_tokens,
        tier: tier(request.service_tier.as_deref()),
        blocks: chain.blocks,
        tools,
        wish: wish(request.metadata.as_ref(), last_user(&messages))?,
    })
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    prompt: &'a RawValue,
    stream: Option<bool>,
    stream_options: Option<super::StreamOptions>,
    max_tokens: Option<u64>,
    n: Option<u64>,
}

/// Reads the body of OpenAI's `/v1/completions`.
pub(crate) fn completions(body: &[u8]) -> Result<Asked, Refusal> {
    let request: Completion<'_> = serde_json::from_slice(body)?;
    if request.n.is_some_and(|n| n != 1) {
        return Err(Refusal::invalid("`n` must be 1: only one choice is simulated"));
    }
    let Text(prompt) = serde_json::from_str(request.prompt.get())
        .map_err(|_| Refusal::invalid("`prompt` must be one string: only one is simulated"))?;
    let mut chain = Chain::new(&request.model);
    chain.feed(&prompt);
    chain.block(words::count(prompt.len()), None);
    let options = request.stream_options;
    Ok(Asked {
        dialect: Dialect::Completions,
        model: request.model.into_owned(),
        stream: request.stream.unwrap_or(false),
        include_usage: options.and_then(|options| options.include_usage).unwrap_or(false),
        continuous_usage: false,
        cap: request.max_tokens,
        tier: "default",
        blocks: chain.blocks,
        tools: Vec::new(),
        wish: wish(None, Some(request.prompt))?,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gemini<'a> {
    #[serde(borrow)]
    contents: Vec<Content<'a>>,
    #[serde(borrow)]
    system_instruction: Option<Content<'a>>,
    #[serde(borrow)]
    tools: Option<Vec<GeminiTool<'a>>>,
    generation_config: Option<Config>,
    labels: Option<Metadata>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiTool<'a> {
    #[serde(borrow)]
    function_declarations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    max_output_tokens: Option<u64>,
    candidate_count: Option<u64>,
}

#[derive(Deserialize)]
struct GeminiPart<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// Reads the body of Gemini's `generateContent`; the path names the model and whether it streams.
pub(crate) fn gemini(model: &str, stream: bool, body: &[u8]) -> Result<Asked, Refusal> {
    let request: Gemini<'_> = serde_json::from_slice(body)?;
    if request.contents.is_empty() {
        return Err(Refusal::invalid("contents is not specified"));
    }
    let config = request.generation_config;
    if config.as_ref().and_then(|config| config.candidate_count).is_some_and(|n| n != 1) {
        return Err(Refusal::invalid("candidateCount must be 1: only one is simulated"));
    }
    let mut chain = Chain::new(model);
    let offered = request.tools.unwrap_or_default().into_iter();
    let offered: Vec<&RawValue> =
        offered.flat_map(|tool| tool.function_declarations.unwrap_or_default()).collect();
    let tools = tools(&mut chain, &offered)?;
    let mut wishes = wish(request.labels.as_ref(), None)?;
    let system = request.system_instruction.iter().map(|content| ("system", content));
    let contents = request.contents.iter();
    let contents = contents.map(|content| (content.role.as_deref().unwrap_or("user"), content));
    let last =
        request.contents.iter().rposition(|content| content.role.as_deref() != Some("model"));
    for (index, (role, content)) in system.chain(contents).enumerate() {
        chain.feed(role);
        let is_last = last.map(|last| last + usize::from(request.system_instruction.is_some()));
        let mut tokens = 0;
        for raw in &content.parts {
            let part: GeminiPart<'_> = serde_json::from_str(raw.get())?;
            let part = match part.text {
                Some(text) => {
                    if Some(index) == is_last {
                        wishes.read_text(&text).map_err(Refusal::invalid)?;
                    }
                    Part::of_text(text)
                }
                None => Part::of_text(Cow::Borrowed(raw.get())),
            };
            tokens += part.feed(&mut chain)?;
        }
        chain.block(tokens, None);
    }
    Ok(Asked {
        dialect: Dialect::Gemini,
        model: model.to_owned(),
        stream,
        include_usage: true,
        continuous_usage: true,
        cap: config.and_then(|config| config.max_output_tokens),
        tier: tier(request.service_tier.as_deref()),
        blocks: chain.blocks,
        tools,
        wish: wishes,
    })
}

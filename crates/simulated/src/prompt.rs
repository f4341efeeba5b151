//! What a request asks: all dialects, read into one form.

mod more;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::refusal::Refusal;
use crate::wish::Wish;
use crate::words;

pub(crate) use more::{completions, gemini, responses};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Chat Completions, and errors of all that is OpenAI's.
    OpenAi,
    Completions,
    Responses,
    Anthropic,
    Gemini,
}

/// A request for a reply.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) dialect: Dialect,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Usage in the last chunk of a stream was asked for.
    pub(crate) include_usage: bool,
    /// Usage in every chunk was asked for, as vLLM offers.
    pub(crate) continuous_usage: bool,
    /// For output and reasoning together.
    pub(crate) cap: Option<u64>,
    /// The tier that will be named as served, where it can be chosen.
    pub(crate) tier: &'static str,
    pub(crate) blocks: Vec<Block>,
    /// Names of the tools offered.
    pub(crate) tools: Vec<String>,
    pub(crate) wish: Wish,
}

/// A piece of a prompt, as fine as the dialect's cache sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Hash of the model and the prompt up to and including this piece.
    pub(crate) prefix: u128,
    pub(crate) tokens: u64,
    /// The client wants the prefix up to here cached.
    pub(crate) mark: Option<Mark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) one_hour: bool,
}

impl Asked {
    pub(crate) fn input_tokens(&self) -> u64 {
        self.blocks.iter().map(|block| block.tokens).sum()
    }

    /// Stands for the whole prompt.
    pub(crate) fn identity(&self) -> u64 {
        self.blocks.last().map_or(0, Block::identity)
    }
}

impl Block {
    /// Stands for the prompt up to and including this piece.
    pub(crate) fn identity(&self) -> u64 {
        let bytes = self.prefix.to_le_bytes();
        u64::from_le_bytes(bytes[..8].try_into().expect("half of sixteen bytes"))
    }
}

/// Hashes a prompt piece by piece.
struct Chain {
    hasher: blake3::Hasher,
    blocks: Vec<Block>,
}

impl Chain {
    fn new(model: &str) -> Self {
        let mut chain = Self { hasher: blake3::Hasher::new(), blocks: Vec::new() };
        chain.feed(model);
        chain
    }

    fn feed(&mut self, text: &str) {
        self.hasher.update(&(text.len() as u64).to_le_bytes());
        self.hasher.update(text.as_bytes());
    }

    fn block(&mut self, tokens: u64, mark: Option<Mark>) {
        let hash = self.hasher.finalize();
        let bytes = hash.as_bytes()[..16].try_into().expect("half of a hash");
        self.blocks.push(Block { prefix: u128::from_le_bytes(bytes), tokens, mark });
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A part of a message's content, of either dialect.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    /// Of a tool's result.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// Of a call of a tool.
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct CacheControl {
    ttl: Option<String>,
}

impl From<CacheControl> for Mark {
    fn from(control: CacheControl) -> Self {
        Self { one_hour: control.ttl.as_deref() == Some("1h") }
    }
}

/// What an image or another file counts for; its bytes are no text.
const TOKENS_PER_FILE: u64 = 256;

/// Content that is a string or a list of parts.
fn parts(raw: &RawValue) -> Result<Vec<Part<'_>>, Refusal> {
    if raw.get().starts_with('[') {
        return Ok(serde_json::from_str(raw.get())?);
    }
    let Text(text) = serde_json::from_str(raw.get())?;
    Ok(vec![Part::of_text(text)])
}

impl<'a> Part<'a> {
    fn of_text(text: Cow<'a, str>) -> Self {
        let kind = Cow::Borrowed("text");
        Self { kind, text: Some(text), content: None, input: None, cache_control: None }
    }

    /// Hashes the part and counts its tokens.
    fn feed(&self, chain: &mut Chain) -> Result<u64, Refusal> {
        chain.feed(&self.kind);
        let mut bytes = 0;
        if let Some(text) = &self.text {
            chain.feed(text);
            bytes += text.len();
        }
        if let Some(input) = self.input {
            chain.feed(input.get());
            bytes += input.get().len();
        }
        let mut nested = 0;
        if let Some(content) = self.content {
            for part in parts(content)? {
                // Results hold no results; without this a request could nest without end.
                if part.content.is_some() {
                    return Err(Refusal::invalid("`content` is nested too deeply"));
                }
                nested += part.feed(chain)?;
            }
        }
        let is_file = self.text.is_none() && self.input.is_none() && self.content.is_none();
        Ok(words::count(bytes) + nested + if is_file { TOKENS_PER_FILE } else { 0 })
    }
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<Function<'a>>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Hashes the schemas of tools, one block each, and collects their names.
fn tools(chain: &mut Chain, raw: &[&RawValue]) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for schema in raw {
        chain.feed("tool");
        chain.feed(schema.get());
        let tool: Tool<'_> = serde_json::from_str(schema.get())?;
        chain.block(words::count(schema.get().len()), tool.cache_control.map(Mark::from));
        if let Some(name) = tool.name.or(tool.function.map(|function| function.name)) {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

type Metadata = BTreeMap<String, serde_json::Value>;

/// Wishes in metadata, then those of the last user message, which win.
fn wish(metadata: Option<&Metadata>, last_user: Option<&RawValue>) -> Result<Wish, Refusal> {
    let mut wish = Wish::default();
    if let Some(metadata) = metadata {
        wish.read_metadata(metadata).map_err(Refusal::invalid)?;
    }
    if let Some(content) = last_user {
        for part in parts(content)? {
            if let Some(text) = part.text {
                wish.read_text(&text).map_err(Refusal::invalid)?;
            }
        }
    }
    Ok(wish)
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

fn last_user<'a>(messages: &[Message<'a>]) -> Option<&'a RawValue> {
    messages.iter().rev().find(|message| message.role == "user")?.content
}

#[derive(Deserialize)]
struct ChatCompletion<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    n: Option<u64>,
    metadata: Option<Metadata>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

/// Reads the body of OpenAI's `/v1/chat/completions`.
pub(crate) fn openai(body: &[u8]) -> Result<Asked, Refusal> {
    let request: ChatCompletion<'_> = serde_json::from_slice(body)?;
    let stream = request.stream.unwrap_or(false);
    if request.messages.is_empty() {
        return Err(Refusal::invalid("`messages` must not be empty"));
    }
    if request.n.is_some_and(|n| n != 1) {
        return Err(Refusal::invalid("`n` must be 1: only one choice is simulated"));
    }
    if request.stream_options.is_some() && !stream {
        return Err(Refusal::invalid("`stream_options` is only allowed when `stream` is true"));
    }
    let mut chain = Chain::new(&request.model);
    let tools = tools(&mut chain, &request.tools.unwrap_or_default())?;
    for message in &request.messages {
        chain.feed(&message.role);
        let mut tokens = 0;
        if let Some(content) = message.content {
            for part in parts(content)? {
                tokens += part.feed(&mut chain)?;
            }
        }
        if let Some(calls) = message.tool_calls {
            chain.feed(calls.get());
            tokens += words::count(calls.get().len());
        }
        chain.block(tokens, None);
    }
    let usage = request.stream_options.as_ref();
    let include_usage = usage.and_then(|options| options.include_usage).unwrap_or(false);
    Ok(Asked {
        dialect: Dialect::OpenAi,
        model: request.model.into_owned(),
        stream,
        include_usage,
        continuous_usage: include_usage
            && usage.and_then(|options| options.continuous_usage_stats).unwrap_or(false),
        cap: request.max_completion_tokens.or(request.max_tokens),
        tier: match request.service_tier.as_deref() {
            Some("flex") => "flex",
            Some("priority") => "priority",
            _ => "default",
        },
        blocks: chain.blocks,
        tools,
        wish: wish(request.metadata.as_ref(), last_user(&request.messages))?,
    })
}

#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    metadata: Option<Metadata>,
}

/// Reads the body of Anthropic's `/v1/messages`, or of its `count_tokens`, which needs no
/// `max_tokens`.
pub(crate) fn anthropic(body: &[u8], only_counts: bool) -> Result<Asked, Refusal> {
    let request: Messages<'_> = serde_json::from_slice(body)?;
    if request.messages.is_empty() {
        return Err(Refusal::invalid("messages: at least one message is required"));
    }
    if request.max_tokens.is_none() && !only_counts {
        return Err(Refusal::invalid("max_tokens: Field required"));
    }
    let mut chain = Chain::new(&request.model);
    let tools = tools(&mut chain, &request.tools.unwrap_or_default())?;
    let system = request.system.map(|system| (Cow::Borrowed("system"), Some(system)));
    let messages = request.messages.iter().map(|one| (one.role.clone(), one.content));
    for (role, content) in system.into_iter().chain(messages) {
        let content =
            content.ok_or_else(|| Refusal::invalid("messages: content: Field required"))?;
        for part in parts(content)? {
            chain.feed(&role);
            let tokens = part.feed(&mut chain)?;
            chain.block(tokens, part.cache_control.map(Mark::from));
        }
    }
    Ok(Asked {
        dialect: Dialect::Anthropic,
        model: request.model.into_owned(),
        stream: request.stream.unwrap_or(false),
        include_usage: true,
        continuous_usage: false,
        cap: request.max_tokens,
        tier: "standard",
        blocks: chain.blocks,
        tools,
        wish: wish(request.metadata.as_ref(), last_user(&request.messages))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_a_quarter_of_the_bytes_of_each_message() {
        let asked = openai(
            br#"{"model":"m","messages":[{"role":"system","content":"12345"},
            {"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url"}]},
            {"role":"assistant","content":null,"tool_calls":[1]}]}"#,
        )
        .unwrap();
        let tokens: Vec<u64> = asked.blocks.iter().map(|block| block.tokens).collect();
        assert_eq!(tokens, [2, 1 + 256, 1]);
    }

    #[test]
    fn prefixes_are_equal_as_far_as_the_prompts_are() {
        let read = |last: &str| {
            let body = format!(
                r#"{{"model":"m","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"{last}"}}]}}"#
            );
            openai(body.as_bytes()).unwrap().blocks
        };
        let (one, other) = (read("a"), read("b"));
        assert_eq!(one[0].prefix, other[0].prefix);
        assert_ne!(one[1].prefix, other[1].prefix);
    }

    #[test]
    fn a_string_and_a_list_of_one_part_are_the_same_and_marks_are_no_content() {
        let read = |content: &str| {
            let body = format!(
                r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":{content}}}]}}"#
            );
            anthropic(body.as_bytes(), false).unwrap().blocks[0]
        };
        let plain = read(r#""hello""#);
        let marked = read(
            r#"[{"type":"text","text":"hello","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#,
        );
        assert_eq!(plain.prefix, marked.prefix);
        assert_eq!((plain.mark, marked.mark), (None, Some(Mark { one_hour: true })));
    }

    #[test]
    fn a_request_that_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "[]",
            r#"{"model":"m"}"#,
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":5}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{}}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"[[sim fault=boom]]"}]}"#,
        ] {
            assert!(openai(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let uncapped = br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        assert!(anthropic(uncapped, false).is_err());
        assert!(anthropic(uncapped, true).is_ok());
    }

    #[test]
    fn a_damaged_or_endlessly_nested_request_is_refused_and_breaks_nothing() {
        let whole = br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"[[sim output=3]]"}]}]}]}"#;
        assert!(anthropic(whole, false).is_ok());
        let mut random = workload::Random::new(1);
        for end in 0..whole.len() {
            assert!(anthropic(&whole[..end], false).is_err(), "cut at {end}");
            let mut flipped = whole.to_vec();
            flipped[end] = flipped[end].wrapping_add(1 + random.next().to_le_bytes()[0] % 254);
            let _ = (anthropic(&flipped, false), openai(&flipped));
        }
        let (open, close) = (r#"[{"type":"tool_result","content":"#, "}]");
        let deep = format!("{}\"x\"{}", open.repeat(100_000), close.repeat(100_000));
        let deep = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":{deep}}}]}}"#
        );
        assert!(anthropic(deep.as_bytes(), false).is_err());
    }
}

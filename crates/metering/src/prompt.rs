//! The shape of a prompt: who said how much, and fingerprints of what was said. The words stay in
//! the request.

use std::borrow::Cow;

use facts::{MessageShape, PromptShape, Role};
use quantity::{Fingerprint, HashKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Members, Text, list, read};

/// Messages of which the shape is kept; the rest of a longer request is not described.
const MAX_MESSAGES: usize = 4_096;
/// Tools of which the name is kept.
const MAX_TOOLS: usize = 256;
/// How much of the system prompt names the feature: prompts often end in a date or a user's name.
const ROUTE_PREFIX: usize = 1_024;

/// Builds the shape of a prompt from the raw JSON of a request's fields.
pub(crate) struct PromptReader<'k> {
    key: &'k HashKey,
    shape: PromptShape,
    chain: Fingerprint,
    system: Vec<u8>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tool<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    function: Named<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// An item of Responses that is no message.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

/// Gemini's message.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
}

/// What is said of a prompt that could not be described: one message, as large as the request.
pub(crate) fn undescribed(body: &[u8], key: &HashKey) -> PromptShape {
    let content = key.fingerprint(&[body]);
    let text_bytes = body.len() as u64;
    let role = Role::Other;
    let whole = MessageShape { role, text_bytes, media: 0, content, chain: content };
    PromptShape { messages: vec![whole], ..PromptShape::default() }
}

/// What the parts of a Gemini message say, and whether they are a tool's.
fn gemini_said(parts: Option<&RawValue>) -> (Said<'_>, bool) {
    let mut said = Said::default();
    let mut of_tool = false;
    for raw in list::<&RawValue>(parts) {
        let part: Part<'_> = read(Some(raw));
        if let Some(text) = part.text.0 {
            said.text(text);
            continue;
        }
        let Ok(Members(members)) = serde_json::from_str(raw.get()) else { continue };
        let has = |names: [&str; 2]| members.iter().any(|member| names.contains(&&*member.key));
        of_tool |= has(["functionResponse", "function_response"]);
        if has(["inlineData", "inline_data"]) || has(["fileData", "file_data"]) {
            said.media += 1;
        } else {
            said.text_bytes += raw.get().len() as u64;
        }
        said.raw(raw);
    }
    (said, of_tool)
}

/// What was said in one message.
#[derive(Default)]
struct Said<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    text_bytes: u64,
    media: u32,
}

impl<'a> Said<'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.text_bytes += text.len() as u64;
        self.pieces.push(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        });
    }

    fn raw(&mut self, raw: &'a RawValue) {
        self.pieces.push(Cow::Borrowed(raw.get().as_bytes()));
    }

    /// A string, or an array of parts. Text is fingerprinted by its words alone, so that moving an
    /// Anthropic `cache_control` mark from one turn to the next changes nothing. A tool's result
    /// holds parts of its own; in no API do those hold further ones.
    fn content(&mut self, raw: &'a RawValue, in_tool_result: bool) {
        if let Text(Some(text)) = read(Some(raw)) {
            return self.text(text);
        }
        for raw in list::<&RawValue>(Some(raw)) {
            let part: Part<'_> = read(Some(raw));
            match (part.kind.as_deref().unwrap_or(""), part.text.0, part.content) {
                (_, Some(text), _) => self.text(text),
                ("tool_result", None, Some(content)) if !in_tool_result => {
                    self.content(content, true);
                }
                (kind, None, _) => {
                    let media = ["image", "audio", "file", "document", "video"];
                    if media.iter().any(|word| kind.contains(word)) {
                        self.media += 1;
                    } else {
                        self.text_bytes += raw.get().len() as u64;
                    }
                    self.raw(raw);
                }
            }
        }
    }
}

impl<'k> PromptReader<'k> {
    pub(crate) fn new(key: &'k HashKey) -> Self {
        let shape = PromptShape::default();
        Self { key, shape, chain: Fingerprint(0), system: Vec::new() }
    }

    /// Anthropic's `system`, or the `instructions` of Responses: a string or text blocks, before all messages.
    pub(crate) fn system(&mut self, raw: &RawValue) {
        let mut said = Said::default();
        said.content(raw, false);
        self.push(Role::System, &said);
    }

    pub(crate) fn messages(&mut self, raw: &RawValue) {
        for raw in list::<&RawValue>(Some(raw)).into_iter().take(MAX_MESSAGES) {
            self.message(&read(Some(raw)));
        }
    }

    fn message(&mut self, message: &Message<'_>) {
        let role = match message.role.as_deref() {
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool" | "function") => Role::Tool,
            _ => Role::Other,
        };
        let mut said = Said::default();
        if let Some(content) = message.content {
            said.content(content, false);
        }
        if let Some(calls) = message.tool_calls {
            said.text_bytes += calls.get().len() as u64;
            said.raw(calls);
        }
        self.push(role, &said);
    }

    /// The `input` of Responses: a string, or items, of which some are messages. Tells whether one
    /// refers to something that the provider keeps.
    pub(crate) fn items(&mut self, raw: &RawValue) -> bool {
        let mut refers = false;
        if let Text(Some(text)) = read(Some(raw)) {
            let mut said = Said::default();
            said.text(text);
            self.push(Role::User, &said);
        }
        for raw in list::<&RawValue>(Some(raw)).into_iter().take(MAX_MESSAGES) {
            let message: Message<'_> = read(Some(raw));
            let item: Item<'_> = read(Some(raw));
            let kind = item.kind.as_deref().unwrap_or("message");
            refers |= kind == "item_reference";
            if kind == "message" {
                self.message(&message);
                continue;
            }
            let mut said = Said::default();
            let role = match item.output {
                Some(output) if kind.ends_with("_output") => {
                    said.content(output, false);
                    Role::Tool
                }
                _ => {
                    said.text_bytes = raw.get().len() as u64;
                    said.raw(raw);
                    let models = kind.ends_with("_call") || kind == "reasoning";
                    if models { Role::Assistant } else { Role::Other }
                }
            };
            self.push(role, &said);
        }
        refers
    }

    /// The `input` of an embeddings request or the `prompt` of Completions: a string, or an array of
    /// strings or of token ids. Tells how many there are.
    pub(crate) fn input(&mut self, raw: &RawValue) -> u32 {
        let mut said = Said::default();
        let mut count = 0;
        match read(Some(raw)) {
            Text(Some(text)) => said.text(text),
            Text(None) => {
                for raw in list::<&RawValue>(Some(raw)) {
                    match read(Some(raw)) {
                        Text(Some(text)) => {
                            count += 1;
                            said.text(text);
                        }
                        // Token ids: as written they have about as many bytes as their words.
                        Text(None) => {
                            count += u32::from(raw.get().starts_with('['));
                            said.text_bytes += raw.get().len() as u64;
                            said.raw(raw);
                        }
                    }
                }
            }
        }
        self.push(Role::User, &said);
        count.max(1)
    }

    /// Gemini's `contents`: who said which parts.
    pub(crate) fn contents(&mut self, raw: &RawValue) {
        for raw in list::<&RawValue>(Some(raw)).into_iter().take(MAX_MESSAGES) {
            let content: Content<'_> = read(Some(raw));
            let (said, of_tool) = gemini_said(content.parts);
            let role = match content.role.as_deref() {
                Some("model") => Role::Assistant,
                Some("function" | "tool") => Role::Tool,
                Some("user") | None if of_tool => Role::Tool,
                Some("user") | None => Role::User,
                Some(_) => Role::Other,
            };
            self.push(role, &said);
        }
    }

    /// Gemini's `systemInstruction`: parts, or a string.
    pub(crate) fn gemini_system(&mut self, raw: &RawValue) {
        let content: Content<'_> = read(Some(raw));
        let mut said = gemini_said(content.parts).0;
        if let Text(Some(text)) = read(Some(raw)) {
            said.text(text);
        }
        self.push(Role::System, &said);
    }

    /// Tells whether the provider itself runs one of them.
    pub(crate) fn tools(&mut self, raw: &RawValue) -> bool {
        self.shape.tool_schema_bytes = raw.get().len() as u64;
        let tools = list::<Tool<'_>>(Some(raw));
        let runs = tools.iter().any(|tool| {
            tool.kind.as_deref().is_some_and(|kind| !matches!(kind, "function" | "custom"))
        });
        let tools = tools.into_iter().take(MAX_TOOLS);
        self.shape.tools =
            tools.filter_map(|tool| tool.function.name.owned().or(tool.name.owned())).collect();
        runs
    }

    /// Gemini's tools: lists of functions, and tools of its own. Tells whether there are such.
    pub(crate) fn gemini_tools(&mut self, raw: &RawValue) -> bool {
        self.shape.tool_schema_bytes = raw.get().len() as u64;
        let mut runs = false;
        for raw in list::<&RawValue>(Some(raw)).into_iter().take(MAX_TOOLS) {
            let Ok(Members(members)) = serde_json::from_str(raw.get()) else { continue };
            for member in members {
                if !matches!(&*member.key, "functionDeclarations" | "function_declarations") {
                    runs = true;
                    continue;
                }
                for function in list::<Named<'_>>(Some(member.value)) {
                    let room = self.shape.tools.len() < MAX_TOOLS;
                    self.shape.tools.extend(function.name.owned().filter(|_| room));
                }
            }
        }
        runs
    }

    fn push(&mut self, role: Role, said: &Said<'_>) {
        let pieces: Vec<&[u8]> = said.pieces.iter().map(AsRef::as_ref).collect();
        let content = self.key.fingerprint(&pieces);
        let before = self.chain.0.to_le_bytes();
        self.chain = self.key.fingerprint(&[&before, &[role.number()], &content.0.to_le_bytes()]);
        if matches!(role, Role::System | Role::Developer) && self.shape.messages.len() < 2 {
            for piece in &pieces {
                let room = ROUTE_PREFIX.saturating_sub(self.system.len());
                self.system.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
        self.shape.messages.push(MessageShape {
            role,
            text_bytes: said.text_bytes,
            media: said.media,
            content,
            chain: self.chain,
        });
    }

    /// The shape, and the route that an unlabelled caller gets: named by the start of its system
    /// prompt and its tools, `None` when it has neither.
    pub(crate) fn finish(self) -> (PromptShape, Option<String>) {
        let mut parts: Vec<&[u8]> = vec![b"route", &self.system];
        parts.extend(self.shape.tools.iter().map(String::as_bytes));
        let named = !self.system.is_empty() || !self.shape.tools.is_empty();
        let route = named.then(|| format!("auto-{:08x}", self.key.fingerprint(&parts).0 >> 32));
        (self.shape, route)
    }
}

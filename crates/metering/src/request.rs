//! Requests: read once, changed by splicing alone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use facts::{Api, PromptShape};
use quantity::{HashKey, TokenCount};
use serde_json::value::RawValue;

use crate::contained::{Reading, contained};
use crate::json::{Members, Text, list, read};
use crate::prompt::{self, PromptReader};

mod fields;

use fields::{Fields, Spelling};

/// What a request asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The API it came by.
    pub api: Api,
    /// The model; `None` where the API has none.
    pub model: Option<String>,
    /// Whether the reply is to be a stream.
    pub stream: bool,
    /// The cap on output tokens.
    pub max_tokens: Option<TokenCount>,
    /// Choices (`n`).
    pub choices: Option<u32>,
    /// The service tier.
    pub tier: Option<String>,
    /// The end user that the API's own fields name.
    pub user: Option<String>,
    /// Labels among the request's `metadata`: keys that begin with `farthing_`, without it.
    pub metadata: Vec<(String, String)>,
    /// The prompt, without its words.
    pub prompt: PromptShape,
    /// The route for a caller that names none.
    pub derived_route: Option<String>,
    /// Whether the client itself asked for the usage chunk of a stream.
    pub usage_asked: bool,
    /// Whether its bytes and caps bound what it can consume: nothing that the provider keeps, looks
    /// up or runs comes on top.
    pub bounded: bool,
    /// Whether describing the prompt broke down: then its shape is one message as large as the body.
    pub undescribed: bool,
    /// Whether the body names further models that may answer instead, as OpenRouter's API allows.
    pub more_models: bool,
    /// Where the body names the model, and what stands before the name there.
    model_at: Option<(Range<usize>, &'static str)>,
    ask_usage: Option<Splice>,
}

/// A replacement of a stretch of the body; an empty stretch is an insertion.
#[derive(Debug, Clone)]
struct Splice {
    at: Range<usize>,
    with: &'static str,
}

/// A request that is refused, in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, or not an object.
    #[error("expected the body to be a JSON object of at most 65,536 members: {0}")]
    NotJson(String),
    /// A key that we read stands twice: we and the upstream might read different ones.
    #[error("the key `{0}` stands twice in the body; expected it once")]
    Duplicate(String),
    /// A key that we read is spelled in a way that another parser may read differently.
    #[error(
        "the key `{0}` is spelled as `{1}`; expected it plain, in lower case and without escapes"
    )]
    Disguised(&'static str, String),
    /// Something that cannot be metered yet is asked for.
    #[error("{0}")]
    Unmetered(&'static str),
    /// A field is missing.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field is of the wrong type.
    #[error("expected `{0}` to be {1}, found `{2}`")]
    WrongType(&'static str, &'static str, String),
    /// Reading it broke down, which is a bug of ours.
    #[error("reading the request broke down, which is a bug of the gateway's")]
    Failed,
}

/// Members of `metadata` that are looked at: OpenAI takes 16.
const MAX_METADATA: usize = 64;
/// A label's name: OpenAI takes keys of 64.
const MAX_METADATA_KEY: usize = 64;

/// The keys that decide what we do; each may stand once and only in its plain spelling.
const KEYS: &[&str] = &[
    "model",
    "models",
    "stream",
    "stream_options",
    "messages",
    "input",
    "system",
    "tools",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "instructions",
    "prompt",
    "background",
    "previous_response_id",
    "conversation",
    "service_tier",
    "metadata",
    "user",
];

/// Those of Gemini, whose path names the model.
const GEMINI_KEYS: &[&str] = &[
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "labels",
];
/// Those that hold the prompt.
const PROMPT_KEYS: &[&str] = &[
    "messages",
    "input",
    "system",
    "tools",
    "instructions",
    "prompt",
    "contents",
    "systemInstruction",
];
const GEMINI_CONFIG_KEYS: &[&str] = &["maxOutputTokens", "candidateCount", "responseModalities"];

impl Request {
    /// Reads the body of a request of an API whose body names the model. `key` is the data
    /// directory's secret for fingerprints.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is no JSON object, that has no model where its API needs one,
    /// or in which we might read something else than the upstream does.
    pub fn read(api: Api, body: &[u8], key: &HashKey) -> Result<Self, RequestError> {
        Self::read_at(api, "", body, key)
    }

    /// Reads a request; `path` is that below the base URL, in which some APIs name the model.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_at(api: Api, path: &str, body: &[u8], key: &HashKey) -> Result<Self, RequestError> {
        let mut request = Self {
            api,
            model: None,
            stream: false,
            max_tokens: None,
            choices: None,
            tier: None,
            user: None,
            metadata: Vec::new(),
            prompt: PromptShape::default(),
            derived_route: None,
            usage_asked: false,
            bounded: true,
            undescribed: false,
            more_models: false,
            model_at: None,
            ask_usage: None,
        };
        if api == Api::Unmetered {
            request.bounded = false;
            return Ok(request);
        }
        if api.only_shows() {
            return Ok(request);
        }
        if let Some(read) =
            contained(Reading::Request, || request.clone().read_whole(path, body, key))
        {
            return read;
        }
        // What it asks for must be known; what its prompt looks like need not be.
        request.undescribed = true;
        let read = contained(Reading::Request, || request.read_whole(path, body, key));
        let mut request = read.unwrap_or(Err(RequestError::Failed))?;
        request.bounded = false;
        request.prompt = prompt::undescribed(body, key);
        Ok(request)
    }

    fn read_whole(mut self, path: &str, body: &[u8], key: &HashKey) -> Result<Self, RequestError> {
        // The place alone: the error's own words may quote the prompt.
        let not_json = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            RequestError::NotJson(format!("it breaks at line {line}, column {column}"))
        };
        let members: Members<'_> = serde_json::from_slice(body).map_err(not_json)?;
        let mut prompt = PromptReader::new(key);
        let gemini = matches!(self.api, Api::GeminiGenerate | Api::GeminiCountTokens);
        let mut fields = match gemini {
            true => Fields::pick(members, GEMINI_KEYS, Spelling::Google)?,
            false => Fields::pick(members, KEYS, Spelling::Plain)?,
        };
        if self.undescribed {
            fields.leave_out(PROMPT_KEYS);
        }
        if gemini {
            self.read_gemini(path, body, &fields, &mut prompt)?;
        } else {
            self.read_body(body, &fields, &mut prompt)?;
        }
        (self.prompt, self.derived_route) = prompt.finish();
        Ok(self)
    }

    fn read_body(
        &mut self,
        body: &[u8],
        fields: &Fields<'_>,
        prompt: &mut PromptReader<'_>,
    ) -> Result<(), RequestError> {
        let get = |key| fields.get(key);
        self.read_model(body, get("model"))?;
        self.more_models = fields.has("models");
        self.stream = fields.flag("stream")?;
        if self.stream && matches!(self.api, Api::OpenAiChat | Api::OpenAiCompletions) {
            self.read_stream(body, get("stream"), get("stream_options"))?;
        }
        self.max_tokens = fields.count("max_completion_tokens").or(fields.count("max_tokens"));
        self.choices = fields.count("n").and_then(|n| u32::try_from(n.get()).ok());
        self.tier = fields.text("service_tier");
        self.read_metadata(get("metadata"));
        self.user = self.user.take().or(fields.text("user"));

        // Tools first and system before messages: the order in which models see them.
        if let Some(tools) = get("tools") {
            self.bounded &= !prompt.tools(tools);
        }
        match self.api {
            Api::OpenAiResponses => {
                if fields.flag("background")? {
                    return Err(RequestError::Unmetered(
                        "background responses are not metered yet: expected `background` to be \
                         absent or false, and the reply waited for or streamed",
                    ));
                }
                self.max_tokens = fields.count("max_output_tokens");
                self.bounded &= !["previous_response_id", "conversation", "prompt"]
                    .iter()
                    .any(|k| fields.has(k));
                if let Some(instructions) = get("instructions") {
                    prompt.system(instructions);
                }
                if let Some(input) = get("input") {
                    self.bounded &= !prompt.items(input);
                }
            }
            Api::OpenAiCompletions => {
                let prompts = get("prompt").map_or(1, |raw| prompt.input(raw));
                let n = self.choices.unwrap_or(1);
                self.choices = (prompts > 1).then(|| n.saturating_mul(prompts)).or(self.choices);
                self.bounded &= !fields.has("best_of");
            }
            Api::OpenAiEmbeddings => {
                if let Some(input) = get("input") {
                    prompt.input(input);
                }
            }
            _ => {
                if let Some(system) = get("system") {
                    prompt.system(system);
                }
                if let Some(messages) = get("messages") {
                    prompt.messages(messages);
                }
            }
        }
        Ok(())
    }

    fn read_gemini(
        &mut self,
        path: &str,
        body: &[u8],
        fields: &Fields<'_>,
        prompt: &mut PromptReader<'_>,
    ) -> Result<(), RequestError> {
        let (model, method) = gemini_method(path).ok_or(RequestError::Missing("model"))?;
        self.model = Some(model.to_owned());
        self.stream = method == "streamGenerateContent";
        if let Some(raw) = fields.get("model") {
            // The path decides; a body that names another would mislead one of us.
            const PREFIX: &str = "models/";
            let named = read::<Text<'_>>(Some(raw)).owned().unwrap_or_default();
            let prefix = if named.starts_with(PREFIX) { PREFIX } else { "" };
            if named[prefix.len()..] != *model {
                let found = shown(raw);
                return Err(RequestError::WrongType("model", "the model of the path", found));
            }
            self.model_at = Some((position(body, raw.get()), prefix));
        }
        let config = fields.inside("generationConfig", GEMINI_CONFIG_KEYS, Spelling::Google)?;
        self.max_tokens = config.count("maxOutputTokens");
        let choices = config.count("candidateCount");
        self.choices = choices.and_then(|count| u32::try_from(count.get()).ok());
        self.tier = fields.text("serviceTier");
        self.read_metadata(fields.get("labels"));
        let modalities = list::<Text<'_>>(config.get("responseModalities"));
        let only_text = modalities.iter().all(|one| one.as_deref() == Some("TEXT"));
        self.bounded = only_text && !fields.has("cachedContent");
        if let Some(tools) = fields.get("tools") {
            self.bounded &= !prompt.gemini_tools(tools);
        }
        if let Some(system) = fields.get("systemInstruction") {
            prompt.gemini_system(system);
        }
        if let Some(contents) = fields.get("contents") {
            prompt.contents(contents);
        }
        Ok(())
    }

    fn read_model(&mut self, body: &[u8], raw: Option<&RawValue>) -> Result<(), RequestError> {
        let raw = raw.ok_or(RequestError::Missing("model"))?;
        let wrong = || RequestError::WrongType("model", "a name", shown(raw));
        self.model = Some(read::<Text<'_>>(Some(raw)).owned().ok_or_else(wrong)?);
        self.model_at = Some((position(body, raw.get()), ""));
        Ok(())
    }

    fn read_stream(
        &mut self,
        body: &[u8],
        stream: Option<&RawValue>,
        options: Option<&RawValue>,
    ) -> Result<(), RequestError> {
        let Some(raw) = stream else { return Ok(()) };
        const OPTIONS: &str = r#"{"include_usage":true}"#;
        let Some(options) = options else {
            let end = position(body, raw.get()).end;
            let with = r#","stream_options":{"include_usage":true}"#;
            self.ask_usage = Some(Splice { at: end..end, with });
            return Ok(());
        };
        let at = position(body, options.get());
        if options.get() == "null" {
            self.ask_usage = Some(Splice { at, with: OPTIONS });
            return Ok(());
        }
        let Ok(Members(members)) = serde_json::from_str(options.get()) else {
            let found = shown(options);
            return Err(RequestError::WrongType("stream_options", "an object", found));
        };
        let mut named =
            members.iter().filter(|member| member.key.eq_ignore_ascii_case("include_usage"));
        match (named.next(), named.next()) {
            (None, _) if members.is_empty() => {
                self.ask_usage = Some(Splice { at, with: OPTIONS });
            }
            (None, _) => {
                let inside = at.start + 1;
                let with = r#""include_usage":true,"#;
                self.ask_usage = Some(Splice { at: inside..inside, with });
            }
            (Some(member), None) if member.escaped || member.key != "include_usage" => {
                let spelled = member.key.escape_default().to_string();
                return Err(RequestError::Disguised("include_usage", spelled));
            }
            (Some(member), None) => {
                self.usage_asked = member.value.get() == "true";
                if !self.usage_asked {
                    let at = position(body, member.value.get());
                    self.ask_usage = Some(Splice { at, with: "true" });
                }
            }
            (Some(_), Some(_)) => {
                return Err(RequestError::Duplicate("include_usage".to_owned()));
            }
        }
        Ok(())
    }

    fn read_metadata(&mut self, raw: Option<&RawValue>) {
        let Some(Members(members)) = raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        else {
            return;
        };
        for member in members.into_iter().take(MAX_METADATA) {
            let Some(value) = read::<Text<'_>>(Some(member.value)).owned() else { continue };
            match member.key.strip_prefix("farthing_") {
                Some(label) if label.len() > MAX_METADATA_KEY => {}
                Some(label) => self.metadata.push((label.to_owned(), value)),
                None if member.key == "user_id" => self.user = Some(value),
                None => {}
            }
        }
    }

    /// The body as the upstream shall see it: with another name for the model, and asking for the
    /// usage of a stream where the client did not. Every other byte stays.
    #[must_use]
    pub fn rewrite(&self, body: &Bytes, model: Option<&str>, ask_usage: bool) -> Bytes {
        let mut splices: Vec<(Range<usize>, Cow<'_, str>)> = Vec::new();
        if let Some(model) = model.filter(|model| self.model.as_deref() != Some(model))
            && let Some((at, prefix)) = &self.model_at
        {
            let quoted = serde_json::Value::from(format!("{prefix}{model}")).to_string();
            splices.push((at.clone(), Cow::Owned(quoted)));
        }
        if let Some(splice) = self.ask_usage.as_ref().filter(|_| ask_usage) {
            splices.push((splice.at.clone(), Cow::Borrowed(splice.with)));
        }
        if splices.is_empty() {
            return body.clone();
        }
        splices.sort_by_key(|(at, _)| at.start);
        let mut out = Vec::with_capacity(body.len() + 64);
        let mut from = 0;
        for (at, with) in splices {
            out.extend_from_slice(&body[from..at.start]);
            out.extend_from_slice(with.as_bytes());
            from = at.end;
        }
        out.extend_from_slice(&body[from..]);
        Bytes::from(out)
    }

    /// The path as the upstream shall see it: with another name for the model, where the API names it
    /// there.
    #[must_use]
    pub fn rewrite_path<'p>(&self, path: &'p str, model: Option<&str>) -> Cow<'p, str> {
        let renamed = model.filter(|model| self.model.as_deref() != Some(model));
        let named_there = matches!(self.api, Api::GeminiGenerate | Api::GeminiCountTokens);
        match (renamed, gemini_method(path)) {
            (Some(model), Some((_, method))) if named_there => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/@".contains(&b);
                let mut out = "/models/".to_owned();
                for byte in model.bytes() {
                    if plain(byte) {
                        out.push(char::from(byte));
                    } else {
                        out += &format!("%{byte:02X}");
                    }
                }
                Cow::Owned(format!("{out}:{method}"))
            }
            _ => Cow::Borrowed(path),
        }
    }

    /// Whether the usage chunk of the stream is ours to take out again.
    #[must_use]
    pub fn strips_usage(&self, asked: bool) -> bool {
        asked && self.ask_usage.is_some()
    }

    /// Input tokens expected from the bytes of text: four to a token, the usual rule of thumb for
    /// English.
    #[must_use]
    pub fn input_estimate(&self) -> TokenCount {
        TokenCount::new(self.prompt.text_bytes().div_ceil(4)).unwrap_or_default()
    }
}

/// The model and the method that a path of Gemini's names: `/models/gemini-3-pro:generateContent`.
fn gemini_method(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/models/")?.rsplit_once(':').filter(|(model, _)| !model.is_empty())
}

/// Where a slice of the body stands in it.
fn position(body: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    start..start + part.len()
}

fn shown(raw: &RawValue) -> String {
    raw.get().chars().take(40).collect()
}

#[cfg(test)]
mod tests;

//! Requests: read once, changed by splicing alone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use facts::{Api, PromptShape};
use quantity::{HashKey, TokenCount};
use serde_json::value::RawValue;

use crate::json::{Count, Members, Text, read};
use crate::prompt::PromptReader;

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
    model_at: Range<usize>,
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
    #[error("expected the body to be a JSON object: {0}")]
    NotJson(String),
    /// A key that we read stands twice: we and the upstream might read different ones.
    #[error("the key `{0}` stands twice in the body; expected it once")]
    Duplicate(String),
    /// A key that we read is spelled in a way that another parser may read differently.
    #[error(
        "the key `{0}` is spelled as `{1}`; expected it plain, in lower case and without escapes"
    )]
    Disguised(&'static str, String),
    /// A field is missing.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field is of the wrong type.
    #[error("expected `{0}` to be {1}, found `{2}`")]
    WrongType(&'static str, &'static str, String),
}

/// Members of `metadata` that are looked at: OpenAI takes 16.
const MAX_METADATA: usize = 64;
/// A label's name: OpenAI takes keys of 64.
const MAX_METADATA_KEY: usize = 64;

/// The keys that decide what we do; each may stand once and only in its plain spelling.
const KEYS: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "messages",
    "input",
    "system",
    "tools",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "service_tier",
    "metadata",
    "user",
];

impl Request {
    /// Reads the body of a request. `key` is the data directory's secret for fingerprints.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is no JSON object, that has no model where its API needs one,
    /// or in which we might read something else than the upstream does.
    pub fn read(api: Api, body: &[u8], key: &HashKey) -> Result<Self, RequestError> {
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
            model_at: 0..0,
            ask_usage: None,
        };
        if api == Api::OpenAiModels {
            return Ok(request);
        }
        // The place alone: the error's own words may quote the prompt.
        let not_json = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            RequestError::NotJson(format!("it breaks at line {line}, column {column}"))
        };
        let Members(members) = serde_json::from_slice(body).map_err(not_json)?;
        let mut found: [Option<&RawValue>; KEYS.len()] = [None; KEYS.len()];
        for member in members {
            let Some(index) = KEYS.iter().position(|key| key.eq_ignore_ascii_case(&member.key))
            else {
                continue;
            };
            if member.escaped || member.key != KEYS[index] {
                let spelled = member.key.escape_default().to_string();
                return Err(RequestError::Disguised(KEYS[index], spelled));
            }
            if found[index].replace(member.value).is_some() {
                return Err(RequestError::Duplicate(member.key.into_owned()));
            }
        }
        let get = |key: &str| found[KEYS.iter().position(|k| *k == key).expect("a known key")];
        request.read_model(body, get("model"))?;
        request.read_stream(body, get("stream"), get("stream_options"))?;
        let count = |key| read::<Count>(get(key)).get();
        request.max_tokens = count("max_completion_tokens").or(count("max_tokens"));
        request.choices = count("n").and_then(|n| u32::try_from(n.get()).ok());
        request.tier = read::<Text<'_>>(get("service_tier")).owned();
        request.read_metadata(get("metadata"));
        request.user = request.user.take().or(read::<Text<'_>>(get("user")).owned());

        let mut prompt = PromptReader::new(key);
        // Tools first and system before messages: the order in which models see them.
        if let Some(tools) = get("tools") {
            prompt.tools(tools);
        }
        if let Some(system) = get("system") {
            prompt.system(system);
        }
        if let Some(messages) = get("messages") {
            prompt.messages(messages);
        }
        if let Some(input) = get("input") {
            prompt.input(input);
        }
        (request.prompt, request.derived_route) = prompt.finish();
        Ok(request)
    }

    fn read_model(&mut self, body: &[u8], raw: Option<&RawValue>) -> Result<(), RequestError> {
        let raw = raw.ok_or(RequestError::Missing("model"))?;
        let wrong = || RequestError::WrongType("model", "a name", shown(raw));
        self.model = Some(read::<Text<'_>>(Some(raw)).owned().ok_or_else(wrong)?);
        self.model_at = position(body, raw.get());
        Ok(())
    }

    fn read_stream(
        &mut self,
        body: &[u8],
        stream: Option<&RawValue>,
        options: Option<&RawValue>,
    ) -> Result<(), RequestError> {
        let Some(raw) = stream else { return Ok(()) };
        self.stream = match raw.get() {
            "true" => true,
            "false" | "null" => false,
            _ => {
                return Err(RequestError::WrongType("stream", "true or false", shown(raw)));
            }
        };
        if !self.stream || self.api != Api::OpenAiChat {
            return Ok(());
        }
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
        if let Some(model) = model.filter(|model| self.model.as_deref() != Some(model)) {
            let quoted = serde_json::Value::from(model).to_string();
            splices.push((self.model_at.clone(), Cow::Owned(quoted)));
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

/// Where a slice of the body stands in it.
fn position(body: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    start..start + part.len()
}

fn shown(raw: &RawValue) -> String {
    raw.get().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Request, RequestError> {
        Request::read(Api::OpenAiChat, body.as_bytes(), &HashKey::new([7; 32]))
    }

    #[track_caller]
    fn rewritten(body: &str, model: Option<&str>, expected: &str) {
        let out = chat(body).unwrap().rewrite(&Bytes::from(body.to_owned()), model, true);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }

    #[test]
    fn splices_change_nothing_else() {
        rewritten(
            r#"{ "model" : "a", "stream":true ,"x":[1, 2.50]}"#,
            Some("b\"c"),
            r#"{ "model" : "b\"c", "stream":true,"stream_options":{"include_usage":true} ,"x":[1, 2.50]}"#,
        );
        rewritten(r#"{"model":"a","stream":false}"#, Some("a"), r#"{"model":"a","stream":false}"#);
        rewritten(
            r#"{"stream_options": {"include_obfuscation":false},"model":"a","stream":true}"#,
            None,
            r#"{"stream_options": {"include_usage":true,"include_obfuscation":false},"model":"a","stream":true}"#,
        );
        rewritten(
            r#"{"stream_options":{"include_usage" : false},"model":"a","stream":true}"#,
            None,
            r#"{"stream_options":{"include_usage" : true},"model":"a","stream":true}"#,
        );
        for options in ["{}", "null", "{ }"] {
            rewritten(
                &format!(r#"{{"model":"a","stream":true,"stream_options":{options}}}"#),
                None,
                r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#,
            );
        }
        rewritten(
            r#"{"stream_options":{"include_usage":null},"model":"a","stream":true}"#,
            None,
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
        );
    }

    #[test]
    fn a_client_that_asks_for_usage_keeps_its_chunk() {
        let asked = chat(r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#);
        let asked = asked.unwrap();
        assert!(asked.usage_asked && !asked.strips_usage(true));
        let silent = chat(r#"{"model":"a","stream":true}"#).unwrap();
        assert!(!silent.usage_asked && silent.strips_usage(true) && !silent.strips_usage(false));
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        use RequestError::{Disguised, Duplicate, Missing, NotJson, WrongType};
        let error = |body: &str| chat(body).unwrap_err();
        assert_eq!(error(r#"{"model":"a","model":"b"}"#), Duplicate("model".into()));
        assert_eq!(error(r#"{"mod\u0065l":"a"}"#), Disguised("model", "model".into()));
        assert_eq!(error(r#"{"model":"a","Stream":true}"#), Disguised("stream", "Stream".into()));
        assert_eq!(error(r#"{"stream":true}"#), Missing("model"));
        assert!(matches!(error(r#"{"model":7}"#), WrongType("model", ..)));
        assert!(matches!(error(r#"{"model":"a","stream":"true"}"#), WrongType("stream", ..)));
        let options = |o: &str| format!(r#"{{"model":"a","stream":true,"stream_options":{o}}}"#);
        let twice = options(r#"{"include_usage":true,"include_usage":false}"#);
        assert_eq!(error(&twice), Duplicate("include_usage".into()));
        let disguised = options(r#"{"include_usag\u0065":true}"#);
        assert!(matches!(error(&disguised), Disguised("include_usage", _)));
        assert!(matches!(error(&options("3")), WrongType("stream_options", ..)));
        for body in ["", "[]", "{", "{}x", "\u{feff}{}", r#"{"model":"a",}"#] {
            assert!(matches!(error(body), NotJson(_)), "{body}");
        }
    }

    #[test]
    fn a_prompt_is_described_without_its_words() {
        let key = HashKey::new([7; 32]);
        let read =
            |body: &str| Request::read(Api::AnthropicMessages, body.as_bytes(), &key).unwrap();
        let first = read(
            r#"{"model":"c","max_tokens":9,"system":"be kind","metadata":{"user_id":"u1"},
                "tools":[{"name":"search","input_schema":{}}],
                "messages":[{"role":"user","content":"hello"}]}"#,
        );
        let second = read(
            r#"{"model":"c","max_tokens":9,"system":[{"type":"text","text":"be kind",
                "cache_control":{"type":"ephemeral"}}],"tools":[{"name":"search","input_schema":{}}],
                "messages":[{"role":"user","content":[{"type":"text","text":"hello"}]},
                {"role":"assistant","content":"hi"},
                {"role":"user","content":[{"type":"image","source":{"data":"AAAA"}}]}]}"#,
        );
        let (a, b) = (&first.prompt.messages, &second.prompt.messages);
        assert_eq!(a[..], b[..2], "a turn more keeps the prefix");
        assert_eq!((b[3].text_bytes, b[3].media), (0, 1));
        assert_eq!(first.prompt.tools, ["search"]);
        assert_eq!(first.user.as_deref(), Some("u1"));
        assert_eq!(first.derived_route, second.derived_route);
        assert!(first.derived_route.as_deref().unwrap().starts_with("auto-"));
        assert!(!format!("{first:?}").contains("kind"));
    }

    #[test]
    fn a_refusal_quotes_nothing_of_the_prompt() {
        for body in [r#""a secret prompt""#, r#"{"a secret prompt"}"#, "a secret prompt"] {
            let error = chat(body).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_read_or_passed_over() {
        let deep = |open: &str, close: &str| open.repeat(50_000) + "1" + &close.repeat(50_000);
        let part = deep(r#"[{"type":"tool_result","content":"#, "}]");
        for value in [deep("[", "]"), deep(r#"{"a":"#, "}"), part] {
            let message = format!(r#"{{"role":"user","content":{value}}}"#);
            let body = format!(r#"{{"model":"a","messages":[{message}],"tools":{value}}}"#);
            let request = chat(&body).unwrap();
            assert_eq!(request.prompt.messages.len(), 1);
            assert_eq!(request.rewrite(&Bytes::from(body.clone()), None, false), body);
        }
    }

    #[test]
    fn token_ids_are_told_apart_and_counted() {
        let key = HashKey::new([7; 32]);
        let read = |input: &str| {
            let body = format!(r#"{{"model":"e","input":{input}}}"#);
            let request = Request::read(Api::OpenAiEmbeddings, body.as_bytes(), &key).unwrap();
            (request.prompt.messages[0].content, request.input_estimate())
        };
        let (one, other) = (read("[1200,34,5]"), read("[1200,34,6]"));
        assert_ne!(one.0, other.0);
        assert_eq!(one.1, TokenCount::from(2));
        assert_ne!(read("[[1],[2]]").0, read("[[1],[3]]").0);
    }

    #[test]
    fn metadata_labels_are_read() {
        let body =
            r#"{"model":"a","metadata":{"farthing_route":"chat","farthing_x":7,"other":"y"}}"#;
        assert_eq!(chat(body).unwrap().metadata, [("route".to_owned(), "chat".to_owned())]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(0_u8..=255, 0..200)) {
            let _ = Request::read(Api::OpenAiChat, &body, &HashKey::new([7; 32]));
        }

        #[test]
        fn a_rewritten_body_says_the_same_but_for_what_was_spliced(
            before in "[a-z]{0,8}", stream: bool, spaces in "[ \n\t]{0,3}",
        ) {
            let body = format!(
                r#"{{"k":"{before}",{spaces}"model"{spaces}:{spaces}"a","stream":{spaces}{stream}{spaces}}}"#
            );
            let out = chat(&body).unwrap().rewrite(&Bytes::from(body.clone()), Some("b"), true);
            let mut out: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
            expected["model"] = "b".into();
            if stream {
                let options = out.as_object_mut().unwrap().remove("stream_options").unwrap();
                proptest::prop_assert_eq!(options, serde_json::json!({"include_usage": true}));
            }
            proptest::prop_assert_eq!(out, expected);
        }
    }
}

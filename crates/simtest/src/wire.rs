//! Upstreams and their bytes: requests, and replies whose true usage is known.

use std::ops::Range;

use facts::Api;
use metering::Convention;
use quantity::{TokenClass, TokenCount, Unit, Usage};
use workload::Random;

use crate::plan::WireFaults;

/// One request and what the upstream will do with it.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) api: Api,
    pub(crate) convention: Convention,
    pub(crate) upstream: &'static str,
    pub(crate) provider: Option<&'static str>,
    pub(crate) request: Vec<u8>,
    /// The model that the upstream is asked for; the client calls it otherwise.
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the client itself asked for the usage of the stream.
    pub(crate) client_asks: bool,
    choices: u32,
    pub(crate) contact: Contact,
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    /// How many bytes of the body come, and what then.
    pub(crate) comes: usize,
    pub(crate) then: Then,
    /// What the request truly consumed, if the whole reply is told.
    pub(crate) truth: Usage,
    pub(crate) model_served: String,
    pub(crate) tier: Option<&'static str>,
    /// Where the body has told the whole truth.
    pub(crate) told: Option<Mark>,
    /// Where each piece of output ends: at least a token each.
    pub(crate) pieces: Vec<usize>,
    /// Where the terminal event of a stream ends, and whether it is an error.
    pub(crate) terminal: Option<Mark>,
    pub(crate) fails: bool,
    /// Chunks that carry usage alone: not for a client that did not ask.
    pub(crate) usage_chunks: Vec<Range<usize>>,
}

/// Whether the upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    Reached,
    Unreachable,
    /// It takes the request and breaks off before the head of a reply.
    BreaksOff,
}

/// What follows the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    End,
    Reset,
    /// Nothing more comes; a time limit of the gateway ends it.
    Stall,
}

/// A place in a body that a reader may understand at `may`, and must at `must`: the line ends lie
/// between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) may: usize,
    pub(crate) must: usize,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    upstream: &'static str,
    convention: Convention,
    provider: Option<&'static str>,
    /// Whether its cache and reasoning are told.
    details: bool,
    anthropic: bool,
}

const fn kind(
    upstream: &'static str,
    convention: Convention,
    provider: Option<&'static str>,
    details: bool,
    anthropic: bool,
) -> Kind {
    Kind { upstream, convention, provider, details, anthropic }
}

const KINDS: &[Kind] = &[
    kind("openai", Convention::OpenAi, Some("openai"), true, false),
    kind("anthropic", Convention::Anthropic, Some("anthropic"), true, true),
    kind("deepseek", Convention::DeepSeek, Some("deepseek"), true, false),
    kind("xai", Convention::XAi, Some("x-ai"), true, false),
    kind("mistral", Convention::Mistral, Some("mistral"), false, false),
    kind("vllm", Convention::Vllm, Some("openai"), false, false),
    kind("own", Convention::LlamaCpp, None, false, false),
    kind("own", Convention::LlamaCpp, None, false, true),
];

const WORDS: &[&str] = &[
    "the",
    " cat",
    " caf\u{e9}",
    "\\n\\ndata: [DONE]",
    " \\\"usage\\\"",
    " \u{1f600}",
    "x",
    " \\u00e9",
];

/// Draws a request and its reply.
pub(crate) fn draw(random: &mut Random, faults: &WireFaults) -> Wire {
    // The two that most use come twice as often.
    let kind = KINDS[[0, 0, 1, 1, 2, 3, 4, 5, 6, 7][random.index(10)]];
    let api = match kind.anthropic {
        true => Api::AnthropicMessages,
        false if kind.convention == Convention::OpenAi && random.chance(0.1) => {
            Api::OpenAiEmbeddings
        }
        false => Api::OpenAiChat,
    };
    let stream = api != Api::OpenAiEmbeddings && random.chance(0.75);
    let model = if random.chance(0.05) { "nobody-knows" } else { "alpha" };
    let named = if random.chance(0.3) { "nickname" } else { model };
    let choices: u32 = if kind.upstream == "openai" && random.chance(0.2) { 2 } else { 1 };
    let client_asks = stream && !kind.anthropic && random.chance(0.3);
    let ask = Ask {
        api,
        request: request(random, api, named, stream, client_asks, choices),
        stream,
        client_asks,
        choices,
    };
    reply(random, faults, kind, model, ask)
}

/// Draws what another upstream does with the same request.
pub(crate) fn draw_again(random: &mut Random, faults: &WireFaults, first: &Wire) -> Wire {
    let anthropic = first.api == Api::AnthropicMessages;
    let same = |kind: &&Kind| match first.api {
        Api::OpenAiEmbeddings => kind.upstream == "openai",
        _ => kind.anthropic == anthropic,
    };
    let kinds: Vec<&Kind> = KINDS.iter().filter(same).collect();
    let kind = *kinds[random.index(kinds.len())];
    let ask = Ask {
        api: first.api,
        request: first.request.clone(),
        stream: first.stream,
        client_asks: first.client_asks,
        choices: first.choices,
    };
    reply(random, faults, kind, &first.model, ask)
}

/// What a client asks.
struct Ask {
    api: Api,
    request: Vec<u8>,
    stream: bool,
    client_asks: bool,
    choices: u32,
}

fn reply(random: &mut Random, faults: &WireFaults, kind: Kind, model: &str, ask: Ask) -> Wire {
    let Ask { api, request, stream, client_asks, choices } = ask;
    let tiered = kind.upstream == "openai" && api == Api::OpenAiChat;
    let tiers = [None, Some("default"), Some("priority"), Some("flex")];
    let served = if random.chance(0.3) { format!("{model}-2026-01-02") } else { model.to_owned() };
    let mut wire = Wire {
        api,
        convention: kind.convention,
        upstream: kind.upstream,
        provider: kind.provider,
        request,
        model: model.to_owned(),
        stream,
        client_asks,
        choices,
        contact: Contact::Reached,
        status: 200,
        content_type: Some("application/json"),
        body: Vec::new(),
        comes: 0,
        then: Then::End,
        truth: Usage::default(),
        model_served: served,
        tier: if tiered { tiers[random.index(4)] } else { None },
        told: None,
        pieces: Vec::new(),
        terminal: None,
        fails: false,
        usage_chunks: Vec::new(),
    };
    if random.chance(faults.unreachable) {
        let ways = [Contact::Unreachable, Contact::BreaksOff];
        wire.contact = ways[random.index(2)];
        return wire;
    }
    if random.chance(faults.refusal) {
        wire.status = [400, 401, 429, 429, 429][random.index(5)];
        wire.body = br#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#.to_vec();
    } else if random.chance(faults.server_error) {
        wire.status = [500, 502, 503, 529][random.index(4)];
        wire.body = br#"{"error":{"type":"api_error","message":"oops"}}"#.to_vec();
    } else if random.chance(faults.html) {
        wire.status = [200, 200, 502][random.index(3)];
        wire.content_type = Some("text/html");
        wire.body = b"<html><body>data: \"usage\" {bad gateway}</body></html>\n".to_vec();
    } else {
        let writer = Writer::new(random, faults, &mut wire, kind, choices);
        match (stream, kind.anthropic) {
            (true, true) => writer.anthropic_stream(),
            (true, false) => writer.openai_stream(),
            (false, _) => writer.unary(),
        }
    }
    wire.comes = wire.body.len();
    if random.chance(faults.reset) {
        wire.comes = random.index(wire.body.len() + 1);
        wire.then = Then::Reset;
    } else if random.chance(faults.stall) {
        wire.comes = random.index(wire.body.len() + 1);
        wire.then = Then::Stall;
    }
    wire
}

fn request(
    random: &mut Random,
    api: Api,
    model: &str,
    stream: bool,
    asks: bool,
    choices: u32,
) -> Vec<u8> {
    let mut members = vec![format!(r#""model" : "{model}""#)];
    let words = "tell me more ".repeat(1 + random.index(30));
    members.push(match api {
        Api::OpenAiEmbeddings => format!(r#""input":"{words}""#),
        _ => format!(r#""messages":[{{"role":"user","content":"{words}"}}]"#),
    });
    if random.chance(0.5) && api != Api::OpenAiEmbeddings {
        members.push(format!(r#""max_tokens":{}"#, 10 + random.below(1000)));
    }
    if choices > 1 {
        members.push(format!(r#""n":{choices}"#));
    }
    if stream {
        members.push(r#""stream": true"#.to_owned());
        if asks {
            members.push(r#""stream_options":{"include_usage":true}"#.to_owned());
        } else if random.chance(0.2) && api == Api::OpenAiChat {
            let ways = ["{}", "null", r#"{"include_usage": false}"#, r#"{"x":[1]}"#];
            members.push(format!(r#""stream_options":{}"#, ways[random.index(4)]));
        }
    }
    let turn = random.index(members.len());
    members.rotate_left(turn);
    format!("{{{}}}", members.join(", ")).into_bytes()
}

/// Writes a reply and notes what it tells where.
struct Writer<'a> {
    random: &'a mut Random,
    faults: &'a WireFaults,
    wire: &'a mut Wire,
    kind: Kind,
    choices: u32,
    eol: &'static str,
    usage: bool,
}

impl<'a> Writer<'a> {
    fn new(
        random: &'a mut Random,
        faults: &'a WireFaults,
        wire: &'a mut Wire,
        kind: Kind,
        choices: u32,
    ) -> Self {
        let odd = random.chance(faults.odd_lines);
        let eol = if odd { ["\r\n", "\r"][random.index(2)] } else { "\n" };
        let usage = !random.chance(faults.no_usage);
        let mut count = |most: u64| {
            if random.chance(0.6) { random.below(most) } else { 0 }
        };
        let (read, write, hour) = (count(3000), count(500), count(500));
        let (reasoning, searches) = (count(400), count(4));
        let truth = &mut wire.truth;
        let mut set = |class, n| truth.tokens[class] = tokens(n);
        set(TokenClass::InputUncached, 1 + random.below(2000));
        if kind.details {
            set(TokenClass::CacheRead, read);
            if wire.api != Api::OpenAiEmbeddings && kind.upstream != "deepseek" {
                set(TokenClass::CacheWrite5m, write);
            }
        }
        if wire.api != Api::OpenAiEmbeddings {
            set(TokenClass::OutputText, 40 + random.below(300));
            if kind.details {
                set(TokenClass::Reasoning, reasoning);
            }
        } else {
            set(TokenClass::CacheRead, 0);
        }
        if kind.upstream == "anthropic" {
            set(TokenClass::CacheWrite1h, hour);
            truth.units[Unit::WebSearch] = tokens(searches);
        }
        Self { random, faults, wire, kind, choices, eol, usage }
    }

    fn unary(mut self) {
        let (model, usage) = (self.wire.model_served.clone(), self.usage_object(None));
        let text = self.words();
        let usage = if self.usage { format!(r#","usage":{usage}"#) } else { String::new() };
        let body = match self.wire.api {
            Api::AnthropicMessages => format!(
                r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{model}","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn"{usage}}}"#
            ),
            Api::OpenAiEmbeddings => format!(
                r#"{{"object":"list","data":[{{"embedding":[0.5,-1e-3]}}],"model":"{model}"{usage}}}"#
            ),
            _ => {
                let tier = self.tier();
                let choice = format!(
                    r#"{{"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}"#
                );
                let choices = vec![choice; self.choices as usize].join(",");
                format!(r#"{{"id":"c","model":"{model}"{tier},"choices":[{choices}]{usage}}}"#)
            }
        };
        self.wire.body = body.into_bytes();
        let may = self.wire.body.len();
        if self.random.chance(0.3) {
            self.wire.body.push(b'\n');
        }
        let must = self.wire.body.len();
        self.wire.told = self.usage.then_some(Mark { may, must });
        if self.wire.api != Api::OpenAiEmbeddings {
            self.wire.pieces.push(must);
        }
    }

    fn openai_stream(mut self) {
        self.wire.content_type = Some("text/event-stream; charset=utf-8");
        // Mistral tells usage with the last choice, unasked.
        let alone = self.kind.convention != Convention::Mistral && !self.random.chance(0.1);
        let running = self.random.chance(self.faults.running_usage) && self.usage;
        let every = 1 + self.random.below(3);
        let pieces = 1 + self.random.below(12);
        self.chunk(
            r#"[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#,
            None,
        );
        for piece in 0..pieces {
            if self.random.chance(0.1) {
                let ping = format!(": ping{0}{0}", self.eol);
                self.wire.body.extend_from_slice(ping.as_bytes());
            }
            let index = piece % u64::from(self.choices);
            let text = self.words();
            let field = if self.random.chance(0.2) { "reasoning_content" } else { "content" };
            let choice = format!(
                r#"[{{"index":{index},"delta":{{"{field}":"{text}"}},"finish_reason":null}}]"#
            );
            let told = (running && piece % every == 0).then(|| self.usage_object(Some(piece + 1)));
            let mark = self.chunk(&choice, told.as_deref());
            self.wire.pieces.push(mark.must);
            if self.random.chance(self.faults.error_event / 4.0) {
                let mark = self.event(None, r#"{"error":{"code":"overloaded","message":"x"}}"#);
                (self.wire.terminal, self.wire.fails) = (Some(mark), true);
                return;
            }
        }
        for index in 0..self.choices {
            let choice = format!(r#"[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]"#);
            let last = index + 1 == self.choices;
            let full = self.usage_object(None);
            let told = (self.usage && last && (!alone || running)).then_some(full);
            let mark = self.chunk(&choice, told.as_deref());
            if told.is_some() {
                self.wire.told.get_or_insert(mark);
            }
        }
        // Only who asks gets the extra chunk.
        if self.usage && alone {
            let repeated = self.random.chance(self.faults.repeated_usage);
            for _ in 0..if repeated { 2 } else { 1 } {
                let full = self.usage_object(None);
                let start = self.wire.body.len();
                let mark = self.chunk("[]", Some(&full));
                self.wire.usage_chunks.push(start..self.wire.body.len());
                self.wire.told.get_or_insert(mark);
            }
        }
        self.wire.terminal = Some(self.event(None, "[DONE]"));
        if self.random.chance(0.1) {
            self.wire.body.extend_from_slice(b": bye\n\n");
        }
    }

    fn anthropic_stream(mut self) {
        self.wire.content_type = Some("text/event-stream");
        let model = self.wire.model_served.clone();
        let first = self.usage && !self.random.chance(0.1);
        let usage = if first {
            format!(r#","usage":{}"#, self.usage_object(Some(1)))
        } else {
            String::new()
        };
        let start = format!(
            r#"{{"type":"message_start","message":{{"id":"msg_1","type":"message","model":"{model}","content":[]{usage}}}}}"#
        );
        self.event(Some("message_start"), &start);
        self.event(Some("ping"), r#"{"type": "ping"}"#);
        let block =
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
        self.event(Some("content_block_start"), block);
        for _ in 0..1 + self.random.below(12) {
            let text = self.words();
            let (kind, field) =
                [("text_delta", "text"), ("thinking_delta", "thinking")][self.random.index(2)];
            let delta = format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"{kind}","{field}":"{text}"}}}}"#
            );
            let mark = self.event(Some("content_block_delta"), &delta);
            self.wire.pieces.push(mark.must);
            if self.random.chance(self.faults.error_event / 4.0) {
                let error = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
                let mark = self.event(Some("error"), error);
                (self.wire.terminal, self.wire.fails) = (Some(mark), true);
                return;
            }
        }
        self.event(Some("content_block_stop"), r#"{"type":"content_block_stop","index":0}"#);
        if self.usage && self.random.chance(self.faults.running_usage) {
            let part = self.usage_object(Some(self.wire.pieces.len() as u64));
            let delta = format!(r#"{{"type":"message_delta","delta":{{}},"usage":{part}}}"#);
            self.event(Some("message_delta"), &delta);
        }
        let repeated = self.random.chance(self.faults.repeated_usage);
        for _ in 0..if repeated { 2 } else { 1 } {
            // The last object repeats the input's counts or leaves them to the first.
            let object = if first && self.random.chance(0.5) {
                let output = self.output();
                let thinking = self.wire.truth.tokens[TokenClass::Reasoning];
                let searches = self.wire.truth.units[Unit::WebSearch];
                format!(
                    r#"{{"output_tokens":{output},"output_tokens_details":{{"thinking_tokens":{thinking}}},"server_tool_use":{{"web_search_requests":{searches}}}}}"#
                )
            } else {
                self.usage_object(None)
            };
            let usage = if self.usage { format!(r#","usage":{object}"#) } else { String::new() };
            let delta = format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{usage}}}"#
            );
            let mark = self.event(Some("message_delta"), &delta);
            if self.usage {
                self.wire.told.get_or_insert(mark);
            }
        }
        self.wire.terminal = Some(self.event(Some("message_stop"), r#"{"type":"message_stop"}"#));
    }

    /// A usage object as the convention writes it; with `so_far`, after so many tokens of output.
    fn usage_object(&mut self, so_far: Option<u64>) -> String {
        let truth = self.wire.truth;
        let count = |class: TokenClass| truth.tokens[class].get();
        let (uncached, read) = (count(TokenClass::InputUncached), count(TokenClass::CacheRead));
        let (five, hour) = (count(TokenClass::CacheWrite5m), count(TokenClass::CacheWrite1h));
        let full = so_far.is_none();
        let text = so_far.unwrap_or(count(TokenClass::OutputText));
        let reasoning = if full { count(TokenClass::Reasoning) } else { 0 };
        if self.kind.anthropic {
            let output = text + reasoning;
            let mut object = format!(r#"{{"input_tokens":{uncached},"output_tokens":{output}"#);
            if self.kind.details {
                let searches = if full { truth.units[Unit::WebSearch].get() } else { 0 };
                object += &format!(
                    r#","cache_read_input_tokens":{read},"cache_creation_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{five},"ephemeral_1h_input_tokens":{hour}}},"output_tokens_details":{{"thinking_tokens":{reasoning}}},"server_tool_use":{{"web_search_requests":{searches}}},"service_tier":"standard""#,
                    five + hour
                );
            }
            return object + "}";
        }
        let prompt = uncached + read + five;
        let beside = self.kind.upstream == "xai";
        let completion = if beside { text } else { text + reasoning };
        let total = prompt + text + reasoning;
        if self.wire.api == Api::OpenAiEmbeddings {
            return format!(r#"{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}"#);
        }
        let mut object = format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}"#
        );
        if self.kind.upstream == "deepseek" {
            object += &format!(
                r#","prompt_cache_hit_tokens":{read},"prompt_cache_miss_tokens":{uncached}"#
            );
        } else if self.kind.details {
            object += &format!(
                r#","prompt_tokens_details":{{"cached_tokens":{read},"cache_write_tokens":{five}}}"#
            );
        }
        if self.kind.details {
            object +=
                &format!(r#","completion_tokens_details":{{"reasoning_tokens":{reasoning}}}"#);
        }
        object + "}"
    }

    fn output(&self) -> u64 {
        self.wire.truth.output()
    }

    fn tier(&self) -> String {
        self.wire.tier.map(|tier| format!(r#","service_tier":"{tier}""#)).unwrap_or_default()
    }

    /// A chunk of an OpenAI stream.
    fn chunk(&mut self, choices: &str, usage: Option<&str>) -> Mark {
        let (model, tier) = (self.wire.model_served.clone(), self.tier());
        let usage = match usage {
            Some(usage) => format!(r#","usage":{usage}"#),
            None if self.random.chance(0.5) => r#","usage":null"#.to_owned(),
            None => String::new(),
        };
        let data = format!(
            r#"{{"id":"c","object":"chat.completion.chunk","model":"{model}"{tier},"choices":{choices}{usage}}}"#
        );
        self.event(None, &data)
    }

    fn event(&mut self, name: Option<&str>, data: &str) -> Mark {
        let body = &mut self.wire.body;
        if let Some(name) = name {
            body.extend_from_slice(format!("event: {name}{}", self.eol).as_bytes());
        }
        body.extend_from_slice(format!("data: {data}").as_bytes());
        let may = body.len();
        body.extend_from_slice(self.eol.as_bytes());
        body.extend_from_slice(self.eol.as_bytes());
        Mark { may, must: body.len() }
    }

    fn words(&mut self) -> String {
        (0..1 + self.random.index(3)).map(|_| WORDS[self.random.index(WORDS.len())]).collect()
    }
}

fn tokens(count: u64) -> TokenCount {
    TokenCount::new(count).expect("drawn small")
}

impl Wire {
    /// Whether the upstream tells the usage of a stream only to who asks for it.
    pub(crate) fn asks_usage(&self) -> bool {
        self.api == Api::OpenAiChat && self.convention != Convention::Mistral
    }
}

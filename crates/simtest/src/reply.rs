//! Replies whose true usage is known, in each dialect and with each convention's own counts.

mod openai;
mod others;

use facts::Api;
use metering::Convention;
use quantity::{TokenClass, TokenCount, Unit};
use workload::Random;

use crate::plan::WireFaults;
use crate::wire::{Mark, Wire};

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

/// Writes a reply and notes what it tells where.
pub(crate) struct Writer<'a> {
    random: &'a mut Random,
    faults: &'a WireFaults,
    wire: &'a mut Wire,
    eol: &'static str,
    /// Whether usage is told at all.
    usage: bool,
    /// Searches that are told as items of the output and not by the usage.
    searches: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(random: &'a mut Random, faults: &'a WireFaults, wire: &'a mut Wire) -> Self {
        let odd = random.chance(faults.odd_lines);
        let eol = if odd { ["\r\n", "\r"][random.index(2)] } else { "\n" };
        let usage = !random.chance(faults.no_usage);
        wire.faults.extend(odd.then_some("odd line ends"));
        wire.faults.extend((!usage).then_some("usage left out"));
        let mut count = |most: u64| {
            if random.chance(0.6) { random.below(most) } else { 0 }
        };
        let (read, write, hour) = (count(3000), count(500), count(500));
        let (reasoning, mut searches) = (count(400), count(4));
        let (api, kind) = (wire.ask.api, wire.kind);
        let truth = &mut wire.truth;
        let mut set = |class, n| truth.tokens[class] = tokens(n);
        set(TokenClass::InputUncached, 1 + random.below(2000));
        if api != Api::OpenAiEmbeddings {
            set(TokenClass::OutputText, 40 + random.below(300));
            if kind.details {
                set(TokenClass::CacheRead, read);
                set(TokenClass::Reasoning, reasoning);
                if !matches!(kind.convention, Convention::DeepSeek | Convention::Gemini) {
                    set(TokenClass::CacheWrite5m, write);
                }
            }
        }
        if kind.convention == Convention::Anthropic {
            set(TokenClass::CacheWrite1h, hour);
            truth.units[Unit::WebSearch] = tokens(searches);
        }
        if api == Api::OpenAiResponses {
            truth.units[Unit::WebSearch] = tokens(searches);
        } else {
            searches = 0;
        }
        Self { random, faults, wire, eol, usage, searches }
    }

    pub(crate) fn write(self) {
        match (self.wire.is_stream(), self.wire.ask.api) {
            (false, _) => self.unary(),
            (true, Api::AnthropicMessages) => self.anthropic_stream(),
            (true, Api::GeminiGenerate) => self.gemini_stream(),
            (true, Api::OpenAiResponses) => self.responses_stream(),
            (true, _) => self.openai_stream(),
        }
    }

    fn unary(mut self) {
        let (model, usage) = (self.wire.model_served.clone(), self.usage_object(None));
        let text = self.words();
        let usage = if self.usage { format!(r#","usage":{usage}"#) } else { String::new() };
        let choices = |choice: &str| vec![choice; self.wire.ask.choices as usize].join(",");
        let body = match self.wire.ask.api {
            Api::AnthropicMessages => format!(
                r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{model}","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn"{usage}}}"#
            ),
            Api::OpenAiEmbeddings => format!(
                r#"{{"object":"list","data":[{{"embedding":[0.5,-1e-3]}}],"model":"{model}"{usage}}}"#
            ),
            Api::GeminiGenerate => self.gemini(&text, Some("STOP"), self.usage.then_some(None)),
            Api::OpenAiResponses => {
                let message = format!(
                    r#"{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}"#
                );
                let items: Vec<String> = self.search_items().chain([message]).collect();
                let items = items.join(",");
                self.response("completed", &format!(r#","output":[{items}]{usage}"#))
            }
            Api::OpenAiCompletions => {
                let tier = self.tier();
                let all = choices(&format!(r#"{{"text":"{text}","finish_reason":"stop"}}"#));
                format!(r#"{{"id":"c","model":"{model}"{tier},"choices":[{all}]{usage}}}"#)
            }
            _ => {
                let tier = self.tier();
                let all = choices(&format!(
                    r#"{{"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}"#
                ));
                format!(r#"{{"id":"c","model":"{model}"{tier},"choices":[{all}]{usage}}}"#)
            }
        };
        self.wire.body = body.into_bytes();
        let may = self.wire.body.len();
        if self.random.chance(0.3) {
            self.wire.body.push(b'\n');
        }
        let must = self.wire.body.len();
        self.wire.told = self.usage.then_some(Mark { may, must });
        self.wire.finish = Some(Mark { may, must });
        if self.wire.ask.api != Api::OpenAiEmbeddings {
            self.wire.pieces.push(must);
        }
    }

    /// Whether counts of what there is so far come with the stream; notes it.
    fn runs(&mut self, always: bool) -> bool {
        let runs = self.usage && (always || self.random.chance(self.faults.running_usage));
        self.wire.running |= runs;
        self.wire.faults.extend(runs.then_some("cumulative usage"));
        runs
    }

    /// How often the last usage is told.
    fn times(&mut self) -> u64 {
        let repeats = self.usage && self.random.chance(self.faults.repeated_usage);
        self.wire.faults.extend(repeats.then_some("repeated usage"));
        if repeats { 2 } else { 1 }
    }

    /// Notes that an event which says that the stream failed ends it.
    fn failed(&mut self, mark: Mark) {
        (self.wire.terminal, self.wire.fails) = (Some(mark), true);
        self.wire.faults.push("error event");
    }

    fn fails_now(&mut self) -> bool {
        self.random.chance(self.faults.error_event / 4.0)
    }

    /// Notes where the usage was told first.
    fn tell(&mut self, mark: Mark) {
        if self.usage {
            self.wire.told.get_or_insert(mark);
        }
    }

    /// A comment, now and then.
    fn ping(&mut self) {
        if self.random.chance(0.1) {
            let ping = format!(": ping{0}{0}", self.eol);
            self.wire.body.extend_from_slice(ping.as_bytes());
        }
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

    /// A usage object as the convention writes it; with `so_far`, after so many tokens of output.
    fn usage_object(&self, so_far: Option<u64>) -> String {
        let truth = &self.wire.truth;
        let (api, kind) = (self.wire.ask.api, self.wire.kind);
        let count = |class: TokenClass| truth.tokens[class].get();
        let (uncached, read) = (count(TokenClass::InputUncached), count(TokenClass::CacheRead));
        let (five, hour) = (count(TokenClass::CacheWrite5m), count(TokenClass::CacheWrite1h));
        let full = so_far.is_none();
        let text = so_far.unwrap_or(count(TokenClass::OutputText));
        let reasoning = if full { count(TokenClass::Reasoning) } else { 0 };
        if api == Api::AnthropicMessages {
            let output = text + reasoning;
            let mut object = format!(r#"{{"input_tokens":{uncached},"output_tokens":{output}"#);
            if kind.details {
                let searches = if full { truth.units[Unit::WebSearch].get() } else { 0 };
                object += &format!(
                    r#","cache_read_input_tokens":{read},"cache_creation_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{five},"ephemeral_1h_input_tokens":{hour}}},"output_tokens_details":{{"thinking_tokens":{reasoning}}},"server_tool_use":{{"web_search_requests":{searches}}},"service_tier":"standard""#,
                    five + hour
                );
            }
            return object + "}";
        }
        let prompt = uncached + read + five;
        let total = prompt + text + reasoning;
        if api == Api::OpenAiEmbeddings {
            return format!(r#"{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}"#);
        }
        if api == Api::GeminiGenerate {
            // A count of zero is left out.
            let tier = match self.wire.tier {
                None => String::new(),
                Some("standard") => r#","trafficType":"ON_DEMAND""#.to_owned(),
                Some(tier) => {
                    format!(r#","trafficType":"ON_DEMAND_{}""#, tier.to_ascii_uppercase())
                }
            };
            let some = |name: &str, n: u64| match n {
                0 => String::new(),
                n => format!(r#","{name}":{n}"#),
            };
            let (cached, candidates, thoughts) = (
                some("cachedContentTokenCount", read),
                some("candidatesTokenCount", text),
                some("thoughtsTokenCount", reasoning),
            );
            return format!(
                r#"{{"promptTokenCount":{prompt}{cached}{candidates}{thoughts},"totalTokenCount":{total}{tier}}}"#
            );
        }
        let beside = kind.convention == Convention::XAi && api != Api::OpenAiResponses;
        let completion = if beside { text } else { text + reasoning };
        let (input, output) = match api {
            Api::OpenAiResponses => ("input", "output"),
            _ => ("prompt", "completion"),
        };
        let mut object = format!(
            r#"{{"{input}_tokens":{prompt},"{output}_tokens":{completion},"total_tokens":{total}"#
        );
        if kind.convention == Convention::DeepSeek {
            object += &format!(
                r#","prompt_cache_hit_tokens":{read},"prompt_cache_miss_tokens":{uncached}"#
            );
        } else if kind.details {
            object += &format!(
                r#","{input}_tokens_details":{{"cached_tokens":{read},"cache_write_tokens":{five}}}"#
            );
        }
        if kind.details {
            object += &format!(r#","{output}_tokens_details":{{"reasoning_tokens":{reasoning}}}"#);
        }
        if kind.convention == Convention::OpenRouter {
            // Its own sum, which is not what we are billed by.
            object += &format!(
                r#","cost":{total}.5e-08,"is_byok":false,"cost_details":{{"upstream_inference_cost":null}}"#
            );
        }
        if kind.convention == Convention::XAi {
            object += &format!(r#","cost_in_usd_ticks":{total}"#);
        }
        object + "}"
    }

    fn tier(&self) -> String {
        self.wire.tier.map(|tier| format!(r#","service_tier":"{tier}""#)).unwrap_or_default()
    }

    fn words(&mut self) -> String {
        (0..1 + self.random.index(3)).map(|_| WORDS[self.random.index(WORDS.len())]).collect()
    }
}

fn tokens(count: u64) -> TokenCount {
    TokenCount::new(count).expect("drawn small")
}

//! Streams of typed events, OpenAI's Responses and Anthropic's, and those of Gemini.

use quantity::{TokenClass, Unit};

use super::Writer;

impl Writer<'_> {
    pub(super) fn anthropic_stream(mut self) {
        self.wire.content_type = Some("text/event-stream");
        let model = self.wire.model_served.clone();
        let first = self.usage && !self.random.chance(0.1);
        let usage = match first {
            true => format!(r#","usage":{}"#, self.usage_object(Some(1))),
            false => String::new(),
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
            self.ping();
            let text = self.words();
            let (kind, field) =
                [("text_delta", "text"), ("thinking_delta", "thinking")][self.random.index(2)];
            let delta = format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"{kind}","{field}":"{text}"}}}}"#
            );
            let mark = self.event(Some("content_block_delta"), &delta);
            self.wire.pieces.push(mark.must);
            if self.fails_now() {
                let error = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
                let mark = self.event(Some("error"), error);
                return self.failed(mark);
            }
        }
        self.event(Some("content_block_stop"), r#"{"type":"content_block_stop","index":0}"#);
        if self.runs(false) {
            let part = self.usage_object(Some(self.wire.pieces.len() as u64));
            let delta = format!(r#"{{"type":"message_delta","delta":{{}},"usage":{part}}}"#);
            self.event(Some("message_delta"), &delta);
        }
        for _ in 0..self.times() {
            // The last object repeats the input's counts or leaves them to the first.
            let object = if first && self.random.chance(0.5) {
                let output = self.wire.truth.output();
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
            self.wire.finish.get_or_insert(mark);
            self.tell(mark);
        }
        self.wire.terminal = Some(self.event(Some("message_stop"), r#"{"type":"message_stop"}"#));
    }

    pub(super) fn responses_stream(mut self) {
        self.wire.content_type = Some("text/event-stream; charset=utf-8");
        let created = self.response("in_progress", r#","usage":null"#);
        for name in ["response.created", "response.in_progress"] {
            self.event(Some(name), &format!(r#"{{"type":"{name}","response":{created}}}"#));
        }
        let searches: Vec<String> = self.search_items().collect();
        for item in searches {
            let added =
                r#"{"type":"response.output_item.added","item":{"type":"web_search_call"}}"#;
            self.event(Some("response.output_item.added"), added);
            let done = format!(r#"{{"type":"response.output_item.done","item":{item}}}"#);
            self.event(Some("response.output_item.done"), &done);
        }
        for _ in 0..1 + self.random.below(12) {
            self.ping();
            let text = self.words();
            let names = ["response.output_text.delta", "response.reasoning_summary_text.delta"];
            let name = names[usize::from(self.random.chance(0.2))];
            let delta = format!(r#"{{"type":"{name}","item_id":"i","delta":"{text}"}}"#);
            let mark = self.event(Some(name), &delta);
            self.wire.pieces.push(mark.must);
            if self.fails_now() {
                let error = r#"{"type":"error","code":"server_error","message":"x"}"#;
                let mark = self.event(Some("error"), error);
                return self.failed(mark);
            }
        }
        self.event(
            Some("response.output_text.done"),
            r#"{"type":"response.output_text.done","text":"the whole"}"#,
        );
        let full = self.usage_object(None);
        let usage = if self.usage { format!(r#","usage":{full}"#) } else { String::new() };
        let fails = self.fails_now();
        let (name, rest) = match self.random.below(4) {
            _ if fails => ("failed", r#","error":{"code":"server_error","message":"x"}"#),
            0 => ("incomplete", r#","incomplete_details":{"reason":"max_output_tokens"}"#),
            _ => ("completed", r#","error":null"#),
        };
        let response = self.response(name, &format!("{rest}{usage}"));
        let kind = format!("response.{name}");
        let data = format!(r#"{{"type":"{kind}","response":{response}}}"#);
        let mark = self.event(Some(&kind), &data);
        self.tell(mark);
        if fails {
            return self.failed(mark);
        }
        self.wire.terminal = Some(mark);
        // Some servers end as Chat does.
        if self.random.chance(0.1) {
            self.event(None, "[DONE]");
        }
    }

    /// The object that a response is, or that its events are about.
    pub(super) fn response(&self, status: &str, rest: &str) -> String {
        let (model, tier) = (&self.wire.model_served, self.tier());
        format!(
            r#"{{"id":"resp_1","object":"response","status":"{status}","model":"{model}"{tier}{rest}}}"#
        )
    }

    /// Searches that were made on the way. To open a page that one found is free.
    pub(super) fn search_items(&self) -> impl Iterator<Item = String> + use<> {
        let actions = ["search", "open_page"];
        (0..2 * self.searches).map(move |n| {
            let action = actions[usize::from(n % 2 == 1)];
            format!(r#"{{"type":"web_search_call","action":{{"type":"{action}"}}}}"#)
        })
    }

    pub(super) fn gemini_stream(mut self) {
        self.wire.content_type = Some("text/event-stream");
        // It tells what there is so far with each event.
        let running = self.runs(self.usage);
        let pieces = 1 + self.random.below(12);
        for piece in 0..pieces {
            self.ping();
            let text = self.words();
            let so_far = running.then_some(Some(piece + 1));
            let data = self.gemini(&text, None, so_far);
            let mark = self.event(None, &data);
            self.wire.pieces.push(mark.must);
            if self.fails_now() {
                let mark = self.event(None, r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#);
                return self.failed(mark);
            }
        }
        // The last counts come with the reason to stop, or after it.
        let after = self.random.chance(0.2);
        let data = self.gemini("", Some("STOP"), (self.usage && !after).then_some(None));
        let mut mark = self.event(None, &data);
        self.wire.finish = Some(mark);
        if !after {
            self.tell(mark);
        }
        for _ in 0..if after { self.times() } else { 0 } {
            let usage = if self.usage { self.usage_object(None) } else { "null".to_owned() };
            let model = &self.wire.model_served;
            let data = format!(r#"{{"usageMetadata":{usage},"modelVersion":"{model}"}}"#);
            mark = self.event(None, &data);
            self.tell(mark);
        }
        self.wire.whole = mark.may;
    }

    /// A reply of Gemini's, or an event of one: what it says, why it stopped, what it used so far.
    pub(super) fn gemini(
        &self,
        text: &str,
        finish: Option<&str>,
        so_far: Option<Option<u64>>,
    ) -> String {
        let parts = match text {
            "" => String::new(),
            text => format!(r#""content":{{"role":"model","parts":[{{"text":"{text}"}}]}},"#),
        };
        let finish = finish.map(|why| format!(r#""finishReason":"{why}","#)).unwrap_or_default();
        let candidate = |index| format!(r#"{{{parts}{finish}"index":{index}}}"#);
        let candidates: Vec<String> = (0..self.wire.ask.choices).map(candidate).collect();
        let candidates = candidates.join(",");
        let usage = so_far.map(|so_far| self.usage_object(so_far));
        let usage = usage.map(|usage| format!(r#","usageMetadata":{usage}"#)).unwrap_or_default();
        let model = &self.wire.model_served;
        format!(
            r#"{{"candidates":[{candidates}],"modelVersion":"{model}","responseId":"r-1"{usage}}}"#
        )
    }
}

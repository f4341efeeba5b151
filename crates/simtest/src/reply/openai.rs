//! Streams of chunks: Chat, Completions, and everyone who speaks them.

use facts::Api;
use metering::Convention;

use super::Writer;
use crate::wire::Mark;

impl Writer<'_> {
    pub(super) fn openai_stream(mut self) {
        self.wire.content_type = Some("text/event-stream; charset=utf-8");
        let convention = self.wire.kind.convention;
        let choices = u64::from(self.wire.ask.choices);
        // Some tell usage with the last choice, and Mistral so unasked.
        let with_choice = match convention {
            Convention::Mistral => 1.0,
            Convention::DeepSeek | Convention::Together | Convention::Fireworks => 0.5,
            _ => 0.1,
        };
        let alone = !self.random.chance(with_choice);
        let running = self.runs(false);
        // vLLM can be asked for it with every chunk.
        let every = if convention == Convention::Vllm { 1 } else { 1 + self.random.below(3) };
        let pieces = 1 + self.random.below(12);
        if self.wire.ask.api == Api::OpenAiChat {
            let role =
                r#"[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#;
            let told = (running && every == 1).then(|| self.usage_object(Some(0)));
            self.chunk(role, told.as_deref());
        }
        for piece in 0..pieces {
            self.ping();
            // One choice may be done while another goes on.
            if choices > 1 && piece == pieces / 2 {
                let mark = self.stop(0, None);
                self.wire.finish.get_or_insert(mark);
            }
            let first = u64::from(choices > 1 && piece >= pieces / 2);
            let index = first + piece % (choices - first);
            let text = self.words();
            let choice = self.choice(index, &text);
            let told = (running && piece % every == 0).then(|| self.usage_object(Some(piece + 1)));
            let mark = self.chunk(&choice, told.as_deref());
            self.wire.pieces.push(mark.must);
            if self.fails_now() {
                let error = r#""error":{"code":"overloaded","message":"x"}"#;
                let end =
                    r#","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]"#;
                let end = if convention == Convention::OpenRouter { end } else { "" };
                let mark = self.event(None, &format!("{{{error}{end}}}"));
                return self.failed(mark);
            }
        }
        for index in u64::from(choices > 1)..choices {
            let told = self.usage && index + 1 == choices && (!alone || running);
            let told = told.then(|| self.usage_object(None));
            let mark = self.stop(index, told.as_deref());
            self.wire.finish.get_or_insert(mark);
            if told.is_some() {
                self.tell(mark);
            }
        }
        // Only who asks gets the extra chunk.
        if self.usage && alone {
            for _ in 0..self.times() {
                let full = self.usage_object(None);
                let start = self.wire.body.len();
                let mark = self.chunk("[]", Some(&full));
                self.wire.usage_chunks.push(start..self.wire.body.len());
                self.tell(mark);
            }
        }
        self.wire.terminal = Some(self.event(None, "[DONE]"));
        if self.random.chance(0.1) {
            self.wire.body.extend_from_slice(b": bye\n\n");
        }
    }

    /// A choice is done.
    fn stop(&mut self, index: u64, usage: Option<&str>) -> Mark {
        let chat = self.wire.ask.api == Api::OpenAiChat;
        let empty = if chat { r#""delta":{}"# } else { r#""text":"""# };
        self.chunk(&format!(r#"[{{"index":{index},{empty},"finish_reason":"stop"}}]"#), usage)
    }

    fn choice(&mut self, index: u64, text: &str) -> String {
        if self.wire.ask.api == Api::OpenAiCompletions {
            return format!(r#"[{{"index":{index},"text":"{text}","finish_reason":null}}]"#);
        }
        let field = match self.random.below(10) {
            0 => "reasoning_content",
            1 => "reasoning",
            _ => "content",
        };
        format!(r#"[{{"index":{index},"delta":{{"{field}":"{text}"}},"finish_reason":null}}]"#)
    }

    fn chunk(&mut self, choices: &str, usage: Option<&str>) -> Mark {
        let (model, tier) = (self.wire.model_served.clone(), self.tier());
        let usage = match usage {
            Some(usage) if self.wire.kind.convention == Convention::Groq => {
                format!(r#","usage":{usage},"x_groq":{{"id":"r","usage":{usage}}}"#)
            }
            Some(usage) => format!(r#","usage":{usage}"#),
            None if self.random.chance(0.5) => r#","usage":null"#.to_owned(),
            None => String::new(),
        };
        let data = format!(
            r#"{{"id":"c","object":"chat.completion.chunk","model":"{model}"{tier},"choices":{choices}{usage}}}"#
        );
        self.event(None, &data)
    }
}

//! What the model answers: counts and words, before any dialect writes them.

use quantity::Money;
use workload::Fault;

use crate::cache::Input;
use crate::prompt::{Asked, Dialect};
use crate::serving::Ticket;
use crate::stats::Running;
use crate::words;

/// A call of a tool counts for so many tokens.
pub(crate) const TOKENS_PER_CALL: u64 = 12;
/// The arguments of every call.
pub(crate) const ARGUMENTS: &str = r#"{"query":"the first page of what you found"}"#;

/// A planned reply.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) dialect: Dialect,
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// As a JSON string.
    pub(crate) model: String,
    pub(crate) tier: &'static str,
    pub(crate) input: Input,
    pub(crate) reasoning: u64,
    /// Tokens of text; those of calls come on top.
    pub(crate) text: u64,
    /// Names of the tools called, as JSON strings.
    pub(crate) calls: Vec<String>,
    pub(crate) finish: Finish,
    pub(crate) usage: UsageShown,
    pub(crate) fault: Option<Fault>,
    pub(crate) cost: Option<Money>,
    pub(crate) identity: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
}

/// Where a stream shows usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageShown {
    Never,
    AtTheEnd,
    InEveryChunk,
}

/// What a stream consists of, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Start,
    Thought,
    Text(u64),
    Call(usize),
    Finish,
    Done,
}

impl Reply {
    pub(crate) fn plan(asked: &Asked, input: Input, id: String, created: i64) -> Self {
        let identity = asked.identity();
        let cap = asked.cap.unwrap_or(u64::MAX);
        let reasoning = asked.wish.reasoning.unwrap_or(0).min(cap);
        let calls = asked.wish.tools.unwrap_or(0);
        let call_tokens = calls * TOKENS_PER_CALL;
        let wanted = asked.wish.output.unwrap_or(16 + identity % 113).max(call_tokens);
        // A cap that cuts the answer cuts it before its calls are whole.
        let fits = wanted <= cap - reasoning;
        let (text, calls, finish) = match (fits, calls) {
            (false, _) => (cap - reasoning, 0, Finish::Length),
            (true, 0) => (wanted, 0, Finish::Stop),
            (true, calls) => (wanted - call_tokens, calls, Finish::ToolCalls),
        };
        let name = |index: u64| {
            let offered = asked.tools.len().max(1) as u64;
            let index = usize::try_from(index % offered).expect("less than a length");
            json_string(asked.tools.get(index).map_or("lookup", String::as_str))
        };
        Self {
            dialect: asked.dialect,
            id,
            created,
            model: json_string(&asked.model),
            tier: asked.tier,
            input,
            reasoning,
            text,
            calls: (0..calls).map(name).collect(),
            finish,
            usage: match asked.wish.fault {
                Some(Fault::NoUsage) => UsageShown::Never,
                Some(Fault::Cumulative) => UsageShown::InEveryChunk,
                _ if asked.continuous_usage => UsageShown::InEveryChunk,
                _ if asked.include_usage || !asked.stream => UsageShown::AtTheEnd,
                _ => UsageShown::Never,
            },
            fault: asked.wish.fault,
            cost: asked.wish.cost,
            identity,
        }
    }

    /// An engine has computed its first token, and tells what of the prompt it had not to compute.
    pub(crate) fn begin(&mut self, ticket: &Ticket, running: &Running) {
        if let Some(begun) = ticket.begun() {
            self.input = Input::in_an_engine(self.input.total(), begun.cached.into());
            running.count_begun(begun);
        }
    }

    /// Everything generated.
    pub(crate) fn generated(&self) -> u64 {
        self.reasoning + self.text + self.calls.len() as u64 * TOKENS_PER_CALL
    }

    /// The member of the usage that tells the cost, with the comma before it, if it is told.
    pub(crate) fn told_cost(&self) -> String {
        self.cost.map_or_else(String::new, |cost| format!(r#","cost":{cost}"#))
    }

    /// The event at this place of the stream.
    pub(crate) fn event(&self, index: u64) -> Option<Event> {
        let Some(index) = index.checked_sub(1) else { return Some(Event::Start) };
        let Some(index) = index.checked_sub(u64::from(self.reasoning > 0)) else {
            return Some(Event::Thought);
        };
        let Some(index) = index.checked_sub(self.text) else { return Some(Event::Text(index)) };
        let calls = self.calls.len();
        match usize::try_from(index).unwrap_or(usize::MAX) {
            call if call < calls => Some(Event::Call(call)),
            end if end == calls => Some(Event::Finish),
            end if end == calls + 1 => Some(Event::Done),
            _ => None,
        }
    }

    /// The tokens that an event brings.
    pub(crate) const fn tokens(&self, event: Event) -> u64 {
        match event {
            Event::Thought => self.reasoning,
            Event::Text(_) => 1,
            Event::Call(_) => TOKENS_PER_CALL,
            Event::Start | Event::Finish | Event::Done => 0,
        }
    }

    /// One token of the text, with the space before it; plain ASCII without quotes.
    pub(crate) fn word(&self, index: u64) -> (&'static str, &'static str) {
        (if index == 0 { "" } else { " " }, words::word(self.identity, index))
    }

    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for index in 0..self.text {
            let (space, word) = self.word(index);
            text.push_str(space);
            text.push_str(word);
        }
        text
    }

    /// The part of the id that is unique, from which ids of calls are made.
    pub(crate) fn unique(&self) -> &str {
        self.id.trim_start_matches(|c| c != '-' && c != '_').trim_start_matches(['-', '_'])
    }
}

pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt;

    fn plan(wishes: &str, cap: &str) -> Reply {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"[[sim {wishes}]]"}}]{cap}}}"#
        );
        let asked = prompt::openai(body.as_bytes()).unwrap();
        Reply::plan(&asked, Input::default(), "chatcmpl-7".to_owned(), 0)
    }

    #[test]
    fn a_reply_is_as_long_as_wished_and_its_events_bring_every_token_once() {
        for (wishes, cap, expected) in [
            ("output=5", "", (0, 5, 0, Finish::Stop)),
            ("output=5 reasoning=3", r#","max_tokens":9"#, (3, 5, 0, Finish::Stop)),
            ("output=5 reasoning=3", r#","max_tokens":7"#, (3, 4, 0, Finish::Length)),
            ("output=5 reasoning=3", r#","max_completion_tokens":2"#, (2, 0, 0, Finish::Length)),
            ("output=30 tools=2", "", (0, 6, 2, Finish::ToolCalls)),
            ("output=1 tools=1", "", (0, 0, 1, Finish::ToolCalls)),
            ("output=30 tools=2", r#","max_tokens":10"#, (0, 10, 0, Finish::Length)),
            ("output=0", "", (0, 0, 0, Finish::Stop)),
        ] {
            let reply = plan(wishes, cap);
            let planned = (reply.reasoning, reply.text, reply.calls.len(), reply.finish);
            assert_eq!(planned, expected, "{wishes} {cap}");
            let events: Vec<Event> = (0..).map_while(|index| reply.event(index)).collect();
            let brought: u64 = events.iter().map(|&event| reply.tokens(event)).sum();
            assert_eq!(brought, reply.generated());
            assert_eq!(events.first(), Some(&Event::Start));
            assert_eq!(events.last(), Some(&Event::Done));
        }
    }

    #[test]
    fn the_same_request_gets_the_same_text() {
        assert_eq!(plan("output=40", "").text(), plan("output=40", "").text());
        assert_ne!(plan("output=40", "").text(), plan("output=40 reasoning=1", "").text());
        assert_eq!(words::count(plan("output=40", "").text().len()), 40);
        assert_eq!(plan("", "").unique(), "7");
    }
}

//! OpenAI's way of writing a reply of Chat Completions, and of the Completions before it.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::prompt::Dialect;
use crate::reply::{ARGUMENTS, Event, Finish, Reply, UsageShown};

/// What every chunk of one stream begins with.
pub(crate) fn chunk_head(reply: &Reply) -> String {
    if reply.dialect == Dialect::Completions {
        return format!(
            r#"data: {{"id":"{}","object":"text_completion","created":{},"model":{},"choices":["#,
            reply.id, reply.created, reply.model
        );
    }
    format!(
        r#"data: {{"id":"{}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"{}","system_fingerprint":"fp_simulated","choices":["#,
        reply.id, reply.created, reply.model, reply.tier
    )
}

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

/// Usage after so many generated tokens, the reasoning being the first of them.
fn usage(reply: &Reply, generated: u64) -> String {
    let (prompt, cached) = (reply.input.total(), reply.input.read);
    let (reasoning, total) = (reply.reasoning.min(generated), prompt + generated);
    let cost = reply.told_cost();
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{generated},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}{cost}}}"#
    )
}

fn call(reply: &Reply, index: usize, arguments: &str) -> String {
    let arguments = crate::reply::json_string(arguments);
    format!(
        r#""id":"call_{}_{index}","type":"function","function":{{"name":{},"arguments":{arguments}}}"#,
        reply.unique(),
        reply.calls[index]
    )
}

/// The whole reply of Completions at once, which knows no tools.
pub(crate) fn completion(reply: &Reply) -> String {
    let (text, finish) = (reply.text(), finish_reason(reply.finish));
    let usage = match reply.usage {
        UsageShown::Never => String::new(),
        _ => format!(r#","usage":{}"#, usage(reply, reply.generated())),
    };
    format!(
        r#"{{"id":"{}","object":"text_completion","created":{},"model":{},"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":"{finish}"}}]{usage}}}"#,
        reply.id, reply.created, reply.model
    )
}

/// The whole reply at once.
pub(crate) fn unary(reply: &Reply) -> String {
    let content = if reply.text == 0 && !reply.calls.is_empty() {
        "null".to_owned()
    } else {
        format!(r#""{}""#, reply.text())
    };
    let mut body = format!(
        r#"{{"id":"{}","object":"chat.completion","created":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":{content},"refusal":null"#,
        reply.id, reply.created, reply.model
    );
    for index in 0..reply.calls.len() {
        body.push_str(if index == 0 { r#","tool_calls":["# } else { "," });
        body.push('{');
        body.push_str(&call(reply, index, ARGUMENTS));
        body.push('}');
    }
    if !reply.calls.is_empty() {
        body.push(']');
    }
    body.push_str(r#"},"logprobs":null,"finish_reason":""#);
    body.push_str(finish_reason(reply.finish));
    body.push_str(r#""}]"#);
    if reply.usage != UsageShown::Never {
        body.push_str(r#","usage":"#);
        body.push_str(&usage(reply, reply.generated()));
    }
    let _ =
        write!(body, r#","service_tier":"{}","system_fingerprint":"fp_simulated"}}"#, reply.tier);
    body
}

/// One event of the stream, after so many generated tokens, its own included.
pub(crate) fn write(reply: &Reply, head: &str, event: Event, generated: u64, out: &mut BytesMut) {
    match event {
        Event::Thought => return,
        Event::Done => {
            if reply.usage != UsageShown::Never {
                out.put_slice(head.as_bytes());
                out.put_slice(b"],\"usage\":");
                out.put_slice(usage(reply, generated).as_bytes());
                out.put_slice(b"}\n\n");
            }
            out.put_slice(b"data: [DONE]\n\n");
            return;
        }
        Event::Start | Event::Text(_) | Event::Call(_) | Event::Finish => {}
    }
    if reply.dialect == Dialect::Completions {
        let (text, finish) = match event {
            Event::Text(index) => (reply.word(index), "null".to_owned()),
            Event::Finish => (("", ""), format!("\"{}\"", finish_reason(reply.finish))),
            _ => return,
        };
        let (space, word) = text;
        let shown = if reply.usage == UsageShown::Never { "" } else { ",\"usage\":null" };
        let chunk = format!(
            "{head}{{\"text\":\"{space}{word}\",\"index\":0,\"logprobs\":null,\"finish_reason\":{finish}}}]{shown}}}\n\n"
        );
        return out.put_slice(chunk.as_bytes());
    }
    out.put_slice(head.as_bytes());
    out.put_slice(b"{\"index\":0,\"delta\":");
    let mut finish: &[u8] = b",\"logprobs\":null,\"finish_reason\":null}]";
    let finish_text;
    match event {
        Event::Start => out.put_slice(br#"{"role":"assistant","content":"","refusal":null}"#),
        Event::Text(index) => {
            let (space, word) = reply.word(index);
            out.put_slice(b"{\"content\":\"");
            out.put_slice(space.as_bytes());
            out.put_slice(word.as_bytes());
            out.put_slice(b"\"}");
        }
        Event::Call(index) => {
            let call = call(reply, index, ARGUMENTS);
            out.put_slice(format!(r#"{{"tool_calls":[{{"index":{index},{call}}}]}}"#).as_bytes());
        }
        Event::Finish | Event::Thought | Event::Done => {
            out.put_slice(b"{}");
            finish_text =
                format!(r#","logprobs":null,"finish_reason":"{}"}}]"#, finish_reason(reply.finish));
            finish = finish_text.as_bytes();
        }
    }
    out.put_slice(finish);
    match reply.usage {
        UsageShown::Never => {}
        UsageShown::AtTheEnd => out.put_slice(b",\"usage\":null"),
        UsageShown::InEveryChunk => {
            out.put_slice(b",\"usage\":");
            out.put_slice(usage(reply, generated).as_bytes());
        }
    }
    out.put_slice(b"}\n\n");
}

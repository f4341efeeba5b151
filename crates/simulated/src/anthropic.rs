//! Anthropic's way of writing a reply.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::reply::{ARGUMENTS, Event, Finish, Reply, UsageShown, json_string};

/// Stands for the thoughts, which are not shown.
const SIGNATURE: &str = "c2ltdWxhdGVk";

const fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
    }
}

/// Input and output counts, without the braces.
fn counts(reply: &Reply, output: u64) -> String {
    let input = reply.input;
    format!(
        r#""input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":{}}},"output_tokens":{output}"#,
        input.uncached,
        input.written_5m + input.written_1h,
        input.read,
        input.written_5m,
        input.written_1h,
    )
}

/// How much of the output was thought, if any was.
fn thinking(reply: &Reply) -> String {
    match reply.reasoning {
        0 => String::new(),
        tokens => format!(r#","output_tokens_details":{{"thinking_tokens":{tokens}}}"#),
    }
}

fn tool_use(reply: &Reply, index: usize, input: &str) -> String {
    let (id, name) = (reply.unique(), &reply.calls[index]);
    format!(r#"{{"type":"tool_use","id":"toolu_{id}_{index}","name":{name},"input":{input}}}"#)
}

/// The whole reply at once.
pub(crate) fn unary(reply: &Reply) -> String {
    let mut content = Vec::new();
    if reply.reasoning > 0 {
        content.push(format!(r#"{{"type":"thinking","thinking":"","signature":"{SIGNATURE}"}}"#));
    }
    if reply.text > 0 {
        content.push(format!(r#"{{"type":"text","text":"{}"}}"#, reply.text()));
    }
    content.extend((0..reply.calls.len()).map(|index| tool_use(reply, index, ARGUMENTS)));
    let mut body = format!(
        r#"{{"id":"{}","type":"message","role":"assistant","model":{},"content":[{}],"stop_reason":"{}","stop_sequence":null"#,
        reply.id,
        reply.model,
        content.join(","),
        stop_reason(reply.finish)
    );
    if reply.usage != UsageShown::Never {
        let (counts, thinking) = (counts(reply, reply.generated()), thinking(reply));
        let _ = write!(body, r#","usage":{{{counts}{thinking},"service_tier":"{}"}}"#, reply.tier);
    }
    body.push('}');
    body
}

fn frame(out: &mut BytesMut, name: &str, rest: &str) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: {\"type\":\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\"");
    out.put_slice(rest.as_bytes());
    out.put_slice(b"}\n\n");
}

fn block_start(out: &mut BytesMut, index: usize, block: &str) {
    frame(out, "content_block_start", &format!(r#","index":{index},"content_block":{block}"#));
}

fn block_delta(out: &mut BytesMut, index: usize, delta: &str) {
    frame(out, "content_block_delta", &format!(r#","index":{index},"delta":{delta}"#));
}

fn block_stop(out: &mut BytesMut, index: usize) {
    frame(out, "content_block_stop", &format!(r#","index":{index}"#));
}

/// One event of the stream, after so many generated tokens, its own included.
pub(crate) fn write(reply: &Reply, event: Event, generated: u64, out: &mut BytesMut) {
    let text_at = usize::from(reply.reasoning > 0);
    let shown = reply.usage != UsageShown::Never;
    match event {
        Event::Start => {
            let usage = if shown {
                // The count of output at the start is a placeholder at Anthropic, too.
                format!(r#","usage":{{{},"service_tier":"{}"}}"#, counts(reply, 1), reply.tier)
            } else {
                String::new()
            };
            let message = format!(
                r#","message":{{"id":"{}","type":"message","role":"assistant","model":{},"content":[],"stop_reason":null,"stop_sequence":null{usage}}}"#,
                reply.id, reply.model
            );
            frame(out, "message_start", &message);
            frame(out, "ping", "");
        }
        Event::Thought => {
            block_start(out, 0, r#"{"type":"thinking","thinking":"","signature":""}"#);
            let delta = format!(r#"{{"type":"signature_delta","signature":"{SIGNATURE}"}}"#);
            block_delta(out, 0, &delta);
            block_stop(out, 0);
        }
        Event::Text(index) => {
            if index == 0 {
                block_start(out, text_at, r#"{"type":"text","text":""}"#);
            }
            let (space, word) = reply.word(index);
            out.put_slice(b"event: content_block_delta\n");
            out.put_slice(b"data: {\"type\":\"content_block_delta\",\"index\":");
            out.put_slice(if text_at == 0 { b"0" } else { b"1" });
            out.put_slice(b",\"delta\":{\"type\":\"text_delta\",\"text\":\"");
            out.put_slice(space.as_bytes());
            out.put_slice(word.as_bytes());
            out.put_slice(b"\"}}\n\n");
            if index + 1 == reply.text {
                block_stop(out, text_at);
            }
        }
        Event::Call(index) => {
            let at = text_at + usize::from(reply.text > 0) + index;
            block_start(out, at, &tool_use(reply, index, "{}"));
            let arguments = json_string(ARGUMENTS);
            block_delta(
                out,
                at,
                &format!(r#"{{"type":"input_json_delta","partial_json":{arguments}}}"#),
            );
            block_stop(out, at);
        }
        Event::Finish => {
            let usage = if shown {
                format!(r#","usage":{{{}{}}}"#, counts(reply, generated), thinking(reply))
            } else {
                String::new()
            };
            let reason = stop_reason(reply.finish);
            let delta =
                format!(r#","delta":{{"stop_reason":"{reason}","stop_sequence":null}}{usage}"#);
            frame(out, "message_delta", &delta);
        }
        Event::Done => frame(out, "message_stop", ""),
    }
}

//! Google's way of writing a reply.

use bytes::{BufMut, BytesMut};

use crate::reply::{ARGUMENTS, Event, Finish, Reply, UsageShown, json_string};

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

/// Usage after so many generated tokens; a count of zero is left out.
fn usage(reply: &Reply, generated: u64) -> String {
    if reply.usage == UsageShown::Never {
        return String::new();
    }
    let prompt = reply.input.total();
    let thoughts = reply.reasoning.min(generated);
    let candidates = generated - thoughts;
    let mut counts = format!(r#""promptTokenCount":{prompt}"#);
    for (name, count) in [
        ("candidatesTokenCount", candidates),
        ("cachedContentTokenCount", reply.input.read),
        ("thoughtsTokenCount", thoughts),
    ] {
        if count > 0 {
            counts += &format!(r#","{name}":{count}"#);
        }
    }
    let total = prompt + generated;
    let tier = match reply.tier {
        "flex" => "ON_DEMAND_FLEX",
        "priority" => "ON_DEMAND_PRIORITY",
        _ => "ON_DEMAND",
    };
    format!(
        r#","usageMetadata":{{{counts},"totalTokenCount":{total},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{prompt}}}],"trafficType":"{tier}"}}"#
    )
}

fn text(text: &str) -> String {
    format!(r#"{{"text":{}}}"#, json_string(text))
}

fn call(reply: &Reply, index: usize) -> String {
    format!(r#"{{"functionCall":{{"name":{},"args":{ARGUMENTS}}}}}"#, reply.calls[index])
}

fn response(reply: &Reply, parts: &str, finishes: bool, generated: u64) -> String {
    let finish = match finishes {
        true => format!(r#","finishReason":"{}""#, finish_reason(reply.finish)),
        false => String::new(),
    };
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}}{finish},"index":0}}]{},"modelVersion":{},"responseId":"{}"}}"#,
        usage(reply, generated),
        reply.model,
        reply.id
    )
}

/// The whole reply at once.
pub(crate) fn unary(reply: &Reply) -> String {
    let mut parts = Vec::new();
    if reply.text > 0 {
        parts.push(text(&reply.text()));
    }
    parts.extend((0..reply.calls.len()).map(|index| call(reply, index)));
    response(reply, &parts.join(","), true, reply.generated())
}

/// One event of the stream, after so many generated tokens, its own included. No event ends it.
pub(crate) fn write(reply: &Reply, event: Event, generated: u64, out: &mut BytesMut) {
    let (parts, finishes) = match event {
        Event::Start | Event::Thought | Event::Done => return,
        Event::Text(index) => {
            let (space, word) = reply.word(index);
            (text(&format!("{space}{word}")), false)
        }
        Event::Call(index) => (call(reply, index), false),
        Event::Finish => (text(""), true),
    };
    out.put_slice(b"data: ");
    out.put_slice(response(reply, &parts, finishes, generated).as_bytes());
    out.put_slice(b"\r\n\r\n");
}

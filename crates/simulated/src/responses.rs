//! OpenAI's way of writing a reply of Responses.

use bytes::{BufMut, BytesMut};

use crate::reply::{ARGUMENTS, Event, Finish, Reply, UsageShown, json_string};

fn usage(reply: &Reply) -> String {
    if reply.usage == UsageShown::Never {
        return "null".to_owned();
    }
    let (input, cached, output) = (reply.input.total(), reply.input.read, reply.generated());
    let (reasoning, total) = (reply.reasoning, input + output);
    let cost = reply.told_cost();
    format!(
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{cached}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total}{cost}}}"#
    )
}

fn response(reply: &Reply, status: &str, tier: &str, output: &str, usage: &str) -> String {
    let incomplete = match status {
        "incomplete" => r#"{"reason":"max_output_tokens"}"#,
        _ => "null",
    };
    format!(
        r#"{{"id":"{}","object":"response","created_at":{},"status":"{status}","error":null,"incomplete_details":{incomplete},"model":{},"output":[{output}],"service_tier":"{tier}","usage":{usage}}}"#,
        reply.id, reply.created, reply.model
    )
}

fn reasoning(reply: &Reply) -> String {
    format!(r#"{{"id":"rs_{}","type":"reasoning","summary":[]}}"#, reply.unique())
}

fn message(reply: &Reply, status: &str, content: &str) -> String {
    let id = reply.unique();
    format!(
        r#"{{"id":"msg_{id}","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#
    )
}

fn text_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"text":{}}}"#, json_string(text))
}

fn call(reply: &Reply, index: usize, status: &str, arguments: &str) -> String {
    let (id, name) = (reply.unique(), &reply.calls[index]);
    let arguments = json_string(arguments);
    format!(
        r#"{{"id":"fc_{id}_{index}","type":"function_call","status":"{status}","call_id":"call_{id}_{index}","name":{name},"arguments":{arguments}}}"#
    )
}

fn output(reply: &Reply) -> String {
    let mut items = Vec::new();
    if reply.reasoning > 0 {
        items.push(reasoning(reply));
    }
    if reply.text > 0 {
        items.push(message(reply, "completed", &text_part(&reply.text())));
    }
    items.extend((0..reply.calls.len()).map(|index| call(reply, index, "completed", ARGUMENTS)));
    items.join(",")
}

const fn status(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "incomplete",
        Finish::Stop | Finish::ToolCalls => "completed",
    }
}

/// The whole reply at once.
pub(crate) fn unary(reply: &Reply) -> String {
    response(reply, status(reply.finish), reply.tier, &output(reply), &usage(reply))
}

/// Writes frames with their names and ascending numbers.
struct Frames<'a> {
    out: &'a mut BytesMut,
    sequence: &'a mut u64,
}

impl Frames<'_> {
    fn frame(&mut self, name: &str, rest: &str) {
        let sequence = *self.sequence;
        *self.sequence += 1;
        let frame = format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{sequence},{rest}}}\n\n"
        );
        self.out.put_slice(frame.as_bytes());
    }

    fn item(&mut self, what: &str, index: usize, item: &str) {
        let name = format!("response.output_item.{what}");
        self.frame(&name, &format!(r#""output_index":{index},"item":{item}"#));
    }
}

/// One event of the stream.
pub(crate) fn write(reply: &Reply, event: Event, sequence: &mut u64, out: &mut BytesMut) {
    let mut frames = Frames { out, sequence };
    let text_at = usize::from(reply.reasoning > 0);
    let id = reply.unique();
    let part = format!(r#""item_id":"msg_{id}","output_index":{text_at},"content_index":0"#);
    match event {
        Event::Start => {
            let response = response(reply, "in_progress", "auto", "", "null");
            for name in ["response.created", "response.in_progress"] {
                frames.frame(name, &format!(r#""response":{response}"#));
            }
        }
        Event::Thought => {
            frames.item("added", 0, &reasoning(reply));
            frames.item("done", 0, &reasoning(reply));
        }
        Event::Text(index) => {
            if index == 0 {
                frames.item("added", text_at, &message(reply, "in_progress", ""));
                let empty = text_part("");
                frames.frame("response.content_part.added", &format!(r#"{part},"part":{empty}"#));
            }
            let (space, word) = reply.word(index);
            let delta = format!(r#"{part},"delta":"{space}{word}","logprobs":[]"#);
            frames.frame("response.output_text.delta", &delta);
            if index + 1 == reply.text {
                let whole = text_part(&reply.text());
                let text = json_string(&reply.text());
                frames.frame("response.output_text.done", &format!(r#"{part},"text":{text}"#));
                frames.frame("response.content_part.done", &format!(r#"{part},"part":{whole}"#));
                frames.item("done", text_at, &message(reply, "completed", &whole));
            }
        }
        Event::Call(index) => {
            let at = text_at + usize::from(reply.text > 0) + index;
            frames.item("added", at, &call(reply, index, "in_progress", ""));
            let of = format!(r#""item_id":"fc_{id}_{index}","output_index":{at}"#);
            let arguments = json_string(ARGUMENTS);
            let delta = format!(r#"{of},"delta":{arguments}"#);
            frames.frame("response.function_call_arguments.delta", &delta);
            let done = format!(r#"{of},"arguments":{arguments}"#);
            frames.frame("response.function_call_arguments.done", &done);
            frames.item("done", at, &call(reply, index, "completed", ARGUMENTS));
        }
        Event::Finish => {}
        Event::Done => {
            let name = format!("response.{}", status(reply.finish));
            frames.frame(&name, &format!(r#""response":{}"#, unary(reply)));
        }
    }
}

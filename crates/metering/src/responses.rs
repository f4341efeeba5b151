//! OpenAI's Responses: typed events, items of output, usage at the end.

use quantity::{Doubt, Unit};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Kind;
use crate::json::{Text, TextBytes, list, read};
use crate::seen::Seen;

/// A unary reply, or the `response` inside an event.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Response<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    service_tier: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    incomplete_details: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Incomplete<'a> {
    #[serde(borrow)]
    reason: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    delta: TextBytes,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A part of the output: a message, a call, a thought.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    arguments: TextBytes,
    input: TextBytes,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part<'a> {
    text: TextBytes,
    refusal: TextBytes,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

/// Reads an event of a stream into what was seen so far.
pub(crate) fn read_event(data: &[u8], seen: &mut Seen) -> Kind<'static> {
    // Some servers end as Chat does.
    if data.trim_ascii() == b"[DONE]" {
        return Kind::Terminal;
    }
    let event: Event<'_> = serde_json::from_slice(data).unwrap_or_default();
    let kind = event.kind.as_deref().unwrap_or_default();
    match kind {
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
            let response = read(event.response);
            read_fields(&response, true, seen);
            if kind == "response.failed" && response.error.is_none() {
                seen.error(event.error);
            }
            return Kind::Terminal;
        }
        "error" => {
            // The error is an object of its own, or the event itself.
            let whole = serde_json::from_slice::<&RawValue>(data).ok();
            seen.error(event.error.or(whole));
            return Kind::Terminal;
        }
        "response.output_item.done" => call(&read(event.item), seen),
        _ if kind.ends_with(".delta") => {
            let (bytes, thought) = (event.delta.0, kind.contains("reasoning"));
            let (text, reasoning) = if thought { (0, bytes) } else { (bytes, 0) };
            seen.output(text, reasoning);
        }
        _ => {
            let response: Response<'_> = read(event.response);
            seen.identify(&response.id, &response.model, &response.service_tier);
        }
    }
    Kind::Other
}

/// Reads a unary reply; tells whether it is one.
pub(crate) fn read_reply(data: &[u8], seen: &mut Seen) -> bool {
    let Ok(response) = serde_json::from_slice::<Response<'_>>(data) else { return false };
    for raw in list::<&RawValue>(response.output) {
        let item: Item<'_> = read(Some(raw));
        let parts = |raw| list::<Part<'_>>(raw).into_iter();
        let (mut text, mut thought) = (item.arguments.0 + item.input.0, 0);
        for part in parts(item.content).chain(parts(item.summary)) {
            let reasoning = part.kind.as_deref().is_some_and(|kind| kind.contains("reasoning"));
            let bytes = part.text.0 + part.refusal.0;
            *(if reasoning || item.kind.as_deref() == Some("reasoning") {
                &mut thought
            } else {
                &mut text
            }) += bytes;
        }
        seen.output(text, thought);
        call(&item, seen);
    }
    read_fields(&response, true, seen);
    response.output.or(response.usage).is_some()
}

/// Reads a stored response that is shown again: what it says of itself happened before.
pub(crate) fn read_shown(data: &[u8], seen: &mut Seen) -> bool {
    let Ok(response) = serde_json::from_slice::<Response<'_>>(data) else { return false };
    seen.identify(&response.id, &response.model, &response.service_tier);
    true
}

/// Notes what a finished item called: a tool of the caller's, or one that the provider ran for a fee.
fn call(item: &Item<'_>, seen: &mut Seen) {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Action<'a> {
        #[serde(borrow, rename = "type")]
        kind: Text<'a>,
    }
    match item.kind.as_deref().unwrap_or_default() {
        "function_call" | "custom_tool_call" | "mcp_call" => {
            if let Some(name) = item.name.owned() {
                seen.tool(name);
            }
        }
        "web_search_call" => {
            // Opening a page that a search found, or looking for a word in it, is free.
            let action: Action<'_> = read(item.action);
            if matches!(action.kind.as_deref(), None | Some("search")) {
                seen.unit(Unit::WebSearch, 1);
            }
        }
        "file_search_call" => seen.unit(Unit::FileSearch, 1),
        // Billed by the container or the picture, of which the usage says nothing.
        "code_interpreter_call" | "shell_call" | "image_generation_call" => {
            seen.doubt(Doubt::LowerBound);
        }
        _ => {}
    }
}

fn read_fields(response: &Response<'_>, last: bool, seen: &mut Seen) {
    seen.identify(&response.id, &response.model, &response.service_tier);
    let incomplete: Incomplete<'_> = read(response.incomplete_details);
    if incomplete.reason.as_deref().is_some() {
        seen.finish(&incomplete.reason);
    } else {
        seen.finish(&response.status);
    }
    if let Some(usage) = response.usage {
        seen.usage(usage, false, last);
    }
    if response.error.is_some() {
        seen.error(response.error);
    }
}

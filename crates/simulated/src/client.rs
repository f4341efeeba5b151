//! The client's side: a request of a workload, as its application would send it.

use std::fmt::Write as _;

use quantity::TokenCount;
use workload::{Api, Labels, Request, Role, Segment};

use crate::reply::json_string;
use crate::words;

/// What Anthropic's interface requires when the workload sets no cap.
const UNCAPPED: TokenCount = TokenCount::new(8_192).expect("small");

/// A request, ready to be sent with `POST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// From `/v1` on.
    pub path: &'static str,
    /// Beside `content-length`, in order; names are lower case.
    pub headers: Vec<(String, String)>,
    /// JSON.
    pub body: String,
}

/// Writes a request as an application would send it, with text that has exactly the tokens of its
/// shape, its labels as `x-farthing-` headers, and its wishes in `metadata`. Equal segments become
/// equal text. Tool schemas cannot be shorter than their names: then they have more tokens.
#[must_use]
pub fn http_request(request: &Request) -> HttpRequest {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    if request.api == Api::AnthropicMessages {
        headers.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
    }
    if request.retry > 0 {
        headers.push(("x-stainless-retry-count".to_owned(), request.retry.to_string()));
    }
    label_headers(&request.labels, &mut headers);
    let (path, body) = match request.api {
        Api::OpenAiChat => ("/v1/chat/completions", chat_completion(request)),
        Api::AnthropicMessages => ("/v1/messages", messages(request)),
        Api::OpenAiEmbeddings => ("/v1/embeddings", embeddings(request)),
    };
    HttpRequest { path, headers, body }
}

fn label_headers(labels: &Labels, headers: &mut Vec<(String, String)>) {
    for (name, value) in [
        ("x-farthing-route", &labels.route),
        ("x-farthing-task-type", &labels.task_type),
        ("x-farthing-task", &labels.task_id),
        ("x-farthing-user", &labels.user),
        ("x-farthing-team", &labels.team),
    ] {
        if let Some(value) = value {
            headers.push((name.to_owned(), value.clone()));
        }
    }
    for (name, value) in &labels.tags {
        headers.push((format!("x-farthing-tag-{name}"), value.clone()));
    }
}

fn begin(request: &Request) -> String {
    let size = request.shape.input().get().saturating_mul(4).min(1 << 24);
    let mut body = String::with_capacity(usize::try_from(size).unwrap_or(0) + 1024);
    body.push_str("{\"model\":");
    body.push_str(&json_string(&request.model));
    body
}

fn metadata(request: &Request, body: &mut String) {
    let shape = &request.shape;
    let mut wishes = Vec::new();
    if request.api != Api::OpenAiEmbeddings {
        wishes.push(format!(r#""sim_output_tokens":"{}""#, shape.output));
        if shape.reasoning > TokenCount::ZERO {
            wishes.push(format!(r#""sim_reasoning_tokens":"{}""#, shape.reasoning));
        }
        if shape.tools_called > 0 {
            wishes.push(format!(r#""sim_tool_calls":"{}""#, shape.tools_called));
        }
    }
    if let Some(fault) = request.fault.filter(|fault| fault.is_servers()) {
        wishes.push(format!(r#""sim_fault":"{fault}""#));
    }
    if !wishes.is_empty() {
        let _ = write!(body, r#","metadata":{{{}}}"#, wishes.join(","));
    }
}

/// A string of the segment's text; words need no escapes.
fn text(body: &mut String, segment: &Segment) {
    body.push('"');
    words::write(body, segment.identity, segment.tokens);
    body.push('"');
}

fn is_message(segment: &&Segment) -> bool {
    segment.role != Role::Tools
}

fn chat_completion(request: &Request) -> String {
    let mut body = begin(request);
    body.push_str(",\"messages\":[");
    for (index, segment) in request.shape.prompt.iter().filter(is_message).enumerate() {
        body.push_str(if index == 0 { "" } else { "," });
        body.push_str(match segment.role {
            Role::System | Role::Tools => r#"{"role":"system","content":"#,
            Role::User | Role::Retrieved => r#"{"role":"user","content":"#,
            Role::Assistant => r#"{"role":"assistant","content":"#,
            Role::ToolResult => r#"{"role":"tool","tool_call_id":"call_0","content":"#,
        });
        text(&mut body, segment);
        body.push('}');
    }
    body.push(']');
    tools(request, &mut body);
    if let Some(cap) = request.shape.max_tokens {
        let _ = write!(body, r#","max_completion_tokens":{cap}"#);
    }
    if request.stream {
        body.push_str(",\"stream\":true");
    }
    metadata(request, &mut body);
    body.push('}');
    body
}

fn messages(request: &Request) -> String {
    const MARK: &str = r#","cache_control":{"type":"ephemeral"}"#;
    let shape = &request.shape;
    let mark = if shape.marks_cache { MARK } else { "" };
    let mut body = begin(request);
    let cap = shape.max_tokens.unwrap_or(UNCAPPED);
    let _ = write!(body, r#","max_tokens":{cap}"#);
    let mut system = shape.prompt.iter().filter(|one| one.role == Role::System).peekable();
    if system.peek().is_some() {
        body.push_str(",\"system\":[");
        while let Some(segment) = system.next() {
            body.push_str(r#"{"type":"text","text":"#);
            text(&mut body, segment);
            body.push_str(if system.peek().is_some() { "}," } else { mark });
        }
        body.push_str("}]");
    }
    body.push_str(",\"messages\":[");
    let mut rest =
        shape.prompt.iter().filter(is_message).filter(|one| one.role != Role::System).peekable();
    while let Some(segment) = rest.next() {
        body.push_str(match segment.role {
            Role::Assistant => r#"{"role":"assistant","content":[{"type":"text","text":"#,
            Role::ToolResult => {
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_0","content":"#
            }
            _ => r#"{"role":"user","content":[{"type":"text","text":"#,
        });
        text(&mut body, segment);
        let last = rest.peek().is_none();
        body.push_str(if last { mark } else { "" });
        body.push_str(if last { "}]}" } else { "}]}," });
    }
    body.push(']');
    tools(request, &mut body);
    if request.stream {
        body.push_str(",\"stream\":true");
    }
    metadata(request, &mut body);
    body.push('}');
    body
}

fn embeddings(request: &Request) -> String {
    let mut body = begin(request);
    body.push_str(",\"input\":[");
    for (index, segment) in request.shape.prompt.iter().filter(is_message).enumerate() {
        body.push_str(if index == 0 { "" } else { "," });
        text(&mut body, segment);
    }
    body.push(']');
    metadata(request, &mut body);
    body.push('}');
    body
}

/// The tools offered; their descriptions are as long as it takes.
fn tools(request: &Request, body: &mut String) {
    let shape = &request.shape;
    let offered = u64::from(shape.tools_offered);
    if offered == 0 {
        return;
    }
    let tokens = shape.input_of(Role::Tools).get();
    let identity = shape.prompt.iter().find(|one| one.role == Role::Tools);
    let identity = identity.map_or(0, |segment| segment.identity);
    body.push_str(",\"tools\":[");
    for index in 0..offered {
        // The first ones take what does not divide.
        let share = tokens / offered + u64::from(index < tokens % offered);
        let (head, tail) = match request.api {
            Api::AnthropicMessages => (
                format!(r#"{{"name":"tool_{index}","description":""#),
                r#"","input_schema":{"type":"object","properties":{"query":{"type":"string"}}}}"#,
            ),
            _ => (
                format!(
                    r#"{{"type":"function","function":{{"name":"tool_{index}","description":""#
                ),
                r#"","parameters":{"type":"object","properties":{"query":{"type":"string"}}}}}"#,
            ),
        };
        body.push_str(if index == 0 { "" } else { "," });
        body.push_str(&head);
        let room = share.saturating_mul(4).saturating_sub((head.len() + tail.len()) as u64);
        let mut description = String::new();
        let words = TokenCount::new(room / 4 + 1).unwrap_or(TokenCount::ZERO);
        words::write(&mut description, identity ^ index, words);
        description.truncate(usize::try_from(room).unwrap_or(0));
        body.push_str(&description);
        body.push_str(tail);
    }
    body.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt;

    #[test]
    fn every_request_of_the_demo_is_read_back_with_the_tokens_of_its_shape() {
        for request in workload::demo(1)
            .slice(std::time::Duration::ZERO..std::time::Duration::from_secs(900))
            .requests()
        {
            let sent = http_request(request);
            let body = sent.body.as_bytes();
            let input = match request.api {
                Api::OpenAiEmbeddings => crate::embeddings::embed(body).unwrap().tokens,
                Api::OpenAiChat => prompt::openai(body).unwrap().input_tokens(),
                Api::AnthropicMessages => prompt::anthropic(body, false).unwrap().input_tokens(),
            };
            assert_eq!(input, request.shape.input().get(), "{:.300}", sent.body);
        }
    }

    #[test]
    fn labels_become_headers() {
        let workload = workload::demo(1);
        let labelled =
            workload.requests().iter().find(|request| request.labels.route.is_some()).unwrap();
        let names: Vec<String> =
            http_request(labelled).headers.into_iter().map(|(name, _)| name).collect();
        for name in ["route", "task-type", "task", "user", "team", "tag-env"] {
            assert!(names.contains(&format!("x-farthing-{name}")), "{name}: {names:?}");
        }
    }
}

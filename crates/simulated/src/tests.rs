//! The server over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Constant, Options, Simulated, Stats, Timing};

mod dialects;
mod engine;

/// A response as it came off the wire.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
    /// Chunks, if it came in chunks.
    chunks: usize,
    /// Whether the body ended as HTTP says it must.
    complete: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The JSON of every `data:` line but `[DONE]`.
    fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

async fn server(options: Options) -> Simulated {
    Simulated::on_loopback(options).await.unwrap()
}

async fn open(server: &Simulated, method: &str, path: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    socket
}

async fn ask(server: &Simulated, method: &str, path: &str, body: &str) -> Option<Answer> {
    let mut socket = open(server, method, path, body).await;
    let mut bytes = Vec::new();
    // A connection that was broken off may end with an error; what came before counts.
    let _ = socket.read_to_end(&mut bytes).await;
    read(&String::from_utf8(bytes).unwrap())
}

fn read(text: &str) -> Option<Answer> {
    let (head, mut rest) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    let mut answer =
        Answer { status, head: head.clone(), body: String::new(), chunks: 0, complete: false };
    if header("transfer-encoding").as_deref() != Some("chunked") {
        answer.complete = header("content-length")?.parse() == Ok(rest.len());
        answer.body = rest.to_owned();
        return Some(answer);
    }
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            answer.complete = true;
            break;
        }
        answer.body.push_str(&after[..size]);
        answer.chunks += 1;
        rest = &after[size + 2..];
    }
    Some(answer)
}

async fn chat(server: &Simulated, wishes: &str, fields: Value) -> Option<Answer> {
    let content = format!("hello [[sim {wishes}]]");
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ask(server, "POST", "/v1/chat/completions", &body.to_string()).await
}

async fn message(server: &Simulated, wishes: &str, fields: Value) -> Option<Answer> {
    let content = format!("hello [[sim {wishes}]]");
    let mut body = json!({
        "model": "c", "max_tokens": 500, "messages": [{"role": "user", "content": content}],
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ask(server, "POST", "/v1/messages", &body.to_string()).await
}

/// Waits until the server has seen what a client did.
async fn until(server: &Simulated, seen: impl Fn(Stats) -> bool) -> Stats {
    for _ in 0..1_000 {
        if seen(server.stats()) {
            return server.stats();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not seen: {:?}", server.stats())
}

#[tokio::test]
async fn an_openai_stream_is_written_as_openai_writes_it() {
    let server = server(Options::default()).await;
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = chat(&server, "output=2 reasoning=3", usage).await.unwrap();
    assert!(answer.complete);
    assert!(answer.head.contains("content-type: text/event-stream"));
    assert!(answer.head.contains("x-request-id: req_"));
    assert_eq!(answer.chunks, 5, "one frame for each event that writes something");
    assert_eq!(answer.body.replace(OPENAI_HEAD, "HEAD"), OPENAI_STREAM);
}

/// What every chunk begins with.
const OPENAI_HEAD: &str = r#""id":"chatcmpl-be9fbd79ed48eb51343faf52","object":"chat.completion.chunk","created":1795305604,"model":"m","service_tier":"default","system_fingerprint":"fp_simulated""#;

const OPENAI_STREAM: &str = r#"data: {HEAD,"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}

data: {HEAD,"choices":[{"index":0,"delta":{"content":"day"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {HEAD,"choices":[{"index":0,"delta":{"content":" try"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {HEAD,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {HEAD,"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

data: [DONE]

"#;

#[tokio::test]
async fn an_anthropic_stream_is_written_as_anthropic_writes_it() {
    let server = server(Options::default()).await;
    let tools = json!({"stream": true, "tools": [{"name": "search", "input_schema": {}}]});
    let answer = message(&server, "output=14 reasoning=3 tools=1", tools).await.unwrap();
    assert!(answer.complete);
    assert!(answer.head.contains("request-id: req_"));
    assert_eq!(answer.body, ANTHROPIC_STREAM);
}

const ANTHROPIC_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_6c597661ca8bf37dc52cd152","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ltdWxhdGVk"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"per"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":" why"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_6c597661ca8bf37dc52cd152_0","name":"search","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"the first page of what you found\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":20,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":17,"output_tokens_details":{"thinking_tokens":3}}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[tokio::test]
async fn usage_comes_in_a_stream_only_if_asked_for_and_in_every_chunk_only_on_demand() {
    let server = server(Options::default()).await;
    let plain = chat(&server, "output=2", json!({"stream": true})).await.unwrap();
    assert!(!plain.body.contains("usage") && plain.body.ends_with("data: [DONE]\n\n"));
    let hidden = json!({"stream": true, "stream_options": {"include_usage": true}});
    let hidden = chat(&server, "output=2 fault=no_usage", hidden).await.unwrap();
    assert!(!hidden.body.contains("usage") && hidden.body.ends_with("data: [DONE]\n\n"));
    let every = chat(&server, "output=2 reasoning=1 fault=cumulative", json!({"stream": true}));
    let counts: Vec<Value> = every
        .await
        .unwrap()
        .events()
        .iter()
        .map(|event| event["usage"]["completion_tokens"].clone())
        .collect();
    assert_eq!(counts, [0, 2, 3, 3, 3]);
    let no_message_usage = message(&server, "fault=no_usage", json!({"stream": true})).await;
    assert!(!no_message_usage.unwrap().body.contains("usage"));
}

#[tokio::test]
async fn unary_and_streamed_replies_agree_and_their_usage_adds_up() {
    let server = server(Options::default()).await;
    let wishes = "output=40 reasoning=8 tools=2";
    let unary = chat(&server, wishes, json!({})).await.unwrap().json();
    let choice = &unary["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 2);
    let usage = &unary["usage"];
    assert_eq!(usage["completion_tokens"], 48);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 8);
    assert_eq!(usage["prompt_tokens"], 11);
    assert_eq!(usage["total_tokens"], 11 + 48);
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = chat(&server, wishes, asked).await.unwrap().events();
    assert_eq!(&events.last().unwrap()["usage"], usage);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(choice["message"]["content"], text);

    let unary = message(&server, wishes, json!({})).await.unwrap().json();
    assert_eq!(
        (&unary["stop_reason"], &unary["usage"]["output_tokens"]),
        (&json!("tool_use"), &json!(48))
    );
    let events = message(&server, wishes, json!({"stream": true})).await.unwrap().events();
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    for (name, count) in delta["usage"].as_object().unwrap() {
        assert_eq!(&unary["usage"][name], count, "{name}");
    }
    let stats = server.stats();
    assert_eq!((stats.requests, stats.completed, stats.running), (4, 4, 0));
    assert_eq!(stats.generated_tokens, 4 * 48);
}

#[tokio::test]
async fn a_cap_ends_the_reply() {
    let server = server(Options::default()).await;
    let capped = chat(&server, "output=40", json!({"max_tokens": 5})).await.unwrap().json();
    assert_eq!(capped["choices"][0]["finish_reason"], "length");
    assert_eq!(capped["usage"]["completion_tokens"], 5);
    let capped = message(&server, "output=40", json!({"max_tokens": 5})).await.unwrap().json();
    assert_eq!(
        (&capped["stop_reason"], &capped["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(5))
    );
}

#[tokio::test]
async fn faults_that_refuse_have_the_status_and_the_shape_of_the_dialect() {
    let server = server(Options::default()).await;
    let limited = chat(&server, "fault=429", json!({"stream": true})).await.unwrap();
    assert_eq!(
        (limited.status, &limited.json()["error"]["code"]),
        (429, &json!("rate_limit_exceeded"))
    );
    assert!(limited.head.contains("retry-after: 1"));
    let limited = message(&server, "fault=429", json!({})).await.unwrap();
    assert_eq!(
        (limited.status, &limited.json()["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    let failed = chat(&server, "fault=500", json!({})).await.unwrap();
    assert_eq!((failed.status, &failed.json()["error"]["type"]), (500, &json!("server_error")));
    let failed = message(&server, "fault=500", json!({})).await.unwrap();
    assert_eq!((failed.status, &failed.json()["error"]["type"]), (500, &json!("api_error")));
    let page = message(&server, "fault=html", json!({"stream": true})).await.unwrap();
    assert_eq!(page.status, 502);
    assert!(page.head.contains("content-type: text/html") && page.body.starts_with("<html>"));
    let stats = server.stats();
    assert_eq!((stats.requests, stats.refused, stats.generated_tokens), (5, 5, 0));
}

#[tokio::test]
async fn a_cut_stream_ends_after_its_tokens_without_an_end() {
    let server = server(Options::default()).await;
    let cut = chat(&server, "output=9 fault=cut:4", json!({"stream": true})).await.unwrap();
    assert_eq!((cut.status, cut.complete), (200, false));
    assert_eq!(cut.events().len(), 1 + 4);
    assert!(!cut.body.contains("[DONE]") && !cut.body.contains("\"finish_reason\":\""));
    let late = message(&server, "output=2 fault=cut:99", json!({"stream": true})).await.unwrap();
    assert!(!late.complete && late.body.contains("content_block_stop"));
    assert!(!late.body.contains("message_delta"));
    let unary = chat(&server, "output=9 fault=cut:4", json!({})).await.unwrap();
    assert_eq!((unary.status, unary.complete, unary.body.len()), (200, false, 16));
    assert_eq!((server.stats().broken, server.stats().running), (3, 0));
}

#[tokio::test]
async fn an_error_event_ends_the_stream_inside_a_200() {
    let server = server(Options::default()).await;
    let error = chat(&server, "output=9 fault=error:3", json!({"stream": true})).await.unwrap();
    assert_eq!((error.status, error.complete), (200, true));
    assert_eq!(error.events().len(), 1 + 3 + 1);
    assert_eq!(error.events().last().unwrap()["error"]["type"], "server_error");
    assert!(!error.body.contains("[DONE]"));
    let error = message(&server, "output=9 fault=error:3", json!({"stream": true})).await.unwrap();
    assert!(error.body.contains("event: error\ndata: {\"type\":\"error\","));
    assert!(!error.body.contains("message_stop"));
    assert_eq!(server.stats().broken, 2);
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_the_generation() {
    let timing = Arc::new(Constant { ttft: Duration::ZERO, tpot: Duration::from_millis(2) });
    let server = server(Options { timing, ..Options::default() }).await;
    for stream in [true, false] {
        let body = json!({"model": "m", "stream": stream, "messages": [
            {"role": "user", "content": "[[sim output=100000]]"},
        ]});
        let mut socket = open(&server, "POST", "/v1/chat/completions", &body.to_string()).await;
        if stream {
            let mut some = [0; 600];
            socket.read_exact(&mut some).await.unwrap();
        }
        until(&server, |stats| stats.running == 1 && stats.generated_tokens > 0).await;
        drop(socket);
        until(&server, |stats| stats.running == 0).await;
    }
    let stats = server.stats();
    assert_eq!((stats.requests, stats.cancelled, stats.completed), (2, 2, 0));
    assert!(stats.generated_tokens < 100_000, "{stats:?}");
}

#[tokio::test]
async fn a_stalled_stream_waits_for_its_client_to_leave_or_ends_by_itself() {
    let stalled = server(Options::default()).await;
    let body = json!({"model": "m", "stream": true, "messages": [
        {"role": "user", "content": "[[sim output=9 fault=stall:2]]"},
    ]})
    .to_string();
    let socket = open(&stalled, "POST", "/v1/chat/completions", &body).await;
    until(&stalled, |stats| stats.generated_tokens == 2).await;
    drop(socket);
    let stats = until(&stalled, |stats| stats.running == 0).await;
    assert_eq!((stats.cancelled, stats.generated_tokens), (1, 2));

    let hurried = server(Options { speed: 1_000, ..Options::default() }).await;
    let ended = ask(&hurried, "POST", "/v1/chat/completions", &body).await.unwrap();
    assert_eq!((ended.complete, ended.events().len()), (false, 3));
    let unary = chat(&hurried, "fault=stall:2", json!({})).await;
    assert_eq!(unary, None, "nothing at all comes");
    assert_eq!(hurried.stats().broken, 2);
}

#[tokio::test]
async fn a_repeated_prefix_is_reported_as_cached() {
    let server = server(Options::default()).await;
    let persona = "word".repeat(1_500);
    let cached = |model: &str, question: &str| {
        let body = json!({"model": model, "messages": [
            {"role": "system", "content": persona}, {"role": "user", "content": question},
        ]});
        body.to_string()
    };
    let mut read = Vec::new();
    for (model, question) in [("m", "first"), ("m", "second"), ("other", "third")] {
        let body = cached(model, question);
        let answer = ask(&server, "POST", "/v1/chat/completions", &body).await.unwrap().json();
        read.push(answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone());
    }
    assert_eq!(read, [0, 1_408, 0]);

    let marked = |ttl: &str, question: &str| {
        json!({"system": [{"type": "text", "text": persona,
            "cache_control": {"type": "ephemeral", "ttl": ttl}}],
            "messages": [{"role": "user", "content": question}]})
    };
    let mut usages = Vec::new();
    for fields in [marked("1h", "12345678"), marked("1h", "1234")] {
        let usage = message(&server, "", fields).await.unwrap().json()["usage"].clone();
        usages.push([
            usage["input_tokens"].clone(),
            usage["cache_read_input_tokens"].clone(),
            usage["cache_creation_input_tokens"].clone(),
            usage["cache_creation"]["ephemeral_1h_input_tokens"].clone(),
        ]);
    }
    assert_eq!(usages[0], [2, 0, 1_500, 1_500]);
    assert_eq!(usages[1], [1, 1_500, 0, 0]);
    assert_eq!(server.stats().cached_tokens, 1_408 + 1_500);
}

#[tokio::test]
async fn equal_requests_get_equal_replies_but_for_their_ids() {
    let one = server(Options { seed: 5, ..Options::default() }).await;
    let other = server(Options { seed: 5, ..Options::default() }).await;
    let first = chat(&one, "output=7", json!({"stream": true})).await.unwrap();
    assert_eq!(first.body, chat(&other, "output=7", json!({"stream": true})).await.unwrap().body);
    let second = chat(&one, "output=7", json!({"stream": true})).await.unwrap();
    let id = |answer: &Answer| answer.events()[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(id(&first), id(&second));
    assert_eq!(first.body, second.body.replace(&id(&second), &id(&first)));
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_the_dialect_s_shape() {
    let server = server(Options { body_limit_bytes: 2_000, ..Options::default() }).await;
    let large = " ".repeat(2_001);
    for (method, path, body, status) in [
        ("POST", "/v1/chat/completions", "{", 400),
        ("POST", "/v1/messages", "{\"model\":\"m\"}", 400),
        ("POST", "/v1/embeddings", "[]", 400),
        ("POST", "/v1/messages/count_tokens", "", 400),
        ("GET", "/v1/chat/completions", "", 405),
        ("POST", "/v1/files", "{}", 404),
        ("POST", "/v1/messages/batches", "{}", 404),
        ("POST", "/v1/messages", &large, 413),
    ] {
        let answer = ask(&server, method, path, body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["error"]["message"].is_string());
        let anthropic = path.starts_with("/v1/messages");
        assert_eq!(answer.json()["type"] == "error", anthropic, "{method} {path}");
    }
}

#[tokio::test]
async fn the_smaller_endpoints_answer() {
    let server = server(Options::default()).await;
    let models = ask(&server, "GET", "/v1/models", "").await.unwrap().json();
    assert_eq!(models["data"][0]["id"], "simulated-1");
    let counted = r#"{"model":"c","messages":[{"role":"user","content":"12345"}]}"#;
    let counted = ask(&server, "POST", "/v1/messages/count_tokens", counted).await.unwrap();
    assert_eq!(counted.json(), json!({"input_tokens": 2}));
    assert_eq!(server.stats().requests, 0);
    let embedded = r#"{"model":"e","input":"12345","encoding_format":"base64"}"#;
    let embedded = ask(&server, "POST", "/v1/embeddings", embedded).await.unwrap().json();
    assert_eq!(embedded["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    assert_eq!(embedded["data"][0]["embedding"].as_str().unwrap().len(), 16_usize * 4 / 3 * 4 + 4);
    assert_eq!((server.stats().completed, server.stats().input_tokens), (1, 2));
}

#[tokio::test]
async fn random_faults_come_at_their_rate() {
    let faulty = server(Options { faults_per_mille: 1_000, ..Options::default() }).await;
    let healthy = server(Options::default()).await;
    for _ in 0..20 {
        for server in [&faulty, &healthy] {
            chat(server, "output=20", json!({"stream": true})).await;
        }
    }
    assert_eq!((faulty.stats().completed, healthy.stats().completed), (0, 20));
    assert!(faulty.stats().broken > 0 && faulty.stats().refused > 0);
}

/// Notes what it is asked.
#[derive(Default)]
struct Noted(Mutex<Vec<(u64, u64)>>);

impl Timing for Noted {
    fn ttft(&self, input_uncached: u64, cached: u64) -> Duration {
        self.0.lock().unwrap().push((input_uncached, cached));
        Duration::from_secs(30)
    }

    fn tpot(&self, running: usize) -> Duration {
        assert_eq!(running, 1);
        Duration::from_secs(10)
    }
}

#[tokio::test]
async fn the_timing_decides_with_what_the_cache_found_and_speed_shortens_it() {
    let noted = Arc::new(Noted::default());
    let options = Options { timing: Arc::clone(&noted) as _, speed: 10_000, ..Options::default() };
    let server = server(options).await;
    let system = json!([{"role": "system", "content": "word".repeat(2_048)},
        {"role": "user", "content": "[[sim output=3 reasoning=2]]"}]);
    for stream in [true, false] {
        let fields = json!({"stream": stream, "messages": system});
        assert!(chat(&server, "", fields).await.unwrap().complete);
    }
    assert_eq!(*noted.0.lock().unwrap(), [(2_055, 0), (7, 2_048)]);
}

#[tokio::test]
async fn a_shutdown_lets_the_open_exchange_end() {
    let timing = Arc::new(Constant { ttft: Duration::ZERO, tpot: Duration::from_millis(1) });
    let server = server(Options { timing, ..Options::default() }).await;
    let body = json!({"model": "m", "stream": true, "messages": [
        {"role": "user", "content": "[[sim output=20]]"},
    ]});
    let mut socket = open(&server, "POST", "/v1/chat/completions", &body.to_string()).await;
    until(&server, |stats| stats.running == 1).await;
    let address = server.address();
    let mut bytes = Vec::new();
    let (_, read_result) = tokio::join!(server.shutdown(), socket.read_to_end(&mut bytes));
    read_result.unwrap();
    assert!(read(&String::from_utf8(bytes).unwrap()).unwrap().complete);
    assert!(TcpStream::connect(address).await.is_err());
}

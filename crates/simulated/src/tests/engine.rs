//! Replies at the pace of an engine: what it finds in its prefix cache is not computed, and told.

use serde_json::{Value, json};
use servesim::{Batch, Engine, Linear, StepTime};

use super::{Answer, ask, server};
use crate::{Options, Serving, Simulated};

/// Reads a token in a millisecond.
#[derive(Debug, Clone, Copy)]
struct Machine;

const TOKEN_PS: u64 = 1_000_000_000;

impl StepTime for Machine {
    fn step(&self, batch: &Batch) -> Linear {
        let tokens = u64::from(batch.prefill_tokens) + u64::from(batch.decodes);
        Linear { base: tokens * TOKEN_PS, per_context: 0, per_windowed: 0 }
    }
}

async fn with_engine(enable_prefix_caching: bool) -> Simulated {
    let engine = Engine { enable_prefix_caching, ..Engine::new(1_000, 4_096) };
    let engine = Serving::start(&engine, Machine, 1, 1_000).unwrap();
    server(Options { engine: Some(engine), speed: 1_000, ..Options::default() }).await
}

/// 400 tokens that every prompt begins with.
fn system() -> String {
    "word".repeat(400)
}

/// A request of 404 tokens in the words of a dialect, and where its usage tells the tokens that were read, and those of
/// them that were cached.
fn request(dialect: &str, stream: bool) -> (String, Value, [&'static str; 2]) {
    let (system, text) = (system(), "[[sim output=3]]");
    let messages =
        json!([{"role": "system", "content": system}, {"role": "user", "content": text}]);
    let usage = ["/usage/prompt_tokens", "/usage/prompt_tokens_details/cached_tokens"];
    let (path, mut body, usage) = match dialect {
        "chat" => ("chat/completions", json!({"messages": messages}), usage),
        "completions" => ("completions", json!({"prompt": system + text}), usage),
        "responses" => {
            let usage = ["/usage/input_tokens", "/usage/input_tokens_details/cached_tokens"];
            ("responses", json!({"instructions": system, "input": text}), usage)
        }
        "messages" => {
            let body = json!({"system": system, "max_tokens": 9, "messages": [messages[1]]});
            ("messages", body, ["/usage/input_tokens", "/usage/cache_read_input_tokens"])
        }
        _ => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"systemInstruction": {"parts": [{"text": system}]},
                "contents": [{"role": "user", "parts": [{"text": text}]}]});
            let usage =
                ["/usageMetadata/promptTokenCount", "/usageMetadata/cachedContentTokenCount"];
            return (format!("/v1beta/models/m:{method}"), body, usage);
        }
    };
    body["model"] = json!("m");
    body["stream"] = json!(stream);
    if stream && usage[0] == "/usage/prompt_tokens" {
        body["stream_options"] = json!({"include_usage": true});
    }
    (format!("/v1/{path}"), body, usage)
}

/// The usage of a reply, wherever a stream tells it.
fn told(answer: &Answer, stream: bool, usage: [&str; 2]) -> [u64; 2] {
    let events = if stream { answer.events() } else { vec![answer.json()] };
    let within = events.iter().flat_map(|event| [event, &event["message"], &event["response"]]);
    let within: Vec<&Value> = within.collect();
    usage.map(|pointer| {
        let all = within.iter().filter_map(|one| one.pointer(pointer)?.as_u64());
        all.max().unwrap_or(0)
    })
}

#[tokio::test]
async fn a_prompt_that_the_engine_has_begins_sooner_and_is_told_as_cached() {
    for dialect in ["chat", "completions", "responses", "messages", "gemini"] {
        for stream in [true, false] {
            let server = with_engine(true).await;
            let (path, body, usage) = request(dialect, stream);
            let mut found = Vec::new();
            for _ in 0..2 {
                let answer = ask(&server, "POST", &path, &body.to_string()).await.unwrap();
                assert!(answer.complete, "{dialect} {answer:?}");
                found.push((told(&answer, stream, usage), server.stats().ttft_ps));
            }
            // Anthropic's input does not hold what was read from the cache.
            let rest = if dialect == "messages" { 4 } else { 404 };
            assert_eq!(found[0], ([404, 0], 404 * TOKEN_PS), "{dialect} {stream}");
            assert_eq!(found[1], ([rest, 400], (404 + 4) * TOKEN_PS), "{dialect} {stream}");
            let stats = server.stats();
            assert_eq!((stats.begun, stats.input_tokens, stats.cached_tokens), (2, 808, 400));
        }
    }
}

#[tokio::test]
async fn a_growing_conversation_finds_what_was_asked_before() {
    for (caching, cached) in [(true, [0, 496, 688]), (false, [0; 3])] {
        let server = with_engine(caching).await;
        let mut messages = vec![json!({"role": "system", "content": system()})];
        let mut read = 0;
        for cached in cached {
            // 100 tokens of a question, and of the reply that the next one repeats.
            messages.push(json!({"role": "user", "content": "ask ".repeat(100)}));
            let body = json!({"model": "m", "max_tokens": 9, "messages": messages}).to_string();
            let answer = ask(&server, "POST", "/v1/chat/completions", &body).await.unwrap();
            let usage = ["/usage/prompt_tokens", "/usage/prompt_tokens_details/cached_tokens"];
            let tokens = 400 + 100 * messages.len() as u64 - 100;
            assert_eq!(told(&answer, false, usage), [tokens, cached]);
            read += tokens - cached;
            assert_eq!(server.stats().ttft_ps, read * TOKEN_PS);
            messages.push(json!({"role": "assistant", "content": "said".repeat(100)}));
        }
    }
}

#[tokio::test]
async fn a_stored_response_tells_what_its_stream_told() {
    let server = with_engine(true).await;
    let (path, body, usage) = request("responses", true);
    ask(&server, "POST", &path, &body.to_string()).await.unwrap();
    let streamed = ask(&server, "POST", &path, &body.to_string()).await.unwrap();
    let id = streamed.events()[0]["response"]["id"].as_str().unwrap().to_owned();
    let stored = ask(&server, "GET", &format!("{path}/{id}"), "").await.unwrap();
    assert_eq!(told(&stored, false, usage), [404, 400]);
    assert_eq!(stored.json()["usage"], streamed.events().pop().unwrap()["response"]["usage"]);
}

//! Responses, Completions and Gemini: unary and streamed replies agree, faults have their shapes.

use serde_json::{Value, json};

use super::{Answer, ask, server};
use crate::{Options, Simulated};

async fn post(server: &Simulated, path: &str, body: &Value) -> Answer {
    ask(server, "POST", path, &body.to_string()).await.unwrap()
}

/// A request of a dialect's and its two paths.
fn asking(dialect: &str, wishes: &str, stream: bool) -> (String, Value) {
    let text = format!("hello [[sim {wishes}]]");
    let tool = json!({"type": "function", "name": "search", "parameters": {}});
    match dialect {
        "responses" => {
            let body = json!({"model": "m", "instructions": "be kind", "input": text,
                "tools": [tool], "stream": stream});
            ("/v1/responses".to_owned(), body)
        }
        "completions" => {
            let mut body = json!({"model": "m", "prompt": text, "stream": stream});
            if stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            ("/v1/completions".to_owned(), body)
        }
        _ => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"systemInstruction": {"parts": [{"text": "be kind"}]},
                "tools": [{"functionDeclarations": [{"name": "search"}]}],
                "contents": [{"role": "user", "parts": [{"text": text}]}]});
            (format!("/v1beta/models/m:{method}"), body)
        }
    }
}

#[tokio::test]
async fn a_stream_of_responses_is_numbered_and_ends_with_the_whole_response() {
    let server = server(Options::default()).await;
    let wishes = "output=14 reasoning=3 tools=1";
    let (path, body) = asking("responses", wishes, true);
    let answer = post(&server, &path, &body).await;
    assert!(answer.complete);
    let events = answer.events();
    let numbers: Vec<u64> =
        events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let (path, body) = asking("responses", wishes, false);
    let unary = post(&server, &path, &body).await.json();
    assert_eq!(last["response"]["usage"], unary["usage"]);
    let usage = &unary["usage"];
    let input = usage["input_tokens"].as_u64().unwrap();
    assert_eq!((&usage["output_tokens"], &usage["total_tokens"]), (&json!(17), &json!(input + 17)));
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 3);
    let kinds: Vec<&Value> =
        unary["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    let deltas = |kind: &str| -> String {
        let of = events.iter().filter(|event| event["type"] == kind);
        of.map(|event| event["delta"].as_str().unwrap()).collect()
    };
    assert_eq!(deltas("response.output_text.delta"), unary["output"][1]["content"][0]["text"]);
    let arguments = deltas("response.function_call_arguments.delta");
    assert_eq!(arguments, unary["output"][2]["arguments"]);

    let id = unary["id"].as_str().unwrap();
    let shown = ask(&server, "GET", &format!("/v1/responses/{id}"), "").await.unwrap();
    assert_eq!((shown.status, shown.json()), (200, unary));
    let none = ask(&server, "GET", "/v1/responses/resp_0", "").await.unwrap();
    assert_eq!(none.status, 404);
    assert_eq!(server.stats().generated_tokens, 2 * 17);
}

#[tokio::test]
async fn a_stream_of_gemini_counts_as_it_goes_and_just_ends() {
    let server = server(Options::default()).await;
    let (path, body) = asking("gemini", "output=14 reasoning=3 tools=1", true);
    let answer = post(&server, &path, &body).await;
    assert!(answer.complete && !answer.body.contains("[DONE]"));
    let events = answer.events();
    let counts: Vec<&Value> =
        events.iter().map(|event| &event["usageMetadata"]["candidatesTokenCount"]).collect();
    assert_eq!(counts, [1, 2, 14, 14]);
    let finishes: Vec<bool> =
        events.iter().map(|event| event["candidates"][0]["finishReason"] == "STOP").collect();
    assert_eq!(finishes, [false, false, false, true]);
    let (path, body) = asking("gemini", "output=14 reasoning=3 tools=1", false);
    let unary = post(&server, &path, &body).await.json();
    assert_eq!(events[3]["usageMetadata"], unary["usageMetadata"]);
    let usage = &unary["usageMetadata"];
    let prompt = usage["promptTokenCount"].as_u64().unwrap();
    assert_eq!(usage["totalTokenCount"], prompt + 14 + 3);
    assert_eq!(usage["thoughtsTokenCount"], 3);
    let parts = unary["candidates"][0]["content"]["parts"].as_array().unwrap().clone();
    assert_eq!(parts[1]["functionCall"]["name"], "search");
    let counted = post(&server, "/v1beta/models/m:countTokens", &body).await.json();
    assert_eq!(counted["totalTokens"], prompt);
    let models = ask(&server, "GET", "/v1beta/models", "").await.unwrap().json();
    assert_eq!(models["models"][0]["name"], "models/simulated-1");
    let array = post(&server, "/v1beta/models/m:streamGenerateContent", &body).await;
    assert_eq!((array.status, &array.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn a_stream_of_completions_brings_text_and_usage_if_asked() {
    let server = server(Options::default()).await;
    let (path, body) = asking("completions", "output=3", true);
    let answer = post(&server, &path, &body).await;
    let events = answer.events();
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    let (path, body) = asking("completions", "output=3", false);
    let unary = post(&server, &path, &body).await.json();
    assert_eq!(unary["choices"][0]["text"], text);
    assert_eq!(events.last().unwrap()["usage"], unary["usage"]);
    assert_eq!(unary["usage"]["completion_tokens"], 3);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_cap_and_faults_end_each_dialect_in_its_own_words() {
    let server = server(Options::default()).await;
    for (dialect, finish) in [
        ("responses", ["/status", "incomplete"]),
        ("completions", ["/choices/0/finish_reason", "length"]),
        ("gemini", ["/candidates/0/finishReason", "MAX_TOKENS"]),
    ] {
        let (path, mut body) = asking(dialect, "output=40", false);
        body["max_output_tokens"] = json!(5);
        body["max_tokens"] = json!(5);
        body["generationConfig"] = json!({"maxOutputTokens": 5});
        let capped = post(&server, &path, &body).await.json();
        assert_eq!(capped.pointer(finish[0]), Some(&json!(finish[1])), "{capped}");
        let (path, body) = asking(dialect, "fault=429", true);
        let limited = post(&server, &path, &body).await;
        assert_eq!(limited.status, 429);
        assert!(limited.json()["error"]["message"].is_string());
        let (path, body) = asking(dialect, "output=9 fault=error:3", true);
        let error = post(&server, &path, &body).await;
        let last = error.events().pop().unwrap();
        assert!(error.complete && (last["type"] == "error" || last["error"].is_object()), "{last}");
        let (path, body) = asking(dialect, "output=9 fault=cut:3", true);
        assert!(!post(&server, &path, &body).await.complete);
        let (path, body) = asking(dialect, "output=2 fault=no_usage", true);
        let silent = post(&server, &path, &body).await;
        assert!(silent.complete && !silent.body.contains("total"), "{}", silent.body);
    }
}

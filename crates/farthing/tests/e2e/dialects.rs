//! Responses, Completions and Gemini through the gateway: what they use, what they cost, what is
//! refused.

use facts::{Api, Charged, End, Verdict};
use quantity::{TokenClass, UsageSource};
use serde_json::json;
use simulated::{Options, Simulated};

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, PRICES, cost, upstream};
use crate::scripted::{Scripted, json as whole_json};

/// OpenAI's and Gemini's dialects at one address, at [`PRICES`].
fn config(address: std::net::SocketAddr) -> String {
    let gemini = upstream("gemini", address).replace("/v1\"", "/v1beta\"");
    upstream("openai", address) + &gemini + PRICES
}

fn post(path: &str, body: &serde_json::Value) -> Call {
    Call::new("POST", path, body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dialect_is_metered_whole_and_streamed() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&config(server.address()));
    let gateway = home.serve();
    let text = "12345678 [[sim output=6]]";
    let generate = json!({"contents": [{"parts": [{"text": text}]}]});
    let mut count = 0;
    for stream in [false, true] {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        for (path, body, api) in [
            (
                "/r/support/v1/responses",
                json!({"model": "m", "input": text, "stream": stream}),
                Api::OpenAiResponses,
            ),
            (
                "/r/support/v1/completions",
                json!({"model": "m", "prompt": text, "stream": stream}),
                Api::OpenAiCompletions,
            ),
            (
                &format!("/r/support/v1beta/models/m:{method}"),
                generate.clone(),
                Api::GeminiGenerate,
            ),
        ] {
            let reply = post(path, &body).send(&gateway).await;
            assert_eq!((reply.status, reply.whole), (200, true), "{path}: {}", reply.text());
            let exchange = home.settled(reply.id()).expect("settled before its end");
            count += 1;
            assert_eq!(home.once_settled(count).await.len(), count);
            assert_eq!((exchange.admission.api, exchange.admission.stream), (api, stream));
            assert_eq!(exchange.admission.labels.route, "support");
            let end = &exchange.attempts[0].end;
            assert_eq!((end.end, end.metered.source), (End::Complete, UsageSource::Reported));
            let tokens = &end.metered.usage.tokens;
            assert_eq!(tokens[TokenClass::OutputText].get(), 6, "{path}");
            let input = i128::from(tokens[TokenClass::InputUncached].get());
            assert_eq!(input, i128::try_from(text.len().div_ceil(4)).unwrap());
            assert_eq!(cost(&exchange), Some(input * INPUT + 6 * OUTPUT), "{path}");
            assert!(!reply.text().contains("\"choices\":[],\"usage\""), "ours is taken out");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_shown_again_is_not_charged_again() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&config(server.address()));
    let gateway = home.serve();
    let made = post("/v1/responses", &json!({"model": "m", "input": "hi"})).send(&gateway).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{id}");
    let shown = Call::get(&path).send(&gateway).await;
    assert_eq!((shown.status, shown.json()), (200, made.json()));
    let exchange = home.settled(shown.id()).unwrap();
    let end = &exchange.attempts[0].end;
    assert_eq!((&end.charged, end.metered.usage.total()), (&Charged::NotBilled, 0));
    assert_eq!(end.response_id.as_deref(), Some(id.as_str()));
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["total"]["exchanges"], 1, "{bill}");
    for (method, path) in [("DELETE", path.clone()), ("POST", format!("{path}/cancel"))] {
        assert!((400..500).contains(&Call::new(method, &path, "").send(&gateway).await.status));
    }
    assert_eq!(server.stats().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_metered_yet_is_refused_and_nothing_is_sent() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&config(server.address()));
    let gateway = home.serve();
    let background = json!({"model": "m", "input": "hi", "background": true});
    let refused = post("/v1/responses", &background).send(&gateway).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("background"));
    let socket = Call::get("/v1/responses").with("upgrade", "websocket");
    let refused = socket.with("connection", "Upgrade").send(&gateway).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (405, &json!("websocket_not_metered"))
    );
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    for (query, reason) in [
        ("generateContent?key=AIza-canary", "key_in_query"),
        ("streamGenerateContent", "stream_as_array"),
        ("generateContent?fields=candidates", "bad_query"),
    ] {
        let refused = post(&format!("/v1beta/models/m:{query}"), &body).send(&gateway).await;
        let error = &refused.json()["error"];
        assert_eq!((refused.status, &error["code"]), (400, &json!(400)));
        assert_eq!(error["status"], "INVALID_ARGUMENT");
        assert_eq!(error["details"][0]["reason"], reason);
    }
    assert_eq!((server.stats().requests, home.journal().0.len()), (0, 0));
    assert!(!gateway.stop().await.contains("AIza-canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geminis_model_is_renamed_in_the_path_and_its_key_travels_in_its_header() {
    let reply = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":1,"totalTokenCount":3},"modelVersion":"m"}"#;
    let server = Scripted::always(whole_json(reply)).await;
    let keyed = config(server.address)
        .replace("/v1beta\"", "/v1beta\"\napi_key_env = \"GEMINI_KEY\"")
        + "[models.alias]\nupstream = \"gemini\"\nmodel = \"m\"\n";
    let home = Home::new(&keyed);
    let gateway = home.serve_with(&[("GEMINI_KEY", "AIza-upstream")]);
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let call = Call::new("POST", "/v1beta/models/alias:generateContent", body);
    let call = call.with("x-goog-api-key", "AIza-client").with("x-http-method-override", "DELETE");
    let answer = call.send(&gateway).await;
    assert_eq!((answer.status, answer.text()), (200, reply));
    let received = server.only();
    assert_eq!(received.line, "POST /v1beta/models/m:generateContent HTTP/1.1");
    assert_eq!(received.header("x-goog-api-key"), Some("AIza-upstream"));
    assert_eq!(received.header("x-http-method-override"), None);
    assert_eq!(received.header("authorization"), None);
    assert_eq!(received.body, body.as_bytes());
    let exchange = home.settled(answer.id()).unwrap();
    assert_eq!(exchange.admission.model_asked.as_deref(), Some("alias"));
    assert_eq!(
        (cost(&exchange), exchange.settlement.verdict),
        (Some(2 * INPUT + OUTPUT), Verdict::Completed)
    );
    // Its owner is known by the header of any dialect.
    let look = Call::get(&format!("/farthing/v1/exchanges/{}", answer.id()));
    assert_eq!(look.clone().send(&gateway).await.status, 404);
    assert_eq!(look.with("x-goog-api-key", "AIza-client").send(&gateway).await.status, 200);
}

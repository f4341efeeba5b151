//! Tokens of one kind are not tokens of another, and one tier is not another: what each is charged.

use facts::Charged;
use serde_json::json;
use tariff::{Book, Key};

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, PRICES, cost, upstream};
use crate::scripted::{Scripted, json as reply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_an_hour_costs_the_price_of_an_hour() {
    let usage = json!({
        "input_tokens": 10, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 2,
    });
    let message = json!({"id": "msg", "model": "m", "content": [], "usage": usage});
    let server = Scripted::always(reply(&message.to_string())).await;
    // A key of the table that `PRICES` ends with.
    let prices = PRICES.to_owned() + "cache_write_1h = \"5\"\n";
    let home = Home::new(&(upstream("anthropic", server.address) + &prices));
    let gateway = home.serve();
    let call = Call::messages(r#"{"model":"m","max_tokens":9,"messages":[]}"#);
    let settled = home.settled(call.send(&gateway).await.id()).unwrap();
    let written = 100 * 3_125_000 + 200 * 5_000_000;
    assert_eq!(cost(&settled), Some(10 * INPUT + 7 * 250_000 + written + 2 * OUTPUT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gemini_thought_is_charged_beside_what_it_said() {
    let usage = json!({
        "promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 3,
        "thoughtsTokenCount": 50, "totalTokenCount": 63,
    });
    let parts = json!([{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]);
    let whole = json!({"candidates": parts, "usageMetadata": usage, "modelVersion": "m"});
    let server = Scripted::always(reply(&whole.to_string())).await;
    let config = upstream("gemini", server.address).replace("/v1\"", "/v1beta\"");
    let home = Home::new(&(config + PRICES));
    let gateway = home.serve();
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let call = Call::new("POST", "/v1beta/models/m:generateContent", body);
    let settled = home.settled(call.send(&gateway).await.id()).unwrap();
    assert_eq!(cost(&settled), Some(6 * INPUT + 4 * 250_000 + (3 + 50) * OUTPUT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_that_served_is_charged_and_not_the_one_that_was_asked_for() {
    const MODEL: &str = "gpt-5-mini";
    let server = Scripted::start(|request| {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17});
        let served = request.header("x-served").unwrap();
        let whole = json!({"model": MODEL, "choices": [], "usage": usage, "service_tier": served});
        vec![crate::scripted::Act::Send(reply(&whole.to_string()))]
    })
    .await;
    let config = format!(
        "[upstreams.openai]\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n",
        server.address
    );
    let home = Home::new(&config);
    let gateway = home.serve();
    let book = Book::builtin();
    let mut rows = std::collections::BTreeSet::new();
    for (asked, served) in
        [("flex", "default"), ("default", "default"), ("auto", "priority"), ("priority", "flex")]
    {
        let body = json!({"model": MODEL, "service_tier": asked, "messages": []}).to_string();
        let answer = Call::chat(body).with("x-served", served).send(&gateway).await;
        let settled = home.settled(answer.id()).unwrap();
        assert_eq!(settled.admission.tier_asked.as_deref(), Some(asked));
        let attempt = &settled.attempts[0];
        let at = attempt.dispatch.at;
        let expected = book.quote(&Key::new("openai", MODEL, at).on(Some(served))).unwrap().id();
        let Charged::Priced { row, .. } = &attempt.end.charged else { panic!("{attempt:?}") };
        assert_eq!(*row, expected, "{asked} asked, {served} served");
        rows.insert(*row);
    }
    assert_eq!(rows.len(), 3, "each tier has its own price");
}

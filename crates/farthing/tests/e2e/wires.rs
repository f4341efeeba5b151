//! What holds on every wire format that is served: who leaves is journalled and stops the model, and
//! the bill is what the provider counted.

use std::collections::BTreeMap;

use facts::{Charged, End, Verdict};
use quantity::{Doubt, UsageSource};
use serde_json::{Value, json};
use simulated::{Options, Simulated, Stats};

use crate::client::Call;
use crate::home::{Home, OUTPUT, PRICES, cost, eventually, upstream};
use crate::scripted::{Scripted, whole};

/// All dialects at one address.
fn all(address: std::net::SocketAddr) -> String {
    let gemini = upstream("gemini", address).replace("/v1\"", "/v1beta\"");
    upstream("openai", address) + &upstream("anthropic", address) + &gemini + PRICES
}

const WIRES: [&str; 5] = ["chat", "messages", "responses", "completions", "gemini"];

/// A request of a wire format, and what each piece of text has in its stream.
fn ask(wire: &str, text: &str, stream: bool) -> (Call, &'static str) {
    let messages = json!([{"role": "user", "content": text}]);
    let (path, body, piece) = match wire {
        "chat" => (
            "/v1/chat/completions",
            json!({"model": "m", "messages": messages, "stream": stream}),
            "\"delta\":{\"content\":",
        ),
        "messages" => (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 500, "messages": messages, "stream": stream}),
            "\"type\":\"text_delta\"",
        ),
        "responses" => (
            "/v1/responses",
            json!({"model": "m", "input": text, "stream": stream}),
            "\"type\":\"response.output_text.delta\"",
        ),
        "completions" => (
            "/v1/completions",
            json!({"model": "m", "prompt": text, "stream": stream}),
            "{\"text\":",
        ),
        "gemini" => (
            match stream {
                true => "/v1beta/models/m:streamGenerateContent?alt=sse",
                false => "/v1beta/models/m:generateContent",
            },
            json!({"contents": [{"parts": [{"text": text}]}]}),
            "\"text\":",
        ),
        other => panic!("{other}"),
    };
    (Call::new("POST", path, body.to_string()).with("anthropic-version", "2023-06-01"), piece)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_any_stream_stops_the_model_and_is_never_billed_nothing_for_tokens() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&all(server.address()));
    let gateway = home.serve();
    let mut left = 0;
    for wire in WIRES {
        for tokens in [0, 1, 7] {
            let text = format!("12345678 [[sim output=9 fault=stall:{tokens}]]");
            let (call, piece) = ask(wire, &text, true);
            let connection = call.begin(&gateway).await;
            if tokens == 0 {
                eventually("the model runs", || server.stats().running == 1).await;
                drop(connection);
            } else {
                let mut reading = connection.head().await.unwrap();
                let mut seen = String::new();
                while seen.matches(piece).count() < tokens {
                    let bytes = reading.piece().await.unwrap();
                    seen.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                drop(reading);
            }
            left += 1;
            let case = format!("{wire} after {tokens}");
            eventually("the model stops", || server.stats().cancelled == left).await;
            let settled = home.once_settled(usize::try_from(left).unwrap()).await;
            let exchange = settled.last().unwrap();
            let end = &exchange.attempts[0].end;
            let ended = (end.end, exchange.settlement.verdict);
            assert_eq!(ended, (End::ClientGone, Verdict::Aborted), "{case}");
            let metered = &end.metered;
            if tokens == 0 {
                // Anthropic's stream begins with the count of the input.
                let sources = [UsageSource::Unknown, UsageSource::Partial];
                assert!(sources.contains(&metered.source), "{case}: {metered:?}");
                assert_ne!(cost(exchange), Some(0), "{case}");
                continue;
            }
            let sources = [UsageSource::Estimated, UsageSource::Partial];
            assert!(sources.contains(&metered.source), "{case}: {metered:?}");
            assert!(metered.doubts.contains(Doubt::LowerBound), "{case}");
            assert!(metered.usage.output() >= tokens as u64, "{case}: {metered:?}");
            assert!(metered.usage.input() > 0, "{case}: {metered:?}");
            assert!(cost(exchange) > Some(i128::try_from(tokens).unwrap() * OUTPUT), "{case}");
        }
    }
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["total"]["exchanges"], left);
}

/// How much of what a provider counted is in the bill, in tokens of input and output.
fn covered(bill: &Value, invoice: &Stats) -> [(u64, u64); 2] {
    let billed = |name: &str| bill["total"][name].as_u64().unwrap();
    [
        (billed("input_tokens"), invoice.input_tokens),
        (billed("output_tokens"), invoice.generated_tokens),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bill_has_every_token_that_the_provider_counted_but_for_calls_around_the_gateway() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&all(server.address()));
    let gateway = home.serve();
    for (wire, n) in WIRES.iter().zip(1_u64..).cycle().take(3 * WIRES.len()) {
        for stream in [false, true] {
            for wish in ["", " reasoning=16", " fault=429", " fault=cumulative"] {
                let text = format!("{} [[sim output={}{wish}]]", "word ".repeat(9), 3 * n);
                let reply = ask(wire, &text, stream).0.send(&gateway).await;
                let expected = if wish.contains("429") { 429 } else { 200 };
                assert_eq!(reply.status, expected, "{wire}{wish}: {}", reply.text());
            }
        }
    }
    let embed = json!({"model": "m", "input": ["12345678", "123"]}).to_string();
    assert_eq!(Call::new("POST", "/v1/embeddings", embed).send(&gateway).await.status, 200);
    let bill = || home.run(&["bill", "--json"]).json();
    // What the provider counted is its own affair: this is its invoice.
    for (billed, invoiced) in covered(&bill(), &server.stats()) {
        assert!(billed == invoiced && billed > 100, "{billed} of {invoiced}");
    }

    let (call, _) = ask("chat", "12345678 [[sim output=5]]", false);
    let around = call.begin_at(server.address()).await.unwrap().head().await.unwrap().rest().await;
    let usage = &around.json()["usage"];
    let [input, output] = covered(&bill(), &server.stats());
    assert_eq!(input.1 - input.0, usage["prompt_tokens"].as_u64().unwrap());
    assert_eq!((output.1 - output.0, usage["completion_tokens"].as_u64()), (5, Some(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_of_the_client_and_of_the_gateway_that_multiply_are_seen_by_task() {
    let busy = whole("503 Service Unavailable", "", "{}");
    let server = Scripted::always(busy).await;
    let retry = "[retry]\nattempts = 3\nmax_wait = \"1ms\"\n";
    let home = Home::new(&(retry.to_owned() + &upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    for (task, tries) in [("T-1", 2), ("T-2", 1)] {
        for retry in 0..tries {
            let call = Call::chat(r#"{"model":"m"}"#).with("x-farthing-task", task);
            let call = call.with("x-stainless-retry-count", &retry.to_string());
            assert_eq!(call.send(&gateway).await.status, 503);
        }
    }
    assert_eq!(server.received().len(), 9);
    let (settled, _) = home.journal();
    let retries = settled.iter().map(|exchange| exchange.admission.client_retry);
    assert_eq!(retries.collect::<Vec<_>>(), [Some(0), Some(1), Some(0)]);
    let bill = home.run(&["bill", "--by", "task", "--json"]).json();
    let groups = bill["groups"].as_array().unwrap().iter();
    let counted: BTreeMap<&str, (u64, u64, u64)> = groups
        .map(|group| {
            let count = |name: &str| group["measures"][name].as_u64().unwrap();
            let counts = (count("exchanges"), count("attempts"), count("unknown_attempts"));
            (group["key"]["task"].as_str().unwrap(), counts)
        })
        .collect();
    // Three tries of ours for each of the client's; what they cost nobody told.
    assert_eq!(counted, BTreeMap::from([("T-1", (2, 6, 6)), ("T-2", (1, 3, 3))]));
    for attempt in settled.iter().flat_map(|exchange| &exchange.attempts) {
        assert!(matches!(attempt.end.charged, Charged::Unpriced { .. }));
    }
}

//! What passes, and what ends at the gateway.

use std::sync::Arc;

use facts::{End, Verdict};
use quantity::UsageSource;
use simulated::{Options, Simulated};
use tokio::sync::Semaphore;

use crate::client::{Call, Reply};
use crate::home::{Home, INPUT, OUTPUT, PRICES, both, cost, upstream};
use crate::scripted::{Act, END, SSE, Scripted, chunk, json, stream, whole};

const CHAT: &str = r#"{ "id":"chatcmpl-1", "object":"chat.completion","model":"m",
 "choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9 llo"},"finish_reason":"stop"}],
 "usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}, "extra":[1.50,null] }
"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":5}}"#;

/// A stream in OpenAI's dialect; the last but one is the usage chunk.
pub(crate) const CHUNKS: [&str; 5] = [
    ": hello\n\n",
    "data: {\"id\":\"chatcmpl-2\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a b\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-2\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"id\":\"chatcmpl-2\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5,\"total_tokens\":17}}\n\n",
    "data: [DONE]\n\n",
];

/// An upstream that sends the first chunk, and the rest once it may.
pub(crate) async fn paused() -> (Scripted, Arc<Semaphore>) {
    let go = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&go);
    let server = Scripted::start(move |_| {
        let first = [SSE, &chunk(CHUNKS[1].as_bytes())].concat();
        let rest = CHUNKS[2..].iter().flat_map(|piece| chunk(piece.as_bytes()));
        let rest = rest.chain(END.iter().copied()).collect();
        vec![Act::Send(first), Act::Allowed(Arc::clone(&allowed)), Act::Send(rest)]
    })
    .await;
    (server, go)
}

/// A stream in Anthropic's dialect.
pub(crate) const EVENTS: [&str; 5] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_2\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a b\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
/// What all of the replies above cost.
pub(crate) const COST: i128 = 12 * INPUT + 5 * OUTPUT;

/// Answers in the dialect and way that was asked for.
async fn polyglot() -> Scripted {
    Scripted::start(|request| {
        let streams = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
        let chat = request.line.contains("/chat/completions");
        let bytes = match (chat, streams) {
            (true, false) => json(CHAT),
            (true, true) => stream(CHUNKS.map(str::as_bytes)),
            (false, false) => json(MESSAGE),
            (false, true) => stream(EVENTS.map(str::as_bytes)),
        };
        vec![crate::scripted::Act::Send(bytes)]
    })
    .await
}

fn silent_stream() -> String {
    CHUNKS.concat().replace(CHUNKS[3], "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_pass_byte_for_byte_in_both_dialects() {
    let upstream = polyglot().await;
    let home = Home::new(&both(upstream.address));
    let gateway = home.serve();
    let asking = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let anthropic = r#"{"model":"m","max_tokens":9,"messages":[]"#;
    let cases = [
        (Call::chat(r#"{"model":"m"}"#), CHAT.to_owned()),
        (Call::chat(r#"{"model":"m","stream":true}"#), silent_stream()),
        (Call::chat(asking), CHUNKS.concat()),
        (Call::messages(format!("{anthropic}}}")), MESSAGE.to_owned()),
        (Call::messages(format!(r#"{anthropic},"stream":true}}"#)), EVENTS.concat()),
    ];
    for (count, (call, expected)) in cases.iter().enumerate() {
        let reply = call.send(&gateway).await;
        assert_eq!((reply.status, reply.whole), (200, true), "{call:?}");
        assert_eq!(reply.text(), expected, "{call:?}");
        let exchange = home.settled(reply.id()).expect("settled before its last byte");
        assert_eq!(cost(&exchange), Some(COST), "{call:?}");
        let end = &exchange.attempts[0].end;
        assert_eq!((end.end, exchange.settlement.verdict), (End::Complete, Verdict::Completed));
        assert_eq!(end.metered.source, UsageSource::Reported);
        assert_eq!(home.journal(), (home.once_settled(count + 1).await, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_change_by_the_model_and_the_stream_options_alone() {
    let server = polyglot().await;
    let alias = "[models.\"alias\"]\nupstream = \"openai\"\nmodel = \"m\"\n";
    let home = Home::new(&(both(server.address) + alias));
    let gateway = home.serve();
    let cases = [
        (r#"{ "model" : "m" , "x":[1, 2.50,"\u00e9"]}"#, None),
        (
            r#"{ "model" : "alias","x":1e3, "stream":true ,"y":{}}"#,
            Some(
                r#"{ "model" : "m","x":1e3, "stream":true,"stream_options":{"include_usage":true} ,"y":{}}"#,
            ),
        ),
        (r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#, None),
    ];
    for (index, (sent, expected)) in cases.iter().enumerate() {
        let path = "/r/support/v1/chat/completions?api-version=2";
        let reply = Call::new("POST", path, *sent).send(&gateway).await;
        assert_eq!(reply.status, 200);
        let received = &server.received()[index];
        let body = std::str::from_utf8(&received.body).unwrap();
        assert_eq!(body, expected.unwrap_or(sent));
        assert_eq!(received.line, "POST /v1/chat/completions?api-version=2 HTTP/1.1");
        let exchange = home.settled(reply.id()).unwrap();
        assert_eq!(exchange.admission.labels.route, "support");
        let asked = if index == 1 { "alias" } else { "m" };
        assert_eq!(exchange.admission.model_asked.as_deref(), Some(asked));
        assert_eq!(exchange.attempts[0].dispatch.model.as_deref(), Some("m"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_connections_browsers_and_ours_end_at_the_gateway() {
    let headers = "content-type: application/json\r\nx-farthing-cost: 0.01\r\n\
        X-Farthing-Exchange: forged\r\nset-cookie: a=b\r\nkeep-alive: timeout=9\r\n\
        connection: x-hop, x-hop-b\r\nx-hop: 1\r\nx-hop-b: 1\r\nx-request-id: req_7\r\n\
        openai-processing-ms: 5\r\n";
    let server = Scripted::always(whole("200 OK", headers, CHAT)).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let call = Call::chat(r#"{"model":"m"}"#)
        .with("accept-encoding", "gzip, br")
        .with("cookie", "session=1")
        .with("x-farthing-route", "support")
        .with("x-farthing-tag-tier", "gold")
        .with("connection", "x-private")
        .with("connection", "keep-alive, x-other")
        .with("x-private", "1")
        .with("x-other", "1")
        .with("te", "trailers")
        .with("keep-alive", "timeout=5")
        .with("proxy-authorization", "Basic eDp5")
        .with("x-forwarded-for", "10.0.0.1")
        .with("referer", "http://localhost/page")
        .with("user-agent", "OpenAI/Python 2.0")
        .with("x-stainless-retry-count", "2")
        .with("authorization", "Bearer sk-client");
    let reply = call.send(&gateway).await;
    let received = server.only();
    let mut names: Vec<&str> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-stainless-retry-count",
    ];
    assert_eq!(names, expected);
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert_eq!(received.header("authorization"), Some("Bearer sk-client"));
    assert_eq!(received.header("host"), Some(server.address.to_string().as_str()));

    assert_eq!(reply.header("x-request-id"), Some("req_7"));
    assert_eq!(reply.header("openai-processing-ms"), Some("5"));
    for name in ["x-farthing-cost", "set-cookie", "keep-alive", "x-hop", "x-hop-b"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    let ids = reply.headers.iter().filter(|(name, _)| name == "x-farthing-exchange");
    assert_eq!(ids.count(), 1);
    let exchange = home.settled(reply.id()).expect("the id is ours");
    assert_eq!(exchange.admission.client_retry, Some(2));
    assert_eq!(exchange.admission.labels.tags, [("tier".to_owned(), "gold".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_key_travels_instead_of_the_clients() {
    let server = polyglot().await;
    let with_key = |kind: &str| {
        upstream(kind, server.address)
            .replace("provider =", "api_key_env = \"UPSTREAM_KEY\"\nprovider =")
    };
    let home = Home::new(&(with_key("openai") + &with_key("anthropic") + PRICES));
    let gateway = home.serve_with(&[("UPSTREAM_KEY", "sk-upstream")]);
    let chat = Call::chat(r#"{"model":"m"}"#);
    let message = Call::messages(r#"{"model":"m","max_tokens":1,"messages":[]}"#);
    for call in [chat, message] {
        let call = call.with("authorization", "Bearer sk-client").with("x-api-key", "sk-client");
        assert_eq!(call.send(&gateway).await.status, 200);
    }
    let received = server.received();
    assert_eq!(received[0].header("authorization"), Some("Bearer sk-upstream"));
    assert_eq!(received[0].header("x-api-key"), None);
    assert_eq!(received[1].header("x-api-key"), Some("sk-upstream"));
    assert_eq!(received[1].header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_key_goes_to_no_other_vendor() {
    let server = polyglot().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let chat = Call::chat(r#"{"model":"m"}"#).with("authorization", "Bearer sk-openai");
    for header in ["x-api-key", "api-key", "x-goog-api-key"] {
        let call = Call::chat(r#"{"model":"m"}"#).with(header, "sk-of-another");
        assert_eq!(call.send(&gateway).await.status, 200);
    }
    assert_eq!(chat.send(&gateway).await.status, 200);
    // Anthropic's clients ask for the list of models at the same path as OpenAI's.
    let models = Call::get("/v1/models").with("anthropic-version", "2023-06-01");
    let models = models.with("x-api-key", "sk-ant").send(&gateway).await;
    assert_eq!(models.status, 404);
    let received = server.received();
    assert_eq!(received.len(), 4);
    for request in &received[..3] {
        let secret = request.headers.iter().find(|(_, value)| value.contains("sk-"));
        assert_eq!(secret, None);
    }
    assert_eq!(received[3].header("authorization"), Some("Bearer sk-openai"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_looked_up_by_whoever_made_it_alone() {
    let server = polyglot().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let body = r#"{"model":"m","stream":true}"#;
    let reply = Call::chat(body).with("authorization", "Bearer sk-a").send(&gateway).await;
    let look = Call::get(&format!("/farthing/v1/exchanges/{}", reply.id()));
    let found = look.clone().with("authorization", "Bearer sk-a").send(&gateway).await;
    assert_eq!(found.status, 200);
    let found = found.json();
    assert_eq!(found["exchange"], reply.id());
    assert_eq!(found["verdict"], "completed");
    assert_eq!(crate::home::pico(found["cost_usd"].as_str().unwrap()), COST);
    // The same credential in the other dialect's header.
    assert_eq!(look.clone().with("x-api-key", "sk-a").send(&gateway).await.status, 200);
    let other = look.clone().with("authorization", "Bearer sk-b").send(&gateway).await;
    let nobody = look.send(&gateway).await;
    let unknown = Call::get("/farthing/v1/exchanges/01890000-0000-7000-8000-000000000000");
    let unknown = unknown.with("authorization", "Bearer sk-b").send(&gateway).await;
    for refused in [&other, &nobody, &unknown] {
        assert_eq!(refused.status, 404);
    }
    assert_eq!(other.body, unknown.body, "nothing tells that it exists");

    // A restart forgets nothing.
    gateway.stop().await;
    let gateway = home.serve();
    let look = Call::get(&format!("/farthing/v1/exchanges/{}", reply.id()));
    let found = look.with("authorization", "Bearer sk-a").send(&gateway).await;
    assert_eq!(found.json()["exchange"], reply.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_header_is_on_unary_replies_of_routes_that_want_it() {
    let server = polyglot().await;
    let home = Home::new(&(both(server.address) + "[routes.support]\ncost_header = true\n"));
    let gateway = home.serve();
    let unary = r#"{"model":"m"}"#;
    let told = |reply: &Reply| reply.header("x-farthing-cost").map(crate::home::pico);
    let wanted = Call::chat(unary).with("x-farthing-route", "support").send(&gateway).await;
    assert_eq!(told(&wanted), Some(COST));
    let by_path = Call::new("POST", "/r/support/v1/chat/completions", unary).send(&gateway).await;
    assert_eq!(told(&by_path), Some(COST));
    let other = Call::chat(unary).with("x-farthing-route", "other").send(&gateway).await;
    assert_eq!(told(&other), None);
    let stream = Call::chat(r#"{"model":"m","stream":true}"#).with("x-farthing-route", "support");
    assert_eq!(told(&stream.send(&gateway).await), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_models_and_counts_of_tokens_pass_and_are_free() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&both(server.address()));
    let gateway = home.serve();
    let models = Call::get("/v1/models").send(&gateway).await;
    assert_eq!((models.status, &models.json()["object"]), (200, &"list".into()));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#;
    let count = Call::new("POST", "/v1/messages/count_tokens", body).send(&gateway).await;
    assert_eq!(count.json()["input_tokens"], 2);
    let embedding = Call::new("POST", "/v1/embeddings", r#"{"model":"m","input":"12345678"}"#);
    let embedding = embedding.send(&gateway).await;
    assert_eq!((embedding.status, embedding.whole), (200, true));
    let settled = home.once_settled(3).await;
    let costs: Vec<_> = settled.iter().map(cost).collect();
    assert_eq!(costs, [Some(0), Some(0), Some(2 * INPUT)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_reply_passes_while_it_comes_and_waits_for_its_settlement_at_the_end() {
    let text = "0123456789abcdef".repeat(5 << 16);
    let body = CHAT.replace("h\\u00e9 llo", &text);
    assert!(body.len() > 5 << 20);
    let server = Scripted::always(json(&body)).await;
    let home = Home::new(&(both(server.address) + "[routes.support]\ncost_header = true\n"));
    let gateway = home.serve();
    let call = Call::chat(r#"{"model":"m"}"#).with("x-farthing-route", "support");
    let reply = call.send(&gateway).await;
    assert!(reply.whole && reply.text() == body);
    assert_eq!(reply.header("content-length"), Some(body.len().to_string().as_str()));
    // Its cost is not known when its head goes out.
    assert_eq!(reply.header("x-farthing-cost"), None);
    assert_eq!(cost(&home.settled(reply.id()).unwrap()), Some(COST));
}

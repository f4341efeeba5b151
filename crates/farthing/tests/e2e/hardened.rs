//! What upstreams and clients do that no API provides for: nothing of it harms the exchange.

use std::sync::atomic::Ordering::SeqCst;

use facts::{End, Verdict};
use quantity::{Doubt, UsageSource};

use crate::client::Call;
use crate::home::{Home, PRICES, both, cost, eventually, upstream};
use crate::scripted::{Act, SSE, Scripted, chunk, whole};

const UNARY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoded_reply_passes_unread_and_is_not_tried_again() {
    for (kind, body) in
        [("application/json", "\u{1f}json\u{8}"), ("text/event-stream", "\u{1f}sse")]
    {
        let headers = format!("content-type: {kind}\r\ncontent-encoding: gzip\r\n");
        let server = Scripted::always(whole("200 OK", &headers, body)).await;
        let home = Home::new(&("[retry]\nattempts = 3\n".to_owned() + &both(server.address)));
        let gateway = home.serve();
        let reply = Call::chat(STREAM).send(&gateway).await;
        assert_eq!((reply.status, reply.text(), reply.whole), (200, body, true));
        assert_eq!(reply.header("content-encoding"), Some("gzip"));
        assert_eq!(server.only().header("accept-encoding"), Some("identity"));
        let exchange = home.once_settled(1).await.remove(0);
        let end = &exchange.attempts[0].end;
        assert_eq!((end.end, exchange.settlement.verdict), (End::Complete, Verdict::Completed));
        assert_eq!((end.metered.source, cost(&exchange)), (UsageSource::Unknown, None));
        assert!(end.metered.doubts.contains(Doubt::Unread));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_an_upstream_repeats_in_an_error_is_blotted_out() {
    const KEY: &str = "sk/kanarie-upstream";
    let error = r#"{"error":{"message":"no key sk/kanarie-upstream or sk\/kanarie-upstream or sk%2Fkanarie-upstream","type":"invalid","code":"sk/kanarie-upstream"}}"#;
    let server = Scripted::start(move |request| {
        let status = request.header("x-status").unwrap();
        let headers = "content-type: application/json\r\nx-said: Bearer sk/kanarie-upstream\r\n";
        let bytes = whole(status, headers, error);
        let (head, tail) = bytes.split_at(bytes.len() - 35);
        vec![Act::Send(head.to_vec()), Act::Send(tail.to_vec())]
    })
    .await;
    let keyed = upstream("openai", server.address)
        .replace("provider =", "api_key_env = \"UPSTREAM\"\nprovider =");
    let home = Home::new(&(keyed + PRICES));
    let gateway = home.serve_with(&[("UPSTREAM", KEY)]);
    for status in ["401 Unauthorized", "500 Internal Server Error"] {
        let reply = Call::chat(UNARY).with("x-status", status).send(&gateway).await;
        assert_eq!(reply.header("x-said"), Some("Bearer *******************"));
        let blotted = error
            .replace("sk%2Fkanarie-upstream", &"*".repeat(21))
            .replace("sk\\/kanarie-upstream", &"*".repeat(20))
            .replace(KEY, &"*".repeat(19));
        assert_eq!((reply.text(), reply.whole), (blotted.as_str(), true));
        let authorization = format!("Bearer {KEY}");
        let sent = server.received();
        assert_eq!(sent.last().unwrap().header("authorization"), Some(authorization.as_str()));
    }
    let settled = home.once_settled(2).await;
    assert_eq!(settled[0].attempts[0].end.error.as_deref(), Some("invalid"));
    // Without a key of its own it had the client's, which the client may see.
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    let call = Call::chat(UNARY).with("x-status", "401 Unauthorized");
    let reply = call.with("authorization", "Bearer sk/kanarie-upstream").send(&gateway).await;
    assert_eq!(reply.text(), error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_a_word_is_no_class_of_error() {
    let event = "data: {\"error\":{\"message\":\"no\",\"type\":\"kanariekanarie\"}}\n\n";
    let body = [SSE, &chunk(event.as_bytes()), crate::scripted::END].concat();
    let server = Scripted::always(body).await;
    let keyed = upstream("openai", server.address)
        .replace("provider =", "api_key_env = \"UPSTREAM\"\nprovider =");
    let home = Home::new(&(keyed + PRICES));
    let gateway = home.serve_with(&[("UPSTREAM", "kanariekanarie")]);
    Call::chat(STREAM).send(&gateway).await;
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(exchange.attempts[0].end.error.as_deref(), Some("error"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_cut_off_and_its_upstream_let_go() {
    let token = format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "abcd".repeat(4_000)
    );
    let flood = chunk(token.as_bytes());
    let server =
        Scripted::start(move |_| vec![Act::Send(SSE.to_vec()), Act::Flood(flood.clone(), 100_000)])
            .await;
    let home = Home::new(&("client_timeout = \"200ms\"\n".to_owned() + &both(server.address)));
    let gateway = home.serve();
    let mut reading = Call::chat(STREAM).head(&gateway).await;
    assert!(reading.piece().await.is_some());
    // The connection stays open and nobody reads from it.
    eventually("the upstream is left", || server.events.left.load(SeqCst) == 1).await;
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(exchange.attempts[0].end.end, End::ClientGone);
    assert_eq!(exchange.settlement.verdict, Verdict::Aborted);
    assert_eq!(exchange.attempts[0].end.metered.source, UsageSource::Estimated);
    assert!(!reading.rest().await.whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_beyond_its_limits_is_refused_and_costs_nothing() {
    let server = Scripted::always(whole("200 OK", "", "{}")).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let mut many = Call::chat(UNARY);
    for number in 0..200 {
        many = many.with(&format!("x-{number}"), "1");
    }
    let large = Call::chat(UNARY).with("x-large", &"x".repeat(1 << 20));
    for call in [many, large] {
        let mut connection = call.begin(&gateway).await;
        connection.write(b"").await;
        if let Some(reply) = connection.head().await {
            assert_eq!(reply.status, 431);
        }
    }
    assert!(server.received().is_empty());
    assert_eq!(Call::get("/healthz").send(&gateway).await.status, 200);
    gateway.stop().await;
    assert_eq!(home.journal(), (Vec::new(), 0));
}

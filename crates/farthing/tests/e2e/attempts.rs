//! Several attempts for one exchange: tries, fallbacks, time limits, places.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use facts::{AttemptReason, End, Exchange, Verdict};
use tokio::sync::Semaphore;

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, PRICES, cost, eventually, upstream};
use crate::scripted::{Act, END, SSE, Scripted, chunk, json, whole};

const UNARY: &str = r#"{"model":"m","messages":[]}"#;
const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const GOOD: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"abcd"},
    "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const BAD: &str = r#"{"error":{"message":"no","type":"server_error"}}"#;

fn busy() -> Vec<u8> {
    whole("503 Service Unavailable", "content-type: application/json\r\n", BAD)
}

/// An upstream that fails so many times, then is well.
async fn failing(times: usize, failure: Vec<u8>) -> Scripted {
    let tries = AtomicUsize::new(0);
    Scripted::start(move |_| {
        let fails = tries.fetch_add(1, SeqCst) < times;
        vec![Act::Send(if fails { failure.clone() } else { json(GOOD) })]
    })
    .await
}

fn retrying(server: &Scripted, attempts: u32) -> String {
    let retry = format!("[retry]\nattempts = {attempts}\nmax_wait = \"2s\"\n");
    retry + &upstream("openai", server.address) + PRICES
}

fn ends(exchange: &Exchange) -> Vec<(AttemptReason, End)> {
    let attempts = exchange.attempts.iter();
    attempts.map(|attempt| (attempt.dispatch.reason, attempt.end.end)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_tried_again_and_each_try_is_an_attempt_of_its_own() {
    let server = failing(2, busy()).await;
    let home = Home::new(&retrying(&server, 3));
    let gateway = home.serve();
    let reply = Call::chat(UNARY).send(&gateway).await;
    assert_eq!((reply.status, reply.text()), (200, GOOD));
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(
        ends(&exchange),
        [
            (AttemptReason::First, End::UpstreamError),
            (AttemptReason::Retry, End::UpstreamError),
            (AttemptReason::Retry, End::Complete),
        ]
    );
    assert_eq!(exchange.settlement.verdict, Verdict::Completed);
    // What the failed tries cost is unknown, never zero; the last one's is exact.
    let costs = exchange.attempts.iter().map(|attempt| attempt.end.charged.cost());
    let costs: Vec<_> = costs.map(|cost| cost.map(quantity::Money::pico)).collect();
    assert_eq!(costs, [None, None, Some(3 * INPUT + OUTPUT)]);
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["total"]["exchanges"], 1);
    assert_eq!(bill["total"]["attempts"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_being_told_nothing_is_tried_again() {
    let server = failing(1, busy()).await;
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    let reply = Call::chat(UNARY).send(&gateway).await;
    assert_eq!((reply.status, reply.text()), (503, BAD));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_its_content_is_not_tried_again() {
    let refusal = whole("400 Bad Request", "content-type: application/json\r\n", BAD);
    let server = failing(9, refusal).await;
    let home = Home::new(&retrying(&server, 3));
    let gateway = home.serve();
    assert_eq!(Call::chat(UNARY).send(&gateway).await.status, 400);
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_asks_for_a_long_wait_is_not_tried_again() {
    let limited = whole("429 Too Many Requests", "retry-after: 60\r\n", BAD);
    let server = failing(9, limited).await;
    let home = Home::new(&retrying(&server, 3));
    let gateway = home.serve();
    let reply = Call::chat(UNARY).send(&gateway).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("60")));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_gets_its_own_model_and_key_and_the_rest_of_the_bytes() {
    let first = failing(9, busy()).await;
    let second = failing(0, Vec::new()).await;
    let config = upstream("openai", first.address)
        + &upstream("groq", second.address)
        + "api_key_env = \"GROQ\"\n[models.m]\nupstream = \"openai\"\n\
           fallback = [{ upstream = \"groq\", model = \"other\" }]\n"
        + PRICES;
    let home = Home::new(&config);
    let gateway = home.serve_with(&[("GROQ", "groq-key")]);
    let call = Call::chat(UNARY).with("authorization", "Bearer mine");
    assert_eq!(call.send(&gateway).await.status, 200);
    assert_eq!(first.only().header("authorization"), Some("Bearer mine"));
    let received = second.only();
    assert_eq!(received.header("authorization"), Some("Bearer groq-key"));
    assert_eq!(received.body, br#"{"model":"other","messages":[]}"#);
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(
        ends(&exchange),
        [(AttemptReason::First, End::UpstreamError), (AttemptReason::Fallback, End::Complete)]
    );
    assert_eq!(exchange.attempts[1].dispatch.upstream, "groq");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_is_the_first_event_of_a_stream_can_still_fall_back() {
    const ERROR: &[u8] = b"data: {\"error\":{\"type\":\"overloaded\",\"message\":\"x\"}}\n\n";
    const TOKEN: &[u8] =
        b"data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"abcd\"}}]}\n\n";
    let error_first = [SSE, &chunk(ERROR), END].concat();
    let token_first = [SSE, &chunk(TOKEN), &chunk(ERROR), END].concat();
    for (bytes, attempts) in [(error_first, 2), (token_first, 1)] {
        let server = failing(1, bytes).await;
        let home = Home::new(&retrying(&server, 2));
        let gateway = home.serve();
        let reply = Call::chat(STREAM).send(&gateway).await;
        assert_eq!(reply.status, 200);
        assert_eq!(home.once_settled(1).await[0].attempts.len(), attempts);
        assert_eq!(server.received().len(), attempts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_late_is_given_up_and_its_usage_is_unknown() {
    let silent = Scripted::start(|_| vec![Act::Hold]).await;
    let stuck =
        Scripted::start(|_| vec![Act::Send([SSE, &chunk(b": hi\n\n")].concat()), Act::Hold]);
    let stuck = stuck.await;
    for (server, limit, status) in
        [(&silent, "first_byte_timeout", 504), (&stuck, "idle_timeout", 200)]
    {
        let config =
            upstream("openai", server.address) + &format!("{limit} = \"200ms\"\n") + PRICES;
        let home = Home::new(&config);
        let gateway = home.serve();
        let reply = Call::chat(STREAM).send(&gateway).await;
        assert_eq!((reply.status, reply.whole), (status, status == 504), "{limit}");
        let exchange = home.once_settled(1).await.remove(0);
        assert_eq!(ends(&exchange), [(AttemptReason::First, End::Timeout)], "{limit}");
        assert_eq!(cost(&exchange), None);
        eventually("the upstream is told", || server.events.left.load(SeqCst) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_gets_no_more_at_once_than_it_has_places() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let server =
        Scripted::start(move |_| vec![Act::Allowed(Arc::clone(&waits)), Act::Send(json(GOOD))])
            .await;
    let limits = "max_concurrent = 1\nqueue_timeout = \"200ms\"\n";
    let home = Home::new(&(upstream("openai", server.address) + limits + PRICES));
    let gateway = home.serve();
    let call = Call::chat(UNARY);
    let first = call.begin(&gateway).await;
    eventually("the first is there", || server.received().len() == 1).await;
    let refused = call.send(&gateway).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("upstream_busy"), "{}", refused.text());
    gate.add_permits(2);
    assert_eq!(first.head().await.unwrap().rest().await.status, 200);
    assert_eq!(call.send(&gateway).await.status, 200);
    assert_eq!(home.once_settled(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_between_two_tries_settles_as_aborted() {
    let limited = whole("429 Too Many Requests", "retry-after: 2\r\n", BAD);
    let server = failing(9, limited).await;
    let home = Home::new(&retrying(&server, 3));
    let gateway = home.serve();
    let connection = Call::chat(UNARY).begin(&gateway).await;
    eventually("the first try", || server.received().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(connection);
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(ends(&exchange), [(AttemptReason::First, End::Refused)]);
    assert_eq!(exchange.settlement.verdict, Verdict::Aborted);
}

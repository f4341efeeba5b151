//! What goes wrong, what the client sees of it, and what the journal says.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use facts::{Charged, End, Exchange, Verdict};
use quantity::{Doubt, UsageSource};
use simulated::{Constant, Options, Simulated};

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, both, cost, eventually};
use crate::passthrough::{CHUNKS, EVENTS};
use crate::scripted::{Act, END, SSE, Scripted, chunk, json, whole};

/// Eight bytes of prompt: two tokens, by the rule of thumb.
const UNARY: &str = r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#;
const STREAM: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;
const CLAUDE: &str = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;

/// A chunk that carries four bytes: one token.
const TOKEN: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"abcd\"},\"finish_reason\":null}]}\n\n";
const NO_TOKEN: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";

/// Asserts that nobody claims to know the cost.
#[track_caller]
fn unknown(exchange: &Exchange) {
    let end = &exchange.attempts[0].end;
    assert_eq!((end.metered.source, cost(exchange)), (UsageSource::Unknown, None));
    let Charged::Unpriced { reason } = &end.charged else { panic!("{:?}", end.charged) };
    assert!(reason.contains("usage unknown"), "{reason}");
}

/// Asserts a lower bound of two input tokens and so many output tokens.
#[track_caller]
fn estimated(exchange: &Exchange, output: i128) {
    let metered = &exchange.attempts[0].end.metered;
    assert_eq!(metered.source, UsageSource::Estimated);
    assert!(metered.doubts.contains(Doubt::LowerBound));
    assert_eq!(cost(exchange), Some(2 * INPUT + output * OUTPUT));
}

struct Seen {
    status: u16,
    text: String,
    whole: bool,
    exchange: Exchange,
}

/// One call against an upstream that does this.
async fn against(call: Call, bytes: Vec<u8>) -> Seen {
    let server = Scripted::always(bytes).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let reply = call.send(&gateway).await;
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(exchange.admission.exchange.to_string(), reply.id());
    Seen { status: reply.status, text: reply.text().to_owned(), whole: reply.whole, exchange }
}

fn ends(exchange: &Exchange) -> (End, Verdict) {
    (exchange.attempts[0].end.end, exchange.settlement.verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_status_passes_with_its_body_and_says_whether_it_was_billed() {
    let error = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null}}"#;
    let headers = "content-type: application/json\r\nretry-after: 1\r\n";
    let limited = whole("429 Too Many Requests", headers, error);
    for call in [Call::chat(UNARY), Call::chat(STREAM)] {
        let seen = against(call, limited.clone()).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.whole), (429, error, true));
        assert_eq!(ends(&seen.exchange), (End::Refused, Verdict::Failed));
        assert_eq!(cost(&seen.exchange), Some(0));
        assert_eq!(seen.exchange.attempts[0].end.error.as_deref(), Some("rate_limit_error"));
    }
    let failed = whole("500 Internal Server Error", headers, error);
    let seen = against(Call::chat(UNARY), failed).await;
    assert_eq!((seen.status, seen.text.as_str()), (500, error));
    assert_eq!(ends(&seen.exchange), (End::UpstreamError, Verdict::Failed));
    unknown(&seen.exchange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_instead_of_a_reply_is_a_failure_that_may_have_cost_something() {
    let page = whole("200 OK", "content-type: text/html\r\n", "<html>busy</html>");
    for call in [Call::chat(UNARY), Call::chat(STREAM), Call::messages(CLAUDE)] {
        let seen = against(call, page.clone()).await;
        assert_eq!((seen.status, seen.text.as_str()), (200, "<html>busy</html>"));
        assert_eq!(ends(&seen.exchange), (End::UpstreamError, Verdict::Failed));
        unknown(&seen.exchange);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_cut_off_looks_cut_off_and_costs_what_passed() {
    let torn = [SSE, &chunk(TOKEN.as_bytes()), &chunk(TOKEN.as_bytes())].concat();
    let seen = against(Call::chat(STREAM), torn).await;
    assert_eq!((seen.text, seen.whole), (TOKEN.repeat(2), false));
    assert_eq!(ends(&seen.exchange), (End::Cut, Verdict::Failed));
    estimated(&seen.exchange, 2);

    // The framing ends well, but the dialect's terminal event never came.
    let silent = [SSE, &chunk(TOKEN.as_bytes()), END].concat();
    let seen = against(Call::chat(STREAM), silent).await;
    assert_eq!((seen.text.as_str(), seen.whole), (TOKEN, true));
    assert_eq!(ends(&seen.exchange), (End::Cut, Verdict::Failed));
    estimated(&seen.exchange, 1);

    // Anthropic's first event has the input's count.
    let events = [SSE, &chunk(EVENTS[0].as_bytes()), &chunk(EVENTS[2].as_bytes())].concat();
    let seen = against(Call::messages(CLAUDE), events).await;
    assert!(!seen.whole);
    assert_eq!(ends(&seen.exchange), (End::Cut, Verdict::Failed));
    let end = &seen.exchange.attempts[0].end;
    assert_eq!(end.metered.source, UsageSource::Partial);
    assert_eq!(cost(&seen.exchange), Some(12 * INPUT + OUTPUT));

    let mut unary = json(r#"{"id":"c","model":"m","choices":[{"message":{"content":"abcd"}}]}"#);
    unary.truncate(unary.len() - 5);
    let seen = against(Call::chat(UNARY), unary).await;
    assert_eq!((seen.status, seen.whole), (200, false));
    assert_eq!(ends(&seen.exchange), (End::Cut, Verdict::Failed));
    unknown(&seen.exchange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_event_inside_a_good_stream_is_a_failure() {
    let event = "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n";
    let bytes = [SSE, &chunk(TOKEN.as_bytes()), &chunk(event.as_bytes()), END].concat();
    let seen = against(Call::chat(STREAM), bytes).await;
    assert_eq!((seen.text, seen.whole), (format!("{TOKEN}{event}"), true));
    assert_eq!(ends(&seen.exchange), (End::StreamError, Verdict::Failed));
    assert_eq!(seen.exchange.attempts[0].end.error.as_deref(), Some("server_error"));
    estimated(&seen.exchange, 1);

    let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let bytes = [SSE, &chunk(EVENTS[0].as_bytes()), &chunk(event.as_bytes()), END].concat();
    let seen = against(Call::messages(CLAUDE), bytes).await;
    assert_eq!((seen.text, seen.whole), (format!("{}{event}", EVENTS[0]), true));
    assert_eq!(ends(&seen.exchange), (End::StreamError, Verdict::Failed));
    assert_ne!(cost(&seen.exchange), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_not_there_costs_nothing_and_one_that_hangs_up_may() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let home = Home::new(&both(address));
    let gateway = home.serve();
    let reply = Call::messages(CLAUDE).send(&gateway).await;
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (502, &"api_error".into()));
    let exchange = home.settled(reply.id()).unwrap();
    assert_eq!(ends(&exchange), (End::Unreachable, Verdict::Failed));
    assert_eq!(cost(&exchange), Some(0));

    let seen = against(Call::chat(UNARY), Vec::new()).await;
    assert_eq!(seen.status, 502);
    assert!(seen.text.contains("upstream_broke_off"), "{}", seen.text);
    assert_eq!(ends(&seen.exchange), (End::Cut, Verdict::Failed));
    unknown(&seen.exchange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_upstreams_work_and_is_journalled_with_what_passed() {
    for tokens in [0, 1, 7] {
        let server = Scripted::start(move |_| {
            let mut bytes = [SSE, &chunk(NO_TOKEN.as_bytes())].concat();
            (0..tokens).for_each(|_| bytes.extend(chunk(TOKEN.as_bytes())));
            vec![Act::Send(bytes), Act::Hold]
        })
        .await;
        let home = Home::new(&both(server.address));
        let gateway = home.serve();
        let mut reading = Call::chat(STREAM).head(&gateway).await;
        let expected = format!("{NO_TOKEN}{}", TOKEN.repeat(tokens));
        assert_eq!(reading.until(&expected).await, expected);
        assert_eq!(home.journal(), (Vec::new(), 1));
        let id = reading.id();
        drop(reading);
        eventually("the upstream is left", || server.events.left.load(SeqCst) == 1).await;
        let exchange = home.once_settled(1).await.remove(0);
        assert_eq!(exchange.admission.exchange.to_string(), id);
        assert_eq!(ends(&exchange), (End::ClientGone, Verdict::Aborted));
        match tokens {
            0 => unknown(&exchange),
            _ => estimated(&exchange, i128::try_from(tokens).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_the_head_stops_the_model() {
    let timing = Constant { ttft: Duration::from_secs(600), tpot: Duration::ZERO };
    let options = Options { timing: Arc::new(timing), ..Options::default() };
    let server = Simulated::on_loopback(options).await.unwrap();
    let home = Home::new(&both(server.address()));
    let gateway = home.serve();
    for (count, call) in [Call::chat(UNARY), Call::messages(CLAUDE)].iter().enumerate() {
        let connection = call.begin(&gateway).await;
        eventually("the model runs", || server.stats().running == 1).await;
        drop(connection);
        let cancelled = count as u64 + 1;
        eventually("the model stops", || server.stats().cancelled == cancelled).await;
        let settled = home.once_settled(count + 1).await;
        assert_eq!(ends(&settled[count]), (End::ClientGone, Verdict::Aborted));
        unknown(&settled[count]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_a_stalled_model_does_not_wait_for_it() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&both(server.address()));
    let gateway = home.serve();
    let body = STREAM.replace("12345678", "[[sim output=9 fault=stall:3]]");
    let mut reading = Call::chat(body).head(&gateway).await;
    for _ in 0..4 {
        reading.piece().await.unwrap();
    }
    drop(reading);
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(ends(&exchange), (End::ClientGone, Verdict::Aborted));
    assert_eq!(exchange.attempts[0].end.metered.usage.output(), 3);
    eventually("the model stops", || server.stats().running == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_after_the_terminal_event_had_all_of_it() {
    let server = Scripted::start(|_| {
        let mut bytes = SSE.to_vec();
        CHUNKS.iter().for_each(|piece| bytes.extend(chunk(piece.as_bytes())));
        vec![Act::Send(bytes), Act::Hold]
    })
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let mut reading = Call::chat(STREAM).head(&gateway).await;
    reading.until("[DONE]").await;
    drop(reading);
    eventually("the upstream is left", || server.events.left.load(SeqCst) == 1).await;
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(ends(&exchange), (End::Complete, Verdict::Completed));
    assert_eq!(cost(&exchange), Some(crate::passthrough::COST));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_on_or_looks_complete_when_the_disk_is_full() {
    let mut bytes = SSE.to_vec();
    CHUNKS.iter().for_each(|piece| bytes.extend(chunk(piece.as_bytes())));
    bytes.extend(END);
    let server = Scripted::always(bytes).await;
    let home = Home::new(&format!("ledger_timeout = \"100ms\"\n{}", both(server.address)));
    let gateway = home.serve_on_a_small_disk(16);
    let mut completed = Vec::new();
    let (mut torn, mut refused) = (0_usize, 0);
    while refused < 3 {
        let reply = Call::chat(STREAM).send(&gateway).await;
        match (reply.status, reply.whole) {
            (200, true) => completed.push(reply.id().to_owned()),
            (200, false) => {
                assert!(!reply.text().contains("[DONE]"), "{}", reply.text());
                torn += 1;
            }
            (503, true) => {
                assert_eq!(reply.json()["error"]["code"], "journal_unavailable");
                refused += 1;
            }
            other => panic!("{other:?}: {}", reply.text()),
        }
        assert!(completed.len() < 1_000, "the disk never fills");
    }
    assert!(torn < 2 && !completed.is_empty(), "{torn} torn, {completed:?}");
    assert_eq!(server.received().len(), completed.len() + torn);
    let metrics = Call::get("/metrics").send(&gateway).await;
    let failed = "farthing_journal_failed_appends_total ";
    let failed = metrics.text().lines().find_map(|line| line.strip_prefix(failed)).unwrap();
    // What was torn is tried again, with what comes and without.
    assert!(failed.parse::<usize>().unwrap() >= refused + torn);
    gateway.terminate();
    let (code, said) = gateway.ended().await;
    assert_eq!(
        (code, said.contains("1 exchanges between")),
        (Some(i32::from(torn > 0)), torn > 0),
        "{said}"
    );

    // With room again, all that a client saw whole is there.
    home.serve().stop().await;
    let (settled, open) = home.journal();
    assert_eq!(open, 0);
    let ids: Vec<_> = settled.iter().map(|e| e.admission.exchange.to_string()).collect();
    assert!(completed.iter().all(|id| ids.contains(id)), "{completed:?} in {ids:?}");
    home.run(&["journal", "check"]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_that_has_died_is_no_failure() {
    let body =
        r#"{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let reply = String::from_utf8(json(body)).unwrap().replace("connection: close\r\n", "");
    let server = Scripted::always(reply.into_bytes()).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for count in 1..=10 {
        let reply = Call::chat(UNARY).send(&gateway).await;
        assert_eq!((reply.status, reply.text()), (200, body), "{count}");
        eventually("the upstream closes", || server.events.closed.load(SeqCst) == count).await;
    }
    home.once_settled(10).await;
}

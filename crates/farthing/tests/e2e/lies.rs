//! Upstreams that lie, break off or stall: what the client sees, and what the journal says. What may
//! have been billed is unknown or estimated, never nothing.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use facts::{End, Exchange, Verdict};
use quantity::UsageSource::{self, Estimated, Partial, Reported, Unknown};

use crate::client::{Call, Reply};
use crate::home::{Gateway, Home, INPUT, OUTPUT, PRICES, cost, eventually, upstream};
use crate::passthrough::{CHUNKS, COST, EVENTS};
use crate::scripted::{Act, END, Received, SSE, Scripted, chunk, json, stream, whole};

const UNARY: &str = r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#;
const STREAM: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;
const CLAUDE: &str = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;
const GOOD: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"a b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}"#;
const PAGE: &str = "<html>busy</html>";
/// What two tokens of prompt and those of one chunk cost at least.
const ONE_CHUNK: i128 = 2 * INPUT + OUTPUT;

/// A call, what the upstream does with it, and what comes of that.
struct Lie {
    name: &'static str,
    body: &'static str,
    acts: fn() -> Vec<Act>,
    status: u16,
    /// Whether the client sees a reply that ended as HTTP says it must.
    whole: bool,
    end: End,
    source: UsageSource,
    cost: Option<i128>,
}

fn send(parts: &[&[u8]]) -> Vec<Act> {
    vec![Act::Send(parts.concat())]
}

fn headed(head: &str, body: &str) -> Vec<Act> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n\r\n{body}");
    vec![Act::Send(head.into_bytes())]
}

fn events(pieces: &[&str]) -> Vec<Act> {
    vec![Act::Send(stream(pieces.iter().map(|piece| piece.as_bytes())))]
}

const fn lie(
    name: &'static str,
    body: &'static str,
    acts: fn() -> Vec<Act>,
    (status, whole): (u16, bool),
    end: End,
    (source, cost): (UsageSource, Option<i128>),
) -> Lie {
    Lie { name, body, acts, status, whole, end, source, cost }
}

const TOLD: (UsageSource, Option<i128>) = (Reported, Some(COST));
const NOT_TOLD: (UsageSource, Option<i128>) = (Unknown, None);

/// Lies about the length, and replies that are none.
const UNARY_LIES: &[Lie] = &[
    lie(
        "broken off in the head",
        UNARY,
        || send(&[b"HTTP/1.1 200 OK\r\ncontent-"]),
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "broken off after the head",
        UNARY,
        || headed("content-length: 9", ""),
        (200, false),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "not HTTP",
        UNARY,
        || send(&[b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]),
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "length too long",
        UNARY,
        || headed("content-length: 5000", GOOD),
        (200, false),
        End::Cut,
        TOLD,
    ),
    lie(
        "length too short",
        UNARY,
        || headed("content-length: 50", GOOD),
        (200, true),
        End::UpstreamError,
        NOT_TOLD,
    ),
    lie(
        "length is no number",
        UNARY,
        || headed("content-length: -1", GOOD),
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "two lengths",
        UNARY,
        || headed("content-length: 3\r\ncontent-length: 4", GOOD),
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "length and chunks",
        UNARY,
        || {
            let chunked = [chunk(GOOD.as_bytes()), END.to_vec()].concat();
            let chunked = String::from_utf8(chunked).unwrap();
            headed("content-length: 3\r\ntransfer-encoding: chunked", &chunked)
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "a chunk's size is no number",
        UNARY,
        || headed("transfer-encoding: chunked", &format!("zz\r\n{GOOD}\r\n0\r\n\r\n")),
        (200, false),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "a chunk's size is too large to be true",
        UNARY,
        || headed("transfer-encoding: chunked", &format!("fffffffffffffffff\r\n{GOOD}")),
        (200, false),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "a page with 502",
        UNARY,
        || vec![Act::Send(whole("502 Bad Gateway", "content-type: text/html\r\n", PAGE))],
        (502, true),
        End::UpstreamError,
        NOT_TOLD,
    ),
    lie(
        "JSON and more",
        UNARY,
        || vec![Act::Send(json(&format!("{GOOD} and more")))],
        (200, true),
        End::UpstreamError,
        NOT_TOLD,
    ),
    lie("empty", UNARY, || vec![Act::Send(json(""))], (200, true), End::UpstreamError, NOT_TOLD),
    lie(
        "no content",
        UNARY,
        || send(&[b"HTTP/1.1 204 No Content\r\n\r\n"]),
        (204, true),
        End::UpstreamError,
        NOT_TOLD,
    ),
    lie(
        "an empty object",
        UNARY,
        || vec![Act::Send(json("{}"))],
        (200, true),
        End::UpstreamError,
        NOT_TOLD,
    ),
    lie(
        "a thousand heads before the head",
        UNARY,
        || send(&[&b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1_000), &json(GOOD)]),
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "a thousand headers",
        UNARY,
        || headed(&format!("{}content-length: 2", "x: 1\r\n".repeat(1_000)), "{}"),
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "a header without end",
        UNARY,
        || vec![Act::Send(b"HTTP/1.1 200 OK\r\nx: ".to_vec()), Act::Flood(vec![b'x'; 1 << 16], 64)],
        (502, true),
        End::Cut,
        NOT_TOLD,
    ),
    lie(
        "packed, though that was not asked for",
        UNARY,
        || headed("content-encoding: gzip\r\ncontent-length: 4", "\u{1f}\u{7f}\u{8}\0"),
        (200, true),
        End::Complete,
        NOT_TOLD,
    ),
    lie(
        "HTTP/1.0",
        UNARY,
        || send(&[b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n", GOOD.as_bytes()]),
        (200, true),
        End::Complete,
        TOLD,
    ),
];

/// Streams that are not as they should be.
const STREAM_LIES: &[Lie] = &[
    lie(
        "broken off in an event",
        STREAM,
        || send(&[SSE, &chunk(CHUNKS[1].as_bytes()), &chunk(b"data: {\"id")]),
        (200, false),
        End::Cut,
        (Estimated, Some(ONE_CHUNK)),
    ),
    lie(
        "no terminal event",
        STREAM,
        || events(&CHUNKS[..2]),
        (200, true),
        End::Cut,
        (Estimated, Some(ONE_CHUNK)),
    ),
    lie(
        "no terminal event, but the usage",
        STREAM,
        || events(&CHUNKS[..4]),
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "nothing but the terminal event",
        STREAM,
        || events(&CHUNKS[4..]),
        (200, true),
        End::Complete,
        (Estimated, Some(2 * INPUT)),
    ),
    lie(
        "two terminal events",
        STREAM,
        || events(&[CHUNKS[1], CHUNKS[2], CHUNKS[3], CHUNKS[4], CHUNKS[4]]),
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "usage twice",
        STREAM,
        || events(&[CHUNKS[1], CHUNKS[2], CHUNKS[3], CHUNKS[3], CHUNKS[4]]),
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "usage after the terminal event",
        STREAM,
        || events(&[CHUNKS[1], CHUNKS[2], CHUNKS[4], CHUNKS[3]]),
        (200, true),
        End::Complete,
        (Estimated, Some(ONE_CHUNK)),
    ),
    lie(
        "no blank line at the end",
        STREAM,
        || events(&[CHUNKS[1], CHUNKS[2], CHUNKS[3], "data: [DONE]"]),
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "lines that end in CR",
        STREAM,
        || {
            let text = CHUNKS.concat().replace("\r\n", "\n").replace('\n', "\r");
            events(&[&text])
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "lines that end in CR LF, and comments",
        STREAM,
        || {
            let text = format!(": a\n: b\n\n{}", CHUNKS.concat().replace("\r\n", "\n"));
            events(&[&text.replace('\n', "\r\n")])
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "a byte order mark",
        CLAUDE,
        || {
            let text = EVENTS.concat().replace("event: message_start\n", "\u{feff}");
            events(&[&text])
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "a byte at a time",
        STREAM,
        || {
            let text = CHUNKS.concat();
            vec![Act::Send(stream(text.as_bytes().chunks(1)))]
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "an event of 64 MiB",
        STREAM,
        || {
            let mebibyte = chunk(&vec![b'x'; 1 << 20]).repeat(64);
            send(&[
                SSE,
                &chunk(b"data: "),
                &mebibyte,
                &chunk(b"\n\n"),
                &stream(CHUNKS.map(str::as_bytes))[SSE.len()..],
            ])
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "packed, though that was not asked for",
        STREAM,
        || {
            let head =
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\
                content-length: 4\r\n\r\n\x1f\x8b\x08\x00";
            send(&[head])
        },
        (200, true),
        End::Complete,
        NOT_TOLD,
    ),
    lie(
        "HTTP/1.0",
        CLAUDE,
        || {
            let head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            send(&[head, EVENTS.concat().as_bytes()])
        },
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "one object, though a stream was asked for",
        STREAM,
        || vec![Act::Send(json(GOOD))],
        (200, true),
        End::Complete,
        TOLD,
    ),
    lie(
        "the last usage is missing",
        CLAUDE,
        || events(&[EVENTS[0], EVENTS[2], EVENTS[4]]),
        (200, true),
        End::Complete,
        (Partial, Some(12 * INPUT + OUTPUT)),
    ),
];

/// Stalls, each met by one limit; the others are far away.
const STALLS: &[(&str, Lie)] = &[
    (
        "first_byte_timeout",
        lie("no head", UNARY, || vec![Act::Hold], (504, true), End::Timeout, NOT_TOLD),
    ),
    (
        "first_byte_timeout",
        lie(
            "heads without end before the head",
            UNARY,
            || drip(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            (504, true),
            End::Timeout,
            NOT_TOLD,
        ),
    ),
    (
        "idle_timeout",
        lie(
            "half a body",
            UNARY,
            || vec![Act::Send(json(GOOD)[..200].to_vec()), Act::Hold],
            (200, false),
            End::Timeout,
            NOT_TOLD,
        ),
    ),
    (
        "idle_timeout",
        lie(
            "half a stream",
            STREAM,
            || vec![Act::Send([SSE, &chunk(CHUNKS[1].as_bytes())].concat()), Act::Hold],
            (200, false),
            End::Timeout,
            (Estimated, Some(ONE_CHUNK)),
        ),
    ),
    (
        "total_timeout",
        lie(
            "a comment now and then",
            STREAM,
            || {
                let mut acts = vec![Act::Send([SSE, &chunk(CHUNKS[1].as_bytes())].concat())];
                acts.extend(drip(&chunk(b": wait\n\n")));
                acts
            },
            (200, false),
            End::Timeout,
            (Estimated, Some(ONE_CHUNK)),
        ),
    ),
];

/// The same again and again, until the other side leaves.
fn drip(bytes: &[u8]) -> Vec<Act> {
    let one = || [Act::Send(bytes.to_vec()), Act::Pause(Duration::from_millis(20))];
    (0..1_500).flat_map(|_| one()).collect()
}

impl Lie {
    async fn told(&self, gateway: &Gateway) -> Reply {
        let call =
            if self.body == CLAUDE { Call::messages(self.body) } else { Call::chat(self.body) };
        call.with("x-lie", self.name).send(gateway).await
    }

    /// What came otherwise than it should have.
    fn wrong(&self, reply: &Reply, exchange: &Exchange) -> Option<String> {
        let end = &exchange.attempts[0].end;
        let completed = self.end == End::Complete;
        let verdict = if completed { Verdict::Completed } else { Verdict::Failed };
        let expected = ((self.status, self.whole), self.end, verdict, self.source, self.cost);
        let seen = (reply.status, reply.whole);
        let verdict = exchange.settlement.verdict;
        let found = (seen, end.end, verdict, end.metered.source, cost(exchange));
        let name = self.name;
        (found != expected).then(|| format!("{name}:\n  {expected:?} expected\n  {found:?}\n"))
    }
}

fn scripts(lies: impl Iterator<Item = &'static Lie>) -> impl Fn(&Received) -> Vec<Act> {
    let known: Vec<&Lie> = lies.collect();
    move |request| {
        let name = request.header("x-lie").unwrap();
        let claude = request.line.contains("/messages");
        let streams = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
        let meant = |lie: &&&Lie| {
            let of_body = (lie.body == CLAUDE, lie.body != UNARY);
            lie.name == name && of_body == (claude, streams)
        };
        (known.iter().find(meant).unwrap().acts)()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_upstream_says_is_settled_as_what_it_is() {
    // What is told in full teaches how many tokens a byte has: estimates go first.
    let those = |told| {
        let lies = UNARY_LIES.iter().chain(STREAM_LIES);
        lies.filter(move |lie| (lie.source == Reported) == told)
    };
    let lies = || those(false).chain(those(true));
    let server = Scripted::start(scripts(lies())).await;
    let config = upstream("openai", server.address) + &upstream("anthropic", server.address);
    let home = Home::new(&(config + PRICES));
    let gateway = home.serve();
    let before = gateway.memory_kib("VmRSS");
    let (mut count, mut unknown, mut sum) = (0, 0, 0);
    let mut wrong = String::new();
    for lie in lies() {
        let reply = lie.told(&gateway).await;
        count += 1;
        let settled = home.once_settled(count).await;
        wrong.extend(lie.wrong(&reply, &settled[count - 1]));
        match lie.cost {
            Some(cost) => sum += cost,
            None => unknown += 1,
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let grown = gateway.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 96 << 10, "{grown} KiB, an event of 64 MiB among them");
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(crate::home::pico(bill["spend_usd"].as_str().unwrap()), sum);
    assert_eq!(bill["total"]["unknown_attempts"], unknown);
    assert_eq!(server.received().len(), count, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_in_any_phase_is_cut_and_is_unknown() {
    let server = Scripted::start(scripts(STALLS.iter().map(|(_, lie)| lie))).await;
    for (limit, lie) in STALLS {
        let config = upstream("openai", server.address) + &format!("{limit} = \"400ms\"\n");
        let home = Home::new(&(config + PRICES));
        let gateway = home.serve();
        let reply = lie.told(&gateway).await;
        assert_eq!(lie.wrong(&reply, &home.once_settled(1).await[0]), None);
    }
    eventually("the upstream is left", || server.events.left.load(SeqCst) == STALLS.len()).await;

    // A handshake that never ends is no connection: nothing was asked, nothing is owed.
    let secure = upstream("openai", server.address).replace("http:", "https:");
    let home = Home::new(&(secure + "connect_timeout = \"400ms\"\n" + PRICES));
    let gateway = home.serve();
    let reply = Call::chat(UNARY).send(&gateway).await;
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("upstream_unreachable"), "{}", reply.text());
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!((exchange.attempts[0].end.end, cost(&exchange)), (End::Unreachable, Some(0)));
}

/// Kept alive, as `json` is not.
fn kept(body: &str) -> Vec<u8> {
    let reply = String::from_utf8(json(body)).unwrap();
    reply.replace("connection: close\r\n", "").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_went_out_on_a_dying_connection_is_not_sent_again() {
    let requests = AtomicUsize::new(0);
    let server = Scripted::start(move |_| match requests.fetch_add(1, SeqCst) {
        0 => vec![Act::Send(kept(GOOD)), Act::Again],
        // Read, and perhaps billed; then the connection is gone.
        1 => Vec::new(),
        _ => vec![Act::Send(json(GOOD))],
    })
    .await;
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    // One connection of a client stays with one worker, and so with one upstream connection.
    let mut seen = Vec::new();
    let mut connection = Call::chat(UNARY).begin(&gateway).await;
    for turn in 0..3 {
        let mut reading = connection.head().await.unwrap();
        while reading.piece().await.is_some() {}
        seen.push(reading.status);
        connection = reading.into_connection();
        if turn < 2 {
            connection.write(&Call::chat(UNARY).bytes(gateway.address)).await;
        }
    }
    assert_eq!(seen, [200, 502, 200]);
    assert_eq!(server.received().len(), 3);
    let settled = home.once_settled(3).await;
    let ends: Vec<_> = settled.iter().map(|e| (e.attempts[0].end.end, cost(e))).collect();
    assert_eq!(ends, [(End::Complete, Some(COST)), (End::Cut, None), (End::Complete, Some(COST))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_upstream_is_about_to_close_takes_no_further_request() {
    let requests = AtomicUsize::new(0);
    let about_to_close = String::from_utf8(kept(GOOD)).unwrap();
    let about_to_close =
        about_to_close.replacen("\r\n", "\r\nKeep-Alive: timeout=1, max=100\r\n", 1);
    let server = Scripted::start(move |_| match requests.fetch_add(1, SeqCst) {
        // Whatever else comes this way is read and never answered.
        0 => vec![Act::Send(about_to_close.clone().into_bytes()), Act::Hold],
        _ => vec![Act::Send(json(GOOD))],
    })
    .await;
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    let mut connection = Call::chat(UNARY).begin(&gateway).await;
    for _ in 0..2 {
        let mut reading = connection.head().await.unwrap();
        while reading.piece().await.is_some() {}
        assert_eq!(reading.status, 200);
        connection = reading.into_connection();
        connection.write(&Call::chat(UNARY).bytes(gateway.address)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_reply_on_a_kept_connection_is_no_reply_to_the_next_request() {
    let forged = kept(
        r#"{"id":"forged","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    );
    let server = Scripted::start(move |_| {
        vec![Act::Send([kept(GOOD), forged.clone()].concat()), Act::Again]
    })
    .await;
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    let mut connection = Call::chat(UNARY).begin(&gateway).await;
    for _ in 0..3 {
        let mut reading = connection.head().await.unwrap();
        let mut body = Vec::new();
        while let Some(piece) = reading.piece().await {
            body.extend(piece);
        }
        assert_eq!((reading.status, std::str::from_utf8(&body).unwrap()), (200, GOOD));
        connection = reading.into_connection();
        connection.write(&Call::chat(UNARY).bytes(gateway.address)).await;
    }
}

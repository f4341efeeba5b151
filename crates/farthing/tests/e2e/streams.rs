//! Streams cut anywhere, readers that do not read, and what is on disk when the last byte comes.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use facts::End;
use quantity::UsageSource;
use tokio::sync::Semaphore;
use workload::Random;

use crate::client::Call;
use crate::home::{Home, both, cost, eventually};
use crate::passthrough::{CHUNKS, COST, EVENTS};
use crate::scripted::{Act, SSE, Scripted, chunk, json, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;
const CLAUDE: &str = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[]}"#;

/// Pieces of a text, cut at random places; at every place for seed 0.
fn pieces(text: &str, seed: u64) -> Vec<&[u8]> {
    let bytes = text.as_bytes();
    let mut random = Random::new(seed);
    let mut cuts: Vec<usize> = match seed {
        0 => (0..bytes.len()).collect(),
        _ => (0..1 + random.index(12)).map(|_| random.index(bytes.len())).collect(),
    };
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_anywhere_has_the_same_bytes_and_usage() {
    const CUTS: u64 = 40;
    let server = Scripted::start(|request| {
        let seed: u64 = request.header("x-seed").unwrap().parse().unwrap();
        let chat = request.line.contains("/chat/");
        let whole = if chat { CHUNKS.concat() } else { EVENTS.concat() };
        vec![Act::Send(stream(pieces(&whole, seed)))]
    })
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let silent = CHUNKS.concat().replace(CHUNKS[3], "");
    for seed in 0..CUTS {
        let cases = [(Call::chat(CHAT), &silent), (Call::messages(CLAUDE), &EVENTS.concat())];
        for (call, expected) in cases {
            let reply = call.with("x-seed", &seed.to_string()).send(&gateway).await;
            assert!(reply.whole && reply.text() == expected, "seed {seed}: {}", reply.text());
        }
    }
    for (exchange, n) in home.once_settled(2 * 40).await.iter().zip(0_u64..) {
        let end = &exchange.attempts[0].end;
        assert_eq!((end.end, end.metered.source), (End::Complete, UsageSource::Reported), "{n}");
        assert_eq!(cost(exchange), Some(COST), "seed {}", n / 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    const PIECE: usize = 64 << 10;
    // A quarter of a gigabyte, if anybody takes it.
    const PIECES: usize = 4_096;
    let server = Scripted::start(|_| {
        let text = "x".repeat(PIECE);
        let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        vec![Act::Send(SSE.to_vec()), Act::Flood(chunk(event.as_bytes()), PIECES)]
    })
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let before = gateway.memory_kib("VmRSS");
    let reading = Call::chat(CHAT).head(&gateway).await;
    eventually("the upstream is held back", || server.events.blocked.load(SeqCst)).await;
    // What the kernel's buffers for two connections may hold, and some.
    let taken = server.events.flooded.load(SeqCst);
    assert!(taken < 64 << 20, "{taken} bytes were taken");
    let grown = gateway.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    drop(reading);
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(exchange.attempts[0].end.end, End::ClientGone);
    assert!(cost(&exchange) > Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settlement_is_on_disk_when_the_client_reads_the_last_byte() {
    let server = Scripted::start(|request| {
        let chat = request.line.contains("/chat/");
        if !String::from_utf8_lossy(&request.body).contains("\"stream\":true") {
            return vec![Act::Send(json(
                r#"{"model":"m","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}"#,
            ))];
        }
        let mut bytes = SSE.to_vec();
        for piece in if chat { CHUNKS } else { EVENTS } {
            bytes.extend(chunk(piece.as_bytes()));
        }
        // The body itself never ends: the terminal event must come without that.
        vec![Act::Send(bytes), Act::Hold]
    })
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for _ in 0..25 {
        for (call, last) in [
            (Call::chat(CHAT), "data: [DONE]\n\n"),
            (Call::messages(CLAUDE), "{\"type\":\"message_stop\"}\n\n"),
            (Call::chat(r#"{"model":"m"}"#), "}}"),
        ] {
            let mut reading = call.head(&gateway).await;
            let id = reading.id();
            reading.until(last).await;
            let exchange = home.settled(&id).expect("settled on disk already");
            assert_eq!(cost(&exchange), Some(COST));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admission_is_on_disk_when_the_upstream_sees_the_request() {
    let home = Arc::new(Home::new(""));
    let (there, go) = (Arc::clone(&home), Arc::new(Semaphore::new(0)));
    let allowed = Arc::clone(&go);
    let server = Scripted::start(move |_| {
        assert_eq!(there.journal(), (Vec::new(), 1), "admitted, before it was sent");
        let mut first = SSE.to_vec();
        first.extend(chunk(CHUNKS[1].as_bytes()));
        let rest = CHUNKS[2..].iter().flat_map(|piece| chunk(piece.as_bytes())).collect();
        vec![Act::Send(first), Act::Allowed(Arc::clone(&allowed)), Act::Send(rest), Act::Hold]
    })
    .await;
    home.configure(&both(server.address));
    let gateway = home.serve();
    let mut reading = Call::chat(CHAT).head(&gateway).await;
    // The first piece comes while the upstream waits: nothing is gathered.
    assert_eq!(reading.piece().await.as_deref(), Some(CHUNKS[1].as_bytes()));
    assert_eq!(home.journal(), (Vec::new(), 1));
    go.add_permits(1);
    reading.until("[DONE]").await;
    assert_eq!(home.journal().1, 0);
}

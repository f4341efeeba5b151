//! Streams that are read to their end when their clients leave.

use std::sync::Arc;

use facts::{End, Exchange, Verdict};
use quantity::UsageSource;
use tokio::sync::Semaphore;

use crate::client::Call;
use crate::home::{Home, both, cost, eventually};
use crate::passthrough::{CHUNKS, COST};
use crate::scripted::{Act, END, SSE, Scripted, chunk};

const STREAM: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;

/// An upstream that says a word, and the rest once it may.
async fn halting() -> (Scripted, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&permits);
    let server = Scripted::start(move |_| {
        let pieces: Vec<Vec<u8>> = CHUNKS.iter().map(|piece| chunk(piece.as_bytes())).collect();
        let (first, rest) = pieces.split_at(2);
        let rest = [rest.concat(), END.to_vec()].concat();
        let first = [SSE.to_vec(), first.concat()].concat();
        vec![Act::Send(first), Act::Allowed(Arc::clone(&allowed)), Act::Send(rest)]
    })
    .await;
    (server, permits)
}

fn draining(server: &Scripted) -> Home {
    Home::new(&(both(server.address) + "[routes.keen]\ndrain = true\n"))
}

fn ends(exchange: &Exchange) -> (End, Verdict, UsageSource) {
    let end = &exchange.attempts[0].end;
    (end.end, exchange.settlement.verdict, end.metered.source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_drains_has_exact_usage_of_streams_whose_clients_left() {
    let (server, permits) = halting().await;
    let home = draining(&server);
    let gateway = home.serve();
    let call = Call::chat(STREAM).with("x-farthing-route", "keen");
    let mut reading = call.head(&gateway).await;
    reading.until("a b").await;
    drop(reading);
    // A call on the same terms, but of a route that does not drain, shows that leaving was noticed.
    let mut other = Call::chat(STREAM).head(&gateway).await;
    other.until("a b").await;
    drop(other);
    let cancelled = {
        eventually("one settles", || home.journal().0.len() == 1).await;
        home.journal().0.remove(0)
    };
    assert_eq!(ends(&cancelled), (End::ClientGone, Verdict::Aborted, UsageSource::Estimated));
    permits.add_permits(2);
    let settled = home.once_settled(2).await;
    assert_eq!(ends(&settled[1]), (End::ClientGone, Verdict::Aborted, UsageSource::Reported));
    assert_eq!(cost(&settled[1]), Some(COST));
    assert_eq!(settled[1].admission.labels.route, "keen");
    // What nobody had is waste, however exactly it is known.
    assert_eq!(settled[1].attempts[0].waste(), Some(facts::WasteCause::Aborted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_cuts_what_is_read_for_nobody() {
    let (server, _permits) = halting().await;
    let home = draining(&server);
    let gateway = home.serve();
    let mut reading = Call::chat(STREAM).with("x-farthing-route", "keen").head(&gateway).await;
    reading.until("a b").await;
    drop(reading);
    gateway.stop().await;
    let exchange = home.once_settled(1).await.remove(0);
    assert_eq!(ends(&exchange), (End::ClientGone, Verdict::Aborted, UsageSource::Estimated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_are_read_for_nobody_at_once() {
    let (server, _permits) = halting().await;
    let home = draining(&server);
    let gateway = home.serve();
    let call = Call::chat(STREAM).with("x-farthing-route", "keen");
    let mut open = Vec::new();
    for _ in 0..258 {
        let mut reading = call.head(&gateway).await;
        reading.until("a b").await;
        open.push(reading);
    }
    drop(open);
    eventually("they settle", || home.journal().0.len() == 2).await;
    let settled = home.journal().0;
    assert!(settled.iter().all(|e| ends(e).2 == UsageSource::Estimated));
    assert_eq!((settled.len(), home.journal().1), (2, 256));
    assert_eq!(server.received().len(), 258);
}

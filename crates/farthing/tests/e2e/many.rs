//! A thousand streams open at once, and what happens when there are no more file descriptors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use facts::Verdict;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Call;
use crate::home::{Home, both, cost, eventually, pico};
use crate::passthrough::{CHUNKS, COST};
use crate::scripted::{Act, END, SSE, Scripted, chunk};

const CHAT: &str = r#"{"model":"m","stream":true}"#;
/// Tokens after the first, and how long each takes.
const TOKENS: usize = 5;
const TPOT: Duration = Duration::from_millis(600);
/// How long a client takes over each piece that it reads.
const SLOWNESS: Duration = Duration::from_millis(100);

/// This process holds both ends of each stream but for those of the gateway.
fn streams() -> usize {
    const WANTED: usize = 1_000;
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let most = limit.maximum.map_or(WANTED, |most| usize::try_from(most / 2).unwrap() - 200);
    WANTED.min(most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slow_streams_end_whole_and_each_is_billed_once() {
    let streams = streams();
    let gate = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&gate);
    let server = Scripted::start(move |_| {
        let first = [SSE, &chunk(CHUNKS[1].as_bytes())].concat();
        let mut acts = vec![Act::Send(first), Act::Allowed(Arc::clone(&allowed))];
        for _ in 0..TOKENS {
            acts.push(Act::Pause(TPOT));
            acts.push(Act::Send(chunk(CHUNKS[1].as_bytes())));
        }
        let rest = CHUNKS[2..].iter().flat_map(|piece| chunk(piece.as_bytes()));
        acts.push(Act::Send(rest.chain(END.iter().copied()).collect()));
        acts
    })
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let before = gateway.memory_kib("VmRSS");
    let expected = CHUNKS[1].repeat(TOKENS + 1) + CHUNKS[2] + CHUNKS[4];
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..streams {
        let (address, begun, expected) = (gateway.address, Arc::clone(&begun), expected.clone());
        clients.spawn(async move {
            let connection = Call::chat(CHAT).begin_at(address).await.unwrap();
            let mut reading = connection.head().await.unwrap();
            let id = reading.id();
            let mut seen = reading.piece().await.unwrap();
            begun.fetch_add(1, SeqCst);
            while let Some(piece) = reading.piece().await {
                seen.extend(piece);
                tokio::time::sleep(SLOWNESS).await;
            }
            assert_eq!((reading.whole(), String::from_utf8(seen).unwrap()), (true, expected));
            id
        });
    }
    // Nobody goes on before all have begun: they are open at once.
    eventually("all have their first token", || begun.load(SeqCst) == streams).await;
    assert_eq!(home.journal(), (Vec::new(), streams));
    gate.add_permits(streams);
    let mut ids = BTreeSet::new();
    while let Some(id) = clients.join_next().await {
        ids.insert(id.unwrap());
    }
    let most = gateway.memory_kib("VmHWM");
    println!("{streams} streams at once: {before} KiB before, {most} KiB at most");
    assert!(most < 100 << 10, "{most} KiB");
    // Clearing a huge page keeps every exchange of its thread waiting.
    #[cfg(target_os = "linux")]
    assert_eq!(gateway.status("THP_enabled"), "0");

    let settled = home.once_settled(streams).await;
    let known = settled.iter().map(|exchange| exchange.admission.exchange.to_string());
    assert_eq!(known.collect::<BTreeSet<_>>(), ids);
    for exchange in &settled {
        assert_eq!((exchange.settlement.verdict, cost(exchange)), (Verdict::Completed, Some(COST)));
    }
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["total"]["exchanges"], streams);
    let spend = pico(bill["spend_usd"].as_str().unwrap());
    assert_eq!(spend, i128::try_from(streams).unwrap() * COST);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_it_says_so_and_goes_on_once_there_are_some() {
    const FILES: usize = 96;
    let server = Scripted::always(
        [SSE, &CHUNKS.map(|piece| chunk(piece.as_bytes())).concat(), END].concat(),
    )
    .await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve_after(&format!("ulimit -n {FILES}"));
    let mut idle = Vec::new();
    for _ in 0..FILES {
        idle.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    eventually("it says so", || gateway.said().contains("could not be accepted")).await;
    let said = gateway.said();
    assert!(said.contains("this process may have 96: raise the hard limit"), "{said}");
    // It waits behind the others.
    let waiting = Call::chat(CHAT).begin(&gateway).await;
    drop(idle);
    assert_eq!(waiting.head().await.unwrap().rest().await.status, 200);
    let metrics = Call::get("/metrics").send(&gateway).await;
    let counted =
        metrics.text().lines().find_map(|line| line.strip_prefix("farthing_not_accepted_total "));
    assert_ne!(counted.unwrap(), "0");
    let said = gateway.stop().await;
    assert_eq!(said.matches("could not be accepted").count(), 1, "{said}");
    assert_eq!(home.journal().0.len(), 1);
}

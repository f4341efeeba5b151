//! A gateway in this process, on a disk in memory that stalls or fails for good.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use facts::{Charged, End, Exchange, Verdict};
use gateway::{Clock, Gateway, OnFailure, Page, Recent, Settings, Upstream, Watch};
use journal::{Committer, Fault, MemoryStorage, Options, Reader, Writer};
use quantity::{HashKey, UnixTime};
use tariff::Book;

use crate::client::{Call, Reply};
use crate::home::{eventually, replayed};
use crate::passthrough::{CHUNKS, paused};
use crate::scripted::{Scripted, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;

struct Nobody;

impl Watch for Nobody {
    fn settled(&self, _: &Arc<Exchange>) {}
    fn page(&self, _: &str, _: UnixTime) -> Option<Page> {
        None
    }
    fn lookup(&self, _: &Exchange) -> String {
        String::new()
    }
    fn not_accepted(&self, _: &std::io::Error) {}
}

/// A gateway on a disk of its own.
struct Here {
    address: SocketAddr,
    storage: MemoryStorage,
    _committer: Committer<MemoryStorage>,
}

impl Here {
    async fn start(upstream: SocketAddr, on_ledger_failure: OnFailure) -> Self {
        let ledger_timeout = Duration::from_millis(500);
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            access_key: None,
            admin_key: None,
            keys: Arc::default(),
            allowed_hosts: Vec::new(),
            upstreams: vec![Upstream {
                name: "openai".to_owned(),
                convention: metering::Convention::OpenAi,
                base_url: format!("http://{upstream}/v1").parse().unwrap(),
                key: None,
                provider: None,
                region: None,
                hourly_cost: None,
                limits: gateway::Limits::default(),
            }],
            models: BTreeMap::new(),
            retry: gateway::Retry::default(),
            on_ledger_failure,
            ledger_timeout,
            routes: BTreeMap::new(),
            route_names: BTreeMap::new(),
            unmetered: Vec::new(),
            client_timeout: Duration::from_secs(60),
            max_body: 1 << 20,
        };
        let storage = MemoryStorage::new();
        let clock = Clock::system();
        let writer = Writer::open(storage.clone(), clock.now(), 1).unwrap().0;
        // It syncs only what is asked for, so that the test knows what the disk does next.
        let sync_every = Duration::from_secs(3_600);
        let options = Options { stalled_after: ledger_timeout, sync_every, ..Options::default() };
        let committer = Committer::start(writer, options, move || clock.now()).unwrap();
        let (key, book) = (HashKey::new([7; 32]), Arc::new(Book::builtin()));
        let journal = committer.handle();
        let recent = Recent::default();
        let watch = Arc::new(Nobody);
        let gateway = Gateway::new(settings, book, journal, clock, key, recent, watch).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(gateway.serve(listener, std::future::pending()));
        Self { address, storage, _committer: committer }
    }

    async fn send(&self, call: Call) -> Reply {
        call.begin_at(self.address).await.unwrap().head().await.unwrap().rest().await
    }

    async fn ready(&self) -> (u16, String) {
        let reply = self.send(Call::get("/readyz")).await;
        (reply.status, reply.text().to_owned())
    }

    /// What is settled, and how many are open.
    fn journal(&self) -> (Vec<Exchange>, usize) {
        replayed(&mut Reader::open(self.storage.clone()).unwrap())
    }

    async fn once_settled(&self, count: usize) -> Vec<Exchange> {
        eventually("so many exchanges settle", || self.journal().0.len() >= count).await;
        let (settled, open) = self.journal();
        assert_eq!((settled.len(), open), (count, 0));
        settled
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admission_that_a_stalled_disk_holds_is_refused_and_settles_as_never_sent() {
    let server = Scripted::always(stream(CHUNKS.map(str::as_bytes))).await;
    let here = Here::start(server.address, OnFailure::Refuse).await;
    here.storage.set_stalled(true);
    let refused = async || {
        let reply = here.send(Call::chat(CHAT)).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &"ledger_stalled".into()));
    };
    refused().await;
    let said = loop {
        let (status, said) = here.ready().await;
        if status == 503 {
            break said;
        }
    };
    assert!(said.contains("not ready: ledger stalled for "), "{said}");
    let metrics = here.send(Call::get("/metrics")).await;
    assert!(metrics.text().contains("farthing_journal_up 0\n"), "{}", metrics.text());
    // Now at once.
    refused().await;
    here.storage.set_stalled(false);
    // The first was on its way to the disk, the second was refused before it came to the journal.
    let settled = here.once_settled(1).await;
    let [attempt] = settled[0].attempts.as_slice() else { panic!("one attempt") };
    assert_eq!(
        (attempt.end.end, settled[0].settlement.verdict),
        (End::Unreachable, Verdict::Failed)
    );
    assert_eq!(attempt.end.charged, Charged::NotBilled);
    assert!(server.received().is_empty(), "nothing is sent on");
    let reply = here.send(Call::chat(CHAT)).await;
    assert!(reply.status == 200 && reply.whole, "{}", reply.text());
    here.once_settled(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_a_stalled_disk_holds_cuts_the_reply_and_is_written_later() {
    let (server, go) = paused().await;
    for (on_failure, whole) in [(OnFailure::Refuse, false), (OnFailure::Pass, true)] {
        let here = Here::start(server.address, on_failure).await;
        let mut reading =
            Call::chat(CHAT).begin_at(here.address).await.unwrap().head().await.unwrap();
        reading.until("a b").await;
        here.storage.set_stalled(true);
        go.add_permits(1);
        let reply = reading.rest().await;
        assert_eq!((reply.whole, reply.text().contains("[DONE]")), (whole, whole));
        assert_eq!(here.journal().1, 1);
        here.storage.set_stalled(false);
        let exchange = here.once_settled(1).await.remove(0);
        assert_eq!(exchange.attempts[0].end.end, End::Complete);
        assert_eq!(exchange.attempts[0].end.metered.usage.total(), 17);
        assert_eq!(exchange.settlement.verdict, Verdict::Completed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_passes_a_stalled_disk_waits_once_and_is_written_later() {
    let server = Scripted::always(stream(CHUNKS.map(str::as_bytes))).await;
    let here = Here::start(server.address, OnFailure::Pass).await;
    here.storage.set_stalled(true);
    for _ in 0..5 {
        let reply = here.send(Call::chat(CHAT)).await;
        assert!(reply.status == 200 && reply.whole, "{}", reply.text());
    }
    let (status, said) = here.ready().await;
    assert!(status == 200 && said.contains("passing without ledger: ledger stalled for"), "{said}");
    assert_eq!(here.journal(), (Vec::new(), 0));
    here.storage.set_stalled(false);
    here.once_settled(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_failed_for_good_refuses_or_counts_what_passes() {
    let server = Scripted::always(stream(CHUNKS.map(str::as_bytes))).await;
    for (on_failure, status) in [(OnFailure::Refuse, 503), (OnFailure::Pass, 200)] {
        let here = Here::start(server.address, on_failure).await;
        // The next append fails and cannot be taken back.
        here.storage.set_fault(here.storage.calls(), Fault::Torn(3));
        here.storage.set_fault(here.storage.calls() + 1, Fault::Fail);
        for _ in 0..3 {
            assert_eq!(here.send(Call::chat(CHAT)).await.status, status);
        }
        let metrics = here.send(Call::get("/metrics")).await;
        let passed = if status == 200 { 3 } else { 0 };
        for line in [
            "farthing_journal_poisoned 1".to_owned(),
            format!("farthing_gap_exchanges_total {passed}"),
            // Metered all the same.
            format!("farthing_tokens_total{{class=\"output_text\"}} {}", 5 * passed),
        ] {
            assert!(
                metrics.text().lines().any(|found| found == line),
                "{line}: {}",
                metrics.text()
            );
        }
        let (code, said) = here.ready().await;
        assert!(said.contains("ledger failed until it is restarted: cannot append to"), "{said}");
        assert_eq!(code, status);
        assert_eq!(said.contains("3 exchanges are not on the ledger"), status == 200, "{said}");
    }
}

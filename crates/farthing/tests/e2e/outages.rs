//! A disk that cannot be written for a while, or from the start, and journals with holes.

use facts::{End, Verdict};
use journal::{Batch, DirStorage, Reader, Writer};
use quantity::UnixTime;
use serde_json::Value;

use crate::client::Call;
use crate::home::{Gateway, Home, both, cost, pico};
use crate::passthrough::{CHUNKS, COST, paused};
use crate::scripted::{Scripted, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;

async fn chats() -> Scripted {
    Scripted::always(stream(CHUNKS.map(str::as_bytes))).await
}

async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let reply = Call::get(path).send(gateway).await;
    (reply.status, reply.text().to_owned())
}

async fn metric(gateway: &Gateway, name: &str) -> String {
    let (_, text) = get(gateway, "/metrics").await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_a_full_disk_refuses_is_written_once_there_is_room() {
    // Whether the reply waits for that, or is cut because it takes too long.
    for (timeout, whole) in [("60s", true), ("100ms", false)] {
        let (server, go) = paused().await;
        let home = Home::new(&format!("ledger_timeout = \"{timeout}\"\n{}", both(server.address)));
        let gateway = home.serve_on_a_disk_that_fills();
        let mut reading = Call::chat(CHAT).head(&gateway).await;
        reading.until("a b").await;
        gateway.fill_disk(true);
        go.add_permits(1);
        let refused = async || get(&gateway, "/readyz").await.0 == 503;
        while !refused().await {
            tokio::task::yield_now().await;
        }
        let (_, said) = get(&gateway, "/readyz").await;
        assert!(said.contains("not ready: ledger's last append failed"), "{said}");
        assert!(said.contains("records of the ledger wait in memory"), "{said}");
        assert_ne!(metric(&gateway, "farthing_journal_pending_bytes").await, "0");
        assert_eq!(metric(&gateway, "farthing_journal_up").await, "0");
        let reply = Call::chat(CHAT).send(&gateway).await;
        assert_eq!(reply.json()["error"]["code"], "journal_unavailable");
        assert_eq!(server.received().len(), 1, "nothing is sent on");

        let reply = if whole {
            gateway.fill_disk(false);
            reading.rest().await
        } else {
            let reply = reading.rest().await;
            gateway.fill_disk(false);
            reply
        };
        assert_eq!((reply.whole, reply.text().contains("[DONE]")), (whole, whole));
        let exchange = home.once_settled(1).await.remove(0);
        assert_eq!(exchange.attempts[0].end.end, End::Complete);
        assert_eq!(
            (exchange.settlement.verdict, cost(&exchange)),
            (Verdict::Completed, Some(COST))
        );
        assert_eq!(get(&gateway, "/readyz").await, (200, "ready\n".to_owned()));
        go.add_permits(1);
        assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
        gateway.stop().await;
        let (settled, open) = home.journal();
        assert_eq!((settled.len(), open), (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_passes_a_short_outage_is_on_the_bill_as_ever() {
    let server = chats().await;
    let home = Home::new(&format!("on_ledger_failure = \"pass\"\n{}", both(server.address)));
    let gateway = home.serve_on_a_disk_that_fills();
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    gateway.fill_disk(true);
    for _ in 0..5 {
        let reply = Call::chat(CHAT).send(&gateway).await;
        assert!(reply.status == 200 && reply.whole && reply.text().ends_with("[DONE]\n\n"));
    }
    let (status, said) = get(&gateway, "/readyz").await;
    assert!(status == 200 && said.starts_with("passing without ledger: "), "{said}");
    assert_eq!(metric(&gateway, "farthing_gap_exchanges_total").await, "0");
    assert_eq!(home.journal().0.len(), 1);
    gateway.fill_disk(false);
    home.once_settled(6).await;
    gateway.stop().await;
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!((&bill["total"]["exchanges"], &bill["gaps"]), (&6.into(), &Value::Array(vec![])));
    assert_eq!(pico(bill["spend_usd"].as_str().unwrap()), 6 * COST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_refuse_where_others_pass() {
    let server = chats().await;
    let routes = "[routes.strict]\non_ledger_failure = \"refuse\"\n";
    let config = format!("on_ledger_failure = \"pass\"\n{routes}{}", both(server.address));
    let home = Home::new(&config);
    let gateway = home.serve_on_a_disk_that_fills();
    gateway.fill_disk(true);
    let strict = Call::chat(CHAT).with("x-farthing-route", "strict");
    assert_eq!(strict.send(&gateway).await.status, 503);
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_neither_be_written_nor_kept_is_told_at_the_end() {
    let server = chats().await;
    let config = format!("on_ledger_failure = \"pass\"\n{}", both(server.address));
    let home = Home::new(&config);
    let gateway = home.serve_on_a_disk_that_fills();
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    home.once_settled(1).await;
    gateway.fill_disk(true);
    for _ in 0..3 {
        assert!(Call::chat(CHAT).send(&gateway).await.whole);
    }
    gateway.terminate();
    let (code, said) = gateway.ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("could not be written to the end: 3 exchanges between"), "{said}");
    assert!(said.contains("nor can this be kept"), "{said}");
    let bill = home.run(&["bill"]).ok();
    assert!(!bill.contains("without ledger"), "nobody knows of it: {bill}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_was_kept_is_put_on_the_journal_by_the_next_start_once() {
    let server = chats().await;
    let config = format!("ledger_timeout = \"100ms\"\n{}", both(server.address));
    let home = Home::new(&format!("on_ledger_failure = \"pass\"\n{config}"));
    let gateway = home.serve_on_a_small_disk(16);
    let mut calls = 0;
    while metric(&gateway, "farthing_journal_up").await == "1" {
        assert!(Call::chat(CHAT).send(&gateway).await.whole);
        calls += 1;
        assert!(calls < 1_000, "the disk never fills");
    }
    for _ in 0..3 {
        assert!(Call::chat(CHAT).send(&gateway).await.whole);
        calls += 1;
    }
    gateway.terminate();
    let (code, said) = gateway.ended().await;
    assert_eq!(code, Some(1), "{said}");

    let kept = std::fs::read(home.data().join("gap.record")).unwrap();
    let gateway = home.serve();
    let (_, page) = get(&gateway, "/farthing/api/bill").await;
    let said = gateway.stop().await;
    assert!(said.contains("the last gateway could not record all"), "{said}");
    // As if it had been killed before it forgot what was kept.
    std::fs::write(home.data().join("gap.record"), kept).unwrap();
    home.serve().stop().await;

    let bill = home.run(&["bill", "--json"]).json();
    let [gap] = bill["gaps"].as_array().unwrap().as_slice() else { panic!("{bill}") };
    let (settled, open) = home.journal();
    let whole = settled.iter().filter(|one| one.settlement.verdict == Verdict::Completed).count();
    assert_eq!((gap["exchanges"].as_u64().unwrap(), open), (calls - whole as u64, 0));
    let known = pico(gap["cost_usd"].as_str().unwrap());
    assert_eq!(known, i128::from(calls - whole as u64) * COST);
    assert_eq!(gap["tokens"], (calls - whole as u64) * 17);
    assert!(gap["cause"].as_str().unwrap().contains("cannot append to"), "{gap}");
    let text = home.run(&["bill"]).ok();
    assert!(text.contains("exchanges passed without ledger between"), "{text}");
    assert!(page.contains("exchanges passed without ledger between"), "{page}");
    let dump = home.run(&["journal", "dump"]).ok();
    assert_eq!(dump.lines().filter(|line| line.starts_with(r#"{"kind":"gap","since""#)).count(), 1);
    let check = home.run(&["journal", "check"]).ok();
    assert!(check.contains(" 1 gaps") && check.contains("passed without ledger"), "{check}");
    let before = home.run(&["bill", "--until", "2020-01-01", "--json"]).json();
    assert_eq!(before["gaps"], Value::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_at_the_start_is_named() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    std::fs::write(home.data(), "no directory").unwrap();
    let ran = home.run(&["serve"]);
    let path = home.data().display().to_string();
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("data directory") && ran.err.contains(&path), "{}", ran.err);
    std::fs::remove_file(home.data()).unwrap();
    // Not even the secret for fingerprints, then not the journal.
    let ran = home.run_on_a_full_disk();
    assert_eq!(ran.code, Some(1));
    let key = home.data().join("fingerprint.key").display().to_string();
    assert!(ran.err.contains("cannot make") && ran.err.contains(&key), "{}", ran.err);
    home.serve().stop().await;
    for file in std::fs::read_dir(home.data().join("journal")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let ran = home.run_on_a_full_disk();
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains(&path) && ran.err.contains("cannot append to"), "{}", ran.err);
    assert!(ran.err.contains("File too large"), "the system's own word for it: {}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_missing_are_named_by_file_and_sequence() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for _ in 0..5 {
        assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    }
    gateway.stop().await;
    // The same records, in segments of one exchange each.
    let journal = home.data().join("journal");
    let mut reader = Reader::open(DirStorage::open(&journal).unwrap()).unwrap();
    let mut exchanges = vec![Batch::new()];
    while let Some(record) = reader.next().unwrap() {
        let record = record.decode().unwrap();
        exchanges.last_mut().unwrap().push(&record).unwrap();
        if let journal::Body::Settled(_) = record.body {
            exchanges.push(Batch::new());
        }
    }
    drop(reader);
    std::fs::remove_dir_all(&journal).unwrap();
    let storage = DirStorage::create(&journal).unwrap();
    let mut writer = Writer::open(storage, UnixTime::from_nanos(0), 1).unwrap().0;
    writer = writer.with_segment_bytes(1);
    let mut files = Vec::new();
    for batch in &mut exchanges {
        let first = writer.append(batch, UnixTime::from_nanos(0)).unwrap().start;
        files.push((first, writer.file_name().to_owned()));
    }
    drop(writer);
    let ((gone, file), (next, after)) = (&files[2], &files[3]);
    std::fs::remove_file(journal.join(file)).unwrap();
    let expected =
        format!("`{after}`: expected sequence {gone}, found {next}: {} missing", next - gone);

    let check = home.run(&["journal", "check"]);
    assert_eq!(check.code, Some(1));
    assert!(check.out.contains(&expected), "{}{}", check.out, check.err);
    let bill = home.run(&["bill", "--json"]);
    assert!(bill.err.contains(&expected), "{}", bill.err);
    assert_eq!(bill.json()["total"]["exchanges"], 4);
    let said = home.serve().stop().await;
    assert!(said.contains(&expected), "{said}");
}

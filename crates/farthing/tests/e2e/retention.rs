//! Old segments go, bills stay; a gateway that starts anew goes on from both.

use journal::{Batch, DirStorage, Reader, Storage as _, Writer};

use crate::client::Call;
use crate::home::{Home, both, eventually, pico};
use crate::passthrough::{CHUNKS, COST};
use crate::scripted::{Scripted, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;

/// Writes the journal anew as one that was written long ago, in a segment for every few records.
fn age(home: &Home, days: i64) {
    let (path, aged) = (home.data().join("journal"), home.data().join("aged"));
    let mut reader = Reader::open(DirStorage::open(&path).unwrap()).unwrap();
    let mut writer = None;
    let mut batch = Batch::new();
    while let Some(record) = reader.next().unwrap() {
        let record = record.decode().unwrap();
        let then = home.journal().0[0].admission.at.nanos() - 86_400_000_000_000 * days;
        let then = quantity::UnixTime::from_nanos(then);
        let writer = writer.get_or_insert_with(|| {
            let storage = DirStorage::create(&aged).unwrap();
            Writer::open(storage, then, record.writer.0).unwrap().0.with_segment_bytes(1)
        });
        batch.push(&record).unwrap();
        if batch.records() == 3 {
            writer.append(&mut batch, then).unwrap();
            batch = Batch::new();
        }
    }
    let mut writer = writer.unwrap();
    writer.append(&mut batch, quantity::UnixTime::from_nanos(0)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&aged, &path).unwrap();
}

fn segments(home: &Home) -> usize {
    let names = DirStorage::open(home.data().join("journal")).unwrap().list().unwrap();
    names.iter().filter(|name| name.ends_with(".farthing")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_segments_are_pruned_by_hand_or_by_serve_and_bills_stay_as_they_were() {
    let server = Scripted::always(stream(CHUNKS.map(str::as_bytes))).await;
    let config = both(server.address);
    let home = Home::new(&config);
    let gateway = home.serve();
    for route in ["a", "b", "b", "c", "c", "c"] {
        let call = Call::chat(CHAT).with("x-farthing-route", route);
        assert!(call.send(&gateway).await.whole);
    }
    gateway.stop().await;
    age(&home, 300);
    let all = segments(&home);
    assert!(all > 6);
    let bills =
        || ["route", "model,day", "api"].map(|by| home.run(&["bill", "--csv", "--by", by]).ok());
    let before = bills();

    // By hand, in two steps: none is that old, then all that are sealed.
    let out = home.run(&["journal", "prune", "--older-than", "301d"]).ok();
    assert!(out.starts_with("nothing to prune"), "{out}");
    let out = home.run(&["journal", "prune", "--older-than", "299d", "--dry-run"]).ok();
    assert!(out.starts_with("would prune"), "{out}");
    assert_eq!((segments(&home), home.data().join("archive/manifest").exists()), (all, false));

    // By `serve`, which goes on from what is kept.
    home.configure(&format!("retention = \"299d\"\n{config}"));
    let gateway = home.serve();
    eventually("serve prunes", || segments(&home) == 1).await;
    assert!(Call::chat(CHAT).with("x-farthing-route", "a").send(&gateway).await.whole);
    let page = Call::get("/farthing/api/bill").send(&gateway).await;
    assert_eq!(page.status, 200);
    gateway.stop().await;

    let json = home.run(&["bill", "--json"]).json();
    assert_eq!(json["total"]["exchanges"], 7);
    assert_eq!(pico(json["spend_usd"].as_str().unwrap()), 7 * COST);
    std::fs::remove_dir_all(home.data().join("warehouse")).unwrap();
    let now = home.run(&["bill", "--json"]).json();
    assert_eq!(now["groups"], json["groups"]);
    let until = &["bill", "--csv", "--by", "route", "--until"];
    let newest = json["period"]["last_admitted"].as_str().unwrap();
    assert_eq!(home.run(&[&until[..], &[newest]].concat()).ok(), before[0]);

    let out = home.run(&["journal", "check"]).ok();
    assert!(out.contains("pruned earlier:"), "{out}");
    let out = home.run(&["journal", "dump"]).ok();
    assert!(out.starts_with(r#"{"kind":"pruned","#), "{out}");

    // A segment that is missing is not one that was pruned.
    let archive = home.data().join("archive");
    let manifest = std::fs::read_to_string(archive.join("manifest")).unwrap();
    std::fs::write(archive.join("manifest"), manifest.replacen(" 1 4 ", " 1 5 ", 1)).unwrap();
    let ran = home.run(&["journal", "check"]);
    assert!(ran.code == Some(1) && ran.err.contains("`manifest` in the archive"), "{}", ran.err);
}

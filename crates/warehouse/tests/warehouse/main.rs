//! The warehouse's promises: its answers are those of the whole journal, whatever happened to its
//! files.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod damage;
mod prune;
mod resumed;
mod same;
mod workload;

use std::collections::BTreeMap;
use std::path::Path;

use facts::{Answer, Query, Rollup};
use journal::{Body, MemoryStorage, Reader};
use ledger::Ledger;
use quantity::{Period, UnixTime};
use report::{Bill, BookLine, Style};
use warehouse::{Answered, Warehouse};

use workload::{Sample, Try};

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn now() -> UnixTime {
    at("2026-11-25T12:00:00Z")
}

fn query(by: &[&str], period: Period) -> Query {
    Query { by: by.iter().map(|name| name.parse().unwrap()).collect(), period }
}

/// What the whole journal answers: the answer, open exchanges, unknown records, missing records.
fn from_journal(journal: &MemoryStorage, query: &Query) -> (Answer, usize, u64, u64) {
    let mut reader = Reader::open(journal.clone()).unwrap();
    let (mut ledger, mut rollup) = (Ledger::default(), Rollup::new(query.clone()));
    let mut unknown = 0;
    while let Some(record) = reader.next().unwrap() {
        match record.decode().unwrap().body {
            Body::Admitted(admission) => ledger.admit(admission).unwrap(),
            Body::Dispatched(dispatch) => ledger.dispatch(dispatch).unwrap(),
            Body::AttemptEnded(end) => ledger.end(end).unwrap(),
            Body::Settled(settlement) => rollup.add(&ledger.settle(settlement).unwrap()),
            Body::Price(price) => rollup.price(&price),
            Body::Adjusted(adjustment) => rollup.adjust(&adjustment),
            Body::Gap(gap) => rollup.gap(&gap),
            Body::Unknown { .. } => unknown += 1,
        }
    }
    let missing = reader.missing().iter().map(journal::Missing::count).sum();
    (rollup.answer(now()), ledger.open(), unknown, missing)
}

fn from_warehouse(
    warehouse: &Warehouse<MemoryStorage>,
    query: &Query,
) -> (Answer, usize, u64, u64) {
    let Answered { answer, open, unknown, missing, refreshed } =
        warehouse.answer(query, now()).unwrap();
    assert!(refreshed.unstored.is_none(), "{:?}", refreshed.unstored);
    (answer, open, unknown, missing)
}

/// The bill as people and programs read it.
fn bill(answer: &Answer) -> [String; 3] {
    let book = BookLine { name: "book".to_owned(), as_of: at("2026-11-01").day() };
    let bill = Bill::new(answer, &book, now());
    [bill.text(Style::default()), bill.json(), bill.csv()]
}

/// A warehouse whose journal's end is projected when it has this many bytes.
fn warehouse(directory: &Path, journal: &MemoryStorage, most: u64) -> Warehouse<MemoryStorage> {
    archived(directory, journal, &MemoryStorage::new(), most)
}

/// The same with an archive.
fn archived(
    directory: &Path,
    journal: &MemoryStorage,
    archive: &MemoryStorage,
    most: u64,
) -> Warehouse<MemoryStorage> {
    let warehouse = Warehouse::new(directory.join("warehouse"), journal.clone(), archive.clone());
    warehouse.with_most_unprojected(most)
}

/// Names and bytes of the files of a warehouse.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory.join("warehouse")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Samples that are the same each time.
fn samples(count: usize) -> Vec<Sample> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    let byte = |number: u32| number.to_le_bytes()[1];
    (0..count)
        .map(|_| Sample {
            minute: next() % 4_320,
            labels: std::array::from_fn(|_| byte(next())),
            api: byte(next()) % 4,
            tries: (0..next() % 3)
                .map(|_| Try {
                    model: byte(next()),
                    upstream: byte(next()),
                    end: byte(next()),
                    finish: byte(next()),
                    source: byte(next()),
                    charge: byte(next()),
                    tokens: std::array::from_fn(|_| next() % 10_000),
                    seconds: 300,
                })
                .collect(),
            settles: next() % 10 > 0,
            place: next(),
        })
        .collect()
}

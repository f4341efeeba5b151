//! Answers equal those of the whole journal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use journal::{MemoryStorage, Storage as _};
use proptest::prelude::*;
use quantity::Period;

use crate::workload::{any_sample, join, mixed, write};
use crate::{at, bill, files, from_journal, from_warehouse, query, samples, warehouse};

pub(crate) const DIMENSIONS: [&str; 15] = [
    "route",
    "model",
    "task_type",
    "task",
    "team",
    "user",
    "upstream",
    "provider",
    "day",
    "api",
    "key",
    "region",
    "tag:release",
    "tag:tag-3",
    "tag:none",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn every_answer_is_that_of_the_whole_journal(
        samples in prop::collection::vec(any_sample(), 1..40),
        others in prop::collection::vec(any_sample(), 0..10),
        by in prop::collection::vec(prop::sample::select(&DIMENSIONS[..]), 0..4),
        segment_bytes in 100_u64..6_000,
        most in prop::sample::select(&[0_u64, 1, 500, 4_000, u64::MAX][..]),
        ends in prop::option::of((0_u32..4_320, 1_u32..4_320)),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let minute = |minute: u32| {
            at("2026-11-20").plus(Duration::from_secs(60 * u64::from(minute)))
        };
        let period = ends.map_or(Period::default(), |(start, length)| Period {
            start: Some(minute(start)),
            end: Some(minute(start + length)),
        });
        let query = query(&by, period);
        let journal = MemoryStorage::new();
        let warehouse = warehouse(directory.path(), &journal, most);
        // Asked while the journal grows, so that projections of its end are met again.
        let mut batches = mixed(7, &samples);
        let cut = cut.index(batches.len());
        write(&journal, 7, segment_bytes, &mut batches[..cut]);
        prop_assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
        write(&journal, 7, segment_bytes, &mut batches[cut..]);
        prop_assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
        // A second stream, whose writer comes first.
        let other = MemoryStorage::new();
        write(&other, 3, segment_bytes, &mut mixed(3, &others));
        join(&journal, &other);
        let expected = from_journal(&journal, &query);
        prop_assert_eq!(&from_warehouse(&warehouse, &query), &expected);
        // Thrown away and made again, the reports have the same bytes.
        let _ = std::fs::remove_dir_all(directory.path().join("warehouse"));
        let found = from_warehouse(&warehouse, &query);
        prop_assert_eq!(bill(&found.0), bill(&expected.0));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn projections_are_a_function_of_the_journal() {
    let journal = MemoryStorage::new();
    write(&journal, 7, 2_000, &mut mixed(7, &samples(60)));
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) =
        (warehouse(one.path(), &journal, 500), warehouse(other.path(), &journal, 500));
    let projected = first.refresh().unwrap().projected;
    assert!(projected > 10);
    assert_eq!(first.refresh().unwrap().projected, 0, "all of it is there");
    // Another one comes to it by answering.
    second.answer(&query(&["task"], Period::default()), crate::now()).unwrap();
    assert_eq!(files(one.path()), files(other.path()));
    assert_eq!(files(one.path()).len(), projected);
}

#[test]
fn several_may_project_and_answer_beside_a_writer() {
    let journal = MemoryStorage::new();
    let directory = tempfile::tempdir().unwrap();
    let mut batches = mixed(7, &samples(200));
    let query = query(&["route", "model"], Period::default());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let warehouse = warehouse(directory.path(), &journal, 3_000);
                let mut seen = 0;
                while !done.load(Ordering::Acquire) {
                    // That another tidied up what this one was writing is no harm.
                    warehouse.refresh().unwrap();
                    let answer = warehouse.answer(&query, crate::now()).unwrap().answer;
                    assert!(answer.total.exchanges >= seen, "an exchange was lost");
                    seen = answer.total.exchanges;
                }
            });
        }
        write(&journal, 7, 4_000, &mut batches);
        done.store(true, Ordering::Release);
    });
    let warehouse = warehouse(directory.path(), &journal, 3_000);
    assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
}

#[test]
fn missing_records_are_told() {
    let journal = MemoryStorage::new();
    let mut batches = mixed(7, &[]);
    write(&journal, 7, 1, &mut batches);
    let names = journal.list().unwrap();
    let pruned = MemoryStorage::new();
    for name in names.iter().skip(1).filter(|name| **name != names[3]) {
        pruned.set_bytes(name, journal.bytes(name));
    }
    let directory = tempfile::tempdir().unwrap();
    let query = query(&["route"], Period::default());
    let expected = from_journal(&pruned, &query);
    assert_eq!(expected.3, 2);
    assert_eq!(from_warehouse(&warehouse(directory.path(), &pruned, 0), &query), expected);
}

#[test]
fn a_broken_journal_gives_no_answer() {
    let journal = MemoryStorage::new();
    write(&journal, 7, 2_000, &mut mixed(7, &samples(30)));
    let name = journal.list().unwrap().remove(1);
    let mut bytes = journal.bytes(&name);
    bytes[100] ^= 1;
    journal.set_bytes(&name, bytes);
    let directory = tempfile::tempdir().unwrap();
    let answer = warehouse(directory.path(), &journal, 500)
        .answer(&query(&[], Period::default()), crate::now());
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("corrupt"), "{error}");
}

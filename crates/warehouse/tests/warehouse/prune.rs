//! Retention: segments go, bills stay as they were.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use facts::PriceRecord;
use journal::{Batch, Fault, MemoryStorage, Storage as _, Writer};
use proptest::prelude::*;
use quantity::{Period, PriceRowId};
use warehouse::{Passed, Pruning, Warehouse, WarehouseError, Why};

use crate::same::DIMENSIONS;
use crate::workload::{Sample, any_sample, join, known, mixed, records, write};
use crate::{archived, at, bill, files, from_journal, from_warehouse, now, query, samples};

/// Samples that all settle, so that every sealed segment can be pruned.
fn settled(count: usize) -> Vec<Sample> {
    samples(count).into_iter().map(|sample| Sample { settles: true, ..sample }).collect()
}

/// A journal of a few segments of known records.
fn journal(count: usize) -> MemoryStorage {
    let journal = MemoryStorage::new();
    write(&journal, 7, 1_500, &mut known(7, &settled(count)));
    journal
}

fn segments(journal: &MemoryStorage) -> usize {
    journal.list().unwrap().len()
}

/// Prunes whatever is sealed.
fn prune(warehouse: &Warehouse<MemoryStorage>) -> Result<Pruning, WarehouseError> {
    warehouse.prune(now(), now(), false)
}

/// Records missing to who reads everything.
fn missing(warehouse: &Warehouse<MemoryStorage>) -> u64 {
    let end = warehouse.each(|_| Ok::<(), WarehouseError>(())).unwrap();
    end.missing.iter().map(journal::Missing::count).sum()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn bills_over_what_was_pruned_stay_as_they_were(
        samples in prop::collection::vec(any_sample(), 1..30),
        others in prop::collection::vec(any_sample(), 0..10),
        all_settle in any::<bool>(),
        by in prop::collection::vec(prop::sample::select(&DIMENSIONS[..]), 0..4),
        segment_bytes in 100_u64..4_000,
        most in prop::sample::select(&[0_u64, 500, u64::MAX][..]),
        start in prop::option::of(0_u64..4_320),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let start = start.map(|start| at("2026-11-20").plus(Duration::from_secs(60 * start)));
        let query = query(&by, Period { start, end: None });
        let (journal, archive) = (MemoryStorage::new(), MemoryStorage::new());
        let warehouse = archived(directory.path(), &journal, &archive, most);
        let settles = |sample: Sample| Sample { settles: sample.settles || all_settle, ..sample };
        let mut batches = known(7, &samples.into_iter().map(settles).collect::<Vec<_>>());
        let cut = cut.index(batches.len());
        // Nothing is ever pruned of the whole one.
        let whole = MemoryStorage::new();
        write(&whole, 7, segment_bytes, &mut batches.clone()[..cut]);
        write(&journal, 7, segment_bytes, &mut batches[..cut]);
        prune(&warehouse).unwrap();
        prop_assert_eq!(from_warehouse(&warehouse, &query), from_journal(&whole, &query));
        write(&whole, 7, segment_bytes, &mut batches.clone()[cut..]);
        write(&journal, 7, segment_bytes, &mut batches[cut..]);
        prune(&warehouse).unwrap();
        prop_assert_eq!(from_warehouse(&warehouse, &query), from_journal(&whole, &query));
        // A second stream, of which only a part can be pruned.
        let other = MemoryStorage::new();
        let others: Vec<_> = others.into_iter().map(settles).collect();
        write(&other, 3, segment_bytes, &mut mixed(3, &others));
        join(&journal, &other);
        join(&whole, &other);
        let pruned = prune(&warehouse).unwrap();
        prop_assert!(!all_settle || pruned.kept.iter().all(|(_, why)| *why == Why::Newer));
        let expected = from_journal(&whole, &query);
        prop_assert_eq!(from_warehouse(&warehouse, &query), expected.clone());
        prop_assert_eq!(missing(&warehouse), 0);
        // The warehouse may go, the archive stays.
        let _ = std::fs::remove_dir_all(directory.path().join("warehouse"));
        let found = from_warehouse(&warehouse, &query);
        prop_assert_eq!(bill(&found.0), bill(&expected.0));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn what_is_sealed_and_old_is_pruned_and_told() {
    let journal = MemoryStorage::new();
    let opened = Writer::open(journal.clone(), at("2026-11-01"), 7).unwrap().0;
    let mut writer = opened.with_segment_bytes(1);
    // A segment for each batch, begun a day after the one before.
    for (day, batch) in (1..).zip(&mut known(7, &settled(6))) {
        writer.append(batch, at("2026-11-01").plus(Duration::from_secs(86_400 * day))).unwrap();
    }
    let names = journal.list().unwrap();
    let bytes = journal.bytes(&names[1]);
    let directory = tempfile::tempdir().unwrap();
    let archive = MemoryStorage::new();
    let warehouse = archived(directory.path(), &journal, &archive, 500);
    let query = query(&["route"], Period::default());
    let expected = from_warehouse(&warehouse, &query);
    let before = at("2026-11-06");
    let dry = warehouse.prune(before, now(), true).unwrap();
    assert_eq!((journal.list().unwrap(), archive.list().unwrap().len()), (names.clone(), 0));
    let pruned = warehouse.prune(before, now(), false).unwrap().pruned;
    assert_eq!(pruned, dry.pruned);
    assert_eq!(pruned.len(), 3, "the 4th ended where the 5th began, at that time");
    assert_eq!(journal.list().unwrap(), names[pruned.len()..]);
    assert_eq!((pruned[1].bytes, pruned[1].checksum), (bytes.len() as u64, crc32c::crc32c(&bytes)));
    assert_eq!(from_warehouse(&warehouse, &query), expected);
    let mut told = Vec::new();
    let end = warehouse.each(|passed| {
        if let Passed::Pruned(one) = passed {
            told.push((one.first_sequence, one.records()));
        }
        Ok::<(), WarehouseError>(())
    });
    assert!(end.unwrap().missing.is_empty());
    assert_eq!(told, (1..=pruned.len() as u64).map(|n| (n, 1)).collect::<Vec<_>>());
    assert!(files(directory.path()).len() < names.len(), "no projections of what is archived");
    assert!(warehouse.prune(before, now(), false).unwrap().pruned.is_empty(), "once");
}

#[test]
fn a_crash_at_any_step_of_pruning_neither_loses_nor_doubles() {
    let sound = journal(12);
    let query = query(&["route", "upstream"], Period::default());
    let expected = from_journal(&sound, &query);
    let directory = tempfile::tempdir().unwrap();
    let over = |journal: &MemoryStorage, archive: &MemoryStorage| {
        archived(directory.path(), journal, archive, u64::MAX)
    };
    let mut steps = 0;
    for (in_archive, torn) in [(true, 0), (true, 9), (true, usize::MAX), (false, 0)] {
        for call in 0.. {
            let (journal, archive) = (sound.after_kill(), MemoryStorage::new());
            let disk = if in_archive { &archive } else { &journal };
            disk.set_fault(call, Fault::Crash(torn));
            if prune(&over(&journal, &archive)).is_ok() {
                break;
            }
            steps += 1;
            // Killed; or power was cut, and of what was not synced nothing, a little or all is there.
            let cuts = [0, 5, usize::MAX];
            let mut left = vec![(journal.after_kill(), archive.after_kill())];
            left.extend(
                cuts.map(|kept| (journal.after_power_cut(0), archive.after_power_cut(kept))),
            );
            left.extend(
                cuts.map(|kept| (journal.after_power_cut(9), archive.after_power_cut(kept))),
            );
            for (journal, archive) in left {
                let warehouse = over(&journal, &archive);
                let what = format!("call {call}, archive {in_archive}, torn {torn}");
                assert_eq!(from_warehouse(&warehouse, &query), expected, "{what}");
                assert_eq!(missing(&warehouse), 0, "{what}");
                prune(&warehouse).unwrap();
                assert_eq!(from_warehouse(&warehouse, &query), expected, "{what}");
                assert_eq!(missing(&warehouse), 0, "{what}");
                // All but the last segment, and for each a projection beside the manifest.
                assert_eq!(segments(&journal), 1, "{what}");
                assert_eq!(segments(&archive), segments(&sound), "{what}");
            }
        }
    }
    assert!(steps > 60, "{steps}");
}

#[test]
fn what_fails_once_can_be_tried_again() {
    let sound = journal(12);
    let query = query(&["route"], Period::default());
    let expected = from_journal(&sound, &query);
    let directory = tempfile::tempdir().unwrap();
    for in_archive in [true, false] {
        for call in 0.. {
            let (journal, archive) = (sound.after_kill(), MemoryStorage::new());
            let disk = if in_archive { &archive } else { &journal };
            disk.set_fault(call, Fault::Torn(11));
            let warehouse = archived(directory.path(), &journal, &archive, u64::MAX);
            if prune(&warehouse).is_ok() {
                break;
            }
            assert_eq!(from_warehouse(&warehouse, &query), expected, "call {call}");
            prune(&warehouse).unwrap();
            assert_eq!(from_warehouse(&warehouse, &query), expected, "call {call}");
            assert_eq!(segments(&journal), 1);
        }
    }
}

#[test]
fn what_is_open_or_newer_stays_until_it_is_not() {
    let journal = MemoryStorage::new();
    let mut batches = records(9, 1, &settled(1)[0]);
    let mut last = batches.split_off(batches.len() - 1);
    batches.extend(known(7, &settled(20)));
    write(&journal, 7, 1_000, &mut batches);
    let directory = tempfile::tempdir().unwrap();
    let archive = MemoryStorage::new();
    let warehouse = archived(directory.path(), &journal, &archive, 500);
    let first = journal.list().unwrap().remove(0);
    let pruning = prune(&warehouse).unwrap();
    assert_eq!((pruning.pruned.len(), &pruning.kept[..]), (0, &[(first, Why::Open)][..]));
    write(&journal, 7, 1_000, &mut last);
    let (whole, query) = (journal.after_kill(), query(&["route"], Period::default()));
    let pruning = prune(&warehouse).unwrap();
    assert!(pruning.pruned.len() > 5 && pruning.kept.is_empty());
    assert_eq!(from_warehouse(&warehouse, &query), from_journal(&whole, &query));
    // Of records that this version does not know a projection keeps nothing.
    let journal = MemoryStorage::new();
    write(&journal, 7, 1, &mut mixed(7, &settled(20)));
    let warehouse = archived(directory.path(), &journal, &MemoryStorage::new(), 500);
    let pruning = prune(&warehouse).unwrap();
    assert!(!pruning.pruned.is_empty() && pruning.kept[0].1 == Why::Newer);
    assert_eq!(from_warehouse(&warehouse, &query).2, 1, "it is still there");
}

#[test]
fn nothing_is_pruned_beside_damage_or_another_who_prunes() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |journal: &MemoryStorage, archive: &MemoryStorage, expected: &str| {
        let before = (journal.list().unwrap(), archive.list().unwrap());
        let error = prune(&archived(directory.path(), journal, archive, u64::MAX)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((journal.list().unwrap(), archive.list().unwrap()), before);
    };
    let sound = journal(20);
    let names = sound.list().unwrap();
    let changed = |name: &str| {
        let journal = sound.after_kill();
        let mut bytes = journal.bytes(name);
        bytes[100] ^= 1;
        journal.set_bytes(name, bytes);
        journal
    };
    refused(&changed(&names[0]), &MemoryStorage::new(), "corrupt");
    let holed = MemoryStorage::new();
    write(&holed, 7, 1, &mut known(7, &[]));
    holed.remove(&holed.list().unwrap()[2]).unwrap();
    refused(&holed, &MemoryStorage::new(), "records are missing");
    let archive = MemoryStorage::new();
    let lock = archive.lock().unwrap();
    refused(&sound, &archive, "another process prunes");
    drop(lock);
    // A projection that was sound when the segment was damaged is no reason to let it go.
    archived(directory.path(), &sound, &archive, u64::MAX).refresh().unwrap();
    refused(&changed(&names[0]), &archive, "corrupt");
}

#[test]
fn a_damaged_archive_is_an_error_and_never_another_answer() {
    let journal = journal(20);
    let query = query(&["route", "upstream", "tag:release"], Period::default());
    let expected = from_journal(&journal, &query);
    let directory = tempfile::tempdir().unwrap();
    let archive = MemoryStorage::new();
    let warehouse = archived(directory.path(), &journal, &archive, 500);
    prune(&warehouse).unwrap();
    let names = archive.list().unwrap();
    for name in [&names[1], names.last().unwrap()] {
        let sound = archive.bytes(name);
        let places = (0..sound.len()).filter(|place| *place < 150 || place % 37 == 0);
        for place in places {
            for cut in [false, true] {
                let mut bytes = sound.clone();
                bytes[place] ^= 1 << (place % 8);
                bytes.truncate(if cut { place } else { sound.len() });
                archive.set_bytes(name, bytes);
                let what = format!("{name}, byte {place}, cut {cut}");
                match warehouse.answer(&query, now()) {
                    // Damaged, or the ledger misses what the archive held.
                    Err(WarehouseError::Archive { .. } | WarehouseError::Ledger(_)) => {}
                    // Records that are missing are told; a column that is not asked for is not read.
                    Ok(answered) => {
                        assert!(answered.missing > 0 || answered.answer == expected.0, "{what}");
                    }
                    Err(other) => panic!("{what}: {other}"),
                }
                // Who reads everything finds it.
                let each = warehouse.each(|_| Ok::<(), WarehouseError>(()));
                assert!(each.map_or(true, |end| !end.missing.is_empty()), "{what}");
            }
        }
        archive.set_bytes(name, sound);
    }
    assert_eq!(from_warehouse(&warehouse, &query), expected);
}

#[test]
fn a_bill_beside_who_prunes_is_whole() {
    let sound = journal(40);
    let query = query(&["route"], Period::default());
    let expected = from_journal(&sound, &query);
    for _ in 0..5 {
        let (journal, archive) = (sound.after_kill(), MemoryStorage::new());
        let directory = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let warehouse = archived(directory.path(), &journal, &archive, u64::MAX);
                while !done.load(Ordering::Acquire) {
                    assert_eq!(from_warehouse(&warehouse, &query), expected);
                    assert_eq!(missing(&warehouse), 0);
                    warehouse.newest(3).unwrap();
                }
            });
            prune(&archived(directory.path(), &journal, &archive, u64::MAX)).unwrap();
            done.store(true, Ordering::Release);
        });
        assert_eq!(segments(&journal), 1);
    }
}

#[test]
fn prices_that_were_pruned_are_kept() {
    let journal = MemoryStorage::new();
    let row = PriceRecord::PerUse { row: PriceRowId::from_bytes([3; 16]), text: "row".to_owned() };
    let mut batches = known(7, &settled(5));
    let mut price = Batch::new();
    price.push(&row).unwrap();
    batches.insert(0, price);
    write(&journal, 7, 1_000, &mut batches);
    let prices = |warehouse: &Warehouse<MemoryStorage>| {
        let mut prices = Vec::new();
        let each = warehouse.each(|passed| {
            if let Passed::Record(record) = passed
                && let journal::Body::Price(price) = record.decode()?.body
            {
                prices.push(price);
            }
            Ok::<(), WarehouseError>(())
        });
        each.unwrap();
        prices
    };
    let directory = tempfile::tempdir().unwrap();
    let warehouse = archived(directory.path(), &journal, &MemoryStorage::new(), 500);
    let before = prices(&warehouse);
    assert!(before.len() == 6 && before[0] == row);
    let hourly = warehouse.fold(&[]).unwrap().hourly;
    prune(&warehouse).unwrap();
    assert_eq!(segments(&journal), 1);
    assert_eq!(prices(&warehouse), before);
    assert_eq!(warehouse.fold(&[]).unwrap().hourly, hourly);
}

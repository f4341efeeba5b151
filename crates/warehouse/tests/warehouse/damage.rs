//! What crashes leave and what disks change: projections are never trusted and never needed.

use std::fs;

use journal::{MemoryStorage, Storage as _};
use quantity::Period;

use crate::workload::{known, mixed, write};
use crate::{archived, files, from_journal, from_warehouse, now, query, samples, warehouse};

/// A journal of a few segments.
fn journal() -> MemoryStorage {
    let journal = MemoryStorage::new();
    write(&journal, 7, 6_000, &mut mixed(7, &samples(40)));
    journal
}

#[test]
fn a_projection_that_is_cut_or_changed_anywhere_is_made_anew() {
    let journal = journal();
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, 500);
    let query = query(&["route", "upstream", "tag:release"], Period::default());
    let expected = from_journal(&journal, &query);
    warehouse.refresh().unwrap();
    let sound = files(directory.path());
    let (name, bytes) = sound.iter().nth(1).unwrap();
    let path = directory.path().join("warehouse").join(name);
    // The head byte by byte, the blocks here and there.
    for place in (0..120).chain((120..bytes.len()).step_by(61)) {
        fs::write(&path, &bytes[..place]).unwrap();
        assert_eq!(from_warehouse(&warehouse, &query), expected, "cut at {place}");
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (place % 8);
        fs::write(&path, changed).unwrap();
        assert_eq!(from_warehouse(&warehouse, &query), expected, "changed at {place}");
    }
    // What no query reads may stay as it is; the rest was replaced by the same bytes.
    fs::write(&path, &bytes[..20]).unwrap();
    warehouse.refresh().unwrap();
    assert_eq!(files(directory.path()), sound);
}

/// The same projection under another format, its checksum set right.
fn reformatted(bytes: &[u8], format: u8) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[8] = format;
    let length = u32::from_le_bytes(std::array::from_fn(|place| changed[12 + place])) as usize;
    let head = crc32c::crc32c(&changed[..16]);
    let sum = crc32c::crc32c_append(head, &changed[20..20 + length]);
    changed[16..20].copy_from_slice(&sum.to_le_bytes());
    changed
}

#[test]
fn a_projection_of_another_format_is_made_anew_and_in_the_archive_it_is_an_error() {
    let journal = journal();
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, 500);
    let query = query(&["route"], Period::default());
    let expected = from_journal(&journal, &query);
    warehouse.refresh().unwrap();
    let sound = files(directory.path());
    let (name, bytes) = sound.iter().next().unwrap();
    assert_eq!(&reformatted(bytes, bytes[8]), bytes);
    for format in [bytes[8] - 1, bytes[8] + 1] {
        let path = directory.path().join("warehouse").join(name);
        fs::write(path, reformatted(bytes, format)).unwrap();
        assert_eq!(from_warehouse(&warehouse, &query), expected);
        assert_eq!(files(directory.path()), sound);
    }
    let mut batches = known(7, &[]);
    let (journal, archive) = (MemoryStorage::new(), MemoryStorage::new());
    write(&journal, 7, 1, &mut batches);
    let warehouse = archived(directory.path(), &journal, &archive, 500);
    warehouse.prune(now(), now(), false).unwrap();
    let name = archive.list().unwrap().remove(0);
    let bytes = archive.bytes(&name);
    let expected = from_warehouse(&warehouse, &query);
    // Those before differ from it in what they could not hold.
    for format in 6..bytes[8] {
        archive.set_bytes(&name, reformatted(&bytes, format));
        assert_eq!(from_warehouse(&warehouse, &query), expected);
    }
    for format in [5, bytes[8] + 1] {
        archive.set_bytes(&name, reformatted(&bytes, format));
        let error = warehouse.answer(&query, now()).unwrap_err().to_string();
        assert!(error.contains("in the archive is damaged: expected the projection"), "{error}");
    }
}

/// What was not kept before is none: costs that providers told, and regions.
#[test]
fn an_archive_of_a_format_before_answers_as_it_did() {
    let mut samples = samples(40);
    for sample in &mut samples {
        sample.settles = true;
        // Of these the providers told nothing.
        sample.tries.iter_mut().for_each(|one| one.source |= 4);
        // And their regions are not known.
        for one in &mut sample.tries {
            (one.upstream, one.finish) = (one.upstream / 3 * 3, one.finish / 3 * 3);
        }
    }
    let (journal, archive) = (MemoryStorage::new(), MemoryStorage::new());
    write(&journal, 7, 3_000, &mut known(7, &samples));
    let directory = tempfile::tempdir().unwrap();
    let warehouse = archived(directory.path(), &journal, &archive, 500);
    let queries: [&[&str]; 3] = [&["route", "upstream"], &["region", "model"], &[]];
    let queries = queries.map(|by| query(by, Period::default()));
    let expected: Vec<_> = queries.iter().map(|query| from_journal(&journal, query)).collect();
    assert!(
        expected[0].0.total.attempts > 20 && expected[0].0.total.told == facts::Told::default()
    );
    let pruned = warehouse.prune(now(), now(), false).unwrap().pruned.len();
    let projections = archive.list().unwrap().into_iter().filter(|name| name != "manifest");
    let projections: Vec<_> = projections.collect();
    assert_eq!((projections.len(), pruned > 3), (pruned, true));
    for format in [6, 7, 8, 9] {
        for name in &projections {
            archive.set_bytes(name, reformatted(&archive.bytes(name), format));
        }
        for (query, expected) in queries.iter().zip(&expected) {
            assert_eq!(&from_warehouse(&warehouse, query), expected, "format {format}");
        }
    }
}

#[test]
fn a_crash_at_any_step_neither_loses_nor_doubles() {
    let journal = journal();
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, 500);
    let query = query(&["route", "model"], Period::default());
    let expected = from_journal(&journal, &query);
    warehouse.refresh().unwrap();
    let sound = files(directory.path());
    let folder = directory.path().join("warehouse");
    for (name, bytes) in &sound {
        let temporary = folder.join(format!("{name}.1-0.tmp"));
        // The states that the steps leave: nothing, the directory, an empty file, a part of it, all of
        // it, and all of it beside the renamed one of another process.
        for written in [0, 1, bytes.len() / 2, bytes.len()] {
            for renamed in [false, true] {
                fs::write(&temporary, &bytes[..written]).unwrap();
                if !renamed {
                    fs::remove_file(folder.join(name)).unwrap();
                }
                assert_eq!(from_warehouse(&warehouse, &query), expected);
                warehouse.refresh().unwrap();
                assert_eq!(files(directory.path()), sound, "what a crash left is removed");
            }
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    assert_eq!(from_warehouse(&warehouse, &query), expected);
}

#[test]
fn the_end_that_a_power_cut_took_is_not_remembered() {
    let journal = MemoryStorage::new();
    let mut batches = mixed(7, &samples(40));
    let half = batches.len() / 2;
    write(&journal, 7, u64::MAX, &mut batches[..half]);
    let name = journal.list().unwrap().remove(0);
    let before = journal.bytes(&name);
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, 500);
    let query = query(&["route"], Period::default());
    // A part of what comes next is written, projected and lost; other records come in its place.
    let mut lost: Vec<_> = batches[half..].to_vec();
    write(&journal, 7, u64::MAX, &mut lost);
    assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
    journal.set_bytes(&name, before);
    assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
    write(&journal, 7, u64::MAX, &mut mixed(9, &samples(40)));
    assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
}

#[test]
fn projections_of_another_journal_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let query = query(&["route"], Period::default());
    for count in [40, 30] {
        // The same names of segments, other records.
        let journal = MemoryStorage::new();
        write(&journal, 7, 6_000, &mut mixed(7, &samples(count)));
        let warehouse = warehouse(directory.path(), &journal, 500);
        assert_eq!(from_warehouse(&warehouse, &query), from_journal(&journal, &query));
        warehouse.refresh().unwrap();
        assert!(files(directory.path()).len() <= journal.list().unwrap().len(), "no strangers");
    }
}

#[test]
fn without_a_place_to_store_the_answer_is_the_same() {
    let journal = journal();
    let directory = tempfile::tempdir().unwrap();
    // A file where the directory should be.
    fs::write(directory.path().join("warehouse"), b"").unwrap();
    let warehouse = warehouse(directory.path(), &journal, 500);
    let query = query(&["route"], Period::default());
    let answered = warehouse.answer(&query, crate::now()).unwrap();
    assert_eq!(answered.answer, from_journal(&journal, &query).0);
    assert!(answered.refreshed.unstored.is_some());
}

/// If this fails, the same records are projected to other bytes than before. Then raise `FORMAT`, so
/// that projections which are there are made anew, and put the new checksum here.
#[test]
fn a_format_is_the_same_bytes_for_ever() {
    let journal = journal();
    let directory = tempfile::tempdir().unwrap();
    warehouse(directory.path(), &journal, 500).refresh().unwrap();
    let all: Vec<u8> = files(directory.path()).into_values().flatten().collect();
    assert_eq!((all[8], crc32c::crc32c(&all)), (11, 659_640_553), "format and checksum");
}

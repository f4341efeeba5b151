//! A disk that takes nothing: full, stalled, or gone for good.

use std::time::Duration;

use facts::Gap;
use journal::{
    Batch, Body, Committer, Fault, Handle, JournalError, MemoryStorage, OnFailure, Options, Reader,
    Status, Writer,
};
use quantity::{Money, UnixTime};

use crate::bodies::{admission, attempt_end, dispatch, settlement};
use crate::{batch, drain, now, open, read};

fn start(storage: &MemoryStorage) -> Committer<MemoryStorage> {
    start_with(storage, Duration::from_secs(60))
}

fn start_with(storage: &MemoryStorage, stalled_after: Duration) -> Committer<MemoryStorage> {
    let options = Options { stalled_after, ..Options::default() };
    Committer::start(open(storage.clone()), options, now).unwrap()
}

/// Waits until the committer is as wanted.
fn once(handle: &Handle, wanted: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = handle.status();
        if wanted(&status) {
            return status;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn begin() -> Batch {
    let mut begin = Batch::new();
    begin.push(&admission()).unwrap();
    begin.push(&dispatch()).unwrap();
    begin
}

fn end() -> Batch {
    let mut end = Batch::new();
    end.push(&attempt_end()).unwrap();
    end.push(&settlement()).unwrap();
    end
}

fn bodies(storage: &MemoryStorage) -> Vec<Vec<u8>> {
    read(storage).unwrap().into_iter().map(|(_, body)| body).collect()
}

fn gaps(storage: &MemoryStorage) -> Vec<Gap> {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let mut gaps = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if let Body::Gap(gap) = record.decode().unwrap().body {
            gaps.push(gap);
        }
    }
    gaps
}

#[test]
fn what_a_full_disk_refused_is_written_in_order_before_anything_new() {
    let storage = MemoryStorage::new();
    let committer = start(&storage);
    let permit = committer.permit().unwrap();
    storage.set_full(true);
    let first = permit.submit(&batch(&[b"settled 1", b"settled 2"]));
    // What is only offered is forgotten, wherever it stood between the others.
    let error = permit.offer(&batch(&[b"admitted"])).wait().unwrap_err();
    assert!(error.in_full().contains("cannot append to"), "{}", error.in_full());
    let second = permit.submit(&batch(&[b"settled 3"]));
    permit.offer(&batch(&[b"admitted again"])).wait().unwrap_err();
    let status = committer.status();
    assert_eq!((status.pending_records, status.records), (3, 0));
    assert!(status.failing.is_some() && status.failure.is_none());
    storage.set_full(false);
    permit.offer(&batch(&[b"new"])).wait().unwrap();
    first.wait().unwrap();
    second.wait().unwrap();
    assert!(committer.status().failing.is_none());
    assert_eq!(committer.status().pending_records, 0);
    committer.close().unwrap();
    assert_eq!(bodies(&storage), [&b"settled 1"[..], b"settled 2", b"settled 3", b"new"]);
}

#[test]
fn what_could_not_be_written_is_tried_again_without_anybody_asking() {
    let storage = MemoryStorage::new();
    let committer = start(&storage);
    storage.set_full(true);
    let ticket = committer.permit().unwrap().submit(&batch(&[b"settled"]));
    once(&committer.handle(), |status| status.failed_appends > 1);
    storage.set_full(false);
    ticket.wait().unwrap();
    assert_eq!(bodies(&storage), [b"settled"]);
}

#[test]
fn a_close_tries_once_more_and_counts_what_it_cannot_write() {
    for stays_full in [false, true] {
        let storage = MemoryStorage::new();
        let committer = start(&storage);
        let handle = committer.handle();
        let permit = committer.permit().unwrap();
        permit.offer(&begin()).wait().unwrap();
        storage.set_full(true);
        let ticket = permit.submit(&end());
        once(&handle, |status| status.failing.is_some());
        storage.set_full(stays_full);
        let closed = committer.close().map(|_| ());
        let status = handle.status();
        if stays_full {
            assert!(matches!(closed, Err(JournalError::Storage { .. })), "{closed:?}");
            assert!(ticket.wait().is_err());
            assert_eq!(status.untold.unwrap().exchanges, 1);
        } else {
            closed.unwrap();
            ticket.wait().unwrap();
            assert_eq!((bodies(&storage).len(), status.untold), (4, None));
        }
    }
}

#[test]
fn a_stalled_disk_refuses_at_once_and_loses_nothing() {
    let storage = MemoryStorage::new();
    let committer = start_with(&storage, Duration::from_millis(500));
    let handle = committer.handle();
    let permit = committer.permit().unwrap();
    let passing = handle.permit(OnFailure::Pass).unwrap();
    storage.set_stalled(true);
    let first = permit.submit(&batch(&[b"one"]));
    let status = once(&handle, |status| status.stalled.is_some());
    assert_eq!(status.pending_records, 0, "it is being written");
    assert!(handle.permit(OnFailure::Refuse).is_none());
    // Who may pass need not wait; the records do.
    passing.offer(&batch(&[b"two"])).wait().unwrap();
    handle.permit(OnFailure::Pass).unwrap().submit(&batch(&[b"three"])).wait().unwrap();
    assert_eq!(handle.status().pending_records, 2);
    storage.set_stalled(false);
    first.wait().unwrap();
    once(&handle, |status| status.pending_records == 0 && status.stalled.is_none());
    assert!(handle.permit(OnFailure::Refuse).is_some());
    assert_eq!(handle.status().gap, None);
    committer.close().unwrap();
    assert_eq!(bodies(&storage), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_close_does_not_wait_for_a_stalled_disk() {
    let storage = MemoryStorage::new();
    let committer = start_with(&storage, Duration::from_millis(500));
    let handle = committer.handle();
    let permit = handle.permit(OnFailure::Pass).unwrap();
    storage.set_stalled(true);
    let first = permit.submit(&begin());
    once(&handle, |status| status.stalled.is_some());
    drop(permit.submit(&end()));
    let closed = committer.close().map(|_| ());
    assert!(matches!(closed, Err(JournalError::Stalled { .. })), "{closed:?}");
    assert_eq!(handle.status().untold.unwrap().exchanges, 1);
    storage.set_stalled(false);
    first.wait().unwrap();
}

#[test]
fn a_short_outage_leaves_no_gap_for_those_who_pass() {
    let storage = MemoryStorage::new();
    let committer = start(&storage);
    let handle = committer.handle();
    storage.set_full(true);
    for _ in 0..3 {
        let permit = handle.permit(OnFailure::Pass).unwrap();
        permit.offer(&batch(&[b"begin"])).wait().unwrap();
        permit.submit(&batch(&[b"end"])).wait().unwrap();
    }
    assert_eq!(bodies(&storage).len(), 0);
    storage.set_full(false);
    committer.close().unwrap();
    assert_eq!(bodies(&storage), [&b"begin"[..], b"end"].repeat(3));
    assert_eq!(handle.status().gap, None);
}

#[test]
fn what_no_memory_is_left_for_is_a_gap_that_the_journal_tells_of() {
    let storage = MemoryStorage::new();
    let committer = start(&storage);
    let handle = committer.handle();
    storage.set_full(true);
    let keeps = handle.permit(OnFailure::Pass).unwrap();
    let large = vec![7; 13 << 20];
    keeps.submit(&batch(&[&large, &large, &large, &large, &large])).wait().unwrap();
    once(&handle, |status| status.pending_bytes > 64 << 20);
    assert!(handle.permit(OnFailure::Refuse).is_none());
    let passing = handle.permit(OnFailure::Pass).unwrap();
    assert!(!passing.is_journalled());
    passing.offer(&begin()).wait().unwrap();
    let settles = handle.permit(OnFailure::Pass).unwrap();
    settles.offer(&begin()).wait().unwrap();
    settles.submit(&end()).wait().unwrap();
    // Who is kept already settles there, however much waits.
    keeps.submit(&batch(&[b"settled"])).wait().unwrap();
    let gap = handle.status().untold.unwrap();
    assert_eq!((gap.exchanges, gap.attempts), (1, 1));
    assert!(gap.cause.contains("cannot append to"), "{}", gap.cause);

    storage.set_full(false);
    once(&handle, |status| status.untold.is_none() && status.failing.is_none());
    assert_eq!(gaps(&storage), std::slice::from_ref(&gap));
    // The disk is well again: it goes on, but not on the journal, which does not have its admission.
    passing.submit(&end()).wait().unwrap();
    once(&handle, |status| status.untold.is_none());
    let all = handle.status().gap.unwrap();
    assert_eq!((all.exchanges, all.cost), (2, gap.cost.map(|cost| cost + cost)));
    committer.close().unwrap();
    assert_eq!(gaps(&storage).iter().map(|gap| gap.exchanges).collect::<Vec<_>>(), [1, 1]);
    let records = drain(&mut Reader::open(storage).unwrap()).unwrap();
    assert_eq!(records.len(), 5 + 1 + 2);
    assert_eq!(records[5].1, b"settled");
}

#[test]
fn a_poisoned_journal_counts_what_passes() {
    let storage = MemoryStorage::new();
    let committer = start(&storage);
    let handle = committer.handle();
    let before = handle.permit(OnFailure::Pass).unwrap();
    let refusing = committer.permit().unwrap();
    before.offer(&begin()).wait().unwrap();
    storage.set_fault(storage.calls(), Fault::Torn(9));
    storage.set_fault(storage.calls() + 1, Fault::Fail);
    // The append fails and cannot be taken back.
    before.submit(&end()).wait().unwrap();
    let lost = |status: &Status| status.failure.is_some() && status.untold.is_some();
    let status = once(&handle, lost);
    let lost = status.untold.unwrap();
    let cost = Money::from_pico(-2);
    assert_eq!((lost.exchanges, lost.attempts, lost.cost), (1, 1, Some(cost)));
    assert!(refusing.submit(&end()).wait().is_err(), "what waits is told that it is lost");
    let passing = handle.permit(OnFailure::Pass).unwrap();
    passing.offer(&begin()).wait().unwrap();
    passing.submit(&end()).wait().unwrap();
    let gap = handle.status().gap.unwrap();
    assert_eq!((gap.exchanges, gap.attempts, gap.cost), (3, 3, Some(cost + cost + cost)));
    assert_eq!((gap.since, gap.until), (now(), now()));
    assert!(committer.close().is_err());
    assert_eq!(handle.status().untold, Some(gap));
}

#[test]
fn a_clock_that_steps_back_changes_no_order() {
    let storage = MemoryStorage::new();
    let mut expected = Vec::new();
    for round in 0..3_u8 {
        // Each process starts a day before the one before it, and each segment a second.
        let day = i64::from(round) * 86_400_000_000_000;
        let at = |n: u8| UnixTime::from_nanos(now().nanos() - day - i64::from(n) * 1_000_000_000);
        let writer = Writer::open(storage.clone(), at(0), u64::from(round)).unwrap().0;
        let mut writer = writer.with_segment_bytes(60);
        for n in 0..5 {
            writer.append(&mut batch(&[&[round, n]]), at(n)).unwrap();
            expected.push((expected.len() as u64 + 1, vec![round, n]));
        }
    }
    assert_eq!(read(&storage).unwrap(), expected);
}

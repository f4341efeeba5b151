use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use journal::{
    Batch, Committer, DirStorage, Fault, JournalError, MemoryStorage, Options, Reader, Segment,
    segments,
};

use crate::{batch, drain, now, open};

fn options() -> Options {
    Options { permits: 64, ..Options::default() }
}

fn start(storage: &MemoryStorage, options: Options) -> Committer<MemoryStorage> {
    Committer::start(open(storage.clone()), options, now).unwrap()
}

#[test]
fn a_reader_beside_a_live_writer_sees_whole_records_in_order() {
    const RECORDS: u64 = 20_000;
    let directory = std::env::temp_dir().join(format!("journal-live-{}", std::process::id()));
    let storage = DirStorage::create(&directory).unwrap();
    let writer = open(storage.clone()).with_segment_bytes(100_000);
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let committer = Committer::start(writer, options(), now).unwrap();
            let permit = committer.permit().unwrap();
            for n in 1..=RECORDS {
                let ticket = permit.submit(&batch(&[&n.to_le_bytes(), &[7; 100]]));
                if n % 64 == 0 || n == RECORDS {
                    ticket.wait().unwrap();
                    acknowledged.store(2 * n, Ordering::Release);
                }
            }
            committer.close().unwrap();
        });
        let mut reader = Reader::open(storage.clone()).unwrap();
        let mut seen = 0;
        while seen < 2 * RECORDS {
            let acknowledged = acknowledged.load(Ordering::Acquire);
            for (sequence, body) in drain(&mut reader).unwrap() {
                seen += 1;
                assert_eq!(sequence, seen);
                if sequence % 2 == 1 {
                    assert_eq!(body, (sequence / 2 + 1).to_le_bytes());
                }
            }
            assert!(seen >= acknowledged, "saw {seen} of {acknowledged} acknowledged");
        }
        assert!(reader.missing().is_empty());
    });
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn acknowledged_records_are_in_the_journal_and_close_drains_the_rest() {
    for sync_each in [false, true] {
        let storage = MemoryStorage::new();
        let committer = start(&storage, Options { sync_each, ..options() });
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let permit = committer.permit().unwrap();
                    for n in 0..200 {
                        let ticket = permit.submit(&batch(&[b"first", b"second"]));
                        if n % 5 == 0 {
                            ticket.wait().unwrap();
                        }
                    }
                });
            }
        });
        let permit = committer.permit().unwrap();
        permit.submit(&batch(&[b"durable"])).wait().unwrap();
        if sync_each {
            let after = storage.after_power_cut(0);
            assert_eq!(drain(&mut Reader::open(after).unwrap()).unwrap().len(), 1601);
        }
        let ticket = permit.submit(&batch(&[b"last"]));
        let writer = committer.close().unwrap();
        assert_eq!(writer.next_sequence(), 1603);
        ticket.wait().unwrap();
        let refused = permit.submit(&batch(&[b"late"])).wait();
        assert!(matches!(refused, Err(JournalError::Closed)));
        let after = storage.after_power_cut(0);
        assert_eq!(drain(&mut Reader::open(after).unwrap()).unwrap().len(), 1602);
    }
}

#[test]
fn the_records_of_a_batch_stay_together() {
    let storage = MemoryStorage::new();
    let committer = start(&storage, options());
    thread::scope(|scope| {
        for who in 0..4_u8 {
            let permit = committer.permit().unwrap();
            scope.spawn(move || {
                for n in 0..100 {
                    drop(permit.submit(&batch(&[&[who, n, 0], &[who, n, 1], &[who, n, 2]])));
                }
            });
        }
    });
    committer.close().unwrap();
    let records = drain(&mut Reader::open(storage).unwrap()).unwrap();
    assert_eq!(records.len(), 1200);
    for three in records.chunks(3) {
        for (place, (_, body)) in three.iter().enumerate() {
            assert_eq!((&body[..2], usize::from(body[2])), (&three[0].1[..2], place));
        }
    }
}

#[test]
fn permits_are_bounded_and_come_back() {
    let committer = start(&MemoryStorage::new(), Options { permits: 2, ..options() });
    let (first, second) = (committer.permit().unwrap(), committer.permit().unwrap());
    assert!(committer.permit().is_none());
    assert_eq!(committer.status().permits, 2);
    drop(first);
    let third = committer.permit();
    assert!(third.is_some() && committer.permit().is_none());
    drop((second, third));
    assert_eq!(committer.status().permits, 0);
}

#[test]
fn a_failed_append_is_told_to_its_own_tickets_only() {
    let storage = MemoryStorage::new();
    let committer = start(&storage, Options { sync_each: true, ..options() });
    let permit = committer.permit().unwrap();
    permit.submit(&batch(&[b"one"])).wait().unwrap();
    storage.set_fault(storage.calls(), Fault::Torn(9));
    let failed = permit.offer(&batch(&[b"two"])).wait();
    assert!(matches!(failed, Err(JournalError::Storage { .. })), "{failed:?}");
    permit.submit(&batch(&[b"three"])).wait().unwrap();
    let status = committer.status();
    assert_eq!((status.records, status.failed_appends), (2, 1));
    assert!(status.failure.is_none());
    committer.close().unwrap();
    let bodies: Vec<_> = drain(&mut Reader::open(storage).unwrap()).unwrap();
    assert_eq!(bodies, [(1, b"one".to_vec()), (2, b"three".to_vec())]);
}

#[test]
fn a_failed_sync_beside_the_writer_refuses_everything_after() {
    let storage = MemoryStorage::new();
    let sync_every = std::time::Duration::ZERO;
    let committer = start(&storage, Options { sync_every, ..options() });
    let permit = committer.permit().unwrap();
    // The append is the next call, the sync the one after it.
    storage.set_fault(storage.calls() + 1, Fault::Fail);
    permit.submit(&batch(&[b"one"])).wait().unwrap();
    while committer.status().failure.is_none() {
        thread::yield_now();
    }
    let refused = permit.submit(&batch(&[b"two"])).wait();
    assert!(matches!(refused, Err(JournalError::Poisoned { .. })), "{refused:?}");
    assert!(committer.permit().is_none());
    let closed = committer.close().map(|_| ());
    assert!(matches!(closed, Err(JournalError::Storage { action: "sync", .. })), "{closed:?}");
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    let storage = MemoryStorage::new();
    // It panics when records wait behind those that it writes.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let clock = move || match wait.recv() {
        Ok(()) => panic!("a clock that fails"),
        Err(_) => now(),
    };
    let committer = Committer::start(open(storage), options(), clock).unwrap();
    let permit = committer.permit().unwrap();
    let first = permit.submit(&batch(&[b"one"]));
    while committer.status().pending_records > 0 {
        thread::yield_now();
    }
    let second = permit.submit(&batch(&[b"two"]));
    go.send(()).unwrap();
    for lost in [first.wait(), second.wait()] {
        assert!(matches!(lost, Err(JournalError::Closed)), "{lost:?}");
    }
    assert!(matches!(committer.close().map(|_| ()), Err(JournalError::Closed)));
}

#[test]
fn a_ticket_is_a_future_that_wakes_its_last_waker() {
    use std::future::Future as _;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    struct Count(AtomicU64);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let storage = MemoryStorage::new();
    let committer = start(&storage, options());
    let permit = committer.permit().unwrap();
    let (first, last) = (Arc::new(Count(AtomicU64::new(0))), Arc::new(Count(AtomicU64::new(0))));
    let mut pending = 0;
    for _ in 0..1000 {
        let mut ticket = Box::pin(permit.submit(&batch(&[b"x"])));
        let polls = [&first, &last].map(|count| {
            let waker = Waker::from(Arc::clone(count));
            ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        pending += u64::from(polls[1]);
        permit.submit(&Batch::new()).wait().unwrap();
        let waker = Waker::noop();
        assert!(ticket.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
    }
    committer.close().unwrap();
    assert!(last.0.load(Ordering::SeqCst) >= pending);
}

#[test]
fn segment_by_segment_a_journal_is_the_same() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone()).with_segment_bytes(200);
    for n in 0..40_u8 {
        writer.append(&mut batch(&[&[n; 30]]), now()).unwrap();
    }
    let whole = drain(&mut Reader::open(storage.clone()).unwrap()).unwrap();
    let listed = segments(&storage).unwrap();
    assert!(listed.len() > 5);
    let (last, sealed) = listed.split_last().unwrap();
    assert!(sealed.iter().all(Segment::is_sealed) && !last.is_sealed());
    let mut read = Vec::new();
    for segment in &listed {
        assert_eq!(segment.first_sequence(), read.len() as u64 + 1);
        let mut records = segment.records(&storage, None).unwrap();
        let first = records.next().unwrap().unwrap();
        read.push((first.sequence, first.body.to_vec()));
        // From where one reader was, another goes on.
        let position = records.position();
        let rest = segment.rest(&storage, &position).unwrap().unwrap();
        assert_eq!(position.offset + rest, segment.bytes(&storage).unwrap());
        let mut records = segment.records(&storage, Some(position)).unwrap();
        while let Some(record) = records.next().unwrap() {
            read.push((record.sequence, record.body.to_vec()));
        }
        assert_eq!(segment.rest(&storage, &records.position()).unwrap(), Some(0));
    }
    assert_eq!(read, whole);
}

#[test]
fn a_segment_is_told_from_another_of_its_name() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone());
    writer.append(&mut batch(&[b"one", b"two"]), now()).unwrap();
    let segment = segments(&storage).unwrap()[0];
    let mut records = segment.records(&storage, None).unwrap();
    while records.next().unwrap().is_some() {}
    let position = records.position();
    drop(writer);
    // The end is lost, and other records come to its place.
    let mut bytes = storage.bytes(&segment.file_name());
    bytes.truncate(bytes.len() - 1);
    storage.set_bytes(&segment.file_name(), bytes);
    assert_eq!(segment.rest(&storage, &position).unwrap(), None);
    open(storage.clone()).append(&mut batch(&[b"two, otherwise"]), now()).unwrap();
    assert_eq!(segment.rest(&storage, &position).unwrap(), None);
}

#[test]
fn a_sealed_segment_ends_in_a_whole_record() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone()).with_segment_bytes(1);
    for n in 0..2 {
        writer.append(&mut batch(&[&[n]]), now()).unwrap();
    }
    let sealed = segments(&storage).unwrap()[0];
    let mut bytes = storage.bytes(&sealed.file_name());
    bytes.push(0);
    storage.set_bytes(&sealed.file_name(), bytes);
    let mut records = sealed.records(&storage, None).unwrap();
    assert_eq!(records.next().unwrap().unwrap().sequence, 1);
    assert!(matches!(records.next(), Err(JournalError::Corrupt { .. })));
}

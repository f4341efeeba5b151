use journal::{Fault, JournalError, MemoryStorage, Storage, Writer};

use crate::{batch, now, open, read};

/// Appends single records until something fails, syncing after every third; small segments, so that
/// rolls are among the calls. Gives what `append` and `sync` acknowledged.
fn run(storage: &MemoryStorage) -> (Vec<u64>, u64) {
    let (mut written, mut durable) = (Vec::new(), 0);
    let Ok((writer, _)) = Writer::open(storage.clone(), now(), 5) else { return (written, 0) };
    let mut writer = writer.with_segment_bytes(150);
    for n in 1..=12_u64 {
        match writer.append(&mut batch(&[&n.to_le_bytes()]), now()) {
            Ok(sequences) => written.extend(sequences),
            Err(_) => break,
        }
        if n % 3 == 0 {
            match writer.sync() {
                Ok(()) => durable = *written.last().unwrap(),
                Err(_) => break,
            }
        }
    }
    (written, durable)
}

fn sequences(storage: &MemoryStorage) -> Vec<u64> {
    let records = read(storage).unwrap();
    for (sequence, body) in &records {
        assert_eq!(*body, sequence.to_le_bytes(), "a record changed");
    }
    records.iter().map(|(sequence, _)| *sequence).collect()
}

#[test]
fn a_crash_at_any_call_loses_no_acknowledged_record() {
    let calls = {
        let storage = MemoryStorage::new();
        assert_eq!(run(&storage).0.len(), 12);
        storage.calls()
    };
    for call in 0..calls {
        for torn in [0, 1, 20, 35, 1000] {
            let storage = MemoryStorage::new();
            storage.set_fault(call, Fault::Crash(torn));
            let (written, durable) = run(&storage);

            let killed = storage.after_kill();
            check(&killed, written.last().copied().unwrap_or(0), call);
            for kept in [0, 1, 30, 60] {
                check(&storage.after_power_cut(kept), durable, call);
            }
        }
    }
}

/// Everything up to `acknowledged` is there, at most one more, and the journal goes on.
fn check(storage: &MemoryStorage, acknowledged: u64, call: u64) {
    let before = sequences(storage);
    assert!(before.len() as u64 >= acknowledged, "crash at call {call}: {before:?}");
    let mut writer = open(storage.clone());
    assert_eq!(writer.next_sequence(), before.len() as u64 + 1, "crash at call {call}");
    let next = writer.next_sequence();
    writer.append(&mut batch(&[&next.to_le_bytes()]), now()).unwrap();
    assert_eq!(sequences(storage), (1..=next).collect::<Vec<_>>(), "crash at call {call}");
}

#[test]
fn a_failed_append_is_taken_back_and_the_next_one_works() {
    let calls = {
        let storage = MemoryStorage::new();
        run(&storage);
        storage.calls()
    };
    for call in 0..calls {
        for fault in [Fault::Fail, Fault::Torn(1), Fault::Torn(33), Fault::Torn(1000)] {
            let storage = MemoryStorage::new();
            storage.set_fault(call, fault);
            let Ok((writer, _)) = Writer::open(storage.clone(), now(), 5) else { continue };
            let mut writer = writer.with_segment_bytes(150);
            let mut expected = 0_u64;
            let mut failures = 0;
            while expected < 12 {
                let next = expected + 1;
                match writer.append(&mut batch(&[&next.to_le_bytes()]), now()) {
                    Ok(sequences) => {
                        assert_eq!(sequences, next..next + 1);
                        expected = next;
                    }
                    Err(JournalError::Poisoned { .. }) => break,
                    Err(error) => {
                        failures += 1;
                        assert_eq!(failures, 1, "one fault failed two appends: {error}");
                    }
                }
            }
            assert_eq!(sequences(&storage), (1..=expected).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone());
    writer.append(&mut batch(&[b"one"]), now()).unwrap();
    storage.set_fault(storage.calls(), Fault::Fail);
    assert!(matches!(writer.sync(), Err(JournalError::Storage { action: "sync", .. })));
    let calls = storage.calls();
    assert!(matches!(writer.sync(), Err(JournalError::Poisoned { .. })));
    let refused = writer.append(&mut batch(&[b"two"]), now());
    assert!(matches!(refused, Err(JournalError::Poisoned { .. })));
    assert_eq!(storage.calls(), calls, "a poisoned writer touched the storage");
    assert!(writer.failure().is_some());
}

#[test]
fn an_append_that_cannot_be_taken_back_poisons() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone());
    storage.set_fault(storage.calls(), Fault::Torn(40));
    storage.set_fault(storage.calls() + 1, Fault::Fail);
    assert!(writer.append(&mut batch(&[b"a longer body", b"b"]), now()).is_err());
    let refused = writer.append(&mut batch(&[b"two"]), now());
    assert!(matches!(refused, Err(JournalError::Poisoned { .. })));
    drop(writer);
    let (_, recovery) = Writer::open(storage.clone(), now(), 5).unwrap();
    assert_eq!((recovery.cut_bytes, recovery.last_sequence), (40, 0));
    assert_eq!(storage.list().unwrap().len(), 1);
}

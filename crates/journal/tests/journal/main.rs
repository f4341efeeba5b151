//! The journal's promises, tried against damage, crashes and live writers.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod bodies;
mod crash;
mod live;
mod outage;
mod recovery;

use journal::{Batch, JournalError, MemoryStorage, Reader, Storage, Writer};
use quantity::UnixTime;

const WRITER: u64 = 0x1122_3344_5566_7788;

fn now() -> UnixTime {
    UnixTime::from_nanos(1_795_305_605_000_000_000)
}

/// A batch of records whose bodies are the given bytes.
fn batch(bodies: &[&[u8]]) -> Batch {
    let mut batch = Batch::new();
    for body in bodies {
        batch.push_raw(200, 1, 0, |out| out.extend_from_slice(body)).unwrap();
    }
    batch
}

fn open<S: Storage>(storage: S) -> Writer<S> {
    Writer::open(storage, now(), WRITER).unwrap().0
}

/// The sequences and bodies of a reader up to its end.
fn drain<S: Storage>(reader: &mut Reader<S>) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push((record.sequence, record.body.to_vec()));
    }
    Ok(records)
}

fn read(storage: &MemoryStorage) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    drain(&mut Reader::open(storage.clone())?)
}

/// Bodies of several lengths, some of which contain what looks like the head of a frame.
fn sample() -> Vec<Vec<u8>> {
    let mut looks_like_a_frame = vec![28, 0, 0, 0, 1, 2, 3, 4, 1, 1, 0, 0];
    looks_like_a_frame.extend_from_slice(&WRITER.to_le_bytes());
    looks_like_a_frame.extend_from_slice(&[9; 30]);
    vec![vec![], vec![1], b"some text".to_vec(), looks_like_a_frame, vec![0; 64], vec![0xff; 3]]
}

/// A journal of one segment with the sample, each record in an append of its own; its one file.
fn sample_journal() -> (MemoryStorage, String) {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone());
    for body in sample() {
        writer.append(&mut batch(&[&body]), now()).unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    let name = storage.list().unwrap().remove(0);
    (storage, name)
}

//! A journal's files with anything in them: read, refused, or cut by the writer; never a panic.
#![no_main]

use journal::{MemoryStorage, Reader, Writer};
use libfuzzer_sys::fuzz_target;
use quantity::UnixTime;

const NAME: &str = "0000000000000001-00000000000000000001.farthing";

fuzz_target!(|input: &[u8]| {
    let storage = MemoryStorage::new();
    storage.set_bytes(NAME, input.to_vec());
    let mut records = 0;
    if let Ok(mut reader) = Reader::open(storage.clone()) {
        while let Ok(Some(record)) = reader.next() {
            records += 1;
            let _ = record.decode();
        }
    }
    // What a reader could read, the writer keeps.
    if let Ok((writer, recovery)) = Writer::open(storage, UnixTime::from_nanos(0), 1) {
        assert!(recovery.last_sequence >= records);
        drop(writer);
    }
});

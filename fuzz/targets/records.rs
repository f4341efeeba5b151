//! Records whose frames are sound and whose fields are anything: read or refused, and what was read
//! is read again from what is written of it. Checksums keep the target `journal` from coming here.
#![no_main]

use journal::{Batch, MemoryStorage, Reader, Writer};
use libfuzzer_sys::fuzz_target;
use quantity::UnixTime;

const NOW: UnixTime = UnixTime::from_nanos(0);

fuzz_target!(|input: &[u8]| {
    let mut batch = Batch::new();
    let mut rest = input;
    while let Some((&[kind, version, length, more], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([length, more & 0x0f])).min(after.len());
        let (body, after) = after.split_at(length);
        // The kinds there are, and a few that there are not.
        let pushed = batch.push_raw(kind % 10, version % 4, 0, |out| out.extend_from_slice(body));
        assert!(pushed.is_ok());
        rest = after;
    }
    let mut bodies = Vec::new();
    let records = batch.records();
    let storage = written(&mut batch);
    let mut reader = Reader::open(storage).expect("it was just written");
    let mut seen = 0;
    while let Some(record) = reader.next().expect("frames are sound") {
        seen += 1;
        bodies.extend(record.decode().map(|record| record.body));
    }
    assert_eq!(seen, records);
    for body in bodies {
        let mut batch = Batch::new();
        // What this version does not know it cannot write.
        if batch.push(&body).is_err() || batch.records() == 0 {
            continue;
        }
        let mut reader = Reader::open(written(&mut batch)).expect("it was just written");
        let record = reader.next().expect("frames are sound").expect("a record");
        assert_eq!(record.decode().expect("as it was written").body, body);
    }
});

fn written(batch: &mut Batch) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let (mut writer, _) = Writer::open(storage.clone(), NOW, 1).expect("an empty disk");
    writer.append(batch, NOW).expect("a sound disk");
    storage
}

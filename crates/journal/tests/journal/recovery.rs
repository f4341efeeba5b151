use journal::{
    Batch, DirStorage, JournalError, MAX_RECORD, MemoryStorage, Missing, Reader, Storage, Writer,
};
use proptest::prelude::*;

use crate::{WRITER, batch, drain, now, open, read, sample, sample_journal};

const HEADER: usize = 40;
const FRAME: usize = 28;

#[test]
fn records_come_back_in_order_and_sequences_go_on_over_restarts() {
    let (storage, _) = sample_journal();
    let (mut writer, recovery) = Writer::open(storage.clone(), now(), 99).unwrap();
    assert_eq!((recovery.writer.0, recovery.cut_bytes), (WRITER, 0));
    assert_eq!(recovery.last_sequence, sample().len() as u64);
    assert_eq!(writer.append(&mut batch(&[b"x", b"y"]), now()).unwrap(), 7..9);
    let read = read(&storage).unwrap();
    assert_eq!(
        read.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(read[..6].iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(), sample());
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let (whole, name) = sample_journal();
    let bytes = whole.bytes(&name);
    let mut ends = vec![HEADER];
    ends.extend(sample().iter().scan(HEADER, |at, body| {
        *at += FRAME + body.len();
        Some(*at)
    }));
    assert_eq!(*ends.last().unwrap(), bytes.len());
    for length in 0..=bytes.len() {
        let storage = MemoryStorage::new();
        storage.set_bytes(&name, bytes[..length].to_vec());
        let whole = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let sound = ends.iter().rfind(|end| **end <= length).copied().unwrap_or(0);

        let mut reader = Reader::open(storage.clone()).unwrap();
        let records = drain(&mut reader).unwrap();
        assert_eq!(records.len(), whole, "cut at {length}");
        let torn: u64 = reader.tails().map(|tail| tail.bytes).sum();
        assert_eq!(torn, (length - sound) as u64, "cut at {length}");
        assert_eq!(storage.bytes(&name).len(), length, "a reader repaired the journal");

        let (mut writer, recovery) = Writer::open(storage.clone(), now(), 99).unwrap();
        assert_eq!(recovery.cut_bytes, (length - sound) as u64);
        assert_eq!(recovery.last_sequence, whole as u64);
        writer.append(&mut batch(&[b"after"]), now()).unwrap();
        let next = (whole as u64 + 1, b"after".to_vec());
        let followed = drain(&mut reader).unwrap();
        assert_eq!(followed, std::slice::from_ref(&next), "a follower at {length}");
        assert_eq!(read(&storage).unwrap()[whole..], [next]);
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_a_torn_tail_but_never_a_record() {
    let (whole, name) = sample_journal();
    let bytes = whole.bytes(&name);
    let records = read(&whole).unwrap();
    let last = bytes.len() - FRAME - sample().last().unwrap().len();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let storage = MemoryStorage::new();
        storage.set_bytes(&name, damaged);
        let written = Writer::open(storage.clone(), now(), 99).map(|(_, recovery)| recovery);
        if bit / 8 >= last {
            assert_eq!(read(&storage).unwrap(), records[..records.len() - 1], "bit {bit}");
            assert_eq!(written.unwrap().cut_bytes, (bytes.len() - last) as u64);
        } else {
            let error = read(&storage).unwrap_err();
            let in_header = bit / 8 < HEADER;
            let JournalError::Corrupt { offset, .. } = error else { panic!("bit {bit}: {error}") };
            assert!(offset <= bit as u64 / 8 && (offset == 0) == in_header, "bit {bit}: {offset}");
            assert!(matches!(written, Err(JournalError::Corrupt { .. })), "bit {bit}: {written:?}");
        }
    }
}

#[test]
fn segments_roll_and_only_the_last_may_be_torn() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone()).with_segment_bytes(100);
    for n in 0..20_u8 {
        writer.append(&mut batch(&[&[n; 10]]), now()).unwrap();
    }
    drop(writer);
    let names = storage.list().unwrap();
    assert_eq!(names.len(), 10);
    assert_eq!(names[1], "1122334455667788-00000000000000000003.farthing");
    assert_eq!(read(&storage).unwrap().len(), 20);

    for name in &names[..9] {
        let bytes = storage.bytes(name);
        for length in [0, 20, HEADER, bytes.len() - 1] {
            let damaged = storage.after_kill();
            damaged.set_bytes(name, bytes[..length].to_vec());
            let (lost_records, error) = match (length, read(&damaged)) {
                // A segment cut exactly between records cannot be told from one that lacks them.
                (HEADER, records) => (20 - records.unwrap().len(), None),
                (_, records) => (0, Some(records.unwrap_err())),
            };
            assert_eq!(lost_records, if length == HEADER { 2 } else { 0 });
            assert!(matches!(error, None | Some(JournalError::Corrupt { .. })), "{error:?}");
        }
    }
}

#[test]
fn missing_records_are_told() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone()).with_segment_bytes(1);
    for n in 0..5_u8 {
        writer.append(&mut batch(&[&[n], &[n]]), now()).unwrap();
    }
    let names = storage.list().unwrap();
    let cut = MemoryStorage::new();
    for name in [&names[1], &names[3], &names[4]] {
        cut.set_bytes(name, storage.bytes(name));
    }
    let mut reader = Reader::open(cut).unwrap();
    assert_eq!(drain(&mut reader).unwrap().len(), 6);
    let missing = |name: &String, expected, found| Missing { file: name.clone(), expected, found };
    assert_eq!(reader.missing(), [missing(&names[1], 1, 3), missing(&names[3], 5, 7)]);
    let told = reader.missing()[1].to_string();
    assert_eq!(told, format!("`{}`: expected sequence 5, found 7: 2 missing", names[3]));
}

#[test]
fn a_repeated_sequence_is_an_error() {
    let (storage, name) = sample_journal();
    let mut bytes = storage.bytes(&name);
    let again = bytes[HEADER..HEADER + FRAME].to_vec();
    bytes.extend_from_slice(&again);
    storage.set_bytes(&name, bytes);
    let error = read(&storage).unwrap_err();
    assert!(matches!(error, JournalError::Order { expected: 7, found: 1, .. }), "{error}");
}

#[test]
fn another_streams_record_is_none_of_ours() {
    let (storage, name) = sample_journal();
    let other = MemoryStorage::new();
    Writer::open(other.clone(), now(), 7).unwrap().0.append(&mut batch(&[b""]), now()).unwrap();
    let foreign = other.bytes(&other.list().unwrap()[0])[HEADER..].to_vec();
    let bytes = storage.bytes(&name);
    let (first, rest) = bytes.split_at(HEADER);
    storage.set_bytes(&name, [first, &foreign, rest].concat());
    let error = read(&storage).unwrap_err().to_string();
    let expected = "expected writer 1122334455667788, found 0000000000000007";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn streams_of_several_writers_are_all_read_and_the_newest_goes_on() {
    let (storage, name) = sample_journal();
    let other = MemoryStorage::new();
    let later = now().plus(std::time::Duration::from_secs(1));
    let mut writer = Writer::open(other.clone(), later, 7).unwrap().0;
    writer.append(&mut batch(&[b"other"]), later).unwrap();
    drop(writer);
    other.set_bytes(&name, storage.bytes(&name));
    other.set_bytes("notes.txt", b"not a segment".to_vec());
    assert_eq!(read(&other).unwrap().len(), sample().len() + 1);
    let (_, recovery) = Writer::open(other, now(), 99).unwrap();
    assert_eq!((recovery.writer.0, recovery.last_sequence), (7, 1));
}

#[test]
fn a_reader_sees_that_what_it_read_was_taken_back() {
    let (storage, name) = sample_journal();
    let bytes = storage.bytes(&name);
    let last = bytes.len() - FRAME - sample().last().unwrap().len();
    let mut reader = Reader::open(storage.clone()).unwrap();
    drain(&mut reader).unwrap();
    let position = reader.position();

    storage.set_bytes(&name, bytes[..last].to_vec());
    let cut = reader.next().map(|_| ());
    assert!(matches!(cut, Err(JournalError::Rewound { .. })), "{cut:?}");
    // Another record of the same length in its place, and one behind it.
    open(storage.clone()).append(&mut batch(&[&[0xee; 3], b"more"]), now()).unwrap();
    let other = reader.next().map(|_| ());
    assert!(matches!(other, Err(JournalError::Rewound { .. })), "{other:?}");
    let mut resumed = Reader::resume(storage.clone(), &position).unwrap();
    let resumed = resumed.next().map(|_| ());
    assert!(matches!(resumed, Err(JournalError::Rewound { .. })), "{resumed:?}");
    assert_eq!(read(&storage).unwrap().len(), sample().len() + 1);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (storage, name) = sample_journal();
    let mut bytes = storage.bytes(&name);
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..36]);
    bytes[36..40].copy_from_slice(&sum.to_le_bytes());
    storage.set_bytes(&name, bytes);
    let error = read(&storage).unwrap_err();
    assert_eq!(error.to_string(), format!("`{name}` has format 2; this version reads format 1"));
}

#[test]
fn the_largest_record_fits_and_a_larger_one_is_refused() {
    let storage = MemoryStorage::new();
    let mut writer = open(storage.clone());
    let mut records = Batch::new();
    let body = vec![7; MAX_RECORD - 20];
    records.push_raw(1, 1, 0, |out| out.extend_from_slice(&body)).unwrap();
    let error = records.push_raw(1, 1, 0, |out| out.resize(out.len() + MAX_RECORD - 19, 0));
    assert!(matches!(error, Err(JournalError::TooLarge { .. })));
    assert_eq!(records.records(), 1);
    records.push_raw(1, 1, 0, |out| out.push(1)).unwrap();
    writer.append(&mut records, now()).unwrap();
    let records = read(&storage).unwrap();
    assert_eq!((records[0].1.len(), &records[1].1[..]), (body.len(), &[1][..]));
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let directory = std::env::temp_dir().join(format!("journal-lock-{}", std::process::id()));
    let storage = DirStorage::create(&directory).unwrap();
    let mut writer = open(storage.clone());
    writer.append(&mut batch(&[b"one"]), now()).unwrap();
    let second = Writer::open(storage.clone(), now(), 1).map(|_| ());
    assert!(matches!(second, Err(JournalError::Locked)), "{second:?}");
    assert_eq!(drain(&mut Reader::open(storage.clone()).unwrap()).unwrap().len(), 1);
    drop(writer);
    assert_eq!(open(storage).next_sequence(), 2);
    assert_modes(&directory);
    std::fs::remove_dir_all(directory).unwrap();
}

fn assert_modes(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory), 0o700);
    for entry in std::fs::read_dir(directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_are_never_records(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let name = format!("{WRITER:016x}-{:020}.farthing", 1);
        let storage = MemoryStorage::new();
        storage.set_bytes(&name, bytes.clone());
        if let Ok(records) = read(&storage) {
            prop_assert!(records.is_empty());
        }
        let (sound, _) = sample_journal();
        let mut behind = sound.bytes(&name);
        behind.extend_from_slice(&bytes);
        storage.set_bytes(&name, behind);
        prop_assert_eq!(read(&storage).unwrap().len(), sample().len());
    }

    #[test]
    fn a_reader_may_stop_anywhere_and_go_on(
        appends in prop::collection::vec((1_usize..5, 0_usize..600), 1..40),
        segment_bytes in 1_u64..4000,
        stops in prop::collection::vec(0_usize..20, 1..10),
    ) {
        let storage = MemoryStorage::new();
        let mut writer = open(storage.clone()).with_segment_bytes(segment_bytes);
        let mut written = 0;
        let mut seen = Vec::new();
        let mut position = journal::Position::default();
        let mut stops = stops.iter().cycle();
        for (count, length) in appends {
            let body = vec![3; length];
            writer.append(&mut batch(&vec![&body[..]; count]), now()).unwrap();
            written += count as u64;
            let mut reader = Reader::resume(storage.clone(), &position).unwrap();
            for _ in 0..*stops.next().unwrap() {
                let Some(record) = reader.next().unwrap() else { break };
                seen.push(record.sequence);
            }
            position = reader.position();
        }
        let mut rest = Reader::resume(storage, &position).unwrap();
        seen.extend(drain(&mut rest).unwrap().iter().map(|(sequence, _)| *sequence));
        prop_assert!(rest.missing().is_empty());
        prop_assert_eq!(seen, (1..=written).collect::<Vec<_>>());
    }
}

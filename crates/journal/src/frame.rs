//! The frame around each record, and batches of them.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | length of everything from byte 8, u32 |
//! | 4..8 | CRC-32C of bytes 0..4 and 8.., u32 |
//! | 8 | kind |
//! | 9 | version of the body |
//! | 10..12 | flags, zero |
//! | 12..20 | writer id, u64 |
//! | 20..28 | sequence, u64, from 1 in each writer's stream |
//! | 28.. | body |
//!
//! All integers are little-endian. This is a disk format: it may grow, never change.

use quantity::WriterId;

use crate::JournalError;

/// Most bytes of one record, after its length and checksum. A record holds counts, hashes and short
/// names; the limit only keeps a damaged length from asking for gigabytes.
pub const MAX_RECORD: usize = 16 << 20;

/// Length and checksum.
pub(crate) const PREFIX: usize = 8;
pub(crate) const CHECKSUM_AT: usize = 4;
/// Kind, version, flags, writer and sequence: the part of a record that is always there.
const FIXED: usize = 20;
/// The shortest frame.
pub(crate) const MIN_FRAME: usize = PREFIX + FIXED;
/// Where the writer id stands in a frame.
pub(crate) const WRITER_AT: usize = 12;
const SEQUENCE_AT: usize = 20;

/// A record whose checksum held, with its body still in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The stream it belongs to.
    pub writer: WriterId,
    /// Its place in the stream.
    pub sequence: u64,
    /// The number of its kind.
    pub kind: u8,
    /// The version of its body.
    pub version: u8,
    /// Zero in everything this version writes.
    pub flags: u16,
    /// The body.
    pub body: &'a [u8],
}

/// Encoded records on their way to a writer, who gives them their sequence and checksum.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u64,
}

/// What stands at the beginning of some bytes.
pub(crate) enum Parsed {
    /// A sound frame of this many bytes.
    Whole(usize),
    /// The beginning of what may be a frame of this many bytes.
    Short(usize),
    /// No frame.
    Bad { expected: String, found: String },
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records it holds.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many bytes they take on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds one record, whose body is what `encode` appends.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`]; the batch is then as before.
    pub fn push_raw(
        &mut self,
        kind: u8,
        version: u8,
        flags: u16,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), JournalError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; MIN_FRAME]);
        encode(&mut self.bytes);
        let length = self.bytes.len() - start - PREFIX;
        let Some(length) = u32::try_from(length).ok().filter(|_| length <= MAX_RECORD) else {
            self.bytes.truncate(start);
            return Err(JournalError::TooLarge { bytes: length });
        };
        let frame = &mut self.bytes[start..];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[8] = kind;
        frame[9] = version;
        frame[10..12].copy_from_slice(&flags.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// Adds the records of another batch.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.records += other.records;
    }

    /// Takes out the records that stand in these bytes, which are in order.
    pub(crate) fn remove(&mut self, ranges: &[std::ops::Range<usize>]) {
        let old = std::mem::take(self);
        let mut at = 0;
        let end = old.bytes.len()..old.bytes.len();
        for range in ranges.iter().chain([&end]) {
            self.bytes.extend_from_slice(&old.bytes[at..range.start]);
            at = range.end;
        }
        self.records = self.iter().count() as u64;
    }

    /// Takes the last record out, which begins at this byte.
    pub(crate) fn cut_last(&mut self, at: usize) {
        self.bytes.truncate(at);
        self.records -= 1;
    }

    /// The records, as they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RawRecord<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = at;
            (start < self.bytes.len()).then(|| {
                at += PREFIX + read_u32(&self.bytes, start) as usize;
                split(&self.bytes[start..at])
            })
        })
    }

    /// Empties it; keeps its memory up to `keep` bytes.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.records = 0;
    }

    /// Fills in writer, sequences and checksums, and gives the bytes to write.
    pub(crate) fn finish(&mut self, writer: WriterId, first_sequence: u64) -> &[u8] {
        let (mut at, mut sequence) = (0, first_sequence);
        while at < self.bytes.len() {
            let end = at + PREFIX + read_u32(&self.bytes, at) as usize;
            let frame = &mut self.bytes[at..end];
            frame[WRITER_AT..SEQUENCE_AT].copy_from_slice(&writer.0.to_le_bytes());
            frame[SEQUENCE_AT..MIN_FRAME].copy_from_slice(&sequence.to_le_bytes());
            let sum = checksum(frame);
            frame[CHECKSUM_AT..PREFIX].copy_from_slice(&sum.to_le_bytes());
            (at, sequence) = (end, sequence + 1);
        }
        &self.bytes
    }
}

/// Looks for a frame of this writer at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8], writer: WriterId) -> Parsed {
    if bytes.len() < PREFIX {
        return Parsed::Short(MIN_FRAME);
    }
    let length = read_u32(bytes, 0) as usize;
    if !(FIXED..=MAX_RECORD).contains(&length) {
        return Parsed::Bad {
            expected: format!("a record of {FIXED} to {MAX_RECORD} bytes"),
            found: format!("a length of {length}"),
        };
    }
    let whole = PREFIX + length;
    let Some(frame) = bytes.get(..whole) else { return Parsed::Short(whole) };
    let (stored, computed) = (read_u32(frame, CHECKSUM_AT), checksum(frame));
    if stored != computed {
        return Parsed::Bad {
            expected: format!("checksum {computed:08x}"),
            found: format!("{stored:08x}"),
        };
    }
    let found = read_u64(frame, WRITER_AT);
    if found != writer.0 {
        return Parsed::Bad {
            expected: format!("writer {:016x}", writer.0),
            found: format!("{found:016x}"),
        };
    }
    Parsed::Whole(whole)
}

/// Takes a whole frame apart; `parse` has found it sound.
pub(crate) fn split(frame: &[u8]) -> RawRecord<'_> {
    RawRecord {
        writer: WriterId(read_u64(frame, WRITER_AT)),
        sequence: read_u64(frame, SEQUENCE_AT),
        kind: frame[8],
        version: frame[9],
        flags: u16::from_le_bytes([frame[10], frame[11]]),
        body: &frame[MIN_FRAME..],
    }
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[PREFIX..])
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

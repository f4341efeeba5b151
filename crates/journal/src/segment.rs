//! Segment files: their names, headers, and reading one from a place on.
//!
//! A segment is named `{writer:016x}-{first_sequence:020}.farthing` and begins with 40 bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `FARTHING` |
//! | 8..10 | format, u16 |
//! | 10..12 | flags, zero |
//! | 12..20 | writer id, u64 |
//! | 20..28 | first sequence, u64 |
//! | 28..36 | created, nanoseconds since the Unix epoch, i64 |
//! | 36..40 | CRC-32C of bytes 0..36, u32 |

use quantity::{UnixTime, WriterId};

use crate::frame::{self, MIN_FRAME, Parsed, RawRecord, WRITER_AT};
use crate::reader::StreamPosition;
use crate::storage::StorageFile;
use crate::{JournalError, MAX_RECORD};

pub(crate) const HEADER: usize = 40;
const MAGIC: &[u8; 8] = b"FARTHING";
const FORMAT: u16 = 1;
const EXTENSION: &str = ".farthing";

/// How much is read at once; the buffer grows only for a record that is longer.
const READ: usize = 256 << 10;

/// Names a segment. Ordered by writer, then by sequence, as are the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    pub(crate) writer: WriterId,
    pub(crate) first_sequence: u64,
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        format!("{:016x}-{:020}{EXTENSION}", self.writer.0, self.first_sequence)
    }

    /// The segment with this file name; `None` for files that are none.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let (writer, sequence) = name.strip_suffix(EXTENSION)?.split_once('-')?;
        let writer = WriterId(u64::from_str_radix(writer, 16).ok()?);
        let id = Self { writer, first_sequence: sequence.parse().ok()? };
        (id.file_name() == name).then_some(id)
    }

    pub(crate) fn header(self, created: UnixTime) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..20].copy_from_slice(&self.writer.0.to_le_bytes());
        header[20..28].copy_from_slice(&self.first_sequence.to_le_bytes());
        header[28..36].copy_from_slice(&created.nanos().to_le_bytes());
        let sum = crc32c::crc32c(&header[..36]);
        header[36..].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// Reads one segment, record by record, from a place on. It may be appended to meanwhile.
pub(crate) struct SegmentReader<F> {
    pub(crate) id: SegmentId,
    name: String,
    file: F,
    /// When it was created; known once the header was read.
    pub(crate) created: Option<UnixTime>,
    /// Where the next record begins in the file.
    pub(crate) offset: u64,
    /// The sequence the next record should have.
    pub(crate) next_sequence: u64,
    buffer: Vec<u8>,
    /// Where the next record begins in the buffer.
    at: usize,
    /// Where the last record lies in the buffer.
    last: std::ops::Range<usize>,
    pub(crate) previous: Option<Previous>,
}

/// The last record that was read, to see later whether it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// Where it begins in its segment.
    pub offset: u64,
    /// Its checksum.
    pub checksum: u32,
}

/// What a reader finds at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record; before it, this many sequences are missing.
    Record { missing: u64 },
    /// The end, for now, with this many bytes behind it that are no whole record.
    End { torn: u64 },
}

impl<F: StorageFile> SegmentReader<F> {
    /// Begins at the first record.
    pub(crate) fn new(id: SegmentId, file: F) -> Self {
        Self {
            id,
            name: id.file_name(),
            file,
            created: None,
            offset: 0,
            next_sequence: id.first_sequence,
            buffer: Vec::new(),
            at: 0,
            last: 0..0,
            previous: None,
        }
    }

    /// Goes on where another reader of the same segment was.
    pub(crate) fn at(mut self, offset: u64, next_sequence: u64, last: Option<Previous>) -> Self {
        (self.offset, self.next_sequence, self.previous) = (offset, next_sequence, last);
        self
    }

    /// The record of the last step.
    pub(crate) fn record(&self) -> RawRecord<'_> {
        frame::split(&self.buffer[self.last.clone()])
    }

    pub(crate) fn into_file(self) -> F {
        self.file
    }

    /// The next record, or the end.
    pub(crate) fn step(&mut self) -> Result<Step, JournalError> {
        if self.offset < HEADER as u64 {
            // Taken first, as in `end`.
            let length = self.length()?;
            if !self.read_header()? {
                return Ok(Step::End { torn: length });
            }
        }
        let parsed = match frame::parse(&self.buffer[self.at..], self.id.writer) {
            Parsed::Whole(length) => Parsed::Whole(length),
            Parsed::Short(wanted) => {
                self.fill(wanted)?;
                frame::parse(&self.buffer, self.id.writer)
            }
            bad @ Parsed::Bad { .. } => bad,
        };
        match parsed {
            Parsed::Whole(length) => self.take(length),
            Parsed::Short(_) | Parsed::Bad { .. } => self.end(),
        }
    }

    fn take(&mut self, length: usize) -> Result<Step, JournalError> {
        let range = self.at..self.at + length;
        let found = frame::split(&self.buffer[range.clone()]).sequence;
        let Some(missing) = found.checked_sub(self.next_sequence) else {
            return Err(JournalError::Order {
                file: self.name.clone(),
                offset: self.offset,
                expected: self.next_sequence,
                found,
            });
        };
        let checksum = frame::read_u32(&self.buffer[range.clone()], frame::CHECKSUM_AT);
        self.previous = Some(Previous { offset: self.offset, checksum });
        self.at = range.end;
        self.last = range;
        self.offset += length as u64;
        self.next_sequence = found.saturating_add(1);
        Ok(Step::Record { missing })
    }

    /// Tells the end, with what a writer left half-written, from damage: behind damage there are
    /// sound records.
    fn end(&mut self) -> Result<Step, JournalError> {
        // The length comes first: what lies below it is not changed by a writer who goes on, so a
        // sound record found there was there when its predecessor was not sound.
        let length = self.length()?;
        let torn = length.checked_sub(self.offset).ok_or_else(|| self.rewound())?;
        if torn == 0 {
            return Ok(Step::End { torn });
        }
        match self.parse_afresh()? {
            Parsed::Whole(whole) => return self.take(whole),
            Parsed::Short(_) | Parsed::Bad { .. } => {}
        }
        let Some(sound) = self.find_record(self.offset + 1, length)? else {
            return Ok(Step::End { torn });
        };
        // Looked at again, in case a failed append was cut and overwritten while we searched.
        let (expected, found) = match self.parse_afresh()? {
            Parsed::Whole(whole) => return self.take(whole),
            Parsed::Bad { expected, found } => (expected, found),
            Parsed::Short(whole) => {
                (format!("a record before byte {sound}"), format!("a length of {whole}"))
            }
        };
        Err(self.corrupt(self.offset, expected, found))
    }

    /// What the file holds at our place now, whatever the buffer remembers of it.
    fn parse_afresh(&mut self) -> Result<Parsed, JournalError> {
        self.fill(MIN_FRAME)?;
        Ok(match frame::parse(&self.buffer, self.id.writer) {
            Parsed::Short(wanted) => {
                self.fill(wanted)?;
                frame::parse(&self.buffer, self.id.writer)
            }
            parsed => parsed,
        })
    }

    /// Reads at our place until the buffer has `wanted` bytes or the file ends.
    ///
    /// It never completes what it holds of a record: a failed append may have been cut and
    /// overwritten since, and an old beginning on a new end can make a record that nobody wrote.
    fn fill(&mut self, wanted: usize) -> Result<(), JournalError> {
        (self.at, self.last) = (0, 0..0);
        self.check_previous()?;
        self.buffer.clear();
        self.buffer.shrink_to(READ);
        self.buffer.resize(wanted.max(READ), 0);
        let mut filled = 0;
        while filled < wanted {
            let read = self.file.read_at(self.offset + filled as u64, &mut self.buffer[filled..]);
            match read.map_err(JournalError::storage("read", &self.name))? {
                0 => break,
                count => filled += count,
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// What was read may have been taken back: a failed append, or bytes that a power cut lost. Then
    /// what stands at our place means nothing.
    pub(crate) fn check_previous(&self) -> Result<(), JournalError> {
        let Some(previous) = self.previous else { return Ok(()) };
        let mut prefix = [0; frame::PREFIX];
        let filled = self.read_exactly(previous.offset, self.offset, &mut prefix)?;
        let checksum = frame::read_u32(&prefix, frame::CHECKSUM_AT);
        if filled == prefix.len() && checksum == previous.checksum {
            return Ok(());
        }
        Err(self.rewound())
    }

    fn rewound(&self) -> JournalError {
        JournalError::Rewound { file: self.name.clone(), offset: self.offset }
    }

    pub(crate) fn length(&self) -> Result<u64, JournalError> {
        self.file.length().map_err(JournalError::storage("read the length of", &self.name))
    }

    /// Whether there is a sound header; half of one is not an error if nothing follows it.
    pub(crate) fn read_header(&mut self) -> Result<bool, JournalError> {
        let length = self.length()?;
        let mut header = [0; HEADER];
        let mut filled = 0;
        while filled < HEADER {
            let read = self.file.read_at(filled as u64, &mut header[filled..]);
            match read.map_err(JournalError::storage("read", &self.name))? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        let created = i64::from_le_bytes(std::array::from_fn(|i| header[28 + i]));
        let created = UnixTime::from_nanos(created);
        if self.id.header(created) == header {
            self.created = Some(created);
            self.offset = self.offset.max(HEADER as u64);
            return Ok(true);
        }
        let found = u16::from_le_bytes([header[8], header[9]]);
        let sound = frame::read_u32(&header, 36) == crc32c::crc32c(&header[..36]);
        if sound && header.starts_with(MAGIC) && found != FORMAT {
            return Err(JournalError::Format { file: self.name.clone(), expected: FORMAT, found });
        }
        if sound || self.find_record(1, length)?.is_some() {
            let expected = "the header of the segment with this name".to_owned();
            return Err(self.corrupt(0, expected, "other bytes".to_owned()));
        }
        Ok(false)
    }

    /// Where the first sound record of this writer begins, at or after `from` and before `end`.
    fn find_record(&self, from: u64, end: u64) -> Result<Option<u64>, JournalError> {
        let writer = self.id.writer.0.to_le_bytes();
        let mut window = vec![0; READ];
        let mut start = from;
        while start + MIN_FRAME as u64 <= end {
            let filled = self.read_exactly(start, end, &mut window)?;
            let places = window[..filled].windows(MIN_FRAME).enumerate();
            for (at, bytes) in places {
                if bytes[WRITER_AT..WRITER_AT + 8] == writer
                    && self.is_record(start + at as u64, end, frame::read_u32(bytes, 0))?
                {
                    return Ok(Some(start + at as u64));
                }
            }
            if filled < MIN_FRAME {
                break;
            }
            start += (filled - MIN_FRAME + 1) as u64;
        }
        Ok(None)
    }

    fn is_record(&self, at: u64, end: u64, length: u32) -> Result<bool, JournalError> {
        let whole = frame::PREFIX + length as usize;
        if length as usize > MAX_RECORD || at + whole as u64 > end {
            return Ok(false);
        }
        let mut bytes = vec![0; whole];
        let filled = self.read_exactly(at, end, &mut bytes)?;
        Ok(matches!(frame::parse(&bytes[..filled], self.id.writer), Parsed::Whole(_)))
    }

    /// Fills `buffer` from `start`, up to `end` or the end of the file.
    fn read_exactly(&self, start: u64, end: u64, buffer: &mut [u8]) -> Result<usize, JournalError> {
        let wanted =
            usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            let read = self.file.read_at(start + filled as u64, &mut buffer[filled..wanted]);
            match read.map_err(JournalError::storage("read", &self.name))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// The error of a segment that another one follows, although it does not end in a whole record.
    pub(crate) fn unfinished(&self, torn: u64) -> JournalError {
        let expected = "whole records up to the next segment".to_owned();
        self.corrupt(self.offset, expected, format!("{torn} other bytes and the end"))
    }

    pub(crate) fn position(&self) -> StreamPosition {
        StreamPosition {
            writer: self.id.writer,
            segment: self.id.first_sequence,
            offset: self.offset,
            next_sequence: self.next_sequence,
            previous: self.previous,
        }
    }

    pub(crate) fn corrupt(&self, offset: u64, expected: String, found: String) -> JournalError {
        JournalError::Corrupt { file: self.name.clone(), offset, expected, found }
    }
}

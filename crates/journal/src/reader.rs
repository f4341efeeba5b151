//! Reads a journal, also while it is written. Never repairs anything.

use std::collections::VecDeque;

use quantity::WriterId;

use crate::frame::RawRecord;
use crate::segment::{Previous, SegmentId, SegmentReader, Step};
use crate::storage::Storage;
use crate::{JournalError, streams};

/// Reads all records of a journal: stream by stream, each in the order of its sequence.
///
/// At the end, [`next`](Self::next) gives `None`; called again later, it goes on with what was
/// written since. Memory is bounded by a buffer per stream.
pub struct Reader<S: Storage> {
    storage: S,
    streams: Vec<Stream<S::File>>,
    current: usize,
    missing: Vec<Missing>,
}

/// Sequences of a stream that are nowhere: a segment was removed, or a record of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The segment before whose record they are missing.
    pub file: String,
    /// The first sequence that is missing.
    pub expected: u64,
    /// The next one that is there.
    pub found: u64,
}

impl Missing {
    /// How many are missing.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.found.saturating_sub(self.expected)
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, expected, found } = self;
        let count = self.count();
        write!(f, "`{file}`: expected sequence {expected}, found {found}: {count} missing")
    }
}

/// The end of a stream that is no whole record: being written, or torn by a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub file: String,
    /// Where the sound records end.
    pub offset: u64,
    /// How many bytes follow.
    pub bytes: u64,
}

/// How far each stream was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// By writer id.
    pub streams: Vec<StreamPosition>,
}

/// How far a stream was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition {
    /// The stream.
    pub writer: WriterId,
    /// The first sequence of the segment being read.
    pub segment: u64,
    /// Where its next record begins.
    pub offset: u64,
    /// The sequence of the next record.
    pub next_sequence: u64,
    /// The record before it, if it is in the same segment.
    pub previous: Option<Previous>,
}

struct Stream<F> {
    writer: WriterId,
    reading: Option<SegmentReader<F>>,
    /// Segments after the one being read.
    ahead: VecDeque<SegmentId>,
    next_sequence: u64,
    torn: u64,
}

impl<S: Storage> Reader<S> {
    /// Reads from the beginning.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn open(storage: S) -> Result<Self, JournalError> {
        Self::resume(storage, &Position::default())
    }

    /// Reads on from a position; streams that it does not name from their beginning.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn resume(storage: S, position: &Position) -> Result<Self, JournalError> {
        let mut reader = Self { storage, streams: Vec::new(), current: 0, missing: Vec::new() };
        for at in &position.streams {
            let id = SegmentId { writer: at.writer, first_sequence: at.segment };
            let mut stream = Stream::new(at.writer, at.next_sequence);
            let name = id.file_name();
            if reader.list_has(&name)? {
                let file = reader.storage.open(&name);
                let file = file.map_err(JournalError::storage("open", &name))?;
                let segment =
                    SegmentReader::new(id, file).at(at.offset, at.next_sequence, at.previous);
                stream.reading = Some(segment);
            }
            reader.streams.push(stream);
        }
        reader.look_for_segments()?;
        Ok(reader)
    }

    /// The next record, or `None` at the end for now.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], [`JournalError::Order`], [`JournalError::Format`],
    /// [`JournalError::Rewound`] and those of the storage; the same again when called again.
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<RawRecord<'_>>, JournalError> {
        Ok(if self.advance()? {
            let stream = &self.streams[self.current];
            stream.reading.as_ref().map(SegmentReader::record)
        } else {
            None
        })
    }

    /// Where the next record would be.
    #[must_use]
    pub fn position(&self) -> Position {
        let streams = self.streams.iter().filter_map(|stream| {
            let reading = stream.reading.as_ref()?;
            Some(StreamPosition {
                writer: stream.writer,
                segment: reading.id.first_sequence,
                offset: reading.offset,
                next_sequence: stream.next_sequence,
                previous: reading.previous,
            })
        });
        Position { streams: streams.collect() }
    }

    /// Records that were missing so far.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// At the end: which streams end in something that is no whole record.
    pub fn tails(&self) -> impl Iterator<Item = Tail> {
        self.streams.iter().filter(|stream| stream.torn > 0).filter_map(|stream| {
            let reading = stream.reading.as_ref()?;
            let file = reading.id.file_name();
            Some(Tail { file, offset: reading.offset, bytes: stream.torn })
        })
    }

    /// Moves to the next record; `false` at the end of all streams.
    fn advance(&mut self) -> Result<bool, JournalError> {
        loop {
            while let Some(stream) = self.streams.get_mut(self.current) {
                if stream.advance(&self.storage, &mut self.missing)? {
                    return Ok(true);
                }
                self.current += 1;
            }
            self.current = 0;
            if !self.look_for_segments()? {
                return Ok(false);
            }
        }
    }

    /// Notes segments that are new in the directory; whether there are any.
    fn look_for_segments(&mut self) -> Result<bool, JournalError> {
        let mut found = false;
        for (writer, segments) in streams(&self.storage)? {
            let known = self.streams.iter_mut().position(|stream| stream.writer == writer);
            let index = known.unwrap_or_else(|| {
                self.streams.push(Stream::new(writer, 1));
                self.streams.len() - 1
            });
            let stream = &mut self.streams[index];
            let reading = stream.reading.as_ref().map(|segment| segment.id);
            let newest = stream.ahead.back().copied().or(reading);
            let seen = |id: &&SegmentId| newest.is_some_and(|newest| **id <= newest);
            let fresh = segments.iter().skip_while(seen);
            // A position may lie in a segment that is gone: what it covered was read.
            let next = stream.next_sequence;
            let fresh = fresh.filter(|id| newest.is_some() || id.first_sequence >= next);
            let before = stream.ahead.len();
            stream.ahead.extend(fresh);
            found |= stream.ahead.len() > before;
        }
        Ok(found)
    }

    fn list_has(&self, name: &str) -> Result<bool, JournalError> {
        let names = self.storage.list().map_err(JournalError::storage("list", "journal"))?;
        Ok(names.iter().any(|one| one == name))
    }
}

impl<F: crate::StorageFile> Stream<F> {
    fn new(writer: WriterId, next_sequence: u64) -> Self {
        Self { writer, reading: None, ahead: VecDeque::new(), next_sequence, torn: 0 }
    }

    fn advance<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        missing: &mut Vec<Missing>,
    ) -> Result<bool, JournalError> {
        loop {
            if let Some(segment) = &mut self.reading {
                match segment.step()? {
                    Step::Record { missing: count } => {
                        if count > 0 {
                            let (file, expected) = (segment.id.file_name(), self.next_sequence);
                            let found = expected.saturating_add(count);
                            missing.push(Missing { file, expected, found });
                        }
                        self.next_sequence = segment.next_sequence;
                        self.torn = 0;
                        return Ok(true);
                    }
                    Step::End { torn } => self.torn = torn,
                }
                // Segments ahead were seen before this end was: a writer begins a segment only when
                // the one before is complete.
                let unfinished = self.torn > 0 || segment.offset == 0;
                if unfinished && !self.ahead.is_empty() {
                    return Err(segment.unfinished(self.torn));
                }
            }
            let Some(id) = self.ahead.front().copied() else { return Ok(false) };
            let name = id.file_name();
            let Some(count) = id.first_sequence.checked_sub(self.next_sequence) else {
                let (expected, found) = (self.next_sequence, id.first_sequence);
                return Err(JournalError::Order { file: name, offset: 0, expected, found });
            };
            let file = storage.open(&name).map_err(JournalError::storage("open", &name))?;
            if count > 0 {
                let (expected, found) = (self.next_sequence, id.first_sequence);
                missing.push(Missing { file: name, expected, found });
            }
            self.next_sequence = id.first_sequence;
            self.reading = Some(SegmentReader::new(id, file));
            self.ahead.pop_front();
        }
    }
}

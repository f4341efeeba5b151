//! Segment by segment, for projections that are made of one segment at a time.

use quantity::{UnixTime, WriterId};

use crate::frame::RawRecord;
use crate::reader::{Missing, StreamPosition};
use crate::segment::{SegmentId, SegmentReader, Step};
use crate::storage::{Storage, StorageFile};
use crate::{JournalError, streams};

/// A segment of a journal, as the directory showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    id: SegmentId,
    sealed: bool,
}

/// The segments of a journal: stream by stream in the order that a [`Reader`](crate::Reader) reads
/// them, each stream's in the order of their sequences.
///
/// # Errors
/// Those of the storage.
pub fn segments<S: Storage>(storage: &S) -> Result<Vec<Segment>, JournalError> {
    let mut all = Vec::new();
    for (_, ids) in streams(storage)? {
        let sealed = ids.len() - 1;
        all.extend(ids.into_iter().enumerate().map(|(n, id)| Segment { id, sealed: n < sealed }));
    }
    Ok(all)
}

impl Segment {
    /// The sealed segment of a stream that begins with this sequence, which may be gone.
    #[must_use]
    pub fn sealed(writer: WriterId, first_sequence: u64) -> Self {
        Self { id: SegmentId { writer, first_sequence }, sealed: true }
    }

    /// When it was begun: what stands in the segment before it was written earlier. `None` if its
    /// header is not whole.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn created<S: Storage>(&self, storage: &S) -> Result<Option<UnixTime>, JournalError> {
        let mut reader = SegmentReader::new(self.id, self.open(storage)?);
        reader.read_header()?;
        Ok(reader.created)
    }

    /// The stream it belongs to.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.id.writer
    }

    /// The sequence of its first record.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.id.first_sequence
    }

    /// Whether its stream went on in another: nothing is appended to it any more.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.id.file_name()
    }

    /// How many bytes its file has.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn bytes<S: Storage>(&self, storage: &S) -> Result<u64, JournalError> {
        SegmentReader::new(self.id, self.open(storage)?).length()
    }

    /// Its records from the beginning, or from where another reader of it was.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn records<S: Storage>(
        &self,
        storage: &S,
        from: Option<StreamPosition>,
    ) -> Result<SegmentRecords<S::File>, JournalError> {
        let reader = SegmentReader::new(self.id, self.open(storage)?);
        let reader = match from {
            Some(from) => reader.at(from.offset, from.next_sequence, from.previous),
            None => reader,
        };
        Ok(SegmentRecords { reader, sealed: self.sealed, missing: Vec::new() })
    }

    /// Whether what was read up to `position` still stands there, and how many bytes follow it.
    /// `None` if it does not: a power cut took it, or it was never this segment.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn rest<S: Storage>(
        &self,
        storage: &S,
        position: &StreamPosition,
    ) -> Result<Option<u64>, JournalError> {
        let named = (position.writer, position.segment) == (self.id.writer, self.id.first_sequence);
        if !named || position.previous.is_none() {
            return Ok(None);
        }
        let reader = self.records(storage, Some(*position))?.reader;
        match reader.check_previous() {
            Ok(()) => Ok(reader.length()?.checked_sub(position.offset)),
            Err(JournalError::Rewound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open<S: Storage>(&self, storage: &S) -> Result<S::File, JournalError> {
        let name = self.file_name();
        storage.open(&name).map_err(JournalError::storage("open", &name))
    }
}

/// Reads the records of one segment.
pub struct SegmentRecords<F> {
    reader: SegmentReader<F>,
    sealed: bool,
    missing: Vec<Missing>,
}

impl<F: StorageFile> SegmentRecords<F> {
    /// The next record, or `None` at the end: for good if the segment is sealed, else for now.
    ///
    /// # Errors
    /// As [`Reader::next`](crate::Reader::next).
    #[expect(clippy::should_implement_trait, reason = "the record borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<RawRecord<'_>>, JournalError> {
        let expected = self.reader.next_sequence;
        match self.reader.step()? {
            Step::Record { missing: count } => {
                if count > 0 {
                    let (file, found) = (self.reader.id.file_name(), expected + count);
                    self.missing.push(Missing { file, expected, found });
                }
                Ok(Some(self.reader.record()))
            }
            Step::End { torn } if self.sealed && (torn > 0 || self.reader.offset == 0) => {
                Err(self.reader.unfinished(torn))
            }
            Step::End { .. } => Ok(None),
        }
    }

    /// Where the next record would be.
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        self.reader.position()
    }

    /// Records that were missing between those read.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

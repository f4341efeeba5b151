//! The one writer of a journal: recovery, appends, syncs. No thread, no clock.

use std::ops::Range;
use std::sync::Arc;

use quantity::{UnixTime, WriterId};

use crate::frame::Batch;
use crate::segment::{HEADER, SegmentId, SegmentReader, Step};
use crate::storage::{Storage, StorageFile};
use crate::{JournalError, streams};

/// When a segment has this many bytes, the next append begins a new one. Small enough to project or
/// archive piece by piece, large enough that a busy day is a few dozen files.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Appends records to a journal that it holds locked.
///
/// What `append` has returned survives the process; what `sync` has returned survives the machine.
pub struct Writer<S: Storage> {
    storage: S,
    _lock: S::Lock,
    id: WriterId,
    file: Arc<S::File>,
    name: String,
    length: u64,
    next_sequence: u64,
    segment_bytes: u64,
    unsynced: bool,
    failure: Option<Arc<JournalError>>,
}

/// What opening a journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The stream that is written.
    pub writer: WriterId,
    /// The segment that is appended to.
    pub file: String,
    /// Bytes of a half-written record that were cut from its end; 0 after a clean stop.
    pub cut_bytes: u64,
    /// The last record's sequence; 0 in a new journal.
    pub last_sequence: u64,
}

impl<S: Storage> Writer<S> {
    /// Locks the journal, goes on with its newest stream and cuts a torn tail; begins the stream
    /// `random` at `now` if there is none.
    ///
    /// # Errors
    /// [`JournalError::Locked`] beside another writer, [`JournalError::Corrupt`] and
    /// [`JournalError::Order`] for damage in the segment to be appended to, and those of the
    /// storage.
    pub fn open(storage: S, now: UnixTime, random: u64) -> Result<(Self, Recovery), JournalError> {
        let lock = storage.lock().map_err(JournalError::storage("lock", "journal"))?;
        let lock = lock.ok_or(JournalError::Locked)?;
        let mut cut_bytes = 0;
        let (id, file, length, next_sequence) = if let Some(mut segment) = newest(&storage)? {
            cut_bytes = loop {
                if let Step::End { torn } = segment.step()? {
                    break torn;
                }
            };
            let (id, offset, next) = (segment.id, segment.offset, segment.next_sequence);
            let file = segment.into_file();
            let length = recover(id, &file, offset, cut_bytes, now)?;
            (id, file, length, next)
        } else {
            let id = SegmentId { writer: WriterId(random), first_sequence: 1 };
            let file = create(&storage, id, now).map_err(Failed::into_error)?;
            (id, file, HEADER as u64, id.first_sequence)
        };
        storage.sync_dir().map_err(JournalError::storage("sync", "journal"))?;
        let name = id.file_name();
        let recovery = Recovery {
            writer: id.writer,
            file: name.clone(),
            cut_bytes,
            last_sequence: next_sequence - 1,
        };
        let writer = Self {
            storage,
            _lock: lock,
            id: id.writer,
            file: Arc::new(file),
            name,
            length,
            next_sequence,
            segment_bytes: SEGMENT_BYTES,
            unsynced: false,
            failure: None,
        };
        Ok((writer, recovery))
    }

    /// Begins a new segment when one has this many bytes, instead of [`SEGMENT_BYTES`].
    #[must_use]
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Writes the records of a batch in one call and gives their sequences. `now` is only used to
    /// date a new segment.
    ///
    /// # Errors
    /// After an error none of the batch is in the journal, and a later append may succeed (a full
    /// disk), unless the writer is now poisoned: then the next `open` decides what is there.
    pub fn append(&mut self, batch: &mut Batch, now: UnixTime) -> Result<Range<u64>, JournalError> {
        self.refuse_if_poisoned()?;
        if batch.records() == 0 {
            return Ok(self.next_sequence..self.next_sequence);
        }
        if self.length >= self.segment_bytes.max(HEADER as u64 + 1) {
            self.roll(now)?;
        }
        let bytes = batch.finish(self.id, self.next_sequence);
        if let Err(source) = self.file.append(bytes) {
            let error = JournalError::storage("append to", &self.name)(source);
            // Half a batch may be there. If it cannot be taken back, nothing can follow it.
            if self.file.truncate(self.length).is_err() {
                self.poison(error.clone());
            }
            return Err(error);
        }
        self.unsynced = true;
        self.length += bytes.len() as u64;
        let first = self.next_sequence;
        self.next_sequence += batch.records();
        Ok(first..self.next_sequence)
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// A failed sync poisons the writer: the system may have dropped the bytes and would report
    /// success the next time.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.refuse_if_poisoned()?;
        if self.unsynced {
            let synced = self.file.sync().map_err(JournalError::storage("sync", &self.name));
            synced.inspect_err(|error| self.poison(error.clone()))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// The stream that is written.
    #[must_use]
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// The segment that is appended to.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.name
    }

    /// The sequence that the next record gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The failure after which this writer refuses everything.
    #[must_use]
    pub fn failure(&self) -> Option<&JournalError> {
        self.failure.as_deref()
    }

    /// The file being appended to, for syncing it from another thread.
    pub(crate) fn file(&self) -> (&Arc<S::File>, &str) {
        (&self.file, &self.name)
    }

    pub(crate) fn poison(&mut self, cause: JournalError) {
        self.failure.get_or_insert_with(|| Arc::new(cause));
    }

    fn refuse_if_poisoned(&self) -> Result<(), JournalError> {
        match &self.failure {
            None => Ok(()),
            Some(cause) => Err(JournalError::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    /// Begins the next segment. The full one is made durable first, so that only the last segment of
    /// a stream can have a torn tail.
    ///
    /// A failure leaves the full one current: the next append tries the same new name again.
    fn roll(&mut self, now: UnixTime) -> Result<(), JournalError> {
        self.sync()?;
        let id = SegmentId { writer: self.id, first_sequence: self.next_sequence };
        let created = create(&self.storage, id, now).and_then(|file| {
            let synced = self.storage.sync_dir();
            synced.map_err(JournalError::storage("sync", "journal")).map_err(Failed::ForGood)?;
            Ok(file)
        });
        match created {
            Ok(file) => {
                (self.file, self.name) = (Arc::new(file), id.file_name());
                self.length = HEADER as u64;
                Ok(())
            }
            Err(Failed::ForNow(error)) => Err(error),
            Err(Failed::ForGood(error)) => {
                self.poison(error.clone());
                Err(error)
            }
        }
    }
}

/// Whether an operation left everything as it was.
enum Failed {
    ForNow(JournalError),
    ForGood(JournalError),
}

impl Failed {
    fn into_error(self) -> JournalError {
        match self {
            Self::ForNow(error) | Self::ForGood(error) => error,
        }
    }
}

/// Creates a segment with a durable header.
fn create<S: Storage>(storage: &S, id: SegmentId, now: UnixTime) -> Result<S::File, Failed> {
    let name = id.file_name();
    let created = storage.create(&name).map_err(JournalError::storage("create", &name));
    let file = created.map_err(Failed::ForNow)?;
    if let Err(source) = file.append(&id.header(now)) {
        let error = JournalError::storage("append to", &name)(source);
        let emptied = file.truncate(0).is_ok();
        return Err(if emptied { Failed::ForNow(error) } else { Failed::ForGood(error) });
    }
    let synced = file.sync().map_err(JournalError::storage("sync", &name));
    synced.map_err(Failed::ForGood)?;
    Ok(file)
}

/// The last segment of the stream that was begun or continued last.
fn newest<S: Storage>(storage: &S) -> Result<Option<SegmentReader<S::File>>, JournalError> {
    let mut newest = None;
    for (_, segments) in streams(storage)? {
        let Some(&id) = segments.last() else { continue };
        let name = id.file_name();
        let file = storage.open_append(&name).map_err(JournalError::storage("open", &name))?;
        let mut segment = SegmentReader::new(id, file);
        segment.read_header()?;
        // Half a header is the last thing that a writer did.
        let age = (segment.created.is_none(), segment.created);
        if newest.as_ref().is_none_or(|(newest_age, _)| age >= *newest_age) {
            newest = Some((age, segment));
        }
    }
    Ok(newest.map(|(_, segment)| segment))
}

/// Cuts what is torn, completes the header if that is torn, and makes the rest durable: a killed
/// predecessor may not have synced it. Gives the length.
fn recover(
    id: SegmentId,
    file: &impl StorageFile,
    sound: u64,
    torn: u64,
    now: UnixTime,
) -> Result<u64, JournalError> {
    let name = id.file_name();
    if torn > 0 {
        file.truncate(sound).map_err(JournalError::storage("cut", &name))?;
    }
    let headless = sound == 0;
    if headless {
        file.append(&id.header(now)).map_err(JournalError::storage("append to", &name))?;
    }
    file.sync().map_err(JournalError::storage("sync", &name))?;
    Ok(if headless { HEADER as u64 } else { sound })
}

//! What can go wrong with a journal.

use std::io;
use std::sync::Arc;

use quantity::WriterId;

/// Why a journal could not be read or written. Cheap to clone: a failed group commit is told to
/// every exchange in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The storage refused an operation.
    #[error("cannot {action} `{file}`")]
    Storage {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file, or the directory of the journal.
        file: String,
        /// The storage's own error.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another writer holds the journal.
    #[error(
        "another process writes to this journal\n\nhint: one data directory has one `farthing serve`; reports may be read beside it"
    )]
    Locked,
    /// Bytes in the middle of the journal are not what was written.
    #[error("`{file}` is corrupt at byte {offset}: expected {expected}, found {found}")]
    Corrupt {
        /// The segment.
        file: String,
        /// Where the bad record or header begins.
        offset: u64,
        /// What a sound journal has there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A record's sequence repeats or goes backwards.
    #[error(
        "`{file}` is out of order at byte {offset}: expected sequence {expected}, found {found}"
    )]
    Order {
        /// The segment.
        file: String,
        /// Where the record begins.
        offset: u64,
        /// The next sequence of the stream.
        expected: u64,
        /// The sequence there.
        found: u64,
    },
    /// What was already read is no longer there: the writer took back a failed append, or a power
    /// cut lost what was not synced. What was made of it must be made again.
    #[error("`{file}` was cut before byte {offset}; read the journal from its beginning")]
    Rewound {
        /// The segment.
        file: String,
        /// How far it had been read.
        offset: u64,
    },
    /// The segment was written by a newer version.
    #[error("`{file}` has format {found}; this version reads format {expected}")]
    Format {
        /// The segment.
        file: String,
        /// The format this version reads.
        expected: u16,
        /// The format of the segment.
        found: u16,
    },
    /// A sound record whose body is not what its kind and version promise.
    #[error("record {sequence} of writer {:016x}, field {field}: {problem}", .writer.0)]
    Field {
        /// The stream.
        writer: WriterId,
        /// The record.
        sequence: u64,
        /// The number of the field; 0 if the fields could not be told apart.
        field: u32,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A record beyond [`MAX_RECORD`](crate::MAX_RECORD).
    #[error("the record has {bytes} bytes; at most {} fit", crate::MAX_RECORD)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// An earlier failure left the journal in doubt; it refuses everything until it is reopened.
    #[error("the journal refuses records since an earlier failure")]
    Poisoned {
        /// That failure.
        #[source]
        cause: Arc<JournalError>,
    },
    /// The storage has not taken records for longer than they may wait. They may still be written.
    #[error("the ledger is stalled: the disk has taken nothing for {seconds} s")]
    Stalled {
        /// How long.
        seconds: u64,
    },
    /// The committer was closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// With everything that led to it, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            text.push_str(&format!(": {source}"));
            error = source;
        }
        text
    }

    pub(crate) fn storage(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Storage { action, file: file.to_owned(), source: Arc::new(source) }
    }
}

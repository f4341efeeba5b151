//! The journal: an append-only record of every exchange, and the truth of what was spent.
//!
//! A journal is a directory of segments. Each process that writes has a stream of its own, known by
//! its writer id and numbered without holes; streams merge as sets. [`Writer`] appends and recovers,
//! [`Committer`] puts it on a thread and commits in groups, [`Reader`] reads, also from another
//! process while a writer appends.
//!
//! Readers never repair. A torn tail (what a crash left of the last append) is cut by the next
//! writer; anything wrong before sound records is [`JournalError::Corrupt`].

mod committer;
mod error;
mod fields;
mod frame;
mod memory;
mod reader;
mod record;
mod segment;
mod segments;
mod storage;
mod syncer;
mod ticket;
mod values;
mod waiting;
mod writer;

use std::collections::BTreeMap;

use quantity::WriterId;

pub use committer::{Committer, Handle, OnFailure, Options, Permit, Status};
pub use error::JournalError;
pub use frame::{Batch, MAX_RECORD, RawRecord};
pub use memory::{Fault, MemoryFile, MemoryLock, MemoryStorage};
pub use reader::{Missing, Position, Reader, StreamPosition, Tail};
pub use record::{Body, Entry, Record};
pub use segment::Previous;
pub use segments::{Segment, SegmentRecords, segments};
pub use storage::{DirStorage, Storage, StorageFile};
pub use ticket::Ticket;
pub use writer::{Recovery, SEGMENT_BYTES, Writer};

/// The segments of each stream, in order; no stream without one.
fn streams<S: Storage>(
    storage: &S,
) -> Result<BTreeMap<WriterId, Vec<segment::SegmentId>>, JournalError> {
    let names = storage.list().map_err(JournalError::storage("list", "journal"))?;
    let mut ids: Vec<_> =
        names.iter().filter_map(|name| segment::SegmentId::from_file_name(name)).collect();
    ids.sort_unstable();
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    for id in ids {
        streams.entry(id.writer).or_default().push(id);
    }
    Ok(streams)
}

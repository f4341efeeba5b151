//! Retention: old segments go, what bills need of them stays.
//!
//! For each segment the steps are: its projection is written to the archive, synced and read back; a
//! line in the manifest says that it is pruned; it is removed. A crash between two of them leaves the
//! segment in the journal, in the archive or in both, and who reads counts it once: what the manifest
//! names is read from the archive. The next who prunes removes what is left over.

use std::collections::BTreeSet;

use journal::{JournalError, Segment, Storage, segments};
use quantity::{ExchangeId, UnixTime};

use crate::archive::{Pruned, read};
use crate::projection::{Projection, Source};
use crate::{Piece, Unsound, Warehouse, WarehouseError, project};

/// What was pruned, and what was not although it is old.
#[derive(Debug, Default)]
pub struct Pruning {
    /// Segments that were pruned.
    pub pruned: Vec<Pruned>,
    /// Segments that have to stay, and why; so do those that follow them in their streams.
    pub kept: Vec<(String, Why)>,
}

/// Why a segment stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// An exchange in it is not settled.
    Open,
    /// It holds records of a newer version, of which a projection keeps nothing.
    Newer,
}

impl<S: Storage<File: Send + Sync + 'static> + Sync> Warehouse<S> {
    /// Prunes sealed segments whose last record was written before a time, each stream's from its
    /// beginning on. With `dry`, only says which: everything but the writing is done.
    ///
    /// # Errors
    /// [`WarehouseError::Refused`] beside another who prunes or where records are missing, and anything
    /// that is wrong with journal or archive. What was pruned before the error stays pruned.
    pub fn prune(
        &self,
        before: UnixTime,
        now: UnixTime,
        dry: bool,
    ) -> Result<Pruning, WarehouseError> {
        let _lock = if dry { None } else { Some(self.archive.lock()?) };
        let (pieces, _) = self.pieces()?;
        // Everything must be sound and in its place before anything is removed.
        let rest = self.rest(&pieces, &[])?;
        if rest.missing > 0 {
            let missing = rest.missing;
            let problem = format!("{missing} records are missing in the journal");
            return Err(WarehouseError::Refused(problem));
        }
        let lost = rest.ledger.lost(now).into_iter();
        let open: BTreeSet<ExchangeId> = lost.map(|(_, settled)| settled.exchange).collect();
        let earlier = self.archive.pruned()?;
        let old = self.old(&pieces, before)?;
        let left: Vec<Segment> = segments(&self.journal)?;
        let left: Vec<Segment> = left
            .into_iter()
            .filter(|one| earlier.iter().any(|gone| gone.segment() == *one))
            .collect();
        if !old.is_empty() || !left.is_empty() {
            earlier.iter().try_for_each(|pruned| self.archive.verify(pruned))?;
        }
        if !dry {
            left.iter().try_for_each(|segment| self.remove(segment))?;
            self.archive.tidy(&earlier)?;
        }
        let mut pruning = Pruning::default();
        for stream in old.chunk_by(|a, b| a.segment.writer() == b.segment.writer()) {
            for piece in stream {
                if let Some(why) = self.stays(piece, &open)? {
                    pruning.kept.push((piece.segment.file_name(), why));
                    break;
                }
                pruning.pruned.push(self.prune_one(&piece.segment, now, dry)?);
            }
        }
        Ok(pruning)
    }

    /// Segments whose streams went on in another before a time, each stream's from its beginning.
    fn old<'a>(
        &self,
        pieces: &'a [Piece],
        before: UnixTime,
    ) -> Result<Vec<&'a Piece>, WarehouseError> {
        let mut old = Vec::new();
        for stream in pieces.chunk_by(|a, b| a.segment.writer() == b.segment.writer()) {
            for pair in stream.windows(2).filter(|pair| pair[0].pruned.is_none()) {
                let next = pair[1].segment.created(&self.journal)?;
                if next.is_none_or(|next| next >= before) {
                    break;
                }
                old.push(&pair[0]);
            }
        }
        Ok(old)
    }

    fn stays(
        &self,
        piece: &Piece,
        open: &BTreeSet<ExchangeId>,
    ) -> Result<Option<Why>, WarehouseError> {
        if piece.projection.as_ref().is_none_or(|projection| projection.head.unknown > 0) {
            return Ok(Some(Why::Newer));
        }
        let mut found = false;
        self.outside(piece, |record| {
            let body = record.decode()?.body;
            found |= project::exchange(&body).is_some_and(|exchange| open.contains(&exchange));
            Ok(())
        })?;
        Ok(found.then_some(Why::Open))
    }

    fn prune_one(
        &self,
        segment: &Segment,
        at: UnixTime,
        dry: bool,
    ) -> Result<Pruned, WarehouseError> {
        // From the records, each of which is checked, not from what the warehouse has of them.
        let kept = project::project(&self.journal, segment, None)?;
        let projection = Projection::open(Source::Memory(kept.clone()));
        let defect = |Unsound| WarehouseError::Defect(segment.file_name());
        let position = projection.map_err(defect)?.head.position;
        let name = segment.file_name();
        let bytes = read(&self.journal, &name);
        let bytes = bytes.map_err(|source| storage("read", &name, source))?;
        let pruned = Pruned {
            writer: segment.writer(),
            first_sequence: segment.first_sequence(),
            next_sequence: position.next_sequence,
            bytes: bytes.len() as u64,
            checksum: crc32c::crc32c(&bytes),
            kept_bytes: kept.len() as u64,
            kept_checksum: crc32c::crc32c(&kept),
            at,
        };
        if !dry {
            self.archive.keep(segment, &kept)?;
            self.archive.note(&pruned)?;
            self.remove(segment)?;
        }
        Ok(pruned)
    }

    fn remove(&self, segment: &Segment) -> Result<(), WarehouseError> {
        let name = segment.file_name();
        self.journal.remove(&name).map_err(|source| storage("remove", &name, source))?;
        self.journal.sync_dir().map_err(|source| storage("sync", "journal", source))
    }
}

fn storage(action: &'static str, file: &str, source: std::io::Error) -> WarehouseError {
    let (file, source) = (file.to_owned(), std::sync::Arc::new(source));
    WarehouseError::Journal(JournalError::Storage { action, file, source })
}

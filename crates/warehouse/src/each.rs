//! Everything that is there, record by record: for checks, and for who wants to see it all.

use journal::{Missing, RawRecord, Segment, Storage, Tail, segments};
use quantity::WriterId;

use crate::archive::Pruned;
use crate::{Piece, Warehouse, WarehouseError, is_gone, missing_before};

/// What a reader of everything comes by.
#[derive(Debug)]
pub enum Passed<'a> {
    /// A pruned segment. Of its records those follow that were kept as they are: of exchanges that
    /// reach into other segments, and of prices.
    Pruned(&'a Pruned),
    /// A record.
    Record(&'a RawRecord<'a>),
}

/// What is seen at the end.
#[derive(Debug, Default)]
pub struct End {
    /// Records that are neither in the journal nor pruned.
    pub missing: Vec<Missing>,
    /// Ends of streams that are no whole record.
    pub tails: Vec<Tail>,
}

impl<S: Storage<File: Send + Sync + 'static> + Sync> Warehouse<S> {
    /// Reads the journal, every record of it, and all that the archive keeps. Uses no projection that
    /// could be made anew.
    ///
    /// # Errors
    /// [`WarehouseError::Journal`], [`WarehouseError::Archive`], and those of `take`.
    pub fn each<E: From<WarehouseError>>(
        &self,
        mut take: impl FnMut(Passed<'_>) -> Result<(), E>,
    ) -> Result<End, E> {
        // The journal first: what is pruned in between is then in one of them, or in both.
        let mut all: Vec<(Segment, Option<Pruned>)> = Vec::new();
        let segments = segments(&self.journal).map_err(WarehouseError::from)?;
        let pruned = self.archive.pruned()?;
        all.extend(pruned.iter().map(|pruned| (pruned.segment(), Some(*pruned))));
        let gone = |segment: &Segment| pruned.iter().any(|gone| gone.segment() == *segment);
        all.extend(segments.into_iter().filter(|one| !gone(one)).map(|segment| (segment, None)));
        all.sort_by_key(|(segment, _)| (segment.writer(), segment.first_sequence()));
        let mut end = End::default();
        let mut expected: Option<(WriterId, u64)> = None;
        for (segment, mut pruned) in all {
            end.missing.extend(missing_before(&segment, expected).map_err(WarehouseError::from)?);
            let records = match pruned {
                None => match segment.records(&self.journal, None).map_err(WarehouseError::from) {
                    Err(error) if is_gone(&error) => {
                        let now = self.archive.pruned()?;
                        pruned = now.into_iter().find(|pruned| pruned.segment() == segment);
                        if pruned.is_none() {
                            return Err(error.into());
                        }
                        None
                    }
                    records => Some(records?),
                },
                Some(_) => None,
            };
            let next = match (records, pruned) {
                (Some(mut records), _) => {
                    while let Some(record) = records.next().map_err(WarehouseError::from)? {
                        take(Passed::Record(&record))?;
                    }
                    end.missing.extend_from_slice(records.missing());
                    let position = records.position();
                    // A sealed one has no torn end, and may be pruned by now.
                    let bytes = match segment.is_sealed() {
                        true => position.offset,
                        false => segment.bytes(&self.journal).map_err(WarehouseError::from)?,
                    };
                    let torn = bytes.saturating_sub(position.offset);
                    if torn > 0 {
                        let (file, offset) = (segment.file_name(), position.offset);
                        end.tails.push(Tail { file, offset, bytes: torn });
                    }
                    position.next_sequence
                }
                (None, Some(pruned)) => {
                    self.archive.verify(&pruned)?;
                    take(Passed::Pruned(&pruned))?;
                    let projection = Some(self.archive.open(&pruned)?);
                    let piece = Piece { segment, projection, pruned: Some(pruned) };
                    let mut failed = None;
                    let (_, next) = self.outside(&piece, |record| {
                        if failed.is_none() {
                            failed = take(Passed::Record(record)).err();
                        }
                        Ok(())
                    })?;
                    if let Some(failed) = failed {
                        return Err(failed);
                    }
                    next
                }
                (None, None) => continue,
            };
            expected = Some((segment.writer(), next));
        }
        Ok(end)
    }
}

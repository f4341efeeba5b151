//! The warehouse: answers the questions of `facts` from projections of the journal.
//!
//! A projection holds the exchanges of one segment of the journal as columns. It is a pure function of
//! the records that it covers, so it can be thrown away, made by several processes at once, or made
//! anew from the journal to the same bytes. It only ever holds what the journal holds: no record is
//! waited for and none can be lost here. The journal's end, which no projection covers yet, is read as
//! it is; answers are the same as those of a [`Rollup`] over the whole journal.
//!
//! That it can be thrown away does not hold of the archive: it keeps the projections of segments that
//! were pruned, which are the truth from then on ([`Warehouse::prune`]).
//!
//! What is not sound (of another format, cut, changed) or no longer fits its segment is made anew, and
//! where nothing can be stored, answers only take longer.
//!
//! # Exchanges that span segments
//!
//! An exchange whose admission and settlement are in one projection is in its rows. The records of all
//! others are kept in the projection as they are, and one ledger reads these loose records, segment by
//! segment, and then the journal's end. So a projection depends on no other and they are made in
//! parallel. A ledger that reads every record remembers settled exchanges for a while and refuses one
//! that is admitted again; here that is seen within a segment only, and `farthing journal check` sees
//! the rest.
//!
//! # Why a format of our own
//!
//! Parquet would be read by others as it is, but costs 32 crates and half of the time that the whole
//! project takes to build; `farthing journal dump` and exports are there for others. SQLite is a
//! hundred times slower at sums over millions of rows, and DuckDB locks readers out beside a writer.
//! What is needed is little: whole numbers and texts by number, written once and summed by group. The
//! layout is documented: `projection` (file and blocks), `column`, `labels`, `flat` (measures).
//!
//! Rollups by hour or day are not kept: sums over ten million rows take less than a second, and a
//! rollup would answer only the questions that it was made for.

mod archive;
mod bytes;
mod column;
mod each;
mod flat;
mod labels;
mod newest;
mod parallel;
mod project;
mod projection;
mod prune;
mod scan;
mod shelf;
mod sound;

use std::cmp::Ordering;
use std::io;
use std::path::PathBuf;

use facts::{Answer, PriceRecord, Query, Rollup};
use journal::{Body, JournalError, Missing, RawRecord, Segment, Storage, segments};
use ledger::{Ledger, LedgerError};
use quantity::{UnixTime, WriterId};

use crate::archive::Archive;
use crate::projection::{Projection, Source};
use crate::shelf::Shelf;

pub use archive::Pruned;
pub use each::{End, Passed};
pub use prune::{Pruning, Why};
pub use sound::is_projection;

/// A segment that is still written is projected again when so many bytes have come to it: few enough
/// to be read in a tenth of a second.
const MOST_UNPROJECTED: u64 = 16 << 20;

/// Projections of a journal, in a directory of their own.
#[derive(Debug)]
pub struct Warehouse<S> {
    journal: S,
    shelf: Shelf,
    archive: Archive<S>,
    most_unprojected: u64,
    processors: usize,
}

/// Why there is no answer. What is wrong with a projection is none: it is made anew.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's records break the rules of exchanges.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What is kept of pruned segments is not what was written, and nothing can make it anew.
    #[error(
        "`{file}` in the archive is damaged: {problem}\n\nhint: the archive is all there is of pruned \
         segments; restore the file from a backup"
    )]
    Archive {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The archive's storage refused an operation.
    #[error("cannot {action} `{file}` in the archive")]
    Storage {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file.
        file: String,
        /// The storage's own error.
        #[source]
        source: io::Error,
    },
    /// Nothing can be pruned now.
    #[error("nothing is pruned: {0}")]
    Refused(String),
    /// A projection that was just made cannot be read.
    #[error(
        "the projection of `{0}` cannot be read although it was just made: a defect of farthing"
    )]
    Defect(String),
}

/// An answer, and what of the journal is not in it.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// Exchanges that are admitted and not settled.
    pub open: usize,
    /// Records of kinds that this version does not know.
    pub unknown: u64,
    /// Records missing in the middle of a stream.
    pub missing: u64,
    /// What was projected on the way.
    pub refreshed: Refreshed,
}

/// What the whole journal amounts to: the same as if every record had been read.
#[derive(Debug)]
pub struct Folded {
    /// Of each query what is counted, to be kept up to date from here on.
    pub rollups: Vec<Rollup>,
    /// Exchanges that are admitted and not settled.
    pub ledger: Ledger,
    /// Prices by the hour, in the order of the journal.
    pub hourly: Vec<PriceRecord>,
    /// Records of kinds that this version does not know.
    pub unknown: u64,
    /// Records missing in the middle of a stream.
    pub missing: u64,
    /// What was projected on the way.
    pub refreshed: Refreshed,
}

/// What was projected.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Segments that were projected.
    pub projected: usize,
    /// Why one of their projections could not be stored.
    pub unstored: Option<io::Error>,
}

/// A projection that cannot be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsound;

/// A segment, with the projection of what it holds up to some place in it.
struct Piece {
    segment: Segment,
    projection: Option<Projection>,
    /// Set if the segment is gone: then the projection is of all of it.
    pruned: Option<Pruned>,
}

/// What the records outside of rows amount to.
struct Rest {
    rollups: Vec<Rollup>,
    ledger: Ledger,
    hourly: Vec<PriceRecord>,
    unknown: u64,
    missing: u64,
}

impl<S: Storage<File: Send + Sync + 'static> + Sync> Warehouse<S> {
    /// A warehouse of this journal that keeps its projections in `directory`, which is made when there
    /// is one, and those of pruned segments in `archive`.
    pub fn new(directory: impl Into<PathBuf>, journal: S, archive: S) -> Self {
        let (shelf, archive) = (Shelf(directory.into()), Archive(archive));
        let processors = parallel::processors();
        Self { journal, shelf, archive, most_unprojected: MOST_UNPROJECTED, processors }
    }

    /// Uses so many processors, instead of all.
    #[must_use]
    pub fn with_processors(mut self, processors: usize) -> Self {
        self.processors = processors;
        self
    }

    /// Projects the journal's end again when so many bytes have come to it, instead of 16 MiB.
    #[must_use]
    pub fn with_most_unprojected(mut self, bytes: u64) -> Self {
        self.most_unprojected = bytes;
        self
    }

    /// Projects what is sealed and not projected yet, and what has come to the journal's end if it is
    /// much; removes what is of no use. May be called at any time, by several at once.
    ///
    /// # Errors
    /// [`WarehouseError::Journal`] and [`WarehouseError::Ledger`]. That a projection could not be
    /// stored is told in what is returned.
    pub fn refresh(&self) -> Result<Refreshed, WarehouseError> {
        let (pieces, refreshed) = self.steadily(|| self.pieces())?;
        let kept = pieces.iter().filter(|piece| piece.pruned.is_none());
        self.shelf.tidy(&kept.map(|piece| piece.segment).collect::<Vec<_>>());
        Ok(refreshed)
    }

    /// The answer to a query as of `now`. Projects what [`refresh`](Self::refresh) would.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh), for anything the journal holds.
    pub fn answer(&self, query: &Query, now: UnixTime) -> Result<Answered, WarehouseError> {
        let queries = std::slice::from_ref(query);
        let Folded { rollups, ledger, unknown, missing, refreshed, .. } = self.fold(queries)?;
        let rollup = rollups.into_iter().next().expect("one for the query");
        let answer = rollup.answer(now);
        Ok(Answered { answer, open: ledger.open(), unknown, missing, refreshed })
    }

    /// What the whole journal amounts to. Projects what [`refresh`](Self::refresh) would.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh), for anything the journal holds.
    pub fn fold(&self, queries: &[Query]) -> Result<Folded, WarehouseError> {
        self.steadily(|| self.fold_once(queries))
    }

    fn fold_once(&self, queries: &[Query]) -> Result<Folded, WarehouseError> {
        let (pieces, refreshed) = self.pieces()?;
        let (rest, parts) = parallel::beside(
            self.processors,
            || self.rest(&pieces, queries),
            pieces.len(),
            || begun(queries),
            |rollups, index| self.scan(&pieces[index], queries, rollups),
        );
        let Rest { mut rollups, ledger, hourly, unknown, missing } = rest?;
        for part in parts {
            for (rollup, part) in rollups.iter_mut().zip(part?) {
                rollup.merge(part);
            }
        }
        Ok(Folded { rollups, ledger, hourly, unknown, missing, refreshed })
    }

    /// How many bytes of the journal an answer would have to project first: many only if the
    /// projections are gone, or were made by another version.
    ///
    /// # Errors
    /// Those of the journal's storage.
    pub fn unprojected(&self) -> Result<u64, WarehouseError> {
        let mut bytes = 0;
        for segment in self.segments()?.0 {
            if self.is_due(&segment)? && self.found(&segment)?.is_none() {
                bytes += segment.bytes(&self.journal)?;
            }
        }
        Ok(bytes)
    }

    /// What is pruned while it is looked at is met again in the archive.
    fn steadily<T>(
        &self,
        look: impl Fn() -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        for _ in 0..9 {
            match look() {
                Err(error) if is_gone(&error) => {}
                seen => return seen,
            }
        }
        look()
    }

    /// The segments of the journal, and those that were pruned, which may still be there.
    fn segments(&self) -> Result<(Vec<Segment>, Vec<Pruned>), WarehouseError> {
        // The journal first: what is pruned in between is then in one of them, or in both.
        let mut segments = segments(&self.journal)?;
        let pruned = self.archive.pruned()?;
        segments.retain(|segment| !pruned.iter().any(|pruned| pruned.segment() == *segment));
        Ok((segments, pruned))
    }

    /// All segments in the order of the journal, with a projection of those that should have one.
    fn pieces(&self) -> Result<(Vec<Piece>, Refreshed), WarehouseError> {
        let (segments, pruned) = self.segments()?;
        let mut refreshed = Refreshed::default();
        let mut pieces = Vec::with_capacity(segments.len());
        let made =
            parallel::map(self.processors, segments.len(), |index| -> Result<_, WarehouseError> {
                let segment = segments[index];
                let found = self.found(&segment)?;
                if found.is_some() || !self.is_due(&segment)? {
                    return Ok((Piece { segment, projection: found, pruned: None }, None));
                }
                let (projection, stored) = self.project(&segment, None)?;
                let projection = Some(projection);
                Ok((Piece { segment, projection, pruned: None }, Some(stored)))
            });
        for made in made {
            let (piece, stored) = made?;
            pieces.push(piece);
            if let Some(stored) = stored {
                refreshed.projected += 1;
                refreshed.unstored = refreshed.unstored.or(stored.err());
            }
        }
        for pruned in pruned {
            let projection = Some(self.archive.open(&pruned)?);
            pieces.push(Piece { segment: pruned.segment(), projection, pruned: Some(pruned) });
        }
        pieces.sort_by_key(|piece| (piece.segment.writer(), piece.segment.first_sequence()));
        Ok((pieces, refreshed))
    }

    /// The stored projection of a segment, if it covers enough of what stands there.
    fn found(&self, segment: &Segment) -> Result<Option<Projection>, WarehouseError> {
        let Some(projection) = self.shelf.open(segment) else { return Ok(None) };
        let rest = segment.rest(&self.journal, &projection.head.position)?;
        let enough = rest.is_some_and(|rest| {
            if segment.is_sealed() { rest == 0 } else { rest < self.most_unprojected }
        });
        Ok(enough.then_some(projection))
    }

    fn is_due(&self, segment: &Segment) -> Result<bool, WarehouseError> {
        Ok(segment.is_sealed() || segment.bytes(&self.journal)? >= self.most_unprojected)
    }

    /// Makes and stores the projection of a segment up to `end`.
    fn project(
        &self,
        segment: &Segment,
        end: Option<u64>,
    ) -> Result<(Projection, io::Result<()>), WarehouseError> {
        let bytes = project::project(&self.journal, segment, end)?;
        let stored = self.shelf.store(segment, &bytes);
        // Read back from the file if there is one: its bytes need not stay in memory.
        let found = stored.is_ok().then(|| self.shelf.open(segment)).flatten();
        let found = found.filter(|found| end.is_none_or(|end| found.head.position.offset == end));
        let projection = match found {
            Some(projection) => projection,
            None => Projection::open(Source::Memory(bytes))
                .map_err(|Unsound| WarehouseError::Defect(segment.file_name()))?,
        };
        Ok((projection, stored))
    }

    /// Reads from a projection; if it turns out to be unsound, from one that is made anew.
    fn read<T>(
        &self,
        Piece { segment, pruned, .. }: &Piece,
        projection: &Projection,
        read: impl Fn(&Projection) -> Result<T, Unsound>,
    ) -> Result<T, WarehouseError> {
        if let Ok(read) = read(projection) {
            return Ok(read);
        }
        if let Some(pruned) = pruned {
            self.archive.verify(pruned)?;
            return Err(WarehouseError::Defect(segment.file_name()));
        }
        // Up to the same place: what follows it is read elsewhere.
        let (anew, _) = self.project(segment, Some(projection.head.position.offset))?;
        read(&anew).map_err(|Unsound| WarehouseError::Defect(segment.file_name()))
    }

    /// Adds the rows of a piece to the rollup of each query.
    fn scan(
        &self,
        piece: &Piece,
        queries: &[Query],
        rollups: &mut [Rollup],
    ) -> Result<(), WarehouseError> {
        let Some(projection) = &piece.projection else { return Ok(()) };
        for (query, rollup) in queries.iter().zip(rollups) {
            let scan = |projection: &Projection| scan::scan(projection, query);
            self.read(piece, projection, scan)?.add_to(rollup);
        }
        Ok(())
    }

    /// Reads what is not in the rows of a piece: loose records, and what follows its projection. Gives
    /// how many records are missing in it, and the sequence that would come next.
    fn outside(
        &self,
        piece: &Piece,
        mut take: impl FnMut(&RawRecord<'_>) -> Result<(), WarehouseError>,
    ) -> Result<(u64, u64), WarehouseError> {
        let Piece { segment, projection, .. } = piece;
        let (mut missing, mut position) = (0, None);
        if let Some(projection) = projection {
            let writer = segment.writer();
            let block = self.read(piece, projection, |projection| {
                let block = projection.bytes(projection::LOOSE)?;
                project::loose(&block, writer).map(|_| ())?;
                Ok(block)
            })?;
            let loose = project::loose(&block, writer);
            let loose = loose.map_err(|Unsound| WarehouseError::Defect(segment.file_name()))?;
            loose.iter().try_for_each(&mut take)?;
            missing = projection.head.missing;
            if segment.is_sealed() {
                return Ok((missing, projection.head.position.next_sequence));
            }
            position = Some(projection.head.position);
        }
        let mut records = segment.records(&self.journal, position)?;
        while let Some(record) = records.next()? {
            take(&record)?;
        }
        Ok((missing + counted(records.missing()), records.position().next_sequence))
    }

    /// Reads what is not in rows.
    fn rest(&self, pieces: &[Piece], queries: &[Query]) -> Result<Rest, WarehouseError> {
        let mut rest = Rest {
            rollups: begun(queries),
            ledger: Ledger::default(),
            hourly: Vec::new(),
            unknown: 0,
            missing: 0,
        };
        let mut expected: Option<(WriterId, u64)> = None;
        for piece in pieces {
            let segment = &piece.segment;
            let missing = missing_before(segment, expected)?;
            let missing = counted(missing.as_slice());
            let (within, next) = self.outside(piece, |record| rest.take(record))?;
            rest.missing += missing + within;
            rest.unknown += piece.projection.as_ref().map_or(0, |found| found.head.unknown);
            expected = Some((segment.writer(), next));
        }
        Ok(rest)
    }
}

impl Rest {
    fn take(&mut self, record: &RawRecord<'_>) -> Result<(), WarehouseError> {
        match record.decode()?.body {
            Body::Admitted(admission) => self.ledger.admit(admission)?,
            Body::Dispatched(dispatch) => self.ledger.dispatch(dispatch)?,
            Body::AttemptEnded(end) => self.ledger.end(end)?,
            Body::Settled(settlement) => {
                let exchange = self.ledger.settle(settlement)?;
                self.rollups.iter_mut().for_each(|rollup| rollup.add(&exchange));
            }
            Body::Price(price) => {
                self.rollups.iter_mut().for_each(|rollup| rollup.price(&price));
                if let PriceRecord::PerHour { .. } = price {
                    self.hourly.push(price);
                }
            }
            Body::Adjusted(adjustment) => {
                self.ledger.adjust(&adjustment)?;
                self.rollups.iter_mut().for_each(|rollup| rollup.adjust(&adjustment));
            }
            Body::Gap(gap) => self.rollups.iter_mut().for_each(|rollup| rollup.gap(&gap)),
            Body::Unknown { .. } => self.unknown += 1,
        }
        Ok(())
    }
}

/// Whether a segment was there and is not any more.
fn is_gone(error: &WarehouseError) -> bool {
    let WarehouseError::Journal(JournalError::Storage { source, .. }) = error else { return false };
    source.kind() == io::ErrorKind::NotFound
}

/// What is missing between what was read of a stream and a segment.
fn missing_before(
    segment: &Segment,
    read: Option<(WriterId, u64)>,
) -> Result<Option<Missing>, JournalError> {
    let (writer, found) = (segment.writer(), segment.first_sequence());
    let expected = read.filter(|(of, _)| *of == writer).map_or(1, |(_, next)| next);
    let file = segment.file_name();
    match found.cmp(&expected) {
        Ordering::Less => Err(JournalError::Order { file, offset: 0, expected, found }),
        Ordering::Equal => Ok(None),
        Ordering::Greater => Ok(Some(Missing { file, expected, found })),
    }
}

/// How many records are missing in all.
fn counted(missing: &[Missing]) -> u64 {
    missing.iter().map(Missing::count).fold(0, u64::saturating_add)
}

/// A rollup for each query.
fn begun(queries: &[Query]) -> Vec<Rollup> {
    queries.iter().cloned().map(Rollup::new).collect()
}

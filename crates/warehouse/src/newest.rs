//! The newest exchanges, whole: what a gateway keeps at hand for look-ups.

use std::collections::VecDeque;

use facts::Exchange;
use journal::{Body, RawRecord, Storage};
use ledger::Ledger;

use crate::projection::MEASURES;
use crate::{Piece, Warehouse, WarehouseError};

impl<S: Storage<File: Send + Sync + 'static> + Sync> Warehouse<S> {
    /// The exchanges that settled last, at most `count`, in the order of the journal.
    ///
    /// Only the segments that hold them are read. What was admitted before is among the loose records
    /// of the projections before. Those of pruned segments are not among them.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh), for what is read.
    pub fn newest(&self, count: usize) -> Result<VecDeque<Exchange>, WarehouseError> {
        self.steadily(|| self.newest_once(count))
    }

    fn newest_once(&self, count: usize) -> Result<VecDeque<Exchange>, WarehouseError> {
        let (pieces, _) = self.pieces()?;
        let start = self.start(&pieces, count)?;
        let mut newest = Newest { ledger: Ledger::default(), settled: VecDeque::new(), count };
        for piece in &pieces[..start] {
            self.outside(piece, |record| newest.take(record))?;
        }
        // What settled up to here is older than anything that follows.
        for piece in &pieces[start..] {
            if piece.pruned.is_some() {
                self.outside(piece, |record| newest.take(record))?;
                continue;
            }
            let mut records = piece.segment.records(&self.journal, None)?;
            while let Some(record) = records.next()? {
                newest.take(&record)?;
            }
        }
        Ok(newest.settled)
    }

    /// The piece from which on so many settled, at the least: those that are in rows are counted.
    fn start(&self, pieces: &[Piece], count: usize) -> Result<usize, WarehouseError> {
        let mut settled = 0;
        for (place, piece) in pieces.iter().enumerate().rev() {
            let Some(projection) = piece.projection.as_ref().filter(|_| piece.pruned.is_none())
            else {
                continue;
            };
            // The first measure counts exchanges.
            let exchanges = self.read(piece, projection, |projection| {
                let rows = projection.head.rows;
                let column = projection.column(MEASURES, rows)?;
                Ok(column.sums(&vec![0; rows], &[rows as u64])?[0])
            })?;
            settled += usize::try_from(exchanges).unwrap_or(0);
            if settled >= count {
                return Ok(place);
            }
        }
        Ok(0)
    }
}

struct Newest {
    ledger: Ledger,
    settled: VecDeque<Exchange>,
    count: usize,
}

impl Newest {
    fn take(&mut self, record: &RawRecord<'_>) -> Result<(), WarehouseError> {
        match record.decode()?.body {
            Body::Admitted(admission) => self.ledger.admit(admission)?,
            Body::Dispatched(dispatch) => self.ledger.dispatch(dispatch)?,
            Body::AttemptEnded(end) => self.ledger.end(end)?,
            Body::Settled(settlement) => {
                self.settled.push_back(self.ledger.settle(settlement)?);
                if self.settled.len() > self.count {
                    self.settled.pop_front();
                }
            }
            Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) | Body::Unknown { .. } => {}
        }
        Ok(())
    }
}

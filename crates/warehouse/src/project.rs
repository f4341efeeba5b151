//! Makes projections: a pure function of the records of one segment, up to a position in it.

use std::collections::BTreeMap;

use facts::Exchange;
use journal::{Body, RawRecord, Segment, Storage};
use ledger::Ledger;
use quantity::{ExchangeId, UnixTime, WriterId};

use crate::bytes::{Taker, put_counted};
use crate::column::{Builder, Column};
use crate::flat::{self, FLAT};
use crate::labels::{DIMENSIONS, LabelBuilder, TAGS, number, tag_set};
use crate::projection::{
    ADMITTED_AT, BUSY_FROM, BUSY_ROW, BUSY_UNTIL, BUSY_USEFUL, CODES, DICTIONARIES, Head, LOOSE,
    MEASURES, encode,
};
use crate::{Unsound, WarehouseError};

/// The projection of what a segment holds before `end`, or of all it holds now.
///
/// Exchanges that were admitted and settled in it become rows. The records of others are kept as they
/// are, with those of prices, adjustments and gaps: the ledger that reads the loose records of all
/// segments in order finds the exchanges that span them.
pub(crate) fn project<S: Storage>(
    journal: &S,
    segment: &Segment,
    end: Option<u64>,
) -> Result<Vec<u8>, WarehouseError> {
    let mut records = segment.records(journal, None)?;
    let mut sorter = Sorter::default();
    let mut unknown = 0;
    while end.is_none_or(|end| records.position().offset < end) {
        let Some(record) = records.next()? else { break };
        let body = record.decode()?.body;
        if let Body::Unknown { .. } = body {
            unknown += 1;
        } else {
            sorter.take(&record, body)?;
        }
    }
    let (table, loose) = sorter.finish();
    let head = Head {
        position: records.position(),
        rows: table.rows,
        span: table.span.unwrap_or((UnixTime::from_nanos(0), UnixTime::from_nanos(0))),
        missing: crate::counted(records.missing()),
        unknown,
    };
    let mut columns = table.finish();
    columns.push((LOOSE, Column::of_bytes(loose)));
    Ok(encode(&head, &columns))
}

/// The exchange that a record is of.
pub(crate) fn exchange(body: &Body) -> Option<ExchangeId> {
    match body {
        Body::Admitted(admission) => Some(admission.exchange),
        Body::Dispatched(dispatch) => Some(dispatch.exchange),
        Body::AttemptEnded(end) => Some(end.exchange),
        Body::Settled(settlement) => Some(settlement.exchange),
        Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) | Body::Unknown { .. } => None,
    }
}

/// Sequence and bytes of a record that may have to be kept.
type Kept = (u64, Vec<u8>);

/// Tells exchanges that are whole in a segment from the rest.
#[derive(Default)]
struct Sorter {
    ledger: Ledger,
    /// The records of exchanges that were admitted here and are not settled.
    open: BTreeMap<ExchangeId, Vec<Kept>>,
    loose: Vec<Kept>,
    table: Table,
}

impl Sorter {
    fn take(&mut self, record: &RawRecord<'_>, body: Body) -> Result<(), WarehouseError> {
        if let Body::Admitted(admission) = &body {
            self.open.entry(admission.exchange).or_default();
        }
        let Some(exchange) = exchange(&body) else {
            // Prices of a row too: when this segment is pruned, charges that are kept may name it.
            if let Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) = body {
                self.loose.push(kept(record));
            }
            return Ok(());
        };
        // Admitted in an earlier segment, or never: the ledger of all segments knows.
        let Some(open) = self.open.get_mut(&exchange) else {
            self.loose.push(kept(record));
            return Ok(());
        };
        match body {
            Body::Admitted(admission) => self.ledger.admit(admission)?,
            Body::Dispatched(dispatch) => self.ledger.dispatch(dispatch)?,
            Body::AttemptEnded(end) => self.ledger.end(end)?,
            Body::Settled(settlement) => {
                self.table.add(&self.ledger.settle(settlement)?);
                self.open.remove(&exchange);
                return Ok(());
            }
            Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) | Body::Unknown { .. } => {}
        }
        open.push(kept(record));
        Ok(())
    }

    /// The rows, and the loose records in the order of their sequence.
    fn finish(self) -> (Table, Vec<u8>) {
        let mut loose = self.loose;
        loose.extend(self.open.into_values().flatten());
        loose.sort_by_key(|(sequence, _)| *sequence);
        (self.table, loose.into_iter().flat_map(|(_, bytes)| bytes).collect())
    }
}

/// A record in the block of loose ones: sequence (u64), kind, version (u8 each), flags (u16), and its
/// body after its length (u32).
fn kept(record: &RawRecord<'_>) -> Kept {
    let mut bytes = Vec::with_capacity(16 + record.body.len());
    bytes.extend_from_slice(&record.sequence.to_le_bytes());
    bytes.extend_from_slice(&[record.kind, record.version]);
    bytes.extend_from_slice(&record.flags.to_le_bytes());
    put_counted(&mut bytes, record.body);
    (record.sequence, bytes)
}

/// The records in a block of loose ones.
pub(crate) fn loose(block: &[u8], writer: WriterId) -> Result<Vec<RawRecord<'_>>, Unsound> {
    let mut records = Vec::new();
    let mut taker = Taker(block);
    while !taker.0.is_empty() {
        records.push(RawRecord {
            writer,
            sequence: taker.u64()?,
            kind: taker.u8()?,
            version: taker.u8()?,
            flags: taker.u16()?,
            body: taker.counted()?,
        });
    }
    Ok(records)
}

/// The rows so far, column by column.
struct Table {
    rows: usize,
    span: Option<(UnixTime, UnixTime)>,
    admitted_at: Builder,
    labels: [LabelBuilder; DIMENSIONS.len()],
    tags: LabelBuilder,
    measures: [Builder; FLAT],
    hosted: usize,
    busy: [Builder; 4],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: 0,
            span: None,
            admitted_at: Builder::default(),
            labels: Default::default(),
            tags: LabelBuilder::default(),
            measures: std::array::from_fn(|_| Builder::default()),
            hosted: 0,
            busy: Default::default(),
        }
    }
}

impl Table {
    fn add(&mut self, exchange: &Exchange) {
        if !exchange.is_counted() {
            return;
        }
        let at = exchange.admission.at;
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        let tags = tag_set(exchange);
        for (attempt, measures) in exchange.rows() {
            let row = self.rows;
            self.rows += 1;
            self.admitted_at.set(row, i128::from(at.nanos()));
            for (dimension, column) in DIMENSIONS.iter().zip(&mut self.labels) {
                let value = dimension.of(exchange, attempt);
                column.set(row, value.as_deref().map(str::as_bytes));
            }
            self.tags.set(row, tags.as_deref());
            for (column, number) in self.measures.iter_mut().zip(flat::numbers(&measures)) {
                column.set(row, number);
            }
            let Some(attempt) = attempt else { continue };
            let Some((from, until)) = attempt.hosted_busy() else { continue };
            // The last is unsigned; it comes back by its bits.
            let useful = attempt.useful_tokens().cast_signed();
            let busy = [row as i128, from.nanos().into(), until.nanos().into(), useful.into()];
            for (column, value) in self.busy.iter_mut().zip(busy) {
                column.set(self.hosted, value);
            }
            self.hosted += 1;
        }
    }

    fn finish(self) -> Vec<(u16, Column)> {
        let rows = self.rows;
        let mut columns = vec![(ADMITTED_AT, self.admitted_at.finish(rows))];
        let busy = [BUSY_ROW, BUSY_FROM, BUSY_UNTIL, BUSY_USEFUL];
        columns.extend(busy.into_iter().zip(self.busy.map(|column| column.finish(self.hosted))));
        let labels = self.labels.into_iter().zip(DIMENSIONS.iter().map(number));
        let labels = labels.chain([(self.tags, TAGS)]);
        for (labels, number) in labels {
            let (codes, dictionary) = labels.finish(rows);
            columns.push((CODES + number, codes));
            columns.push((DICTIONARIES + number, Column::of_bytes(dictionary)));
        }
        columns.extend((MEASURES..).zip(self.measures.map(|column| column.finish(rows))));
        columns
    }
}

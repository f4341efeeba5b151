//! Reading a journal back: all of it afresh, or as a follower beside its writer.

use std::collections::{BTreeMap, BTreeSet};

use facts::{ChargeLine, Charged, Exchange, PriceRecord};
use journal::{Body, JournalError, MemoryStorage, Reader, Record};
use ledger::Ledger;
use quantity::{Billable, ExchangeId, PriceRowId};
use tariff::PriceRow;

use crate::Violation;
use crate::hours::Rate;
use crate::model::prices_in;

/// What a journal says.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) ledger: Ledger,
    /// With the number of their attempts.
    pub(crate) admitted: BTreeMap<ExchangeId, usize>,
    pub(crate) settled: BTreeMap<ExchangeId, Exchange>,
    pub(crate) records: u64,
    /// What upstreams cost by the hour.
    pub(crate) rates: Vec<Rate>,
    /// Price rows, with the prices in their text.
    rows: BTreeMap<PriceRowId, BTreeSet<i128>>,
}

/// Why a journal could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Journal(JournalError),
    Broken(Violation),
}

impl Replay {
    /// Reads a journal from its beginning. Tells too whether its end is torn.
    pub(crate) fn read(storage: &MemoryStorage) -> Result<(Self, bool), ReadError> {
        let mut replay = Self::default();
        let mut reader = Reader::open(storage.clone()).map_err(ReadError::Journal)?;
        while let Some(record) = reader.next().map_err(ReadError::Journal)? {
            let record = record.decode().map_err(ReadError::Journal)?;
            replay.take(record).map_err(ReadError::Broken)?;
        }
        let torn = reader.tails().next().is_some() || !reader.missing().is_empty();
        Ok((replay, torn))
    }

    fn take(&mut self, record: Record) -> Result<(), Violation> {
        self.records += 1;
        let broken = |error: ledger::LedgerError| Violation::new("SIM-1", error.to_string());
        match record.body {
            Body::Admitted(admission) => {
                if self.admitted.insert(admission.exchange, 0).is_some() {
                    let what = format!("{} is admitted twice", admission.exchange);
                    return Err(Violation::new("SIM-1", what));
                }
                self.ledger.admit(admission).map_err(broken)
            }
            Body::Dispatched(dispatch) => {
                *self.admitted.entry(dispatch.exchange).or_default() += 1;
                self.ledger.dispatch(dispatch).map_err(broken)
            }
            Body::AttemptEnded(end) => {
                if let Charged::Priced { row, lines } = &end.charged {
                    let prices = self.rows.get(row);
                    let priced = |line: &ChargeLine| {
                        // Searches are priced by the thousand, tokens by the million.
                        let scale = if matches!(line.item, Billable::Unit(_)) { 1000 } else { 1 };
                        let price = i128::from(line.price.pico());
                        prices.is_some_and(|prices| prices.contains(&(price / scale)))
                    };
                    if prices.is_none() || !lines.iter().all(priced) {
                        let sequence = record.sequence;
                        let what =
                            format!("record {sequence} charges at no row before it: {end:?}");
                        return Err(Violation::new("SIM-4", what));
                    }
                }
                self.ledger.end(end).map_err(broken)
            }
            Body::Settled(settlement) => {
                let exchange = self.ledger.settle(settlement).map_err(broken)?;
                let id = settlement.exchange;
                if !self.admitted.contains_key(&id) || self.settled.insert(id, exchange).is_some() {
                    let what = format!("{id} settles twice or unadmitted");
                    return Err(Violation::new("SIM-1", what));
                }
                Ok(())
            }
            Body::Price(PriceRecord::PerUse { row, text }) => {
                match PriceRow::parse(&text) {
                    Ok(parsed) if parsed.id() == row => {}
                    _ => return Err(Violation::new("SIM-4", format!("{row} is not `{text}`"))),
                }
                self.rows.insert(row, prices_in(&text));
                Ok(())
            }
            Body::Price(PriceRecord::PerHour { upstream, cost, from }) => {
                self.rates.push((upstream, cost, from));
                Ok(())
            }
            other @ (Body::Adjusted(_) | Body::Gap(_) | Body::Unknown { .. }) => {
                Err(Violation::new("SIM-2", format!("nobody wrote {other:?}")))
            }
        }
    }
}

/// Follows a journal while it is written.
pub(crate) struct Follower {
    storage: MemoryStorage,
    reader: Reader<MemoryStorage>,
    pub(crate) replay: Replay,
}

impl Follower {
    pub(crate) fn new(storage: &MemoryStorage) -> Result<Self, Violation> {
        let reader = Reader::open(storage.clone()).map_err(sound)?;
        Ok(Self { storage: storage.clone(), reader, replay: Replay::default() })
    }

    /// Goes on at the same place on what is left of the disk.
    pub(crate) fn move_to(&mut self, storage: &MemoryStorage) -> Result<(), Violation> {
        self.storage = storage.clone();
        match Reader::resume(storage.clone(), &self.reader.position()) {
            Ok(reader) => self.reader = reader,
            Err(JournalError::Rewound { .. }) => *self = Self::new(storage)?,
            Err(error) => return Err(sound(error)),
        }
        Ok(())
    }

    /// Reads what was written since.
    pub(crate) fn poll(&mut self) -> Result<(), Violation> {
        loop {
            match self.reader.next() {
                Ok(Some(record)) => {
                    let record = record.decode().map_err(sound)?;
                    self.replay.take(record)?;
                }
                Ok(None) => return Ok(()),
                Err(JournalError::Rewound { .. }) => *self = Self::new(&self.storage)?,
                Err(error) => return Err(sound(error)),
            }
        }
    }
}

/// No journal is damaged until the end of a simulation.
pub(crate) fn sound(error: JournalError) -> Violation {
    Violation::new("SIM-9", format!("a sound journal is refused: {error}"))
}

//! The ledger: the state machine over the journal's records.
//!
//! An exchange is admitted, each of its attempts is dispatched and ends, and it settles exactly once.
//! A [`Ledger`] takes records in the order of their stream and hands out whole exchanges; what breaks
//! the rules is a [`LedgerError`], for it means that something was counted twice or never.

use std::collections::{BTreeMap, BTreeSet};

use facts::{
    Adjustment, Admission, Attempt, AttemptEnd, Charged, Dispatch, End, Exchange, Settlement,
    Verdict,
};
use quantity::{ExchangeId, Metered, UnixTime};

/// Settled exchanges that are remembered, so that one that comes again is not counted twice. More
/// than any segment of a journal holds in flight, and about 2 MB.
const REMEMBERED: usize = 1 << 16;

/// Exchanges that are admitted and not settled, and the ids of the newest that are.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeMap<ExchangeId, Open>,
    settled: BTreeSet<ExchangeId>,
}

#[derive(Debug)]
struct Open {
    admission: Admission,
    attempts: Vec<Attempt>,
    running: Option<Dispatch>,
}

/// A record that its exchange's state forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It was admitted already, and may even be settled.
    #[error("exchange {0} is admitted twice")]
    AdmittedTwice(ExchangeId),
    /// It was never admitted, or it is settled already.
    #[error(
        "exchange {exchange} has a record `{record}` but is not open: never admitted, or settled"
    )]
    NotOpen {
        /// The exchange.
        exchange: ExchangeId,
        /// The record.
        record: &'static str,
    },
    /// The attempt is not the one expected.
    #[error("exchange {exchange} has a record `{record}` of attempt {found}, expected {expected}")]
    WrongAttempt {
        /// The exchange.
        exchange: ExchangeId,
        /// The record.
        record: &'static str,
        /// The ordinal found.
        found: u32,
        /// What was expected.
        expected: &'static str,
    },
    /// It is to be settled while an attempt runs.
    #[error("exchange {0} settles while an attempt runs")]
    StillRunning(ExchangeId),
    /// It is adjusted before it is settled.
    #[error("exchange {0} is adjusted before it is settled")]
    AdjustedOpen(ExchangeId),
}

impl Ledger {
    /// Takes an admission.
    ///
    /// # Errors
    /// [`LedgerError::AdmittedTwice`].
    pub fn admit(&mut self, admission: Admission) -> Result<(), LedgerError> {
        let exchange = admission.exchange;
        if self.open.contains_key(&exchange) || self.settled.contains(&exchange) {
            return Err(LedgerError::AdmittedTwice(exchange));
        }
        self.open.insert(exchange, Open { admission, attempts: Vec::new(), running: None });
        Ok(())
    }

    /// Takes a dispatch.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`], or [`LedgerError::WrongAttempt`] if it is not the next attempt or
    /// another one runs.
    pub fn dispatch(&mut self, dispatch: Dispatch) -> Result<(), LedgerError> {
        const RECORD: &str = "dispatched";
        let (exchange, found) = (dispatch.exchange, dispatch.ordinal);
        let open = self.open_mut(exchange, RECORD)?;
        if open.running.is_some() || open.attempts.len() != found as usize {
            let expected = "the next one, after the one before has ended";
            return Err(LedgerError::WrongAttempt { exchange, record: RECORD, found, expected });
        }
        open.running = Some(dispatch);
        Ok(())
    }

    /// Takes the end of an attempt.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`], or [`LedgerError::WrongAttempt`] if that attempt does not run.
    pub fn end(&mut self, end: AttemptEnd) -> Result<(), LedgerError> {
        const RECORD: &str = "attempt-ended";
        let (exchange, found) = (end.exchange, end.ordinal);
        let open = self.open_mut(exchange, RECORD)?;
        let Some(dispatch) = open.running.take_if(|running| running.ordinal == found) else {
            let expected = "the one that runs";
            return Err(LedgerError::WrongAttempt { exchange, record: RECORD, found, expected });
        };
        open.attempts.push(Attempt { dispatch, end });
        Ok(())
    }

    /// Takes a settlement and hands out the exchange.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`] or [`LedgerError::StillRunning`].
    pub fn settle(&mut self, settlement: Settlement) -> Result<Exchange, LedgerError> {
        let exchange = settlement.exchange;
        if self.open_mut(exchange, "settled")?.running.is_some() {
            return Err(LedgerError::StillRunning(exchange));
        }
        let open = self.open.remove(&exchange).expect("open: looked at above");
        self.remember(exchange);
        Ok(Exchange { admission: open.admission, attempts: open.attempts, settlement })
    }

    /// Takes an adjustment. Whether its exchange was ever settled cannot be told: the ledger forgets.
    ///
    /// # Errors
    /// [`LedgerError::AdjustedOpen`].
    pub fn adjust(&self, adjustment: &Adjustment) -> Result<(), LedgerError> {
        let exchange = adjustment.exchange;
        if self.open.contains_key(&exchange) {
            return Err(LedgerError::AdjustedOpen(exchange));
        }
        Ok(())
    }

    /// Exchanges that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What ends the exchanges that a dead gateway left open: their running attempts are lost, what
    /// they consumed is unknown, and they settle as unknown. To be journalled, and applied here as
    /// any other record.
    #[must_use]
    pub fn lost(&self, now: UnixTime) -> Vec<(Option<AttemptEnd>, Settlement)> {
        let ends = self.open.iter().map(|(&exchange, open)| {
            let end = open.running.as_ref().map(|dispatch| lost(dispatch, now));
            (end, Settlement { exchange, at: now, verdict: Verdict::Unknown })
        });
        ends.collect()
    }

    /// Ids are ordered by time: the least is the oldest.
    fn remember(&mut self, exchange: ExchangeId) {
        self.settled.insert(exchange);
        if self.settled.len() > REMEMBERED {
            self.settled.pop_first();
        }
    }

    fn open_mut(
        &mut self,
        exchange: ExchangeId,
        record: &'static str,
    ) -> Result<&mut Open, LedgerError> {
        self.open.get_mut(&exchange).ok_or(LedgerError::NotOpen { exchange, record })
    }
}

fn lost(dispatch: &Dispatch, now: UnixTime) -> AttemptEnd {
    let bound = dispatch.bound.map(|bound| format!(", at most ${bound} by its request"));
    AttemptEnd {
        exchange: dispatch.exchange,
        ordinal: dispatch.ordinal,
        first_byte_at: None,
        first_token_at: None,
        last_token_at: None,
        at: now,
        status: None,
        end: End::Lost,
        error: None,
        response_id: None,
        model_served: None,
        tier_served: None,
        region_served: None,
        finish_reason: None,
        metered: Metered::unknown(),
        raw_usage: None,
        response_bytes: 0,
        tools_called: Vec::new(),
        charged: Charged::Unpriced {
            reason: format!(
                "usage unknown: the gateway stopped before it settled{}",
                bound.unwrap_or_default()
            ),
        },
        told: None,
    }
}

#[cfg(test)]
mod tests;

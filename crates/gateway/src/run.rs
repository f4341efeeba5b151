//! One exchange from its admission to its settlement.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use facts::{
    Admission, Api, Attempt, AttemptEnd, Charged, Dispatch, End, Exchange, PriceRecord, Settlement,
    Verdict,
};
use journal::{Batch, JournalError, Permit, Ticket};
use metering::{AttemptMeter, Close, Served, Step, charge};
use quantity::{Metered, Money, PriceRowId, UnixTime};
use tokio::time::{Instant, timeout};

use crate::clock::Timer;
use crate::shared::Shared;

/// An exchange under way. However it ends, also when it is dropped because its client left, it
/// settles exactly once: its permit is a place in the journal that it always had.
pub(crate) struct Run {
    shared: Arc<Shared>,
    permit: Permit,
    timer: Timer,
    /// Nothing of the running attempt was sent yet.
    unsent: bool,
    /// `None` once settled.
    open: Option<Open>,
    /// What it cost, once settled and where that is known.
    cost: Option<Money>,
    /// Price rows in a settlement that is not known to be written.
    new_rows: Vec<PriceRowId>,
}

struct Open {
    admission: Admission,
    /// Attempts that ended.
    attempts: Vec<Attempt>,
    running: Option<AttemptMeter>,
    /// Records of ended attempts that are not on the journal yet, and the price rows among them.
    unwritten: Batch,
    new_rows: Vec<PriceRowId>,
}

impl Run {
    /// Journals admission and dispatch, and waits until they are there. Whoever asked may have lost
    /// patience by then, and the client was refused: it settles as never sent.
    ///
    /// # Errors
    /// Those of the journal: then there is nothing to settle, and nothing may be sent.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        permit: Permit,
        timer: Timer,
        admission: Admission,
        meter: AttemptMeter,
    ) -> Result<Self, JournalError> {
        let mut batch = Batch::new();
        batch.push(&admission)?;
        batch.push(meter.dispatch())?;
        let waited = written(&shared, permit.offer(&batch), permit.passes()).await?;
        shared.metrics.open.fetch_add(1, Relaxed);
        let open = Open {
            admission,
            attempts: Vec::new(),
            running: Some(meter),
            unwritten: Batch::new(),
            new_rows: Vec::new(),
        };
        let open = Some(open);
        let run =
            Self { shared, permit, timer, unsent: true, open, cost: None, new_rows: Vec::new() };
        run.in_time(waited)
    }

    /// Journals the end of the attempt before and the dispatch of the next, and waits until they are
    /// there.
    ///
    /// # Errors
    /// Those of the journal: then nothing may be sent. The exchange settles with the attempts it had.
    pub(crate) async fn go_on(mut self, meter: AttemptMeter) -> Result<Self, JournalError> {
        let Some(open) = &mut self.open else { return Err(JournalError::Closed) };
        let mut batch = open.unwritten.clone();
        batch.push(meter.dispatch())?;
        let passes = self.permit.passes();
        let outcome = written(&self.shared, self.permit.offer(&batch), passes).await;
        match outcome {
            Ok(waited) => {
                let new_rows = open.new_rows.drain(..).filter(|_| self.permit.is_journalled());
                self.shared.rows.insert(new_rows);
                open.unwritten = Batch::new();
                open.running = Some(meter);
                self.unsent = true;
                self.in_time(waited)
            }
            Err(error) => {
                drop(self.settle(Close::BodyEnd));
                Err(error)
            }
        }
    }

    /// Settles what was journalled after its client was refused: it is never sent.
    fn in_time(mut self, waited: Duration) -> Result<Self, JournalError> {
        if self.permit.passes() || waited < self.shared.settings.ledger_timeout {
            return Ok(self);
        }
        drop(self.settle(Close::Unreachable));
        Err(JournalError::Stalled { seconds: waited.as_secs() })
    }

    /// The running attempt is sent now.
    pub(crate) fn sent(&mut self) {
        self.unsent = false;
    }

    /// The time, as this exchange counts it.
    pub(crate) fn now(&self) -> UnixTime {
        self.timer.now()
    }

    /// The head of the response came, and may have told a cost. Tells whether events follow that are
    /// read.
    pub(crate) fn head(
        &mut self,
        status: u16,
        content_type: Option<&str>,
        encoded: bool,
        cost: Option<&str>,
    ) -> bool {
        let now = self.timer.now();
        let Some(meter) = self.running() else { return false };
        meter.head(status, content_type, now);
        if encoded {
            meter.encoded();
        }
        if let Some(cost) = cost {
            meter.told(cost);
        }
        meter.streams()
    }

    /// Reads a chunk of the response.
    pub(crate) fn push(&mut self, chunk: bytes::Bytes) -> Step {
        let now = self.timer.now();
        match self.running() {
            Some(meter) => meter.push(chunk, now),
            // What follows the terminal event.
            None => Step { forward: vec![chunk], last: None },
        }
    }

    /// The body ended.
    pub(crate) fn body_end(&mut self) -> Step {
        self.running().map(AttemptMeter::body_end).unwrap_or_default()
    }

    /// The client left, and the rest is read all the same. Tells whether there is something to read.
    pub(crate) fn abandon(&mut self) -> bool {
        self.running().map(AttemptMeter::abandoned).is_some()
    }

    fn running(&mut self) -> Option<&mut AttemptMeter> {
        self.open.as_mut()?.running.as_mut()
    }

    /// Ends the running attempt and prices it; its record is written with what comes next. Gives the
    /// attempt that ended last.
    pub(crate) fn end(&mut self, how: Close) -> Option<&AttemptEnd> {
        let now = self.timer.now();
        let shared = &self.shared;
        let open = self.open.as_mut()?;
        if let Some(meter) = open.running.take() {
            let dispatch = meter.dispatch().clone();
            let upstream = shared.upstream(&dispatch.upstream);
            let is_unmetered = open.admission.api == Api::Unmetered;
            let mut new_row = None;
            let price = |dispatch: &Dispatch, served: Served<'_>, metered: &Metered| {
                if upstream.is_some_and(|upstream| upstream.hourly_cost.is_some()) {
                    return (Charged::Hosted, None);
                }
                if is_unmetered {
                    return (Charged::Unpriced { reason: "not metered".to_owned() }, None);
                }
                let (charged, row) = charge(&shared.book, dispatch, served, metered);
                new_row = row
                    .filter(|row| !shared.rows.contains(row.id()))
                    .map(|row| PriceRecord::PerUse { row: row.id(), text: row.to_text() });
                (charged, row)
            };
            let mut end = meter.close_learning(how, now, &mut shared.metrics.learner(), price);
            if let Some(upstream) = upstream {
                shared.metrics.ended(upstream.convention, &end);
                // A word may be all of a key.
                let key = upstream.key.as_deref().filter(|key| !key.is_empty());
                if end.error.as_deref().zip(key).is_some_and(|(error, key)| error.contains(key)) {
                    end.error = Some("error".to_owned());
                }
            }
            let encoded = new_row.iter().try_for_each(|row| open.unwritten.push(row));
            let encoded = encoded.and_then(|()| open.unwritten.push(&end));
            // Every field is bounded where it is read, so that a record is never too large.
            debug_assert!(encoded.is_ok(), "{encoded:?}");
            if let Some(PriceRecord::PerUse { row, .. }) = new_row {
                open.new_rows.push(row);
            }
            open.attempts.push(Attempt { dispatch, end });
        }
        open.attempts.last().map(|attempt| &attempt.end)
    }

    /// Settles the exchange by how its last attempt ended, and puts it on the journal. Its last bytes
    /// may go once the ticket is good. `None` if it is settled already.
    pub(crate) fn settle(&mut self, how: Close) -> Option<Ticket> {
        let verdict = verdict(self.end(how)?);
        self.settle_as(verdict)
    }

    fn settle_as(&mut self, verdict: Verdict) -> Option<Ticket> {
        let Open { admission, attempts, mut unwritten, new_rows, .. } = self.open.take()?;
        let shared = &self.shared;
        let at = self.timer.now();
        let settlement = Settlement { exchange: admission.exchange, at, verdict };
        let encoded = unwritten.push(&settlement);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        let ticket = self.permit.submit(&unwritten);
        self.new_rows = new_rows;
        self.cost = attempts.iter().map(|attempt| attempt.end.charged.cost()).sum();
        let exchange = Arc::new(Exchange { admission, attempts, settlement });
        shared.metrics.open.fetch_sub(1, Relaxed);
        shared.metrics.settled(&exchange);
        shared.recent.insert(&exchange);
        shared.watch.settled(&exchange);
        Some(ticket)
    }

    /// The settlement's ticket was good. Only now are its price rows known to others: who finds a row
    /// known leaves it out, and the disk may have been full. Two that find it new at once both write
    /// it, which does no harm.
    pub(crate) fn written(&mut self) {
        let new_rows = self.new_rows.drain(..).filter(|_| self.permit.is_journalled());
        self.shared.rows.insert(new_rows);
    }

    /// How long it may wait for the journal.
    pub(crate) fn ledger_timeout(&self) -> Duration {
        self.shared.settings.ledger_timeout
    }

    /// What it cost, once settled and where that is known.
    pub(crate) fn cost(&self) -> Option<Money> {
        self.cost
    }
}

/// A client that leaves drops its request's future or its response's body, while an attempt runs or
/// between two.
impl Drop for Run {
    fn drop(&mut self) {
        self.end(if self.unsent { Close::Unreachable } else { Close::ClientGone });
        let ended = |open: &Open| open.attempts.last().map(|attempt| attempt.end.end);
        let whole = self.open.as_ref().and_then(ended) == Some(End::Complete);
        // The ticket's outcome is of no use to anyone who is still there; the journal's own status
        // shows a failure.
        drop(self.settle_as(if whole { Verdict::Completed } else { Verdict::Aborted }));
    }
}

/// Waits until records are on the journal, and tells for how long; no longer than the settings allow if
/// the exchange goes on in any case.
async fn written(shared: &Shared, ticket: Ticket, passes: bool) -> Result<Duration, JournalError> {
    let begun = Instant::now();
    if passes {
        // The records are kept, or will be.
        let _ = timeout(shared.settings.ledger_timeout, ticket).await;
    } else {
        ticket.await?;
    }
    Ok(begun.elapsed())
}

fn verdict(end: &AttemptEnd) -> Verdict {
    match end.end {
        End::Complete => Verdict::Completed,
        End::ClientGone => Verdict::Aborted,
        End::Refused
        | End::UpstreamError
        | End::StreamError
        | End::Cut
        | End::Unreachable
        | End::Timeout => Verdict::Failed,
        End::Lost => Verdict::Unknown,
    }
}

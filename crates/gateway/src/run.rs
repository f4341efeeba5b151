//! One exchange from its admission to its settlement.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use facts::{
    Admission, Attempt, AttemptEnd, Charged, Dispatch, End, Exchange, PriceRecord, Settlement,
    Verdict,
};
use journal::{Batch, JournalError, Permit, Ticket};
use metering::{AttemptMeter, Close, Step, charge};
use quantity::{Metered, Money, PriceRowId};

use crate::clock::Timer;
use crate::server::Shared;

/// Price rows that are on the journal since this process started.
#[derive(Debug, Default)]
pub(crate) struct KnownRows(Mutex<HashSet<PriceRowId>>);

/// An exchange with its attempt under way. However it ends, also when it is dropped because its
/// client left, it settles exactly once: its permit is a place in the journal that it always had.
pub(crate) struct Run {
    shared: Arc<Shared>,
    permit: Permit,
    timer: Timer,
    /// `None` once settled.
    open: Option<Open>,
    /// What it cost, once settled and where that is known.
    cost: Option<Money>,
}

struct Open {
    admission: Admission,
    meter: AttemptMeter,
}

impl Run {
    /// Journals admission and dispatch, and waits until they are there.
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
        permit.submit(&batch).await?;
        shared.metrics.open.fetch_add(1, Relaxed);
        Ok(Self { shared, permit, timer, open: Some(Open { admission, meter }), cost: None })
    }

    /// The head of the response came. Tells whether events follow.
    pub(crate) fn head(&mut self, status: u16, content_type: Option<&str>) -> bool {
        let now = self.timer.now();
        let Some(open) = &mut self.open else { return false };
        open.meter.head(status, content_type, now);
        open.meter.streams()
    }

    /// Reads a chunk of the response.
    pub(crate) fn push(&mut self, chunk: bytes::Bytes) -> Step {
        match &mut self.open {
            Some(open) => open.meter.push(chunk, self.timer.now()),
            // What follows the terminal event.
            None => Step { forward: vec![chunk], last: None },
        }
    }

    /// The body ended.
    pub(crate) fn body_end(&mut self) -> Step {
        self.open.as_mut().map(|open| open.meter.body_end()).unwrap_or_default()
    }

    /// Settles the exchange: prices it and puts it on the journal. Its last bytes may go once the
    /// ticket is good. `None` if it is settled already.
    pub(crate) fn settle(&mut self, how: Close) -> Option<Ticket> {
        let Open { admission, meter } = self.open.take()?;
        let shared = &self.shared;
        let now = self.timer.now();
        let dispatch = meter.dispatch().clone();
        let mut new_row = None;
        let price =
            |dispatch: &Dispatch, model: Option<&str>, tier: Option<&str>, metered: &Metered| {
                if shared.is_hosted(&dispatch.upstream) {
                    return Charged::Hosted;
                }
                let (charged, row) = charge(&shared.book, dispatch, model, tier, metered);
                new_row = row
                    .filter(|row| !shared.rows.contains(row.id()))
                    .map(|row| PriceRecord::PerUse { row: row.id(), text: row.to_text() });
                charged
            };
        let end = meter.close(how, now, price);
        self.cost = end.charged.cost();
        let verdict = verdict(&end);
        let settlement = Settlement { exchange: admission.exchange, at: now, verdict };
        let mut batch = Batch::new();
        let encoded = new_row
            .iter()
            .try_for_each(|row| batch.push(row))
            .and_then(|()| batch.push(&end))
            .and_then(|()| batch.push(&settlement));
        // Every field is bounded where it is read, so that a record is never too large.
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        let ticket = self.permit.submit(&batch);
        // Only now: whoever finds it known comes after it in the journal. Two that find it new at once
        // both write it, which does no harm.
        if let Some(PriceRecord::PerUse { row, .. }) = new_row {
            shared.rows.insert(row);
        }
        let attempts = vec![Attempt { dispatch, end }];
        let exchange = Arc::new(Exchange { admission, attempts, settlement });
        shared.metrics.open.fetch_sub(1, Relaxed);
        shared.metrics.settled(&exchange);
        shared.recent.insert(&exchange);
        shared.watch.settled(&exchange);
        Some(ticket)
    }

    /// What it cost, once settled and where that is known.
    pub(crate) fn cost(&self) -> Option<Money> {
        self.cost
    }
}

/// A client that leaves drops its request's future or its response's body.
impl Drop for Run {
    fn drop(&mut self) {
        // The ticket's outcome is of no use to anyone who is still there; the journal's own status
        // shows a failure.
        drop(self.settle(Close::ClientGone));
    }
}

impl KnownRows {
    fn contains(&self, row: PriceRowId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&row)
    }

    fn insert(&self, row: PriceRowId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
    }
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

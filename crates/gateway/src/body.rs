//! The body that a client receives: the upstream's, metered on the way, its end held back until the
//! exchange is on the journal.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use facts::AttemptEnd;
use hyper::body::{Body, Frame};
use journal::{JournalError, Ticket};
use metering::{Close, Step};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::redact::Blotter;
use crate::run::Run;
use crate::settings::Limits;
use crate::upstream::Incoming;

/// Why a body broke off. The client sees a connection that ends too early, which is what happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream,
    /// The upstream took longer than its limits allow.
    #[error("the upstream took too long")]
    Timeout,
    /// The settlement could not be written, so the response must not look complete.
    #[error("the exchange could not be settled: {0}")]
    Journal(#[from] JournalError),
}

/// Either a whole reply of our own, or an upstream's that passes through.
pub(crate) enum Reply {
    /// Whole.
    Whole(Option<Bytes>),
    /// Metered; `None` once its client left.
    Metered(Option<Box<Metered>>),
}

/// An upstream's body on its way.
pub(crate) struct Metered {
    upstream: Incoming,
    run: Run,
    patience: Patience,
    ready: VecDeque<Bytes>,
    /// Bytes that complete the response, and how it came to that; the exchange is still to be settled.
    finished: Option<(Close, Vec<Bytes>)>,
    /// The same, and the settlement that they wait for.
    settling: Option<(Ticket, Vec<Bytes>)>,
    /// When it has waited for that long enough.
    settling_until: Option<Pin<Box<Sleep>>>,
    /// How the upstream's body ended, once it has.
    ended: Option<Result<(), BodyError>>,
    /// Whether the connection had a moment to send what it has, before the body fails.
    flushed: bool,
    /// Blots the upstream's key out of an error.
    blotter: Option<Blotter>,
    /// Where there is a place to read on once the client left; `None` if it is not to be.
    drains: Option<Arc<Semaphore>>,
    /// Its place among the upstream's attempts.
    _slot: Option<OwnedSemaphorePermit>,
}

/// How long an upstream's body may take.
pub(crate) struct Patience {
    idle: Duration,
    /// When the whole reply has to be there.
    deadline: Instant,
    last_chunk: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Patience for an attempt that was sent at `sent`.
    pub(crate) fn new(limits: &Limits, sent: Instant) -> Self {
        let deadline = sent + limits.total;
        Self { idle: limits.idle, deadline, last_chunk: Instant::now(), alarm: None }
    }

    /// Whether it ran out. The alarm is set once and looks again when it rings, so that a chunk costs
    /// no more than a look at the clock.
    fn ran_out(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            let due = self.deadline.min(self.last_chunk + self.idle);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.as_mut().poll(context).is_pending() {
                return false;
            }
            if Instant::now() >= due {
                return true;
            }
            alarm.as_mut().reset(due);
        }
    }
}

impl Metered {
    pub(crate) fn new(
        upstream: Incoming,
        run: Run,
        patience: Patience,
        slot: Option<OwnedSemaphorePermit>,
        blotter: Option<Blotter>,
        drains: Option<Arc<Semaphore>>,
    ) -> Self {
        Self {
            upstream,
            run,
            patience,
            ready: VecDeque::new(),
            finished: None,
            settling: None,
            settling_until: None,
            ended: None,
            flushed: false,
            blotter,
            drains,
            _slot: slot,
        }
    }

    /// Reads on until something of a stream can be sent, or until a unary reply is whole or `limit`
    /// bytes of it wait. A small reply thus goes out in one piece with its head, and what fails
    /// before can be tried again. Gives how the attempt ended, if it has.
    pub(crate) async fn gather(&mut self, stream: bool, limit: usize) -> Option<&AttemptEnd> {
        poll_fn(|context| {
            loop {
                let waiting: usize = self.ready.iter().map(Bytes::len).sum();
                let enough = if stream { waiting > 0 } else { waiting > limit };
                if enough || self.finished.is_some() || self.ended.is_some() {
                    return Poll::Ready(());
                }
                ready!(self.advance(context));
            }
        })
        .await;
        let (how, _) = self.finished.as_ref()?;
        self.run.end(*how)
    }

    /// Settles a finished exchange and waits until that is on the journal, so that what comes of it is
    /// known before anything is sent.
    pub(crate) async fn settled(&mut self) {
        poll_fn(|context| {
            self.settle();
            self.poll_settled(context)
        })
        .await;
    }

    /// The exchange that it belongs to.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Gives the rest of the reply up.
    pub(crate) fn into_run(self) -> Run {
        self.run
    }

    /// The client left: reads on for the usage alone, if that is wished and there is a place. Else it is
    /// dropped, which ends the upstream's work.
    fn left(mut self: Box<Self>) {
        let over = self.finished.is_some() || self.ended.is_some();
        let place = self.drains.take().filter(|_| !over);
        let place = place.and_then(|drains| drains.try_acquire_owned().ok());
        if let (Some(place), Ok(runtime)) = (place, Handle::try_current())
            && self.run.abandon()
        {
            // It ends with the runtime at the latest, which a shutdown ends.
            runtime.spawn(async move {
                self.drain().await;
                drop(place);
            });
        }
    }

    async fn drain(mut self: Box<Self>) {
        let how = poll_fn(|context| {
            loop {
                self.ready.clear();
                if let Some((how, _)) = self.finished.take() {
                    return Poll::Ready(how);
                }
                ready!(self.advance(context));
            }
        });
        let how = how.await;
        if let Some(ticket) = self.run.settle(how)
            && ticket.await.is_ok()
        {
            self.run.written();
        }
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            self.settle();
            ready!(self.poll_settled(context));
            if !self.ready.is_empty() {
                continue;
            }
            match &mut self.ended {
                Some(Ok(())) => return Poll::Ready(None),
                Some(Err(_)) if !self.flushed => {
                    // A connection whose body fails is closed with what it has not sent, even the
                    // head; it sends whenever a body has nothing for it.
                    self.flushed = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(ended @ Err(_)) => {
                    let error = std::mem::replace(ended, Ok(()));
                    return Poll::Ready(error.err().map(Err));
                }
                None => ready!(self.advance(context)),
            }
        }
    }

    /// Begins to settle, if the response is complete.
    fn settle(&mut self) {
        if let Some((how, last)) = self.finished.take()
            && let Some(ticket) = self.run.settle(how)
        {
            self.settling = Some((ticket, last));
        }
    }

    /// Waits for the settlement, as long as it may take, then lets the last bytes go. One that takes
    /// longer stays on its way to the journal; what the client has must not look complete then, unless
    /// its exchange goes on without the ledger.
    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some((ticket, _)) = &mut self.settling {
            let outcome = match Pin::new(&mut *ticket).poll(context) {
                Poll::Ready(outcome) => outcome.map(|()| self.run.written()),
                Poll::Pending => {
                    let limit = self.run.ledger_timeout();
                    let until = self.settling_until.get_or_insert_with(|| Box::pin(sleep(limit)));
                    ready!(until.as_mut().poll(context));
                    let stalled = JournalError::Stalled { seconds: limit.as_secs() };
                    if ticket.may_pass() { Ok(()) } else { Err(stalled) }
                }
            };
            let (_, last) = self.settling.take().expect("looked at above");
            match outcome {
                Ok(()) => self.ready.extend(last),
                Err(error) => self.ended = Some(Err(error.into())),
            }
        }
        Poll::Ready(())
    }

    /// The upstream's body is over.
    fn body_end(&mut self) -> Step {
        let held = self.blotter.as_mut().map(Blotter::finish);
        let mut before = held.map(|held| self.run.push(held).forward).unwrap_or_default();
        let mut step = self.run.body_end();
        before.append(&mut step.forward);
        Step { forward: before, ..step }
    }

    /// Reads what comes next of the upstream's body.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (step, how, ended) = match self.upstream.poll_chunk(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.patience.last_chunk = Instant::now();
                let chunk = match &mut self.blotter {
                    Some(blotter) => blotter.push(&chunk),
                    None => chunk,
                };
                (self.run.push(chunk), Close::BodyEnd, None)
            }
            Poll::Ready(Some(Err(_))) => {
                (self.body_end(), Close::Reset, Some(Err(BodyError::Upstream)))
            }
            Poll::Ready(None) => (self.body_end(), Close::BodyEnd, Some(Ok(()))),
            Poll::Pending if self.patience.ran_out(context) => {
                (self.body_end(), Close::Timeout, Some(Err(BodyError::Timeout)))
            }
            Poll::Pending => return Poll::Pending,
        };
        self.ready.extend(step.forward);
        if let Some(last) = step.last {
            self.finished = Some((how, last));
        }
        self.ended = ended;
        Poll::Ready(())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Metered(None) => Poll::Ready(None),
            Self::Metered(Some(metered)) => {
                let bytes = ready!(metered.poll_bytes(context));
                Poll::Ready(bytes.map(|result| result.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Metered(None) => true,
            Self::Metered(Some(metered)) => {
                metered.ready.is_empty()
                    && metered.finished.is_none()
                    && metered.settling.is_none()
                    && matches!(metered.ended, Some(Ok(())))
            }
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Metered(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// A client that leaves drops the reply.
impl Drop for Reply {
    fn drop(&mut self) {
        if let Self::Metered(metered) = self
            && let Some(metered) = metered.take()
        {
            metered.left();
        }
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

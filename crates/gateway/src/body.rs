//! The body that a client receives: the upstream's, metered on the way, its end held back until the
//! exchange is on the journal.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use journal::Ticket;
use metering::{Close, Step};

use crate::run::Run;
use crate::upstream::Incoming;

/// Why a body broke off. The client sees a connection that ends too early, which is what happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream,
    /// The settlement could not be written, so the response must not look complete.
    #[error("the exchange could not be settled: {0}")]
    Journal(#[from] journal::JournalError),
}

/// Either a whole reply of our own, or an upstream's that passes through.
pub(crate) enum Reply {
    /// Whole.
    Whole(Option<Bytes>),
    /// Metered.
    Metered(Box<Metered>),
}

/// An upstream's body on its way.
pub(crate) struct Metered {
    upstream: Incoming,
    run: Run,
    ready: VecDeque<Bytes>,
    /// Bytes that complete the response, and the settlement that they wait for.
    settling: Option<(Ticket, Vec<Bytes>)>,
    /// How the upstream's body ended, once it has.
    ended: Option<Result<(), BodyError>>,
    /// Whether the connection had a moment to send what it has, before the body fails.
    flushed: bool,
}

impl Metered {
    pub(crate) fn new(upstream: Incoming, run: Run) -> Self {
        Self { upstream, run, ready: VecDeque::new(), settling: None, ended: None, flushed: false }
    }

    /// Reads on until the reply is whole or `limit` bytes of it wait to be sent. A small reply thus
    /// goes out in one piece with its head.
    pub(crate) async fn gather(&mut self, limit: usize) {
        let mut gathered = VecDeque::new();
        let mut bytes = 0;
        while bytes <= limit {
            match poll_fn(|context| self.poll_bytes(context)).await {
                Some(Ok(piece)) => {
                    bytes += piece.len();
                    gathered.push_back(piece);
                }
                Some(Err(error)) => {
                    self.ended = Some(Err(error));
                    self.flushed = false;
                    break;
                }
                None => break,
            }
        }
        // Whatever became ready meanwhile was taken above.
        self.ready = gathered;
    }

    /// The exchange that it belongs to.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some((ticket, _)) = &mut self.settling {
                let outcome = ready!(Pin::new(ticket).poll(context));
                let (_, last) = self.settling.take().expect("looked at above");
                match outcome {
                    Ok(()) => self.ready.extend(last),
                    Err(error) => self.ended = Some(Err(error.into())),
                }
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
                None => {}
            }
            match ready!(self.upstream.poll_chunk(context)) {
                Some(Ok(chunk)) => {
                    let step = self.run.push(chunk);
                    self.take(step, Close::BodyEnd);
                }
                Some(Err(_)) => {
                    let step = self.run.body_end();
                    self.take(step, Close::Reset);
                    // After the terminal event, the client has all it needs.
                    self.ended = Some(Err(BodyError::Upstream));
                }
                None => {
                    let step = self.run.body_end();
                    self.take(step, Close::BodyEnd);
                    self.ended = Some(Ok(()));
                }
            }
        }
    }

    fn take(&mut self, step: Step, how: Close) {
        self.ready.extend(step.forward);
        if let Some(last) = step.last
            && let Some(ticket) = self.run.settle(how)
        {
            self.settling = Some((ticket, last));
        }
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
            Self::Metered(metered) => {
                let bytes = ready!(metered.poll_bytes(context));
                Poll::Ready(bytes.map(|result| result.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Metered(metered) => {
                metered.ready.is_empty()
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

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

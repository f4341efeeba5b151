//! Bodies of responses: whole, broken off, or streamed token by token.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use workload::Fault;

use crate::prompt::Dialect;
use crate::refusal::{Kind, Refusal};
use crate::reply::{Event, Reply};
use crate::server::Stored;
use crate::serving::Ticket;
use crate::stats::{Outcome, Running};
use crate::timing::{Pace, Timing, Wait};
use crate::{anthropic, gemini, openai, responses};

/// How long a stalled exchange holds its connection, in simulated time.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// How many times as slow a reply with [`Fault::Slow`] is.
pub(crate) const SLOWNESS: u32 = 10;

/// The connection is to end without the rest of the response.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken off on demand")
    }
}

impl std::error::Error for BrokenOff {}

#[derive(Debug)]
pub(crate) enum Body {
    Whole(Option<Bytes>),
    /// The beginning, then the end of the connection.
    Beginning(Option<Bytes>, Flush),
    Stream(Box<Stream>),
}

/// Lets the connection send what it has before it is broken off.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    done: bool,
}

impl Flush {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.done, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Beginning(bytes, flush) => {
                if let Some(bytes) = bytes.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                ready!(flush.poll(cx));
                Poll::Ready(Some(Err(BrokenOff)))
            }
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Beginning(..) => false,
            Self::Stream(stream) => stream.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Beginning(..) | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// A reply on its way, one frame per event. It is made as it is read: when the client leaves, the
/// connection drops it, and with it whatever was still to be generated.
pub(crate) struct Stream {
    reply: Reply,
    /// What every chunk begins with, in OpenAI's dialect.
    head: String,
    running: Running,
    timing: Arc<dyn Timing>,
    pace: Pace,
    /// Where an engine decides instead.
    ticket: Option<Ticket>,
    /// The place of the next event.
    next: u64,
    /// What is awaited before it; `None` until that is known.
    waiting: Option<Waiting>,
    /// Tokens of text sent, and tokens generated.
    text: u64,
    generated: u64,
    /// Events written, in the dialect that numbers them, whose replies are stored.
    sequence: u64,
    stored: Arc<Stored>,
    ended: bool,
    out: BytesMut,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("next", &self.next).finish_non_exhaustive()
    }
}

enum Waiting {
    Nothing,
    Flush(Flush),
    Until(Pin<Box<Sleep>>),
    /// So many tokens of the engine.
    Tokens(u64),
}

impl From<Option<Wait>> for Waiting {
    fn from(wait: Option<Wait>) -> Self {
        match wait {
            None => Self::Flush(Flush::default()),
            Some(Wait::Due) => Self::Nothing,
            Some(Wait::Until(sleep)) => Self::Until(sleep),
        }
    }
}

impl Stream {
    pub(crate) fn new(
        reply: Reply,
        running: Running,
        timing: Arc<dyn Timing>,
        pace: Pace,
        ticket: Option<Ticket>,
        stored: Arc<Stored>,
    ) -> Self {
        let head = match reply.dialect {
            Dialect::OpenAi | Dialect::Completions => openai::chunk_head(&reply),
            Dialect::Anthropic | Dialect::Responses | Dialect::Gemini => String::new(),
        };
        Self {
            reply,
            head,
            running,
            timing,
            pace,
            ticket,
            next: 0,
            waiting: None,
            text: 0,
            generated: 0,
            sequence: 0,
            stored,
            ended: false,
            out: BytesMut::with_capacity(4096),
        }
    }

    /// The fault that strikes before this event, if one does.
    fn strikes(&self, event: Event) -> Option<Fault> {
        if matches!(event, Event::Start | Event::Thought) {
            return None;
        }
        let after = match self.reply.fault? {
            Fault::Cut(after) | Fault::Stall(after) | Fault::ErrorEvent(after) => after,
            _ => return None,
        };
        let reached = self.text >= u64::from(after) || !matches!(event, Event::Text(_));
        if reached { self.reply.fault } else { None }
    }

    /// What is to be awaited before an event.
    fn wait_for(&mut self, event: Event) -> Waiting {
        match self.strikes(event) {
            Some(Fault::Stall(_)) => {
                if self.ticket.is_some() {
                    self.pace.restart();
                }
                return self.pace.after(STALL).into();
            }
            Some(_) => return Waiting::Flush(Flush::default()),
            None => {}
        }
        if self.ticket.is_some() {
            return match self.reply.tokens(event) {
                // An engine has begun a reply when its first token is there.
                0 if event == Event::Start => Waiting::Tokens(1),
                0 => Waiting::Nothing,
                tokens => Waiting::Tokens(self.generated + tokens),
            };
        }
        let slowness = if self.reply.fault == Some(Fault::Slow) { SLOWNESS } else { 1 };
        let gap = match self.reply.tokens(event) {
            _ if event == Event::Start => {
                let input = self.reply.input;
                let gap = self.timing.ttft(input.total() - input.read, input.read);
                if gap.is_zero() {
                    return Waiting::Nothing;
                }
                gap
            }
            // The first token came with the start.
            0 => return Waiting::Nothing,
            tokens if self.generated == 0 => {
                self.timing.tpot(self.running.batch()).saturating_mul(saturated(tokens - 1))
            }
            tokens => self.timing.tpot(self.running.batch()).saturating_mul(saturated(tokens)),
        };
        self.pace.after(gap.saturating_mul(slowness)).into()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        while !self.ended {
            let Some(event) = self.reply.event(self.next) else { break };
            let mut waiting = match self.waiting.take() {
                Some(waiting) => waiting,
                None => self.wait_for(event),
            };
            let polled = match (&mut waiting, &mut self.ticket) {
                (Waiting::Nothing, _) | (Waiting::Tokens(_), None) => Poll::Ready(Ok(())),
                (Waiting::Flush(flush), _) => flush.poll(cx).map(Ok),
                (Waiting::Until(sleep), _) => sleep.as_mut().poll(cx).map(Ok),
                (Waiting::Tokens(tokens), Some(ticket)) => ticket.poll_until(*tokens, cx),
            };
            match polled {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.ended = true;
                    self.running.end(Outcome::Broken);
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                Poll::Pending => {
                    self.waiting = Some(waiting);
                    return Poll::Pending;
                }
            }
            if let Some(fault) = self.strikes(event) {
                self.ended = true;
                self.running.end(Outcome::Broken);
                if matches!(fault, Fault::ErrorEvent(_)) {
                    return self.frame_of_error();
                }
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            if event == Event::Start {
                if let Some(ticket) = &self.ticket {
                    self.reply.begin(ticket, &self.running);
                }
                if self.reply.dialect == Dialect::Responses {
                    self.stored.add(&self.reply);
                }
            }
            let tokens = self.reply.tokens(event);
            self.generated += tokens;
            self.text += u64::from(matches!(event, Event::Text(_)));
            self.running.count_generated(tokens);
            self.next += 1;
            if event == Event::Done {
                self.ended = true;
                self.running.end(Outcome::Completed);
            }
            match self.reply.dialect {
                Dialect::OpenAi | Dialect::Completions => {
                    openai::write(&self.reply, &self.head, event, self.generated, &mut self.out);
                }
                Dialect::Anthropic => {
                    anthropic::write(&self.reply, event, self.generated, &mut self.out);
                }
                Dialect::Responses => {
                    responses::write(&self.reply, event, &mut self.sequence, &mut self.out);
                }
                Dialect::Gemini => {
                    gemini::write(&self.reply, event, self.generated, &mut self.out);
                }
            }
            if !self.out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(self.out.split().freeze()))));
            }
        }
        Poll::Ready(None)
    }

    fn frame_of_error(&mut self) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let error = Refusal::new(Kind::Server, "the model failed in mid-stream, on demand");
        if matches!(self.reply.dialect, Dialect::Anthropic | Dialect::Responses) {
            self.out.put_slice(b"event: error\n");
        }
        self.out.put_slice(b"data: ");
        self.out.put_slice(error.event(self.reply.dialect).as_bytes());
        self.out.put_slice(b"\n\n");
        Poll::Ready(Some(Ok(Frame::data(self.out.split().freeze()))))
    }
}

fn saturated(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

//! An engine that decides when tokens come: the scheduler of `servesim`, driven step by step by the clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use servesim::{Engine, Error, Event, Incoming, Live, Outcome, Prefix, Request, Slo, StepTime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use workload::block_names;

use crate::prompt::Block;

/// Replicas of an engine that serve all requests of a server, each request the next one in turn.
///
/// A request arrives when it has been read. Its tokens come at the end of the steps in which the engine
/// computes them; a client that hangs up leaves the engine. Time is the clock's, so that steps are neither
/// waited for nor skipped when the machine is late: what is late is delivered late, by a millisecond or so.
///
/// If the engine keeps prefixes, prompts have in common the whole messages that they begin with, as in a
/// simulation of what a gateway metered: what it finds of them is not computed, and is what usage tells.
#[derive(Debug, Clone)]
pub struct Serving {
    replicas: Arc<[UnboundedSender<Call>]>,
    requests: Arc<AtomicU64>,
    max_model_len: u32,
    /// Tokens of a block of the prefix cache, if there is one.
    cached_block: Option<NonZeroU32>,
}

/// What the driver of an engine is told.
#[derive(Debug)]
enum Call {
    /// A request, but for its arrival.
    Come {
        id: u64,
        at: Instant,
        incoming: Incoming,
        news: UnboundedSender<News>,
    },
    Leave {
        id: u64,
        at: Instant,
    },
}

/// What a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It arrived at this time of the engine.
    Accepted(u64),
    /// A token, which came at the end of a step at this time, and tokens of the prompt that were in the
    /// prefix cache.
    Token(u64, u32),
    Ended(Outcome),
}

/// Why an engine gives nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It refused the request.
    Refused(Outcome),
    /// It failed.
    Failed,
}

impl Serving {
    /// Starts so many replicas, so many times as fast as real time. Must be called within a tokio runtime,
    /// which does the work until the last copy of this is dropped.
    ///
    /// # Errors
    /// If the engine's settings make no sense.
    pub fn start(
        engine: &Engine,
        time: impl StepTime + Clone + Send + 'static,
        replicas: u32,
        speed: u32,
    ) -> Result<Self, Error> {
        let clock = Clock { start: Instant::now(), speed: speed.max(1) };
        let mut senders = Vec::new();
        for _ in 0..replicas.max(1) {
            let live = Live::new(engine, time.clone(), &Slo::default())?;
            let (sender, calls) = unbounded_channel();
            tokio::spawn(Driver::new(live, clock).run(calls));
            senders.push(sender);
        }
        let replicas = senders.into();
        let cached_block =
            NonZeroU32::new(engine.block_tokens).filter(|_| engine.enable_prefix_caching);
        let max_model_len = engine.max_model_len;
        Ok(Self { replicas, requests: Arc::default(), max_model_len, cached_block })
    }

    /// How many tokens a reply may have to a prompt of so many; `None` if there is no room for one.
    pub(crate) fn room(&self, prompt: u64) -> Option<u64> {
        u64::from(self.max_model_len).checked_sub(prompt).filter(|room| *room > 0)
    }

    /// What a prompt begins with, if an engine keeps that.
    fn prefix(&self, prompt: &[Block]) -> Option<Prefix> {
        let block_tokens = self.cached_block?;
        let mut end = 0;
        let pieces = prompt.iter().map(|piece| {
            end += piece.tokens;
            (piece.identity(), end)
        });
        Some(Prefix::new(block_names(pieces, block_tokens), block_tokens))
    }

    /// A request comes, now: its pieces, or so many tokens that have nothing in common with others. Empty
    /// prompts and replies cost an engine a token all the same.
    ///
    /// # Errors
    /// If the engine refuses it, or has failed.
    pub(crate) async fn come(&self, prompt: Prompt<'_>, output: u64) -> Result<Ticket, Gone> {
        let some = |tokens: u64| u32::try_from(tokens.max(1)).unwrap_or(u32::MAX);
        let id = self.requests.fetch_add(1, Relaxed);
        let replica = usize::try_from(id % self.replicas.len() as u64).expect("less than a length");
        let calls = self.replicas[replica].clone();
        let (sender, news) = unbounded_channel();
        let (tokens, prefix) = match prompt {
            Prompt::Pieces(pieces) => {
                (pieces.iter().map(|piece| piece.tokens).sum(), self.prefix(pieces))
            }
            Prompt::Tokens(tokens) => (tokens, None),
        };
        let request = Request {
            arrival_ps: 0,
            prompt: some(tokens),
            output: some(output),
            priority: 0,
            patience_ps: None,
        };
        let incoming = Incoming { request, prefix };
        let come = Call::Come { id, at: Instant::now(), incoming, news: sender };
        calls.send(come).map_err(|_| Gone::Failed)?;
        let mut ticket = Ticket { id, calls, news, come: 0, arrival_ps: 0, begun: None };
        match ticket.news.recv().await {
            Some(News::Accepted(arrival_ps)) => {
                ticket.arrival_ps = arrival_ps;
                Ok(ticket)
            }
            Some(News::Ended(outcome)) => Err(Gone::Refused(outcome)),
            Some(News::Token(..)) | None => Err(Gone::Failed),
        }
    }
}

/// What is to be read before a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prompt<'a> {
    /// Pieces that other prompts may begin with.
    Pieces(&'a [Block]),
    /// So many tokens.
    Tokens(u64),
}

/// What is known of a request once its first token is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// From its arrival, by the engine's clock.
    pub(crate) ttft_ps: u64,
    /// Tokens of its prompt that were in the prefix cache.
    pub(crate) cached: u32,
}

/// A request's place in an engine, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    calls: UnboundedSender<Call>,
    news: UnboundedReceiver<News>,
    /// Tokens that have come.
    come: u64,
    arrival_ps: u64,
    begun: Option<Begun>,
}

impl Ticket {
    /// Once its first token has come.
    pub(crate) const fn begun(&self) -> Option<Begun> {
        self.begun
    }

    /// Waits until so many tokens have come.
    pub(crate) async fn until(&mut self, tokens: u64) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_until(tokens, cx)).await
    }

    pub(crate) fn poll_until(
        &mut self,
        tokens: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        while self.come < tokens {
            match ready!(self.news.poll_recv(cx)) {
                Some(News::Token(at_ps, cached)) => {
                    self.come += 1;
                    let ttft_ps = at_ps.saturating_sub(self.arrival_ps);
                    self.begun.get_or_insert(Begun { ttft_ps, cached });
                }
                Some(News::Accepted(_)) => {}
                Some(News::Ended(_)) | None => return Poll::Ready(Err(Gone::Failed)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Without a driver there is nothing to leave; one that has ended is not known any more.
        let _ = self.calls.send(Call::Leave { id: self.id, at: Instant::now() });
    }
}

/// The engine's picoseconds and the runtime's time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    speed: u32,
}

impl Clock {
    fn picoseconds(self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos * 1_000 * u128::from(self.speed)).unwrap_or(u64::MAX)
    }

    fn instant(self, at_ps: u64) -> Instant {
        self.start + Duration::from_nanos(at_ps.div_ceil(1_000 * u64::from(self.speed)))
    }
}

/// Keeps an engine's time.
struct Driver<T> {
    live: Live<T>,
    clock: Clock,
    /// The engine knows of nothing before.
    seen_ps: u64,
    /// What it has told of that is not due yet: when, whom, what.
    due: VecDeque<(u64, u64, News)>,
    /// By the engine's number: the id, and where its news go.
    clients: BTreeMap<u64, (u64, UnboundedSender<News>)>,
    numbers: HashMap<u64, u64>,
}

impl<T: StepTime> Driver<T> {
    fn new(live: Live<T>, clock: Clock) -> Self {
        let (due, clients, numbers) = (VecDeque::new(), BTreeMap::new(), HashMap::new());
        Self { live, clock, seen_ps: 0, due, clients, numbers }
    }

    /// Ends when nobody can call any more, or when the engine fails: then its clients hear nothing more.
    async fn run(mut self, mut calls: UnboundedReceiver<Call>) {
        loop {
            let next = [self.live.next_step(), self.due.front().map(|due| due.0)];
            let next = next.into_iter().flatten().min().map(|at_ps| self.clock.instant(at_ps));
            let ran = tokio::select! {
                // Who has come before a step is in it.
                biased;
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => return,
                },
                () = sleep_until(next.unwrap_or(self.clock.start)), if next.is_some() => self.pass(),
            };
            if ran.is_err() {
                return;
            }
            self.deliver();
        }
    }

    fn call(&mut self, call: Call) -> Result<(), Error> {
        match call {
            Call::Come { id, at, mut incoming, news } => {
                // Calls of several threads may be out of order by next to nothing.
                let arrival_ps = self.clock.picoseconds(at).max(self.seen_ps);
                self.seen_ps = arrival_ps;
                incoming.request.arrival_ps = arrival_ps;
                let number = self.live.submit(incoming)?;
                self.clients.insert(number, (id, news));
                self.numbers.insert(id, number);
                // What it is told of its coming, it is told at once.
                let refused = self.listen(number).then(|| self.due.pop_back()).flatten();
                self.due.push_front(refused.unwrap_or((0, number, News::Accepted(arrival_ps))));
            }
            Call::Leave { id, at } => {
                if let Some(number) = self.numbers.get(&id).copied() {
                    self.seen_ps = self.clock.picoseconds(at).max(self.seen_ps);
                    self.live.abort(number, self.seen_ps)?;
                    self.listen(number);
                }
            }
        }
        Ok(())
    }

    /// Begins the steps whose time has come.
    fn pass(&mut self) -> Result<(), Error> {
        let now = self.clock.picoseconds(Instant::now());
        while let Some(next) = self.live.next_step().filter(|next| *next <= now) {
            self.live.advance(next + 1)?;
            self.seen_ps = self.seen_ps.max(next + 1);
        }
        self.listen(u64::MAX);
        Ok(())
    }

    /// Takes down what the engine tells; whether it has ended a certain request.
    fn listen(&mut self, number: u64) -> bool {
        let mut ended = false;
        while let Some(event) = self.live.next_event() {
            self.due.push_back(match event {
                Event::Token { number, at_ps, cached, .. } => {
                    (at_ps, number, News::Token(at_ps, cached))
                }
                Event::Ended(record) => {
                    ended |= record.number == number;
                    (record.end_ps, record.number, News::Ended(record.outcome))
                }
            });
        }
        ended
    }

    /// Passes on what is due. Whoever has left does not hear it.
    fn deliver(&mut self) {
        let now = self.clock.picoseconds(Instant::now());
        while let Some(&(_, number, news)) = self.due.front().filter(|due| due.0 <= now) {
            self.due.pop_front();
            let Some((id, sender)) = self.clients.get(&number) else { continue };
            let _ = sender.send(news);
            if let News::Ended(_) = news {
                self.numbers.remove(id);
                self.clients.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests;

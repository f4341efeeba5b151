//! Waiting for a group commit, from a task or from a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::JournalError;
use crate::syncer::monotonic_now;

type Outcome = Result<(), JournalError>;

/// The promise that records get written. Resolves when they are in the journal (or, where asked,
/// durable), or when they never will be. Dropping it changes nothing about the records.
#[must_use = "records are in the journal only when their ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    group: Arc<Group>,
    /// Where our waker is in the group's list.
    place: Option<usize>,
    /// Whether it is enough that the records are kept to be written.
    or_kept: bool,
}

/// What all records of one group commit wait for.
#[derive(Debug, Default)]
struct Group {
    outcome: OnceLock<Outcome>,
    /// The records are not written, but kept in memory until they can be.
    kept: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

/// The writer's side of a group: dropped unresolved, its tickets are told that the journal closed.
#[derive(Debug, Default)]
pub(crate) struct Resolver(Arc<Group>);

impl Resolver {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { group: Arc::clone(&self.0), place: None, or_kept: false }
    }

    /// Tells those for whom it is enough that the records are kept.
    pub(crate) fn keep(&self) {
        if !self.0.kept.swap(true, Relaxed) {
            // The list stays: others wait on. Tickets look for the mark while they hold the list.
            self.0.wakers().iter().for_each(Waker::wake_by_ref);
        }
    }

    pub(crate) fn resolve(&self, outcome: Outcome) {
        // The outcome is there before the list is taken, and tickets look for it while they hold
        // the list: none can enter its waker too late.
        if self.0.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.0.wakers());
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.resolve(Err(JournalError::Closed));
        }
    }
}

impl Group {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// A ticket that is resolved.
    pub(crate) fn ready(outcome: Outcome) -> Self {
        let resolver = Resolver::default();
        resolver.resolve(outcome);
        resolver.ticket()
    }

    /// As it is, but good as well once the records are kept in memory or are counted as a gap: for
    /// whoever goes on without the ledger.
    pub(crate) fn or_kept(mut self) -> Self {
        self.or_kept = true;
        self
    }

    /// Whether whoever has it may go on without the ledger.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.or_kept
    }

    /// What it resolves to, if it does now.
    fn outcome(&self) -> Option<Outcome> {
        match self.group.outcome.get() {
            Some(Err(_)) if self.or_kept => Some(Ok(())),
            Some(outcome) => Some(outcome.clone()),
            None => (self.or_kept && self.group.kept.load(Relaxed)).then_some(Ok(())),
        }
    }

    /// Blocks the thread until the records are written.
    ///
    /// # Errors
    /// Why they are not and will not be in the journal.
    pub fn wait(self) -> Outcome {
        self.wait_for(Duration::MAX).unwrap_or(Err(JournalError::Closed))
    }

    /// As [`Self::wait`], for so long at most; `None` if it is still open then. Records that a disk
    /// does not take are kept as long as it does not, which may be for ever.
    pub fn wait_for(mut self, limit: Duration) -> Option<Outcome> {
        let begun = monotonic_now();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut self).poll(&mut context) {
                return Some(outcome);
            }
            let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
            thread::park_timeout(left);
        }
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let ticket = &mut *self;
        if let Some(outcome) = ticket.outcome() {
            return Poll::Ready(outcome);
        }
        let mut wakers = ticket.group.wakers();
        if let Some(outcome) = ticket.outcome() {
            return Poll::Ready(outcome);
        }
        match ticket.place {
            Some(place) => wakers[place].clone_from(context.waker()),
            None => {
                ticket.place = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

//! Waiting for a group commit, from a task or from a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::JournalError;

type Outcome = Result<(), JournalError>;

/// The promise that records get written. Resolves when they are in the journal (or, where asked,
/// durable), or when they never will be. Dropping it changes nothing about the records.
#[must_use = "records are in the journal only when their ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    group: Arc<Group>,
    /// Where our waker is in the group's list.
    place: Option<usize>,
}

/// What all records of one group commit wait for.
#[derive(Debug, Default)]
struct Group {
    outcome: OnceLock<Outcome>,
    wakers: Mutex<Vec<Waker>>,
}

/// The writer's side of a group: dropped unresolved, its tickets are told that the journal closed.
#[derive(Debug, Default)]
pub(crate) struct Resolver(Arc<Group>);

impl Resolver {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { group: Arc::clone(&self.0), place: None }
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

    /// Blocks the thread until the records are written.
    ///
    /// # Errors
    /// Why they are not and will not be in the journal.
    pub fn wait(mut self) -> Outcome {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let ticket = &mut *self;
        if let Some(outcome) = ticket.group.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let mut wakers = ticket.group.wakers();
        if let Some(outcome) = ticket.group.outcome.get() {
            return Poll::Ready(outcome.clone());
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

//! Syncs on a thread beside the writer's, at most so long after a write.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::JournalError;
use crate::storage::StorageFile;

/// Which file has bytes that no sync has covered, and since when.
pub(crate) struct Syncer<F> {
    state: Mutex<State<F>>,
    changed: Condvar,
}

struct State<F> {
    unsynced: Option<Unsynced<F>>,
    closed: bool,
}

struct Unsynced<F> {
    file: Arc<F>,
    name: String,
    since: Instant,
}

impl<F: StorageFile> Syncer<F> {
    pub(crate) fn new() -> Self {
        let state = State { unsynced: None, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Notes a write to this file. The file before it was synced when this one was begun.
    pub(crate) fn mark(&self, (file, name): (&Arc<F>, &str), at: Instant) {
        let mut state = self.state();
        match &mut state.unsynced {
            Some(unsynced) if Arc::ptr_eq(&unsynced.file, file) => {}
            Some(unsynced) => (unsynced.file, unsynced.name) = (Arc::clone(file), name.to_owned()),
            None => {
                let unsynced =
                    Unsynced { file: Arc::clone(file), name: name.to_owned(), since: at };
                state.unsynced = Some(unsynced);
                drop(state);
                self.changed.notify_one();
            }
        }
    }

    /// Ends [`run`](Self::run), without a last sync: the writer does that.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Syncs until closed or failed; `done` hears how long after the first write a sync ended.
    pub(crate) fn run(&self, every: Duration, done: impl Fn(Result<Duration, JournalError>)) {
        while let Some(unsynced) = self.due(every) {
            match unsynced.file.sync() {
                Ok(()) => done(Ok(unsynced.since.elapsed())),
                // Never tried again: the system may have dropped the bytes and report success.
                Err(error) => {
                    return done(Err(JournalError::storage("sync", &unsynced.name)(error)));
                }
            }
        }
    }

    /// Waits for a write and then for `every`, in which more writes gather.
    fn due(&self, every: Duration) -> Option<Unsynced<F>> {
        let state = self.state();
        let quiet = |state: &mut State<F>| state.unsynced.is_none() && !state.closed;
        let written = self.changed.wait_while(state, quiet);
        let state = written.unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, every, |state| !state.closed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed { None } else { state.unsynced.take() }
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures how long appends and syncs take; no record holds it.
#[expect(clippy::disallowed_methods, reason = "a duration for the metrics, not a time")]
pub(crate) fn monotonic_now() -> Instant {
    Instant::now()
}

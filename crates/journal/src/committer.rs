//! The writer on a thread of its own: a bounded queue in, one append for all that wait, syncs beside.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quantity::UnixTime;

use crate::frame::Batch;
use crate::storage::Storage;
use crate::syncer::{Syncer, monotonic_now};
use crate::ticket::{Resolver, Ticket};
use crate::{JournalError, Writer};

/// Encoded records that may wait for the writer before no more exchanges are admitted: a disk that
/// stands still for long must not fill the memory.
const MAX_PENDING: usize = 64 << 20;

/// What a queue keeps of its memory after a burst.
const KEPT: usize = 1 << 20;

/// How records are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long a written record may wait for its sync to begin.
    pub sync_every: Duration,
    /// Whether tickets wait for the sync, not only for the write.
    pub sync_each: bool,
    /// How many permits there are at most.
    pub permits: usize,
    /// How many records may wait for a [`Handle::wake`] before a submission itself wakes the writer;
    /// 0 if nobody calls it. Whoever submits from an event loop calls it when the loop has nothing
    /// else to do: at a high load one append then serves many exchanges, at a low load nothing waits.
    pub gathered: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync_every: Duration::from_millis(10), sync_each: false, permits: 4096, gathered: 0 }
    }
}

/// Runs a [`Writer`] on a thread and commits in groups. Dropped, it still writes and syncs what
/// waits, but nobody hears of a failure: [`close`](Self::close) it.
///
/// A second thread syncs, so that a record never waits for a sync that it did not ask for.
pub struct Committer<S: Storage> {
    handle: Handle,
    syncer: Arc<Syncer<S::File>>,
    threads: Option<(JoinHandle<Writer<S>>, JoinHandle<()>)>,
}

/// Gives permits and tells how the committer does.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// The right to write the records of one exchange, however it ends: taken when the exchange is
/// admitted, so that none of its records has to wait for a place.
pub struct Permit(Arc<Shared>);

/// How a committer does. Counters begin at its start.
#[derive(Debug, Clone)]
pub struct Status {
    /// Why it refuses everything, if it does.
    pub failure: Option<JournalError>,
    /// Permits in use.
    pub permits: usize,
    /// Permits there are.
    pub permits_limit: usize,
    /// Records that wait to be written.
    pub pending_records: u64,
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Appends that wrote them.
    pub appends: u64,
    /// Appends that failed and were taken back.
    pub failed_appends: u64,
    /// Since the last append failed, if none succeeded after it.
    pub failed_ago: Option<Duration>,
    /// Syncs.
    pub syncs: u64,
    /// From the first write that the last sync covered to its end.
    pub last_sync_lag: Duration,
    /// The longest append.
    pub worst_append: Duration,
}

struct Shared {
    options: Options,
    queue: Mutex<Queue>,
    queued: Condvar,
    failure: OnceLock<JournalError>,
    /// Records wait for a [`Handle::wake`].
    gathering: AtomicBool,
    /// When the last append failed, if none succeeded after it.
    failed_at: Mutex<Option<Instant>>,
    permits: AtomicUsize,
    counters: Counters,
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    group: Option<Resolver>,
    /// The writer waits and must be woken.
    idle: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    appends: AtomicU64,
    failed_appends: AtomicU64,
    syncs: AtomicU64,
    last_sync_lag_ns: AtomicU64,
    worst_append_ns: AtomicU64,
}

impl<S> Committer<S>
where
    S: Storage + Send + 'static,
    S::File: Send + Sync + 'static,
    S::Lock: Send + 'static,
{
    /// Starts the threads. `clock` dates new segments.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        writer: Writer<S>,
        options: Options,
        clock: impl Fn() -> UnixTime + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            queue: Mutex::default(),
            queued: Condvar::new(),
            failure: OnceLock::new(),
            gathering: AtomicBool::new(false),
            failed_at: Mutex::default(),
            permits: AtomicUsize::new(0),
            counters: Counters::default(),
        });
        let syncer = Arc::new(Syncer::new());
        let sync_thread = {
            let (shared, syncer) = (Arc::clone(&shared), Arc::clone(&syncer));
            let run = move || syncer.run(options.sync_every, |synced| shared.note_sync(synced));
            thread::Builder::new().name("journal-sync".into()).spawn(run)?
        };
        let write_thread = {
            let (shared, syncer) = (Arc::clone(&shared), Arc::clone(&syncer));
            let run = move || shared.write(writer, &syncer, clock);
            thread::Builder::new().name("journal-write".into()).spawn(run)
        };
        let write_thread = write_thread.inspect_err(|_| syncer.close())?;
        Ok(Self { handle: Handle(shared), syncer, threads: Some((write_thread, sync_thread)) })
    }
}

impl<S: Storage> Committer<S> {
    /// A handle that can be cloned and knows nothing of the storage.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// As [`Handle::permit`].
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        self.handle.permit()
    }

    /// As [`Handle::status`].
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Writes and syncs what was submitted; what is submitted from now on is refused.
    ///
    /// # Errors
    /// The failure that made the journal refuse records, now or before.
    pub fn close(mut self) -> Result<Writer<S>, JournalError> {
        self.stop().unwrap_or(Err(JournalError::Closed))
    }

    fn stop(&mut self) -> Option<Result<Writer<S>, JournalError>> {
        let (write_thread, sync_thread) = self.threads.take()?;
        let shared = &self.handle.0;
        shared.queue().closed = true;
        shared.queued.notify_one();
        let writer = write_thread.join();
        self.syncer.close();
        let sync_ended = sync_thread.join();
        let (Ok(mut writer), Ok(())) = (writer, sync_ended) else {
            return Some(Err(JournalError::Closed));
        };
        if let Some(failure) = shared.failure.get() {
            return Some(Err(failure.clone()));
        }
        Some(writer.sync().map(|()| writer))
    }
}

impl<S: Storage> Drop for Committer<S> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl Handle {
    /// A permit for one exchange; `None` if all are in use, if too much waits for the disk, or if
    /// the journal refuses records ([`status`](Self::status) tells which).
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        let shared = &self.0;
        let refused = shared.failure.get().is_some() || {
            let queue = shared.queue();
            queue.closed || queue.batch.bytes() > MAX_PENDING
        };
        if refused {
            return None;
        }
        let limit = shared.options.permits;
        let taken = shared
            .permits
            .fetch_update(Relaxed, Relaxed, |used| (used < limit).then_some(used + 1));
        taken.ok().map(|_| Permit(Arc::clone(shared)))
    }

    /// Wakes the writer if records wait for it; see [`Options::gathered`]. Cheap if none do.
    pub fn wake(&self) {
        // Whoever submitted on this thread set the flag before; another thread calls for itself.
        if self.0.gathering.load(Relaxed) {
            let queue = self.0.queue();
            if queue.idle && queue.group.is_some() {
                self.0.wake(queue);
            }
        }
    }

    /// How the committer does.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let counters = &shared.counters;
        Status {
            failure: shared.failure.get().cloned(),
            permits: shared.permits.load(Relaxed),
            permits_limit: shared.options.permits,
            pending_records: shared.queue().batch.records(),
            records: counters.records.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            appends: counters.appends.load(Relaxed),
            failed_appends: counters.failed_appends.load(Relaxed),
            failed_ago: shared.failed_at().map(|at| at.elapsed()),
            syncs: counters.syncs.load(Relaxed),
            last_sync_lag: Duration::from_nanos(counters.last_sync_lag_ns.load(Relaxed)),
            worst_append: Duration::from_nanos(counters.worst_append_ns.load(Relaxed)),
        }
    }
}

impl Permit {
    /// Hands over encoded records, which enter the journal together and in this order. Never waits.
    pub fn submit(&self, records: &Batch) -> Ticket {
        let mut queue = self.0.queue();
        if queue.closed {
            return Ticket::ready(Err(JournalError::Closed));
        }
        queue.batch.extend(records);
        let ticket = queue.group.get_or_insert_default().ticket();
        // A writer at work looks at the queue again before it waits; only an idle one is woken.
        if queue.idle {
            // Even one without records, where nobody else will: its ticket waits for those before it.
            let gathered = self.0.options.gathered;
            if gathered == 0 || queue.batch.records() > gathered {
                self.0.wake(queue);
            } else {
                self.0.gathering.store(true, Relaxed);
            }
        }
        ticket
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.permits.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.idle = false;
        self.gathering.store(false, Relaxed);
        drop(queue);
        self.queued.notify_one();
    }

    /// The writer's thread, until the queue is closed and empty.
    fn write<S: Storage>(
        &self,
        mut writer: Writer<S>,
        syncer: &Syncer<S::File>,
        clock: impl Fn() -> UnixTime,
    ) -> Writer<S> {
        let _refuse = RefuseWhenGone(self);
        let mut batch = Batch::new();
        while let Some(group) = self.take(&mut batch) {
            let outcome = self.commit(&mut writer, &mut batch, syncer, clock());
            group.resolve(outcome);
            batch.clear(KEPT);
        }
        writer
    }

    /// Waits for records and takes all of them.
    fn take(&self, batch: &mut Batch) -> Option<Resolver> {
        let mut queue = self.queue();
        loop {
            if let Some(group) = queue.group.take() {
                std::mem::swap(batch, &mut queue.batch);
                return Some(group);
            }
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle = false;
        }
    }

    fn commit<S: Storage>(
        &self,
        writer: &mut Writer<S>,
        batch: &mut Batch,
        syncer: &Syncer<S::File>,
        now: UnixTime,
    ) -> Result<(), JournalError> {
        // A sync beside us may have failed since.
        if let Some(failure) = self.failure.get() {
            writer.poison(failure.clone());
        }
        let counters = &self.counters;
        let begun = monotonic_now();
        let appended = writer.append(batch, now);
        counters.worst_append_ns.fetch_max(nanos(begun.elapsed()), Relaxed);
        if appended.is_ok() {
            counters.records.fetch_add(batch.records(), Relaxed);
            counters.bytes.fetch_add(batch.bytes() as u64, Relaxed);
            counters.appends.fetch_add(1, Relaxed);
            *self.failed_at() = None;
        } else {
            counters.failed_appends.fetch_add(1, Relaxed);
            *self.failed_at() = Some(begun);
        }
        let outcome = appended.and_then(|_| {
            if self.options.sync_each {
                writer.sync().inspect(|()| self.note_sync(Ok(begun.elapsed())))
            } else {
                syncer.mark(writer.file(), begun);
                Ok(())
            }
        });
        if let Some(failure) = writer.failure() {
            self.failure.get_or_init(|| failure.clone());
        }
        outcome
    }

    /// Counts a sync that ended so long after the first write it covered.
    fn note_sync(&self, synced: Result<Duration, JournalError>) {
        match synced {
            Ok(lag) => {
                self.counters.syncs.fetch_add(1, Relaxed);
                self.counters.last_sync_lag_ns.store(nanos(lag), Relaxed);
            }
            Err(error) => {
                self.failure.get_or_init(|| error);
            }
        }
    }
}

/// Tells everybody who waits or comes that nobody writes any more, even if the writer panicked.
struct RefuseWhenGone<'a>(&'a Shared);

impl Drop for RefuseWhenGone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        let group = queue.group.take();
        drop(queue);
        drop(group);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! The writer on a thread of its own: a bounded queue in, one append for all that wait, syncs beside.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use facts::Gap;
use quantity::UnixTime;

use crate::frame::Batch;
use crate::storage::Storage;
use crate::syncer::{Syncer, monotonic_now};
use crate::ticket::Ticket;
use crate::waiting::{Failing, Lot, Queue, Waiting};
use crate::{JournalError, Writer};

/// Encoded records that may wait for the disk before no more exchanges are admitted to the journal: a
/// disk that stands still for long must not fill the memory. Those that are admitted settle in any
/// case, of which there are no more than permits.
const MAX_PENDING: usize = 64 << 20;

/// How often a close looks whether the threads have ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

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
    /// How long an append may take before the journal counts as stalled: then no exchange is admitted
    /// that could not go on without it, and a close no longer waits for it.
    pub stalled_after: Duration,
    /// How soon records that could not be written are tried again.
    pub retry: Duration,
}

/// What becomes of an exchange while the journal takes no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on. Its records are kept in memory until they can be written; where that cannot be, it
    /// is counted in a [`Gap`].
    Pass,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync_every: Duration::from_millis(10),
            sync_each: false,
            permits: 4096,
            gathered: 0,
            stalled_after: Duration::from_secs(5),
            retry: Duration::from_secs(1),
        }
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
pub struct Permit {
    shared: Arc<Shared>,
    on_failure: OnFailure,
    /// Whether its admission goes to the journal. Otherwise none of its records may.
    journalled: bool,
}

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
    /// Their bytes.
    pub pending_bytes: usize,
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Appends that wrote them.
    pub appends: u64,
    /// Appends that failed and were taken back.
    pub failed_appends: u64,
    /// Since the last append failed, and why, if none succeeded after it.
    pub failing: Option<(Duration, JournalError)>,
    /// How long the append takes that is under way, if longer than it may.
    pub stalled: Option<Duration>,
    /// What could not be journalled.
    pub gap: Option<Gap>,
    /// The part of it that no record tells of.
    pub untold: Option<Gap>,
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
    permits: AtomicUsize,
    counters: Counters,
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

    /// As [`Handle::permit`], for an exchange that is refused while the journal takes no records.
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        self.handle.permit(OnFailure::Refuse)
    }

    /// As [`Handle::status`].
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Writes and syncs what was submitted; what is submitted from now on is refused. What cannot be
    /// written is counted in [`Status::untold`].
    ///
    /// # Errors
    /// The failure that made the journal refuse records, now or before; [`JournalError::Stalled`] if
    /// the disk takes longer than it may, whose threads are then left behind.
    pub fn close(mut self) -> Result<Writer<S>, JournalError> {
        self.stop().unwrap_or(Err(JournalError::Closed))
    }

    fn stop(&mut self) -> Option<Result<Writer<S>, JournalError>> {
        let (write_thread, sync_thread) = self.threads.take()?;
        let shared = &self.handle.0;
        shared.queue().closed = true;
        shared.queued.notify_one();
        while !write_thread.is_finished() {
            thread::sleep(LOOK_EVERY);
            let stalled = shared.queue().stalled(shared.options.stalled_after);
            if let Some(stalled) = stalled {
                self.syncer.close();
                shared.lose_queued();
                return Some(Err(JournalError::Stalled { seconds: stalled.as_secs() }));
            }
        }
        let writer = write_thread.join();
        self.syncer.close();
        // The writer has synced; what this one still does ends soon, or never.
        let begun = monotonic_now();
        while !sync_thread.is_finished() {
            thread::sleep(LOOK_EVERY);
            let waited = begun.elapsed();
            if waited >= shared.options.stalled_after {
                return Some(Err(JournalError::Stalled { seconds: waited.as_secs() }));
            }
        }
        let (Ok(writer), Ok(())) = (writer, sync_thread.join()) else {
            return Some(Err(JournalError::Closed));
        };
        if let Some(failure) = shared.failure.get() {
            return Some(Err(failure.clone()));
        }
        let unwritten = shared.queue().unwritten.clone();
        Some(unwritten.map_or(Ok(writer), Err))
    }
}

impl<S: Storage> Drop for Committer<S> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl Handle {
    /// A permit for one exchange; `None` if all are in use, or if the exchange is to be refused while
    /// the journal refuses records, is stalled, or has too many that wait for the disk
    /// ([`status`](Self::status) tells which).
    #[must_use]
    pub fn permit(&self, on_failure: OnFailure) -> Option<Permit> {
        let shared = &self.0;
        let journalled = shared.failure.get().is_none() && {
            let queue = shared.queue();
            // Whoever passes may wait for a stalled disk in memory.
            let waits = on_failure == OnFailure::Pass
                || queue.stalled(shared.options.stalled_after).is_none();
            waits && !queue.closed && queue.bytes() <= MAX_PENDING
        };
        if !journalled && on_failure == OnFailure::Refuse {
            return None;
        }
        let limit = shared.options.permits;
        let taken = shared
            .permits
            .fetch_update(Relaxed, Relaxed, |used| (used < limit).then_some(used + 1));
        taken.ok().map(|_| Permit { shared: Arc::clone(shared), on_failure, journalled })
    }

    /// Wakes the writer if records wait for it; see [`Options::gathered`]. Cheap if none do.
    pub fn wake(&self) {
        // Whoever submitted on this thread set the flag before; another thread calls for itself.
        if self.0.gathering.load(Relaxed) {
            let queue = self.0.queue();
            if queue.idle && queue.is_due() {
                self.0.wake(queue);
            }
        }
    }

    /// How the committer does.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let counters = &shared.counters;
        let queue = shared.queue();
        Status {
            failure: shared.failure.get().cloned(),
            permits: shared.permits.load(Relaxed),
            permits_limit: shared.options.permits,
            pending_records: queue.waiting.batch.records() + queue.backlog.0,
            pending_bytes: queue.bytes(),
            records: counters.records.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            appends: counters.appends.load(Relaxed),
            failed_appends: counters.failed_appends.load(Relaxed),
            failing: queue.failing.as_ref().map(|one| (one.at.elapsed(), one.error.clone())),
            stalled: queue.stalled(shared.options.stalled_after),
            gap: queue.gaps.all.clone(),
            untold: queue.gaps.untold(),
            syncs: counters.syncs.load(Relaxed),
            last_sync_lag: Duration::from_nanos(counters.last_sync_lag_ns.load(Relaxed)),
            worst_append: Duration::from_nanos(counters.worst_append_ns.load(Relaxed)),
        }
    }
}

impl Permit {
    /// Whether its exchange goes on while the journal takes no records.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.on_failure == OnFailure::Pass
    }

    /// Whether its records go to the journal; otherwise they are only counted.
    #[must_use]
    pub fn is_journalled(&self) -> bool {
        self.journalled
    }

    /// Hands over encoded records, which enter the journal together and in this order. If they cannot
    /// be written now, they are kept and written before anything new. Never waits.
    pub fn submit(&self, records: &Batch) -> Ticket {
        self.put(records, Lot::Kept)
    }

    /// As [`submit`](Self::submit), but records that cannot be written now are forgotten, unless the
    /// exchange goes on without the journal. For what is to be journalled before it is done.
    pub fn offer(&self, records: &Batch) -> Ticket {
        self.put(records, Lot::Forgotten)
    }

    fn put(&self, records: &Batch, lot: Lot) -> Ticket {
        let shared = &self.shared;
        let passes = self.on_failure == OnFailure::Pass;
        let lot = if passes { Lot::Kept } else { lot };
        let ends = |ticket: Ticket| if passes { ticket.or_kept() } else { ticket };
        let mut queue = shared.queue();
        if queue.closed || !self.journalled {
            if lot == Lot::Kept {
                shared.lose(&mut queue, records);
            }
            if queue.idle && queue.is_due() {
                shared.wake(queue);
            }
            return ends(Ticket::ready(Err(JournalError::Closed)));
        }
        let ticket = ends(queue.waiting.push(records, lot));
        // It is tried again by itself, a little later.
        let later = queue.failing.is_some() && lot == Lot::Kept;
        if later || queue.stalled(shared.options.stalled_after).is_some() {
            queue.waiting.keep();
        }
        queue.urgent |= !later;
        // A writer at work looks at the queue again before it waits; only an idle one is woken.
        if queue.idle && queue.is_due() {
            // Even one without records, where nobody else will: its ticket waits for those before it.
            let gathered = shared.options.gathered;
            if gathered == 0 || queue.waiting.batch.records() > gathered {
                shared.wake(queue);
            } else {
                shared.gathering.store(true, Relaxed);
            }
        }
        ticket
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.permits.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.idle = false;
        self.gathering.store(false, Relaxed);
        drop(queue);
        self.queued.notify_one();
    }

    /// The writer's thread, until the queue is closed and empty, or cannot be written.
    fn write<S: Storage>(
        &self,
        mut writer: Writer<S>,
        syncer: &Syncer<S::File>,
        clock: impl Fn() -> UnixTime,
    ) -> Writer<S> {
        let _refuse = RefuseWhenGone(self);
        // Taken from the queue; after a failed append, what is to be tried again.
        let mut taken = Waiting::default();
        while let Some(last) = self.take(&mut taken) {
            self.commit(&mut writer, &mut taken, syncer, clock());
            if last {
                if !taken.is_empty() {
                    let failing = self.queue().failing.clone();
                    let why = failing.map_or(JournalError::Closed, |failing| failing.error);
                    self.give_up(&mut taken, &why);
                    self.queue().unwritten = Some(why);
                }
                break;
            }
        }
        self.queue().writing_since = Some(monotonic_now());
        if let Err(error) = writer.sync() {
            self.failure.get_or_init(|| error);
        }
        writer
    }

    /// Waits for records, or until it is time to try those again that it has, and takes all of them.
    /// Tells whether these are the last ones; `None` if there are none and will be none.
    fn take(&self, taken: &mut Waiting) -> Option<bool> {
        let mut queue = self.queue();
        queue.writing_since = None;
        let tries_again = queue.failing.is_some();
        loop {
            let mut waited_enough = false;
            if !queue.is_due() {
                queue.idle = true;
                queue = if tries_again {
                    let waited = self.queued.wait_timeout(queue, self.options.retry);
                    let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    waited_enough = timeout.timed_out();
                    queue
                } else {
                    self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner)
                };
                queue.idle = false;
            }
            if !(queue.is_due() || waited_enough) {
                continue;
            }
            taken.append(&mut queue.waiting);
            queue.urgent = false;
            let gap = queue.gaps.untold().is_some();
            if !taken.is_empty() || gap {
                queue.writing_since = Some(monotonic_now());
                return Some(queue.closed);
            }
            if queue.closed {
                return None;
            }
        }
    }

    fn commit<S: Storage>(
        &self,
        writer: &mut Writer<S>,
        taken: &mut Waiting,
        syncer: &Syncer<S::File>,
        now: UnixTime,
    ) {
        // A sync beside us may have failed since.
        if let Some(failure) = self.failure.get() {
            writer.poison(failure.clone());
        }
        let untold_at = taken.batch.bytes();
        let mut queue = self.queue();
        let gap = queue.gaps.begin_to_tell().filter(|_| writer.failure().is_none());
        drop(queue);
        // A gap is a few numbers and a cause of bounded length.
        let tells = gap.is_some_and(|gap| taken.batch.push(&gap).is_ok());
        let counters = &self.counters;
        let begun = monotonic_now();
        let appended = writer.append(&mut taken.batch, now);
        counters.worst_append_ns.fetch_max(nanos(begun.elapsed()), Relaxed);
        let written = appended.is_ok();
        let mut queue = self.queue();
        queue.gaps.told(written && tells);
        if written {
            counters.records.fetch_add(taken.batch.records(), Relaxed);
            counters.bytes.fetch_add(taken.batch.bytes() as u64, Relaxed);
            counters.appends.fetch_add(1, Relaxed);
            queue.backlog = (0, 0);
            if taken.batch.records() > 0 {
                queue.failing = None;
            }
        } else {
            counters.failed_appends.fetch_add(1, Relaxed);
            if tells {
                taken.batch.cut_last(untold_at);
            }
        }
        drop(queue);
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
        match outcome {
            Err(error) if !written && writer.failure().is_some() => self.give_up(taken, &error),
            Err(error) if !written => {
                let mut queue = self.queue();
                queue.failing = Some(Failing { at: begun, error: error.clone() });
                taken.forget(&error);
                queue.backlog = (taken.batch.records(), taken.batch.bytes());
            }
            outcome => taken.resolve(&outcome),
        }
    }

    /// The records will not be written by this process.
    fn give_up(&self, taken: &mut Waiting, why: &JournalError) {
        taken.forget(why);
        let mut queue = self.queue();
        (queue.backlog, queue.failing) = ((0, 0), None);
        // Nothing will be written but by another process.
        queue.over = true;
        queue.gaps.lose(&taken.batch, &why.in_full());
        drop(queue);
        taken.resolve(&Err(why.clone()));
    }

    /// Gives up what the writer did not come to.
    fn lose_queued(&self) {
        let mut queue = self.queue();
        let mut waiting = std::mem::take(&mut queue.waiting);
        waiting.forget(&JournalError::Closed);
        self.lose(&mut queue, &waiting.batch);
        drop(queue);
        waiting.resolve(&Err(JournalError::Closed));
    }

    /// Counts records that will not be written.
    fn lose(&self, queue: &mut Queue, records: &Batch) {
        let cause = match (self.failure.get(), &queue.failing) {
            (Some(failure), _) => failure.in_full(),
            (None, Some(failing)) => failing.error.in_full(),
            (None, None) => "the disk took too long".to_owned(),
        };
        queue.gaps.lose(records, &cause);
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
        self.0.queue().closed = true;
        self.0.lose_queued();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! Independent pieces of work on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// The processors that the system gives.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The results of `work` for 0 to `count`, in order.
pub(crate) fn map<T: Send>(
    processors: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let done = Mutex::new(Vec::with_capacity(count));
    let take = |(): &mut (), index| {
        let result = work(index);
        done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
        Ok::<(), std::convert::Infallible>(())
    };
    let ((), _) = beside(processors, || (), count, || (), take);
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Runs `first` on this thread while others begin with the pieces of work 0 to `count`, and then joins
/// them. Each thread adds up what it does; which thread does which piece is not known.
pub(crate) fn beside<F, A: Send, E: Send>(
    processors: usize,
    first: impl FnOnce() -> F,
    count: usize,
    begin: impl Fn() -> A + Sync,
    work: impl Fn(&mut A, usize) -> Result<(), E> + Sync,
) -> (F, Vec<Result<A, E>>) {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut sum = begin();
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= count {
                return Ok(sum);
            }
            work(&mut sum, index)?;
        }
    };
    thread::scope(|scope| {
        let wanted = processors.saturating_sub(1).min(count);
        // If the system gives no thread, this one does the work alone.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, run).ok();
        let threads: Vec<_> = (0..wanted).filter_map(spawn).collect();
        let first = first();
        let mut sums = vec![run()];
        for thread in threads {
            match thread.join() {
                Ok(sum) => sums.push(sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (first, sums)
    })
}

//! What may be under way at once, and how often something may be tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::settings::Settings;

/// Bytes of request bodies in memory at once.
const MAX_BODIES: usize = 1 << 30;

/// Streams that are read on at once after their clients left; above that they are let go as ever.
pub(crate) const MAX_DRAINS: usize = 256;

/// Keeps tries from multiplying an outage: each exchange earns a tenth of one, and ten are in hand.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicI64);

impl RetryBudget {
    const EARNED: i64 = 1;
    const SPENT: i64 = 10;
    const MOST: i64 = 100;

    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(Self::MOST))
    }

    /// An exchange earns its part.
    pub(crate) fn earn(&self) {
        let _ = self
            .0
            .fetch_update(Relaxed, Relaxed, |saved| Some((saved + Self::EARNED).min(Self::MOST)));
    }

    /// Takes one try, if there is one.
    pub(crate) fn spend(&self) -> bool {
        let spent = |saved: i64| (saved >= Self::SPENT).then_some(saved - Self::SPENT);
        self.0.fetch_update(Relaxed, Relaxed, spent).is_ok()
    }
}

/// Places at the upstreams that take only so many attempts at once.
#[derive(Debug)]
pub(crate) struct Slots(Vec<Option<Arc<Semaphore>>>);

impl Slots {
    pub(crate) fn new(settings: &Settings) -> Self {
        let limits = settings.upstreams.iter().map(|upstream| upstream.limits.concurrent);
        Self(limits.map(|limit| limit.map(|limit| Arc::new(Semaphore::new(limit)))).collect())
    }

    /// A place at an upstream, after a wait of its queue's length at most.
    pub(crate) async fn take(
        &self,
        settings: &Settings,
        upstream: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let Some(slots) = &self.0[upstream] else { return Ok(None) };
        let upstream = &settings.upstreams[upstream];
        match timeout(upstream.limits.queue, Arc::clone(slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Some(slot)),
            Ok(Err(_)) | Err(_) => {
                let message = format!("upstream `{}` has no place free", upstream.name);
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_busy", message))
            }
        }
    }
}

/// Bytes of request bodies in memory.
#[derive(Debug, Default)]
pub(crate) struct Bodies(AtomicUsize);

/// Those of one exchange.
pub(crate) struct Held<'a> {
    all: &'a Bodies,
    pub(crate) bytes: usize,
}

impl Bodies {
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { all: self, bytes: 0 }
    }
}

impl Held<'_> {
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.all.0.fetch_add(bytes, Relaxed) + bytes > MAX_BODIES {
            let message = "too many large requests are under way";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message));
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Relaxed);
    }
}

//! What all exchanges of a gateway share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use facts::Exchange;
use journal::Handle;
use quantity::{HashKey, PriceRowId, UnixTime};
use tariff::Book;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::clock::Clock;
use crate::limits::{Bodies, RetryBudget, Slots};
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::settings::{Settings, Upstream};

/// Who is told of settled exchanges and serves what is not the gateway's: the pages for people.
///
/// Called on the way of an exchange: it must be quick and must not block.
pub trait Watch: Send + Sync {
    /// An exchange settled; its records are on their way to the journal.
    fn settled(&self, exchange: &Arc<Exchange>);
    /// A page below `/farthing/`, if there is one.
    fn page(&self, path: &str, now: UnixTime) -> Option<Page>;
    /// A connection could not be accepted; others may be, once some that are open have ended.
    fn not_accepted(&self, error: &std::io::Error);
    /// What the look-up of an exchange tells its owner, as JSON.
    fn lookup(&self, exchange: &Exchange) -> String;
    /// What `/metrics` tells besides, in the form that Prometheus reads.
    fn metrics(&self, _now: UnixTime) -> String {
        String::new()
    }
}

/// A page for people.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What all exchanges share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) access: Access,
    pub(crate) book: Arc<Book>,
    pub(crate) journal: Handle,
    pub(crate) clock: Clock,
    pub(crate) key: HashKey,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    pub(crate) rows: KnownRows,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) retries: RetryBudget,
    pub(crate) slots: Slots,
    pub(crate) bodies: Bodies,
    /// Places for streams whose clients left.
    pub(crate) drains: Arc<Semaphore>,
}

impl Shared {
    /// The upstream with this name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.settings.upstreams.iter().find(|upstream| upstream.name == name)
    }
}

/// Price rows that are on the journal since this process started.
#[derive(Debug, Default)]
pub(crate) struct KnownRows(Mutex<HashSet<PriceRowId>>);

impl KnownRows {
    pub(crate) fn contains(&self, row: PriceRowId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&row)
    }

    pub(crate) fn insert(&self, rows: impl IntoIterator<Item = PriceRowId>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_some() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
        }
    }
}

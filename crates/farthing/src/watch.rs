//! Who is told of settled exchanges: the dashboard, and a line on stderr.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use dashboard::Dashboard;
use facts::{Exchange, PriceRecord};
use gateway::{Page, Watch};
use quantity::UnixTime;

/// Passes exchanges to a thread of its own, so that a slow terminal delays nobody's reply.
///
/// The queue holds what settled and is not yet shown, a few microseconds
/// work for each.
pub(crate) struct Watcher {
    told: Mutex<Option<Sender<Arc<Exchange>>>>,
    dashboard: Arc<Mutex<Dashboard>>,
}

/// The thread, to be waited for.
pub(crate) struct Watching(JoinHandle<()>);

impl Watcher {
    /// Starts the thread. With `lines`, each exchange is a line on stderr.
    pub(crate) fn start(
        dashboard: Dashboard,
        lines: bool,
    ) -> anyhow::Result<(Arc<Self>, Watching)> {
        let (told, heard) = channel();
        let dashboard = Arc::new(Mutex::new(dashboard));
        let shown = Arc::clone(&dashboard);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        let thread = thread
            .spawn(move || watch(&heard, &shown, lines))
            .context("the system gives no thread")?;
        let watcher = Self { told: Mutex::new(Some(told)), dashboard };
        Ok((Arc::new(watcher), Watching(thread)))
    }

    pub(crate) fn price(&self, price: &PriceRecord) {
        self.dashboard().price(price);
    }

    /// Ends the thread once everything told so far is shown.
    pub(crate) fn finish(&self, watching: Watching) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = watching.0.join();
    }

    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.dashboard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(heard: &Receiver<Arc<Exchange>>, dashboard: &Mutex<Dashboard>, lines: bool) {
    for exchange in heard {
        dashboard.lock().unwrap_or_else(PoisonError::into_inner).settled(&exchange);
        if lines {
            eprintln!("{}", report::exchange::line(&exchange));
        }
    }
}

impl Watch for Watcher {
    fn settled(&self, exchange: &Arc<Exchange>) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*told {
            // It fails only when the thread is gone, which ends with the process.
            let _ = told.send(Arc::clone(exchange));
        }
    }

    fn page(&self, path: &str, now: UnixTime) -> Option<Page> {
        let page = self.dashboard().respond(path, now)?;
        let body = page.body.into_owned().into_bytes();
        Some(Page { content_type: page.content_type, headers: page.headers, body })
    }

    fn lookup(&self, exchange: &Exchange) -> String {
        report::exchange::json(exchange)
    }
}

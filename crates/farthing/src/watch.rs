//! Who is told of settled exchanges: the dashboard, and a line on stderr.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use dashboard::Dashboard;
use facts::{Exchange, PriceRecord};
use gateway::{Page, Watch};
use quantity::UnixTime;

/// How long a settled exchange may wait to be shown. The thread that shows them looks by itself: to
/// wake it for each would cost as much as to price them.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Passes exchanges to a thread of its own, so that a slow terminal delays nobody's reply.
pub(crate) struct Watcher {
    told: Arc<Told>,
    dashboard: Arc<Mutex<Dashboard>>,
}

/// Exchanges that are settled and not yet shown.
#[derive(Default)]
struct Told {
    waiting: Mutex<(Vec<Arc<Exchange>>, bool)>,
    closed: Condvar,
}

/// The thread, to be waited for.
pub(crate) struct Watching(JoinHandle<()>);

impl Watcher {
    /// Starts the thread. With `lines`, each exchange is a line on stderr.
    pub(crate) fn start(
        dashboard: Dashboard,
        lines: bool,
    ) -> anyhow::Result<(Arc<Self>, Watching)> {
        let told = Arc::new(Told::default());
        let dashboard = Arc::new(Mutex::new(dashboard));
        let thread = std::thread::Builder::new().name("watch".to_owned());
        let (heard, shown) = (Arc::clone(&told), Arc::clone(&dashboard));
        let thread = thread
            .spawn(move || heard.show(&shown, lines))
            .context("the system gives no thread")?;
        Ok((Arc::new(Self { told, dashboard }), Watching(thread)))
    }

    pub(crate) fn price(&self, price: &PriceRecord) {
        self.dashboard().price(price);
    }

    /// Ends the thread once everything told so far is shown.
    pub(crate) fn finish(&self, watching: Watching) {
        self.told.waiting().1 = true;
        self.told.closed.notify_one();
        let _ = watching.0.join();
    }

    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.dashboard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn waiting(&self) -> MutexGuard<'_, (Vec<Arc<Exchange>>, bool)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, dashboard: &Mutex<Dashboard>, lines: bool) {
        let mut text = String::new();
        loop {
            let (exchanges, closed) = {
                let waited = self.closed.wait_timeout(self.waiting(), LOOK_EVERY);
                let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
                (std::mem::take(&mut waiting.0), waiting.1)
            };
            for exchange in &exchanges {
                dashboard.lock().unwrap_or_else(PoisonError::into_inner).settled(exchange);
                if lines {
                    let _ = writeln!(text, "{}", report::exchange::line(exchange));
                }
            }
            // Nobody reads a closed stderr; the journal has it all.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            text.clear();
            if closed {
                return;
            }
        }
    }
}

impl Watch for Watcher {
    fn settled(&self, exchange: &Arc<Exchange>) {
        self.told.waiting().0.push(Arc::clone(exchange));
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

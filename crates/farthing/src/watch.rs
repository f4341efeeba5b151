//! Who is told of settled exchanges: the dashboard, and a line on stderr.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dashboard::Dashboard;
use facts::{Exchange, PriceRecord};
use gateway::{Page, Watch};
use journal::Handle;
use quantity::UnixTime;

use crate::price_alarm::{NOTICE, SharedChanges};
use crate::process::{self, in_background};

/// How long a settled exchange may wait to be shown. The thread that shows them looks by itself: to
/// wake it for each would cost as much as to price them.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Lines that may wait for a terminal that stands still; further ones are left out and counted.
const LINES_WAITING: usize = 1_024;
/// How long a stop waits for such a terminal.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Passes exchanges to a thread of its own, and their lines to another, so that a slow terminal delays
/// nobody's reply and no page.
pub(crate) struct Watcher {
    told: Arc<Told>,
    dashboard: Arc<Mutex<Dashboard>>,
    changes: SharedChanges,
    /// Whether it was said that connections could not be accepted.
    refused: Once,
    journal: Handle,
}

/// Exchanges that are settled and not yet shown.
#[derive(Default)]
struct Told {
    waiting: Mutex<(Vec<Arc<Exchange>>, bool)>,
    closed: Condvar,
}

/// The threads, to be waited for.
pub(crate) struct Watching {
    dashboard: JoinHandle<()>,
    lines: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the threads. With `lines`, each exchange is a line on stderr.
    pub(crate) fn start(
        dashboard: Dashboard,
        journal: Handle,
        lines: bool,
        changes: SharedChanges,
    ) -> anyhow::Result<(Arc<Self>, Watching)> {
        let told = Arc::new(Told::default());
        let dashboard = Arc::new(Mutex::new(dashboard));
        let (sender, lines) = if lines {
            let (sender, receiver) = sync_channel(LINES_WAITING);
            (Some(sender), Some(in_background("lines", move || write_lines(&receiver))?))
        } else {
            (None, None)
        };
        let (heard, shown) = (Arc::clone(&told), Arc::clone(&dashboard));
        let known = changes.clone();
        let show = move || heard.show(&shown, &known, sender.as_ref());
        let thread = in_background("watch", show)?;
        let refused = Once::new();
        let watcher = Arc::new(Self { told, dashboard, changes, refused, journal });
        Ok((watcher, Watching { dashboard: thread, lines }))
    }

    pub(crate) fn price(&self, price: &PriceRecord) {
        self.dashboard().price(price);
    }

    /// Ends the threads once everything told so far is shown, but for lines that nobody reads.
    pub(crate) fn finish(&self, watching: Watching) {
        self.told.waiting().1 = true;
        self.told.closed.notify_one();
        let _ = watching.dashboard.join();
        let Some(lines) = watching.lines else { return };
        let mut patience = LAST_LINES;
        while !lines.is_finished() && !patience.is_zero() {
            std::thread::sleep(LOOK_EVERY);
            patience = patience.saturating_sub(LOOK_EVERY);
        }
    }

    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.dashboard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn waiting(&self) -> MutexGuard<'_, (Vec<Arc<Exchange>>, bool)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(
        &self,
        dashboard: &Mutex<Dashboard>,
        changes: &SharedChanges,
        lines: Option<&SyncSender<String>>,
    ) {
        let mut left_out = 0_u64;
        loop {
            let (exchanges, closed) = {
                let waited = self.closed.wait_timeout(self.waiting(), LOOK_EVERY);
                let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
                (std::mem::take(&mut waiting.0), waiting.1)
            };
            for exchange in &exchanges {
                dashboard.lock().unwrap_or_else(PoisonError::into_inner).settled(exchange);
                changes.get().settled(exchange);
                let Some(lines) = lines else { continue };
                let mut line = report::exchange::line(exchange);
                if left_out > 0 {
                    line.insert_str(0, &format!("({left_out} lines are left out)\n"));
                }
                match lines.try_send(line) {
                    Ok(()) => left_out = 0,
                    Err(_) => left_out += 1,
                }
            }
            if closed {
                return;
            }
        }
    }
}

/// Writes lines as they come, those that wait together at once.
fn write_lines(lines: &Receiver<String>) {
    while let Ok(mut text) = lines.recv() {
        text.push('\n');
        for line in lines.try_iter() {
            text.push_str(&line);
            text.push('\n');
        }
        // Nobody reads a closed stderr; the journal has it all.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Watch for Watcher {
    fn settled(&self, exchange: &Arc<Exchange>) {
        self.told.waiting().0.push(Arc::clone(exchange));
    }

    fn page(&self, path: &str, now: UnixTime) -> Option<Page> {
        let changes = self.changes.get();
        let coming: Vec<_> = changes.within(now, NOTICE).map(|one| one.notice(now)).collect();
        drop(changes);
        let mut dashboard = self.dashboard();
        dashboard.set_coming(coming);
        dashboard.set_gap(self.journal.status().gap);
        let page = dashboard.respond(path, now)?;
        drop(dashboard);
        let body = page.body.into_owned().into_bytes();
        Some(Page { content_type: page.content_type, headers: page.headers, body })
    }

    fn not_accepted(&self, error: &std::io::Error) {
        // Once: it happens again and again, and `/metrics` counts it.
        self.refused.call_once(|| eprintln!("farthing: {}", process::not_accepted(error)));
    }

    fn metrics(&self, now: UnixTime) -> String {
        self.changes.get().metrics(now)
    }

    fn lookup(&self, exchange: &Exchange) -> String {
        report::exchange::json(exchange)
    }
}

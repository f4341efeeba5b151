//! Projects the journal while it is served, so that a bill finds most of it in the warehouse.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use journal::DirStorage;
use quantity::grouped;
use warehouse::Warehouse;

/// How often it is seen whether a segment was sealed: one in a few minutes at a thousand exchanges a
/// second.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// More of the journal than is projected in a second or two.
const LONG: u64 = 256 << 20;

/// Says so if what is asked of the warehouse next will take a while.
pub(crate) fn tell_if_long(warehouse: &Warehouse<DirStorage>) -> anyhow::Result<()> {
    let bytes = warehouse.unprojected()?;
    if bytes >= LONG {
        let megabytes = grouped(bytes >> 20);
        eprintln!("farthing: projecting {megabytes} MiB of the journal, which is needed once");
    }
    Ok(())
}

/// A thread that projects, until this is dropped. It is not waited for: a projection that is not
/// finished is made another time.
pub(crate) struct Projecting {
    _ends: Sender<()>,
}

impl Projecting {
    /// Starts the thread.
    pub(crate) fn start(warehouse: Warehouse<DirStorage>) -> anyhow::Result<Self> {
        let (ends, ended) = channel::<()>();
        // Those who are served come first.
        let warehouse = warehouse.with_processors(1);
        let thread = std::thread::Builder::new().name("project".to_owned());
        let run = move || {
            let mut complained = false;
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let problem = match warehouse.refresh() {
                    Ok(refreshed) => refreshed.unstored.map(|error| error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(problem) = problem.filter(|_| !complained) {
                    eprintln!(
                        "farthing: bills will take longer, the journal is not projected: {problem}"
                    );
                    complained = true;
                }
            }
        };
        thread.spawn(run).context("the system gives no thread")?;
        Ok(Self { _ends: ends })
    }
}

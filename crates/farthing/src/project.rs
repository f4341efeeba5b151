//! Projects the journal while it is served, so that a bill finds most of it in the warehouse, and prunes
//! what is older than the configured retention.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use gateway::Clock;
use journal::DirStorage;
use quantity::{UnixTime, grouped};
use warehouse::{Pruned, Warehouse, WarehouseError};

use crate::process::in_background;

/// How often it is seen whether a segment was sealed: one in a few minutes at a thousand exchanges a
/// second.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many such looks pass from one pruning to the next: an hour.
const PRUNE_EVERY: u64 = 360;

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
    /// Starts the thread. With `retention`, it prunes what is older.
    pub(crate) fn start(
        warehouse: Warehouse<DirStorage>,
        clock: Clock,
        retention: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let (ends, ended) = channel::<()>();
        // Those who are served come first.
        let warehouse = warehouse.with_processors(1);
        let run = move || {
            let mut complained = Complained::default();
            for round in 0_u64.. {
                let problem = match warehouse.refresh() {
                    Ok(refreshed) => refreshed.unstored.map(|error| error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                complained.of_projecting(problem);
                if let Some(retention) = retention.filter(|_| round % PRUNE_EVERY == 0) {
                    complained.of_pruning(prune(&warehouse, clock.now(), retention).err());
                }
                if ended.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        in_background("project", run)?;
        Ok(Self { _ends: ends })
    }
}

/// Prunes what is older than `retention`, and says so.
fn prune(
    warehouse: &Warehouse<DirStorage>,
    now: UnixTime,
    retention: Duration,
) -> Result<(), WarehouseError> {
    let age = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
    let before = UnixTime::from_nanos(now.nanos().saturating_sub(age));
    let pruned = warehouse.prune(before, now, false)?.pruned;
    if !pruned.is_empty() {
        let records = grouped(pruned.iter().map(Pruned::records).sum());
        let segments = pruned.len();
        eprintln!(
            "farthing: pruned {segments} segments with {records} records, older than retention"
        );
    }
    Ok(())
}

/// What was said, each thing once.
#[derive(Default)]
struct Complained {
    projecting: bool,
    pruning: bool,
}

impl Complained {
    fn of_projecting(&mut self, problem: Option<String>) {
        let Some(problem) = problem else { return };
        if !std::mem::replace(&mut self.projecting, true) {
            eprintln!("farthing: bills will take longer, the journal is not projected: {problem}");
        }
    }

    fn of_pruning(&mut self, problem: Option<WarehouseError>) {
        let Some(problem) = problem else { return };
        if !std::mem::replace(&mut self.pruning, true) {
            eprintln!("farthing: retention is not kept: {:#}", anyhow::Error::from(problem));
        }
    }
}

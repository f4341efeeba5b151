//! Clients that wait for an answer before they ask again.

use std::cell::Cell;

use crate::engine::{Engine, Error, Incoming, Record};
use crate::replica::Replica;
use crate::report::{Report, Slo};
use crate::sequence::NEVER;
use crate::step_time::StepTime;

/// Serves a closed loop: so many clients, each of which sends the next request at the end of the
/// step that ended its last one. The requests' own times of arrival are not looked at.
///
/// # Errors
/// As [`crate::serve`].
pub fn serve_closed(
    engine: &Engine,
    time: impl StepTime,
    slo: &Slo,
    clients: u32,
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    mut each: impl FnMut(&Record),
) -> Result<Report, Error> {
    let mut replica = Replica::new(engine, time, slo)?;
    let mut requests = (0..).zip(requests).fuse();
    let ended = Cell::new(clients);
    let mut each = |record: &Record| {
        ended.set(ended.get() + 1);
        each(record);
    };
    loop {
        // Those that are rejected as they come free their client at once.
        while ended.get() > 0
            && let Some((number, request)) = requests.next()
        {
            ended.set(ended.get() - 1);
            let mut incoming: Incoming = request.into();
            incoming.request.arrival_ps = replica.now();
            replica.push(number, incoming, &mut each)?;
        }
        ended.set(0);
        while ended.get() == 0 {
            if !replica.go(NEVER, &mut each)? {
                let end = replica.now();
                return Ok(replica.report(end));
            }
        }
    }
}

//! Many replicas behind a router.

use crate::engine::{Engine, Error, Incoming, Record};
use crate::replica::Replica;
use crate::report::{Report, Slo};
use crate::step_time::StepTime;

/// Which replica gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Each in its turn.
    RoundRobin,
    /// The one with the fewest requests, waiting or running; of several the next in turn. What
    /// ends with a step is gone when the step has ended.
    LeastLoaded,
}

/// Serves requests with so many equal replicas, and tells of each which replica had it and what
/// became of it. Replicas run until the last of them is done; the reports are in their order, and
/// [`Report::merge`] adds them up.
///
/// # Errors
/// As [`crate::serve`].
pub fn serve_fleet(
    engine: &Engine,
    time: impl StepTime,
    replicas: u32,
    balance: Balance,
    slo: &Slo,
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    mut each: impl FnMut(u32, &Record),
) -> Result<Vec<Report>, Error> {
    if replicas == 0 {
        let expected = "at least 1".to_owned();
        return Err(Error::Setting { what: "replicas", found: 0, expected });
    }
    let mut fleet = Vec::new();
    for _ in 0..replicas {
        fleet.push(Replica::new(engine, &time, slo)?);
    }
    let (mut turn, mut last_arrival) = (0_u32, 0);
    for (number, request) in (0..).zip(requests) {
        let Incoming { request, prefix } = request.into();
        let at = request.arrival_ps;
        if at < last_arrival {
            return Err(Error::Unsorted { number });
        }
        last_arrival = at;
        if balance == Balance::LeastLoaded {
            let mut least = (u32::MAX, 0);
            // In turn order, so that the first of several is the next.
            for which in (turn..replicas).chain(0..turn) {
                let replica = &mut fleet[which as usize];
                replica.advance(at, &mut |record: &Record| each(which, record))?;
                let load = replica.load(at);
                if load < least.0 {
                    least = (load, which);
                }
            }
            turn = least.1;
        }
        fleet[turn as usize].push(number, &request, prefix, &mut |record: &Record| {
            each(turn, record);
        })?;
        turn = (turn + 1) % replicas;
    }
    let mut end = 0;
    for (which, replica) in (0..).zip(&mut fleet) {
        end = end.max(replica.drain(&mut |record: &Record| each(which, record))?);
    }
    Ok(fleet.into_iter().map(|replica| replica.report(end)).collect())
}

//! One replica, driven step by step by whoever has a clock.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::{Engine, Error, Incoming, Record};
use crate::replica::Replica;
use crate::report::{Report, Slo};
use crate::step_time::StepTime;

/// What a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A token.
    Token {
        /// The request's number.
        number: u64,
        /// When: the end of a step.
        at_ps: u64,
        /// Its tokens so far, this one included: 1 is the first.
        generated: u32,
        /// Tokens of its prompt that were in the prefix cache when it was first admitted.
        cached: u32,
    },
    /// Its end, behind its last token.
    Ended(Record),
}

/// A replica whose requests are not known beforehand: the same scheduler as [`crate::serve`]'s, and
/// the same times to the picosecond.
///
/// A step that has begun cannot be changed, so what it gives is known before it ends: events may be
/// up to a step ahead of the time that the replica was told of. Who leaves or runs out of time during
/// a step is let go at its end, though the record says when that was. Who keeps a clock calls
/// [`Self::advance`] when [`Self::next_step`] has come, and delivers each event when its time has.
pub struct Live<T> {
    replica: Replica<T>,
    told: Told,
    next: u64,
    clock: u64,
}

/// What was told of.
#[derive(Debug, Default)]
struct Told {
    events: VecDeque<Event>,
    /// Of each request that waits or runs: its place in the replica, and the tokens told of.
    present: BTreeMap<u64, (u32, u32)>,
}

impl Told {
    fn tokens(&mut self, number: u64, generated: u32, cached: u32, at_ps: u64) {
        let Some((_, told)) = self.present.get_mut(&number) else { return };
        let new = *told + 1..=generated;
        let token = |generated| Event::Token { number, at_ps, generated, cached };
        self.events.extend(new.map(token));
        *told = generated;
    }

    fn end(&mut self, record: &Record) {
        self.tokens(record.number, record.generated, record.cached, record.end_ps);
        self.present.remove(&record.number);
        self.events.push_back(Event::Ended(*record));
    }
}

impl<T: StepTime> Live<T> {
    /// A replica with nothing to do at time 0.
    ///
    /// # Errors
    /// If the engine's settings make no sense.
    pub fn new(engine: &Engine, time: T, slo: &Slo) -> Result<Self, Error> {
        let mut replica = Replica::new(engine, time, slo)?;
        replica.go_step_by_step();
        Ok(Self { replica, told: Told::default(), next: 0, clock: 0 })
    }

    /// A request comes, at its arrival; returns its number, which counts from 0.
    ///
    /// # Errors
    /// If it comes before what the replica was told of last, has no prompt or no output, or times
    /// are beyond what picoseconds can count.
    pub fn submit(&mut self, request: impl Into<Incoming>) -> Result<u64, Error> {
        let incoming: Incoming = request.into();
        let at = incoming.request.arrival_ps;
        let number = self.next;
        if at < self.clock {
            return Err(Error::Unsorted { number });
        }
        self.advance(at)?;
        let Self { replica, told, .. } = self;
        let place = replica.push(number, incoming, &mut |record| told.end(record))?;
        self.next += 1;
        self.told.present.extend(place.map(|place| (number, (place, 0))));
        Ok(number)
    }

    /// The client of a request leaves; without effect on one that has ended.
    ///
    /// # Errors
    /// If times are beyond what picoseconds can count.
    pub fn abort(&mut self, number: u64, at_ps: u64) -> Result<(), Error> {
        self.advance(at_ps)?;
        if let Some(&(place, _)) = self.told.present.get(&number) {
            self.replica.abort(number, place, at_ps.max(self.clock));
        }
        Ok(())
    }

    /// Runs all steps that begin before a time. It does not matter how often or how seldom that is
    /// called; a time that is over changes nothing.
    ///
    /// # Errors
    /// If a step takes too long to be simulated.
    pub fn advance(&mut self, until_ps: u64) -> Result<(), Error> {
        self.clock = self.clock.max(until_ps);
        while self.replica.now() < until_ps {
            let Self { replica, told, .. } = self;
            replica.go(until_ps, &mut |record| told.end(record))?;
            for (one, generated) in replica.present() {
                told.tokens(one.number, generated, one.cached, replica.now());
            }
        }
        Ok(())
    }

    /// When the next step begins, which is when the one before has ended; `None` while there is
    /// nothing to do. To run it, [`Self::advance`] to the picosecond after.
    #[must_use]
    pub const fn next_step(&self) -> Option<u64> {
        if self.replica.is_idle() { None } else { Some(self.replica.now()) }
    }

    /// The next event that has not been told.
    pub fn next_event(&mut self) -> Option<Event> {
        self.told.events.pop_front()
    }

    /// How many requests wait or run.
    #[must_use]
    pub fn load(&self) -> usize {
        self.told.present.len()
    }

    /// Runs until nothing is left, and tells what it came to.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn finish(mut self) -> Result<(Vec<Event>, Report), Error> {
        while let Some(next) = self.next_step() {
            self.advance(next + 1)?;
        }
        let end = self.replica.now();
        Ok((self.told.events.into(), self.replica.report(end)))
    }
}

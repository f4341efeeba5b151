//! Many replicas behind a router.

use crate::engine::{Engine, Error, Incoming, Record};
use crate::pools::{Link, Pool};
use crate::replica::{Handover, Replica};
use crate::report::{Report, Slo};
use crate::sequence::NEVER;
use crate::step_time::StepTime;

/// Which replica gets a request. Of several that are as good, the next in turn does.
///
/// A replica's load is the number of its requests, waiting or running. What ends with a step is gone
/// when the step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Each in its turn.
    RoundRobin,
    /// The one with the least load.
    LeastLoaded,
    /// Of those whose load is above the least by no more than `slack`, the one whose cache has most
    /// of the prompt, and of several the one with the least load.
    PrefixAware {
        /// Requests by which a load may be above the least.
        slack: u32,
    },
}

/// When replicas are started and stopped.
///
/// As often as it says, the load of the replicas that take requests, over the load that each should
/// have, tells how many are wanted. Missing ones are started at once, and take requests after their
/// cold start. Those too many are stopped, the newest first, once there have been too many for the
/// whole of a time: as many as were too many throughout. Who is stopped serves what it has, and no
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// Replicas at the start, and at least; not zero.
    pub least: u32,
    /// Replicas at most.
    pub most: u32,
    /// Requests, waiting or running, that a replica should have; not zero.
    pub target_load: u32,
    /// Time between two looks; not zero.
    pub every_ps: u64,
    /// From the start of a replica, from which on it is paid for, until it takes requests.
    pub cold_start_ps: u64,
    /// For so long there must have been too many before any is stopped.
    pub hold_ps: u64,
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
    each: impl FnMut(u32, &Record),
) -> Result<Vec<Report>, Error> {
    let mut fleet = Fleet::of(&Pool { engine, time: &time, replicas, balance }, slo, each)?;
    for (number, request) in (0..).zip(requests) {
        fleet.push(number, request.into())?;
    }
    fleet.finish()
}

/// Serves requests with as many equal replicas as they need; otherwise as [`serve_fleet`]. Reports are
/// in the order in which replicas were started, and of the time from there until they were stopped and
/// done.
///
/// # Errors
/// As [`crate::serve`].
pub fn serve_scaled(
    engine: &Engine,
    time: impl StepTime,
    scaling: &Scaling,
    balance: Balance,
    slo: &Slo,
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    each: impl FnMut(u32, &Record),
) -> Result<Vec<Report>, Error> {
    positive("least replicas", scaling.least)?;
    positive("target_load", scaling.target_load)?;
    positive("every_ps", u32::try_from(scaling.every_ps).unwrap_or(u32::MAX))?;
    if scaling.most < scaling.least {
        let expected = format!("at least {}, the least replicas", scaling.least);
        return Err(Error::Setting { what: "most replicas", found: scaling.most, expected });
    }
    let pool = Pool { engine, time: &time, replicas: scaling.least, balance };
    let mut fleet = Fleet::of(&pool, slo, each)?;
    fleet.watch();
    let mut next = scaling.every_ps;
    // Since when there have been too many, and how many were wanted at most.
    let mut spare: Option<(u64, u32)> = None;
    for (number, request) in (0..).zip(requests) {
        let incoming: Incoming = request.into();
        while next <= incoming.request.arrival_ps {
            fleet.scale(next, scaling, &mut spare)?;
            next = next.checked_add(scaling.every_ps).ok_or(Error::RunTooLong)?;
        }
        fleet.push(number, incoming)?;
    }
    fleet.finish()
}

fn positive(what: &'static str, found: u32) -> Result<(), Error> {
    let expected = || "at least 1".to_owned();
    if found == 0 { Err(Error::Setting { what, found, expected: expected() }) } else { Ok(()) }
}

pub(crate) struct Fleet<'a, T, F> {
    engine: &'a Engine,
    time: &'a T,
    slo: &'a Slo,
    balance: Balance,
    /// Whether anybody asks for loads.
    watched: bool,
    each: F,
    members: Vec<Member<'a, T>>,
    /// By member: its load, or `CLOSED`.
    loads: Vec<u32>,
    /// By member: the time up to which its load is known; `NEVER` while it has none.
    known: Vec<u64>,
    /// How many take requests, or will when they have started.
    current: u32,
    /// The first time at which one that was started takes requests.
    opens: u64,
    /// The member whose turn it is.
    turn: usize,
    last_arrival: u64,
}

/// The load of a replica that takes no requests.
const CLOSED: u32 = u32::MAX;

struct Member<'a, T> {
    /// `None` once it is stopped.
    replica: Option<Replica<&'a T>>,
    /// When it was started, and when it takes requests.
    begun: u64,
    opens: u64,
    report: Report,
}

impl<'a, T: StepTime, F: FnMut(u32, &Record)> Fleet<'a, T, F> {
    pub(crate) fn of(pool: &Pool<'a, &'a T>, slo: &'a Slo, each: F) -> Result<Self, Error> {
        let &Pool { engine, time, replicas, balance } = pool;
        positive("replicas", replicas)?;
        let mut fleet = Self {
            engine,
            time,
            slo,
            balance,
            watched: balance != Balance::RoundRobin,
            each,
            members: Vec::new(),
            loads: Vec::new(),
            known: Vec::new(),
            current: 0,
            opens: NEVER,
            turn: 0,
            last_arrival: 0,
        };
        for _ in 0..replicas {
            fleet.start(0, 0)?;
        }
        Ok(fleet)
    }

    /// Somebody asks for loads, though the router may not.
    fn watch(&mut self) {
        self.watched = true;
        self.replicas().for_each(|(_, replica)| replica.watch());
    }

    /// Those that are not stopped.
    fn replicas(&mut self) -> impl Iterator<Item = (usize, &mut Replica<&'a T>)> {
        let all = self.members.iter_mut().enumerate();
        all.filter_map(|(which, member)| Some((which, member.replica.as_mut()?)))
    }

    /// Starts a replica at a time that takes requests at a later one.
    fn start(&mut self, begun: u64, opens: u64) -> Result<(), Error> {
        let mut replica = Replica::new(self.engine, self.time, self.slo)?;
        replica.begin(opens);
        if self.watched {
            replica.watch();
        }
        let report = Report::default();
        self.members.push(Member { replica: Some(replica), begun, opens, report });
        self.loads.push(if opens > begun { CLOSED } else { 0 });
        self.known.push(NEVER);
        self.opens = self.opens.min(if opens > begun { opens } else { NEVER });
        self.current += 1;
        Ok(())
    }

    /// Those that have started by now take requests.
    fn open(&mut self, at: u64) {
        if at < self.opens {
            return;
        }
        self.opens = NEVER;
        for (load, member) in self.loads.iter_mut().zip(&self.members) {
            if member.replica.is_some() && *load == CLOSED {
                if member.opens <= at {
                    *load = 0;
                } else {
                    self.opens = self.opens.min(member.opens);
                }
            }
        }
    }

    /// Finds out the load of each at a time.
    fn look(&mut self, at: u64) -> Result<(), Error> {
        for (which, known) in self.known.iter_mut().enumerate() {
            if *known <= at
                && let Some(replica) = &mut self.members[which].replica
            {
                replica.settle(at, &mut |record| (self.each)(number(which), record))?;
                (self.loads[which], *known) = load(replica, at, self.balance);
            }
        }
        Ok(())
    }

    /// A request comes.
    pub(crate) fn push(&mut self, place: u64, incoming: Incoming) -> Result<(), Error> {
        let at = incoming.request.arrival_ps;
        if at < self.last_arrival {
            return Err(Error::Unsorted { number: place });
        }
        self.last_arrival = at;
        let which = self.choose(at, &incoming)?;
        let (replica, each) = self.one(which);
        replica.push(place, incoming, &mut |record| each(number(which), record))?;
        self.took(which, at);
        Ok(())
    }

    /// A request comes with its context.
    pub(crate) fn receive(&mut self, handover: Handover) -> Result<(), Error> {
        let at = handover.ready;
        let which = self.choose(at, &handover.incoming)?;
        let (replica, each) = self.one(which);
        replica.receive(handover, &mut |record| each(number(which), record))?;
        self.took(which, at);
        Ok(())
    }

    /// Makes all replicas there are send what is to be decoded.
    pub(crate) fn send_over(&mut self, link: Link) {
        self.replicas().for_each(|(_, replica)| replica.send_over(link));
    }

    /// Hands over what was sent since the last time; what has left on the way, `to` gives back with its
    /// end.
    pub(crate) fn take_sent(&mut self, mut to: impl FnMut(Handover) -> Option<Record>) {
        for (which, member) in self.members.iter_mut().enumerate() {
            let Some(replica) = &mut member.replica else { continue };
            let lost: Vec<Record> = replica.take_sent().filter_map(&mut to).collect();
            for record in lost {
                replica.lose(&record, &mut |record| (self.each)(number(which), record));
            }
        }
    }

    /// Runs all replicas until what happens before a time has been seen.
    pub(crate) fn settle(&mut self, at: u64) -> Result<(), Error> {
        for (which, member) in self.members.iter_mut().enumerate() {
            if let Some(replica) = &mut member.replica {
                replica.settle(at, &mut |record| (self.each)(number(which), record))?;
            }
        }
        Ok(())
    }

    /// One that takes requests, and who is told of them.
    fn one(&mut self, which: usize) -> (&mut Replica<&'a T>, &mut F) {
        let replica = self.members[which].replica.as_mut();
        (replica.expect("only those that run take requests"), &mut self.each)
    }

    /// It got a request.
    fn took(&mut self, which: usize, at: u64) {
        let balance = self.balance;
        let known = load(self.one(which).0, at, balance);
        (self.loads[which], self.known[which]) = known;
        self.turn = if which + 1 == self.members.len() { 0 } else { which + 1 };
    }

    /// Whom the router gives a request.
    fn choose(&mut self, at: u64, incoming: &Incoming) -> Result<usize, Error> {
        self.open(at);
        Ok(match self.balance {
            Balance::RoundRobin => self.in_turn(|load| load != CLOSED),
            Balance::LeastLoaded => {
                self.look(at)?;
                let least = self.least();
                self.in_turn(|load| load == least)
            }
            Balance::PrefixAware { slack } => {
                self.look(at)?;
                let most = self.least().saturating_add(slack).min(CLOSED - 1);
                let all = (self.turn..self.loads.len()).chain(0..self.turn);
                let good = all.filter(|&which| self.loads[which] <= most);
                let Incoming { request, prefix } = incoming;
                let cached = |which: usize| match (&self.members[which].replica, prefix) {
                    (Some(replica), Some(prefix)) => replica.cached(prefix, request.prompt),
                    _ => 0,
                };
                // The first of several is the next in turn.
                let best =
                    good.min_by_key(|&which| (std::cmp::Reverse(cached(which)), self.loads[which]));
                best.expect("the least loaded is among them")
            }
        })
    }

    /// The first from the one whose turn it is that is good; there is one.
    fn in_turn(&self, is_good: impl Fn(u32) -> bool) -> usize {
        let good = |load: &u32| is_good(*load);
        let (before, behind) = self.loads.split_at(self.turn);
        let next = behind.iter().position(good).map(|at| at + self.turn);
        next.or_else(|| before.iter().position(good)).expect("one at least takes requests")
    }

    fn least(&self) -> u32 {
        self.loads.iter().copied().min().unwrap_or(CLOSED)
    }

    /// Starts and stops replicas.
    fn scale(
        &mut self,
        at: u64,
        scaling: &Scaling,
        spare: &mut Option<(u64, u32)>,
    ) -> Result<(), Error> {
        self.open(at);
        self.look(at)?;
        let loads = self.loads.iter().filter(|&&load| load != CLOSED);
        let load: u64 = loads.map(|&load| u64::from(load)).sum();
        let wanted = u32::try_from(load.div_ceil(scaling.target_load.into())).unwrap_or(u32::MAX);
        let wanted = wanted.clamp(scaling.least, scaling.most);
        if wanted >= self.current {
            *spare = None;
            let opens = at.checked_add(scaling.cold_start_ps).filter(|&opens| opens < NEVER);
            let opens = opens.ok_or(Error::RunTooLong)?;
            for _ in self.current..wanted {
                self.start(at, opens)?;
            }
            return Ok(());
        }
        let (since, most) = spare.map_or((at, wanted), |(since, most)| (since, most.max(wanted)));
        *spare = Some((since, most));
        if at - since >= scaling.hold_ps {
            *spare = None;
            for which in (0..self.members.len()).rev() {
                if self.current > most && self.members[which].replica.is_some() {
                    self.stop(which, at)?;
                }
            }
        }
        Ok(())
    }

    /// It takes no more requests; what it has, it serves.
    fn stop(&mut self, which: usize, at: u64) -> Result<(), Error> {
        let member = &mut self.members[which];
        let Some(mut replica) = member.replica.take() else { return Ok(()) };
        let mut end = at;
        if member.opens <= at {
            let last = replica.drain(NEVER, &mut |record| (self.each)(number(which), record))?;
            end = last.max(at);
        }
        member.report = member.paid(replica, end);
        (self.loads[which], self.known[which]) = (CLOSED, NEVER);
        self.current -= 1;
        Ok(())
    }

    /// Nothing more comes: runs until nothing is left, or a time is reached; returns when the last
    /// replica had got so far, and whether nothing is left.
    pub(crate) fn drain(&mut self, until: u64) -> Result<(u64, bool), Error> {
        let (mut end, mut idle) = (0, true);
        for (which, member) in self.members.iter_mut().enumerate() {
            if let Some(replica) = &mut member.replica
                && self.loads[which] != CLOSED
            {
                let each = &mut |record: &Record| (self.each)(number(which), record);
                end = end.max(replica.drain(until, each)?);
                idle &= replica.is_idle();
            }
        }
        Ok((end, idle))
    }

    /// What each came to by an end that is not before its own.
    pub(crate) fn reports(self, end: u64) -> Result<Vec<Report>, Error> {
        let reports = self.members.into_iter().map(|mut member| match member.replica.take() {
            Some(replica) => member.paid(replica, end),
            None => member.report,
        });
        let reports: Vec<_> = reports.collect();
        // Whoever merges them adds up their times.
        let mut spans = reports.iter().map(|report| report.time.total_ps());
        let all = spans.try_fold(0_u64, u64::checked_add);
        all.map(|_| reports).ok_or(Error::RunTooLong)
    }

    fn finish(mut self) -> Result<Vec<Report>, Error> {
        let (end, _) = self.drain(NEVER)?;
        self.reports(end)
    }
}

impl<T: StepTime> Member<'_, T> {
    /// What a replica came to that was paid for until a time.
    fn paid(&self, replica: Replica<&T>, end: u64) -> Report {
        let mut report = replica.report(end.max(self.opens));
        report.time.cold_ps = self.opens.min(end) - self.begun;
        report
    }
}

/// The load of a replica at a time, and up to when that is known.
fn load<T: StepTime>(replica: &mut Replica<T>, at: u64, balance: Balance) -> (u32, u64) {
    let (load, now) = (replica.load(at), replica.now());
    // What ends with the step at hand is there until it has ended.
    let lasts = now <= at || load == replica.load(now);
    let known = match balance {
        // What is cached changes with every step.
        Balance::PrefixAware { .. } if !replica.is_idle() => now,
        _ if !lasts => now,
        _ if replica.is_idle() => NEVER,
        _ => replica.quiet_until(),
    };
    (load, known)
}

fn number(which: usize) -> u32 {
    u32::try_from(which).expect("memory ends before u32 does")
}

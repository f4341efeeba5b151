//! The world of one seed: clients, upstreams, a disk and a gateway, one event after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use facts::{Attempt, Exchange, PriceRecord};
use journal::{Batch, Fault, MemoryStorage, Writer};
use quantity::{ExchangeId, Money, UnixTime};
use tariff::Book;
use workload::Random;

use crate::gateway::{Gateway, Stage, Submission};
use crate::hours::Rate;
use crate::kind::HOSTED;
use crate::model::{PriceList, Seen, book_text};
use crate::plan::{MS, Mutant, Plan};
use crate::replay::{Follower, ReadError, Replay, sound};
use crate::wire::{self, Wire};
use crate::{Report, Violation};

/// 2026-03-01T00:00:00Z.
const EPOCH: i64 = 1_772_323_200_000_000_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) random: Dice,
    pub(crate) now: u64,
    /// What the wall clock shows beside the virtual time.
    wall: i64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(crate) book: Book,
    pub(crate) prices: PriceList,
    pub(crate) storage: MemoryStorage,
    /// The call of the storage at which the process dies.
    crash_at: Option<u64>,
    pub(crate) gateway: Option<Gateway>,
    /// Which gateway: events of a dead one are void.
    life: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) follower: Follower,
    pub(crate) report: Report,
    /// When prices change.
    pub(crate) change: Option<UnixTime>,
    /// A sync that was said to be done was not, and no power cut has come since.
    pub(crate) lied: bool,
    /// The power was cut on such a disk, and nobody has looked at it since.
    pub(crate) doubtful: bool,
    /// What such a disk lost was seen: there is no more to check.
    pub(crate) over: bool,
    /// Where the warehouse stores its projections.
    pub(crate) shelf: Option<PathBuf>,
    /// What hours are configured to cost.
    hourly: BTreeMap<&'static str, Option<Money>>,
}

/// A generator for each part, so that a change of one leaves the others as they were.
pub(crate) struct Dice {
    pub(crate) wire: Random,
    pub(crate) net: Random,
    pub(crate) client: Random,
    pub(crate) disk: Random,
    pub(crate) shelf: Random,
    clock: Random,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Arrive(usize),
    /// The writer takes what is queued, or has appended it.
    Append(u64),
    Sync(u64),
    Upstream(usize),
    TryAgain(usize),
    Leave(usize),
    StepClock,
    /// Somebody asks for the bill.
    Ask,
    Die,
    /// This gateway is stopped and started.
    Restart(u64),
    Start,
}

/// A client with its one exchange, and what the world knows of it.
pub(crate) struct Client {
    /// What the upstream does, for each attempt that there may be.
    pub(crate) wires: Vec<Wire>,
    pub(crate) retry: u32,
    pub(crate) leaves_after: Option<usize>,
    pub(crate) received: Vec<u8>,
    pub(crate) id: Option<ExchangeId>,
    /// Attempts that ended, and how.
    pub(crate) ended: Vec<(Attempt, Seen)>,
    /// As it was settled live.
    pub(crate) live: Option<Exchange>,
    /// As the journal has it, once a recovery has read it.
    pub(crate) booked: Option<Exchange>,
    pub(crate) admission: Fate,
    pub(crate) settlement: Fate,
    /// The client has the last byte.
    pub(crate) released: bool,
}

/// What became of records that were submitted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fate {
    pub(crate) acknowledged: Option<bool>,
    pub(crate) durable: bool,
    /// A power cut came before they were durable.
    pub(crate) may_be_gone: bool,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        mutant: Option<Mutant>,
        crash_at: Option<u64>,
        shelf: Option<&Path>,
    ) -> Result<Self, Violation> {
        let root = Random::new(seed);
        let mut plan = Plan::draw(&mut root.fork("plan"));
        if crash_at.is_some() {
            (plan.kills, plan.crash_calls) = (0, 0);
        }
        let mut clock = root.fork("clock");
        let span = plan.gap * plan.exchanges as u64 + 20 * MS;
        let change = plan
            .price_change
            .then(|| UnixTime::from_nanos(EPOCH + i64::try_from(clock.below(span)).unwrap_or(0)));
        let text = book_text(&mut root.fork("prices"), change);
        let book = Book::parse(&text)
            .map_err(|error| Violation::new("SIM-3", format!("the book is refused: {error}")))?;
        let storage = MemoryStorage::new();
        let mut world = Self {
            plan,
            mutant,
            random: Dice {
                wire: root.fork("wire"),
                net: root.fork("net"),
                client: root.fork("client"),
                disk: root.fork("disk"),
                shelf: root.fork("shelf"),
                clock,
            },
            now: 0,
            wall: EPOCH,
            events: BTreeMap::new(),
            scheduled: 0,
            book,
            prices: PriceList::read(&text),
            follower: Follower::new(&storage)?,
            storage,
            crash_at,
            gateway: None,
            life: 0,
            clients: Vec::new(),
            report: Report::default(),
            change,
            lied: false,
            doubtful: false,
            over: false,
            shelf: shelf.map(Path::to_owned),
            hourly: BTreeMap::new(),
        };
        world.schedule(0, Event::Start);
        let mut at = 0;
        for _ in 0..world.plan.exchanges {
            at += world.random.client.below(2 * world.plan.gap + 1);
            world.arrive(at, 0);
        }
        for _ in 0..world.plan.kills {
            let at = world.random.disk.below(2 * span);
            world.schedule(at, Event::Die);
        }
        for _ in 0..world.plan.questions {
            let at = world.random.shelf.below(span);
            world.schedule(at, Event::Ask);
        }
        if world.plan.clock_steps {
            for _ in 0..1 + world.random.clock.below(3) {
                let at = world.random.clock.below(span);
                world.schedule(at, Event::StepClock);
            }
        }
        Ok(world)
    }

    /// Lets everything happen, until all clients have ended and the gateway was stopped.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while let Some(((at, _), event)) = self.events.pop_first().filter(|_| !self.over) {
            self.now = self.now.max(at);
            self.trace(event);
            self.happen(event)?;
        }
        Ok(())
    }

    pub(crate) fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + after, self.scheduled), event);
    }

    pub(crate) fn wall(&self) -> UnixTime {
        UnixTime::from_nanos(self.wall).plus(std::time::Duration::from_nanos(self.now))
    }

    fn trace(&mut self, event: Event) {
        let received: usize = match event {
            Event::Upstream(i) | Event::Leave(i) | Event::Arrive(i) => {
                self.clients[i].received.len()
            }
            _ => 0,
        };
        self.report.mix(format!("{} {event:?} {received}", self.now).as_bytes());
        self.report.mix(&self.storage.calls().to_le_bytes());
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Arrive(i) => self.request(i),
            Event::Append(life) if life == self.life => self.append(),
            Event::Sync(life) if life == self.life => self.sync(),
            Event::Restart(life) if life == self.life => {
                self.die();
                Ok(())
            }
            Event::Append(_) | Event::Sync(_) | Event::Restart(_) => Ok(()),
            Event::Upstream(i) => self.upstream(i),
            Event::TryAgain(i) => {
                self.try_again(i);
                Ok(())
            }
            Event::Leave(i) => {
                self.leave(i);
                Ok(())
            }
            Event::StepClock => {
                // Back or forth by up to a few seconds, at times by an hour.
                let reach = if self.random.clock.chance(0.2) { 3_600_000 * MS } else { 100 * MS };
                let step = self.random.clock.below(2 * reach);
                self.wall += i64::try_from(step).unwrap_or(0) - i64::try_from(reach).unwrap_or(0);
                self.report.count("clock step");
                Ok(())
            }
            Event::Ask => self.ask(),
            Event::Die => {
                self.die();
                Ok(())
            }
            Event::Start => self.start(),
        }
    }

    /// A client that comes later, and what upstreams will do with its request.
    pub(crate) fn arrive(&mut self, after: u64, retry: u32) {
        let faults = &self.plan.wire;
        let first = wire::draw(&mut self.random.wire, faults);
        let mut wires = vec![first];
        for _ in 1..self.plan.attempts {
            let next = wire::draw_again(&mut self.random.wire, faults, &wires[0]);
            wires.push(next);
        }
        let dice = &mut self.random.client;
        let impatient = dice.chance(self.plan.client_leaves);
        let by_bytes = dice.chance(0.6);
        let bytes = dice.index(wires[0].body.len() + 1);
        let patience = dice.below(50 * MS);
        self.clients.push(Client {
            wires,
            retry,
            leaves_after: (impatient && by_bytes).then_some(bytes),
            received: Vec::new(),
            id: None,
            ended: Vec::new(),
            live: None,
            booked: None,
            admission: Fate::default(),
            settlement: Fate::default(),
            released: false,
        });
        let i = self.clients.len() - 1;
        self.schedule(after, Event::Arrive(i));
        if impatient && !by_bytes {
            self.schedule(after + patience, Event::Leave(i));
        }
    }

    pub(crate) fn submit(&mut self, submission: Submission) {
        let Some(gateway) = &mut self.gateway else { return };
        gateway.queue.push(submission);
        if !gateway.busy {
            gateway.busy = true;
            self.schedule(0, Event::Append(self.life));
        }
    }

    /// The writer takes a group, or has appended the one it took.
    fn append(&mut self) -> Result<(), Violation> {
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        if gateway.flight.is_empty() {
            gateway.flight = std::mem::take(&mut gateway.queue);
            gateway.busy = !gateway.flight.is_empty();
            if gateway.busy {
                let latency = self.random.disk.below(self.plan.append + 1);
                self.schedule(latency, Event::Append(self.life));
            }
            return Ok(());
        }
        let mut batch = gateway.batch();
        if self.random.disk.chance(self.plan.full_disk) {
            let written = self.random.disk.index(batch.bytes() + 1);
            self.inject(0, Fault::Torn(written), "full disk");
            if self.random.disk.chance(self.plan.failed_cut) {
                self.inject(1, Fault::Fail, "failed cut");
            }
        }
        // A new segment syncs the one before.
        let ahead = self.random.disk.below(3);
        self.lose_sync(ahead);
        let wall = self.wall();
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let mut done = gateway.writer.append(&mut batch, wall).map(drop);
        let must_sync = self.plan.sync_each && self.mutant != Some(Mutant::AppendIsSync);
        if done.is_ok() && must_sync && !self.died() {
            self.fail_sync();
            if let Some(gateway) = &mut self.gateway {
                done = gateway.writer.sync();
            }
        }
        if self.died() {
            self.die();
            return Ok(());
        }
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let failed = gateway.writer.failure().is_some();
        self.refuse_if(failed);
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let group = std::mem::take(&mut gateway.flight);
        let ok = done.is_ok();
        if ok && !self.plan.sync_each {
            gateway.unsynced.extend(group.iter().map(|one| (one.client, one.stage)));
            if !gateway.syncing {
                gateway.syncing = true;
                self.schedule(self.plan.sync, Event::Sync(self.life));
            }
        }
        self.report.count(if ok { "append" } else { "failed append" });
        for submission in group {
            self.resolve(submission, ok)?;
        }
        self.schedule(0, Event::Append(self.life));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Violation> {
        self.fail_sync();
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        gateway.syncing = false;
        let done = gateway.writer.sync();
        if self.died() {
            self.die();
            return Ok(());
        }
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        if done.is_ok() {
            let durable = !self.lied;
            for (i, stage) in std::mem::take(&mut gateway.unsynced) {
                if let Some(fate) = self.clients[i].fate(stage) {
                    fate.durable = durable;
                }
            }
        }
        self.refuse_if(done.is_err());
        Ok(())
    }

    /// A failure for good: nothing more is admitted, until somebody starts the gateway anew.
    fn refuse_if(&mut self, failed: bool) {
        if let Some(gateway) = self.gateway.as_mut().filter(|gateway| failed && !gateway.failed) {
            gateway.failed = true;
            let patience = self.random.disk.below(50 * MS);
            self.schedule(patience, Event::Restart(self.life));
        }
    }

    /// A ticket is good or not.
    fn resolve(&mut self, submission: Submission, ok: bool) -> Result<(), Violation> {
        let Submission { client: i, stage, rows, .. } = submission;
        if let Some(fate) = self.clients[i].fate(stage) {
            fate.acknowledged = Some(ok);
            fate.durable = ok && self.plan.sync_each && !self.lied;
        }
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        if ok {
            gateway.rows.extend(rows);
        }
        self.answered(i, stage, ok)
    }

    /// Sets a fault on a call of the storage to come.
    fn inject(&mut self, ahead: u64, fault: Fault, name: &'static str) {
        let call = self.storage.calls() + ahead;
        if self.crash_at != Some(call) {
            self.storage.set_fault(call, fault);
            self.report.count(name);
        }
    }

    fn fail_sync(&mut self) {
        if self.random.disk.chance(self.plan.failed_sync) {
            self.inject(0, Fault::Fail, "failed sync");
        } else {
            self.lose_sync(0);
        }
    }

    /// The disk may say of a sync that it was done when it was not.
    fn lose_sync(&mut self, ahead: u64) {
        if self.random.disk.chance(self.plan.lost_sync) {
            self.inject(ahead, Fault::LostSync, "lost sync");
            self.lied = true;
        }
    }

    /// Whether the process died within a call of the storage.
    fn died(&self) -> bool {
        self.crash_at.is_some_and(|call| self.storage.calls() > call)
    }

    /// The process is killed, or the power is cut. A new one starts later.
    fn die(&mut self) {
        if self.died() {
            self.report.count("died at a call");
        }
        let dice = &mut self.random.disk;
        let power = dice.chance(self.plan.power_cuts);
        let kept = if dice.chance(0.5) { 0 } else { dice.index(2000) };
        let pause = dice.below(20 * MS);
        self.gateway = None;
        self.life += 1;
        self.crash_at = None;
        self.report.count(if power { "power cut" } else { "kill" });
        self.storage =
            if power { self.storage.after_power_cut(kept) } else { self.storage.after_kill() };
        for client in &mut self.clients {
            for fate in [&mut client.admission, &mut client.settlement] {
                fate.may_be_gone |= power && !fate.durable;
            }
            if power && self.lied && !client.settlement.durable {
                client.booked = None;
            }
        }
        if power {
            self.doubtful |= std::mem::take(&mut self.lied);
        }
        self.harm_shelf();
        if !self.events.values().any(|event| matches!(event, Event::Start)) {
            self.schedule(pause, Event::Start);
        }
    }

    /// A gateway starts: it recovers the journal and settles what its predecessor left open.
    fn start(&mut self) -> Result<(), Violation> {
        if self.gateway.is_some() {
            return Ok(());
        }
        if self.plan.crash_calls > 0 {
            self.plan.crash_calls -= 1;
            let ahead = self.random.disk.below(3 * self.plan.exchanges as u64 + 8);
            self.crash_at = Some(self.storage.calls() + ahead);
        }
        if let Some(call) = self.crash_at {
            let written = self.random.disk.index(1200);
            self.storage.set_fault(call, Fault::Crash(written));
        }
        match self.recover() {
            Ok(writer) => {
                self.gateway = Some(Gateway::new(writer));
                let followed = self.follower.move_to(&self.storage);
                match followed.and_then(|()| self.follower.poll()) {
                    Err(_) if self.doubtful => {
                        self.give_up();
                        Ok(())
                    }
                    followed => followed.and_then(|()| self.check_recovered()),
                }
            }
            Err(_) if self.died() => {
                self.report.count("died in recovery");
                self.die();
                Ok(())
            }
            // What a lying disk lost is told.
            Err(_) if self.doubtful => {
                self.give_up();
                Ok(())
            }
            Err(ReadError::Journal(error)) => Err(sound(error)),
            Err(ReadError::Broken(violation)) => Err(violation),
        }
    }

    fn recover(&mut self) -> Result<Writer<MemoryStorage>, ReadError> {
        let random = self.random.disk.next();
        let wall = self.wall();
        let (writer, _) =
            Writer::open(self.storage.clone(), wall, random).map_err(ReadError::Journal)?;
        let mut writer = writer.with_segment_bytes(self.plan.segment_bytes);
        let (replay, _) = Replay::read(&self.storage)?;
        let mut batch = Batch::new();
        let lost = replay.ledger.lost(wall);
        for (end, settlement) in lost {
            if self.mutant == Some(Mutant::ForgetLost) {
                continue;
            }
            if let Some(end) = end {
                batch.push(&end).map_err(ReadError::Journal)?;
            }
            batch.push(&settlement).map_err(ReadError::Journal)?;
        }
        for (upstream, cost, from) in self.new_rates(&replay.rates, wall) {
            let price = PriceRecord::PerHour { upstream, cost, from };
            batch.push(&price).map_err(ReadError::Journal)?;
        }
        writer.append(&mut batch, wall).map_err(ReadError::Journal)?;
        writer.sync().map_err(ReadError::Journal)?;
        Ok(writer)
    }

    /// What hours cost by the configuration of this start, where the journal does not know it.
    fn new_rates(&mut self, known: &[Rate], wall: UnixTime) -> Vec<Rate> {
        let dice = &mut self.random.shelf;
        for upstream in HOSTED {
            if !self.hourly.contains_key(upstream) || dice.chance(self.plan.rate_change) {
                let cents = i128::from(1 + dice.below(900));
                let cost = Money::from_pico(cents * 10_000_000_000 + i128::from(dice.below(7)));
                self.hourly.insert(upstream, dice.chance(0.8).then_some(cost));
            }
        }
        let last = |name: &str| known.iter().rfind(|(known, ..)| known == name);
        let configured = self.hourly.iter().map(|(name, cost)| ((*name).to_owned(), *cost, wall));
        configured.filter(|(name, cost, _)| last(name).and_then(|rate| rate.1) != *cost).collect()
    }

    /// Somebody asks while the gateway runs, or while none does.
    fn ask(&mut self) -> Result<(), Violation> {
        if self.doubtful || self.died() {
            return Ok(());
        }
        let (replay, _) = Replay::read(&self.storage).map_err(|error| match error {
            ReadError::Journal(error) => sound(error),
            ReadError::Broken(violation) => violation,
        })?;
        self.report.count("asked on the way");
        self.check_answers(&replay).map(drop)
    }

    pub(crate) fn give_up(&mut self) {
        self.over = true;
        self.report.count("lost sync seen");
    }

    /// Stops the gateway and starts another one, with no fault: what it finds is the truth.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        (self.plan.power_cuts, self.plan.crash_calls, self.crash_at) = (0.0, 0, None);
        self.plan.lost_sync = 0.0;
        self.die();
        self.run()
    }
}

impl Client {
    fn fate(&mut self, stage: Stage) -> Option<&mut Fate> {
        match stage {
            Stage::Admission => Some(&mut self.admission),
            Stage::Dispatch => None,
            Stage::Settlement => Some(&mut self.settlement),
        }
    }
}

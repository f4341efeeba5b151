//! The world of one seed: clients, upstreams, a disk and a gateway, one event after the other.

use std::collections::BTreeMap;

use facts::{Charged, Dispatch, Exchange, PriceRecord, Settlement};
use journal::{Batch, Body, Fault, MemoryStorage, Writer};
use metering::{Close, Step, charge};
use quantity::{ExchangeId, Metered, UnixTime};
use tariff::Book;
use workload::Random;

use crate::gateway::{Gateway, Run, Stage, Submission, Timer, admit, spoil, verdict};
use crate::model::{PriceList, Seen, book_text, check_bytes, check_request};
use crate::plan::{MS, Mutant, Plan};
use crate::replay::{Follower, ReadError, Replay, sound};
use crate::wire::{self, Contact, Then, Wire};
use crate::{Report, Violation};

/// 2026-03-01T00:00:00Z.
const EPOCH: i64 = 1_772_323_200_000_000_000;
/// A gateway's own time limit for an upstream that stands still.
const IDLE: u64 = 2_000 * MS;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) random: Dice,
    now: u64,
    /// What the wall clock shows beside the virtual time.
    wall: i64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    book: Book,
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
}

/// A generator for each part, so that a change of one leaves the others as they were.
pub(crate) struct Dice {
    wire: Random,
    net: Random,
    client: Random,
    pub(crate) disk: Random,
    clock: Random,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrive(usize),
    /// The writer takes what is queued, or has appended it.
    Append(u64),
    Sync(u64),
    Upstream(usize),
    Leave(usize),
    StepClock,
    Die,
    Start,
}

/// A client with its one exchange, and what the world knows of it.
pub(crate) struct Client {
    pub(crate) wire: Wire,
    retry: u32,
    leaves_after: Option<usize>,
    received: Vec<u8>,
    pub(crate) id: Option<ExchangeId>,
    pub(crate) dispatched: UnixTime,
    pub(crate) seen: Option<Seen>,
    /// As it was settled live.
    pub(crate) live: Option<Exchange>,
    /// As the journal has it, once a recovery has read it.
    pub(crate) booked: Option<Exchange>,
    pub(crate) sent: bool,
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
        };
        world.schedule(0, Event::Start);
        let mut at = 0;
        for _ in 0..world.plan.exchanges {
            let wire = wire::draw(&mut world.random.wire, &world.plan.wire);
            at += world.random.client.below(2 * world.plan.gap + 1);
            world.arrive(wire, at, 0);
        }
        for _ in 0..world.plan.kills {
            let at = world.random.disk.below(2 * span);
            world.schedule(at, Event::Die);
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
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = self.now.max(at);
            self.trace(event);
            self.happen(event)?;
        }
        Ok(())
    }

    fn schedule(&mut self, after: u64, event: Event) {
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
            Event::Append(_) | Event::Sync(_) => Ok(()),
            Event::Upstream(i) => self.upstream(i),
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
            Event::Die => {
                self.die();
                Ok(())
            }
            Event::Start => self.start(),
        }
    }

    fn arrive(&mut self, wire: Wire, after: u64, retry: u32) {
        let dice = &mut self.random.client;
        let impatient = dice.chance(self.plan.client_leaves);
        let by_bytes = dice.chance(0.6);
        let bytes = dice.index(wire.body.len() + 1);
        let patience = dice.below(50 * MS);
        self.clients.push(Client {
            wire,
            retry,
            leaves_after: (impatient && by_bytes).then_some(bytes),
            received: Vec::new(),
            id: None,
            dispatched: UnixTime::from_nanos(0),
            seen: None,
            live: None,
            booked: None,
            sent: false,
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

    /// A request reaches the gateway.
    fn request(&mut self, i: usize) -> Result<(), Violation> {
        let random: [u8; 10] = std::array::from_fn(|_| self.random.client.next().to_le_bytes()[0]);
        let (wall, now, mutant) = (self.wall(), self.now, self.mutant);
        let Some(gateway) = self.gateway.as_mut().filter(|gateway| !gateway.failed) else {
            self.report.count("not admitted");
            return Ok(());
        };
        let client = &mut self.clients[i];
        let id = ExchangeId::new(wall, random);
        let (admission, meter, request) =
            admit(&client.wire, id, wall, &self.book, client.retry, mutant);
        client.id = Some(id);
        client.dispatched = wall;
        let records =
            vec![Body::Admitted(admission.clone()), Body::Dispatched(meter.dispatch().clone())];
        gateway.runs.insert(
            i,
            Run {
                timer: Timer { wall, started: now },
                open: Some((admission, meter)),
                request: Some(request),
                gone: false,
                head: false,
                at: 0,
                last: None,
                ended: None,
            },
        );
        self.submit(Submission { client: i, stage: Stage::Admission, records, row: None });
        if mutant == Some(Mutant::SendEarly) {
            self.send(i)?;
        }
        Ok(())
    }

    fn submit(&mut self, submission: Submission) {
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
        gateway.failed |= gateway.writer.failure().is_some();
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
        gateway.failed |= done.is_err();
        if done.is_ok() {
            for (i, stage) in std::mem::take(&mut gateway.unsynced) {
                self.clients[i].fate(stage).durable = true;
            }
        }
        Ok(())
    }

    /// A ticket is good or not.
    fn resolve(&mut self, submission: Submission, ok: bool) -> Result<(), Violation> {
        let Submission { client: i, stage, row, .. } = submission;
        let fate = self.clients[i].fate(stage);
        fate.acknowledged = Some(ok);
        fate.durable = ok && self.plan.sync_each;
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        if ok && let Some(row) = row {
            gateway.rows.insert(row);
        }
        let Some(run) = gateway.runs.get_mut(&i) else { return Ok(()) };
        match stage {
            Stage::Admission if ok && run.gone => {
                self.settle(i, Close::ClientGone);
                self.hang_up(i);
                Ok(())
            }
            Stage::Admission if ok => self.send(i),
            Stage::Admission => {
                if self.mutant == Some(Mutant::SettleUnadmitted) {
                    self.settle(i, Close::Unreachable);
                }
                self.hang_up(i);
                Ok(())
            }
            Stage::Settlement if ok => self.release(i),
            Stage::Settlement => {
                self.hang_up(i);
                Ok(())
            }
        }
    }

    /// The request goes to the upstream.
    fn send(&mut self, i: usize) -> Result<(), Violation> {
        let Some(run) = self.gateway.as_mut().and_then(|gateway| gateway.runs.get_mut(&i)) else {
            return Ok(());
        };
        let Some(request) = run.request.take() else { return Ok(()) };
        let client = &mut self.clients[i];
        client.sent = true;
        check_request(&client.wire, &request)?;
        self.follower.poll()?;
        let id = client.id.expect("it was admitted");
        if !self.follower.replay.admitted.contains(&id) {
            return Err(Violation::new("SIM-6", format!("{id} is sent, not admitted")));
        }
        match client.wire.contact {
            Contact::Reached => self.wait_for_upstream(i),
            Contact::Unreachable => self.settle(i, Close::Unreachable),
            Contact::BreaksOff => self.settle(i, Close::Reset),
        }
        Ok(())
    }

    fn wait_for_upstream(&mut self, i: usize) {
        let pace = self.random.net.below(self.plan.pace + 1);
        self.schedule(pace, Event::Upstream(i));
    }

    /// The head, a chunk or the end of a reply comes.
    fn upstream(&mut self, i: usize) -> Result<(), Violation> {
        let now = self.now;
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let Some(run) = gateway.runs.get_mut(&i) else { return Ok(()) };
        let wire = &self.clients[i].wire;
        if !run.head {
            run.head = true;
            if let Some((_, meter)) = &mut run.open {
                meter.head(wire.status, wire.content_type, run.timer.at(now));
            }
            self.wait_for_upstream(i);
            return Ok(());
        }
        if run.at < wire.comes {
            let length = 1 + self.random.net.index(self.plan.chunk);
            let end = (run.at + length).min(wire.comes);
            let chunk = bytes::Bytes::copy_from_slice(&wire.body[run.at..end]);
            run.at = end;
            let step = match &mut run.open {
                Some((_, meter)) => meter.push(chunk, run.timer.at(now)),
                None => Step { forward: vec![chunk], last: None },
            };
            return self.take(i, step, Close::BodyEnd);
        }
        if wire.then == Then::Stall && run.ended.is_none() {
            run.ended = Some(false);
            self.report.count("stall");
            self.schedule(IDLE, Event::Upstream(i));
            return Ok(());
        }
        let how = match wire.then {
            Then::End => Close::BodyEnd,
            Then::Reset => Close::Reset,
            Then::Stall => Close::Timeout,
        };
        run.ended = Some(wire.then == Then::End);
        let step = run.open.as_mut().map(|(_, meter)| meter.body_end()).unwrap_or_default();
        self.take(i, step, how)
    }

    /// Bytes go to the client; the last ones once the exchange is settled.
    fn take(&mut self, i: usize, step: Step, how: Close) -> Result<(), Violation> {
        for bytes in step.forward {
            self.deliver(i, &bytes)?;
        }
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let Some(run) = gateway.runs.get_mut(&i) else { return Ok(()) };
        if let Some(last) = step.last {
            run.last = Some(last);
            self.settle(i, how);
            if self.mutant == Some(Mutant::ReleaseEarly) {
                return self.release(i);
            }
            return Ok(());
        }
        self.go_on(i)
    }

    /// Whatever the upstream does next, unless it has ended.
    fn go_on(&mut self, i: usize) -> Result<(), Violation> {
        let Some(run) = self.gateway.as_ref().and_then(|gateway| gateway.runs.get(&i)) else {
            return Ok(());
        };
        let Some(sound) = run.ended else {
            self.wait_for_upstream(i);
            return Ok(());
        };
        let client = &self.clients[i];
        check_bytes(&client.wire, &client.received, run.at, true)?;
        if sound && client.wire.status == 429 && client.retry < 2 {
            // The client tries again, as a new exchange.
            let (retry, wait) = (client.retry + 1, self.random.client.below(20 * MS));
            let wire = wire::draw(&mut self.random.wire, &self.plan.wire);
            self.report.count("retry");
            self.arrive(wire, wait, retry);
        }
        self.hang_up(i);
        Ok(())
    }

    /// The settlement is on the journal: the client gets what was held back.
    fn release(&mut self, i: usize) -> Result<(), Violation> {
        let Some(gateway) = &mut self.gateway else { return Ok(()) };
        let Some(run) = gateway.runs.get_mut(&i) else { return Ok(()) };
        let Some(last) = run.last.take() else {
            // It had no reply: the gateway tells the client so.
            self.hang_up(i);
            return Ok(());
        };
        let client = &mut self.clients[i];
        client.released = true;
        self.follower.poll()?;
        let id = client.id.expect("it was admitted");
        if self.follower.replay.settled.get(&id) != client.live.as_ref() {
            let what = format!("{id} is complete for its client, not on the journal");
            return Err(Violation::new("SIM-5", what));
        }
        self.report.count("released");
        for bytes in last {
            self.deliver(i, &bytes)?;
        }
        self.go_on(i)
    }

    fn deliver(&mut self, i: usize, bytes: &[u8]) -> Result<(), Violation> {
        let Some(run) = self.gateway.as_ref().and_then(|gateway| gateway.runs.get(&i)) else {
            return Ok(());
        };
        let client = &mut self.clients[i];
        client.received.extend_from_slice(bytes);
        check_bytes(&client.wire, &client.received, run.at, false)?;
        if client.leaves_after.is_some_and(|after| client.received.len() > after) {
            self.leave(i);
        }
        Ok(())
    }

    /// The client leaves: its exchange settles now if it has not.
    fn leave(&mut self, i: usize) {
        let admission = self.clients[i].admission.acknowledged;
        let Some(run) = self.gateway.as_mut().and_then(|gateway| gateway.runs.get_mut(&i)) else {
            return;
        };
        self.report.count("client gone");
        if admission.is_none() && self.mutant != Some(Mutant::SettleUnadmitted) {
            // Only what is known to be admitted may settle.
            run.gone = true;
        } else {
            self.settle(i, Close::ClientGone);
            self.hang_up(i);
        }
    }

    fn hang_up(&mut self, i: usize) {
        if let Some(gateway) = &mut self.gateway {
            gateway.runs.remove(&i);
        }
    }

    /// Prices the exchange and puts it on the journal, once.
    fn settle(&mut self, i: usize, how: Close) {
        let (now, mutant) = (self.now, self.mutant);
        let wall = self.wall();
        let Some(gateway) = &mut self.gateway else { return };
        let Some(run) = gateway.runs.get_mut(&i) else { return };
        let client = &mut self.clients[i];
        let Some((admission, meter)) = run.open.take() else {
            if let (Some(Mutant::SettleTwice), Some(live)) = (mutant, &client.live) {
                let records = vec![Body::Settled(live.settlement)];
                let stage = Stage::Settlement;
                self.submit(Submission { client: i, stage, records, row: None });
            }
            return;
        };
        let at = run.timer.at(now);
        client.seen = Some(Seen { how, head: run.head, bytes: run.at });
        let dispatch = meter.dispatch().clone();
        let mut row = None;
        let book = &self.book;
        let price = |dispatch: &Dispatch, model: Option<&str>, tier: Option<&str>, m: &Metered| {
            let mut dispatch = dispatch.clone();
            if mutant == Some(Mutant::PriceAtEnd) {
                dispatch.at = wall;
            }
            let (charged, used) = charge(book, &dispatch, model, tier, m);
            row = used.cloned();
            charged
        };
        let mut end = meter.close(how, at, price);
        spoil(mutant, &mut end.metered, &mut end.charged);
        self.report.count(end.end.name());
        self.report.count(end.metered.source.name());
        if matches!(end.charged, Charged::Priced { .. }) {
            self.report.count("priced");
        }
        let new_row = row.filter(|row| !gateway.rows.contains(&row.id()));
        let settlement = Settlement { exchange: admission.exchange, at, verdict: verdict(&end) };
        let mut records = Vec::new();
        if let Some(row) = &new_row {
            records.push(Body::Price(PriceRecord::PerUse { row: row.id(), text: row.to_text() }));
        }
        let row = new_row.map(|row| row.id());
        if mutant == Some(Mutant::RowKnownEarly) {
            gateway.rows.extend(row);
        }
        records.push(Body::AttemptEnded(end.clone()));
        records.push(Body::Settled(settlement));
        if mutant == Some(Mutant::LiveDiffers) {
            end.response_bytes += 1;
        }
        let attempts = vec![facts::Attempt { dispatch, end }];
        client.live = Some(Exchange { admission, attempts, settlement });
        self.submit(Submission { client: i, stage: Stage::Settlement, records, row });
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
        }
    }

    /// Whether the process died within a call of the storage.
    fn died(&self) -> bool {
        self.crash_at.is_some_and(|call| self.storage.calls() > call)
    }

    /// The process is killed, or the power is cut. A new one starts later.
    fn die(&mut self) {
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
        }
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
                self.follower.move_to(&self.storage)?;
                self.follower.poll()?;
                self.check_recovered()
            }
            Err(_) if self.died() => {
                self.report.count("died in recovery");
                self.die();
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
        let (mut replay, _) = Replay::read(&self.storage)?;
        let mut batch = Batch::new();
        let lost = replay.ledger.close_lost(wall);
        for (end, settlement) in lost {
            if self.mutant == Some(Mutant::ForgetLost) {
                continue;
            }
            if let Some(end) = end {
                batch.push(&end).map_err(ReadError::Journal)?;
            }
            batch.push(&settlement).map_err(ReadError::Journal)?;
        }
        writer.append(&mut batch, wall).map_err(ReadError::Journal)?;
        writer.sync().map_err(ReadError::Journal)?;
        Ok(writer)
    }

    /// Stops the gateway and starts another one, with no fault: what it finds is the truth.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        (self.plan.power_cuts, self.plan.crash_calls, self.crash_at) = (0.0, 0, None);
        self.die();
        self.run()
    }
}

impl Client {
    fn fate(&mut self, stage: Stage) -> &mut Fate {
        match stage {
            Stage::Admission => &mut self.admission,
            Stage::Settlement => &mut self.settlement,
        }
    }
}

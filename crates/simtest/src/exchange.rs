//! The way of one exchange through the gateway, step by step in the order of the real one.

use facts::{
    Attempt, AttemptEnd, AttemptReason, Charged, Dispatch, Exchange, PriceRecord, Settlement,
    Verdict,
};
use journal::Body;
use metering::{AttemptMeter, Close, Served, Step, charge};
use quantity::{ExchangeId, Metered, UnixTime};

use crate::Violation;
use crate::gateway::{
    Run, Sent, Stage, Submission, Timer, admit, dispatch, may_pass_next_time, spoil, verdict,
};
use crate::model::{Seen, check_bytes, check_request, completes};
use crate::plan::{MS, Mutant};
use crate::wire::{Contact, Then, Wire};
use crate::world::{Client, Event, World};

/// The gateway's time limit for an upstream that stands still.
const IDLE: u64 = 2_000 * MS;

impl World {
    fn run_of(&mut self, i: usize) -> Option<(&mut Run, &mut Client)> {
        let run = self.gateway.as_mut()?.runs.get_mut(&i)?;
        Some((run, &mut self.clients[i]))
    }

    /// A request reaches the gateway, which journals its admission and dispatch.
    pub(crate) fn request(&mut self, i: usize) -> Result<(), Violation> {
        let random = std::array::from_fn(|_| self.random.client.next().to_le_bytes()[0]);
        let (wall, now, mutant) = (self.wall(), self.now, self.mutant);
        let Some(gateway) = self.gateway.as_mut().filter(|gateway| !gateway.failed) else {
            self.report.count("not admitted");
            return Ok(());
        };
        let client = &mut self.clients[i];
        let id = ExchangeId::new(wall, random);
        client.id = Some(id);
        let admission = admit(&client.wires[0], id, wall, client.retry);
        let (meter, request) =
            dispatch(&client.wires[0], id, 0, AttemptReason::First, wall, &self.book, mutant);
        let records =
            vec![Body::Admitted(admission.clone()), Body::Dispatched(meter.dispatch().clone())];
        let mut run = Run::new(Timer { wall, started: now }, admission);
        begin(&mut run, meter, request);
        gateway.runs.insert(i, run);
        self.submit(Submission { client: i, stage: Stage::Admission, records, rows: Vec::new() });
        if mutant == Some(Mutant::SendEarly) {
            self.send(i)?;
        }
        Ok(())
    }

    /// The journal has answered.
    pub(crate) fn answered(&mut self, i: usize, stage: Stage, ok: bool) -> Result<(), Violation> {
        let Some((run, _)) = self.run_of(i) else { return Ok(()) };
        match stage {
            Stage::Admission | Stage::Dispatch if ok => {
                if let Some(open) = &mut run.open {
                    open.unwritten.clear();
                    open.new_rows.clear();
                }
                if !run.gone {
                    return self.send(i);
                }
                self.abort(i);
            }
            Stage::Admission => {
                if self.mutant == Some(Mutant::SettleUnadmitted) {
                    self.settle(i, Close::Unreachable);
                }
                self.hang_up(i);
            }
            Stage::Dispatch => {
                // The exchange settles with the attempts it had.
                let unsent = run.open.as_mut().and_then(|open| open.running.take());
                drop(unsent);
                self.settle(i, Close::BodyEnd);
                self.hang_up(i);
            }
            Stage::Settlement if ok => return self.release(i),
            Stage::Settlement => self.hang_up(i),
        }
        Ok(())
    }

    /// The request goes to the upstream.
    fn send(&mut self, i: usize) -> Result<(), Violation> {
        let Some((run, client)) = self.run_of(i) else { return Ok(()) };
        let Some(request) = run.request.take() else { return Ok(()) };
        let ordinal = run.ordinal;
        let wire = &client.wires[ordinal];
        check_request(wire, &request)?;
        let (contact, id) = (wire.contact, client.id);
        self.follower.poll()?;
        let attempts = id.and_then(|id| self.follower.replay.admitted.get(&id));
        if attempts.is_none_or(|attempts| *attempts <= ordinal) {
            let what = format!("attempt {ordinal} of {id:?} is sent and not on the journal");
            return Err(Violation::new("SIM-6", what));
        }
        match contact {
            Contact::Reached => self.wait_for_upstream(i),
            Contact::Unreachable => self.no_reply(i, Close::Unreachable),
            Contact::BreaksOff => self.no_reply(i, Close::Reset),
        }
        Ok(())
    }

    fn wait_for_upstream(&mut self, i: usize) {
        let pace = self.random.net.below(self.plan.pace + 1);
        self.schedule(pace, Event::Upstream(i));
    }

    /// The attempt ended without a reply.
    fn no_reply(&mut self, i: usize, how: Close) {
        if !self.tries_again(i, how) {
            self.settle(i, how);
        }
    }

    /// Ends an attempt of which nothing has gone to the client; whether there will be another.
    fn tries_again(&mut self, i: usize, how: Close) -> bool {
        self.end(i, how);
        let (most, wait) = (self.plan.attempts as usize, self.plan.wait);
        let Some((run, client)) = self.run_of(i) else { return false };
        let last = client.ended.last().map(|(attempt, _)| &attempt.end);
        if run.ordinal + 1 >= most || !last.is_some_and(may_pass_next_time) {
            return false;
        }
        (run.head, run.at, run.ended) = (false, 0, None);
        run.ready.clear();
        run.last = None;
        let wait = self.random.net.below(wait + 1);
        self.schedule(wait, Event::TryAgain(i));
        self.report.count("another attempt");
        true
    }

    /// The end of the attempt before and the dispatch of the next go to the journal.
    pub(crate) fn try_again(&mut self, i: usize) {
        let (now, mutant) = (self.now, self.mutant);
        let Some(run) = self.gateway.as_mut().and_then(|gateway| gateway.runs.get_mut(&i)) else {
            return;
        };
        let (client, at) = (&self.clients[i], run.timer.at(now));
        run.ordinal += 1;
        let id = client.id.expect("it was admitted");
        let wire = &client.wires[run.ordinal];
        let elsewhere = client.wires[run.ordinal - 1].kind.upstream != wire.kind.upstream;
        let reason = if elsewhere { AttemptReason::Fallback } else { AttemptReason::Retry };
        let (meter, request) = dispatch(wire, id, run.ordinal, reason, at, &self.book, mutant);
        let Some(open) = &run.open else { return };
        let mut records = open.unwritten.clone();
        let rows = open.new_rows.clone();
        records.push(Body::Dispatched(meter.dispatch().clone()));
        begin(run, meter, request);
        self.submit(Submission { client: i, stage: Stage::Dispatch, records, rows });
    }

    /// The head, a chunk or the end of a reply comes.
    pub(crate) fn upstream(&mut self, i: usize) -> Result<(), Violation> {
        let (now, chunk) = (self.now, self.plan.chunk);
        let Some(run) = self.gateway.as_mut().and_then(|gateway| gateway.runs.get_mut(&i)) else {
            return Ok(());
        };
        let wire = &self.clients[i].wires[run.ordinal];
        let at = run.timer.at(now);
        if !run.head {
            run.head = true;
            if let Some(meter) = run.running() {
                meter.head(wire.status, wire.content_type, at);
            }
            self.wait_for_upstream(i);
            return Ok(());
        }
        if run.at < wire.comes {
            let end = (run.at + 1 + self.random.net.index(chunk)).min(wire.comes);
            let chunk = bytes::Bytes::copy_from_slice(&wire.body[run.at..end]);
            match wire.body.get(end - 1..=end) {
                Some(b"\r\n") => self.report.count("cut in a line end"),
                Some([_, 0x80..=0xbf]) => self.report.count("cut in a character"),
                Some([b'\n' | b'\r', _]) => self.report.count("cut between lines"),
                Some(_) => self.report.count("cut in a line"),
                None => {}
            }
            run.at = end;
            let step = match run.running() {
                Some(meter) => meter.push(chunk, at),
                None => Step { forward: vec![chunk], last: None },
            };
            return self.take(i, step, Close::BodyEnd);
        }
        if wire.then == Then::Stall && run.ended.is_none() {
            run.ended = Some(false);
            self.schedule(IDLE, Event::Upstream(i));
            return Ok(());
        }
        let how = match wire.then {
            Then::End => Close::BodyEnd,
            Then::Reset => Close::Reset,
            Then::Stall => Close::Timeout,
        };
        run.ended = Some(wire.then == Then::End);
        let step = run.running().map(AttemptMeter::body_end).unwrap_or_default();
        self.take(i, step, how)
    }

    /// Bytes go to the client, the last ones once the exchange is settled. Until some of a stream or
    /// the whole of a unary reply is there, nothing goes, and another attempt may replace this one.
    fn take(&mut self, i: usize, step: Step, how: Close) -> Result<(), Violation> {
        let Some((run, client)) = self.run_of(i) else { return Ok(()) };
        run.ready.extend(step.forward);
        let streams = run.open.is_some() && client.wires[run.ordinal].streams();
        let first = run.gathering;
        run.gathering &= step.last.is_none() && (!streams || run.ready.is_empty());
        if let Some(last) = step.last {
            run.last = Some(last);
            if first && self.tries_again(i, how) {
                let nothing = self.clients[i].received.is_empty();
                let what = "bytes of an attempt that was replaced went to the client".to_owned();
                if let Some((run, _)) = self.run_of(i) {
                    run.gathering = true;
                }
                return if nothing { Ok(()) } else { Err(Violation::new("SIM-7", what)) };
            }
            if !first {
                self.deliver_ready(i)?;
            }
            self.settle(i, how);
            if self.mutant == Some(Mutant::ReleaseEarly) {
                return self.release(i);
            }
            return Ok(());
        }
        if !run.gathering {
            self.deliver_ready(i)?;
        }
        self.go_on(i)
    }

    /// Whatever the upstream does next, unless it has ended.
    fn go_on(&mut self, i: usize) -> Result<(), Violation> {
        let Some((run, client)) = self.run_of(i) else { return Ok(()) };
        let Some(sound) = run.ended else {
            self.wait_for_upstream(i);
            return Ok(());
        };
        let wire = &client.wires[run.ordinal];
        check_bytes(wire, &client.received, run.at, true)?;
        if sound && wire.status == 429 && client.retry < 2 {
            // The client tries again, as a new exchange.
            let retry = client.retry + 1;
            let wait = self.random.client.below(20 * MS);
            self.report.count("retry");
            self.arrive(wait, retry);
        }
        self.hang_up(i);
        Ok(())
    }

    /// The settlement is on the journal: the client gets what was held back.
    fn release(&mut self, i: usize) -> Result<(), Violation> {
        let Some((run, client)) = self.run_of(i) else { return Ok(()) };
        let Some(last) = run.last.take() else {
            // It had no reply: the gateway tells the client so.
            self.hang_up(i);
            return Ok(());
        };
        run.ready.extend(last);
        client.released = true;
        let (id, live) = (client.id.expect("it was admitted"), client.live.clone());
        self.follower.poll()?;
        if self.follower.replay.settled.get(&id) != live.as_ref() {
            let what = format!("{id} is complete for its client, not on the journal");
            return Err(Violation::new("SIM-5", what));
        }
        self.report.count("released");
        self.deliver_ready(i)?;
        self.go_on(i)
    }

    fn deliver_ready(&mut self, i: usize) -> Result<(), Violation> {
        let Some((run, client)) = self.run_of(i) else { return Ok(()) };
        for bytes in run.ready.drain(..) {
            client.received.extend_from_slice(&bytes);
        }
        let wire = &client.wires[run.ordinal];
        check_bytes(wire, &client.received, run.at, false)?;
        if !client.released && completes(wire, client.received.len()) {
            let what = "a reply is complete before its exchange is settled".to_owned();
            return Err(Violation::new("SIM-5", what));
        }
        if client.leaves_after.is_some_and(|after| client.received.len() > after) {
            self.leave(i);
        }
        Ok(())
    }

    /// The client leaves: its exchange settles now if it has not.
    pub(crate) fn leave(&mut self, i: usize) {
        let mutant = self.mutant;
        let Some((run, _)) = self.run_of(i) else { return };
        // Only what is known to be admitted or dispatched may settle.
        if run.request.is_some() && mutant != Some(Mutant::SettleUnadmitted) {
            run.gone = true;
        } else {
            self.abort(i);
        }
        self.report.count("client gone");
    }

    fn abort(&mut self, i: usize) {
        self.settle(i, Close::ClientGone);
        self.hang_up(i);
    }

    fn hang_up(&mut self, i: usize) {
        if let Some(gateway) = &mut self.gateway {
            gateway.runs.remove(&i);
        }
    }

    /// Ends the running attempt, if one is, and prices it; its record is written with what comes next.
    fn end(&mut self, i: usize, how: Close) {
        let (now, mutant, wall) = (self.now, self.mutant, self.wall());
        let Some(gateway) = &mut self.gateway else { return };
        let Some(run) = gateway.runs.get_mut(&i) else { return };
        let (at, seen) = (run.timer.at(now), Seen { how, head: run.head, bytes: run.at });
        let Some(open) = &mut run.open else { return };
        let Some(meter) = open.running.take() else { return };
        let dispatch = meter.dispatch().clone();
        let (mut row, book) = (None, &self.book);
        let hosted = self.clients[i].wires[run.ordinal].kind.hosted;
        let price = |dispatch: &Dispatch, served: Served<'_>, m: &Metered| {
            if hosted {
                return (Charged::Hosted, None);
            }
            let mut dispatch = dispatch.clone();
            if mutant == Some(Mutant::PriceAtEnd) {
                dispatch.at = wall;
            }
            let (charged, used) = charge(book, &dispatch, served, m);
            row = used.cloned();
            (charged, used)
        };
        let mut end: AttemptEnd = meter.close_learning(how, at, &mut gateway.learner, price);
        spoil(mutant, &mut end);
        self.report.count(end.end.name());
        self.report.count(end.metered.source.name());
        if matches!(end.charged, Charged::Priced { .. }) {
            self.report.count("priced");
        }
        if let Some(row) = row.filter(|row| !gateway.rows.contains(&row.id())) {
            let record = PriceRecord::PerUse { row: row.id(), text: row.to_text() };
            open.unwritten.push(Body::Price(record));
            open.new_rows.push(row.id());
        }
        open.unwritten.push(Body::AttemptEnded(end.clone()));
        if mutant == Some(Mutant::LiveDiffers) {
            end.response_bytes += 1;
        }
        let wire = &self.clients[i].wires[run.ordinal];
        if run.head || wire.contact != Contact::Reached {
            wire.faults.iter().for_each(|fault| self.report.count(fault));
            self.report.count(wire.ask.api.name());
            self.report.count(wire.kind.convention.name());
        }
        let during = |change: &UnixTime| dispatch.at < *change && *change <= at;
        if matches!(end.charged, Charged::Priced { .. }) && self.change.as_ref().is_some_and(during)
        {
            self.report.count("price change under way");
        }
        let attempt = Attempt { dispatch, end };
        self.clients[i].ended.push((attempt.clone(), seen));
        open.attempts.push(attempt);
    }

    /// Settles the exchange by how its last attempt ended, once.
    fn settle(&mut self, i: usize, how: Close) {
        self.end(i, how);
        let (now, mutant) = (self.now, self.mutant);
        let Some(gateway) = &mut self.gateway else { return };
        let Some(run) = gateway.runs.get_mut(&i) else { return };
        let client = &mut self.clients[i];
        let stage = Stage::Settlement;
        let Some(open) = run.open.take() else {
            if let (Some(Mutant::SettleTwice), Some(live)) = (mutant, &client.live) {
                let records = vec![Body::Settled(live.settlement)];
                self.submit(Submission { client: i, stage, records, rows: Vec::new() });
            }
            return;
        };
        let Some(last) = open.attempts.last() else { return };
        // A client that leaves between two attempts aborts.
        let verdict = match verdict(&last.end) {
            Verdict::Failed if how == Close::ClientGone => Verdict::Aborted,
            verdict => verdict,
        };
        let exchange = open.admission.exchange;
        let settlement = Settlement { exchange, at: run.timer.at(now), verdict };
        let mut records = open.unwritten;
        records.push(Body::Settled(settlement));
        if mutant == Some(Mutant::RowKnownEarly) {
            gateway.rows.extend(&open.new_rows);
        }
        let (admission, attempts) = (open.admission, open.attempts);
        client.live = Some(Exchange { admission, attempts, settlement });
        self.submit(Submission { client: i, stage, records, rows: open.new_rows });
    }
}

/// An attempt is about to be sent.
fn begin(run: &mut Run, meter: AttemptMeter, request: Sent) {
    run.request = Some(request);
    if let Some(open) = &mut run.open {
        open.running = Some(meter);
    }
}

impl Wire {
    /// Whether the reply, as its head says, is a stream of events.
    fn streams(&self) -> bool {
        self.status == 200 && self.content_type.is_some_and(|kind| kind.starts_with("text/event"))
    }
}

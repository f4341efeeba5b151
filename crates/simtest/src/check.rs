//! Checks of what a journal has after a recovery, and at the end.

use facts::{Attempt, End, Exchange, Verdict};
use journal::{JournalError, MemoryStorage, Storage};

use crate::Violation;
use crate::model::{Seen, cost_of};
use crate::plan::Mutant;
use crate::replay::{ReadError, Replay, sound};
use crate::world::World;

/// Bits that are flipped, each in a copy of the disk.
const FLIPS: usize = 3;

impl World {
    /// What is on the journal after a recovery is what was promised.
    pub(crate) fn check_recovered(&mut self) -> Result<(), Violation> {
        let (replay, torn) = Replay::read(&self.storage).map_err(|error| match error {
            ReadError::Journal(error) => sound(error),
            ReadError::Broken(violation) => violation,
        })?;
        if torn && self.doubtful {
            self.give_up();
            return Ok(());
        }
        if torn {
            return Err(Violation::new("SIM-9", "a recovered journal is torn".to_owned()));
        }
        if replay.settled != self.follower.replay.settled {
            let what = "a follower has read something else than who reads afresh";
            return Err(Violation::new("SIM-2", what.to_owned()));
        }
        if replay.ledger.open() > 0 || replay.settled.len() != replay.admitted.len() {
            let (admitted, settled) = (replay.admitted.len(), replay.settled.len());
            let what = format!("{admitted} exchanges are admitted, {settled} settled");
            return Err(Violation::new("SIM-1", what));
        }
        for client in &mut self.clients {
            let Some(id) = client.id else { continue };
            let Some(exchange) = replay.settled.get(&id) else {
                let gone = client.admission.may_be_gone;
                if client.admission.acknowledged == Some(true) && !gone {
                    let word = if client.released { "SIM-5" } else { "SIM-1" };
                    return Err(Violation::new(word, format!("{id} was admitted and is gone")));
                }
                if client.booked.is_some() {
                    return Err(Violation::new("SIM-2", format!("{id} was read and is gone")));
                }
                continue;
            };
            if let Some(booked) = &client.booked {
                if booked != exchange {
                    return Err(Violation::new("SIM-2", format!("{id} is read in two ways")));
                }
                continue;
            }
            let live = client.live.as_ref();
            let promised =
                client.settlement.acknowledged == Some(true) && !client.settlement.may_be_gone;
            if live != Some(exchange) && (promised || !left_open(exchange, &client.ended)) {
                let word = if promised && client.released { "SIM-5" } else { "SIM-2" };
                let what = format!("settled as {live:?}, read as {exchange:?}");
                return Err(Violation::new(word, what));
            }
            client.booked = Some(exchange.clone());
            // A recovery syncs what it found.
            for fate in [&mut client.admission, &mut client.settlement] {
                (fate.durable, fate.may_be_gone) = (!self.lied, false);
            }
        }
        let known = self.clients.iter().filter(|client| client.booked.is_some()).count();
        if known != replay.settled.len() {
            let what = format!("{} exchanges are read, {known} were made", replay.settled.len());
            return Err(Violation::new("SIM-2", what));
        }
        self.doubtful = false;
        self.check_answers(&replay).map(drop)
    }

    /// The bill of what is on the journal, against the naive one.
    pub(crate) fn check_bill(&mut self) -> Result<(), Violation> {
        let mut expected = 0_i128;
        let (mut exchanges, mut attempts) = (0, 0);
        for client in &self.clients {
            let Some(exchange) = &client.booked else { continue };
            exchanges += 1;
            for (ordinal, attempt) in exchange.attempts.iter().enumerate() {
                attempts += 1;
                let end = &attempt.end;
                let Some((ended, seen)) =
                    client.ended.get(ordinal).filter(|_| end.end != End::Lost)
                else {
                    if end.charged.cost().is_some() || end.metered.usage.total() > 0 {
                        let what = format!("a lost attempt has a cost: {end:?}");
                        return Err(Violation::new("SIM-8", what));
                    }
                    self.report.count("lost");
                    continue;
                };
                let wire = &client.wires[ordinal];
                expected += cost_of(end, wire, *seen, ended.dispatch.at, &self.prices)?;
            }
        }
        let (replay, _) = Replay::read(&self.storage)
            .map_err(|error| Violation::new("SIM-9", format!("{error:?}")))?;
        let answer = self.check_answers(&replay)?;
        let found = answer.total.cost.pico();
        if found != expected {
            let what = format!("the bill is {found}, the truth {expected}");
            return Err(Violation::new("SIM-3", what));
        }
        let counted = (answer.total.exchanges, answer.total.attempts);
        if counted != (exchanges, attempts) {
            let what = format!("the bill counts {counted:?}, not {exchanges} and {attempts}");
            return Err(Violation::new("SIM-3", what));
        }
        Ok(())
    }

    /// A bit that flipped on the disk is an error, or at the very end a torn tail; it is never read.
    pub(crate) fn check_flips(&mut self) -> Result<(), Violation> {
        let names = self
            .storage
            .list()
            .map_err(|error| Violation::new("SIM-9", format!("no list of files: {error}")))?;
        let (whole, _) = Replay::read(&self.storage)
            .map_err(|error| Violation::new("SIM-9", format!("{error:?}")))?;
        for _ in 0..FLIPS {
            let file = self.random.disk.index(names.len());
            let mut bytes = self.storage.bytes(&names[file]);
            if bytes.is_empty() {
                continue;
            }
            let at = self.random.disk.index(bytes.len());
            bytes[at] ^= 1 << self.random.disk.below(8);
            let copy: MemoryStorage = self.storage.after_kill();
            if self.mutant != Some(Mutant::BlindToFlips) {
                copy.set_bytes(&names[file], bytes);
            }
            self.report.count("bit flip");
            // The files are named by sequence: the last one is written last.
            let last = file + 1 == names.len();
            let detected = match Replay::read(&copy) {
                Err(ReadError::Journal(
                    JournalError::Corrupt { .. }
                    | JournalError::Order { .. }
                    | JournalError::Format { .. },
                )) => true,
                Err(_) => false,
                Ok((read, torn)) => last && torn && read.records < whole.records,
            };
            // An empty last segment has no record to lose.
            let empty = last && self.storage.bytes(&names[file]).len() <= 40;
            if !detected && !empty {
                let what = format!("bit flipped at byte {at} of `{}` is not seen", names[file]);
                return Err(Violation::new("SIM-9", what));
            }
        }
        Ok(())
    }
}

/// Whether this is an exchange that its gateway left open, closed by the next one: attempts as they
/// ended live, and at last perhaps a lost one.
fn left_open(exchange: &Exchange, ended: &[(Attempt, Seen)]) -> bool {
    let attempts = &exchange.attempts;
    let as_live = attempts.iter().zip(ended).take_while(|(read, (live, _))| *read == live).count();
    let rest = &attempts[as_live..];
    let lost = rest.is_empty() || rest.len() == 1 && rest[0].end.end == End::Lost;
    exchange.settlement.verdict == Verdict::Unknown && lost
}

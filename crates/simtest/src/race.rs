//! The real committer with its threads: many submit at once, the disk fails at calls that the seed
//! chose. Which thread comes first is the system's choice, so a seed may have to be run again and
//! again to show what it once showed.

use std::thread;
use std::time::Duration;

use facts::{AttemptReason, Charged, Settlement, Verdict};
use journal::{Batch, Committer, Fault, MemoryStorage, Options, Permit, Writer};
use metering::Close;
use quantity::{ExchangeId, UnixTime};
use tariff::Book;
use workload::Random;

use crate::gateway::{admit, dispatch};
use crate::model::book_text;
use crate::plan::Plan;
use crate::replay::{ReadError, Replay, sound};
use crate::{Report, Violation, wire};

const THREADS: u64 = 4;
const WALL: UnixTime = UnixTime::from_nanos(1_772_323_200_000_000_000);

/// What became of an exchange as its gateway was told.
struct Told {
    id: ExchangeId,
    admitted: bool,
    /// `None` if it was not tried, or nobody stayed to hear.
    settled: Option<bool>,
}

pub(crate) fn race(seed: u64) -> Result<Report, Violation> {
    let root = Random::new(seed);
    let mut dice = root.fork("race");
    let mut report = Report::default();
    let storage = MemoryStorage::new();
    let writer = Writer::open(storage.clone(), WALL, seed).map_err(sound)?.0;
    let writer = writer.with_segment_bytes([1, 4_000, 1 << 20][dice.index(3)]);
    for _ in 0..dice.below(6) {
        let call = storage.calls() + dice.below(80);
        let written = dice.index(2_000);
        let fault = match dice.below(10) {
            0 => Fault::Crash(written),
            1 => Fault::Fail,
            _ => Fault::Torn(written),
        };
        storage.set_fault(call, fault);
    }
    let options = Options {
        sync_every: Duration::from_micros([0, 50, 1_000][dice.index(3)]),
        sync_each: dice.chance(0.4),
        permits: [2, 64][dice.index(2)],
        gathered: [0, 4][dice.index(2)],
        retry: Duration::from_millis(1),
        ..Options::default()
    };
    let book = Book::parse(&book_text(&mut dice, None))
        .map_err(|error| Violation::new("SIM-3", error.to_string()))?;
    let committer = Committer::start(writer, options, || WALL)
        .map_err(|error| Violation::new("race", error.to_string()))?;
    let told: Vec<Told> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (mut dice, committer, book) =
                    (root.fork(&format!("thread {thread}")), &committer, &book);
                scope.spawn(move || {
                    let some = 1 + dice.below(8);
                    let one = |_| {
                        let permit = committer.permit()?;
                        let wake = || committer.handle().wake();
                        let failed = || committer.status().failure.is_some();
                        Some(exchange(&mut dice, &permit, wake, failed, book))
                    };
                    (0..some).filter_map(one).collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<_>, _>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    if committer.status().permits > 0 {
        return Err(Violation::new("race", "permits are in use by nobody".to_owned()));
    }
    let whole = committer.close().is_ok();
    report.count(if whole { "closed" } else { "failed for good" });
    let power = dice.chance(0.5);
    let kept = dice.index(3) * 700;
    let left = if power { storage.after_power_cut(kept) } else { storage.after_kill() };
    // Whether what was acknowledged must be there.
    let kept = !power || whole || options.sync_each;
    check(&left, &told, kept, whole, &mut report)?;
    Ok(report)
}

/// An exchange is admitted and, if the journal took it, settled.
fn exchange(
    dice: &mut Random,
    permit: &Permit,
    wake: impl Fn(),
    failed: impl Fn() -> bool,
    book: &Book,
) -> Result<Told, Violation> {
    let faults = Plan::draw(dice).wire;
    let wire = wire::draw(dice, &faults);
    let id = ExchangeId::new(WALL, std::array::from_fn(|_| dice.next().to_le_bytes()[0]));
    let admission = admit(&wire, id, WALL, 0);
    let (meter, _) = dispatch(&wire, id, 0, AttemptReason::First, WALL, book, None);
    let mut batch = Batch::new();
    batch.push(&admission).map_err(sound)?;
    batch.push(meter.dispatch()).map_err(sound)?;
    // Once it is said that nothing more is written, nothing more is.
    let over = failed();
    let ticket = permit.offer(&batch);
    wake();
    let outcome = ticket.wait();
    if over && outcome.is_ok() {
        let what = format!("{id} is taken by a journal that had failed for good");
        return Err(Violation::new("SIM-5", what));
    }
    if outcome.is_err() {
        return Ok(Told { id, admitted: false, settled: None });
    }
    let end = meter.close(Close::Reset, WALL, |_, _, _| (Charged::Hosted, None));
    let settlement = Settlement { exchange: id, at: WALL, verdict: Verdict::Failed };
    let mut batch = Batch::new();
    batch.push(&end).map_err(sound)?;
    batch.push(&settlement).map_err(sound)?;
    let ticket = permit.submit(&batch);
    wake();
    // A disk that is gone for good keeps a settlement waiting for ever: whoever waits leaves, as the
    // gateway's clients do.
    let patience = if dice.chance(0.2) { Duration::ZERO } else { Duration::from_millis(20) };
    let settled = ticket.wait_for(patience).map(|outcome| outcome.is_ok());
    Ok(Told { id, admitted: true, settled })
}

/// Checks what a journal holds against what was told while it was written, and settles what it left
/// open.
fn check(
    left: &MemoryStorage,
    told: &[Told],
    kept: bool,
    whole: bool,
    report: &mut Report,
) -> Result<(), Violation> {
    let wrong = |id, what: String| Err(Violation::new(id, what));
    let read = || {
        Replay::read(left).map_err(|error| match error {
            ReadError::Journal(error) => sound(error),
            ReadError::Broken(violation) => violation,
        })
    };
    let (mut writer, _) = Writer::open(left.clone(), WALL, 1).map_err(sound)?;
    let (replay, _) = read()?;
    for Told { id, admitted, settled } in told {
        report.count("raced");
        let (is_admitted, is_settled) =
            (replay.admitted.contains_key(id), replay.settled.contains_key(id));
        if kept && (*admitted && !is_admitted || *settled == Some(true) && !is_settled) {
            return wrong("SIM-5", format!("{id} was acknowledged and is gone"));
        }
        // A failure that was taken back is one; what a failure for good left is not known.
        if whole && (!admitted && is_admitted || *settled == Some(false) && is_settled) {
            return wrong("SIM-2", format!("{id} was refused and is there"));
        }
        report.add_to("refused", usize::from(!admitted));
    }
    if replay.admitted.keys().any(|id| !told.iter().any(|told| told.id == *id)) {
        return wrong("SIM-2", "an exchange is there that nobody began".to_owned());
    }
    let mut batch = Batch::new();
    for (end, settlement) in replay.ledger.lost(WALL) {
        if let Some(end) = end {
            batch.push(&end).map_err(sound)?;
        }
        batch.push(&settlement).map_err(sound)?;
    }
    writer.append(&mut batch, WALL).map_err(sound)?;
    let (replay, _) = read()?;
    if replay.ledger.open() > 0 || replay.settled.len() != replay.admitted.len() {
        return wrong("SIM-1", "an exchange is never settled".to_owned());
    }
    Ok(())
}

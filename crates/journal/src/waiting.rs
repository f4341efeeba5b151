//! Records on their way to the writer, and who waits for them.

use std::ops::Range;
use std::time::{Duration, Instant};

use facts::Gap;
use quantity::UnixTime;

use crate::JournalError;
use crate::frame::Batch;
use crate::record::Body;
use crate::syncer::monotonic_now;
use crate::ticket::{Resolver, Ticket};

/// What a batch keeps of its memory after a burst.
const KEPT: usize = 1 << 20;

/// What happens to records that cannot be written when they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lot {
    /// They are kept and written later, before anything new.
    Kept,
    /// They are forgotten: nothing happened yet that they would tell of.
    Forgotten,
}

/// Records in the order in which they came.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) batch: Batch,
    /// Where in it those stand that are forgotten when they cannot be written.
    offered: Vec<Range<usize>>,
    offers: Vec<Resolver>,
    kept: Vec<Resolver>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.kept.is_empty()
    }

    pub(crate) fn push(&mut self, records: &Batch, lot: Lot) -> Ticket {
        let start = self.batch.bytes();
        self.batch.extend(records);
        let resolvers = match lot {
            Lot::Kept => &mut self.kept,
            Lot::Forgotten => {
                match self.offered.last_mut() {
                    Some(last) if last.end == start => last.end = self.batch.bytes(),
                    _ => self.offered.push(start..self.batch.bytes()),
                }
                &mut self.offers
            }
        };
        if resolvers.is_empty() {
            resolvers.push(Resolver::default());
        }
        resolvers[0].ticket()
    }

    /// Takes all that waits in another.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        let by = self.batch.bytes();
        self.batch.extend(&other.batch);
        let moved = other.offered.drain(..).map(|range| range.start + by..range.end + by);
        self.offered.extend(moved);
        self.offers.append(&mut other.offers);
        self.kept.append(&mut other.kept);
        other.batch.clear(KEPT);
    }

    /// Tells those for whom it is enough that their records are kept.
    pub(crate) fn keep(&self) {
        self.kept.iter().for_each(Resolver::keep);
    }

    /// The records were not written: those that are forgotten, are, and the others stay.
    pub(crate) fn forget(&mut self, why: &JournalError) {
        self.batch.remove(&std::mem::take(&mut self.offered));
        self.offers.drain(..).for_each(|resolver| resolver.resolve(Err(why.clone())));
        self.keep();
    }

    /// What became of all of them.
    pub(crate) fn resolve(&mut self, outcome: &Result<(), JournalError>) {
        let all = self.offers.drain(..).chain(self.kept.drain(..));
        all.for_each(|resolver| resolver.resolve(outcome.clone()));
        self.offered.clear();
        self.batch.clear(KEPT);
    }
}

/// What the writer and those who submit share.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: Waiting,
    /// The writer waits and must be woken.
    pub(crate) idle: bool,
    pub(crate) closed: bool,
    /// The writer will write nothing more.
    pub(crate) over: bool,
    /// Why a close left records unwritten.
    pub(crate) unwritten: Option<JournalError>,
    /// Something waits that cannot wait for the writer's next try by itself.
    pub(crate) urgent: bool,
    /// Since when the writer writes, if it does.
    pub(crate) writing_since: Option<Instant>,
    /// Since the last append failed, if none succeeded after it.
    pub(crate) failing: Option<Failing>,
    /// What the writer has of records that it could not write.
    pub(crate) backlog: (u64, usize),
    pub(crate) gaps: Gaps,
}

/// An append failed, for now.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    /// The last one.
    pub(crate) at: Instant,
    pub(crate) error: JournalError,
}

/// What could not be journalled.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Since the start.
    pub(crate) all: Option<Gap>,
    /// What no record tells yet.
    pub(crate) untold: Option<Gap>,
    /// What is being written.
    pub(crate) telling: Option<Gap>,
}

impl Queue {
    /// Whether the writer has something to do at once.
    pub(crate) fn is_due(&self) -> bool {
        let calm = self.failing.is_none();
        let told = self.over || self.gaps.untold.as_ref().is_none_or(|gap| !gap.counts());
        self.closed || self.urgent || calm && !(self.waiting.is_empty() && told)
    }

    /// For how long the writer has been writing, if that is as long as anybody may wait.
    pub(crate) fn stalled(&self, limit: Duration) -> Option<Duration> {
        let since = self.writing_since?;
        Some(monotonic_now().duration_since(since)).filter(|stalled| *stalled >= limit)
    }

    /// Bytes that wait, wherever.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.batch.bytes() + self.backlog.1
    }
}

impl Gaps {
    /// Counts records that the journal will not have.
    pub(crate) fn lose(&mut self, records: &Batch, cause: &str) {
        let mut lost: Option<Gap> = None;
        let mut gap = |at: UnixTime, tell: &dyn Fn(&mut Gap)| {
            tell(lost.get_or_insert_with(|| Gap::new(at, cause.to_owned())));
        };
        for record in records.iter() {
            // They were encoded a moment ago; what cannot be read tells of nothing that ended.
            match record.decode().map(|record| record.body) {
                Ok(Body::Admitted(admission)) => gap(admission.at, &|gap| gap.admitted(&admission)),
                Ok(Body::AttemptEnded(end)) => gap(end.at, &|gap| gap.ended(&end)),
                Ok(Body::Settled(settlement)) => {
                    gap(settlement.at, &|gap| gap.settled(&settlement))
                }
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(lost) = lost {
            merge(&mut self.all, &lost);
            merge(&mut self.untold, &lost);
        }
    }

    /// The gap to write now, if anything ended in it.
    pub(crate) fn begin_to_tell(&mut self) -> Option<Gap> {
        self.telling = self.untold.take_if(|gap| gap.counts());
        self.telling.clone()
    }

    /// Whether it was written.
    pub(crate) fn told(&mut self, written: bool) {
        if let Some(gap) = self.telling.take().filter(|_| !written) {
            let later = self.untold.replace(gap);
            later.iter().for_each(|later| merge(&mut self.untold, later));
        }
    }

    /// What no record tells, or may not tell.
    pub(crate) fn untold(&self) -> Option<Gap> {
        let mut untold = self.telling.clone();
        self.untold.iter().for_each(|gap| merge(&mut untold, gap));
        untold.filter(Gap::counts)
    }
}

fn merge(into: &mut Option<Gap>, gap: &Gap) {
    match into {
        Some(into) => into.merge(gap),
        None => *into = Some(gap.clone()),
    }
}

//! A gateway process in virtual time: the order of its steps is that of the real one, its sockets and
//! threads are events of the [`World`](crate::world::World).

use std::collections::{BTreeMap, BTreeSet};

use facts::{
    Admission, Attempt, AttemptEnd, AttemptReason, Charged, Dispatch, End, Labels, RouteSource,
    Verdict,
};
use journal::{Batch, Body, MemoryStorage, Writer};
use metering::{AttemptMeter, Learner, Request, bound};
use quantity::{ExchangeId, HashKey, PriceRowId, UnixTime, Usage, UsageSource};
use tariff::Book;

use crate::plan::Mutant;
use crate::wire::Wire;

/// Everything that dies with the process.
pub(crate) struct Gateway {
    pub(crate) writer: Writer<MemoryStorage>,
    /// Submitted, not yet taken by the writer.
    pub(crate) queue: Vec<Submission>,
    /// Taken by the writer, not yet appended.
    pub(crate) flight: Vec<Submission>,
    pub(crate) busy: bool,
    /// Written and not synced: whose admissions and settlements.
    pub(crate) unsynced: Vec<(usize, Stage)>,
    pub(crate) syncing: bool,
    /// A failure after which nothing more is admitted.
    pub(crate) failed: bool,
    pub(crate) runs: BTreeMap<usize, Run>,
    /// Price rows that are on the journal since the process started.
    pub(crate) rows: BTreeSet<PriceRowId>,
    pub(crate) learner: Learner,
}

/// Which records of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Admission,
    /// Of another attempt.
    Dispatch,
    Settlement,
}

/// Records of one exchange that enter the journal together.
pub(crate) struct Submission {
    pub(crate) client: usize,
    pub(crate) stage: Stage,
    pub(crate) records: Vec<Body>,
    pub(crate) rows: Vec<PriceRowId>,
}

/// An exchange under way.
pub(crate) struct Run {
    pub(crate) timer: Timer,
    /// `None` once settled.
    pub(crate) open: Option<Open>,
    /// Which attempt, from 0.
    pub(crate) ordinal: usize,
    /// The request for the upstream, until it is sent.
    pub(crate) request: Option<Sent>,
    /// The client left before the admission or the dispatch was there.
    pub(crate) gone: bool,
    pub(crate) head: bool,
    /// Bytes of the body that came.
    pub(crate) at: usize,
    /// Nothing has gone to the client: another try is possible.
    pub(crate) gathering: bool,
    /// Bytes for the client while nothing goes to it.
    pub(crate) ready: Vec<bytes::Bytes>,
    /// Bytes that wait for the settlement.
    pub(crate) last: Option<Vec<bytes::Bytes>>,
    /// Whether the body ended, and soundly.
    pub(crate) ended: Option<bool>,
}

/// What an upstream is asked.
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) body: bytes::Bytes,
}

/// What there is to settle.
pub(crate) struct Open {
    pub(crate) admission: Admission,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) running: Option<AttemptMeter>,
    /// Records of ended attempts that are not on the journal yet, and the price rows among them.
    pub(crate) unwritten: Vec<Body>,
    pub(crate) new_rows: Vec<PriceRowId>,
}

impl Run {
    pub(crate) fn new(timer: Timer, admission: Admission) -> Self {
        let open = Open {
            admission,
            attempts: Vec::new(),
            running: None,
            unwritten: Vec::new(),
            new_rows: Vec::new(),
        };
        Self {
            timer,
            open: Some(open),
            ordinal: 0,
            request: None,
            gone: false,
            head: false,
            at: 0,
            gathering: true,
            ready: Vec::new(),
            last: None,
            ended: None,
        }
    }

    pub(crate) fn running(&mut self) -> Option<&mut AttemptMeter> {
        self.open.as_mut()?.running.as_mut()
    }
}

/// The wall clock read once, then a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    pub(crate) wall: UnixTime,
    pub(crate) started: u64,
}

impl Timer {
    pub(crate) fn at(&self, now: u64) -> UnixTime {
        self.wall.plus(std::time::Duration::from_nanos(now - self.started))
    }
}

impl Gateway {
    pub(crate) fn new(writer: Writer<MemoryStorage>) -> Self {
        Self {
            writer,
            queue: Vec::new(),
            flight: Vec::new(),
            busy: false,
            unsynced: Vec::new(),
            syncing: false,
            failed: false,
            runs: BTreeMap::new(),
            rows: BTreeSet::new(),
            learner: Learner::default(),
        }
    }

    /// One batch of all that the writer took.
    pub(crate) fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        for record in self.flight.iter().flat_map(|submission| &submission.records) {
            batch.push(record).expect("small records");
        }
        batch
    }
}

/// Reads a request and admits it as the gateway does.
pub(crate) fn admit(wire: &Wire, id: ExchangeId, at: UnixTime, retry: u32) -> Admission {
    let asked = asked(wire);
    Admission {
        exchange: id,
        at,
        api: wire.ask.api,
        stream: asked.stream,
        model_asked: asked.model.clone(),
        max_tokens: asked.max_tokens,
        choices: asked.choices,
        tier_asked: asked.tier.clone(),
        labels: Labels {
            route: "simulated".to_owned(),
            route_source: RouteSource::Header,
            task: None,
            task_type: None,
            user: None,
            team: None,
            tags: Vec::new(),
        },
        caller: None,
        key: None,
        path: None,
        client_retry: Some(retry),
        request_bytes: wire.ask.request.len() as u64,
        prompt: asked.prompt,
    }
}

/// An attempt's meter, and what to send.
pub(crate) fn dispatch(
    wire: &Wire,
    id: ExchangeId,
    ordinal: usize,
    reason: AttemptReason,
    at: UnixTime,
    book: &Book,
    mutant: Option<Mutant>,
) -> (AttemptMeter, Sent) {
    let asked = asked(wire);
    let mut dispatch = Dispatch {
        exchange: id,
        ordinal: u32::try_from(ordinal).expect("a few"),
        at,
        reason,
        upstream: wire.kind.upstream.to_owned(),
        provider: wire.kind.provider.map(str::to_owned),
        model: Some(wire.model.clone()),
        region: None,
        input_estimate: asked.input_estimate(),
        bound: None,
    };
    dispatch.bound = bound(book, &dispatch, &asked, wire.ask.request.len());
    let asks = wire.kind.convention.must_ask_for_usage();
    let body = bytes::Bytes::copy_from_slice(&wire.ask.request);
    let body = asked.rewrite(&body, Some(&wire.model), asks);
    let path = asked.rewrite_path(&wire.ask.path, Some(&wire.model)).into_owned();
    let strips = asked.strips_usage(asks) && mutant != Some(Mutant::KeepUsageChunk);
    (AttemptMeter::new(wire.kind.convention, &asked, strips, dispatch), Sent { path, body })
}

fn asked(wire: &Wire) -> Request {
    let ask = &wire.ask;
    Request::read_at(ask.api, &ask.path, &ask.request, &HashKey::new([7; 32]))
        .expect("a sound request")
}

/// Whether another try may fare better.
pub(crate) fn may_pass_next_time(end: &AttemptEnd) -> bool {
    match end.end {
        End::Unreachable | End::Cut | End::Timeout | End::StreamError => true,
        End::UpstreamError => true,
        End::Refused => end.status == Some(429),
        End::Complete | End::ClientGone | End::Lost => false,
    }
}

/// What became of an exchange whose last attempt ended so.
pub(crate) fn verdict(end: &AttemptEnd) -> Verdict {
    match end.end {
        End::Complete => Verdict::Completed,
        End::ClientGone => Verdict::Aborted,
        End::Refused
        | End::UpstreamError
        | End::StreamError
        | End::Cut
        | End::Unreachable
        | End::Timeout => Verdict::Failed,
        End::Lost => Verdict::Unknown,
    }
}

/// Spoils the end of an attempt as a mutant does.
pub(crate) fn spoil(mutant: Option<Mutant>, end: &mut AttemptEnd) {
    match (mutant, &mut end.charged) {
        (Some(Mutant::EstimateZero), _) if end.metered.source == UsageSource::Estimated => {
            end.metered.usage = Usage::default();
        }
        (Some(Mutant::OneTokenMore), Charged::Priced { lines, .. }) => {
            if let Some(line) = lines.last_mut() {
                line.contracted += line.price.times(quantity::TokenCount::from(1));
            }
        }
        (Some(Mutant::CutIsComplete), _) if end.end == End::Cut => end.end = End::Complete,
        _ => {}
    }
}

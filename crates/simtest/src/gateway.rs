//! A gateway process in virtual time: the order of its steps is that of the real one, its sockets and
//! threads are events of the [`World`](crate::world::World).

use std::collections::{BTreeMap, BTreeSet};

use facts::{
    Admission, Api, AttemptEnd, AttemptReason, Charged, Dispatch, End, Labels, RouteSource, Verdict,
};
use journal::{Batch, Body, MemoryStorage, Writer};
use metering::{AttemptMeter, Request, bound};
use quantity::{ExchangeId, HashKey, Metered, PriceRowId, UnixTime, Usage, UsageSource};
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
}

/// Which records of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Admission,
    Settlement,
}

/// Records of one exchange that enter the journal together.
pub(crate) struct Submission {
    pub(crate) client: usize,
    pub(crate) stage: Stage,
    pub(crate) records: Vec<Body>,
    pub(crate) row: Option<PriceRowId>,
}

/// An exchange under way.
pub(crate) struct Run {
    pub(crate) timer: Timer,
    /// `None` once settled.
    pub(crate) open: Option<(Admission, AttemptMeter)>,
    /// The request for the upstream, until it is sent.
    pub(crate) request: Option<bytes::Bytes>,
    /// The client left before the admission was there.
    pub(crate) gone: bool,
    pub(crate) head: bool,
    /// Bytes of the body that came.
    pub(crate) at: usize,
    /// Bytes that wait for the settlement.
    pub(crate) last: Option<Vec<bytes::Bytes>>,
    /// Whether the body ended, and soundly.
    pub(crate) ended: Option<bool>,
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

/// Reads a request as the gateway does: admission, meter, and what to send.
pub(crate) fn admit(
    wire: &Wire,
    id: ExchangeId,
    at: UnixTime,
    book: &Book,
    retry: u32,
    mutant: Option<Mutant>,
) -> (Admission, AttemptMeter, bytes::Bytes) {
    let body = bytes::Bytes::copy_from_slice(&wire.request);
    let asked = Request::read(wire.api, &body, &HashKey::new([7; 32])).expect("a sound request");
    let admission = Admission {
        exchange: id,
        at,
        api: wire.api,
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
        client_retry: Some(retry),
        request_bytes: body.len() as u64,
        prompt: asked.prompt.clone(),
    };
    let mut dispatch = Dispatch {
        exchange: id,
        ordinal: 0,
        at,
        reason: AttemptReason::First,
        upstream: wire.upstream.to_owned(),
        provider: wire.provider.map(str::to_owned),
        model: Some(wire.model.clone()),
        input_estimate: asked.input_estimate(),
        bound: None,
    };
    dispatch.bound = bound(book, &dispatch, &asked, body.len());
    let asks = wire.api == Api::OpenAiChat && wire.convention.must_ask_for_usage();
    let sent = asked.rewrite(&body, Some(&wire.model), asks);
    let strips = asked.strips_usage(asks) && mutant != Some(Mutant::KeepUsageChunk);
    let meter = AttemptMeter::new(wire.convention, &asked, strips, dispatch);
    (admission, meter, sent)
}

/// What became of an exchange whose only attempt ended so.
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

/// Spoils a usage or a charge as a mutant does.
pub(crate) fn spoil(mutant: Option<Mutant>, metered: &mut Metered, charged: &mut Charged) {
    match (mutant, charged) {
        (Some(Mutant::EstimateZero), _) if metered.source == UsageSource::Estimated => {
            metered.usage = Usage::default();
        }
        (Some(Mutant::OneTokenMore), Charged::Priced { lines, .. }) => {
            if let Some(line) = lines.last_mut() {
                line.contracted += line.price.times(quantity::TokenCount::from(1));
            }
        }
        _ => {}
    }
}

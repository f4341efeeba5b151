//! One attempt from its dispatch to its end: bytes to forward, and what they cost.

use bytes::Bytes;
use facts::{Api, AttemptEnd, Charged, Dispatch, End, ToldCost};
use quantity::{Doubt, Doubts, Metered, TokenClass, TokenCount, UnixTime, Usage, UsageSource};
use serde_json::value::RawValue;
use tariff::PriceRow;

use crate::contained::{self, contained};
use crate::dialect::{self, Kind};
use crate::learner::{Learner, Lesson, Ratio};
use crate::seen::{Reading, Seen};
use crate::sse::{Events, Piece};
use crate::{Convention, Request, Served, told};

/// A unary reply is copied up to this size to read its usage; a larger one passes, its usage unknown.
/// The largest real replies are embeddings: 2,048 inputs × 3,072 dimensions is about 70 MB of text.
const MAX_REPLY: usize = 96 << 20;
/// A usage object larger than this is read but not kept: real ones have under 1 KB.
const MAX_RAW_USAGE: usize = 4 << 10;
/// After so many events whose reading broke down, further ones pass unread.
const MAX_BREAKDOWNS: u32 = 4;

/// How an attempt's connection ended; what that means depends on what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The body ended, or its terminal event came.
    BodyEnd,
    /// The upstream broke off.
    Reset,
    /// No connection could be made.
    Unreachable,
    /// A time limit of ours ran out.
    Timeout,
    /// The client left.
    ClientGone,
    /// The upstream sent the client elsewhere, which is not followed.
    Redirected,
}

/// What to do with a chunk that came.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes to pass on now.
    pub forward: Vec<Bytes>,
    /// Bytes to pass on once the exchange is settled: the response is complete with them. `Some`
    /// comes once.
    pub last: Option<Vec<Bytes>>,
}

#[derive(Debug)]
enum Body {
    /// Server-sent events.
    ///
    /// `held` is there once an event came that may be the last of an API that has no terminal event:
    /// from then on the newest waits for the next, or for the end.
    Stream { events: Events, terminal: bool, stripped: bool, held: Option<Vec<Bytes>> },
    /// One JSON document, or what passes unread: too large, encoded, or of a form that no API has. The
    /// newest chunk is held back, for it may be the last.
    Unary { copy: Vec<u8>, held: Bytes, unread: bool },
}

/// Reads one attempt's response on the side.
#[derive(Debug)]
pub struct AttemptMeter {
    api: Api,
    convention: Convention,
    choices: Option<u32>,
    strips_usage: bool,
    /// Bytes of the prompt's text, and whether they are all of the input.
    prompt_bytes: u64,
    prompt_is_text: bool,
    /// What was learned of the model, once it is known.
    ratio: Ratio,
    dispatch: Dispatch,
    status: Option<u16>,
    /// The cost that the head of the response told.
    told: Option<ToldCost>,
    body: Body,
    seen: Seen,
    /// Readings that broke down.
    breakdowns: u32,
    /// Whether the client left before the end, and the rest is read all the same.
    abandoned: bool,
    /// Whether an event was too large to read.
    skipped: bool,
    response_bytes: u64,
    first_byte_at: Option<UnixTime>,
    first_token_at: Option<UnixTime>,
    last_token_at: Option<UnixTime>,
}

impl AttemptMeter {
    /// A meter for an attempt that is about to be sent. `strips_usage` tells that the usage chunk was
    /// asked for by us and is to be kept from the client.
    #[must_use]
    pub fn new(
        convention: Convention,
        request: &Request,
        strips_usage: bool,
        dispatch: Dispatch,
    ) -> Self {
        Self {
            api: request.api,
            convention,
            choices: request.choices,
            strips_usage,
            prompt_bytes: request.prompt.text_bytes(),
            prompt_is_text: request.bounded
                && request.prompt.messages.iter().all(|message| message.media == 0),
            ratio: Ratio::default(),
            dispatch,
            status: None,
            told: None,
            body: Body::Unary { copy: Vec::new(), held: Bytes::new(), unread: false },
            seen: Seen::default(),
            breakdowns: 0,
            abandoned: false,
            skipped: false,
            response_bytes: 0,
            first_byte_at: None,
            first_token_at: None,
            last_token_at: None,
        }
    }

    /// The attempt as it was sent.
    #[must_use]
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// The head of the response came.
    pub fn head(&mut self, status: u16, content_type: Option<&str>, at: UnixTime) {
        self.status = Some(status);
        self.first_byte_at = Some(at);
        if self.api == Api::Unmetered {
            return self.encoded();
        }
        const STREAM: &str = "text/event-stream";
        let start = content_type.and_then(|kind| kind.get(..STREAM.len()));
        if start.is_some_and(|kind| kind.eq_ignore_ascii_case(STREAM))
            && (200..300).contains(&status)
        {
            let events = Events::default();
            self.body = Body::Stream { events, terminal: false, stripped: false, held: None };
        }
    }

    /// The body is encoded, though we asked for it plain: it passes unread. Follows [`Self::head`].
    pub fn encoded(&mut self) {
        self.body = Body::Unary { copy: Vec::new(), held: Bytes::new(), unread: true };
    }

    /// The head told a cost, in [`crate::COST_HEADER`]. Follows [`Self::head`].
    pub fn told(&mut self, cost: &str) {
        // The head of a stream cannot know it.
        if !self.streams() {
            self.told = told::in_header(cost);
        }
    }

    /// Whether the response, as its head says, is a stream of events that are read.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self.body, Body::Stream { .. })
    }

    /// A chunk of the body came.
    pub fn push(&mut self, chunk: Bytes, at: UnixTime) -> Step {
        self.response_bytes += chunk.len() as u64;
        let mut step = Step::default();
        match &mut self.body {
            Body::Unary { copy, held, unread } => {
                if copy.len() + chunk.len() > MAX_REPLY {
                    *unread = true;
                    *copy = Vec::new();
                } else if !*unread {
                    copy.extend_from_slice(&chunk);
                }
                let before = std::mem::replace(held, chunk);
                if !before.is_empty() {
                    step.forward.push(before);
                }
            }
            Body::Stream { terminal: true, .. } => step.forward.push(chunk),
            Body::Stream { events, terminal, stripped, held } => {
                let pieces = self.seen.output.pieces;
                let reader = EventReader { api: self.api, strips_usage: self.strips_usage };
                events.push(chunk, |piece| {
                    let (bytes, fate) = match piece {
                        Piece::Event(event) if !*terminal => {
                            let fate = reader.read(&event, &mut self.seen, &mut self.breakdowns);
                            *stripped = matches!(fate, Fate::Strip);
                            (event, fate)
                        }
                        Piece::LineFeed(bytes) if *stripped => (bytes, Fate::Strip),
                        Piece::LineFeed(bytes) => (bytes, Fate::Append),
                        Piece::Event(bytes) => (bytes, Fate::Pass),
                        // It may have been the last, and nobody knows.
                        Piece::Unread(bytes) => {
                            self.skipped |= !*terminal;
                            (bytes, Fate::Hold)
                        }
                    };
                    let fate = match fate {
                        Fate::Strip => return,
                        // Once one may be the last, any may.
                        Fate::Pass if held.is_some() => Fate::Hold,
                        fate => fate,
                    };
                    if let Some(last) = &mut step.last {
                        return last.push(bytes);
                    }
                    match fate {
                        Fate::Hold => {
                            step.forward.extend(held.replace(vec![bytes]).into_iter().flatten());
                        }
                        Fate::Terminal => {
                            step.forward.extend(held.take().into_iter().flatten());
                            *terminal = true;
                            step.last = Some(vec![bytes]);
                        }
                        Fate::Append => match held.as_mut().filter(|held| !held.is_empty()) {
                            Some(held) => held.push(bytes),
                            None => step.forward.push(bytes),
                        },
                        Fate::Pass | Fate::Strip => step.forward.push(bytes),
                    }
                });
                if *terminal {
                    // What stands behind the terminal event belongs to no event of the API.
                    let rest = step.last.get_or_insert_default();
                    rest.extend(events.finish());
                }
                if self.seen.output.pieces > pieces && !self.api.is_free() {
                    self.first_token_at.get_or_insert(at);
                    self.last_token_at = Some(at);
                }
            }
        }
        step
    }

    /// The body ended as its framing said. `last` is `Some` unless the terminal event already came.
    pub fn body_end(&mut self) -> Step {
        let mut last = Vec::new();
        match &mut self.body {
            Body::Unary { held, .. } => last.push(std::mem::take(held)),
            Body::Stream { terminal: true, .. } => return Step::default(),
            Body::Stream { events, terminal, held, .. } => {
                last.extend(held.take().into_iter().flatten());
                // A last event may lack its blank line.
                let reader = EventReader { api: self.api, strips_usage: self.strips_usage };
                if let Some(bytes) = events.finish() {
                    let fate = reader.read(&bytes, &mut self.seen, &mut self.breakdowns);
                    *terminal = matches!(fate, Fate::Terminal);
                    if !matches!(fate, Fate::Strip) {
                        last.push(bytes);
                    }
                }
            }
        }
        last.retain(|bytes| !bytes.is_empty());
        Step { forward: Vec::new(), last: Some(last) }
    }

    /// The client left, and the rest of the response is read all the same, for its usage.
    pub fn abandoned(&mut self) {
        self.abandoned = true;
    }

    /// The attempt is over. `price` turns a usage into a charge, given what served; it gives the row
    /// with it, as [`crate::charge`] does.
    pub fn close<'b>(
        self,
        how: Close,
        at: UnixTime,
        price: impl FnOnce(&Dispatch, Served<'_>, &Metered) -> (Charged, Option<&'b PriceRow>),
    ) -> AttemptEnd {
        self.close_learning(how, at, &mut Learner::default(), price)
    }

    /// As [`Self::close`]; estimates go by what the learner knows of the model, and it learns from a
    /// call that was told in full.
    pub fn close_learning<'b>(
        mut self,
        how: Close,
        at: UnixTime,
        learner: &mut Learner,
        price: impl FnOnce(&Dispatch, Served<'_>, &Metered) -> (Charged, Option<&'b PriceRow>),
    ) -> AttemptEnd {
        let settled = contained(contained::Reading::End, || {
            let end = self.end(how);
            let metered = self.learned(end, learner);
            if consumes_nothing(self.api, end) {
                return (self.for_client(end), metered, Charged::NotBilled);
            }
            let seen = &self.seen;
            let served = Served {
                model: seen.model.as_deref(),
                tier: seen.tier_served.as_deref(),
                region: seen.region_served.as_deref(),
            };
            let doubtful = self.doubted_for_region(metered);
            let (charged, row) = price(&self.dispatch, served, &doubtful);
            let regional = row.is_some_and(|row| row.terms().region.is_some());
            (self.for_client(end), if regional { metered } else { doubtful }, charged)
        });
        let (end, metered, charged) = settled.unwrap_or_else(|| {
            self.breakdowns += 1;
            self.seen = Seen::default();
            let whole = matches!(self.body, Body::Stream { terminal: true, .. });
            let end = self.end_by_head(how).filter(|_| !whole).unwrap_or(End::Complete);
            let reason = "the meter broke down".to_owned();
            let charged = match consumes_nothing(self.api, end) {
                true => Charged::NotBilled,
                false => Charged::Unpriced { reason },
            };
            (self.for_client(end), self.metered(end), charged)
        });
        let seen = self.seen;
        let raw_usage = match seen.raw_usage.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("[{}]", several.join(","))),
        };
        AttemptEnd {
            exchange: self.dispatch.exchange,
            ordinal: self.dispatch.ordinal,
            first_byte_at: self.first_byte_at,
            first_token_at: self.first_token_at,
            last_token_at: self.last_token_at,
            at,
            status: self.status,
            end,
            error: seen.error,
            response_id: seen.response_id,
            model_served: seen.model,
            tier_served: seen.tier_served,
            region_served: seen.region_served,
            finish_reason: seen.finish_reason,
            metered,
            // What a stored response once used is on the record of its own exchange.
            raw_usage: raw_usage.filter(|raw| raw.len() <= MAX_RAW_USAGE && !self.api.is_free()),
            response_bytes: self.response_bytes,
            tools_called: seen.tools,
            charged,
            told: seen.told.or(self.told).filter(|_| !self.api.is_free()),
        }
    }

    /// What was consumed, by what the learner knows; it learns of it.
    fn learned(&mut self, end: End, learner: &mut Learner) -> Metered {
        let provider = self.dispatch.provider.as_deref().unwrap_or(&self.dispatch.upstream);
        let model = self.seen.model.as_deref().or(self.dispatch.model.as_deref()).unwrap_or("");
        self.ratio = learner.ratio(provider, model);
        let mut metered = self.metered(end);
        if let Some(lesson) = self.lesson(end, &metered) {
            learner.learn(provider, model, lesson);
        }
        if metered.source != UsageSource::Unknown && !consumes_nothing(self.api, end) {
            self.add_what_usage_leaves_out(&mut metered);
        }
        metered
    }

    fn end(&mut self, how: Close) -> End {
        let readable = self.read_unary();
        let failed = self.seen.error.is_some();
        match (&self.body, self.end_by_head(how)) {
            (_, Some(end @ (End::Unreachable | End::Refused | End::UpstreamError))) => end,
            (Body::Stream { terminal: true, .. }, _) if failed => End::StreamError,
            (Body::Stream { terminal: true, .. }, _) => End::Complete,
            (Body::Unary { .. }, _) if failed => End::UpstreamError,
            (_, Some(broken)) => broken,
            // What was not read may have been the last event.
            (Body::Stream { .. }, None)
                if self.seen.finish_reason.is_some() || self.skipped || self.breakdowns > 0 =>
            {
                End::Complete
            }
            (Body::Stream { .. }, None) => End::Cut,
            (Body::Unary { unread, .. }, None) if readable || *unread => End::Complete,
            (Body::Unary { .. }, None) => End::UpstreamError,
        }
    }

    /// What the end of the response was for its client, who may have left before.
    fn for_client(&self, end: End) -> End {
        let refused = matches!(end, End::Refused | End::UpstreamError | End::Unreachable);
        if self.abandoned && !refused { End::ClientGone } else { end }
    }

    /// How it ended as far as the head and the connection say; `None` for a body that ended well.
    fn end_by_head(&self, how: Close) -> Option<End> {
        let broken = match how {
            Close::Unreachable => return Some(End::Unreachable),
            Close::Redirected => return Some(End::UpstreamError),
            Close::BodyEnd => None,
            Close::Reset => Some(End::Cut),
            Close::Timeout => Some(End::Timeout),
            Close::ClientGone => Some(End::ClientGone),
        };
        // A status that is an error says how it ended, whatever became of its body.
        match self.status {
            Some(200..=299) => broken,
            Some(400..=499) => Some(End::Refused),
            Some(_) => Some(End::UpstreamError),
            None => Some(broken.unwrap_or(End::Cut)),
        }
    }

    /// Reads a unary reply; tells whether it was whole and of the API.
    fn read_unary(&mut self) -> bool {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Failure<'a> {
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        let Body::Unary { copy, unread: false, .. } = &self.body else { return false };
        let seen = &mut self.seen;
        if self.status.is_some_and(|status| status >= 400) {
            let failure: Failure<'_> = serde_json::from_slice(copy).unwrap_or_default();
            seen.error(failure.error);
            return false;
        }
        dialect::read_reply(self.api, copy, seen)
    }

    fn metered(&self, end: End) -> Metered {
        let failed =
            if self.breakdowns > 0 { Doubts::NONE.with(Doubt::MeterFailed) } else { Doubts::NONE };
        if consumes_nothing(self.api, end) {
            let (usage, source) = (Usage::default(), UsageSource::Reported);
            return Metered { usage, source, doubts: failed };
        }
        if self.breakdowns > 0 {
            return Metered { doubts: failed, ..Metered::unknown() };
        }
        if self.api == Api::Unmetered {
            return Metered::unknown();
        }
        let seen = &self.seen;
        let told = seen.usage_is_final(self.choices);
        if matches!(self.body, Body::Unary { unread: true, .. }) || self.skipped && !told {
            return Metered { doubts: failed.with(Doubt::Unread), ..Metered::unknown() };
        }
        let reading = dialect::usage(self.api, self.convention, self.choices, seen);
        let refused = reading.as_ref().is_some_and(|r| r.doubts.contains(Doubt::CountRefused));
        // A usage of zeros beside output is a form left blank, not a count.
        let blank = |r: &Reading| r.usage.total() == 0 && seen.output.pieces > 0;
        let reading = reading.filter(|r| (r.has_input || r.has_output) && !blank(r));
        let Some(reading) = reading else {
            if end != End::Complete && seen.output.pieces == 0 {
                return Metered::unknown();
            }
            let mut estimated = self.estimated();
            if refused {
                estimated.doubts = estimated.doubts.with(Doubt::CountRefused);
            }
            return estimated;
        };
        let passed_since = seen.output_since_usage;
        let is_final =
            seen.usage_is_final(self.choices) || (end == End::Complete && passed_since.pieces == 0);
        let Reading { mut usage, mut doubts, has_input, has_output } = reading;
        // Nor is none a count of what passed.
        let has_output = has_output && (usage.output() > 0 || seen.output.pieces == 0);
        if is_final && has_input && has_output && !refused {
            return Metered { usage, source: UsageSource::Reported, doubts };
        }
        if !has_input {
            usage.tokens[TokenClass::InputUncached] = self.input_estimate();
            doubts = doubts.with(Doubt::SplitUnknown);
        }
        let passed = if has_output { passed_since } else { seen.output };
        let passed = passed.tokens(&self.ratio).get();
        // A count that came after output counts that output; one that came before only holds a place.
        let counted = has_output && seen.output.pieces > passed_since.pieces;
        let held = if counted { 0 } else { usage.output() };
        let missing = TokenCount::new(passed.saturating_sub(held));
        let text = &mut usage.tokens[TokenClass::OutputText];
        *text = text.plus(missing.unwrap_or_default()).unwrap_or(*text);
        Metered { usage, source: UsageSource::Partial, doubts: self.lower_bound(doubts) }
    }

    /// Searches and the like, of which the usage object of some APIs says nothing.
    fn add_what_usage_leaves_out(&self, metered: &mut Metered) {
        for (unit, count) in self.seen.units.iter() {
            let held = &mut metered.usage.units[unit];
            *held = held.plus(*count).unwrap_or(*held);
        }
        for doubt in self.seen.doubts.iter() {
            metered.doubts = metered.doubts.with(doubt);
        }
    }

    /// Of newer models, a run that is kept to one region costs a tenth more; no count tells it, and only
    /// a price for that region has it.
    fn doubted_for_region(&self, metered: Metered) -> Metered {
        let kept = self.seen.region_served.as_deref().is_some_and(|region| region != "global");
        if !kept || metered.source == UsageSource::Unknown {
            return metered;
        }
        Metered { doubts: metered.doubts.with(Doubt::LowerBound), ..metered }
    }

    fn estimated(&self) -> Metered {
        let mut usage = Usage::default();
        usage.tokens[TokenClass::InputUncached] = self.input_estimate();
        usage.tokens[TokenClass::OutputText] = self.seen.output.tokens(&self.ratio);
        let doubts = self.lower_bound(Doubts::NONE).with(Doubt::SplitUnknown);
        Metered { usage, source: UsageSource::Estimated, doubts }
    }

    fn input_estimate(&self) -> TokenCount {
        self.ratio.input(self.prompt_bytes).unwrap_or(self.dispatch.input_estimate)
    }

    /// What a completed call teaches of its model: only what was told in full and is text alone.
    fn lesson(&self, end: End, metered: &Metered) -> Option<Lesson> {
        const MISLEADING: [Doubt; 4] = [
            Doubt::SumMismatch,
            Doubt::CountRefused,
            Doubt::ChoicesUnderReported,
            Doubt::MixedModels,
        ];
        let told = metered.source == UsageSource::Reported
            && !MISLEADING.iter().any(|doubt| metered.doubts.contains(*doubt));
        if end != End::Complete || self.api.is_free() || !told {
            return None;
        }
        let (usage, seen) = (&metered.usage, &self.seen);
        let sum = |classes: &[TokenClass]| -> u64 {
            classes.iter().map(|class| usage.tokens[*class].get()).sum()
        };
        let input = [
            TokenClass::InputUncached,
            TokenClass::CacheRead,
            TokenClass::CacheWrite5m,
            TokenClass::CacheWrite1h,
        ];
        let mut lesson = Lesson { pieces: seen.output.pieces, ..Lesson::default() };
        let input_tokens = sum(&input);
        if self.prompt_is_text && input_tokens == usage.input() {
            (lesson.input_tokens, lesson.input_bytes) = (input_tokens, self.prompt_bytes);
        }
        // Thoughts that were not shown have no bytes.
        let text = usage.tokens[TokenClass::OutputText].get();
        let thought = usage.tokens[TokenClass::Reasoning].get();
        let shown = if seen.output.shows_reasoning() { text + thought } else { text };
        if text + thought == usage.output() {
            (lesson.output_tokens, lesson.output_bytes) = (shown, seen.output.text_bytes());
        }
        Some(lesson)
    }

    fn lower_bound(&self, doubts: Doubts) -> Doubts {
        // What was learned of the model errs to both sides.
        let learned = self.ratio.is_learned();
        let doubts = if learned { doubts } else { doubts.with(Doubt::LowerBound) };
        // Reasoning that was not shown may have been billed all the same.
        let hidden = self.api != Api::OpenAiEmbeddings && !self.seen.output.shows_reasoning();
        if hidden { doubts.with(Doubt::ReasoningUnknown) } else { doubts }
    }
}

/// An error before a model ran consumes nothing, and some APIs never do.
fn consumes_nothing(api: Api, end: End) -> bool {
    matches!(end, End::Refused | End::Unreachable) || api.is_free()
}

/// What becomes of a piece of a stream.
enum Fate {
    Pass,
    Strip,
    /// It waits for the next one, or for the end.
    Hold,
    /// It belongs to the piece before.
    Append,
    Terminal,
}

struct EventReader {
    api: Api,
    strips_usage: bool,
}

impl EventReader {
    /// What becomes of an event. One whose reading breaks down may have been the last.
    fn read(&self, event: &[u8], seen: &mut Seen, breakdowns: &mut u32) -> Fate {
        if *breakdowns >= MAX_BREAKDOWNS {
            return Fate::Hold;
        }
        let read = || dialect::read_event(self.api, event, seen);
        let Some(kind) = contained(contained::Reading::Event, read) else {
            *breakdowns += 1;
            return Fate::Hold;
        };
        match kind {
            Kind::Terminal => Fate::Terminal,
            Kind::UsageOnly if self.strips_usage => Fate::Strip,
            Kind::MaybeLast => Fate::Hold,
            Kind::UsageOnly | Kind::Text(_) | Kind::Other => Fate::Pass,
        }
    }
}

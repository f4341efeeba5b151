//! One attempt as the world knows it: what is asked of an upstream, what it does, and the truth.

use std::ops::Range;

use facts::Api;
use metering::Convention;
use quantity::Usage;
use workload::Random;

use crate::kind::{self, Ask, Kind};
use crate::plan::WireFaults;
use crate::reply::Writer;

/// One request and what the upstream will do with it.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) ask: Ask,
    pub(crate) kind: Kind,
    /// The model that the upstream is asked for; the client calls it otherwise.
    pub(crate) model: String,
    pub(crate) contact: Contact,
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    /// How many bytes of the body come, and what then.
    pub(crate) comes: usize,
    pub(crate) then: Then,
    /// What the request truly consumed, if the whole reply is told.
    pub(crate) truth: Usage,
    pub(crate) model_served: String,
    pub(crate) tier: Option<&'static str>,
    /// Where the body has told the whole truth.
    pub(crate) told: Option<Mark>,
    /// Whether counts of what there is so far come before.
    pub(crate) running: bool,
    /// Where each piece of output ends: at least a token each.
    pub(crate) pieces: Vec<usize>,
    /// Where the terminal event of a stream ends, and whether it is an error.
    pub(crate) terminal: Option<Mark>,
    pub(crate) fails: bool,
    /// Where a stream first says why the model stopped: from then on its body may end.
    pub(crate) finish: Option<Mark>,
    /// With so many bytes the reply is complete for its client.
    pub(crate) whole: usize,
    /// Chunks that carry usage alone: not for a client that did not ask.
    pub(crate) usage_chunks: Vec<Range<usize>>,
    /// What it does wrong, or is odd in it, once it is asked.
    pub(crate) faults: Vec<&'static str>,
}

/// Whether the upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    Reached,
    Unreachable,
    /// It takes the request and breaks off before the head of a reply.
    BreaksOff,
}

/// What follows the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    End,
    Reset,
    /// Nothing more comes; a time limit of the gateway ends it.
    Stall,
}

/// A place in a body that a reader may understand at `may`, and must at `must`: the line ends lie
/// between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) may: usize,
    pub(crate) must: usize,
}

/// Draws a request and its reply.
pub(crate) fn draw(random: &mut Random, faults: &WireFaults) -> Wire {
    let (kind, api) = kind::draw(random);
    let model = if random.chance(0.05) { "nobody-knows" } else { "alpha" };
    let named = if random.chance(0.3) { "nickname" } else { model };
    let ask = kind::ask(random, kind, api, named);
    reply(random, faults, kind, model, ask)
}

/// Draws what another upstream does with the same request.
pub(crate) fn draw_again(random: &mut Random, faults: &WireFaults, first: &Wire) -> Wire {
    let kind = kind::draw_for(random, first.ask.api);
    let model = if random.chance(0.1) { "nobody-knows" } else { &first.model };
    reply(random, faults, kind, model, first.ask.clone())
}

fn reply(random: &mut Random, faults: &WireFaults, kind: Kind, model: &str, ask: Ask) -> Wire {
    let tiers: &[_] = match (kind.convention, ask.api) {
        (Convention::OpenAi, Api::OpenAiChat | Api::OpenAiResponses | Api::OpenAiCompletions) => {
            &[None, Some("default"), Some("priority"), Some("flex")]
        }
        (Convention::Gemini, _) => &[None, Some("standard"), Some("priority"), Some("flex")],
        _ => &[None],
    };
    let served = if random.chance(0.3) { format!("{model}-2026-01-02") } else { model.to_owned() };
    let mut wire = Wire {
        ask,
        kind,
        model: model.to_owned(),
        contact: Contact::Reached,
        status: 200,
        content_type: Some("application/json"),
        body: Vec::new(),
        comes: 0,
        then: Then::End,
        truth: Usage::default(),
        model_served: served,
        tier: tiers[random.index(tiers.len())],
        told: None,
        running: false,
        pieces: Vec::new(),
        terminal: None,
        fails: false,
        finish: None,
        whole: 0,
        usage_chunks: Vec::new(),
        faults: Vec::new(),
    };
    if random.chance(faults.unreachable) {
        let reached = random.chance(0.5);
        wire.contact = if reached { Contact::BreaksOff } else { Contact::Unreachable };
        wire.faults.push(if reached { "broken before its head" } else { "no connection" });
        return wire;
    }
    if random.chance(faults.refusal) {
        wire.status = [400, 401, 429, 429, 429][random.index(5)];
        wire.body = br#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#.to_vec();
        wire.faults.push(if wire.status == 429 { "status 429" } else { "status 4xx" });
    } else if random.chance(faults.server_error) {
        wire.status = [500, 502, 503, 529][random.index(4)];
        wire.body = br#"{"error":{"type":"api_error","message":"oops"}}"#.to_vec();
        wire.faults.push("status 5xx");
    } else if random.chance(faults.html) {
        wire.status = [200, 200, 502][random.index(3)];
        wire.content_type = Some("text/html");
        wire.body = b"<html><body>data: \"usage\" {bad gateway}</body></html>\n".to_vec();
        wire.faults.push("html");
    } else {
        Writer::new(random, faults, &mut wire).write();
    }
    if wire.whole == 0 {
        wire.whole = wire.terminal.map_or(wire.body.len(), |terminal| terminal.may);
    }
    wire.comes = wire.body.len();
    let cut = random.index(wire.body.len() + 1);
    if random.chance(faults.reset) {
        (wire.comes, wire.then) = (cut, Then::Reset);
        wire.faults.push("reset");
    } else if random.chance(faults.stall) {
        (wire.comes, wire.then) = (cut, Then::Stall);
        wire.faults.push("stall");
    } else if random.chance(faults.early_end) {
        wire.comes = cut;
        wire.faults.push("early end");
    }
    wire
}

impl Wire {
    pub(crate) fn is_stream(&self) -> bool {
        self.ask.stream
    }

    /// Whether the upstream tells the usage of a stream only to who asks for it.
    pub(crate) fn asks_usage(&self) -> bool {
        matches!(self.ask.api, Api::OpenAiChat | Api::OpenAiCompletions)
            && self.kind.convention != Convention::Mistral
    }
}

//! Journals of exchanges that overlap, fail, are retried, and never end.

use facts::{
    Adjustment, Admission, Api, AttemptEnd, AttemptReason, ChargeLine, Charged, Dispatch, End,
    Labels, PriceRecord, PromptShape, RouteSource, Settlement, ToldCost, Verdict,
};
use journal::{Batch, MemoryStorage, Storage as _, Writer};
use proptest::prelude::*;
use quantity::{
    Billable, Doubts, ExchangeId, Metered, Money, PriceRowId, TokenClass, TokenCount, Unit,
    UnitPrice, UnixTime, Usage, UsageSource,
};

use crate::at;

/// One exchange, in numbers that mean something modulo the choices there are.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) minute: u32,
    pub(crate) labels: [u8; 7],
    pub(crate) api: u8,
    pub(crate) tries: Vec<Try>,
    pub(crate) settles: bool,
    /// Which other exchange it may begin beside.
    pub(crate) place: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) model: u8,
    pub(crate) upstream: u8,
    pub(crate) end: u8,
    pub(crate) finish: u8,
    pub(crate) source: u8,
    pub(crate) charge: u8,
    pub(crate) tokens: [u32; 4],
    pub(crate) seconds: u16,
}

prop_compose! {
    fn any_try()(
        (model, upstream, end, finish) in any::<(u8, u8, u8, u8)>(),
        (source, charge) in any::<(u8, u8)>(),
        tokens in any::<[u32; 4]>(),
        seconds in any::<u16>(),
    ) -> Try {
        Try { model, upstream, end, finish, source, charge, tokens, seconds }
    }
}

prop_compose! {
    pub(crate) fn any_sample()(
        minute in 0_u32..3 * 24 * 60,
        labels in any::<[u8; 7]>(),
        api in any::<u8>(),
        tries in prop::collection::vec(any_try(), 0..4),
        settles in prop::bool::weighted(0.9),
        place in any::<u32>(),
    ) -> Sample {
        Sample { minute, labels, api, tries, settles, place }
    }
}

fn pick<'a>(choices: &[&'a str], number: u8) -> &'a str {
    choices[usize::from(number) % choices.len()]
}

fn maybe(choices: &[&str], number: u8) -> Option<String> {
    (!number.is_multiple_of(3)).then(|| pick(choices, number / 3).to_owned())
}

/// The records of an exchange, each in a batch of its own, as they come one after the other.
pub(crate) fn records(salt: u8, number: u32, sample: &Sample) -> Vec<Batch> {
    let start =
        at("2026-11-20").plus(std::time::Duration::from_secs(60 * u64::from(sample.minute)));
    let exchange = ExchangeId::new(start, {
        let mut random = [salt; 10];
        random[..4].copy_from_slice(&number.to_be_bytes());
        random
    });
    let mut batches = Vec::new();
    let mut push = |push: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        push(&mut batch);
        batches.push(batch);
    };
    let [route, team, user, task, task_type, tag, source] = sample.labels;
    let mut tags = Vec::new();
    if tag.is_multiple_of(2) {
        tags.push(("release".to_owned(), pick(&["a", "b", "", "naïve"], tag / 2).to_owned()));
    }
    if tag.is_multiple_of(3) {
        tags.push((format!("tag-{}", tag % 5), "x".to_owned()));
    }
    let admission = Admission {
        exchange,
        at: start,
        api: Api::ALL[usize::from(sample.api) % Api::ALL.len()],
        stream: false,
        model_asked: Some("m".to_owned()),
        max_tokens: None,
        choices: None,
        tier_asked: None,
        labels: Labels {
            route: pick(&["support", "agent", "", "\u{1b}[31m"], route).to_owned(),
            route_source: RouteSource::ALL[usize::from(source) % RouteSource::ALL.len()],
            task: maybe(&["t-1", "t-2", "t-3", "t-4", "t-5"], task),
            task_type: maybe(&["ticket", "mail"], task_type),
            user: maybe(&["u1", "u2", "u3"], user),
            team: maybe(&["care", "growth", ""], team),
            tags,
        },
        caller: None,
        key: maybe(&["ci", "bot"], source),
        path: None,
        client_retry: None,
        request_bytes: 100,
        prompt: PromptShape::default(),
    };
    push(&|batch| batch.push(&admission).unwrap());
    let mut now = start;
    for (ordinal, one) in (0..).zip(&sample.tries) {
        let dispatch = Dispatch {
            exchange,
            ordinal,
            at: now,
            reason: AttemptReason::First,
            upstream: pick(&["openai", "gpu", "other-gpu"], one.upstream).to_owned(),
            provider: None,
            model: maybe(&["mini", "nano"], one.model),
            region: maybe(&["eu", "us"], one.upstream),
            input_estimate: TokenCount::ZERO,
            bound: (one.seconds % 2 == 0).then(|| Money::from_pico(i128::from(one.tokens[0]))),
        };
        now = now.plus(std::time::Duration::from_secs(u64::from(one.seconds % 900)));
        let end = ended(&dispatch, now, one);
        push(&|batch| batch.push(&dispatch).unwrap());
        push(&|batch| batch.push(&end).unwrap());
    }
    let verdict = Verdict::ALL[usize::from(sample.api) % Verdict::ALL.len()];
    push(&|batch| batch.push(&Settlement { exchange, at: now, verdict }).unwrap());
    if !sample.settles {
        batches.pop();
    }
    batches
}

fn ended(dispatch: &Dispatch, at: UnixTime, one: &Try) -> AttemptEnd {
    let classes = [
        TokenClass::InputUncached,
        TokenClass::CacheRead,
        TokenClass::OutputText,
        TokenClass::Reasoning,
    ];
    let mut usage = Usage::default();
    for (class, count) in classes.into_iter().zip(one.tokens) {
        usage.tokens[class] = TokenCount::from(count);
    }
    usage.units[Unit::WebSearch] = TokenCount::from(one.tokens[0] % 3);
    let line = |item, count: TokenCount, price: u64, discount: i128| {
        let list = Money::from_pico(i128::from(count.get()) * i128::from(price));
        let contracted = Money::from_pico(list.pico() - discount);
        ChargeLine { item, count, price: UnitPrice::from_pico(price).unwrap(), list, contracted }
    };
    let charged = match one.charge % 6 {
        0 | 1 => {
            let prices = [250_000, 25_000, 2_000_000, 2_000_000];
            let discount = i128::from(one.charge % 2) * 1_000_003;
            let mut lines: Vec<_> = classes
                .into_iter()
                .zip(prices)
                .map(|(class, price)| {
                    line(Billable::Tokens(class), usage.tokens[class], price, discount)
                })
                .collect();
            let searches = usage.units[Unit::WebSearch];
            lines.push(line(Billable::Unit(Unit::WebSearch), searches, 10_000_000_000, 0));
            if one.tokens[1].is_multiple_of(7) {
                // Far beyond 64 bits.
                lines.push(line(
                    Billable::Unit(Unit::Call),
                    TokenCount::from(1),
                    1 << 62,
                    -(1 << 90),
                ));
            }
            Charged::Priced { row: PriceRowId::from_bytes([1; 16]), lines }
        }
        2 => Charged::Priced { row: PriceRowId::from_bytes([2; 16]), lines: Vec::new() },
        3 => Charged::Hosted,
        4 => Charged::NotBilled,
        _ => Charged::Unpriced { reason: "no row".to_owned() },
    };
    let source = UsageSource::ALL[usize::from(one.source) % UsageSource::ALL.len()];
    AttemptEnd {
        exchange: dispatch.exchange,
        ordinal: dispatch.ordinal,
        first_byte_at: None,
        first_token_at: None,
        last_token_at: None,
        at,
        status: Some(200),
        end: End::ALL[usize::from(one.end) % End::ALL.len()],
        error: None,
        response_id: None,
        model_served: maybe(&["mini-2026", "nano-2026", "large"], one.model / 3),
        tier_served: None,
        region_served: maybe(&["us", "global"], one.finish),
        finish_reason: maybe(&["stop", "length", "max_tokens"], one.finish),
        // Each set of those that are known, and some of a newer version.
        metered: Metered { usage, source, doubts: Doubts::from_bits(one.tokens[3] % 1_024) },
        raw_usage: None,
        response_bytes: 10,
        tools_called: Vec::new(),
        charged,
        told: match one.source % 8 {
            0 => Some(ToldCost::Refused),
            1 => Some(ToldCost::Of(Money::from_pico(0))),
            2 | 3 => Some(ToldCost::Of(Money::from_pico(i128::from(one.tokens[2]) * 2_000_001))),
            _ => None,
        },
    }
}

fn rate(upstream: &str, cost: &str, from: &str) -> Batch {
    let (upstream, cost) = (upstream.to_owned(), cost.parse().ok());
    let mut batch = Batch::new();
    batch.push(&PriceRecord::PerHour { upstream, cost, from: at(from) }).unwrap();
    batch
}

/// All records of the samples, those of different exchanges mixed, with prices among them. The ids of
/// exchanges differ with `salt`.
pub(crate) fn known(salt: u8, samples: &[Sample]) -> Vec<Batch> {
    sorted(placed(salt, samples))
}

/// The same with a record of a kind that nobody knows.
pub(crate) fn mixed(salt: u8, samples: &[Sample]) -> Vec<Batch> {
    let mut all = placed(salt, samples);
    let mut strange = Batch::new();
    strange.push_raw(200, 1, 0, |out| out.extend_from_slice(b"newer")).unwrap();
    all.push((2 * samples.len() as u64, strange));
    sorted(all)
}

fn placed(salt: u8, samples: &[Sample]) -> Vec<(u64, Batch)> {
    let mut all: Vec<(u64, Batch)> = Vec::new();
    let length = 4 * samples.len() as u64 + 1;
    for (number, sample) in (0..).zip(samples) {
        let begin = u64::from(sample.place) % length;
        for (step, batch) in (0..).zip(records(salt, number, sample)) {
            // Some wait long for their next record.
            let wait = u64::from(sample.labels[0] % 5) * u64::from(sample.labels[1] % 7);
            all.push((begin + step * (1 + wait), batch));
        }
    }
    let prices = [
        rate("gpu", "2.50", "2026-11-20T01:00:00Z"),
        rate("other-gpu", "0.000000000007", "2026-11-20T00:00:00Z"),
        rate("gpu", "3.33", "2026-11-21T07:00:00Z"),
        rate("gpu", "3.34", "2026-11-21T07:00:00Z"),
        rate("gpu", "", "2026-11-22T20:00:00Z"),
    ];
    all.extend((0..).map(|n| n * length / 5).zip(prices));
    let adjustments = [
        ("mini", -7, "2026-11-20T06:00:00Z"),
        ("mini", 9, "2026-11-21"),
        ("nano", 2, "2026-11-22"),
    ];
    let adjustments = adjustments.map(|(model, cost, posted)| adjusted(model, cost, posted));
    all.extend((0..).map(|n| n * length / 3).zip(adjustments));
    all
}

/// An attempt of an exchange that was settled long ago is priced otherwise.
fn adjusted(model: &str, cost: i128, posted: &str) -> Batch {
    let mut batch = Batch::new();
    let adjustment = Adjustment {
        exchange: ExchangeId::from_bytes([0; 16]),
        ordinal: 0,
        at: at(posted),
        provider: "openai".to_owned(),
        model: model.to_owned(),
        from: None,
        to: PriceRowId::of(b"row"),
        contracted: Money::from_pico(cost),
        list: Money::from_pico(2 * cost),
    };
    batch.push(&adjustment).unwrap();
    batch
}

fn sorted(mut all: Vec<(u64, Batch)>) -> Vec<Batch> {
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, batch)| batch).collect()
}

/// Writes batches to a journal, as the stream of this writer.
pub(crate) fn write(
    journal: &MemoryStorage,
    writer: u64,
    segment_bytes: u64,
    batches: &mut [Batch],
) {
    let opened = Writer::open(journal.clone(), at("2026-11-20"), writer).unwrap().0;
    let mut writer = opened.with_segment_bytes(segment_bytes);
    for batch in batches {
        writer.append(batch, at("2026-11-20")).unwrap();
    }
    writer.sync().unwrap();
}

/// Adds the streams of another journal to one.
pub(crate) fn join(journal: &MemoryStorage, other: &MemoryStorage) {
    for name in other.list().unwrap() {
        journal.set_bytes(&name, other.bytes(&name));
    }
}

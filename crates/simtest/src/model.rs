//! What must come out, worked out naively and apart from the code: from the bytes that an upstream
//! sent, the truth behind them and the text of the price book.

use std::collections::{BTreeMap, BTreeSet};

use facts::{Api, AttemptEnd, Charged, End, ToldCost};
use metering::{Close, Convention};
use quantity::{Money, TokenClass, Unit, UnixTime, Usage, UsageSource};
use workload::Random;

use crate::Violation;
use crate::gateway::Sent;
use crate::wire::{Contact, Wire};

/// Draws the text of a small price book whose prices change at `change`.
pub(crate) fn book_text(random: &mut Random, change: Option<UnixTime>) -> String {
    let mut text =
        "book made-up-1\nas_of 2026-01-01\nlicence none\norigin here\nleft_out 0\n".to_owned();
    for provider in [
        "openai",
        "anthropic",
        "google",
        "deepseek",
        "x-ai",
        "openrouter",
        "groq",
        "mistral",
        "together",
        "fireworks",
    ] {
        text += &format!("\nprovider {provider}\n  model alpha : =alpha | ^alpha-2026\n");
        let starts = std::iter::once(None).chain(change.map(Some));
        for from in starts {
            for tier in ["standard", "priority"] {
                text += &format!("    {tier}");
                if let Some(from) = from {
                    text += &format!(" from={from:?}");
                }
                for item in [
                    "input_uncached",
                    "cache_read",
                    "cache_write_5m",
                    "cache_write_1h",
                    "output_text",
                    "reasoning",
                    "web_searches",
                ] {
                    let always = matches!(item, "input_uncached" | "output_text");
                    if always || random.chance(0.6) {
                        text += &format!(" {item}={}", price_text(random));
                        if random.chance(0.2) {
                            text +=
                                &format!(",{}>{}", price_text(random), 500 + random.below(3000));
                        }
                    }
                }
                text.push('\n');
            }
        }
    }
    text
}

fn price_text(random: &mut Random) -> String {
    match random.below(3) {
        0 => format!("{}", 1 + random.below(80)),
        1 => format!("{}.{}", random.below(20), 1 + random.below(99)),
        _ => format!("0.{:06}", 1 + random.below(999_999)),
    }
}

/// A price book read naively.
pub(crate) struct PriceList(Vec<Row>);

struct Row {
    provider: String,
    tier: String,
    from: UnixTime,
    /// Dollars times 10^6, with the thresholds above which they hold.
    prices: BTreeMap<String, Vec<(u64, i128)>>,
}

impl PriceList {
    pub(crate) fn read(text: &str) -> Self {
        let (mut rows, mut provider) = (Vec::new(), "");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("provider") => provider = words.next().expect("a name"),
                Some(tier @ ("standard" | "priority")) => {
                    let mut from = UnixTime::from_nanos(i64::MIN);
                    let mut prices = BTreeMap::new();
                    for word in words {
                        let (key, value) = word.split_once('=').expect("a pair");
                        if key == "from" {
                            from = value.parse().expect("an instant");
                            continue;
                        }
                        let steps = value.split(',').map(|step| match step.split_once('>') {
                            Some((price, above)) => (above.parse().expect("a count"), micro(price)),
                            None => (0, micro(step)),
                        });
                        prices.insert(key.to_owned(), steps.collect());
                    }
                    let (provider, tier) = (provider.to_owned(), tier.to_owned());
                    rows.push(Row { provider, tier, from, prices });
                }
                _ => {}
            }
        }
        Self(rows)
    }

    /// What a usage costs in pico-dollars; `None` where the list has no price.
    fn cost(
        &self,
        provider: Option<&str>,
        model: &str,
        tier: Option<&str>,
        at: UnixTime,
        usage: &Usage,
    ) -> Option<i128> {
        if model != "alpha" && !model.starts_with("alpha-2026") {
            return None;
        }
        let tier = if tier == Some("default") { "standard" } else { tier.unwrap_or("standard") };
        let rows = self.0.iter().filter(|row| Some(row.provider.as_str()) == provider);
        let rows = rows.filter(|row| row.tier == tier && row.from <= at);
        let row = rows.max_by_key(|row| row.from)?;
        let count = |class: TokenClass| i128::from(usage.tokens[class].get());
        let input = [
            TokenClass::InputUncached,
            TokenClass::CacheRead,
            TokenClass::CacheWrite5m,
            TokenClass::CacheWrite1h,
        ];
        let whole: i128 = input.into_iter().map(count).sum();
        let mut total = 0;
        for (class, names) in [
            (TokenClass::InputUncached, &["input_uncached"][..]),
            (TokenClass::CacheRead, &["cache_read", "input_uncached"]),
            (TokenClass::CacheWrite5m, &["cache_write_5m", "input_uncached"]),
            (TokenClass::CacheWrite1h, &["cache_write_1h", "cache_write_5m", "input_uncached"]),
            (TokenClass::OutputText, &["output_text"]),
            (TokenClass::Reasoning, &["reasoning", "output_text"]),
        ] {
            if count(class) > 0 {
                total += count(class) * row.price(names, whole)?;
            }
        }
        let searches = i128::from(usage.units[Unit::WebSearch].get());
        if searches > 0 {
            // Dollars a thousand: a thousand times dearer than dollars a million.
            total += searches * row.price(&["web_searches"], whole)? * 1000;
        }
        Some(total)
    }
}

impl Row {
    fn price(&self, names: &[&str], input: i128) -> Option<i128> {
        let steps = names.iter().find_map(|name| self.prices.get(*name))?;
        let (mut held, mut highest) = (None, 0);
        for (above, price) in steps {
            if held.is_none() || (input > i128::from(*above) && *above >= highest) {
                (held, highest) = (Some(*price), *above);
            }
        }
        held
    }
}

/// `2.5` as 2,500,000: dollars a million tokens are micro-dollars a million, pico-dollars a token.
fn micro(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<6}").parse().expect("digits")
}

/// All prices in the text of a row, in pico-dollars a token.
pub(crate) fn prices_in(text: &str) -> BTreeSet<i128> {
    let names = ["provider", "model", "tier", "from", "book", "as_of"];
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    let values = pairs.filter(|(key, _)| !names.contains(key)).map(|(_, value)| value);
    let steps = values.flat_map(|value| value.split(','));
    steps.map(|step| micro(step.split('>').next().unwrap_or(step))).collect()
}

/// What an attempt had seen when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) how: Close,
    pub(crate) head: bool,
    /// Bytes of the body.
    pub(crate) bytes: usize,
}

/// Checks an attempt's end against what its upstream did; gives its cost in pico-dollars.
pub(crate) fn cost_of(
    end: &AttemptEnd,
    wire: &Wire,
    seen: Seen,
    dispatched: UnixTime,
    prices: &PriceList,
) -> Result<i128, Violation> {
    let usage = &end.metered.usage;
    let source = end.metered.source;
    let wrong = |id, what: &str| {
        let (convention, stream) = (wire.kind.convention, wire.ask.stream);
        let api = wire.ask.api.name();
        let what = format!("{what}: {convention} {api} stream={stream} {seen:?} {end:?}");
        Err(Violation::new(id, what))
    };
    let refused = seen.head && (400..500).contains(&wire.status);
    if refused || wire.contact == Contact::Unreachable && seen.how == Close::Unreachable {
        return match (&end.charged, usage.total(), source) {
            (Charged::NotBilled, 0, UsageSource::Reported) => Ok(0),
            _ => wrong("SIM-3", "a refusal is not billed"),
        };
    }
    let ok = seen.head && wire.status == 200;
    let body_ended = seen.how == Close::BodyEnd;
    if ok {
        let (may, must) = ends(wire, seen);
        let ended = matches!(end.end, End::Complete | End::StreamError);
        if must.is_some_and(|must| must != end.end) || !may && ended {
            return wrong("SIM-10", &format!("it ended as {must:?}"));
        }
    }
    let told = wire.told.filter(|told| ok && seen.bytes >= told.may);
    // Who knows that nothing follows reads an event that lacks its blank line.
    let must = told.is_some_and(|told| body_ended || seen.bytes >= told.must);
    let (model, tier) = match told {
        Some(_) if must || source == UsageSource::Reported => {
            if source != UsageSource::Reported || *usage != wire.truth {
                let truth = &wire.truth;
                return wrong("SIM-3", &format!("the usage told is not booked, {truth:?}"));
            }
            if must && end.told != told_cost(wire) {
                return wrong("SIM-3", "what it told that it cost is not kept");
            }
            (wire.model_served.as_str(), wire.tier)
        }
        _ => {
            let pieces = wire.pieces.iter().filter(|piece| ok && seen.bytes >= **piece).count();
            // A running count that covers all that passed, of a body that ended soundly, may be whole.
            let may_be_whole = wire.running && end.end == End::Complete;
            if source == UsageSource::Reported && !may_be_whole {
                return wrong("SIM-8", "usage counts as reported that was not told");
            }
            if source != UsageSource::Unknown && usage.output() < pieces as u64 {
                return wrong("SIM-8", &format!("{pieces} pieces are less than their tokens"));
            }
            if source != UsageSource::Unknown && usage.total() == 0 {
                return wrong("SIM-8", "nothing is booked, and not as unknown");
            }
            if end.model_served.as_ref().is_some_and(|model| *model != wire.model_served) {
                return wrong("SIM-3", "another model is booked than served");
            }
            let model = end.model_served.as_deref().unwrap_or(&wire.model);
            (model, end.tier_served.as_deref())
        }
    };
    if wire.kind.hosted {
        let hosted = end.charged == Charged::Hosted;
        return if hosted { Ok(0) } else { wrong("SIM-3", "it is paid by the hour") };
    }
    let cost = match source {
        UsageSource::Unknown => None,
        _ => prices.cost(wire.kind.provider, model, tier, dispatched, usage),
    };
    match (&end.charged, cost) {
        (Charged::Unpriced { .. }, None) => Ok(0),
        (Charged::Priced { lines, .. }, Some(cost)) => {
            let lines = lines.iter().map(|line| line.contracted.pico()).sum::<i128>();
            if lines == cost { Ok(cost) } else { wrong("SIM-3", &format!("it costs {cost}")) }
        }
        (_, None) => wrong("SIM-8", "it has no price"),
        (_, Some(cost)) => wrong("SIM-3", &format!("it costs {cost}")),
    }
}

/// What the provider's usage tells that it cost.
fn told_cost(wire: &Wire) -> Option<ToldCost> {
    let total = i128::from(wire.truth.total());
    let pico = match wire.kind.convention {
        // Times 10^-8 dollars, and a half.
        Convention::OpenRouter => total * 10_000 + 5_000,
        Convention::XAi => total * 100,
        _ => return None,
    };
    Some(ToldCost::Of(Money::from_pico(pico)))
}

/// Whether a reply of which so much came may count as whole, or failed by its own word; and as what it
/// must.
fn ends(wire: &Wire, seen: Seen) -> (bool, Option<End>) {
    let body_ended = seen.how == Close::BodyEnd;
    if let Some(terminal) = wire.terminal {
        let whole = if wire.fails { End::StreamError } else { End::Complete };
        if seen.bytes >= terminal.must || body_ended && seen.bytes >= terminal.may {
            return (true, Some(whole));
        }
        if seen.bytes >= terminal.may {
            return (true, None);
        }
    }
    // Without it, a body that ended soundly after the reason to stop is whole.
    let finished = wire.finish.is_some_and(|finish| seen.bytes >= finish.may);
    match body_ended && finished {
        true => (true, Some(End::Complete)),
        false => (false, None),
    }
}

/// Checks that the client has what the upstream sent, less the usage chunks that it did not ask for.
/// `sent` bytes had come; with `whole`, nothing may be missing.
pub(crate) fn check_bytes(
    wire: &Wire,
    received: &[u8],
    sent: usize,
    whole: bool,
) -> Result<(), Violation> {
    let expected = passed(wire, sent);
    let ours = wire.ask.stream && !wire.ask.client_asks && wire.status == 200;
    // A torn usage chunk cannot be told from another: it may have passed or not, in part or whole.
    let torn = wire.usage_chunks.iter().find(|chunk| ours && chunk.contains(&sent));
    let least = torn.map_or(expected.len(), |chunk| expected.len() - (sent - chunk.start));
    let missing = whole && received.len() < least;
    if expected.starts_with(received) && !missing {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what =
        format!("of {sent} bytes the client has {:?}, not {:?}", text(received), text(&expected));
    Err(Violation::new("SIM-7", what))
}

/// The first `sent` bytes of a body, less the usage chunks that are not for the client.
fn passed(wire: &Wire, sent: usize) -> Vec<u8> {
    let (mut bytes, mut from) = (Vec::new(), 0);
    let ours = wire.ask.stream && !wire.ask.client_asks && wire.status == 200;
    for chunk in wire.usage_chunks.iter().filter(|chunk| ours && chunk.end <= sent) {
        bytes.extend_from_slice(&wire.body[from..chunk.start]);
        from = chunk.end;
    }
    bytes.extend_from_slice(&wire.body[from..sent]);
    bytes
}

/// Whether so many bytes make a reply complete for its client: they reach through the terminal event
/// of a stream, or to the end of another body.
pub(crate) fn completes(wire: &Wire, received: usize) -> bool {
    received >= passed(wire, wire.whole).len()
}

/// Checks that the upstream was asked what the client asked, but for the model's name and the usage.
pub(crate) fn check_request(wire: &Wire, sent: &Sent) -> Result<(), Violation> {
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes);
    let (Ok(mut expected), Ok(found)) = (json(&wire.ask.request), json(&sent.body)) else {
        return Err(Violation::new("SIM-7", "the request is no JSON".to_owned()));
    };
    let mut path = String::new();
    if wire.ask.api == Api::GeminiGenerate {
        let method = if wire.ask.stream { "streamGenerateContent" } else { "generateContent" };
        path = format!("/models/{}:{method}", wire.model);
        if expected.get("model").is_some() {
            expected["model"] = format!("models/{}", wire.model).into();
        }
    } else {
        expected["model"] = wire.model.as_str().into();
    }
    if sent.path != path {
        let what = format!("the upstream was asked at `{}`, not at `{path}`", sent.path);
        return Err(Violation::new("SIM-7", what));
    }
    if wire.ask.stream && wire.asks_usage() {
        if !expected["stream_options"].is_object() {
            expected["stream_options"] = serde_json::json!({});
        }
        expected["stream_options"]["include_usage"] = true.into();
    }
    if expected == found {
        return Ok(());
    }
    Err(Violation::new("SIM-7", format!("the upstream was asked {found}, not {expected}")))
}

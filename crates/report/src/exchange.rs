//! One settled exchange: a line for a log, an object for a program.

use facts::{Attempt, Charged, End, Exchange, ToldCost, Verdict};
use quantity::{Money, TokenClass, UsageSource, grouped};

use crate::json::Json;
use crate::number::duration;
use crate::record;
use crate::table::printable;

/// What an exchange cost over its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The sum of what is known by the token.
    pub cost: Option<Money>,
    /// Whether some attempt ran by the hour.
    pub hosted: bool,
    /// Why the cost is not whole: the reason of the last attempt without a price.
    pub unpriced: Option<&'a str>,
    /// What providers say that attempts without a price cost.
    pub told: Option<Money>,
    /// Whether some of the cost rests on usage that was not fully reported.
    pub estimated: bool,
}

impl<'a> Outcome<'a> {
    /// Of an exchange.
    #[must_use]
    pub fn of(exchange: &'a Exchange) -> Self {
        let mut outcome =
            Self { cost: None, hosted: false, unpriced: None, told: None, estimated: false };
        for attempt in &exchange.attempts {
            match &attempt.end.charged {
                Charged::Hosted => outcome.hosted = true,
                Charged::Unpriced { reason } => {
                    outcome.unpriced = Some(reason);
                    let told = attempt.end.told.and_then(ToldCost::amount);
                    outcome.told = told
                        .map_or(outcome.told, |told| Some(outcome.told.unwrap_or_default() + told));
                }
                Charged::NotBilled => outcome.cost = Some(outcome.cost.unwrap_or_default()),
                Charged::Priced { .. } => {
                    let cost = attempt.end.charged.cost().unwrap_or_default();
                    outcome.cost = Some(outcome.cost.unwrap_or_default() + cost);
                }
            }
            let source = attempt.end.metered.source;
            outcome.estimated |= matches!(source, UsageSource::Partial | UsageSource::Estimated);
        }
        outcome
    }

    /// In words: `$0.000412`, `by the hour`, `unpriced: ...`. Nothing unknown is `$0`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        match self.cost {
            // A refused try beside one without a price says nothing of the cost.
            Some(Money::ZERO) if self.hosted || self.unpriced.is_some() => {}
            Some(Money::ZERO) => parts.push("not billed".to_owned()),
            Some(cost) => parts.push(format!("${}", spent(cost))),
            None => {}
        }
        if self.hosted {
            parts.push("by the hour".to_owned());
        }
        if let Some(reason) = self.unpriced {
            let told = self.told.map(|told| format!(" (the provider says ${})", spent(told)));
            parts.push(format!("unpriced: {}{}", printable(reason), told.unwrap_or_default()));
        }
        if parts.is_empty() { "nothing sent".to_owned() } else { parts.join(" + ") }
    }
}

impl Outcome<'_> {
    /// In a cell of a table, where the reason has no room.
    #[must_use]
    pub fn short(&self) -> String {
        match (self.unpriced, self.hosted, self.cost) {
            (Some(_), _, None | Some(Money::ZERO)) => "unpriced".to_owned(),
            (Some(_), _, Some(cost)) => format!("${}*", spent(cost)),
            (None, ..) => self.text(),
        }
    }
}

/// An amount with six decimals, or all of them where six show nothing.
fn spent(cost: Money) -> String {
    let rounded = cost.rounded(6);
    if rounded.contains(|c: char| ('1'..='9').contains(&c)) { rounded } else { cost.to_string() }
}

/// The exchange on one line, without its line end: when, route, model, status, how long, tokens,
/// cost. Labels are escaped.
#[must_use]
pub fn line(exchange: &Exchange) -> String {
    let admission = &exchange.admission;
    let mut out = format!(
        "{} {} {}",
        &admission.at.to_string()[11..19],
        printable(&admission.labels.route),
        printable(model(exchange).or(admission.path.as_deref()).unwrap_or("-")),
    );
    let last = exchange.attempts.last();
    if let Some(attempt) = last {
        out.push_str(&format!(" {}", status(attempt)));
    }
    out.push_str(&format!(" {}", duration(exchange.settlement.at.since(admission.at))));
    if let Some(first) = first_token(exchange) {
        out.push_str(&format!(" ttft {}", duration(first)));
    }
    if exchange.attempts.len() > 1 {
        out.push_str(&format!(" {} attempts", exchange.attempts.len()));
    }
    out.push_str(&tokens(exchange));
    let outcome = Outcome::of(exchange);
    out.push_str(&format!("  {}", outcome.text()));
    if exchange.settlement.verdict != Verdict::Completed {
        out.push_str(&format!("  {}", exchange.settlement.verdict));
    }
    if outcome.estimated {
        out.push_str(", estimated");
    }
    out
}

/// The status of an attempt: its HTTP status, and how it ended where that alone does not say.
#[must_use]
pub fn status(attempt: &Attempt) -> String {
    match (attempt.end.status, attempt.end.end) {
        (Some(status), End::Complete | End::Refused | End::UpstreamError) => status.to_string(),
        (Some(status), end) => format!("{status} {end}"),
        (None, end) => end.to_string(),
    }
}

/// The model it is accounted to: that of its last attempt, else as asked.
#[must_use]
pub fn model(exchange: &Exchange) -> Option<&str> {
    let last = exchange.attempts.last().and_then(Attempt::model);
    last.or(exchange.admission.model_asked.as_deref())
}

/// From admission to the first piece of output of any attempt.
#[must_use]
pub fn first_token(exchange: &Exchange) -> Option<std::time::Duration> {
    let first = exchange.attempts.iter().filter_map(|attempt| attempt.end.first_token_at).min();
    first.map(|first| first.since(exchange.admission.at))
}

/// All input, cached input and output tokens over the attempts; `None` if no usage is known.
#[must_use]
pub fn token_counts(exchange: &Exchange) -> Option<(u64, u64, u64)> {
    let known = exchange.attempts.iter().map(|attempt| &attempt.end.metered);
    let known = known.filter(|metered| metered.source != UsageSource::Unknown);
    known.map(|metered| &metered.usage).fold(None, |sum, usage| {
        let (input, cached, output) = sum.unwrap_or((0, 0, 0));
        let read = usage.tokens[TokenClass::CacheRead].get();
        Some((
            u64::saturating_add(input, usage.input()),
            u64::saturating_add(cached, read),
            u64::saturating_add(output, usage.output()),
        ))
    })
}

fn tokens(exchange: &Exchange) -> String {
    match token_counts(exchange) {
        None if exchange.attempts.is_empty() => String::new(),
        None => "  tokens unknown".to_owned(),
        Some((0, 0, 0)) => String::new(),
        Some((input, 0, output)) => format!("  in {} out {}", grouped(input), grouped(output)),
        Some((input, cached, output)) => {
            let [input, cached, output] = [input, cached, output].map(grouped);
            format!("  in {input} (cached {cached}) out {output}")
        }
    }
}

/// The exchange as one JSON object, schema `farthing.exchange/1`: all its facts. Times are RFC 3339,
/// durations end in `_ns`, money is a decimal string of dollars, what is not known is `null`.
#[must_use]
pub fn json(exchange: &Exchange) -> String {
    value(exchange).line()
}

/// The exchange as a JSON value; see [`json`].
#[must_use]
pub fn value(exchange: &Exchange) -> Json {
    let Exchange { admission, attempts, settlement } = exchange;
    let outcome = Outcome::of(exchange);
    let last = attempts.last();
    let input_by_part = last.map(|last| record::input_by_part(&admission.prompt, &last.end));
    let input_by_part = Json::from(input_by_part);
    let attempts = attempts.iter().map(|attempt| {
        let since = |at: Option<quantity::UnixTime>| {
            at.map(|at| record::nanos(at.since(attempt.dispatch.at)))
        };
        let Attempt { dispatch, end } = attempt;
        let mut fields = record::dispatch_fields(dispatch);
        fields.extend(record::end_fields(end));
        fields.extend([
            ("to_first_byte_ns".to_owned(), since(end.first_byte_at).into()),
            ("to_first_token_ns".to_owned(), since(end.first_token_at).into()),
            ("duration_ns".to_owned(), since(Some(end.at)).into()),
            ("waste".to_owned(), attempt.waste().map(facts::WasteCause::name).into()),
        ]);
        Json::Object(fields)
    });
    let mut fields = vec![
        ("schema".to_owned(), "farthing.exchange/1".into()),
        ("exchange".to_owned(), admission.exchange.to_string().into()),
        ("verdict".to_owned(), settlement.verdict.name().into()),
        // Null when any part of it is not known.
        ("cost_usd".to_owned(), whole_cost(&outcome).into()),
        ("unpriced_told_usd".to_owned(), outcome.told.into()),
        ("estimated".to_owned(), outcome.estimated.into()),
        ("unpriced".to_owned(), outcome.unpriced.into()),
    ];
    fields.extend(record::admission_fields(admission));
    fields.extend([
        ("input_by_part".to_owned(), input_by_part),
        ("ttft_ns".to_owned(), first_token(exchange).map(record::nanos).into()),
        ("duration_ns".to_owned(), record::nanos(settlement.at.since(admission.at)).into()),
        ("settled_at".to_owned(), settlement.at.into()),
        ("attempts".to_owned(), attempts.collect()),
    ]);
    Json::Object(fields)
}

fn whole_cost(outcome: &Outcome<'_>) -> Option<Money> {
    outcome.cost.filter(|_| !outcome.hosted && outcome.unpriced.is_none())
}

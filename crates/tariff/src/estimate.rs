//! The bill of an idea before any traffic, and what each lever would save.
//!
//! Exact arithmetic on assumed counts: the money is as exact as the assumptions, which every lever
//! states.

use std::cmp::Reverse;

use quantity::{Billable, Money, TokenClass, TokenCount, Unit, UnixTime, Usage};

use crate::book::{Book, Key};
use crate::charge::Unpriced;
use crate::find::Found;
use crate::row::PriceRow;

mod name;

use name::Name;

/// Days of a month in every estimate.
pub const MONTH_DAYS: u64 = 30;

const TRIM: Share = Share(2, 3);
const RETRIEVE_LESS: Share = Share(3, 4);
const CAP_OUTPUT: Share = Share(7, 10);
const CACHED_PERCENT: u64 = 80;

/// What each exchange is assumed to be like, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idea {
    /// Input tokens of an exchange, cached ones included.
    pub input: u32,
    /// Output tokens of an exchange, reasoning included.
    pub output: u32,
    /// Exchanges a day.
    pub per_day: u32,
    /// Percent of the input that is read from the provider's cache, 0 to 100.
    pub cached_percent: u8,
}

/// Money with input and output apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// Input of every kind.
    pub input: Money,
    /// Output of every kind.
    pub output: Money,
    /// Fees per call.
    pub fees: Money,
}

impl Split {
    /// All of it.
    #[must_use]
    pub fn total(self) -> Money {
        self.input + self.output + self.fees
    }

    fn times(self, count: u64) -> Option<Self> {
        let times = |money: Money| money.scaled(count, 1);
        let (input, output) = (times(self.input)?, times(self.output)?);
        Some(Self { input, output, fees: times(self.fees)? })
    }
}

/// The bill of an idea.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The row of the standard tier that prices it.
    pub row: PriceRow,
    /// One exchange.
    pub per_exchange: Split,
    /// A day.
    pub per_day: Split,
    /// 30 days.
    pub per_month: Split,
    /// Every lever, those that do not apply with the reason.
    pub levers: Vec<Lever>,
}

/// A way to pay less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lever {
    /// What to do: `trim the prompt`.
    pub name: &'static str,
    /// What is assumed of it, and what is left out.
    pub assumption: String,
    /// What it would bring, or why it does not apply.
    pub effect: Result<Effect, String>,
}

/// What a lever would bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The bill of 30 days with it alone.
    pub per_month: Split,
    /// What that is less than without; always positive.
    pub saved: Money,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstimateError {
    /// The model has no price.
    #[error(transparent)]
    Unpriced(#[from] Unpriced),
    /// More than all of the input is cached.
    #[error("invalid `cached`: expected 0 to 100 percent of the input, found `{0}`")]
    CachedPercent(u8),
    /// The bill leaves the range of money.
    #[error("the bill of this idea is beyond any amount of money")]
    TooLarge,
}

/// The bill of an idea at the standard prices in force at `at`, and each lever's effect. `against`
/// names models to compare with; without any it is the provider's next cheaper relative.
///
/// # Errors
/// [`EstimateError`] if the model has no price or the idea makes no sense.
pub fn estimate(
    book: &Book,
    model: &Found,
    at: UnixTime,
    idea: Idea,
    against: &[Found],
) -> Result<Estimate, EstimateError> {
    if idea.cached_percent > 100 {
        return Err(EstimateError::CachedPercent(idea.cached_percent));
    }
    let key = Key::new(&model.provider, &model.model, at);
    let row = book.quote(&key)?;
    let plan = Plan::of(idea);
    let per_exchange = plan.bill_of_one(row)?;
    let (exchanges, per_day) = (u64::from(idea.per_day), u64::from(idea.per_day));
    let per_day = per_exchange.times(per_day).ok_or(EstimateError::TooLarge)?;
    let per_month = per_day.times(MONTH_DAYS).ok_or(EstimateError::TooLarge)?;
    let base = Base { plan, row, per_month, exchanges: exchanges.saturating_mul(MONTH_DAYS) };

    let mut levers = vec![
        base.lever(
            "trim the prompt",
            "input a third shorter, the same share of it cached",
            Plan { input: TRIM, ..plan },
        ),
        base.lever(
            "cap the output",
            "a cap on output tokens makes answers 30% shorter",
            Plan { output: CAP_OUTPUT, ..plan },
        ),
        base.lever(
            "retrieve less",
            "fewer or shorter documents make the input 25% shorter",
            Plan { input: RETRIEVE_LESS, ..plan },
        ),
        base.cache_the_prefix(),
    ];
    levers.extend(base.cheaper_models(book, &key, against));
    levers.push(base.batch_lane(book.quote(&Key { tier: Some("batch"), ..key })));
    Ok(Estimate { row: row.clone(), per_exchange, per_day, per_month, levers })
}

/// The bill of 30 days, once prices of the model have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// The model.
    pub model: Found,
    /// From when on.
    pub at: UnixTime,
    /// The bill until then; `None` where there is no price yet.
    pub before: Option<Split>,
    /// The row that prices it then and the bill, or why there is none.
    pub after: Result<(PriceRow, Split), EstimateError>,
}

/// What changes of the model's prices that are known make of the bill, after one instant and not after
/// another, in order of time. Those that leave it as it is are left out, and so is the hour: it is that
/// of `now` throughout.
#[must_use]
pub fn later(book: &Book, model: &Found, now: UnixTime, until: UnixTime, idea: Idea) -> Vec<Later> {
    let key = Key::new(&model.provider, &model.model, now);
    let bill = |at: UnixTime| -> Result<(PriceRow, Split), EstimateError> {
        let row = book.quote(&Key { at, hours_of: Some(now), ..key })?;
        let one = Plan::of(idea).bill_of_one(row)?;
        let month = one.times(u64::from(idea.per_day)).and_then(|day| day.times(MONTH_DAYS));
        Ok((row.clone(), month.ok_or(EstimateError::TooLarge)?))
    };
    let split = |bill: &Result<(PriceRow, Split), EstimateError>| {
        bill.as_ref().ok().map(|(_, split)| *split)
    };
    let mut before = split(&bill(now));
    let mut later = Vec::new();
    for at in book.turns(&key, now, until) {
        let after = bill(at);
        let then = split(&after);
        if then != before {
            later.push(Later { model: model.clone(), at, before, after });
        }
        before = then;
    }
    later
}

/// A fraction of what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share(u64, u64);

impl Share {
    const ALL: Self = Self(1, 1);

    /// The fraction of a count, down to a whole one.
    fn of(self, count: u64) -> Option<u64> {
        count.checked_mul(self.0)?.checked_div(self.1)
    }
}

/// An idea with its input and output scaled by a lever.
#[derive(Debug, Clone, Copy)]
struct Plan {
    idea: Idea,
    cached_percent: u64,
    input: Share,
    output: Share,
}

impl Plan {
    fn of(idea: Idea) -> Self {
        let cached_percent = u64::from(idea.cached_percent);
        Self { idea, cached_percent, input: Share::ALL, output: Share::ALL }
    }

    fn bill_of_one(&self, row: &PriceRow) -> Result<Split, EstimateError> {
        self.bill(row, 1)
    }

    /// The bill of some exchanges. Fractions are taken of all their tokens, so that a third of a
    /// prompt is a third of its cost; thresholds look at the input of one.
    fn bill(&self, row: &PriceRow, exchanges: u64) -> Result<Split, EstimateError> {
        let (one_input, one_output) = (u64::from(self.idea.input), u64::from(self.idea.output));
        let count = |one: u64, share: Share| share.of(one.checked_mul(exchanges)?);
        let counts = || -> Option<Usage> {
            let input = count(one_input, self.input)?;
            let cached = Share(self.cached_percent, 100).of(input)?;
            let mut usage = Usage::default();
            usage.tokens[TokenClass::CacheRead] = TokenCount::new(cached)?;
            usage.tokens[TokenClass::InputUncached] = TokenCount::new(input.checked_sub(cached)?)?;
            usage.tokens[TokenClass::OutputText] =
                TokenCount::new(count(one_output, self.output)?)?;
            usage.units[Unit::Call] = TokenCount::new(exchanges)?;
            Some(usage)
        };
        let usage = counts().ok_or(EstimateError::TooLarge)?;
        let one_input = self.input.of(one_input).ok_or(EstimateError::TooLarge)?;
        let mut split = Split::default();
        for line in row.charge_at_input(&usage, one_input)?.lines {
            match line.item {
                Billable::Tokens(class) if class.is_input() => split.input += line.amount,
                Billable::Tokens(_) => split.output += line.amount,
                Billable::Unit(_) => split.fees += line.amount,
            }
        }
        Ok(split)
    }
}

/// The idea as it is, that levers are compared with.
struct Base<'a> {
    plan: Plan,
    row: &'a PriceRow,
    per_month: Split,
    exchanges: u64,
}

impl Base<'_> {
    fn lever(&self, name: &'static str, assumption: &str, plan: Plan) -> Lever {
        self.lever_at(name, assumption.to_owned(), plan, self.row)
    }

    fn lever_at(
        &self,
        name: &'static str,
        assumption: String,
        plan: Plan,
        row: &PriceRow,
    ) -> Lever {
        let effect = plan.bill(row, self.exchanges).map_err(|error| error.to_string());
        let effect = effect.and_then(|per_month| {
            let saved = self.per_month.total() - per_month.total();
            if saved > Money::ZERO {
                Ok(Effect { per_month, saved })
            } else {
                Err("it saves nothing for this mix".to_owned())
            }
        });
        Lever { name, assumption, effect }
    }

    fn cache_the_prefix(&self) -> Lever {
        let name = "cache the prefix";
        let read = Billable::Tokens(TokenClass::CacheRead);
        let mut assumption = format!("{CACHED_PERCENT}% of the input read from the cache");
        if self.row.price(Billable::Tokens(TokenClass::CacheWrite5m)).is_some() {
            assumption.push_str("; writing the prefix to it is dearer than input and left out");
        }
        let no =
            |reason: String| Lever { name, assumption: assumption.clone(), effect: Err(reason) };
        if self.row.price(read).is_none() {
            return no("the row has no price for cached input".to_owned());
        }
        if self.plan.cached_percent >= CACHED_PERCENT {
            return no(format!("{}% are read from it already", self.plan.cached_percent));
        }
        let plan = Plan { cached_percent: CACHED_PERCENT, ..self.plan };
        self.lever_at(name, assumption, plan, self.row)
    }

    /// Cheaper models for this mix: of those named, or else a near relative.
    fn cheaper_models(&self, book: &Book, key: &Key<'_>, against: &[Found]) -> Vec<Lever> {
        let name = "a cheaper model";
        let lever = |row: &PriceRow| {
            let (model, provider) = (row.model(), row.provider());
            let assumption = format!(
                "{model} of {provider} answers well enough with the same tokens; quality is not compared"
            );
            self.lever_at(name, assumption, self.plan, row)
        };
        let none = |reason: &str| {
            let assumption = "the same tokens".to_owned();
            vec![Lever { name, assumption, effect: Err(reason.to_owned()) }]
        };
        if against.is_empty() {
            return match self.step_down(book, key) {
                Some(row) => vec![lever(row)],
                None => none(
                    "the provider has none of this family, as new or newer, in the book; --against \
                     compares with others",
                ),
            };
        }
        let rows = against.iter().filter_map(|other| {
            let Found { provider, model } = other;
            book.quote(&Key { provider, model, ..*key }).ok()
        });
        let levers: Vec<Lever> = rows.map(lever).filter(|lever| lever.effect.is_ok()).collect();
        if levers.is_empty() {
            none("none of those compared is cheaper for this mix")
        } else {
            levers
        }
    }

    /// The next step down in price for this mix: a model of the provider, neither deprecated nor free,
    /// of the same version where there is one, else of the same generation, else of a newer one; the
    /// dearest of those that are cheaper, and of equals the newest.
    fn step_down<'b>(&self, book: &'b Book, key: &Key<'_>) -> Option<&'b PriceRow> {
        let lower = self.row.model().to_lowercase();
        let own = Name::of(&lower);
        let models = book.models().filter(|other| {
            other.provider == self.row.provider()
                && other.model != self.row.model()
                && !other.deprecated
        });
        let steps = models.filter_map(|other| {
            let lower = other.model.to_lowercase();
            let name = Name::of(&lower);
            let kin = own.kin(&name)?;
            let key = Key { provider: other.provider, model: other.model, ..*key };
            let row = book.quote(&key).ok()?;
            let bill = self.plan.bill(row, self.exchanges).ok()?;
            let free = bill.input == Money::ZERO || bill.output == Money::ZERO;
            let cheaper = !free && bill.total() < self.per_month.total();
            cheaper.then(|| ((kin, Reverse(bill.total()), Reverse(name.version())), row))
        });
        steps.min_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, row)| row)
    }

    fn batch_lane(&self, batch: Result<&PriceRow, Unpriced>) -> Lever {
        let name = "the batch lane";
        let assumption = "every exchange can wait, up to a day".to_owned();
        match batch {
            Ok(row) => self.lever_at(name, assumption, self.plan, row),
            Err(unpriced) => Lever { name, assumption, effect: Err(unpriced.to_string()) },
        }
    }
}

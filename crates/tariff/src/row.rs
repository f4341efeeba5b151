//! One price row: what a provider asks for a model on a tier, and when that holds.

use std::sync::Arc;

use quantity::{Billable, Day, PriceRowId, TokenClass, TokenCount, UnitPrice, UnixTime};

use crate::book::Key;
use crate::exchange::parse_exchange;
use crate::text::{ParseRowError, check_name, parse_fields, parse_price};
use crate::window::{Daily, Days, Window, Zone};

/// The tier of an ordinary call.
pub const STANDARD: &str = "standard";

/// Whose price applies, in this order, where the row has none for this class. A provider that
/// lists no price for cached audio bills it as cached input, or else as audio, or else as input.
const fn falls_back_to(item: Billable) -> &'static [TokenClass] {
    use TokenClass::{
        CacheRead, CacheWrite5m, InputAudio, InputImage, InputUncached, InputVideo, OutputText,
    };
    let Billable::Tokens(class) = item else { return &[] };
    match class {
        InputUncached | OutputText => &[],
        CacheRead | CacheWrite5m | InputAudio | InputImage | InputVideo => &[InputUncached],
        TokenClass::CacheWrite1h => &[CacheWrite5m, InputUncached],
        TokenClass::CacheReadAudio => &[CacheRead, InputAudio, InputUncached],
        TokenClass::CacheReadImage => &[CacheRead, InputImage, InputUncached],
        TokenClass::CacheReadVideo => &[CacheRead, InputVideo, InputUncached],
        TokenClass::Reasoning
        | TokenClass::OutputAudio
        | TokenClass::OutputImage
        | TokenClass::OutputVideo => &[OutputText],
    }
}

/// A unit price with the text it came from, where that could not be kept exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    price: UnitPrice,
    rounded_from: Option<Box<str>>,
}

impl Rate {
    pub(crate) fn new(price: UnitPrice, exact: bool, text: &str) -> Self {
        Self { price, rounded_from: (!exact).then(|| text.into()) }
    }

    /// The price that is billed.
    #[must_use]
    pub fn price(&self) -> UnitPrice {
        self.price
    }

    /// The source's decimal, if it is no whole number of pico-dollars a unit and was rounded half to
    /// even on entering the book.
    #[must_use]
    pub fn rounded_from(&self) -> Option<&str> {
        self.rounded_from.as_deref()
    }

    fn text(&self, item: Billable) -> String {
        match &self.rounded_from {
            Some(text) => text.to_string(),
            None => self.price.times(TokenCount::from(item.quoted_per())).to_string(),
        }
    }
}

/// What the rates above thresholds are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Above {
    /// Above the threshold, every token of the exchange has the other rate.
    All,
    /// Only the tokens beyond the threshold have it. Input stands in the order in which a context is
    /// read: what was cached, what is written to the cache, then the rest; output follows reasoning.
    Rest,
}

/// The price of one billable: a rate, and other rates for exchanges that are long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub(crate) base: Rate,
    /// Ascending by threshold.
    pub(crate) steps: Vec<(u64, Rate)>,
    pub(crate) above: Above,
}

impl Price {
    /// The rate for an exchange with so many input tokens, cached or not. A cliff applies *above* its
    /// threshold, to every token of the exchange.
    #[must_use]
    pub fn at_input(&self, input: u64) -> &Rate {
        match self.above {
            Above::All => self.rate_above(input),
            Above::Rest => &self.base,
        }
    }

    /// The rate that tokens have above thresholds that are below so many.
    pub(crate) fn rate_above(&self, tokens: u64) -> &Rate {
        let passed = self.steps.iter().rev().find(|(threshold, _)| tokens > *threshold);
        passed.map_or(&self.base, |(_, rate)| rate)
    }

    /// The parts of `count` tokens that stand after `before` others, each with its rate: one part, but
    /// for graduated prices.
    pub(crate) fn parts(
        &self,
        input: u64,
        before: u64,
        count: u64,
    ) -> impl Iterator<Item = (u64, &Rate)> {
        let graduated = self.above == Above::Rest;
        let end = before.saturating_add(count);
        let whole = (!graduated).then(|| (count, self.rate_above(input)));
        let steps = if graduated { self.steps.as_slice() } else { &[] };
        let starts =
            std::iter::once((0, &self.base)).chain(steps.iter().map(|(at, rate)| (*at, rate)));
        let ends = steps.iter().map(|(at, _)| *at).chain([u64::MAX]);
        let graded = starts.zip(ends).filter(move |_| graduated);
        let graded = graded.filter_map(move |((from, rate), until)| {
            let part = end.min(until).checked_sub(before.max(from)).filter(|part| *part > 0)?;
            Some((part, rate))
        });
        whole.into_iter().chain(graded)
    }

    /// The rate below every threshold.
    #[must_use]
    pub fn base(&self) -> &Rate {
        &self.base
    }

    /// Thresholds in tokens, ascending, each with the rate above it.
    #[must_use]
    pub fn steps(&self) -> &[(u64, Rate)] {
        &self.steps
    }

    /// What the rates above thresholds are for.
    #[must_use]
    pub fn above(&self) -> Above {
        self.above
    }

    pub(crate) fn rates(&self) -> impl Iterator<Item = &Rate> {
        std::iter::once(&self.base).chain(self.steps.iter().map(|(_, rate)| rate))
    }

    /// Every rate changed by a function.
    pub(crate) fn map(&self, mut change: impl FnMut(&Rate) -> Option<Rate>) -> Option<Self> {
        let steps = self.steps.iter().map(|(at, rate)| Some((*at, change(rate)?)));
        let steps = steps.collect::<Option<_>>()?;
        Some(Self { base: change(&self.base)?, steps, above: self.above })
    }
}

/// Which price book a row was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name and version of the book, such as `genai-prices-0.2.1`; `config` for own rows.
    pub book: Arc<str>,
    /// The day of that book, if it has one.
    pub as_of: Option<Day>,
}

/// When and for whom a row holds. What is `None` does not limit it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// The first instant at which it is in force.
    pub from: Option<UnixTime>,
    /// The first instant at which it no longer is.
    pub until: Option<UnixTime>,
    /// When it became known: who asks what was known before does not find it.
    pub known: Option<UnixTime>,
    /// When it was found to be wrong, or replaced by one that was known later.
    pub withdrawn: Option<UnixTime>,
    /// The part of the week that it is limited to.
    pub window: Window,
    /// The region that must have served.
    pub region: Option<Arc<str>>,
    /// The currency in which it is quoted, if not US dollars, and the dollars that one was worth when
    /// the prices were converted; `None` before they are.
    pub currency: Option<(Arc<str>, Option<Box<str>>)>,
    /// The discount on the list price that its prices have, `15%`.
    pub discount: Option<Box<str>>,
}

/// What a provider asks for a model on a tier, and when that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    pub(crate) id: PriceRowId,
    pub(crate) provider: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) tier: Arc<str>,
    pub(crate) terms: Terms,
    /// In the order of [`Billable`].
    pub(crate) prices: Vec<(Billable, Price)>,
    pub(crate) source: Source,
}

/// How well a row fits what was asked for: of several that fit, the greatest wins. A region beats
/// none, a window beats none, then the later start wins, then what became known later.
pub(crate) type Fit = (bool, bool, Option<UnixTime>, Option<UnixTime>);

/// Why a row of the right model does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is for another tier.
    #[error("is for tier `{0}`")]
    Tier(String),
    /// It is for another region.
    #[error("is for region `{0}`")]
    Region(String),
    /// It is not in force yet.
    #[error("begins at {0}")]
    NotYet(UnixTime),
    /// It is no longer in force.
    #[error("ended at {0}")]
    Over(UnixTime),
    /// The instant is outside its part of the week.
    #[error("holds {0} only")]
    OutsideWindow(String),
    /// It was not known then.
    #[error("became known at {0}")]
    NotKnown(UnixTime),
    /// It was withdrawn.
    #[error("was withdrawn at {0}")]
    Withdrawn(UnixTime),
}

impl PriceRow {
    /// A row of one's own, for a negotiated or a self-hosted price. Fields are pairs of a key and its
    /// text as in a price book: prices by class or unit in US dollars per million tokens (see
    /// [`Billable::quoted_per`] for units), `tier`, `from`, `until`, `region`, `daily`, `days`, `zone`,
    /// `currency`. Without these it is the standard tier's, in force since always.
    ///
    /// # Errors
    /// [`ParseRowError`] for a name with blanks, an unknown key, a value that cannot be read.
    pub fn own<'a>(
        provider: &str,
        model: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ParseRowError> {
        let source = Source { book: "config".into(), as_of: None };
        let provider = check_name("provider", provider)?.into();
        let model = check_name("model", model)?.into();
        let mut tier = None;
        let mut repeated = Ok(());
        let fields = fields.into_iter().filter(|(key, value)| {
            let is_tier = *key == "tier";
            if is_tier && tier.replace(*value).is_some() {
                repeated = Err(ParseRowError::new(key, "the key once", value));
            }
            !is_tier
        });
        let fields = parse_fields(fields)?;
        repeated?;
        let tier = check_name("tier", tier.unwrap_or(STANDARD))?.to_lowercase();
        Self::new(provider, model, tier.into(), fields, source)
    }

    /// Hash of the row's content. Its source is not part of it, nor when it became known, so that a
    /// price that a newer book repeats stays the same row.
    #[must_use]
    pub fn id(&self) -> PriceRowId {
        self.id
    }

    /// The provider's id in the book.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The model's id in the book.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// `standard`, `batch`, `flex`, `priority`, `fast`.
    #[must_use]
    pub fn tier(&self) -> &str {
        &self.tier
    }

    /// When and for whom it holds.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where it was read.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// When it became known: as it says itself, or else on the day of its book; `None` if it always
    /// was, as rows of one's own are.
    #[must_use]
    pub fn known(&self) -> Option<UnixTime> {
        self.terms.known.or_else(|| self.source.as_of?.start())
    }

    /// Its prices, in the order of [`Billable::all`].
    #[must_use]
    pub fn prices(&self) -> &[(Billable, Price)] {
        &self.prices
    }

    /// The row's own price for a billable, without fallback.
    #[must_use]
    pub fn price(&self, item: Billable) -> Option<&Price> {
        let found = self.prices.iter().find(|(priced, _)| *priced == item);
        found.map(|(_, price)| price)
    }

    /// The price that applies to a billable, and whose it is: its own, or that of the first class it
    /// falls back to that has one.
    #[must_use]
    pub fn price_for(&self, item: Billable) -> Option<(Billable, &Price)> {
        let fallbacks = falls_back_to(item).iter().copied().map(Billable::Tokens);
        std::iter::once(item).chain(fallbacks).find_map(|one| Some((one, self.price(one)?)))
    }

    /// Prices (with those above thresholds counted apart) that were rounded on entering the book.
    pub fn rounded(&self) -> impl Iterator<Item = &Rate> {
        let rates = self.prices.iter().flat_map(|(_, price)| price.rates());
        rates.filter(|rate| rate.rounded_from.is_some())
    }

    /// When it begins and ends, if it ever does.
    pub(crate) fn turns(&self) -> impl Iterator<Item = UnixTime> + use<> {
        [self.terms.from, self.terms.until].into_iter().flatten()
    }

    /// How well it fits a tier, in canonical form, and the rest of a key.
    ///
    /// # Errors
    /// The first reason why it does not.
    pub(crate) fn fit(&self, tier: &str, key: &Key<'_>) -> Result<Fit, Misfit> {
        let Key { region, at, known_at, .. } = *key;
        let Terms { from, until, withdrawn, window, region: wanted, .. } = &self.terms;
        if *self.tier != *tier {
            return Err(Misfit::Tier(self.tier.to_string()));
        }
        if let Some(wanted) = wanted.as_deref()
            && !region.is_some_and(|region| region.trim().eq_ignore_ascii_case(wanted))
        {
            return Err(Misfit::Region(wanted.to_owned()));
        }
        if let Some(from) = from.filter(|from| at < *from) {
            return Err(Misfit::NotYet(from));
        }
        if let Some(until) = until.filter(|until| at >= *until) {
            return Err(Misfit::Over(until));
        }
        if !window.is_always() && !window.contains(key.hours_of.unwrap_or(at)) {
            return Err(Misfit::OutsideWindow(window_text(window).trim().to_owned()));
        }
        let known = self.known();
        if let (Some(known), Some(asked)) = (known, known_at)
            && asked < known
        {
            return Err(Misfit::NotKnown(known));
        }
        if let Some(withdrawn) = withdrawn.filter(|end| known_at.is_none_or(|asked| asked >= *end))
        {
            return Err(Misfit::Withdrawn(withdrawn));
        }
        Ok((wanted.is_some(), !window.is_always(), *from, known))
    }

    /// The row as one line of text that [`Self::parse`] reads back.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.content();
        for (key, at) in [("known", self.terms.known), ("withdrawn", self.terms.withdrawn)] {
            text.push_str(&instant(key, at));
        }
        text.push_str(" book=");
        text.push_str(&self.source.book);
        if let Some(day) = self.source.as_of {
            text.push_str(&format!(" as_of={day}"));
        }
        text
    }

    /// What the id is the hash of.
    fn content(&self) -> String {
        let Self { provider, model, tier, .. } = self;
        format!("provider={provider} model={model} tier={tier}{}", self.fields_text())
    }

    /// Terms and prices, as they stand in a book after the tier.
    pub(crate) fn fields_text(&self) -> String {
        let Terms { from, until, window, region, currency, discount, .. } = &self.terms;
        let mut text = instant("from", *from) + &instant("until", *until);
        if let Some(region) = region {
            text.push_str(&format!(" region={region}"));
        }
        text.push_str(&window_text(window));
        if let Some((currency, rate)) = currency {
            text.push_str(&format!(" currency={currency}"));
            if let Some(rate) = rate {
                text.push_str(&format!(" rate={rate}"));
            }
        }
        if let Some(discount) = discount {
            text.push_str(&format!(" discount={discount}"));
        }
        for (item, price) in &self.prices {
            text.push_str(&format!(" {item}={}", price.base.text(*item)));
            let sign = match price.above {
                Above::All => ">",
                Above::Rest => ">>",
            };
            for (threshold, rate) in &price.steps {
                text.push_str(&format!(",{}{sign}{threshold}", rate.text(*item)));
            }
        }
        text
    }

    pub(crate) fn new(
        provider: Arc<str>,
        model: Arc<str>,
        tier: Arc<str>,
        fields: Fields,
        source: Source,
    ) -> Result<Self, ParseRowError> {
        let Fields { terms, mut prices } = fields;
        let (from, until) = (terms.from, terms.until);
        if let Some(until) = until.filter(|until| from.is_some_and(|from| *until <= from)) {
            return Err(ParseRowError::new("until", "a time after `from`", &until.to_string()));
        }
        if let Some(zone) = terms.window.zone.as_ref().filter(|_| terms.window.is_always()) {
            return Err(ParseRowError::new("zone", "`daily` or `days` beside it", zone.name()));
        }
        prices.sort_by_key(|(item, _)| *item);
        let id = PriceRowId::from_bytes([0; 16]);
        let mut row = Self { id, provider, model, tier, terms, prices, source };
        row.refuse_ambiguous_fallback()?;
        row.seal();
        Ok(row)
    }

    /// Gives it the id of its content.
    pub(crate) fn seal(&mut self) {
        self.id = PriceRowId::of(self.content().as_bytes());
    }

    /// Cached audio could be billed as cached or as audio: where both have a price it needs its own.
    fn refuse_ambiguous_fallback(&self) -> Result<(), ParseRowError> {
        for &(cached, fresh) in &[
            (TokenClass::CacheReadAudio, TokenClass::InputAudio),
            (TokenClass::CacheReadImage, TokenClass::InputImage),
            (TokenClass::CacheReadVideo, TokenClass::InputVideo),
        ] {
            let priced = |class| self.price(Billable::Tokens(class)).is_some();
            if priced(TokenClass::CacheRead) && priced(fresh) && !priced(cached) {
                let expected = format!("a price, as `cache_read` and `{fresh}` each have one");
                return Err(ParseRowError::new(cached.name(), expected, "none"));
            }
        }
        Ok(())
    }
}

fn instant(key: &str, at: Option<UnixTime>) -> String {
    match at {
        None => String::new(),
        Some(at) => match at.day() {
            day if day.start() == Some(at) => format!(" {key}={day}"),
            _ => format!(" {key}={at:?}"),
        },
    }
}

pub(crate) fn window_text(window: &Window) -> String {
    let mut text = String::new();
    if let Some(daily) = window.daily {
        text.push_str(&format!(" daily={daily}"));
    }
    if let Some(days) = window.days {
        text.push_str(&format!(" days={days}"));
    }
    if let Some(zone) = &window.zone {
        text.push_str(&format!(" zone={}", zone.name()));
    }
    text
}

/// What a row says beside its key.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) terms: Terms,
    pub(crate) prices: Vec<(Billable, Price)>,
}

impl Fields {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), ParseRowError> {
        let wrong = |expected: &str| ParseRowError::new(name, expected, value);
        let instant =
            || value.parse().map_err(|_| wrong("a date such as `2026-11-22` or an instant"));
        let terms = &mut self.terms;
        let repeated = match name {
            "from" => terms.from.replace(instant()?).is_some(),
            "until" => terms.until.replace(instant()?).is_some(),
            "known" => terms.known.replace(instant()?).is_some(),
            "withdrawn" => terms.withdrawn.replace(instant()?).is_some(),
            "daily" => {
                let daily = Daily::parse(value);
                let daily = daily
                    .ok_or_else(|| wrong("a window of the day such as `16:30:00-00:30:00`"))?;
                terms.window.daily.replace(daily).is_some()
            }
            "days" => {
                let days = Days::parse(value);
                let days = days.ok_or_else(|| wrong("days such as `mon-fri` or `sat,sun`"))?;
                terms.window.days.replace(days).is_some()
            }
            "zone" => {
                let zone = Zone::named(value);
                let zone = zone.ok_or_else(|| wrong("a time zone such as `Asia/Shanghai`"))?;
                terms.window.zone.replace(zone).is_some()
            }
            "region" => {
                let region = check_name(name, value)?.to_lowercase();
                terms.region.replace(region.into()).is_some()
            }
            "currency" => {
                let plain = value.len() == 3 && value.bytes().all(|b| b.is_ascii_uppercase());
                if !plain || value == "USD" {
                    return Err(wrong("a currency such as `EUR`, or no such key for US dollars"));
                }
                terms.currency.replace((value.into(), None)).is_some()
            }
            "rate" => {
                let expected = "the dollars of one unit of `currency`, which stands before it";
                parse_exchange(value).ok_or_else(|| wrong(expected))?;
                let currency = terms.currency.as_mut().ok_or_else(|| wrong(expected))?;
                currency.1.replace(value.into()).is_some()
            }
            "discount" => {
                crate::contract::Discount::parse(value)
                    .ok_or_else(|| wrong("a discount such as `15%`"))?;
                terms.discount.replace(value.into()).is_some()
            }
            _ => {
                let expected = "a key, token class or unit that this version knows";
                let item = Billable::from_name(name)
                    .ok_or_else(|| ParseRowError::new(name, expected, name))?;
                let known = self.prices.iter().any(|(priced, _)| *priced == item);
                self.prices.push((item, parse_price(item, value)?));
                known
            }
        };
        if repeated { Err(wrong("the key once")) } else { Ok(()) }
    }
}

//! One price row: what a provider asks for a model on a tier, from a date on.

use std::sync::Arc;

use quantity::{Billable, Day, PriceRowId, TokenClass, TokenCount, UnitPrice, UnixTime};

use crate::text::{ParseRowError, check_name, parse_fields, parse_price};

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

/// The price of one billable: a rate, and other rates for exchanges with a long input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub(crate) base: Rate,
    /// Ascending by threshold.
    pub(crate) cliffs: Vec<(u64, Rate)>,
}

impl Price {
    /// The rate for an exchange with so many input tokens, cached or not. A cliff applies *above* its
    /// threshold, to every token of the exchange.
    #[must_use]
    pub fn at_input(&self, input: u64) -> &Rate {
        let passed = self.cliffs.iter().rev().find(|(threshold, _)| input > *threshold);
        passed.map_or(&self.base, |(_, rate)| rate)
    }

    /// The rate below every cliff.
    #[must_use]
    pub fn base(&self) -> &Rate {
        &self.base
    }

    /// Thresholds in input tokens, ascending, each with the rate above it.
    #[must_use]
    pub fn cliffs(&self) -> &[(u64, Rate)] {
        &self.cliffs
    }

    pub(crate) fn rates(&self) -> impl Iterator<Item = &Rate> {
        std::iter::once(&self.base).chain(self.cliffs.iter().map(|(_, rate)| rate))
    }
}

/// A window of every day, UTC, in seconds since midnight; past midnight where `end` < `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// First second inside.
    pub start: u32,
    /// First second after.
    pub end: u32,
}

impl Daily {
    /// Whether the instant is inside.
    #[must_use]
    pub fn contains(self, at: UnixTime) -> bool {
        const DAY_NANOS: i64 = 86_400_000_000_000;
        const SECOND_NANOS: i64 = 1_000_000_000;
        let second = at.nanos().rem_euclid(DAY_NANOS).div_euclid(SECOND_NANOS);
        let (start, end) = (i64::from(self.start), i64::from(self.end));
        if end < start { second >= start || second < end } else { second >= start && second < end }
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

/// What a provider asks for a model on a tier, from a date on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    pub(crate) id: PriceRowId,
    pub(crate) provider: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) tier: Arc<str>,
    pub(crate) from: Option<UnixTime>,
    pub(crate) daily: Option<Daily>,
    /// In the order of [`Billable`].
    pub(crate) prices: Vec<(Billable, Price)>,
    pub(crate) source: Source,
}

impl PriceRow {
    /// A row of one's own, for a negotiated or a self-hosted price: standard tier, in force since
    /// always. Prices are pairs of a class or unit name and US dollars per million tokens (see
    /// [`Billable::quoted_per`] for units).
    ///
    /// # Errors
    /// [`ParseRowError`] for a name with blanks, an unknown class, a price that is no decimal.
    pub fn own<'a>(
        provider: &str,
        model: &str,
        prices: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ParseRowError> {
        let source = Source { book: "config".into(), as_of: None };
        let provider = check_name("provider", provider)?.into();
        let model = check_name("model", model)?.into();
        Self::new(provider, model, STANDARD.into(), parse_fields(prices)?, source)
    }

    /// Hash of the row's content; its source is not part of it, so that a price that a newer book
    /// repeats stays the same row.
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

    /// Since when it is in force; `None`: since always.
    #[must_use]
    pub fn from(&self) -> Option<UnixTime> {
        self.from
    }

    /// The window of the day it is limited to.
    #[must_use]
    pub fn daily(&self) -> Option<Daily> {
        self.daily
    }

    /// Where it was read.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
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

    /// Prices (with cliffs counted apart) that were rounded on entering the book.
    pub fn rounded(&self) -> impl Iterator<Item = &Rate> {
        let rates = self.prices.iter().flat_map(|(_, price)| price.rates());
        rates.filter(|rate| rate.rounded_from.is_some())
    }

    /// Whether it is in force at an instant.
    #[must_use]
    pub fn in_force(&self, at: UnixTime) -> bool {
        self.from.is_none_or(|from| at >= from) && self.daily.is_none_or(|daily| daily.contains(at))
    }

    /// The row as one line of text that [`Self::parse`] reads back.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.content();
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
        let mut text = format!("provider={provider} model={model} tier={tier}");
        if let Some(from) = self.from {
            text.push_str(" from=");
            match from.day() {
                day if day.start() == Some(from) => text.push_str(&day.to_string()),
                _ => text.push_str(&format!("{from:?}")),
            }
        }
        if let Some(daily) = self.daily {
            text.push_str(&format!(" daily={daily}"));
        }
        for (item, price) in &self.prices {
            text.push_str(&format!(" {item}={}", price.base.text(*item)));
            for (threshold, rate) in &price.cliffs {
                text.push_str(&format!(",{}>{threshold}", rate.text(*item)));
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
        let Fields { from, daily, mut prices } = fields;
        prices.sort_by_key(|(item, _)| *item);
        let id = PriceRowId::from_bytes([0; 16]);
        let mut row = Self { id, provider, model, tier, from, daily, prices, source };
        row.refuse_ambiguous_fallback()?;
        row.id = PriceRowId::of(row.content().as_bytes());
        Ok(row)
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

/// What a row says beside its key.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) from: Option<UnixTime>,
    pub(crate) daily: Option<Daily>,
    pub(crate) prices: Vec<(Billable, Price)>,
}

impl Fields {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), ParseRowError> {
        let repeated = || ParseRowError::new(name, "the key once", value);
        match name {
            "from" => {
                let expected = "a date such as `2026-11-22` or an instant";
                let at = value.parse().map_err(|_| ParseRowError::new(name, expected, value))?;
                if self.from.replace(at).is_some() {
                    return Err(repeated());
                }
            }
            "daily" => {
                let expected = "a window of the day such as `16:30:00-00:30:00`";
                let daily =
                    Daily::parse(value).ok_or_else(|| ParseRowError::new(name, expected, value))?;
                if self.daily.replace(daily).is_some() {
                    return Err(repeated());
                }
            }
            _ => {
                let expected = "a key, token class or unit that this version knows";
                let item = Billable::from_name(name)
                    .ok_or_else(|| ParseRowError::new(name, expected, name))?;
                if self.prices.iter().any(|(priced, _)| *priced == item) {
                    return Err(repeated());
                }
                self.prices.push((item, parse_price(item, value)?));
            }
        }
        Ok(())
    }
}

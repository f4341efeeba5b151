//! The text forms of rows and their parts.

use std::fmt;

use quantity::{Billable, Money, UnitPrice};

use crate::row::{Daily, Fields, Price, PriceRow, Rate, Source};

/// A row's text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid `{key}`: expected {expected}, found `{found}`")]
pub struct ParseRowError {
    key: String,
    expected: String,
    found: String,
}

impl ParseRowError {
    pub(crate) fn new(key: &str, expected: impl Into<String>, found: &str) -> Self {
        Self { key: key.to_owned(), expected: expected.into(), found: found.to_owned() }
    }
}

/// A line of a price book that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct ParseBookError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: ParseRowError,
}

impl PriceRow {
    /// Reads what [`PriceRow::to_text`] wrote: fields `key=value` with blanks between.
    ///
    /// # Errors
    /// [`ParseRowError`] names the key, what was expected and what was found.
    pub fn parse(text: &str) -> Result<Self, ParseRowError> {
        let (mut provider, mut model, mut tier, mut book, mut as_of) =
            (None, None, None, None, None);
        let mut fields = Fields::default();
        for field in text.split_whitespace() {
            let (key, value) = split_field(field)?;
            let slot = match key {
                "provider" => &mut provider,
                "model" => &mut model,
                "tier" => &mut tier,
                "book" => &mut book,
                "as_of" => &mut as_of,
                _ => {
                    fields.set(key, value)?;
                    continue;
                }
            };
            check_name(key, value)?;
            if slot.replace(value).is_some() {
                return Err(ParseRowError::new(key, "the key once", value));
            }
        }
        let needed = |key, value: Option<&str>| {
            value.map(Into::into).ok_or_else(|| ParseRowError::new(key, "a name", ""))
        };
        let as_of = match as_of {
            None => None,
            Some(day) => Some(
                day.parse()
                    .map_err(|_| ParseRowError::new("as_of", "a date such as `2026-11-22`", day))?,
            ),
        };
        let source = Source { book: needed("book", book)?, as_of };
        let key = (needed("provider", provider)?, needed("model", model)?, needed("tier", tier)?);
        Self::new(key.0, key.1, key.2, fields, source)
    }
}

pub(crate) fn split_field(field: &str) -> Result<(&str, &str), ParseRowError> {
    field.split_once('=').ok_or_else(|| ParseRowError::new(field, "`key=value`", field))
}

pub(crate) fn parse_fields<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Fields, ParseRowError> {
    let mut fields = Fields::default();
    for (key, value) in pairs {
        fields.set(key, value)?;
    }
    Ok(fields)
}

/// Names stand in one-line texts, so they have no blanks.
pub(crate) fn check_name<'a>(key: &str, name: &'a str) -> Result<&'a str, ParseRowError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ParseRowError::new(key, "a name without blanks", name));
    }
    Ok(name)
}

/// `2.5` or, with a cliff, `2.5,5>272000`: 2.5, and 5 above 272,000 input tokens.
pub(crate) fn parse_price(item: Billable, text: &str) -> Result<Price, ParseRowError> {
    let error =
        || ParseRowError::new(item.name(), "US dollars such as `2.50` or `2.50,5>272000`", text);
    let mut parts = text.split(',');
    let base = parse_rate(item, parts.next().unwrap_or_default()).ok_or_else(error)?;
    let mut cliffs: Vec<(u64, Rate)> = Vec::new();
    for part in parts {
        let (rate, threshold) = part.split_once('>').ok_or_else(error)?;
        let plain = threshold.bytes().all(|b| b.is_ascii_digit());
        let threshold = threshold.parse::<u64>().ok().filter(|_| plain).ok_or_else(error)?;
        if cliffs.last().is_some_and(|(last, _)| *last >= threshold) {
            return Err(ParseRowError::new(item.name(), "ascending thresholds", text));
        }
        cliffs.push((threshold, parse_rate(item, rate).ok_or_else(error)?));
    }
    Ok(Price { base, cliffs })
}

/// 2⁵⁶ pico-dollars, some $72,000 a token: no price is higher, and a sum of lines stays within i128.
const MAX_RATE: u64 = 1 << 56;

fn parse_rate(item: Billable, text: &str) -> Option<Rate> {
    let (price, exact) = match item.quoted_per() {
        1_000_000 => UnitPrice::from_usd_per_million(text).ok()?,
        1_000 => UnitPrice::from_usd_per(text, 3).ok()?,
        per => {
            let whole: Money = text.parse().ok()?;
            let one = whole.scaled(1, u64::from(per))?;
            let price = UnitPrice::from_pico(u64::try_from(one.pico()).ok()?)?;
            (price, one.scaled(u64::from(per), 1)? == whole)
        }
    };
    (price.pico() <= MAX_RATE).then(|| Rate::new(price, exact, text))
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |second: u32| {
            let (hour, rest) = (second.div_euclid(3600), second.rem_euclid(3600));
            format!("{hour:02}:{:02}:{:02}", rest.div_euclid(60), rest.rem_euclid(60))
        };
        write!(f, "{}-{}", clock(self.start), clock(self.end))
    }
}

impl Daily {
    /// Reads what `Display` wrote; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (start, end) = text.split_once('-')?;
        Some(Self { start: parse_clock(start)?, end: parse_clock(end)? })
    }
}

/// `16:30:00` in seconds since midnight.
fn parse_clock(text: &str) -> Option<u32> {
    let mut second = 0_u32;
    let mut parts = text.split(':');
    for limit in [24, 60, 60] {
        let part = parts.next()?;
        let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let value = part.parse::<u32>().ok().filter(|value| plain && *value < limit)?;
        second = second.checked_mul(60)?.checked_add(value)?;
    }
    parts.next().is_none().then_some(second)
}

//! The text forms of rows and their parts.

use quantity::{Billable, Money, UnitPrice};

use crate::row::{Above, Fields, Price, PriceRow, Rate, Source};

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

/// `2.5`, or with a cliff `2.5,5>272000`: 2.5, and 5 above 272,000 input tokens; or graduated
/// `2.5,5>>272000`: 5 for the tokens beyond.
pub(crate) fn parse_price(item: Billable, text: &str) -> Result<Price, ParseRowError> {
    let wrong = |expected: &str| ParseRowError::new(item.name(), expected, text);
    let error = || wrong("US dollars such as `2.50`, `2.50,5>272000` or `2.50,5>>272000`");
    let rate = |text: &str| {
        if is_noise(text) {
            return Err(wrong("a decimal as a price list writes it, not the noise of a float"));
        }
        parse_rate(item, text).ok_or_else(error)
    };
    let mut parts = text.split(',');
    let base = rate(parts.next().unwrap_or_default())?;
    let mut steps: Vec<(u64, Rate)> = Vec::new();
    let mut above = None;
    for part in parts {
        let (price, threshold) = part.split_once('>').ok_or_else(error)?;
        let (threshold, kind) = match threshold.strip_prefix('>') {
            Some(threshold) => (threshold, Above::Rest),
            None => (threshold, Above::All),
        };
        if *above.get_or_insert(kind) != kind {
            return Err(wrong("cliffs (`>`) or graduated steps (`>>`), not both"));
        }
        let plain = threshold.bytes().all(|b| b.is_ascii_digit());
        let threshold = threshold.parse::<u64>().ok().filter(|_| plain).ok_or_else(error)?;
        if steps.last().is_some_and(|(last, _)| *last >= threshold) {
            return Err(wrong("ascending thresholds"));
        }
        steps.push((threshold, rate(price)?));
    }
    Ok(Price { base, steps, above: above.unwrap_or(Above::All) })
}

/// Whether a number is what a float left of a decimal: `0.30000000000000004`. No price list writes
/// fifteen digits with a row of noughts or nines in them.
pub(crate) fn is_noise(text: &str) -> bool {
    let digits = significant(text);
    digits.len() >= 15 && ["00000000", "99999999"].iter().any(|run| digits.contains(run))
}

fn significant(text: &str) -> String {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').to_owned()
}

/// The decimal that a float stands for, where its text is noise: `0.30000000000000004` is `0.3`. For
/// sources that wrote their prices from floats; `None` where there is nothing to clean.
#[must_use]
pub fn without_noise(text: &str) -> Option<String> {
    if !is_noise(text) {
        return None;
    }
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    // Twelve significant digits: three fewer than any noise has.
    let kept = 12_usize.checked_sub(significant(whole).len())?;
    let zeros = match significant(whole).is_empty() {
        true => fraction.len().checked_sub(fraction.trim_start_matches('0').len())?,
        false => 0,
    };
    let digits = u32::try_from(kept.checked_add(zeros)?.min(fraction.len())).ok()?;
    let scale = u32::try_from(fraction.len()).ok()?;
    let all: u128 = format!("{whole}{fraction}").parse().ok()?;
    let unit = 10_u128.checked_pow(scale.checked_sub(digits)?)?;
    let rounded = all.checked_add(unit.checked_div(2)?)?.checked_div(unit)?;
    let width = usize::try_from(digits).ok()?;
    let text = format!("{rounded:0>fill$}", fill = width.checked_add(1)?);
    let (whole, fraction) = text.split_at(text.len().checked_sub(width)?);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{whole}{point}{fraction}{exponent}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_of_floats_is_told_from_decimals() {
        for (noise, clean) in [
            ("0.30000000000000004", "0.3"),
            ("0.13999999999999999", "0.14"),
            ("1.0399999999999998", "1.04"),
            ("1.8000000000000001e-07", "1.8e-07"),
            ("0.000000030000000000000004", "0.00000003"),
            ("0.99999999999999999", "1"),
            ("123.00000000000001", "123"),
        ] {
            assert_eq!(without_noise(noise).as_deref(), Some(clean));
        }
        for text in ["0.08333333333333333", "2.5", "0.0000001", "1e-7", "100000000", "", "x"] {
            assert_eq!(without_noise(text), None, "{text}");
        }
    }
}

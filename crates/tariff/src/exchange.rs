//! What one unit of a currency was worth in US dollars, and since when.

use std::collections::BTreeMap;

use quantity::{Money, UnitPrice, UnixTime};

use crate::row::{PriceRow, Rate};
use crate::text::ParseRowError;

/// Digits after the point of a rate.
const SCALE: u32 = 9;

/// Dated rates of exchange: each holds from its date until the next of its currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange(BTreeMap<String, BTreeMap<UnixTime, Box<str>>>);

impl Exchange {
    /// Takes note that one `currency` is worth so many dollars from an instant on.
    ///
    /// # Errors
    /// [`ParseRowError`] for a rate that is no positive decimal, or another rate from that instant.
    pub fn set(&mut self, currency: &str, from: UnixTime, usd: &str) -> Result<(), ParseRowError> {
        parse_exchange(usd).ok_or_else(|| {
            ParseRowError::new("usd", "the dollars of one, such as `1.0837`", usd)
        })?;
        let rates = self.0.entry(currency.to_owned()).or_default();
        match rates.insert(from, usd.into()) {
            Some(other) if *other != *usd => Err(ParseRowError::new(
                "usd",
                format!("one rate from {from}, such as {other}"),
                usd,
            )),
            _ => Ok(()),
        }
    }

    /// The row in US dollars: one for each rate that holds while it does, and itself if it is quoted
    /// in dollars or was converted before. Unit prices are rounded half to even once.
    ///
    /// # Errors
    /// [`ParseRowError`] if there is no rate for its currency.
    pub fn convert(&self, row: PriceRow) -> Result<Vec<PriceRow>, ParseRowError> {
        let Some((currency, None)) = &row.terms.currency else { return Ok(vec![row]) };
        let rates = self.0.get(&**currency).ok_or_else(|| {
            ParseRowError::new("currency", "one that has a rate of exchange", currency)
        })?;
        let mut rows = Vec::new();
        let ends = rates.keys().skip(1).map(|end| Some(*end)).chain([None]);
        for ((since, usd), end) in rates.iter().zip(ends) {
            let mut converted = row.clone();
            let terms = &mut converted.terms;
            terms.from = terms.from.max(Some(*since));
            terms.until = [terms.until, end].into_iter().flatten().min();
            if terms.until.is_some_and(|until| terms.from >= Some(until)) {
                continue;
            }
            terms.currency = Some((currency.clone(), Some(usd.clone())));
            let per_unit = parse_exchange(usd);
            let rate = |rate: &Rate| {
                let pico = Money::from_pico(i128::from(rate.price().pico()));
                let usd = pico.scaled(per_unit?, 10_u64.pow(SCALE))?;
                let price = UnitPrice::from_pico(u64::try_from(usd.pico()).ok()?)?;
                Some(Rate::new(price, true, ""))
            };
            for (item, price) in &mut converted.prices {
                *price = price.map(rate).ok_or_else(|| {
                    ParseRowError::new(item.name(), "a price that fits in dollars", usd)
                })?;
            }
            converted.seal();
            rows.push(converted);
        }
        Ok(rows)
    }
}

/// A positive decimal with at most nine digits after the point, times 10⁹.
pub(crate) fn parse_exchange(text: &str) -> Option<u64> {
    let pico = text.parse::<Money>().ok()?.pico();
    let nano = pico.checked_div(1_000)?;
    (nano > 0 && nano.checked_mul(1_000) == Some(pico)).then(|| u64::try_from(nano).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantity::{Billable, TokenClass};

    fn at(text: &str) -> UnixTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_row_is_split_where_the_rate_changes() {
        let mut exchange = Exchange::default();
        exchange.set("EUR", at("2026-01-01"), "1.1").unwrap();
        exchange.set("EUR", at("2026-07-01"), "1.0837").unwrap();
        let fields = [("currency", "EUR"), ("from", "2026-03-01"), ("input_uncached", "2")];
        let row = PriceRow::own("lab", "toy", fields).unwrap();
        let rows = exchange.convert(row.clone()).unwrap();
        let texts: Vec<_> = rows.iter().map(PriceRow::to_text).collect();
        assert_eq!(
            texts,
            [
                "provider=lab model=toy tier=standard from=2026-03-01 until=2026-07-01 currency=EUR \
                 rate=1.1 input_uncached=2.2 book=config",
                "provider=lab model=toy tier=standard from=2026-07-01 currency=EUR rate=1.0837 \
                 input_uncached=2.1674 book=config",
            ]
        );
        // What is converted is read back as it is, and is not converted again.
        let again = PriceRow::parse(&texts[1]).unwrap();
        assert_eq!(again, rows[1]);
        assert_eq!(exchange.convert(again.clone()).unwrap(), [again]);
        let franc = PriceRow::own("lab", "toy", [("currency", "CHF"), ("calls", "2")]).unwrap();
        assert!(exchange.convert(franc).is_err());
        assert!(exchange.set("EUR", at("2026-07-01"), "1.1").is_err());
    }

    #[test]
    fn a_converted_price_is_rounded_half_to_even_once() {
        let mut exchange = Exchange::default();
        exchange.set("EUR", at("2026-01-01"), "1.5").unwrap();
        for (eur, pico) in [("0.000001", 2), ("0.000003", 4), ("1", 1_500_000)] {
            let fields = [("currency", "EUR"), ("input_uncached", eur)];
            let row = PriceRow::own("lab", "toy", fields).unwrap();
            let rows = exchange.convert(row).unwrap();
            let price = rows[0].price(Billable::Tokens(TokenClass::InputUncached)).unwrap();
            assert_eq!(price.base().price().pico(), pico, "{eur}");
        }
    }

    #[test]
    fn a_rate_is_a_positive_decimal() {
        assert_eq!(parse_exchange("1.0837"), Some(1_083_700_000));
        for text in ["0", "-1", "", "1.0000000001", "1,1", "NaN"] {
            assert_eq!(parse_exchange(text), None, "{text}");
        }
    }
}

//! Contracts: what was agreed instead of the list price.

use std::sync::Arc;

use quantity::{Money, UnitPrice, UnixTime};

use crate::row::{PriceRow, Rate, Source};
use crate::rule::Rule;
use crate::text::ParseRowError;

/// A part taken off a list price, in thousandths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discount(u32);

const WHOLE: u32 = 100_000;

impl Discount {
    /// Reads `15%` or `12.5%`, of at most three digits after the point; `None` for anything else, and
    /// for more than the whole.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let pico = text.strip_suffix('%')?.parse::<Money>().ok()?.pico();
        let unit = 1_000_000_000;
        let part = u32::try_from(pico.checked_div(unit)?).ok()?;
        let exact = i128::from(part).checked_mul(unit) == Some(pico);
        (exact && part <= WHOLE).then_some(Self(part))
    }

    fn off(self, rate: &Rate) -> Option<Rate> {
        let kept = u64::from(WHOLE.checked_sub(self.0)?);
        let list = Money::from_pico(i128::from(rate.price().pico()));
        let pico = list.scaled(kept, u64::from(WHOLE))?.pico();
        Some(Rate::new(UnitPrice::from_pico(u64::try_from(pico).ok()?)?, true, ""))
    }
}

/// An agreement with a provider: on a percentage off its list, on rates of its own, or on both.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Its name, which is the source of the rows it makes.
    pub name: Arc<str>,
    /// The provider's id in the book.
    pub provider: String,
    /// The models that the discount is for; `None` is all of them.
    pub models: Option<Rule>,
    /// The tiers that it is for; empty is all of them.
    pub tiers: Vec<String>,
    /// The first instant at which it holds.
    pub from: Option<UnixTime>,
    /// The first instant at which it no longer does.
    pub until: Option<UnixTime>,
    /// What is off, as written: `15%`; `None` if the list is not what was agreed on.
    pub discount: Option<Box<str>>,
}

impl Contract {
    /// The row as contracted: the list's prices less the discount, rounded half to even once a unit
    /// price, while both hold. `None` if the discount is not for that row.
    ///
    /// # Errors
    /// [`ParseRowError`] for a discount that cannot be read.
    pub fn row(&self, list: &PriceRow) -> Result<Option<PriceRow>, ParseRowError> {
        let Some(text) = &self.discount else { return Ok(None) };
        let discount = Discount::parse(text)
            .ok_or_else(|| ParseRowError::new("discount", "a percentage such as `15%`", text))?;
        let model = list.model().to_lowercase();
        let for_row = self.is_with(list.provider())
            && self.models.as_ref().is_none_or(|rule| rule.matches(&model))
            && (self.tiers.is_empty() || self.tiers.iter().any(|tier| tier == list.tier()));
        let Some(mut row) = self.while_it_holds(list).filter(|_| for_row) else { return Ok(None) };
        row.terms.discount = Some(text.clone());
        for (item, price) in &mut row.prices {
            *price = price
                .map(|rate| discount.off(rate))
                .ok_or_else(|| ParseRowError::new(item.name(), "a price that fits", text))?;
        }
        row.seal();
        Ok(Some(row))
    }

    /// A row of one's own as a rate that was agreed on in the contract: while both hold, and with the
    /// contract for its source.
    ///
    /// # Errors
    /// [`ParseRowError`] for a row of another provider, and for one that holds at no time at which the
    /// contract does.
    pub fn rate(&self, own: &PriceRow) -> Result<PriceRow, ParseRowError> {
        if !self.is_with(own.provider()) {
            let expected = format!("`{}`, with which the contract is", self.provider);
            return Err(ParseRowError::new("provider", expected, own.provider()));
        }
        let mut row = self.while_it_holds(own).ok_or_else(|| {
            let from = own.terms.from;
            let late = from.filter(|from| self.until.is_some_and(|until| until <= *from));
            let key = if late.is_some() { "from" } else { "until" };
            let found = late.or(own.terms.until);
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            ParseRowError::new(key, "a time at which the contract holds", &found)
        })?;
        row.seal();
        Ok(row)
    }

    fn is_with(&self, provider: &str) -> bool {
        self.provider.eq_ignore_ascii_case(provider)
    }

    /// The row as one of the contract's, limited to its time; `None` if they have none in common.
    fn while_it_holds(&self, row: &PriceRow) -> Option<PriceRow> {
        let mut row = row.clone();
        row.terms.from = row.terms.from.max(self.from);
        row.terms.until = [row.terms.until, self.until].into_iter().flatten().min();
        row.source = Source { book: self.name.clone(), as_of: None };
        let empty = row.terms.until.is_some_and(|until| row.terms.from >= Some(until));
        (!empty).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discount_is_a_percentage() {
        assert_eq!(Discount::parse("15%"), Some(Discount(15_000)));
        assert_eq!(Discount::parse("12.5%"), Some(Discount(12_500)));
        assert_eq!(Discount::parse("100%"), Some(Discount(WHOLE)));
        for text in ["15", "-1%", "100.001%", "0.0001%", "%", "a%"] {
            assert_eq!(Discount::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_contract_takes_its_part_off_while_both_hold() {
        let fields = [
            ("from", "2026-03-01"),
            ("until", "2026-09-01"),
            ("input_uncached", "2.5,5>272000"),
            ("cache_read", "0.003"),
        ];
        let list = PriceRow::own("lab", "toy-large", fields).unwrap();
        let mut contract = Contract {
            name: "contract:acme".into(),
            provider: "Lab".to_owned(),
            models: Some(Rule::parse("models", "^toy").unwrap()),
            tiers: Vec::new(),
            from: Some("2026-01-01".parse().unwrap()),
            until: Some("2026-07-01".parse().unwrap()),
            discount: Some("12.5%".into()),
        };
        let row = contract.row(&list).unwrap().unwrap();
        assert_eq!(
            row.to_text(),
            "provider=lab model=toy-large tier=standard from=2026-03-01 until=2026-07-01 \
             discount=12.5% input_uncached=2.1875,4.375>272000 cache_read=0.002625 \
             book=contract:acme"
        );
        assert_eq!(PriceRow::parse(&row.to_text()).unwrap(), row);
        contract.tiers = vec!["batch".to_owned()];
        assert_eq!(contract.row(&list).unwrap(), None);
        contract.tiers.clear();
        contract.from = contract.until.replace("2026-02-01".parse().unwrap());
        assert_eq!(contract.row(&list).unwrap(), None);
    }

    #[test]
    fn a_rate_of_a_contract_holds_while_the_contract_does_and_names_it() {
        let contract = Contract {
            name: "contract:acme".into(),
            provider: "lab".to_owned(),
            models: None,
            tiers: Vec::new(),
            from: Some("2026-01-01".parse().unwrap()),
            until: Some("2027-01-01".parse().unwrap()),
            discount: None,
        };
        let own = |provider: &str, fields: &[(&str, &str)]| {
            let price = [("input_uncached", "2")];
            PriceRow::own(provider, "toy", fields.iter().copied().chain(price)).unwrap()
        };
        let rate = contract.rate(&own("Lab", &[("from", "2026-03-01")])).unwrap();
        assert_eq!(
            rate.to_text(),
            "provider=Lab model=toy tier=standard from=2026-03-01 until=2027-01-01 \
             input_uncached=2 book=contract:acme"
        );
        assert_eq!(contract.row(&rate).unwrap(), None, "nothing is taken off");
        for (provider, fields, message) in [
            ("bal", &[][..], "invalid `provider`: expected `lab`, with which the contract is"),
            ("lab", &[("from", "2027-01-01")], "invalid `from`: expected a time at which"),
            ("lab", &[("until", "2026-01-01")], "invalid `until`: expected a time at which"),
        ] {
            let error = contract.rate(&own(provider, fields)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

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

/// An agreement with a provider on a percentage off its list.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Its name, which is the source of the rows it makes.
    pub name: Arc<str>,
    /// The provider's id in the book.
    pub provider: String,
    /// The models it is for; `None` is all of them.
    pub models: Option<Rule>,
    /// The tiers it is for; empty is all of them.
    pub tiers: Vec<String>,
    /// The first instant at which it holds.
    pub from: Option<UnixTime>,
    /// The first instant at which it no longer does.
    pub until: Option<UnixTime>,
    /// What is off, as written: `15%`.
    pub discount: Box<str>,
}

impl Contract {
    /// The row as contracted: the list's prices less the discount, rounded half to even once a unit
    /// price, while both hold. `None` if it is not for that row.
    ///
    /// # Errors
    /// [`ParseRowError`] for a discount that cannot be read.
    pub fn row(&self, list: &PriceRow) -> Result<Option<PriceRow>, ParseRowError> {
        let discount = Discount::parse(&self.discount).ok_or_else(|| {
            ParseRowError::new("discount", "a percentage such as `15%`", &self.discount)
        })?;
        let model = list.model().to_lowercase();
        let for_row = self.provider.eq_ignore_ascii_case(list.provider())
            && self.models.as_ref().is_none_or(|rule| rule.matches(&model))
            && (self.tiers.is_empty() || self.tiers.iter().any(|tier| tier == list.tier()));
        let mut row = list.clone();
        let terms = &mut row.terms;
        terms.from = terms.from.max(self.from);
        terms.until = [terms.until, self.until].into_iter().flatten().min();
        let empty = terms.until.is_some_and(|until| terms.from >= Some(until));
        if !for_row || empty {
            return Ok(None);
        }
        terms.discount = Some(self.discount.clone());
        for (item, price) in &mut row.prices {
            *price = price.map(|rate| discount.off(rate)).ok_or_else(|| {
                ParseRowError::new(item.name(), "a price that fits", &self.discount)
            })?;
        }
        row.source = Source { book: self.name.clone(), as_of: None };
        row.seal();
        Ok(Some(row))
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
            discount: "12.5%".into(),
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
}

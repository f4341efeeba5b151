//! Where books disagree, and which prices are going to change.

use std::collections::BTreeSet;

use quantity::{Billable, UnitPrice, UnixTime};

use crate::book::{Book, Key};
use crate::row::PriceRow;

/// A price that two rows have otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The row of the one.
    pub ours: &'a PriceRow,
    /// The row of the other.
    pub theirs: &'a PriceRow,
    /// What for.
    pub item: Billable,
    /// For exchanges with more input tokens than this.
    pub above: u64,
    /// What the one asks; `None` if it has no price for it.
    pub our_price: Option<UnitPrice>,
    /// What the other asks; `None` if it has no price for it.
    pub their_price: Option<UnitPrice>,
}

/// Two books side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// Models on a tier of which every price that both have is the same.
    pub agree: usize,
    /// Prices that differ.
    pub differ: Vec<Difference<'a>>,
    /// Models, as `provider/model`, that only the other book has.
    pub only_theirs: BTreeSet<String>,
}

/// A price that is known to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// When.
    pub at: UnixTime,
    /// The row until then; `None` where there is no price yet.
    pub before: Option<&'a PriceRow>,
    /// The row from then on; `None` where the price ends.
    pub after: Option<&'a PriceRow>,
}

impl Book {
    /// Compares every model and tier of another book with this one, at an instant. Only prices that
    /// both rows have of their own are compared: to say nothing of a class is no disagreement.
    #[must_use]
    pub fn compare<'a>(&'a self, other: &'a Self, at: UnixTime) -> Comparison<'a> {
        let mut comparison = Comparison::default();
        for model in other.models() {
            let tiers: BTreeSet<&str> = model.rows.iter().map(PriceRow::tier).collect();
            for tier in tiers {
                let key = Key::new(model.provider, model.model, at).on(Some(tier));
                let Ok(theirs) = other.quote(&key) else { continue };
                let Ok(ours) = self.quote(&key) else {
                    if tier == crate::STANDARD {
                        let name = format!("{}/{}", model.provider, model.model);
                        comparison.only_theirs.insert(name);
                    }
                    continue;
                };
                let before = comparison.differ.len();
                let both = differences(ours, theirs);
                let both = both.filter(|d| d.our_price.is_some() && d.their_price.is_some());
                comparison.differ.extend(both);
                if comparison.differ.len() == before {
                    comparison.agree = comparison.agree.saturating_add(1);
                }
            }
        }
        comparison
    }

    /// Prices that begin or end after one instant and not after another, in order of time. Windows of
    /// the week are left out: they change every day.
    #[must_use]
    pub fn changes(&self, after: UnixTime, until: UnixTime) -> Vec<Change<'_>> {
        let listed = self.models().flat_map(|model| model.rows);
        let mut times = BTreeSet::new();
        for row in listed.chain(self.own_rows()) {
            let terms = row.terms();
            if terms.withdrawn.is_some() || !terms.window.is_always() || terms.region.is_some() {
                continue;
            }
            for at in [terms.from, terms.until].into_iter().flatten() {
                if at > after && at <= until {
                    times.insert((at, row.provider(), row.model(), row.tier()));
                }
            }
        }
        let mut changes = Vec::new();
        for (at, provider, model, tier) in times {
            let quote = |at| self.quote(&Key::new(provider, model, at).on(Some(tier))).ok();
            let last = UnixTime::from_nanos(at.nanos().saturating_sub(1));
            let (before, after) = (quote(last), quote(at));
            let ends = |row: Option<&PriceRow>| row.map(PriceRow::id);
            if ends(before) != ends(after) {
                changes.push(Change { at, before, after });
            }
        }
        changes
    }
}

impl Change<'_> {
    /// The prices that change.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference<'_>> {
        match (self.before, self.after) {
            (Some(before), Some(after)) => differences(before, after).collect(),
            _ => Vec::new(),
        }
    }
}

/// The prices of two rows that differ, below all thresholds and above each.
fn differences<'a>(
    ours: &'a PriceRow,
    theirs: &'a PriceRow,
) -> impl Iterator<Item = Difference<'a>> {
    let steps = |row: &PriceRow| {
        let prices = row.prices().iter().flat_map(|(_, price)| price.steps());
        prices.map(|(threshold, _)| *threshold).collect::<BTreeSet<u64>>()
    };
    let mut thresholds = steps(ours);
    thresholds.extend(steps(theirs));
    thresholds.insert(0);
    Billable::all().flat_map(move |item| {
        let price = |row: &PriceRow, above: u64| {
            let price = row.price(item)?;
            Some(price.at_input(above.saturating_add(1)).price())
        };
        let mut last = None;
        let differing = thresholds.iter().filter_map(|&above| {
            let (our_price, their_price) = (price(ours, above), price(theirs, above));
            // Above a threshold that changes neither, nothing is new.
            let repeated = last.replace((our_price, their_price)) == Some((our_price, their_price));
            (our_price != their_price && !repeated).then_some(Difference {
                ours,
                theirs,
                item,
                above,
                our_price,
                their_price,
            })
        });
        differing.collect::<Vec<_>>()
    })
}

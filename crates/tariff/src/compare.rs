//! Where books disagree, and which prices are going to change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quantity::{Billable, UnitPrice, UnixTime};

use crate::book::{Book, Key};
use crate::row::{Price, PriceRow};
use crate::window::Window;

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

/// A price that is another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// When the later one is in force.
    pub at: UnixTime,
    /// The row before; `None` where there was no price.
    pub before: Option<&'a PriceRow>,
    /// The row after; `None` where there is no price any more.
    pub after: Option<&'a PriceRow>,
}

/// A book at an instant: the prices that are in force then.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// The book.
    pub book: &'a Book,
    /// The instant.
    pub at: UnixTime,
}

/// From one sheet to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// What appeared, vanished or has another price, by provider, model and tier.
    pub all: Vec<Change<'a>>,
    /// Rows that have the same prices.
    pub same: usize,
}

/// What rows can be for, beside the part of the week: its rows may differ in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot<'a> {
    provider: &'a str,
    model: &'a str,
    tier: &'a str,
    region: Option<&'a str>,
}

impl<'a> Slot<'a> {
    fn of(row: &'a PriceRow) -> Self {
        let (provider, model, tier) = (row.provider(), row.model(), row.tier());
        Self { provider, model, tier, region: row.terms().region.as_deref() }
    }
}

/// Each slot with the parts of the week that some of its rows are limited to.
type Slots<'a> = BTreeMap<Slot<'a>, Vec<&'a Window>>;

fn slots<'a>(rows: impl Iterator<Item = &'a PriceRow>) -> Slots<'a> {
    let mut slots = Slots::new();
    for row in rows {
        let windows = slots.entry(Slot::of(row)).or_default();
        let window = &row.terms().window;
        if !window.is_always() && !windows.contains(&window) {
            windows.push(window);
        }
    }
    slots
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
                let both = differences(ours, theirs, |row, item| row.price(item));
                let both = both.filter(|d| d.our_price.is_some() && d.their_price.is_some());
                comparison.differ.extend(both);
                if comparison.differ.len() == before {
                    comparison.agree = comparison.agree.saturating_add(1);
                }
            }
        }
        comparison
    }

    /// Prices that become others after one instant and not after another, in order of time. That it
    /// is another hour of the week is no change.
    #[must_use]
    pub fn changes(&self, after: UnixTime, until: UnixTime) -> Vec<Change<'_>> {
        let all = slots(self.every_row());
        let mut turns: BTreeMap<UnixTime, Slots<'_>> = BTreeMap::new();
        for row in self.every_row() {
            let slot = Slot::of(row);
            for at in row.turns().filter(|at| *at > after && *at <= until) {
                let windows = all.get(&slot).cloned().unwrap_or_default();
                turns.entry(at).or_default().insert(slot, windows);
            }
        }
        let changes = turns.into_iter().flat_map(|(at, slots)| {
            let after = Sheet { book: self, at };
            after.just_before().changes_within(&after, &slots).all
        });
        changes.collect()
    }

    fn every_row(&self) -> impl Iterator<Item = &PriceRow> {
        self.models().flat_map(|model| model.rows).chain(self.own_rows())
    }
}

impl<'a> Sheet<'a> {
    /// The same book at the last instant before.
    #[must_use]
    pub fn just_before(&self) -> Self {
        let at = UnixTime::from_nanos(self.at.nanos().saturating_sub(1));
        Self { book: self.book, at }
    }

    /// What is otherwise in a later sheet.
    #[must_use]
    pub fn changes_to(&self, later: &Self) -> Changes<'a> {
        let rows = self.book.every_row().chain(later.book.every_row());
        self.changes_within(later, &slots(rows))
    }

    fn changes_within(&self, later: &Self, slots: &Slots<'_>) -> Changes<'a> {
        let mut changes = Changes::default();
        let mut seen = BTreeSet::new();
        for (slot, windows) in slots {
            let Slot { provider, model, tier, region } = *slot;
            for hours_of in hours(windows) {
                let quote = |sheet: &Self| {
                    let key = Key { region, hours_of, ..Key::new(provider, model, sheet.at) };
                    sheet.book.quote(&key.on(Some(tier))).ok()
                };
                let (before, after) = (quote(self), quote(later));
                let rows = (before.map(PriceRow::id), after.map(PriceRow::id));
                if rows == (None, None) || !seen.insert(rows) {
                    continue;
                }
                let change = Change { at: later.at, before, after };
                match (before, after) {
                    (Some(_), Some(_)) if change.differences().is_empty() => {
                        changes.same = changes.same.saturating_add(1);
                    }
                    _ => changes.all.push(change),
                }
            }
        }
        changes
    }
}

/// An instant in each of some parts of the week, and one in none of them. Without any parts it is
/// the instant itself that counts.
fn hours(windows: &[&Window]) -> Vec<Option<UnixTime>> {
    if windows.is_empty() {
        return vec![None];
    }
    // Windows begin and end at whole quarters of an hour.
    let quarters = (0..7 * 24 * 4_u64).map(|quarter| quarter.saturating_mul(900));
    let steps = quarters.map(|seconds| UnixTime::from_nanos(0).plus(Duration::from_secs(seconds)));
    let inside = windows.iter().map(|window| steps.clone().find(|at| window.contains(*at)));
    let outside = steps.clone().find(|at| windows.iter().all(|window| !window.contains(*at)));
    inside.chain([outside]).flatten().map(Some).collect()
}

impl Change<'_> {
    /// The prices that change, those that a class has for want of its own included.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference<'_>> {
        let (Some(before), Some(after)) = (self.before, self.after) else { return Vec::new() };
        let own = |item| before.price(item).is_some() || after.price(item).is_some();
        let all =
            differences(before, after, |row, item| row.price_for(item).map(|(_, price)| price));
        all.filter(|one| own(one.item)).collect()
    }
}

/// The prices of two rows that differ, below all thresholds and above each.
fn differences<'a>(
    ours: &'a PriceRow,
    theirs: &'a PriceRow,
    price_of: impl Fn(&'a PriceRow, Billable) -> Option<&'a Price>,
) -> impl Iterator<Item = Difference<'a>> {
    let steps = |row: &PriceRow| {
        let prices = row.prices().iter().flat_map(|(_, price)| price.steps());
        prices.map(|(threshold, _)| *threshold).collect::<BTreeSet<u64>>()
    };
    let mut thresholds = steps(ours);
    thresholds.extend(steps(theirs));
    thresholds.insert(0);
    Billable::all().flat_map(move |item| {
        let price = |row: &'a PriceRow, above: u64| {
            let price = price_of(row, item)?;
            Some(price.rate_above(above.saturating_add(1)).price())
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

//! What GPUs are rented for: a small sheet of figures, each with its day and source.

use crate::scenario::Terms;
use crate::unit::PerHour;

const SHEET: &str = include_str!("../data/gpu_prices.txt");

/// What one provider asks for a GPU by the hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuPrice {
    /// The data sheet's name of the accelerator.
    pub accelerator: &'static str,
    /// How it is paid: `on_demand`, `marketplace`, `spot`, `reserved`.
    pub terms: &'static str,
    /// For a GPU.
    pub price: PerHour,
    /// GPUs that must be taken together.
    pub at_least: u32,
    /// The day on which it was so.
    pub as_of: &'static str,
    /// Who asks it.
    pub provider: &'static str,
    /// Where that is said.
    pub source: &'static str,
}

impl GpuPrice {
    fn read(line: &'static str) -> Option<Self> {
        let (row, source) = line.split_once(" | ")?;
        let mut cells = row.splitn(6, ' ');
        let mut next = || cells.next();
        Some(Self {
            accelerator: next()?,
            terms: next()?,
            price: PerHour::new(next()?.parse().ok()?),
            at_least: next()?.parse().ok()?,
            as_of: next()?,
            provider: next()?,
            source,
        })
    }

    /// All that the sheet has.
    pub fn all() -> impl Iterator<Item = Self> {
        SHEET.lines().filter(|line| !line.starts_with('#')).filter_map(Self::read)
    }

    /// The middle one of what is asked for an accelerator on these terms, of an even number the cheaper of both, and all of
    /// them from the cheapest on. Prices of marketplaces, which are of single hosts, are left out. `None`: nobody is known to
    /// ask.
    #[must_use]
    pub fn usual(accelerator: &str, terms: Terms) -> Option<(Self, Vec<Self>)> {
        let fits = |price: &Self| price.accelerator == accelerator && price.terms == terms.name();
        let mut all: Vec<Self> = Self::all().filter(fits).collect();
        all.sort_by(|one, other| one.price.usd().total_cmp(&other.price.usd()));
        let middle = *all.get(all.len().checked_sub(1)? / 2)?;
        Some((middle, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_sheet_is_read_and_has_its_day_and_source() {
        let lines = SHEET.lines().filter(|line| !line.starts_with('#')).count();
        let all: Vec<_> = GpuPrice::all().collect();
        assert_eq!(all.len(), lines);
        assert!(lines > 50);
        for row in all {
            assert!(row.price.usd() > 0.1 && row.price.usd() < 20.0, "{row:?}");
            assert!(row.as_of.len() == 10 && row.as_of.starts_with("2026-"), "{row:?}");
            assert!(!row.source.is_empty() && !row.provider.is_empty(), "{row:?}");
            assert!(
                ["on_demand", "marketplace", "spot", "reserved"].contains(&row.terms),
                "{row:?}"
            );
        }
    }

    #[test]
    fn the_usual_price_is_the_middle_of_those_that_are_asked() {
        let (usual, all) = GpuPrice::usual("h100-sxm", Terms::OnDemand).unwrap();
        let below = all.iter().filter(|one| one.price < usual.price).count();
        let above = all.iter().filter(|one| one.price > usual.price).count();
        assert!(all.len() > 5 && below <= all.len() / 2 && above <= all.len() / 2, "{all:?}");
        assert_eq!(GpuPrice::usual("tpu-v5e", Terms::OnDemand), None);
        assert_eq!(GpuPrice::usual("h100-sxm", Terms::Owned), None);
    }
}

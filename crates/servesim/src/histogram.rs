//! How times are distributed, in bins so narrow that a quantile is right to 0.8 %.

use crate::progression::Progression;

/// Each power of two is divided into so many bins.
const FINE: u64 = 1 << FINE_BITS;
const FINE_BITS: u32 = 7;

/// Counts of times, in picoseconds.
///
/// Bins are at most 1/128 of their lower edge wide. The count, the sum, and so the mean are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// From the first that has a time in it to the last.
    bins: Vec<u64>,
    /// Which bin that first one is.
    first: usize,
    count: u64,
    sum_ps: u128,
}

/// The bin of a time: the times below 256 have one each, then come 128 for each power of two.
#[inline]
fn bin(time: u64) -> usize {
    let scale = (time >> FINE_BITS).checked_ilog2().unwrap_or(0);
    usize::try_from(u64::from(scale) * FINE + (time >> scale)).expect("less than 8,192")
}

/// The least time that is in a bin.
#[inline]
fn lower_edge(bin: usize) -> u64 {
    let bin = bin as u64;
    let scale = (bin / FINE).saturating_sub(1);
    (bin - scale * FINE) << scale
}

impl Histogram {
    /// Adds a time, so often.
    #[inline]
    pub fn add(&mut self, time: u64, times: u64) {
        self.count += times;
        self.sum_ps += u128::from(time) * u128::from(times);
        self.add_to(bin(time), times);
    }

    /// Adds the times of so many steps, each so often.
    #[inline]
    pub(crate) fn add_steps(&mut self, steps: Progression, number: u64, times: u64) {
        if number == 0 || times == 0 {
            return;
        }
        self.count += number * times;
        self.sum_ps += u128::from(steps.sum(number)) * u128::from(times);
        let last = bin(steps.first + steps.rise * (number - 1));
        let mut at = bin(steps.first);
        let mut done = 0;
        while at < last {
            // The steps below the next bin's edge; there is a rise, for the last is in another.
            let below = (lower_edge(at + 1) - steps.first).div_ceil(steps.rise);
            self.add_to(at, (below - done) * times);
            done = below;
            at = bin(steps.first + steps.rise * below);
        }
        self.add_to(last, (number - done) * times);
    }

    #[inline]
    fn add_to(&mut self, bin: usize, times: u64) {
        if times == 0 {
            return;
        }
        match self.bins.get_mut(bin.wrapping_sub(self.first)) {
            Some(counted) => *counted += times,
            None => self.widen_to(bin, times),
        }
    }

    /// Adds to a bin that is not there yet.
    #[cold]
    fn widen_to(&mut self, bin: usize, times: u64) {
        if self.bins.is_empty() {
            self.first = bin;
        }
        let missing = self.first.saturating_sub(bin);
        self.bins.splice(..0, std::iter::repeat_n(0, missing));
        self.first -= missing;
        let at = bin - self.first;
        self.bins.resize(self.bins.len().max(at + 1), 0);
        self.bins[at] = times;
    }

    /// Takes in another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ps += other.sum_ps;
        for (bin, &times) in (other.first..).zip(&other.bins) {
            self.add_to(bin, times);
        }
    }

    /// How many times were added.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, exact.
    #[must_use]
    pub const fn sum_ps(&self) -> u128 {
        self.sum_ps
    }

    /// Their mean in picoseconds; `None` if there are none.
    #[must_use]
    pub fn mean_ps(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ps as f64 / self.count as f64)
    }

    /// The time that a share of all (from 0 to 1) does not exceed, in picoseconds, to 0.8 %: the
    /// middle of the bin that it is in. `None` if there are none.
    #[must_use]
    pub fn quantile_ps(&self, share: f64) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the range of the target"
        )]
        let rank = ((share * self.count as f64).ceil().max(1.0) as u64).min(self.count);
        let mut seen = 0;
        let found = self.bins.iter().position(|&times| {
            seen += times;
            rank > 0 && seen >= rank
        });
        let found = found.map(|at| self.first + at);
        found.map(|bin| lower_edge(bin).midpoint(lower_edge(bin + 1) - 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bin_holds_its_edge_and_what_is_less_than_a_128th_above(
            time in prop_oneof![0_u64..2000, 0_u64..1 << 62],
        ) {
            let bin_of_it = bin(time);
            let (lower, next) = (lower_edge(bin_of_it), lower_edge(bin_of_it + 1));
            prop_assert!(lower <= time && time < next);
            prop_assert!(next - lower <= 1.max(lower / 128));
            prop_assert_eq!((bin(lower), bin(next)), (bin_of_it, bin_of_it + 1));
        }

        #[test]
        fn steps_are_added_as_if_one_by_one(
            first in 0_u64..5_000, rise in prop_oneof![Just(0), 0_u64..3, 0_u64..400],
            number in 0_u64..300, times in 0_u64..4,
        ) {
            let (mut all, mut each) = (Histogram::default(), Histogram::default());
            all.add_steps(Progression { first, rise }, number, times);
            for step in 0..number {
                each.add(first + rise * step, times);
            }
            prop_assert_eq!(all, each);
        }

        #[test]
        fn a_quantile_is_right_to_its_bin(
            mut times in prop::collection::vec(0_u64..1 << 50, 1..50), share in 0.0_f64..=1.0,
        ) {
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            for (index, &time) in times.iter().enumerate() {
                if index % 3 == 0 { left.add(time, 1) } else { right.add(time, 1) }
            }
            left.merge(&right);
            times.sort_unstable();
            let rank = |index: &usize| *index as f64 >= share * times.len() as f64;
            let rank = (1..=times.len()).find(rank).unwrap();
            let found = left.quantile_ps(share).unwrap();
            prop_assert_eq!(bin(found), bin(times[rank - 1]));
            prop_assert_eq!(left.sum_ps(), times.iter().map(|&time| u128::from(time)).sum::<u128>());
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile_ps(0.5), None);
        assert_eq!(Histogram::default().mean_ps(), None);
    }
}

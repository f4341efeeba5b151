//! Measures as a row of whole numbers, in a fixed order.

use facts::{Compared, Measures, Tally, Told, WasteCause};
use quantity::{Doubt, Money, PerClass, TokenClass};

/// How many numbers measures are.
pub(crate) const FLAT: usize = BEFORE_TOLD + TOLD;
/// Those of format 8 and before, which had no costs told by providers.
const BEFORE_TOLD: usize = 14 + 3 * CLASSES + 3 * TALLIES + 2 * CAUSES;
const CLASSES: usize = TokenClass::ALL.len();
/// Of estimated, learned and doubtful attempts, and by doubt.
const TALLIES: usize = 3 + Doubt::ALL.len();
const CAUSES: usize = WasteCause::ALL.len();
const TOLD: usize = 9;

/// The numbers. Those of classes and doubts stand in the order of their numbers; a cause of waste has
/// two, how often it is there and its cost, for waste that cost nothing is there too. What was added
/// to them later stands last: to a projection of a format before, it is zero, for there was none.
pub(crate) fn numbers(measures: &Measures) -> [i128; FLAT] {
    // Taken apart whole, so that a new measure cannot be forgotten here.
    let Measures {
        exchanges,
        completed,
        attempts,
        tokens,
        priced_tokens,
        cost,
        list_cost,
        cost_by_class,
        cost_of_units,
        estimated,
        learned,
        unknown,
        unknown_bound,
        unbounded,
        doubtful,
        doubts,
        unpriced,
        unpriced_tokens,
        hosted,
        hosted_cost,
        useful_input,
        useful_output,
        waste,
        told,
    } = measures;
    let counts = [exchanges, completed, attempts, unknown, unpriced, unpriced_tokens];
    let counts = counts.into_iter().chain([hosted, useful_input, useful_output, unbounded]);
    let money = [cost, list_cost, cost_of_units, unknown_bound];
    let by_doubt = Doubt::ALL.iter().map(|doubt| doubts.get(doubt).copied().unwrap_or_default());
    let tallies = [*estimated, *learned, *doubtful].into_iter().chain(by_doubt);
    let per_class = |counts: &PerClass<u64>| {
        counts.iter().map(|(_, count)| i128::from(*count)).collect::<Vec<_>>()
    };
    let waste = WasteCause::ALL.iter().flat_map(|cause| {
        let cost = waste.get(cause);
        [i128::from(cost.is_some()), cost.map_or(0, |cost| cost.pico())]
    });
    let Told { compared, apart, unpriced: told_unpriced, unpriced_cost, refused } = told;
    let pair = |of: &Compared| [i128::from(of.attempts), of.ours.pico(), of.theirs.pico()];
    let told = pair(compared).into_iter().chain(pair(apart));
    let told = told.chain([i128::from(*told_unpriced), unpriced_cost.pico(), i128::from(*refused)]);
    debug_assert_eq!(
        *hosted_cost,
        Money::ZERO,
        "shares of hours are made when a query is answered"
    );
    let mut all = counts
        .map(|count| i128::from(*count))
        .chain(money.map(|money| money.pico()))
        .chain(per_class(tokens))
        .chain(per_class(priced_tokens))
        .chain(cost_by_class.iter().map(|(_, cost)| cost.pico()))
        .chain(tallies.flat_map(|tally| {
            [i128::from(tally.attempts), i128::from(tally.priced), tally.cost.pico()]
        }))
        .chain(waste)
        .chain(told);
    std::array::from_fn(|_| all.next().unwrap_or(0))
}

/// The measures that sums of such numbers are.
pub(crate) fn measures(sums: &[i128; FLAT]) -> Measures {
    let mut sums = sums.iter().copied();
    let mut next = || sums.next().unwrap_or(0);
    // Sums of counts fit: a rollup adds them up in u64.
    let count = |sum: i128| u64::try_from(sum).unwrap_or(u64::MAX);
    let [exchanges, completed, attempts, unknown, unpriced, unpriced_tokens] =
        std::array::from_fn(|_| count(next()));
    let [hosted, useful_input, useful_output, unbounded] = std::array::from_fn(|_| count(next()));
    let [cost, list_cost, cost_of_units, unknown_bound] =
        std::array::from_fn(|_| Money::from_pico(next()));
    let tokens = PerClass::from_fn(|_| count(next()));
    let priced_tokens = PerClass::from_fn(|_| count(next()));
    let cost_by_class = PerClass::from_fn(|_| Money::from_pico(next()));
    let mut tally =
        || Tally { attempts: count(next()), priced: count(next()), cost: Money::from_pico(next()) };
    let [estimated, learned, doubtful] = std::array::from_fn(|_| tally());
    let doubts = Doubt::ALL.iter().map(|doubt| (*doubt, tally()));
    let doubts = doubts.filter(|(_, tally)| tally.attempts > 0).collect();
    let waste = WasteCause::ALL.iter().map(|cause| (*cause, next(), Money::from_pico(next())));
    let waste = waste.filter(|(_, there, _)| *there > 0).map(|(cause, _, cost)| (cause, cost));
    let waste = waste.collect();
    let pair = |next: &mut dyn FnMut() -> i128| Compared {
        attempts: count(next()),
        ours: Money::from_pico(next()),
        theirs: Money::from_pico(next()),
    };
    let told = Told {
        compared: pair(&mut next),
        apart: pair(&mut next),
        unpriced: count(next()),
        unpriced_cost: Money::from_pico(next()),
        refused: count(next()),
    };
    Measures {
        waste,
        told,
        exchanges,
        completed,
        attempts,
        tokens,
        priced_tokens,
        cost,
        list_cost,
        cost_by_class,
        cost_of_units,
        estimated,
        learned,
        unknown,
        unknown_bound,
        unbounded,
        doubtful,
        doubts,
        unpriced,
        unpriced_tokens,
        hosted,
        hosted_cost: Money::ZERO,
        useful_input,
        useful_output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_the_measures_they_were() {
        let ones: [i128; FLAT] = std::array::from_fn(|place| place as i128 + 1);
        let measures = measures(&ones);
        let causes = BEFORE_TOLD - 2 * CAUSES..BEFORE_TOLD;
        assert_eq!(numbers(&measures)[..causes.start], ones[..causes.start]);
        assert_eq!(numbers(&measures)[causes.end..], ones[causes.end..]);
        for (pair, stored) in
            numbers(&measures)[causes.clone()].chunks(2).zip(ones[causes].chunks(2))
        {
            assert_eq!((pair[0], pair[1]), (1, stored[1]));
        }
    }
}

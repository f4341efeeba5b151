//! What providers say themselves that attempts cost. It never takes the place of a charge; it stands
//! beside it, so that a wrong price is seen.

use quantity::Money;

/// What a provider said that an attempt cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldCost {
    /// So much; what it told beyond a pico-dollar is rounded half to even.
    Of(Money),
    /// What it told is no cost: negative, broken, absurd or in another currency.
    Refused,
}

impl ToldCost {
    /// The amount, where it is one.
    #[must_use]
    pub fn amount(self) -> Option<Money> {
        match self {
            Self::Of(amount) => Some(amount),
            Self::Refused => None,
        }
    }
}

/// Costs of attempts, ours beside what their providers told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    /// How many.
    pub attempts: u64,
    /// What we charge for them, adjustments apart.
    pub ours: Money,
    /// What was told for them.
    pub theirs: Money,
}

impl Compared {
    /// What was told beyond what we charge; negative where less was told.
    #[must_use]
    pub fn difference(&self) -> Money {
        self.theirs - self.ours
    }

    /// Whether the costs of one attempt differ by more than 1 % of what was told, and by more than a
    /// provider's rounding may explain.
    #[must_use]
    pub fn is_apart(ours: Money, theirs: Money) -> bool {
        /// The coarsest that providers round to, pico-dollars: of xAI and OpenRouter it is 10^-8
        /// dollars or less.
        const ROUNDING: u128 = 10_000;
        let difference = (theirs - ours).pico().unsigned_abs();
        let hundredfold = difference.saturating_mul(100);
        difference > ROUNDING && hundredfold > theirs.pico().unsigned_abs()
    }

    fn add(&mut self, ours: Money, theirs: Money) {
        self.attempts += 1;
        self.ours += ours;
        self.theirs += theirs;
    }

    fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.ours += other.ours;
        self.theirs += other.theirs;
    }
}

/// What providers told of the costs of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Attempts of which we know the cost as well.
    pub compared: Compared,
    /// Those of them whose costs are apart; see [`Compared::is_apart`].
    pub apart: Compared,
    /// Attempts that have no cost by the token here.
    pub unpriced: u64,
    /// What was told for them.
    pub unpriced_cost: Money,
    /// Attempts whose provider told something that is no cost.
    pub refused: u64,
}

impl Told {
    /// Attempts whose provider told what they cost.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.compared.attempts + self.unpriced
    }

    /// What was told for all of them.
    #[must_use]
    pub fn cost(&self) -> Money {
        self.compared.theirs + self.unpriced_cost
    }

    pub(crate) fn add(&mut self, told: ToldCost, ours: Option<Money>) {
        match (told, ours) {
            (ToldCost::Refused, _) => self.refused += 1,
            (ToldCost::Of(theirs), Some(ours)) => {
                self.compared.add(ours, theirs);
                if Compared::is_apart(ours, theirs) {
                    self.apart.add(ours, theirs);
                }
            }
            (ToldCost::Of(theirs), None) => {
                self.unpriced += 1;
                self.unpriced_cost += theirs;
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.compared.merge(&other.compared);
        self.apart.merge(&other.apart);
        self.unpriced += other.unpriced;
        self.unpriced_cost += other.unpriced_cost;
        self.refused += other.refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_apart_beyond_a_percent_and_a_rounding() {
        let apart = |ours: i128, theirs: i128| {
            Compared::is_apart(Money::from_pico(ours), Money::from_pico(theirs))
        };
        assert!(!apart(990_000_000, 1_000_000_000) && !apart(1_010_000_000, 1_000_000_000));
        assert!(apart(989_999_999, 1_000_000_000) && apart(1_010_000_001, 1_000_000_000));
        assert!(apart(20_000, 0) && apart(0, 20_000));
        assert!(!apart(10_000, 0) && !apart(25_000, 35_000), "a rounding explains it");
        assert!(apart(i128::MAX, 0), "whatever is booked");
    }
}

//! Modelled money by what it is counted by.

use std::iter::Sum;
use std::ops::{Add, Mul, Sub};

use quantity::EstimatedUsd;

/// Hours of a month, wherever a month's money becomes an hour's: a twelfth of a year of 365 days.
pub const HOURS_PER_MONTH: f64 = 730.0;
/// Hours of a year of 365 days.
pub const HOURS_PER_YEAR: f64 = 8_760.0;

/// A number that stays one: beyond the largest it is the largest, and so is what is no number. It never becomes nothing,
/// for what is not known is not zero.
fn finite(usd: f64) -> f64 {
    if usd.is_nan() { f64::MAX } else { usd.clamp(f64::MIN, f64::MAX) }
}

macro_rules! modelled {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
        pub struct $name(f64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0.0);

            /// So many US dollars; what is beyond the largest number is the largest.
            #[must_use]
            pub fn new(usd: f64) -> Self {
                Self(finite(usd))
            }

            /// The number of dollars.
            #[must_use]
            pub const fn usd(self) -> f64 {
                self.0
            }

            /// The dollars of so many of what it is counted by.
            #[must_use]
            pub fn of(self, count: f64) -> EstimatedUsd {
                EstimatedUsd::new(finite(self.0 * count)).expect("finite by construction")
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self::new(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self::new(self.0 - other.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self::new(self.0 * factor)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::ZERO, Self::add)
            }
        }
    };
}

modelled!(
    /// US dollars an hour, of a wall clock unless a name says of what.
    PerHour
);
modelled!(
    /// US dollars a month of 730 hours.
    PerMonth
);
modelled!(
    /// US dollars a year of 8,760 hours.
    PerYear
);
modelled!(
    /// US dollars for a million tokens.
    PerMtok
);

impl PerHour {
    /// The same for a month.
    #[must_use]
    pub fn per_month(self) -> PerMonth {
        PerMonth::new(self.0 * HOURS_PER_MONTH)
    }

    /// Cost per Mtok: hourly cost over useful tokens an hour, times a million. `None` if nothing useful came of the hour.
    #[must_use]
    pub fn per_mtok(self, useful_tokens_per_hour: f64) -> Option<PerMtok> {
        (useful_tokens_per_hour > 0.0).then(|| PerMtok::new(self.0 / useful_tokens_per_hour * 1e6))
    }
}

impl PerMonth {
    /// The same for an hour.
    #[must_use]
    pub fn per_hour(self) -> PerHour {
        PerHour::new(self.0 / HOURS_PER_MONTH)
    }

    /// Cost per Mtok of so many tokens a month; `None` without any.
    #[must_use]
    pub fn per_mtok(self, tokens_per_month: f64) -> Option<PerMtok> {
        (tokens_per_month > 0.0).then(|| PerMtok::new(self.0 / tokens_per_month * 1e6))
    }

    /// The part of it that falls on each of so many a month; `None` without any.
    #[must_use]
    pub fn each(self, count_per_month: f64) -> Option<EstimatedUsd> {
        let some = count_per_month > 0.0;
        some.then(|| EstimatedUsd::new(finite(self.0 / count_per_month))).flatten()
    }
}

impl PerYear {
    /// The same for an hour.
    #[must_use]
    pub fn per_hour(self) -> PerHour {
        PerHour::new(self.0 / HOURS_PER_YEAR)
    }

    /// The same for a month.
    #[must_use]
    pub fn per_month(self) -> PerMonth {
        PerMonth::new(self.0 / 12.0)
    }
}

impl PerMtok {
    /// What so many tokens a month cost.
    #[must_use]
    pub fn per_month(self, tokens_per_month: f64) -> PerMonth {
        PerMonth::new(self.0 * tokens_per_month / 1e6)
    }

    /// The price after so many months in which it changes by a share each: `p (1 + change)^months`.
    #[must_use]
    pub fn after(self, months: f64, monthly_change: f64) -> Self {
        Self::new(self.0 * libm::pow((1.0 + monthly_change).max(0.0), months))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_730_hours_and_twelve_are_a_year() {
        assert_eq!(PerHour::new(2.0).per_month(), PerMonth::new(1_460.0));
        assert_eq!(PerHour::new(2.0).per_month().per_hour(), PerHour::new(2.0));
        assert_eq!(PerYear::new(8_760.0).per_hour(), PerHour::new(1.0));
        assert_eq!(PerYear::new(8_760.0).per_month(), PerHour::new(1.0).per_month());
    }

    #[test]
    fn no_arithmetic_leaves_the_numbers_or_turns_into_nothing() {
        let most = PerHour::new(f64::MAX);
        assert_eq!(most + most, most);
        assert_eq!(PerHour::new(f64::NAN), most);
        assert_eq!((most * f64::INFINITY).of(2.0).usd(), f64::MAX);
        assert_eq!(most.per_mtok(0.0), None);
        assert_eq!(PerMonth::new(5.0).each(0.0), None);
    }
}

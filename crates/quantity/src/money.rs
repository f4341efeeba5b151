//! Exact money. Nothing here rounds but where a name says so.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::float_arithmetic))]

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use crate::TokenCount;
use crate::text::group_digits;

/// The asset scale: digits after the point of a dollar that a pico-dollar needs.
const SCALE: u32 = 12;

/// A signed amount of US dollars, exact to 10⁻¹² USD.
///
/// Arithmetic is checked: i128 holds 1.7 × 10²⁶ dollars, so an overflow is a defect and stops the
/// program rather than booking a wrong amount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i128);

impl Money {
    /// No money at all. A missing amount is `Option::None`, never this.
    pub const ZERO: Self = Self(0);

    /// An amount of pico-dollars.
    #[must_use]
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// The amount in pico-dollars.
    #[must_use]
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// Reads an amount that someone else reckoned, in units of 10^-`power` dollars: `0.0042`,
    /// `1.2e-05`. However many digits it has, it is rounded half to even once to a pico-dollar; the
    /// flag tells whether it was exact.
    ///
    /// # Errors
    /// [`ParseMoneyError`] for anything but a non-negative decimal in range.
    pub fn rounded_from(text: &str, power: u32) -> Result<(Self, bool), ParseMoneyError> {
        let error = || ParseMoneyError(text.to_owned());
        let scale = SCALE.checked_sub(power).ok_or_else(error)?;
        let decimal = Decimal::parse_long(text).ok_or_else(error)?;
        let (pico, exact) = decimal.at_scale(scale).ok_or_else(error)?;
        Ok((Self(i128::try_from(pico).map_err(|_| error())?), exact))
    }

    /// `self × numerator / denominator`, rounded half to even: for hours, shares and other divisions.
    ///
    /// `None` if the denominator is not positive or the product leaves i128.
    #[must_use]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Option<Self> {
        let product = self.0.checked_mul(i128::from(numerator))?;
        div_half_even(product, i128::from(denominator)).map(Self)
    }

    /// Splits the amount by weight into parts that sum to it exactly (largest remainder; ties go to
    /// the earlier part). `None` when no weight is positive, for then there is no one to pay.
    ///
    /// # Panics
    /// If the magnitude times a weight leaves i128; weights up to 2⁶⁴ and amounts up to a million
    /// dollars are safe.
    #[must_use]
    pub fn allocate(self, weights: &[u64]) -> Option<Vec<Self>> {
        let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
        if total == 0 {
            return None;
        }
        let magnitude = self.0.unsigned_abs();
        let mut shares = Vec::with_capacity(weights.len());
        let mut remainders = Vec::with_capacity(weights.len());
        let mut given: u128 = 0;
        for (index, &weight) in weights.iter().enumerate() {
            let product = magnitude.checked_mul(u128::from(weight)).expect("allocation in range");
            let share = product.checked_div(total).expect("total is positive");
            remainders.push((product.checked_rem(total).expect("total is positive"), index));
            given = given.checked_add(share).expect("shares are at most the whole");
            shares.push(share);
        }
        let left = magnitude.checked_sub(given).expect("shares are at most the whole");
        remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, index) in remainders.iter().take(usize::try_from(left).expect("under one each")) {
            shares[index] = shares[index].checked_add(1).expect("shares are at most the whole");
        }
        let sign = self.0.signum();
        Some(
            shares
                .into_iter()
                .map(|share| i128::try_from(share).expect("at most the magnitude"))
                .map(|share| Self(share.checked_mul(sign).expect("sign is -1, 0 or 1")))
                .collect(),
        )
    }

    /// The amount as dollars with `decimals` digits after the point, rounded half to even, digits
    /// grouped: `1,234.50`. For people; the exact text is [`fmt::Display`].
    #[must_use]
    pub fn rounded(self, decimals: u32) -> String {
        let drop = SCALE.saturating_sub(decimals);
        let unit = 10_i128.pow(drop);
        let shown = div_half_even(self.0, unit).expect("unit is positive");
        let digits = shown.unsigned_abs().to_string();
        let decimals = decimals.min(SCALE) as usize;
        let digits = format!("{digits:0>width$}", width = decimals.saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        let sign = if shown < 0 { "-" } else { "" };
        let whole = group_digits(whole);
        if decimals == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }
}

fn div_half_even(value: i128, divisor: i128) -> Option<i128> {
    if divisor <= 0 {
        return None;
    }
    let quotient = value.div_euclid(divisor);
    let twice = value.rem_euclid(divisor).checked_mul(2)?;
    let up = match twice.cmp(&divisor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => quotient.rem_euclid(2) == 1,
    };
    if up { quotient.checked_add(1) } else { Some(quotient) }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("money stays within i128 pico-dollars"))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("money stays within i128 pico-dollars"))
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// The exact amount in dollars, shortest form: `0.0000375`, `-12.5`, `3`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        f.write_str(sign)?;
        write_decimal(f, self.0.unsigned_abs(), SCALE)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, value: u128, scale: u32) -> fmt::Result {
    let scale = scale as usize;
    let digits = format!("{value:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { f.write_str(whole) } else { write!(f, "{whole}.{fraction}") }
}

/// An amount that is not a decimal number of dollars, exact to a pico-dollar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected US dollars as a decimal with at most 12 digits after the point, found `{0}`")]
pub struct ParseMoneyError(String);

impl FromStr for Money {
    type Err = ParseMoneyError;
    fn from_str(text: &str) -> Result<Self, ParseMoneyError> {
        let error = || ParseMoneyError(text.to_owned());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let decimal = Decimal::parse(digits).ok_or_else(error)?;
        let (pico, exact) = decimal.at_scale(SCALE).ok_or_else(error)?;
        let pico = i128::try_from(pico).ok().filter(|_| exact).ok_or_else(error)?;
        Ok(if negative { -Self(pico) } else { Self(pico) })
    }
}

/// Pico-dollars for one unit: a token, a call, a search. Equals micro-dollars per million tokens,
/// so that $0.0375 per Mtok is the integer 37,500. At most 2⁶³ − 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPrice(u64);

/// A price that is not a plain decimal, or is beyond 2⁶³ − 1 pico-dollars a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a price in US dollars as a plain decimal, such as `2.50`, found `{0}`")]
pub struct ParsePriceError(String);

impl UnitPrice {
    /// Free of charge, as a price book says it. An unknown price is `None`, never this.
    pub const FREE: Self = Self(0);

    /// A price in pico-dollars a unit; `None` beyond 2⁶³ − 1.
    #[must_use]
    pub const fn from_pico(pico: u64) -> Option<Self> {
        if pico > i64::MAX as u64 { None } else { Some(Self(pico)) }
    }

    /// The price in pico-dollars a unit.
    #[must_use]
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// Reads dollars per million units (`2.50`, `1e-3`), rounding half to even once to a pico-dollar
    /// per unit; the flag tells whether the text was exact.
    ///
    /// # Errors
    /// [`ParsePriceError`] for anything but a non-negative decimal in range.
    pub fn from_usd_per_million(text: &str) -> Result<(Self, bool), ParsePriceError> {
        Self::from_usd_per(text, 6)
    }

    /// Reads dollars per 10^`power` units, rounding half to even once; as
    /// [`Self::from_usd_per_million`], which is power 6. Power 0 is dollars per unit.
    ///
    /// # Errors
    /// [`ParsePriceError`] for anything but a non-negative decimal in range.
    pub fn from_usd_per(text: &str, power: u32) -> Result<(Self, bool), ParsePriceError> {
        let error = || ParsePriceError(text.to_owned());
        let scale = SCALE.checked_sub(power).ok_or_else(error)?;
        let (pico, exact) =
            Decimal::parse(text).and_then(|d| d.at_scale(scale)).ok_or_else(error)?;
        let price = u64::try_from(pico).ok().and_then(Self::from_pico).ok_or_else(error)?;
        Ok((price, exact))
    }

    /// What `count` units cost. Exact: both factors are below 2⁶³.
    #[must_use]
    pub fn times(self, count: TokenCount) -> Money {
        let product = i128::from(self.0).checked_mul(i128::from(count.get()));
        Money(product.expect("two factors below 2^63 fit i128"))
    }

    /// Dollars per million units, shortest exact form: `0.0375`.
    #[must_use]
    pub fn usd_per_million(self) -> String {
        struct Text(u64);
        impl fmt::Display for Text {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_decimal(f, u128::from(self.0), 6)
            }
        }
        Text(self.0).to_string()
    }
}

impl fmt::Debug for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}/M", self.usd_per_million())
    }
}

/// A non-negative decimal as its digits and the power of ten below them; never a float.
struct Decimal {
    digits: u128,
    /// Digits after the point; negative for `1e3`.
    scale: i32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction, exponent) = Self::parts(text)?;
        let digits = format!("{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        Some(Self { digits, scale })
    }

    /// As [`Self::parse`], however many digits there are. Beyond the first 36 that count, all that
    /// rounding asks is whether any is more than zero: one digit says so.
    fn parse_long(text: &str) -> Option<Self> {
        const KEPT: usize = 36;
        let (whole, fraction, exponent) = Self::parts(text)?;
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let Some((kept, cut)) = digits.split_at_checked(KEPT) else { return Self::parse(text) };
        let more = u8::from(cut.bytes().any(|digit| digit != b'0'));
        let digits = format!("{kept}{more}").parse().ok()?;
        let cut = i32::try_from(cut.len()).ok()?.checked_sub(1)?;
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?.checked_sub(cut)?;
        Some(Self { digits, scale })
    }

    /// The digits before and after the point, and the exponent.
    fn parts(text: &str) -> Option<(&str, &str, i32)> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) || exponent.abs() > 40 {
            return None;
        }
        Some((whole, fraction, exponent))
    }

    /// The value × 10^`scale` as an integer, half to even, and whether that was exact.
    fn at_scale(&self, scale: u32) -> Option<(u128, bool)> {
        let shift = i32::try_from(scale).ok()?.checked_sub(self.scale)?;
        let power = 10_u128.checked_pow(shift.unsigned_abs());
        if shift >= 0 {
            return Some((self.digits.checked_mul(power?)?, true));
        }
        let Some(power) = power else { return Some((0, self.digits == 0)) };
        let digits = i128::try_from(self.digits).ok()?;
        let divisor = i128::try_from(power).ok()?;
        let value = u128::try_from(div_half_even(digits, divisor)?).ok()?;
        Some((value, self.digits.checked_rem(power)? == 0))
    }
}

/// A modelled amount of US dollars: a forecast, never booked.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct EstimatedUsd(f64);

impl EstimatedUsd {
    /// A finite number of dollars; `None` for NaN and infinities.
    #[must_use]
    pub fn new(usd: f64) -> Option<Self> {
        usd.is_finite().then_some(Self(usd))
    }

    /// The number of dollars.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_prices_are_integers() {
        for (text, pico) in [("0.0375", 37_500), ("2.50", 2_500_000), ("10", 10_000_000)] {
            assert_eq!(UnitPrice::from_usd_per_million(text).unwrap(), (UnitPrice(pico), true));
        }
        assert_eq!(UnitPrice::from_usd_per("10", 3).unwrap().0.pico(), 10_000_000_000);
        assert_eq!(UnitPrice::from_usd_per_million("1e-2").unwrap().0.pico(), 10_000);
    }

    #[test]
    fn a_price_below_a_pico_dollar_rounds_half_to_even_once() {
        for (text, pico) in [("0.0000005", 0), ("0.0000015", 2), ("0.0000025", 2)] {
            assert_eq!(UnitPrice::from_usd_per_million(text).unwrap(), (UnitPrice(pico), false));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1,0", "0x1", "NaN", "1e99", "９"] {
            assert!(UnitPrice::from_usd_per_million(text).is_err(), "{text}");
        }
        assert!("0.0000000000001".parse::<Money>().is_err());
    }

    #[test]
    fn what_others_reckoned_is_rounded_half_to_even_once_and_never_through_a_float() {
        let read = |text: &str, power| {
            let (amount, exact) = Money::rounded_from(text, power).unwrap();
            (amount.pico(), exact)
        };
        for (text, pico, exact) in [
            ("0.0042", 4_200_000_000, true),
            ("1.2e-05", 12_000_000, true),
            ("1.2E-5", 12_000_000, true),
            ("0.00011018000000000001", 110_180_000, false),
            ("2.5e-12", 2, false),
            ("3.5e-12", 4, false),
            ("0.0000000000025000000000000000000000000000000000000000000001", 3, false),
            ("0.0000000000025000000000000000000000000000000000000000000000", 2, false),
            // The whole expansion of the double that is closest to a tenth.
            ("0.1000000000000000055511151231257827021181583404541015625", 100_000_000_000, false),
            ("7", 7_000_000_000_000, true),
            ("1e3", 1_000_000_000_000_000, true),
            ("0e-40", 0, true),
        ] {
            assert_eq!(read(text, 0), (pico, exact), "{text}");
        }
        assert_eq!(read("37756000", 10), (3_775_600_000, true), "ticks of 10^-10 dollars");
        for text in ["", "-1", "-0.0", "+1", "NaN", "Infinity", "1e99", "1e-99", ".5", "1,5", "1 "]
        {
            assert!(Money::rounded_from(text, 0).is_err(), "{text}");
        }
        assert!(Money::rounded_from(&"9".repeat(50), 0).is_err());
    }

    #[test]
    fn money_is_shown_rounded_and_grouped() {
        let amount: Money = "-1234567.895".parse().unwrap();
        assert_eq!(amount.rounded(2), "-1,234,567.90");
        assert_eq!(amount.to_string(), "-1234567.895");
        assert_eq!(Money::from_pico(5).rounded(4), "0.0000");
        assert_eq!("999.995".parse::<Money>().unwrap().rounded(0), "1,000");
    }

    proptest! {
        #[test]
        fn money_text_round_trips(pico in any::<i64>()) {
            let amount = Money::from_pico(i128::from(pico));
            prop_assert_eq!(amount.to_string().parse::<Money>().unwrap(), amount);
        }

        /// Against long division on the digits as they are written.
        #[test]
        fn a_decimal_of_any_length_is_rounded_as_by_hand(
            whole in 0_u32..2_000, fraction in "[0-9]{0,60}|[0-9]{11}50{0,50}", shift in -20_i32..6,
        ) {
            let point = if fraction.is_empty() { "" } else { "." };
            let text = format!("{whole}{point}{fraction}e{shift}");
            // All digits, with zeros so that the point can move either way.
            let digits = format!("{}{whole}{fraction}{}", "0".repeat(40), "0".repeat(40));
            let places = i64::try_from(digits.len() - 40 - fraction.len()).unwrap() + i64::from(shift);
            let (pico, rest) = digits.split_at(usize::try_from(places + 12).unwrap());
            let pico: i128 = pico.parse().unwrap();
            let half = format!("5{}", "0".repeat(rest.len() - 1));
            let up = match rest.cmp(half.as_str()) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => pico % 2 == 1,
                std::cmp::Ordering::Greater => true,
            };
            let (amount, exact) = Money::rounded_from(&text, 0).unwrap();
            prop_assert_eq!(amount.pico(), pico + i128::from(up));
            prop_assert_eq!(exact, rest.bytes().all(|digit| digit == b'0'));
        }

        #[test]
        fn an_allocation_sums_to_the_whole(
            pico in any::<i64>(),
            weights in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let amount = Money::from_pico(i128::from(pico));
            let weights: Vec<u64> = weights.into_iter().map(u64::from).collect();
            let parts = amount.allocate(&weights);
            prop_assert_eq!(parts.is_none(), weights.iter().all(|&w| w == 0));
            if let Some(parts) = parts {
                prop_assert_eq!(parts.iter().copied().sum::<Money>(), amount);
                let total: i128 = weights.iter().map(|&w| i128::from(w)).sum();
                for (part, &weight) in parts.iter().zip(&weights) {
                    let exact = amount.pico() * i128::from(weight) / total;
                    prop_assert!((part.pico() - exact).abs() <= 1);
                }
            }
        }
    }
}

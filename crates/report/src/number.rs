//! Numbers for people, and the ratios of a bill. Integers all the way: no float touches money.

use std::time::Duration;

use facts::Measures;
use quantity::{Money, Period, TokenClass, UnixTime, grouped};

/// What is known of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// All of it.
    Known(Money),
    /// At least this: some attempts have no price.
    AtLeast(Money),
    /// Attempts that may have cost something, and none with a price.
    Unpriced,
    /// Ran by the hour while no hourly cost was in force.
    Unknown,
}

impl Cost {
    /// What a group cost.
    #[must_use]
    pub fn of(measures: &Measures) -> Self {
        let spend = measures.spend();
        if measures.unpriced > 0 {
            if spend == Money::ZERO { Self::Unpriced } else { Self::AtLeast(spend) }
        } else if measures.hosted > 0 && spend == Money::ZERO {
            Self::Unknown
        } else {
            Self::Known(spend)
        }
    }

    /// The amount, where there is one.
    #[must_use]
    pub fn amount(self) -> Option<Money> {
        match self {
            Self::Known(amount) | Self::AtLeast(amount) => Some(amount),
            Self::Unpriced | Self::Unknown => None,
        }
    }

    /// The amount written by `text`, with a `*` where more was spent than is known.
    #[must_use]
    pub fn written(self, text: impl FnOnce(Money) -> String) -> String {
        match self {
            Self::Known(amount) => text(amount),
            Self::AtLeast(amount) => text(amount) + "*",
            Self::Unpriced => "unpriced".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

/// Attempts that are in no re-pricing.
pub(crate) const NO_BOOK_PRICES: &str =
    "that no book can price (by the hour, not billed, or of unknown usage)";

/// How many attempts there are, and what came of them, where it came of any.
#[must_use]
pub(crate) fn attempts_by_outcome(parts: &[(u64, &str)]) -> String {
    let all = grouped(parts.iter().map(|(count, _)| count).sum());
    let some = parts.iter().filter(|(count, _)| *count > 0);
    let some: Vec<_> = some.map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
    if some.is_empty() {
        format!("{all} attempts.")
    } else {
        format!("{all} attempts: {}.", some.join(", "))
    }
}

/// Dollars per million tokens, rounded half to even to four decimals; `None` without tokens.
#[must_use]
pub fn per_mtok(cost: Money, tokens: u64) -> Option<Money> {
    // pico-dollars x 10^6 / tokens, in units of 10^8 pico-dollars, divided once.
    from_ten_thousandths(cost.scaled(1, tokens.checked_mul(100)?)?)
}

/// Dollars per thousand, rounded half to even to four decimals; `None` without a count.
#[must_use]
pub fn per_thousand(cost: Money, count: u64) -> Option<Money> {
    from_ten_thousandths(cost.scaled(1, count.checked_mul(100_000)?)?)
}

fn from_ten_thousandths(count: Money) -> Option<Money> {
    count.pico().checked_mul(100_000_000).map(Money::from_pico)
}

/// Dollars per million tokens of a group, where its price is known; tokens without a price are left
/// out of both sides.
#[must_use]
pub fn blended(measures: &Measures) -> Option<Money> {
    per_mtok(Cost::of(measures).amount()?, priced_tokens(measures))
}

/// All tokens but those without a price.
#[must_use]
pub fn priced_tokens(measures: &Measures) -> u64 {
    (measures.input() + measures.output()).saturating_sub(measures.unpriced_tokens)
}

/// Dollars per million tokens of a class, over the attempts that are priced by the token.
#[must_use]
pub fn class_price(measures: &Measures, class: TokenClass) -> Option<Money> {
    per_mtok(measures.cost_by_class[class], measures.priced_tokens[class])
}

/// A part of a whole in thousandths, rounded to nearest; `None` when there is no whole.
#[must_use]
pub fn per_mille(part: i128, whole: i128) -> Option<u64> {
    if whole <= 0 {
        return None;
    }
    let twice = part.checked_mul(2000)?.checked_add(whole)?;
    u64::try_from(twice.div_euclid(whole.checked_mul(2)?)).ok()
}

/// A part of a whole of money in thousandths.
#[must_use]
pub fn money_share(part: Money, whole: Money) -> Option<u64> {
    per_mille(part.pico(), whole.pico())
}

/// A part of a count in thousandths.
#[must_use]
pub fn count_share(part: u64, whole: u64) -> Option<u64> {
    per_mille(i128::from(part), i128::from(whole))
}

/// Thousandths as a percentage with one decimal: `12.3%`; `-` for none.
#[must_use]
pub fn percent(per_mille: Option<u64>) -> String {
    per_mille.map_or("-".to_owned(), |share| format!("{}.{}%", share / 10, share % 10))
}

/// Decimals that show the largest of some amounts well: cents from 100 dollars up, more below.
#[must_use]
pub fn decimals(amounts: impl IntoIterator<Item = Money>) -> u32 {
    let largest = amounts.into_iter().map(|amount| amount.pico().unsigned_abs()).max();
    match largest.unwrap_or(0) / 1_000_000_000_000 {
        0 => 6,
        1..100 => 4,
        _ => 2,
    }
}

/// Dollars with so many decimals. What would round to nothing is shown as less than the last digit:
/// `<0.01`.
#[must_use]
pub fn dollars(amount: Money, decimals: u32) -> String {
    let text = amount.rounded(decimals);
    if amount > Money::ZERO && !text.contains(|c: char| c.is_ascii_digit() && c != '0') {
        let last = Money::from_pico(10_i128.pow(12_u32.saturating_sub(decimals)));
        return format!("<{}", last.rounded(decimals));
    }
    text
}

/// As [`dollars`], with the sign: `$1.50`, `<$0.01`.
#[must_use]
pub fn usd(amount: Money, decimals: u32) -> String {
    let text = dollars(amount, decimals);
    match (text.strip_prefix('<'), text.strip_prefix('-')) {
        (Some(least), _) => format!("<${least}"),
        (_, Some(less)) => format!("-${less}"),
        _ => format!("${text}"),
    }
}

/// As [`dollars`], with a `+` where it is more.
#[must_use]
pub fn signed(amount: Money, places: u32) -> String {
    let text = dollars(amount, places);
    if amount > Money::ZERO && !text.starts_with('<') { format!("+{text}") } else { text }
}

/// By how much something became more or less, as a share of what it was: `+100.0%`, `-12.5%`; `-`
/// where it was nothing.
#[must_use]
pub fn signed_percent(before: i128, after: i128) -> String {
    let share = |size| per_mille(size, before);
    match after.checked_sub(before) {
        Some(more) if more < 0 => match share(more.saturating_neg()) {
            None => "-".to_owned(),
            less => format!("-{}", percent(less)),
        },
        Some(more) => match share(more) {
            None => "-".to_owned(),
            more => format!("+{}", percent(more)),
        },
        None => "-".to_owned(),
    }
}

/// A period in words, its ends to the minute.
#[must_use]
pub fn span(period: Period, now: UnixTime) -> String {
    let minute = |at: UnixTime| at.to_string()[..16].replace('T', " ");
    let since = period.start.map_or("the beginning".to_owned(), minute);
    format!("from {since} to {} UTC", minute(period.end.unwrap_or(now)))
}

/// A ratio with four decimals; `-` for none.
#[must_use]
pub fn ratio(amount: Option<Money>) -> String {
    amount.map_or("-".to_owned(), |amount| dollars(amount, 4))
}

/// A duration in the unit that fits: `310 ms`, `1.2 s`, `4 min 05 s`, `3 h 07 min`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", millis / 60_000, millis / 1_000 % 60),
        _ => format!("{} h {:02} min", millis / 3_600_000, millis / 60_000 % 60),
    }
}

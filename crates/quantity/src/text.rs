//! Numbers for people.

/// Groups the digits of a whole number by threes: `1234567` is `1,234,567`.
#[must_use]
pub fn group_digits(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with grouped digits.
#[must_use]
pub fn grouped(count: u64) -> String {
    group_digits(&count.to_string())
}

//! Shares of money: margins, which always say of what, and concentration.

/// Gross margin: `(revenue - cost) / revenue`. `None` without revenue.
#[must_use]
pub fn gross_margin(revenue: f64, cost: f64) -> Option<f64> {
    (revenue > 0.0).then(|| (revenue - cost) / revenue)
}

/// Profit on cost: `(revenue - cost) / cost`. `None` without cost.
#[must_use]
pub fn profit_on_cost(revenue: f64, cost: f64) -> Option<f64> {
    (cost > 0.0).then(|| (revenue - cost) / cost)
}

/// The Herfindahl-Hirschman index of spend: the sum of squared shares, from `1/n` (even) to 1 (one vendor). `None` without
/// spend, or with negative spend.
#[must_use]
pub fn concentration(spend: &[f64]) -> Option<f64> {
    let all: f64 = spend.iter().sum();
    let sound = all > 0.0 && all.is_finite() && spend.iter().all(|part| *part >= 0.0);
    sound.then(|| spend.iter().map(|part| (part / all) * (part / all)).sum())
}

/// What a success costs: cost over the share of tries that succeed. `None` if none does.
#[must_use]
pub fn quality_adjusted(cost: f64, success_rate: f64) -> Option<f64> {
    (success_rate > 0.0).then(|| cost / success_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concentration_goes_from_even_to_one() {
        assert_eq!(concentration(&[5.0, 5.0, 5.0, 5.0]), Some(0.25));
        assert_eq!(concentration(&[7.0, 0.0]), Some(1.0));
        let some = concentration(&[60.0, 30.0, 10.0]).unwrap();
        assert!((some - 0.46).abs() < 1e-12, "{some}");
        assert_eq!(concentration(&[]), None);
        assert_eq!(concentration(&[1.0, -1.0, 2.0]), None);
    }

    #[test]
    fn margins_need_something_to_be_a_share_of() {
        assert_eq!(gross_margin(0.0, 5.0), None);
        assert_eq!(profit_on_cost(5.0, 0.0), None);
        assert_eq!(quality_adjusted(5.0, 0.0), None);
        assert_eq!(gross_margin(10.0, 2.5), Some(0.75));
        assert_eq!(quality_adjusted(0.05, 0.5), Some(0.1));
    }
}

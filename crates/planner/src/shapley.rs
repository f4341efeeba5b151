//! Why a product of factors changed: parts that sum to the whole change.

/// The most factors: the work doubles with each.
pub const MOST_FACTORS: usize = 12;

/// Divides the change of a product among its factors by the Shapley value: each bears the mean, over all orders in which
/// factors may change, of what its own change makes. Exact with zeros and negative values; the parts sum to the change. A sum
/// of products is divided line by line.
///
/// # Panics
/// If there are more than [`MOST_FACTORS`], or not as many after as before.
///
/// # Source
/// Shapley 1953; for index decomposition Sun 1998 and Ang, Huang, Mu 2009.
#[must_use]
pub fn parts_of_change(before: &[f64], after: &[f64]) -> Vec<f64> {
    let factors = before.len();
    assert!(
        factors == after.len() && factors <= MOST_FACTORS,
        "few factors, each before and after"
    );
    let all: usize = 1 << factors;
    let values: Vec<f64> = (0..all)
        .map(|changed| {
            (0..factors)
                .map(|at| if changed >> at & 1 == 1 { after[at] } else { before[at] })
                .product()
        })
        .collect();
    // |S|! (n - |S| - 1)! / n! by the size of S, of which each next is the one before times |S| / (n - |S|).
    let mut weight = 1.0 / factors.max(1) as f64;
    let mut weights = vec![weight];
    for size in 1..factors {
        weight *= size as f64 / (factors - size) as f64;
        weights.push(weight);
    }
    (0..factors)
        .map(|at| {
            let without = (0..all).filter(|changed| changed >> at & 1 == 0);
            let parts = without.map(|changed| {
                weights[changed.count_ones() as usize]
                    * (values[changed | 1 << at] - values[changed])
            });
            parts.sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ang's LMDI-I, another exact decomposition, for what is positive: `L(after, before) ln(x1 / x0)`.
    fn lmdi(before: &[f64], after: &[f64]) -> Vec<f64> {
        let product = |factors: &[f64]| factors.iter().product::<f64>();
        let (v0, v1) = (product(before), product(after));
        let mean = if (v1 / v0).ln().abs() < 1e-12 { v0 } else { (v1 - v0) / (v1 / v0).ln() };
        before.iter().zip(after).map(|(x0, x1)| mean * (x1 / x0).ln()).collect()
    }

    /// Users, sessions a user, thousand tokens a session, USD a thousand thousand: route A, then route B.
    const ROUTES: [([f64; 4], [f64; 4]); 2] = [
        ([1000.0, 20.0, 3.0, 2.0], [1200.0, 22.0, 4.5, 1.0]),
        ([300.0, 5.0, 8.0, 10.0], [450.0, 6.0, 9.0, 10.0]),
    ];

    fn sum_of(parts: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
        let each = ROUTES.map(|(before, after)| parts(&before, &after));
        each[0].iter().zip(&each[1]).map(|(a, b)| (a + b) / 1000.0).collect()
    }

    #[test]
    fn the_worked_example_of_four_factors_and_two_routes() {
        // A bill of 240.00 that becomes 361.80, worked out by hand.
        let near = |found: Vec<f64>, expected: [f64; 4], by: f64| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < by), "{found:?}");
            assert!((found.iter().sum::<f64>() - 121.8).abs() < 1e-9, "{found:?}");
        };
        near(sum_of(parts_of_change), [93.30, 44.05, 72.00, -87.55], 1e-9);
        near(sum_of(lmdi), [92.4526, 43.1635, 68.9449, -82.7611], 1e-4);
    }

    #[test]
    fn two_factors_are_bennets() {
        let parts = parts_of_change(&[10.0, 2.0], &[14.0, 3.0]);
        assert_eq!(parts, [4.0 * 2.5, 1.0 * 12.0]);
        assert!(parts_of_change(&[], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_change_whatever_the_factors(
            factors in prop::collection::vec((-1e3..1e3_f64, -1e3..1e3_f64), 1..8),
        ) {
            let (before, after): (Vec<f64>, Vec<f64>) = factors.iter().copied().unzip();
            let change = after.iter().product::<f64>() - before.iter().product::<f64>();
            let parts = parts_of_change(&before, &after);
            let size: f64 = parts.iter().map(|part| part.abs()).sum::<f64>() + 1.0;
            prop_assert!((parts.iter().sum::<f64>() - change).abs() < 1e-9 * size);
            for (part, (before, after)) in parts.iter().zip(&factors) {
                prop_assert!(before != after || *part == 0.0);
            }
        }

        #[test]
        fn both_decompositions_agree_on_small_changes(
            factors in prop::collection::vec((1.0..9.0_f64, 0.97..1.03_f64), 1..6),
        ) {
            let before: Vec<f64> = factors.iter().map(|(before, _)| *before).collect();
            let after: Vec<f64> = factors.iter().map(|(before, by)| before * by).collect();
            let whole: f64 = before.iter().product();
            for (shapley, lmdi) in parts_of_change(&before, &after).iter().zip(lmdi(&before, &after)) {
                prop_assert!((shapley - lmdi).abs() < 1e-3 * whole, "{shapley} {lmdi}");
            }
        }
    }
}

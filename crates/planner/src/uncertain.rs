//! What is known of a quantity: a number, or how it may turn out.

/// A quantity, perhaps with how it may turn out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Uncertain {
    /// A number.
    Fixed(f64),
    /// Between two ends, most likely near one value: a triangle.
    Triangular {
        /// The least.
        low: f64,
        /// The most likely.
        likely: f64,
        /// The most.
        high: f64,
    },
    /// Evenly between two ends.
    Uniform {
        /// The least.
        low: f64,
        /// The most.
        high: f64,
    },
    /// A bell around a mean.
    Normal {
        /// The mean, which is the most likely.
        mean: f64,
        /// The standard deviation.
        sd: f64,
    },
    /// Half below the median, with a long tail above.
    Lognormal {
        /// The median.
        median: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
}

impl Uncertain {
    /// The value below which it stays with probability `u`, from 0 to 1. With the same `u` for two options they meet the same
    /// luck.
    #[must_use]
    pub fn at(&self, u: f64) -> f64 {
        let u = u.clamp(1e-12, 1.0 - 1e-12);
        match *self {
            Self::Fixed(value) => value,
            Self::Uniform { low, high } => low + (high - low) * u,
            Self::Triangular { low, likely, high } => {
                let width = high - low;
                if width <= 0.0 {
                    return likely;
                }
                let turn = (likely - low) / width;
                if u < turn {
                    low + (u * width * (likely - low)).sqrt()
                } else {
                    high - ((1.0 - u) * width * (high - likely)).sqrt()
                }
            }
            Self::Normal { mean, sd } => mean + sd * normal_quantile(u),
            Self::Lognormal { median, sigma } => median * libm::exp(sigma * normal_quantile(u)),
        }
    }

    /// The value a plan is made with: the most likely, or the middle where none is.
    #[must_use]
    pub fn likely(&self) -> f64 {
        match *self {
            Self::Fixed(value) => value,
            Self::Triangular { likely, .. } => likely,
            Self::Uniform { low, high } => f64::midpoint(low, high),
            Self::Normal { mean, .. } => mean,
            Self::Lognormal { median, .. } => median,
        }
    }

    /// The mean: what a sum over many comes to.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Triangular { low, likely, high } => (low + likely + high) / 3.0,
            Self::Lognormal { median, sigma } => median * libm::exp(sigma * sigma / 2.0),
            _ => self.likely(),
        }
    }

    /// Whether it may turn out otherwise.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }
}

/// The standard normal's quantile, right to 1e-9 of it.
///
/// # Source
/// Acklam's rational approximation (2003).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        0.007_784_695_709_041_462,
        0.322_467_129_070_039_8,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let polynomial = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |p: f64| {
        let q = (-2.0 * libm::log(p)).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    const EDGE: f64 = 0.024_25;
    if p < EDGE {
        tail(p)
    } else if p > 1.0 - EDGE {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * polynomial(&A, q * q) / polynomial(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_normals_quantiles_are_those_of_the_tables() {
        for (p, z) in
            [(0.5, 0.0), (0.9, 1.281_551_566), (0.975, 1.959_963_985), (0.01, -2.326_347_874)]
        {
            assert!((normal_quantile(p) - z).abs() < 1e-8, "{p}: {}", normal_quantile(p));
        }
    }

    fn shapes() -> impl Strategy<Value = Uncertain> {
        let three = (0.1..1e3_f64, 0.0..1e3_f64, 0.0..1e3_f64);
        prop_oneof![
            three.clone().prop_map(|(low, a, b)| Uncertain::Triangular {
                low,
                likely: low + a,
                high: low + a + b
            }),
            three.prop_map(|(low, a, _)| Uncertain::Uniform { low, high: low + a }),
            (1.0..1e3_f64, 0.0..50.0_f64).prop_map(|(mean, sd)| Uncertain::Normal { mean, sd }),
            (1.0..1e3_f64, 0.01..0.8_f64)
                .prop_map(|(median, sigma)| Uncertain::Lognormal { median, sigma }),
        ]
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_their_mean_is_the_mean(shape in shapes()) {
            let all: Vec<f64> = (0..4_000).map(|at| shape.at((f64::from(at) + 0.5) / 4_000.0)).collect();
            prop_assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
            let mean = all.iter().sum::<f64>() / 4_000.0;
            prop_assert!((mean - shape.mean()).abs() < 2e-3 * shape.mean() + 1e-6, "{} {}", mean, shape.mean());
        }
    }
}

//! A small seeded generator, for it decides what a seed means for ever: no dependency may change it.

use std::time::Duration;

use quantity::TokenCount;

/// SplitMix64 with the few distributions that traffic needs. Deterministic on every platform.
///
/// # Source
/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    state: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    /// The generator that this seed names.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// An independent generator for a part of the work. It depends on the seed and the name only,
    /// not on what was drawn before, so that a change of one part leaves the others as they were.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let mut hash = mix(self.seed.wrapping_add(GOLDEN_GAMMA));
        for byte in name.bytes() {
            hash = mix((hash ^ u64::from(byte)).wrapping_add(GOLDEN_GAMMA));
        }
        Self::new(hash)
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Evenly from `0..end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = (u128::from(self.next()) * u128::from(end)) >> 64;
        u64::try_from(wide).expect("the high half of a product of two u64 fits")
    }

    /// Evenly from `0..end`, as an index; 0 if `end` is 0.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("less than a usize")
    }

    /// Evenly from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next() >> 11) as f64 * STEP
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Evenly from a span of time.
    pub fn within(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.unit())
    }

    /// The gap to the next arrival of a Poisson process with this mean gap.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-libm::log(1.0 - self.unit()))
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Gamma distributed with this shape, above 0 and finite, and a scale of 1: its mean is the shape.
    ///
    /// # Source
    /// Marsaglia, Tsang: A simple method for generating gamma variables, ACM TOMS 26 (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let drawn = self.gamma(shape + 1.0);
            return drawn * libm::pow(1.0 - self.unit(), 1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            let v = v * v * v;
            if v > 0.0 && libm::log(1.0 - self.unit()) < 0.5 * x * x + d * (1.0 - v + libm::log(v))
            {
                return d * v;
            }
        }
    }

    /// A lognormal number of tokens: half lie below the median, the tail is long, and nothing
    /// passes `at_most`. At least 1.
    pub fn tokens(&mut self, median: u32, sigma: f64, at_most: u32) -> TokenCount {
        let drawn = f64::from(median) * libm::exp(sigma * self.normal());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the range of the target before"
        )]
        let whole = drawn.clamp(1.0, f64::from(at_most.max(1))) as u32;
        TokenCount::from(whole)
    }

    /// Poisson arrivals over a span, `mean` of them at an even rate; `weight` scales the rate at
    /// an offset and must lie between 0 and `heaviest`. In order.
    pub fn arrivals(
        &mut self,
        span: Duration,
        mean: u32,
        heaviest: f64,
        weight: impl Fn(Duration) -> f64,
    ) -> Vec<Duration> {
        let mut found = Vec::new();
        if mean == 0 {
            return found;
        }
        let gap = span.div_f64(f64::from(mean) * heaviest);
        let mut at = self.exponential(gap);
        while at < span {
            // Thinning: candidates at the highest rate, each kept with the share that is due.
            if self.chance(weight(at) / heaviest) {
                found.push(at);
            }
            at += self.exponential(gap);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut random = Random::new(0);
        assert_eq!(random.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.next(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn a_fork_does_not_depend_on_what_was_drawn() {
        let mut random = Random::new(7);
        let before = random.fork("x").next();
        random.next();
        assert_eq!(random.fork("x").next(), before);
        assert_ne!(random.fork("y").next(), before);
    }

    #[test]
    fn tokens_have_their_median_and_their_limit() {
        let mut random = Random::new(1);
        let mut drawn: Vec<u64> = (0..4001).map(|_| random.tokens(100, 0.5, 300).get()).collect();
        drawn.sort_unstable();
        assert!((93..=107).contains(&drawn[2000]), "median {}", drawn[2000]);
        assert!(drawn[0] >= 1 && drawn[4000] == 300);
    }

    #[test]
    fn arrivals_come_at_the_rate_that_was_asked() {
        let hour = Duration::from_secs(3600);
        let burst = |at: Duration| if at.as_secs() < 600 { 4.0 } else { 1.0 };
        let times = Random::new(3).arrivals(hour, 3600, 4.0, burst);
        let early = times.iter().filter(|at| at.as_secs() < 600).count();
        assert!((2200..2600).contains(&early), "{early} in the burst");
        assert!((2800..3200).contains(&(times.len() - early)), "{} after it", times.len() - early);
        assert!(times.is_sorted());
    }
}

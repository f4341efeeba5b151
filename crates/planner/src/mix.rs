//! The calls that a simulation is fed with: the shapes of a case, as long and as bunched as it says.

use std::num::NonZeroU32;

use servesim::{Incoming, Prefix, Request, SECOND_PS};
use workload::Random;

use crate::demand::Shape;
use crate::scenario::{Case, Var};

/// Calls in the proportions of a case, at one a second; every rate is the same calls, moved together. What is read from the
/// prompt cache is the beginning that all calls share.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    calls: Vec<Incoming>,
    computed: (f64, f64),
}

/// Tokens of a block of the prefix cache: vLLM's.
const BLOCK: NonZeroU32 = NonZeroU32::new(16).expect("not 0");

/// What names the calls. Options are compared under the same calls.
const SEED: u64 = 1;

impl Mix {
    /// So many calls.
    #[must_use]
    pub fn new(shapes: &[Shape], case: &Case, calls: usize) -> Self {
        let random = Random::new(SEED);
        let [mut which, mut long, mut gaps] =
            ["shape", "length", "gap"].map(|part| random.fork(part));
        let all: f64 = shapes.iter().map(|shape| shape.calls).sum();
        let mean = |of: fn(&Shape) -> f64| {
            shapes.iter().map(|shape| shape.calls * of(shape)).sum::<f64>() / all
        };
        let cached = case.at(Var::Cached);
        let computed = (mean(|shape| shape.input) * (1.0 - cached), mean(Shape::output));
        let gap = Gaps::new(case.at(Var::Burstiness));
        // A lognormal's spread: sigma^2 = ln(1 + cv^2), and its mean is exp(sigma^2 / 2) medians.
        let cv = case.at(Var::Spread);
        let variance = libm::log(1.0 + cv * cv);
        let mut length = |mean: f64| {
            let spread = variance.sqrt() * long.normal() - variance / 2.0;
            whole(mean * libm::exp(spread))
        };
        let mut at = 0.0;
        let calls = (0..calls).map(|_| {
            let mut place = which.unit() * all;
            let shape = shapes.iter().find(|shape| {
                place -= shape.calls;
                place < 0.0
            });
            let shape = shape.or(shapes.last()).copied();
            let (input, output) = shape.map_or((1.0, 1.0), |shape| (shape.input, shape.output()));
            let arrival_ps = picoseconds(at);
            at += gap.next(&mut gaps);
            let prompt = length(input);
            let request = Request {
                arrival_ps,
                prompt,
                output: length(output),
                priority: 0,
                patience_ps: None,
            };
            let blocks = u64::from(whole(f64::from(prompt) * cached) / BLOCK);
            let prefix = (blocks > 0).then(|| Prefix::new(0..blocks, BLOCK));
            Incoming { request, prefix }
        });
        Self { calls: calls.collect(), computed }
    }

    /// Mean tokens of a call that are computed: input that is not read from the cache, and output.
    #[must_use]
    pub const fn computed(&self) -> (f64, f64) {
        self.computed
    }

    /// Whether calls begin alike, so that a prefix cache is of use.
    #[must_use]
    pub fn has_prefixes(&self) -> bool {
        self.calls.iter().any(|call| call.prefix.is_some())
    }

    /// The longest call, input and output together.
    #[must_use]
    pub fn longest(&self) -> u32 {
        let long = |call: &Incoming| call.request.prompt.saturating_add(call.request.output);
        self.calls.iter().map(long).max().unwrap_or(0)
    }

    /// The same calls at so many a second.
    pub fn at_rate(&self, per_second: f64) -> impl Iterator<Item = Incoming> {
        servesim::at_rate(self.calls.iter().cloned(), per_second)
    }
}

fn picoseconds(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = (seconds * SECOND_PS as f64) as u64;
    whole
}

fn whole(tokens: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let whole = tokens.round().clamp(1.0, 1e8) as u32;
    whole
}

/// Gaps with a mean of 1 and a squared variation of 1 or more: exponential ones of two means, of which each makes half of the
/// time (a hyperexponential with balanced means).
struct Gaps {
    short: f64,
}

impl Gaps {
    fn new(cv2: f64) -> Self {
        Self { short: f64::midpoint(1.0, ((cv2 - 1.0).max(0.0) / (cv2 + 1.0)).sqrt()) }
    }

    fn next(&self, random: &mut Random) -> f64 {
        let share = if random.chance(self.short) { self.short } else { 1.0 - self.short };
        -libm::log(1.0 - random.unit()) / (2.0 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_a_mean_of_one_and_the_variation_asked_for() {
        for cv2 in [1.0, 4.0, 9.0] {
            let (gaps, mut random) = (Gaps::new(cv2), Random::new(5));
            let all: Vec<f64> = (0..400_000).map(|_| gaps.next(&mut random)).collect();
            let mean = all.iter().sum::<f64>() / 4e5;
            let variance = all.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 4e5;
            assert!((mean - 1.0).abs() < 0.02, "{mean}");
            assert!((variance / cv2 - 1.0).abs() < 0.05, "{cv2}: {variance}");
        }
    }
}

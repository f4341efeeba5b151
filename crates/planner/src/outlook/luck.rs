//! The luck of each draw.

use workload::Random;

/// A Latin hypercube: the outcomes of each uncertain thing are cut into as many strata of equal probability as there are draws,
/// and each draw has one of them, in an order that the seed and the thing's name decide alone. Draws so meet every part of
/// every range, whatever else is uncertain, and every choice meets the same.
///
/// # Source
/// McKay, Beckman, Conover: A Comparison of Three Methods for Selecting Values of Input Variables, Technometrics 21 (1979).
pub(super) struct Luck {
    /// Of each thing, each draw's stratum.
    strata: Vec<Vec<u32>>,
    draws: u32,
}

impl Luck {
    pub(super) fn new<'a>(seed: u64, draws: u32, names: impl Iterator<Item = &'a str>) -> Self {
        let random = Random::new(seed);
        let strata = names.map(|name| {
            let mut random = random.fork(name);
            let mut order: Vec<u32> = (0..draws).collect();
            for last in (1..order.len()).rev() {
                order.swap(last, random.index(last + 1));
            }
            order
        });
        Self { strata: strata.collect(), draws }
    }

    /// The share of outcomes of a thing that are below what a draw meets.
    pub(super) fn of(&self, thing: usize, draw: usize) -> f64 {
        (f64::from(self.strata[thing][draw]) + 0.5) / f64::from(self.draws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stratum_is_met_once_and_things_are_not_met_together() {
        let luck = Luck::new(7, 1_000, ["one", "other"].into_iter());
        let mut all: Vec<f64> = (0..1_000).map(|draw| luck.of(0, draw)).collect();
        let product = (0..1_000).map(|draw| (luck.of(0, draw) - 0.5) * (luck.of(1, draw) - 0.5));
        let correlation = product.sum::<f64>() / 1_000.0 * 12.0;
        assert!(correlation.abs() < 0.1, "{correlation}");
        all.sort_by(f64::total_cmp);
        assert!(all.windows(2).all(|pair| (pair[1] - pair[0] - 1e-3).abs() < 1e-12));
        // Another thing beside it leaves its luck as it was.
        let more = Luck::new(7, 1_000, ["new", "one"].into_iter());
        assert!((0..1_000).all(|draw| more.of(1, draw) == luck.of(0, draw)));
    }
}

//! What matters: what each unsure thing makes of the bills, and what it would be worth to know it.

use crate::scenario::{Scenario, Var};

use super::choice::{Accuracy, Choice};

/// Something that may turn out otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsure {
    /// A quantity of the scenario.
    Quantity(Var),
    /// How fast GPUs are, beside what the serving model says.
    Serving,
}

impl Unsure {
    /// What it is called: the key in the scenario.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Quantity(var) => var.spec().key,
            Self::Serving => "serving model",
        }
    }

    /// All that is unsure and may move the bill of a choice.
    pub(super) fn all(scenario: &Scenario, choices: &[&dyn Choice]) -> Vec<Self> {
        // What a success brings moves no bill, and what varies from call to call is in every case at its mean.
        let moves = |var: Var| !var.varies() && !matches!(var, Var::Success | Var::Revenue);
        let unsure = scenario.inputs.iter().filter(|input| input.value.is_uncertain());
        let quantities = unsure.map(|input| input.var).filter(|var| moves(*var));
        let wide = |accuracy: Accuracy| accuracy.low < accuracy.high;
        let serving = choices.iter().any(|choice| choice.accuracy().is_some_and(wide));
        quantities.map(Self::Quantity).chain(serving.then_some(Self::Serving)).collect()
    }

    /// What it is where so large a share of outcomes is below; of the serving model the factor of the first choice that rests
    /// on it.
    fn at(self, luck: f64, scenario: &Scenario, choices: &[&dyn Choice]) -> Option<f64> {
        match self {
            Self::Quantity(var) => Some(scenario.input(var)?.value.at(luck)),
            Self::Serving => {
                let accuracy = choices.iter().find_map(|choice| choice.accuracy())?;
                Some(accuracy.factor(luck))
            }
        }
    }
}

/// What an unsure thing makes of the bills.
#[derive(Debug, Clone, PartialEq)]
pub struct Matter {
    /// What is unsure.
    pub what: Unsure,
    /// Its value that one in ten is below, and that one in ten is above.
    pub values: [Option<f64>; 2],
    /// What becomes of each choice's bill then.
    pub moved: Vec<Moved>,
    /// What it would be worth to know it before choosing, all else as unsure as it is: USD over all months. `None` if no
    /// choice may be the best.
    pub worth: Option<f64>,
}

/// What becomes of the bill of a choice as one thing turns out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// The mean bill over all months in USD where the thing is near its low and near its high value, all else as it falls;
    /// `None` where nothing of it was served.
    pub bills: [Option<f64>; 2],
    /// The share of the variance of the bill that the thing makes by itself (its first-order Sobol index).
    pub of_variance: f64,
}

impl Moved {
    /// How far its bills are apart.
    #[must_use]
    pub fn width(&self) -> f64 {
        match self.bills {
            [Some(low), Some(high)] => (high - low).abs(),
            _ => 0.0,
        }
    }
}

/// Parts of a thing's luck, in each of which it counts as known.
const PARTS: usize = 20;

/// Luck around the values that one in ten is beyond.
const NEAR: [[f64; 2]; 2] = [[0.05, 0.15], [0.85, 0.95]];

/// A sum of some values with how many they are.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    of: f64,
    count: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.of += value;
            self.count += 1.0;
        }
    }

    fn and(self, other: Self) -> Self {
        Self { of: self.of + other.of, count: self.count + other.count }
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.of / self.count)
    }
}

impl Matter {
    /// Of a thing, by the totals of each choice in each draw, and by those of the choices that may be made.
    pub(super) fn of(
        (what, scenario, choices): (&Unsure, &Scenario, &[&dyn Choice]),
        totals: &[Vec<f64>],
        may_be_chosen: &[&[f64]],
        luck: impl Fn(usize) -> f64,
    ) -> Self {
        let draws = totals.first().map_or(0, Vec::len);
        let lucks: Vec<f64> = (0..draws).map(luck).collect();
        let near = totals.iter().map(|totals| {
            NEAR.map(|[from, to]| {
                let mut near = Sum::default();
                let those =
                    totals.iter().zip(&lucks).filter(|(_, luck)| (from..to).contains(*luck));
                those.for_each(|(total, _)| near.add(*total));
                near.mean()
            })
        });
        let moved = totals.iter().zip(near).map(|(totals, bills)| Moved {
            bills,
            of_variance: of_variance(&parts(totals, &lucks), totals),
        });
        Self {
            what: *what,
            values: [0.1, 0.9].map(|luck| what.at(luck, scenario, choices)),
            moved: moved.collect(),
            worth: worth(may_be_chosen, &lucks),
        }
    }
}

/// Sums by part of a thing's luck, in halves: what is decided by the one is judged by the other.
fn parts(totals: &[f64], lucks: &[f64]) -> [[Sum; 2]; PARTS] {
    let mut sums = [[Sum::default(); 2]; PARTS];
    for (draw, (total, luck)) in totals.iter().zip(lucks).enumerate() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to below 1"
        )]
        let part = (luck * PARTS as f64) as usize;
        sums[part.min(PARTS - 1)][draw % 2].add(*total);
    }
    sums
}

/// The variance of the means of the parts, without what chance alone makes of it, over the variance of all.
fn of_variance(parts: &[[Sum; 2]; PARTS], totals: &[f64]) -> f64 {
    let mut all = Sum::default();
    totals.iter().for_each(|total| all.add(*total));
    let Some(mean) = all.mean() else { return 0.0 };
    let mut squares = Sum::default();
    totals.iter().for_each(|total| squares.add((total - mean) * (total - mean)));
    let variance = squares.mean().unwrap_or(0.0);
    // By one and the other half of a part the product of two means has no chance in it that both have.
    let between = parts.iter().filter_map(|[one, other]| {
        let weight = one.count + other.count;
        Some((one.mean()? - mean) * (other.mean()? - mean) * weight)
    });
    let between = between.sum::<f64>() / all.count;
    // A millionth of a millionth of the bill is rounding.
    if variance > mean * mean * 1e-24 { (between / variance).clamp(0.0, 1.0) } else { 0.0 }
}

/// The expected value of partial perfect information: in each part the choice that is the cheapest by one half of its draws is
/// made in the other half. That is never more than the whole is worth, and nothing on the mean where the thing tells nothing;
/// the least of noisy means would always find a little.
///
/// # Source
/// Brennan, Kharroubi, O'Hagan, Chilcott: Calculating Partial Expected Value of Perfect Information, Medical Decision Making 27
/// (2007); by bins as in Strong and Oakley, ibid. 33 (2013).
fn worth(may_be_chosen: &[&[f64]], lucks: &[f64]) -> Option<f64> {
    let sums: Vec<_> = may_be_chosen.iter().map(|totals| parts(totals, lucks)).collect();
    let all = |choice: &[[Sum; 2]; PARTS]| -> Sum {
        choice.iter().flatten().copied().fold(Sum::default(), Sum::and)
    };
    let best = sums.iter().min_by(|one, other| all(one).of.total_cmp(&all(other).of))?;
    let halves = (0..PARTS).flat_map(|part| [(part, 0), (part, 1)]);
    let saved = halves.filter_map(|(part, half)| {
        let seen = |choice: &[[Sum; 2]; PARTS]| choice[part][1 - half].of;
        let decided = sums.iter().min_by(|one, other| seen(one).total_cmp(&seen(other)))?;
        Some(best[part][half].of - decided[part][half].of)
    });
    let saved: f64 = saved.sum();
    (all(best).count > 0.0).then(|| (saved / all(best).count).max(0.0))
}

//! How things may turn out: ways to serve in many draws of all that is uncertain.
//!
//! A draw is a case: demand, growth, lengths, prices and people as the scenario's ranges have them, and how fast GPUs turn out
//! to be beside what the serving model says. All choices meet the same draws, so that they differ by what they are alone.

mod choice;
pub(crate) mod grid;
mod luck;
mod matter;
mod table;

pub use choice::{Accuracy, ApiChoice, Choice, Draw, GpuChoice};
pub use matter::{Matter, Moved, Unsure};

use crate::scenario::Scenario;
use luck::Luck;
use table::{Table, in_parallel, totals};

/// How many draws, of which luck, on how many threads. The answer does not depend on the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// How many.
    pub count: u32,
    /// What names the luck.
    pub seed: u64,
    /// Threads to use.
    pub threads: usize,
}

/// How ways to serve may turn out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Draws that were made: one, if nothing is unsure.
    pub draws: u32,
    /// What named their luck.
    pub seed: u64,
    /// Each choice, in the order in which they were given.
    pub prospects: Vec<Prospect>,
    /// Bands of tasks a month, each as probable as the next where tasks differ enough: above the first and up to the second,
    /// the first band including its lower end.
    pub volumes: Vec<(f64, f64)>,
    /// What is unsure and may move a bill, what moves the bill of the [best](Self::best) most first.
    pub matters: Vec<Matter>,
    /// What it would be worth to know all that is unsure before choosing, in USD over all months: the least mean bill of a
    /// choice that is made once, less the mean of the least bills. `None` if no choice [may be the best](Self::best).
    pub worth: Option<f64>,
}

/// How a choice may turn out.
#[derive(Debug, Clone, PartialEq)]
pub struct Prospect {
    /// What it is called.
    pub name: String,
    /// Its bill in USD by month.
    pub bills: Vec<Option<Range>>,
    /// Its bill over all months in USD.
    pub total: Option<Range>,
    /// USD for a useful Mtok of any class, by month.
    pub per_useful_mtok: Vec<Option<Range>>,
    /// The same over all months.
    pub total_per_useful_mtok: Option<Range>,
    /// The probability that it is the cheapest, by month.
    pub cheapest: Vec<f64>,
    /// The probability that it is the cheapest over all months.
    pub cheapest_in_all: f64,
    /// The probability that it is the cheapest of a month by the [volume](Outlook::volumes) of the month.
    pub cheapest_by_volume: Vec<f64>,
    /// How much dearer it is over all months than the cheapest in the same draw, in USD on the mean. Where it cannot serve it is as
    /// dear as the dearest that can. `None` if it never serves.
    pub regret: Option<f64>,
    /// The share of draws that it cannot serve; there it is never the cheapest.
    pub unserved: f64,
    /// Why not in the first of them.
    pub why_unserved: Option<String>,
    /// How far off what it serves may be.
    pub accuracy: Option<Accuracy>,
}

/// Where something falls among the draws. What a choice cannot serve is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// One in ten is below.
    pub p10: f64,
    /// Half are.
    pub p50: f64,
    /// One in ten is above.
    pub p90: f64,
    /// The mean.
    pub mean: f64,
}

impl Range {
    /// Of some values, whose order is lost; `None` of none.
    fn of(values: &mut [f64]) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = |share: f64| (last as f64 * share).round() as usize;
        let [low, middle, high] = [0.1, 0.5, 0.9].map(at);
        let (below, p50, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
        let p50 = *p50;
        let p10 = match low < middle {
            true => *below.select_nth_unstable_by(low, f64::total_cmp).1,
            false => p50,
        };
        let p90 = match high > middle {
            true => *above.select_nth_unstable_by(high - middle - 1, f64::total_cmp).1,
            false => p50,
        };
        Some(Self { p10, p50, p90, mean })
    }
}

/// Bands of volume.
const BANDS: usize = 5;

/// Draws, and what becomes of each choice.
#[must_use]
pub fn outlook(scenario: &Scenario, choices: &[&dyn Choice], draws: Draws) -> Outlook {
    let unsure = Unsure::all(scenario, choices);
    let Draws { count, seed, threads } = draws;
    let count = if unsure.is_empty() { 1 } else { count.max(1) };
    let luck = Luck::new(seed, count, unsure.iter().map(|unsure| unsure.key()));
    let table = Table::fill(scenario, choices, (&unsure, &luck), (count as usize, threads));
    let months = table.months;
    let totals = totals(&table, threads);
    let cheapest = in_parallel(threads, months, |month| {
        winners(choices.len(), table.draws, |choice| table.bills(choice, month))
    });
    let in_all = winners(choices.len(), table.draws, |choice| &totals.bills[choice]);
    let volumes = volumes(&table);
    let by_volume = by_volume(&table, &volumes, &cheapest, choices.len());
    let least: Vec<f64> = (0..table.draws)
        .map(|draw| in_all[draw].map_or(f64::NAN, |choice| totals.bills[choice][draw]))
        .collect();
    let stood = stood_in(&totals.bills, table.draws);
    let share = |winners: &[Option<usize>], choice: usize| {
        let won = winners.iter().filter(|winner| **winner == Some(choice)).count();
        won as f64 / table.draws as f64
    };
    let prospects = in_parallel(threads, choices.len(), |choice| {
        let total = &totals.bills[choice];
        let served = total.iter().filter(|bill| !bill.is_nan()).count();
        let regrets = stood[choice].iter().zip(&least).map(|(bill, least)| bill - least);
        Prospect {
            name: choices[choice].name().to_owned(),
            bills: (0..months)
                .map(|month| range(table.bills(choice, month).iter().copied()))
                .collect(),
            total: range(total.iter().copied()),
            per_useful_mtok: (0..months)
                .map(|month| range(units(table.bills(choice, month), table.useful(month))))
                .collect(),
            total_per_useful_mtok: range(units(total, &totals.useful)),
            cheapest: cheapest.iter().map(|winners| share(winners, choice)).collect(),
            cheapest_in_all: share(&in_all, choice),
            cheapest_by_volume: by_volume.iter().map(|band| band[choice]).collect(),
            regret: mean(regrets).filter(|_| served > 0),
            unserved: (table.draws - served) as f64 / table.draws as f64,
            why_unserved: table.failures[choice].clone(),
            accuracy: choices[choice].accuracy(),
        }
    });
    let mut found =
        Outlook { draws: count, seed, prospects, volumes, matters: Vec::new(), worth: None };
    let best = found.best();
    found.worth = best.and_then(|best| found.prospects[best].regret);
    let may_be_chosen = found.prospects.iter().zip(&stood).filter(|(one, _)| one.mostly_serves());
    let may_be_chosen: Vec<&[f64]> = may_be_chosen.map(|(_, bills)| bills.as_slice()).collect();
    let mut matters = in_parallel(threads, unsure.len(), |thing| {
        let luck = |draw| luck.of(thing, draw);
        Matter::of((&unsure[thing], scenario, choices), &totals.bills, &may_be_chosen, luck)
    });
    let width = |matter: &Matter| matter.moved.get(best.unwrap_or(0)).map_or(0.0, |m| m.width());
    matters.sort_by(|one, other| width(other).total_cmp(&width(one)));
    found.matters = matters;
    found
}

impl Outlook {
    /// The choice whose mean bill over all months is the least, of those that serve in all draws but one in twenty.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        let may_be = self.prospects.iter().enumerate().filter(|(_, one)| one.mostly_serves());
        // Means differ as regrets do: the least bill of a draw is the same for all.
        let regrets = may_be.filter_map(|(at, one)| Some((at, one.regret?)));
        regrets.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(at, _)| at)
    }
}

/// The share of draws that a choice that may be the best cannot serve.
const RARELY: f64 = 0.05;

impl Prospect {
    fn mostly_serves(&self) -> bool {
        self.unserved <= RARELY
    }
}

/// The totals of each choice, where it cannot serve those of the dearest that can: who relied on it takes what is left. NaN
/// where nobody serves.
fn stood_in(totals: &[Vec<f64>], draws: usize) -> Vec<Vec<f64>> {
    let mut dearest = vec![f64::NAN; draws];
    for totals in totals {
        for (dearest, total) in dearest.iter_mut().zip(totals) {
            *dearest = dearest.max(*total);
        }
    }
    let stood = totals.iter().map(|totals| {
        let bills = totals.iter().zip(&dearest);
        bills.map(|(total, dearest)| if total.is_nan() { *dearest } else { *total }).collect()
    });
    stood.collect()
}

/// Of what is a number.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let numbers = values.filter(|value| !value.is_nan());
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

fn range(values: impl Iterator<Item = f64>) -> Option<Range> {
    Range::of(&mut values.filter(|value| !value.is_nan()).collect::<Vec<_>>())
}

/// USD for a Mtok of useful tokens.
fn units<'a>(bills: &'a [f64], useful: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let some = bills.iter().zip(useful).filter(|(_, useful)| **useful > 0.0);
    some.map(|(bill, useful)| bill / useful * 1e6)
}

/// Who has the least bill in each draw, the first of those that are alike; nobody, if none can serve.
fn winners<'a>(
    choices: usize,
    draws: usize,
    bills: impl Fn(usize) -> &'a [f64],
) -> Vec<Option<usize>> {
    let mut best: Vec<(f64, Option<usize>)> = vec![(f64::INFINITY, None); draws];
    for choice in 0..choices {
        for (best, bill) in best.iter_mut().zip(bills(choice)) {
            if *bill < best.0 {
                *best = (*bill, Some(choice));
            }
        }
    }
    best.into_iter().map(|(_, choice)| choice).collect()
}

/// Bands of tasks of all months of all draws, by their quantiles.
fn volumes(table: &Table) -> Vec<(f64, f64)> {
    let mut tasks: Vec<f64> =
        (0..table.months).flat_map(|month| table.tasks(month)).copied().collect();
    let Some(last) = tasks.len().checked_sub(1) else { return Vec::new() };
    let mut edges: Vec<f64> = (0..=BANDS)
        .map(|edge| *tasks.select_nth_unstable_by(last * edge / BANDS, f64::total_cmp).1)
        .collect();
    edges.dedup();
    match edges.as_slice() {
        [only] => vec![(*only, *only)],
        edges => edges.windows(2).map(|pair| (pair[0], pair[1])).collect(),
    }
}

/// Of each band, the share of its months that each choice is the cheapest of.
fn by_volume(
    table: &Table,
    volumes: &[(f64, f64)],
    cheapest: &[Vec<Option<usize>>],
    choices: usize,
) -> Vec<Vec<f64>> {
    let mut won = vec![vec![0_u32; choices]; volumes.len()];
    let mut all = vec![0_u32; volumes.len()];
    for (month, winners) in cheapest.iter().enumerate() {
        for (tasks, winner) in table.tasks(month).iter().zip(winners) {
            let band = volumes.partition_point(|(_, to)| to < tasks).min(volumes.len() - 1);
            all[band] += 1;
            if let Some(winner) = winner {
                won[band][*winner] += 1;
            }
        }
    }
    let shares = won.into_iter().zip(all).map(|(won, all)| {
        won.into_iter().map(|won| f64::from(won) / f64::from(all.max(1))).collect()
    });
    shares.collect()
}

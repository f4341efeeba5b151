//! What each draw comes to, column by column.

use crate::plan::demand;
use crate::scenario::{Scenario, Var};
use crate::unit::PerMonth;

use super::choice::{Choice, Draw};
use super::luck::Luck;
use super::matter::Unsure;

/// Of each draw: tasks by month, useful tokens by month, and the bills of each choice by month; NaN where it cannot serve.
pub(super) struct Table {
    pub(super) months: usize,
    pub(super) draws: usize,
    columns: Vec<f64>,
    /// Of each choice, why it could not serve in the first draw that it could not.
    pub(super) failures: Vec<Option<String>>,
}

impl Table {
    pub(super) fn fill(
        scenario: &Scenario,
        choices: &[&dyn Choice],
        (unsure, luck): (&[Unsure], &Luck),
        (draws, threads): (usize, usize),
    ) -> Self {
        let months = scenario.months as usize;
        let mut columns = vec![f64::NAN; draws * months * (2 + choices.len())];
        let each = draws.div_ceil(threads.max(1)).max(1);
        // Each thread has its draws of every column.
        let mut parts: Vec<Vec<&mut [f64]>> =
            (0..draws.div_ceil(each)).map(|_| Vec::new()).collect();
        for column in columns.chunks_mut(draws) {
            for (part, piece) in parts.iter_mut().zip(column.chunks_mut(each)) {
                part.push(piece);
            }
        }
        let filled = std::thread::scope(|scope| {
            let mut running = Vec::new();
            for (part, mut columns) in parts.into_iter().enumerate() {
                let draws = part * each..(part * each + each).min(draws);
                let work = move || fill(scenario, choices, (unsure, luck), draws, &mut columns);
                running.push(scope.spawn(work));
            }
            let joined = running.into_iter().map(|part| match part.join() {
                Ok(failures) => failures,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Vec<_>>()
        });
        let failures = (0..choices.len())
            .map(|choice| filled.iter().find_map(|failures| failures[choice].clone()));
        Self { months, draws, failures: failures.collect(), columns }
    }

    fn column(&self, at: usize) -> &[f64] {
        &self.columns[at * self.draws..(at + 1) * self.draws]
    }

    /// Tasks of a month in each draw.
    pub(super) fn tasks(&self, month: usize) -> &[f64] {
        self.column(month)
    }

    /// Useful tokens of a month in each draw.
    pub(super) fn useful(&self, month: usize) -> &[f64] {
        self.column(self.months + month)
    }

    /// A choice's bills of a month in each draw.
    pub(super) fn bills(&self, choice: usize, month: usize) -> &[f64] {
        self.column((2 + choice) * self.months + month)
    }
}

/// Fills some draws' part of each column; why each choice could not serve in the first of them that it could not.
fn fill(
    scenario: &Scenario,
    choices: &[&dyn Choice],
    (unsure, luck): (&[Unsure], &Luck),
    draws: std::ops::Range<usize>,
    columns: &mut [&mut [f64]],
) -> Vec<Option<String>> {
    let months = scenario.months as usize;
    let mut thing_of = [None; Var::COUNT];
    let mut serving = None;
    for (at, unsure) in unsure.iter().enumerate() {
        match unsure {
            Unsure::Quantity(var) => thing_of[*var as usize] = Some(at),
            Unsure::Serving => serving = Some(at),
        }
    }
    let of = |thing: Option<usize>, draw| thing.map_or(0.5, |thing| luck.of(thing, draw));
    let mut bills = vec![PerMonth::ZERO; months];
    let mut failures = vec![None; choices.len()];
    for (at, draw) in draws.enumerate() {
        let case = scenario.drawn(|var| of(thing_of[var as usize], draw));
        let demand = demand(scenario, &case);
        for (month, demand) in demand.iter().enumerate() {
            columns[month][at] = demand.tasks;
            columns[months + month][at] = demand.tokens.total() * demand.useful;
        }
        let draw = Draw { case: &case, demand: &demand, serving: of(serving, draw) };
        for (number, choice) in choices.iter().enumerate() {
            match choice.bills(&draw, &mut bills) {
                Ok(()) => {
                    for (month, bill) in bills.iter().enumerate() {
                        columns[(2 + number) * months + month][at] = bill.usd();
                    }
                }
                Err(why) => {
                    failures[number].get_or_insert(why);
                }
            }
        }
    }
    failures
}

/// Sums over all months.
pub(super) struct Totals {
    /// Of each choice in each draw; NaN where it cannot serve.
    pub(super) bills: Vec<Vec<f64>>,
    /// Useful tokens in each draw.
    pub(super) useful: Vec<f64>,
}

pub(super) fn totals(table: &Table, threads: usize) -> Totals {
    let bills = in_parallel(threads, table.failures.len(), |choice| {
        summed(table, |month| table.bills(choice, month))
    });
    Totals { bills, useful: summed(table, |month| table.useful(month)) }
}

fn summed<'a>(table: &Table, of_month: impl Fn(usize) -> &'a [f64]) -> Vec<f64> {
    let mut sums = vec![0.0; table.draws];
    for month in 0..table.months {
        for (sum, value) in sums.iter_mut().zip(of_month(month)) {
            *sum += value;
        }
    }
    sums
}

/// Some pieces of work, each of which depends on its number alone, in their order.
pub(super) fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let each = count.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let parts = (0..count).step_by(each).map(|from| {
            let numbers = from..(from + each).min(count);
            scope.spawn(move || numbers.map(work).collect::<Vec<T>>())
        });
        let running: Vec<_> = parts.collect();
        let done = running.into_iter().flat_map(|part| match part.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.collect()
    })
}

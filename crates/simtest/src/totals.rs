//! What a bill must say, summed naively over the exchanges that were booked.

use std::path::{Path, PathBuf};

use facts::{Answer, Charged, Dimension, End, Exchange, Measures, Query, Rollup, Verdict};
use facts::{Attempt, PriceRecord};
use quantity::{PerClass, UsageSource};
use warehouse::Warehouse;

use crate::Violation;
use crate::hours::{self, Busy};
use crate::plan::Mutant;
use crate::replay::Replay;
use crate::world::World;

/// Where nothing can be stored: projections are made anew for each answer.
const NOWHERE: &str = "/dev/null/warehouse";

/// Sums without the code's own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    exchanges: u64,
    completed: u64,
    attempts: u64,
    tokens: PerClass<u64>,
    cost: i128,
    estimated_cost: i128,
    estimated: u64,
    unknown: u64,
    unpriced: u64,
    unpriced_tokens: u64,
    hosted: u64,
    wasted: i128,
}

impl Sums {
    fn of_answer(total: &Measures) -> Self {
        Self {
            exchanges: total.exchanges,
            completed: total.completed,
            attempts: total.attempts,
            tokens: total.tokens,
            cost: total.cost.pico(),
            estimated_cost: total.estimated.cost.pico(),
            estimated: total.estimated.attempts,
            unknown: total.unknown,
            unpriced: total.unpriced,
            unpriced_tokens: total.unpriced_tokens,
            hosted: total.hosted,
            wasted: total.waste.values().map(|cost| cost.pico()).sum(),
        }
    }

    fn add(&mut self, exchange: &Exchange) {
        self.exchanges += 1;
        self.completed += u64::from(exchange.settlement.verdict == Verdict::Completed);
        for Attempt { end, .. } in &exchange.attempts {
            self.attempts += 1;
            let mut tokens = 0;
            for (class, count) in end.metered.usage.tokens.iter() {
                self.tokens[class] += count.get();
                tokens += count.get();
            }
            let source = end.metered.source;
            self.unknown += u64::from(source == UsageSource::Unknown);
            let told = source == UsageSource::Reported;
            self.estimated += u64::from(!told && source != UsageSource::Unknown);
            match &end.charged {
                Charged::Priced { lines, .. } => {
                    let cost: i128 = lines.iter().map(|line| line.contracted.pico()).sum();
                    self.cost += cost;
                    self.estimated_cost += if told { 0 } else { cost };
                    let cut_short = matches!(
                        end.finish_reason.as_deref(),
                        Some("length" | "max_tokens" | "max_output_tokens" | "MAX_TOKENS")
                    );
                    let of_use = end.end == End::Complete && !cut_short;
                    self.wasted += if of_use { 0 } else { cost };
                }
                Charged::Hosted => self.hosted += 1,
                Charged::Unpriced { .. } => {
                    self.unpriced += 1;
                    self.unpriced_tokens += tokens;
                }
                Charged::NotBilled => {}
            }
        }
    }
}

impl World {
    /// Checks what a bill says of the journal so far, by one dimension, and that the warehouse says the
    /// same.
    pub(crate) fn check_answers(&mut self, replay: &Replay) -> Result<Answer, Violation> {
        let dimensions = [Dimension::Model, Dimension::Upstream, Dimension::Api];
        let by = dimensions[self.random.shelf.index(dimensions.len())].clone();
        let query = Query { by: vec![by.clone()], ..Query::default() };
        let now = self.wall();
        let mut rollup = Rollup::new(query.clone());
        for (upstream, cost, from) in &replay.rates {
            let (upstream, from) = (upstream.clone(), *from);
            rollup.price(&PriceRecord::PerHour { upstream, cost: *cost, from });
        }
        let (mut sums, mut busy) = (Sums::default(), Vec::new());
        for exchange in replay.settled.values() {
            rollup.add(exchange);
            sums.add(exchange);
            let hosted = |attempt: &&Attempt| attempt.end.charged == Charged::Hosted;
            for Attempt { dispatch, end } in exchange.attempts.iter().filter(hosted) {
                let group = match by {
                    Dimension::Model => end.model_served.clone().or(dispatch.model.clone()),
                    Dimension::Upstream => Some(dispatch.upstream.clone()),
                    _ => Some(exchange.admission.api.name().to_owned()),
                };
                let (upstream, group) = (dispatch.upstream.clone(), vec![group]);
                // A clock that steps back stops no hour short.
                let (start, end) = (dispatch.at, end.at.max(dispatch.at));
                busy.push(Busy { upstream, group, start, end });
            }
        }
        self.report.add_to("hosted", busy.len());
        let mut answer = rollup.answer(now);
        if self.mutant == Some(Mutant::IdleForgotten) {
            answer.hosting.iter_mut().for_each(|line| line.idle = quantity::Money::ZERO);
        }
        let found = Sums::of_answer(&answer.total);
        if found != sums {
            let what = format!("the bill says {found:?}, the truth is {sums:?}");
            return Err(Violation::new("SIM-3", what));
        }
        let groups: i128 = answer.groups.iter().map(|group| group.measures.cost.pico()).sum();
        if groups != sums.cost {
            let what = format!("the groups sum to {groups}, not to {}", sums.cost);
            return Err(Violation::new("SIM-3", what));
        }
        hours::check(&answer, &replay.rates, &busy, now)?;
        let warehouse = self.warehouse();
        let refreshed = self.random.shelf.chance(0.5);
        let found = match refreshed {
            true => warehouse.refresh().map(drop),
            false => Ok(()),
        };
        let found = found.and_then(|()| warehouse.answer(&query, now));
        let mut found = found.map_err(|error| Violation::new("SIM-12", error.to_string()))?;
        if self.mutant == Some(Mutant::RowTwice) {
            found.answer.total.exchanges += 1;
        }
        self.report.add_to("projected", found.refreshed.projected);
        if (found.open, found.missing, found.unknown) != (replay.ledger.open(), 0, 0) {
            return Err(Violation::new("SIM-12", format!("it says {found:?}")));
        }
        if found.answer != answer {
            let what = format!("the warehouse says {:?}, not {answer:?}", found.answer);
            return Err(Violation::new("SIM-12", what));
        }
        Ok(answer)
    }

    fn warehouse(&self) -> Warehouse<journal::MemoryStorage> {
        let directory = self.shelf.as_deref().unwrap_or(Path::new(NOWHERE));
        Warehouse::new(directory, self.storage.clone(), journal::MemoryStorage::new())
            .with_processors(1)
            .with_most_unprojected(self.plan.most_unprojected)
    }

    /// Leaves the warehouse as a crash may: a projection gone, cut, half written beside its name, or
    /// with a bit that flipped.
    pub(crate) fn harm_shelf(&mut self) {
        let Some(directory) = &self.shelf else { return };
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let dice = &mut self.random.shelf;
        for path in paths {
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            if bytes.is_empty() || !dice.chance(0.4) {
                continue;
            }
            let at = dice.index(bytes.len());
            // A failure leaves it as it was, which is as good.
            drop(match dice.below(5) {
                0 => std::fs::remove_file(&path),
                1 => std::fs::write(&path, &bytes[..at]),
                2 => std::fs::rename(&path, path.with_extension("columns.1-1.tmp")),
                3 => std::fs::write(path.with_extension("columns.1-2.tmp"), &bytes[..at]),
                _ => {
                    bytes[at] ^= 1 << dice.below(8);
                    std::fs::write(&path, &bytes)
                }
            });
            self.report.count("harmed projection");
        }
    }
}

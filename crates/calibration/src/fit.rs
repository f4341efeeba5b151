//! The few constants that measured runs can settle.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use roofline::{Fit, Sheets};

use crate::bands::Metric;
use crate::load::Load;
use crate::names::setup;
use crate::point::{Point, Reason};
use crate::predict::predict;

/// Points of a fit at most; of more, as many are taken evenly.
const MOST_POINTS: usize = 64;
/// Steps of the search; it ends earlier where nothing moves any more.
const MOST_STEPS: usize = 12;
/// Beyond this error, in logarithms, a point pulls no harder (Huber).
const HUBER: f64 = 0.1;
/// The least that the search looks at, and less than any effect of a factor that matters.
const STILL: f64 = 1e-4;

/// A constant that is fitted, as a factor of what is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constant {
    Compute,
    Memory,
    Communication,
    Step,
    Sequence,
    Request,
}

impl Constant {
    const ALL: [Self; 6] = [
        Self::Compute,
        Self::Memory,
        Self::Communication,
        Self::Step,
        Self::Sequence,
        Self::Request,
    ];

    const fn key(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Memory => "memory",
            Self::Communication => "communication",
            Self::Step => "step_us",
            Self::Sequence => "sequence_us",
            Self::Request => "request_us",
        }
    }

    /// How far, in logarithms, a constant is moved before it takes as much as an error of [`HUBER`] in every tenth point
    /// to hold it there: points that say nothing of it leave it where it was. Host times are known by order of magnitude.
    const fn spread(self) -> f64 {
        match self {
            Self::Compute | Self::Memory | Self::Communication => 1.0,
            Self::Step | Self::Sequence | Self::Request => 2.0,
        }
    }

    /// What it is where the search begins.
    fn start(self, engine: &roofline::Engine) -> f64 {
        let least = match self {
            Self::Step => 100.0,
            Self::Sequence => 10.0,
            Self::Request => 5_000.0,
            Self::Compute | Self::Memory | Self::Communication => return 1.0,
        };
        engine.row().stated(self.key()).unwrap_or(0.0).max(least)
    }
}

/// Constants of one engine on one accelerator, and how well they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The accelerator's sheet.
    pub accelerator: String,
    /// The engine's sheet.
    pub engine: String,
    /// Points that it rests on.
    pub points: usize,
    /// Constants by their keys in a sheet of fits.
    pub constants: Vec<(&'static str, f64)>,
    /// Median absolute relative error of the points with the constants that are carried.
    pub before: f64,
    /// The same with these.
    pub after: f64,
    /// The same for points of models, or with one model of loads, that were left out of the fit: what was left out, with its
    /// points' errors.
    pub left_out: Vec<(String, Vec<f64>)>,
}

impl Fitted {
    /// The median absolute relative error of all that were left out; `None` if there is only one model and one load.
    #[must_use]
    pub fn left_out_error(&self) -> Option<f64> {
        median(self.left_out.iter().flat_map(|(_, errors)| errors).copied().collect())
    }

    /// The sheet's text, which [`Sheets::add`] reads; `source` says where the points are from.
    #[must_use]
    pub fn text(&self, source: &str) -> String {
        let source: String = source.chars().filter(|letter| !letter.is_control()).collect();
        let mut out = format!("fit {} {}\n  source {source}\n", self.accelerator, self.engine);
        for (key, value) in &self.constants {
            let digits = format!("{value:.4e}").parse::<f64>().unwrap_or(*value);
            let _ = writeln!(out, "  {key} {digits}");
        }
        let _ = writeln!(out, "  points {}", self.points);
        let _ = writeln!(out, "  error_percent {:.1}", 100.0 * self.after);
        if let Some(error) = self.left_out_error() {
            let _ = writeln!(out, "  left_out_error_percent {:.1}", 100.0 * error);
        }
        out
    }
}

/// A group of points that are fitted together: predicted values and what was measured.
struct Group<'a> {
    sheets: &'a Sheets,
    accelerator: String,
    engine: String,
    points: Vec<Point>,
    /// What is fitted, with where it starts.
    constants: Vec<(Constant, f64)>,
    /// How far up each may go, in logarithms: nothing achieves more than the peak.
    most: Vec<f64>,
}

/// The furthest that a constant is moved, in logarithms.
const FURTHEST: f64 = 6.0;

/// How far up the arithmetic and the bandwidth that kernels achieve may go until matrices take them at their peak.
fn to_the_peak(sheets: &Sheets, point: &Point) -> Option<(f64, f64)> {
    let setup = setup(sheets, point).ok()?;
    let (_, weights) = setup.fractions().into_iter().find(|(name, _)| *name == "weights")?;
    let room = |fraction: f64| (1.0 / fraction).ln().clamp(0.0, FURTHEST);
    Some((room(weights.compute), room(weights.memory)))
}

/// Fits constants for each accelerator with each engine of the points, on their throughput, TTFT and TPOT. Returns the fits, and
/// the points that could not be used with the reasons.
///
/// The fit minimises the Huber loss of the errors' logarithms, so that outliers do not pull, with a weak pull to the constants
/// that are carried, so that what the points say nothing of stays as it was.
#[must_use]
pub fn fit(sheets: &Sheets, points: &[Point]) -> (Vec<Fitted>, Vec<(Point, Reason)>) {
    let mut groups: BTreeMap<(String, String), Vec<Point>> = BTreeMap::new();
    let mut unused = Vec::new();
    for point in points {
        let point = quick(point);
        match predict(sheets, &point) {
            Ok(predicted) if targets(&point).next().is_some() => {
                let key = (predicted.accelerator.clone(), predicted.engine.clone());
                groups.entry(key).or_default().push(point);
            }
            Ok(_) => unused.push((point, Reason::new("nothing was measured that is predicted"))),
            Err(reason) => unused.push((point, reason)),
        }
    }
    let fits = groups.into_iter().map(|((accelerator, engine), all)| {
        let every = all.len().div_ceil(MOST_POINTS);
        let points: Vec<Point> = all.into_iter().step_by(every.max(1)).collect();
        let engine_row = sheets.engine(&engine).ok();
        let used = |constant: &Constant| match constant {
            Constant::Communication => {
                points.iter().any(|p| p.accelerators.or(p.tensor).unwrap_or(1) > 1)
            }
            Constant::Request => points.iter().any(|point| point.measured.ttft.is_some()),
            _ => true,
        };
        let start = |constant: Constant| engine_row.map_or(1.0, |engine| constant.start(engine));
        let constants: Vec<_> =
            Constant::ALL.into_iter().filter(used).map(|one| (one, start(one))).collect();
        let peak = points.first().and_then(|point| to_the_peak(sheets, point));
        let (compute, memory) = peak.unwrap_or((FURTHEST, FURTHEST));
        let most = constants.iter().map(|(constant, _)| match constant {
            Constant::Compute => compute,
            Constant::Memory => memory,
            _ => FURTHEST,
        });
        let most = most.collect();
        Group { sheets, accelerator, engine, points, constants, most }.fitted()
    });
    (fits.collect(), unused)
}

/// The same run with fewer rounds: the search simulates it often.
fn quick(point: &Point) -> Point {
    const ROUNDS: u32 = 4;
    let mut point = point.clone();
    if let Some(Load::Closed { clients, requests }) = &mut point.load {
        let few = clients.saturating_mul(ROUNDS);
        *requests = Some(requests.map_or(few, |all| all.min(few)));
    }
    point
}

/// What a point is fitted to: latencies, and throughput where there is no time per token; with how much each weighs.
fn targets(point: &Point) -> impl Iterator<Item = (Metric, f64)> {
    let measured = point.measured;
    let has = move |metric| measured.value(metric).is_some();
    let throughput = (!has(Metric::Tpot)).then_some((Metric::Throughput, 1.0));
    let times = [(Metric::Tpot, 1.0), (Metric::Ttft, 0.5)];
    times.into_iter().chain(throughput).filter(move |(metric, _)| has(*metric))
}

impl Group<'_> {
    fn fitted(&self) -> Fitted {
        let all: Vec<&Point> = self.points.iter().collect();
        let zero = vec![0.0; self.constants.len()];
        let before = self.errors(&all, None);
        let best = self.search(&all, zero.clone());
        let after = self.errors(&all, Some(&best));
        let models: std::collections::BTreeSet<&str> =
            all.iter().map(|p| p.model.as_str()).collect();
        let named = |point: &Point| {
            if models.len() > 1 {
                point.model.clone()
            } else {
                format!(
                    "{}, {} in, {} out",
                    point.asked,
                    point.isl.unwrap_or(0.0),
                    point.osl.unwrap_or(0.0)
                )
            }
        };
        let mut names: Vec<String> = all.iter().map(|point| named(point)).collect();
        names.sort();
        names.dedup();
        let mut left_out = Vec::new();
        if names.len() > 1 {
            for name in names {
                let (out, rest): (Vec<&Point>, Vec<&Point>) =
                    all.iter().partition(|point| named(point) == name);
                let own = self.search(&rest, best.clone());
                left_out.push((name, self.errors(&out, Some(&own))));
            }
        }
        let value = |(&(constant, start), log): (&(Constant, f64), &f64)| {
            (constant.key(), start * log.exp())
        };
        Fitted {
            accelerator: self.accelerator.clone(),
            engine: self.engine.clone(),
            points: all.len(),
            constants: self.constants.iter().zip(&best).map(value).collect(),
            before: median(before).unwrap_or(0.0),
            after: median(after).unwrap_or(0.0),
            left_out,
        }
    }

    /// The sheets with constants so far, in logarithms, from where they start.
    fn with(&self, logs: &[f64]) -> Sheets {
        let mut sheets = self.sheets.clone();
        let mut text = format!("fit {} {}\n  source a trial\n", self.accelerator, self.engine);
        for ((constant, start), log) in self.constants.iter().zip(logs) {
            let _ = writeln!(text, "  {} {}", constant.key(), start * log.exp());
        }
        if let Ok(fits) = Fit::read("a trial", &text) {
            sheets.kernels.add_fits(fits);
        }
        sheets
    }

    /// Errors in logarithms, weighed; none for a point that cannot be predicted.
    fn residuals(&self, points: &[&Point], logs: &[f64]) -> Vec<f64> {
        let sheets = self.with(logs);
        let mut all = Vec::new();
        for point in points {
            let predicted = predict(&sheets, point);
            for (metric, weight) in targets(point) {
                let value = predicted.as_ref().ok().and_then(|predicted| predicted.value(metric));
                let measured = point.measured.value(metric);
                let error =
                    value.zip(measured).map_or(0.0, |(value, measured)| (value / measured).ln());
                all.push(error * weight);
            }
        }
        all
    }

    /// Absolute relative errors, of TPOT or else of what was measured.
    fn errors(&self, points: &[&Point], logs: Option<&[f64]>) -> Vec<f64> {
        let fitted = logs.map(|logs| self.with(logs));
        let sheets = fitted.as_ref().unwrap_or(self.sheets);
        let error = |point: &&Point| {
            let predicted = predict(sheets, point).ok()?;
            let (metric, _) = targets(point).next()?;
            Some((predicted.value(metric)? / point.measured.value(metric)? - 1.0).abs())
        };
        points.iter().filter_map(error).collect()
    }

    fn loss(&self, residuals: &[f64], logs: &[f64]) -> f64 {
        let huber =
            |r: f64| if r.abs() <= HUBER { r * r / 2.0 } else { HUBER * (r.abs() - HUBER / 2.0) };
        residuals.iter().map(|r| huber(*r)).sum::<f64>() + self.pull(logs, residuals.len())
    }

    /// What holds constants back.
    fn pull(&self, logs: &[f64], residuals: usize) -> f64 {
        let one =
            |((constant, _), log): (&(Constant, f64), &f64)| (log / constant.spread()).powi(2);
        let weight = HUBER * HUBER / 2.0 * (residuals as f64 / 10.0).max(1.0);
        self.constants.iter().zip(logs).map(one).sum::<f64>() * weight
    }

    /// Levenberg and Marquardt's search on reweighted squares.
    fn search(&self, points: &[&Point], start: Vec<f64>) -> Vec<f64> {
        const NUDGE: f64 = 0.02;
        let mut at = start;
        let mut residuals = self.residuals(points, &at);
        let mut loss = self.loss(&residuals, &at);
        let mut damping = 1e-2;
        for _ in 0..MOST_STEPS {
            let columns: Vec<Vec<f64>> = (0..at.len())
                .map(|index| {
                    let mut nudged = at.clone();
                    nudged[index] += NUDGE;
                    let other = self.residuals(points, &nudged);
                    other.iter().zip(&residuals).map(|(new, old)| (new - old) / NUDGE).collect()
                })
                .collect();
            let weights: Vec<f64> =
                residuals.iter().map(|r| (HUBER / r.abs().max(1e-12)).min(1.0)).collect();
            let pull = HUBER * HUBER * (residuals.len() as f64 / 10.0).max(1.0);
            let mut moved = false;
            for _ in 0..6 {
                let size = at.len();
                let mut matrix = vec![vec![0.0; size + 1]; size];
                for row in 0..size {
                    let held = pull / self.constants[row].0.spread().powi(2);
                    for column in 0..size {
                        let product = columns[row].iter().zip(&columns[column]).zip(&weights);
                        matrix[row][column] = product.map(|((a, b), w)| a * b * w).sum();
                    }
                    matrix[row][row] = (matrix[row][row] + held) * (1.0 + damping);
                    let slope = columns[row]
                        .iter()
                        .zip(&residuals)
                        .zip(&weights)
                        .map(|((a, r), w)| a * r * w)
                        .sum::<f64>();
                    matrix[row][size] = -(slope + held * at[row]);
                }
                let Some(step) = solved(matrix) else { break };
                let tried: Vec<f64> = at
                    .iter()
                    .zip(&step)
                    .zip(&self.most)
                    .map(|((at, step), most)| (at + step.clamp(-1.5, 1.5)).clamp(-FURTHEST, *most))
                    .collect();
                let new = self.residuals(points, &tried);
                let better = self.loss(&new, &tried);
                if better < loss {
                    moved =
                        step.iter().any(|step| step.abs() > STILL) && loss - better > 1e-4 * loss;
                    (at, residuals, loss) = (tried, new, better);
                    damping = (damping / 5.0).max(1e-6);
                    break;
                }
                damping *= 8.0;
            }
            if !moved {
                break;
            }
        }
        at
    }
}

/// The solution of a linear system, its right side being the last column; `None` if it has none.
fn solved(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = rows.len();
    for at in 0..size {
        let pivot = (at..size).max_by(|a, b| rows[*a][at].abs().total_cmp(&rows[*b][at].abs()))?;
        rows.swap(at, pivot);
        let lead = rows[at][at];
        if !lead.is_finite() || lead.abs() < 1e-12 {
            return None;
        }
        for other in 0..size {
            if other == at {
                continue;
            }
            let factor = rows[other][at] / lead;
            let own = rows[at].clone();
            for (cell, own) in rows[other].iter_mut().zip(&own).skip(at) {
                *cell -= factor * own;
            }
        }
    }
    Some((0..size).map(|at| rows[at][size] / rows[at][at]).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(f64::midpoint(values[middle], values[values.len() / 2]))
}

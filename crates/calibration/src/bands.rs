//! The intervals around predictions.

use roofline::{Basis, Setup, SheetError};

use crate::predict::{Kind, Regime};

/// A quantity that is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Tokens of replies per second.
    Throughput,
    /// Time to the first token.
    Ttft,
    /// Time for each further token.
    Tpot,
    /// Time to the last token.
    Latency,
    /// The highest rate that keeps limits.
    Rate,
}

impl Metric {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Throughput, Self::Ttft, Self::Tpot, Self::Latency, Self::Rate];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
            Self::Latency => "e2e",
            Self::Rate => "rate",
        }
    }
}

/// A 90 % interval: what the truth may be, as factors of the prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// The least, at most 1.
    pub low: f64,
    /// The most, at least 1.
    pub high: f64,
    /// What it rests on, in words.
    pub why: String,
}

/// Quantiles of errors, by what is predicted, for which kind of model and in which regime.
#[derive(Debug, Clone, PartialEq)]
pub struct Bands {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    metric: String,
    kind: String,
    regime: String,
    points: u32,
    low: f64,
    high: f64,
}

/// How much wider an interval is, in logarithms, where nothing of the kind was measured.
const WIDER: f64 = 1.5;

impl Bands {
    /// The intervals that are carried.
    ///
    /// # Errors
    /// [`SheetError`] if the carried file is damaged, which the tests rule out.
    pub fn built_in() -> Result<Self, SheetError> {
        Self::read("intervals.txt", include_str!("../data/intervals.txt"))
    }

    /// Reads a sheet of intervals: lines of `metric kind regime points low high`, where `-` stands for any.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Self, SheetError> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong =
                |what: String| SheetError { sheet: sheet.to_owned(), line: index + 1, what };
            let cells: Vec<&str> = line.split_whitespace().collect();
            let &[metric, kind, regime, points, low, high] = cells.as_slice() else {
                return Err(wrong(format!("expected 6 columns, found {}", cells.len())));
            };
            let number = |key: &str, cell: &str, fine: fn(f64) -> bool, expected: &str| {
                let value =
                    cell.parse::<f64>().ok().filter(|value| value.is_finite() && fine(*value));
                value.ok_or_else(|| wrong(format!("`{key}`: expected {expected}, found `{cell}`")))
            };
            let counted = points
                .parse()
                .map_err(|_| wrong(format!("`points`: expected a count, found `{points}`")))?;
            rows.push(Row {
                metric: metric.to_owned(),
                kind: kind.to_owned(),
                regime: regime.to_owned(),
                points: counted,
                low: number("low", low, |low| low > 0.0 && low <= 1.0, "more than 0, at most 1")?,
                high: number("high", high, |high| high >= 1.0, "at least 1")?,
            });
        }
        Ok(Self { rows })
    }

    /// The interval of a quantity. It is wider, and says so, where the kernels' constants are those of other accelerators.
    #[must_use]
    pub fn of(&self, metric: Metric, kind: Kind, regime: Regime, basis: Basis) -> Band {
        let row = |metric: Metric, kind: &str, regime: &str| {
            let own = |row: &&Row| {
                row.metric == metric.name() && row.kind == kind && row.regime == regime
            };
            self.rows.iter().find(own)
        };
        let exact = row(metric, kind.name(), regime.name());
        // Most of an end-to-end time is the replies' tokens. What is served of requests that come when they come is known
        // at least as well as that of clients, who send more when they are served sooner.
        let near = exact.or_else(|| match (metric, regime) {
            (Metric::Latency, _) => row(Metric::Tpot, kind.name(), regime.name()),
            (Metric::Throughput, Regime::Paced) => {
                row(metric, kind.name(), Regime::DecodeBound.name())
            }
            _ => None,
        });
        let paced = || (regime == Regime::Paced).then(|| row(metric, "-", regime.name())).flatten();
        let found = near
            .or_else(paced)
            .or_else(|| row(metric, kind.name(), "-"))
            .or_else(|| row(metric, "-", "-"));
        let Some(row) = found else {
            let why = format!(
                "no {} was measured: within a factor of 3, for want of better",
                metric.name()
            );
            return Band { low: 1.0 / 3.0, high: 3.0, why };
        };
        let what = match (row.kind.as_str(), row.regime.as_str()) {
            ("-", "-") => "all kinds and regimes".to_owned(),
            (kind, "-") => kind.to_owned(),
            ("-", regime) => regime.to_owned(),
            (kind, regime) => format!("{kind}, {regime}"),
        };
        let why = format!("errors of {} measured points: {what}", row.points);
        let band = Band { low: row.low, high: row.high, why };
        match basis {
            Basis::Generic => band.wider("kernels were not measured on this accelerator"),
            _ => band,
        }
    }
}

/// A point that was not fitted to: what it is, and `measured / predicted`.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// What was predicted.
    pub metric: Metric,
    /// The kind of the model.
    pub kind: Kind,
    /// What bounds the run.
    pub regime: Regime,
    /// The model's sheet: models are left out one by one.
    pub model: String,
    /// Measured over predicted.
    pub ratio: f64,
}

/// The text of the intervals that errors make: for each quantity, kind and regime with enough points of enough models, for both
/// kinds paced, and for all kinds and regimes together, the 5th and the 95th percentile of `measured / predicted`, moved apart
/// until nine tenths of the points of models that were left out one by one lie within what the others make (conformal, by
/// model).
#[must_use]
pub fn made(residuals: &[Residual]) -> String {
    const POINTS: usize = 25;
    const MODELS: usize = 3;
    let mut out = String::new();
    for metric in Metric::ALL {
        let of_it: Vec<&Residual> =
            residuals.iter().filter(|one| one.metric == metric && one.ratio > 0.0).collect();
        // Older engines stand apart: nobody else's interval is wider for them.
        let newer: Vec<_> =
            of_it.iter().copied().filter(|one| one.regime != Regime::OlderEngine).collect();
        let paced = newer.iter().copied().filter(|one| one.regime == Regime::Paced).collect();
        let mut cells = vec![("-", "-", newer.clone()), ("-", Regime::Paced.name(), paced)];
        for kind in Kind::ALL {
            let own: Vec<_> = of_it.iter().copied().filter(|one| one.kind == kind).collect();
            for regime in Regime::ALL {
                let both = own.iter().copied().filter(|one| one.regime == regime).collect();
                cells.push((kind.name(), regime.name(), both));
            }
            let own = newer.iter().copied().filter(|one| one.kind == kind).collect();
            cells.push((kind.name(), "-", own));
        }
        for (kind, regime, points) in cells {
            let mut models: Vec<&str> = points.iter().map(|one| one.model.as_str()).collect();
            models.sort_unstable();
            models.dedup();
            let all = (kind, regime) == ("-", "-");
            if points.is_empty() || !all && (points.len() < POINTS || models.len() < MODELS) {
                continue;
            }
            let wider = widened(&points, &models);
            let (low, high) = apart(ends(&points), wider);
            out +=
                &format!("{} {kind} {regime} {} {low:.3} {high:.3}\n", metric.name(), points.len());
        }
    }
    out
}

/// The 5th and 95th percentiles in logarithms.
fn ends(points: &[&Residual]) -> (f64, f64) {
    let mut logs: Vec<f64> = points.iter().map(|one| one.ratio.ln()).collect();
    logs.sort_by(f64::total_cmp);
    let last = logs.len().saturating_sub(1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = |share: f64| logs.get((last * share).round() as usize).copied().unwrap_or(0.0);
    (at(0.05), at(0.95))
}

/// An interval as factors, its ends moved apart, that holds what was predicted.
fn apart((low, high): (f64, f64), wider: f64) -> (f64, f64) {
    let (middle, half) = (f64::midpoint(low, high), (high - low) / 2.0 * wider);
    ((middle - half).min(-1e-3).exp(), (middle + half).max(1e-3).exp())
}

/// How far the ends must be moved apart so that models that are left out are covered.
fn widened(points: &[&Residual], models: &[&str]) -> f64 {
    const WANTED: f64 = 0.9;
    let parts: Vec<(Vec<&Residual>, (f64, f64))> = models
        .iter()
        .map(|model| {
            let (out, rest): (Vec<&Residual>, Vec<&Residual>) =
                points.iter().partition(|one| one.model == *model);
            let from = if rest.is_empty() { ends(&out) } else { ends(&rest) };
            (out, from)
        })
        .collect();
    let covered = |wider: f64| {
        let within = parts.iter().map(|(out, from)| {
            let (low, high) = apart(*from, wider);
            out.iter().filter(|one| (low..=high).contains(&one.ratio)).count()
        });
        within.sum::<usize>() as f64 / points.len() as f64
    };
    let steps = (0..60).map(|step| 1.0 + 0.05 * f64::from(step));
    steps.into_iter().find(|wider| covered(*wider) >= WANTED).unwrap_or(4.0)
}

/// The longest prompts and replies, in mean tokens of a run, that `data/intervals.txt` rests on.
const LONGEST: [(&str, f64); 2] =
    [("prompts are longer than 32,768", 32_768.0), ("replies are longer than 8,192", 8_192.0)];
/// The most accelerators of a replica in a server.
const SERVER: u32 = 8;

/// Why no measured run was like this: prompts or replies longer than any, in mean tokens, or a replica that spans servers.
#[must_use]
pub fn beyond(setup: &Setup, lengths: [f64; 2]) -> Option<String> {
    let long = LONGEST.into_iter().zip(lengths).filter(|((_, most), mean)| mean > most);
    let mut why: Vec<String> = long
        .map(|((what, _), _)| format!("{what} tokens, the longest that were measured"))
        .collect();
    let rack = setup.accelerator.row().name().starts_with("gb");
    if setup.layout.accelerators() > SERVER && !rack {
        why.push(format!(
            "a replica of more than {SERVER} spans servers, and none such was measured"
        ));
    }
    (!why.is_empty()).then(|| why.join(", and "))
}

impl Band {
    /// A wider one, for a reason.
    #[must_use]
    pub fn wider(self, why: &str) -> Self {
        Self {
            low: self.low.powf(WIDER),
            high: self.high.powf(WIDER),
            why: format!("{}; wider, for {why}", self.why),
        }
    }
}

/// The 90 % interval of a quantity that is predicted for a setup.
///
/// # Errors
/// [`SheetError`] if the carried intervals are damaged, which the tests rule out.
pub fn interval(setup: &Setup, metric: Metric, regime: Regime) -> Result<Band, SheetError> {
    let (basis, _) = setup.certainty();
    Ok(Bands::built_in()?.of(metric, Kind::of(&setup.model), regime, basis))
}

//! A prediction for a measured point.

use std::fmt;

use roofline::{Basis, ClosedLoop, Routing, Setup, Sheets};

use crate::bands::{Band, Bands, Metric};
use crate::load::Load;
use crate::names::{Resolved, resolve};
use crate::point::{Measured, Point, Reason, Settings, Time};
use crate::rate;
use crate::serve::{Replica, Served, Times};

/// Kinds of models whose predictions err apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Every token passes all parameters.
    Dense,
    /// Experts.
    Moe,
}

/// What bounds a run, by which predictions err apart. Clients of a benchmark send the next request when the last is
/// answered, all at the same time at first; where requests come when they come, predictions err much less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// Requests come when they come, and hardly wait for a place.
    Paced,
    /// Most time goes to replies.
    DecodeBound,
    /// More time goes to prompts than to replies.
    PrefillHeavy,
    /// Requests wait for a place: bursts, batches, rates beyond what is served.
    Saturated,
    /// An engine of before 2025, which was slower by as much as nobody can tell: the constants are of newer ones.
    OlderEngine,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 2] = [Self::Dense, Self::Moe];

    /// The kind of a model.
    #[must_use]
    pub fn of(model: &roofline::Model) -> Self {
        if model.experts.is_some() { Self::Moe } else { Self::Dense }
    }

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Moe => "moe",
        }
    }
}

impl Regime {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Paced, Self::DecodeBound, Self::PrefillHeavy, Self::Saturated, Self::OlderEngine];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::DecodeBound => "decode-bound",
            Self::PrefillHeavy => "prefill-heavy",
            Self::Saturated => "saturated",
            Self::OlderEngine => "older-engine",
        }
    }

    /// The regime of so many clients: what share of the busy time prompts caused, and what share of the time to the last
    /// token requests waited for a place.
    #[must_use]
    pub fn of_clients(input_share: f64, wait_share: f64) -> Self {
        match Self::of_arrivals(wait_share) {
            Self::Paced if input_share > 0.5 => Self::PrefillHeavy,
            Self::Paced => Self::DecodeBound,
            other => other,
        }
    }

    /// The regime of requests that come when they come: what share of the time to the last token they waited for a place.
    #[must_use]
    pub fn of_arrivals(wait_share: f64) -> Self {
        if wait_share > 0.1 { Self::Saturated } else { Self::Paced }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is predicted for a point. Times are of the kind that was measured, a mean or a median; in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The kind of the model.
    pub kind: Kind,
    /// What bounds the run.
    pub regime: Regime,
    /// The model's sheet.
    pub model: String,
    /// The accelerator's sheet.
    pub accelerator: String,
    /// The engine's sheet.
    pub engine: String,
    /// Tokens of replies per second of the whole deployment.
    pub output_tokens_per_s: f64,
    /// Seconds to the first token.
    pub ttft_s: Option<f64>,
    /// Seconds for each further token; `None` if replies have but one.
    pub tpot_s: Option<f64>,
    /// Seconds to the last token.
    pub latency_s: Option<f64>,
    /// The highest rate that keeps the limits, where the point has some; requests a second of the whole deployment.
    pub rate: Option<f64>,
    /// What the kernels' constants rest on.
    pub basis: Basis,
    /// What was assumed because it was not told.
    pub assumed: Vec<String>,
}

impl Prediction {
    /// The predicted value of a quantity.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Throughput => Some(self.output_tokens_per_s),
            Metric::Ttft => self.ttft_s,
            Metric::Tpot => self.tpot_s,
            Metric::Latency => self.latency_s,
            Metric::Rate => self.rate,
        }
    }

    /// The 90 % interval of a quantity.
    #[must_use]
    pub fn band(&self, bands: &Bands, metric: Metric) -> Option<Band> {
        self.value(metric).map(|_| bands.of(metric, self.kind, self.regime, self.basis))
    }
}

impl Measured {
    /// The measured value of a quantity.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let seconds = |time: Option<Time>| time.map(|time| time.seconds);
        match metric {
            Metric::Throughput => self.output_tokens_per_s,
            Metric::Ttft => seconds(self.ttft),
            Metric::Tpot => seconds(self.tpot),
            Metric::Latency => seconds(self.latency),
            Metric::Rate => self.rate,
        }
    }
}

/// Tokens of a batch by the engines' defaults.
const A_BATCH: u32 = 8_192;

/// Predicts what was measured.
///
/// # Errors
/// The [`Reason`] why nothing can be said: something that was not stated, that no sheet has, or that is not simulated.
pub fn predict(sheets: &Sheets, point: &Point) -> Result<Prediction, Reason> {
    if let Some(reason) = &point.refused {
        return Err(reason.clone());
    }
    let resolved = resolve(sheets, point)?;
    let Resolved { model, accelerator, engine, formats, ref layouts, .. } = resolved;
    let searched = point.measured.rate.and(point.settings.slo);
    let mut best: Option<Run> = None;
    let mut failed = None;
    // Who tuned for limits tuned how much of a prompt a step takes, too.
    let budgets: &[Option<u32>] = match searched {
        Some(_) if point.settings.max_num_batched_tokens.is_none() => {
            &[None, Some(2_048), Some(1_024)]
        }
        _ => &[None],
    };
    let tried = layouts.iter().flat_map(|&(layout, replicas)| {
        // The stages of a pipeline work on as many batches.
        let stages = (layout.pipeline > 1).then_some(Some(A_BATCH * layout.pipeline));
        let budgets = budgets.iter().copied().chain(stages);
        budgets.map(move |budget| ((layout, replicas), budget))
    });
    for ((layout, replicas), budget) in tried {
        let setup = Setup::new(
            model,
            accelerator,
            engine,
            &sheets.kernels,
            layout,
            formats,
            Routing::default(),
        );
        let run = setup.map_err(|error| Reason::new(error.to_string())).and_then(|setup| {
            let told = point.settings.max_num_batched_tokens;
            let settings = Settings { max_num_batched_tokens: told.or(budget), ..point.settings };
            let replica = Replica::new(&setup, &settings)?;
            let rate = searched.map(|slo| rate::highest(&replica, point, slo)).transpose()?;
            // Who chose the layout chose it for the limits; the run is then simulated at the measured rate.
            let found = best
                .as_ref()
                .is_some_and(|best| best.rate >= rate.map(|rate| rate * f64::from(replicas)));
            if searched.is_some() && found {
                return Err(Reason::new("another layout serves more"));
            }
            let served = replica.serve(point, replicas)?;
            let (basis, _) = setup.certainty();
            let rate = rate.map(|rate| rate * f64::from(replicas));
            let decode_s = decode_seconds(&setup, point);
            Ok(Run {
                served,
                replicas,
                rate,
                basis,
                decode_s,
                steady: steady(&setup, point, replicas),
            })
        });
        match run {
            Ok(run) => {
                let better = |best: &Run| match (run.rate, best.rate) {
                    (Some(own), Some(other)) => own > other,
                    _ => run.output() > best.output(),
                };
                if best.as_ref().is_none_or(better) {
                    best = Some(run);
                }
            }
            Err(reason) => failed = Some(reason),
        }
    }
    let untried = || failed.unwrap_or_else(|| Reason::new("no layout is possible"));
    let run = best.ok_or_else(untried)?;
    Ok(run.prediction(point, &resolved))
}

/// TTFT and TPOT of a closed loop on an engine whose prompts go first.
fn steady(setup: &Setup, point: &Point, replicas: u32) -> Option<(f64, f64)> {
    let &Some(Load::Closed { clients, .. }) = &point.load else { return None };
    if setup.engine.mixes().ok()? {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = |tokens: f64| tokens.round() as u32;
    let concurrency = clients.div_ceil(replicas);
    let load = ClosedLoop { isl: whole(point.isl?), osl: whole(point.osl?), concurrency };
    let steady = setup.steady(load).ok()?;
    let before_s = setup.request_seconds() + setup.engine.steps_ahead() * steady.tpot_s;
    Some((steady.ttft_s + before_s, steady.tpot_s))
}

/// Seconds of a step in which all that came together decode, halfway through their replies.
fn decode_seconds(setup: &Setup, point: &Point) -> Option<f64> {
    let &Some(Load::Together { requests }) = &point.load else { return None };
    let context = point.isl? + point.osl? / 2.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let context = context.round() as u32;
    Some(setup.step(setup.decodes(requests, context)).seconds())
}

/// A simulated run of one of so many replicas.
struct Run {
    served: Served,
    replicas: u32,
    rate: Option<f64>,
    basis: Basis,
    /// Seconds of a step in which all that came together decode.
    decode_s: Option<f64>,
    /// TTFT and TPOT of a closed loop on an engine whose prompts go first.
    steady: Option<(f64, f64)>,
}

impl Run {
    fn output(&self) -> f64 {
        self.served.output_tokens_per_s * f64::from(self.replicas)
    }

    fn prediction(&self, point: &Point, resolved: &Resolved<'_>) -> Prediction {
        let Served { ttft, tpot, latency, .. } = &self.served;
        let of = |times: &Times, measured: Option<Time>| match measured {
            Some(Time { median: true, .. }) => times.at(0.5),
            _ => times.mean(),
        };
        let measured = &point.measured;
        // Where prompts go first, replies that end together are replaced together, which is a closed form and no simulation of
        // an engine that mixes.
        let first = self.steady;
        // How long a request waits in a queue depends on how many there were.
        let untold = matches!(point.load, Some(Load::Queue { requests: None }));
        let from_arrival = |times, measured| if untold { None } else { of(times, measured) };
        let ttft_s = first.map(|(ttft, _)| ttft).or_else(|| from_arrival(ttft, measured.ttft));
        // Steps of decodes alone, prompts being done before.
        let alone = self.decode_s.filter(|_| measured.decode_only);
        let tpot_s = alone.or(first.map(|(_, tpot)| tpot)).or_else(|| of(tpot, measured.tpot));
        // As it was derived where it was not measured: clients x tokens / (TTFT + TPOT x (tokens - 1)).
        let derived = match (&point.load, point.osl, ttft_s, tpot_s) {
            (&Some(Load::Closed { clients, .. }), Some(osl), Some(ttft), Some(tpot))
                if measured.derived =>
            {
                let osl = if point.lengths == crate::Lengths::Even { osl / 0.9 } else { osl };
                Some(f64::from(clients) * osl / (ttft + tpot * (osl - 1.0)))
            }
            (&Some(Load::Together { requests }), _, _, Some(tpot)) if measured.decode_only => {
                Some(f64::from(requests) / tpot)
            }
            _ => None,
        };
        let resolved_name = |row: &roofline::Row| row.name().to_owned();
        Prediction {
            kind: Kind::of(resolved.model),
            regime: match point.load {
                _ if point.engine_is_old() => Regime::OlderEngine,
                // All at once: whatever binds, the batch is given.
                Some(Load::Together { .. } | Load::Queue { .. }) => Regime::Saturated,
                Some(Load::Open { .. }) => Regime::of_arrivals(self.served.wait_share),
                _ => Regime::of_clients(self.served.input_share, self.served.wait_share),
            },
            model: resolved_name(resolved.model.row()),
            accelerator: resolved_name(resolved.accelerator.row()),
            engine: resolved_name(resolved.engine.row()),
            output_tokens_per_s: derived.unwrap_or_else(|| self.output()),
            ttft_s,
            tpot_s,
            latency_s: from_arrival(latency, measured.latency),
            rate: self.rate,
            basis: self.basis,
            assumed: resolved.assumed.clone(),
        }
    }
}

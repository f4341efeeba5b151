//! `farthing validate`: predictions beside what others measured.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use anyhow::Context;
use calibration::{Bands, Metric, Point, Prediction, Reason, Residual, Sheet, Summary, predict};
use quantity::grouped;
use report::Style;
use report::csv::{Csv, label};
use report::table::Table;
use roofline::Sheets;
use serde_json::{Map, Value, json};

use crate::{output, simulate};

/// Predictions beside measured points: throughput, latencies, their 90 % intervals, and how far they are off
///
/// A CSV with a row for each point, of these columns at least: model, gpu, engine, isl, osl, concurrency_or_rate
/// (conc=64, rate=8, qps=4, static bs=16, rate=inf n=1000, offline). More that is used: quantization, n_gpus, tp, pp, ep, dp,
/// engine_version, throughput_output_tok_s, ttft_ms_mean, ttft_ms_p50, tpot_ms, itl_ms, e2e_ms, notes. Columns may stand in
/// any order, and others beside them. A row that cannot be predicted says why.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Measured points
    #[arg(required = true, value_name = "POINTS.csv")]
    points: Vec<PathBuf>,
    /// Where the table of predictions goes, with the summary on stdout [default: stdout, with the summary on stderr]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Own data sheets of models, accelerators or engines, before those that are carried
    #[arg(long, value_name = "FILE")]
    sheet: Vec<PathBuf>,
    /// Also writes the 90 % intervals that these points' errors make, each model left out once
    #[arg(long, value_name = "FILE")]
    intervals: Option<PathBuf>,
    /// As JSON: rows and summary in one
    #[arg(long)]
    json: bool,
}

type Predicted = (String, Point, Result<Prediction, Reason>);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let sheets = simulate::sheets(&arguments.sheet)?;
    let bands = Bands::built_in()?;
    let points = points(&arguments.points)?;
    let predicted = predict_all(&sheets, points);
    let mut summary = Summary::default();
    for (_, point, outcome) in &predicted {
        summary.add(point, outcome, &bands);
    }
    if let Some(file) = &arguments.intervals {
        let text = calibration::made(&residuals(&predicted));
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let rows = if arguments.json {
        as_json(&predicted, &summary, &bands)
    } else {
        as_csv(&predicted, &bands)
    };
    let text = as_text(&predicted, &summary, output::style());
    match &arguments.out {
        Some(file) => {
            std::fs::write(file, rows)
                .with_context(|| format!("cannot write {}", file.display()))?;
            output::print(&text)
        }
        None if arguments.json => output::print(&rows),
        None => {
            output::print(&rows)?;
            eprint!("{text}");
            Ok(())
        }
    }
}

/// The points of all files. One that is none of these stops a run of that file alone; among others it is passed over aloud.
fn points(files: &[PathBuf]) -> anyhow::Result<Vec<(String, Point)>> {
    let mut points = Vec::new();
    let mut strange = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        match Sheet::read(&name, &String::from_utf8_lossy(&bytes)) {
            Ok(sheet) => points.extend(sheet.points.into_iter().map(|point| (name.clone(), point))),
            Err(error) => strange.push(error),
        }
    }
    match strange.first() {
        Some(error) if strange.len() == files.len() => Err(error.clone().into()),
        _ => {
            strange.iter().for_each(|error| eprintln!("farthing: passed over: {error}"));
            Ok(points)
        }
    }
}

fn residuals(all: &[Predicted]) -> Vec<Residual> {
    let mut found = Vec::new();
    for (_, point, outcome) in all {
        let Ok(predicted) = outcome else { continue };
        for metric in Metric::ALL {
            let (measured, value) = (point.measured.value(metric), predicted.value(metric));
            let Some((measured, value)) = measured.zip(value) else { continue };
            found.push(Residual {
                metric,
                kind: predicted.kind,
                regime: predicted.regime,
                model: predicted.model.clone(),
                ratio: measured / value,
            });
        }
    }
    found
}

/// Predicts each, on all cores, in their order. No point may take the others with it, whatever is in it.
fn predict_all(sheets: &Sheets, points: Vec<(String, Point)>) -> Vec<Predicted> {
    const BATCH: usize = 16;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let from = next.fetch_add(BATCH, std::sync::atomic::Ordering::Relaxed);
            if from >= points.len() {
                return done;
            }
            let some = points.iter().enumerate().skip(from).take(BATCH);
            done.extend(some.map(|(index, (_, point))| {
                let tried = catch_unwind(AssertUnwindSafe(|| predict(sheets, point)));
                let broken =
                    |_| Err(Reason::new("the simulation broke down, which is a bug of ours"));
                (index, tried.unwrap_or_else(broken))
            }));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = handles.into_iter().flat_map(|handle| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect::<Vec<_>>()
    });
    all.sort_by_key(|(index, _)| *index);
    let outcomes = all.into_iter().map(|(_, outcome)| outcome);
    points
        .into_iter()
        .zip(outcomes)
        .map(|((file, point), outcome)| (file, point, outcome))
        .collect()
}

/// The name of a quantity with its unit, and how many of that unit are in one of ours.
const fn unit(metric: Metric) -> (&'static str, f64) {
    match metric {
        Metric::Throughput => ("throughput_output_tok_s", 1.0),
        Metric::Ttft => ("ttft_ms", 1e3),
        Metric::Tpot => ("tpot_ms", 1e3),
        Metric::Latency => ("e2e_ms", 1e3),
        Metric::Rate => ("rate_req_s", 1.0),
    }
}

/// A quantity of a row in its unit: measured, predicted, and the interval.
fn quantity(
    point: &Point,
    outcome: &Result<Prediction, Reason>,
    bands: &Bands,
    metric: Metric,
) -> [Option<f64>; 4] {
    let (_, scale) = unit(metric);
    let scaled = |value: Option<f64>| value.map(|value| value * scale);
    let measured = scaled(point.measured.value(metric));
    let Ok(predicted) = outcome else { return [measured, None, None, None] };
    let value = scaled(predicted.value(metric));
    let band = predicted.band(bands, metric);
    let end = |factor: Option<f64>| value.zip(factor).map(|(value, factor)| value * factor);
    let (low, high) = (band.as_ref().map(|b| b.low), band.as_ref().map(|b| b.high));
    [measured, value, end(low), end(high)]
}

/// Six digits, which is more than any of it is worth.
fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    rounded.to_string()
}

/// Columns of a row that are not its quantities.
const HEAD: &str = "file,line,source,model,quantization,gpu,n_gpus,tp,pp,ep,dp,engine,engine_version,isl,osl,\
                    concurrency_or_rate,kind,regime";

fn as_csv(all: &[Predicted], bands: &Bands) -> String {
    let named = |metric| {
        let (name, _) = unit(metric);
        ["measured", "predicted", "low", "high"].map(|what| format!("{name}_{what}"))
    };
    let head = HEAD.split(',').map(str::to_owned).chain(Metric::ALL.into_iter().flat_map(named));
    let mut csv = Csv::default();
    csv.row(head.chain(["assumed", "why_not"].map(str::to_owned)));
    for (file, point, outcome) in all {
        let count = |count: Option<u32>| count.map_or_else(String::new, |count| count.to_string());
        let length = |length: Option<f64>| length.map_or_else(String::new, short);
        let (kind, regime, assumed, why) = match outcome {
            Ok(p) => (p.kind.name(), p.regime.name(), p.assumed.join("; "), String::new()),
            Err(reason) => ("", "", String::new(), reason.to_string()),
        };
        let mut cells = vec![
            label(file),
            point.line.to_string(),
            label(&point.source),
            label(&point.model),
            label(&point.quantization),
            label(&point.accelerator),
            count(point.accelerators),
            count(point.tensor),
            count(point.pipeline),
            count(point.expert),
            count(point.data),
            label(&point.engine),
            label(&point.engine_version),
            length(point.isl),
            length(point.osl),
            label(&point.asked),
            kind.to_owned(),
            regime.to_owned(),
        ];
        for metric in Metric::ALL {
            let four = quantity(point, outcome, bands, metric);
            cells.extend(four.map(|value| value.map_or_else(String::new, short)));
        }
        cells.extend([label(&assumed), label(&why)]);
        csv.row(cells);
    }
    csv.finish()
}

fn as_json(all: &[Predicted], summary: &Summary, bands: &Bands) -> String {
    let rows: Vec<Value> = all
        .iter()
        .map(|(file, point, outcome)| {
            let mut row = Map::new();
            let mut put = |key: &str, value: Value| drop(row.insert(key.to_owned(), value));
            put("file", json!(file));
            put("line", json!(point.line));
            put("model", json!(point.model));
            put("gpu", json!(point.accelerator));
            put("engine", json!(point.engine));
            put("load", json!(point.asked));
            match outcome {
                Ok(predicted) => {
                    put("kind", json!(predicted.kind.name()));
                    put("regime", json!(predicted.regime.name()));
                    put("assumed", json!(predicted.assumed));
                }
                Err(reason) => put("why_not", json!(reason.to_string())),
            }
            for metric in Metric::ALL {
                let [measured, predicted, low, high] = quantity(point, outcome, bands, metric);
                if measured.is_none() && predicted.is_none() {
                    continue;
                }
                let band = outcome.as_ref().ok().and_then(|outcome| outcome.band(bands, metric));
                put(
                    unit(metric).0,
                    json!({
                        "measured": measured,
                        "predicted": predicted,
                        "low": low,
                        "high": high,
                        "interval": band.map(|band| band.why),
                    }),
                );
            }
            Value::Object(row)
        })
        .collect();
    let groups: Vec<Value> = summary
        .groups()
        .flat_map(|(by, name, errors)| {
            errors.iter().map(move |(metric, errors)| {
                json!({
                    "by": by,
                    "group": name,
                    "quantity": metric.name(),
                    "points": errors.points(),
                    "median_error": errors.at(0.5),
                    "p90_error": errors.at(0.9),
                    "bias": errors.bias(),
                    "coverage": errors.coverage(),
                })
            })
        })
        .collect();
    let refused: Vec<Value> = summary
        .refused()
        .into_iter()
        .map(|(reason, rows)| json!({"reason": reason.to_string(), "rows": rows}))
        .collect();
    format!(
        "{:#}\n",
        json!({"schema": "farthing.validation/1", "rows": rows, "summary": groups, "refused": refused})
    )
}

fn as_text(all: &[Predicted], summary: &Summary, style: Style) -> String {
    let mut out = String::new();
    let predicted = all.iter().filter(|(_, _, outcome)| outcome.is_ok()).count();
    let (rows, predicted) = (grouped(all.len() as u64), grouped(predicted as u64));
    out += &format!("{rows} rows, of which {predicted} are predicted\n");
    for metric in Metric::ALL {
        let title = match metric {
            Metric::Throughput => "Output tokens per second",
            Metric::Ttft => "Time to first token",
            Metric::Tpot => "Time per output token",
            Metric::Latency => "Time to last token",
            Metric::Rate => "Highest rate within the limits",
        };
        let mut table = Table::default()
            .text("")
            .text(title)
            .number("points")
            .number("median\nerror")
            .number("p90\nerror")
            .number("bias")
            .number("within\nthe 90 % interval");
        let mut any = false;
        let mut last = "";
        for (by, name, errors) in summary.groups() {
            let Some(errors) = errors.get(&metric) else { continue };
            any = true;
            let percent = |value: Option<f64>| {
                value.map_or_else(String::new, |v| format!("{:.1} %", 100.0 * v))
            };
            let signed = |value: Option<f64>| {
                value.map_or_else(String::new, |v| format!("{:+.1} %", 100.0 * v))
            };
            table.row([
                if by == last { String::new() } else { by.to_owned() },
                name.to_owned(),
                grouped(errors.points() as u64),
                percent(errors.at(0.5)),
                percent(errors.at(0.9)),
                signed(errors.bias()),
                percent(errors.coverage()),
            ]);
            last = by;
        }
        if any {
            out += &format!("\n{}", table.render(style));
        }
    }
    let refused = summary.refused();
    if !refused.is_empty() {
        let mut table = Table::default().number("rows").prose("not predicted, because");
        for (reason, rows) in refused {
            table.row([grouped(u64::from(rows)), reason.to_string()]);
        }
        out += &format!("\n{}", table.render(style));
    }
    out
}

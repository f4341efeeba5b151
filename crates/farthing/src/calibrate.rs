//! `farthing calibrate`: the few constants that measured runs can settle.

use std::path::PathBuf;

use anyhow::{Context, bail};
use calibration::{Fitted, Point, Reason, fit};
use quantity::grouped;
use report::Style;
use report::table::Table;
use roofline::Sheets;

use crate::bill::{When, period};
use crate::config::Config;
use crate::metered::Served;
use crate::{Place, output, simulate};

/// Fits the serving model to measured runs: achieved bandwidth and arithmetic, host times, communication
///
/// Reads results of `vllm bench serve --save-result`, SGLang's `bench_serving --output-file`, GuideLLM, AIPerf, `llama-bench`
/// and `llama-batched-bench` (JSON or tables), and CSVs of points as `farthing validate` does. What a file does not say,
/// such as the accelerator, is told here. `--from-ledger` takes what the gateway metered of own servers. The fit is a data sheet: `farthing simulate --sheet FILE` uses and cites it.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Measured runs
    #[arg(required_unless_present = "from_ledger", value_name = "POINTS")]
    points: Vec<PathBuf>,
    /// Also what the gateway saw of the own servers that served this route: their times at each load that they met. Needs
    /// --model and --gpu
    #[arg(long, value_name = "ROUTE", requires_all = ["model", "gpu"])]
    from_ledger: Option<String>,
    /// Only exchanges from this time on: 2026-11-22, 2026-11-22T14:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", requires = "from_ledger")]
    since: Option<When>,
    /// And before that
    #[arg(long, value_name = "TIME", requires = "from_ledger")]
    until: Option<When>,
    /// Where the fit goes [default: stdout, with the rest on stderr]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The model of runs that do not say it, or call it otherwise
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The accelerator of runs that do not say it
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
    /// The engine of runs that do not say it, or call it otherwise
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// GPUs that share each matrix, of runs that do not say it [default: 1]
    #[arg(long, value_name = "GPUS")]
    tp: Option<u32>,
    /// How weights were kept, of runs that do not say it
    #[arg(long, value_name = "FORMAT")]
    weights: Option<String>,
    /// Own data sheets of models, accelerators or engines, before those that are carried
    #[arg(long, value_name = "FILE")]
    sheet: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let sheets = simulate::sheets(&arguments.sheet)?;
    let mut points = Vec::new();
    for file in &arguments.points {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        points.extend(calibration::read(&name, &String::from_utf8_lossy(&bytes))?);
    }
    if let Some(route) = &arguments.from_ledger {
        points.extend(ledger(route, arguments)?);
    }
    for point in &mut points {
        told(point, arguments);
    }
    let (fits, unused) = fit(&sheets, &points);
    let table = as_text(&fits, &unused, &sheets, output::style());
    if fits.is_empty() {
        eprint!("{table}");
        bail!(
            "no point can be used\n\nhint: what runs do not say is told by --model, --gpu, --engine, --tp and --weights"
        );
    }
    let route = arguments.from_ledger.iter().map(|route| format!("--from-ledger {route}"));
    let files = arguments
        .points
        .iter()
        .map(|file| file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned());
    let names: Vec<String> = route.chain(files).collect();
    let source = format!("farthing calibrate {}", names.join(" "));
    let mut text =
        String::from("# Fitted to measured runs; `farthing simulate --sheet` reads this.\n");
    for fitted in &fits {
        text += &format!("\n{}", fitted.text(&format!("{source}: {} runs", fitted.points)));
    }
    match &arguments.out {
        Some(file) => {
            std::fs::write(file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
            output::print(&table)
        }
        None => {
            output::print(&text)?;
            eprint!("{table}");
            Ok(())
        }
    }
}

/// What the gateway saw of the servers of a route; what could not be used is told on stderr.
fn ledger(route: &str, arguments: &Arguments) -> anyhow::Result<Vec<Point>> {
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let period = period(arguments.since, arguments.until, now)?;
    let Served { upstreams, unknown, cached } = Served::read(&config, route, period)?;
    let (mut points, mut few, mut used) = (Vec::new(), 0, 0);
    for (upstream, seen) in upstreams {
        let (own, left) = calibration::points(&seen);
        few += left;
        used += seen.iter().filter(|seen| seen.tokens.is_some()).count() - left;
        points.extend(own.into_iter().map(|mut point| {
            point.source = format!("ledger, upstream {upstream}");
            // Unless it is told: what an own server mostly is.
            point.engine = "vllm".to_owned();
            point
        }));
    }
    let mut line = format!("farthing: {} requests at {} loads", grouped(used as u64), points.len());
    for (count, why) in [
        (unknown, "that did not complete or told no usage"),
        (cached, "whose prompts were in part cached"),
        (few as u64, "at loads that fewer than 5 met"),
    ] {
        if count > 0 {
            line += &format!(", without {} {why}", grouped(count));
        }
    }
    eprintln!("{line}");
    Ok(points)
}

/// Adds to a point what it does not say. What a benchmark calls a model or an engine gives way to what it is called here.
fn told(point: &mut Point, arguments: &Arguments) {
    let put = |own: &mut String, told: &Option<String>| {
        if let Some(told) = told {
            told.clone_into(own);
        }
    };
    put(&mut point.model, &arguments.model);
    put(&mut point.engine, &arguments.engine);
    if point.accelerator.is_empty() {
        put(&mut point.accelerator, &arguments.gpu);
    }
    if point.quantization.is_empty() {
        put(&mut point.quantization, &arguments.weights);
    }
    let alone = point.accelerators.is_none() && point.tensor.is_none();
    if alone {
        point.tensor = Some(arguments.tp.unwrap_or(1));
    }
}

fn as_text(fits: &[Fitted], unused: &[(Point, Reason)], sheets: &Sheets, style: Style) -> String {
    let percent = |value: f64| format!("{:.1} %", 100.0 * value);
    let mut out = String::new();
    for fitted in fits {
        let title = format!(
            "{} with {}, {} runs",
            fitted.accelerator,
            fitted.engine,
            grouped(fitted.points as u64)
        );
        out += &format!("{}\n", style.heading(&title));
        let engine = sheets.engine(&fitted.engine).ok();
        let mut table = Table::default().text("constant").number("carried").number("fitted");
        for (key, value) in &fitted.constants {
            let carried = match *key {
                "compute" | "memory" | "communication" => Some(1.0),
                other => engine.and_then(|engine| engine.row().stated(other)),
            };
            let unit = if key.ends_with("_us") { " us" } else { " x" };
            let name = match *key {
                "compute" => "arithmetic that kernels achieve",
                "memory" => "bandwidth that kernels achieve",
                "communication" => "time between accelerators",
                "step_us" => "host time of a step",
                "sequence_us" => "host time of a sequence in a step",
                _ => "host time of a request",
            };
            let shown = |value: f64| {
                if unit == " us" {
                    format!("{value:.0}{unit}")
                } else {
                    format!("{value:.2}{unit}")
                }
            };
            table.row([name.to_owned(), carried.map_or_else(String::new, shown), shown(*value)]);
        }
        out += &table.render(style);
        if fitted.points < fitted.constants.len() {
            out += &style.wrapped_words(
                "Fewer runs than constants: those that the runs say little of stay near what is carried.",
            );
        }
        let mut errors = Table::default().text("median error").number("runs").number("error");
        errors.row([
            "as carried".to_owned(),
            grouped(fitted.points as u64),
            percent(fitted.before),
        ]);
        errors.row(["fitted".to_owned(), grouped(fitted.points as u64), percent(fitted.after)]);
        for (name, own) in &fitted.left_out {
            let middle = own.get(own.len() / 2).copied().unwrap_or(0.0);
            errors.row([format!("left out: {name}"), grouped(own.len() as u64), percent(middle)]);
        }
        if let Some(error) = fitted.left_out_error() {
            let all: usize = fitted.left_out.iter().map(|(_, errors)| errors.len()).sum();
            errors.total([
                "all that were left out".to_owned(),
                grouped(all as u64),
                percent(error),
            ]);
        }
        out += &format!("\n{}\n", errors.render(style));
    }
    if !unused.is_empty() {
        let mut counts = std::collections::BTreeMap::<&Reason, u64>::new();
        for (_, reason) in unused {
            *counts.entry(reason).or_default() += 1;
        }
        let mut table = Table::default().number("runs").prose("not used, because");
        for (reason, runs) in counts {
            table.row([grouped(runs), reason.to_string()]);
        }
        out += &table.render(style);
    }
    out
}

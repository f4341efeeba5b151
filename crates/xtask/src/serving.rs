//! Predictions of the serving model beside measured points of a closed loop.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use anyhow::Context as _;
use roofline::{ClosedLoop, Format, Formats, KvFormat, Layout, Routing, Setup, Sheets};

/// A measured point and what is predicted for it.
struct Point {
    kind: &'static str,
    accelerator: String,
    engine: String,
    model: String,
    measured_s: f64,
    predicted_s: f64,
    line: usize,
}

/// Compares predicted with measured mean time per output token, row by row of a CSV with the columns `model,
/// quantization, gpu, tp, pp, ep, dp, engine, isl, osl, concurrency_or_rate, tpot_ms, notes, commit_or_date`, for the rows
/// whose notes begin with `agg`. Returns a table of errors, by kind, accelerator, engine and model, and what was left out;
/// or every row, with tabs between.
///
/// # Errors
/// If the file cannot be read or lacks a column.
pub fn compare(path: &str, rows: bool) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading `{path}`"))?;
    let sheets = Sheets::built_in()?;
    let mut lines = text.lines();
    let head = cells(lines.next().context("the file is empty")?);
    let mut points = Vec::new();
    let mut left_out: BTreeMap<String, u32> = BTreeMap::new();
    for (index, line) in lines.enumerate() {
        let row: HashMap<&str, String> = head.iter().map(String::as_str).zip(cells(line)).collect();
        let of = |key: &str| row.get(key).map_or("", String::as_str);
        if !of("notes").starts_with("agg") {
            continue;
        }
        match predict(&sheets, &of) {
            Ok(point) => points.push(Point { line: index + 2, ..point }),
            Err(error) => *left_out.entry(error.to_string()).or_default() += 1,
        }
    }
    if rows {
        return row_by_row(&points);
    }
    let mut out = String::new();
    for kind in ["dense", "moe"] {
        let of_kind: Vec<&Point> = points.iter().filter(|point| point.kind == kind).collect();
        writeln!(out, "{kind}: |error| of TPOT over rows\n")?;
        writeln!(
            out,
            "{:<34} {:>6} {:>8} {:>8} {:>8} {:>8}",
            "", "rows", "median", "mean", "p90", "bias"
        )?;
        table(&mut out, "all", &of_kind)?;
        for by in [
            |p: &Point| p.accelerator.clone(),
            |p: &Point| p.engine.clone(),
            |p: &Point| p.model.clone(),
        ] {
            let mut groups: BTreeMap<String, Vec<&Point>> = BTreeMap::new();
            for point in &of_kind {
                groups.entry(by(point)).or_default().push(point);
            }
            for (name, group) in groups {
                table(&mut out, &name, &group)?;
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "left out:")?;
    for (why, rows) in left_out {
        writeln!(out, "{rows:>6}  {why}")?;
    }
    Ok(out)
}

fn row_by_row(points: &[Point]) -> anyhow::Result<String> {
    let mut out = "line\tkind\taccelerator\tengine\tmodel\tmeasured ms\tpredicted ms\n".to_owned();
    for p in points {
        let (measured, predicted) = (p.measured_s * 1e3, p.predicted_s * 1e3);
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{measured:.3}\t{predicted:.3}",
            p.line, p.kind, p.accelerator, p.engine, p.model
        )?;
    }
    Ok(out)
}

fn table(out: &mut String, name: &str, points: &[&Point]) -> std::fmt::Result {
    let error = |point: &&Point| point.predicted_s / point.measured_s - 1.0;
    let mut errors: Vec<f64> = points.iter().map(|point| error(point).abs()).collect();
    let mut signed: Vec<f64> = points.iter().map(error).collect();
    errors.sort_by(f64::total_cmp);
    signed.sort_by(f64::total_cmp);
    let Some(last) = errors.len().checked_sub(1) else { return Ok(()) };
    let at = |values: &[f64], tenths: usize| 100.0 * values[last * tenths / 10];
    let mean = 100.0 * errors.iter().sum::<f64>() / (last + 1) as f64;
    writeln!(
        out,
        "{name:<34} {:>6} {:>6.1} % {mean:>6.1} % {:>6.1} % {:>+6.1} %",
        last + 1,
        at(&errors, 5),
        at(&errors, 9),
        at(&signed, 5),
    )
}

/// A measured row's setup and load, and the time per output token predicted for it.
fn predict<'a>(sheets: &Sheets, of: &impl Fn(&str) -> &'a str) -> anyhow::Result<Point> {
    let number = |key: &str| of(key).parse::<u32>().with_context(|| format!("`{key}`: no number"));
    let model =
        sheets.model(of("model")).ok().with_context(|| format!("no sheet of {}", of("model")))?;
    let accelerator = sheets.accelerator(of("gpu"))?;
    let engine = sheets.engine(of("engine"))?;
    let layout = Layout {
        tensor: number("tp")?,
        pipeline: number("pp")?,
        data: number("dp")?,
        expert: number("ep")?.max(1),
    };
    if layout.accelerators() != number("n_gpus")? {
        anyhow::bail!("tp x pp x dp is not the number of accelerators");
    }
    // Rows whose identifier says tp8_ep8 have 64 in the column; no server of these has more than 8.
    if layout.accelerators() > 8 && !of("gpu").starts_with("GB") {
        anyhow::bail!("more accelerators than a server has, as tp and ep were multiplied");
    }
    // Rows with a date come from InferenceX.
    let dated = of("commit_or_date").starts_with("20");
    let formats =
        formats(of("quantization"), model.row().name(), of("gpu"), engine.row().name(), dated)?;
    let routing = Routing::default();
    let setup = Setup::new(model, accelerator, engine, &sheets.kernels, layout, formats, routing)?;
    let clients = of("concurrency_or_rate").strip_prefix("conc=").context("no concurrency")?;
    // InferenceX's lengths are even between 0.8 and 1.0 of the nominal ones.
    let mean = if dated { 9 } else { 10 };
    let load = ClosedLoop {
        isl: number("isl")? * mean / 10,
        osl: number("osl")? * mean / 10,
        concurrency: clients.parse().context("no concurrency")?,
    };
    let measured_ms: f64 = of("tpot_ms").parse().ok().context("no TPOT")?;
    let steady = setup.steady(load).map_err(|error| match error {
        roofline::MemoryError::DoesNotFit { model, accelerator, .. } => {
            anyhow::anyhow!("{model} does not fit {accelerator} x {}", layout.accelerators())
        }
        missing @ roofline::MemoryError::Missing(_) => missing.into(),
    })?;
    Ok(Point {
        kind: if model.experts.is_some() { "moe" } else { "dense" },
        accelerator: accelerator.row().name().to_owned(),
        engine: engine.row().name().to_owned(),
        model: model.row().name().to_owned(),
        measured_s: measured_ms / 1e3,
        predicted_s: steady.tpot_s,
        line: 0,
    })
}

/// What a row says of formats: `fp8 gemm=fp8_block moe=fp8_block`.
fn formats(
    text: &str,
    model: &str,
    accelerator: &str,
    engine: &str,
    dated: bool,
) -> anyhow::Result<Formats> {
    let of = |key: &str| -> anyhow::Result<Format> {
        let name = text.split_whitespace().find_map(|word| word.strip_prefix(key));
        Ok(match name {
            None => Format::Bf16,
            Some("int4_wo") => Format::Int4,
            Some(name) => name.replace('_', "-").parse()?,
        })
    };
    let of = |key: &str| -> anyhow::Result<Format> {
        // These are published with a scale per block of 128 x 128, whatever a row calls it.
        let blocks = ["deepseek", "qwen3-235b", "minimax", "glm", "kimi"];
        let format = of(key)?;
        let in_blocks = format == Format::Fp8 && blocks.iter().any(|name| model.starts_with(name));
        Ok(if in_blocks { Format::Fp8Block } else { format })
    };
    // gpt-oss is published with experts in MXFP4 and the rest in bfloat16, whatever a row calls it; Blackwell multiplies
    // them in 8 bits.
    if model.starts_with("gpt-oss") {
        let blackwell = ["B200", "B300", "GB"].iter().any(|name| accelerator.starts_with(name));
        let experts = if blackwell { Format::Mxfp4Fp8 } else { Format::Mxfp4 };
        return Ok(Formats { weights: Format::Bf16, experts, kv: KvFormat::Bf16 });
    }
    // InferenceX's TensorRT-LLM runs of quantised models keep the cache in 8 bits, as their checkpoints ask.
    let quantised = of("gemm=")? != Format::Bf16;
    let kv = if engine == "trtllm" && dated && quantised { KvFormat::Fp8 } else { KvFormat::Bf16 };
    Ok(Formats { weights: of("gemm=")?, experts: of("moe=")?, kv })
}

/// The cells of a CSV line; quotes may enclose commas.
fn cells(line: &str) -> Vec<String> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    all.push(cell);
    all
}

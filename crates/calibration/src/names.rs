//! From what benchmarks call things to the sheets' rows, formats and layouts.

use roofline::{
    Accelerator, Arithmetic, Attention, Engine, Format, Formats, KvFormat, Layout, Model, Routing,
    Setup, Sheets,
};

use crate::point::{Point, Reason};

/// What a point was run on, in the sheets' terms.
pub(crate) struct Resolved<'a> {
    pub(crate) model: &'a Model,
    pub(crate) accelerator: &'a Accelerator,
    pub(crate) engine: &'a Engine,
    pub(crate) formats: Formats,
    /// Layouts of a replica with how many there are: one if it was told, else all that could be.
    pub(crate) layouts: Vec<(Layout, u32)>,
    /// What was assumed because it was not told.
    pub(crate) assumed: Vec<String>,
}

pub(crate) fn resolve<'a>(sheets: &'a Sheets, point: &Point) -> Result<Resolved<'a>, Reason> {
    let mut assumed = point.passed_over.clone();
    let model = model(sheets, &point.model)?;
    let accelerator = accelerator(sheets, &point.accelerator)?;
    let engine = engine(sheets, point)?;
    let formats = formats(point, model, accelerator, engine, &mut assumed)?;
    let layouts = if point.accelerators.or(point.tensor).is_none() {
        let layout = fewest(sheets, point, model, accelerator, engine, formats)?;
        let several = if layout.tensor > 1 { "s" } else { "" };
        assumed.push(format!("{} accelerator{several}, the fewest that hold it", layout.tensor));
        vec![(layout, 1)]
    } else {
        layouts(point, model, accelerator, &mut assumed)?
    };
    Ok(Resolved { model, accelerator, engine, formats, layouts, assumed })
}

/// What a point was run on, in the first of its layouts.
pub(crate) fn setup(sheets: &Sheets, point: &Point) -> Result<Setup, Reason> {
    let Resolved { model, accelerator, engine, formats, layouts, .. } = resolve(sheets, point)?;
    let (layout, _) = *layouts.first().ok_or_else(|| Reason::new("no layout is possible"))?;
    let kernels = &sheets.kernels;
    let setup =
        Setup::new(model, accelerator, engine, kernels, layout, formats, Routing::default());
    setup.map_err(|error| Reason::new(error.to_string()))
}

fn quoted(name: &str) -> String {
    let short: String = name.chars().take(60).filter(|letter| !letter.is_control()).collect();
    format!("`{short}`")
}

fn model<'a>(sheets: &'a Sheets, name: &str) -> Result<&'a Model, Reason> {
    if name.is_empty() {
        return Err(Reason::new("the model is not stated"));
    }
    sheets
        .model(name)
        .map_err(|_| Reason::new(format!("no data sheet of the model {}", quoted(name))))
}

/// Words of a name, in lower case.
fn words(name: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let parts = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The accelerator with the longest name all of whose words are in what it was called.
fn accelerator<'a>(sheets: &'a Sheets, name: &str) -> Result<&'a Accelerator, Reason> {
    if name.is_empty() || name.starts_with("UNSTATED") {
        return Err(Reason::new("the accelerator is not stated"));
    }
    if let Ok(exact) = sheets.accelerator(name) {
        return Ok(exact);
    }
    if name.contains("(x") {
        return Err(Reason::new("several kinds of accelerators serve together"));
    }
    let called = words(name);
    let mut best: Option<(usize, &Accelerator)> = None;
    for one in &sheets.accelerators {
        for own in one.row().names().map(words) {
            let held = own.iter().all(|word| called.contains(word));
            if held && best.is_none_or(|(length, _)| own.len() > length) {
                best = Some((own.len(), one));
            }
        }
    }
    let unknown = || Reason::new(format!("no data sheet of the accelerator {}", quoted(name)));
    best.map(|(_, one)| one).ok_or_else(unknown)
}

fn engine<'a>(sheets: &'a Sheets, point: &Point) -> Result<&'a Engine, Reason> {
    let name = point.engine.as_str();
    if name.is_empty() || name == "?" {
        return Err(Reason::new("the engine is not stated"));
    }
    // TensorRT-LLM 0.10 to 0.19; lower ones are those of Dynamo, with which newer ones were released.
    let trtllm = if point.minor_version().is_some_and(|minor| (10..20).contains(&minor)) {
        "trtllm-cpp"
    } else {
        "trtllm"
    };
    let lower = name.to_ascii_lowercase();
    if lower != "trtllm"
        && let Ok(exact) = sheets.engine(name)
    {
        return Ok(exact);
    }
    let known = [
        ("vllm", "vllm"),
        ("llmboost", "vllm"),
        ("sglang", "sglang"),
        ("trtllm", trtllm),
        ("tensorrt-llm", trtllm),
        // What MLPerf's submitters compile with it.
        ("tensorrt", "trtllm-cpp"),
    ];
    let found = known.iter().find(|(part, _)| lower.contains(part));
    let row = found.and_then(|(_, row)| sheets.engine(row).ok());
    row.ok_or_else(|| Reason::new(format!("no data sheet of the engine {}", quoted(name))))
}

/// In which formats it was kept: `fp8`, `fp16`, `fp8 (kv fp8)`, `fp8 gemm=fp8_block moe=fp8_block`; if nothing is told, as
/// the model is published.
fn formats(
    point: &Point,
    model: &Model,
    accelerator: &Accelerator,
    engine: &Engine,
    assumed: &mut Vec<String>,
) -> Result<Formats, Reason> {
    let text = point.quantization.to_ascii_lowercase();
    let row = model.row().name();
    let is = |names: &[&str]| names.iter().any(|name| row.starts_with(name));
    let chip = accelerator.row().name();
    // gpt-oss is published with experts in MXFP4 and the rest in bfloat16, whatever a row calls it; Blackwell multiplies
    // them in 8 bits.
    if is(&["gpt-oss"]) {
        let experts = model.published_experts.on(accelerator);
        return Ok(Formats { weights: Format::Bf16, experts, kv: KvFormat::Bf16 });
    }
    // These are published with a scale per block of 128 x 128, whatever a row calls it.
    let blocks =
        is(&["deepseek-r1", "deepseek-v3", "qwen3-235b", "qwen3-coder", "minimax", "glm", "kimi"]);
    let in_blocks =
        |format| if format == Format::Fp8 && blocks { Format::Fp8Block } else { format };
    let of = |key: &str| -> Option<&str> {
        text.split_whitespace().find_map(|word| word.strip_prefix(key))
    };
    let read = |name: &str| -> Result<Format, Reason> {
        let format = in_blocks(match name {
            "fp16" | "bf16" | "float16" | "bfloat16" | "half" => Format::Bf16,
            "fp8" | "fp8_e4m3" | "w8a8" => Format::Fp8,
            "fp4" | "nvfp4" if !chip.starts_with("mi") => Format::Nvfp4,
            "fp4" | "mxfp4" => Format::Mxfp4,
            "int4" | "uint4" | "int4_wo" | "w4a16" | "awq" | "gptq" | "q4_0" | "q4_k_m" => {
                Format::Int4
            }
            "int8" | "int8_wo" | "w8a16" | "q8_0" => Format::Int8,
            other => match other.replace('_', "-").parse() {
                Ok(format) => format,
                Err(_) => {
                    return Err(Reason::new(format!(
                        "unknown quantization {}",
                        quoted(&point.quantization)
                    )));
                }
            },
        });
        Ok(if format.arithmetic() == Arithmetic::Fp8 { format.on(accelerator) } else { format })
    };
    // Submitters to MLPerf serve in 8 bits where they do not say it, the least that holds the accuracy of its closed division.
    let mlperf =
        point.source.starts_with("MLPerf") && accelerator.row().stated("fp8_tflops").is_some();
    let (weights, experts) = match (of("gemm="), of("moe=")) {
        (Some(weights), experts) => (read(weights)?, read(experts.unwrap_or(weights))?),
        (None, _) => {
            let first = text.split([' ', '/', '(']).next().unwrap_or("");
            let untold = ["", "unset", "bf16"].contains(&first)
                && (first != "bf16" || text.contains("unspecified"));
            let format = if !untold {
                read(first)?
            } else if let Some(told) = Format::told_by(&point.model) {
                in_blocks(told).on(accelerator)
            } else if mlperf {
                in_blocks(Format::Fp8)
            } else {
                model.published.on(accelerator)
            };
            if untold {
                assumed.push(format!("weights as published, {format}"));
            }
            (format, format)
        }
    };
    let eight = |format| format == Format::Int8 && text.contains("fp8");
    if eight(weights) || eight(experts) {
        assumed.push("weights in 8 bits, multiplied in 16: the accelerator has no FP8".to_owned());
    }
    // Checkpoints that NVIDIA quantised for TensorRT-LLM ask for a cache in 8 bits.
    let silicon = point.source.contains("silicon") && !point.date.starts_with("20");
    let asked = engine.row().name().starts_with("trtllm") && weights != Format::Bf16 && !silicon;
    let kv = if asked || point.settings.kv_fp8 || text.contains("kv fp8") {
        KvFormat::Fp8
    } else {
        KvFormat::Bf16
    };
    Ok(Formats { weights, experts, kv })
}

/// The fewest accelerators of a server that hold the model and some sequences, where a row says nothing of them.
fn fewest(
    sheets: &Sheets,
    point: &Point,
    model: &Model,
    accelerator: &Accelerator,
    engine: &Engine,
    formats: Formats,
) -> Result<Layout, Reason> {
    // A KV cache of fewer tokens fits in name alone.
    const ROOM: f64 = 16_384.0;
    let needed = (point.isl.unwrap_or(1.0) + point.osl.unwrap_or(1.0)).max(ROOM);
    let holds = |layout: &Layout| {
        let routing = Routing::default();
        let kernels = &sheets.kernels;
        let setup = Setup::new(model, accelerator, engine, kernels, *layout, formats, routing);
        let memory = setup.ok().and_then(|setup| setup.memory().ok());
        memory.is_some_and(|memory| memory.kv_tokens as f64 >= needed)
    };
    let found = [1, 2, 4, 8].map(Layout::tensor).into_iter().find(holds);
    found.ok_or_else(|| {
        let (chip, model) = (accelerator.row().name(), model.row().name());
        Reason::new(format!("no server of `{chip}` holds `{model}` in {}", formats.weights))
    })
}

/// The most accelerators of a deployment; more is a slip of the pen.
const MOST_ACCELERATORS: u32 = 65_536;
/// Bytes of a parameter in the smallest format.
const FOUR_BITS: f64 = 0.5;

/// The layout of a replica and how many replicas there are; all that could be where it was not told.
fn layouts(
    point: &Point,
    model: &Model,
    accelerator: &Accelerator,
    assumed: &mut Vec<String>,
) -> Result<Vec<(Layout, u32)>, Reason> {
    let wrong = |words: String| Err(Reason::new(words));
    let told = [point.tensor, point.pipeline, point.data].map(|ranks| ranks.unwrap_or(1));
    let product = told.into_iter().fold(1, u32::saturating_mul);
    if product > MOST_ACCELERATORS {
        let [tensor, pipeline, data] = told;
        return wrong(format!("tp {tensor} x pp {pipeline} x dp {data} is more than anybody has"));
    }
    let all = point.accelerators.unwrap_or(product);
    let rack = accelerator.row().name().starts_with("gb");
    let expert = |ranks: u32| match point.expert {
        Some(0) => ranks,
        Some(expert) => expert,
        None => 1,
    };
    let Some(tensor) = point.tensor else {
        if all > 1 || point.accelerators.is_none() {
            assumed.push("the best layout".to_owned());
        }
        let heads = match model.attention {
            Attention::Grouped { heads, .. } | Attention::Latent { heads, .. } => heads,
        };
        let most = if rack { 16 } else { 8 };
        let sizes = (0..).map(|power| 1_u32 << power).take_while(|size| *size <= all.min(most));
        let fits = sizes
            .filter(|size| all.is_multiple_of(*size) && heads.is_multiple_of(u64::from(*size)));
        let mut found = Vec::new();
        for size in fits {
            found.push((Layout { expert: expert(1), ..Layout::tensor(size) }, all / size));
            // What fits no accelerator in any format is split by layers too, as links take much of a step there.
            let huge =
                model.parameters() as f64 * FOUR_BITS > accelerator.hbm_bytes().unwrap_or(0.0);
            let stages = [2, 4, 8].into_iter().filter(|stages| {
                let one = size * stages;
                huge && model.experts.is_none() && one <= all.min(most) && all.is_multiple_of(one)
            });
            for pipeline in stages {
                let layout = Layout { pipeline, ..Layout::tensor(size) };
                found.push((layout, all / layout.accelerators()));
            }
            if model.experts.is_some() && size > 1 {
                found.push((Layout { expert: size, ..Layout::tensor(size) }, all / size));
                if matches!(model.attention, Attention::Latent { .. }) {
                    let layout = Layout { tensor: 1, data: size, expert: size, pipeline: 1 };
                    found.push((layout, all / size));
                }
            }
        }
        return Ok(found);
    };
    let (pipeline, data) = (point.pipeline.unwrap_or(1), point.data.unwrap_or(1));
    let mut layout = Layout { tensor, pipeline, data, expert: 1 };
    if layout.accelerators() > all && tensor * pipeline == all && tensor.is_multiple_of(data) {
        // Attention in groups of the tensor ranks.
        layout.tensor = tensor / data;
    }
    // Where a row states neither, what is left over are copies.
    let one = layout.accelerators();
    if one > all || !all.is_multiple_of(one) {
        return wrong(format!(
            "tp {tensor} x pp {pipeline} x dp {data} does not make {all} accelerators"
        ));
    }
    // Rows whose identifier says tp8_ep8 have 64 in the column; no server of these has more than 8.
    if one > 8 && !rack {
        return wrong(format!("{one} accelerators in one replica, more than a server has"));
    }
    layout.expert = expert(layout.tensor * layout.data);
    if all > one {
        assumed.push(format!("{} replicas", all / one));
    }
    Ok(vec![(layout, all / one)])
}

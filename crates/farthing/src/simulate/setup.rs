//! What serves in a simulation: names are looked up, and what does not fit says what would.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use quantity::{edit_distance, grouped};
use roofline::{
    Accelerator, Engine, Format, Formats, KvFormat, Layout, Memory, MemoryError, Model, Routing,
    Row, Setup, SetupError, Sheets,
};

use super::some;

/// Names told as near to one that is not known.
const NEAR: usize = 3;
/// A KV cache of fewer tokens fits in name alone.
const ROOM: u64 = 16_384;
/// The most sequences and tokens of a step that many groups come to.
const MOST_SEQUENCES: u32 = 1 << 20;
const MOST_STEP_TOKENS: u32 = 1 << 28;
const GIB: f64 = 1_073_741_824.0;

/// What serves, as it is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct Serving {
    /// The model: llama-3.1-8b, Qwen/Qwen3-32B-FP8, or a Hugging Face `config.json`
    #[arg(long, value_name = "NAME|FILE")]
    model: String,
    /// The accelerator: h100, l40s, mi300x and more; `simulate` compares several: h100,h200
    #[arg(long, value_name = "NAME")]
    gpu: String,
    /// GPUs that share each matrix (tensor parallel)
    #[arg(long, value_name = "GPUS", default_value_t = 1)]
    tp: u32,
    /// Stages that each hold some of the layers (pipeline parallel)
    #[arg(long, value_name = "STAGES", default_value_t = 1)]
    pp: u32,
    /// Groups of --tp GPUs within a replica that attend for requests of their own and share the experts (data parallel)
    #[arg(long, value_name = "GROUPS", default_value_t = 1)]
    dp: u32,
    /// GPUs, of --tp times --dp, that hold different experts (expert parallel)
    #[arg(long, value_name = "GPUS", default_value_t = 1)]
    ep: u32,
    /// The engine, with its defaults: vllm, sglang, trtllm, trtllm-cpp
    #[arg(long, value_name = "NAME", default_value = "vllm")]
    engine: String,
    /// How weights are kept: bf16, fp8, fp8-block, int8, int4, nvfp4, mxfp4 [default: as the model's name says, or as it is
    /// published]
    #[arg(long, value_name = "FORMAT")]
    weights: Option<Format>,
    /// How weights of routed experts are kept [default: as the others]
    #[arg(long, value_name = "FORMAT")]
    experts: Option<Format>,
    /// How the KV cache is kept: bf16, fp8
    #[arg(long, value_name = "FORMAT", default_value = "bf16")]
    kv: KvFormat,
    /// Sequences that run at a time, of each group of --dp and --pp [default: the engine's]
    #[arg(long, value_name = "COUNT", value_parser = some)]
    max_num_seqs: Option<u32>,
    /// Tokens that a step of such a group computes [default: the engine's]
    #[arg(long, value_name = "TOKENS", value_parser = some)]
    max_num_batched_tokens: Option<u32>,
    /// Tokens of a sequence, prompt and output [default: what model and memory allow]
    #[arg(long, value_name = "TOKENS", value_parser = some)]
    max_model_len: Option<u32>,
    /// Requests that may wait at a replica; whoever comes then is refused [default: all]
    #[arg(long, value_name = "COUNT")]
    max_queue: Option<u32>,
    /// Own data sheets of models, accelerators or engines, before those that are carried
    #[arg(long, value_name = "FILE")]
    sheet: Vec<PathBuf>,
}

/// What serves, looked up.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) setup: Setup,
    pub(crate) memory: Memory,
    pub(crate) engine: servesim::Engine,
}

impl Serving {
    /// Looks it all up.
    ///
    /// # Errors
    /// If a name is unknown, a sheet cannot be read, or the model does not fit.
    pub(crate) fn replica(&self) -> anyhow::Result<Replica> {
        self.replica_on(&self.gpu)
    }

    /// The accelerators that are to be compared; mostly it is one.
    pub(super) fn gpus(&self) -> impl Iterator<Item = &str> {
        self.gpu.split(',').map(str::trim)
    }

    /// The same on another accelerator.
    pub(super) fn replica_on(&self, gpu: &str) -> anyhow::Result<Replica> {
        let sheets = sheets(&self.sheet)?;
        let model = model(&sheets, &self.model)?;
        let accelerator = accelerator(&sheets, gpu)?;
        let formats = self.formats(&model, accelerator);
        let wanted = Wanted {
            sheets: &sheets,
            model: &model,
            accelerator,
            engine: engine(&sheets, &self.engine)?,
        };
        let Self { tp: tensor, pp: pipeline, dp: data, ep: expert, .. } = *self;
        let layout = Layout { tensor, pipeline, data, expert };
        let setup = wanted.setup(wanted.accelerator, layout, formats)?;
        let memory = setup.memory().map_err(|error| wanted.explain(&setup, error))?;
        let engine = self.limits(&setup, &memory)?;
        Ok(Replica { setup, memory, engine })
    }

    /// The formats that were asked for, or else those of the model.
    fn formats(&self, model: &Model, accelerator: &Accelerator) -> Formats {
        // A file says it itself.
        let name = Some(&self.model).filter(|name| !name.ends_with(".json"));
        let told = name.and_then(|name| Format::told_by(name)).map(|own| own.on(accelerator));
        let told = self.weights.or(told);
        let weights = told.unwrap_or_else(|| model.published.on(accelerator));
        let experts = self.experts.or(told);
        let experts = experts.unwrap_or_else(|| model.published_experts.on(accelerator));
        Formats { weights, experts, kv: self.kv }
    }

    /// The engine's defaults on this setup, and what was asked for instead.
    fn limits(&self, setup: &Setup, memory: &Memory) -> anyhow::Result<servesim::Engine> {
        let mut engine = servesim::Engine::of(setup)?;
        // A sequence is kept by one group.
        let held = memory.kv_tokens / u64::from(setup.layout.data);
        engine.max_model_len = engine.max_model_len.min(u32::try_from(held).unwrap_or(u32::MAX));
        engine.max_queue = self.max_queue;
        if let Some(most) = self.max_num_seqs {
            engine.max_num_seqs = most;
            // An engine that runs more than a step computes would not start.
            engine.max_num_batched_tokens = engine.max_num_batched_tokens.max(most);
        }
        if let Some(most) = self.max_num_batched_tokens {
            engine.max_num_batched_tokens = most;
            if self.max_num_seqs.is_none() {
                engine.max_num_seqs = engine.max_num_seqs.min(most);
            }
        }
        // Each group has limits of its own, and stages work on as many batches.
        let groups = setup.layout.data * setup.layout.pipeline;
        engine.max_num_seqs = engine.max_num_seqs.saturating_mul(groups).min(MOST_SEQUENCES);
        let tokens = engine.max_num_batched_tokens.saturating_mul(groups);
        engine.max_num_batched_tokens = tokens.min(MOST_STEP_TOKENS);
        if let Some(most) = self.max_model_len {
            if most > engine.max_model_len {
                bail!(
                    "invalid `--max-model-len`: expected at most {}, which model and KV cache allow, found {most}",
                    engine.max_model_len
                );
            }
            engine.max_model_len = most;
        }
        Ok(engine)
    }
}

/// The sheets that are carried, behind a user's own.
pub(crate) fn sheets(own: &[PathBuf]) -> anyhow::Result<Sheets> {
    let mut sheets = Sheets::built_in()?;
    for file in own {
        let name = file.display().to_string();
        sheets.add(&name, &read(file)?)?;
    }
    Ok(sheets)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A model by its name, or by the path of its `config.json`.
pub(crate) fn model(sheets: &Sheets, name: &str) -> anyhow::Result<Model> {
    if name.ends_with(".json") {
        let text = read(Path::new(name))?;
        return Ok(Model::from_hugging_face(name, &text)?);
    }
    // What does not change a model's shape may be in its name: whose it is, -Instruct, -FP8.
    match sheets.model(name) {
        Ok(model) => Ok(model.clone()),
        Err(_) => Ok(find("model", "--model", &sheets.models, Model::row, name)?.clone()),
    }
}

pub(crate) fn accelerator<'a>(sheets: &'a Sheets, name: &str) -> anyhow::Result<&'a Accelerator> {
    find("GPU", "--gpu", &sheets.accelerators, Accelerator::row, name)
}

pub(crate) fn engine<'a>(sheets: &'a Sheets, name: &str) -> anyhow::Result<&'a Engine> {
    find("engine", "--engine", &sheets.engines, Engine::row, name)
}

fn find<'a, T>(
    kind: &str,
    argument: &str,
    all: &'a [T],
    row: fn(&T) -> &Row,
    name: &str,
) -> anyhow::Result<&'a T> {
    all.iter().find(|one| row(one).is_called(name)).ok_or_else(|| {
        let lower = name.to_lowercase();
        let limit = (lower.chars().count() / 2).max(2);
        let mut near: Vec<(usize, &str)> = all
            .iter()
            .filter_map(|one| {
                let names = row(one).names().map(str::to_lowercase);
                // A part of a name is as good as a letter missing.
                let far = |own: String| {
                    let within = lower.len() > 2 && own.contains(&lower);
                    if within { 1 } else { edit_distance(&lower, &own) }
                };
                let distance = names.map(far).min().filter(|distance| *distance <= limit)?;
                Some((distance, row(one).name()))
            })
            .collect();
        near.sort_unstable();
        near.truncate(NEAR);
        let quoted = |names: Vec<&str>| format!("`{}`", names.join("`, `"));
        let hint = match near.as_slice() {
            [] => String::new(),
            _ => format!("did you mean {}? ", quoted(near.iter().map(|(_, name)| *name).collect())),
        };
        let known = quoted(all.iter().map(|one| row(one).name()).collect());
        anyhow!("{argument}: unknown {kind} `{name}`; {hint}known are {known}, and those of --sheet FILE")
    })
}

/// What was asked for, but for its size.
struct Wanted<'a> {
    sheets: &'a Sheets,
    model: &'a Model,
    accelerator: &'a Accelerator,
    engine: &'a Engine,
}

impl Wanted<'_> {
    fn setup(
        &self,
        accelerator: &Accelerator,
        layout: Layout,
        formats: Formats,
    ) -> Result<Setup, SetupError> {
        let kernels = &self.sheets.kernels;
        let routing = Routing::default();
        Setup::new(self.model, accelerator, self.engine, kernels, layout, formats, routing)
    }

    /// Why there is no memory; for a model that does not fit, how much is missing and what would fit.
    fn explain(&self, setup: &Setup, error: MemoryError) -> anyhow::Error {
        let MemoryError::DoesNotFit { weight_bytes, other_bytes, usable_bytes, .. } = error else {
            return error.into();
        };
        let missing = (weight_bytes + other_bytes - usable_bytes).max(0.0) / GIB;
        let fits = self.fitting(setup);
        let fits = match fits.as_slice() {
            [] => "nothing of this kind would fit".to_owned(),
            some => format!("it would fit with {}", some.join(", or with ")),
        };
        let each = match setup.layout.accelerators() {
            1 => String::new(),
            some => format!(" on each of {some} GPUs"),
        };
        anyhow!("{error}; {missing:.1} GiB are missing{each}; {fits}")
    }

    /// The least change of each kind that makes it fit.
    fn fitting(&self, setup: &Setup) -> Vec<String> {
        let tokens = |accelerator: &Accelerator, tensor: u32, formats: Formats| {
            let layout = Layout { tensor, ..setup.layout };
            let memory = self.setup(accelerator, layout, formats).ok()?.memory().ok()?;
            Some(memory.kv_tokens).filter(|tokens| *tokens >= ROOM)
        };
        let own = (setup.layout.tensor, setup.formats);
        let smaller = [Format::Fp8, Format::Int4].into_iter().filter(|format| {
            let bytes = own.1.weights.weight_bytes();
            format.weight_bytes() < bytes
        });
        let all_in = |format| Formats { weights: format, experts: format, ..own.1 };
        let formats = std::iter::once((None, own.1))
            .chain(smaller.map(|format| (Some(format), all_in(format))));
        let mut found = Vec::new();
        for (format, formats) in formats {
            let sizes = [1, 2, 4, 8, 16].into_iter().filter(|ranks| *ranks >= own.0);
            let fit =
                sizes.filter_map(|ranks| Some((ranks, tokens(self.accelerator, ranks, formats)?)));
            let Some((ranks, tokens)) = fit.min_by_key(|(ranks, _)| *ranks) else { continue };
            let mut what = Vec::new();
            if ranks != own.0 {
                what.push(format!("`--tp {ranks}`"));
            }
            if let Some(format) = format {
                what.push(format!("`--weights {format}`"));
            }
            found.push(format!("{} (a KV cache of {} tokens)", what.join(" "), grouped(tokens)));
        }
        let larger = self.sheets.accelerators.iter().filter_map(|accelerator| {
            let tokens = tokens(accelerator, own.0, own.1)?;
            Some((accelerator.hbm_bytes().ok()?, accelerator.row().name(), tokens))
        });
        let least = larger.min_by(|left, right| left.0.total_cmp(&right.0));
        if let Some((_, name, tokens)) = least {
            found.push(format!("`--gpu {name}` (a KV cache of {} tokens)", grouped(tokens)));
        }
        found
    }
}

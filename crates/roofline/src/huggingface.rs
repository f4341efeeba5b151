//! Models from the `config.json` that Hugging Face publishes with them.

use serde_json::{Map, Value};

use crate::format::Format;
use crate::model::{Model, as_f64};
use crate::sheet::SheetError;

/// A `config.json` that does not describe a model we can time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not an object.
    #[error("`{name}`: expected a JSON object: {what}")]
    Json {
        /// What the model is called.
        name: String,
        /// Where it goes wrong.
        what: String,
    },
    /// An architecture whose arithmetic is not known here.
    #[error(
        "`{name}`: unknown `model_type` `{found}`, expected one of {known}\n\nhint: its shape can be written as a row \
         of a sheet of models, if its layers are attention and gated feed-forward layers or experts"
    )]
    Architecture {
        /// What the model is called.
        name: String,
        /// The `model_type`, or nothing.
        found: String,
        /// Those that are known.
        known: String,
    },
    /// A key that this architecture needs.
    #[error("`{name}`: `{key}`: expected {expected}, found {found}")]
    Key {
        /// What the model is called.
        name: String,
        /// The key, the first of its names.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The figures do not fit together.
    #[error(transparent)]
    Shape(#[from] SheetError),
}

/// How an architecture names its experts and windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// No experts; `sliding_window` is for all layers.
    Dense,
    /// No experts; a window from `max_window_layers` on, if `use_sliding_window`.
    Qwen,
    /// No experts; every second layer has a window.
    Alternating,
    /// No experts; one layer in `sliding_window_pattern` sees everything.
    Pattern,
    /// Experts in all layers, as wide as `intermediate_size`.
    Mixtral,
    /// As Mixtral, every second layer with a window.
    GptOss,
    /// Experts in all layers but those of `mlp_only_layers`.
    QwenExperts,
    /// Experts from layer `first_k_dense_replace` on.
    DeepSeek,
    /// Experts every `interleave_moe_layer_step` layers, one of them shared.
    Llama4,
}

/// Architectures by `model_type`. Facts of each one's configuration class in Hugging Face transformers.
const FAMILIES: [(&str, Family); 24] = [
    ("llama", Family::Dense),
    ("mistral", Family::Dense),
    ("phi3", Family::Dense),
    ("gemma", Family::Dense),
    ("granite", Family::Dense),
    ("qwen2", Family::Qwen),
    ("qwen3", Family::Qwen),
    ("gemma2", Family::Alternating),
    ("gemma3", Family::Pattern),
    ("gemma3_text", Family::Pattern),
    ("mixtral", Family::Mixtral),
    ("minimax_m2", Family::Mixtral),
    ("gpt_oss", Family::GptOss),
    ("qwen2_moe", Family::QwenExperts),
    ("qwen3_moe", Family::QwenExperts),
    ("deepseek_v2", Family::DeepSeek),
    ("deepseek_v3", Family::DeepSeek),
    ("deepseek_v32", Family::DeepSeek),
    ("kimi_k2", Family::DeepSeek),
    ("kimi_k25", Family::DeepSeek),
    ("glm4_moe", Family::DeepSeek),
    ("glm_moe_dsa", Family::DeepSeek),
    ("llama4", Family::Llama4),
    ("llama4_text", Family::Llama4),
];

impl Model {
    /// Reads a Hugging Face `config.json`; `name` names the model, and it in errors.
    ///
    /// Sparse and chunked attention count as full attention, which is what they cost at most.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, what was found and what was expected; an architecture that is not known is
    /// refused rather than guessed.
    pub fn from_hugging_face(name: &str, json: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(json).map_err(|error| ConfigError::Json {
            name: name.to_owned(),
            what: error.to_string(),
        })?;
        let Value::Object(whole) = value else {
            let what = "found another value".to_owned();
            return Err(ConfigError::Json { name: name.to_owned(), what });
        };
        // Models that also see images keep the language model's shape within.
        let text = match whole.get("text_config") {
            Some(Value::Object(text)) => text.clone(),
            _ => whole.clone(),
        };
        let found = text.get("model_type").or_else(|| whole.get("model_type"));
        let found = found.and_then(Value::as_str).unwrap_or_default();
        let Some((_, family)) = FAMILIES.iter().find(|(own, _)| *own == found) else {
            let known = FAMILIES.map(|(own, _)| format!("`{own}`")).join(", ");
            let (name, found) = (name.to_owned(), found.to_owned());
            return Err(ConfigError::Architecture { name, found, known });
        };
        let config = Config { name, text: &text, whole: &whole };
        config.model(*family, found)
    }
}

struct Config<'a> {
    name: &'a str,
    text: &'a Map<String, Value>,
    whole: &'a Map<String, Value>,
}

impl Config<'_> {
    fn wrong(
        &self,
        key: &'static str,
        expected: &'static str,
        found: Option<&Value>,
    ) -> ConfigError {
        let shown = |value: &Value| value.to_string().chars().take(80).collect::<String>();
        let found =
            found.map_or_else(|| "nothing".to_owned(), |value| format!("`{}`", shown(value)));
        ConfigError::Key { name: self.name.to_owned(), key, expected, found }
    }

    /// A whole number by the first of its names that is there; null is as good as nothing.
    fn some(&self, names: &[&'static str]) -> Result<Option<u64>, ConfigError> {
        for name in names {
            match self.text.get(*name) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let count = value.as_u64();
                    let count =
                        count.ok_or_else(|| self.wrong(name, "a whole number", Some(value)));
                    return count.map(Some);
                }
            }
        }
        Ok(None)
    }

    fn count(&self, names: &[&'static str]) -> Result<u64, ConfigError> {
        self.some(names)?.ok_or_else(|| self.wrong(names[0], "a whole number", None))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        match self.text.get(key).or_else(|| self.whole.get(key)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, "true or false", Some(other))),
        }
    }

    fn model(&self, family: Family, architecture: &str) -> Result<Model, ConfigError> {
        let mut row = Model::empty_row("config.json", self.name);
        let source = format!("config.json of {}", self.name);
        let mut put = |key, value: u64| row.put(key, as_f64(value), &source);
        let layers = self.count(&["num_hidden_layers"])?;
        let hidden = self.count(&["hidden_size"])?;
        let heads = self.count(&["num_attention_heads"])?;
        put("layers", layers);
        put("hidden", hidden);
        put("vocab", self.count(&["vocab_size"])?);
        let tied = self.flag("tie_word_embeddings")?.unwrap_or(architecture.starts_with("gemma"));
        put("tied", u64::from(tied));
        if let Some(context) = self.some(&["max_position_embeddings"])? {
            put("max_context", context);
        }
        put("heads", heads);
        if let Some(kv_lora) = self.some(&["kv_lora_rank"])? {
            put("kv_lora", kv_lora);
            if let Some(q_lora) = self.some(&["q_lora_rank"])? {
                put("q_lora", q_lora);
            }
            put("qk_nope", self.count(&["qk_nope_head_dim"])?);
            put("qk_rope", self.count(&["qk_rope_head_dim"])?);
            put("v_head", self.count(&["v_head_dim"])?);
        } else {
            put("kv_heads", self.some(&["num_key_value_heads"])?.unwrap_or(heads));
            let even =
                hidden.checked_div(heads).filter(|width| width.checked_mul(heads) == Some(hidden));
            let head_dim = match self.some(&["head_dim"])? {
                Some(width) => width,
                None => even.ok_or_else(|| self.wrong("head_dim", "a whole number", None))?,
            };
            put("head_dim", head_dim);
        }
        if let Some((tokens, windowed)) = self.window(family, layers)?
            && windowed > 0
        {
            put("window", tokens);
            put("window_layers", windowed);
        }
        let moe_layers = self.moe_layers(family, layers)?;
        if moe_layers < layers {
            let names: &[_] = if family == Family::Llama4 {
                &["intermediate_size_mlp", "intermediate_size"]
            } else {
                &["intermediate_size"]
            };
            put("ffn", self.count(names)?);
        }
        if moe_layers > 0 {
            put("moe_layers", moe_layers);
            put("experts", self.count(&["num_local_experts", "num_experts", "n_routed_experts"])?);
            put("active_experts", self.count(&["num_experts_per_tok", "num_experts_per_token"])?);
            let wide = matches!(family, Family::Mixtral | Family::GptOss | Family::Llama4);
            let key = if wide { "intermediate_size" } else { "moe_intermediate_size" };
            let width = self.count(&[key])?;
            put("moe_ffn", width);
            let shared = match family {
                Family::Llama4 => Some(width),
                Family::DeepSeek => {
                    let shared = self.some(&["n_shared_experts"])?.unwrap_or(0);
                    Some(shared.checked_mul(width).ok_or_else(|| {
                        self.wrong(
                            "n_shared_experts",
                            "a number of experts",
                            self.text.get("n_shared_experts"),
                        )
                    })?)
                }
                _ => self.some(&["shared_expert_intermediate_size"])?,
            };
            if let Some(shared) = shared.filter(|shared| *shared > 0) {
                put("shared_ffn", shared);
            }
        }
        if let Some((weights, experts)) = self.published()? {
            row.put_word("published", weights.name());
            row.put_word("published_experts", experts.name());
        }
        Ok(Model::from_row(row)?)
    }

    /// The formats of weights and of routed experts that `quantization_config` tells; `None` without one: as trained.
    fn published(&self) -> Result<Option<(Format, Format)>, ConfigError> {
        const KEY: &str = "quantization_config";
        let told = [self.whole, self.text].into_iter().find_map(|config| config.get(KEY));
        let Some(told) = told.filter(|value| !value.is_null()) else { return Ok(None) };
        let word = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default();
        let bits = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
        let integers = |bits| match bits {
            Some(4) => Some(Format::Int4),
            Some(8) => Some(Format::Int8),
            _ => None,
        };
        let in_blocks = told.get("weight_block_size").is_some_and(|size| !size.is_null());
        let format = match word("quant_method") {
            "fp8" if in_blocks => Some(Format::Fp8Block),
            "fp8" | "fbgemm_fp8" => Some(Format::Fp8),
            "awq" | "gptq" => integers(bits(told, "bits")),
            "mxfp4" => return Ok(Some((Format::Bf16, Format::Mxfp4))),
            "modelopt" => match word("quant_algo") {
                "FP8" => Some(Format::Fp8),
                "NVFP4" => Some(Format::Nvfp4),
                _ => None,
            },
            "compressed-tensors" => {
                let groups = told.get("config_groups").and_then(Value::as_object);
                let weights = groups.and_then(|groups| groups.values().next()?.get("weights"));
                weights.and_then(|weights| {
                    let kind = weights.get("type").and_then(Value::as_str);
                    let strategy = weights.get("strategy").and_then(Value::as_str);
                    match (kind, bits(weights, "num_bits")) {
                        (Some("float"), Some(8)) if strategy == Some("block") => {
                            Some(Format::Fp8Block)
                        }
                        (Some("float"), Some(8)) => Some(Format::Fp8),
                        (Some("float"), Some(4)) => Some(Format::Nvfp4),
                        (Some("int"), bits) => integers(bits),
                        _ => None,
                    }
                })
            }
            _ => None,
        };
        let expected = "a `quant_method` of `fp8`, `fbgemm_fp8`, `awq`, `gptq`, `mxfp4`, `modelopt` or \
                        `compressed-tensors`, in 8 or 4 bits";
        let format = format.ok_or_else(|| self.wrong(KEY, expected, Some(told)))?;
        Ok(Some((format, format)))
    }

    /// Tokens of the window, and how many layers have it.
    fn window(&self, family: Family, layers: u64) -> Result<Option<(u64, u64)>, ConfigError> {
        let Some(tokens) = self.some(&["sliding_window"])? else { return Ok(None) };
        if let Some(Value::Array(kinds)) = self.text.get("layer_types") {
            let windowed =
                kinds.iter().filter(|kind| kind.as_str() == Some("sliding_attention")).count();
            let windowed = u64::try_from(windowed).unwrap_or(u64::MAX);
            return Ok(Some((tokens, windowed)));
        }
        let windowed = match family {
            Family::Dense => layers,
            Family::Alternating | Family::GptOss => layers / 2,
            Family::Pattern => {
                let every = self.some(&["sliding_window_pattern"])?.unwrap_or(6).max(1);
                layers - layers / every
            }
            Family::Qwen | Family::QwenExperts => {
                if self.flag("use_sliding_window")? != Some(true) {
                    return Ok(None);
                }
                layers.saturating_sub(self.count(&["max_window_layers"])?)
            }
            // These carry the key of their base class and do not use it.
            Family::Mixtral | Family::DeepSeek | Family::Llama4 => return Ok(None),
        };
        Ok(Some((tokens, windowed)))
    }

    fn moe_layers(&self, family: Family, layers: u64) -> Result<u64, ConfigError> {
        Ok(match family {
            Family::Dense | Family::Qwen | Family::Alternating | Family::Pattern => 0,
            Family::Mixtral | Family::GptOss => layers,
            Family::QwenExperts => {
                let step = self.some(&["decoder_sparse_step"])?.unwrap_or(1).max(1);
                let dense = match self.text.get("mlp_only_layers") {
                    Some(Value::Array(dense)) => u64::try_from(dense.len()).unwrap_or(u64::MAX),
                    _ => 0,
                };
                (layers / step).saturating_sub(dense)
            }
            Family::DeepSeek => {
                let step = self.some(&["moe_layer_freq"])?.unwrap_or(1).max(1);
                let dense = self.some(&["first_k_dense_replace"])?.unwrap_or(0);
                layers.saturating_sub(dense) / step
            }
            Family::Llama4 => {
                layers / self.some(&["interleave_moe_layer_step"])?.unwrap_or(1).max(1)
            }
        })
    }
}

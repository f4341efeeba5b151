//! Models: shapes, and the parameters, cache bytes and arithmetic that follow from them.

use crate::format::Format;
use crate::sheet::{self, Kind, Missing, Row, SheetError};

const KIND: Kind = Kind {
    name: "model",
    figures: &[
        "layers",
        "hidden",
        "vocab",
        "tied",
        "max_context",
        "heads",
        "kv_heads",
        "head_dim",
        "q_lora",
        "kv_lora",
        "qk_nope",
        "qk_rope",
        "v_head",
        "window",
        "window_layers",
        "ffn",
        "moe_layers",
        "experts",
        "active_experts",
        "moe_ffn",
        "shared_ffn",
    ],
    words: &["published", "published_experts"],
};

/// A model's shape. Widths count elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub(crate) row: Row,
    /// Transformer layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Tokens in the vocabulary.
    pub vocab: u64,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// How layers attend.
    pub attention: Attention,
    /// Layers that see only the last tokens.
    pub window: Option<Window>,
    /// Intermediate width of the layers without experts; 0 if all have experts.
    pub ffn: u64,
    /// Layers with experts.
    pub experts: Option<Experts>,
    /// How its weights are published.
    pub published: Format,
    /// How the weights of its routed experts are.
    pub published_experts: Format,
}

/// How layers attend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Heads with keys and values shared within groups: multi-head and multi-query are its ends.
    Grouped {
        /// Query heads.
        heads: u64,
        /// Key and value heads.
        kv_heads: u64,
        /// Width of a head.
        head_dim: u64,
    },
    /// Multi-head latent attention: one compressed vector per token for all heads.
    Latent {
        /// Heads.
        heads: u64,
        /// Width of the compressed query; `None` if queries are not compressed.
        q_lora: Option<u64>,
        /// Width of the compressed keys and values.
        kv_lora: u64,
        /// Width of a head's part without position.
        nope: u64,
        /// Width of the part with position, shared by all heads.
        rope: u64,
        /// Width of a head's value.
        value: u64,
    },
}

/// Layers with a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many of the layers.
    pub layers: u64,
    /// Tokens they see.
    pub tokens: u64,
}

/// Layers with experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many of the layers.
    pub layers: u64,
    /// Routed experts of a layer.
    pub routed: u64,
    /// Routed experts that compute a token.
    pub active: u64,
    /// Intermediate width of a routed expert.
    pub ffn: u64,
    /// Intermediate width of all shared experts together; 0 if there are none.
    pub shared_ffn: u64,
}

impl Experts {
    /// Distinct routed experts that `tokens` tokens touch in a layer if each chooses evenly:
    /// `E (1 - (1 - k/E)^T)`. Skewed routing touches fewer.
    #[must_use]
    pub fn touched(self, tokens: f64) -> f64 {
        let experts = as_f64(self.routed);
        if self.active == self.routed {
            return if tokens > 0.0 { experts } else { 0.0 };
        }
        let log_missed = (-as_f64(self.active) / experts).ln_1p();
        -experts * (log_missed * tokens.max(0.0)).exp_m1()
    }
}

/// A whole number as a float. Shapes and counts are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

impl Model {
    /// Reads a sheet of models; `sheet` names it in errors.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Vec<Self>, SheetError> {
        let rows = sheet::rows(KIND, sheet, text)?;
        rows.into_iter().map(Self::from_row).collect()
    }

    pub(crate) fn empty_row(sheet: &str, name: &str) -> Row {
        Row::new(KIND, sheet, name)
    }

    /// A model of a row's figures, checked to fit together.
    pub(crate) fn from_row(row: Row) -> Result<Self, SheetError> {
        let shape = Shape { row: &row };
        let layers = shape.count("layers")?;
        let hidden = shape.count("hidden")?;
        let vocab = shape.count("vocab")?;
        let tied = match row.stated("tied") {
            None => false,
            Some(tied) if tied == 0.0 || tied == 1.0 => tied == 1.0,
            Some(other) => return Err(row.wrong(format!("`tied`: expected 0 or 1, found {other}"))),
        };
        let attention = shape.attention()?;
        let window = shape.window(layers)?;
        let experts = shape.experts(layers)?;
        let all_experts = experts.is_some_and(|experts| experts.layers == layers);
        let ffn = if all_experts { 0 } else { shape.count("ffn")? };
        let published = shape.format("published")?.unwrap_or(Format::Bf16);
        let published_experts = shape.format("published_experts")?.unwrap_or(published);
        let model = Self {
            layers,
            hidden,
            vocab,
            tied,
            attention,
            window,
            ffn,
            experts,
            published,
            published_experts,
            row,
        };
        let parameters = model.counted(|experts| experts.routed, if tied { 1 } else { 2 });
        if parameters > MOST_PARAMETERS {
            return Err(model.row.wrong(format!(
                "the shape has {parameters} parameters, expected at most {MOST_PARAMETERS}"
            )));
        }
        Ok(model)
    }

    /// The sheet's row: all figures with their sources.
    #[must_use]
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// The most tokens a sequence may have.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn max_context(&self) -> Result<f64, Missing> {
        self.row.figure("max_context")
    }

    /// All parameters, with embeddings and norms, without prediction heads for several tokens.
    ///
    /// Per layer `2 h H d + 2 h K d` (or the latent projections), `3 h F` of a gated feed-forward layer or, with
    /// experts, `3 h (E I + shared) + h E`, and two norms; then `V h` once or twice.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let embeddings = if self.tied { 1 } else { 2 };
        fitting(self.counted(|experts| experts.routed, embeddings))
    }

    /// The parameters that compute a token: all but the idle experts and the input embedding, which is only looked up.
    #[must_use]
    pub fn active_parameters(&self) -> u64 {
        fitting(self.counted(|experts| experts.active, 1))
    }

    /// Parameters when `routed` of the routed experts count, and so many embeddings. In 128 bits, as a shape is
    /// checked by it: four figures of at most 10^9 each are multiplied.
    fn counted(&self, routed: impl Fn(Experts) -> u64, embeddings: u128) -> u128 {
        let (h, layers) = (u128::from(self.hidden), u128::from(self.layers));
        let moe_layers = u128::from(self.experts.map_or(0, |experts| experts.layers));
        let moe = self.experts.map_or(0, |experts| {
            let widths = u128::from(routed(experts)) * u128::from(experts.ffn);
            3 * h * (widths + u128::from(experts.shared_ffn)) + h * u128::from(experts.routed)
        });
        embeddings * u128::from(self.vocab) * h
            + h
            + layers * (self.attention_parameters_wide() + 2 * h)
            + (layers - moe_layers) * 3 * h * u128::from(self.ffn)
            + moe_layers * moe
    }

    /// Parameters of a layer's attention.
    #[must_use]
    pub fn attention_parameters(&self) -> u64 {
        fitting(self.attention_parameters_wide())
    }

    fn attention_parameters_wide(&self) -> u128 {
        let h = u128::from(self.hidden);
        match self.attention {
            Attention::Grouped { heads, kv_heads, head_dim } => {
                2 * h * (u128::from(heads) + u128::from(kv_heads)) * u128::from(head_dim)
            }
            Attention::Latent { heads, q_lora, kv_lora, nope, rope, value } => {
                let [heads, kv_lora, nope, rope, value] =
                    [heads, kv_lora, nope, rope, value].map(u128::from);
                let query = heads * (nope + rope);
                let query = match q_lora.map(u128::from) {
                    Some(q_lora) => h * q_lora + q_lora * query,
                    None => h * query,
                };
                let keys_and_values = kv_lora * heads * (nope + value);
                query + h * (kv_lora + rope) + keys_and_values + heads * value * h
            }
        }
    }

    /// Elements that one layer keeps in the KV cache for a token, before any sharding: `2 K d`, or the latent's width.
    #[must_use]
    pub fn kv_elements_per_layer(&self) -> u64 {
        match self.attention {
            Attention::Grouped { kv_heads, head_dim, .. } => 2 * kv_heads * head_dim,
            Attention::Latent { kv_lora, rope, .. } => kv_lora + rope,
        }
    }

    /// Layers that see the whole context.
    #[must_use]
    pub fn full_layers(&self) -> u64 {
        self.layers - self.window.map_or(0, |window| window.layers)
    }

    /// Elements that a token adds to the KV cache for good, before any sharding. Layers with a window are not in it:
    /// they keep a constant amount per sequence.
    #[must_use]
    pub fn kv_elements_per_token(&self) -> u64 {
        self.full_layers() * self.kv_elements_per_layer()
    }
}

/// More than any model has, and little enough that every product of a shape fits 64 bits.
const MOST_PARAMETERS: u128 = 1_000_000_000_000_000;

fn fitting(count: u128) -> u64 {
    u64::try_from(count).expect("a model's parameters were bounded when it was read")
}

struct Shape<'a> {
    row: &'a Row,
}

impl Shape<'_> {
    /// A whole number above 0 that must be stated.
    fn count(&self, key: &'static str) -> Result<u64, SheetError> {
        self.some(key)?.ok_or_else(|| self.row.wrong(format!("`{key}` is not stated")))
    }

    /// A number format, if stated.
    fn format(&self, key: &'static str) -> Result<Option<Format>, SheetError> {
        let word = self.row.word(key);
        let read =
            |word: &str| word.parse().map_err(|error| self.row.wrong(format!("`{key}`: {error}")));
        word.map(read).transpose()
    }

    /// A whole number above 0, if stated.
    fn some(&self, key: &'static str) -> Result<Option<u64>, SheetError> {
        const MOST: f64 = 1e9;
        let Some(value) = self.row.stated(key) else { return Ok(None) };
        if !(1.0..=MOST).contains(&value) || value.fract() != 0.0 {
            return Err(self.row.wrong(format!(
                "`{key}`: expected a whole number from 1 to 1,000,000,000, found {value}"
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        Ok(Some(value as u64))
    }

    fn attention(&self) -> Result<Attention, SheetError> {
        let heads = self.count("heads")?;
        if let Some(kv_lora) = self.some("kv_lora")? {
            for key in ["kv_heads", "head_dim"] {
                if self.row.stated(key).is_some() {
                    return Err(self.row.wrong(format!(
                        "`{key}` beside `kv_lora`: latent attention has neither key heads nor one head width"
                    )));
                }
            }
            return Ok(Attention::Latent {
                heads,
                q_lora: self.some("q_lora")?,
                kv_lora,
                nope: self.count("qk_nope")?,
                rope: self.count("qk_rope")?,
                value: self.count("v_head")?,
            });
        }
        let kv_heads = self.count("kv_heads")?;
        if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
            return Err(self.row.wrong(format!(
                "`kv_heads`: expected a divisor of {heads} heads, found {kv_heads}"
            )));
        }
        Ok(Attention::Grouped { heads, kv_heads, head_dim: self.count("head_dim")? })
    }

    fn window(&self, layers: u64) -> Result<Option<Window>, SheetError> {
        let Some(tokens) = self.some("window")? else {
            if self.row.stated("window_layers").is_some() {
                return Err(self.row.wrong("`window_layers` without `window`"));
            }
            return Ok(None);
        };
        let windowed = self.count("window_layers")?;
        if windowed > layers {
            return Err(self.row.wrong(format!(
                "`window_layers`: expected at most {layers} layers, found {windowed}"
            )));
        }
        Ok(Some(Window { layers: windowed, tokens }))
    }

    fn experts(&self, layers: u64) -> Result<Option<Experts>, SheetError> {
        let Some(moe_layers) = self.some("moe_layers")? else {
            for key in ["experts", "active_experts", "moe_ffn", "shared_ffn"] {
                if self.row.stated(key).is_some() {
                    return Err(self.row.wrong(format!("`{key}` without `moe_layers`")));
                }
            }
            return Ok(None);
        };
        let experts = Experts {
            layers: moe_layers,
            routed: self.count("experts")?,
            active: self.count("active_experts")?,
            ffn: self.count("moe_ffn")?,
            shared_ffn: self.some("shared_ffn")?.unwrap_or(0),
        };
        if moe_layers > layers {
            return Err(self.row.wrong(format!(
                "`moe_layers`: expected at most {layers} layers, found {moe_layers}"
            )));
        }
        if experts.active > experts.routed {
            return Err(self.row.wrong(format!(
                "`active_experts`: expected at most {} experts, found {}",
                experts.routed, experts.active
            )));
        }
        Ok(Some(experts))
    }
}

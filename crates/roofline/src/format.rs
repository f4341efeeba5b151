//! Number formats of weights, arithmetic and the KV cache.

use std::fmt;
use std::str::FromStr;

use crate::accelerator::{Accelerator, Arithmetic};

/// How weights are kept, and with it in which type they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// bfloat16 or float16.
    Bf16,
    /// 8-bit floats with a scale per tensor; activations too.
    Fp8,
    /// 8-bit floats with a scale per block; activations too.
    Fp8Block,
    /// 8-bit integers, weights only.
    Int8,
    /// 4-bit integers, weights only.
    Int4,
    /// 4-bit floats in blocks of 16; activations too.
    Nvfp4,
    /// 4-bit floats in blocks of 32, weights only.
    Mxfp4,
    /// 4-bit floats in blocks of 32, activations in 8-bit floats.
    Mxfp4Fp8,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::Bf16,
        Self::Fp8,
        Self::Fp8Block,
        Self::Int8,
        Self::Int4,
        Self::Nvfp4,
        Self::Mxfp4,
        Self::Mxfp4Fp8,
    ];

    /// Its name in sheets and arguments.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Fp8Block => "fp8-block",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Nvfp4 => "nvfp4",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp4Fp8 => "mxfp4-fp8",
        }
    }

    /// The format that a model's name tells, such as that of `Qwen3-32B-FP8` or `Qwen3-14B-AWQ`; `None` if it tells none.
    #[must_use]
    pub fn told_by(model: &str) -> Option<Self> {
        let name = model.to_ascii_lowercase();
        let told = [
            ("mxfp4", Self::Mxfp4),
            ("nvfp4", Self::Nvfp4),
            ("fp4", Self::Nvfp4),
            ("fp8", Self::Fp8),
            ("int8", Self::Int8),
            ("w8a16", Self::Int8),
            ("int4", Self::Int4),
            ("w4a16", Self::Int4),
            ("awq", Self::Int4),
            ("gptq", Self::Int4),
        ];
        let parts = || name.split(|letter: char| !letter.is_ascii_alphanumeric());
        told.into_iter().find(|(word, _)| parts().any(|part| part == *word)).map(|(_, own)| own)
    }

    /// What an accelerator makes of weights that are kept so: without arithmetic in 8-bit floats they are multiplied in
    /// bfloat16 (vLLM's Marlin kernels), and where there is such in 4-bit floats, MXFP4 is multiplied in 8 bits.
    #[must_use]
    pub fn on(self, accelerator: &Accelerator) -> Self {
        let has = |figure| accelerator.row().stated(figure).is_some();
        // AMD's engines multiply MXFP4 in bfloat16.
        let nvidia = !accelerator.row().name().starts_with("mi");
        match self {
            Self::Fp8 | Self::Fp8Block if !has("fp8_tflops") => Self::Int8,
            Self::Mxfp4 if has("fp4_tflops") && nvidia => Self::Mxfp4Fp8,
            own => own,
        }
    }

    /// Bytes of a weight with its share of the scales: a byte per 16 (NVFP4) or 32 (MXFP4) elements, two per 128 (INT4).
    #[must_use]
    pub fn weight_bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 | Self::Fp8Block | Self::Int8 => 1.0,
            Self::Int4 => 0.5 + 2.0 / 128.0,
            Self::Nvfp4 => 0.5 + 1.0 / 16.0,
            Self::Mxfp4 | Self::Mxfp4Fp8 => 0.5 + 1.0 / 32.0,
        }
    }

    /// Bytes of an activation that is multiplied with such weights.
    #[must_use]
    pub fn activation_bytes(self) -> f64 {
        match self {
            Self::Fp8 | Self::Fp8Block | Self::Mxfp4Fp8 => 1.0,
            Self::Nvfp4 => 0.5 + 1.0 / 16.0,
            Self::Bf16 | Self::Int8 | Self::Int4 | Self::Mxfp4 => 2.0,
        }
    }

    /// The type of the multiplication. Formats for weights only multiply in bfloat16.
    #[must_use]
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Self::Bf16 | Self::Int8 | Self::Int4 | Self::Mxfp4 => Arithmetic::Bf16,
            Self::Fp8 | Self::Fp8Block | Self::Mxfp4Fp8 => Arithmetic::Fp8,
            Self::Nvfp4 => Arithmetic::Fp4,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A number format that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{found}`, expected one of {expected}")]
pub struct ParseFormatError {
    found: String,
    expected: String,
}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| ParseFormatError {
            found: text.to_owned(),
            expected: Self::ALL.map(|format| format!("`{format}`")).join(", "),
        })
    }
}

/// How the KV cache is kept. Attention multiplies in bfloat16 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KvFormat {
    /// bfloat16 or float16.
    Bf16,
    /// 8-bit floats.
    Fp8,
}

impl KvFormat {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
        }
    }

    /// Its name in sheets and arguments.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        }
    }
}

impl FromStr for KvFormat {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        [Self::Bf16, Self::Fp8].into_iter().find(|format| format.name() == text).ok_or_else(|| {
            ParseFormatError { found: text.to_owned(), expected: "`bf16`, `fp8`".to_owned() }
        })
    }
}

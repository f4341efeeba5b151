//! Number formats of weights, arithmetic and the KV cache.

use std::fmt;
use std::str::FromStr;

use crate::accelerator::Arithmetic;

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

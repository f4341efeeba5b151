//! Engines: what they do when nothing else is asked of them.

use crate::accelerator::{Accelerator, GIB};
use crate::sheet::{self, Kind, Missing, Row, SheetError};

const KIND: Kind = Kind {
    name: "engine",
    figures: &[
        "token_budget",
        "max_seqs",
        "token_budget_small",
        "max_seqs_small",
        "block_tokens",
        "memory_fraction",
        "memory_of_free",
        "mixes",
        "graph_tokens",
        "activation_gib",
        "activation_gib_moe",
        "other_gib",
        "other_gib_parallel",
        "step_us",
        "sequence_us",
        "request_us",
        "steps_ahead",
        "whole_sequences",
    ],
    words: &["kernels"],
};

/// An engine's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    row: Row,
}

/// How much an engine takes into one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most sequences that run at once.
    pub max_seqs: u32,
    /// Most tokens of one step.
    pub token_budget: u32,
}

impl Engine {
    /// Reads a sheet of engines; `sheet` names it in errors.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Vec<Self>, SheetError> {
        const COUNTS: [&str; 6] = [
            "token_budget",
            "max_seqs",
            "token_budget_small",
            "max_seqs_small",
            "block_tokens",
            "graph_tokens",
        ];
        let rows = sheet::rows(KIND, sheet, text)?;
        for row in &rows {
            for (key, value, _) in row.figures() {
                let whole = value.fract() == 0.0 && value <= 1e9;
                if COUNTS.contains(&key) && !(whole && (value >= 1.0 || key == "graph_tokens")) {
                    return Err(
                        row.wrong(format!("`{key}`: expected a whole number, found {value}"))
                    );
                }
                if key == "memory_fraction" && !(value > 0.0 && value <= 1.0) {
                    return Err(row.wrong(format!(
                        "`{key}`: expected more than 0, at most 1, found {value}"
                    )));
                }
                if ["mixes", "memory_of_free", "whole_sequences"].contains(&key)
                    && value != 0.0
                    && value != 1.0
                {
                    return Err(row.wrong(format!("`{key}`: expected 0 or 1, found {value}")));
                }
            }
        }
        Ok(rows.into_iter().map(|row| Self { row }).collect())
    }

    /// The sheet's row: all figures with their sources.
    #[must_use]
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// The engine whose measured kernels it runs: its own, or those of the one it names.
    pub(crate) fn kernels(&self) -> &str {
        self.row.word("kernels").unwrap_or(self.row.name())
    }

    /// What a server takes into one step by default on this accelerator.
    ///
    /// # Errors
    /// [`Missing`] if a sheet does not state a figure.
    pub fn limits(&self, accelerator: &Accelerator) -> Result<Limits, Missing> {
        const LARGE: f64 = 70.0 * GIB;
        let large =
            accelerator.hbm_bytes()? >= LARGE && !accelerator.row().name().starts_with("a100");
        let either = |large_key: &'static str, small_key: &'static str| {
            let small = if large { None } else { self.row.stated(small_key) };
            small.map_or_else(|| self.row.figure(large_key), Ok)
        };
        Ok(Limits {
            max_seqs: whole(either("max_seqs", "max_seqs_small")?),
            token_budget: whole(either("token_budget", "token_budget_small")?),
        })
    }

    /// Tokens of a block of the KV cache.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn block_tokens(&self) -> Result<u32, Missing> {
        Ok(whole(self.row.figure("block_tokens")?))
    }

    /// Whether one step decodes and prefills together.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn mixes(&self) -> Result<bool, Missing> {
        Ok(self.row.figure("mixes")? == 1.0)
    }

    /// Up to how many tokens a step is padded to a captured CUDA graph.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn graph_tokens(&self) -> Result<u32, Missing> {
        Ok(whole(self.row.figure("graph_tokens")?))
    }

    /// What a request waits for the host before an engine sees it, and its tokens after, in seconds: the front end, and
    /// turning text into tokens. None if the sheet does not state it.
    pub(crate) fn request_seconds(&self) -> f64 {
        self.row.stated("request_us").unwrap_or(0.0) * 1e-6
    }

    /// Steps that are decided when a request comes, beyond the one that runs: engines that schedule a step while the one
    /// before runs take a request in one step later. None if the sheet does not state it.
    #[must_use]
    pub fn steps_ahead(&self) -> f64 {
        self.row.stated("steps_ahead").unwrap_or(0.0)
    }

    /// Whether a sequence is only admitted when all blocks fit that it may ever need, so that none is preempted.
    #[must_use]
    pub fn admits_whole_sequences(&self) -> bool {
        self.row.stated("whole_sequences") == Some(1.0)
    }

    /// Time of a step that the accelerator waits for the host, in seconds: for the step, and for each sequence.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn host_seconds(&self) -> Result<(f64, f64), Missing> {
        Ok((self.row.figure("step_us")? * 1e-6, self.row.figure("sequence_us")? * 1e-6))
    }
}

/// A count that was checked when it was read.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 1e9, whole")]
fn whole(count: f64) -> u32 {
    count as u32
}

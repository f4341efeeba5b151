//! The sheets that are carried, and those that a user adds.

use crate::accelerator::Accelerator;
use crate::engine::Engine;
use crate::fit::Fit;
use crate::kernel::Kernels;
use crate::model::Model;
use crate::sheet::{Row, SheetError};

/// Data sheets: those that are carried, behind those that were added.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheets {
    /// Accelerators; the first of a name counts.
    pub accelerators: Vec<Accelerator>,
    /// Models; the first of a name counts.
    pub models: Vec<Model>,
    /// Engines; the first of a name counts.
    pub engines: Vec<Engine>,
    /// Measured kernels.
    pub kernels: Kernels,
}

/// A name that no sheet has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{name}`, expected one of {known}")]
pub struct UnknownRow {
    kind: &'static str,
    name: String,
    known: String,
}

impl Sheets {
    /// The sheets that are carried.
    ///
    /// # Errors
    /// [`SheetError`] if one of them is damaged, which the tests rule out.
    pub fn built_in() -> Result<Self, SheetError> {
        Ok(Self {
            accelerators: Accelerator::read(
                "accelerators.txt",
                include_str!("../data/accelerators.txt"),
            )?,
            models: Model::read("models.txt", include_str!("../data/models.txt"))?,
            engines: Engine::read("engines.txt", include_str!("../data/engines.txt"))?,
            kernels: Kernels::built_in()?,
        })
    }

    /// Puts a user's sheet before the others: its rows win. The kind of its first row says which sheet it is.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn add(&mut self, sheet: &str, text: &str) -> Result<(), SheetError> {
        let is_row = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let first = text.lines().find(is_row).and_then(|line| line.split_whitespace().next());
        match first {
            Some("accelerator") => {
                drop(self.accelerators.splice(0..0, Accelerator::read(sheet, text)?))
            }
            Some("model") => drop(self.models.splice(0..0, Model::read(sheet, text)?)),
            Some("engine") => drop(self.engines.splice(0..0, Engine::read(sheet, text)?)),
            Some("fit") => self.kernels.add_fits(Fit::read(sheet, text)?),
            other => {
                let line = text.lines().position(|line| is_row(&line)).map_or(1, |line| line + 1);
                let found = other.map_or_else(|| "nothing".to_owned(), |word| format!("`{word}`"));
                let what = format!(
                    "expected `accelerator`, `model`, `engine` or `fit` with a name, found {found}"
                );
                return Err(SheetError { sheet: sheet.to_owned(), line, what });
            }
        }
        Ok(())
    }

    /// The accelerator of this name.
    ///
    /// # Errors
    /// [`UnknownRow`] lists the names there are.
    pub fn accelerator(&self, name: &str) -> Result<&Accelerator, UnknownRow> {
        find("accelerator", &self.accelerators, Accelerator::row, name)
    }

    /// The model of this name, or of one that differs in what does not change a model's shape: whose it is, blanks, case,
    /// and endings such as `-Instruct` or `-FP8`.
    ///
    /// # Errors
    /// [`UnknownRow`] lists the names there are.
    pub fn model(&self, name: &str) -> Result<&Model, UnknownRow> {
        find("model", &self.models, Model::row, name).or_else(|unknown| {
            let wanted = spelling(name);
            let called = |model: &&Model| model.row().names().any(|own| spelling(own) == wanted);
            self.models.iter().find(called).ok_or(unknown)
        })
    }

    /// The engine of this name.
    ///
    /// # Errors
    /// [`UnknownRow`] lists the names there are.
    pub fn engine(&self, name: &str) -> Result<&Engine, UnknownRow> {
        find("engine", &self.engines, Engine::row, name)
    }
}

/// A model's name without what does not change its shape.
fn spelling(name: &str) -> String {
    const ENDINGS: [&str; 22] = [
        "-instruct",
        "-chat",
        "-hf",
        "-it",
        "-fp8",
        "-nvfp4",
        "-fp4",
        "-dynamic",
        "-2507",
        "-0528",
        "-v0.1",
        "-bf16",
        "-base",
        "-thinking",
        "-awq",
        "-gptq",
        "-int4",
        "-int8",
        "-w4a16",
        "-w8a16",
        "-w8a8",
        "-mxfp4",
    ];
    let own = name.rsplit('/').next().unwrap_or(name).trim().to_ascii_lowercase();
    let own = own.replace([' ', '_'], "-");
    let mut rest = own.strip_prefix("meta-").unwrap_or(&own);
    while let Some(shorter) = ENDINGS.iter().find_map(|ending| rest.strip_suffix(ending)) {
        rest = shorter;
    }
    rest.to_owned()
}

fn find<'a, T>(
    kind: &'static str,
    all: &'a [T],
    row: fn(&T) -> &Row,
    name: &str,
) -> Result<&'a T, UnknownRow> {
    all.iter().find(|one| row(one).is_called(name)).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(|one| format!("`{}`", row(one).name())).collect();
        UnknownRow { kind, name: name.to_owned(), known: known.join(", ") }
    })
}

//! What measured runs say of an accelerator with an engine, beyond its kernels: few factors and times.

use crate::sheet::{self, Kind, Row, SheetError};

const KIND: Kind = Kind {
    name: "fit",
    figures: &[
        "compute",
        "memory",
        "communication",
        "step_us",
        "sequence_us",
        "request_us",
        "points",
        "error_percent",
        "left_out_error_percent",
    ],
    words: &[],
};

/// Constants that were fitted to measured runs of one engine on one accelerator.
///
/// ```text
/// fit h100-sxm vllm                the accelerator's and the engine's names
///   source points.csv, 38 points   where they come from
///   compute 0.96                   times what kernels achieve of the peak arithmetic
///   memory 1.04                    times what they achieve of the peak bandwidth
///   communication 1.10             times the seconds between accelerators
///   step_us 410                    host time of a step, in place of the engine's
///   sequence_us 12                 host time of a sequence in a step, in place of the engine's
///   request_us 9000                host time of a request, in place of the engine's
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    row: Row,
}

impl Fit {
    /// Reads a sheet of fits; `sheet` names it in errors.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Vec<Self>, SheetError> {
        const FACTORS: [&str; 3] = ["compute", "memory", "communication"];
        let rows = sheet::rows(KIND, sheet, text)?;
        for row in &rows {
            if row.name().split_whitespace().count() != 2 {
                return Err(row.wrong("expected `fit ACCELERATOR ENGINE`"));
            }
            for (key, value, _) in row.figures() {
                if FACTORS.contains(&key) && !(1e-3..=1e3).contains(&value) {
                    return Err(row.wrong(format!(
                        "`{key}`: expected a factor from 0.001 to 1000, found {value}"
                    )));
                }
                if key.ends_with("_us") && value > 1e9 {
                    return Err(
                        row.wrong(format!("`{key}`: expected at most 1000 s, found {value} us"))
                    );
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

    pub(crate) fn is_of(&self, accelerator: &str, engine: &str) -> bool {
        let mut words = self.row.name().split_whitespace();
        let mut same =
            |name: &str| words.next().is_some_and(|word| word.eq_ignore_ascii_case(name));
        same(accelerator) && same(engine)
    }

    /// A factor, 1 if it was not fitted.
    pub(crate) fn factor(&self, key: &'static str) -> f64 {
        self.row.stated(key).unwrap_or(1.0)
    }

    /// A time in seconds, if it was fitted.
    pub(crate) fn seconds(&self, key: &'static str) -> Option<f64> {
        self.row.stated(key).map(|us| us * 1e-6)
    }
}

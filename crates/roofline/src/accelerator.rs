//! Accelerators: memory, bandwidth, arithmetic, links, power.

use crate::sheet::{self, Kind, Missing, Row, SheetError};

const KIND: Kind = Kind {
    name: "accelerator",
    figures: &[
        "hbm_gib",
        "hbm_gb_s",
        "bf16_tflops",
        "fp8_tflops",
        "fp4_tflops",
        "link_gb_s",
        "tdp_watts",
        "all_in_watts",
    ],
    words: &["kernels"],
};

/// An accelerator's data sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerator {
    row: Row,
}

/// The type in which a matrix is multiplied, which sets the peak arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arithmetic {
    /// bfloat16 or float16.
    Bf16,
    /// 8-bit floats.
    Fp8,
    /// 4-bit floats.
    Fp4,
}

impl Accelerator {
    /// Reads a sheet of accelerators; `sheet` names it in errors.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Vec<Self>, SheetError> {
        let rows = sheet::rows(KIND, sheet, text)?;
        for row in &rows {
            for (key, value, _) in row.figures() {
                if value == 0.0 {
                    return Err(row.wrong(format!(
                        "`{key}` is 0, expected more; leave out what is not known"
                    )));
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

    /// The name of the accelerator whose kernel measurements serve this one, and whether that is itself.
    pub(crate) fn kernels(&self) -> (&str, bool) {
        self.row.word("kernels").map_or((self.row.name(), true), |name| (name, false))
    }

    /// Memory, in bytes.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn hbm_bytes(&self) -> Result<f64, Missing> {
        Ok(self.row.figure("hbm_gib")? * GIB)
    }

    /// Peak memory bandwidth, in bytes per second.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn hbm_bytes_per_s(&self) -> Result<f64, Missing> {
        Ok(self.row.figure("hbm_gb_s")? * 1e9)
    }

    /// Peak dense arithmetic, in floating point operations per second; a multiply-add is two.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it: then the accelerator may not have that type.
    pub fn flops(&self, arithmetic: Arithmetic) -> Result<f64, Missing> {
        let key = match arithmetic {
            Arithmetic::Bf16 => "bf16_tflops",
            Arithmetic::Fp8 => "fp8_tflops",
            Arithmetic::Fp4 => "fp4_tflops",
        };
        Ok(self.row.figure(key)? * 1e12)
    }

    /// What the link to its neighbours carries one way, in bytes per second.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn link_bytes_per_s(&self) -> Result<f64, Missing> {
        Ok(self.row.figure("link_gb_s")? * 1e9)
    }

    /// Thermal design power, in watts.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn tdp_watts(&self) -> Result<f64, Missing> {
        self.row.figure("tdp_watts")
    }

    /// Power with its share of server, network and cooling, in watts.
    ///
    /// # Errors
    /// [`Missing`] if the sheet does not state it.
    pub fn all_in_watts(&self) -> Result<f64, Missing> {
        self.row.figure("all_in_watts")
    }
}

/// Bytes of a GiB.
pub(crate) const GIB: f64 = 1_073_741_824.0;

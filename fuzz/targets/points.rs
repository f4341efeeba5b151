//! Measured points from any text: results of benchmarks, CSVs, loads and intervals, read or refused.
#![no_main]

use calibration::{Bands, Load, Sheet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = calibration::read("fuzz", text);
    if let Ok(sheet) = Sheet::read("fuzz", text) {
        assert!(sheet.points.is_sorted_by_key(|point| point.line));
    }
    let (load, notes) = text.split_once('\n').unwrap_or((text, ""));
    let _ = Load::read(load, notes);
    let _ = Bands::read("fuzz", text);
});

//! Setups that several tests ask about.

use roofline::{Formats, Layout, Routing, Setup, Sheets};

pub(crate) fn sheets() -> Sheets {
    Sheets::built_in().unwrap()
}

pub(crate) fn setup(model: &str, accelerator: &str, layout: Layout, formats: Formats) -> Setup {
    with_engine(model, accelerator, "vllm", layout, formats)
}

pub(crate) fn with_engine(
    model: &str,
    accelerator: &str,
    engine: &str,
    layout: Layout,
    formats: Formats,
) -> Setup {
    let sheets = sheets();
    Setup::new(
        sheets.model(model).unwrap(),
        sheets.accelerator(accelerator).unwrap(),
        sheets.engine(engine).unwrap(),
        &sheets.kernels,
        layout,
        formats,
        Routing::default(),
    )
    .unwrap()
}

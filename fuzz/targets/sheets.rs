//! Data sheets and `config.json`s from any text: read or refused, and what is read has a shape that can be counted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roofline::{Accelerator, Engine, Fit, Kernels, Model};

fuzz_target!(|text: &str| {
    let _ = Accelerator::read("fuzz", text);
    let _ = Engine::read("fuzz", text);
    let _ = Kernels::read("fuzz", text);
    let _ = Fit::read("fuzz", text);
    let mut models = Model::read("fuzz", text).unwrap_or_default();
    models.extend(Model::from_hugging_face("fuzz", text));
    for model in models {
        assert!(model.parameters() > 0 && model.active_parameters() > 0);
        let _ = model.kv_elements_per_token();
    }
});

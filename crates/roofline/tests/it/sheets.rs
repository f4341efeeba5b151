//! Sheets: what they say, what they refuse, and how they say so.

use proptest::prelude::*;
use roofline::{
    Accelerator, Arithmetic, Basis, Engine, Format, Formats, Kernel, Kernels, Layout, Model,
    Routing, Setup, Sheets,
};

use crate::setups::sheets;

#[test]
fn every_carried_figure_has_a_source() {
    let sheets = sheets();
    let rows = sheets.accelerators.iter().map(Accelerator::row);
    let rows = rows
        .chain(sheets.models.iter().map(Model::row))
        .chain(sheets.engines.iter().map(Engine::row));
    let mut figures = 0;
    for row in rows {
        for (key, _, source) in row.figures() {
            assert!(source.len() > 5, "{} {key}", row.name());
            figures += 1;
        }
    }
    assert!(figures > 400);
}

#[test]
fn a_figure_that_no_sheet_states_is_an_error_that_names_it() {
    let sheets = sheets();
    let a10g = sheets.accelerator("A10G").unwrap();
    assert_eq!(
        a10g.flops(Arithmetic::Bf16).unwrap_err().to_string(),
        "accelerators.txt: accelerator `a10g` does not state `bf16_tflops`"
    );
    let a100 = sheets.accelerator("A100 SXM").unwrap();
    assert!(a100.flops(Arithmetic::Fp8).is_err());
    assert!((a100.flops(Arithmetic::Bf16).unwrap() - 312e12).abs() < 1.0);
}

#[test]
fn a_name_that_no_sheet_has_is_answered_with_those_that_there_are() {
    let error = sheets().model("llama-9").unwrap_err().to_string();
    assert!(
        error.starts_with("unknown model `llama-9`, expected one of `llama-3.1-8b`, "),
        "{error}"
    );
}

#[test]
fn a_model_is_found_by_the_names_it_is_published_under() {
    let sheets = sheets();
    let names = [
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b"),
        ("Llama 3.1 70B", "llama-3.1-70b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3.1-8b"),
        ("Llama-2-70B-chat", "llama-2-70b"),
        ("Llama-3.1-405B-FP8", "llama-3.1-405b"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"),
        ("Mixtral 8x22B", "mixtral-8x22b"),
        ("mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
        ("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "llama-4-scout"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1"),
        ("zhipuai/GLM-5", "glm-5"),
    ];
    for (published, name) in names {
        assert_eq!(sheets.model(published).unwrap().row().name(), name, "{published}");
    }
    for unknown in ["Llama", "llama-3.1", "meta-llama/", "-fp8", "Qwen/Qwen3.5-397B-A17B"] {
        assert!(sheets.model(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn damaged_sheets_are_refused_with_the_line() {
    let cases = [
        ("gpu x\n", "line 1: expected `accelerator NAME`, found `gpu`"),
        ("accelerator\n", "line 1: expected a name after `accelerator`"),
        ("  hbm_gib 80\n", "line 1: `hbm_gib` stands before the first `accelerator NAME`"),
        (
            "accelerator x\n  source s\n  hbm 80\n",
            "line 3: unknown `hbm`, expected one of `source`, `hbm_gib`, ",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib many\n",
            "line 3: `hbm_gib`: expected a number, found `many`",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib -1\n",
            "line 3: `hbm_gib`: expected a number, found `-1`",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib inf\n",
            "line 3: `hbm_gib`: expected a number, found `inf`",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib NaN\n",
            "line 3: `hbm_gib`: expected a number, found `NaN`",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib 0\n",
            "line 1: accelerator `x`: `hbm_gib` is 0, expected more",
        ),
        (
            "accelerator x\n  source s\n  hbm_gib 1\n  hbm_gib 1\n",
            "line 4: `hbm_gib` is stated twice",
        ),
        (
            "accelerator x\n  hbm_gib 1\n",
            "line 2: `hbm_gib` has no source: expected a line `source ...`",
        ),
        ("accelerator x\n\naccelerator y = X\n", "line 3: `X` is a name of line 1 too"),
    ];
    for (text, expected) in cases {
        let error = Accelerator::read("mine", text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("mine, {expected}")), "{text:?}: {error}");
    }
}

#[test]
fn shapes_that_do_not_fit_together_are_refused() {
    let model = |change: &str| {
        let (key, _) = change.trim().split_once(' ').unwrap();
        let base = "layers 2\nhidden 64\nvocab 100\nheads 4\nkv_heads 2\nhead_dim 16\nffn 256\n";
        let kept: String = base
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} ")))
            .map(|line| format!("  {line}\n"))
            .collect();
        let change = change.replace(';', "\n ");
        let text = format!("model x\n  source s\n{kept}  {change}\n");
        Model::read("mine", &text).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(model("max_context 9"), Ok(()));
    let cases = [
        ("layers 0", "`layers`: expected a whole number from 1 to 1,000,000,000, found 0"),
        ("layers 2.5", "`layers`: expected a whole number"),
        ("kv_heads 3", "`kv_heads`: expected a divisor of 4 heads, found 3"),
        ("kv_lora 8", "`kv_heads` beside `kv_lora`"),
        ("window_layers 1", "`window_layers` without `window`"),
        ("window 8", "`window_layers` is not stated"),
        ("experts 8", "`experts` without `moe_layers`"),
        (
            "moe_layers 3;experts 4;active_experts 1;moe_ffn 9",
            "`moe_layers`: expected at most 2 layers, found 3",
        ),
        (
            "moe_layers 1;experts 4;active_experts 5;moe_ffn 9",
            "`active_experts`: expected at most 4 experts, found 5",
        ),
    ];
    for (change, expected) in cases {
        let error = model(change).unwrap_err();
        assert!(error.contains(&format!("model `x`: {expected}")), "{change}: {error}");
    }
}

#[test]
fn a_shape_beyond_all_models_is_refused() {
    let figures =
        "layers 1\nhidden 1000000000\nvocab 1000000000\nheads 1\nkv_heads 1\nhead_dim 1\nffn 1\n";
    let figures: String = figures.lines().map(|line| format!("  {line}\n")).collect();
    let error = Model::read("mine", &format!("model x\n  source s\n{figures}")).unwrap_err();
    assert!(
        error.to_string().starts_with("mine, line 1: model `x`: the shape has 20000000"),
        "{error}"
    );
}

#[test]
fn an_own_sheet_wins_over_the_carried_ones() {
    let mut sheets = sheets();
    let own = "# measured here\naccelerator h100-sxm\n  source nvidia-smi\n  hbm_gib 79\n";
    sheets.add("mine", own).unwrap();
    assert_eq!(sheets.accelerator("H100-SXM").unwrap().row().stated("hbm_gib"), Some(79.0));
    assert_eq!(sheets.accelerator("H100").unwrap().row().stated("hbm_gib"), Some(80.0));
    let error = sheets.add("mine", "\ngpu x\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "mine, line 2: expected `accelerator`, `model`, `engine` or `fit` with a name, found `gpu`"
    );
}

#[test]
fn a_damaged_line_of_kernels_is_refused() {
    let good = "h100-sxm vllm 1 gemm bf16 - 9 3.7 0.8 0.9 5 13";
    assert!(Kernels::read("mine", good).is_ok());
    for (from, to) in [("gemm", "gem"), ("bf16", "bf17"), ("0.8", "0"), ("0.9", "NaN"), (" 13", "")]
    {
        let error = Kernels::read("mine", &format!("\n{}", good.replace(from, to))).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(accelerator|model|engine|#|  source|  hbm_gib|  layers|[ -~]{0,9}| |=|;|\n|[0-9]){0,40}") {
        let mut sheets = Sheets::built_in().unwrap();
        if let Err(error) = sheets.add("any", &text) {
            prop_assert!(error.line >= 1 && error.line <= text.lines().count().max(1));
        }
    }

    #[test]
    fn figures_are_read_as_they_were_written(gib in 1_u32..10_000, gb_s in 1_u32..100_000) {
        let text = format!("accelerator x = y\n  source s\n  hbm_gib {gib} ; t\n  hbm_gb_s {gb_s}\n");
        let read = Accelerator::read("mine", &text).unwrap();
        let figures: Vec<_> = read[0].row().figures().collect();
        prop_assert_eq!(
            figures,
            vec![("hbm_gib", f64::from(gib), "t"), ("hbm_gb_s", f64::from(gb_s), "s")]
        );
    }
}

/// What stands in for a kernel that was not measured says so, and is less certain.
#[test]
fn the_nearest_measured_kernel_stands_in() {
    let sheets = sheets();
    let of = |accelerator: &str, engine: &str, format: Format| {
        let accelerator = sheets.accelerator(accelerator).unwrap();
        sheets.kernels.fractions(accelerator, engine, Kernel::Gemm(format)).unwrap()
    };
    let cases = [
        ("h100-sxm", "vllm", Format::Bf16, Basis::Measured, 0.805, 0.054),
        ("h100-pcie", "vllm", Format::Bf16, Basis::SameChip, 0.805, 0.104),
        ("h100-sxm", "vllm", Format::Fp8Block, Basis::OtherEngine, 0.742, 0.182),
    ];
    for (accelerator, engine, format, basis, compute, error) in cases {
        let found = of(accelerator, engine, format);
        assert_eq!(
            (found.basis, found.compute),
            (basis, compute),
            "{accelerator} {engine} {format}"
        );
        assert!((found.error - error).abs() < 1e-9, "{accelerator} {engine} {format}: {found:?}");
    }
    let middle = of("tpu-v5e", "vllm", Format::Bf16);
    assert_eq!(middle.basis, Basis::Generic);
    assert!(middle.compute > 0.6 && middle.compute < 0.8 && middle.error > 0.08, "{middle:?}");
}

#[test]
fn a_fit_of_served_requests_scales_what_kernels_achieve() {
    let with = |text: &str| {
        let mut sheets = sheets();
        sheets.add("mine", text).unwrap();
        sheets
    };
    let setup = |sheets: &Sheets| {
        let model = sheets.model("llama-3.1-8b").unwrap();
        let (gpu, engine) = (sheets.accelerator("h100").unwrap(), sheets.engine("vllm").unwrap());
        let (layout, formats) = (Layout::tensor(2), Formats::default());
        let routing = Routing::default();
        Setup::new(model, gpu, engine, &sheets.kernels, layout, formats, routing).unwrap()
    };
    let own = setup(&sheets());
    assert!(own.fit.is_none());
    // Attention to a long context reads memory alone.
    let cost = |setup: &Setup| setup.step(setup.decodes(1, 100_000));
    let half = setup(&with("fit h100-sxm vllm\n  source made up\n  memory 0.5\n  step_us 9000\n"));
    let read = |setup: &Setup| {
        let short = setup.step(setup.decodes(1, 1)).decode_attention_s;
        cost(setup).decode_attention_s - short
    };
    assert!((read(&half) / read(&own) - 2.0).abs() < 0.05, "{}", read(&half) / read(&own));
    assert!((cost(&half).host_s - cost(&own).host_s - 0.009 + 0.0007).abs() < 1e-9);
    let slow = setup(&with("fit h100-sxm vllm\n  source made up\n  communication 3\n"));
    assert!((cost(&slow).communication_s / cost(&own).communication_s - 3.0).abs() < 1e-9);
    assert_eq!(cost(&slow).weights_s, cost(&own).weights_s);
    let other = setup(&with("fit h100-sxm sglang\n  source made up\n  memory 0.5\n"));
    assert_eq!(cost(&other), cost(&own));
}

#[test]
fn a_fit_that_is_wrong_names_line_and_figure() {
    let error = |text: &str| sheets().add("mine", text).unwrap_err().to_string();
    assert_eq!(
        error("fit h100-sxm\n  source x\n  memory 1\n"),
        "mine, line 1: fit `h100-sxm`: expected `fit ACCELERATOR ENGINE`"
    );
    assert_eq!(
        error("fit a b\n  source x\n  memory 0\n"),
        "mine, line 1: fit `a b`: `memory`: expected a factor from 0.001 to 1000, found 0"
    );
    assert!(error("fit a b\n  source x\n  speed 1\n").contains("unknown `speed`"));
}

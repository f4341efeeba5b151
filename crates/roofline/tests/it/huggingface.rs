//! Shapes from a `config.json`.

use proptest::prelude::*;
use roofline::{Attention, Format, Model};

use crate::setups::sheets;

const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": false, "vocab_size": 128256}"#;

fn same_shape(json: &str, name: &str) {
    let read = Model::from_hugging_face(name, json).unwrap();
    let carried = sheets().model(name).unwrap().clone();
    assert_eq!(read.parameters(), carried.parameters(), "{name}");
    assert_eq!(read.active_parameters(), carried.active_parameters(), "{name}");
    assert_eq!(
        (read.attention, read.window, read.experts),
        (carried.attention, carried.window, carried.experts)
    );
}

#[test]
fn a_config_gives_the_shape_that_the_sheet_has() {
    same_shape(LLAMA, "llama-3.1-8b");
    let mixtral = r#"{"model_type": "mixtral", "hidden_size": 6144, "intermediate_size": 16384, "num_attention_heads": 48,
        "num_hidden_layers": 56, "num_key_value_heads": 8, "num_experts_per_tok": 2, "num_local_experts": 8,
        "sliding_window": null, "tie_word_embeddings": false, "vocab_size": 32000}"#;
    same_shape(mixtral, "mixtral-8x22b");
    let deepseek = r#"{"model_type": "deepseek_v3", "first_k_dense_replace": 3, "hidden_size": 7168,
        "intermediate_size": 18432, "kv_lora_rank": 512, "moe_intermediate_size": 2048, "moe_layer_freq": 1,
        "n_routed_experts": 256, "n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280}"#;
    same_shape(deepseek, "deepseek-v3");
    let oss = r#"{"model_type": "gpt_oss", "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention",
        "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
        "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
        "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
        "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
        "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201088}"#;
    same_shape(oss, "gpt-oss-20b");
    let qwen = r#"{"model_type": "qwen3_moe", "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 4096,
        "intermediate_size": 12288, "mlp_only_layers": [], "moe_intermediate_size": 1536, "num_attention_heads": 64,
        "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 94, "num_key_value_heads": 4,
        "sliding_window": null, "use_sliding_window": false, "max_window_layers": 94, "vocab_size": 151936}"#;
    same_shape(qwen, "qwen3-235b-a22b");
    let maverick = r#"{"model_type": "llama4", "text_config": {"model_type": "llama4_text", "head_dim": 128,
        "hidden_size": 5120, "interleave_moe_layer_step": 2, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
        "num_local_experts": 128, "vocab_size": 202048}, "vision_config": {"hidden_size": 1408}}"#;
    same_shape(maverick, "llama-4-maverick");
}

#[test]
fn the_formats_that_a_config_tells_are_those_of_the_model() {
    let of = |quantization: &str| {
        let json = LLAMA.replace("{", &format!("{{\"quantization_config\": {quantization}, "));
        Model::from_hugging_face("x", &json).map(|model| (model.published, model.published_experts))
    };
    let both = |format| (format, format);
    assert_eq!(of("null").unwrap(), both(Format::Bf16));
    assert_eq!(of(r#"{"quant_method": "fp8"}"#).unwrap(), both(Format::Fp8));
    let blocks = r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#;
    assert_eq!(of(blocks).unwrap(), both(Format::Fp8Block));
    assert_eq!(of(r#"{"quant_method": "awq", "bits": 4}"#).unwrap(), both(Format::Int4));
    assert_eq!(of(r#"{"quant_method": "gptq", "bits": 8}"#).unwrap(), both(Format::Int8));
    let oss = of(r#"{"quant_method": "mxfp4"}"#).unwrap();
    assert_eq!(oss, (Format::Bf16, Format::Mxfp4));
    let nvidia = r#"{"quant_method": "modelopt", "quant_algo": "NVFP4"}"#;
    assert_eq!(of(nvidia).unwrap(), both(Format::Nvfp4));
    let tensors = |weights: &str| {
        of(&format!(
            r#"{{"quant_method": "compressed-tensors", "config_groups": {{"group_0": {{"weights": {weights}}}}}}}"#
        ))
    };
    let float = tensors(r#"{"num_bits": 8, "type": "float", "strategy": "channel"}"#);
    assert_eq!(float.unwrap(), both(Format::Fp8));
    assert_eq!(tensors(r#"{"num_bits": 4, "type": "int"}"#).unwrap(), both(Format::Int4));
    // What is not known is not taken for bfloat16.
    for odd in [r#"{"quant_method": "gptq", "bits": 3}"#, r#"{"quant_method": "exl2"}"#, "7"] {
        let error = of(odd).unwrap_err().to_string();
        assert!(
            error.starts_with("`x`: `quantization_config`: expected a `quant_method`"),
            "{error}"
        );
    }
    assert_eq!(sheets().model("gpt-oss-120b").unwrap().published_experts, Format::Mxfp4);
    assert_eq!(Format::told_by("Qwen/Qwen3-14B-AWQ"), Some(Format::Int4));
    assert_eq!(Format::told_by("Qwen/Qwen3-32B-FP8"), Some(Format::Fp8));
    assert_eq!(Format::told_by("fp8ish-model"), None);
}

#[test]
fn windows_and_tied_embeddings_are_read() {
    let gemma = r#"{"model_type": "gemma3_text", "head_dim": 256, "hidden_size": 640, "intermediate_size": 2048,
        "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1, "sliding_window": 512,
        "sliding_window_pattern": 6, "vocab_size": 262144}"#;
    let model = Model::from_hugging_face("gemma-3-270m", gemma).unwrap();
    assert_eq!(model.window.map(|window| (window.layers, window.tokens)), Some((15, 512)));
    assert!(model.tied);
    // 268 M as published: 170 M of embeddings and 100 M of layers.
    assert!((model.parameters() as f64 / 268.1e6 - 1.0).abs() < 2e-3, "{}", model.parameters());
    let qwen = r#"{"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "max_window_layers": 28,
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "sliding_window": 131072,
        "use_sliding_window": false, "vocab_size": 152064}"#;
    assert_eq!(Model::from_hugging_face("qwen2.5-7b", qwen).unwrap().window, None);
}

#[test]
fn a_head_is_as_wide_as_its_share_unless_the_config_says_otherwise() {
    let Attention::Grouped { head_dim, .. } =
        Model::from_hugging_face("x", LLAMA).unwrap().attention
    else {
        panic!("grouped attention");
    };
    assert_eq!(head_dim, 128);
    let odd = LLAMA.replace("4096", "4097");
    let error = Model::from_hugging_face("x", &odd).unwrap_err().to_string();
    assert_eq!(error, "`x`: `head_dim`: expected a whole number, found nothing");
}

#[test]
fn what_is_missing_or_unknown_is_said() {
    let cases = [
        ("{", "`x`: expected a JSON object: EOF"),
        ("[]", "`x`: expected a JSON object: found another value"),
        ("{}", "`x`: unknown `model_type` ``, expected one of `llama`, "),
        (
            r#"{"model_type": "mamba2"}"#,
            "`x`: unknown `model_type` `mamba2`, expected one of `llama`, ",
        ),
        (
            r#"{"model_type": "llama"}"#,
            "`x`: `num_hidden_layers`: expected a whole number, found nothing",
        ),
        (
            r#"{"model_type": "llama", "num_hidden_layers": "many"}"#,
            "`x`: `num_hidden_layers`: expected a whole number, found `\"many\"`",
        ),
    ];
    for (json, expected) in cases {
        let error = Model::from_hugging_face("x", json).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{json}: {error}");
    }
    let zero = LLAMA.replace(r#""num_hidden_layers": 32"#, r#""num_hidden_layers": 0"#);
    let error = Model::from_hugging_face("x", &zero).unwrap_err().to_string();
    assert!(error.contains("model `x`: `layers`: expected a whole number from 1"), "{error}");
}

proptest! {
    #[test]
    fn any_numbers_are_read_or_refused(
        numbers in prop::collection::vec(prop_oneof![0_u64..64, any::<u64>()], 18),
        kind in 0_usize..8,
    ) {
        let kinds = ["llama", "gemma3", "qwen3_moe", "deepseek_v3", "llama4_text", "gpt_oss", "mixtral", "gemma2"];
        let keys = ["num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "num_key_value_heads",
            "intermediate_size", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "sliding_window",
            "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
            "first_k_dense_replace", "moe_layer_freq", "sliding_window_pattern"];
        let figures: Vec<String> =
            keys.iter().zip(&numbers).map(|(key, number)| format!("\"{key}\": {number}")).collect();
        let json = format!("{{\"model_type\": \"{}\", {}}}", kinds[kind], figures.join(", "));
        if let Ok(model) = Model::from_hugging_face("any", &json) {
            prop_assert!(model.parameters() > 0);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in r#"[{}\[\]":,a-z_0-9 ]{0,80}"#) {
        let _ = Model::from_hugging_face("any", &text);
    }
}

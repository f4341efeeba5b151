//! What follows from a model's shape is what was published of it.

use proptest::prelude::*;
use roofline::{Experts, Model};

use crate::setups::sheets;

/// Billions of parameters: all, and active in a token, as the makers and others publish them.
#[test]
fn parameters_computed_from_shapes_are_the_published_ones() {
    let published = [
        ("llama-3.1-8b", 8.03, 7.50),
        ("llama-3.1-70b", 70.55, 69.50),
        ("llama-3.1-405b", 405.9, 403.75),
        ("mixtral-8x7b", 46.7, 12.75),
        ("mixtral-8x22b", 140.6, 38.95),
        ("llama-4-scout", 107.77, 16.14),
        ("llama-4-maverick", 400.71, 16.15),
        ("qwen3-8b", 8.19, 7.57),
        ("qwen3-32b", 32.76, 31.98),
        ("qwen3-30b-a3b", 30.53, 3.04),
        ("qwen3-235b-a22b", 235.09, 21.57),
        ("qwen3-coder-480b-a35b", 480.15, 34.54),
        ("deepseek-v3", 671.0, 36.6),
        ("deepseek-r1", 671.0, 36.6),
        ("deepseek-v2-lite", 15.71, 2.45),
        ("gpt-oss-20b", 20.9, 3.61),
        ("gpt-oss-120b", 116.8, 5.13),
        ("kimi-k2", 1_026.4, 31.69),
        ("minimax-m2.5", 228.7, 10.42),
        ("codellama-34b", 33.74, 33.48),
        ("llama-2-7b", 6.74, 6.61),
        ("qwen2.5-7b", 7.62, 7.07),
    ];
    // Of these the makers publish the sum alone, most of it on the model's page.
    let sums = [
        ("llama-2-13b", 13.02),
        ("llama-2-70b", 68.98),
        ("llama-3.2-1b", 1.236),
        ("llama-3.2-3b", 3.213),
        ("mistral-7b", 7.248),
        ("mistral-7b-v0.1", 7.242),
        ("mistral-small-24b", 23.57),
        ("qwen2-72b", 72.71),
        ("qwen2.5-0.5b", 0.494),
        ("qwen2.5-1.5b", 1.544),
        ("qwen2.5-3b", 3.086),
        ("qwen2.5-14b", 14.77),
        ("qwen2.5-32b", 32.76),
        ("qwen3-0.6b", 0.596),
        ("qwen3-1.7b", 1.721),
        ("qwen3-4b", 4.022),
        ("qwen3-14b", 14.77),
        ("gemma-3-270m", 0.268),
        ("gemma-3-1b", 1.000),
        ("gemma-3-27b", 27.01),
    ];
    let sheets = sheets();
    for (name, total, active) in published {
        let model = sheets.model(name).unwrap();
        let billions = |count: u64| count as f64 / 1e9;
        let (found, used) = (billions(model.parameters()), billions(model.active_parameters()));
        assert!((found / total - 1.0).abs() < 2e-3, "{name}: {found} B of {total} B");
        assert!((used / active - 1.0).abs() < 2e-3, "{name}: {used} B of {active} B active");
    }
    for (name, total) in sums {
        let found = sheets.model(name).unwrap().parameters() as f64 / 1e9;
        assert!((found / total - 1.0).abs() < 2e-3, "{name}: {found} B of {total} B");
    }
}

/// Bytes per token in bfloat16, as the engines print them or the papers state them.
#[test]
fn the_cache_takes_what_was_published_of_it() {
    let published = [
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("llama-3.1-405b", 516_096),
        ("qwen3-32b", 262_144),
        ("deepseek-v3", 70_272),
        ("gpt-oss-120b", 36_864),
    ];
    let sheets = sheets();
    for (name, bytes) in published {
        assert_eq!(2 * sheets.model(name).unwrap().kv_elements_per_token(), bytes, "{name}");
    }
}

#[test]
fn one_token_touches_its_experts_and_many_touch_all() {
    let experts = Experts { layers: 1, routed: 256, active: 8, ffn: 2_048, shared_ffn: 0 };
    assert!((experts.touched(1.0) - 8.0).abs() < 1e-9);
    assert!((experts.touched(1e6) - 256.0).abs() < 1e-9);
    // 256 (1 - (1 - 8/256)^32), worked out by hand.
    assert!((experts.touched(32.0) - 163.31).abs() < 0.01);
    let dense = Experts { active: 256, ..experts };
    assert!((dense.touched(1.0) - 256.0).abs() < 1e-9);
}

proptest! {
    #[test]
    fn shapes_are_read_or_refused_and_never_overflow(
        numbers in prop::collection::vec(prop_oneof![1_u64..64, 1_u64..2_000_000_000], 12),
        tied in 0_u8..2,
    ) {
        let keys = ["layers", "hidden", "vocab", "heads", "kv_heads", "head_dim", "ffn", "moe_layers",
            "experts", "active_experts", "moe_ffn", "shared_ffn"];
        let figures: String =
            keys.iter().zip(&numbers).map(|(key, number)| format!("  {key} {number}\n")).collect();
        let text = format!("model x\n  source a test\n  tied {tied}\n{figures}");
        if let Ok(models) = Model::read("a test", &text) {
            let model = &models[0];
            prop_assert!(model.active_parameters() <= model.parameters() + model.vocab * model.hidden);
            prop_assert!(model.kv_elements_per_token() > 0);
        }
    }
}

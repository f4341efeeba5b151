//! Step times: their limits in closed form, and what can never happen.

use std::num::NonZeroU32;

use proptest::prelude::*;
use roofline::{
    Batch, ClosedLoop, Format, Formats, KvFormat, Layout, MemoryError, Setup, SetupError,
    graph_size, pairs, smooth_roofline, windowed_pairs,
};

use crate::setups::{setup, sheets, with_engine};

fn llama_8b() -> Setup {
    setup("llama-3.1-8b", "h100-sxm", Layout::default(), Formats::default())
}

#[test]
fn the_roofline_is_the_longer_of_the_two_far_from_the_ridge() {
    assert!((smooth_roofline(1.0, 1e-3) - 1.0).abs() < 1e-9);
    assert!((smooth_roofline(1e-3, 1.0) - 1.0).abs() < 1e-9);
    assert!((smooth_roofline(1.0, 1.0) - 2.0_f64.powf(0.25)).abs() < 1e-12);
    assert!(smooth_roofline(0.0, 0.0) == 0.0);
    assert!(smooth_roofline(1e-200, 1e-201) > 0.9e-200);
}

/// One sequence decodes as fast as the weights can be read: 15 GB at 3.35 TB/s are 4.5 ms, of which kernels achieve 0.88;
/// starting them takes some 0.7 ms more.
#[test]
fn a_lone_decode_takes_the_time_to_read_the_weights() {
    let setup = llama_8b();
    let cost = setup.step(setup.decodes(1, 1));
    let read = 2.0 * setup.model.active_parameters() as f64 / 3.35e12;
    assert!(cost.weights_s > read / 0.88 && cost.weights_s < read / 0.88 + 0.8e-3, "{cost:?}");
    let (mfu, mbu) = setup.utilisation(cost).unwrap();
    assert!(mfu < 0.01 && mbu > 0.6 && mbu < 0.9, "{mfu} {mbu}");
}

/// A long prompt computes at the fraction of the peak that large kernels achieve.
#[test]
fn a_long_prefill_takes_the_time_of_its_arithmetic() {
    let setup = llama_8b();
    let cost = setup.step(setup.prefill(8_192, 0));
    let body = (setup.model.active_parameters() - 128_256 * 4_096) as f64;
    let compute = 2.0 * body * 8_192.0 / (0.805 * 989e12);
    assert!((cost.weights_s / compute - 1.0).abs() < 0.06, "{cost:?}, {compute}");
    let (mfu, _) = setup.utilisation(cost).unwrap();
    assert!(mfu > 0.6 && mfu < 0.81, "{mfu}");
}

/// Fifty sequences share one reading of the weights: fifty tokens in less than twice the time of one, most of what is more
/// being the host's.
#[test]
fn a_batch_of_fifty_costs_little_more_than_one() {
    let setup = llama_8b();
    let one = setup.step(setup.decodes(1, 500)).seconds();
    let fifty = setup.step(setup.decodes(50, 500)).seconds();
    assert!(fifty < 2.0 * one, "{one} {fifty}");
}

/// Decoding costs far more of a step than prefilling does: 512 tokens one by one, or at once.
#[test]
fn output_costs_more_than_input() {
    let setup = llama_8b();
    let input = setup.step(setup.prefill(512, 0)).seconds();
    let output = 512.0 * setup.step(setup.decodes(1, 256)).seconds();
    assert!(output > 50.0 * input, "{input} {output}");
}

#[test]
fn the_cache_of_each_sequence_is_read_for_itself() {
    let setup = llama_8b();
    let at = |context| setup.step(setup.decodes(8, context)).decode_attention_s;
    let per_token = (at(20_000) - at(10_000)) / 80_000.0;
    // 131,072 bytes at 0.824 of 3.35 TB/s; arithmetic is near the ridge for FA3's 0.249, so a little more.
    let bytes = 131_072.0 / (0.824 * 3.35e12);
    assert!(per_token > bytes && per_token < 1.2 * bytes, "{per_token} {bytes}");
    let fp8 = Formats { kv: KvFormat::Fp8, ..Formats::default() };
    let half = setup_fp8_cache(fp8);
    assert!(half.step(half.decodes(8, 20_000)).decode_attention_s < at(20_000));
}

fn setup_fp8_cache(formats: Formats) -> Setup {
    setup("llama-3.1-8b", "h100-sxm", Layout::default(), formats)
}

#[test]
fn a_window_bounds_what_a_decode_reads() {
    let formats = Formats { experts: Format::Mxfp4, ..Formats::default() };
    let setup = setup("gpt-oss-120b", "h100-sxm", Layout::tensor(2), formats);
    let steps = setup.compile();
    assert_eq!(steps.window().map(|window| window.get()), Some(128));
    let time = |context| setup.step(setup.decodes(4, context)).decode_attention_s;
    // Half of the layers stop at the window, so the slope halves.
    let (below, beyond) = (time(100) - time(50), time(1_100) - time(1_050));
    assert!((below / beyond - 2.0).abs() < 1e-9, "{below} {beyond}");
    let linear = steps.time(&setup.decodes(4, 1_000));
    assert_eq!(linear.per_context, linear.per_windowed);
    assert!((linear.per_context as f64 * 200.0 / 1e12 / beyond - 1.0).abs() < 1e-3);
}

/// Compressed keys and values are on every tensor rank: more ranks do not read them faster.
#[test]
fn latent_caches_are_not_shared_by_tensor_ranks() {
    let at = |ranks| {
        let formats =
            Formats { weights: Format::Fp8Block, experts: Format::Fp8Block, kv: KvFormat::Bf16 };
        let setup = setup("deepseek-v3", "h200-sxm", Layout::tensor(ranks), formats);
        setup.memory().map(|memory| memory.kv_bytes_per_token)
    };
    assert!(matches!(at(1), Err(MemoryError::DoesNotFit { .. })));
    assert_eq!(at(8).unwrap(), 70_272.0);
    assert_eq!(at(16).unwrap(), 70_272.0);
}

#[test]
fn heads_are_copied_when_there_are_fewer_than_ranks() {
    let at = |ranks| {
        setup("qwen3-235b-a22b", "h200-sxm", Layout::tensor(ranks), Formats::all(Format::Fp8))
    };
    let bytes = |ranks| at(ranks).memory().unwrap().kv_bytes_per_token;
    assert_eq!(bytes(4), 192_512.0 / 4.0);
    assert_eq!(bytes(8), 192_512.0 / 4.0);
}

/// vLLM reports 80 GB H100s with Llama 3.1 8B in bfloat16 to have some 420 to 440 thousand tokens.
#[test]
fn the_cache_fills_what_the_weights_leave() {
    let memory = llama_8b().memory().unwrap();
    let expected = (0.9 * 80.0 - 5.5 - 0.15) * 1_073_741_824.0 - memory.weight_bytes;
    assert!((memory.kv_bytes - expected).abs() < 1.0);
    assert_eq!(memory.kv_tokens, memory.kv_blocks * 16);
    assert!((memory.kv_tokens as f64 - expected / 131_072.0).abs() < 16.0);
    let parameters = llama_8b().model.parameters() as f64;
    assert!((memory.weight_bytes / (2.0 * parameters) - 1.0).abs() < 1e-4);
    assert!(memory.kv_tokens > 400_000 && memory.kv_tokens < 450_000, "{}", memory.kv_tokens);
}

#[test]
fn what_does_not_fit_is_said_with_the_figures() {
    let setup = setup("llama-3.1-70b", "h100-sxm", Layout::default(), Formats::default());
    assert_eq!(
        setup.memory().unwrap_err().to_string(),
        "`llama-3.1-70b` does not fit: weights 131.4 GiB and 5.7 GiB besides on each accelerator, which leaves no block of \
         the KV cache in the usable 72.0 of 80.0 GiB of `h100-sxm`"
    );
}

#[test]
fn layouts_that_a_model_cannot_have_are_refused() {
    let sheets = sheets();
    let try_layout = |model: &str, layout| {
        Setup::new(
            sheets.model(model).unwrap(),
            sheets.accelerator("h100-sxm").unwrap(),
            sheets.engine("vllm").unwrap(),
            &sheets.kernels,
            layout,
            Formats::default(),
            roofline::Routing::default(),
        )
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    let layout = |tensor, pipeline, data, expert| Layout { tensor, pipeline, data, expert };
    let cases = [
        ("llama-3.1-8b", layout(3, 1, 1, 1), "`tensor`: expected a divisor of 32 heads, found 3"),
        ("llama-3.1-8b", layout(0, 1, 1, 1), "`tensor`: expected 1 to 1024, found 0"),
        ("llama-3.1-8b", layout(1, 33, 1, 1), "`pipeline`: expected at most 32 layers, found 33"),
        (
            "llama-3.1-8b",
            layout(2, 1, 1, 2),
            "`expert`: expected 1, as the model has no experts, found 2",
        ),
        (
            "mixtral-8x7b",
            layout(16, 1, 1, 16),
            "`expert`: expected a divisor of 8 experts, found 16",
        ),
        (
            "mixtral-8x7b",
            layout(2, 1, 1, 4),
            "`expert`: expected a divisor of tensor x data = 2, found 4",
        ),
    ];
    for (model, layout, expected) in cases {
        assert_eq!(try_layout(model, layout), Err(format!("invalid layout: {expected}")));
    }
    assert_eq!(try_layout("mixtral-8x7b", layout(4, 2, 2, 8)), Ok(()));
}

#[test]
fn an_accelerator_without_the_arithmetic_is_refused() {
    let sheets = sheets();
    let error = Setup::new(
        sheets.model("llama-3.1-8b").unwrap(),
        sheets.accelerator("a100-sxm").unwrap(),
        sheets.engine("vllm").unwrap(),
        &sheets.kernels,
        Layout::default(),
        Formats::all(Format::Fp8),
        roofline::Routing::default(),
    )
    .unwrap_err();
    assert!(matches!(error, SetupError::Missing(_)), "{error}");
}

#[test]
fn an_accelerator_that_nobody_measured_gets_the_middle_and_a_wider_error() {
    let measured = llama_8b();
    let unknown = setup("llama-3.1-8b", "mi300x", Layout::default(), Formats::default());
    let ((basis, error), (generic, wider)) = (measured.certainty(), unknown.certainty());
    assert_eq!((basis, generic), (roofline::Basis::Measured, roofline::Basis::Generic));
    assert!(wider > error, "{wider} {error}");
}

#[test]
fn steps_are_padded_to_captured_graphs() {
    let sizes = [
        (0.5, 1.0),
        (1.0, 1.0),
        (3.0, 4.0),
        (5.0, 8.0),
        (9.0, 16.0),
        (256.0, 256.0),
        (257.0, 272.0),
    ];
    for (tokens, size) in sizes {
        assert_eq!(graph_size(tokens, 512.0), size);
    }
    assert_eq!(graph_size(513.0, 512.0), 513.0);
    assert_eq!(graph_size(129.0, 130.0), 130.0);
}

/// Two stages that work on half the batch each: less than twice as fast, for each still reads its weights for each half.
#[test]
fn stages_give_room_rather_than_speed() {
    let one = setup("llama-3.1-70b", "h200-sxm", Layout::tensor(2), Formats::default());
    let two = setup(
        "llama-3.1-70b",
        "h200-sxm",
        Layout { tensor: 2, pipeline: 2, ..Layout::default() },
        Formats::default(),
    );
    let batch = one.decodes(64, 1_000);
    let (plain, staged) = (one.step(batch).seconds(), two.step(batch).seconds());
    assert!(staged > 0.8 * plain && staged < 1.1 * plain, "{plain} {staged}");
    assert!(two.memory().unwrap().kv_tokens > 2 * one.memory().unwrap().kv_tokens);
}

#[test]
fn energy_is_power_times_time() {
    let setup = setup("llama-3.1-70b", "h100-sxm", Layout::tensor(4), Formats::default());
    assert!((setup.energy_joules(0.5).unwrap() - 4.0 * 700.0 * 0.5).abs() < 1e-9);
}

/// Little's law: what runs at once is the rate times the time of a reply.
#[test]
fn a_closed_loop_keeps_littles_law() {
    for engine in ["vllm", "sglang", "trtllm"] {
        let setup =
            with_engine("llama-3.1-8b", "h100-sxm", engine, Layout::default(), Formats::default());
        for concurrency in [1, 8, 64, 256] {
            let load = ClosedLoop { isl: 1_000, osl: 500, concurrency };
            let steady = setup.steady(load).unwrap();
            let reply_s = steady.ttft_s + 499.0 * steady.tpot_s;
            let replies_per_s = steady.output_tokens_per_s / 500.0;
            assert!((replies_per_s * reply_s - f64::from(steady.running)).abs() < 1e-6);
            assert!(steady.tpot_s >= setup.step(setup.decodes(steady.running, 1_250)).seconds());
        }
    }
}

#[test]
fn a_closed_loop_runs_no_more_than_fits() {
    let setup = llama_8b();
    let steady = setup.steady(ClosedLoop { isl: 30_000, osl: 2_000, concurrency: 500 }).unwrap();
    let tokens = setup.memory().unwrap().kv_tokens;
    assert_eq!(u64::from(steady.running), tokens / 31_000);
}

fn any_setup() -> impl Strategy<Value = Setup> {
    let setups = [
        ("llama-3.1-8b", "h100-sxm", Layout::default(), Formats::default()),
        ("llama-3.1-70b", "h100-sxm", Layout::tensor(8), Formats::all(Format::Fp8)),
        (
            "qwen3-235b-a22b",
            "h200-sxm",
            Layout { expert: 8, ..Layout::tensor(8) },
            Formats::all(Format::Fp8),
        ),
        (
            "gpt-oss-120b",
            "h100-sxm",
            Layout::tensor(2),
            Formats { experts: Format::Mxfp4, ..Formats::default() },
        ),
        (
            "deepseek-v3",
            "h200-sxm",
            Layout { data: 8, expert: 8, ..Layout::default() },
            Formats::all(Format::Fp8Block),
        ),
        ("qwen3-32b", "mi300x", Layout::default(), Formats::default()),
    ];
    let setups: Vec<Setup> = setups
        .into_iter()
        .map(|(model, accelerator, layout, formats)| setup(model, accelerator, layout, formats))
        .collect();
    prop::sample::select(setups)
}

/// What a batch is made of: sequences with their contexts, and one chunk of a prompt.
#[derive(Debug, Clone, Copy)]
struct Mix {
    decodes: u32,
    each: u32,
    new: u32,
    before: u32,
}

fn any_mix() -> impl Strategy<Value = Mix> {
    let decodes = prop_oneof![0_u32..20, 0_u32..1_024];
    let new = prop_oneof![Just(0_u32), 0_u32..200, 0_u32..30_000];
    (decodes, 1_u32..20_000, new, 0_u32..20_000).prop_map(|(decodes, each, new, before)| Mix {
        decodes,
        each,
        new,
        before,
    })
}

impl Mix {
    fn batch(self, setup: &Setup) -> Batch {
        let (decodes, chunk) =
            (setup.decodes(self.decodes, self.each), setup.prefill(self.new, self.before));
        Batch {
            prefill_tokens: chunk.prefill_tokens,
            prefill_pairs: chunk.prefill_pairs,
            windowed_pairs: chunk.windowed_pairs,
            sampled: decodes.sampled + chunk.sampled,
            ..decodes
        }
    }
}

/// Pairs counted one by one.
#[test]
fn pairs_are_those_of_a_causal_mask() {
    for (new, before, window) in
        [(1, 0, 4), (5, 0, 4), (5, 2, 4), (3, 9, 4), (0, 3, 4), (7, 3, 10), (7, 3, 9)]
    {
        let keys = (1..=new).map(|token| before + token);
        assert_eq!(pairs(new, before), keys.clone().map(u64::from).sum::<u64>());
        let seen: u64 = keys.map(|keys| u64::from(keys.min(window))).sum();
        assert_eq!(
            windowed_pairs(new, before, NonZeroU32::new(window)),
            seen,
            "{new} after {before}"
        );
    }
    assert_eq!(windowed_pairs(5, 2, None), pairs(5, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_compiled_steps_are_the_steps(setup in any_setup(), mix in any_mix()) {
        let (steps, batch) = (setup.compile(), mix.batch(&setup));
        let cost = setup.step(batch);
        let near = |compiled: u64, exact: f64, each: f64| {
            // Half a unit for each rounded part and each token of context; beyond the table's fine end, its chords.
            let chords = if batch.decodes + batch.prefill_tokens > 1_024 { 2e-4 * exact } else { 0.0 };
            let least = 8.0 + each * (batch.context + batch.windowed_context) as f64 + chords + 1e-9 * exact;
            (compiled as f64 - exact).abs() <= least
        };
        let ps = steps.time(&batch).at(&batch);
        prop_assert!(near(ps, cost.seconds() * 1e12, 0.5), "{ps} ps, {cost:?}");
        let flops = steps.flops(&batch).at(&batch);
        prop_assert!(near(flops, cost.flops, 0.5), "{flops} operations, {cost:?}");
        let bytes = steps.bytes(&batch).at(&batch);
        prop_assert!(near(bytes, cost.bytes, 0.5), "{bytes} bytes, {cost:?}");
    }

    #[test]
    fn more_work_never_makes_a_step_faster(setup in any_setup(), mix in any_mix(), more in 1_u32..300) {
        let steps = setup.compile();
        let times = |mix: Mix| {
            let batch = mix.batch(&setup);
            (steps.time(&batch).at(&batch), setup.step(batch).seconds(), batch.context)
        };
        let (before, exact, _) = times(mix);
        let longer = [
            ("decodes", Mix { decodes: mix.decodes + more, ..mix }),
            ("context", Mix { each: mix.each + more, ..mix }),
            ("prompt", Mix { new: mix.new + more, ..mix }),
            ("prompt before", Mix { before: mix.before + more, ..mix }),
        ];
        for (what, longer) in longer {
            let (after, exactly, context) = times(longer);
            // What groups of ranks share is rounded to a picosecond a token.
            prop_assert!(after + 2 * context >= before, "more {what}: {before} then {after}");
            prop_assert!(exactly >= exact * (1.0 - 1e-12), "more {what}: {exact} then {exactly}");
        }
    }

    #[test]
    fn no_step_beats_the_peaks(setup in any_setup(), mix in any_mix()) {
        let batch = mix.batch(&setup);
        prop_assume!(batch.decodes + batch.prefill_tokens > 0);
        let (mfu, mbu) = setup.utilisation(setup.step(batch)).unwrap();
        prop_assert!(mfu > 0.0 && mfu < 1.0, "MFU {mfu}");
        prop_assert!(mbu > 0.0 && mbu < 1.0, "MBU {mbu}");
    }

    #[test]
    fn steps_take_any_numbers(setup in any_setup(), numbers: [u64; 4], counts: [u32; 3]) {
        let steps = setup.compile();
        let ([context, windowed_context, prefill_pairs, windowed_pairs], [decodes, prefill_tokens, sampled]) =
            (numbers, counts);
        let batch = Batch {
            decodes, context, windowed_context, prefill_tokens, prefill_pairs, windowed_pairs, sampled,
        };
        prop_assert!(steps.time(&batch).at(&batch) > 0 || decodes == 0 && prefill_tokens == 0);
        let _ = (steps.flops(&batch).at(&batch), steps.bytes(&batch).at(&batch));
    }
}

/// Every rank gathers and sums the results of all choices: experts that are spread over eight ranks take more than an eighth
/// of the time. What they add to the smooth roofline is the formula of the sheet.
#[test]
fn results_of_experts_are_gathered_on_every_rank() {
    let sheets = sheets();
    let setup = |expert: u32| {
        let layout = Layout { tensor: 8, expert, ..Layout::default() };
        let model = sheets.model("qwen3-235b-a22b").unwrap();
        let (gpu, engine) = (sheets.accelerator("h200").unwrap(), sheets.engine("trtllm").unwrap());
        let kernels = &sheets.kernels;
        Setup::new(
            model,
            gpu,
            engine,
            kernels,
            layout,
            Formats::default(),
            roofline::Routing::Balanced,
        )
        .unwrap()
    };
    let spread = setup(8);
    let (tokens, h, width, active) = (16_384.0, 4_096.0, 1_536.0, 8.0);
    let (peak, bandwidth, layers) = (989e12, 4.8e12, 94.0);
    let (_, own) = *spread.fractions().iter().find(|(name, _)| *name == "experts").unwrap();
    let (rows, results) = own.traffic;
    assert!(rows > 0.0 && results > 0.0);
    // At so many tokens all 128 experts are touched, and arithmetic is far beyond the ridge.
    let compute_s = 6.0 * h * width * active * tokens / 8.0 / (own.compute * peak);
    let weights_s = 3.0 * h * width * 128.0 * 2.0 / 8.0 / (own.memory * bandwidth);
    let moved = 2.0 * active * tokens * (rows / 8.0 * (h + width) + results * h);
    let layer_s = own.start_s + roofline::smooth_roofline(compute_s, weights_s) + moved / bandwidth;
    let experts_s = spread.step(spread.prefill(16_384, 0)).experts_s;
    assert!((experts_s / (layers * layer_s) - 1.0).abs() < 1e-9, "{experts_s} {layer_s}");
    // The results alone, which no spreading shares.
    assert!(experts_s > layers * 2.0 * active * tokens * results * h / bandwidth);
}

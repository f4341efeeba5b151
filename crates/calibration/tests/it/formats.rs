//! Results of benchmark programs.

use calibration::{Load, Point, Stage, read};
use proptest::prelude::*;

const VLLM: &str = r#"{"date": "20261101-101500", "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct",
 "num_prompts": 640, "request_rate": "inf", "max_concurrency": 64, "duration": 60.0, "completed": 640,
 "total_input_tokens": 640000, "total_output_tokens": 128000, "output_throughput": 2133.3, "mean_ttft_ms": 120.5,
 "mean_tpot_ms": 14.25, "mean_e2el_ms": 2956.0}"#;
const SGLANG: &str = r#"{"backend": "sglang", "dataset_name": "random", "request_rate": 8.0, "max_concurrency": null, "completed": 500, "total_input_tokens": 100000, "total_output_tokens": 50000, "output_throughput": 780.0, "mean_ttft_ms": 80.0, "mean_tpot_ms": 11.0, "mean_e2e_latency_ms": 1169.0, "random_range_ratio": 1.0}
{"backend": "sglang", "dataset_name": "sharegpt", "request_rate": Infinity, "completed": 5}"#;
const GUIDELLM: &str = r#"{"benchmarks": [{"config": {"strategy": {"type_": "concurrent", "streams": 16}, "backend": {"model": "m"}},
 "metrics": {"prompt_token_count": {"successful": {"mean": 512.0}}, "output_token_count": {"successful": {"mean": 128.0}},
 "time_to_first_token_ms": {"successful": {"mean": 90.0}}, "inter_token_latency_ms": {"successful": {"mean": 9.5}},
 "output_tokens_per_second": {"successful": {"mean": 1500.0}}, "request_latency": {"successful": {"mean": 1.3}}}}]}"#;
const AIPERF: &str = r#"{"input_config": {"endpoint": {"model_names": ["q"]}, "loadgen": {"concurrency": 10, "request_count": 100}},
 "time_to_first_token": {"unit": "ms", "avg": 55.0}, "inter_token_latency": {"unit": "ms", "avg": 8.0},
 "request_latency": {"unit": "ms", "avg": 850.0}, "output_token_throughput": {"unit": "tokens/sec", "avg": 1100.0},
 "input_sequence_length": {"unit": "tokens", "avg": 550.0}, "output_sequence_length": {"unit": "tokens", "avg": 100.0}}"#;
const LLAMA: &str = r#"[{"model_type": "gemma3 270M Q8_0", "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 1024.0},
 {"model_type": "gemma3 270M Q8_0", "n_prompt": 0, "n_gen": 128, "n_depth": 256, "avg_ts": 64.0}]"#;
const LLAMA_TABLE: &str = "
| model          |   size | params | backend | threads |          test |            t/s |
| -------------- | -----: | -----: | ------- | ------: | ------------: | -------------: |
| gemma3 Q8_0    | 1 GiB  | 268 M  | CPU     |       2 |         pp512 | 1024.00 ± 3.10 |
| gemma3 Q8_0    | 1 GiB  | 268 M  | CPU     |       2 | tg128 @ d256  |   64.00 ± 0.10 |
build: 1234 (5678)
";
const BATCHED: &str = "
main: n_kv_max = 2048
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |     64 |    4 |    768 |    0.500 |  1024.00 |    1.600 |   160.00 |    2.100 |   365.71 |
";
const BATCHED_JSON: &str = r#"{"n_kv_max": 2048, "is_pp_shared": 0, "pp": 128, "tg": 64, "pl": 4, "n_kv": 768, "t_pp": 0.5, "t_tg": 1.6}"#;

fn one(text: &str) -> Point {
    let mut all = read("x", text).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn times(point: &Point) -> [Option<f64>; 4] {
    let measured = point.measured;
    let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
    let time = |time: Option<calibration::Time>| time.map(|time| rounded(time.seconds));
    [measured.output_tokens_per_s, time(measured.ttft), time(measured.tpot), time(measured.latency)]
}

#[test]
fn results_of_serving_benchmarks_are_read() {
    let vllm = one(VLLM);
    assert_eq!(vllm.load, Some(Load::Closed { clients: 64, requests: Some(640) }));
    assert_eq!((vllm.isl, vllm.osl, vllm.engine.as_str()), (Some(1000.0), Some(200.0), "vllm"));
    assert_eq!(times(&vllm), [Some(2133.3), Some(0.1205), Some(0.014_25), Some(2.956)]);
    // Which engine answers is not told by how it is spoken to.
    assert_eq!(one(&VLLM.replace("\"vllm\"", "\"openai-chat\"")).engine, "");
    let sglang = one(SGLANG.lines().next().unwrap());
    let stage = Stage { per_second: 8.0, seconds: None };
    assert_eq!(sglang.load, Some(Load::Open { stages: vec![stage], requests: Some(500) }));
    assert_eq!(times(&sglang), [Some(780.0), Some(0.08), Some(0.011), Some(1.169)]);
    let guide = one(GUIDELLM);
    assert_eq!(guide.load, Some(Load::Closed { clients: 16, requests: None }));
    assert_eq!(times(&guide), [Some(1500.0), Some(0.09), Some(0.0095), Some(1.3)]);
    let aiperf = one(AIPERF);
    assert_eq!(aiperf.load, Some(Load::Closed { clients: 10, requests: Some(100) }));
    assert_eq!((aiperf.isl, aiperf.osl, aiperf.model.as_str()), (Some(550.0), Some(100.0), "q"));
    assert_eq!(times(&aiperf), [Some(1100.0), Some(0.055), Some(0.008), Some(0.85)]);
}

#[test]
fn llama_cpps_tests_are_read_from_json_and_from_tables_alike() {
    let seen = |text: &str| -> Vec<_> {
        let points = read("x", text).unwrap();
        points.iter().map(|p| (p.isl, p.osl, p.asked.clone(), times(p))).collect()
    };
    // 512 tokens at 1024 a second are one prompt in half a second; 64 tokens a second are 15.625 ms each.
    let bench = vec![
        (Some(512.0), Some(1.0), "static bs=1".to_owned(), [Some(2.0), None, None, None]),
        (Some(256.0), Some(128.0), "static bs=1".to_owned(), [None, None, Some(0.015_625), None]),
    ];
    assert_eq!(seen(LLAMA), bench);
    assert_eq!(seen(LLAMA_TABLE), bench);
    let batched = vec![
        (Some(128.0), Some(1.0), "static bs=4".to_owned(), [Some(8.0), None, None, None]),
        (Some(128.0), Some(64.0), "static bs=4".to_owned(), [None, None, Some(0.025), None]),
    ];
    assert_eq!(seen(BATCHED), batched);
    assert_eq!(seen(BATCHED_JSON), batched);
}

#[test]
fn what_cannot_be_read_names_where_what_and_what_was_expected() {
    let error = |text: &str| read("x", text).unwrap_err().to_string();
    let without = |key: &str| error(&VLLM.replace(key, "other"));
    assert_eq!(
        without("total_input_tokens"),
        "x, `total_input_tokens`: expected a number above 0, found nothing"
    );
    assert_eq!(
        error(&VLLM.replace("120.5", "\"fast\"")),
        "x, `mean_ttft_ms`: expected a number of at least 0, found `\"fast\"`"
    );
    assert!(error("{\"a\": 1}").contains("found the keys `a`"));
    assert!(error(SGLANG).starts_with("x, line 2: expected JSON"), "{}", error(SGLANG));
    assert_eq!(
        error(&AIPERF.replace("\"ms\", \"avg\": 55.0", "\"s\", \"avg\": 0.055")),
        "x, `time_to_first_token.unit`: expected `ms`, found `\"s\"`"
    );
    assert_eq!(
        error("| 1 | 2 |"),
        "x, line 1: expected a header with `test` and `t/s`, or with `PP` and `TG`, found `| 1 | 2 |`"
    );
    assert_eq!(
        error(&LLAMA_TABLE.replace("pp512", "xx512")),
        "x, line 4, `test`: expected `pp512`, `tg128` and the like, found `xx512`"
    );
    assert!(error("nothing of it").contains("a CSV of points"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0_usize..8, at in 0_usize..600, over in 0_usize..40,
    ) {
        let _ = read("x", &String::from_utf8_lossy(&bytes));
        let all = [VLLM, SGLANG, GUIDELLM, AIPERF, LLAMA, LLAMA_TABLE, BATCHED, BATCHED_JSON];
        let mut text = all[which].as_bytes().to_vec();
        let from = at.min(text.len());
        let to = (from + over).min(text.len());
        text.splice(from..to, bytes);
        let _ = read("x", &String::from_utf8_lossy(&text));
    }
}

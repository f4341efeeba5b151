//! Rows of a CSV, sound and odd: each is predicted, or says in one sentence why not.

use calibration::{Bands, Lengths, Load, Metric, Point, Regime, Sheet, Stage, Summary, predict};
use proptest::prelude::*;
use roofline::Sheets;

const HEAD: &str = "source,commit_or_date,model,quantization,gpu,n_gpus,tp,pp,ep,dp,engine,engine_version,isl,osl,\
    concurrency_or_rate,throughput_output_tok_s,ttft_ms_mean,ttft_ms_p50,tpot_ms,itl_ms,e2e_ms,notes\n";

/// A sound row, with some cells changed.
fn row(changes: &[(&str, &str)]) -> String {
    let sound = [
        ("source", "made up"),
        ("model", "Llama 3.1 8B"),
        ("quantization", "bf16"),
        ("gpu", "H100 SXM 80GB"),
        ("n_gpus", "1"),
        ("tp", "1"),
        ("engine", "vllm"),
        ("engine_version", "0.19.0"),
        ("isl", "500"),
        ("osl", "100"),
        ("concurrency_or_rate", "conc=4"),
        ("tpot_ms", "7.5"),
    ];
    let cell = |name: &str| {
        let changed = changes.iter().chain(&sound).find(|(key, _)| *key == name);
        let text = changed.map_or("", |(_, text)| *text);
        if text.contains(',') { format!("\"{text}\"") } else { text.to_owned() }
    };
    let cells: Vec<String> = HEAD.trim_end().split(',').map(cell).collect();
    cells.join(",") + "\n"
}

fn sheet(rows: &[String]) -> Sheet {
    Sheet::read("points.csv", &(HEAD.to_owned() + &rows.concat())).unwrap()
}

fn why(changes: &[(&str, &str)]) -> String {
    let sheet = sheet(&[row(changes)]);
    predict(&Sheets::built_in().unwrap(), &sheet.points[0]).unwrap_err().to_string()
}

#[test]
fn an_odd_row_says_why_it_is_not_predicted() {
    let of = |key: &str, text: &str| why(&[(key, text)]);
    assert_eq!(of("model", "gpt-9"), "no data sheet of the model `gpt-9`");
    assert_eq!(of("model", ""), "the model is not stated");
    assert_eq!(of("gpu", "Abacus 3"), "no data sheet of the accelerator `Abacus 3`");
    assert_eq!(of("gpu", "UNSTATED (8 GPUs)"), "the accelerator is not stated");
    assert_eq!(of("engine", "?"), "the engine is not stated");
    assert_eq!(of("engine", "handmade"), "no data sheet of the engine `handmade`");
    assert_eq!(of("quantization", "ternary"), "unknown quantization `ternary`");
    assert_eq!(of("isl", ""), "`isl` is not stated");
    let vast = [("n_gpus", ""), ("tp", "65536"), ("dp", "65536")];
    assert_eq!(why(&vast), "tp 65536 x pp 1 x dp 65536 is more than anybody has");
    let nowhere = [("n_gpus", ""), ("tp", ""), ("model", "llama-3.1-405b")];
    assert_eq!(why(&nowhere), "no server of `h100-sxm` holds `llama-3.1-405b` in bf16");
    assert_eq!(of("isl", "0"), "`isl`: expected a number of tokens from 1 to 4 million, found `0`");
    assert_eq!(
        of("osl", "-5"),
        "`osl`: expected a number of tokens from 1 to 4 million, found `-5`"
    );
    assert_eq!(of("osl", "NaN"), "`osl` is not stated");
    assert_eq!(
        of("osl", "inf"),
        "`osl`: expected a number of tokens from 1 to 4 million, found `inf`"
    );
    assert_eq!(of("tp", "x"), "`tp`: expected a whole number from 1, found `x`");
    assert_eq!(of("tp", "3"), "tp 3 x pp 1 x dp 1 does not make 1 accelerators");
    assert_eq!(of("concurrency_or_rate", ""), "no load is stated: neither clients nor a rate");
    assert_eq!(
        of("concurrency_or_rate", "conc=0"),
        "the load `conc=0` states no count from 1 to 1,000,000"
    );
    assert_eq!(of("concurrency_or_rate", "rate=0"), "the load `rate=0` states no rate above 0");
    assert_eq!(
        of("concurrency_or_rate", "some"),
        "the load `some` states neither clients nor a rate; expected the like of conc=64, rate=8, static bs=16 or offline"
    );
    assert_eq!(of("concurrency_or_rate", "conc=900000"), "the run is too long to be simulated");
    assert_eq!(
        of("model", "llama-3.1-405b"),
        "`llama-3.1-405b` in this format does not fit `h100-sxm` so split"
    );
    assert_eq!(
        of("isl", "900000"),
        "the KV cache or the model's context does not hold one sequence"
    );
    assert_eq!(
        of("notes", "DISAGG; prefill_workers=1"),
        "prefill and decode run on workers of their own: of such runs nothing was validated (`simulate --pools` has them)"
    );
    assert_eq!(
        of("notes", "cmd=x --speculative-algorithm EAGLE"),
        "speculative decoding: how much was accepted is not stated"
    );
    let surplus = sheet(&[row(&[]).trim_end().to_owned() + ",surplus\n"]);
    assert_eq!(
        surplus.points[0].refused.as_ref().unwrap().to_string(),
        "more cells than the header's 22"
    );
}

#[test]
fn a_file_without_its_columns_is_no_sheet() {
    let error = Sheet::read("x.csv", "a,b\n1,2\n").unwrap_err().to_string();
    assert!(error.starts_with("x.csv, line 1: no column `model`; expected"), "{error}");
    assert!(error.ends_with("found `a, b`"), "{error}");
    assert!(Sheet::read("x.csv", "").unwrap_err().to_string().ends_with("found nothing"));
}

#[test]
fn rows_keep_their_lines_over_quotes_and_empty_lines() {
    let text = format!(
        "\u{feff}{HEAD}{}\n{}",
        row(&[("notes", "two \"\"words\"\",\nand a line")]),
        row(&[])
    );
    let sheet = Sheet::read("points.csv", &text.replace('\n', "\r\n")).unwrap();
    let lines: Vec<usize> = sheet.points.iter().map(|point| point.line).collect();
    assert_eq!(lines, [2, 5]);
    assert!(sheet.points.iter().all(|point| point.refused.is_none()));
    // Of whatever system, and with whatever stands between cells.
    let others = [text.replace('\n', "\r"), text.replace(',', ";"), text.replace(',', "\t")];
    for text in others {
        let points = Sheet::read("points.csv", &text).unwrap().points;
        assert_eq!(points.iter().map(|point| point.line).collect::<Vec<_>>(), [2, 5], "{text}");
        assert!(points.iter().all(|point| point.refused.is_none()), "{text}");
    }
}

/// Nobody's row gets lost, whatever stands in a row above it.
#[test]
fn a_slip_in_one_row_leaves_the_others_as_they_are() {
    let why = |point: &Point| point.refused.as_ref().map(ToString::to_string);
    let sound = row(&[]);
    // A quote within a cell is a letter.
    let inches = sheet(&[sound.replace("made up", "a 3\" disk"), sound.clone()]);
    assert_eq!(inches.points.iter().map(why).collect::<Vec<_>>(), [None, None]);
    assert_eq!(inches.points[0].source, "a 3\" disk");
    // One that is not closed ends with its line, whether or not there is another further down.
    let open = "a quote is opened and not closed".to_owned();
    let unclosed = sound.replace("made up", "\"made up");
    let found = sheet(&[unclosed.clone(), sound.clone(), row(&[("notes", "a, b")]), sound.clone()]);
    let reasons: Vec<_> = found.points.iter().map(why).collect();
    assert_eq!(reasons, [Some(open.clone()), None, None, None]);
    assert_eq!(found.points.iter().map(|point| point.line).collect::<Vec<_>>(), [2, 3, 4, 5]);
    let last = sheet(&[sound.clone(), unclosed]);
    assert_eq!(last.points.iter().map(why).collect::<Vec<_>>(), [None, Some(open)]);
    // A row of commas is a row, a line of nothing is none; cells without a name may be empty.
    let commas = ",".repeat(HEAD.matches(',').count()) + "\n";
    let empty = sheet(&[commas, "\n".to_owned(), sound.trim_end().to_owned() + ",,\n"]);
    assert_eq!(empty.points.len(), 2);
    assert_eq!(why(&empty.points[0]).as_deref(), Some("`isl` is not stated"));
    assert_eq!(why(&empty.points[1]), None);
}

/// What was measured is not needed to predict it.
#[test]
fn odd_cells_of_what_was_measured_are_told_and_not_compared() {
    let sheets = Sheets::built_in().unwrap();
    let of = |text: &str| predict(&sheets, &sheet(&[row(&[("tpot_ms", text)])]).points[0]).unwrap();
    for odd in ["-1", "0", "fast", "7,5"] {
        let expected = format!("`tpot_ms` not compared: expected a number above 0, found `{odd}`");
        assert_eq!(of(odd).assumed, [expected]);
        assert_eq!(of(odd).tpot_s, of("7.5").tpot_s);
    }
    for nothing in ["", "nan", "N/A", "-"] {
        assert!(of(nothing).assumed.is_empty());
    }
    let read = |key: &str, text: &str| sheet(&[row(&[(key, text)])]).points.remove(0);
    assert_eq!(read("tpot_ms", "1,007.5").measured.tpot.unwrap().seconds, 1.0075);
    assert_eq!(read("isl", "1,024").isl, Some(1_024.0));
    assert_eq!(read("isl", "1e3").isl, Some(1_000.0));
    assert_eq!(read("osl", "mean 3880").osl, Some(3_880.0));
    assert_eq!((read("tp", "2.0").tensor, read("tp", "nan").tensor), (Some(2), None));
}

#[test]
fn a_models_name_tells_its_format() {
    let sheets = Sheets::built_in().unwrap();
    let of = |changes: &[(&str, &str)]| {
        predict(&sheets, &sheet(&[row(changes)]).points[0]).unwrap().assumed.join("; ")
    };
    let named = |model: &str| of(&[("model", model), ("quantization", "")]);
    assert_eq!(named("Qwen/Qwen3-14B-AWQ"), "weights as published, int4");
    assert_eq!(named("Qwen/Qwen3-14B-FP8"), "weights as published, fp8");
    // What has no arithmetic for 8-bit floats keeps weights in them all the same.
    let a100 = of(&[("gpu", "A100 SXM 80GB"), ("quantization", "fp8")]);
    assert_eq!(a100, "weights in 8 bits, multiplied in 16: the accelerator has no FP8");
}

#[test]
fn loads_are_read_as_benchmarks_write_them() {
    let read = |text: &str, notes: &str| Load::read(text, notes).unwrap();
    let open = |stages: &[(f64, Option<f64>)], requests| Load::Open {
        stages: stages.iter().map(|&(per_second, seconds)| Stage { per_second, seconds }).collect(),
        requests,
    };
    assert_eq!(read("conc=64", ""), Load::Closed { clients: 64, requests: None });
    assert_eq!(
        read("conc=256 n=3000 (sharegpt)", ""),
        Load::Closed { clients: 256, requests: Some(3000) }
    );
    assert_eq!(read("max_concurrency=64", ""), Load::Closed { clients: 64, requests: None });
    assert_eq!(read("64 clients", ""), Load::Closed { clients: 64, requests: None });
    assert_eq!(read("batch size=16", ""), Load::Together { requests: 16 });
    assert_eq!(read("4 rps", ""), open(&[(4.0, None)], None));
    assert_eq!(read("static bs=16", ""), Load::Together { requests: 16 });
    assert_eq!(read("rate=inf n=1000", ""), Load::Together { requests: 1000 });
    assert_eq!(read("qps=INF", "500 requests; means"), Load::Together { requests: 500 });
    assert_eq!(read("Offline (all queued)", ""), Load::Queue { requests: None });
    assert_eq!(read("qps=4", "500 requests; means"), open(&[(4.0, None)], Some(500)));
    assert_eq!(read("poisson target_qps=29.5", ""), open(&[(29.5, None)], None));
    assert_eq!(read("6 req/s (1200s)", ""), open(&[(6.0, Some(1200.0))], None));
    let both = "8 then 20 req/s (2x600s)";
    let (first, second) = ((8.0, Some(600.0)), (20.0, Some(600.0)));
    assert_eq!(read(both, "stage=0 (-1=summary)"), open(&[first], None));
    assert_eq!(read(both, "stage=1 (-1=summary)"), open(&[second], None));
    assert_eq!(read(both, "stage=-1 (-1=summary)"), open(&[first, second], None));
}

#[test]
fn what_a_row_leaves_out_is_assumed_and_told() {
    let sheets = Sheets::built_in().unwrap();
    let assumed = |changes: &[(&str, &str)]| {
        predict(&sheets, &sheet(&[row(changes)]).points[0]).unwrap().assumed.join("; ")
    };
    assert_eq!(assumed(&[]), "");
    assert_eq!(assumed(&[("quantization", "")]), "weights as published, bf16");
    assert_eq!(assumed(&[("n_gpus", "4"), ("tp", "")]), "the best layout");
    let nothing = [("n_gpus", ""), ("tp", "")];
    assert_eq!(assumed(&nothing), "1 accelerator, the fewest that hold it");
    let large = [nothing[0], nothing[1], ("model", "llama-3.1-70b")];
    assert_eq!(assumed(&large), "4 accelerators, the fewest that hold it");
    assert_eq!(assumed(&[("n_gpus", "4"), ("tp", "2")]), "2 replicas");
    let sample =
        [("source", "aiconfigurator silicon_sample"), ("commit_or_date", "2026-01-01 (file)")];
    let point = sheet(&[row(&sample)]).points.remove(0);
    assert_eq!((point.isl, point.osl, point.lengths), (Some(450.0), Some(90.0), Lengths::Even));
}

#[test]
fn errors_are_summed_up_by_what_points_are_and_who_measured_them() {
    let (sheets, bands) = (Sheets::built_in().unwrap(), Bands::built_in().unwrap());
    let mut summary = Summary::default();
    let moe = [("source", "others"), ("model", "qwen3-30b-a3b"), ("quantization", "bf16")];
    for point in sheet(&[row(&[]), row(&[]), row(&moe), row(&[("source", "")])]).points {
        summary.add(&point, &predict(&sheets, &point), &bands);
    }
    let points = |by: &str, name: &str| {
        let mut groups = summary.groups().filter(|(own, group, _)| (*own, *group) == (by, name));
        groups.next().map(|(.., errors)| errors[&Metric::Tpot].points())
    };
    assert_eq!(points("", "all"), Some(4));
    assert_eq!(points("kind", "dense"), Some(3));
    assert_eq!(points("source", "made up, dense"), Some(2));
    assert_eq!(points("source", "others, moe"), Some(1));
    assert_eq!(summary.groups().filter(|(by, ..)| *by == "source").count(), 2);
}

/// What is simulated is the load that was measured: each kind comes near what a closed form says of it.
#[test]
fn loads_are_simulated_as_what_they_are() {
    let sheets = Sheets::built_in().unwrap();
    let of = |load: &str| {
        predict(&sheets, &sheet(&[row(&[("concurrency_or_rate", load)])]).points[0]).unwrap()
    };
    let value = |load: &str, metric| of(load).value(metric).unwrap();
    // One client has one request under way: Little's law.
    let (tpot, ttft) = (value("conc=1", Metric::Tpot), value("conc=1", Metric::Ttft));
    let alone = value("conc=1", Metric::Latency);
    assert!((ttft + 99.0 * tpot - alone).abs() < 1e-6 * alone);
    assert!((value("conc=1", Metric::Throughput) * alone / 100.0 - 1.0).abs() < 0.1);
    // At a rate that is far from the limit as many tokens go out as are asked for.
    assert!((value("rate=2", Metric::Throughput) / 200.0 - 1.0).abs() < 0.1);
    assert_eq!(of("rate=2").regime, Regime::Paced);
    assert_eq!(of("conc=1").regime, Regime::DecodeBound);
    // More clients get more together, and less each; a queue gets the most.
    assert!(value("conc=32", Metric::Throughput) > 3.0 * value("conc=4", Metric::Throughput));
    assert!(value("conc=32", Metric::Tpot) > value("conc=4", Metric::Tpot));
    assert!(value("offline", Metric::Throughput) > value("conc=32", Metric::Throughput));
    assert_eq!(of("offline").regime, Regime::Saturated);
    // Beyond the limit requests wait.
    assert_eq!(of("rate=200").regime, Regime::Saturated);
    assert!(value("rate=200", Metric::Ttft) > 10.0 * value("rate=2", Metric::Ttft));
    // The highest rate within limits lies between one that keeps them and one that does not.
    let limits =
        [("concurrency_or_rate", "poisson target_qps=20"), ("notes", "ttft<=500ms tpot<=15ms")];
    let rate = predict(&sheets, &sheet(&[row(&limits)]).points[0]).unwrap().rate.unwrap();
    assert!((5.0..100.0).contains(&rate), "{rate}");
    let (below, above) = (format!("rate={}", rate / 2.0), format!("rate={}", rate * 2.0));
    assert!(value(&below, Metric::Tpot) < 0.015);
    assert!(value(&above, Metric::Tpot) > 0.012);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_sheet_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..200) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Sheet::read("x", &text);
        let mut odd = HEAD.to_owned() + &row(&[]);
        let at = (0..=odd.len().min(cut + HEAD.len())).rev().find(|at| odd.is_char_boundary(*at)).unwrap();
        odd.insert_str(at, &text);
        if let Ok(sheet) = Sheet::read("x", &odd) {
            let sheets = Sheets::built_in().unwrap();
            for point in &sheet.points {
                let _ = predict(&sheets, point);
            }
        }
    }
}

/// TensorRT-LLM's compiled engines are told from its PyTorch backend by the version; Dynamo's versions are lower ones.
#[test]
fn compiled_engines_of_tensorrt_are_told_by_their_version() {
    let sheets = Sheets::built_in().unwrap();
    let of = |engine: &str, version: &str| {
        let cells = [("engine", engine), ("engine_version", version)];
        predict(&sheets, &sheet(&[row(&cells)]).points[0]).unwrap().engine
    };
    for (engine, version, expected) in [
        ("trtllm", "0.17", "trtllm-cpp"),
        ("trtllm+triton", "0.14.0", "trtllm-cpp"),
        ("trtllm", "v0.18.2", "trtllm-cpp"),
        ("TensorRT 10.11, CUDA 12.9", "", "trtllm-cpp"),
        ("trtllm", "1.0.0rc3", "trtllm"),
        ("trtllm", "0.8.1.post2", "trtllm"),
        ("TensorRT-LLM", "2025-11", "trtllm"),
        ("vllm", "0.17.0", "vllm"),
    ] {
        assert_eq!(of(engine, version), expected, "{engine} {version}");
    }
}

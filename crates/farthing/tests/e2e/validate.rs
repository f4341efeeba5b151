//! `farthing validate` and `farthing calibrate`: predictions beside measured points.

use serde_json::Value;

use crate::home::Home;

const POINTS: &str = "\
model,quantization,gpu,n_gpus,tp,engine,isl,osl,concurrency_or_rate,throughput_output_tok_s,ttft_ms_mean,tpot_ms,notes
llama-3.1-8b,bf16,H100 SXM 80GB,1,1,vllm,500,100,conc=4,,,7.9,
llama-3.1-8b,bf16,H100 SXM 80GB,1,1,vllm,500,100,conc=16,,60,9.5,
qwen3-14b,bf16,H100 SXM 80GB,1,1,vllm,500,100,conc=4,,,14,\"a note, with a comma\"
gpt-9,bf16,H100 SXM 80GB,1,1,vllm,500,100,conc=4,,,7.9,
llama-3.1-8b,bf16,H100 SXM 80GB,1,1,vllm,0,100,conc=4,,,7.9,
";

fn home() -> Home {
    let home = Home::new("");
    std::fs::write(home.config().with_file_name("points.csv"), POINTS).unwrap();
    home
}

#[test]
fn every_row_is_predicted_with_an_interval_or_says_why_not() {
    let home = home();
    let ran = home.run(&["validate", "points.csv"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 6);
    let head: Vec<&str> = lines[0].split(',').collect();
    let cell = |row: usize, name: &str| {
        let at = head.iter().position(|own| *own == name).unwrap();
        lines[row].split(',').nth(at).unwrap().to_owned()
    };
    let number = |row: usize, name: &str| cell(row, name).parse::<f64>().unwrap();
    for row in [1, 2, 3] {
        let (low, high) = (number(row, "tpot_ms_low"), number(row, "tpot_ms_high"));
        let predicted = number(row, "tpot_ms_predicted");
        assert!(low <= predicted && predicted <= high);
        assert!((predicted / number(row, "tpot_ms_measured") - 1.0).abs() < 0.3, "{}", lines[row]);
        assert_eq!((cell(row, "kind").as_str(), cell(row, "why_not").as_str()), ("dense", ""));
    }
    assert_eq!(cell(1, "ttft_ms_measured"), "");
    assert_eq!(cell(4, "why_not"), "no data sheet of the model `gpt-9`");
    assert_eq!(cell(4, "tpot_ms_predicted"), "");
    assert_eq!(cell(5, "why_not"), "\"`isl`: expected a number of tokens from 1 to 4 million");
    assert!(ran.err.starts_with("5 rows, of which 3 are predicted"), "{}", ran.err);
    // With a file for the rows the summary is what is printed.
    let ran = home.run(&["validate", "points.csv", "--out", "rows.csv"]);
    assert!(ran.out.contains("Time per output token"), "{}", ran.out);
    assert_eq!(
        std::fs::read_to_string(home.config().with_file_name("rows.csv")).unwrap().lines().count(),
        6
    );
}

/// Whoever names all files of a folder learns which of them hold no points; the others are predicted.
#[test]
fn files_of_something_else_are_passed_over_aloud_and_alone_an_error() {
    let home = home();
    std::fs::write(home.config().with_file_name("kernels.csv"), "system,op\nh100,gemm\n").unwrap();
    let both = home.run(&["validate", "kernels.csv", "points.csv", "--out", "rows.csv"]);
    assert_eq!(both.code, Some(0), "{}", both.err);
    assert!(both.out.starts_with("5 rows, of which 3 are predicted"), "{}", both.out);
    let told = "farthing: passed over: kernels.csv, line 1: no column `model`";
    assert!(both.err.starts_with(told), "{}", both.err);
    let alone = home.run(&["validate", "kernels.csv"]);
    assert_eq!(alone.code, Some(1));
    assert!(alone.err.starts_with("farthing: kernels.csv, line 1: no column"), "{}", alone.err);
}

#[test]
fn the_json_has_rows_summary_and_reasons() {
    let home = home();
    let json: Value =
        serde_json::from_str(&home.run(&["validate", "points.csv", "--json"]).ok()).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 5);
    assert_eq!(json["rows"][0]["tpot_ms"]["measured"], 7.9);
    assert!(json["rows"][0]["tpot_ms"]["interval"].as_str().unwrap().contains("points"));
    assert_eq!(json["refused"].as_array().unwrap().len(), 2);
    let group = |quantity: &str| {
        let all = json["summary"].as_array().unwrap();
        all.iter().find(|one| one["group"] == "all" && one["quantity"] == quantity).unwrap()
    };
    assert_eq!(group("tpot")["points"], 3);
    assert_eq!(group("ttft")["points"], 1);
    let page = include_str!("../../../../docs/json.md");
    let section = page.split("## ").find(|part| part.starts_with("farthing.validation/1")).unwrap();
    let mut keys = std::collections::BTreeSet::new();
    collect(&json, &mut keys);
    assert!(keys.remove("schema"));
    for key in keys {
        assert!(section.contains(&format!("`{key}`")), "docs/json.md does not explain `{key}`");
    }
}

fn collect(value: &Value, keys: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            keys.insert(key.clone());
            collect(value, keys);
        }),
        Value::Array(all) => all.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn a_fit_is_a_sheet_that_predictions_use() {
    let home = home();
    let ran = home.run(&["calibrate", "points.csv", "--out", "fit.txt"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("left out: qwen3-14b"), "{}", ran.out);
    let fit = std::fs::read_to_string(home.config().with_file_name("fit.txt")).unwrap();
    assert!(
        fit.contains("fit h100-sxm vllm\n  source farthing calibrate points.csv: 3 runs\n"),
        "{fit}"
    );
    let error = |more: &[&str]| {
        let ran = home.run(&[&["validate", "points.csv", "--json"], more].concat()).ok();
        let json: Value = serde_json::from_str(&ran).unwrap();
        let all = json["summary"].as_array().unwrap().clone();
        let tpot = all.into_iter().find(|one| one["group"] == "all" && one["quantity"] == "tpot");
        tpot.unwrap()["median_error"].as_f64().unwrap()
    };
    let (before, after) = (error(&[]), error(&["--sheet", "fit.txt"]));
    assert!(after < before, "{after} {before}");
}

/// A machine of one's own, described by a sheet, is fitted to a few tests of llama.cpp.
#[test]
fn a_machine_of_ones_own_is_fitted_to_tests_of_llama_cpp() {
    let home = home();
    let put =
        |name: &str, text: &str| std::fs::write(home.config().with_file_name(name), text).unwrap();
    put(
        "cpu.txt",
        "accelerator my-cpu\n  source made up\n  hbm_gib 15\n  hbm_gb_s 40\n  bf16_tflops 0.5\n",
    );
    let tests = "| model | test | t/s |\n|---|---|---|\n| g | pp128 | 400.0 |\n| g | pp512 | 420.0 |\n\
        | g | tg32 | 45.0 |\n| g | tg128 | 44.0 |\n";
    put("bench.md", tests);
    let told =
        ["--model", "gemma-3-270m", "--gpu", "my-cpu", "--weights", "int8", "--sheet", "cpu.txt"];
    let ran = home.run(&[&["calibrate", "bench.md"][..], &told].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("fit my-cpu llama.cpp"), "{}", ran.out);
    let error =
        ran.out.lines().find_map(|line| line.trim().strip_prefix("error_percent ")).unwrap();
    assert!(error.parse::<f64>().unwrap() < 15.0, "{}", ran.out);
    let ran = home.run(&["calibrate", "bench.md", "--gpu", "my-cpu"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no point can be used"), "{}", ran.err);
    assert!(ran.err.contains("no data sheet of the model `g`"), "{}", ran.err);
}

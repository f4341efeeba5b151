//! `farthing simulate`: predictions from data sheets, without a server or a file.

use serde_json::Value;

use crate::client::Call;
use crate::home::{Home, Ran, both};
use crate::scripted::{Act, Scripted, json};

mod priority;

const SETUP: [&str; 5] = ["simulate", "--model", "llama-3.1-8b", "--gpu", "h100"];
const POISSON: [&str; 8] = ["--rate", "4", "--in", "2k", "--out", "500", "--requests", "1,000"];
const PRICED: [&str; 6] = ["--ttft", "500ms", "--tpot", "50ms", "--gpu-hour", "2.69"];
const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

fn simulate(home: &Home, more: &[&[&str]]) -> Ran {
    home.run(&[&SETUP[..], &more.concat()].concat())
}

/// A run's complaint, which is all it says.
#[track_caller]
fn complaint(ran: Ran, code: i32) -> String {
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{}", ran.err);
    ran.err
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count: {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("a decimal text: {value}")).parse().unwrap()
}

#[test]
fn a_trace_of_named_blocks_is_served_with_prefix_caching() {
    let home = Home::new("");
    let line = |time: u32, names: &str| {
        let (input, output) = (1500, 20);
        format!(
            "{{\"timestamp\":{time},\"input_length\":{input},\"output_length\":{output},\"hash_ids\":[{names}]}}\n"
        )
    };
    let trace = home.data().with_extension("jsonl");
    std::fs::write(&trace, line(0, "7,8,9") + &line(60_000, "7,8,10")).unwrap();
    let run = |more: &[&str]| {
        simulate(&home, &[&["--trace", trace.to_str().unwrap()], &PRICED, more]).ok()
    };
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&run(&[&["--json"], more].concat())).unwrap()
    };
    let one = json(&[]);
    assert_eq!(count(&one["tokens"]["input"]), 3000);
    // The second finds two blocks of 512 tokens.
    assert_eq!(count(&one["tokens"]["cached_input"]), 1024);
    assert_eq!(count(&one["work"]["prefill_tokens"]), 3000 - 1024);
    let time = &one["gpu_time"];
    let parts =
        ["input", "cached_input", "output", "idle"].map(|part| count(&time[part]["gpu_ps"]));
    assert!(parts.iter().all(|&part| part > 0), "{parts:?}");
    assert_eq!(parts.iter().sum::<u64>(), count(&time["total"]["gpu_ps"]));
    // Of two replicas in turn each computes it all, unless the router looks.
    assert_eq!(count(&json(&["--replicas", "2"])["tokens"]["cached_input"]), 0);
    let aware = json(&["--replicas", "2", "--router", "prefix-aware"]);
    assert_eq!(count(&aware["tokens"]["cached_input"]), 1024);
    let text = run(&[]);
    assert!(text.contains("of them in the prefix cache"), "{text}");
    assert!(text.contains("cached input"), "{text}");

    std::fs::write(&trace, line(0, "7") + "{\"timestamp\":1}\n").unwrap();
    let ran = simulate(&home, &[&["--trace", trace.to_str().unwrap()]]);
    let told = complaint(ran, 1);
    assert!(told.contains("data.jsonl"), "{told}");
    assert!(told.contains("line 2: expected `input_length`"), "{told}");
}

#[test]
fn one_seed_is_one_result_and_its_parts_sum() {
    let home = Home::new("");
    let run = |more: &[&str]| simulate(&home, &[&POISSON, &PRICED, &["--json"], more]).ok();
    let text = run(&[]);
    assert_eq!(text, run(&["--seed", "1"]));
    assert_ne!(text, run(&["--seed", "2"]));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(count(&json["requests"]["completed"]), 1000);
    assert_eq!(count(&json["tokens"]["input"]), 2_000_000);
    assert_eq!(count(&json["tokens"]["output"]), 500_000);
    // Each output but the last is computed in a decode: the first comes of the prompt.
    assert_eq!(count(&json["work"]["decode_tokens"]), 499_000);
    assert_eq!(count(&json["latency"]["itl"]["count"]), 499_000);
    let time = &json["gpu_time"];
    let parts = ["input", "cached_input", "output", "idle"].map(|part| &time[part]);
    let total = parts.iter().map(|part| count(&part["gpu_ps"])).sum::<u64>();
    assert_eq!(total, count(&time["total"]["gpu_ps"]));
    assert_eq!(total, count(&json["span_ps"]));
    let usd: f64 = parts.iter().map(|part| number(&part["modelled_usd"])).sum();
    assert!((usd - total as f64 / 3.6e15 * 2.69).abs() < 1e-5, "{usd}");
    // What idles is paid for too: per useful Mtok it is the whole that counts.
    let useful = count(&json["tokens"]["useful_output"]) as f64;
    let per_mtok = number(&time["modelled_usd_per_useful_output_mtok"]);
    assert!((per_mtok - usd / useful * 1e6).abs() < 1e-3 * per_mtok, "{per_mtok}");
    assert!(number(&time["output"]["modelled_usd_per_mtok"]) < per_mtok);
    assert!(
        number(&time["input"]["modelled_usd_per_mtok"])
            < number(&time["output"]["modelled_usd_per_mtok"])
    );
    assert_eq!(json["certainty"]["calibrated"], true);
    for quantity in ["output_per_second", "ttft", "tpot", "end_to_end"] {
        let band = &json["certainty"]["interval"][quantity];
        assert!(number(&band["low"]) <= 1.0 && number(&band["high"]) >= 1.0, "{band}");
        assert!(band["rests_on"].as_str().unwrap().contains("measured points"), "{band}");
    }
    let figures = json["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| !figure["source"].as_str().unwrap().is_empty()));
}

#[test]
fn the_highest_rate_within_an_slo_is_found_and_simulated() {
    let home = Home::new("");
    let shape = ["--in", "2k", "--out", "500", "--requests", "2,000", "--json"];
    let find = |more: &[&str]| simulate(&home, &[&shape, more]).json();
    let tight = find(&["--find-rate", "--ttft", "500ms", "--tpot", "20ms"]);
    let search = &tight["search"];
    let rate = number(&search["highest_rate"]);
    assert!(number(&search["fails_at"]) / rate < 1.0101, "{search}");
    assert!(search["simulations"].as_array().unwrap().len() <= 10, "{search}");
    // The run that is told is the one at that rate.
    assert!((number(&tight["offered"]["per_second"]) / rate - 1.0).abs() < 0.05, "{tight}");
    assert!(count(&tight["latency"]["tpot"]["p99_ns"]) < 20_200_000, "{}", tight["latency"]);
    let two = find(&["--find-rate=p99", "--ttft", "500ms", "--tpot", "20ms", "--replicas", "2"]);
    assert!(number(&two["search"]["highest_rate"]) > 1.5 * rate, "{}", two["search"]);
    let lax = find(&["--find-rate=90%", "--ttft", "500ms", "--tpot", "20ms"]);
    assert!(number(&lax["search"]["highest_rate"]) > rate, "{}", lax["search"]);
    let none = simulate(&home, &[&shape[..6], &["--find-rate", "--tpot", "2ms"]]).ok();
    let head = "llama-3.1-8b on 1 x h100-sxm with vllm: no rate keeps p99 TPOT <= 2.0 ms\n";
    assert!(none.starts_with(head), "{none}");
    assert!(none.contains("No rate keeps p99 TPOT <= 2.0 ms: even at "), "{none}");
    let found =
        simulate(&home, &[&shape[..6], &["--find-rate", "--tpot", "20ms", "--gpu-hour", "2"]]).ok();
    assert!(found.contains("highest rate, 1/s") && found.contains("USD per Mtok"), "{found}");
    // A trace is played faster and slower.
    let trace = home.data().with_extension("csv");
    let rows: String = (0..600)
        .map(|n| format!("2023-11-16 18:{:02}:{:02}.5,{},40\n", n / 60, n % 60, 100 + n))
        .collect();
    std::fs::write(&trace, HEADER.to_owned() + &rows).unwrap();
    let file = ["--trace", trace.to_str().unwrap(), "--json", "--find-rate", "--ttft", "200ms"];
    let of_trace = simulate(&home, &[&file]).json();
    assert!(number(&of_trace["search"]["highest_rate"]) > 10.0, "{}", of_trace["search"]);
    let at_once = format!("{HEADER}{0}{0}", "2023-11-16 18:15:46.68,374,44\n");
    std::fs::write(&trace, at_once).unwrap();
    let told = complaint(simulate(&home, &[&file]), 1);
    assert!(told.contains("come at once: there is no rate"), "{told}");
}

#[test]
fn useful_tokens_are_those_of_requests_within_the_slo() {
    let home = Home::new("");
    for slo in [["--tpot", "13ms"], ["--ttft", "60ms"]] {
        let json = simulate(&home, &[&POISSON, &slo, &["--json"]]).json();
        let good = count(&json["requests"]["within_slo"]);
        assert!(good > 0 && good < 1000, "{slo:?}: {good}");
        assert_eq!(count(&json["tokens"]["useful_output"]), good * 500);
        assert_eq!(count(&json["tokens"]["useful_input"]), good * 2000);
    }
}

#[test]
fn the_table_says_what_is_not_known() {
    let home = Home::new("");
    let text = simulate(&home, &[&POISSON, &PRICED]).ok();
    for part in [
        "goodput: TTFT <= 500 ms, TPOT <= 50 ms",
        "idle",
        "p99",
        "90% interval",
        "last token mean, ms",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let unpriced = simulate(&home, &[&POISSON]).ok();
    assert!(!unpriced.contains("USD per Mtok") && unpriced.contains("--gpu-hour"), "{unpriced}");
    let flood = simulate(&home, &[&["--rate", "500", "--in", "2k", "--out", "500"]]).ok();
    assert!(flood.contains("requests came faster than they were served"), "{flood}");
    // As much is served as comes, up to what can be: only that is uncertain.
    assert!(flood.contains("output tokens/s") && !text.contains("output tokens/s"), "{text}");
    let none = simulate(&home, &[&["--rate", "1", "--in", "1M", "--out", "500"]]).ok();
    let head = "llama-3.1-8b on 1 x h100-sxm with vllm: none of 10,000 requests could be served\n";
    assert!(none.starts_with(head) && !none.contains("90% interval"), "{none}");
    let long =
        simulate(&home, &[&["--rate", "0.1", "--in", "100k", "--out", "9", "--requests", "9"]])
            .ok();
    let words = long.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("prompts are longer than 32,768 tokens"), "{long}");
    assert!(!text.contains("came faster"), "{text}");
}

#[test]
fn explained_it_says_why_a_token_costs_so_much() {
    let home = Home::new("");
    let text = simulate(&home, &[&POISSON, &PRICED, &["--explain"]]).ok();
    for title in [
        "Decode waits for memory",
        "A batch shares the weights",
        "Context is paid twice",
        "An idle GPU bills like a busy one",
        "peak",
    ] {
        assert!(text.contains(title), "{title}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    // What is paid grows with each line from the benchmark's peak to the useful token.
    let (_, bridge) = text.split_once("From a benchmark's peak").unwrap();
    let paid =
        bridge.lines().filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok());
    let paid: Vec<f64> = paid.collect();
    assert!(paid.len() == 8 && paid.is_sorted(), "{paid:?} {bridge}");
    assert!(bridge.contains("and 20% headroom for bursts"), "{bridge}");
    let more = ["--failures", "1%", "--headroom", "50%", "--spare", "0", "--reliability", "4%"];
    let text = simulate(&home, &[&POISSON, &PRICED, &["--explain"], &more]).ok();
    let (_, bridge) = text.split_once("From a benchmark's peak").unwrap();
    let words = bridge.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "1% of replies that fail 1.010",
        "50% headroom for bursts 1.500",
        "4% for reliability 1.040",
    ] {
        assert!(words.contains(part), "{part}: {bridge}");
    }
    assert!(!bridge.contains("to spare"), "{bridge}");
    let err = complaint(simulate(&home, &[&POISSON, &["--failures", "1%"]]), 2);
    assert!(err.contains("--explain"), "{err}");
    let err = complaint(simulate(&home, &[&POISSON, &["--explain", "--headroom", "0.2"]]), 2);
    assert!(err.contains("such as `20%`"), "{err}");
}

#[test]
fn who_may_not_wait_is_refused_or_given_up() {
    let home = Home::new("");
    let flood = ["--rate", "500", "--in", "2k", "--out", "500", "--requests", "2,000"];
    for (limit, value, ends) in [
        ("--max-queue", "10", "queue_full"),
        ("--queue-timeout", "1s", "queue_timeout"),
        ("--timeout", "30s", "timeout"),
    ] {
        let requests = &simulate(&home, &[&flood, &[limit, value, "--json"]]).json()["requests"];
        let (completed, ended) = (count(&requests["completed"]), count(&requests[ends]));
        assert!(completed > 0 && ended > 0, "{limit}: {requests}");
        assert_eq!(completed + ended, 2000, "{limit}: {requests}");
    }
    let all = ["--max-queue", "10", "--queue-timeout", "1s", "--timeout", "20s"];
    let text = simulate(&home, &[&flood, &all]).ok();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "10 may wait",
        "that have not begun after 1.0 s",
        "that are not done after 20.0 s",
        "queue full",
    ] {
        assert!(words.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let err = complaint(simulate(&home, &[&POISSON, &["--timeout", "soon"]]), 2);
    assert!(err.contains("--timeout") && err.contains("found `soon`"), "{err}");
}

#[test]
fn replicas_share_the_load_and_are_all_paid_for() {
    let home = Home::new("");
    let one = simulate(&home, &[&POISSON, &["--json"]]).json();
    let four = simulate(&home, &[&POISSON, &["--json", "--replicas", "4"]]).json();
    assert_eq!(one["tokens"]["output"], four["tokens"]["output"]);
    assert_eq!(count(&four["gpu_time"]["total"]["gpu_ps"]), 4 * count(&four["span_ps"]));
    assert!(count(&four["latency"]["tpot"]["p95_ns"]) < count(&one["latency"]["tpot"]["p95_ns"]));
    assert!(number(&four["batch"]["mean"]) < number(&one["batch"]["mean"]));
    // Of two that come at once one is soon done, and paid for until the other is.
    let trace = home.data().with_extension("csv");
    let at = "2023-11-16 18:15:46";
    std::fs::write(&trace, format!("{HEADER}{at},100,900\n{at},100,1\n")).unwrap();
    let run = |more: &[&str]| {
        simulate(&home, &[&["--trace", trace.to_str().unwrap(), "--json"], more]).json()
    };
    let (long, both) = (run(&["--requests", "1"]), run(&["--replicas", "2"]));
    assert_eq!(both["span_ps"], long["span_ps"]);
    assert_eq!(count(&both["gpu_time"]["total"]["gpu_ps"]), 2 * count(&long["span_ps"]));
    assert!(count(&both["gpu_time"]["idle"]["gpu_ps"]) > count(&long["span_ps"]) / 2);
}

#[test]
fn pools_for_prompts_and_for_decoding_are_simulated_and_searched() {
    let home = Home::new("");
    let run = |more: &[&str]| simulate(&home, &[&POISSON, &PRICED, &["--json"], more]).json();
    let (apart, both) = (run(&["--pools", "1+2"]), run(&["--replicas", "3"]));
    assert_eq!(apart, run(&["--pools", "1+2"]));
    for key in ["requests", "tokens"] {
        assert_eq!(apart[key]["completed"], both[key]["completed"]);
        assert_eq!(apart[key]["output"], both[key]["output"]);
    }
    assert_eq!(apart["setup"]["gpus"], 3);
    let [prefill, decode] = ["prefill", "decode"].map(|pool| &apart["pools"][pool]);
    assert_eq!((count(&prefill["replicas"]), count(&decode["replicas"])), (1, 2));
    assert_eq!(count(&prefill["work"]["prefill_tokens"]), 2_000_000);
    assert_eq!(count(&decode["work"]["decode_tokens"]), 499_000);
    assert_eq!(count(&apart["pools"]["sent_tokens"]), 2_000_000);
    // Nobody's tokens wait for a prompt of somebody else.
    let itl = |run: &Value| count(&run["latency"]["itl"]["p99_ns"]);
    assert!(2 * itl(&apart) < itl(&both), "{} {}", itl(&apart), itl(&both));
    // 131 KB a token: 262 ms for each prompt over 1 GB/s, and behind those before it.
    let slow = run(&["--pools", "1+2", "--pool-link", "1"]);
    let handover = |run: &Value| count(&run["latency"]["handover"]["p50_ns"]);
    assert!(handover(&slow) > handover(&apart) + 250_000_000, "{}", slow["latency"]);
    let shape = ["--in", "2k", "--out", "500", "--requests", "2,000", "--json", "--find-rate"];
    let find = |pools: &str| {
        let slo = ["--ttft", "500ms", "--tpot", "20ms", "--pools", pools];
        let found = simulate(&home, &[&shape, &slo]).json();
        assert!(count(&found["pools"]["decode"]["work"]["steps"]) > 0);
        let simulations = found["search"]["simulations"].as_array().unwrap().len();
        assert!(simulations <= 10, "{found}");
        number(&found["search"]["highest_rate"])
    };
    let (one, two) = (find("1+1"), find("2+2"));
    assert!(two > 1.5 * one, "{one} {two}");
    let text = simulate(&home, &[&POISSON, &PRICED, &["--pools", "2+1"]]).ok();
    assert!(text.contains("2 for prompts and 1 that decode"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 120), "{text}");
    for wrong in ["2", "0+1", "1+", "1+2+3"] {
        let err = complaint(simulate(&home, &[&POISSON, &["--pools", wrong]]), 2);
        assert!(err.contains("such as 2+6"), "{err}");
    }
    // A sheet without the figure of a link.
    let sheet = home.data().with_extension("sheet");
    std::fs::write(
        &sheet,
        "accelerator cut-off\n  source a test\n  hbm_gib 80\n  hbm_gb_s 3350\n  bf16_tflops 989\n",
    )
    .unwrap();
    let lone = ["--sheet", sheet.to_str().unwrap(), "--gpu", "cut-off"];
    let base = ["simulate", "--model", "llama-3.1-8b", "--pools", "1+1"];
    let err = complaint(home.run(&[&base[..], &lone, &POISSON].concat()), 1);
    assert!(err.contains("link_gb_s") && err.contains("--pool-link"), "{err}");
}

#[test]
fn replicas_are_started_and_stopped_by_need() {
    let home = Home::new("");
    // Hardly anything for a quarter of an hour, then more than a replica serves, then hardly anything.
    let trace = home.data().with_extension("csv");
    let calm = |from: u32| (from..from + 900).step_by(30).map(f64::from);
    let busy = (0..4800_u32).map(|n| 900.0 + f64::from(n) / 8.0);
    let times = calm(0).chain(busy).chain(calm(1500));
    let rows: String = times.map(|at| format!("{at},3000,300\n")).collect();
    std::fs::write(&trace, format!("at,in,out\n{rows}")).unwrap();
    let file = ["--trace", trace.to_str().unwrap(), "--columns", "time=at,in=in,out=out"];
    let run = |more: &[&str]| simulate(&home, &[&file, &PRICED, &["--json"], more]).json();
    let needed = ["--autoscale", "1..6", "--cold-start", "90s", "--target-load", "16"];
    let (fixed, scaled) = (run(&["--replicas", "6"]), run(&needed));
    let by_need = &scaled["autoscale"];
    let mean = number(&by_need["mean_replicas"]);
    assert!((1.1..4.0).contains(&mean) && count(&by_need["started"]) > 2, "{by_need}");
    assert!(scaled["setup"]["replicas"].is_null() && fixed["autoscale"].is_null());
    assert_eq!(scaled["tokens"]["output"], fixed["tokens"]["output"]);
    let total = |run: &Value| count(&run["gpu_time"]["total"]["gpu_ps"]);
    assert!((total(&scaled) as f64 / count(&scaled["span_ps"]) as f64 - mean).abs() < 1e-3);
    assert!(2 * total(&scaled) < total(&fixed));
    // Each start is paid for.
    let starts = count(&by_need["started"]) - 1;
    assert_eq!(count(&by_need["starting_gpu_ps"]), starts * 90_000_000_000_000);
    // Who comes while others start waits.
    let p99 = |run: &Value| count(&run["latency"]["ttft"]["p99_ns"]);
    assert!(p99(&scaled) > 2 * p99(&fixed), "{}", scaled["latency"]);
    let at_once = run(&["--autoscale", "1..6", "--cold-start", "1s", "--target-load", "16"]);
    assert!(p99(&at_once) < p99(&scaled), "{}", at_once["latency"]);
    let text = simulate(&home, &[&file, &PRICED, &needed[..4]]).ok();
    assert!(text.contains("1 to 6 replicas") && text.contains("GPUs in the mean"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 120), "{text}");
    let err = complaint(simulate(&home, &[&file, &["--autoscale", "1..6"]]), 2);
    assert!(err.contains("--cold-start"), "{err}");
    for wrong in ["6", "0..2", "3..2"] {
        let more = ["--autoscale", wrong, "--cold-start", "1s"];
        let err = complaint(simulate(&home, &[&file, &more]), 2);
        assert!(err.contains("such as 1..8"), "{err}");
    }
}

#[test]
fn a_trace_is_played_and_its_rate_scaled() {
    let home = Home::new("");
    let trace = home.data().with_extension("csv");
    let rows: String = (0..200)
        .map(|n| format!("2023-11-16 18:{:02}:{:02}.5,{},40\n", n / 60, n % 60, 100 + n))
        .collect();
    std::fs::write(&trace, HEADER.to_owned() + &rows).unwrap();
    let file = trace.to_str().unwrap();
    let run = |more: &[&str]| simulate(&home, &[&["--trace", file, "--json"], more]).json();
    let (plain, fast, few) = (run(&[]), run(&["--scale", "2.5"]), run(&["--requests", "50"]));
    assert_eq!(count(&plain["tokens"]["input"]), 200 * 100 + 199 * 100);
    assert_eq!(plain["offered"]["per_second"], "1.000000");
    assert_eq!(fast["offered"]["per_second"], "2.500000");
    assert_eq!(count(&few["requests"]["completed"]), 50);
    assert!(
        count(&fast["gpu_time"]["idle"]["gpu_ps"]) < count(&plain["gpu_time"]["idle"]["gpu_ps"])
    );
}

#[test]
fn other_formats_and_parts_of_a_trace_are_played() {
    let home = Home::new("");
    let trace = home.data().with_extension("csv");
    let file = trace.to_str().unwrap().to_owned();
    let run = |text: &str, more: &[&str]| {
        std::fs::write(&trace, text).unwrap();
        simulate(&home, &[&["--trace", &file], more])
    };
    let rows: String =
        (0..60).map(|n| format!("{n},ChatGPT,{},{},0,API log\n", 100 + n, n % 10)).collect();
    let burst =
        format!("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{rows}");
    let json = run(&burst, &["--json"]).json();
    assert_eq!(
        (count(&json["requests"]["completed"]), &json["offered"]["format"]),
        (54, &"BurstGPT".into())
    );
    assert_eq!(count(&json["offered"]["left_out_requests"]), 6);
    let text = run(&burst, &["--replicas", "2"]).ok();
    assert!(text.contains("(BurstGPT), without 6 that had no reply"), "{text}");
    // From the 11th second to the 31st, and what failed there is left out too.
    let json = run(&burst, &["--from", "11s", "--until", "31s", "--json"]).json();
    assert_eq!(count(&json["requests"]["completed"]), 18);
    assert_eq!(json["offered"]["part"], "from 11 s to 31 s");
    let told = complaint(run(&burst, &["--from", "31s", "--until", "11s"]), 1);
    assert!(told.contains("--from is not before --until"), "{told}");
    let own = "id,reply,when,prompt\na,7,1700000000500,12\nb,9,1700000001500,13\n";
    let columns = ["--columns", "time=when,in=prompt,out=reply,unit=ms"];
    let json = run(own, &[&columns[..], &["--json"]].concat()).json();
    assert_eq!(
        (count(&json["tokens"]["input"]), &json["offered"]["per_second"]),
        (25, &"1.000000".into())
    );
    assert!(complaint(run(own, &[]), 1).contains("or to be told the columns"));
    assert!(complaint(run(own, &["--columns", "time=when"]), 2).contains("expected all of"));
    // Prompts that begin alike.
    let rows: String = (0..20)
        .map(|n| format!("{{\"timestamp\": {}, \"input_length\": 1024, \"output_length\": 5, \"hash_ids\": [7, {n}]}}\n", n * 1000))
        .collect();
    let json = run(&rows, &["--json"]).json();
    assert_eq!(
        (&json["offered"]["format"], count(&json["tokens"]["cached_input"])),
        (&"Mooncake".into(), 19 * 512)
    );
    assert_eq!(
        count(&run(&rows, &["--no-prefix-caching", "--json"]).json()["tokens"]["cached_input"]),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_metered_is_a_workload() {
    // 4 bytes of text are a token. Of the last reply nothing is known, of the one before usage is estimated.
    let reply = |usage: &str| {
        json(&format!(
            "{{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"abcd\"}},\
             \"finish_reason\":\"stop\"}}]{usage}}}"
        ))
    };
    let usage = |input: u32, output: u32, cached: u32| {
        reply(&format!(
            ",\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\
             \"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}}}"
        ))
    };
    let replies = [usage(500, 30, 0), usage(800, 20, 448), usage(7, 9, 0), reply(""), json("abcd")];
    let replies = std::sync::Mutex::new(replies.into_iter());
    let script = move |_: &_| vec![Act::Send(replies.lock().unwrap().next().unwrap())];
    let server = Scripted::start(script).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let said = |role: &str, letter: &str, tokens: usize| {
        format!("{{\"role\":\"{role}\",\"content\":\"{}\"}}", letter.repeat(4 * tokens))
    };
    let [system, first] = [said("system", "s", 400), said("user", "u", 100)];
    let second = [said("assistant", "a", 30), said("user", "v", 270)].join(",");
    for (route, messages) in [
        ("chat", format!("{system},{first}")),
        ("chat", format!("{system},{first},{second}")),
        ("other", said("user", "o", 7)),
        ("chat", said("user", "x", 7)),
        ("chat", said("user", "y", 7)),
    ] {
        let call = Call::chat(format!("{{\"model\":\"m\",\"messages\":[{messages}]}}"));
        call.with("x-farthing-route", route).send(&gateway).await;
    }
    home.once_settled(5).await;
    gateway.stop().await;

    let config = home.config();
    let place = ["--from-ledger", "--config", config.to_str().unwrap(), "--json"];
    let run = |more: &[&str]| simulate(&home, &[&place, more]);
    let all = run(&[]).json();
    assert_eq!(
        [&all["requests"]["completed"], &all["tokens"]["input"], &all["tokens"]["output"]],
        [4, 500 + 800 + 7 + 7, 30 + 20 + 9 + 1]
    );
    let ledger = &all["offered"]["ledger"];
    assert_eq!((count(&ledger["unknown_usage"]), count(&ledger["estimated_requests"])), (1, 1));
    // The second turn begins with all of the first.
    let chat = run(&["--route", "chat"]).json();
    assert_eq!(count(&chat["tokens"]["input"]), 1307);
    assert_eq!(count(&chat["tokens"]["cached_input"]), 500 / 16 * 16);
    let ledger = &chat["offered"]["ledger"];
    assert_eq!(count(&ledger["cached_input_tokens_told"]), 448);
    assert_eq!((&ledger["route"], &ledger["unknown_usage"]), (&"chat".into(), &1.into()));
    let plain = run(&["--route", "chat", "--no-prefix-caching"]).json();
    assert_eq!(count(&plain["tokens"]["cached_input"]), 0);
    assert_eq!(count(&run(&["--since", "1h"]).json()["requests"]["completed"]), 4);
    assert!(complaint(run(&["--until", "1h"]), 1).contains("nothing in that period"));
    let told = complaint(run(&["--route", "chats"]), 1);
    assert!(told.contains("nothing of route `chats`") && told.contains("chat, other"), "{told}");
    assert!(complaint(run(&["--until", "soon"]), 2).contains("`soon`"));
    let text = simulate(&home, &[&place[..3], &["--scale", "2"]]).ok();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "from the ledger, without 1, whose usage is unknown",
        "told 34.1% of the input as cached",
        "2 times as fast",
    ] {
        assert!(words.contains(part), "{part}: {text}");
    }
}

#[test]
fn requests_are_drawn_from_tables_of_clients() {
    let home = Home::new("");
    let folder = home.data().with_extension("clients");
    std::fs::create_dir(&folder).unwrap();
    let client = |number: u32, rates: &str| {
        std::fs::write(folder.join(format!("chunk-{number}-trace.csv")), rates).unwrap();
        let lengths = "{\"0\": {\"input_tokens\": \"{200: 1.0}\", \"output_tokens\": \"{10: 0.5, 30: 0.5}\"}}";
        std::fs::write(folder.join(format!("chunk-{number}-dataset.json")), lengths).unwrap();
    };
    client(0, "0,1,1.5,Gamma,0.44,2.2\n600,0.5,2,Weibull,0.6,1.3\n");
    client(10, "0,0,0,,0,0\n600,0.1,1,Gamma,1,10\n");
    let run = |file: &std::path::Path, more: &[&str]| {
        simulate(&home, &[&["--trace", file.to_str().unwrap()], more])
    };
    let json = run(&folder, &["--json"]).json();
    assert_eq!(count(&json["requests"]["completed"]), 600 + 300 + 60);
    assert_eq!(count(&json["tokens"]["input"]), 960 * 200);
    let offered = &json["offered"];
    assert_eq!((&offered["format"], &offered["seed"]), (&"ServeGen".into(), &1.into()));
    assert_eq!(json, run(&folder, &["--json", "--seed", "1"]).json());
    let other = run(&folder, &["--json", "--seed", "2"]).json();
    assert_eq!(other["requests"]["completed"], json["requests"]["completed"]);
    assert_ne!(other["latency"], json["latency"]);
    // One client alone, and a part of its day.
    let one = folder.join("chunk-0-trace.csv");
    let json = run(&one, &["--json", "--from", "10m"]).json();
    assert!(count(&json["requests"]["completed"]).abs_diff(300) < 5, "{}", json["requests"]);
    let text = run(&one, &["--seed", "7"]).ok();
    assert!(text.contains("(ServeGen), drawn with seed 7"), "{text}");
    std::fs::remove_file(folder.join("chunk-10-dataset.json")).unwrap();
    let told = complaint(run(&folder, &[]), 1);
    assert!(told.contains("chunk-10-dataset.json") && told.contains("in two files"), "{told}");
    client(10, "0,1,1,Pareto,1,1\n");
    let told = complaint(run(&folder, &[]), 1);
    assert!(
        told.contains("chunk-10-trace.csv") && told.contains("line 1: expected `Gamma`"),
        "{told}"
    );
    let trace = home.data().with_extension("csv");
    std::fs::write(&trace, format!("{HEADER}2023-11-16 18:15:46,1,1\n")).unwrap();
    assert!(complaint(run(&trace, &["--seed", "2"]), 1).contains("nothing in"));
}

#[test]
fn the_rate_follows_the_day_and_sessions_grow() {
    let home = Home::new("");
    let run = |more: &[&str]| simulate(&home, &[&["--in", "100", "--out", "20"], more]);
    let json = run(&["--rate", "0.1", "--diurnal", "5@9", "--seed", "2", "--json"]).json();
    // A day of them.
    assert_eq!(count(&json["requests"]["completed"]), 8640);
    let offered = &json["offered"];
    assert_eq!((&offered["peak_to_floor"], &offered["peak_hour"]), (&"5".into(), &"9".into()));
    assert!((number(&offered["per_second"]) / 0.1 - 1.0).abs() < 0.05, "{offered}");
    let text = run(&["--rate", "0.1", "--diurnal", "5"]).ok();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains("a day's peak at 14 h 5 times its floor"), "{text}");

    let sessions = ["--rate", "2", "--sessions", "4,30s", "--requests", "4,000"];
    let json = run(&[&sessions[..], &["--json"]].concat()).json();
    // Turns of 100, 220, 340 and 460 tokens; each finds the blocks of the one before, and no reply.
    let mean = count(&json["tokens"]["input"]) as f64 / 4000.0;
    assert!((mean - 280.0).abs() < 6.0, "{mean}");
    let cached = count(&json["tokens"]["cached_input"]) as f64 / 4000.0;
    let full = f64::from(100 / 16 * 16 + 220 / 16 * 16 + 340 / 16 * 16) / 4.0;
    assert!((cached - full).abs() < 8.0 && cached <= full + 4.0, "{cached} of {full}");
    assert_eq!(
        (&json["offered"]["turns"], count(&json["offered"]["between_turns_ns"])),
        (&4.into(), 30_000_000_000)
    );
    let plain = run(&[&sessions[..], &["--no-prefix-caching", "--json"]].concat()).json();
    assert_eq!(count(&plain["tokens"]["cached_input"]), 0);
    let text = run(&sessions).ok();
    assert!(words(&text).contains("in sessions of 4 turns, in the mean 30.0 s apart"), "{text}");
    let found =
        run(&["--sessions", "4,30s", "--diurnal", "3", "--find-rate", "--ttft", "500ms", "--json"])
            .json();
    assert!(number(&found["search"]["highest_rate"]) > 10.0, "{}", found["search"]);
    for (wrong, told) in
        [(["--diurnal", "0.5"], "peak to floor"), (["--sessions", "4"], "turns and a time")]
    {
        let err = complaint(run(&[&["--rate", "1"], &wrong[..]].concat()), 2);
        assert!(err.contains(told), "{err}");
    }
}

#[test]
fn several_gpus_are_ranked_by_the_token() {
    let home = Home::new("");
    let setup = ["simulate", "--model", "llama-3.1-8b", "--gpu", "l40s,h100,a100"];
    let shape =
        ["--in", "2k", "--out", "500", "--requests", "1,000", "--find-rate", "--tpot", "40ms"];
    let with = |more: &[&str]| home.run(&[&setup[..], &shape, more].concat());
    let text = with(&["--gpu-hour", "0.9,2.69,1.6"]).ok();
    assert!(
        text.contains("USD per useful") && text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
    let json = with(&["--gpu-hour", "2", "--json"]).json();
    let costs: Vec<f64> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|run| number(&run["gpu_time"]["modelled_usd_per_useful_output_mtok"]))
        .collect();
    assert!(costs.len() == 3 && costs.is_sorted(), "{costs:?}");
    assert!(complaint(with(&["--gpu-hour", "1,2"]), 1).contains("2 prices for 3 GPUs"));
    assert!(complaint(with(&["--html", "x.html"]), 1).contains("are of one GPU"));
}

#[test]
fn a_page_is_written_beside_the_table() {
    let home = Home::new("");
    let file = home.data().with_extension("html");
    let page = ["--html", file.to_str().unwrap()];
    let text = simulate(&home, &[&POISSON, &PRICED, &page]).ok();
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("requests completed") && page.starts_with("<!doctype html>"), "{text}");
    assert!(page.contains("Latency against load") && !page.contains("<script"), "{page}");
    let nowhere = ["--html", "/nowhere/at/all.html"];
    let told = simulate(&home, &[&POISSON, &nowhere]);
    assert!(told.err.contains("cannot write /nowhere/at/all.html"), "{}", told.err);
}

#[test]
fn a_bad_line_of_a_trace_is_named() {
    let home = Home::new("");
    let trace = home.data().with_extension("csv");
    let file = trace.to_str().unwrap().to_owned();
    let told = |text: &[u8], more: &[&str]| {
        std::fs::write(&trace, text).unwrap();
        complaint(simulate(&home, &[&["--trace", &file], more]), 1)
    };
    let good = "2023-11-16 18:15:46.68,374,44\n";
    let with = |line: &str| format!("{HEADER}{good}{line}\n{good}").into_bytes();
    for (line, what) in [
        ("2023-11-16 18:15:45,1,1", "a time that is not before"),
        ("2023-11-16 18:15:47,-3,1", "a whole number of tokens, found `-3`"),
        ("2023-11-16 18:15:47,NaN,1", "found `NaN`"),
        ("2023-11-16 18:1", "three cells"),
        ("2023-11-16 18:15:47,5,0", "at least one token of a prompt and one of a reply"),
        (&"9".repeat(1 << 22), "less than 4 MiB"),
    ] {
        // Whoever serves the line says so, also one of several.
        for replicas in ["1", "3"] {
            let told = told(&with(line), &["--replicas", replicas]);
            let place = format!("{file}: line 3: expected ");
            assert!(told.contains(&place) && told.contains(what), "{line}: {told}");
        }
    }
    assert!(
        told(&[HEADER.as_bytes(), b"\xff\n"].concat(), &[])
            .contains("line 2: expected a line of UTF-8")
    );
    assert!(told(HEADER.as_bytes(), &[]).contains(&format!("no requests in {file}")));
    assert!(told(b"", &[]).contains(&format!("no requests in {file}")));
    assert!(told(b"time,in,out\n", &[]).contains("line 1: expected the header"));
    // A time beyond all clocks is told, also if it is stretched.
    let far = format!("t,i,o\n0,9,9\n{},9,9\n", u64::MAX);
    for scale in ["1", "0.001"] {
        let columns = ["--columns", "time=t,in=i,out=o", "--scale", scale];
        let told = told(far.as_bytes(), &columns);
        assert!(told.contains("expected at most 213 days"), "{told}");
    }
    // A prompt of 10 million tokens is a request like others, which no engine takes.
    std::fs::write(&trace, with("2023-11-16 18:15:46.7,10000000,5").split_off(0)).unwrap();
    let text = format!("{HEADER}{good}2023-11-16 18:15:47,10000000,5\n");
    std::fs::write(&trace, text).unwrap();
    let json = simulate(&home, &[&["--trace", &file, "--json"]]).json();
    assert_eq!(
        (count(&json["requests"]["completed"]), count(&json["requests"]["too_long"])),
        (1, 1)
    );
    let missing = complaint(simulate(&home, &[&["--trace", "no.csv"]]), 1);
    assert!(missing.contains("cannot read no.csv"), "{missing}");
}

#[test]
fn an_unknown_name_tells_those_that_are_near() {
    let home = Home::new("");
    let run = |model: &str, gpu: &str, engine: &str| {
        let setup = ["simulate", "--model", model, "--gpu", gpu, "--engine", engine];
        complaint(home.run(&[&setup[..], &POISSON].concat()), 1)
    };
    let told = run("llama-3.1-9b", "h100", "vllm");
    assert!(
        told.contains("--model: unknown model `llama-3.1-9b`; did you mean `llama-3.1-8b`"),
        "{told}"
    );
    let told = run("llama-3.1-8b", "h1000", "vllm");
    assert!(told.contains("unknown GPU `h1000`; did you mean `h100-"), "{told}");
    let told = run("llama-3.1-8b", "h100", "quill-and-ink");
    assert!(told.contains("unknown engine `quill-and-ink`; known are `vllm`"), "{told}");
    let told = run("no-such/config.json", "h100", "vllm");
    assert!(told.contains("cannot read no-such/config.json"), "{told}");
}

#[test]
fn a_model_that_does_not_fit_says_what_is_missing_and_what_would_fit() {
    let home = Home::new("");
    let setup = ["simulate", "--model", "llama-3.1-70b", "--gpu", "h100"];
    let told = complaint(home.run(&[&setup[..], &POISSON].concat()), 1);
    // 70.6 billion weights of 2 bytes are 131.4 GiB, of which 72 can be used.
    for part in ["does not fit", "GiB are missing", "`--tp 4`", "`--weights int4`", "`--gpu "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let fits = [&setup[..], &POISSON, &["--tp", "4", "--json"]].concat();
    let json = home.run(&fits).json();
    assert_eq!(count(&json["gpu_time"]["total"]["gpu_ps"]), 4 * count(&json["span_ps"]));
    assert_eq!(count(&json["setup"]["gpus"]), 4);
}

/// Nobody who names an 8-bit model gets the prediction of one in 16 bits.
#[test]
fn weights_are_kept_as_the_name_says_or_as_the_model_is_published() {
    let home = Home::new("");
    let run = |model: &str, gpu: &str, more: &[&str]| {
        let setup = ["simulate", "--model", model, "--gpu", gpu, "--json"];
        let json = home.run(&[&setup[..], &POISSON, more].concat()).json();
        (json["setup"]["weights"].clone(), json["setup"]["experts"].clone())
    };
    assert_eq!(run("Qwen/Qwen3-32B", "h100", &[]).0, "bf16");
    assert_eq!(run("Qwen/Qwen3-32B-FP8", "h100", &[]).0, "fp8");
    assert_eq!(run("Qwen/Qwen3-32B-FP8", "h100", &["--weights", "bf16"]).0, "bf16");
    // Where nothing multiplies 8-bit floats they are only kept.
    assert_eq!(run("Qwen/Qwen3-32B-FP8", "a100", &[]).0, "int8");
    // It is published so that it fits.
    assert_eq!(run("gpt-oss-120b", "h100", &[]), ("bf16".into(), "mxfp4".into()));
    let config = home.data().with_file_name("config.json");
    let llama = r#"{"model_type":"llama","num_hidden_layers":32,"hidden_size":4096,"vocab_size":128256,
        "num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,"max_position_embeddings":131072,
        "quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}"#;
    std::fs::write(&config, llama).unwrap();
    assert_eq!(run(config.to_str().unwrap(), "h100", &[]).0, "fp8-block");
}

#[test]
fn a_replica_is_split_in_every_way_that_engines_know() {
    let home = Home::new("");
    let run = |model: &str, more: &[&str]| {
        let setup = ["simulate", "--model", model, "--gpu", "h200"];
        home.run(&[&setup[..], &POISSON, more].concat())
    };
    let layout = |model: &str, split: &[&str]| {
        let json = run(model, &[split, &["--json"]].concat()).json();
        let setup = &json["setup"];
        let names = ["tensor", "pipeline", "data", "expert"];
        let ranks = names.map(|name| count(&setup[format!("{name}_parallel")]));
        assert_eq!(count(&setup["gpus"]), ranks[0] * ranks[1] * ranks[2]);
        (ranks, json)
    };
    let (ranks, wide) = layout("deepseek-r1", &["--dp", "8", "--ep", "8"]);
    assert_eq!(ranks, [1, 1, 8, 8]);
    let (ranks, narrow) = layout("deepseek-r1", &["--tp", "8"]);
    assert_eq!(ranks, [8, 1, 1, 1]);
    // Each of eight groups runs as many as one that is alone; latent attention copies no cache between them.
    assert_eq!(count(&wide["setup"]["max_num_seqs"]), 8 * count(&narrow["setup"]["max_num_seqs"]));
    assert!(count(&wide["setup"]["kv_cache_tokens"]) > count(&narrow["setup"]["kv_cache_tokens"]));
    let (ranks, _) = layout("llama-3.1-405b", &["--tp", "4", "--pp", "2", "--weights", "fp8"]);
    assert_eq!(ranks, [4, 2, 1, 1]);
    // Lines end where the terminal does.
    let text = run("deepseek-r1", &["--dp", "8", "--ep", "8"]).ok().replace('\n', " ");
    assert!(text.contains("split tp 1, dp 8, ep 8"), "{text}");
    let told = complaint(run("llama-3.1-70b", &["--tp", "4", "--ep", "4"]), 1);
    assert!(told.contains("`expert`: expected 1, as the model has no experts, found 4"), "{told}");
}

/// 700 W for every second of each GPU: what a token takes is what its class caused.
#[test]
fn energy_is_the_power_of_the_gpus_for_the_time_that_tokens_take() {
    let home = Home::new("");
    let json = simulate(&home, &[&POISSON, &["--json"]]).json();
    let (energy, time) = (&json["energy"], &json["gpu_time"]);
    let joules = |part: &str| count(&time[part]["gpu_ps"]) as f64 / 1e12 * 700.0;
    assert_eq!(number(&energy["watts_per_gpu"]), 700.0);
    assert!((number(&energy["joules"]) / joules("total") - 1.0).abs() < 1e-6, "{energy}");
    let output = joules("output") / count(&json["tokens"]["output"]) as f64;
    assert!((number(&energy["joules_per_output_token"]) / output - 1.0).abs() < 1e-4, "{energy}");
    let text = simulate(&home, &[&POISSON]).ok();
    assert!(text.contains("Energy at most ") && text.contains(" its 700 W all the time"), "{text}");
}

#[test]
fn own_sheets_and_a_config_json_are_taken() {
    let home = Home::new("");
    let path = |name: &str| home.data().with_file_name(name).to_str().unwrap().to_owned();
    let (sheet, config) = (path("own.txt"), path("config.json"));
    let accelerator = "accelerator mine\n  source a data sheet\n  hbm_gib 48\n  hbm_gb_s 1000\n  bf16_tflops 200\n";
    std::fs::write(&sheet, accelerator).unwrap();
    let llama = r#"{"model_type":"llama","num_hidden_layers":32,"hidden_size":4096,"vocab_size":128256,
        "num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,
        "max_position_embeddings":131072,"tie_word_embeddings":false}"#;
    std::fs::write(&config, llama).unwrap();
    let run = |model: &str| {
        let setup = ["simulate", "--model", model, "--gpu", "mine", "--sheet", &sheet, "--json"];
        home.run(&[&setup[..], &POISSON].concat()).json()
    };
    let (own, carried) = (run(&config), run("llama-3.1-8b"));
    assert_eq!(own["latency"], carried["latency"]);
    assert_eq!(own["certainty"]["basis"], "generic");
    std::fs::write(&sheet, "accelerator mine\n  hbm_gib 48\n").unwrap();
    let setup = ["simulate", "--model", "llama-3.1-8b", "--gpu", "mine", "--sheet", &sheet];
    let told = complaint(home.run(&[&setup[..], &POISSON].concat()), 1);
    assert!(told.contains("own.txt, line 2: `hbm_gib` has no source"), "{told}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let home = Home::new("");
    for (more, what) in [
        (&["--rate", "0", "--in", "1", "--out", "1"][..], "0.000001 to 1000000"),
        (&["--rate", "NaN", "--in", "1", "--out", "1"], "0.000001 to 1000000"),
        (&["--rate", "1", "--in", "0", "--out", "1"], "at least 1"),
        (&["--rate", "1", "--in", "1"], "--out"),
        (&["--in", "1", "--out", "1", "--find-rate=99"], "such as `p99`"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--find-rate"], "cannot be used with"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--trace", "x"], "cannot be used with"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--gpu-hour=-2"], "US dollars above 0"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--gpu-hour", "inf"], "US dollars above 0"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--weights", "fp3"], "unknown format `fp3`"),
        (&["--rate", "1", "--in", "1", "--out", "1", "--ttft", "soon"], "500ms"),
        (&[], "--trace"),
    ] {
        let told = complaint(simulate(&home, &[more]), 2);
        assert!(told.contains(what), "{more:?}: {told}");
    }
    let few = ["--max-num-seqs", "4000", "--max-num-batched-tokens", "100"];
    let told = complaint(simulate(&home, &[&POISSON, &few]), 1);
    assert!(
        told.contains("max_num_batched_tokens") && told.contains("at least max_num_seqs"),
        "{told}"
    );
    let told = complaint(simulate(&home, &[&POISSON, &["--max-model-len", "900k"]]), 1);
    assert!(told.contains("invalid `--max-model-len`: expected at most 131072"), "{told}");
    let told = complaint(simulate(&home, &[&POISSON, &["--tp", "3"]]), 1);
    assert!(told.contains("a divisor of 32 heads"), "{told}");
}

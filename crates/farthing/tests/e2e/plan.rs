//! `farthing plan`: scenarios that ship, those of one's own, and what is said of wrong ones.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::Call;
use crate::home::{Home, both};
use crate::scripted::{Scripted, json};

fn example(name: &str) -> String {
    let file = Path::new("../../examples").join(format!("{name}.toml"));
    file.canonicalize().unwrap().display().to_string()
}

/// A file beside the configuration.
pub(crate) fn beside(home: &Home, name: &str) -> PathBuf {
    home.config().with_file_name(name)
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("a decimal text: {value}")).parse().unwrap()
}

/// Every key of a JSON value.
pub(crate) fn keys(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.push(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn the_examples_are_answered_and_their_parts_add_up() {
    let home = Home::new("");
    let known = include_str!("../../../../docs/json.md");
    for name in ["support-chat", "agent", "rag", "nightly-batch"] {
        let json = home.run(&["plan", &example(name), "--json"]).json();
        assert_eq!(json["schema"], "farthing.plan/1");
        let lanes = json["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), 3, "{name}: {}", json["ruled_out"]);
        for lane in lanes {
            let months = lane["months"].as_array().unwrap();
            for month in months {
                let parts = month["parts"].as_array().unwrap();
                let sum: f64 = parts.iter().map(|part| number(&part["modelled_usd"])).sum();
                let bill = number(&month["modelled_usd"]);
                assert!(bill > 0.0 && (sum - bill).abs() < 1e-4, "{name}: {sum} {bill}");
            }
            let grown: f64 = lane["growth"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| number(&part["modelled_usd"]))
                .sum();
            let bills = [months.first(), months.last()]
                .map(|month| number(&month.unwrap()["modelled_usd"]));
            assert!((grown - (bills[1] - bills[0])).abs() < 1e-4, "{name}: {grown}");
            if let Some(own) = lane["own"].as_object() {
                let items = own["hour"].as_array().unwrap();
                let sum: f64 = items.iter().map(|item| number(&item["modelled_usd"])).sum();
                assert!(
                    (sum - number(&own["modelled_usd_per_hour"])).abs() < 1e-4,
                    "{name}: {sum}"
                );
                assert_eq!(own["week"].as_array().unwrap().len(), 168);
            }
        }
        let saves = |lever: &Value| {
            let savings = lever["lanes"].as_array().unwrap().iter();
            savings
                .filter(|lane| !lane["saved_share"].is_null())
                .map(|lane| number(&lane["saved_share"]))
                .fold(0.0, f64::max)
        };
        let levers = json["levers"].as_array().unwrap();
        assert!(levers.iter().all(|lever| saves(lever) > 0.0), "{name}: {}", json["levers"]);
        let of_lever = |what: &str| levers.iter().any(|lever| lever["lever"] == what);
        assert!(
            of_lever("trim the prompt") && of_lever("cap the output"),
            "{name}: {}",
            json["levers"]
        );
        assert_eq!(of_lever("the batch lane for some"), name != "nightly-batch", "{name}");
        assert_eq!(of_lever("fewer steps per task"), name == "agent", "{name}");
        let mut found = Vec::new();
        keys(&json, &mut found);
        for key in found {
            assert!(
                known.contains(&format!("`{key}`")),
                "`{key}` of {name} is not in docs/json.md"
            );
        }
        let file = beside(&home, "page.html");
        let html = file.display().to_string();
        let text = home.run(&["plan", &example(name), "--html", &html]).ok();
        let assumed = text.find("What is assumed").unwrap();
        assert!(assumed < text.find("What it costs").unwrap(), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let page = std::fs::read_to_string(&file).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains("What is assumed"), "{page}");
        assert!(page.matches("<svg").count() >= 3, "{page}");
        for sure in ["What would save", "How sure", "What matters most"] {
            assert!(text.contains(sure) && page.contains(sure), "{sure}: {text}");
        }
        assert!(page.contains("class=\"track\""), "{page}");
        for loads in ["src=", "<script", "@import", "url("] {
            assert!(!page.contains(loads), "{loads}: {page}");
        }
    }
}

#[test]
fn a_seed_names_the_draws_and_the_lanes_share_the_probability_of_being_the_cheapest() {
    let home = Home::new("");
    let drawn = |seed: &str| {
        let draws = ["--draws", "300", "--seed", seed];
        let json = home.run(&[&["plan", &example("support-chat"), "--json"], &draws[..]].concat());
        json.json()["outlook"].take()
    };
    let one = drawn("7");
    assert_eq!(one, drawn("7"));
    assert_ne!(one, drawn("8"));
    assert_eq!((&one["draws"], &one["seed"]), (&300.into(), &7.into()));
    let ways = one["ways"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> Value| ways.iter().map(|way| number(&of(way))).sum::<f64>();
    assert!((sum(&|way| way["cheapest_probability"].clone()) - 1.0).abs() < 1e-5, "{one}");
    let of_last = |way: &Value| way["months"].as_array().unwrap().last().unwrap().clone();
    assert!((sum(&|way| of_last(way)["cheapest_probability"].clone()) - 1.0).abs() < 1e-5);
    for way in ways {
        let quantile = |name: &str| number(&way["bill"][name]);
        let [low, middle, high] =
            ["modelled_usd_p10", "modelled_usd_p50", "modelled_usd_p90"].map(quantile);
        assert!(0.0 < low && low < middle && middle < high, "{way}");
    }
    // What the scenario has as ranges, and how fast GPUs are.
    let matters = one["matters"].as_array().unwrap();
    let mut keys: Vec<&str> =
        matters.iter().map(|matter| matter["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["growth.users", "serving model", "tokens.answer"]);
    let few = home.run(&["plan", &example("support-chat"), "--draws", "99"]);
    assert!(few.code == Some(2) && few.err.contains("100..=100000"), "{}", few.err);
}

#[test]
fn a_support_chat_of_fifty_thousand_conversations_a_day_costs_what_its_list_prices_say() {
    let home = Home::new("");
    let file = scenario(
        &home,
        "start = \"2026-11-01\"\nmonths = 1\n[demand]\ntasks = \"50,000/day\"\n[tokens]\ninput = \"2,000\"\nanswer = 500\n\
         [api]\nmodels = \"gpt-5-mini\"\n",
    );
    let json = home.run(&["plan", &file.display().to_string(), "--json"]).json();
    // 0.25 USD an Mtok of input and 2 of output, for 730 / 24 days.
    let exact = 50_000.0 * 730.0 / 24.0 * (2_000.0 * 0.25 + 500.0 * 2.0) / 1e6;
    let bill = number(&json["lanes"][0]["months"][0]["modelled_usd"]);
    assert!((bill - exact).abs() < 1e-4, "{bill} {exact}");
}

fn scenario(home: &Home, text: &str) -> PathBuf {
    let file = beside(home, "scenario.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn init_writes_a_scenario_once_and_it_is_the_first_example() {
    let home = Home::new("");
    let file = beside(&home, "mine.toml");
    let shown = file.display().to_string();
    let ran = home.run(&["plan", &shown, "--init"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, std::fs::read_to_string(example("support-chat")).unwrap());
    let again = home.run(&["plan", &shown, "--init"]);
    assert!(again.code == Some(1) && again.err.contains("must not be there yet"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn a_wrong_scenario_is_told_file_line_and_key() {
    let home = Home::new("");
    let complaint = |text: &str| {
        let file = scenario(&home, text);
        let ran = home.run(&["plan", &file.display().to_string()]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert!(ran.err.contains("scenario.toml: "), "{}", ran.err);
        ran.err
    };
    const LEAST: &str = "[demand]\ntasks = \"5/day\"\n[tokens]\ninput = 1000\nanswer = 100\n";
    let found = complaint(&LEAST.replace("100\n", "\"lots\"\n"));
    assert!(found.contains("line 5: invalid `tokens.answer`: expected a count"), "{found}");
    let found = complaint(&format!("{LEAST}[api]\nmodels = [\"gpt-5-minii\"]\n"));
    assert!(found.contains("`api.models[0]`") && found.contains("did you mean"), "{found}");
    let gpus = "[gpus]\nmodel = \"llama-3.1-8b\"\naccelerators = [\"h100-sxn\"]\n";
    let found = complaint(&format!("{LEAST}{gpus}"));
    assert!(found.contains("`gpus.accelerators[0]`") && found.contains("h100-sxm"), "{found}");
    let ledger =
        LEAST.replace("input = 1000", "input = { from = \"ledger\", route = \"support\" }");
    let found = complaint(&format!("{ledger}[api]\nmodels = \"gpt-5-mini\"\n"));
    assert!(found.contains("line 4: invalid `tokens.input`: there is no journal"), "{found}");
    let slo = "[gpus]\nmodel = \"llama-3.1-8b\"\naccelerators = \"l40s\"\n[slo]\ntpot = \"1ms\"\n";
    let found = complaint(&format!("{LEAST}{slo}"));
    assert!(
        found.contains("the SLO cannot be met; the best, for calls that come one by one"),
        "{found}"
    );
}

#[test]
fn a_trace_tells_what_calls_are_like() {
    let home = Home::new("");
    let rows = (0..60).map(|minute| {
        format!("2026-11-16 18:{minute:02}:00,{},{}\n", 1_000, 100 + minute % 2 * 100)
    });
    let trace = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{}", rows.collect::<String>());
    std::fs::write(beside(&home, "trace.csv"), trace).unwrap();
    let from = "{ from = \"trace\", file = \"trace.csv\" }";
    let file = scenario(
        &home,
        &format!(
            "[demand]\ntasks = {from}\n[tokens]\ninput = {from}\nanswer = {from}\nspread = {from}\n\
             [api]\nmodels = \"gpt-5-mini\"\n"
        ),
    );
    let json = home.run(&["plan", &file.display().to_string(), "--json"]).json();
    let assumed = |key: &str| {
        let all = json["assumptions"].as_array().unwrap();
        let one = all.iter().find(|one| one["key"] == key).unwrap();
        assert_eq!(one["origin"], "recorded");
        number(&one["value"])
    };
    assert!((assumed("demand.tasks") - 60.0 / (59.0 / 60.0) * 730.0).abs() < 1e-3);
    assert_eq!((assumed("tokens.input"), assumed("tokens.answer")), (1_000.0, 150.0));
    assert!((assumed("tokens.spread") - 1.0 / 3.0).abs() < 1e-5);
}

#[test]
fn a_trace_of_any_format_tells_what_it_can() {
    let home = Home::new("");
    let rows = (0..60).map(|minute| {
        let reply = if minute % 5 == 0 { 0 } else { 80 };
        format!("{},ChatGPT,500,{reply},0,API log\n", minute * 60)
    });
    let header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
    std::fs::write(beside(&home, "burst.csv"), header.to_owned() + &rows.collect::<String>())
        .unwrap();
    let from = "{ from = \"trace\", file = \"burst.csv\" }";
    let text = |more: &str| {
        format!(
            "[demand]\ntasks = {from}\n[tokens]\ninput = {from}\nanswer = {from}\n{more}\n\
             [api]\nmodels = \"gpt-5-mini\"\n"
        )
    };
    let file = scenario(&home, &text(&format!("[task]\nfailures = {from}")));
    let json = home.run(&["plan", &file.display().to_string(), "--json"]).json();
    let assumed = |key: &str| {
        let all = json["assumptions"].as_array().unwrap();
        number(&all.iter().find(|one| one["key"] == key).unwrap()["value"])
    };
    assert_eq!((assumed("tokens.input"), assumed("tokens.answer")), (500.0, 80.0));
    // A fifth had no reply.
    assert!((assumed("task.failures") - 0.2).abs() < 1e-9);
    // What it does not tell is not zero.
    scenario(&home, &text(&format!("cached = {from}")));
    let err = home.run(&["plan", &file.display().to_string()]).err;
    assert!(err.contains("line 6") && err.contains("this trace does not tell it"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_metered_is_what_is_planned() {
    const REPLY: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"abcd"},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":4,"total_tokens":34}}"#;
    let server = Scripted::always(json(REPLY)).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for route in ["support", "support", "other"] {
        let call = Call::chat(r#"{"model":"m","messages":[]}"#).with("x-farthing-route", route);
        call.send(&gateway).await;
    }
    home.once_settled(3).await;
    let from =
        |route: &str| format!("{{ from = \"ledger\", route = \"{route}\", since = \"1d\" }}");
    let text = |route: &str| {
        format!(
            "months = 1\n[demand]\ntasks = \"1000/day\"\n[task]\nretries = {0}\n[tokens]\ninput = {0}\nanswer = {0}\n\
             [api]\nmodels = \"test/m\"\n",
            from(route)
        )
    };
    let file = scenario(&home, &text("support")).display().to_string();
    let json = home.run(&["plan", &file, "--json"]).json();
    // 30 tokens at 2.50 USD an Mtok and 4 at 10, a thousand times a day.
    let exact = 1_000.0 * 730.0 / 24.0 * (30.0 * 2.5 + 4.0 * 10.0) / 1e6;
    let bill = number(&json["lanes"][0]["months"][0]["modelled_usd"]);
    assert!((bill - exact).abs() < 1e-5, "{bill} {exact}");
    let table = home.run(&["plan", &file]).ok();
    assert!(table.contains("recorded, line 7"), "{table}");
    // Replies of one length have no spread.
    scenario(
        &home,
        &text("support").replace("[api]", &format!("spread = {}\n[api]", from("support"))),
    );
    let json = home.run(&["plan", &file, "--json"]).json();
    let spread = json["assumptions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["key"] == "tokens.spread")
        .unwrap();
    assert_eq!((&spread["origin"], number(&spread["value"])), (&"recorded".into(), 0.0));
    scenario(&home, &text("sales"));
    let ran = home.run(&["plan", &file]);
    assert!(ran.err.contains("the ledger has nothing of route `sales`"), "{}", ran.err);
    assert!(ran.err.contains("its routes then: ") && ran.err.contains("other"), "{}", ran.err);
}

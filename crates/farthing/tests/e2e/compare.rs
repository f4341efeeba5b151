//! `farthing compare`: the quotes that ship, one's own on what was metered, and what is said of wrong ones.

use std::path::Path;

use serde_json::Value;

use crate::client::Call;
use crate::home::{Home, both};
use crate::plan::{beside, keys, number};
use crate::scripted::{Scripted, json};

fn example() -> String {
    Path::new("../../examples/quotes.toml").canonicalize().unwrap().display().to_string()
}

fn quotes(home: &Home, text: &str) -> String {
    let file = beside(home, "quotes.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn offer<'a>(json: &'a Value, name: &str) -> &'a Value {
    let mut all = json["offers"].as_array().unwrap().iter();
    all.find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {json}"))
}

#[test]
fn the_example_is_answered_in_all_three_forms_and_adds_up() {
    let home = Home::new("");
    let file = beside(&home, "page.html").display().to_string();
    let json = home.run(&["compare", &example(), "--json"]).json();
    assert_eq!(json["schema"], "farthing.compare/1");
    let offers = json["offers"].as_array().unwrap();
    assert_eq!(offers.len(), 9, "{}", json["ruled_out"]);
    for one in offers {
        for month in one["months"].as_array().unwrap() {
            let parts = month["parts"].as_array().unwrap();
            let sum: f64 = parts.iter().map(|part| number(&part["modelled_usd"])).sum();
            let bill = number(&month["modelled_usd"]);
            assert!(bill > 0.0 && (sum - bill).abs() < 1e-4, "{}: {sum} {bill}", one["name"]);
        }
    }
    let list = offer(&json, "Mini, list");
    assert_eq!((&list["admissible"], &list["slo"]), (&Value::Bool(false), &"met_as_stated".into()));
    assert_eq!(list["terms"]["missing"][0], "region us");
    assert_eq!(offer(&json, json["cheapest"].as_str().unwrap())["admissible"], true);
    assert_eq!(json["break_even"].as_array().unwrap().len(), 2 * 4);
    let ways = json["outlook"]["ways"].as_array().unwrap();
    let admissible = offers.iter().filter(|one| one["admissible"] == true).count();
    assert_eq!(ways.len(), admissible);
    let sure: f64 = ways.iter().map(|way| number(&way["cheapest_probability"])).sum();
    assert!((sure - 1.0).abs() < 1e-5, "{sure}");
    for way in ways {
        let bill = &way["bill"];
        let ends = ["modelled_usd_p10", "modelled_usd_p50", "modelled_usd_p90"];
        let ends = ends.map(|key| number(&bill[key]));
        assert!(ends.is_sorted(), "{way}");
        // A fleet may be as large in all draws; what is paid by the token never is.
        let api = offer(&json, way["name"].as_str().unwrap())["kind"] == "api";
        assert!(!api || ends[0] < ends[2], "{way}");
    }
    let known = include_str!("../../../../docs/json.md");
    let mut found = Vec::new();
    keys(&json, &mut found);
    for key in found {
        assert!(known.contains(&format!("`{key}`")), "`{key}` is not in docs/json.md");
    }
    let text = home.run(&["compare", &example(), "--html", &file]).ok();
    let order = ["What is assumed", "What each costs", "When GPUs win", "How sure"];
    let places: Vec<_> = order.iter().map(|title| text.find(title).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.matches("<svg").count() >= 3, "{page}");
    for loads in ["src=", "<script", "@import", "url("] {
        assert!(!page.contains(loads), "{loads}: {page}");
    }
}

#[test]
fn init_writes_quotes_and_their_scenario_which_are_the_example() {
    let home = Home::new("");
    let file = beside(&home, "mine.toml");
    let shown = file.display().to_string();
    let ran = home.run(&["compare", &shown, "--init"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        std::fs::read_to_string(example()).unwrap()
    );
    assert!(ran.err.contains("support-chat.toml"), "{}", ran.err);
    // What is there already stays.
    let scenario = beside(&home, "support-chat.toml");
    let text = std::fs::read_to_string(&scenario).unwrap().replace("50,000/day", "70,000/day");
    std::fs::write(&scenario, &text).unwrap();
    let again = home.run(&["compare", &shown, "--init"]);
    assert!(again.code == Some(1) && again.err.contains("must not be there yet"), "{}", again.err);
    std::fs::remove_file(&file).unwrap();
    home.run(&["compare", &shown, "--init"]).ok();
    assert_eq!(std::fs::read_to_string(&scenario).unwrap(), text);
}

const WORKLOAD: &str = "start = \"2026-11-01\"\nmonths = 1\n[demand]\ntasks = \"50,000/day\"\n[tokens]\ninput = 2000\nanswer = 500\n";

#[test]
fn list_and_negotiated_prices_cost_what_arithmetic_says() {
    let home = Home::new("");
    let text = WORKLOAD.to_owned()
        + "[[offer]]\nname = \"list\"\nkind = \"api\"\nmodel = \"gpt-5-mini\"\n\
           [[offer]]\nname = \"batch\"\nkind = \"api\"\nmodel = \"gpt-5-mini\"\ntier = \"batch\"\n\
           [[offer]]\nname = \"less\"\nkind = \"api\"\nmodel = \"gpt-5-mini\"\ndiscount = \"20%\"\nminimum = \"2k/month\"\n";
    let json = home.run(&["compare", &quotes(&home, &text), "--json"]).json();
    // 0.25 USD an Mtok of input and 2 of output, for 730 / 24 days.
    let list = 50_000.0 * 730.0 / 24.0 * (2_000.0 * 0.25 + 500.0 * 2.0) / 1e6;
    for (name, usd) in [("list", list), ("batch", list / 2.0), ("less", 2_000.0)] {
        let found = number(&offer(&json, name)["months"][0]["modelled_usd"]);
        assert!((found - usd).abs() < 1e-4, "{name}: {found} {usd}");
        assert_eq!(offer(&json, name)["paid_to"][0]["vendor"], "openai");
    }
    assert_eq!(json["cheapest"], "batch");
    let per = number(&offer(&json, "list")["modelled_usd_per_1k_exchanges"]);
    assert!((per - 1.5).abs() < 1e-6, "{per}");
}

#[test]
fn wrong_quotes_are_told_file_line_and_key() {
    let home = Home::new("");
    let complaint = |text: &str| {
        let ran = home.run(&["compare", &quotes(&home, text)]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert!(ran.err.contains("quotes.toml: "), "{}", ran.err);
        ran.err
    };
    let api = "[[offer]]\nname = \"A\"\nkind = \"api\"\nmodel = \"gpt-5-minii\"\n";
    let found = complaint(&format!("{WORKLOAD}{api}"));
    assert!(found.contains("line 8: invalid `offer[0].model`"), "{found}");
    assert!(found.contains("did you mean"), "{found}");
    let gpus = "[[offer]]\nname = \"G\"\nkind = \"gpus\"\nmodel = \"llama-3.1-8b\"\naccelerators = [\"h100-sxn\"]\n";
    let found = complaint(&format!("{WORKLOAD}{gpus}"));
    assert!(found.contains("line 8: invalid `offer[0].accelerators[0]`"), "{found}");
    let found = complaint("scenario = \"nowhere.toml\"\n");
    assert!(found.contains("invalid `scenario`: cannot read"), "{found}");
    std::fs::write(beside(&home, "bad.toml"), "[demand]\ntasks = 5\n").unwrap();
    let ran = home.run(&["compare", &quotes(&home, &format!("scenario = \"bad.toml\"\n{api}"))]);
    assert!(ran.err.contains("bad.toml: line 2: invalid `demand.tasks`"), "{}", ran.err);
    let found = complaint(&format!("{WORKLOAD}{api}").replace("50,000/day", "lots"));
    assert!(found.contains("line 4: invalid `demand.tasks`: expected a count"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_are_compared_on_what_the_gateway_metered() {
    const REPLY: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"abcd"},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":4,"total_tokens":34}}"#;
    let server = Scripted::always(json(REPLY)).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for _ in 0..3 {
        let call = Call::chat(r#"{"model":"m","messages":[]}"#).with("x-farthing-route", "support");
        call.send(&gateway).await;
    }
    home.once_settled(3).await;
    let from = "{ from = \"ledger\", route = \"support\", since = \"1d\" }";
    let text = format!(
        "months = 1\n[demand]\ntasks = \"1000/day\"\n[tokens]\ninput = {from}\nanswer = {from}\n\
         [spend]\nfrom = \"ledger\"\nsince = \"1d\"\n\
         [[offer]]\nname = \"as it is\"\nkind = \"api\"\nmodel = \"test/m\"\n\
         [[offer]]\nname = \"other\"\nkind = \"api\"\nprices = {{ input = 1, output = 2 }}\n"
    );
    let file = quotes(&home, &text);
    let json = home.run(&["compare", &file, "--json"]).json();
    // 30 tokens at 2.50 USD an Mtok and 4 at 10, or at 1 and 2, a thousand times a day.
    let calls = 1_000.0 * 730.0 / 24.0;
    for (name, usd) in [("as it is", 30.0 * 2.5 + 4.0 * 10.0), ("other", 30.0 + 8.0)] {
        let bill = number(&offer(&json, name)["months"][0]["modelled_usd"]);
        assert!((bill - calls * usd / 1e6).abs() < 1e-5, "{name}: {bill}");
    }
    assert_eq!(json["spend"][0]["vendor"], "test");
    // Three calls in a day of the thirty and a bit of a month.
    let spent = 3.0 * (30.0 * 2.5 + 4.0 * 10.0) / 1e6 * 730.0 / 24.0;
    assert!((number(&json["spend"][0]["modelled_usd"]) - spent).abs() < 2e-6, "{}", json["spend"]);
    assert_eq!(number(&json["spend_hhi"]), 1.0);
    let table = home.run(&["compare", &file]).ok();
    assert!(table.contains("recorded, line 5") && table.contains("an HHI of 1.00"), "{table}");
}

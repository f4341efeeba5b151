//! Changes of prices, weighed with the ledger's own volume.

use std::os::unix::fs::DirBuilderExt as _;

use serde_json::Value;

use crate::client::Call;
use crate::home::{Gateway, Home, pico, upstream};
use crate::scripted::{Act, Scripted, json};

const HEAD: &str = "as_of 2026-11-01\nlicence none\norigin none\nleft_out 0\nprovider test\n";

/// Answers each request with the tokens that its last message names.
pub(crate) async fn model() -> Scripted {
    Scripted::start(|received| {
        let asked: Value = serde_json::from_slice(&received.body).unwrap();
        let input = asked["messages"][0]["content"].as_str().unwrap();
        let total = input.parse::<u64>().unwrap() + 1;
        let reply = format!(
            r#"{{"id":"c","model":{},"choices":[{{"index":0,"message":{{"content":"a"}},
            "finish_reason":"stop"}}],"usage":{{"prompt_tokens":{input},"completion_tokens":1,
            "total_tokens":{total}}}}}"#,
            asked["model"]
        );
        vec![Act::Send(json(&reply))]
    })
    .await
}

pub(crate) async fn call(gateway: &Gateway, model: &str, input: u32) {
    let body =
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{input}"}}]}}"#);
    assert_eq!(Call::chat(body).send(gateway).await.status, 200);
}

/// A price book of the data directory.
pub(crate) fn put(home: &Home, name: &str, models: &str) {
    let folder = home.data().join("prices");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.txt")), format!("book {name}\n{HEAD}{models}"))
        .unwrap();
}

fn money(value: &Value) -> i128 {
    pico(value.as_str().unwrap())
}

fn line<'a>(lines: &'a Value, model: &str) -> &'a Value {
    let found = lines.as_array().unwrap().iter().find(|line| line["model"] == model);
    found.unwrap_or_else(|| panic!("{model} in {lines}"))
}

const OLD: &str = "model m\nstandard input_uncached=2 output_text=10\n\
                   model n\nstandard input_uncached=1 output_text=4\n\
                   model gone\nstandard input_uncached=1 output_text=1\n\
                   model idle\nstandard input_uncached=1 output_text=1\n";
/// Dearer above a thousand tokens of input, `n` cheaper.
const NEW: &str = "model m\nstandard input_uncached=2,5>1000 output_text=10\n\
                   model n\nstandard input_uncached=0.5 output_text=4\n\
                   model fresh\nstandard input_uncached=3 output_text=3\n\
                   model idle\nstandard input_uncached=9 output_text=1\n";

/// A home whose ledger has traffic at prices of the book `old`.
async fn with_traffic() -> (Home, Gateway, Scripted) {
    let server = model().await;
    let home = Home::new(&upstream("openai", server.address));
    put(&home, "old", OLD);
    put(&home, "new", NEW);
    home.configure(&format!("price_books = [\"old\"]\n{}", upstream("openai", server.address)));
    let gateway = home.serve();
    for (model, input) in
        [("m", 900), ("m", 1_000), ("m", 1_001), ("m", 4_000), ("n", 7), ("gone", 5), ("fresh", 3)]
    {
        call(&gateway, model, input).await;
    }
    home.once_settled(7).await;
    (home, gateway, server)
}

/// What `m` pays more above the threshold, what `n` pays less.
const MORE: i128 = (1_001 + 4_000) * 3_000_000;
const LESS: i128 = 7 * 500_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_is_priced_before_and_after_a_change() {
    let (home, gateway, _server) = with_traffic().await;
    let diff = |more: &[&str]| home.run(&[&["price", "diff"], more].concat());
    let told = diff(&["old", "new", "--json"]).json();
    assert_eq!(told["schema"], "farthing.price_diff/1");
    assert_eq!((&told["before"]["price_book"]["name"], &told["same"]), (&"old".into(), &0.into()));
    let traffic = &told["traffic"];
    let (m, n) = (line(&traffic["lines"], "m"), line(&traffic["lines"], "n"));
    // The largest first; those below the threshold cost what they did.
    assert_eq!(traffic["lines"][0], *m);
    assert_eq!((&m["attempts"], &m["tokens"]["input_uncached"]), (&2.into(), &5_001.into()));
    assert_eq!(money(&m["before_usd"]), 5_001 * 2_000_000 + 2 * 10_000_000);
    assert_eq!(money(&m["difference_usd"]), MORE);
    assert_eq!(money(&n["difference_usd"]), -LESS);
    assert_eq!((&traffic["same_attempts"], &traffic["untouched_attempts"]), (&2.into(), &0.into()));
    assert_eq!(money(&traffic["same_usd"]), 1_900 * 2_000_000 + 2 * 10_000_000);
    // What has a price on one side alone is no difference: unknown is not nothing.
    assert_eq!(money(&traffic["total"]["difference_usd"]), MORE - LESS);
    let gone = line(&traffic["one_sided"], "gone");
    assert_eq!((money(&gone["before_usd"]), &gone["after_usd"]), (6_000_000, &Value::Null));
    let fresh = line(&traffic["one_sided"], "fresh");
    assert_eq!((&fresh["before_usd"], money(&fresh["after_usd"])), (&Value::Null, 12_000_000));
    assert!(gone["unpriced"].as_str().unwrap().contains("unknown model `gone`"), "{gone}");
    let touched = |model: &str| {
        let changes = told["changes"].as_array().unwrap();
        let of = |change: &&Value| change.to_string().contains(&format!("model={model} "));
        changes.iter().find(of).unwrap()["in_traffic"].as_bool().unwrap()
    };
    assert_eq!(["m", "n", "gone", "fresh", "idle"].map(touched), [true, true, true, true, false]);

    let text = diff(&["old", "new"]).ok();
    assert!(text.starts_with("Your traffic: $0.015000 more (+108.3%)"), "{text}");
    assert!(text.contains("1 of these touch none of your traffic; --all lists them."), "{text}");
    assert!(!text.contains("idle") && diff(&["old", "new", "--all"]).ok().contains("idle"));
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");

    // Over the book in force nothing vanishes: what the other does not have is priced as before.
    let over = diff(&["new", "--json"]).json();
    assert_eq!(
        over["before"]["price_book"]["name"].as_str().unwrap().split(" + ").next(),
        Some("old")
    );
    assert_eq!(over["traffic"]["total"], traffic["total"]);
    assert_eq!(over["traffic"]["same_attempts"], 3);
    let one_sided = over["traffic"]["one_sided"].as_array().unwrap();
    assert_eq!((one_sided.len(), &one_sided[0]["model"]), (1, &"fresh".into()));

    // Nothing of another period; nothing between a book and itself.
    let none =
        diff(&["old", "new", "--since", "2026-01-01", "--until", "2026-01-02", "--json"]).json();
    assert_eq!(none["traffic"]["total"]["attempts"], 0);
    let same = diff(&["old", "old"]).ok();
    assert!(same.starts_with("Your traffic: no difference"), "{same}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_fails_where_it_is_told_to() {
    let (home, gateway, _server) = with_traffic().await;
    let fails = |book: &str, percent: &str| {
        let ran = home.run(&["price", "diff", book, "--fail-above", percent]);
        assert!(ran.out.starts_with("Your traffic: "), "{}", ran.err);
        (ran.code, ran.err)
    };
    // It costs $0.0149995 more than $0.013859.
    assert_eq!(fails("new", "109%"), (Some(0), String::new()));
    let (code, err) = fails("new", "107");
    assert_eq!(
        (code, err.trim()),
        (Some(1), "farthing: your traffic gets dearer by more than 107%")
    );
    let ran = home.run(&["price", "diff", "old", "new", "--fail-above", "1000"]);
    assert!(ran.err.contains("some of your traffic has no price any more"), "{}", ran.err);
    let ran = home.run(&["price", "diff"]);
    assert!(ran.err.contains("expected a book, or two times: --from and --to"), "{}", ran.err);
    let ran = home.run(&["price", "diff", "nowhere"]);
    assert!(
        ran.err.contains("expected the name of an imported book, a file or `builtin`"),
        "{}",
        ran.err
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_to_come_is_weighed_with_the_traffic_that_it_is_for() {
    let (home, gateway, server) = with_traffic().await;
    let to_come = "model m\nstandard input_uncached=2 output_text=10\n\
                   standard from=2126-01-01 input_uncached=4 output_text=10\n\
                   standard from=2126-02-01 input_uncached=5 output_text=10\n\
                   batch input_uncached=1 output_text=5\n\
                   batch from=2126-01-01 input_uncached=2 output_text=5\n\
                   model idle\nstandard input_uncached=1 output_text=1\n\
                   standard from=2126-01-01 input_uncached=2 output_text=1\n";
    put(&home, "old", to_come);
    let schedule =
        |more: &[&str]| home.run(&[&["price", "schedule", "--days", "40000"], more].concat());
    let told = schedule(&["--json"]).json();
    let of_test = |changes: &Value| {
        let changes = changes.as_array().unwrap().iter();
        let of = |change: &&Value| {
            change["after"].as_str().is_some_and(|row| row.contains("provider=test"))
        };
        changes.filter(of).map(|one| one["in_traffic"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of_test(&told["changes"]), [false, false, true, true], "idle, m batch, m, m");
    let lines = told["traffic"]["lines"].as_array().unwrap();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| (line["from"].as_str().unwrap(), money(&line["difference_usd"])))
        .collect();
    let tokens = 900 + 1_000 + 1_001 + 4_000;
    assert_eq!(
        lines,
        [
            ("2126-01-01T00:00:00Z", tokens * 2_000_000),
            ("2126-02-01T00:00:00Z", tokens * 1_000_000)
        ]
    );
    // From the first to the last it is the same.
    let whole =
        home.run(&["price", "diff", "--from", "2125-01-01", "--to", "2127-01-01", "--json"]);
    let whole = whole.json();
    assert_eq!(money(&whole["traffic"]["total"]["difference_usd"]), tokens * 3_000_000);
    let text = schedule(&[]).ok();
    assert!(text.contains("What they do to your traffic") && text.contains("+0.013802"), "{text}");
    let none = schedule(&["--since", "2026-01-01", "--until", "2026-01-02"]).ok();
    assert!(none.contains("None of them touches your traffic"), "{none}");

    // Own prices apply whatever the list does.
    let own = "[[prices]]\nprovider = \"test\"\nmodel = \"m\"\ninput_uncached = \"1\"\noutput_text = \"1\"\n";
    let config = format!("price_books = [\"old\"]\n{}{own}", upstream("openai", server.address));
    home.configure(&config);
    let told = schedule(&["--json"]).json();
    assert_eq!(told["traffic"]["lines"], serde_json::json!([]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counterfactual_prices_the_same_usage_and_says_what_it_cannot() {
    let (home, gateway, _server) = with_traffic().await;
    // The same weights at another host, which has no batch lane and no `gone`.
    let host = format!(
        "{OLD}provider host\nmodel m\nstandard input_uncached=1,3>1000 output_text=20\n\
         provider other\nmodel m\nstandard input_uncached=1 output_text=1\nbatch input_uncached=0.5 output_text=0.5\n"
    );
    put(&home, "old", &host);
    let rerate = |more: &[&str]| home.run(&[&["price", "rerate", "--since", "1h"], more].concat());
    let told = rerate(&["--as", "host/m", "--model", "m", "--json"]).json();
    let (tokens, total) = (900 + 1_000 + 1_001 + 4_000, &told["total"]);
    assert_eq!((&told["only"], &total["attempts"]), (&"m".into(), &4.into()));
    assert_eq!(money(&total["booked_usd"]), tokens * 2_000_000 + 4 * 10_000_000);
    // Cliffs are those of the other host, for each attempt by itself.
    assert_eq!(money(&total["now_usd"]), 1_900 * 1_000_000 + 5_001 * 3_000_000 + 4 * 20_000_000);

    // Without a filter, all of it; `fresh` had no price and is in no sum.
    let told = rerate(&["--as", "other/m", "--tier", "batch", "--json"]).json();
    assert_eq!(told["total"]["attempts"], 6);
    let fresh = &told["no_price_then"][0];
    assert_eq!((&fresh["model"], money(&fresh["now_usd"])), (&"test/fresh".into(), 4 * 500_000));
    let told = rerate(&["--as", "host/m", "--tier", "batch", "--json"]).json();
    assert_eq!(told["total"]["attempts"], 0);
    let reason = told["no_price_now"][0]["unpriced"].as_str().unwrap();
    assert_eq!(reason, "no price for tier `batch` of `host/m`");
    let text = rerate(&["--as", "host/m", "--tier", "batch"]).ok();
    let heading = "Had it been served by host/m on tier batch: nothing could be priced";
    assert!(text.starts_with(heading) && text.contains("no price for tier `batch`"), "{text}");

    // Other prices.
    let told = rerate(&["--book", "new", "--json"]).json();
    assert_eq!(money(&told["total"]["difference_usd"]), MORE - LESS);
    assert!(told["supposed"]["price_book"]["name"].as_str().unwrap().starts_with("new + old"));
    let text = rerate(&["--book", "new"]).ok();
    assert!(text.contains("This is a counterfactual: nothing of it is booked"), "{text}");
    let refused = rerate(&["--book", "new", "--apply"]);
    assert_eq!(refused.code, Some(2));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_tells_what_it_changes_for_the_traffic() {
    let (home, gateway, server) = with_traffic().await;
    let config = upstream("openai", server.address);
    home.configure(&format!("price_books = [\"list\"]\n{config}"));
    let list = |price: &str| {
        let text = format!(
            r#"{{"m": {{"litellm_provider": "test", "input_cost_per_token": {price}, "output_cost_per_token": 1e-05}}}}"#
        );
        let file = home.data().join("list.json");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        home.run(&["price", "import", "--from", "litellm", "--name", "list", &file]).ok()
    };
    // The first is named before it is there; it gives a price to what had none.
    let first = list("2e-06");
    assert!(first.starts_with("list: 1 models, 1 rows"), "{first}");
    let second = list("2.5e-06");
    // 6,901 tokens, half a dollar a million more.
    assert!(second.contains("Your traffic: $0.00345"), "{second}");
    home.configure(&config);
    let third = list("3e-06");
    assert!(third.contains("not in force: `farthing price diff list`"), "{third}");
    gateway.stop().await;
}

#[test]
fn lists_are_compared_before_there_is_a_ledger() {
    let home = Home::new("");
    let file = home.config().with_file_name("list.json");
    std::fs::write(
        &file,
        r#"{"gpt-5-mini": {"litellm_provider": "openai", "input_cost_per_token": 3e-07, "output_cost_per_token": 2e-06,
            "cache_read_input_token_cost": 2.5e-08}}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let ran = home.run(&["price", "diff", file, "--format", "litellm"]).ok();
    assert!(ran.starts_with("rows: 1 changed, 0 appeared, 0 vanished"), "{ran}");
    assert!(ran.contains("+20.0%") && ran.contains("no ledger"), "{ran}");
    let alone =
        home.run(&["price", "diff", "builtin", file, "--format", "litellm", "--json"]).json();
    assert_eq!(alone["traffic"], Value::Null);
    assert!(alone["changes"].as_array().unwrap().len() > 1_000);
    let ran = home.run(&["price", "diff", file]);
    assert!(ran.err.contains("--format tells whose list it is"), "{}", ran.err);
    let ran = home.run(&["price", "diff", "builtin", "--since", "7d"]);
    assert!(ran.err.contains("there is no journal in"), "{}", ran.err);
    // A data directory that an import makes is one that the gateway takes.
    home.run(&["price", "import", "--from", "litellm", file]).ok();
    drop(home.serve());
}

#[test]
fn an_estimate_tells_the_bill_after_scheduled_changes_of_all_models_involved() {
    let home = Home::new("price_books = [\"book\"]\n");
    // Far ahead, but within a year of the test, whenever that is: from the clock itself.
    let soon = std::process::Command::new("date").args(["-u", "-d", "+40 days", "+%F"]).output();
    let soon = String::from_utf8(soon.unwrap().stdout).unwrap();
    let soon = soon.trim();
    let models = format!(
        "model a\nstandard input_uncached=2.5 output_text=10\n\
         standard from={soon} input_uncached=5 output_text=10\n\
         model b\nstandard input_uncached=1 output_text=1\n\
         standard from={soon} input_uncached=1 output_text=2\n"
    );
    put(&home, "book", &models);
    let arguments = ["estimate", "--model", "test/a", "--against", "test/b"];
    let idea = ["--in", "2000", "--out", "500", "--per-day", "50000"];
    let json = home.run(&[&arguments[..], &idea, &["--json"]].concat()).json();
    let told: Vec<_> = json["scheduled"].as_array().unwrap().iter().collect();
    assert_eq!((told.len(), &told[0]["model"], &told[1]["model"]), (2, &"a".into(), &"b".into()));
    assert_eq!(told[0]["from"], format!("{soon}T00:00:00Z"));
    let total = |bill: &Value| bill["total_usd"].as_str().unwrap().to_owned();
    assert_eq!([total(&told[0]["before"]), total(&told[0]["after"])], ["15000", "22500"]);
    let text = home.run(&[&arguments[..], &idea].concat()).ok();
    let line = text.lines().find(|line| line.starts_with(soon)).unwrap();
    assert!(line.contains("22,500.00") && line.contains("+50.0%"), "{text}");
}

//! Prices that were wrong, put right: a closed period stays closed.

use std::fs::OpenOptions;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, PRICES, pico, upstream};
use crate::scripted::{Scripted, json};

const GOOD: &str = r#"{"id":"c","model":"NAME","choices":[{"index":0,"message":{"content":"abcd"},
    "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

/// What a new price of the input makes three of its tokens dearer, pico-dollars.
const MORE: i128 = 3 * INPUT;
/// What three tokens of `new` and one of its output cost once they have a price.
const NEW: i128 = 3 * 1_000_000 + 2_000_000;

/// Input twice as dear, and a price for what had none.
fn corrected() -> String {
    let new = "\n[[prices]]\nprovider = \"test\"\nmodel = \"new\"\ninput_uncached = \"1\"\n\
               output_text = \"2\"\n";
    PRICES.replace("2.50", "5.00") + new
}

fn money(value: &Value) -> i128 {
    pico(value.as_str().unwrap())
}

/// Cuts bytes off the end of the journal, as a crash does.
fn cut_journal(home: &Home, bytes: u64) {
    let files = std::fs::read_dir(home.data().join("journal")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.metadata().unwrap().len() > bytes);
    let [segment] = files.as_slice() else { panic!("one segment: {files:?}") };
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrected_prices_are_posted_once_as_adjustments_of_today_and_the_old_bill_stays() {
    let server = Scripted::start(|received| {
        let asked = String::from_utf8_lossy(&received.body).into_owned();
        let model = if asked.contains("\"new\"") { "new" } else { "m" };
        vec![crate::scripted::Act::Send(json(&GOOD.replace("NAME", model)))]
    })
    .await;
    let upstream = upstream("openai", server.address);
    let home = Home::new(&(upstream.clone() + PRICES));
    let gateway = home.serve();
    for model in ["m", "m", "m", "new"] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        Call::chat(body).with("x-farthing-route", "care").send(&gateway).await;
    }
    let exchanges = home.once_settled(4).await;
    // The period ends here; what is posted later is not of it.
    let end = exchanges.iter().map(|exchange| exchange.settlement.at).max().unwrap();
    let end = end.plus(Duration::from_millis(1)).to_string();
    let rerate = |more: &[&str]| {
        let period = ["price", "rerate", "--since", "2026-01-01", "--until", &end];
        home.run(&[&period, more].concat())
    };
    let old_bill = || {
        let period = ["bill", "--by", "route,model", "--since", "2026-01-01", "--until", &end];
        let mut json = home.run(&[&period[..], &["--json"]].concat()).json();
        json["as_of"].take();
        let csv = home.run(&[&period[..], &["--csv"]].concat()).ok();
        (home.run(&period).ok(), csv, json)
    };
    let bill = || home.run(&["bill", "--by", "model", "--json"]).json();

    // By the prices of then there is nothing to adjust.
    let shown = rerate(&["--json"]).json();
    assert_eq!((&shown["lines"], &shown["unchanged_attempts"]), (&Value::Array(vec![]), &3.into()));
    assert_eq!(shown["still_unpriced_attempts"], 1);
    home.configure(&(upstream.clone() + &corrected()));
    // Shown beside a gateway, but not posted.
    let shown = rerate(&["--json"]).json();
    assert_eq!((&shown["schema"], &shown["posted"]), (&"farthing.rerate/1".into(), &Value::Null));
    assert_eq!(money(&shown["total"]["difference_usd"]), 3 * MORE + NEW);
    let [ours, new] = shown["lines"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!(
        (&ours["route"], &ours["model"], &ours["attempts"]),
        (&"care".into(), &"test/m".into(), &3.into())
    );
    assert_eq!(money(&ours["booked_usd"]), 3 * (3 * INPUT + OUTPUT));
    assert_eq!(money(&ours["now_usd"]), 3 * (6 * INPUT + OUTPUT));
    assert!(ours["from_row_text"].as_str().unwrap().contains("input_uncached=2.5"), "{ours}");
    assert!(ours["to_row_text"].as_str().unwrap().contains("input_uncached=5"), "{ours}");
    assert_eq!((&new["from_row"], &new["booked_usd"]), (&Value::Null, &Value::Null));
    assert_eq!(money(&new["difference_usd"]), NEW);
    let refused = rerate(&["--apply"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("a gateway writes to the journal"), "{}", refused.err);
    assert!(refused.err.contains("hint: stop `farthing serve`"), "{}", refused.err);
    gateway.stop().await;

    let before = old_bill();
    let text = rerate(&[]).ok();
    assert!(text.contains("Nothing is posted yet: --apply posts"), "{text}");
    assert_eq!(rerate(&["--apply", "--json"]).json()["posted"], 4);
    assert_eq!(old_bill(), before);
    let all = bill();
    let booked = 3 * (3 * INPUT + OUTPUT);
    assert_eq!(money(&all["total"]["cost_usd"]), booked);
    assert_eq!(money(&all["spend_usd"]), booked + 3 * MORE + NEW);
    assert_eq!(money(&all["adjusted_cost_usd"]), 3 * MORE + NEW);
    let lines: Vec<_> = all["adjustments"].as_array().unwrap().iter().collect();
    assert_eq!((&lines[0]["model"], &lines[0]["adjustments"]), (&"m".into(), &3.into()));
    assert_eq!((&lines[1]["model"], money(&lines[1]["cost_usd"])), (&"new".into(), NEW));
    let text = home.run(&["bill"]).ok();
    assert!(text.contains("(adjusted test/m)") && text.contains("4 adjustments posted"), "{text}");

    // Twice is once.
    let again = rerate(&["--apply", "--json"]).json();
    assert_eq!((&again["posted"], &again["unchanged_attempts"]), (&0.into(), &4.into()));
    assert_eq!(bill()["spend_usd"], all["spend_usd"]);

    // Who dies half-way through posts the rest the next time.
    cut_journal(&home, 150);
    let rest = rerate(&["--apply", "--json"]).json()["posted"].as_u64().unwrap();
    assert!((1..4).contains(&rest), "{rest}");
    assert_eq!(bill()["spend_usd"], all["spend_usd"]);
    assert_eq!(old_bill(), before);
    assert_eq!(rerate(&["--apply", "--json"]).json()["posted"], 0);

    let check = home.run(&["journal", "check"]).ok();
    assert!(check.contains("4 adjustments"), "{check}");
    let dump = home.run(&["journal", "dump"]).ok();
    let lines: Vec<Value> = dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| line["kind"] == "adjusted") {
        let row = &line["to_row"];
        let is_told = |line: &Value| line["kind"] == "price" && line["price_row"] == *row;
        assert!(lines[..place].iter().any(is_told), "{row} is told before it is used");
    }

    // Back to the old price of one: what was posted for it is taken back, the other has no price now.
    home.configure(&(upstream + PRICES));
    let back = rerate(&["--apply", "--json"]).json();
    assert_eq!((&back["posted"], money(&back["total"]["difference_usd"])), (&3.into(), -3 * MORE));
    assert_eq!(back["no_price_now"][0]["attempts"], 1);
    assert_eq!(money(&bill()["spend_usd"]), booked + NEW);
    assert_eq!(old_bill(), before);

    let gateway = home.serve();
    let page = Call::get("/farthing/api/bill").send(&gateway).await.json();
    let told = page["adjusted"].as_str().unwrap();
    assert!(told.contains("7 adjustments posted"), "{told}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_is_supposed_and_never_posted() {
    let server = Scripted::always(json(&GOOD.replace("NAME", "m"))).await;
    let home = Home::new(&(upstream("openai", server.address) + PRICES));
    let gateway = home.serve();
    Call::chat(r#"{"model":"m","messages":[]}"#).send(&gateway).await;
    home.once_settled(1).await;
    let rerate = |more: &[&str]| home.run(&[&["price", "rerate", "--since", "1h"], more].concat());
    let shown = rerate(&["--as", "anthropic/claude-haiku-4-5", "--json"]).json();
    assert_eq!(shown["supposed"]["model"], "claude-haiku-4-5");
    assert_eq!(money(&shown["total"]["booked_usd"]), 3 * INPUT + OUTPUT);
    assert_eq!(money(&shown["total"]["now_usd"]), 3 * 1_000_000 + 5_000_000);
    let text = rerate(&["--as", "anthropic/claude-haiku-4-5", "--tier", "batch"]).ok();
    assert!(
        text.contains("Had it been served by anthropic/claude-haiku-4-5 on tier batch"),
        "{text}"
    );
    for more in [&["--tier", "batch", "--apply"][..], &["--as", "gpt-5", "--apply"]] {
        let ran = rerate(more);
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains("cannot be used with"), "{}", ran.err);
    }
    let ran = rerate(&["--as", "openai/no-such-model"]);
    assert!(ran.err.contains("the price book has no model"), "{}", ran.err);
    let ran = rerate(&["--until", "2h"]);
    assert!(ran.err.contains("the period is empty"), "{}", ran.err);
    gateway.stop().await;
}

/// Own prices for `m`: of input and output in micro-dollars per million tokens, and whether they hold
/// only from a year on that is yet to come.
fn edited() -> impl Strategy<Value = Vec<(u32, u32, bool)>> {
    proptest::collection::vec((0_u32..9_000_000, 0_u32..90_000_000, any::<bool>()), 1..3)
}

fn as_prices(edits: &[(u32, u32, bool)]) -> (String, Option<i128>) {
    let mut text = String::new();
    let mut now = None;
    // Two that hold at the same time would leave a doubt.
    for later in [false, true] {
        let Some((input, output, _)) = edits.iter().find(|edit| edit.2 == later) else { continue };
        let dollars = |micro: &u32| format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
        let (from, until) = ("\nfrom = \"2199-01-01\"", "\nuntil = \"2199-01-01\"");
        text += &format!(
            "\n[[prices]]\nprovider = \"test\"\nmodel = \"m\"\ninput_uncached = \"{}\"\n\
             output_text = \"{}\"{}\n",
            dollars(input),
            dollars(output),
            if later { from } else { until },
        );
        if !later {
            now = Some(3 * i128::from(*input) + i128::from(*output));
        }
    }
    (text, now)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_edit_of_prices_changes_a_closed_period_and_what_is_posted_twice_is_posted_once() {
    let server = Scripted::always(json(&GOOD.replace("NAME", "m"))).await;
    let upstream = upstream("openai", server.address);
    let home = Home::new(&(upstream.clone() + PRICES));
    let gateway = home.serve();
    Call::chat(r#"{"model":"m","messages":[]}"#).send(&gateway).await;
    let end = home.once_settled(1).await[0].settlement.at.plus(Duration::from_millis(1));
    gateway.stop().await;
    let end = end.to_string();
    let period = ["--since", "2026-01-01", "--until", &end];
    let closed = || home.run(&[&["bill", "--csv"], &period[..]].concat()).ok();
    let spent = || money(&home.run(&["bill", "--json"]).json()["spend_usd"]);
    let apply = || home.run(&[&["price", "rerate", "--apply", "--json"], &period[..]].concat());

    let before = closed();
    let mut runner =
        TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let checked = runner.run(&edited(), |edits| {
        let (prices, now) = as_prices(&edits);
        home.configure(&(upstream.clone() + &prices));
        let booked = spent();
        prop_assert_eq!(closed(), before.clone());
        let posted = apply().json()["posted"].clone();
        let expected = now.unwrap_or(booked);
        prop_assert_eq!((spent(), posted), (expected, u64::from(expected != booked).into()));
        prop_assert_eq!(&apply().json()["posted"], &Value::from(0));
        prop_assert_eq!(closed(), before.clone());
        Ok(())
    });
    checked.unwrap();
}

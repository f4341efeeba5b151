//! Reports from the command line.

use quantity::Money;
use simulated::{Options, Simulated};

use crate::client::Call;
use crate::home::{Home, PRICES, both, pico, upstream};
use crate::passthrough::{CHUNKS, COST};
use crate::scripted::{Scripted, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;

#[test]
fn an_estimate_takes_the_prices_of_the_configuration() {
    let home = Home::new(&both("127.0.0.1:1".parse().unwrap()));
    let arguments = ["estimate", "--model", "test/m", "--in", "2k", "--out", "1500"];
    let arguments = [&arguments[..], &["--per-day", "25,000"]].concat();
    let json = home.run(&[&arguments[..], &["--json"]].concat()).json();
    // (2,000 x $2.50 + 1,500 x $10) / 1,000,000 x 25,000
    assert_eq!(
        pico(json["estimate"]["per_day"]["total_usd"].as_str().unwrap()),
        500 * 1_000_000_000_000
    );
    let text = home.run(&arguments).ok();
    assert!(text.contains("500.00") && text.contains("15,000.00"), "{text}");
    let ran =
        home.run(&["estimate", "--model", "nope", "--in", "1", "--out", "1", "--per-day", "1"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("nope"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_by_tag_has_a_row_for_each_value_and_slices_of_time_sum_to_the_whole() {
    let server = Scripted::always(stream(CHUNKS.map(str::as_bytes))).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for (tag, count) in [("gold", 3), ("silver \"x\", y", 2)] {
        for _ in 0..count {
            let call = Call::chat(CHAT).with("x-farthing-tag-tier", tag);
            assert_eq!(call.send(&gateway).await.status, 200);
        }
    }
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    let csv = home.run(&["bill", "--by", "tag:tier", "--csv"]).ok();
    let mut rows: Vec<String> = csv.lines().map(|row| row.replace('\r', "")).collect();
    assert!(
        rows.remove(0).starts_with("tag:tier,line,exchanges,completed,attempts,cost_usd,"),
        "{csv}"
    );
    rows.sort();
    let cost = |count: i128| Money::from_pico(count * COST);
    let starts = [
        format!("\"silver \"\"x\"\", y\",use,2,2,2,{},", cost(2)),
        format!(",use,1,1,1,{},", cost(1)),
        format!("gold,use,3,3,3,{},", cost(3)),
    ];
    assert_eq!(rows.len(), 3, "{csv}");
    for (row, start) in rows.iter().zip(starts) {
        assert!(row.starts_with(&start), "{row}\n{start}");
    }

    let (settled, _) = home.journal();
    let bill = |arguments: &[&str]| {
        let all = [&["bill", "--json"], arguments].concat();
        let bill = home.run(&all).json();
        let spend = bill["spend_usd"].as_str().map_or(0, pico);
        (bill["total"]["exchanges"].as_u64().unwrap(), spend)
    };
    assert_eq!(bill(&[]), (6, 6 * COST));
    for (exchange, before) in settled.iter().zip(0_u64..) {
        // To the nanosecond, which reports do not show.
        let at = exchange.admission.at;
        let at = format!("{}.{:09}Z", &at.to_string()[..19], at.nanos() % 1_000_000_000);
        let (early, late) = (bill(&["--until", &at]), bill(&["--since", &at]));
        assert_eq!(early, (before, i128::from(before) * COST), "{at}");
        assert_eq!((early.0 + late.0, early.1 + late.1), (6, 6 * COST), "{at}");
    }
    let ran = home.run(&["bill", "--since", "1h", "--until", "2h"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("--since is not before --until"), "{}", ran.err);
    let ran = home.run(&["bill", "--by", "moon"]);
    assert!(ran.code == Some(2) && ran.err.contains("moon"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paid_hours_are_split_into_busy_and_idle_without_loss() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let hourly = "hourly_cost = \"2.50\"\n";
    let home = Home::new(&(upstream("openai", server.address()) + hourly + PRICES));
    let gateway = home.serve();
    for route in ["a", "b", "b"] {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"[[sim output=50]]"}]}"#;
        let reply = Call::chat(body).with("x-farthing-route", route).send(&gateway).await;
        assert!(reply.whole);
    }
    gateway.stop().await;
    let bill = home.run(&["bill", "--json"]).json();
    let usd = |value: &serde_json::Value| pico(value.as_str().unwrap());
    let line = &bill["hosting"][0];
    assert_eq!((&line["upstream"], &line["attempts"]), (&"openai".into(), &3.into()));
    let (busy, idle) = (usd(&line["busy_cost_usd"]), usd(&line["idle_cost_usd"]));
    assert!(busy > 0 && idle > 0, "{line}");
    // 2.5e12 pico-dollars over 3.6e12 nanoseconds; one rounding for each side.
    let paid = i128::from(line["paid_ns"].as_u64().unwrap()) * 25 / 36;
    assert!((busy + idle - paid).abs() <= 1, "{busy} + {idle} is not {paid}");
    let groups = bill["groups"].as_array().unwrap().iter();
    let hosted: i128 = groups.map(|group| usd(&group["measures"]["hosted_cost_usd"])).sum();
    assert_eq!(hosted, busy);
    assert_eq!(usd(&bill["spend_usd"]), busy + idle);
    assert_eq!(usd(&bill["idle_cost_usd"]), idle);
    let text = home.run(&["bill"]).ok();
    assert!(text.contains("(openai idle)"), "{text}");
}

#[test]
fn the_demo_prints_a_bill_that_its_journal_repeats() {
    let home = Home::new("");
    let data = home.data().display().to_string();
    let demo = ["demo", "--exit", "--minutes", "3", "--listen", "127.0.0.1:0", "--data-dir", &data];
    let out = home.run(&demo).ok();
    assert!(out.contains("All 3 minutes:") && out.contains("Bill by route, model: "), "{out}");
    home.run(&["journal", "check", "--data-dir", &data]).ok();
    let bill = home.run(&["bill", "--json", "--data-dir", &data]).json();
    assert!(bill["total"]["exchanges"].as_u64().unwrap() > 20);
    assert!(pico(bill["spend_usd"].as_str().unwrap()) > 0);
}

//! What a bill may never do: call unknown prices nothing, or change what was charged.

use facts::{Charged, Exchange};
use quantity::PriceRowId;
use serde_json::Value;

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, both, cost, pico};
use crate::scripted::{Scripted, json};

const GOOD: &str = r#"{"id":"c","model":"NAME","choices":[{"index":0,"message":{"content":"abcd"},
    "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

fn ask(model: &str) -> Call {
    Call::chat(format!(r#"{{"model":"{model}","messages":[]}}"#))
}

fn field<'a>(csv: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let place = lines.next().unwrap().iter().position(|found| *found == name).unwrap();
    lines.map(|line| line[place]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_price_is_nowhere_free() {
    let server = Scripted::always(json(&GOOD.replace("NAME", "brand-new"))).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let reply = ask("brand-new").send(&gateway).await;
    home.once_settled(1).await;

    let table = home.run(&["bill", "--by", "model"]).ok();
    let row = table.lines().find(|line| line.starts_with("brand-new")).unwrap();
    assert!(row.contains("unpriced"), "{table}");
    assert!(table.contains("not known") && table.contains("* unpriced"), "{table}");
    assert!(!table.contains("$0") && !table.contains("0.00"), "{table}");

    let bill = home.run(&["bill", "--by", "model", "--json"]).json();
    for known in [
        &bill["spend_usd"],
        &bill["total"]["cost_usd"],
        &bill["groups"][0]["measures"]["cost_usd"],
        &bill["total"]["usd_per_mtok"],
        &bill["total"]["token_classes"]["output_text"]["cost_usd"],
    ] {
        assert_eq!(known, &Value::Null, "{bill}");
    }
    assert_eq!(bill["total"]["unpriced_attempts"], 1);
    assert_eq!(bill["total"]["unpriced_tokens"], 4);

    let csv = home.run(&["bill", "--by", "model", "--csv"]).ok();
    assert_eq!(field(&csv, "cost_usd"), [""]);
    assert_eq!(field(&csv, "unpriced_attempts"), ["1"]);

    let page = Call::get("/farthing/api/bill").send(&gateway).await.json();
    let tiles = page["tiles"].as_array().unwrap();
    assert_eq!(tiles[0]["value"], "unpriced");
    assert!(tiles.iter().all(|tile| !tile["value"].as_str().unwrap().starts_with("$0")), "{page}");
    assert_eq!(page["models"]["rows"][0]["cost"], "unpriced");
    assert_eq!(page["models"]["total"]["cost"], "unpriced");
    assert_eq!(page["uncertain"][0]["attempts"], "1");
    let recent = Call::get("/farthing/api/recent").send(&gateway).await.json();
    assert_eq!(recent["exchanges"][0]["cost"], "unpriced");
    let look = Call::get(&format!("/farthing/v1/exchanges/{}", reply.id()));
    let look = look.send(&gateway).await.json();
    assert_eq!(look["cost_usd"], Value::Null);
    assert!(gateway.stop().await.contains("unpriced"));
}

fn row(exchange: &Exchange) -> PriceRowId {
    match &exchange.attempts[0].end.charged {
        Charged::Priced { row, .. } => *row,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_price_changes_no_past_charge() {
    let server = Scripted::always(json(&GOOD.replace("NAME", "m"))).await;
    let home = Home::new(&both(server.address));
    let spent = || pico(home.run(&["bill", "--json"]).json()["spend_usd"].as_str().unwrap());
    let gateway = home.serve();
    assert_eq!(ask("m").send(&gateway).await.status, 200);
    let before = home.once_settled(1).await.remove(0);
    gateway.stop().await;
    let old = 3 * INPUT + OUTPUT;
    assert_eq!((cost(&before), spent()), (Some(old), old));

    // Twice as dear, as if it had always been.
    let dearer = both(server.address).replace("\"2.50\"", "\"5.00\"").replace("\"10\"", "\"20\"");
    home.configure(&dearer);
    assert_eq!(spent(), old);
    std::fs::remove_dir_all(home.data().join("warehouse")).unwrap_or_default();
    assert_eq!(spent(), old, "made anew, it is the same");
    let gateway = home.serve();
    let page = Call::get("/farthing/api/bill").send(&gateway).await.json();
    assert_eq!(page["tiles"][0]["value"], "<$0.0001");
    assert_eq!(ask("m").send(&gateway).await.status, 200);
    let after = home.once_settled(2).await;
    gateway.stop().await;
    assert_eq!(after[0], before);
    assert_eq!(cost(&after[1]), Some(2 * old));
    assert_ne!(row(&after[1]), row(&before));
    assert_eq!(spent(), 3 * old);
    // Both rows are on the journal, each with the price that it was charged at.
    let dump = home.run(&["journal", "dump"]).ok();
    let rows = dump.lines().filter(|line| line.starts_with(r#"{"kind":"price""#));
    assert_eq!(rows.count(), 2, "{dump}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dearest_groups_alone_leave_the_total() {
    let server = Scripted::always(json(&GOOD.replace("NAME", "m"))).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for (user, count) in [("ann", 3), ("bob", 2), ("cy", 1), ("di", 1)] {
        for _ in 0..count {
            let call = ask("m").with("x-farthing-user", user);
            assert_eq!(call.send(&gateway).await.status, 200);
        }
    }
    gateway.stop().await;
    let one = 3 * INPUT + OUTPUT;
    let bill = home.run(&["bill", "--by", "user", "--top", "2", "--json"]).json();
    assert_eq!(pico(bill["spend_usd"].as_str().unwrap()), 7 * one);
    let users = bill["groups"].as_array().unwrap().iter().map(|group| &group["key"]["user"]);
    assert_eq!(users.collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(bill["other"]["groups"], 2);
    assert_eq!(pico(bill["other"]["measures"]["cost_usd"].as_str().unwrap()), 2 * one);
    let text = home.run(&["bill", "--by", "user", "--top", "2"]).ok();
    assert!(text.contains("(other: 2 more)") && !text.contains("cy "), "{text}");
    let csv = home.run(&["bill", "--by", "user", "--top", "2", "--csv"]).ok();
    assert_eq!(field(&csv, "line"), ["use", "use", "other"]);
    assert_eq!(field(&csv, "cost_usd").into_iter().map(pico).sum::<i128>(), 7 * one);
    let all = home.run(&["bill", "--by", "user", "--json"]).json();
    assert_eq!(all["other"], Value::Null);
    assert_eq!(all["total"], bill["total"]);
}

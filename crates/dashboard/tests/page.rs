//! The page and its JSON.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "../../facts/tests/fixture/mod.rs"]
mod fixture;

use dashboard::{Dashboard, Page};
use fixture::{Charge, Sample, Try, hourly, some_hours};
use quantity::UnixTime;
use report::BookLine;
use serde_json::Value;

fn now() -> UnixTime {
    "2026-11-22T16:00:00Z".parse().unwrap()
}

fn empty() -> Dashboard {
    let book = BookLine { name: "built-in".to_owned(), as_of: "2026-11-20".parse().unwrap() };
    Dashboard::new(book)
}

fn filled() -> Dashboard {
    let mut dashboard = empty();
    dashboard.price(&hourly());
    some_hours().iter().for_each(|exchange| dashboard.settled(exchange));
    dashboard
}

fn page(dashboard: &Dashboard, path: &str) -> Page {
    dashboard.respond(path, now()).unwrap()
}

fn json(dashboard: &Dashboard, path: &str) -> Value {
    serde_json::from_str(&page(dashboard, path).body).unwrap()
}

fn row<'a>(rows: &'a Value, label: &str) -> &'a Value {
    rows["rows"].as_array().unwrap().iter().find(|row| row["label"] == label).unwrap()
}

#[test]
fn other_paths_are_not_ours() {
    for path in ["/", "/farthing/v1/exchanges/1", "/farthing/../etc", "/farthing/app.js/", ""] {
        assert_eq!(empty().respond(path, now()), None, "{path}");
    }
}

#[test]
fn what_the_ledger_lacks_is_on_the_page() {
    let gap = |exchanges| facts::Gap { exchanges, ..facts::Gap::new(now(), "full".to_owned()) };
    let mut dashboard = filled();
    dashboard.gap(&gap(3));
    dashboard.set_gap(Some(gap(5)));
    dashboard.set_gap(Some(gap(7)));
    let bill = json(&dashboard, "/farthing/api/bill");
    let gaps = bill["gaps"].as_array().unwrap();
    assert!(gaps.len() == 2, "{gaps:?}");
    assert!(gaps[0].as_str().unwrap().contains("3 exchanges passed without ledger"), "{gaps:?}");
    assert!(gaps[1].as_str().unwrap().contains("7 exchanges"), "{gaps:?}");
}

#[test]
fn every_part_carries_the_strict_policy() {
    for path in ["/farthing/", "/farthing/app.js", "/farthing/style.css", "/farthing/api/bill"] {
        let page = page(&filled(), path);
        let policy = page.headers.iter().find(|(name, _)| *name == "content-security-policy");
        assert!(policy.unwrap().1.starts_with("default-src 'none'; script-src 'self'"));
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
    let html = page(&empty(), "/farthing/").body;
    let (script, style) =
        (page(&empty(), "/farthing/app.js").body, page(&empty(), "/farthing/style.css").body);
    for attribute in html.split("src=\"").skip(1).chain(html.split("href=\"").skip(1)) {
        assert!(attribute.starts_with("/farthing/") || attribute.starts_with("data:image/svg+xml"));
    }
    assert!(!html.contains(" style=") && !html.contains(" onload") && !html.contains("<style"));
    assert!(!script.contains("innerHTML") && !script.contains("http"));
    assert!(!style.contains("url(") && !style.contains("@import"));
}

#[test]
fn the_page_has_every_element_that_its_script_fills() {
    let (html, script) =
        (page(&empty(), "/farthing/").body, page(&empty(), "/farthing/app.js").body);
    let mut ids = script.split("byId(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(ids.all(|id| html.contains(&format!("id=\"{id}\""))));
}

#[test]
fn figures_are_those_of_the_bill() {
    let bill = json(&filled(), "/farthing/api/bill");
    assert_eq!(bill["price_book"], "price book built-in of 2026-11-20");
    assert_eq!(bill["tiles"][0]["value"], "$5.0789*");
    assert_eq!(row(&bill["routes"], "agent-plan")["cost"], "0.0782");
    assert_eq!(row(&bill["routes"], "support")["cost"], "0.0007*");
    assert_eq!(row(&bill["models"], "mystery-1")["cost"], "unpriced");
    assert_eq!(row(&bill["models"], "mystery-1")["per_mtok"], "-");
    assert_eq!(row(&bill["routes"], "(gpu idle)")["cost"], "4.5833");
    assert_eq!(bill["routes"]["total"]["cost"], "5.0789*");
    assert_eq!(bill["hosting"][0]["utilisation"], "8.3%");
}

#[test]
fn what_is_not_certain_is_on_the_page() {
    let bill = json(&filled(), "/farthing/api/bill");
    let rows = bill["uncertain"].as_array().unwrap();
    let row = |label: &str| rows.iter().find(|row| row["label"] == label).unwrap();
    assert_eq!(row("* unpriced")["attempts"], "2");
    assert_eq!(row("* unpriced")["cost"], "-");
    assert_eq!(row("usage never told")["note"], "cost at most $0.001200");
    assert_eq!(row("sum differs")["attempts"], "1");
    assert_eq!(row("lower bound")["cost"], row("usage estimated")["cost"]);
    assert_eq!(row("usage estimated")["cost"], "0.034500");
    assert_eq!(json(&empty(), "/farthing/api/bill")["uncertain"], Value::Array(Vec::new()));
}

#[test]
fn an_empty_page_answers() {
    let bill = json(&empty(), "/farthing/api/bill");
    assert_eq!(bill["routes"]["rows"], Value::Array(Vec::new()));
    assert_eq!(bill["tiles"][2]["value"], "-");
    assert_eq!(json(&empty(), "/farthing/api/recent")["exchanges"], Value::Array(Vec::new()));
}

#[test]
fn the_live_list_is_bounded_and_newest_first() {
    let mut dashboard = empty();
    for number in 0..=255 {
        dashboard.settled(&Sample::default().exchange(number));
    }
    let tries = vec![Try { charge: Charge::Unpriced("no row"), ..Try::default() }];
    dashboard.settled(&Sample { route: "last", tries, ..Sample::default() }.exchange(1));
    let recent = json(&dashboard, "/farthing/api/recent");
    let recent = recent["exchanges"].as_array().unwrap();
    assert_eq!(recent.len(), 200);
    assert_eq!((&recent[0]["route"], &recent[0]["cost"]), (&"last".into(), &"unpriced".into()));
    assert_eq!(recent[0]["reason"], "no row");
}

#[test]
fn any_number_of_routes_is_a_bounded_table() {
    let mut dashboard = empty();
    for number in 0..100 {
        let mut exchange = Sample::default().exchange(number);
        exchange.admission.labels.route = format!("route-{number}");
        dashboard.settled(&exchange);
    }
    let routes = &json(&dashboard, "/farthing/api/bill")["routes"];
    assert_eq!(routes["rows"].as_array().unwrap().len(), 41);
    assert_eq!(row(routes, "(other: 60 more)")["exchanges"], "60");
    assert_eq!(routes["total"]["exchanges"], "100");
}

#[test]
fn routes_that_clients_invent_do_not_pile_up() {
    let mut dashboard = empty();
    let mut exchange = Sample::default().exchange(1);
    for number in 0..10_001 {
        exchange.admission.labels.route = format!("route-{number}");
        dashboard.settled(&exchange);
    }
    let routes = &json(&dashboard, "/farthing/api/bill")["routes"];
    assert_eq!(row(routes, "(other: 9,961 or more)")["exchanges"], "9,961");
    assert_eq!(routes["total"]["exchanges"], "10,001");
}

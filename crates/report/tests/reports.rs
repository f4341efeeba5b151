//! Every report from one set of exchanges, in every form.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "../../facts/tests/fixture/mod.rs"]
mod fixture;

use facts::{Answer, Attempt, Exchange, PriceRecord, Query, Rollup};
use fixture::{Charge, Sample, Try, hourly, some_hours};
use insta::assert_snapshot;
use quantity::{Money, PriceRowId, UnixTime};
use report::{Bill, BookLine, Style, exchange, record};
use tariff::Book;
use tariff::estimate::{Idea, estimate};

fn now() -> UnixTime {
    "2026-11-22T16:00:00Z".parse().unwrap()
}

fn book() -> BookLine {
    BookLine { name: "built-in".to_owned(), as_of: "2026-11-20".parse().unwrap() }
}

fn ask(by: &[&str], exchanges: &[Exchange], prices: &[PriceRecord]) -> Answer {
    let by = by.iter().map(|name| name.parse().unwrap()).collect();
    let mut rollup = Rollup::new(Query { by, ..Query::default() });
    prices.iter().for_each(|price| rollup.price(price));
    exchanges.iter().for_each(|exchange| rollup.add(exchange));
    rollup.answer(now())
}

fn text(by: &[&str], exchanges: &[Exchange], prices: &[PriceRecord], style: Style) -> String {
    Bill::new(&ask(by, exchanges, prices), &book(), now()).text(style)
}

#[test]
fn a_bill_as_text() {
    let bill = text(&["route", "model"], &some_hours(), &[hourly()], Style::default());
    assert!(bill.lines().all(|line| line.chars().count() <= 120), "{bill}");
    assert_snapshot!(bill);
}

#[test]
fn a_bill_of_reported_usage_alone_as_text() {
    assert_snapshot!(text(&[], &some_hours()[..1], &[], Style::default()));
}

#[test]
fn a_bill_of_nothing_as_text() {
    assert_snapshot!(text(&["route"], &[], &[], Style::default()));
}

#[test]
fn a_bill_in_colour_has_the_same_words() {
    let plain = text(&["route"], &some_hours(), &[hourly()], Style::default());
    let style = Style { colour: true, ..Style::default() };
    let colour = text(&["route"], &some_hours(), &[hourly()], style);
    assert!(colour.contains("\x1b[1m"));
    let bare = ["\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(colour, |s, c| s.replace(c, ""));
    assert_eq!(bare, plain);
}

#[test]
fn long_and_hostile_labels_are_cut_and_escaped() {
    let long = "a-route-whose-name-goes-on-and-on-until-no-terminal-has-room-for-it-any-more";
    let routes =
        [long, "\x1b[2Jclear\r\n$0", "\u{6771}\u{4eac}\u{652f}\u{63f4}", "=cmd|'/c calc'!A1"];
    let exchanges: Vec<Exchange> = (1..)
        .zip(routes)
        .map(|(n, route)| Sample { route, ..Sample::default() }.exchange(n))
        .collect();
    let style = Style { width: 80, ..Style::default() };
    let bill = text(&["route"], &exchanges, &[], style);
    assert!(!bill.contains('\x1b') && !bill.contains('\r'));
    assert_snapshot!(bill);
    let answer = ask(&["route"], &exchanges, &[]);
    let csv = Bill::new(&answer, &book(), now()).csv();
    assert!(csv.contains("\r\n'=cmd|"));
    assert!(csv.contains("\"\x1b[2Jclear\r\n$0\""));
    assert!(exchange::line(&exchanges[1]).contains(r"\u{1b}[2Jclear\r\n$0"));
}

#[test]
fn a_bill_as_json() {
    let answer = ask(&["route"], &some_hours(), &[hourly()]);
    assert_snapshot!(Bill::new(&answer, &book(), now()).json());
}

#[test]
fn a_bill_as_csv() {
    let answer = ask(&["route", "tag:release"], &some_hours(), &[hourly()]);
    assert_snapshot!(Bill::new(&answer, &book(), now()).csv().replace("\r\n", "\n"));
}

#[test]
fn what_is_unpriced_is_nowhere_zero() {
    let tries = vec![Try { charge: Charge::Unpriced("no row"), ..Try::default() }];
    let exchanges = [Sample { tries, ..Sample::default() }.exchange(1)];
    let answer = ask(&["route"], &exchanges, &[]);
    let (book, now) = (book(), now());
    let bill = Bill::new(&answer, &book, now);
    let text = bill.text(Style::default());
    assert!(text.contains("unpriced") && !text.contains("0.00"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&bill.json()).unwrap();
    let total = &json["total"];
    assert_eq!(total["cost_usd"], serde_json::Value::Null);
    assert_eq!(total["token_classes"]["cache_read"]["cost_usd"], serde_json::Value::Null);
    assert_eq!(total["usd_per_mtok"], serde_json::Value::Null);
    assert!(exchange::line(&exchanges[0]).ends_with("unpriced: no row"));
}

#[test]
fn hosted_without_an_hourly_cost_is_unknown() {
    let tries = vec![Try { charge: Charge::Hosted, ..Try::default() }];
    let exchanges = [Sample { tries, ..Sample::default() }.exchange(1)];
    let text = text(&["route"], &exchanges, &[], Style::default());
    assert!(text.contains("unknown") && !text.contains("0.00"), "{text}");
}

#[test]
fn the_bill_of_a_bill_is_the_sum_of_its_charges() {
    let exchanges = some_hours();
    let answer = ask(&["day", "route"], &exchanges, &[]);
    let json: serde_json::Value =
        serde_json::from_str(&Bill::new(&answer, &book(), now()).json()).unwrap();
    let groups = json["groups"].as_array().unwrap().iter();
    let groups = groups.filter_map(|group| group["measures"]["cost_usd"].as_str());
    let sum: Money = groups.map(|usd| usd.parse::<Money>().unwrap()).sum();
    let attempts = exchanges.iter().flat_map(|exchange| &exchange.attempts);
    let charged: Money = attempts.filter_map(|attempt| attempt.end.charged.cost()).sum();
    assert_eq!(sum, charged);
    assert_eq!(json["spend_usd"], charged.to_string());
}

#[test]
fn exchanges_as_lines() {
    let lines: Vec<String> = some_hours().iter().map(exchange::line).collect();
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_exchange_as_json() {
    let pretty = |exchange: &Exchange| {
        let json = exchange::json(exchange);
        assert!(!json.contains('\n'));
        exchange::value(exchange).pretty()
    };
    let exchanges = some_hours();
    assert_snapshot!("an_exchange_as_json", pretty(&exchanges[0]));
    assert_snapshot!("an_unknown_exchange_as_json", pretty(&exchanges[6]));
}

#[test]
fn journal_records_as_lines() {
    let exchange = &some_hours()[4];
    let Attempt { dispatch, end } = &exchange.attempts[0];
    let row = PriceRecord::PerUse { row: PriceRowId::of(b"row"), text: "provider=a".to_owned() };
    let lines = [
        record::price(&row),
        record::price(&hourly()),
        record::admission(&exchange.admission),
        record::dispatch(dispatch),
        record::attempt_end(end),
        record::settlement(&exchange.settlement),
    ];
    assert_snapshot!(lines.join("\n"));
}

fn idea() -> (Book, Idea) {
    let row = |model, input, cached, output| {
        let prices = [("input_uncached", input), ("cache_read", cached), ("output_text", output)];
        tariff::PriceRow::own("acme", model, prices).unwrap()
    };
    let rows = [row("large", "2.50", "0.25", "10"), row("small", "0.15", "0.075", "0.60")];
    let idea = Idea { input: 2_000, output: 500, per_day: 50_000, cached_percent: 0 };
    (Book::builtin().with_rows(rows), idea)
}

#[test]
fn an_estimate_in_every_form() {
    let (prices, idea) = idea();
    let found =
        |model: &str| tariff::Found { provider: "acme".to_owned(), model: model.to_owned() };
    let against = [found("small"), found("missing")];
    let large = estimate(&prices, &found("large"), now(), idea, &against).unwrap();
    let others: Vec<_> = against
        .iter()
        .map(|other| (other.model.clone(), estimate(&prices, other, now(), idea, &[])))
        .collect();
    let report = report::estimate::EstimateReport {
        idea,
        estimate: &large,
        against: &others,
        book: &book(),
    };
    let text = report.text(Style::default());
    assert!(text.contains("$500.00 a day, $15,000.00 per 30 days"), "{text}");
    assert_snapshot!("an_estimate_as_text", text);
    assert_snapshot!("an_estimate_as_json", report.json());
}

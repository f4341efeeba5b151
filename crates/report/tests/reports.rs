//! Every report from one set of exchanges, in every form.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "../../facts/tests/fixture/mod.rs"]
mod fixture;
mod simulation;

use std::collections::BTreeSet;

use facts::{
    Adjustment, AdjustmentLine, Answer, Attempt, Booked, Charged, Exchange, Gap, PriceRecord,
    Query, Rollup,
};
use fixture::{Charge, Sample, Try, hourly, some_hours};
use insta::assert_snapshot;
use proptest::prelude::*;
use quantity::{Doubt, Money, Period, PriceRowId, TokenClass, TokenCount, UnixTime, UsageSource};
use report::price::{Coming, PriceDiff, Scheduled, SheetLine, Weighed};
use report::rerate::{Rerating, Supposed};
use report::{Bill, BookLine, Contracts, Style, exchange, record};
use tariff::commitment::{Charges, DaySpan, Per, Spent};
use tariff::estimate::{Estimate, EstimateError, Idea, Later, Split, estimate};
use tariff::{Agreements, Book, Commitment, Credit, Sheet};

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

fn adjustments() -> Vec<AdjustmentLine> {
    let line = |model: &str, adjustments, cost: &str| AdjustmentLine {
        provider: "openai".to_owned(),
        model: model.to_owned(),
        adjustments,
        contracted: cost.parse().unwrap(),
        list: "0.01".parse().unwrap(),
    };
    vec![line("gpt-5-mini", 4, "-0.012"), line("mystery-1", 1, "0.003")]
}

#[test]
fn adjustments_stand_beside_the_groups_and_are_in_the_sum() {
    let mut answer = ask(&["route"], &some_hours(), &[hourly()]);
    let before = answer.spend();
    answer.adjustments = adjustments();
    assert_eq!(answer.spend(), before - "0.009".parse().unwrap());
    let book = book();
    let bill = Bill::new(&answer, &book, now());
    assert_snapshot!(bill.text(Style::default()));
    let csv = bill.csv();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let place = |name| header.iter().position(|column| *column == name).unwrap();
    let costs = lines.filter_map(|line| line[place("cost_usd")].parse().ok());
    assert_eq!(costs.sum::<Money>(), answer.spend());
    // In a period without exchanges they are all there is.
    let mut empty = ask(&["route"], &[], &[]);
    empty.adjustments = adjustments();
    let text = Bill::new(&empty, &book, now()).text(Style::default());
    assert!(text.starts_with("Bill by route: -$0.009"), "{text}");
    assert!(text.contains("5 adjustments posted in this period"), "{text}");
}

/// Exchanges whose providers tell what they cost: as ours, dearer, without a price here, and nonsense.
fn told_hours() -> Vec<Exchange> {
    let mystery = Charge::Unpriced("no price row for `mystery-1` of `openai`");
    let told = |model, charge, told| Sample {
        tries: vec![Try { model, charge, told: Some(told), ..Try::default() }],
        ..Sample::default()
    };
    let usual = Try::default().charge;
    let samples = [
        told("gpt-5-mini", usual, "0.0002436"),
        told("gpt-5-mini", usual, "0.00031"),
        told("mystery-1", mystery, "1.25"),
        told("gpt-5-mini", usual, "none"),
        Sample::default(),
    ];
    (1..).zip(&samples).map(|(number, sample)| sample.exchange(number)).collect()
}

#[test]
fn what_providers_tell_of_costs_stands_beside_ours() {
    let exchanges = told_hours();
    let answer = ask(&["model"], &exchanges, &[]);
    let book = book();
    let bill = Bill::new(&answer, &book, now());
    assert_snapshot!(bill.text(Style::default()));
    let narrow = bill.text(Style { width: 80, colour: false });
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert_eq!(column(&bill.csv(), "told_attempts"), ["2", "1"]);
    assert_eq!(column(&bill.csv(), "told_difference_usd"), ["0.0000664", ""]);
    let unpriced = report::exchange::line(&exchanges[2]);
    assert!(unpriced.ends_with("of `openai` (the provider says $1.250000)"), "{unpriced}");
    let priced = report::exchange::line(&exchanges[1]);
    assert!(priced.ends_with("$0.000244"), "{priced}");
}

fn agreements() -> Agreements {
    let day = |text: &str| text.parse().unwrap();
    let usd = |text: &str| text.parse::<Money>().unwrap();
    let commitment = |contract: &str, provider: &str, amount, per, from| Commitment {
        contract: contract.to_owned(),
        provider: provider.to_owned(),
        amount: usd(amount),
        per,
        from: day(from),
        until: None,
        used_before: None,
    };
    let credit = |name: &str, amount, from, until: Option<&str>| Credit {
        name: name.to_owned(),
        provider: "openai".to_owned(),
        models: None,
        amount: usd(amount),
        from: day(from),
        until: until.map(day),
        counts: false,
    };
    Agreements {
        commitments: vec![
            commitment("openai-2026", "openai", "10000", Per::Month, "2026-09-01"),
            commitment("anthropic-2026", "anthropic", "25000", Per::Quarter, "2026-07-01"),
        ],
        credits: vec![
            credit("launch", "1500", "2026-09-15", Some("2026-10-15")),
            credit("partner", "500", "2026-08-01", None),
            credit("spring", "2000.50", "2026-11-01", Some("2027-02-01")),
        ],
    }
}

/// What was charged since the middle of August.
fn charges() -> Charges {
    let mut charges = Charges::since("2026-08-15".parse().ok());
    for (provider, day, contracted, unknown) in [
        ("openai", "2026-08-20", "120.25", 0),
        ("openai", "2026-09-20", "8100", 0),
        ("openai", "2026-10-20", "12345.678", 2),
        ("openai", "2026-11-21", "250", 1),
        ("anthropic", "2026-09-01", "26000", 0),
        ("anthropic", "2026-11-02", "999.5", 0),
    ] {
        let contracted: Money = contracted.parse().unwrap();
        let list = contracted.scaled(100, 80).unwrap();
        let at_most = "0.25".parse().unwrap();
        let spent = Spent { list, contracted, unknown, at_most, ..Spent::default() };
        charges.add(provider, day.parse().unwrap(), "m", &spent);
    }
    charges
}

#[test]
fn commitments_and_credits_as_text() {
    let (agreements, charges) = (agreements(), charges());
    let standing = agreements.standing(&charges, now().day());
    let days = DaySpan { from: None, until: "2026-11-23".parse().unwrap() };
    assert_snapshot!(Contracts { standing: &standing, days }.text(Style::default(), now()));
    let none = Agreements::default();
    let standing = none.standing(&charges, now().day());
    let text = Contracts { standing: &standing, days }.text(Style::default(), now());
    assert!(text.contains("The configuration has none"), "{text}");
}

#[test]
fn a_bill_tells_what_contracts_and_credits_make_of_its_days() {
    let (agreements, charges) = (agreements(), charges());
    let standing = agreements.standing(&charges, now().day());
    let days = DaySpan { from: "2026-10-01".parse().ok(), until: "2026-11-23".parse().unwrap() };
    let answer = ask(&["route"], &[], &[]);
    let book = book();
    let contracts = Contracts { standing: &standing, days };
    let bill = Bill::new(&answer, &book, now()).with_contracts(Some(contracts));
    assert_snapshot!(bill.text(Style { width: 80, ..Style::default() }));
}

fn rerating(book: &BookLine, supposed: Supposed) -> Rerating<'_> {
    let period = Period { start: "2026-11-01".parse().ok(), end: "2026-12-01".parse().ok() };
    let mut rerating = Rerating::new(period, now(), book, supposed);
    let [old, new, other] = ["old", "new", "other"].map(|text| {
        let row = PriceRowId::of(text.as_bytes());
        let prices =
            "input_uncached=0.25 cache_read=0.025 output_text=2 reasoning=2 known=2026-11-20";
        rerating.rows.insert(row, format!("openai/gpt-5-mini/standard {prices} book={text}"));
        row
    });
    let booked = |row, cost: &str| {
        let contracted = cost.parse().unwrap();
        Booked { row, contracted, list: contracted }
    };
    for _ in 0..3 {
        let now = booked(new, "0.0612");
        rerating.add("support", "openai/gpt-5-mini", Some(booked(old, "0.0512")), Ok(now));
    }
    rerating.add("support", "openai/mystery-1", None, Ok(booked(other, "1.5")));
    let dear = Some(booked(old, "2.25"));
    rerating.add("agent-plan", "openai/gpt-5-mini", dear, Ok(booked(new, "0.2")));
    rerating.add("agent-plan", "openai/gpt-5-mini", dear, Ok(booked(new, "2.25")));
    let gone = Err("unknown model `gone` of provider `lab`");
    rerating.add("lab", "lab/gone", Some(booked(old, "0.75")), gone);
    rerating.add("lab", "lab/gone", None, gone);
    rerating.untouched = 7;
    rerating
}

#[test]
fn a_rerating_as_text() {
    let book = book();
    let mut shown = rerating(&book, Supposed::default());
    assert_snapshot!(shown.text(Style::default()));
    let narrow = shown.text(Style { width: 80, colour: false });
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    shown.posted = Some(5);
    let wide = shown.text(Style { width: 200, colour: false });
    assert!(wide.contains("Posted 5 adjustments at 2026-11-22T16:00:00"), "{wide}");
}

#[test]
fn what_another_model_would_have_cost_as_text() {
    let served_by = Some(("anthropic".to_owned(), "claude-haiku-4-5".to_owned()));
    let tier = Some("batch".to_owned());
    let supposed = Supposed { served_by, tier, book: None };
    assert_snapshot!(rerating(&book(), supposed).text(Style::default()));
}

fn gap() -> Gap {
    Gap {
        since: "2026-11-22T14:00:00Z".parse().unwrap(),
        until: "2026-11-22T14:01:30Z".parse().unwrap(),
        exchanges: 12,
        attempts: 13,
        cost: Some("0.0312".parse().unwrap()),
        tokens: Some(4711),
        cause: "disk full".to_owned(),
    }
}

#[test]
fn a_gap_is_told_below_the_bill_whether_or_not_it_has_exchanges() {
    for exchanges in [some_hours(), Vec::new()] {
        let mut answer = ask(&["route"], &exchanges, &[]);
        answer.gaps = vec![gap(), Gap { exchanges: 1, cost: None, ..gap() }];
        let bill = Bill::new(&answer, &book(), now()).text(Style::default());
        let words = bill.split_whitespace().collect::<Vec<_>>().join(" ");
        for told in [
            "12 exchanges passed without ledger between 2026-11-22T14:00:00.000Z and \
             2026-11-22T14:01:30.000Z; $0.031200 of them is known and not in this bill",
            "1 exchange passed without ledger between 2026-11-22T14:00:00.000Z and \
             2026-11-22T14:01:30.000Z; nothing of their cost is known, and it is not in this bill",
        ] {
            assert!(words.contains(told), "{bill}");
        }
    }
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
    assert_eq!(json["spend_usd"], serde_json::Value::Null);
    let csv = bill.csv();
    for name in ["cost_usd", "usd_per_1k_exchanges", "usd_per_mtok", "cache_read_usd"] {
        assert_eq!(column(&csv, name), [""], "{name}");
    }
    assert!(exchange::line(&exchanges[0]).ends_with("unpriced: no row"));
}

#[test]
fn what_is_not_certain_is_told_with_its_count_cost_and_bound() {
    let of = |one| Sample { tries: vec![one], ..Sample::default() }.exchange(1);
    let lost = |bound| {
        let (charge, source) = (Charge::Unpriced("usage unknown"), UsageSource::Unknown);
        of(Try { bound, charge, source, tokens: [0; 4], ..Try::default() })
    };
    let doubted = |doubts, source| of(Try { doubts, source, ..Try::default() });
    let mixed = of(Try {
        doubts: &[Doubt::MixedModels],
        charge: Charge::Unpriced("several models"),
        ..Try::default()
    });
    let exchanges = [
        lost(Some("0.25")),
        lost(Some("1")),
        lost(None),
        mixed,
        doubted(&[Doubt::SumMismatch], UsageSource::Reported),
        doubted(&[Doubt::SumMismatch, Doubt::OverlapOpen], UsageSource::Reported),
        doubted(&[Doubt::LowerBound, Doubt::ReasoningUnknown], UsageSource::Estimated),
        doubted(&[], UsageSource::Partial),
    ];
    let answer = ask(&["route"], &exchanges, &[]);
    let (book, now) = (book(), now());
    let bill = Bill::new(&answer, &book, now);
    let table = bill.text(Style::default());
    assert_snapshot!(&table[table.find("not certain").unwrap()..]);
    for width in [80, 100, 160] {
        let text = bill.text(Style { width, ..Style::default() });
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        assert!(text.contains("cost at most $1.2500"), "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&bill.json()).unwrap();
    let total = &json["total"];
    // The bound is beside the cost, and not in it.
    assert_eq!(total["cost_usd"], "0.0009744");
    assert_eq!(total["unknown_at_most_usd"], "1.25");
    assert_eq!(total["unbounded_attempts"], 1);
    assert_eq!(total["doubts"]["sum_mismatch"]["attempts"], 2);
    assert_eq!(total["doubts"]["sum_mismatch"]["cost_usd"], "0.0004872");
    assert_eq!(total["doubts"]["mixed_models"]["cost_usd"], serde_json::Value::Null);
    let csv = bill.csv();
    assert_eq!(column(&csv, "unknown_at_most_usd"), ["1.25"]);
    assert_eq!(column(&csv, "doubtful_attempts"), ["4"]);
    assert_eq!(column(&csv, "doubtful_cost_usd"), ["0.0007308"]);
}

#[test]
fn a_bound_that_nobody_knows_is_not_zero() {
    let (charge, source) = (Charge::Unpriced("usage unknown"), UsageSource::Unknown);
    let tries = vec![Try { bound: None, charge, source, tokens: [0; 4], ..Try::default() }];
    let answer = ask(&["route"], &[Sample { tries, ..Sample::default() }.exchange(1)], &[]);
    let (book, now) = (book(), now());
    let bill = Bill::new(&answer, &book, now);
    let text = bill.text(Style::default());
    assert!(text.contains("no bound of their cost is known") && !text.contains("0.00"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&bill.json()).unwrap();
    assert_eq!(json["total"]["unknown_at_most_usd"], serde_json::Value::Null);
    assert_eq!(column(&bill.csv(), "unknown_at_most_usd"), [""]);
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
        record::attempt_end(end, Some(&exchange.admission.prompt)),
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

/// Twice as dear from December on, and without a price from January on.
fn dearer(large: &Estimate) -> [Later; 2] {
    let model = tariff::Found { provider: "acme".to_owned(), model: "large".to_owned() };
    let month = large.per_month;
    let twice = Split { input: month.input + month.input, ..month };
    let after = Ok((large.row.clone(), twice));
    let at = |text: &str| text.parse().unwrap();
    let later = Later { model, at: at("2026-12-01"), before: Some(month), after };
    let gone = Err(EstimateError::TooLarge);
    let end = Later { at: at("2027-01-01"), before: Some(twice), after: gone, ..later.clone() };
    [later, end]
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
        later: &dearer(&large),
        book: &book(),
    };
    let text = report.text(Style::default());
    assert!(text.contains("$500.00 a day, $15,000.00 per 30 days"), "{text}");
    assert_snapshot!("an_estimate_as_text", text);
    assert_snapshot!("an_estimate_as_json", report.json());
}

#[test]
fn a_period_in_which_nothing_happened_says_so_and_shows_hours_that_were_paid() {
    let asked = |since: &str, until: Option<&str>, prices: &[PriceRecord]| {
        let period = Period {
            start: Some(since.parse().unwrap()),
            end: until.map(|until| until.parse().unwrap()),
        };
        let mut rollup = Rollup::new(Query { by: vec!["route".parse().unwrap()], period });
        prices.iter().for_each(|price| rollup.price(price));
        some_hours().iter().for_each(|exchange| rollup.add(exchange));
        Bill::new(&rollup.answer(now()), &book(), now()).text(Style::default())
    };
    let paid = asked("2026-11-22T15:45:00Z", None, &[hourly()]);
    assert!(paid.contains("No exchanges in this period.\n"), "{paid}");
    assert!(paid.contains("own GPUs") && paid.contains("15 min 00 s"), "{paid}");
    assert!(!paid.contains("token class") && !paid.contains("All usage"), "{paid}");
    let before = asked("2026-11-21T00:00:00Z", Some("2026-11-22T00:00:00Z"), &[hourly()]);
    assert!(before.ends_with("No exchanges in this period.\n"), "{before}");
    let to_come = asked("2027-01-01T00:00:00Z", None, &[hourly()]);
    assert!(to_come.contains("\nfrom 2027-01-01 00:00 UTC, which is to come;"), "{to_come}");
    assert!(to_come.ends_with("No exchanges in this period.\n"), "{to_come}");
    let month = asked("2027-01-01T00:00:00Z", Some("2027-02-01T00:00:00Z"), &[]);
    assert!(month.contains("2027-01-01 00:00 to 2027-02-01 00:00 UTC, which is"), "{month}");
}

#[test]
fn a_bill_in_80_columns_leaves_figures_out_before_it_cuts_labels() {
    let style = Style { width: 80, ..Style::default() };
    let bill = text(&["route", "model"], &some_hours(), &[hourly()], style);
    assert!(bill.lines().all(|line| line.chars().count() <= 80), "{bill}");
    assert!(bill.contains("agent-plan  claude-sonnet-4"), "{bill}");
    assert_snapshot!(bill);
}

#[test]
fn prices_of_ones_own_are_shown_beside_the_list() {
    let mut exchanges = vec![Sample::default().exchange(1)];
    let Charged::Priced { lines, .. } = &mut exchanges[0].attempts[0].end.charged else { panic!() };
    for line in lines {
        line.contracted = line.contracted.scaled(1, 2).unwrap();
    }
    let bill = text(&["route"], &exchanges, &[], Style::default());
    assert!(
        bill.contains("Own prices: $0.000122 less than the $0.000244 at list prices"),
        "{bill}"
    );
}

/// The values of a column of a CSV without quotes.
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let index = lines.next().unwrap().iter().position(|header| *header == name).unwrap();
    lines.map(|line| line[index].to_owned()).collect()
}

proptest! {
    #[test]
    fn the_cost_column_of_csv_sums_to_the_bill(
        picked in prop::collection::vec(0_usize..9, 0..6),
        hours in prop::option::of((0_u64..10_000_000_000_000, 0_i64..200)),
        by in prop::sample::select(vec![vec![], vec!["route"], vec!["team", "model"]]),
    ) {
        let hourly = hours.map(|(pico, minutes)| PriceRecord::PerHour {
            upstream: "gpu".to_owned(),
            cost: Some(Money::from_pico(i128::from(pico))),
            from: UnixTime::from_nanos(now().nanos() - 60_000_000_000 * minutes),
        });
        let all = some_hours();
        let exchanges: Vec<Exchange> = picked.iter().map(|index| all[*index].clone()).collect();
        let answer = ask(&by, &exchanges, hourly.as_slice());
        let csv = Bill::new(&answer, &book(), now()).csv();
        let costs = column(&csv, "cost_usd");
        let costs = costs.iter().filter(|cost| !cost.is_empty());
        let sum: Money = costs.map(|cost| cost.parse::<Money>().unwrap()).sum();
        prop_assert_eq!(sum, answer.spend());
        let idle = column(&csv, "line").iter().filter(|line| *line == "idle").count();
        prop_assert_eq!(idle, answer.hosting.iter().filter(|line| line.idle > Money::ZERO).count());
    }
}

/// Every key of a JSON value, those of maps by label, class and cause apart.
fn keys(json: &serde_json::Value, found: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_forms_is_explained() {
    let page = include_str!("../../../docs/json.md");
    let mut found = BTreeSet::new();
    let mut read = |text: &str| keys(&serde_json::from_str(text).unwrap(), &mut found);
    let mut answer = ask(&["route"], &some_hours(), &[hourly()]);
    answer.gaps.push(gap());
    answer.adjustments = adjustments();
    read(&record::adjustment(&Adjustment {
        exchange: some_hours()[0].admission.exchange,
        ordinal: 0,
        at: now(),
        provider: "openai".to_owned(),
        model: "gpt-5-mini".to_owned(),
        from: None,
        to: PriceRowId::of(b"row"),
        contracted: Money::ZERO,
        list: Money::ZERO,
    }));
    let supposed = Supposed { tier: Some("batch".to_owned()), ..Supposed::default() };
    read(&rerating(&book(), supposed).json());
    read(&record::gap(&gap()));
    read(&Bill::new(&answer, &book(), now()).json());
    for exchange in some_hours() {
        read(&exchange::json(&exchange));
        read(&record::admission(&exchange.admission));
        for Attempt { dispatch, end } in &exchange.attempts {
            read(&record::dispatch(dispatch));
            read(&record::attempt_end(end, Some(&exchange.admission.prompt)));
        }
        read(&record::settlement(&exchange.settlement));
    }
    read(&Bill::new(&ask(&[], &told_hours(), &[]), &book(), now()).json());
    read(&record::price(&hourly()));
    let row = PriceRecord::PerUse { row: PriceRowId::of(b"row"), text: "provider=a".to_owned() };
    read(&record::price(&row));
    let (prices, idea) = idea();
    let found_model = tariff::Found { provider: "acme".to_owned(), model: "large".to_owned() };
    let large = estimate(&prices, &found_model, now(), idea, &[]).unwrap();
    let against = [("large".to_owned(), Ok(large.clone()))];
    let book = book();
    read(
        &report::estimate::EstimateReport {
            idea,
            estimate: &large,
            against: &against,
            later: &dearer(&large),
            book: &book,
        }
        .json(),
    );
    read(&Bill::new(&answer.top(1), &book, now()).json());
    let (agreements, charges) = (agreements(), charges());
    let standing = agreements.standing(&charges, now().day());
    let days = DaySpan { from: None, until: "2026-11-23".parse().unwrap() };
    read(&Contracts { standing: &standing, days }.json(now()));
    let key = tariff::Key::new("acme", "large", now());
    let mut usage = quantity::Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(5);
    let outcome = prices.charge(&key, &usage).unwrap();
    let explanation = report::price::Explanation {
        key,
        considered: &prices.explain(&key),
        outcome: Ok(outcome.0),
        book: &book,
    };
    read(&explanation.json());
    let outcome = Ok((outcome.0, &outcome.1));
    read(&report::price::Charged { id: None, line: 1, key, usage: &usage, outcome }.json());
    weighing(|diff, scheduled| {
        read(&diff.json());
        read(&scheduled.json());
    });
    let slo = servesim::Slo::default();
    let goal = servesim::Goal { slo, share: 0.99, keeper: servesim::Keeper::EachLimit };
    read(&simulation::searched(None, slo, Some(goal), |run| run.json()));
    // Keys that are labels of the fixture.
    found.remove("release");
    let missing: Vec<_> = found.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(found.len() > 100 && missing.is_empty(), "{} keys, missing: {missing:?}", found.len());
}

/// A diff and a schedule of the same change, of which one attempt's prices differ.
fn weighing(tell: impl FnOnce(&PriceDiff<'_>, &Scheduled<'_>)) {
    let head = "book acme\nas_of 2026-01-02\nlicence none\norigin none\nleft_out 0\nprovider lab\n";
    let prices = Book::parse(&format!(
        "{head}model toy\nstandard input_uncached=2 output_text=10 web_searches=10\n\
         standard from=2026-12-01 input_uncached=4,8>>200000 output_text=20 web_searches=10\n\
         model old\nstandard until=2026-12-01 input_uncached=1 output_text=2\n\
         model later\nstandard from=2026-12-01 daily=01:00:00-04:00:00 output_text=2\n"
    ));
    let prices = prices.unwrap();
    let after = Sheet { book: &prices, at: "2026-12-01".parse().unwrap() };
    let before = after.just_before();
    let mut usage = quantity::Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(1_000_000);
    usage.tokens[TokenClass::OutputText] = TokenCount::from(200_000);
    let period = Period { start: "2026-10-23".parse().ok(), end: Some(now()) };
    let mut weighed = Weighed::new(period);
    for (model, count) in [("toy", 12), ("old", 3)] {
        let priced = |sheet: &Sheet<'_>| {
            let key = tariff::Key::new("lab", model, sheet.at);
            let charged = prices.charge(&key, &usage);
            charged.map(|(row, charge)| (row, charge.total)).map_err(|error| error.to_string())
        };
        let (before, later) = (priced(&before), priced(&after));
        for _ in 0..count {
            let priced = [&before, &later].map(|one| one.as_ref().copied().map_err(String::as_str));
            weighed.add(after.at, &usage, priced[0], priced[1]);
        }
    }
    let toy = prices.quote(&tariff::Key::new("lab", "toy", now())).unwrap();
    let same = Ok((toy, "1.25".parse().unwrap()));
    weighed.add(after.at, &usage, same, same);
    weighed.add(after.at, &usage, Err("unknown model"), Err("unknown model"));
    weighed.untouched = 2;
    let line = |sheet: &Sheet<'_>| SheetLine { book: book(), at: sheet.at };
    let changes = before.changes_to(&after);
    let (one, other, listed) = (line(&before), line(&after), book());
    let weighed = Some(&weighed);
    tell(
        &PriceDiff { before: &one, after: &other, changes: &changes, weighed, all: true },
        &Scheduled {
            changes: &changes.all,
            book: &listed,
            now: now(),
            until: "2027-01-01".parse().unwrap(),
            weighed,
        },
    );
}

#[test]
fn a_bill_ends_with_the_prices_that_are_going_to_change() {
    let mut coming = Vec::new();
    weighing(|diff, _| coming.extend(diff.changes.all.iter().filter_map(Coming::of)));
    let (answer, book) = (ask(&["route"], &some_hours(), &[hourly()]), book());
    let bill = Bill::new(&answer, &book, now());
    let plain = bill.text(Style::default());
    let bill = bill.with_coming(&coming);
    let text = bill.text(Style::default());
    let more = text.strip_prefix(&plain).unwrap();
    assert_eq!(
        more,
        "\nPrices of these models are going to change; `farthing price schedule` tells what that does \
         to your traffic:\n\
         lab/old (standard) changes on 2026-12-01, in 8 days: no price from then on\n\
         lab/toy (standard) changes on 2026-12-01, in 8 days: input_uncached 2 -> 4, input_uncached > \
         200,000 2 -> 8, output_text\n10 -> 20\n"
    );
    let json: serde_json::Value = serde_json::from_str(&bill.json()).unwrap();
    assert_eq!(json["price_changes"][1]["model"], "toy");
    assert_eq!(
        coming[0].notice("2026-11-30T12:00:00Z".parse().unwrap()).matches("within a day").count(),
        1
    );
}

#[test]
fn changes_of_prices_as_text() {
    weighing(|diff, scheduled| {
        assert_snapshot!("price_diff", diff.text(Style::default()));
        assert_snapshot!("price_diff_narrow", diff.text(Style { width: 70, colour: false }));
        assert_snapshot!("price_schedule", scheduled.text(Style::default()));
        let unweighed = PriceDiff { weighed: None, ..*diff };
        assert_snapshot!("price_diff_without_a_ledger", unweighed.text(Style::default()));
    });
}

#[test]
fn a_million_tiny_charges_sum_exactly() {
    // A token at $0.0375 per million: to the micro-dollar, each charge would be nothing.
    let charge = Charge::PerMillion("0.0375", "0.0375", "0.0375");
    let sample = |tokens| {
        let tries = vec![Try { tokens: [tokens, 0, 0, 0], charge, ..Try::default() }];
        Sample { tries, ..Sample::default() }.exchange(1)
    };
    let exchanges: Vec<Exchange> = (1..=7).map(sample).collect();
    let mut rollup = Rollup::new(Query { by: vec!["route".parse().unwrap()], ..Query::default() });
    (0..1_000_000).for_each(|number| rollup.add(&exchanges[number % 7]));
    let answer = rollup.answer(now());
    let book = book();
    let bill = Bill::new(&answer, &book, now());
    // 142,857 times 28 tokens and one more, at 37,500 pico-dollars.
    let json: serde_json::Value = serde_json::from_str(&bill.json()).unwrap();
    assert_eq!(json["spend_usd"], "0.1499998875");
    assert_eq!(json["total"]["token_classes"]["input_uncached"]["cost_usd"], "0.1499998875");
    assert_eq!(column(&bill.csv(), "cost_usd"), ["0.1499998875"]);
    assert!(bill.text(Style::default()).contains("$0.150000"));
}

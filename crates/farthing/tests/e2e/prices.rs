//! Prices from the command line and from the configuration.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::home::{Home, pico};

/// Charges records that come from stdin.
fn charge(home: &Home, records: &str) -> (Vec<Value>, String) {
    let mut command = home.command(&["price", "charge", "--json", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, String::from_utf8(output.stderr).unwrap())
}

fn record(model: &str, time: &str, tokens: &str) -> String {
    format!(
        "{{\"provider\":\"acme\",\"model\":\"{model}\",\"time\":\"{time}\",\"tokens\":{{{tokens}}}}}\n"
    )
}

const PRICES: &str = r#"
[upstreams.acme]
kind = "vllm"
base_url = "http://127.0.0.1:1/v1"
provider = "acme"

[[exchange]]
currency = "EUR"
from = "2026-01-01"
usd = "1.5"

[[prices]]
provider = "acme"
model = "euro"
currency = "EUR"
from = "2026-02-01"
input_uncached = "2"
output_text = "4"

[[prices]]
provider = "acme"
model = "night"
input_uncached = "2,4>1000"
output_text = "8"

[[prices]]
provider = "acme"
model = "night"
daily = "22:00:00-06:00:00"
days = "mon-fri"
zone = "Europe/Berlin"
input_uncached = "1"
output_text = "2"

[[contracts]]
name = "o-2026"
provider = "openai"
models = ["=gpt-5-mini"]
from = "2026-11-01"
discount = "10%"
"#;

#[test]
fn usage_records_are_charged_line_by_line_by_the_rows_in_force() {
    let home = Home::new(PRICES);
    let records = [
        record("euro", "2026-02-01T00:00:00Z", "\"input_uncached\":1000000,\"output_text\":500000"),
        record("euro", "2026-01-31T23:59:59Z", "\"input_uncached\":1000000"),
        record("night", "2026-11-20T20:59:59Z", "\"input_uncached\":1001,\"reasoning\":10"),
        record("night", "2026-11-20T21:00:00Z", "\"input_uncached\":1001,\"reasoning\":10"),
        record("none", "2026-11-20T21:00:00Z", "\"input_uncached\":1"),
    ];
    let (lines, err) = charge(&home, &records.concat());
    assert_eq!((lines.len(), err.as_str()), (5, ""));
    let total = |line: usize| lines[line]["total_usd"].as_str().map(pico);
    // EUR 2 and 4 at 1.5; 1,001 at $4 and 10 at $8; 1,001 at $1 and 10 at $2.
    assert_eq!(total(0), Some(6_000_000_000_000));
    assert_eq!(total(2), Some(1_001 * 4_000_000 + 10 * 8_000_000));
    assert_eq!(total(3), Some(1_001 * 1_000_000 + 10 * 2_000_000));
    for (line, reason) in [(1, "was in force"), (4, "unknown model `none`")] {
        assert_eq!(total(line), None);
        assert!(lines[line]["unpriced"].as_str().unwrap().contains(reason), "{}", lines[line]);
    }
    for line in &lines {
        let Some(parts) = line["lines"].as_array() else { continue };
        let sum: i128 = parts.iter().map(|part| pico(part["amount_usd"].as_str().unwrap())).sum();
        assert_eq!(Some(sum), line["total_usd"].as_str().map(pico));
        for part in parts {
            let price = i128::from(part["unit_price_pico_usd"].as_u64().unwrap());
            let count = i128::from(part["count"].as_u64().unwrap());
            assert_eq!(pico(part["amount_usd"].as_str().unwrap()), price * count);
        }
    }
}

#[test]
fn a_contract_is_taken_off_and_the_list_is_told_beside() {
    let home = Home::new(PRICES);
    let at = |time| {
        let tokens = "\"input_uncached\":1000000";
        record("gpt-5-mini", time, tokens).replace("acme", "openai")
    };
    let (lines, err) = charge(&home, &(at("2026-10-31") + &at("2026-11-01")));
    assert_eq!(err, "");
    let told = |line: usize, key: &str| lines[line][key].as_str().unwrap().to_owned();
    assert_eq!((told(0, "total_usd"), told(0, "list_usd")), ("0.25".into(), "0.25".into()));
    assert_eq!((told(1, "total_usd"), told(1, "list_usd")), ("0.225".into(), "0.25".into()));
    let text = home.run(&["price", "explain", "openai/gpt-5-mini", "--at", "2026-11-02"]).ok();
    assert!(text.contains("list less 10%") && text.contains("contract:o-2026"), "{text}");
    let json = home.run(&["price", "explain", "openai/gpt-5-mini", "--at", "2026-10-02", "--json"]);
    let json = json.json();
    let chosen: Vec<_> = json["considered"].as_array().unwrap().iter().collect();
    let chosen: Vec<_> = chosen.iter().filter(|one| one["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!(chosen[0]["price_row"], json["price_row"]);
}

#[test]
fn a_rate_of_a_contract_beats_its_discount_and_names_the_contract() {
    let rate = "\n[[prices]]\ncontract = \"o-2026\"\nprovider = \"openai\"\nmodel = \"gpt-5-mini\"\n\
                input_uncached = \"0.15\"\noutput_text = \"1.2\"\n";
    let home = Home::new(&(PRICES.to_owned() + rate));
    let at = |time| {
        let tokens = "\"input_uncached\":1000000";
        record("gpt-5-mini", time, tokens).replace("acme", "openai")
    };
    // The list says 0.25, the contract began in November.
    let (lines, err) = charge(&home, &(at("2026-10-31") + &at("2026-11-01")));
    assert_eq!(err, "");
    for (line, total, book) in
        [(0, "0.25", "book=genai-prices"), (1, "0.15", "book=contract:o-2026")]
    {
        assert_eq!(
            (&lines[line]["total_usd"], &lines[line]["list_usd"]),
            (&total.into(), &"0.25".into())
        );
        let row = lines[line]["price_row_text"].as_str().unwrap();
        assert!(row.contains(book), "{row}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_others_are_charged_all_the_same() {
    let home = Home::new(PRICES);
    let good = record("euro", "2026-02-01", "\"input_uncached\":1");
    for (bad, message) in [
        ("nonsense\n".to_owned(), "expected a usage record such as"),
        (record("euro", "yesterday", ""), "invalid `time`: expected a date such as"),
        (
            record("euro", "2026-02-01", "\"tokens\":1"),
            "invalid `tokens`: expected one of input_uncached",
        ),
        (
            record("euro", "2026-02-01", "\"prompt_tokens\":1"),
            "expected `input_uncached`, without what a cache served (`cache_read`)",
        ),
        (
            record("euro", "2026-02-01", "\"calls\":1,\"calls\":2"),
            "expected `calls` once in `tokens`",
        ),
        (
            record("euro", "2026-02-01", "\"cache_read\":1,\"cache_read_tokens\":2"),
            "expected `cache_read` once, found it twice",
        ),
        (record("euro", "2026-02-01", "\"calls\":-1"), "invalid value: integer `-1`"),
        (record("euro", "2026-02-01", "\"calls\":18446744073709551615"), "a count below 2^63"),
        (good.replace("model", "modell"), "unknown field `modell`"),
    ] {
        let (lines, err) = charge(&home, &(good.clone() + "\r\n" + &bad + &good));
        let told: Vec<_> = lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
        assert_eq!(told, [1, 3, 4], "{bad}");
        for line in [0, 2] {
            assert_eq!(lines[line]["total_usd"], "0.000003", "{bad}");
        }
        let error = lines[1]["error"].as_str().unwrap();
        assert!(error.contains(message), "{error}");
        let summary = format!("`-`: 1 of 3 lines are no usage records\nline 3: {error}");
        assert!(err.contains(&summary), "{err}");
    }
    let many = charge(&home, &format!("{}{good}", "{}\n".repeat(30))).1;
    assert!(many.contains("30 of 31 lines") && many.contains("line 20: "), "{many}");
    assert!(many.contains("and 10 more") && !many.contains("line 21: "), "{many}");
    let ran = home.run(&["price", "charge", "nowhere.jsonl"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("cannot open `nowhere.jsonl`"), "{}", ran.err);
}

#[test]
fn a_record_may_name_its_fields_as_providers_do_and_all_counts_are_in_the_help() {
    let home = Home::new(PRICES);
    let record = "{\"provider\":\"acme\",\"model\":\"night\",\"timestamp\":\"2026-11-20T20:59:59Z\",\
                  \"service_tier\":\"default\",\"usage\":{\"input_uncached_tokens\":10,\"reasoning_tokens\":1}}";
    // Bytes that are no text are in one line alone.
    let mut bytes = b"\xff\xfe\n".to_vec();
    bytes.extend_from_slice(record.as_bytes());
    let file = home.data().join("usage.jsonl");
    std::fs::create_dir_all(home.data()).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let ran = home.run(&["price", "charge", "--json", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let lines: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines[0]["error"].is_string() && ran.err.contains("1 of 2 lines"), "{}", ran.err);
    assert_eq!(lines[1]["total_usd"], "0.000028");
    let help = home.run(&["price", "charge", "--help"]).ok();
    for item in quantity::Billable::all() {
        assert!(help.contains(item.name()), "{item}: {help}");
    }
}

#[test]
fn prices_that_leave_a_doubt_are_refused_with_their_table_and_line() {
    let price = "[[prices]]\nprovider = \"openai\"\nmodel = \"m\"\ninput_uncached = \"1\"\noutput_text = \"1\"\n";
    for (config, message) in [
        (price.repeat(2), "line 8: invalid `prices[1]`: invalid `from`: expected one row"),
        (price.to_owned() + "currency = \"EUR\"\n", "one that has a rate of exchange, found `EUR`"),
        (
            "[[contracts]]\nname = \"a\"\nprovider = \"nobody\"\ndiscount = \"5%\"\n".to_owned(),
            "line 3: invalid `contracts[0]`: invalid `contract`: expected a provider, models and tiers",
        ),
        (
            "[[contracts]]\nname = \"a\"\nprovider = \"openai\"\n".to_owned(),
            "line 3: invalid `contracts[0]`: `discount` is missing: expected a percentage such as",
        ),
        (
            "[[contracts]]\nname = \"a\"\nprovider = \"openai\"\ndiscount = \"5%\"\n".repeat(2),
            "line 8: invalid `contracts[1]`: invalid `name`: expected one that no other contract has",
        ),
        (
            price.to_owned() + "contract = \"b\"\n",
            "line 8: invalid `prices[0]`: invalid `contract`: expected the `name` of one of",
        ),
        (
            price.to_owned()
                + "contract = \"a\"\nfrom = \"2027-01-01\"\n[[contracts]]\nname = \"a\"\n\
             provider = \"openai\"\nuntil = \"2027-01-01\"\n",
            "line 9: invalid `prices[0]`: invalid `from`: expected a time at which the contract holds",
        ),
        (
            price.to_owned()
                + "contract = \"a\"\n[[contracts]]\nname = \"a\"\nprovider = \"groq\"\n",
            "line 4: invalid `prices[0]`: invalid `provider`: expected `groq`, with which the",
        ),
        (
            "[[contracts]]\nname = \"a\"\nprovider = \"openai\"\ndiscount = \"5\"\n".to_owned(),
            "invalid `discount`: expected a percentage such as `15%`, found `5`",
        ),
        (
            "[[exchange]]\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\nusd = \"-1\"\n".to_owned(),
            "line 6: invalid `exchange[0]`: invalid `usd`",
        ),
        (price.replace("\"1\"", "\"0.30000000000000004\""), "not the noise of a float"),
    ] {
        let ran = Home::new(&config).run(&["serve", "--check"]);
        assert_eq!(ran.code, Some(1), "{config}");
        let err = ran.err.replace('\n', " ");
        assert!(err.contains(message), "{err}\n{message}");
    }
}

const LITELLM: &str = r#"{
  "gpt-5-mini": {"litellm_provider": "openai", "input_cost_per_token": 3e-07, "output_cost_per_token": 2e-06,
                 "cache_read_input_token_cost": 2.5e-08},
  "gpt-new": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
}"#;

#[test]
fn an_imported_list_is_compared_and_applies_where_it_is_named() {
    let home = Home::new("");
    let file = home.data().join("list.json");
    std::fs::create_dir_all(home.data()).unwrap();
    std::fs::write(&file, LITELLM).unwrap();
    let path = file.to_str().unwrap();
    let told = home.run(&["price", "import", "--from", "litellm", path]).ok();
    assert!(told.starts_with("litellm: 2 models, 2 rows"), "{told}");

    let json = home.run(&["price", "check", "litellm", "--json"]).json();
    assert_eq!(json["only_other"], serde_json::json!(["openai/gpt-new"]));
    let differ = json["differ"].as_array().unwrap();
    assert_eq!(differ.len(), 1, "{json}");
    assert_eq!(differ[0]["item"], "input_uncached");
    assert_eq!(differ[0]["unit_price_pico_usd"], 250_000);
    assert_eq!(differ[0]["other_unit_price_pico_usd"], 300_000);
    let text = home.run(&["price", "check", "litellm"]).ok();
    assert!(text.contains("0.25") && text.contains("120.0%"), "{text}");

    // Named, it beats the built-in book, which prices what it does not.
    home.configure("price_books = [\"litellm\"]\n");
    let row = |model: &str| {
        let json = home.run(&["price", "explain", model, "--json"]).json();
        let rows = json["considered"].as_array().unwrap().clone();
        let chosen = rows.into_iter().find(|row| row["chosen"] == true);
        chosen.map(|row| row["price_row_text"].as_str().unwrap().to_owned()).unwrap()
    };
    let mini = row("openai/gpt-5-mini");
    assert!(mini.contains(" input_uncached=0.3 ") && mini.contains(" book=litellm"), "{mini}");
    assert!(row("openai/gpt-new").contains("book=litellm"));
    assert!(row("openai/gpt-4o").contains("book=genai-prices"));
    home.configure("price_books = [\"nowhere\"]\n");
    let ran = home.run(&["price", "explain", "openai/gpt-4o"]);
    assert!(
        ran.err.contains("cannot read the price book") && ran.err.contains("nowhere"),
        "{}",
        ran.err
    );
}

#[test]
fn a_bad_list_is_named_and_nothing_of_it_is_taken_over() {
    let home = Home::new("");
    let file = home.data().join("list.json");
    std::fs::create_dir_all(home.data()).unwrap();
    let path = file.to_str().unwrap();
    for (from, to, message) in [
        ("1e-06", "-1e-06", "`gpt-new`, `input_cost_per_token`: expected a price"),
        ("1e-06", "\"free\"", "`gpt-new`, `input_cost_per_token`: expected a price"),
        ("}\n}", "}", "expected an object of models, each an object of prices, found `EOF"),
    ] {
        std::fs::write(&file, LITELLM.replace(from, to)).unwrap();
        let ran = home.run(&["price", "import", "--from", "litellm", path]);
        assert_eq!(ran.code, Some(1));
        assert!(
            ran.err.contains(message) && ran.err.contains("nothing is taken over"),
            "{}",
            ran.err
        );
        assert!(!home.data().join("prices").exists());
    }
    for name in ["../x", "", ".hidden", "a/b"] {
        let ran = home.run(&["price", "import", "--from", "litellm", "--name", name, path]);
        assert!(ran.err.contains("expected the name of a price book"), "{name}: {}", ran.err);
    }
}

#[test]
fn prices_that_are_going_to_change_are_told_with_their_day() {
    let home = Home::new(
        "[[prices]]\nprovider = \"openai\"\nmodel = \"gpt-5-mini\"\nfrom = \"2126-01-01\"\n\
         input_uncached = \"0.5\"\noutput_text = \"2\"\n",
    );
    let json = home.run(&["price", "schedule", "--days", "40000", "--json"]).json();
    let changes = json["changes"].as_array().unwrap();
    let change = changes.iter().find(|change| change["from"] == "2126-01-01T00:00:00Z").unwrap();
    assert!(change["before"].as_str().unwrap().contains("input_uncached=0.25"));
    assert_eq!(change["differ"][0]["other_unit_price_pico_usd"], 500_000);
    let text = home.run(&["price", "schedule", "--days", "40000"]).ok();
    let line =
        text.lines().find(|line| line.contains("input_uncached") && line.contains("2126-01-01"));
    assert!(line.unwrap().contains("+100.0%"), "{text}");
    let none = home.run(&["price", "schedule", "--days", "30000", "--json"]).json();
    assert!(!none["changes"].to_string().contains("2126-01-01"));
}

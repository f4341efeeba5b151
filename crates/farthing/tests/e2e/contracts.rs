//! Commitments and credits, over months: what went through the gateway today is put into the past.

use journal::{Batch, Body, DirStorage, Reader, Record, Writer};
use quantity::{Day, ExchangeId, UnixTime};
use serde_json::{Value, json};

use crate::client::Call;
use crate::home::Home;
use crate::scripted::{Act, Scripted, json as reply};

const USED: &str = r#"{"id":"c","model":"NAME","choices":[{"index":0,"message":{"content":"abcd"},
    "finish_reason":"stop"}],
    "usage":{"prompt_tokens":1000000,"completion_tokens":500000,"total_tokens":1500000}}"#;

/// Days ago, and the model. A million tokens in and half a million out cost $1.25 at the list price of
/// gpt-5-mini and $1.00 at the rates below.
const EXCHANGES: [(i64, &str); 5] = [
    (50, "gpt-5-mini"),
    (45, "gpt-5-mini"),
    (20, "gpt-5-mini"),
    (20, "no-such"),
    (0, "gpt-5-mini"),
];

const DAY: i64 = 86_400_000_000_000;

/// So many days before the first exchange was made; negative: after.
fn ago(now: UnixTime, days: i64) -> Day {
    UnixTime::from_nanos(now.nanos() - DAY * days).day()
}

/// Two contracts, one after the other, and two credits.
fn config(address: std::net::SocketAddr, now: UnixTime, past_output: &str) -> String {
    let [d60, d47, d46, d30, end] = [60, 47, 46, 30, -335].map(|days| ago(now, days));
    let mut text = format!(
        r#"
[upstreams.openai]
kind = "openai"
base_url = "http://{address}/v1"

[[contracts]]
name = "past"
provider = "openai"
from = "{d60}"
until = "{d30}"
commitment_usd = "5"
commitment_per = "term"
commitment_used_usd = "0.5"

[[contracts]]
name = "now"
provider = "openai"
from = "{d30}"
until = "{end}"
commitment_usd = "10"
commitment_per = "term"

[[credits]]
name = "prepaid"
provider = "openai"
models = ["^gpt-5"]
amount_usd = "1.25"
from = "{d46}"
counts_toward_commitment = true

[[credits]]
name = "launch"
provider = "openai"
amount_usd = "1.50"
from = "{d60}"
until = "{d47}"
"#
    );
    for (contract, output) in [("past", past_output), ("now", "1.60")] {
        text.push_str(&format!(
            "\n[[prices]]\ncontract = \"{contract}\"\nprovider = \"openai\"\nmodel = \"gpt-5-mini\"\n\
             input_uncached = \"0.20\"\noutput_text = \"{output}\"\n"
        ));
    }
    text
}

/// Writes the journal anew with every exchange so many days earlier.
fn put_into_the_past(home: &Home, order: &[ExchangeId]) {
    let (path, moved) = (home.data().join("journal"), home.data().join("moved"));
    let mut reader = Reader::open(DirStorage::open(&path).unwrap()).unwrap();
    let mut batch = Batch::new();
    let mut writer = None;
    while let Some(record) = reader.next().unwrap() {
        let mut record: Record = record.decode().unwrap();
        let writer = writer.get_or_insert_with(|| {
            let storage = DirStorage::create(&moved).unwrap();
            Writer::open(storage, UnixTime::from_nanos(0), record.writer.0).unwrap().0
        });
        let earlier = |exchange: ExchangeId, at: &mut UnixTime| {
            let place = order.iter().position(|one| *one == exchange).unwrap();
            *at = UnixTime::from_nanos(at.nanos() - DAY * EXCHANGES[place].0);
        };
        match &mut record.body {
            Body::Admitted(admission) => earlier(admission.exchange, &mut admission.at),
            Body::Dispatched(dispatch) => earlier(dispatch.exchange, &mut dispatch.at),
            Body::AttemptEnded(end) => {
                let exchange = end.exchange;
                earlier(exchange, &mut end.at);
                for at in [&mut end.first_byte_at, &mut end.first_token_at, &mut end.last_token_at]
                {
                    at.iter_mut().for_each(|at| earlier(exchange, at));
                }
            }
            Body::Settled(settlement) => earlier(settlement.exchange, &mut settlement.at),
            _ => {}
        }
        batch.push(&record).unwrap();
        writer.append(&mut batch, UnixTime::from_nanos(0)).unwrap();
        batch = Batch::new();
    }
    writer.unwrap().sync().unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&moved, &path).unwrap();
    let _ = std::fs::remove_dir_all(home.data().join("warehouse"));
}

/// List, contracted, credits, shortfall and billed of the one provider.
fn billed(contracts: &Value) -> [&str; 5] {
    let [one] = contracts["billed"].as_array().unwrap().as_slice() else { panic!("{contracts}") };
    assert_eq!((&one["provider"], &one["billed_is_complete"]), (&json!("openai"), &json!(true)));
    ["list_usd", "contracted_usd", "credits_usd", "shortfall_usd", "billed_usd"]
        .map(|key| one[key].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commitments_and_credits_stand_as_reckoned_by_hand() {
    let server = Scripted::start(|received| {
        let asked = String::from_utf8_lossy(&received.body).into_owned();
        let model = if asked.contains("no-such") { "no-such" } else { "gpt-5-mini" };
        vec![Act::Send(reply(&USED.replace("NAME", model)))]
    })
    .await;
    let bare = format!(
        "[upstreams.openai]\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n",
        server.address
    );
    let home = Home::new(&bare);
    let none = home.run(&["price", "contracts"]);
    assert!(none.code == Some(1) && none.err.contains("there is no journal"), "{}", none.err);
    // The rates of both contracts, for no contract holds on a day that is not known yet.
    let rate = "[[prices]]\nprovider = \"openai\"\nmodel = \"gpt-5-mini\"\n\
                input_uncached = \"0.20\"\noutput_text = \"1.60\"\n";
    home.configure(&(bare.clone() + rate));
    let gateway = home.serve();
    for (_, model) in EXCHANGES {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        assert_eq!(Call::chat(body).send(&gateway).await.status, 200);
    }
    gateway.stop().await;
    let mut made = home.journal().0;
    made.sort_by_key(|exchange| exchange.admission.at);
    let order: Vec<ExchangeId> = made.iter().map(|exchange| exchange.admission.exchange).collect();
    let now = made[0].admission.at;
    put_into_the_past(&home, &order);
    home.configure(&config(server.address, now, "1.60"));
    let [d60, d45, d30] = [60, 45, 30].map(|days| ago(now, days).to_string());
    let bill = |since: &str, until: &[&str]| {
        home.run(&[&["bill", "--json", "--since", since], until].concat()).json()
    };

    // $2 were charged and $2 paid by credits; the dollar of the first does not count, 50 cents were used
    // before the ledger began, so that $3.50 are missing of $5.
    let past = bill(&d60, &["--until", &d30]);
    assert_eq!(past["spend_usd"], "2");
    assert_eq!(billed(&past["contracts"]), ["2.5", "2", "2", "3.5", "3.5"]);
    let [period] = past["contracts"]["commitments"].as_array().unwrap().as_slice() else {
        panic!("{past}")
    };
    for (key, told) in [
        ("contract", json!("past")),
        ("used_usd", json!("1.5")),
        ("credits_not_counted_usd", json!("1")),
        ("shortfall_usd", json!("3.5")),
        ("is_over", json!(true)),
    ] {
        assert_eq!(period[key], told, "{key}");
    }
    let credits = |bill: &Value| -> Vec<Value> {
        let credits = bill["contracts"]["credits"].as_array().unwrap();
        let told = credits.iter().map(|one| {
            json!([
                one["credit"],
                one["paid_before_usd"],
                one["paid_usd"],
                one["left_usd"],
                one["is_over"]
            ])
        });
        told.collect()
    };
    assert_eq!(
        credits(&past),
        [json!(["launch", "0", "1", "0.5", true]), json!(["prepaid", "0", "1", "0.25", false])]
    );
    // The rest: $2 charged, the last 25 cents of the credit, $8 to go.
    let rest = bill(&d30, &[]);
    assert_eq!(billed(&rest["contracts"]), ["2.5", "2", "0.25", "0", "1.75"]);
    assert_eq!(credits(&rest), [json!(["prepaid", "1", "0.25", "0", false])]);
    // Both parts are the whole, and so are other parts.
    let all = home.run(&["price", "contracts", "--json"]).json();
    assert_eq!(all["schema"], "farthing.contracts/1");
    assert_eq!(billed(&all), ["5", "4", "2.25", "3.5", "5.25"]);
    assert_eq!(all["billed"][0]["unpriced_attempts"], 1);
    let (first, second) = (bill(&d60, &["--until", &d45]), bill(&d45, &[]));
    assert_eq!(billed(&first["contracts"]), ["1.25", "1", "1", "0", "0"]);
    assert_eq!(billed(&second["contracts"]), ["3.75", "3", "1.25", "3.5", "5.25"]);

    let text = home.run(&["price", "contracts"]).ok();
    for told in [
        "openai    5.0000      4.0000       2.2500     3.5000  5.2500",
        "shortfall, due on",
        "if no more is used",
        "expired on",
        "used up",
        "openai: in none of these sums are 1 attempt without a price.",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    let text = home.run(&["bill", "--since", &d30]).ok();
    assert!(
        text.contains("Own prices:") && text.contains("a commitment is of its whole"),
        "{text}"
    );
    // Nobody who agreed on nothing is told of it.
    home.configure(&bare);
    assert_eq!(home.run(&["bill", "--json"]).json()["contracts"], Value::Null);
    let text = home.run(&["price", "contracts"]).ok();
    assert!(text.contains("The configuration has none"), "{text}");

    // A price of the past that was wrong is put right today: its adjustments are of today.
    home.configure(&config(server.address, now, "2.60"));
    let posted = home.run(&["price", "rerate", "--since", &d60, "--apply", "--json"]).json();
    assert_eq!((&posted["posted"], &posted["total"]["difference_usd"]), (&json!(2), &json!("1")));
    assert_eq!(bill(&d60, &["--until", &d30])["contracts"], past["contracts"]);
    let rest = bill(&d30, &[]);
    assert_eq!(billed(&rest["contracts"]), ["2.5", "3", "0.25", "0", "2.75"]);
    assert_eq!(rest["contracts"]["commitments"][0]["left_usd"], "7");
}

#[test]
fn agreements_that_cannot_be_are_refused_with_their_table_and_line() {
    let contract = "[[contracts]]\nname = \"a\"\nprovider = \"openai\"\nfrom = \"2026-01-01\"\n";
    let committed = format!("{contract}commitment_usd = \"10\"\ncommitment_per = \"month\"\n");
    let credit = "[[credits]]\nname = \"c\"\nprovider = \"openai\"\namount_usd = \"5\"\nfrom = \"2026-02-01\"\n";
    let with = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from));
        text.replace(from, to)
    };
    for (config, message) in [
        (
            format!("{committed}{}", with(&committed, "\"a\"", "\"b\"")),
            "line 13: invalid `contracts[1]`: invalid `commitment_usd`: expected one commitment to \
             `openai` at a time, found that of contract `a` beside it",
        ),
        (
            with(&committed, "\"10\"", "\"-10\""),
            "line 7: invalid `contracts[0]`: invalid `commitment_usd`: expected US dollars such as",
        ),
        (
            with(&committed, "\"month\"", "\"week\""),
            "line 8: invalid `contracts[0]`: invalid `commitment_per`: expected one of \"month\", \
             \"quarter\", \"year\", \"term\", found `week`",
        ),
        (
            with(&committed, "commitment_per = \"month\"\n", ""),
            "line 3: invalid `contracts[0]`: `commitment_per` is missing: expected one of \"month\"",
        ),
        (
            with(&committed, "from = \"2026-01-01\"\n", ""),
            "line 3: invalid `contracts[0]`: `from` is missing",
        ),
        (
            with(&committed, "2026-01-01", "2026-01-01T12:00:00Z"),
            "line 6: invalid `contracts[0]`: invalid `from`: expected a day in UTC",
        ),
        (
            format!("{committed}until = \"2026-12-15\"\n"),
            "line 9: invalid `contracts[0]`: invalid `until`: expected a whole number of months",
        ),
        (
            with(&committed, "month", "term"),
            "line 3: invalid `contracts[0]`: `until` is missing: expected the day on which the term",
        ),
        (
            with(&committed, "\"openai\"", "\"nobody\""),
            "line 5: invalid `contracts[0]`: invalid `provider`: expected one of the price book",
        ),
        (
            format!("{contract}commitment_used_usd = \"1\"\n"),
            "line 7: invalid `contracts[0]`: invalid `commitment_used_usd`: expected `commitment_usd`",
        ),
        (
            format!("{credit}until = \"2026-02-01\"\n"),
            "line 8: invalid `credits[0]`: invalid `until`: expected a day after `from`",
        ),
        (
            with(credit, "\"5\"", "\"-5\""),
            "line 6: invalid `credits[0]`: invalid `amount_usd`: expected US dollars such as",
        ),
        (
            with(credit, "\"openai\"", "\"nobody\""),
            "line 5: invalid `credits[0]`: invalid `provider`: expected one of the price book",
        ),
        (
            credit.repeat(2),
            "line 9: invalid `credits[1]`: invalid `name`: expected one that no other",
        ),
        (
            format!("{credit}models = [\"gpt-5\"]\n"),
            "line 8: invalid `credits[0]`: invalid `models`",
        ),
    ] {
        let ran = Home::new(&config).run(&["serve", "--check"]);
        assert_eq!(ran.code, Some(1), "{config}");
        let err = ran.err.replace('\n', " ");
        assert!(err.contains(message), "{err}\n{message}");
    }
}

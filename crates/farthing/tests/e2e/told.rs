//! What providers say themselves that a call cost: kept beside our charge, and never in its place.

use facts::ToldCost;
use serde_json::{Value, json};
use simulated::{Options, Simulated};

use crate::client::{Call, Reply};
use crate::home::{Gateway, Home, INPUT, OUTPUT, PRICES, cost, pico, upstream};
use crate::scripted::{Act, Received, Scripted, stream, whole};

/// What three tokens of input and one of output cost by [`PRICES`]: $0.0000175.
const OURS: i128 = 3 * INPUT + OUTPUT;

/// Answers with what the request's header wishes in the usage, or in a header.
fn told(request: &Received) -> Vec<Act> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let counts = r#""prompt_tokens":3,"completion_tokens":1,"total_tokens":4"#;
    let member = request.header("x-told").map(|told| format!(",{told}")).unwrap_or_default();
    let usage = format!("{{{counts}{member}}}");
    let bytes = if asked["stream"] == true {
        let head = format!(r#"data: {{"id":"c","model":{},"choices":"#, asked["model"]);
        let text = head.clone() + "[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
        // A count on the way, and the last one with another cost.
        let first = head.clone() + "[],\"usage\":{" + counts + ",\"cost\":7}}\n\n";
        let last = head + "[],\"usage\":" + &usage + "}\n\n";
        stream([text.as_bytes(), first.as_bytes(), last.as_bytes(), b"data: [DONE]\n\n"])
    } else {
        let body = format!(
            r#"{{"id":"c","model":{},"choices":[{{"index":0,"message":{{"content":"a"}},"finish_reason":"stop"}}],"usage":{usage}}}"#,
            asked["model"]
        );
        let head =
            request.header("x-head").map(|cost| format!("x-litellm-response-cost: {cost}\r\n"));
        whole(
            "200 OK",
            &("content-type: application/json\r\n".to_owned() + &head.unwrap_or_default()),
            &body,
        )
    };
    vec![Act::Send(bytes)]
}

fn config(server: &Scripted) -> String {
    let kinds = ["openrouter", "xai", "openai_compatible"];
    let upstreams: String = kinds.iter().map(|kind| upstream(kind, server.address)).collect();
    let named =
        kinds.map(|kind| format!("[models.\"by-{kind}\"]\nupstream = \"{kind}\"\nmodel = \"m\"\n"));
    upstreams + &named.concat() + PRICES
}

async fn ask(gateway: &Gateway, model: &str, header: (&str, &str)) -> Reply {
    let body = json!({"model": model, "messages": []});
    Call::chat(body.to_string()).with(header.0, header.1).send(gateway).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cost_that_the_provider_tells_stands_beside_ours_and_never_in_its_place() {
    let server = Scripted::start(told).await;
    let home = Home::new(&config(&server));
    let gateway = home.serve();
    let streamed = r#"{"model":"by-openrouter","stream":true,"messages":[]}"#;
    let streamed = Call::chat(streamed).with("x-told", r#""cost":0.0000175,"is_byok":false"#);
    let replies = [
        ask(&gateway, "by-openrouter", ("x-told", r#""cost":1.75e-05"#)).await,
        streamed.send(&gateway).await,
        // A fifth more than ours.
        ask(&gateway, "by-xai", ("x-told", r#""cost_in_usd_ticks":210000"#)).await,
        ask(&gateway, "by-openai_compatible", ("x-head", "1.75e-05")).await,
        ask(&gateway, "new", ("x-told", r#""cost":0.25"#)).await,
        ask(&gateway, "by-openrouter", ("x-told", r#""cost":-1"#)).await,
        ask(&gateway, "by-openrouter", ("x-nothing", "told")).await,
    ];
    home.once_settled(replies.len()).await;
    let of = |dollars: &str| Some(ToldCost::Of(dollars.parse().unwrap()));
    let expected = [
        (Some(OURS), of("0.0000175")),
        (Some(OURS), of("0.0000175")),
        (Some(OURS), of("0.000021")),
        (Some(OURS), of("0.0000175")),
        (None, of("0.25")),
        (Some(OURS), Some(ToldCost::Refused)),
        (Some(OURS), None),
    ];
    for (reply, (ours, told)) in replies.iter().zip(&expected) {
        let settled = home.settled(reply.id()).unwrap();
        assert_eq!((cost(&settled), &settled.attempts[0].end.told), (*ours, told));
    }

    let look = async |reply: &Reply| {
        let path = format!("/farthing/v1/exchanges/{}", reply.id());
        Call::get(&path).send(&gateway).await.json()
    };
    let shown = look(&replies[2]).await;
    assert_eq!(shown["cost_usd"], "0.0000175");
    assert_eq!(shown["attempts"][0]["told_cost_usd"], "0.000021");
    assert_eq!(shown["attempts"][0]["told_cost_refused"], false);
    let unpriced = look(&replies[4]).await;
    assert_eq!(
        (&unpriced["cost_usd"], &unpriced["unpriced_told_usd"]),
        (&Value::Null, &"0.25".into())
    );
    let refused = look(&replies[5]).await;
    let refused = &refused["attempts"][0];
    assert_eq!(
        (&refused["told_cost_usd"], &refused["told_cost_refused"]),
        (&Value::Null, &true.into())
    );

    let metrics = Call::get("/metrics").send(&gateway).await;
    for line in [
        "farthing_told_costs_total{is=\"agrees\"} 3",
        "farthing_told_costs_total{is=\"differs\"} 1",
        "farthing_told_costs_total{is=\"unpriced\"} 1",
        "farthing_told_costs_total{is=\"refused\"} 1",
        "farthing_told_cost_usd_total 0.2500735",
        "farthing_cost_usd_total 0.000105",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
    gateway.stop().await;

    let bill = home.run(&["bill", "--by", "upstream", "--json"]).json();
    let money = |value: &Value| pico(value.as_str().unwrap_or_else(|| panic!("{value}")));
    assert_eq!(money(&bill["spend_usd"]), 6 * OURS, "what is told is in no sum");
    let all = &bill["total"]["told"];
    assert_eq!((&all["told_attempts"], &all["told_usd"]), (&5.into(), &"0.2500735".into()));
    let compared = json!({
        "attempts": 4, "cost_usd": "0.00007", "told_usd": "0.0000735", "difference_usd": "0.0000035",
    });
    assert_eq!(all["compared"], compared);
    let apart = json!({
        "attempts": 1, "cost_usd": "0.0000175", "told_usd": "0.000021", "difference_usd": "0.0000035",
    });
    assert_eq!(all["apart"], apart);
    assert_eq!(
        (&all["unpriced_attempts"], &all["unpriced_told_usd"], &all["refused_attempts"]),
        (&1.into(), &"0.25".into(), &1.into())
    );
    let group = |name: &str| {
        let groups = bill["groups"].as_array().unwrap();
        groups.iter().find(|group| group["key"]["upstream"] == name).unwrap()["measures"].clone()
    };
    assert_eq!(group("xai")["told"]["apart"]["attempts"], 1);
    assert_eq!(group("openrouter")["told"]["compared"]["difference_usd"], "0");
    assert_eq!(group("openai_compatible")["told"]["told_usd"], "0.0000175");
    // However wide its columns are.
    let text = home.run(&["bill"]).ok();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "told by providers",
        "priced here 4 0.000070 0.000074 0.000004",
        "over 1% apart 1 0.000018 0.000021 0.000004",
        "no price here 1 - 0.250000 -",
        "told otherwise",
        "their providers say $0.000021: over 1% apart",
        "providers say $0.250000 for 1 of them",
        "told cost refused",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let csv = home.run(&["bill", "--by", "upstream", "--csv"]).ok();
    assert!(
        csv.lines().next().unwrap().contains("told_attempts,told_usd,told_difference_usd"),
        "{csv}"
    );
    let dump = home.run(&["journal", "dump"]).ok();
    assert!(dump.contains(r#""told_cost_usd":"0.000021","told_cost_refused":false"#), "{dump}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_provider_tells_a_cost_the_bill_says_nothing_of_it() {
    let server = Scripted::start(told).await;
    let home = Home::new(&config(&server));
    let gateway = home.serve();
    ask(&gateway, "by-openrouter", ("x-nothing", "told")).await;
    home.once_settled(1).await;
    gateway.stop().await;
    assert_eq!(home.run(&["bill", "--json"]).json()["total"]["told"], Value::Null);
    assert!(!home.run(&["bill"]).ok().contains("told"));
}

/// The model server without a model tells what its request wishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulated_server_tells_a_cost_that_is_asked_for() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&(upstream("openrouter", server.address()) + PRICES));
    let gateway = home.serve();
    for (path, more) in [
        (
            "/v1/chat/completions",
            r#""messages":[{"role":"user","content":"[[sim output=2 cost=0.5]]"}]"#,
        ),
        (
            "/v1/chat/completions",
            r#""stream":true,"messages":[{"role":"user","content":"[[sim output=2 cost=0.5]]"}]"#,
        ),
        ("/v1/responses", r#""input":"[[sim output=2 cost=0.5]]""#),
        ("/v1/responses", r#""stream":true,"input":"[[sim output=2 cost=0.5]]""#),
    ] {
        let call = Call::new("POST", path, format!(r#"{{"model":"m",{more}}}"#));
        let reply = call.with("content-type", "application/json").send(&gateway).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let settled = home.settled(reply.id()).unwrap();
        let told = settled.attempts[0].end.told;
        assert_eq!(told, Some(ToldCost::Of("0.5".parse().unwrap())), "{path} {more}");
        assert!(cost(&settled).unwrap() > 0);
    }
}

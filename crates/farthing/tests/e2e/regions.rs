//! Regions: where a model ran decides which price applies.

use facts::Charged;
use quantity::Doubt;
use serde_json::{Value, json};

use crate::client::{Call, Reply};
use crate::home::{Gateway, Home, cost, pico};
use crate::scripted::{Act, Scripted, json as reply};

/// Prices of one model in two regions, and nowhere else.
fn prices(eu_input: &str) -> String {
    let row = |region: &str, input: &str, output: &str| {
        format!(
            "[[prices]]\nprovider = \"test\"\nmodel = \"m\"\nregion = \"{region}\"\n\
             input_uncached = \"{input}\"\noutput_text = \"{output}\"\n"
        )
    };
    row("eu", eu_input, "4") + &row("us", "3", "6")
}

fn config(server: &Scripted, eu_input: &str) -> String {
    let at = |name: &str, kind: &str, region: &str| {
        format!(
            "[upstreams.{name}]\nkind = \"{kind}\"\nbase_url = \"http://{}/v1\"\nprovider = \"test\"\n\
             {region}\n[models.\"{name}\"]\nupstream = \"{name}\"\nmodel = \"m\"\n",
            server.address
        )
    };
    [
        at("in-eu", "openai", "region = \"EU\""),
        at("in-us", "openai", "region = \"us\""),
        at("somewhere", "openai", ""),
        at("claude-eu", "anthropic", "region = \"eu\""),
    ]
    .concat()
        + &prices(eu_input)
}

/// Three tokens in, one out; in Anthropic's dialect with the region that the request's header names.
async fn server() -> Scripted {
    Scripted::start(|request| {
        let body = if request.line.contains("/messages") {
            let geo = request.header("x-geo").unwrap();
            let usage = json!({"input_tokens": 3, "output_tokens": 1, "inference_geo": geo});
            json!({"id": "msg", "model": "m", "content": [], "usage": usage})
        } else {
            let usage = json!({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4});
            json!({"id": "c", "model": "m", "choices": [], "usage": usage})
        };
        vec![Act::Send(reply(&body.to_string()))]
    })
    .await
}

async fn chat(gateway: &Gateway, model: &str) -> Reply {
    Call::chat(format!(r#"{{"model":"{model}","max_tokens":10,"messages":[]}}"#))
        .send(gateway)
        .await
}

const EU: i128 = 3 * 2_000_000 + 4_000_000;
const US: i128 = 3 * 3_000_000 + 6_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_model_costs_what_its_region_asks_live_and_priced_again() {
    let server = server().await;
    let home = Home::new(&config(&server, "2"));
    let gateway = home.serve();
    let (eu, us, none) = (
        chat(&gateway, "in-eu").await,
        chat(&gateway, "in-us").await,
        chat(&gateway, "somewhere").await,
    );
    home.once_settled(3).await;
    let attempt = |reply: &Reply| home.settled(reply.id()).unwrap().attempts.remove(0);
    assert_eq!(attempt(&eu).end.charged.cost().unwrap().pico(), EU);
    assert_eq!(attempt(&us).end.charged.cost().unwrap().pico(), US);
    // What it may cost at most is by the price of its region, too: ten tokens of output and a prompt.
    let bounds = [&eu, &us, &none].map(|reply| attempt(reply).dispatch.bound);
    assert!(bounds[0].unwrap() < bounds[1].unwrap() && bounds[2].is_none(), "{bounds:?}");
    let Charged::Unpriced { reason } = attempt(&none).end.charged else {
        panic!("it has no price")
    };
    assert_eq!(reason, "no price of `test/m` for tier `standard` in region `none told`");
    let shown =
        Call::get(&format!("/farthing/v1/exchanges/{}", eu.id())).send(&gateway).await.json();
    let shown = &shown["attempts"][0];
    assert_eq!((&shown["region"], &shown["region_served"]), (&"eu".into(), &Value::Null));
    gateway.stop().await;

    let bill = home.run(&["bill", "--by", "region", "--json"]).json();
    let groups = bill["groups"].as_array().unwrap().iter();
    let groups: Vec<_> =
        groups.map(|group| (&group["key"]["region"], &group["measures"]["cost_usd"])).collect();
    let (eu_cost, us_cost) = ("0.00001".into(), "0.000015".into());
    let expected =
        [(&"us".into(), &us_cost), (&"eu".into(), &eu_cost), (&Value::Null, &Value::Null)];
    assert_eq!(groups, expected);
    let rerate = || home.run(&["price", "rerate", "--since", "1h", "--json"]).json();
    let same = rerate();
    assert_eq!(
        (&same["lines"], &same["unchanged_attempts"], &same["still_unpriced_attempts"]),
        (&json!([]), &2.into(), &1.into())
    );
    // A price of one region that was wrong is one of that region alone.
    home.configure(&config(&server, "2.5"));
    let changed = rerate();
    let [line] = changed["lines"].as_array().unwrap().as_slice() else { panic!("{changed}") };
    assert_eq!(pico(line["booked_usd"].as_str().unwrap()), EU);
    assert_eq!(pico(line["difference_usd"].as_str().unwrap()), 3 * 500_000);
    assert_eq!(changed["unchanged_attempts"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_region_that_the_provider_says_served_goes_before_the_one_configured() {
    let server = server().await;
    let home = Home::new(&config(&server, "2"));
    let gateway = home.serve();
    for (geo, served, costs) in [
        ("us", Some("us"), Some(US)),
        ("not_available", None, Some(EU)),
        ("global", Some("global"), None),
    ] {
        let call = Call::messages(r#"{"model":"claude-eu","max_tokens":1,"messages":[]}"#);
        let reply = call.with("x-geo", geo).send(&gateway).await;
        let settled = home.settled(reply.id()).unwrap();
        let end = &settled.attempts[0].end;
        assert_eq!((cost(&settled), end.region_served.as_deref()), (costs, served), "{geo}");
        assert_eq!(settled.attempts[0].dispatch.region.as_deref(), Some("eu"));
        // The price is that of the region: nothing is left to doubt.
        assert!(!end.metered.doubts.contains(Doubt::LowerBound), "{geo}");
    }
    gateway.stop().await;
    let bill = home.run(&["bill", "--by", "region", "--csv"]).ok();
    for region in ["us,use,1", "eu,use,1", "global,use,1"] {
        assert!(bill.contains(region), "{region}: {bill}");
    }
    let rerate = home.run(&["price", "rerate", "--since", "1h", "--json"]).json();
    assert_eq!(rerate["unchanged_attempts"], 2, "the region that served is on the journal");
}

#[test]
fn a_region_that_is_no_name_is_refused() {
    let home = Home::new("");
    for bad in ["", "e u"] {
        home.configure(&format!("[upstreams.openai]\nkind = \"openai\"\nregion = \"{bad}\"\n"));
        let error = home.run(&["serve", "--check"]).err;
        assert!(error.contains("line 5"), "{error}");
        let expected = format!(
            "invalid `upstreams.openai.region`: expected a name without blanks, such as \"eu\", found `{bad}`"
        );
        assert!(error.contains(&expected), "{error}");
    }
}

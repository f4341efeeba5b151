//! Starting, stopping, guarding and watching a gateway.

use std::os::unix::fs::PermissionsExt;

use facts::{End, Verdict};

use crate::client::Call;
use crate::home::{Home, both, cost, eventually, pico};
use crate::passthrough::{CHUNKS, COST, paused};
use crate::scripted::{Act, Scripted, stream};

const CHAT: &str = r#"{"model":"m","stream":true}"#;

async fn chats() -> Scripted {
    Scripted::always(stream(CHUNKS.map(str::as_bytes))).await
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_are_for_their_owner_alone() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    gateway.stop().await;
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(mode(&home.data().join("fingerprint.key")), 0o600);
    for open in [0o750, 0o705] {
        let permissions = std::fs::Permissions::from_mode(open);
        std::fs::set_permissions(home.data(), permissions).unwrap();
        let ran = home.run(&["serve"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("expected 0700") && ran.err.contains("chmod 700"), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_writes_a_journal_and_others_may_read_it() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let second = home.run(&["serve"]);
    assert_eq!(second.code, Some(1), "{}", second.err);
    let data = home.data().display().to_string();
    assert!(second.err.contains(&data) && second.err.contains("another"), "{}", second.err);

    for n in 1..=3 {
        assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
        let bill = home.run(&["bill", "--json"]).json();
        assert_eq!(pico(bill["spend_usd"].as_str().unwrap()), n * COST);
        let dump = home.run(&["journal", "dump"]).ok();
        let settled = dump.lines().filter(|line| line.starts_with(r#"{"kind":"settled""#));
        assert_eq!(settled.count() as i128, n);
        home.run(&["journal", "check"]).ok();
    }
    gateway.stop().await;
    let empty = Home::new("");
    let ran = empty.run(&["bill"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("there is no journal in") && ran.err.contains("hint:"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_key_is_asked_for_where_there_is_one() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let ran = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("access_key_env") && ran.err.contains("0.0.0.0:0"), "{}", ran.err);

    home.configure(&format!("access_key_env = \"ACCESS\"\n{}", both(server.address)));
    let ran = home.run(&["serve"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("`access_key_env`") && ran.err.contains("`ACCESS`"), "{}", ran.err);
    let gateway = home.serve_with(&[("ACCESS", "letmein")]);
    let message = r#"{"model":"m","max_tokens":1,"messages":[]}"#;
    for call in [
        Call::chat(CHAT),
        Call::messages(message),
        Call::chat(CHAT).with("authorization", "Bearer letmeinn"),
        Call::chat(CHAT).with("authorization", "Bearer "),
        Call::get("/farthing/v1/exchanges/01890000-0000-7000-8000-000000000000"),
    ] {
        let reply = call.send(&gateway).await;
        assert_eq!(reply.status, 401, "{call:?}");
        assert_eq!(reply.json()["error"]["type"], "authentication_error");
    }
    assert!(server.received().is_empty());
    for (name, value) in [("authorization", "bearer letmein"), ("x-api-key", "letmein")] {
        let reply = Call::chat(CHAT).with(name, value).send(&gateway).await;
        assert_eq!(reply.status, 200);
        let look = Call::get(&format!("/farthing/v1/exchanges/{}", reply.id()));
        assert_eq!(look.with(name, value).send(&gateway).await.status, 200);
    }
    for received in server.received() {
        assert_eq!((received.header("authorization"), received.header("x-api-key")), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_checked_without_serving() {
    let home = Home::new(&both("127.0.0.1:1".parse().unwrap()));
    let out = home.run(&["serve", "--check"]).ok();
    assert!(out.contains("is valid") && out.contains("upstream openai: openai"), "{out}");
    assert!(!home.data().exists(), "a check makes nothing");
    for (config, expected) in [
        ("colour = 1", vec!["unknown field `colour`", "expected"]),
        ("[upstreams.a]\nkind = \"gpt\"", vec!["`upstreams.a.kind`", "`openai`", "found `gpt`"]),
        (
            "[upstreams.a]\nkind = \"vllm\"\nbase_url = \"nowhere\"",
            vec!["`upstreams.a.base_url`", "expected a URL", "found `nowhere`"],
        ),
        (
            "[upstreams.a]\nkind = \"openai\"\nhourly_cost = \"much\"",
            vec!["`upstreams.a.hourly_cost`", "\"2.50\"", "found `much`"],
        ),
        (
            "[[prices]]\nprovider = \"groq\"\nmodel = \"m\"\ninput_uncached = \"1\"\noutput_text = \"-1\"",
            vec!["`prices[0]`", "output_text", "found `-1`"],
        ),
        ("[models.a]\nupstream = \"b\"", vec!["upstream", "expected one of", "found `b`"]),
    ] {
        home.configure(config);
        let ran = home.run(&["serve", "--check"]);
        assert_eq!(ran.code, Some(1), "{config}");
        for expected in expected.into_iter().chain(["farthing.toml"]) {
            assert!(ran.err.contains(expected), "{config}\n{}\nshould contain {expected}", ran.err);
        }
        assert_eq!(ran.out, "");
    }
    let ran = home.run(&["serve", "--check", "--config", "nowhere.toml"]);
    assert!(ran.code == Some(1) && ran.err.contains("`nowhere.toml`"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_lets_exchanges_under_way_end() {
    let (server, go) = paused().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    // Connections that are kept but idle must not hold it up.
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut reading = Call::get("/healthz").head(&gateway).await;
        assert_eq!(reading.until("ok\n").await, "ok\n");
        idle.push(reading);
    }
    let mut under_way = Vec::new();
    for _ in 0..4 {
        let mut reading = Call::chat(CHAT).head(&gateway).await;
        assert_eq!(reading.piece().await.as_deref(), Some(CHUNKS[1].as_bytes()));
        under_way.push(reading);
    }
    gateway.terminate();
    let address = gateway.address;
    eventually("it takes no more", || std::net::TcpStream::connect(address).is_err()).await;
    go.add_permits(under_way.len());
    for reading in under_way {
        let reply = reading.rest().await;
        assert!(reply.whole && reply.text().ends_with("[DONE]\n\n"));
    }
    let (code, said) = gateway.ended().await;
    assert_eq!(code, Some(0), "{said}");
    let settled = home.once_settled(4).await;
    for exchange in &settled {
        assert_eq!(exchange.settlement.verdict, Verdict::Completed);
        assert_eq!((exchange.attempts[0].end.end, cost(exchange)), (End::Complete, Some(COST)));
    }
    assert_eq!(
        said.lines().filter(|line| line.contains(" unlabelled m 200 ")).count(),
        4,
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_and_metrics_answer() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for (path, expected) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let reply = Call::get(path).send(&gateway).await;
        assert_eq!((reply.status, reply.text()), (200, expected));
    }
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    let metrics = Call::get("/metrics").send(&gateway).await;
    let expected = [
        "farthing_exchanges_total{verdict=\"completed\"} 1",
        "farthing_attempts_total{end=\"complete\"} 1",
        "farthing_tokens_total{class=\"input_uncached\"} 12",
        "farthing_tokens_total{class=\"output_text\"} 5",
        "farthing_usages_total{source=\"reported\"} 1",
        "farthing_open_exchanges 0",
        "farthing_unpriced_attempts_total 0",
        "farthing_journal_up 1",
    ];
    for line in expected {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
    let cost = metrics.text().lines().find_map(|l| l.strip_prefix("farthing_cost_usd_total "));
    assert_eq!(pico(cost.unwrap()), COST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_serve_leaves_no_trace_in_the_journal() {
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200);
    let busy = gateway.address.to_string();
    gateway.stop().await;
    let dump = home.run(&["journal", "dump"]).ok();
    home.configure(&both(server.address).replacen("provider", "hourly_cost = \"2\"\nprovider", 1));
    let _taken = tokio::net::TcpListener::bind(&busy).await.unwrap();
    let ran = home.run(&["serve", "--listen", &busy]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("cannot listen on"), "{}", ran.err);
    assert_eq!(home.run(&["journal", "dump"]).ok(), dump);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_left_open_is_on_the_page_of_the_next() {
    let server = Scripted::start(|_| vec![Act::Hold]).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let _open = Call::chat(CHAT).begin(&gateway).await;
    eventually("the upstream is asked", || server.received().len() == 1).await;
    gateway.kill();
    let gateway = home.serve();
    let page = Call::get("/farthing/api/bill").send(&gateway).await;
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["total"]["exchanges"], 1);
    assert!(page.text().contains(r#""value":"1","unit":"in 1 attempt""#), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derived_route_can_be_given_a_name() {
    const ASKED: &str = r#"{"model":"m","messages":[{"role":"system","content":"Be kind."}]}"#;
    let server = chats().await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    assert_eq!(Call::chat(ASKED).send(&gateway).await.status, 200);
    gateway.stop().await;
    let route = home.journal().0[0].admission.labels.route.clone();
    assert!(route.starts_with("auto-"), "{route}");
    let config = both(server.address);
    home.configure(&format!("{config}\n[route_names]\n\"{route}\" = \"kindness\"\n"));
    let gateway = home.serve();
    assert_eq!(Call::chat(ASKED).send(&gateway).await.status, 200);
    assert_eq!(home.once_settled(2).await[1].admission.labels.route, "kindness");
    // What was recorded before goes by the name as well.
    let bill = home.run(&["bill", "--json"]).json();
    assert_eq!(bill["groups"].as_array().unwrap().len(), 1, "{bill}");
    assert_eq!(bill["groups"][0]["key"]["route"], "kindness", "{bill}");
}

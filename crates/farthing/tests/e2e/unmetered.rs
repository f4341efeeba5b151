//! Paths that the configuration lets pass without being metered.

use facts::{Api, Charged, End, Verdict};
use quantity::UsageSource;

use crate::client::Call;
use crate::home::{Home, PRICES, upstream};
use crate::scripted::{Act, Scripted, json, stream, whole};

const KEY: &[(&str, &str)] = &[("KEY", "sk-own")];

fn listed(server: &Scripted) -> String {
    upstream("openai", server.address).replace("provider =", "api_key_env = \"KEY\"\nprovider =")
        + PRICES
        + "[[unmetered]]\nmethod = \"POST\"\npath = \"/v1/images/generations\"\nupstream = \"openai\"\n\
           [[unmetered]]\nmethod = \"DELETE\"\npath = \"/v1/files/*\"\nupstream = \"openai\"\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_path_passes_and_is_journalled_as_unpriced_and_never_as_nothing() {
    let made = r#"{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":9,"output_tokens":9,"total_tokens":18}}"#;
    let events: [&[u8]; 2] =
        [b"event: image\ndata: {\"b64\":\"A\"}\n\n", b"event: image\ndata: {}\n\n"];
    let server = Scripted::start(move |request| {
        let bytes = match request.header("x-case").unwrap() {
            "made" => json(made),
            "events" => stream(events),
            "refused" => whole("400 Bad Request", "content-type: application/json\r\n", "{}"),
            _ => whole("200 OK", "content-type: text/plain\r\n", "gone"),
        };
        vec![Act::Send(bytes)]
    })
    .await;
    let home = Home::new(&listed(&server));
    let gateway = home.serve_with(KEY);
    let image = |case| {
        let body = "--x\r\nno JSON at all\r\n--x--";
        let call = Call::new("POST", "/v1/images/generations", body).with("x-case", case);
        call.with("content-type", "multipart/form-data; boundary=x")
            .with("authorization", "Bearer c")
    };
    let reply = image("made").with("x-farthing-route", "ads").send(&gateway).await;
    assert_eq!((reply.status, reply.text(), reply.whole), (200, made, true));
    let id = reply.id().to_owned();
    let sent = server.only();
    assert_eq!(sent.line, "POST /v1/images/generations HTTP/1.1");
    assert_eq!(sent.body, b"--x\r\nno JSON at all\r\n--x--");
    assert_eq!(sent.header("authorization"), Some("Bearer sk-own"));
    let streamed = image("events").send(&gateway).await;
    assert_eq!((streamed.body, streamed.whole), (events.concat(), true));
    assert_eq!(image("refused").send(&gateway).await.status, 400);
    let file = Call::new("DELETE", "/r/files/v1/files/file-secret", "").with("x-case", "file");
    assert_eq!(file.send(&gateway).await.text(), "gone");

    let settled = home.once_settled(4).await;
    let first = &settled[0];
    assert_eq!(first.admission.api, Api::Unmetered);
    assert_eq!(first.admission.path.as_deref(), Some("/v1/images/generations"));
    assert_eq!(
        (first.admission.model_asked.as_ref(), first.admission.labels.route.as_str()),
        (None, "ads")
    );
    for exchange in [0, 1, 3].map(|index| &settled[index]) {
        let end = &exchange.attempts[0].end;
        assert_eq!((end.end, exchange.settlement.verdict), (End::Complete, Verdict::Completed));
        assert_eq!(end.metered.source, UsageSource::Unknown);
        assert_eq!(end.charged, Charged::Unpriced { reason: "not metered".to_owned() });
    }
    assert_eq!(settled[2].attempts[0].end.charged, Charged::NotBilled, "refused before it ran");
    assert_eq!(settled[3].admission.path.as_deref(), Some("/v1/files/*"));
    let dump = home.run_with(&["journal", "dump"], KEY).ok();
    assert!(dump.contains("/v1/files/*") && !dump.contains("file-secret"), "ids stay out");
    let shown =
        Call::get(&format!("/farthing/v1/exchanges/{id}")).with("authorization", "Bearer c");
    let shown = shown.send(&gateway).await.json();
    assert_eq!(
        (&shown["api"], &shown["path"]),
        (&"unmetered".into(), &"/v1/images/generations".into())
    );
    assert_eq!(
        (&shown["cost_usd"], &shown["unpriced"]),
        (&serde_json::Value::Null, &"not metered".into())
    );
    let bill = home.run_with(&["bill", "--json"], KEY).json();
    assert_eq!(
        (&bill["total"]["exchanges"], &bill["total"]["unpriced_attempts"]),
        (&4.into(), &3.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_listed_stays_refused_and_so_does_a_websocket() {
    let server = Scripted::always(json("{}")).await;
    let home = Home::new(&listed(&server));
    let gateway = home.serve_with(KEY);
    for (call, status) in [
        (Call::new("POST", "/v1/images/edits", ""), 404),
        (Call::new("GET", "/v1/images/generations", ""), 404),
        (Call::new("DELETE", "/v1/files/a%2Fb", ""), 404),
        (Call::new("DELETE", "/v1/files/a/content", ""), 404),
        (
            Call::new("POST", "/v1/images/generations", "")
                .with("upgrade", "websocket")
                .with("connection", "upgrade"),
            405,
        ),
        (Call::new("POST", "/v1/images/generations?api_key=x", ""), 400),
        (Call::new("POST", "/v1/responses", r#"{"model":"m","background":true}"#), 400),
    ] {
        let reply = call.send(&gateway).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    assert!(server.received().is_empty());
    let bad = |entry: &str| {
        home.configure(&format!("[[unmetered]]\n{entry}upstream = \"openai\"\n"));
        home.run(&["serve", "--check"]).err
    };
    let metered = bad("method = \"POST\"\npath = \"/v1/chat/completions\"\n");
    assert!(metered.contains("`POST /v1/chat/completions` is, or never is"), "{metered}");
    let method = bad("method = \"PUT\"\npath = \"/v1/files\"\n");
    assert!(method.contains("expected GET, POST or DELETE, found `PUT`"), "{method}");
}

/// A path that is not metered is no way round what a key may do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_path_needs_a_key_once_there_are_keys_and_their_limits_hold_on_it() {
    let server = Scripted::always(json("{}")).await;
    let other = upstream("anthropic", server.address);
    let other = other.replace("provider =", "api_key_env = \"KEY\"\nprovider =");
    let home = Home::new(&(listed(&server) + &other));
    let create = |arguments: &[&str]| {
        let made = home.run_with(&[&["key", "create"], arguments].concat(), KEY).ok();
        made.trim_end().to_owned()
    };
    let free = create(&["free"]);
    let of_model = create(&["of-model", "--models", "m"]);
    let of_other = create(&["of-other", "--upstreams", "anthropic"]);
    let of_this = create(&["of-this", "--upstreams", "openai"]);
    let gateway = home.serve_with(KEY);
    for (key, status, code) in [
        (None, 401, "bad_access_key"),
        (Some("sk-own"), 401, "bad_access_key"),
        (Some(of_model.as_str()), 403, "model_not_allowed"),
        (Some(of_other.as_str()), 403, "upstream_not_allowed"),
    ] {
        // Also where the body names a model that the key may ask for: nobody reads it.
        for body in ["", r#"{"model":"m"}"#] {
            for (method, path) in
                [("POST", "/v1/images/generations"), ("DELETE", "/r/x/v1/files/file-1")]
            {
                let mut call = Call::new(method, path, body);
                if let Some(key) = key {
                    call = call.with("authorization", &format!("Bearer {key}"));
                }
                let reply = call.send(&gateway).await;
                assert_eq!((reply.status, &reply.json()["error"]["code"]), (status, &code.into()));
            }
        }
    }
    assert!(server.received().is_empty(), "nothing of that was sent on");
    for (key, name) in [(&free, "free"), (&of_this, "of-this")] {
        let call = Call::new("POST", "/v1/images/generations", "x");
        let reply = call.with("authorization", &format!("Bearer {key}")).send(&gateway).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let admission = home.settled(reply.id()).unwrap().admission;
        assert_eq!((admission.api, admission.key.as_deref()), (Api::Unmetered, Some(name)));
    }
    assert_eq!(server.received()[0].header("authorization"), Some("Bearer sk-own"));
    home.once_settled(2).await;
}

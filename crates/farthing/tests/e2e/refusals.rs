//! What does not come in.

use crate::client::{Call, Reply};
use crate::home::{Home, both, upstream};
use crate::scripted::{Scripted, json, whole};

const CHAT: &str = r#"{"model":"m"}"#;

/// The error as its API writes it: type and message.
#[track_caller]
fn error(reply: &Reply, anthropic: bool) -> (String, String) {
    let body = reply.json();
    if anthropic {
        assert_eq!(body["type"], "error", "{body}");
    } else {
        assert!(
            body["error"]["code"].is_string() && body["error"].get("param").is_some(),
            "{body}"
        );
    }
    let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (text("type"), text("message"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_refused_in_the_callers_shape_and_goes_nowhere() {
    let server = Scripted::always(json("{}")).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let post = |path: &str| Call::new("POST", path, CHAT);
    let host = gateway.address.to_string();
    let whole_url = format!("http://{host}/v1/chat/completions");
    let big_label = "x".repeat(129);
    let cases: Vec<(Call, u16, &str)> = vec![
        (post("/v1/files"), 404, "not served"),
        (post("/v1/images/generations"), 404, "not served"),
        (post("/v1/chat/completions/"), 404, "not served"),
        (post("/v1/%63hat/completions"), 404, "not served"),
        (post("/v1/../v1/chat/completions"), 404, "not served"),
        (post("//example.org/v1/chat/completions"), 404, "not served"),
        (Call::get("/v1/models/..%2f..%2fsecrets"), 404, "not served"),
        (post("/r/a%20b/v1/chat/completions"), 400, "/r/{route}"),
        (Call::get("/v1/chat/completions"), 405, "expected POST, found GET"),
        (Call::new("DELETE", "/v1/models/m", ""), 405, "expected GET, found DELETE"),
        (post(&whole_url), 403, "a whole URL"),
        (Call::chat(CHAT).with("host", "evil.example"), 403, "`Host`"),
        (Call::chat(CHAT).with("host", "evil.example:80").with("host", &host), 403, "`Host`"),
        (Call::chat(CHAT).with("origin", "http://evil.example"), 403, "`Origin`"),
        (Call::chat(CHAT).with("origin", "null"), 403, "`Origin`"),
        (Call::chat(r#"{"model":"m","model":"x"}"#), 400, "`model` stands twice"),
        (Call::chat(r#"{"mod\u0065l":"m"}"#), 400, "expected it plain"),
        (Call::chat(r#"{"Model":"m"}"#), 400, "expected it plain"),
        (Call::chat(r#"{"model":"m","STREAM":true}"#), 400, "expected it plain"),
        (Call::chat("[1]"), 400, "JSON object"),
        (Call::chat(""), 400, "JSON object"),
        (Call::chat(r#"{"stream":true}"#), 400, "`model` is missing"),
        (Call::chat(CHAT).with("content-encoding", "gzip"), 415, "Content-Encoding"),
        (Call::chat(CHAT).with("x-farthing-route", &big_label), 400, "`x-farthing-route`"),
        (Call::chat(CHAT).with("x-farthing-task", ""), 400, "`x-farthing-task`"),
        (
            Call::chat(CHAT).with("x-farthing-team", "a").with("x-farthing-team", "b"),
            400,
            "`x-farthing-team` once",
        ),
    ];
    for (call, status, message) in &cases {
        let reply = call.send(&gateway).await;
        assert_eq!(reply.status, *status, "{call:?} {}", reply.text());
        let (kind, found) = error(&reply, false);
        assert_eq!(kind, "invalid_request_error", "{call:?}");
        assert!(found.contains(message), "{call:?}: {found}");
        assert_eq!(reply.header("x-farthing-exchange"), None);
    }
    let anthropic = [
        (Call::messages("{}"), 400, "invalid_request_error", "`model` is missing"),
        (Call::get("/v1/messages"), 405, "invalid_request_error", "expected POST"),
        (post("/v1/messages/batches"), 404, "not_found_error", "not served"),
        (Call::messages(CHAT).with("host", "a.example"), 403, "permission_error", "`Host`"),
    ];
    for (call, status, kind, message) in &anthropic {
        let reply = call.send(&gateway).await;
        let (found_kind, found) = error(&reply, true);
        assert_eq!((reply.status, found_kind.as_str()), (*status, *kind), "{call:?}");
        assert!(found.contains(message), "{call:?}: {found}");
    }
    let metrics = Call::get("/metrics").send(&gateway).await;
    let refused = format!("farthing_refused_requests_total {}\n", cases.len() + anthropic.len());
    assert!(metrics.text().contains(&refused), "{}", metrics.text());
    assert_eq!(home.journal(), (Vec::new(), 0));
    assert!(server.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_names_and_pages_come_in() {
    let server = Scripted::always(json("{}")).await;
    let home = Home::new(&format!("allowed_hosts = [\"llm.internal\"]\n{}", both(server.address)));
    let gateway = home.serve();
    let port = gateway.address.port();
    for host in
        [format!("localhost:{port}"), "llm.internal".to_owned(), "LLM.internal:1".to_owned()]
    {
        let reply = Call::chat(CHAT).with("host", &host).with("origin", &format!("http://{host}"));
        assert_eq!(reply.send(&gateway).await.status, 200, "{host}");
    }
    for path in ["/", "/farthing/", "/farthing/api/bill"] {
        let status = Call::get(path).send(&gateway).await.status;
        assert_eq!(status, if path == "/" { 307 } else { 200 }, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let server = Scripted::always(json("{}")).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    // The head alone: whoever announces too much need not send it.
    let announced = ((64 << 20) + 1).to_string();
    let reply = Call::messages("").with("content-length", &announced).send(&gateway).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(error(&reply, true).0, "request_too_large");
    // Nor does it help not to announce it.
    let chunk = crate::scripted::chunk(&vec![b' '; (64 << 20) + 1]);
    let call = Call::new("POST", "/v1/chat/completions", "").with("transfer-encoding", "chunked");
    let mut connection = call.begin(&gateway).await;
    connection.write(&chunk).await;
    let reply = connection.head().await.unwrap().rest().await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(server.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_no_upstream_of_the_api_serves_is_refused() {
    let server = Scripted::always(json("{}")).await;
    let models = "[models.gpt]\nupstream = \"openai\"\n";
    let home = Home::new(&(upstream("openai", server.address) + models));
    let gateway = home.serve();
    for model in ["gpt", "claude"] {
        let body = format!(r#"{{"model":"{model}","max_tokens":1,"messages":[]}}"#);
        let reply = Call::messages(body).send(&gateway).await;
        assert_eq!((reply.status, error(&reply, true).0.as_str()), (404, "not_found_error"));
    }
    assert!(server.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let target = Scripted::always(json("{}")).await;
    let location = format!("location: http://{}/v1/chat/completions\r\n", target.address);
    let server = Scripted::always(whole("307 Temporary Redirect", &location, "")).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let reply = Call::chat(CHAT).with("authorization", "Bearer sk-client").send(&gateway).await;
    assert_eq!((reply.status, reply.header("location")), (502, None));
    assert_eq!(error(&reply, false).0, "server_error");
    assert!(target.received().is_empty());
    let exchange = home.settled(reply.id()).expect("settled");
    assert_eq!(exchange.attempts[0].end.end, facts::End::UpstreamError);
    assert_eq!(exchange.attempts[0].end.status, Some(307));
    assert_eq!(crate::home::cost(&exchange), None, "nobody knows what it cost");
}

//! Words that must not be kept: keys, prompts, replies.

use std::path::Path;

use crate::client::Call;
use crate::home::{Home, PRICES, upstream};
use crate::scripted::{Act, SSE, Scripted, chunk, json, stream, whole};

/// In every secret, in every place.
const CANARY: &str = "kanarie";

pub(crate) fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[track_caller]
fn clean(place: &str, bytes: &[u8]) {
    let at = bytes.windows(CANARY.len()).position(|w| w.eq_ignore_ascii_case(CANARY.as_bytes()));
    if let Some(at) = at {
        let around = &bytes[at.saturating_sub(40)..(at + 60).min(bytes.len())];
        panic!("{place}: {}", String::from_utf8_lossy(around));
    }
}

/// What an upstream says that nobody should keep.
async fn talkative() -> Scripted {
    Scripted::start(|request| {
        let chat = request.line.contains("/chat/");
        let error = r#"{"type":"error","error":{"type":"invalid_request_error","code":"key sk-kanarie-9","message":"kanarie: bad key sk-kanarie"}}"#;
        let bytes = match request.header("x-case").unwrap() {
            "unary" => json(
                r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"kanarie","reasoning":"kanarie","tool_calls":[{"id":"t","type":"function","function":{"name":"search","arguments":"{\"q\":\"kanarie\"}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}}"#,
            ),
            "stream" if chat => stream([
                b"data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"kanarie\"},\"finish_reason\":null}]}\n\n".as_slice(),
                b"data: {\"error\":{\"type\":\"kanarie sk-kanarie\",\"code\":\"x-kanarie-7\",\"message\":\"kanarie\"}}\n\n",
            ]),
            "stream" => stream([
                b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg\",\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n".as_slice(),
                b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"kanarie\"}}\n\n",
                b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"kanarie\"}}\n\n",
            ]),
            "cut" => [SSE, &chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"kanarie\"}}]}\n\ndata: {\"kan"), &chunk(b"arie")].concat(),
            "page" => whole("200 OK", "content-type: text/html\r\n", "<p>kanarie</p>"),
            "elsewhere" => whole("302 Found", "location: http://kanarie.example/\r\n", ""),
            "error" => whole("400 Bad Request", "content-type: application/json\r\nset-cookie: kanarie\r\n", error),
            other => panic!("{other}"),
        };
        vec![Act::Send(bytes)]
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_word_is_kept_or_shown() {
    let server = talkative().await;
    let keyed = upstream("anthropic", server.address)
        .replace("provider =", "api_key_env = \"UPSTREAM\"\nprovider =");
    let open = upstream("openai", server.address) + &keyed + PRICES;
    let home = Home::new(&open);
    let secrets = [
        ("UPSTREAM", "sk-kanarie-upstream"),
        ("ACCESS", "sk-kanarie-access"),
        ("ADMIN", "sk-kanarie-admin"),
    ];
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"kanarie"},{"role":"user","content":[{"type":"text","text":"kanarie"},{"type":"image_url","image_url":{"url":"data:kanarie"}}]},{"role":"assistant","tool_calls":[{"id":"t","type":"function","function":{"name":"search","arguments":"{\"q\":\"kanarie\"}"}}]},{"role":"tool","tool_call_id":"t","content":"kanarie"}],"tools":[{"type":"function","function":{"name":"search","description":"kanarie","parameters":{"kanarie":1}}}],"metadata":{"note":"kanarie"},"stop":["kanarie"],"prediction":{"content":"kanarie"}}"#;
    let message = r#"{"model":"m","max_tokens":9,"stream":true,"system":"kanarie","messages":[{"role":"user","content":"kanarie"}],"tools":[{"name":"search","description":"kanarie","input_schema":{"kanarie":1}}]}"#;
    let streamed = chat.replacen('{', "{\"stream\":true,", 1);
    let mut said = String::new();
    let mut ids = Vec::new();
    for access in ["", "access_key_env = \"ACCESS\"\nadmin_key_env = \"ADMIN\"\n"] {
        home.configure(&format!("{access}{open}"));
        let gateway = home.serve_with(&secrets);
        let key = |call: Call| call.with("authorization", "Bearer sk-kanarie-access");
        for case in ["unary", "stream", "cut", "page", "elsewhere", "error"] {
            let calls = [
                Call::chat(if case == "unary" { chat } else { &streamed }),
                Call::messages(message),
            ];
            for call in calls {
                let call = key(call).with("x-case", case).with("cookie", "kanarie=kanarie");
                let call = call.with("x-kanarie", "kanarie");
                let reply = call.send(&gateway).await;
                assert_ne!(reply.status, 401);
                ids.push(reply.id().to_owned());
            }
        }
        // Refused at the door: the words of the refusal are the caller's alone.
        for body in ["kanarie", "{\"model\":\"m\",\"kanarie\"", "{\"model\":{\"kanarie\":1}}"] {
            assert_eq!(key(Call::chat(body)).send(&gateway).await.status, 400);
        }
        let label = key(Call::chat(chat)).with("x-farthing-route", &CANARY.repeat(40));
        assert_eq!(label.send(&gateway).await.status, 400);
        assert_eq!(key(Call::new("POST", "/v1/kanarie", chat)).send(&gateway).await.status, 404);
        if !access.is_empty() {
            let wrong = Call::chat(chat).with("x-api-key", "sk-kanarie-wrong");
            assert_eq!(wrong.send(&gateway).await.status, 401);
        }
        for path in [
            "/farthing/",
            "/farthing/app.js",
            "/farthing/api/bill",
            "/farthing/api/recent",
            "/metrics",
        ] {
            let admin = Call::get(path).with("authorization", "Bearer sk-kanarie-admin");
            let reply = if access.is_empty() { Call::get(path) } else { admin };
            let reply = reply.send(&gateway).await;
            assert_eq!(reply.status, 200, "{path}");
            clean(path, &reply.body);
        }
        for id in &ids {
            let path = format!("/farthing/v1/exchanges/{id}");
            let reply = key(Call::get(&path)).send(&gateway).await;
            assert_eq!(reply.status, 200);
            clean(&path, &reply.body);
        }
        said.push_str(&gateway.stop().await);
    }
    assert_eq!(home.once_settled(24).await.len(), ids.len());
    assert!(said.lines().count() > 24, "a line for each exchange: {said}");
    clean("stdout and stderr", said.as_bytes());
    let mut kept = Vec::new();
    files(&home.data(), &mut kept);
    assert!(kept.len() > 1);
    for path in kept {
        clean(&path.display().to_string(), path.display().to_string().as_bytes());
        clean(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
    for arguments in [
        &["journal", "dump"][..],
        &["journal", "check"],
        &["bill", "--by", "route,model,user,upstream"],
        &["bill", "--json"],
        &["bill", "--csv"],
        &["serve", "--check"],
    ] {
        let ran = home.run_with(arguments, &secrets);
        clean(&format!("{arguments:?}"), ran.err.as_bytes());
        clean(&format!("{arguments:?}"), ran.ok().as_bytes());
    }
}

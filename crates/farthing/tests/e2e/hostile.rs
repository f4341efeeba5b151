//! What is sent by those who mean harm.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Call;
use crate::home::{DEADLINE, Gateway, Home, both};
use crate::scripted::{Scripted, json, whole};

const CHAT: &str = r#"{"model":"m"}"#;

/// The statuses of all replies to these bytes, until the other side closes, as it
/// is asked to.
async fn raw(gateway: &Gateway, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    // A connection that is reset has said what it said.
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut said)).await;
    let _ = read.expect("an end within the deadline");
    let said = String::from_utf8_lossy(&said).into_owned();
    said.match_indices("HTTP/1.1 ").map(|(at, _)| said[at + 9..at + 12].parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_of_another_origin_is_given_leave() {
    let leave = "access-control-allow-origin: *\r\naccess-control-expose-headers: x\r\n";
    let headers = format!("content-type: application/json\r\n{leave}");
    let server = Scripted::always(whole("200 OK", &headers, "{}")).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    let own = format!("http://{}", gateway.address);
    let made = Call::chat(CHAT).with("origin", &own).send(&gateway).await;
    assert_eq!(made.status, 200);
    let look = format!("/farthing/v1/exchanges/{}", made.id());
    let mut replies = vec![made];
    for path in ["/v1/chat/completions", "/v1/models", "/farthing/", &look, "/metrics", "/healthz"]
    {
        for origin in [&own, "http://evil.example"] {
            let ask = Call::new("OPTIONS", path, "")
                .with("origin", origin)
                .with("access-control-request-method", "POST")
                .with("access-control-request-headers", "authorization");
            let reply = ask.send(&gateway).await;
            assert_eq!(reply.status, 405, "{path} {origin}");
            replies.push(reply);
        }
        replies.push(Call::get(path).with("origin", &own).send(&gateway).await);
    }
    for reply in replies {
        let leave = reply.headers.iter().find(|(name, _)| name.starts_with("access-control"));
        assert_eq!(leave, None);
    }
    assert_eq!(server.received().len(), 2, "a chat and a list of models");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_length_one_host_and_no_other_authority() {
    let server = Scripted::always(json("{}")).await;
    let config = both(server.address);
    let home = Home::new(&config);
    for access in ["", "access_key_env = \"ACCESS\"\n"] {
        home.configure(&format!("{access}{config}"));
        let gateway = home.serve_with(&[("ACCESS", "sesame")]);
        let host = gateway.address;
        let before = server.received().len();
        let head = |path: &str, hosts: &str, lengths: &str| {
            format!(
                "POST {path} HTTP/1.1\r\n{hosts}connection: close\r\n\
                 authorization: Bearer sesame\r\n{lengths}\r\n"
            )
        };
        let chat = "/v1/chat/completions";
        let one = format!("host: {host}\r\n");
        let length = format!("content-length: {}\r\n", CHAT.len());
        for (request, status) in [
            (head(chat, &one, "content-length: 5\r\ncontent-length: 13\r\n"), 400),
            (head(chat, &one, "content-length: 13, 5\r\n"), 400),
            (head(chat, &one, "content-length: +13\r\n"), 400),
            (head(chat, &one, "transfer-encoding: chunked, identity\r\n"), 400),
            (head(chat, &one, "transfer-encoding: xchunked\r\n"), 400),
            (head(chat, &format!("{one}{one}"), &length), 403),
            (head(chat, &format!("{one}host: evil.example\r\n"), &length), 403),
            (head(&format!("http://{host}{chat}"), &one, &length), 403),
            (head(&format!("http://evil.example{chat}"), &one, &length), 403),
            (head("//evil.example/v1/chat/completions", &one, &length), 404),
            (head("/r/../v1/chat/completions", &one, &length), 400),
            (head("/r/%2e%2e/v1/chat/completions", &one, &length), 400),
            (head("/r/..%2f..%2fx/v1/chat/completions", &one, &length), 400),
            (head("/r/a/../v1/chat/completions", &one, &length), 404),
            (head("/r/a/v1/%2e%2e/v1/chat/completions", &one, &length), 404),
            (head("/r/a\\..\\b/v1/chat/completions", &one, &length), 400),
            (head("/v1beta/models/..%2Fx:generateContent", &one, &length), 404),
            (head("/v1/models/../chat/completions", &one, &length), 404),
        ] {
            let said = raw(&gateway, format!("{request}{CHAT}").as_bytes()).await;
            assert_eq!(said.first(), Some(&status), "{request}");
            assert_eq!(server.received().len(), before, "{request}");
        }
        // Two lengths of which one is in chunks: the chunks count, for us and for the upstream.
        for lengths in [
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        ] {
            let before = server.received().len();
            let chunks = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n", CHAT.len());
            let request = format!("{}{chunks}", head(chat, &one, lengths));
            let said = raw(&gateway, request.as_bytes()).await;
            assert!(matches!(said[..], [200] | [400]), "{said:?}");
            let received = server.received().split_off(before);
            assert_eq!(received.len(), usize::from(said == [200]));
            for received in received {
                assert_eq!(received.body, CHAT.as_bytes());
                assert_eq!(received.header("transfer-encoding"), None);
                let length = CHAT.len().to_string();
                assert_eq!(received.header("content-length"), Some(length.as_str()));
            }
        }
        // What a client calls a header of its connection ends here, whatever it is.
        let before = server.received().len();
        let call = Call::chat(CHAT)
            .with("authorization", "Bearer sesame")
            .with("connection", "close, x-secret, Content-Type")
            .with("x-secret", "1")
            .with("keep-alive", "timeout=1")
            .with("te", "trailers")
            .with("upgrade", "h2c")
            .with("proxy-authorization", "Basic eDp5")
            .with("trailer", "x-farthing-team");
        assert_eq!(call.send(&gateway).await.status, 200);
        let received = server.received().split_off(before).remove(0);
        for name in [
            "x-secret",
            "keep-alive",
            "te",
            "upgrade",
            "proxy-authorization",
            "trailer",
            "connection",
        ] {
            assert_eq!(received.header(name), None, "{name}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_write_no_lines_and_no_formulas() {
    let served = r#"{"id":"c\u001b[2K","model":"m\n00:00:00 forged\u001b[2K","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let server = Scripted::always(json(served)).await;
    let home = Home::new(&both(server.address));
    let gateway = home.serve();
    for bytes in [&b"a\xffb"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"a\tb", b"\xc2\x85"] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\
             connection: close\r\nx-farthing-team: ",
            gateway.address,
            CHAT.len()
        );
        let request = [head.as_bytes(), bytes, b"\r\n\r\n", CHAT.as_bytes()].concat();
        assert_eq!(raw(&gateway, &request).await, [400], "{bytes:?}");
    }
    assert!(server.received().is_empty());
    let forged = Call::chat(r#"{"model":"m\n00:00:00 forged"}"#).send(&gateway).await;
    assert_eq!(forged.status, 400);
    let fake = r#"{"model":"m\u202e","metadata":{"farthing_team":"a\nb","farthing_route":"r\u001b]0;x","farthing_tag_x":"\u0000","farthing_user":"u\u202eresu"}}"#;
    let reply = Call::chat(fake).send(&gateway).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let turned = Call::chat(CHAT).with("x-farthing-route", "pay\u{202e}ees\u{2066}");
    assert_eq!(turned.send(&gateway).await.status, 200);
    let formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(\"http://x\",\"y\")"];
    for team in formulas {
        let call = Call::chat(CHAT).with("x-farthing-team", team).with("x-farthing-route", "r");
        assert_eq!(call.send(&gateway).await.status, 200);
    }
    let settled = home.once_settled(7).await;
    let labels = &settled[0].admission.labels;
    assert_eq!((&labels.team, labels.tags.len()), (&None, 0));
    assert!(labels.route.starts_with("auto-") || labels.route == "unlabelled", "{}", labels.route);
    let said = gateway.stop().await;
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("farthing: ")).collect();
    assert_eq!(lines.len(), 7, "{said}");
    let plain = |c: char| c == '\n' || !c.is_control() && !matches!(c, '\u{202a}'..='\u{2069}');
    assert!(said.chars().all(plain), "{said:?}");
    assert!(said.contains("\\u{202e}"), "{said}");
    let dump = home.run(&["journal", "dump"]).ok();
    assert!(!dump.contains('\u{1b}') && dump.lines().all(|line| line.starts_with('{')));
    let table = home.run(&["bill", "--by", "route,model,user"]).ok();
    assert!(table.chars().all(plain), "{table:?}");
    let csv = home.run(&["bill", "--by", "team,model", "--csv"]).ok();
    for team in formulas {
        let quoted = format!("'{}", team.replace('"', "\"\""));
        let cell = if team.contains('"') { format!("\"{quoted}\"") } else { quoted };
        assert!(csv.lines().any(|line| line.starts_with(&format!("{cell},"))), "{csv}");
    }
    let starts = csv.lines().filter(|line| line.starts_with(['=', '+', '-', '@', '\t']));
    assert_eq!(starts.count(), 0, "{csv}");
}

//! Virtual keys, the access key and the admin key: who may call, who may see, who pays.

use std::os::unix::fs::PermissionsExt;

use facts::RouteSource;

use crate::client::{Call, Reply};
use crate::home::{DEADLINE, Gateway, Home, PRICES, both, eventually, upstream};
use crate::scripted::{Scripted, json, whole};

const CHAT: &str = r#"{"model":"m"}"#;
const MESSAGE: &str = r#"{"model":"m","max_tokens":1,"messages":[]}"#;
const ADMIN: (&str, &str) = ("ADMIN", "sesame-admin");
/// `any:sesame-admin`.
const BASIC: &str = "Basic YW55OnNlc2FtZS1hZG1pbg==";

/// An answer in the shape of OpenAI's, with usage.
fn answer() -> Vec<u8> {
    json(
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}}"#,
    )
}

fn bearer(call: Call, key: &str) -> Call {
    call.with("authorization", &format!("Bearer {key}"))
}

/// The code of a refusal in OpenAI's shape.
#[track_caller]
fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
}

/// A new key.
#[track_caller]
fn create(home: &Home, arguments: &[&str]) -> String {
    let out = home.run(&[&["key", "create"], arguments].concat()).ok();
    let key = out.strip_suffix('\n').unwrap();
    let parts: Vec<&str> = key.split('_').collect();
    let [prefix, id, secret] = parts[..] else { panic!("{key}") };
    assert_eq!((prefix, id.len(), secret.len()), ("fk", 8, 43));
    key.to_owned()
}

/// Sends a call until it is answered with this status, as after a change of the keys.
async fn until(gateway: &Gateway, call: &Call, status: u16) -> Reply {
    let asking = async {
        loop {
            let reply = call.send(gateway).await;
            if reply.status == status {
                return reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let asked = tokio::time::timeout(DEADLINE, asking).await;
    asked.unwrap_or_else(|_| panic!("never {status}: {call:?}"))
}

fn keyed_upstreams(address: std::net::SocketAddr) -> String {
    both(address).replace("kind = ", "api_key_env = \"UP\"\nkind = ")
}

const UP: (&str, &str) = ("UP", "sk-upstream");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_and_revoked_while_a_gateway_runs_and_say_who_pays() {
    let server = Scripted::always(answer()).await;
    let config = keyed_upstreams(server.address);
    assert_eq!(config.matches("UP").count(), 2);
    let home = Home::new(&format!("admin_key_env = \"ADMIN\"\n{config}"));
    let gateway = home.serve_with(&[UP, ADMIN]);
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 200, "no key, and none is asked for");
    let arguments =
        ["bot", "--team", "care", "--route", "support", "--tag", "Env=prod", "--expires", "90d"];
    let key = create(&home, &arguments);
    let refused = until(&gateway, &Call::chat(CHAT), 401).await;
    assert_eq!(code(&refused), "bad_access_key");
    let reply = bearer(Call::messages(MESSAGE), "fk_12345678_x").send(&gateway).await;
    assert_eq!(reply.json()["error"]["type"], "authentication_error");
    let asked = server.received().len();

    let plain = bearer(Call::chat(CHAT), &key).send(&gateway).await;
    let claims = Call::messages(MESSAGE)
        .with("x-api-key", &key)
        .with("x-farthing-team", "growth")
        .with("x-farthing-tag-env", "dev")
        .with("x-farthing-tag-beta", "1")
        .with("x-farthing-route", "own");
    let claims = claims.send(&gateway).await;
    let metadata = r#"{"model":"m","metadata":{"farthing_team":"growth","farthing_tag_ENV":"x","farthing_tag_beta":"2"}}"#;
    let metadata = bearer(Call::chat(metadata), &key).send(&gateway).await;
    let tags = |beta: &[&str]| {
        let beta = beta.iter().map(|beta| ("beta".to_owned(), (*beta).to_owned()));
        beta.chain([("env".to_owned(), "prod".to_owned())]).collect::<Vec<_>>()
    };
    for (reply, route, source, expected) in [
        (&plain, "support", RouteSource::Key, tags(&[])),
        (&claims, "own", RouteSource::Header, tags(&["1"])),
        (&metadata, "support", RouteSource::Key, tags(&["2"])),
    ] {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let admission = home.settled(reply.id()).expect("settled").admission;
        let labels = &admission.labels;
        assert_eq!(admission.key.as_deref(), Some("bot"));
        assert_eq!((labels.route.as_str(), labels.route_source), (route, source));
        assert_eq!(labels.team.as_deref(), Some("care"), "nobody books on another team");
        assert_eq!(labels.tags, expected);
    }
    for received in &server.received()[asked..] {
        let sent = format!("{:?}", received.headers);
        assert!(sent.contains("sk-upstream") && !sent.contains("fk_"), "{sent}");
    }

    let look = Call::get(&format!("/farthing/v1/exchanges/{}", plain.id()));
    assert_eq!(bearer(look, &key).send(&gateway).await.json()["key"], "bot");
    let bill = home.run(&["bill", "--by", "key", "--json"]).json();
    let groups = bill["groups"].as_array().unwrap();
    let named: Vec<_> =
        groups.iter().map(|g| (&g["key"]["key"], &g["measures"]["exchanges"])).collect();
    assert!(named.contains(&(&"bot".into(), &3.into())), "{named:?}");
    assert_eq!(named.len(), 2, "those before the first key have none: {named:?}");
    assert!(home.run(&["journal", "dump"]).ok().contains(r#""key":"bot""#));
    let listed = home.run(&["key", "list"]).ok();
    for expected in ["bot", "care", "support", "env=prod", "active"] {
        assert!(listed.contains(expected), "{listed}");
    }
    let listed = home.run(&["key", "list", "--json"]).json();
    assert_eq!(listed["schema"], "farthing.keys/1");
    assert_eq!(listed["keys"][0]["tags"]["env"], "prod");
    assert_eq!(listed["keys"][0]["models"], serde_json::Value::Null);

    home.run(&["key", "revoke", "bot"]).ok();
    let call = bearer(Call::chat(CHAT), &key);
    assert_eq!(code(&until(&gateway, &call, 401).await), "key_revoked");
    let wrong = bearer(Call::chat(CHAT), &key[..key.len() - 1]).send(&gateway).await;
    assert_eq!(code(&wrong), "bad_access_key", "a guesser is not told that the id is known");
    let open = Call::chat(CHAT).send(&gateway).await;
    assert_eq!(open.status, 401, "keys that are all revoked do not open the door");
    home.run(&["key", "revoke", "bot"]).ok();
    assert_eq!(home.run(&["key", "revoke", "nobody"]).code, Some(1));
    // The name is free again, and stands for the new one.
    let second = create(&home, &["bot"]);
    until(&gateway, &bearer(Call::chat(CHAT), &second), 200).await;
    let id = &second[3..11];
    home.run(&["key", "revoke", id]).ok();
    until(&gateway, &bearer(Call::chat(CHAT), &second), 401).await;

    let mut seen = Vec::new();
    for path in ["/farthing/", "/farthing/api/bill", "/farthing/api/recent", "/metrics"] {
        let page = bearer(Call::get(path), ADMIN.1).send(&gateway).await;
        assert_eq!(page.status, 200);
        seen.push(page.text().to_owned());
    }
    seen.push(gateway.stop().await);
    seen.push(home.run(&["key", "list"]).ok());
    seen.push(home.run(&["key", "list", "--json"]).ok());
    let mut files = Vec::new();
    crate::canary::files(&home.data(), &mut files);
    for file in files {
        seen.push(String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned());
    }
    for text in seen {
        assert!(!text.contains(&key[12..]) && !text.contains(&second[12..]), "{text}");
    }
    let mode = std::fs::metadata(home.data().join("keys.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_asks_for_its_models_at_its_upstreams_until_it_ends() {
    let busy = || whole("500 Internal Server Error", "content-type: application/json\r\n", "{}");
    let (first, spare) = (Scripted::always(busy()).await, Scripted::always(answer()).await);
    let config = format!(
        "{}{}{}[retry]\nattempts = 2\nmax_wait = \"1ms\"\n\
         [models.m]\nupstream = \"openai\"\nfallback = [{{ upstream = \"vllm\" }}]\n{PRICES}",
        upstream("openai", first.address),
        upstream("vllm", spare.address),
        upstream("anthropic", spare.address),
    );
    let home = Home::new(&config);
    let models = create(&home, &["models", "--models", "m,m-mini"]);
    let here = create(&home, &["here", "--upstreams", "openai"]);
    let there = create(&home, &["there", "--upstreams", "vllm"]);
    let other = create(&home, &["other", "--upstreams", "anthropic"]);
    let gateway = home.serve();

    let dear = r#"{"model":"dear","max_tokens":1,"messages":[]}"#;
    let several = r#"{"model":"m","models":["m","dear"]}"#;
    for body in [dear, several] {
        let reply = bearer(Call::chat(body), &models).send(&gateway).await;
        assert_eq!((reply.status, code(&reply)), (403, "model_not_allowed".to_owned()));
    }
    let reply = Call::messages(dear).with("x-api-key", &models).send(&gateway).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.json()["error"]["type"], "permission_error");
    assert!(reply.text().contains("(model_not_allowed)"), "{}", reply.text());
    let gemini = Call::new("POST", "/v1beta/models/dear:generateContent", "{}");
    let reply = gemini.with("x-goog-api-key", &models).send(&gateway).await;
    assert_eq!(reply.json()["error"]["status"], "PERMISSION_DENIED", "{}", reply.text());
    assert!(first.received().is_empty() && spare.received().is_empty());
    let reply = bearer(Call::chat(CHAT), &models).send(&gateway).await;
    assert_eq!((reply.status, first.received().len(), spare.received().len()), (200, 1, 1));
    let shown = bearer(Call::get("/v1/models"), &models).send(&gateway).await;
    assert_ne!(shown.status, 403, "a list runs no model");
    let before = (first.received().len(), spare.received().len());

    let reply = bearer(Call::chat(CHAT), &here).send(&gateway).await;
    assert_eq!(reply.status, 500, "no fallback to an upstream that it may not use");
    assert_eq!(spare.received().len(), before.1);
    let before = first.received().len();
    for body in [CHAT, r#"{"model":"unlisted"}"#] {
        assert_eq!(bearer(Call::chat(body), &there).send(&gateway).await.status, 200);
    }
    assert_eq!(first.received().len(), before);
    let reply = bearer(Call::chat(CHAT), &other).send(&gateway).await;
    assert_eq!((reply.status, code(&reply)), (403, "upstream_not_allowed".to_owned()));

    let path = home.data().join("keys.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let ended = text.replace("models = [", "expires = \"2026-01-01\"\nmodels = [");
    std::fs::write(&path, ended).unwrap();
    let reply = until(&gateway, &bearer(Call::chat(CHAT), &models), 401).await;
    assert_eq!(code(&reply), "key_expired");
    let listed = home.run(&["key", "list"]).ok();
    assert!(listed.contains("expired") && listed.contains("2026-01-01 00:00"), "{listed}");

    for (arguments, expected) in [
        (&["here"][..], "there is a key `here` already"),
        (&["a/b"], "invalid NAME"),
        (&["x", "--team", "a\u{7}b"], "invalid --team"),
        (&["x", "--tag", "env"], "expected NAME=VALUE, found `env`"),
        (&["x", "--tag", "a=1", "--tag", "A=2"], "expected each name once"),
        (&["x", "--upstreams", "nowhere"], "`openai`, `vllm`, `anthropic`, found `nowhere`"),
        (&["x", "--models", ""], "invalid --models"),
        (&["x", "--expires", "2020-01-01"], "expected a time to come"),
    ] {
        let ran = home.run(&[&["key", "create"], arguments].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ran.err.contains(expected), "{arguments:?}: {}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_for_calls_open_no_page_and_the_admin_key_makes_no_call() {
    let server = Scripted::always(answer()).await;
    let access = ("ACCESS", "sesame-access");
    let config = both(server.address);
    let home = Home::new(&format!("access_key_env = \"ACCESS\"\n{config}"));
    let [one, two] = ["one", "two"].map(|name| create(&home, &[name]));
    let pages = ["/", "/farthing/", "/farthing/api/bill", "/farthing/api/recent", "/metrics"];

    let gateway = home.serve_with(&[access]);
    for path in pages {
        for key in [access.1, &one] {
            let reply = bearer(Call::get(path), key).send(&gateway).await;
            assert_eq!((reply.status, code(&reply)), (403, "no_admin_key".to_owned()), "{path}");
            assert!(reply.text().contains("`admin_key_env`"), "{}", reply.text());
        }
    }
    let said = gateway.stop().await;
    assert!(said.contains("dashboard and metrics are closed"), "{said}");

    home.configure(&format!("access_key_env = \"ACCESS\"\nadmin_key_env = \"ADMIN\"\n{config}"));
    let gateway = home.serve_with(&[access, ADMIN]);
    let reply = bearer(Call::chat(CHAT), access.1).send(&gateway).await;
    assert_eq!((reply.status, home.settled(reply.id()).unwrap().admission.key), (200, None));
    for path in pages {
        let bare = Call::get(path);
        let wrong = [access.1, &one, "", "sesame-admi", "sesame-adminn"];
        for call in wrong.map(|key| bearer(bare.clone(), key)).iter().chain([
            &bare,
            &bare.clone().with("authorization", "Basic YW55Og=="),
            &bare.clone().with("x-api-key", &two),
        ]) {
            let reply = call.send(&gateway).await;
            assert_eq!((reply.status, code(&reply)), (401, "bad_admin_key".to_owned()), "{call:?}");
            let asked = reply.header("www-authenticate").unwrap();
            assert!(asked.starts_with("Basic realm="), "{asked}");
        }
        let good = if path == "/" { 307 } else { 200 };
        for value in ["bearer sesame-admin", BASIC] {
            let reply = bare.clone().with("authorization", value).send(&gateway).await;
            assert_eq!(reply.status, good, "{path} {value}");
        }
    }
    let asked = server.received().len();
    for call in [
        bearer(Call::chat(CHAT), ADMIN.1),
        Call::chat(CHAT).with("x-goog-api-key", ADMIN.1),
        Call::chat(CHAT).with("authorization", BASIC),
        bearer(Call::chat(CHAT), &one).with("x-api-key", ADMIN.1),
    ] {
        let reply = call.send(&gateway).await;
        assert_eq!((reply.status, code(&reply)), (403, "admin_key".to_owned()), "{call:?}");
    }
    assert_eq!(server.received().len(), asked);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(Call::get(path).send(&gateway).await.status, 200);
    }

    let made = bearer(Call::chat(CHAT), &one).send(&gateway).await;
    let look = Call::get(&format!("/farthing/v1/exchanges/{}", made.id()));
    for (call, status) in [
        (bearer(look.clone(), &one), 200),
        (look.clone().with("x-api-key", &one), 200),
        (bearer(look.clone(), ADMIN.1), 200),
        (look.clone().with("authorization", BASIC), 200),
        (bearer(look.clone(), &two), 404),
        (bearer(look.clone(), access.1), 404),
        (bearer(look.clone(), "sesame"), 401),
        (look.clone(), 401),
    ] {
        assert_eq!(call.send(&gateway).await.status, status, "{call:?}");
    }
    let ran = home.run_with(&["serve"], &[access, ("ADMIN", access.1)]);
    assert!(ran.code == Some(1) && ran.err.contains("are the same"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_key_alone_closes_the_pages_and_never_travels() {
    let server = Scripted::always(answer()).await;
    let home = Home::new(&format!("admin_key_env = \"ADMIN\"\n{}", both(server.address)));
    let gateway = home.serve_with(&[ADMIN]);
    assert_eq!(Call::get("/farthing/").send(&gateway).await.status, 401);
    assert_eq!(bearer(Call::get("/farthing/"), ADMIN.1).send(&gateway).await.status, 200);
    for name in ["authorization", "x-api-key"] {
        let reply = Call::messages(MESSAGE).with(name, ADMIN.1).send(&gateway).await;
        assert_eq!(reply.status, 403);
    }
    // A key of ours from elsewhere, or from before its file was lost.
    let lost = format!("fk_abcdefgh_{}", "0".repeat(43));
    let reply = Call::messages(MESSAGE).with("x-api-key", &lost).send(&gateway).await;
    assert_eq!(reply.status, 401);
    assert!(server.received().is_empty());
    let reply = bearer(Call::chat(CHAT), "sk-client").send(&gateway).await;
    assert_eq!(reply.status, 200);
    assert_eq!(server.only().header("authorization"), Some("Bearer sk-client"));
    let ran = home.run_with(&["serve", "--listen", "0.0.0.0:0"], &[ADMIN]);
    assert!(ran.code == Some(1) && ran.err.contains("farthing key create"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_file_stops_a_start_and_no_gateway_that_runs() {
    let server = Scripted::always(answer()).await;
    let home = Home::new(&both(server.address));
    let key = create(&home, &["bot"]);
    let out = home.run(&["serve", "--check", "--listen", "0.0.0.0:8787"]).ok();
    assert!(out.contains("one of 1 active virtual keys (of 1)"), "{out}");
    assert!(out.contains("dashboard and metrics are closed"), "{out}");
    assert!(out.contains("no key: the client's is the gateway's"), "{out}");
    let gateway = home.serve();
    let path = home.data().join("keys.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("name = ", "name : ")).unwrap();
    eventually("it complains", || gateway.said().contains("the virtual keys stay")).await;
    assert_eq!(bearer(Call::chat(CHAT), &key).send(&gateway).await.status, 200);
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 401);
    for arguments in
        [&["serve"][..], &["serve", "--check"], &["key", "list"], &["key", "create", "x"]]
    {
        let ran = home.run(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}");
        for expected in ["keys.toml", "line 7", "name"] {
            assert!(ran.err.contains(expected), "{arguments:?}: {}", ran.err);
        }
    }
    std::fs::remove_file(&path).unwrap();
    eventually("it complains", || gateway.said().contains("the virtual keys stay in force")).await;
    assert_eq!(Call::chat(CHAT).send(&gateway).await.status, 401);
    std::fs::write(&path, good.replace("\"bot\"", "\"robot\"")).unwrap();
    eventually("it goes on", || gateway.said().contains("the virtual keys changed")).await;
    let reply = bearer(Call::chat(CHAT), &key).send(&gateway).await;
    assert_eq!(home.settled(reply.id()).unwrap().admission.key.as_deref(), Some("robot"));
    let said = gateway.stop().await;
    assert_eq!(said.matches("the virtual keys stay as they were").count(), 1, "{said}");
}

#[test]
fn keys_that_are_made_at_once_are_all_kept() {
    let home = Home::new(&both("127.0.0.1:1".parse().unwrap()));
    let keys: Vec<String> = std::thread::scope(|scope| {
        let making = (0..64).map(|n| {
            let home = &home;
            scope.spawn(move || create(home, &[&format!("k{n}")]))
        });
        let making: Vec<_> = making.collect();
        making.into_iter().map(|made| made.join().unwrap()).collect()
    });
    let listed = home.run(&["key", "list", "--json"]).json();
    let listed = listed["keys"].as_array().unwrap();
    assert_eq!(listed.len(), 64);
    for (n, key) in keys.iter().enumerate() {
        let name = format!("k{n}");
        let kept = listed.iter().find(|kept| kept["name"] == name.as_str()).expect("kept");
        assert_eq!(kept["id"], key[3..11]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_come_from_files_that_are_for_their_owner_alone() {
    let server = Scripted::always(answer()).await;
    let config = "admin_key_file = \"secrets/admin\"\naccess_key_file = \"secrets/access\"\n";
    let upstream = upstream("openai", server.address) + "api_key_file = \"secrets/openai\"\n";
    let home = Home::new(&format!("{config}{upstream}{PRICES}"));
    let secrets = home.config().with_file_name("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let mode = |name: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(secrets.join(name), permissions).unwrap();
    };
    for (name, secret) in [("admin", "adm\n"), ("access", "acc"), ("openai", "sk-of-file\r\n")] {
        std::fs::write(secrets.join(name), secret).unwrap();
        mode(name, 0o600);
    }
    // Relative to the configuration, wherever the command is run.
    let elsewhere = tempfile::tempdir().unwrap();
    let config = home.config().display().to_string();
    let mut check = home.command(&["serve", "--check", "--config", &config]);
    let checked = check.current_dir(elsewhere.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let gateway = home.serve();
    assert_eq!(bearer(Call::chat(CHAT), "acc").send(&gateway).await.status, 200);
    assert_eq!(server.only().header("authorization"), Some("Bearer sk-of-file"));
    assert_eq!(bearer(Call::get("/metrics"), "adm").send(&gateway).await.status, 200);
    gateway.stop().await;

    mode("openai", 0o640);
    let ran = home.run(&["serve"]);
    assert_eq!(ran.code, Some(1));
    for expected in ["`upstreams.openai.api_key_file`", "mode 0640", "0600 or 0400", "chmod 600"] {
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    assert!(!ran.err.contains("sk-of-file"), "{}", ran.err);
    home.run(&["bill"]).ok();
    home.configure(&format!("{upstream}api_key_env = \"UP\"\n{PRICES}"));
    let ran = home.run_with(&["serve"], &[UP]);
    let expected = "expected `upstreams.openai.api_key_env` or `upstreams.openai.api_key_file`";
    assert!(ran.code == Some(1) && ran.err.contains(expected), "{}", ran.err);
}

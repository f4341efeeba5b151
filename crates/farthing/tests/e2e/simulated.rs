//! `farthing simulated` behind the gateway: the scheduler's latencies are what the meter sees.

use facts::{End, Verdict};
use serde_json::json;

use crate::client::Call;
use crate::home::{Gateway, Home, PRICES, eventually, upstream};

const SETUP: [&str; 7] =
    ["simulated", "--model", "llama-3.1-8b", "--gpu", "h100", "--listen", "127.0.0.1:0"];

/// The server, and a gateway before it.
fn start(more: &[&str]) -> (Home, Gateway, Gateway) {
    let home = Home::new("");
    let server = home.start(&[&SETUP, more].concat());
    home.configure(&(upstream("vllm", server.address) + PRICES));
    let gateway = home.serve();
    (home, server, gateway)
}

fn ask(prompt_tokens: usize, output: u64) -> Call {
    let text = format!("[[sim output={output}]]{}", "word".repeat(prompt_tokens - 5));
    let messages = json!([{"role": "user", "content": text}]);
    Call::chat(json!({"model": "m", "messages": messages, "stream": true}).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_meter_sees_the_engines_tokens_and_whoever_leaves_frees_it() {
    let (home, server, gateway) = start(&["--max-num-seqs", "1", "--speed", "20"]);
    let said = server.said();
    assert!(said.contains("llama-3.1-8b on 1 x h100-sxm with vllm"), "{said}");
    // The first one has the only seat until it leaves, which else were in half a minute.
    let mut first = ask(100, 100_000).head(&gateway).await;
    first.piece().await.unwrap();
    let second = ask(200, 30);
    let (reply, ()) = tokio::join!(second.send(&gateway), async { drop(first) });
    assert_eq!(reply.status, 200);
    let settled = home.once_settled(2).await;
    let of = |verdict| {
        let mut all = settled.iter().filter(|one| one.settlement.verdict == verdict);
        all.next().unwrap_or_else(|| panic!("one is {verdict:?}: {settled:?}"))
    };
    assert_eq!(of(Verdict::Aborted).attempts[0].end.end, End::ClientGone);
    let attempt = &of(Verdict::Completed).attempts[0];
    let end = &attempt.end;
    assert_eq!((end.metered.usage.input(), end.metered.usage.output()), (200, 30));
    // No step of this model on this GPU takes less than its weights take to be read, 4.8 ms; a busy machine only adds to it.
    let span = end.last_token_at.unwrap().nanos() - attempt.dispatch.at.nanos();
    assert!(span >= 29 * 4_800_000 / 20, "{span}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_and_a_prompt_without_room_are_refused() {
    let (home, server, gateway) =
        start(&["--max-num-seqs", "1", "--max-queue", "1", "--max-model-len", "2k"]);
    let too_long = ask(2_010, 1).send(&gateway).await;
    assert_eq!(too_long.status, 400);
    // Each takes nine seconds.
    let mut runs = ask(100, 1_900).head(&gateway).await;
    runs.piece().await.unwrap();
    // Of the two who come then one may wait, whichever is first.
    let (one, other) = (ask(100, 1_900), ask(100, 1_900));
    let (one, other) = tokio::join!(one.begin(&gateway), other.begin(&gateway));
    let (one, other) = tokio::join!(one.head(), other.head());
    let mut statuses = [&one, &other].map(|reply| reply.as_ref().unwrap().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    drop((runs, one, other));
    let bill = || home.run(&["bill", "--json"]).json();
    eventually("all have settled", || bill()["total"]["exchanges"].as_u64() >= Some(4)).await;
    let said = server.stop().await;
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_calibrated_from_what_the_gateway_metered_of_it() {
    // A decode takes about 45 ms: the machine that runs the test is quick beside it.
    let setup = ["simulated", "--model", "llama-3.1-70b", "--gpu", "l40s", "--tp", "4"];
    let home = Home::new("");
    // The clients ask the same again and again, and what is read from a cache tells nothing of reading.
    let more = ["--no-prefix-caching", "--listen", "127.0.0.1:0"];
    let server = home.start(&[&setup[..], &more].concat());
    home.configure(&(upstream("vllm", server.address) + PRICES));
    let gateway = home.serve();
    for clients in [1, 4, 16_u32] {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..clients {
            let address = gateway.address;
            all.spawn(async move {
                for _ in 0..5 {
                    let call = ask(200, 16).with("x-farthing-route", "chat");
                    let head = call.begin_at(address).await.unwrap().head().await.unwrap();
                    assert_eq!(head.rest().await.status, 200);
                }
            });
        }
        while let Some(client) = all.join_next().await {
            client.unwrap();
        }
    }
    home.once_settled(5 * 21).await;
    gateway.stop().await;
    let told = ["calibrate", "--model", "llama-3.1-70b", "--gpu", "l40s", "--tp", "4"];
    let fit = home.config().with_extension("fit");
    let run = |route: &str, more: &[&str]| {
        home.run(&[&told[..], &["--from-ledger", route], more].concat())
    };
    let ran = run("chat", &["--out", fit.to_str().unwrap()]);
    assert!(ran.err.contains("requests at 3 loads"), "{}", ran.err);
    let table = ran.ok();
    let fit = std::fs::read_to_string(fit).unwrap();
    let number = |key: &str| -> f64 {
        let line = fit.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key}: {fit}")).trim().parse().unwrap()
    };
    assert!(fit.contains("farthing calibrate --from-ledger chat"), "{fit}");
    // What it was driven by is what is carried.
    assert!((0.8..1.25).contains(&number("memory ")), "{fit}{table}");
    assert!(number("error_percent ") < 15.0, "{fit}{table}");
    let unknown = run("chats", &[]);
    assert!(
        unknown.err.contains("nothing of route `chats`") && unknown.err.contains("chat"),
        "{}",
        unknown.err
    );
    let err = home.run(&["calibrate", "--from-ledger", "chat"]).err;
    assert!(err.contains("--model") && err.contains("--gpu"), "{err}");
}

/// The mean TTFT and the cached tokens that a server says when it stops.
fn last_words(said: &str) -> (f64, u64) {
    let number = |before: &str| -> String {
        let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("{before}: {said}"));
        rest.chars()
            .take_while(|c| c.is_ascii_digit() || ".,".contains(*c))
            .filter(|c| *c != ',')
            .collect()
    };
    (number("TTFT ").parse().unwrap(), number("of these ").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_the_engine_has_begins_sooner_and_is_billed_as_cached() {
    let mut found = Vec::new();
    for more in [&["--speed", "20"][..], &["--speed", "20", "--no-prefix-caching"]] {
        let (home, server, gateway) = start(more);
        let mut messages = vec![json!({"role": "system", "content": "word".repeat(8_000)})];
        for turn in 0..3 {
            let question = format!("[[sim output=5]]{turn}  ?");
            messages.push(json!({"role": "user", "content": question}));
            let body = json!({"model": "m", "messages": messages, "stream": true}).to_string();
            assert_eq!(Call::chat(body).send(&gateway).await.status, 200);
            messages.push(json!({"role": "assistant", "content": "word".repeat(11)}));
        }
        let settled = home.once_settled(3).await;
        let mut cached: Vec<u64> = settled
            .iter()
            .map(|one| {
                let tokens = &one.attempts[0].end.metered.usage.tokens;
                tokens.iter().filter(|(class, _)| class.is_cache_read()).map(|(_, n)| n.get()).sum()
            })
            .collect();
        cached.sort_unstable();
        let simulated = home.run(&[
            "simulate",
            "--model",
            "llama-3.1-8b",
            "--gpu",
            "h100",
            "--from-ledger",
            "--json",
        ]);
        let simulated = simulated.json()["tokens"]["cached_input"].as_u64();
        found.push((cached, simulated, last_words(&server.stop().await)));
    }
    let [(cached, simulated, kept), (none, _, computed)] = &found[..] else { panic!("{found:?}") };
    // Whole blocks of 16 tokens of what had been asked before: 8,000, and then 8,000 + 5 + 11.
    assert_eq!((&cached[..], kept.1), (&[0, 8_000, 8_016][..], 16_016));
    assert_eq!((&none[..], computed.1), (&[0; 3][..], 0));
    // What the gateway metered says the same of prompts as the server knew.
    assert_eq!(*simulated, Some(16_016));
    // Of three prompts two were hardly computed.
    assert!(kept.0 < computed.0 * 0.5, "{kept:?} {computed:?}");
}

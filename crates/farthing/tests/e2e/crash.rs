//! SIGKILL under load, again and again, on one data directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use facts::{End, Verdict};
use serde_json::Value;
use simulated::{Constant, Options, Simulated};
use tokio::task::JoinSet;
use workload::Random;

use crate::client::Call;
use crate::home::{Home, INPUT, OUTPUT, both, cost, eventually, pico};

/// Kills in the test command. `FARTHING_KILLS` sets another number, and then `FARTHING_E2E_SEED` is
/// drawn unless it is given.
const ROUNDS: u64 = 20;
const CLIENTS: u64 = 200;
/// A round is killed after so many exchanges, at most.
const MOST: u64 = 400;

/// What a client reckons that its exchange cost, by the usage it was told.
type Completed = Arc<Mutex<HashMap<String, i128>>>;

/// Runs one exchange; its id and cost if its last byte came.
async fn exchange(address: std::net::SocketAddr, kind: u64, output: u64) -> Option<(String, i128)> {
    let prompt = format!("[[sim output={output}]] and more");
    let stream = kind % 3 != 2;
    let options = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let chat = format!(
        r#"{{"model":"m"{},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#,
        if stream { options } else { "" }
    );
    let message = format!(
        r#"{{"model":"m","max_tokens":500,"stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let anthropic = kind % 3 == 1;
    let call = if anthropic { Call::messages(message) } else { Call::chat(chat) };
    let mut reading = call.begin_at(address).await.ok()?.head().await?;
    assert_eq!(reading.status, 200);
    let id = reading.id();
    let mut body = String::new();
    let last = if anthropic { "{\"type\":\"message_stop\"}\n\n" } else { "data: [DONE]\n\n" };
    // A client that has the terminal event needs no more.
    while !(stream && body.ends_with(last)) {
        match reading.piece().await {
            Some(piece) => body.push_str(std::str::from_utf8(&piece).unwrap()),
            None if !stream && reading.whole() => break,
            None => return None,
        }
    }
    Some((id, reckon(&body, stream)))
}

/// The cost by the largest counts that were told: usage is cumulative.
fn reckon(body: &str, stream: bool) -> i128 {
    let objects: Vec<Value> = if stream {
        let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    } else {
        vec![serde_json::from_str(body).unwrap()]
    };
    let usages = objects.iter().flat_map(|object| [&object["usage"], &object["message"]["usage"]]);
    let usages: Vec<&Value> = usages.collect();
    let most = |names: [&str; 2]| {
        let counts = usages.iter().flat_map(|usage| names.map(|name| usage[name].as_i64()));
        i128::from(counts.flatten().max().expect("counted"))
    };
    let input = most(["prompt_tokens", "input_tokens"]);
    let output = most(["completion_tokens", "output_tokens"]);
    input * INPUT + output * OUTPUT
}

/// Two hundred clients that ask again and again until the gateway is gone.
fn load(
    address: std::net::SocketAddr,
    seed: u64,
    completed: &Completed,
    count: &Arc<AtomicUsize>,
) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (completed, count) = (Arc::clone(completed), Arc::clone(count));
        clients.spawn(async move {
            let mut random = Random::new(seed ^ (client << 32));
            let asks = || (random.below(3), 1 + random.below(30));
            for (kind, output) in std::iter::repeat_with(asks) {
                let Some((id, cost)) = exchange(address, kind, output).await else { return };
                completed.lock().unwrap().insert(id, cost);
                count.fetch_add(1, SeqCst);
            }
        });
    }
    clients
}

/// The charges of all records of the journal's dump, and how many records there are of each kind.
fn dumped(dump: &str) -> (i128, BTreeMap<String, usize>) {
    let (mut sum, mut kinds, mut rows) = (0, BTreeMap::new(), HashSet::new());
    for line in dump.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        *kinds.entry(record["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        if record["kind"] == "price" {
            rows.insert(record["price_row"].to_string());
        }
        let charge = &record["charge"];
        if charge["kind"] == "priced" {
            let row = charge["price_row"].to_string();
            assert!(rows.contains(&row), "{row} is charged before it is written");
            let lines = charge["lines"].as_array().unwrap().iter();
            let lines: i128 =
                lines.map(|line| pico(line["contracted_usd"].as_str().unwrap())).sum();
            assert_eq!(lines, pico(charge["cost_usd"].as_str().unwrap()));
            sum += lines;
        }
    }
    (sum, kinds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_loses_no_finished_exchange_and_settles_the_others_as_unknown() {
    let told = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let rounds = told("FARTHING_KILLS");
    let drawn = || rounds.map_or(7, |_| RandomState::new().hash_one(0));
    let seed = told("FARTHING_E2E_SEED").unwrap_or_else(drawn);
    let rounds = rounds.unwrap_or(ROUNDS);
    println!("FARTHING_KILLS={rounds} FARTHING_E2E_SEED={seed}");
    let timing = Constant { ttft: Duration::from_millis(5), tpot: Duration::from_millis(2) };
    let options = Options { timing: Arc::new(timing), ..Options::default() };
    let server = Simulated::on_loopback(options).await.unwrap();
    let home = Home::new(&both(server.address()));
    let completed = Completed::default();
    let mut random = Random::new(seed);
    let (mut torn, mut rounds_with_lost) = (0, 0);
    for round in 0..rounds {
        let gateway = home.serve();
        let count = Arc::new(AtomicUsize::new(0));
        let mut clients = load(gateway.address, seed ^ round, &completed, &count);
        let enough = usize::try_from(random.below(MOST)).unwrap();
        eventually("the load runs", || count.load(SeqCst) >= enough).await;
        tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
        let said = gateway.kill();
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        torn += usize::from(said.contains("torn record"));

        // Before anyone repairs anything: what a client saw whole is there, with its charge.
        let (settled, open) = home.journal();
        rounds_with_lost += usize::from(open > 0);
        // One that was never sent cost nothing that a client could have seen.
        let costs: HashMap<String, Option<i128>> = settled
            .iter()
            .map(|exchange| {
                let cost = if exchange.attempts.is_empty() { None } else { cost(exchange) };
                (exchange.admission.exchange.to_string(), cost)
            })
            .collect();
        assert_eq!(costs.len(), settled.len(), "each settles once");
        for (id, cost) in completed.lock().unwrap().iter() {
            assert_eq!(costs.get(id), Some(&Some(*cost)), "round {round}, exchange {id}");
        }
    }
    // The last start settles what the last kill left.
    let said = home.serve().stop().await;
    torn += usize::from(said.contains("torn record"));
    let (settled, open) = home.journal();
    assert_eq!(open, 0);
    let of = |verdict| settled.iter().filter(|e| e.settlement.verdict == verdict).count();
    // A kill may tear one write between any two records: an exchange of unknown verdict may have an
    // attempt that ended, whose charge stands, or none. A lost attempt is never of known cost.
    let attempts = || settled.iter().flat_map(|exchange| &exchange.attempts);
    for exchange in &settled {
        let lost = exchange.attempts.iter().any(|attempt| attempt.end.end == End::Lost);
        assert!(!lost || exchange.settlement.verdict == Verdict::Unknown, "{exchange:?}");
        assert!(exchange.attempts.len() <= 1, "{exchange:?}");
        assert!(!lost || cost(exchange).is_none(), "{exchange:?}");
    }

    let check = home.run(&["journal", "check", "--config", "farthing.toml"]).ok();
    assert!(check.contains(" 0 open"), "{check}");
    assert!(!check.contains("no whole record"), "{check}");
    let (sum, kinds) = dumped(&home.run(&["journal", "dump"]).ok());
    for (kind, count) in [
        ("admitted", settled.len()),
        ("dispatched", attempts().count()),
        ("attempt_ended", attempts().count()),
        ("settled", settled.len()),
    ] {
        assert_eq!(kinds[kind], count, "{kind}");
    }
    let bill = home.run(&["bill", "--by", "api,model", "--json"]).json();
    let usd = |value: &Value| pico(value.as_str().unwrap());
    assert_eq!(usd(&bill["total"]["cost_usd"]), sum);
    assert_eq!(usd(&bill["spend_usd"]), sum);
    let groups = bill["groups"].as_array().unwrap().iter();
    let groups: i128 = groups
        .map(|group| &group["measures"]["cost_usd"])
        .filter(|cost| !cost.is_null())
        .map(usd)
        .sum();
    assert_eq!(groups, sum);
    assert_eq!(bill["total"]["exchanges"], settled.len());
    let lost = attempts().filter(|attempt| attempt.end.end == End::Lost).count();
    assert_eq!(bill["total"]["unknown_attempts"], lost);
    assert_eq!(bill["spend_is_complete"], false);
    assert!(rounds_with_lost > 0, "no kill met an exchange under way: the test tests nothing");
    println!(
        "{rounds} kills under {CLIENTS} clients: {} exchanges settled; {} seen whole by a client, all \
         on the journal with the right charge, 0 lost, 0 wrong; {} completed, {} aborted or failed, {} \
         unknown; {torn} torn tails cut",
        settled.len(),
        completed.lock().unwrap().len(),
        of(Verdict::Completed),
        of(Verdict::Aborted) + of(Verdict::Failed),
        of(Verdict::Unknown),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_under_load_loses_nothing() {
    let timing = Constant { ttft: Duration::from_millis(5), tpot: Duration::from_millis(2) };
    let options = Options { timing: Arc::new(timing), ..Options::default() };
    let server = Simulated::on_loopback(options).await.unwrap();
    let home = Home::new(&both(server.address()));
    let completed = Completed::default();
    for round in 0..3 {
        let gateway = home.serve();
        let count = Arc::new(AtomicUsize::new(0));
        let mut clients = load(gateway.address, round, &completed, &count);
        eventually("the load runs", || count.load(SeqCst) >= 300).await;
        gateway.stop().await;
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        let (settled, open) = home.journal();
        assert_eq!(open, 0);
        // What was under way came to its end, and what reached the model is on the journal.
        let completed = completed.lock().unwrap();
        assert_eq!(settled.len(), completed.len());
        assert_eq!(settled.len() as u64, server.stats().requests);
        for exchange in settled {
            let id = exchange.admission.exchange.to_string();
            assert_eq!(exchange.settlement.verdict, Verdict::Completed, "{id}");
            assert_eq!(cost(&exchange), completed.get(&id).copied(), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_at_the_next_start_and_nothing_else_is_lost() {
    let server = Simulated::on_loopback(Options::default()).await.unwrap();
    let home = Home::new(&both(server.address()));
    let gateway = home.serve();
    for kind in 0..5 {
        exchange(gateway.address, kind, 4).await.unwrap();
    }
    gateway.kill();
    let (before, _) = home.journal();
    let journal = std::fs::read_dir(home.data().join("journal")).unwrap();
    let longest = journal.map(|entry| entry.unwrap().path());
    let longest = longest.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let bytes = std::fs::read(&longest).unwrap();
    // A third of the last record is missing, as after a loss of power.
    std::fs::write(&longest, &bytes[..bytes.len() - 17]).unwrap();
    let check = home.run(&["journal", "check"]).ok();
    assert!(check.contains("no whole record") && check.contains("1 open"), "{check}");
    let said = home.serve().stop().await;
    assert!(said.contains("torn record") && said.contains("1 exchanges were under way"), "{said}");
    let (after, open) = home.journal();
    assert_eq!((after.len(), open), (before.len(), 0));
    assert_eq!(after[..4], before[..4]);
    assert_eq!(after[4].settlement.verdict, Verdict::Unknown);
    // Its attempt had ended and was priced before the tear: that is not forgotten.
    assert_eq!(after[4].attempts, before[4].attempts);
    let check = home.run(&["journal", "check"]).ok();
    assert!(check.contains(" 0 open") && !check.contains("no whole record"), "{check}");
}

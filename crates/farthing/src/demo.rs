//! `farthing demo`: everything at once, without a key or a GPU.
//!
//! A simulated server stands for the providers and for GPUs of one's own; the traffic of a small
//! company passes through the real gateway, is metered, priced and journalled, on a clock that runs
//! sixty times as fast for that hour.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facts::{Dimension, Query};
use gateway::{Clock, ModelTarget, Settings, Upstream};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use metering::Convention;
use quantity::{Money, Period, UnixTime};
use report::Bill;
use simulated::{Constant, Simulated};
use tariff::Book;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use workload::{Arrival, Fault, Workload};

use crate::bill::{answer, book_line};
use crate::config::{self, Config};
use crate::data::DataDir;
use crate::output;
use crate::serve::{Service, Wishes, interrupted, runtime};

/// So many times as fast as real time.
const SPEED: u32 = 60;
const HOUR: Duration = Duration::from_secs(3_600);
/// When the first bill is shown.
const FIRST_BILL: Duration = Duration::from_secs(20 * 60);
/// What an hour of the demo's own GPU costs, US dollars.
const GPU_HOUR: &str = "2.50";

/// An hour of a small company's traffic in a minute: no key, no GPU, real metering
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Stop after the bill instead of serving the dashboard until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// The traffic is made from this number
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where the gateway and its dashboard listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: std::net::SocketAddr,
    /// Data directory [default: a new one in the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Minutes of traffic
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
    minutes: u32,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    runtime()?.block_on(demo(arguments))
}

async fn demo(arguments: Arguments) -> anyhow::Result<()> {
    let system = Clock::system().now();
    let start = UnixTime::from_nanos(system.nanos() - i64::try_from(HOUR.as_nanos())?);
    let clock = Clock::injected(start, SPEED, HOUR);
    let data_dir = arguments.data_dir.clone().unwrap_or_else(|| {
        let seconds = system.nanos() / 1_000_000_000;
        std::env::temp_dir().join(format!("farthing-demo-{seconds}"))
    });
    let data = DataDir::create(&data_dir)?;
    let options = simulated::Options {
        seed: arguments.seed,
        timing: Arc::new(Constant {
            ttft: Duration::from_millis(400),
            tpot: Duration::from_millis(15),
        }),
        speed: SPEED,
        now: Arc::new(move || clock.now()),
        ..simulated::Options::default()
    };
    let provider = Simulated::on_loopback(options).await?;
    let config = config(&provider, arguments.listen, data_dir.clone())?;
    let book = book_line(&config.book);
    let wishes = Wishes { clock, lines: false, sync: false, ends_hours: true };
    let service = Service::start(config, &data, wishes)
        .await
        .context("the demo's gateway cannot start; --listen 127.0.0.1:0 takes any free port")?;
    let address = service.address()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(service.serve(async {
        let _ = stopped.await;
    }));

    let length = Duration::from_secs(60 * u64::from(arguments.minutes));
    let workload = workload::demo(arguments.seed).slice(Duration::ZERO..length);
    let count = workload.requests().len();
    eprintln!(
        "farthing demo: {} minutes of traffic in {} seconds, {count} exchanges through \
         http://{address}\n  live dashboard: http://{address}/farthing/",
        arguments.minutes,
        length.as_secs() / u64::from(SPEED),
    );
    let played = Arc::new(AtomicUsize::new(0));
    let mut playing = tokio::spawn(play(workload, address.to_string(), Arc::clone(&played)));
    let query = Query {
        by: vec![Dimension::Route, Dimension::Model],
        period: Period { start: Some(start), end: None },
    };
    let show = |headline: &str| -> anyhow::Result<()> {
        let now = clock.now();
        let answer = answer(&data, &query, now)?;
        output::print(&format!(
            "\n{headline}\n\n{}",
            Bill::new(&answer, &book, now).text(output::style())
        ))
    };

    let mut shown = false;
    let mut interrupt = std::pin::pin!(interrupted());
    loop {
        tokio::select! {
            outcome = &mut playing => {
                outcome.context("the traffic broke off")?;
                break;
            }
            () = &mut interrupt => {
                playing.abort();
                break;
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => {
                let passed = clock.now().since(start);
                eprintln!(
                    "  minute {:>2}: {:>5} exchanges",
                    passed.as_secs() / 60,
                    played.load(Relaxed)
                );
                if !shown && passed >= FIRST_BILL {
                    shown = true;
                    show("The first twenty minutes:")?;
                }
            }
        }
    }
    show(&format!("All {} minutes:", arguments.minutes))?;
    let dir = data_dir.display();
    output::print(&format!(
        "\nEverything above was metered by the gateway and read back from its journal in {dir}\n\
         \n  farthing bill --data-dir {dir} --by team,task_type\n  \
         farthing bill --data-dir {dir} --by model --json\n  \
         farthing journal dump --data-dir {dir} | head\n  \
         farthing estimate --model gpt-5-mini --in 2000 --out 500 --per-day 50000\n\
         \nYour own traffic: OPENAI_API_KEY=... farthing serve, and http://127.0.0.1:8787/v1 as the \
         base URL.\n"
    ))?;
    if !arguments.exit {
        eprintln!("\nThe dashboard stays at http://{address}/farthing/ until Ctrl-C.");
        interrupted().await;
    }
    let _ = stop.send(());
    serving.await.context("the gateway broke off")?
}

/// Two providers and a GPU of one's own, all of them played by the simulated server.
fn config(
    provider: &Simulated,
    listen: std::net::SocketAddr,
    data_dir: PathBuf,
) -> anyhow::Result<Config> {
    let base_url: Uri = provider.base_url().parse()?;
    let upstream = |name: &str, convention: Convention, hourly_cost: Option<Money>| Upstream {
        name: name.to_owned(),
        convention,
        base_url: base_url.clone(),
        key: None,
        provider: convention.provider().map(str::to_owned),
        region: None,
        hourly_cost,
        limits: gateway::Limits::default(),
    };
    let gpu_hour = GPU_HOUR.parse().context("the demo's hourly cost")?;
    let settings = Settings {
        listen,
        access_key: None,
        admin_key: None,
        keys: Arc::default(),
        allowed_hosts: Vec::new(),
        upstreams: vec![
            upstream("openai", Convention::OpenAi, None),
            upstream("anthropic", Convention::Anthropic, None),
            upstream("own-gpu", Convention::Vllm, Some(gpu_hour)),
        ],
        models: [("llama-3.3-70b-own".to_owned(), vec![ModelTarget { upstream: 2, model: None }])]
            .into(),
        retry: gateway::Retry::default(),
        on_ledger_failure: gateway::OnFailure::default(),
        ledger_timeout: crate::config::LEDGER_TIMEOUT,
        routes: std::collections::BTreeMap::new(),
        route_names: std::collections::BTreeMap::new(),
        unmetered: Vec::new(),
        client_timeout: Duration::from_secs(300),
        max_body: 64 << 20,
    };
    let (book, prices) = (Book::builtin(), config::Prices::default());
    let (simulated, retention, price_alarm) = (Vec::new(), None, Duration::ZERO);
    let file = None;
    Ok(Config { settings, data_dir, book, prices, retention, price_alarm, simulated, file })
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// Plays a workload against the gateway: each request at its time, or after the one it follows.
async fn play(workload: Workload, address: String, played: Arc<AtomicUsize>) {
    let workload = Arc::new(workload.faster(SPEED));
    let children = Arc::new(workload.children());
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let mut running = JoinSet::new();
    for (offset, root) in workload.roots().collect::<Vec<_>>() {
        let (workload, children) = (Arc::clone(&workload), Arc::clone(&children));
        let (http, address, played) = (http.clone(), address.clone(), Arc::clone(&played));
        running.spawn(async move {
            tokio::time::sleep(offset).await;
            let mut due = VecDeque::from([root]);
            // A follower waits for the one before it; few have more than one, so that telling them
            // in turn is near enough to life.
            while let Some(index) = due.pop_front() {
                let request = &workload.requests()[index];
                if let Arrival::After { think, .. } = request.arrival {
                    tokio::time::sleep(think).await;
                }
                // What goes wrong is part of the traffic.
                let _ = send(&http, &address, request).await;
                played.fetch_add(1, Relaxed);
                due.extend(&children[index]);
            }
        });
    }
    while running.join_next().await.is_some() {}
}

async fn send(http: &Http, address: &str, request: &workload::Request) -> anyhow::Result<()> {
    let wire = simulated::http_request(request);
    let mut builder = Request::post(format!("http://{address}{}", wire.path));
    for (name, value) in &wire.headers {
        builder = builder.header(name, value);
    }
    let mut reply = http.request(builder.body(Full::new(Bytes::from(wire.body)))?).await?;
    let patience = match request.fault {
        Some(Fault::HangUp(pieces)) => pieces,
        _ => u32::MAX,
    };
    let body = reply.body_mut();
    for _ in 0..patience {
        match body.frame().await {
            Some(frame) => drop(frame?),
            None => break,
        }
    }
    Ok(())
}

//! `farthing serve`: gateway, journal and dashboard in one process.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, bail};
use dashboard::Dashboard;
use facts::{Gap, PriceRecord};
use gateway::{Clock, Gateway, KeyRing, Keys, Recent};
use journal::{Batch, Committer, DirStorage, Options, Writer};
use ledger::Ledger;
use quantity::{Money, Period, UnixTime, grouped};
use simulated::Simulated;
use tokio::net::TcpListener;
use warehouse::Folded;

use crate::bill::{When, book_line};
use crate::config::Config;
use crate::data::DataDir;
use crate::key_file::{Following, KeyFile};
use crate::price_alarm::{AHEAD, Alarm, BACK, Changes, SharedChanges};
use crate::project::Projecting;
use crate::watch::{Watcher, Watching};
use crate::{Place, output, process};

/// Records that may wait for a worker of the gateway to run out of other work.
const GATHERED: u64 = 64;

/// Who calls is not who sees what all others spend.
const CLOSED: &str = "dashboard and metrics are closed: calls need a key, and there is no \
    `admin_key_env` or `admin_key_file` to open them with";

/// Gateway, ledger and dashboard: clients change only their base URL
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Where to listen [default: as configured, else 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// Check the configuration and stop
    #[arg(long)]
    check: bool,
    /// No line on stderr for each exchange
    #[arg(long)]
    quiet: bool,
    /// Wait for the disk, not only for the system, before a reply is complete
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config = Config::load_to_serve(&arguments.place)?;
    if let Some(listen) = arguments.listen {
        config.settings.listen = listen;
    }
    let key_file = KeyFile::of(&config.data_dir);
    config.settings.keys = Arc::new(KeyRing::new(Keys::new(key_file.read()?)));
    config.settings.check()?;
    if arguments.check {
        return output::print(&described(&config));
    }
    process::raise_limit_of_files();
    process::use_small_pages();
    runtime()?.block_on(async {
        let simulated = start_simulated(&mut config).await?;
        let data = DataDir::create(&config.data_dir)?;
        let wishes = Wishes {
            clock: Clock::system(),
            lines: !arguments.quiet,
            sync: arguments.sync,
            ends_hours: false,
        };
        let keys = Arc::clone(&config.settings.keys);
        let closed = config.settings.asks_for_key() && config.settings.admin_key.is_none();
        let price_alarm = config.price_alarm;
        let service = Service::start(config, &data, wishes).await?;
        let _following = Following::start(key_file, keys)?;
        // Whoever reads that it serves may stop it.
        let interrupted = interrupted();
        eprintln!("farthing: {}", service.greeting());
        let _alarm = Alarm::start(service.changes.clone(), service.clock, price_alarm)?;
        if closed {
            eprintln!("farthing: {CLOSED}");
        }
        service.serve(patient(interrupted)).await?;
        drop(simulated);
        Ok(())
    })
}

/// The runtime that everything with sockets runs on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Resolves at Ctrl-C or SIGTERM, which are awaited from the call on, not from the first poll.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    async {
        let Ok((mut interrupt, mut terminate)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Passes a signal on, says what happens then, and heeds a second one.
async fn patient(signal: impl Future<Output = ()>) {
    signal.await;
    eprintln!(
        "farthing: no new exchanges; those under way have 30 s to end, or none after another Ctrl-C"
    );
    let again = interrupted();
    tokio::spawn(async {
        again.await;
        #[expect(clippy::disallowed_methods, reason = "now is now; the journal survives it")]
        std::process::exit(130);
    });
}

async fn start_simulated(config: &mut Config) -> anyhow::Result<Vec<Simulated>> {
    let mut running = Vec::new();
    for (index, timing) in std::mem::take(&mut config.simulated) {
        let timing = Arc::new(timing);
        let options = simulated::Options { timing, ..simulated::Options::default() };
        let server = Simulated::on_loopback(options).await?;
        config.settings.upstreams[index].base_url = server.base_url().parse()?;
        running.push(server);
    }
    Ok(running)
}

fn described(config: &Config) -> String {
    let settings = &config.settings;
    let file = config.file.as_deref().map(|file| format!(" in {}", file.display()));
    let info = config.book.info();
    let mut out = format!(
        "configuration{} is valid\nlistens on {}, keeps its data in {}\nprice book {} of {}: {} \
         models, {} rows of your own\n",
        file.unwrap_or_else(|| ": none; the default".to_owned()),
        settings.listen,
        config.data_dir.display(),
        info.name,
        info.as_of,
        grouped(info.models as u64),
        info.own_rows,
    );
    let (keys, active) = settings.keys.get().count(Clock::system().now());
    let who = match (&settings.access_key, keys) {
        (None, 0) => "whoever reaches it, without a key".to_owned(),
        (Some(_), 0) => "whoever has the access key".to_owned(),
        (None, _) => format!("whoever has one of {active} active virtual keys (of {keys})"),
        (Some(_), _) => {
            format!("whoever has the access key or one of {active} active virtual keys (of {keys})")
        }
    };
    out.push_str(&format!("serves {who}\n"));
    out.push_str(&match (&settings.admin_key, settings.asks_for_key()) {
        (Some(_), _) => "shows pages and metrics to whoever has the admin key\n".to_owned(),
        (None, false) => "shows pages and metrics to whoever reaches it\n".to_owned(),
        (None, true) => format!("{CLOSED}\n"),
    });
    for (index, upstream) in settings.upstreams.iter().enumerate() {
        let key = match (&upstream.key, settings.asks_for_key()) {
            (Some(_), _) => "its own key",
            (None, false) => "the client's key",
            (None, true) => "no key: the client's is the gateway's",
        };
        let price = match (&upstream.hourly_cost, &upstream.provider) {
            (Some(cost), _) => format!("${cost} an hour"),
            (None, Some(provider)) => format!("prices of `{provider}`"),
            (None, None) => "no prices: its exchanges will be unpriced".to_owned(),
        };
        let place = match config.simulated.iter().any(|(simulated, _)| *simulated == index) {
            true => "within this process".to_owned(),
            false => format!("at {}", upstream.base_url),
        };
        out.push_str(&format!(
            "upstream {}: {} {place}, {key}, {price}\n",
            upstream.name, upstream.convention
        ));
    }
    out
}

/// How a service differs from another.
#[derive(Clone, Copy)]
pub(crate) struct Wishes {
    pub(crate) clock: Clock,
    pub(crate) lines: bool,
    pub(crate) sync: bool,
    /// Whether upstreams that are paid by the hour cost nothing once it stops. GPUs do not stop with
    /// the gateway, but the demo's do.
    pub(crate) ends_hours: bool,
}

/// A gateway with its journal and dashboard, ready to serve.
pub(crate) struct Service {
    gateway: Gateway,
    listener: TcpListener,
    committer: Committer<DirStorage>,
    data: DataDir,
    watcher: Arc<Watcher>,
    watching: Watching,
    clock: Clock,
    changes: SharedChanges,
    _projecting: Projecting,
    /// Hourly costs to end with the service.
    ending: Vec<String>,
}

impl Service {
    /// Opens the journal, settles what a killed predecessor left open, and binds the socket.
    pub(crate) async fn start(
        config: Config,
        data: &DataDir,
        wishes: Wishes,
    ) -> anyhow::Result<Self> {
        let Wishes { clock, lines, sync, ends_hours } = wishes;
        // First of all: what cannot serve leaves no trace in the journal.
        let listen = config.settings.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let key = data.key()?;
        let now = clock.now();
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("the system gives no random numbers")?;
        let storage = data.journal_to_write()?;
        let (mut writer, recovery) = Writer::open(storage, now, u64::from_le_bytes(random))
            .with_context(|| format!("data directory `{}`", data.path().display()))?;
        if recovery.cut_bytes > 0 {
            eprintln!(
                "farthing: cut {} bytes of a torn record from the end of {}: the last gateway was \
                 killed while it wrote",
                recovery.cut_bytes, recovery.file
            );
        }

        let Known { mut ledger, mut dashboard, recent, hourly, gaps, changes, missing } =
            Known::load(&config, data, now).map_err(|error| data.explained(error))?;
        if missing > 0 {
            for missing in data.missing()? {
                eprintln!("farthing: records are missing in the journal: {missing}");
            }
        }
        // One that is on the journal was written, but then not forgotten.
        let kept = data.kept_gap().filter(|kept| !gaps.contains(kept));
        let mut batch = Batch::new();
        let lost = ledger.lost(now);
        if !lost.is_empty() {
            eprintln!(
                "farthing: {} exchanges were under way when the last gateway stopped; what they \
                 consumed is unknown",
                lost.len()
            );
        }
        for (end, settlement) in lost {
            if let Some(end) = end {
                batch.push(&end)?;
                ledger.end(end)?;
            }
            batch.push(&settlement)?;
            let exchange = Arc::new(ledger.settle(settlement)?);
            dashboard.settled(&exchange);
            recent.insert(&exchange);
        }
        let mut prices = Vec::new();
        for (upstream, cost) in hourly_changes(&config, &hourly) {
            let price = PriceRecord::PerHour { upstream, cost, from: now };
            batch.push(&price)?;
            prices.push(price);
        }
        if let Some(gap) = &kept {
            eprintln!("farthing: the last gateway could not record all: {}", passed(gap));
            batch.push(gap)?;
            dashboard.gap(gap);
        }
        let cannot = || format!("cannot write to the journal in `{}`", data.path().display());
        writer.append(&mut batch, now).with_context(cannot)?;
        writer.sync().with_context(cannot)?;
        data.forget_gap();

        let options = Options {
            sync_each: sync,
            gathered: GATHERED,
            stalled_after: config.settings.ledger_timeout,
            ..Options::default()
        };
        let committer = Committer::start(writer, options, move || clock.now())?;
        let (watcher, watching) =
            Watcher::start(dashboard, committer.handle(), lines, changes.clone())?;
        prices.iter().for_each(|price| watcher.price(price));
        let hosted = config.settings.upstreams.iter().filter(|u| u.hourly_cost.is_some());
        let ending = hosted.map(|upstream| upstream.name.clone()).filter(|_| ends_hours).collect();
        let gateway = Gateway::new(
            config.settings,
            Arc::new(config.book),
            committer.handle(),
            clock,
            key,
            recent,
            Arc::clone(&watcher) as Arc<dyn gateway::Watch>,
        )?;
        let _projecting = Projecting::start(data.warehouse()?, clock, config.retention)?;
        let data = data.clone();
        Ok(Self {
            gateway,
            listener,
            committer,
            data,
            watcher,
            watching,
            clock,
            changes,
            _projecting,
            ending,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> anyhow::Result<std::net::SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    fn greeting(&self) -> String {
        let address = self.address().map(|address| address.to_string()).unwrap_or_default();
        format!(
            "serving on http://{address}  (OpenAI base URL http://{address}/v1, Anthropic base URL \
             http://{address}, dashboard http://{address}/farthing/)"
        )
    }

    /// Serves until `shutdown`, then closes the journal.
    pub(crate) async fn serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.gateway.serve(self.listener, shutdown).await?;
        // The last records are written and synced here: a failure must not look like success.
        let journal = self.committer.handle();
        let closed = tokio::task::spawn_blocking(move || self.committer.close()).await;
        self.watcher.finish(self.watching);
        if let Some(gap) = journal.status().untold {
            eprintln!("farthing: the journal could not be written to the end: {}", passed(&gap));
            if let Err(error) = self.data.keep_gap(&gap) {
                eprintln!("farthing: nor can this be kept for the next start: {error:#}");
            }
        }
        match closed {
            Ok(Ok(mut writer)) => {
                let mut batch = Batch::new();
                for upstream in self.ending {
                    let from = self.clock.now();
                    batch.push(&PriceRecord::PerHour { upstream, cost: None, from })?;
                }
                writer.append(&mut batch, self.clock.now())?;
                Ok(writer.sync()?)
            }
            Ok(Err(error)) => Err(error).context("the journal could not be closed"),
            Err(_) => bail!("the journal's thread broke down"),
        }
    }
}

/// What the journal tells a gateway that begins: the same as if it had read every record.
struct Known {
    /// What a killed predecessor left open.
    ledger: Ledger,
    dashboard: Dashboard,
    recent: Recent,
    /// What upstreams cost by the hour.
    hourly: BTreeMap<String, Option<Money>>,
    /// What the journal says that it lacks.
    gaps: Vec<Gap>,
    /// Changes of prices that are to come, of what was served lately.
    changes: SharedChanges,
    /// Records that are nowhere.
    missing: u64,
}

impl Known {
    fn load(config: &Config, data: &DataDir, now: UnixTime) -> anyhow::Result<Self> {
        let warehouse = data.warehouse()?;
        crate::project::tell_if_long(&warehouse)?;
        let mut changes = Changes::of(config.book.clone(), now, AHEAD);
        let [routes, models] = Dashboard::queries();
        let queries = [
            routes,
            models,
            Changes::query(Period { start: Some(When::Away(BACK).at(now)), end: None }),
        ];
        let Folded { mut rollups, ledger, hourly: prices, missing, .. } =
            warehouse.fold(&queries)?;
        if let Some(served) = rollups.pop() {
            changes.served_in(&served.answer(now), &config.settings.upstreams, now);
        }
        let gaps = rollups.first().map(|rollup| rollup.gaps().to_vec()).unwrap_or_default();
        let mut dashboard = Dashboard::new(book_line(&config.book))
            .with_route_names(config.settings.route_names.clone());
        if let Ok(rollups) = rollups.try_into() {
            dashboard = dashboard.with_counted(rollups);
        }
        let mut hourly = BTreeMap::new();
        for price in prices {
            if let PriceRecord::PerHour { upstream, cost, .. } = price {
                hourly.insert(upstream, cost);
            }
        }
        let recent = Recent::default();
        for mut exchange in warehouse.newest(Recent::MOST)? {
            let route = &mut exchange.admission.labels.route;
            if let Some(name) = config.settings.route_names.get(route) {
                route.clone_from(name);
            }
            dashboard.list(&exchange);
            recent.insert(&Arc::new(exchange));
        }
        let changes = SharedChanges::new(changes);
        Ok(Self { ledger, dashboard, recent, hourly, gaps, changes, missing })
    }
}

/// A gap in words.
fn passed(gap: &Gap) -> String {
    let known = match gap.cost {
        Some(cost) => format!("${cost} of their cost is known"),
        None => "nothing of their cost is known".to_owned(),
    };
    let (since, until) = (gap.since, gap.until);
    let Gap { exchanges, cause, .. } = gap;
    format!("{exchanges} exchanges between {since} and {until} ({cause}); {known}")
}

/// Hourly costs that are configured otherwise than the journal knows; `None` where one ended.
fn hourly_changes(
    config: &Config,
    known: &BTreeMap<String, Option<Money>>,
) -> Vec<(String, Option<Money>)> {
    let upstreams = &config.settings.upstreams;
    let configured = upstreams.iter().filter(|upstream| upstream.hourly_cost.is_some());
    let mut changes: Vec<_> = configured
        .filter(|upstream| known.get(&upstream.name).copied().flatten() != upstream.hourly_cost)
        .map(|upstream| (upstream.name.clone(), upstream.hourly_cost))
        .collect();
    let costs_now = |name: &str| {
        upstreams.iter().any(|upstream| upstream.name == name && upstream.hourly_cost.is_some())
    };
    let ended = known.iter().filter(|(name, cost)| cost.is_some() && !costs_now(name));
    changes.extend(ended.map(|(name, _)| (name.clone(), None)));
    changes
}

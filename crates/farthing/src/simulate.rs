//! `farthing simulate`: a workload on a serving setup, and what a token costs there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use quantity::{EstimatedUsd, Money};
use report::simulation::{Beside, Charts, Fleet, Search, Served, Simulation, Source};
use roofline::{ClosedLoop, Steps};
use servesim::{Balance, Goal, Keeper, Link, Report, SECOND_PS, Scaling, Slo};

use crate::estimate::count;
use crate::output;

mod asked;
mod offered;
mod serve;
mod setup;

use asked::Asked;
use offered::Traffic;
use serve::{Copies, Job};
pub(crate) use setup::{Replica, Serving, accelerator, engine, model, sheets};

/// A workload on a model, an accelerator and an engine: throughput, latency and cost per token, predicted
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("why").args(["explain", "html"]).multiple(true))]
pub(crate) struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// Copies of all that, behind a router
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    replicas: u32,
    /// Some copies compute prompts and send their KV cache to others that decode, such as 2+6
    #[arg(long, value_name = "PREFILL+DECODE", conflicts_with = "replicas", value_parser = pools)]
    pools: Option<[u32; 2]>,
    /// What they send it over, in GB/s of each GPU [default: the GPU's link; a 400 Gbit/s network card is 50]
    #[arg(long, value_name = "GB_PER_S", requires = "pools", value_parser = positive)]
    pool_link: Option<Positive>,
    /// As many copies as are needed, such as 1..8: every 15 s those missing for --target-load are started, and those too
    /// many for 5 minutes stopped
    #[arg(long, value_name = "LEAST..MOST", conflicts_with_all = ["replicas", "pools"], requires = "cold_start", value_parser = least_and_most)]
    autoscale: Option<(u32, u32)>,
    /// What a copy takes to start, and is paid for, before it serves, such as 90s
    #[arg(long, value_name = "TIME", requires = "autoscale", value_parser = span)]
    cold_start: Option<Duration>,
    /// Requests, waiting or running, that a copy should have [default: 70% of those that run in the busiest steady state
    /// within --tpot]
    #[arg(long, value_name = "COUNT", requires = "autoscale", value_parser = some)]
    target_load: Option<u32>,
    /// Which copy gets a request: the next in turn, the one with the fewest requests, or of those with up to 8 more
    /// than that the one whose prefix cache has most of the prompt
    #[arg(long, value_name = "ROUTER", default_value = "round-robin")]
    router: Router,
    #[command(flatten)]
    asked: Asked,
    /// Searches the highest rate at which this share keeps the SLO: p99 (each limit), or 99% (of the requests, all
    /// limits) [default: p99]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "p99",
        conflicts_with_all = ["rate", "scale"], value_parser = kept_by)]
    find_rate: Option<KeptBy>,
    /// This share of the requests, drawn at random, is served before all others, such as 20%. Of a trace a column may
    /// tell who is: see --columns
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    priority_share: Option<f64>,
    /// A request that has not begun to run so long after its arrival is given up, such as 10s
    #[arg(long, value_name = "TIME", value_parser = span)]
    queue_timeout: Option<Duration>,
    /// A request that is not done so long after its arrival is given up, such as 2m
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// The SLO: a request served well has its first token by then, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = span)]
    ttft: Option<Duration>,
    /// The SLO: and so much time for each further token at most, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = span)]
    tpot: Option<Duration>,
    /// What a GPU costs by the hour, such as 2.69; with several GPUs one price for each, in their order
    #[arg(long, value_name = "USD", value_delimiter = ',', value_parser = gpu_hour)]
    gpu_hour: Vec<EstimatedUsd>,
    /// Also why: what memory, batches, context and idle time make of a token's cost here
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// Why so much: replies that come to nothing and are asked for again, such as 1%
    #[arg(long, value_name = "SHARE", requires = "why", value_parser = failing)]
    failures: Option<f64>,
    /// Why so much: capacity above what this load needs, for bursts [default: 20%, as in a plan]
    #[arg(long, value_name = "SHARE", requires = "why", value_parser = share)]
    headroom: Option<f64>,
    /// Why so much: replicas that stand by for those that fail [default: 1, as in a plan]
    #[arg(long, value_name = "COUNT", requires = "why")]
    spare: Option<u32>,
    /// Why so much: what monitoring, hands and second sites cost, of what GPUs do
    #[arg(long, value_name = "SHARE", requires = "why", value_parser = share)]
    reliability: Option<f64>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also as one page with plots: latency against load, batches through time, cost against utilisation
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A number above 0 with its text.
#[derive(Debug, Clone)]
struct Positive {
    text: String,
    value: f64,
}

fn positive(text: &str) -> Result<Positive, String> {
    let value = decimal(text).filter(|value| (1e-6..=1e6).contains(value));
    let value = value.ok_or("expected a number from 0.000001 to 1000000, such as 2.5")?;
    Ok(Positive { text: text.to_owned(), value })
}

/// Copies that compute prompts, and copies that decode.
fn pools(text: &str) -> Result<[u32; 2], String> {
    let some = |text: &str| text.parse::<u32>().ok().filter(|some| (1..=10_000).contains(some));
    let both = text.split_once('+').and_then(|(left, right)| Some([some(left)?, some(right)?]));
    both.ok_or_else(|| "expected copies for prompts and copies that decode, such as 2+6".to_owned())
}

/// Copies at least and at most.
fn least_and_most(text: &str) -> Result<(u32, u32), String> {
    let some = |text: &str| text.parse::<u32>().ok().filter(|some| (1..=10_000).contains(some));
    let both = text.split_once("..").and_then(|(left, right)| Some((some(left)?, some(right)?)));
    let both = both.filter(|(least, most)| least <= most);
    both.ok_or_else(|| "expected copies at least and at most, such as 1..8".to_owned())
}

/// A share of all, neither none nor all.
fn percentage(text: &str) -> Result<f64, String> {
    let share =
        text.strip_suffix('%').and_then(decimal).filter(|percent| (0.1..=99.9).contains(percent));
    share
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a share from 0.1% to 99.9%, such as 20%".to_owned())
}

/// A plain decimal number: no sign, no exponent, nothing that is not finite.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if digits { text.parse().ok() } else { None }
}

/// A share such as `20%`.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(decimal);
    let share = percent.filter(|percent| (0.0..=1_000.0).contains(percent));
    share
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("expected a share such as `20%`, found `{text}`"))
}

fn failing(text: &str) -> Result<f64, String> {
    let some = share(text)?;
    let below = || format!("expected at most `99%`, found `{text}`");
    if some <= 0.99 { Ok(some) } else { Err(below()) }
}

/// Who must keep the SLO at a rate that is searched.
#[derive(Debug, Clone, Copy)]
struct KeptBy {
    share: f64,
    keeper: Keeper,
}

fn kept_by(text: &str) -> Result<KeptBy, String> {
    let percent = text.strip_prefix('p').map(|percent| (Keeper::EachLimit, percent));
    let percent = percent.or_else(|| Some((Keeper::Request, text.strip_suffix('%')?)));
    let share = percent.and_then(|(keeper, percent)| {
        let share = decimal(percent).filter(|percent| (1.0..=100.0).contains(percent))? / 100.0;
        Some(KeptBy { share, keeper })
    });
    share.ok_or_else(|| "expected a percentile such as `p99`, or a share such as `95%`".to_owned())
}

pub(crate) fn some(text: &str) -> Result<u32, String> {
    match count(text)? {
        0 => Err("expected at least 1".to_owned()),
        some => Ok(some),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    crate::config::duration("time", text).map_err(|error| error.to_string())
}

/// Which replica gets a request.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Router {
    RoundRobin,
    LeastLoaded,
    PrefixAware,
}

impl Router {
    const fn balance(self) -> Balance {
        match self {
            Self::RoundRobin => Balance::RoundRobin,
            Self::LeastLoaded => Balance::LeastLoaded,
            Self::PrefixAware => Balance::PrefixAware { slack: 8 },
        }
    }
}

/// An hour's price as it is quoted: read by the rules of money, and from there on modelled.
fn gpu_hour(text: &str) -> Result<EstimatedUsd, String> {
    let quoted = text.parse::<Money>().ok().filter(|price| *price > Money::ZERO);
    let usd = quoted.and_then(|_| decimal(text)).and_then(EstimatedUsd::new);
    usd.ok_or_else(|| "expected US dollars above 0, such as 2.69".to_owned())
}

/// One of the setups that are compared.
struct Setting {
    replica: Replica,
    steps: Steps,
    gpu_hour: Option<EstimatedUsd>,
    copies: Copies,
    search: Option<Search>,
    served: Served,
    /// Requests whose replies are ended early.
    shortened: u64,
}

impl Setting {
    fn job<'a>(&'a self, arguments: &Arguments, slo: &'a Slo, traffic: &'a Traffic) -> Job<'a> {
        let Self { replica, steps, copies, .. } = self;
        let (copies, balance) = (*copies, arguments.router.balance());
        let gpus_of_replica = replica.setup.layout.accelerators();
        Job { engine: &replica.engine, steps, copies, gpus_of_replica, balance, slo, traffic }
    }

    fn shown<'a>(
        &'a self,
        arguments: &Arguments,
        source: &'a Source,
        slo: &'a Slo,
    ) -> Simulation<'a> {
        let Self { replica, search, served, gpu_hour, shortened, .. } = self;
        let Served { run, fleet, classes } = served;
        let Replica { setup, memory, engine } = replica;
        let search = search.as_ref();
        let (gpu_hour, classes) = (*gpu_hour, classes.as_ref());
        let usual = Beside::default();
        let beside = Beside {
            failures: arguments.failures.unwrap_or(usual.failures),
            headroom: arguments.headroom.unwrap_or(usual.headroom),
            spare: arguments.spare.unwrap_or(usual.spare),
            reliability: arguments.reliability.unwrap_or(usual.reliability),
        };
        Simulation {
            setup,
            memory,
            engine,
            fleet,
            source,
            slo,
            search,
            run,
            classes,
            shortened: *shortened,
            gpu_hour,
            beside,
        }
    }
}

/// How often it is seen how many replicas are needed: Kubernetes' horizontal autoscaler does so every 15 s.
const LOOK_PS: u64 = 15 * SECOND_PS;
/// For how long there must be too many before any is stopped: 5 minutes there.
const HOLD_PS: u64 = 300 * SECOND_PS;
/// The part of what a replica can run that an autoscaler should aim at: 70 % are Knative's default
/// (container-concurrency-target-percentage).
const TARGET: f64 = 0.7;

/// When replicas are started and stopped.
fn scaling(
    arguments: &Arguments,
    replica: &Replica,
    traffic: &Traffic,
    (least, most): (u32, u32),
) -> anyhow::Result<Scaling> {
    let cold_start = arguments.cold_start.context("--autoscale needs --cold-start")?;
    let cold_start_ps = servesim::picoseconds(cold_start).context("--cold-start is too long")?;
    let target_load = match arguments.target_load {
        Some(load) => load,
        None => {
            let (isl, osl) = traffic.shape()?.mean_lengths();
            let concurrency = replica.engine.max_num_seqs;
            let tpot_s = arguments.tpot.map_or(f64::INFINITY, |tpot| tpot.as_secs_f64());
            let steady =
                replica.setup.steady_within(ClosedLoop { isl, osl, concurrency }, tpot_s)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "as many as an engine runs"
            )]
            let target = (f64::from(steady.running) * TARGET).round() as u32;
            target.max(1)
        }
    };
    Ok(Scaling { least, most, target_load, every_ps: LOOK_PS, cold_start_ps, hold_ps: HOLD_PS })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let slo = Slo {
        ttft_ps: arguments.ttft.and_then(servesim::picoseconds),
        tpot_ps: arguments.tpot.and_then(servesim::picoseconds),
        latency_ps: None,
    };
    let traffic = Traffic::of(&arguments.asked, arguments.find_rate.is_some())?;
    let traffic = traffic.ranked(arguments.priority_share, arguments.asked.seed)?;
    let names_blocks = traffic.names_blocks()?;
    let gpus: Vec<&str> = arguments.serving.gpus().collect();
    let hours = &arguments.gpu_hour;
    if hours.len() > 1 && hours.len() != gpus.len() {
        bail!(
            "--gpu-hour has {} prices for {} GPUs: expected one for all, or one for each",
            hours.len(),
            gpus.len()
        );
    }
    let one = |(index, gpu): (usize, &&str)| {
        let mut replica = arguments.serving.replica_on(gpu)?;
        replica.engine.enable_prefix_caching = names_blocks;
        replica.engine.queue_timeout_ps = arguments.queue_timeout.and_then(servesim::picoseconds);
        replica.engine.priority_classes = traffic.classes().unwrap_or(1);
        replica.engine.timeout_ps = arguments.timeout.and_then(servesim::picoseconds);
        let gpu_hour = hours.get(index).or(hours.first()).copied();
        let steps = replica.setup.compile();
        let copies = match (arguments.pools, arguments.autoscale) {
            (None, None) => Copies::Alike(arguments.replicas),
            (None, Some(range)) => Copies::Scaled(scaling(arguments, &replica, &traffic, range)?),
            (Some(replicas), _) => {
                let bytes_per_s = arguments.pool_link.as_ref().map(|link| link.value * 1e9);
                let link = Link::of(&replica.setup, bytes_per_s)
                    .context("--pools needs a link, which --pool-link may tell instead")?;
                Copies::Pools(replicas, link)
            }
        };
        let served = Served { run: Report::default(), fleet: Fleet::Copies(0), classes: None };
        let shortened = match gpus.len() {
            1 => traffic.shortened(replica.engine.max_model_len)?,
            // A ranking does not tell it.
            _ => 0,
        };
        let search = None;
        let mut setting = Setting { replica, steps, gpu_hour, copies, search, served, shortened };
        let goal = arguments.find_rate.map(|KeptBy { share, keeper }| Goal { slo, share, keeper });
        let job = setting.job(arguments, &slo, &traffic);
        let (search, served) = match goal {
            Some(goal) => {
                let (guess, found, served) = job.highest_rate(&goal, &setting.replica.setup)?;
                (Some(Search { goal, guess, found }), served)
            }
            None => (None, job.run(1.0)?),
        };
        (setting.search, setting.served) = (search, served);
        anyhow::Ok(setting)
    };
    let settings: Vec<_> = gpus.iter().enumerate().map(one).collect();
    let source = traffic.source()?;
    let shown = |setting| Setting::shown(setting, arguments, &source, &slo);
    let style = output::style();
    if settings.len() > 1 {
        if arguments.html.is_some() || arguments.explain {
            bail!("--html and --explain are of one GPU, found {}", settings.len());
        }
        let (mut simulations, mut failed) = (Vec::new(), Vec::new());
        for (gpu, setting) in gpus.iter().zip(&settings) {
            match setting {
                Ok(setting) => simulations.push(shown(setting)),
                Err(error) => failed.push(format!("{gpu}: {error:#}")),
            }
        }
        let ranking = report::simulation::Ranking::new(simulations, failed);
        return output::print(&if arguments.json { ranking.json() } else { ranking.text(style) });
    }
    let setting = settings.into_iter().next().context("--gpu names a GPU")??;
    let simulation = shown(&setting);
    if let Some(file) = &arguments.html {
        let job = setting.job(arguments, &slo, &traffic);
        let rate = setting.search.as_ref().and_then(|search| search.found.best());
        let faster = match rate {
            Some(trial) => trial.rate / traffic.shape()?.per_second,
            None => 1.0,
        };
        let (_, timeline) = job.watch(faster, true)?;
        let sweep = job.sweep(&setting.replica.setup)?;
        let page = simulation.html(&Charts { sweep: &sweep, timeline: &timeline });
        let cannot = || format!("cannot write {}", file.display());
        std::fs::write(file, page).with_context(cannot)?;
        eprintln!("farthing: wrote {}", file.display());
    }
    if arguments.json {
        return output::print(&simulation.json());
    }
    let why = if arguments.explain { simulation.lessons(style) } else { String::new() };
    output::print(&(simulation.text(style) + &why))
}

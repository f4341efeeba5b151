//! `farthing simulate`: a workload on a serving setup, and what a token costs there.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ArgGroup;
use quantity::{EstimatedUsd, Money};
use report::simulation::{Offered, Simulation, UsefulTokens};
use roofline::Steps;
use servesim::{Balance, Engine, Report, Request, Slo};

use crate::estimate::count;
use crate::output;

mod offered;
mod setup;

use offered::Traffic;
pub(crate) use setup::{Replica, Serving};

/// A workload on a model, an accelerator and an engine: throughput, latency and cost per token, predicted
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("workload").required(true).args(["trace", "rate"]))]
pub(crate) struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// Copies of all that; each request goes to the next in turn
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    replicas: u32,
    /// Requests that came once: a CSV `TIMESTAMP,ContextTokens,GeneratedTokens`, as of Azure's traces
    #[arg(long, value_name = "FILE", conflicts_with = "rate")]
    trace: Option<PathBuf>,
    /// How many times as fast the trace is played
    #[arg(long, value_name = "FACTOR", default_value = "1", conflicts_with = "rate", value_parser = positive)]
    scale: Positive,
    /// Requests a second, arriving at random (Poisson)
    #[arg(long, value_name = "PER_SECOND", requires = "input", requires = "output", value_parser = positive)]
    rate: Option<Positive>,
    /// Input tokens of each: 2000, 2,000 or 2k
    #[arg(long = "in", id = "input", value_name = "TOKENS", conflicts_with = "trace", value_parser = some)]
    input: Option<u32>,
    /// Output tokens of each
    #[arg(long = "out", id = "output", value_name = "TOKENS", conflicts_with = "trace", value_parser = some)]
    output: Option<u32>,
    /// Requests [default: all of the trace, or 10,000]
    #[arg(long, value_name = "COUNT", value_parser = some)]
    requests: Option<u32>,
    /// Names the random arrivals
    #[arg(long, default_value_t = 1, conflicts_with = "trace")]
    seed: u64,
    /// The SLO: a request served well has its first token by then, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = span)]
    ttft: Option<Duration>,
    /// The SLO: and so much time for each further token at most, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = span)]
    tpot: Option<Duration>,
    /// What a GPU costs by the hour, such as 2.69
    #[arg(long, value_name = "USD", value_parser = gpu_hour)]
    gpu_hour: Option<EstimatedUsd>,
    /// Also why: what memory, batches, context and idle time make of a token's cost here
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
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

/// A plain decimal number: no sign, no exponent, nothing that is not finite.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if digits { text.parse().ok() } else { None }
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

/// An hour's price as it is quoted: read by the rules of money, and from there on modelled.
fn gpu_hour(text: &str) -> Result<EstimatedUsd, String> {
    let quoted = text.parse::<Money>().ok().filter(|price| *price > Money::ZERO);
    let usd = quoted.and_then(|_| decimal(text)).and_then(EstimatedUsd::new);
    usd.ok_or_else(|| "expected US dollars above 0, such as 2.69".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Replica { setup, memory, engine } = arguments.serving.replica()?;
    let slo = Slo {
        ttft_ps: arguments.ttft.and_then(servesim::picoseconds),
        tpot_ps: arguments.tpot.and_then(servesim::picoseconds),
        latency_ps: None,
    };
    let traffic = Traffic::of(arguments)?;
    let job = Job { engine: &engine, steps: &setup.compile(), slo: &slo, traffic: &traffic };
    let served = job.all(arguments.replicas)?;
    let offered = Offered {
        source: traffic.source(),
        requests: served.tally.requests,
        last_arrival_ps: served.tally.last_arrival_ps,
    };
    let simulation = Simulation {
        setup: &setup,
        memory: &memory,
        engine: &engine,
        replicas: arguments.replicas,
        offered: &offered,
        slo: &slo,
        run: &served.report,
        useful: served.tally.useful,
        gpu_hour: arguments.gpu_hour,
    };
    if arguments.json {
        return output::print(&simulation.json());
    }
    let style = output::style();
    let why = if arguments.explain { simulation.lessons(style) } else { String::new() };
    output::print(&(simulation.text(style) + &why))
}

/// What every replica is.
#[derive(Clone, Copy)]
struct Job<'a> {
    engine: &'a Engine,
    steps: &'a Steps,
    slo: &'a Slo,
    traffic: &'a Traffic,
}

/// What became of requests.
struct Served {
    report: Report,
    tally: Tally,
}

/// What is counted of them beside the reports.
#[derive(Default)]
struct Tally {
    requests: u64,
    last_arrival_ps: u64,
    useful: UsefulTokens,
}

impl Job<'_> {
    /// Serves all requests by so many replicas in turn. Each is paid for until the last one has ended.
    fn all(self, replicas: u32) -> anyhow::Result<Served> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let each = replicas.div_ceil(u32::try_from(threads)?);
        let parts = std::thread::scope(|scope| {
            let some = (0..replicas).step_by(each as usize);
            let some = some.map(|from| from..replicas.min(from.saturating_add(each)));
            let run = |some| scope.spawn(move || self.some(&some, replicas));
            let handles: Vec<_> = some.map(run).collect();
            let ended = handles.into_iter().map(|handle| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<anyhow::Result<Vec<_>>>()
        })?;
        let ends = parts.iter().flat_map(|(reports, _)| reports);
        let span = ends.map(|report| report.time.total_ps()).max().unwrap_or(0);
        span.checked_mul(u64::from(replicas))
            .context("all replicas together would run for more than 213 days of simulated time")?;
        let mut tally = Tally::default();
        parts.iter().for_each(|(_, part)| tally.add(part));
        let paid_to_the_end =
            parts.into_iter().flat_map(|(reports, _)| reports).map(|mut report| {
                report.time.idle_ps += span - report.time.total_ps();
                report
            });
        let report = paid_to_the_end.reduce(|mut all, report| {
            all.merge(&report);
            all
        });
        let served = report.map(|report| Served { report, tally });
        served
            .filter(|served| served.tally.requests > 0)
            .with_context(|| format!("no requests in {}", self.traffic))
    }

    /// Serves the requests of some replicas that follow each other. What they get in turn of all is what
    /// they get in turn of theirs, so that the workload is gone through once a thread.
    fn some(self, numbers: &Range<u32>, of: u32) -> anyhow::Result<(Vec<Report>, Tally)> {
        let mut tally = Tally::default();
        let mut failed = None;
        let all = self.traffic.requests()?.zip((0..of).cycle());
        let own = all.filter(|(_, turn)| numbers.contains(turn)).map(|(request, _)| request);
        let own = own.map_while(|request| request.map_err(|error| failed = Some(error)).ok());
        let Tally { requests, last_arrival_ps, useful } = &mut tally;
        let own = own.inspect(|request: &Request| {
            *requests += 1;
            *last_arrival_ps = request.arrival_ps;
        });
        let Self { engine, steps, slo, .. } = self;
        let replicas = numbers.end - numbers.start;
        let balance = Balance::RoundRobin;
        let reports =
            servesim::serve_fleet(engine, steps, replicas, balance, slo, own, |_, record| {
                if slo.is_kept_by(record) {
                    useful.input += u64::from(record.prompt);
                    useful.output += u64::from(record.generated);
                }
            });
        match failed {
            Some(error) => Err(error),
            None => Ok((reports?, tally)),
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.last_arrival_ps = self.last_arrival_ps.max(other.last_arrival_ps);
        self.useful.input += other.useful.input;
        self.useful.output += other.useful.output;
    }
}

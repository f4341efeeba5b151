//! Which requests are to be simulated, as it is asked for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::ArgGroup;
use workload::{Columns, Day};

use super::{Positive, decimal, positive, some, span};
use crate::Place;
use crate::bill::When;

/// Where requests are from.
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("workload").required(true).args(["trace", "from_ledger", "input"]))]
#[command(group = ArgGroup::new("recorded").args(["trace", "from_ledger"]))]
#[command(group = ArgGroup::new("alike").args(["trace", "from_ledger", "sessions"]))]
pub(super) struct Asked {
    /// Requests that came once: a trace of Azure's, BurstGPT's, Mooncake's or Bailian's format, found by its first line,
    /// or any CSV with --columns; Mooncake's and Bailian's tell what prompts have in common and are served with prefix
    /// caching. Or ServeGen's tables of clients, a folder or the `chunk-0-trace.csv` of one, which say how often and how
    /// much each client asks: requests are drawn from them
    #[arg(long, value_name = "FILE", conflicts_with = "rate")]
    pub(super) trace: Option<PathBuf>,
    /// What the gateway metered: each exchange of the ledger is a request, and its messages tell what prompts have in
    /// common
    #[arg(long, conflicts_with_all = ["rate", "cv", "seed"])]
    pub(super) from_ledger: bool,
    /// Only exchanges of this route
    #[arg(long, value_name = "ROUTE", requires = "from_ledger")]
    pub(super) route: Option<String>,
    /// Only exchanges from this time on: 2026-11-22, 2026-11-22T14:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", requires = "from_ledger")]
    pub(super) since: Option<When>,
    /// Which columns of a CSV hold what: `time=arrived,in=prompt_tokens,out=reply_tokens`, perhaps `unit=ms`, and
    /// `priority=urgency`, whole numbers of which the lowest is served first, as vLLM does with its scheduling policy
    /// `priority`
    #[arg(long, value_name = "MAPPING", requires = "trace", value_parser = columns)]
    pub(super) columns: Option<Columns>,
    /// Only what came so long after the trace's first request, such as 10m
    #[arg(long, value_name = "TIME", requires = "trace", value_parser = span)]
    pub(super) from: Option<Duration>,
    /// And before that; of the ledger a time as --since
    #[arg(long, value_name = "TIME", requires = "recorded")]
    pub(super) until: Option<Until>,
    /// Prompts that begin alike share nothing, although it is told what they have in common
    #[arg(long, requires = "alike")]
    pub(super) no_prefix_caching: bool,
    /// How many times as fast trace or ledger are played
    #[arg(long, value_name = "FACTOR", default_value = "1", conflicts_with = "rate", value_parser = positive)]
    pub(super) scale: Positive,
    /// Requests a second, arriving at random (Poisson)
    #[arg(long, value_name = "PER_SECOND", requires = "input", value_parser = positive)]
    pub(super) rate: Option<Positive>,
    /// Input tokens of each: 2000, 2,000 or 2k; with --sessions those of a message
    #[arg(long = "in", id = "input", value_name = "TOKENS", conflicts_with = "trace", requires = "output", value_parser = some)]
    pub(super) input: Option<u32>,
    /// Output tokens of each
    #[arg(long = "out", id = "output", value_name = "TOKENS", requires = "input", value_parser = some)]
    pub(super) output: Option<u32>,
    /// Requests [default: all of the trace, 10,000, or a day of them with --diurnal]
    #[arg(long, value_name = "COUNT", value_parser = some)]
    pub(super) requests: Option<u32>,
    /// How much the gaps between random arrivals vary, as a coefficient of variation; more than 1 is burstier than Poisson
    #[arg(long, value_name = "CV", conflicts_with = "trace", value_parser = coefficient)]
    pub(super) cv: Option<Positive>,
    /// The rate follows the day: so many times as high at its peak as twelve hours from it, perhaps with the hour of the
    /// peak: 4@14. --rate is the mean; the first request comes at midnight
    #[arg(long, value_name = "RATIO[@HOUR]", requires = "input", default_missing_value = "4@14")]
    pub(super) diurnal: Option<Diurnal>,
    /// Requests are turns of conversations: so many each, and the mean time from one to the next, such as 5,45s. A prompt
    /// is all that was said before, and a message; what it begins with is in the prefix cache
    #[arg(long, value_name = "TURNS,TIME", requires = "input")]
    pub(super) sessions: Option<Turns>,
    /// Names what is drawn at random [default: 1]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) place: Place,
}

fn columns(text: &str) -> Result<Columns, String> {
    text.parse()
}

fn coefficient(text: &str) -> Result<Positive, String> {
    let within = positive(text).ok().filter(|cv| (0.05..=20.0).contains(&cv.value));
    within.ok_or_else(|| "expected a number from 0.05 to 20, such as 2.5".to_owned())
}

/// The end of what is played: so long after a trace's first request, or an instant of the ledger's.
#[derive(Debug, Clone)]
pub(super) struct Until(String);

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text).map(|_| ()).or_else(|_| text.parse::<When>().map(|_| ()))?;
        Ok(Self(text.to_owned()))
    }
}

impl Until {
    pub(super) fn span(&self) -> anyhow::Result<Duration> {
        span(&self.0).map_err(|error| anyhow!("--until: {error}"))
    }

    pub(super) fn when(&self) -> anyhow::Result<When> {
        self.0.parse().map_err(|error| anyhow!("--until: {error}"))
    }
}

/// How the rate follows the day, as texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Diurnal {
    pub(super) peak_to_floor: String,
    pub(super) peak_hour: String,
    pub(super) day: Day,
}

impl std::str::FromStr for Diurnal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ratio, hour) = text.split_once('@').unwrap_or((text, "14"));
        let value = |text: &str, least: f64, most: f64| {
            decimal(text).filter(|value| (least..=most).contains(value))
        };
        let (Some(peak_to_floor), Some(peak_hour)) =
            (value(ratio, 1.0, 1e4), value(hour, 0.0, 24.0))
        else {
            return Err(
                "expected peak to floor, from 1 to 10000, perhaps with the hour of the peak: 4@14"
                    .to_owned(),
            );
        };
        let day = Day::new(peak_to_floor, peak_hour);
        Ok(Self { peak_to_floor: ratio.to_owned(), peak_hour: hour.to_owned(), day })
    }
}

/// The turns of a session, and the mean time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turns {
    pub(super) turns: u32,
    pub(super) between: Duration,
}

impl std::str::FromStr for Turns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(',').and_then(|(turns, between)| {
            let turns = some(turns).ok().filter(|turns| *turns <= 1_000)?;
            Some(Self { turns, between: span(between.trim()).ok()? })
        });
        parts.ok_or_else(|| {
            "expected at most 1,000 turns and a time between them, such as 5,45s".to_owned()
        })
    }
}

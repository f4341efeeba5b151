//! `farthing price import`, `check` and `schedule`: price lists of others beside our book.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use quantity::{Day, UnixTime, grouped};
use report::price::{Disagreement, Scheduled};
use tariff::import::{Head, ImportError, Imported, genai, litellm, models_dev, openrouter};
use tariff::{Book, Sheet};

use crate::bill::book_line;
use crate::config::{self, Config};
use crate::data::DataDir;
use crate::price_cmd::diff::Told;
use crate::price_cmd::traffic::{Traffic, weigh_scheduled};
use crate::{Place, output};

/// The name of the built-in book.
const BUILTIN: &str = "builtin";

/// Whose list it is.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
pub(super) enum Source {
    /// `prices.json` of genai-prices
    Genai,
    /// LiteLLM's `model_prices_and_context_window.json`
    Litellm,
    /// `api.json` of models.dev
    ModelsDev,
    /// The answer of OpenRouter's `/api/v1/models`
    Openrouter,
}

/// Take over a price list of others, whole or not at all
///
/// The list becomes a price book in the data directory. `price_books = ["NAME"]` in the configuration
/// lays it over the built-in book; `farthing price check NAME` only compares the two.
#[derive(clap::Args, Debug)]
pub(super) struct Import {
    /// Whose list it is
    #[arg(long = "from", value_name = "SOURCE")]
    source: Source,
    /// The list; `-` for stdin
    file: PathBuf,
    /// The name of the book [default: that of its source]
    #[arg(long)]
    name: Option<String>,
    /// The day of the list, from which its prices count as known [default: today]
    #[arg(long, value_name = "DATE")]
    as_of: Option<Day>,
    #[command(flatten)]
    place: Place,
}

/// Where price books disagree
#[derive(clap::Args, Debug)]
pub(super) struct Check {
    /// The other book: a name that was imported, or a file in a book's form
    book: String,
    /// Models of this provider alone
    #[arg(long)]
    provider: Option<String>,
    /// At this time [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<UnixTime>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Prices that are known to change, and what that does to your traffic
///
/// Each change is weighed with the ledger, where there is one: every attempt of the last 30 days, or of
/// another period, is priced before and after it.
#[derive(clap::Args, Debug)]
pub(super) struct Schedule {
    /// So many days ahead
    #[arg(long, value_name = "DAYS", default_value_t = 366)]
    days: u32,
    #[command(flatten)]
    traffic: Traffic,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn import(arguments: &Import) -> anyhow::Result<()> {
    let mut config = Config::load_to_import(&arguments.place)?;
    // What was in force, if all of it is there.
    let before = config.book_below(None).ok();
    let file = arguments.file.display().to_string();
    let text = read(&arguments.file)?;
    let usual = match arguments.source {
        Source::Genai => "genai-prices",
        Source::Litellm => "litellm",
        Source::ModelsDev => "models.dev",
        Source::Openrouter => "openrouter",
    };
    let name = arguments.name.as_deref().unwrap_or(usual);
    config::check_book_name(name)?;
    let as_of = arguments.as_of.unwrap_or_else(|| gateway::Clock::system().now().day());
    let head = Head { name, as_of };
    let imported = arguments.source.import(&text, head);
    let imported = imported.with_context(|| format!("`{file}`, nothing is taken over"))?;
    // What is written is what will be read.
    let book = Book::parse(&imported.text)
        .map_err(|error| anyhow!("`{file}`, as a book: {error}; nothing is taken over"))?;
    // `serve` refuses one that others can look into.
    if !config.data_dir.exists() {
        DataDir::create(&config.data_dir)?;
    }
    let path = config::book_path(&config.data_dir, name);
    write_whole(&path, &imported.text)?;
    let info = book.info();
    let mut told = format!(
        "{}: {} models, {} rows, as of {}, in {}\n",
        info.name,
        grouped(imported.models as u64),
        grouped(info.rows as u64),
        info.as_of,
        path.display()
    );
    for (what, count) in &imported.left_out {
        told.push_str(&format!("left out: {} {what}\n", grouped(*count as u64)));
    }
    output::print(&told)?;
    if !config.names_book(name) {
        return output::print(&format!(
            "not in force: `farthing price diff {name}` tells what it would change, \
             `price_books = [\"{name}\"]` lays it over the built-in book\n"
        ));
    }
    config = config.with_books()?;
    let Some(before) = before else { return Ok(()) };
    let now = gateway::Clock::system().now();
    let (before, after) = (Sheet { book: &before, at: now }, Sheet { book: &config.book, at: now });
    let traffic = Traffic::USUAL.of(&config, now)?;
    let told = Told { before, after, traffic: traffic.as_ref(), all: false, json: false };
    output::print("\n").and_then(|()| told.print().map(|_| ()))
}

impl Source {
    /// Reads its list.
    fn import(self, text: &str, head: Head<'_>) -> Result<Imported, ImportError> {
        match self {
            Self::Genai => genai::import(text, head),
            Self::Litellm => litellm(text, head),
            Self::ModelsDev => models_dev(text, head),
            Self::Openrouter => openrouter(text, head),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// A book that is named: `builtin`, one that was imported, or a file: in a book's form, or a list of
/// some source.
pub(super) fn named_book(
    config: &Config,
    name: &str,
    format: Option<Source>,
) -> anyhow::Result<Book> {
    let path = config::book_path(&config.data_dir, name);
    let file = PathBuf::from(name);
    match format {
        _ if name == BUILTIN => Ok(Book::builtin()),
        _ if config::check_book_name(name).is_ok() && path.exists() => config::read_book(&path),
        _ if !file.exists() => {
            bail!("expected the name of an imported book, a file or `{BUILTIN}`, found `{name}`")
        }
        None => config::read_book(&file)
            .with_context(|| format!("`{name}` is no book; --format tells whose list it is")),
        Some(source) => {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let named = if config::check_book_name(stem).is_ok() { stem } else { "list" };
            let head = Head { name: named, as_of: gateway::Clock::system().now().day() };
            let imported = source.import(&read(&file)?, head);
            let imported = imported.with_context(|| format!("`{name}`"))?;
            Book::parse(&imported.text).map_err(|error| anyhow!("`{name}`, as a book: {error}"))
        }
    }
}

/// Writes a file that is there whole or as it was.
fn write_whole(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("a book has a folder")?;
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    written().with_context(|| format!("cannot write `{}`", path.display()))
}

pub(super) fn check(arguments: &Check) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let other = named_book(&config, &arguments.book, None)?;
    let now = gateway::Clock::system().now();
    let mut comparison = config.book.compare(&other, arguments.at.unwrap_or(now));
    if let Some(provider) = &arguments.provider {
        comparison.differ.retain(|one| one.ours.provider().eq_ignore_ascii_case(provider));
        let prefix = format!("{provider}/");
        comparison.only_theirs.retain(|name| name.starts_with(&prefix));
    }
    let (ours, theirs) = (book_line(&config.book), book_line(&other));
    let report = Disagreement { comparison: &comparison, ours: &ours, theirs: &theirs };
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

pub(super) fn schedule(arguments: &Schedule) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let now = gateway::Clock::system().now();
    let until = now.plus(Duration::from_secs(86_400 * u64::from(arguments.days)));
    let changes = config.book.changes(now, until);
    let book = book_line(&config.book);
    let traffic = arguments.traffic.of(&config, now)?;
    let weighed = traffic
        .filter(|_| !changes.is_empty())
        .map(|(data, period)| weigh_scheduled(&data, period, &config.book, now, until));
    let weighed = weighed.transpose()?;
    let report =
        Scheduled { changes: &changes, book: &book, now, until, weighed: weighed.as_ref() };
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

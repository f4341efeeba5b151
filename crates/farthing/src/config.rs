//! The configuration: read as it is written, then checked and turned into settings.

mod contracts;
mod line;
mod prices;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use gateway::{
    Limits, ModelTarget, OnFailure, Retry, RouteSettings, Settings, Unmetered, Upstream,
};
use metering::Convention;
use quantity::Money;
use serde::Deserialize;
use simulated::Constant;
use tariff::Book;

use crate::Place;
use crate::secrets::Secrets;
use contracts::{RawContract, RawCredit};
pub(crate) use prices::Prices;
use prices::{RawExchange, RawPrice, RawPrices};

/// Where the gateway listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:8787";
/// The file that is read without being named.
const FILE: &str = "farthing.toml";
/// How long a client may take nothing of a reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest request body: a prompt of a million tokens has about 4 MB, images more.
const MAX_BODY: usize = 64 << 20;
/// How long an exchange may wait for the ledger: no sound disk takes that long.
pub(crate) const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long before a price changes `serve` says so: time to move elsewhere.
const PRICE_ALARM: Duration = Duration::from_secs(30 * 86_400);

/// The configuration as it is written.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    listen: Option<String>,
    data_dir: Option<PathBuf>,
    access_key_env: Option<String>,
    client_timeout: Option<String>,
    access_key_file: Option<PathBuf>,
    admin_key_env: Option<String>,
    admin_key_file: Option<PathBuf>,
    allowed_hosts: Vec<String>,
    upstreams: toml::map::Map<String, toml::Value>,
    models: BTreeMap<String, RawModel>,
    routes: BTreeMap<String, RawRoute>,
    route_names: BTreeMap<String, String>,
    unmetered: Vec<RawUnmetered>,
    retry: RawRetry,
    retention: Option<String>,
    on_ledger_failure: Option<String>,
    ledger_timeout: Option<String>,
    prices: Vec<RawPrice>,
    exchange: Vec<RawExchange>,
    contracts: Vec<RawContract>,
    credits: Vec<RawCredit>,
    price_books: Vec<String>,
    price_alarm: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct RawUpstream {
    kind: String,
    base_url: Option<String>,
    api_key_env: Option<String>,
    api_key_file: Option<PathBuf>,
    provider: Option<String>,
    region: Option<String>,
    hourly_cost: Option<String>,
    connect_timeout: Option<String>,
    first_byte_timeout: Option<String>,
    idle_timeout: Option<String>,
    total_timeout: Option<String>,
    max_concurrent: Option<usize>,
    queue_timeout: Option<String>,
    ttft: Option<String>,
    tpot: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct RawModel {
    upstream: String,
    model: Option<String>,
    #[serde(default)]
    fallback: Vec<RawTarget>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    upstream: String,
    model: Option<String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
struct RawRetry {
    attempts: Option<u32>,
    max_wait: Option<String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
struct RawRoute {
    cost_header: bool,
    drain: bool,
    on_ledger_failure: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct RawUnmetered {
    method: String,
    path: String,
    upstream: String,
}

/// The configuration, checked. Not for printing: it holds keys.
pub struct Config {
    /// What the gateway is told.
    pub(crate) settings: Settings,
    /// Where the data are.
    pub(crate) data_dir: PathBuf,
    /// The price book, with the configuration's own rows.
    pub(crate) book: Book,
    /// How long segments of the journal are kept; for ever if it is not set.
    pub(crate) retention: Option<Duration>,
    /// How long before a price changes `serve` says so.
    pub(crate) price_alarm: Duration,
    /// What is laid over the book.
    pub(crate) prices: Prices,
    /// Upstreams that are simulated within the process, by index, and how long their tokens take;
    /// their address is not known yet.
    pub(crate) simulated: Vec<(usize, Constant)>,
    /// The file it was read from.
    pub(crate) file: Option<PathBuf>,
}

impl Config {
    /// Reads the file that is named, or the one in the working directory, or none; without secrets,
    /// which a report does not need and its reader may not have.
    pub(crate) fn load(place: &Place) -> anyhow::Result<Self> {
        Self::read(place, false)?.with_books()
    }

    /// As [`Self::load`], without price lists that were imported, which may not be there yet.
    pub(crate) fn load_to_import(place: &Place) -> anyhow::Result<Self> {
        Self::read(place, false)
    }

    /// As [`Self::load`], with secrets.
    pub(crate) fn load_to_serve(place: &Place) -> anyhow::Result<Self> {
        Self::read(place, true)?.with_books()
    }

    fn read(place: &Place, wanted: bool) -> anyhow::Result<Self> {
        let file = place.config.clone().or_else(|| {
            let file = PathBuf::from(FILE);
            file.exists().then_some(file)
        });
        let text = match &file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the configuration `{}`", file.display()))?,
            None => String::new(),
        };
        let named = file.as_deref().unwrap_or(Path::new(FILE));
        let dir = named.parent().unwrap_or(Path::new(""));
        let secrets = Secrets { env: &env, dir: Some(dir), wanted };
        let mut config =
            Self::parse_with(&text, &secrets).with_context(|| named.display().to_string())?;
        config.file.clone_from(&file);
        if let Some(data_dir) = &place.data_dir {
            config.data_dir = data_dir.clone();
        }
        Ok(config)
    }

    /// With the imported books that it names.
    pub(crate) fn with_books(mut self) -> anyhow::Result<Self> {
        if !self.prices.books.is_empty() {
            self.book = self.book_below(None)?;
        }
        Ok(self)
    }

    /// The book in force, or what it were if another lay uppermost.
    pub(crate) fn book_below(&self, other: Option<Book>) -> anyhow::Result<Book> {
        let names = self.prices.books.iter();
        let books = names.map(|name| read_book(&book_path(&self.data_dir, name)));
        let books = books.collect::<anyhow::Result<Vec<_>>>()?;
        let book = Book::builtin().under(other.into_iter().chain(books));
        let named = self.file.as_deref().unwrap_or(Path::new(FILE));
        self.prices.over(book).with_context(|| named.display().to_string())
    }

    /// Whether an imported book of this name is in force.
    pub(crate) fn names_book(&self, name: &str) -> bool {
        self.prices.books.iter().any(|named| named == name)
    }

    /// Reads a text, with the environment as a function; secrets that are in files are left out.
    ///
    /// # Errors
    /// For what is no configuration: with its line and key, what was found and what was expected.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        Self::parse_with(text, &Secrets { env, dir: None, wanted: true })
    }

    fn parse_with(text: &str, secrets: &Secrets<'_>) -> anyhow::Result<Self> {
        // It names lines itself.
        let raw: Raw = toml::from_str(text)?;
        Self::checked(raw, secrets).map_err(|error| match line::of(&error, text) {
            Some(line) => error.context(format!("line {line}")),
            None => error,
        })
    }

    fn checked(raw: Raw, secrets: &Secrets<'_>) -> anyhow::Result<Self> {
        let listen = raw.listen.as_deref().unwrap_or(LISTEN);
        let listen: SocketAddr = listen.parse().map_err(|_| {
            anyhow!("invalid `listen`: expected an address such as `{LISTEN}`, found `{listen}`")
        })?;
        let access_key = secrets.get("access_key", &raw.access_key_env, &raw.access_key_file)?;
        let admin_key = secrets.get("admin_key", &raw.admin_key_env, &raw.admin_key_file)?;
        let mut simulated = Vec::new();
        let mut upstreams = Vec::new();
        for (name, value) in raw.upstreams {
            let raw = RawUpstream::deserialize(value)
                .with_context(|| format!("invalid `upstreams.{name}`"))?;
            if raw.base_url.is_none() && raw.kind == Convention::Simulated.name() {
                let time = |field: &str, text: &Option<String>| match text {
                    Some(text) => duration(&format!("upstreams.{name}.{field}"), text),
                    None => Ok(Duration::ZERO),
                };
                let ttft = time("ttft", &raw.ttft)?;
                simulated
                    .push((upstreams.len(), Constant { ttft, tpot: time("tpot", &raw.tpot)? }));
            } else if raw.ttft.is_some() || raw.tpot.is_some() {
                bail!("`upstreams.{name}`: `ttft` and `tpot` are for kind `simulated`");
            }
            upstreams.push(upstream(&name, raw, secrets)?);
        }
        if upstreams.is_empty() {
            upstreams = default_upstreams(secrets.env);
        }
        let mut models = BTreeMap::new();
        for (name, model) in raw.models {
            let target = |field: String, wanted: &str, model: Option<String>| {
                let upstream = named(&upstreams, &field, wanted)?;
                anyhow::Ok(ModelTarget { upstream, model })
            };
            let key = format!("models.\"{name}\"");
            let mut targets =
                vec![target(format!("{key}.upstream"), &model.upstream, model.model)?];
            for (index, next) in model.fallback.into_iter().enumerate() {
                let field = format!("{key}.fallback[{index}].upstream");
                targets.push(target(field, &next.upstream, next.model)?);
            }
            models.insert(name, targets);
        }
        let unmetered = raw.unmetered.into_iter().enumerate();
        let unmetered = unmetered.map(|(index, raw)| unmetered_path(index, raw, &upstreams));
        let unmetered = unmetered.collect::<anyhow::Result<_>>()?;
        let retry = retry(&raw.retry)?;
        let client_timeout = match &raw.client_timeout {
            Some(text) => duration("client_timeout", text)?,
            None => CLIENT_TIMEOUT,
        };
        let on_ledger_failure = on_failure("on_ledger_failure", &raw.on_ledger_failure)?;
        let ledger_timeout = match &raw.ledger_timeout {
            Some(text) => duration("ledger_timeout", text)?,
            None => LEDGER_TIMEOUT,
        };
        let mut routes = BTreeMap::new();
        for (name, route) in raw.routes {
            let field = format!("routes.\"{name}\".on_ledger_failure");
            let on_ledger_failure = on_failure(&field, &route.on_ledger_failure)?;
            let RawRoute { cost_header, drain, .. } = route;
            routes.insert(name, RouteSettings { cost_header, drain, on_ledger_failure });
        }
        let book = Book::builtin();
        let own = |name: &str| {
            let mut named = upstreams.iter().filter_map(|upstream| upstream.provider.as_deref());
            named.any(|provider| provider.trim().eq_ignore_ascii_case(name))
        };
        // An imported book may have others; who they are is seen when it is read.
        let imports = !raw.price_books.is_empty();
        let known = |provider: &str| imports || book.has_provider(provider) || own(provider);
        let Raw { prices, exchange, contracts, credits, price_books, .. } = raw;
        for (index, name) in price_books.iter().enumerate() {
            check_book_name(name).with_context(|| format!("invalid `price_books[{index}]`"))?;
        }
        let raw_prices = RawPrices { prices, exchange, contracts, credits, books: price_books };
        let prices = Prices::read(raw_prices, &known)?;
        let book = if imports { book } else { prices.over(book)? };
        let settings = Settings {
            listen,
            access_key,
            admin_key,
            keys: Arc::default(),
            allowed_hosts: raw.allowed_hosts,
            upstreams,
            models,
            retry,
            on_ledger_failure: on_ledger_failure.unwrap_or_default(),
            ledger_timeout,
            routes,
            route_names: raw.route_names,
            unmetered,
            client_timeout,
            max_body: MAX_BODY,
        };
        Ok(Self {
            settings,
            data_dir: raw.data_dir.unwrap_or_else(default_data_dir),
            book,
            retention: days("retention", raw.retention.as_deref(), 1..=36_500)?,
            price_alarm: days("price_alarm", raw.price_alarm.as_deref(), 0..=366)?
                .unwrap_or(PRICE_ALARM),
            prices,
            simulated,
            file: None,
        })
    }
}

/// The upstream that a field names.
fn named(upstreams: &[Upstream], field: &str, wanted: &str) -> anyhow::Result<usize> {
    let found = upstreams.iter().position(|upstream| upstream.name == wanted);
    found.ok_or_else(|| {
        let known: Vec<_> =
            upstreams.iter().map(|upstream| format!("`{}`", upstream.name)).collect();
        anyhow!("invalid `{field}`: expected one of {}, found `{wanted}`", known.join(", "))
    })
}

fn unmetered_path(
    index: usize,
    raw: RawUnmetered,
    upstreams: &[Upstream],
) -> anyhow::Result<Unmetered> {
    let method = raw.method.parse().map_err(|_| {
        let found = &raw.method;
        anyhow!(
            "invalid `unmetered[{index}].method`: expected GET, POST or DELETE, found `{found}`"
        )
    })?;
    let upstream = named(upstreams, &format!("unmetered[{index}].upstream"), &raw.upstream)?;
    Ok(Unmetered { method, path: raw.path, upstream })
}

/// Where an imported price book is.
pub(crate) fn book_path(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("prices").join(format!("{name}.txt"))
}

/// Refuses names of price books that are no plain file names.
pub(crate) fn check_book_name(name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && !name.starts_with('.') && name.len() <= 100 && name.chars().all(plain) {
        return Ok(());
    }
    bail!("expected the name of a price book, of letters, digits, `.`, `_` and `-`, found `{name}`")
}

/// Reads a price book from its file.
pub(crate) fn read_book(path: &Path) -> anyhow::Result<Book> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read the price book `{}`: see `farthing price import`", path.display())
    })?;
    Book::parse(&text).with_context(|| format!("price book `{}`", path.display()))
}

fn upstream(name: &str, raw: RawUpstream, secrets: &Secrets<'_>) -> anyhow::Result<Upstream> {
    let key = |field: &str| format!("upstreams.{name}.{field}");
    let convention = Convention::from_name(&raw.kind).ok_or_else(|| {
        let known: Vec<_> = Convention::ALL.iter().map(|kind| format!("`{kind}`")).collect();
        let (field, kind) = (key("kind"), &raw.kind);
        anyhow!("invalid `{field}`: expected one of {}, found `{kind}`", known.join(", "))
    })?;
    let base_url = match (raw.base_url.as_deref(), default_url(convention)) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(url)) => url.to_owned(),
        (None, None) => bail!("`{}` is missing: expected the URL of its API", key("base_url")),
    };
    let parsed: Option<hyper::Uri> = base_url.parse().ok();
    let fits = |url: &hyper::Uri| {
        let scheme = matches!(url.scheme_str(), Some("http" | "https"));
        let plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        scheme && plain && url.query().is_none()
    };
    let base_url = parsed.filter(fits).ok_or_else(|| {
        let field = key("base_url");
        anyhow!(
            "invalid `{field}`: expected a URL such as `http://127.0.0.1:8000/v1`, found `{base_url}`"
        )
    })?;
    let hourly_cost = match &raw.hourly_cost {
        None => None,
        Some(text) => {
            let cost: Option<Money> = text.parse().ok().filter(|cost| *cost >= Money::ZERO);
            Some(cost.ok_or_else(|| {
                let field = key("hourly_cost");
                anyhow!("invalid `{field}`: expected US dollars such as \"2.50\", found `{text}`")
            })?)
        }
    };
    let limits = limits(&raw, &key)?;
    let plain = |region: &str| !region.contains(|c: char| c.is_whitespace() || c.is_control());
    if let Some(region) = raw.region.as_deref().filter(|name| name.is_empty() || !plain(name)) {
        let field = key("region");
        bail!(
            "invalid `{field}`: expected a name without blanks, such as \"eu\", found `{region}`"
        );
    }
    Ok(Upstream {
        name: name.to_owned(),
        convention,
        base_url,
        key: secrets.get(&key("api_key"), &raw.api_key_env, &raw.api_key_file)?,
        provider: raw.provider.or(convention.provider().map(str::to_owned)),
        region: raw.region.map(|region| region.to_lowercase()),
        hourly_cost,
        limits,
    })
}

fn limits(raw: &RawUpstream, key: &dyn Fn(&str) -> String) -> anyhow::Result<Limits> {
    let usual = Limits::default();
    let time = |field: &str, text: &Option<String>, usual| match text {
        Some(text) => duration(&key(field), text),
        None => Ok(usual),
    };
    if raw.max_concurrent == Some(0) {
        bail!("invalid `{}`: expected at least 1, found `0`", key("max_concurrent"));
    }
    Ok(Limits {
        connect: time("connect_timeout", &raw.connect_timeout, usual.connect)?,
        first_byte: time("first_byte_timeout", &raw.first_byte_timeout, usual.first_byte)?,
        idle: time("idle_timeout", &raw.idle_timeout, usual.idle)?,
        total: time("total_timeout", &raw.total_timeout, usual.total)?,
        concurrent: raw.max_concurrent,
        queue: time("queue_timeout", &raw.queue_timeout, usual.queue)?,
    })
}

fn retry(raw: &RawRetry) -> anyhow::Result<Retry> {
    let usual = Retry::default();
    let attempts = raw.attempts.unwrap_or(usual.attempts);
    if !(1..=10).contains(&attempts) {
        bail!("invalid `retry.attempts`: expected 1 (none) to 10 tries, found `{attempts}`");
    }
    let max_wait = match &raw.max_wait {
        Some(text) => duration("retry.max_wait", text)?,
        None => usual.max_wait,
    };
    Ok(Retry { attempts, max_wait })
}

/// Days, such as `400d`.
fn days(
    field: &str,
    text: Option<&str>,
    range: RangeInclusive<u64>,
) -> anyhow::Result<Option<Duration>> {
    let Some(text) = text else { return Ok(None) };
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let days = days.filter(|days| range.contains(days)).ok_or_else(|| {
        anyhow!("invalid `{field}`: expected days such as \"30d\", found `{text}`")
    })?;
    Ok(Some(Duration::from_secs(days * 86_400)))
}

fn on_failure(field: &str, text: &Option<String>) -> anyhow::Result<Option<OnFailure>> {
    match text.as_deref() {
        None => Ok(None),
        Some("refuse") => Ok(Some(OnFailure::Refuse)),
        Some("pass") => Ok(Some(OnFailure::Pass)),
        Some(other) => bail!("invalid `{field}`: expected `refuse` or `pass`, found `{other}`"),
    }
}

/// A time such as `500ms`, `10s`, `5m` or `1h`.
pub(crate) fn duration(field: &str, text: &str) -> anyhow::Result<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let read = units.into_iter().find_map(|(unit, millis)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(millis).map(Duration::from_millis)
    });
    let week = Duration::from_secs(7 * 86_400);
    read.filter(|time| !time.is_zero() && *time <= week).ok_or_else(|| {
        anyhow!("invalid `{field}`: expected a time such as \"500ms\", \"10s\" or \"5m\", found `{text}`")
    })
}

/// OpenAI, Anthropic and Gemini, each with its usual variable's key, or else with the client's own.
fn default_upstreams(env: &dyn Fn(&str) -> Option<String>) -> Vec<Upstream> {
    let upstream = |convention: Convention, variable| Upstream {
        name: convention.name().to_owned(),
        convention,
        base_url: default_url(convention).expect("has one").parse().expect("is one"),
        key: env(variable),
        provider: convention.provider().map(str::to_owned),
        region: None,
        hourly_cost: None,
        limits: Limits::default(),
    };
    vec![
        upstream(Convention::OpenAi, "OPENAI_API_KEY"),
        upstream(Convention::Anthropic, "ANTHROPIC_API_KEY"),
        upstream(Convention::Gemini, "GEMINI_API_KEY"),
    ]
}

/// The public address of a provider's API.
fn default_url(convention: Convention) -> Option<&'static str> {
    match convention {
        Convention::OpenAi => Some("https://api.openai.com/v1"),
        Convention::Anthropic => Some("https://api.anthropic.com/v1"),
        Convention::DeepSeek => Some("https://api.deepseek.com/v1"),
        Convention::XAi => Some("https://api.x.ai/v1"),
        Convention::Groq => Some("https://api.groq.com/openai/v1"),
        Convention::OpenRouter => Some("https://openrouter.ai/api/v1"),
        Convention::Mistral => Some("https://api.mistral.ai/v1"),
        Convention::Together => Some("https://api.together.xyz/v1"),
        Convention::Fireworks => Some("https://api.fireworks.ai/inference/v1"),
        Convention::Gemini => Some("https://generativelanguage.googleapis.com/v1beta"),
        // Replaced by the address that the server in the process gets.
        Convention::Simulated => Some("http://simulated.invalid/v1"),
        Convention::Vllm | Convention::LlamaCpp | Convention::OpenAiCompatible => None,
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_data_dir() -> PathBuf {
    let home = || env("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = env("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(|| PathBuf::from(".")).join("farthing")
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn parse(text: &str) -> anyhow::Result<Config> {
        Config::parse(text, &no_env)
    }

    #[test]
    fn nothing_configured_serves_the_three_providers_on_loopback() {
        let config =
            Config::parse("", &|name| (name == "OPENAI_API_KEY").then(|| "sk-test".to_owned()))
                .unwrap();
        let names: Vec<_> = config.settings.upstreams.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(names, ["openai", "anthropic", "gemini"]);
        assert_eq!(config.settings.upstreams[0].key.as_deref(), Some("sk-test"));
        assert_eq!(config.settings.upstreams[1].key, None);
        assert!(config.settings.listen.ip().is_loopback());
    }

    #[test]
    fn the_sample_is_valid_as_it_stands_and_with_every_comment_taken_off() {
        let sample = include_str!("../../../farthing.sample.toml");
        parse(sample).unwrap();
        let settings = properties::without_comments(sample);
        assert_ne!(settings, sample);
        let config = Config::parse(&settings, &|name| Some(format!("key of {name}"))).unwrap();
        assert!(config.settings.upstreams.len() > 2 && !config.settings.models.is_empty());
        config.settings.check().unwrap();
    }

    #[test]
    fn errors_name_the_line() {
        let model = "[models.\"a.b\"]\nupstream = \"openai\"\nfallback = [{ upstream = \"openai\" },\n\
                     { upstream = \"c\" }]";
        let price = "[[prices]]\nprovider = \"groq\"\nmodel = \"m\"\ninput_uncached = \"0\"\noutput_text = 1.5";
        for (text, line) in [
            ("\n[retry]\nmax_wait = \"1s\"\nattempts = 0", 4),
            ("[upstreams.a]\nkind = \"openai\"\n[upstreams.\"a.b\"]\n\nkind = \"gpt\"", 5),
            ("[upstreams.a]\nkind = \"openai\"\n[upstreams.b]\nkind = \"vllm\"", 3),
            ("[upstreams.a]\nkind = \"openai\"\n[upstreams.b]\nkindd = \"vllm\"", 4),
            (model, 4),
            (price, 5),
            (&format!("{}\n{price}", price.replace("1.5", "\"1.5\"")), 10),
        ] {
            let error = format!("{:#}", parse(text).err().unwrap());
            assert!(error.starts_with(&format!("line {line}: ")), "{error}\nshould be line {line}");
        }
    }

    #[test]
    fn own_prices_are_for_providers_of_the_book_or_of_an_upstream_and_may_be_nothing() {
        let upstream =
            "[upstreams.a]\nkind = \"vllm\"\nbase_url = \"http://x/v1\"\nprovider = \"lab\"\n";
        let row = |provider: &str| {
            format!(
                "{upstream}[[prices]]\nprovider = \"{provider}\"\nmodel = \"m\"\n\
                 input_uncached = \"0\"\noutput_text = \"0\""
            )
        };
        for provider in ["lab", "openai"] {
            assert_eq!(parse(&row(provider)).unwrap().book.own_rows().count(), 1);
        }
        assert!(parse(&row("laboratory")).is_err());
    }

    #[test]
    fn errors_name_the_key_what_was_found_and_what_was_expected() {
        for (text, expected) in [
            ("listen = \"here\"", "invalid `listen`: expected an address"),
            ("listne = \"127.0.0.1:1\"", "unknown field `listne`"),
            (
                "[upstreams.a]\nkind = \"gpt\"",
                "invalid `upstreams.a.kind`: expected one of `openai`",
            ),
            ("[upstreams.a]\nkind = \"vllm\"", "`upstreams.a.base_url` is missing"),
            (
                "[upstreams.a]\nkind = \"vllm\"\nbase_url = \"ftp://x/v1\"",
                "invalid `upstreams.a.base_url`: expected a URL",
            ),
            (
                "[upstreams.a]\nkind = \"openai\"\nhourly_cost = \"-1\"",
                "invalid `upstreams.a.hourly_cost`: expected US dollars",
            ),
            (
                "[upstreams.a]\nkind = \"openai\"\napi_key_env = \"NOPE\"",
                "the environment variable `NOPE` is not set",
            ),
            (
                "[models.x]\nupstream = \"b\"",
                "invalid `models.\"x\".upstream`: expected one of `openai`, `anthropic`, `gemini`, found `b`",
            ),
            (
                "[models.x]\nupstream = \"openai\"\nfallback = [{ upstream = \"c\" }]",
                "invalid `models.\"x\".fallback[0].upstream`: expected one of",
            ),
            (
                "[[unmetered]]\nmethod = \"GET\"\npath = \"/v1/files\"\nupstream = \"x\"",
                "invalid `unmetered[0].upstream`: expected one of `openai`",
            ),
            ("client_timeout = \"soon\"", "invalid `client_timeout`: expected a time such as"),
            ("retention = \"0d\"", "invalid `retention`: expected days such as \"30d\""),
            ("price_alarm = \"367d\"", "invalid `price_alarm`: expected days such as \"30d\""),
            ("on_ledger_failure = \"ignore\"", "invalid `on_ledger_failure`: expected `refuse` or"),
            (
                "[routes.a]\non_ledger_failure = \"\"",
                "invalid `routes.\"a\".on_ledger_failure`: expected `refuse` or `pass`, found ``",
            ),
            ("ledger_timeout = \"5\"", "invalid `ledger_timeout`: expected a time such as"),
            ("[retry]\nattempts = 0", "invalid `retry.attempts`: expected 1 (none) to 10"),
            (
                "[upstreams.a]\nkind = \"openai\"\nidle_timeout = \"10\"",
                "invalid `upstreams.a.idle_timeout`: expected a time such as",
            ),
            (
                "[[prices]]\nprovider = \"groq\"\nmodel = \"m\"\ninput_uncached = 2.5\noutput_text = \"1\"",
                "expected `input_uncached` as a text such as \"2.50\", found a float",
            ),
            (
                "[[prices]]\nprovider = \"groq\"\nmodel = \"m\"",
                "invalid `prices[0]`: `input_uncached` is missing: expected US dollars",
            ),
            (
                "[[prices]]\nprovider = \"groq\"\nmodel = \"m\"\ninput_uncached = \"0\"",
                "invalid `prices[0]`: `output_text` is missing",
            ),
            (
                "[[prices]]\nprovider = \"opnai\"\nmodel = \"m\"\ninput_uncached = \"1\"\noutput_text = \"1\"",
                "invalid `prices[0]`: invalid `provider`: expected one of the price book or",
            ),
        ] {
            let error = format!("{:#}", parse(text).err().unwrap());
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
    }
}

//! `farthing key`: keys that the gateway gives out to its clients.

use anyhow::{Context, bail};
use gateway::{Clock, KeyState, MAX_TAGS, NewKey, VirtualKey, is_key_name, is_label};
use quantity::UnixTime;
use report::json::Json;
use report::object;
use report::table::Table;

use crate::bill::When;
use crate::config::Config;
use crate::data::DataDir;
use crate::key_file::KeyFile;
use crate::{Place, output};

/// Keys for clients: who may call, for which team, until when
///
/// As soon as there is one, every call needs one (or the access key of the configuration). A gateway
/// that runs knows of a new or revoked key within a second.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make a key and print it, this once: only a hash of it is kept
    Create(Create),
    /// Show all keys, without the keys themselves
    List(List),
    /// Take a key back, for good
    Revoke(Revoke),
}

#[derive(clap::Args, Debug)]
struct Create {
    /// What it is called in bills: letters, digits, `.`, `_`, `-`
    name: String,
    /// The team that pays for its calls, whatever they say
    #[arg(long)]
    team: Option<String>,
    /// The route of its calls that name none
    #[arg(long)]
    route: Option<String>,
    /// A tag of all its calls, whatever they say; may be repeated
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    tags: Vec<String>,
    /// The models that may be asked for, by the names that clients use [default: any]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    models: Vec<String>,
    /// The upstreams that may be used, fallbacks included [default: any]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    upstreams: Vec<String>,
    /// When it ends: 90d or 12h from now, or the begin of 2026-12-31, UTC [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<When>,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args, Debug)]
struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args, Debug)]
struct Revoke {
    /// Its name or its id
    #[arg(value_name = "NAME|ID")]
    key: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Create(arguments) => create(arguments),
        Command::List(arguments) => list(arguments),
        Command::Revoke(arguments) => revoke(arguments),
    }
}

fn create(arguments: &Create) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let now = Clock::system().now();
    let (mut random, mut id) = ([0; 32], [0; 8]);
    for bytes in [&mut random[..], &mut id[..]] {
        getrandom::fill(bytes).context("the system gives no random numbers")?;
    }
    let new = NewKey::new(random, id);
    let known: Vec<&str> = config.settings.upstreams.iter().map(|u| u.name.as_str()).collect();
    let key = arguments.key(&new, now, &known)?;
    let file = KeyFile::of(DataDir::create(&config.data_dir)?.path());
    let until = key.expires.map_or("without end".to_owned(), |at| format!("until {at}"));
    let first = file.edit(|keys| {
        let same = keys.iter().find(|other| other.name == key.name && other.revoked.is_none());
        if let Some(other) = same {
            bail!(
                "there is a key `{}` already, of {}; expected another name, or that one revoked first",
                other.name,
                other.created.day()
            );
        }
        if keys.iter().any(|other| other.id == key.id) {
            bail!("drew an id that is taken, which happens once in years; try again");
        }
        keys.push(key);
        Ok(keys.len() == 1)
    })?;
    eprintln!(
        "farthing: `{}` is good {until}. This is the only time that it is shown:",
        arguments.name
    );
    output::print(&format!("{}\n", new.secret))?;
    if first {
        eprintln!(
            "farthing: this is the first key: from now on every call needs one, and upstreams that \
             want a key need one of their own (`farthing serve --check` says which have none)"
        );
    }
    Ok(())
}

impl Create {
    fn key(&self, new: &NewKey, now: UnixTime, upstreams: &[&str]) -> anyhow::Result<VirtualKey> {
        let check = |what: &str, text: &str| {
            if !is_label(text) {
                let found = text.escape_debug();
                bail!(
                    "invalid {what}: expected 1 to 128 bytes without control characters, found \
                     `{found}`"
                );
            }
            Ok(())
        };
        if !is_key_name(&self.name) {
            let found = self.name.escape_debug();
            bail!("invalid NAME: expected 1 to 64 letters, digits, `.`, `_`, `-`, found `{found}`");
        }
        for (what, text) in [("--team", &self.team), ("--route", &self.route)] {
            text.iter().try_for_each(|text| check(what, text))?;
        }
        self.models.iter().try_for_each(|model| check("--models", model))?;
        for upstream in &self.upstreams {
            if !upstreams.contains(&upstream.as_str()) {
                let (known, found) = (upstreams.join("`, `"), upstream.escape_debug());
                bail!("invalid --upstreams: expected of `{known}`, found `{found}`");
            }
        }
        let mut tags = std::collections::BTreeMap::new();
        for tag in &self.tags {
            let Some((name, value)) = tag.split_once('=') else {
                bail!("invalid --tag: expected NAME=VALUE, found `{}`", tag.escape_debug());
            };
            check("--tag", name)?;
            check("--tag", value)?;
            // As the names of headers are.
            if tags.insert(name.to_ascii_lowercase(), value.to_owned()).is_some() {
                bail!("invalid --tag: expected each name once, found `{name}` again");
            }
        }
        if tags.len() > MAX_TAGS {
            bail!("invalid --tag: expected at most {MAX_TAGS}, found {}", tags.len());
        }
        let expires = self.expires.map(|when| when.ahead(now));
        if let Some(at) = expires.filter(|at| *at <= now) {
            bail!("invalid --expires: expected a time to come, found {at}");
        }
        Ok(VirtualKey {
            name: self.name.clone(),
            id: new.id.clone(),
            hash: new.hash,
            team: self.team.clone(),
            route: self.route.clone(),
            tags: tags.into_iter().collect(),
            models: self.models.clone(),
            upstreams: self.upstreams.clone(),
            created: to_second(now),
            expires: expires.map(to_second),
            revoked: None,
        })
    }
}

/// Nobody wants to read nanoseconds.
fn to_second(at: UnixTime) -> UnixTime {
    const SECOND: i64 = 1_000_000_000;
    UnixTime::from_nanos(at.nanos().div_euclid(SECOND) * SECOND)
}

fn list(arguments: &List) -> anyhow::Result<()> {
    let keys = KeyFile::of(&Config::load(&arguments.place)?.data_dir).read()?;
    let now = Clock::system().now();
    if arguments.json {
        return output::print(&json(&keys, now).pretty());
    }
    if keys.is_empty() {
        return output::print("no virtual keys\n");
    }
    let headers = [
        "name",
        "id",
        "team",
        "route",
        "tags",
        "models",
        "upstreams",
        "created",
        "expires",
        "state",
    ];
    // What no key has takes no room.
    let rows: Vec<_> = keys.iter().map(|key| cells(key, now)).collect();
    let used: Vec<usize> = (0..headers.len())
        .filter(|&column| rows.iter().any(|row| !row[column].is_empty()))
        .collect();
    let mut table =
        used.iter().fold(Table::default(), |table, &column| table.text(headers[column]));
    for row in &rows {
        table.row(used.iter().map(|&column| row[column].clone()));
    }
    output::print(&table.render(output::style()))
}

fn cells(key: &VirtualKey, now: UnixTime) -> [String; 10] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let tags: Vec<_> = key.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // To the minute, UTC.
    let minute = |at: UnixTime| at.to_string()[..16].replace('T', " ");
    [
        key.name.clone(),
        key.id.clone(),
        text(&key.team),
        text(&key.route),
        tags.join(" "),
        key.models.join(" "),
        key.upstreams.join(" "),
        minute(key.created),
        key.expires.map(minute).unwrap_or_default(),
        key.state(now).name().to_owned(),
    ]
}

fn json(keys: &[VirtualKey], now: UnixTime) -> Json {
    let one = |key: &VirtualKey| {
        let tags = key.tags.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        let any = |list: &[String]| (!list.is_empty()).then(|| list.iter().collect::<Json>());
        object! {
            "name" => &key.name,
            "id" => &key.id,
            "state" => key.state(now).name(),
            "team" => key.team.as_ref(),
            "route" => key.route.as_ref(),
            "tags" => Json::Object(tags),
            "models" => any(&key.models),
            "upstreams" => any(&key.upstreams),
            "created_at" => key.created,
            "expires_at" => key.expires,
            "revoked_at" => key.revoked,
        }
    };
    object! {
        "schema" => "farthing.keys/1",
        "as_of" => now,
        "keys" => keys.iter().map(one).collect::<Json>(),
    }
}

fn revoke(arguments: &Revoke) -> anyhow::Result<()> {
    let file = KeyFile::of(&Config::load(&arguments.place)?.data_dir);
    let wanted = &arguments.key;
    let none = || {
        let found = wanted.escape_debug();
        anyhow::anyhow!("there is no key `{found}`; `farthing key list` shows those there are")
    };
    // Without any key there may be no directory to lock.
    if file.read()?.is_empty() {
        return Err(none());
    }
    let now = Clock::system().now();
    let said = file.edit(|keys| {
        // A name is used again after a revocation: then it is the new key that is meant.
        let good = |key: &VirtualKey| key.name == *wanted && key.revoked.is_none();
        let place = keys.iter().position(good);
        let place = place.or_else(|| keys.iter().position(|key| key.id == *wanted));
        let place = place.or_else(|| keys.iter().rposition(|key| key.name == *wanted));
        let key = &mut keys[place.ok_or_else(none)?];
        Ok(match key.state(now) {
            KeyState::Revoked => format!("`{}` ({}) was revoked before", key.name, key.id),
            KeyState::Active | KeyState::Expired => {
                key.revoked = Some(to_second(now));
                format!("`{}` ({}) is revoked", key.name, key.id)
            }
        })
    })?;
    eprintln!("farthing: {said}");
    Ok(())
}

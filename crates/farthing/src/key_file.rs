//! `keys.toml` in the data directory: the virtual keys there are. People may read it and edit it with
//! care; no key can be made from it, for it has hashes alone.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use gateway::{Clock, KeyRing, Keys, MAX_TAGS, VirtualKey, is_key_id, is_key_name, is_label};
use quantity::UnixTime;
use serde::Deserialize;
use toml::Spanned;

const FILE: &str = "keys.toml";
const LOCK: &str = "keys.lock";
const VERSION: u64 = 1;
/// How often a gateway looks whether the file changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The file with the keys of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile(PathBuf);

/// As it is written. Texts know where they stand, for errors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[expect(dead_code, reason = "it was read before the rest")]
    version: toml::Value,
    #[serde(default)]
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
struct RawVersion {
    version: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    name: Spanned<String>,
    id: Spanned<String>,
    blake3: Spanned<String>,
    created: Spanned<String>,
    team: Option<Spanned<String>>,
    route: Option<Spanned<String>>,
    #[serde(default)]
    tags: BTreeMap<String, Spanned<String>>,
    models: Option<Spanned<Vec<Spanned<String>>>>,
    upstreams: Option<Spanned<Vec<Spanned<String>>>>,
    expires: Option<Spanned<String>>,
    revoked: Option<Spanned<String>>,
}

impl KeyFile {
    /// That of this data directory, be it there or not.
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self(data_dir.join(FILE))
    }

    /// The keys; none where there is no file. That the data directory is none is for those to say who
    /// need one.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<VirtualKey>> {
        let shown = self.0.display();
        match fs::read(&self.0) {
            Ok(bytes) => parse(&bytes).with_context(|| format!("`{shown}`")),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read `{shown}`")),
        }
    }

    /// Changes the keys. One at a time: what another process changes meanwhile is not lost. The file
    /// is the old or the new one, whole, whenever we are killed.
    pub(crate) fn edit<T>(
        &self,
        change: impl FnOnce(&mut Vec<VirtualKey>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let shown = self.0.display();
        let cannot = || format!("cannot write `{shown}`");
        let private = |path: &Path, truncate| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(truncate).mode(0o600).open(path)
        };
        let lock = private(&self.0.with_file_name(LOCK), false).with_context(cannot)?;
        // Until it is closed.
        lock.lock().with_context(cannot)?;
        let mut keys = self.read()?;
        let outcome = change(&mut keys)?;
        let new = self.0.with_extension("toml.new");
        let mut file = private(&new, true).with_context(cannot)?;
        file.write_all(render(&keys).as_bytes()).with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        fs::rename(&new, &self.0).with_context(cannot)?;
        // A revocation must not come back after a power cut.
        let directory = self.0.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).with_context(cannot)?;
        Ok(outcome)
    }

    /// What tells one state of the file from another: when it was written, its inode and size.
    fn stamp(&self) -> Option<(i64, i64, u64, u64)> {
        let at = fs::metadata(&self.0).ok()?;
        Some((at.mtime(), at.mtime_nsec(), at.ino(), at.size()))
    }
}

/// A thread that puts changed keys in force, until this is dropped.
pub(crate) struct Following {
    _ends: Sender<()>,
}

impl Following {
    /// Starts it.
    pub(crate) fn start(file: KeyFile, ring: Arc<KeyRing>) -> anyhow::Result<Self> {
        let (ends, ended) = channel::<()>();
        let thread = std::thread::Builder::new().name("keys".to_owned());
        let run = move || {
            // Not what it is like now: it may have changed since it was read.
            let mut seen = None;
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let stamp = Some(file.stamp());
                if stamp != seen {
                    seen = stamp;
                    if let Some(said) = renew(&file, &ring, Clock::system().now()) {
                        eprintln!("farthing: {said}");
                    }
                }
            }
        };
        thread.spawn(run).context("the system gives no thread")?;
        Ok(Self { _ends: ends })
    }
}

/// Puts the keys of a file in force if it has others than before; says what there is to say.
fn renew(file: &KeyFile, ring: &KeyRing, now: UnixTime) -> Option<String> {
    let before = ring.get();
    let keys = match file.read() {
        Ok(keys) => Keys::new(keys),
        Err(error) => {
            return Some(format!("the virtual keys stay as they were: {error:#}"));
        }
    };
    if keys == *before {
        return None;
    }
    if keys.is_empty() {
        // Nobody would have to present one any more, which is not for a lost file to decide.
        return Some(format!(
            "the virtual keys stay in force, though `{}` has none any more; start anew to serve \
             without",
            file.0.display()
        ));
    }
    let (all, active) = keys.count(now);
    ring.replace(keys);
    Some(format!("the virtual keys changed: {all} in all, {active} of them active"))
}

/// Reads the text of a file.
fn parse(bytes: &[u8]) -> anyhow::Result<Vec<VirtualKey>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_of(bytes, error.valid_up_to());
        anyhow!("line {line}: expected UTF-8, found other bytes")
    })?;
    let at = |place: usize| format!("line {}", line_of(bytes, place));
    // Who made the file later may have written more than we know.
    let RawVersion { version } = toml::from_str(text)?;
    match version {
        Some(version) if version.get_ref().as_integer() == Some(VERSION.cast_signed()) => {}
        Some(version) => {
            let place = at(version.span().start);
            let found = match version.get_ref() {
                toml::Value::Integer(number) => format!("`{number}`"),
                other => format!("a value of type {}", other.type_str()),
            };
            bail!("{place}: expected `version = {VERSION}`, found {found}")
        }
        None => bail!("line 1: expected `version = {VERSION}`, found none"),
    }
    let raw: Raw = toml::from_str(text)?;
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::new();
    for raw in raw.keys {
        let (name, id) = (raw.name.span().start, raw.id.span().start);
        let key = raw.checked(&at)?;
        if !ids.insert(key.id.clone()) {
            bail!("{}: expected each `id` once, found `{}` again", at(id), key.id);
        }
        if key.revoked.is_none() && !names.insert(key.name.clone()) {
            bail!(
                "{}: expected one key of a name that is not revoked, found `{}` again",
                at(name),
                key.name
            );
        }
        keys.push(key);
    }
    Ok(keys)
}

fn line_of(bytes: &[u8], place: usize) -> usize {
    1 + bytes.iter().take(place).filter(|byte| **byte == b'\n').count()
}

impl RawKey {
    fn checked(self, at: &dyn Fn(usize) -> String) -> anyhow::Result<VirtualKey> {
        let check = |field: &str, text: Spanned<String>, expected: &str, good: fn(&str) -> bool| {
            if good(text.get_ref()) {
                return Ok(text.into_inner());
            }
            let (place, found) = (at(text.span().start), text.get_ref().escape_debug());
            Err(anyhow!("{place}: invalid `{field}`: expected {expected}, found `{found}`"))
        };
        let label = |field: &str, text: Spanned<String>| {
            check(field, text, "1 to 128 bytes without control characters", is_label)
        };
        let time = |field: &str, text: Spanned<String>| -> anyhow::Result<UnixTime> {
            let place = at(text.span().start);
            text.get_ref().parse().with_context(|| format!("{place}: invalid `{field}`"))
        };
        let list = |field: &str, list: Option<Spanned<Vec<Spanned<String>>>>| {
            let Some(list) = list else { return Ok(Vec::new()) };
            if list.get_ref().is_empty() {
                // Is that all or none?
                let place = at(list.span().start);
                bail!(
                    "{place}: invalid `{field}`: expected one at least, or no `{field}`, found none"
                );
            }
            list.into_inner().into_iter().map(|one| label(field, one)).collect()
        };
        let name = check("name", self.name, "1 to 64 letters, digits, `.`, `_`, `-`", is_key_name)?;
        let id = check("id", self.id, "8 letters and digits", is_key_id)?;
        let place = at(self.blake3.span().start);
        let hash = self.blake3.into_inner().parse();
        let hash = hash.with_context(|| format!("{place}: invalid `blake3` of `{name}`"))?;
        let mut tags = Vec::new();
        for (tag, value) in self.tags {
            let place = at(value.span().start);
            if !is_label(&tag) || tag != tag.to_ascii_lowercase() || tags.len() == MAX_TAGS {
                let found = tag.escape_debug();
                bail!(
                    "{place}: invalid `tags`: expected at most {MAX_TAGS} names in lower case, found \
                     `{found}`"
                );
            }
            tags.push((tag, label("tags", value)?));
        }
        Ok(VirtualKey {
            name,
            id,
            hash,
            team: self.team.map(|team| label("team", team)).transpose()?,
            route: self.route.map(|route| label("route", route)).transpose()?,
            tags,
            models: list("models", self.models)?,
            upstreams: list("upstreams", self.upstreams)?,
            created: time("created", self.created)?,
            expires: self.expires.map(|at| time("expires", at)).transpose()?,
            revoked: self.revoked.map(|at| time("revoked", at)).transpose()?,
        })
    }
}

/// The text of a file.
fn render(keys: &[VirtualKey]) -> String {
    let mut out = format!(
        "# The virtual keys of this gateway, kept by `farthing key`. Hashes alone: no key can be made\n\
         # from them. A gateway that runs sees a change within a second.\n\nversion = {VERSION}\n"
    );
    for key in keys {
        out.push_str("\n[[keys]]\n");
        let mut field = |name: &str, value: String| out.push_str(&format!("{name} = {value}\n"));
        // To the nanosecond, as only `Debug` shows it.
        let time = |at: UnixTime| format!("\"{at:?}\"");
        let list = |texts: &[String]| {
            format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
        };
        field("name", quoted(&key.name));
        field("id", quoted(&key.id));
        field("blake3", quoted(&key.hash.to_string()));
        field("created", time(key.created));
        for (name, value) in [("team", &key.team), ("route", &key.route)] {
            value.iter().for_each(|value| field(name, quoted(value)));
        }
        if !key.tags.is_empty() {
            let tags = key.tags.iter();
            let tags = tags.map(|(tag, value)| format!("{} = {}", quoted(tag), quoted(value)));
            field("tags", format!("{{ {} }}", tags.collect::<Vec<_>>().join(", ")));
        }
        for (name, texts) in [("models", &key.models), ("upstreams", &key.upstreams)] {
            if !texts.is_empty() {
                field(name, list(texts));
            }
        }
        for (name, at) in [("expires", key.expires), ("revoked", key.revoked)] {
            at.into_iter().for_each(|at| field(name, time(at)));
        }
    }
    out
}

/// A text as TOML writes it. Labels have no control characters, so that nothing else is special.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use gateway::{KeyHash, NewKey};
    use proptest::prelude::*;

    use super::*;

    fn any_label() -> impl Strategy<Value = String> {
        "[^\\p{Cc}]{1,30}".prop_filter("in bytes", |text| is_label(text))
    }

    prop_compose! {
        fn any_key()(
            name in "[a-zA-Z0-9._-]{2,64}",
            random in any::<[u8; 32]>(),
            id in any::<[u8; 8]>(),
            (team, route) in prop::option::of((any_label(), any_label())).prop_map(Option::unzip),
            tags in prop::collection::btree_map("[a-z0-9 \"\\\\-]{1,20}", any_label(), 0..16),
            models in prop::collection::vec(any_label(), 0..3),
            upstreams in prop::collection::vec(any_label(), 0..3),
            created in any::<i64>(),
            (expires, revoked) in any::<(Option<i64>, Option<i64>)>(),
        ) -> VirtualKey {
            let new = NewKey::new(random, id);
            let at = UnixTime::from_nanos;
            VirtualKey {
                // `..` is none.
                name: format!("k{}", &name[1..]),
                id: new.id,
                hash: new.hash,
                team,
                route,
                tags: tags.into_iter().collect(),
                models,
                upstreams,
                created: at(created),
                expires: expires.map(at),
                revoked: revoked.map(at),
            }
        }
    }

    fn text(name: &str, id: &str, more: &str) -> String {
        let hash = KeyHash::of(b"x");
        format!(
            "[[keys]]\nname = \"{name}\"\nid = \"{id}\"\nblake3 = \"{hash}\"\n\
             created = \"2026-11-22T00:00:00Z\"\n{more}\n"
        )
    }

    proptest! {
        #[test]
        fn keys_come_back_as_they_were_written(keys in prop::collection::vec(any_key(), 0..5)) {
            let mut keys = keys;
            for (index, key) in keys.iter_mut().enumerate() {
                key.id = format!("{index}{}", &key.id[1..]);
                key.name = format!("{index}{}", &key.name[1..]);
            }
            let written = render(&keys);
            prop_assert_eq!(parse(written.as_bytes()).unwrap(), keys, "{}", written);
        }

        #[test]
        fn any_bytes_are_keys_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_file_is_keys_or_an_error_that_names_the_line(
            keys in prop::collection::vec(any_key(), 1..3),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = render(&keys).into_bytes();
            for (place, byte) in damage {
                *place.get_mut(&mut bytes) = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Err(error) = parse(&bytes) {
                let error = format!("{error:#}");
                prop_assert!(error.contains("line "), "{}", error);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_was_expected() {
        let whole = |keys: &str| format!("# a comment\nversion = 1\n\n{keys}");
        for (text, expected) in [
            (String::new(), "line 1: expected `version = 1`, found none"),
            ("version = 2\nnew = 1\n".to_owned(), "line 1: expected `version = 1`, found `2`"),
            (
                "\nversion = \"1\"".to_owned(),
                "line 2: expected `version = 1`, found a value of type string",
            ),
            (whole("[[key]]\n"), "line 4"),
            (whole("[[keys]]\nname = 1\n"), "line 5"),
            (whole(&text("../x", "abcdefgh", "")), "line 5: invalid `name`: expected 1 to 64"),
            (
                whole(&text("x", "abc", "")),
                "line 6: invalid `id`: expected 8 letters and digits, found `abc`",
            ),
            (
                whole(&text("x", "abcdefgh", "")).replace("blake3 = \"", "blake3 = \"z"),
                "line 7: invalid `blake3` of `x`: expected 64 hex",
            ),
            (
                whole(&text("x", "abcdefgh", "team = \"a\\tb\"")),
                "line 9: invalid `team`: expected 1 to 128 bytes without control characters, found `a\\tb`",
            ),
            (
                whole(&text("x", "abcdefgh", "expires = \"soon\"")),
                "line 9: invalid `expires`: expected a date",
            ),
            (
                whole(&text("x", "abcdefgh", "models = []")),
                "line 9: invalid `models`: expected one at least",
            ),
            (whole(&text("x", "abcdefgh", "model = \"a\"")), "unknown field `model`"),
            (
                whole(&text("x", "abcdefgh", "tags = { Env = \"a\" }")),
                "line 9: invalid `tags`: expected at most 16 names in lower case, found `Env`",
            ),
            (
                whole(&(text("x", "abcdefgh", "") + &text("y", "abcdefgh", ""))),
                "line 12: expected each `id` once, found `abcdefgh` again",
            ),
            (
                whole(&(text("x", "abcdefgh", "") + &text("x", "abcdefgi", ""))),
                "line 11: expected one key of a name that is not revoked, found `x` again",
            ),
        ] {
            let error = format!("{:#}", parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
        let error = format!("{:#}", parse(b"version = 1\n# \xff").unwrap_err());
        assert_eq!(error, "line 2: expected UTF-8, found other bytes");
        let revoked = "revoked = \"2026-11-22\"";
        let again = text("x", "abcdefgh", revoked) + &text("x", "abcdefgi", "");
        assert_eq!(parse(whole(&again).as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn an_edit_is_whole_private_and_keeps_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::of(dir.path());
        assert_eq!(file.read().unwrap(), []);
        let key = parse(format!("version = 1\n{}", text("x", "abcdefgh", "")).as_bytes()).unwrap();
        file.edit(|keys| {
            keys.extend(key.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(file.read().unwrap(), key);
        for name in [FILE, LOCK] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::write(dir.path().join(FILE), "version = 1\nkeys = 3").unwrap();
        let error = file.edit(|_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("keys.toml`: "), "{error:#}");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"version = 1\nkeys = 3");
    }

    #[test]
    fn a_gateway_keeps_its_keys_when_the_file_is_damaged_emptied_or_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::of(dir.path());
        let ring = KeyRing::default();
        let now = UnixTime::from_nanos(0);
        assert_eq!(renew(&file, &ring, now), None, "no file, no keys, nothing to say");
        let good = format!("version = 1\n{}", text("x", "abcdefgh", ""));
        fs::write(dir.path().join(FILE), &good).unwrap();
        let said = renew(&file, &ring, now).unwrap();
        assert!(said.contains("1 in all, 1 of them active"), "{said}");
        assert_eq!(renew(&file, &ring, now), None);
        for damaged in ["version = 1\n", "version = 1\n[[keys", ""] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert!(renew(&file, &ring, now).unwrap().contains("stay"), "{damaged}");
            assert!(!ring.get().is_empty(), "{damaged}");
        }
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(renew(&file, &ring, now).unwrap().contains("stay in force"));
        assert!(!ring.get().is_empty());
    }
}

//! Secrets of the configuration: named by it, never in it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

/// The longest secret, bytes.
const LONGEST: u64 = 8 << 10;

/// Where secrets are.
pub(crate) struct Secrets<'a> {
    /// The environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory of the configuration, from which relative paths of files begin; without one, no
    /// file is read.
    pub(crate) dir: Option<&'a Path>,
    /// Whether they are read at all.
    pub(crate) wanted: bool,
}

impl Secrets<'_> {
    /// The secret of a key of the configuration, which names it as `KEY_env` or as `KEY_file`.
    ///
    /// # Errors
    /// If both are given, or where it should be there is none.
    pub(crate) fn get(
        &self,
        key: &str,
        variable: &Option<String>,
        file: &Option<PathBuf>,
    ) -> anyhow::Result<Option<String>> {
        match (variable, file) {
            (Some(_), Some(_)) => {
                bail!("expected `{key}_env` or `{key}_file`, found both");
            }
            _ if !self.wanted => Ok(None),
            (None, None) => Ok(None),
            (Some(variable), None) => {
                let unset = || {
                    anyhow!(
                        "invalid `{key}_env`: the environment variable `{variable}` is not set or \
                         is empty"
                    )
                };
                (self.env)(variable).ok_or_else(unset).map(Some)
            }
            (None, Some(file)) => {
                let path = self.dir.map(|dir| dir.join(file));
                let read = path.map(|path| read(&path)).transpose();
                read.with_context(|| format!("invalid `{key}_file`"))
            }
        }
    }
}

/// The one line of a file that is for its owner alone. Errors say nothing of what is in it.
fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let cannot = || format!("cannot read `{shown}`");
    let mut file = File::open(path).with_context(cannot)?;
    let about = file.metadata().with_context(cannot)?;
    if !about.is_file() {
        bail!("expected a file with one line, found that `{shown}` is none");
    }
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "`{shown}` has mode {mode:04o}, so that others can read the key; expected 0600 or 0400\
             \n\nhint: chmod 600 {shown}"
        );
    }
    let mut bytes = Vec::new();
    (&mut file).take(LONGEST + 1).read_to_end(&mut bytes).with_context(cannot)?;
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let expected =
        |found: &str| anyhow!("expected `{shown}` to be one line with the key, found {found}");
    if line.is_empty() {
        return Err(expected("it empty"));
    }
    if line.contains(&b'\n') {
        return Err(expected(&format!("{lines} lines")));
    }
    if bytes.len() as u64 > LONGEST {
        return Err(expected(&format!("more than {LONGEST} bytes")));
    }
    let text = std::str::from_utf8(line).ok();
    let text = text.filter(|text| !text.chars().any(|c| c.is_control() || c.is_whitespace()));
    text.map(str::to_owned).ok_or_else(|| expected("spaces, control characters or no UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_one_line_of_a_file_that_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secrets =
            Secrets { env: &|_| Some("from env".to_owned()), dir: Some(dir.path()), wanted: true };
        let path = dir.path().join("key");
        let write = |bytes: &[u8], mode| {
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let get = || {
            let read = secrets.get("api_key", &None, &Some("key".into()));
            read.map(Option::unwrap).map_err(|error| format!("{error:#}"))
        };
        for (bytes, mode) in [(&b"sk-1"[..], 0o600), (b"sk-1\n", 0o400), (b"sk-1\r\n", 0o600)] {
            write(bytes, mode);
            assert_eq!(get().unwrap(), "sk-1");
        }
        for mode in [0o640, 0o604, 0o660, 0o620, 0o601] {
            write(b"sk-1", mode);
            let error = get().unwrap_err();
            let found = format!("has mode {mode:04o}");
            assert!(error.contains(&found) && error.contains("expected 0600 or 0400"), "{error}");
        }
        let long = b"x".repeat(8_193);
        for (bytes, found) in [
            (&b""[..], "found it empty"),
            (b"\n", "found it empty"),
            (b"secret\nsecret\n", "found 3 lines"),
            (b"secret\n\n", "found 3 lines"),
            (b"sec ret", "found spaces"),
            (b"secret\xff", "found spaces, control characters or no UTF-8"),
            (&long, "found more than 8192 bytes"),
        ] {
            write(bytes, 0o600);
            let error = get().unwrap_err();
            assert!(
                error.starts_with("invalid `api_key_file`: ") && error.contains(found),
                "{error}"
            );
            assert!(!error.contains("secret") && !error.contains("xx"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(get().unwrap_err().contains("cannot read"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        assert!(get().is_err());
    }

    #[test]
    fn one_of_both_forms_is_given_and_a_report_reads_neither() {
        let secrets = |wanted| Secrets { env: &|_| None, dir: Some(Path::new("/nowhere")), wanted };
        let (variable, file) = (Some("V".to_owned()), Some(PathBuf::from("f")));
        for wanted in [true, false] {
            let error = secrets(wanted).get("admin_key", &variable, &file).unwrap_err();
            assert_eq!(
                error.to_string(),
                "expected `admin_key_env` or `admin_key_file`, found both"
            );
        }
        assert!(secrets(true).get("k", &variable, &None).is_err());
        assert!(secrets(true).get("k", &None, &file).is_err());
        assert_eq!(secrets(false).get("k", &variable, &None).unwrap(), None);
        assert_eq!(secrets(false).get("k", &None, &file).unwrap(), None);
        assert_eq!(secrets(true).get("k", &None, &None).unwrap(), None);
    }
}

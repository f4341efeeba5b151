//! A trace in a file, line by line; or a folder with tables of clients, from which requests are drawn.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, anyhow, bail};
use workload::{Client, Columns, NamedRow, TraceReader, client_rows};

/// Far more than a line of a trace has: names of a million tokens in blocks of 16 are 1.3 MB.
const LINE_BYTES: u64 = 1 << 22;
/// How the files of a client's tables are called, with its number in front.
const TABLES: [&str; 2] = ["-trace.csv", "-dataset.json"];

/// A recorded trace, which can be gone through several times.
#[derive(Debug)]
pub(crate) struct Trace {
    path: PathBuf,
    kind: Kind,
    /// Requests that had no reply, once it was gone through.
    left_out: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Rows {
        columns: Option<Columns>,
        /// Tokens that each prompt and each reply has at the least.
        least: u64,
    },
    Clients {
        clients: Vec<Client>,
        seed: u64,
    },
}

/// The rows of a trace.
pub(crate) type Rows<'a> = Box<dyn Iterator<Item = anyhow::Result<NamedRow>> + 'a>;

impl Trace {
    /// Of any known format, which the file tells; `seed` names what is drawn from tables of clients.
    ///
    /// # Errors
    /// If it cannot be read, or tables of clients are wrong. Lines are read when they are asked for.
    pub(crate) fn open(
        path: &Path,
        columns: Option<Columns>,
        least: u64,
        seed: Option<u64>,
    ) -> anyhow::Result<Self> {
        let name = path.display();
        let kind = if let Some(tables) = tables(path, columns.is_some())? {
            let clients = tables.iter().map(|(trace, dataset)| client(trace, dataset));
            let clients = clients.collect::<anyhow::Result<_>>()?;
            Kind::Clients { clients, seed: seed.unwrap_or(1) }
        } else {
            if seed.is_some() {
                bail!("--seed: nothing in {name} is drawn at random");
            }
            Kind::Rows { columns, least }
        };
        Ok(Self { path: path.to_owned(), kind, left_out: AtomicU64::new(0) })
    }

    /// From the first one on. Nothing comes after an error.
    pub(crate) fn rows(&self) -> anyhow::Result<Rows<'_>> {
        Ok(match &self.kind {
            Kind::Rows { .. } => Box::new(self.lines()?),
            Kind::Clients { clients, seed } => {
                Box::new(client_rows(clients, *seed).map(|row| Ok(row.into())))
            }
        })
    }

    fn lines(&self) -> anyhow::Result<Lines<'_>> {
        let Kind::Rows { columns, least } = &self.kind else {
            bail!("tables of clients have no lines of requests");
        };
        let name = self.name();
        let file = File::open(&self.path).with_context(|| format!("cannot read {name}"))?;
        let (file, reader) = (BufReader::new(file), TraceReader::new(columns.clone()));
        Ok(Lines { name, file, reader, line: 0, least: *least, left_out: &self.left_out })
    }

    /// The file.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whose format it has, and whether its rows name the blocks of their prompts.
    pub(crate) fn format(&self) -> anyhow::Result<(&'static str, bool)> {
        if let Kind::Clients { .. } = self.kind {
            return Ok(("ServeGen", false));
        }
        let mut lines = self.lines()?;
        let first = lines.next().transpose()?;
        let reader = &lines.reader;
        Ok((reader.format().unwrap_or("unknown"), first.is_some() && reader.names_blocks()))
    }

    /// What names the requests that are drawn, if they are.
    pub(crate) const fn seed(&self) -> Option<u64> {
        match self.kind {
            Kind::Rows { .. } => None,
            Kind::Clients { seed, .. } => Some(seed),
        }
    }

    /// Requests that had no reply, once it was gone through.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// The tables of a folder of clients, or of the one client whose file is told; `None`: it is no such thing.
fn tables(path: &Path, told: bool) -> anyhow::Result<Option<Vec<(PathBuf, PathBuf)>>> {
    let name = path.display();
    let cannot = || format!("cannot read {name}");
    let pair = |trace: PathBuf| {
        let dataset = trace
            .to_string_lossy()
            .strip_suffix(TABLES[0])
            .map(|stem| PathBuf::from(format!("{stem}{}", TABLES[1])));
        Some((trace, dataset?))
    };
    if !path.is_dir() {
        let mut first = String::new();
        let file = File::open(path).with_context(cannot)?;
        // What is no text is told by who reads it.
        let _ = BufReader::new(file.take(1_000)).read_line(&mut first);
        if told || !Client::is_told_by(&first) {
            return Ok(None);
        }
        return Ok(pair(path.to_owned()).map(|tables| vec![tables]));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(cannot)? {
        found.extend(pair(entry.with_context(cannot)?.path()));
    }
    if found.is_empty() {
        bail!("{name}: expected ServeGen's tables of clients, `chunk-0{}` and more", TABLES[0]);
    }
    // By their numbers, so that a seed draws the same on every machine.
    found.sort_by_key(|(trace, _)| (trace.as_os_str().len(), trace.clone()));
    Ok(Some(found))
}

fn client(trace: &Path, dataset: &Path) -> anyhow::Result<Client> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| {
            let name = path.display();
            format!("cannot read {name}: a client's rates and the lengths of its requests are in two files")
        })
    };
    let (rates, lengths) = (read(trace)?, read(dataset)?);
    let client = Client::read(&rates, &lengths);
    client.with_context(|| format!("{} and {}", trace.display(), dataset.display()))
}

/// The rows of a trace's file. Nothing comes after an error.
struct Lines<'a> {
    name: String,
    file: BufReader<File>,
    reader: TraceReader,
    line: u64,
    least: u64,
    left_out: &'a AtomicU64,
}

impl Lines<'_> {
    fn next_row(&mut self) -> anyhow::Result<Option<NamedRow>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let at_most = &mut self.file.by_ref().take(LINE_BYTES);
            if at_most.read_until(b'\n', &mut line)? == 0 {
                self.left_out.store(self.reader.left_out(), Ordering::Relaxed);
                return Ok(None);
            }
            let wrong = |expected: &str| anyhow!("line {}: expected {expected}", self.line);
            if line.len() as u64 == LINE_BYTES {
                return Err(wrong("less than 4 MiB in a line"));
            }
            let text = str::from_utf8(&line).map_err(|_| wrong("a line of UTF-8"))?;
            let Some(named) = self.reader.line(text)? else { continue };
            if named.row.input.get() < self.least || named.row.output.get() < self.least {
                let expected = "at least one token of a prompt and one of a reply";
                return Err(anyhow!("{}, found `{}`", wrong(expected), text.trim_end()));
            }
            return Ok(Some(named));
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = anyhow::Result<NamedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().with_context(|| self.name.clone());
        row.transpose()
    }
}

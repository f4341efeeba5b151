//! A trace in a file, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, anyhow};
use workload::{Columns, NamedRow, TraceReader};

/// Far more than a line of a trace has: names of a million tokens in blocks of 16 are 1.3 MB.
const LINE_BYTES: u64 = 1 << 22;

/// The rows of a trace's file. Nothing comes after an error.
pub(crate) struct Lines<'a> {
    name: String,
    file: BufReader<File>,
    reader: TraceReader,
    line: u64,
    /// Tokens that each prompt and each reply has at the least.
    least: u64,
    left_out: &'a AtomicU64,
}

impl<'a> Lines<'a> {
    /// How many were left out is known at the end.
    pub(crate) fn open(
        path: &Path,
        columns: Option<Columns>,
        least: u64,
        left_out: &'a AtomicU64,
    ) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let (file, reader) = (BufReader::new(file), TraceReader::new(columns));
        Ok(Self { name, file, reader, line: 0, least, left_out })
    }

    /// What the first line told.
    pub(crate) const fn reader(&self) -> &TraceReader {
        &self.reader
    }

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

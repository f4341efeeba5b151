//! stdout is data, and may be closed by whoever reads it.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use report::Style;

/// Writes data to stdout.
///
/// # Errors
/// If it cannot be written; see [`is_broken_pipe`].
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write to stdout")
}

/// Whether an error is only that nobody reads on, as behind `| head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Columns where no terminal tells how many it has.
const WIDTH: usize = 120;

/// How text is laid out on stdout: as wide as the terminal, in colour on one, unless `NO_COLOR` is set.
pub(crate) fn style() -> Style {
    let out = io::stdout();
    let terminal = out.is_terminal();
    let asked = || terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = if terminal { asked().filter(|width| *width > 0).or_else(told) } else { None };
    Style {
        width: width.unwrap_or(WIDTH).clamp(40, 200),
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}

//! stdout is data, and may be closed by whoever reads it.

use std::io::{self, IsTerminal, Write};

use report::Style;

/// Writes data to stdout.
///
/// # Errors
/// If it cannot be written; see [`is_broken_pipe`].
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Whether an error is only that nobody reads on, as behind `| head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// How text is laid out on stdout: colour on a terminal, unless `NO_COLOR` is set.
pub(crate) fn style() -> Style {
    let terminal = io::stdout().is_terminal();
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Style {
        width: columns.unwrap_or(120).clamp(60, 200),
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}

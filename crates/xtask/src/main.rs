//! `cargo run -p xtask -- CHORE`

use std::process::ExitCode;

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: cargo run -p xtask -- CHORE

chores:
  book    write the built-in price book from the data of the crate genai-prices
  serving POINTS [rows]
          predict the measured closed loops of a CSV, and show the errors, or each row";

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Option<&str>) -> anyhow::Result<()> {
    match chore {
        Some("book") => xtask::book::write(),
        Some("serving") => {
            let path = std::env::args().nth(2).context("expected the path of a CSV")?;
            let rows = std::env::args().nth(3).as_deref() == Some("rows");
            let table = xtask::serving::compare(&path, rows)?;
            Ok(std::io::Write::write_all(&mut std::io::stdout(), table.as_bytes())?)
        }
        Some(other) => bail!("unknown chore `{other}`\n\n{USAGE}"),
        None => bail!("expected a chore\n\n{USAGE}"),
    }
}

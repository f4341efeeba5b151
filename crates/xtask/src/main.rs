//! `cargo run -p xtask -- CHORE`

use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "usage: cargo run -p xtask -- CHORE

chores:
  book    write the built-in price book from the data of the crate genai-prices";

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
        Some(other) => bail!("unknown chore `{other}`\n\n{USAGE}"),
        None => bail!("expected a chore\n\n{USAGE}"),
    }
}

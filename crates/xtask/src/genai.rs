//! The price data of the crate `genai-prices` in the local registry.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

pub use tariff::import::genai::*;

/// The version that the built-in book is made from.
pub const VERSION: &str = "0.2.1";
/// When that version was published, as the registry's index says (`pubtime`).
pub const PUBLISHED: &str = "2026-10-30";

/// This package's folder, of the checkout that runs: one that was compiled in could be another's,
/// where checkouts share a target folder.
///
/// # Errors
/// If it was not cargo that started this.
pub(crate) fn manifest_dir() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    folder.map(PathBuf::from).context("run this with `cargo run -p xtask`")
}

/// The data of the crate in the local registry.
///
/// # Errors
/// If cargo does not know the crate in this version.
pub fn read() -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = Command::new("rustc").arg("-vV").output().context("run `rustc -vV`")?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(host.context("`rustc -vV` names no host")?)
        .current_dir(manifest_dir()?)
        .output()
        .context("run `cargo metadata`")?;
    ensure!(
        output.status.success(),
        "`cargo metadata` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        manifest_path: PathBuf,
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let package = metadata.packages.into_iter().find(|package| package.name == "genai-prices");
    let package = package.context("`genai-prices` is no dependency")?;
    ensure!(
        package.version == VERSION,
        "genai-prices is {}, this chore knows {VERSION}: set version and publication date",
        package.version
    );
    let path = package.manifest_path.with_file_name("data").join("prices.json");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

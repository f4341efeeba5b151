//! The price data of the crate `genai-prices` as it is written: numbers stay text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The version that the built-in book is made from.
pub const VERSION: &str = "0.2.1";
/// When that version was published, as the registry's index says (`pubtime`).
pub const PUBLISHED: &str = "2026-10-30";

/// A provider with its models.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Provider<'a> {
    pub id: String,
    pub provider_match: Option<Match>,
    pub model_match: Option<Match>,
    #[serde(default)]
    pub fallback_model_providers: Vec<String>,
    #[serde(borrow)]
    pub models: Vec<Model<'a>>,
}

/// A model with its prices.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Model<'a> {
    pub id: String,
    pub r#match: Match,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(borrow)]
    pub prices: &'a RawValue,
    #[serde(default, borrow)]
    pub price_variants: Vec<Variant<'a>>,
}

/// A rule that matches names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of the data")]
pub enum Match {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(String),
    And(Vec<Match>),
    Or(Vec<Match>),
}

/// Prices by key, each a number or an object with `base` and `tiers`.
pub type Prices<'a> = BTreeMap<String, &'a RawValue>;

/// Prices with when they hold.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Conditional<'a> {
    pub constraint: Option<Constraint>,
    #[serde(borrow)]
    pub prices: Prices<'a>,
}

/// Prices for some requests only, laid over the ordinary ones.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Variant<'a> {
    pub when: BTreeMap<String, String>,
    pub constraint: Option<Constraint>,
    #[serde(borrow)]
    pub prices: Prices<'a>,
}

/// Either a first day or a window of the day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Constraint {
    pub start_date: Option<String>,
    pub start_time: Option<String>,
    pub end_time: Option<String>,
}

/// A price that depends on the size of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Tiered<'a> {
    #[serde(borrow)]
    pub base: &'a RawValue,
    #[serde(borrow)]
    pub tiers: Vec<Tier<'a>>,
}

/// The price above a number of input tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the data")]
pub struct Tier<'a> {
    #[serde(borrow)]
    pub start: &'a RawValue,
    #[serde(borrow)]
    pub price: &'a RawValue,
}

impl<'a> Model<'a> {
    /// The ordinary prices, with their conditions.
    ///
    /// # Errors
    /// If the data has another form.
    pub fn conditional(&self) -> anyhow::Result<Vec<Conditional<'a>>> {
        let text = self.prices.get();
        if text.starts_with('[') {
            return serde_json::from_str(text).context("conditional prices");
        }
        let prices = serde_json::from_str(text).context("prices")?;
        Ok(vec![Conditional { constraint: None, prices }])
    }
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
        .current_dir(env!("CARGO_MANIFEST_DIR"))
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

/// Reads the data.
///
/// # Errors
/// If it has another form than expected.
pub fn parse(text: &str) -> anyhow::Result<Vec<Provider<'_>>> {
    serde_json::from_str(text).context("prices.json")
}

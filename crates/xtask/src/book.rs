//! Writes the built-in price book: the facts of `genai-prices`, one price row a line.

use anyhow::Context;
use tariff::import::Head;

use crate::genai;

/// Where the book is, from the manifest's folder.
const BOOK: &str = "../tariff/book/genai-prices.txt";

/// Writes the book from the data in the local registry.
///
/// # Errors
/// If the data is not there or has something that the book cannot express.
pub fn write() -> anyhow::Result<()> {
    let text = render(&genai::read()?)?;
    let path = genai::manifest_dir()?.join(BOOK);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// The book's text.
///
/// # Errors
/// If the data has something that the book cannot express.
pub fn render(data: &str) -> anyhow::Result<String> {
    let name = format!("genai-prices-{}", genai::VERSION);
    let head = Head { name: &name, as_of: genai::PUBLISHED.parse()? };
    Ok(genai::import(data, head)?.text)
}

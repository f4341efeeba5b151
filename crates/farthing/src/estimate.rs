//! `farthing estimate`: the bill of an idea before any traffic.

use std::time::Duration;

use anyhow::Context;
use report::estimate::EstimateReport;
use tariff::estimate::{Idea, estimate, later};

use crate::bill::book_line;
use crate::config::Config;
use crate::{Place, output};

/// How far ahead changes of prices are looked for.
const AHEAD: Duration = Duration::from_secs(366 * 86_400);

/// The bill of an idea before any traffic, and what each lever would save
///
/// Prices that are known to change within a year, of the model and of those that it is compared with,
/// are told with the bill from then on.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The model: gpt-5-mini, or PROVIDER/MODEL
    #[arg(long)]
    model: String,
    /// Input tokens of an exchange, cached ones included: 2000, 2,000 or 2k
    #[arg(long = "in", value_name = "TOKENS", value_parser = count)]
    input: u32,
    /// Output tokens of an exchange, reasoning included
    #[arg(long = "out", value_name = "TOKENS", value_parser = count)]
    output: u32,
    /// Exchanges a day: 50000, 50,000 or 50k
    #[arg(long, value_name = "COUNT", value_parser = count)]
    per_day: u32,
    /// How much of the input the provider's cache serves: 60%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    cached: u8,
    /// Models to compare with
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    against: Vec<String>,
    /// As JSON; money is an exact decimal text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| format!("expected 0% to 100%, found `{text}`"))
}

/// A count as people write it: `2000`, `2,000`, `2_000`, `2k`, `1.5M`.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let read = || {
        let (number, thousand) = match text.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1_000),
            None => match text.strip_suffix(['M', 'm']) {
                Some(number) => (number, 1_000_000),
                None => (text, 1),
            },
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let whole = ungrouped(whole)?.checked_mul(thousand)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(decimals) || (number.contains('.') && thousand == 1) {
            return None;
        }
        let scale = 10_u64.checked_pow(decimals.len().try_into().ok()?)?;
        let part = decimals.parse::<u64>().ok()?.checked_mul(thousand)?;
        let rest = part.is_multiple_of(scale).then(|| part / scale)?;
        u32::try_from(whole.checked_add(rest)?).ok()
    };
    read().ok_or_else(|| {
        format!("expected a whole count up to {} such as 2000, 2,000, 2k or 1.5M", u32::MAX)
    })
}

/// Digits, in groups of three or not.
fn ungrouped(text: &str) -> Option<u64> {
    let grouped = text.contains([',', '_']);
    let mut groups = text.split([',', '_']);
    let first = groups.next()?;
    let three = groups.clone().all(|group| group.len() == 3);
    let fits = !grouped || (three && (1..=3).contains(&first.len()));
    let digits = text.replace([',', '_'], "");
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| fits && plain)
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.place)?;
    let book = &config.book;
    let now = gateway::Clock::system().now();
    let idea = Idea {
        input: arguments.input,
        output: arguments.output,
        per_day: arguments.per_day,
        cached_percent: arguments.cached,
    };
    let model = book.find(&arguments.model).context("--model")?;
    let others = arguments.against.iter().map(|name| book.find(name).context("--against"));
    let others = others.collect::<anyhow::Result<Vec<_>>>()?;
    let base = estimate(book, &model, now, idea, &others)?;
    let against: Vec<_> = arguments
        .against
        .iter()
        .zip(&others)
        .map(|(name, other)| (name.clone(), estimate(book, other, now, idea, &[])))
        .collect();
    let until = now.plus(AHEAD);
    let models = std::iter::once(&model).chain(&others);
    let changes: Vec<_> = models.flat_map(|model| later(book, model, now, until, idea)).collect();
    let book = book_line(book);
    let report =
        EstimateReport { idea, estimate: &base, against: &against, later: &changes, book: &book };
    output::print(&if arguments.json { report.json() } else { report.text(output::style()) })
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0", 0),
            ("2000", 2_000),
            ("2,000", 2_000),
            ("50_000", 50_000),
            ("2k", 2_000),
            ("2.5K", 2_500),
            ("1,000k", 1_000_000),
            ("1.5M", 1_500_000),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_count_that_could_mean_two_things_is_refused() {
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "2.5",
            "2.",
            ".5k",
            "1.0005k",
            "20,00",
            "2,00k",
            ",000",
            "2,,000",
            "1e3",
            "4294967296",
            "99999999999999999999",
            "5M5",
            "2 000",
        ] {
            assert!(count(text).unwrap_err().contains("such as 2000, 2,000, 2k"), "{text}");
        }
    }
}

//! Price lists of others as price books: JSON whose numbers stay text, never floats.
//!
//! Each reader gives the text of a book, which [`crate::Book::parse`] reads: so that what is imported
//! is a file that people can read and compare. A list is taken whole or not at all; what a book has no
//! place for is left out and counted.
#![expect(clippy::arithmetic_side_effects, reason = "counts and positions within a text in memory")]

pub mod genai;
mod litellm;
mod models_dev;
mod openrouter;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quantity::Day;

use crate::text::without_noise;

pub use litellm::litellm;
pub use models_dev::models_dev;
pub use openrouter::openrouter;

/// What stands at the head of an imported book.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its name: `litellm-1.106.2`.
    pub name: &'a str,
    /// The day of the list.
    pub as_of: Day,
}

/// A list as a book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The book's text.
    pub text: String,
    /// Models in it.
    pub models: usize,
    /// What a book has no place for, with how often it was met.
    pub left_out: BTreeMap<String, usize>,
}

/// A list that cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}, found `{found}`")]
pub struct ImportError {
    /// The model and key, or the place in the text.
    pub at: String,
    /// What was expected there.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl ImportError {
    fn new(at: impl Into<String>, expected: &str, found: &str) -> Self {
        let found = found.chars().take(80).collect();
        Self { at: at.into(), expected: expected.to_owned(), found }
    }

    fn within(self, model: &str) -> Self {
        let at =
            if self.at.is_empty() { model.to_owned() } else { format!("{model}, {}", self.at) };
        Self { at, ..self }
    }

    fn json(error: &serde_json::Error, expected: &str) -> Self {
        let at = format!("line {}, column {}", error.line(), error.column());
        Self::new(at, expected, &error.to_string())
    }
}

/// Prices of one billable: the base and those above thresholds of input tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Steps(BTreeMap<u64, String>);

/// Prices by tier and billable.
type Tiers = BTreeMap<String, BTreeMap<&'static str, Steps>>;

/// A list being read: providers, models, tiers, prices.
struct List<'a> {
    head: Head<'a>,
    licence: &'a str,
    origin: &'a str,
    providers: BTreeMap<String, BTreeMap<String, Tiers>>,
    left_out: BTreeMap<String, usize>,
}

impl<'a> List<'a> {
    fn new(head: Head<'a>, licence: &'a str, origin: &'a str) -> Self {
        Self { head, licence, origin, providers: BTreeMap::new(), left_out: BTreeMap::new() }
    }

    fn leave_out(&mut self, what: impl Into<String>) {
        *self.left_out.entry(what.into()).or_default() += 1;
    }

    /// Takes a model, unless it has no place in a book: names with blanks, no price of tokens, or a
    /// price of nothing, which in these lists is as often one that nobody knew.
    fn model(&mut self, provider: &str, model: &str, mut tiers: Tiers) {
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if !plain(provider) || !plain(model) {
            return self.leave_out("models whose names have blanks");
        }
        let Some(standard) = tiers.get(crate::STANDARD).cloned() else {
            return self.leave_out("models without a price of tokens");
        };
        let free = |prices: &BTreeMap<&str, Steps>| {
            prices.values().flat_map(|steps| steps.0.values()).all(|price| is_zero(price))
        };
        if !standard.contains_key("input_uncached") && !standard.contains_key("output_text") {
            return self.leave_out("models without a price of tokens");
        }
        if free(&standard) {
            return self
                .leave_out("models that cost nothing, as it is said or for want of a price");
        }
        for prices in tiers.values_mut() {
            // A tier has the standard price of what it does not name; but thoughts are output, so that
            // they have the tier's price of that.
            let has_output = prices.contains_key("output_text");
            for (item, steps) in &standard {
                if *item != "reasoning" || !has_output {
                    prices.entry(item).or_insert_with(|| steps.clone());
                }
            }
            for (cached, fresh) in [
                ("cache_read_audio", "input_audio"),
                ("cache_read_image", "input_image"),
                ("cache_read_video", "input_video"),
            ] {
                // Where both could be meant, these lists mean what is cached.
                if let Some(steps) = prices.get("cache_read").cloned()
                    && prices.contains_key(fresh)
                {
                    prices.entry(cached).or_insert(steps);
                }
            }
            // What has a price above a threshold only has none below.
            prices.retain(|_, steps| steps.0.contains_key(&0));
        }
        let models = self.providers.entry(provider.to_owned()).or_default();
        let before = models.insert(model.to_owned(), tiers);
        if before.is_some_and(|before| models.get(model) != Some(&before)) {
            self.leave_out("models that are listed again with other prices, which are taken");
        }
    }

    fn finish(self) -> Imported {
        let Self { head, licence, origin, providers, left_out } = self;
        let total: usize = left_out.values().sum();
        let mut text = format!(
            "# Prices from {origin}, in US dollars per million tokens; facts only.\n\
             # Written by `farthing price import`.\nbook {}\nas_of {}\nlicence {licence}\n\
             origin {origin}\nleft_out {total}\n",
            head.name, head.as_of,
        );
        for (what, count) in &left_out {
            writeln!(text, "#   left out: {count} {what}").expect("a text takes all");
        }
        let mut count = 0;
        for (provider, models) in providers {
            writeln!(text, "\nprovider {provider}").expect("a text takes all");
            for (model, tiers) in models {
                count += 1;
                writeln!(text, "  model {model}").expect("a text takes all");
                for (tier, prices) in tiers {
                    write!(text, "    {tier}").expect("a text takes all");
                    for (item, Steps(steps)) in prices {
                        write!(text, " {item}=").expect("a text takes all");
                        for (threshold, price) in steps {
                            match threshold {
                                0 => write!(text, "{price}"),
                                _ => write!(text, ",{price}>{threshold}"),
                            }
                            .expect("a text takes all");
                        }
                    }
                    text.push('\n');
                }
            }
        }
        Imported { text, models: count, left_out }
    }
}

fn is_zero(price: &str) -> bool {
    price.bytes().all(|b| b == b'0' || b == b'.')
}

/// A JSON number, or a number in a text, times ten to the `power`, as a plain decimal: `2.5e-06` times
/// 10⁶ is `2.5`. The noise of floats is cleaned.
fn scaled(at: &str, text: &str, power: i32) -> Result<String, ImportError> {
    let wrong = || ImportError::new(at, "a price, a number that is not negative", text);
    let bare = text.trim_matches('"');
    let clean = without_noise(bare);
    let bare = clean.as_deref().unwrap_or(bare);
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| wrong())?),
        None => (bare, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let plain = !whole.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // No price has more than forty digits before or behind its point.
    if !plain || exponent.abs() > 40 || digits.len() > 40 {
        return Err(wrong());
    }
    let point = i32::try_from(whole.len()).map_err(|_| wrong())? + exponent + power;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i32::try_from(digits.len()).map_err(|_| wrong())?;
    let padded = format!("{}{digits}{}", zeros(1 - point), zeros(point - length));
    let point = usize::try_from(point.max(1)).map_err(|_| wrong())?;
    let (whole, fraction) = padded.split_at(point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    let text = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    Ok(without_noise(&text).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Book;
    use proptest::prelude::*;

    fn head() -> Head<'static> {
        Head { name: "list-1", as_of: "2026-11-22".parse().unwrap() }
    }

    type Reader = fn(&str, Head<'_>) -> Result<Imported, ImportError>;
    const READERS: [Reader; 4] = [genai::import, litellm, models_dev, openrouter];

    #[test]
    fn decimals_are_shifted_as_text() {
        for (text, power, shifted) in [
            ("2.5e-06", 6, "2.5"),
            ("5e-07", 6, "0.5"),
            ("0.0000025", 6, "2.5"),
            ("\"0.00000125\"", 6, "1.25"),
            ("1", 6, "1000000"),
            ("0", 6, "0"),
            ("0.0", 3, "0"),
            ("1.8000000000000001e-07", 6, "0.18"),
            ("3e-11", 6, "0.00003"),
            ("12.50", 0, "12.5"),
        ] {
            assert_eq!(scaled("here", text, power).unwrap(), shifted, "{text}");
        }
        for text in ["-1e-06", "", "e", "1e99", "null", "\"free\"", ".5", "0x1", "NaN", "--1"] {
            assert!(scaled("here", text, 6).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for reader in READERS {
            for text in ["", "[1]", "{\"a\":", "7", "{\"a\": 1}"] {
                assert!(reader(text, head()).is_err(), "{text}");
            }
        }
    }

    fn value() -> impl Strategy<Value = String> {
        let names = prop::sample::select(vec![
            "input_cost_per_token",
            "output_cost_per_token_flex",
            "cache_read_input_token_cost",
            "input_cost_per_token_above_272k_tokens",
            "litellm_provider",
            "pricing",
            "prompt",
            "id",
            "completion",
            "models",
            "cost",
            "input",
            "output",
            "data",
            "input_audio",
            "a b",
            "x",
            "input_cost_per_token_above_99999999999999999999k_tokens",
        ]);
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("\"openai\"".to_owned()),
            (0_u32..2_000_000).prop_map(|n| format!("{n}e-09")),
            (0_u32..900).prop_map(|n| format!("\"0.0000{n}\"")),
            "-?[0-9]{1,3}",
            Just("[]".to_owned()),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let fields = prop::collection::vec((names.clone(), inner.clone()), 0..5);
            prop_oneof![
                fields.prop_map(|fields| {
                    let fields: Vec<_> =
                        fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
                prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_list_is_a_book_or_an_error(text in value()) {
            for reader in READERS {
                if let Ok(imported) = reader(&text, head()) {
                    let book = Book::parse(&imported.text);
                    prop_assert!(book.is_ok(), "{:?}\n{}", book.err(), imported.text);
                }
            }
        }
    }
}

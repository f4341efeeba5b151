//! OpenRouter's list of models (`/api/v1/models`): decimal texts in US dollars for one token.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Head, ImportError, Imported, List, Tiers, scaled};

const KEYS: &[(&str, &str, i32)] = &[
    ("prompt", "input_uncached", 6),
    ("completion", "output_text", 6),
    ("internal_reasoning", "reasoning", 6),
    ("input_cache_read", "cache_read", 6),
    ("input_cache_write", "cache_write_5m", 6),
    ("audio", "input_audio", 6),
    ("request", "calls", 3),
    ("web_search", "web_searches", 3),
];

#[derive(Deserialize)]
struct Models<'a> {
    #[serde(borrow)]
    data: Vec<Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    id: String,
    #[serde(borrow)]
    pricing: BTreeMap<String, &'a RawValue>,
}

/// Reads the list of models.
///
/// # Errors
/// [`ImportError`] names the model and key, what was expected and what was found.
pub fn openrouter(text: &str, head: Head<'_>) -> Result<Imported, ImportError> {
    let models: Models<'_> = serde_json::from_str(text).map_err(|error| {
        ImportError::json(&error, "an object with `data`, a list of models with `id` and `pricing`")
    })?;
    let mut list = List::new(head, "OpenRouter's", "https://openrouter.ai/api/v1/models");
    for Model { id, pricing } in models.data {
        // A model that only chooses another says -1.
        if pricing.values().any(|value| value.get() == "\"-1\"") {
            list.leave_out("models whose price is that of the one chosen");
            continue;
        }
        let mut tiers = Tiers::new();
        for (key, value) in &pricing {
            let Some((_, item, power)) = KEYS.iter().find(|(known, ..)| known == key) else {
                if !matches!(value.get(), "\"0\"" | "0" | "null" | "[]") {
                    list.leave_out(format!("prices `{key}`"));
                }
                continue;
            };
            let price = scaled(&format!("`{id}`, `pricing.{key}`"), value.get(), *power)?;
            // It writes 0 for what has no price of its own, too.
            if super::is_zero(&price) && !matches!(*item, "input_uncached" | "output_text") {
                continue;
            }
            let prices = tiers.entry(crate::STANDARD.to_owned()).or_default();
            prices.entry(item).or_default().0.insert(0, price);
        }
        list.model("openrouter", &id, tiers);
    }
    Ok(list.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_for_one_token_become_prices_by_the_million() {
        let text = r#"{"data": [
            {"id": "lab/toy", "pricing": {"prompt": "0.0000025", "completion": "0.00001", "request": "0.005",
             "image": "0.001", "input_cache_read": "0.00000025", "internal_reasoning": "0"}},
            {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
            {"id": "lab/toy:free", "pricing": {"prompt": "0", "completion": "0"}}]}"#;
        let head = Head { name: "openrouter", as_of: "2026-11-22".parse().unwrap() };
        let imported = openrouter(text, head).unwrap();
        let rows: Vec<_> = imported.text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(
            rows,
            [
                "  model lab/toy",
                "    standard cache_read=0.25 calls=5 input_uncached=2.5 output_text=10",
            ]
        );
        assert_eq!(imported.left_out.len(), 3);
    }
}

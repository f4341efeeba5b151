//! The list of models.dev (`api.json`): providers, their models, each with its cost per million tokens.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Head, ImportError, Imported, List, Tiers, scaled};

const KEYS: &[(&str, &str)] = &[
    ("input", "input_uncached"),
    ("output", "output_text"),
    ("reasoning", "reasoning"),
    ("cache_read", "cache_read"),
    ("cache_write", "cache_write_5m"),
    ("input_audio", "input_audio"),
    ("output_audio", "output_audio"),
];

/// Its names of providers, as the built-in book has them.
const PROVIDERS: &[(&str, &str)] = &[
    ("xai", "x-ai"),
    ("togetherai", "together"),
    ("fireworks-ai", "fireworks"),
    ("amazon-bedrock", "aws"),
];

#[derive(Deserialize)]
struct Provider<'a> {
    #[serde(borrow)]
    models: BTreeMap<String, Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, default)]
    cost: BTreeMap<String, &'a RawValue>,
}

/// Reads `api.json`.
///
/// # Errors
/// [`ImportError`] names the model and key, what was expected and what was found.
pub fn models_dev(text: &str, head: Head<'_>) -> Result<Imported, ImportError> {
    let providers: BTreeMap<String, Provider<'_>> =
        serde_json::from_str(text).map_err(|error| {
            ImportError::json(&error, "an object of providers, each with an object of models")
        })?;
    let mut list = List::new(head, "MIT", "https://models.dev");
    for (provider, Provider { models }) in providers {
        let known = PROVIDERS.iter().find(|(theirs, _)| *theirs == provider);
        let ours = known.map_or(provider.as_str(), |(_, ours)| ours);
        for (model, Model { cost }) in models {
            let mut tiers = Tiers::new();
            for (key, value) in cost {
                // `context_over_200k` is an object with the same keys.
                let over = key.strip_prefix("context_over_").and_then(|k| k.strip_suffix('k'));
                let threshold = over.and_then(|k| k.parse::<u64>().ok()?.checked_mul(1_000));
                let nested: BTreeMap<String, &RawValue> = match threshold {
                    Some(_) => serde_json::from_str(value.get()).map_err(|_| {
                        let at = format!("`{provider}/{model}`, `cost.{key}`");
                        ImportError::new(at, "an object of prices", value.get())
                    })?,
                    None => BTreeMap::from([(key.clone(), value)]),
                };
                for (name, value) in nested {
                    let Some((_, item)) = KEYS.iter().find(|(known, _)| *known == name) else {
                        list.leave_out(format!("prices `{name}`"));
                        continue;
                    };
                    let at = format!("`{provider}/{model}`, `cost.{key}`");
                    let price = scaled(&at, value.get(), 0)?;
                    let prices = tiers.entry(crate::STANDARD.to_owned()).or_default();
                    prices.entry(item).or_default().0.insert(threshold.unwrap_or(0), price);
                }
            }
            list.model(ours, &model, tiers);
        }
    }
    Ok(list.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_by_the_million_are_taken_with_their_thresholds() {
        let text = r#"{"xai": {"id": "xai", "models": {
            "toy": {"id": "toy", "cost": {"input": 1.25, "output": 10, "cache_read": 0.125,
                    "context_over_200k": {"input": 2.5, "output": 15}}},
            "free": {"cost": {"input": 0, "output": 0}}, "none": {}}}}"#;
        let head = Head { name: "models-dev", as_of: "2026-11-22".parse().unwrap() };
        let imported = models_dev(text, head).unwrap();
        let rows: Vec<_> = imported.text.lines().filter(|line| line.starts_with("    ")).collect();
        assert_eq!(
            rows,
            [
                "    standard cache_read=0.125 input_uncached=1.25,2.5>200000 output_text=10,15>200000"
            ]
        );
        assert_eq!(imported.left_out.values().sum::<usize>(), 2);
        let bad = text.replace("1.25,", "\"much\",");
        assert_eq!(
            models_dev(&bad, head).unwrap_err().to_string(),
            "`xai/toy`, `cost.input`: expected a price, a number that is not negative, found `\"much\"`"
        );
    }
}

//! LiteLLM's map of prices: an object of models, each flat, with suffixes for tiers and thresholds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Head, ImportError, Imported, List, Steps, Tiers, scaled};
use crate::row::window_text;
use crate::window::{Daily, Days, Window};

/// Its names of providers, as the built-in book has them.
const PROVIDERS: &[(&str, &str)] = &[
    ("gemini", "google"),
    ("xai", "x-ai"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("moonshot", "moonshotai"),
    ("voyage", "voyageai"),
    ("bedrock", "aws"),
    ("bedrock_converse", "aws"),
    ("github_copilot", "github-copilot"),
];

/// Its keys with ours, and the power of ten from one to the amount that ours is quoted for.
const KEYS: &[(&str, &str, i32)] = &[
    ("input_cost_per_token", "input_uncached", 6),
    ("output_cost_per_token", "output_text", 6),
    ("cache_read_input_token_cost", "cache_read", 6),
    ("cache_creation_input_token_cost", "cache_write_5m", 6),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h", 6),
    ("output_cost_per_reasoning_token", "reasoning", 6),
    ("input_cost_per_audio_token", "input_audio", 6),
    ("input_cost_per_image_token", "input_image", 6),
    ("input_cost_per_video_token", "input_video", 6),
    ("cache_read_input_audio_token_cost", "cache_read_audio", 6),
    ("cache_read_input_image_token_cost", "cache_read_image", 6),
    ("output_cost_per_audio_token", "output_audio", 6),
    ("output_cost_per_image_token", "output_image", 6),
    ("output_cost_per_video_token", "output_video", 6),
    ("input_cost_per_character", "characters", 6),
    ("input_cost_per_request", "calls", 3),
    ("ocr_cost_per_page", "pages", 3),
];

const TIERS: &[(&str, &str)] = &[
    ("_batches", "batch"),
    ("_flex", "flex"),
    ("_priority", "priority"),
    ("_ultrafast", "ultrafast"),
    ("_balanced", "balanced"),
];

/// The tier, threshold and item of a key; `None` for one that a book has no place for.
fn meaning(key: &str) -> Option<(&'static str, u64, &'static str, i32)> {
    let tier = TIERS.iter().find_map(|(suffix, tier)| Some((key.strip_suffix(suffix)?, *tier)));
    let (key, tier) = tier.unwrap_or((key, crate::STANDARD));
    let (key, threshold) =
        match key.strip_suffix("k_tokens").and_then(|key| key.rsplit_once("_above_")) {
            Some((key, thousands)) => (key, thousands.parse::<u64>().ok()?.checked_mul(1_000)?),
            None => (key, 0),
        };
    let (_, item, power) = KEYS.iter().find(|(known, ..)| *known == key)?;
    Some((tier, threshold, item, *power))
}

/// Reads the map `model_prices_and_context_window.json`.
///
/// # Errors
/// [`ImportError`] names the model and key, what was expected and what was found.
pub fn litellm(text: &str, head: Head<'_>) -> Result<Imported, ImportError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Model<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);
    let models: BTreeMap<String, Model<'_>> = serde_json::from_str(text).map_err(|error| {
        ImportError::json(&error, "an object of models, each an object of prices")
    })?;
    let mut list = List::new(head, "MIT", "https://github.com/BerriAI/litellm");
    for (name, Model(fields)) in models {
        if name == "sample_spec" {
            continue;
        }
        let provider =
            fields.get("litellm_provider").map_or("", |text| text.get().trim_matches('"'));
        let mut tiers = Tiers::new();
        for (key, value) in &fields {
            if key == "off_peak_pricing"
                && let Some((windows, prices)) = off_peak(&name, value)?
            {
                // A row of the book is named by its tier and what follows it.
                for window in windows {
                    let row = format!("{}{}", crate::STANDARD, window_text(&window));
                    tiers.insert(row, prices.clone());
                }
                continue;
            }
            if !key.contains("cost") && !key.contains("pricing") || value.get() == "null" {
                continue;
            }
            let Some((tier, threshold, item, power)) = meaning(key) else {
                list.leave_out(format!("prices `{key}`"));
                continue;
            };
            let price = scaled(&format!("`{name}`, `{key}`"), value.get(), power)?;
            let prices = tiers.entry(tier.to_owned()).or_default();
            prices.entry(item).or_default().0.insert(threshold, price);
        }
        let known = PROVIDERS.iter().find(|(theirs, _)| *theirs == provider);
        let ours = known.map_or(provider, |(_, ours)| ours);
        // `groq/llama-3` is the model `llama-3` of groq.
        let model = name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
        list.model(ours, model.unwrap_or(&name), tiers);
    }
    Ok(list.finish())
}

type OffPeak = (Vec<Window>, BTreeMap<&'static str, Steps>);

/// Windows of the week, and the prices that take the place of the standard ones in them; `None` for
/// what a book cannot say, such as hours of UTC on days of another place, or two windows for one hour.
fn off_peak(name: &str, value: &RawValue) -> Result<Option<OffPeak>, ImportError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Hours {
        One(String),
        Several(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Rule {
        hours_utc: Hours,
        weekdays: Option<Vec<usize>>,
    }
    let Ok(mut block) = serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()) else {
        return Ok(None);
    };
    let rules = block.remove("windows").map_or("[]", RawValue::get);
    let Ok(mut rules) = serde_json::from_str::<Vec<Rule>>(rules) else { return Ok(None) };
    if let Some(hours) = block.remove("hours_utc") {
        let Ok(hours_utc) = serde_json::from_str(hours.get()) else { return Ok(None) };
        rules.push(Rule { hours_utc, weekdays: None });
    }
    let mut prices = BTreeMap::<_, Steps>::new();
    for (key, value) in block {
        let Some((crate::STANDARD, 0, item, power)) = meaning(&key) else { return Ok(None) };
        let price = scaled(&format!("`{name}`, `off_peak_pricing`, `{key}`"), value.get(), power)?;
        prices.entry(item).or_default().0.insert(0, price);
    }
    let mut windows = Vec::new();
    for Rule { hours_utc, weekdays } in rules {
        let hours = match hours_utc {
            Hours::One(hours) => vec![hours],
            Hours::Several(hours) => hours,
        };
        for hours in hours {
            let Some(parts) = window(&hours, weekdays.as_deref()) else { return Ok(None) };
            if windows.iter().any(|one: &Window| parts.iter().any(|part| one.meets(part))) {
                return Ok(None);
            }
            windows.extend(parts);
        }
    }
    Ok((!windows.is_empty() && !prices.is_empty()).then_some((windows, prices)))
}

/// `16:30-00:30` on days from 1, Monday: a window past midnight is two, for the days are those of the
/// instant and not those on which it begins.
fn window(hours: &str, weekdays: Option<&[usize]>) -> Option<Vec<Window>> {
    const MIDNIGHT: &str = "00:00";
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let days = match weekdays {
        None => None,
        Some(days) => {
            let name = |day: &usize| NAMES.get(day.checked_sub(1)?).copied();
            let names: Option<Vec<_>> = days.iter().map(name).collect();
            Some(Days::parse(&names?.join(","))?)
        }
    };
    let daily = |start: &str, end: &str| {
        let daily = Daily::parse(&format!("{start}:00-{end}:00"))?;
        Some(Window { daily: Some(daily), days, zone: None })
    };
    let (start, end) = hours.split_once('-')?;
    match (start.trim(), end.trim()) {
        // All day long: without days it would be no window.
        (start, end) if start == end => {
            days.map(|days| vec![Window { days: Some(days), ..Window::default() }])
        }
        (start, end) if start < end || end == MIDNIGHT => Some(vec![daily(start, end)?]),
        (start, end) => Some(vec![daily(start, MIDNIGHT)?, daily(MIDNIGHT, end)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Book, Key};
    use quantity::{TokenClass, TokenCount, Usage};

    const MAP: &str = r#"{
      "sample_spec": {"input_cost_per_token": 0},
      "toy-1": {
        "litellm_provider": "openai", "mode": "chat", "max_tokens": 9,
        "input_cost_per_token": 5e-06, "output_cost_per_token": 3.0000000000000004e-05,
        "cache_read_input_token_cost": 5e-07, "input_cost_per_audio_token": 1e-05,
        "cache_creation_input_token_cost_above_1hr": 1e-05,
        "input_cost_per_token_above_272k_tokens": 1e-05,
        "input_cost_per_token_batches": 2.5e-06, "output_cost_per_token_batches": 1.5e-05,
        "output_cost_per_reasoning_token": 3e-05,
        "input_cost_per_token_above_272k_tokens_batches": 5e-06,
        "off_peak_pricing": {"a": 1}
      },
      "openai/toy-1b": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
      "toy-1b": {"litellm_provider": "openai", "input_cost_per_token": 2e-06},
      "gemini/toy-2": {"litellm_provider": "gemini", "input_cost_per_token": "1e-07", "output_cost_per_token": 4e-07},
      "toy-3": {"litellm_provider": "openai", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
      "toy-4": {"litellm_provider": "openai", "output_cost_per_image": 0.04},
      "toy five": {"litellm_provider": "openai", "input_cost_per_token": 1e-06}
    }"#;

    fn head() -> Head<'static> {
        Head { name: "litellm-1", as_of: "2026-11-22".parse().unwrap() }
    }

    #[test]
    fn suffixes_are_tiers_and_thresholds() {
        let imported = litellm(MAP, head()).unwrap();
        assert_eq!(imported.models, 3);
        let rows: Vec<_> = imported.text.lines().filter(|line| line.starts_with("    ")).collect();
        assert_eq!(
            rows,
            [
                "    standard input_uncached=0.1 output_text=0.4",
                "    batch cache_read=0.5 cache_read_audio=0.5 cache_write_1h=10 input_audio=10 \
                 input_uncached=2.5,5>272000 output_text=15",
                "    standard cache_read=0.5 cache_read_audio=0.5 cache_write_1h=10 input_audio=10 \
                 input_uncached=5,10>272000 output_text=30 reasoning=30",
                "    standard input_uncached=2",
            ]
        );
        let left_out: Vec<_> =
            imported.left_out.iter().map(|(what, n)| format!("{n} {what}")).collect();
        assert_eq!(
            left_out,
            [
                "1 models that are listed again with other prices, which are taken",
                "1 models that cost nothing, as it is said or for want of a price",
                "1 models whose names have blanks",
                "1 models without a price of tokens",
                "1 prices `off_peak_pricing`",
                "1 prices `output_cost_per_image`",
            ]
        );
        let book = Book::parse(&imported.text).unwrap();
        let mut used = Usage::default();
        used.tokens[TokenClass::InputUncached] = TokenCount::from(300_000);
        let key = Key::new("google", "toy-2", "2026-11-23".parse().unwrap());
        assert_eq!(book.charge(&key, &used).unwrap().1.total.to_string(), "0.03");
        let key = Key::new("openai", "toy-1", key.at).on(Some("batch"));
        assert_eq!(book.charge(&key, &used).unwrap().1.total.to_string(), "1.5");
    }

    #[test]
    fn a_bad_price_is_named_and_nothing_is_taken() {
        let bad = MAP.replace("2.5e-06", "-2.5e-06");
        assert_eq!(
            litellm(&bad, head()).unwrap_err().to_string(),
            "`toy-1`, `input_cost_per_token_batches`: expected a price, a number that is not negative, \
             found `-2.5e-06`"
        );
    }

    #[test]
    fn off_peak_prices_hold_in_their_hours_on_their_days() {
        let map = r#"{"toy": {"litellm_provider": "deepseek",
          "input_cost_per_token": 3e-07, "output_cost_per_token": 1.2e-06, "input_cost_per_token_flex": 1e-07,
          "off_peak_pricing": {"input_cost_per_token": 1.5e-07, "windows": [
            {"hours_utc": ["00:00-01:00", "04:00-06:00", "22:00-03:00"], "weekdays": [1, 2, 3, 4, 5]},
            {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}]}}}"#;
        let overlapping = litellm(map, head()).unwrap();
        assert_eq!(overlapping.left_out["prices `off_peak_pricing`"], 1);
        let map = map.replace("00:00-01:00\", \"04", "04");
        let imported = litellm(&map, head()).unwrap();
        assert!(imported.left_out.is_empty(), "{:?}", imported.left_out);
        let book = Book::parse(&imported.text).unwrap();
        let mut used = Usage::default();
        used.tokens[TokenClass::InputUncached] = TokenCount::from(1_000_000);
        used.tokens[TokenClass::OutputText] = TokenCount::from(1_000_000);
        // 2026-11-20 is a Friday.
        for (time, tier, dollars) in [
            ("2026-11-20T03:59:59Z", None, "1.5"),
            ("2026-11-20T04:00:00Z", None, "1.35"),
            ("2026-11-20T04:00:00Z", Some("flex"), "1.3"),
            ("2026-11-20T21:59:59Z", None, "1.5"),
            ("2026-11-20T22:00:00Z", None, "1.35"),
            ("2026-11-21T08:00:00Z", None, "1.35"),
            ("2026-11-22T23:59:59Z", None, "1.35"),
            ("2026-11-23T02:59:59Z", None, "1.35"),
            ("2026-11-23T03:00:00Z", None, "1.5"),
        ] {
            let key = Key::new("deepseek", "toy", time.parse().unwrap()).on(tier);
            let charge = book.charge(&key, &used).unwrap().1;
            assert_eq!(charge.total.to_string(), dollars, "{time} {tier:?}");
        }
        // Days of another place than the hours have no place in a book.
        let elsewhere =
            map.replace("\"windows\"", "\"weekday_timezone\": \"Asia/Shanghai\", \"windows\"");
        let imported = litellm(&elsewhere, head()).unwrap();
        assert_eq!(imported.left_out["prices `off_peak_pricing`"], 1);
    }
}

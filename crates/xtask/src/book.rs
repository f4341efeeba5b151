//! Writes the built-in price book: the facts of `genai-prices`, one price row a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::value::RawValue;

use crate::genai::{self, Conditional, Constraint, Match, Prices, Tiered, Variant};

/// Where the book is, from the manifest's folder.
const BOOK: &str = "../tariff/book/genai-prices.txt";

/// Writes the book from the data in the local registry.
///
/// # Errors
/// If the data is not there or has something that the book cannot express.
pub fn write() -> anyhow::Result<()> {
    let text = render(&genai::read()?)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(BOOK);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Keys of the data with their names in the book, in the book's order; of two for one name the later
/// is the more specific and wins. Units that no usage counts are not here.
const KEYS: &[(&str, &str)] = &[
    ("input_mtok", "input_uncached"),
    ("cache_read_mtok", "cache_read"),
    ("cache_write_mtok", "cache_write_5m"),
    ("cache_write_1h_mtok", "cache_write_1h"),
    ("output_mtok", "output_text"),
    ("output_reasoning_mtok", "reasoning"),
    ("input_audio_mtok", "input_audio"),
    ("input_image_mtok", "input_image"),
    ("input_video_mtok", "input_video"),
    ("cache_audio_read_mtok", "cache_read_audio"),
    ("cache_image_read_mtok", "cache_read_image"),
    ("cache_video_read_mtok", "cache_read_video"),
    ("output_audio_mtok", "output_audio"),
    ("output_image_mtok", "output_image"),
    ("output_video_mtok", "output_video"),
    ("requests_kcount", "calls"),
    ("web_searches_kcount", "web_searches"),
    ("storage_searches_kcount", "file_searches"),
    ("audio_hours", "audio_seconds"),
    ("input_audio_hours", "audio_seconds"),
    ("input_mchars", "characters"),
    ("input_document_kpages", "pages"),
];

/// The key of the data as the name in the book; `None` for units that no usage counts.
#[must_use]
pub fn billable(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, name)| *name)
}

/// The tier of a variant's condition; `None` for conditions that are no tier.
#[must_use]
pub fn tier(when: &BTreeMap<String, String>) -> Option<&str> {
    let mut conditions = when.iter();
    let (Some((key, value)), None) = (conditions.next(), conditions.next()) else { return None };
    match (key.as_str(), value.as_str()) {
        ("processing", "batch") => Some("batch"),
        ("service_tier", "default") => Some("standard"),
        ("service_tier", tier) => Some(tier),
        _ => None,
    }
}

/// The book's text.
///
/// # Errors
/// If the data has something that the book cannot express.
pub fn render(data: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    let mut left_out = BTreeMap::new();
    for provider in &genai::parse(data)? {
        writeln!(body, "\nprovider {}", name(&provider.id)?)?;
        if let Some(rule) = &provider.provider_match {
            writeln!(body, "  called {}", rule_text(rule)?)?;
        }
        if let Some(rule) = &provider.model_match {
            writeln!(body, "  serves {}", rule_text(rule)?)?;
        }
        if !provider.fallback_model_providers.is_empty() {
            writeln!(body, "  borrows {}", provider.fallback_model_providers.join(" "))?;
        }
        for model in &provider.models {
            let context = || format!("{}/{}", provider.id, model.id);
            let rule = rule_text(&model.r#match).with_context(context)?;
            write!(body, "  model {}", name(&model.id)?)?;
            if rule.to_lowercase() != format!("={}", model.id.to_lowercase()) {
                write!(body, " : {rule}")?;
            }
            body.push('\n');
            if model.deprecated {
                body.push_str("    deprecated\n");
            }
            write_rows(&mut body, model, &mut left_out).with_context(context)?;
        }
    }
    let total: usize = left_out.values().sum();
    let listed: Vec<_> = left_out.iter().map(|(what, n)| format!("#   {n} {what}")).collect();
    Ok(format!(
        "# Prices that {VERSION_NOTE}\n\
         # Written by `cargo run -p xtask -- book`; do not edit.\n\
         #\n\
         # A price is in US dollars per million tokens or characters, per thousand calls, searches or\n\
         # pages, per hour of audio; `2.5,5>272000` is 2.5, and 5 for exchanges above 272,000 input tokens.\n\
         # A row holds from its date on (UTC), the later one winning; a `daily` one in its window.\n\
         # Names match by `=` equal, `^` begins, `$` ends, `*` contains, `~` shape (`#` a digit), `!` not.\n\
         # Left out, as no usage counts them or they are no tier:\n{}\n\
         book genai-prices-{}\n\
         as_of {}\n\
         licence MIT, see genai-prices.LICENSE\n\
         origin https://github.com/pydantic/genai-prices\n\
         left_out {total}\n{body}",
        listed.join("\n"),
        genai::VERSION,
        genai::PUBLISHED,
    ))
}

const VERSION_NOTE: &str =
    "the crate genai-prices collected, with its rules for names; facts only.";

fn name(name: &str) -> anyhow::Result<&str> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    ensure!(plain, "the name `{name}` has blanks or signs that the book cannot hold");
    Ok(name)
}

fn write_rows(
    body: &mut String,
    model: &genai::Model<'_>,
    left_out: &mut BTreeMap<String, usize>,
) -> anyhow::Result<()> {
    let ordinary = model.conditional()?;
    check_order(&ordinary)?;
    for row in &ordinary {
        let when = match &row.constraint {
            None => String::new(),
            Some(Constraint { start_date: Some(date), start_time: None, end_time: None }) => {
                format!(" from={date}")
            }
            Some(Constraint { start_date: None, start_time: Some(from), end_time: Some(to) }) => {
                format!(" daily={}-{}", utc(from)?, utc(to)?)
            }
            Some(other) => bail!("unknown constraint {other:?}"),
        };
        writeln!(body, "    standard{when}{}", prices_text(&row.prices)?)?;
    }
    let variants = model.price_variants.iter();
    for prices in ordinary.iter().map(|row| &row.prices).chain(variants.map(|v| &v.prices)) {
        for key in prices.keys().filter(|key| billable(key).is_none()) {
            *left_out.entry(format!("prices `{key}`")).or_default() += 1;
        }
    }
    let mut tiers = BTreeMap::<&str, Vec<&Variant<'_>>>::new();
    for variant in &model.price_variants {
        match tier(&variant.when) {
            Some("standard") => ensure!(variant.prices.is_empty(), "two standard prices"),
            Some(tier) => tiers.entry(tier).or_default().push(variant),
            None => *left_out.entry(format!("conditions {:?}", variant.when)).or_default() += 1,
        }
    }
    tiers.iter().try_for_each(|(tier, variants)| write_tier(body, tier, variants, &ordinary))
}

/// A tier's rows: at each date when something changes, its prices laid over the ordinary ones.
fn write_tier(
    body: &mut String,
    tier: &str,
    variants: &[&Variant<'_>],
    ordinary: &[Conditional<'_>],
) -> anyhow::Result<()> {
    let date = |constraint: &Option<Constraint>| match constraint {
        None => Ok(None),
        Some(Constraint { start_date: Some(date), start_time: None, end_time: None }) => {
            Ok(Some(date.clone()))
        }
        Some(other) => bail!("tier `{tier}`: constraint {other:?} cannot be laid over others"),
    };
    let mut dates = BTreeSet::new();
    for constraint in
        variants.iter().map(|v| &v.constraint).chain(ordinary.iter().map(|row| &row.constraint))
    {
        dates.insert(date(constraint)?);
    }
    for day in dates {
        // `None` sorts before every date, and a date before later ones, as text does.
        let active = |constraint: &Option<Constraint>| anyhow::Ok(date(constraint)? <= day);
        let mut prices = Prices::new();
        let mut offered = false;
        for variant in variants {
            if active(&variant.constraint)? {
                offered = true;
                for (key, price) in &variant.prices {
                    prices.entry(key.clone()).or_insert(price);
                }
            }
        }
        if !offered {
            continue;
        }
        let mut base = None;
        for row in ordinary {
            if active(&row.constraint)? {
                base = Some(&row.prices);
            }
        }
        for (key, price) in base.context("no ordinary price")? {
            prices.entry(key.clone()).or_insert(price);
        }
        let when = day.map(|day| format!(" from={day}")).unwrap_or_default();
        writeln!(body, "    {tier}{when}{}", prices_text(&prices)?)?;
    }
    Ok(())
}

/// The data's last match wins; the book says that windows beat dates and later dates earlier ones.
fn check_order(rows: &[Conditional<'_>]) -> anyhow::Result<()> {
    let rank = |row: &Conditional<'_>| {
        let constraint = row.constraint.as_ref();
        let windowed = constraint.is_some_and(|constraint| constraint.start_time.is_some());
        (windowed, constraint.and_then(|constraint| constraint.start_date.clone()))
    };
    ensure!(rows.iter().is_sorted_by_key(rank), "prices are not in the order of their dates");
    ensure!(
        rows.first().is_some_and(|row| row.constraint.is_none()),
        "the first price has a condition"
    );
    Ok(())
}

fn utc(time: &str) -> anyhow::Result<&str> {
    time.strip_suffix('Z').with_context(|| format!("`{time}` is not in UTC"))
}

fn prices_text(prices: &Prices<'_>) -> anyhow::Result<String> {
    let mut named = Vec::<(&str, &RawValue)>::new();
    for (key, name) in KEYS {
        if let Some(price) = prices.get(*key) {
            named.retain(|(other, _)| other != name);
            named.push((name, price));
        }
    }
    let mut text = String::new();
    for (name, price) in named {
        write!(text, " {name}={}", price_text(price)?)?;
    }
    Ok(text)
}

fn price_text(price: &RawValue) -> anyhow::Result<String> {
    let clean = |text: &str| tariff::without_noise(text).unwrap_or_else(|| text.to_owned());
    let text = price.get();
    if !text.starts_with('{') {
        return Ok(clean(text));
    }
    let tiered: Tiered<'_> = serde_json::from_str(text)?;
    let mut text = clean(tiered.base.get());
    for tier in &tiered.tiers {
        write!(text, ",{}>{}", clean(tier.price.get()), tier.start.get())?;
    }
    Ok(text)
}

fn rule_text(rule: &Match) -> anyhow::Result<String> {
    let alternatives = alternatives(rule)?;
    let texts: Vec<_> = alternatives.iter().map(|terms| terms.join(" & ")).collect();
    Ok(texts.join(" | "))
}

/// A rule as alternatives of conditions.
fn alternatives(rule: &Match) -> anyhow::Result<Vec<Vec<String>>> {
    let one =
        |operator: char, text: &str| anyhow::Ok(vec![vec![format!("{operator}{}", name(text)?)]]);
    match rule {
        Match::Equals(text) => one('=', text),
        Match::StartsWith(text) => one('^', text),
        Match::EndsWith(text) => one('$', text),
        Match::Contains(text) => one('*', text),
        Match::Regex(regex) => from_regex(regex),
        Match::Or(rules) => {
            let each = rules.iter().map(alternatives).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(each.concat())
        }
        Match::And(rules) => rules.iter().try_fold(vec![vec![]], |all, rule| {
            let more = alternatives(rule)?;
            let joined = |terms: &Vec<String>| {
                let with = |other: &Vec<String>| [terms.as_slice(), other].concat();
                more.iter().map(with).collect::<Vec<_>>()
            };
            Ok(all.iter().flat_map(joined).collect())
        }),
    }
}

const NO_SPEECH: &str = r"^(?!.*-[tT][tT][sS](?:$|-))";
const MISTRAL: &str = r"^(?![^/]+/)(?:labs-)?(?:(?:mi|code|dev|magi|mini)stral|mixtral|pixtral|voxtral|open-(?:mistral|mixtral))";

/// The few forms of regular expression that the data uses, without one; any other is an error. Two
/// that look ahead are written out by hand.
fn from_regex(regex: &str) -> anyhow::Result<Vec<Vec<String>>> {
    if regex == NO_SPEECH {
        return Ok(vec![vec!["!*-tts-".to_owned(), "!$-tts".to_owned()]]);
    }
    if regex == MISTRAL {
        let families = [
            "mistral",
            "codestral",
            "devstral",
            "magistral",
            "ministral",
            "mixtral",
            "pixtral",
            "voxtral",
            "open-mistral",
            "open-mixtral",
        ];
        let begins = families.iter().flat_map(|one| [format!("^{one}"), format!("^labs-{one}")]);
        return Ok(begins.map(|begin| vec![begin, "!*/".to_owned()]).collect());
    }
    let unknown = || format!("the book cannot express the regular expression `{regex}`");
    let body = regex.strip_prefix('^').with_context(unknown)?;
    let (mut rest, whole) = match body.strip_suffix('$') {
        Some(body) => (body, true),
        None => (body, false),
    };
    let mut shapes = vec![String::new()];
    while let Some(first) = rest.chars().next() {
        let (choices, used): (String, usize) = if let Some(after) = rest.strip_prefix(r"\d") {
            let count = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            match count {
                Some((count, _)) => ("#".repeat(count.parse()?), 4 + count.len()),
                None => ("#".to_owned(), 2),
            }
        } else if let Some(after) = rest.strip_prefix('\\') {
            let escaped = after.chars().next().filter(|c| ".[]".contains(*c));
            (escaped.with_context(unknown)?.to_string(), 2)
        } else if let Some(after) = rest.strip_prefix('[') {
            let (set, _) = after.split_once(']').with_context(unknown)?;
            let plain = |c: char| c.is_ascii_digit() || "-@".contains(c);
            ensure!(set.chars().all(plain), unknown());
            let each =
                shapes.iter().flat_map(|shape| set.chars().map(move |c| format!("{shape}{c}")));
            shapes = each.collect();
            rest = &rest[set.len() + 2..];
            continue;
        } else {
            ensure!(first.is_ascii_alphanumeric() || "-/=@_".contains(first), unknown());
            (first.to_string(), 1)
        };
        shapes.iter_mut().for_each(|shape| shape.push_str(&choices));
        rest = &rest[used..];
    }
    let rules = shapes.into_iter().map(|shape| {
        vec![match (shape.contains('#'), whole) {
            (false, true) => format!("={shape}"),
            (false, false) => format!("^{shape}"),
            (true, true) => format!("~{shape}"),
            (true, false) => format!("~{shape}*"),
        }]
    });
    Ok(rules.collect())
}

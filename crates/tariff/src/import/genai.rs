//! The price data of `genai-prices`: JSON whose numbers stay text, with its rules for names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Head, ImportError, Imported};
use crate::text::without_noise;

type Result<T> = std::result::Result<T, ImportError>;

/// Reads `prices.json` of genai-prices.
///
/// # Errors
/// [`ImportError`] names the model, what was expected and what was found.
pub fn import(text: &str, head: Head<'_>) -> Result<Imported> {
    let mut body = String::new();
    let mut left_out = BTreeMap::new();
    let mut models = 0;
    let put = "a text takes all";
    for provider in &parse(text)? {
        writeln!(body, "\nprovider {}", name(&provider.id)?).expect(put);
        if let Some(rule) = &provider.provider_match {
            writeln!(body, "  called {}", rule_text(rule)?).expect(put);
        }
        if let Some(rule) = &provider.model_match {
            writeln!(body, "  serves {}", rule_text(rule)?).expect(put);
        }
        if !provider.fallback_model_providers.is_empty() {
            writeln!(body, "  borrows {}", provider.fallback_model_providers.join(" ")).expect(put);
        }
        for model in &provider.models {
            let within =
                |error: ImportError| error.within(&format!("`{}/{}`", provider.id, model.id));
            let rule = rule_text(&model.r#match).map_err(within)?;
            write!(body, "  model {}", name(&model.id)?).expect(put);
            if rule.to_lowercase() != format!("={}", model.id.to_lowercase()) {
                write!(body, " : {rule}").expect(put);
            }
            body.push('\n');
            if model.deprecated {
                body.push_str("    deprecated\n");
            }
            write_rows(&mut body, model, &mut left_out).map_err(within)?;
            models += 1;
        }
    }
    let total: usize = left_out.values().sum();
    let listed: Vec<_> = left_out.iter().map(|(what, n)| format!("#   {n} {what}")).collect();
    let text = format!(
        "# Prices that genai-prices collected, with its rules for names; facts only.\n\
         # Written by a program; do not edit.\n\
         #\n\
         # A price is in US dollars per million tokens or characters, per thousand calls, searches or\n\
         # pages, per hour of audio; `2.5,5>272000` is 2.5, and 5 for exchanges above 272,000 input tokens.\n\
         # A row holds from its date on (UTC), the later one winning; a `daily` one in its window.\n\
         # Names match by `=` equal, `^` begins, `$` ends, `*` contains, `~` shape (`#` a digit), `!` not.\n\
         # Left out, as no usage counts them or they are no tier:\n{}\n\
         book {}\n\
         as_of {}\n\
         licence MIT, see genai-prices.LICENSE\n\
         origin https://github.com/pydantic/genai-prices\n\
         left_out {total}\n{body}",
        listed.join("\n"),
        head.name,
        head.as_of,
    );
    Ok(Imported { text, models, left_out })
}

/// Reads the data.
///
/// # Errors
/// If it has another form than expected.
pub fn parse(text: &str) -> Result<Vec<Provider<'_>>> {
    serde_json::from_str(text)
        .map_err(|error| ImportError::json(&error, "a list of providers with their models"))
}

fn wrong(expected: impl Into<String>, found: &str) -> ImportError {
    ImportError::new("", &expected.into(), found)
}

fn name(name: &str) -> Result<&str> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if plain {
        Ok(name)
    } else {
        Err(wrong("a name without blanks or signs that a book cannot hold", name))
    }
}

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
    pub fn conditional(&self) -> Result<Vec<Conditional<'a>>> {
        let text = self.prices.get();
        if text.starts_with('[') {
            return serde_json::from_str(text)
                .map_err(|error| ImportError::json(&error, "prices with conditions"));
        }
        let prices =
            serde_json::from_str(text).map_err(|error| ImportError::json(&error, "prices"))?;
        Ok(vec![Conditional { constraint: None, prices }])
    }
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

fn write_rows(
    body: &mut String,
    model: &Model<'_>,
    left_out: &mut BTreeMap<String, usize>,
) -> Result<()> {
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
            Some(other) => {
                return Err(wrong("a date or a window of the day", &format!("{other:?}")));
            }
        };
        writeln!(body, "    standard{when}{}", prices_text(&row.prices)?)
            .expect("a text takes all");
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
            Some("standard") => {
                if !variant.prices.is_empty() {
                    return Err(wrong("one standard price", "two"));
                }
            }
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
) -> Result<()> {
    let date = |constraint: &Option<Constraint>| match constraint {
        None => Ok(None),
        Some(Constraint { start_date: Some(date), start_time: None, end_time: None }) => {
            Ok(Some(date.clone()))
        }
        Some(other) => {
            let expected = format!("a tier `{tier}` whose prices have dates alone");
            Err(wrong(expected, &format!("{other:?}")))
        }
    };
    let mut dates = BTreeSet::new();
    for constraint in
        variants.iter().map(|v| &v.constraint).chain(ordinary.iter().map(|row| &row.constraint))
    {
        dates.insert(date(constraint)?);
    }
    for day in dates {
        // `None` sorts before every date, and a date before later ones, as text does.
        let active =
            |constraint: &Option<Constraint>| Ok::<_, ImportError>(date(constraint)? <= day);
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
        for (key, price) in base.ok_or_else(|| wrong("an ordinary price", "none"))? {
            prices.entry(key.clone()).or_insert(price);
        }
        let when = day.map(|day| format!(" from={day}")).unwrap_or_default();
        writeln!(body, "    {tier}{when}{}", prices_text(&prices)?).expect("a text takes all");
    }
    Ok(())
}

/// The data's last match wins; the book says that windows beat dates and later dates earlier ones.
fn check_order(rows: &[Conditional<'_>]) -> Result<()> {
    let rank = |row: &Conditional<'_>| {
        let constraint = row.constraint.as_ref();
        let windowed = constraint.is_some_and(|constraint| constraint.start_time.is_some());
        (windowed, constraint.and_then(|constraint| constraint.start_date.clone()))
    };
    if !rows.iter().is_sorted_by_key(rank) {
        return Err(wrong("prices in the order of their dates", "another order"));
    }
    if rows.first().is_none_or(|row| row.constraint.is_some()) {
        return Err(wrong("a first price without a condition", "one with a condition, or none"));
    }
    Ok(())
}

fn utc(time: &str) -> Result<&str> {
    time.strip_suffix('Z').ok_or_else(|| wrong("a time in UTC", time))
}

fn prices_text(prices: &Prices<'_>) -> Result<String> {
    let mut named = Vec::<(&str, &RawValue)>::new();
    for (key, name) in KEYS {
        if let Some(price) = prices.get(*key) {
            named.retain(|(other, _)| other != name);
            named.push((name, price));
        }
    }
    let mut text = String::new();
    for (name, price) in named {
        write!(text, " {name}={}", price_text(price)?).expect("a text takes all");
    }
    Ok(text)
}

fn price_text(price: &RawValue) -> Result<String> {
    let clean = |text: &str| without_noise(text).unwrap_or_else(|| text.to_owned());
    let text = price.get();
    if !text.starts_with('{') {
        return Ok(clean(text));
    }
    let tiered: Tiered<'_> = serde_json::from_str(text)
        .map_err(|error| ImportError::json(&error, "a base and tiers"))?;
    let mut text = clean(tiered.base.get());
    for tier in &tiered.tiers {
        write!(text, ",{}>{}", clean(tier.price.get()), tier.start.get())
            .expect("a text takes all");
    }
    Ok(text)
}

fn rule_text(rule: &Match) -> Result<String> {
    let alternatives = alternatives(rule)?;
    let texts: Vec<_> = alternatives.iter().map(|terms| terms.join(" & ")).collect();
    Ok(texts.join(" | "))
}

/// A rule as alternatives of conditions.
fn alternatives(rule: &Match) -> Result<Vec<Vec<String>>> {
    let one = |operator: char, text: &str| {
        Ok::<_, ImportError>(vec![vec![format!("{operator}{}", name(text)?)]])
    };
    match rule {
        Match::Equals(text) => one('=', text),
        Match::StartsWith(text) => one('^', text),
        Match::EndsWith(text) => one('$', text),
        Match::Contains(text) => one('*', text),
        Match::Regex(regex) => from_regex(regex),
        Match::Or(rules) => {
            let each = rules.iter().map(alternatives).collect::<Result<Vec<_>>>()?;
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
fn from_regex(regex: &str) -> Result<Vec<Vec<String>>> {
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
    let unknown = || wrong("a regular expression of a form that a book has a rule for", regex);
    let body = regex.strip_prefix('^').ok_or_else(unknown)?;
    let (mut rest, whole) = match body.strip_suffix('$') {
        Some(body) => (body, true),
        None => (body, false),
    };
    let mut shapes = vec![String::new()];
    while let Some(first) = rest.chars().next() {
        let (choices, used): (String, usize) = if let Some(after) = rest.strip_prefix(r"\d") {
            let count = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            match count {
                Some((count, _)) => {
                    ("#".repeat(count.parse().map_err(|_| unknown())?), 4 + count.len())
                }
                None => ("#".to_owned(), 2),
            }
        } else if let Some(after) = rest.strip_prefix('\\') {
            let escaped = after.chars().next().filter(|c| ".[]".contains(*c));
            (escaped.ok_or_else(unknown)?.to_string(), 2)
        } else if let Some(after) = rest.strip_prefix('[') {
            let (set, _) = after.split_once(']').ok_or_else(unknown)?;
            let plain = |c: char| c.is_ascii_digit() || "-@".contains(c);
            if !set.chars().all(plain) {
                return Err(unknown());
            }
            let each =
                shapes.iter().flat_map(|shape| set.chars().map(move |c| format!("{shape}{c}")));
            shapes = each.collect();
            rest = &rest[set.len() + 2..];
            continue;
        } else {
            if !(first.is_ascii_alphanumeric() || "-/=@_".contains(first)) {
                return Err(unknown());
            }
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

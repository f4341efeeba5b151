//! The price data read a second time, apart from `tariff`: what a usage costs by the text of the JSON,
//! in decimal arithmetic, and how the source's own engine counts where it counts otherwise.

use std::collections::{BTreeMap, BTreeSet};

use quantity::{TokenClass, Unit, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Amounts are whole numbers of 1 / (3,600 × 10²⁴) dollars: every price of the data is one of them,
/// an hour of audio by the second included.
pub(crate) const DOLLAR: i128 = 3_600 * 10_i128.pow(24);
const PICO_DOLLAR: i128 = DOLLAR / 10_i128.pow(12);
pub(crate) const DAY: i64 = 86_400;

#[derive(Deserialize)]
pub(crate) struct Provider<'a> {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) fallback_model_providers: Vec<String>,
    #[serde(borrow)]
    pub(crate) models: Vec<Model<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct Model<'a> {
    pub(crate) id: String,
    r#match: serde_json::Value,
    #[serde(borrow)]
    prices: &'a RawValue,
    #[serde(default, borrow)]
    price_variants: Vec<Row<'a>>,
}

/// Prices with the conditions that they have: of ordinary ones a time, of variants also a context.
#[derive(Deserialize, Clone)]
struct Row<'a> {
    #[serde(default)]
    when: Context,
    constraint: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    prices: Prices<'a>,
}

pub(crate) type Prices<'a> = BTreeMap<String, &'a RawValue>;
/// What the source is told of a request beside its usage: `service_tier`, `processing` and others.
pub(crate) type Context = BTreeMap<String, String>;
/// Counts by the keys of the source.
pub(crate) type Counts = BTreeMap<&'static str, i128>;

pub(crate) fn parse(data: &str) -> Vec<Provider<'_>> {
    serde_json::from_str(data).unwrap()
}

impl<'a> Model<'a> {
    fn ordinary(&self) -> Vec<Row<'a>> {
        let text = self.prices.get();
        match text.starts_with('[') {
            true => serde_json::from_str(text).unwrap(),
            false => vec![Row {
                when: Context::new(),
                constraint: None,
                prices: serde_json::from_str(text).unwrap(),
            }],
        }
    }

    /// Whether it has one price for each token, for ever, and no other prices.
    pub(crate) fn is_plain(&self) -> bool {
        let ordinary = self.ordinary();
        let flat = |key: &String, price: &RawValue| {
            key.ends_with("_mtok") && !price.get().starts_with('{') && !key.contains("audio")
        };
        ordinary.len() == 1 && ordinary[0].prices.iter().all(|(key, price)| flat(key, price))
    }

    /// Every context that has prices of its own.
    pub(crate) fn contexts(&self) -> BTreeSet<Context> {
        self.price_variants.iter().map(|row| row.when.clone()).collect()
    }

    /// Whether a variant for just this context is in force.
    pub(crate) fn offers(&self, context: &Context, nanos: i64) -> bool {
        self.price_variants.iter().any(|row| row.when == *context && row.holds(nanos))
    }

    /// The source's rule: of the ordinary prices the last that holds; over them, key by key, the first
    /// variant that holds and asks for nothing that the context does not say.
    pub(crate) fn prices(&self, context: &Context, nanos: i64) -> Prices<'a> {
        let ordinary = self.ordinary();
        let mut prices = ordinary.iter().rev().find(|row| row.holds(nanos)).unwrap().prices.clone();
        let mut laid_over = BTreeSet::new();
        for row in self.price_variants.iter().filter(|row| row.holds(nanos)) {
            if row.when.iter().all(|(key, value)| context.get(key) == Some(value)) {
                for (key, price) in &row.prices {
                    if laid_over.insert(key.clone()) {
                        prices.insert(key.clone(), price);
                    }
                }
            }
        }
        prices
    }

    /// The first second of each dated price.
    pub(crate) fn starts(&self) -> Vec<i64> {
        let rows = self.ordinary().into_iter().chain(self.price_variants.iter().cloned());
        rows.filter_map(|row| Some(midnight(row.constraint?.get("start_date")?))).collect()
    }

    /// Where daily windows begin and end, in seconds since midnight.
    pub(crate) fn edges(&self) -> Vec<i64> {
        let windows = self.ordinary().into_iter().filter_map(|row| row.window());
        windows.flat_map(|(start, end)| [start, end]).collect()
    }

    pub(crate) fn in_a_window(&self, nanos: i64) -> bool {
        self.ordinary().iter().any(|row| row.window().is_some() && row.holds(nanos))
    }

    /// Whether a name is one of this model's as far as that is said without a regular expression.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        fn holds(rule: &serde_json::Value, name: &str) -> bool {
            let (test, operand) = rule.as_object().unwrap().iter().next().unwrap();
            let text = operand.as_str().unwrap_or_default().to_lowercase();
            match test.as_str() {
                "equals" => name == text,
                "starts_with" => name.starts_with(&text),
                "ends_with" => name.ends_with(&text),
                "contains" => name.contains(&text),
                "and" => operand.as_array().unwrap().iter().all(|rule| holds(rule, name)),
                "or" => operand.as_array().unwrap().iter().any(|rule| holds(rule, name)),
                "regex" => false,
                other => panic!("a rule `{other}`"),
            }
        }
        holds(&self.r#match, &name.to_lowercase())
    }
}

impl Row<'_> {
    fn window(&self) -> Option<(i64, i64)> {
        let constraint = self.constraint.as_ref()?;
        let clock = |key: &str| {
            let clock = constraint.get(key)?.strip_suffix('Z').unwrap();
            let parts: Vec<i64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
            Some(parts[0] * 3_600 + parts[1] * 60 + parts[2])
        };
        Some((clock("start_time")?, clock("end_time")?))
    }

    fn holds(&self, nanos: i64) -> bool {
        let seconds = nanos.div_euclid(1_000_000_000);
        if let Some((start, end)) = self.window() {
            let second = seconds.rem_euclid(DAY);
            return match start < end {
                true => start <= second && second < end,
                false => start <= second || second < end,
            };
        }
        let constraint = self.constraint.iter().flatten().next();
        constraint.is_none_or(|(key, date)| {
            assert_eq!(key, "start_date");
            seconds >= midnight(date)
        })
    }
}

/// Seconds from the epoch to a date, by counting days.
pub(crate) fn midnight(date: &str) -> i64 {
    let parts: Vec<i64> = date.split('-').map(|part| part.parse().unwrap()).collect();
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..parts[0]).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let february = if leap(parts[0]) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: i64 = months.iter().take(usize::try_from(parts[1]).unwrap() - 1).sum();
    (years + before + parts[2] - 1) * DAY
}

/// Whether it is a Saturday or a Sunday: 1970-01-01 was a Thursday.
pub(crate) fn weekend(nanos: i64) -> bool {
    let day = nanos.div_euclid(DAY * 1_000_000_000);
    [2, 3].contains(&day.rem_euclid(7))
}

/// The counts as the source has them: a unit contains those that are more special.
pub(crate) fn inclusive(usage: &Usage) -> Counts {
    use TokenClass::*;
    let count = |class: TokenClass| i128::from(usage.tokens[class].get());
    let sum = |classes: &[TokenClass]| classes.iter().map(|class| count(*class)).sum::<i128>();
    let unit = |unit| i128::from(usage.units[unit].get());
    Counts::from([
        ("input_tokens", i128::from(usage.input())),
        ("cache_read_tokens", sum(&[CacheRead, CacheReadAudio, CacheReadImage, CacheReadVideo])),
        ("cache_write_tokens", sum(&[CacheWrite5m, CacheWrite1h])),
        ("cache_write_1h_tokens", sum(&[CacheWrite1h])),
        ("input_audio_tokens", sum(&[InputAudio, CacheReadAudio])),
        ("input_image_tokens", sum(&[InputImage, CacheReadImage])),
        ("input_video_tokens", sum(&[InputVideo, CacheReadVideo])),
        ("cache_audio_read_tokens", sum(&[CacheReadAudio])),
        ("cache_image_read_tokens", sum(&[CacheReadImage])),
        ("cache_video_read_tokens", sum(&[CacheReadVideo])),
        ("output_tokens", i128::from(usage.output())),
        ("output_reasoning_tokens", sum(&[Reasoning])),
        ("output_audio_tokens", sum(&[OutputAudio])),
        ("output_image_tokens", sum(&[OutputImage])),
        ("output_video_tokens", sum(&[OutputVideo])),
        ("web_searches", unit(Unit::WebSearch)),
        ("storage_searches", unit(Unit::FileSearch)),
        ("audio_seconds", unit(Unit::AudioSecond)),
        ("input_audio_seconds", unit(Unit::AudioSecond)),
        ("input_characters", unit(Unit::Character)),
        ("input_document_pages", unit(Unit::Page)),
        ("requests", unit(Unit::Call)),
    ])
}

/// Key of a price, what it counts, for how many it is, and the keys whose counts are inside. The more
/// special stand first.
const UNITS: &[(&str, &str, i128, &[&str])] = &[
    ("cache_audio_read_mtok", "cache_audio_read_tokens", 1_000_000, &[]),
    ("cache_image_read_mtok", "cache_image_read_tokens", 1_000_000, &[]),
    ("cache_video_read_mtok", "cache_video_read_tokens", 1_000_000, &[]),
    ("cache_write_1h_mtok", "cache_write_1h_tokens", 1_000_000, &[]),
    ("cache_write_mtok", "cache_write_tokens", 1_000_000, &["cache_write_1h_mtok"]),
    (
        "cache_read_mtok",
        "cache_read_tokens",
        1_000_000,
        &["cache_audio_read_mtok", "cache_image_read_mtok", "cache_video_read_mtok"],
    ),
    ("input_audio_mtok", "input_audio_tokens", 1_000_000, &["cache_audio_read_mtok"]),
    ("input_image_mtok", "input_image_tokens", 1_000_000, &["cache_image_read_mtok"]),
    ("input_video_mtok", "input_video_tokens", 1_000_000, &["cache_video_read_mtok"]),
    (
        "input_mtok",
        "input_tokens",
        1_000_000,
        &[
            "cache_audio_read_mtok",
            "cache_image_read_mtok",
            "cache_video_read_mtok",
            "cache_write_1h_mtok",
            "cache_write_mtok",
            "cache_read_mtok",
            "input_audio_mtok",
            "input_image_mtok",
            "input_video_mtok",
        ],
    ),
    ("output_reasoning_mtok", "output_reasoning_tokens", 1_000_000, &[]),
    ("output_audio_mtok", "output_audio_tokens", 1_000_000, &[]),
    ("output_image_mtok", "output_image_tokens", 1_000_000, &[]),
    ("output_video_mtok", "output_video_tokens", 1_000_000, &[]),
    (
        "output_mtok",
        "output_tokens",
        1_000_000,
        &["output_reasoning_mtok", "output_audio_mtok", "output_image_mtok", "output_video_mtok"],
    ),
    ("input_audio_hours", "input_audio_seconds", 3_600, &[]),
    ("audio_hours", "audio_seconds", 3_600, &["input_audio_hours"]),
    ("web_searches_kcount", "web_searches", 1_000, &[]),
    ("storage_searches_kcount", "storage_searches", 1_000, &[]),
    ("input_mchars", "input_characters", 1_000_000, &[]),
    ("input_document_kpages", "input_document_pages", 1_000, &[]),
    ("requests_kcount", "requests", 1_000, &[]),
];

/// Counts that are inside no other, each with the keys of which one must have a price.
const ROOTS: &[(&str, &[&str])] = &[
    ("input_tokens", &["input_mtok"]),
    ("output_tokens", &["output_mtok"]),
    ("audio_seconds", &["audio_hours", "input_audio_hours"]),
    ("web_searches", &["web_searches_kcount"]),
    ("storage_searches", &["storage_searches_kcount"]),
    ("input_characters", &["input_mchars"]),
    ("input_document_pages", &["input_document_kpages"]),
];

/// The key that a count of this name is priced by, and the one of the count that contains it.
pub(crate) fn keys_of(billable: &str) -> (&'static str, &'static str) {
    match billable {
        "input_uncached" => ("input_mtok", "input_mtok"),
        "cache_read" => ("cache_read_mtok", "input_mtok"),
        "cache_write_5m" => ("cache_write_mtok", "input_mtok"),
        "cache_write_1h" => ("cache_write_1h_mtok", "input_mtok"),
        "output_text" => ("output_mtok", "output_mtok"),
        "reasoning" => ("output_reasoning_mtok", "output_mtok"),
        "input_audio" => ("input_audio_mtok", "input_mtok"),
        "input_image" => ("input_image_mtok", "input_mtok"),
        "input_video" => ("input_video_mtok", "input_mtok"),
        "cache_read_audio" => ("cache_audio_read_mtok", "input_mtok"),
        "cache_read_image" => ("cache_image_read_mtok", "input_mtok"),
        "cache_read_video" => ("cache_video_read_mtok", "input_mtok"),
        "output_audio" => ("output_audio_mtok", "output_mtok"),
        "output_image" => ("output_image_mtok", "output_mtok"),
        "output_video" => ("output_video_mtok", "output_mtok"),
        "calls" => ("requests_kcount", "requests_kcount"),
        "web_searches" => ("web_searches_kcount", "web_searches_kcount"),
        "file_searches" => ("storage_searches_kcount", "storage_searches_kcount"),
        "audio_seconds" => ("audio_hours", "input_audio_hours"),
        "characters" => ("input_mchars", "input_mchars"),
        "pages" => ("input_document_kpages", "input_document_kpages"),
        other => panic!("a billable `{other}` that the data has no key for"),
    }
}

/// What counts cost.
pub(crate) struct Cost {
    /// By the prices as they are written.
    pub(crate) exact: i128,
    /// In pico-dollars, by the prices of one as a book has them: whole pico-dollars, half to even.
    pub(crate) booked: i128,
    /// Whether something was used that has no price. It costs nothing above.
    pub(crate) unpriced: bool,
}

impl Cost {
    pub(crate) fn is_rounded(&self) -> bool {
        self.booked * PICO_DOLLAR != self.exact
    }
}

pub(crate) fn cost(prices: &Prices<'_>, counts: &Counts) -> Cost {
    let missing = |keys: &[&str]| keys.iter().all(|key| !prices.contains_key(*key));
    let unpriced = ROOTS.iter().any(|(count, keys)| counts[count] > 0 && missing(keys));
    let mut cost = Cost { exact: 0, booked: 0, unpriced };
    let mut leaves = BTreeMap::<&str, i128>::new();
    for (key, count, per, inside) in UNITS {
        let Some(price) = prices.get(*key) else { continue };
        let special: i128 = inside.iter().filter_map(|key| leaves.get(key)).sum();
        let leaf = counts[count] - special;
        assert!(leaf >= 0, "{key}");
        leaves.insert(key, leaf);
        let one = of_one(rate_at(price, counts["input_tokens"]), *per);
        cost.exact += one * leaf;
        cost.booked += half_even(one, PICO_DOLLAR) * leaf;
    }
    cost
}

/// Thresholds of input tokens that any of the prices has.
pub(crate) fn thresholds(prices: &Prices<'_>) -> BTreeSet<u32> {
    let tiered = prices.values().filter(|price| price.get().starts_with('{'));
    tiered.flat_map(|price| steps(price).1.into_iter().map(|(start, _)| start)).collect()
}

fn steps<'a>(price: &'a RawValue) -> (&'a str, Vec<(u32, &'a str)>) {
    #[derive(Deserialize)]
    struct Tiered<'a> {
        #[serde(borrow)]
        base: &'a RawValue,
        #[serde(borrow)]
        tiers: Vec<BTreeMap<String, &'a RawValue>>,
    }
    let tiered: Tiered<'a> = serde_json::from_str(price.get()).unwrap();
    let step = |step: BTreeMap<String, &'a RawValue>| {
        (step["start"].get().parse().unwrap(), step["price"].get())
    };
    (tiered.base.get(), tiered.tiers.into_iter().map(step).collect())
}

fn rate_at(price: &RawValue, input: i128) -> &str {
    if !price.get().starts_with('{') {
        return price.get();
    }
    let (base, steps) = steps(price);
    let passed = steps.iter().rev().find(|(start, _)| input > i128::from(*start));
    passed.map_or(base, |(_, rate)| rate)
}

/// The price of one from the decimal for `per` of them, digit by digit.
fn of_one(text: &str, per: i128) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits: i128 = format!("{whole}{fraction}").parse().unwrap();
    let scale = u32::try_from(fraction.len()).unwrap();
    // Fifteen digits and more are what a float left, if twelve of them say the same to 1 in 10¹³.
    let length = u32::try_from(digits.to_string().len()).unwrap();
    if length >= 15 {
        let unit = 10_i128.pow(length - 12);
        let short = half_even(digits, unit) * unit;
        if (short - digits).abs() * 10_i128.pow(13) < digits {
            digits = short;
        }
    }
    let scaled = digits * (DOLLAR / 10_i128.pow(scale));
    assert_eq!(scaled % per, 0, "{text} for {per} has too many digits for this arithmetic");
    scaled / per
}

fn half_even(amount: i128, unit: i128) -> i128 {
    let (quotient, rest) = (amount / unit, amount % unit);
    match (rest * 2).cmp(&unit) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

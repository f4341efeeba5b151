//! The built-in price book against its source: the same facts, and two other engines that agree.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod oracle;
mod random;

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use quantity::{Billable, TokenCount, Unit, UnixTime, Usage};
use tariff::{Book, Key, PriceRow};
use xtask::{book, genai};

const TIMES: [&str; 6] = [
    "2024-05-01T12:00:00Z",
    "2026-08-20T02:30:00Z",
    "2026-10-14T00:00:00Z",
    "2026-10-30T08:00:00Z",
    "2026-11-22T17:00:00Z",
    "2027-02-01T09:59:59Z",
];

fn tiers_of(model: &genai::Model<'_>) -> BTreeSet<String> {
    let variants = model.price_variants.iter();
    let named = variants.filter_map(|variant| genai::tier(&variant.when)).map(str::to_owned);
    named.chain(["standard".to_owned()]).collect()
}

/// Every model on every tier at every time of `TIMES` where the book has a row.
fn each_row(
    data: &str,
    mut check: impl FnMut(&genai::Provider<'_>, &genai::Model<'_>, &Key<'_>, &PriceRow),
) {
    let book = Book::builtin();
    for provider in &genai::parse(data).unwrap() {
        for model in &provider.models {
            for tier in tiers_of(model) {
                for at in TIMES {
                    let at = at.parse().unwrap();
                    let key = Key::new(&provider.id, &model.id, at).on(Some(&tier));
                    if let Ok(row) = book.quote(&key) {
                        check(provider, model, &key, row);
                    }
                }
            }
        }
    }
}

#[test]
fn the_committed_book_is_what_the_data_says() {
    let rendered = book::render(&genai::read().unwrap()).unwrap();
    let committed = include_str!("../../../tariff/book/genai-prices.txt");
    let differs = rendered.lines().zip(committed.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None, "run `cargo run -p xtask -- book`");
    assert!(rendered == committed, "run `cargo run -p xtask -- book`");
}

#[test]
fn names_lead_to_the_same_models_as_in_the_source() {
    let data = genai::read().unwrap();
    let book = Book::builtin();
    let providers = genai::parse(&data).unwrap();
    let at = TIMES[4].parse().unwrap();
    let since = Duration::from_nanos(u64::try_from(UnixTime::nanos(at)).unwrap());
    let nothing = genai_prices::Usage::new();
    let mut compared = 0;
    for provider in &providers {
        let mut names = BTreeSet::new();
        for model in &provider.models {
            literals(&model.r#match, &mut names);
        }
        let ids: BTreeSet<_> =
            provider.models.iter().map(|model| model.id.to_lowercase()).collect();
        for name in names {
            for name in [
                name.clone(),
                name.to_uppercase(),
                format!("{name}-tts"),
                format!("{name}-tts-1"),
                format!("{name}-20251001"),
                format!("{name}-2025-10-01"),
                format!("{name}@20251001"),
                format!("{name}-20251399"),
                format!("{name}7-preview"),
                format!("x{name}"),
                name[..name.len() / 2].to_owned(),
            ] {
                let request = genai_prices::PriceRequest::new(&name, &nothing)
                    .with_provider_id(&provider.id)
                    .with_timestamp(UNIX_EPOCH + since);
                let theirs = genai_prices::calculate(&request).map(|found| found.model_id).ok();
                let key = Key::new(&provider.id, &name, at);
                let ours = book.quote(&key).map(|row| row.model().to_owned()).ok();
                if theirs.is_none() && ids.contains(&name.to_lowercase()) {
                    continue; // An id that is no name of its model.
                }
                assert_eq!(ours, theirs, "{}/{name}", provider.id);
                compared += 1;
            }
        }
    }
    assert!(compared > 30_000, "{compared}");
}

fn literals(rule: &genai::Match, names: &mut BTreeSet<String>) {
    use genai::Match::{And, Contains, EndsWith, Equals, Or, Regex, StartsWith};
    match rule {
        Equals(text) | StartsWith(text) | EndsWith(text) | Contains(text) => {
            names.insert(text.clone());
        }
        Regex(regex) => {
            let digits = regex.replace(r"\d{8}", "20251001").replace(r"\d{4}", "2025");
            let digits = digits.replace(r"\d{2}", "10").replace(r"\d", "7");
            names.insert(digits.replace(['\\', '^', '$'], "").replace("[-@]", "@"));
        }
        And(rules) | Or(rules) => rules.iter().for_each(|rule| literals(rule, names)),
    }
}

#[test]
fn unpriced_is_never_free() {
    let mut found = 0;
    each_row(&genai::read().unwrap(), |_, _, _, row| {
        for item in Billable::all().filter(|item| row.price_for(*item).is_none()) {
            let mut usage = Usage::default();
            match item {
                Billable::Unit(Unit::Call) => continue,
                Billable::Unit(unit) => usage.units[unit] = TokenCount::from(1),
                Billable::Tokens(class) => usage.tokens[class] = TokenCount::from(1),
            }
            assert!(row.charge(&usage).is_err(), "{} {item}", row.model());
            found += 1;
        }
    });
    assert!(found > 1_000);
}

//! Charges: golden bills, fallbacks, cliffs, additivity.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use proptest::prelude::*;
use quantity::{Billable, Money, TokenClass, TokenCount, Unit, Usage};
use tariff::{Book, Key, PriceRow, Unpriced};

fn usage(counts: &[(&str, u32)]) -> Usage {
    let mut usage = Usage::default();
    for (name, count) in counts {
        match Billable::from_name(name).unwrap() {
            Billable::Tokens(class) => usage.tokens[class] = TokenCount::from(*count),
            Billable::Unit(unit) => usage.units[unit] = TokenCount::from(*count),
        }
    }
    usage
}

fn row(prices: &[(&str, &str)]) -> PriceRow {
    PriceRow::own("lab", "toy", prices.iter().copied()).unwrap()
}

fn total(row: &PriceRow, counts: &[(&str, u32)]) -> String {
    row.charge(&usage(counts)).unwrap().total.to_string()
}

/// Bills that users of other tools reported as wrong, with the right amounts.
#[test]
fn bills_that_others_got_wrong_are_right() {
    let at = "2026-11-22".parse().unwrap();
    let book = Book::builtin();
    let quote = |provider, model| book.quote(&Key::new(provider, model, at)).unwrap();
    // BerriAI/litellm#14849: cache hits were counted twice; $0.1849 is right at the prices of then.
    let counts = [("input_uncached", 5_005), ("cache_read", 257_955), ("output_text", 1_744)];
    let then = row(&[("input_uncached", "1.25"), ("cache_read", "0.625"), ("output_text", "10")]);
    assert_eq!(total(&then, &counts), "0.184918125");
    // Since then the model has a price above 200,000 input tokens, cached ones included.
    assert_eq!(total(quote("google", "gemini-2.5-pro"), &counts), "0.10316125");
    // opencode#17566: reasoning is part of the output of 1,944 and was billed twice; $0.79 is right.
    let counts = [("input_uncached", 14_746), ("output_text", 944), ("reasoning", 1_000)];
    assert_eq!(total(quote("openai", "gpt-5.4-pro"), &counts), "0.7923");
    // llmtco.com and the FOCUS example before caching.
    let listed = row(&[("input_uncached", "3"), ("output_text", "15")]);
    let counts = [("input_uncached", 1_000_000), ("output_text", 500_000)];
    assert_eq!(total(&listed, &counts), "10.5");
    assert_eq!(total(&listed, &[("input_uncached", 10_500_000)]), "31.5");
    // BerriAI/litellm#9812: a cache write costs 1.25 times input.
    let sonnet = row(&[("input_uncached", "3"), ("cache_write_5m", "3.75"), ("output_text", "15")]);
    let counts = [("input_uncached", 3), ("cache_write_5m", 12_304), ("output_text", 550)];
    assert_eq!(total(&sonnet, &counts), "0.054399");
}

#[test]
fn every_line_says_whose_price_it_used() {
    let row = row(&[("input_uncached", "2"), ("cache_read", "0.5"), ("output_text", "8")]);
    let used = usage(&[
        ("cache_write_1h", 1),
        ("cache_read_audio", 1),
        ("input_image", 1),
        ("reasoning", 1),
        ("output_audio", 1),
    ]);
    let charge = row.charge(&used).unwrap();
    let lines: Vec<_> =
        charge.lines.iter().map(|line| (line.item.name(), line.priced_as.name())).collect();
    assert_eq!(
        lines,
        [
            ("cache_write_1h", "input_uncached"),
            ("reasoning", "output_text"),
            ("input_image", "input_uncached"),
            ("cache_read_audio", "cache_read"),
            ("output_audio", "output_text"),
        ]
    );
    assert_eq!(charge.total, Money::from_pico(2_000_000 * 2 + 8_000_000 * 2 + 500_000));
    assert_eq!(charge.row, row.id());
}

#[test]
fn what_has_no_price_makes_the_usage_unpriced() {
    let embedding = row(&[("input_uncached", "0.02")]);
    let error = embedding.charge(&usage(&[("input_uncached", 9), ("output_text", 1)])).unwrap_err();
    assert_eq!(error.to_string(), "no price for `output_text` of `lab/toy`, tier `standard`");
    assert!(matches!(
        row(&[]).charge(&usage(&[("web_searches", 1)])),
        Err(Unpriced::NoPriceFor { item: Billable::Unit(Unit::WebSearch), .. })
    ));
    assert_eq!(row(&[]).charge(&Usage::default()).unwrap().total, Money::ZERO);
}

#[test]
fn a_cliff_prices_every_token_and_looks_at_all_input() {
    let row = row(&[
        ("input_uncached", "1,2>100,4>200"),
        ("cache_read", "0.1,0.2>100"),
        ("output_text", "10,20>100"),
    ]);
    assert_eq!(total(&row, &[("input_uncached", 100), ("output_text", 1)]), "0.00011");
    assert_eq!(total(&row, &[("input_uncached", 101), ("output_text", 1)]), "0.000222");
    let mixed = [("input_uncached", 1), ("cache_read", 100), ("output_text", 0)];
    assert_eq!(total(&row, &mixed), "0.000022");
    assert_eq!(total(&row, &[("input_uncached", 201)]), "0.000804");
}

#[test]
fn a_fee_per_call_is_charged_once_unless_more_calls_are_counted() {
    let fee = row(&[("input_uncached", "1"), ("calls", "12")]);
    assert_eq!(total(&fee, &[("input_uncached", 1_000)]), "0.013");
    assert_eq!(total(&fee, &[("input_uncached", 1_000), ("calls", 2)]), "0.025");
    assert_eq!(total(&fee, &[]), "0");
    assert_eq!(
        total(&row(&[("input_uncached", "1")]), &[("input_uncached", 1), ("calls", 1)]),
        "0.000001"
    );
}

#[test]
fn other_units_are_quoted_as_vendors_do() {
    let row = row(&[
        ("web_searches", "10"),
        ("audio_seconds", "3"),
        ("characters", "15"),
        ("pages", "4"),
    ]);
    assert_eq!(total(&row, &[("web_searches", 3)]), "0.03");
    assert_eq!(row.rounded().count(), 1, "$3 an hour is no whole number of pico-dollars a second");
    assert_eq!(total(&row, &[("audio_seconds", 3)]), "0.002499999999");
    assert_eq!(total(&row, &[("characters", 1_000), ("pages", 2)]), "0.023");
}

#[test]
fn the_largest_counts_and_prices_do_not_overflow() {
    let top = "72057594037.927936";
    let names = Billable::all()
        .map(|item| (item.name(), if item.quoted_per() == 1_000_000 { top } else { "1" }));
    let row = PriceRow::own("lab", "toy", names).unwrap();
    let most = TokenCount::new(i64::MAX as u64).unwrap();
    let usage = Usage {
        tokens: quantity::PerClass::from_fn(|_| most),
        units: quantity::PerUnit::from_fn(|_| most),
    };
    assert!(row.charge(&usage).unwrap().total > Money::ZERO);
}

fn any_usage(most: u32) -> impl Strategy<Value = Usage> {
    prop::collection::vec(0..most, TokenClass::ALL.len() + Unit::ALL.len()).prop_map(|counts| {
        let mut usage = Usage::default();
        for (item, count) in Billable::all().zip(counts) {
            match item {
                Billable::Tokens(class) => usage.tokens[class] = TokenCount::from(count),
                Billable::Unit(unit) => usage.units[unit] = TokenCount::from(count),
            }
        }
        usage.units[Unit::Call] = TokenCount::from(1);
        usage
    })
}

proptest! {
    #[test]
    fn charges_add_up_over_any_split_below_a_cliff(
        one in any_usage(10_000), other in any_usage(10_000), prices in prop::collection::vec(0_u32..u32::MAX, 21),
    ) {
        let texts: Vec<_> = prices.iter().map(|p| format!("{}.{:06},1>400000", p / 1_000, p % 1_000)).collect();
        let named = Billable::all().zip(&texts).map(|(item, text)| (item.name(), text.as_str()));
        let row = PriceRow::own("lab", "toy", named).unwrap();
        let sum = Usage {
            tokens: quantity::PerClass::from_fn(|c| one.tokens[c].plus(other.tokens[c]).unwrap()),
            units: quantity::PerUnit::from_fn(|u| one.units[u].plus(other.units[u]).unwrap()),
        };
        let charge = |usage: &Usage| row.charge(usage).unwrap();
        prop_assert_eq!(charge(&sum).total, charge(&one).total + charge(&other).total);
        let lines: Money = charge(&sum).lines.iter().map(|line| line.amount).sum();
        prop_assert_eq!(charge(&sum).total, lines);
    }
}

#[test]
fn an_own_row_keeps_the_price_of_the_book_as_its_list_price() {
    let own = [("input_uncached", "0.20"), ("cache_read", "0"), ("output_text", "1.60")];
    let own = PriceRow::own("openai", "gpt-5-mini", own).unwrap();
    let id = own.id();
    let builtin = Book::builtin();
    let book = Book::builtin().with_rows([own]);
    let at = "2026-11-22".parse().unwrap();
    let key = |model| Key::new("openai", model, at);
    let used = usage(&[("input_uncached", 176), ("cache_read", 1_024), ("reasoning", 27)]);
    let (_, list) = builtin.charge(&key("gpt-5-mini"), &used).unwrap();
    let (row, charge) = book.charge(&key("gpt-5-mini"), &used).unwrap();
    assert_eq!((row.id(), charge.row), (id, id));
    assert_eq!(charge.total.to_string(), "0.0000784");
    assert_eq!(charge.list_total.to_string(), "0.0001236");
    assert_eq!(charge.list_total, list.total);
    for line in &charge.lines {
        assert_eq!(line.amount, line.price.times(line.count));
        assert_eq!(line.list_amount, line.list_price.times(line.count));
    }
    // Without an own row, and without a listed one, the list price is the price.
    for (book, model) in [(&builtin, "gpt-5-mini"), (&book, "gpt-5")] {
        let (_, charge) = book.charge(&key(model), &used).unwrap();
        assert_eq!(charge.total, charge.list_total);
    }
    let own = PriceRow::own("lab", "toy", [("input_uncached", "1"), ("output_text", "2")]).unwrap();
    let lab = Book::builtin().with_rows([own]);
    let key = Key::new("lab", "toy", at);
    let (_, charge) = lab.charge(&key, &used).unwrap();
    assert_eq!(charge.total, charge.list_total);
}

#[test]
fn a_fee_per_call_that_an_own_row_waives_is_on_the_list() {
    let text = "book b\nas_of 2026-11-01\nlicence none\norigin none\nleft_out 0\n\
                provider lab\nmodel toy\nstandard input_uncached=2 output_text=4 calls=5\n";
    let own = PriceRow::own("lab", "toy", [("input_uncached", "1"), ("output_text", "4")]).unwrap();
    let book = Book::parse(text).unwrap().with_rows([own]);
    let key = Key::new("lab", "toy", "2026-11-22".parse().unwrap());
    let (_, charge) = book.charge(&key, &usage(&[("input_uncached", 1_000)])).unwrap();
    assert_eq!(charge.total.to_string(), "0.001");
    assert_eq!(charge.list_total.to_string(), "0.007");
    assert_eq!(charge.total, charge.lines.iter().map(|line| line.amount).sum());
    assert_eq!(charge.list_total, charge.lines.iter().map(|line| line.list_amount).sum());
}

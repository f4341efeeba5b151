//! How fast usage is priced: `cargo bench -p tariff`.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]

#[path = "../../../bench/cpu.rs"]
mod cpu;

use std::hint::black_box;

use quantity::{TokenClass, TokenCount, UnixTime, Usage};
use tariff::{Book, Key, PriceRow};

const ROUND: u64 = 100_000;

fn main() {
    let mut usage = Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(800);
    usage.tokens[TokenClass::CacheRead] = TokenCount::from(1200);
    usage.tokens[TokenClass::OutputText] = TokenCount::from(300);
    let at: UnixTime = "2026-10-01".parse().unwrap();
    let key = Key::new("openai", "gpt-5-mini", at);

    let book = Book::builtin();
    let row = book.quote(&key).unwrap();
    let times = |what: &str, goal: Option<&str>, one: &dyn Fn()| {
        cpu::rate(&format!("charge: {what}"), "charges", ROUND, goal, || {
            for _ in 0..ROUND {
                one();
            }
        });
    };
    times("at a row, three classes", Some("10 million"), &|| {
        drop(black_box(row.charge(black_box(&usage))));
    });
    times("find the row, and charge", None, &|| {
        drop(black_box(book.charge(black_box(&key), black_box(&usage))));
    });
    let dated = Key { model: "gpt-5-mini-2025-08-07", tier: Some("default"), ..key };
    times("find it for a dated model", None, &|| {
        drop(black_box(book.charge(black_box(&dated), black_box(&usage))));
    });
    let own =
        PriceRow::own("openai", "gpt-5-mini", [("input_uncached", "0.2"), ("output_text", "1.5")]);
    let book = book.with_rows(own);
    times("find an own row, and what the list says", None, &|| {
        drop(black_box(book.charge(black_box(&key), black_box(&usage))));
    });
}

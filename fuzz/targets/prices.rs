//! Price books and rows from any text: read or refused, and a row says what it was read from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tariff::{Book, PriceRow};

fuzz_target!(|text: &str| {
    let _ = Book::parse(text);
    if let Ok(row) = PriceRow::parse(text) {
        let again = PriceRow::parse(&row.to_text()).expect("a row's own text is a row");
        assert_eq!((again.id(), again), (row.id(), row));
    }
});

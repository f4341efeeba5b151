//! What is otherwise in another book or at another time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use quantity::UnixTime;
use tariff::{Book, Change, Changes, Key, PriceRow, Sheet};

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn book(models: &str) -> Book {
    let head = "book b\nas_of 2026-01-02\nlicence none\norigin none\nleft_out 0\n";
    Book::parse(&format!("{head}provider lab\n{models}")).unwrap()
}

/// A change in short: what it is of, and its prices.
fn short(change: &Change<'_>) -> String {
    let row = change.after.or(change.before).unwrap();
    let day = change.at.day();
    let prices = change.differences();
    let prices = prices.iter().map(|one| {
        let price = |price: Option<quantity::UnitPrice>| price.map(|price| price.usd_per_million());
        let [before, after] = [one.our_price, one.their_price].map(price);
        let text = |price: Option<String>| price.unwrap_or_else(|| "-".to_owned());
        format!(" {}>{} {}->{}", one.item, one.above, text(before), text(after))
    });
    let prices: String = match (change.before, change.after) {
        (None, _) => " appears".to_owned(),
        (_, None) => " vanishes".to_owned(),
        _ => prices.collect(),
    };
    format!("{day} {}/{}{prices}", row.model(), row.tier())
}

fn all(changes: &Changes<'_>) -> Vec<String> {
    changes.all.iter().map(short).collect()
}

#[test]
fn rows_appear_vanish_change_or_stay() {
    let old = book(
        "model gone\nstandard input_uncached=1\n\
         model kept\nstandard input_uncached=1 cache_read=0.5 output_text=2\nbatch input_uncached=1\n\
         model same\nstandard input_uncached=1 reasoning=3 output_text=3\n",
    );
    let new = book(
        "model kept\nstandard input_uncached=1,2>1000 output_text=3\n\
         model new\nstandard input_uncached=9\n\
         model same\nstandard from=2026-01-05 input_uncached=1 output_text=3\n",
    );
    let now = at("2026-11-22");
    let (old, new) = (Sheet { book: &old, at: now }, Sheet { book: &new, at: now });
    let changes = old.changes_to(&new);
    // What has no price of its own has that of another class: reasoning of `same` is as it was.
    assert_eq!(
        all(&changes),
        [
            "2026-11-22 gone/standard vanishes",
            "2026-11-22 kept/batch vanishes",
            "2026-11-22 kept/standard input_uncached>1000 1->2 cache_read>0 0.5->1 \
             cache_read>1000 0.5->2 output_text>0 2->3",
            "2026-11-22 new/standard appears",
        ]
    );
    assert_eq!(changes.same, 1);
    let none = old.changes_to(&old);
    assert_eq!((all(&none).len(), none.same), (0, 4));
}

#[test]
fn own_prices_that_hide_a_change_of_the_list_leave_nothing_to_change() {
    let own = PriceRow::own("lab", "toy", [("input_uncached", "5")]).unwrap();
    let with = |prices: &str| {
        book(&format!("model toy\nstandard {prices}\nbatch {prices}\n")).with_rows([own.clone()])
    };
    let (old, new) = (with("input_uncached=1"), with("input_uncached=2"));
    let now = at("2026-11-22");
    let (old, new) = (Sheet { book: &old, at: now }, Sheet { book: &new, at: now });
    let changes = old.changes_to(&new);
    assert_eq!(all(&changes), ["2026-11-22 toy/batch input_uncached>0 1->2"]);
}

#[test]
fn parts_of_the_week_and_regions_change_apart() {
    let prices = book(
        "model toy\n\
         standard input_uncached=1\n\
         standard days=mon-fri daily=01:00:00-04:00:00 input_uncached=2\n\
         standard days=mon-fri daily=01:00:00-04:00:00 from=2026-12-01 input_uncached=4\n\
         standard days=sat,sun input_uncached=0.5\n\
         standard region=eu until=2026-12-15 input_uncached=3\n",
    );
    let change = |at: &str, text: &str| format!("{at} toy/standard {text}");
    let told: Vec<_> =
        prices.changes(at("2026-11-22"), at("2027-01-01")).iter().map(short).collect();
    assert_eq!(
        told,
        [
            change("2026-12-01", "input_uncached>0 2->4"),
            // In that region the price for all applies from then on.
            change("2026-12-15", "input_uncached>0 3->1"),
        ]
    );
    let key = Key { region: Some("eu"), ..Key::new("lab", "toy", at("2026-12-20")) };
    let turns = prices.turns(&key, at("2026-11-22"), at("2027-01-01"));
    assert_eq!(turns.into_iter().collect::<Vec<_>>(), [at("2026-12-01"), at("2026-12-15")]);
    assert!(prices.turns(&key, at("2026-12-15"), at("2027-01-01")).is_empty());
}

#[test]
fn a_row_that_only_repeats_the_price_before_is_no_change() {
    let prices = book(
        "model toy\n\
         standard until=2026-12-01 input_uncached=1\n\
         standard from=2026-12-01 input_uncached=1\n\
         standard from=2027-01-01 input_uncached=2\n",
    );
    let told: Vec<_> =
        prices.changes(at("2026-11-22"), at("2027-06-01")).iter().map(short).collect();
    assert_eq!(told, ["2027-01-01 toy/standard input_uncached>0 1->2"]);
}

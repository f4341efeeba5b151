//! The parts that reports are made of.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use proptest::prelude::*;
use quantity::Money;
use report::csv::{self, Csv};
use report::json::Json;
use report::number::usd as usd_text;
use report::number::{
    decimals, dollars, duration, money_share, per_mille, per_mtok, per_thousand, percent,
};
use report::object;
use report::table::{Style, Table, printable, shortened, wrapped};

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

#[test]
fn ratios_round_half_to_even_once() {
    assert_eq!(per_mtok(usd("0.0000375"), 1_000), Some(usd("0.0375")));
    // 0.00005 and 0.00015 are halves of the last digit; 0.000050000000001 is more than one.
    assert_eq!(per_mtok(usd("0.00005"), 1_000_000), Some(usd("0")));
    assert_eq!(per_mtok(usd("0.00015"), 1_000_000), Some(usd("0.0002")));
    assert_eq!(per_mtok(usd("0.000050000001"), 1_000_000), Some(usd("0.0001")));
    assert_eq!(per_thousand(usd("500"), 50_000), Some(usd("10")));
    assert_eq!(per_mtok(usd("1"), 0), None);
    assert_eq!(per_mtok(usd("1"), u64::MAX), None);
}

#[test]
fn shares_are_of_something() {
    assert_eq!(percent(per_mille(1, 3)), "33.3%");
    assert_eq!(percent(money_share(usd("2"), usd("2"))), "100.0%");
    assert_eq!(percent(money_share(usd("0"), usd("0"))), "-");
    assert_eq!(per_mille(i128::MAX, 1), None);
}

#[test]
fn money_for_people_never_hides_an_amount() {
    assert_eq!(dollars(usd("0.000001"), 4), "<0.0001");
    assert_eq!(dollars(usd("0"), 4), "0.0000");
    assert_eq!(dollars(usd("1234.5"), decimals([usd("3"), usd("1234.5")])), "1,234.50");
    assert_eq!(decimals([usd("0.5")]), 6);
}

#[test]
fn durations_have_the_unit_that_fits() {
    let texts = [310, 1_204, 59_999, 245_000, 11_220_000].map(Duration::from_millis).map(duration);
    assert_eq!(texts, ["310 ms", "1.2 s", "59.9 s", "4 min 05 s", "3 h 07 min"]);
}

#[test]
fn a_table_aligns_whatever_the_script() {
    let mut table = Table::default().text("who").number("count\nof it");
    table.row(["\u{6771}\u{4eac}".to_owned(), "1".to_owned()]);
    table.row(["cafe\u{301}".to_owned(), "1,000*".to_owned()]);
    table.total(["total".to_owned(), "1,001".to_owned()]);
    // The mark stands beyond the digits.
    let expected = "       count\n\
                    who    of it\n\
                    -----  ------\n\
                    \u{6771}\u{4eac}       1\n\
                    cafe\u{301}   1,000*\n\
                    -----  ------\n\
                    total  1,001\n";
    assert_eq!(table.render(Style::default()), expected);
}

#[test]
fn csv_quotes_and_disarms() {
    let mut csv = Csv::default();
    csv.row(["plain", "a,b", "say \"hi\"", "two\nlines", ""]);
    assert_eq!(csv.finish(), "plain,\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\r\n");
    for text in ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"] {
        assert_eq!(csv::label(text), format!("'{text}"));
    }
    assert_eq!(csv::label("a=b"), "a=b");
}

#[test]
fn json_keeps_its_order() {
    let json = object! { "b" => 1_u64, "a" => vec!["x"], "none" => None::<u64> };
    assert_eq!(json.line(), r#"{"b":1,"a":["x"],"none":null}"#);
}

proptest! {
    #[test]
    fn no_text_moves_a_cursor_or_outgrows_its_column(text in ".*", width in 1_usize..40) {
        let shown = printable(&text);
        let turns = |c: char| c.is_control() || c == '\u{202e}';
        prop_assert!(!shown.chars().any(turns));
        let mut table = Table::default().text("label");
        table.row([text]);
        let style = Style { width: width.max(8), colour: false };
        let rendered = table.render(style);
        prop_assert_eq!(rendered.lines().count(), 3);
        prop_assert!(shortened(&shown, width).chars().count() <= shown.chars().count());
    }

    #[test]
    fn any_text_survives_json(text in ".*") {
        let json = Json::from(text.as_str()).line();
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

#[test]
fn words_go_on_below_and_minor_figures_give_way_in_their_turn() {
    let mut table = Table::default().text("name").number("one").minor("two", 2).minor("three", 1);
    table = table.prose("words");
    let words = "claude-opus-4-6 answers well enough with the same tokens";
    table.row(["a-name-of-20-letters", "1", "2", "3", words].map(str::to_owned));
    let at = |width| table.render(Style { width, colour: false });
    assert_eq!(at(120).lines().count(), 3);
    assert!(at(60).contains("three") && !at(54).contains("three") && at(54).contains("two"));
    assert!(!at(49).contains("two"));
    let narrow = at(49);
    assert!(narrow.lines().all(|line| line.chars().count() <= 49), "{narrow}");
    let joined = narrow.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(joined.contains("answers well enough with the same tokens"), "{narrow}");
    assert!(narrow.contains("claude-opus-4-6"), "{narrow}");
    assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
    assert_eq!(wrapped("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(wrapped("", 4), [""]);
}

#[test]
fn an_amount_with_its_sign_is_never_hidden() {
    let texts =
        [("1.5", 2), ("0.001", 2), ("0", 2)].map(|(text, places)| usd_text(usd(text), places));
    assert_eq!(texts, ["$1.50", "<$0.01", "$0.00"]);
}

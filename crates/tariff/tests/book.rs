//! The built-in book, selection and search.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use proptest::prelude::*;
use quantity::{Billable, PriceRowId, TokenClass, UnixTime};
use tariff::{Book, Key, PriceRow, Unpriced};

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn key<'a>(provider: &'a str, model: &'a str, tier: Option<&'a str>) -> Key<'a> {
    Key::new(provider, model, at("2026-11-22T12:00:00Z")).on(tier)
}

fn usd(row: &PriceRow, class: TokenClass) -> String {
    row.price(Billable::Tokens(class)).unwrap().base().price().usd_per_million()
}

fn input_price(book: &Book, key: &Key<'_>) -> String {
    usd(book.quote(key).unwrap(), TokenClass::InputUncached)
}

const SMALL: &str = "\
book test-1
as_of 2026-01-02
licence none
origin nowhere
left_out 0
provider lab
  called *lab
  serves ^toy
  model toy-large : =toy-large | ^toy-large-2
    standard input_uncached=2 output_text=8
    standard from=2026-02-01 input_uncached=1 output_text=4
    standard from=2026-03-01T12:00:00Z input_uncached=0.5 output_text=2
    standard daily=22:00:00-06:00:00 input_uncached=0.25 output_text=1
    batch from=2026-02-01 input_uncached=0.5 output_text=2
  model toy-small
    deprecated
    standard input_uncached=0.2 output_text=0.8
  model toy-rest : ^toy-
    standard input_uncached=7
provider shop
  borrows lab
  model other
    standard input_uncached=9
";

fn small() -> Book {
    Book::parse(SMALL).unwrap()
}

#[test]
fn the_built_in_book_names_its_date_and_size() {
    let info = Book::builtin().info();
    assert_eq!(info.name, "genai-prices-0.2.1");
    assert_eq!(info.as_of.to_string(), "2026-10-30");
    assert_eq!((info.providers, info.models), (47, 2267));
    assert!(info.rows > 2_500, "{info:?}");
    assert!(info.rounded > 0 && info.rounded < 100, "{info:?}");
}

#[test]
fn published_prices_are_found() {
    let book = Book::builtin();
    let row = book.quote(&key("openai", "gpt-5-mini-2025-08-07", None)).unwrap();
    assert_eq!((row.provider(), row.model(), row.tier()), ("openai", "gpt-5-mini", "standard"));
    assert_eq!(usd(row, TokenClass::InputUncached), "0.25");
    assert_eq!(usd(row, TokenClass::CacheRead), "0.025");
    assert_eq!(usd(row, TokenClass::OutputText), "2");
    assert_eq!(row.source().book.as_ref(), "genai-prices-0.2.1");
}

#[test]
fn a_tier_has_its_own_row_laid_over_the_standard_one() {
    let book = Book::builtin();
    let batch = book.quote(&key("openai", "gpt-4o", Some("batch"))).unwrap();
    assert_eq!(usd(batch, TokenClass::InputUncached), "1.25");
    assert_eq!(usd(batch, TokenClass::CacheRead), "1.25", "the batch table lists none");
    let early = Key { at: at("2026-10-13"), ..key("openai", "gpt-4o", Some("batch")) };
    assert!(matches!(book.quote(&early), Err(Unpriced::NotInForce { .. })));
}

#[test]
fn a_tier_without_price_is_not_the_standard_one() {
    let book = small();
    for tier in ["default", "standard", "auto", "on_demand", "Default", ""] {
        assert_eq!(input_price(&book, &key("lab", "toy-small", Some(tier))), "0.2", "{tier}");
    }
    let unpriced = book.quote(&key("lab", "toy-small", Some("flex"))).unwrap_err();
    assert_eq!(unpriced.to_string(), "no price for tier `flex` of `lab/toy-small`");
}

#[test]
fn the_later_start_wins_and_a_window_of_the_day_beats_both() {
    let book = small();
    for (time, price) in [
        ("2026-01-31T12:00:00Z", "2"),
        ("2026-02-01T12:00:00Z", "1"),
        ("2026-03-01T11:59:59.999Z", "1"),
        ("2026-03-01T12:00:00Z", "0.5"),
        ("2026-03-01T21:59:59Z", "0.5"),
        ("2026-03-01T22:00:00Z", "0.25"),
        ("2026-03-02T05:59:59Z", "0.25"),
        ("2026-03-02T06:00:00Z", "0.5"),
        ("1960-01-01T23:00:00Z", "0.25"),
    ] {
        let key = Key { at: at(time), ..key("lab", "toy-large", None) };
        assert_eq!(input_price(&book, &key), price, "{time}");
    }
}

#[test]
fn unknown_names_say_what_is_unknown() {
    let book = small();
    let text = |provider, model| book.quote(&key(provider, model, None)).unwrap_err().to_string();
    assert_eq!(text("acme", "toy-large"), "unknown provider `acme`");
    assert_eq!(text("lab", "toy"), "unknown model `toy` of provider `lab`");
}

#[test]
fn the_first_model_that_a_name_matches_is_the_one() {
    let book = small();
    for (name, price) in [("toy-large-2-b", "0.5"), ("toy-small", "0.2"), ("toy-small-b", "7")] {
        assert_eq!(input_price(&book, &key("lab", name, None)), price, "{name}");
    }
}

#[test]
fn aliases_dates_and_borrowed_models_resolve() {
    let book = small();
    assert_eq!(input_price(&book, &key("My-Lab", "TOY-LARGE", None)), "0.5");
    assert_eq!(input_price(&book, &key("shop", "toy-small", None)), "0.2");
    assert!(matches!(
        book.quote(&key("shop", "toy-large", Some("batch"))),
        Err(Unpriced::NoPriceForTier { .. })
    ));
    let builtin = Book::builtin();
    let dated = builtin.quote(&key("openai", "gpt-4o-20241120", None)).unwrap();
    assert_eq!(dated.model(), "gpt-4o");
    assert!(builtin.quote(&key("openai", "gpt-4o-20241399", None)).is_err());
}

#[test]
fn own_rows_beat_the_book_where_they_are_in_force() {
    let own = PriceRow::own("lab", "toy-large", [("input_uncached", "1.5"), ("output_text", "3")]);
    let local = PriceRow::own("my-lab", "gemma", [("input_uncached", "0.01")]).unwrap();
    let book = small().with_rows([own.unwrap(), local]);
    assert_eq!(input_price(&book, &key("lab", "toy-large", None)), "1.5");
    assert_eq!(
        input_price(&book, &key("lab", "toy-large-2-exp", None)),
        "1.5",
        "by the book's name"
    );
    assert_eq!(input_price(&book, &key("lab", "toy-large", Some("batch"))), "0.5");
    assert_eq!(input_price(&book, &key("my-lab", "gemma", None)), "0.01");
    let other = book.quote(&key("my-lab", "toy-large", None)).unwrap_err();
    assert_eq!(other.code(), "unknown_model", "a self-hosted name is no alias");
    assert_eq!(book.find("gemma").unwrap().provider, "my-lab");
    assert_eq!(book.info().own_rows, 2);
}

#[test]
fn own_rows_with_mistakes_are_refused() {
    let text = |prices: [(&str, &str); 1]| PriceRow::own("p", "m", prices).unwrap_err().to_string();
    assert_eq!(
        text([("input", "1")]),
        "invalid `input`: expected a key, token class or unit that this version knows, found `input`"
    );
    assert_eq!(
        text([("output_text", "1,5")]),
        "invalid `output_text`: expected US dollars such as `2.50`, `2.50,5>272000` or `2.50,5>>272000`, found `1,5`"
    );
    assert!(PriceRow::own("p", "a b", []).is_err());
    let ambiguous = [("cache_read", "1"), ("input_audio", "2")];
    assert!(
        PriceRow::own("p", "m", ambiguous).unwrap_err().to_string().contains("cache_read_audio")
    );
    assert!(PriceRow::own("p", "m", [("input_uncached", "99999999999999")]).is_err());
}

#[test]
fn bare_names_find_their_maker() {
    let book = Book::builtin();
    for (asked, provider) in [
        ("gpt-5-mini", "openai"),
        ("claude-haiku-5-5", "anthropic"),
        ("gemini-2.5-pro", "google"),
        ("mistral-large-latest", "mistral"),
        ("grok-4.3", "x-ai"),
        ("openai/gpt-5-mini", "openai"),
        ("openrouter/openai/gpt-5-mini", "openrouter"),
        ("azure/gpt-5-mini", "azure"),
    ] {
        let found = book.find(asked).unwrap();
        assert_eq!(found.provider, provider, "{asked}");
        assert!(book.quote(&key(&found.provider, &found.model, None)).is_ok(), "{asked}");
    }
}

#[test]
fn a_name_that_nobody_or_everybody_serves_lists_what_is_near() {
    let book = Book::builtin();
    let text = |asked| book.find(asked).unwrap_err().to_string();
    let unknown = text("gpt5-mini");
    assert!(unknown.starts_with("the price book has no model `gpt5-mini`; did you mean `"));
    assert!(unknown.contains("`openai/gpt-5-mini`"), "{unknown}");
    assert_eq!(text("zzzzzzzzzzzz"), "the price book has no model `zzzzzzzzzzzz`");
    let several = text("meta-llama/Llama-3.3-70B-Instruct");
    assert!(several.contains("; name one of `"), "{several}");
}

#[test]
fn every_model_of_the_book_is_served_under_its_own_id() {
    let book = Book::builtin();
    for model in book.models() {
        let row = book.quote(&key(model.provider, model.model, None));
        assert_eq!(row.map(PriceRow::model), Ok(model.model), "{}", model.provider);
    }
}

#[test]
fn a_bad_line_is_named_with_key_expected_and_found() {
    for (bad, message) in [
        (
            "  model x\n    standard output_text=abc",
            "line 21: invalid `output_text`: expected US dollars such as `2.50`, `2.50,5>272000` or `2.50,5>>272000`, found `abc`",
        ),
        (
            "  model x : gpt",
            "line 20: invalid `model`: expected `=x`, `^x`, `$x`, `*x` or `~x`, found `gpt`",
        ),
        ("book again", "line 20: invalid `book`: expected the key once, found `again`"),
        ("nonsense", ""),
    ] {
        let text = format!("{}{bad}\n", &SMALL[..SMALL.find("provider shop").unwrap()]);
        match Book::parse(&text) {
            Ok(_) => assert!(message.is_empty(), "{bad}"),
            Err(error) => assert_eq!(error.to_string(), message, "{bad}"),
        }
    }
}

#[test]
fn all_rows_round_trip_through_text_and_have_their_own_id() {
    let book = Book::builtin();
    let mut ids = std::collections::BTreeMap::<PriceRowId, String>::new();
    for row in book.models().flat_map(|model| model.rows) {
        let text = row.to_text();
        let parsed = PriceRow::parse(&text).unwrap();
        assert_eq!(&parsed, row, "{text}");
        if let Some(other) = ids.insert(row.id(), text.clone()) {
            assert_eq!(other, text, "two rows of one id");
        }
    }
}

#[test]
fn an_id_is_of_the_content_and_not_of_the_book() {
    let row = |book: &str, price: &str| {
        PriceRow::parse(&format!(
            "provider=p model=m tier=standard from=2026-01-01T00:00:00.000000001Z \
             input_uncached={price} audio_seconds=0.04 book={book}"
        ))
        .unwrap()
    };
    assert_eq!(row("a", "2.50").id(), row("b", "2.5").id());
    assert_ne!(row("a", "2.5").id(), row("a", "2.51").id());
    assert_eq!(
        PriceRow::parse(&row("a", "0.33333333333333").to_text()).unwrap().rounded().count(),
        2
    );
    assert!(row("a", "0.33333333333333").to_text().contains("audio_seconds=0.04 "));
}

proptest! {
    #[test]
    fn reading_a_row_never_panics(text in "\\PC{0,80}") {
        let _ = PriceRow::parse(&text);
        let _ = Book::parse(&text);
    }

    #[test]
    fn reading_nearly_a_row_never_panics(
        fields in prop::collection::vec(
            ("(provider|model|tier|from|daily|input_uncached|calls|audio_seconds|book|as_of)",
             "[0-9.,>:eZT-]{0,24}|[a-z]{1,4}"),
            0..12,
        ),
    ) {
        let text: Vec<_> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let text = text.join(" ");
        if let Ok(row) = PriceRow::parse(&text) {
            prop_assert_eq!(PriceRow::parse(&row.to_text()).unwrap(), row);
        }
        let _ = Book::parse(&format!("{SMALL}    {text}"));
    }

    #[test]
    fn quoting_never_panics(model in "\\PC{0,40}|(-?20[0-9]{0,7}[:x]?){0,4}", at in any::<i64>()) {
        let at = UnixTime::from_nanos(at);
        let _ = Book::builtin().quote(&Key::new("openai", &model, at));
        let _ = Book::builtin().quote(&Key::new(&model, &model, at).on(Some(&model)));
    }
}

//! When and for whom a price holds: time, knowledge, regions, layers, contracts, graduated prices.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use proptest::prelude::*;
use quantity::{Billable, Money, TokenClass, TokenCount, UnixTime, Usage};
use tariff::{Book, Contract, Key, Misfit, PriceRow, Unpriced};

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn usage(counts: &[(TokenClass, u32)]) -> Usage {
    let mut usage = Usage::default();
    for (class, count) in counts {
        usage.tokens[*class] = TokenCount::from(*count);
    }
    usage
}

fn book(rows: &str) -> Result<Book, String> {
    let head = "book b\nas_of 2026-01-02\nlicence none\norigin none\nleft_out 0\n";
    Book::parse(&format!("{head}provider lab\nmodel toy\n{rows}"))
        .map_err(|error| error.to_string())
}

/// The price of a million tokens in.
fn input(book: &Book, key: &Key<'_>) -> String {
    let row = book.quote(key).map_err(|error| error.to_string());
    let price = row.map(|row| {
        let price = row.price(Billable::Tokens(TokenClass::InputUncached)).unwrap();
        price.base().price().usd_per_million()
    });
    price.unwrap_or_else(|error| error)
}

fn toy(time: &str) -> Key<'static> {
    Key::new("lab", "toy", at(time))
}

#[test]
fn what_was_known_later_is_not_found_before() {
    let book = book(
        "standard known=2026-01-01 input_uncached=3\n\
         standard from=2026-11-01 known=2026-10-20 withdrawn=2026-11-15 input_uncached=4\n\
         standard from=2026-11-01 known=2026-11-15 input_uncached=2\n",
    );
    let book = book.unwrap();
    let asked = |time, known| input(&book, &Key { known_at: Some(at(known)), ..toy(time) });
    assert_eq!(asked("2026-11-02", "2026-10-19"), "3");
    assert_eq!(asked("2026-11-02", "2026-11-14T23:59:59Z"), "4");
    assert_eq!(asked("2026-11-02", "2026-11-15"), "2");
    assert_eq!(asked("2026-10-31", "2026-11-15"), "3");
    assert_eq!(input(&book, &toy("2026-11-02")), "2", "all that is known");
    assert_eq!(
        asked("2026-11-02", "2025-12-31"),
        "no price of `lab/toy` for tier `standard` was in force at 2026-11-02T00:00:00.000Z"
    );
}

#[test]
fn a_row_ends_and_one_laid_over_gives_way_again() {
    let book = book(
        "standard until=2026-10-01 input_uncached=3\n\
         standard from=2026-05-01 until=2026-06-01 input_uncached=1\n",
    );
    let book = book.unwrap();
    for (time, price) in [("2026-04-30", "3"), ("2026-05-01", "1"), ("2026-06-01", "3")] {
        assert_eq!(input(&book, &toy(time)), price, "{time}");
    }
    assert!(matches!(book.quote(&toy("2026-10-01")), Err(Unpriced::NotInForce { .. })));
}

#[test]
fn a_region_has_its_own_price_and_another_region_has_not() {
    let book = book(
        "standard input_uncached=3\nstandard region=eu input_uncached=3.3\n\
         batch region=us input_uncached=1\n",
    );
    let book = book.unwrap();
    let asked = |region, tier| input(&book, &Key { region, ..toy("2026-11-02") }.on(tier));
    assert_eq!(asked(Some("EU"), None), "3.3");
    assert_eq!(asked(Some("us"), None), "3");
    assert_eq!(asked(None, None), "3");
    assert_eq!(asked(Some("us"), Some("batch")), "1");
    let unpriced = "no price of `lab/toy` for tier `batch` in region `eu`";
    assert_eq!(asked(Some("eu"), Some("batch")), unpriced);
    assert_eq!(asked(None, Some("batch")), unpriced.replace("`eu`", "`none told`"));
}

#[test]
fn peak_hours_cost_more_on_weekdays_alone() {
    let book = book(
        "standard input_uncached=1\n\
         standard daily=01:00:00-04:00:00 days=mon-fri input_uncached=2\n\
         standard daily=06:00:00-10:00:00 days=mon-fri input_uncached=2.5\n",
    );
    let book = book.unwrap();
    for (time, price) in [
        ("2026-11-20T01:00:00Z", "2"),
        ("2026-11-20T04:00:00Z", "1"),
        ("2026-11-20T09:59:59Z", "2.5"),
        ("2026-11-21T02:00:00Z", "1"),
    ] {
        assert_eq!(input(&book, &toy(time)), price, "{time}");
    }
}

#[test]
fn an_explanation_says_of_every_row_why_it_is_not_the_one() {
    let book = book(
        "standard input_uncached=3\nstandard from=2026-10-01 input_uncached=2\n\
         standard from=2027-01-01 input_uncached=4\nbatch input_uncached=1\n",
    );
    let own = [("from", "2026-12-01"), ("input_uncached", "1.5"), ("output_text", "2")];
    let book = book.unwrap().with_rows([PriceRow::own("lab", "toy", own).unwrap()]);
    let key = toy("2026-11-02");
    let considered = book.explain(&key);
    let said: Vec<_> = considered
        .iter()
        .map(|one| (one.chosen, one.misfit.clone().map(|why| why.to_string())))
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        said,
        [
            (false, text("begins at 2026-12-01T00:00:00.000Z")),
            (false, None),
            (true, None),
            (false, text("begins at 2027-01-01T00:00:00.000Z")),
            (false, text("is for tier `batch`")),
        ]
    );
    assert!(book.explain(&Key::new("lab", "none", key.at)).is_empty());
}

#[test]
fn rows_that_leave_a_doubt_are_refused_by_line_and_key() {
    for (rows, message) in [
        (
            "standard input_uncached=3\nstandard input_uncached=2",
            "line 9: invalid `from`: expected one row from each time on, found `always`",
        ),
        (
            "standard from=2026-05-01 input_uncached=3\nbatch from=2026-05-01 input_uncached=3\n\
             standard from=2026-05-01 input_uncached=2",
            "line 10: invalid `from`: expected one row from each time on, found \
             `2026-05-01T00:00:00.000Z`",
        ),
        (
            "standard until=2026-05-01 input_uncached=3\nstandard from=2026-06-01 input_uncached=2",
            "line 9: invalid `from`: expected 2026-05-01T00:00:00.000Z, where the row before ends, or \
             a row between them, found `2026-06-01T00:00:00.000Z`",
        ),
        (
            "standard until=2026-05-01 input_uncached=3\nstandard from=2026-04-01 input_uncached=2",
            "line 9: invalid `until`: expected an end before the next row begins, or after that ends, \
             found `2026-05-01T00:00:00.000Z`",
        ),
        (
            "standard daily=01:00:00-04:00:00 input_uncached=3\n\
             standard daily=03:00:00-05:00:00 input_uncached=2",
            "line 9: invalid `from`: expected one row from each time on, found `always`",
        ),
        (
            "standard from=2026-05-01 until=2026-05-01 input_uncached=3",
            "line 8: invalid `until`: expected a time after `from`, found `2026-05-01T00:00:00.000Z`",
        ),
        (
            "standard input_uncached=0.30000000000000004",
            "line 8: invalid `input_uncached`: expected a decimal as a price list writes it, not the \
             noise of a float, found `0.30000000000000004`",
        ),
        (
            "standard input_uncached=2,3>10,4>>20",
            "line 8: invalid `input_uncached`: expected cliffs (`>`) or graduated steps (`>>`), not \
             both, found `2,3>10,4>>20`",
        ),
        (
            "standard zone=Asia/Shanghai input_uncached=2",
            "line 8: invalid `zone`: expected `daily` or `days` beside it, found `Asia/Shanghai`",
        ),
        (
            "standard currency=EUR input_uncached=2",
            "line 8: invalid `currency`: expected one that has a rate of exchange, found `EUR`",
        ),
        (
            "standard input_uncached=-2",
            "line 8: invalid `input_uncached`: expected US dollars such as `2.50`, `2.50,5>272000` or \
             `2.50,5>>272000`, found `-2`",
        ),
        (
            "standard input_mtok=2",
            "line 8: invalid `input_mtok`: expected a key, token class or unit that this version \
             knows, found `input_mtok`",
        ),
        (
            "standard input_uncached=2 input_uncached=3",
            "line 8: invalid `input_uncached`: expected the key once, found `3`",
        ),
        (
            "model toy",
            "line 8: invalid `model`: expected each model of a provider once, found `toy`",
        ),
    ] {
        assert_eq!(book(rows).map(|_| ()).unwrap_err(), message, "{rows}");
    }
}

#[test]
fn a_foreign_price_is_converted_at_the_rate_of_its_day() {
    let book = book(
        "standard currency=EUR input_uncached=2\n\
         exchange EUR from=2026-01-01 usd=1.1\nexchange EUR from=2026-07-01 usd=1.2\n",
    );
    let book = book.unwrap();
    assert_eq!(input(&book, &toy("2026-06-30T23:59:59Z")), "2.2");
    assert_eq!(input(&book, &toy("2026-07-01")), "2.4");
    assert!(book.quote(&toy("2025-12-31")).is_err(), "no rate then");
}

#[test]
fn a_contract_takes_its_part_off_and_the_list_stays_beside() {
    let list = book(
        "standard input_uncached=3 output_text=8\n\
                     standard from=2026-12-01 input_uncached=4 output_text=9\n",
    );
    let contract = |provider: &str| Contract {
        name: "contract:lab-2026".into(),
        provider: provider.to_owned(),
        models: None,
        tiers: Vec::new(),
        from: Some(at("2026-11-01")),
        until: None,
        discount: Some("10%".into()),
    };
    let list = list.unwrap();
    let book = list.clone().with_contract(&contract("lab")).unwrap();
    let used =
        usage(&[(TokenClass::InputUncached, 1_000_000), (TokenClass::OutputText, 1_000_000)]);
    for (time, contracted, listed) in
        [("2026-10-31", "11", "11"), ("2026-11-01", "9.9", "11"), ("2026-12-01", "11.7", "13")]
    {
        let (_, charge) = book.charge(&toy(time), &used).unwrap();
        assert_eq!(charge.total.to_string(), contracted, "{time}");
        assert_eq!(charge.list_total.to_string(), listed, "{time}");
    }
    // What was negotiated for one model beats what was for all, also what begins later.
    let own = PriceRow::own("lab", "toy", [("input_uncached", "1"), ("until", "2027-01-01")]);
    let book = book.with_rows([own.unwrap()]);
    for (time, price) in [("2026-11-02", "1"), ("2026-12-02", "1"), ("2027-01-01", "3.6")] {
        assert_eq!(input(&book, &toy(time)), price, "{time}");
    }
    assert!(list.with_contract(&contract("nobody")).is_err());
}

#[test]
fn a_book_laid_over_another_beats_it_where_it_has_a_price() {
    let upper = book("standard from=2026-06-01 input_uncached=5\n").unwrap();
    let book = book("standard input_uncached=3\nbatch input_uncached=1\n").unwrap().under([upper]);
    assert_eq!(input(&book, &toy("2026-05-01")), "3");
    assert_eq!(input(&book, &toy("2026-06-01")), "5");
    assert_eq!(input(&book, &toy("2026-06-01").on(Some("batch"))), "1");
    assert_eq!(book.info().name, "b + b");
    assert_eq!(book.find("toy").unwrap().provider, "lab");
}

#[test]
fn a_graduated_price_is_for_the_tokens_beyond_in_the_order_of_the_context() {
    use TokenClass::{CacheRead, InputUncached, OutputText, Reasoning};
    let row = PriceRow::own(
        "lab",
        "toy",
        [
            ("input_uncached", "1,2>>200"),
            ("cache_read", "0.1,0.2>>200"),
            ("output_text", "4,8>>50"),
        ],
    );
    let row = row.unwrap();
    let text = row.to_text();
    assert_eq!(PriceRow::parse(&text).unwrap(), row);
    let used = usage(&[(CacheRead, 150), (InputUncached, 150), (Reasoning, 40), (OutputText, 20)]);
    let charge = row.charge(&used).unwrap();
    let lines: Vec<_> = charge
        .lines
        .iter()
        .map(|line| (line.item.name(), line.count.get(), line.price.usd_per_million()))
        .collect();
    let line = |name, count, price: &str| (name, count, price.to_owned());
    assert_eq!(
        lines,
        [
            line("input_uncached", 50, "1"),
            line("input_uncached", 100, "2"),
            line("cache_read", 150, "0.1"),
            line("output_text", 10, "4"),
            line("output_text", 10, "8"),
            line("reasoning", 40, "4"),
        ]
    );
    assert_eq!(charge.total, charge.lines.iter().map(|line| line.amount).sum::<Money>());
}

fn any_rows() -> impl Strategy<Value = Vec<PriceRow>> {
    let day = 0_u32..40;
    let row = (
        day.clone(),
        prop::option::of(day.clone()),
        day,
        prop::option::of(0_u32..40),
        0_u8..3,
        0_u8..3,
    );
    let row = row.prop_map(|(from, until, known, withdrawn, region, window)| {
        let date = |day: u32| {
            at("2026-01-01")
                .plus(std::time::Duration::from_secs(86_400 * u64::from(day)))
                .to_string()
        };
        let mut fields = vec![
            ("from", date(from)),
            ("known", date(known)),
            ("input_uncached", from.to_string()),
        ];
        fields.extend(until.map(|days| ("until", date(from + 1 + days))));
        fields.extend(withdrawn.map(|day| ("withdrawn", date(day))));
        if region > 0 {
            fields.push(("region", ["eu", "us"][usize::from(region) - 1].to_owned()));
        }
        match window {
            1 => fields.push(("days", "mon-wed".to_owned())),
            2 => fields.push(("daily", "22:00:00-03:00:00".to_owned())),
            _ => {}
        }
        let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.as_str())).collect();
        PriceRow::own("lab", "toy", fields).unwrap()
    });
    prop::collection::vec(row, 0..8)
}

proptest! {
    /// Written apart from the code under test: the row is one that holds, and none that holds is
    /// better.
    #[test]
    fn the_row_chosen_is_the_best_of_those_that_hold(
        rows in any_rows(), hour in 0_u64..960, known in prop::option::of(0_u64..45), region in 0_usize..3,
    ) {
        let start = at("2026-01-01");
        let day = |days: u64| start.plus(std::time::Duration::from_secs(86_400 * days));
        let time = start.plus(std::time::Duration::from_secs(3_600 * hour));
        let region = [None, Some("eu"), Some("us")][region];
        let known_at = known.map(day);
        let key = Key { region, known_at, ..Key::new("lab", "toy", time) };
        let holds = |row: &PriceRow| {
            let terms = row.terms();
            let (weekday, clock) = ((hour / 24 + 3) % 7, hour % 24);
            let in_window = match (terms.window.days.is_some(), terms.window.daily.is_some()) {
                (true, _) => weekday < 3,
                (_, true) => !(3..22).contains(&clock),
                _ => true,
            };
            let believed = match known_at {
                None => terms.withdrawn.is_none(),
                Some(then) => terms.known.unwrap() <= then && terms.withdrawn.is_none_or(|end| then < end),
            };
            terms.from.unwrap() <= time
                && terms.until.is_none_or(|until| time < until)
                && terms.region.as_deref().is_none_or(|wanted| region == Some(wanted))
                && in_window
                && believed
        };
        let rank = |row: &PriceRow| {
            let terms = row.terms();
            (terms.region.is_some(), !terms.window.is_always(), terms.from, terms.known)
        };
        let best = rows.iter().filter(|row| holds(row)).map(rank).max();
        let book = Book::builtin().with_rows(rows.clone());
        let chosen = book.quote(&key);
        prop_assert_eq!(chosen.as_ref().ok().map(|row| rank(row)), best);
        prop_assert_eq!(chosen.is_ok_and(|row| !holds(row)), false);
        let considered = book.explain(&key);
        prop_assert_eq!(considered.len(), rows.len());
        prop_assert_eq!(considered.iter().filter(|one| one.chosen).count(), usize::from(best.is_some()));
        for one in considered {
            prop_assert_eq!(one.misfit.is_none(), holds(one.row), "{}", one.row.to_text());
            prop_assert!(!matches!(one.misfit, Some(Misfit::Tier(_))));
        }
    }

    #[test]
    fn a_graduated_charge_does_not_depend_on_how_a_class_is_cut(
        cached in 0_u32..500, fresh in 0_u32..500, steps in prop::collection::btree_map(1_u64..800, 1_u32..90, 0..4),
    ) {
        let steps: String = steps.iter().map(|(at, price)| format!(",{price}>>{at}")).collect();
        let text = format!("7{steps}");
        let row = PriceRow::own("lab", "toy", [("input_uncached", text.as_str())]).unwrap();
        let used = usage(&[(TokenClass::CacheRead, cached), (TokenClass::InputUncached, fresh)]);
        let charge = row.charge(&used).unwrap();
        // Each token by itself, at the rate of where it stands.
        let price = row.price(Billable::Tokens(TokenClass::InputUncached)).unwrap();
        let naive: Money = (0..u64::from(cached + fresh)).map(|place| {
            let step = price.steps().iter().rev().find(|(from, _)| *from <= place);
            let rate = step.map_or(price.base(), |(_, rate)| rate);
            rate.price().times(TokenCount::from(1))
        }).sum();
        prop_assert_eq!(charge.total, naive);
        let counted: u64 = charge.lines.iter().map(|line| line.count.get()).sum();
        prop_assert_eq!(counted, u64::from(cached + fresh));
    }

    #[test]
    fn any_text_is_a_row_that_is_read_back_or_an_error(text in "[a-z_=0-9.,>%: -]{0,80}") {
        if let Ok(row) = PriceRow::parse(&text) {
            prop_assert_eq!(PriceRow::parse(&row.to_text()).unwrap(), row);
        }
        let _ = tariff::without_noise(&text);
    }
}

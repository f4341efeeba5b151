use facts::{AttemptEnd, AttemptReason, End};
use proptest::prelude::*;
use quantity::{Doubts, ExchangeId, Metered, TokenClass, TokenCount, Usage};

use super::*;
use crate::charge;

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn usage(input: u32, cached: u32, output: u32) -> Usage {
    let mut usage = Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(input);
    usage.tokens[TokenClass::CacheRead] = TokenCount::from(cached);
    usage.tokens[TokenClass::OutputText] = TokenCount::from(output);
    usage
}

/// An attempt that was settled by a book.
fn settled(book: &Book, provider: &str, model: &str, usage: Usage) -> Attempt {
    let exchange = ExchangeId::from_bytes([1; 16]);
    let dispatch = Dispatch {
        exchange,
        ordinal: 2,
        at: at("2026-11-03T10:00:00Z"),
        reason: AttemptReason::First,
        upstream: "up".to_owned(),
        provider: Some(provider.to_owned()),
        model: Some("asked".to_owned()),
        region: None,
        input_estimate: TokenCount::ZERO,
        bound: None,
    };
    let metered = Metered { usage, source: UsageSource::Reported, doubts: Doubts::NONE };
    let served = Served { model: Some(model), tier: Some("default"), region: None };
    let (charged, _) = charge(book, &dispatch, served, &metered);
    let end = AttemptEnd {
        exchange,
        ordinal: 2,
        first_byte_at: None,
        first_token_at: None,
        last_token_at: None,
        at: at("2026-11-03T10:00:05Z"),
        status: Some(200),
        end: End::Complete,
        error: None,
        response_id: None,
        model_served: Some(model.to_owned()),
        tier_served: Some("default".to_owned()),
        region_served: None,
        finish_reason: None,
        metered,
        raw_usage: None,
        response_bytes: 0,
        tools_called: Vec::new(),
        charged,
        told: None,
    };
    Attempt { dispatch, end }
}

/// A book with a price of one's own for a model, or without.
fn book(provider: &str, model: &str, prices: Option<(u32, u32)>) -> Book {
    let row = prices.map(|(input, output)| {
        let (input, output) = (input.to_string(), output.to_string());
        let fields = [("input_uncached", &*input), ("cache_read", "1"), ("output_text", &output)];
        PriceRow::own(provider, model, fields).unwrap()
    });
    Book::builtin().with_rows(row)
}

fn again(book: &Book, attempt: &Attempt, posted: Option<&Booked>) -> Option<Adjustment> {
    reprice(book, attempt, posted, &Supposed::default())?.adjustment(attempt, at("2026-12-01"))
}

proptest! {
    #[test]
    fn whatever_prices_become_what_is_booked_is_what_it_costs_now_and_nothing_is_posted_twice(
        listed in any::<bool>(),
        counts in (0_u32..100_000, 0_u32..100_000, 0_u32..100_000),
        edits in prop::collection::vec(prop::option::of((0_u32..5, 0_u32..5)), 1..6),
    ) {
        // One of them has a price in the list whatever one's own rows say.
        let (provider, model) = if listed { ("openai", "gpt-5-mini") } else { ("lab", "toy") };
        let books: Vec<_> = edits.iter().map(|prices| book(provider, model, *prices)).collect();
        let usage = usage(counts.0, counts.1, counts.2);
        let attempt = settled(&books[0], provider, model, usage);
        let charge_then = Booked::of(&attempt.end.charged);
        let (mut sum, mut row) = (Money::ZERO, charge_then.map(|booked| booked.row));
        let mut posted: Option<Booked> = None;
        for book in &books {
            let fresh = settled(book, provider, model, usage);
            let fresh = Booked::of(&fresh.end.charged);
            let before = (sum, posted);
            if let Some(adjustment) = again(book, &attempt, posted.as_ref()) {
                prop_assert_eq!((adjustment.exchange, adjustment.ordinal), (attempt.end.exchange, 2));
                prop_assert_eq!(adjustment.from, row);
                row = Some(adjustment.to);
                sum += adjustment.contracted;
                posted = Some(Booked::adjusted(posted, &adjustment));
            }
            prop_assert_eq!(again(book, &attempt, posted.as_ref()), None);
            match fresh {
                None => prop_assert_eq!((sum, posted), before),
                Some(now) => {
                    let charged = charge_then.map_or(Money::ZERO, |booked| booked.contracted);
                    prop_assert_eq!(charged + sum, now.contracted);
                    let list = |booked: Option<Booked>| booked.map_or(Money::ZERO, |one| one.list);
                    prop_assert_eq!(list(charge_then) + list(posted), now.list);
                    prop_assert!(row.is_some());
                }
            }
        }
    }
}

#[test]
fn what_no_book_can_price_is_left_alone() {
    let book = book("lab", "toy", Some((1, 2)));
    let attempt = settled(&book, "lab", "toy", usage(10, 0, 5));
    let is_left = |end: AttemptEnd| {
        let attempt = Attempt { end, ..attempt.clone() };
        reprice(&book, &attempt, None, &Supposed::default()).is_none()
    };
    let end = &attempt.end;
    assert!(!is_left(end.clone()));
    for charged in [Charged::Hosted, Charged::NotBilled] {
        assert!(is_left(AttemptEnd { charged, ..end.clone() }));
    }
    let charged = Charged::Unpriced { reason: "usage unknown".to_owned() };
    let unpriced = AttemptEnd { charged, ..end.clone() };
    assert!(is_left(AttemptEnd { metered: Metered::unknown(), ..unpriced.clone() }));
    let doubts = Doubts::NONE.with(Doubt::MixedModels);
    assert!(is_left(AttemptEnd { metered: Metered { doubts, ..end.metered }, ..unpriced }));
}

#[test]
fn the_price_is_the_one_in_force_at_dispatch_as_known_now_for_the_model_that_served() {
    let row = |from, price| {
        let fields = [("from", from), ("input_uncached", price), ("output_text", "8")];
        PriceRow::own("lab", "toy", fields).unwrap()
    };
    let then = Book::builtin().with_rows([row("2026-01-01", "2")]);
    let attempt = settled(&then, "lab", "toy", usage(1_000_000, 0, 0));
    // Known since: from November on it cost 3; what holds from December on does not matter.
    let rows = [row("2026-01-01", "2"), row("2026-11-01", "3"), row("2026-12-01", "9")];
    let now = Book::builtin().with_rows(rows);
    let adjustment = again(&now, &attempt, None).unwrap();
    assert_eq!(adjustment.contracted, "1".parse().unwrap());
    assert_eq!((&*adjustment.provider, &*adjustment.model), ("lab", "toy"));
}

#[test]
fn a_price_that_is_gone_leaves_what_was_charged_and_one_that_came_is_all_difference() {
    let [none, some] = [None, Some((1, 2))].map(|prices| book("lab", "toy", prices));
    let charged = settled(&some, "lab", "toy", usage(1_000_000, 0, 0));
    let repriced = reprice(&none, &charged, None, &Supposed::default()).unwrap();
    assert!(repriced.now.is_err() && repriced.adjustment(&charged, at("2026-12-01")).is_none());
    let unpriced = settled(&none, "lab", "toy", usage(1_000_000, 0, 0));
    let adjustment = again(&some, &unpriced, None).unwrap();
    assert_eq!((adjustment.from, adjustment.contracted), (None, "1".parse().unwrap()));
    // Also if it is free: it is known now, where it was not.
    let free = settled(&none, "lab", "toy", usage(0, 0, 0));
    let adjustment = again(&some, &free, None).unwrap();
    assert_eq!((adjustment.from, adjustment.contracted), (None, Money::ZERO));
    let posted = Booked::adjusted(None, &adjustment);
    assert_eq!(again(&some, &free, Some(&posted)), None);
}

#[test]
fn another_model_and_another_tier_may_be_supposed() {
    let book = Book::builtin();
    let attempt = settled(&book, "openai", "gpt-5-mini", usage(1_000_000, 0, 0));
    let now = |supposed: &Supposed<'_>| {
        let repriced = reprice(&book, &attempt, None, supposed).unwrap();
        repriced.now.unwrap().0.contracted
    };
    let own = now(&Supposed::default());
    let batch = now(&Supposed { tier: Some("batch"), ..Supposed::default() });
    assert!(batch < own, "{batch} {own}");
    let served_by = Some(("anthropic", "claude-haiku-4-5"));
    let haiku = Supposed { served_by, ..Supposed::default() };
    assert_eq!(now(&haiku), "1".parse().unwrap());
}

#[test]
fn prices_of_another_time_apply_at_the_hour_of_the_dispatch() {
    // The attempt was dispatched at ten in the morning of a Tuesday.
    let day = [("daily", "06:00:00-22:00:00"), ("input_uncached", "4"), ("output_text", "4")];
    let weekend = [("days", "sat,sun"), ("input_uncached", "9"), ("output_text", "9")];
    let row = |fields: &[(&'static str, &'static str)]| {
        PriceRow::own("lab", "toy", fields.iter().copied()).unwrap()
    };
    let all = [("input_uncached", "1"), ("output_text", "1")];
    let later = [("from", "2027-01-01"), ("input_uncached", "3"), ("output_text", "3")];
    let prices = [("input_uncached", "7"), ("output_text", "7")];
    let later_day = [&later[..1], &day[..1], &prices].concat();
    let rows = [&all[..], &day, &weekend, &later, &later_day].map(row);
    let book = Book::builtin().with_rows(rows);
    let attempt = settled(&book, "lab", "toy", usage(1_000_000, 0, 0));
    let cost = |in_force| {
        let supposed = Supposed { in_force, ..Supposed::default() };
        let repriced = reprice(&book, &attempt, None, &supposed).unwrap();
        repriced.now.unwrap().0.contracted.to_string()
    };
    assert_eq!(cost(None), "4");
    // Midnight, and a Saturday: neither is when it was dispatched.
    assert_eq!(cost(Some(at("2026-12-31T23:59:59Z"))), "4");
    assert_eq!(cost(Some(at("2027-01-01"))), "7");
    assert_eq!(cost(Some(at("2027-01-02"))), "7");
}

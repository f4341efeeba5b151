//! Usage at the prices of a book.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use facts::{Api, AttemptReason, Charged, Dispatch};
use metering::{Request, Served, bound, charge};
use quantity::{
    Doubt, Doubts, ExchangeId, HashKey, Metered, TokenClass, TokenCount, Usage, UsageSource,
};
use tariff::Book;

const BOOK: &str = "\
book test-1
as_of 2026-01-02
licence none
origin nowhere
left_out 0
provider lab
  model big : =big
    standard input_uncached=2 output_text=8
    standard from=2026-02-01 input_uncached=1 output_text=4
  model small : =small
    standard input_uncached=0.25 output_text=0.5
  model local : =local
    standard region=eu input_uncached=3 output_text=9
    standard region=us input_uncached=5 output_text=7
";

fn dispatch(provider: Option<&str>, at: &str) -> Dispatch {
    Dispatch {
        exchange: ExchangeId::from_bytes([1; 16]),
        ordinal: 0,
        at: at.parse().unwrap(),
        reason: AttemptReason::First,
        upstream: "up".to_owned(),
        provider: provider.map(str::to_owned),
        model: Some("big".to_owned()),
        region: None,
        input_estimate: TokenCount::from(1_000),
        bound: None,
    }
}

fn metered(source: UsageSource) -> Metered {
    let mut usage = Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(3);
    usage.tokens[TokenClass::OutputText] = TokenCount::from(7);
    Metered { usage, source, doubts: Doubts::NONE }
}

/// Dollars at the price in force at a time, or why there are none.
fn dollars(dispatch: &Dispatch, served: Option<&str>, source: UsageSource) -> String {
    let book = Book::parse(BOOK).unwrap();
    let metered = match source {
        UsageSource::Unknown => Metered::unknown(),
        _ => metered(source),
    };
    let (charged, row) =
        charge(&book, dispatch, Served { model: served, ..Served::default() }, &metered);
    match charged {
        Charged::Priced { row: id, .. } => {
            assert_eq!(row.unwrap().id(), id, "the row comes with its charge");
            charged.cost().unwrap().to_string()
        }
        Charged::Unpriced { reason } => reason,
        other => panic!("{other:?}"),
    }
}

const JANUARY: &str = "2026-01-31T23:59:59Z";
const FEBRUARY: &str = "2026-02-01T00:00:00Z";

#[test]
fn a_charge_is_exact_at_the_price_of_its_dispatch() {
    let reported = UsageSource::Reported;
    assert_eq!(dollars(&dispatch(Some("lab"), JANUARY), None, reported), "0.000062");
    assert_eq!(dollars(&dispatch(Some("lab"), FEBRUARY), None, reported), "0.000031");
    assert_eq!(dollars(&dispatch(Some("lab"), FEBRUARY), None, UsageSource::Partial), "0.000031");
}

#[test]
fn the_model_that_served_is_priced() {
    let asked_big = dispatch(Some("lab"), JANUARY);
    assert_eq!(dollars(&asked_big, Some("small"), UsageSource::Reported), "0.00000425");
}

#[test]
fn the_region_that_served_is_priced_or_else_that_of_the_upstream() {
    let book = Book::parse(BOOK).unwrap();
    let metered = metered(UsageSource::Reported);
    let cost = |configured: Option<&str>, region: Option<&str>| {
        let region_of = configured.map(str::to_owned);
        let dispatch = Dispatch { region: region_of, ..dispatch(Some("lab"), JANUARY) };
        let served = Served { model: Some("local"), region, ..Served::default() };
        charge(&book, &dispatch, served, &metered).0
    };
    let dollars = |charged: Charged| charged.cost().map(|cost| cost.to_string());
    assert_eq!(dollars(cost(Some("eu"), None)).as_deref(), Some("0.000072"));
    assert_eq!(dollars(cost(Some("EU"), Some("us"))).as_deref(), Some("0.000064"));
    assert_eq!(dollars(cost(None, Some("us"))).as_deref(), Some("0.000064"));
    for (configured, served, told) in [(None, None, "none told"), (Some("eu"), Some("ap"), "ap")] {
        let reason = format!("no price of `lab/local` for tier `standard` in region `{told}`");
        assert_eq!(cost(configured, served), Charged::Unpriced { reason });
    }
    let body = r#"{"model":"local","max_tokens":100,"messages":[]}"#;
    let request = Request::read(Api::OpenAiChat, body.as_bytes(), &HashKey::new([7; 32])).unwrap();
    let most = |region: Option<&str>| {
        let (model, region) = (Some("local".to_owned()), region.map(str::to_owned));
        let dispatch = Dispatch { model, region, ..dispatch(Some("lab"), JANUARY) };
        bound(&book, &dispatch, &request, 10).map(|most| most.to_string())
    };
    assert_eq!(most(Some("eu")).as_deref(), Some("0.00093"));
    assert_eq!(most(Some("us")).as_deref(), Some("0.00075"));
    assert_eq!(most(None), None);
}

#[test]
fn what_has_no_price_is_unpriced_and_never_free() {
    let unpriced = |dispatch: &Dispatch, served, source| {
        let reason = dollars(dispatch, served, source);
        assert!(reason.parse::<f64>().is_err(), "{reason}");
        reason
    };
    let lab = dispatch(Some("lab"), JANUARY);
    assert_eq!(unpriced(&lab, None, UsageSource::Unknown), "usage unknown");
    unpriced(&lab, Some("unheard-of"), UsageSource::Reported);
    unpriced(&dispatch(Some("nobody"), JANUARY), None, UsageSource::Reported);
    unpriced(&dispatch(None, JANUARY), None, UsageSource::Reported);
}

#[test]
fn tokens_of_several_models_told_as_one_have_no_price() {
    let book = Book::parse(BOOK).unwrap();
    let mut metered = metered(UsageSource::Reported);
    metered.doubts = metered.doubts.with(Doubt::MixedModels);
    let (charged, row) =
        charge(&book, &dispatch(Some("lab"), JANUARY), Served::default(), &metered);
    assert!(matches!(charged, Charged::Unpriced { .. }) && row.is_none());
}

#[test]
fn what_the_provider_adds_to_the_input_has_no_bound() {
    let book = Book::parse(BOOK).unwrap();
    let lab = dispatch(Some("lab"), JANUARY);
    let most = |more: &str| {
        let body = format!(r#"{{"model":"big","max_output_tokens":100,"input":"hi"{more}}}"#);
        let key = HashKey::new([7; 32]);
        let request = Request::read(Api::OpenAiResponses, body.as_bytes(), &key).unwrap();
        bound(&book, &lab, &request, body.len()).is_some()
    };
    assert!(most(""));
    assert!(!most(r#","previous_response_id":"resp_1""#));
    assert!(!most(r#","tools":[{"type":"web_search"}]"#));
}

#[test]
fn a_bound_needs_a_price_and_a_cap() {
    let book = Book::parse(BOOK).unwrap();
    let lab = dispatch(Some("lab"), JANUARY);
    let most = |dispatch: &Dispatch, body: &str| {
        let key = HashKey::new([7; 32]);
        let request = Request::read(Api::OpenAiChat, body.as_bytes(), &key).unwrap();
        bound(&book, dispatch, &request, body.len()).map(|most| most.to_string())
    };
    let body = r#"{"model":"big","max_tokens":100,"n":3,"messages":[]}"#;
    assert_eq!(body.len(), 52);
    // 52 bytes at $2 and 3 x 100 tokens at $8 per million.
    assert_eq!(most(&lab, body).as_deref(), Some("0.002504"));
    assert_eq!(most(&dispatch(None, JANUARY), body), None);
    assert_eq!(most(&lab, r#"{"model":"big","messages":[]}"#), None);
    let image = r#"{"model":"big","max_tokens":100,"messages":[{"role":"user","content":
        [{"type":"image_url","image_url":{"url":"https://example/1"}}]}]}"#;
    assert_eq!(most(&lab, image), None);
}

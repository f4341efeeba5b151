//! The bill of an idea.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use quantity::Money;
use tariff::estimate::{Estimate, EstimateError, Idea, estimate, later};
use tariff::{Book, Found, PriceRow};

const IDEA: Idea = Idea { input: 2_000, output: 500, per_day: 50_000, cached_percent: 0 };

fn found(provider: &str, model: &str) -> Found {
    Found { provider: provider.to_owned(), model: model.to_owned() }
}

fn own_book() -> Book {
    let row = PriceRow::own("lab", "toy", [("input_uncached", "2.50"), ("output_text", "10")]);
    Book::builtin().with_rows([row.unwrap()])
}

fn bill(book: &Book, model: &Found, idea: Idea, against: &[Found]) -> Estimate {
    estimate(book, model, "2026-11-22".parse().unwrap(), idea, against).unwrap()
}

/// `name: saved` or `name: reason`.
fn levers(estimate: &Estimate) -> Vec<String> {
    let levers = estimate.levers.iter().map(|lever| match &lever.effect {
        Ok(effect) => {
            assert_eq!(effect.saved, estimate.per_month.total() - effect.per_month.total());
            format!("{}: ${}", lever.name, effect.saved)
        }
        Err(reason) => format!("{}: {reason}", lever.name),
    });
    levers.collect()
}

#[test]
fn fifty_thousand_exchanges_a_day_cost_500_dollars_half_of_it_output() {
    let estimate = bill(&own_book(), &found("lab", "toy"), IDEA, &[]);
    assert_eq!(estimate.per_exchange.total().to_string(), "0.01");
    assert_eq!(estimate.per_day.total().to_string(), "500");
    assert_eq!(estimate.per_month.total().to_string(), "15000");
    assert_eq!(estimate.per_month.output.to_string(), "7500");
    assert_eq!(
        levers(&estimate),
        [
            "trim the prompt: $2500",
            "cap the output: $2250",
            "retrieve less: $1875",
            "cache the prefix: the row has no price for cached input",
            "a cheaper model: the provider has none of this family, as new or newer, in the book; \
             --against compares with others",
            "the batch lane: no price for tier `batch` of `lab/toy`",
        ]
    );
}

#[test]
fn a_listed_model_has_every_lever() {
    let estimate =
        bill(&own_book(), &found("openai", "gpt-4o"), IDEA, &[found("openai", "gpt-4o-mini")]);
    assert_eq!(
        levers(&estimate),
        [
            "trim the prompt: $2500",
            "cap the output: $2250",
            "retrieve less: $1875",
            "cache the prefix: $3000",
            "a cheaper model: $14100",
            "the batch lane: $7500",
        ]
    );
}

#[test]
fn without_a_name_the_cheaper_model_is_the_next_step_down_in_the_family() {
    for (provider, model, cheaper) in [
        ("openai", "gpt-5", "gpt-5-mini"),
        ("openai", "gpt-5-mini", "gpt-5-nano"),
        ("openai", "gpt-5.1", "gpt-5.4-mini"),
        ("openai", "gpt-4o", "gpt-4o-mini"),
        ("openai", "o3", "o3-mini"),
        ("google", "gemini-2.5-pro", "gemini-2.5-flash"),
        ("anthropic", "claude-opus-4-6", "claude-sonnet-4-6"),
        ("anthropic", "claude-sonnet-4-5", "claude-haiku-4-5"),
        // There is nothing cheaper of version 4: a newer one is.
        ("anthropic", "claude-haiku-4-5", "claude-haiku-5-5"),
    ] {
        let estimate = bill(&own_book(), &found(provider, model), IDEA, &[]);
        let lever = estimate.levers.iter().find(|lever| lever.name == "a cheaper model").unwrap();
        assert!(lever.effect.is_ok(), "{lever:?}");
        assert!(lever.assumption.starts_with(&format!("{cheaper} of {provider} ")), "{lever:?}");
        assert!(lever.assumption.ends_with("quality is not compared"), "{lever:?}");
    }
}

#[test]
fn no_model_of_the_book_is_told_to_change_for_a_dearer_or_deprecated_one() {
    let book = own_book();
    for mix in [IDEA, Idea { output: 20, cached_percent: 90, ..IDEA }] {
        for model in book.models() {
            let at = "2026-11-22".parse().unwrap();
            let asked = found(model.provider, model.model);
            let Ok(estimate) = estimate(&book, &asked, at, mix, &[]) else { continue };
            let lever = estimate.levers.iter().find(|l| l.name == "a cheaper model").unwrap();
            let Ok(effect) = &lever.effect else { continue };
            assert!(effect.saved > Money::ZERO);
            let named = lever.assumption.split(' ').next().unwrap();
            let mut relatives = book.models().filter(|one| one.provider == estimate.row.provider());
            assert!(!relatives.find(|one| one.model == named).unwrap().deprecated, "{lever:?}");
        }
    }
}

#[test]
fn the_price_of_writing_to_the_cache_is_said_to_be_left_out() {
    let estimate = bill(&own_book(), &found("anthropic", "claude-opus-5"), IDEA, &[]);
    let cached = estimate.levers.iter().find(|lever| lever.name == "cache the prefix").unwrap();
    assert!(cached.effect.is_ok() && cached.assumption.contains("left out"), "{cached:?}");
}

#[test]
fn of_the_models_compared_only_the_cheaper_ones_are_levers() {
    let dear = found("openai", "gpt-5.4-pro");
    let unknown = found("openai", "gpt-0");
    let cheap = found("openai", "gpt-4o-mini");
    let against = [dear.clone(), unknown.clone(), cheap];
    let texts = levers(&bill(&own_book(), &found("openai", "gpt-4o"), IDEA, &against));
    assert_eq!(texts[4..], ["a cheaper model: $14100", "the batch lane: $7500"]);
    let texts = levers(&bill(&own_book(), &found("openai", "gpt-4o"), IDEA, &[dear, unknown]));
    let none = "a cheaper model: none of those compared is cheaper for this mix";
    assert_eq!(texts[4..], [none, "the batch lane: $7500"]);
}

#[test]
fn cached_input_is_billed_as_such() {
    let idea = Idea { cached_percent: 60, ..IDEA };
    let estimate = bill(&own_book(), &found("openai", "gpt-4o"), idea, &[]);
    assert_eq!(estimate.per_exchange.input.to_string(), "0.0035");
    let full = Idea { cached_percent: 90, ..IDEA };
    let texts = levers(&bill(&own_book(), &found("openai", "gpt-4o"), full, &[]));
    assert_eq!(texts[3], "cache the prefix: 90% are read from it already");
}

#[test]
fn a_trimmed_prompt_can_fall_below_a_cliff() {
    let row =
        PriceRow::own("lab", "long", [("input_uncached", "1,2>200000"), ("output_text", "0")]);
    let book = Book::builtin().with_rows([row.unwrap()]);
    let idea = Idea { input: 240_000, output: 1, per_day: 1, cached_percent: 0 };
    let estimate = bill(&book, &found("lab", "long"), idea, &[]);
    assert_eq!(estimate.per_month.total().to_string(), "14.4");
    assert_eq!(levers(&estimate)[0], "trim the prompt: $9.6");
}

#[test]
fn no_traffic_costs_nothing_and_nonsense_is_refused() {
    let at = "2026-11-22".parse().unwrap();
    let model = found("lab", "toy");
    let none = bill(&own_book(), &model, Idea { per_day: 0, ..IDEA }, &[]);
    assert_eq!(none.per_month.total(), Money::ZERO);
    let nonsense = Idea { cached_percent: 101, ..IDEA };
    assert_eq!(
        estimate(&own_book(), &model, at, nonsense, &[]),
        Err(EstimateError::CachedPercent(101))
    );
    let most = Idea { input: u32::MAX, output: u32::MAX, per_day: u32::MAX, cached_percent: 100 };
    assert!(matches!(
        estimate(&own_book(), &model, at, most, &[]),
        Ok(_) | Err(EstimateError::TooLarge)
    ));
    assert!(estimate(&own_book(), &found("lab", "gone"), at, IDEA, &[]).is_err());
}

#[test]
fn what_is_scheduled_changes_the_bill_from_its_day_on() {
    let head = "book b\nas_of 2026-01-02\nlicence none\norigin none\nleft_out 0\n";
    let book = Book::parse(&format!(
        "{head}provider lab\nmodel toy\n\
         standard input_uncached=2.50 output_text=10\n\
         standard from=2026-12-01 input_uncached=5 output_text=10\n\
         standard from=2026-12-15 input_uncached=5 cache_read=1 output_text=10\n\
         standard from=2027-01-01 until=2027-02-01 input_uncached=2.5,9>1999 output_text=20\n\
         standard daily=00:00:00-06:00:00 from=2026-12-01 input_uncached=1 output_text=1\n\
         batch input_uncached=1 output_text=5\n\
         batch from=2026-12-20 input_uncached=2 output_text=5\n"
    ));
    let book = book.unwrap();
    let told = |now: &str, until: &str| -> Vec<String> {
        let (now, until) = (now.parse().unwrap(), until.parse().unwrap());
        let changes = later(&book, &found("lab", "toy"), now, until, IDEA);
        let changes = changes.iter().map(|one| {
            let before = one.before.map(|split| split.total().to_string()).unwrap_or_default();
            let after = one.after.as_ref();
            let after = after.map(|(_, split)| split.total().to_string());
            format!("{} {before} -> {}", one.at.day(), after.unwrap_or_else(|e| e.to_string()))
        });
        changes.collect()
    };
    // At noon: what holds at night is not the bill. A price of cached input changes nothing here.
    let all = told("2026-11-22T12:00:00Z", "2027-03-01");
    assert_eq!(
        all,
        ["2026-12-01 15000 -> 22500", "2027-01-01 22500 -> 42000", "2027-02-01 42000 -> 22500",]
    );
    assert!(told("2026-11-22T12:00:00Z", "2026-11-30").is_empty());
    assert!(told("2027-02-01T12:00:00Z", "2028-01-01").is_empty());
    assert_eq!(told("2026-11-22T01:00:00Z", "2026-12-15"), ["2026-12-01 15000 -> 3750"]);
}

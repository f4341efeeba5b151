//! Questions and their answers.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod fixture;

use std::time::Duration;

use facts::{
    Adjustment, AdjustmentLine, Answer, Dimension, End, Exchange, Gap, Measures, PriceRecord,
    Query, Rollup, Tally, WasteCause,
};
use fixture::{Charge, Sample, Try, hourly, some_hours};
use proptest::prelude::*;
use quantity::{Doubt, ExchangeId, Money, Period, PriceRowId, UnixTime, UsageSource};

fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn ask(by: &[&str], period: Period, prices: &[PriceRecord], exchanges: &[Exchange]) -> Answer {
    let by = by.iter().map(|name| name.parse().unwrap()).collect();
    let mut rollup = Rollup::new(Query { by, period });
    prices.iter().for_each(|price| rollup.price(price));
    exchanges.iter().for_each(|exchange| rollup.add(exchange));
    rollup.answer(at("2026-11-22T16:00:00Z"))
}

#[test]
fn gaps_stand_beside_the_sums_of_the_period_in_which_they_began() {
    let gap = |since| Gap::new(at(since), "full".to_owned());
    let [early, late] = ["2026-11-22T14:00:00Z", "2026-11-22T15:00:00Z"].map(gap);
    let until = |end| {
        let period = Period { start: None, end: Some(at(end)) };
        // In whatever order they come.
        let mut rollup = Rollup::new(Query { by: Vec::new(), period });
        let mut other = rollup.clone();
        rollup.gap(&late);
        other.gap(&early);
        rollup.merge(other);
        rollup.answer(at("2026-11-22T16:00:00Z"))
    };
    assert_eq!(until("2026-11-22T15:00:00Z").gaps, std::slice::from_ref(&early));
    let both = until("2026-11-22T15:00:01Z");
    assert_eq!((both.gaps, both.total), (vec![early.clone(), late.clone()], Measures::default()));
}

#[test]
fn adjustments_belong_to_the_period_in_which_they_were_posted_and_are_in_its_spend() {
    let adjustment = |posted, model: &str, cost: &str| Adjustment {
        exchange: ExchangeId::from_bytes([1; 16]),
        ordinal: 0,
        at: at(posted),
        provider: "openai".to_owned(),
        model: model.to_owned(),
        from: None,
        to: PriceRowId::of(b"row"),
        contracted: cost.parse().unwrap(),
        list: "0.5".parse().unwrap(),
    };
    let posted = [
        adjustment("2026-11-22T14:00:00Z", "b", "-3"),
        adjustment("2026-11-22T14:30:00Z", "a", "1.5"),
        adjustment("2026-11-22T15:00:00Z", "b", "0.25"),
        adjustment("2026-11-23T00:00:00Z", "b", "8"),
    ];
    let between = |start, end| {
        let period = Period { start: Some(at(start)), end: Some(at(end)) };
        // In parts, in whatever order they come.
        let mut rollup = Rollup::new(Query { by: Vec::new(), period });
        let mut other = rollup.clone();
        other.adjust(&posted[2]);
        rollup.adjust(&posted[1]);
        rollup.adjust(&posted[0]);
        rollup.adjust(&posted[3]);
        other.merge(rollup);
        other
    };
    let now = at("2026-11-23T16:00:00Z");
    let line = |model: &str, adjustments, cost: &str, list: &str| AdjustmentLine {
        provider: "openai".to_owned(),
        model: model.to_owned(),
        adjustments,
        contracted: cost.parse().unwrap(),
        list: list.parse().unwrap(),
    };
    let all = between("2026-11-22T14:00:00Z", "2026-11-22T15:00:01Z").answer(now);
    assert_eq!(all.adjustments, [line("a", 1, "1.5", "0.5"), line("b", 2, "-2.75", "1")]);
    assert_eq!((all.spend(), all.total), ("-1.25".parse().unwrap(), Measures::default()));
    let some = between("2026-11-22T14:00:01Z", "2026-11-22T15:00:00Z").answer(now);
    assert_eq!(some.adjustments, [line("a", 1, "1.5", "0.5")]);
    // Days apart, and one line for each model over all days.
    let days = between("2026-11-22T15:00:00Z", "2026-11-24");
    let told: Vec<_> =
        days.adjusted_by_day().map(|(day, line)| (day.to_string(), line.contracted)).collect();
    assert_eq!(told, [("2026-11-22".to_owned(), usd("0.25")), ("2026-11-23".to_owned(), usd("8"))]);
    assert_eq!(days.answer(now).adjustments, [line("b", 2, "8.25", "1")]);
}

/// A hosted exchange for `route` that keeps the GPU busy from `start` for `minutes`.
fn hosted(route: &'static str, start: &'static str, minutes: u64, number: u8) -> Exchange {
    let at_ms = (0, Some(50), minutes * 60_000);
    let one = Try { upstream: "gpu", charge: Charge::Hosted, at_ms, ..Try::default() };
    Sample { route, at: start, tries: vec![one], ..Sample::default() }.exchange(number)
}

fn rate(cost: &str, from: &str) -> PriceRecord {
    PriceRecord::PerHour { upstream: "gpu".to_owned(), cost: cost.parse().ok(), from: at(from) }
}

fn measures<'a>(answer: &'a Answer, key: &str) -> &'a Measures {
    let group = answer.groups.iter().find(|group| group.key[0].as_deref() == Some(key));
    &group.unwrap().measures
}

#[test]
fn an_exchange_with_two_attempts_is_counted_once() {
    let answer = ask(&["route"], Period::default(), &[], &some_hours()[1..2]);
    assert_eq!((answer.total.exchanges, answer.total.attempts), (1, 2));
    assert_eq!(answer.total.completed, 1);
    // The refused attempt cost nothing; the second alone is paid.
    assert_eq!(answer.total.waste.get(&WasteCause::Rejected), None);
    assert_eq!(answer.total.cost, usd("0.0002436"));
}

#[test]
fn an_exchange_belongs_to_the_group_of_its_last_attempt() {
    let failed = Try { end: End::UpstreamError, status: Some(500), finish: None, ..Try::default() };
    let fallback = Try { model: "gpt-5-nano", ..Try::default() };
    let exchange = Sample { tries: vec![failed, fallback], ..Sample::default() }.exchange(1);
    let answer = ask(&["model"], Period::default(), &[], &[exchange]);
    let (mini, nano) = (measures(&answer, "gpt-5-mini"), measures(&answer, "gpt-5-nano"));
    assert_eq!((mini.exchanges, mini.attempts), (0, 1));
    assert_eq!((nano.exchanges, nano.attempts), (1, 1));
    assert_eq!(mini.waste[&WasteCause::Failed], mini.cost);
    assert!(nano.waste.is_empty());
}

#[test]
fn an_exchange_without_an_attempt_is_counted() {
    let exchange = Sample { tries: Vec::new(), ..Sample::default() }.exchange(1);
    let answer = ask(&["route", "model"], Period::default(), &[], &[exchange]);
    assert_eq!((answer.total.exchanges, answer.total.attempts), (1, 0));
    assert_eq!(answer.groups[0].key, [Some("support".to_owned()), None]);
}

#[test]
fn waste_has_the_cause_of_the_end() {
    for (end, finish, cause) in [
        (End::Complete, Some("stop"), None),
        (End::Complete, Some("length"), Some(WasteCause::Truncated)),
        (End::Complete, Some("max_tokens"), Some(WasteCause::Truncated)),
        (End::ClientGone, None, Some(WasteCause::Aborted)),
        (End::Cut, Some("length"), Some(WasteCause::Failed)),
        (End::StreamError, None, Some(WasteCause::Failed)),
        (End::Timeout, None, Some(WasteCause::Failed)),
        (End::Lost, None, Some(WasteCause::Failed)),
        (End::Refused, None, Some(WasteCause::Rejected)),
    ] {
        let tries = vec![Try { end, finish, ..Try::default() }];
        let exchange = Sample { tries, ..Sample::default() }.exchange(1);
        let total = ask(&[], Period::default(), &[], &[exchange]).total;
        let expected = cause.map(|cause| (cause, total.cost));
        assert_eq!(total.waste.into_iter().next(), expected, "{end}");
        assert_eq!(total.useful_output > 0, cause.is_none(), "{end}");
    }
}

#[test]
fn unpriced_and_unknown_are_counted_and_not_free() {
    let answer = ask(&["model"], Period::default(), &[], &some_hours());
    let mystery = measures(&answer, "mystery-1");
    assert_eq!((mystery.unpriced, mystery.unpriced_tokens, mystery.unknown), (2, 2_500, 1));
    assert_eq!(mystery.priced_tokens, quantity::PerClass::default());
    let sonnet = measures(&answer, "claude-sonnet-4-5");
    assert_eq!(sonnet.estimated.attempts, 1);
    // 5,200 x $3 + 48,000 x $0.30 + 300 x $15 per million.
    assert_eq!(sonnet.estimated.cost, usd("0.0345"));
    assert_eq!(sonnet.waste[&WasteCause::Aborted], usd("0.0345"));
}

#[test]
fn doubts_are_counted_each_and_together_with_the_cost_they_touch() {
    let of = |doubts, charge, source| {
        let tries = vec![Try { doubts, charge, source, ..Try::default() }];
        Sample { tries, ..Sample::default() }.exchange(1)
    };
    let (priced, reported) = (Try::default().charge, UsageSource::Reported);
    let exchanges = [
        of(&[], priced, reported),
        of(&[Doubt::SumMismatch, Doubt::OverlapOpen], priced, reported),
        of(&[Doubt::SumMismatch], priced, UsageSource::Partial),
        of(&[Doubt::MixedModels], Charge::Unpriced("several models"), reported),
        of(&[Doubt::LowerBound], priced, UsageSource::Estimated),
    ];
    let total = ask(&[], Period::default(), &[], &exchanges).total;
    let one = usd("0.0002436");
    let tally = |attempts, priced, cost| Tally { attempts, priced, cost };
    let expected = [
        (Doubt::OverlapOpen, tally(1, 1, one)),
        (Doubt::SumMismatch, tally(2, 2, one + one)),
        (Doubt::LowerBound, tally(1, 1, one)),
        (Doubt::MixedModels, tally(1, 0, Money::ZERO)),
    ];
    assert_eq!(total.doubts, expected.into());
    // What has no price is not free.
    assert_eq!(total.doubts[&Doubt::MixedModels].known_cost(), None);
    // An attempt with two doubts is one doubtful attempt.
    assert_eq!(total.doubtful, tally(4, 3, one + one + one));
    // An estimate that is not a lower bound was learned.
    assert_eq!((total.estimated, total.learned), (tally(2, 2, one + one), tally(1, 1, one)));
}

#[test]
fn the_bound_of_what_is_unknown_is_no_cost() {
    let of = |bound, charge| {
        let source = UsageSource::Unknown;
        let tries = vec![Try { source, bound, charge, tokens: [0; 4], ..Try::default() }];
        Sample { tries, ..Sample::default() }.exchange(1)
    };
    let lost = Charge::Unpriced("usage unknown");
    let exchanges =
        [of(Some("0.0012"), lost), of(Some("1.5"), lost), of(None, lost), of(None, Charge::Hosted)];
    let total = ask(&[], Period::default(), &[], &exchanges).total;
    assert_eq!((total.unknown, total.unbounded), (4, 1));
    assert_eq!(total.unknown_bound, usd("1.5012"));
    assert_eq!(total.spend(), Money::ZERO);
    // What is known needs no bound.
    let known = ask(&[], Period::default(), &[], &[Sample::default().exchange(1)]).total;
    assert_eq!((known.unknown_bound, known.unbounded), (Money::ZERO, 0));
}

#[test]
fn a_list_of_models_or_a_count_of_tokens_is_no_use_of_one() {
    let mut exchange = Sample::default().exchange(1);
    for api in [facts::Api::OpenAiModels, facts::Api::AnthropicCountTokens] {
        exchange.admission.api = api;
        let exchanges = [exchange.clone()];
        assert_eq!(ask(&[], Period::default(), &[], &exchanges).total, Measures::default());
    }
}

#[test]
fn own_gpus_cost_their_hours_and_idle_is_apart() {
    // Two hours paid, one quarter of an hour busy.
    let exchanges = [hosted("a", "2026-11-22T14:10:00Z", 15, 1)];
    let answer = ask(&["route"], Period::default(), &[hourly()], &exchanges);
    let line = &answer.hosting[0];
    assert_eq!(line.paid, Duration::from_secs(2 * 3_600));
    assert_eq!(line.busy_time, Duration::from_secs(15 * 60));
    assert_eq!((line.busy, line.idle), (usd("0.625"), usd("4.375")));
    assert_eq!(measures(&answer, "a").hosted_cost, usd("0.625"));
    assert_eq!(answer.total.cost, Money::ZERO);
    assert_eq!(answer.spend(), usd("5"));
}

#[test]
fn an_upstream_that_ran_nothing_is_idle() {
    let answer = ask(&["route"], Period::default(), &[hourly()], &[]);
    assert_eq!((answer.hosting[0].busy, answer.hosting[0].idle), (Money::ZERO, usd("5")));
    assert!(answer.groups.is_empty());
}

#[test]
fn attempts_that_overlap_share_the_hour() {
    // `a` runs 14:00 to 14:20, `b` 14:10 to 14:20: ten minutes alone, ten shared by two.
    let exchanges =
        [hosted("a", "2026-11-22T14:00:00Z", 20, 1), hosted("b", "2026-11-22T14:10:00Z", 10, 2)];
    let prices = [rate("6", "2026-11-22T14:00:00Z")];
    let answer = ask(&["route"], Period::default(), &prices, &exchanges);
    assert_eq!(measures(&answer, "a").hosted_cost, usd("1.5"));
    assert_eq!(measures(&answer, "b").hosted_cost, usd("0.5"));
    assert_eq!(answer.hosting[0].busy_time, Duration::from_secs(20 * 60));
}

#[test]
fn a_rate_change_splits_an_attempt() {
    // Half an hour at $6, half an hour at $12, then the contract ends.
    let prices = [
        rate("6", "2026-11-22T14:00:00Z"),
        rate("12", "2026-11-22T14:30:00Z"),
        rate("", "2026-11-22T15:00:00Z"),
    ];
    let exchanges = [hosted("a", "2026-11-22T14:15:00Z", 90, 1)];
    let answer = ask(&["route"], Period::default(), &prices, &exchanges);
    let line = &answer.hosting[0];
    assert_eq!(line.paid, Duration::from_secs(3_600));
    // A quarter of an hour at $6 and half an hour at $12 were busy.
    assert_eq!((line.busy, line.idle), (usd("7.5"), usd("1.5")));
    assert_eq!(measures(&answer, "a").hosted_cost, usd("7.5"));
}

#[test]
fn a_period_clips_hours_and_chooses_exchanges() {
    let period =
        Period { start: Some(at("2026-11-22T14:30:00Z")), end: Some(at("2026-11-22T15:00:00Z")) };
    let exchanges = [
        hosted("before", "2026-11-22T14:00:00Z", 10, 1),
        hosted("inside", "2026-11-22T14:50:00Z", 20, 2),
        hosted("after", "2026-11-22T15:00:00Z", 10, 3),
    ];
    let answer = ask(&["route"], period, &[rate("6", "2026-11-22T14:00:00Z")], &exchanges);
    assert_eq!(answer.total.exchanges, 1);
    assert_eq!(answer.hosting[0].paid, Duration::from_secs(30 * 60));
    // Ten of its twenty minutes are inside.
    assert_eq!((answer.hosting[0].busy, answer.hosting[0].idle), (usd("1"), usd("2")));
    assert_eq!(answer.spend(), usd("3"));
}

#[test]
fn years_of_hours_do_not_overflow() {
    let long = hosted("a", "1996-11-22T14:00:00Z", 30 * 365 * 24 * 60, 1);
    let prices = [rate("1000", "1996-11-22T14:00:00Z")];
    let answer = ask(&["route"], Period::default(), &prices, &[long]);
    assert!(answer.hosting[0].busy > usd("262000000"));
    assert_eq!(measures(&answer, "a").hosted_cost, answer.hosting[0].busy);
}

const DIMENSIONS: [&str; 12] = [
    "route",
    "model",
    "task_type",
    "task",
    "team",
    "user",
    "upstream",
    "provider",
    "day",
    "api",
    "key",
    "tag:release",
];

prop_compose! {
    fn any_sample()(
        day in 0_usize..3,
        route in 0_usize..3,
        team in prop::option::of(0_usize..2),
        tries in prop::collection::vec(any_try(), 0..4),
    ) -> Sample {
        Sample {
            at: ["2026-11-21T23:59:00Z", "2026-11-22T14:05:00Z", "2026-11-22T14:06:30Z"][day],
            route: ["support", "agent", "title"][route],
            team: team.map(|team| ["care", "growth"][team]),
            tag: (route == 1).then_some(("release", "b")),
            tries,
            ..Sample::default()
        }
    }
}

prop_compose! {
    fn any_try()(
        tokens in any::<[u32; 4]>(),
        charge in 0_usize..5,
        end in 0..End::ALL.len(),
        finish in 0_usize..3,
        start in 0_u64..100_000,
        length in 0_u64..5_000_000,
        source in 0..UsageSource::ALL.len(),
        doubts in 0_usize..4,
    ) -> Try {
        Try {
            upstream: ["openai", "openai", "openai", "gpu", "other-gpu"][charge],
            charge: [
                Charge::PerMillion("0.25", "0.025", "2"),
                Charge::NotBilled,
                Charge::Unpriced("no row"),
                Charge::Hosted,
                Charge::Hosted,
            ][charge],
            model: ["a", "b"][finish % 2],
            tokens,
            end: End::ALL[end],
            finish: [Some("stop"), Some("length"), None][finish],
            at_ms: (start, None, start + length),
            source: UsageSource::ALL[source],
            doubts: [&[], &[Doubt::LowerBound][..], &[Doubt::SumMismatch, Doubt::LowerBound], &[]]
                [doubts],
            bound: [None, Some("0.0012")][doubts % 2],
            ..Try::default()
        }
    }
}

proptest! {
    #[test]
    fn groups_sum_to_the_total_whatever_the_split(
        samples in prop::collection::vec(any_sample(), 1..20),
        by in prop::collection::vec(prop::sample::select(&DIMENSIONS[..]), 0..4),
    ) {
        let exchanges: Vec<Exchange> =
            (1..).zip(&samples).map(|(number, sample)| sample.exchange(number)).collect();
        let prices = [
            rate("2.50", "2026-11-21T23:59:30Z"),
            rate("3.33", "2026-11-22T14:07:00Z"),
            PriceRecord::PerHour {
                upstream: "other-gpu".to_owned(),
                cost: "0.000000000007".parse().ok(),
                from: at("2026-11-22T00:00:00Z"),
            },
        ];
        let answer = ask(&by, Period::default(), &prices, &exchanges);
        let whole = ask(&[], Period::default(), &prices, &exchanges);
        // However it is split, the bill is the same in every measure.
        prop_assert_eq!(&answer.total, &whole.total);
        prop_assert_eq!(&answer.hosting, &whole.hosting);
        prop_assert_eq!(answer.spend(), whole.spend());
        // And the groups themselves sum to it.
        let sum = |value: fn(&Measures) -> Money| -> Money {
            answer.groups.iter().map(|group| value(&group.measures)).sum()
        };
        prop_assert_eq!(sum(Measures::spend), answer.total.spend());
        prop_assert_eq!(sum(|measures| measures.cost), answer.total.cost);
        prop_assert_eq!(sum(|measures| measures.waste.values().copied().sum()),
            answer.total.waste.values().copied().sum());
        let exchanged: u64 = answer.groups.iter().map(|group| group.measures.exchanges).sum();
        prop_assert_eq!(exchanged, samples.len() as u64);
        // What the charges say is what the bill says.
        let charged = exchanges.iter().flat_map(|exchange| &exchange.attempts);
        let charged: Money = charged.filter_map(|attempt| attempt.end.charged.cost()).sum();
        prop_assert_eq!(answer.total.cost, charged);
        let classes: Money = answer.total.cost_by_class.iter().map(|(_, cost)| *cost).sum();
        prop_assert_eq!(classes + answer.total.cost_of_units, charged);
        // Busy and idle are the hours, and the busy part is borne in full.
        let busy: Money = answer.hosting.iter().map(|line| line.busy).sum();
        prop_assert_eq!(answer.total.hosted_cost, busy);
        let line = answer.hosting.iter().find(|line| line.upstream == "gpu").unwrap();
        // 23:59:30 to 14:07:00 at the first rate, then to 16:00 at the second.
        let late = usd("3.33").scaled(113 * 60, 3_600).unwrap();
        let early = usd("2.50").scaled(14 * 3_600 + 7 * 60 + 30, 3_600).unwrap();
        prop_assert_eq!(line.busy + line.idle, early + late);
    }
}

#[test]
fn a_dimension_is_what_it_says() {
    for name in DIMENSIONS {
        assert_eq!(name.parse::<Dimension>().unwrap().to_string(), name);
    }
    assert!("tag:".parse::<Dimension>().is_err());
    assert!("colour".parse::<Dimension>().is_err());
}

#[test]
fn groups_that_come_to_share_a_name_are_merged() {
    let samples = [
        hosted("auto-1", "2026-01-01T00:00:00Z", 6, 1),
        hosted("chat", "2026-01-01T01:00:00Z", 6, 2),
    ];
    let prices = [rate("10", "2026-01-01T00:00:00Z")];
    let answer = ask(&["route"], Period::default(), &prices, &samples);
    assert_eq!(answer.groups.len(), 2);
    let names = [("auto-1".to_owned(), "chat".to_owned())].into();
    let renamed = answer.clone().renamed(&Dimension::Route, &names);
    assert_eq!(renamed.groups.len(), 1);
    assert_eq!(renamed.groups[0].key, [Some("chat".to_owned())]);
    assert_eq!(renamed.groups[0].measures, answer.total);
    assert_eq!(renamed.total, answer.total);
    assert_eq!(answer.clone().renamed(&Dimension::Model, &names), answer);
}

proptest! {
    #[test]
    fn a_rollup_made_of_parts_in_any_order_is_the_same(
        samples in prop::collection::vec(any_sample(), 1..20),
        by in prop::collection::vec(prop::sample::select(&DIMENSIONS[..]), 0..3),
        place in prop::collection::vec(any::<bool>(), 20),
    ) {
        let exchanges: Vec<Exchange> =
            (1..).zip(&samples).map(|(number, sample)| sample.exchange(number)).collect();
        let price = rate("2.50", "2026-11-21T23:59:30Z");
        let whole = ask(&by, Period::default(), std::slice::from_ref(&price), &exchanges);
        let rollup = || Rollup::new(whole.query.clone());
        // Some are counted one by one, from the last to the first; of the others, sums are.
        let (mut one, mut other) = (rollup(), rollup());
        for (exchange, counted) in exchanges.iter().zip(&place).rev() {
            if *counted {
                one.add(exchange);
                continue;
            }
            let at = exchange.admission.at;
            other.add_seen(at, at);
            for (attempt, measures) in exchange.rows() {
                let by = whole.query.by.iter();
                let key: Vec<_> = by.map(|by| by.of(exchange, attempt)).collect();
                let hosted = attempt.and_then(|attempt| attempt.hosted_busy().map(|at| (attempt, at)));
                if let Some((attempt, busy)) = hosted {
                    let upstream = &attempt.dispatch.upstream;
                    other.add_busy(&key, upstream, [busy], attempt.useful_tokens());
                }
                other.add_group(key, &measures);
            }
        }
        other.merge(one);
        other.price(&price);
        prop_assert_eq!(other.answer(at("2026-11-22T16:00:00Z")), whole);
    }
}

fn summed(answer: &Answer) -> Measures {
    let groups = answer.groups.iter().map(|group| &group.measures);
    let all = groups.chain(answer.other.iter().map(|other| &other.measures));
    all.fold(Measures::default(), |mut sum, measures| {
        sum.merge(measures);
        sum
    })
}

#[test]
fn labels_without_end_are_kept_in_little_room_and_to_the_pico_dollar() {
    let query = Query { by: vec![Dimension::User], ..Query::default() };
    let (mut few, mut all) = (Rollup::new(query.clone()).keeping(100), Rollup::new(query));
    let mut exchange = Sample::default().exchange(1);
    let tries = vec![Try { tokens: [9_000_000, 0, 0, 0], ..Try::default() }];
    let mut dear = Sample { tries, ..Sample::default() }.exchange(2);
    dear.admission.labels.user = Some("whale".to_owned());
    for number in 0..20_000_u32 {
        // Some come again after they were dropped.
        let user = number.wrapping_mul(7_919) % 15_000;
        exchange.admission.labels.user = Some(format!("user-{user}"));
        let told = [&exchange, &dear].into_iter().take(1 + usize::from(number % 1_000 == 500));
        for exchange in told {
            few.add(exchange);
            all.add(exchange);
        }
    }
    let now = at("2026-11-22T16:00:00Z");
    let (few, all) = (few.answer(now), all.answer(now));
    assert_eq!(few.total, all.total);
    assert_eq!(summed(&few), few.total);
    assert!(few.groups.len() <= 100, "{}", few.groups.len());
    // Who spends much is kept from the first time on; and whoever is kept is told in full.
    assert_eq!(few.groups[0].key, [Some("whale".to_owned())]);
    for group in &few.groups {
        assert_eq!(&group.measures, measures(&all, group.key[0].as_deref().unwrap()));
    }
    let other = few.other.unwrap();
    let dropped = 15_001 - few.groups.len() as u64;
    assert!(other.or_more && (dropped - 200..=dropped).contains(&other.groups), "{}", other.groups);
}

#[test]
fn the_top_groups_are_the_dearest_and_the_others_are_one() {
    let whole = ask(&["route", "model"], Period::default(), &[hourly()], &some_hours());
    let top = whole.clone().top(2);
    assert_eq!(top.groups, whole.groups[..2]);
    let other = top.other.as_ref().unwrap();
    assert_eq!((other.groups, other.or_more), (whole.groups.len() as u64 - 2, false));
    assert_eq!((summed(&top), &top.total), (whole.total.clone(), &whole.total));
    assert_eq!(top.spend(), whole.spend());
    assert_eq!(whole.clone().top(whole.groups.len()), whole);
    // Those that were left out before stay so.
    assert_eq!(top.clone().top(1).other.unwrap().groups, other.groups + 1);
}

proptest! {
    #[test]
    fn a_limit_changes_no_total(
        samples in prop::collection::vec(any_sample(), 1..60),
        by in prop::collection::vec(prop::sample::select(&DIMENSIONS[..]), 1..4),
        most in 1_usize..8,
    ) {
        let exchanges: Vec<Exchange> =
            (1..).zip(&samples).map(|(number, sample)| sample.exchange(number)).collect();
        let price = rate("2.50", "2026-11-21T23:59:30Z");
        let whole = ask(&by, Period::default(), std::slice::from_ref(&price), &exchanges);
        let mut few = Rollup::new(whole.query.clone()).keeping(most);
        few.price(&price);
        exchanges.iter().for_each(|exchange| few.add(exchange));
        let few = few.answer(at("2026-11-22T16:00:00Z"));
        prop_assert!(few.groups.len() <= most);
        prop_assert_eq!(&few.total, &whole.total);
        prop_assert_eq!(&few.hosting, &whole.hosting);
        prop_assert_eq!(summed(&few), few.total);
        for group in &few.groups {
            let same = whole.groups.iter().find(|other| other.key == group.key).unwrap();
            // Of hours, a share that cannot be split evenly may fall to another group.
            let apart = group.measures.hosted_cost.pico() - same.measures.hosted_cost.pico();
            prop_assert!(apart.abs() <= 1, "{apart}");
            let hosted_cost = same.measures.hosted_cost;
            prop_assert_eq!(&Measures { hosted_cost, ..group.measures.clone() }, &same.measures);
        }
    }
}

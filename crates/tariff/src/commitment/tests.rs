//! Bills reckoned by hand, and what holds for every bill.

use proptest::prelude::*;

use super::*;

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn days(from: &str, until: &str) -> DaySpan {
    DaySpan { from: Some(day(from)), until: day(until) }
}

fn commitment(amount: &str, per: Per, from: &str, until: Option<&str>) -> Commitment {
    Commitment {
        contract: "lab-2026".to_owned(),
        provider: "lab".to_owned(),
        amount: usd(amount),
        per,
        from: day(from),
        until: until.map(day),
        used_before: None,
    }
}

fn credit(name: &str, amount: &str, from: &str, until: Option<&str>) -> Credit {
    Credit {
        name: name.to_owned(),
        provider: "lab".to_owned(),
        models: None,
        amount: usd(amount),
        from: day(from),
        until: until.map(day),
        counts: false,
    }
}

fn charges(begins: &str, all: &[(&str, &str, &str)]) -> Charges {
    let mut charges = Charges::since(Some(day(begins)));
    for (at, model, amount) in all {
        let contracted = usd(amount);
        let spent = Spent { list: contracted + contracted, contracted, ..Spent::default() };
        charges.add("lab", day(at), model, &spent);
    }
    charges
}

/// Billed, credits and shortfall of days.
fn sums(standing: &Standing<'_>, days: &DaySpan) -> (String, String, String) {
    let [billed] = standing.billed(days).try_into().unwrap();
    let Billed { credits, shortfall, .. } = &billed;
    (billed.billed().to_string(), credits.to_string(), shortfall.to_string())
}

fn told(billed: &str, credits: &str, shortfall: &str) -> (String, String, String) {
    (billed.to_owned(), credits.to_owned(), shortfall.to_owned())
}

#[test]
fn bills_reckoned_by_hand() {
    let charges = charges(
        "2026-09-01",
        &[
            ("2026-09-04", "toy", "100"),
            ("2026-09-10", "toy", "500"),
            ("2026-10-05", "toy", "700"),
            ("2026-10-20", "toy", "500"),
            ("2026-11-03", "toy", "300"),
        ],
    );
    let prepaid = credit("prepaid", "500", "2026-10-01", None);
    let agreements = Agreements {
        commitments: vec![commitment("1000", Per::Month, "2026-09-01", None)],
        credits: vec![
            Credit { counts: true, ..prepaid },
            credit("given", "100", "2026-09-05", Some("2026-10-10")),
            Credit {
                models: Some(Rule::parse("models", "=other").unwrap()),
                ..credit("other", "50", "2026-09-01", Some("2026-10-10"))
            },
        ],
    };
    let standing = agreements.standing(&charges, day("2026-11-22"));
    // 600 charged; the 100 that were given count for nothing, so that 500 were used of 1,000.
    assert_eq!(sums(&standing, &days("2026-09-01", "2026-10-01")), told("1000", "100", "500"));
    // 1,200 charged, 500 of them paid in advance, which counts.
    assert_eq!(sums(&standing, &days("2026-10-01", "2026-11-01")), told("700", "500", "0"));
    // Still running: 700 would be due.
    assert_eq!(sums(&standing, &days("2026-11-01", "2026-11-23")), told("300", "0", "0"));
    let whole = DaySpan { from: None, until: day("2026-11-23") };
    assert_eq!(sums(&standing, &whole), told("2000", "600", "500"));
    let periods = standing.commitments(&whole);
    let told: Vec<_> = periods
        .iter()
        .map(|period| (period.from.to_string(), period.used, period.left(), period.shortfall()))
        .collect();
    let row = |from: &str, used, left, shortfall: Option<&str>| {
        (from.to_owned(), usd(used), usd(left), shortfall.map(usd))
    };
    assert_eq!(
        told,
        [
            row("2026-09-01", "500", "500", Some("500")),
            row("2026-10-01", "1200", "0", Some("0")),
            row("2026-11-01", "300", "700", None),
        ]
    );
    let october = standing.credits(&days("2026-10-01", "2026-11-01"));
    let told: Vec<_> = october
        .iter()
        .map(|left| (left.credit.name.as_str(), left.before, left.drawn, left.left(), left.is_over))
        .collect();
    assert_eq!(
        told,
        [
            ("given", usd("100"), usd("0"), usd("0"), true),
            ("other", usd("0"), usd("0"), usd("50"), true),
            ("prepaid", usd("0"), usd("500"), usd("0"), false),
        ]
    );
    assert!(standing.credits(&days("2026-08-01", "2026-09-01")).is_empty());
    assert!(standing.billed(&days("2026-08-01", "2026-09-01")).is_empty());
}

#[test]
fn what_was_used_before_the_ledger_began_is_not_taken_for_nothing() {
    let charges = charges("2026-05-10", &[("2026-05-10", "toy", "30")]);
    let year = commitment("100", Per::Year, "2025-01-01", None);
    let mut agreements = Agreements { commitments: vec![year], credits: Vec::new() };
    let all = DaySpan { from: None, until: day("2027-02-02") };
    let standing = agreements.standing(&charges, day("2027-02-01"));
    let [first, second] = standing.commitments(&all).try_into().unwrap();
    assert_eq!((first.from, first.used, first.shortfall()), (day("2026-01-01"), usd("30"), None));
    assert_eq!(
        (second.from, second.left(), second.is_complete),
        (day("2027-01-01"), usd("100"), true)
    );
    let [billed] = standing.billed(&all).try_into().unwrap();
    assert_eq!((billed.billed(), billed.is_complete), (usd("30"), false));
    // Who knows it says it.
    agreements.commitments[0].used_before = Some(usd("55"));
    let standing = agreements.standing(&charges, day("2027-02-01"));
    let [first, second] = standing.commitments(&all).try_into().unwrap();
    assert_eq!((first.used, first.shortfall()), (usd("85"), Some(usd("15"))));
    assert_eq!((second.used, second.shortfall()), (usd("0"), None));
    let [billed] = standing.billed(&all).try_into().unwrap();
    assert_eq!((billed.billed(), billed.is_complete), (usd("45"), true));
    // What is known may be enough.
    agreements.commitments[0] = commitment("30", Per::Year, "2025-01-01", None);
    let standing = agreements.standing(&charges, day("2027-02-01"));
    let [first, _] = standing.commitments(&all).try_into().unwrap();
    assert_eq!((first.is_complete, first.shortfall()), (false, Some(usd("0"))));
    assert!(standing.billed(&all)[0].is_complete);
    // Of an empty ledger nothing is known.
    let none = Charges::default();
    let standing = agreements.standing(&none, day("2027-02-01"));
    let [running] = standing.commitments(&all).try_into().unwrap();
    assert!(!running.is_complete && !running.is_over);
}

#[test]
fn periods_are_counted_from_the_first_day() {
    let told = |per, from, until| {
        let commitment = commitment("1", per, from, until);
        let begins = commitment.periods().take(3).map(|(from, _)| from.to_string());
        (begins.collect::<Vec<_>>(), commitment.is_whole())
    };
    let begins = |days: &[&str]| days.iter().map(|day| (*day).to_owned()).collect::<Vec<_>>();
    for (per, from, until, expected, whole) in [
        (Per::Month, "2027-01-31", None, &["2027-01-31", "2027-02-28", "2027-03-31"][..], true),
        (Per::Quarter, "2026-11-15", None, &["2026-11-15", "2027-02-15", "2027-05-15"], true),
        (Per::Year, "2026-11-15", Some("2028-11-15"), &["2026-11-15", "2027-11-15"], true),
        (Per::Year, "2026-11-15", Some("2028-11-14"), &["2026-11-15", "2027-11-15"], false),
        (Per::Term, "2026-11-15", Some("2028-11-14"), &["2026-11-15"], true),
        (Per::Term, "2026-11-15", None, &[], true),
        (Per::Month, "9999-11-30", None, &["9999-11-30"], true),
    ] {
        assert_eq!(told(per, from, until), (begins(expected), whole), "{per} {from} {until:?}");
    }
    let one = |from, until| commitment("1", Per::Month, from, until);
    let first = one("2026-01-01", Some("2026-03-01"));
    assert!(first.overlaps(&first) && one("2025-01-01", None).overlaps(&first));
    assert!(!first.overlaps(&one("2026-03-01", None)) && !one("2026-03-01", None).overlaps(&first));
    let other = Commitment { provider: "bal".to_owned(), ..first.clone() };
    assert!(!first.overlaps(&other));
}

#[test]
fn a_refund_refills_no_credit_and_a_credit_pays_no_more_than_what_a_day_came_to() {
    let charges = charges(
        "2026-09-01",
        &[
            ("2026-09-01", "toy", "10"),
            ("2026-09-02", "toy", "-7"),
            ("2026-09-03", "toy", "5"),
            ("2026-09-03", "toy", "-2"),
            ("2026-09-03", "big", "-1"),
        ],
    );
    let credits = vec![credit("given", "100", "2026-09-01", None)];
    let agreements = Agreements { commitments: Vec::new(), credits };
    let standing = agreements.standing(&charges, day("2026-09-30"));
    for (on, until, expected) in [
        ("2026-09-01", "2026-09-02", told("0", "10", "0")),
        ("2026-09-02", "2026-09-03", told("-7", "0", "0")),
        ("2026-09-03", "2026-09-04", told("-1", "3", "0")),
    ] {
        assert_eq!(sums(&standing, &days(on, until)), expected);
    }
}

#[test]
fn a_credit_pays_first_what_no_other_could() {
    let charges =
        charges("2026-09-01", &[("2026-09-01", "big", "10"), ("2026-09-01", "toy", "10")]);
    let agreements = Agreements {
        commitments: Vec::new(),
        credits: vec![
            Credit {
                models: Some(Rule::parse("models", "=big").unwrap()),
                ..credit("some", "10", "2026-09-01", None)
            },
            credit("all", "10", "2026-09-01", Some("2026-10-01")),
        ],
    };
    let standing = agreements.standing(&charges, day("2026-09-30"));
    // That for all expires first and pays first, but leaves to the other what it alone can pay.
    assert_eq!(sums(&standing, &days("2026-09-01", "2026-09-02")), told("0", "20", "0"));
}

const MODELS: [&str; 3] = ["big", "tiny", "toy"];
const RULES: [Option<&str>; 4] = [None, None, Some("^t"), Some("=big")];

fn number(day: u32) -> Day {
    let mut at = self::day("2026-01-20");
    (0..day).for_each(|_| at = at.next().unwrap());
    at
}

prop_compose! {
    fn any_credit()(
        amount in 0_i128..60,
        from in 0_u32..40,
        length in prop::option::of(1_u32..40),
        rule in prop::sample::select(&RULES[..]),
        counts in any::<bool>(),
    ) -> Credit {
        Credit {
            name: "c".to_owned(),
            provider: "lab".to_owned(),
            models: rule.map(|rule| Rule::parse("models", rule).unwrap()),
            amount: Money::from_pico(amount),
            from: number(from),
            until: length.map(|length| number(from + length)),
            counts,
        }
    }
}

prop_compose! {
    fn any_agreements()(
        credits in prop::collection::vec(any_credit(), 0..5),
        amounts in prop::collection::vec(0_i128..90, 0..3),
        per in prop::sample::select(&[Per::Month, Per::Quarter][..]),
        // A day that every month has: else one that follows would not end where a period of it does.
        begin in prop_oneof![0_u32..9, 12_u32..30],
    ) -> Agreements {
        let start = number(begin);
        let months = if per == Per::Month { 1 } else { 3 };
        let commitments = (0..).zip(amounts).map(|(place, amount)| Commitment {
            contract: "k".to_owned(),
            provider: "lab".to_owned(),
            amount: Money::from_pico(amount),
            per,
            from: start.months_later(place * months).unwrap(),
            until: start.months_later((place + 1) * months),
            used_before: None,
        });
        Agreements { commitments: commitments.collect(), credits }
    }
}

/// A day, a model's place and a charge; adjustments may be negative.
fn any_charges() -> impl Strategy<Value = Vec<(u32, usize, i128)>> {
    prop::collection::vec(
        // Some days have charges of several models.
        (
            prop_oneof![0_u32..70, 15_u32..20],
            0_usize..3,
            prop_oneof![4 => 0_i128..40, 1 => -20_i128..0],
        ),
        0..40,
    )
}

fn charged(all: &[(u32, usize, i128)]) -> Charges {
    let mut charges = Charges::since(Some(number(0)));
    for (at, model, amount) in all {
        let contracted = Money::from_pico(*amount);
        let spent = Spent { list: contracted, contracted, ..Spent::default() };
        charges.add("lab", number(*at), MODELS[*model], &spent);
    }
    charges
}

/// What each credit paid day by day, one pico-dollar at a time, written apart from the code.
fn naive(agreements: &Agreements, all: &[(u32, usize, i128)]) -> Vec<Vec<i128>> {
    let credits = &agreements.credits;
    let mut left: Vec<i128> = credits.iter().map(|credit| credit.amount.pico()).collect();
    let mut paid = vec![vec![0; 70]; credits.len()];
    for at in 0..70_u32 {
        let mut due = [0, 1, 2].map(|model| {
            let of = all.iter().filter(|(day, one, _)| (*day, *one) == (at, model));
            of.map(|(.., amount)| *amount).sum::<i128>()
        });
        let today = number(at);
        let ends =
            |index: usize| credits[index].until.map_or("9999".to_owned(), |day| day.to_string());
        let mut order: Vec<usize> = (0..credits.len())
            .filter(|&index| credits[index].from <= today && ends(index) > today.to_string())
            .filter(|&index| left[index] > 0)
            .collect();
        order.sort_by(|&a, &b| {
            let limited = |index: usize| credits[index].models.is_some();
            ends(a).cmp(&ends(b)).then(limited(b).cmp(&limited(a)))
        });
        let may = |index: usize, model: usize| match &credits[index].models {
            None => true,
            Some(rule) if *rule == Rule::parse("models", "=big").unwrap() => model == 0,
            Some(_) => model > 0,
        };
        for (place, &index) in order.iter().enumerate() {
            loop {
                let open = (0..3).filter(|&model| due[model] > 0 && may(index, model));
                let others = |model: usize| {
                    order[place + 1..].iter().filter(|&&other| may(other, model)).count()
                };
                let Some(next) = open.min_by_key(|&model| (others(model), model)) else { break };
                if left[index] == 0 {
                    break;
                }
                left[index] -= 1;
                due[next] -= 1;
                paid[index][at as usize] += 1;
            }
        }
    }
    paid
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn credits_pay_as_day_by_day_a_pico_dollar_at_a_time(
        agreements in any_agreements(),
        all in any_charges(),
    ) {
        let charges = charged(&all);
        let standing = agreements.standing(&charges, number(80));
        let paid = naive(&agreements, &all);
        for at in 0..70 {
            let paid_then: i128 = paid.iter().map(|days| days[at as usize]).sum();
            let days = DaySpan { from: Some(number(at)), until: number(at + 1) };
            let billed = standing.billed(&days);
            let credits = billed.first().map_or(0, |billed| billed.credits.pico());
            prop_assert_eq!(credits, paid_then);
        }
        let all_days = DaySpan { from: None, until: number(90) };
        for left in standing.credits(&all_days) {
            let same = agreements.credits.iter().zip(&paid).filter(|(credit, _)| *credit == left.credit);
            let drawn: Vec<i128> = same.map(|(_, days)| days.iter().sum()).collect();
            prop_assert!(drawn.contains(&left.drawn.pico()));
            prop_assert!(left.left() >= Money::ZERO);
        }
    }

    #[test]
    fn bills_of_any_days_sum_to_the_bill_of_all_of_them(
        agreements in any_agreements(),
        all in any_charges(),
        mut cuts in prop::collection::vec(1_u32..150, 0..5),
        today in 0_u32..150,
    ) {
        let charges = charged(&all);
        let standing = agreements.standing(&charges, number(today));
        let bill = |from: u32, until: u32| {
            let days = DaySpan { from: Some(number(from)), until: number(until) };
            let billed = standing.billed(&days);
            let amounts = |of: &dyn Fn(&Billed) -> Money| billed.iter().map(of).sum::<Money>();
            let shortfall = amounts(&|one| one.shortfall);
            // Where no agreement holds, nothing is billed here.
            let bare = if billed.is_empty() {
                standing.sum("lab", &days, |_| true).0.contracted
            } else {
                Money::ZERO
            };
            (amounts(&Billed::billed) + bare, amounts(&|one| one.credits), shortfall)
        };
        cuts.sort_unstable();
        cuts.dedup();
        let ends = std::iter::once(0).chain(cuts).chain([160]);
        let ends: Vec<u32> = ends.collect();
        let mut sum = (Money::ZERO, Money::ZERO, Money::ZERO);
        for pair in ends.windows(2) {
            let part = bill(pair[0], pair[1]);
            sum = (sum.0 + part.0, sum.1 + part.1, sum.2 + part.2);
        }
        let whole = bill(0, 160);
        prop_assert_eq!(sum, whole);
        let contracted: i128 = all.iter().map(|(.., amount)| *amount).sum();
        prop_assert_eq!(whole.0 + whole.1 - whole.2, Money::from_pico(contracted));
        // Over whole periods at least the commitment is billed, unless what was paid in advance counts.
        for period in standing.commitments(&DaySpan { from: None, until: number(160) }) {
            let used = period.spent.contracted - period.not_counted;
            prop_assert_eq!(period.used, used);
            if let Some(shortfall) = period.shortfall() {
                prop_assert_eq!(used + shortfall, used.max(period.commitment.amount));
            }
        }
    }

    #[test]
    fn however_charges_are_split_nothing_changes(
        agreements in any_agreements(),
        all in any_charges(),
        parts in prop::collection::vec((any::<prop::sample::Index>(), 0_i128..9), 0..20),
    ) {
        let mut split = all.clone();
        for (place, part) in parts {
            if split.is_empty() {
                break;
            }
            let place = place.index(split.len());
            split[place].2 -= part;
            let (at, model, _) = split[place];
            split.insert(0, (at, model, part));
        }
        let [one, other] = [charged(&all), charged(&split)];
        let days = DaySpan { from: None, until: number(160) };
        let told = |charges: &Charges| {
            let standing = agreements.standing(charges, number(75));
            format!("{:?}", (standing.billed(&days), standing.commitments(&days), standing.credits(&days)))
        };
        // The parts are of the same days and models; a day without charges may come to have some of zero.
        prop_assert_eq!(told(&one), told(&other));
    }
}

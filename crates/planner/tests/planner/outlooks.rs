//! What must hold of choices under luck.

use planner::{
    Accuracy, ApiChoice, ApiOffer, Choice, Draw, Draws, GpuChoice, Offers, PerMonth, Prospect,
    Range, Scenario, TokenPrices, Var, demand, outlook, plan,
};
use proptest::prelude::*;
use roofline::Format;

use crate::plans::{GPUS, api, gpu, scenario};
use crate::scenarios::LEAST;

/// Prices that double beyond 200,000 tokens of input, and rise month by month.
fn stepped() -> ApiOffer {
    let prices = api().prices;
    let stepped = move |month: u32, length: u64| {
        let TokenPrices { input, cached, answer, reasoning, .. } = prices(month, length)?;
        let factor = (1.0 + f64::from(month)) * if length > 200_000 { 2.0 } else { 1.0 };
        let [input, cached, answer, reasoning] =
            [input, cached, answer, reasoning].map(|price| price * factor);
        Ok(TokenPrices { input, cached, answer, reasoning, call: 0.001 })
    };
    ApiOffer { name: "stepped".to_owned(), prices: Box::new(stepped) }
}

fn bills(scenario: &Scenario, choice: &dyn Choice, serving: f64) -> Result<Vec<PerMonth>, String> {
    let case = scenario.likely();
    let demand = demand(scenario, &case);
    let mut bills = vec![PerMonth::ZERO; demand.len()];
    choice.bills(&Draw { case: &case, demand: &demand, serving }, &mut bills)?;
    Ok(bills)
}

#[test]
fn an_api_whose_prices_were_looked_up_before_costs_what_it_did() {
    for input in [1.0, 199_999.0, 200_000.0, 200_001.0, 1e6] {
        let text = LEAST.replace("\"2k\"", &format!("{input}"))
            + "[growth]\nusers = \"7%/month\"\napi_price = \"-2%/month\"\n[task]\nturns = 3\n";
        let scenario = scenario(&text);
        let case = scenario.likely();
        let offer = stepped();
        let demand = demand(&scenario, &case);
        let exact: Vec<PerMonth> = (0..)
            .zip(&demand)
            .map(|(month, demand)| offer.month(&case, demand, month).unwrap().bill)
            .collect();
        let choice = ApiChoice::new(&offer, scenario.months);
        assert_eq!(bills(&scenario, &choice, 0.3).unwrap(), exact);
    }
}

#[test]
fn gpus_cost_what_the_plan_says_and_less_the_faster_they_turn_out() {
    let text = LEAST.replace("\"50,000/day\"", "\"3M/day\"")
        + "[growth]\nusers = \"7%/month\"\ninput = \"5%/month\"\noutput = \"-2%/month\"\n"
        + GPUS;
    let scenario = scenario(&text);
    let case = scenario.likely();
    let offers = Offers { apis: Vec::new(), gpus: vec![gpu("h100-sxm", 1, Format::Fp8, 3.0)] };
    let plan = plan(&scenario, &case, &offers);
    let lane = &plan.lanes[0];
    let accuracy = Accuracy { low: 0.5, high: 1.5 };
    let choice =
        GpuChoice::new(&scenario, &case, &offers.gpus[0], (lane, &plan.demand), accuracy).unwrap();
    let at = |serving| bills(&scenario, &choice, serving).unwrap();
    let planned: Vec<PerMonth> = lane.months.iter().map(|month| month.bill).collect();
    // Half of the outcomes are slower than what was predicted.
    assert_eq!(at(0.5), planned);
    let total = |bills: Vec<PerMonth>| bills.into_iter().sum::<PerMonth>().usd();
    let all = [0.05, 0.2, 0.5, 0.8, 0.95].map(|serving| total(at(serving)));
    assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
    // At half the speed nearly twice the replicas, for those for failures and deploys stay as they are.
    assert!(all[0] > 1.7 * all[2] && all[0] < 2.0 * all[2], "{all:?}");
    assert!(
        (accuracy.factor(0.05) - 0.5).abs() < 1e-9 && (accuracy.factor(0.95) - 1.5).abs() < 1e-9
    );
}

#[test]
fn gpus_follow_other_lengths_as_the_closed_form_does_and_refuse_calls_that_do_not_fit() {
    let scenario = scenario(&(LEAST.replace("\"50,000/day\"", "\"3M/day\"") + GPUS));
    let likely = scenario.likely();
    let offer = gpu("h100-sxm", 1, Format::Bf16, 3.0);
    let offers = Offers { apis: Vec::new(), gpus: vec![offer] };
    let plan = plan(&scenario, &likely, &offers);
    let (lane, offer) = (&plan.lanes[0], &offers.gpus[0]);
    let exactly = Accuracy { low: 1.0, high: 1.0 };
    let choice = GpuChoice::new(&scenario, &likely, offer, (lane, &plan.demand), exactly).unwrap();
    let own = lane.own.as_ref().unwrap();
    let mut bills = vec![PerMonth::ZERO; plan.demand.len()];
    for (input, answer) in [(2_100.0, 520.0), (900.0, 700.0), (7_000.0, 90.0), (2_000.0, 2_000.0)] {
        let case = likely.with(Var::Input, input).with(Var::Answer, answer);
        let demand = demand(&scenario, &case);
        choice.bills(&Draw { case: &case, demand: &demand, serving: 0.9 }, &mut bills).unwrap();
        let moved = offer.candidate.closed_form((input, answer), &scenario.slo).unwrap();
        let rate = own.capability.moved_to(moved).highest.rate;
        let taken = planner::taken(&scenario).unwrap();
        let (_, cost) = offer.fleet(&case, taken, (&demand[0], &scenario.profile), rate, 0);
        let exact = cost.total().per_month().usd();
        assert!((bills[0].usd() / exact - 1.0).abs() < 0.04, "{input} {answer}: {bills:?} {exact}");
    }
    let case = likely.with(Var::Input, 500_000.0);
    let demand = demand(&scenario, &case);
    let why = choice.bills(&Draw { case: &case, demand: &demand, serving: 0.5 }, &mut bills);
    assert_eq!(
        why.unwrap_err(),
        "a call of 500500 tokens is longer than the 131072 that fit there"
    );
}

/// A choice that is a formula.
struct Formula<F>(&'static str, F);

impl<F: Fn(&Draw<'_>, usize) -> Result<f64, String> + Sync> Choice for Formula<F> {
    fn name(&self) -> &str {
        self.0
    }

    fn bills(&self, draw: &Draw<'_>, bills: &mut [PerMonth]) -> Result<(), String> {
        for (month, bill) in bills.iter_mut().enumerate() {
            *bill = PerMonth::new((self.1)(draw, month)?);
        }
        Ok(())
    }
}

const UNSURE: &str = "months = 3\n[demand]\n\
    tasks = { distribution = \"uniform\", low = \"0/month\", high = \"1000/month\" }\n[tokens]\ninput = 1000\n\
    answer = { distribution = \"uniform\", low = 100, high = 300 }\n[api]\nmodels = \"m\"\n";

fn draws(count: u32, threads: usize) -> Draws {
    Draws { count, seed: 42, threads }
}

#[test]
fn the_same_seed_is_the_same_outlook_on_any_number_of_threads() {
    let text = LEAST
        .replace("500", "{ low = 300, likely = 500, high = 900 }")
        .replace("\"50,000/day\"", "{ low = \"1M/day\", likely = \"2M/day\", high = \"4M/day\" }")
        + "[growth]\napi_price = { low = \"-5%/month\", likely = \"-2%/month\", high = \"1%/month\" }\n"
        + GPUS;
    let mut scenario = scenario(&text);
    scenario.months = 5;
    let case = scenario.likely();
    let offers = Offers { apis: vec![api()], gpus: vec![gpu("h100-sxm", 1, Format::Fp8, 3.0)] };
    let plan = plan(&scenario, &case, &offers);
    let of_threads = |threads: usize, seed: u64| {
        let api = ApiChoice::new(&offers.apis[0], scenario.months);
        let lane = plan.lanes.last().unwrap();
        let accuracy = Accuracy { low: 0.6, high: 1.8 };
        let gpus =
            GpuChoice::new(&scenario, &case, &offers.gpus[0], (lane, &plan.demand), accuracy);
        outlook(&scenario, &[&api, &gpus.unwrap()], Draws { seed, ..draws(997, threads) })
    };
    let one = of_threads(1, 42);
    assert_eq!(one, of_threads(2, 42));
    assert_eq!(one, of_threads(3, 42));
    assert_ne!(one, of_threads(1, 43));
    assert_eq!(one.draws, 997);
    let keys: Vec<&str> = one.matters.iter().map(|matter| matter.what.key()).collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(keys.contains(&"serving model") && keys.contains(&"growth.api_price"), "{keys:?}");
}

#[test]
fn without_uncertainty_it_is_the_plan() {
    let mut scenario = scenario(&(LEAST.to_owned() + "[growth]\nusers = \"5%/month\"\n" + GPUS));
    scenario.months = 4;
    let case = scenario.likely();
    let offers = Offers { apis: vec![api()], gpus: vec![gpu("h100-sxm", 1, Format::Fp8, 3.0)] };
    let plan = plan(&scenario, &case, &offers);
    let exactly = Accuracy { low: 1.0, high: 1.0 };
    let both = (plan.lanes.last().unwrap(), plan.demand.as_slice());
    let gpus = GpuChoice::new(&scenario, &case, &offers.gpus[0], both, exactly).unwrap();
    let api = ApiChoice::new(&offers.apis[0], scenario.months);
    let found = outlook(&scenario, &[&api, &gpus], draws(200, 2));
    assert_eq!((found.draws, found.matters.len(), found.worth), (1, 0, Some(0.0)));
    for (prospect, lane) in found.prospects.iter().zip(&plan.lanes) {
        for (at, (range, month)) in prospect.bills.iter().zip(&lane.months).enumerate() {
            let (range, bill) = (range.unwrap(), month.bill.usd());
            assert_eq!([range.p10, range.p50, range.p90], [bill; 3]);
            assert!((range.mean - bill).abs() < 1e-9 * bill);
            let unit = lane.per_useful_mtok(&plan.demand, at).unwrap().usd();
            assert!((prospect.per_useful_mtok[at].unwrap().p50 - unit).abs() < 1e-9 * unit);
        }
    }
    let cheapest = found.best().unwrap();
    assert_eq!(found.prospects[cheapest].cheapest_in_all, 1.0);
    assert_eq!(found.prospects[cheapest].regret, Some(0.0));
    assert_eq!(found.prospects[cheapest].name, plan.cheapest().unwrap().name);
}

#[test]
fn a_choice_between_a_price_and_a_fixed_sum_is_worth_what_integrals_say() {
    let scenario = scenario(UNSURE);
    // A task is a dollar, or all of a month are 500; tasks are anything up to 1,000.
    let by_task = Formula("by task", |draw: &Draw<'_>, month: usize| Ok(draw.demand[month].tasks));
    let fixed = Formula("fixed", |_: &Draw<'_>, _: usize| Ok(500.0));
    let found = outlook(&scenario, &[&by_task, &fixed], draws(10_000, 2));
    let [by_task, fixed] = found.prospects.as_slice() else { panic!("{found:?}") };
    let near =
        |found: f64, exact: f64, by: f64| assert!((found - exact).abs() < by, "{found} {exact}");
    for month in &by_task.bills {
        let Range { p10, p50, p90, mean } = month.unwrap();
        for (found, exact) in [(p10, 100.0), (p50, 500.0), (p90, 900.0), (mean, 500.0)] {
            near(found, exact, 0.2);
        }
    }
    near(by_task.total.unwrap().p90, 2_700.0, 0.5);
    near(by_task.cheapest_in_all, 0.5, 1e-3);
    for (found, exact) in by_task.cheapest_by_volume.iter().zip([1.0, 1.0, 0.5, 0.0, 0.0]) {
        near(*found, exact, 1e-3);
    }
    for (at, (from, to)) in found.volumes.iter().enumerate() {
        near(*from, 200.0 * at as f64, 0.2);
        near(*to, 200.0 * (at + 1) as f64, 0.2);
    }
    // The mean of |tasks - 500| / 2 is 125, for three months.
    near(found.worth.unwrap(), 375.0, 0.5);
    near(by_task.regret.unwrap(), 375.0, 0.5);
    near(fixed.regret.unwrap(), 375.0, 0.5);
    let matter = |key: &str| found.matters.iter().find(|matter| matter.what.key() == key).unwrap();
    let (tasks, answer) = (matter("demand.tasks"), matter("tokens.answer"));
    near(tasks.worth.unwrap(), 375.0, 0.5);
    assert_eq!(tasks.values, [Some(100.0), Some(900.0)]);
    near(tasks.moved[0].bills[0].unwrap(), 300.0, 1.0);
    near(tasks.moved[0].bills[1].unwrap(), 2_700.0, 1.0);
    near(tasks.moved[0].of_variance, 1.0, 0.01);
    assert_eq!((tasks.moved[1].width(), tasks.moved[1].of_variance), (0.0, 0.0));
    // The answer's length tells nothing of either, but for the chance of the draws.
    assert!(answer.worth.unwrap() < 8.0, "{answer:?}");
    assert!(answer.moved[0].of_variance < 0.01 && answer.moved[0].width() < 150.0, "{answer:?}");
}

#[test]
fn the_variance_is_divided_among_what_makes_it() {
    let scenario = scenario(UNSURE);
    // Widths of 1,000 and of 2,000: a fifth and four fifths of the variance.
    let sum = Formula("sum", |draw: &Draw<'_>, month: usize| {
        Ok(draw.demand[month].tasks + 10.0 * draw.case.at(Var::Answer))
    });
    let found = outlook(&scenario, &[&sum], draws(10_000, 2));
    let shares: Vec<_> = found
        .matters
        .iter()
        .map(|matter| (matter.what.key(), matter.moved[0].of_variance, matter.worth))
        .collect();
    let [("tokens.answer", most, Some(nothing)), ("demand.tasks", least, _)] = shares[..] else {
        panic!("{shares:?}")
    };
    assert!((most - 0.8).abs() < 0.02 && (least - 0.2).abs() < 0.02, "{shares:?}");
    assert_eq!((nothing, found.worth), (0.0, Some(0.0)));
}

#[test]
fn who_cannot_serve_is_never_the_cheapest_and_says_why() {
    let scenario = scenario(UNSURE);
    let dear = Formula("dear", |_: &Draw<'_>, _: usize| Ok(100.0));
    let sometimes = Formula("sometimes", |draw: &Draw<'_>, month: usize| {
        let few = draw.demand[month].tasks < 250.0;
        if few { Ok(1.0) } else { Err(format!("month {month} has too many tasks")) }
    });
    let never = Formula("never", |_: &Draw<'_>, _: usize| Err("it is closed".to_owned()));
    let found = outlook(&scenario, &[&dear, &sometimes, &never], draws(1_000, 3));
    let [dear, sometimes, never] = found.prospects.as_slice() else { panic!("{found:?}") };
    assert_eq!((dear.unserved, sometimes.unserved, never.unserved), (0.0, 0.75, 1.0));
    assert_eq!((dear.cheapest_in_all, sometimes.cheapest_in_all), (0.75, 0.25));
    assert_eq!((dear.cheapest[1], sometimes.cheapest[1]), (0.75, 0.25));
    assert_eq!(sometimes.why_unserved.as_deref(), Some("month 0 has too many tasks"));
    assert_eq!((never.total, never.regret, never.cheapest_in_all), (None, None, 0.0));
    assert_eq!(sometimes.total.unwrap().p90, 3.0);
    // Where it cannot serve it is as dear as the dearest that can, and is not relied on for all that.
    assert_eq!(sometimes.regret, Some(0.0));
    // Where the other could serve, one pays 99 more in each of three months.
    assert!((dear.regret.unwrap() - 0.25 * 297.0).abs() < 1e-9, "{dear:?}");
    assert_eq!(found.best(), Some(0));
    let nobody = Formula("never", |_: &Draw<'_>, _: usize| Err("it is closed".to_owned()));
    let found = outlook(&scenario, &[&nobody], draws(1_000, 2));
    assert_eq!((found.best(), found.worth, found.matters[0].worth), (None, None, None));
}

#[test]
fn who_rarely_cannot_serve_may_be_the_best_and_pays_what_is_left_where_it_cannot() {
    let scenario = scenario(UNSURE);
    let steady = Formula("steady", |_: &Draw<'_>, _: usize| Ok(100.0));
    let dearest = Formula("dearest", |_: &Draw<'_>, _: usize| Ok(300.0));
    let mostly = Formula("mostly", |draw: &Draw<'_>, month: usize| {
        if draw.demand[month].tasks < 960.0 { Ok(10.0) } else { Err("too many".to_owned()) }
    });
    let found = outlook(&scenario, &[&steady, &mostly, &dearest], draws(1_000, 2));
    assert_eq!(found.best(), Some(1));
    // 200 more in each of three months of one draw in 25.
    assert!((found.worth.unwrap() - 0.04 * 600.0).abs() < 1e-9, "{found:?}");
    assert_eq!(found.prospects[1].regret, found.worth);
    let tasks = found.matters.iter().find(|matter| matter.what.key() == "demand.tasks").unwrap();
    // Who knows the tasks to a twentieth takes the steady one in the last of them, where the other serves a fifth.
    let exact = 0.05 * (0.2 * 30.0 + 0.8 * 900.0 - 300.0);
    assert!((tasks.worth.unwrap() - exact).abs() < 1.0, "{tasks:?} {exact}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn probabilities_sum_to_one_and_to_know_more_is_worth_no_less(
        weights in prop::collection::vec((0.0..1_000.0_f64, -2.0..2.0_f64, -5.0..5.0_f64), 1..6),
        (count, seed, fails) in (20_u32..400, 0_u64..99, 0.0..0.4_f64),
    ) {
        let scenario = scenario(UNSURE);
        let choices: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(at, &(fixed, by_task, by_token))| {
                Formula("a formula", move |draw: &Draw<'_>, month: usize| {
                    let tasks = draw.demand[month].tasks;
                    // The first always serves.
                    if at > 0 && tasks < fails * 1_000.0 {
                        return Err("too few".to_owned());
                    }
                    Ok(2_000.0 + fixed + by_task * tasks + by_token * draw.case.at(Var::Answer))
                })
            })
            .collect();
        let choices: Vec<&dyn Choice> = choices.iter().map(|choice| choice as &dyn Choice).collect();
        let found = outlook(&scenario, &choices, Draws { count, seed, threads: 2 });
        let sums = |of: &dyn Fn(&Prospect) -> f64| found.prospects.iter().map(of).sum::<f64>();
        prop_assert!((sums(&|one| one.cheapest_in_all) - 1.0).abs() < 1e-9);
        for month in 0..3 {
            prop_assert!((sums(&|one| one.cheapest[month]) - 1.0).abs() < 1e-9);
        }
        for band in 0..found.volumes.len() {
            prop_assert!((sums(&|one| one.cheapest_by_volume[band]) - 1.0).abs() < 1e-9);
        }
        for prospect in &found.prospects {
            let ranges = prospect.bills.iter().chain([&prospect.total]).chain(&prospect.per_useful_mtok);
            for range in ranges.flatten() {
                prop_assert!(range.p10 <= range.p50 && range.p50 <= range.p90, "{range:?}");
            }
            prop_assert!(prospect.regret.is_none_or(|regret| regret >= 0.0));
        }
        let worth = found.worth.unwrap();
        let best = &found.prospects[found.best().unwrap()];
        prop_assert!((best.regret.unwrap() - worth).abs() < 1e-6, "{best:?} {worth}");
        for matter in &found.matters {
            let part = matter.worth.unwrap();
            prop_assert!(part >= 0.0 && part <= worth + 1e-6, "{part} of {worth}");
            prop_assert!(matter.moved.iter().all(|moved| (0.0..=1.0).contains(&moved.of_variance)));
        }
    }
}

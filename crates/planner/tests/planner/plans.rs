//! What must hold of any plan.

use planner::scenario::Recorded;
use planner::{
    ApiOffer, Candidate, Demand, Fleet, GpuOffer, Mix, Offers, PerHour, PerMtok, Plan, Scenario,
    Schedule, Service, TokenPrices, Unfit, Var, choose, needs, plan, taken,
};
use proptest::prelude::*;
use roofline::{Format, Formats, Layout, Routing, Setup, Sheets};
use workload::Random;

use crate::scenarios::LEAST;

pub(crate) fn scenario(text: &str) -> Scenario {
    let mut nothing = |_: Var, _: &Recorded| Err("nothing was recorded".to_owned());
    Scenario::read(text, &mut nothing).unwrap()
}

pub(crate) fn api() -> ApiOffer {
    let prices = TokenPrices {
        input: PerMtok::new(2.0),
        cached: PerMtok::new(0.5),
        answer: PerMtok::new(8.0),
        reasoning: PerMtok::new(8.0),
        call: 0.0,
    };
    ApiOffer { name: "m".to_owned(), prices: Box::new(move |_, _| Ok(prices)) }
}

pub(crate) fn gpu(accelerator: &str, tensor: u32, weights: Format, price: f64) -> GpuOffer {
    let sheets = Sheets::built_in().unwrap();
    let find =
        |name: &str| sheets.accelerators.iter().find(|one| one.row().is_called(name)).unwrap();
    let model = sheets.models.iter().find(|one| one.row().is_called("llama-3.1-8b")).unwrap();
    let engine = sheets.engines.iter().find(|one| one.row().is_called("vllm")).unwrap();
    let setup = Setup::new(
        model,
        find(accelerator),
        engine,
        &sheets.kernels,
        Layout::tensor(tensor),
        Formats::all(weights),
        Routing::default(),
    );
    GpuOffer {
        candidate: Candidate::new(setup.unwrap()).unwrap(),
        price: PerHour::new(price),
        source: "a test".to_owned(),
        kilowatts: 1.0,
        found: planner::Found::default(),
    }
}

pub(crate) const GPUS: &str = "[gpus]\nmodel = \"llama-3.1-8b\"\naccelerators = \"h100-sxm\"\n[slo]\nttft = \"1s\"\ntpot = \"50ms\"\n";

fn sum_is_whole(plan: &Plan) {
    for lane in &plan.lanes {
        for month in &lane.months {
            let sum: f64 = month.parts.iter().map(|part| part.cost.usd()).sum();
            assert!((sum - month.bill.usd()).abs() < 1e-9 * month.bill.usd(), "{month:?}");
            assert!(month.parts.iter().all(|part| part.cost.usd() >= 0.0), "{month:?}");
        }
        let (first, last) = (lane.months.first().unwrap(), lane.months.last().unwrap());
        let change = last.bill.usd() - first.bill.usd();
        let parts: f64 = lane.growth.iter().map(|(_, part)| part.usd()).sum();
        assert!(
            (parts - change).abs() < 1e-6 * (first.bill.usd() + last.bill.usd()),
            "{:?}",
            lane.growth
        );
    }
}

#[test]
fn an_api_without_uncertainty_costs_what_arithmetic_says() {
    let text = LEAST.replace(
        "answer = 500",
        "answer = 500\ncached = \"40%\"\nreasoning = 3\nreasoning_above = 2500",
    ) + "[task]\nturns = 2\ncalls_per_turn = 1.5\nretries = \"10%\"\nfailures = \"2%\"\nsuccess_rate = \"80%\"\n";
    let scenario = scenario(&text);
    let offers = Offers { apis: vec![api()], gpus: Vec::new() };
    let case = scenario.likely();
    let plan = plan(&scenario, &case, &offers);
    // Two turns of one call and half a second: 2,000 and 2,500 tokens, then with the first answer 2,500 and 3,000.
    let input = 2_000.0 + 0.5 * 2_500.0 + 2_500.0 + 0.5 * 3_000.0;
    let output = 500.0 + 0.5 * 1_500.0 + 1_500.0 + 0.5 * 1_500.0;
    let tasks = 50_000.0 * 730.0 / 24.0;
    let bill = tasks * 1.1 * (input * (0.6 * 2.0 + 0.4 * 0.5) + output * 8.0) / 1e6;
    let lane = &plan.lanes[0];
    assert!((lane.months[0].bill.usd() - bill).abs() < 1e-6 * bill, "{:?} {bill}", lane.months[0]);
    let useful = tasks * 0.98 * output;
    let per_mtok = lane.per_useful_output_mtok(&plan.demand, 0).unwrap().usd();
    assert!((per_mtok - bill / useful * 1e6).abs() < 1e-9 * per_mtok);
    let (task, success) = lane.per_task(&case, &plan.demand, 0);
    assert!((task.unwrap() - bill / tasks).abs() < 1e-12);
    assert!((success.unwrap() - bill / tasks / 0.8).abs() < 1e-12);
    sum_is_whole(&plan);
}

#[test]
fn bills_grow_by_parts_that_add_up_while_prices_fall() {
    let text = LEAST.to_owned()
        + "[growth]\nusers = \"8%/month\"\ntasks_per_user = \"3%/month\"\ncalls_per_turn = \"2%/month\"\n\
           output = \"1%/month\"\napi_price = \"-3%/month\"\ngpu_price = \"-1%/month\"\n"
        + GPUS;
    let mut scenario = scenario(&text);
    scenario.months = 6;
    let offers = Offers { apis: vec![api()], gpus: vec![gpu("h100-sxm", 1, Format::Bf16, 3.0)] };
    let plan = plan(&scenario, &scenario.likely(), &offers);
    assert_eq!(plan.lanes.len(), 2, "{:?}", plan.ruled_out);
    sum_is_whole(&plan);
    let lane = &plan.lanes[0];
    let at = |month| lane.per_useful_mtok(&plan.demand, month).unwrap();
    assert!(at(5) < at(0) && lane.months[5].bill > lane.months[0].bill);
    let price = lane.growth.last().unwrap().1;
    assert!(price.usd() < 0.0, "{:?}", lane.growth);
}

/// Prices at which each setup serves a call for nearly as much, if its closed form were all: so that which is the cheapest hangs
/// on what the simulations say.
#[test]
fn the_closed_form_prunes_and_leaves_the_winner_of_an_exhaustive_search() {
    let mut random = Random::new(11);
    let (mut simulated, mut offered) = (0, 0);
    for (tokens, slo) in [
        ("input = 2000\nanswer = 500\nspread = \"60%\"", "ttft = \"1s\"\ntpot = \"50ms\""),
        ("input = 300\nanswer = 900", "tpot = \"20ms\""),
        ("input = 6000\nanswer = 100\nspread = \"100%\"", "ttft = \"2s\""),
    ] {
        let text = LEAST.replace("\"50,000/day\"", "\"40M/day\"");
        let text = text.split_once("[tokens]").unwrap().0.to_owned();
        let text = format!("{text}[tokens]\n{tokens}\n[api]\nmodels = \"m\"\n{GPUS}");
        let (before, _) = text.split_once("[slo]").unwrap();
        let scenario = scenario(&format!("{before}[slo]\n{slo}\n"));
        let case = scenario.likely();
        let demands = planner::demand(&scenario, &case);
        let mix = Mix::new(&demands[0].shapes, &case, 1_500);
        let mut offers = Vec::new();
        for accelerator in ["h100-sxm", "h200-sxm", "b200-sxm", "a100-sxm", "l40s", "mi300x", "l4"]
        {
            for (tensor, format) in [(1, Format::Fp8), (1, Format::Bf16), (2, Format::Bf16)] {
                if (accelerator, format) == ("a100-sxm", Format::Fp8) {
                    continue;
                }
                let offer = gpu(accelerator, tensor, format, 1.0);
                let rate = offer.candidate.closed_form(mix.computed(), &scenario.slo);
                let near = 0.8 + 0.4 * random.unit();
                let price = rate.map_or(1.0, |rate| near * rate / f64::from(tensor));
                offers.push(GpuOffer { price: PerHour::new(price), ..offer });
            }
        }
        let taken = taken(&scenario).unwrap();
        let both = (demands.as_slice(), &scenario.profile);
        let found = choose(&offers, &case, taken, both, &scenario.slo).unwrap();
        let bills = offers.iter().map(|offer| {
            let capability = offer.capability(&mix, &scenario.slo).ok()?;
            let Service { rate, .. } = capability.highest;
            let months = (0..).zip(&demands).map(|(month, demand)| {
                let fleet = (demand, &scenario.profile);
                offer.fleet(&case, taken, fleet, rate, month).1.total().usd()
            });
            Some(months.sum::<f64>())
        });
        let bills: Vec<f64> = bills.map(|bill| bill.unwrap_or(f64::MAX)).collect();
        let least = bills.iter().copied().fold(f64::MAX, f64::min);
        assert!(least < f64::MAX);
        assert_eq!(bills[found.offer], least, "{bills:?}");
        (simulated, offered) = (simulated + found.simulated, offered + offers.len());
    }
    assert!(simulated < offered * 3 / 4, "{simulated} of {offered} were simulated");
}

#[test]
fn what_cannot_be_met_says_so_and_what_is_best() {
    let slo = GPUS.replace("50ms", "1ms");
    let scenario = scenario(&(LEAST.to_owned() + &slo));
    let offers = Offers { apis: vec![api()], gpus: vec![gpu("h100-sxm", 1, Format::Bf16, 3.0)] };
    let plan = plan(&scenario, &scenario.likely(), &offers);
    assert_eq!(plan.lanes.len(), 1);
    let why = &plan.ruled_out[0].1;
    assert!(
        why.starts_with(
            "the SLO cannot be met; the best, for calls that come one by one, is TTFT "
        ),
        "{why}"
    );
}

#[test]
fn a_call_that_is_too_long_for_a_setup_rules_it_out() {
    let scenario = scenario(&(LEAST.replace("\"2k\"", "\"500k\"") + GPUS));
    let case = scenario.likely();
    let demand = planner::demand(&scenario, &case);
    let mix = Mix::new(&demand[0].shapes, &case, 20);
    let unfit = gpu("h100-sxm", 1, Format::Bf16, 3.0).capability(&mix, &scenario.slo).unwrap_err();
    assert!(matches!(unfit, Unfit::TooLong { found: 500_500, .. }), "{unfit}");
}

#[test]
fn a_prefix_cache_saves_gpu_time_and_idle_is_a_line_of_its_own() {
    let text = LEAST.replace("\"50,000/day\"", "\"1M/day\"") + GPUS;
    let offers = || Offers { apis: Vec::new(), gpus: vec![gpu("h100-sxm", 1, Format::Bf16, 3.0)] };
    let served = |text: &str| {
        let scenario = scenario(text);
        let plan = plan(&scenario, &scenario.likely(), &offers());
        sum_is_whole(&plan);
        let lane = &plan.lanes[0];
        let idle = lane.months[0].parts.iter().find(|part| part.name == "idle").unwrap().cost;
        assert!(idle.usd() > 0.0);
        (lane.own.as_ref().unwrap().capability.highest.rate, lane.months[0].bill)
    };
    let cached = text.replace("answer = 500", "answer = 500\ncached = \"80%\"");
    // Whole GPUs may be as many all the same.
    let (with, without) = (served(&cached), served(&text));
    assert!(with.0 > without.0 * 1.05, "{with:?} {without:?}");
    assert!(with.1 <= without.1, "{with:?} {without:?}");
}

fn fleet(case: &planner::Case, schedule: Schedule, scenario: &Scenario, rate: f64) -> (f64, Fleet) {
    let demand = Demand::of(case, &scenario.profile, 0, None);
    let week = demand.per_second(&scenario.profile);
    (demand.attempts(), Fleet::of(case, schedule, &week, rate))
}

proptest! {
    #[test]
    fn more_demand_never_needs_fewer_gpus_and_idle_gpus_never_make_a_token_cheaper(
        tasks in 1.0..1e8_f64, more in 1.0..5.0_f64, rate in 0.1..20.0_f64, zones in 1.0..5.0_f64,
        peak in 1.0..10.0_f64, which in 0_usize..3,
    ) {
        let hours = format!("hours = {{ peak_hour = 14, peak_to_floor = {peak:.6} }}\n[tokens]");
        let scenario = scenario(&LEAST.replace("[tokens]", &hours));
        let schedule = [Schedule::Owned, Schedule::Fixed, Schedule::Autoscaled][which];
        let case = scenario.likely().with(Var::Tasks, tasks).with(Var::Zones, zones.floor());
        let (calls, few) = fleet(&case, schedule, &scenario, rate);
        let (_, many) = fleet(&case.with(Var::Tasks, tasks * more), schedule, &scenario, rate);
        prop_assert!(many.most() >= few.most() && many.paid >= few.paid * (1.0 - 1e-12));
        prop_assert!(many.for_load >= few.for_load);
        // Every hour has enough of them when one fails, or one zone.
        for hour in &few.week {
            let zones = case.at(Var::Zones);
            let left = if zones > 1.0 {
                f64::from(hour.replicas) * (zones - 1.0) / zones
            } else {
                f64::from(hour.replicas) - 1.0
            };
            prop_assert!(left * rate >= hour.per_second * (1.0 - 1e-9), "{hour:?}");
        }
        // The same fleet with less to do: each token costs more, never less.
        let per_token = |calls: f64| PerHour::new(few.paid).per_mtok(calls);
        prop_assert!(per_token(calls * 0.5) >= per_token(calls));
    }

    #[test]
    fn autoscaling_never_pays_for_more_than_a_fixed_fleet(
        tasks in 1e4..1e8_f64, rate in 0.1..20.0_f64, peak in 1.0..10.0_f64,
    ) {
        let hours = format!("hours = {{ peak_hour = 14, peak_to_floor = {peak:.6} }}\n[tokens]");
        let scenario = scenario(&LEAST.replace("[tokens]", &hours));
        let case = scenario.likely().with(Var::Tasks, tasks);
        let paid = |schedule| fleet(&case, schedule, &scenario, rate).1.paid;
        prop_assert!(paid(Schedule::Autoscaled) <= paid(Schedule::Fixed) * (1.0 + 1e-12));
        prop_assert!(paid(Schedule::Fixed) <= paid(Schedule::Owned) * (1.0 + 1e-12));
    }
}

#[test]
fn what_would_have_to_be_true_makes_the_target_just_met() {
    let text = LEAST.to_owned()
        + "[task]\nrevenue = 0.02\nsuccess_rate = \"90%\"\n[target]\nbudget = \"10k/month\"\ngross_margin = \"50%\"\n"
        + GPUS;
    let scenario = scenario(&text);
    let case = scenario.likely();
    let offers = Offers { apis: vec![api()], gpus: vec![gpu("h100-sxm", 1, Format::Fp8, 3.0)] };
    let plan = plan(&scenario, &case, &offers);
    let bill = |lane: usize, case: &planner::Case| {
        planner::plan(&scenario, case, &offers).lanes[lane].months[0].bill.usd()
    };
    let tasks = case.at(Var::Tasks);
    let allowed = |revenue: f64, tasks: f64| (revenue * 0.9 * tasks * 0.5).min(10_000.0);
    let first = bill(0, &case);
    assert!(first > allowed(0.02, tasks), "{first}");
    for (at, lane) in plan.lanes.iter().enumerate() {
        let found = needs(&scenario, &case, &offers, lane);
        assert_eq!(found.len(), 5, "{found:?}");
        for need in found {
            let Some(needed) = need.needed else { continue };
            let (case, scale) = match need.what {
                "price of a token, of what it is" => (case, needed),
                "USD per GPU hour" => (case.with(Var::GpuHour, needed), 1.0),
                "tokens per task" => {
                    let scale = needed / need.now;
                    let input = case.with(Var::Input, case.at(Var::Input) * scale);
                    (input.with(Var::Answer, case.at(Var::Answer) * scale), 1.0)
                }
                "input read from the prompt cache" => (case.with(Var::Cached, needed), 1.0),
                "revenue of a successful task, USD" => (case.with(Var::Revenue, needed), 1.0),
                "tasks a month" => (case.with(Var::Tasks, needed), 1.0),
                other => panic!("{other}"),
            };
            let (bill, most) =
                (bill(at, &case) * scale, allowed(case.at(Var::Revenue), case.at(Var::Tasks)));
            assert!(bill <= most * 1.000_001, "{}: {bill} of {most}", need.what);
            // An API's bill has no steps: there it is met to the cent. The cache alone may do more than is needed.
            if at == 0 && need.what != "revenue of a successful task, USD" {
                assert!(bill >= most * 0.999, "{}: {bill} of {most}", need.what);
            }
        }
    }
}

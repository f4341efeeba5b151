//! What levers save, against arithmetic and against plans of what they assume.

use planner::{
    Accuracy, ApiChoice, ApiOffer, Beside, Choice, Demand, GpuChoice, Lever, Offers, PerMonth,
    Plan, Scenario, TokenPrices, Var, levers, plan,
};
use roofline::Format;

use crate::plans::{GPUS, api, gpu, scenario};

const PARTS: &str = "months = 3\n[demand]\ntasks = \"1M/month\"\n[growth]\nusers = \"10%/month\"\n[tokens]\n\
    system = 1000\ncontext = 500\nmessage = 200\nanswer = 400\nspread = 0.6\ncached = \"10%\"\n[api]\nmodels = \"m\"\n";

/// The same at so much of its prices.
fn at(name: &str, factor: f64) -> ApiOffer {
    let prices = api().prices;
    let prices = move |month: u32, length: u64| {
        let TokenPrices { input, cached, answer, reasoning, call } = prices(month, length)?;
        let [input, cached, answer, reasoning] =
            [input, cached, answer, reasoning].map(|price| price * factor);
        Ok(TokenPrices { input, cached, answer, reasoning, call })
    };
    ApiOffer { name: name.to_owned(), prices: Box::new(prices) }
}

fn found(scenario: &Scenario, offers: &Offers, beside: &Beside) -> (Plan, Vec<Lever>) {
    let case = scenario.likely();
    let plan = plan(scenario, &case, offers);
    let exactly = Accuracy { low: 1.0, high: 1.0 };
    let choices: Vec<Box<dyn Choice>> = plan
        .lanes
        .iter()
        .map(|lane| -> Box<dyn Choice> {
            if lane.own.is_none() {
                return Box::new(ApiChoice::new(&offers.apis[lane.offer], scenario.months));
            }
            let both = (lane, plan.demand.as_slice());
            let offer = &offers.gpus[lane.offer];
            Box::new(GpuChoice::new(scenario, &case, offer, both, exactly).unwrap())
        })
        .collect();
    let choices: Vec<&dyn Choice> = choices.iter().map(AsRef::as_ref).collect();
    let levers = levers((scenario, &case), offers, (&plan, &choices), beside);
    (plan, levers)
}

#[track_caller]
fn saved(levers: &[Lever], name: &str, lane: usize) -> (f64, f64) {
    let lever = levers.iter().find(|lever| lever.name == name);
    let saving = lever.unwrap_or_else(|| panic!("{name}: {levers:?}")).savings[lane];
    let saving = saving.unwrap_or_else(|| panic!("{name}: {levers:?}"));
    (saving.per_month.usd(), saving.of_bill)
}

#[test]
fn behind_an_api_each_lever_saves_what_arithmetic_says() {
    let scenario = scenario(PARTS);
    let offers = Offers { apis: vec![api(), at("small", 0.25)], gpus: Vec::new() };
    let batch = vec![Some(at("m, batch", 0.5)), None];
    let (plan, levers) = found(&scenario, &offers, &Beside { batch, quantised: None });
    assert_eq!(plan.cheapest().unwrap().name, "small");
    let tasks = 1e6 * (1.0 + 1.1 + 1.21) / 3.0;
    // 2 USD a Mtok of input, of which a tenth costs 0.5, and 8 of answers.
    let input = 0.9 * 2.0 + 0.1 * 0.5;
    let bill = tasks * (1_700.0 * input + 400.0 * 8.0) / 1e6;
    let near = |name: &str, exact: f64| {
        for (lane, factor) in [(0, 1.0), (1, 0.25)] {
            let (usd, share) = saved(&levers, name, lane);
            assert!((usd / (exact * factor) - 1.0).abs() < 1e-9, "{name}: {usd} {exact}");
            assert!((share * bill / exact - 1.0).abs() < 1e-9, "{name}: {share}");
        }
    };
    near("trim the prompt", tasks * 200.0 * input / 1e6);
    near("retrieve less", tasks * 150.0 * input / 1e6);
    // Nine tenths of the system prompt's part of the input, instead of one tenth of all.
    let more = 0.9 * 1_000.0 / 1_700.0 - 0.1;
    near("cache the prefix", tasks * 1_700.0 * more * 1.5 / 1e6);
    let (usd, _) = saved(&levers, "cap the output", 0);
    assert!(usd > 0.02 * tasks * 400.0 * 8.0 / 1e6 && usd < 0.2 * tasks * 400.0 * 8.0 / 1e6);
    // Thirty in a hundred at half the price, half at a quarter: of the one that has them alone.
    let only_first = |name: &str, exact: f64| {
        let (usd, share) = saved(&levers, name, 0);
        assert!((share - exact).abs() < 1e-9 && (usd / (bill * exact) - 1.0).abs() < 1e-9);
        let lever = levers.iter().find(|lever| lever.name == name).unwrap();
        assert_eq!(lever.savings[1], None, "{name}");
    };
    only_first("the batch lane for some", 0.15);
    only_first("a smaller model for some", 0.375);
    assert_eq!(levers.len(), 6, "{levers:?}");
    let of_cheapest: Vec<f64> =
        levers.iter().map(|lever| lever.savings[1].map_or(-1.0, |saving| saving.of_bill)).collect();
    assert!(of_cheapest.is_sorted_by(|one, other| one >= other), "{levers:?}");
}

#[test]
fn on_gpus_levers_save_what_plans_of_them_say() {
    let text = PARTS.replace("\"1M/month\"", "\"300M/month\"") + GPUS;
    let scenario = scenario(&text);
    let case = scenario.likely();
    let one = |weights| Offers { apis: Vec::new(), gpus: vec![gpu("h100-sxm", 1, weights, 3.0)] };
    let offers = one(Format::Bf16);
    let quantised = Some(gpu("h100-sxm", 1, Format::Fp8, 3.0));
    let (before, levers) = found(&scenario, &offers, &Beside { batch: Vec::new(), quantised });
    let total = |plan: &Plan| -> f64 {
        plan.lanes[0].months.iter().map(|month| month.bill).sum::<PerMonth>().usd()
    };
    let exact = |plan: &Plan| (total(&before) - total(plan)) / total(&before);
    let quantised = plan(&scenario, &case, &one(Format::Fp8));
    assert!((saved(&levers, "quantise", 0).1 - exact(&quantised)).abs() < 1e-9);
    let mut relaxed = scenario.clone();
    relaxed.slo.ttft_s = relaxed.slo.ttft_s.map(|seconds| seconds * 1.5);
    relaxed.slo.tpot_s = relaxed.slo.tpot_s.map(|seconds| seconds * 1.5);
    let (_, share) = saved(&levers, "relax the SLO", 0);
    assert!(share > 0.0 && (share - exact(&plan(&relaxed, &case, &offers))).abs() < 1e-9);
    // Others move by the closed form; a plan simulates them, and is close.
    for (name, moved) in [
        ("trim the prompt", case.with(Var::System, 800.0)),
        ("retrieve less", case.with(Var::Context, 350.0)),
    ] {
        let (_, share) = saved(&levers, name, 0);
        let exact = exact(&plan(&scenario, &moved, &offers));
        assert!(share > 0.0 && (share - exact).abs() < 0.05, "{name}: {share} {exact}");
    }
    assert!(levers.iter().all(|lever| lever.name != "a smaller model for some"), "{levers:?}");
}

#[test]
fn who_distils_pays_for_the_gpus_of_the_plan_and_for_the_tuning() {
    let text = PARTS.replace("\"1M/month\"", "\"300M/month\"") + GPUS;
    let scenario = scenario(&(text + "[costs]\ntuning = \"$12,000\"\ntuning_months = 6\n"));
    let apis = vec![at("dear", 5.0)];
    let offers = Offers { apis, gpus: vec![gpu("h100-sxm", 1, Format::Bf16, 3.0)] };
    let (plan, levers) = found(&scenario, &offers, &Beside::default());
    let bills = |lane: usize| plan.lanes[lane].months.iter().map(|month| month.bill.usd());
    let [dear, own] = [0, 1].map(|lane| bills(lane).sum::<f64>());
    let (_, share) = saved(&levers, "distil", 0);
    assert!(share > 0.0 && (share - (dear - own) / dear).abs() < 1e-9, "{share}");
    let lever = levers.iter().find(|lever| lever.name == "distil").unwrap();
    assert_eq!(lever.savings[1], None);
    assert!(lever.assumed.contains("tuning it costs 12000 USD once"), "{}", lever.assumed);
}

#[test]
fn what_calls_have_in_common_is_what_a_call_before_had() {
    let text = PARTS.to_owned() + "[task]\nturns = 2\ncalls_per_turn = 2\n";
    let scenario = scenario(&text.replace("message = 200", "message = 200\ntool_result = 100"));
    let case = scenario.likely();
    let demand = Demand::of(&case, &scenario.profile, 0, None);
    // 1,700 of which the system prompt is known; then the answer and a result more; then a turn of 600 is behind.
    let input = 1_700.0 + 2_200.0 + 2_300.0 + 2_800.0;
    let common = 1_000.0 + 1_700.0 + (1_000.0 + 600.0) + 2_300.0;
    assert!((demand.in_common(&case) - common / input).abs() < 1e-12);
}

//! What must hold of choices under luck.

use planner::{
    Accuracy, ApiChoice, ApiOffer, Choice, Draw, GpuChoice, Offers, PerMonth, Scenario,
    TokenPrices, Var, demand, plan,
};
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

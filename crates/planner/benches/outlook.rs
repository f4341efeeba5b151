//! How long it takes to look at 10,000 draws of 24 months for ten ways to serve, `cargo bench -p planner`.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../../../bench/cpu.rs"]
mod cpu;

use std::time::Instant;

use planner::{
    Accuracy, ApiChoice, ApiOffer, Candidate, Choice, Draws, Found, GpuChoice, GpuOffer, Lane,
    Offers, PerHour, PerMtok, Scenario, TokenPrices, outlook, plan,
};
use roofline::{Formats, Layout, Routing, Setup, Sheets};

/// Demand by hour of the day, replicas that come and go with it, and ranges of all kinds.
const SCENARIO: &str = r#"
start = "2026-12-01"
months = 24
[demand]
users = { low = "20k", likely = "50k", high = "90k" }
tasks_per_user = "8/month"
hours = { peak_hour = 14, peak_to_floor = 5 }
weekdays = [1, 1, 1, 1, 1, 0.6, 0.5]
[growth]
users = { low = "0%/month", likely = "3%/month", high = "6%/month" }
input = { low = "-1%/month", likely = "0%/month", high = "2%/month" }
output = "1%/month"
api_price = { low = "-4%/month", likely = "-2%/month", high = "1%/month" }
gpu_price = { low = "-3%/month", likely = "-1%/month", high = "1%/month" }
[task]
turns = 2
calls_per_turn = 2.5
[tokens]
system = 900
context = { low = 500, likely = 800, high = 1500 }
message = 300
answer = { low = 300, likely = 500, high = 800 }
cached = "40%"
[api]
models = "m"
[gpus]
model = "llama-3.1-8b"
accelerators = "h100-sxm"
autoscale = true
[slo]
ttft = "1s"
tpot = "50ms"
[costs]
host = "0.10/hour"
staff = { low = 0.3, likely = 0.5, high = 1 }
salary = "180k/year"
reliability = "5%"
"#;

fn main() {
    let scenario = Scenario::read(SCENARIO, &mut |_, _| Err(String::new())).unwrap();
    let case = scenario.likely();
    let apis: Vec<ApiOffer> = (1..=4).map(|at| api(f64::from(at))).collect();
    let setups = [
        ("h100-sxm", 1, 2.5),
        ("h100-sxm", 2, 2.5),
        ("h200-sxm", 1, 3.5),
        ("l40s", 1, 1.0),
        ("a100-sxm", 1, 1.5),
        ("l40s", 2, 1.0),
    ];
    let plans: Vec<(Offers, planner::Plan)> = setups
        .map(|(accelerator, tensor, price)| {
            let offers = Offers { apis: Vec::new(), gpus: vec![gpu(accelerator, tensor, price)] };
            let plan = plan(&scenario, &case, &offers);
            (offers, plan)
        })
        .into();
    let accuracy = Accuracy { low: 0.6, high: 1.8 };
    let gpus = plans.iter().map(|(offers, plan)| {
        let lane: &Lane = plan.lanes.first().unwrap();
        GpuChoice::new(&scenario, &case, &offers.gpus[0], (lane, &plan.demand), accuracy).unwrap()
    });
    let (apis, gpus): (Vec<_>, Vec<_>) =
        (apis.iter().map(|offer| ApiChoice::new(offer, scenario.months)).collect(), gpus.collect());
    let mut choices: Vec<&dyn Choice> = apis.iter().map(|api| api as &dyn Choice).collect();
    choices.extend(gpus.iter().map(|gpu| gpu as &dyn Choice));
    let count = 10_000;
    for threads in [2, 1] {
        let (begun, busy) = (Instant::now(), cpu::cpu_seconds());
        let found = outlook(&scenario, &choices, Draws { count, seed: 1, threads });
        let (took, busy) = (begun.elapsed().as_secs_f64(), cpu::cpu_seconds() - busy);
        assert!(found.prospects.iter().all(|prospect| prospect.unserved == 0.0));
        let (months, ways) = (scenario.months, choices.len());
        println!(
            "planner: {count} draws, {months} months, {ways} ways to serve, {threads} threads: {took:.2} s, \
             CPU time {busy:.2} s; goal 1 s"
        );
    }
    for (who, choices) in
        [("an API", &choices[..1]), ("GPUs by the hour of the week", &choices[4..5])]
    {
        let months = u64::from(count) * u64::from(scenario.months);
        cpu::rate(
            &format!("planner: {who}, with the draws' demand"),
            "months",
            months,
            None,
            || {
                let draws = Draws { count, seed: 1, threads: 1 };
                assert_eq!(outlook(&scenario, choices, draws).draws, count);
            },
        );
    }
}

fn api(price: f64) -> ApiOffer {
    let prices = move |_: u32, length: u64| {
        let usd = if length > 200_000 { 2.0 * price } else { price };
        let [input, cached, answer] = [usd, usd / 10.0, usd * 4.0].map(PerMtok::new);
        Ok(TokenPrices { input, cached, answer, reasoning: answer, call: 0.0 })
    };
    ApiOffer { name: format!("API {price}"), prices: Box::new(prices) }
}

fn gpu(accelerator: &str, tensor: u32, price: f64) -> GpuOffer {
    let sheets = Sheets::built_in().unwrap();
    let setup = Setup::new(
        sheets.model("llama-3.1-8b").unwrap(),
        sheets.accelerator(accelerator).unwrap(),
        sheets.engine("vllm").unwrap(),
        &sheets.kernels,
        Layout::tensor(tensor),
        Formats::default(),
        Routing::default(),
    );
    GpuOffer {
        candidate: Candidate::new(setup.unwrap()).unwrap(),
        price: PerHour::new(price),
        source: "a benchmark".to_owned(),
        kilowatts: 1.0,
        found: Found::default(),
    }
}

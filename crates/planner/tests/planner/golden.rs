//! Worked numbers, each with its source: inputs as published, outputs within the rounding that they were published with.

use planner::{
    HOURS_PER_MONTH, PerHour, PerMonth, PerMtok, PerYear, Power, Purchase, Queue, Staircase,
    capital_recovery, gross_margin, profit_on_cost,
};

#[track_caller]
fn near(found: f64, published: f64, by: f64) {
    assert!((found - published).abs() <= by, "found {found}, published {published}");
}

/// USD for a million tokens at a rate by the hour and tokens a second, all of them useful.
fn per_mtok(usd_per_hour: f64, tokens_per_s: f64) -> f64 {
    PerHour::new(usd_per_hour).per_mtok(tokens_per_s * 3600.0).unwrap().usd()
}

/// deepseek-ai/open-infra-index, 202502OpenSourceWeek, day 6: 226.75 nodes of 8 GPUs at 2 USD; 342 billion input tokens from
/// the cache at 0.14 USD, 266 billion others at 0.55, 168 billion of output at 2.19. Counts are rounded to a billion there.
#[test]
fn deepseeks_day() {
    let cost = PerHour::new(226.75 * 8.0 * 2.0).of(24.0).usd();
    assert_eq!(cost, 87_072.0);
    let lines = [(342e9, 0.14), (266e9, 0.55), (168e9, 2.19)];
    let revenue = lines.map(|(tokens, price)| PerMtok::new(price).of(tokens / 1e6).usd());
    near(revenue.iter().sum(), 562_027.0, 562_027.0 * 0.0002);
    // One result, two margins: each says of what.
    near(profit_on_cost(562_027.0, cost).unwrap() * 100.0, 545.0, 0.5);
    near(gross_margin(562_027.0, cost).unwrap() * 100.0, 84.5075, 1e-4);
    near(342.0 / (342.0 + 266.0) * 100.0, 56.3, 0.06);
    near(PerMonth::new(cost).per_mtok(168e9).unwrap().usd(), 0.518_286, 1e-6);
}

/// SemiAnalysis InferenceX v2; LMSYS, 2025-05-05: 22,300 output tokens a second of a node of 8 GPUs at 2 USD.
#[test]
fn margins_and_cost_of_large_deployments() {
    near(gross_margin(1.35, 0.226).unwrap() * 100.0, 83.3, 0.06);
    near(gross_margin(5.40, 2.955).unwrap() * 100.0, 45.3, 0.06);
    near(per_mtok(16.0, 22_300.0), 0.20, 0.005);
}

/// tgarg01/silybench-data at 045df3b and 93e4887 (CC BY 4.0): Qwen3-8B on one H100 within an SLO.
#[test]
fn one_gpu_within_an_slo() {
    const TOKENS_PER_S: f64 = 2_814.681_520_9;
    near(per_mtok(2.69, TOKENS_PER_S), 0.265_473_097_635_2, 1e-6);
    near(per_mtok(3.49, TOKENS_PER_S), 0.344_424_2, 1e-6);
    near(per_mtok(2.69, 2.0 * TOKENS_PER_S), 0.132_736_548_817_6, 1e-8);
    let requests = 1.374_356_211_4 * 3600.0;
    near(PerHour::new(2.69).per_mtok(requests).unwrap().usd() / 1e3, 0.543_688_903_957, 1e-8);
    let api = |input: f64, output: f64, tokens: f64| {
        (PerMtok::new(input).of(tokens / 1e6).usd() + PerMtok::new(output).of(tokens / 1e6).usd())
            * 1e3
    };
    near(api(0.2, 0.2, 2048.0), 0.8192, 1e-9);
    near(api(0.117, 0.455, 2048.0), 1.171_456, 1e-9);
}

/// The same, `comparisons.csv`: requests a day from which a GPU at 2.69 USD an hour costs no more than the cheapest API, and
/// how busy it is then.
#[test]
fn requests_a_day_to_break_even() {
    for (api_usd_per_1k, requests_a_day) in [
        (0.8192, 78_808.593_75),
        (0.2304, 280_208.333_333_333_3),
        (1.191_424, 54_187.258_272_453_81),
        (0.178_048, 362_598.849_748_383_6),
    ] {
        near(PerHour::new(2.69).of(24.0).usd() / (api_usd_per_1k / 1e3), requests_a_day, 1e-6);
    }
    for (own, api, busy) in [
        (0.418_907_617_631_227_5, 0.8192, 0.511_361_837_928_744_5),
        (0.005_781_931_521_886_928, 0.0512, 0.112_928_350_036_854_06),
        (0.050_660_884_097_983_735, 0.2304, 0.219_882_309_453_054_43),
        (0.486_196_414_524_663_2, 1.191_424, 0.408_080_091_155_342_9),
    ] {
        // At its capacity a request costs `own`; at a share of that load it costs `own` over the share.
        let at = |share: f64| PerMonth::new(own).each(share).unwrap().usd();
        near(at(busy), api, 1e-9);
    }
}

/// RightNow-AI/inference-cost-truth at 323a9df, 2026-07-31: utilisation divides tokens. Months of 720 hours there.
#[test]
fn cost_by_utilisation_and_whether_it_ever_pays() {
    for (usd_per_hour, tokens_per_s, busy, published) in [
        (4.0 * 2.59, 1624.0, 0.1, 17.73),
        (4.0 * 2.59, 1624.0, 0.6, 2.95),
        (4.0 * 5.89, 1488.0, 0.1, 43.99),
        (4.0 * 5.89, 1488.0, 0.3, 14.66),
        (4.0 * 5.89, 1488.0, 0.6, 7.33),
        (4.0 * 5.89, 1488.0, 0.9, 4.89),
        (2.59, 971.0, 0.1, 7.41),
        (2.59, 971.0, 0.3, 2.47),
        (2.59, 971.0, 0.6, 1.24),
    ] {
        near(per_mtok(usd_per_hour, tokens_per_s * busy), published, 0.011);
    }
    let fixed = PerMonth::new(PerHour::new(4.0 * 5.89).of(720.0).usd());
    near(fixed.usd(), 16_963.0, 1.0);
    let at = |busy: f64| Staircase {
        fixed: PerMonth::ZERO,
        step: fixed,
        step_mtok: 1488.0 * busy * 720.0 * 3600.0 / 1e6,
        price: PerMtok::new(12.0),
    };
    near(at(0.3).step_mtok, 1_157.0, 1.0);
    near(at(0.9).step_mtok, 3_471.2, 0.1);
    // At 30 % a full machine serves less than it would have to: never. At 90 % it pays from 1,414 Mtok on.
    assert_eq!(at(0.3).break_even().always_from, None);
    assert!(at(0.3).break_even().intervals.is_empty());
    let found = at(0.9).break_even();
    let first = found.intervals.first().map_or(found.always_from, |first| Some(first.from));
    near(first.unwrap(), 1_414.0, 1.0);
    let small = Staircase {
        fixed: PerMonth::ZERO,
        step: PerMonth::new(2.59 * 720.0),
        step_mtok: 971.0 * 0.3 * 720.0 * 3600.0 / 1e6,
        price: PerMtok::new(0.28),
    };
    near(small.step.usd() / small.price.usd(), 6_660.0, 1.0);
    near(small.step_mtok, 755.0, 1.0);
    assert_eq!(small.break_even().always_from, None);
}

/// GMI Cloud's blog; fridayswithfaraday; rahulkashyap.dev lesson 3; llmtco.com.
#[test]
fn hourly_rates_over_tokens() {
    for (usd_per_hour, tokens_per_s, published, by) in [
        (2.0, 85.0, 6.54, 0.006),
        (2.6, 140.0, 5.16, 0.006),
        (2.0, 120.0, 4.63, 0.006),
        (2.0, 400.0, 1.39, 0.006),
        (10.0, 1000.0, 2.78, 0.006),
        (1.0, 200.0, 1.39, 0.006),
        (1.5, 2000.0, 0.208, 0.001),
    ] {
        near(per_mtok(usd_per_hour, tokens_per_s), published, by);
    }
    assert_eq!(PerHour::new(4.0).per_mtok(2e6).unwrap().usd(), 2.0);
    // Half the useful tokens, twice the cost.
    assert_eq!(PerHour::new(4.0).per_mtok(1e6).unwrap().usd(), 4.0);
    assert_eq!(PerMtok::new(3.0).of(1.0).usd() + PerMtok::new(15.0).of(0.5).usd(), 10.5);
}

/// llmtco.com has 1.50 USD x 730 h x 30 % = 328.50 USD: idle time as if it were free. It is not.
#[test]
fn utilisation_never_multiplies_rent() {
    let month = PerHour::new(1.5).per_month();
    assert_eq!(month.usd(), 1_095.0);
    let full = 2_000.0 * 3600.0 * HOURS_PER_MONTH;
    let busy = month.per_mtok(full * 0.3).unwrap().usd();
    near(busy, month.per_mtok(full).unwrap().usd() / 0.3, 1e-12);
}

/// FOCUS specification, prompt caching examples: scenario A and B. LiteLLM #14849: tokens from the cache are counted once.
/// opencode #17566: reasoning is within the output.
#[test]
fn bills_by_token_class() {
    let bill = |lines: &[(f64, f64)]| -> f64 {
        lines.iter().map(|(tokens, price)| PerMtok::new(*price).of(tokens / 1e6).usd()).sum()
    };
    near(bill(&[(0.5e6, 3.0), (2e6, 3.75), (8e6, 0.30)]), 11.40, 1e-9);
    near(bill(&[(1.5e6, 15.0)]), 22.5, 1e-9);
    near(bill(&[(10.5e6, 3.0)]), 31.5, 1e-9);
    near(9.90 + bill(&[(6e6, 1.0)]), 15.9, 1e-9);
    let gemini = [(262_960.0 - 257_955.0, 1.25), (257_955.0, 0.625), (1_744.0, 10.0)];
    near(bill(&gemini), 0.1849, 1e-4);
    near(bill(&[(14_746.0, 30.0), (1_944.0, 180.0)]), 0.7923, 1e-4);
}

/// a16z, LLMflation: a tenth each year.
#[test]
fn prices_that_fall() {
    let start = PerMtok::new(60.0);
    assert_eq!(start.after(0.0, -0.2), start);
    near(start.after(36.0, 0.1_f64.powf(1.0 / 12.0) - 1.0).usd(), 0.06, 1e-9);
}

/// NVIDIA, benchmarking LLM inference costs: a server of 320,000 USD over 4 years, 3,000 USD of hosting and 4,500 USD of
/// software a year, by the server.
#[test]
fn a_server_by_the_year() {
    let server = Purchase { price: 320_000.0, residual: 0.0, years: 4.0 };
    let year = server.straight_line() + PerYear::new(3_000.0) + PerYear::new(4_500.0);
    assert_eq!(year.usd(), 87_500.0);
}

/// Worked out by hand: 320,000 USD, sold for 32,000 after 4 years, at 8 %.
#[test]
fn annuity_and_straight_line() {
    let server = Purchase { price: 320_000.0, residual: 32_000.0, years: 4.0 };
    assert_eq!(server.straight_line().usd(), 72_000.0);
    near(capital_recovery(0.08, 4.0), 0.301_920_8, 1e-7);
    let payment = server.annuity(0.08).usd();
    near(payment, 89_513.19, 0.005);
    // Its present value, with that of the sale, is the price.
    let discounted = |year: i32| payment / 1.08_f64.powi(year);
    let value = (1..=4).map(discounted).sum::<f64>() + 32_000.0 / 1.08_f64.powi(4);
    near(value, 320_000.0, 1e-6);
    assert_eq!(server.annuity(0.0), server.straight_line());
    let power = Power { kilowatts: 10.2, load: 0.7, pue: 1.25, usd_per_kwh: 0.08 };
    near(power.per_hour().usd(), 0.714, 1e-12);
}

/// Worked out by hand from silybench's GPU: 60 % is the highest safe load over the ratio of peak to mean.
#[test]
fn break_even_with_whole_gpus_is_a_set_of_intervals() {
    let stairs = Staircase {
        fixed: PerMonth::ZERO,
        step: PerHour::new(2.69).per_month(),
        step_mtok: 2_814.681_520_9 * 3600.0 * HOURS_PER_MONTH * 0.6 / 1e6,
        price: PerMtok::new(0.60),
    };
    near(stairs.step.usd(), 1_963.70, 1e-9);
    near(stairs.step_mtok, 4_438.19, 0.01);
    let found = stairs.break_even();
    let ends: Vec<f64> = found.intervals.iter().flat_map(|part| [part.from, part.to]).collect();
    for (end, expected) in ends.iter().zip([3_272.8, 4_438.2, 6_545.7, 8_876.4]) {
        near(*end, expected, 0.05);
    }
    assert_eq!(ends.len(), 4);
    near(found.always_from.unwrap(), 9_818.5, 0.05);
    let cheaper = Staircase { price: PerMtok::new(0.40), ..stairs };
    assert_eq!(cheaper.break_even().always_from, None);
}

/// Worked out by hand, and checked against a simulation: 10 servers at 80 %.
#[test]
fn erlang_c() {
    let queue = Queue { servers: 10, arrivals: 8.0, service: 1.0 };
    near(queue.waits().unwrap(), 0.409_18, 1e-5);
    near(queue.mean_wait().unwrap(), 0.204_59, 1e-5);
    // The published formula at other spreads of service; the simulation has 0.138, 0.203 and 0.383.
    for (service_cv2, published) in [(0.25, 0.128), (1.0, 0.205), (4.0, 0.512)] {
        near(queue.mean_wait_of(1.0, service_cv2).unwrap(), published, 6e-4);
    }
}

//! A simulated run: the model of a small one, in every form.

use quantity::EstimatedUsd;
use report::Style;
use report::simulation::{Offered, Simulation, Source, UsefulTokens};
use roofline::{Formats, Layout, Routing, Setup, Sheets};
use servesim::{Engine, Request, SECOND_PS, Slo, serve};

/// Requests that come a second apart, on two GPUs.
pub(crate) fn simulated<T>(
    gpu_hour: Option<f64>,
    slo: Slo,
    tell: impl FnOnce(&Simulation<'_>) -> T,
) -> T {
    let sheets = Sheets::built_in().unwrap();
    let setup = Setup::new(
        sheets.model("mixtral-8x7b").unwrap(),
        sheets.accelerator("h100").unwrap(),
        sheets.engine("vllm").unwrap(),
        &sheets.kernels,
        Layout::tensor(2),
        Formats::default(),
        Routing::default(),
    );
    let setup = setup.unwrap();
    let memory = setup.memory().unwrap();
    let engine = Engine::of(&setup).unwrap();
    let requests = (0..40).map(|number| Request {
        arrival_ps: number * SECOND_PS,
        prompt: 1000,
        output: 50,
        priority: 0,
        patience_ps: None,
    });
    let run = serve(&engine, setup.compile(), &slo, requests, |_| {}).unwrap();
    let source = Source::Trace { file: "a\u{1b}[2J.csv".to_owned(), scale: "2".to_owned() };
    let offered = Offered { source, requests: 40, last_arrival_ps: 39 * SECOND_PS };
    tell(&Simulation {
        setup: &setup,
        memory: &memory,
        engine: &engine,
        replicas: 1,
        offered: &offered,
        slo: &slo,
        run: &run,
        useful: UsefulTokens { input: 40_000, output: 2000 },
        gpu_hour: gpu_hour.and_then(EstimatedUsd::new),
    })
}

fn half_a_second() -> Slo {
    Slo { ttft_ps: Some(SECOND_PS / 2), tpot_ps: Some(SECOND_PS / 20), latency_ps: None }
}

#[test]
fn a_simulation_fits_the_terminal_and_nothing_hostile_reaches_it() {
    for width in [60, 80, 120] {
        let style = Style { width, ..Style::default() };
        let text = simulated(Some(2.69), half_a_second(), |run| run.text(style));
        // The headline is one line.
        let wide = text.lines().skip(1).find(|line| line.chars().count() > width);
        assert_eq!(wide, None, "{width}: {text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("100.0% of them within the SLO"), "{text}");
    }
}

#[test]
fn what_a_simulation_costs_is_its_hours_times_its_gpus() {
    let json = simulated(Some(3.6), half_a_second(), |run| run.json());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let time = &json["gpu_time"];
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let usd = |value: &serde_json::Value| value.as_str().unwrap().parse::<f64>().unwrap();
    // $3.60 an hour are a thousandth of a dollar a second.
    let seconds = count(&json["span_ps"]) as f64 / 1e12;
    assert_eq!(count(&time["total"]["gpu_ps"]), 2 * count(&json["span_ps"]));
    assert!((usd(&time["total"]["modelled_usd"]) - 2.0 * seconds / 1000.0).abs() < 1e-6);
    let per_mtok = usd(&time["modelled_usd_per_useful_output_mtok"]);
    assert!((per_mtok - 2.0 * seconds / 1000.0 / 2000.0 * 1e6).abs() < 1e-5, "{per_mtok}");
    let parts = ["input", "output", "idle"].map(|part| count(&time[part]["gpu_ps"]));
    assert_eq!(parts.iter().sum::<u64>(), count(&time["total"]["gpu_ps"]));
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    assert!(time["idle"]["modelled_usd_per_mtok"].is_null());
}

#[test]
fn a_simulation_without_a_price_or_an_slo_has_no_money_and_no_goodput() {
    let json = simulated(None, Slo::default(), |run| run.json());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["gpu_time"]["total"]["modelled_usd"].is_null());
    assert!(json["requests"]["within_slo"].is_null());
    let text = simulated(None, Slo::default(), |run| run.text(Style::default()));
    assert!(!text.contains("goodput") && !text.contains('$'), "{text}");
}

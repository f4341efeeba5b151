//! Intervals.

use calibration::{Bands, Kind, Metric, Regime, Residual, beyond, interval, made};
use roofline::{Basis, Format, Formats, KvFormat, Layout, Routing, Setup, Sheets};

const SHEET: &str = "# made up\ntpot - - 900 0.5 2\ntpot dense decode-bound 300 0.8 1.25\ntpot dense - 400 0.7 1.5\n";

#[test]
fn the_nearest_interval_counts_and_is_wider_where_kernels_were_not_measured() {
    let bands = Bands::read("mine", SHEET).unwrap();
    let of = |kind, regime, basis| bands.of(Metric::Tpot, kind, regime, basis);
    let near = of(Kind::Dense, Regime::DecodeBound, Basis::Measured);
    assert_eq!((near.low, near.high), (0.8, 1.25));
    assert_eq!(near.why, "errors of 300 measured points: dense, decode-bound");
    assert_eq!(of(Kind::Dense, Regime::Saturated, Basis::Measured).high, 1.5);
    assert_eq!(of(Kind::Moe, Regime::Saturated, Basis::OtherEngine).high, 2.0);
    let far = of(Kind::Dense, Regime::DecodeBound, Basis::Generic);
    assert!(far.low < near.low && far.high > near.high);
    assert!(far.why.contains("not measured on this accelerator"), "{}", far.why);
    let unknown = bands.of(Metric::Rate, Kind::Dense, Regime::DecodeBound, Basis::Measured);
    assert!(unknown.high >= 3.0 && unknown.why.contains("no rate was measured"), "{}", unknown.why);
}

#[test]
fn what_was_never_measured_is_told_and_has_a_wider_interval() {
    let sheets = Sheets::built_in().unwrap();
    let setup = |gpu: &str, ranks: u32| {
        Setup::new(
            sheets.model("llama-3.1-405b").unwrap(),
            sheets.accelerator(gpu).unwrap(),
            sheets.engine("vllm").unwrap(),
            &sheets.kernels,
            Layout::tensor(ranks),
            Formats { weights: Format::Fp8, experts: Format::Fp8, kv: KvFormat::Bf16 },
            Routing::default(),
        )
        .unwrap()
    };
    assert_eq!(beyond(&setup("h100", 8), [32_768.0, 8_192.0]), None);
    let long = beyond(&setup("h100", 8), [100_000.0, 500.0]).unwrap();
    assert_eq!(long, "prompts are longer than 32,768 tokens, the longest that were measured");
    let both = beyond(&setup("h100", 16), [500.0, 10_000.0]).unwrap();
    assert!(both.starts_with("replies are longer") && both.contains("spans servers"), "{both}");
    assert_eq!(beyond(&setup("gb200", 16), [500.0, 500.0]), None);
    let own = interval(&setup("h100", 8), Metric::Tpot, Regime::DecodeBound).unwrap();
    let wider = own.clone().wider(&long);
    assert!(wider.low < own.low && wider.high > own.high);
    assert!(wider.why.ends_with(&format!("; wider, for {long}")), "{}", wider.why);
}

#[test]
fn a_sheet_that_is_wrong_names_line_and_cell() {
    let error = |text: &str| Bands::read("mine", text).unwrap_err().to_string();
    assert_eq!(error("\ntpot - - 9 0.5"), "mine, line 2: expected 6 columns, found 5");
    assert_eq!(
        error("tpot - - 9 2 2"),
        "mine, line 1: `low`: expected more than 0, at most 1, found `2`"
    );
    assert_eq!(error("tpot - - x 0.5 2"), "mine, line 1: `points`: expected a count, found `x`");
}

#[test]
fn the_carried_intervals_are_read_and_hold_the_prediction() {
    let bands = Bands::built_in().unwrap();
    for metric in Metric::ALL {
        for kind in Kind::ALL {
            for regime in Regime::ALL {
                let band = bands.of(metric, kind, regime, Basis::Measured);
                assert!(
                    band.low <= 1.0 && band.high >= 1.0,
                    "{metric:?} {kind} {regime}: {band:?}"
                );
            }
        }
    }
}

#[test]
fn models_that_are_left_out_are_covered_by_what_the_others_make() {
    // Ten models, each off by a bias of its own and a little around it.
    let residual = |index: i32| {
        let (model, around) = (index / 40, index % 40);
        let bias = f64::from(model - 5) * 0.06;
        Residual {
            metric: Metric::Tpot,
            kind: Kind::Dense,
            regime: Regime::DecodeBound,
            model: format!("model {model}"),
            ratio: (bias + f64::from(around - 20) * 0.002).exp(),
        }
    };
    let all: Vec<Residual> = (0..400).map(residual).collect();
    let width = |some: &[Residual]| {
        let band = Bands::read("made", &made(some)).unwrap().of(
            Metric::Tpot,
            Kind::Dense,
            Regime::DecodeBound,
            Basis::Measured,
        );
        (band.high / band.low).ln()
    };
    // The models spread over 0.54: nine tenths of all points lie in less, but a model at the edge would not be covered.
    assert!(width(&all) > 0.55, "{}", width(&all));
    // Of models that are all alike the others say enough.
    let alike: Vec<Residual> = all
        .iter()
        .cloned()
        .enumerate()
        .map(|(i, r)| Residual { model: format!("model {}", i % 10), ..r })
        .collect();
    assert!(width(&alike) < width(&all));
    assert_eq!(made(&[]), "");
}

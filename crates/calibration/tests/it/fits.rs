//! Fits of points that were made with known constants.

use calibration::{Load, Measured, Metric, Point, Time, fit, predict};
use roofline::Sheets;

const TRUTH: &str = "fit h100-sxm vllm\n  source made up\n  compute 0.8\n  memory 0.6\n  step_us 3000\n  sequence_us 40\n  request_us 20000\n";

fn with(text: &str) -> Sheets {
    let mut sheets = Sheets::built_in().unwrap();
    sheets.add("truth", text).unwrap();
    sheets
}

fn point(model: &str, clients: u32, isl: f64) -> Point {
    Point {
        model: model.to_owned(),
        quantization: "bf16".to_owned(),
        accelerator: "h100".to_owned(),
        engine: "vllm".to_owned(),
        tensor: Some(1),
        isl: Some(isl),
        osl: Some(60.0),
        asked: format!("conc={clients}"),
        load: Some(Load::Closed { clients, requests: Some(4 * clients) }),
        ..Point::default()
    }
}

/// Points as the truth makes them.
fn points() -> Vec<Point> {
    let truth = with(TRUTH);
    let mut all = Vec::new();
    for model in ["llama-3.1-8b", "qwen3-4b", "qwen3-14b"] {
        for (clients, isl) in [(1, 200.0), (4, 1500.0), (16, 200.0), (32, 800.0)] {
            let point = point(model, clients, isl);
            let made = predict(&truth, &point).unwrap();
            let time = |metric| Some(Time { seconds: made.value(metric).unwrap(), median: false });
            let measured = Measured {
                ttft: time(Metric::Ttft),
                tpot: time(Metric::Tpot),
                ..Measured::default()
            };
            all.push(Point { measured, ..point });
        }
    }
    all
}

#[test]
fn a_fit_finds_the_constants_that_made_its_points() {
    let sheets = Sheets::built_in().unwrap();
    let (fits, unused) = fit(&sheets, &points());
    assert_eq!((fits.len(), unused.len()), (1, 0));
    let fitted = &fits[0];
    assert_eq!(
        (fitted.accelerator.as_str(), fitted.engine.as_str(), fitted.points),
        ("h100-sxm", "vllm", 12)
    );
    let value = |key: &str| fitted.constants.iter().find(|(own, _)| *own == key).unwrap().1;
    for (key, truth, share) in [
        ("compute", 0.8, 0.1),
        ("memory", 0.6, 0.05),
        ("step_us", 3000.0, 0.15),
        ("request_us", 20_000.0, 0.15),
    ] {
        assert!((value(key) / truth - 1.0).abs() < share, "{key}: {} for {truth}", value(key));
    }
    assert!(fitted.before > 0.2 && fitted.after < 0.02, "{fitted:?}");
    assert_eq!(fitted.left_out.len(), 3);
    assert!(fitted.left_out_error().unwrap() < 0.05, "{fitted:?}");
}

#[test]
fn outliers_do_not_pull_a_fit() {
    let mut points = points();
    // Two of twelve are off by a factor of five.
    for index in [1, 7] {
        let measured = &mut points[index].measured;
        measured.tpot = measured.tpot.map(|time| Time { seconds: 5.0 * time.seconds, ..time });
    }
    let (fits, _) = fit(&Sheets::built_in().unwrap(), &points);
    let memory = fits[0].constants.iter().find(|(key, _)| *key == "memory").unwrap().1;
    assert!((memory / 0.6 - 1.0).abs() < 0.2, "{memory}");
    assert!(fits[0].after < 0.1, "{}", fits[0].after);
}

/// Runs that are faster than the chip can be do not make it faster.
#[test]
fn nothing_is_fitted_to_achieve_more_than_the_peak() {
    let sheets = Sheets::built_in().unwrap();
    let mut points = points();
    for point in &mut points {
        let faster = |time: Time| Time { seconds: time.seconds / 10.0, ..time };
        point.measured.ttft = point.measured.ttft.map(faster);
        point.measured.tpot = point.measured.tpot.map(faster);
    }
    let (fits, _) = fit(&sheets, &points);
    for (key, factor) in &fits[0].constants {
        // Matrices achieve more than six tenths of an H100's peaks by what was measured of them.
        let far = ["compute", "memory"].contains(key) && *factor > 1.7;
        assert!(!far, "{key}: {factor}");
    }
}

#[test]
fn a_fit_is_a_sheet_that_predicts_as_it_was_fitted() {
    let sheets = Sheets::built_in().unwrap();
    let points = points();
    let (fits, _) = fit(&sheets, &points);
    let fitted = with(&fits[0].text("made-up.csv, 12 runs"));
    let error = |sheets: &Sheets| {
        let made = predict(sheets, &points[2]).unwrap().tpot_s.unwrap();
        (made / points[2].measured.tpot.unwrap().seconds - 1.0).abs()
    };
    assert!(error(&sheets) > 0.2 && error(&fitted) < 0.02, "{} {}", error(&sheets), error(&fitted));
    let accelerator = fitted.accelerator("h100").unwrap();
    let fit = fitted.kernels.fit(accelerator, "vllm").unwrap();
    assert!(fit.row().figures().all(|(_, _, source)| source == "made-up.csv, 12 runs"));
    assert!(fitted.kernels.fit(accelerator, "sglang").is_none());
}

#[test]
fn points_that_cannot_be_used_say_why() {
    let odd = Point { model: "gpt-9".to_owned(), ..point("", 1, 10.0) };
    let unmeasured = point("llama-3.1-8b", 1, 10.0);
    let (fits, unused) = fit(&Sheets::built_in().unwrap(), &[odd, unmeasured]);
    assert!(fits.is_empty());
    let reasons: Vec<String> = unused.iter().map(|(_, reason)| reason.to_string()).collect();
    assert_eq!(
        reasons,
        ["no data sheet of the model `gpt-9`", "nothing was measured that is predicted"]
    );
}

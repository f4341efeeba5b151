//! A simulated run: the model of a small one, in every form.

use quantity::EstimatedUsd;
use report::Style;
use report::simulation::{
    Beside, Charts, Fleet, Pool, Pools, Ranking, Search, Served, Simulation, Source,
};
use roofline::{Formats, Layout, Routing, Setup, Sheets};
use servesim::{
    Engine, Goal, Keeper, Outcome, Record, Request, SECOND_PS, Slo, Timeline, at_rate, serve,
};

/// Requests that come a second apart, on two GPUs.
pub(crate) fn simulated<T>(
    gpu_hour: Option<f64>,
    slo: Slo,
    tell: impl FnOnce(&Simulation<'_>) -> T,
) -> T {
    searched(gpu_hour, slo, None, tell)
}

/// The same, perhaps at the highest rate of a goal.
pub(crate) fn searched<T>(
    gpu_hour: Option<f64>,
    slo: Slo,
    goal: Option<Goal>,
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
    let steps = setup.compile();
    let at = |rate: f64| serve(&engine, &steps, &slo, at_rate(requests.clone(), rate), |_| {});
    let search = goal.map(|goal| {
        let found = goal.highest_rate(4.0, 0.1, at).unwrap();
        Search { goal, guess: 4.0, found }
    });
    let best = search.as_ref().map_or(1.0, |search| search.found.best().unwrap().rate);
    let run = at(best).unwrap();
    let source = Source::Trace {
        file: "a\u{1b}[2J<b>.csv".to_owned(),
        format: "Azure".to_owned(),
        part: Some("from 10 s to 60 s".to_owned()),
        left_out: 3,
        scale: "2".to_owned(),
        seed: None,
        priorities: Vec::new(),
    };
    tell(&Simulation {
        setup: &setup,
        memory: &memory,
        engine: &engine,
        fleet: &Fleet::Copies(1),
        source: &source,
        slo: &slo,
        search: search.as_ref(),
        run: &run,
        classes: None,
        shortened: 0,
        gpu_hour: gpu_hour.and_then(EstimatedUsd::new),
        beside: Beside { failures: 0.2, headroom: 0.25, spare: 2, reliability: 0.1 },
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
    let parts =
        ["input", "cached_input", "output", "idle"].map(|part| count(&time[part]["gpu_ps"]));
    assert_eq!(parts.iter().sum::<u64>(), count(&time["total"]["gpu_ps"]));
    assert!(parts[0] > 0 && parts[1] == 0 && parts[2] > 0 && parts[3] > 0, "{parts:?}");
    assert!(time["idle"]["modelled_usd_per_mtok"].is_null());
}

#[test]
fn the_factors_from_a_benchmarks_peak_multiply_to_what_is_paid() {
    let style = Style { width: 200, ..Style::default() };
    let (text, useful) = simulated(Some(3.6), half_a_second(), |run| {
        let json: serde_json::Value = serde_json::from_str(&run.json()).unwrap();
        let useful = &json["gpu_time"]["modelled_usd_per_useful_output_mtok"];
        (run.lessons(style), useful.as_str().unwrap().parse::<f64>().unwrap())
    });
    let (_, bridge) = text.split_once("From a benchmark's peak").unwrap();
    let rows: Vec<(&str, Option<f64>, f64)> = bridge
        .lines()
        .filter_map(|line| {
            let number = |cell: Option<&str>| cell?.replace(',', "").parse::<f64>().ok();
            let mut cells = line.rsplit("  ").filter(|cell| !cell.trim().is_empty()).map(str::trim);
            let (usd, _seconds) = (number(cells.next())?, number(cells.next())?);
            let factor = number(cells.next());
            Some((cells.next()?, factor, usd))
        })
        .collect();
    let [first, .., last, total] = rows.as_slice() else { panic!("{text}") };
    assert_eq!((rows.len(), first.1, total.0), (10, None, "in all"), "{text}");
    let product: f64 = rows[1..9].iter().map(|row| row.1.unwrap()).product();
    assert!((product / total.1.unwrap() - 1.0).abs() < 0.005, "{product} {text}");
    assert!((first.2 * total.1.unwrap() / last.2 - 1.0).abs() < 0.002, "{text}");
    assert!((total.2 - last.2).abs() < 1e-9, "{text}");
    // One replica and two to spare; a fifth of the replies fail.
    let beside = 1.0 / 0.8 * 1.25 * 3.0 * 1.1;
    assert!((total.2 / (useful * beside) - 1.0).abs() < 1e-5, "{} {useful}", total.2);
    for (name, factor) in [
        ("and 20% of replies that fail", 1.25),
        ("and 25% headroom for bursts", 1.25),
        ("and 2 replicas to spare", 3.0),
        ("and 10% for reliability", 1.1),
    ] {
        let row = rows.iter().find(|row| row.0 == name);
        assert_eq!(row.and_then(|row| row.1), Some(factor), "{name}: {text}");
    }
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

#[test]
fn a_search_tells_its_answer_what_stands_in_the_way_and_how_many_simulations_it_took() {
    let goal = |slo: Slo, share, keeper| Some(Goal { slo, share, keeper });
    let text = |slo: Slo, share, keeper| {
        searched(Some(2.69), slo, goal(slo, share, keeper), |run| {
            let style = Style { width: 400, ..Style::default() };
            (run.text(style) + &run.lessons(style), run.run.clone(), run.search.cloned().unwrap())
        })
    };
    let slo = half_a_second();
    let (told, run, search) = text(slo, 0.99, Keeper::EachLimit);
    let rate = search.found.rate.unwrap();
    assert!(
        told.contains(&format!(
            "The highest rate that keeps p99 TTFT <= 500 ms and p99 TPOT <= 50 ms is {rate:.2} requests/s: at "
        )),
        "{told}"
    );
    let simulations = format!("Found by {} simulations", search.found.trials.len());
    assert!(told.contains(&simulations) && told.contains("How the rate was found"), "{told}");
    // The run that is shown is the one at that rate.
    let last = run.last_arrival_ps as f64 / SECOND_PS as f64;
    assert!((last * rate - 39.0).abs() < 1e-6, "{last} {rate}");
    let (told, ..) = text(slo, 0.955, Keeper::Request);
    assert!(
        told.contains("keeps TTFT <= 500 ms, TPOT <= 50 ms for 95.5% of the requests"),
        "{told}"
    );
    let hopeless = Slo { tpot_ps: Some(SECOND_PS / 1000), ..slo };
    let (told, _, search) = text(hopeless, 0.99, Keeper::EachLimit);
    assert_eq!(search.found.rate, None);
    assert!(
        told.contains("No rate keeps p99 TTFT <= 500 ms and p99 TPOT <= 1.0 ms: even at 0.100"),
        "{told}"
    );
}

#[test]
fn a_page_stands_alone_and_holds_no_markup_of_others() {
    for (gpu_hour, slo) in [(Some(2.69), half_a_second()), (None, Slo::default())] {
        let page = simulated(gpu_hour, slo, |run| {
            let mut timeline = Timeline::default();
            for number in 0..40_u64 {
                timeline.add(&Record {
                    number,
                    priority: 0,
                    arrival_ps: number * SECOND_PS,
                    admitted_ps: Some(number * SECOND_PS),
                    first_token_ps: Some(number * SECOND_PS + SECOND_PS / 10),
                    end_ps: number * SECOND_PS + SECOND_PS,
                    prompt: 1000,
                    cached: 0,
                    generated: 50,
                    preemptions: 0,
                    outcome: Outcome::Completed,
                });
            }
            let served = Served { run: run.run.clone(), fleet: run.fleet.clone(), classes: None };
            let sweep = [(0.5, served.clone()), (1.0, served)];
            run.html(&Charts { sweep: &sweep, timeline: &timeline })
        });
        assert!(
            page.contains("a\u{fffd}[2J&lt;b&gt;.csv") || page.contains("&lt;b&gt;.csv"),
            "{page}"
        );
        assert!(
            !page.contains("<b>.csv")
                && !page.contains("<script")
                && !page.contains("http-equiv=\"refresh")
        );
        // Addresses in it are sources, and none is loaded.
        for attribute in page.split("src=\"").skip(1).chain(page.split("href=\"").skip(1)) {
            assert!(attribute.starts_with("data:image/svg+xml"), "{attribute:.60}");
        }
        assert!(
            !page.contains("NaN") && !page.contains(">inf<") && !page.contains("inf%"),
            "{page}"
        );
        for title in [
            "Latency against load",
            "Through time",
            "Cost per Mtok against utilisation",
            "What this rests on",
        ] {
            assert!(page.contains(title), "{title}");
        }
        assert_eq!(page.matches("<figure>").count(), 5);
        let opened = ["section", "div", "table", "figure", "svg", "details", "span"];
        for tag in opened {
            let (from, to) = (
                page.matches(&format!("<{tag}")).count(),
                page.matches(&format!("</{tag}>")).count(),
            );
            assert_eq!(from, to, "{tag}");
        }
    }
}

#[test]
fn accelerators_are_ranked_by_the_useful_token() {
    simulated(Some(4.0), half_a_second(), |dear| {
        simulated(Some(2.0), half_a_second(), |cheap| {
            let ranking = Ranking::new(vec![*dear, *cheap], vec!["tiny: does not fit".to_owned()]);
            let text = ranking.text(Style::default());
            let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
            assert!(place("4.00") < place("8.00") && place("8.00") < place("tiny: does not fit"));
            assert!(!text.contains("The dearer hour"), "{text}");
            let json: serde_json::Value = serde_json::from_str(&ranking.json()).unwrap();
            assert_eq!(json[0]["gpu_time"]["modelled_usd_per_gpu_hour"], "2.000000");
        });
    });
}

/// What each pool did is told beside the whole, in every form.
#[test]
fn pools_are_told_one_by_one() {
    simulated(Some(2.69), half_a_second(), |alike| {
        let setup = alike.setup;
        let (engine, slo) = (alike.engine, alike.slo);
        let steps = setup.compile();
        let pool = |replicas| servesim::Pool {
            engine,
            time: &steps,
            replicas,
            balance: servesim::Balance::LeastLoaded,
        };
        let requests = (0..40).map(|number| Request {
            arrival_ps: number * SECOND_PS / 10,
            prompt: 1000,
            output: 50,
            priority: 0,
            patience_ps: None,
        });
        let link = servesim::Link::of(setup, None).unwrap();
        assert_eq!(link.bytes_per_second, 450_000_000_000);
        // 32 layers of 8 heads with 128 numbers each, keys and values in two bytes, shared by two GPUs.
        assert_eq!(link.bytes_per_token, 32 * 8 * 128 * 2 * 2 / 2);
        let found = servesim::serve_pools(&pool(1), &pool(2), &link, slo, requests, |_, _| ());
        let found = found.unwrap();
        let merged = |reports: &[servesim::Report]| {
            let mut all = reports[0].clone();
            reports[1..].iter().for_each(|report| all.merge(report));
            all
        };
        let prefill = Pool { replicas: 1, run: Box::new(merged(&found.prefill)) };
        let decode = Pool { replicas: 2, run: Box::new(merged(&found.decode)) };
        let run = merged(&[(*prefill.run).clone(), (*decode.run).clone()]);
        let fleet = Fleet::Pools(Pools { link, prefill, decode });
        let pools = Simulation { run: &run, fleet: &fleet, ..*alike };
        let text = pools.text(Style::default());
        for part in [
            "1 for prompts and 2 that decode",
            "prefill pool, busy ",
            "decode pool, busy ",
            "450.0 GB/s",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("from there to the decode pool"), "{text}");
        assert!(!alike.text(Style::default()).contains("pool"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&pools.json()).unwrap();
        let of = |pool: &str, class: &str| json["pools"][pool]["gpu_ps"][class].as_u64().unwrap();
        assert_eq!((of("prefill", "output"), of("decode", "input")), (0, 0));
        for class in ["input", "output", "idle", "total"] {
            let both = of("prefill", class) + of("decode", class);
            assert_eq!(json["gpu_time"][class]["gpu_ps"].as_u64(), Some(both), "{class}");
        }
        assert_eq!(of("prefill", "total") * 2, of("decode", "total"));
        assert_eq!(json["setup"]["gpus"], 6);
        assert_eq!(json["pools"]["sent_tokens"], 40_000);
        assert_eq!(json["latency"]["handover"]["count"], 40);
        let alike: serde_json::Value = serde_json::from_str(&alike.json()).unwrap();
        assert!(alike["pools"].is_null() && alike["latency"]["handover"].is_null());
        let sweep = [(10.0, Served { run: run.clone(), fleet: fleet.clone(), classes: None })];
        let page = pools.html(&Charts { sweep: &sweep, timeline: &Timeline::default() });
        assert!(page.contains("decode pool, busy ") && page.contains("450.0 GB/s"), "{page}");
    });
}

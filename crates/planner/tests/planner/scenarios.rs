//! Scenario files: what they may say, and what is said of those that are wrong.

use planner::scenario::{Origin, Recorded};
use planner::{Scenario, Uncertain, Var};
use proptest::prelude::*;

/// A scenario that says only what it must.
pub(crate) const LEAST: &str = "\
[demand]
tasks = \"50,000/day\"
[tokens]
input = \"2k\"
answer = 500
[api]
models = \"m\"
";

fn read(text: &str) -> Result<Scenario, String> {
    let mut nothing = |_: Var, _: &Recorded| Err("nothing was recorded".to_owned());
    Scenario::read(text, &mut nothing).map_err(|error| error.to_string())
}

#[track_caller]
fn complaint(text: &str) -> String {
    read(text).expect_err(text)
}

#[test]
fn quantities_are_written_as_people_write_them() {
    let scenario = read(
        "name = \"Support\"\nmonths = 24\nstart = \"2026-12-01\"\n\
         [demand]\nusers = \"20k\"\ntasks_per_user = \"2/week\"\nunit = \"ticket\"\n\
         [growth]\nusers = \"100%/year\"\napi_price = \"-2%/month\"\n\
         [task]\nrevenue = \"$0.40\"\nsuccess_rate = \"85%\"\n\
         [tokens]\nsystem = 1_500\nmessage = \"1,000\"\nanswer = 250.5\n\
         [fleet]\ncold_start = \"5min\"\n[costs]\nstorage = \"$1,460/month\"\ntuning = \"20k\"\n\
         [slo]\nttft = \"500ms\"\nshare = 0.9\n[api]\nmodels = [\"a\", \"b\"]\ntier = \"batch\"\n\
         [target]\nbudget = \"10k/month\"\n",
    )
    .unwrap();
    let case = scenario.likely();
    let near = |var: Var, expected: f64| {
        let found = case.at(var);
        assert!((found - expected).abs() < 1e-9 * expected.abs(), "{var:?}: {found}");
    };
    near(Var::Users, 20_000.0);
    near(Var::TasksPerUser, 2.0 * 730.0 / 168.0);
    near(Var::UsersGrowth, 2.0_f64.powf(1.0 / 12.0) - 1.0);
    near(Var::PriceGrowth, -0.02);
    near(Var::Revenue, 0.4);
    near(Var::Success, 0.85);
    near(Var::System, 1_500.0);
    near(Var::Message, 1_000.0);
    near(Var::Answer, 250.5);
    near(Var::ColdStart, 300.0);
    near(Var::Storage, 2.0);
    near(Var::Tuning, 20_000.0);
    assert_eq!(
        (scenario.slo.ttft_s, scenario.slo.tpot_s, scenario.slo.share),
        (Some(0.5), None, 0.9)
    );
    assert_eq!(scenario.api.unwrap().models, ["a", "b"]);
    assert!((scenario.target.budget.unwrap().usd() - 10_000.0).abs() < 1e-9);
    assert_eq!((scenario.unit.as_str(), scenario.months), ("ticket", 24));
}

#[test]
fn a_range_or_a_distribution_stands_where_a_number_may() {
    let text = LEAST.replace("answer = 500", "answer = { low = 300, likely = 500, high = \"1k\" }")
        + "[task]\ncalls_per_turn = { distribution = \"lognormal\", median = 4, p90 = 10 }\n";
    let scenario = read(&text).unwrap();
    let case = scenario.likely();
    assert_eq!(case.at(Var::Answer), 500.0);
    // Fan-out varies from turn to turn: sums are made of its mean, which is above its median.
    let calls = scenario.input(Var::Calls).unwrap().value;
    assert!(matches!(calls, Uncertain::Lognormal { .. }) && case.at(Var::Calls) > 4.5);
    let lucky = scenario.drawn(|_| 0.999_999);
    assert!(lucky.at(Var::Answer) > 990.0 && lucky.at(Var::Calls) == case.at(Var::Calls));
    assert_eq!(scenario.drawn(|_| 0.5).at(Var::Tasks), case.at(Var::Tasks));
}

#[test]
fn a_peak_at_five_times_the_floor_can_be_said() {
    let day =
        "hours = { peak_hour = 15, peak_to_floor = 5 }\nweekdays = [1, 1, 1, 1, 1, 0.5, 0.5]\n";
    let scenario = read(&LEAST.replace("[tokens]", &format!("{day}[tokens]"))).unwrap();
    let week = scenario.profile.week();
    assert!((week.iter().sum::<f64>() / 168.0 - 1.0).abs() < 1e-12);
    assert!((week[15] / week[3] - 5.0).abs() < 1e-9, "{} {}", week[15], week[3]);
    assert!((week[15] / week[5 * 24 + 15] - 2.0).abs() < 1e-9);
    assert_eq!(scenario.profile.peak(), week[15]);
    let list = format!("hours = [{}5]\n", "1, ".repeat(23));
    let scenario = read(&LEAST.replace("[tokens]", &format!("{list}[tokens]"))).unwrap();
    assert!((scenario.profile.peak() / scenario.profile.floor() - 5.0).abs() < 1e-12);
}

#[test]
fn what_was_recorded_is_looked_up_and_kept_apart() {
    let text = LEAST.replace(
        "input = \"2k\"",
        "input = { from = \"ledger\", route = \"support\", since = \"30d\" }",
    );
    let mut asked = Vec::new();
    let mut lookup = |var: Var, recorded: &Recorded| {
        asked.push((var, recorded.clone()));
        Ok(1_234.5)
    };
    let scenario = Scenario::read(&text, &mut lookup).unwrap();
    let (route, since) = (Some("support".to_owned()), Some("30d".to_owned()));
    assert_eq!(asked, [(Var::Input, Recorded::Ledger { route, since, until: None })]);
    assert_eq!(scenario.likely().at(Var::Input), 1_234.5);
    assert!(matches!(scenario.input(Var::Input).unwrap().origin, Origin::Recorded { line: 4, .. }));
    assert_eq!(complaint(&text), "line 4: invalid `tokens.input`: nothing was recorded");
}

#[test]
fn a_wrong_scenario_is_told_line_key_what_was_found_and_what_is_expected() {
    let with = |old: &str, new: &str| complaint(&LEAST.replace(old, new));
    assert_eq!(
        with("\"50,000/day\"", "50_000"),
        "line 2: invalid `demand.tasks`: expected a count with its time such as \"50,000/day\" or \"4/month\", found `50_000`"
    );
    assert_eq!(
        with("answer = 500", "answer = -500"),
        "line 5: invalid `tokens.answer`: expected a count such as 2000, \"2,000\", \"2k\" or \"1.5M\", from 1 to 10000000, \
         found `-500`"
    );
    assert_eq!(
        with("answer", "anwser"),
        "line 5: unknown key `tokens.anwser`; did you mean `tokens.answer`?"
    );
    assert_eq!(with("[api]", "[apis]"), "line 6: unknown key `apis`; did you mean `api`?");
    let missing = with("answer = 500\n", "");
    assert!(missing.starts_with("`tokens.answer` is missing: expected a count"), "{missing}");
    let missing = with("tasks = \"50,000/day\"", "users = 5");
    assert!(missing.starts_with("`demand.tasks_per_user` is missing: expected"), "{missing}");
    let missing = with("tasks = \"50,000/day\"\n", "");
    assert!(missing.contains("or `demand.tasks`"), "{missing}");
    assert_eq!(
        with("[tokens]", "users = 5\n[tokens]"),
        "line 3: `demand.users` cannot stand beside `demand.tasks`: expected one of them"
    );
    assert!(
        with("input", "message = 5\ninput")
            .starts_with("line 4: `tokens.message` cannot stand beside `tokens.input`")
    );
    assert!(with("[api]\nmodels = \"m\"\n", "").contains("`api` is missing"));
    assert_eq!(
        with("500", "{ low = 5, likely = 3, high = 9 }"),
        "line 5: invalid `tokens.answer`: expected `low` up to `likely`, and that up to `high`, \
         found `{ low = 5, likely = 3, high = 9 }`"
    );
    assert!(with("500", "{ low = 5, high = 9 }").contains("expected also `likely`"));
    assert!(with("500", "{ distribution = \"flat\" }").contains("`triangular`, `uniform`"));
    assert!(with("500", "{ from = \"thin air\" }").contains("\"ledger\" or \"trace\""));
    assert!(with("[tokens]", "hours = [1, 2]\n[tokens]").contains("24 numbers"));
    let margin = complaint(&format!("{LEAST}[target]\ngross_margin = \"70%\"\n"));
    assert!(margin.starts_with("`task.revenue` is missing"), "{margin}");
    let owned = "[gpus]\nmodel = \"x\"\naccelerators = \"y\"\nterms = \"owned\"\n";
    let owned = complaint(&format!("{LEAST}{owned}"));
    assert!(owned.starts_with("`owned.purchase` is missing"), "{owned}");
    let terms =
        "[gpus]\nmodel = \"x\"\naccelerators = \"y\"\nterms = \"reserved\"\nautoscale = true\n";
    let terms = complaint(&format!("{LEAST}{terms}"));
    assert!(terms.starts_with("line 12: invalid `gpus.autoscale`: expected false"), "{terms}");
    assert!(complaint("a = [1").starts_with("line 1: this is no TOML"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_value_makes_it_panic(
        key in prop::sample::select(Var::ALL), value in "[-0-9a-z$%/.,{}\" =_]{0,24}", quoted in any::<bool>(),
    ) {
        let value = if quoted { format!("{value:?}") } else { value };
        let (table, key) = key.spec().key.split_once('.').unwrap();
        if let Ok(scenario) = read(&format!("{LEAST}[{table}]\n{key} = {value}\n")) {
            let case = scenario.likely();
            prop_assert!(Var::ALL.iter().all(|var| case.get(*var).is_none_or(f64::is_finite)));
        }
        let part = format!("{key} = {value}\n");
        let _ = read(&LEAST.replace("[tokens]\n", &format!("[tokens]\n{part}")));
    }
}

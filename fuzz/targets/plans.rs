//! Scenarios and quotes from any text: read or refused, and what is read comes to finite numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use planner::compare::Quotes;
use planner::scenario::Recorded;
use planner::{Scenario, Var};

fuzz_target!(|text: &str| {
    // What is asked of a recording is told: a number that depends on the place alone.
    let mut recorded = |var: Var, _: &Recorded| Ok(var as u8 as f64 * 0.37);
    if let Ok(scenario) = Scenario::read_workload(text, &mut recorded) {
        let case = scenario.likely();
        assert!(Var::ALL.iter().all(|var| case.get(*var).is_none_or(f64::is_finite)));
        let _ = planner::demand(&scenario, &case);
        let _ = Quotes::read(text, Some(scenario), &mut recorded);
    }
    let _ = Scenario::read(text, &mut recorded);
    let _ = Quotes::scenario_file(text);
    let _ = Quotes::read(text, None, &mut recorded);
});

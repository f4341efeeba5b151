//! What the micro benches have in common: CPU time, which a busy machine does not change as it does
//! the time on a clock, and the form of a report, which `bench/micro/run` makes its table of.

/// CPU time of this process so far, all its threads, in seconds; to a hundredth, as Linux counts.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The name in parentheses may hold anything, so count fields from its end.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = |at: usize| -> u32 {
        fields.split_whitespace().nth(at).and_then(|ticks| ticks.parse().ok()).expect("ticks")
    };
    // User and system time, in ticks of 10 ms.
    f64::from(ticks(11) + ticks(12)) / 100.0
}

/// Runs `round`, which does `units` of `what`, for a second of CPU time, and prints how many of them
/// a core does per second. `goal`, if there is one, is in the same unit.
#[expect(clippy::print_stdout, reason = "the report of a benchmark")]
pub(crate) fn rate(
    what: &str,
    unit: &str,
    units: u64,
    goal: Option<&str>,
    mut round: impl FnMut(),
) {
    round();
    let begun = cpu_seconds();
    let (mut rounds, mut took) = (0_u32, 0.0);
    while took < 1.0 {
        round();
        rounds += 1;
        took = cpu_seconds() - begun;
    }
    let rate = units as f64 * f64::from(rounds) / took;
    let (rate, scale) = match rate {
        1e9.. => (rate / 1e9, "thousand million "),
        1e6.. => (rate / 1e6, "million "),
        1e3.. => (rate / 1e3, "thousand "),
        _ => (rate, ""),
    };
    let goal = goal.map(|goal| format!("; goal {goal}")).unwrap_or_default();
    println!("{what}: {rate:.2} {scale}{unit}/s{goal}");
}

//! `farthing simulate` where some requests are served before others.

use serde_json::Value;

use super::{PRICED, complaint, count, simulate};
use crate::home::Home;

#[test]
fn a_share_of_the_requests_is_served_first() {
    let home = Home::new("");
    let flood = ["--rate", "60", "--in", "2k", "--out", "500", "--requests", "2,000"];
    let run = |more: &[&str]| simulate(&home, &[&flood, &PRICED, &["--json"], more]).json();
    let (ranked, alike) = (run(&["--priority-share", "20%"]), run(&[]));
    assert!(alike["priorities"].is_null());
    let [first, others] = [0, 1].map(|class| &ranked["priorities"][class]);
    let requests = |class: &Value| count(&class["requests"]);
    assert_eq!(requests(first) + requests(others), 2000);
    assert!((320..480).contains(&requests(first)), "{first}");
    assert_eq!(
        count(&first["within_slo"]) + count(&others["within_slo"]),
        count(&ranked["requests"]["within_slo"])
    );
    let p99 = |of: &Value, which: &str| count(&of[which]["p99_ns"]);
    assert!(3 * p99(first, "ttft") < p99(others, "ttft"), "{first} {others}");
    assert!(p99(first, "end_to_end") < p99(others, "end_to_end"));
    assert!(p99(first, "ttft") < p99(&alike["latency"], "ttft"));
    assert!(p99(others, "ttft") >= p99(&ranked["latency"], "ttft"));
    // On two threads as on one, and in pools.
    let two = ["--priority-share", "20%", "--replicas", "2"];
    assert_eq!(run(&two)["priorities"], run(&two)["priorities"]);
    assert_eq!(requests(&run(&two)["priorities"][0]), requests(first));
    let pools = run(&["--priority-share", "20%", "--pools", "1+1"]);
    assert_eq!(requests(&pools["priorities"][0]), requests(first));
    let text = simulate(&home, &[&flood, &PRICED, &["--priority-share", "20%"]]).ok();
    assert!(text.contains("served first") && text.contains("others"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 120), "{text}");
    for wrong in ["20", "0%", "100%"] {
        let err = complaint(simulate(&home, &[&flood, &["--priority-share", wrong]]), 2);
        assert!(err.contains("such as 20%"), "{err}");
    }
}

#[test]
fn a_column_of_a_trace_tells_who_is_served_first() {
    let home = Home::new("");
    let trace = home.data().with_extension("csv");
    let file = trace.to_str().unwrap();
    const COLUMNS: &str = "time=at,in=in,out=out,priority=urgency";
    let write = |cells: [&str; 3]| {
        let row = |n: usize| format!("{},{},2000,500\n", n as f64 / 60.0, cells[n % 3]);
        let rows: String = (0..1800).map(row).collect();
        std::fs::write(&trace, format!("at,urgency,in,out\n{rows}")).unwrap();
    };
    let told = ["--trace", file, "--columns", COLUMNS];
    let run = |more: &[&str]| simulate(&home, &[&told, &PRICED, &["--json"], more]).json();
    write(["7", "-1", "0"]);
    let ranked = run(&[]);
    let classes = ranked["priorities"].as_array().unwrap();
    let names: Vec<_> = classes.iter().map(|class| class["priority"].as_str().unwrap()).collect();
    assert_eq!(names, ["-1", "0", "7"]);
    assert!(classes.iter().all(|class| count(&class["requests"]) == 600), "{classes:?}");
    let p99: Vec<_> = classes.iter().map(|class| count(&class["ttft"]["p99_ns"])).collect();
    assert!(3 * p99[0] < p99[2] && p99[1] < p99[2], "{p99:?}");
    // Copies have theirs of each.
    let two = run(&["--replicas", "2"]);
    assert_eq!(two["priorities"].as_array().map(Vec::len), Some(3));
    assert_eq!(count(&two["priorities"][2]["requests"]), 600);
    // In a part of the trace are those that came there.
    let few = run(&["--requests", "2"]);
    assert_eq!(few["priorities"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&few["priorities"][0]["priority"], &few["priorities"][1]["priority"]),
        (&"-1".into(), &"7".into())
    );
    let text = simulate(&home, &[&told, &PRICED]).ok();
    assert!(text.contains("\npriority -1 ") && text.contains("\npriority 7 "), "{text}");
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 120), "{text}");
    // Their order matters, nothing else of them.
    write(["9000000000", "-5", "3"]);
    let spread = run(&[]);
    assert_eq!((&spread["latency"], &spread["work"]), (&ranked["latency"], &ranked["work"]));
    // Whoever does not name the column serves first come, first served.
    let plain = ["--trace", file, "--columns", "time=at,in=in,out=out"];
    let alike = simulate(&home, &[&plain, &PRICED, &["--json"]]).json();
    assert!(alike["priorities"].is_null());
    assert_ne!(alike["latency"], ranked["latency"]);
    // One priority is a class all the same, and changes nothing.
    write(["4", "4", "4"]);
    let one = run(&[]);
    assert_eq!(
        (one["priorities"].as_array().map(Vec::len), &one["latency"]),
        (Some(1), &alike["latency"])
    );

    let told_twice = complaint(simulate(&home, &[&told, &["--priority-share", "20%"]]), 1);
    assert!(
        told_twice.contains("tells priorities, in the column that --columns names"),
        "{told_twice}"
    );
    write(["7", "urgent", "0"]);
    let bad = complaint(simulate(&home, &[&told]), 1);
    for part in [file, "line 3: expected a priority: a whole number", "found `urgent`"] {
        assert!(bad.contains(part), "{part}: {bad}");
    }
    let rows: String = (0..256).map(|n| format!("{n},{n},10,10\n")).collect();
    std::fs::write(&trace, format!("at,urgency,in,out\n{rows}")).unwrap();
    let many = complaint(simulate(&home, &[&told]), 1);
    assert!(
        many.contains("the column `urgency` holds more than 255 different priorities"),
        "{many}"
    );
}

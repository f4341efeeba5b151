//! The highest rate that keeps limits.

use crate::point::{Point, Reason};
use crate::serve::{Replica, Served};

/// Requests of a trial at least.
const LEAST_REQUESTS: f64 = 2_000.0;
/// How long requests come in a trial, in seconds. In a short one requests pile up faster than they are served, and nobody
/// waits too long yet.
///
/// # Source
/// MLPerf Inference rules: a performance run takes 600 seconds at least.
const SECONDS: f64 = 600.0;
/// Which part of its limits a submitted run makes use of: who submits leaves room, for a run beyond a limit is void.
///
/// # Source
/// The worse of both 99th percentiles over its limit, median of the 76 runs of MLPerf Inference 4.1 and 5.1 that come within
/// 10 % of one (`mlperf_log_summary.txt`).
const USED: f64 = 0.96;

/// The highest rate of one replica that its owner submits: at which 99 % of the requests keep both limits with some room, in
/// requests a second; searched to 1 % from the rate at which all places would be taken at the limit. All trials draw the same
/// requests.
pub(crate) fn highest(
    replica: &Replica,
    point: &Point,
    (ttft, tpot): (f64, f64),
) -> Result<f64, Reason> {
    let slo = (USED * ttft, USED * tpot);
    const LEAST: f64 = 1e-3;
    const MOST: f64 = 1e5;
    let (isl, osl) = (point.isl.unwrap_or(1.0), point.osl.unwrap_or(1.0));
    let start = (replica.places(isl + osl) / (osl * slo.1)).clamp(LEAST, MOST);
    let (highest, _) = servesim::highest_rate(start, LEAST, |rate| {
        if rate > MOST {
            return Err(Reason::new("the limits are kept at every rate"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let requests = (rate * SECONDS).max(LEAST_REQUESTS).ceil() as u32;
        Ok(margin(&replica.at_rate(point, rate, requests)?, slo))
    })?;
    highest.ok_or_else(|| Reason::new("the limits cannot be kept at any rate"))
}

/// How far above its limit the worse of both is, as a logarithm.
fn margin(served: &Served, (ttft, tpot): (f64, f64)) -> f64 {
    let above = |time: Option<f64>, most: f64| time.map(|time| (time / most).ln());
    let both = [above(served.ttft.at(0.99), ttft), above(served.tpot.at(0.99), tpot)];
    both.into_iter().flatten().fold(-3.0, f64::max)
}

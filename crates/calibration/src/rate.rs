//! The highest rate that keeps limits.

use crate::point::{Point, Reason};
use crate::serve::{Replica, Served};

/// Requests of a trial.
const REQUESTS: u32 = 2_000;
/// Trials after the bracket is closed: within 3 %.
const TRIALS: u32 = 5;

/// The highest rate of one replica at which 99 % of the requests keep both limits, in requests a second: a bracket from the
/// rate at which all places would be taken at the limit, closed by doubling or halving, then bisected. All trials draw the
/// same requests.
pub(crate) fn highest(replica: &Replica, point: &Point, slo: (f64, f64)) -> Result<f64, Reason> {
    const LEAST: f64 = 1e-3;
    const MOST: f64 = 1e5;
    let keeps = |rate: f64| -> Result<bool, Reason> {
        Ok(kept(&replica.at_rate(point, rate, REQUESTS)?, slo))
    };
    let (isl, osl) = (point.isl.unwrap_or(1.0), point.osl.unwrap_or(1.0));
    let start = (replica.places(isl + osl) / (osl * slo.1)).clamp(LEAST, MOST);
    let (mut low, mut high) = (start, start);
    if keeps(start)? {
        loop {
            high = low * 2.0;
            if high > MOST {
                return Err(Reason::new("the limits are kept at every rate"));
            }
            if !keeps(high)? {
                break;
            }
            low = high;
        }
    } else {
        loop {
            low = high / 2.0;
            if low < LEAST {
                return Err(Reason::new("the limits cannot be kept at any rate"));
            }
            if keeps(low)? {
                break;
            }
            high = low;
        }
    }
    for _ in 0..TRIALS {
        let middle = (low * high).sqrt();
        if keeps(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn kept(served: &Served, (ttft, tpot): (f64, f64)) -> bool {
    let within = |time: Option<f64>, most: f64| time.is_none_or(|time| time <= most);
    within(served.ttft.at(0.99), ttft) && within(served.tpot.at(0.99), tpot)
}

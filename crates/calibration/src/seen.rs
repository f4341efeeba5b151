//! Points from single requests that somebody saw served.

use std::collections::BTreeMap;

use crate::load::Load;
use crate::point::{Lengths, Measured, Point, Time};

/// A load that fewer requests were seen at makes no point.
const FEWEST: usize = 5;
/// Lengths that vary by more, as a coefficient of variation, are not told as alike.
const ALIKE: f64 = 0.2;

/// A request that was seen served, or at least was there. Times are seconds of one clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When it was sent.
    pub start: f64,
    /// When its first token came, if that was seen.
    pub first: Option<f64>,
    /// When its last one came.
    pub end: f64,
    /// Tokens of its prompt and of its reply, at least one each; `None`: it only took part in the load.
    pub tokens: Option<(u64, u64)>,
}

/// Points of one server, one for each load that its requests met: so many at a time, in the mean over each one's life,
/// in steps of a half of a doubling. Also how many requests met loads that too few did.
///
/// A load that stays the same is as good as that of so many clients in a closed loop. Times are medians, and the throughput
/// follows from Little's law. What ran where, and how many ranks did, must be added.
#[must_use]
pub fn points(all: &[Seen]) -> (Vec<Point>, usize) {
    let load = Concurrency::of(all);
    let mut loads: BTreeMap<i64, Vec<(f64, &Seen)>> = BTreeMap::new();
    for seen in all.iter().filter(|seen| seen.tokens.is_some() && seen.end > seen.start) {
        let mean = load.mean(seen.start, seen.end).max(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a count")]
        let step = (mean.log2() * 2.0).round() as i64;
        loads.entry(step).or_default().push((mean, seen));
    }
    let (mut points, mut few) = (Vec::new(), 0);
    for some in loads.values() {
        if some.len() < FEWEST {
            few += some.len();
        } else {
            points.push(point(some));
        }
    }
    (points, few)
}

fn point(some: &[(f64, &Seen)]) -> Point {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (count, sum) =
            values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
        sum / f64::from(count.max(1))
    };
    let at_a_time = mean(&mut some.iter().map(|(load, _)| *load));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1, and at most as many as there are"
    )]
    let clients = at_a_time.round() as u32;
    let counts = || some.iter().filter_map(|(_, seen)| seen.tokens);
    let isl = mean(&mut counts().map(|(input, _)| input as f64));
    let osl = mean(&mut counts().map(|(_, output)| output as f64));
    let squares = mean(&mut counts().map(|(_, output)| (output as f64 - osl).powi(2)));
    let lengths = if squares.sqrt() > ALIKE * osl { Lengths::CHATS } else { Lengths::Fixed };
    let first = some.iter().filter_map(|(_, seen)| Some(seen.first? - seen.start));
    let each = some.iter().filter_map(|(_, seen)| {
        let (_, output) = seen.tokens?;
        (output > 1).then_some((seen.end - seen.first?) / (output - 1) as f64)
    });
    let whole = || some.iter().map(|(_, seen)| seen.end - seen.start);
    let latency = mean(&mut whole());
    let requests = u32::try_from(some.len()).unwrap_or(u32::MAX).max(clients);
    Point {
        source: "ledger".to_owned(),
        isl: Some(isl),
        osl: Some(osl),
        lengths,
        asked: format!("conc={clients}"),
        load: Some(Load::Closed { clients, requests: Some(requests) }),
        measured: Measured {
            output_tokens_per_s: Some(at_a_time * osl / latency),
            derived: true,
            ttft: median(first.collect()),
            tpot: median(each.collect()),
            latency: median(whole().collect()),
            ..Measured::default()
        },
        ..Point::default()
    }
}

fn median(mut all: Vec<f64>) -> Option<Time> {
    all.sort_by(f64::total_cmp);
    let middle = all.get(all.len() / 2).copied().filter(|seconds| *seconds > 0.0);
    middle.map(|seconds| Time { seconds, median: true })
}

/// How many are there at a time.
struct Concurrency {
    /// Instants at which it changes, with the request-seconds before and how many there are from then on.
    changes: Vec<(f64, f64, i64)>,
}

impl Concurrency {
    fn of(all: &[Seen]) -> Self {
        let mut ends: Vec<(f64, i64)> =
            all.iter().flat_map(|seen| [(seen.start, 1), (seen.end, -1)]).collect();
        ends.sort_by(|left, right| left.0.total_cmp(&right.0));
        let (mut before, mut sum, mut there) = (0.0, 0.0, 0_i64);
        let changes = ends.into_iter().map(|(at, change)| {
            sum += there as f64 * (at - before);
            (before, there) = (at, there + change);
            (at, sum, there)
        });
        Self { changes: changes.collect() }
    }

    /// Request-seconds up to an instant.
    fn upto(&self, at: f64) -> f64 {
        let after = self.changes.partition_point(|(change, ..)| *change <= at);
        let last = after.checked_sub(1).and_then(|index| self.changes.get(index));
        last.map_or(0.0, |(change, sum, there)| sum + *there as f64 * (at - change))
    }

    fn mean(&self, start: f64, end: f64) -> f64 {
        (self.upto(end) - self.upto(start)) / (end - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many clients, each with so many requests of a length one behind the other.
    fn clients(from: f64, clients: u32, requests: u32, tokens: Option<(u64, u64)>) -> Vec<Seen> {
        let one = move |_| {
            (0..requests).map(move |number| {
                let start = from + 2.0 * f64::from(number);
                Seen { start, first: Some(start + 0.5), end: start + 2.0, tokens }
            })
        };
        (0..clients).flat_map(one).collect()
    }

    #[test]
    fn each_load_that_was_met_is_a_point() {
        let mut all = clients(0.0, 1, 6, Some((300, 16)));
        all.extend(clients(100.0, 8, 6, Some((500, 31))));
        // Too few at a load of their own.
        all.extend(clients(200.0, 2, 2, Some((500, 31))));
        let (points, few) = points(&all);
        assert_eq!((points.len(), few), (2, 4));
        let [one, eight] = points.as_slice() else { unreachable!() };
        assert_eq!((one.asked.as_str(), eight.asked.as_str()), ("conc=1", "conc=8"));
        assert_eq!((one.isl, one.osl, eight.isl), (Some(300.0), Some(16.0), Some(500.0)));
        let time = |seconds| Some(Time { seconds, median: true });
        assert_eq!((one.measured.ttft, one.measured.tpot), (time(0.5), time(0.1)));
        assert_eq!((eight.measured.tpot, eight.measured.latency), (time(0.05), time(2.0)));
        assert_eq!(eight.measured.output_tokens_per_s, Some(8.0 * 31.0 / 2.0));
        assert_eq!(eight.lengths, Lengths::Fixed);
    }

    #[test]
    fn what_is_not_known_takes_part_in_the_load_alone() {
        let mut all = clients(0.0, 1, 6, Some((300, 16)));
        all.extend(clients(0.0, 3, 6, None));
        let (points, few) = points(&all);
        assert_eq!((points.len(), few, points[0].asked.as_str()), (1, 0, "conc=4"));
        // Of replies that do not stream nothing is seen between.
        all.iter_mut().for_each(|seen| seen.first = None);
        let measured = super::points(&all).0[0].measured;
        assert_eq!((measured.ttft, measured.tpot), (None, None));
        assert_eq!(measured.output_tokens_per_s, Some(4.0 * 16.0 / 2.0));
        assert!(super::points(&[]).0.is_empty());
    }
}

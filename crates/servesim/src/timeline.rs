//! A run through time, in few points.

use crate::engine::Record;

/// So many points at most; at least half as many once the run is long.
const MOST: usize = 240;
/// The first points are about a millisecond wide; each time the run outgrows them, they are twice
/// as wide.
const FIRST_PS: u64 = 1 << 30;

/// Who ran, who waited and what they held through time, told by what became of each request.
///
/// A request runs from the start of the step that first computes something of it to its last token,
/// whether it was preempted on the way or not, and holds its prompt and what it got by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    width_ps: u64,
    sums: Vec<Sums>,
}

/// Time of a point, times how many or how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    running: u128,
    waiting: u128,
    tokens: u128,
}

/// Means over a short time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The middle of that time, in picoseconds.
    pub at_ps: u64,
    /// Requests that run.
    pub running: f64,
    /// Requests that have not begun.
    pub waiting: f64,
    /// Tokens whose KV those that run hold.
    pub kv_tokens: f64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width_ps: FIRST_PS, sums: Vec::new() }
    }
}

impl Timeline {
    /// Takes in what became of a request.
    pub fn add(&mut self, record: &Record) {
        let (arrival, end) = (record.arrival_ps, record.end_ps);
        self.reach(end);
        let begun = record.admitted_ps.unwrap_or(end);
        self.each(arrival, begun, |sums, from, to| sums.waiting += u128::from(to - from));
        let prompt = u128::from(record.prompt);
        let first = record.first_token_ps.unwrap_or(end);
        self.each(begun, first, |sums, from, to| {
            sums.running += u128::from(to - from);
            sums.tokens += prompt * u128::from(to - from);
        });
        let got = u128::from(record.generated);
        self.each(first, end, |sums, from, to| {
            let time = u128::from(to - from);
            // Half-way between what it held at both ends of this part.
            let middle = u128::from(from.midpoint(to) - first);
            let held = prompt + got * middle / u128::from(end - first);
            sums.running += time;
            sums.tokens += held * time;
        });
    }

    /// Takes in another replica's.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.width_ps < self.width_ps {
            other.coarsen();
        }
        while self.width_ps < other.width_ps {
            self.coarsen();
        }
        self.sums.resize(self.sums.len().max(other.sums.len()), Sums::default());
        self.sums.iter_mut().zip(&other.sums).for_each(|(to, from)| to.add(from));
    }

    /// Its points, in the order of time.
    pub fn moments(&self) -> impl Iterator<Item = Moment> {
        let width = self.width_ps as f64;
        self.sums.iter().zip(0_u64..).map(move |(sums, index)| Moment {
            at_ps: index * self.width_ps + self.width_ps / 2,
            running: sums.running as f64 / width,
            waiting: sums.waiting as f64 / width,
            kv_tokens: sums.tokens as f64 / width,
        })
    }

    /// Makes room up to a time.
    fn reach(&mut self, end: u64) {
        while end / self.width_ps >= MOST as u64 {
            self.coarsen();
        }
        let points = usize::try_from(end / self.width_ps).unwrap_or(MOST) + 1;
        if points > self.sums.len() {
            self.sums.resize(points, Sums::default());
        }
    }

    /// Two points become one.
    fn coarsen(&mut self) {
        self.width_ps *= 2;
        let pairs = self.sums.chunks(2).map(|pair| {
            let mut both = pair[0];
            pair.iter().skip(1).for_each(|next| both.add(next));
            both
        });
        self.sums = pairs.collect();
    }

    /// Goes through the points that a span of time touches, with the part of it that is theirs.
    fn each(&mut self, from: u64, to: u64, mut add: impl FnMut(&mut Sums, u64, u64)) {
        let mut at = from;
        while at < to {
            let index = at / self.width_ps;
            let next = to.min((index + 1).saturating_mul(self.width_ps));
            if let Some(sums) =
                usize::try_from(index).ok().and_then(|index| self.sums.get_mut(index))
            {
                add(sums, at, next);
            }
            at = next;
        }
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.running += other.running;
        self.waiting += other.waiting;
        self.tokens += other.tokens;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Outcome;

    fn record((arrival, wait, prefill, decode): (u64, u64, u64, u64)) -> Record {
        let admitted = arrival + wait;
        Record {
            priority: 0,
            number: 0,
            arrival_ps: arrival,
            admitted_ps: Some(admitted),
            first_token_ps: Some(admitted + prefill),
            end_ps: admitted + prefill + decode,
            prompt: 1000,
            cached: 0,
            generated: 200,
            preemptions: 0,
            outcome: Outcome::Completed,
        }
    }

    proptest! {
        #[test]
        fn all_time_is_kept_and_the_order_does_not_matter(
            spans in prop::collection::vec(
                (0_u64..1 << 50, 0_u64..1 << 42, 0_u64..1 << 40, 0_u64..1 << 45), 1..40,
            ),
        ) {
            let (mut all, mut odd) = (Timeline::default(), Timeline::default());
            let mut even = Timeline::default();
            for (index, span) in spans.iter().enumerate() {
                all.add(&record(*span));
                if index % 2 == 1 { odd.add(&record(*span)) } else { even.add(&record(*span)) }
            }
            let sum = |of: fn(&Sums) -> u128| all.sums.iter().map(of).sum::<u128>();
            let waited: u64 = spans.iter().map(|span| span.1).sum();
            let ran: u64 = spans.iter().map(|span| span.2 + span.3).sum();
            prop_assert_eq!(sum(|sums| sums.waiting), u128::from(waited));
            prop_assert_eq!(sum(|sums| sums.running), u128::from(ran));
            prop_assert!(all.sums.len() <= MOST);
            let points = |timeline: &Timeline| timeline.sums.iter().map(|sums| sums.running).collect::<Vec<_>>();
            odd.merge(&even);
            prop_assert_eq!(points(&all), points(&odd));
            prop_assert_eq!(all.width_ps, odd.width_ps);
        }
    }

    #[test]
    fn tokens_grow_from_the_prompt_to_all() {
        let mut timeline = Timeline::default();
        timeline.add(&record((0, FIRST_PS * 10, FIRST_PS * 10, FIRST_PS * 200)));
        let held: Vec<f64> = timeline.moments().map(|moment| moment.kv_tokens).collect();
        assert_eq!((held[5], held[15]), (0.0, 1000.0));
        assert!((held[20] - 1000.5).abs() < 1.0 && (held[219] - 1199.5).abs() < 1.0, "{held:?}");
        let waiting = timeline.moments().map(|moment| moment.waiting).sum::<f64>();
        assert!((waiting - 10.0).abs() < 1e-9, "{waiting}");
    }
}

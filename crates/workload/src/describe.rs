//! A workload in a few lines.

use std::collections::BTreeMap;
use std::fmt;

use quantity::{TokenCount, grouped};

use crate::request::sum;
use crate::{Arrival, Request, Workload};

/// A workload in numbers, by route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// In the order of their names; `None` is what carries no route.
    pub routes: BTreeMap<Option<String>, RouteCounts>,
}

/// What one route asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteCounts {
    /// All requests.
    pub requests: u64,
    /// Those that wait for another.
    pub after_another: u64,
    /// Those that want a stream.
    pub streamed: u64,
    /// Those with a fault wish.
    pub faulty: u64,
    /// Tokens sent, cached or not.
    pub input: TokenCount,
    /// Tokens to come back if nothing fails, reasoning included.
    pub generated: TokenCount,
}

impl RouteCounts {
    fn add(&mut self, request: &Request) {
        self.requests += 1;
        self.after_another += u64::from(matches!(request.arrival, Arrival::After { .. }));
        self.streamed += u64::from(request.stream);
        self.faulty += u64::from(request.fault.is_some());
        self.input = sum([self.input, request.shape.input()].into_iter());
        self.generated = sum([self.generated, request.shape.generated()].into_iter());
    }
}

impl Workload {
    /// Counts by route.
    #[must_use]
    pub fn describe(&self) -> Description {
        let mut description = Description::default();
        for request in self.requests() {
            description.routes.entry(request.labels.route.clone()).or_default().add(request);
        }
        description
    }
}

impl Description {
    /// All routes together.
    #[must_use]
    pub fn total(&self) -> RouteCounts {
        self.routes.values().fold(RouteCounts::default(), |total, one| RouteCounts {
            requests: total.requests + one.requests,
            after_another: total.after_another + one.after_another,
            streamed: total.streamed + one.streamed,
            faulty: total.faulty + one.faulty,
            input: sum([total.input, one.input].into_iter()),
            generated: sum([total.generated, one.generated].into_iter()),
        })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>8} {:>8} {:>8} {:>6} {:>12} {:>12}",
            "route", "requests", "chained", "streams", "faults", "input", "generated"
        )?;
        let mut line = |name: &str, counts: &RouteCounts| {
            writeln!(
                f,
                "{name:<20} {:>8} {:>8} {:>8} {:>6} {:>12} {:>12}",
                counts.requests,
                counts.after_another,
                counts.streamed,
                counts.faulty,
                grouped(counts.input.get()),
                grouped(counts.generated.get()),
            )
        };
        for (route, counts) in &self.routes {
            line(route.as_deref().unwrap_or("(none)"), counts)?;
        }
        line("total", &self.total())
    }
}

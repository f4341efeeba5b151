//! What became of the requests of each class of priority.

use crate::engine::{Outcome, Record};
use crate::histogram::Histogram;
use crate::report::Slo;

/// Each class, the first being served first, told by what became of each request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    all: Vec<Class>,
}

/// One class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Its requests, however they ended.
    pub requests: u64,
    /// Those that completed.
    pub completed: u64,
    /// Those that completed within the SLO.
    pub good: u64,
    /// From arrival to the first token.
    pub ttft: Histogram,
    /// From arrival to the last token of each that completed.
    pub latency: Histogram,
}

impl Classes {
    /// Takes in what became of a request.
    pub fn add(&mut self, record: &Record, slo: &Slo) {
        let class = usize::from(record.priority);
        if self.all.len() <= class {
            self.all.resize_with(class + 1, Class::default);
        }
        let class = &mut self.all[class];
        class.requests += 1;
        if let Some(first) = record.first_token_ps {
            class.ttft.add(first - record.arrival_ps, 1);
        }
        if record.outcome == Outcome::Completed {
            class.completed += 1;
            class.good += u64::from(slo.is_kept_by(record));
            class.latency.add(record.end_ps - record.arrival_ps, 1);
        }
    }

    /// Takes in those of other replicas.
    pub fn merge(&mut self, other: &Self) {
        if self.all.len() < other.all.len() {
            self.all.resize_with(other.all.len(), Class::default);
        }
        for (to, from) in self.all.iter_mut().zip(&other.all) {
            to.requests += from.requests;
            to.completed += from.completed;
            to.good += from.good;
            to.ttft.merge(&from.ttft);
            to.latency.merge(&from.latency);
        }
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.all.iter()
    }
}

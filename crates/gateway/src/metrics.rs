//! Counters for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use facts::{AttemptEnd, Charged, Compared, End, Exchange, ToldCost, Verdict};
use journal::Status;
use metering::{Convention, EstimateError, Learner};
use quantity::{Doubt, Money, TokenClass, UsageSource};

const VERDICTS: usize = 5;
const ENDS: usize = 10;
const CLASSES: usize = 16;
const SOURCES: usize = 5;
const DOUBTS: usize = 11;
const CONVENTIONS: usize = 15;

/// What happened since the process started. Labels are closed lists, and the models that the learner
/// remembers, so that their number is bounded whatever clients send.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Exchanges under way.
    pub(crate) open: AtomicU64,
    refused: AtomicU64,
    not_accepted: AtomicU64,
    exchanges: [AtomicU64; VERDICTS],
    attempts: [AtomicU64; ENDS],
    tokens: [AtomicU64; CLASSES],
    usages: [AtomicU64; SOURCES],
    unpriced: AtomicU64,
    doubtful: AtomicU64,
    doubts: [AtomicU64; DOUBTS],
    mismatches: [AtomicU64; CONVENTIONS],
    meter_panics: AtomicU64,
    learner: Mutex<Learner>,
    cost: Mutex<Money>,
    /// Attempts whose provider told a cost, by [`TOLD`].
    told: [AtomicU64; TOLD.len()],
    told_cost: Mutex<Money>,
}

/// How a cost that a provider told stands to ours.
const TOLD: [&str; 4] = ["agrees", "differs", "unpriced", "refused"];

impl Metrics {
    /// What is learned of models, and how good estimates are.
    pub(crate) fn learner(&self) -> MutexGuard<'_, Learner> {
        self.learner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that was refused before it became an exchange.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A panic of the meter that was contained.
    pub(crate) fn meter_panicked(&self) {
        self.meter_panics.fetch_add(1, Relaxed);
    }

    /// An attempt ended at an upstream that counts so.
    pub(crate) fn ended(&self, convention: Convention, end: &AttemptEnd) {
        let doubts = end.metered.doubts;
        let mismatches = self.mismatches.get(usize::from(convention.number()));
        if let Some(mismatches) = mismatches.filter(|_| doubts.contains(Doubt::SumMismatch)) {
            mismatches.fetch_add(1, Relaxed);
        }
        if doubts.contains(Doubt::MeterFailed) {
            self.meter_panicked();
        }
    }

    /// A connection could not be accepted.
    pub(crate) fn not_accepted(&self) {
        self.not_accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn settled(&self, exchange: &Exchange) {
        let count = |counters: &[AtomicU64], number: u8, by: u64| {
            if let Some(counter) = counters.get(usize::from(number)) {
                counter.fetch_add(by, Relaxed);
            }
        };
        count(&self.exchanges, exchange.settlement.verdict.number(), 1);
        for attempt in &exchange.attempts {
            let end = &attempt.end;
            count(&self.attempts, end.end.number(), 1);
            count(&self.usages, end.metered.source.number(), 1);
            for (class, tokens) in end.metered.usage.tokens.iter() {
                count(&self.tokens, class.number(), tokens.get());
            }
            for doubt in end.metered.doubts.iter() {
                count(&self.doubts, doubt.number(), 1);
            }
            if end.metered.doubts != quantity::Doubts::NONE {
                self.doubtful.fetch_add(1, Relaxed);
            }
            if matches!(end.charged, Charged::Unpriced { .. }) {
                self.unpriced.fetch_add(1, Relaxed);
            }
            if let Some(told) = end.told {
                self.told(told, end.charged.cost());
            }
            if let Some(cost) = end.charged.cost() {
                *self.cost.lock().unwrap_or_else(PoisonError::into_inner) += cost;
            }
        }
    }

    fn told(&self, told: ToldCost, ours: Option<Money>) {
        let place = match (told, ours) {
            (ToldCost::Refused, _) => 3,
            (ToldCost::Of(_), None) => 2,
            (ToldCost::Of(theirs), Some(ours)) => usize::from(Compared::is_apart(ours, theirs)),
        };
        self.told[place].fetch_add(1, Relaxed);
        if let Some(cost) = told.amount() {
            *self.told_cost.lock().unwrap_or_else(PoisonError::into_inner) += cost;
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self, journal: &Status) -> String {
        let mut out = String::with_capacity(4096);
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value.to_string())];
        fn each<T: Copy>(
            list: &[T],
            label: &str,
            name: impl Fn(T) -> &'static str,
            value: impl Fn(T) -> u64,
        ) -> Vec<(String, String)> {
            let sample =
                |one: &T| (format!("{{{label}=\"{}\"}}", name(*one)), value(*one).to_string());
            list.iter().map(sample).collect()
        }
        let at =
            |counters: &[AtomicU64], number: u8| counters.get(usize::from(number)).map_or(0, get);
        let samples = each(Verdict::ALL, "verdict", Verdict::name, |verdict| {
            at(&self.exchanges, verdict.number())
        });
        family("farthing_exchanges_total", "counter", "Settled exchanges.", &samples);
        let samples = each(End::ALL, "end", End::name, |end| at(&self.attempts, end.number()));
        family("farthing_attempts_total", "counter", "Ended attempts.", &samples);
        let samples = each(TokenClass::ALL, "class", TokenClass::name, |class| {
            at(&self.tokens, class.number())
        });
        family("farthing_tokens_total", "counter", "Tokens, reported or estimated.", &samples);
        let samples = each(UsageSource::ALL, "source", UsageSource::name, |source| {
            at(&self.usages, source.number())
        });
        family("farthing_usages_total", "counter", "Attempts by source of usage.", &samples);
        let doubtful = one(get(&self.doubtful));
        let help = "Attempts whose usage is doubtful.";
        family("farthing_doubtful_attempts_total", "counter", help, &doubtful);
        let samples =
            each(Doubt::ALL, "doubt", Doubt::name, |doubt| at(&self.doubts, doubt.number()));
        family("farthing_doubts_total", "counter", "Attempts by what is doubtful.", &samples);
        let samples = each(Convention::ALL, "convention", Convention::name, |convention| {
            at(&self.mismatches, convention.number())
        });
        let help = "Attempts whose reported usage does not add up.";
        family("farthing_usage_mismatches_total", "counter", help, &samples);
        let panics = one(get(&self.meter_panics));
        let help =
            "Requests and attempts whose reading broke down: bugs of the gateway, contained.";
        family("farthing_meter_panics_total", "counter", help, &panics);
        let errors: Vec<EstimateError> = self.learner().errors().collect();
        let of_models = |value: fn(&EstimateError) -> String| -> Vec<(String, String)> {
            errors.iter().map(|error| (model_labels(error), value(error))).collect()
        };
        let samples = of_models(|error| error.calls.to_string());
        let help = "Completed calls whose estimate was compared with their report.";
        family("farthing_estimates_compared_total", "counter", help, &samples);
        let samples = of_models(|error| ratio(error.mean_error.cast_signed()));
        let help = "Mean absolute error of estimated output, as a share of what was reported.";
        family("farthing_estimate_error_ratio", "gauge", help, &samples);
        let samples = of_models(|error| ratio(error.bias));
        let help = "Mean error of estimated output; below zero, estimates are too low.";
        family("farthing_estimate_bias_ratio", "gauge", help, &samples);
        let unpriced = one(get(&self.unpriced));
        let help = "Attempts that may have cost something and have no price.";
        family("farthing_unpriced_attempts_total", "counter", help, &unpriced);
        let cost = *self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = [(String::new(), cost.to_string())];
        family("farthing_cost_usd_total", "counter", "Cost of priced attempts.", &cost);
        let samples = TOLD.iter().zip(&self.told);
        let samples =
            samples.map(|(is, count)| (format!("{{is=\"{is}\"}}"), get(count).to_string()));
        let help = "Attempts whose provider told a cost, by how it stands to the one here.";
        family("farthing_told_costs_total", "counter", help, &samples.collect::<Vec<_>>());
        let told = *self.told_cost.lock().unwrap_or_else(PoisonError::into_inner);
        let told = [(String::new(), told.to_string())];
        let help = "What providers told that attempts cost, in no other figure.";
        family("farthing_told_cost_usd_total", "counter", help, &told);
        let refused = one(get(&self.refused));
        family("farthing_refused_requests_total", "counter", "Requests refused here.", &refused);
        family("farthing_open_exchanges", "gauge", "Exchanges under way.", &one(get(&self.open)));
        let good = journal.failure.is_none() && journal.failing.is_none();
        let good = u64::from(good && journal.stalled.is_none());
        family("farthing_journal_up", "gauge", "Whether the journal takes records.", &one(good));
        let help = "Records written to the journal.";
        family("farthing_journal_records_total", "counter", help, &one(journal.records));
        let help = "Bytes written to the journal.";
        family("farthing_journal_bytes_total", "counter", help, &one(journal.bytes));
        let help = "Syncs of the journal.";
        family("farthing_journal_syncs_total", "counter", help, &one(journal.syncs));
        let help = "Connections that could not be accepted.";
        family("farthing_not_accepted_total", "counter", help, &one(get(&self.not_accepted)));
        let help = "Records that wait to be written.";
        family("farthing_journal_pending_records", "gauge", help, &one(journal.pending_records));
        let help = "Bytes that wait to be written.";
        let waiting = journal.pending_bytes as u64;
        family("farthing_journal_pending_bytes", "gauge", help, &one(waiting));
        let help = "Appends that failed and were taken back.";
        let failed = one(journal.failed_appends);
        family("farthing_journal_failed_appends_total", "counter", help, &failed);
        let help = "Whether the journal refuses all records until it is opened again.";
        let poisoned = one(u64::from(journal.failure.is_some()));
        family("farthing_journal_poisoned", "gauge", help, &poisoned);
        let help = "How long the append under way takes, if longer than records may wait.";
        let stalled = one(journal.stalled.map_or(0, |stalled| stalled.as_secs()));
        family("farthing_journal_stalled_seconds", "gauge", help, &stalled);
        let help = "From the first write that the last sync covered to its end.";
        let lag = i64::try_from(journal.last_sync_lag.as_micros()).unwrap_or(i64::MAX);
        let lag = [(String::new(), ratio(lag))];
        family("farthing_journal_last_sync_lag_seconds", "gauge", help, &lag);
        let gap = journal.gap.as_ref();
        let help = "Exchanges that ended and could not be journalled.";
        let exchanges = one(gap.map_or(0, |gap| gap.exchanges));
        family("farthing_gap_exchanges_total", "counter", help, &exchanges);
        let help = "What of their cost is known.";
        let cost = gap.and_then(|gap| gap.cost).unwrap_or(Money::ZERO);
        let cost = [(String::new(), cost.to_string())];
        family("farthing_gap_cost_usd_total", "counter", help, &cost);
        out
    }
}

/// Names come from upstreams: what would end a label is escaped.
fn model_labels(error: &EstimateError) -> String {
    let escaped = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let (provider, model) = (escaped(&error.provider), escaped(&error.model));
    format!("{{provider=\"{provider}\",model=\"{model}\"}}")
}

/// Millionths as a decimal number.
fn ratio(millionths: i64) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let size = millionths.unsigned_abs();
    format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstreams_name_cannot_break_out_of_a_label() {
        let error = EstimateError {
            provider: "p".to_owned(),
            model: "a\"} 1\\\nfake 2".to_owned(),
            calls: 1,
            mean_error: 0,
            bias: 0,
        };
        let labels = model_labels(&error);
        assert_eq!(labels, r#"{provider="p",model="a\"} 1\\\nfake 2"}"#);
        assert_eq!([ratio(1_250_000), ratio(-1), ratio(0)], ["1.250000", "-0.000001", "0.000000"]);
    }

    #[test]
    fn every_doubt_and_convention_has_a_counter() {
        assert!(Doubt::ALL.iter().all(|doubt| usize::from(doubt.number()) < DOUBTS));
        assert!(Convention::ALL.iter().all(|one| usize::from(one.number()) < CONVENTIONS));
    }
}

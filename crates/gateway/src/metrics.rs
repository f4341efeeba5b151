//! Counters for Prometheus.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use facts::{Charged, End, Exchange, Verdict};
use journal::Status;
use quantity::{Money, TokenClass, UsageSource};

const VERDICTS: usize = 5;
const ENDS: usize = 10;
const CLASSES: usize = 16;
const SOURCES: usize = 5;

/// What happened since the process started. Labels are closed lists alone, so that their number is
/// bounded whatever clients send.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Exchanges under way.
    pub(crate) open: AtomicU64,
    refused: AtomicU64,
    exchanges: [AtomicU64; VERDICTS],
    attempts: [AtomicU64; ENDS],
    tokens: [AtomicU64; CLASSES],
    usages: [AtomicU64; SOURCES],
    unpriced: AtomicU64,
    doubtful: AtomicU64,
    cost: Mutex<Money>,
}

impl Metrics {
    /// A request that was refused before it became an exchange.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
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
            if end.metered.doubts != quantity::Doubts::NONE {
                self.doubtful.fetch_add(1, Relaxed);
            }
            if matches!(end.charged, Charged::Unpriced { .. }) {
                self.unpriced.fetch_add(1, Relaxed);
            }
            if let Some(cost) = end.charged.cost() {
                *self.cost.lock().unwrap_or_else(PoisonError::into_inner) += cost;
            }
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
        let unpriced = one(get(&self.unpriced));
        let help = "Attempts that may have cost something and have no price.";
        family("farthing_unpriced_attempts_total", "counter", help, &unpriced);
        let cost = *self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = [(String::new(), cost.to_string())];
        family("farthing_cost_usd_total", "counter", "Cost of priced attempts.", &cost);
        let refused = one(get(&self.refused));
        family("farthing_refused_requests_total", "counter", "Requests refused here.", &refused);
        family("farthing_open_exchanges", "gauge", "Exchanges under way.", &one(get(&self.open)));
        let good = u64::from(journal.failure.is_none() && journal.failed_ago.is_none());
        family("farthing_journal_up", "gauge", "Whether the journal takes records.", &one(good));
        let help = "Records written to the journal.";
        family("farthing_journal_records_total", "counter", help, &one(journal.records));
        let help = "Bytes written to the journal.";
        family("farthing_journal_bytes_total", "counter", help, &one(journal.bytes));
        let help = "Syncs of the journal.";
        family("farthing_journal_syncs_total", "counter", help, &one(journal.syncs));
        let help = "Records that wait to be written.";
        family("farthing_journal_pending_records", "gauge", help, &one(journal.pending_records));
        let help = "Appends that failed and were taken back.";
        family(
            "farthing_journal_failed_appends_total",
            "counter",
            help,
            &one(journal.failed_appends),
        );
        out
    }
}

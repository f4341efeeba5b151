//! Prices that are known to change, of models that were served: told in time, and when it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use facts::{Answer, Dimension, Exchange, Query};
use gateway::{Clock, Upstream};
use quantity::{Period, UnixTime};
use report::price::Coming;
use tariff::{Book, Key};

use crate::process::in_background;

/// How far ahead is looked, and how far back for models that were served.
pub(crate) const AHEAD: Duration = Duration::from_secs(366 * 86_400);
pub(crate) const BACK: Duration = Duration::from_secs(90 * 86_400);
/// How far ahead of a change a bill and the page say so.
pub(crate) const NOTICE: Duration = Duration::from_secs(60 * 86_400);

/// Names of models that are remembered of a provider; clients may invent any number of them.
const SEEN: usize = 1_000;

/// How often it is looked whether something is to be told.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The changes that are known to come, and whom they concern.
pub(crate) struct Changes {
    book: Book,
    /// In order of time, as they were known when it was last looked.
    coming: Vec<Coming>,
    looked: UnixTime,
    ahead: Duration,
    /// Models of rows that changes are for, by provider and model: no more than the book has.
    served: BTreeSet<(String, String)>,
    /// Models by provider, as they were called, of which it is known whether changes concern them.
    seen: BTreeMap<String, BTreeSet<String>>,
    told: BTreeSet<Coming>,
}

impl Changes {
    /// Those of a book after one instant, as far ahead as is told; nobody was served yet.
    pub(crate) fn of(book: Book, now: UnixTime, ahead: Duration) -> Self {
        let (coming, looked) = (coming(&book, now, ahead), now);
        let (served, seen, told) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { book, coming, looked, ahead, served, seen, told }
    }

    /// Whether nothing is to come for anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Who served in a period, for [`Self::served_in`].
    pub(crate) fn query(period: Period) -> Query {
        Query { by: vec![Dimension::Upstream, Dimension::Model], period }
    }

    /// Takes note of who served.
    pub(crate) fn served_in(&mut self, answer: &Answer, upstreams: &[Upstream], now: UnixTime) {
        for group in &answer.groups {
            let [Some(upstream), Some(model)] = group.key.as_slice() else { continue };
            let upstream = upstreams.iter().find(|one| one.name == *upstream);
            if let Some(provider) = upstream.and_then(|upstream| upstream.provider.as_deref()) {
                self.served(provider, model, None, now);
            }
        }
    }

    /// Takes note of a model that served on a tier.
    pub(crate) fn served(&mut self, provider: &str, model: &str, tier: Option<&str>, at: UnixTime) {
        let seen = self.seen.get(provider).is_some_and(|models| models.contains(model));
        if seen || self.coming.is_empty() {
            return;
        }
        let Ok(row) = self.book.quote(&Key::new(provider, model, at).on(tier)) else { return };
        let models = self.seen.entry(provider.to_owned()).or_default();
        if models.len() < SEEN {
            models.insert(model.to_owned());
        }
        let concerns = |one: &Coming| one.provider == row.provider() && one.model == row.model();
        if self.coming.iter().any(concerns) {
            self.served.insert((row.provider().to_owned(), row.model().to_owned()));
        }
    }

    /// Takes note of who served an exchange.
    pub(crate) fn settled(&mut self, exchange: &Exchange) {
        for attempt in &exchange.attempts {
            let named = attempt.dispatch.provider.as_deref().zip(attempt.model());
            if let Some((provider, model)) = named {
                let tier = attempt.end.tier_served.as_deref();
                self.served(provider, model, tier, attempt.dispatch.at);
            }
        }
    }

    /// What is to come within a time for models that were served.
    pub(crate) fn within(&self, now: UnixTime, ahead: Duration) -> impl Iterator<Item = &Coming> {
        let until = now.plus(ahead);
        let coming = self.coming.iter().filter(move |one| one.at > now && one.at <= until);
        coming.filter(|one| self.served.contains(&(one.provider.clone(), one.model.clone())))
    }

    /// What is to be said now: changes that took effect since it was last looked, and those that come
    /// within a time, each once.
    pub(crate) fn due(&mut self, now: UnixTime, ahead: Duration) -> Vec<String> {
        let since = Duration::from_nanos(now.nanos().abs_diff(self.looked.nanos()));
        let happened: Vec<Coming> = self.within(self.looked, since).cloned().collect();
        let mut lines: Vec<String> = happened
            .iter()
            .map(|Coming { provider, model, tier, words, .. }| {
                format!("the price of {provider}/{model} ({tier}) has changed: {words}")
            })
            .collect();
        if now.day() != self.looked.day() {
            self.coming = coming(&self.book, now, self.ahead);
            self.seen.clear();
        }
        self.looked = now;
        let near: Vec<Coming> = self.within(now, ahead).cloned().collect();
        for one in near {
            let notice = one.notice(now);
            if self.told.insert(one) {
                lines.push(format!(
                    "the price of {notice}; `farthing price schedule` tells what that does to your \
                     traffic"
                ));
            }
        }
        lines
    }

    /// For Prometheus: when prices of models that were served change next.
    pub(crate) fn metrics(&self, now: UnixTime) -> String {
        let name = "farthing_price_change_timestamp_seconds";
        let mut out = format!(
            "# HELP {name} When a price that is known to change does, of models that were served.\n\
             # TYPE {name} gauge\n"
        );
        let mut next = BTreeSet::new();
        for Coming { at, provider, model, tier, .. } in self.within(now, self.ahead) {
            if next.insert((provider, model, tier)) {
                let labels = [("provider", provider), ("model", model), ("tier", tier)];
                let labels = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
                let seconds = at.nanos().div_euclid(1_000_000_000);
                out.push_str(&format!("{name}{{{}}} {seconds}\n", labels.join(",")));
            }
        }
        out
    }
}

/// Names come from price lists: what would end a label is escaped.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn coming(book: &Book, now: UnixTime, ahead: Duration) -> Vec<Coming> {
    book.changes(now, now.plus(ahead)).iter().filter_map(Coming::of).collect()
}

/// Changes that several threads know.
#[derive(Clone)]
pub(crate) struct SharedChanges(Arc<Mutex<Changes>>);

impl SharedChanges {
    pub(crate) fn new(changes: Changes) -> Self {
        Self(Arc::new(Mutex::new(changes)))
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that says on stderr what is due, until this is dropped.
pub(crate) struct Alarm {
    _ends: Sender<()>,
}

impl Alarm {
    /// Starts the thread, which tells of changes that come within `ahead`.
    pub(crate) fn start(
        known: SharedChanges,
        clock: Clock,
        ahead: Duration,
    ) -> anyhow::Result<Self> {
        let (ends, ended) = channel::<()>();
        let run = move || {
            loop {
                let due = known.get().due(clock.now(), ahead);
                due.iter().for_each(|line| eprintln!("farthing: {line}"));
                if ended.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        in_background("prices", run)?;
        Ok(Self { _ends: ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> UnixTime {
        text.parse().unwrap()
    }

    fn changes(now: &str) -> Changes {
        let head = "book b\nas_of 2026-01-02\nlicence none\norigin none\nleft_out 0\n";
        let book = Book::parse(&format!(
            "{head}provider lab\n\
             model toy : ^toy\n\
             standard input_uncached=2 output_text=10\n\
             standard from=2026-12-01 input_uncached=4 output_text=10\n\
             standard from=2027-03-01T12:00:00Z input_uncached=5 output_text=10\n\
             model \"odd\n\
             standard input_uncached=1\n\
             standard from=2026-12-01 input_uncached=2\n\
             model steady\n\
             standard input_uncached=1\n"
        ));
        Changes::of(book.unwrap(), at(now), AHEAD)
    }

    #[test]
    fn a_change_is_told_once_in_time_and_once_when_it_happens() {
        let mut changes = changes("2026-10-01");
        let month = 30 * DAY;
        assert!(changes.due(at("2026-11-20"), month).is_empty(), "nobody was served");
        changes.served("lab", "toy-2026", None, at("2026-11-20"));
        changes.served("lab", "steady", None, at("2026-11-20"));
        changes.served("lab", "nobody-knows", None, at("2026-11-20"));
        let told = changes.due(at("2026-11-20T06:00:00Z"), month);
        assert_eq!(
            told,
            [
                "the price of lab/toy (standard) changes on 2026-12-01, in 10 days: input_uncached 2 -> 4; \
              `farthing price schedule` tells what that does to your traffic"
            ]
        );
        assert!(changes.due(at("2026-11-30T23:59:59Z"), month).is_empty());
        let told = changes.due(at("2026-12-01T00:00:01Z"), month);
        assert_eq!(told, ["the price of lab/toy (standard) has changed: input_uncached 2 -> 4"]);
        assert!(changes.due(at("2026-12-01T00:00:02Z"), month).is_empty());
        // Who slept over both is told of what happened, not of what was going to.
        let told = changes.due(at("2027-04-01"), month);
        assert_eq!(told, ["the price of lab/toy (standard) has changed: input_uncached 4 -> 5"]);
    }

    #[test]
    fn without_time_ahead_only_what_happens_is_told() {
        let mut changes = changes("2026-11-30");
        changes.served("lab", "toy", None, at("2026-11-30"));
        assert!(changes.due(at("2026-11-30T12:00:00Z"), Duration::ZERO).is_empty());
        assert_eq!(changes.due(at("2026-12-01"), Duration::ZERO).len(), 1);
    }

    #[test]
    fn metrics_tell_the_next_change_of_models_that_were_served_alone() {
        let mut changes = changes("2026-11-20");
        let samples = |changes: &Changes, now: &str| {
            let text = changes.metrics(at(now));
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(samples(&changes, "2026-11-20").is_empty());
        changes.served("lab", "toy", None, at("2026-11-20"));
        changes.served("lab", "\"odd", None, at("2026-11-20"));
        assert_eq!(
            samples(&changes, "2026-11-20"),
            [
                r#"farthing_price_change_timestamp_seconds{provider="lab",model="\"odd",tier="standard"} 1796083200"#,
                r#"farthing_price_change_timestamp_seconds{provider="lab",model="toy",tier="standard"} 1796083200"#,
            ]
        );
        assert_eq!(
            samples(&changes, "2026-12-01"),
            [
                r#"farthing_price_change_timestamp_seconds{provider="lab",model="toy",tier="standard"} 1803902400"#
            ]
        );
    }
}

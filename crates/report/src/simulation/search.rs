//! How the highest rate was found, and what stands in the way of more.

use quantity::grouped;
use servesim::{Keeper, Limit, Trial};

use crate::json::Json;
use crate::object;
use crate::table::{Style, Table};

use super::Search;
use super::json::{decimal, nanos};
use super::text::{decimals, limits, slo};

impl Search {
    /// That no rate is low enough, if so.
    pub(super) fn unmet(&self) -> Option<String> {
        self.found.rate.is_none().then(|| format!("no rate keeps {}", self.goal()))
    }

    /// The answer, with how it was found.
    pub(super) fn sentence(&self) -> String {
        let Some(best) = self.found.best() else { return String::new() };
        let simulations = grouped(self.found.trials.len() as u64);
        let found = format!(
            "Found by {simulations} simulations of the same requests, from {} requests/s in closed form.",
            rate(self.guess)
        );
        if self.found.rate.is_none() {
            return format!(
                "No rate keeps {}: even at {} requests/s, where they hardly meet, {}. {found}",
                self.goal(),
                rate(best.rate),
                self.measured(best),
            );
        }
        let more = match self.found.fails_at.and_then(|rate| self.trial(rate)) {
            Some(trial) => format!("at {} requests/s {}", rate(trial.rate), self.measured(trial)),
            None => "no higher rate was tried that does not".to_owned(),
        };
        format!(
            "The highest rate that keeps {} is {} requests/s: {more}. {found}",
            self.goal(),
            rate(best.rate)
        )
    }

    /// Each simulation.
    pub(super) fn table(&self, style: Style) -> String {
        let mut table = Table::default().number("requests/s").text("keeps it").text("worst");
        let share = self.share();
        for name in ["TTFT", "TPOT", "last token"] {
            table = table.number(&format!("{share} {name}, ms"));
        }
        for trial in &self.found.trials {
            let keeps = if trial.met { "yes" } else { "no" };
            let times = trial
                .times_ps
                .map(|ps| ps.map_or("-".to_owned(), |ps| decimals(ps as f64 / 1e9, 1)));
            let cells = [rate(trial.rate), keeps.to_owned(), limit_words(trial.worst).to_owned()];
            table.row(cells.into_iter().chain(times));
        }
        table.render(style)
    }

    pub(super) fn json(&self) -> Json {
        let found = &self.found;
        let trial = |trial: &Trial| {
            let [ttft, tpot, latency] = trial.times_ps.map(|ps| ps.map(nanos));
            object! {
                "rate" => decimal(Some(trial.rate), 6),
                "met" => trial.met,
                "worst" => limit_name(trial.worst),
                "kept" => decimal(Some(trial.kept), 6),
                "ttft_ns" => ttft,
                "tpot_ns" => tpot,
                "end_to_end_ns" => latency,
            }
        };
        object! {
            "share" => decimal(Some(self.goal.share), 6),
            "kept_by" => match self.goal.keeper {
                Keeper::EachLimit => "each_limit",
                Keeper::Request => "request",
            },
            "highest_rate" => decimal(found.rate, 6),
            "fails_at" => decimal(found.fails_at, 6),
            "bound" => found.bound().map(limit_name),
            "closed_form_rate" => decimal(Some(self.guess), 6),
            "simulations" => found.trials.iter().map(trial).collect::<Json>(),
        }
    }

    /// What is to be kept.
    fn goal(&self) -> String {
        let share = self.share();
        let limits: Vec<String> = limits(&self.goal.slo).collect();
        match self.goal.keeper {
            _ if limits.is_empty() => "up with what comes".to_owned(),
            Keeper::EachLimit => {
                let each: Vec<_> = limits.iter().map(|limit| format!("{share} {limit}")).collect();
                each.join(" and ")
            }
            Keeper::Request => format!("{} for {share} of the requests", slo(&self.goal.slo)),
        }
    }

    /// `p99` or `99%`.
    fn share(&self) -> String {
        let percent = format!("{:.3}", self.goal.share * 100.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        match self.goal.keeper {
            Keeper::EachLimit => format!("p{percent}"),
            Keeper::Request => format!("{percent}%"),
        }
    }

    /// What came of a rate, where it was worst.
    fn measured(&self, trial: &Trial) -> String {
        let which = match trial.worst {
            Limit::Ttft => 0,
            Limit::Tpot => 1,
            Limit::Latency => 2,
            Limit::Together => {
                return format!("{}% of the requests keep it", decimals(trial.kept * 100.0, 2));
            }
            Limit::Throughput => return "requests come faster than they are served".to_owned(),
        };
        let share = self.share();
        match trial.times_ps[which] {
            Some(ps) => format!(
                "{share} {} is {} ms",
                limit_words(trial.worst),
                decimals(ps as f64 / 1e9, 1)
            ),
            None => format!("less than {share} of the requests complete"),
        }
    }

    fn trial(&self, rate: f64) -> Option<&Trial> {
        self.found.trials.iter().find(|trial| trial.rate.total_cmp(&rate).is_eq())
    }
}

/// A rate of so many digits that those 1 % apart differ.
fn rate(rate: f64) -> String {
    decimals(
        rate,
        if rate < 0.1 {
            5
        } else if rate < 10.0 {
            3
        } else {
            2
        },
    )
}

const fn limit_words(limit: Limit) -> &'static str {
    match limit {
        Limit::Ttft => "TTFT",
        Limit::Tpot => "TPOT",
        Limit::Latency => "time to the last token",
        Limit::Together => "all limits",
        Limit::Throughput => "throughput",
    }
}

const fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Ttft => "ttft",
        Limit::Tpot => "tpot",
        Limit::Latency => "end_to_end",
        Limit::Together => "together",
        Limit::Throughput => "throughput",
    }
}

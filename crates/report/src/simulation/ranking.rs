//! The same workload on several accelerators, by what a token costs there.

use crate::number::{per_mille, percent};
use crate::table::{Style, Table, printable};

use super::Simulation;
use super::text::{decimals, money, rate};

/// Simulations side by side, the cheapest useful token first; without prices, the least GPU time.
#[derive(Debug, Clone)]
pub struct Ranking<'a> {
    ranked: Vec<Simulation<'a>>,
    failed: Vec<String>,
}

impl<'a> Ranking<'a> {
    /// Of simulations of one workload, and of what could not be simulated and why.
    #[must_use]
    pub fn new(mut ranked: Vec<Simulation<'a>>, failed: Vec<String>) -> Self {
        let cost = |run: &Simulation<'_>| match run.cost_per_useful_mtok() {
            Some(cost) => cost.usd(),
            None => run.gpu_seconds_per_useful_mtok().unwrap_or(f64::INFINITY),
        };
        ranked.sort_by(|left, right| cost(left).total_cmp(&cost(right)));
        Self { ranked, failed }
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        if let Some(first) = self.ranked.first() {
            out += &style.heading(&printable(&format!(
                "{} with {}: what a useful token costs",
                first.setup.model.row().name(),
                first.setup.engine.row().name()
            )));
            out += "\n\n";
            out += &self.table(first).render(style);
            out.push('\n');
            if let Some(line) = self.surprise() {
                out += &style.wrapped_words(&line);
            }
            out += &style.faint_words(
                "Each at the load that is shown beside it; --find-rate looks for the most that each serves within the SLO. \
                 Predictions, not measurements: one GPU alone tells what they rest on.",
            );
        }
        for failed in &self.failed {
            out += &style.wrapped_words(&printable(failed));
        }
        out
    }

    /// As JSON: a list of what each simulation tells by itself, in their order.
    #[must_use]
    pub fn json(&self) -> String {
        let each: Vec<String> =
            self.ranked.iter().map(|run| run.json().trim_end().to_owned()).collect();
        format!("[{}]\n", each.join(","))
    }

    fn table(&self, first: &Simulation<'_>) -> Table {
        let priced = first.gpu_hour.is_some();
        let mut table = Table::default().text("GPUs");
        if priced {
            table = table.number("USD an hour");
        }
        table = table.number("requests/s").number("in SLO").minor("useful output\ntokens/s", 2);
        table = table.minor("p99 TTFT,\nms", 1).minor("p99 TPOT,\nms", 1);
        table = if priced {
            table.number("USD per useful\noutput Mtok")
        } else {
            table.number("GPU seconds per\nuseful output Mtok")
        };
        for run in &self.ranked {
            let ms = |times: &servesim::Histogram| {
                times.quantile_ps(0.99).map_or("-".to_owned(), |ps| decimals(ps as f64 / 1e9, 1))
            };
            let report = run.run;
            let mut cells = vec![format!(
                "{} x {}",
                run.accelerators_text(),
                run.setup.accelerator.row().name()
            )];
            if priced {
                cells.push(money(run.hourly(), 2));
            }
            let within = per_mille(i128::from(report.good), i128::from(report.requests()));
            let found = run.search.is_none_or(|search| search.found.rate.is_some());
            cells.push(if found {
                rate(run.per_second(run.completed()))
            } else {
                "none".to_owned()
            });
            cells.push(percent(within));
            cells.push(rate(run.per_second(report.good_generated_tokens)));
            cells.push(ms(&report.ttft));
            cells.push(ms(&report.tpot));
            cells.push(if priced {
                money(run.cost_per_useful_mtok(), 4)
            } else {
                run.gpu_seconds_per_useful_mtok()
                    .map_or("-".to_owned(), |seconds| decimals(seconds, 0))
            });
            table.row(cells);
        }
        table
    }

    /// Where the dearer hour is the cheaper token.
    fn surprise(&self) -> Option<String> {
        let (first, rest) = self.ranked.split_first()?;
        let (hour, cost) = (first.hourly()?.usd(), first.cost_per_useful_mtok()?.usd());
        let cheaper = rest.iter().filter_map(|run| {
            let (own, token) = (run.hourly()?.usd(), run.cost_per_useful_mtok()?.usd());
            (own < hour && token > cost).then_some((run, own, token))
        });
        let (run, own, token) = cheaper.min_by(|left, right| left.1.total_cmp(&right.1))?;
        Some(printable(&format!(
            "The dearer hour is the cheaper token: an hour of {} costs {} times as much as one of {}, and its useful output \
             Mtok {} times.",
            first.setup.accelerator.row().name(),
            decimals(hour / own, 2),
            run.setup.accelerator.row().name(),
            decimals(cost / token, 2),
        )))
    }
}

//! From which volume it pays to have GPUs.

use planner::compare::{Against, Constraint};

use crate::modelled::{decimals, trimmed};
use crate::sections::Block;
use crate::table::{Table, printable};

use super::CompareReport;

/// Separate intervals that are told one by one.
const TOLD: usize = 3;

impl CompareReport<'_> {
    /// Tasks a day at a multiple of the first month's volume.
    pub(super) fn per_day(&self, times: f64) -> f64 {
        let tasks = self.comparison.demand.first().map_or(0.0, |demand| demand.tasks);
        times * tasks / planner::HOURS_PER_MONTH * 24.0
    }

    /// Million tokens a month at a multiple of the first month's volume.
    pub(super) fn mtok(&self, times: f64) -> f64 {
        let tokens = self.comparison.demand.first().map_or(0.0, |demand| demand.tokens.total());
        times * tokens / 1e6
    }

    pub(super) fn wins(&self) -> Vec<Block> {
        let against = &self.comparison.volumes.against;
        if against.is_empty() {
            return Vec::new();
        }
        let unit = printable(&self.quotes.scenario.unit);
        let name = |at: usize| self.comparison.quoted[at].name.clone();
        let mut table = Table::default().text("GPUs").text("against the API");
        table =
            table.number(&format!("always from\n{unit}s a day")).number("that is, Mtok\na month");
        table = table.number("in this plan\nfrom month").minor("full GPUs,\nUSD per Mtok", 3);
        table = table.minor("API,\nUSD per Mtok", 2).minor("GPUs, does not\ngrow, USD a month", 1);
        for one in against {
            let always = one.wins.always_from;
            let volume = |of: &dyn Fn(f64) -> f64| {
                always.map_or("never".to_owned(), |times| decimals(of(times), 0))
            };
            table.row([
                name(one.gpus),
                name(one.api),
                volume(&|times| self.per_day(times)),
                volume(&|times| self.mtok(times)),
                one.turns.map_or("never".to_owned(), |month| (month + 1).to_string()),
                decimals(one.full_usd_per_mtok, 4),
                decimals(one.api_usd_per_mtok, 4),
                decimals(one.fixed.usd(), 0),
            ]);
        }
        let now = format!(
            "The first month has {} {unit}s a day. Tokens of all classes, as a call has them; prices, peaks and terms of the first \
             month. Full GPUs: one replica more, as busy as the SLO, headroom and the week's peaks allow.",
            decimals(self.per_day(1.0), 0)
        );
        let mut blocks = vec![Block::Table(table), Block::Faint(now)];
        for one in against {
            if let Some(words) = self.told(one, &unit) {
                blocks.push(Block::Words(printable(&words)));
            }
        }
        blocks
    }

    /// What the table cannot say: separate intervals, and why never.
    fn told(&self, one: &Against, unit: &str) -> Option<String> {
        let name = |at: usize| self.comparison.quoted[at].name.as_str();
        let (gpus, api) = (name(one.gpus), name(one.api));
        let mut words = Vec::new();
        let intervals = &one.wins.intervals;
        if !intervals.is_empty() {
            let first = intervals.iter().take(TOLD).map(|part| {
                format!(
                    "{} to {}",
                    decimals(self.per_day(part.from), 0),
                    decimals(self.per_day(part.to), 0)
                )
            });
            let first: Vec<_> = first.collect();
            let more = intervals.len() as u64 - first.len() as u64 + one.wins.more;
            let more = if more > 0 { format!(" and {more} more intervals") } else { String::new() };
            let other = if one.wins.always_from.is_some() { " also" } else { "" };
            words.push(format!("{other} wins from {}{more} {unit}s a day", first.join(", ")));
        }
        let per_mtok = |usd: f64| trimmed(usd, 4);
        match one.never {
            Some(Constraint::Peaks) => words.push(format!(
                " never wins for good because of the peaks: one replica more costs {} USD for each Mtok that it serves with the \
                 week as it is, the API {}; were the load the same at all hours it would win",
                per_mtok(one.full_usd_per_mtok),
                per_mtok(one.api_usd_per_mtok)
            )),
            Some(Constraint::Throughput) => words.push(format!(
                " never wins for good because of what a replica serves within the SLO: one more costs {} USD for each Mtok, the \
                 API {}",
                per_mtok(one.full_usd_per_mtok),
                per_mtok(one.api_usd_per_mtok)
            )),
            None => {}
        }
        if words.is_empty() {
            return None;
        }
        Some(format!("{gpus} against {api}:{}.", words.join(";")))
    }

    pub(super) fn by_volume(&self) -> Vec<Block> {
        let volumes = &self.comparison.volumes.at;
        let quoted = &self.comparison.quoted;
        if volumes.is_empty() {
            return Vec::new();
        }
        let unit = printable(&self.quotes.scenario.unit);
        let mut table = Table::default().text("USD a month at");
        for at in volumes {
            let header = format!("{}/day", short(self.per_day(at.times)));
            // Where there is little room the volume that is asked for stays, with those around it.
            let far = (at.times.max(1.0 / at.times)).ln();
            let turn = match far {
                0.0 => None,
                far if far > 2.5 => Some(1),
                far if far > 1.3 => Some(2),
                _ => Some(3),
            };
            table = match turn {
                Some(turn) => table.minor(&header, turn),
                None => table.number(&header),
            };
        }
        for (place, one) in quoted.iter().enumerate() {
            let bills = volumes.iter().map(|at| {
                let least =
                    at.bills.iter().flatten().map(|bill| bill.usd()).fold(f64::INFINITY, f64::min);
                match at.bills.get(place).copied().flatten() {
                    Some(bill) if bill.usd() <= least => format!("{}*", decimals(bill.usd(), 0)),
                    Some(bill) => decimals(bill.usd(), 0),
                    None => "-".to_owned(),
                }
            });
            table.row(std::iter::once(one.name.clone()).chain(bills));
        }
        let words = format!(
            "The first month with more or fewer {unit}s, all else alike. *: the least at that volume, limits and terms aside."
        );
        vec![Block::Table(table), Block::Faint(words)]
    }
}

/// A volume in few digits.
fn short(value: f64) -> String {
    match value {
        large if large >= 1e6 => format!("{}M", trimmed(large / 1e6, 2)),
        large if large >= 1e4 => format!("{}k", trimmed(large / 1e3, 1)),
        small => trimmed(small, 0),
    }
}

//! Vendors that may change their minds.

use planner::compare::Shaken;

use crate::modelled::{decimals, trimmed};
use crate::sections::Block;
use crate::table::{Table, printable};

use super::CompareReport;

pub(super) fn shaken(shaken: Shaken) -> &'static str {
    match shaken {
        Shaken::Nothing => "-",
        Shaken::Holds => "holds",
        Shaken::Breaks => "breaks",
    }
}

impl CompareReport<'_> {
    pub(super) fn shaken(&self) -> Vec<Block> {
        let exposures = &self.comparison.risk.exposures;
        if exposures.is_empty() {
            return Vec::new();
        }
        let quoted = &self.comparison.quoted;
        let mut table =
            Table::default().text("offer").text("vendor").number("USD in a\nmean month");
        table = table.number("at twice\nthe price").text("limits / 2").text("context / 2");
        table = table.text("no promise").text("who stands in").minor("USD in a\nmean month", 1);
        for one in exposures {
            let substitute = one.substitute.map(|at| &quoted[at]);
            table.row([
                quoted[one.quoted].name.clone(),
                one.vendor.clone(),
                decimals(quoted[one.quoted].mean().usd(), 0),
                decimals(one.doubled.usd(), 0),
                shaken(one.limits).to_owned(),
                shaken(one.context).to_owned(),
                shaken(one.guarantee).to_owned(),
                substitute.map_or("nobody", |one| one.name.as_str()).to_owned(),
                substitute.map_or("-".to_owned(), |one| decimals(one.mean().usd(), 0)),
            ]);
        }
        let words = "Half the rate limits, half the context, and no more promise of speed. -: the vendor states no such thing. Breaks: the peak, or the longest call, does not fit any more, or nobody \
                     states any more that the SLO is kept. Who stands in: the cheapest admissible offer that does not pay \
                     this vendor.";
        vec![Block::Table(table), Block::Faint(words.to_owned())]
    }

    pub(super) fn concentration(&self) -> Vec<Block> {
        let comparison = self.comparison;
        let mut lines = Vec::new();
        if !self.spend.is_empty() {
            let amounts: Vec<f64> = self.spend.iter().map(|(_, paid)| paid.usd()).collect();
            let all: f64 = amounts.iter().sum();
            let each = self.spend.iter().map(|(vendor, paid)| {
                format!("{vendor} {}%", trimmed(paid.usd() / all * 100.0, 1))
            });
            if let Some(index) = planner::concentration(&amounts) {
                lines.push(format!(
                    "Today {} USD a month go to {}: an HHI of {}.",
                    decimals(all, 0),
                    each.collect::<Vec<_>>().join(", "),
                    decimals(index, 2)
                ));
            }
        }
        let all = comparison.quoted.iter().zip(&comparison.risk.concentration);
        let spread = all.filter_map(|(one, index)| Some((one, (*index)?)));
        let spread: Vec<_> = spread.filter(|(_, index)| *index < 0.9999).collect();
        for (one, index) in &spread {
            lines.push(format!(
                "{}: an HHI of {} by what its vendors are paid.",
                one.name,
                decimals(*index, 2)
            ));
        }
        if let Some(second) = &comparison.risk.second {
            let (risk, substitute) = (&self.quotes.risk, &comparison.quoted[second.substitute]);
            let best = comparison.best().map_or("", |best| best.name.as_str());
            let share = trimmed(risk.second_share * 100.0, 1);
            let premium = second.premium.usd();
            lines.push(format!(
                "{share}% of calls to {} beside {best} (HHI by share of calls {}) {} {} USD a month, and avoids {} USD if the price of \
                 {best}'s vendor doubles and moving takes {} months.",
                substitute.name,
                decimals(second.concentration, 2),
                if premium >= 0.0 { "costs" } else { "saves" },
                decimals(premium.abs(), 0),
                decimals(second.avoided, 0),
                trimmed(risk.switch_months, 1),
            ));
            lines.push(match second.pays_from {
                None => "It pays at no chance of that.".to_owned(),
                Some(0.0) => "It pays in any case.".to_owned(),
                Some(chance) => {
                    format!("It pays from a chance of {}% a year.", trimmed(chance * 100.0, 1))
                }
            });
            lines.push(match second.threshold(risk.second_share) {
                Some(index) => format!(
                    "At the {}% a year that are assumed, a second source pays where the HHI is above {}.",
                    trimmed(risk.chance * 100.0, 1),
                    decimals(index, 2)
                ),
                None => format!(
                    "At the {}% a year that are assumed, it does not pay.",
                    trimmed(risk.chance * 100.0, 1)
                ),
            });
        }
        if lines.is_empty() {
            return Vec::new();
        }
        let hhi = "HHI: the sum of squared shares, from 1 over the number of vendors to 1 for a single one.";
        let mut blocks: Vec<_> = lines.iter().map(|line| Block::Words(printable(line))).collect();
        blocks.push(Block::Faint(hhi.to_owned()));
        blocks
    }
}

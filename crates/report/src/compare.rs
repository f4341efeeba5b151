//! Offers compared: assumptions first, then the answer, then why, then what may change. All money is modelled.

use planner::compare::{Comparison, Kept, Offer, Quoted, Quotes};
use planner::{Accuracy, Case, Outlook, PerMonth};

use crate::bill::BookLine;
use crate::modelled::{decimals, trimmed};
use crate::outlook::View;
use crate::table::printable;
use crate::workload::Workload;

mod html;
mod json;
mod risk;
mod sections;
mod volume;

/// A comparison, ready to be rendered.
#[derive(Clone, Copy)]
pub struct CompareReport<'a> {
    /// What was asked.
    pub quotes: &'a Quotes,
    /// The case that was priced: all as it is most likely.
    pub case: &'a Case,
    /// The answer.
    pub comparison: &'a Comparison,
    /// How the offers that could be taken may turn out, in their order.
    pub outlook: &'a Outlook,
    /// Setups on GPUs that cannot be had, each with its offer and the reason.
    pub left_out: &'a [(String, String)],
    /// What is spent by vendor today, a month.
    pub spend: &'a [(String, PerMonth)],
    /// The price book.
    pub book: &'a BookLine,
}

impl CompareReport<'_> {
    fn workload(&self) -> Workload<'_> {
        let gpus = self
            .quotes
            .offers
            .iter()
            .any(|offer| matches!(offer.serving, planner::compare::Serving::Gpus(_)));
        Workload { scenario: &self.quotes.scenario, case: self.case, gpus }
    }

    fn names(&self) -> Vec<String> {
        self.comparison.choices().map(|one| one.name.clone()).collect()
    }

    fn view<'a>(&'a self, names: &'a [String]) -> View<'a> {
        View { outlook: self.outlook, names, unit: &self.quotes.scenario.unit }
    }

    fn offer(&self, quoted: &Quoted) -> &Offer {
        &self.quotes.offers[quoted.offer]
    }

    /// The answer in a line.
    fn headline(&self) -> String {
        let name = &self.quotes.scenario.name;
        let Some(best) = self.comparison.best() else {
            return format!(
                "{name}: no offer is admissible; what stands against each is told below"
            );
        };
        let bill = |month: Option<&planner::Month>| {
            decimals(month.map_or(0.0, |month| month.bill.usd()), 0)
        };
        let months = best.months.len();
        let mut line = format!(
            "{name}: {} is the cheapest admissible offer over {}: {} USD in the first month",
            best.name,
            if months == 1 { "one month".to_owned() } else { format!("{months} months") },
            bill(best.months.first()),
        );
        if months > 1 {
            line += &format!(", {} in month {months}", bill(best.months.last()));
        }
        if let Kept::NotStated(_) = best.first.kept {
            line += "; whether it keeps the SLO is not stated";
            if let Some(sure) = self.comparison.best_known() {
                line += &format!(", {} does for {} USD", sure.name, bill(sure.months.first()));
            }
        }
        line
    }

    /// What stands against an offer, in words.
    fn objections(quoted: &Quoted) -> Vec<String> {
        let mut all = Vec::new();
        if let Kept::Broken(why) = &quoted.first.kept {
            all.push(format!("breaks the SLO: {why}"));
        }
        for broken in &quoted.breaks {
            let of = if broken.offer == quoted.name {
                String::new()
            } else {
                format!(" of {}", broken.offer)
            };
            all.push(format!(
                "{}{of}: {} allowed, {} needed, from month {}",
                broken.what,
                trimmed(broken.allowed, 0),
                decimals(broken.needed.ceil(), 0),
                broken.month + 1,
            ));
        }
        all.extend(quoted.barred.iter().cloned());
        all
    }

    /// What the reader must know of the figures.
    fn notes(&self) -> Vec<String> {
        let offers = &self.quotes.offers;
        let any = |kind: &str| offers.iter().any(|offer| offer.serving.kind() == kind);
        let mut notes = vec![
            "Modelled money in US dollars, months of 730 hours; none of it is booked. All offers serve the same calls. Useful \
             tokens are those of calls that were neither made again nor failed."
                .to_owned(),
            "Admissible is an offer against which nothing is known: no limit on time is known to be missed, the peak hour of each \
             month, with fleet.burst_headroom, stays within its rate limits, the longest of 1,500 drawn calls within its \
             context, and it states all required terms. What a vendor does not state of its speed is not taken to be met."
                .to_owned(),
        ];
        if any("api") {
            notes.push(format!(
                "API prices: {}, as each month begins, with changes that are known, unless an offer says its own.",
                self.book.text()
            ));
        }
        if any("gpus") || any("dedicated") {
            notes.push(
                "GPUs: whole replicas for the peak hour, each as much as a simulation of 1,500 calls shows it to serve within the \
                 SLO. Offers of kind `gpus` bear the scenario's [costs] (people, monitoring, hosts), which the vendor of a \
                 dedicated endpoint or an API bears itself. In a mix each part on GPUs has them."
                    .to_owned(),
            );
        }
        if let Some(Accuracy { low, high }) =
            self.outlook.prospects.iter().find_map(|one| one.accuracy)
            && !self.view(&[]).is_sure()
        {
            notes.push(format!(
                "How sure: admissible offers in the same draws; what an offer says itself (its price, its success rate) is taken as \
                 said. Of nine in ten measured runs what was served is {} to {} times what the serving model says; all GPUs in \
                 a draw alike.",
                decimals(low, 2),
                decimals(high, 2)
            ));
        }
        if self.quotes.scenario.api.is_some() || self.quotes.scenario.gpus.is_some() {
            notes.push(
                "The scenario's own [api] and [gpus] are not compared: the offers are.".to_owned(),
            );
        }
        notes.iter().map(|note| printable(note)).collect()
    }
}

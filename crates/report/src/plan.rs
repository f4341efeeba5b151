//! A plan: assumptions first, then the answer, then why, then what would change it. All money is modelled.

use planner::{Accuracy, Case, Lane, Lever, Need, Offers, Outlook, Plan, Scenario, Var};

use crate::bill::BookLine;
use crate::modelled::decimals;
use crate::outlook::View;
use crate::workload::Workload;

mod html;
mod json;
mod sections;
mod text;

/// A plan, ready to be rendered.
#[derive(Clone, Copy)]
pub struct PlanReport<'a> {
    /// What was asked.
    pub scenario: &'a Scenario,
    /// The case that was planned: all as it is most likely.
    pub case: &'a Case,
    /// Where it could be served.
    pub offers: &'a Offers,
    /// The answer.
    pub plan: &'a Plan,
    /// Of each lane, what would have to be true.
    pub needs: &'a [Vec<Need>],
    /// How the lanes may turn out, in their order.
    pub outlook: &'a Outlook,
    /// What would save, the most for the cheapest lane first.
    pub levers: &'a [Lever],
    /// The price book.
    pub book: &'a BookLine,
}

impl PlanReport<'_> {
    fn workload(&self) -> Workload<'_> {
        Workload { scenario: self.scenario, case: self.case, gpus: self.scenario.gpus.is_some() }
    }

    fn lane_name(lane: &Lane) -> String {
        match &lane.own {
            None => format!("API {}", lane.name),
            Some(_) => format!("GPUs {}", lane.name),
        }
    }

    /// What the lanes are called for people.
    fn names(&self) -> Vec<String> {
        self.plan.lanes.iter().map(Self::lane_name).collect()
    }

    fn view<'a>(&'a self, names: &'a [String]) -> View<'a> {
        View { outlook: self.outlook, names, unit: &self.scenario.unit }
    }

    /// What the revenue of the first month leaves of it.
    fn margin(&self, lane: &Lane) -> Option<f64> {
        let revenue = planner::revenue(self.case, self.plan.demand.first()?)?;
        planner::gross_margin(revenue, lane.months.first()?.bill.usd())
    }

    /// What the reader must know of the figures.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "Modelled money in US dollars, months of 730 hours; none of it is booked. Useful tokens are those of calls that were \
             neither made again nor failed."
                .to_owned(),
        ];
        if !self.offers.apis.is_empty() {
            notes.push(format!(
                "API prices: {}, list prices as each month begins, with changes that are known; what writing to a prompt \
                 cache costs beyond input is left out.",
                self.book.text()
            ));
        }
        if self.plan.lanes.iter().any(|lane| lane.own.is_some()) {
            notes.push(
                "GPUs: whole replicas for the peak hour, each as much as a simulation of 1,500 calls shows it to serve within \
                 the SLO, with percentiles; where lengths grow, rates move as their closed form, and beyond 20% they are \
                 simulated anew. Idle time is paid, and its own line."
                    .to_owned(),
            );
            if let Some(Accuracy { low, high }) =
                self.outlook.prospects.iter().find_map(|one| one.accuracy)
            {
                notes.push(format!(
                    "The serving model: of nine in ten measured runs what was served is {} to {} times what it says; half of the \
                     draws are faster than it says, half slower, all GPUs in a draw alike.",
                    decimals(low, 2),
                    decimals(high, 2)
                ));
            }
        }
        if self.case.at(Var::Cached) > 0.0 && self.scenario.gpus.is_some() {
            notes.push(
                "On GPUs what is read from the prompt cache is taken to be a beginning that all calls share.".to_owned(),
            );
        }
        notes
    }
}

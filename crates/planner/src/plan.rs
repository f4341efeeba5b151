//! A plan: demand and bills through the months, what made them grow, and what would have to be otherwise.

use crate::demand::Demand;
use crate::lane::{ApiOffer, Bounds, Capability, Chosen, GpuOffer, Month, Taken, Unfit, choose};
use crate::mix::Mix;
use crate::scenario::{Case, Scenario, Var};
use crate::shapley::parts_of_change;
use crate::unit::{PerMonth, PerMtok};
use crate::{Fleet, HourlyCost};

/// Where a scenario may be served, with prices.
#[derive(Default)]
pub struct Offers {
    /// Models behind APIs.
    pub apis: Vec<ApiOffer>,
    /// Setups on GPUs.
    pub gpus: Vec<GpuOffer>,
}

/// What a scenario comes to.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What each month asks for.
    pub demand: Vec<Demand>,
    /// Where it could be served, in the order of the offers; of GPUs the setup that is the cheapest over all months.
    pub lanes: Vec<Lane>,
    /// What cannot serve it, with the reason.
    pub ruled_out: Vec<(String, String)>,
}

/// One way to serve, month by month.
#[derive(Debug, Clone)]
pub struct Lane {
    /// What it is called.
    pub name: String,
    /// Its place among the offers of its kind.
    pub offer: usize,
    /// Each month from 0.
    pub months: Vec<Month>,
    /// Its GPUs; `None` behind an API.
    pub own: Option<Own>,
    /// What made the bill of the last month another than that of the first.
    pub growth: Vec<(&'static str, PerMonth)>,
}

/// Own GPUs in the first month.
#[derive(Debug, Clone)]
pub struct Own {
    /// What a replica does.
    pub capability: Capability,
    /// The replicas.
    pub fleet: Fleet,
    /// What an hour costs.
    pub cost: HourlyCost,
    /// Calls a second that a replica serves within the SLO, each month.
    pub rates: Vec<f64>,
    /// The longest call of those that were simulated, in tokens.
    pub longest: u32,
    /// What queueing theory says beside the simulation.
    pub bounds: Bounds,
    /// Setups that were simulated, of all that were offered.
    pub simulated: usize,
    /// Setups that were offered.
    pub offered: usize,
}

/// Calls whose lengths changed by more than this are simulated anew; by less, rates move as their closed form does.
const NEAR: f64 = 0.2;

/// Makes a plan for one case of a scenario.
#[must_use]
pub fn plan(scenario: &Scenario, case: &Case, offers: &Offers) -> Plan {
    let demand = demand(scenario, case);
    let mut ruled_out = Vec::new();
    let mut lanes = Vec::new();
    for (index, offer) in offers.apis.iter().enumerate() {
        let months = (0..).zip(&demand).map(|(month, demand)| offer.month(case, demand, month));
        match months.collect::<Result<Vec<_>, _>>() {
            Ok(months) => {
                let growth = growth(&demand, &months);
                let name = offer.name.clone();
                lanes.push(Lane { name, offer: index, months, own: None, growth });
            }
            Err(why) => ruled_out.push((offer.name.clone(), why)),
        }
    }
    if let Some(taken) = taken(scenario)
        && !offers.gpus.is_empty()
    {
        let name = |index: usize| offers.gpus[index].candidate.name();
        let unfit =
            match choose(&offers.gpus, case, taken, (&demand, &scenario.profile), &scenario.slo) {
                Ok(chosen) => {
                    let unfit = chosen.unfit.clone();
                    match own(scenario, case, taken, &demand, &offers.gpus, chosen) {
                        Ok(lane) => lanes.push(lane),
                        Err((index, why)) => ruled_out.push((name(index), why.explained())),
                    }
                    unfit
                }
                Err(unfit) => unfit,
            };
        ruled_out.extend(unfit.into_iter().map(|(index, why)| (name(index), why.explained())));
    }
    Plan { demand, lanes, ruled_out }
}

/// How the scenario takes GPUs.
#[must_use]
pub fn taken(scenario: &Scenario) -> Option<Taken> {
    scenario.gpus.as_ref().map(|gpus| Taken { terms: gpus.terms, autoscale: gpus.autoscale })
}

/// What each month asks for.
#[must_use]
pub fn demand(scenario: &Scenario, case: &Case) -> Vec<Demand> {
    let first = scenario.start.map(|start| month_of_year(&start.day().to_string()));
    (0..scenario.months)
        .map(|month| {
            let season = first.map(|first| first + month as usize);
            Demand::of(case, &scenario.profile, month, season)
        })
        .collect()
}

/// The month of a day such as `2026-11-22`, January being 0.
fn month_of_year(day: &str) -> usize {
    let month = day.get(5..7).and_then(|month| month.parse::<usize>().ok());
    month.map_or(0, |month| month.saturating_sub(1))
}

fn own(
    scenario: &Scenario,
    case: &Case,
    taken: Taken,
    demand: &[Demand],
    offers: &[GpuOffer],
    chosen: Chosen,
) -> Result<Lane, (usize, Unfit)> {
    let Chosen { offer: index, capability: first, simulated, .. } = chosen;
    let offer = &offers[index];
    let profile = &scenario.profile;
    let computed = |demand: &Demand| demand.computed_lengths(case);
    let mut simulated_at = (first.clone(), computed(&demand[0]));
    let (mut months, mut rates) = (Vec::new(), Vec::new());
    let mut at_first = None;
    for (month, demand) in (0..).zip(demand) {
        let lengths = computed(demand);
        let far = |before: f64, now: f64| (now / before.max(1e-9) - 1.0).abs() > NEAR;
        if far(simulated_at.1.0, lengths.0) || far(simulated_at.1.1, lengths.1) {
            let mix = Mix::new(&demand.shapes, case, crate::capacity::CALLS);
            let anew = offer.capability(&mix, &scenario.slo).map_err(|why| (index, why))?;
            simulated_at = (anew, lengths);
        }
        let capability = if lengths == simulated_at.1 {
            simulated_at.0.clone()
        } else {
            let closed_form = offer.candidate.closed_form(lengths, &scenario.slo);
            let unfit = |why| (index, crate::CapacityError::from(why).into());
            simulated_at.0.moved_to(closed_form.map_err(unfit)?)
        };
        let rate = capability.highest.rate;
        rates.push(rate);
        let (fleet, cost) = offer.fleet(case, taken, (demand, profile), rate, month);
        months.push(offer.month(demand, &fleet, &cost, &capability));
        at_first.get_or_insert((fleet, cost));
    }
    let growth = growth(demand, &months);
    let own = at_first.map(|(fleet, cost)| {
        let peak = fleet.week.iter().map(|hour| hour.per_second).fold(0.0, f64::max);
        let bounds = first.bounds(peak, &scenario.slo);
        let longest = Mix::new(&demand[0].shapes, case, crate::capacity::CALLS).longest();
        let offered = offers.len();
        Own { capability: first, fleet, cost, rates, longest, bounds, simulated, offered }
    });
    Ok(Lane { name: offer.candidate.name(), offer: index, months, own, growth })
}

/// What made the last month's bill another than the first's: parts that sum to the difference.
fn growth(demand: &[Demand], months: &[Month]) -> Vec<(&'static str, PerMonth)> {
    let factors = |demand: &Demand, month: &Month| {
        let Demand { tasks, tasks_per_user, tokens, .. } = demand;
        let attempts = demand.attempts();
        let plain = tokens.total() - tokens.reasoning;
        let some = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        [
            ("users, with the season", some(*tasks, *tasks_per_user)),
            ("use per user", *tasks_per_user),
            ("calls per task (fan-out)", some(attempts, *tasks)),
            ("tokens per call, without reasoning", some(plain, attempts)),
            ("reasoning", some(tokens.total(), plain)),
            ("price of a token", some(month.bill.usd(), tokens.total())),
        ]
    };
    let (Some(first), Some(last)) =
        (demand.first().zip(months.first()), demand.last().zip(months.last()))
    else {
        return Vec::new();
    };
    let (before, after) = (factors(first.0, first.1), factors(last.0, last.1));
    let names = before.map(|(name, _)| name);
    let parts = parts_of_change(&before.map(|(_, value)| value), &after.map(|(_, value)| value));
    names.into_iter().zip(parts.into_iter().map(PerMonth::new)).collect()
}

impl Plan {
    /// The lane whose bills sum to the least.
    #[must_use]
    pub fn cheapest(&self) -> Option<&Lane> {
        let total = |lane: &Lane| lane.months.iter().map(|month| month.bill.usd()).sum::<f64>();
        self.lanes.iter().min_by(|one, other| total(one).total_cmp(&total(other)))
    }
}

impl Lane {
    /// What a token of use costs in a month, of any class.
    #[must_use]
    pub fn per_useful_mtok(&self, demand: &[Demand], month: usize) -> Option<PerMtok> {
        self.months.get(month)?.per_useful_mtok(demand.get(month)?)
    }

    /// What a useful token of output costs in a month, all told.
    #[must_use]
    pub fn per_useful_output_mtok(&self, demand: &[Demand], month: usize) -> Option<PerMtok> {
        let demand = demand.get(month)?;
        self.months.get(month)?.bill.per_mtok(demand.tokens.output() * demand.useful)
    }

    /// What a task costs in a month, and what one that succeeds does, if it is known how many do.
    #[must_use]
    pub fn per_task(
        &self,
        case: &Case,
        demand: &[Demand],
        month: usize,
    ) -> (Option<f64>, Option<f64>) {
        let both = self.months.get(month).zip(demand.get(month));
        both.map_or((None, None), |(month, demand)| month.per_task(demand, case.get(Var::Success)))
    }
}

/// Revenue of a month; `None` where a task brings none that is known.
#[must_use]
pub fn revenue(case: &Case, demand: &Demand) -> Option<f64> {
    Some(case.get(Var::Revenue)? * demand.tasks * case.get(Var::Success).unwrap_or(1.0))
}

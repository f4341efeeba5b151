//! The other way round: what would have to be true.

use crate::demand::Demand;
use crate::lane::Taken;
use crate::mix::Mix;
use crate::plan::{Lane, Offers, demand, revenue, taken};
use crate::scenario::{Case, Kind, Scenario, Var};

/// What one quantity would have to be for the target to be met, all else as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// The quantity.
    pub what: &'static str,
    /// What it is counted in.
    pub kind: Kind,
    /// What it is.
    pub now: f64,
    /// Where the target is just met; `None`: nowhere, by this alone.
    pub needed: Option<f64>,
    /// Whether it may be no more than that, rather than no less.
    pub at_most: bool,
}

/// Halvings of a search: far more than the digits that are shown, or as many as simulations may take.
const STEPS: [u32; 2] = [50, 8];

/// Token counts that a leaner task would have less of, all alike.
const LENGTHS: [Var; 7] =
    [Var::Input, Var::System, Var::Tools, Var::Context, Var::Message, Var::ToolResult, Var::Answer];

/// What would have to be true of a lane in the first month; nothing if there is no target.
#[must_use]
pub fn needs(scenario: &Scenario, case: &Case, offers: &Offers, lane: &Lane) -> Vec<Need> {
    let search = Search { scenario, case, offers, lane };
    let Some(demand) = demand(scenario, case).into_iter().next() else { return Vec::new() };
    if search.over(case).is_none() {
        return Vec::new();
    }
    let behind_api = lane.own.is_none();
    let tokens = |scale: f64| {
        let scaled = LENGTHS.into_iter().filter_map(|var| Some((var, case.get(var)?)));
        scaled.fold(*case, |case, (var, tokens)| case.with(var, tokens * scale))
    };
    let mut found = Vec::new();
    let mut add = |what, kind, now: f64, at_most, needed: Option<f64>| {
        found.push(Need { what, kind, now, needed, at_most });
    };
    if behind_api {
        let bill = lane.months.first().map_or(0.0, |month| month.bill.usd());
        let allowed = search.allowed(case, &demand);
        let scale =
            allowed.map(|allowed| allowed / bill).filter(|scale| *scale > 0.0 && scale.is_finite());
        add("price of a token, of what it is", Kind::Share, 1.0, true, scale);
    } else {
        let price = case.get(Var::GpuHour).unwrap_or_else(|| offers.gpus[lane.offer].price.usd());
        let needed = search.edge(0.0, price * 20.0, false, |price| case.with(Var::GpuHour, price));
        add("USD per GPU hour", Kind::UsdPerHour, price, true, needed);
    }
    let calls: f64 = demand.calls_per_task * (demand.mean_lengths().0 + demand.mean_lengths().1);
    let needed = search.edge(0.02, 20.0, !behind_api, tokens);
    add("tokens per task", Kind::Count, calls, true, needed.map(|scale| scale * calls));
    let hit = case.at(Var::Cached);
    let needed = search.edge(1.0, 0.0, !behind_api, |hit| case.with(Var::Cached, hit));
    add("input read from the prompt cache", Kind::Share, hit, false, needed);
    if scenario.target.gross_margin.is_some() {
        let revenue = case.at(Var::Revenue);
        let needed = search.edge(revenue * 1e3, 0.0, false, |usd| case.with(Var::Revenue, usd));
        add("revenue of a successful task, USD", Kind::Usd, revenue, false, needed);
    }
    if scenario.target.budget.is_some() {
        let (var, what) = match case.get(Var::Tasks) {
            Some(_) => (Var::Tasks, "tasks a month"),
            None => (Var::Users, "users"),
        };
        let now = case.at(var);
        let needed = search.edge(0.0, now * 1e3, false, |count| case.with(var, count));
        add(what, Kind::Count, now, true, needed);
    }
    found
}

struct Search<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    offers: &'a Offers,
    lane: &'a Lane,
}

impl Search<'_> {
    /// What a month may cost.
    fn allowed(&self, case: &Case, demand: &Demand) -> Option<f64> {
        let target = self.scenario.target;
        let by_margin =
            target.gross_margin.and_then(|margin| Some(revenue(case, demand)? * (1.0 - margin)));
        let by_budget = target.budget.map(|budget| budget.usd());
        [by_margin, by_budget].into_iter().flatten().min_by(f64::total_cmp)
    }

    /// By how much the first month costs more than it may; `None` if it cannot be served or nothing is aimed at.
    fn over(&self, case: &Case) -> Option<f64> {
        let first = Scenario { months: 1, ..self.scenario.clone() };
        let demands = demand(&first, case);
        let demand = demands.first()?;
        let allowed = self.allowed(case, demand)?;
        let bill = match &self.lane.own {
            None => self.offers.apis.get(self.lane.offer)?.month(case, demand, 0).ok()?.bill.usd(),
            Some(own) => {
                let offer = self.offers.gpus.get(self.lane.offer)?;
                let same = [Var::Cached, Var::Spread, Var::Burstiness].iter().chain(&LENGTHS);
                let same = same.into_iter().all(|var| case.get(*var) == self.case.get(*var));
                let rate = if same {
                    own.capability.highest.rate
                } else {
                    let mix = Mix::new(&demand.shapes, case, crate::capacity::CALLS);
                    offer.capability(&mix, &self.scenario.slo).ok()?.highest.rate
                };
                let taken: Taken = taken(self.scenario)?;
                let profile = &self.scenario.profile;
                offer.fleet(case, taken, (demand, profile), rate, 0).1.total().per_month().usd()
            }
        };
        Some(bill - allowed)
    }

    /// The value farthest from the end that is surely good at which the target is still met.
    fn edge(&self, good: f64, bad: f64, simulated: bool, at: impl Fn(f64) -> Case) -> Option<f64> {
        let meets = |value: f64| self.over(&at(value)).is_some_and(|over| over <= 0.0);
        if !meets(good) {
            return None;
        }
        if meets(bad) {
            return Some(bad);
        }
        let (mut good, mut bad) = (good, bad);
        // Lengths are halved by their ratio, for they may be of any size.
        let middle = |one: f64, other: f64| {
            if simulated && one * other > 0.0 {
                (one * other).sqrt()
            } else {
                f64::midpoint(one, other)
            }
        };
        for _ in 0..STEPS[usize::from(simulated)] {
            let between = middle(good, bad);
            if meets(between) { good = between } else { bad = between }
        }
        Some(good)
    }
}

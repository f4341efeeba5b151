//! Where a demand can be served, and what each month costs there.

use std::sync::{Mutex, PoisonError};

use crate::capacity::{CALLS, Candidate, CapacityError, Highest, Service};
use crate::costs::{HourlyCost, Paid, hourly_cost, hourly_total};
use crate::demand::{Demand, Tokens};
use crate::fleet::{Fleet, Loads, Schedule};
use crate::margin::quality_adjusted;
use crate::mix::Mix;
use crate::queueing::{Queue, square_root_staffing};
use crate::scenario::{Case, Profile, Slo, Terms, Var};
use crate::unit::{PerHour, PerMonth, PerMtok};

/// What an API takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenPrices {
    /// Input that is computed.
    pub input: PerMtok,
    /// Input read from the prompt cache.
    pub cached: PerMtok,
    /// Answers.
    pub answer: PerMtok,
    /// Reasoning.
    pub reasoning: PerMtok,
    /// US dollars for a call.
    pub call: f64,
}

/// Looks up what an API takes in a month from 0 for calls of so many input tokens; why not, in words.
pub type Prices = dyn Fn(u32, u64) -> Result<TokenPrices, String> + Send + Sync;

/// A model behind an API.
pub struct ApiOffer {
    /// What it is called.
    pub name: String,
    /// Its prices, with those that are known to change.
    pub prices: Box<Prices>,
}

/// A setup on GPUs. It remembers what it was found to do with calls, so that a plan that differs in nothing but money simulates
/// nothing again.
#[derive(Debug, Clone)]
pub struct GpuOffer {
    /// What would serve.
    pub candidate: Candidate,
    /// What a GPU costs by the hour; of owned ones nothing.
    pub price: PerHour,
    /// Where that price is from.
    pub source: String,
    /// Kilowatts that a GPU may draw with its share of the server.
    pub kilowatts: f64,
    /// What was found, begins empty.
    pub found: Found,
}

/// What a setup was found to do, by the calls and the SLO.
#[derive(Debug, Default)]
pub struct Found(Mutex<Vec<Simulated>>);

impl Clone for Found {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.all().clone()))
    }
}

impl Found {
    /// Whoever panicked while it held them had them whole.
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Simulated>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Simulated = (Mix, Slo, Result<Capability, Unfit>);

/// How GPUs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How they are paid.
    pub terms: Terms,
    /// Whether replicas come and go with the hour.
    pub autoscale: bool,
}

impl Taken {
    pub(crate) const fn schedule(self) -> Schedule {
        match (self.terms.are_by_use(), self.autoscale) {
            (true, true) => Schedule::Autoscaled,
            (true, false) => Schedule::Fixed,
            (false, _) => Schedule::Owned,
        }
    }
}

/// A part of a month's bill with the tokens that it is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// What caused it.
    pub name: &'static str,
    /// What it costs.
    pub cost: PerMonth,
    /// Useful tokens of its class; `None` where it is of no class.
    pub useful: Option<f64>,
}

impl Part {
    /// Its cost by useful tokens of its class.
    #[must_use]
    pub fn per_mtok(&self) -> Option<PerMtok> {
        self.cost.per_mtok(self.useful?)
    }
}

/// A month somewhere. Its parts sum to the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Month {
    /// What it costs.
    pub bill: PerMonth,
    /// By what caused it.
    pub parts: Vec<Part>,
    /// GPUs that serve in the peak hour, spare ones included; `None` behind an API.
    pub gpus: Option<u32>,
}

impl Month {
    /// What a useful token of any class costs, all told.
    #[must_use]
    pub fn per_useful_mtok(&self, demand: &Demand) -> Option<PerMtok> {
        self.bill.per_mtok(demand.tokens.total() * demand.useful)
    }

    /// What a task costs, and what one that succeeds does, if it is known how many do.
    #[must_use]
    pub fn per_task(&self, demand: &Demand, success: Option<f64>) -> (Option<f64>, Option<f64>) {
        let each = (demand.tasks > 0.0).then(|| self.bill.usd() / demand.tasks);
        let succeeds = each.zip(success);
        (each, succeeds.and_then(|(each, rate)| quality_adjusted(each, rate)))
    }
}

pub(crate) fn class_parts(tokens: Tokens, useful: f64, costs: [f64; 3]) -> Vec<Part> {
    let of =
        [("input", tokens.input), ("cached input", tokens.cached), ("output", tokens.output())];
    let parts = of.into_iter().zip(costs).map(|((name, tokens), usd)| Part {
        name,
        cost: PerMonth::new(usd),
        useful: Some(tokens * useful),
    });
    parts.filter(|part| part.useful != Some(0.0) || part.cost > PerMonth::ZERO).collect()
}

impl ApiOffer {
    /// What unsure changes make of its prices until a month.
    pub(crate) fn drift(case: &Case, month: u32) -> f64 {
        libm::pow(1.0 + case.at(Var::PriceGrowth), f64::from(month))
    }

    /// What a month from 0 costs.
    ///
    /// # Errors
    /// Why there is no price.
    pub fn month(&self, case: &Case, demand: &Demand, month: u32) -> Result<Month, String> {
        self.month_at(case, demand, month, Self::drift(case, month))
    }

    /// What a demand costs at the prices of a month from 0, times a factor.
    ///
    /// # Errors
    /// Why there is no price.
    pub fn month_at(
        &self,
        case: &Case,
        demand: &Demand,
        month: u32,
        drift: f64,
    ) -> Result<Month, String> {
        Self::month_by(|length| (self.prices)(month, length), case, demand, drift)
    }

    /// What a demand costs at prices by the input tokens of a call, times a factor.
    pub(crate) fn month_by(
        prices: impl Fn(u64) -> Result<TokenPrices, String>,
        case: &Case,
        demand: &Demand,
        drift: f64,
    ) -> Result<Month, String> {
        let (costs, fees) = api_costs_at(case, demand, drift, prices)?;
        let mut parts = class_parts(demand.tokens, demand.useful, costs);
        if fees > 0.0 {
            parts.push(Part { name: "fees per call", cost: PerMonth::new(fees), useful: None });
        }
        let bill = parts.iter().map(|part| part.cost).sum();
        Ok(Month { bill, parts, gpus: None })
    }
}

/// What input, cached input and output of a month cost behind an API, and calls as such, by its prices for calls of so many
/// input tokens.
pub(crate) fn api_costs(
    case: &Case,
    demand: &Demand,
    month: u32,
    prices: impl Fn(u64) -> Result<TokenPrices, String>,
) -> Result<([f64; 3], f64), String> {
    api_costs_at(case, demand, ApiOffer::drift(case, month), prices)
}

fn api_costs_at(
    case: &Case,
    demand: &Demand,
    drift: f64,
    prices: impl Fn(u64) -> Result<TokenPrices, String>,
) -> Result<([f64; 3], f64), String> {
    let (mut costs, mut fees) = ([0.0; 3], 0.0);
    for shape in &demand.shapes {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let length = shape.input.round() as u64;
        let prices = prices(length)?;
        let calls = shape.calls * demand.tasks * demand.attempts_per_call;
        let cached = shape.input * case.at(Var::Cached);
        let usd = |tokens: f64, price: PerMtok| tokens * calls * price.usd() * drift / 1e6;
        costs[0] += usd(shape.input - cached, prices.input);
        costs[1] += usd(cached, prices.cached);
        costs[2] += usd(shape.answer, prices.answer) + usd(shape.reasoning, prices.reasoning);
        fees += calls * prices.call * drift;
    }
    Ok((costs, fees))
}

/// What a replica of a setup does with calls of one mix.
#[derive(Debug, Clone, PartialEq)]
pub struct Capability {
    /// At the highest rate that meets the SLO.
    pub highest: Service,
    /// At lower rates, ascending; the highest is the last.
    levels: Vec<Service>,
    /// The most calls a second in closed form, which no waiting is in.
    pub closed_form: f64,
}

/// What stands in the way of a setup.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be simulated.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// Even calls that come one by one do not keep the SLO.
    #[error("the SLO cannot be met at any rate")]
    Slo(Service),
    /// A call is longer than a sequence may be.
    #[error("a call of {found} tokens is longer than the {most} that fit there")]
    TooLong {
        /// The longest of the calls that were drawn.
        found: u32,
        /// The most.
        most: u32,
    },
}

impl Unfit {
    /// What stands in the way, with the best that there is.
    pub(crate) fn explained(&self) -> String {
        let Self::Slo(best) = self else { return self.to_string() };
        let time = |seconds: Option<f64>| {
            seconds.map_or("none".to_owned(), |seconds| format!("{:.0} ms", seconds * 1e3))
        };
        format!(
            "the SLO cannot be met; the best, for calls that come one by one, is TTFT {} and TPOT {}",
            time(best.ttft_s),
            time(best.tpot_s)
        )
    }
}

/// Shares of the highest rate at which the time of a replica is looked at.
const LEVELS: [f64; 3] = [0.1, 0.35, 0.7];

impl GpuOffer {
    /// What a replica does with the calls of a demand.
    ///
    /// # Errors
    /// [`Unfit`]: what stands in the way.
    pub fn capability(&self, mix: &Mix, slo: &Slo) -> Result<Capability, Unfit> {
        let before = self
            .found
            .all()
            .iter()
            .find(|found| found.0 == *mix && found.1 == *slo)
            .map(|found| found.2.clone());
        if let Some(before) = before {
            return before;
        }
        let found = self.simulate(mix, slo);
        self.found.all().push((mix.clone(), *slo, found.clone()));
        found
    }

    fn simulate(&self, mix: &Mix, slo: &Slo) -> Result<Capability, Unfit> {
        self.fits(mix)?;
        let closed_form =
            self.candidate.closed_form(mix.computed(), slo).map_err(CapacityError::from)?;
        let highest = match self.candidate.highest_rate(mix, slo)? {
            Highest::Rate(service) => service,
            Highest::Never(best) => return Err(Unfit::Slo(best)),
        };
        let levels = LEVELS.into_iter().map(|share| {
            let service = self.candidate.serve(mix, slo, highest.rate * share);
            service.map_err(CapacityError::from)
        });
        let mut levels = levels.collect::<Result<Vec<_>, _>>()?;
        levels.push(highest);
        Ok(Capability { highest, levels, closed_form })
    }

    fn fits(&self, mix: &Mix) -> Result<(), Unfit> {
        let (found, most) = (mix.longest(), self.candidate.longest());
        if found > most { Err(Unfit::TooLong { found, most }) } else { Ok(()) }
    }

    /// The fleet for a demand, and what an hour of it costs in a month from 0.
    #[must_use]
    pub fn fleet(
        &self,
        case: &Case,
        taken: Taken,
        (demand, profile): (&Demand, &Profile),
        highest: f64,
        month: u32,
    ) -> (Fleet, HourlyCost) {
        let fleet = Fleet::of(case, taken.schedule(), &demand.per_second(profile), highest);
        let cost = self.cost(case, taken, &fleet, month);
        (fleet, cost)
    }

    /// What an hour of a fleet costs in a month from 0.
    #[must_use]
    pub fn cost(&self, case: &Case, taken: Taken, fleet: &Fleet, month: u32) -> HourlyCost {
        hourly_cost(case, &self.paid(case, taken, fleet.paid), month)
    }

    /// The bill of the fleet for a demand, without looking at its hours one by one.
    pub(crate) fn bill(
        &self,
        case: &Case,
        taken: Taken,
        (demand, loads): (&Demand, &Loads),
        highest: f64,
        month: u32,
    ) -> PerMonth {
        let paid = loads.paid(case, taken.schedule(), demand.mean_per_second(), highest);
        hourly_total(case, &self.paid(case, taken, paid), month).per_month()
    }

    fn paid(&self, case: &Case, taken: Taken, replicas: f64) -> Paid {
        Paid {
            gpus: replicas * f64::from(self.candidate.gpus()),
            terms: taken.terms,
            price: case.get(Var::GpuHour).map_or(self.price, PerHour::new),
            kilowatts: self.kilowatts,
        }
    }

    /// A month whose cost is divided by the GPU time that input and output caused; the rest is idle, and a line of its own.
    #[must_use]
    pub fn month(
        &self,
        demand: &Demand,
        fleet: &Fleet,
        cost: &HourlyCost,
        capability: &Capability,
    ) -> Month {
        let bill = cost.total().per_month();
        let busy = |of: fn(&Service) -> f64| {
            let hours = fleet.week.iter().map(|hour| {
                let each = hour.per_second / f64::from(hour.replicas.max(1));
                f64::from(hour.replicas) * capability.at(each, of)
            });
            (hours.sum::<f64>() / fleet.week.len() as f64 / fleet.paid).min(1.0)
        };
        let (input, output) = (busy(|service| service.input), busy(|service| service.output));
        let usd = bill.usd();
        // What is read from a prefix cache takes no time of its own.
        let costs = [usd * input, 0.0, usd * output];
        let mut parts = class_parts(demand.tokens, demand.useful, costs);
        let used: PerMonth = parts.iter().map(|part| part.cost).sum();
        parts.push(Part { name: "idle", cost: bill - used, useful: None });
        let gpus = Some(fleet.most().saturating_mul(self.candidate.gpus()));
        Month { bill, parts, gpus }
    }
}

impl Capability {
    /// The same for calls of somewhat other lengths: all rates move as their closed form does.
    #[must_use]
    pub fn moved_to(&self, closed_form: f64) -> Self {
        let factor = closed_form / self.closed_form;
        let moved = |service: &Service| Service { rate: service.rate * factor, ..*service };
        let levels = self.levels.iter().map(moved).collect();
        Self { highest: moved(&self.highest), levels, closed_form }
    }

    /// The share of a replica's time at a rate, between those that were simulated.
    fn at(&self, rate: f64, of: fn(&Service) -> f64) -> f64 {
        let mut below = (0.0, 0.0);
        for level in &self.levels {
            let above = (level.rate, of(level));
            if rate <= above.0 {
                return below.1
                    + (above.1 - below.1) * (rate - below.0)
                        / (above.0 - below.0).max(f64::MIN_POSITIVE);
            }
            below = above;
        }
        below.1
    }

    /// The same with all rates so many times what they are.
    pub(crate) fn times(&self, factor: f64) -> Self {
        self.moved_to(self.closed_form * factor)
    }

    /// Mean seconds for each further token that the SLO's share of calls keeps at a rate, between those that were simulated.
    pub(crate) fn tpot_s(&self, rate: f64) -> Option<f64> {
        let above = self.levels.iter().position(|level| level.rate >= rate);
        let above = above.or(self.levels.len().checked_sub(1))?;
        let (low, high) = (self.levels[above.saturating_sub(1)], self.levels[above]);
        let (low_s, high_s) = (low.tpot_s?, high.tpot_s?);
        let span = (high.rate - low.rate).max(f64::MIN_POSITIVE);
        let share = ((rate - low.rate) / span).clamp(0.0, 1.0);
        Some(low_s + (high_s - low_s) * share)
    }

    /// What queueing theory says beside it: replicas for the peak if slots were servers that any call may take.
    #[must_use]
    pub fn bounds(&self, peak: f64, slo: &Slo) -> Bounds {
        let Service { rate, latency_s, .. } = self.highest;
        let slots = (rate * latency_s).max(1.0);
        let limit = slo.ttft_s.unwrap_or(f64::INFINITY);
        let erlang = Queue::fewest(peak, latency_s, slo.share, limit);
        let replicas = |servers: u32| ceil(f64::from(servers) / slots);
        Bounds {
            throughput: ceil(peak / self.closed_form),
            erlang_c: erlang.map(replicas),
            square_root: replicas(square_root_staffing(peak * latency_s, 1.0)),
        }
    }
}

/// Replicas by closed forms, beside those of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The peak over the most that a replica could serve: no fewer will do.
    pub throughput: u32,
    /// Erlang C over the slots of all replicas together, each as many as it serves at a time at its highest rate; `None`
    /// beyond a million slots.
    pub erlang_c: Option<u32>,
    /// Square-root staffing of the same slots.
    pub square_root: u32,
}

fn ceil(count: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = count.ceil() as u32;
    whole
}

/// Which of several setups is the cheapest over all months.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its place among the offers.
    pub offer: usize,
    /// What a replica of it does.
    pub capability: Capability,
    /// How many setups were simulated; the closed form ruled out the others.
    pub simulated: usize,
    /// Setups that cannot serve, by their place, with the reason.
    pub unfit: Vec<(usize, Unfit)>,
}

/// How far above the closed form of a mean call a mix may be served: calls differ, and it is not exact.
const OPTIMISM: f64 = 1.25;

/// Chooses among setups. Each has a bill that it cannot go below, by its closed form; they are simulated from the lowest such
/// bill on until the best that was found is below all that is left.
///
/// # Errors
/// Why each of them cannot serve, if none can.
pub fn choose(
    offers: &[GpuOffer],
    case: &Case,
    taken: Taken,
    (demands, profile): (&[Demand], &Profile),
    slo: &Slo,
) -> Result<Chosen, Vec<(usize, Unfit)>> {
    let mix = demands.first().map(|demand| Mix::new(&demand.shapes, case, CALLS));
    let Some(mix) = mix else { return Err(Vec::new()) };
    let loads = Loads::of(profile);
    let total = |offer: &GpuOffer, highest: f64| -> f64 {
        let bill = |(month, demand)| offer.bill(case, taken, (demand, &loads), highest, month);
        (0..).zip(demands).map(bill).sum::<PerMonth>().usd()
    };
    let mut unfit = Vec::new();
    let mut order = Vec::new();
    for (index, offer) in offers.iter().enumerate() {
        let most = offer.fits(&mix).and_then(|()| {
            let most = offer.candidate.closed_form(mix.computed(), slo);
            most.map_err(|error| CapacityError::from(error).into())
        });
        match most {
            Ok(most) => order.push((total(offer, most * OPTIMISM), index)),
            Err(why) => unfit.push((index, why)),
        }
    }
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut best: Option<(f64, usize, Capability)> = None;
    let mut simulated = 0;
    for (least, index) in order {
        if best.as_ref().is_some_and(|(bill, ..)| least >= *bill) {
            break;
        }
        simulated += 1;
        match offers[index].capability(&mix, slo) {
            Ok(capability) => {
                let bill = total(&offers[index], capability.highest.rate);
                if best.as_ref().is_none_or(|(best, ..)| bill < *best) {
                    best = Some((bill, index, capability));
                }
            }
            Err(why) => unfit.push((index, why)),
        }
    }
    match best {
        Some((_, offer, capability)) => Ok(Chosen { offer, capability, simulated, unfit }),
        None => Err(unfit),
    }
}

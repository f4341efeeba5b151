//! What each offer costs for a load, and what of its promises that load would break.

use std::sync::{PoisonError, RwLock};

use super::offer::{BaseLoad, BaseSize, Offer, Serving, Stated, Units};
use super::quotes::Quotes;
use crate::capacity::CALLS;
use crate::costs::{HourlyCost, Paid, hourly_cost};
use crate::demand::{Demand, Tokens};
use crate::fleet::Fleet;
use crate::lane::{ApiOffer, Capability, Chosen, GpuOffer, Month, Part, Taken, choose};
use crate::mix::Mix;
use crate::outlook::ApiChoice;
use crate::outlook::grid::Grid;
use crate::scenario::{Case, HOURS_OF_WEEK, Profile, Slo, Terms, Var};
use crate::unit::{HOURS_PER_MONTH, PerHour, PerMonth};

/// What an offer is served by, looked up.
pub enum Place {
    /// An API with the prices that are paid.
    Api(ApiOffer),
    /// Setups on GPUs, of which the cheapest is taken.
    Gpus(Vec<GpuOffer>),
    /// Nothing beyond what the offer says.
    AsOffered,
}

/// Calls to be served: how many of which kind in a month, and how they come through the week.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The month's calls.
    pub demand: Demand,
    /// Calls a second in each hour of the week.
    pub week: [f64; HOURS_OF_WEEK],
}

impl Load {
    /// What a month asks for.
    #[must_use]
    pub fn of(demand: &Demand, profile: &Profile) -> Self {
        Self { demand: demand.clone(), week: demand.per_second(profile) }
    }

    /// So many times as much, at all hours.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self { demand: self.demand.times(factor), week: self.week.map(|rate| rate * factor) }
    }

    /// What is served up to a rate in each hour, and the rest.
    fn split_at(&self, rate: f64) -> (Self, Self) {
        let low = self.week.map(|hour| hour.min(rate));
        let all: f64 = self.week.iter().sum();
        let share = if all > 0.0 { low.iter().sum::<f64>() / all } else { 1.0 };
        let high = std::array::from_fn(|hour| self.week[hour] - low[hour]);
        (
            Self { demand: self.demand.times(share), week: low },
            Self { demand: self.demand.times((1.0 - share).max(0.0)), week: high },
        )
    }

    pub(super) fn peak(&self) -> f64 {
        self.week.iter().copied().fold(0.0, f64::max)
    }
}

/// Whether the limits on time are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// There are none.
    NoSlo,
    /// A simulation shows it.
    Simulated,
    /// The vendor states it.
    Stated,
    /// The vendor states nothing of this.
    NotStated(Vec<&'static str>),
    /// It is not, by what the vendor states.
    Broken(String),
}

impl Kept {
    /// Of two parts together.
    fn with(self, other: Self) -> Self {
        let order = |kept: &Self| match kept {
            Self::NoSlo => 0,
            Self::Simulated => 1,
            Self::Stated => 2,
            Self::NotStated(_) => 3,
            Self::Broken(_) => 4,
        };
        if order(&other) > order(&self) { other } else { self }
    }
}

/// A limit that a load would go beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct Break {
    /// Of which offer.
    pub offer: String,
    /// What is limited.
    pub what: &'static str,
    /// What the load needs.
    pub needed: f64,
    /// What there is.
    pub allowed: f64,
    /// The month from 0.
    pub month: u32,
}

/// A load served in a month.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// What it costs.
    pub month: Month,
    /// What of that is paid to whom; the rest is one's own work, power and machines.
    pub vendors: Vec<(String, PerMonth)>,
    /// Limits that it goes beyond.
    pub breaks: Vec<Break>,
    /// Whether the SLO is kept.
    pub kept: Kept,
    /// The share of tasks that succeed.
    pub success: Option<f64>,
    /// The score that is stated.
    pub quality: Option<f64>,
    /// Tokens a second for a user: as stated, or what the SLO's share of calls gets in the peak hour.
    pub tokens_per_s: Option<f64>,
    /// Units of provisioned throughput.
    pub units: Option<u32>,
}

/// What a vendor does to those who depend on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shock<'a> {
    /// Who; `None`: nobody.
    pub vendor: Option<&'a str>,
    /// Prices become so many times what they are.
    pub prices: f64,
    /// Limits on requests and tokens do.
    pub limits: f64,
    /// The longest call does.
    pub context: f64,
    /// Whether it still states how fast it serves.
    pub guarantee: bool,
}

impl Shock<'_> {
    /// All stays as it is.
    pub const NONE: Self =
        Self { vendor: None, prices: 1.0, limits: 1.0, context: 1.0, guarantee: true };
}

/// The offers with all that is known of them; GPUs are simulated once.
pub struct Market<'a> {
    pub(super) quotes: &'a Quotes,
    places: &'a [Place],
    chosen: Vec<Option<OnSetup<'a>>>,
    /// Prices of APIs, looked up for all months.
    prices: Vec<Option<ApiChoice>>,
    pub(super) ruled_out: Vec<(usize, String)>,
    longest: u32,
}

/// The setup that was chosen for an offer on GPUs, and what a replica does by mean lengths of calls.
struct OnSetup<'a> {
    chosen: Chosen,
    at_lengths: RwLock<Vec<((f64, f64), Capability)>>,
    grid: Grid<'a>,
}

/// A month of a case in which something is served.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) case: &'a Case,
    pub(super) month: u32,
    pub(super) shock: &'a Shock<'a>,
    /// What GPUs serve of what was simulated, in a draw, where nothing is simulated anew; `None`: all as it is likely.
    pub(super) luck: Option<f64>,
}

/// Calls whose lengths changed by more than this are simulated anew, as in a plan.
const NEAR: f64 = 0.2;

impl<'a> Market<'a> {
    /// Looks up prices, and chooses setups for the offers on GPUs.
    #[must_use]
    pub fn open(quotes: &'a Quotes, places: &'a [Place], case: &Case, demands: &[Demand]) -> Self {
        let ends = [demands.first(), demands.last()].into_iter().flatten();
        let longest = ends.map(|demand| Mix::new(&demand.shapes, case, CALLS).longest()).max();
        let longest = longest.unwrap_or(0);
        let months = u32::try_from(demands.len()).unwrap_or(u32::MAX);
        let prices = places.iter().map(|place| match place {
            Place::Api(api) => Some(ApiChoice::new(api, months)),
            _ => None,
        });
        let prices = prices.collect();
        let (chosen, ruled_out) = (Vec::new(), Vec::new());
        let mut market = Self { quotes, places, chosen, prices, ruled_out, longest };
        for (index, offer) in quotes.offers.iter().enumerate() {
            let chosen = match (&offer.serving, &places[index]) {
                (Serving::Gpus(on), Place::Gpus(setups)) => {
                    let taken = Taken { terms: on.gpus.terms, autoscale: on.gpus.autoscale };
                    let case = market.case(index, case);
                    let scenario = &quotes.scenario;
                    let load = (demands, &scenario.profile);
                    match choose(setups, &case, taken, load, &scenario.slo) {
                        Ok(chosen) => Some(chosen),
                        Err(unfit) => {
                            let why = unfit.iter().map(|(setup, why)| {
                                format!("{}: {}", setups[*setup].candidate.name(), why.explained())
                            });
                            let why: Vec<_> = why.collect();
                            market.ruled_out.push((
                                index,
                                match why.is_empty() {
                                    true => "no setup of it can be had".to_owned(),
                                    false => why.join("; "),
                                },
                            ));
                            None
                        }
                    }
                }
                _ => None,
            };
            let chosen = chosen.and_then(|chosen| {
                let Place::Gpus(setups) = &places[index] else { return None };
                let grid = Grid::new(setups.get(chosen.offer)?, &quotes.scenario.slo);
                Some((chosen, grid))
            });
            market.chosen.push(chosen.map(|(chosen, grid)| {
                let first = demands.first().map(|demand| lengths(demand, case));
                let known = (first.unwrap_or_default(), chosen.capability.clone());
                OnSetup { chosen, at_lengths: RwLock::new(vec![known]), grid }
            }));
        }
        market
    }

    /// Tokens of the longest call that was drawn.
    #[must_use]
    pub const fn longest(&self) -> u32 {
        self.longest
    }

    pub(super) fn offer(&self, index: usize) -> &Offer {
        &self.quotes.offers[index]
    }

    pub(super) fn chosen(&self, index: usize) -> Option<(&GpuOffer, &Chosen)> {
        let (Some(on), Place::Gpus(setups)) = (&self.chosen[index], &self.places[index]) else {
            return None;
        };
        Some((setups.get(on.chosen.offer)?, &on.chosen))
    }

    /// The setup that serves an offer on GPUs.
    #[must_use]
    pub fn setup(&self, index: usize) -> Option<&GpuOffer> {
        self.chosen(index).map(|(setup, _)| setup)
    }

    pub(super) fn api(&self, index: usize) -> Option<&ApiOffer> {
        match &self.places[index] {
            Place::Api(api) => Some(api),
            _ => None,
        }
    }

    /// Who is paid for an offer.
    pub(super) fn vendor(&self, index: usize) -> &str {
        let offer = self.offer(index);
        offer.vendor.as_deref().unwrap_or(&offer.name)
    }

    /// The case as it is with an offer: where others do the work, none of the scenario's costs is left.
    pub(super) fn case(&self, index: usize, case: &Case) -> Case {
        let offer = self.offer(index);
        let mut case = case.without(Var::GpuHour).without(Var::Interruptions);
        let own_work = matches!(&offer.serving, Serving::Gpus(on) if !on.managed);
        for &var in Var::ALL {
            let is_cost = var.spec().key.starts_with("costs.") && var != Var::TuningMonths;
            if is_cost && !own_work {
                case = case.without(var);
            }
        }
        offer.own.iter().fold(case, |case, (var, value)| case.with(*var, *value))
    }

    /// A load served by an offer.
    pub(super) fn serve(&self, index: usize, at: At<'_>, load: &Load) -> Result<Served, String> {
        let offer = self.offer(index);
        match &offer.serving {
            Serving::Api(api) => {
                let list = self.prices[index].as_ref().ok_or("its prices were not looked up")?;
                let held = at.month < api.holds_months;
                let (priced, drift) = match held {
                    true => (0, 1.0),
                    false => (at.month, ApiOffer::drift(at.case, at.month)),
                };
                let drift = drift * self.price(index, at);
                let prices = |length: u64| list.price(priced, length);
                let mut month = ApiOffer::month_by(prices, at.case, &load.demand, drift)?;
                let minimum = api.minimum * self.price(index, at);
                if month.bill < minimum {
                    let cost = minimum - month.bill;
                    month.parts.push(Part { name: "minimum, not used", cost, useful: None });
                    month.bill = minimum;
                }
                Ok(self.behind_api(index, at, load, month))
            }
            Serving::Provisioned(units) => Ok(self.provisioned(index, *units, at, load)),
            Serving::Gpus(_) => self.on_gpus(index, at, load, 1),
            Serving::Mix(parts) => {
                let parts = parts
                    .iter()
                    .map(|(part, share)| Ok((*share, self.serve(*part, at, &load.times(*share))?)));
                Ok(self.together(index, parts.collect::<Result<_, String>>()?))
            }
            Serving::Base(base) => self.base(index, *base, at, load),
        }
    }

    fn price(&self, index: usize, at: At<'_>) -> f64 {
        if at.shock.vendor == Some(self.vendor(index)) { at.shock.prices } else { 1.0 }
    }

    /// What a vendor states under a shock.
    fn stated(&self, index: usize, shock: &Shock<'_>) -> Stated {
        let stated = self.offer(index).stated.clone();
        if shock.vendor != Some(self.vendor(index)) {
            return stated;
        }
        let times = |limit: Option<f64>, factor: f64| limit.map(|limit| limit * factor);
        Stated {
            requests_per_min: times(stated.requests_per_min, shock.limits),
            tokens_per_min: times(stated.tokens_per_min, shock.limits),
            context: times(stated.context, shock.context),
            ttft_s: stated.ttft_s.filter(|_| shock.guarantee),
            tokens_per_s: stated.tokens_per_s.filter(|_| shock.guarantee),
            ..stated
        }
    }

    /// A month behind somebody's API, with what one does for it oneself.
    fn behind_api(&self, index: usize, at: At<'_>, load: &Load, mut month: Month) -> Served {
        let paid = month.bill;
        let case = self.case(index, at.case);
        let none = Paid { gpus: 0.0, terms: Terms::OnDemand, price: PerHour::ZERO, kilowatts: 0.0 };
        let own: HourlyCost = hourly_cost(&case, &none, at.month);
        for item in own.items {
            let cost = item.cost.per_month();
            month.bill = month.bill + cost;
            month.parts.push(Part { name: item.name, cost, useful: None });
        }
        let stated = self.stated(index, at.shock);
        Served {
            month,
            vendors: vec![(self.vendor(index).to_owned(), paid)],
            breaks: self.breaks(index, &stated, at, load),
            kept: kept(&self.quotes.scenario.slo, &stated),
            success: case.get(Var::Success),
            quality: stated.quality,
            tokens_per_s: stated.tokens_per_s,
            units: None,
        }
    }

    fn provisioned(&self, index: usize, units: Units, at: At<'_>, load: &Load) -> Served {
        let demand = &load.demand;
        let Tokens { input, cached, .. } = demand.tokens;
        let output = demand.tokens.output();
        let weighted = [input, cached * units.cached_weight, output * units.output_weight];
        let minutes = HOURS_PER_MONTH * 60.0;
        let mean = weighted.iter().sum::<f64>() / minutes;
        let calls = demand.attempts() / minutes / 60.0;
        let to_peak = if calls > 0.0 { load.peak() / calls } else { 0.0 };
        let needed = mean * to_peak * (1.0 + at.case.at(Var::Headroom)) / units.tokens_per_min;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let whole = (needed.ceil() as u32).max(units.at_least);
        let count = units.fixed.unwrap_or(whole);
        let bill = (units.price * f64::from(count)).per_month() * self.price(index, at);
        let each = bill.usd() / (f64::from(count) * units.tokens_per_min * minutes);
        let costs = weighted.map(|tokens| tokens * each);
        let used: f64 = costs.iter().sum();
        // Units that are too few are full; what they cannot serve is told as broken.
        let fit = if used > bill.usd() { bill.usd() / used } else { 1.0 };
        let mut parts =
            crate::lane::class_parts(demand.tokens, demand.useful, costs.map(|usd| usd * fit));
        let idle = bill - PerMonth::new(used * fit);
        parts.push(Part { name: "idle", cost: idle, useful: None });
        let mut served = self.behind_api(index, at, load, Month { bill, parts, gpus: None });
        served.units = Some(count);
        if whole > count {
            let (needed, allowed) = (f64::from(whole), f64::from(count));
            served.breaks.push(self.broken(index, "units of throughput", needed, allowed, at));
        }
        served
    }

    /// A load on the GPUs of an offer, of which so many replicas at least are for load.
    fn on_gpus(&self, index: usize, at: At<'_>, load: &Load, least: u32) -> Result<Served, String> {
        let Serving::Gpus(on) = &self.offer(index).serving else {
            return Err("it is not on GPUs".to_owned());
        };
        let (setup, _) = self.chosen(index).ok_or("no setup of it can serve this")?;
        let capability = self.capability(index, at, &load.demand)?;
        let case = self.case(index, at.case);
        let case = case.with(Var::GpuHour, setup.price.usd() * self.price(index, at));
        let taken = Taken { terms: on.gpus.terms, autoscale: on.gpus.autoscale };
        let highest = capability.highest.rate;
        let fleet = Fleet::at_least(least, &case, taken.schedule(), &load.week, highest);
        let cost = setup.cost(&case, taken, &fleet, at.month);
        let month = setup.month(&load.demand, &fleet, &cost, &capability);
        let rent = cost.items.iter().filter(|item| item.name == "GPUs, rent");
        let rent: PerHour = rent.map(|item| item.cost).sum();
        let stated = self.stated(index, at.shock);
        let slo = &self.quotes.scenario.slo;
        let none = slo.ttft_s.is_none() && slo.tpot_s.is_none();
        let busiest =
            fleet.week.iter().map(|hour| hour.per_second / f64::from(hour.replicas.max(1)));
        let tpot = capability.tpot_s(busiest.fold(0.0, f64::max)).filter(|seconds| *seconds > 0.0);
        Ok(Served {
            month,
            vendors: match rent > PerHour::ZERO {
                true => vec![(self.vendor(index).to_owned(), rent.per_month())],
                false => Vec::new(),
            },
            breaks: self.breaks(index, &stated, at, load),
            kept: if none { Kept::NoSlo } else { Kept::Simulated },
            success: case.get(Var::Success),
            quality: stated.quality,
            tokens_per_s: tpot.map(f64::recip),
            units: None,
        })
    }

    /// What a replica does with the calls of a month.
    fn capability(&self, index: usize, at: At<'_>, demand: &Demand) -> Result<Capability, String> {
        let (Some(on), Some((setup, _))) = (&self.chosen[index], self.chosen(index)) else {
            return Err("no setup of it can serve this".to_owned());
        };
        let slo = &self.quotes.scenario.slo;
        let now = lengths(demand, at.case);
        let far = |(one, other): (f64, f64)| (one / other.max(1e-9) - 1.0).abs();
        let off = |known: &(f64, f64)| far((now.0, known.0)).max(far((now.1, known.1)));
        let nearest = {
            let known = on.at_lengths.read().unwrap_or_else(PoisonError::into_inner);
            let nearest = known.iter().min_by(|one, other| off(&one.0).total_cmp(&off(&other.0)));
            nearest.map(|(lengths, capability)| (*lengths, off(lengths), capability.clone()))
        };
        match nearest {
            Some((lengths, off, capability)) if at.luck.is_some() => {
                let moved = match off {
                    0.0 => 1.0,
                    _ => on.grid.rate(now)? / on.grid.rate(lengths)?,
                };
                Ok(capability.times(moved * at.luck.unwrap_or(1.0)))
            }
            Some((_, 0.0, capability)) => Ok(capability),
            Some((_, off, capability)) if off <= NEAR => {
                let closed_form = setup.candidate.closed_form(now, slo);
                Ok(capability.moved_to(closed_form.map_err(|error| error.to_string())?))
            }
            _ => {
                let mix = Mix::new(&demand.shapes, at.case, CALLS);
                let found = setup.capability(&mix, slo).map_err(|why| why.explained())?;
                let mut known = on.at_lengths.write().unwrap_or_else(PoisonError::into_inner);
                known.push((now, found.clone()));
                Ok(found)
            }
        }
    }

    fn base(
        &self,
        index: usize,
        base: BaseLoad,
        at: At<'_>,
        load: &Load,
    ) -> Result<Served, String> {
        let rate = self.capability(base.base, at, &load.demand)?.highest.rate;
        let headroom = 1.0 + self.case(base.base, at.case).at(Var::Headroom);
        let replicas = match base.size {
            BaseSize::Replicas(replicas) => replicas,
            BaseSize::Quantile(share) => {
                let mut hours = load.week;
                hours.sort_by(f64::total_cmp);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of the hours"
                )]
                let last = ((share * HOURS_OF_WEEK as f64).ceil() as usize).max(1) - 1;
                let all = hours[last.min(HOURS_OF_WEEK - 1)] * headroom / rate;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates"
                )]
                let whole = (all.ceil() as u32).max(1);
                whole
            }
        };
        // A hair less, so that rounding asks for no replica more.
        let most = f64::from(replicas) * rate / headroom * (1.0 - 1e-9);
        let (low, high) = load.split_at(most);
        let share =
            if load.demand.tasks > 0.0 { low.demand.tasks / load.demand.tasks } else { 1.0 };
        let on_base = self.on_gpus(base.base, at, &low, replicas)?;
        let beyond = self.serve(base.peak, at, &high)?;
        Ok(self.together(index, vec![(share, on_base), (1.0 - share, beyond)]))
    }

    /// Parts of a mix with their shares of the calls.
    fn together(&self, index: usize, parts: Vec<(f64, Served)>) -> Served {
        let mean = |of: fn(&Served) -> Option<f64>| {
            let some = parts.iter().map(|(share, part)| Some(of(part)? * share));
            some.sum::<Option<f64>>()
        };
        let (success, quality) = (mean(|part| part.success), mean(|part| part.quality));
        let slowest = parts.iter().map(|(_, part)| part.tokens_per_s);
        let slowest = slowest.collect::<Option<Vec<_>>>();
        let tokens_per_s = slowest.and_then(|all| all.into_iter().min_by(f64::total_cmp));
        let mut whole = Served {
            month: Month { bill: PerMonth::ZERO, parts: Vec::new(), gpus: None },
            vendors: Vec::new(),
            breaks: Vec::new(),
            kept: Kept::NoSlo,
            success,
            quality: self.offer(index).stated.quality.or(quality),
            tokens_per_s,
            units: None,
        };
        for (_, served) in parts {
            whole.month.bill = whole.month.bill + served.month.bill;
            whole.month.gpus = match (whole.month.gpus, served.month.gpus) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            };
            for part in served.month.parts {
                match whole.month.parts.iter_mut().find(|known| known.name == part.name) {
                    Some(known) => {
                        known.cost = known.cost + part.cost;
                        known.useful =
                            known.useful.zip(part.useful).map(|(one, other)| one + other);
                    }
                    None => whole.month.parts.push(part),
                }
            }
            for (vendor, paid) in served.vendors {
                match whole.vendors.iter_mut().find(|(known, _)| *known == vendor) {
                    Some((_, known)) => *known = *known + paid,
                    None => whole.vendors.push((vendor, paid)),
                }
            }
            whole.breaks.extend(served.breaks);
            whole.kept = whole.kept.with(served.kept);
            whole.units = whole.units.or(served.units);
        }
        whole
    }

    /// Stated limits that a load goes beyond in its peak hour, with the headroom that is asked for.
    fn breaks(&self, index: usize, stated: &Stated, at: At<'_>, load: &Load) -> Vec<Break> {
        let peak = load.peak() * (1.0 + at.case.at(Var::Headroom)) * 60.0;
        let (input, output) = load.demand.mean_lengths();
        let longest = if load.demand.tasks > 0.0 { f64::from(self.longest) } else { 0.0 };
        let limits = [
            ("requests a minute", peak, stated.requests_per_min),
            ("tokens a minute", peak * (input + output), stated.tokens_per_min),
            ("tokens of a call", longest, stated.context),
        ];
        let broken = limits.into_iter().filter_map(|(what, needed, allowed)| {
            let allowed = allowed.filter(|allowed| needed > *allowed)?;
            Some(self.broken(index, what, needed, allowed, at))
        });
        broken.collect()
    }

    fn broken(
        &self,
        index: usize,
        what: &'static str,
        needed: f64,
        allowed: f64,
        at: At<'_>,
    ) -> Break {
        Break { offer: self.offer(index).name.clone(), what, needed, allowed, month: at.month }
    }
}

/// Mean lengths of what is computed of a call: input that is not read from the cache, and output.
fn lengths(demand: &Demand, case: &Case) -> (f64, f64) {
    let (input, output) = demand.mean_lengths();
    (input * (1.0 - case.at(Var::Cached)), output)
}

/// Whether what is stated keeps an SLO.
fn kept(slo: &Slo, stated: &Stated) -> Kept {
    let tpot = stated.tokens_per_s.map(f64::recip);
    let limits = [("TTFT", slo.ttft_s, stated.ttft_s), ("TPOT", slo.tpot_s, tpot)];
    let limits: Vec<_> =
        limits.into_iter().filter_map(|(name, limit, told)| Some((name, limit?, told))).collect();
    if limits.is_empty() {
        return Kept::NoSlo;
    }
    for (name, limit, told) in &limits {
        if let Some(told) = told.filter(|told| told > limit) {
            let [told, limit] = [told, *limit].map(|seconds| format!("{:.0} ms", seconds * 1e3));
            return Kept::Broken(format!("{name} {told}, {limit} allowed"));
        }
    }
    let unknown = limits.iter().filter(|(.., told)| told.is_none()).map(|(name, ..)| *name);
    let unknown: Vec<_> = unknown.collect();
    if unknown.is_empty() { Kept::Stated } else { Kept::NotStated(unknown) }
}

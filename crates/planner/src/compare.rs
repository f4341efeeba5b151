//! Offers compared: what each costs for the same workload, what it breaks, and from which volume it pays to own.

mod choices;
mod market;
mod offer;
mod quotes;
mod risk;
mod value;
mod volume;

pub use choices::OfferChoice;
pub use market::{Break, Kept, Load, Market, Place, Served, Shock};
pub use offer::{Api, BaseLoad, BaseSize, Offer, OnGpus, Serving, Stated, Units};
pub use quotes::{Quotes, Require, Risk, RouteNeed, Spend};
pub use risk::{Exposure, SecondSource, Shaken, VendorRisk};
pub use value::{Fit, dominates};
pub use volume::{Against, AtVolume, Constraint, Volumes};

use crate::demand::Demand;
use crate::lane::{Month, TokenPrices};
use crate::plan::{Own, demand};
use crate::scenario::{Case, Var};
use crate::unit::{PerMonth, PerMtok};
use market::At;

/// What offers come to.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What each month asks for.
    pub demand: Vec<Demand>,
    /// Offers that have a price, the cheapest over all months first.
    pub quoted: Vec<Quoted>,
    /// Offers that have none, by their place in the file, with the reason.
    pub ruled_out: Vec<(usize, String)>,
    /// What the volume does, and from when owning wins.
    pub volumes: Volumes,
    /// Vendors that may change their minds.
    pub risk: VendorRisk,
    /// For each need of a route, the cheapest admissible offer that has it, by its place among the quoted.
    pub needs: Vec<Option<usize>>,
    /// Tokens of the longest call that was drawn.
    pub longest: u32,
}

/// An offer with what it costs.
#[derive(Debug, Clone)]
pub struct Quoted {
    /// Its place in the file.
    pub offer: usize,
    /// What it is called.
    pub name: String,
    /// What is written: `api`, `gpus`.
    pub kind: &'static str,
    /// Each month from 0.
    pub months: Vec<Month>,
    /// The first month, with all that is known of it.
    pub first: Served,
    /// Limits that are broken, each in the first month in which it is.
    pub breaks: Vec<Break>,
    /// Required terms that it does not keep, or does not state.
    pub barred: Vec<String>,
    /// GPUs in the first month.
    pub own: Option<Own>,
    /// What an hour of a GPU costs, and who says so.
    pub gpu_price: Option<(f64, String)>,
    /// Changes of its list prices that the book knows.
    pub scheduled: Vec<Scheduled>,
    /// Whether no other offer with all three values is as good in each of them and better in one; `None`: a value is not known.
    pub pareto: Option<bool>,
}

/// A change of a price that is known before it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// The first month from 0 that begins with it.
    pub month: u32,
    /// The class of tokens.
    pub class: &'static str,
    /// USD a million tokens until then.
    pub before: PerMtok,
    /// And from then on.
    pub after: PerMtok,
}

/// One price of several.
type Price = fn(&TokenPrices) -> PerMtok;

/// Prices a workload on all offers.
#[must_use]
pub fn compare(market: &Market<'_>, case: &Case) -> Comparison {
    let quotes = market.quotes;
    let demands = demand(&quotes.scenario, case);
    let mut ruled_out = market.ruled_out.clone();
    let mut quoted = Vec::new();
    for index in 0..quotes.offers.len() {
        if ruled_out.iter().any(|(out, _)| *out == index) {
            continue;
        }
        match market.quoted(index, case, &demands) {
            Ok(one) => quoted.push(one),
            Err(why) => ruled_out.push((index, why)),
        }
    }
    quoted.sort_by(|one, other| one.total().usd().total_cmp(&other.total().usd()));
    value::mark_pareto(&mut quoted, &demands);
    let needs = quotes.needs.iter().map(|need| value::cheapest_for(need, &quoted)).collect();
    let volumes = volume::volumes(market, case, &demands, &quoted);
    let risk = risk::vendor_risk(market, case, &demands, &quoted);
    let longest = market.longest();
    Comparison { demand: demands, quoted, ruled_out, volumes, risk, needs, longest }
}

impl Market<'_> {
    /// What each month of an offer costs.
    ///
    /// # Errors
    /// Why it has no price.
    pub fn bills(
        &self,
        offer: usize,
        case: &Case,
        demands: &[Demand],
    ) -> Result<Vec<PerMonth>, String> {
        let months = self.months(offer, case, demands, &Shock::NONE)?;
        Ok(months.into_iter().map(|served| served.month.bill).collect())
    }

    pub(crate) fn months(
        &self,
        offer: usize,
        case: &Case,
        demands: &[Demand],
        shock: &Shock<'_>,
    ) -> Result<Vec<Served>, String> {
        let profile = &self.quotes.scenario.profile;
        let each = (0..).zip(demands).map(|(month, demand)| {
            self.serve(offer, At { case, month, shock, luck: None }, &Load::of(demand, profile))
        });
        each.collect()
    }

    fn quoted(&self, index: usize, case: &Case, demands: &[Demand]) -> Result<Quoted, String> {
        let offer = self.offer(index);
        let served = self.months(index, case, demands, &Shock::NONE)?;
        let first = served.first().cloned().ok_or("there is no month to serve")?;
        let mut breaks: Vec<Break> = Vec::new();
        for broken in served.iter().flat_map(|served| &served.breaks) {
            let same =
                |known: &&mut Break| known.what == broken.what && known.offer == broken.offer;
            match breaks.iter_mut().find(same) {
                // What would be needed in the end is what to ask for.
                Some(known) => known.needed = known.needed.max(broken.needed),
                None => breaks.push(broken.clone()),
            }
        }
        let load = demands.first().map(|demand| Load::of(demand, &self.quotes.scenario.profile));
        let own = load.and_then(|load| self.own(index, case, &load));
        let gpu_price =
            self.chosen(index).map(|(setup, _)| (setup.price.usd(), setup.source.clone()));
        Ok(Quoted {
            offer: index,
            name: offer.name.clone(),
            kind: offer.serving.kind(),
            months: served.into_iter().map(|served| served.month).collect(),
            first,
            breaks,
            barred: self.barred(index),
            own,
            gpu_price,
            scheduled: self.scheduled(index, demands),
            pareto: None,
        })
    }

    /// Required terms that an offer, or a part of it, does not keep or state.
    fn barred(&self, index: usize) -> Vec<String> {
        let offer = self.offer(index);
        if offer.serving.parts().next().is_some() {
            let parts: Vec<usize> = offer.serving.parts().collect();
            let of_part = |part: &usize| {
                let name = &self.offer(*part).name;
                self.barred(*part).into_iter().map(move |why| format!("{name}: {why}"))
            };
            return parts.iter().flat_map(of_part).collect();
        }
        let (require, stated) = (&self.quotes.require, &offer.stated);
        // What runs on one's own GPUs is kept and used as one likes.
        let mine = matches!(&offer.serving, Serving::Gpus(on) if !on.managed);
        let mut barred = Vec::new();
        match &stated.region {
            _ if require.region.is_empty() => {}
            Some(region) if require.region.contains(region) => {}
            Some(region) => barred.push(format!("region {region}")),
            None => barred.push("region not stated".to_owned()),
        }
        if let Some(most) = require.retention_days {
            match stated.retention_days {
                Some(days) if days > most => barred.push(format!("keeps data {days} days")),
                None if !mine => barred.push("retention not stated".to_owned()),
                _ => {}
            }
        }
        if require.training == Some(false) {
            match stated.trains_on_data {
                Some(true) => barred.push("trains on data".to_owned()),
                None if !mine => barred.push("training on data not stated".to_owned()),
                _ => {}
            }
        }
        barred
    }

    /// Changes of list prices from month to month, at the mean length of a call.
    fn scheduled(&self, index: usize, demands: &[Demand]) -> Vec<Scheduled> {
        let (Some(api), Some(first)) = (self.api(index), demands.first()) else {
            return Vec::new();
        };
        let holds = match &self.offer(index).serving {
            Serving::Api(api) => api.holds_months,
            _ => 0,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let length = first.mean_lengths().0.round() as u64;
        let at = |month: u32| (api.prices)(if month < holds { 0 } else { month }, length).ok();
        let months = u32::try_from(demands.len()).unwrap_or(u32::MAX);
        let classes: [(&str, Price); 3] = [
            ("input", |prices| prices.input),
            ("cached input", |prices| prices.cached),
            ("output", |prices| prices.answer),
        ];
        let changes = (1..months).filter_map(|month| Some((month, at(month - 1)?, at(month)?)));
        let changes = changes.flat_map(|(month, before, after)| {
            let each = classes.iter().map(move |(class, price)| Scheduled {
                month,
                class,
                before: price(&before),
                after: price(&after),
            });
            each.filter(|change| change.before != change.after).collect::<Vec<_>>()
        });
        changes.collect()
    }
}

impl Comparison {
    /// The cheapest offer that is admissible over all months: nothing is known to stand against it.
    #[must_use]
    pub fn best(&self) -> Option<&Quoted> {
        self.quoted.iter().find(|one| one.is_admissible())
    }

    /// Offers that could be taken: the admissible ones, or all if none is.
    pub fn choices(&self) -> impl Iterator<Item = &Quoted> {
        let none = self.best().is_none();
        self.quoted.iter().filter(move |one| none || one.is_admissible())
    }

    /// The cheapest admissible offer whose SLO is known to be kept.
    #[must_use]
    pub fn best_known(&self) -> Option<&Quoted> {
        let sure = |one: &&Quoted| !matches!(one.first.kept, Kept::NotStated(_));
        self.quoted.iter().filter(|one| one.is_admissible()).find(sure)
    }
}

impl Quoted {
    /// What all months cost together.
    #[must_use]
    pub fn total(&self) -> PerMonth {
        self.months.iter().map(|month| month.bill).sum()
    }

    /// The mean month.
    #[must_use]
    pub fn mean(&self) -> PerMonth {
        self.total() * (1.0 / self.months.len().max(1) as f64)
    }

    /// Whether nothing is known that stands against it: no limit breaks, no term is missing, and no limit on time is known not
    /// to be kept.
    #[must_use]
    pub fn is_admissible(&self) -> bool {
        self.breaks.is_empty()
            && self.barred.is_empty()
            && !matches!(self.first.kept, Kept::Broken(_))
    }

    /// What useful tokens of a class cost in the first month: `input`, `cached input`, `output`.
    #[must_use]
    pub fn per_mtok(&self, class: &str) -> Option<PerMtok> {
        self.first.month.parts.iter().find(|part| part.name == class)?.per_mtok()
    }

    /// What a useful token of any class costs in the first month, all told.
    #[must_use]
    pub fn per_useful_mtok(&self, demand: &[Demand]) -> Option<PerMtok> {
        self.first.month.per_useful_mtok(demand.first()?)
    }

    /// What a thousand calls cost in the first month, those made again being paid by the others.
    #[must_use]
    pub fn per_thousand(&self, demand: &[Demand]) -> Option<f64> {
        let calls = demand.first()?.calls();
        (calls > 0.0).then(|| self.first.month.bill.usd() / calls * 1e3)
    }

    /// What a task costs in the first month, and what one that succeeds does, if it is known how many do.
    #[must_use]
    pub fn per_task(&self, demand: &[Demand]) -> (Option<f64>, Option<f64>) {
        let per_task = |demand| self.first.month.per_task(demand, self.first.success);
        demand.first().map_or((None, None), per_task)
    }
}

impl Market<'_> {
    /// GPUs of an offer for a load.
    fn own(&self, index: usize, case: &Case, load: &Load) -> Option<Own> {
        let (setup, chosen) = self.chosen(index)?;
        let Serving::Gpus(on) = &self.offer(index).serving else { return None };
        let case = self.case(index, case).with(Var::GpuHour, setup.price.usd());
        let taken = crate::Taken { terms: on.gpus.terms, autoscale: on.gpus.autoscale };
        let highest = chosen.capability.highest.rate;
        let fleet = crate::Fleet::of(&case, taken.schedule(), &load.week, highest);
        let cost = setup.cost(&case, taken, &fleet, 0);
        let bounds = chosen.capability.bounds(load.peak(), &self.quotes.scenario.slo);
        let (simulated, offered) = (chosen.simulated, chosen.unfit.len() + 1);
        let capability = chosen.capability.clone();
        let (rates, longest) = (vec![highest], self.longest());
        Some(Own { capability, fleet, cost, rates, longest, bounds, simulated, offered })
    }
}

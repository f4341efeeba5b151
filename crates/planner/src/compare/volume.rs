//! What the volume does to bills, and from where on GPUs cost no more than an API.

use super::Quoted;
use super::market::{At, Load, Market, Shock};
use super::offer::{OnGpus, Serving};
use crate::break_even::{BreakEven, Linear, steps_below};
use crate::demand::Demand;
use crate::scenario::{Case, Var};
use crate::unit::PerMonth;

/// Bills by volume, and where GPUs win.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Volumes {
    /// All offers at multiples of the first month's volume.
    pub at: Vec<AtVolume>,
    /// The same close by close, in which the steps of whole machines are seen.
    pub curve: Vec<AtVolume>,
    /// Each offer on GPUs against each API.
    pub against: Vec<Against>,
}

/// The first month's bills at another volume.
#[derive(Debug, Clone, PartialEq)]
pub struct AtVolume {
    /// Of the first month's volume.
    pub times: f64,
    /// Of each offer that was quoted, in their order; `None`: it has no price there.
    pub bills: Vec<Option<PerMonth>>,
}

/// An offer on GPUs against an API, all else as it is in the first month.
#[derive(Debug, Clone, PartialEq)]
pub struct Against {
    /// The GPUs' place among the quoted.
    pub gpus: usize,
    /// The API's.
    pub api: usize,
    /// Volumes at which the GPUs cost no more, in multiples of the first month's.
    pub wins: BreakEven,
    /// What a million tokens cost on GPUs that are as full as the SLO and the peaks allow, without what does not grow.
    pub full_usd_per_mtok: f64,
    /// What the API takes for them.
    pub api_usd_per_mtok: f64,
    /// What the GPUs' bill has that does not grow with the volume: people, tuning, spare replicas.
    pub fixed: PerMonth,
    /// Why GPUs never win for good, if they do not.
    pub never: Option<Constraint>,
    /// The first month from 0 from which on they cost no more in any month of the plan.
    pub turns: Option<u32>,
}

/// What keeps GPUs from winning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// Were the load the same at all hours, they would.
    Peaks,
    /// Not even full at all hours: a GPU costs more than the API takes for what it serves within the SLO.
    Throughput,
}

/// Multiples of the first month's volume that are shown.
const MULTIPLES: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
/// Volumes of the curve.
const CURVE: usize = 200;
/// Steps of the GPUs' bill that are looked at.
const MOST_STEPS: usize = 20_000;
/// A volume of so many replicas shows what one more costs.
const MANY_REPLICAS: f64 = 1e6;

pub(super) fn volumes(
    market: &Market<'_>,
    case: &Case,
    demands: &[Demand],
    quoted: &[Quoted],
) -> Volumes {
    let Some(first) = demands.first() else { return Volumes::default() };
    let load = Load::of(first, &market.quotes.scenario.profile);
    let at_volume = |times: f64| {
        let bills = quoted.iter().map(|one| market.bill_at(one.offer, case, &load, times));
        AtVolume { times, bills: bills.collect() }
    };
    let at = MULTIPLES.map(at_volume);
    let (least, most) = (MULTIPLES[0], MULTIPLES[MULTIPLES.len() - 1]);
    let step = libm::log(most / least) / (CURVE - 1) as f64;
    let curve = (0..CURVE).map(|place| at_volume(least * libm::exp(step * place as f64))).collect();
    let mut against = Vec::new();
    for (gpus, one) in quoted.iter().enumerate() {
        let Serving::Gpus(on) = &market.offer(one.offer).serving else { continue };
        for (api, other) in quoted.iter().enumerate() {
            if !matches!(market.offer(other.offer).serving, Serving::Api(_)) {
                continue;
            }
            let pair = (gpus, one, on, api, other);
            against.extend(market.against(pair, case, &load));
        }
    }
    Volumes { at: at.into(), curve, against }
}

impl Market<'_> {
    /// What an offer takes for the first month at so many times its volume.
    #[must_use]
    pub fn bill_at(&self, offer: usize, case: &Case, load: &Load, times: f64) -> Option<PerMonth> {
        let at = At { case, month: 0, shock: &Shock::NONE, luck: None };
        Some(self.serve(offer, at, &load.times(times)).ok()?.month.bill)
    }

    fn against(
        &self,
        (gpus, one, on, api, other): (usize, &Quoted, &OnGpus, usize, &Quoted),
        case: &Case,
        load: &Load,
    ) -> Option<Against> {
        let tokens = load.demand.tokens.total() / 1e6;
        let (peak, mean) = (load.peak(), load.demand.attempts() / crate::HOURS_PER_MONTH / 3600.0);
        if !(tokens > 0.0 && mean > 0.0) {
            return None;
        }
        let own = |times: f64| self.bill_at(one.offer, case, load, times).map(PerMonth::usd);
        let line = self.linear(other.offer, case, load)?;
        let headroom = 1.0 + self.case(one.offer, case).at(Var::Headroom);
        let rate = one.own.as_ref()?.capability.highest.rate / headroom;
        // One more replica is needed where an hour's load goes beyond what so many serve; with a fixed fleet only the peak hour's.
        let mut hours: Vec<f64> = match on.gpus.autoscale {
            true => load.week.iter().copied().filter(|hour| *hour > 0.0).collect(),
            false => vec![peak],
        };
        hours.sort_by(f64::total_cmp);
        hours.dedup_by(|one, other| (*one - *other).abs() <= 1e-12 * peak);
        let many = MANY_REPLICAS * rate / peak;
        let full = own(many)? / many;
        let least = own(rate / peak * 0.5)?;
        // Beyond that GPUs surely win: what whole replicas cost beyond their share is no more than a few of them.
        let surely = 3.0 * least / (line.each - full);
        let wins_at_last = line.each > full && surely.is_finite();
        let until =
            if wins_at_last { surely } else { line.minimum / line.each.max(f64::MIN_POSITIVE) };
        let most = (until / (rate / peak)).min(MOST_STEPS as f64 / hours.len() as f64);
        let mut edges = Vec::new();
        for hour in &hours {
            let mut replicas = 1.0;
            while replicas * peak / hour <= most + 1.0 {
                edges.push(replicas * rate / hour);
                replicas += 1.0;
            }
        }
        edges.sort_by(f64::total_cmp);
        edges.dedup_by(|one, other| *one - *other <= 1e-9 * *other);
        let mut from = 0.0;
        let mut steps = Vec::with_capacity(edges.len());
        for edge in edges {
            steps.push((edge, own(f64::midpoint(from, edge))?));
            from = edge;
        }
        let wins = steps_below(&steps, &line, wins_at_last.then_some(until));
        let never = (!wins_at_last).then(|| {
            let flat = full * mean / peak;
            if !on.gpus.autoscale && flat < line.each {
                Constraint::Peaks
            } else {
                Constraint::Throughput
            }
        });
        let months = one.months.iter().zip(&other.months);
        let loses = months.map(|(own, api)| own.bill > api.bill).rposition(|loses| loses);
        let turns = loses.map_or(0, |last| last + 1);
        let turns = (turns < one.months.len()).then(|| u32::try_from(turns).unwrap_or(u32::MAX));
        Some(Against {
            gpus,
            api,
            wins,
            full_usd_per_mtok: full / tokens,
            api_usd_per_mtok: line.each / tokens,
            fixed: PerMonth::new((least - full * rate / peak).max(0.0)),
            never,
            turns,
        })
    }

    /// An API's bill as a line: by the volume, but no less than a minimum, and something that does not change.
    fn linear(&self, offer: usize, case: &Case, load: &Load) -> Option<Linear> {
        let Serving::Api(api) = &self.offer(offer).serving else { return None };
        let nothing = self.bill_at(offer, case, load, 0.0)?.usd();
        let paid = api.minimum.usd();
        let use_ = self.api(offer)?.month_at(case, &load.demand, 0, 1.0).ok()?.bill.usd();
        Some(Linear { fixed: nothing - paid, each: use_, minimum: paid })
    }
}

//! Vendors that change their minds: what a bill becomes, who could stand in, and when a second source pays.

use super::Quoted;
use super::market::{Kept, Market, Served, Shock};
use crate::demand::Demand;
use crate::margin::concentration;
use crate::scenario::Case;
use crate::unit::PerMonth;

/// What hangs on vendors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VendorRisk {
    /// Each quoted offer with each vendor that it pays.
    pub exposures: Vec<Exposure>,
    /// Of each quoted offer, the Herfindahl-Hirschman index of what it pays to vendors in the first month; `None`: it pays none.
    pub concentration: Vec<Option<f64>>,
    /// Whether a second source beside the cheapest admissible offer pays; `None`: there is no vendor, or nobody to stand in.
    pub second: Option<SecondSource>,
}

/// What an offer's bill becomes if one of its vendors changes its mind. Bills are those of the mean month.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// The offer's place among the quoted.
    pub quoted: usize,
    /// The vendor.
    pub vendor: String,
    /// With twice the price.
    pub doubled: PerMonth,
    /// With half the limits on requests and tokens.
    pub limits: Shaken,
    /// With half the context.
    pub context: Shaken,
    /// Without what it states of its speed.
    pub guarantee: Shaken,
    /// The cheapest admissible offer that does not pay it, by its place among the quoted.
    pub substitute: Option<usize>,
}

/// What a change does to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shaken {
    /// There is nothing to change: the vendor states no such thing.
    Nothing,
    /// It still serves.
    Holds,
    /// It does not serve the peak, or the longest calls, any more; or nobody states any more that it keeps the SLO.
    Breaks,
}

/// A second source for a share of calls, beside the cheapest admissible offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecondSource {
    /// The offer that stands in, by its place among the quoted.
    pub substitute: usize,
    /// The concentration with it.
    pub concentration: f64,
    /// What it costs more in a mean month; less than nothing if it is cheaper.
    pub premium: PerMonth,
    /// What a doubled price costs until one has moved, if nothing else is ready.
    pub avoided: f64,
    /// The chance in a year from which it pays; `None`: at none.
    pub pays_from: Option<f64>,
    /// The largest share of calls at which it pays by the chance that is assumed, from 0 to 1.
    pub most_share: f64,
}

impl SecondSource {
    /// The concentration from which a second source pays: that of the largest share which is worth it; `None`: no share is, of
    /// those that keep it ready.
    #[must_use]
    pub fn threshold(&self, least_share: f64) -> Option<f64> {
        let share = self.most_share.min(0.5);
        (share >= least_share).then_some(share * share + (1.0 - share) * (1.0 - share))
    }
}

pub(super) fn vendor_risk(
    market: &Market<'_>,
    case: &Case,
    demands: &[Demand],
    quoted: &[Quoted],
) -> VendorRisk {
    let pays =
        |one: &Quoted, vendor: &str| one.first.vendors.iter().any(|(name, _)| name == vendor);
    let substitute = |vendor: &str, not: usize| {
        let mut all = quoted.iter().enumerate();
        let fits = |(index, one): &(usize, &Quoted)| {
            *index != not && one.is_admissible() && !pays(one, vendor)
        };
        all.find(fits).map(|(index, _)| index)
    };
    let mut exposures = Vec::new();
    for (index, one) in quoted.iter().enumerate() {
        for (vendor, _) in &one.first.vendors {
            let under = |shock: Shock<'_>| {
                let shock = Shock { vendor: Some(vendor), ..shock };
                market.months(one.offer, case, demands, &shock).unwrap_or_default()
            };
            let usd = |months: &[Served]| -> PerMonth {
                let sum: PerMonth = months.iter().map(|served| served.month.bill).sum();
                sum * (1.0 / months.len().max(1) as f64)
            };
            let states = |what: fn(&super::Stated) -> bool| {
                market
                    .leaves(one.offer)
                    .iter()
                    .any(|leaf| market.vendor(*leaf) == vendor && what(&market.offer(*leaf).stated))
            };
            let broken =
                |months: &[Served]| months.iter().map(|served| served.breaks.len()).sum::<usize>();
            let as_it_is = broken(&under(Shock::NONE));
            let shaken = |stated: bool, shock: Shock<'_>| match stated {
                false => Shaken::Nothing,
                true if broken(&under(shock)) > as_it_is => Shaken::Breaks,
                true => Shaken::Holds,
            };
            let speed =
                |stated: &super::Stated| stated.ttft_s.is_some() || stated.tokens_per_s.is_some();
            let silent = under(Shock { guarantee: false, ..Shock::NONE });
            let kept = silent.first().map(|served| &served.kept);
            exposures.push(Exposure {
                quoted: index,
                vendor: vendor.clone(),
                doubled: usd(&under(Shock { prices: 2.0, ..Shock::NONE })),
                limits: shaken(
                    states(|stated| {
                        stated.requests_per_min.is_some() || stated.tokens_per_min.is_some()
                    }),
                    Shock { limits: 0.5, ..Shock::NONE },
                ),
                context: shaken(
                    states(|stated| stated.context.is_some()),
                    Shock { context: 0.5, ..Shock::NONE },
                ),
                guarantee: match (states(speed), kept) {
                    (false, _) | (_, None) => Shaken::Nothing,
                    (true, Some(Kept::NotStated(_) | Kept::Broken(_))) => Shaken::Breaks,
                    (true, Some(_)) => Shaken::Holds,
                },
                substitute: substitute(vendor, index),
            });
        }
    }
    let of_vendors = |one: &Quoted| {
        let spend: Vec<f64> = one.first.vendors.iter().map(|(_, paid)| paid.usd()).collect();
        concentration(&spend)
    };
    let second = quoted.iter().position(Quoted::is_admissible).and_then(|best| {
        let one = &quoted[best];
        let (vendor, _) =
            one.first.vendors.iter().max_by(|one, other| one.1.usd().total_cmp(&other.1.usd()))?;
        let exposure =
            exposures.iter().find(|known| known.quoted == best && known.vendor == *vendor)?;
        let substitute = exposure.substitute?;
        let risk = &market.quotes.risk;
        let dearer = quoted[substitute].mean() - one.mean();
        let avoided = (exposure.doubled - one.mean()).usd() * risk.switch_months;
        let share = risk.second_share;
        let premium = dearer * share;
        let yearly = premium.usd() * 12.0;
        let most_share = match dearer.usd() > 0.0 {
            true => (risk.chance * avoided / (12.0 * dearer.usd())).min(1.0),
            false => 1.0,
        };
        Some(SecondSource {
            substitute,
            concentration: share * share + (1.0 - share) * (1.0 - share),
            premium,
            avoided,
            pays_from: (avoided > 0.0 && yearly <= avoided).then(|| (yearly / avoided).max(0.0)),
            most_share,
        })
    });
    let concentration = quoted.iter().map(of_vendors).collect();
    VendorRisk { exposures, concentration, second }
}

impl Market<'_> {
    /// The offers that an offer is made of in the end.
    #[must_use]
    pub fn leaves(&self, index: usize) -> Vec<usize> {
        let parts: Vec<usize> = self.offer(index).serving.parts().collect();
        match parts.is_empty() {
            true => vec![index],
            false => parts.into_iter().flat_map(|part| self.leaves(part)).collect(),
        }
    }
}

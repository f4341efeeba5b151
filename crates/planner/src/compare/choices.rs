//! Offers as choices of an outlook: what each costs in any case.

use super::market::{At, Load, Market, Shock};
use crate::outlook::{Accuracy, Choice, Draw};
use crate::unit::PerMonth;

/// An offer that can be priced in any draw. On GPUs the rate of a replica moves with the lengths of calls as the closed form
/// does, and with the luck of the serving model.
pub struct OfferChoice<'a> {
    market: &'a Market<'a>,
    offer: usize,
    accuracy: Option<Accuracy>,
}

impl<'a> Market<'a> {
    /// An offer as a choice, with how far off what its GPUs serve may be. Of a mix that is what its part on GPUs has.
    #[must_use]
    pub fn choice(&'a self, offer: usize, accuracy: Option<Accuracy>) -> OfferChoice<'a> {
        OfferChoice { market: self, offer, accuracy }
    }
}

impl Choice for OfferChoice<'_> {
    fn name(&self) -> &str {
        &self.market.offer(self.offer).name
    }

    fn bills(&self, draw: &Draw<'_>, bills: &mut [PerMonth]) -> Result<(), String> {
        let luck = self.accuracy.map_or(1.0, |accuracy| accuracy.factor(draw.serving));
        let profile = &self.market.quotes.scenario.profile;
        for ((month, demand), bill) in (0..).zip(draw.demand).zip(bills) {
            let at = At { case: draw.case, month, shock: &Shock::NONE, luck: Some(luck) };
            let served = self.market.serve(self.offer, at, &Load::of(demand, profile))?;
            *bill = served.month.bill;
        }
        Ok(())
    }

    fn accuracy(&self) -> Option<Accuracy> {
        self.accuracy
    }
}

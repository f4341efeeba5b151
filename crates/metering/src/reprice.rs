//! What settled attempts would cost by another book, for another model or on another tier.

use facts::{Adjustment, Attempt, Booked, Charged, Dispatch};
use quantity::{Doubt, Money, UnixTime, UsageSource};
use tariff::{Book, PriceRow};

use crate::price::{Served, charge_at};

/// What is supposed instead of what was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Supposed<'a> {
    /// A provider and its model, instead of those that served.
    pub served_by: Option<(&'a str, &'a str)>,
    /// A tier, instead of the one that served.
    pub tier: Option<&'a str>,
    /// Prices in force at this instant, instead of those when it was dispatched. The hour and the
    /// weekday stay those of the dispatch.
    pub in_force: Option<UnixTime>,
}

/// A settled attempt by the token, priced anew.
#[derive(Debug, Clone)]
pub struct Repriced<'b> {
    /// What is booked for it so far; `None` if it had no price.
    pub booked: Option<Booked>,
    /// What it costs now and by which row, or why it has no price.
    pub now: Result<(Booked, &'b PriceRow), String>,
}

/// Prices a settled attempt as it would be priced if it were settled now: the same usage, the model,
/// tier and region that served, the price in force when it was dispatched, as it is known now. `adjusted` is
/// the sum of its adjustments so far, if it has any.
///
/// `None` for what no book can price: what ran by the hour, was not billed, or consumed nobody knows
/// what.
#[must_use]
pub fn reprice<'b>(
    book: &'b Book,
    attempt: &Attempt,
    adjusted: Option<&Booked>,
    supposed: &Supposed<'_>,
) -> Option<Repriced<'b>> {
    let Attempt { dispatch, end } = attempt;
    let metered = &end.metered;
    let told = metered.source != UsageSource::Unknown;
    if matches!(end.charged, Charged::Hosted | Charged::NotBilled)
        || !told
        || metered.doubts.contains(Doubt::MixedModels)
    {
        return None;
    }
    let booked = Booked::of(&end.charged);
    let booked = match (booked, adjusted) {
        (Some(charge), Some(adjusted)) => Some(Booked {
            row: adjusted.row,
            contracted: charge.contracted + adjusted.contracted,
            list: charge.list + adjusted.list,
        }),
        (charge, adjusted) => charge.or(adjusted.copied()),
    };
    let (tier, at) = (supposed.tier.or(end.tier_served.as_deref()), supposed.in_force);
    let (model, region) = (end.model_served.as_deref(), end.region_served.as_deref());
    let served = Served { model, tier, region };
    let (charged, row) = match supposed.served_by {
        None => charge_at(book, dispatch, served, metered, at),
        Some((provider, model)) => {
            let provider = Some(provider.to_owned());
            let dispatch = Dispatch { provider, ..dispatch.clone() };
            charge_at(book, &dispatch, Served { model: Some(model), ..served }, metered, at)
        }
    };
    let now = match (Booked::of(&charged), row, charged) {
        (Some(now), Some(row), _) => Ok((now, row)),
        (_, _, Charged::Unpriced { reason }) => Err(reason),
        _ => Err("no price".to_owned()),
    };
    Some(Repriced { booked, now })
}

impl Repriced<'_> {
    /// Whether it costs what is booked, by whatever row.
    #[must_use]
    pub fn is_as_booked(&self) -> bool {
        let cost = |booked: &Booked| (booked.contracted, booked.list);
        match (&self.booked, &self.now) {
            (Some(booked), Ok((now, _))) => cost(booked) == cost(now),
            (None, Err(_)) => true,
            _ => false,
        }
    }

    /// What is to be posted at a time, so that the sum of all that is booked is what the attempt costs
    /// now. `None` if it is so already, and if it has no price now: what was charged then stands, for
    /// unknown is not $0.
    #[must_use]
    pub fn adjustment(&self, attempt: &Attempt, at: UnixTime) -> Option<Adjustment> {
        let (now, row) = self.now.as_ref().ok()?;
        if self.is_as_booked() {
            return None;
        }
        let so_far = |part: fn(&Booked) -> Money| self.booked.as_ref().map_or(Money::ZERO, part);
        Some(Adjustment {
            exchange: attempt.dispatch.exchange,
            ordinal: attempt.dispatch.ordinal,
            at,
            provider: row.provider().to_owned(),
            model: row.model().to_owned(),
            from: self.booked.map(|booked| booked.row),
            to: now.row,
            contracted: now.contracted - so_far(|booked| booked.contracted),
            list: now.list - so_far(|booked| booked.list),
        })
    }
}

#[cfg(test)]
mod tests;

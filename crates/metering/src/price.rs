//! Usage meets the price book.

use facts::{ChargeLine, Charged, Dispatch};
use quantity::{Metered, Money, TokenClass, TokenCount, Usage, UsageSource};
use tariff::{Book, Key, PriceRow};

/// Prices what an attempt consumed: by the row in force when it was dispatched, for the model and
/// tier that served. The row is given back so that it can be journalled before its first charge.
#[must_use]
pub fn charge<'b>(
    book: &'b Book,
    dispatch: &Dispatch,
    model_served: Option<&str>,
    tier_served: Option<&str>,
    metered: &Metered,
) -> (Charged, Option<&'b PriceRow>) {
    let unpriced = |reason: String| (Charged::Unpriced { reason }, None);
    if metered.source == UsageSource::Unknown {
        return unpriced("usage unknown".to_owned());
    }
    let Some(provider) = dispatch.provider.as_deref() else {
        return unpriced(format!("upstream `{}` has no price list", dispatch.upstream));
    };
    let Some(model) = model_served.or(dispatch.model.as_deref()) else {
        return unpriced("no model named".to_owned());
    };
    let row = match book.quote(&Key { provider, model, tier: tier_served, at: dispatch.at }) {
        Ok(row) => row,
        Err(reason) => return unpriced(reason.to_string()),
    };
    match row.charge(&metered.usage) {
        Ok(charge) => {
            let lines = charge.lines.iter().map(|line| ChargeLine {
                item: line.item,
                count: line.count,
                price: line.price,
                list: line.list_amount,
                contracted: line.amount,
            });
            let charged = Charged::Priced { row: charge.row, lines: lines.collect() };
            (charged, Some(row))
        }
        Err(reason) => unpriced(reason.to_string()),
    }
}

/// What an attempt may cost at most, as far as its request tells: all input at the dearest class it
/// could be, output up to the cap. `None` without a price or a cap.
#[must_use]
pub fn bound(
    book: &Book,
    dispatch: &Dispatch,
    max_tokens: Option<TokenCount>,
    tier: Option<&str>,
) -> Option<Money> {
    let (provider, model) = (dispatch.provider.as_deref()?, dispatch.model.as_deref()?);
    let row = book.quote(&Key { provider, model, tier, at: dispatch.at }).ok()?;
    let classes = [TokenClass::InputUncached, TokenClass::CacheWrite5m, TokenClass::CacheWrite1h];
    let cost = |input_class| {
        let mut usage = Usage::default();
        usage.tokens[input_class] = dispatch.input_estimate;
        usage.tokens[TokenClass::OutputText] = max_tokens?;
        row.charge(&usage).ok().map(|charge| charge.total)
    };
    classes.into_iter().filter_map(cost).max()
}

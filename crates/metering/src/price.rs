//! Usage meets the price book.

use facts::{Api, ChargeLine, Charged, Dispatch};
use quantity::{Doubt, Metered, Money, TokenClass, TokenCount, UnixTime, Usage, UsageSource};
use tariff::{Book, Key, PriceRow};

use crate::Request;

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
    charge_at(book, dispatch, model_served, tier_served, metered, None)
}

/// As [`charge`], by the prices in force at another instant, if one is told, at the hour and weekday
/// of the dispatch.
pub(crate) fn charge_at<'b>(
    book: &'b Book,
    dispatch: &Dispatch,
    model_served: Option<&str>,
    tier_served: Option<&str>,
    metered: &Metered,
    in_force: Option<UnixTime>,
) -> (Charged, Option<&'b PriceRow>) {
    let unpriced = |reason: String| (Charged::Unpriced { reason }, None);
    if metered.doubts.contains(Doubt::MixedModels) {
        return unpriced("several models served, and their tokens are told as one".to_owned());
    }
    if metered.source == UsageSource::Unknown {
        return unpriced("usage unknown".to_owned());
    }
    let Some(provider) = dispatch.provider.as_deref() else {
        return unpriced(format!("upstream `{}` has no price list", dispatch.upstream));
    };
    let Some(model) = model_served.or(dispatch.model.as_deref()) else {
        return unpriced("no model named".to_owned());
    };
    let at = in_force.unwrap_or(dispatch.at);
    let hours_of = in_force.map(|_| dispatch.at);
    let key = Key { hours_of, ..Key::new(provider, model, at).on(tier_served) };
    match book.charge(&key, &metered.usage) {
        Ok((row, charge)) => {
            let lines = charge.lines.iter().map(|line| ChargeLine {
                item: line.item,
                count: line.count,
                price: line.list_price,
                list: line.list_amount,
                contracted: line.amount,
            });
            let charged = Charged::Priced { row: charge.row, lines: lines.collect() };
            (charged, Some(row))
        }
        Err(reason) => unpriced(reason.to_string()),
    }
}

/// What an attempt may cost at most: every byte of its request a token of the dearest class it could
/// be, and each choice as long as its cap allows. `None` without a price or a cap, and with images or
/// other media, whose tokens their bytes do not tell, nor where the provider adds to the input.
#[must_use]
pub fn bound(
    book: &Book,
    dispatch: &Dispatch,
    request: &Request,
    request_bytes: usize,
) -> Option<Money> {
    if !request.bounded || request.prompt.messages.iter().any(|message| message.media > 0) {
        return None;
    }
    let input = TokenCount::new(request_bytes as u64)?;
    let output = match request.api {
        Api::OpenAiEmbeddings => TokenCount::ZERO,
        _ => {
            let choices = u64::from(request.choices.unwrap_or(1));
            TokenCount::new(request.max_tokens?.get().checked_mul(choices)?)?
        }
    };
    let tier = request.tier.as_deref();
    let (provider, model) = (dispatch.provider.as_deref()?, dispatch.model.as_deref()?);
    let row = book.quote(&Key::new(provider, model, dispatch.at).on(tier)).ok()?;
    let classes = [TokenClass::InputUncached, TokenClass::CacheWrite5m, TokenClass::CacheWrite1h];
    let cost = |input_class| {
        let mut usage = Usage::default();
        usage.tokens[input_class] = input;
        usage.tokens[TokenClass::OutputText] = output;
        row.charge(&usage).ok().map(|charge| charge.total)
    };
    classes.into_iter().filter_map(cost).max()
}

//! Usage meets the price book.

use facts::{Api, ChargeLine, Charged, Dispatch};
use quantity::{Doubt, Metered, Money, TokenClass, TokenCount, UnixTime, Usage, UsageSource};
use tariff::{Book, Key, PriceRow};

use crate::Request;

/// What served an attempt, as far as its provider tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served<'a> {
    /// The model; else it is the one that was asked for.
    pub model: Option<&'a str>,
    /// The tier; none is standard.
    pub tier: Option<&'a str>,
    /// The region; else it is the one that the upstream is configured with, if it is.
    pub region: Option<&'a str>,
}

/// Prices what an attempt consumed: by the row in force when it was dispatched, for the model, tier and
/// region that served. The row is given back so that it can be journalled before its first charge.
#[must_use]
pub fn charge<'b>(
    book: &'b Book,
    dispatch: &Dispatch,
    served: Served<'_>,
    metered: &Metered,
) -> (Charged, Option<&'b PriceRow>) {
    charge_at(book, dispatch, served, metered, None)
}

/// As [`charge`], by the prices in force at another instant, if one is told, at the hour and weekday
/// of the dispatch.
pub(crate) fn charge_at<'b>(
    book: &'b Book,
    dispatch: &Dispatch,
    served: Served<'_>,
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
    let Some(model) = served.model.or(dispatch.model.as_deref()) else {
        return unpriced("no model named".to_owned());
    };
    let at = in_force.unwrap_or(dispatch.at);
    let hours_of = in_force.map(|_| dispatch.at);
    let region = served.region.or(dispatch.region.as_deref());
    let key = Key::new(provider, model, at).on(served.tier).in_region(region);
    let key = Key { hours_of, ..key };
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
    let key = Key::new(provider, model, dispatch.at).on(tier);
    let row = book.quote(&key.in_region(dispatch.region.as_deref())).ok()?;
    let classes = [TokenClass::InputUncached, TokenClass::CacheWrite5m, TokenClass::CacheWrite1h];
    let cost = |input_class| {
        let mut usage = Usage::default();
        usage.tokens[input_class] = input;
        usage.tokens[TokenClass::OutputText] = output;
        row.charge(&usage).ok().map(|charge| charge.total)
    };
    classes.into_iter().filter_map(cost).max()
}

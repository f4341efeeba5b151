//! Prices in the configuration: rows of one's own, rates of exchange, contracts.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use quantity::UnixTime;
use serde::Deserialize;
use tariff::{Agreements, Book, Contract, Exchange, PriceRow};

use super::contracts::{self, RawContract, RawCredit};

/// What the configuration says of prices, as it is written.
#[derive(Default, Debug)]
pub(super) struct RawPrices {
    pub(super) prices: Vec<RawPrice>,
    pub(super) exchange: Vec<RawExchange>,
    pub(super) contracts: Vec<RawContract>,
    pub(super) credits: Vec<RawCredit>,
    pub(super) books: Vec<String>,
}

#[derive(Deserialize, Debug)]
pub(super) struct RawPrice {
    provider: String,
    model: String,
    contract: Option<String>,
    #[serde(flatten)]
    fields: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExchange {
    currency: String,
    from: String,
    usd: String,
}

/// What the configuration lays over a price book.
#[derive(Default, Debug)]
pub(crate) struct Prices {
    rows: Vec<PriceRow>,
    contracts: Vec<Contract>,
    /// What contracts commit to, and credits.
    pub(crate) agreements: Agreements,
    /// Names of imported books that lie over the built-in one, the first uppermost.
    pub(super) books: Vec<String>,
}

impl Prices {
    /// Reads them. `known` tells whether a provider is one of a book or of an upstream.
    pub(super) fn read(raw: RawPrices, known: &dyn Fn(&str) -> bool) -> anyhow::Result<Self> {
        let mut exchange = Exchange::default();
        let raw_prices = raw.prices;
        for (index, raw) in raw.exchange.iter().enumerate() {
            let at = || format!("invalid `exchange[{index}]`");
            let from = time("from", &raw.from).with_context(at)?;
            exchange.set(&raw.currency, from, &raw.usd).with_context(at)?;
        }
        let rated = |name: &str| {
            let named = |price: &RawPrice| price.contract.as_deref() == Some(name);
            raw_prices.iter().any(named)
        };
        let (contracts, commitments) = contracts::read(&raw.contracts, &rated, known)?;
        let credits = contracts::credits(&raw.credits, known)?;
        let mut rows = Vec::new();
        let mut own: Vec<(usize, PriceRow)> = Vec::new();
        for (index, price) in raw_prices.iter().enumerate() {
            let at = || format!("invalid `prices[{index}]`");
            let row = own_row(price, known).with_context(at)?;
            let row = match &price.contract {
                Some(name) => {
                    contracts::named(&contracts, name).and_then(|one| Ok(one.rate(&row)?))
                }
                None => Ok(row),
            };
            let row = row.with_context(at)?;
            rows.extend(exchange.convert(row.clone()).with_context(at)?);
            own.push((index, row));
        }
        own.sort_by_cached_key(|(_, row)| {
            (row.provider().to_lowercase(), row.model().to_lowercase())
        });
        let same = |one: &(usize, PriceRow), other: &(usize, PriceRow)| {
            let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
            same(one.1.provider(), other.1.provider()) && same(one.1.model(), other.1.model())
        };
        for rows in own.chunk_by(same) {
            let rows: Vec<_> = rows.iter().map(|(index, row)| (*index, row)).collect();
            tariff::check_rows(&rows).map_err(|doubt| {
                anyhow::Error::from(doubt.error)
                    .context(format!("invalid `prices[{}]`", doubt.line))
            })?;
        }
        let agreements = Agreements { commitments, credits };
        Ok(Self { rows, contracts, agreements, books: raw.books })
    }

    /// A book with them.
    pub(super) fn over(&self, book: Book) -> anyhow::Result<Book> {
        let mut book = book;
        let contracts = self.contracts.iter().enumerate();
        for (index, contract) in contracts.filter(|(_, contract)| contract.discount.is_some()) {
            let laid = book.with_contract(contract);
            book = laid.with_context(|| format!("invalid `contracts[{index}]`"))?;
        }
        Ok(book.with_rows(self.rows.iter().cloned()))
    }
}

/// Prices of one's own. What a model takes in and gives out must have a price, be it nothing: a row
/// that forgets one would leave exchanges unpriced.
fn own_row(price: &RawPrice, known: &dyn Fn(&str) -> bool) -> anyhow::Result<PriceRow> {
    if !known(&price.provider) {
        let provider = &price.provider;
        return Err(anyhow!(
            "invalid `provider`: expected one of the price book or of `provider` of an upstream, \
             found `{provider}`"
        ));
    }
    for needed in ["input_uncached", "output_text"] {
        if !price.fields.contains_key(needed) {
            return Err(anyhow!(
                "`{needed}` is missing: expected US dollars per million tokens such as \"2.50\", or \
                 \"0\" if they are free"
            ));
        }
    }
    let mut fields = Vec::new();
    for (key, value) in &price.fields {
        // A float would not be the text that was written.
        let text = value.as_str().ok_or_else(|| {
            let found = value.type_str();
            anyhow!("expected `{key}` as a text such as \"2.50\", found a {found}")
        })?;
        fields.push((key.as_str(), text));
    }
    Ok(PriceRow::own(&price.provider, &price.model, fields)?)
}

pub(super) fn time(key: &str, text: &str) -> anyhow::Result<UnixTime> {
    text.parse().map_err(|error| anyhow!("invalid `{key}`: {error}"))
}

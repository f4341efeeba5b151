//! What a usage costs at a row, line by line, exactly.

use quantity::{Billable, Money, PriceRowId, TokenCount, Unit, UnitPrice, Usage};

use crate::book::{Book, Key};
use crate::row::PriceRow;

/// Why something has no price. It is reported as unpriced, never as $0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// The book has no such provider.
    #[error("unknown provider `{provider}`")]
    UnknownProvider {
        /// As asked for.
        provider: String,
    },
    /// The provider has no such model in the book.
    #[error("unknown model `{model}` of provider `{provider}`")]
    UnknownModel {
        /// The provider's id.
        provider: String,
        /// As asked for.
        model: String,
    },
    /// The model has prices, but none for the tier that served.
    #[error("no price for tier `{tier}` of `{provider}/{model}`")]
    NoPriceForTier {
        /// The provider's id.
        provider: String,
        /// The model's id.
        model: String,
        /// As asked for.
        tier: String,
    },
    /// The tier has prices, but none of them yet.
    #[error("no price of `{provider}/{model}` for tier `{tier}` was in force at {at}")]
    NotInForce {
        /// The provider's id.
        provider: String,
        /// The model's id.
        model: String,
        /// The tier.
        tier: String,
        /// The instant asked for.
        at: quantity::UnixTime,
    },
    /// The row has no price for something that was used.
    #[error("no price for `{item}` of `{provider}/{model}`, tier `{tier}`")]
    NoPriceFor {
        /// The provider's id.
        provider: String,
        /// The model's id.
        model: String,
        /// The tier.
        tier: String,
        /// What was used.
        item: Billable,
    },
}

impl Unpriced {
    /// A stable name of the reason, for counters and stored records.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownProvider { .. } => "unknown_provider",
            Self::UnknownModel { .. } => "unknown_model",
            Self::NoPriceForTier { .. } => "no_price_for_tier",
            Self::NotInForce { .. } => "not_in_force",
            Self::NoPriceFor { .. } => "no_price_for_item",
        }
    }
}

/// What a usage costs: lines that sum to the total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The price row that every line used.
    pub row: PriceRowId,
    /// One line for each billable that was used, in the order of [`Billable::all`].
    pub lines: Vec<ChargeLine>,
    /// The contracted total.
    pub total: Money,
    /// The total at list price.
    pub list_total: Money,
}

/// One billable of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeLine {
    /// What was used.
    pub item: Billable,
    /// Whose price was applied: the item itself, or the class it falls back to.
    pub priced_as: Billable,
    /// How much was used.
    pub count: TokenCount,
    /// The contracted price of one.
    pub price: UnitPrice,
    /// Count times contracted price.
    pub amount: Money,
    /// The list price of one: what the book says where an own row applies, else `price`.
    pub list_price: UnitPrice,
    /// Count times list price.
    pub list_amount: Money,
}

impl Book {
    /// The row in force and what a usage costs at it. Where that is an own row and the book lists the
    /// model too, the book's prices are the list prices of the charge.
    ///
    /// # Errors
    /// As [`Book::quote`] and [`PriceRow::charge`].
    pub fn charge(&self, key: &Key<'_>, usage: &Usage) -> Result<(&PriceRow, Charge), Unpriced> {
        let row = self.quote(key)?;
        let mut charge = row.charge(usage)?;
        if let Some(listed) = self.listed(key).filter(|listed| listed.id() != row.id()) {
            charge.list_at(listed, usage);
        }
        Ok((row, charge))
    }
}

impl Charge {
    /// Takes the list prices of another row. What it has no price for keeps its own as the list price;
    /// a fee per call that only the list knows is a line that costs nothing.
    fn list_at(&mut self, listed: &PriceRow, usage: &Usage) {
        const CALL: Billable = Billable::Unit(Unit::Call);
        let price_of = |item| {
            let (_, price) = listed.price_for(item)?;
            Some(price.at_input(usage.input()).price())
        };
        for line in &mut self.lines {
            if let Some(price) = price_of(line.item) {
                line.list_price = price;
                line.list_amount = price.times(line.count);
            }
        }
        let count = listed.billed_count(CALL, usage);
        let fee = price_of(CALL).filter(|_| count > TokenCount::ZERO);
        if let Some(list_price) = fee.filter(|_| self.lines.iter().all(|line| line.item != CALL)) {
            self.lines.push(ChargeLine {
                item: CALL,
                priced_as: CALL,
                count,
                price: UnitPrice::FREE,
                amount: Money::ZERO,
                list_price,
                list_amount: list_price.times(count),
            });
            self.lines.sort_by_key(|line| line.item);
        }
        self.list_total = self.lines.iter().map(|line| line.list_amount).sum();
    }
}

impl PriceRow {
    /// Prices a usage of one attempt. Count times price never rounds; thresholds look at all input
    /// tokens of the attempt. A fee per call is charged at least once where anything was used; a row
    /// without one makes calls free of a fee.
    ///
    /// # Errors
    /// [`Unpriced::NoPriceFor`] if something was used that neither has a price here nor a class to
    /// fall back to; then nothing of the usage is priced.
    pub fn charge(&self, usage: &Usage) -> Result<Charge, Unpriced> {
        self.charge_at_input(usage, usage.input())
    }

    /// As [`Self::charge`], for the sum of exchanges that each have so many input tokens.
    pub(crate) fn charge_at_input(&self, usage: &Usage, input: u64) -> Result<Charge, Unpriced> {
        let mut lines = Vec::new();
        for item in Billable::all() {
            let count = self.billed_count(item, usage);
            if count == TokenCount::ZERO {
                continue;
            }
            let Some((priced_as, price)) = self.price_for(item) else {
                return Err(Unpriced::NoPriceFor {
                    provider: self.provider().to_owned(),
                    model: self.model().to_owned(),
                    tier: self.tier().to_owned(),
                    item,
                });
            };
            let price = price.at_input(input).price();
            let amount = price.times(count);
            let (list_price, list_amount) = (price, amount);
            lines.push(ChargeLine {
                item,
                priced_as,
                count,
                price,
                amount,
                list_price,
                list_amount,
            });
        }
        Ok(Charge {
            row: self.id(),
            total: lines.iter().map(|line| line.amount).sum(),
            list_total: lines.iter().map(|line| line.list_amount).sum(),
            lines,
        })
    }

    fn billed_count(&self, item: Billable, usage: &Usage) -> TokenCount {
        const CALL: Billable = Billable::Unit(Unit::Call);
        match item {
            Billable::Tokens(class) => usage.tokens[class],
            CALL if self.price(CALL).is_none() => TokenCount::ZERO,
            CALL if *usage != Usage::default() => usage.units[Unit::Call].max(TokenCount::from(1)),
            Billable::Unit(unit) => usage.units[unit],
        }
    }
}

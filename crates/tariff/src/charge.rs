//! What a usage costs at a row, line by line, exactly.

use quantity::{Billable, Money, PriceRowId, TokenClass, TokenCount, Unit, UnitPrice, Usage};

use crate::book::{Book, Key};
use crate::row::{Above, Price, PriceRow};

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
    /// The model has prices for the tier, but only in other regions.
    #[error("no price of `{provider}/{model}` for tier `{tier}` in region `{region}`")]
    NoPriceForRegion {
        /// The provider's id.
        provider: String,
        /// The model's id.
        model: String,
        /// The tier.
        tier: String,
        /// As asked for.
        region: String,
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
            Self::NoPriceForRegion { .. } => "no_price_for_region",
            Self::NoPriceFor { .. } => "no_price_for_item",
        }
    }
}

/// What a usage costs: lines that sum to the total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The price row that every line used.
    pub row: PriceRowId,
    /// One line for each billable that was used and each rate that it has (several where prices are
    /// graduated), in the order of [`Billable::all`].
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
        let (row, listed) = self.quote_beside_list(key)?;
        let mut charge = row.charge(usage)?;
        if let Some(listed) = listed.filter(|listed| listed.id() != row.id()) {
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
        let mut lines = Vec::with_capacity(self.lines.len());
        for same in self.lines.chunk_by(|one, next| one.item == next.item) {
            let Some(item) = same.first().map(|line| line.item) else { continue };
            match listed.price_for(item) {
                Some((_, price)) => list_parts(&mut lines, same, price, usage),
                None => lines.extend_from_slice(same),
            }
        }
        let count = listed.billed_count(CALL, usage);
        let fee = listed.price(CALL).map(|price| price.base().price());
        let fee = fee.filter(|_| count > TokenCount::ZERO);
        if let Some(list_price) = fee.filter(|_| lines.iter().all(|line| line.item != CALL)) {
            lines.push(ChargeLine {
                item: CALL,
                priced_as: CALL,
                count,
                price: UnitPrice::FREE,
                amount: Money::ZERO,
                list_price,
                list_amount: list_price.times(count),
            });
            lines.sort_by_key(|line| line.item);
        }
        self.lines = lines;
        self.list_total = self.lines.iter().map(|line| line.list_amount).sum();
    }
}

/// The lines of one billable, cut where the list's price changes too, each with its list price.
fn list_parts(out: &mut Vec<ChargeLine>, lines: &[ChargeLine], list: &Price, usage: &Usage) {
    let Some(item) = lines.first().map(|line| line.item) else { return };
    let mut before = tokens_before(item, usage);
    for line in lines {
        let count = line.count.get();
        for (part, rate) in list.parts(usage.input(), before, count) {
            let Some(count) = TokenCount::new(part) else { continue };
            let list_price = rate.price();
            let (amount, list_amount) = (line.price.times(count), list_price.times(count));
            out.push(ChargeLine { count, amount, list_price, list_amount, ..*line });
        }
        before = before.saturating_add(count);
    }
}

/// Where the tokens of a class begin, in the order in which graduated prices count them.
fn tokens_before(item: Billable, usage: &Usage) -> u64 {
    use TokenClass::{
        CacheRead, CacheReadAudio, CacheReadImage, CacheReadVideo, CacheWrite1h, CacheWrite5m,
        InputAudio, InputImage, InputUncached, InputVideo, OutputAudio, OutputImage, OutputText,
        OutputVideo, Reasoning,
    };
    const INPUT: [TokenClass; 10] = [
        CacheRead,
        CacheReadAudio,
        CacheReadImage,
        CacheReadVideo,
        CacheWrite5m,
        CacheWrite1h,
        InputUncached,
        InputAudio,
        InputImage,
        InputVideo,
    ];
    const OUTPUT: [TokenClass; 5] = [Reasoning, OutputText, OutputAudio, OutputImage, OutputVideo];
    let Billable::Tokens(class) = item else { return 0 };
    let order = if class.is_input() { &INPUT[..] } else { &OUTPUT[..] };
    let before = order.iter().take_while(|other| **other != class);
    before.fold(0, |sum, other| sum.saturating_add(usage.tokens[*other].get()))
}

impl PriceRow {
    /// Prices a usage of one attempt. Count times price never rounds; cliffs look at all input tokens
    /// of the attempt, graduated prices at where its tokens stand. A fee per call is charged at least
    /// once where anything was used; a row without one makes calls free of a fee.
    ///
    /// # Errors
    /// [`Unpriced::NoPriceFor`] if something was used that neither has a price here nor a class to
    /// fall back to; then nothing of the usage is priced.
    pub fn charge(&self, usage: &Usage) -> Result<Charge, Unpriced> {
        self.charge_at_input(usage, usage.input())
    }

    /// As [`Self::charge`], for the sum of exchanges that each have so many input tokens. Graduated
    /// prices see the sum as one exchange.
    pub(crate) fn charge_at_input(&self, usage: &Usage, input: u64) -> Result<Charge, Unpriced> {
        // Most usages have three classes; growing by steps would cost more than pricing them.
        let mut lines = Vec::with_capacity(4);
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
            let before = if price.above() == Above::Rest { tokens_before(item, usage) } else { 0 };
            for (part, rate) in price.parts(input, before, count.get()) {
                let Some(count) = TokenCount::new(part) else { continue };
                let price = rate.price();
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

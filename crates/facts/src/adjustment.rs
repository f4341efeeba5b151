//! Adjustments: what attempts cost by other prices than those that they were charged at. A charge is
//! never changed; what it should have been is posted beside it, and links to it.

use quantity::{ExchangeId, Money, PriceRowId, UnixTime};

use crate::Charged;

/// What a settled attempt costs more, or less, than was booked for it, by a price that became known
/// later. It belongs to the period in which it was posted, so that periods before stay as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which of its attempts.
    pub ordinal: u32,
    /// When it was posted.
    pub at: UnixTime,
    /// The provider of the row that applies now.
    pub provider: String,
    /// The model of that row.
    pub model: String,
    /// The row that applied so far; `None` where the attempt had no price.
    pub from: Option<PriceRowId>,
    /// The row that applies now.
    pub to: PriceRowId,
    /// What it costs more than was booked; negative where it costs less.
    pub contracted: Money,
    /// The same at list prices.
    pub list: Money,
}

/// What is booked for an attempt by the token: its charge and all its adjustments so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// The row that it rests on.
    pub row: PriceRowId,
    /// What it costs.
    pub contracted: Money,
    /// What it costs at list prices.
    pub list: Money,
}

impl Booked {
    /// What a charge books; `None` where it has no price by the token.
    #[must_use]
    pub fn of(charged: &Charged) -> Option<Self> {
        let Charged::Priced { row, lines } = charged else { return None };
        Some(Self {
            row: *row,
            contracted: lines.iter().map(|line| line.contracted).sum(),
            list: lines.iter().map(|line| line.list).sum(),
        })
    }

    /// What is booked together with an adjustment.
    #[must_use]
    pub fn adjusted(booked: Option<Self>, by: &Adjustment) -> Self {
        Self {
            row: by.to,
            contracted: booked.map_or(Money::ZERO, |booked| booked.contracted) + by.contracted,
            list: booked.map_or(Money::ZERO, |booked| booked.list) + by.list,
        }
    }
}

/// The adjustments of a model that were posted in a period.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdjustmentLine {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// How many; an attempt may have been adjusted more than once.
    pub adjustments: u64,
    /// What they come to; negative where less was owed than was booked.
    pub contracted: Money,
    /// The same at list prices.
    pub list: Money,
}

//! Hardware of one's own: what a purchase costs by the year, and its power by the hour.

use crate::unit::{PerHour, PerYear};

/// A purchase that is used for some years and then sold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purchase {
    /// US dollars paid.
    pub price: f64,
    /// US dollars that it is sold for at the end.
    pub residual: f64,
    /// How long it is used; above 0.
    pub years: f64,
}

impl Purchase {
    /// Depreciation in equal parts: `(P - S) / n`. What the money costs that it binds is left out.
    ///
    /// # Source
    /// IAS 16.
    #[must_use]
    pub fn straight_line(&self) -> PerYear {
        PerYear::new((self.price - self.residual) / self.years)
    }

    /// The equal yearly payment at an interest of `rate` a year: `(P - S) CRF + S r`.
    ///
    /// # Source
    /// Capital recovery with salvage value, as in textbooks of engineering economics.
    #[must_use]
    pub fn annuity(&self, rate: f64) -> PerYear {
        let recovered = (self.price - self.residual) * capital_recovery(rate, self.years);
        PerYear::new(recovered + self.residual * rate)
    }
}

/// The capital recovery factor `r (1 + r)^n / ((1 + r)^n - 1)`; `1 / n` without interest.
#[must_use]
pub fn capital_recovery(rate: f64, years: f64) -> f64 {
    let growth = libm::pow(1.0 + rate, years) - 1.0;
    if growth == 0.0 { 1.0 / years } else { rate * (1.0 + growth) / growth }
}

/// What something draws and what its power costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// Kilowatts at full load.
    pub kilowatts: f64,
    /// The mean load while it is on, as a share.
    pub load: f64,
    /// Power usage effectiveness: what the building draws for each kilowatt of the machines; at least 1.
    pub pue: f64,
    /// US dollars for a kilowatt-hour.
    pub usd_per_kwh: f64,
}

impl Power {
    /// `kW x load x PUE x price`.
    ///
    /// # Source
    /// Barroso, Hoelzle, Ranganathan: The Datacenter as a Computer, chapter on total cost of ownership.
    #[must_use]
    pub fn per_hour(&self) -> PerHour {
        PerHour::new(self.kilowatts * self.load * self.pue * self.usd_per_kwh)
    }
}

//! The hourly cost of serving, item by item.

use crate::owned::{Power, Purchase};
use crate::scenario::{Case, Terms, Var};
use crate::unit::PerHour;

/// One item of an hourly cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// What it is.
    pub name: &'static str,
    /// What it costs.
    pub cost: PerHour,
}

/// The hourly cost of serving: items that sum to the whole. What is nothing is left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HourlyCost {
    /// Its items.
    pub items: Vec<Item>,
}

impl HourlyCost {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> PerHour {
        self.items.iter().map(|item| item.cost).sum()
    }
}

/// What items are put to: a list that names them, or their sum alone.
trait Sum {
    fn put(&mut self, item: Item);
    fn so_far(&self) -> PerHour;

    fn add(&mut self, name: &'static str, usd: f64) {
        if usd > 0.0 {
            self.put(Item { name, cost: PerHour::new(usd) });
        }
    }
}

impl Sum for HourlyCost {
    fn put(&mut self, item: Item) {
        self.items.push(item);
    }

    fn so_far(&self) -> PerHour {
        self.total()
    }
}

impl Sum for PerHour {
    fn put(&mut self, item: Item) {
        *self = *self + item.cost;
    }

    fn so_far(&self) -> PerHour {
        *self
    }
}

/// GPUs that are paid for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paid {
    /// How many, on the mean over all hours.
    pub gpus: f64,
    /// How they are paid.
    pub terms: Terms,
    /// What one costs by the hour; of owned ones nothing, for their purchase says it.
    pub price: PerHour,
    /// Kilowatts that one may draw with its share of the server, for owned ones.
    pub kilowatts: f64,
}

/// What an hour costs in a month from 0.
#[must_use]
pub fn hourly_cost(case: &Case, paid: &Paid, month: u32) -> HourlyCost {
    let mut cost = HourlyCost::default();
    put(&mut cost, case, paid, month);
    cost
}

/// The total of [`hourly_cost`], without its items.
pub(crate) fn hourly_total(case: &Case, paid: &Paid, month: u32) -> PerHour {
    let mut total = PerHour::ZERO;
    put(&mut total, case, paid, month);
    total
}

fn put(cost: &mut impl Sum, case: &Case, paid: &Paid, month: u32) {
    let gpus = paid.gpus;
    if paid.terms == Terms::Owned {
        let price = case.at(Var::Purchase);
        let residual = price * case.at(Var::Residual);
        let purchase = Purchase { price, residual, years: case.at(Var::Years) };
        let year = purchase.annuity(case.at(Var::Interest));
        cost.add("GPUs, depreciation", purchase.straight_line().per_hour().usd() * gpus);
        cost.add("GPUs, interest", (year - purchase.straight_line()).per_hour().usd() * gpus);
        let power = Power {
            kilowatts: paid.kilowatts,
            load: case.at(Var::Load),
            pue: case.at(Var::Pue),
            usd_per_kwh: case.at(Var::PowerPrice),
        };
        cost.add("power and cooling", power.per_hour().usd() * gpus);
        cost.add("hosting", case.at(Var::Colocation) * gpus);
    } else {
        let grown = libm::pow(1.0 + case.at(Var::GpuPriceGrowth), f64::from(month));
        cost.add("GPUs, rent", paid.price.usd() * grown * gpus);
    }
    cost.add("hosts", case.at(Var::Host) * gpus);
    cost.add("storage", case.at(Var::Storage));
    cost.add("network", case.at(Var::Network));
    cost.add("orchestration", case.at(Var::Orchestration));
    cost.add("monitoring and logs", case.at(Var::Monitoring));
    cost.add("safety pipeline", case.at(Var::Safety));
    cost.add("reliability overhead", case.at(Var::Reliability) * cost.so_far().usd());
    cost.add("licences", case.at(Var::Licences) * gpus);
    cost.add("people", case.at(Var::Staff) * case.at(Var::Salary));
    cost.add("on call", case.at(Var::OnCall));
    if f64::from(month) < case.at(Var::TuningMonths) {
        let months = case.at(Var::TuningMonths);
        cost.add("tuning, once", case.at(Var::Tuning) / months / crate::HOURS_PER_MONTH);
    }
}

//! Ways to serve that can be priced in any case at once: what they rest on is looked up or simulated before.

use crate::demand::Demand;
use crate::fleet::Loads;
use crate::lane::{ApiOffer, GpuOffer, Taken, TokenPrices, api_costs};
use crate::plan::{Lane, taken};
use crate::scenario::{Case, Scenario};
use crate::uncertain::normal_quantile;
use crate::unit::PerMonth;

use super::grid::Grid;

/// One way in which things turn out. All choices meet the same.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// All quantities of the scenario.
    pub case: &'a Case,
    /// What each month asks for.
    pub demand: &'a [Demand],
    /// How fast GPUs turn out to be beside what the serving model says: the share of outcomes that are slower, for
    /// [`Accuracy::factor`].
    pub serving: f64,
}

/// A way to serve.
pub trait Choice: Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// Writes what each month of a draw costs; there are as many places as months of demand. It is asked ten thousand times
    /// and more, from several threads: what takes long is to be done before.
    ///
    /// # Errors
    /// Why it cannot serve then, in words.
    fn bills(&self, draw: &Draw<'_>, bills: &mut [PerMonth]) -> Result<(), String>;

    /// How far off what it serves may be, if the serving model says how much that is.
    fn accuracy(&self) -> Option<Accuracy> {
        None
    }
}

/// The 90 % interval of what GPUs serve, as factors of what the serving model says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// The least, above 0 and at most 1.
    pub low: f64,
    /// The most, at least 1.
    pub high: f64,
}

impl Accuracy {
    /// What is served of what was said, where so large a share of outcomes is slower: half of them are slower than said, one
    /// in twenty is below the interval and one in twenty above; a lognormal with a width of its own on each side.
    #[must_use]
    pub fn factor(&self, luck: f64) -> f64 {
        /// The normal's 95th percentile.
        const EDGE: f64 = 1.644_853_626_951_472;
        let z = normal_quantile(luck.clamp(1e-9, 1.0 - 1e-9));
        let end = if z < 0.0 { 1.0 / self.low } else { self.high };
        libm::exp(z / EDGE * libm::log(end))
    }
}

/// A model behind an API, its prices looked up for all months.
pub struct ApiChoice {
    name: String,
    /// Of each month, from so many input tokens on.
    months: Vec<Vec<(u64, Price)>>,
}

type Price = Result<TokenPrices, String>;

/// Longer than any call.
const LONGEST: u64 = 1_000_000_000_000;

impl ApiChoice {
    /// An offer for so many months. Prices may have steps by the length of the input; one that returns to what it was is not
    /// found.
    #[must_use]
    pub fn new(offer: &ApiOffer, months: u32) -> Self {
        let steps = |month: u32| {
            let price = |length: u64| (offer.prices)(month, length);
            let mut steps = vec![(0, price(1))];
            find_steps(&price, (1, &price(1)), (LONGEST, &price(LONGEST)), &mut steps);
            steps
        };
        Self { name: offer.name.clone(), months: (0..months).map(steps).collect() }
    }
}

/// Finds where prices change between two lengths.
fn find_steps(
    price: &impl Fn(u64) -> Price,
    (low, at_low): (u64, &Price),
    (high, at_high): (u64, &Price),
    steps: &mut Vec<(u64, Price)>,
) {
    if at_low == at_high {
        return;
    }
    if high - low == 1 {
        steps.push((high, at_high.clone()));
        return;
    }
    let middle = low.midpoint(high);
    let between = price(middle);
    find_steps(price, (low, at_low), (middle, &between), steps);
    find_steps(price, (middle, &between), (high, at_high), steps);
}

impl ApiChoice {
    /// What it takes in a month for calls of so many input tokens.
    pub(crate) fn price(&self, month: u32, length: u64) -> Result<TokenPrices, String> {
        let steps = usize::try_from(month).ok().and_then(|month| self.months.get(month));
        let steps = steps.ok_or("it has no price so late")?;
        let at = steps.partition_point(|(from, _)| *from <= length).max(1);
        steps[at - 1].1.clone()
    }
}

impl Choice for ApiChoice {
    fn name(&self) -> &str {
        &self.name
    }

    fn bills(&self, draw: &Draw<'_>, bills: &mut [PerMonth]) -> Result<(), String> {
        let months = (0..).zip(draw.demand).zip(bills);
        for ((month, demand), bill) in months {
            let price = |length: u64| self.price(month, length);
            let (costs, fees) = api_costs(draw.case, demand, month, price)?;
            *bill = costs.into_iter().chain([fees]).map(PerMonth::new).sum();
        }
        Ok(())
    }
}

/// A setup on GPUs whose replica was simulated month by month. In a draw its rate moves with the lengths of calls as the
/// closed form does, and with the luck of the serving model.
pub struct GpuChoice<'a> {
    name: String,
    offer: &'a GpuOffer,
    taken: Taken,
    loads: Loads,
    /// Of each month as it is likely.
    months: Vec<Likely>,
    /// The longest call, as a multiple of the mean one.
    longest: f64,
    grid: Grid<'a>,
    accuracy: Accuracy,
}

/// What a replica does in a month as it is likely.
struct Likely {
    /// Calls a second.
    rate: f64,
    /// Computed tokens of a call.
    lengths: (f64, f64),
    /// The most calls a second in closed form.
    closed_form: f64,
}

impl<'a> GpuChoice<'a> {
    /// A lane of a plan of a case. The luck of all GPUs in a draw is the same, for it is that of one model of one engine:
    /// were each setup's its own, the best of many would be that with the best luck.
    ///
    /// # Errors
    /// Why nothing can be said of it, such as that the lane is none on GPUs.
    pub fn new(
        scenario: &'a Scenario,
        case: &Case,
        offer: &'a GpuOffer,
        (lane, demand): (&Lane, &[Demand]),
        accuracy: Accuracy,
    ) -> Result<Self, String> {
        let own = lane.own.as_ref();
        let Some((taken, own)) = taken(scenario).zip(own) else {
            return Err(format!("{} has no GPUs", lane.name));
        };
        let grid = Grid::new(offer, &scenario.slo);
        let months = own.rates.iter().zip(demand).map(|(&rate, demand)| {
            let lengths = demand.computed_lengths(case);
            Ok(Likely { rate, lengths, closed_form: grid.rate(lengths)? })
        });
        let mean = demand.first().map_or(1.0, |demand| {
            let (input, output) = demand.mean_lengths();
            input + output
        });
        Ok(Self {
            name: lane.name.clone(),
            offer,
            taken,
            loads: Loads::of(&scenario.profile),
            months: months.collect::<Result<_, String>>()?,
            longest: f64::from(own.longest) / mean,
            grid,
            accuracy,
        })
    }
}

impl GpuChoice<'_> {
    fn fits(&self, demand: &Demand) -> Result<(), String> {
        let (input, output) = demand.mean_lengths();
        let longest = ((input + output) * self.longest).round();
        let most = f64::from(self.offer.candidate.longest());
        if longest > most {
            return Err(format!(
                "a call of {longest} tokens is longer than the {most} that fit there"
            ));
        }
        Ok(())
    }
}

impl Choice for GpuChoice<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn bills(&self, draw: &Draw<'_>, bills: &mut [PerMonth]) -> Result<(), String> {
        let luck = self.accuracy.factor(draw.serving);
        let months = (0..).zip(&self.months).zip(draw.demand).zip(bills);
        for (((month, likely), demand), bill) in months {
            let lengths = demand.computed_lengths(draw.case);
            let mut rate = likely.rate * luck;
            if lengths != likely.lengths {
                // Whether calls fit is judged by those of the first month, as the plan does.
                if month == 0 {
                    self.fits(demand)?;
                }
                rate *= self.grid.rate(lengths)? / likely.closed_form;
            }
            *bill = self.offer.bill(draw.case, self.taken, (demand, &self.loads), rate, month);
        }
        Ok(())
    }

    fn accuracy(&self) -> Option<Accuracy> {
        Some(self.accuracy)
    }
}

//! What is counted.

use std::collections::BTreeMap;

use quantity::{Billable, Doubt, Doubts, Money, PerClass, UsageSource};

use crate::{Attempt, Charged, Exchange, Told, Verdict, WasteCause};

/// Attempts that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub attempts: u64,
    /// Those of them whose cost is known by the token.
    pub priced: u64,
    /// Their contracted cost.
    pub cost: Money,
}

impl Tally {
    /// The cost as far as it is known; `None` if that of no attempt is.
    #[must_use]
    pub fn known_cost(&self) -> Option<Money> {
        (self.priced > 0).then_some(self.cost)
    }

    fn add(&mut self, cost: Option<Money>) {
        self.attempts += 1;
        if let Some(cost) = cost {
            self.priced += 1;
            self.cost += cost;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.priced += other.priced;
        self.cost += other.cost;
    }
}

/// What is counted for a group.
///
/// Every measure is additive: the groups of an answer sum to its total, to the pico-dollar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// Exchanges, each in the group of its last attempt; one that ended before any attempt counts too.
    pub exchanges: u64,
    /// Exchanges that completed.
    pub completed: u64,
    /// Attempts.
    pub attempts: u64,
    /// Tokens by class, as reported or estimated.
    pub tokens: PerClass<u64>,
    /// Those of them that were priced by the token: what `cost_by_class` is divided by.
    pub priced_tokens: PerClass<u64>,
    /// Contracted cost of priced attempts, hosted cost excluded.
    pub cost: Money,
    /// List cost of priced attempts.
    pub list_cost: Money,
    /// Contracted cost by token class.
    pub cost_by_class: PerClass<Money>,
    /// Contracted cost of searches, calls and other units.
    pub cost_of_units: Money,
    /// Attempts whose usage was estimated, in whole or in part.
    pub estimated: Tally,
    /// Those of them whose tokens were estimated by what completed calls of their model taught: such
    /// estimates err to both sides.
    pub learned: Tally,
    /// Attempts of which nothing is known.
    pub unknown: u64,
    /// What they may have cost at most by the token, as far as that is known. No money spent, so it is
    /// in no cost; one paid by the hour has nothing to add.
    pub unknown_bound: Money,
    /// Those of them without a known bound.
    pub unbounded: u64,
    /// Attempts whose usage is doubtful in one way or several.
    pub doubtful: Tally,
    /// The same by doubt: an attempt counts for each that it has.
    pub doubts: BTreeMap<Doubt, Tally>,
    /// Attempts that may have cost something and have no price.
    pub unpriced: u64,
    /// Their tokens.
    pub unpriced_tokens: u64,
    /// Attempts that ran on an upstream paid by the hour.
    pub hosted: u64,
    /// Their share of its busy hours.
    pub hosted_cost: Money,
    /// Input tokens of attempts that were of use.
    pub useful_input: u64,
    /// Output tokens of attempts that were of use.
    pub useful_output: u64,
    /// Cost of attempts by cause of waste, hosted cost excluded.
    pub waste: BTreeMap<WasteCause, Money>,
    /// What providers told of costs, in no cost here.
    pub told: Told,
}

impl Measures {
    /// Everything that was spent on the group.
    #[must_use]
    pub fn spend(&self) -> Money {
        self.cost + self.hosted_cost
    }

    /// Input tokens, cached or not.
    #[must_use]
    pub fn input(&self) -> u64 {
        self.tokens.iter().filter(|(class, _)| class.is_input()).map(|(_, count)| count).sum()
    }

    /// Output tokens, reasoning included.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.tokens.iter().filter(|(class, _)| !class.is_input()).map(|(_, count)| count).sum()
    }

    pub(crate) fn add_exchange(&mut self, exchange: &Exchange) {
        self.exchanges += 1;
        self.completed += u64::from(exchange.settlement.verdict == Verdict::Completed);
    }

    pub(crate) fn add_attempt(&mut self, attempt: &Attempt) {
        let end = &attempt.end;
        self.attempts += 1;
        let usage = &end.metered.usage;
        for (class, count) in usage.tokens.iter() {
            self.tokens[class] += count.get();
        }
        match end.metered.source {
            UsageSource::Reported => {}
            UsageSource::Partial | UsageSource::Estimated => self.add_estimated(attempt),
            UsageSource::Unknown => self.add_unknown(attempt),
        }
        self.add_doubts(attempt);
        if let Some(told) = end.told {
            self.told.add(told, end.charged.cost());
        }
        let waste = attempt.waste();
        if waste.is_none() {
            self.useful_input += usage.input();
            self.useful_output += usage.output();
        }
        match &end.charged {
            Charged::Priced { lines, .. } => {
                for (class, count) in usage.tokens.iter() {
                    self.priced_tokens[class] += count.get();
                }
                let mut cost = Money::ZERO;
                for line in lines {
                    cost += line.contracted;
                    self.list_cost += line.list;
                    match line.item {
                        Billable::Tokens(class) => self.cost_by_class[class] += line.contracted,
                        Billable::Unit(_) => self.cost_of_units += line.contracted,
                    }
                }
                self.cost += cost;
                if let Some(cause) = waste {
                    *self.waste.entry(cause).or_default() += cost;
                }
            }
            Charged::Hosted => self.hosted += 1,
            Charged::NotBilled => {}
            Charged::Unpriced { .. } => {
                self.unpriced += 1;
                self.unpriced_tokens += usage.total();
            }
        }
    }

    fn add_estimated(&mut self, attempt: &Attempt) {
        let cost = attempt.end.charged.cost();
        self.estimated.add(cost);
        if !attempt.end.metered.doubts.contains(Doubt::LowerBound) {
            self.learned.add(cost);
        }
    }

    fn add_unknown(&mut self, attempt: &Attempt) {
        self.unknown += 1;
        match (&attempt.end.charged, attempt.dispatch.bound) {
            (Charged::Hosted | Charged::NotBilled, _) => {}
            (_, Some(bound)) => self.unknown_bound += bound,
            (_, None) => self.unbounded += 1,
        }
    }

    fn add_doubts(&mut self, attempt: &Attempt) {
        let (metered, cost) = (&attempt.end.metered, attempt.end.charged.cost());
        if metered.doubts != Doubts::NONE {
            self.doubtful.add(cost);
        }
        for doubt in metered.doubts.iter() {
            self.doubts.entry(doubt).or_default().add(cost);
        }
    }

    /// Adds what another group counted.
    pub fn merge(&mut self, other: &Self) {
        self.exchanges += other.exchanges;
        self.completed += other.completed;
        self.attempts += other.attempts;
        self.cost += other.cost;
        self.list_cost += other.list_cost;
        self.cost_of_units += other.cost_of_units;
        self.estimated.merge(&other.estimated);
        self.learned.merge(&other.learned);
        self.unknown += other.unknown;
        self.unknown_bound += other.unknown_bound;
        self.unbounded += other.unbounded;
        self.doubtful.merge(&other.doubtful);
        for (doubt, tally) in &other.doubts {
            self.doubts.entry(*doubt).or_default().merge(tally);
        }
        self.unpriced += other.unpriced;
        self.unpriced_tokens += other.unpriced_tokens;
        self.hosted += other.hosted;
        self.hosted_cost += other.hosted_cost;
        self.useful_input += other.useful_input;
        self.useful_output += other.useful_output;
        self.told.merge(&other.told);
        for (class, count) in other.tokens.iter() {
            self.tokens[class] += count;
            self.priced_tokens[class] += other.priced_tokens[class];
            self.cost_by_class[class] += other.cost_by_class[class];
        }
        for (cause, cost) in &other.waste {
            *self.waste.entry(*cause).or_default() += *cost;
        }
    }
}

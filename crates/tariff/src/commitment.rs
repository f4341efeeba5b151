//! Commitments and credits: what contracts say of sums, beside what they say of prices.
//!
//! What is billed for days is their contracted cost, less what credits pay of it, plus what is due anyway
//! because less was used than a contract commits to. Everything is counted by whole UTC days.

use std::collections::BTreeMap;

use quantity::{Day, Money, closed_list};

use crate::rule::Rule;

closed_list! {
    /// How often a commitment is due.
    Per {
        /// Every month, counted from the day that the contract begins.
        Month = 1, "month";
        /// Every three months.
        Quarter = 2, "quarter";
        /// Every twelve months.
        Year = 3, "year";
        /// Once, over all the time that the contract holds.
        Term = 4, "term";
    }
}

/// A sum that is due to a provider in every period, whether or not it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// The name of the contract.
    pub contract: String,
    /// The provider's id in the book.
    pub provider: String,
    /// What is committed to in a period, at contracted prices.
    pub amount: Money,
    /// How long a period is.
    pub per: Per,
    /// Its first day.
    pub from: Day,
    /// The first day after; `None` if it has no end.
    pub until: Option<Day>,
    /// What had been used of the period in which the ledger begins before it did; `None` if that is not
    /// known.
    pub used_before: Option<Money>,
}

impl Commitment {
    /// Its periods, each from its first day up to the first day after: without end if it has none, and
    /// none at all if it is for a term without end.
    pub fn periods(&self) -> impl Iterator<Item = (Day, Day)> {
        let begin = |number: u32| match self.per {
            Per::Month => self.from.months_later(number),
            Per::Quarter => self.from.months_later(number.checked_mul(3)?),
            Per::Year => self.from.months_later(number.checked_mul(12)?),
            Per::Term => {
                [Some(self.from), self.until].get(usize::try_from(number).ok()?).copied()?
            }
        };
        (0..u32::MAX).map_while(move |number| {
            let from = begin(number).filter(|from| self.until.is_none_or(|until| *from < until))?;
            Some((from, begin(number.checked_add(1)?)?))
        })
    }

    /// Whether it ends where a period of it does, or not at all.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.until.is_none_or(|until| self.periods().last().is_some_and(|(_, end)| end == until))
    }

    /// Whether there are days at which both hold, with the same provider.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |one: &Self, other: &Self| one.until.is_some_and(|until| until <= other.from);
        self.provider == other.provider && !before(self, other) && !before(other, self)
    }
}

/// A sum that pays charges of a provider until it is used up or expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Its name.
    pub name: String,
    /// The provider's id in the book.
    pub provider: String,
    /// The models whose charges it pays; `None` is all of them.
    pub models: Option<Rule>,
    /// What there was of it on its first day.
    pub amount: Money,
    /// The first day whose charges it pays.
    pub from: Day,
    /// The first day whose charges it no longer pays; `None` if it does not expire.
    pub until: Option<Day>,
    /// Whether charges that it pays count as used under a commitment, as those paid in advance do. A
    /// credit that was given usually does not.
    pub counts: bool,
}

impl Credit {
    fn is_active(&self, day: Day) -> bool {
        self.from <= day && self.until.is_none_or(|until| day < until)
    }

    fn pays(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|rule| rule.matches(model))
    }
}

/// Days, from the first up to the first after; `from` is `None` for all before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySpan {
    /// The first.
    pub from: Option<Day>,
    /// The first that is not one of them.
    pub until: Day,
}

impl DaySpan {
    fn contains(&self, day: Day) -> bool {
        self.from.is_none_or(|from| from <= day) && day < self.until
    }

    /// Whether something that holds from a day until another does so on one of them.
    fn meets(&self, from: Day, until: Option<Day>) -> bool {
        let is_empty = self.from.is_some_and(|first| self.until <= first);
        let over = self.from.is_some_and(|first| until.is_some_and(|until| until <= first));
        from < self.until && !over && !is_empty
    }
}

/// Charges, summed, and beside them what is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// At list prices.
    pub list: Money,
    /// At contracted prices.
    pub contracted: Money,
    /// Attempts of unknown usage: in no sum here.
    pub unknown: u64,
    /// What they may have cost at most, as far as that is known.
    pub at_most: Money,
    /// Those of them of which it is not.
    pub unbounded: u64,
    /// Attempts without a price: in no sum here.
    pub unpriced: u64,
}

impl Spent {
    fn add(&mut self, other: &Self) {
        self.list += other.list;
        self.contracted += other.contracted;
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.at_most += other.at_most;
        self.unbounded = self.unbounded.saturating_add(other.unbounded);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
    }
}

/// The charges of a ledger, by provider, day and model. Adjustments are charges of the day on which they
/// were posted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Charges {
    /// The first day of the ledger; what was used before is not known. `None` if it is empty.
    begins: Option<Day>,
    /// Charges of which the provider is not known: in no commitment and paid by no credit.
    pub unattributed: Money,
    by_provider: BTreeMap<String, BTreeMap<Day, BTreeMap<String, Spent>>>,
}

impl Charges {
    /// None yet, of a ledger that begins on a day.
    #[must_use]
    pub fn since(begins: Option<Day>) -> Self {
        Self { begins, ..Self::default() }
    }

    /// Adds charges of a model, named as in the book, in lower case.
    pub fn add(&mut self, provider: &str, day: Day, model: &str, spent: &Spent) {
        let days = self.by_provider.entry(provider.to_owned()).or_default();
        days.entry(day).or_default().entry(model.to_owned()).or_default().add(spent);
    }
}

/// All commitments and credits.
#[derive(Debug, Clone, Default)]
pub struct Agreements {
    /// No two of a provider at the same time.
    pub commitments: Vec<Commitment>,
    /// In any order: those that expire first are used first.
    pub credits: Vec<Credit>,
}

/// How agreements stand with the charges of a ledger.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    agreements: &'a Agreements,
    begins: Option<Day>,
    unattributed: Money,
    today: Day,
    by_provider: BTreeMap<&'a str, BTreeMap<Day, Paid>>,
}

/// The charges of a day, and what each credit paid of them.
#[derive(Debug, Clone, Default)]
struct Paid {
    spent: Spent,
    by_credit: BTreeMap<usize, Money>,
}

impl Agreements {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commitments.is_empty() && self.credits.is_empty()
    }

    /// How they stand as of a day, which is not over.
    ///
    /// Credits pay day by day, the one that expires first before the others, and of those that expire
    /// together one for some models before one for all; each pays first what the fewest of the others
    /// could. They pay at most what a model's charges of the day came to, adjustments included.
    #[must_use]
    pub fn standing<'a>(&'a self, charges: &'a Charges, today: Day) -> Standing<'a> {
        let mut left: Vec<Money> = self.credits.iter().map(|credit| credit.amount).collect();
        let mut by_provider: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (provider, days) in &charges.by_provider {
            let paid = days.iter().map(|(day, models)| {
                let by_credit = self.draw(provider, *day, models, &mut left);
                let mut spent = Spent::default();
                models.values().for_each(|one| spent.add(one));
                (*day, Paid { spent, by_credit })
            });
            by_provider.insert(provider.as_str(), paid.collect());
        }
        let Charges { begins, unattributed, .. } = *charges;
        Standing { agreements: self, begins, unattributed, today, by_provider }
    }

    /// What credits pay of the charges of a day.
    fn draw(
        &self,
        provider: &str,
        day: Day,
        models: &BTreeMap<String, Spent>,
        left: &mut [Money],
    ) -> BTreeMap<usize, Money> {
        let credit = |index: usize| &self.credits[index];
        let mut active: Vec<usize> = (0..self.credits.len())
            .filter(|&index| credit(index).provider == provider && credit(index).is_active(day))
            .filter(|&index| left[index] > Money::ZERO)
            .collect();
        active.sort_by_key(|&index| {
            let credit = credit(index);
            (credit.until.is_none(), credit.until, credit.models.is_none())
        });
        let mut open: Vec<(&str, Money)> =
            models.iter().map(|(model, spent)| (model.as_str(), spent.contracted)).collect();
        let mut drawn = BTreeMap::new();
        let mut rest = active.as_slice();
        while let Some((&index, others)) = rest.split_first() {
            let payers =
                |model: &str| others.iter().filter(|other| credit(**other).pays(model)).count();
            open.sort_by_key(|(model, _)| (payers(model), *model));
            for (_, due) in open.iter_mut().filter(|(model, _)| credit(index).pays(model)) {
                let part = left[index].min(*due);
                if part > Money::ZERO {
                    left[index] = left[index] - part;
                    *due = *due - part;
                    *drawn.entry(index).or_default() += part;
                }
            }
            rest = others;
        }
        drawn
    }
}

/// What is billed for days by a provider with which there are agreements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// The provider.
    pub provider: String,
    /// What was charged.
    pub spent: Spent,
    /// What credits paid of it.
    pub credits: Money,
    /// What is due beyond it for periods of a commitment that ended in these days.
    pub shortfall: Money,
    /// Whether what is due is known for all of these periods: it is not where the ledger began later than
    /// the period and has less than was committed to.
    pub is_complete: bool,
}

impl Billed {
    /// What is billed: contracted cost, less credits, plus shortfall.
    #[must_use]
    pub fn billed(&self) -> Money {
        self.spent.contracted - self.credits + self.shortfall
    }
}

/// A commitment in one of its periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentPeriod<'a> {
    /// The commitment.
    pub commitment: &'a Commitment,
    /// The first day of the period.
    pub from: Day,
    /// The first day after.
    pub until: Day,
    /// What was charged in it.
    pub spent: Spent,
    /// What credits paid of that which does not count as used.
    pub not_counted: Money,
    /// What is used of it: as far as is known, and at least.
    pub used: Money,
    /// Whether that is all: the ledger began with the period or before, or it is known what was used
    /// until then.
    pub is_complete: bool,
    /// Whether the period is over.
    pub is_over: bool,
}

impl CommitmentPeriod<'_> {
    /// What is not used: a shortfall that is due if the period is over, and at most that if not all is
    /// known; else what is due if nothing more is used.
    #[must_use]
    pub fn left(&self) -> Money {
        (self.commitment.amount - self.used).max(Money::ZERO)
    }

    /// What is due although it was not used; `None` while the period runs, or if it is not known. If what
    /// is known is enough, nothing is due.
    #[must_use]
    pub fn shortfall(&self) -> Option<Money> {
        let left = self.left();
        let is_known = self.is_complete || left == Money::ZERO;
        (self.is_over && is_known).then_some(left)
    }
}

/// A credit, as days leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditLeft<'a> {
    /// The credit.
    pub credit: &'a Credit,
    /// What it paid before these days.
    pub before: Money,
    /// What it paid of these days.
    pub drawn: Money,
    /// Whether it has expired after these days: then what is left is lost.
    pub is_over: bool,
    /// Whether the ledger has all days on which it may have paid.
    pub is_complete: bool,
}

impl CreditLeft<'_> {
    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Money {
        self.credit.amount - self.before - self.drawn
    }
}

impl Standing<'_> {
    /// The first day of the ledger.
    #[must_use]
    pub fn begins(&self) -> Option<Day> {
        self.begins
    }

    /// Charges of which the provider is not known, in nothing here.
    #[must_use]
    pub fn unattributed(&self) -> Money {
        self.unattributed
    }

    /// What is billed for days, of each provider of whose agreements one holds in them. Bills of days that
    /// follow each other sum to the bill of all of them.
    #[must_use]
    pub fn billed(&self, days: &DaySpan) -> Vec<Billed> {
        let Agreements { commitments, credits } = self.agreements;
        let commitments = commitments.iter();
        let held = commitments.map(|one| (&one.provider, one.from, one.until));
        let held = held.chain(credits.iter().map(|one| (&one.provider, one.from, one.until)));
        let held = held.filter(|(_, from, until)| days.meets(*from, *until));
        let mut providers: Vec<&String> = held.map(|(provider, ..)| provider).collect();
        providers.sort();
        providers.dedup();
        let of = |provider: &String| {
            let (spent, credits) = self.sum(provider, days, |_| true);
            let ended = self.periods(self.today).filter(|period| {
                let ends_in = days.from.is_none_or(|from| from < period.until);
                period.commitment.provider == *provider
                    && period.is_over
                    && ends_in
                    && period.until <= days.until
            });
            let ended: Vec<_> = ended.map(|period| period.shortfall()).collect();
            let is_complete = ended.iter().all(Option::is_some);
            let shortfall = ended.into_iter().flatten().sum();
            Billed { provider: provider.clone(), spent, credits, shortfall, is_complete }
        };
        providers.into_iter().map(of).collect()
    }

    /// Commitments, in each of their periods that has begun and has one of these days, all of the period
    /// counted: in order of time.
    #[must_use]
    pub fn commitments(&self, days: &DaySpan) -> Vec<CommitmentPeriod<'_>> {
        let met = |period: &CommitmentPeriod<'_>| days.meets(period.from, Some(period.until));
        let mut periods: Vec<_> = self.periods(days.until).filter(met).collect();
        periods.sort_by_key(|period| (&period.commitment.provider, period.from));
        periods
    }

    /// Credits that may pay charges of these days, those that expire first before the others.
    #[must_use]
    pub fn credits(&self, days: &DaySpan) -> Vec<CreditLeft<'_>> {
        let credits = self.agreements.credits.iter().enumerate();
        let met = credits.filter(|(_, credit)| days.meets(credit.from, credit.until));
        let left = met.map(|(index, credit)| {
            let drawn = |days: &DaySpan| self.sum(&credit.provider, days, |one| one == index).1;
            let before = days.from.map(|until| drawn(&DaySpan { from: None, until }));
            CreditLeft {
                credit,
                before: before.unwrap_or_default(),
                drawn: drawn(days),
                is_over: credit.until.is_some_and(|until| until <= days.until.min(self.today)),
                is_complete: self.begins.is_some_and(|begins| begins <= credit.from),
            }
        });
        let mut left: Vec<_> = left.collect();
        left.sort_by_key(|left| {
            let Credit { provider, until, .. } = left.credit;
            (provider, until.is_none(), *until)
        });
        left
    }

    /// All periods of commitments that have begun before a day; not those that were over when the ledger
    /// began, of which nothing is known.
    fn periods(&self, before: Day) -> impl Iterator<Item = CommitmentPeriod<'_>> {
        let begins = self.begins.unwrap_or(self.today);
        self.agreements.commitments.iter().flat_map(move |commitment| {
            let begun = commitment.periods().take_while(move |(from, _)| *from < before);
            let known = begun.filter(move |(_, until)| begins < *until);
            known.map(move |(from, until)| self.period(commitment, from, until))
        })
    }

    fn period<'s>(
        &'s self,
        commitment: &'s Commitment,
        from: Day,
        until: Day,
    ) -> CommitmentPeriod<'s> {
        let days = DaySpan { from: Some(from), until };
        let given = |index: usize| !self.agreements.credits[index].counts;
        let (spent, not_counted) = self.sum(&commitment.provider, &days, given);
        let begins_in = self.begins.is_some_and(|begins| from < begins && begins < until);
        let before = commitment.used_before.filter(|_| begins_in);
        CommitmentPeriod {
            commitment,
            from,
            until,
            spent,
            not_counted,
            used: spent.contracted - not_counted + before.unwrap_or_default(),
            is_complete: before.is_some() || self.begins.is_some_and(|begins| begins <= from),
            is_over: until <= self.today,
        }
    }

    /// The charges of days, and what some of the credits paid of them.
    fn sum(&self, provider: &str, days: &DaySpan, some: impl Fn(usize) -> bool) -> (Spent, Money) {
        let (mut spent, mut paid) = (Spent::default(), Money::ZERO);
        let all = self.by_provider.get(provider).into_iter().flatten();
        for (_, day) in all.filter(|(day, _)| days.contains(**day)) {
            spent.add(&day.spent);
            let credits = day.by_credit.iter().filter(|(index, _)| some(**index));
            paid += credits.map(|(_, part)| *part).sum();
        }
        (spent, paid)
    }
}

#[cfg(test)]
mod tests;

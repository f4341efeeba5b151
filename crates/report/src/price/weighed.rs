//! What a change of prices does to recorded usage: each attempt priced before and after it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use quantity::{Money, PerClass, Period, PriceRowId, TokenClass, UnixTime, Usage, grouped};
use tariff::PriceRow;

use crate::json::Json;
use crate::number::{
    NO_BOOK_PRICES, attempts_by_outcome, decimals, dollars, signed, signed_percent, usd,
};
use crate::object;
use crate::table::{Style, Table};

/// What an attempt costs and by which row, or why it has no price.
pub type Priced<'a> = Result<(&'a PriceRow, Money), &'a str>;

/// Changes of prices, weighed with the attempts of a period, filled attempt by attempt.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// When the exchanges were admitted.
    pub period: Period,
    /// Attempts that no book can price: by the hour, not billed, or of unknown usage.
    pub untouched: u64,
    /// Attempts that cost the same before and after.
    same: u64,
    /// What they cost.
    same_cost: Money,
    /// Attempts without a price before and after.
    unpriced: u64,
    lines: BTreeMap<Line, Sums>,
}

/// What attempts of a line have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) at: UnixTime,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) tier: String,
    before: Result<PriceRowId, String>,
    after: Result<PriceRowId, String>,
}

/// What they come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    attempts: u64,
    tokens: PerClass<u64>,
    before: Money,
    after: Money,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        for (class, tokens) in other.tokens.iter() {
            self.tokens[class] = self.tokens[class].saturating_add(*tokens);
        }
        self.before += other.before;
        self.after += other.after;
    }

    pub(super) fn difference(&self) -> Money {
        self.after - self.before
    }

    fn all_tokens(&self) -> u64 {
        self.tokens.iter().fold(0, |sum, (_, tokens)| sum.saturating_add(*tokens))
    }
}

impl Weighed {
    /// Without any attempts yet.
    #[must_use]
    pub fn new(period: Period) -> Self {
        let (untouched, same, same_cost, unpriced) = (0, 0, Money::ZERO, 0);
        Self { period, untouched, same, same_cost, unpriced, lines: BTreeMap::new() }
    }

    /// Adds an attempt: its usage, and what that costs before and after the prices of `at`.
    pub fn add(&mut self, at: UnixTime, usage: &Usage, before: Priced<'_>, after: Priced<'_>) {
        let row = match (before, after) {
            (Err(_), Err(_)) => {
                self.unpriced += 1;
                return;
            }
            (Ok((_, before)), Ok((_, after))) if before == after => {
                self.same += 1;
                self.same_cost += before;
                return;
            }
            (_, Ok((row, _))) | (Ok((row, _)), Err(_)) => row,
        };
        let id = |priced: Priced<'_>| priced.map(|(row, _)| row.id()).map_err(str::to_owned);
        let cost = |priced: Priced<'_>| priced.map_or(Money::ZERO, |(_, cost)| cost);
        let line = Line {
            at,
            provider: row.provider().to_owned(),
            model: row.model().to_owned(),
            tier: row.tier().to_owned(),
            before: id(before),
            after: id(after),
        };
        let tokens = PerClass::from_fn(|class: TokenClass| usage.tokens[class].get());
        let one = Sums { attempts: 1, tokens, before: cost(before), after: cost(after) };
        self.lines.entry(line).or_default().add(&one);
    }

    /// Whether attempts of the period have one of these prices before a change, and the other after.
    pub(super) fn touches(&self, change: &tariff::Change<'_>) -> bool {
        let [before, after] = [change.before, change.after].map(|row| row.map(PriceRow::id));
        let mut lines = self.lines.keys();
        lines.any(|line| {
            line.at == change.at
                && line.before.as_ref().ok().copied() == before
                && line.after.as_ref().ok().copied() == after
        })
    }

    /// Lines with a price before and after, those of the largest difference first.
    pub(super) fn lines(&self) -> Vec<(&Line, &Sums)> {
        let lines = self.lines.iter();
        let mut lines: Vec<_> =
            lines.filter(|(line, _)| line.before.is_ok() && line.after.is_ok()).collect();
        lines.sort_by_key(|(_, sums)| Reverse(sums.difference().pico().unsigned_abs()));
        lines
    }

    /// Lines that have a price on one side alone, with why they have none on the other.
    fn one_sided(&self) -> impl Iterator<Item = (&Line, &String, &Sums)> {
        self.lines.iter().filter_map(|(line, sums)| {
            let reason = line.before.as_ref().err().or(line.after.as_ref().err())?;
            Some((line, reason, sums))
        })
    }

    /// The sum of the lines with a price before and after.
    pub(super) fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.lines().into_iter().for_each(|(_, sums)| total.add(sums));
        total
    }

    /// The differences as a table; with `dated`, each with the day of its prices.
    pub(super) fn table(&self, style: Style, dated: bool) -> String {
        let lines = self.lines();
        if lines.is_empty() {
            return String::new();
        }
        let total = self.total();
        let places = decimals([total.before, total.after]);
        let mut table = Table::default();
        if dated {
            table = table.text("from");
        }
        table = table.text("provider").text("model").text("tier").minor("attempts", 2);
        table = table.minor("tokens", 1).number("before\nUSD").number("after\nUSD");
        table = table.number("difference\nUSD").number("change");
        let figures = |sums: &Sums| {
            let difference = sums.difference();
            [
                grouped(sums.attempts),
                grouped(sums.all_tokens()),
                dollars(sums.before, places),
                dollars(sums.after, places),
                signed(difference, places),
                signed_percent(sums.before.pico(), sums.after.pico()),
            ]
        };
        let day = |line: &Line| dated.then(|| line.at.day().to_string());
        for (line, sums) in &lines {
            let names = [&line.provider, &line.model, &line.tier].map(Clone::clone);
            table.row(day(line).into_iter().chain(names).chain(figures(sums)));
        }
        // Where one model changes several times, what it costs before is in several lines.
        if lines.len() > 1 && !dated {
            let labels = ["total", "", ""].map(str::to_owned);
            table.total(labels.into_iter().chain(figures(&total)));
        }
        table.render(style) + &self.without_price(style)
    }

    fn without_price(&self, style: Style) -> String {
        if self.one_sided().next().is_none() {
            return String::new();
        }
        let mut table = Table::default().text("priced on one side alone").text("tier");
        table = table.number("attempts").number("before\nUSD").number("after\nUSD").prose("");
        let amounts = || self.one_sided().flat_map(|(_, _, sums)| [sums.before, sums.after]);
        let places = decimals(amounts());
        for (line, reason, sums) in self.one_sided() {
            let shown = |side: &Result<PriceRowId, String>, amount| match side {
                Ok(_) => dollars(amount, places),
                Err(_) => "unpriced".to_owned(),
            };
            table.row([
                format!("{}/{}", line.provider, line.model),
                line.tier.clone(),
                grouped(sums.attempts),
                shown(&line.before, sums.before),
                shown(&line.after, sums.after),
                format!("{reason}; in no difference here"),
            ]);
        }
        format!("\n{}", table.render(style))
    }

    /// How many attempts were looked at, and what came of them.
    pub(super) fn counts(&self) -> String {
        let one_sided: u64 = self.one_sided().map(|(_, _, sums)| sums.attempts).sum();
        let parts = [
            (self.total().attempts, "with a difference"),
            (self.same, "that cost the same"),
            (one_sided, "priced on one side alone"),
            (self.unpriced, "without a price before and after"),
            (self.untouched, NO_BOOK_PRICES),
        ];
        attempts_by_outcome(&parts)
    }

    /// For JSON.
    pub(super) fn json(&self) -> Json {
        let line = |line: &Line, sums: &Sums| {
            let tokens = sums.tokens.iter().filter(|(_, tokens)| **tokens > 0);
            let tokens = tokens.map(|(class, tokens)| (class.name().to_owned(), (*tokens).into()));
            let both = line.before.is_ok() && line.after.is_ok();
            object! {
                "from" => line.at,
                "provider" => &line.provider,
                "model" => &line.model,
                "tier" => &line.tier,
                "before_row" => line.before.as_ref().ok().map(PriceRowId::to_string),
                "after_row" => line.after.as_ref().ok().map(PriceRowId::to_string),
                "attempts" => sums.attempts,
                "tokens" => Json::Object(tokens.collect()),
                "before_usd" => line.before.is_ok().then_some(sums.before),
                "after_usd" => line.after.is_ok().then_some(sums.after),
                "difference_usd" => both.then(|| sums.difference()),
                "unpriced" => line.before.as_ref().err().or(line.after.as_ref().err()),
            }
        };
        let lines = self.lines();
        let lines = lines.into_iter().map(|(one, sums)| line(one, sums));
        let total = self.total();
        object! {
            "period" => object! { "since" => self.period.start, "until" => self.period.end },
            "lines" => lines.collect::<Json>(),
            "one_sided" => self.one_sided().map(|(one, _, sums)| line(one, sums)).collect::<Json>(),
            "same_attempts" => self.same,
            "same_usd" => self.same_cost,
            "unpriced_attempts" => self.unpriced,
            "untouched_attempts" => self.untouched,
            "total" => object! {
                "attempts" => total.attempts,
                "before_usd" => total.before,
                "after_usd" => total.after,
                "difference_usd" => total.difference(),
            },
        }
    }

    /// Whether attempts that have a price before have none after.
    #[must_use]
    pub fn loses_a_price(&self) -> bool {
        self.lines.keys().any(|line| line.before.is_ok() && line.after.is_err())
    }

    /// Whether all that has a price before and after costs more after, by more than so many percent
    /// of what it costs before.
    #[must_use]
    pub fn is_dearer_by(&self, percent: u32) -> bool {
        let total = self.total();
        let limit = (total.before + self.same_cost).scaled(u64::from(percent), 100);
        let more = total.difference();
        more > Money::ZERO && limit.is_none_or(|limit| more > limit)
    }

    /// How much more or less all of it costs that has a price before and after.
    pub(super) fn outcome(&self) -> String {
        let total = self.total();
        let [before, after] = [total.before, total.after].map(|cost| cost + self.same_cost);
        let difference = total.difference();
        let size = usd(Money::from_pico(difference.pico().abs()), decimals([before, after]));
        let share = signed_percent(before.pico(), after.pico());
        match difference {
            Money::ZERO => "no difference".to_owned(),
            _ if difference > Money::ZERO => format!("{size} more ({share})"),
            _ => format!("{size} less ({share})"),
        }
    }
}

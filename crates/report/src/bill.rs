//! The bill: what was spent, on what, at which unit price, and how much of it is not known.

mod data;
mod told;
mod uncertain;

use std::time::Duration;

use facts::{AdjustmentLine, Answer, Group, HostedLine, Measures, Other, WasteCause};
use quantity::{Day, Money, TokenClass, UnixTime, grouped};

pub use self::uncertain::{Uncertain, uncertain};
use crate::contracts::Contracts;
use crate::json::Json;
use crate::number::{
    Cost, class_price, count_share, decimals, dollars, duration, money_share, per_mille, per_mtok,
    per_thousand, percent, priced_tokens, ratio, usd,
};
use crate::object;
use crate::price::Coming;
use crate::table::{Style, Table, printable};

/// The price book that a report rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookLine {
    /// Its name.
    pub name: String,
    /// The day its prices were taken.
    pub as_of: Day,
}

impl BookLine {
    /// As reports name it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("price book {} of {}", printable(&self.name), self.as_of)
    }

    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        object! { "name" => &self.name, "as_of" => self.as_of.to_string() }
    }
}

/// A bill, ready to be rendered.
#[derive(Debug, Clone)]
pub struct Bill<'a> {
    answer: &'a Answer,
    book: &'a BookLine,
    now: UnixTime,
    coming: &'a [Coming],
    contracts: Option<Contracts<'a>>,
}

/// Classes that every bill shows; the others when there are any.
const COMMON: [TokenClass; 4] = [
    TokenClass::InputUncached,
    TokenClass::CacheRead,
    TokenClass::OutputText,
    TokenClass::Reasoning,
];

/// What stands for a label that an exchange does not carry.
pub const NO_LABEL: &str = "(none)";

impl<'a> Bill<'a> {
    /// A bill of an answer as of `now`.
    #[must_use]
    pub fn new(answer: &'a Answer, book: &'a BookLine, now: UnixTime) -> Self {
        Self { answer, book, now, coming: &[], contracts: None }
    }

    /// With prices of its models that are going to change.
    #[must_use]
    pub fn with_coming(self, coming: &'a [Coming]) -> Self {
        Self { coming, ..self }
    }

    /// The same with what contracts and credits make of it, where there are any.
    #[must_use]
    pub fn with_contracts(self, contracts: Option<Contracts<'a>>) -> Self {
        Self { contracts, ..self }
    }

    /// For a terminal. Where it is narrow, tables leave figures out before they cut labels below 16
    /// cells: of the groups first dollars per million tokens, then the share of spend, then the cached
    /// part of the input, then dollars per 1,000 exchanges, then
    /// the attempts.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let total = &self.answer.total;
        let mut out = self.heading(style);
        if total.exchanges == 0 && total.attempts == 0 {
            out.push_str("\nNo exchanges in this period.\n");
            for section in [self.hosting(style), self.agreed(style)].into_iter().flatten() {
                out.push('\n');
                out.push_str(&section);
            }
            if let Some(note) = self.adjusted() {
                out.push('\n');
                out.push_str(&style.faint_words(&note));
            }
            for gap in self.gaps() {
                out.push('\n');
                out.push_str(&style.faint_words(&gap));
            }
            return out;
        }
        let mut section = |table: Option<String>| {
            if let Some(table) = table {
                out.push('\n');
                out.push_str(&table);
            }
        };
        section(Some(self.groups(style)));
        section(Some(self.classes(style)));
        section(self.hosting(style));
        section(self.waste(style));
        section(self.told(style));
        section(self.uncertainty(style));
        section(self.notes(style));
        section(self.agreed(style));
        out
    }

    fn heading(&self, style: Style) -> String {
        let by: Vec<String> = self.answer.query.by.iter().map(ToString::to_string).collect();
        let title = if by.is_empty() {
            "Bill".to_owned()
        } else {
            printable(&format!("Bill by {}", by.join(", ")))
        };
        let spend = match self.cost() {
            Cost::Known(Money::ZERO) => "nothing spent".to_owned(),
            Cost::Known(spend) => usd(spend, decimals([spend])),
            Cost::AtLeast(spend) => format!("at least {}", usd(spend, decimals([spend]))),
            Cost::Unpriced | Cost::Unknown => "not known".to_owned(),
        };
        format!(
            "{}\n{}",
            style.heading(&format!("{title}: {spend}")),
            style.faint_words(&format!("{}; {}; US dollars", self.period(), self.book.text())),
        )
    }

    /// The period in words, ends as asked for; where left open, what was seen.
    #[must_use]
    pub fn period(&self) -> String {
        let minute = |at: UnixTime| at.to_string()[..16].replace('T', " ");
        let period = self.answer.query.period;
        let seen = self.answer.seen;
        let since = period.start.or(seen.map(|(first, _)| first));
        let until = period.end.unwrap_or(self.now).min(self.now);
        match (since, period.end) {
            (Some(since), None) if since > until => {
                format!("from {} UTC, which is to come", minute(since))
            }
            (Some(since), Some(end)) if since > until => {
                format!("{} to {} UTC, which is to come", minute(since), minute(end))
            }
            (Some(since), _) => format!("{} to {} UTC", minute(since), minute(until)),
            (None, _) => format!("until {} UTC", minute(until)),
        }
    }

    fn groups(&self, style: Style) -> String {
        let total = &self.answer.total;
        let retried = total.attempts != total.exchanges;
        let mut table = Table::default();
        for by in &self.answer.query.by {
            table = table.text(&by.to_string());
        }
        if self.answer.query.by.is_empty() {
            table = table.text("");
        }
        table = table.number("exchanges");
        if retried {
            table = table.minor("attempts", 5);
        }
        table = table.number("input\ntokens").minor("of it\ncached", 3);
        table = table.number("output\ntokens").number("cost\nUSD");
        table = table.minor("share\nof spend", 2).minor("USD per 1k\nexchanges", 4);
        table = table.minor("USD per\nMtok", 1);
        let spend = self.answer.spend();
        let places = decimals([spend]);
        let figures = |measures: &Measures, cost: Cost| {
            let mut cells = vec![grouped(measures.exchanges)];
            if retried {
                cells.push(grouped(measures.attempts));
            }
            let share = cost.amount().and_then(|cost| money_share(cost, spend));
            cells.extend([
                grouped(measures.input()),
                percent(count_share(cached(measures), measures.input())),
                grouped(measures.output()),
                cost.written(|amount| dollars(amount, places)),
                percent(share),
                ratio(cost.amount().and_then(|cost| per_thousand(cost, measures.exchanges))),
                ratio(cost.amount().and_then(|cost| per_mtok(cost, priced_tokens(measures)))),
            ]);
            cells
        };
        for group in &self.answer.groups {
            let labels: Vec<String> = if group.key.is_empty() {
                vec!["all".to_owned()]
            } else {
                labels(group).map(str::to_owned).collect()
            };
            table
                .row(labels.into_iter().chain(figures(&group.measures, Cost::of(&group.measures))));
        }
        // Idle time is nobody's, yet it is on the bill.
        let named = |name: String| {
            let rest = self.answer.query.by.len().saturating_sub(1);
            [name].into_iter().chain(std::iter::repeat_n(String::new(), rest))
        };
        if let Some(other) = &self.answer.other {
            let cells = figures(&other.measures, Cost::of(&other.measures));
            table.row(named(other_name(other)).chain(cells));
        }
        let idle_lines = self.idle().count();
        for line in self.idle() {
            let none = || "-".to_owned();
            let mut cells = vec![none(); if retried { 5 } else { 4 }];
            cells.push(dollars(line.idle, places));
            cells.push(percent(money_share(line.idle, spend)));
            cells.extend([none(), none()]);
            table.row(named(idle_name(line)).chain(cells));
        }
        for line in &self.answer.adjustments {
            let none = || "-".to_owned();
            let mut cells = vec![none(); if retried { 5 } else { 4 }];
            cells.push(dollars(line.contracted, places));
            cells.push(percent(money_share(line.contracted, spend)));
            cells.extend([none(), none()]);
            table.row(named(adjusted_name(line)).chain(cells));
        }
        let further = idle_lines + self.answer.adjustments.len();
        if self.answer.groups.len() + further + usize::from(self.answer.other.is_some()) > 1 {
            let cost = self.cost();
            table.total(named("total".to_owned()).chain(figures(total, cost)));
        }
        table.render(style)
    }

    /// Upstreams with hours that were paid for and served nobody.
    fn idle(&self) -> impl Iterator<Item = &HostedLine> {
        self.answer.hosting.iter().filter(|line| line.idle > Money::ZERO)
    }

    /// What the whole bill comes to, idle hours and adjustments included.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match Cost::of(&self.answer.total) {
            Cost::Known(_) => Cost::Known(self.answer.spend()),
            Cost::AtLeast(_) => Cost::AtLeast(self.answer.spend()),
            Cost::Unpriced | Cost::Unknown if self.answer.spend() != Money::ZERO => {
                Cost::AtLeast(self.answer.spend())
            }
            other => other,
        }
    }

    fn classes(&self, style: Style) -> String {
        let total = &self.answer.total;
        let tokens = total.input() + total.output();
        let mut table = Table::default().text("token class").number("tokens");
        table = table.minor("share of\ntokens", 1).number("cost\nUSD");
        table = table.minor("share of\ntoken cost", 2).minor("USD per\nMtok", 3);
        let places = decimals([total.cost]);
        for class in shown(total) {
            let cost = total.cost_by_class[class];
            let priced = total.priced_tokens[class];
            let all = total.tokens[class];
            // Tokens without a price, and tokens paid by the hour, have no cost of their class.
            let text = match priced {
                0 => "-".to_owned(),
                _ if priced < all => dollars(cost, places) + "*",
                _ => dollars(cost, places),
            };
            let share = (priced > 0).then(|| money_share(cost, total.cost)).flatten();
            table.row([
                class_name(class).to_owned(),
                grouped(all),
                percent(count_share(all, tokens)),
                text,
                percent(share),
                ratio(class_price(total, class)),
            ]);
        }
        if total.cost_of_units > Money::ZERO {
            let cost = dollars(total.cost_of_units, places);
            let share = percent(money_share(total.cost_of_units, total.cost));
            let none = || "-".to_owned();
            table.row(["searches, calls".to_owned(), none(), none(), cost, share, none()]);
        }
        table.render(style)
    }

    fn hosting(&self, style: Style) -> Option<String> {
        // An upstream that has its price from another time says nothing of this period.
        let lines = self.answer.hosting.iter().filter(|line| paid(line) || line.attempts > 0);
        let lines: Vec<&HostedLine> = lines.collect();
        if lines.is_empty() {
            return None;
        }
        let mut table = Table::default().text("own GPUs").number("paid").minor("busy", 1);
        table = table.number("utilisation").number("busy\nUSD").number("idle\nUSD");
        table = table.minor("useful\ntokens", 2).number("USD per\nuseful Mtok");
        let places = decimals(lines.iter().flat_map(|line| [line.busy, line.idle]));
        for line in lines {
            // Attempts while no hourly cost was in force have no known cost.
            let known = |text: String| if paid(line) { text } else { "-".to_owned() };
            table.row([
                line.upstream.clone(),
                known(duration(line.paid)),
                known(duration(line.busy_time)),
                percent(utilisation(line)),
                known(dollars(line.busy, places)),
                known(dollars(line.idle, places)),
                grouped(line.useful_tokens),
                ratio(per_useful_mtok(line)),
            ]);
        }
        Some(table.render(style))
    }

    fn agreed(&self, style: Style) -> Option<String> {
        self.contracts.and_then(|contracts| contracts.sections(style))
    }

    fn waste(&self, style: Style) -> Option<String> {
        let total = &self.answer.total;
        if total.waste.is_empty() {
            return None;
        }
        let mut table = Table::default().text("waste").number("cost\nUSD");
        table = table.number("share of\ntoken cost");
        let places = decimals([total.cost]);
        let figures = |cost: Money| [dollars(cost, places), percent(money_share(cost, total.cost))];
        for (cause, cost) in &total.waste {
            table.row([cause_name(*cause).to_owned()].into_iter().chain(figures(*cost)));
        }
        if total.waste.len() > 1 {
            let sum = total.waste.values().copied().sum();
            table.total(["all of it".to_owned()].into_iter().chain(figures(sum)));
        }
        Some(table.render(style))
    }

    /// What was posted in the period for attempts that have another price now, in words; `None` if
    /// nothing was.
    #[must_use]
    pub fn adjusted(&self) -> Option<String> {
        let lines = &self.answer.adjustments;
        let sum = self.answer.adjusted();
        let count: u64 = lines.iter().map(|line| line.adjustments).sum();
        (count > 0).then(|| {
            let adjustments = match count {
                1 => "1 adjustment".to_owned(),
                _ => format!("{} adjustments", grouped(count)),
            };
            format!(
                "{adjustments} posted in this period, {} together, are in the sum: attempts of this \
                 or an earlier period have another price now, and their own bills stay as they were.",
                usd(sum, decimals([sum])),
            )
        })
    }

    /// What the bill lacks because the ledger could not record it, in words.
    pub fn gaps(&self) -> impl Iterator<Item = String> {
        self.answer.gaps.iter().map(|gap| {
            let exchanges = match gap.exchanges {
                1 => "1 exchange".to_owned(),
                count => format!("{} exchanges", grouped(count)),
            };
            let known = match gap.cost {
                Some(cost) => format!("{} of them is known and", usd(cost, decimals([cost]))),
                None => "nothing of their cost is known, and it is".to_owned(),
            };
            let (since, until) = (gap.since, gap.until);
            format!("! {exchanges} passed without ledger between {since} and {until}; {known} not in this bill")
        })
    }

    /// What is to be said below the tables.
    fn notes(&self, style: Style) -> Option<String> {
        let total = &self.answer.total;
        let mut notes = Vec::new();
        if total.unpriced == 0 && self.classes_have_marks() {
            notes.push("* the cost of tokens paid by the hour is not in their class".to_owned());
        }
        if uncertain(total).is_empty() {
            notes.push(
                "All usage was reported by the providers, and all of it has a price.".to_owned(),
            );
        }
        if total.cost != total.list_cost {
            let places = decimals([total.list_cost, total.cost]);
            let (less, difference) = match total.list_cost > total.cost {
                true => ("less", total.list_cost - total.cost),
                false => ("more", total.cost - total.list_cost),
            };
            notes.push(format!(
                "Own prices: {} {less} than the {} at list prices.",
                usd(difference, places),
                usd(total.list_cost, places),
            ));
        }
        notes.extend(self.adjusted());
        notes.extend(self.gaps());
        if !self.coming.is_empty() {
            let words = "Prices of these models are going to change; `farthing price schedule` tells \
                         what that does to your traffic:";
            notes.push(words.to_owned());
            notes.extend(self.coming.iter().map(|one| one.notice(self.now)));
        }
        let notes: String = notes.iter().map(|note| style.faint_words(note)).collect();
        (!notes.is_empty()).then_some(notes)
    }

    fn classes_have_marks(&self) -> bool {
        let total = &self.answer.total;
        shown(total).any(|class| (1..total.tokens[class]).contains(&total.priced_tokens[class]))
    }
}

/// Input tokens that a cache served.
#[must_use]
pub fn cached(measures: &Measures) -> u64 {
    let read = [
        TokenClass::CacheRead,
        TokenClass::CacheReadAudio,
        TokenClass::CacheReadImage,
        TokenClass::CacheReadVideo,
    ];
    read.iter().map(|class| measures.tokens[*class]).sum()
}

/// The classes that a bill shows.
pub fn shown(measures: &Measures) -> impl Iterator<Item = TokenClass> {
    let all = TokenClass::ALL.iter().copied();
    all.filter(|class| COMMON.contains(class) || measures.tokens[*class] > 0)
}

/// The cost of a class, as far as it has a price by the token.
#[must_use]
pub fn class_cost(measures: &Measures, class: TokenClass) -> Option<Money> {
    let none = measures.tokens[class] > 0 && measures.priced_tokens[class] == 0;
    (!none).then_some(measures.cost_by_class[class])
}

/// A class in words.
#[must_use]
pub fn class_name(class: TokenClass) -> &'static str {
    match class {
        TokenClass::InputUncached => "input, uncached",
        TokenClass::CacheRead => "input, cache read",
        TokenClass::CacheWrite5m => "input, cache write 5 min",
        TokenClass::CacheWrite1h => "input, cache write 1 h",
        TokenClass::OutputText => "output, text",
        TokenClass::Reasoning => "output, reasoning",
        TokenClass::InputAudio => "input, audio",
        TokenClass::InputImage => "input, image",
        TokenClass::InputVideo => "input, video",
        TokenClass::CacheReadAudio => "input, audio cache read",
        TokenClass::CacheReadImage => "input, image cache read",
        TokenClass::CacheReadVideo => "input, video cache read",
        TokenClass::OutputAudio => "output, audio",
        TokenClass::OutputImage => "output, image",
        TokenClass::OutputVideo => "output, video",
    }
}

/// A cause of waste in words.
#[must_use]
pub fn cause_name(cause: WasteCause) -> &'static str {
    match cause {
        WasteCause::Rejected => "rejected by the provider",
        WasteCause::Failed => "failed",
        WasteCause::Aborted => "aborted by the client",
        WasteCause::Truncated => "cut at the output limit",
    }
}

/// The labels of a group, in the order of the query.
pub fn labels(group: &Group) -> impl Iterator<Item = &str> {
    group.key.iter().map(|label| label.as_deref().unwrap_or(NO_LABEL))
}

/// How a bill names groups that are counted as one.
#[must_use]
pub fn other_name(other: &Other) -> String {
    let more = if other.or_more { " or more" } else { " more" };
    format!("(other: {}{more})", grouped(other.groups))
}

/// How a bill names the idle time of an upstream.
fn idle_name(line: &HostedLine) -> String {
    format!("({} idle)", line.upstream)
}

/// How a bill names the adjustments of a model.
#[must_use]
pub fn adjusted_name(line: &AdjustmentLine) -> String {
    format!("(adjusted {}/{})", line.provider, line.model)
}

/// Busy time of paid time, in thousandths.
#[must_use]
pub fn utilisation(line: &HostedLine) -> Option<u64> {
    let nanos = |time: Duration| i128::try_from(time.as_nanos()).ok();
    per_mille(nanos(line.busy_time)?, nanos(line.paid)?)
}

/// What the hours cost for each million useful tokens, idle time included.
#[must_use]
pub fn per_useful_mtok(line: &HostedLine) -> Option<Money> {
    paid(line).then(|| per_mtok(line.busy + line.idle, line.useful_tokens)).flatten()
}

/// Whether an hourly cost was in force at all.
fn paid(line: &HostedLine) -> bool {
    line.paid > Duration::ZERO
}

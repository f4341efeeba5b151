//! What settled attempts would cost by other prices, beside what is booked for them.

use std::collections::BTreeMap;

use facts::Booked;
use quantity::{Money, Period, PriceRowId, UnixTime, grouped};

use crate::bill::BookLine;
use crate::json::Json;
use crate::number::{
    NO_BOOK_PRICES, attempts_by_outcome, decimals, dollars, signed, signed_percent, span, usd,
};
use crate::object;
use crate::table::{Style, Table, printable};

/// A re-rating, filled attempt by attempt.
#[derive(Debug, Clone)]
pub struct Rerating<'a> {
    /// When the exchanges were admitted.
    pub period: Period,
    /// When it was made.
    pub now: UnixTime,
    /// The price book.
    pub book: &'a BookLine,
    /// What was supposed instead of what was; nothing for a re-rating by the prices of now.
    pub supposed: Supposed,
    /// The model whose attempts alone are priced again; `None` for all.
    pub only: Option<String>,
    /// Texts of price rows, by their ids.
    pub rows: BTreeMap<PriceRowId, String>,
    /// How many adjustments were posted; `None` if they are only shown.
    pub posted: Option<u64>,
    /// Attempts that no book can price: by the hour, not billed, or of unknown usage.
    pub untouched: u64,
    /// Attempts that cost what is booked.
    pub unchanged: u64,
    /// Attempts that had no price and have none now.
    pub still_unpriced: u64,
    lines: BTreeMap<Line, Sums>,
}

/// What is supposed instead of what served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supposed {
    /// A provider and its model.
    pub served_by: Option<(String, String)>,
    /// A tier.
    pub tier: Option<String>,
    /// Another price book than the one in force.
    pub book: Option<BookLine>,
}

impl Supposed {
    /// Whether anything is supposed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn words(&self) -> String {
        let model = self.served_by.as_ref();
        let model = model.map(|(provider, model)| format!("by {provider}/{model}"));
        let tier = self.tier.as_ref().map(|tier| format!("on tier {tier}"));
        let book = self.book.as_ref().map(|book| format!("at the prices of {}", book.name));
        let parts: Vec<_> = [model, tier, book].into_iter().flatten().collect();
        format!("served {}", parts.join(" "))
    }
}

/// What attempts of a line have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    route: String,
    model: String,
    from: Option<PriceRowId>,
    to: Result<PriceRowId, String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    attempts: u64,
    booked: Money,
    booked_list: Money,
    now: Money,
    now_list: Money,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.booked += other.booked;
        self.booked_list += other.booked_list;
        self.now += other.now;
        self.now_list += other.now_list;
    }
}

impl<'a> Rerating<'a> {
    /// Without any attempts yet.
    #[must_use]
    pub fn new(period: Period, now: UnixTime, book: &'a BookLine, supposed: Supposed) -> Self {
        Self {
            period,
            now,
            book,
            supposed,
            only: None,
            rows: BTreeMap::new(),
            posted: None,
            untouched: 0,
            unchanged: 0,
            still_unpriced: 0,
            lines: BTreeMap::new(),
        }
    }

    /// Adds an attempt by the token: what is booked for it, and what it costs now or why it has no
    /// price. Where nothing is supposed, one that costs what is booked is only counted.
    pub fn add(
        &mut self,
        route: &str,
        model: &str,
        booked: Option<Booked>,
        now: Result<Booked, &str>,
    ) {
        match (booked, now) {
            (None, Err(_)) => {
                self.still_unpriced += 1;
                return;
            }
            (Some(booked), Ok(now))
                if self.supposed.is_nothing()
                    && (booked.contracted, booked.list) == (now.contracted, now.list) =>
            {
                self.unchanged += 1;
                return;
            }
            _ => {}
        }
        let line = Line {
            route: route.to_owned(),
            model: model.to_owned(),
            from: booked.map(|booked| booked.row),
            to: now.map(|now| now.row).map_err(str::to_owned),
        };
        let none = Money::ZERO;
        let (now, now_list) = now.map_or((none, none), |now| (now.contracted, now.list));
        let (booked, booked_list) = booked.map_or((none, none), |b| (b.contracted, b.list));
        let one = Sums { attempts: 1, booked, booked_list, now, now_list };
        self.lines.entry(line).or_default().add(&one);
    }

    /// Lines with a price now, those of the largest difference first. A counterfactual compares what
    /// has a price either way: what had none is not $0.
    fn priced(&self) -> Vec<(&Line, &Sums)> {
        let counts = |line: &Line| line.from.is_some() || self.supposed.is_nothing();
        let lines = self.lines.iter();
        let mut lines: Vec<_> = lines.filter(|(line, _)| line.to.is_ok() && counts(line)).collect();
        let size = |sums: &Sums| (sums.now - sums.booked).pico().unsigned_abs();
        lines.sort_by_key(|(_, sums)| std::cmp::Reverse(size(sums)));
        lines
    }

    fn unpriced(&self) -> impl Iterator<Item = (&Line, &String, &Sums)> {
        let lines = self.lines.iter();
        lines.filter_map(|(line, sums)| Some((line, line.to.as_ref().err()?, sums)))
    }

    /// What had no price, and has one as it is supposed.
    fn gained(&self) -> impl Iterator<Item = (&Line, &Sums)> {
        let supposed = !self.supposed.is_nothing();
        let lines = self.lines.iter();
        lines.filter(move |(line, _)| supposed && line.to.is_ok() && line.from.is_none())
    }

    fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.priced().into_iter().for_each(|(_, sums)| total.add(sums));
        total
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let total = self.total();
        let difference = total.now - total.booked;
        let amount = Money::from_pico(difference.pico().abs());
        let amount = usd(amount, decimals([total.booked, total.now]));
        let share = signed_percent(total.booked.pico(), total.now.pico());
        let outcome = match difference {
            Money::ZERO if !self.supposed.is_nothing() && total.attempts == 0 => {
                "nothing could be priced".to_owned()
            }
            Money::ZERO if total.attempts == 0 => "nothing to adjust".to_owned(),
            Money::ZERO => "no difference in all".to_owned(),
            _ if difference > Money::ZERO => format!("{amount} more ({share})"),
            _ => format!("{amount} less ({share})"),
        };
        let title = match self.supposed.is_nothing() {
            true => format!("Re-rating: {outcome}"),
            false => printable(&format!("Had it been {}: {outcome}", self.supposed.words())),
        };
        let only = self.only.as_ref().map(|only| format!(", attempts of {only} alone"));
        let basis = printable(&format!(
            "exchanges admitted {}{}; {}; US dollars",
            span(self.period, self.now),
            only.unwrap_or_default(),
            self.book.text()
        ));
        let mut out = format!("{}\n{}", style.heading(&title), style.faint_words(&basis));
        if total.attempts > 0 {
            out.push('\n');
            out.push_str(&self.differences(style, &total));
        }
        if self.unpriced().next().is_some() || self.gained().next().is_some() {
            out.push('\n');
            out.push_str(&self.without_price(style));
        }
        out.push('\n');
        out.push_str(&style.faint_words(&self.counts(total.attempts)));
        let told = match self.posted {
            _ if !self.supposed.is_nothing() => Some(self.caution()),
            Some(0) => Some("Nothing was posted: all that is due is booked.".to_owned()),
            Some(posted) => Some(format!(
                "Posted {} adjustments at {}: they are on the bill of that time, and what was billed \
                 before stays as it was.",
                grouped(posted),
                self.now
            )),
            None => (total.attempts > 0).then(|| {
                "Nothing is posted yet: --apply posts the differences as adjustments of today, and \
                 bills of the past stay as they were."
                    .to_owned()
            }),
        };
        out.extend(told.map(|told| style.faint_words(&told)));
        out.push_str(&self.legend(style));
        out
    }

    /// What a counterfactual is, and is not.
    fn caution(&self) -> String {
        let mut text =
            "This is a counterfactual: nothing of it is booked, nor can it be.".to_owned();
        if self.supposed.served_by.is_some() {
            text.push_str(
                " Priced are the tokens that were used; another model counts and writes others, and \
                 may not have had in its cache what was read from this one's.",
            );
        }
        if self.unpriced().next().is_some() || self.gained().next().is_some() {
            text.push_str(" What has a price on one side alone is in neither sum.");
        }
        text
    }

    fn differences(&self, style: Style, total: &Sums) -> String {
        let mut table = Table::default().text("route").text("model");
        let now = if self.supposed.is_nothing() { "now" } else { "supposed" };
        table = table.text("row then").text(&format!("row {now}")).number("attempts");
        table = table.number("booked\nUSD").number(&format!("{now}\nUSD"));
        table = table.number("difference\nUSD");
        let places = decimals([total.booked, total.now]);
        let figures = |sums: &Sums, unpriced: bool| {
            [
                grouped(sums.attempts),
                if unpriced { "unpriced".to_owned() } else { dollars(sums.booked, places) },
                dollars(sums.now, places),
                signed(sums.now - sums.booked, places),
            ]
        };
        let lines = self.priced();
        for (line, sums) in &lines {
            let now = line.to.as_ref().map_or("-".to_owned(), |row| short(*row));
            let from = line.from.map_or("-".to_owned(), short);
            let labels = [line.route.clone(), line.model.clone(), from, now];
            table.row(labels.into_iter().chain(figures(sums, line.from.is_none())));
        }
        if lines.len() > 1 {
            let labels = ["total", "", "", ""].map(str::to_owned);
            table.total(labels.into_iter().chain(figures(total, false)));
        }
        table.render(style)
    }

    /// What is booked at a price that the book does not have any more.
    fn without_price(&self, style: Style) -> String {
        let (heading, stays) = match self.supposed.is_nothing() {
            true => ("no price now", "; what is booked stays"),
            false => ("a price on one side", ""),
        };
        let mut table = Table::default().text(heading).text("model").text("row then");
        table = table.number("attempts").number("booked\nUSD").prose("");
        let places = decimals(self.unpriced().map(|(_, _, sums)| sums.booked));
        for (line, reason, sums) in self.unpriced() {
            table.row([
                line.route.clone(),
                line.model.clone(),
                line.from.map_or("-".to_owned(), short),
                grouped(sums.attempts),
                dollars(sums.booked, places),
                format!("{reason}{stays}"),
            ]);
        }
        for (line, sums) in self.gained() {
            let cost = usd(sums.now, decimals([sums.now]));
            table.row([
                line.route.clone(),
                line.model.clone(),
                "-".to_owned(),
                grouped(sums.attempts),
                "unpriced".to_owned(),
                format!("had no price; costs {cost} so"),
            ]);
        }
        table.render(style)
    }

    fn counts(&self, differ: u64) -> String {
        let nothing = self.supposed.is_nothing();
        let unpriced: u64 = self.unpriced().map(|(_, _, sums)| sums.attempts).sum();
        let gained: u64 = self.gained().map(|(_, sums)| sums.attempts).sum();
        let parts = [
            (differ, if nothing { "with a difference" } else { "with a price either way" }),
            (self.unchanged, "as booked"),
            (unpriced, if nothing { "without a price now" } else { "without a price so" }),
            (gained, "without a price then"),
            (self.still_unpriced, "without a price either way"),
            (self.untouched, NO_BOOK_PRICES),
        ];
        attempts_by_outcome(&parts)
    }

    /// The texts of the rows in the tables.
    fn legend(&self, style: Style) -> String {
        let rows = self.lines.keys().flat_map(|line| [line.from, line.to.as_ref().ok().copied()]);
        let rows: std::collections::BTreeSet<_> = rows.flatten().collect();
        let texts = rows.into_iter().filter_map(|row| {
            let text = self.rows.get(&row)?;
            Some(style.faint_words(&printable(&format!("{}: {text}", short(row)))))
        });
        let texts: String = texts.collect();
        if texts.is_empty() { texts } else { format!("\n{texts}") }
    }

    /// As JSON, schema `farthing.rerate/1`.
    #[must_use]
    pub fn json(&self) -> String {
        let total = self.total();
        let text = |row: Option<PriceRowId>| row.and_then(|row| self.rows.get(&row));
        let lines = self.priced().into_iter().map(|(line, sums)| {
            let to = line.to.as_ref().ok().copied();
            object! {
                "route" => &line.route,
                "model" => &line.model,
                "from_row" => line.from.map(|row| row.to_string()),
                "from_row_text" => text(line.from),
                "to_row" => to.map(|row| row.to_string()),
                "to_row_text" => text(to),
                "attempts" => sums.attempts,
                "booked_usd" => line.from.map(|_| sums.booked),
                "now_usd" => sums.now,
                "difference_usd" => sums.now - sums.booked,
                "list_difference_usd" => sums.now_list - sums.booked_list,
            }
        });
        let gained = self.gained().map(|(line, sums)| {
            object! {
                "route" => &line.route,
                "model" => &line.model,
                "to_row" => line.to.as_ref().ok().map(PriceRowId::to_string),
                "to_row_text" => text(line.to.as_ref().ok().copied()),
                "attempts" => sums.attempts,
                "now_usd" => sums.now,
            }
        });
        let unpriced = self.unpriced().map(|(line, reason, sums)| {
            object! {
                "route" => &line.route,
                "model" => &line.model,
                "from_row" => line.from.map(|row| row.to_string()),
                "from_row_text" => text(line.from),
                "attempts" => sums.attempts,
                "booked_usd" => sums.booked,
                "unpriced" => reason,
            }
        });
        object! {
            "schema" => "farthing.rerate/1",
            "as_of" => self.now,
            "period" => object! { "since" => self.period.start, "until" => self.period.end },
            "price_book" => self.book.json(),
            "supposed" => (!self.supposed.is_nothing()).then(|| object! {
                "provider" => self.supposed.served_by.as_ref().map(|(provider, _)| provider),
                "model" => self.supposed.served_by.as_ref().map(|(_, model)| model),
                "tier" => self.supposed.tier.as_ref(),
                "price_book" => self.supposed.book.as_ref().map(BookLine::json),
            }),
            "only" => self.only.as_ref(),
            "posted" => self.posted,
            "lines" => lines.collect::<Json>(),
            "no_price_now" => unpriced.collect::<Json>(),
            "no_price_then" => gained.collect::<Json>(),
            "unchanged_attempts" => self.unchanged,
            "still_unpriced_attempts" => self.still_unpriced,
            "untouched_attempts" => self.untouched,
            "total" => object! {
                "attempts" => total.attempts,
                "booked_usd" => total.booked,
                "now_usd" => total.now,
                "difference_usd" => total.now - total.booked,
                "list_difference_usd" => total.now_list - total.booked_list,
            },
        }
        .pretty()
    }
}

/// Enough of an id to tell rows of one report apart.
fn short(row: PriceRowId) -> String {
    row.to_string()[..8].to_owned()
}

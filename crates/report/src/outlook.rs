//! How sure an answer is: where bills fall in many draws, who is the cheapest there, and what that hangs on.

use planner::{Matter, Outlook, Prospect, Range, Unsure};

use crate::json::Json;
use crate::modelled::{decimal, decimals, places, shown};
use crate::object;
use crate::plot::{Bars, Kind, Series, Span};
use crate::sections::Block;
use crate::table::{Table, printable};

/// Matters that are shown; the others move the bill by less.
const SHOWN: usize = 10;

/// The least share of the variance that is shown.
const LEAST_SHARE: f64 = 0.002;

/// An outlook, ready to be rendered.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The outlook.
    pub(crate) outlook: &'a Outlook,
    /// What its choices are called for people, in their order.
    pub(crate) names: &'a [String],
    /// What a task is called.
    pub(crate) unit: &'a str,
}

impl View<'_> {
    /// Whether nothing is unsure, so that there is nothing to say.
    pub(crate) const fn is_sure(&self) -> bool {
        self.outlook.draws < 2
    }

    /// Where bills fall, and who is the cheapest how often.
    pub(crate) fn sure(&self) -> Vec<Block> {
        let Outlook { draws, seed, prospects, .. } = self.outlook;
        if self.is_sure() {
            return Vec::new();
        }
        let mut table = Table::default().text("where").text("when");
        table = table.number("USD: one in\nten is below").number("half are\nbelow");
        table =
            table.number("one in ten\nis above").minor("half are below, USD\nper useful Mtok", 1);
        table = table.number("is the\ncheapest").number("regret,\nUSD");
        for (name, prospect) in self.names.iter().zip(prospects) {
            let months = prospect.bills.len();
            let mut row = |when: String, bill: Option<Range>, unit: Option<Range>, won, regret| {
                let usd = |of: fn(Range) -> f64| {
                    bill.map_or("-".to_owned(), |bill| decimals(of(bill), 0))
                };
                table.row([
                    name.clone(),
                    when,
                    usd(|bill| bill.p10),
                    usd(|bill| bill.p50),
                    usd(|bill| bill.p90),
                    unit.map_or("-".to_owned(), |unit| decimals(unit.p50, 4)),
                    percent(won),
                    regret,
                ]);
            };
            let ends = [0, months.saturating_sub(1)];
            for at in &ends[..ends.len().min(months)] {
                let (bill, unit) = (prospect.bills[*at], prospect.per_useful_mtok[*at]);
                row(format!("month {}", at + 1), bill, unit, prospect.cheapest[*at], String::new());
            }
            if months > 1 {
                let Prospect { total, total_per_useful_mtok: unit, cheapest_in_all, .. } = prospect;
                let regret = prospect.regret.map_or("-".to_owned(), |usd| decimals(usd, 0));
                row("all months".to_owned(), *total, *unit, *cheapest_in_all, regret);
            }
        }
        let words = format!(
            "{} draws of all that is unsure, the same for all ways to serve (--draws, --seed {seed}). Regret is how much dearer one is \
             over all months than the cheapest of the same draw, on the mean; where it cannot serve it counts as the dearest that can.",
            decimals(f64::from(*draws), 0)
        );
        let mut blocks = vec![Block::Words(words), Block::Table(table)];
        blocks.extend(self.by_volume());
        for one in prospects.iter().filter(|one| one.unserved > 0.0) {
            blocks.push(Block::Words(format!(
                "{} cannot serve {} of the draws, and is not the cheapest there: {}.",
                printable(&one.name),
                percent(one.unserved),
                printable(one.why_unserved.as_deref().unwrap_or_default())
            )));
        }
        blocks
    }

    /// Who is the cheapest of a month by how much is asked for in it.
    fn by_volume(&self) -> Vec<Block> {
        let Outlook { prospects, volumes, .. } = self.outlook;
        if volumes.len() < 2 || prospects.len() < 2 {
            return Vec::new();
        }
        let unit = printable(self.unit);
        let everywhere =
            |one: &Prospect| one.cheapest_by_volume.iter().all(|share| *share > 0.9995);
        if let Some(at) = prospects.iter().position(everywhere) {
            let name = printable(&self.names[at]);
            let words =
                format!("However much is asked for in a month, {name} is the cheapest of it.");
            return vec![Block::Words(words)];
        }
        let mut table = Table::default().text(&format!("a month's tasks ({unit})"));
        // Of many some are never the cheapest.
        let ever = |one: &&Prospect| one.cheapest_by_volume.iter().any(|share| *share >= 0.0005);
        let some: Vec<_> = prospects.iter().filter(ever).collect();
        for (name, _) in self.names.iter().zip(prospects).filter(|(_, one)| ever(one)) {
            table = table.number(&name.replacen(' ', "\n", 1));
        }
        for (at, (from, to)) in volumes.iter().enumerate() {
            let band = format!("{} to {}", decimals(*from, 0), decimals(*to, 0));
            let shares = some.iter().map(|one| percent(one.cheapest_by_volume[at]));
            table.row(std::iter::once(band).chain(shares));
        }
        let words = "How often each is the cheapest of a month, by how much is asked for in it:";
        vec![Block::Words(words.to_owned()), Block::Table(table)]
    }

    /// What the bill hangs on, for the choice that is the cheapest on the mean.
    pub(crate) fn matters(&self) -> Vec<Block> {
        let (Some(best), matters) = (self.outlook.best(), self.shown_matters()) else {
            return Vec::new();
        };
        if matters.is_empty() {
            return Vec::new();
        }
        let mut table = Table::default().text("key").number("low").number("high");
        table = table.number("USD, all months,\nat low").number("at high");
        table = table.minor("of the\nvariance", 1).number("worth knowing,\nUSD");
        for matter in matters {
            let moved = matter.moved[best];
            let [low, high] =
                moved.bills.map(|usd| usd.map_or("-".to_owned(), |usd| decimals(usd, 0)));
            let [from, to] = matter
                .values
                .map(|value| value.map_or("-".to_owned(), |value| said(matter.what, value)));
            let worth = matter.worth.map_or("-".to_owned(), |usd| decimals(usd, 0));
            table.row([
                matter.what.key().to_owned(),
                from,
                to,
                low,
                high,
                percent(moved.of_variance),
                worth,
            ]);
        }
        let name = printable(&self.names[best]);
        let words = format!(
            "{name}, the cheapest on the mean of all draws: its bill over all months where a thing is near the value that one in \
             ten is below or above, all else as it falls."
        );
        let mut blocks = vec![Block::Table(table), Block::Faint(words)];
        if let Some(worth) = self.outlook.worth.filter(|_| self.names.len() > 1) {
            blocks.push(Block::Faint(match worth < 0.5 {
                true => "Whatever becomes of what is unsure, the choice stays: to know it is worth nothing here.".to_owned(),
                false => format!(
                    "Worth knowing: what the choice would gain on the mean if that alone were known before it is made. To know all \
                     is worth {} USD.",
                    decimals(worth, 0)
                ),
            }));
        }
        blocks
    }

    /// Those that move the bill by more than the chance of the draws, or are worth knowing.
    fn shown_matters(&self) -> Vec<&Matter> {
        let best = self.outlook.best().unwrap_or(0);
        let moves = |matter: &&Matter| {
            let by_itself = matter.moved.get(best).map_or(0.0, |moved| moved.of_variance);
            by_itself >= LEAST_SHARE || matter.worth.is_some_and(|usd| usd >= 0.5)
        };
        self.outlook.matters.iter().filter(moves).take(SHOWN).collect()
    }

    /// The same as bars.
    pub(crate) fn tornado(&self) -> String {
        let (Some(best), matters) = (self.outlook.best(), self.shown_matters()) else {
            return String::new();
        };
        let Some(total) = self.outlook.prospects[best].total.filter(|_| !matters.is_empty()) else {
            return String::new();
        };
        let bars = matters.iter().filter_map(|matter| {
            let [Some(low), Some(high)] = matter.moved[best].bills else { return None };
            let values = matter
                .values
                .map(|value| value.map_or(String::new(), |value| said(matter.what, value)));
            Some(Span { name: matter.what.key().to_owned(), ends: [low, high], said: values })
        });
        Bars {
            title: format!("What the bill of {} hangs on", self.names[best]),
            axis: "USD over all months; the line is the mean of all draws".to_owned(),
            middle: total.mean,
            spans: bars.collect(),
        }
        .html()
    }

    /// How sure it is that one of the choices is the cheapest, in a tile.
    pub(crate) fn tile(&self, name: &str) -> [String; 4] {
        let found = self.outlook.prospects.iter().find(|one| one.name == name);
        let range = found.and_then(|one| one.total).map_or("-".to_owned(), |total| {
            format!("${} to ${} in all", decimals(total.p10, 0), decimals(total.p90, 0))
        });
        [
            "How sure".to_owned(),
            found.map_or("-".to_owned(), |one| percent(one.cheapest_in_all)),
            "that it is the cheapest".to_owned(),
            format!("eight in ten outcomes: {range}"),
        ]
    }

    /// For programs.
    pub(crate) fn json(&self) -> Json {
        let Outlook { draws, seed, prospects, volumes, matters, worth } = self.outlook;
        object! {
            "draws" => *draws,
            "seed" => *seed,
            "least_on_the_mean" => self.outlook.best().map(|best| &prospects[best].name),
            "modelled_usd_worth_knowing" => worth.map(decimal),
            "ways" => prospects.iter().map(prospect_json).collect::<Json>(),
            "volumes" => volumes.iter().enumerate().map(|(at, (from, to))| object! {
                "above_tasks" => decimal(*from),
                "up_to_tasks" => decimal(*to),
                "ways" => prospects.iter().map(|one| object! {
                    "name" => &one.name,
                    "cheapest_probability" => decimal(one.cheapest_by_volume[at]),
                }).collect::<Json>(),
            }).collect::<Json>(),
            "matters" => matters.iter().map(|matter| self.matter_json(matter)).collect::<Json>(),
        }
    }

    fn matter_json(&self, matter: &Matter) -> Json {
        let [low, high] = matter.values.map(|value| value.map(decimal));
        let moved = self.outlook.prospects.iter().zip(&matter.moved);
        object! {
            "key" => matter.what.key(),
            "low" => low,
            "high" => high,
            "modelled_usd_worth_knowing" => matter.worth.map(decimal),
            "ways" => moved.map(|(one, moved)| object! {
                "name" => &one.name,
                "modelled_usd_at_low" => moved.bills[0].map(decimal),
                "modelled_usd_at_high" => moved.bills[1].map(decimal),
                "variance_share" => decimal(moved.of_variance),
            }).collect::<Json>(),
        }
    }
}

fn prospect_json(one: &Prospect) -> Json {
    object! {
        "name" => &one.name,
        "bill" => one.total.map(range_json),
        "per_useful_mtok" => one.total_per_useful_mtok.map(range_json),
        "cheapest_probability" => decimal(one.cheapest_in_all),
        "modelled_usd_regret" => one.regret.map(decimal),
        "unserved_share" => decimal(one.unserved),
        "why_unserved" => one.why_unserved.as_ref(),
        "served_of_predicted" => one.accuracy.map(|accuracy| object! {
            "low" => decimal(accuracy.low),
            "high" => decimal(accuracy.high),
        }),
        "months" => one.bills.iter().enumerate().map(|(at, bill)| object! {
            "month" => at as u64 + 1,
            "bill" => bill.map(range_json),
            "per_useful_mtok" => one.per_useful_mtok[at].map(range_json),
            "cheapest_probability" => decimal(one.cheapest[at]),
        }).collect::<Json>(),
    }
}

fn range_json(range: Range) -> Json {
    object! {
        "modelled_usd_p10" => decimal(range.p10),
        "modelled_usd_p50" => decimal(range.p50),
        "modelled_usd_p90" => decimal(range.p90),
        "modelled_usd_mean" => decimal(range.mean),
    }
}

/// From what one in ten is above, through the months, back to what one in ten is below: a band of a plot.
pub(crate) fn band(colour: u8, ranges: &[Option<Range>]) -> Series {
    let known = ranges.iter().enumerate();
    let known: Vec<_> =
        known.filter_map(|(at, range)| Some((at as f64 + 1.0, (*range)?))).collect();
    let above = known.iter().map(|(month, range)| (*month, range.p90));
    let below = known.iter().rev().map(|(month, range)| (*month, range.p10));
    let points = above.chain(below).collect();
    Series { name: String::new(), colour, kind: Kind::Band, points }
}

/// A value of what is unsure, in its unit.
fn said(what: Unsure, value: f64) -> String {
    match what {
        Unsure::Quantity(var) => shown(var.spec().kind, value),
        Unsure::Serving => format!("{} x as fast", decimals(value, places([value]).min(2))),
    }
}

fn percent(share: f64) -> String {
    decimals(share * 100.0, 1) + "%"
}

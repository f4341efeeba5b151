//! A file of quotes: a workload, and offers to serve it.

use quantity::edit_distance;

use super::offer::{Offer, Serving};
use crate::read::{self, Entry, ScenarioError, Section, wrong};
use crate::scenario::{Kind, Lookup, SECTIONS, Scenario, Var};
use crate::unit::PerMonth;

/// Offers, the workload that all of them are priced on, and what they must keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Quotes {
    /// The workload.
    pub scenario: Scenario,
    /// The offers, in the order of the file.
    pub offers: Vec<Offer>,
    /// Terms without which an offer is not admissible.
    pub require: Require,
    /// What single routes need.
    pub needs: Vec<RouteNeed>,
    /// What a vendor may do.
    pub risk: Risk,
    /// What is spent today, by vendor.
    pub spend: Spend,
}

/// Terms that an offer must state, and keep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Require {
    /// Where data may be: one of these.
    pub region: Vec<String>,
    /// Days for which it may be kept at most.
    pub retention_days: Option<f64>,
    /// Whether it may be used for training; `Some(false)`: it may not.
    pub training: Option<bool>,
}

/// What a route needs of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteNeed {
    /// The route.
    pub name: String,
    /// The least quality, on the scale of the offers'.
    pub quality: f64,
    /// Tokens a second that a user must get.
    pub tokens_per_s: f64,
}

/// What is assumed of vendors that change their minds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// The chance in a year that a vendor doubles its price.
    pub chance: f64,
    /// Months until one has moved to an offer that is not yet in use.
    pub switch_months: f64,
    /// The share of calls by which a second source is kept ready.
    pub second_share: f64,
}

impl Default for Risk {
    fn default() -> Self {
        Self { chance: 0.1, switch_months: 3.0, second_share: 0.1 }
    }
}

/// What is spent today.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Spend {
    /// Nobody says it.
    #[default]
    Unknown,
    /// By vendor.
    Told(Vec<(String, PerMonth)>),
    /// What the ledger has, from `since` on.
    Ledger {
        /// As in a scenario: `30d`.
        since: Option<String>,
    },
}

/// Keys of a file of quotes beside those of a scenario.
const KEYS: [&str; 9] =
    ["name", "start", "months", "scenario", "offer", "require", "need", "risk", "spend"];

impl Quotes {
    /// The file of a scenario that a text names, if it does.
    ///
    /// # Errors
    /// If it is no TOML, or the name is no text.
    pub fn scenario_file(text: &str) -> Result<Option<String>, ScenarioError> {
        let table = read::parse(text)?;
        let mut root = Section::new(text, "", 0, table.get_ref());
        let entry = root.take("scenario");
        entry.map(|entry| Ok(entry.string()?.to_owned())).transpose()
    }

    /// Reads a text of quotes, with the scenario that it names.
    ///
    /// # Errors
    /// [`ScenarioError`] names line, key, what was found and what was expected.
    pub fn read(
        text: &str,
        scenario: Option<Scenario>,
        lookup: &mut Lookup<'_>,
    ) -> Result<Self, ScenarioError> {
        let table = read::parse(text)?;
        let mut root = Section::new(text, "", 0, table.get_ref());
        let named = root.take("scenario");
        for place in ["api", "gpus"] {
            if let Some(entry) = root.take(place) {
                let expected = "`[[offer]]` tables, each with what it is";
                return Err(entry.says(format!("`{place}` says no offer: expected {expected}")));
            }
        }
        let scenario = match (named, scenario) {
            (Some(_), Some(scenario)) => {
                for key in ["name", "start", "months"].iter().chain(&SECTIONS) {
                    if let Some(entry) = root.take(key) {
                        return Err(entry.says(format!(
                            "`{key}` cannot stand beside `scenario`, which says it: expected one of them"
                        )));
                    }
                }
                scenario
            }
            _ => Scenario::of(&mut root, lookup)?,
        };
        let offers = match root.take("offer") {
            Some(entry) => Self::offers(&entry, lookup)?,
            None => {
                return Err(wrong("`offer` is missing: expected `[[offer]]` tables".to_owned()));
            }
        };
        let require = root.section("require")?.map(Require::read).transpose()?;
        let needs = root.take("need").map_or(Ok(Vec::new()), |entry| {
            entry.list().iter().map(RouteNeed::read).collect::<Result<Vec<_>, _>>()
        })?;
        let risk = root.section("risk")?.map(Risk::read).transpose()?;
        let spend = root.section("spend")?.map(Spend::read).transpose()?;
        root.finish(&[&KEYS[..], &SECTIONS[..]].concat())?;
        let bought = |offer: &Offer| offer.own.iter().any(|(var, _)| *var == Var::Purchase);
        for offer in &offers {
            let owned = matches!(&offer.serving, Serving::Gpus(gpus) if gpus.are_owned());
            if owned && !bought(offer) && scenario.input(Var::Purchase).is_none() {
                return Err(offer.wrong(
                    "owned.purchase",
                    "is missing: expected what a GPU costs to buy, as `terms` is `owned`",
                ));
            }
        }
        let (require, risk) = (require.unwrap_or_default(), risk.unwrap_or_default());
        let spend = spend.unwrap_or_default();
        Ok(Self { scenario, offers, require, needs, risk, spend })
    }

    fn offers(all: &Entry<'_>, lookup: &mut Lookup<'_>) -> Result<Vec<Offer>, ScenarioError> {
        let tables = all.list();
        let mut names: Vec<String> = Vec::new();
        for entry in all.non_empty(tables)? {
            let Some(name) = entry.table()?.take("name") else {
                return Err(entry.says(format!("`{}.name` is missing: expected a text", entry.key)));
            };
            if names.iter().any(|known| *known == name.string().unwrap_or_default()) {
                return Err(name.wrong("a name that no other offer has"));
            }
            names.push(name.string()?.to_owned());
        }
        let offers = all.list().into_iter().map(|entry| Offer::read(&entry, &names, lookup));
        let offers = offers.collect::<Result<Vec<_>, _>>()?;
        for (index, offer) in offers.iter().enumerate() {
            if let Serving::Base(base) = &offer.serving
                && !matches!(offers[base.base].serving, Serving::Gpus(_))
            {
                let found = format!("is `{}`: expected an offer on GPUs", names[base.base]);
                return Err(offer.wrong("base", &found));
            }
            let mut way = vec![index];
            if let Some(way) = around(&offers, &mut way) {
                let way = way.iter().map(|index| names[*index].as_str()).collect::<Vec<_>>();
                let found = format!("takes part in itself: {}", way.join(" -> "));
                return Err(offer.wrong("name", &format!("{found}; expected other offers")));
            }
        }
        Ok(offers)
    }
}

/// A way from an offer through its parts back to where it began.
fn around(offers: &[Offer], way: &mut Vec<usize>) -> Option<Vec<usize>> {
    let last = *way.last()?;
    for part in offers[last].serving.parts() {
        if way.contains(&part) {
            let start = way.iter().position(|index| *index == part)?;
            let mut round = way[start..].to_vec();
            round.push(part);
            return Some(round);
        }
        way.push(part);
        if let Some(found) = around(offers, way) {
            return Some(found);
        }
        way.pop();
    }
    None
}

/// The place of an offer by its name.
pub(super) fn named(entry: &Entry<'_>, names: &[String]) -> Result<usize, ScenarioError> {
    let name = entry.string()?;
    names.iter().position(|known| known == name).ok_or_else(|| {
        let near = names.iter().map(|known| (edit_distance(name, known), known)).min();
        let near = near.filter(|(distance, near)| *distance <= near.len().div_euclid(2));
        match near {
            Some((_, near)) => entry.wrong(&format!("an offer; did you mean `{near}`?")),
            None => entry.wrong(&format!("an offer, one of `{}`", names.join("`, `"))),
        }
    })
}

impl Require {
    fn read(mut section: Section<'_>) -> Result<Self, ScenarioError> {
        let region = section.take("region").map_or(Ok(Vec::new()), |entry| entry.strings())?;
        let days = section.take("retention_days");
        let days = days.map(|entry| entry.scalar(Kind::Factor, (0.0, 36_500.0))).transpose()?;
        let training = section.take("training").map(|entry| entry.truth()).transpose()?;
        section.finish(&["region", "retention_days", "training"])?;
        Ok(Self { region, retention_days: days, training })
    }
}

impl RouteNeed {
    fn read(entry: &Entry<'_>) -> Result<Self, ScenarioError> {
        let mut section = entry.table()?;
        let mut part = |key: &str| {
            section.take(key).ok_or_else(|| {
                entry.says(format!("`{}.{key}` is missing in what a route needs", entry.key))
            })
        };
        let name = part("name")?.string()?.to_owned();
        let quality = part("quality")?.scalar(Kind::Factor, (-1e9, 1e9))?;
        let tokens_per_s = part("tokens_per_s")?.scalar(Kind::Factor, (0.0, 1e6))?;
        section.finish(&["name", "quality", "tokens_per_s"])?;
        Ok(Self { name, quality, tokens_per_s })
    }
}

impl Risk {
    fn read(mut section: Section<'_>) -> Result<Self, ScenarioError> {
        let mut risk = Self::default();
        if let Some(entry) = section.take("chance") {
            risk.chance = entry.scalar(Kind::Share, (0.0, 1.0))?;
        }
        if let Some(entry) = section.take("switch_months") {
            risk.switch_months = entry.scalar(Kind::Factor, (0.0, 120.0))?;
        }
        if let Some(entry) = section.take("second_share") {
            risk.second_share = entry.scalar(Kind::Share, (0.001, 0.5))?;
        }
        section.finish(&["chance", "switch_months", "second_share"])?;
        Ok(risk)
    }
}

impl Spend {
    fn read(mut section: Section<'_>) -> Result<Self, ScenarioError> {
        if let Some(from) = section.take("from") {
            if from.string()? != "ledger" {
                return Err(from.wrong("\"ledger\", or vendors with what each is paid"));
            }
            let since = section.take("since").map(|entry| entry.string()).transpose()?;
            let since = since.map(str::to_owned);
            section.finish(&["from", "since"])?;
            return Ok(Self::Ledger { since });
        }
        let told = section.take_all().into_iter().map(|(vendor, entry)| {
            let hour = entry.scalar(Kind::UsdPerHour, (0.0, 1e9))?;
            Ok((vendor, crate::PerHour::new(hour).per_month()))
        });
        Ok(Self::Told(told.collect::<Result<_, ScenarioError>>()?))
    }
}

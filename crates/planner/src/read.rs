//! Reading the files of plans: every complaint names line, key, what was found and what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use quantity::{UnixTime, edit_distance};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::scenario::Kind;
use crate::uncertain::{Uncertain, normal_quantile};

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct ScenarioError {
    /// The line, from 1; `None` if it is about the whole, or told in the message.
    pub line: Option<usize>,
    /// The key, what was found and what was expected.
    pub message: String,
}

/// A table of the text, from which keys are taken one by one.
pub(crate) struct Section<'a> {
    text: &'a str,
    path: String,
    start: usize,
    entries: BTreeMap<String, (Range<usize>, &'a Spanned<DeValue<'a>>)>,
    taken: BTreeSet<String>,
}

/// A value with where it stands.
pub(crate) struct Entry<'a> {
    text: &'a str,
    pub(crate) key: String,
    start: usize,
    value: &'a Spanned<DeValue<'a>>,
}

fn line_of(text: &str, at: usize) -> Option<usize> {
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// A complaint about no line.
pub(crate) fn wrong(message: String) -> ScenarioError {
    ScenarioError { line: None, message }
}

/// The root of a text.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, ScenarioError> {
    DeTable::parse(text).map_err(|error| {
        let line = error.span().and_then(|span| line_of(text, span.start));
        ScenarioError { line, message: format!("this is no TOML: {}", error.message()) }
    })
}

impl<'a> Section<'a> {
    pub(crate) fn new(text: &'a str, path: &str, start: usize, table: &'a DeTable<'a>) -> Self {
        let entries = table.iter();
        let entries = entries.map(|(key, value)| (key.get_ref().to_string(), (key.span(), value)));
        let (path, taken) = (path.to_owned(), BTreeSet::new());
        Self { text, path, start, entries: entries.collect(), taken }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, if it has one.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        let (span, value) = self.entries.get(key)?;
        self.taken.insert(key.to_owned());
        let (text, start) = (self.text, span.start);
        Some(Entry { text, key: self.full(key), start, value })
    }

    /// All values that are left, by their keys.
    pub(crate) fn take_all(&mut self) -> Vec<(String, Entry<'a>)> {
        let left = self.entries.keys().filter(|key| !self.taken.contains(*key)).cloned();
        let left: Vec<String> = left.collect();
        left.into_iter().filter_map(|key| Some((key.clone(), self.take(&key)?))).collect()
    }

    /// What the table is called.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A table within, if there is one.
    pub(crate) fn section(&mut self, key: &str) -> Result<Option<Self>, ScenarioError> {
        self.take(key).map(|entry| entry.section()).transpose()
    }

    /// A complaint about the table as a whole.
    pub(crate) fn wrong(&self, message: String) -> ScenarioError {
        ScenarioError { line: line_of(self.text, self.start), message }
    }

    /// # Errors
    /// For a key that nobody asked for, with those that it may have meant.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), ScenarioError> {
        let left = self.entries.iter().filter(|(key, _)| !self.taken.contains(*key));
        let Some((key, (span, _))) = left.min_by_key(|(_, (span, _))| span.start) else {
            return Ok(());
        };
        let near = known.iter().map(|known| (edit_distance(key, known), *known)).min();
        let near = near.filter(|(distance, near)| *distance <= near.len().div_euclid(2));
        let hint = match near {
            Some((_, near)) => format!("did you mean `{}`?", self.full(near)),
            None => format!("expected one of `{}`", known.join("`, `")),
        };
        let message = format!("unknown key `{}`; {hint}", self.full(key));
        Err(ScenarioError { line: line_of(self.text, span.start), message })
    }
}

impl<'a> Entry<'a> {
    /// A complaint about this value.
    pub(crate) fn wrong(&self, expected: &str) -> ScenarioError {
        let message =
            format!("invalid `{}`: expected {expected}, found {}", self.key, self.written());
        self.says(message)
    }

    /// A complaint in other words.
    pub(crate) fn says(&self, message: String) -> ScenarioError {
        ScenarioError { line: line_of(self.text, self.start), message }
    }

    /// The value as it is written, shortened.
    pub(crate) fn written(&self) -> String {
        let raw = self.text.get(self.value.span()).unwrap_or_default();
        let line: String = raw.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(80).collect();
        if short.len() < line.len() { format!("`{short}...`") } else { format!("`{short}`") }
    }

    pub(crate) fn line(&self) -> usize {
        line_of(self.text, self.start).unwrap_or(0)
    }

    pub(crate) fn string(&self) -> Result<&'a str, ScenarioError> {
        match self.value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.wrong("a text")),
        }
    }

    pub(crate) fn truth(&self) -> Result<bool, ScenarioError> {
        match self.value.get_ref() {
            DeValue::Boolean(truth) => Ok(*truth),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn section(&self) -> Result<Section<'a>, ScenarioError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Section::new(self.text, &self.key, self.start, table)),
            _ => Err(self.wrong("a table")),
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// The table that it is.
    pub(crate) fn table(&self) -> Result<Section<'a>, ScenarioError> {
        self.section()
    }

    /// The values of a list; a single value is a list of one.
    pub(crate) fn list(&self) -> Vec<Self> {
        let one = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Entry {
            text: self.text,
            key: format!("{}[{index}]", self.key),
            start: value.span().start,
            value,
        };
        match self.value.get_ref() {
            DeValue::Array(values) => values.iter().enumerate().map(one).collect(),
            _ => vec![Entry {
                text: self.text,
                key: self.key.clone(),
                start: self.start,
                value: self.value,
            }],
        }
    }

    /// A text that says something by itself.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self) -> Result<T, ScenarioError> {
        let text = self.string()?;
        text.parse().map_err(|error| self.says(format!("invalid `{}`: {error}", self.key)))
    }

    /// # Errors
    /// If a list has nothing in it.
    pub(crate) fn non_empty<T>(&self, values: Vec<T>) -> Result<Vec<T>, ScenarioError> {
        if values.is_empty() { Err(self.wrong("at least one")) } else { Ok(values) }
    }

    /// Texts, at least one.
    pub(crate) fn strings(&self) -> Result<Vec<String>, ScenarioError> {
        let all = self.list().into_iter().map(|one| one.string().map(str::to_owned));
        self.non_empty(all.collect::<Result<Vec<_>, _>>()?)
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&self, least: u32, most: u32) -> Result<u32, ScenarioError> {
        let expected = || self.wrong(&format!("a whole number from {least} to {most}"));
        let bounds = (least.into(), most.into());
        let number = self.scalar(Kind::Count, bounds).map_err(|_| expected())?;
        if number.fract() != 0.0 {
            return Err(expected());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within bounds"
        )]
        let number = number as u32;
        Ok(number)
    }

    /// A day.
    pub(crate) fn date(&self) -> Result<UnixTime, ScenarioError> {
        self.string()?.parse().map_err(|_| self.wrong("a day such as \"2026-12-01\""))
    }

    /// A number by itself or within a text, in the unit of its kind and within bounds.
    pub(crate) fn scalar(&self, kind: Kind, bounds: (f64, f64)) -> Result<f64, ScenarioError> {
        let number = match self.value.get_ref() {
            DeValue::String(text) => amount(kind, text.trim(), true),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let raw = self.text.get(self.value.span()).unwrap_or_default();
                amount(kind, &raw.replace('_', ""), false)
            }
            _ => None,
        };
        let number = number.ok_or_else(|| self.wrong(kind.expected()))?;
        let (least, most) = bounds;
        if !(least..=most).contains(&number) {
            let shown = |bound: f64| match kind {
                Kind::Share | Kind::Growth => format!("{}%", bound * 100.0),
                _ => format!("{bound}"),
            };
            let expected = format!("{}, from {} to {}", kind.expected(), shown(least), shown(most));
            return Err(self.wrong(&expected));
        }
        Ok(number)
    }

    /// A number, or how it may turn out; not what is recorded elsewhere.
    pub(crate) fn uncertain(
        &self,
        kind: Kind,
        bounds: (f64, f64),
    ) -> Result<Uncertain, ScenarioError> {
        if !self.is_table() {
            return Ok(Uncertain::Fixed(self.scalar(kind, bounds)?));
        }
        let mut section = self.section()?;
        let named = section.take("distribution");
        let name = named.as_ref().map(Entry::string).transpose()?;
        let mut part = |key: &str, bounds: (f64, f64)| -> Result<f64, ScenarioError> {
            let entry = section.take(key);
            let entry =
                entry.ok_or_else(|| self.wrong(&format!("also `{key}`, {}", kind.expected())))?;
            entry.scalar(kind, bounds)
        };
        let known: &[&str];
        let found = match name {
            None | Some("triangular") => {
                known = &["low", "likely", "high", "distribution"];
                let low = part("low", bounds)?;
                let likely = part("likely", bounds)?;
                let high = part("high", bounds)?;
                if !(low <= likely && likely <= high) {
                    return Err(self.wrong("`low` up to `likely`, and that up to `high`"));
                }
                Uncertain::Triangular { low, likely, high }
            }
            Some("uniform") => {
                known = &["low", "high", "distribution"];
                let (low, high) = (part("low", bounds)?, part("high", bounds)?);
                if low > high {
                    return Err(self.wrong("`low` up to `high`"));
                }
                Uncertain::Uniform { low, high }
            }
            Some("normal") => {
                known = &["mean", "sd", "distribution"];
                Uncertain::Normal { mean: part("mean", bounds)?, sd: part("sd", (0.0, f64::MAX))? }
            }
            Some("lognormal") => {
                known = &["median", "p90", "distribution"];
                let (median, p90) = (part("median", bounds)?, part("p90", bounds)?);
                if !(median > 0.0 && median <= p90) {
                    return Err(self.wrong("a `median` above 0 and a `p90` that is not below it"));
                }
                let sigma = libm::log(p90 / median) / normal_quantile(0.9);
                Uncertain::Lognormal { median, sigma }
            }
            Some(_) => {
                let names = "`triangular`, `uniform`, `normal` or `lognormal`";
                return Err(named.as_ref().unwrap_or(self).wrong(names));
            }
        };
        section.finish(known)?;
        Ok(found)
    }
}

/// Hours of a unit of time.
fn hours(unit: &str) -> Option<f64> {
    Some(match unit.trim() {
        "s" | "second" => 1.0 / 3600.0,
        "min" | "minute" => 1.0 / 60.0,
        "h" | "hour" => 1.0,
        "d" | "day" => 24.0,
        "week" => 168.0,
        "month" => crate::HOURS_PER_MONTH,
        "y" | "year" => crate::HOURS_PER_YEAR,
        _ => return None,
    })
}

/// A number in the unit of its kind, from a text or from a bare number.
fn amount(kind: Kind, text: &str, quoted: bool) -> Option<f64> {
    let dollars = |text: &str| scaled(text.strip_prefix('$').unwrap_or(text));
    let rate = |text: &'_ str| -> Option<(String, f64)> {
        let (count, unit) = text.split_once('/')?;
        Some((count.trim().to_owned(), hours(unit)?))
    };
    let found = match kind {
        Kind::Count => scaled(text)?,
        Kind::Factor => plain(text.strip_suffix('x').unwrap_or(text))?,
        Kind::Share => match text.strip_suffix('%') {
            Some(percent) if quoted => plain(percent.trim_end())? / 100.0,
            _ => plain(text)?,
        },
        Kind::Usd => dollars(text)?,
        Kind::PerMonth => {
            let (count, hours) = rate(text)?;
            scaled(&count)? * crate::HOURS_PER_MONTH / hours
        }
        Kind::UsdPerHour => {
            let (usd, hours) = rate(text)?;
            dollars(&usd)? / hours
        }
        Kind::Growth => {
            let (change, hours) = rate(text)?;
            let change = plain(change.strip_suffix('%')?.trim_end())? / 100.0;
            let months = hours / crate::HOURS_PER_MONTH;
            libm::pow(1.0 + change, 1.0 / months) - 1.0
        }
        Kind::Seconds => {
            let units = [
                ("ms", 1e-3),
                ("min", 60.0),
                ("s", 1.0),
                ("m", 60.0),
                ("h", 3600.0),
                ("d", 86_400.0),
            ];
            let found = units.into_iter().find_map(|(unit, seconds)| {
                Some(plain(text.strip_suffix(unit)?.trim_end())? * seconds)
            });
            found?
        }
    };
    found.is_finite().then_some(found)
}

/// A number with `k`, `M` or `B` behind it.
fn scaled(text: &str) -> Option<f64> {
    let scales = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("B", 1e9)];
    let scale = scales.into_iter().find_map(|(unit, by)| Some((text.strip_suffix(unit)?, by)));
    let (number, by) = scale.unwrap_or((text, 1.0));
    Some(plain(number)? * by)
}

/// A plain decimal number, perhaps negative, whose digits may be in groups of three.
fn plain(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let grouped = whole.contains([',', '_']);
    let mut groups = whole.split([',', '_']);
    let first = groups.next()?;
    let three = groups.all(|group| group.len() == 3);
    if grouped && !(three && (1..=3).contains(&first.len())) {
        return None;
    }
    let whole = whole.replace([',', '_'], "");
    if !is_digits(&whole) || !is_digits(part) {
        return None;
    }
    let number: f64 = format!("{whole}.{part}").parse().ok()?;
    Some(sign * number)
}

//! Reads a book: lines of a head, providers, models and their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use quantity::Day;

use crate::book::{Model, Provider, Tables};
use crate::check::check_rows;
use crate::exchange::Exchange;
use crate::row::{PriceRow, Source};
use crate::rule::Rule;
use crate::text::{ParseBookError, ParseRowError, check_name, parse_fields, split_field};

#[derive(Default)]
pub(crate) struct Reader {
    head: BTreeMap<&'static str, String>,
    source: Option<Source>,
    exchange: Exchange,
    providers: Vec<Provider>,
    tiers: BTreeMap<String, Arc<str>>,
    /// Rows with their lines and their models, by index of provider and model.
    rows: Vec<(usize, [usize; 2], PriceRow)>,
    line: usize,
}

/// Words that begin a line; any other begins a price row with its tier.
const HEAD: [&str; 5] = ["book", "as_of", "licence", "origin", "left_out"];

impl Reader {
    pub(crate) fn read(&mut self, number: usize, line: &str) -> Result<(), ParseRowError> {
        self.line = number;
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        if let Some(key) = HEAD.iter().copied().find(|key| *key == word) {
            if self.head.insert(key, rest.to_owned()).is_some() {
                return Err(ParseRowError::new(key, "the key once", rest));
            }
            return Ok(());
        }
        match word {
            "provider" => {
                check_name(word, rest)?;
                self.provider(rest)?;
            }
            "called" => self.last_provider(word)?.called = Some(Rule::parse(word, rest)?),
            "serves" => self.last_provider(word)?.serves = Some(Rule::parse(word, rest)?),
            "borrows" => {
                self.last_provider(word)?.borrows = rest.split(' ').map(str::to_owned).collect();
            }
            "model" => {
                let (id, rule) = match rest.split_once(" : ") {
                    Some((id, rule)) => (id, Rule::parse(word, rule)?),
                    None => (rest, Rule::equals(rest)),
                };
                check_name(word, id)?;
                self.last_provider(word)?.add_model(id, rule)?;
            }
            "exchange" => self.exchange(rest)?,
            "deprecated" => self.last_model(word)?.deprecated = true,
            tier => self.row(tier, rest)?,
        }
        Ok(())
    }

    /// `EUR from=2026-01-01 usd=1.0837`
    fn exchange(&mut self, rest: &str) -> Result<(), ParseRowError> {
        let form =
            || ParseRowError::new("exchange", "such as `EUR from=2026-01-01 usd=1.0837`", rest);
        let mut words = rest.split_whitespace();
        let currency = words.next().filter(|name| name.bytes().all(|b| b.is_ascii_uppercase()));
        let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
        let (from, usd) = (value("from"), value("usd"));
        let from = from.and_then(|from| from.parse().ok()).ok_or_else(form)?;
        if words.next().is_some() {
            return Err(form());
        }
        self.exchange.set(currency.ok_or_else(form)?, from, usd.ok_or_else(form)?)
    }

    fn provider(&mut self, id: &str) -> Result<(), ParseRowError> {
        if self.providers.iter().any(|known| *known.id == *id) {
            return Err(ParseRowError::new("provider", "each provider once", id));
        }
        self.providers.push(Provider {
            id: id.into(),
            called: None,
            serves: None,
            borrows: Vec::new(),
            models: Vec::new(),
            names: BTreeMap::new(),
            rules: Vec::new(),
        });
        Ok(())
    }

    fn row(&mut self, tier: &str, fields: &str) -> Result<(), ParseRowError> {
        let source = self.source()?;
        let tier = self.tiers.entry(tier.to_owned()).or_insert_with(|| Arc::from(tier)).clone();
        let pairs = fields.split_whitespace().map(split_field);
        let fields = parse_fields(pairs.collect::<Result<Vec<_>, _>>()?)?;
        let provider = self.last_provider(&tier)?.id.clone();
        let model = self.last_model(&tier)?.id.clone();
        let row = PriceRow::new(provider, model, tier, fields, source)?;
        let models = self.providers.last().map_or(0, |provider| provider.models.len());
        let place = [self.providers.len(), models].map(|count| count.saturating_sub(1));
        self.rows.push((self.line, place, row));
        Ok(())
    }

    fn last_provider(&mut self, key: &str) -> Result<&mut Provider, ParseRowError> {
        let missing = || ParseRowError::new(key, "a `provider` line before", "none");
        self.providers.last_mut().ok_or_else(missing)
    }

    fn last_model(&mut self, key: &str) -> Result<&mut Model, ParseRowError> {
        let missing = || ParseRowError::new(key, "a `model` line before", "none");
        self.last_provider(key)?.models.last_mut().ok_or_else(missing)
    }

    fn source(&mut self) -> Result<Source, ParseRowError> {
        if self.source.is_none() {
            let source = Source { book: self.head("book")?.into(), as_of: Some(self.as_of()?) };
            check_name("book", &source.book)?;
            self.source = Some(source);
        }
        self.source.clone().ok_or_else(|| ParseRowError::new("book", "a name", "none"))
    }

    fn as_of(&self) -> Result<Day, ParseRowError> {
        let text = self.head("as_of")?;
        text.parse().map_err(|_| ParseRowError::new("as_of", "a date such as `2026-11-22`", text))
    }

    fn head(&self, key: &'static str) -> Result<&str, ParseRowError> {
        let found = self.head.get(key).map(String::as_str);
        found.ok_or_else(|| ParseRowError::new(key, "such a line at the head of the book", "none"))
    }

    /// The tables, once the rows are found to leave no doubt.
    pub(crate) fn finish(mut self) -> Result<Tables, ParseBookError> {
        let line = self.line;
        let at = |line| move |error| ParseBookError { line, error };
        let left_out = self.head("left_out").map_err(at(line))?;
        let left_out = left_out
            .parse()
            .map_err(|_| at(line)(ParseRowError::new("left_out", "a number", left_out)))?;
        let source = self.source().map_err(at(line))?;
        let as_of = self.as_of().map_err(at(line))?;
        let (licence, origin) = (self.head("licence"), self.head("origin"));
        let licence = licence.map_err(at(line))?.to_owned();
        let origin = origin.map_err(at(line))?.to_owned();
        for rows in self.rows.chunk_by(|one, other| one.1 == other.1) {
            let rows: Vec<_> = rows.iter().map(|(line, _, row)| (*line, row)).collect();
            check_rows(&rows)?;
        }
        for (line, [provider, model], row) in self.rows {
            let rows = self.exchange.convert(row).map_err(at(line))?;
            let provider = self.providers.get_mut(provider);
            let model = provider.and_then(|provider| provider.models.get_mut(model));
            model.expect("a row has the place of its model").rows.extend(rows);
        }
        Ok(Tables { source, as_of, licence, origin, left_out, providers: self.providers })
    }
}

impl Provider {
    fn add_model(&mut self, id: &str, rule: Rule) -> Result<(), ParseRowError> {
        if self.models.iter().any(|known| *known.id == *id) {
            return Err(ParseRowError::new("model", "each model of a provider once", id));
        }
        let index = self.models.len();
        self.models.push(Model { id: id.into(), deprecated: false, rows: Vec::new() });
        let (names, rest) = rule.split_names();
        for name in names {
            self.names.entry(name).or_insert(index);
        }
        if let Some(rest) = rest {
            self.rules.push((index, rest));
        }
        Ok(())
    }
}

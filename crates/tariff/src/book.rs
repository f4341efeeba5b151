//! The book: all rows, and which of them was in force for whom and when.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use quantity::{Day, UnixTime};

use crate::charge::Unpriced;
use crate::row::{PriceRow, STANDARD, Source};
use crate::rule::Rule;
use crate::text::{ParseBookError, ParseRowError, check_name, parse_fields, split_field};

const BUILTIN: &str = include_str!("../book/genai-prices.txt");

/// Everything that decides which row applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The provider's id or one of its aliases.
    pub provider: &'a str,
    /// The model that served.
    pub model: &'a str,
    /// The tier that served; none is standard.
    pub tier: Option<&'a str>,
    /// When the attempt was dispatched.
    pub at: UnixTime,
}

/// What a report says of the book that priced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookInfo {
    /// Name and version: `genai-prices-0.2.1`.
    pub name: String,
    /// The day it was published.
    pub as_of: Day,
    /// Its licence.
    pub licence: String,
    /// Where it comes from.
    pub origin: String,
    /// Providers in it.
    pub providers: usize,
    /// Models in it, each counted once for each provider.
    pub models: usize,
    /// Price rows in it, own rows apart.
    pub rows: usize,
    /// Prices that were rounded to a pico-dollar a unit on entering.
    pub rounded: usize,
    /// Prices and conditions of the source that have no place here (units that no usage counts,
    /// conditions that are no tier).
    pub left_out: usize,
    /// Rows added to it: negotiated or own prices.
    pub own_rows: usize,
}

/// A model of the book, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo<'a> {
    /// The provider's id.
    pub provider: &'a str,
    /// The model's id.
    pub model: &'a str,
    /// Whether the source says that the provider retires it.
    pub deprecated: bool,
    /// All its rows: tiers and dates.
    pub rows: &'a [PriceRow],
}

/// A price book. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Book {
    pub(crate) tables: Arc<Tables>,
    /// By provider and lower-case model: rows that beat those of the tables.
    pub(crate) own: BTreeMap<(String, String), Vec<PriceRow>>,
}

#[derive(Debug)]
pub(crate) struct Tables {
    source: Source,
    as_of: Day,
    licence: String,
    origin: String,
    left_out: usize,
    pub(crate) providers: Vec<Provider>,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) id: Arc<str>,
    /// Matches other names of the provider.
    pub(crate) called: Option<Rule>,
    /// Matches models that are this provider's where none is named.
    pub(crate) serves: Option<Rule>,
    /// Providers whose models it resells at their standard prices.
    borrows: Vec<String>,
    pub(crate) models: Vec<Model>,
    /// Lower-case names that models have outright, each with the first model of that name.
    names: BTreeMap<String, usize>,
    /// Models that match by more than names, in order.
    rules: Vec<(usize, Rule)>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) id: Arc<str>,
    pub(crate) deprecated: bool,
    pub(crate) rows: Vec<PriceRow>,
}

impl Book {
    /// The built-in book, read on first use.
    #[must_use]
    pub fn builtin() -> Self {
        static BOOK: LazyLock<Book> =
            LazyLock::new(|| Book::parse(BUILTIN).expect("the committed book is tested to parse"));
        BOOK.clone()
    }

    /// Reads a book in the form of the built-in one.
    ///
    /// # Errors
    /// [`ParseBookError`] names the line, the key, what was expected and what was found.
    pub fn parse(text: &str) -> Result<Self, ParseBookError> {
        let mut reader = Reader::default();
        let mut line = 0_usize;
        for raw in text.lines() {
            line = line.saturating_add(1);
            reader.read(raw.trim()).map_err(|error| ParseBookError { line, error })?;
        }
        let tables = reader.finish().map_err(|error| ParseBookError { line, error })?;
        Ok(Self { tables: Arc::new(tables), own: BTreeMap::new() })
    }

    /// The book with more rows, which beat its own for the same provider id, model and tier wherever
    /// they are in force. For the rest the book still applies.
    #[must_use]
    pub fn with_rows(mut self, rows: impl IntoIterator<Item = PriceRow>) -> Self {
        for row in rows {
            let key = (row.provider().to_lowercase(), row.model().to_lowercase());
            self.own.entry(key).or_default().push(row);
        }
        self
    }

    /// The row in force.
    ///
    /// `default`, `auto`, `on_demand` and no tier at all are the standard tier; any other tier needs
    /// prices of its own. A row limited to a window of the day beats one that is not, then the later
    /// start wins.
    ///
    /// # Errors
    /// [`Unpriced`] says what is missing. It is total: there is no default price.
    pub fn quote(&self, key: &Key<'_>) -> Result<&PriceRow, Unpriced> {
        let asked_provider = key.provider.trim().to_lowercase();
        let asked_model = key.model.to_lowercase();
        let tier = canonical_tier(key.tier);
        let provider = self.provider(&asked_provider);
        let provider_id = provider.map_or(asked_provider.as_str(), |provider| &provider.id);
        let found = provider.and_then(|provider| self.tables.model(provider, &asked_model));

        let own = |model: &str| self.own.get(&(provider_id.to_owned(), model.to_lowercase()));
        let own = own(&asked_model).or_else(|| found.and_then(|found| own(&found.model.id)));
        let own = own.map_or(&[][..], Vec::as_slice);
        if let Some(row) = in_force(own, &tier, key.at) {
            return Ok(row);
        }
        let listed = found.map_or(&[][..], |found| found.rows_for(&tier));
        if let Some(row) = in_force(listed, &tier, key.at) {
            return Ok(row);
        }
        if provider.is_none() && !self.has_own(provider_id) {
            return Err(Unpriced::UnknownProvider { provider: key.provider.to_owned() });
        }
        let (provider, model) = (provider_id.to_owned(), key.model.to_owned());
        if found.is_none() && own.is_empty() {
            return Err(Unpriced::UnknownModel { provider, model });
        }
        let model = found.map_or(model, |found| found.model.id.to_string());
        if own.iter().chain(listed).any(|row| row.tier() == tier) {
            return Err(Unpriced::NotInForce { provider, model, tier, at: key.at });
        }
        Err(Unpriced::NoPriceForTier { provider, model, tier })
    }

    /// The book's own row in force, whatever own rows say.
    pub(crate) fn listed(&self, key: &Key<'_>) -> Option<&PriceRow> {
        let tier = canonical_tier(key.tier);
        let provider = self.provider(&key.provider.trim().to_lowercase())?;
        let found = self.tables.model(provider, &key.model.to_lowercase())?;
        in_force(found.rows_for(&tier), &tier, key.at)
    }

    /// Whether the book itself has a provider of this id; other names of it do not count.
    #[must_use]
    pub fn has_provider(&self, id: &str) -> bool {
        self.tables.providers.iter().any(|provider| provider.id.eq_ignore_ascii_case(id))
    }

    /// All models with their rows, in the order of the book; own rows apart.
    pub fn models(&self) -> impl Iterator<Item = ModelInfo<'_>> {
        self.tables.providers.iter().flat_map(|provider| {
            provider.models.iter().map(|model| ModelInfo {
                provider: &provider.id,
                model: &model.id,
                deprecated: model.deprecated,
                rows: &model.rows,
            })
        })
    }

    /// Rows that were added to the book.
    pub fn own_rows(&self) -> impl Iterator<Item = &PriceRow> {
        self.own.values().flatten()
    }

    /// Name, date and size of the book.
    #[must_use]
    pub fn info(&self) -> BookInfo {
        let rows = || self.models().flat_map(|model| model.rows);
        BookInfo {
            name: self.tables.source.book.to_string(),
            as_of: self.tables.as_of,
            licence: self.tables.licence.clone(),
            origin: self.tables.origin.clone(),
            providers: self.tables.providers.len(),
            models: self.models().count(),
            rows: rows().count(),
            rounded: rows().map(|row| row.rounded().count()).sum(),
            left_out: self.tables.left_out,
            own_rows: self.own_rows().count(),
        }
    }

    /// The book's provider of this lower-case id or alias. A provider with own rows is no alias: a
    /// self-hosted `my-openai` is not OpenAI.
    pub(crate) fn provider(&self, name: &str) -> Option<&Provider> {
        let found = self.tables.provider(name)?;
        (&*found.id == name || !self.has_own(name)).then_some(found)
    }

    fn has_own(&self, provider: &str) -> bool {
        self.own.keys().any(|(own, _)| own == provider)
    }
}

fn canonical_tier(tier: Option<&str>) -> String {
    match tier.map(|tier| tier.trim().to_lowercase()) {
        None => STANDARD.to_owned(),
        Some(tier) if matches!(tier.as_str(), "" | "default" | "auto" | "on_demand") => {
            STANDARD.to_owned()
        }
        Some(tier) => tier,
    }
}

fn in_force<'a>(rows: &'a [PriceRow], tier: &str, at: UnixTime) -> Option<&'a PriceRow> {
    let active = rows.iter().filter(|row| row.tier() == tier && row.in_force(at));
    active.max_by_key(|row| (row.daily().is_some(), row.from()))
}

/// A model and whether it is another provider's.
#[derive(Clone, Copy)]
pub(crate) struct FoundModel<'a> {
    pub(crate) model: &'a Model,
    borrowed: bool,
}

impl<'a> FoundModel<'a> {
    /// Its rows, as far as they hold for a tier: a reseller's tiers are its own.
    fn rows_for(self, tier: &str) -> &'a [PriceRow] {
        if self.borrowed && tier != STANDARD { &[] } else { &self.model.rows }
    }
}

impl Tables {
    /// The provider with this lower-case id, or else the first that is called so.
    fn provider(&self, name: &str) -> Option<&Provider> {
        let exact = self.providers.iter().find(|provider| &*provider.id == name);
        exact.or_else(|| {
            let called = |provider: &&Provider| {
                provider.called.as_ref().is_some_and(|rule| rule.matches(name))
            };
            self.providers.iter().find(called)
        })
    }

    /// The model that a provider serves under a lower-case name, its own or a borrowed one; a compact
    /// date in the name is tried in its long form at last.
    pub(crate) fn model<'a>(
        &'a self,
        provider: &'a Provider,
        name: &str,
    ) -> Option<FoundModel<'a>> {
        self.model_as_written(provider, name).or_else(|| {
            let long = with_long_dates(name)?;
            self.model_as_written(provider, &long)
        })
    }

    fn model_as_written<'a>(
        &'a self,
        provider: &'a Provider,
        name: &str,
    ) -> Option<FoundModel<'a>> {
        let own = provider.model(name).map(|model| FoundModel { model, borrowed: false });
        own.or_else(|| {
            let lenders = provider.borrows.iter().filter_map(|id| self.provider(id));
            let mut models = lenders.filter_map(|lender| lender.model(name));
            models.next().map(|model| FoundModel { model, borrowed: true })
        })
    }
}

impl Provider {
    /// The first model that the name matches, or else the one with that id: some ids in the book are
    /// names that the provider itself never uses.
    fn model(&self, name: &str) -> Option<&Model> {
        let named = self.names.get(name).copied();
        let before = |index: usize| named.is_none_or(|named| index < named);
        let mut rules = self.rules.iter().take_while(|(index, _)| before(*index));
        let matched = rules.find(|(_, rule)| rule.matches(name)).map(|(index, _)| *index);
        match matched.or(named) {
            Some(index) => self.models.get(index),
            None => self.models.iter().find(|model| model.id.eq_ignore_ascii_case(name)),
        }
    }
}

/// `gpt-5-20260102` as `gpt-5-2026-01-02`: resellers write dates without dashes. `None` if there is no
/// such date in the name.
fn with_long_dates(name: &str) -> Option<String> {
    let mut changed = false;
    let parts = name.split('-').enumerate().map(|(index, part)| {
        let Some((date, rest)) = part.split_at_checked(8) else { return part.to_owned() };
        let dated = date.starts_with("20") && (rest.is_empty() || rest.starts_with(':'));
        if index == 0 || !dated || !date.bytes().all(|b| b.is_ascii_digit()) {
            return part.to_owned();
        }
        let long = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
        if long.parse::<Day>().is_err() {
            return part.to_owned();
        }
        changed = true;
        long + rest
    });
    let name = parts.collect::<Vec<_>>().join("-");
    changed.then_some(name)
}

#[derive(Default)]
struct Reader {
    head: BTreeMap<&'static str, String>,
    source: Option<Source>,
    providers: Vec<Provider>,
    tiers: BTreeMap<String, Arc<str>>,
}

/// Words that begin a line; any other begins a price row with its tier.
const HEAD: [&str; 5] = ["book", "as_of", "licence", "origin", "left_out"];

impl Reader {
    fn read(&mut self, line: &str) -> Result<(), ParseRowError> {
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
                self.provider(rest);
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
                self.last_provider(word)?.add_model(id, rule);
            }
            "deprecated" => self.last_model(word)?.deprecated = true,
            tier => self.row(tier, rest)?,
        }
        Ok(())
    }

    fn provider(&mut self, id: &str) {
        self.providers.push(Provider {
            id: id.into(),
            called: None,
            serves: None,
            borrows: Vec::new(),
            models: Vec::new(),
            names: BTreeMap::new(),
            rules: Vec::new(),
        });
    }

    fn row(&mut self, tier: &str, fields: &str) -> Result<(), ParseRowError> {
        let source = self.source()?;
        let tier = self.tiers.entry(tier.to_owned()).or_insert_with(|| Arc::from(tier)).clone();
        let pairs = fields.split_whitespace().map(split_field);
        let fields = parse_fields(pairs.collect::<Result<Vec<_>, _>>()?)?;
        let provider = self.last_provider(&tier)?.id.clone();
        let model = self.last_model(&tier)?;
        let row = PriceRow::new(provider, model.id.clone(), tier, fields, source)?;
        model.rows.push(row);
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

    fn finish(mut self) -> Result<Tables, ParseRowError> {
        let left_out = self.head("left_out")?;
        let left_out =
            left_out.parse().map_err(|_| ParseRowError::new("left_out", "a number", left_out))?;
        let source = self.source()?;
        Ok(Tables {
            source,
            as_of: self.as_of()?,
            licence: self.head("licence")?.to_owned(),
            origin: self.head("origin")?.to_owned(),
            left_out,
            providers: self.providers,
        })
    }
}

impl Provider {
    fn add_model(&mut self, id: &str, rule: Rule) {
        let index = self.models.len();
        self.models.push(Model { id: id.into(), deprecated: false, rows: Vec::new() });
        let (names, rest) = rule.split_names();
        for name in names {
            self.names.entry(name).or_insert(index);
        }
        if let Some(rest) = rest {
            self.rules.push((index, rest));
        }
    }
}

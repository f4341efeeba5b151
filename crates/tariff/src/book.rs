//! The book: all rows, and which of them was in force for whom and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use quantity::{Day, UnixTime};

use crate::charge::Unpriced;
use crate::contract::Contract;
use crate::reader::Reader;
use crate::row::{Fit, Misfit, PriceRow, STANDARD, Source};
use crate::rule::Rule;
use crate::text::{ParseBookError, ParseRowError};

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
    /// The region that served, where it is known.
    pub region: Option<&'a str>,
    /// As far as was known then; `None` is everything that is known.
    pub known_at: Option<UnixTime>,
    /// Of which instant the hour and the weekday count; `None`: of `at`. What was used at night is
    /// so priced at night by the prices of another time.
    pub hours_of: Option<UnixTime>,
}

impl<'a> Key<'a> {
    /// A model of a provider at an instant, on the standard tier, in no region that is told.
    #[must_use]
    pub const fn new(provider: &'a str, model: &'a str, at: UnixTime) -> Self {
        Self { provider, model, tier: None, at, region: None, known_at: None, hours_of: None }
    }

    /// The same on a tier; none is standard.
    #[must_use]
    pub const fn on(self, tier: Option<&'a str>) -> Self {
        Self { tier, ..self }
    }

    /// The same in a region, where it is known.
    #[must_use]
    pub const fn in_region(self, region: Option<&'a str>) -> Self {
        Self { region, ..self }
    }
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
///
/// It has layers: rows of one's own and of contracts beat those of books that were laid over it, and
/// these beat its own. What a layer does not price the next one may.
#[derive(Debug, Clone)]
pub struct Book {
    /// In order of precedence; at least one.
    pub(crate) layers: Vec<Arc<Tables>>,
    /// Rows of one's own, which beat all others.
    pub(crate) own: OwnRows,
    /// What contracts make of the tables' rows, which these beat.
    discounted: OwnRows,
}

/// Rows by provider and lower-case model.
type OwnRows = BTreeMap<(String, String), Vec<PriceRow>>;

/// A row that was looked at for a price, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered<'a> {
    /// The row.
    pub row: &'a PriceRow,
    /// Why it does not fit; `None` if it does.
    pub misfit: Option<Misfit>,
    /// Whether it is the one.
    pub chosen: bool,
}

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) source: Source,
    pub(crate) as_of: Day,
    pub(crate) licence: String,
    pub(crate) origin: String,
    pub(crate) left_out: usize,
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
    pub(crate) borrows: Vec<String>,
    pub(crate) models: Vec<Model>,
    /// Lower-case names that models have outright, each with the first model of that name.
    pub(crate) names: BTreeMap<String, usize>,
    /// Models that match by more than names, in order.
    pub(crate) rules: Vec<(usize, Rule)>,
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
            reader.read(line, raw.trim()).map_err(|error| ParseBookError { line, error })?;
        }
        let tables = reader.finish()?;
        let layers = vec![Arc::new(tables)];
        Ok(Self { layers, own: OwnRows::new(), discounted: OwnRows::new() })
    }

    /// The book with others laid over it, the first of them uppermost. Their own rows are not taken.
    #[must_use]
    pub fn under(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        let mut layers: Vec<_> = others.into_iter().flat_map(|other| other.layers).collect();
        layers.append(&mut self.layers);
        self.layers = layers;
        self
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

    /// The book with a contract's discount on those of its rows that it is for. Rows of one's own beat
    /// these, whenever either began: they were agreed one by one.
    ///
    /// # Errors
    /// [`ParseRowError`] for a contract that takes nothing off any row of the book, which is a slip.
    pub fn with_contract(mut self, contract: &Contract) -> Result<Self, ParseRowError> {
        let mut rows = Vec::new();
        for layer in &self.layers {
            let models = layer.providers.iter().flat_map(|provider| &provider.models);
            for list in models.flat_map(|model| &model.rows) {
                rows.extend(contract.row(list)?);
            }
        }
        if rows.is_empty() {
            let expected = "a provider, models and tiers of which the book has rows";
            return Err(ParseRowError::new("contract", expected, &contract.name));
        }
        for row in rows {
            let key = (row.provider().to_lowercase(), row.model().to_lowercase());
            // Of equals the last one wins: the contract that was laid over the book first.
            self.discounted.entry(key).or_default().insert(0, row);
        }
        Ok(self)
    }

    /// The row in force.
    ///
    /// `default`, `auto`, `on_demand` and no tier at all are the standard tier; any other tier needs
    /// prices of its own. Of several rows that fit, one for the region beats one for any, one limited
    /// to a part of the week beats one that is not, then the later start wins, then the one that became
    /// known later.
    ///
    /// # Errors
    /// [`Unpriced`] says what is missing. It is total: there is no default price.
    pub fn quote(&self, key: &Key<'_>) -> Result<&PriceRow, Unpriced> {
        self.quote_beside_list(key).map(|(row, _)| row)
    }

    /// The row in force, and the one that the books have whatever own rows say: the same where no own
    /// row applies.
    pub(crate) fn quote_beside_list(
        &self,
        key: &Key<'_>,
    ) -> Result<(&PriceRow, Option<&PriceRow>), Unpriced> {
        let asked = Asked::of(key);
        let mut own = None;
        for shelf in self.shelves(&asked) {
            match shelf.best(&asked) {
                Some(row) if shelf.own => own = own.or(Some(row)),
                Some(listed) => return Ok((own.unwrap_or(listed), Some(listed))),
                None => {}
            }
        }
        own.map(|row| (row, None)).ok_or_else(|| self.why_not(key, &asked))
    }

    /// Every row of the model, in the order of precedence of their layers, with why it does not fit or
    /// that it does; one that fits and is not chosen is beaten by the one that is.
    #[must_use]
    pub fn explain(&self, key: &Key<'_>) -> Vec<Considered<'_>> {
        let asked = Asked::of(key);
        let chosen = self.quote(key).ok();
        let mut considered = Vec::new();
        for Shelf { rows, .. } in self.shelves(&asked) {
            considered.extend(rows.iter().map(|row| Considered {
                row,
                misfit: asked.fit(row).err(),
                chosen: chosen.is_some_and(|chosen| std::ptr::eq(chosen, row)),
            }));
        }
        considered
    }

    /// When prices of the model begin or end, after one instant and not after another.
    #[must_use]
    pub fn turns(&self, key: &Key<'_>, after: UnixTime, until: UnixTime) -> BTreeSet<UnixTime> {
        let asked = Asked::of(key);
        let rows = self.shelves(&asked).flat_map(|shelf| shelf.rows_for(&asked.tier));
        rows.flat_map(PriceRow::turns).filter(|at| *at > after && *at <= until).collect()
    }

    /// Where rows of the model may be, in order of precedence.
    fn shelves<'b>(&'b self, asked: &Asked<'_>) -> impl Iterator<Item = Shelf<'b>> + use<'b> {
        let found = self.layers.iter().filter_map(|layer| self.found(layer, asked));
        let found: Vec<_> = found.collect();
        let own = [&self.own, &self.discounted].map(|own| {
            let rows = if own.is_empty() { None } else { self.rows_for(own, asked, &found) };
            rows.map(|rows| Shelf { rows, own: true, standard_only: false })
        });
        own.into_iter().flatten().chain(found.into_iter().map(|(_, found)| Shelf {
            rows: &found.model.rows,
            own: false,
            standard_only: found.borrowed,
        }))
    }

    /// Those of such rows that are for the model, under the name asked for or the one that it was found
    /// by.
    fn rows_for<'b>(
        &'b self,
        rows: &'b OwnRows,
        asked: &Asked<'_>,
        found: &[(&Provider, FoundModel<'_>)],
    ) -> Option<&'b [PriceRow]> {
        let first = found.first();
        let named = || {
            let mut layers = self.layers.iter();
            layers.find_map(|layer| self.provider(layer, &asked.provider))
        };
        let provider = first.map(|(provider, _)| *provider).or_else(named);
        let provider = provider.map_or(&*asked.provider, |provider| &provider.id);
        let rows = |model: &str| rows.get(&(provider.to_owned(), model.to_lowercase()));
        let rows = rows(&asked.model).or_else(|| rows(&first?.1.model.id));
        rows.map(Vec::as_slice)
    }

    fn found<'b>(
        &'b self,
        layer: &'b Tables,
        asked: &Asked<'_>,
    ) -> Option<(&'b Provider, FoundModel<'b>)> {
        let provider = self.provider(layer, &asked.provider)?;
        Some((provider, layer.model(provider, &asked.model)?))
    }

    /// What is missing for a price.
    fn why_not(&self, key: &Key<'_>, asked: &Asked<'_>) -> Unpriced {
        let provider = self.layers.iter().find_map(|layer| self.provider(layer, &asked.provider));
        let provider_id = provider.map_or(&*asked.provider, |provider| &provider.id);
        if provider.is_none() && !self.has_own(provider_id) {
            return Unpriced::UnknownProvider { provider: key.provider.to_owned() };
        }
        let (provider, model) = (provider_id.to_owned(), key.model.to_owned());
        let rows: Vec<_> =
            self.shelves(asked).flat_map(|shelf| shelf.rows_for(&asked.tier)).collect();
        if self.shelves(asked).next().is_none() {
            return Unpriced::UnknownModel { provider, model };
        }
        let found = self.layers.iter().find_map(|layer| self.found(layer, asked));
        let model = found.map_or(model, |(_, found)| found.model.id.to_string());
        let tier = asked.tier.clone();
        if rows.is_empty() {
            return Unpriced::NoPriceForTier { provider, model, tier };
        }
        let other_region = |row: &&PriceRow| matches!(asked.fit(row), Err(Misfit::Region(_)));
        if rows.iter().all(other_region) {
            let region = key.region.unwrap_or("none told").to_owned();
            return Unpriced::NoPriceForRegion { provider, model, tier, region };
        }
        Unpriced::NotInForce { provider, model, tier, at: key.at }
    }

    /// Whether the book itself has a provider of this id; other names of it do not count.
    #[must_use]
    pub fn has_provider(&self, id: &str) -> bool {
        self.providers().any(|provider| provider.id.eq_ignore_ascii_case(id))
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.layers.iter().flat_map(|layer| &layer.providers)
    }

    /// All models with their rows, in the order of the books; own rows apart.
    pub fn models(&self) -> impl Iterator<Item = ModelInfo<'_>> {
        self.providers().flat_map(|provider| {
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
        self.own.values().chain(self.discounted.values()).flatten()
    }

    /// Name, date and size of the book.
    #[must_use]
    pub fn info(&self) -> BookInfo {
        let top = self.layers.first().expect("a book has at least the layer it was read from");
        let rows = || self.models().flat_map(|model| model.rows);
        let names: Vec<_> = self.layers.iter().map(|layer| &*layer.source.book).collect();
        BookInfo {
            name: names.join(" + "),
            as_of: top.as_of,
            licence: top.licence.clone(),
            origin: top.origin.clone(),
            providers: self.providers().count(),
            models: self.models().count(),
            rows: rows().count(),
            rounded: rows().map(|row| row.rounded().count()).sum(),
            left_out: self.layers.iter().map(|layer| layer.left_out).sum(),
            own_rows: self.own_rows().count(),
        }
    }

    /// A layer's provider of this lower-case id or alias. A provider with own rows is no alias: a
    /// self-hosted `my-openai` is not OpenAI.
    pub(crate) fn provider<'b>(&'b self, layer: &'b Tables, name: &str) -> Option<&'b Provider> {
        let found = layer.provider(name)?;
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

/// What is asked for, in the form in which rows are compared with it.
struct Asked<'a> {
    provider: String,
    model: String,
    tier: String,
    key: &'a Key<'a>,
}

impl<'a> Asked<'a> {
    fn of(key: &'a Key<'a>) -> Self {
        Self {
            provider: key.provider.trim().to_lowercase(),
            model: key.model.to_lowercase(),
            tier: canonical_tier(key.tier),
            key,
        }
    }

    fn fit(&self, row: &PriceRow) -> Result<Fit, Misfit> {
        row.fit(&self.tier, self.key)
    }
}

/// Rows of one model in one layer.
#[derive(Clone, Copy)]
struct Shelf<'a> {
    rows: &'a [PriceRow],
    own: bool,
    /// A reseller's tiers are its own: what it borrows is the standard price.
    standard_only: bool,
}

impl<'a> Shelf<'a> {
    fn rows_for(self, tier: &str) -> impl Iterator<Item = &'a PriceRow> + use<'a> {
        let none = self.standard_only && tier != STANDARD;
        let tier = tier.to_owned();
        self.rows.iter().filter(move |row| !none && row.tier() == tier)
    }

    fn best(self, asked: &Asked<'_>) -> Option<&'a PriceRow> {
        if self.standard_only && asked.tier != STANDARD {
            return None;
        }
        let fitting = self.rows.iter().filter_map(|row| Some((asked.fit(row).ok()?, row)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, row)| row)
    }
}

/// A model and whether it is another provider's.
#[derive(Clone, Copy)]
pub(crate) struct FoundModel<'a> {
    pub(crate) model: &'a Model,
    borrowed: bool,
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

//! An offer as it is written: what serves, at which price, and what its vendor states.

use super::quotes::named;
use crate::lane::TokenPrices;
use crate::read::{Entry, ScenarioError, Section};
use crate::scenario::{GPUS, Gpus, Inputs, Kind, Lookup, Terms, Var};
use crate::unit::{PerHour, PerMonth, PerMtok};

/// Something that could serve the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// What it is called.
    pub name: String,
    /// Its key in the file: `offer[2]`.
    pub key: String,
    /// Its line, from 1.
    pub line: usize,
    /// Who is paid; `None`: the provider of the book, or nobody else.
    pub vendor: Option<String>,
    /// What serves.
    pub serving: Serving,
    /// What its vendor states.
    pub stated: Stated,
    /// Quantities that are otherwise with it than in the scenario.
    pub own: Vec<(Var, f64)>,
}

/// What serves, and how it is paid.
#[derive(Debug, Clone, PartialEq)]
pub enum Serving {
    /// A model behind an API, by the token.
    Api(Api),
    /// Throughput by the hour, in whole units.
    Provisioned(Units),
    /// GPUs by the hour, or bought.
    Gpus(OnGpus),
    /// Shares of the calls go to other offers.
    Mix(Vec<(usize, f64)>),
    /// One offer on GPUs serves what it can in each hour, another the rest.
    Base(BaseLoad),
}

/// An API's prices: those of the book, or agreed ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Api {
    /// As the price book calls the model; without it all prices are the offer's own.
    pub model: Option<String>,
    /// The tier: `batch`, `flex`; `None` is standard.
    pub tier: Option<String>,
    /// Own prices by the million tokens, before those of the book: input, cached input, output, reasoning.
    pub prices: [Option<PerMtok>; 4],
    /// The share by which prices of the book are lowered.
    pub discount: f64,
    /// What is paid for a month at least.
    pub minimum: PerMonth,
    /// For so many months prices stay as they are.
    pub holds_months: u32,
}

/// Provisioned throughput.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Units {
    /// For a unit and hour, used or not.
    pub price: PerHour,
    /// Tokens a minute that a unit serves.
    pub tokens_per_min: f64,
    /// As how many tokens one of output counts.
    pub output_weight: f64,
    /// As how many one of cached input does.
    pub cached_weight: f64,
    /// Units that must be taken at least.
    pub at_least: u32,
    /// As many are bought; `None`: as many as the peak hour needs.
    pub fixed: Option<u32>,
}

/// GPUs of an offer.
#[derive(Debug, Clone, PartialEq)]
pub struct OnGpus {
    /// What is offered, and its terms.
    pub gpus: Gpus,
    /// For a GPU and hour; `None`: the usual price.
    pub price: Option<PerHour>,
    /// Whether the vendor does the work: people, hosts, monitoring.
    pub managed: bool,
}

impl OnGpus {
    /// Whether they are bought.
    #[must_use]
    pub fn are_owned(&self) -> bool {
        self.gpus.terms == Terms::Owned
    }
}

/// Base load on GPUs, with peaks elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BaseLoad {
    /// The offer on GPUs.
    pub base: usize,
    /// Where the rest goes.
    pub peak: usize,
    /// How much of it is the base's.
    pub size: BaseSize,
}

/// How large a base is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BaseSize {
    /// So many replicas for load.
    Replicas(u32),
    /// As many as serve all load in this share of the hours of a week.
    Quantile(f64),
}

/// What a vendor states; what is `None` it does not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stated {
    /// A score, on any scale that all offers share.
    pub quality: Option<f64>,
    /// Seconds to the first token.
    pub ttft_s: Option<f64>,
    /// Tokens a second for a user.
    pub tokens_per_s: Option<f64>,
    /// Requests a minute at most.
    pub requests_per_min: Option<f64>,
    /// Tokens a minute at most, input and output.
    pub tokens_per_min: Option<f64>,
    /// Tokens of a call at most, input and output.
    pub context: Option<f64>,
    /// Where data is.
    pub region: Option<String>,
    /// Days for which it is kept.
    pub retention_days: Option<f64>,
    /// Whether it is used for training.
    pub trains_on_data: Option<bool>,
}

/// Keys that any offer may have.
const COMMON: [&str; 17] = [
    "name",
    "kind",
    "vendor",
    "quality",
    "success_rate",
    "ttft",
    "tokens_per_s",
    "requests_per_min",
    "tokens_per_min",
    "context",
    "region",
    "retention_days",
    "trains_on_data",
    "costs",
    "fleet",
    "owned",
    "tuning",
];
/// Keys of each kind.
const KINDS: [(&str, &[&str]); 6] = [
    ("api", &["model", "tier", "prices", "discount", "minimum", "holds_months"]),
    (
        "provisioned",
        &["price", "unit_tokens_per_min", "output_weight", "cached_weight", "at_least", "units"],
    ),
    ("gpus", &["price", "interruptions"]),
    ("dedicated", &["price", "interruptions"]),
    ("mix", &["parts"]),
    ("base", &["base", "peak", "replicas", "quantile"]),
];

impl Offer {
    /// A complaint about a key of it.
    #[must_use]
    pub fn wrong(&self, key: &str, message: &str) -> ScenarioError {
        let message = format!("`{}.{key}` {message}", self.key);
        ScenarioError { line: Some(self.line), message }
    }

    pub(super) fn read(
        entry: &Entry<'_>,
        names: &[String],
        lookup: &mut Lookup<'_>,
    ) -> Result<Self, ScenarioError> {
        let mut section = entry.table()?;
        let missing = |key: &str, expected: &str| {
            entry.says(format!("`{}.{key}` is missing: expected {expected}", entry.key))
        };
        let kinds = "\"api\", \"provisioned\", \"gpus\", \"dedicated\", \"mix\" or \"base\"";
        let kind = section.take("kind").ok_or_else(|| missing("kind", kinds))?;
        let kind_name = kind.string()?;
        let name = section.take("name").map(|entry| entry.string()).transpose()?;
        let vendor = section.take("vendor").map(|entry| entry.string()).transpose()?;
        let stated = Stated::read(&mut section)?;
        let mut own = own(&mut section, lookup)?;
        let known = KINDS.iter().find(|(name, _)| *name == kind_name);
        let serving = match kind_name {
            "api" => Serving::Api(Api::read(&mut section, &missing)?),
            "provisioned" => Serving::Provisioned(Units::read(&mut section, &missing)?),
            "gpus" | "dedicated" => {
                let managed = kind_name == "dedicated";
                let price = section.take("price").map(|entry| per_hour(&entry)).transpose()?;
                if let Some(entry) = section.take("interruptions") {
                    own.push((Var::Interruptions, entry.scalar(Kind::PerMonth, (0.0, 1e5))?));
                }
                Serving::Gpus(OnGpus { gpus: Gpus::read(&mut section)?, price, managed })
            }
            "mix" => {
                let parts = section.take("parts").ok_or_else(|| {
                    missing("parts", "such as [{ offer = \"A\", share = \"70%\" }, ...]")
                })?;
                Serving::Mix(shares(&parts, names)?)
            }
            "base" => Serving::Base(BaseLoad::read(&mut section, names, &missing)?),
            _ => return Err(kind.wrong(kinds)),
        };
        let keys = known.map_or(&[][..], |(_, keys)| *keys);
        let gpus: &[&str] =
            if kind_name == "gpus" || kind_name == "dedicated" { &GPUS } else { &[] };
        section.finish(&[&COMMON[..], keys, gpus].concat())?;
        Ok(Self {
            name: name.unwrap_or_default().to_owned(),
            key: entry.key.clone(),
            line: entry.line(),
            vendor: vendor.map(str::to_owned),
            serving,
            stated,
            own,
        })
    }
}

/// Quantities that an offer says for itself.
fn own(
    section: &mut Section<'_>,
    lookup: &mut Lookup<'_>,
) -> Result<Vec<(Var, f64)>, ScenarioError> {
    let mut inputs = Inputs { found: Vec::new(), lookup };
    for table in ["costs", "fleet", "owned"] {
        if let Some(mut section) = section.section(table)? {
            let known = inputs.of(table, &mut section)?;
            section.finish(&known)?;
        }
    }
    let mut own: Vec<_> =
        inputs.found.iter().map(|input| (input.var, input.value.likely())).collect();
    if let Some(entry) = section.take("success_rate") {
        own.push((Var::Success, entry.scalar(Kind::Share, (0.0, 1.0))?));
    }
    if let Some(entry) = section.take("tuning") {
        own.push((Var::Tuning, entry.scalar(Kind::Usd, (0.0, 1e12))?));
    }
    Ok(own)
}

fn per_hour(entry: &Entry<'_>) -> Result<PerHour, ScenarioError> {
    Ok(PerHour::new(entry.scalar(Kind::UsdPerHour, (0.0, 1e6))?))
}

/// Says that a key is missing, and what was expected.
type Missing<'a> = dyn Fn(&str, &str) -> ScenarioError + 'a;

impl Api {
    fn read(section: &mut Section<'_>, missing: &Missing<'_>) -> Result<Self, ScenarioError> {
        let model = section.take("model").map(|entry| entry.string()).transpose()?;
        let model = model.map(str::to_owned);
        let tier = section.take("tier");
        if let (Some(tier), None) = (&tier, &model) {
            return Err(tier.wrong("also `model`, whose tier it is"));
        }
        let tier = tier.map(|entry| entry.string()).transpose()?.map(str::to_owned);
        let mut prices = [None; 4];
        if let Some(mut own) = section.section("prices")? {
            let keys = ["input", "cached", "output", "reasoning"];
            for (price, key) in prices.iter_mut().zip(keys) {
                let usd = own.take(key).map(|entry| entry.scalar(Kind::Usd, (0.0, 1e6)));
                *price = usd.transpose()?.map(PerMtok::new);
            }
            own.finish(&keys)?;
        }
        if model.is_none() && (prices[0].is_none() || prices[2].is_none()) {
            let expected = "a model of the price book, or `prices` with `input` and `output`, USD a million tokens";
            return Err(missing("model", expected));
        }
        let discount = match section.take("discount") {
            Some(entry) if model.is_none() => {
                return Err(entry.wrong("also `model`, whose price is lowered"));
            }
            Some(entry) => entry.scalar(Kind::Share, (0.0, 1.0))?,
            None => 0.0,
        };
        let minimum = section.take("minimum").map(|entry| per_hour(&entry)).transpose()?;
        let minimum = minimum.unwrap_or_default().per_month();
        let holds_months = section.take("holds_months");
        let holds_months = holds_months.map(|entry| entry.whole(0, 120)).transpose()?.unwrap_or(0);
        Ok(Self { model, tier, prices, discount, minimum, holds_months })
    }

    /// What is paid: own prices before those of a list, which are lowered by the discount.
    ///
    /// # Errors
    /// If a class has no price.
    pub fn prices(&self, list: Option<TokenPrices>) -> Result<TokenPrices, String> {
        let lowered = |price: fn(&TokenPrices) -> PerMtok| {
            list.as_ref().map(|list| price(list) * (1.0 - self.discount))
        };
        let no_price = |class: &str| format!("it has no price for {class}");
        let [input, cached, output, reasoning] = self.prices;
        let input = input.or(lowered(|list| list.input)).ok_or_else(|| no_price("input"))?;
        let answer = output.or(lowered(|list| list.answer)).ok_or_else(|| no_price("output"))?;
        Ok(TokenPrices {
            input,
            cached: cached.or(lowered(|list| list.cached)).unwrap_or(input),
            answer,
            // Reasoning is output, unless a price of its own is known.
            reasoning: reasoning.or(output).or(lowered(|list| list.reasoning)).unwrap_or(answer),
            call: list.map_or(0.0, |list| list.call * (1.0 - self.discount)),
        })
    }
}

impl Units {
    fn read(section: &mut Section<'_>, missing: &Missing<'_>) -> Result<Self, ScenarioError> {
        let price = section.take("price");
        let price = price.ok_or_else(|| missing("price", Kind::UsdPerHour.expected()))?;
        let tokens = section.take("unit_tokens_per_min");
        let tokens = tokens.ok_or_else(|| {
            missing("unit_tokens_per_min", "tokens a minute that a unit serves, such as \"50k\"")
        })?;
        let mut weight = |key: &str| -> Result<f64, ScenarioError> {
            let entry = section.take(key);
            Ok(entry
                .map(|entry| entry.scalar(Kind::Factor, (0.0, 100.0)))
                .transpose()?
                .unwrap_or(1.0))
        };
        let (output_weight, cached_weight) = (weight("output_weight")?, weight("cached_weight")?);
        let mut whole =
            |key: &str| section.take(key).map(|entry| entry.whole(1, 1_000_000)).transpose();
        let at_least = whole("at_least")?.unwrap_or(1);
        let fixed = whole("units")?;
        Ok(Self {
            price: per_hour(&price)?,
            tokens_per_min: tokens.scalar(Kind::Count, (1.0, 1e12))?,
            output_weight,
            cached_weight,
            at_least,
            fixed,
        })
    }
}

impl BaseLoad {
    fn read(
        section: &mut Section<'_>,
        names: &[String],
        missing: &Missing<'_>,
    ) -> Result<Self, ScenarioError> {
        let mut offer = |key: &str| -> Result<usize, ScenarioError> {
            named(&section.take(key).ok_or_else(|| missing(key, "the name of an offer"))?, names)
        };
        let (base, peak) = (offer("base")?, offer("peak")?);
        let (replicas, quantile) = (section.take("replicas"), section.take("quantile"));
        let size = match (replicas, quantile) {
            (Some(_), Some(entry)) => {
                return Err(entry.says(format!(
                    "`{}` cannot stand beside `replicas`: expected one of them",
                    entry.key
                )));
            }
            (Some(entry), None) => BaseSize::Replicas(entry.whole(1, 100_000)?),
            (None, Some(entry)) => BaseSize::Quantile(entry.scalar(Kind::Share, (0.0, 1.0))?),
            (None, None) => {
                let expected = "how many serve the base, or `quantile`, the share of hours in which they serve all";
                return Err(missing("replicas", expected));
            }
        };
        Ok(Self { base, peak, size })
    }
}

fn shares(parts: &Entry<'_>, names: &[String]) -> Result<Vec<(usize, f64)>, ScenarioError> {
    let mut all = Vec::new();
    for entry in parts.non_empty(parts.list())? {
        let mut section = entry.table()?;
        let offer = section.take("offer").ok_or_else(|| entry.wrong("also `offer`, its name"))?;
        let share = section.take("share").ok_or_else(|| entry.wrong("also `share`, of calls"))?;
        all.push((named(&offer, names)?, share.scalar(Kind::Share, (0.0, 1.0))?));
        section.finish(&["offer", "share"])?;
    }
    let sum: f64 = all.iter().map(|(_, share)| share).sum();
    if (sum - 1.0).abs() > 1e-6 {
        let found = format!(
            "`{}` sums to {:.4}%: expected shares that sum to 100%",
            parts.key,
            sum * 100.0
        );
        return Err(parts.says(found));
    }
    Ok(all)
}

impl Stated {
    fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let mut number = |key: &str, kind: Kind, bounds: (f64, f64)| {
            section.take(key).map(|entry| entry.scalar(kind, bounds)).transpose()
        };
        Ok(Self {
            quality: number("quality", Kind::Factor, (-1e9, 1e9))?,
            ttft_s: number("ttft", Kind::Seconds, (1e-6, 86_400.0))?,
            tokens_per_s: number("tokens_per_s", Kind::Factor, (1e-3, 1e6))?,
            requests_per_min: number("requests_per_min", Kind::Count, (1e-3, 1e12))?,
            tokens_per_min: number("tokens_per_min", Kind::Count, (1.0, 1e15))?,
            context: number("context", Kind::Count, (1.0, 1e9))?,
            retention_days: number("retention_days", Kind::Factor, (0.0, 36_500.0))?,
            region: {
                let region = section.take("region").map(|entry| entry.string()).transpose()?;
                region.map(str::to_owned)
            },
            trains_on_data: section
                .take("trains_on_data")
                .map(|entry| entry.truth())
                .transpose()?,
        })
    }
}

impl Serving {
    /// The kind, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Api(_) => "api",
            Self::Provisioned(_) => "provisioned",
            Self::Gpus(OnGpus { managed: true, .. }) => "dedicated",
            Self::Gpus(_) => "gpus",
            Self::Mix(_) => "mix",
            Self::Base(_) => "base",
        }
    }

    /// Offers that it is made of.
    pub fn parts(&self) -> impl Iterator<Item = usize> + '_ {
        let (mix, base) = match self {
            Self::Mix(parts) => (parts.as_slice(), None),
            Self::Base(load) => (&[][..], Some([load.base, load.peak])),
            _ => (&[][..], None),
        };
        mix.iter().map(|(index, _)| *index).chain(base.into_iter().flatten())
    }
}

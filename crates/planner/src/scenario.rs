//! A scenario: what a product's demand is and where it may be served, as a file says it.

mod profile;
mod read;
mod var;

use quantity::UnixTime;
use roofline::{Format, KvFormat};

pub use profile::{HOURS_OF_WEEK, Profile};
pub use read::ScenarioError;
use read::{Entry, Section, wrong};
pub use var::{Kind, Spec, Var};

use crate::uncertain::Uncertain;
use crate::unit::PerMonth;

/// What a plan starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What a task is called: `conversation`, `ticket`.
    pub unit: String,
    /// When the first month begins; `None`: now.
    pub start: Option<UnixTime>,
    /// Months that are looked at, the first included.
    pub months: u32,
    /// Its quantities, in the order of [`Var::ALL`], without those that nothing is said of and that have no default.
    pub inputs: Vec<Input>,
    /// How demand goes through the day, the week and the year.
    pub profile: Profile,
    /// APIs that it could be served by.
    pub api: Option<Api>,
    /// GPUs that it could be served by.
    pub gpus: Option<Gpus>,
    /// What a call must keep.
    pub slo: Slo,
    /// What must become true.
    pub target: Target,
}

/// A quantity with where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Which one.
    pub var: Var,
    /// What is known of it.
    pub value: Uncertain,
    /// Who says so.
    pub origin: Origin,
}

/// Who says what a quantity is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The scenario, in this line, in these words.
    Scenario {
        /// From 1.
        line: usize,
        /// As it is written there.
        written: String,
    },
    /// What was recorded, by these words of the scenario.
    Recorded {
        /// From 1.
        line: usize,
        /// As it is written there.
        written: String,
    },
    /// Nobody: it is the default.
    Default,
}

/// What was recorded elsewhere, and is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// `from = "ledger"`: what the gateway metered.
    Ledger {
        /// Of this route alone.
        route: Option<String>,
        /// From then on: `30d`, `2026-11-01`.
        since: Option<String>,
        /// Until then.
        until: Option<String>,
    },
    /// `from = "trace"`: a recorded trace.
    Trace {
        /// Its file.
        file: String,
    },
}

/// APIs to be paid by the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Their models, as the price book calls them.
    pub models: Vec<String>,
    /// The tier: `batch`, `flex`; `None` is standard.
    pub tier: Option<String>,
}

/// GPUs to serve on.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpus {
    /// The model: a data sheet's name or the path of a `config.json`.
    pub model: String,
    /// Accelerators that may be had, by the names of their data sheets.
    pub accelerators: Vec<String>,
    /// Tensor-parallel sizes to try.
    pub tensor_parallel: Vec<u32>,
    /// Formats of weights to try.
    pub weights: Vec<Format>,
    /// The format of the KV cache.
    pub kv: KvFormat,
    /// The engine.
    pub engine: String,
    /// How GPUs are paid.
    pub terms: Terms,
    /// Whether replicas come and go with the hour. Reserved and owned GPUs are paid at night all the same.
    pub autoscale: bool,
}

/// How GPUs are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// By the hour, as they are used.
    OnDemand,
    /// By the hour, all hours of the year.
    Reserved,
    /// By the hour, and taken away now and then.
    Spot,
    /// Bought.
    Owned,
}

impl Terms {
    /// All with their names.
    pub const NAMED: [(Self, &'static str); 4] = [
        (Self::OnDemand, "on_demand"),
        (Self::Reserved, "reserved"),
        (Self::Spot, "spot"),
        (Self::Owned, "owned"),
    ];

    /// Its name in a scenario.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMED.into_iter().find(|(terms, _)| *terms == self).map_or("", |(_, name)| name)
    }

    /// Whether a GPU that is not needed for some hours costs nothing then.
    #[must_use]
    pub const fn are_by_use(self) -> bool {
        matches!(self, Self::OnDemand | Self::Spot)
    }
}

/// What calls must keep, and how many of them. What is `None` does not matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slo {
    /// Seconds to the first token.
    pub ttft_s: Option<f64>,
    /// Mean seconds for each further token.
    pub tpot_s: Option<f64>,
    /// The share of calls that must keep each of them.
    pub share: f64,
}

/// What must become true.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Target {
    /// The margin on revenue.
    pub gross_margin: Option<f64>,
    /// The most that a month may cost.
    pub budget: Option<PerMonth>,
}

/// Looks up what was recorded of a quantity; why not, in words that follow a key.
pub type Lookup<'a> = dyn FnMut(Var, &Recorded) -> Result<f64, String> + 'a;

impl Scenario {
    /// Reads a scenario's text.
    ///
    /// # Errors
    /// [`ScenarioError`] names line, key, what was found and what was expected.
    pub fn read(text: &str, lookup: &mut Lookup<'_>) -> Result<Self, ScenarioError> {
        let table = read::parse(text)?;
        let mut root = Section::new(text, "", 0, table.get_ref());
        let name = root.take("name").map(|entry| entry.string()).transpose()?;
        let start = root.take("start").map(|entry| date(&entry)).transpose()?;
        let months = match root.take("months") {
            Some(entry) => whole(&entry, 1, 120)?,
            None => 12,
        };
        let mut inputs = Inputs { found: Vec::new(), lookup };
        let mut unit = None;
        let mut profile = Profile::default();
        let (mut gpus, mut api, mut target) = (None, None, Target::default());
        let mut slo = Slo { ttft_s: None, tpot_s: None, share: 0.95 };
        for name in SECTIONS {
            let Some(mut section) = root.section(name)? else { continue };
            let mut known = inputs.of(name, &mut section)?;
            match name {
                "demand" => {
                    unit = section.take("unit").map(|entry| entry.string()).transpose()?;
                    profile = Profile::read(&mut section)?;
                    known.extend(["unit", "hours", "weekdays", "season"]);
                }
                "gpus" => {
                    gpus = Some(Gpus::read(&mut section)?);
                    known.extend(GPUS);
                }
                "api" => {
                    api = Some(Api::read(&mut section)?);
                    known.extend(["models", "tier"]);
                }
                "slo" => {
                    let mut time = |key: &str| -> Result<Option<f64>, ScenarioError> {
                        let entry = section.take(key);
                        entry.map(|entry| entry.scalar(Kind::Seconds, (1e-6, 86_400.0))).transpose()
                    };
                    (slo.ttft_s, slo.tpot_s) = (time("ttft")?, time("tpot")?);
                    if let Some(entry) = section.take("share") {
                        slo.share = entry.scalar(Kind::Share, (0.01, 0.9999))?;
                    }
                    known.extend(["ttft", "tpot", "share"]);
                }
                "target" => {
                    if let Some(entry) = section.take("gross_margin") {
                        target.gross_margin = Some(entry.scalar(Kind::Share, (-10.0, 0.999))?);
                    }
                    if let Some(entry) = section.take("budget") {
                        let usd = entry.scalar(Kind::UsdPerHour, (0.0, 1e12))?;
                        target.budget = Some(crate::PerHour::new(usd).per_month());
                    }
                    known.extend(["gross_margin", "budget"]);
                }
                _ => {}
            }
            section.finish(&known)?;
        }
        root.finish(&[&["name", "start", "months"], &SECTIONS[..]].concat())?;
        let scenario = Self {
            name: name.unwrap_or("plan").to_owned(),
            unit: unit.unwrap_or("task").to_owned(),
            start,
            months,
            inputs: inputs.with_defaults(),
            profile,
            api,
            gpus,
            slo,
            target,
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// What must be said, and what cannot be said together.
    fn check(&self) -> Result<(), ScenarioError> {
        let said = |var: Var| self.input(var).filter(|input| input.origin != Origin::Default);
        let key = |var: Var| var.spec().key;
        let missing = |key: &str, expected: &str| {
            Err(wrong(format!("`{key}` is missing: expected {expected}")))
        };
        let both = |one: Var, other: Var| match (said(one), said(other)) {
            (Some(_), Some(second)) => Some(ScenarioError {
                line: second.line(),
                message: format!(
                    "`{}` cannot stand beside `{}`: expected one of them",
                    key(other),
                    key(one)
                ),
            }),
            _ => None,
        };
        let conflicts = [
            (Var::Tasks, Var::Users),
            (Var::Tasks, Var::TasksPerUser),
            (Var::Input, Var::System),
            (Var::Input, Var::Tools),
            (Var::Input, Var::Context),
            (Var::Input, Var::Message),
        ];
        if let Some(error) = conflicts.into_iter().find_map(|(one, other)| both(one, other)) {
            return Err(error);
        }
        if said(Var::Tasks).is_none() {
            for var in [Var::Users, Var::TasksPerUser] {
                if said(var).is_none() {
                    let also = if said(Var::Users).or(said(Var::TasksPerUser)).is_some() {
                        var.spec().kind.expected().to_owned()
                    } else {
                        format!(
                            "{}, or `demand.tasks`, {}",
                            var.spec().kind.expected(),
                            Kind::PerMonth.expected()
                        )
                    };
                    return missing(key(var), &also);
                }
            }
        }
        if said(Var::Answer).is_none() {
            return missing(key(Var::Answer), Kind::Count.expected());
        }
        let parts = [Var::Input, Var::System, Var::Tools, Var::Context, Var::Message];
        if parts.into_iter().all(|var| said(var).is_none()) {
            return missing(
                key(Var::Input),
                "a count, or its parts `system`, `tools`, `context`, `message`",
            );
        }
        if self.api.is_none() && self.gpus.is_none() {
            return missing("api", "a table `[api]` with `models`, a table `[gpus]`, or both");
        }
        if self.target.gross_margin.is_some() && said(Var::Revenue).is_none() {
            return missing(
                key(Var::Revenue),
                "the revenue that `target.gross_margin` is a share of",
            );
        }
        if let Some(gpus) = &self.gpus
            && gpus.terms == Terms::Owned
            && said(Var::Purchase).is_none()
        {
            return missing(
                key(Var::Purchase),
                "what a GPU costs to buy, as `gpus.terms` is `owned`",
            );
        }
        Ok(())
    }

    /// What is known of a quantity.
    #[must_use]
    pub fn input(&self, var: Var) -> Option<&Input> {
        self.inputs.iter().find(|input| input.var == var)
    }

    /// The case that plans are made with: everything as it is most likely, and what varies between calls at its mean.
    #[must_use]
    pub fn likely(&self) -> Case {
        self.case(
            |input| if input.var.varies() { input.value.mean() } else { input.value.likely() },
        )
    }

    /// The case that luck makes: for each uncertain quantity a number from 0 to 1, which is the share of outcomes below.
    #[must_use]
    pub fn drawn(&self, mut luck: impl FnMut(Var) -> f64) -> Case {
        self.case(|input| match input.var.varies() {
            true => input.value.mean(),
            false if input.value.is_uncertain() => input.value.at(luck(input.var)),
            false => input.value.likely(),
        })
    }

    fn case(&self, mut pick: impl FnMut(&Input) -> f64) -> Case {
        let mut case = Case([None; Var::COUNT]);
        for input in &self.inputs {
            let Spec { least, most, .. } = input.var.spec();
            case.0[input.var as usize] = Some(pick(input).clamp(least, most));
        }
        case
    }
}

impl Input {
    /// The line that says it.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::Scenario { line, .. } | Origin::Recorded { line, .. } => Some(line),
            Origin::Default => None,
        }
    }
}

/// All quantities as numbers: one way in which things may turn out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case([Option<f64>; Var::COUNT]);

impl Case {
    /// A quantity; `None` where nobody says it and nothing is the default.
    #[must_use]
    pub fn get(&self, var: Var) -> Option<f64> {
        self.0[var as usize]
    }

    /// A quantity that has a default.
    #[must_use]
    pub fn at(&self, var: Var) -> f64 {
        self.0[var as usize].or(var.spec().default).unwrap_or_default()
    }

    /// The same with another value of one quantity, within what makes sense.
    #[must_use]
    pub fn with(mut self, var: Var, value: f64) -> Self {
        let Spec { least, most, .. } = var.spec();
        self.0[var as usize] = Some(value.clamp(least, most));
        self
    }
}

const SECTIONS: [&str; 11] = [
    "demand", "growth", "task", "tokens", "api", "gpus", "owned", "slo", "fleet", "costs", "target",
];
const GPUS: [&str; 8] = [
    "model",
    "accelerators",
    "tensor_parallel",
    "weights",
    "kv_cache",
    "engine",
    "terms",
    "autoscale",
];

struct Inputs<'l, 'b> {
    found: Vec<Input>,
    lookup: &'l mut Lookup<'b>,
}

impl Inputs<'_, '_> {
    /// Takes the quantities of a section; the names of all that it may have.
    fn of(
        &mut self,
        name: &str,
        section: &mut Section<'_>,
    ) -> Result<Vec<&'static str>, ScenarioError> {
        let mut known = Vec::new();
        for &var in Var::ALL {
            let key = var.spec().key.split_once('.').filter(|(table, _)| *table == name);
            let Some((_, key)) = key else { continue };
            known.push(key);
            if let Some(entry) = section.take(key) {
                let input = self.input(var, &entry)?;
                self.found.push(input);
            }
        }
        Ok(known)
    }

    fn input(&mut self, var: Var, entry: &Entry<'_>) -> Result<Input, ScenarioError> {
        let Spec { kind, least, most, .. } = var.spec();
        let (line, written) = (entry.line(), entry.written().trim_matches('`').to_owned());
        if entry.is_table() {
            let mut section = entry.table()?;
            if let Some(from) = section.take("from") {
                let recorded = recorded(&from, &mut section)?;
                section.finish(&["from", "route", "since", "until", "file"])?;
                let value = (self.lookup)(var, &recorded);
                let value =
                    value.map_err(|why| entry.says(format!("invalid `{}`: {why}", entry.key)))?;
                if !(least..=most).contains(&value) {
                    let found = format!(
                        "invalid `{}`: {value} was recorded, expected {least} to {most}",
                        entry.key
                    );
                    return Err(entry.says(found));
                }
                let origin = Origin::Recorded { line, written };
                return Ok(Input { var, value: Uncertain::Fixed(value), origin });
            }
        }
        let value = entry.uncertain(kind, (least, most))?;
        Ok(Input { var, value, origin: Origin::Scenario { line, written } })
    }

    fn with_defaults(mut self) -> Vec<Input> {
        for &var in Var::ALL {
            let said = self.found.iter().any(|input| input.var == var);
            if let Some(value) = var.spec().default.filter(|_| !said) {
                let value = Uncertain::Fixed(value);
                self.found.push(Input { var, value, origin: Origin::Default });
            }
        }
        self.found.sort_by_key(|input| input.var);
        self.found
    }
}

fn recorded(from: &Entry<'_>, section: &mut Section<'_>) -> Result<Recorded, ScenarioError> {
    let mut text = |key: &str| -> Result<Option<String>, ScenarioError> {
        Ok(section.take(key).map(|entry| entry.string()).transpose()?.map(str::to_owned))
    };
    match from.string()? {
        "ledger" => Ok(Recorded::Ledger {
            route: text("route")?,
            since: text("since")?,
            until: text("until")?,
        }),
        "trace" => match text("file")? {
            Some(file) => Ok(Recorded::Trace { file }),
            None => Err(from.wrong("also `file`, a trace")),
        },
        _ => Err(from.wrong("\"ledger\" or \"trace\"")),
    }
}

impl Api {
    fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let models = match section.take("models") {
            Some(entry) => strings(&entry)?,
            None => {
                return Err(section.wrong(
                    "`api.models` is missing: expected models of the price book".to_owned(),
                ));
            }
        };
        let tier = section.take("tier").map(|entry| entry.string()).transpose()?;
        Ok(Self { models, tier: tier.map(str::to_owned) })
    }
}

impl Gpus {
    fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let mut taken = |key: &str| section.take(key);
        let model = taken("model").map(|entry| entry.string()).transpose()?;
        let accelerators = taken("accelerators").map(|entry| strings(&entry)).transpose()?;
        let tensor_parallel = match taken("tensor_parallel") {
            Some(entry) => {
                let sizes = entry.list().into_iter().map(|one| whole(&one, 1, 64));
                non_empty(&entry, sizes.collect::<Result<Vec<_>, _>>()?)?
            }
            None => vec![1],
        };
        let weights = match taken("weights") {
            Some(entry) => {
                let formats = entry.list().into_iter().map(|one| format_of::<Format>(&one));
                non_empty(&entry, formats.collect::<Result<Vec<_>, _>>()?)?
            }
            None => vec![Format::Bf16],
        };
        let kv = taken("kv_cache").map(|entry| format_of(&entry)).transpose()?;
        let engine = taken("engine").map(|entry| entry.string()).transpose()?;
        let terms = match taken("terms") {
            Some(entry) => {
                let text = entry.string()?;
                let known = Terms::NAMED.into_iter().find(|(_, name)| *name == text);
                known.ok_or_else(|| entry.wrong("`on_demand`, `reserved`, `spot` or `owned`"))?.0
            }
            None => Terms::OnDemand,
        };
        let autoscale = match taken("autoscale") {
            Some(entry) => {
                let autoscale = entry.truth()?;
                if autoscale && !terms.are_by_use() {
                    let expected =
                        "false, as reserved and owned GPUs are paid whether or not they run";
                    return Err(entry.wrong(expected));
                }
                autoscale
            }
            None => false,
        };
        let (Some(model), Some(accelerators)) = (model, accelerators) else {
            let missing = "`gpus` needs `model`, such as \"llama-3.1-8b\", and `accelerators`, such as [\"h100-sxm\"]";
            return Err(section.wrong(missing.to_owned()));
        };
        Ok(Self {
            model: model.to_owned(),
            accelerators,
            tensor_parallel,
            weights,
            kv: kv.unwrap_or(KvFormat::Bf16),
            engine: engine.unwrap_or("vllm").to_owned(),
            terms,
            autoscale,
        })
    }
}

fn format_of<T: std::str::FromStr<Err: std::fmt::Display>>(
    entry: &Entry<'_>,
) -> Result<T, ScenarioError> {
    let text = entry.string()?;
    text.parse().map_err(|error| entry.says(format!("invalid `{}`: {error}", entry.key)))
}

fn non_empty<T>(entry: &Entry<'_>, values: Vec<T>) -> Result<Vec<T>, ScenarioError> {
    if values.is_empty() { Err(entry.wrong("at least one")) } else { Ok(values) }
}

fn strings(entry: &Entry<'_>) -> Result<Vec<String>, ScenarioError> {
    let all = entry.list().into_iter().map(|one| one.string().map(str::to_owned));
    non_empty(entry, all.collect::<Result<Vec<_>, _>>()?)
}

fn whole(entry: &Entry<'_>, least: u32, most: u32) -> Result<u32, ScenarioError> {
    let expected = || entry.wrong(&format!("a whole number from {least} to {most}"));
    let number = entry.scalar(Kind::Count, (least.into(), most.into())).map_err(|_| expected())?;
    if number.fract() != 0.0 {
        return Err(expected());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    let number = number as u32;
    Ok(number)
}

fn date(entry: &Entry<'_>) -> Result<UnixTime, ScenarioError> {
    entry.string()?.parse().map_err(|_| entry.wrong("a day such as \"2026-12-01\""))
}

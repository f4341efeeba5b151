//! A scenario: what a product's demand is and where it may be served, as a file says it.

mod profile;
mod tables;
mod var;

use quantity::UnixTime;
use roofline::{Format, KvFormat};

pub use profile::{HOURS_OF_WEEK, Profile};
pub(crate) use tables::{GPUS, Inputs, SECTIONS};
pub use var::{Kind, Spec, Var};

pub use crate::read::ScenarioError;
use crate::read::wrong;
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

    /// The same with nothing said of a quantity.
    #[must_use]
    pub fn without(mut self, var: Var) -> Self {
        self.0[var as usize] = var.spec().default;
        self
    }

    /// The same with another value of one quantity, within what makes sense.
    #[must_use]
    pub fn with(mut self, var: Var, value: f64) -> Self {
        let Spec { least, most, .. } = var.spec();
        self.0[var as usize] = Some(value.clamp(least, most));
        self
    }
}

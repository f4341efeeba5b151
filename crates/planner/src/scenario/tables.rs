//! The tables of a scenario, as they are read.

use roofline::{Format, KvFormat};

use super::{
    Api, Gpus, Input, Kind, Lookup, Origin, Profile, Recorded, Scenario, Slo, Spec, Target, Terms,
    Var,
};
use crate::read::{self, Entry, ScenarioError, Section, wrong};
use crate::uncertain::Uncertain;

impl Scenario {
    /// Reads a scenario's text.
    ///
    /// # Errors
    /// [`ScenarioError`] names line, key, what was found and what was expected.
    pub fn read(text: &str, lookup: &mut Lookup<'_>) -> Result<Self, ScenarioError> {
        let scenario = Self::read_workload(text, lookup)?;
        if scenario.api.is_none() && scenario.gpus.is_none() {
            let expected = "a table `[api]` with `models`, a table `[gpus]`, or both";
            return Err(wrong(format!("`api` is missing: expected {expected}")));
        }
        Ok(scenario)
    }

    /// Reads a scenario's text, which need not say where it could be served.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_workload(text: &str, lookup: &mut Lookup<'_>) -> Result<Self, ScenarioError> {
        let table = read::parse(text)?;
        let mut root = Section::new(text, "", 0, table.get_ref());
        let scenario = Self::of(&mut root, lookup)?;
        root.finish(&[&["name", "start", "months"], &SECTIONS[..]].concat())?;
        Ok(scenario)
    }

    /// Takes what a scenario may say from the root of a text.
    pub(crate) fn of(
        root: &mut Section<'_>,
        lookup: &mut Lookup<'_>,
    ) -> Result<Self, ScenarioError> {
        let name = root.take("name").map(|entry| entry.string()).transpose()?;
        let start = root.take("start").map(|entry| entry.date()).transpose()?;
        let months = match root.take("months") {
            Some(entry) => entry.whole(1, 120)?,
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
}

/// Tables of a scenario.
pub(crate) const SECTIONS: [&str; 11] = [
    "demand", "growth", "task", "tokens", "api", "gpus", "owned", "slo", "fleet", "costs", "target",
];
/// Keys of GPUs that are not quantities.
pub(crate) const GPUS: [&str; 8] = [
    "model",
    "accelerators",
    "tensor_parallel",
    "weights",
    "kv_cache",
    "engine",
    "terms",
    "autoscale",
];

/// Quantities as they are read.
pub(crate) struct Inputs<'l, 'b> {
    pub(crate) found: Vec<Input>,
    pub(crate) lookup: &'l mut Lookup<'b>,
}

impl Inputs<'_, '_> {
    /// Takes the quantities of a section; the names of all that it may have.
    pub(crate) fn of(
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
    pub(crate) fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let models = match section.take("models") {
            Some(entry) => entry.strings()?,
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
    pub(crate) fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let mut taken = |key: &str| section.take(key);
        let model = taken("model").map(|entry| entry.string()).transpose()?;
        let accelerators = taken("accelerators").map(|entry| entry.strings()).transpose()?;
        let tensor_parallel = match taken("tensor_parallel") {
            Some(entry) => {
                let sizes = entry.list().into_iter().map(|one| one.whole(1, 64));
                entry.non_empty(sizes.collect::<Result<Vec<_>, _>>()?)?
            }
            None => vec![1],
        };
        let weights = match taken("weights") {
            Some(entry) => {
                let formats = entry.list().into_iter().map(|one| one.parsed::<Format>());
                entry.non_empty(formats.collect::<Result<Vec<_>, _>>()?)?
            }
            None => vec![Format::Bf16],
        };
        let kv = taken("kv_cache").map(|entry| entry.parsed()).transpose()?;
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
            let missing = format!(
                "`{}` needs `model`, such as \"llama-3.1-8b\", and `accelerators`, such as [\"h100-sxm\"]",
                section.path()
            );
            return Err(section.wrong(missing));
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

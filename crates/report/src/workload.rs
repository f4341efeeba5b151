//! The workload that an answer rests on: its quantities, and what a month asks for.

use planner::scenario::{Input, Kind, Origin};
use planner::{Case, Demand, Scenario, Uncertain, Var};

use crate::json::Json;
use crate::modelled::{decimal, decimals, places, shown, trimmed};
use crate::object;
use crate::sections::Block;
use crate::table::{Table, printable};

/// A workload with the case that is planned with.
#[derive(Clone, Copy)]
pub(crate) struct Workload<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) case: &'a Case,
    /// Whether it may be served on GPUs, so that what is said of fleets matters.
    pub(crate) gpus: bool,
}

impl Workload<'_> {
    /// Quantities that the answer rests on: all that are said, and of the defaults those that make a difference here.
    pub(crate) fn assumptions(&self) -> impl Iterator<Item = &Input> {
        let table = |var: Var| var.spec().key.split('.').next().unwrap_or_default();
        let gpus = self.gpus;
        let owned = self.case.get(Var::Purchase).is_some();
        self.scenario.inputs.iter().filter(move |input| {
            let nothing =
                input.value == Uncertain::Fixed(0.0) || input.value == Uncertain::Fixed(1.0);
            match (&input.origin, table(input.var)) {
                (Origin::Default, "owned") => owned,
                (Origin::Default, "fleet") => gpus,
                (Origin::Default, "costs") => false,
                (Origin::Default, _) => !nothing && input.var != Var::ReasoningAbove,
                _ => true,
            }
        })
    }

    pub(crate) fn assumed(&self) -> Vec<Block> {
        let mut table =
            Table::default().text("key").number("value").minor("one in ten\nis below", 2);
        table = table.minor("one in ten\nis above", 1).text("from").prose("what it is");
        for input in self.assumptions() {
            let spec = input.var.spec();
            let edge = |luck: f64| match input.value.is_uncertain() {
                true => shown(spec.kind, input.value.at(luck)),
                false => String::new(),
            };
            let from = match &input.origin {
                Origin::Default => "default".to_owned(),
                // A value in another unit than it was written in stands beside it as it was.
                Origin::Scenario { line, written } => match spec.kind {
                    Kind::PerMonth | Kind::UsdPerHour | Kind::Growth
                        if !input.value.is_uncertain() =>
                    {
                        format!("line {line}: {}", printable(written.trim_matches('"')))
                    }
                    _ => format!("line {line}"),
                },
                Origin::Recorded { line, .. } => format!("recorded, line {line}"),
            };
            let about = match &input.origin {
                Origin::Recorded { written, .. } => {
                    format!("{}: {}", spec.about, printable(written))
                }
                _ => spec.about.to_owned(),
            };
            let value = self.case.at(input.var);
            table.row([
                spec.key.to_owned(),
                shown(spec.kind, value),
                edge(0.1),
                edge(0.9),
                from,
                about,
            ]);
        }
        let slo = self.scenario.slo;
        let time = |name: &str, limit: Option<f64>| {
            limit.map(|limit| format!("{name} <= {} ms", trimmed(limit * 1e3, 1)))
        };
        let limits: Vec<_> =
            [time("TTFT", slo.ttft_s), time("TPOT", slo.tpot_s)].into_iter().flatten().collect();
        let slo = match (limits.is_empty(), self.gpus) {
            (_, false) => String::new(),
            (true, true) => "No SLO: calls must be served as fast as they come.".to_owned(),
            (false, true) => {
                format!(
                    "SLO: {}, each for {}% of calls.",
                    limits.join(", "),
                    trimmed(slo.share * 100.0, 2)
                )
            }
        };
        let mut blocks = vec![Block::Table(table)];
        if !slo.is_empty() {
            blocks.push(Block::Faint(slo));
        }
        blocks
    }

    pub(crate) fn asked(&self, demand: &[Demand]) -> Vec<Block> {
        let (Some(first), Some(last)) = (demand.first(), demand.last()) else {
            return Vec::new();
        };
        let unit = printable(&self.scenario.unit);
        let mut table = Table::default().text("").number("first month");
        let later = demand.len() > 1;
        if later {
            table = table.number(&format!("month {}", demand.len()));
        }
        let mut row = |name: &str, first: f64, last: f64| {
            let places = places([first, last]).min(2);
            let cells = [name.to_owned(), decimals(first, places), decimals(last, places)];
            table.row(cells.into_iter().take(if later { 3 } else { 2 }));
        };
        row(&format!("tasks ({unit})"), first.tasks, last.tasks);
        row("calls of a task", first.calls_per_task, last.calls_per_task);
        row("calls, those made again included", first.attempts(), last.attempts());
        let (one, other) = (first.mean_lengths(), last.mean_lengths());
        row("input tokens of a call", one.0, other.0);
        row("output tokens of a call", one.1, other.1);
        let million = 1e6;
        row("Mtok of input, computed", first.tokens.input / million, last.tokens.input / million);
        if first.tokens.cached > 0.0 {
            row(
                "Mtok of input, cached",
                first.tokens.cached / million,
                last.tokens.cached / million,
            );
        }
        row("Mtok of answers", first.tokens.answer / million, last.tokens.answer / million);
        if last.tokens.reasoning > 0.0 {
            row(
                "Mtok of reasoning",
                first.tokens.reasoning / million,
                last.tokens.reasoning / million,
            );
        }
        let profile = &self.scenario.profile;
        let (low, high) = (first.mean_per_second(), last.mean_per_second());
        row("calls a second, mean", low, high);
        row("calls a second, peak hour", low * profile.peak(), high * profile.peak());
        row("calls a second, lowest hour", low * profile.floor(), high * profile.floor());
        vec![Block::Table(table)]
    }

    pub(crate) fn assumptions_json(&self) -> Json {
        self.assumptions()
            .map(|input| {
                let spec = input.var.spec();
                let (origin, line, written) = match &input.origin {
                    Origin::Default => ("default", None, None),
                    Origin::Scenario { line, written } => ("scenario", Some(*line), Some(written)),
                    Origin::Recorded { line, written } => ("recorded", Some(*line), Some(written)),
                };
                let edge =
                    |luck: f64| input.value.is_uncertain().then(|| decimal(input.value.at(luck)));
                object! {
                    "key" => spec.key,
                    "value" => decimal(self.case.at(input.var)),
                    "p10" => edge(0.1),
                    "p90" => edge(0.9),
                    "origin" => origin,
                    "line" => line.map(|line| line as u64),
                    "written" => written,
                    "about" => spec.about,
                }
            })
            .collect::<Json>()
    }

    pub(crate) fn slo_json(&self) -> Json {
        object! {
            "ttft_ms" => self.scenario.slo.ttft_s.map(|seconds| decimal(seconds * 1e3)),
            "tpot_ms" => self.scenario.slo.tpot_s.map(|seconds| decimal(seconds * 1e3)),
            "share" => decimal(self.scenario.slo.share),
        }
    }

    pub(crate) fn demand_json(demand: &Demand) -> Json {
        let (input, output) = demand.mean_lengths();
        object! {
            "users" => demand.users.map(decimal),
            "tasks" => decimal(demand.tasks),
            "calls_per_task" => decimal(demand.calls_per_task),
            "attempts" => decimal(demand.attempts()),
            "useful_share" => decimal(demand.useful),
            "input_tokens_per_call" => decimal(input),
            "output_tokens_per_call" => decimal(output),
            "tokens" => object! {
                "input" => decimal(demand.tokens.input),
                "cached" => decimal(demand.tokens.cached),
                "answer" => decimal(demand.tokens.answer),
                "reasoning" => decimal(demand.tokens.reasoning),
            },
        }
    }
}

//! Ways to pay less, each by itself: what is assumed of it, and what it would save wherever the scenario may be served.

use crate::demand::Demand;
use crate::lane::{ApiOffer, GpuOffer};
use crate::outlook::{ApiChoice, Choice, Draw};
use crate::plan::{Lane, Offers, Plan, demand, plan};
use crate::scenario::{Case, Scenario, Slo, Var};
use crate::uncertain::normal_quantile;
use crate::unit::PerMonth;

/// What could be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Lever {
    /// What it is.
    pub name: &'static str,
    /// What the saving rests on.
    pub assumed: String,
    /// What it would save of each lane; `None` where it does not apply.
    pub savings: Vec<Option<Saving>>,
}

/// What a lever would save of a lane; below 0 it costs more than it saves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saving {
    /// On the mean of all months.
    pub per_month: PerMonth,
    /// As a share of the lane's bill over all months.
    pub of_bill: f64,
}

/// What there is beside a plan's own offers.
#[derive(Default)]
pub struct Beside {
    /// The batch lanes of the APIs, by the place of each among the offers; `None` where there is none, or it is taken already.
    pub batch: Vec<Option<ApiOffer>>,
    /// The setup of the lane on GPUs with its weights in fewer bits.
    pub quantised: Option<GpuOffer>,
}

/// A shorter prompt: of system prompt and tool schemas, or of the input if only the whole of it is known.
const TRIMMED: f64 = 0.2;
/// Less context.
const RETRIEVED_LESS: f64 = 0.3;
/// The quantile of answers at which they are capped.
const CAPPED: f64 = 0.9;
/// What is read from the cache of all that calls have in common with calls before.
const CACHED: f64 = 0.9;
/// Fewer calls in each turn.
const FEWER: f64 = 0.2;
/// The share of tasks that a smaller model does as well.
const SMALLER: f64 = 0.5;
/// The share of tasks that may wait for a day.
const BATCHED: f64 = 0.3;
/// How far the SLO is relaxed.
const RELAXED: f64 = 1.5;

/// Each lever by itself on each lane of a plan of a case, the largest saving of the cheapest lane first; those that save
/// nothing anywhere are left out. The choices are those of the lanes, in their order: replicas move as their closed form does,
/// and only where another SLO or another setup is assumed are they simulated.
#[must_use]
pub fn levers(
    (scenario, case): (&Scenario, &Case),
    offers: &Offers,
    (found, choices): (&Plan, &[&dyn Choice]),
    beside: &Beside,
) -> Vec<Lever> {
    let bills: Vec<Option<f64>> =
        choices.iter().map(|choice| total(*choice, scenario, case)).collect();
    let all = Levers { scenario, case, offers, found, choices, bills, beside };
    let mut levers = all.of_the_case();
    levers.extend(
        [all.smaller(), all.distilled(), all.batch(), all.relaxed(), all.quantised()]
            .into_iter()
            .flatten(),
    );
    levers.retain(|lever| lever.savings.iter().flatten().any(|saving| saving.of_bill >= 1e-4));
    let cheapest = found.cheapest().map(|lane| &lane.name);
    let cheapest = found.lanes.iter().position(|lane| Some(&lane.name) == cheapest).unwrap_or(0);
    let saved = |lever: &Lever| {
        let saving = lever.savings.get(cheapest).copied().flatten();
        saving.map_or(f64::NEG_INFINITY, |saving| saving.of_bill)
    };
    levers.sort_by(|one, other| saved(other).total_cmp(&saved(one)));
    levers
}

/// What a choice costs over all months in a case; `None` where it cannot serve.
fn total(choice: &dyn Choice, scenario: &Scenario, case: &Case) -> Option<f64> {
    let demand = demand(scenario, case);
    let mut bills = vec![PerMonth::ZERO; demand.len()];
    choice.bills(&Draw { case, demand: &demand, serving: 0.5 }, &mut bills).ok()?;
    Some(bills.into_iter().sum::<PerMonth>().usd())
}

struct Levers<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    offers: &'a Offers,
    found: &'a Plan,
    choices: &'a [&'a dyn Choice],
    bills: Vec<Option<f64>>,
    beside: &'a Beside,
}

impl Levers<'_> {
    fn saving(&self, before: Option<f64>, after: Option<f64>) -> Option<Saving> {
        let (before, after) = before.zip(after).filter(|(before, _)| *before > 0.0)?;
        let per_month = PerMonth::new((before - after) / f64::from(self.scenario.months));
        Some(Saving { per_month, of_bill: (before - after) / before })
    }

    /// A lever whose bill is known lane by lane.
    fn lever(
        &self,
        name: &'static str,
        assumed: String,
        after: impl Fn(usize, &Lane, f64) -> Option<f64>,
    ) -> Lever {
        let lanes = self.found.lanes.iter().zip(&self.bills).enumerate();
        let savings = lanes.map(|(at, (lane, before))| {
            self.saving(*before, before.and_then(|before| after(at, lane, before)))
        });
        Lever { name, assumed, savings: savings.collect() }
    }

    /// Levers that move the case.
    fn of_the_case(&self) -> Vec<Lever> {
        let case = self.case;
        let mut levers = Vec::new();
        let mut add =
            |name: &'static str, assumed: String, moved: Case| {
                levers.push(self.lever(name, assumed, |at, _, _| {
                    total(self.choices[at], self.scenario, &moved)
                }));
            };
        let times = |vars: &[Var], factor: f64| {
            let known = vars.iter().filter_map(|var| Some((*var, case.get(*var)?)));
            known.fold(*case, |case, (var, value)| case.with(var, value * factor))
        };
        let percent = |share: f64| format!("{:.0}%", share * 100.0);
        let less = percent(TRIMMED);
        if case.get(Var::Input).is_some() {
            let assumed = format!("{less} less input in a first call");
            add("trim the prompt", assumed, times(&[Var::Input], 1.0 - TRIMMED));
        } else if case.at(Var::System) + case.at(Var::Tools) > 0.0 {
            let assumed = format!("{less} less of the system prompt and the tool schemas");
            add("trim the prompt", assumed, times(&[Var::System, Var::Tools], 1.0 - TRIMMED));
        }
        if case.at(Var::Context) > 0.0 {
            let assumed = format!("{} less retrieved context", percent(RETRIEVED_LESS));
            add("retrieve less", assumed, times(&[Var::Context], 1.0 - RETRIEVED_LESS));
        }
        let left = capped(case.at(Var::Spread));
        if left < 1.0 {
            let assumed = format!(
                "no output longer than nine in ten are; by their spread {:.1}% less on the mean",
                (1.0 - left) * 100.0
            );
            add("cap the output", assumed, times(&[Var::Answer], left));
        }
        let common = Demand::of(case, &self.scenario.profile, 0, None).in_common(case) * CACHED;
        let now = case.at(Var::Cached);
        if common > now {
            let assumed = format!(
                "{:.1}% of the input read from the prompt cache instead of {:.1}%: nine tenths of what calls have in common \
                 with calls before",
                common * 100.0,
                now * 100.0
            );
            add("cache the prefix", assumed, case.with(Var::Cached, common));
        }
        if case.at(Var::Calls) > 1.0 {
            let fewer = case.at(Var::Calls) * (1.0 - FEWER);
            let assumed = format!(
                "{} fewer calls a turn, {:.1} instead of {:.1}, for the same success",
                percent(FEWER),
                fewer.max(1.0),
                case.at(Var::Calls)
            );
            add("fewer steps per task", assumed, case.with(Var::Calls, fewer));
        }
        levers
    }

    /// A part of the tasks to the cheapest model behind an API.
    fn smaller(&self) -> Option<Lever> {
        let apis = self.found.lanes.iter().zip(&self.bills).filter(|(lane, _)| lane.own.is_none());
        let known = apis.filter_map(|(lane, bill)| Some((lane, (*bill)?)));
        let (least, smaller) = known.min_by(|one, other| one.1.total_cmp(&other.1))?;
        let assumed = format!(
            "{:.0}% of the tasks go to {}, with the same tokens and the same success",
            SMALLER * 100.0,
            least.name
        );
        let after = |_: usize, lane: &Lane, before: f64| {
            let other = lane.own.is_none() && lane.name != least.name;
            other.then_some(before * (1.0 - SMALLER) + smaller * SMALLER)
        };
        Some(self.lever("a smaller model for some", assumed, after))
    }

    /// All tasks from an API to the model that GPUs serve, which is tuned on what the API's answered.
    fn distilled(&self) -> Option<Lever> {
        let mut own = self.found.lanes.iter().zip(&self.bills);
        let (gpus, bill) = own.find(|(lane, _)| lane.own.is_some())?;
        let bill = (*bill)?;
        let assumed = format!(
            "all tasks go to {} on GPUs {}, with the same tokens and the same success; tuning it costs {:.0} USD once \
             (`{}`)",
            self.scenario.gpus.as_ref()?.model,
            gpus.name,
            self.case.at(Var::Tuning),
            Var::Tuning.spec().key
        );
        let after = |_: usize, lane: &Lane, _: f64| lane.own.is_none().then_some(bill);
        Some(self.lever("distil", assumed, after))
    }

    /// A part of the tasks to the API's batch lane.
    fn batch(&self) -> Option<Lever> {
        self.beside.batch.iter().flatten().next()?;
        let assumed = format!("{:.0}% of the tasks may wait for up to a day", BATCHED * 100.0);
        let after = |_: usize, lane: &Lane, before: f64| {
            let offer =
                self.beside.batch.get(lane.offer).filter(|_| lane.own.is_none())?.as_ref()?;
            let batched = ApiChoice::new(offer, self.scenario.months);
            let batched = total(&batched, self.scenario, self.case)?;
            Some(before * (1.0 - BATCHED) + batched * BATCHED)
        };
        Some(self.lever("the batch lane for some", assumed, after))
    }

    fn relaxed(&self) -> Option<Lever> {
        let Slo { ttft_s, tpot_s, share } = self.scenario.slo;
        ttft_s.or(tpot_s)?;
        let longer = |limit: Option<f64>| limit.map(|seconds| seconds * RELAXED);
        let slo = Slo { ttft_s: longer(ttft_s), tpot_s: longer(tpot_s), share };
        let scenario = Scenario { slo, ..self.scenario.clone() };
        let time = |name: &str, limit: Option<f64>| {
            limit.map(|seconds| format!("{name} up to {:.0} ms", seconds * 1e3))
        };
        let limits = [time("TTFT", slo.ttft_s), time("TPOT", slo.tpot_s)];
        let limits: Vec<_> = limits.into_iter().flatten().collect();
        let assumed = format!("half as long again is fast enough: {}", limits.join(", "));
        let after = |_: usize, lane: &Lane, _: f64| {
            lane.own.as_ref()?;
            planned(&scenario, self.case, self.offers.gpus.get(lane.offer)?)
        };
        Some(self.lever("relax the SLO", assumed, after))
    }

    fn quantised(&self) -> Option<Lever> {
        let offer = self.beside.quantised.as_ref()?;
        let assumed = format!("{} answers as well as it does now", offer.candidate.name());
        let after = |_: usize, lane: &Lane, _: f64| {
            lane.own.as_ref()?;
            planned(self.scenario, self.case, offer)
        };
        Some(self.lever("quantise", assumed, after))
    }
}

/// What a setup costs over all months, simulated.
fn planned(scenario: &Scenario, case: &Case, offer: &GpuOffer) -> Option<f64> {
    let offers = Offers { apis: Vec::new(), gpus: vec![offer.clone()] };
    let found = plan(scenario, case, &offers);
    let lane = found.lanes.first()?;
    Some(lane.months.iter().map(|month| month.bill).sum::<PerMonth>().usd())
}

/// What is left of a mean if nothing is longer than nine in ten are, where lengths are lognormal and their standard deviation
/// is this share of their mean: the limited expected value over the mean.
fn capped(spread: f64) -> f64 {
    let sigma = libm::sqrt(libm::log(1.0 + spread * spread));
    let below = |z: f64| 0.5 * (1.0 + libm::erf(z * std::f64::consts::FRAC_1_SQRT_2));
    let z = normal_quantile(CAPPED);
    // The cap over the mean is exp(sigma z - sigma^2 / 2).
    below(z - sigma) + libm::exp(sigma * z - sigma * sigma / 2.0) * (1.0 - CAPPED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uncertain::Uncertain;

    #[test]
    fn a_cap_takes_what_the_longest_tenth_has_above_it() {
        for spread in [0.2_f64, 0.6, 1.5] {
            let sigma = f64::ln(1.0 + spread * spread).sqrt();
            let lengths = Uncertain::Lognormal { median: 1.0, sigma };
            let cap = lengths.at(CAPPED);
            let all = (0..200_000).map(|at| lengths.at((f64::from(at) + 0.5) / 2e5).min(cap));
            let left = all.sum::<f64>() / 2e5 / lengths.mean();
            assert!((capped(spread) - left).abs() < 1e-4, "{spread}: {} {left}", capped(spread));
        }
        assert!((capped(0.0) - 1.0).abs() < 1e-8);
    }
}

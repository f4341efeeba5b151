//! A comparison for programs.

use planner::compare::{Against, Break, Constraint, Exposure, Kept, Quoted, Shaken};
use planner::{Month, PerMtok};

use crate::json::Json;
use crate::modelled::{decimal, parts_json};
use crate::object;
use crate::workload::Workload;

use super::CompareReport;

impl CompareReport<'_> {
    /// The comparison as JSON, schema `farthing.compare/1`. Modelled money, rates and shares are decimal texts, rounded to six
    /// decimals; counts are integers.
    #[must_use]
    pub fn json(&self) -> String {
        let comparison = self.comparison;
        let scenario = &self.quotes.scenario;
        let name = |at: usize| comparison.quoted[at].name.as_str();
        object! {
            "schema" => "farthing.compare/1",
            "name" => &scenario.name,
            "unit" => &scenario.unit,
            "start" => scenario.start,
            "months" => scenario.months,
            "price_book" => self.book.json(),
            "assumptions" => self.workload().assumptions_json(),
            "slo" => self.workload().slo_json(),
            "demand" => comparison.demand.iter().map(Workload::demand_json).collect::<Json>(),
            "longest_call_tokens" => comparison.longest,
            "cheapest" => comparison.best().map(|best| &best.name),
            "cheapest_known_slo" => comparison.best_known().map(|best| &best.name),
            "offers" => comparison.quoted.iter().map(|one| self.offer_json(one)).collect::<Json>(),
            "break_even" => comparison.volumes.against.iter().map(|one| self.against_json(one)).collect::<Json>(),
            "by_volume" => comparison.volumes.at.iter().map(|at| object! {
                "tasks_per_day" => decimal(self.per_day(at.times)),
                "mtok_per_month" => decimal(self.mtok(at.times)),
                "bills" => comparison.quoted.iter().zip(&at.bills).map(|(one, bill)| object! {
                    "name" => &one.name,
                    "modelled_usd" => bill.map(|bill| decimal(bill.usd())),
                }).collect::<Json>(),
            }).collect::<Json>(),
            "route_needs" => self.quotes.needs.iter().zip(&comparison.needs).map(|(need, found)| object! {
                "route" => &need.name,
                "quality" => decimal(need.quality),
                "tokens_per_s" => decimal(need.tokens_per_s),
                "cheapest" => found.map(name),
            }).collect::<Json>(),
            "vendors" => comparison.risk.exposures.iter().map(|one| exposure_json(one, &name)).collect::<Json>(),
            "spend" => self.spend.iter().map(|(vendor, paid)| object! {
                "vendor" => vendor,
                "modelled_usd" => decimal(paid.usd()),
            }).collect::<Json>(),
            "spend_hhi" => planner::concentration(
                &self.spend.iter().map(|(_, paid)| paid.usd()).collect::<Vec<_>>()
            ).map(decimal),
            "second_source" => comparison.risk.second.as_ref().map(|second| object! {
                "substitute" => name(second.substitute),
                "share" => decimal(self.quotes.risk.second_share),
                "hhi" => decimal(second.concentration),
                "modelled_usd_more_a_month" => decimal(second.premium.usd()),
                "modelled_usd_avoided" => decimal(second.avoided),
                "chance_a_year" => decimal(self.quotes.risk.chance),
                "switch_months" => decimal(self.quotes.risk.switch_months),
                "pays_from_chance" => second.pays_from.map(decimal),
                "hhi_from_which_it_pays" => second.threshold(self.quotes.risk.second_share).map(decimal),
            }),
            "outlook" => self.view(&self.names()).json(),
            "ruled_out" => self.ruled_out_json(),
            "notes" => self.notes(),
        }
        .pretty()
    }

    fn offer_json(&self, one: &Quoted) -> Json {
        let demand = &self.comparison.demand;
        let (task, success) = one.per_task(demand);
        let stated = &self.offer(one).stated;
        let usd = |per: Option<PerMtok>| per.map(|per| decimal(per.usd()));
        object! {
            "name" => &one.name,
            "kind" => one.kind,
            "admissible" => one.is_admissible(),
            "modelled_usd_mean_month" => decimal(one.mean().usd()),
            "modelled_usd_per_useful_mtok" => usd(one.per_useful_mtok(demand)),
            "modelled_usd_per_useful_mtok_input" => usd(one.per_mtok("input")),
            "modelled_usd_per_useful_mtok_cached" => usd(one.per_mtok("cached input")),
            "modelled_usd_per_useful_mtok_output" => usd(one.per_mtok("output")),
            "modelled_usd_per_1k_exchanges" => one.per_thousand(demand).map(decimal),
            "modelled_usd_per_task" => task.map(decimal),
            "modelled_usd_per_success" => success.map(decimal),
            "success_rate" => one.first.success.map(decimal),
            "quality" => one.first.quality.map(decimal),
            "tokens_per_s" => one.first.tokens_per_s.map(decimal),
            "pareto" => one.pareto,
            "slo" => match &one.first.kept {
                Kept::NoSlo => "none",
                Kept::Simulated => "met_simulated",
                Kept::Stated => "met_as_stated",
                Kept::NotStated(_) => "not_stated",
                Kept::Broken(_) => "broken",
            },
            "objections" => Self::objections(one),
            "limits_broken" => one.breaks.iter().map(break_json).collect::<Json>(),
            "terms" => object! {
                "region" => stated.region.as_ref(),
                "retention_days" => stated.retention_days.map(decimal),
                "trains_on_data" => stated.trains_on_data,
                "missing" => one.barred.clone(),
            },
            "paid_to" => one.first.vendors.iter().map(|(vendor, paid)| object! {
                "vendor" => vendor,
                "modelled_usd" => decimal(paid.usd()),
            }).collect::<Json>(),
            "units" => one.first.units,
            "gpus_per_replica" => one.own.as_ref().zip(one.first.month.gpus).map(|(own, gpus)| {
                gpus / own.fleet.most().max(1)
            }),
            "calls_per_second_of_replica" => one.own.as_ref().map(|own| decimal(own.capability.highest.rate)),
            "modelled_usd_per_gpu_hour" => one.gpu_price.as_ref().map(|(usd, _)| decimal(*usd)),
            "price_source" => one.gpu_price.as_ref().map(|(_, source)| source),
            "months" => one.months.iter().enumerate().map(|(at, month)| month_json(at, month)).collect::<Json>(),
            "scheduled" => one.scheduled.iter().map(|change| object! {
                "month" => change.month + 1,
                "class" => change.class,
                "modelled_usd_per_mtok_before" => decimal(change.before.usd()),
                "modelled_usd_per_mtok_after" => decimal(change.after.usd()),
            }).collect::<Json>(),
        }
    }

    fn against_json(&self, one: &Against) -> Json {
        let name = |at: usize| self.comparison.quoted[at].name.as_str();
        let mtok = |times: f64| decimal(self.mtok(times));
        let tasks = |times: f64| decimal(self.per_day(times));
        object! {
            "gpus" => name(one.gpus),
            "api" => name(one.api),
            "always_from_mtok_per_month" => one.wins.always_from.map(mtok),
            "always_from_tasks_per_day" => one.wins.always_from.map(tasks),
            "intervals" => one.wins.intervals.iter().map(|part| object! {
                "from_mtok_per_month" => mtok(part.from),
                "to_mtok_per_month" => mtok(part.to),
                "from_tasks_per_day" => tasks(part.from),
                "to_tasks_per_day" => tasks(part.to),
            }).collect::<Json>(),
            "more_intervals" => one.wins.more,
            "from_month" => one.turns.map(|month| month + 1),
            "never_because_of" => one.never.map(|why| match why {
                Constraint::Peaks => "peaks",
                Constraint::Throughput => "throughput",
            }),
            "modelled_usd_per_mtok_full_gpus" => decimal(one.full_usd_per_mtok),
            "modelled_usd_per_mtok_api" => decimal(one.api_usd_per_mtok),
            "modelled_usd_fixed_a_month" => decimal(one.fixed.usd()),
        }
    }

    fn ruled_out_json(&self) -> Json {
        let offers = self.comparison.ruled_out.iter();
        let offers = offers.map(|(offer, why)| (&self.quotes.offers[*offer].name, why));
        let all = offers.chain(self.left_out.iter().map(|(name, why)| (name, why)));
        all.map(|(name, why)| object! { "name" => name, "why" => why }).collect()
    }
}

fn month_json(at: usize, month: &Month) -> Json {
    object! {
        "month" => at as u64 + 1,
        "modelled_usd" => decimal(month.bill.usd()),
        "gpus" => month.gpus,
        "parts" => parts_json(month),
    }
}

fn break_json(one: &Break) -> Json {
    object! {
        "offer" => &one.offer,
        "what" => one.what,
        "needed" => decimal(one.needed),
        "allowed" => decimal(one.allowed),
        "from_month" => one.month + 1,
    }
}

fn exposure_json<'a>(one: &Exposure, name: &dyn Fn(usize) -> &'a str) -> Json {
    let shaken = |shaken: Shaken| match shaken {
        Shaken::Nothing => None,
        Shaken::Holds => Some("holds"),
        Shaken::Breaks => Some("breaks"),
    };
    object! {
        "name" => name(one.quoted),
        "vendor" => &one.vendor,
        "modelled_usd_price_doubled" => decimal(one.doubled.usd()),
        "rate_limit_halved" => shaken(one.limits),
        "context_halved" => shaken(one.context),
        "guarantee_dropped" => shaken(one.guarantee),
        "substitute" => one.substitute.map(name),
    }
}

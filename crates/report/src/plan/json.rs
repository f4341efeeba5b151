//! A plan for programs.

use planner::{Lane, Need, Own};

use crate::json::Json;
use crate::modelled::{decimal, parts_json};
use crate::object;
use crate::workload::Workload;

use super::PlanReport;

impl PlanReport<'_> {
    /// The plan as JSON, schema `farthing.plan/1`. Modelled money, rates and shares are decimal texts, rounded to six
    /// decimals; counts are integers.
    #[must_use]
    pub fn json(&self) -> String {
        let lanes = self.plan.lanes.iter().zip(self.needs);
        object! {
            "schema" => "farthing.plan/1",
            "name" => &self.scenario.name,
            "unit" => &self.scenario.unit,
            "start" => self.scenario.start,
            "months" => self.scenario.months,
            "price_book" => self.book.json(),
            "assumptions" => self.workload().assumptions_json(),
            "slo" => self.workload().slo_json(),
            "demand" => self.plan.demand.iter().map(Workload::demand_json).collect::<Json>(),
            "profile" => object! {
                "peak" => decimal(self.scenario.profile.peak()),
                "lowest" => decimal(self.scenario.profile.floor()),
            },
            "lanes" => lanes.map(|(lane, needs)| self.lane_json(lane, needs)).collect::<Json>(),
            "cheapest" => self.plan.cheapest().map(|lane| &lane.name),
            "levers" => self.levers.iter().map(|lever| object! {
                "lever" => lever.name,
                "assumed" => &lever.assumed,
                "lanes" => self.plan.lanes.iter().zip(&lever.savings).map(|(lane, saving)| object! {
                    "name" => &lane.name,
                    "modelled_usd_saved_per_month" => saving.map(|saving| decimal(saving.per_month.usd())),
                    "saved_share" => saving.map(|saving| decimal(saving.of_bill)),
                }).collect::<Json>(),
            }).collect::<Json>(),
            "outlook" => self.view(&self.names()).json(),
            "ruled_out" => self.plan.ruled_out.iter().map(|(name, why)| object! {
                "name" => name,
                "why" => why,
            }).collect::<Json>(),
            "notes" => self.notes(),
        }
        .pretty()
    }

    fn lane_json(&self, lane: &Lane, needs: &[Need]) -> Json {
        let demand = &self.plan.demand;
        let (task, success) = lane.per_task(self.case, demand, 0);
        object! {
            "name" => &lane.name,
            "kind" => if lane.own.is_some() { "gpus" } else { "api" },
            "modelled_usd_per_task" => task.map(decimal),
            "modelled_usd_per_success" => success.map(decimal),
            "gross_margin" => self.margin(lane).map(decimal),
            "months" => lane.months.iter().enumerate().map(|(at, month)| {
                let per = lane.per_useful_mtok(demand, at);
                let output = lane.per_useful_output_mtok(demand, at);
                object! {
                    "month" => at as u64 + 1,
                    "modelled_usd" => decimal(month.bill.usd()),
                    "modelled_usd_per_useful_mtok" => per.map(|per| decimal(per.usd())),
                    "modelled_usd_per_useful_output_mtok" => output.map(|per| decimal(per.usd())),
                    "gpus" => month.gpus,
                    "parts" => parts_json(month),
                }
            }).collect::<Json>(),
            "growth" => lane.growth.iter().map(|(name, part)| object! {
                "factor" => *name,
                "modelled_usd" => decimal(part.usd()),
            }).collect::<Json>(),
            "own" => lane.own.as_ref().map(|own| self.own_json(lane, own)),
            "needs" => needs.iter().map(|need| object! {
                "what" => need.what,
                "now" => decimal(need.now),
                "needed" => need.needed.map(decimal),
                "bound" => if need.at_most { "at_most" } else { "at_least" },
            }).collect::<Json>(),
        }
    }

    fn own_json(&self, lane: &Lane, own: &Own) -> Json {
        let Own { capability, fleet, cost, bounds, simulated, offered, .. } = own;
        let service = &capability.highest;
        let offer = &self.offers.gpus[lane.offer];
        object! {
            "gpus_per_replica" => offer.candidate.gpus(),
            "modelled_usd_per_gpu_hour" => decimal(offer.price.usd()),
            "price_source" => &offer.source,
            "calls_per_second_of_replica" => decimal(service.rate),
            "ttft_ms" => service.ttft_s.map(|seconds| decimal(seconds * 1e3)),
            "tpot_ms" => service.tpot_s.map(|seconds| decimal(seconds * 1e3)),
            "replicas" => object! {
                "for_load" => fleet.for_load,
                "for_failures" => fleet.for_failures,
                "for_deploys" => fleet.for_deploys,
                "paid" => decimal(fleet.paid),
            },
            "week" => fleet.week.iter().map(|hour| object! {
                "calls_per_second" => decimal(hour.per_second),
                "replicas" => hour.replicas,
            }).collect::<Json>(),
            "bounds" => object! {
                "throughput" => bounds.throughput,
                "erlang_c" => bounds.erlang_c,
                "square_root" => bounds.square_root,
            },
            "hour" => cost.items.iter().map(|item| object! {
                "item" => item.name,
                "modelled_usd" => decimal(item.cost.usd()),
            }).collect::<Json>(),
            "modelled_usd_per_hour" => decimal(cost.total().usd()),
            "setups_simulated" => *simulated as u64,
            "setups_offered" => *offered as u64,
        }
    }
}

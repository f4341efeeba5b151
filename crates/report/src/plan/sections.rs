//! What a plan says, section by section, for a terminal and for a page.

use planner::scenario::Terms;
use planner::{Lane, Need, Own, Part, Saving, Var};

use crate::modelled::{decimals, places, shown, trimmed};
use crate::sections::{Block, Section};
use crate::table::{Table, printable};

use super::PlanReport;

impl PlanReport<'_> {
    /// All sections that say anything, in the order in which they are read.
    pub(super) fn sections(&self) -> Vec<Section> {
        let mut all = Vec::new();
        let mut section = |title: String, blocks: Vec<Block>| {
            if !blocks.is_empty() {
                all.push(Section { title, blocks });
            }
        };
        section("What is assumed".to_owned(), self.workload().assumed());
        section("What a month asks for".to_owned(), self.workload().asked(&self.plan.demand));
        section("What it costs".to_owned(), self.lanes());
        for lane in &self.plan.lanes {
            let name = Self::lane_name(lane);
            section(format!("Where the money goes: {}", printable(&name)), self.parts(lane));
            if let Some(own) = &lane.own {
                section("GPUs for it".to_owned(), self.fleet(lane, own));
                section("An hour of it".to_owned(), self.hour(own));
            }
        }
        section("Through time".to_owned(), self.months());
        section("Why the bill moves".to_owned(), self.growth());
        section("What would have to be true".to_owned(), self.needed());
        section("What would save".to_owned(), self.levers());
        let names = self.names();
        section("How sure".to_owned(), self.view(&names).sure());
        section("What matters most".to_owned(), self.view(&names).matters());
        section("Ruled out".to_owned(), self.ruled_out());
        all
    }

    /// The answer in a line.
    pub(super) fn headline(&self) -> String {
        let name = &self.scenario.name;
        let Some(lane) = self.plan.cheapest() else { return name.clone() };
        let bill = lane.months.first().map_or(0.0, |month| month.bill.usd());
        let last = lane.months.last().map_or(0.0, |month| month.bill.usd());
        let gpus = lane.months.first().and_then(|month| month.gpus);
        let gpus =
            gpus.map_or(String::new(), |gpus| format!(", {} GPUs", decimals(gpus.into(), 0)));
        format!(
            "{name}: {} USD in the first month{gpus}, {} in month {}; over all months {} is the cheapest",
            decimals(bill, 0),
            decimals(last, 0),
            self.scenario.months,
            Self::lane_name(lane),
        )
    }

    fn lanes(&self) -> Vec<Block> {
        let success = self.case.get(Var::Success).is_some();
        let mut table = Table::default().text("where").number("USD in the\nfirst month");
        table = table
            .number(&format!("USD in\nmonth {}", self.scenario.months))
            .minor("GPUs in\nthe peak", 2);
        table = table.number("USD per useful\noutput Mtok").number("USD per\ntask");
        if success {
            table = table.number("USD per\nsuccess");
        }
        let margins = self.plan.lanes.iter().any(|lane| self.margin(lane).is_some());
        if margins {
            table = table.minor("gross\nmargin", 1);
        }
        let demand = &self.plan.demand;
        let each = |lane: &Lane| lane.per_task(self.case, demand, 0);
        let places = places(self.plan.lanes.iter().filter_map(|lane| each(lane).0));
        for lane in &self.plan.lanes {
            let bill = |month: Option<&planner::Month>| month.map_or(0.0, |month| month.bill.usd());
            let (task, of_success) = each(lane);
            let dollars =
                |usd: Option<f64>, places| usd.map_or("-".to_owned(), |usd| decimals(usd, places));
            let mut cells = vec![
                Self::lane_name(lane),
                decimals(bill(lane.months.first()), 0),
                decimals(bill(lane.months.last()), 0),
                lane.months
                    .first()
                    .and_then(|month| month.gpus)
                    .map_or("-".to_owned(), |gpus| decimals(gpus.into(), 0)),
                dollars(lane.per_useful_output_mtok(demand, 0).map(planner::PerMtok::usd), 4),
                dollars(task, places),
            ];
            if success {
                cells.push(dollars(of_success, places));
            }
            if margins {
                let margin = self.margin(lane).map(|margin| margin * 100.0);
                cells.push(margin.map_or("-".to_owned(), |margin| decimals(margin, 1) + "%"));
            }
            table.row(cells);
        }
        vec![Block::Table(table)]
    }

    fn parts(&self, lane: &Lane) -> Vec<Block> {
        let Some(month) = lane.months.first() else { return Vec::new() };
        let mut table = Table::default().text("caused by").number("USD a month").number("share");
        table = table.number("useful Mtok").number("USD per useful Mtok\nof its class");
        let cells = |name: &str, usd: f64, part: Option<&Part>| {
            let useful = part.and_then(|part| part.useful);
            let per = part.and_then(Part::per_mtok).map(planner::PerMtok::usd);
            let share = usd / month.bill.usd().max(f64::MIN_POSITIVE) * 100.0;
            [
                name.to_owned(),
                decimals(usd, 2),
                decimals(share, 1) + "%",
                useful.map_or("-".to_owned(), |tokens| decimals(tokens / 1e6, 1)),
                per.map_or("-".to_owned(), |usd| decimals(usd, 4)),
            ]
        };
        for part in &month.parts {
            table.row(cells(part.name, part.cost.usd(), Some(part)));
        }
        table.total(cells("total", month.bill.usd(), None));
        vec![Block::Table(table)]
    }

    fn fleet(&self, lane: &Lane, own: &Own) -> Vec<Block> {
        let Own { capability, fleet, bounds, .. } = own;
        let service = &capability.highest;
        let offer = &self.offers.gpus[lane.offer];
        let gpus = f64::from(offer.candidate.gpus());
        let mut table = Table::default().text("replicas").number("replicas").number("GPUs");
        let mut row = |name: &str, replicas: f64, places: usize| {
            table.row([
                name.to_owned(),
                decimals(replicas, places),
                decimals(replicas * gpus, places),
            ]);
        };
        row("for the peak hour, with headroom", fleet.for_load.into(), 0);
        row("for failures (spare, zones)", fleet.for_failures.into(), 0);
        row("for deploys, while they last", fleet.for_deploys.into(), 0);
        row("paid for on the mean", fleet.paid, 1);
        row("bound: peak over full throughput", bounds.throughput.into(), 0);
        if let Some(erlang) = bounds.erlang_c {
            row("bound: Erlang C, all slots pooled", erlang.into(), 0);
        }
        row("bound: square-root staffing", bounds.square_root.into(), 0);
        let time = |seconds: Option<f64>| {
            seconds.map_or("-".to_owned(), |seconds| decimals(seconds * 1e3, 0) + " ms")
        };
        let words = format!(
            "A replica ({}) serves {} calls a second within the SLO: TTFT {}, TPOT {} for {}% of calls. Bounds stand beside it, \
             and are no plan. {}",
            printable(&offer.candidate.name()),
            decimals(service.rate, 2),
            time(service.ttft_s),
            time(service.tpot_s),
            trimmed(self.scenario.slo.share * 100.0, 2),
            match own.offered - own.simulated {
                0 => format!("All {} setups were simulated.", own.offered),
                _ => format!(
                    "{} of {} setups were simulated; the closed form ruled out the others.",
                    own.simulated, own.offered
                ),
            },
        );
        let owned = self.scenario.gpus.as_ref().is_some_and(|gpus| gpus.terms == Terms::Owned);
        let price = match self.case.get(Var::Purchase).filter(|_| owned) {
            None => format!(
                "GPU hour: {} USD, {}.",
                trimmed(offer.price.usd(), 4),
                printable(&offer.source)
            ),
            Some(usd) => format!("GPU: bought for {} USD.", decimals(usd, 0)),
        };
        vec![Block::Table(table), Block::Words(words), Block::Faint(price)]
    }

    fn hour(&self, own: &Own) -> Vec<Block> {
        let mut table = Table::default()
            .text("item")
            .number("USD an hour")
            .number("USD a month")
            .number("share");
        let total = own.cost.total();
        let cells = |name: &str, cost: planner::PerHour| {
            [
                name.to_owned(),
                decimals(cost.usd(), 4),
                decimals(cost.per_month().usd(), 2),
                decimals(cost.usd() / total.usd().max(f64::MIN_POSITIVE) * 100.0, 1) + "%",
            ]
        };
        for item in &own.cost.items {
            table.row(cells(item.name, item.cost));
        }
        table.total(cells("total", total));
        vec![Block::Table(table)]
    }

    /// Two clocks: the bill and the price of a useful token.
    fn months(&self) -> Vec<Block> {
        let count = self.plan.demand.len();
        if count < 2 {
            return Vec::new();
        }
        let mut table = Table::default().text("month").number("tasks");
        let many = self.plan.lanes.len() > 1;
        for (index, lane) in self.plan.lanes.iter().enumerate() {
            let name = if many { format!("[{}] ", index + 1) } else { String::new() };
            table =
                table.number(&format!("{name}USD")).number(&format!("{name}USD per\nuseful Mtok"));
            if lane.own.is_some() {
                table = table.minor(&format!("{name}GPUs"), 1);
            }
        }
        // A dozen rows at most, the last month among them.
        let step = count.div_ceil(12);
        for at in (0..count).filter(|at| at % step == 0 || *at == count - 1) {
            let mut cells = vec![format!("{}", at + 1), decimals(self.plan.demand[at].tasks, 0)];
            for lane in &self.plan.lanes {
                let month = &lane.months[at];
                let per = lane.per_useful_mtok(&self.plan.demand, at);
                cells.push(decimals(month.bill.usd(), 0));
                cells.push(per.map_or("-".to_owned(), |per| decimals(per.usd(), 4)));
                if lane.own.is_some() {
                    cells.push(month.gpus.map_or("-".to_owned(), |gpus| decimals(gpus.into(), 0)));
                }
            }
            table.row(cells);
        }
        let names = self.plan.lanes.iter().enumerate();
        let names: Vec<_> = names
            .map(|(index, lane)| format!("[{}] {}", index + 1, printable(&Self::lane_name(lane))))
            .collect();
        let mut blocks = vec![Block::Table(table)];
        if many {
            blocks.push(Block::Faint(names.join("; ")));
        }
        blocks
    }

    fn growth(&self) -> Vec<Block> {
        let lanes = &self.plan.lanes;
        let Some(first) = lanes.first().filter(|_| self.plan.demand.len() > 1) else {
            return Vec::new();
        };
        let mut table = Table::default()
            .text(&format!("from month 1 to {}, USD a month", self.plan.demand.len()));
        for lane in lanes {
            table = table.number(&Self::lane_name(lane).replacen(' ', "\n", 1));
        }
        let signed = |usd: f64| match decimals(usd, 0) {
            text if usd > 0.0 && text != "0" => format!("+{text}"),
            text => text,
        };
        for (at, (name, _)) in first.growth.iter().enumerate() {
            let moved = lanes.iter().any(|lane| lane.growth[at].1.usd().abs() >= 0.5);
            if moved {
                let cells = lanes.iter().map(|lane| signed(lane.growth[at].1.usd()));
                table.row(std::iter::once((*name).to_owned()).chain(cells));
            }
        }
        let sums = lanes.iter().map(|lane| {
            let sum: f64 = lane.growth.iter().map(|(_, part)| part.usd()).sum();
            signed(sum)
        });
        table.total(std::iter::once("change of the bill".to_owned()).chain(sums));
        vec![Block::Table(table)]
    }

    fn needed(&self) -> Vec<Block> {
        let target = self.scenario.target;
        let aims = [
            target
                .gross_margin
                .map(|margin| format!("a gross margin of {}%", trimmed(margin * 100.0, 2))),
            target
                .budget
                .map(|budget| format!("at most {} USD a month", decimals(budget.usd(), 0))),
        ];
        let aims: Vec<String> = aims.into_iter().flatten().collect();
        if aims.is_empty() {
            return Vec::new();
        }
        let mut table = Table::default()
            .text("where")
            .text("what, all else as it is")
            .number("now")
            .number("needed");
        for (lane, needs) in self.plan.lanes.iter().zip(self.needs) {
            for Need { what, kind, now, needed, at_most } in needs {
                let bound = if *at_most { "at most" } else { "at least" };
                let needed = needed.map_or("not by this alone".to_owned(), |needed| {
                    format!("{bound} {}", shown(*kind, needed))
                });
                let name = Self::lane_name(lane);
                table.row([name, (*what).to_owned(), shown(*kind, *now), needed]);
            }
        }
        let aims = format!("For {} in the first month:", aims.join(" and "));
        vec![Block::Words(aims), Block::Table(table)]
    }

    /// Levers, each by itself.
    fn levers(&self) -> Vec<Block> {
        let lanes = &self.plan.lanes;
        let cheapest = self.plan.cheapest().map(|lane| &lane.name);
        let Some(first) = lanes.iter().position(|lane| Some(&lane.name) == cheapest) else {
            return Vec::new();
        };
        if self.levers.is_empty() {
            return Vec::new();
        }
        let others: Vec<usize> = (0..lanes.len()).filter(|at| *at != first).collect();
        let mut table =
            Table::default().text("lever").number("USD a\nmonth").number("of the\nbill");
        for (rank, at) in (0..).zip(&others) {
            table = table.minor(&format!("[{}] of\nits bill", at + 1), rank);
        }
        table = table.prose("what is assumed");
        let share = |saving: Option<Saving>| {
            saving.map_or("-".to_owned(), |saving| decimals(saving.of_bill * 100.0, 1) + "%")
        };
        for lever in self.levers {
            let saving = lever.savings[first];
            let usd = saving.map_or("-".to_owned(), |saving| decimals(saving.per_month.usd(), 0));
            let of_others = others.iter().map(|at| share(lever.savings[*at]));
            let cells = [lever.name.to_owned(), usd, share(saving)].into_iter().chain(of_others);
            table.row(cells.chain([printable(&lever.assumed)]));
        }
        let mut words = format!(
            "Each by itself, on the mean of all months, for {}. They do not add up: what one takes, another cannot save.",
            printable(&Self::lane_name(&lanes[first]))
        );
        if !others.is_empty() {
            let names = others
                .iter()
                .map(|at| format!("[{}] {}", at + 1, printable(&Self::lane_name(&lanes[*at]))));
            words += &format!(" Beside it: {}.", names.collect::<Vec<_>>().join("; "));
        }
        vec![Block::Table(table), Block::Faint(words)]
    }

    fn ruled_out(&self) -> Vec<Block> {
        let lines = self
            .plan
            .ruled_out
            .iter()
            .map(|(name, why)| Block::Words(printable(&format!("{name}: {why}"))));
        lines.collect()
    }
}

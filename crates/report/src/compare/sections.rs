//! What a comparison says, section by section, for a terminal and for a page.

use planner::PerMtok;
use planner::compare::{Api, Kept, OnGpus, Quoted, Serving};

use crate::modelled::{decimals, places, trimmed};
use crate::sections::{self, Block, Section};
use crate::table::{Style, Table, printable};

use super::CompareReport;

impl CompareReport<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        sections::text(&self.headline(), &self.sections(), &self.notes(), style)
    }

    /// All sections that say anything, in the order in which they are read.
    pub(super) fn sections(&self) -> Vec<Section> {
        let demand = &self.comparison.demand;
        let names = self.names();
        let all = [
            ("What is assumed", self.workload().assumed()),
            ("What a month asks for", self.workload().asked(demand)),
            ("The offers", self.offered()),
            ("What each costs", self.costs()),
            ("Cost by class of token", self.classes()),
            ("What stands against them", self.against()),
            ("When GPUs win", self.wins()),
            ("The bill by volume", self.by_volume()),
            ("Quality and speed", self.values()),
            ("How sure", self.view(&names).sure()),
            ("What matters most", self.view(&names).matters()),
            ("If a vendor changes its mind", self.shaken()),
            ("Concentration", self.concentration()),
            ("Prices that are known to change", self.scheduled()),
            ("Ruled out", self.ruled_out()),
        ];
        let all = all.into_iter().filter(|(_, blocks)| !blocks.is_empty());
        all.map(|(title, blocks)| Section { title: title.to_owned(), blocks }).collect()
    }

    fn offered(&self) -> Vec<Block> {
        let mut table = Table::default().text("offer").text("kind").prose("what, at which price");
        table = table.prose("stated");
        for offer in &self.quotes.offers {
            let quoted = self.comparison.quoted.iter().find(|one| one.name == offer.name);
            let what = match &offer.serving {
                Serving::Api(api) => of_api(api),
                Serving::Provisioned(units) => format!(
                    "{} USD a unit and hour, {} tokens a minute each{}",
                    trimmed(units.price.usd(), 4),
                    decimals(units.tokens_per_min, 0),
                    quoted.and_then(|one| one.first.units).map_or(String::new(), |count| format!(
                        "; {count} units in the first month"
                    )),
                ),
                Serving::Gpus(on) => of_gpus(on, quoted),
                Serving::Mix(parts) => {
                    let parts = parts.iter().map(|(part, share)| {
                        format!("{}% {}", trimmed(share * 100.0, 2), self.quotes.offers[*part].name)
                    });
                    parts.collect::<Vec<_>>().join(", ")
                }
                Serving::Base(base) => format!(
                    "{}, beyond it {}",
                    self.quotes.offers[base.base].name, self.quotes.offers[base.peak].name
                ),
            };
            table.row([
                offer.name.clone(),
                offer.serving.kind().to_owned(),
                what,
                stated(offer).join(", "),
            ]);
        }
        vec![Block::Table(table)]
    }

    fn costs(&self) -> Vec<Block> {
        let comparison = self.comparison;
        let demand = &comparison.demand;
        let months = demand.len();
        let success = comparison.quoted.iter().any(|one| one.first.success.is_some());
        let mut table = Table::default().text("").text("offer").number("USD in the\nfirst month");
        if months > 1 {
            table =
                table.number(&format!("USD in\nmonth {months}")).minor("USD in a\nmean month", 1);
        }
        table = table.minor("USD per useful\nMtok", 2).number("USD per\n1k exchanges");
        table = table.minor("USD per\ntask", 3);
        if success {
            table = table.number("USD per\nsuccess");
        }
        table = table.text("SLO");
        let tasks = comparison.quoted.iter().filter_map(|one| one.per_task(demand).0);
        let places = places(tasks);
        let best = comparison.best().map(|best| best.offer);
        for one in &comparison.quoted {
            let money =
                |usd: Option<f64>, places| usd.map_or("-".to_owned(), |usd| decimals(usd, places));
            let bill =
                |month: Option<&planner::Month>| money(month.map(|month| month.bill.usd()), 0);
            let (task, of_success) = one.per_task(demand);
            let mark = match (best == Some(one.offer), one.is_admissible()) {
                (true, _) => "*",
                (false, true) => "",
                (false, false) => "x",
            };
            let mut cells = vec![mark.to_owned(), one.name.clone(), bill(one.months.first())];
            if months > 1 {
                cells.extend([bill(one.months.last()), decimals(one.mean().usd(), 0)]);
            }
            cells.extend([
                money(one.per_useful_mtok(demand).map(PerMtok::usd), 4),
                money(one.per_thousand(demand), 4),
                money(task, places),
            ]);
            if success {
                cells.push(money(of_success, places));
            }
            cells.push(slo(&one.first.kept));
            table.row(cells);
        }
        let words = "The cheapest over all months first. *: the cheapest admissible; x: something stands against it.";
        vec![Block::Table(table), Block::Faint(words.to_owned())]
    }

    fn classes(&self) -> Vec<Block> {
        let mut table = Table::default().text("USD per useful Mtok").number("input");
        table =
            table.number("cached input").number("output").number("idle or not used,\nUSD a month");
        table = table.number("other,\nUSD a month");
        for one in &self.comparison.quoted {
            let per = |class: &str| {
                let per = one.per_mtok(class).map(PerMtok::usd);
                per.map_or("-".to_owned(), |usd| decimals(usd, 4))
            };
            let sum = |of: &dyn Fn(&str) -> bool| {
                let parts = one.first.month.parts.iter().filter(|part| of(part.name));
                let usd: f64 = parts.map(|part| part.cost.usd()).sum();
                decimals(usd, 0)
            };
            let idle = |name: &str| matches!(name, "idle" | "minimum, not used");
            let class = |name: &str| matches!(name, "input" | "cached input" | "output");
            table.row([
                one.name.clone(),
                per("input"),
                per("cached input"),
                per("output"),
                sum(&idle),
                sum(&|name| !idle(name) && !class(name)),
            ]);
        }
        let words = "On GPUs by the GPU time that each caused; what is read from a prefix cache takes none of its own.";
        vec![Block::Table(table), Block::Faint(words.to_owned())]
    }

    fn against(&self) -> Vec<Block> {
        let mut table = Table::default().text("offer").prose("what stands against it");
        let mut some = false;
        for one in &self.comparison.quoted {
            for why in Self::objections(one) {
                table.row([one.name.clone(), why]);
                some = true;
            }
        }
        let longest = format!(
            "The longest of the drawn calls has {} tokens.",
            decimals(self.comparison.longest.into(), 0)
        );
        if some { vec![Block::Table(table), Block::Faint(longest)] } else { Vec::new() }
    }

    fn values(&self) -> Vec<Block> {
        let comparison = self.comparison;
        if comparison.quoted.iter().all(|one| one.pareto.is_none()) {
            return Vec::new();
        }
        let demand = &comparison.demand;
        let mut table = Table::default().text("").text("offer").number("quality");
        table = table.number("tokens/s\nper user").number("USD per\ntask");
        let places = places(comparison.quoted.iter().filter_map(|one| one.per_task(demand).0));
        for one in &comparison.quoted {
            let number = |value: Option<f64>, places| {
                value.map_or("not stated".to_owned(), |value| trimmed(value, places))
            };
            table.row([
                (if one.pareto == Some(true) { "P" } else { "" }).to_owned(),
                one.name.clone(),
                number(one.first.quality, 2),
                number(one.first.tokens_per_s, 0),
                one.per_task(demand).0.map_or("-".to_owned(), |usd| decimals(usd, places)),
            ]);
        }
        let words = "P: no other offer is as good in all three and better in one (Pareto). Quality is the score that the offers \
                     state; speed as stated, or on GPUs what the SLO's share of calls gets in the peak hour.";
        let mut blocks = vec![Block::Table(table), Block::Faint(words.to_owned())];
        let needs = self.quotes.needs.iter().zip(&comparison.needs);
        let mut table = Table::default().text("route").number("quality\nneeded");
        table = table.number("tokens/s\nneeded").text("the cheapest admissible offer that has it");
        for (need, found) in needs {
            table.row([
                need.name.clone(),
                trimmed(need.quality, 2),
                trimmed(need.tokens_per_s, 0),
                found.map_or("none", |at| comparison.quoted[at].name.as_str()).to_owned(),
            ]);
        }
        if !comparison.needs.is_empty() {
            blocks.push(Block::Table(table));
        }
        blocks
    }

    fn scheduled(&self) -> Vec<Block> {
        let mut table = Table::default().text("offer").number("from month").text("class");
        table = table.number("USD per Mtok\nbefore").number("after");
        let mut some = false;
        for one in &self.comparison.quoted {
            for change in &one.scheduled {
                some = true;
                table.row([
                    one.name.clone(),
                    (change.month + 1).to_string(),
                    change.class.to_owned(),
                    trimmed(change.before.usd(), 4),
                    trimmed(change.after.usd(), 4),
                ]);
            }
        }
        if some { vec![Block::Table(table)] } else { Vec::new() }
    }

    fn ruled_out(&self) -> Vec<Block> {
        let offers = self.comparison.ruled_out.iter();
        let offers = offers.map(|(offer, why)| (&self.quotes.offers[*offer].name, why));
        let setups = self.left_out.iter().map(|(name, why)| (name, why));
        let lines = offers.chain(setups);
        lines.map(|(name, why)| Block::Words(printable(&format!("{name}: {why}")))).collect()
    }
}

pub(super) fn slo(kept: &Kept) -> String {
    match kept {
        Kept::NoSlo => "none asked".to_owned(),
        Kept::Simulated => "met (simulated)".to_owned(),
        Kept::Stated => "met (as stated)".to_owned(),
        Kept::NotStated(what) => format!("not stated: {}", what.join(", ")),
        Kept::Broken(_) => "broken".to_owned(),
    }
}

fn of_api(api: &Api) -> String {
    let mut all = Vec::new();
    if let Some(model) = &api.model {
        all.push(match &api.tier {
            Some(tier) => format!("{model}, {tier}"),
            None => model.clone(),
        });
    }
    let classes = ["input", "cached", "output", "reasoning"];
    let own = classes
        .iter()
        .zip(&api.prices)
        .filter_map(|(class, price)| Some(format!("{class} {}", trimmed((*price)?.usd(), 4))));
    let own: Vec<_> = own.collect();
    if !own.is_empty() {
        all.push(format!("USD per Mtok: {}", own.join(", ")));
    }
    if api.discount > 0.0 {
        all.push(format!("less {}%", trimmed(api.discount * 100.0, 2)));
    }
    if api.minimum.usd() > 0.0 {
        all.push(format!("at least {} USD a month", decimals(api.minimum.usd(), 0)));
    }
    if api.holds_months > 0 {
        all.push(format!("fixed for {} months", api.holds_months));
    }
    all.join("; ")
}

fn of_gpus(on: &OnGpus, quoted: Option<&Quoted>) -> String {
    let terms = on.gpus.terms.name().replace('_', " ");
    let price = quoted.and_then(|one| one.gpu_price.as_ref());
    let own = quoted.and_then(|one| one.own.as_ref());
    let mut what = format!("{} on {}, {terms}", on.gpus.model, on.gpus.accelerators.join(" or "));
    if let Some(own) = own {
        what += &format!(
            "; a replica serves {} calls/s within the SLO",
            decimals(own.capability.highest.rate, 2)
        );
    }
    match price {
        Some((usd, source)) if *usd > 0.0 => {
            what + &format!("; {} USD a GPU hour, {source}", trimmed(*usd, 4))
        }
        _ => what,
    }
}

fn stated(offer: &planner::compare::Offer) -> Vec<String> {
    let stated = &offer.stated;
    let mut all = Vec::new();
    let mut add = |text: Option<String>| all.extend(text);
    add(stated.quality.map(|quality| format!("quality {}", trimmed(quality, 2))));
    add(stated.ttft_s.map(|seconds| format!("TTFT {} ms", trimmed(seconds * 1e3, 0))));
    add(stated.tokens_per_s.map(|speed| format!("{} tokens/s", trimmed(speed, 1))));
    add(stated.requests_per_min.map(|count| format!("{} requests/min", decimals(count, 0))));
    add(stated.tokens_per_min.map(|count| format!("{} tokens/min", decimals(count, 0))));
    add(stated.context.map(|count| format!("context {}", decimals(count, 0))));
    add(stated.region.clone());
    add(stated.retention_days.map(|days| format!("keeps data {} days", trimmed(days, 1))));
    add(stated
        .trains_on_data
        .map(|trains| (if trains { "trains on data" } else { "no training" }).to_owned()));
    let own = offer.own.iter().map(|(var, value)| {
        format!("{} {}", var.spec().key, crate::modelled::shown(var.spec().kind, *value))
    });
    all.extend(own);
    all
}

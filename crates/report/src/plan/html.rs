//! A plan as one self-contained page: assumptions first, then the answer, then why.

use planner::{Lane, Month, PerMtok, Prospect, Range};

use crate::modelled::{decimals, places};
use crate::outlook::band;
use crate::page::{page, section, tiles, words};
use crate::plot::{Axis, Kind, Plot, Series};

use super::PlanReport;

/// Colours that a plot has for series.
const COLOURS: u8 = 4;

impl PlanReport<'_> {
    /// A page that holds all that it shows, with plots.
    #[must_use]
    pub fn html(&self) -> String {
        let mut body = tiles(&self.tiles()) + &words(&(self.headline() + "."));
        for part in self.sections() {
            let mut inner = part.html();
            match part.title.as_str() {
                "What it costs" => {
                    body +=
                        &section("Two clocks: the bill and the price of a token", &self.clocks())
                }
                "GPUs for it" => inner = self.week() + &inner,
                "What matters most" => inner = self.view(&self.names()).tornado() + &inner,
                _ => {}
            }
            body += &section(&part.title, &inner);
        }
        let notes: String = self.notes().iter().map(|note| words(note)).collect();
        body += &section("What this rests on", &notes);
        let name = &self.scenario.name;
        page(
            &format!("{name} - Farthing"),
            &format!("{name}: a plan, modelled and never booked"),
            &body,
        )
    }

    fn tiles(&self) -> Vec<[String; 4]> {
        let Some(lane) = self.plan.cheapest() else { return Vec::new() };
        let (Some(first), Some(demand)) = (lane.months.first(), self.plan.demand.first()) else {
            return Vec::new();
        };
        let (task, success) = lane.per_task(self.case, &self.plan.demand, 0);
        let dollars = |usd: Option<f64>| {
            usd.map_or("-".to_owned(), |usd| format!("${}", decimals(usd, places([usd]))))
        };
        let last = lane.months.last().map_or(0.0, |month| month.bill.usd());
        let unit = &self.scenario.unit;
        vec![
            [
                "First month".to_owned(),
                format!("${}", decimals(first.bill.usd(), 0)),
                Self::lane_name(lane),
                format!("${} in month {}", decimals(last, 0), self.scenario.months),
            ],
            [
                format!("A {unit}"),
                dollars(task),
                format!("of {} in the month", decimals(demand.tasks, 0)),
                format!("one that succeeds: {}", dollars(success)),
            ],
            [
                "Unit cost".to_owned(),
                dollars(lane.per_useful_output_mtok(&self.plan.demand, 0).map(PerMtok::usd)),
                "per useful output Mtok".to_owned(),
                "all that it costs, modelled".to_owned(),
            ],
            [
                "GPUs".to_owned(),
                first.gpus.map_or("none".to_owned(), |gpus| decimals(gpus.into(), 0)),
                "in the peak hour".to_owned(),
                "spare ones included".to_owned(),
            ],
            [
                "Gross margin".to_owned(),
                self.margin(lane)
                    .map_or("-".to_owned(), |margin| decimals(margin * 100.0, 1) + "%"),
                "of revenue".to_owned(),
                "in the first month".to_owned(),
            ],
            self.view(&[]).tile(&lane.name),
        ]
    }

    /// The bill and what a useful token costs, through the months.
    fn clocks(&self) -> String {
        let lanes = || (1..=COLOURS).zip(&self.plan.lanes);
        let series = |value: &dyn Fn(&Lane, usize, &Month) -> Option<f64>| -> Vec<Series> {
            let all = lanes().map(|(colour, lane)| {
                let points = lane.months.iter().enumerate();
                let points = points
                    .filter_map(|(at, month)| Some((at as f64 + 1.0, value(lane, at, month)?)));
                Series {
                    name: Self::lane_name(lane),
                    colour,
                    kind: Kind::Line,
                    points: points.collect(),
                }
            });
            all.collect()
        };
        let plot = |title: &str, y: &str, series: Vec<Series>| {
            let (title, marks) = (title.to_owned(), Vec::new());
            Plot { title, x: Axis::linear("month"), y: Axis::linear(y), series, marks }.html()
        };
        let bill = series(&|_, _, month| Some(month.bill.usd()));
        let demand = &self.plan.demand;
        let unit = series(&|lane, at, _| Some(lane.per_useful_mtok(demand, at)?.usd()));
        let sure = self.view(&[]).is_sure();
        let with_band = |lines: Vec<Series>, of: fn(&Prospect) -> &[Option<Range>]| {
            let known = (1..=COLOURS).zip(&self.outlook.prospects).filter(|_| !sure);
            let bands = known.map(|(colour, one)| band(colour, of(one)));
            bands.chain(lines).collect::<Vec<_>>()
        };
        let shaded = "Lines: all as it is most likely. Shaded: eight in ten outcomes, between what one in ten is below and above.";
        format!(
            "<div class=\"pair\">\n{}{}</div>\n{}",
            plot("Bill", "USD a month", with_band(bill, |one| &one.bills)),
            plot("Unit price", "USD per useful Mtok", with_band(unit, |one| &one.per_useful_mtok)),
            if sure { String::new() } else { words(shaded) }
        )
    }

    /// Calls and what the replicas could serve, through the week.
    fn week(&self) -> String {
        let Some(own) = self.plan.lanes.iter().find_map(|lane| lane.own.as_ref()) else {
            return String::new();
        };
        let rate = own.capability.highest.rate;
        let points = |value: &dyn Fn(&planner::Hour) -> f64| {
            let hours = own.fleet.week.iter().enumerate();
            hours.map(|(hour, one)| (hour as f64 / 24.0, value(one))).collect()
        };
        let series = |name: &str, colour, kind, points| Series {
            name: name.to_owned(),
            colour,
            kind,
            points,
        };
        Plot {
            title: "Through the week".to_owned(),
            x: Axis::linear("days from Monday").up_to(7.0),
            y: Axis::linear("calls a second"),
            series: vec![
                series("calls", 1, Kind::Area, points(&|hour| hour.per_second)),
                series(
                    "what the replicas serve within the SLO",
                    2,
                    Kind::Trace,
                    points(&|hour| f64::from(hour.replicas) * rate),
                ),
            ],
            marks: Vec::new(),
        }
        .html()
    }
}

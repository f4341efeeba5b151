//! A comparison as one self-contained page: assumptions first, then the answer, then why.

use planner::compare::Quoted;

use crate::modelled::{decimals, places};
use crate::outlook::band;
use crate::page::{page, section, tiles, words};
use crate::plot::{Axis, Kind, Plot, Series};

use super::CompareReport;

/// Colours that a plot has for series.
const COLOURS: u8 = 4;

impl CompareReport<'_> {
    /// A page that holds all that it shows, with plots.
    #[must_use]
    pub fn html(&self) -> String {
        let mut body = tiles(&self.tiles()) + &words(&(self.headline() + "."));
        for part in self.sections() {
            let inner = part.html();
            let plots = match part.title.as_str() {
                "What each costs" => self.through_time(),
                "The bill by volume" => self.volume_plot(),
                "Quality and speed" => self.grid(),
                "What matters most" => self.view(&self.names()).tornado(),
                _ => String::new(),
            };
            body += &section(&part.title, &(plots + &inner));
        }
        let notes: String = self.notes().iter().map(|note| words(note)).collect();
        body += &section("What this rests on", &notes);
        let name = &self.quotes.scenario.name;
        page(
            &format!("{name}: offers - Farthing"),
            &format!("{name}: offers compared, modelled and never booked"),
            &body,
        )
    }

    fn tiles(&self) -> Vec<[String; 4]> {
        let Some(best) = self.comparison.best() else { return Vec::new() };
        let demand = &self.comparison.demand;
        let unit = &self.quotes.scenario.unit;
        let dollars = |usd: Option<f64>| {
            usd.map_or("-".to_owned(), |usd| format!("${}", decimals(usd, places([usd]))))
        };
        let bill = |month: Option<&planner::Month>| month.map_or(0.0, |month| month.bill.usd());
        let (task, success) = best.per_task(demand);
        let first =
            self.comparison.volumes.against.iter().filter(|one| one.wins.always_from.is_some());
        let first = first.min_by(|one, other| {
            let from =
                |one: &planner::compare::Against| one.wins.always_from.unwrap_or(f64::INFINITY);
            from(one).total_cmp(&from(other))
        });
        let (volume, pair) = match first {
            Some(one) => (
                one.wins
                    .always_from
                    .map_or(String::new(), |times| decimals(self.per_day(times), 0)),
                format!(
                    "{} against {}",
                    self.comparison.quoted[one.gpus].name, self.comparison.quoted[one.api].name
                ),
            ),
            None => ("never".to_owned(), "against any API here".to_owned()),
        };
        let mut tiles = vec![
            [
                "First month".to_owned(),
                format!("${}", decimals(bill(best.months.first()), 0)),
                best.name.clone(),
                format!(
                    "${} in month {}",
                    decimals(bill(best.months.last()), 0),
                    best.months.len()
                ),
            ],
            [
                format!("A {unit}"),
                dollars(task),
                "all that it costs, modelled".to_owned(),
                format!("one that succeeds: {}", dollars(success)),
            ],
            [
                "1,000 exchanges".to_owned(),
                dollars(best.per_thousand(demand)),
                "of the cheapest admissible offer".to_owned(),
                format!("{} offers were priced", self.comparison.quoted.len()),
            ],
        ];
        if !self.comparison.volumes.against.is_empty() {
            tiles.push(["GPUs win from".to_owned(), volume, format!("{unit}s a day"), pair]);
        }
        if !self.view(&[]).is_sure() {
            tiles.push(self.view(&[]).tile(&best.name));
        }
        tiles
    }

    /// Offers that a plot has colours for: the cheapest on GPUs of either kind, then the cheapest of all.
    fn drawn(&self) -> Vec<(u8, usize, &Quoted)> {
        let quoted = &self.comparison.quoted;
        let mut chosen: Vec<usize> = Vec::new();
        for kind in ["gpus", "dedicated"] {
            chosen.extend(quoted.iter().position(|one| one.kind == kind));
        }
        chosen.extend(0..quoted.len());
        let mut unlike: Vec<usize> = Vec::new();
        for at in chosen {
            if !unlike.contains(&at) && unlike.len() < usize::from(COLOURS) {
                unlike.push(at);
            }
        }
        unlike.sort_unstable();
        (1..=COLOURS).zip(unlike).map(|(colour, at)| (colour, at, &quoted[at])).collect()
    }

    fn through_time(&self) -> String {
        if self.comparison.demand.len() < 2 {
            return String::new();
        }
        let series = self.drawn().into_iter().map(|(colour, _, one)| Series {
            name: one.name.clone(),
            colour,
            kind: Kind::Line,
            points: one
                .months
                .iter()
                .enumerate()
                .map(|(at, month)| (at as f64 + 1.0, month.bill.usd()))
                .collect(),
        });
        let known = self.drawn().into_iter().filter(|_| !self.view(&[]).is_sure());
        let bands = known.filter_map(|(colour, _, one)| {
            let found = self.outlook.prospects.iter().find(|found| found.name == one.name)?;
            Some(band(colour, &found.bills))
        });
        Plot {
            title: "The bill through time".to_owned(),
            x: Axis::linear("month"),
            y: Axis::linear("USD a month"),
            series: bands.chain(series).collect(),
            marks: Vec::new(),
        }
        .html()
    }

    fn volume_plot(&self) -> String {
        let volumes = &self.comparison.volumes.curve;
        let series = self.drawn().into_iter().map(|(colour, at, one)| {
            let points = volumes.iter().filter_map(|volume| {
                let bill = volume.bills.get(at).copied().flatten()?;
                Some((self.per_day(volume.times), bill.usd()))
            });
            Series { name: one.name.clone(), colour, kind: Kind::Trace, points: points.collect() }
        });
        Plot {
            title: "The bill by volume".to_owned(),
            x: Axis::log(format!("{}s a day", self.quotes.scenario.unit)),
            y: Axis::log("USD a month"),
            series: series.collect(),
            marks: vec![crate::plot::Mark {
                name: "first month".to_owned(),
                at: self.per_day(1.0),
                upright: true,
            }],
        }
        .html()
    }

    /// Quality against speed, with what routes need.
    fn grid(&self) -> String {
        let quoted = &self.comparison.quoted;
        if quoted.iter().all(|one| one.pareto.is_none()) {
            return String::new();
        }
        let named = |name: String, colour, right: f64, up: f64| Series {
            name,
            colour,
            kind: Kind::Named,
            points: vec![(right, up)],
        };
        let offers = quoted.iter().filter_map(|one| {
            let (speed, quality) = one.first.tokens_per_s.zip(one.first.quality)?;
            let pareto = one.pareto == Some(true);
            let name = if pareto { format!("{} (P)", one.name) } else { one.name.clone() };
            Some(named(name, if pareto { 1 } else { 2 }, speed, quality))
        });
        let needs =
            self.quotes.needs.iter().map(|need| {
                named(format!("{} needs", need.name), 3, need.tokens_per_s, need.quality)
            });
        let all = quoted.iter().filter_map(|one| one.first.quality);
        let all = all.chain(self.quotes.needs.iter().map(|need| need.quality));
        let (least, most) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| {
            (least.min(one), most.max(one))
        });
        Plot {
            title: "Intelligence by interactivity".to_owned(),
            x: Axis::linear("tokens a second for a user"),
            // Scores have no zero that means anything.
            y: Axis::linear("quality, as the offers state it")
                .beginning_at(least - (most - least).max(1.0) * 0.2),
            series: offers.chain(needs).collect(),
            marks: Vec::new(),
        }
        .html()
    }
}

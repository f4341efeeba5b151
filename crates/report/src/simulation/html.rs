//! A simulated run as one self-contained page.

use servesim::{Histogram, Moment, Report, SECOND_PS};

use crate::page::{escape, page, section, tiles, whole_bar, words};
use crate::plot::{Axis, Kind, Mark, Plot, Series};

use crate::number::{per_mille, percent};

use super::lessons::Mean;
use super::text::{decimals, dollars, rate};
use super::{Charts, Served, Simulation};
use crate::table::Table;

/// An axis of times is in milliseconds.
const MS: f64 = 1e9;

/// Name, colour, kind and value of what is drawn through time.
type Curve<'a> = (&'a str, u8, Kind, &'a dyn Fn(&Moment) -> f64);

impl Simulation<'_> {
    /// A page that holds all that it shows, with plots.
    #[must_use]
    pub fn html(&self, charts: &Charts<'_>) -> String {
        let setup = self.setup;
        let names = [setup.model.row(), setup.accelerator.row(), setup.engine.row()]
            .map(roofline::Row::name);
        let [model, gpu, engine] = names;
        let title = format!("{model} on {} x {gpu} with {engine}", self.accelerators_text());
        let mut body = tiles(&self.tiles());
        if let Some(search) = self.search {
            body += &words(&search.sentence());
        }
        for note in self.notes() {
            body += &words(&format!("Note: {note}."));
        }
        let pair =
            |left: String, right: String| format!("<div class=\"pair\">\n{left}{right}</div>\n");
        body += &section(
            "Latency against load",
            &pair(self.ttft(charts.sweep), self.tpot(charts.sweep)),
        );
        body += &section("Through time", &pair(self.batch(charts), self.kv(charts)));
        let lines = [self.money_line(), self.energy_line()].into_iter().flatten();
        let money = self.money().html() + &lines.map(|line| words(&line)).collect::<String>();
        body += &pair(
            section("Cost per Mtok against utilisation", &self.cost_plot(charts.sweep)),
            section("What the GPU time is for", &(self.time_bar() + &money)),
        );
        let loads: String = self.loads().iter().map(Table::html).collect();
        let lines = [self.link_line(), self.scaled_line()].into_iter().flatten();
        let lines: String = lines.map(|line| words(&format!("{line}."))).collect();
        let by_class = self.by_class().map_or_else(String::new, |table| table.html());
        body += &pair(
            section("Throughput", &self.throughput().html()),
            section(
                "Latency at this load",
                &(self.latencies().html()
                    + &by_class
                    + &loads
                    + &words(&self.work_line())
                    + &lines),
            ),
        );
        if let Some(mean) = Mean::of(self) {
            let bridge = words(
                "What a million output tokens take, from what a benchmark shows to what a real day does; the factors multiply \
                 to the whole.",
            ) + &self.bridge(&mean).html();
            body += &section("From a benchmark's peak to what is paid", &bridge);
        }
        body += &section("What this rests on", &self.rests_on());
        page(&format!("{title} - Farthing"), &format!("{title}: predicted, not measured"), &body)
    }

    fn tiles(&self) -> Vec<[String; 4]> {
        let run = self.run;
        let ms = |times: &Histogram, share: f64| {
            let ps = times.quantile_ps(share);
            ps.map_or("-".to_owned(), |ps| decimals(ps as f64 / MS, 1) + " ms")
        };
        let tile = |parts: [&str; 4]| parts.map(str::to_owned);
        let within = match self.has_slo() {
            true => {
                let share = per_mille(i128::from(run.good), i128::from(run.requests()));
                format!("{} of them within the SLO", percent(share))
            }
            false => format!("{} came", rate(self.offered_per_second())),
        };
        let mut tiles = vec![
            tile([
                "Completed",
                &rate(self.per_second(self.completed())),
                "requests a second",
                &within,
            ]),
            tile([
                "Output",
                &rate(self.per_second(run.generated_tokens)),
                "tokens a second",
                &format!("{} of input", rate(self.per_second(run.prompt_tokens))),
            ]),
            tile([
                "First token",
                &ms(&run.ttft, 0.99),
                "p99 TTFT",
                &format!("p50 {}", ms(&run.ttft, 0.5)),
            ]),
            tile([
                "Each further token",
                &ms(&run.tpot, 0.99),
                "p99 TPOT",
                &format!("p50 {}", ms(&run.tpot, 0.5)),
            ]),
            tile([
                "Busy",
                &run.busy().map_or("-".to_owned(), |busy| decimals(busy * 100.0, 1) + "%"),
                "of the GPU time",
                "idle time is paid for too",
            ]),
        ];
        tiles.push(match self.cost_per_useful_mtok() {
            Some(cost) => tile([
                "Unit cost",
                &format!("${}", dollars(cost, 4)),
                "per useful output Mtok",
                "all GPU time, modelled",
            ]),
            None => {
                let seconds = self.gpu_seconds_per_useful_mtok();
                tile([
                    "Unit cost",
                    &seconds.map_or("-".to_owned(), |seconds| decimals(seconds, 0)),
                    "GPU seconds per useful output Mtok",
                    "no price was told",
                ])
            }
        });
        tiles
    }

    /// A percentile of some times at each rate.
    fn against_load(
        &self,
        name: &str,
        sweep: &[(f64, Served)],
        of: fn(&Report) -> &Histogram,
        limit: Option<u64>,
        y: Axis,
    ) -> String {
        let series =
            [("p50", 0.5, 2), ("p95", 0.95, 1), ("p99", 0.99, 3)].map(|(name, share, colour)| {
                Series {
                    name: name.to_owned(),
                    colour,
                    kind: Kind::Line,
                    points: sweep
                        .iter()
                        .filter_map(|(rate, served)| {
                            Some((*rate, of(&served.run).quantile_ps(share)? as f64 / MS))
                        })
                        .collect(),
                }
            });
        let mut marks = Vec::new();
        if let Some(rate) = self.offered_per_second() {
            marks.push(Mark {
                name: format!("this run, {}", crate::plot::short(rate)),
                at: rate,
                upright: true,
            });
        }
        if let Some(limit) = limit {
            marks.push(Mark { name: "SLO".to_owned(), at: limit as f64 / MS, upright: false });
        }
        let x = Axis::linear("requests a second");
        Plot { title: name.to_owned(), x, y, series: series.into(), marks }.html()
    }

    fn ttft(&self, sweep: &[(f64, Served)]) -> String {
        let y = Axis::log("ms to the first token");
        self.against_load("TTFT", sweep, |run| &run.ttft, self.slo.ttft_ps, y)
    }

    fn tpot(&self, sweep: &[(f64, Served)]) -> String {
        let y = Axis::linear("ms for each further token");
        self.against_load("TPOT", sweep, |run| &run.tpot, self.slo.tpot_ps, y)
    }

    /// A figure of the run through time.
    fn through_time(&self, title: &str, y: Axis, charts: &Charts<'_>, of: &[Curve<'_>]) -> String {
        let last = charts.timeline.moments().last().map_or(0, |moment| moment.at_ps);
        let (unit, ps) = match last / SECOND_PS {
            0..=599 => ("seconds", 1.0),
            600..=35_999 => ("minutes", 60.0),
            36_000..=863_999 => ("hours", 3600.0),
            _ => ("days", 86_400.0),
        };
        let at = |moment: &Moment| moment.at_ps as f64 / SECOND_PS as f64 / ps;
        let series = of.iter().map(|(name, colour, kind, value)| Series {
            name: (*name).to_owned(),
            colour: *colour,
            kind: *kind,
            points: charts.timeline.moments().map(|moment| (at(&moment), value(&moment))).collect(),
        });
        let x = Axis::linear(format!("{unit} from the first request"));
        Plot { title: title.to_owned(), x, y, series: series.collect(), marks: Vec::new() }.html()
    }

    fn batch(&self, charts: &Charts<'_>) -> String {
        let replicas = self.replicas();
        let y = Axis::linear("sequences on a replica");
        let of: [Curve<'_>; 2] = [
            ("running", 2, Kind::Area, &|moment| moment.running / replicas),
            ("waiting", 3, Kind::Trace, &|moment| moment.waiting / replicas),
        ];
        self.through_time("Batch size", y, charts, &of)
    }

    fn kv(&self, charts: &Charts<'_>) -> String {
        let room = self.memory.kv_tokens as f64 * self.replicas();
        let y = Axis::linear("% of the KV cache held by those that run").up_to(1.0);
        let of: [Curve<'_>; 1] =
            [("held", 1, Kind::Area, &|moment| moment.kv_tokens / room * 100.0)];
        self.through_time("KV cache", y, charts, &of)
    }

    /// What tokens cost at each rate, against the share of the highest throughput.
    fn cost_plot(&self, sweep: &[(f64, Served)]) -> String {
        let runs = || {
            let all = sweep.iter();
            all.map(|(_, Served { run, fleet, .. })| Simulation {
                run,
                fleet,
                search: None,
                ..*self
            })
        };
        let output = |run: &Simulation<'_>| run.per_second(run.run.generated_tokens).unwrap_or(0.0);
        let most = runs().map(|run| output(&run)).fold(0.0, f64::max);
        let hour = self.gpu_hour.map(|hour| hour.usd() / 3600.0);
        let cost = |gpu_ps: u64, tokens: u64| {
            let seconds = gpu_ps as f64 / SECOND_PS as f64;
            (tokens > 0).then(|| seconds * hour.unwrap_or(1.0) / tokens as f64 * 1e6)
        };
        let series = |name: &str, colour: u8, of: &dyn Fn(&Simulation<'_>) -> Option<f64>| Series {
            name: name.to_owned(),
            colour,
            kind: Kind::Line,
            points: runs()
                .filter_map(|run| Some((output(&run) / most * 100.0, of(&run)?)))
                .collect(),
        };
        let part = |which: usize| {
            move |run: &Simulation<'_>| {
                let part = run.parts()[which];
                cost(part.gpu_ps, part.tokens?)
            }
        };
        let all = |run: &Simulation<'_>| cost(run.gpu_ps(), run.run.good_generated_tokens);
        let series = vec![
            series("all time per useful output", 3, &all),
            series("output alone", 1, &part(2)),
            series("input alone", 2, &part(0)),
        ];
        let unit = if hour.is_some() { "USD per Mtok" } else { "GPU seconds per Mtok" };
        let marks = match (self.per_second(self.run.generated_tokens), most > 0.0) {
            (Some(rate), true) => {
                vec![Mark { name: "this run".to_owned(), at: rate / most * 100.0, upright: true }]
            }
            _ => Vec::new(),
        };
        let x = Axis::linear(format!(
            "% of the highest throughput, {} output tokens a second",
            crate::plot::short(most)
        ));
        Plot { title: "Cost per Mtok".to_owned(), x, y: Axis::log(unit), series, marks }.html()
    }

    fn time_bar(&self) -> String {
        let all = self.gpu_ps() as f64;
        let classes = ["class-input_uncached", "class-cache_read", "class-output_text", "idle"];
        let parts = self.parts();
        let parts = parts.iter().zip(classes).filter(|(part, _)| part.gpu_ps > 0);
        let parts = parts.map(|(part, class)| {
            let share = part.gpu_ps as f64 / all;
            (class, share, format!("{} {}%", part.name, decimals(share * 100.0, 1)))
        });
        whole_bar(&parts.collect::<Vec<_>>())
    }

    /// The assumptions, down to each figure with its source.
    fn rests_on(&self) -> String {
        let mut out = words(&format!("{}.", self.offered_line()));
        out += &words(&format!("{}.", capital(&self.setup_line())));
        out += &self.spread().map_or_else(String::new, |table| table.html());
        out += &words(&self.certainty());
        out += "<details><summary>Every figure of the data sheets, with its source</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"text\">of</th><th class=\"text\">figure</th><th class=\"number\">value</th><th class=\"text\">source</th></tr></thead>\n<tbody>\n";
        let setup = self.setup;
        for row in [setup.model.row(), setup.accelerator.row(), setup.engine.row()] {
            for (key, value, source) in row.figures() {
                let cells = [
                    ("th", "text", row.name()),
                    ("td", "text", key),
                    ("td", "number", &value.to_string()),
                    ("td", "text", source),
                ]
                .map(|(tag, class, text)| {
                    format!("<{tag} class=\"{class}\">{}</{tag}>", escape(text))
                });
                out += &format!("<tr>{}</tr>\n", cells.concat());
            }
        }
        out + "</tbody>\n</table></div>\n</details>\n"
    }
}

/// With a capital at its start.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

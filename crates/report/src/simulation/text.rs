//! A simulated run for a terminal.

use std::time::Duration;

use calibration::Metric;
use quantity::{EstimatedUsd, group_digits, grouped};
use roofline::{Basis, Row};
use servesim::{Engine, Histogram, Link, Outcome, Report, SECOND_PS, Scaling, Slo};

use crate::number::{duration, per_mille, percent};
use crate::table::{Style, Table, printable};

use super::{Fleet, Pool, Pools, Scaled, Search, Simulation, Source, Spread, wasted_tokens};

const GIB: f64 = 1_073_741_824.0;

impl Simulation<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = style.heading(&self.headline()) + "\n";
        out += &style.faint_words(&self.offered_line());
        out += &style.faint_words(&self.setup_line());
        if let Some(search) = self.search {
            out += &style.wrapped_words(&search.sentence());
        }
        out.push('\n');
        out += &self.throughput().render(style);
        out.push('\n');
        out += &self.latencies().render(style);
        if let Some(classes) = self.by_class() {
            out.push('\n');
            out += &classes.render(style);
        }
        out.push('\n');
        let loads: Vec<String> = self.loads().iter().map(|load| load.render(style)).collect();
        out += &loads.join("\n");
        out += &style.faint_words(&self.work_line());
        for line in [self.link_line(), self.scaled_line()].into_iter().flatten() {
            out += &style.faint_words(&line);
        }
        out.push('\n');
        out += &self.money().render(style);
        out += &match self.money_line() {
            Some(line) => style.wrapped_words(&line),
            None => style.faint_words("With --gpu-hour USD this is money, and cost per Mtok."),
        };
        out += &self.energy_line().map_or_else(String::new, |line| style.faint_words(&line));
        out.push('\n');
        for note in self.notes() {
            out += &style.wrapped_words(&format!("Note: {note}."));
        }
        if let Some(table) = self.spread() {
            out += &table.render(style);
            out.push('\n');
        }
        out += &style.faint_words(&self.certainty());
        for line in self.sources() {
            out += &style.faint_words(&line);
        }
        out
    }

    pub(super) fn headline(&self) -> String {
        let setup = self.setup;
        let count = grouped(u64::from(self.accelerators_of_replica()));
        let replicas = match self.fleet {
            Fleet::Copies(1) => String::new(),
            Fleet::Copies(some) => format!(", {} replicas", grouped(u64::from(*some))),
            Fleet::Pools(Pools { prefill, decode, .. }) => format!(
                ", {} for prompts and {} that decode",
                grouped(u64::from(prefill.replicas)),
                grouped(u64::from(decode.replicas))
            ),
            Fleet::Scaled(Scaled { scaling, .. }) => {
                format!(", {} to {} replicas", scaling.least, scaling.most)
            }
        };
        let mut line = format!(
            "{} on {count} x {} with {}{replicas}: ",
            setup.model.row().name(),
            setup.accelerator.row().name(),
            setup.engine.row().name(),
        );
        if let Some(unmet) = self.search.and_then(Search::unmet) {
            return printable(&(line + &unmet));
        }
        if self.completed() == 0 {
            let all = grouped(self.run.requests());
            return printable(&format!("{line}none of {all} requests could be served"));
        }
        line += &format!("{} requests/s", rate(self.per_second(self.completed())));
        if self.has_slo() {
            let share = per_mille(i128::from(self.run.good), i128::from(self.run.requests()));
            line += &format!(", {} of them within the SLO", percent(share));
        }
        if let Some(cost) = self.cost_per_useful_mtok() {
            line += &format!(", ${} per useful output Mtok", dollars(cost, 2));
        }
        printable(&line)
    }

    pub(super) fn offered_line(&self) -> String {
        let requests = grouped(self.run.requests());
        let came = match self.offered_per_second() {
            Some(rate) => format!("{} a second", decimals(rate, 2)),
            None => "all at once".to_owned(),
        };
        let from = match self.source {
            Source::Trace { file, format, part, left_out, scale, seed, .. } => {
                let mut from = format!("from {file} ({format})");
                if let Some(seed) = seed {
                    from += &format!(", drawn with seed {seed}");
                }
                if let Some(part) = part {
                    from += &format!(", {part}");
                }
                if *left_out > 0 {
                    from += &format!(", without {} that had no reply", grouped(*left_out));
                }
                if scale != "1" {
                    from += &format!(", played {scale} times as fast");
                }
                format!("{from}, {came}")
            }
            Source::Ledger { route, unknown, without_tokens, estimated, input, cached, scale } => {
                let mut from = match route {
                    Some(route) => format!("of route `{route}` from the ledger"),
                    None => "from the ledger".to_owned(),
                };
                let told = [
                    (*unknown, "without %, whose usage is unknown"),
                    (*without_tokens, "without % that had no prompt or no reply"),
                    (*estimated, "% of them with estimated usage"),
                ];
                for (count, words) in told.into_iter().filter(|(count, _)| *count > 0) {
                    from += &format!(", {}", words.replace('%', &grouped(count)));
                }
                let share = percent(per_mille(i128::from(*cached), i128::from(*input)));
                from += &format!("; their providers told {share} of the input as cached");
                if scale != "1" {
                    from += &format!(", played {scale} times as fast");
                }
                format!("{from}, {came}")
            }
            Source::Made { input, output, cv, diurnal, sessions, seed, .. } => {
                let mut arrivals = match cv {
                    None => "Poisson arrivals".to_owned(),
                    Some(cv) => format!("arrivals whose gaps have a CV of {cv}, gamma distributed"),
                };
                if let Some((ratio, hour)) = diurnal {
                    arrivals += &format!(", a day's peak at {hour} h {ratio} times its floor");
                }
                let [input, output] = [input, output].map(|count| grouped(u64::from(*count)));
                let what = match sessions {
                    None => format!("of {input} input and {output} output tokens in {arrivals}"),
                    Some((turns, between)) => format!(
                        "in sessions of {turns} turns, in the mean {} apart, each with a message of {input} tokens, all that was \
                         said before, and a reply of {output}, in {arrivals}",
                        duration(*between),
                    ),
                };
                format!("{what} (seed {seed}), {came}")
            }
        };
        let lasted = duration(std::time::Duration::from_millis(self.span_ps() / 1_000_000_000));
        printable(&format!("{requests} requests {from}; {lasted} were simulated"))
    }

    pub(super) fn setup_line(&self) -> String {
        let (memory, engine) = (self.memory, self.engine);
        let gib = |bytes: f64| decimals(bytes / GIB, 1);
        let formats = self.setup.formats;
        let experts = match self.setup.model.experts {
            Some(_) if formats.experts != formats.weights => {
                format!(" (experts {})", formats.experts)
            }
            _ => String::new(),
        };
        format!(
            "each GPU has {} GiB: {} for weights in {}{experts}, {} for a KV cache in {}; a replica keeps {} tokens, runs \
             up to {} sequences of up to {} tokens, and computes up to {} tokens in a step{}",
            gib(memory.hbm_bytes),
            gib(memory.weight_bytes),
            formats.weights,
            gib(memory.kv_bytes),
            formats.kv.name(),
            grouped(memory.kv_tokens),
            grouped(u64::from(engine.max_num_seqs)),
            grouped(u64::from(engine.max_model_len)),
            grouped(u64::from(engine.max_num_batched_tokens)),
            self.split() + &self.patience(),
        )
    }

    /// How a replica is split, where that is not over tensor ranks alone.
    fn split(&self) -> String {
        let roofline::Layout { tensor, pipeline, data, expert } = self.setup.layout;
        let parts = [(pipeline, "pp"), (data, "dp"), (expert, "ep")];
        let more: Vec<String> = parts
            .into_iter()
            .filter(|(ranks, _)| *ranks > 1)
            .map(|(ranks, name)| format!(", {name} {ranks}"))
            .collect();
        if more.is_empty() {
            String::new()
        } else {
            format!("; split tp {tensor}{}", more.concat())
        }
    }

    /// How prompts come from one pool to the other.
    pub(super) fn link_line(&self) -> Option<String> {
        let Fleet::Pools(Pools { link, prefill, .. }) = self.fleet else { return None };
        let Link { bytes_per_second, latency_ps, bytes_per_token, .. } = *link;
        let sent = prefill.run.work.sent_tokens;
        Some(format!(
            "Prompts of {} tokens went from one pool to the other, {} bytes a token over {} GB/s of each GPU, one after the \
             other, and {} us more each",
            grouped(sent),
            grouped(bytes_per_token),
            decimals(bytes_per_second as f64 / 1e9, 1),
            decimals(latency_ps as f64 / 1e6, 0),
        ))
    }

    /// By which rule copies were started and stopped, and what came of it.
    pub(super) fn scaled_line(&self) -> Option<String> {
        let Fleet::Scaled(Scaled { scaling, started, .. }) = self.fleet else { return None };
        let Scaling { target_load, every_ps, cold_start_ps, hold_ps, .. } = *scaling;
        let span = |ps: u64| duration(Duration::from_nanos(ps / 1000));
        let time = self.run.time;
        let cold = per_mille(i128::from(time.cold_ps), i128::from(time.total_ps()));
        Some(format!(
            "{} replicas in the mean, {} started; every {} it was seen how many are needed for {} requests on each; a start \
             takes {}, which was {} of the GPU time, and who is too many for {} stops",
            decimals(self.replicas(), 2),
            grouped(u64::from(*started)),
            span(every_ps),
            grouped(u64::from(target_load)),
            span(cold_start_ps),
            percent(cold),
            span(hold_ps),
        ))
    }

    /// What each class of priority saw.
    pub(super) fn by_class(&self) -> Option<Table> {
        let mut table = Table::default().text("by priority, ms").number("requests");
        table = table.number("completed");
        if self.has_slo() {
            table = table.number("within SLO");
        }
        table = table.minor("p50 TTFT", 1).number("p99 TTFT");
        table = table.minor("p50 last token", 2).number("p99 last token");
        let told = self.priorities().iter().map(|priority| format!("priority {priority}"));
        let drawn = ["served first", "others"].into_iter().map(str::to_owned);
        let drawn = drawn.take(if told.len() == 0 { 2 } else { 0 });
        for (name, class) in told.chain(drawn).zip(self.classes?.iter()) {
            let of = |count: u64| percent(per_mille(i128::from(count), i128::from(class.requests)));
            let mut cells = vec![name, grouped(class.requests), of(class.completed)];
            if self.has_slo() {
                cells.push(of(class.good));
            }
            for (times, share) in [
                (&class.ttft, 0.5),
                (&class.ttft, 0.99),
                (&class.latency, 0.5),
                (&class.latency, 0.99),
            ] {
                let ms = times.quantile_ps(share).map(|ps| decimals(ps as f64 / 1e9, 1));
                cells.push(ms.unwrap_or_else(|| "-".to_owned()));
            }
            table.row(cells);
        }
        Some(table)
    }

    /// Who does not wait for ever.
    fn patience(&self) -> String {
        let Engine { max_queue, queue_timeout_ps, timeout_ps, .. } = *self.engine;
        let spans = [("that have not begun", queue_timeout_ps), ("that are not done", timeout_ps)];
        let queue = max_queue.map(|most| format!("; {} may wait there", grouped(u64::from(most))));
        let given_up = spans.into_iter().filter_map(|(which, span)| {
            Some(format!(
                "; those {which} after {} are given up",
                duration(Duration::from_nanos(span? / 1000))
            ))
        });
        queue.into_iter().chain(given_up).collect()
    }

    pub(super) fn throughput(&self) -> Table {
        let mut table = Table::default().text("throughput").number("total").number("per second");
        table = table.number("share");
        let run = self.run;
        let requests = self.run.requests();
        let mut row = |name: &str, count: u64, share: Option<u64>| {
            let per_second = rate(self.per_second(count));
            table.row([name.to_owned(), grouped(count), per_second, percent(share)]);
        };
        let of_requests = |count: u64| per_mille(i128::from(count), i128::from(requests));
        let completed = self.completed();
        row("requests completed", completed, of_requests(completed));
        let named = [
            (Outcome::TooLong, "requests rejected as too long"),
            (Outcome::QueueFull, "requests rejected, queue full"),
            (Outcome::QueueTimeout, "requests that waited too long"),
            (Outcome::Timeout, "requests that took too long"),
            (Outcome::Aborted, "requests whose client left"),
        ];
        for (outcome, name) in named {
            let count = run.count(outcome);
            if count > 0 {
                row(name, count, of_requests(count));
            }
        }
        if self.has_slo() {
            row(&format!("goodput: {}", slo(self.slo)), run.good, of_requests(run.good));
        }
        row("input tokens", run.prompt_tokens, None);
        if run.cached_tokens > 0 {
            let share = per_mille(i128::from(run.cached_tokens), i128::from(run.prompt_tokens));
            row("of them in the prefix cache", run.cached_tokens, share);
        }
        row("output tokens", run.generated_tokens, None);
        if self.has_slo() {
            let all = i128::from(run.generated_tokens);
            let useful = self.run.good_generated_tokens;
            row("useful output tokens", useful, per_mille(i128::from(useful), all));
        }
        table
    }

    pub(super) fn latencies(&self) -> Table {
        let mut table = Table::default().text("latency, ms");
        for header in ["p50", "p95", "p99", "mean"] {
            table = table.number(header);
        }
        let run = self.run;
        let named: [(&str, &Histogram); 6] = [
            ("wait for the first step", &run.wait),
            ("TTFT, to the first token", &run.ttft),
            ("from there to the decode pool", &run.handover),
            ("TPOT, mean per token after it", &run.tpot),
            ("ITL, between two tokens", &run.itl),
            ("to the last token", &run.latency),
        ];
        let pools = matches!(self.fleet, Fleet::Pools(_));
        for (name, times) in named {
            if std::ptr::eq(times, &raw const run.handover) && !pools {
                continue;
            }
            let millis = |ps: Option<f64>| ps.map_or("-".to_owned(), |ps| decimals(ps / 1e9, 1));
            let quantile = |share: f64| millis(times.quantile_ps(share).map(|ps| ps as f64));
            let cells = [quantile(0.5), quantile(0.95), quantile(0.99), millis(times.mean_ps())];
            table.row([name.to_owned()].into_iter().chain(cells));
        }
        table
    }

    /// How busy replicas were: all of them, or those of each pool.
    pub(super) fn loads(&self) -> Vec<Table> {
        match self.fleet {
            Fleet::Copies(_) | Fleet::Scaled(_) => vec![self.load("while busy", self.run)],
            Fleet::Pools(Pools { prefill, decode, .. }) => {
                let named = [("prefill pool", prefill), ("decode pool", decode)];
                let table = |(name, pool): (&str, &Pool)| {
                    let busy = decimals(pool.run.busy().unwrap_or(0.0) * 100.0, 1);
                    self.load(&format!("{name}, busy {busy}% of the time"), &pool.run)
                };
                named.into_iter().map(table).collect()
            }
        }
    }

    fn load(&self, title: &str, run: &Report) -> Table {
        let mut table = Table::default().text(title);
        for header in ["mean", "p50", "p95", "most"] {
            table = table.number(header);
        }
        if let Some(batch) = Spread::of(&run.batch_ps) {
            let count = |index: usize| grouped(index as u64);
            table.row([
                "sequences in a step".to_owned(),
                decimals(batch.mean, 1),
                count(batch.p50),
                count(batch.p95),
                count(batch.most),
            ]);
        }
        if let Some(kv) = Spread::of(&run.kv_ps) {
            // Each index stands for what is above it, up to a hundredth more.
            let upto = |index: usize| format!("{}%", index + 1);
            let cells =
                [decimals(kv.mean + 0.5, 1) + "%", upto(kv.p50), upto(kv.p95), upto(kv.most)];
            table.row(["KV cache in use".to_owned()].into_iter().chain(cells));
        }
        let (mfu, mbu) = self.utilisation(run);
        for (name, share) in [("MFU, arithmetic", mfu), ("MBU, memory bandwidth", mbu)] {
            let share =
                share.map_or("unknown".to_owned(), |share| decimals(share * 100.0, 1) + "%");
            let none = || "-".to_owned();
            table.row([name.to_owned(), share, none(), none(), none()]);
        }
        table
    }

    pub(super) fn work_line(&self) -> String {
        let work = self.run.work;
        let computed = work.prefill_tokens + work.decode_tokens;
        let wasted = wasted_tokens(&work);
        let share = percent(per_mille(i128::from(wasted), i128::from(computed)));
        format!(
            "{} steps; {} preemptions; {} of {} computed tokens wasted ({share})",
            grouped(work.steps),
            grouped(work.preemptions),
            grouped(wasted),
            grouped(computed),
        )
    }

    pub(super) fn money(&self) -> Table {
        let mut table = Table::default().text("GPU time caused by").number("GPU seconds");
        table = table.number("share");
        let priced = self.gpu_hour.is_some();
        if priced {
            table = table.number("USD").number("USD per Mtok\nof its class");
        }
        let all = self.gpu_ps();
        let cells = |name: &str, gpu_ps: u64, tokens: Option<u64>| {
            let share = per_mille(i128::from(gpu_ps), i128::from(all));
            let seconds = decimals(gpu_ps as f64 / SECOND_PS as f64, 1);
            let mut cells = vec![name.to_owned(), seconds, percent(share)];
            if priced {
                let per_mtok = tokens.and_then(|tokens| self.cost_per(gpu_ps, tokens, 1e6));
                cells.push(money(self.cost(gpu_ps), 4));
                cells.push(money(per_mtok, 4));
            }
            cells
        };
        for part in self.shown_parts() {
            table.row(cells(part.name, part.gpu_ps, part.tokens));
        }
        table.total(cells("total", all, None));
        table
    }

    /// What a useful token costs, and of what that is made; `None` without a price.
    pub(super) fn money_line(&self) -> Option<String> {
        let hourly = self.hourly()?;
        let useful_per_hour =
            self.per_second(self.run.good_generated_tokens).map(|rate| rate * 3600.0);
        let gpus = match self.accelerators_text().as_str() {
            "1" => "1 GPU".to_owned(),
            some if self.fleet.replicas().is_some() => format!("{some} GPUs"),
            some => format!("{some} GPUs in the mean"),
        };
        Some(format!(
            "Per useful output Mtok {} USD: {} USD an hour for {gpus}, idle or not, by {} useful output tokens an hour. Per \
             1,000 completed requests {} USD.",
            money(self.cost_per_useful_mtok(), 4),
            money(Some(hourly), 4),
            useful_per_hour.map_or("-".to_owned(), |rate| decimals(rate, 0)),
            money(self.cost_per(self.gpu_ps(), self.completed(), 1e3), 4),
        ))
    }

    /// What it takes of electricity at most; `None` if the sheet does not state the accelerator's power.
    pub(super) fn energy_line(&self) -> Option<String> {
        let energy = self.energy()?;
        let per_token = |joules: Option<f64>| {
            joules
                .map_or("-".to_owned(), |joules| decimals(joules, if joules < 1.0 { 3 } else { 2 }))
        };
        Some(format!(
            "Energy at most {} kWh, if each GPU drew its {} W all the time: {} J for a token of input, {} J for one of output.",
            decimals(energy.joules / 3.6e6, 3),
            decimals(energy.watts, 0),
            per_token(energy.per_input),
            per_token(energy.per_output),
        ))
    }

    /// What the figures rest on.
    pub(super) fn certainty(&self) -> String {
        let (basis, _) = self.setup.certainty();
        let kernels: Vec<String> = self
            .setup
            .fractions()
            .into_iter()
            .map(|(name, fractions)| format!("{name} {}%", decimals(fractions.error * 100.0, 0)))
            .collect();
        let caching = if self.engine.enable_prefix_caching { "" } else { "prefix caching, " };
        format!(
            "A prediction, not a measurement. Step times are a roofline of single kernels, {}; median error of the kernels' fit: {}. Not modelled: \
             {caching}speculative decoding, tokenising, the network. Percentiles are right to 0.8%. Time of a step that \
             computes both input and output is shared by the Shapley value.",
            basis_text(basis),
            kernels.join(", "),
        )
    }

    /// What is predicted, and between which values nine tenths of measured runs of this kind lay; `None` if nothing was
    /// served.
    pub(super) fn spread(&self) -> Option<Table> {
        let run = self.run;
        let ms = |times: &Histogram| times.mean_ps().map(|ps| ps / 1e9);
        let per_second = |metric| match metric {
            // Below what can be served, as much is served as comes.
            Metric::Throughput if run.falls_behind() => self.per_second(run.generated_tokens),
            Metric::Rate => self.search.and_then(|search| search.found.rate),
            _ => None,
        };
        let quantities = [
            ("TTFT mean, ms", Metric::Ttft, ms(&run.ttft)),
            ("TPOT mean, ms", Metric::Tpot, ms(&run.tpot)),
            ("last token mean, ms", Metric::Latency, ms(&run.latency)),
            ("output tokens/s", Metric::Throughput, per_second(Metric::Throughput)),
            ("highest rate, 1/s", Metric::Rate, per_second(Metric::Rate)),
        ];
        let mut table = Table::default().text("90% interval").number("predicted");
        table = table.number("from").number("to").prose("by the");
        let mut any = false;
        for (name, metric, value) in quantities {
            let Some((value, band)) = value.zip(self.interval(metric)) else { continue };
            let places = if value < 10.0 { 2 } else { 1 };
            let cells = [value, value * band.low, value * band.high];
            let cells = cells.map(|value| decimals(value, places));
            table.row([name.to_owned()].into_iter().chain(cells).chain([band.why]));
            any = true;
            // All that is paid is paid for what is served at most.
            let capacity = matches!(metric, Metric::Throughput | Metric::Rate);
            let cost = self.cost_per_useful_mtok().filter(|_| capacity);
            let ends = |factor: f64| {
                money(cost.and_then(|cost| EstimatedUsd::new(cost.usd() / factor)), 4)
            };
            if cost.is_some() {
                let cells = ["USD per Mtok".to_owned(), money(cost, 4)];
                let rest = [ends(band.high), ends(band.low), "same".to_owned()];
                table.row(cells.into_iter().chain(rest));
            }
        }
        any.then_some(table)
    }

    /// The sources of each sheet's figures.
    pub(super) fn sources(&self) -> impl Iterator<Item = String> {
        self.rows().map(|row| printable(&format!("{}: {}", row.name(), sources_of(row).join("; "))))
    }
}

/// The sources of a row's figures, each once.
fn sources_of(row: &Row) -> Vec<&str> {
    let mut sources: Vec<&str> = Vec::new();
    for (_, _, source) in row.figures() {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

fn basis_text(basis: Basis) -> &'static str {
    match basis {
        Basis::Measured => "all measured with this engine on this accelerator",
        Basis::SameChip => {
            "at least one of them measured on the same chip with another board or memory"
        }
        Basis::OtherEngine => {
            "at least one of them measured with another engine on this accelerator"
        }
        Basis::Generic => {
            "at least one of them not measured on this accelerator but taken from the middle of all that were"
        }
    }
}

/// The limits of an SLO.
pub(super) fn slo(slo: &Slo) -> String {
    limits(slo).collect::<Vec<_>>().join(", ")
}

/// Each limit of an SLO.
pub(super) fn limits(slo: &Slo) -> impl Iterator<Item = String> {
    let limits = [("TTFT", slo.ttft_ps), ("TPOT", slo.tpot_ps), ("whole", slo.latency_ps)];
    limits.into_iter().filter_map(|(name, limit)| {
        let ms = limit? as f64 / 1e9;
        let places = if ms < 10.0 { 1 } else { 0 };
        Some(format!("{name} <= {} ms", decimals(ms, places)))
    })
}

/// So many per second, with as many decimals as small rates need; `-` for none.
pub(super) fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| decimals(rate, 2))
}

/// A number that is not negative, with grouped digits and so many decimals.
pub(super) fn decimals(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let whole = group_digits(whole);
    if part.is_empty() { whole } else { format!("{whole}.{part}") }
}

/// Modelled dollars; what would round to nothing is shown as less than the last digit.
pub(super) fn dollars(amount: EstimatedUsd, places: usize) -> String {
    let text = decimals(amount.usd(), places);
    if amount.usd() > 0.0 && !text.contains(|c: char| c.is_ascii_digit() && c != '0') {
        return format!("<{:.places$}", 0.1_f64.powi(i32::try_from(places).unwrap_or(0)));
    }
    text
}

pub(super) fn money(amount: Option<EstimatedUsd>, places: usize) -> String {
    amount.map_or("-".to_owned(), |amount| dollars(amount, places))
}

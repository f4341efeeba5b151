//! What the field teaches, worked out for a setup and its run.

use quantity::{EstimatedUsd, grouped};
use servesim::SECOND_PS;

use crate::table::{Style, Table};

use super::text::{decimals, money};
use super::{Beside, Part, Simulation, Spread};

/// Batches that are shown side by side.
const BATCHES: [u32; 5] = [1, 8, 50, 128, 256];

impl Simulation<'_> {
    /// Why tokens cost what they cost here: to be put below [`Self::text`].
    #[must_use]
    pub fn lessons(&self, style: Style) -> String {
        let Some(mean) = Mean::of(self) else { return String::new() };
        let mut out = String::new();
        let mut lesson = |title: &str, parts: &[String]| {
            out += &format!("\n{}\n{}", style.heading(title), parts.concat());
        };
        let words = |text: String| style.wrapped_words(&text);
        if let Some(search) = self.search {
            lesson("How the rate was found", &[search.table(style)]);
        }
        lesson("Decode waits for memory", &[words(self.memory_bound(&mean))]);
        lesson(
            "A batch shares the weights",
            &[self.batches(&mean, style), words(self.shared(&mean))],
        );
        lesson("Output is dearer than input", &[words(self.dearer(&mean))]);
        lesson("Context is paid twice", &[words(self.twice(&mean))]);
        lesson("An idle GPU bills like a busy one", &[words(self.unused(&mean))]);
        lesson("From a benchmark's peak to what is paid", &[self.bridge(&mean).render(style)]);
        out
    }

    fn memory_bound(&self, mean: &Mean) -> String {
        let setup = self.setup;
        let cost = setup.step(setup.decodes(1, mean.context));
        let Ok((mfu, mbu)) = setup.utilisation(cost) else {
            return "The data sheets lack a peak that this needs.".to_owned();
        };
        let ms = cost.seconds() * 1e3;
        format!(
            "A step that decodes one sequence of {} tokens takes {} ms. It reads {} GB, for which the memory's peak would need \
             {} ms, and computes {} GFLOP, for which the peak arithmetic would need {} ms. So the size of the weights sets the \
             price, and most of the arithmetic is idle until a batch shares what is read.",
            grouped(u64::from(mean.context)),
            decimals(ms, 2),
            decimals(cost.bytes / 1e9, 1),
            decimals(ms * mbu, 2),
            decimals(cost.flops / 1e9, 1),
            decimals(ms * mfu, 3),
        )
    }

    /// Batches that the engine would run and the cache has room for.
    fn possible(&self, mean: &Mean) -> u32 {
        let room = self.memory.kv_tokens / u64::from(mean.context.max(1));
        u32::try_from(room).unwrap_or(u32::MAX).min(self.engine.max_num_seqs)
    }

    fn batches(&self, mean: &Mean, style: Style) -> String {
        let mut table = Table::default().number("sequences").number("ms per step");
        table = table.number("output tokens\nper second").number("GPU seconds\nper output Mtok");
        if self.gpu_hour.is_some() {
            table = table.number("USD per\noutput Mtok");
        }
        let most = self.possible(mean);
        let mut sizes: Vec<u32> = BATCHES.into_iter().filter(|size| *size < most).collect();
        sizes.push(most);
        for size in sizes {
            let seconds = self.decode_seconds(size, mean);
            let per_second = f64::from(size) / seconds;
            let gpu_seconds = 1e6 / per_second * f64::from(self.accelerators_of_replica());
            let mut cells = vec![
                grouped(u64::from(size)),
                decimals(seconds * 1e3, 2),
                decimals(per_second, 0),
                decimals(gpu_seconds, 0),
            ];
            if self.gpu_hour.is_some() {
                cells.push(money(self.usd_of_seconds(gpu_seconds), 4));
            }
            table.row(cells);
        }
        table.render(style)
    }

    fn shared(&self, mean: &Mean) -> String {
        let most = self.possible(mean);
        let some = most.min(50);
        let times = self.decode_seconds(some, mean) / self.decode_seconds(1, mean);
        format!(
            "Decode alone, at contexts of {} tokens; {} sequences are the most that the KV cache and the engine allow. A step of \
             {some} takes {} times as long as one of 1, for {some} times the tokens.",
            grouped(u64::from(mean.context)),
            grouped(u64::from(most)),
            decimals(times, 2),
        )
    }

    fn dearer(&self, mean: &Mean) -> String {
        let micros = |part: &Part| {
            let tokens = part.tokens.filter(|tokens| *tokens > 0)?;
            Some(part.gpu_ps as f64 / 1e6 / tokens as f64)
        };
        let [input, cached, output, _] = self.parts();
        let input = Part {
            gpu_ps: input.gpu_ps + cached.gpu_ps,
            tokens: Some(self.run.prompt_tokens),
            ..input
        };
        let (Some(input), Some(output)) = (micros(&input), micros(&output)) else {
            return "No request completed.".to_owned();
        };
        format!(
            "Here a token of input takes {} microseconds of a GPU and one of output {}, {} times as much: a prompt's tokens are \
             computed together in few steps, a reply's one step each, beside {} sequences in the mean.",
            decimals(input, 1),
            decimals(output, 1),
            decimals(output / input, 1),
            decimals(mean.batch, 1),
        )
    }

    fn twice(&self, mean: &Mean) -> String {
        let setup = self.setup;
        let prefill = setup.step(setup.prefill(mean.prompt, 0));
        let decode = setup.step(setup.decodes(mean.sequences(), mean.context));
        format!(
            "A prompt of {} tokens takes {} ms in prefill, {} of it attention, and is read again in each of {} steps: at {} \
             sequences, keys and values of {} tokens each are {} of the {} ms of a decode step.",
            grouped(u64::from(mean.prompt)),
            decimals(prefill.seconds() * 1e3, 1),
            share(prefill.prefill_attention_s / prefill.seconds()),
            grouped(u64::from(mean.output)),
            grouped(u64::from(mean.sequences())),
            grouped(u64::from(mean.context)),
            share(decode.decode_attention_s / decode.seconds()),
            decimals(decode.seconds() * 1e3, 2),
        )
    }

    fn unused(&self, mean: &Mean) -> String {
        let all = self.gpu_ps() as f64;
        let [.., idle] = self.parts();
        let idle = idle.gpu_ps as f64;
        format!(
            "{} of the GPU time was idle, and an hour of it is paid for as one in which all are busy: that makes every token {} \
             times as dear as if GPUs stopped whenever nobody asks. While they were busy, a step had {} sequences in the mean, \
             where {} have room.",
            share(idle / all),
            decimals(all / (all - idle), 2),
            decimals(mean.batch, 1),
            grouped(u64::from(self.possible(mean))),
        )
    }

    /// GPU seconds per million output tokens, growing from what a benchmark shows to what a real day takes: what is counted
    /// with each step, and what it comes to. `None`: nothing was computed or useful.
    fn steps(&self, mean: &Mean) -> Vec<(String, Option<f64>)> {
        let most = self.possible(mean);
        let gpus = f64::from(self.accelerators_of_replica());
        let peak = self.decode_seconds(most, mean) / f64::from(most) * gpus * 1e6;
        let [input, cached, output, _] = self.parts();
        let per_mtok = |gpu_ps: u64, tokens: u64| {
            (tokens > 0).then(|| gpu_ps as f64 / SECOND_PS as f64 / tokens as f64 * 1e6)
        };
        let tokens = self.run.generated_tokens;
        let prompts = output.gpu_ps + input.gpu_ps + cached.gpu_ps;
        let peak_name = format!("decode alone, {} sequences a step", grouped(u64::from(most)));
        let mut steps = vec![
            (peak_name, Some(peak)),
            ("decode as it ran, at this load".to_owned(), per_mtok(output.gpu_ps, tokens)),
            ("and the prompts".to_owned(), per_mtok(prompts, tokens)),
            ("and idle time".to_owned(), per_mtok(self.gpu_ps(), tokens)),
        ];
        let useful = per_mtok(self.gpu_ps(), self.run.good_generated_tokens);
        if self.has_slo() {
            steps.push(("and only replies within the SLO".to_owned(), useful));
        }
        let Beside { failures, headroom, spare, reliability } = self.beside;
        let percent = |share: f64| {
            let text = decimals(share * 100.0, 2);
            let text = text.trim_end_matches('0').trim_end_matches('.');
            format!("{text}%")
        };
        let replicas = self.replicas();
        let spares = match spare {
            1 => "and 1 replica to spare".to_owned(),
            some => format!("and {} replicas to spare", grouped(u64::from(some))),
        };
        let beside = [
            (format!("and {} of replies that fail", percent(failures)), 1.0 / (1.0 - failures)),
            (format!("and {} headroom for bursts", percent(headroom)), 1.0 + headroom),
            (spares, (replicas + f64::from(spare)) / replicas),
            (format!("and {} for reliability", percent(reliability)), 1.0 + reliability),
        ];
        let mut seconds = useful;
        for (name, factor) in beside.into_iter().filter(|(_, factor)| *factor > 1.0) {
            seconds = seconds.map(|seconds| seconds * factor);
            steps.push((name, seconds));
        }
        steps
    }

    /// The way from a benchmark's peak to what is paid, whose factors multiply to the whole.
    pub(super) fn bridge(&self, mean: &Mean) -> Table {
        let mut table = Table::default().text("counting").number("factor");
        table = table.number("GPU seconds\nper output Mtok");
        if self.gpu_hour.is_some() {
            table = table.number("USD per\noutput Mtok");
        }
        let steps = self.steps(mean);
        let cells = |name: String, factor: Option<f64>, seconds: Option<f64>| {
            let none = || "-".to_owned();
            let factor = factor.filter(|factor| factor.is_finite());
            let mut cells = vec![
                name,
                factor.map_or_else(none, |factor| decimals(factor, 3)),
                seconds.map_or_else(none, |seconds| decimals(seconds, 0)),
            ];
            if self.gpu_hour.is_some() {
                cells.push(money(seconds.and_then(|seconds| self.usd_of_seconds(seconds)), 4));
            }
            cells
        };
        let over = |after: Option<f64>, before: Option<f64>| Some(after? / before?);
        let mut before = None;
        for (name, seconds) in &steps {
            table.row(cells(name.clone(), over(*seconds, before), *seconds));
            before = *seconds;
        }
        let first = steps.first().and_then(|(_, seconds)| *seconds);
        table.total(cells("in all".to_owned(), over(before, first), before));
        table
    }

    fn decode_seconds(&self, sequences: u32, mean: &Mean) -> f64 {
        self.setup.step(self.setup.decodes(sequences, mean.context)).seconds()
    }

    fn usd_of_seconds(&self, gpu_seconds: f64) -> Option<EstimatedUsd> {
        EstimatedUsd::new(self.gpu_hour?.usd() * gpu_seconds / 3600.0)
    }
}

/// What requests and batches were like in the mean.
pub(super) struct Mean {
    prompt: u32,
    output: u32,
    /// Tokens that a decode attends to half-way through its reply.
    context: u32,
    batch: f64,
}

impl Mean {
    /// `None` if no request completed.
    pub(super) fn of(run: &Simulation<'_>) -> Option<Self> {
        let of_each = |tokens: u64| u32::try_from(tokens.checked_div(run.completed())?).ok();
        let (prompt, output) =
            (of_each(run.run.prompt_tokens)?, of_each(run.run.generated_tokens)?);
        let batch = Spread::of(&run.run.batch_ps)?.mean;
        Some(Self { prompt, output, context: prompt.saturating_add(output / 2).max(1), batch })
    }

    /// Sequences of a step, at least one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as many as an engine runs"
    )]
    fn sequences(&self) -> u32 {
        self.batch.round().max(1.0) as u32
    }
}

fn share(part: f64) -> String {
    decimals(part * 100.0, 1) + "%"
}

//! A CSV of measured points.

use std::collections::HashMap;

use crate::load::{Load, after, numbers};
use crate::point::{Lengths, Measured, Point, Reason, Settings, Time};

/// A file that is no sheet of measured points.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line 1: no column `{column}`; expected a header with the columns {}, found {found}", COLUMNS.join(", "))]
pub struct ColumnError {
    file: String,
    column: &'static str,
    found: String,
}

/// Columns without which nothing can be predicted.
const COLUMNS: [&str; 6] = ["model", "gpu", "engine", "isl", "osl", "concurrency_or_rate"];

/// Measured points, one a row of a CSV.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The points, in the order of the file. What a row lacks is told in its [`Point::refused`].
    pub points: Vec<Point>,
}

impl Sheet {
    /// Reads a CSV with a header. Columns may stand in any order; those that are not known are passed over, and of the known
    /// ones only six must be there. A row that makes no sense becomes a point that is refused.
    ///
    /// # Errors
    /// [`ColumnError`] if the header lacks one of the six.
    pub fn read(file: &str, text: &str) -> Result<Self, ColumnError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = &text.replace("\r\n", "\n").replace('\r', "\n");
        // Where a comma is the decimal point, tables are written with semicolons.
        let first = text.lines().next().unwrap_or_default();
        let most =
            [',', ';', '\t'].into_iter().rev().max_by_key(|mark| first.matches(*mark).count());
        let between = most.unwrap_or(',');
        let mut records = Records { rest: text, line: 1, width: None, between };
        let head = records.next().map(|record| record.cells).unwrap_or_default();
        let head: Vec<String> =
            head.into_iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        records.width = Some(head.len());
        for column in COLUMNS {
            if !head.iter().any(|name| name == column) {
                let found =
                    if text.trim().is_empty() { "nothing".to_owned() } else { shown(&head) };
                return Err(ColumnError { file: file.to_owned(), column, found });
            }
        }
        let points = records.filter(|record| !record.is_blank()).map(|record| {
            let surplus = record.cells.iter().skip(head.len());
            let many = surplus.into_iter().any(|cell| !cell.trim().is_empty());
            let mut row: HashMap<&str, String> = HashMap::new();
            for (name, cell) in head.iter().zip(&record.cells) {
                row.entry(name).or_insert_with(|| cell.trim().to_owned());
            }
            let mut point = point(&row);
            point.line = record.line;
            if record.open {
                point.refused = Some(Reason::new("a quote is opened and not closed"));
            } else if many {
                let words = format!("more cells than the header's {}", head.len());
                point.refused = Some(Reason::new(words));
            }
            point
        });
        Ok(Self { points: points.collect() })
    }
}

/// What was found, cut short.
fn shown(head: &[String]) -> String {
    let all = head.join(", ");
    let short: String = all.chars().take(120).filter(|letter| !letter.is_control()).collect();
    format!("`{short}`")
}

/// Records of a CSV. Quotes about a cell may enclose commas, line ends and doubled quotes; within a cell they are letters.
struct Records<'a> {
    rest: &'a str,
    line: usize,
    /// Cells of a record, once the header told them.
    width: Option<usize>,
    /// What stands between cells.
    between: char,
}

/// A row with its first line.
struct Record {
    line: usize,
    cells: Vec<String>,
    /// Whether a quote was opened and not closed.
    open: bool,
}

impl Record {
    /// A line without anything; one with commas is a row that says nothing.
    fn is_blank(&self) -> bool {
        matches!(self.cells.as_slice(), [one] if one.trim().is_empty())
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (mut cells, end, closed) = cells(self.rest, self.between, true);
        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
        let several = lines(self.rest[..end].trim_end_matches('\n')) > 0;
        let misfit = several && self.width.is_some_and(|width| cells.len() != width);
        let (mut end, open) = (end, !closed || misfit);
        if open {
            // Rows below must not vanish in a quote that somebody forgot: the row ends where its line does.
            (cells, end, _) = self::cells(self.rest, self.between, false);
        }
        let record = Record { line: self.line, cells, open };
        self.line += lines(&self.rest[..end]);
        self.rest = &self.rest[end..];
        Some(record)
    }
}

/// The cells of a text's first record, where it ends, and whether every quote was closed. Without quotes, a record is a line.
fn cells(text: &str, between: char, quotes: bool) -> (Vec<String>, usize, bool) {
    let (mut cells, mut cell) = (Vec::new(), String::new());
    // Whether the cell began with a quote, and whether that is still open.
    let (mut quoted, mut open) = (false, false);
    let mut letters = text.char_indices().peekable();
    let mut end = text.len();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if open && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                cell.push('"');
            }
            '"' if open => open = false,
            '"' if quotes && !quoted && cell.trim().is_empty() => {
                (quoted, open) = (true, true);
                cell.clear();
            }
            mark if mark == between && !open => {
                cells.push(std::mem::take(&mut cell));
                quoted = false;
            }
            '\n' if !open => {
                end = at + 1;
                break;
            }
            '\n' => cell.push(' '),
            other => cell.push(other),
        }
    }
    cells.push(cell);
    (cells, end, !open)
}

fn point(row: &HashMap<&str, String>) -> Point {
    let text = |key: &str| row.get(key).cloned().unwrap_or_default();
    let notes = text("notes");
    let mut point = Point {
        source: text("source"),
        model: text("model").trim_start_matches("- ").to_owned(),
        quantization: text("quantization"),
        accelerator: text("gpu"),
        engine: text("engine"),
        engine_version: text("engine_version"),
        date: text("commit_or_date"),
        asked: text("concurrency_or_rate"),
        ..Point::default()
    };
    if let Err(reason) = fill(&mut point, &text, &notes) {
        point.refused = Some(reason);
    }
    point
}

fn fill(point: &mut Point, text: &impl Fn(&str) -> String, notes: &str) -> Result<(), Reason> {
    (point.measured, point.passed_over) = measured(text, notes);
    if notes.starts_with("DISAGG")
        || notes.contains("prefill_workers=")
        || text("engine").ends_with("-PD")
    {
        return Err(Reason::new(
            "prefill and decode run on workers of their own: of such runs nothing was validated (`simulate --pools` has them)",
        ));
    }
    if notes.contains("--speculative") || notes.contains("MTP num_speculative") {
        return Err(Reason::new("speculative decoding: how much was accepted is not stated"));
    }
    point.accelerators = count("n_gpus", &text("n_gpus"))?;
    point.tensor = count("tp", &text("tp"))?;
    point.pipeline = count("pp", &text("pp"))?;
    point.data = count("dp", &text("dp"))?;
    let spread = notes.contains("--enable-expert-parallel");
    point.expert = match text("ep").as_str() {
        "on" => Some(0),
        "0" => Some(1),
        "" if spread => Some(0),
        other => count("ep", other)?,
    };
    let silicon = point.source.contains("silicon") || point.source.contains("InferenceX");
    // Rows of that sample that bear a date come from InferenceX.
    let inferencex = silicon && point.date.starts_with("20");
    let mean = if inferencex { 0.9 } else { 1.0 };
    point.isl = Some(length("isl", &text("isl"))? * mean);
    point.osl = Some(length("osl", &text("osl"))? * mean);
    let about = |key: &str| {
        let value = text(key);
        value.contains(['~', '.', '+'])
    };
    let chats = notes.contains("sharegpt") || text("concurrency_or_rate").contains("sharegpt");
    point.lengths = match () {
        () if inferencex => Lengths::Even,
        () if chats || (about("isl") || about("osl")) && !notes.contains("workload=") => {
            longest(text)
        }
        () => Lengths::Fixed,
    };
    point.settings = settings(notes);
    let load = Load::read(&text("concurrency_or_rate"), notes)?;
    if let (Load::Open { stages, .. }, Some(_)) = (&load, point.settings.slo) {
        point.measured.rate = stages.first().map(|stage| stage.per_second);
    }
    point.load = Some(load);
    Ok(())
}

/// The longest of MLPerf's prompts and replies; of other sets nothing is known.
///
/// # Source
/// OpenOrca was filtered to at most 1,024 tokens of prompt and of reply (mlcommons/inference, language/llama2-70b, README:
/// `--seqlen_limit=1024`). For Llama 3.1 405B engines are built for prompts of at most 20,000 tokens and 22,000 in all, of a
/// mean of 9,428. Summaries by Llama 3.1 8B are cut off: in all logs their mean is 128 or 129 tokens.
fn longest(text: &impl Fn(&str) -> String) -> Lengths {
    let of = |prompt, reply| Lengths::Varied { longest_prompt: prompt, longest_reply: Some(reply) };
    match text("isl").as_str() {
        isl if isl.starts_with("openorca") => of(Some(1_024), 1_024),
        isl if isl == "~9428" && text("source").contains("MLPerf") => of(Some(20_000), 2_000),
        isl if isl.starts_with("cnn-dm ~778") => of(None, 129),
        _ => Lengths::CHATS,
    }
}

/// How tables write that they do not know.
fn unknown(text: &str) -> bool {
    ["", "-", "?", "n/a", "na", "nan", "none", "null", "unknown"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// A number, whose thousands may be set apart by commas.
fn number(text: &str) -> Option<f64> {
    let mut groups = text.split('.').next()?.split(',');
    let first = groups.next()?;
    let grouped = groups.clone().next().is_some()
        && (1..=3).contains(&first.len())
        && groups.all(|group| group.len() == 3);
    let plain = if grouped { text.replace(',', "") } else { text.to_owned() };
    plain.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A count, if one is stated.
fn count(key: &str, text: &str) -> Result<Option<u32>, Reason> {
    if unknown(text) {
        return Ok(None);
    }
    let number = number(text).filter(|n| n.fract() == 0.0 && (1.0..=65_536.0).contains(n));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let whole = number.map(|number| number as u32);
    match whole {
        Some(count) => Ok(Some(count)),
        None => Err(Reason::new(format!(
            "`{key}`: expected a whole number from 1, found `{}`",
            cut(text)
        ))),
    }
}

/// A mean number of tokens: `547`, `~547`, `mean 547`, `466+100sys`, `openorca ~294`.
fn length(key: &str, text: &str) -> Result<f64, Reason> {
    const MOST: f64 = 4_000_000.0;
    if unknown(text) {
        return Err(Reason::new(format!("`{key}` is not stated")));
    }
    let signed = text.starts_with('-');
    // What follows the tilde is the number; other words before it, or without one, tell none.
    let told = text.rsplit('~').next().unwrap_or(text).trim_start_matches("mean").trim();
    let all = if let Some(number) = number(told) {
        vec![number]
    } else if told.starts_with(|letter: char| letter.is_ascii_digit()) {
        numbers(told)
    } else {
        Vec::new()
    };
    let tokens = match all.as_slice() {
        [one] => Some(*one),
        [first, second] if text.contains('+') => Some(first + second),
        _ => None,
    };
    let fine = tokens.filter(|tokens| !signed && (1.0..=MOST).contains(tokens));
    fine.ok_or_else(|| {
        let found = cut(text);
        Reason::new(format!(
            "`{key}`: expected a number of tokens from 1 to 4 million, found `{found}`"
        ))
    })
}

fn cut(text: &str) -> String {
    text.chars().take(40).filter(|letter| !letter.is_control()).collect()
}

/// What was measured, and cells that say nothing of it: no reason not to predict it.
fn measured(text: &impl Fn(&str) -> String, notes: &str) -> (Measured, Vec<String>) {
    let mut passed_over = Vec::new();
    let mut some = |key: &str| -> Option<f64> {
        let cell = text(key);
        if unknown(&cell) {
            return None;
        }
        let value = number(&cell).filter(|value| *value > 0.0);
        if value.is_none() {
            let found = cut(&cell);
            passed_over
                .push(format!("`{key}` not compared: expected a number above 0, found `{found}`"));
        }
        value
    };
    let seconds = |ms: Option<f64>, median: bool| Some(Time { seconds: ms? / 1e3, median });
    let median = notes.contains("median TPOT");
    // Where a source does not say, its times grow with the clients as means do, which the first burst is in.
    let unstated = notes.contains("median or mean not stated");
    let [mean_ms, median_ms] = ["ttft_ms_mean", "ttft_ms_p50"].map(&mut some);
    let ttft = seconds(mean_ms, false).or(seconds(median_ms, !unstated));
    let [tpot_ms, itl_ms] = ["tpot_ms", "itl_ms"].map(&mut some);
    let tpot = seconds(tpot_ms, median).or(seconds(itl_ms, false));
    let derived = notes.contains("DERIVED");
    let measured = Measured {
        output_tokens_per_s: some("throughput_output_tok_s"),
        derived,
        decode_only: notes.contains("decode only"),
        ttft,
        tpot,
        latency: seconds(some("e2e_ms"), false).filter(|_| !derived),
        rate: None,
    };
    (measured, passed_over)
}

/// What the notes tell of the engine's settings: `max_num_seqs=128`, or a command's `--max-num-seqs 128`.
fn settings(notes: &str) -> Settings {
    let whole = |name: &str| -> Option<u32> {
        let flag = name.replace('_', "-");
        let spellings =
            [format!("{name}="), format!("--{flag} "), format!("--{flag}="), format!("--{name} ")];
        let value = spellings.iter().find_map(|spelling| after(notes, spelling))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        (value.fract() == 0.0 && (1.0..=1e8).contains(&value)).then_some(value as u32)
    };
    let limit = |name: &str| after(notes, name).map(|ms| ms / 1e3).filter(|s| *s > 0.0);
    Settings {
        max_num_batched_tokens: whole("max_num_batched_tokens")
            .or_else(|| whole("max_num_tokens"))
            .or_else(|| whole("mbt")),
        max_num_seqs: whole("max_num_seqs").or_else(|| whole("mns")),
        max_model_len: whole("max_model_len").or_else(|| whole("max_seq_len")),
        kv_blocks: whole("kv_blocks").or_else(|| whole("'num_gpu_blocks': ")),
        // These workloads repeat 23 to 50 prompts for thousands of requests.
        cached: notes.contains("workload=") && notes.contains("prefix caching+chunked prefill on"),
        kv_fp8: notes.contains("--kv-cache-dtype fp8") || notes.contains("--kv-cache-dtype=fp8"),
        multi_step: notes.contains("num_sched_steps="),
        slo: limit("ttft<=").zip(limit("tpot<=")),
    }
}

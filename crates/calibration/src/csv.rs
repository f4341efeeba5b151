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
        let mut records = Records { rest: text, line: 1 };
        let head = records.next().map(|(_, cells)| cells).unwrap_or_default();
        let head: Vec<String> = head.into_iter().map(|name| name.trim().to_owned()).collect();
        for column in COLUMNS {
            if !head.iter().any(|name| name == column) {
                let found =
                    if text.trim().is_empty() { "nothing".to_owned() } else { shown(&head) };
                return Err(ColumnError { file: file.to_owned(), column, found });
            }
        }
        let full = records.filter(|(_, cells)| cells.iter().any(|cell| !cell.trim().is_empty()));
        let points = full.map(|(line, cells)| {
            let many = cells.len() > head.len();
            let row: HashMap<&str, String> = head
                .iter()
                .map(String::as_str)
                .zip(cells.into_iter().map(|c| c.trim().to_owned()))
                .collect();
            let mut point = point(&row);
            point.line = line;
            if many {
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

/// Records of a CSV with their first lines. Quotes may enclose commas, line ends and doubled quotes.
struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Iterator for Records<'_> {
    type Item = (usize, Vec<String>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let first = self.line;
        let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' if quoted && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                    letters.next();
                    cell.push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(std::mem::take(&mut cell)),
                '\n' => {
                    self.line += 1;
                    if !quoted {
                        end = at + 1;
                        break;
                    }
                    cell.push(' ');
                }
                '\r' => {}
                other => cell.push(other),
            }
        }
        cells.push(cell);
        self.rest = &self.rest[end..];
        Some((first, cells))
    }
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
    point.measured = measured(text, notes)?;
    if notes.starts_with("DISAGG")
        || notes.contains("prefill_workers=")
        || text("engine").ends_with("-PD")
    {
        return Err(Reason::new(
            "prefill and decode run on workers of their own, which is not simulated",
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
/// `--seqlen_limit=1024`). For
/// Llama 3.1 405B engines are built for prompts of at most 20,000 tokens and 22,000 in all, of a mean of 9,428.
fn longest(text: &impl Fn(&str) -> String) -> Lengths {
    let of = |prompt, reply| Lengths::Varied {
        longest_prompt: Some(prompt),
        longest_reply: Some(reply),
    };
    match text("isl").as_str() {
        isl if isl.starts_with("openorca") => of(1_024, 1_024),
        isl if isl == "~9428" && text("source").contains("MLPerf") => of(20_000, 2_000),
        _ => Lengths::CHATS,
    }
}

/// A count, if one is stated.
fn count(key: &str, text: &str) -> Result<Option<u32>, Reason> {
    if text.is_empty() {
        return Ok(None);
    }
    let number =
        text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && (1.0..=65_536.0).contains(n));
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

/// A mean number of tokens: `547`, `~547`, `466+100sys`, `openorca ~294`.
fn length(key: &str, text: &str) -> Result<f64, Reason> {
    const MOST: f64 = 4_000_000.0;
    if text.is_empty() {
        return Err(Reason::new(format!("`{key}` is not stated")));
    }
    let signed = text.starts_with('-');
    // What follows the tilde is the number; words before it, or without one, tell none.
    let told = text.rsplit('~').next().unwrap_or(text).trim();
    let all = if told.starts_with(|letter: char| letter.is_ascii_digit()) {
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
        Reason::new(format!("`{key}`: expected a number of tokens from 1, found `{}`", cut(text)))
    })
}

fn cut(text: &str) -> String {
    text.chars().take(40).filter(|letter| !letter.is_control()).collect()
}

fn measured(text: &impl Fn(&str) -> String, notes: &str) -> Result<Measured, Reason> {
    let some = |key: &str| -> Result<Option<f64>, Reason> {
        let cell = text(key);
        if cell.is_empty() {
            return Ok(None);
        }
        let value = cell.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
        let wrong =
            || Reason::new(format!("`{key}`: expected a number above 0, found `{}`", cut(&cell)));
        value.map(Some).ok_or_else(wrong)
    };
    let seconds = |ms: Option<f64>, median: bool| Some(Time { seconds: ms? / 1e3, median });
    let median = notes.contains("median TPOT");
    // Where a source does not say, its times grow with the clients as means do, which the first burst is in.
    let unstated = notes.contains("median or mean not stated");
    let ttft = seconds(some("ttft_ms_mean")?, false).or(seconds(some("ttft_ms_p50")?, !unstated));
    let tpot = seconds(some("tpot_ms")?, median).or(seconds(some("itl_ms")?, false));
    let derived = notes.contains("DERIVED");
    Ok(Measured {
        output_tokens_per_s: some("throughput_output_tok_s")?,
        derived,
        decode_only: notes.contains("decode only"),
        ttft,
        tpot,
        latency: if derived { None } else { seconds(some("e2e_ms")?, false) },
        rate: None,
    })
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
        slo: limit("ttft<=").zip(limit("tpot<=")),
    }
}

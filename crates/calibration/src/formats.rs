//! What benchmark programs write.
//!
//! Layouts as of vLLM 0.11 (`vllm bench serve --save-result`), SGLang 0.5 (`bench_serving --output-file`), GuideLLM 0.5,
//! AIPerf 0.3, llama.cpp b7000 (`llama-bench`, `llama-batched-bench`, JSON and tables).

use serde_json::Value;

use crate::csv::Sheet;
use crate::load::{Load, Stage};
use crate::point::{Lengths, Measured, Point, Time};

/// A file of measurements that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{at}: expected {expected}, found {found}")]
pub struct FormatError {
    file: String,
    /// A line or a key, with what sets it apart before it.
    at: String,
    expected: String,
    found: String,
}

/// Reads measured points in any of the known layouts, which is told by what the file begins with. Benchmarks do not know
/// everything: the accelerator, say, must be added to most points.
///
/// # Errors
/// [`FormatError`] names the file and the line or key, what was found and what was expected.
pub fn read(file: &str, text: &str) -> Result<Vec<Point>, FormatError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.trim_start();
    let error = |at: String, expected: &str, found: String| FormatError {
        file: file.to_owned(),
        at,
        expected: expected.to_owned(),
        found,
    };
    if first.starts_with('{') || first.starts_with('[') {
        return json(file, text);
    }
    if text.lines().any(|line| line.trim_start().starts_with('|')) {
        return tables(file, text);
    }
    let sheet = Sheet::read(file, text).map_err(|missing| {
        let expected = "JSON of a benchmark, a table of llama.cpp's, or a CSV of points";
        error(String::new(), expected, missing.to_string())
    })?;
    Ok(sheet.points)
}

/// A JSON object with where it is, for errors.
struct Object<'a> {
    file: &'a str,
    at: String,
    value: &'a Value,
}

impl<'a> Object<'a> {
    fn new(file: &'a str, at: String, value: &'a Value) -> Self {
        Self { file, at, value }
    }

    fn error(&self, key: &str, expected: &str, found: Option<&Value>) -> FormatError {
        let found = found.map_or_else(
            || "nothing".to_owned(),
            |value| {
                let text: String = value.to_string().chars().take(40).collect();
                format!("`{text}`")
            },
        );
        let at = format!("{}, `{key}`", self.at);
        FormatError { file: self.file.to_owned(), at, expected: expected.to_owned(), found }
    }

    /// What lies at a path of keys with dots between.
    fn get(&self, path: &str) -> Option<&'a Value> {
        path.split('.')
            .try_fold(self.value, |value, key| value.get(key))
            .filter(|value| !value.is_null())
    }

    /// The first of some paths that is there.
    fn any(&self, paths: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        paths.iter().find_map(|path| Some((*path, self.get(path)?)))
    }

    /// A number of at least 0, if stated.
    fn number(&self, paths: &[&'static str]) -> Result<Option<f64>, FormatError> {
        let Some((path, value)) = self.any(paths) else { return Ok(None) };
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        match number.filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(path, "a number of at least 0", Some(value))),
        }
    }

    /// The same, above 0; 0 is as good as not measured.
    fn positive(&self, paths: &[&'static str]) -> Result<Option<f64>, FormatError> {
        Ok(self.number(paths)?.filter(|number| *number > 0.0))
    }

    fn needed(&self, paths: &[&'static str]) -> Result<f64, FormatError> {
        self.positive(paths)?.ok_or_else(|| {
            let (path, value) =
                self.any(paths).map_or((paths[0], None), |(path, value)| (path, Some(value)));
            self.error(path, "a number above 0", value)
        })
    }

    fn count(&self, paths: &[&'static str]) -> Result<Option<u32>, FormatError> {
        let Some(number) = self.positive(paths)? else { return Ok(None) };
        if number.fract() != 0.0 || number > 1e6 {
            let (path, value) = self.any(paths).unwrap_or((paths[0], &Value::Null));
            return Err(self.error(path, "a count up to 1,000,000", Some(value)));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        Ok(Some(number as u32))
    }

    fn text(&self, paths: &[&'static str]) -> String {
        self.any(paths).and_then(|(_, value)| value.as_str()).unwrap_or_default().to_owned()
    }
}

fn json(file: &str, text: &str) -> Result<Vec<Point>, FormatError> {
    // One document, or one a line.
    let mut documents = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(all)) => {
            documents.extend(
                all.into_iter()
                    .enumerate()
                    .map(|(index, one)| (0, format!(", entry {}", index + 1), one)),
            );
        }
        Ok(one) => documents.push((0, String::new(), one)),
        Err(whole) => {
            for (index, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
            {
                let one = serde_json::from_str(line).map_err(|_| FormatError {
                    file: file.to_owned(),
                    at: format!(", line {}", index + 1),
                    expected: "JSON, one document or one a line".to_owned(),
                    found: whole.to_string(),
                })?;
                documents.push((index + 1, format!(", line {}", index + 1), one));
            }
        }
    }
    let mut points = Vec::new();
    for (line, at, value) in &documents {
        let object = Object::new(file, at.clone(), value);
        let from = points.len();
        if object.get("benchmarks").is_some() {
            guidellm(&object, &mut points)?;
        } else if object.get("avg_ts").is_some() {
            points.push(llama_bench(&object)?);
        } else if object.get("pl").is_some() && object.get("t_pp").is_some() {
            llama_batched(&object, &mut points)?;
        } else if object.get("input_config").is_some()
            || object.get("time_to_first_token.avg").is_some()
        {
            points.push(aiperf(&object)?);
        } else if object.get("total_output_tokens").is_some()
            || object.get("output_throughput").is_some()
        {
            points.push(serving(&object)?);
        } else {
            let known =
                "a result of vLLM's or SGLang's serving benchmark, GuideLLM, AIPerf or llama.cpp's";
            let keys: Vec<&str> = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str())
                .take(6)
                .collect();
            return Err(FormatError {
                file: file.to_owned(),
                at: at.clone(),
                expected: known.to_owned(),
                found: format!(
                    "the keys `{}`",
                    keys.join("`, `").chars().take(120).collect::<String>()
                ),
            });
        }
        points[from..].iter_mut().for_each(|point| point.line = *line);
    }
    Ok(points)
}

const fn mean(seconds: f64) -> Time {
    Time { seconds, median: false }
}

fn closed(clients: u32, requests: Option<u32>) -> Option<Load> {
    Some(Load::Closed { clients, requests })
}

fn open(per_second: f64, requests: Option<u32>) -> Option<Load> {
    let stage = Stage { per_second: per_second.clamp(1e-6, 1e6), seconds: None };
    Some(Load::Open { stages: vec![stage], requests })
}

/// vLLM's `bench serve` and SGLang's `bench_serving`.
fn serving(object: &Object<'_>) -> Result<Point, FormatError> {
    let requests = object.count(&["completed", "num_prompts"])?;
    let each =
        f64::from(requests.ok_or_else(|| object.error("completed", "a count above 0", None))?);
    let rate = object.get("request_rate");
    let endless = rate.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("inf"));
    let endless =
        endless || rate.is_none() || rate.and_then(Value::as_f64).is_some_and(f64::is_infinite);
    let clients = object.count(&["max_concurrency"])?;
    let load = match (clients, endless) {
        (Some(clients), _) => closed(clients, requests),
        (None, true) => requests.map(|requests| Load::Together { requests }),
        (None, false) => open(object.needed(&["request_rate"])?, requests),
    };
    let ms = |value: Option<f64>| value.map(|ms| mean(ms / 1e3));
    let range = object.number(&["random_range_ratio"])?.is_some_and(|ratio| ratio < 1.0);
    let named = object.text(&["dataset_name"]);
    let varied = range || named.eq_ignore_ascii_case("sharegpt");
    Ok(Point {
        source: "serving benchmark".to_owned(),
        model: object.text(&["model_id", "model", "server_info.model_path"]),
        engine: engine(object.text(&["backend"])),
        date: object.text(&["date"]),
        tensor: object.count(&["server_info.tp_size", "tensor_parallel_size"])?,
        isl: Some(object.needed(&["total_input_tokens", "total_input"])? / each),
        osl: Some(object.needed(&["total_output_tokens", "total_output"])? / each),
        lengths: if varied { Lengths::CHATS } else { Lengths::Fixed },
        asked: asked(load.as_ref()),
        load,
        measured: Measured {
            output_tokens_per_s: object.positive(&["output_throughput"])?,
            ttft: ms(object.positive(&["mean_ttft_ms"])?),
            tpot: ms(object.positive(&["mean_tpot_ms", "mean_itl_ms"])?),
            latency: ms(object.positive(&["mean_e2el_ms", "mean_e2e_latency_ms"])?),
            ..Measured::default()
        },
        ..Point::default()
    })
}

/// A backend that is only a way to speak, such as `openai-chat`, tells no engine.
fn engine(backend: String) -> String {
    if backend.starts_with("openai") { String::new() } else { backend }
}

/// How a load is written in tables.
fn asked(load: Option<&Load>) -> String {
    match load {
        Some(Load::Closed { clients, .. }) => format!("conc={clients}"),
        Some(Load::Together { requests }) => format!("static bs={requests}"),
        Some(Load::Open { stages, .. }) => {
            stages.first().map_or_else(String::new, |stage| format!("rate={}", stage.per_second))
        }
        Some(Load::Queue { .. }) => "offline".to_owned(),
        None => String::new(),
    }
}

fn guidellm(object: &Object<'_>, points: &mut Vec<Point>) -> Result<(), FormatError> {
    let all = object.get("benchmarks").and_then(Value::as_array);
    let all = all.ok_or_else(|| object.error("benchmarks", "a list", object.get("benchmarks")))?;
    for (index, value) in all.iter().enumerate() {
        let one = Object::new(
            object.file,
            format!("{}, `benchmarks` entry {}", object.at, index + 1),
            value,
        );
        let kind = one.text(&[
            "config.strategy.type_",
            "args.strategy.type_",
            "scheduler.strategy.type_",
            "config.profile.type_",
        ]);
        let requests = one.count(&[
            "metrics.request_totals.successful",
            "run_stats.requests_made.successful",
            "request_totals.successful",
        ])?;
        let streams = one.count(&[
            "config.strategy.streams",
            "args.strategy.streams",
            "scheduler.strategy.streams",
            "config.strategy.max_concurrency",
        ])?;
        let rate = one.positive(&[
            "config.strategy.rate",
            "args.strategy.rate",
            "scheduler.strategy.rate",
        ])?;
        let load = match (kind.as_str(), streams, rate) {
            ("synchronous", _, _) => closed(1, requests),
            ("concurrent", Some(streams), _) => closed(streams, requests),
            ("constant" | "poisson" | "async", _, Some(rate)) => open(rate, requests),
            ("throughput", _, _) => Some(Load::Queue { requests }),
            _ => {
                let expected = "`synchronous`, `concurrent` with `streams`, `constant` or `poisson` with `rate`, or `throughput`";
                return Err(one.error(
                    "config.strategy.type_",
                    expected,
                    one.get("config.strategy.type_"),
                ));
            }
        };
        let ms = |value: Option<f64>| value.map(|ms| mean(ms / 1e3));
        points.push(Point {
            source: "GuideLLM".to_owned(),
            model: one.text(&[
                "config.backend.model",
                "worker.backend_model",
                "config.requests.model",
            ]),
            isl: Some(one.needed(&["metrics.prompt_token_count.successful.mean"])?),
            osl: Some(one.needed(&["metrics.output_token_count.successful.mean"])?),
            asked: asked(load.as_ref()),
            load,
            measured: Measured {
                output_tokens_per_s: one
                    .positive(&["metrics.output_tokens_per_second.successful.mean"])?,
                ttft: ms(one.positive(&["metrics.time_to_first_token_ms.successful.mean"])?),
                // Its time per output token counts the first one; between tokens is what we call TPOT.
                tpot: ms(one.positive(&["metrics.inter_token_latency_ms.successful.mean"])?),
                latency: one.positive(&["metrics.request_latency.successful.mean"])?.map(mean),
                ..Measured::default()
            },
            ..Point::default()
        });
    }
    Ok(())
}

fn aiperf(object: &Object<'_>) -> Result<Point, FormatError> {
    let requests = object.count(&["request_count.avg", "input_config.loadgen.request_count"])?;
    let clients = object.count(&["input_config.loadgen.concurrency"])?;
    let rate = object.positive(&["input_config.loadgen.request_rate"])?;
    let load = match (clients, rate) {
        (_, Some(rate)) => open(rate, requests),
        (Some(clients), None) => closed(clients, requests),
        (None, None) => {
            return Err(object.error(
                "input_config.loadgen.concurrency",
                "`concurrency` or `request_rate`",
                None,
            ));
        }
    };
    // Units are stated beside each figure; these are its defaults.
    let unit = |key: &'static str, expected: &str| match object.get(key) {
        Some(value) if value.as_str() != Some(expected) => {
            Err(object.error(key, &format!("`{expected}`"), Some(value)))
        }
        _ => Ok(()),
    };
    unit("time_to_first_token.unit", "ms")?;
    unit("inter_token_latency.unit", "ms")?;
    unit("request_latency.unit", "ms")?;
    let models = object.get("input_config.endpoint.model_names");
    let first = models.and_then(|models| models.get(0)).and_then(Value::as_str);
    let ms = |value: Option<f64>| value.map(|ms| mean(ms / 1e3));
    Ok(Point {
        source: "AIPerf".to_owned(),
        model: first.unwrap_or_default().to_owned(),
        isl: Some(object.needed(&["input_sequence_length.avg"])?),
        osl: Some(object.needed(&["output_sequence_length.avg"])?),
        asked: asked(load.as_ref()),
        load,
        measured: Measured {
            output_tokens_per_s: object.positive(&["output_token_throughput.avg"])?,
            ttft: ms(object.positive(&["time_to_first_token.avg"])?),
            tpot: ms(object.positive(&["inter_token_latency.avg"])?),
            latency: ms(object.positive(&["request_latency.avg"])?),
            ..Measured::default()
        },
        ..Point::default()
    })
}

/// A prompt alone: what it takes is the time to the one token after it.
fn prefill(model: String, prompts: f64, tokens: f64, seconds: f64) -> Point {
    let load = together(prompts);
    Point {
        engine: "llama.cpp".to_owned(),
        source: "llama.cpp".to_owned(),
        model,
        isl: Some(tokens),
        osl: Some(1.0),
        asked: asked(load.as_ref()),
        load,
        measured: Measured { output_tokens_per_s: Some(prompts / seconds), ..Measured::default() },
        ..Point::default()
    }
}

/// Replies alone, each so many tokens after so many others: what each token takes.
fn decode(model: String, sequences: f64, before: f64, tokens: f64, seconds: f64) -> Point {
    let load = together(sequences);
    Point {
        engine: "llama.cpp".to_owned(),
        source: "llama.cpp".to_owned(),
        model,
        isl: Some(before.max(1.0)),
        osl: Some(tokens),
        asked: asked(load.as_ref()),
        load,
        measured: Measured {
            tpot: Some(mean(seconds / tokens)),
            decode_only: true,
            ..Measured::default()
        },
        ..Point::default()
    }
}

fn together(requests: f64) -> Option<Load> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    Some(Load::Together { requests: requests.clamp(1.0, 1e6) as u32 })
}

fn llama_bench(object: &Object<'_>) -> Result<Point, FormatError> {
    let model = object.text(&["model_type", "model_filename"]);
    let rate = object.needed(&["avg_ts"])?;
    let depth = object.number(&["n_depth"])?.unwrap_or(0.0);
    let prompt = object.positive(&["n_prompt"])?;
    let reply = object.positive(&["n_gen"])?;
    match (prompt, reply) {
        (Some(tokens), None) if depth == 0.0 => Ok(prefill(model, 1.0, tokens, tokens / rate)),
        (None, Some(tokens)) => Ok(decode(model, 1.0, depth, tokens, tokens / rate)),
        _ => {
            let mut point = prefill(model, 1.0, 1.0, 1.0);
            point.refused = Some(crate::Reason::new(
                "a test of prompt and reply together, or of a prompt behind a context",
            ));
            Ok(point)
        }
    }
}

fn llama_batched(object: &Object<'_>, points: &mut Vec<Point>) -> Result<(), FormatError> {
    let sequences = object.needed(&["pl"])?;
    let (prompt, reply) =
        (object.number(&["pp"])?.unwrap_or(0.0), object.number(&["tg"])?.unwrap_or(0.0));
    let shared = object.number(&["is_pp_shared"])?.unwrap_or(0.0) != 0.0;
    if prompt > 0.0 {
        let prompts = if shared { 1.0 } else { sequences };
        points.push(prefill(String::new(), prompts, prompt, object.needed(&["t_pp"])?));
    }
    if reply > 0.0 {
        points.push(decode(String::new(), sequences, prompt, reply, object.needed(&["t_tg"])?));
    }
    Ok(())
}

/// Tables of llama.cpp's programs, which are Markdown: `| model | ... | test | t/s |` and `| PP | TG | B | ... |`.
fn tables(file: &str, text: &str) -> Result<Vec<Point>, FormatError> {
    let mut points = Vec::new();
    let mut head: Vec<String> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(inner) = line.strip_prefix('|') else { continue };
        let cells: Vec<String> =
            inner.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let named = |name: &str| cells.iter().any(|cell| cell.eq_ignore_ascii_case(name));
        if named("t/s") && named("test") || named("PP") && named("TG") {
            head = cells.iter().map(|cell| cell.to_ascii_lowercase()).collect();
            continue;
        }
        if cells.iter().all(|cell| cell.chars().all(|letter| "-: ".contains(letter))) {
            continue;
        }
        let error = |at: &str, expected: &str, found: &str| FormatError {
            file: file.to_owned(),
            at: format!(", line {}{at}", index + 1),
            expected: expected.to_owned(),
            found: format!("`{}`", found.chars().take(40).collect::<String>()),
        };
        if head.is_empty() {
            return Err(error("", "a header with `test` and `t/s`, or with `PP` and `TG`", line));
        }
        let cell = |name: &str| -> &str {
            let at = head.iter().position(|own| own == name);
            at.and_then(|at| cells.get(at)).map_or("", String::as_str)
        };
        let number = |name: &str| -> Result<f64, FormatError> {
            let first = cell(name).split_whitespace().next().unwrap_or("");
            let value = first.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
            value.ok_or_else(|| error(&format!(", `{name}`"), "a number above 0", cell(name)))
        };
        let from = points.len();
        if head.iter().any(|name| name == "test") {
            let rate = number("t/s")?;
            let test = cell("test");
            let (test, depth) = test.split_once('@').unwrap_or((test, ""));
            let depth =
                depth.trim().trim_start_matches('d').trim().parse::<f64>().unwrap_or(0.0).max(0.0);
            let test = test.trim();
            let tokens = |kind: &str| {
                let count =
                    test.strip_prefix(kind).and_then(|rest| rest.trim().parse::<f64>().ok());
                count.filter(|count| (1.0..=1e7).contains(count))
            };
            match (tokens("pp"), tokens("tg")) {
                (Some(count), _) if depth == 0.0 => {
                    points.push(prefill(cell("model").to_owned(), 1.0, count, count / rate))
                }
                (_, Some(count)) => {
                    points.push(decode(cell("model").to_owned(), 1.0, depth, count, count / rate))
                }
                _ if test.starts_with("pp") => {}
                _ => return Err(error(", `test`", "`pp512`, `tg128` and the like", test)),
            }
        } else {
            let (prompt, reply, sequences) = (number("pp")?, number("tg")?, number("b")?);
            points.push(prefill(String::new(), sequences, prompt, number("t_pp s")?));
            points.push(decode(String::new(), sequences, prompt, reply, number("t_tg s")?));
        }
        points[from..].iter_mut().for_each(|point| point.line = index + 1);
    }
    Ok(points)
}

//! What a benchmark asked of a server, as benchmarks write it.

use crate::point::Reason;

/// What a server was asked to serve.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// So many clients, each of which sends its next request when the last is answered.
    Closed {
        /// Clients.
        clients: u32,
        /// Requests in all; `None`: ten a client.
        requests: Option<u32>,
    },
    /// So many requests at once: a burst, or a static batch.
    Together {
        /// Requests.
        requests: u32,
    },
    /// More than the server can take at any time: the highest throughput.
    Queue {
        /// Requests in all, if told.
        requests: Option<u32>,
    },
    /// Requests that arrive by themselves.
    Open {
        /// Rates that follow each other.
        stages: Vec<Stage>,
        /// Requests in all, if told.
        requests: Option<u32>,
    },
}

/// A while in which requests arrive at one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// Requests a second, of the whole deployment.
    pub per_second: f64,
    /// How long, if told.
    pub seconds: Option<f64>,
}

/// The most requests or clients of a run; more is a slip of the pen.
const MOST: f64 = 1e6;

impl Load {
    /// Reads how benchmarks write a load: `conc=64`, `static bs=16`, `rate=inf n=1000`, `poisson target_qps=29.5`,
    /// `8 then 20 req/s (2x600s)` and the like; `notes` may tell the number of requests, and which of the stages is meant.
    ///
    /// # Errors
    /// A [`Reason`] that quotes what was found.
    pub fn read(text: &str, notes: &str) -> Result<Self, Reason> {
        let text = text.trim().to_ascii_lowercase();
        let unread = |what: &str| Reason::new(format!("the load `{text}` states {what}"));
        if text.is_empty() {
            return Err(Reason::new("no load is stated: neither clients nor a rate"));
        }
        let all: Vec<f64> = numbers(&text);
        let count = |value: Option<f64>| -> Result<u32, Reason> {
            let value = value.ok_or_else(|| unread("no number"))?;
            whole(value).ok_or_else(|| unread("no count from 1 to 1,000,000"))
        };
        let told = after(&text, "n=").or_else(|| before(&text, "reqs"));
        let told =
            told.or_else(|| after(notes, "num_requests=")).or_else(|| after(notes, "completed="));
        let told =
            told.or_else(|| after(notes, "; requests=")).or_else(|| after(notes, " requests="));
        let told = told.or_else(|| before(notes, "requests"));
        let requests = told.and_then(whole);
        let closed = ["conc", "max_conc", "max-conc"].iter().any(|word| text.starts_with(word));
        if closed || text.contains("users") || text.contains("clients") {
            let clients = count(all.first().copied())?;
            return Ok(Self::Closed { clients, requests });
        }
        let batch = ["bs=", "bs ", "batch=", "batch ", "batch_size=", "batch size="];
        if batch.iter().any(|word| text.contains(word)) {
            return Ok(Self::Together { requests: count(all.first().copied())? });
        }
        if text.contains("=inf") || text == "inf" {
            return match requests {
                Some(requests) => Ok(Self::Together { requests }),
                None => Ok(Self::Queue { requests: None }),
            };
        }
        if text.contains("offline") || text == "saturated" {
            return Ok(Self::Queue { requests });
        }
        let rated = ["rate", "qps", "rps", "req/s", "requests/s", "sessions/s"]
            .iter()
            .any(|word| text.contains(word));
        if !rated || all.is_empty() {
            let expected = "neither clients nor a rate; expected the like of conc=64, rate=8, static bs=16 or offline";
            return Err(unread(expected));
        }
        let span = after(&text, "(2x").or_else(|| after(&text, "("));
        let span = span.filter(|_| text.contains("s)"));
        let mut stages = vec![Stage { per_second: all[0], seconds: span }];
        if let Some(&second) = all.get(1).filter(|_| text.contains("->") || text.contains(" then "))
        {
            stages.push(Stage { per_second: second, seconds: span });
            match after(notes, "stage=") {
                Some(0.0) => drop(stages.pop()),
                Some(1.0) if !notes.contains("stage=-") => drop(stages.remove(0)),
                _ => {}
            }
        }
        let fine = |stage: &Stage| (1e-6..=MOST).contains(&stage.per_second);
        if !stages.iter().all(fine) {
            return Err(unread("no rate above 0"));
        }
        Ok(Self::Open { stages, requests })
    }
}

fn whole(value: f64) -> Option<u32> {
    let fine = value.fract() == 0.0 && (1.0..=MOST).contains(&value);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1,000,000")]
    fine.then_some(value as u32)
}

/// All plain numbers of a text, in order.
pub(crate) fn numbers(text: &str) -> Vec<f64> {
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
    let words = text.split(|letter: char| !is_part(letter));
    words
        .filter_map(|word| word.trim_matches('.').parse().ok())
        .filter(|n: &f64| n.is_finite())
        .collect()
}

/// The number that follows a word at once.
pub(crate) fn after(text: &str, word: &str) -> Option<f64> {
    let at = text.find(word)? + word.len();
    let rest = &text[at..];
    let end =
        rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').parse().ok()
}

/// The number that a word follows.
fn before(text: &str, word: &str) -> Option<f64> {
    let head = text[..text.find(word)?].trim_end();
    let start = head
        .rfind(|letter: char| !letter.is_ascii_digit())
        .map_or(0, |at| at + head[at..].chars().next().map_or(1, char::len_utf8));
    head[start..].parse().ok()
}

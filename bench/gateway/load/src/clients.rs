//! The clients, with every reply checked: a closed loop over a number of connections, or arrivals that
//! do not wait for replies.

use crate::http::Connection;
use crate::payload::{self, Shape};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

/// A reply that takes longer counts as an error.
const REPLY_LIMIT: Duration = Duration::from_secs(180);
/// More exchanges at once are errors: the target does not keep up with the arrivals.
const OPEN_LIMIT: usize = 10_000;
/// A connection gives up after this many errors in a row: the target is broken, not slow.
const ERRORS_IN_A_ROW: usize = 5;

/// What to send, where, and for how long.
pub(crate) struct Plan {
    pub(crate) address: String,
    pub(crate) shape: Shape,
    pub(crate) load: Load,
    /// No request starts later than this, but for the first of each connection of a closed loop; those
    /// under way are finished and counted.
    pub(crate) duration: Duration,
    pub(crate) request: Vec<u8>,
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// On so many connections, each time the last reply is complete.
    Closed { connections: usize },
    /// So many per second, at random like those of independent clients, however long replies take.
    Open { rate: f64 },
}

/// What all connections saw together.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Time from the moment at which the request was to be sent to the last byte read, sorted at the
    /// end. In a closed loop that moment is when it was sent.
    latencies: Vec<Duration>,
    errors: usize,
    first_error: String,
    elapsed: Duration,
}

/// One line of JSON; the times are whole nanoseconds.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"{{"replies":{},"elapsed_ns":{},"latency_ns_p50":{},"latency_ns_p99":{},"errors":{},"first_error":"{}"}}"#,
            self.latencies.len(),
            self.elapsed.as_nanos(),
            self.percentile(50).as_nanos(),
            self.percentile(99).as_nanos(),
            self.errors,
            // A foreign server's text: without the characters that JSON would have to escape.
            self.first_error.replace(|c: char| c.is_control() || c == '"' || c == '\\', " "),
        )
    }
}

impl Outcome {
    /// The nearest rank at or above `percent`; zero without replies.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn failed(&mut self, error: String) {
        self.errors += 1;
        if self.first_error.is_empty() {
            self.first_error = error;
        }
    }

    fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        if self.first_error.is_empty() {
            self.first_error = other.first_error;
        }
    }
}

/// Runs the plan to its end. Errors are counted in the outcome; only a panic in a client is an error
/// here.
pub(crate) async fn run(plan: Plan) -> Result<Outcome, String> {
    let plan = Rc::new(plan);
    let start = now();
    let run = async {
        match plan.load {
            Load::Closed { connections } => closed(&plan, connections, start).await,
            Load::Open { rate } => open(&plan, rate).await,
        }
    };
    let mut outcome = LocalSet::new().run_until(run).await?;
    outcome.elapsed = start.elapsed();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

async fn closed(plan: &Rc<Plan>, connections: usize, start: Instant) -> Result<Outcome, String> {
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn_local(client(Rc::clone(plan), start));
    }
    let mut outcome = Outcome::default();
    while let Some(client) = clients.join_next().await {
        outcome.merge(client.map_err(|error| error.to_string())?);
    }
    Ok(outcome)
}

async fn open(plan: &Rc<Plan>, rate: f64) -> Result<Outcome, String> {
    let (due, mut arrivals) = mpsc::unbounded_channel();
    let duration = plan.duration;
    // Linux lets a sleep last 50 us longer unless told otherwise; threads inherit it.
    std::fs::write("/proc/self/timerslack_ns", "1").ok();
    let pacer = std::thread::spawn(move || pace(rate, duration, &due));
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let idle = Rc::new(RefCell::new(Vec::new()));
    let mut under_way = JoinSet::new();
    while let Some(intended) = arrivals.recv().await {
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= OPEN_LIMIT {
            outcome.borrow_mut().failed(format!("{OPEN_LIMIT} exchanges are open"));
            continue;
        }
        let (plan, outcome, idle) = (Rc::clone(plan), Rc::clone(&outcome), Rc::clone(&idle));
        under_way.spawn_local(async move {
            let connection = idle.borrow_mut().pop();
            let mut body = Vec::new();
            let reply = exchange(&plan, connection, &mut body);
            let reply = tokio::time::timeout(REPLY_LIMIT, reply).await;
            let mut outcome = outcome.borrow_mut();
            match reply.unwrap_or_else(|_| Err(too_late())) {
                Ok(kept) => {
                    outcome.latencies.push(intended.elapsed());
                    idle.borrow_mut().extend(kept);
                }
                Err(error) => outcome.failed(error),
            }
        });
    }
    while under_way.join_next().await.is_some() {}
    pacer.join().map_err(|_| "the pacer panicked")?;
    Ok(outcome.take())
}

/// Tells of each arrival when it is due. A thread of its own: the runtime's timers tick in
/// milliseconds.
fn pace(rate: f64, duration: Duration, due: &mpsc::UnboundedSender<Instant>) {
    let start = now();
    let mut after = Duration::ZERO;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // 53 bits make a number in (0, 1]; the spacings of a Poisson process are exponential.
        let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        after += Duration::from_secs_f64(-uniform.ln() / rate);
        if after >= duration {
            return;
        }
        std::thread::sleep((start + after).saturating_duration_since(now()));
        if due.send(start + after).is_err() {
            return;
        }
    }
}

fn too_late() -> String {
    format!("no whole reply within {REPLY_LIMIT:?}")
}

async fn client(plan: Rc<Plan>, start: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    let mut body = Vec::new();
    let mut errors_in_a_row = 0;
    loop {
        let sent = now();
        let reply = exchange(&plan, connection.take(), &mut body);
        match tokio::time::timeout(REPLY_LIMIT, reply).await {
            Ok(Ok(kept)) => {
                outcome.latencies.push(sent.elapsed());
                connection = kept;
                errors_in_a_row = 0;
            }
            Ok(Err(error)) => {
                outcome.failed(error);
                errors_in_a_row += 1;
            }
            Err(_) => {
                outcome.failed(too_late());
                errors_in_a_row += 1;
            }
        }
        if start.elapsed() >= plan.duration || errors_in_a_row >= ERRORS_IN_A_ROW {
            return outcome;
        }
    }
}

/// One request and its checked reply; gives the connection back if it stays open.
async fn exchange(
    plan: &Plan,
    connection: Option<Connection>,
    body: &mut Vec<u8>,
) -> Result<Option<Connection>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = match connection {
        Some(connection) => connection,
        None => {
            Connection::new(TcpStream::connect(&plan.address).await.map_err(text)?).map_err(text)?
        }
    };
    connection.write(&plan.request).await.map_err(text)?;
    let head = connection.head().await.map_err(text)?.ok_or("closed instead of a reply")?;
    connection.body(&head, body).await.map_err(text)?;
    if !head.first_line().starts_with("HTTP/1.1 200 ") {
        let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        return Err(format!("{}: {body}", head.first_line()));
    }
    payload::check(plan.shape, body)?;
    Ok((!head.closes()).then_some(connection))
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_of_what_was_seen() {
        let mut outcome = Outcome::default();
        assert_eq!(outcome.percentile(99), Duration::ZERO);
        outcome.latencies = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(outcome.percentile(50), Duration::from_micros(100));
        assert_eq!(outcome.percentile(99), Duration::from_micros(198));
    }
}

//! The clients: a closed loop over a number of connections, with every reply checked.

use crate::http::Connection;
use crate::payload::{self, Shape};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// A reply that takes longer counts as an error.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// A connection gives up after this many errors in a row: the target is broken, not slow.
const ERRORS_IN_A_ROW: usize = 5;

/// What to send, where, and for how long.
pub(crate) struct Plan {
    pub(crate) address: String,
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    /// No request starts later than this; those under way are finished and counted.
    pub(crate) duration: Duration,
    pub(crate) request: Vec<u8>,
}

/// What all connections saw together.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Time from the first byte sent to the last byte read, sorted at the end.
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
    let mut outcome = LocalSet::new()
        .run_until(async {
            let clients: Vec<_> = (0..plan.connections)
                .map(|_| tokio::task::spawn_local(client(Rc::clone(&plan), start)))
                .collect();
            let mut outcome = Outcome::default();
            for client in clients {
                outcome.merge(client.await.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(outcome)
        })
        .await?;
    outcome.elapsed = start.elapsed();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

async fn client(plan: Rc<Plan>, start: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    let mut body = Vec::new();
    let mut errors_in_a_row = 0;
    while start.elapsed() < plan.duration && errors_in_a_row < ERRORS_IN_A_ROW {
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
                outcome.failed(format!("no whole reply within {REPLY_LIMIT:?}"));
                errors_in_a_row += 1;
            }
        }
    }
    outcome
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

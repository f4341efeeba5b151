//! Attempts: an exchange is tried until it goes through or must not be tried again.
//!
//! While nothing of a reply has gone to the client, a failure can be met with another try: at the
//! next target, or at the same one after a wait. Each try is an attempt of its own on the journal,
//! with its usage, its charge and its reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use facts::{Admission, AttemptEnd, AttemptReason, Dispatch, End};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use journal::{JournalError, Permit};
use metering::{AttemptMeter, COST_HEADER, Close, bound};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::access::to_upstream;
use crate::body::{Metered, Patience};
use crate::clock::Timer;
use crate::failure::Failure;
use crate::redact::Blotter;
use crate::run::Run;
use crate::settings::ModelTarget;
use crate::shared::Shared;
use crate::upstream::{Connections, SendError, address};

/// A unary reply up to this size is gathered and sent in one piece; the cost header needs it whole.
const GATHERED: usize = 1 << 20;
/// The first wait before another try is below this; each further one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");

/// What a client asked for, and where it may go.
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a metering::Request,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// Below the upstream's base URL.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) body: Bytes,
    /// In order of preference; at least one.
    pub(crate) targets: &'a [ModelTarget],
    /// Whether the client's credential is for its provider, not for us.
    pub(crate) passes_credential: bool,
    /// Whether a stream is read to its end when its client left.
    pub(crate) drains: bool,
}

/// How a try ended, as far as it has.
enum Tried {
    /// A reply came; it goes to the client unless it is tried again.
    Reply(Box<(Parts, Metered, Passing)>),
    /// None came.
    NoReply(Box<Run>, Failure),
}

/// What the passing on of a reply depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passing {
    /// Whether it is a stream, or takes the place of one: then it goes out as it comes.
    pub(crate) stream: bool,
    /// Whether our usage chunk is taken out.
    pub(crate) strips: bool,
}

impl Shared {
    /// Admits an exchange and tries it until it goes through or must not be tried again. An error is
    /// one of ours, for the client.
    pub(crate) async fn run(
        self: &Arc<Self>,
        upstreams: &Connections,
        ask: &Ask<'_>,
        permit: Permit,
        timer: Timer,
        admission: Admission,
    ) -> Result<(Parts, Metered, Passing), Failure> {
        let targets = ask.targets;
        let attempts = self.settings.retry.attempts.max(u32::try_from(targets.len()).unwrap_or(1));
        self.retries.earn();
        let mut slot = self.slots.take(&self.settings, targets[0].upstream).await?;
        let exchange = admission.exchange;
        let mut dispatch = Dispatch {
            exchange,
            ordinal: 0,
            at: timer.now(),
            reason: AttemptReason::First,
            upstream: String::new(),
            provider: None,
            model: None,
            region: None,
            input_estimate: ask.request.input_estimate(),
            bound: None,
        };
        // Targets in turn, then from the first again.
        let target_of = |ordinal: u32| &targets[ordinal as usize % targets.len()];
        let meter = self.meter(ask, target_of(0), &mut dispatch);
        // Nothing is sent on before the admission is on the journal. In a task of its own, which goes
        // on if the client leaves meanwhile: only what is known to be admitted may settle.
        let passes = permit.passes();
        let start = tokio::spawn(Run::start(Arc::clone(self), permit, timer, admission, meter));
        let mut started = self.journalled(start, passes).await;
        loop {
            let run = started.map_err(|error| Failure::of_journal(&error))?;
            let target = target_of(dispatch.ordinal);
            let tried = self.attempt(upstreams, ask, target, run, slot).await;
            let (again, run) = match tried {
                Tried::Reply(mut reply) => {
                    let (parts, metered, passing) = &mut *reply;
                    let ended = metered.gather(passing.stream, GATHERED).await;
                    let wait = ended.and_then(|end| {
                        self.wait(end, dispatch.ordinal, attempts, targets.len(), &parts.headers)
                    });
                    match wait {
                        Some(wait) => (wait, reply.1.into_run()),
                        None => {
                            metered.settled().await;
                            return Ok(*reply);
                        }
                    }
                }
                Tried::NoReply(mut run, failure) => {
                    let none = HeaderMap::new();
                    let wait = run.end(Close::Reset).and_then(|end| {
                        self.wait(end, dispatch.ordinal, attempts, targets.len(), &none)
                    });
                    match wait {
                        Some(wait) => (wait, *run),
                        None => return Err(self.failed(*run, failure).await),
                    }
                }
            };
            sleep(again).await;
            dispatch.ordinal += 1;
            dispatch.at = run.now();
            let round = dispatch.ordinal as usize >= targets.len();
            dispatch.reason = if round { AttemptReason::Retry } else { AttemptReason::Fallback };
            let target = target_of(dispatch.ordinal);
            slot = match self.slots.take(&self.settings, target.upstream).await {
                Ok(slot) => slot,
                Err(failure) => return Err(self.failed(run, failure).await),
            };
            let meter = self.meter(ask, target, &mut dispatch);
            started = self.journalled(tokio::spawn(run.go_on(meter)), passes).await;
        }
    }

    /// Waits until a dispatch is on the journal, but no longer than the settings allow. Its task goes
    /// on, and settles as never sent what it finds written afterwards.
    async fn journalled(
        &self,
        task: JoinHandle<Result<Run, JournalError>>,
        passes: bool,
    ) -> Result<Run, JournalError> {
        let limit = self.settings.ledger_timeout;
        let done = if passes {
            task.await
        } else {
            match timeout(limit, task).await {
                Ok(done) => done,
                Err(_) => return Err(JournalError::Stalled { seconds: limit.as_secs() }),
            }
        };
        done.unwrap_or(Err(JournalError::Closed))
    }

    /// Settles an exchange whose last attempt ended without a reply to pass on, before its client is
    /// told.
    async fn failed(&self, mut run: Run, failure: Failure) -> Failure {
        let Some(ticket) = run.settle(Close::Reset) else { return failure };
        let limit = self.settings.ledger_timeout;
        let passes = ticket.may_pass();
        match timeout(limit, ticket).await {
            Ok(Ok(())) => failure,
            Ok(Err(error)) => Failure::of_journal(&error),
            Err(_) if passes => failure,
            Err(_) => Failure::of_journal(&JournalError::Stalled { seconds: limit.as_secs() }),
        }
    }

    /// Fills in where an attempt goes, and makes its meter.
    fn meter(&self, ask: &Ask<'_>, target: &ModelTarget, dispatch: &mut Dispatch) -> AttemptMeter {
        let upstream = &self.settings.upstreams[target.upstream];
        dispatch.upstream.clone_from(&upstream.name);
        dispatch.provider.clone_from(&upstream.provider);
        dispatch.region.clone_from(&upstream.region);
        dispatch.model = target.model.clone().or_else(|| ask.request.model.clone());
        dispatch.bound = bound(&self.book, dispatch, ask.request, ask.body.len());
        let strips = ask.request.strips_usage(upstream.convention.must_ask_for_usage());
        AttemptMeter::new(upstream.convention, ask.request, strips, dispatch.clone())
    }

    async fn attempt(
        &self,
        upstreams: &Connections,
        ask: &Ask<'_>,
        target: &ModelTarget,
        mut run: Run,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Tried {
        let upstream = &self.settings.upstreams[target.upstream];
        let name = &upstream.name;
        let no_reply = |mut run: Run, how: Close, status: StatusCode, code, message: String| {
            run.end(how);
            Tried::NoReply(Box::new(run), Failure::new(status, code, message))
        };
        let gateway = StatusCode::BAD_GATEWAY;
        let path = ask.request.rewrite_path(ask.path, target.model.as_deref());
        let Some(uri) = address(upstream, &path, ask.query) else {
            let message = format!("the query does not fit a URL of upstream `{name}`");
            return no_reply(
                run,
                Close::Unreachable,
                StatusCode::BAD_REQUEST,
                "bad_query",
                message,
            );
        };
        let asks = upstream.convention.must_ask_for_usage();
        let model = target.model.as_deref();
        let body = ask.request.rewrite(&ask.body, model, asks);
        let headers = to_upstream(ask.passes_credential, ask.headers, upstream, ask.request.api);
        let limits = &upstream.limits;
        run.sent();
        let sent = Instant::now();
        let reply = upstreams.send(ask.method.clone(), &uri, headers, body, limits.connect);
        let reply = match timeout(limits.first_byte.min(limits.total), reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(SendError::Connect(_))) => {
                let message = format!("upstream `{name}` cannot be reached");
                return no_reply(run, Close::Unreachable, gateway, "upstream_unreachable", message);
            }
            Ok(Err(SendError::Broken(_))) => {
                let message = format!("upstream `{name}` broke off before it replied");
                return no_reply(run, Close::Reset, gateway, "upstream_broke_off", message);
            }
            Err(_) => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                let message = format!("upstream `{name}` did not reply in time");
                return no_reply(run, Close::Timeout, status, "upstream_timeout", message);
            }
        };
        let (mut parts, body) = reply.into_parts();
        let status = parts.status.as_u16();
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            run.head(status, None, false, None);
            let message = format!("upstream `{name}` redirects, which is not followed");
            return no_reply(run, Close::Redirected, gateway, "upstream_redirected", message);
        }
        let media = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let encodings = parts.headers.get_all(CONTENT_ENCODING).iter();
        let encoded = encodings.filter(|encoding| *encoding != "identity").count() > 0;
        let cost = parts.headers.get(COST_HEADER).and_then(|cost| cost.to_str().ok());
        let stream = run.head(status, media, encoded, cost);
        let passing = Passing {
            stream: stream || ask.request.stream && parts.status.is_success(),
            strips: ask.request.strips_usage(asks) && stream,
        };
        let drains = (ask.drains && stream).then(|| Arc::clone(&self.drains));
        let repeats = status >= 400;
        let blotter = upstream.key.as_deref().filter(|_| repeats).and_then(Blotter::of);
        if let Some(blotter) = &blotter {
            blotter.headers(&mut parts.headers);
        }
        let metered = Metered::new(body, run, Patience::new(limits, sent), slot, blotter, drains);
        Tried::Reply(Box::new((parts, metered, passing)))
    }

    /// How long to wait before another try; `None` if there is to be none.
    fn wait(
        &self,
        end: &AttemptEnd,
        ordinal: u32,
        attempts: u32,
        targets: usize,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        if ordinal + 1 >= attempts || !may_pass_next_time(end) || !self.retries.spend() {
            return None;
        }
        // Another target need not wait for this one.
        if (ordinal as usize + 1) < targets {
            return Some(Duration::ZERO);
        }
        let max_wait = self.settings.retry.max_wait;
        let seconds = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let asked = Duration::from_secs(seconds.unwrap_or(0));
        if asked > max_wait {
            return None;
        }
        let round = ordinal / u32::try_from(targets).unwrap_or(1).max(1);
        let ceiling = FIRST_WAIT.saturating_mul(1 << round.min(16)).min(max_wait);
        Some(asked.max(jitter(ceiling)))
    }
}

/// Whether another try may fare better. What a provider refuses for its content it refuses again.
fn may_pass_next_time(end: &AttemptEnd) -> bool {
    match end.end {
        End::Unreachable | End::Cut | End::Timeout | End::StreamError => true,
        End::UpstreamError => !matches!(end.status, Some(300..=399 | 501 | 505)),
        End::Refused => matches!(end.status, Some(408 | 409 | 425 | 429)),
        End::Complete | End::ClientGone | End::Lost => false,
    }
}

/// Full jitter: anything up to the ceiling, so that those who failed together do not return together.
fn jitter(ceiling: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the wait is the ceiling.
    let share = getrandom::fill(&mut random).map_or(u32::MAX, |()| u32::from_le_bytes(random));
    let nanos = ceiling.as_nanos() * u128::from(share) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

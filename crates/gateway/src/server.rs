//! The server: connections in, requests to their purpose.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use facts::{Admission, Api, Exchange};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
};
use hyper::http::response::Parts;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use journal::{Handle, JournalError};
use quantity::{ExchangeId, HashKey, UnixTime};
use tariff::Book;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::access::{caller, check_host, to_client};
use crate::attempts::{Ask, RetryBudget, Slots};
use crate::body::{Metered, Reply};
use crate::clock::Clock;
use crate::door::{Purpose, check_query, purpose};
use crate::failure::Failure;
use crate::labels::labels;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::run::KnownRows;
use crate::settings::{Settings, SettingsError};
use crate::upstream::Connections;

const EXCHANGE: HeaderName = HeaderName::from_static("x-farthing-exchange");
const COST: HeaderName = HeaderName::from_static("x-farthing-cost");
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// How long the body of a request may pause.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of request bodies in memory at once.
const MAX_BODIES: usize = 1 << 30;
/// How long a failed append keeps the gateway from being called ready.
const UNREADY: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shutdown waits for exchanges under way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is told of settled exchanges and serves what is not the gateway's: the pages for people.
///
/// Called on the way of an exchange: it must be quick and must not block.
pub trait Watch: Send + Sync {
    /// An exchange settled; its records are on their way to the journal.
    fn settled(&self, exchange: &Arc<Exchange>);
    /// A page below `/farthing/`, if there is one.
    fn page(&self, path: &str, now: UnixTime) -> Option<Page>;
    /// What the look-up of an exchange tells its owner, as JSON.
    fn lookup(&self, exchange: &Exchange) -> String;
}

/// A page for people.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What all exchanges share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) book: Arc<Book>,
    pub(crate) journal: Handle,
    pub(crate) clock: Clock,
    pub(crate) key: HashKey,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    pub(crate) rows: KnownRows,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) retries: RetryBudget,
    pub(crate) slots: Slots,
    bodies: AtomicUsize,
}

impl Shared {
    /// Whether an upstream is paid by the hour.
    pub(crate) fn is_hosted(&self, name: &str) -> bool {
        let named = self.settings.upstreams.iter().find(|upstream| upstream.name == name);
        named.is_some_and(|upstream| upstream.hourly_cost.is_some())
    }
}

/// A gateway that is ready to serve.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    /// A gateway with these settings, that prices by this book, writes to this journal and tells
    /// `watch`. `key` is the data directory's secret for fingerprints; `recent` may hold exchanges
    /// from before.
    ///
    /// # Errors
    /// [`SettingsError`] if the settings cannot be served.
    pub fn new(
        settings: Settings,
        book: Arc<Book>,
        journal: Handle,
        clock: Clock,
        key: HashKey,
        recent: Recent,
        watch: Arc<dyn Watch>,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self(Arc::new(Shared {
            retries: RetryBudget::new(),
            slots: Slots::new(&settings),
            bodies: AtomicUsize::new(0),
            settings,
            book,
            journal,
            clock,
            key,
            metrics: Metrics::default(),
            recent,
            rows: KnownRows::default(),
            watch,
        })))
    }

    /// Serves until `shutdown`, then lets exchanges under way end, for thirty seconds at most; the
    /// clients of those that remain are cut off, and they settle as aborted.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<Worker> =
            (0..cores).map(|_| Worker::start(&self.0)).collect::<io::Result<_>>()?;
        let mut shutdown = std::pin::pin!(shutdown);
        for worker in workers.iter().cycle() {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => worker.take(stream),
                    // Out of file descriptors, most likely: connections that end free some.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
                () = &mut shutdown => break,
            }
        }
        drop(listener);
        let ended = tokio::task::spawn_blocking(|| {
            // All are told before any is waited for: their time to end is the same.
            let threads: Vec<_> = workers.into_iter().map(Worker::close).collect();
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        ended.await.map_err(io::Error::other)
    }
}

/// A thread with a runtime and upstream connections of its own. A connection stays with one worker,
/// so that no exchange wakes another thread but the journal's.
struct Worker {
    accepted: UnboundedSender<std::net::TcpStream>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let journal = shared.journal.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Records are handed to the journal's thread when there is nothing else to do, many at a
            // time when there is much to do.
            .on_thread_park(move || journal.wake())
            .build()?;
        let (accepted, incoming) = unbounded_channel();
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || runtime.block_on(work(shared, incoming)))?;
        Ok(Self { accepted, thread })
    }

    fn take(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if let Ok(stream) = stream.into_std() {
            // The thread ends only after this sender is gone.
            let _ = self.accepted.send(stream);
        }
    }

    /// Tells it to end; gives its thread, to be waited for.
    fn close(self) -> std::thread::JoinHandle<()> {
        self.thread
    }
}

async fn work(shared: Arc<Shared>, mut incoming: UnboundedReceiver<std::net::TcpStream>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let upstreams = Connections::new();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = incoming.recv() => match stream {
                Some(stream) => stream,
                None => break,
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let (shared, upstreams) = (Arc::clone(&shared), upstreams.clone());
        let service = service_fn(move |request| {
            let (shared, upstreams) = (Arc::clone(&shared), upstreams.clone());
            async move { Ok::<_, Infallible>(shared.answer(&upstreams, request).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            // A connection that breaks is the client's affair; its exchange settles on drop.
            let _ = connection.await;
        });
    }
    let _ = timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    connections.shutdown().await;
}

impl Shared {
    async fn answer(
        self: Arc<Self>,
        upstreams: &Connections,
        request: Request<Incoming>,
    ) -> Response<Reply> {
        let path = request.uri().path().to_owned();
        let purpose = purpose(request.method(), &path).and_then(|purpose| {
            // Probes call by address, and learn nothing that others may not know.
            if !matches!(purpose, Purpose::Health | Purpose::Ready) {
                check_host(&self.settings, request.headers(), request.uri())?;
            }
            Ok(purpose)
        });
        let (api, answer) = match purpose {
            Ok(Purpose::Call { api, route, path }) => {
                (Some(api), self.call(upstreams, api, route, path, request).await)
            }
            Ok(Purpose::Lookup(id)) => (None, self.lookup(id, request.headers())),
            Ok(Purpose::Page) => (None, self.page(&path, request.headers())),
            Ok(Purpose::Health) => (None, Ok(text(StatusCode::OK, "ok\n".to_owned()))),
            Ok(Purpose::Ready) => (None, Ok(self.ready())),
            Ok(Purpose::Metrics) => (None, self.metrics_page(request.headers())),
            Err(failure) => (api_of(&path), Err(failure)),
        };
        answer.unwrap_or_else(|failure| {
            self.metrics.refused();
            failure.reply(api).map(Reply::from)
        })
    }

    async fn call(
        self: &Arc<Self>,
        upstreams: &Connections,
        api: Api,
        path_route: Option<&str>,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Failure> {
        let (head, body) = request.into_parts();
        let caller = caller(&self.settings, &head.headers, &self.key)?;
        check_query(api, path, head.uri.query(), &head.headers)?;
        if head.headers.contains_key(CONTENT_ENCODING) {
            let message = "expected a body without `Content-Encoding`";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::new(status, "encoded_body", message));
        }
        if api == Api::OpenAiModels && head.headers.contains_key("anthropic-version") {
            let message = "the list of models is served in OpenAI's API alone";
            return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_path", message));
        }
        let (body, _held) = self.read_body(body).await?;
        let timer = self.clock.timer();
        let admitted_at = timer.now();
        let asked = metering::Request::read_at(api, path, &body, &self.key)
            .map_err(|error| Failure::bad_request("bad_request", error.to_string()))?;
        let labels = labels(&self.settings.route_names, &head.headers, path_route, &asked)?;
        let route = self.settings.route(&labels.route);
        let targets = self.settings.targets(api, asked.model.as_deref());
        if targets.is_empty() {
            let message = match &asked.model {
                Some(model) => format!("no upstream that speaks {api} serves the model `{model}`"),
                None => format!("no upstream speaks {api}"),
            };
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_upstream", message));
        }
        let Some(permit) = self.journal.permit() else {
            return Err(journal_failure(self.journal.status().failure));
        };

        let exchange = ExchangeId::new(admitted_at, random());
        let retries = head.headers.get(RETRY_COUNT).and_then(|value| value.to_str().ok());
        let admission = Admission {
            exchange,
            at: admitted_at,
            api,
            stream: asked.stream,
            model_asked: asked.model.clone(),
            max_tokens: asked.max_tokens,
            choices: asked.choices,
            tier_asked: asked.tier.clone(),
            labels,
            caller,
            client_retry: retries.and_then(|count| count.parse().ok()),
            request_bytes: body.len() as u64,
            prompt: asked.prompt.clone(),
        };
        let ask = Ask {
            request: &asked,
            method: &head.method,
            headers: &head.headers,
            path,
            query: head.uri.query(),
            body,
            targets: &targets,
        };
        let outcome = self.run(upstreams, &ask, permit, timer, admission).await;
        let mut reply = match outcome {
            Ok((parts, metered, passing)) => {
                pass(parts, metered, passing.strips, route.cost_header && !passing.stream)
            }
            Err(failure) => failure.reply(Some(api)).map(Reply::from),
        };
        let id = HeaderValue::from_str(&exchange.to_string()).expect("an id is plain ASCII");
        reply.headers_mut().insert(EXCHANGE, id);
        Ok(reply)
    }

    async fn read_body(&self, mut body: Incoming) -> Result<(Bytes, Held<'_>), Failure> {
        let limit = self.settings.max_body;
        let too_large = || {
            let message = format!("expected a body of at most {limit} bytes");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        // What `Content-Length` announces need not be waited for.
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let mut held = Held { all: &self.bodies, bytes: 0 };
        let mut pieces: Vec<Bytes> = Vec::with_capacity(1);
        loop {
            let frame = match timeout(BODY_PAUSE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    return Err(Failure::bad_request("broken_body", "the body broke off"));
                }
                Err(_) => {
                    let message =
                        format!("nothing of the body came for {} s", BODY_PAUSE.as_secs());
                    return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message));
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            held.add(piece.len())?;
            if held.bytes > limit {
                return Err(too_large());
            }
            pieces.push(piece);
        }
        let body = match pieces.as_slice() {
            [one] => one.clone(),
            several => Bytes::from(several.concat()),
        };
        Ok((body, held))
    }

    fn metrics_page(&self, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        // They tell what is spent.
        caller(&self.settings, headers, &self.key)?;
        Ok(text(StatusCode::OK, self.metrics.text(&self.journal.status())))
    }

    fn lookup(&self, id: &str, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        let caller = caller(&self.settings, headers, &self.key)?;
        let id: ExchangeId =
            id.parse().map_err(|error| Failure::bad_request("bad_id", format!("{error}")))?;
        let Some(exchange) = self.recent.of(id, caller) else {
            let message = "no settled exchange with this id was made with this credential lately; \
                           older ones are in `farthing journal dump`";
            return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_exchange", message));
        };
        let mut reply = text(StatusCode::OK, self.watch.lookup(&exchange));
        let json = HeaderValue::from_static("application/json");
        reply.headers_mut().insert(CONTENT_TYPE, json);
        Ok(reply)
    }

    fn page(&self, path: &str, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        // A browser cannot present the access key; where one is needed, pages are for whoever has it.
        caller(&self.settings, headers, &self.key)?;
        let Some(page) = self.watch.page(path, self.clock.now()) else {
            return Err(Failure::unknown_path());
        };
        let mut reply = Response::new(Reply::from(Bytes::from(page.body)));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
        for (name, value) in page.headers {
            let name = HeaderName::from_static(name);
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Ok(reply)
    }

    fn ready(&self) -> Response<Reply> {
        let status = self.journal.status();
        let reason = match (status.failure, status.failed_ago) {
            (Some(failure), _) => failure.to_string(),
            // Later it is ready again, for only a new exchange shows whether the disk is well.
            (None, Some(ago)) if ago < UNREADY => {
                format!("its last append failed {} s ago", ago.as_secs())
            }
            (None, _) => return text(StatusCode::OK, "ready\n".to_owned()),
        };
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: journal: {reason}\n"))
    }
}

/// Bytes of request bodies that an exchange holds in memory.
struct Held<'a> {
    all: &'a AtomicUsize,
    bytes: usize,
}

impl Held<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.all.fetch_add(bytes, Relaxed) + bytes > MAX_BODIES {
            let message = "too many large requests are under way";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message));
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// The upstream's reply to the client.
fn pass(parts: Parts, metered: Metered, shortened: bool, tells_cost: bool) -> Response<Reply> {
    let mut headers = to_client(&parts.headers);
    if shortened {
        headers.remove(CONTENT_LENGTH);
    }
    let cost = metered.run().cost().filter(|_| tells_cost);
    if let Some(cost) = cost.and_then(|cost| HeaderValue::from_str(&cost.to_string()).ok()) {
        headers.insert(COST, cost);
    }
    let mut reply = Response::new(Reply::Metered(Box::new(metered)));
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = headers;
    reply
}

pub(crate) fn journal_failure(failure: Option<JournalError>) -> Failure {
    let message = match failure {
        Some(failure) => format!("the journal takes no records, so nothing is sent on: {failure}"),
        None => "too many exchanges are under way for the journal".to_owned(),
    };
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "journal_unavailable", message)
}

fn text(status: StatusCode, body: String) -> Response<Reply> {
    let mut reply = Response::new(Reply::from(Bytes::from(body)));
    *reply.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, plain);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The API that a refused path was meant for, for the shape of the error.
fn api_of(path: &str) -> Option<Api> {
    let gemini = path.contains("/v1beta/").then_some(Api::GeminiGenerate);
    path.contains("/v1/messages").then_some(Api::AnthropicMessages).or(gemini)
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

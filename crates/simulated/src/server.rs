//! The socket, the routes, and the way of one request.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use quantity::UnixTime;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use workload::{Fault, Random};

use crate::body::{Body, BrokenOff, SLOWNESS, STALL, Stream};
use crate::cache::{Input, PrefixCache};
use crate::prompt::{self, Asked, Dialect};
use crate::refusal::{Kind, Refusal};
use crate::reply::Reply;
use crate::route::{Route, route};
use crate::serving::{Gone, Prompt, Serving, Ticket};
use crate::stats::{Counters, Outcome, Running, Stats};
use crate::timing::{Constant, Pace, Timing, rest};
use crate::words::BYTES_PER_TOKEN;
use crate::{anthropic, embeddings, gemini, openai, responses};

/// How long open exchanges may go on after a shutdown was asked for.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What a simulated server is like.
#[derive(Clone)]
pub struct Options {
    /// Decides ids and random faults.
    pub seed: u64,
    /// How long tokens take.
    pub timing: Arc<dyn Timing>,
    /// An engine that decides it instead, and what of prompts is cached: replies tell what it found in its prefix
    /// cache, whatever the client marked. It does not know [`Fault::Slow`].
    pub engine: Option<Serving>,
    /// So many times as fast as real time; 0 counts as 1.
    pub speed: u32,
    /// What `/v1/models` lists. Every model that is asked for is served, listed or not.
    pub models: Vec<String>,
    /// Output tokens of a reply where the request does not say; if that is not said either, 16 to 128.
    pub output_tokens: Option<u64>,
    /// How many prefixes the cache holds, without an engine.
    pub cached_prefixes: usize,
    /// A larger request body is refused with 413.
    pub body_limit_bytes: usize,
    /// So many requests in a thousand meet a fault that they did not ask for.
    pub faults_per_mille: u16,
    /// The time that replies carry.
    pub now: Arc<dyn Fn() -> UnixTime + Send + Sync>,
}

impl Default for Options {
    /// As fast as possible, without faults, at a fixed time in 2026.
    fn default() -> Self {
        Self {
            seed: 0,
            timing: Arc::new(Constant::default()),
            engine: None,
            speed: 1,
            models: vec!["simulated-1".to_owned()],
            output_tokens: None,
            cached_prefixes: 65_536,
            body_limit_bytes: 32 << 20,
            faults_per_mille: 0,
            now: Arc::new(|| UnixTime::from_nanos(1_795_305_604_000_000_000)),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("seed", &self.seed)
            .field("speed", &self.speed)
            .field("models", &self.models)
            .field("faults_per_mille", &self.faults_per_mille)
            .finish_non_exhaustive()
    }
}

/// How many replies of Responses can be shown again.
const STORED: usize = 256;

struct Shared {
    options: Options,
    counters: Arc<Counters>,
    cache: Mutex<PrefixCache>,
    stored: Arc<Stored>,
}

/// Replies of Responses by their ids, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Stored(Mutex<VecDeque<(String, String)>>);

impl Stored {
    /// Keeps a reply, and returns it.
    pub(crate) fn add(&self, reply: &Reply) -> String {
        let whole = responses::unary(reply);
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.len() == STORED {
            stored.pop_front();
        }
        stored.push_back((reply.id.clone(), whole.clone()));
        whole
    }

    fn answer(&self, id: &str) -> Answer {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stored.iter().find(|(stored, _)| stored == id) {
            Some((_, body)) => Ok(json(200, body.clone())),
            None => Err(Refusal::new(Kind::NotFound, format!("no response with id '{id}'"))),
        }
    }
}

/// A simulated server that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct Simulated {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Simulated {
    /// Serves on a listener. Must be called within a tokio runtime, which does the work.
    ///
    /// # Errors
    /// If the listener does not know its address.
    pub fn serve(listener: TcpListener, options: Options) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            cache: Mutex::new(PrefixCache::new(options.cached_prefixes)),
            stored: Arc::default(),
            counters: Arc::clone(&counters),
            options,
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, shared, stopped));
        Ok(Self { address, counters, stop, task })
    }

    /// Serves on a free port of the loopback interface.
    ///
    /// # Errors
    /// If there is none.
    pub async fn on_loopback(options: Options) -> io::Result<Self> {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, options)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an OpenAI client takes as its base URL, up to and including `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Takes no more connections, lets open exchanges end for up to five seconds, and stops.
    pub async fn shutdown(self) {
        // Without a receiver it has stopped already.
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // An error means that the handle was dropped.
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, Arc::clone(&shared), stopped.clone()));
                }
                // Out of file descriptors, most likely: connections that end will free some.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // What still runs is dropped with the set.
    let _ = tokio::time::timeout(SHUTDOWN, all_ended).await;
}

async fn connection(socket: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    // A refusal costs speed only.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { handle(&shared, request).await }
    });
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    tokio::select! {
        // How a connection ends is in the stats.
        _ = serving.as_mut() => return,
        _ = stopped.changed() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

fn response(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status of ours");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(status: u16, body: String) -> Response<Body> {
    response(status, "application/json", Body::Whole(Some(Bytes::from(body))))
}

fn refuse(refusal: &Refusal, dialect: Dialect) -> Response<Body> {
    let mut response = json(refusal.kind.status(), refusal.json(dialect));
    if refusal.kind == Kind::RateLimited {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("retry-after"), HeaderValue::from_static("1"));
    }
    response
}

async fn handle(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, BrokenOff> {
    let path = request.uri().path().to_owned();
    let route = route(&path, request.uri().query().unwrap_or_default());
    let is_google = path.starts_with("/v1beta/")
        || matches!(route, Some(Ok(Route::Generate { .. } | Route::GeminiCount { .. })));
    let dialect = if path.starts_with("/v1/messages")
        || request.headers().contains_key("anthropic-version")
    {
        Dialect::Anthropic
    } else if is_google {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    };
    let result = match (request.method(), route) {
        (_, None) => Err(Refusal::new(Kind::NotFound, format!("unknown path: {path}"))),
        (_, Some(Err(refusal))) => Err(refusal),
        (&Method::GET, Some(Ok(Route::Models))) => Ok(json(200, models(&shared.options, dialect))),
        (&Method::GET, Some(Ok(Route::Stored(id)))) => shared.stored.answer(&id),
        (_, Some(Ok(Route::Models | Route::Stored(_)))) => Err(wrong_method()),
        (&Method::POST, Some(Ok(route))) => {
            match read(request, shared.options.body_limit_bytes).await {
                Ok(body) => post(shared, route, &body).await?,
                Err(refusal) => Err(refusal),
            }
        }
        (_, Some(Ok(_))) => Err(wrong_method()),
    };
    Ok(result.unwrap_or_else(|refusal| refuse(&refusal, dialect)))
}

fn too_long() -> Refusal {
    Refusal::invalid("the prompt leaves no room for a reply in the model's context")
}

fn wrong_method() -> Refusal {
    Refusal::new(Kind::MethodNotAllowed, "this path takes another method")
}

async fn read(request: Request<Incoming>, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Kind::TooLarge, format!("the body is larger than {limit} bytes")))
        }
        Err(_) => Err(Refusal::invalid("the body ended early")),
    }
}

fn models(options: &Options, dialect: Dialect) -> String {
    let names = options.models.iter();
    match dialect {
        Dialect::Gemini => {
            let list: Vec<_> = names
                .map(|id| json!({"name": format!("models/{id}"), "displayName": id,
                    "supportedGenerationMethods": ["generateContent", "countTokens"]}))
                .collect();
            json!({"models": list})
        }
        Dialect::OpenAi | Dialect::Completions | Dialect::Responses => {
            let data: Vec<_> = names
                .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "simulated"}))
                .collect();
            json!({"object": "list", "data": data})
        }
        Dialect::Anthropic => {
            let data: Vec<_> = names
                .map(|id| {
                    let created = "2026-01-01T00:00:00Z";
                    json!({"type": "model", "id": id, "display_name": id, "created_at": created})
                })
                .collect();
            let (first, last) = (options.models.first(), options.models.last());
            json!({"data": data, "has_more": false, "first_id": first, "last_id": last})
        }
    }
    .to_string()
}

type Answer = Result<Response<Body>, Refusal>;

async fn post(shared: &Shared, route: Route, body: &[u8]) -> Result<Answer, BrokenOff> {
    let (dialect, asked) = match route {
        Route::CountTokens => {
            return Ok(prompt::anthropic(body, true).map(|asked| {
                json(200, json!({"input_tokens": asked.input_tokens()}).to_string())
            }));
        }
        Route::GeminiCount { model } => {
            return Ok(prompt::gemini(&model, false, body)
                .map(|asked| json(200, json!({"totalTokens": asked.input_tokens()}).to_string())));
        }
        Route::Embeddings => {
            let exchange = Exchange::begin(shared, Dialect::OpenAi);
            return match embeddings::embed(body) {
                Ok(embedded) => exchange.embed(embedded).await,
                Err(refusal) => Ok(exchange.refused(refusal)),
            };
        }
        Route::Messages => (Dialect::Anthropic, prompt::anthropic(body, false)),
        Route::Completions => (Dialect::Completions, prompt::completions(body)),
        Route::Responses => (Dialect::Responses, prompt::responses(body)),
        Route::Generate { model, stream } => {
            (Dialect::Gemini, prompt::gemini(&model, stream, body))
        }
        Route::Chat | Route::Models | Route::Stored(_) => (Dialect::OpenAi, prompt::openai(body)),
    };
    let exchange = Exchange::begin(shared, dialect);
    match asked {
        Ok(asked) => exchange.reply(asked).await,
        Err(refusal) => Ok(exchange.refused(refusal)),
    }
}

/// One request for a reply, from its first byte to its last.
struct Exchange<'a> {
    shared: &'a Shared,
    dialect: Dialect,
    running: Running,
    ordinal: u64,
    pace: Pace,
}

impl<'a> Exchange<'a> {
    fn begin(shared: &'a Shared, dialect: Dialect) -> Self {
        let (running, ordinal) = Running::begin(&shared.counters);
        Self { shared, dialect, running, ordinal, pace: Pace::start(shared.options.speed) }
    }

    fn refused(mut self, refusal: Refusal) -> Answer {
        self.running.end(Outcome::Refused);
        let mut response = refuse(&refusal, self.dialect);
        self.name(&mut response, 0);
        Ok(response)
    }

    /// Names one reply: replies to equal requests differ in this alone.
    fn unique(&self, identity: u64) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [self.shared.options.seed, self.ordinal, identity] {
            hasher.update(&part.to_le_bytes());
        }
        hasher.finalize().to_hex()[..24].to_owned()
    }

    /// Adds the header that names the request.
    fn name(&self, response: &mut Response<Body>, identity: u64) {
        let name = match self.dialect {
            Dialect::Anthropic => HeaderName::from_static("request-id"),
            _ => HeaderName::from_static("x-request-id"),
        };
        let id = format!("req_{}", self.unique(identity));
        let value = HeaderValue::from_str(&id).expect("hexadecimal digits are allowed");
        response.headers_mut().insert(name, value);
    }

    /// The fault that was wished for, or now and then another one.
    fn fault(&self, wished: Option<Fault>, identity: u64) -> Option<Fault> {
        let Options { seed, faults_per_mille, .. } = self.shared.options;
        if wished.is_some() || faults_per_mille == 0 {
            return wished;
        }
        // With the ordinal, so that a second try may succeed.
        let mut random = Random::new(seed ^ identity).fork(&self.ordinal.to_string());
        if random.below(1_000) >= u64::from(faults_per_mille) {
            return None;
        }
        let after = u32::try_from(random.below(16)).expect("less than 16");
        let faults =
            [Fault::RateLimited, Fault::ServerError, Fault::Cut(after), Fault::ErrorEvent(after)];
        Some(faults[random.index(faults.len())])
    }

    /// The refusal that a fault means, if it means one.
    fn refusal(fault: Option<Fault>, stream: bool) -> Option<Refusal> {
        match fault? {
            Fault::RateLimited => {
                Some(Refusal::new(Kind::RateLimited, "rate limit reached, on demand"))
            }
            Fault::ServerError => Some(Refusal::new(Kind::Server, "the server failed, on demand")),
            Fault::ErrorEvent(_) if !stream => {
                Some(Refusal::new(Kind::Server, "the model failed, on demand"))
            }
            _ => None,
        }
    }

    fn html(mut self, identity: u64) -> Answer {
        self.running.end(Outcome::Refused);
        let page = "<html><head><title>502 Bad Gateway</title></head><body>\
                    <h1>502 Bad Gateway</h1></body></html>\n";
        let body = Body::Whole(Some(Bytes::from_static(page.as_bytes())));
        let mut response = response(502, "text/html", body);
        self.name(&mut response, identity);
        Ok(response)
    }

    async fn embed(mut self, embedded: embeddings::Embedded) -> Result<Answer, BrokenOff> {
        let fault = self.fault(embedded.fault, embedded.identity);
        if fault == Some(Fault::HtmlPage) {
            return Ok(self.html(embedded.identity));
        }
        if let Some(refusal) = Self::refusal(fault, false) {
            return Ok(self.refused(refusal));
        }
        let ticket = match self.come(Prompt::Tokens(embedded.tokens), 1).await {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(self.refused(refusal)),
        };
        self.running.count_input(embedded.tokens, 0);
        if let Some(mut ticket) = ticket {
            ticket.until(1).await.map_err(|_| BrokenOff)?;
        } else {
            let gap = self.shared.options.timing.ttft(embedded.tokens, 0);
            rest(self.pace.after(gap)).await;
        }
        self.whole(embedded.body, fault, embedded.identity).await
    }

    async fn reply(mut self, mut asked: Asked) -> Result<Answer, BrokenOff> {
        let identity = asked.identity();
        asked.wish.fault = self.fault(asked.wish.fault, identity);
        let fault = asked.wish.fault;
        if fault == Some(Fault::HtmlPage) {
            return Ok(self.html(identity));
        }
        if let Some(refusal) = Self::refusal(fault, asked.stream) {
            return Ok(self.refused(refusal));
        }
        let input = if let Some(engine) = &self.shared.options.engine {
            let total = asked.input_tokens();
            let Some(room) = engine.room(total) else {
                return Ok(self.refused(too_long()));
            };
            asked.cap = Some(asked.cap.unwrap_or(room).min(room));
            // What is cached it knows when it begins.
            Input::in_an_engine(total, 0)
        } else {
            // The cache is whole whatever a thread that held it did: it is only a cache.
            let mut cache = self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
            match asked.dialect {
                Dialect::Anthropic => cache.marked(&asked.blocks),
                _ => cache.automatic(&asked.blocks),
            }
        };
        let kind = match asked.dialect {
            Dialect::OpenAi => "chatcmpl-",
            Dialect::Completions => "cmpl-",
            Dialect::Responses => "resp_",
            Dialect::Anthropic => "msg_",
            Dialect::Gemini => "gen-",
        };
        let id = format!("{kind}{}", self.unique(identity));
        let created = (self.shared.options.now)().nanos().div_euclid(1_000_000_000);
        asked.wish.output = asked.wish.output.or(self.shared.options.output_tokens);
        let mut reply = Reply::plan(&asked, input, id, created);
        let ticket = match self.come(Prompt::Pieces(&asked.blocks), reply.generated()).await {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(self.refused(refusal)),
        };
        self.running.count_input(input.total(), input.read);
        if asked.stream {
            let timing = Arc::clone(&self.shared.options.timing);
            let mut response = response(200, "text/event-stream; charset=utf-8", Body::Whole(None));
            self.name(&mut response, identity);
            let stored = Arc::clone(&self.shared.stored);
            let stream = Stream::new(reply, self.running, timing, self.pace, ticket, stored);
            *response.body_mut() = Body::Stream(Box::new(stream));
            return Ok(Ok(response));
        }
        match ticket {
            Some(ticket) => self.wait(&mut reply, ticket).await?,
            None => self.generate(&reply).await,
        }
        let body = match reply.dialect {
            Dialect::OpenAi => openai::unary(&reply),
            Dialect::Completions => openai::completion(&reply),
            Dialect::Responses => self.shared.stored.add(&reply),
            Dialect::Anthropic => anthropic::unary(&reply),
            Dialect::Gemini => gemini::unary(&reply),
        };
        self.whole(body, fault, identity).await
    }

    /// A place in the engine, if there is one, for a reply of so many tokens.
    async fn come(&self, prompt: Prompt<'_>, output: u64) -> Result<Option<Ticket>, Refusal> {
        let Some(engine) = &self.shared.options.engine else { return Ok(None) };
        engine.come(prompt, output).await.map(Some).map_err(|gone| match gone {
            Gone::Refused(servesim::Outcome::TooLong) => too_long(),
            Gone::Refused(_) => Refusal::new(Kind::RateLimited, "too many requests are waiting"),
            Gone::Failed => Refusal::new(Kind::Server, "the engine has failed"),
        })
    }

    /// Waits until the engine has generated a unary reply.
    async fn wait(&mut self, reply: &mut Reply, mut ticket: Ticket) -> Result<(), BrokenOff> {
        for token in 1..=reply.generated().max(1) {
            if ticket.until(token).await.is_err() {
                self.running.end(Outcome::Broken);
                return Err(BrokenOff);
            }
            if token == 1 {
                reply.begin(&ticket, &self.running);
            }
            self.running.count_generated(reply.generated().min(1));
        }
        self.pace.restart();
        Ok(())
    }

    /// Lets the time pass that a unary reply takes.
    async fn generate(&mut self, reply: &Reply) {
        let timing = &self.shared.options.timing;
        let slowness = if reply.fault == Some(Fault::Slow) { SLOWNESS } else { 1 };
        let ttft = timing.ttft(reply.input.total() - reply.input.read, reply.input.read);
        rest(self.pace.after(ttft.saturating_mul(slowness))).await;
        // A cut reply is generated to its end, as it is the connection that fails.
        for token in 0..reply.generated() {
            let tpot = timing.tpot(self.running.batch()).saturating_mul(slowness);
            if token > 0 && !tpot.is_zero() {
                rest(self.pace.after(tpot)).await;
            }
            self.running.count_generated(1);
        }
    }

    /// Sends a whole body, unless its connection is to fail.
    async fn whole(
        mut self,
        body: String,
        fault: Option<Fault>,
        identity: u64,
    ) -> Result<Answer, BrokenOff> {
        let mut response = match fault {
            Some(Fault::Stall(_)) => {
                rest(self.pace.after(STALL)).await;
                self.running.end(Outcome::Broken);
                return Err(BrokenOff);
            }
            Some(Fault::Cut(after)) => {
                self.running.end(Outcome::Broken);
                let length = HeaderValue::from(body.len());
                let most = body.len().saturating_sub(1);
                let sent = usize::try_from(after).unwrap_or(most).saturating_mul(BYTES_PER_TOKEN);
                let mut beginning = Bytes::from(body);
                beginning.truncate(most.min(sent));
                let body = Body::Beginning(Some(beginning), Default::default());
                let mut response = response(200, "application/json", body);
                response.headers_mut().insert(CONTENT_LENGTH, length);
                response
            }
            _ => {
                self.running.end(Outcome::Completed);
                json(200, body)
            }
        };
        self.name(&mut response, identity);
        Ok(Ok(response))
    }
}

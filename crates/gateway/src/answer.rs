//! Requests to their purpose: calls of models, look-ups, pages, probes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use facts::Api;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{HeaderMap, Request, Response, StatusCode};
use journal::{OnFailure, Status};
use quantity::ExchangeId;

use crate::body::Reply;
use crate::call::Called;
use crate::door::{Purpose, purpose};
use crate::failure::Failure;
use crate::shared::Shared;
use crate::upstream::Connections;

/// How long a failed append keeps the gateway from being called ready.
const UNREADY: Duration = Duration::from_secs(10);

impl Shared {
    /// Answers any request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        upstreams: &Connections,
        request: Request<Incoming>,
    ) -> Response<Reply> {
        let path = request.uri().path().to_owned();
        let unmetered = &self.settings.unmetered;
        let purpose = purpose(unmetered, request.method(), &path).and_then(|purpose| {
            // Probes call by address, and learn nothing that others may not know.
            if !matches!(purpose, Purpose::Health | Purpose::Ready) {
                self.access.check_host(&self.settings, request.headers(), request.uri())?;
            }
            Ok(purpose)
        });
        let (api, answer) = match purpose {
            Ok(Purpose::Call { api, route, path }) => (
                Some(api),
                self.call(upstreams, Called { api, route, path, allowed: None }, request).await,
            ),
            Ok(Purpose::Unmetered { allowed, route, path }) => {
                let called = Called { api: Api::Unmetered, route, path, allowed: Some(allowed) };
                (Some(Api::Unmetered), self.call(upstreams, called, request).await)
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

    fn metrics_page(&self, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        // They tell what is spent.
        self.access.check_admin(headers)?;
        let metrics = self.metrics.text(&self.journal.status());
        Ok(text(StatusCode::OK, metrics + &self.watch.metrics(self.clock.now())))
    }

    fn lookup(&self, id: &str, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        let admin = self.access.is_admin(headers);
        let caller = if admin {
            None
        } else {
            self.access.caller(headers, &self.key, self.clock.now())?.fingerprint
        };
        let id: ExchangeId =
            id.parse().map_err(|error| Failure::bad_request("bad_id", format!("{error}")))?;
        let exchange = self.recent.get(id);
        // Another caller is told nothing, not even that it exists.
        let exchange = exchange.filter(|one| admin || one.admission.caller == caller);
        let Some(exchange) = exchange else {
            let message = "no settled exchange with this id was made with this credential lately; \
                           older ones are in `farthing journal dump`, or pruned";
            return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_exchange", message));
        };
        let mut reply = text(StatusCode::OK, self.watch.lookup(&exchange));
        let json = HeaderValue::from_static("application/json");
        reply.headers_mut().insert(CONTENT_TYPE, json);
        Ok(reply)
    }

    fn page(&self, path: &str, headers: &HeaderMap) -> Result<Response<Reply>, Failure> {
        self.access.check_admin(headers)?;
        if matches!(path, "/" | "/farthing") {
            let mut reply = text(StatusCode::TEMPORARY_REDIRECT, String::new());
            reply.headers_mut().insert(LOCATION, HeaderValue::from_static("/farthing/"));
            return Ok(reply);
        }
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
        let troubles = troubles(&self.journal.status());
        if troubles.is_empty() {
            return text(StatusCode::OK, "ready\n".to_owned());
        }
        let (status, head) = match self.settings.on_ledger_failure {
            OnFailure::Refuse => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            OnFailure::Pass => (StatusCode::OK, "passing without ledger"),
        };
        text(status, troubles.iter().map(|trouble| format!("{head}: {trouble}\n")).collect())
    }
}

/// Why the journal takes no records, and what it lacks for it.
fn troubles(journal: &Status) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(failure) = &journal.failure {
        troubles.push(format!("ledger failed until it is restarted: {}", failure.in_full()));
    }
    if let Some(stalled) = journal.stalled {
        troubles.push(format!("ledger stalled for {} s", stalled.as_secs()));
    }
    let waiting = journal.pending_records;
    // Without records that are tried again, only a new exchange shows whether the disk is well.
    if let Some((ago, error)) = &journal.failing
        && (waiting > 0 || *ago < UNREADY)
    {
        let (ago, error) = (ago.as_secs(), error.in_full());
        troubles.push(format!("ledger's last append failed {ago} s ago: {error}"));
    }
    if !troubles.is_empty() {
        if waiting > 0 {
            troubles.push(format!("{waiting} records of the ledger wait in memory"));
        }
        if let Some(gap) = &journal.untold {
            troubles.push(format!("{} exchanges are not on the ledger", gap.exchanges));
        }
    }
    troubles
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

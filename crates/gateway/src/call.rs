//! A call of a model: read, labelled, admitted, and its reply passed on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use facts::{Admission, Api};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, UPGRADE};
use hyper::http::response::Parts;
use hyper::{Request, Response, StatusCode};
use metering::RequestError;
use quantity::ExchangeId;
use tokio::time::timeout;

use crate::access::to_client;
use crate::attempts::Ask;
use crate::body::{Metered, Reply};
use crate::door::check_query;
use crate::failure::Failure;
use crate::keys::VirtualKey;
use crate::labels::labels;
use crate::limits::Held;
use crate::settings::Unmetered;
use crate::shared::Shared;
use crate::upstream::Connections;

const EXCHANGE: HeaderName = HeaderName::from_static("x-farthing-exchange");
const COST: HeaderName = HeaderName::from_static("x-farthing-cost");
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// How long the body of a request may pause.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// What a client called, by its path.
pub(crate) struct Called<'a> {
    pub(crate) api: Api,
    /// The route that the path names.
    pub(crate) route: Option<&'a str>,
    /// Below the upstream's base URL.
    pub(crate) path: &'a str,
    /// Why it passes without being metered.
    pub(crate) allowed: Option<&'a Unmetered>,
}

impl Shared {
    pub(crate) async fn call(
        self: &Arc<Self>,
        upstreams: &Connections,
        called: Called<'_>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Failure> {
        let Called { api, route: path_route, path, allowed } = called;
        let (head, body) = request.into_parts();
        let caller = self.access.caller(&head.headers, &self.key, self.clock.now())?;
        let key = caller.key.as_deref();
        check_query(api, path, head.uri.query(), &head.headers)?;
        if head.headers.contains_key(CONTENT_ENCODING) {
            let message = "expected a body without `Content-Encoding`";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::new(status, "encoded_body", message));
        }
        if allowed.is_some() && head.headers.contains_key(UPGRADE) {
            return Err(Failure::web_socket());
        }
        if api == Api::OpenAiModels && head.headers.contains_key("anthropic-version") {
            let message = "the list of models is served in OpenAI's API alone";
            return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_path", message));
        }
        let (body, _held) = self.read_body(body).await?;
        let timer = self.clock.timer();
        let admitted_at = timer.now();
        let asked = metering::Request::read_at(api, path, &body, &self.key)
            .map_err(|error| self.refused_by_meter(&error))?;
        if asked.undescribed {
            self.metrics.meter_panicked();
        }
        let labels = labels(&self.settings.route_names, &head.headers, path_route, &asked, key)?;
        let route = self.settings.route(&labels.route);
        if let Some(key) = key {
            check_model(key, &asked)?;
        }
        let targets = match allowed {
            Some(allowed) => self.settings.unmetered_target(allowed, key),
            None => self.settings.targets(api, asked.model.as_deref(), key),
        };
        if targets.is_empty() {
            if let Some(key) = key
                && (allowed.is_some()
                    || !self.settings.targets(api, asked.model.as_deref(), None).is_empty())
            {
                let (name, allowed) = (&key.name, key.upstreams.join("`, `"));
                let message = format!(
                    "the key `{name}` may use `{allowed}`, which does not serve this model in this API"
                );
                let status = StatusCode::FORBIDDEN;
                return Err(Failure::new(status, "upstream_not_allowed", message));
            }
            let message = match &asked.model {
                Some(model) => format!("no upstream that speaks {api} serves the model `{model}`"),
                None => format!("no upstream speaks {api}"),
            };
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_upstream", message));
        }
        let on_failure = route.on_ledger_failure.unwrap_or(self.settings.on_ledger_failure);
        let Some(permit) = self.journal.permit(on_failure) else {
            return Err(Failure::no_permit(&self.journal.status()));
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
            caller: caller.fingerprint,
            key: key.map(|key| key.name.clone()),
            path: allowed.map(|allowed| allowed.path.clone()),
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
            passes_credential: !caller.checked,
            drains: route.drain,
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

    fn refused_by_meter(&self, error: &RequestError) -> Failure {
        if *error == RequestError::Failed {
            self.metrics.meter_panicked();
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Failure::new(status, "meter_failed", error.to_string());
        }
        Failure::bad_request("bad_request", error.to_string())
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
        let mut held = self.bodies.hold();
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
}

/// Whether the key allows what is asked for.
fn check_model(key: &VirtualKey, asked: &metering::Request) -> Result<(), Failure> {
    let message = if !key.may_ask(asked.api, asked.model.as_deref()) {
        let found = asked.model.as_ref().map_or("none".to_owned(), |model| format!("`{model}`"));
        format!("expected one of the models `{}`, found {found}", key.models.join("`, `"))
    } else if !key.models.is_empty() && asked.more_models {
        "expected one model in `model`, found `models`".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("the key `{}` may not ask for this: {message}", key.name);
    Err(Failure::new(StatusCode::FORBIDDEN, "model_not_allowed", message))
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
    let mut reply = Response::new(Reply::Metered(Some(Box::new(metered))));
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = headers;
    reply
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

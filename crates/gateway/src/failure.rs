//! Errors of the gateway's own, in the shape of the caller's API.

use bytes::Bytes;
use facts::Api;
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};
use journal::{JournalError, Status};

/// The code of a page that is refused for want of the admin key.
pub(crate) const BAD_ADMIN_KEY: &str = "bad_admin_key";
/// The code of a refused WebSocket.
pub(crate) const WEB_SOCKET: &str = "websocket_not_metered";

/// A refusal or failure: a status, a stable code and words for the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_path",
            "this path is not served: what is not metered does not pass; expected \
             /v1/chat/completions, /v1/responses, /v1/completions, /v1/embeddings, /v1/models, \
             /v1/messages, /v1/messages/count_tokens, or /v1beta/models/{model} with \
             :generateContent, :streamGenerateContent or :countTokens, each also behind /r/{route}",
        )
    }

    pub(crate) fn bad_route_prefix() -> Self {
        Self::bad_request(
            "bad_route",
            "expected /r/{route}/v1/... (or /v1beta/...) with a route of 1 to 64 letters, digits, `.`, `_` and `-`",
        )
    }

    pub(crate) fn wrong_method(found: &Method, expected: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong_method",
            format!("expected {expected}, found {found}"),
        )
    }

    pub(crate) fn web_socket() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            WEB_SOCKET,
            "WebSockets are not metered yet: expected POST, with `stream` for events",
        )
    }

    pub(crate) fn key_in_query(header: &str) -> Self {
        Self::bad_request(
            "key_in_query",
            format!("expected the key in the header `{header}`: a URL ends up in logs"),
        )
    }

    pub(crate) fn stream_as_array() -> Self {
        Self::bad_request(
            "stream_as_array",
            "expected `?alt=sse`: a stream in the form of a JSON array is not metered",
        )
    }

    pub(crate) fn bad_query() -> Self {
        Self::bad_request(
            "bad_query",
            "expected no query but `alt=sse`, `alt=json`, `pageSize`, `pageToken` and \
             `prettyPrint`, and no field mask: others can take the usage out of the reply",
        )
    }

    /// The journal did not take the records of an exchange.
    pub(crate) fn of_journal(error: &JournalError) -> Self {
        let code = match error {
            JournalError::Stalled { .. } => "ledger_stalled",
            _ => "journal_unavailable",
        };
        let message = format!("the journal takes no records, so nothing is sent on: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The journal admits no exchange: for a reason, or because all its places are taken.
    pub(crate) fn no_permit(journal: &Status) -> Self {
        if let Some(failure) = &journal.failure {
            return Self::of_journal(failure);
        }
        if let Some(stalled) = journal.stalled {
            return Self::of_journal(&JournalError::Stalled { seconds: stalled.as_secs() });
        }
        let message = if journal.permits < journal.permits_limit {
            "too much waits to be written to the journal"
        } else {
            "too many exchanges are under way for the journal"
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "journal_unavailable", message)
    }

    /// The reply, in the error shape of the API, or of OpenAI where none is known.
    pub(crate) fn reply(&self, api: Option<Api>) -> Response<Bytes> {
        let body = match api {
            Some(Api::AnthropicMessages | Api::AnthropicCountTokens) => {
                let kind = match self.status.as_u16() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    400..=499 => "invalid_request_error",
                    503 => "overloaded_error",
                    _ => "api_error",
                };
                let message = format!("farthing: {} ({})", self.message, self.code);
                serde_json::json!({
                    "type": "error",
                    "error": { "type": kind, "message": message },
                })
            }
            Some(Api::GeminiGenerate | Api::GeminiCountTokens | Api::GeminiModels) => {
                let status = match self.status.as_u16() {
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    400..=499 => "INVALID_ARGUMENT",
                    503 => "UNAVAILABLE",
                    504 => "DEADLINE_EXCEEDED",
                    _ => "INTERNAL",
                };
                serde_json::json!({
                    "error": {
                        "code": self.status.as_u16(),
                        "message": format!("farthing: {}", self.message),
                        "status": status,
                        "details": [{
                            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                            "reason": self.code,
                            "domain": "farthing",
                        }],
                    },
                })
            }
            _ => {
                let kind = match self.status.as_u16() {
                    401 => "authentication_error",
                    429 => "rate_limit_exceeded",
                    400..=499 => "invalid_request_error",
                    _ => "server_error",
                };
                let message = format!("farthing: {}", self.message);
                serde_json::json!({
                    "error": { "message": message, "type": kind, "param": null, "code": self.code },
                })
            }
        };
        let mut reply = Response::new(Bytes::from(body.to_string()));
        *reply.status_mut() = self.status;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.code == BAD_ADMIN_KEY {
            // So that a browser asks for it.
            let basic = HeaderValue::from_static("Basic realm=\"farthing\", charset=\"UTF-8\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        reply
    }
}

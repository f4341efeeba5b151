//! Errors as each dialect writes them.

use crate::prompt::Dialect;
use crate::reply::json_string;

/// An error that is answered instead of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    RateLimited,
    Server,
}

impl Kind {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Server => 500,
        }
    }

    const fn openai(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::NotFound => ("invalid_request_error", Some("unknown_url")),
            Self::Invalid | Self::MethodNotAllowed | Self::TooLarge => {
                ("invalid_request_error", None)
            }
            Self::RateLimited => ("requests", Some("rate_limit_exceeded")),
            Self::Server => ("server_error", None),
        }
    }

    const fn anthropic(self) -> &'static str {
        match self {
            Self::Invalid | Self::MethodNotAllowed => "invalid_request_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimited => "rate_limit_error",
            Self::Server => "api_error",
        }
    }

    const fn gemini(self) -> &'static str {
        match self {
            Self::Invalid | Self::MethodNotAllowed | Self::TooLarge => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::RateLimited => "RESOURCE_EXHAUSTED",
            Self::Server => "INTERNAL",
        }
    }
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The error object.
    pub(crate) fn json(&self, dialect: Dialect) -> String {
        let message = json_string(&self.message);
        match dialect {
            Dialect::OpenAi | Dialect::Completions | Dialect::Responses => {
                let (kind, code) = self.kind.openai();
                let code = code.map_or("null".to_owned(), json_string);
                format!(
                    r#"{{"error":{{"message":{message},"type":"{kind}","param":null,"code":{code}}}}}"#
                )
            }
            Dialect::Anthropic => {
                let kind = self.kind.anthropic();
                format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}}}}"#)
            }
            Dialect::Gemini => {
                let (code, status) = (self.kind.status(), self.kind.gemini());
                format!(r#"{{"error":{{"code":{code},"message":{message},"status":"{status}"}}}}"#)
            }
        }
    }

    /// What an error event inside a stream carries.
    pub(crate) fn event(&self, dialect: Dialect) -> String {
        if dialect != Dialect::Responses {
            return self.json(dialect);
        }
        let (kind, code) = self.kind.openai();
        let (code, message) = (code.unwrap_or(kind), json_string(&self.message));
        format!(r#"{{"type":"error","code":"{code}","message":{message},"param":null}}"#)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid(format!("the request could not be read: {error}"))
    }
}

//! Which requests come in: a closed list of methods and paths. Everything else is refused.

use facts::Api;
use hyper::Method;

use crate::failure::Failure;
use crate::labels::is_route;

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A call of a model, with the route its path names and the path to ask of the upstream (below
    /// its base URL).
    Call { api: Api, route: Option<&'a str>, path: &'a str },
    /// The look-up of an exchange.
    Lookup(&'a str),
    /// A page for people, or data of one.
    Page,
    /// Whether the process lives.
    Health,
    /// Whether it can serve.
    Ready,
    /// Metrics for Prometheus.
    Metrics,
}

/// Decides by method and path alone. Paths are compared as they were sent: an encoded one is another
/// path, and unknown.
pub(crate) fn purpose<'a>(method: &Method, path: &'a str) -> Result<Purpose<'a>, Failure> {
    let get = |purpose| {
        if method == Method::GET { Ok(purpose) } else { Err(Failure::wrong_method(method, "GET")) }
    };
    match path {
        "/healthz" => return get(Purpose::Health),
        "/readyz" => return get(Purpose::Ready),
        "/metrics" => return get(Purpose::Metrics),
        _ => {}
    }
    if let Some(id) = path.strip_prefix("/farthing/v1/exchanges/") {
        return get(Purpose::Lookup(id));
    }
    if path.starts_with("/farthing/") || path == "/farthing" || path == "/" {
        return get(Purpose::Page);
    }
    let (route, rest) = match path.strip_prefix("/r/") {
        Some(rest) => match rest.find('/') {
            Some(end) if is_route(&rest[..end]) => (Some(&rest[..end]), &rest[end..]),
            _ => return Err(Failure::bad_route_prefix()),
        },
        None => (None, path),
    };
    let Some(path) = rest.strip_prefix("/v1").filter(|path| path.starts_with('/')) else {
        return Err(Failure::unknown_path());
    };
    let (api, expected) = match path {
        "/chat/completions" => (Api::OpenAiChat, Method::POST),
        "/embeddings" => (Api::OpenAiEmbeddings, Method::POST),
        "/messages" => (Api::AnthropicMessages, Method::POST),
        "/messages/count_tokens" => (Api::AnthropicCountTokens, Method::POST),
        "/models" => (Api::OpenAiModels, Method::GET),
        _ if path.strip_prefix("/models/").is_some_and(is_model) => {
            (Api::OpenAiModels, Method::GET)
        }
        _ => return Err(Failure::unknown_path()),
    };
    if *method != expected {
        return Err(Failure::wrong_method(method, expected.as_str()));
    }
    Ok(Purpose::Call { api, route, path })
}

/// A model's name as one segment of a path, with nothing that a server may read as more than that.
fn is_model(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=128).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_methods_and_paths_come_in() {
        let chat = Purpose::Call { api: Api::OpenAiChat, route: None, path: "/chat/completions" };
        assert_eq!(purpose(&Method::POST, "/v1/chat/completions").unwrap(), chat);
        let routed = Purpose::Call {
            api: Api::AnthropicMessages,
            route: Some("support.v2"),
            path: "/messages",
        };
        assert_eq!(purpose(&Method::POST, "/r/support.v2/v1/messages").unwrap(), routed);
        let model = Purpose::Call { api: Api::OpenAiModels, route: None, path: "/models/gpt-5" };
        assert_eq!(purpose(&Method::GET, "/v1/models/gpt-5").unwrap(), model);
        for path in [
            "/v1/files",
            "/v1/chat/completions/",
            "/v1//chat/completions",
            "/v1/%63hat/completions",
            "/v1/models/../files",
            "/v1/models/a%2Fb",
            "/v2/chat/completions",
            "/r/a b/v1/embeddings",
            "/r/../v1/embeddings",
            "/r//v1/embeddings",
            "/r/x",
            "//evil.example/v1/embeddings",
            "",
        ] {
            assert!(purpose(&Method::POST, path).is_err(), "{path}");
            assert!(purpose(&Method::GET, path).is_err(), "{path}");
        }
        assert!(purpose(&Method::GET, "/v1/chat/completions").is_err());
        assert!(purpose(&Method::POST, "/v1/models").is_err());
    }
}

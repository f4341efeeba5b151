//! Which requests come in: a closed list of methods and paths. Everything else is refused.

use facts::Api;
use hyper::{HeaderMap, Method};

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
    let (api, expected, path) = if let Some(path) = below(rest, "/v1beta") {
        gemini(path).ok_or_else(Failure::unknown_path)?
    } else {
        let path = below(rest, "/v1").ok_or_else(Failure::unknown_path)?;
        let (api, expected) = openai_or_anthropic(path).ok_or_else(Failure::unknown_path)?;
        (api, expected, path)
    };
    if api == Api::OpenAiResponses && method == Method::GET {
        return Err(Failure::web_socket());
    }
    if *method != expected {
        return Err(Failure::wrong_method(method, expected.as_str()));
    }
    Ok(Purpose::Call { api, route, path })
}

fn below<'a>(path: &'a str, version: &str) -> Option<&'a str> {
    path.strip_prefix(version).filter(|path| path.starts_with('/'))
}

fn openai_or_anthropic(path: &str) -> Option<(Api, Method)> {
    Some(match path {
        "/chat/completions" => (Api::OpenAiChat, Method::POST),
        "/completions" => (Api::OpenAiCompletions, Method::POST),
        "/responses" => (Api::OpenAiResponses, Method::POST),
        "/embeddings" => (Api::OpenAiEmbeddings, Method::POST),
        "/messages" => (Api::AnthropicMessages, Method::POST),
        "/messages/count_tokens" => (Api::AnthropicCountTokens, Method::POST),
        "/models" => (Api::OpenAiModels, Method::GET),
        _ if path.strip_prefix("/models/").is_some_and(is_model) => {
            (Api::OpenAiModels, Method::GET)
        }
        _ if path.strip_prefix("/responses/").is_some_and(is_model) => {
            (Api::OpenAiResponseShown, Method::GET)
        }
        _ => return None,
    })
}

fn gemini(path: &str) -> Option<(Api, Method, &str)> {
    let (api, method) = match path.strip_prefix("/models/") {
        None => (path == "/models").then_some((Api::GeminiModels, Method::GET))?,
        Some(name) => match name.split_once(':') {
            None => is_model(name).then_some((Api::GeminiModels, Method::GET))?,
            Some((model, method)) if is_model(model) => match method {
                "generateContent" | "streamGenerateContent" => (Api::GeminiGenerate, Method::POST),
                "countTokens" => (Api::GeminiCountTokens, Method::POST),
                _ => return None,
            },
            Some(_) => return None,
        },
    };
    Some((api, method, path))
}

/// Names of query parameters that carry a key where a server reads them.
const KEYS: &[&str] = &["key", "api_key", "api-key", "apikey", "access_token", "oauth_token"];

/// Refuses queries that carry a key, which would end up in logs, and those that take the usage out of
/// the reply or write it in a form that is not metered. Google's servers read such wishes from every
/// query and from a header; of theirs only those listed here pass.
pub(crate) fn check_query(
    api: Api,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let is_gemini = matches!(api, Api::GeminiGenerate | Api::GeminiCountTokens | Api::GeminiModels);
    let mut form = None;
    for parameter in query.unwrap_or_default().split('&').filter(|one| !one.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = decoded(name);
        let name = name.trim_start_matches('$');
        if KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)) {
            let header = match api {
                _ if is_gemini => "x-goog-api-key",
                Api::AnthropicMessages | Api::AnthropicCountTokens => "x-api-key",
                _ => "authorization",
            };
            return Err(Failure::key_in_query(header));
        }
        match (is_gemini, name) {
            (false, _) | (true, "prettyPrint" | "pageSize" | "pageToken") => {}
            (true, "alt") if form.is_none() && matches!(value, "sse" | "json") => {
                form = Some(value);
            }
            (true, _) => return Err(Failure::bad_query()),
        }
    }
    if path.ends_with(":streamGenerateContent") && form != Some("sse") {
        return Err(Failure::stream_as_array());
    }
    if is_gemini && headers.contains_key("x-goog-fieldmask") {
        return Err(Failure::bad_query());
    }
    Ok(())
}

/// A name with its percent signs resolved; what cannot be read stays as it is.
fn decoded(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(resolved) => {
                out.push(resolved);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
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
        for (method, path, api) in [
            (Method::POST, "/v1/completions", Api::OpenAiCompletions),
            (Method::POST, "/v1/responses", Api::OpenAiResponses),
            (Method::GET, "/v1/responses/resp_1", Api::OpenAiResponseShown),
            (Method::GET, "/v1beta/models", Api::GeminiModels),
            (Method::GET, "/v1beta/models/gemini-3", Api::GeminiModels),
            (Method::POST, "/v1beta/models/gemini-3:generateContent", Api::GeminiGenerate),
            (Method::POST, "/v1beta/models/gemini-3:streamGenerateContent", Api::GeminiGenerate),
            (Method::POST, "/v1beta/models/gemini-3:countTokens", Api::GeminiCountTokens),
        ] {
            let rest = path.trim_start_matches("/v1beta").trim_start_matches("/v1");
            let call = Purpose::Call { api, route: None, path: rest };
            assert_eq!(purpose(&method, path).unwrap(), call);
            let routed = format!("/r/x{path}");
            let call = Purpose::Call { api, route: Some("x"), path: rest };
            assert_eq!(purpose(&method, &routed).unwrap(), call);
            let other = if method == Method::GET { Method::POST } else { Method::GET };
            assert!(purpose(&other, path).is_err(), "{path}");
            assert!(purpose(&Method::DELETE, path).is_err(), "{path}");
        }
        for path in [
            "/v1/responses/resp_1/cancel",
            "/v1/responses/resp_1/input_items",
            "/v1/responses/",
            "/v1/realtime",
            "/v1/models/gemini-3:generateContent/x",
            "/v1beta/models/gemini-3:embedContent",
            "/v1beta/models/gemini-3:generateContent:countTokens",
            "/v1beta/models/:generateContent",
            "/v1beta/models/../cachedContents",
            "/v1beta/models/a%2Fb:generateContent",
            "/v1beta/cachedContents",
            "/v1beta/tunedModels/x:generateContent",
            "/v1betamodels",
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

    #[test]
    fn a_websocket_is_refused_in_so_many_words() {
        let failure = purpose(&Method::GET, "/v1/responses").unwrap_err();
        assert_eq!(failure.code, "websocket_not_metered");
    }

    #[test]
    fn queries_that_carry_a_key_or_hide_the_usage_are_refused() {
        let gemini = "/models/m:generateContent";
        let stream = "/models/m:streamGenerateContent";
        let none = HeaderMap::new();
        let check =
            |api, path, query| check_query(api, path, query, &none).map_err(|failure| failure.code);
        for query in ["key=AIza", "alt=sse&k%65y=AIza", "KEY", "$key=1", "%24access_token=x"] {
            let refused = check(Api::GeminiGenerate, gemini, Some(query));
            assert_eq!(refused, Err("key_in_query"), "{query}");
            let refused = check(Api::OpenAiChat, "/chat/completions", Some(query));
            assert_eq!(refused, Err("key_in_query"), "{query}");
        }
        for query in [
            "fields=candidates",
            "alt=proto",
            "%66ields=x",
            "callback=f",
            "$fields=x",
            "alt=sse&alt=json",
        ] {
            assert_eq!(
                check(Api::GeminiGenerate, gemini, Some(query)),
                Err("bad_query"),
                "{query}"
            );
        }
        for query in [None, Some("alt=json"), Some("prettyPrint=true")] {
            assert_eq!(check(Api::GeminiGenerate, gemini, query), Ok(()));
            assert_eq!(check(Api::GeminiGenerate, stream, query), Err("stream_as_array"));
        }
        assert_eq!(check(Api::GeminiGenerate, stream, Some("alt=sse")), Ok(()));
        assert_eq!(check(Api::OpenAiChat, "/chat/completions", Some("api-version=2")), Ok(()));
        let mut masked = HeaderMap::new();
        masked.insert("x-goog-fieldmask", "candidates".parse().unwrap());
        assert!(check_query(Api::GeminiGenerate, gemini, None, &masked).is_err());
    }
}

//! Which requests come in: a closed list of methods and paths. Everything else is refused.

use facts::Api;
use hyper::{HeaderMap, Method};

use crate::failure::{Failure, WEB_SOCKET};
use crate::labels::is_route;
use crate::settings::{SettingsError, Unmetered};

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A call of a model, with the route its path names and the path to ask of the upstream (below
    /// its base URL).
    Call { api: Api, route: Option<&'a str>, path: &'a str },
    /// The same of a path that passes without being metered.
    Unmetered { allowed: &'a Unmetered, route: Option<&'a str>, path: &'a str },
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
pub(crate) fn purpose<'a>(
    unmetered: &'a [Unmetered],
    method: &Method,
    path: &'a str,
) -> Result<Purpose<'a>, Failure> {
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
    match call(method, rest) {
        Ok((api, path)) => Ok(Purpose::Call { api, route, path }),
        Err(failure) => {
            let allowed = unmetered.iter().find(|one| one.method == *method && admits(one, rest));
            let path = below(rest, "/v1beta").or(below(rest, "/v1"));
            match allowed.zip(path).filter(|_| failure.code != WEB_SOCKET) {
                Some((allowed, path)) => Ok(Purpose::Unmetered { allowed, route, path }),
                None => Err(failure),
            }
        }
    }
}

/// The API of a call, and its path below the upstream's base URL.
fn call<'a>(method: &Method, rest: &'a str) -> Result<(Api, &'a str), Failure> {
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
    Ok((api, path))
}

/// Whether a path that passes unmetered is this one.
fn admits(unmetered: &Unmetered, path: &str) -> bool {
    match unmetered.path.strip_suffix("/*") {
        Some(prefix) => {
            let last = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
            last.is_some_and(is_segment)
        }
        None => unmetered.path == path,
    }
}

/// Checks a path that is to pass unmetered: it must not be more than it seems, nor be metered already.
pub(crate) fn check_unmetered(index: usize, unmetered: &Unmetered) -> Result<(), SettingsError> {
    let Unmetered { method, path, .. } = unmetered;
    if ![Method::GET, Method::POST, Method::DELETE].contains(method) {
        return Err(SettingsError::BadMethod(index, method.clone()));
    }
    let sample = match path.strip_suffix("/*") {
        Some(prefix) => format!("{prefix}/x"),
        None => path.clone(),
    };
    let rest = below(&sample, "/v1beta").or(below(&sample, "/v1"));
    if !rest.is_some_and(|rest| rest[1..].split('/').all(is_segment)) {
        return Err(SettingsError::BadPath(index, path.clone()));
    }
    match call(method, &sample) {
        Err(failure) if failure.code != WEB_SOCKET => Ok(()),
        Ok(_) | Err(_) => Err(SettingsError::NotUnmetered(index, format!("{method} {path}"))),
    }
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
        _ if path.strip_prefix("/models/").is_some_and(is_segment) => {
            (Api::OpenAiModels, Method::GET)
        }
        _ if path.strip_prefix("/responses/").is_some_and(is_segment) => {
            (Api::OpenAiResponseShown, Method::GET)
        }
        _ => return None,
    })
}

fn gemini(path: &str) -> Option<(Api, Method, &str)> {
    let (api, method) = match path.strip_prefix("/models/") {
        None => (path == "/models").then_some((Api::GeminiModels, Method::GET))?,
        Some(name) => match name.split_once(':') {
            None => is_segment(name).then_some((Api::GeminiModels, Method::GET))?,
            Some((model, method)) if is_segment(model) => match method {
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

/// A model's name, or an id, as one segment of a path, with nothing that a server may read as more than
/// that.
fn is_segment(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=128).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_methods_and_paths_come_in() {
        let chat = Purpose::Call { api: Api::OpenAiChat, route: None, path: "/chat/completions" };
        assert_eq!(purpose(&[], &Method::POST, "/v1/chat/completions").unwrap(), chat);
        let routed = Purpose::Call {
            api: Api::AnthropicMessages,
            route: Some("support.v2"),
            path: "/messages",
        };
        assert_eq!(purpose(&[], &Method::POST, "/r/support.v2/v1/messages").unwrap(), routed);
        let model = Purpose::Call { api: Api::OpenAiModels, route: None, path: "/models/gpt-5" };
        assert_eq!(purpose(&[], &Method::GET, "/v1/models/gpt-5").unwrap(), model);
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
            assert_eq!(purpose(&[], &method, path).unwrap(), call);
            let routed = format!("/r/x{path}");
            let call = Purpose::Call { api, route: Some("x"), path: rest };
            assert_eq!(purpose(&[], &method, &routed).unwrap(), call);
            let other = if method == Method::GET { Method::POST } else { Method::GET };
            assert!(purpose(&[], &other, path).is_err(), "{path}");
            assert!(purpose(&[], &Method::DELETE, path).is_err(), "{path}");
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
            assert!(purpose(&[], &Method::POST, path).is_err(), "{path}");
            assert!(purpose(&[], &Method::GET, path).is_err(), "{path}");
        }
        assert!(purpose(&[], &Method::GET, "/v1/chat/completions").is_err());
        assert!(purpose(&[], &Method::POST, "/v1/models").is_err());
    }

    #[test]
    fn paths_that_are_listed_pass_unmetered_and_nothing_beside_them() {
        let allow =
            |method: Method, path: &str| Unmetered { method, path: path.to_owned(), upstream: 0 };
        let listed = [
            allow(Method::POST, "/v1/images/generations"),
            allow(Method::GET, "/v1/files/*"),
            allow(Method::DELETE, "/v1/responses/*"),
            allow(Method::GET, "/v1/*"),
        ];
        for (index, allowed) in listed.iter().enumerate() {
            check_unmetered(index, allowed).unwrap();
        }
        let of = |method: Method, path| purpose(&listed, &method, path).ok();
        let passes = |index: usize, route, path| {
            Some(Purpose::Unmetered { allowed: &listed[index], route, path })
        };
        let images = "/v1/images/generations";
        assert_eq!(of(Method::POST, images), passes(0, None, "/images/generations"));
        let routed = of(Method::POST, "/r/ads/v1/images/generations");
        assert_eq!(routed, passes(0, Some("ads"), "/images/generations"));
        assert_eq!(of(Method::GET, "/v1/files/file-1"), passes(1, None, "/files/file-1"));
        assert_eq!(of(Method::DELETE, "/v1/responses/r"), passes(2, None, "/responses/r"));
        // What is metered stays so, and a WebSocket refused.
        let shown = Purpose::Call { api: Api::OpenAiModels, route: None, path: "/models" };
        assert_eq!(of(Method::GET, "/v1/models"), Some(shown));
        assert_eq!(of(Method::GET, "/v1/responses"), None);
        for (method, path) in [
            (Method::GET, images),
            (Method::PUT, images),
            (Method::POST, "/v1/images/generations/"),
            (Method::POST, "/v1/images/generations/x"),
            (Method::POST, "/v1/images%2Fgenerations"),
            (Method::POST, "/v1beta/images/generations"),
            (Method::GET, "/v1/files/a/content"),
            (Method::GET, "/v1/files/.."),
            (Method::GET, "/v1/files/a%2Fb"),
            (Method::GET, "/v1/files/"),
            (Method::DELETE, "/v1/files/a"),
            (Method::DELETE, "/farthing/v1/exchanges/x"),
        ] {
            assert_eq!(of(method, path), None, "{path}");
        }
    }

    #[test]
    fn what_is_listed_as_unmetered_must_be_plain_and_not_metered() {
        let refused = |method: &Method, path: &str| {
            let unmetered =
                Unmetered { method: method.clone(), path: path.to_owned(), upstream: 0 };
            check_unmetered(3, &unmetered).unwrap_err().to_string()
        };
        for path in [
            "",
            "/",
            "v1/files",
            "/v1",
            "/v1/",
            "/v2/files",
            "/v1/../files",
            "/v1//files",
            "/v1/a%20b",
            "/v1/files/",
            "/v1/*/content",
            "/v1/f*",
            "/v1/files?x=1",
            "/farthing/",
            "/*",
        ] {
            let error = refused(&Method::GET, path);
            assert!(error.starts_with("invalid `unmetered[3].path`: expected a path"), "{error}");
        }
        for (method, path) in [
            (Method::POST, "/v1/chat/completions"),
            (Method::GET, "/v1/models/*"),
            (Method::GET, "/v1/responses"),
            (Method::POST, "/v1beta/models/m:generateContent"),
        ] {
            assert!(refused(&method, path).starts_with("invalid `unmetered[3]`: "), "{path}");
        }
        assert!(refused(&Method::PATCH, "/v1/files").contains("expected GET, POST or DELETE"));
    }

    #[test]
    fn a_websocket_is_refused_in_so_many_words() {
        let failure = purpose(&[], &Method::GET, "/v1/responses").unwrap_err();
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

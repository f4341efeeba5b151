//! Who may come in, and which headers may travel on.

use facts::Api;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName,
    HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode, Uri};
use metering::Convention;
use quantity::{Fingerprint, HashKey};

use crate::failure::Failure;
use crate::settings::{Settings, Upstream};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Refuses requests that were not meant for us. Loopback is no authentication: a web page in the
/// user's browser reaches it too, by DNS rebinding or across origins, and gives itself away by its
/// `Host` or `Origin`.
pub(crate) fn check_host(
    settings: &Settings,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), Failure> {
    let refused = |what: &str| {
        let message = format!("this gateway is not known by that {what}; see `allowed_hosts`");
        Failure::new(StatusCode::FORBIDDEN, "foreign_host", message)
    };
    if uri.authority().is_some() {
        return Err(refused("name: expected a path, found a whole URL"));
    }
    // Who must present a key is no web page that was lured here; and balancers call by any name.
    if settings.access_key.is_some() && settings.allowed_hosts.is_empty() {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or("");
    if hosts.next().is_some() || !is_ours(settings, host) {
        return Err(refused("`Host`"));
    }
    match headers.get(ORIGIN) {
        None => Ok(()),
        Some(origin) => {
            let origin = origin.to_str().unwrap_or("");
            let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            if authority.is_some_and(|authority| is_ours(settings, authority)) {
                Ok(())
            } else {
                Err(refused("`Origin`"))
            }
        }
    }
}

fn is_ours(settings: &Settings, authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let listening = settings.listen.ip();
    loopback && listening.is_loopback()
        || !listening.is_unspecified() && host.trim_matches(['[', ']']) == listening.to_string()
        || settings.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// The credential that a client presents.
fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION).or_else(|| headers.get(API_KEY));
    let value = value.or_else(|| headers.get(GOOGLE_KEY))?.as_bytes();
    let bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    Some(if bearer { &value[7..] } else { value })
}

/// The fingerprint of the caller's credential, after checking it where a key is asked for.
pub(crate) fn caller(
    settings: &Settings,
    headers: &HeaderMap,
    key: &HashKey,
) -> Result<Option<Fingerprint>, Failure> {
    let credential = credential(headers);
    if let Some(expected) = &settings.access_key {
        // Fingerprints under a secret key are compared, so that time tells nothing of the key.
        let expected = key.fingerprint(&[b"access", expected.as_bytes()]);
        if credential.map(|found| key.fingerprint(&[b"access", found])) != Some(expected) {
            let message = "expected the gateway's access key as a bearer token, `x-api-key` or \
                           `x-goog-api-key`";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "bad_access_key", message));
        }
    }
    Ok(credential.map(|credential| key.fingerprint(&[b"caller", credential])))
}

/// Headers of one connection, which end here in both directions.
fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    let fixed = [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TE,
        &TRAILER,
        &TRANSFER_ENCODING,
        &UPGRADE,
        &EXPECT,
    ];
    // `Connection` names further ones, and may stand more than once.
    let mut listed = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = |listed: &str| {
        listed.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(name.as_str()))
    };
    fixed.contains(&name) || listed.any(named)
}

/// The headers in which clients of an API present their key. Any other credential is not for its
/// upstream, whoever left it there.
fn credentials_of(api: Api) -> &'static [&'static str] {
    match api {
        Api::AnthropicMessages | Api::AnthropicCountTokens => &["x-api-key", "authorization"],
        Api::GeminiGenerate | Api::GeminiCountTokens | Api::GeminiModels => {
            &["x-goog-api-key", "authorization"]
        }
        Api::OpenAiChat
        | Api::OpenAiEmbeddings
        | Api::OpenAiModels
        | Api::OpenAiResponses
        | Api::OpenAiResponseShown
        | Api::OpenAiCompletions => &["authorization"],
    }
}

/// The headers of the request to an upstream: the client's, but for those of its connection, its
/// browser, its network, ours, and its credentials where they are not the upstream's to see.
pub(crate) fn to_upstream(
    settings: &Settings,
    client: &HeaderMap,
    upstream: &Upstream,
    api: Api,
) -> HeaderMap {
    const CREDENTIALS: &[&str] = &["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    const NETWORK: &[&str] = &["forwarded", "via", "x-real-ip"];
    let own_key = upstream.key.is_some() || settings.access_key.is_some();
    let passes: &[&str] = if own_key { &[] } else { credentials_of(api) };
    let mut headers = HeaderMap::with_capacity(client.len() + 2);
    for (name, value) in client {
        let ends_here = is_hop_by_hop(name, client)
            || [&HOST, &CONTENT_LENGTH, &COOKIE, &ORIGIN, &REFERER, &ACCEPT_ENCODING]
                .contains(&name)
            || NETWORK.contains(&name.as_str())
            || name.as_str().starts_with("x-farthing-")
            || name.as_str().starts_with("x-forwarded-")
            // The door has judged the method that was sent.
            || name.as_str().starts_with("x-http-method")
            || CREDENTIALS.contains(&name.as_str()) && !passes.contains(&name.as_str());
        if !ends_here {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = &upstream.key {
        let (name, text) = match upstream.convention {
            Convention::Anthropic => (API_KEY, key.clone()),
            Convention::Gemini => (GOOGLE_KEY, key.clone()),
            _ => (AUTHORIZATION, format!("Bearer {key}")),
        };
        let mut value = HeaderValue::from_str(&text).expect("checked with the settings");
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers
}

/// The headers of the reply to the client: the upstream's, but for those of its connection, its
/// cookies, and any that pretend to be ours.
pub(crate) fn to_client(upstream: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(upstream.len() + 2);
    for (name, value) in upstream {
        let ends_here = is_hop_by_hop(name, upstream)
            || name == SET_COOKIE
            || name.as_str().starts_with("x-farthing-");
        if !ends_here {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

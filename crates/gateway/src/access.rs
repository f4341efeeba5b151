//! Who may come in, and which headers may travel on.

use std::sync::Arc;

use facts::Api;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName,
    HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode, Uri};
use metering::Convention;
use quantity::{Fingerprint, HashKey, UnixTime};

use crate::failure::{BAD_ADMIN_KEY, Failure};
use crate::keys::{KeyHash, KeyRing, KeyState, Keys, VirtualKey, is_virtual};
use crate::settings::{Settings, Upstream};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Which credentials open what.
pub(crate) struct Access {
    /// The key without limits.
    metering: Option<KeyHash>,
    admin: Option<KeyHash>,
    keys: Arc<KeyRing>,
}

/// Who calls.
pub(crate) struct Caller {
    /// Of the credential.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The virtual key that let it in.
    pub(crate) key: Option<Arc<VirtualKey>>,
    /// Whether the credential is a key of ours, which is nobody else's to see.
    pub(crate) checked: bool,
}

impl Access {
    pub(crate) fn new(settings: &Settings) -> Self {
        let hash = |key: &Option<String>| key.as_ref().map(|key| KeyHash::of(key.as_bytes()));
        Self {
            metering: hash(&settings.access_key),
            admin: hash(&settings.admin_key),
            keys: Arc::clone(&settings.keys),
        }
    }

    /// Refuses requests that were not meant for us. Loopback is no authentication: a web page in the
    /// user's browser reaches it too, by DNS rebinding or across origins, and gives itself away by its
    /// `Host` or `Origin`.
    pub(crate) fn check_host(
        &self,
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
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or("");
        if hosts.next().is_some() {
            // Whoever stands before us may have judged the other one.
            return Err(refused("`Host`: expected one, found two"));
        }
        // Who must present a key is no web page that was lured here; and balancers call by any name.
        if self.asks_for_key(&self.keys.get()) && settings.allowed_hosts.is_empty() {
            return Ok(());
        }
        if !is_ours(settings, host) {
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

    fn asks_for_key(&self, keys: &Keys) -> bool {
        self.metering.is_some() || !keys.is_empty()
    }

    /// Who calls, after checking the credential where a key is asked for.
    pub(crate) fn caller(
        &self,
        headers: &HeaderMap,
        key: &HashKey,
        now: UnixTime,
    ) -> Result<Caller, Failure> {
        let refused = |code, message| Err(Failure::new(StatusCode::UNAUTHORIZED, code, message));
        if self.is_admin(headers) {
            let message = "the admin key opens pages and spends nothing: expected a key for calls";
            return Err(Failure::new(StatusCode::FORBIDDEN, "admin_key", message));
        }
        let keys = self.keys.get();
        let credential = credential(headers);
        let fingerprint = credential.map(|credential| key.fingerprint(&[b"caller", credential]));
        if !self.asks_for_key(&keys) {
            // Were it passed on, a stranger would have a key of ours.
            if credentials(headers).any(is_virtual) {
                return refused("bad_access_key", "found a virtual key, and this gateway has none");
            }
            return Ok(Caller { fingerprint, key: None, checked: false });
        }
        let credential = credential.unwrap_or_default();
        // Both are looked for whichever is presented.
        let found = keys.find(credential).cloned();
        let whole = self.metering.is_some_and(|expected| KeyHash::of(credential) == expected);
        match found.as_ref().map(|key| key.state(now)) {
            None if !whole => refused(
                "bad_access_key",
                "expected a key of this gateway as a bearer token, `x-api-key` or `x-goog-api-key`",
            ),
            Some(KeyState::Revoked) => refused("key_revoked", "this key was revoked"),
            Some(KeyState::Expired) => refused("key_expired", "this key has expired"),
            None | Some(KeyState::Active) => Ok(Caller { fingerprint, key: found, checked: true }),
        }
    }

    /// Whether the admin key is presented, in whatever way.
    pub(crate) fn is_admin(&self, headers: &HeaderMap) -> bool {
        let is_it = |found: &[u8]| Some(KeyHash::of(found)) == self.admin;
        let of_basic = || headers.get(AUTHORIZATION).and_then(basic_password);
        self.admin.is_some()
            && (credentials(headers).any(is_it) || of_basic().is_some_and(|p| is_it(&p)))
    }

    /// Lets in who may see what is spent: whoever has the admin key; anybody where no key is
    /// configured at all, for that is a gateway on a user's own machine.
    pub(crate) fn check_admin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if self.admin.is_none() && self.asks_for_key(&self.keys.get()) {
            let message = "what was spent is shown to whoever has the admin key, and there is none: \
                           set `admin_key_env` or `admin_key_file`";
            return Err(Failure::new(StatusCode::FORBIDDEN, "no_admin_key", message));
        }
        if self.admin.is_some() && !self.is_admin(headers) {
            let message =
                "expected the admin key, as a bearer token or as the password of any user";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, BAD_ADMIN_KEY, message));
        }
        Ok(())
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
    credentials(headers).next()
}

/// All that it presents, for one provider or another.
fn credentials(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = [&AUTHORIZATION, &API_KEY, &GOOGLE_KEY].map(|name| headers.get_all(name).iter());
    values.into_iter().flatten().map(|value| after_scheme(value, b"bearer "))
}

/// What stands after the scheme, or all of it where it is another one.
fn after_scheme<'a>(value: &'a HeaderValue, scheme: &[u8]) -> &'a [u8] {
    let value = value.as_bytes();
    let found = value.get(..scheme.len()).is_some_and(|found| found.eq_ignore_ascii_case(scheme));
    if found { &value[scheme.len()..] } else { value }
}

/// The password of HTTP Basic; the user may be anyone.
fn basic_password(value: &HeaderValue) -> Option<Vec<u8>> {
    let encoded = after_scheme(value, b"basic ");
    let decoded = (encoded.len() < value.len()).then(|| from_base64(encoded))??;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

/// The bytes of a text in base 64, padded or not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bits = 0_u32;
    let mut held = 0;
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for byte in text.trim_ascii().iter().take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held).to_le_bytes()[0]);
        }
    }
    Some(out)
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
fn credentials_of(api: Api, upstream: &Upstream) -> &'static [&'static str] {
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
        Api::Unmetered => match upstream.convention {
            Convention::Anthropic => &["x-api-key", "authorization"],
            Convention::Gemini => &["x-goog-api-key", "authorization"],
            _ => &["authorization"],
        },
    }
}

/// The headers of the request to an upstream: the client's, but for those of its connection, its
/// browser, its network, ours, and its credentials where they are not the upstream's to see.
pub(crate) fn to_upstream(
    passes_credential: bool,
    client: &HeaderMap,
    upstream: &Upstream,
    api: Api,
) -> HeaderMap {
    const CREDENTIALS: &[&str] = &["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    const NETWORK: &[&str] = &["forwarded", "via", "x-real-ip"];
    let passes = passes_credential && upstream.key.is_none();
    let passes: &[&str] = if passes { credentials_of(api, upstream) } else { &[] };
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
/// cookies, leave to be read by pages of other origins, and any that pretend to be ours.
pub(crate) fn to_client(upstream: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(upstream.len() + 2);
    for (name, value) in upstream {
        let ends_here = is_hop_by_hop(name, upstream)
            || name == SET_COOKIE
            || name.as_str().starts_with("access-control-")
            || name.as_str().starts_with("x-farthing-");
        if !ends_here {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_basic_is_read_whoever_the_user_is() {
        let read = |text: &str| basic_password(&HeaderValue::from_str(text).unwrap());
        // admin:s3:cret, and :x
        assert_eq!(read("Basic YWRtaW46czM6Y3JldA==").unwrap(), b"s3:cret");
        assert_eq!(read("basic YWRtaW46czM6Y3JldA").unwrap(), b"s3:cret");
        assert_eq!(read("Basic Ong=").unwrap(), b"x");
        for text in ["Basic ", "Basic YWRtaW4=", "Basic ?", "YWRtaW46czM6Y3JldA==", "Bearer Ong="] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

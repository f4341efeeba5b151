//! Connections to upstreams.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::settings::Upstream;

/// A provider that takes longer to accept a connection is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the 60 seconds after which common servers close an idle connection, so that a request seldom
/// meets a dying one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept to each upstream.
const MAX_IDLE: usize = 256;

/// A pool of connections. Redirects are not followed.
#[derive(Clone)]
pub(crate) struct Connections(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Connections {
    pub(crate) fn new() -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("ring has the protocol versions that rustls speaks")
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Self(client)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        self.0.request(request).await
    }
}

/// The upstream's address for a path below its base URL, with the client's query.
pub(crate) fn address(upstream: &Upstream, path: &str, query: Option<&str>) -> Option<Uri> {
    let base = &upstream.base_url;
    let prefix = base.path().trim_end_matches('/');
    let path_and_query = match query {
        Some(query) => format!("{prefix}{path}?{query}"),
        None => format!("{prefix}{path}"),
    };
    Uri::builder()
        .scheme(base.scheme()?.clone())
        .authority(base.authority()?.clone())
        .path_and_query(path_and_query)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metering::Convention;

    #[test]
    fn an_address_keeps_the_upstreams_host() {
        let upstream = Upstream {
            name: "u".to_owned(),
            convention: Convention::OpenAi,
            base_url: Uri::from_static("https://api.example/base/v1"),
            key: None,
            provider: None,
            hourly_cost: None,
        };
        let address = |query| address(&upstream, "/messages", query).unwrap().to_string();
        assert_eq!(address(None), "https://api.example/base/v1/messages");
        assert_eq!(address(Some("beta=true")), "https://api.example/base/v1/messages?beta=true");
    }
}

//! Connections to upstreams.
//!
//! An exchange drives its own connection: it polls the connection and the body in one task, so that
//! all chunks that came with one read go out with one write, without waking a second task for each.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::settings::Upstream;

/// How long a connection is kept idle at most: below the 60 seconds after which common servers close
/// one, so that a request seldom meets a dying one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same without TLS, where a model server of one's own is likely: uvicorn, and so vLLM and SGLang,
/// closes after 5 seconds and does not say so. A new connection costs little there.
const IDLE_TIMEOUT_PLAIN: Duration = Duration::from_secs(4);
/// What a connection is given up before its server said it would close it.
const MARGIN: Duration = Duration::from_secs(1);
/// What a server tells of how long it keeps a connection; not a standard, but widely sent.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Idle connections kept to each upstream.
const MAX_IDLE: usize = 256;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where a connection leads.
type Place = (Scheme, Authority);

/// A connection and the task that keeps it going, which here is whoever uses it.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<Box<dyn Io>>, Full<Bytes>>,
    closed: bool,
}

struct Idle {
    link: Link,
    until: Instant,
}

/// A pool of connections of one thread. Redirects are not followed.
#[derive(Clone)]
pub(crate) struct Connections {
    idle: Arc<Mutex<HashMap<Place, Vec<Idle>>>>,
    tls: TlsConnector,
}

/// Why an upstream gave no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// It broke off after something was sent.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
}

/// The body of an upstream's reply, with the connection that it comes by.
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
    /// `None` once the connection went back to the pool.
    link: Option<Link>,
    home: Connections,
    place: Place,
    /// How long the connection may be kept idle afterwards.
    keep: Duration,
}

impl Link {
    /// Lets the connection read and write what it can.
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.closed && Pin::new(&mut self.connection).poll(context).is_ready() {
            self.closed = true;
        }
    }

    /// Whether it can take a request now.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.closed && self.sender.is_ready()
    }
}

impl Connections {
    pub(crate) fn new() -> Self {
        let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the protocol versions that rustls speaks")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { idle: Arc::default(), tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Sends a request and waits for the head of the reply. Only a request of which nothing was sent,
    /// because a kept connection had died, is sent again.
    pub(crate) async fn send(
        &self,
        method: Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
        connect_limit: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(SendError::Connect(io::ErrorKind::InvalidInput.into()));
        };
        let place = (scheme.clone(), authority.clone());
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(
            HOST,
            host.map_err(|_| SendError::Connect(io::ErrorKind::InvalidInput.into()))?,
        );
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        *request.headers_mut() = headers;
        loop {
            let kept = self.take(&place);
            let was_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => timeout(connect_limit, self.connect(&place))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(SendError::Connect)?,
            };
            let sent = {
                let mut sent = pin!(link.sender.try_send_request(request));
                let (connection, closed) = (&mut link.connection, &mut link.closed);
                poll_fn(|context| {
                    if !*closed && Pin::new(&mut *connection).poll(context).is_ready() {
                        *closed = true;
                    }
                    sent.as_mut().poll(context)
                })
                .await
            };
            match sent {
                Ok(reply) => {
                    let (home, link) = (self.clone(), Some(link));
                    let keep = kept_idle(&place.0, reply.headers());
                    return Ok(reply.map(|body| Incoming { body, link, home, place, keep }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_kept => request = unsent,
                    Some(_) | None => return Err(SendError::Broken(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, (scheme, authority): &Place) -> io::Result<Link> {
        let secure = *scheme == Scheme::HTTPS;
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Io> = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Box::new(self.tls.connect(name, stream).await?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut link = Link { sender, connection, closed: false };
        // The first poll makes it ready for a request.
        poll_fn(|context| {
            link.drive(context);
            Poll::Ready(())
        })
        .await;
        Ok(link)
    }

    fn take(&self, place: &Place) -> Option<Link> {
        let mut idle = self.idle();
        let kept = idle.get_mut(place)?;
        let now = Instant::now();
        while let Some(Idle { mut link, until }) = kept.pop() {
            if now < until && link.is_ready() {
                return Some(link);
            }
        }
        None
    }

    fn put_back(&self, place: &Place, mut link: Link, keep: Duration) {
        if keep.is_zero() || !link.is_ready() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle();
        let kept = idle.entry(place.clone()).or_default();
        // The oldest stand first.
        let expired = kept.iter().take_while(|idle| idle.until <= now).count();
        kept.drain(..expired);
        if kept.len() < MAX_IDLE {
            kept.push(Idle { link, until: now + keep });
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Place, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    /// The next chunk; `None` at the end.
    pub(crate) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        // What the body asks for in the first round, the connection brings in the second.
        for _ in 0..2 {
            if let Some(link) = &mut self.link {
                link.drive(context);
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers have no place in HTTP/1.1 as clients use it.
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    if let Some(link) = self.link.take() {
                        self.home.put_back(&self.place, link, self.keep);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

/// How long a connection is kept idle after this reply: less than its server will keep it, if
/// `Keep-Alive: timeout=5` tells.
fn kept_idle(scheme: &Scheme, headers: &HeaderMap) -> Duration {
    let most = if *scheme == Scheme::HTTPS { IDLE_TIMEOUT } else { IDLE_TIMEOUT_PLAIN };
    let Some(told) = headers.get(KEEP_ALIVE).and_then(|value| value.to_str().ok()) else {
        return most;
    };
    let timeout = told.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then_some(seconds.trim())
    });
    let timeout = timeout.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    timeout.map_or(most, |timeout| timeout.saturating_sub(MARGIN).min(most))
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
    use crate::settings::Limits;
    use metering::Convention;

    #[test]
    fn a_connection_is_given_up_before_its_server_closes_it() {
        let kept = |scheme: &Scheme, told: Option<&'static str>| {
            let told = told.map(|told| (KEEP_ALIVE, HeaderValue::from_static(told)));
            kept_idle(scheme, &told.into_iter().collect()).as_secs()
        };
        let (plain, secure) = (&Scheme::HTTP, &Scheme::HTTPS);
        assert_eq!((kept(plain, None), kept(secure, None)), (4, 30));
        assert_eq!(kept(secure, Some("timeout=5, max=100")), 4);
        assert_eq!(kept(secure, Some("max=100, Timeout = 5")), 4);
        assert_eq!(kept(secure, Some("timeout=1")), 0);
        assert_eq!(kept(secure, Some("timeout=3600")), 30);
        assert_eq!(kept(plain, Some("timeout=75")), 4);
        for nonsense in ["", "timeout", "timeout=", "timeout=-5", "timeout=soon", "=;,"] {
            assert_eq!(kept(secure, Some(nonsense)), 30, "{nonsense}");
        }
    }

    #[test]
    fn an_address_keeps_the_upstreams_host() {
        let upstream = Upstream {
            name: "u".to_owned(),
            convention: Convention::OpenAi,
            base_url: Uri::from_static("https://api.example/base/v1"),
            key: None,
            provider: None,
            region: None,
            hourly_cost: None,
            limits: Limits::default(),
        };
        let address = |query| address(&upstream, "/messages", query).unwrap().to_string();
        assert_eq!(address(None), "https://api.example/base/v1/messages");
        assert_eq!(address(Some("beta=true")), "https://api.example/base/v1/messages?beta=true");
    }
}

//! An upstream whose every byte is written by a test.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::find;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// What the upstream does, in order; then it closes the connection.
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Waits until the test allows one more.
    Allowed(Arc<Semaphore>),
    /// Waits so long.
    Pause(Duration),
    /// Waits until the other side leaves.
    Hold,
    /// Keeps the connection: the script is asked what becomes of the next request on it.
    Again,
    /// Sends this again and again until nobody takes it any more, at most so many times; then holds.
    Flood(Vec<u8>, usize),
}

/// What happened, seen by the upstream.
#[derive(Default)]
pub(crate) struct Events {
    pub(crate) received: Mutex<Vec<Received>>,
    /// Connections on which the other side left first.
    pub(crate) left: AtomicUsize,
    /// Connections that the script closed.
    pub(crate) closed: AtomicUsize,
    /// Bytes of floods that were taken.
    pub(crate) flooded: AtomicUsize,
    pub(crate) blocked: AtomicBool,
}

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) events: Arc<Events>,
}

impl Scripted {
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = Arc::new(Events::default());
        let (script, seen) = (Arc::new(script), Arc::clone(&events));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move { play(stream, script.as_ref(), &seen).await });
            }
        });
        Self { address, events }
    }

    /// Answers every request with the same bytes.
    pub(crate) async fn always(bytes: Vec<u8>) -> Self {
        Self::start(move |_| vec![Act::Send(bytes.clone())]).await
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.events.received.lock().unwrap().clone()
    }

    /// The one request that came.
    #[track_caller]
    pub(crate) fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1);
        received.remove(0)
    }
}

async fn play(
    mut stream: TcpStream,
    script: &(dyn Fn(&Received) -> Vec<Act> + Sync + Send),
    events: &Events,
) {
    let _ = stream.set_nodelay(true);
    let mut acts = VecDeque::from([Act::Again]);
    while let Some(act) = acts.pop_front() {
        let went = match act {
            Act::Again => {
                let Some(request) = receive(&mut stream).await else { return };
                acts = script(&request).into();
                events.received.lock().unwrap().push(request);
                true
            }
            Act::Pause(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Act::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
            Act::Allowed(permits) => {
                permits.acquire().await.unwrap().forget();
                true
            }
            Act::Hold => {
                let _ = stream.read(&mut [0; 16]).await;
                false
            }
            Act::Flood(bytes, times) => flood(&mut stream, &bytes, times, events).await,
        };
        if !went {
            events.left.fetch_add(1, SeqCst);
            return;
        }
    }
    let _ = stream.shutdown().await;
    drop(stream);
    events.closed.fetch_add(1, SeqCst);
}

/// Whether all of it went. A write that nobody takes for so long shows that the reader is held back.
async fn flood(stream: &mut TcpStream, bytes: &[u8], times: usize, events: &Events) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    for _ in 0..times {
        match tokio::time::timeout(PATIENCE, stream.write_all(bytes)).await {
            Ok(Ok(())) => events.flooded.fetch_add(bytes.len(), SeqCst),
            Ok(Err(_)) => return false,
            Err(_) => {
                events.blocked.store(true, SeqCst);
                let _ = stream.read(&mut [0; 16]).await;
                return false;
            }
        };
    }
    true
}

async fn receive(stream: &mut TcpStream) -> Option<Received> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = find(&headers, "content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = buffer.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Received { line, headers, body })
}

/// A whole reply with this status, head lines and body.
pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn json(body: &str) -> Vec<u8> {
    whole("200 OK", "content-type: application/json\r\n", body)
}

/// The head of a stream.
pub(crate) const SSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
/// The end of a body in chunks.
pub(crate) const END: &[u8] = b"0\r\n\r\n";

pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A whole stream, one chunk for each piece.
pub(crate) fn stream<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = SSE.to_vec();
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        bytes.extend(chunk(piece));
    }
    bytes.extend(END);
    bytes
}

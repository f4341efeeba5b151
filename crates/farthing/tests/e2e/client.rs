//! A client that sees every byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::home::{DEADLINE, Gateway};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { line: format!("{method} {path} HTTP/1.1"), headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, "")
    }

    pub(crate) fn chat(body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", "/v1/chat/completions", body).with("content-type", "application/json")
    }

    pub(crate) fn messages(body: impl Into<Vec<u8>>) -> Self {
        let call = Self::new("POST", "/v1/messages", body);
        call.with("content-type", "application/json").with("anthropic-version", "2023-06-01")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.line);
        let given = |name: &str| self.headers.iter().any(|(known, _)| known == name);
        if !given("host") {
            head.push_str(&format!("host: {address}\r\n"));
        }
        if !given("content-length") && !given("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it on a connection of its own and does not wait for the reply.
    pub(crate) async fn begin(&self, gateway: &Gateway) -> Connection {
        self.begin_at(gateway.address).await.unwrap()
    }

    pub(crate) async fn begin_at(&self, address: SocketAddr) -> std::io::Result<Connection> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.bytes(address)).await?;
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// Sends it and reads the reply's head.
    pub(crate) async fn head(&self, gateway: &Gateway) -> Reading {
        self.begin(gateway).await.head().await.unwrap()
    }

    /// Sends it and reads the whole reply.
    pub(crate) async fn send(&self, gateway: &Gateway) -> Reply {
        self.head(gateway).await.rest().await
    }
}

/// A connection with its request sent.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Reads on; false at the end or when the connection breaks.
    async fn more(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("a reply within the deadline"), Ok(1..))
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Sends more of the request; the other side may have stopped listening.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// `None` if the connection breaks before the head is whole.
    pub(crate) async fn head(mut self) -> Option<Reading> {
        let status = self.line().await?.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reading = Reading { connection: self, status, headers, framing: Framing::Close };
        reading.framing = if reading.header("transfer-encoding") == Some("chunked") {
            Framing::Chunked
        } else if status == 204 {
            Framing::Length(0)
        } else if let Some(length) = reading.header("content-length") {
            Framing::Length(length.parse().unwrap())
        } else {
            Framing::Close
        };
        Some(reading)
    }
}

enum Framing {
    Chunked,
    Length(usize),
    Close,
    /// Ended, well or not.
    Ended(bool),
}

/// A reply whose head has come.
pub(crate) struct Reading {
    connection: Connection,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    framing: Framing,
}

impl Reading {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn id(&self) -> String {
        self.header("x-farthing-exchange").expect("an exchange id").to_owned()
    }

    /// The next piece of the body: a chunk, or what has come. `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<Vec<u8>> {
        match self.framing {
            Framing::Ended(_) => None,
            Framing::Chunked => {
                let piece = self.chunk().await;
                if piece.as_ref().is_none_or(Vec::is_empty) {
                    self.framing = Framing::Ended(piece.is_some());
                    return None;
                }
                piece
            }
            Framing::Length(0) => {
                self.framing = Framing::Ended(true);
                None
            }
            Framing::Length(left) => {
                if self.connection.buffer.is_empty() && !self.connection.more().await {
                    self.framing = Framing::Ended(false);
                    return None;
                }
                let take = left.min(self.connection.buffer.len());
                self.framing = Framing::Length(left - take);
                Some(self.connection.buffer.drain(..take).collect())
            }
            Framing::Close => {
                if self.connection.buffer.is_empty() && !self.connection.more().await {
                    self.framing = Framing::Ended(true);
                    return None;
                }
                Some(std::mem::take(&mut self.connection.buffer))
            }
        }
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.connection.line().await?, 16).unwrap();
        while self.connection.buffer.len() < length + 2 {
            if !self.connection.more().await {
                return None;
            }
        }
        let chunk = self.connection.buffer.drain(..length + 2).take(length).collect();
        Some(chunk)
    }

    /// Reads on until `text` has come; what came up to then.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            if seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                return String::from_utf8(seen).unwrap();
            }
            let piece = self.piece().await.unwrap_or_else(|| panic!("it ended before {text:?}"));
            seen.extend(piece);
        }
    }

    /// The connection, for another request once the reply has ended.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Whether it ended as HTTP says it must.
    pub(crate) fn whole(&self) -> bool {
        matches!(self.framing, Framing::Ended(true))
    }

    pub(crate) async fn rest(mut self) -> Reply {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend(piece);
        }
        let whole = self.whole();
        Reply { status: self.status, headers: self.headers, body, whole }
    }
}

/// A reply that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether it ended as HTTP says it must.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn id(&self) -> &str {
        self.header("x-farthing-exchange").expect("an exchange id")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }
}

pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

//! As much HTTP/1.1 as the two ends need: messages with a content length or in chunks, over
//! connections that stay open.

use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head or chunk-size line that is read; more is an error.
const LINES_MAX: usize = 64 * 1024;
/// Longest body that is read: a streamed reply has some 20 KiB.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// One side of a connection, with what was read ahead.
pub(crate) struct Connection {
    socket: TcpStream,
    ahead: Vec<u8>,
}

/// A message's first line and headers.
pub(crate) struct Head(String);

impl Head {
    /// The request line or status line.
    pub(crate) fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.0.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether the peer will close the connection after this message.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Connection {
    pub(crate) fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, ahead: Vec::with_capacity(64 * 1024) })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).await
    }

    /// The next message's head, or `None` if the peer closed the connection before it.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>> {
        let end = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end;
            }
            if self.ahead.is_empty() {
                if self.socket.read_buf(&mut self.ahead).await? == 0 {
                    return Ok(None);
                }
            } else {
                self.more(LINES_MAX).await?;
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        self.ahead.drain(..end + 4);
        Ok(Some(Head(head)))
    }

    /// Reads the body that belongs to `head` into `body`, replacing what is there.
    pub(crate) async fn body(&mut self, head: &Head, body: &mut Vec<u8>) -> Result<()> {
        body.clear();
        if head.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            return self.chunks(body).await;
        }
        let length = head.header("content-length").ok_or_else(|| invalid("no framing"))?;
        let length: usize = length.parse().map_err(|_| invalid("a wrong content length"))?;
        if length > BODY_MAX {
            return Err(invalid("a body that is too long"));
        }
        while self.ahead.len() < length {
            self.more(BODY_MAX).await?;
        }
        body.extend(self.ahead.drain(..length));
        Ok(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        // Consumed bytes are dropped before the next read rather than chunk by chunk: one read
        // brings many chunks.
        let mut used = 0;
        loop {
            let Some((start, length)) = chunk_size(&self.ahead[used..])? else {
                self.ahead.drain(..used);
                used = 0;
                self.more(LINES_MAX).await?;
                continue;
            };
            let start = used + start;
            if body.len() + length > BODY_MAX {
                return Err(invalid("a body that is too long"));
            }
            if self.ahead.len() < start + length + 2 {
                self.ahead.drain(..used);
                used = 0;
                self.more(BODY_MAX).await?;
                continue;
            }
            if &self.ahead[start + length..start + length + 2] != b"\r\n" {
                return Err(invalid("a chunk that does not end where it says"));
            }
            body.extend_from_slice(&self.ahead[start..start + length]);
            used = start + length + 2;
            if length == 0 {
                self.ahead.drain(..used);
                return Ok(());
            }
        }
    }

    async fn more(&mut self, limit: usize) -> Result<()> {
        if self.ahead.len() > limit {
            return Err(invalid("a message that is too long"));
        }
        match self.socket.read_buf(&mut self.ahead).await? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended in a message")),
            _ => Ok(()),
        }
    }
}

/// Where the next chunk's data starts and how long it is; `None` if its size line is not complete.
fn chunk_size(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = find(bytes, b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let size = line.split(';').next().unwrap_or_default().trim();
    let length = usize::from_str_radix(size, 16).map_err(|_| invalid("a wrong chunk size"))?;
    if length > BODY_MAX {
        return Err(invalid("a chunk that is too long"));
    }
    Ok(Some((end + 2, length)))
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (Connection, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (Connection::new(near).unwrap(), Connection::new(far).unwrap())
    }

    async fn body_of(message: &'static [u8]) -> Result<Vec<u8>> {
        let (mut near, mut far) = pair().await;
        let writer = tokio::spawn(async move {
            for byte in message {
                near.write(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let head = far.head().await?.expect("a message");
        let mut body = Vec::new();
        let read = far.body(&head, &mut body).await;
        writer.await.unwrap();
        read.map(|()| body)
    }

    #[tokio::test]
    async fn chunks_arrive_whole_however_they_are_split() {
        let message =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(body_of(message).await.unwrap(), b"abcde");
    }

    #[tokio::test]
    async fn a_body_has_the_length_that_it_says() {
        let message = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
        assert_eq!(body_of(message).await.unwrap(), b"abcd");
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc";
        assert_eq!(body_of(cut).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_chunk_that_lies_about_its_size_is_an_error() {
        let message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n";
        assert_eq!(body_of(message).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

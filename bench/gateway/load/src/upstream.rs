//! The upstream of the bench: an OpenAI-speaking server that answers at once, always the same.

use crate::http::Connection;
use crate::payload::{self, Shape};
use std::io::Result;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Between the chunks of a paced stream: 200 tokens per second, a fast model.
const PACE: Duration = Duration::from_millis(5);
/// Between those of a slow one, which is so open for half a minute.
const SLOW_PACE: Duration = Duration::from_millis(300);

struct Replies {
    unary: Vec<u8>,
    plain: Vec<Vec<u8>>,
    with_usage: Vec<Vec<u8>>,
}

/// Answers on `address` until the process is stopped.
pub(crate) async fn serve(address: &str) -> Result<()> {
    let replies = Rc::new(Replies {
        unary: payload::unary_reply(),
        plain: payload::streamed_reply(false),
        with_usage: payload::streamed_reply(true),
    });
    let listener = TcpListener::bind(address).await?;
    LocalSet::new()
        .run_until(async {
            loop {
                let (socket, _) = listener.accept().await?;
                let replies = Rc::clone(&replies);
                // A client that goes away ends its connection and nothing else.
                tokio::task::spawn_local(async move { answer(socket, &replies).await.ok() });
            }
        })
        .await
}

async fn answer(socket: TcpStream, replies: &Replies) -> Result<()> {
    let mut connection = Connection::new(socket)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head().await? {
        if !head.first_line().starts_with("POST ") {
            connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
            continue;
        }
        connection.body(&head, &mut body).await?;
        let (shape, usage) = payload::wants(&body);
        if shape == Shape::Unary {
            connection.write(&replies.unary).await?;
            continue;
        }
        let mut pace = match shape {
            Shape::Unary | Shape::Stream => None,
            Shape::Paced => Some(tokio::time::interval(PACE)),
            Shape::Slow => Some(tokio::time::interval(SLOW_PACE)),
        };
        for piece in if usage { &replies.with_usage } else { &replies.plain } {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            connection.write(piece).await?;
            // Each chunk is its own write, and the other connections get their turn in between.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

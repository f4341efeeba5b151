//! What the two ends say to each other, and how the clients tell that nothing was lost.

/// Content chunks of one streamed reply.
pub(crate) const CHUNKS: usize = 100;
/// Bytes of a request body and of a unary reply body.
const BODY_BYTES: usize = 1024;

/// Asks the upstream to pace its stream; every gateway passes the field on.
const PACED_USER: &str = "paced";
/// The same, for a stream that stays open for long.
const SLOW_USER: &str = "slow-reader";
/// Stands once in every chunk's text, and nowhere else.
const MARK: &str = "piece";
/// Ends the text of a unary reply, so that a cut one is noticed.
const UNARY_END: &str = "the end of the reply";
const PROMPT: &str = "The gateway meters what every request costs and tells it by route. ";

/// How the client wants its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Unary,
    /// Chunks as fast as they can be written; a gateway may read several at once.
    Stream,
    /// Chunks some milliseconds apart, as from a model; each has to be passed on by itself.
    Paced,
    /// Chunks so far apart that many streams are open at once.
    Slow,
}

impl Shape {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "unary" => Some(Self::Unary),
            "stream" => Some(Self::Stream),
            "paced" => Some(Self::Paced),
            "slow" => Some(Self::Slow),
            _ => None,
        }
    }
}

/// A whole request, head and body. Streams do not ask for usage, as most clients do not: a gateway
/// that meters has to ask for it, and to take it out of the reply again.
pub(crate) fn request(host: &str, shape: Shape, model: &str, headers: &[&str]) -> Vec<u8> {
    let stream = shape != Shape::Unary;
    let user = match shape {
        Shape::Unary | Shape::Stream => "bench",
        Shape::Paced => PACED_USER,
        Shape::Slow => SLOW_USER,
    };
    let body = padded(|text| {
        format!(
            r#"{{"model":"{model}","stream":{stream},"user":"{user}","max_tokens":128,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    });
    let headers: String = headers.iter().flat_map(|header| [header, "\r\n"]).collect();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The upstream's unary reply, head and body.
pub(crate) fn unary_reply() -> Vec<u8> {
    let body = padded(|text| {
        format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}{UNARY_END}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300,"prompt_tokens_details":{{"cached_tokens":64}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#
        )
    });
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The upstream's streamed reply in the pieces in which it is written: the head, one piece for every
/// content chunk, the end. With `usage`, a usage chunk comes before `[DONE]`.
pub(crate) fn streamed_reply(usage: bool) -> Vec<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.as_bytes().to_vec()];
    pieces.extend((0..CHUNKS).map(|number| {
        let choice = format!(
            r#"[{{"index":0,"delta":{{"content":" {MARK} {number}"}},"finish_reason":null}}]"#
        );
        framed(&event(&choice, ""))
    }));
    let mut end = event(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#, "");
    if usage {
        let usage = r#","usage":{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300,"prompt_tokens_details":{"cached_tokens":64}}"#;
        end += &event("[]", usage);
    }
    end += "data: [DONE]\n\n";
    let mut last = framed(&end);
    last.extend_from_slice(b"0\r\n\r\n");
    pieces.push(last);
    pieces
}

/// Says what is wrong with a reply's body, if something is.
pub(crate) fn check(shape: Shape, body: &[u8]) -> Result<(), String> {
    match shape {
        Shape::Unary => {
            // The text holds no braces, so they pair up exactly when the JSON is whole.
            if count(body, UNARY_END) != 1 || count(body, "{") != count(body, "}") {
                return Err("the reply's text is not complete".to_owned());
            }
            Ok(())
        }
        Shape::Stream | Shape::Paced | Shape::Slow => {
            let chunks = count(body, MARK);
            if chunks != CHUNKS {
                return Err(format!("expected {CHUNKS} chunks, found {chunks}"));
            }
            if !body.ends_with(b"data: [DONE]\n\n") {
                return Err("the stream does not end with `data: [DONE]`".to_owned());
            }
            if count(body, r#""prompt_tokens":"#) > 0 {
                return Err("the stream holds usage that nobody asked for".to_owned());
            }
            Ok(())
        }
    }
}

/// Whether a request's body asks for a stream, and for usage in it.
pub(crate) fn wants(body: &[u8]) -> (Shape, bool) {
    let compact: Vec<u8> =
        body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let shape = if count(&compact, r#""stream":true"#) == 0 {
        Shape::Unary
    } else if count(&compact, PACED_USER) > 0 {
        Shape::Paced
    } else if count(&compact, SLOW_USER) > 0 {
        Shape::Slow
    } else {
        Shape::Stream
    };
    (shape, count(&compact, r#""include_usage":true"#) > 0)
}

fn event(choices: &str, rest: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\
         \"model\":\"gpt-4o-mini\",\"choices\":{choices}{rest}}}\n\n"
    )
}

fn framed(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// Fills a body with prose up to [`BODY_BYTES`].
fn padded(body: impl Fn(&str) -> String) -> String {
    let room = BODY_BYTES.saturating_sub(body("").len());
    body(&PROMPT.chars().cycle().take(room).collect::<String>())
}

/// Occurrences of `needle`. Looks at the first byte before it compares, for this runs on every reply.
fn count(hay: &[u8], needle: &str) -> usize {
    let needle = needle.as_bytes();
    let mut found = 0;
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            found += 1;
        }
        rest = &rest[at + 1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed_body(usage: bool) -> Vec<u8> {
        let pieces = streamed_reply(usage);
        let unframed = pieces[1..].iter().flat_map(|piece| {
            let start = piece.iter().position(|byte| *byte == b'\n').expect("a chunk size") + 1;
            let last = if piece.ends_with(b"0\r\n\r\n") { 7 } else { 2 };
            piece[start..piece.len() - last].to_vec()
        });
        unframed.collect()
    }

    #[test]
    fn bodies_have_their_size() {
        for whole in [request("h", Shape::Stream, "m", &[]), unary_reply()] {
            let text = String::from_utf8(whole).unwrap();
            assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), BODY_BYTES);
        }
    }

    #[test]
    fn the_upstream_sees_what_the_clients_want() {
        for shape in [Shape::Unary, Shape::Stream, Shape::Paced, Shape::Slow] {
            assert_eq!(wants(&request("h", shape, "m", &[])), (shape, false));
        }
        assert_eq!(
            wants(br#"{"stream": true, "stream_options": {"include_usage": true}}"#),
            (Shape::Stream, true)
        );
    }

    #[test]
    fn a_whole_stream_passes_and_a_cut_one_does_not() {
        let body = streamed_body(false);
        assert_eq!(check(Shape::Stream, &body), Ok(()));
        assert!(check(Shape::Stream, &body[..body.len() - 1]).is_err());
        assert!(check(Shape::Stream, &body[200..]).is_err());
    }

    #[test]
    fn usage_that_was_not_asked_for_is_noticed() {
        assert!(check(Shape::Stream, &streamed_body(true)).is_err());
    }

    #[test]
    fn a_cut_unary_reply_is_noticed() {
        let reply = unary_reply();
        let body = &reply[reply.len() - BODY_BYTES..];
        assert_eq!(check(Shape::Unary, body), Ok(()));
        assert!(check(Shape::Unary, &body[..BODY_BYTES - 1]).is_err());
    }
}

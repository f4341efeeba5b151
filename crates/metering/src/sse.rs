//! Server-sent events, found in chunks that may break anywhere.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// An event larger than this is passed on unread, so that memory is bounded. The largest real ones are
/// the last of Responses, which repeat the pictures that were made: a few MB each.
pub(crate) const MAX_EVENT: usize = 16 << 20;

/// Cuts a stream of bytes into whole events, blank line included. The pieces that come out are the
/// bytes that went in.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The start of an event whose end has not come.
    held: BytesMut,
    scan: Scan,
    /// Inside an event that was too large to hold.
    oversized: bool,
}

/// Where the scan for a blank line stands.
#[derive(Debug, Clone, Copy)]
struct Scan {
    line_is_empty: bool,
    after_cr: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { line_is_empty: true, after_cr: false }
    }
}

/// What a chunk brought.
pub(crate) enum Piece {
    /// One whole event with its blank line.
    Event(Bytes),
    /// Bytes of an event that is too large to read.
    Unread(Bytes),
    /// The last byte of the event before, whose line end `\r\n` was cut in two.
    LineFeed(Bytes),
}

impl Scan {
    /// The length of `bytes` up to and with the next blank line's end.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.after_cr && bytes.first() == Some(&b'\n') {
            at = 1;
        }
        if !bytes.is_empty() {
            self.after_cr = false;
        }
        while at < bytes.len() {
            let Some(skip) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) else {
                self.line_is_empty = false;
                return None;
            };
            let blank = self.line_is_empty && skip == 0;
            at += skip + 1;
            if bytes[at - 1] == b'\r' {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line_is_empty = true;
            if blank {
                return Some(at);
            }
        }
        None
    }
}

impl Events {
    /// Takes a chunk and hands out what is whole.
    pub(crate) fn push(&mut self, mut chunk: Bytes, mut out: impl FnMut(Piece)) {
        let event_ended = self.held.is_empty() && !self.oversized;
        if event_ended && self.scan.after_cr && chunk.first() == Some(&b'\n') {
            self.scan.after_cr = false;
            out(Piece::LineFeed(chunk.split_to(1)));
        }
        while !chunk.is_empty() {
            let end = self.scan.event_end(&chunk);
            let part = chunk.split_to(end.unwrap_or(chunk.len()));
            if !self.oversized && self.held.len() + part.len() > MAX_EVENT {
                self.oversized = true;
                out(Piece::Unread(self.held.split().freeze()));
            }
            if self.oversized {
                out(Piece::Unread(part));
                self.oversized = end.is_none();
            } else if end.is_none() {
                self.held.extend_from_slice(&part);
            } else if self.held.is_empty() {
                out(Piece::Event(part));
            } else {
                self.held.extend_from_slice(&part);
                out(Piece::Event(self.held.split().freeze()));
            }
        }
    }

    /// Hands out what never became a whole event.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }
}

/// The data of an event; several data lines are joined with line feeds. Its name is not looked at:
/// both dialects repeat it in the data.
pub(crate) fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut data = None::<Cow<'_, [u8]>>;
    // A byte order mark may stand before the first.
    let mut rest = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let value = match line.strip_prefix(b"data") {
            Some([]) => &[],
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => value,
            _ => continue,
        };
        match &mut data {
            None => data = Some(Cow::Borrowed(value)),
            Some(data) => {
                let joined = data.to_mut();
                joined.push(b'\n');
                joined.extend_from_slice(value);
            }
        }
    }
    data.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let (mut events, mut all) = (Vec::new(), Vec::new());
        let mut splitter = Events::default();
        let mut take = |piece| match piece {
            Piece::Event(bytes) => {
                all.extend_from_slice(&bytes);
                let text: Vec<u8> =
                    bytes.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
                if !text.is_empty() {
                    events.push(text);
                }
            }
            Piece::Unread(bytes) | Piece::LineFeed(bytes) => all.extend_from_slice(&bytes),
        };
        for pair in cuts.windows(2) {
            splitter.push(Bytes::copy_from_slice(&stream[pair[0]..pair[1]]), &mut take);
        }
        if let Some(open) = splitter.finish() {
            all.extend_from_slice(&open);
        }
        (events, all)
    }

    #[test]
    fn all_line_ends_end_events() {
        let stream = b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\r\n\n: ping\n\ndata: open";
        let (events, _) = cut(stream, &[]);
        let expected: [&[u8]; 5] = [b"data: a", b"data: b", b"data: c", b"data: d", b": ping"];
        assert_eq!(events, expected);
    }

    #[test]
    fn data_is_read_as_the_standard_says() {
        assert_eq!(
            data(b"event: x\r\ndata:1\ndata:  2\nid: 7\ndata\ndatab: c\n\n"),
            &b"1\n 2\n"[..]
        );
        assert_eq!(data(b": ping\n\n"), &b""[..]);
        assert_eq!(data(b"data: torn"), &b"torn"[..]);
    }

    #[test]
    fn an_event_that_is_too_large_passes_unread_however_it_is_cut() {
        let mut stream = b"data: a\n\ndata: ".to_vec();
        stream.resize(stream.len() + MAX_EVENT, b'x');
        stream.extend_from_slice(b"\n\ndata: b\n\n");
        for cuts in [&[][..], &[3], &[40], &[MAX_EVENT, MAX_EVENT + 5], &[20, 1 << 20, 3 << 20]] {
            let (events, all) = cut(&stream, cuts);
            assert_eq!(events, [b"data: a", b"data: b"]);
            assert!(all == stream, "every byte passes");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events_and_bytes(
            stream in "((data: [a-c]{0,3}|event: x|:)?(\n|\r\n|\r)){0,12}[ab]?",
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let whole = cut(stream.as_bytes(), &[]);
            let pieces = cut(stream.as_bytes(), &cuts);
            prop_assert_eq!(&pieces.1, stream.as_bytes());
            prop_assert_eq!(pieces, whole);
        }
    }
}

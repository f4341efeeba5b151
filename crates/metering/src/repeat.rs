//! Events that say what the one before said, but for their text. Most of a stream is such events, and
//! to compare one with the last takes a tenth of the time of reading it.

use std::ops::Range;

use crate::json::TextBytes;

/// The last event, if all that it brought was a text.
#[derive(Debug, Default)]
pub(crate) struct Repeat {
    /// Empty if it brought anything else.
    event: Vec<u8>,
    text: Range<usize>,
    /// A second string that may differ, and means nothing: OpenAI hides the length of texts with it.
    padding: Option<Range<usize>>,
}

/// The key of that string, which only has a meaning to us where it is one: a quote within a string has
/// a backslash before it.
const PADDING: &[u8] = br#","obfuscation":""#;

impl Repeat {
    /// How many bytes the text of an event has; `None` if more than the text may differ from the last
    /// event, so that it has to be read.
    pub(crate) fn text_of(&self, event: &[u8]) -> Option<u64> {
        if self.event.is_empty() {
            return None;
        }
        let rest = event.strip_prefix(&self.event[..self.text.start])?;
        let (text, mut rest) = rest.split_at(string_end(rest)?);
        let mut same = &self.event[self.text.end..];
        if let Some(padding) = &self.padding {
            rest = rest.strip_prefix(&self.event[self.text.end..padding.start])?;
            let (padding_found, behind) = rest.split_at(string_end(rest)?);
            string_bytes(padding_found)?;
            (rest, same) = (behind, &self.event[padding.end..]);
        }
        if rest == same { string_bytes(text) } else { None }
    }

    /// Keeps an event that was read and brought this text alone, which is a slice of it.
    pub(crate) fn learn(&mut self, event: &[u8], text: &str) {
        self.forget();
        // The data of several lines is put together elsewhere.
        let Some(start) = (text.as_ptr() as usize).checked_sub(event.as_ptr() as usize) else {
            return;
        };
        let text = start..start + text.len();
        if text.start == 0 || event.get(text.end) != Some(&b'"') {
            return;
        }
        self.padding = memchr::memmem::find(&event[text.end..], PADDING).and_then(|at| {
            let start = text.end + at + PADDING.len();
            Some(start..start + string_end(&event[start..])?)
        });
        self.event.extend_from_slice(event);
        self.text = text;
    }

    /// The event that came was of another kind.
    pub(crate) fn forget(&mut self) {
        self.event.clear();
    }
}

/// Where the string ends that `rest` begins in.
fn string_end(rest: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', rest.get(from..)?)?;
        if rest[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// The bytes of the text that is written as this inside of a string; `None` if that is no JSON.
fn string_bytes(written: &[u8]) -> Option<u64> {
    if memchr::memchr(b'\\', written).is_none() {
        let text = std::str::from_utf8(written).ok()?;
        return text.bytes().all(|byte| byte >= b' ').then_some(text.len() as u64);
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(|TextBytes(bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use facts::Api;
    use proptest::prelude::*;

    use crate::dialect::read_event;
    use crate::seen::Seen;

    use super::*;

    /// Events of a stream: texts in the same frame, some of them odd, and other events between them.
    fn events() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let text = prop_oneof![
            8 => "[ -~äß]{0,9}".prop_map(|text| text.replace(['"', '\\'], "").into_bytes()),
            2 => Just(br#"\n\"x\u00e4"#.to_vec()),
            1 => Just(br"\ud800".to_vec()),
            1 => Just(br"\x".to_vec()),
            1 => Just(br"\".to_vec()),
            1 => Just(br#"x","refusal":"y"#.to_vec()),
            1 => Just(b"\xff\xfe".to_vec()),
            1 => Just(b"a\tb".to_vec()),
            1 => Just(br#"","obfuscation":""#.to_vec()),
        ];
        let frame = prop::sample::select(vec![
            r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#,
            r#"data: {"id":"c","model":"m","choices":[{"delta":{"content":"@"}}],"usage":null,"obfuscation":"@"}"#,
            r#"data: {"choices":[{"delta":{"content":"@"}}],"service_tier":"flex","obfuscation":"\u0061@"}"#,
            r#"data: {"choices":[{"delta":{"content":"@"}},{"delta":{"content":"@"}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"@","tool_calls":[{"function":{"name":"@"}}]}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"@","reasoning":"@"}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"@"},"finish_reason":"@"}]}"#,
            r#"data: {"choices":[{"delta":{"content":"@"}}],"usage":{"prompt_tokens":1}}"#,
            r#"data: {"choices":[{"text":"@","delta":{"content":["@"]}}]}"#,
            r#"data: {"service_tier":"@","choices":[]}"#,
            r#"data: {"error":{"code":"@"}}"#,
            "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"@\"}}]}",
            r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"@"}}"#,
            r#"data: {"type":"content_block_delta","delta":{"text":"@","partial_json":"@"}}"#,
            r#"data: {"type":"message_delta","delta":{"text":"@","stop_reason":"end_turn"}}"#,
        ]);
        let run = (frame, prop::collection::vec([text.clone(), text], 1..6)).prop_map(
            |(frame, texts)| {
                let fill = |[first, second]: [Vec<u8>; 2]| {
                    let mut parts = frame.as_bytes().split(|byte| *byte == b'@');
                    let mut event = parts.next().unwrap_or_default().to_vec();
                    for (part, text) in parts.zip([first, second].iter().cycle()) {
                        event.extend_from_slice(text);
                        event.extend_from_slice(part);
                    }
                    event
                };
                texts.into_iter().map(fill).collect::<Vec<_>>()
            },
        );
        prop::collection::vec(run, 1..6).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn a_repeated_event_leaves_what_it_would_if_it_were_read(
            events in events(),
            api in prop::sample::select(vec![Api::OpenAiChat, Api::AnthropicMessages]),
        ) {
            let (mut read, mut repeated) = (Seen::default(), Seen::default());
            for event in events {
                let kind = read_event(api, &event, &mut read);
                prop_assert_eq!(kind, read_event(api, &event, &mut repeated));
                read.last = Repeat::default();
                let last = std::mem::take(&mut repeated.last);
                prop_assert_eq!(format!("{read:?}"), format!("{repeated:?}"));
                repeated.last = last;
            }
        }
    }

    #[test]
    fn an_event_that_differs_in_its_text_alone_is_not_read_again() {
        for (api, event) in [
            (
                Api::OpenAiChat,
                r#"data: {"choices":[{"delta":{"content":"@"},"finish_reason":null}]}"#,
            ),
            (
                Api::OpenAiChat,
                r#"data: {"choices":[{"delta":{"content":"@"}}],"obfuscation":"@@"}"#,
            ),
            (
                Api::AnthropicMessages,
                r#"data: {"type":"content_block_delta","delta":{"text":"@"}}"#,
            ),
        ] {
            let mut seen = Seen::default();
            let of = |text: &str| event.replace('@', text).into_bytes();
            read_event(api, &of("a"), &mut seen);
            assert_eq!(seen.last.text_of(&of(" longer")), Some(7), "{event}");
            assert_eq!(seen.last.text_of(&of("")), Some(0), "{event}");
            assert_eq!(seen.last.text_of(&of(r#"\"\n"#)), Some(2), "{event}");
            assert_eq!(seen.last.text_of(&of(r"\ud800")), None, "{event}");
            assert_eq!(seen.last.text_of(&of("a\nb")), None, "{event}");
            assert_eq!(seen.last.text_of(b"data: {}"), None, "{event}");
        }
    }
}

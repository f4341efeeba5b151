//! Traces that tell what prompts have in common: names of blocks of tokens instead of words.

use std::num::NonZeroU32;
use std::time::Duration;

use quantity::TokenCount;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::random::mix;
use crate::{Row, TraceError};

/// One request of a trace, what its prompt begins with, and how urgent it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRow {
    /// When it came and how large it was.
    pub row: Row,
    /// Tokens that each name stands for; the last one may stand for fewer.
    pub block_tokens: NonZeroU32,
    /// The blocks of its prompt, from the first. Two prompts begin with the same tokens as far as
    /// they begin with the same names.
    pub names: Vec<u64>,
    /// The lowest is served first, whoever came first; 0 where the trace tells none.
    pub priority: i64,
}

/// The names of the full blocks of a prompt that is made of parts, each with an identity, which stands for the part and
/// all before it, and the tokens up to its end. Equal beginnings have equal names, up to the end of the last part that is
/// equal.
#[must_use]
pub fn block_names(
    parts: impl IntoIterator<Item = (u64, u64)>,
    block_tokens: NonZeroU32,
) -> Vec<u64> {
    let block = u64::from(block_tokens.get());
    let mut names: Vec<u64> = Vec::new();
    for (identity, end) in parts {
        // A block belongs to the part in which it ends.
        while (names.len() as u64 + 1) * block <= end {
            names.push(mix(identity ^ mix(names.len() as u64)));
        }
    }
    names
}

/// Reads traces of JSON lines in the order of time, Mooncake's or Bailian's, whichever the first line
/// is of:
///
/// - Mooncake: `{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}`,
///   time in milliseconds and blocks of 512 tokens;
/// - Bailian: `{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 521,
///   "output_length": 132, "type": "text", "turn": 1, "hash_ids": [1089, 1090]}`, time in seconds and
///   blocks of 16 tokens.
///
/// Other keys are passed over. A line without `hash_ids` has nothing in common with others.
///
/// # Source
/// <https://github.com/kvcache-ai/Mooncake>, `FAST25-release/README.md`;
/// <https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon>, `README.md`.
#[derive(Debug, Clone, Default)]
pub struct BlockReader {
    line: u64,
    form: Option<Form>,
    first: Option<Duration>,
    last: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Mooncake,
    Bailian,
}

impl Form {
    const fn block_tokens(self) -> NonZeroU32 {
        const LARGE: NonZeroU32 = NonZeroU32::new(512).expect("not zero");
        const SMALL: NonZeroU32 = NonZeroU32::new(16).expect("not zero");
        match self {
            Self::Mooncake => LARGE,
            Self::Bailian => SMALL,
        }
    }

    /// How many digits of its times are in front of the point, were they seconds.
    const fn time(self) -> &'static str {
        match self {
            Self::Mooncake => "`timestamp` with milliseconds, such as 27482",
            Self::Bailian => "`timestamp` with seconds, such as 61.114",
        }
    }

    fn duration(self, text: &str) -> Option<Duration> {
        // Places of the decimal point that make of them nanoseconds.
        let places = match self {
            Self::Mooncake => 6,
            Self::Bailian => 9,
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 || !digits(whole) || !digits(fraction) {
            return None;
        }
        // What is finer than a nanosecond is cut off.
        let fraction = &fraction[..fraction.len().min(places)];
        let nanos: u64 = format!("{whole}{fraction:0<places$}").parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }
}

/// A line's keys, whatever they hold.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    chat_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    input_length: Option<&'a RawValue>,
    #[serde(borrow)]
    output_length: Option<&'a RawValue>,
    #[serde(borrow)]
    hash_ids: Option<&'a RawValue>,
}

impl BlockReader {
    /// What the first line told; `None` before there was one.
    #[must_use]
    pub const fn format(&self) -> Option<&'static str> {
        match self.form {
            None => None,
            Some(Form::Mooncake) => Some("Mooncake"),
            Some(Form::Bailian) => Some("Bailian"),
        }
    }

    /// Reads the next line, with or without its end; `None` for empty lines.
    ///
    /// # Errors
    /// If it is not a request, or comes before the one above it.
    pub fn line(&mut self, line: &str) -> Result<Option<NamedRow>, TraceError> {
        self.line += 1;
        let number = self.line;
        let error = |expected: &'static str, found: &str| TraceError {
            line: number,
            expected,
            found: found.chars().take(60).collect(),
        };
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            return Ok(None);
        }
        let keys: Line<'_> = serde_json::from_str(line)
            .map_err(|_| error("a JSON object such as `{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}`", line))?;
        let form = *self.form.get_or_insert(match keys.chat_id {
            Some(_) => Form::Bailian,
            None => Form::Mooncake,
        });
        let value = |key: Option<&RawValue>, expected: &'static str| {
            key.map(|value| value.get().to_owned()).ok_or_else(|| error(expected, line))
        };
        let at = value(keys.timestamp, form.time())?;
        let at = form.duration(&at).ok_or_else(|| error(form.time(), &at))?;
        let count = |key: Option<&RawValue>, expected: &'static str| {
            let text = value(key, expected)?;
            let count = text.parse().ok().and_then(TokenCount::new);
            count.ok_or_else(|| error(expected, &text))
        };
        let input = count(keys.input_length, "`input_length` with a whole number of tokens")?;
        let output = count(keys.output_length, "`output_length` with a whole number of tokens")?;
        let names: Vec<u64> = match keys.hash_ids.map(RawValue::get) {
            None | Some("null") => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| error("`hash_ids` with whole numbers of at most 64 bits", text))?,
        };
        let block_tokens = form.block_tokens();
        if names.len() as u64 > input.get().div_ceil(u64::from(block_tokens.get())) {
            let expected = match form {
                Form::Mooncake => "no more `hash_ids` than blocks of 512 tokens in `input_length`",
                Form::Bailian => "no more `hash_ids` than blocks of 16 tokens in `input_length`",
            };
            return Err(error(expected, line));
        }
        if at < self.last {
            return Err(error("a time that is not before that of the request above it", line));
        }
        self.last = at;
        let first = *self.first.get_or_insert(at);
        let row = Row { at: at - first, input, output };
        Ok(Some(NamedRow { row, block_tokens, names, priority: 0 }))
    }

    /// Reads a whole trace.
    ///
    /// # Errors
    /// At the first line that is wrong; nothing after it should be read.
    pub fn rows(text: &str) -> impl Iterator<Item = Result<NamedRow, TraceError>> {
        let mut reader = Self::default();
        text.lines().filter_map(move |line| reader.line(line).transpose())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<NamedRow>, TraceError> {
        BlockReader::rows(text).collect()
    }

    fn row(form: Form, at: Duration, input: u32, output: u32, names: &[u64]) -> NamedRow {
        let row = Row { at, input: input.into(), output: output.into() };
        let (block_tokens, names) = (form.block_tokens(), names.to_vec());
        NamedRow { row, block_tokens, names, priority: 0 }
    }

    #[test]
    fn mooncake_tells_milliseconds_and_blocks_of_512() {
        let rows = read(
            "{\"timestamp\": 27482, \"input_length\": 1025, \"output_length\": 52, \"hash_ids\": [46, 47, 48]}\n\n\
             {\"timestamp\": 30535.5, \"input_length\": 6, \"output_length\": 26, \"hash_ids\": [46]}\r\n\
             {\"timestamp\": 30536, \"input_length\": 6, \"output_length\": 26}",
        );
        let at = Duration::from_micros;
        assert_eq!(
            rows.unwrap(),
            [
                row(Form::Mooncake, at(0), 1025, 52, &[46, 47, 48]),
                row(Form::Mooncake, at(3_053_500), 6, 26, &[46]),
                row(Form::Mooncake, at(3_054_000), 6, 26, &[]),
            ]
        );
    }

    #[test]
    fn bailian_tells_seconds_and_blocks_of_16() {
        let rows = read(
            "{\"chat_id\": 159, \"parent_chat_id\": -1, \"timestamp\": 61.114, \"input_length\": 17, \
              \"output_length\": 132, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [1089, 18446744073709551615]}\n\
             {\"chat_id\": 55, \"parent_chat_id\": 159, \"timestamp\": 62, \"input_length\": 16, \
              \"output_length\": 1, \"type\": \"text\", \"turn\": 2, \"hash_ids\": []}",
        );
        assert_eq!(
            rows.unwrap(),
            [
                row(Form::Bailian, Duration::ZERO, 17, 132, &[1089, u64::MAX]),
                row(Form::Bailian, Duration::from_millis(886), 16, 1, &[]),
            ]
        );
    }

    #[test]
    fn prompts_share_the_blocks_of_the_parts_that_they_share() {
        const BLOCK: NonZeroU32 = NonZeroU32::new(16).unwrap();
        let names = |parts: &[(u64, u64)]| block_names(parts.iter().copied(), BLOCK);
        let first = names(&[(1, 40), (2, 60)]);
        assert_eq!(first.len(), 3);
        // The history of the next turn: three blocks are full of what the first had, one of what is new.
        let next = names(&[(1, 40), (2, 60), (3, 79)]);
        assert_eq!((next.len(), &next[..3]), (4, &first[..]));
        // Another message behind the same start shares the two blocks that end in it.
        let other = names(&[(1, 40), (9, 100)]);
        assert_eq!((other.len(), &other[..2]), (6, &first[..2]));
        assert_ne!(other[2], first[2]);
        // A block that ends with its part is full.
        assert_eq!((names(&[(1, 15)]).len(), names(&[(1, 32)]).len()), (0, 2));
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let message = |line: &str| {
            let good = "{\"timestamp\":5,\"input_length\":9,\"output_length\":1,\"hash_ids\":[1]}";
            read(&format!("{good}\n{line}")).unwrap_err().to_string()
        };
        let with = |time: &str, input: &str, ids: &str| {
            message(&format!(
                "{{\"timestamp\":{time},\"input_length\":{input},\"output_length\":1,\"hash_ids\":{ids}}}"
            ))
        };
        assert!(
            message("{\"timestamp\":5,\"inp").starts_with("line 2: expected a JSON object such as")
        );
        assert_eq!(
            message("{\"timestamp\":5,\"input_length\":9}"),
            "line 2: expected `output_length` with a whole number of tokens, \
             found `{\"timestamp\":5,\"input_length\":9}`"
        );
        assert_eq!(
            with("6", "-3", "[]"),
            "line 2: expected `input_length` with a whole number of tokens, found `-3`"
        );
        for time in ["-1", "1e3", "\"5\"", "NaN", "null"] {
            let found = with(time, "9", "[]");
            assert!(found.starts_with("line 2: expected"), "{found}");
        }
        assert_eq!(
            with("7", "9", "[1.5]"),
            "line 2: expected `hash_ids` with whole numbers of at most 64 bits, found `[1.5]`"
        );
        assert!(with("7", "512", "[1,2]").contains("no more `hash_ids` than blocks of 512 tokens"));
        assert!(with("4.9", "9", "[1]").contains("not before that of the request above it"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            all in prop::collection::vec((0_u64..1 << 40, any::<u32>(), prop::collection::vec(any::<u64>(), 0..5)), 0..9),
            bailian: bool,
        ) {
            let form = if bailian { Form::Bailian } else { Form::Mooncake };
            let (mut at, mut first, mut text, mut rows) = (0, None, String::new(), Vec::new());
            for (gap, output, names) in &all {
                at += gap;
                let first = *first.get_or_insert(at);
                let input = u32::try_from(names.len()).unwrap() * form.block_tokens().get() + 7;
                // Microseconds, written as either form does.
                let (chat, place) = if bailian { ("\"chat_id\":1,", 6) } else { ("", 3) };
                let digits = format!("{at:0width$}", width = place + 1);
                let (whole, fraction) = digits.split_at(digits.len() - place);
                text += &format!(
                    "{{{chat}\"timestamp\":{whole}.{fraction},\"input_length\":{input},\"output_length\":{output},\"hash_ids\":{names:?}}}\n"
                );
                rows.push(row(form, Duration::from_micros(at - first), input, *output, names));
            }
            prop_assert_eq!(read(&text), Ok(rows));
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            near in "(\\{\"(timestamp|chat_id|hash_ids|input_length)\":[-0-9.e\\[\\],]{0,30}\\}?\n?){0,4}",
            time in "[0-9.e-]{0,40}",
        ) {
            let _ = read(&String::from_utf8_lossy(&bytes));
            let _ = read(&near);
            let _ = read(&format!(
                "{{\"timestamp\":{time},\"input_length\":1,\"output_length\":1}}\n{{\"chat_id\":0,\"timestamp\":{time},\"input_length\":18446744073709551615,\"output_length\":1,\"hash_ids\":[1]}}"
            ));
        }
    }
}

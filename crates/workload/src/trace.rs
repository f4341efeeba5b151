//! Traces: when a request came and how many tokens it had, and nothing else of it.
//!
//! A reader is fed lines, from wherever, and keeps none of them.

use std::time::Duration;

use quantity::TokenCount;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// When it came, from the trace's first request.
    pub at: Duration,
    /// Tokens of its prompt.
    pub input: TokenCount,
    /// Tokens that it got.
    pub output: TokenCount,
}

/// A line that is not what the format promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found `{found}`")]
pub struct TraceError {
    /// Its number, from 1.
    pub line: u64,
    /// What should be there.
    pub expected: &'static str,
    /// What is there, shortened.
    pub found: String,
}

/// Reads the Azure LLM inference traces of 2023 and 2024: a header, then one request a line, in the
/// order of time: `2023-11-16 18:15:46.6805900,374,44`.
///
/// # Source
/// <https://github.com/Azure/AzurePublicDataset>, `AzureLLMInferenceDataset2023.md`.
#[derive(Debug, Clone, Default)]
pub struct AzureReader {
    line: u64,
    first: Option<Duration>,
    last: Duration,
}

pub(crate) const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";
const INSTANT: &str = "a time such as `2023-11-16 18:15:46.6805900`, UTC if it names a zone";

impl AzureReader {
    /// Reads the next line, with or without its end; `None` for the header and for empty lines.
    ///
    /// # Errors
    /// If it is not a request, or comes before the one above it.
    pub fn line(&mut self, line: &str) -> Result<Option<Row>, TraceError> {
        self.line += 1;
        let error = |expected: &'static str, found: &str| TraceError {
            line: self.line,
            expected,
            found: found.chars().take(60).collect(),
        };
        let line = line.trim_end_matches(['\n', '\r']);
        if self.line == 1 {
            let header = line.trim_start_matches('\u{feff}');
            return (header == HEADER).then_some(None).ok_or_else(|| {
                error("the header `TIMESTAMP,ContextTokens,GeneratedTokens`", line)
            });
        }
        if line.is_empty() {
            return Ok(None);
        }
        let mut cells = line.split(',');
        let (Some(at), Some(input), Some(output), None) =
            (cells.next(), cells.next(), cells.next(), cells.next())
        else {
            return Err(error("three cells, `TIMESTAMP,ContextTokens,GeneratedTokens`", line));
        };
        let at = instant(at).ok_or_else(|| error(INSTANT, at))?;
        let count = |cell: &str| {
            let digits = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
            let count = if digits { cell.parse().ok().and_then(TokenCount::new) } else { None };
            count.ok_or_else(|| error("a whole number of tokens", cell))
        };
        let (input, output) = (count(input)?, count(output)?);
        if at < self.last {
            return Err(error("a time that is not before that of the request above it", line));
        }
        self.last = at;
        let first = *self.first.get_or_insert(at);
        Ok(Some(Row { at: at - first, input, output }))
    }

    /// Reads a whole trace.
    ///
    /// # Errors
    /// At the first line that is wrong; nothing after it should be read.
    pub fn rows(text: &str) -> impl Iterator<Item = Result<Row, TraceError>> {
        let mut reader = Self::default();
        text.lines().filter_map(move |line| reader.line(line).transpose())
    }
}

/// The time since year 0 of `2023-11-16 18:15:46.6805900`, with up to nine digits of a second, and
/// perhaps `+00:00` or `Z` behind.
pub(crate) fn instant(text: &str) -> Option<Duration> {
    let bare = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let (whole, fraction) = match bare.split_once('.') {
        Some((whole, fraction)) if (1..=9).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (bare, "0"),
    };
    let bytes = whole.as_bytes();
    let form = b"dddd-dd-dd dd:dd:dd";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'T'),
        _ => byte == form,
    };
    if bytes.len() != form.len() || !bytes.iter().zip(form).all(fits) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().fold(0_u64, |number, byte| number * 10 + u64::from(byte - b'0'))
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_at = usize::try_from(month).ok()?.checked_sub(1)?;
    let length = *lengths.get(month_at)?;
    if day == 0 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Leap days of the years before this one, year 0 being one of them.
    let leaps = year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    let days = year * 365 + leaps + lengths[..month_at].iter().sum::<u64>() + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanos: u32 = if digits { format!("{fraction:0<9}").parse().ok()? } else { return None };
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &str) -> Result<Vec<Row>, TraceError> {
        AzureReader::rows(&format!("{HEADER}\r\n{lines}")).collect()
    }

    fn row(at: Duration, input: u32, output: u32) -> Row {
        Row { at, input: input.into(), output: output.into() }
    }

    #[test]
    fn times_count_from_the_first_request() {
        let rows = read(
            "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n\
             2024-02-29 00:00:00.5+00:00,1,0",
        );
        let leap_day = (104 * 24 * 3600 + 5 * 3600 + 44 * 60 + 13, 819_410_000);
        assert_eq!(
            rows.unwrap(),
            [
                row(Duration::ZERO, 374, 44),
                row(Duration::new(4, 314_579_000), 396, 109),
                row(Duration::new(leap_day.0, leap_day.1), 1, 0),
            ]
        );
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let message = |lines: &str| read(lines).unwrap_err().to_string();
        let good = "2023-11-16 18:15:46.6805900,374,44\n";
        assert_eq!(
            message(&format!("{good}2023-11-16 18:15:47,-3,44")),
            "line 3: expected a whole number of tokens, found `-3`"
        );
        assert_eq!(
            message(&format!("{good}\n2023-11-16 18:1")),
            "line 4: expected three cells, `TIMESTAMP,ContextTokens,GeneratedTokens`, \
             found `2023-11-16 18:1`"
        );
        assert_eq!(
            message(&format!("{good}2023-11-16 18:15:45,1,1")),
            "line 3: expected a time that is not before that of the request above it, \
             found `2023-11-16 18:15:45,1,1`"
        );
        for time in ["2023-02-29 00:00:00", "NaN", "2023-11-16 24:00:00", "2023-11-16 00:00:00.x"] {
            let found = message(&format!("{time},1,1"));
            assert!(found.starts_with("line 2: expected a time such as"), "{found}");
        }
        assert_eq!(
            AzureReader::rows("time,in,out").next().unwrap().unwrap_err().to_string(),
            "line 1: expected the header `TIMESTAMP,ContextTokens,GeneratedTokens`, \
             found `time,in,out`"
        );
        assert!(read("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            gaps in prop::collection::vec(
                (0_u64..100_000_000_000_000, any::<u32>(), any::<u32>()), 0..20,
            ),
        ) {
            // An instant written by another library, in steps of the format's 100 ns.
            let mut at = Duration::from_secs(1_700_158_546);
            let (start, mut text, mut rows) = (at, String::new(), Vec::new());
            for &(gap, input, output) in &gaps {
                let written = quantity::UnixTime::from_nanos(at.as_nanos().try_into().unwrap());
                let seconds = &format!("{written:?}")[.."2023-11-16T18:15:46".len()];
                let fraction = at.subsec_nanos() / 100;
                text += &format!("{},{input},{output}\n", [&seconds.replace('T', " "), ".", &format!("{fraction:07}")].concat());
                rows.push(row(at - start, input, output));
                at += Duration::from_nanos(gap * 100);
            }
            prop_assert_eq!(read(&text), Ok(rows));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9:., T\\-+Z\u{e4}\n]{0,60}", line in ".{0,40}") {
            let _ = read(&text);
            let _ = read(&line);
        }
    }
}

//! Traces of any known format, which their first line tells.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use quantity::TokenCount;

use crate::trace::instant;
use crate::{AzureReader, BlockReader, NamedRow, Row, TraceError};

/// Reads a trace line by line, in the order of time:
///
/// - Azure's CSV ([`AzureReader`]), by its header;
/// - Mooncake's and Bailian's JSON lines ([`BlockReader`]);
/// - BurstGPT's CSV, by its header: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log
///   Type`, in later versions with `Session ID` and `Elapsed time`, time in seconds; requests without a
///   reply failed, and are left out;
/// - any other CSV with a header, if it is told which [`Columns`] hold what.
///
/// # Source
/// <https://github.com/HPMLL/BurstGPT>, `README.md`.
#[derive(Debug, Clone, Default)]
pub struct TraceReader {
    columns: Option<Columns>,
    kind: Option<Kind>,
    left_out: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Azure(AzureReader),
    Blocks(BlockReader),
    Table(TableReader),
}

/// Which columns of a CSV hold what: `time=arrived,in=prompt_tokens,out=completion_tokens`, perhaps with
/// `unit=ms`. Times that are no numbers are instants such as `2023-11-16 18:15:46.68`. `priority=urgency`
/// tells whom vLLM's scheduling policy `priority` would serve first: whose whole number is lower.
///
/// # Source
/// vLLM, `vllm/v1/request.py` (`Request.__lt__`: by priority, then by arrival), 2026.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    time: String,
    input: String,
    output: String,
    priority: Option<String>,
    /// Digits from a second down to the unit of numbers.
    unit: usize,
}

/// What a first line may be.
const UNKNOWN: &str = "the header `TIMESTAMP,ContextTokens,GeneratedTokens` of Azure's traces or BurstGPT's \
                       `Timestamp,Model,Request tokens,Response tokens,...`, a JSON line of Mooncake's or Bailian's, \
                       or to be told the columns";
const TIME: &str =
    "a time: a number that is not negative, such as 12.5, or `2023-11-16 18:15:46.68`";
const COUNT: &str = "a whole number of tokens";
const PRIORITY: &str =
    "a priority: a whole number such as 0, 5 or -1, of which the lowest is served first";

/// In which cells of a line what is, and how many cells it has.
#[derive(Debug, Clone, Copy)]
struct Places {
    time: usize,
    input: usize,
    output: usize,
    priority: Option<usize>,
    cells: usize,
}

impl TraceReader {
    /// Of a CSV whose columns are told, or of a format that the first line tells.
    #[must_use]
    pub const fn new(columns: Option<Columns>) -> Self {
        Self { columns, kind: None, left_out: 0 }
    }

    /// Reads the next line, with or without its end; `None` for headers, empty lines and requests that
    /// are left out.
    ///
    /// # Errors
    /// If it is not a request, or comes before the one above it. Nothing after it should be read.
    pub fn line(&mut self, line: &str) -> Result<Option<NamedRow>, TraceError> {
        let kind = match &mut self.kind {
            Some(kind) => kind,
            unknown => unknown.insert(Kind::of(line, self.columns.as_ref())?),
        };
        match kind {
            Kind::Azure(reader) => Ok(reader.line(line)?.map(NamedRow::from)),
            Kind::Blocks(reader) => reader.line(line),
            Kind::Table(reader) => {
                let row = reader.line(line)?;
                if let Some(named) = &row
                    && reader.drops_failed
                    && named.row.output == TokenCount::ZERO
                {
                    self.left_out += 1;
                    return Ok(None);
                }
                Ok(row)
            }
        }
    }

    /// What the first line told; `None` before there was one.
    #[must_use]
    pub const fn format(&self) -> Option<&'static str> {
        match &self.kind {
            None => None,
            Some(Kind::Azure(_)) => Some("Azure"),
            Some(Kind::Blocks(reader)) => reader.format(),
            Some(Kind::Table(reader)) if reader.drops_failed => Some("BurstGPT"),
            Some(Kind::Table(_)) => Some("CSV"),
        }
    }

    /// Whether the first line told that rows name the blocks of their prompts.
    #[must_use]
    pub const fn names_blocks(&self) -> bool {
        matches!(self.kind, Some(Kind::Blocks(_)))
    }

    /// Requests that had no reply, where the format tells so.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

impl From<Row> for NamedRow {
    /// In common with no other.
    fn from(row: Row) -> Self {
        Self { row, block_tokens: NonZeroU32::MIN, names: Vec::new(), priority: 0 }
    }
}

impl Kind {
    fn of(first: &str, columns: Option<&Columns>) -> Result<Self, TraceError> {
        let bare = first.trim_start_matches('\u{feff}').trim();
        if let Some(columns) = columns {
            return Ok(Self::Table(TableReader::new(columns.clone(), false)));
        }
        if bare.starts_with('{') {
            return Ok(Self::Blocks(BlockReader::default()));
        }
        if bare == crate::trace::HEADER {
            return Ok(Self::Azure(AzureReader::default()));
        }
        let burst = Columns {
            time: "Timestamp".to_owned(),
            input: "Request tokens".to_owned(),
            output: "Response tokens".to_owned(),
            priority: None,
            unit: 0,
        };
        if burst.places(bare).is_some() {
            return Ok(Self::Table(TableReader::new(burst, true)));
        }
        Err(TraceError { line: 1, expected: UNKNOWN, found: bare.chars().take(60).collect() })
    }
}

impl Columns {
    /// The one that tells priorities.
    #[must_use]
    pub fn priority(&self) -> Option<&str> {
        self.priority.as_deref()
    }

    /// Where they are in a header, if all of them are there.
    fn places(&self, header: &str) -> Option<Places> {
        let header = cells(header)?;
        let place = |name: &str| header.iter().position(|cell| cell.trim() == name);
        let priority = match &self.priority {
            Some(name) => Some(place(name)?),
            None => None,
        };
        let (time, input, output) = (place(&self.time)?, place(&self.input)?, place(&self.output)?);
        Some(Places { time, input, output, priority, cells: header.len() })
    }
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [mut time, mut input, mut output, mut priority, mut unit] = [const { None }; 5];
        for part in text.split(',') {
            let (key, name) = part.split_once('=').unwrap_or((part, ""));
            let place = match key {
                "time" => &mut time,
                "in" => &mut input,
                "out" => &mut output,
                "priority" => &mut priority,
                "unit" => &mut unit,
                _ => {
                    return Err(format!(
                        "unknown `{key}`; expected `time=..,in=..,out=..`, perhaps `priority=..` and `unit=ms`"
                    ));
                }
            };
            if name.is_empty() {
                return Err(format!("`{key}` names no column"));
            }
            if place.replace(name.to_owned()).is_some() {
                return Err(format!("`{key}` is told twice"));
            }
        }
        let unit = match unit.as_deref() {
            None | Some("s") => 0,
            Some("ms") => 3,
            Some("us") => 6,
            Some("ns") => 9,
            Some(other) => return Err(format!("unknown unit `{other}`; expected s, ms, us or ns")),
        };
        match (time, input, output) {
            (Some(time), Some(input), Some(output)) => {
                Ok(Self { time, input, output, priority, unit })
            }
            _ => Err("expected all of `time=..,in=..,out=..`".to_owned()),
        }
    }
}

/// A CSV with a header.
#[derive(Debug, Clone)]
struct TableReader {
    columns: Columns,
    /// Whether requests without a reply are known to have failed.
    drops_failed: bool,
    line: u64,
    places: Option<Places>,
    first: Option<Duration>,
    last: Duration,
}

impl TableReader {
    const fn new(columns: Columns, drops_failed: bool) -> Self {
        let (first, last) = (None, Duration::ZERO);
        Self { columns, drops_failed, line: 0, places: None, first, last }
    }

    fn line(&mut self, line: &str) -> Result<Option<NamedRow>, TraceError> {
        self.line += 1;
        let error = |expected: &'static str, found: &str| TraceError {
            line: self.line,
            expected,
            found: found.chars().take(60).collect(),
        };
        let line = line.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']);
        let Some(places) = self.places else {
            let places = self.columns.places(line);
            self.places = Some(
                places.ok_or_else(|| error("a header with the columns that were told", line))?,
            );
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(None);
        }
        let cells = cells(line).filter(|cells| cells.len() == places.cells);
        let cells = cells.ok_or_else(|| error("as many cells as the header has", line))?;
        let cell = |place: usize| cells[place].trim();
        let (at, input, output) = (cell(places.time), cell(places.input), cell(places.output));
        let unit = self.columns.unit;
        let at = decimal(at, unit).or_else(|| instant(at)).ok_or_else(|| error(TIME, at))?;
        let tokens = |cell: &str| {
            let digits = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
            let count = if digits { cell.parse().ok().and_then(TokenCount::new) } else { None };
            count.ok_or_else(|| error(COUNT, cell))
        };
        let (input, output) = (tokens(input)?, tokens(output)?);
        // A request that tells none is not taken for one of priority 0.
        let priority = match places.priority.map(cell) {
            Some(cell) => cell.parse().map_err(|_| error(PRIORITY, cell))?,
            None => 0,
        };
        if at < self.last {
            return Err(error(
                "a time that is not before that of the request above it (sort the file by it)",
                line,
            ));
        }
        self.last = at;
        let first = *self.first.get_or_insert(at);
        let row = Row { at: at - first, input, output };
        Ok(Some(NamedRow { priority, ..row.into() }))
    }
}

/// A number of seconds, or of what is so many digits finer; no sign, no exponent. What is finer than a
/// nanosecond is cut off.
fn decimal(text: &str, finer: usize) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let places = 9_usize.checked_sub(finer)?;
    let fraction = &fraction[..fraction.len().min(places)];
    let nanos: u128 = format!("{whole}{fraction:0<places$}").parse().ok()?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// The cells of a line of CSV, without their quotes; `None` if a quote is not closed.
fn cells(line: &str) -> Option<Vec<&str>> {
    let (mut rest, mut cells) = (line, Vec::new());
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let Some((cell, next)) = rest.split_once(',') else {
                cells.push(rest);
                return Some(cells);
            };
            cells.push(cell);
            rest = next;
            continue;
        };
        let mut from = 0;
        let end = loop {
            let at = from + quoted.get(from..)?.find('"')?;
            // Two quotes are one of the text.
            if !quoted[at + 1..].starts_with('"') {
                break at;
            }
            from = at + 2;
        };
        cells.push(&quoted[..end]);
        match quoted[end + 1..].strip_prefix(',') {
            Some(next) => rest = next,
            None if quoted.len() == end + 1 => return Some(cells),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Milliseconds, and tokens in and out.
    type Rows = Vec<(u64, u64, u64)>;

    fn read(columns: Option<&str>, text: &str) -> (Result<Rows, String>, TraceReader) {
        let mut reader = TraceReader::new(columns.map(|columns| columns.parse().unwrap()));
        let rows = text.lines().filter_map(|line| reader.line(line).transpose());
        let rows = rows.map(|row| {
            let Row { at, input, output } = row.map_err(|error| error.to_string())?.row;
            Ok((u64::try_from(at.as_millis()).unwrap(), input.get(), output.get()))
        });
        (rows.collect(), reader)
    }

    const BURST: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";

    #[test]
    fn the_first_line_tells_the_format() {
        let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44";
        let (rows, reader) = read(None, azure);
        assert_eq!((rows, reader.format()), (Ok(vec![(0, 374, 44)]), Some("Azure")));
        let mooncake = "{\"timestamp\": 27, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [4, 7]}";
        let (rows, reader) = read(None, mooncake);
        assert_eq!((rows, reader.format()), (Ok(vec![(0, 600, 5)]), Some("Mooncake")));
        let rows = "5,ChatGPT,472,18,490,Conversation log\n45.5,\"GPT-4, new\",1087,0,1087,API log\n118,GPT-4,417,276,693,API log";
        let (rows, reader) = read(None, &format!("{BURST}{rows}"));
        assert_eq!(rows, Ok(vec![(0, 472, 18), (113_000, 417, 276)]));
        assert_eq!((reader.format(), reader.left_out()), (Some("BurstGPT"), 1));
        let later = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                     0,1,2.5,GPT-4,10,20,30,API log";
        assert_eq!(read(None, later).0, Ok(vec![(0, 10, 20)]));
        let told = read(None, "when,prompt,reply\n1,2,3").0.unwrap_err();
        assert!(
            told.starts_with("line 1: expected the header") && told.contains("`when,prompt,reply`"),
            "{told}"
        );
    }

    #[test]
    fn columns_that_are_told_may_be_anywhere() {
        let text = "id,reply,\"when\",prompt\n\"a,\"\"b\",7,1700158546680,12\nc,9,1700158547180.5,10000000\n";
        let (rows, reader) = read(Some("time=when,in=prompt,out=reply,unit=ms"), text);
        assert_eq!(
            (rows, reader.format()),
            (Ok(vec![(0, 12, 7), (500, 10_000_000, 9)]), Some("CSV"))
        );
        let instants = "t,i,o\n2024-01-01 00:00:00,1,2\n2024-01-01T00:00:01.5Z,3,4\n";
        assert_eq!(read(Some("time=t,in=i,out=o"), instants).0, Ok(vec![(0, 1, 2), (1500, 3, 4)]));
        for (wrong, what) in [
            ("time=t,in=i", "expected all of"),
            ("time=t,in=i,out=o,in=x", "told twice"),
            ("time=t,in=i,out=", "names no column"),
            ("time=t,in=i,out=o,priority=", "`priority` names no column"),
            ("time=t,in=i,out=o,priority=p,priority=q", "`priority` is told twice"),
            ("time=t,in=i,out=o,unit=h", "unknown unit `h`"),
            (
                "time=t,in=i,aus=o",
                "unknown `aus`; expected `time=..,in=..,out=..`, perhaps `priority=..`",
            ),
        ] {
            let told = wrong.parse::<Columns>().unwrap_err();
            assert!(told.contains(what), "{wrong}: {told}");
        }
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong() {
        let told = |line: &str| {
            read(Some("time=t,in=i,out=o"), &format!("t,i,o\n5,1,1\n{line}\n")).0.unwrap_err()
        };
        for (line, what) in [
            ("4.9,1,1", "line 3: expected a time that is not before"),
            ("-1,1,1", "line 3: expected a time: a number"),
            ("NaN,1,1", "line 3: expected a time: a number"),
            ("1e400,1,1", "line 3: expected a time: a number"),
            ("6,-3,1", "line 3: expected a whole number of tokens, found `-3`"),
            ("6,1.5,1", "line 3: expected a whole number"),
            ("6,1", "line 3: expected as many cells as the header has, found `6,1`"),
            ("6,\"1", "line 3: expected as many cells"),
            ("6,99999999999999999999,1", "line 3: expected a whole number"),
        ] {
            let told = told(line);
            assert!(told.starts_with(what), "{line}: {told}");
        }
        let told = read(Some("time=t,in=i,out=o"), "t,i\n").0.unwrap_err();
        assert!(told.contains("line 1: expected a header with the columns"), "{told}");
        assert_eq!(read(None, "").0, Ok(Vec::new()));
    }

    #[test]
    fn a_bad_priority_is_named_with_its_line() {
        let told = |cell: &str| {
            let text = format!("t,i,o,p\n5,1,1,-3\n6,1,1,{cell}\n");
            read(Some("time=t,in=i,out=o,priority=p"), &text).0.unwrap_err()
        };
        for wrong in ["high", "1.5", "", "1e3", "9223372036854775808"] {
            assert_eq!(
                told(wrong),
                format!(
                    "line 3: expected a priority: a whole number such as 0, 5 or -1, of which the lowest is served \
                     first, found `{wrong}`"
                )
            );
        }
        let none = read(Some("time=t,in=i,out=o,priority=p"), "t,i,o\n5,1,1\n").0.unwrap_err();
        assert!(none.starts_with("line 1: expected a header with the columns"), "{none}");
    }

    proptest! {
        #[test]
        fn columns_are_read_wherever_they_are(
            rows in prop::collection::vec((0_u64..1 << 40, any::<u32>(), any::<u32>(), any::<i64>()), 0..9),
            order in Just([0_usize, 1, 2, 3, 4]).prop_shuffle(),
            told: bool,
        ) {
            let line = |cells: [String; 5]| order.map(|place| cells[place].clone()).join(",") + "\n";
            let mut text = line(["t", "i", "o", "p", "other"].map(str::to_owned));
            let (mut at, mut expected) = (0, Vec::new());
            for &(gap, input, output, priority) in &rows {
                at += if expected.is_empty() { 0 } else { gap };
                let quoted = format!("\"{priority}\"");
                text += &line([at.to_string(), input.to_string(), output.to_string(), quoted, "x".to_owned()]);
                let row = Row { at: Duration::from_micros(at), input: input.into(), output: output.into() };
                // Who is not asked to tell them has none.
                expected.push(NamedRow { priority: if told { priority } else { 0 }, ..row.into() });
            }
            let more = if told { ",priority=p" } else { "" };
            let mut reader = TraceReader::new(format!("time=t,in=i,out=o{more},unit=us").parse().ok());
            let read: Result<Vec<_>, _> =
                text.lines().filter_map(|line| reader.line(line).transpose()).collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn no_text_makes_it_panic_and_times_never_go_back(
            head in prop_oneof![
                Just(BURST.to_owned()),
                Just("{\"chat_id\": 1, \"timestamp\": 1.5, \"input_length\": 1, \"output_length\": 1}\n".to_owned()),
                Just("TIMESTAMP,ContextTokens,GeneratedTokens\n".to_owned()),
                ".{0,40}\n",
            ],
            lines in "([0-9\",.:\\-T {}\\[\\]a-z\u{e4}]{0,40}\n){0,6}",
            told: bool,
        ) {
            let columns = "time=Timestamp,in=Request tokens,out=Total tokens,priority=Response tokens";
            let columns = told.then_some(columns);
            let (rows, _) = read(columns, &(head + &lines));
            if let Ok(rows) = rows {
                prop_assert!(rows.is_sorted_by_key(|row| row.0));
            }
        }

        #[test]
        fn a_number_is_read_to_the_nanosecond(nanos: u64, finer in prop::sample::select(vec![0_usize, 3, 6, 9])) {
            let unit = 10_u64.pow(9 - u32::try_from(finer).unwrap());
            let width = 9 - finer;
            let text = match width {
                0 => nanos.to_string(),
                _ => format!("{}.{:0width$}", nanos / unit, nanos % unit),
            };
            prop_assert_eq!(decimal(&text, finer), Some(Duration::from_nanos(nanos)));
        }
    }
}

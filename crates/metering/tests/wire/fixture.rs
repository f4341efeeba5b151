//! The form of a fixture, and how it is played.
//!
//! A head of `name value` lines; the body, each line behind a mark; the outcome. A line of the body
//! is marked `|` when it passes, `-` when it does not, and `>` where it passes and everything
//! from it on is held until the exchange is settled.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use facts::{Api, AttemptEnd, AttemptReason, Charged, Dispatch, ToldCost};
use metering::{AttemptMeter, Close, Convention, Request, Served};
use quantity::{Doubt, ExchangeId, HashKey, UnixTime};

pub(crate) struct Fixture {
    api: Api,
    convention: Convention,
    /// Below the base URL; some APIs name the model in it.
    path: String,
    request: String,
    status: Option<u16>,
    content_type: Option<String>,
    pub(crate) close: Close,
    line_end: &'static str,
    /// The body ends without the line end of its last line.
    torn: bool,
    lines: Vec<(char, String)>,
    pub(crate) outcome: String,
}

/// What came of it.
pub(crate) struct Played {
    /// Bytes forwarded before the last ones.
    pub(crate) before: Vec<u8>,
    /// Bytes held until the exchange is settled.
    pub(crate) last: Option<Vec<u8>>,
    /// What came after those.
    pub(crate) after: Vec<u8>,
    pub(crate) end: AttemptEnd,
}

impl Played {
    pub(crate) fn forwarded(&self) -> Vec<u8> {
        [&self.before[..], self.last.as_deref().unwrap_or_default(), &self.after].concat()
    }
}

pub(crate) fn paths() -> Vec<PathBuf> {
    // Tests run in the package's folder; a path from compile time could be another checkout's, where
    // they share a target folder.
    let files = std::fs::read_dir("tests/fixtures").unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

pub(crate) fn all() -> Vec<Fixture> {
    let parse = |path| Fixture::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    paths().into_iter().map(parse).collect()
}

impl Fixture {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut fixture = Self {
            api: Api::OpenAiChat,
            convention: Convention::OpenAi,
            path: String::new(),
            request: String::new(),
            status: None,
            content_type: None,
            close: Close::BodyEnd,
            line_end: "\n",
            torn: false,
            lines: Vec::new(),
            outcome: String::new(),
        };
        let mut rest = text;
        while let Some(line) = rest.lines().next() {
            let is_body = line.starts_with(['|', '-', '>']);
            if !is_body && !fixture.lines.is_empty() {
                break;
            }
            rest = rest[line.len()..].strip_prefix('\n').unwrap_or_default();
            if is_body {
                let mark = line.chars().next().ok_or("a mark")?;
                let line = line[1..].strip_prefix(' ').unwrap_or(&line[1..]);
                fixture.lines.push((mark, line.to_owned()));
            } else if line == "no body" {
                break;
            } else if !line.is_empty() && !line.starts_with('#') {
                fixture.head(line)?;
            }
        }
        fixture.outcome = rest.strip_prefix('\n').unwrap_or(rest).to_owned();
        Ok(fixture)
    }

    fn head(&mut self, line: &str) -> Result<(), String> {
        let unknown = || format!("unknown line `{line}`");
        let (name, value) = line.split_once(' ').ok_or_else(unknown)?;
        match name {
            "api" => self.api = Api::from_name(value).ok_or_else(unknown)?,
            "kind" => self.convention = Convention::from_name(value).ok_or_else(unknown)?,
            "path" => value.clone_into(&mut self.path),
            "request" => value.clone_into(&mut self.request),
            "status" => self.status = Some(value.parse().map_err(|_| unknown())?),
            "content-type" => self.content_type = Some(value.to_owned()),
            "close" => {
                self.close = match value {
                    "body_end" => Close::BodyEnd,
                    "reset" => Close::Reset,
                    "unreachable" => Close::Unreachable,
                    "timeout" => Close::Timeout,
                    "client_gone" => Close::ClientGone,
                    "redirected" => Close::Redirected,
                    _ => return Err(unknown()),
                }
            }
            "line-ends" => {
                self.line_end = match value {
                    "crlf" => "\r\n",
                    "cr" => "\r",
                    _ => return Err(unknown()),
                }
            }
            "torn" => self.torn = true,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn lines(&self, mut wanted: impl FnMut(char) -> bool) -> Vec<u8> {
        let mut text = String::new();
        for (index, (mark, line)) in self.lines.iter().enumerate() {
            let torn = self.torn && index + 1 == self.lines.len();
            if wanted(*mark) {
                text += line;
                text += if torn { "" } else { self.line_end };
            }
        }
        text.into_bytes()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.lines(|_| true)
    }

    pub(crate) fn expected_forward(&self) -> Vec<u8> {
        self.lines(|mark| mark != '-')
    }

    pub(crate) fn expected_last(&self) -> Vec<u8> {
        let mut held = false;
        self.lines(|mark| {
            held |= mark == '>';
            held
        })
    }

    pub(crate) fn is_stream(&self) -> bool {
        let kind = self.content_type.as_deref().unwrap_or_default();
        kind.to_ascii_lowercase().starts_with("text/event-stream") && self.status == Some(200)
    }

    /// A meter that has the head.
    pub(crate) fn begun(&self) -> AttemptMeter {
        let key = HashKey::new([7; 32]);
        let body = self.request.as_bytes();
        let request = Request::read_at(self.api, &self.path, body, &key).unwrap();
        let asks = self.convention.must_ask_for_usage();
        let mut meter = meter(self.convention, &request, request.strips_usage(asks));
        if let Some(status) = self.status {
            meter.head(status, self.content_type.as_deref(), UnixTime::from_nanos(1));
        }
        meter
    }
}

pub(crate) fn meter(convention: Convention, request: &Request, strips_usage: bool) -> AttemptMeter {
    let dispatch = Dispatch {
        exchange: ExchangeId::from_bytes([1; 16]),
        ordinal: 0,
        at: UnixTime::from_nanos(0),
        reason: AttemptReason::First,
        upstream: "up".to_owned(),
        provider: None,
        model: request.model.clone(),
        region: None,
        input_estimate: request.input_estimate(),
        bound: None,
    };
    AttemptMeter::new(convention, request, strips_usage, dispatch)
}

/// Plays a fixture whose body comes in these chunks.
pub(crate) fn play(fixture: &Fixture, chunks: &[&[u8]], close: Close) -> Played {
    run(fixture.begun(), chunks, close)
}

/// Sends chunks through a meter as a gateway does, and closes it. Nothing may break down.
pub(crate) fn run(meter: AttemptMeter, chunks: &[&[u8]], close: Close) -> Played {
    let played = run_whatever(meter, chunks, close);
    assert!(!played.end.metered.doubts.contains(Doubt::MeterFailed), "a panic was contained");
    played
}

/// The same, whether or not the meter breaks down.
pub(crate) fn run_whatever(mut meter: AttemptMeter, chunks: &[&[u8]], close: Close) -> Played {
    let (mut before, mut last, mut after) = (Vec::new(), None, Vec::new());
    let at = UnixTime::from_nanos(2);
    let ends = matches!(close, Close::BodyEnd | Close::Reset);
    let steps = chunks.iter().map(Some).chain(ends.then_some(None));
    for chunk in steps {
        let step = match chunk {
            Some(chunk) => meter.push(Bytes::copy_from_slice(chunk), at),
            None => meter.body_end(),
        };
        let forward = if last.is_none() { &mut before } else { &mut after };
        forward.extend(step.forward.concat());
        if let Some(bytes) = step.last {
            assert!(last.is_none(), "the response is complete twice");
            last = Some(bytes.concat());
        }
    }
    let mut asked = None;
    let end = meter.close(close, at, |_, served, metered| {
        let Served { model, tier, region } = served;
        asked = Some(([model, tier, region].map(|text| text.map(str::to_owned)), *metered));
        (Charged::Unpriced { reason: "asked".to_owned() }, None)
    });
    match asked {
        None if end.metered.doubts.contains(Doubt::MeterFailed) => {}
        None => assert_eq!(end.charged, Charged::NotBilled),
        Some(asked) => {
            let served =
                [&end.model_served, &end.tier_served, &end.region_served].map(Clone::clone);
            assert_eq!(asked, (served, end.metered), "priced by what served");
        }
    }
    Played { before, last, after, end }
}

/// The start of a stream, up to so many whole events.
pub(crate) fn cut_after_events(body: &[u8], events: usize) -> &[u8] {
    let text = std::str::from_utf8(body).unwrap();
    let ends: Vec<usize> = text.match_indices("\n\n").map(|(at, _)| at + 2).collect();
    match events {
        0 => &[],
        n => &body[..ends[n - 1]],
    }
}

/// How it ended and what was consumed, in one line.
pub(crate) fn short(end: &AttemptEnd) -> String {
    let mut text = format!("{}, usage {}", end.end, end.metered.source);
    let usage = &end.metered.usage;
    let counts = usage.tokens.iter().map(|(class, count)| (class.name(), count));
    for (name, count) in counts.chain(usage.units.iter().map(|(unit, count)| (unit.name(), count)))
    {
        if count.get() > 0 {
            write!(text, " {name}={count}").unwrap();
        }
    }
    for doubt in end.metered.doubts.iter() {
        write!(text, " {doubt}?").unwrap();
    }
    text
}

/// The end of an attempt but for its times.
pub(crate) fn render(end: &AttemptEnd) -> String {
    let mut text = format!("{}\n", short(end));
    let fields = [
        ("error", end.error.as_deref()),
        ("finish", end.finish_reason.as_deref()),
        ("model", end.model_served.as_deref()),
        ("tier", end.tier_served.as_deref()),
        ("region", end.region_served.as_deref()),
        ("id", end.response_id.as_deref()),
        ("raw", end.raw_usage.as_deref()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            writeln!(text, "{name} {value}").unwrap();
        }
    }
    if !end.tools_called.is_empty() {
        writeln!(text, "tools {}", end.tools_called.join(" ")).unwrap();
    }
    match end.told {
        None => {}
        Some(ToldCost::Of(cost)) => writeln!(text, "told ${cost}").unwrap(),
        Some(ToldCost::Refused) => text += "told cost refused\n",
    }
    if end.charged == Charged::NotBilled {
        text += "not billed\n";
    }
    text
}

//! Serves the page with invented exchanges on a loopback port, to look at it while changing it:
//! `cargo run -p dashboard --example page -- 8788`, or `... -- 8788 empty`, or `... -- 8788 many`.
#![expect(clippy::unwrap_used, reason = "a tool for developers stops at what it did not expect")]

#[path = "../../facts/tests/fixture/mod.rs"]
mod fixture;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use dashboard::Dashboard;
use facts::{End, Exchange, Verdict};
use fixture::{Charge, Sample, Try, hourly, some_hours};
use quantity::{Doubt, UnixTime, UsageSource};
use report::BookLine;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8788".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let book = BookLine { name: "genai-prices".to_owned(), as_of: "2026-11-20".parse().unwrap() };
    let mut dashboard = Dashboard::new(book);
    let how = std::env::args().nth(2);
    if how.as_deref() != Some("empty") {
        fill(&mut dashboard);
    }
    if how.as_deref() == Some("many") {
        uncertain_routes().iter().for_each(|exchange| dashboard.settled(exchange));
    }
    for stream in listener.incoming() {
        answer(&dashboard, stream?)?;
    }
    Ok(())
}

fn fill(dashboard: &mut Dashboard) {
    dashboard.price(&hourly());
    for exchange in some_hours().iter().chain(&busy_hour()) {
        dashboard.settled(exchange);
    }
}

fn answer(dashboard: &Dashboard, mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let now: UnixTime = "2026-11-22T15:36:00Z".parse().unwrap();
    let Some(page) = dashboard.respond(path, now) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
    };
    let headers: String =
        page.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{}",
        page.content_type,
        page.body.len(),
        page.body,
    )
}

/// Two hundred routes, each with something that is not certain.
fn uncertain_routes() -> Vec<Exchange> {
    let (lost, source) = (Charge::Unpriced("usage unknown"), UsageSource::Unknown);
    let nothing = Try { charge: lost, source, tokens: [0; 4], end: End::Cut, ..Try::default() };
    let doubted = |doubts, source| Try { doubts, source, ..Try::default() };
    let tries = [
        Try { bound: Some("0.25"), ..nothing.clone() },
        Try { bound: None, ..nothing },
        doubted(&[Doubt::SumMismatch], UsageSource::Reported),
        doubted(&[Doubt::SplitUnknown, Doubt::ReasoningUnknown], UsageSource::Partial),
        doubted(&[Doubt::ChoicesUnderReported, Doubt::LowerBound], UsageSource::Reported),
        doubted(&[Doubt::OverlapOpen, Doubt::CountRefused], UsageSource::Reported),
        Try { charge: Charge::Unpriced("mixed"), doubts: &[Doubt::MixedModels], ..Try::default() },
    ];
    let exchange = |number: usize| {
        let tries = vec![tries[number % tries.len()].clone()];
        let mut exchange = Sample { tries, ..Sample::default() }.exchange(1);
        exchange.admission.labels.route = format!("generated-route-{number:03}");
        exchange
    };
    (0..200).map(exchange).collect()
}

/// Traffic of different shapes, enough of it that a page has something to show.
fn busy_hour() -> Vec<Exchange> {
    let shapes = [
        ("support-chat", "gpt-5-mini", ("0.25", "0.025", "2"), [420, 2_900, 210, 64], 40),
        ("rag-answers", "claude-sonnet-4-5", ("3", "0.30", "15"), [9_800, 1_200, 420, 0], 12),
        ("agent-plan", "claude-sonnet-4-5", ("3", "0.30", "15"), [3_100, 48_000, 900, 0], 9),
        ("title", "gpt-5-nano", ("0.05", "0.005", "0.40"), [310, 0, 12, 0], 55),
        ("long-documents", "gemini-2.5-pro", ("1.25", "0.31", "10"), [91_000, 0, 1_900, 800], 3),
        (
            "persona-bot-with-a-very-long-route-name",
            "gpt-5",
            ("1.25", "0.125", "10"),
            [21_000, 0, 1_400, 900],
            4,
        ),
        (
            "<img src=x onerror=alert(1)>",
            "gpt-5-nano",
            ("0.05", "0.005", "0.40"),
            [900, 0, 40, 0],
            2,
        ),
    ];
    let minutes: Vec<String> =
        (0..240).map(|n| format!("2026-11-22T15:{:02}:{:02}Z", n / 8 % 34, n * 7 % 60)).collect();
    let mut exchanges = Vec::new();
    for (shape, (route, model, (input, cached, output), tokens, count)) in
        shapes.into_iter().enumerate()
    {
        for index in 0..count {
            let mut one = Try {
                model,
                tokens,
                charge: Charge::PerMillion(input, cached, output),
                at_ms: (2, Some(180 + 90 * shape as u64), 900 + 700 * shape as u64),
                ..Try::default()
            };
            let mut verdict = Verdict::Completed;
            if index % 9 == 4 {
                (one.end, one.finish, verdict) = (End::ClientGone, None, Verdict::Aborted);
            } else if shape == 5 && index % 2 == 0 {
                one.finish = Some("length");
            }
            let at: &'static str =
                Box::leak(minutes[(index * 7 + shape * 31) % 240].clone().into_boxed_str());
            let sample = Sample { route, at, verdict, tries: vec![one], ..Sample::default() };
            exchanges.push(sample.exchange(u8::try_from(exchanges.len() % 256).unwrap()));
        }
    }
    exchanges.sort_by_key(|exchange| exchange.admission.at);
    exchanges
}

//! What the journal costs: exchanges encoded, appended and read per second of CPU time, and how long a
//! submitted record waits until it is written. `cargo bench -p journal [-- DIRECTORY]`

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "../../../bench/cpu.rs"]
mod cpu;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use facts::{
    Admission, Api, AttemptEnd, AttemptReason, ChargeLine, Charged, Dispatch, End, Labels,
    MessageShape, PromptShape, Role, RouteSource, Settlement, Verdict,
};
use journal::{Batch, Committer, DirStorage, Options, Permit, Reader, Writer};
use quantity::{
    Billable, Doubts, ExchangeId, Fingerprint, Metered, Money, PriceRowId, TokenClass, TokenCount,
    UnitPrice, UnixTime, Usage, UsageSource,
};

fn main() {
    // Cargo passes `--bench`.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("journal-bench-{}", std::process::id()));
    let storage = || DirStorage::create(&directory).unwrap();

    let facts = Facts::new();
    let mut exchange = facts.begun();
    facts.end_in(&mut exchange);
    let records = exchange.records();
    println!("the {records} records of an exchange have {} bytes", exchange.bytes());
    cpu::rate("journal: encode", "exchanges", 10_000, None, || {
        for _ in 0..10_000 {
            let mut batch = facts.begun();
            facts.end_in(&mut batch);
            std::hint::black_box(batch);
        }
    });

    let mut writer = Writer::open(storage(), now(), 1).unwrap().0;
    cpu::rate("journal: append, one by one, no sync", "exchanges", 10_000, None, || {
        for _ in 0..10_000 {
            writer.append(&mut exchange, now()).unwrap();
        }
    });
    let append = "journal: encode and append in groups of 100, no sync";
    cpu::rate(append, "exchanges", 10_000, Some("1 million"), || {
        for _ in 0..100 {
            let mut group = Batch::new();
            for _ in 0..100 {
                facts.begin_in(&mut group);
                facts.end_in(&mut group);
            }
            writer.append(&mut group, now()).unwrap();
        }
    });
    drop(writer);
    std::fs::remove_dir_all(&directory).unwrap();

    // What a gateway does under load: beginnings and ends each wait for a sync that they share.
    let options = Options { sync_each: true, ..Options::default() };
    let writer = Writer::open(storage(), now(), 1).unwrap().0;
    let committer = Committer::start(writer, options, now).unwrap();
    let permits: Vec<Permit> = (0..1000).map(|_| committer.permit().unwrap()).collect();
    let commit = "journal: encode, submit, append, sync, for 1,000 at a time";
    cpu::rate(commit, "exchanges", 10_000, Some("200 thousand"), || {
        for _ in 0..10 {
            for end in [false, true] {
                let submit = |permit: &Permit| {
                    let mut batch = Batch::new();
                    if end {
                        facts.end_in(&mut batch)
                    } else {
                        facts.begin_in(&mut batch)
                    }
                    permit.submit(&batch)
                };
                let tickets: Vec<_> = permits.iter().map(submit).collect();
                tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
            }
        }
    });
    drop(permits);
    committer.close().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();

    let mut writer = Writer::open(storage(), now(), 1).unwrap().0;
    for _ in 0..100_000 {
        writer.append(&mut exchange, now()).unwrap();
    }
    drop(writer);
    // Ten million records in ten seconds.
    let goal = Some("1 million");
    cpu::rate("journal: open for writing", "records", 100_000 * records, goal, || {
        drop(Writer::open(storage(), now(), 1).unwrap());
    });
    cpu::rate("journal: read and check", "records", 100_000 * records, goal, || {
        let mut reader = Reader::open(storage()).unwrap();
        while reader.next().unwrap().is_some() {}
    });
    cpu::rate("journal: read, check and decode", "records", 100_000 * records, goal, || {
        let mut reader = Reader::open(storage()).unwrap();
        while let Some(record) = reader.next().unwrap() {
            std::hint::black_box(record.decode().unwrap());
        }
    });

    for (what, options, threads, pause) in [
        ("submit -> written, idle", Options::default(), 1, Duration::from_micros(500)),
        ("submit -> written, back to back", Options::default(), 1, Duration::ZERO),
        ("submit -> written, 8 threads", Options::default(), 8, Duration::ZERO),
        (
            "submit -> durable, 8 threads",
            Options { sync_each: true, ..Options::default() },
            8,
            Duration::ZERO,
        ),
    ] {
        let writer = Writer::open(storage(), now(), 1).unwrap().0;
        let committer = Committer::start(writer, options, now).unwrap();
        let begun = Instant::now();
        let mut waits: Vec<Duration> = thread::scope(|scope| {
            let run = || scope.spawn(|| waits(&facts, &committer.permit().unwrap(), pause));
            let threads: Vec<_> = (0..threads).map(|_| run()).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let took = begun.elapsed();
        let status = committer.status();
        committer.close().unwrap();
        waits.sort_unstable();
        let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
        println!(
            "{what}: p50 {:?}, p99 {:?}, max {:?}; {} submits/s, {:.1} to an append, {} syncs, worst append {:?}",
            at(50),
            at(99),
            at(100),
            (waits.len() as u128 * 1_000_000).checked_div(took.as_micros()).unwrap_or(0),
            waits.len() as f64 / status.appends as f64,
            status.syncs,
            status.worst_append,
        );
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// How long each submit waited, of beginnings and ends of exchanges in turn.
fn waits(facts: &Facts, permit: &Permit, pause: Duration) -> Vec<Duration> {
    let mut waits = Vec::new();
    for n in 0..4000 {
        let mut batch = Batch::new();
        if n % 2 == 0 {
            batch = facts.begun();
        } else {
            facts.end_in(&mut batch);
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        let begun = Instant::now();
        permit.submit(&batch).wait().unwrap();
        waits.push(begun.elapsed());
    }
    waits
}

fn now() -> UnixTime {
    UnixTime::from_nanos(1_795_305_605_000_000_000)
}

/// What is recorded of a small chat exchange.
struct Facts {
    admission: Admission,
    dispatch: Dispatch,
    end: AttemptEnd,
    settlement: Settlement,
}

impl Facts {
    fn begun(&self) -> Batch {
        let mut batch = Batch::new();
        self.begin_in(&mut batch);
        batch
    }

    fn begin_in(&self, batch: &mut Batch) {
        batch.push(&self.admission).unwrap();
        batch.push(&self.dispatch).unwrap();
    }

    fn end_in(&self, batch: &mut Batch) {
        batch.push(&self.end).unwrap();
        batch.push(&self.settlement).unwrap();
    }

    fn new() -> Self {
        let exchange = ExchangeId::new(now(), [1; 10]);
        let text = |text: &str| Some(text.to_owned());
        let message = |role, text_bytes| MessageShape {
            role,
            text_bytes,
            media: 0,
            content: Fingerprint(0x0123_4567_89ab_cdef),
            chain: Fingerprint(0xfedc_ba98_7654_3210),
        };
        let mut usage = Usage::default();
        usage.tokens[TokenClass::InputUncached] = TokenCount::from(800);
        usage.tokens[TokenClass::CacheRead] = TokenCount::from(1200);
        usage.tokens[TokenClass::OutputText] = TokenCount::from(300);
        let line = |class| {
            let (count, price) = (usage.tokens[class], UnitPrice::from_pico(250_000).unwrap());
            let list: Money = price.times(count);
            ChargeLine { item: Billable::Tokens(class), count, price, list, contracted: list }
        };
        Self {
            admission: Admission {
                exchange,
                at: now(),
                api: Api::OpenAiChat,
                stream: true,
                model_asked: text("gpt-5-mini"),
                max_tokens: Some(TokenCount::from(1024)),
                choices: None,
                tier_asked: None,
                labels: Labels {
                    route: "support-summary".to_owned(),
                    route_source: RouteSource::Header,
                    task: text("ticket-4711"),
                    task_type: text("ticket"),
                    user: None,
                    team: text("care"),
                    tags: vec![],
                },
                caller: Some(Fingerprint(7)),
                key: None,
                path: None,
                client_retry: Some(0),
                request_bytes: 6000,
                prompt: PromptShape {
                    messages: vec![message(Role::System, 4000), message(Role::User, 1000)],
                    tools: vec![],
                    tool_schema_bytes: 0,
                },
            },
            dispatch: Dispatch {
                exchange,
                ordinal: 0,
                at: now(),
                reason: AttemptReason::First,
                upstream: "openai".to_owned(),
                provider: text("openai"),
                model: text("gpt-5-mini"),
                region: None,
                input_estimate: TokenCount::from(1500),
                bound: Some(Money::from_pico(2_500_000_000)),
            },
            end: AttemptEnd {
                exchange,
                ordinal: 0,
                first_byte_at: Some(now()),
                first_token_at: Some(now()),
                last_token_at: Some(now()),
                at: now(),
                status: Some(200),
                end: End::Complete,
                error: None,
                response_id: text("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"),
                model_served: text("gpt-5-mini-2025-08-07"),
                tier_served: text("default"),
                region_served: None,
                finish_reason: text("stop"),
                metered: Metered { usage, source: UsageSource::Reported, doubts: Doubts::NONE },
                raw_usage: text(
                    r#"{"prompt_tokens":2000,"completion_tokens":300,"total_tokens":2300,"prompt_tokens_details":{"cached_tokens":1200}}"#,
                ),
                response_bytes: 9000,
                tools_called: vec![],
                charged: Charged::Priced {
                    row: PriceRowId::from_bytes([5; 16]),
                    lines: vec![
                        line(TokenClass::InputUncached),
                        line(TokenClass::CacheRead),
                        line(TokenClass::OutputText),
                    ],
                },
                told: None,
            },
            settlement: Settlement { exchange, at: now(), verdict: Verdict::Completed },
        }
    }
}

//! What answers cost over millions of exchanges.
//! `cargo bench -p warehouse --bench bill [-- EXCHANGES [DIRECTORY [CSV]]]`
//!
//! Writes a journal of 30 days (kept if a directory is named, and used again), projects it, and times
//! answers with all files in the system's cache. With the name of a CSV file, exports the attempts for
//! other engines; `bench/warehouse/ask_duckdb.py` asks them the same.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use facts::{
    Admission, Api, AttemptEnd, AttemptReason, ChargeLine, Charged, Dispatch, End, Exchange,
    Labels, MessageShape, PromptShape, Query, Role, RouteSource, Settlement, Verdict,
};
use journal::{Batch, Body, DirStorage, Reader, Writer};
use ledger::Ledger;
use quantity::{
    Billable, Doubts, ExchangeId, Fingerprint, Metered, Money, Period, PriceRowId, TokenClass,
    TokenCount, UnitPrice, UnixTime, Usage, UsageSource,
};
use warehouse::Warehouse;

const ROUTES: [&str; 12] = [
    "support",
    "agent-plan",
    "agent-act",
    "title",
    "summary",
    "search",
    "code",
    "review",
    "mail",
    "translate",
    "extract",
    "chat",
];
/// Name; micro-dollars per million tokens of input, cached input and output.
const MODELS: [(&str, [u64; 3]); 5] = [
    ("gpt-5-mini", [250_000, 25_000, 2_000_000]),
    ("gpt-5", [1_250_000, 125_000, 10_000_000]),
    ("gpt-5-nano", [50_000, 5_000, 400_000]),
    ("claude-sonnet-4-5", [3_000_000, 300_000, 15_000_000]),
    ("gpt-oss-120b", [0, 0, 0]),
];
const CLASSES: [TokenClass; 3] =
    [TokenClass::InputUncached, TokenClass::CacheRead, TokenClass::OutputText];

fn main() {
    // Cargo passes `--bench`.
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let exchanges: u64 = given.next().map_or(1_000_000, |count| count.parse().unwrap());
    let named = given.next().map(PathBuf::from);
    let passing = tempfile::tempdir().unwrap();
    let directory = named.as_deref().unwrap_or(passing.path());
    let journal = directory.join("journal");
    if !journal.is_dir() {
        time("writing it", || write(&journal, exchanges));
    }
    let storage = || DirStorage::open(&journal).unwrap();
    let bytes = size(&journal);
    println!("journal: {} MB", bytes >> 20);
    if let Some(path) = given.next() {
        time("export", || export(&journal, Path::new(&path)));
    }

    let folder = directory.join("warehouse");
    let _ = std::fs::remove_dir_all(&folder);
    let archive = DirStorage::later(directory.join("archive"));
    let warehouse = Warehouse::new(&folder, storage(), archive);
    time("projecting it", || assert!(warehouse.refresh().unwrap().unstored.is_none()));
    println!("projections: {} MB", size(&folder) >> 20);
    time("opening it to write on", || {
        let storage = DirStorage::create(&journal).unwrap();
        drop(Writer::open(storage, at(31), 1).unwrap());
    });
    time("what a gateway reads of it when it starts", || {
        let by = vec!["route".parse().unwrap(), "model".parse().unwrap()];
        let query = Query { by, period: Period::default() };
        warehouse.fold(&[query]).unwrap();
        warehouse.newest(10_000).unwrap();
    });
    let week = Period { start: Some(at(10)), end: Some(at(17)) };
    for (by, period, what) in [
        ("route,model", Period::default(), "30 days"),
        ("day", Period::default(), "30 days"),
        ("tag:release", Period::default(), "30 days"),
        ("", Period::default(), "30 days"),
        ("user", Period::default(), "30 days"),
        ("route,model", week, "7 days"),
        ("day", week, "7 days"),
        ("tag:release", week, "7 days"),
    ] {
        let by = by.split(',').filter(|name| !name.is_empty());
        let by: Vec<_> = by.map(|name| name.parse().unwrap()).collect();
        let query = Query { by, period };
        let mut took = Vec::new();
        let mut told = String::new();
        for _ in 0..5 {
            let begun = Instant::now();
            let answer = warehouse.answer(&query, at(31)).unwrap().answer;
            took.push(begun.elapsed());
            let (groups, total) = (answer.groups.len(), &answer.total);
            told = format!("{groups} groups, {} exchanges, ${}", total.exchanges, answer.spend());
        }
        took.sort();
        let by: Vec<String> = query.by.iter().map(ToString::to_string).collect();
        println!(
            "warehouse, by [{}] over {what}: median {} ms, worst {} ms: {told}",
            by.join(","),
            took[2].as_millis(),
            took[4].as_millis()
        );
    }
    // What the journal alone would say, of at most a million exchanges: it takes seconds for each.
    if exchanges <= 1_000_000 {
        time("fold the whole journal by route, model", || {
            let by = vec!["route".parse().unwrap(), "model".parse().unwrap()];
            let mut rollup = facts::Rollup::new(Query { by, period: Period::default() });
            fold(&journal, |exchange| rollup.add(exchange));
            println!("${}", rollup.answer(at(31)).spend());
        });
    }
}

fn time(what: &str, run: impl FnOnce()) {
    let begun = Instant::now();
    run();
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Midnight after so many days.
fn at(day: u64) -> UnixTime {
    let start: UnixTime = "2026-10-01".parse().unwrap();
    start.plus(Duration::from_secs(86_400 * day))
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

fn write(directory: &Path, exchanges: u64) {
    let storage = DirStorage::create(directory).unwrap();
    let mut writer = Writer::open(storage, at(0), 1).unwrap().0;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let apart = at(30).since(at(0)) / u32::try_from(exchanges).unwrap();
    let mut batch = Batch::new();
    // Ends follow some exchanges later, as they do under load.
    let mut open = std::collections::VecDeque::new();
    for n in 0..exchanges {
        let now = at(0).plus(apart * u32::try_from(n).unwrap());
        let [admission, dispatch, end, settlement] = exchange(&mut random, now);
        for part in [admission, dispatch] {
            batch.push(&part).unwrap();
        }
        open.push_back([end, settlement]);
        if open.len() > 20 || n + 1 == exchanges {
            let ready = if n + 1 == exchanges { open.len() } else { 1 };
            for part in open.drain(..ready).flatten() {
                batch.push(&part).unwrap();
            }
        }
        if batch.records() > 200 || n + 1 == exchanges {
            writer.append(&mut batch, now).unwrap();
            batch = Batch::new();
        }
    }
    writer.sync().unwrap();
}

fn exchange(random: &mut Random, at: UnixTime) -> [Body; 4] {
    let exchange = ExchangeId::new(at, std::array::from_fn(|_| random.below(256).to_le_bytes()[0]));
    let (model, prices) = random.of(&MODELS);
    let counts = [50 + random.below(4_000), random.below(8) * 512, 1 + random.below(900)];
    let message = |role, text_bytes| MessageShape {
        role,
        text_bytes,
        media: 0,
        content: Fingerprint(at.nanos().cast_unsigned()),
        chain: Fingerprint(text_bytes),
    };
    let admission = Admission {
        exchange,
        at,
        api: Api::OpenAiChat,
        stream: true,
        model_asked: Some((*model).to_owned()),
        max_tokens: TokenCount::new(1_024),
        choices: None,
        tier_asked: None,
        labels: Labels {
            route: (*random.of(&ROUTES)).to_owned(),
            route_source: RouteSource::Header,
            task: None,
            task_type: Some("ticket".to_owned()),
            user: Some(format!("user-{}", random.below(10_000))),
            team: Some((*random.of(&["care", "growth", "platform"])).to_owned()),
            tags: vec![("release".to_owned(), format!("r{}", random.below(40)))],
        },
        caller: Some(Fingerprint(random.below(1_000))),
        key: None,
        path: None,
        client_retry: None,
        request_bytes: counts[0] * 4,
        prompt: PromptShape {
            messages: vec![message(Role::System, 2_000), message(Role::User, counts[0])],
            tools: Vec::new(),
            tool_schema_bytes: 0,
        },
    };
    let dispatch = Dispatch {
        exchange,
        ordinal: 0,
        at: at.plus(Duration::from_micros(150)),
        reason: AttemptReason::First,
        upstream: "openai".to_owned(),
        provider: Some("openai".to_owned()),
        model: Some((*model).to_owned()),
        region: None,
        input_estimate: TokenCount::new(counts[0]).unwrap(),
        bound: Some(Money::from_pico(i128::from(counts[0]) * 1_000_000)),
    };
    let mut usage = Usage::default();
    let mut lines = Vec::new();
    for ((class, count), price) in CLASSES.into_iter().zip(counts).zip(prices) {
        let count = TokenCount::new(count).unwrap();
        usage.tokens[class] = count;
        let list = Money::from_pico(i128::from(count.get()) * i128::from(*price));
        let price = UnitPrice::from_pico(*price).unwrap();
        lines.push(ChargeLine {
            item: Billable::Tokens(class),
            count,
            price,
            list,
            contracted: list,
        });
    }
    let ended = at.plus(Duration::from_millis(300 + 8 * counts[2]));
    // One in fifty goes wrong, one in twenty is cut at its limit.
    let gone = random.below(50) == 0;
    let cut = random.below(20) == 0;
    let end = AttemptEnd {
        exchange,
        ordinal: 0,
        first_byte_at: Some(at.plus(Duration::from_millis(250))),
        first_token_at: Some(at.plus(Duration::from_millis(300))),
        last_token_at: Some(ended),
        at: ended,
        status: Some(200),
        end: if gone { End::ClientGone } else { End::Complete },
        error: None,
        response_id: Some(format!("chatcmpl-{:016x}", random.below(u64::MAX))),
        model_served: Some((*model).to_owned()),
        tier_served: None,
        region_served: None,
        finish_reason: (!gone).then(|| if cut { "length" } else { "stop" }.to_owned()),
        metered: Metered {
            usage,
            source: if gone { UsageSource::Estimated } else { UsageSource::Reported },
            doubts: Doubts::NONE,
        },
        raw_usage: Some(format!(
            r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}}"#,
            counts[0] + counts[1],
            counts[2],
            counts[0] + counts[1] + counts[2]
        )),
        response_bytes: counts[2] * 200,
        tools_called: Vec::new(),
        charged: Charged::Priced { row: PriceRowId::from_bytes([7; 16]), lines },
        told: None,
    };
    let verdict = if gone { Verdict::Aborted } else { Verdict::Completed };
    [
        Body::Admitted(admission),
        Body::Dispatched(dispatch),
        Body::AttemptEnded(end),
        Body::Settled(Settlement { exchange, at: ended, verdict }),
    ]
}

fn fold(journal: &Path, mut tell: impl FnMut(&Exchange)) {
    let mut reader = Reader::open(DirStorage::open(journal).unwrap()).unwrap();
    let mut ledger = Ledger::default();
    while let Some(record) = reader.next().unwrap() {
        match record.decode().unwrap().body {
            Body::Admitted(admission) => ledger.admit(admission).unwrap(),
            Body::Dispatched(dispatch) => ledger.dispatch(dispatch).unwrap(),
            Body::AttemptEnded(end) => ledger.end(end).unwrap(),
            Body::Settled(settlement) => tell(&ledger.settle(settlement).unwrap()),
            Body::Price(_) | Body::Adjusted(_) | Body::Gap(_) | Body::Unknown { .. } => {}
        }
    }
}

/// One line for each attempt; money in pico-dollars, which DuckDB's BIGINT sums exactly.
fn export(journal: &Path, path: &Path) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let head = "admitted_ns,route,model,user,team,release,completed,estimated,useful,waste";
    let classes = "input,cache_read,output,cost_input,cost_cache_read,cost_output,cost";
    writeln!(out, "{head},{classes}").unwrap();
    fold(journal, |exchange| {
        let (labels, attempt) = (&exchange.admission.labels, &exchange.attempts[0]);
        let metered = &attempt.end.metered;
        let Charged::Priced { lines, .. } = &attempt.end.charged else { unreachable!() };
        let cost = attempt.end.charged.cost().unwrap().pico();
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{cost}",
            exchange.admission.at.nanos(),
            labels.route,
            attempt.model().unwrap(),
            labels.user.as_deref().unwrap(),
            labels.team.as_deref().unwrap(),
            labels.tags[0].1,
            u8::from(exchange.settlement.verdict == Verdict::Completed),
            u8::from(metered.source != UsageSource::Reported),
            u8::from(attempt.waste().is_none()),
            attempt.waste().map_or("", |cause| cause.name()),
            metered.usage.tokens[CLASSES[0]],
            metered.usage.tokens[CLASSES[1]],
            metered.usage.tokens[CLASSES[2]],
            lines[0].contracted.pico(),
            lines[1].contracted.pico(),
            lines[2].contracted.pico(),
        )
        .unwrap();
    });
    out.flush().unwrap();
}

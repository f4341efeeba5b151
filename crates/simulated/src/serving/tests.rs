//! The driver in virtual time, beside a simulation that knows all requests beforehand.

use servesim::{Batch, Linear, Record, SECOND_PS, serve};

use super::*;

const MILLISECOND_PS: u64 = SECOND_PS / 1_000;

/// Its times are primes, so that no step ends on a whole millisecond, which is when requests come.
#[derive(Debug, Clone, Copy)]
struct Machine;

impl StepTime for Machine {
    fn step(&self, batch: &Batch) -> Linear {
        let (prefill, decodes) = (u64::from(batch.prefill_tokens), u64::from(batch.decodes));
        let base = 5_000_000_029 + prefill * 49_999_991 + decodes * 299_999_977;
        Linear { base, per_context: 1_000_003, per_windowed: 0 }
    }
}

/// Small enough that requests wait for seats, and lose their blocks to each other.
fn engine() -> Engine {
    Engine { max_num_batched_tokens: 256, max_num_seqs: 6, ..Engine::new(40, 512) }
}

/// A client's request: when it comes and, if it does not wait for its end, for how long it stays. Its prompt
/// begins with what all have, and goes on with what those have that come at the same time.
#[derive(Debug, Clone, Copy)]
struct Client {
    at_ms: u64,
    shared: u32,
    prompt: u32,
    output: u32,
    patience_ms: Option<u64>,
}

fn clients() -> Vec<Client> {
    let client = |n: u32| Client {
        at_ms: 3 + u64::from(n * 31 + n * n % 29),
        shared: n % 3 * 50,
        prompt: 110 + n * 37 % 150,
        output: 1 + n * 13 % 60,
        patience_ms: n.is_multiple_of(5).then_some(150 + u64::from(n)),
    };
    let mut all: Vec<Client> = (0..40).map(client).collect();
    all.sort_by_key(|client| client.at_ms);
    all
}

impl Client {
    fn pieces(&self) -> [Block; 2] {
        let piece = |prefix, tokens: u32| Block { prefix, tokens: tokens.into(), mark: None };
        let own = 1_000 + u128::from(self.at_ms);
        [piece(7, self.shared), piece(own, self.prompt - self.shared)]
    }

    /// The name of each block that its prompt fills.
    fn names(&self) -> impl Iterator<Item = u64> {
        let (own, shared) = (1_000 + self.at_ms, self.shared);
        (1..=self.prompt / 16).map(move |block| if block * 16 <= shared { 7 } else { own })
    }
}

/// What becomes of them in a simulation.
fn expected(engine: &Engine, clients: &[Client]) -> Vec<Record> {
    let requests = clients.iter().map(|client| {
        let request = Request {
            arrival_ps: client.at_ms * MILLISECOND_PS,
            prompt: client.prompt,
            output: client.output,
            priority: 0,
            patience_ps: client.patience_ms.map(|span| span * MILLISECOND_PS),
        };
        (request, Prefix::new(client.names(), NonZeroU32::new(16).unwrap()))
    });
    let mut records = Vec::new();
    serve(engine, Machine, &Slo::default(), requests, |record| records.push(*record)).unwrap();
    records.sort_by_key(|record| record.number);
    records
}

/// What a client saw: the engine's and the clock's time of each token, what of its prompt was cached, and why it was
/// refused.
type Seen = (Vec<(u64, u64, u32)>, Option<Gone>);

async fn see(serving: Serving, clock: Clock, client: Client) -> Seen {
    tokio::time::sleep(Duration::from_millis(client.at_ms)).await;
    let mut tokens = Vec::new();
    let stay = async {
        let pieces = client.pieces();
        let prompt = Prompt::Pieces(&pieces);
        let mut ticket = match serving.come(prompt, client.output.into()).await {
            Ok(ticket) => ticket,
            Err(gone) => return Some(gone),
        };
        while let Some(News::Token(at_ps, cached)) = ticket.news.recv().await {
            tokens.push((at_ps, clock.picoseconds(Instant::now()), cached));
        }
        None
    };
    let patience = Duration::from_millis(client.patience_ms.unwrap_or(1_000_000));
    let gone = tokio::time::timeout(patience, stay).await.ok().flatten();
    (tokens, gone)
}

async fn seen(engine: &Engine, speed: u32, clients: &[Client]) -> Vec<Seen> {
    let clock = Clock { start: Instant::now(), speed };
    let serving = Serving::start(engine, Machine, 1, speed).unwrap();
    let all = clients.iter().map(|client| tokio::spawn(see(serving.clone(), clock, *client)));
    let all: Vec<_> = all.collect();
    let mut seen = Vec::new();
    for client in all {
        seen.push(client.await.unwrap());
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn tokens_come_when_the_simulation_says() {
    as_the_simulation_says(&engine()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_simulation_finds_cached_is_found() {
    let engine = Engine { enable_prefix_caching: true, ..engine() };
    let expected = as_the_simulation_says(&engine).await;
    let hits = expected.iter().filter(|record| record.cached > 0).count();
    assert!(hits > 5 && hits < expected.len() - 5, "{hits} of {}", expected.len());
}

async fn as_the_simulation_says(engine: &Engine) -> Vec<Record> {
    let clients = clients();
    let expected = expected(engine, &clients);
    let count = |pick: fn(&Record) -> bool| expected.iter().filter(|record| pick(record)).count();
    assert!(count(|record| record.preemptions > 0) > 2, "blocks run out");
    assert!(count(|record| record.outcome == Outcome::Aborted) > 2, "clients leave");
    let found = seen(engine, 1, &clients).await;
    for ((tokens, gone), record) in found.iter().zip(&expected) {
        assert_eq!(*gone, None);
        // A client that leaves does not hear of the step that is under way.
        let heard = u32::try_from(tokens.len()).unwrap();
        let unheard = u32::from(record.outcome == Outcome::Aborted);
        assert!((heard..=heard + unheard).contains(&record.generated), "{record:?} {tokens:?}");
        let first = tokens.first().map(|token| token.0);
        assert_eq!(first, record.first_token_ps.filter(|_| heard > 0), "{record:?}");
        if record.outcome == Outcome::Completed {
            assert_eq!(tokens.last().map(|token| token.0), Some(record.end_ps));
        }
        // A timer is late by a millisecond at most.
        for &(at, heard, cached) in tokens {
            assert!((at..=at + MILLISECOND_PS).contains(&heard), "{at} {heard}");
            assert_eq!(cached, record.cached);
        }
    }
    expected
}

#[tokio::test(start_paused = true)]
async fn a_faster_clock_is_the_same_engine() {
    // All come at once, so that it does not matter how coarse timers are.
    let at_once: Vec<Client> = clients()
        .into_iter()
        .map(|client| Client { at_ms: 0, patience_ms: None, ..client })
        .collect();
    let one = seen(&engine(), 1, &at_once[..1]).await;
    let start = Instant::now();
    let ten = seen(&engine(), 10, &at_once[..1]).await;
    let times = |seen: &[Seen]| seen[0].0.iter().map(|token| token.0).collect::<Vec<_>>();
    assert_eq!(times(&one), times(&ten));
    let last = Duration::from_nanos(times(&ten).last().unwrap() / 1_000);
    assert!(start.elapsed() <= last / 10 + Duration::from_millis(2), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_the_queue_full_or_no_room_is_refused_at_once() {
    let engine = Engine { max_num_seqs: 1, max_queue: Some(1), ..engine() };
    let client = |at_ms, prompt| Client { at_ms, shared: 0, prompt, output: 30, patience_ms: None };
    let clients = [client(1, 20), client(11, 20), client(21, 20), client(31, 512)];
    let outcomes: Vec<Outcome> =
        expected(&engine, &clients).iter().map(|record| record.outcome).collect();
    let (full, long) = (Outcome::QueueFull, Outcome::TooLong);
    assert_eq!(outcomes, [Outcome::Completed, Outcome::Completed, full, long]);
    let gone: Vec<_> = seen(&engine, 1, &clients).await.into_iter().map(|seen| seen.1).collect();
    assert_eq!(gone, [None, None, Some(Gone::Refused(full)), Some(Gone::Refused(long))]);
    let serving = Serving::start(&engine, Machine, 1, 1).unwrap();
    assert_eq!((serving.room(511), serving.room(512), serving.room(513)), (Some(1), None, None));
}

#[tokio::test(start_paused = true)]
async fn replicas_take_turns() {
    let client = |at_ms| Client { at_ms, shared: 0, prompt: 100, output: 9, patience_ms: None };
    let clock = Clock { start: Instant::now(), speed: 1 };
    let alone = seen(&engine(), 1, &[client(0)]).await;
    let serving = Serving::start(&engine(), Machine, 2, 1).unwrap();
    let both = [client(0), client(0)].map(|one| tokio::spawn(see(serving.clone(), clock, one)));
    for one in both {
        let spans = |seen: &Seen| {
            let times: Vec<u64> = seen.0.iter().map(|token| token.0).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        };
        assert_eq!(spans(&one.await.unwrap()), spans(&alone[0]));
    }
}

//! Replicas that compute prompts, and others that decode: disaggregated serving.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::engine::{Engine, Error, Incoming, Record, SECOND_PS};
use crate::fleet::{Balance, Fleet};
use crate::replica::{Handover, first_to_pass};
use crate::report::{Report, Slo};
use crate::sequence::NEVER;
use crate::step_time::StepTime;

/// Replicas that are alike, and what is before them.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a, T> {
    /// The settings of each.
    pub engine: &'a Engine,
    /// How long their steps take.
    pub time: T,
    /// How many there are; not zero.
    pub replicas: u32,
    /// Which of them gets a request.
    pub balance: Balance,
}

impl<T> Pool<'_, T> {
    const fn with<'a>(&'a self, engine: &'a Engine) -> Pool<'a, &'a T> {
        Pool { engine, time: &self.time, replicas: self.replicas, balance: self.balance }
    }
}

/// What KV caches are sent over: the link of one accelerator, for each sends its own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Bytes a second; not zero.
    pub bytes_per_second: u64,
    /// From the last byte until it can be used.
    pub latency_ps: u64,
    /// Bytes of a token in layers that see all of the context.
    pub bytes_per_token: u64,
    /// Bytes of a token in layers with a window.
    pub windowed_bytes_per_token: u64,
    /// The last tokens that those see.
    pub window: u32,
}

impl Link {
    /// How long it is busy with a prompt of so many tokens, rounded up; `None` if that is beyond what
    /// picoseconds can count.
    #[must_use]
    pub fn sending_ps(&self, prompt: u32) -> Option<u64> {
        let of = |tokens: u32, bytes: u64| u128::from(tokens) * u128::from(bytes);
        let all = of(prompt, self.bytes_per_token);
        let bytes = all + of(prompt.min(self.window), self.windowed_bytes_per_token);
        let ps = bytes.checked_mul(u128::from(SECOND_PS))?;
        u64::try_from(ps.div_ceil(u128::from(self.bytes_per_second))).ok()
    }
}

/// What each replica of two pools came to, up to the end of the last of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// Those that compute prompts.
    pub prefill: Vec<Report>,
    /// Those that decode.
    pub decode: Vec<Report>,
}

/// At least so many requests come in before it is looked what has been sent: that has no effect on what
/// is found, but takes time, and memory else.
const EVERY: u32 = 8;

/// Serves requests with replicas that compute prompts and others that decode, and tells of each which
/// replica had it last, those that decode being counted behind the others, and what became of it. A
/// request is in the report of that replica; work and time are in those of the replicas that had them.
///
/// # The rules
/// A prefill replica computes a prompt and gives its first token. Then its KV cache is sent to a decode
/// replica: prompts of one replica go one after the other over its link, and their blocks are taken until
/// they have arrived. There they enter the queue, in the order in which they arrive. Blocks are taken when
/// they are admitted, those that the prefix cache has are shared, and the step that admits them gives their
/// second token. Who is preempted there is computed again there. Who leaves on the way has been served in
/// vain.
///
/// The shorter `max_model_len` holds for both pools; classes of priority, limits of the queue and time-outs
/// are those of the prefill pool: a queue is limited where requests come in, time-outs run from there on.
///
/// Source: vLLM, `kv_connector/v1/nixl_connector.py` at commit 002a1057 (2026), where blocks are freed late
/// (`delay_free_blocks`) and each request is transferred once (`do_remote_prefill`). Other than there, the
/// first token is not computed again on the other side, blocks there are taken at admission and not before the
/// transfer, and all of a prompt is sent, even if the other side has some of it.
///
/// # Errors
/// As [`crate::serve_fleet`].
pub fn serve_pools(
    prefill: &Pool<'_, impl StepTime>,
    decode: &Pool<'_, impl StepTime>,
    link: &Link,
    slo: &Slo,
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    each: impl FnMut(u32, &Record),
) -> Result<Pools, Error> {
    let max_model_len = prefill.engine.max_model_len.min(decode.engine.max_model_len);
    let front = Engine { max_model_len, ..prefill.engine.clone() };
    let behind = Engine {
        max_model_len,
        priority_classes: front.priority_classes,
        max_queue: None,
        queue_timeout_ps: None,
        timeout_ps: front.timeout_ps,
        ..decode.engine.clone()
    };
    if link.bytes_per_second == 0 {
        let expected = "at least 1".to_owned();
        return Err(Error::Setting { what: "link bytes_per_second", found: 0, expected });
    }
    let each = RefCell::new(each);
    let ended = |which: u32, record: &Record| (each.borrow_mut())(which, record);
    let decoded =
        |which: u32, record: &Record| (each.borrow_mut())(prefill.replicas + which, record);
    let mut first = Fleet::of(&prefill.with(&front), slo, ended)?;
    let mut second = Fleet::of(&decode.with(&behind), slo, decoded)?;
    first.send_over(*link);
    // By when they arrive, and their number.
    let mut sent = BTreeMap::<(u64, u64), Handover>::new();
    let mut pass_on = |first: &mut Fleet<'_, _, _>, before: u64| {
        first.take_sent(|handover| {
            let request = &handover.incoming.request;
            let leaves = first_to_pass(request.arrival_ps, request.patience_ps, front.timeout_ps);
            if let Some((end_ps, outcome)) = leaves.filter(|&(at, _)| at < handover.ready) {
                return Some(Record { end_ps, outcome, ..handover.record });
            }
            sent.insert((handover.ready, handover.record.number), handover);
            None
        });
        // Whatever is sent later arrives later.
        while let Some(next) = sent.first_entry().filter(|next| next.key().0 < before) {
            second.receive(next.remove())?;
        }
        Ok::<_, Error>(())
    };
    let every = u64::from(EVERY.max(prefill.replicas));
    let mut at = 0;
    for (number, request) in (0..).zip(requests) {
        let incoming: Incoming = request.into();
        at = incoming.request.arrival_ps;
        if number % every == 0 {
            first.settle(at)?;
            pass_on(&mut first, at)?;
        }
        first.push(number, incoming)?;
    }
    // What is left is passed on as it comes too, in parts of the time that has passed.
    let end = loop {
        at = at.saturating_add(at / 32 + 1);
        let (end, idle) = first.drain(at)?;
        pass_on(&mut first, if idle { NEVER } else { at })?;
        if idle {
            break end;
        }
    };
    let end = end.max(second.drain(NEVER)?.0);
    Ok(Pools { prefill: first.reports(end)?, decode: second.reports(end)? })
}

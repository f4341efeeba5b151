//! One replica's scheduler. The rules are those of the crate's documentation; what is peculiar here
//! is that nothing is done per token, and that steps which must all be alike are one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cache::Cache;
use crate::decodes::Decodes;
use crate::engine::{Engine, Error, Incoming, Outcome, Record, Request};
use crate::prefix::Prefix;
use crate::progression::MOST_STEPS;
use crate::report::{Report, Slo};
use crate::sequence::{List, NEVER, NONE, Phase, Sequence};
use crate::step_time::StepTime;

mod account;
mod handover;
mod step;

use account::Cost;
pub(crate) use handover::Handover;
use handover::Sender;

/// Somebody leaves at a time, unless done by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: u64,
    number: u64,
    who: u32,
    /// [`Outcome::Completed`] is not the client: its KV cache has been sent.
    outcome: Outcome,
}

pub(crate) struct Replica<T> {
    engine: Engine,
    time: T,
    window: u32,
    mask: u32,
    shift: u32,
    now: u64,
    last_arrival: u64,
    all: Vec<Sequence>,
    vacant: Vec<u32>,
    /// By class, each in the order of arrival.
    waiting: Vec<List>,
    running: Vec<List>,
    waiting_count: u32,
    running_count: u32,
    /// How many waited or ran in the last step, and came since.
    load_in_step: u32,
    decodes: Decodes,
    /// What steps cost that only decode, and how many do, by the end of that number; most steps are such.
    decode_costs: Vec<Option<(u32, Cost)>>,
    /// Decodes by the count of steps at which they must be looked at; entries may be stale.
    events: BinaryHeap<Reverse<(u64, u32)>>,
    /// Who leaves when; entries may be stale.
    deadlines: BinaryHeap<Reverse<Deadline>>,
    /// The one whose prompt did not fit into the last step; everyone else who runs decodes.
    partial: u32,
    /// Blocks that nobody uses.
    free: u64,
    /// What is in the blocks, if anybody asks.
    cache: Option<Box<Cache>>,
    turns: u64,
    /// What the step at hand computes of prompts.
    chunks: Vec<(u32, u32)>,
    /// What runs, in order, where that is needed one by one.
    order: Vec<u32>,
    /// Decodes that end with the step at hand.
    done: Vec<u32>,
    /// Decodes that stood still in the last step, whose next gap is not just a step.
    late: Vec<u32>,
    /// Where prompts go that are computed, if others decode.
    sender: Option<Box<Sender>>,
    /// Whether no steps are skipped.
    single: bool,
    /// Whether its load is asked for.
    watched: bool,
    slo: Slo,
    report: Report,
}

/// Serves requests, which come in the order of arrival, and tells of each what became of it.
///
/// # Errors
/// If the engine's settings make no sense, the requests are not in order, or times are beyond what
/// picoseconds can count.
pub fn serve(
    engine: &Engine,
    time: impl StepTime,
    slo: &Slo,
    requests: impl IntoIterator<Item = impl Into<Incoming>>,
    mut each: impl FnMut(&Record),
) -> Result<Report, Error> {
    let mut replica = Replica::new(engine, time, slo)?;
    for (number, request) in (0..).zip(requests) {
        replica.push(number, request.into(), &mut each)?;
    }
    let end = replica.drain(NEVER, &mut each)?;
    Ok(replica.report(end))
}

impl<T: StepTime> Replica<T> {
    pub(crate) fn new(engine: &Engine, time: T, slo: &Slo) -> Result<Self, Error> {
        engine.check()?;
        let window = time.window().map_or(u32::MAX, std::num::NonZeroU32::get);
        let classes = usize::from(engine.priority_classes);
        Ok(Self {
            window,
            mask: engine.block_tokens - 1,
            shift: engine.block_tokens.trailing_zeros(),
            now: 0,
            last_arrival: 0,
            all: Vec::new(),
            vacant: Vec::new(),
            waiting: vec![List::EMPTY; classes],
            running: vec![List::EMPTY; classes],
            waiting_count: 0,
            running_count: 0,
            load_in_step: 0,
            decodes: Decodes::new(engine.block_tokens, window),
            decode_costs: Vec::new(),
            events: BinaryHeap::new(),
            deadlines: BinaryHeap::new(),
            partial: NONE,
            free: u64::from(engine.kv_blocks),
            cache: engine
                .enable_prefix_caching
                .then(|| Box::new(Cache::new(engine.kv_blocks, engine.block_tokens))),
            turns: 0,
            chunks: Vec::new(),
            order: Vec::new(),
            done: Vec::new(),
            late: Vec::new(),
            sender: None,
            single: false,
            watched: false,
            slo: *slo,
            report: Report::new(engine.max_num_seqs),
            engine: engine.clone(),
            time,
        })
    }

    /// Runs until the request's arrival has been seen, and takes it in; returns its place, unless
    /// it is rejected.
    #[inline]
    pub(crate) fn push(
        &mut self,
        number: u64,
        incoming: Incoming,
        each: &mut impl FnMut(&Record),
    ) -> Result<Option<u32>, Error> {
        let Incoming { request, prefix } = incoming;
        let Request { arrival_ps: arrival, prompt, output, .. } = request;
        if arrival < self.last_arrival {
            return Err(Error::Unsorted { number });
        }
        if arrival == NEVER {
            return Err(Error::RunTooLong);
        }
        self.last_arrival = arrival;
        if prompt == 0 || output == 0 {
            return Err(Error::Empty { number, prompt, output });
        }
        self.advance(arrival, each)?;
        self.expire(arrival, each);
        let room = self.engine.max_model_len.saturating_sub(prompt);
        let class = request.priority.min(self.engine.priority_classes - 1);
        let sequence = Sequence::new(number, arrival, prompt, output.min(room), class);
        let full = self.engine.max_queue.is_some_and(|most| self.waiting_count >= most);
        if room == 0 || full {
            let outcome = if room == 0 { Outcome::TooLong } else { Outcome::QueueFull };
            self.tell(&record(&sequence, arrival, 0, outcome), each);
            return Ok(None);
        }
        Ok(Some(self.enter(sequence, prefix, request.patience_ps)))
    }

    /// Puts a sequence at the end of the queue of its class.
    #[inline]
    fn enter(&mut self, sequence: Sequence, prefix: Option<Prefix>, patience: Option<u64>) -> u32 {
        let Sequence { number, arrival, prompt, class, .. } = sequence;
        let who = self.seat(sequence);
        if let Some(sender) = &mut self.sender {
            sender.keep(who, patience, prefix.clone());
        }
        if let Some(cache) = &mut self.cache {
            cache.enter(who, prefix, prompt);
        }
        self.waiting[usize::from(class)].push_back(&mut self.all, who);
        self.waiting_count += 1;
        self.load_in_step += 1;
        let deadline = |(at, outcome)| Deadline { at, number, who, outcome };
        let first = first_to_pass(arrival, patience, self.engine.timeout_ps);
        // The queue's may pass without effect.
        let unstarted = self.engine.queue_timeout_ps;
        let unstarted = unstarted.and_then(|span| arrival.checked_add(span));
        let unstarted = unstarted.map(|at| (at, Outcome::QueueTimeout));
        self.deadlines.extend(first.into_iter().chain(unstarted).map(deadline).map(Reverse));
        if self.deadlines.len() > 3 * self.all.len() + 64 {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|Reverse(one)| self.is_pending(one));
            self.deadlines = deadlines;
        }
        who
    }

    /// Makes [`Self::go`] take single steps: somebody wants to see each.
    pub(crate) const fn go_step_by_step(&mut self) {
        self.single = true;
    }

    /// The client of this request, which was given this place, leaves at a time up to which, and
    /// no further than it had to, it ran.
    pub(crate) fn abort(&mut self, number: u64, who: u32, at: u64) {
        self.deadlines.push(Reverse(Deadline { at, number, who, outcome: Outcome::Aborted }));
    }

    /// The end of the last step, or a time until which nothing was to be done.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Whether nobody waits or runs.
    pub(crate) const fn is_idle(&self) -> bool {
        self.waiting_count + self.running_count == 0
    }

    /// Everyone who waits or runs, with the tokens that they have got.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&Sequence, u32)> {
        let present = self.all.iter().filter(|one| one.phase != Phase::Vacant);
        present.map(|one| match one.phase {
            Phase::Decode => (one, self.generated(one)),
            _ => (one, one.generated),
        })
    }

    /// Begins at a time instead of 0.
    pub(crate) const fn begin(&mut self, at: u64) {
        self.now = at;
    }

    /// [`Self::load`] is asked for: it is exact even if requests leave.
    pub(crate) const fn watch(&mut self) {
        self.watched = true;
    }

    /// Runs until what happens before a time has been seen.
    pub(crate) fn settle(&mut self, at: u64, each: &mut impl FnMut(&Record)) -> Result<(), Error> {
        self.advance(at, each)?;
        if self.now == at {
            self.expire(at, each);
        }
        Ok(())
    }

    /// Tokens of a prompt that are in the cache now.
    pub(crate) fn cached(&self, prefix: &Prefix, prompt: u32) -> u32 {
        self.cache.as_ref().map_or(0, |cache| cache.cached(prefix, prompt) << self.shift)
    }

    /// Nothing more comes: runs until nothing is left, or a time is reached; returns when that was.
    pub(crate) fn drain(
        &mut self,
        until: u64,
        each: &mut impl FnMut(&Record),
    ) -> Result<u64, Error> {
        while self.now < until && self.go(NEVER, each)? {}
        Ok(self.now)
    }

    /// What it came to by an end that is not before its own.
    pub(crate) fn report(mut self, end: u64) -> Report {
        self.report.time.idle_ps += end - self.now;
        self.report
    }

    /// How many requests it has at a time up to which, and no further than it had to, it ran.
    pub(crate) const fn load(&self, at: u64) -> u32 {
        if self.now > at { self.load_in_step } else { self.waiting_count + self.running_count }
    }

    /// The first time, not before its own, at which its load may change if nothing arrives: when a
    /// decode ends, memory does or a deadline comes. Its own where that is not known in closed form.
    pub(crate) fn quiet_until(&mut self) -> u64 {
        let only_decodes = self.waiting_count == 0 && self.partial == NONE && self.late.is_empty();
        let Some((event, _)) = self.next_event().filter(|_| only_decodes) else { return self.now };
        let most = (event - self.decodes.steps).min(MOST_STEPS);
        let (steps, _) = self.decodes.steps_within(self.free, most);
        let (batch, cost) = self.decode_cost();
        let time = self.times(&batch, cost.time).map_or(0, |times| times.sum(steps));
        self.now.saturating_add(time).min(self.next_deadline().max(self.now))
    }

    /// Runs until the first end of a step that is not before `until`, by when nothing else
    /// arrives.
    pub(crate) fn advance(
        &mut self,
        until: u64,
        each: &mut impl FnMut(&Record),
    ) -> Result<(), Error> {
        while self.now < until && self.go(until, each)? {}
        Ok(())
    }

    /// A step, or several that must be alike; without anything to do, all the time up to `until`.
    /// Returns whether there was something to do.
    pub(crate) fn go(&mut self, until: u64, each: &mut impl FnMut(&Record)) -> Result<bool, Error> {
        // Those of this very time too: there is nobody who could have come before them.
        self.expire(self.now + 1, each);
        if self.is_idle() {
            if until != NEVER {
                self.report.time.idle_ps += until - self.now;
                self.now = until;
            }
            return Ok(false);
        }
        self.load_in_step = self.waiting_count + self.running_count;
        self.step(until, each)?;
        Ok(true)
    }

    /// Lets go whoever leaves before a time.
    fn expire(&mut self, before: u64, each: &mut impl FnMut(&Record)) {
        while let Some(&Reverse(deadline)) = self.deadlines.peek()
            && deadline.at < before
        {
            self.deadlines.pop();
            if self.is_pending(&deadline) {
                self.give_up(&deadline, each);
            }
        }
    }

    fn is_pending(&self, deadline: &Deadline) -> bool {
        let one = &self.all[deadline.who as usize];
        one.phase != Phase::Vacant
            && one.number == deadline.number
            && (deadline.outcome != Outcome::QueueTimeout || one.admitted == NEVER)
            // What is being sent goes its way, whoever left.
            && (deadline.outcome == Outcome::Completed) == (one.phase == Phase::Sending)
    }

    fn next_deadline(&mut self) -> u64 {
        while let Some(&Reverse(deadline)) = self.deadlines.peek() {
            if self.is_pending(&deadline) {
                return deadline.at;
            }
            self.deadlines.pop();
        }
        NEVER
    }

    fn give_up(&mut self, deadline: &Deadline, each: &mut impl FnMut(&Record)) {
        let who = deadline.who;
        if self.all[who as usize].phase == Phase::Decode {
            self.stop_decoding(who);
        }
        let one = &self.all[who as usize];
        let (class, computed, phase) = (usize::from(one.class), one.computed, one.phase);
        if phase == Phase::Sending {
            self.give_back(who, computed, 0, false);
            self.vacate(who);
            return;
        }
        let record = record(one, deadline.at, one.generated, deadline.outcome);
        self.tell(&record, each);
        // Of those that wait, only who came with its context has any.
        self.report.work.abandoned_tokens += u64::from(computed);
        if phase == Phase::Waiting {
            self.waiting[class].remove(&mut self.all, who);
            self.waiting_count -= 1;
        } else {
            self.running[class].remove(&mut self.all, who);
            self.running_count -= 1;
            self.give_back(who, computed, 0, false);
            if self.partial == who {
                self.partial = NONE;
            }
        }
        self.vacate(who);
    }

    fn seat(&mut self, sequence: Sequence) -> u32 {
        if let Some(who) = self.vacant.pop() {
            self.all[who as usize] = sequence;
            return who;
        }
        self.all.push(sequence);
        u32::try_from(self.all.len() - 1).expect("memory ends before u32 does")
    }

    fn vacate(&mut self, who: u32) {
        self.all[who as usize].phase = Phase::Vacant;
        self.vacant.push(who);
        if let Some(cache) = &mut self.cache {
            cache.leave(who);
        }
    }
}

/// When a client leaves or its time is up, whichever comes first.
pub(crate) fn first_to_pass(
    arrival: u64,
    patience: Option<u64>,
    timeout: Option<u64>,
) -> Option<(u64, Outcome)> {
    let deadline = |span: Option<u64>, outcome| Some((arrival.checked_add(span?)?, outcome));
    let leaves = deadline(patience, Outcome::Aborted);
    leaves.into_iter().chain(deadline(timeout, Outcome::Timeout)).min()
}

fn record(one: &Sequence, end_ps: u64, generated: u32, outcome: Outcome) -> Record {
    let known = |time: u64| (time != NEVER).then_some(time);
    Record {
        number: one.number,
        priority: one.class,
        arrival_ps: one.arrival,
        admitted_ps: known(one.admitted),
        first_token_ps: known(one.first_token),
        end_ps,
        prompt: one.prompt,
        cached: one.cached,
        generated,
        preemptions: one.preemptions,
        outcome,
    }
}

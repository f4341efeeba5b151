//! One replica's scheduler. The rules are those of the crate's documentation; what is peculiar here
//! is that nothing is done per token, and that steps which must all be alike are one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cache::{Cache, Hit};
use crate::decodes::Decodes;
use crate::engine::{Engine, Error, Incoming, Outcome, Record, Request};
use crate::prefix::Prefix;
use crate::progression::{LONGEST_STEP, MOST_STEPS, Progression};
use crate::report::{KV_SHARES, Report, Slo};
use crate::sequence::{List, NEVER, NONE, Phase, Sequence};
use crate::step_time::{Batch, Linear, StepTime};

/// Why the queue was not served to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// It was: nobody waits.
    Nobody,
    /// As many run as may.
    Seats,
    /// The step can compute no more tokens.
    Tokens,
    /// The first one finds too few blocks.
    Blocks,
}

/// What a step takes and does.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: Linear,
    flops: Option<Linear>,
    bytes: Option<Linear>,
}

impl Cost {
    fn of(time: &impl StepTime, batch: &Batch) -> Self {
        Self { time: time.step(batch), flops: time.flops(batch), bytes: time.bytes(batch) }
    }
}

/// Somebody leaves at a time, unless done by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: u64,
    number: u64,
    who: u32,
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
    /// What steps cost that only decode, by how many do; most steps are such.
    decode_costs: Vec<Option<Cost>>,
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
        let Incoming { request, prefix } = request.into();
        replica.push(number, &request, prefix, &mut each)?;
    }
    let end = replica.drain(&mut each)?;
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
    pub(crate) fn push(
        &mut self,
        number: u64,
        request: &Request,
        prefix: Option<Prefix>,
        each: &mut impl FnMut(&Record),
    ) -> Result<Option<u32>, Error> {
        let &Request { arrival_ps: arrival, prompt, output, .. } = request;
        if arrival < self.last_arrival {
            return Err(Error::Unsorted { number });
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
        let who = self.seat(sequence);
        if let Some(cache) = &mut self.cache {
            cache.enter(who, prefix, prompt);
        }
        self.waiting[usize::from(class)].push_back(&mut self.all, who);
        self.waiting_count += 1;
        self.load_in_step += 1;
        let deadline = |span: Option<u64>, outcome| {
            let at = arrival.checked_add(span?)?;
            Some(Deadline { at, number, who, outcome })
        };
        let leaves = deadline(request.patience_ps, Outcome::Aborted);
        let stopped = deadline(self.engine.timeout_ps, Outcome::Timeout);
        let unstarted = deadline(self.engine.queue_timeout_ps, Outcome::QueueTimeout);
        // Whichever comes first; the queue's may pass without effect.
        let first = leaves.into_iter().chain(stopped).min();
        self.deadlines.extend(first.into_iter().chain(unstarted).map(Reverse));
        if self.deadlines.len() > 3 * self.all.len() + 64 {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|Reverse(one)| self.is_pending(one));
            self.deadlines = deadlines;
        }
        Ok(Some(who))
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
    pub(crate) fn present(&self) -> impl Iterator<Item = (u64, u32)> {
        let present = self.all.iter().filter(|one| one.phase != Phase::Vacant);
        present.map(|one| match one.phase {
            Phase::Decode => (one.number, self.generated(one)),
            _ => (one.number, one.generated),
        })
    }

    /// Begins at a time instead of 0. Of one that is `watched`, [`Self::load`] is exact even if
    /// requests leave.
    pub(crate) const fn begin(&mut self, at: u64, watched: bool) {
        (self.now, self.watched) = (at, watched);
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

    /// Runs until nothing is left; returns when that was.
    pub(crate) fn drain(&mut self, each: &mut impl FnMut(&Record)) -> Result<u64, Error> {
        self.advance(NEVER, each)?;
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
        let record = record(one, deadline.at, one.generated, deadline.outcome);
        self.tell(&record, each);
        if phase == Phase::Waiting {
            self.waiting[class].remove(&mut self.all, who);
            self.waiting_count -= 1;
        } else {
            self.running[class].remove(&mut self.all, who);
            self.running_count -= 1;
            self.give_back(who, computed, 0, false);
            self.report.work.abandoned_tokens += u64::from(computed);
            if self.partial == who {
                self.partial = NONE;
            }
        }
        self.vacate(who);
    }

    /// One step, or all those that must be like it. Does nothing if everyone who could have run
    /// was preempted.
    fn step(&mut self, until: u64, each: &mut impl FnMut(&Record)) -> Result<(), Error> {
        self.chunks.clear();
        if self.waiting_count == 0 && self.partial == NONE && self.late.is_empty() {
            return self.skip(until, Blocked::Nobody, 0, each);
        }
        let mut budget = self.engine.max_num_batched_tokens - self.decodes.count;
        let mut needed = self.decodes.growth(1);
        if self.partial != NONE {
            let one = &self.all[self.partial as usize];
            let tokens = (one.tokens() - one.computed).min(budget);
            budget -= tokens;
            needed += self.blocks(one.computed + tokens) - self.blocks(one.computed);
            self.chunks.push((self.partial, tokens));
        }
        if needed > self.free {
            return self.crowded(each);
        }
        self.take(needed);
        self.fill();
        let blocked = self.admit(budget);
        if self.chunks.is_empty() && self.late.is_empty() {
            return self.skip(until, blocked, needed, each);
        }
        self.compute(each)
    }

    /// Takes so many blocks, which must be free.
    #[inline]
    fn take(&mut self, blocks: u64) {
        self.free -= blocks;
        if let Some(cache) = &mut self.cache {
            cache.take(blocks);
        }
    }

    /// What the chunks at hand compute of prompts can be found from now on.
    fn fill(&mut self) {
        if let Some(cache) = &mut self.cache {
            for &(who, tokens) in &self.chunks {
                cache.fill(who, self.all[who as usize].computed + tokens);
            }
        }
    }

    /// Gives back all blocks of somebody who has computed so many tokens, and was to compute more
    /// in this step.
    fn give_back(&mut self, who: u32, computed: u32, granted: u32, again: bool) {
        let blocks = self.blocks(computed + granted);
        self.free += match &mut self.cache {
            Some(cache) => cache.free(who, blocks, computed, again),
            None => blocks,
        };
    }

    /// Starts whoever waits, in order, as long as there are seats, tokens and blocks.
    fn admit(&mut self, mut budget: u32) -> Blocked {
        loop {
            let Some(class) = self.waiting.iter().position(|list| list.head != NONE) else {
                return Blocked::Nobody;
            };
            if self.running_count == self.engine.max_num_seqs {
                return Blocked::Seats;
            }
            if budget == 0 {
                return Blocked::Tokens;
            }
            let who = self.waiting[class].head;
            let all = self.all[who as usize].tokens();
            let hit = match &self.cache {
                Some(cache) => cache.find(who, all),
                None => Hit::NOTHING,
            };
            let computed = hit.blocks << self.shift;
            let tokens = (all - computed).min(budget);
            let new = self.blocks(computed + tokens) - u64::from(hit.blocks);
            let needed = new + u64::from(hit.idle);
            if needed > self.free {
                return Blocked::Blocks;
            }
            self.free -= needed;
            if let Some(cache) = &mut self.cache {
                cache.hold(who, &hit);
                cache.take(new);
                cache.fill(who, computed + tokens);
            }
            self.report.work.cached_tokens += u64::from(computed);
            budget -= tokens;
            self.waiting[class].remove(&mut self.all, who);
            self.running[class].push_back(&mut self.all, who);
            self.waiting_count -= 1;
            self.running_count += 1;
            let one = &mut self.all[who as usize];
            one.phase = Phase::Prefill;
            (one.computed, one.hit) = (computed, computed);
            if one.admitted == NEVER {
                (one.admitted, one.cached) = (self.now, computed);
            }
            one.turn = self.turns;
            self.turns += 1;
            self.chunks.push((who, tokens));
        }
    }

    /// All steps that do nothing but decode until something happens, as one. The blocks of the
    /// first may have been taken already.
    fn skip(
        &mut self,
        until: u64,
        blocked: Blocked,
        taken: u64,
        each: &mut impl FnMut(&Record),
    ) -> Result<(), Error> {
        let event = self.next_event().map_or(NEVER, |(event, _)| event);
        let most = if self.single { 1 } else { MOST_STEPS }.min(event - self.decodes.steps);
        let (mut steps, mut needed) = self.decodes.steps_within(self.free + taken, most);
        if steps == 0 {
            return self.crowded(each);
        }
        let count = self.decodes.count;
        let (batch, cost) = self.decode_cost();
        let times = self.times(&batch, cost.time)?;
        // Who comes while there is no seat, or behind somebody who finds no blocks, changes
        // nothing before the next event: blocks and seats only get fewer until then.
        let behind = match blocked {
            // But they may leave before, and that changes its load.
            _ if self.watched => false,
            Blocked::Seats => true,
            Blocked::Blocks => self.engine.priority_classes == 1,
            Blocked::Nobody | Blocked::Tokens => false,
        };
        let limit = self.next_deadline().min(if behind { NEVER } else { until });
        if let Some(fewer) = times.steps_to(limit - self.now, steps)
            && fewer < steps
        {
            (steps, needed) = (fewer, self.decodes.growth(fewer));
        }
        let time = times.sum(steps);
        self.pass(time)?;
        self.report.time.output_ps += time;
        self.report.itl.add_steps(times, steps, u64::from(count));
        self.report.batch_ps[count as usize] += time;
        self.free += taken;
        self.use_up(times, steps, needed);
        self.free -= taken;
        self.count(&batch, &cost, steps);
        self.take(needed - taken);
        self.decodes.advance(steps);
        self.end_decodes(each);
        Ok(())
    }

    /// One step of the decodes and the chunks at hand, whose blocks are theirs already.
    fn compute(&mut self, each: &mut impl FnMut(&Record)) -> Result<(), Error> {
        let count = self.decodes.count;
        let (decodes, decode_cost) = self.decode_cost();
        let (mut batch, mut any_hit) = (decodes, false);
        for &(who, tokens) in &self.chunks {
            let one = &self.all[who as usize];
            let ends = one.computed + tokens == one.tokens();
            batch.add_chunk(one.computed, tokens, ends, self.window);
            any_hit |= one.hit > 0;
        }
        let cost = match self.chunks.is_empty() {
            true => decode_cost,
            false => Cost::of(&self.time, &batch),
        };
        let times = self.times(&batch, cost.time)?;
        self.pass(times.first)?;
        if self.chunks.is_empty() {
            self.report.time.output_ps += times.first;
        } else {
            let alone = |batch: &Batch| self.time.step(batch).base.min(LONGEST_STEP);
            let prefills = Batch { decodes: 0, sampled: batch.sampled - count, ..batch };
            let input = if count == 0 { times.first } else { alone(&prefills) };
            let fresh = if any_hit { alone(&self.fresh_chunks()) } else { input };
            let output = match count {
                0 => 0,
                _ => self.times(&decodes, decode_cost.time)?.first,
            };
            self.report.time.share(times.first, input, fresh, output);
        }
        self.report.batch_ps[count as usize + self.chunks.len()] += times.first;
        let share = self.kv_share(self.used());
        self.report.kv_ps[share] += times.first;
        self.count(&batch, &cost, 1);
        self.decodes.advance(1);
        self.add_gaps(times.first);
        self.end_decodes(each);
        self.partial = NONE;
        let mut chunks = std::mem::take(&mut self.chunks);
        for (who, tokens) in chunks.drain(..) {
            let now = self.now;
            let one = &mut self.all[who as usize];
            one.computed += tokens;
            if one.computed < one.tokens() {
                self.partial = who;
                continue;
            }
            if one.generated > 0 {
                self.report.itl.add(now - one.last_token, 1);
                one.last_token = NEVER;
            }
            one.generated += 1;
            one.first_token = one.first_token.min(now);
            if one.generated == one.output {
                self.complete(who, each);
            } else {
                self.start_decoding(who);
            }
        }
        self.chunks = chunks;
        Ok(())
    }

    /// The chunks of the step at hand, as if nothing had been in the cache.
    fn fresh_chunks(&self) -> Batch {
        let mut batch = Batch::default();
        for &(who, tokens) in &self.chunks {
            let one = &self.all[who as usize];
            let ends = one.computed + tokens == one.tokens();
            batch.add_chunk(one.computed - one.hit, tokens, ends, self.window);
        }
        batch
    }

    /// One step for which there are too few blocks.
    fn crowded(&mut self, each: &mut impl FnMut(&Record)) -> Result<(), Error> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        for list in &self.running {
            order.extend(list.iter(&self.all));
        }
        order.sort_unstable_by_key(|&who| self.all[who as usize].turn);
        self.grant(&order);
        // Those that were not reached stand still, and join again behind the step.
        order.retain(|&who| self.all[who as usize].phase == Phase::Decode);
        order.retain(|&who| std::mem::take(&mut self.all[who as usize].granted) == 0);
        for &who in &order {
            self.stop_decoding(who);
        }
        self.chunks.clear();
        if self.partial != NONE {
            let tokens = std::mem::take(&mut self.all[self.partial as usize].granted);
            if tokens > 0 {
                self.chunks.push((self.partial, tokens));
            }
        }
        self.fill();
        let partial = self.partial;
        if self.decodes.count > 0 || !self.chunks.is_empty() {
            let reached = !self.chunks.is_empty();
            self.compute(each)?;
            if !reached {
                self.partial = partial;
            }
        }
        for &who in &order {
            self.start_decoding(who);
        }
        std::mem::swap(&mut self.late, &mut order);
        self.order = order;
        Ok(())
    }

    /// Gives tokens and blocks to what runs, in this order, preempting where blocks are missing.
    fn grant(&mut self, order: &[u32]) {
        let mut budget = self.engine.max_num_batched_tokens;
        for &who in order {
            let one = &self.all[who as usize];
            let (tokens, needed) = match one.phase {
                // Preempted before its turn came.
                Phase::Waiting | Phase::Vacant => continue,
                Phase::Decode => {
                    let context = one.prompt + self.generated(one);
                    (1, u64::from((context - 1) & self.mask == 0))
                }
                Phase::Prefill => {
                    let tokens = (one.tokens() - one.computed).min(budget);
                    let after = one.computed + tokens;
                    (tokens, self.blocks(after) - self.blocks(one.computed))
                }
            };
            while needed > self.free {
                let victim = self.least_urgent();
                budget += self.preempt(victim);
                if victim == who {
                    return;
                }
            }
            self.take(needed);
            budget -= tokens;
            self.all[who as usize].granted = tokens;
        }
    }

    /// The last to arrive of the last class that runs.
    fn least_urgent(&self) -> u32 {
        let last = self.running.iter().rev().find(|list| list.tail != NONE);
        last.expect("somebody runs for whom blocks are missing").tail
    }

    /// Takes away all blocks; returns the tokens that it was to compute in this step.
    fn preempt(&mut self, who: u32) -> u32 {
        if self.all[who as usize].phase == Phase::Decode {
            self.stop_decoding(who);
        }
        let one = &mut self.all[who as usize];
        let granted = std::mem::take(&mut one.granted);
        let computed = std::mem::take(&mut one.computed);
        one.phase = Phase::Waiting;
        one.preemptions += 1;
        let class = usize::from(one.class);
        self.report.work.preemptions += 1;
        self.report.work.preempted_tokens += u64::from(computed);
        self.give_back(who, computed, granted, true);
        self.running[class].remove(&mut self.all, who);
        self.waiting[class].push_front(&mut self.all, who);
        self.running_count -= 1;
        self.waiting_count += 1;
        if self.partial == who {
            self.partial = NONE;
        }
        granted
    }

    /// Looks at the decodes whose time has come.
    fn end_decodes(&mut self, each: &mut impl FnMut(&Record)) {
        while let Some((event, who)) = self.next_event()
            && event == self.decodes.steps
        {
            self.events.pop();
            let one = &mut self.all[who as usize];
            if one.finish == event {
                self.stop_decoding(who);
                match self.cache {
                    Some(_) => self.done.push(who),
                    None => self.complete(who, each),
                }
            } else {
                one.growing = false;
                one.event = one.finish;
                self.decodes.fills();
                self.events.push(Reverse((one.event, who)));
            }
        }
        if self.done.is_empty() {
            return;
        }
        // In the order in which the engine goes through them, for that is the order in which it
        // takes their blocks again.
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable_by_key(|&who| self.all[who as usize].turn);
        for who in done.drain(..) {
            self.complete(who, each);
        }
        self.done = done;
    }

    /// The next decode that must be looked at, and the count of steps when.
    fn next_event(&mut self) -> Option<(u64, u32)> {
        while let Some(&Reverse((event, who))) = self.events.peek() {
            let one = &self.all[who as usize];
            if one.phase == Phase::Decode && one.event == event {
                return Some((event, who));
            }
            self.events.pop();
        }
        None
    }

    fn start_decoding(&mut self, who: u32) {
        let one = &mut self.all[who as usize];
        let context = one.prompt + one.generated;
        one.growing = self.decodes.join(context);
        one.phase = Phase::Decode;
        one.finish = self.decodes.steps + u64::from(one.output - one.generated);
        one.event = one.finish;
        if one.growing {
            let full = self.decodes.steps + u64::from(self.decodes.steps_to_window(context));
            one.event = full.min(one.finish);
        }
        self.events.push(Reverse((one.event, who)));
        if self.events.len() > 2 * self.all.len() + 64 {
            let all = &self.all;
            self.events.retain(|&Reverse((event, who))| {
                let one = &all[who as usize];
                one.phase == Phase::Decode && one.event == event
            });
        }
    }

    /// Takes it out of the sums, its tokens written down.
    fn stop_decoding(&mut self, who: u32) {
        let generated = self.generated(&self.all[who as usize]);
        let one = &mut self.all[who as usize];
        one.generated = generated;
        one.computed = one.prompt + generated - 1;
        one.event = NEVER;
        one.last_token = one.last_token.min(self.now);
        self.decodes.leave(one.prompt + generated, one.growing);
    }

    /// Tokens that a decode has got.
    fn generated(&self, one: &Sequence) -> u32 {
        let left = one.finish - self.decodes.steps;
        one.output - u32::try_from(left).expect("no more than the output")
    }

    fn complete(&mut self, who: u32, each: &mut impl FnMut(&Record)) {
        let one = &self.all[who as usize];
        let (class, computed) = (usize::from(one.class), one.computed);
        let record = record(one, self.now, one.generated, Outcome::Completed);
        self.tell(&record, each);
        self.report.work.useful_tokens += u64::from(computed);
        self.give_back(who, computed, 0, false);
        self.running[class].remove(&mut self.all, who);
        self.running_count -= 1;
        self.vacate(who);
    }

    fn blocks(&self, tokens: u32) -> u64 {
        u64::from((tokens + self.mask) >> self.shift)
    }

    /// What a step of the decodes alone computes and costs.
    fn decode_cost(&mut self) -> (Batch, Cost) {
        let count = self.decodes.count;
        let batch = Batch { decodes: count, sampled: count, ..Batch::default() };
        let at = count as usize;
        if self.decode_costs.len() <= at {
            self.decode_costs.resize(at + 1, None);
        }
        let cost = *self.decode_costs[at].get_or_insert_with(|| Cost::of(&self.time, &batch));
        (batch, cost)
    }

    fn times(&self, batch: &Batch, time: Linear) -> Result<Progression, Error> {
        let times = self.decodes.progression(time);
        if times.is_tame() {
            return Ok(times);
        }
        let &Batch { decodes, prefill_tokens, .. } = batch;
        Err(Error::StepTooLong { decodes, prefill_tokens, ps: times.first.max(times.rise) })
    }

    /// The replica was busy for so long.
    fn pass(&mut self, time: u64) -> Result<(), Error> {
        // The last instant means never.
        let now = self.now.checked_add(time).filter(|&now| now < NEVER);
        self.now = now.ok_or(Error::RunTooLong)?;
        Ok(())
    }

    fn tell(&mut self, record: &Record, each: &mut impl FnMut(&Record)) {
        self.report.add(record, &self.slo);
        each(record);
    }

    /// The decodes of a step got a token each, so long after the one before.
    fn add_gaps(&mut self, step: u64) {
        let mut even = u64::from(self.decodes.count);
        for who in self.late.drain(..) {
            let one = &mut self.all[who as usize];
            // Some were preempted or left since, some stand still again.
            if one.phase == Phase::Decode && one.event != NEVER {
                let last_token = std::mem::replace(&mut one.last_token, NEVER);
                self.report.itl.add(self.now - last_token, 1);
                even -= 1;
            }
        }
        self.report.itl.add(step, even);
    }

    /// Adds up the work of so many steps, of which only the first may have prefills, before the
    /// decodes have advanced.
    fn count(&mut self, batch: &Batch, cost: &Cost, steps: u64) {
        let work = &mut self.report.work;
        work.steps += steps;
        work.prefill_tokens += u64::from(batch.prefill_tokens);
        work.decode_tokens += steps * u64::from(batch.decodes);
        let sum = |each: Linear| self.decodes.progression(each).sum_wide(steps);
        work.flops = work.flops.and_then(|all| Some(all + sum(cost.flops?)));
        work.bytes = work.bytes.and_then(|all| Some(all + sum(cost.bytes?)));
    }

    /// Adds up how full the KV cache is over so many steps that need so many more blocks.
    fn use_up(&mut self, times: Progression, steps: u64, needed: u64) {
        let before = self.used();
        let last = self.kv_share(before + needed);
        let mut done = 0;
        // Few are so long that they pass from one share to the next.
        while done < steps {
            let share = self.kv_share(before + self.decodes.growth(done + 1));
            let within = if share == last {
                steps
            } else {
                let capacity = u64::from(self.engine.kv_blocks);
                let most = ((share as u64 + 1) * capacity).div_ceil(KV_SHARES as u64);
                self.decodes.steps_within(most - before, steps).0
            };
            self.report.kv_ps[share] += times.sum(within) - times.sum(done);
            done = within;
        }
    }

    /// Blocks that are allocated.
    fn used(&self) -> u64 {
        u64::from(self.engine.kv_blocks) - self.free
    }

    fn kv_share(&self, used: u64) -> usize {
        let share = (used - 1) * KV_SHARES as u64 / u64::from(self.engine.kv_blocks);
        usize::try_from(share).expect("no more is used than there is")
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

fn record(one: &Sequence, end_ps: u64, generated: u32, outcome: Outcome) -> Record {
    let known = |time: u64| (time != NEVER).then_some(time);
    Record {
        number: one.number,
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

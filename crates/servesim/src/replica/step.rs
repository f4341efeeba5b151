//! One step, or all those that must be like it: who gets tokens and blocks.

use std::cmp::Reverse;

use crate::cache::Hit;
use crate::engine::{Error, Outcome, Record};
use crate::progression::{LONGEST_STEP, MOST_STEPS};
use crate::sequence::{NEVER, NONE, Phase, Sequence};
use crate::step_time::{Batch, StepTime};

use super::account::Cost;
use super::{Replica, record};

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

impl<T: StepTime> Replica<T> {
    /// One step, or all those that must be like it. Does nothing if everyone who could have run
    /// was preempted.
    pub(super) fn step(&mut self, until: u64, each: &mut impl FnMut(&Record)) -> Result<(), Error> {
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
            if self.decodes.count == 0 {
                self.await_blocks(until);
                return Ok(());
            }
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
                let one = &self.all[who as usize];
                cache.fill(who, one.hit >> self.shift, one.computed + tokens);
            }
        }
    }

    /// Gives back all blocks of somebody who has computed so many tokens, and was to compute more
    /// in this step.
    pub(super) fn give_back(&mut self, who: u32, computed: u32, granted: u32, again: bool) {
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
            let Sequence { computed: brought, .. } = self.all[who as usize];
            let all = self.all[who as usize].tokens();
            let hit = match &self.cache {
                Some(cache) => cache.find(who, all),
                None => Hit::NOTHING,
            };
            // Who comes with its context shares what of it is here already.
            let computed = if brought > 0 { brought } else { hit.blocks << self.shift };
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
                cache.fill(who, hit.blocks, computed + tokens);
            }
            budget -= tokens;
            self.waiting[class].remove(&mut self.all, who);
            self.running[class].push_back(&mut self.all, who);
            self.waiting_count -= 1;
            self.running_count += 1;
            let one = &mut self.all[who as usize];
            one.turn = self.turns;
            self.turns += 1;
            if brought > 0 {
                self.go_on(who);
                continue;
            }
            self.report.work.cached_tokens += u64::from(computed);
            one.phase = Phase::Prefill;
            (one.computed, one.hit) = (computed, computed);
            if one.admitted == NEVER {
                (one.admitted, one.cached) = (self.now, computed);
            }
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
            } else if self.sender.is_some() {
                self.hand_over(who)?;
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
                Phase::Waiting | Phase::Vacant | Phase::Sending => continue,
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
                self.decodes.fills();
                self.events.push(Reverse((one.finish, who)));
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
    pub(super) fn next_event(&mut self) -> Option<(u64, u32)> {
        while let Some(&Reverse((event, who))) = self.events.peek() {
            if self.all[who as usize].event(self.window) == event {
                return Some((event, who));
            }
            self.events.pop();
        }
        None
    }

    #[inline]
    pub(super) fn start_decoding(&mut self, who: u32) {
        let one = &mut self.all[who as usize];
        let context = one.prompt + one.generated;
        one.growing = self.decodes.join(context);
        one.phase = Phase::Decode;
        one.finish = self.decodes.steps + u64::from(one.output - one.generated);
        self.events.push(Reverse((one.event(self.window), who)));
        if self.events.len() > 2 * self.all.len() + 64 {
            let (all, window) = (&self.all, self.window);
            self.events.retain(|&Reverse((event, who))| all[who as usize].event(window) == event);
        }
    }

    /// Takes it out of the sums, its tokens written down.
    pub(super) fn stop_decoding(&mut self, who: u32) {
        let generated = self.generated(&self.all[who as usize]);
        let one = &mut self.all[who as usize];
        one.generated = generated;
        one.computed = one.prompt + generated - 1;
        one.finish = NEVER;
        one.last_token = one.last_token.min(self.now);
        let growing = std::mem::take(&mut one.growing);
        self.decodes.leave(one.prompt + generated, growing);
    }

    /// Tokens that a decode has got.
    pub(super) fn generated(&self, one: &Sequence) -> u32 {
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

    pub(super) fn blocks(&self, tokens: u32) -> u64 {
        u64::from((tokens + self.mask) >> self.shift)
    }
}

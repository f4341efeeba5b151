//! A simulator that goes step by step and token by token, written to be read beside the rules.

use servesim::{
    Batch, Engine, KV_SHARES, Linear, Link, Outcome, Record, Report, Request, Slo, StepTime,
};

use crate::blocks::{Blocks, Content};
use crate::setting::Named;

/// A request in the system.
struct Sequence {
    record: Record,
    class: u8,
    output: u32,
    computed: u32,
    /// What of that was in the cache.
    hit: u32,
    last_token_ps: u64,
    /// Whether each step computes just the token that it got last. After a preemption it is a
    /// prompt again until it has caught up.
    decodes: bool,
    /// Which blocks it uses, in order.
    blocks: Vec<u32>,
    prefix: Option<Named>,
    /// When it leaves, and what that is called; in the order of time.
    deadlines: Vec<(u64, Outcome)>,
    /// Whether its context came with it, and has no blocks yet.
    brought: bool,
}

/// A prompt that is computed, on its way to who decodes it.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) record: Record,
    pub(crate) ready: u64,
    /// Until then they are taken.
    blocks: Vec<u32>,
}

impl Sequence {
    /// Tokens that are known: the prompt and what was generated.
    fn tokens(&self) -> u32 {
        self.record.prompt + self.record.generated
    }

    fn content(&self, place: u32, block_tokens: u32) -> Content {
        content(self.record.number, self.record.prompt, &self.prefix, place, block_tokens)
    }
}

/// What a sequence's block at this place holds when it is full.
fn content(
    number: u64,
    prompt: u32,
    prefix: &Option<Named>,
    place: u32,
    block_tokens: u32,
) -> Content {
    let end = (place + 1) * block_tokens;
    match prefix {
        Some(Named { names, run, salt })
            if end <= prompt && end as usize <= names.len() * *run as usize =>
        {
            let names = names[..=((end - 1) / run) as usize].to_vec();
            Content::Shared { salt: *salt, run: *run, names, end }
        }
        _ => Content::Own { number, end },
    }
}

/// Everything that is known between two steps. Sequences are named by their request's number.
pub(crate) struct Reference<'a, T> {
    engine: &'a Engine,
    time: &'a T,
    pub(crate) now: u64,
    /// How many waited or ran in the last step, and came since.
    in_step: usize,
    sequences: Vec<Option<Sequence>>,
    /// In the order of admission.
    running: Vec<usize>,
    /// In the order in which they are to be admitted.
    waiting: Vec<usize>,
    pub(crate) kv: Blocks,
    pub(crate) records: Vec<Record>,
    pub(crate) report: Report,
    slo: &'a Slo,
    /// Every gap between two tokens.
    pub(crate) gaps: Vec<u64>,
    /// How often somebody who ran was given nothing in a step.
    pub(crate) stalls: usize,
    /// How often a prompt was computed in part.
    pub(crate) chunks: usize,
    /// How often somebody found what it had before a preemption, prompt and output.
    pub(crate) own_hits: usize,
    /// What prompts are sent over that others decode.
    pub(crate) link: Option<Link>,
    /// In the order in which they were computed.
    pub(crate) sent: Vec<Sent>,
    /// How often nobody ran because blocks were still being sent.
    pub(crate) held_up: usize,
}

pub(crate) fn simulate<'a, T: StepTime>(
    engine: &'a Engine,
    time: &'a T,
    slo: &'a Slo,
    requests: &[Request],
    prefixes: &[Option<Named>],
) -> Reference<'a, T> {
    let mut state = Reference::new(engine, time, slo, 0);
    let mut coming = requests.iter().zip(prefixes).peekable();
    loop {
        // What came in since the last step, in the order of time; arrivals first.
        loop {
            let leaves = state.next_to_leave().filter(|&(at, ..)| at <= state.now);
            let comes = coming.peek().filter(|(request, _)| request.arrival_ps <= state.now);
            match (comes, leaves) {
                (Some((request, _)), Some((at, ..))) if request.arrival_ps > at => {
                    state.leave(leaves.unwrap());
                }
                (Some((request, prefix)), _) => {
                    state.arrive(request, prefix);
                    coming.next();
                }
                (None, Some(leaves)) => state.leave(leaves),
                (None, None) => break,
            }
        }
        if state.running.is_empty() && state.waiting.is_empty() {
            let Some((next, _)) = coming.peek() else { break };
            state.report.time.idle_ps += next.arrival_ps - state.now;
            state.now = next.arrival_ps;
            continue;
        }
        let scheduled = state.schedule().0;
        state.stalls += state.running.len() - scheduled.len();
        if !scheduled.is_empty() {
            state.execute(&scheduled);
        }
    }
    assert_eq!(state.kv.free.len(), engine.kv_blocks as usize, "a block was lost");
    state
}

impl<'a, T: StepTime> Reference<'a, T> {
    /// Nothing to do yet, from a time on.
    pub(crate) fn new(engine: &'a Engine, time: &'a T, slo: &'a Slo, now: u64) -> Self {
        Self {
            engine,
            time,
            now,
            in_step: 0,
            sequences: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            kv: Blocks::new(engine.kv_blocks),
            records: Vec::new(),
            report: empty(engine),
            slo,
            gaps: Vec::new(),
            stalls: 0,
            chunks: 0,
            own_hits: 0,
            link: None,
            sent: Vec::new(),
            held_up: 0,
        }
    }

    /// Takes every step that begins before a time; lets go who leaves before it.
    pub(crate) fn settle(&mut self, at: u64) {
        while self.now < at {
            self.leave_before(self.now + 1);
            if self.running.is_empty() && self.waiting.is_empty() {
                if at == u64::MAX {
                    return;
                }
                self.report.time.idle_ps += at - self.now;
                self.now = at;
                return;
            }
            self.in_step = self.running.len() + self.waiting.len();
            let (scheduled, preempted) = self.schedule();
            self.stalls += self.running.len() - scheduled.len();
            if !scheduled.is_empty() {
                self.execute(&scheduled);
            } else if !preempted {
                // Blocks that are being sent are missing.
                self.held_up += 1;
                let arrives = self.next_to_arrive().unwrap().ready;
                let leaves = self.next_to_leave().map_or(u64::MAX, |leaves| leaves.0);
                let next = arrives.min(leaves).min(at);
                self.report.time.idle_ps += next - self.now;
                self.now = next;
            }
        }
        if self.now == at {
            self.leave_before(at);
        }
    }

    /// Lets go who leaves, and blocks of what has arrived elsewhere, in the order of time.
    fn leave_before(&mut self, at: u64) {
        loop {
            let leaves = self.next_to_leave().filter(|leaves| leaves.0 < at);
            let arrives = self.next_to_arrive().filter(|sent| sent.ready < at);
            match (leaves, arrives) {
                (Some(leaves), Some(sent))
                    if (leaves.0, self.get(leaves.1).record.number)
                        < (sent.ready, sent.record.number) =>
                {
                    self.leave(leaves);
                }
                (_, Some(sent)) => {
                    let number = sent.record.number;
                    let of = |sent: &&mut Sent| sent.record.number == number;
                    let blocks = &mut self.sent.iter_mut().find(of).unwrap().blocks;
                    self.kv.give_back(std::mem::take(blocks));
                }
                (Some(leaves), None) => self.leave(leaves),
                (None, None) => break,
            }
        }
    }

    /// Whose blocks are free next.
    fn next_to_arrive(&self) -> Option<&Sent> {
        let held = self.sent.iter().filter(|sent| !sent.blocks.is_empty());
        held.min_by_key(|sent| (sent.ready, sent.record.number))
    }

    /// A request comes that nobody knew of.
    pub(crate) fn push(&mut self, request: &Request, prefix: &Option<Named>) {
        self.settle(request.arrival_ps);
        self.leave_before(request.arrival_ps);
        let before = self.waiting.len();
        self.arrive(request, prefix);
        self.in_step += self.waiting.len() - before;
    }

    /// A request comes whose prompt was computed elsewhere.
    pub(crate) fn receive(&mut self, sent: &Sent, request: &Request, prefix: &Option<Named>) {
        self.settle(sent.ready);
        self.leave_before(sent.ready);
        let local = self.sequences.len();
        self.arrive(request, prefix);
        let Record { arrival_ps, prompt, .. } = sent.record;
        self.report.work.received_tokens += u64::from(prompt);
        let one = self.get_mut(local);
        (one.record, one.computed, one.brought, one.decodes) = (sent.record, prompt, true, true);
        one.last_token_ps = sent.record.first_token_ps.unwrap();
        assert_eq!(request.arrival_ps, arrival_ps);
        self.in_step += 1;
    }

    /// The requests that it has at a time up to which it is settled.
    pub(crate) fn load(&self, at: u64) -> usize {
        if self.now > at { self.in_step } else { self.running.len() + self.waiting.len() }
    }

    /// Tokens of a prompt that are in the cache.
    pub(crate) fn cached(&self, request: &Request, prefix: &Option<Named>) -> u32 {
        let block = self.engine.block_tokens;
        let places = 0..(request.prompt - 1) / block;
        let found = places.take_while(|&place| {
            let content = content(u64::MAX, request.prompt, prefix, place, block);
            self.kv.find(&content).is_some()
        });
        u32::try_from(found.count()).unwrap() * block
    }

    fn arrive(&mut self, request: &Request, prefix: &Option<Named>) {
        let number = self.sequences.len();
        let arrival = request.arrival_ps;
        let mut record = Record {
            number: number as u64,
            priority: request.priority.min(self.engine.priority_classes - 1),
            arrival_ps: arrival,
            admitted_ps: None,
            first_token_ps: None,
            end_ps: arrival,
            prompt: request.prompt,
            cached: 0,
            generated: 0,
            preemptions: 0,
            outcome: Outcome::Completed,
        };
        if request.prompt >= self.engine.max_model_len {
            record.outcome = Outcome::TooLong;
        } else if self.engine.max_queue.is_some_and(|most| self.waiting.len() >= most as usize) {
            record.outcome = Outcome::QueueFull;
        }
        if record.outcome != Outcome::Completed {
            self.tell(record);
            self.sequences.push(None);
            return;
        }
        let deadline = |span: Option<u64>, outcome| span.map(|span| (arrival + span, outcome));
        let mut deadlines: Vec<_> = [
            deadline(self.engine.queue_timeout_ps, Outcome::QueueTimeout),
            deadline(self.engine.timeout_ps, Outcome::Timeout),
            deadline(request.patience_ps, Outcome::Aborted),
        ]
        .into_iter()
        .flatten()
        .collect();
        deadlines.sort_unstable();
        self.sequences.push(Some(Sequence {
            record,
            class: request.priority.min(self.engine.priority_classes - 1),
            output: request.output.min(self.engine.max_model_len - request.prompt),
            computed: 0,
            hit: 0,
            last_token_ps: 0,
            decodes: false,
            blocks: Vec::new(),
            prefix: prefix.clone(),
            deadlines,
            brought: false,
        }));
        self.wait(number);
    }

    /// Puts it into its place in the queue.
    fn wait(&mut self, number: usize) {
        self.waiting.push(number);
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|&one| (self.get(one).class, one));
        self.waiting = waiting;
    }

    fn next_to_leave(&self) -> Option<(u64, usize, Outcome)> {
        let present = self.running.iter().chain(&self.waiting);
        let deadlines = present.flat_map(|&number| {
            let one = self.get(number);
            let started = one.record.admitted_ps.is_some();
            let all = one.deadlines.iter();
            let due = all.filter(move |due| due.1 != Outcome::QueueTimeout || !started);
            due.map(move |&(at, outcome)| (at, number, outcome))
        });
        deadlines.min_by_key(|&(at, number, outcome)| (at, self.get(number).record.number, outcome))
    }

    fn leave(&mut self, (at, number, outcome): (u64, usize, Outcome)) {
        self.running.retain(|&one| one != number);
        self.waiting.retain(|&one| one != number);
        self.report.work.abandoned_tokens += u64::from(self.get(number).computed);
        self.end(number, at, outcome);
    }

    fn end(&mut self, number: usize, at: u64, outcome: Outcome) {
        let mut one = self.sequences[number].take().unwrap();
        self.kv.give_back(std::mem::take(&mut one.blocks));
        self.tell(Record { end_ps: at, outcome, ..one.record });
    }

    pub(crate) fn tell(&mut self, record: Record) {
        self.records.push(record);
        let report = &mut self.report;
        let since = |time: u64| time - record.arrival_ps;
        report.outcomes[record.outcome as usize] += 1;
        report.last_arrival_ps = report.last_arrival_ps.max(record.arrival_ps);
        report.last_end_ps = report.last_end_ps.max(record.end_ps);
        record.admitted_ps.into_iter().for_each(|time| report.wait.add(since(time), 1));
        record.first_token_ps.into_iter().for_each(|time| report.ttft.add(since(time), 1));
        if record.outcome != Outcome::Completed {
            return;
        }
        report.prompt_tokens += u64::from(record.prompt);
        report.cached_tokens += u64::from(record.cached);
        report.generated_tokens += u64::from(record.generated);
        report.latency.add(since(record.end_ps), 1);
        let first = record.first_token_ps.unwrap();
        let mut kept = [
            self.slo.ttft_ps.is_none_or(|most| since(first) <= most),
            true,
            self.slo.latency_ps.is_none_or(|most| since(record.end_ps) <= most),
        ];
        if record.generated > 1 {
            let tpot = (record.end_ps - first) / u64::from(record.generated - 1);
            report.tpot.add(tpot, 1);
            kept[1] = self.slo.tpot_ps.is_none_or(|most| tpot <= most);
        }
        for (count, kept) in report.kept.iter_mut().zip(kept) {
            *count += u64::from(kept);
        }
        if kept.into_iter().all(|kept| kept) {
            report.good += 1;
            report.good_prompt_tokens += u64::from(record.prompt);
            report.good_generated_tokens += u64::from(record.generated);
        }
    }

    /// Who computes how many tokens in the next step, and whether somebody was preempted.
    fn schedule(&mut self) -> (Vec<(usize, u32)>, bool) {
        let mut budget = self.engine.max_num_batched_tokens;
        let mut scheduled: Vec<(usize, u32)> = Vec::new();
        let mut preempted = false;
        // What runs comes first.
        let mut at = 0;
        'running: while at < self.running.len() && budget > 0 {
            let number = self.running[at];
            let tokens = (self.get(number).tokens() - self.get(number).computed).min(budget);
            while !self.allocate(number, tokens) {
                let victim = self.victim();
                let place = self.running.iter().position(|&one| one == victim).unwrap();
                assert!(self.engine.priority_classes > 1 || place + 1 == self.running.len());
                if let Some(granted) = scheduled.iter().position(|&(one, _)| one == victim) {
                    budget += scheduled.remove(granted).1;
                    at -= 1;
                }
                self.running.remove(place);
                self.preempt(victim);
                preempted = true;
                if victim == number {
                    break 'running;
                }
            }
            scheduled.push((number, tokens));
            budget -= tokens;
            at += 1;
        }
        for &(number, tokens) in &scheduled {
            self.cache(number, tokens);
        }
        // Then who waits, unless there are too few blocks for what runs.
        while !preempted
            && budget > 0
            && self.running.len() < self.engine.max_num_seqs as usize
            && let Some(&number) = self.waiting.first()
        {
            let hits = self.find(number);
            let brought = self.get(number).brought;
            let found = u32::try_from(hits.len()).unwrap() * self.engine.block_tokens;
            let computed = if brought { self.get(number).computed } else { found };
            let tokens = (self.get(number).tokens() - computed).min(budget);
            let wanted = (computed + tokens).div_ceil(self.engine.block_tokens) as usize;
            // Free blocks that hold something of it are not free for the rest.
            if wanted - hits.len() > self.kv.free.len() - self.kv.idle(&hits) {
                break;
            }
            self.kv.hold(&hits);
            let now = self.now;
            let one = self.get_mut(number);
            (one.blocks, one.computed, one.brought) = (hits, computed, false);
            one.hit = if brought { 0 } else { computed };
            if one.record.admitted_ps.is_none() {
                (one.record.admitted_ps, one.record.cached) = (Some(now), computed);
            }
            assert!(self.allocate(number, tokens));
            self.cache(number, tokens);
            if brought {
                let since = self.get(number).record.first_token_ps.unwrap();
                self.report.handover.add(now - since, 1);
            } else {
                self.report.work.cached_tokens += u64::from(computed);
            }
            self.waiting.remove(0);
            self.running.push(number);
            scheduled.push((number, tokens));
            budget -= tokens;
        }
        (scheduled, preempted)
    }

    /// Blocks that hold the first tokens of somebody who waits, but not its last token.
    fn find(&mut self, number: usize) -> Vec<u32> {
        let mut hits = Vec::new();
        if self.engine.enable_prefix_caching {
            let (one, block) = (self.get(number), self.engine.block_tokens);
            let (mut shared, mut own) = (0, 0);
            for place in 0..(one.tokens() - 1) / block {
                let content = one.content(place, block);
                let Some(hit) = self.kv.find(&content) else { break };
                let is_own = matches!(content, Content::Own { .. });
                *if is_own { &mut own } else { &mut shared } += 1;
                hits.push(hit);
            }
            self.own_hits += usize::from(own > 0 && shared > 0);
        }
        hits
    }

    /// Whether there are blocks for so many more tokens; takes them if there are.
    fn allocate(&mut self, number: usize, tokens: u32) -> bool {
        let one = self.sequences[number].as_mut().unwrap();
        let wanted = (one.computed + tokens).div_ceil(self.engine.block_tokens) as usize;
        let missing = wanted.saturating_sub(one.blocks.len());
        if missing > self.kv.free.len() {
            return false;
        }
        one.blocks.extend((0..missing).map(|_| self.kv.take()));
        true
    }

    /// What is computed in this step can be found from now on.
    fn cache(&mut self, number: usize, tokens: u32) {
        let one = self.sequences[number].as_ref().unwrap();
        let block = self.engine.block_tokens;
        if self.engine.enable_prefix_caching {
            for place in 0..(one.computed + tokens) / block {
                self.kv.cache(one.blocks[place as usize], one.content(place, block));
            }
        }
    }

    /// The last to arrive of those that are least urgent.
    fn victim(&self) -> usize {
        *self.running.iter().max_by_key(|&&one| (self.get(one).class, one)).unwrap()
    }

    fn preempt(&mut self, number: usize) {
        let one = self.sequences[number].as_mut().unwrap();
        self.kv.give_back(std::mem::take(&mut one.blocks));
        self.report.work.preemptions += 1;
        self.report.work.preempted_tokens += u64::from(one.computed);
        one.record.preemptions += 1;
        one.computed = 0;
        one.decodes = false;
        self.wait(number);
    }

    fn execute(&mut self, scheduled: &[(usize, u32)]) {
        let window = self.time.window().map_or(u32::MAX, std::num::NonZeroU32::get);
        let (mut batch, mut contexts, mut windowed) = (Batch::default(), 0, 0);
        // The prompts alone, as if nothing had been in the cache.
        let mut fresh = Batch::default();
        for &(number, tokens) in scheduled {
            let one = self.get(number);
            let ends = one.computed + tokens == one.tokens();
            batch.sampled += u32::from(ends);
            if one.decodes {
                assert_eq!(tokens, 1);
                batch.decodes += 1;
                contexts += u64::from(one.tokens());
                windowed += u64::from(one.tokens().min(window));
                continue;
            }
            batch.prefills += 1;
            batch.prefill_tokens += tokens;
            for token in 1..=tokens {
                let keys = one.computed + token;
                batch.prefill_pairs += u64::from(keys);
                batch.windowed_pairs += u64::from(keys.min(window));
                fresh.prefill_pairs += u64::from(keys - one.hit);
                fresh.windowed_pairs += u64::from((keys - one.hit).min(window));
            }
        }
        let sum =
            |each: Linear| each.base + each.per_context * contexts + each.per_windowed * windowed;
        let time = sum(self.time.step(&batch));
        let sampled = batch.sampled - batch.decodes;
        let prefills = Batch { decodes: 0, sampled, ..batch };
        let Batch { prefill_pairs, windowed_pairs, .. } = fresh;
        fresh = Batch { prefill_pairs, windowed_pairs, ..prefills };
        self.attribute(time, &batch, &prefills, &fresh, sum);
        self.now += time;
        self.report.batch_ps[scheduled.len()] += time;
        let used = self.engine.kv_blocks as usize - self.kv.free.len();
        let share = (used - 1) * KV_SHARES / self.engine.kv_blocks as usize;
        self.report.kv_ps[share] += time;
        let work = &mut self.report.work;
        let both = |all: Option<u128>, each: Option<Linear>| Some(all? + u128::from(sum(each?)));
        work.flops = both(work.flops, self.time.flops(&batch));
        work.bytes = both(work.bytes, self.time.bytes(&batch));
        self.report.work.steps += 1;
        self.report.work.decode_tokens += u64::from(batch.decodes);
        self.report.work.prefill_tokens += u64::from(batch.prefill_tokens);
        for &(number, tokens) in scheduled {
            let now = self.now;
            let one = self.get_mut(number);
            one.computed += tokens;
            if one.computed < one.tokens() {
                self.chunks += 1;
                continue;
            }
            one.decodes = true;
            if one.record.generated > 0 {
                let gap = now - one.last_token_ps;
                self.gaps.push(gap);
                self.report.itl.add(gap, 1);
            }
            let one = self.get_mut(number);
            one.last_token_ps = now;
            one.record.generated += 1;
            one.record.first_token_ps.get_or_insert(now);
            if one.record.generated == one.output {
                self.report.work.useful_tokens += u64::from(self.get(number).computed);
                self.running.retain(|&one| one != number);
                self.end(number, now, Outcome::Completed);
            } else if let Some(link) = self.link {
                self.running.retain(|&one| one != number);
                let one = self.sequences[number].take().unwrap();
                // One after the other.
                let free = self.sent.last().map_or(0, |sent| sent.ready - link.latency_ps);
                let sending = link.sending_ps(one.record.prompt).unwrap();
                let ready = now.max(free) + sending + link.latency_ps;
                self.report.work.sent_tokens += u64::from(one.record.prompt);
                self.sent.push(Sent { record: one.record, ready, blocks: one.blocks });
            }
        }
    }

    /// What of a step's time is caused by prompts and what by decodes.
    fn attribute(
        &mut self,
        time: u64,
        batch: &Batch,
        prefills: &Batch,
        fresh: &Batch,
        sum: impl Fn(Linear) -> u64,
    ) {
        let to = &mut self.report.time;
        if batch.prefills == 0 {
            to.output_ps += time;
            return;
        }
        let input_alone = i128::from(self.time.step(prefills).base);
        let mut share = i128::from(time);
        if batch.decodes > 0 {
            let decodes = batch.decodes;
            let decodes = Batch { decodes, sampled: decodes, ..Batch::default() };
            let output_alone = i128::from(sum(self.time.step(&decodes)));
            let input_added = share - output_alone;
            share = ((input_alone + input_added).max(0) / 2).min(share);
        }
        // What they would take less without what is cached before them.
        let less = (input_alone - i128::from(self.time.step(fresh).base)).max(0);
        let cached = if less == 0 { 0 } else { share * less / input_alone };
        to.cached_ps += u64::try_from(cached).unwrap();
        to.input_ps += u64::try_from(share - cached).unwrap();
        to.output_ps += time - u64::try_from(share).unwrap();
    }

    fn get(&self, number: usize) -> &Sequence {
        self.sequences[number].as_ref().unwrap()
    }

    fn get_mut(&mut self, number: usize) -> &mut Sequence {
        self.sequences[number].as_mut().unwrap()
    }
}

fn empty(engine: &Engine) -> Report {
    let mut report = Report {
        batch_ps: vec![0; engine.max_num_seqs as usize + 1],
        kv_ps: vec![0; KV_SHARES],
        ..Report::default()
    };
    (report.work.flops, report.work.bytes) = (Some(0), Some(0));
    report
}

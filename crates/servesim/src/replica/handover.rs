//! From a replica that computes prompts to one that decodes.

use crate::engine::{Error, Incoming, Outcome, Record, Request};
use crate::pools::Link;
use crate::prefix::Prefix;
use crate::sequence::{NEVER, Phase, Sequence};
use crate::step_time::StepTime;

use super::{Deadline, Replica, Reverse, record};

/// What a replica sends that only computes prompts.
pub(super) struct Sender {
    link: Link,
    /// When what was given to the link so far has been sent.
    free_at: u64,
    /// By the place of a sequence, what only whoever decodes it is to know: its client's patience, and
    /// what its prompt begins with.
    kept: Vec<(Option<u64>, Option<Prefix>)>,
    sent: Vec<Handover>,
}

impl Sender {
    /// A sequence comes.
    pub(super) fn keep(&mut self, who: u32, patience: Option<u64>, prefix: Option<Prefix>) {
        if self.kept.len() <= who as usize {
            self.kept.resize(who as usize + 1, (None, None));
        }
        self.kept[who as usize] = (patience, prefix);
    }
}

/// A request with its context, from one replica to another.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) incoming: Incoming,
    /// What became of it so far.
    pub(crate) record: Record,
    /// When its context is there.
    pub(crate) ready: u64,
}

impl<T: StepTime> Replica<T> {
    /// Makes it compute prompts and first tokens only: who is to get more is sent on.
    pub(crate) fn send_over(&mut self, link: Link) {
        let sender = Sender { link, free_at: 0, kept: Vec::new(), sent: Vec::new() };
        self.sender = Some(Box::new(sender));
    }

    /// Takes what was handed over since the last time, in the order in which it was.
    pub(crate) fn take_sent(&mut self) -> impl Iterator<Item = Handover> {
        self.sender.as_mut().into_iter().flat_map(|sender| sender.sent.drain(..))
    }

    /// A request that was sent has left before it arrived.
    pub(crate) fn lose(&mut self, lost: &Record, each: &mut impl FnMut(&Record)) {
        self.report.work.sent_tokens -= u64::from(lost.prompt);
        self.report.work.abandoned_tokens += u64::from(lost.prompt);
        self.tell(lost, each);
    }

    /// Gives a prompt that is computed to the link, one behind the other. Its blocks are its own
    /// until it has arrived.
    #[cold]
    pub(super) fn hand_over(&mut self, who: u32) -> Result<(), Error> {
        let Some(sender) = &mut self.sender else { return Ok(()) };
        let one = &mut self.all[who as usize];
        one.phase = Phase::Sending;
        let sent = sender.link.sending_ps(one.prompt);
        let sent = sent.and_then(|time| sender.free_at.max(self.now).checked_add(time));
        sender.free_at = sent.ok_or(Error::RunTooLong)?;
        let ready = sender.free_at.checked_add(sender.link.latency_ps);
        let ready = ready.filter(|&ready| ready < NEVER).ok_or(Error::RunTooLong)?;
        let record = record(one, self.now, one.generated, Outcome::Completed);
        let (patience_ps, prefix) = std::mem::take(&mut sender.kept[who as usize]);
        let (number, class) = (one.number, usize::from(one.class));
        let request = Request {
            arrival_ps: one.arrival,
            prompt: one.prompt,
            output: one.output,
            priority: one.class,
            patience_ps,
        };
        sender.sent.push(Handover { incoming: Incoming { request, prefix }, record, ready });
        self.report.work.sent_tokens += u64::from(one.prompt);
        self.running[class].remove(&mut self.all, who);
        self.running_count -= 1;
        let outcome = Outcome::Completed;
        self.deadlines.push(Reverse(Deadline { at: ready, number, who, outcome }));
        Ok(())
    }

    /// Takes in a request with its context, when that is there.
    pub(crate) fn receive(
        &mut self,
        handover: Handover,
        each: &mut impl FnMut(&Record),
    ) -> Result<(), Error> {
        let Handover { incoming: Incoming { request, prefix }, record, ready } = handover;
        self.advance(ready, each)?;
        self.expire(ready, each);
        let Record { number, prompt, generated, .. } = record;
        let first_token = record.first_token_ps.unwrap_or(ready);
        // Both pools have the same limits and classes.
        let Request { arrival_ps, output, priority, .. } = request;
        let mut one = Sequence::new(number, arrival_ps, prompt, output, priority);
        one.admitted = record.admitted_ps.unwrap_or(ready);
        (one.first_token, one.last_token) = (first_token, first_token);
        (one.generated, one.computed) = (generated, prompt);
        (one.cached, one.preemptions) = (record.cached, record.preemptions);
        self.report.work.received_tokens += u64::from(prompt);
        self.enter(one, prefix, request.patience_ps);
        Ok(())
    }

    /// Who came with its context decodes from the step at hand on.
    #[cold]
    pub(super) fn go_on(&mut self, who: u32) {
        let first_token = self.all[who as usize].first_token;
        self.report.handover.add(self.now - first_token, 1);
        self.start_decoding(who);
        // The gap before its next token is not just a step.
        self.late.push(who);
    }

    /// Nobody runs, and who waits finds too few blocks: some are of prompts that are being sent.
    #[cold]
    pub(super) fn await_blocks(&mut self, until: u64) {
        let next = self.next_deadline().min(until);
        self.report.time.idle_ps += next - self.now;
        self.now = next;
    }
}

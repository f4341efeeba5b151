//! Requests in flight, and the lists that they stand in.

/// No sequence.
pub(crate) const NONE: u32 = u32::MAX;
/// No time, and no step.
pub(crate) const NEVER: u64 = u64::MAX;

/// Where a sequence is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its place is free.
    Vacant,
    /// In the queue, with nothing computed unless it came so.
    Waiting,
    /// Its prompt, or what a preemption lost, is being computed.
    Prefill,
    /// Each step gives it a token.
    Decode,
    /// Its prompt is computed and on its way to who decodes it: only its blocks are still here.
    Sending,
}

/// A request in flight. What changes with every step is not here, but follows from the count of
/// decode steps: see [`crate::decodes`].
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) number: u64,
    pub(crate) arrival: u64,
    pub(crate) admitted: u64,
    pub(crate) first_token: u64,
    /// While it does not decode, or stood still in the last step: when its last token came.
    pub(crate) last_token: u64,
    /// While it decodes: the count of decode steps at which its last token comes; else never.
    pub(crate) finish: u64,
    /// Order of admission, which is the order in which an engine goes through what runs.
    pub(crate) turn: u64,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// While it does not decode: tokens got so far.
    pub(crate) generated: u32,
    /// While it does not decode: tokens whose KV it has.
    pub(crate) computed: u32,
    pub(crate) preemptions: u32,
    /// Tokens that were in the prefix cache when it was first admitted.
    pub(crate) cached: u32,
    /// Tokens that were in the prefix cache when it was last admitted.
    pub(crate) hit: u32,
    /// While a crowded step is planned: tokens that it is to compute.
    pub(crate) granted: u32,
    before: u32,
    behind: u32,
    pub(crate) class: u8,
    pub(crate) phase: Phase,
    /// Whether it decodes and its context is still within the window.
    pub(crate) growing: bool,
}

impl Sequence {
    pub(crate) const fn new(
        number: u64,
        arrival: u64,
        prompt: u32,
        output: u32,
        class: u8,
    ) -> Self {
        Self {
            number,
            arrival,
            admitted: NEVER,
            first_token: NEVER,
            last_token: NEVER,
            finish: NEVER,
            turn: 0,
            prompt,
            output,
            generated: 0,
            computed: 0,
            preemptions: 0,
            cached: 0,
            hit: 0,
            granted: 0,
            before: NONE,
            behind: NONE,
            class,
            phase: Phase::Waiting,
            growing: false,
        }
    }

    /// While it does not decode: tokens that it has, computed or not.
    pub(crate) const fn tokens(&self) -> u32 {
        self.prompt + self.generated
    }

    /// The count of decode steps at which it must be looked at: when its context has filled the window,
    /// else at its end.
    pub(crate) const fn event(&self, window: u32) -> u64 {
        let beyond = (self.prompt + self.output).saturating_sub(window);
        self.finish - if self.growing { beyond as u64 } else { 0 }
    }
}

/// A list through the sequences themselves: any of them leaves in no time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn push_back(&mut self, all: &mut [Sequence], who: u32) {
        let one = &mut all[who as usize];
        (one.before, one.behind) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = who,
            tail => all[tail as usize].behind = who,
        }
        self.tail = who;
    }

    pub(crate) fn push_front(&mut self, all: &mut [Sequence], who: u32) {
        let one = &mut all[who as usize];
        (one.before, one.behind) = (NONE, self.head);
        match self.head {
            NONE => self.tail = who,
            head => all[head as usize].before = who,
        }
        self.head = who;
    }

    pub(crate) fn remove(&mut self, all: &mut [Sequence], who: u32) {
        let (before, behind) = (all[who as usize].before, all[who as usize].behind);
        match before {
            NONE => self.head = behind,
            one => all[one as usize].behind = behind,
        }
        match behind {
            NONE => self.tail = before,
            one => all[one as usize].before = before,
        }
    }

    /// Everyone in it, from the head.
    pub(crate) fn iter(self, all: &[Sequence]) -> impl Iterator<Item = u32> {
        let known = |who: u32| (who != NONE).then_some(who);
        std::iter::successors(known(self.head), move |&who| known(all[who as usize].behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `benches/memory.rs` measures what it comes to with its event and its place among the free ones.
    #[test]
    fn a_request_in_flight_takes_little_memory() {
        assert!(size_of::<Sequence>() <= 104, "{}", size_of::<Sequence>());
    }
}

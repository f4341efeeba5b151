//! The prefix cache: what the blocks of the KV cache hold, and in which order free ones are taken.
//!
//! A block that is given back keeps what it holds until it is taken again; free blocks are taken in
//! the order in which they were given back, a sequence's last block first. So whatever is cached has
//! its prefix cached too, and blocks that were filled together are taken together, from their end.
//! That is why runs of blocks can stand for blocks: a run is cut only where a prompt diverges from it,
//! and what is done with it is done at once.
//!
//! Source of the rules: vLLM, `vllm/v1/core/block_pool.py` and `kv_cache_manager.py`, 2026. As there, a
//! block that is computed twice is cached twice, and the older one is found.

use crate::prefix::Prefix;
use crate::sequence::NONE;

/// Blocks of one prefix that follow each other, or free blocks that nobody can find.
#[derive(Debug, Clone)]
struct Run {
    /// What is in them; `None` if that cannot be found, but perhaps by its owner.
    prefix: Option<Prefix>,
    /// Stands for the prefix up to the first of them.
    key: u64,
    /// The first one's place in the sequence.
    start: u32,
    len: u32,
    /// Sequences that use them.
    users: u32,
    /// The run before this one.
    parent: u32,
    /// The next younger run that is found where this one is.
    younger: u32,
    /// The sequence that waits and had them for itself.
    owner: u32,
    /// How many of them, from the first on, are full: only its owner asks.
    full: u32,
    /// Its neighbours among the free ones.
    before: u32,
    behind: u32,
}

impl Run {
    /// So many free blocks that nobody can find.
    const fn blank(len: u32) -> Self {
        Self {
            prefix: None,
            key: 0,
            start: 0,
            len,
            users: 0,
            parent: NONE,
            younger: NONE,
            owner: NONE,
            full: 0,
            before: NONE,
            behind: NONE,
        }
    }

    const fn is_blank(&self) -> bool {
        self.prefix.is_none() && self.owner == NONE
    }
}

/// What a sequence has of the cache.
#[derive(Debug, Clone)]
struct Holder {
    prefix: Option<Prefix>,
    /// Full blocks of the prefix in its prompt: those that others can find.
    shared: u32,
    /// While it runs: the last run that it uses; those before follow from it. While it waits after a
    /// preemption: what it had for itself, if that is left.
    run: u32,
}

impl Holder {
    const NOBODY: Self = Self { prefix: None, shared: 0, run: NONE };
}

/// What of a sequence is in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) blocks: u32,
    /// Those of them that are free.
    pub(crate) idle: u32,
    leaf: u32,
    /// Blocks of the leaf that are meant.
    within: u32,
    own: u32,
}

impl Hit {
    pub(crate) const NOTHING: Self = Self { blocks: 0, idle: 0, leaf: NONE, within: 0, own: 0 };
}

#[derive(Debug)]
pub(crate) struct Cache {
    shift: u32,
    runs: Vec<Run>,
    vacant: Vec<u32>,
    /// The free runs: `next` is taken next, `last` was freed last.
    next: u32,
    last: u32,
    /// Where runs are found: by the last bits of a key the oldest of them, the others behind it.
    found: Vec<u32>,
    /// By the place of a sequence.
    holders: Vec<Holder>,
}

impl Cache {
    /// Of so many blocks, a power of two of tokens each.
    pub(crate) fn new(blocks: u32, block_tokens: u32) -> Self {
        let mut cache = Self {
            shift: block_tokens.trailing_zeros(),
            runs: Vec::new(),
            vacant: Vec::new(),
            next: NONE,
            last: NONE,
            found: vec![NONE],
            holders: Vec::new(),
        };
        cache.free_blank(blocks);
        cache
    }

    /// A sequence comes.
    pub(crate) fn enter(&mut self, who: u32, prefix: Option<Prefix>, prompt: u32) {
        if self.holders.len() <= who as usize {
            self.holders.resize(who as usize + 1, Holder::NOBODY);
        }
        let shared = prefix.as_ref().map_or(0, |prefix| prefix.tokens(prompt) >> self.shift);
        self.holders[who as usize] = Holder { prefix, shared, run: NONE };
    }

    /// A sequence goes that uses nothing any more.
    pub(crate) fn leave(&mut self, who: u32) {
        let holder = std::mem::replace(&mut self.holders[who as usize], Holder::NOBODY);
        self.disown(holder.run);
    }

    /// How many blocks are cached of a prompt that begins so.
    pub(crate) fn cached(&self, prefix: &Prefix, prompt: u32) -> u32 {
        let shared = prefix.tokens(prompt) >> self.shift;
        let limit = prompt.saturating_sub(1) >> self.shift;
        self.walk(prefix, limit.min(shared)).blocks
    }

    /// What is cached of a waiting sequence that has so many tokens. The last token is always
    /// computed, for it gives the next one.
    pub(crate) fn find(&self, who: u32, tokens: u32) -> Hit {
        let Holder { prefix, shared, run: own } = &self.holders[who as usize];
        let limit = (tokens - 1) >> self.shift;
        let mut hit = match prefix {
            Some(prefix) => self.walk(prefix, limit.min(*shared)),
            None => Hit::NOTHING,
        };
        if *own != NONE && hit.blocks == *shared {
            hit.own = self.runs[*own as usize].full.min(limit - hit.blocks);
            hit.blocks += hit.own;
            hit.idle += hit.own;
        }
        hit
    }

    /// The cached blocks of a prefix, up to a limit.
    fn walk(&self, prefix: &Prefix, limit: u32) -> Hit {
        let mut hit = Hit::NOTHING;
        while hit.blocks < limit
            && let Some((at, run)) = self.oldest(self.key(prefix, hit.blocks))
        {
            let end = (run.start + run.len).min(limit);
            let Some(other) = &run.prefix else { break };
            let common = prefix.common(other, run.start << self.shift, end << self.shift);
            let within = (common >> self.shift).saturating_sub(run.start);
            // Two prefixes of the same key would be none of this run's.
            if within == 0 || run.start != hit.blocks {
                break;
            }
            hit.blocks += within;
            hit.idle += if run.users == 0 { within } else { 0 };
            (hit.leaf, hit.within) = (at, within);
            if within < run.len {
                break;
            }
        }
        hit
    }

    /// The sequence uses what was found of it.
    pub(crate) fn hold(&mut self, who: u32, hit: &Hit) {
        let mut leaf = hit.leaf;
        if leaf != NONE && hit.within < self.runs[leaf as usize].len {
            leaf = self.split(leaf, hit.within);
        }
        let mut at = leaf;
        while at != NONE {
            if self.runs[at as usize].users == 0 {
                self.unlink(at);
            }
            let run = &mut self.runs[at as usize];
            run.users += 1;
            at = run.parent;
        }
        let own = std::mem::replace(&mut self.holders[who as usize].run, leaf);
        if own != NONE {
            self.runs[own as usize].len -= hit.own;
        }
        self.disown(own);
    }

    /// What was computed of the sequence's prefix behind so many blocks that were found, or is in this
    /// step, can be found from now on.
    pub(crate) fn fill(&mut self, who: u32, found: u32, computed: u32) {
        let Holder { prefix, shared, run: leaf } = &self.holders[who as usize];
        let (start, leaf) = (self.end(*leaf), *leaf);
        let len = (computed >> self.shift).min(*shared).saturating_sub(start);
        let Some(prefix) = prefix.as_ref().filter(|_| len > 0) else { return };
        if start > found {
            // Nobody was admitted since its last chunk, so nobody else uses that, and nothing follows it.
            let last = &mut self.runs[leaf as usize];
            debug_assert_eq!(last.users, 1, "of what a prompt behind its hit just computed");
            last.len += len;
            return;
        }
        let key = self.key(prefix, start);
        let run = Run {
            prefix: Some(prefix.clone()),
            key,
            start,
            users: 1,
            parent: leaf,
            ..Run::blank(len)
        };
        let at = self.seat(run);
        self.index(at);
        self.holders[who as usize].run = at;
    }

    /// Gives back all blocks of a sequence, whose KV holds so many tokens; returns how many blocks
    /// nobody uses any more. If it comes again, it may find what it had for itself.
    pub(crate) fn free(&mut self, who: u32, blocks: u64, computed: u32, again: bool) -> u64 {
        let holder = &mut self.holders[who as usize];
        let mut at = std::mem::replace(&mut holder.run, NONE);
        let shared = holder.shared;
        let start = self.end(at);
        let own = u32::try_from(blocks).expect("no more than there are") - start;
        let full = (computed >> self.shift).saturating_sub(start);
        if again && full > 0 && start == shared {
            let run = Run { owner: who, full, ..Run::blank(own) };
            let own = self.seat(run);
            self.push(own);
            self.holders[who as usize].run = own;
        } else {
            self.free_blank(own);
        }
        let mut freed = own;
        while at != NONE {
            let run = &mut self.runs[at as usize];
            run.users -= 1;
            let (parent, users, len) = (run.parent, run.users, run.len);
            if users == 0 {
                freed += len;
                self.push(at);
            }
            at = parent;
        }
        u64::from(freed)
    }

    /// Takes so many blocks, which must be free.
    pub(crate) fn take(&mut self, mut blocks: u64) {
        while blocks > 0 {
            let at = self.next;
            let run = &mut self.runs[at as usize];
            let some = u32::try_from(blocks).map_or(run.len, |blocks| blocks.min(run.len));
            blocks -= u64::from(some);
            run.len -= some;
            run.full = run.full.min(run.len);
            if run.len == 0 {
                let (owner, cached) = (run.owner, run.prefix.is_some());
                let (key, younger) = (run.key, run.younger);
                if owner != NONE {
                    self.holders[owner as usize].run = NONE;
                }
                if cached {
                    self.replace(key, at, younger);
                }
                self.unlink(at);
                self.vacate(at);
            }
        }
    }

    fn key(&self, prefix: &Prefix, block: u32) -> u64 {
        prefix.key(((block + 1) << self.shift) - 1)
    }

    /// The place behind the last block of a run.
    fn end(&self, at: u32) -> u32 {
        if at == NONE {
            return 0;
        }
        let run = &self.runs[at as usize];
        run.start + run.len
    }

    /// Cuts a run behind so many blocks; returns the first part. Whoever used the whole uses both.
    fn split(&mut self, at: u32, len: u32) -> u32 {
        let whole = &self.runs[at as usize];
        let (key, before, behind) = (whole.key, at, whole.behind);
        let first = self.seat(Run { len, before, behind, ..whole.clone() });
        self.replace(key, at, first);
        let rest = &mut self.runs[at as usize];
        rest.start += len;
        rest.len -= len;
        rest.parent = first;
        let start = rest.start;
        if rest.users == 0 {
            // The rest was freed before the first part, and is taken before.
            rest.behind = first;
            match behind {
                NONE => self.last = first,
                behind => self.runs[behind as usize].before = first,
            }
        }
        if let Some(prefix) = &self.runs[at as usize].prefix {
            let key = self.key(prefix, start);
            self.runs[at as usize].key = key;
        }
        self.index(at);
        first
    }

    /// Where runs of a key are found: keys are scattered already.
    fn place(&self, key: u64) -> usize {
        usize::try_from(key & (self.found.len() as u64 - 1)).expect("one of them")
    }

    /// The oldest run of a key.
    fn oldest(&self, key: u64) -> Option<(u32, &Run)> {
        let mut at = self.found[self.place(key)];
        loop {
            let run = self.runs.get(at as usize)?;
            if run.key == key {
                return Some((at, run));
            }
            at = run.younger;
        }
    }

    /// Puts a run in another's place in the order in which they are found; [`NONE`] is behind the last.
    fn replace(&mut self, key: u64, at: u32, other: u32) {
        let place = self.place(key);
        let mut link = &mut self.found[place];
        loop {
            let one = *link;
            if one == at {
                break;
            }
            link = &mut self.runs[one as usize].younger;
        }
        *link = other;
    }

    /// Lets a run be found, unless an older one is.
    fn index(&mut self, at: u32) {
        if self.found.len() < self.runs.len() {
            self.widen();
        }
        let run = &mut self.runs[at as usize];
        run.younger = NONE;
        let key = run.key;
        self.replace(key, NONE, at);
    }

    /// Makes places for all.
    fn widen(&mut self) {
        let places = vec![NONE; self.runs.len().next_power_of_two()];
        for mut at in std::mem::replace(&mut self.found, places) {
            while at != NONE {
                let younger = self.runs[at as usize].younger;
                self.index(at);
                at = younger;
            }
        }
    }

    /// Nobody can find what is left of what a sequence had for itself, if it had anything.
    fn disown(&mut self, at: u32) {
        let Some(run) = self.runs.get_mut(at as usize) else { return };
        (run.owner, run.full) = (NONE, 0);
        if run.len == 0 {
            self.unlink(at);
            self.vacate(at);
        }
    }

    /// So many blocks are free that nobody can find.
    fn free_blank(&mut self, len: u32) {
        if len == 0 {
            return;
        }
        if let Some(last) = self.runs.get_mut(self.last as usize)
            && last.is_blank()
        {
            last.len += len;
            return;
        }
        let at = self.seat(Run::blank(len));
        self.push(at);
    }

    /// The run is free from now on.
    fn push(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.last, at);
        let run = &mut self.runs[at as usize];
        (run.before, run.behind) = (last, NONE);
        match last {
            NONE => self.next = at,
            last => self.runs[last as usize].behind = at,
        }
    }

    /// The run is not free from now on.
    fn unlink(&mut self, at: u32) {
        let Run { before, behind, .. } = self.runs[at as usize];
        match before {
            NONE => self.next = behind,
            one => self.runs[one as usize].behind = behind,
        }
        match behind {
            NONE => self.last = before,
            one => self.runs[one as usize].before = before,
        }
    }

    fn seat(&mut self, run: Run) -> u32 {
        if let Some(at) = self.vacant.pop() {
            self.runs[at as usize] = run;
            return at;
        }
        self.runs.push(run);
        u32::try_from(self.runs.len() - 1).expect("memory ends before u32 does")
    }

    fn vacate(&mut self, at: u32) {
        self.runs[at as usize].prefix = None;
        self.vacant.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The run is the cache's: there may be fewer than requests, and they stay when those are gone.
    #[test]
    fn what_a_request_in_flight_has_of_the_cache_takes_little_memory() {
        assert!(size_of::<Holder>() <= 32, "{}", size_of::<Holder>());
        assert!(size_of::<Run>() <= 72, "{}", size_of::<Run>());
    }
}

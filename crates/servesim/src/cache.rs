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

mod runs;

use runs::{Run, Runs};

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
    runs: Runs,
    /// By the place of a sequence.
    holders: Vec<Holder>,
}

impl Cache {
    /// Of so many blocks, a power of two of tokens each.
    pub(crate) fn new(blocks: u32, block_tokens: u32) -> Self {
        let mut runs = Runs::new();
        runs.push_blank(blocks);
        Self { shift: block_tokens.trailing_zeros(), runs, holders: Vec::new() }
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
        self.runs.disown(holder.run);
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
            hit.own = self.runs[*own].full.min(limit - hit.blocks);
            hit.blocks += hit.own;
            hit.idle += hit.own;
        }
        hit
    }

    /// The cached blocks of a prefix, up to a limit.
    fn walk(&self, prefix: &Prefix, limit: u32) -> Hit {
        let mut hit = Hit::NOTHING;
        while hit.blocks < limit
            && let Some((at, run)) = self.runs.oldest(self.key(prefix, hit.blocks))
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
        if leaf != NONE && hit.within < self.runs[leaf].len {
            let Run { start, prefix, .. } = &self.runs[leaf];
            let key = prefix.as_ref().map_or(0, |prefix| self.key(prefix, start + hit.within));
            leaf = self.runs.split(leaf, hit.within, key);
        }
        let mut at = leaf;
        while at != NONE {
            if self.runs[at].users == 0 {
                self.runs.unlink(at);
            }
            let run = &mut self.runs[at];
            run.users += 1;
            at = run.parent;
        }
        let own = std::mem::replace(&mut self.holders[who as usize].run, leaf);
        if own != NONE {
            self.runs[own].len -= hit.own;
        }
        self.runs.disown(own);
    }

    /// What was computed of the sequence's prefix behind so many blocks that were found, or is in this
    /// step, can be found from now on.
    pub(crate) fn fill(&mut self, who: u32, found: u32, computed: u32) {
        let Holder { prefix, shared, run: leaf } = &self.holders[who as usize];
        let (start, leaf) = (self.runs.end(*leaf), *leaf);
        let len = (computed >> self.shift).min(*shared).saturating_sub(start);
        let Some(prefix) = prefix.as_ref().filter(|_| len > 0) else { return };
        if start > found {
            // Nobody was admitted since its last chunk, so nobody else uses that, and nothing follows it.
            let last = &mut self.runs[leaf];
            debug_assert_eq!(last.users, 1, "of what a prompt behind its hit just computed");
            last.len += len;
            return;
        }
        let key = self.key(prefix, start);
        let filled = self.runs.fill(prefix.clone(), key, leaf, len);
        self.holders[who as usize].run = filled;
    }

    /// Gives back all blocks of a sequence, whose KV holds so many tokens; returns how many blocks
    /// nobody uses any more. If it comes again, it may find what it had for itself.
    pub(crate) fn free(&mut self, who: u32, blocks: u64, computed: u32, again: bool) -> u64 {
        let holder = &mut self.holders[who as usize];
        let mut at = std::mem::replace(&mut holder.run, NONE);
        let shared = holder.shared;
        let start = self.runs.end(at);
        let own = u32::try_from(blocks).expect("no more than there are") - start;
        let full = (computed >> self.shift).saturating_sub(start);
        if again && full > 0 && start == shared {
            self.holders[who as usize].run = self.runs.push_owned(own, who, full);
        } else {
            self.runs.push_blank(own);
        }
        let mut freed = own;
        while at != NONE {
            let run = &mut self.runs[at];
            run.users -= 1;
            let (parent, users, len) = (run.parent, run.users, run.len);
            if users == 0 {
                freed += len;
                self.runs.push(at);
            }
            at = parent;
        }
        u64::from(freed)
    }

    /// Takes so many blocks, which must be free.
    pub(crate) fn take(&mut self, mut blocks: u64) {
        while blocks > 0 {
            let at = self.runs.next();
            let run = &mut self.runs[at];
            let some = u32::try_from(blocks).map_or(run.len, |blocks| blocks.min(run.len));
            blocks -= u64::from(some);
            run.len -= some;
            run.full = run.full.min(run.len);
            if run.len == 0 {
                if run.owner != NONE {
                    self.holders[run.owner as usize].run = NONE;
                }
                self.runs.remove(at);
            }
        }
    }

    fn key(&self, prefix: &Prefix, block: u32) -> u64 {
        prefix.key(((block + 1) << self.shift) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_in_flight_has_of_the_cache_takes_little_memory() {
        assert!(size_of::<Holder>() <= 32, "{}", size_of::<Holder>());
    }
}

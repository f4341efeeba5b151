//! A provider's prefix cache: which leading parts of prompts were seen before. Where an engine decides the time, its
//! own cache decides this too: see [`crate::serving`].

use std::collections::{BTreeMap, HashMap};

use crate::prompt::Block;

/// Fewer tokens are not cached, as at both providers.
const LEAST_TOKENS: u64 = 1_024;
/// OpenAI counts cached tokens in steps of this.
const STEP_TOKENS: u64 = 128;

/// Hashes of prefixes, the least recently used one leaving first. Time plays no part: a prefix
/// stays until others push it out.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    capacity: usize,
    clock: u64,
    last_use: HashMap<u128, u64>,
    by_use: BTreeMap<u64, u128>,
}

/// The input of a request by what the cache did for it; disjoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) uncached: u64,
    pub(crate) read: u64,
    pub(crate) written_5m: u64,
    pub(crate) written_1h: u64,
}

impl Input {
    /// So much of it in an engine's prefix cache, which nobody has to write.
    pub(crate) const fn in_an_engine(total: u64, cached: u64) -> Self {
        let read = if cached < total { cached } else { total };
        Self { uncached: total - read, read, written_5m: 0, written_1h: 0 }
    }

    pub(crate) const fn total(self) -> u64 {
        self.uncached + self.read + self.written_5m + self.written_1h
    }
}

impl PrefixCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            clock: 0,
            last_use: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    fn touch(&mut self, hash: u128) {
        self.clock += 1;
        if let Some(before) = self.last_use.insert(hash, self.clock) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.clock, hash);
        if self.last_use.len() > self.capacity
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.last_use.remove(&oldest);
        }
    }

    /// The longest of these prefixes that is cached: its end as an index into `blocks`, and its
    /// tokens.
    fn longest(&self, blocks: &[Block]) -> Option<(usize, u64)> {
        let mut tokens: u64 = blocks.iter().map(|block| block.tokens).sum();
        for (index, block) in blocks.iter().enumerate().rev() {
            if tokens < LEAST_TOKENS {
                return None;
            }
            if self.last_use.contains_key(&block.prefix) {
                return Some((index, tokens));
            }
            tokens -= block.tokens;
        }
        None
    }

    /// OpenAI's way: every prefix is cached unasked, and read in whole steps. The last token is
    /// always computed.
    pub(crate) fn automatic(&mut self, blocks: &[Block]) -> Input {
        let total: u64 = blocks.iter().map(|block| block.tokens).sum();
        let hit = self.longest(blocks);
        let mut tokens = 0;
        for (index, block) in blocks.iter().enumerate() {
            tokens += block.tokens;
            if tokens >= LEAST_TOKENS && hit.is_none_or(|(end, _)| index >= end) {
                self.touch(block.prefix);
            }
        }
        let found = hit.map_or(0, |(_, tokens)| tokens).min(total.saturating_sub(1));
        let read = if found < LEAST_TOKENS { 0 } else { found - found % STEP_TOKENS };
        Input { uncached: total - read, read, ..Input::default() }
    }

    /// Anthropic's way: cached up to where the client says, and read from the longest prefix that
    /// was written so before.
    pub(crate) fn marked(&mut self, blocks: &[Block]) -> Input {
        let total: u64 = blocks.iter().map(|block| block.tokens).sum();
        let Some(last) = blocks.iter().rposition(|block| block.mark.is_some()) else {
            return Input { uncached: total, ..Input::default() };
        };
        let hit = self.longest(&blocks[..=last]);
        let read = hit.map_or(0, |(_, tokens)| tokens);
        if let Some((end, _)) = hit {
            self.touch(blocks[end].prefix);
        }
        let mut input = Input { read, ..Input::default() };
        let (mut tokens, mut written) = (0, read);
        for block in &blocks[..=last] {
            tokens += block.tokens;
            let Some(mark) = block.mark else { continue };
            if tokens < LEAST_TOKENS || tokens <= written {
                continue;
            }
            self.touch(block.prefix);
            if mark.one_hour {
                input.written_1h += tokens - written;
            } else {
                input.written_5m += tokens - written;
            }
            written = tokens;
        }
        input.uncached = total - written;
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Mark;

    fn block(prefix: u128, tokens: u64) -> Block {
        Block { prefix, tokens, mark: None }
    }

    fn marked(prefix: u128, tokens: u64, one_hour: bool) -> Block {
        Block { mark: Some(Mark { one_hour }), ..block(prefix, tokens) }
    }

    #[test]
    fn a_repeated_prefix_is_read_in_steps_of_128() {
        let mut cache = PrefixCache::new(10);
        let first = cache.automatic(&[block(1, 1_100), block(2, 50)]);
        assert_eq!(first, Input { uncached: 1_150, ..Input::default() });
        let second = cache.automatic(&[block(1, 1_100), block(3, 60)]);
        assert_eq!(second, Input { uncached: 136, read: 1_024, ..Input::default() });
        let same = cache.automatic(&[block(1, 1_100), block(3, 60)]);
        assert_eq!(same, Input { uncached: 8, read: 1_152, ..Input::default() });
    }

    #[test]
    fn a_short_prefix_is_not_cached() {
        let mut cache = PrefixCache::new(10);
        for _ in 0..2 {
            assert_eq!(cache.automatic(&[block(1, 1_023)]).read, 0);
            assert_eq!(cache.marked(&[marked(2, 1_023, false)]).read, 0);
        }
    }

    #[test]
    fn a_marked_prefix_is_written_then_read_and_extended() {
        let mut cache = PrefixCache::new(10);
        let first = cache.marked(&[marked(1, 2_000, true), marked(2, 100, false), block(3, 7)]);
        assert_eq!(first, Input { uncached: 7, read: 0, written_5m: 100, written_1h: 2_000 });
        let second = cache.marked(&[
            marked(1, 2_000, true),
            block(2, 100),
            block(4, 30),
            marked(5, 40, false),
            block(6, 1),
        ]);
        assert_eq!(second, Input { uncached: 1, read: 2_100, written_5m: 70, written_1h: 0 });
        assert_eq!(cache.marked(&[block(1, 2_000)]).read, 0, "not asked for");
    }

    #[test]
    fn the_least_recently_used_prefix_leaves_first() {
        let mut cache = PrefixCache::new(2);
        cache.automatic(&[block(1, 2_000)]);
        cache.automatic(&[block(2, 2_000)]);
        cache.automatic(&[block(1, 2_000)]);
        cache.automatic(&[block(3, 2_000)]);
        assert_eq!(cache.automatic(&[block(2, 2_000), block(9, 1)]).read, 0);
        assert_eq!(cache.last_use.len(), cache.by_use.len());
        assert_eq!(cache.last_use.len(), 2);
    }
}

//! The runs of blocks of a KV cache: those that are free in their order, those that can be found by what
//! they hold.

use std::ops::{Index, IndexMut};

use crate::prefix::Prefix;
use crate::sequence::NONE;

/// Blocks of one prefix that follow each other, or free blocks that nobody can find.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// What is in them; `None` if that cannot be found, but perhaps by its owner.
    pub(super) prefix: Option<Prefix>,
    /// Stands for the prefix up to the first of them.
    pub(super) key: u64,
    /// The first one's place in the sequence.
    pub(super) start: u32,
    pub(super) len: u32,
    /// Sequences that use them.
    pub(super) users: u32,
    /// The run before this one.
    pub(super) parent: u32,
    /// The next younger run that is found where this one is.
    younger: u32,
    /// The sequence that waits and had them for itself.
    pub(super) owner: u32,
    /// How many of them, from the first on, are full: only its owner asks.
    pub(super) full: u32,
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

#[derive(Debug)]
pub(super) struct Runs {
    all: Vec<Run>,
    vacant: Vec<u32>,
    /// The free ones: `next` is taken next, `last` was freed last.
    next: u32,
    last: u32,
    /// By the last bits of a key, for keys are scattered, the oldest run that can be found there; the
    /// others are behind it.
    found: Vec<u32>,
}

impl Index<u32> for Runs {
    type Output = Run;

    #[inline]
    fn index(&self, at: u32) -> &Run {
        &self.all[at as usize]
    }
}

impl IndexMut<u32> for Runs {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut Run {
        &mut self.all[at as usize]
    }
}

impl Runs {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), vacant: Vec::new(), next: NONE, last: NONE, found: vec![NONE] }
    }

    /// The place behind the last block of a run, or of none.
    #[inline]
    pub(super) fn end(&self, at: u32) -> u32 {
        self.all.get(at as usize).map_or(0, |run| run.start + run.len)
    }

    /// Blocks behind a run, or the first, that hold a prefix and have one user.
    #[inline]
    pub(super) fn fill(&mut self, prefix: Prefix, key: u64, parent: u32, len: u32) -> u32 {
        let (prefix, start) = (Some(prefix), self.end(parent));
        let at = self.add(Run { prefix, key, start, users: 1, parent, ..Run::blank(len) });
        self.show(at);
        at
    }

    #[inline]
    fn add(&mut self, run: Run) -> u32 {
        if let Some(at) = self.vacant.pop() {
            self[at] = run;
            return at;
        }
        self.all.push(run);
        u32::try_from(self.all.len() - 1).expect("memory ends before u32 does")
    }

    /// A free run that has no blocks left is no more.
    pub(super) fn remove(&mut self, at: u32) {
        let Run { key, younger, .. } = self[at];
        if self[at].prefix.take().is_some() {
            self.replace(key, at, younger);
        }
        self.unlink(at);
        self.vacant.push(at);
    }

    /// Nobody can find what is left of what a sequence had for itself, if it had anything.
    pub(super) fn disown(&mut self, at: u32) {
        let Some(run) = self.all.get_mut(at as usize) else { return };
        (run.owner, run.full) = (NONE, 0);
        if run.len == 0 {
            self.remove(at);
        }
    }

    /// Cuts a run behind so many blocks, with a key for what is behind; returns the first part. Whoever
    /// used the whole uses both.
    pub(super) fn split(&mut self, at: u32, len: u32, key: u64) -> u32 {
        let whole = &self[at];
        let (before, behind, whole_key) = (at, whole.behind, whole.key);
        let first = self.add(Run { len, before, behind, ..whole.clone() });
        self.replace(whole_key, at, first);
        let rest = &mut self[at];
        rest.start += len;
        rest.len -= len;
        rest.parent = first;
        rest.key = key;
        if rest.users == 0 {
            // The rest was freed before the first part, and is taken before.
            rest.behind = first;
            match behind {
                NONE => self.last = first,
                behind => self[behind].before = first,
            }
        }
        self.show(at);
        first
    }

    /// The oldest run of a key.
    #[inline]
    pub(super) fn oldest(&self, key: u64) -> Option<(u32, &Run)> {
        let mut at = self.found[self.place(key)];
        loop {
            let run = self.all.get(at as usize)?;
            if run.key == key {
                return Some((at, run));
            }
            at = run.younger;
        }
    }

    /// Lets a run be found, behind those of its key that can be.
    fn show(&mut self, at: u32) {
        if self.found.len() < self.all.len() {
            let places = vec![NONE; self.all.len().next_power_of_two()];
            for mut at in std::mem::replace(&mut self.found, places) {
                while at != NONE {
                    let younger = self[at].younger;
                    self.show(at);
                    at = younger;
                }
            }
        }
        let run = &mut self[at];
        run.younger = NONE;
        let key = run.key;
        self.replace(key, NONE, at);
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        usize::try_from(key & (self.found.len() as u64 - 1)).expect("one of them")
    }

    /// Puts a run in another's place in the order in which they are found; [`NONE`] is behind the last.
    #[inline]
    fn replace(&mut self, key: u64, at: u32, other: u32) {
        let place = self.place(key);
        let mut link = &mut self.found[place];
        loop {
            let one = *link;
            if one == at {
                break;
            }
            link = &mut self.all[one as usize].younger;
        }
        *link = other;
    }

    /// The free run that is taken next.
    #[inline]
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// The run is free from now on.
    #[inline]
    pub(super) fn push(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.last, at);
        let run = &mut self[at];
        (run.before, run.behind) = (last, NONE);
        match last {
            NONE => self.next = at,
            last => self[last].behind = at,
        }
    }

    /// So many blocks are free from now on that their owner can find, up to the last full one.
    pub(super) fn push_owned(&mut self, len: u32, owner: u32, full: u32) -> u32 {
        let at = self.add(Run { owner, full, ..Run::blank(len) });
        self.push(at);
        at
    }

    /// So many blocks are free from now on that nobody can find.
    #[inline]
    pub(super) fn push_blank(&mut self, len: u32) {
        if len == 0 {
            return;
        }
        if let Some(last) = self.all.get_mut(self.last as usize)
            && last.is_blank()
        {
            last.len += len;
            return;
        }
        let at = self.add(Run::blank(len));
        self.push(at);
    }

    /// The run is not free from now on.
    #[inline]
    pub(super) fn unlink(&mut self, at: u32) {
        let Run { before, behind, .. } = self[at];
        match before {
            NONE => self.next = behind,
            one => self[one].behind = behind,
        }
        match behind {
            NONE => self.last = before,
            one => self[one].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is the cache's: there may be fewer than requests, and they stay when those are gone.
    #[test]
    fn a_run_takes_little_memory() {
        assert!(size_of::<Run>() <= 72, "{}", size_of::<Run>());
    }
}

//! The KV cache, block by block.

use std::collections::{HashMap, VecDeque};

/// What a full block holds. Two blocks hold the same if all tokens up to their ends are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// Tokens of a prompt that have names, and so may begin other prompts.
    Shared { salt: u32, run: u32, names: Vec<u64>, end: u32 },
    /// Tokens like nobody else's.
    Own { number: u64, end: u32 },
}

/// All blocks of a replica.
pub(crate) struct Blocks {
    /// Those that nobody uses, in the order in which they are taken.
    pub(crate) free: VecDeque<u32>,
    users: Vec<u32>,
    content: Vec<Option<Content>>,
    /// Blocks by what they hold, in the order in which they were filled.
    found: HashMap<Content, Vec<u32>>,
    /// How often a block was taken that held something.
    pub(crate) evicted: usize,
    /// How often a block was filled with what another one held.
    pub(crate) copies: usize,
    /// How often a block was found that somebody else used.
    pub(crate) in_use: usize,
    /// How often a block was found that nobody used.
    pub(crate) idle: usize,
    /// How often a block was found of which there were several.
    pub(crate) of_several: usize,
}

impl Blocks {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            free: (0..number).collect(),
            users: vec![0; number as usize],
            content: vec![None; number as usize],
            found: HashMap::new(),
            evicted: 0,
            copies: 0,
            in_use: 0,
            idle: 0,
            of_several: 0,
        }
    }

    /// Takes the block that has been free for longest; what it held is lost.
    pub(crate) fn take(&mut self) -> u32 {
        let block = self.free.pop_front().unwrap();
        if let Some(content) = self.content[block as usize].take() {
            let same = self.found.get_mut(&content).unwrap();
            same.retain(|&one| one != block);
            if same.is_empty() {
                self.found.remove(&content);
            }
            self.evicted += 1;
        }
        self.users[block as usize] = 1;
        block
    }

    /// A sequence gives back all its blocks, the last one first.
    pub(crate) fn give_back(&mut self, blocks: Vec<u32>) {
        for block in blocks.into_iter().rev() {
            self.users[block as usize] -= 1;
            if self.users[block as usize] == 0 {
                self.free.push_back(block);
            }
        }
    }

    /// A block is full.
    pub(crate) fn cache(&mut self, block: u32, content: Content) {
        if self.content[block as usize].is_none() {
            let same = self.found.entry(content.clone()).or_default();
            self.copies += usize::from(!same.is_empty());
            same.push(block);
            self.content[block as usize] = Some(content);
        }
    }

    /// The oldest block that holds this.
    pub(crate) fn find(&self, content: &Content) -> Option<u32> {
        self.found.get(content).map(|same| same[0])
    }

    /// How many of these blocks are free.
    pub(crate) fn idle(&self, blocks: &[u32]) -> usize {
        blocks.iter().filter(|&&block| self.users[block as usize] == 0).count()
    }

    /// One more uses these blocks.
    pub(crate) fn hold(&mut self, blocks: &[u32]) {
        let idle = self.idle(blocks);
        self.idle += idle;
        self.in_use += blocks.len() - idle;
        for &block in blocks {
            let same = &self.found[self.content[block as usize].as_ref().unwrap()];
            self.of_several += usize::from(same.len() > 1);
            if self.users[block as usize] == 0 {
                self.free.retain(|&one| one != block);
            }
            self.users[block as usize] += 1;
        }
    }
}

//! Everything that decodes, as sums.
//!
//! All decodes gain a token in every step, so nobody needs to be touched: a sequence's context is
//! its context when it joined and the steps since, its end is a count of steps, and how many of
//! them need a new block of KV in which step is a histogram of contexts modulo the block, read
//! from a start that moves by one with every step.

use crate::progression::Progression;
use crate::step_time::Linear;

#[derive(Debug)]
pub(crate) struct Decodes {
    /// Steps so far in which decodes gained a token.
    pub(crate) steps: u64,
    /// How many there are.
    pub(crate) count: u32,
    /// The sum of their contexts in the next step.
    pub(crate) context: u64,
    /// The sum of their contexts within the window.
    pub(crate) windowed: u64,
    /// How many of them have not filled the window.
    pub(crate) growing: u32,
    /// How many have a context that is congruent to index and steps.
    phases: Box<[u32]>,
    mask: u64,
    shift: u32,
    window: u32,
}

impl Decodes {
    pub(crate) fn new(block_tokens: u32, window: u32) -> Self {
        Self {
            steps: 0,
            count: 0,
            context: 0,
            windowed: 0,
            growing: 0,
            phases: vec![0; block_tokens as usize].into(),
            mask: u64::from(block_tokens) - 1,
            shift: block_tokens.trailing_zeros(),
            window,
        }
    }

    #[inline]
    fn phase(&mut self, context: u32) -> &mut u32 {
        let index = u64::from(context).wrapping_sub(self.steps) & self.mask;
        &mut self.phases[usize::try_from(index).expect("less than a block")]
    }

    /// One joins whose next step has this context; tells whether it is still within the window.
    #[inline]
    pub(crate) fn join(&mut self, context: u32) -> bool {
        self.count += 1;
        self.context += u64::from(context);
        self.windowed += u64::from(context.min(self.window));
        *self.phase(context) += 1;
        let growing = context < self.window;
        self.growing += u32::from(growing);
        growing
    }

    /// One leaves that had this context ahead of it, and joined as `growing` or has been told
    /// [`Self::fills`] since.
    #[inline]
    pub(crate) fn leave(&mut self, context: u32, growing: bool) {
        self.count -= 1;
        self.context -= u64::from(context);
        self.windowed -= u64::from(context.min(self.window));
        *self.phase(context) -= 1;
        self.growing -= u32::from(growing);
    }

    /// One has filled the window.
    pub(crate) const fn fills(&mut self) {
        self.growing -= 1;
    }

    /// Blocks that the next `steps` steps need in addition.
    #[inline]
    pub(crate) fn growth(&self, steps: u64) -> u64 {
        // A block is needed by whoever has one token more than full blocks hold.
        let start = 1_u64.wrapping_sub(self.steps);
        let partly = (0..steps & self.mask).map(|step| {
            let index = start.wrapping_sub(step) & self.mask;
            u64::from(self.phases[usize::try_from(index).expect("less than a block")])
        });
        (steps >> self.shift) * u64::from(self.count) + partly.sum::<u64>()
    }

    /// The most steps, up to `most`, that need no more than `free` blocks, and how many they need.
    #[inline]
    pub(crate) fn steps_within(&self, free: u64, most: u64) -> (u64, u64) {
        let grown = self.growth(most);
        if grown <= free {
            return (most, grown);
        }
        // Whole rounds through a block first, then step by step. More than is free means that the
        // count is not zero.
        let mut steps = (free / u64::from(self.count)) << self.shift;
        let mut grown = self.growth(steps);
        loop {
            let next = self.growth(steps + 1);
            if next > free {
                return (steps, grown);
            }
            (steps, grown) = (steps + 1, next);
        }
    }

    /// What coming steps take if all of them decode and nobody joins or leaves.
    #[inline]
    pub(crate) fn progression(&self, time: Linear) -> Progression {
        let Linear { base, per_context, per_windowed } = time;
        Progression {
            first: (per_context.saturating_mul(self.context))
                .saturating_add(per_windowed.saturating_mul(self.windowed))
                .saturating_add(base),
            rise: (per_context.saturating_mul(u64::from(self.count)))
                .saturating_add(per_windowed.saturating_mul(u64::from(self.growing))),
        }
    }

    /// All gain so many tokens.
    #[inline]
    pub(crate) fn advance(&mut self, steps: u64) {
        self.steps += steps;
        self.context += steps * u64::from(self.count);
        self.windowed += steps * u64::from(self.growing);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_needed_where_contexts_outgrow_them(
            contexts in prop::collection::vec(1_u32..100, 0..9), before in 0_u64..40,
            steps in 0_u64..60, free in 0_u64..40,
        ) {
            let mut decodes = Decodes::new(16, u32::MAX);
            decodes.advance(before);
            for &context in &contexts {
                decodes.join(context);
            }
            let blocks = |steps: u64| -> u64 {
                contexts.iter().map(|&context| (u64::from(context) - 1 + steps).div_ceil(16)).sum()
            };
            prop_assert_eq!(decodes.growth(steps), blocks(steps) - blocks(0));
            let (within, grown) = decodes.steps_within(free, steps);
            prop_assert!(within <= steps && grown == decodes.growth(within) && grown <= free);
            prop_assert!(within == steps || decodes.growth(within + 1) > free);
        }
    }
}

//! What a prompt begins with, without its words.

use std::num::NonZeroU32;
use std::sync::Arc;

/// Names for the first tokens of a prompt, each for a run of so many: two prompts begin with the same
/// tokens exactly as far as they begin with the same names.
///
/// That is what traces tell that keep no words, such as Mooncake's (runs of 512 tokens) and Bailian's
/// (16). What comes behind the last name is like nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Each name with all that come before it, as one number: equal ones have equal prefixes.
    chain: Arc<[u64]>,
    run_tokens: NonZeroU32,
    salt: u32,
}

impl Prefix {
    /// From names in order, each of so many tokens; the last may be of fewer.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = u64>, run_tokens: NonZeroU32) -> Self {
        let mut before = u64::from(run_tokens.get());
        let chain = names.into_iter().map(|name| {
            before = mix(before.wrapping_mul(ODD).wrapping_add(mix(name)));
            before
        });
        Self { chain: chain.collect(), run_tokens, salt: 0 }
    }

    /// The same tokens for somebody else: prefixes of different salts have nothing in common.
    #[must_use]
    pub fn salted(&self, salt: u32) -> Self {
        Self { salt, ..self.clone() }
    }

    /// Tokens that have names, if there are so many.
    pub(crate) fn tokens(&self, prompt: u32) -> u32 {
        let named = self.chain.len() as u64 * u64::from(self.run_tokens.get());
        u32::try_from(named).map_or(prompt, |named| named.min(prompt))
    }

    /// The name that a token has, counted from 0.
    fn name_of(&self, token: u32) -> usize {
        (token / self.run_tokens) as usize
    }

    /// Stands for all tokens up to one that has a name.
    pub(crate) fn key(&self, token: u32) -> u64 {
        let place = u64::from(self.salt) << 32 | u64::from(token);
        mix(place.wrapping_mul(ODD).wrapping_add(self.chain[self.name_of(token)]))
    }

    /// The first token from `from` on, up to `to`, that the two do not have in common; both have
    /// names for them.
    pub(crate) fn common(&self, other: &Self, from: u32, to: u32) -> u32 {
        if from >= to || self.salt != other.salt || self.run_tokens != other.run_tokens {
            return from;
        }
        let (first, last) = (self.name_of(from), self.name_of(to - 1));
        if self.chain[last] == other.chain[last] {
            return to;
        }
        let mut both = self.chain[first..last].iter().zip(&other.chain[first..last]);
        let equal = both.position(|(one, other)| one != other).unwrap_or(last - first);
        if equal == 0 {
            from
        } else {
            u32::try_from(first + equal).map_or(from, |end| end * self.run_tokens.get())
        }
    }
}

/// Keeps what is mixed one after the other from cancelling each other out.
const ODD: u64 = 0x2545_F491_4F6C_DD1D;

/// Scatters numbers over all others, one to one.
///
/// # Source
/// `SplitMix64` (Steele, Lea, Flood 2014).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(names: &[u64], run: u32) -> Prefix {
        Prefix::new(names.iter().copied(), NonZeroU32::new(run).unwrap())
    }

    proptest! {
        #[test]
        fn prefixes_are_common_as_far_as_names_are(
            left in prop::collection::vec(0_u64..2, 1..9), right in prop::collection::vec(0_u64..2, 1..9),
            run in 1_u32..6,
        ) {
            let length = |names: usize| u32::try_from(names).unwrap() * run;
            let equal = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
            let (equal, all) = (length(equal), length(left.len().min(right.len())));
            let (left, right) = (prefix(&left, run), prefix(&right, run));
            for to in 1..=all {
                prop_assert_eq!(left.common(&right, 0, to), equal.min(to));
                for from in 0..equal.min(to) {
                    prop_assert_eq!(left.common(&right, from, to), equal.min(to));
                }
            }
            for token in 0..all {
                prop_assert_eq!(left.key(token) == right.key(token), token < equal);
            }
            let keys: std::collections::BTreeSet<u64> = (0..all).map(|token| left.key(token)).collect();
            prop_assert_eq!(keys.len(), all as usize);
            let other = left.salted(1);
            prop_assert_eq!(left.common(&other, 0, all), 0);
            prop_assert_ne!(left.key(0), other.key(0));
        }
    }
}

//! Groups that are too many: to be shown, or to be kept.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::{Answer, Key, Measures, Rollup};

/// Groups that are counted as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Other {
    /// How many.
    pub groups: u64,
    /// Whether they may be more than that: those that were dropped are not told apart for ever.
    pub or_more: bool,
    /// What was counted for them.
    pub measures: Measures,
}

impl Answer {
    /// The answer with so many groups, the dearest; the others are counted as one. The total stays.
    #[must_use]
    pub fn top(mut self, most: usize) -> Self {
        if self.groups.len() > most {
            let other = self.other.get_or_insert_default();
            for group in self.groups.split_off(most) {
                other.groups += 1;
                other.measures.merge(&group.measures);
            }
        }
        self
    }
}

/// How long after it ended an attempt may be told, its exchange's other attempts included, so that it
/// still bears its exact share of the hours. Attempts are told when their exchange is settled.
const LATE: Duration = Duration::from_secs(2 * 3_600);
/// Attempts by the hour that are kept before any are folded.
const ATTEMPTS: usize = 8_192;

/// What keeps a rollup small.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    groups: usize,
    /// Attempts by the hour at which they are folded next.
    attempts: usize,
    dropped: Dropped,
}

impl Limit {
    /// Whether the group with this key was dropped; it is never kept again, so that a group that is
    /// kept is whole.
    pub(super) fn dropped(&self, key: &Key) -> bool {
        self.dropped.may_have(key)
    }

    pub(super) fn other(&self, measures: Measures) -> Other {
        Other { groups: self.dropped.count, or_more: true, measures }
    }
}

/// A rollup that is kept up to date for long, whatever labels clients invent.
impl Rollup {
    /// Keeps no more than so many groups: when they are more, the cheaper half is counted as one from
    /// then on. Totals stay exact, and so does each group that is kept. Attempts on upstreams paid by
    /// the hour are folded when they are over for two hours, which changes no figure either.
    #[must_use]
    pub fn keeping(mut self, groups: usize) -> Self {
        self.limit = Some(Limit { groups, attempts: ATTEMPTS, dropped: Dropped::default() });
        self.shrink();
        self
    }

    /// Makes the rollup as small as its limit asks.
    pub(super) fn shrink(&mut self) {
        let Some(mut limit) = self.limit.take() else { return };
        if self.hosts.kept() > limit.attempts {
            self.hosts.fold(&self.query.period, LATE);
            limit.attempts = ATTEMPTS.max(2 * self.hosts.kept());
        }
        if self.groups.len() > limit.groups
            && let Some((_, now)) = self.seen
        {
            let cheap = self.answer(now).groups.split_off(limit.groups / 2);
            let cheap: BTreeSet<_> = cheap.into_iter().map(|group| Some(group.key)).collect();
            for place in &cheap {
                let measures = self.groups.remove(place).unwrap_or_default();
                self.groups.entry(None).or_default().merge(&measures);
                place.iter().for_each(|key| limit.dropped.insert(key));
            }
            self.hosts.regroup(&None, &cheap);
        }
        self.limit = Some(limit);
    }
}

/// The keys of dropped groups, in little room: it never forgets one, and now and then takes another
/// for one of them.
#[derive(Debug, Clone, Default)]
struct Dropped {
    count: u64,
    bits: Vec<u64>,
}

/// Bits that tell dropped keys: a hundred thousand of them are told from others in 49 of 50 cases.
const BITS: u64 = 1 << 20;

impl Dropped {
    fn insert(&mut self, key: &Key) {
        self.count += 1;
        self.bits.resize((BITS / 64) as usize, 0);
        for (word, bit) in places(key) {
            self.bits[word] |= bit;
        }
    }

    fn may_have(&self, key: &Key) -> bool {
        !self.bits.is_empty() && places(key).iter().all(|(word, bit)| self.bits[*word] & bit != 0)
    }
}

/// Three places of a key: the word, and the bit in it. The same in every process.
fn places(key: &Key) -> [(usize, u64); 3] {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let hash = hasher.finish();
    [0, 20, 40].map(|shift| {
        let place = (hash >> shift) % BITS;
        (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use quantity::UnixTime;

    use super::*;
    use crate::Query;

    #[test]
    fn a_group_that_is_kept_is_whole_even_if_it_looks_like_a_dropped_one() {
        let mut rollup = Rollup::new(Query::default()).keeping(10);
        let one = Measures { attempts: 1, ..Measures::default() };
        let key = |name: &str| vec![Some(name.to_owned())];
        rollup.add_group(key("kept"), &one);
        if let Some(limit) = &mut rollup.limit {
            limit.dropped.bits = vec![u64::MAX; (BITS / 64) as usize];
        }
        rollup.add_group(key("kept"), &one);
        rollup.add_group(key("new"), &one);
        let answer = rollup.answer(UnixTime::from_nanos(0));
        assert_eq!((answer.groups.len(), answer.groups[0].measures.attempts), (1, 2));
        assert_eq!(answer.other.unwrap().measures.attempts, 1);
    }
}

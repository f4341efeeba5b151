//! Other names for what an answer is split by.

use std::collections::BTreeMap;

use super::{Answer, Group, Key, by_spend};
use crate::{Dimension, Measures};

impl Answer {
    /// The answer with values of a dimension under other names; groups that come to share one are
    /// merged. The total stays.
    #[must_use]
    pub fn renamed(mut self, by: &Dimension, names: &BTreeMap<String, String>) -> Self {
        let places: Vec<usize> =
            (0..self.query.by.len()).filter(|&place| self.query.by[place] == *by).collect();
        if places.is_empty() || names.is_empty() {
            return self;
        }
        let mut groups: BTreeMap<Key, Measures> = BTreeMap::new();
        for Group { mut key, measures } in self.groups {
            for &place in &places {
                if let Some(name) = key[place].as_ref().and_then(|value| names.get(value)) {
                    key[place] = Some(name.clone());
                }
            }
            groups.entry(key).or_default().merge(&measures);
        }
        self.groups = by_spend(groups);
        self
    }
}

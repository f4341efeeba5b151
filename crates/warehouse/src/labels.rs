//! Labels: texts by number.
//!
//! Each dimension has a dictionary, texts in the order in which they first occur, and a column of
//! codes: 0 for no label, else the place in the dictionary, from 1. A text is its length in four bytes
//! and its UTF-8. Tags have one dictionary for all names: an entry is a whole set of tags, name and
//! value in turn, so that a client that invents names adds entries and not columns.

use std::collections::HashMap;

use facts::{Dimension, Exchange};

use crate::Unsound;
use crate::bytes::{Taker, put_counted};
use crate::column::{Builder, Column};

/// What has a dictionary, tags apart; where each is on disk says [`number`].
pub(crate) const DIMENSIONS: [Dimension; 12] = [
    Dimension::Route,
    Dimension::Model,
    Dimension::TaskType,
    Dimension::Task,
    Dimension::Team,
    Dimension::User,
    Dimension::Upstream,
    Dimension::Day,
    Dimension::Api,
    Dimension::Key,
    Dimension::Region,
    Dimension::Provider,
];

/// The number of the sets of tags.
pub(crate) const TAGS: u16 = 10;

pub(crate) const UPSTREAM: u16 = 6;

/// The last of these numbers.
#[cfg(test)]
pub(crate) const LAST: u16 = 12;

/// The number of what a dimension is read from.
pub(crate) fn number(dimension: &Dimension) -> u16 {
    match dimension {
        Dimension::Route => 0,
        Dimension::Model => 1,
        Dimension::TaskType => 2,
        Dimension::Task => 3,
        Dimension::Team => 4,
        Dimension::User => 5,
        Dimension::Upstream => UPSTREAM,
        Dimension::Day => 7,
        Dimension::Api => 8,
        Dimension::Key => 9,
        Dimension::Tag(_) => TAGS,
        // Unknown to projections of format 9 and before: there it is none.
        Dimension::Region => 11,
        // The same of format 10 and before.
        Dimension::Provider => 12,
    }
}

/// Collects a dictionary and its codes.
#[derive(Debug, Default)]
pub(crate) struct LabelBuilder {
    codes: Builder,
    /// Never iterated over: its order is not the dictionary's.
    known: HashMap<Vec<u8>, u32>,
    dictionary: Vec<u8>,
}

impl LabelBuilder {
    pub(crate) fn set(&mut self, row: usize, entry: Option<&[u8]>) {
        let Some(entry) = entry else { return };
        let code = match self.known.get(entry) {
            Some(code) => *code,
            None => {
                let next = u32::try_from(self.known.len()).expect("fewer labels than bytes") + 1;
                self.known.insert(entry.to_vec(), next);
                put_counted(&mut self.dictionary, entry);
                next
            }
        };
        self.codes.set(row, i128::from(code));
    }

    /// The codes of so many rows, and the dictionary.
    pub(crate) fn finish(self, rows: usize) -> (Column, Vec<u8>) {
        (self.codes.finish(rows), self.dictionary)
    }
}

/// The tags of an exchange as one entry; `None` if it has none.
pub(crate) fn tag_set(exchange: &Exchange) -> Option<Vec<u8>> {
    let tags = &exchange.admission.labels.tags;
    if tags.is_empty() {
        return None;
    }
    let mut entry = Vec::new();
    for (name, value) in tags {
        put_counted(&mut entry, name.as_bytes());
        put_counted(&mut entry, value.as_bytes());
    }
    Some(entry)
}

/// The texts of a dictionary by code; 0 is none.
pub(crate) fn texts(dictionary: &[u8]) -> Result<Vec<Option<&str>>, Unsound> {
    let mut texts = vec![None];
    let mut taker = Taker(dictionary);
    while !taker.0.is_empty() {
        texts.push(Some(taker.text()?));
    }
    Ok(texts)
}

/// The values of a tag by code: of each set of tags, the value of the first with this name.
pub(crate) fn tag_values<'a>(
    dictionary: &'a [u8],
    name: &str,
) -> Result<Vec<Option<&'a str>>, Unsound> {
    let mut values = vec![None];
    let mut taker = Taker(dictionary);
    while !taker.0.is_empty() {
        let mut set = Taker(taker.counted()?);
        let mut found = None;
        while !set.0.is_empty() {
            let (tag, value) = (set.text()?, set.text()?);
            if tag == name {
                found = found.or(Some(value));
            }
        }
        values.push(found);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dimension_has_a_number_of_its_own() {
        let mut numbers: Vec<u16> = DIMENSIONS.iter().map(number).chain([TAGS]).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..=LAST).collect::<Vec<_>>());
    }
}

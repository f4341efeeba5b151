//! Answers a query from the columns of a projection.

use std::collections::{BTreeMap, HashMap};

use facts::{Dimension, Query, Rollup};
use quantity::{Period, UnixTime};

use crate::Unsound;
use crate::column::Column;
use crate::flat::{self, FLAT};
use crate::labels::{UPSTREAM, number, tag_values, texts};
use crate::projection::{
    ADMITTED_AT, BUSY_FROM, BUSY_ROW, BUSY_UNTIL, BUSY_USEFUL, CODES, DICTIONARIES, MEASURES,
    Projection,
};

/// The most cells of the table that numbers pairs of groups and codes; beyond it a hash map does.
const TABLE: usize = 1 << 20;

/// What a projection adds to a rollup.
#[derive(Default)]
pub(crate) struct Part {
    keys: Vec<Vec<Option<String>>>,
    /// Rows of each group. Those without any are no part of the answer.
    sizes: Vec<u64>,
    /// By measure.
    sums: Vec<Sums>,
    busy: Vec<Busy>,
    seen: Option<(UnixTime, UnixTime)>,
}

/// What one group did on one upstream paid by the hour.
struct Busy {
    group: usize,
    upstream: String,
    times: Vec<(UnixTime, UnixTime)>,
    useful_tokens: u64,
}

/// The group of each row.
struct Groups {
    of_row: Vec<u32>,
    keys: Vec<Vec<Option<String>>>,
}

/// Sums the rows that a query asks for.
pub(crate) fn scan(projection: &Projection, query: &Query) -> Result<Part, Unsound> {
    let (first, last) = projection.head.span;
    let inside = query.period.contains(first) && query.period.contains(last);
    let apart = query.period.end.is_some_and(|end| first >= end)
        || query.period.start.is_some_and(|start| last < start);
    if projection.head.rows == 0 || apart {
        return Ok(Part::default());
    }
    let mut groups = Groups::by(projection, &query.by)?;
    let mut seen = Some((first, last));
    if !inside {
        seen = groups.leave_out(projection, &query.period)?;
    }
    let mut sizes = vec![0_u64; groups.keys.len()];
    groups.of_row.iter().for_each(|group| sizes[*group as usize] += 1);
    // Rows outside the period are in a last group that nobody asked for.
    let wanted = if inside { groups.keys.len() } else { groups.keys.len() - 1 };
    let sums = sums(projection, &groups.of_row, &sizes)?;
    let busy = busy(projection, &groups.of_row, wanted)?;
    groups.keys.truncate(wanted);
    Ok(Part { keys: groups.keys, sizes, sums, busy, seen })
}

impl Part {
    pub(crate) fn add_to(self, rollup: &mut Rollup) {
        if let Some((first, last)) = self.seen {
            rollup.add_seen(first, last);
        }
        for busy in self.busy {
            let key = &self.keys[busy.group];
            rollup.add_busy(key, &busy.upstream, busy.times, busy.useful_tokens);
        }
        for (group, key) in self.keys.into_iter().enumerate() {
            if self.sizes[group] > 0 {
                let sums = std::array::from_fn(|measure| self.sums[measure].get(group));
                rollup.add_group(key, &flat::measures(&sums));
            }
        }
    }
}

impl Groups {
    fn by(projection: &Projection, by: &[Dimension]) -> Result<Self, Unsound> {
        let rows = projection.head.rows;
        let mut groups = Self { of_row: vec![0; rows], keys: vec![Vec::new()] };
        for dimension in by {
            let number = number(dimension);
            let dictionary = projection.bytes(DICTIONARIES + number)?;
            let values = match dimension {
                Dimension::Tag(name) => tag_values(&dictionary, name)?,
                _ => texts(&dictionary)?,
            };
            let codes = projection.column(CODES + number, rows)?;
            groups.split(&codes, &values)?;
        }
        Ok(groups)
    }

    /// Splits each group by the value that the code of a row stands for.
    fn split(&mut self, codes: &Column, values: &[Option<&str>]) -> Result<(), Unsound> {
        if let Some(code) = codes.constant() {
            let value = usize::try_from(code).ok().and_then(|code| values.get(code));
            let value = value.ok_or(Unsound)?.map(str::to_owned);
            self.keys.iter_mut().for_each(|key| key.push(value.clone()));
            return Ok(());
        }
        let codes = codes.codes(values.len())?;
        // Several sets of tags may have the same value of one tag: codes of values, not of entries.
        let mut first: HashMap<Option<&str>, u32> = HashMap::new();
        let same: Vec<u32> =
            (0..).zip(values).map(|(code, value)| *first.entry(*value).or_insert(code)).collect();
        let mut origins: Vec<(u32, u32)> = Vec::new();
        let mut next = |group: u32, code: u32| {
            origins.push((group, code));
            u32::try_from(origins.len() - 1).unwrap_or(u32::MAX)
        };
        let cells = self.keys.len().saturating_mul(values.len());
        if cells <= TABLE {
            let mut table = vec![u32::MAX; cells];
            for (group, code) in self.of_row.iter_mut().zip(codes) {
                let code = same[code as usize];
                let cell = &mut table[*group as usize * values.len() + code as usize];
                if *cell == u32::MAX {
                    *cell = next(*group, code);
                }
                *group = *cell;
            }
        } else {
            // Never iterated over: groups are numbered as they come.
            let mut table: HashMap<(u32, u32), u32> = HashMap::new();
            for (group, code) in self.of_row.iter_mut().zip(codes) {
                let pair = (*group, same[code as usize]);
                *group = *table.entry(pair).or_insert_with(|| next(pair.0, pair.1));
            }
        }
        let key = |(group, code): (u32, u32)| {
            let mut key = self.keys[group as usize].clone();
            key.push(values[code as usize].map(str::to_owned));
            key
        };
        self.keys = origins.into_iter().map(key).collect();
        Ok(())
    }

    /// Moves rows of exchanges admitted outside a period to a group of their own, the last; gives the
    /// first and last admission inside.
    fn leave_out(
        &mut self,
        projection: &Projection,
        period: &Period,
    ) -> Result<Option<(UnixTime, UnixTime)>, Unsound> {
        let outside = u32::try_from(self.keys.len()).map_err(|_| Unsound)?;
        self.keys.push(Vec::new());
        let times = projection.column(ADMITTED_AT, projection.head.rows)?.values()?;
        let mut seen: Option<(UnixTime, UnixTime)> = None;
        for (group, at) in self.of_row.iter_mut().zip(times) {
            let at = UnixTime::from_nanos(at);
            if period.contains(at) {
                let (first, last) = seen.unwrap_or((at, at));
                seen = Some((first.min(at), last.max(at)));
            } else {
                *group = outside;
            }
        }
        Ok(seen)
    }
}

/// The sums of a measure by group; most measures are zero throughout.
enum Sums {
    Zero,
    Each(Vec<i128>),
}

impl Sums {
    fn get(&self, group: usize) -> i128 {
        match self {
            Self::Zero => 0,
            Self::Each(sums) => sums[group],
        }
    }
}

fn sums(projection: &Projection, groups: &[u32], sizes: &[u64]) -> Result<Vec<Sums>, Unsound> {
    let mut summed = BTreeMap::new();
    let mut all: Vec<Sums> = Vec::with_capacity(FLAT);
    for (number, place) in (MEASURES..).zip(0..FLAT) {
        let sums = match projection.identity(number) {
            None => Sums::Zero,
            // Columns that are the same have the same sums.
            Some(identity) => match summed.get(&identity).map(|place: &usize| &all[*place]) {
                Some(Sums::Each(sums)) => Sums::Each(sums.clone()),
                _ => {
                    summed.insert(identity, place);
                    Sums::Each(projection.column(number, groups.len())?.sums(groups, sizes)?)
                }
            },
        };
        all.push(sums);
    }
    Ok(all)
}

fn busy(projection: &Projection, groups: &[u32], wanted: usize) -> Result<Vec<Busy>, Unsound> {
    let count = projection.count(BUSY_FROM);
    if count == 0 {
        return Ok(Vec::new());
    }
    let rows = projection.column(BUSY_ROW, count)?.codes(groups.len())?;
    let from = projection.column(BUSY_FROM, count)?.values()?;
    let until = projection.column(BUSY_UNTIL, count)?.values()?;
    let useful = projection.column(BUSY_USEFUL, count)?.values()?;
    let dictionary = projection.bytes(DICTIONARIES + UPSTREAM)?;
    let upstreams = texts(&dictionary)?;
    let codes = projection.column(CODES + UPSTREAM, groups.len())?.codes(upstreams.len())?;
    let mut all: BTreeMap<(usize, u32), (Vec<_>, u64)> = BTreeMap::new();
    for (((row, from), until), useful) in rows.into_iter().zip(from).zip(until).zip(useful) {
        let (group, upstream) = (groups[row as usize] as usize, codes[row as usize]);
        if group >= wanted {
            continue;
        }
        let (times, tokens) = all.entry((group, upstream)).or_default();
        times.push((UnixTime::from_nanos(from), UnixTime::from_nanos(until)));
        *tokens = tokens.saturating_add(useful.cast_unsigned());
    }
    let busy = all.into_iter().map(|((group, upstream), (times, useful_tokens))| {
        let upstream = upstreams[upstream as usize].ok_or(Unsound)?.to_owned();
        Ok(Busy { group, upstream, times, useful_tokens })
    });
    busy.collect()
}

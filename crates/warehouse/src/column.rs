//! Columns of whole numbers.
//!
//! A column has a base, which is its least value, and a width: each value is stored as its distance
//! from the base in `width` little-endian bytes, 0 to 8 or 16. A column of one value throughout has
//! width 0 and no bytes. Not the densest form there is, but one that is summed at the speed of memory.

use crate::Unsound;

/// Collects a column. Rows that were not set are 0.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// Money of a single attempt fits; if one does not, all move to `wide`.
    narrow: Vec<i64>,
    wide: Option<Vec<i128>>,
}

/// A column of `count` values, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) base: i128,
    pub(crate) width: u8,
    pub(crate) count: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Builder {
    /// Sets a row after those set so far.
    pub(crate) fn set(&mut self, row: usize, value: i128) {
        if value == 0 {
            return;
        }
        if self.wide.is_none() {
            if let Ok(value) = i64::try_from(value) {
                self.narrow.resize(row, 0);
                self.narrow.push(value);
                return;
            }
            let narrow = std::mem::take(&mut self.narrow);
            self.wide = Some(narrow.into_iter().map(i128::from).collect());
        }
        let wide = self.wide.get_or_insert_default();
        wide.resize(row, 0);
        wide.push(value);
    }

    /// The column of so many rows.
    pub(crate) fn finish(mut self, count: usize) -> Column {
        match self.wide {
            Some(mut wide) => {
                wide.resize(count, 0);
                encode(&wide, |value| value)
            }
            None => {
                self.narrow.resize(count, 0);
                encode(&self.narrow, i128::from)
            }
        }
    }
}

fn encode<T: Copy>(values: &[T], value: impl Fn(T) -> i128) -> Column {
    let all = || values.iter().map(|one| value(*one));
    let base = all().min().unwrap_or(0);
    // The distance of two i128 fits u128.
    let distance = |value: i128| value.wrapping_sub(base).cast_unsigned();
    let most = all().max().map_or(0, distance);
    let bytes = (u128::BITS - most.leading_zeros()).div_ceil(8);
    let width = if bytes > 8 { 16 } else { u8::try_from(bytes).unwrap_or(16) };
    let mut stored = Vec::with_capacity(values.len() * usize::from(width));
    for value in all() {
        stored.extend_from_slice(&distance(value).to_le_bytes()[..usize::from(width)]);
    }
    Column { base, width, count: values.len(), bytes: stored }
}

/// Calls a function that is generic over the width of narrow columns.
macro_rules! by_width {
    ($width:expr, $f:ident($($argument:expr),*)) => {
        match $width {
            1 => $f::<1>($($argument),*),
            2 => $f::<2>($($argument),*),
            3 => $f::<3>($($argument),*),
            4 => $f::<4>($($argument),*),
            5 => $f::<5>($($argument),*),
            6 => $f::<6>($($argument),*),
            7 => $f::<7>($($argument),*),
            _ => $f::<8>($($argument),*),
        }
    };
}

impl Column {
    /// So many zeros: what a column that is not stored holds.
    pub(crate) fn zeros(count: usize) -> Self {
        Self { base: 0, width: 0, count, bytes: Vec::new() }
    }

    /// Bytes as a column.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { base: 0, width: 1, count: bytes.len(), bytes }
    }

    /// Whether there is nothing to store.
    pub(crate) fn is_zero(&self) -> bool {
        self.base == 0 && self.width == 0
    }

    /// The value in every row, if it is one.
    pub(crate) fn constant(&self) -> Option<i128> {
        (self.width == 0).then_some(self.base)
    }

    /// The sum of each group: `groups` has the group of each row, `sizes` how many rows each has.
    pub(crate) fn sums(&self, groups: &[u32], sizes: &[u64]) -> Result<Vec<i128>, Unsound> {
        let bases = sizes.iter().map(|size| self.base * i128::from(*size));
        let width = u32::from(self.width);
        let row_bits = usize::BITS - self.count.leading_zeros();
        if width == 0 {
            return Ok(bases.collect());
        }
        if width * 8 + row_bits <= u64::BITS {
            let mut sums = vec![0; sizes.len()];
            by_width!(self.width, add_narrow(&self.bytes, groups, &mut sums));
            return Ok(bases.zip(sums).map(|(base, sum)| base + i128::from(sum)).collect());
        }
        let mut sums: Vec<i128> = vec![0; sizes.len()];
        if width == 16 {
            for (bytes, group) in self.bytes.as_chunks().0.iter().zip(groups) {
                let value = self.base.wrapping_add(i128::from_le_bytes(*bytes));
                let sum = &mut sums[*group as usize];
                *sum = sum.checked_add(value).ok_or(Unsound)?;
            }
            return Ok(sums);
        }
        by_width!(self.width, add_wide(&self.bytes, groups, &mut sums));
        Ok(bases.zip(sums).map(|(base, sum)| base + sum).collect())
    }

    /// The values, of a column of times and counts.
    pub(crate) fn values(&self) -> Result<Vec<i64>, Unsound> {
        if self.width == 0 {
            return Ok(vec![i64::try_from(self.base).map_err(|_| Unsound)?; self.count]);
        }
        if self.width == 16 {
            return Err(Unsound);
        }
        let base = i64::try_from(self.base).map_err(|_| Unsound)?;
        let mut values = Vec::with_capacity(self.count);
        by_width!(
            self.width,
            each(&self.bytes, |distance: u64| {
                values.push(base.wrapping_add_unsigned(distance));
            })
        );
        Ok(values)
    }

    /// The values, of a column of codes or rows, all of which are below `limit`.
    pub(crate) fn codes(&self, limit: usize) -> Result<Vec<u32>, Unsound> {
        let base = u32::try_from(self.base).map_err(|_| Unsound)?;
        if self.width > 4 {
            return Err(Unsound);
        }
        if self.width == 0 {
            let sound = (base as usize) < limit || self.count == 0;
            return if sound { Ok(vec![base; self.count]) } else { Err(Unsound) };
        }
        let limit = limit as u64;
        let (mut codes, mut most) = (Vec::with_capacity(self.count), 0);
        by_width!(
            self.width,
            each(&self.bytes, |distance: u64| {
                let code = u64::from(base) + distance;
                most = code.max(most);
                let [a, b, c, d, ..] = code.to_le_bytes();
                codes.push(u32::from_le_bytes([a, b, c, d]));
            })
        );
        if most < limit && most <= u64::from(u32::MAX) { Ok(codes) } else { Err(Unsound) }
    }
}

fn le<const W: usize>(bytes: &[u8; W]) -> u64 {
    let mut wide = [0; 8];
    wide[..W].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

fn each<const W: usize>(bytes: &[u8], mut take: impl FnMut(u64)) {
    bytes.as_chunks::<W>().0.iter().for_each(|bytes| take(le(bytes)));
}

fn add_narrow<const W: usize>(bytes: &[u8], groups: &[u32], sums: &mut [u64]) {
    let values = bytes.as_chunks::<W>().0.iter().map(le);
    if let [sum] = sums {
        // Cannot overflow: the caller has seen that the widest values of all rows fit.
        *sum = values.fold(0, u64::wrapping_add);
        return;
    }
    for (value, group) in values.zip(groups) {
        let sum = &mut sums[*group as usize];
        *sum = sum.wrapping_add(value);
    }
}

fn add_wide<const W: usize>(bytes: &[u8], groups: &[u32], sums: &mut [i128]) {
    let values = bytes.as_chunks::<W>().0.iter().map(le);
    for (value, group) in values.zip(groups) {
        sums[*group as usize] += i128::from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[i128]) -> Column {
        let mut builder = Builder::default();
        values.iter().enumerate().for_each(|(row, value)| builder.set(row, *value));
        builder.finish(values.len())
    }

    #[test]
    fn sums_are_exact_at_every_width() {
        let mut seen = [false; 17];
        for bits in 0..=120 {
            for base in [0, 7, -1_000_000_007] {
                let values = [base, base + (1 << bits), 0, base + (1 << bits) - 1, -3];
                let column = column(&values);
                seen[usize::from(column.width)] = true;
                let groups = [0, 1, 1, 0, 2];
                let sums = [values[0] + values[3], values[1] + values[2], values[4]];
                assert_eq!(column.sums(&groups, &[2, 2, 1]).unwrap(), sums);
                let whole: i128 = values.iter().sum();
                assert_eq!(column.sums(&[0; 5], &[5]).unwrap(), [whole]);
            }
        }
        let widths: Vec<_> = (0..17).filter(|width| seen[*width]).collect();
        assert_eq!(widths, [1, 2, 3, 4, 5, 6, 7, 8, 16]);
    }

    #[test]
    fn one_value_throughout_takes_no_bytes() {
        assert!(column(&[0; 9]).is_zero());
        let eights = column(&[8; 9]);
        assert_eq!((eights.constant(), eights.bytes.len()), (Some(8), 0));
        assert_eq!(eights.sums(&[0, 0, 0, 1, 1, 1, 1, 1, 1], &[3, 6]).unwrap(), [24, 48]);
        assert_eq!(eights.values().unwrap(), [8; 9]);
    }

    #[test]
    fn times_and_codes_come_back() {
        let times = [i64::MIN, 0, 5, i64::MAX];
        assert_eq!(column(&times.map(i128::from)).values().unwrap(), times);
        let codes = column(&[3, 0, 300]);
        assert_eq!(codes.codes(301).unwrap(), [3, 0, 300]);
        codes.codes(300).unwrap_err();
        column(&[-1, 2]).codes(300).unwrap_err();
        column(&[8; 2]).codes(8).unwrap_err();
    }
}

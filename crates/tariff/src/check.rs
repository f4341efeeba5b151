//! What rows of one model must not leave in doubt.

use quantity::UnixTime;

use crate::row::PriceRow;
use crate::text::{ParseBookError, ParseRowError};

/// Checks the rows of one model, each with its line or number, for doubts: which of two applies, and
/// what holds between them.
///
/// # Errors
/// Of two rows that hold at the same time with nothing to choose between them, or that overlap in
/// part, and of two that leave a gap between them, the later one's line.
pub fn check_rows(rows: &[(usize, &PriceRow)]) -> Result<(), ParseBookError> {
    for (index, &(_, one)) in rows.iter().enumerate() {
        for &(line, other) in rows.iter().skip(index.saturating_add(1)) {
            if one.rivals(other)
                && let Some(error) = doubt(one, other)
            {
                return Err(ParseBookError { line, error });
            }
        }
        if let Some((line, error)) = gap(one, rows) {
            return Err(ParseBookError { line, error });
        }
    }
    Ok(())
}

impl PriceRow {
    /// Whether both may be asked for at once: then only their times tell them apart.
    fn rivals(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.terms, &other.terms);
        let windows = match (ours.window.is_always(), theirs.window.is_always()) {
            (true, true) => true,
            (false, false) => ours.window.meets(&theirs.window),
            _ => false,
        };
        self.tier == other.tier
            && ours.region == theirs.region
            && windows
            && ours.withdrawn.is_none()
            && theirs.withdrawn.is_none()
    }
}

fn doubt(one: &PriceRow, other: &PriceRow) -> Option<ParseRowError> {
    if one.terms.from == other.terms.from && one.known() == other.known() {
        let found = other.terms.from.map_or("always".to_owned(), |from| from.to_string());
        return Some(ParseRowError::new("from", "one row from each time on", &found));
    }
    let (first, second) =
        if one.terms.from <= other.terms.from { (one, other) } else { (other, one) };
    let until = first.terms.until?;
    let overlaps = first.terms.from != second.terms.from
        && second.terms.from.is_some_and(|from| from < until)
        && second.terms.until.is_none_or(|end| end > until);
    overlaps.then(|| {
        let expected = "an end before the next row begins, or after that ends";
        ParseRowError::new("until", expected, &until.to_string())
    })
}

/// The next row after `row` ends, if nothing holds between them.
fn gap(row: &PriceRow, rows: &[(usize, &PriceRow)]) -> Option<(usize, ParseRowError)> {
    let until = row.terms.until.filter(|_| row.terms.window.is_always())?;
    let rivals = || rows.iter().filter(|(_, other)| row.rivals(other));
    let holds = |at: UnixTime| {
        rivals().any(|(_, other)| {
            other.terms.from.is_none_or(|from| from <= at)
                && other.terms.until.is_none_or(|end| end > at)
        })
    };
    if holds(until) {
        return None;
    }
    let later = rivals().filter_map(|(line, other)| Some((other.terms.from?, *line)));
    let (from, line) = later.filter(|(from, _)| *from > until).min()?;
    let expected = format!("{until}, where the row before ends, or a row between them");
    Some((line, ParseRowError::new("from", expected, &from.to_string())))
}

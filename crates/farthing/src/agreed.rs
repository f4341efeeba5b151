//! Commitments and credits beside the charges of the ledger.

use facts::{Dimension, Group, Query, Rollup};
use quantity::{Day, Period, UnixTime};
use tariff::Book;
use tariff::commitment::{Charges, DaySpan, Spent};

/// What has to be asked of the ledger: all of it, for a credit may have paid for anything before.
pub(crate) fn query() -> Query {
    let by = vec![Dimension::Provider, Dimension::Model, Dimension::Day];
    Query { by, period: Period::default() }
}

/// What a rollup of [`query`] says, with providers and models as the book calls them.
pub(crate) fn charges(rollup: &Rollup, book: &Book, now: UnixTime) -> anyhow::Result<Charges> {
    let answer = rollup.answer(now);
    let mut charges = Charges::since(answer.seen.map(|(first, _)| first.day()));
    for Group { key, measures } in &answer.groups {
        let [provider, model, day] = key.as_slice() else { continue };
        let spent = Spent {
            list: measures.list_cost,
            contracted: measures.cost,
            unknown: measures.unknown,
            at_most: measures.unknown_bound,
            unbounded: measures.unbounded,
            unpriced: measures.unpriced,
        };
        match (provider, day) {
            (Some(provider), Some(day)) => {
                let (provider, model) = book.names(provider, model.as_deref().unwrap_or_default());
                charges.add(&provider, day.parse()?, &model, &spent);
            }
            _ => charges.unattributed += spent.contracted,
        }
    }
    for (day, line) in rollup.adjusted_by_day() {
        let (provider, model) = book.names(&line.provider, &line.model);
        let (list, contracted) = (line.list, line.contracted);
        charges.add(&provider, day, &model, &Spent { list, contracted, ..Spent::default() });
    }
    Ok(charges)
}

/// The days that a period touches, up to today.
pub(crate) fn days(period: &Period, now: UnixTime) -> DaySpan {
    let after = |day: Day| day.next().unwrap_or(day);
    let tomorrow = after(now.day());
    let until = period.end.map_or(tomorrow, |end| match end.day() {
        day if day.start() == Some(end) => day,
        day => after(day),
    });
    DaySpan { from: period.start.map(UnixTime::day), until: until.min(tomorrow) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_that_a_period_touches_up_to_today() {
        let at = |text: &str| text.parse::<UnixTime>().unwrap();
        let now = at("2026-11-22T14:00:00Z");
        for (start, end, told) in [
            (None, None, (None, "2026-11-23")),
            (Some("2026-11-01T23:59:59Z"), None, (Some("2026-11-01"), "2026-11-23")),
            (Some("2026-10-01"), Some("2026-11-01"), (Some("2026-10-01"), "2026-11-01")),
            (None, Some("2026-11-01T00:00:01Z"), (None, "2026-11-02")),
            (None, Some("2026-12-01"), (None, "2026-11-23")),
        ] {
            let days = days(&Period { start: start.map(at), end: end.map(at) }, now);
            let from = days.from.map(|day| day.to_string());
            assert_eq!((from.as_deref(), &*days.until.to_string()), told);
        }
    }
}

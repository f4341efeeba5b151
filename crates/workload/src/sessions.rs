//! Conversations: each turn's prompt is all that was said before, and a message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::num::NonZeroU32;
use std::time::Duration;

use quantity::TokenCount;

use crate::random::mix;
use crate::request::MOST;
use crate::{NamedRow, Poisson, Random, Row, block_names};

/// Engines keep prompts in blocks of so many tokens unless they are told otherwise.
const BLOCK: NonZeroU32 = NonZeroU32::new(16).expect("not zero");
/// So many means of a session's length before the first arrival: hardly any session is as long.
const BEFORE: u32 = 4;

/// Sessions of several turns, all messages and all replies of one size. Sessions begin as a [`Poisson`]'s requests do, and
/// a session's turns follow each other after times that are distributed exponentially. A prompt is named by blocks, so
/// that the next turn is seen to begin with all of it. Never ends.
///
/// At the first arrival there are as many sessions under way as at any time.
#[derive(Debug, Clone)]
pub struct Sessions {
    starts: Peekable<Poisson>,
    random: Random,
    turns: u32,
    between: Duration,
    message: TokenCount,
    reply: TokenCount,
    /// What is before that is not seen.
    from: Duration,
    /// Sessions that began.
    begun: u64,
    /// Turns to come: when, of which session, and how many it had before.
    next: BinaryHeap<Reverse<(Duration, u64, u32)>>,
    first: Option<Duration>,
}

impl Sessions {
    /// Sessions that begin as these requests come, whose prompts are messages and whose replies are replies. A session has
    /// so many turns, at least one, with this mean time from one to the next.
    #[must_use]
    pub fn new(seed: u64, starts: Poisson, turns: u32, between: Duration) -> Self {
        let turns = turns.max(1);
        let from = between.saturating_mul((turns - 1).saturating_mul(BEFORE));
        let (message, reply) = starts.size();
        let random = Random::new(seed).fork("turns");
        let (starts, next) = (starts.peekable(), BinaryHeap::new());
        Self { starts, random, turns, between, message, reply, from, begun: 0, next, first: None }
    }

    /// The next turn of any session, in the order of time.
    fn turn(&mut self) -> Option<(Duration, u64, u32)> {
        let start = self.starts.peek()?.at;
        let due = self.next.peek().map(|Reverse((at, ..))| *at);
        let (at, session, before) = if due.is_some_and(|due| due <= start) {
            self.next.pop()?.0
        } else {
            self.starts.next();
            self.begun += 1;
            (start, self.begun, 0)
        };
        if before + 1 < self.turns {
            let next = at.saturating_add(self.random.exponential(self.between));
            self.next.push(Reverse((next, session, before + 1)));
        }
        Some((at, session, before))
    }
}

impl Iterator for Sessions {
    type Item = NamedRow;

    fn next(&mut self) -> Option<NamedRow> {
        let (at, session, before) = loop {
            let turn = self.turn()?;
            if turn.0 >= self.from {
                break turn;
            }
        };
        let first = *self.first.get_or_insert(at);
        let before = u64::from(before);
        let said = |messages: u64, replies: u64| {
            let all = u128::from(self.message.get()) * u128::from(messages)
                + u128::from(self.reply.get()) * u128::from(replies);
            u64::try_from(all).unwrap_or(u64::MAX)
        };
        let identity = |part: u64| mix(mix(session) ^ part);
        let parts = (0..=before).flat_map(|turn| {
            let message = (identity(2 * turn), said(turn + 1, turn));
            let reply = (identity(2 * turn + 1), said(turn + 1, turn + 1));
            [message].into_iter().chain((turn < before).then_some(reply))
        });
        let names = block_names(parts, BLOCK);
        let input = TokenCount::new(said(before + 1, before)).unwrap_or(MOST);
        let row = Row { at: at - first, input, output: self.reply };
        Some(NamedRow { row, block_tokens: BLOCK, names, priority: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sessions(seed: u64, turns: u32) -> Sessions {
        let starts = Poisson::new(seed, Duration::from_secs(4), 100.into(), 30.into());
        Sessions::new(seed, starts, turns, Duration::from_secs(60))
    }

    #[test]
    fn a_turn_asks_with_all_that_was_said_and_begins_with_the_blocks_of_the_one_before() {
        let rows: Vec<NamedRow> = sessions(1, 5).take(4_000).collect();
        assert!(rows.is_sorted_by_key(|row| row.row.at));
        let mut by_session: BTreeMap<u64, Vec<&NamedRow>> = BTreeMap::new();
        for row in &rows {
            by_session.entry(row.names[0]).or_default().push(row);
        }
        let mut whole = 0;
        for turns in by_session.values() {
            for pair in turns.windows(2) {
                let [before, after] = [pair[0], pair[1]];
                // A reply of 30 and a message of 100.
                assert_eq!(after.row.input.get(), before.row.input.get() + 130);
                assert_eq!(after.names[..before.names.len()], before.names);
                assert_eq!(after.names.len() as u64, after.row.input.get() / 16);
            }
            let lengths: Vec<u64> = turns.iter().map(|turn| turn.row.input.get()).collect();
            whole += usize::from(lengths == [100, 230, 360, 490, 620]);
        }
        assert!(whole > 700, "{whole} of {} sessions are whole", by_session.len());
    }

    #[test]
    fn turns_come_at_the_rate_of_sessions_times_their_turns_from_the_first_on() {
        let rows: Vec<NamedRow> = sessions(2, 5).take(50_000).collect();
        let rate = |rows: &[NamedRow]| {
            let span = rows[rows.len() - 1].row.at - rows[0].row.at;
            (rows.len() - 1) as f64 / span.as_secs_f64()
        };
        assert_eq!(rows[0].row.at, Duration::ZERO);
        assert!((rate(&rows) - 1.25).abs() < 0.03, "{}", rate(&rows));
        // The first ten minutes are like all others.
        let early = rows.iter().filter(|row| row.row.at < Duration::from_secs(600)).count();
        assert!((600..900).contains(&early), "{early}");
    }

    #[test]
    fn a_seed_names_one_traffic_and_one_turn_is_none_of_a_conversation() {
        let some = |seed| sessions(seed, 3).take(100).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        let single: Vec<NamedRow> = sessions(1, 1).take(100).collect();
        let plain = Poisson::new(1, Duration::from_secs(4), 100.into(), 30.into());
        assert!(single.iter().map(|row| row.row).eq(plain.take(100)));
    }
}

//! A replica that is driven step by step does what it does with a trace.

use proptest::prelude::*;
use servesim::{Event, Incoming, Live, Record, serve};

use crate::agree::{Case, at_least, small_case};

/// What whoever has the clock does, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Submit(usize),
    Abort(u64),
    Poll,
}

proptest! {
    #![proptest_config(at_least(10_000))]

    #[test]
    fn step_by_step_is_as_with_a_trace(
        case in small_case(), polls in prop::collection::vec(0_u64..1_000, 0..20),
    ) {
        let Case { engine, machine, requests, slo, .. } = &case;
        let mut expected = Vec::new();
        let whole =
            serve(engine, machine, slo, case.incoming(), |one| expected.push(*one)).unwrap();
        expected.sort_by_key(|record| record.number);

        // The same, but nobody says beforehand when a client leaves.
        let mut calls: Vec<(u64, Call)> = polls.iter().map(|&at| (at, Call::Poll)).collect();
        for (number, request) in requests.iter().enumerate() {
            calls.push((request.arrival_ps, Call::Submit(number)));
            calls.extend(request.patience_ps.map(|span| {
                (request.arrival_ps + span, Call::Abort(number as u64))
            }));
        }
        calls.sort_unstable();
        let incoming: Vec<Incoming> = case.incoming().collect();
        let mut live = Live::new(engine, machine, slo).unwrap();
        let mut events = Vec::new();
        for (at, call) in calls {
            match call {
                Call::Submit(number) => {
                    let mut one = incoming[number].clone();
                    one.request.patience_ps = None;
                    prop_assert_eq!(live.submit(one), Ok(number as u64));
                }
                Call::Abort(number) => live.abort(number, at).unwrap(),
                Call::Poll => live.advance(at).unwrap(),
            }
            prop_assert!(live.next_step().is_none_or(|next| next >= at));
            prop_assert_eq!(live.next_step().is_some(), live.load() > 0);
            events.extend(std::iter::from_fn(|| live.next_event()));
        }
        let (rest, report) = live.finish().unwrap();
        events.extend(rest);

        let mut found = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let Event::Ended(record) = event else { continue };
            found.push(*record);
            tokens_are_told(record, &events, at)?;
        }
        found.sort_by_key(|record: &Record| record.number);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(report.work, whole.work);
        prop_assert_eq!(report.time.busy_ps(), whole.time.busy_ps());
        prop_assert_eq!(report.itl, whole.itl);
    }
}

/// Each token of a request is told once, in order, and before its end.
fn tokens_are_told(record: &Record, events: &[Event], end: usize) -> Result<(), TestCaseError> {
    let mut times = Vec::new();
    for (place, event) in events.iter().enumerate() {
        if let &Event::Token { number, at_ps, generated, cached } = event
            && number == record.number
        {
            times.push(at_ps);
            prop_assert_eq!(generated as usize, times.len());
            prop_assert_eq!(cached, record.cached);
            prop_assert!(place < end);
        }
    }
    prop_assert!(times.is_sorted());
    prop_assert_eq!(times.len(), record.generated as usize);
    prop_assert_eq!(times.first().copied(), record.first_token_ps);
    if record.outcome == servesim::Outcome::Completed {
        prop_assert_eq!(times.last().copied(), Some(record.end_ps));
    }
    Ok(())
}

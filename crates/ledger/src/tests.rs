use facts::{Api, AttemptReason, Labels, PromptShape, RouteSource};
use proptest::prelude::*;
use quantity::{Money, TokenCount};

use super::*;

fn id(n: u8) -> ExchangeId {
    ExchangeId::from_bytes([n; 16])
}

fn at(nanos: i64) -> UnixTime {
    UnixTime::from_nanos(nanos)
}

fn admission(n: u8) -> Admission {
    let labels = Labels {
        route: "chat".to_owned(),
        route_source: RouteSource::Header,
        task: None,
        task_type: None,
        user: None,
        team: None,
        tags: Vec::new(),
    };
    Admission {
        exchange: id(n),
        at: at(1),
        api: Api::OpenAiChat,
        stream: false,
        model_asked: None,
        max_tokens: None,
        choices: None,
        tier_asked: None,
        labels,
        caller: None,
        key: None,
        path: None,
        client_retry: None,
        request_bytes: 0,
        prompt: PromptShape::default(),
    }
}

fn dispatch(n: u8, ordinal: u32) -> Dispatch {
    Dispatch {
        exchange: id(n),
        ordinal,
        at: at(2),
        reason: AttemptReason::First,
        upstream: "up".to_owned(),
        provider: None,
        region: None,
        model: None,
        input_estimate: TokenCount::ZERO,
        bound: Some(Money::from_pico(1_500_000_000_000)),
    }
}

fn end(n: u8, ordinal: u32) -> AttemptEnd {
    AttemptEnd { end: End::Complete, ..lost(&dispatch(n, ordinal), at(3)) }
}

fn settlement(n: u8) -> Settlement {
    Settlement { exchange: id(n), at: at(4), verdict: Verdict::Completed }
}

#[test]
fn an_exchange_is_whole_once_it_settles() {
    let mut ledger = Ledger::default();
    ledger.admit(admission(1)).unwrap();
    for ordinal in 0..2 {
        ledger.dispatch(dispatch(1, ordinal)).unwrap();
        ledger.end(end(1, ordinal)).unwrap();
    }
    assert_eq!(ledger.open(), 1);
    let exchange = ledger.settle(settlement(1)).unwrap();
    let attempt = |ordinal| Attempt { dispatch: dispatch(1, ordinal), end: end(1, ordinal) };
    let attempts = vec![attempt(0), attempt(1)];
    assert_eq!(exchange, Exchange { admission: admission(1), attempts, settlement: settlement(1) });
    assert_eq!(ledger.open(), 0);
}

#[test]
fn what_comes_twice_or_too_early_is_refused() {
    let mut ledger = Ledger::default();
    let not_open = |record| LedgerError::NotOpen { exchange: id(1), record };
    assert_eq!(ledger.dispatch(dispatch(1, 0)), Err(not_open("dispatched")));
    assert_eq!(ledger.end(end(1, 0)), Err(not_open("attempt-ended")));
    assert_eq!(ledger.settle(settlement(1)), Err(not_open("settled")));

    ledger.admit(admission(1)).unwrap();
    assert_eq!(ledger.admit(admission(1)), Err(LedgerError::AdmittedTwice(id(1))));
    let wrong = |result: Result<(), LedgerError>, ordinal| match result {
        Err(LedgerError::WrongAttempt { found, .. }) => assert_eq!(found, ordinal),
        other => panic!("{other:?}"),
    };
    wrong(ledger.dispatch(dispatch(1, 1)), 1);
    wrong(ledger.end(end(1, 0)), 0);
    ledger.dispatch(dispatch(1, 0)).unwrap();
    wrong(ledger.dispatch(dispatch(1, 0)), 0);
    wrong(ledger.dispatch(dispatch(1, 1)), 1);
    wrong(ledger.end(end(1, 1)), 1);
    assert_eq!(ledger.settle(settlement(1)), Err(LedgerError::StillRunning(id(1))));
    ledger.end(end(1, 0)).unwrap();
    wrong(ledger.end(end(1, 0)), 0);

    ledger.settle(settlement(1)).unwrap();
    assert_eq!(ledger.settle(settlement(1)), Err(not_open("settled")));
    assert_eq!(ledger.admit(admission(1)), Err(LedgerError::AdmittedTwice(id(1))));
}

#[test]
fn an_error_changes_nothing() {
    let mut ledger = Ledger::default();
    ledger.admit(admission(1)).unwrap();
    ledger.dispatch(dispatch(1, 0)).unwrap();
    ledger.settle(settlement(1)).unwrap_err();
    ledger.end(end(1, 7)).unwrap_err();
    ledger.end(end(1, 0)).unwrap();
    assert_eq!(ledger.settle(settlement(1)).unwrap().attempts.len(), 1);
}

/// Ends what is open, as a new gateway does.
fn close_lost(ledger: &mut Ledger) -> Vec<(Option<AttemptEnd>, Settlement)> {
    let lost = ledger.lost(at(9));
    for (end, settlement) in lost.clone() {
        if let Some(end) = end {
            ledger.end(end).unwrap();
        }
        ledger.settle(settlement).unwrap();
    }
    lost
}

#[test]
fn what_was_lost_is_unknown_and_names_its_bound() {
    let mut ledger = Ledger::default();
    for n in [2, 1, 3] {
        ledger.admit(admission(n)).unwrap();
    }
    ledger.dispatch(dispatch(1, 0)).unwrap();
    ledger.dispatch(dispatch(2, 0)).unwrap();
    ledger.end(end(2, 0)).unwrap();
    let closed = close_lost(&mut ledger);
    assert_eq!(ledger.open(), 0);
    let ids: Vec<_> = closed.iter().map(|(_, settlement)| settlement.exchange).collect();
    assert_eq!(ids, [id(1), id(2), id(3)], "in the order of their ids");
    let (Some(end), settlement) = &closed[0] else { panic!("its attempt ran") };
    assert_eq!((end.end, end.metered), (End::Lost, Metered::unknown()));
    let Charged::Unpriced { reason } = &end.charged else { panic!("nobody knows its cost") };
    assert!(reason.contains("$1.5"), "{reason}");
    assert_eq!((settlement.verdict, settlement.at), (Verdict::Unknown, at(9)));
    assert!(closed[1..].iter().all(|(end, _)| end.is_none()), "nothing of theirs ran");
}

#[test]
fn the_memory_of_settled_exchanges_is_bounded() {
    let mut ledger = Ledger::default();
    for n in 0..REMEMBERED as u128 + 10 {
        ledger.remember(ExchangeId::from_bytes(n.to_be_bytes()));
    }
    assert_eq!(ledger.settled.len(), REMEMBERED);
    assert!(!ledger.settled.contains(&ExchangeId::from_bytes(9_u128.to_be_bytes())));
    assert!(ledger.settled.contains(&ExchangeId::from_bytes(10_u128.to_be_bytes())));
}

#[derive(Debug, Clone, Copy)]
enum Record {
    Admit(u8),
    Dispatch(u8, u32),
    End(u8, u32),
    Settle(u8),
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (0_u8..3).prop_map(Record::Admit),
        (0_u8..3, 0_u32..3).prop_map(|(n, ordinal)| Record::Dispatch(n, ordinal)),
        (0_u8..3, 0_u32..3).prop_map(|(n, ordinal)| Record::End(n, ordinal)),
        (0_u8..3).prop_map(Record::Settle),
    ]
}

/// What the records of one exchange that were taken look like, in one word.
fn letter(record: Record) -> char {
    match record {
        Record::Admit(_) => 'a',
        Record::Dispatch(..) => 'd',
        Record::End(..) => 'e',
        Record::Settle(_) => 's',
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn in_any_order_each_exchange_settles_at_most_once(
        records in prop::collection::vec(record(), 0..60),
    ) {
        let (mut ledger, mut replica) = (Ledger::default(), Ledger::default());
        let mut taken = [const { String::new() }; 3];
        let mut settled = 0;
        for record in records {
            let n = match record {
                Record::Admit(n) | Record::Dispatch(n, _) | Record::End(n, _) | Record::Settle(n) => n,
            };
            let mut apply = |ledger: &mut Ledger| match record {
                Record::Admit(n) => ledger.admit(admission(n)),
                Record::Dispatch(n, ordinal) => ledger.dispatch(dispatch(n, ordinal)),
                Record::End(n, ordinal) => ledger.end(end(n, ordinal)),
                Record::Settle(n) => ledger.settle(settlement(n)).map(|exchange| {
                    settled += 1;
                    let attempts = exchange.attempts.iter().enumerate();
                    for (index, attempt) in attempts {
                        assert_eq!(attempt.dispatch.ordinal as usize, index);
                        assert_eq!(attempt.end.ordinal as usize, index);
                    }
                }),
            };
            if apply(&mut ledger).is_ok() {
                taken[usize::from(n)].push(letter(record));
                prop_assert_eq!(apply(&mut replica), Ok(()), "what was taken is taken again");
            }
        }
        // A naive model: the records taken of an exchange begin as (a (de)* s) does.
        let mut open = 0;
        for word in &taken {
            let mut rest = word.strip_prefix('a').unwrap_or_default();
            prop_assert!(word.is_empty() || word.starts_with('a'));
            while let Some(after) = rest.strip_prefix("de") {
                rest = after;
            }
            prop_assert!(matches!(rest, "" | "d" | "s"), "{}", word);
            open += usize::from(!word.is_empty() && rest != "s");
        }
        prop_assert_eq!(ledger.open(), open);
        let closed = close_lost(&mut ledger);
        prop_assert_eq!(closed.len(), open);
        for (end, settlement) in closed {
            if let Some(end) = end {
                replica.end(end).unwrap();
            }
            prop_assert_eq!(replica.settle(settlement).unwrap().settlement.verdict, Verdict::Unknown);
        }
        prop_assert_eq!((ledger.open(), replica.open()), (0, 0));
        for n in 0..3 {
            let admitted = !taken[usize::from(n)].is_empty();
            prop_assert_eq!(replica.admit(admission(n)).is_err(), admitted, "never again");
        }
    }
}

#[test]
fn an_exchange_is_adjusted_once_it_is_settled() {
    let adjustment = Adjustment {
        exchange: id(1),
        ordinal: 0,
        at: at(9),
        provider: "lab".to_owned(),
        model: "toy".to_owned(),
        from: None,
        to: quantity::PriceRowId::of(b"row"),
        contracted: Money::ZERO,
        list: Money::ZERO,
    };
    let mut ledger = Ledger::default();
    ledger.admit(admission(1)).unwrap();
    assert_eq!(ledger.adjust(&adjustment), Err(LedgerError::AdjustedOpen(id(1))));
    ledger.settle(Settlement { exchange: id(1), at: at(5), verdict: Verdict::Failed }).unwrap();
    assert_eq!(ledger.adjust(&adjustment), Ok(()));
}

//! What a gateway goes on from is what it would know from every record of the journal.

use facts::{Adjustment, Exchange, PriceRecord, Query, Rollup};
use journal::{Body, MemoryStorage, Reader};
use ledger::Ledger;
use proptest::prelude::*;
use quantity::Period;
use warehouse::{Folded, Warehouse};

use crate::workload::{any_sample, join, mixed, records, write};
use crate::{now, query, warehouse};

/// Everything, record by record.
fn replayed(journal: &MemoryStorage) -> (Ledger, Vec<Exchange>, Vec<PriceRecord>, Vec<Adjustment>) {
    let mut reader = Reader::open(journal.clone()).unwrap();
    let (mut ledger, mut settled) = (Ledger::default(), Vec::new());
    let (mut hourly, mut adjustments) = (Vec::new(), Vec::new());
    while let Some(record) = reader.next().unwrap() {
        match record.decode().unwrap().body {
            Body::Admitted(admission) => ledger.admit(admission).unwrap(),
            Body::Dispatched(dispatch) => ledger.dispatch(dispatch).unwrap(),
            Body::AttemptEnded(end) => ledger.end(end).unwrap(),
            Body::Settled(settlement) => settled.push(ledger.settle(settlement).unwrap()),
            Body::Price(price) => hourly.push(price),
            Body::Adjusted(adjustment) => adjustments.push(adjustment),
            Body::Gap(_) | Body::Unknown { .. } => {}
        }
    }
    (ledger, settled, hourly, adjustments)
}

fn check(warehouse: &Warehouse<MemoryStorage>, journal: &MemoryStorage, count: usize) {
    let (ledger, settled, hourly, adjustments) = replayed(journal);
    let queries: [Query; 2] =
        [&["route"][..], &["model", "upstream"]].map(|by| query(by, Period::default()));
    let mut folded: Folded = warehouse.fold(&queries).unwrap();
    assert_eq!(folded.hourly, hourly);
    // Those that are open settle as lost, in what was folded as in what was replayed.
    let lost = ledger.lost(now());
    assert_eq!(folded.ledger.lost(now()), lost);
    for (query, rollup) in queries.iter().zip(&mut folded.rollups) {
        let mut expected = Rollup::new(query.clone());
        hourly.iter().for_each(|price| expected.price(price));
        settled.iter().for_each(|exchange| expected.add(exchange));
        adjustments.iter().for_each(|adjustment| expected.adjust(adjustment));
        assert_eq!(rollup.answer(now()), expected.answer(now()));
    }
    for (end, settlement) in lost {
        end.into_iter().for_each(|end| folded.ledger.end(end).unwrap());
        let exchange = folded.ledger.settle(settlement).unwrap();
        folded.rollups.iter_mut().for_each(|rollup| rollup.add(&exchange));
    }
    let total = folded.rollups[0].answer(now()).total;
    let counted = settled.iter().filter(|exchange| exchange.is_counted()).count();
    assert!(total.exchanges >= counted as u64, "the lost count as well");
    let newest = warehouse.newest(count).unwrap();
    assert_eq!(newest, settled[settled.len().saturating_sub(count)..].to_vec());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_gateway_goes_on_as_if_it_had_read_every_record(
        samples in prop::collection::vec(any_sample(), 1..40),
        others in prop::collection::vec(any_sample(), 0..10),
        segment_bytes in 100_u64..6_000,
        most in prop::sample::select(&[0_u64, 500, 4_000, u64::MAX][..]),
        count in 0_usize..50,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let journal = MemoryStorage::new();
        let warehouse = warehouse(directory.path(), &journal, most);
        write(&journal, 7, segment_bytes, &mut mixed(7, &samples));
        check(&warehouse, &journal, count);
        let other = MemoryStorage::new();
        write(&other, 3, segment_bytes, &mut mixed(3, &others));
        join(&journal, &other);
        check(&warehouse, &journal, count);
    }
}

#[test]
fn the_newest_are_found_whatever_segment_they_begin_in() {
    let journal = MemoryStorage::new();
    let samples = crate::samples(60);
    // One after the other, so that most are whole in a segment.
    let each = (0..).zip(&samples).flat_map(|(number, sample)| records(7, number, sample));
    write(&journal, 7, 3_000, &mut each.collect::<Vec<_>>());
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, u64::MAX);
    let (_, settled, ..) = replayed(&journal);
    for count in 0..=settled.len() {
        assert_eq!(warehouse.newest(count).unwrap(), settled[settled.len() - count..].to_vec());
    }
}

#[test]
fn only_the_segments_with_the_newest_exchanges_are_read() {
    let journal = MemoryStorage::new();
    write(&journal, 7, 4_000, &mut mixed(7, &crate::samples(300)));
    let directory = tempfile::tempdir().unwrap();
    let warehouse = warehouse(directory.path(), &journal, u64::MAX);
    let expected = warehouse.newest(20).unwrap();
    // Damage behind the first records of an early segment, which only a reader of all would meet.
    let name = journal::Storage::list(&journal).unwrap().remove(0);
    let mut bytes = journal.bytes(&name);
    bytes[60] ^= 1;
    journal.set_bytes(&name, bytes);
    assert_eq!(warehouse.newest(20).unwrap(), expected);
    assert!(warehouse.newest(10_000).is_err(), "a reader of all meets it");
}

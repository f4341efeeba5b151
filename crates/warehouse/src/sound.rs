//! Whether bytes are a projection, all of it.

use facts::{Dimension, Query, Rollup};
use quantity::{Period, UnixTime};

use crate::labels::DIMENSIONS;
use crate::projection::{LOOSE, Projection, Source};
use crate::{Unsound, project, scan};

/// Whether bytes are a projection of which every part can be read. What they claim is not looked at:
/// that is for their segment, or the archive's manifest, to say.
#[must_use]
pub fn is_projection(bytes: Vec<u8>) -> bool {
    read(bytes).is_ok()
}

fn read(bytes: Vec<u8>) -> Result<(), Unsound> {
    let projection = Projection::open(Source::Memory(bytes))?;
    let all = DIMENSIONS.into_iter().chain([Dimension::Tag("tag".to_owned())]);
    let late = Period { start: Some(UnixTime::from_nanos(1)), end: None };
    for dimension in all {
        for period in [Period::default(), late] {
            let query = Query { by: vec![dimension.clone(), Dimension::Model], period };
            let part = scan::scan(&projection, &query)?;
            part.add_to(&mut Rollup::new(query));
        }
    }
    let block = projection.bytes(LOOSE)?;
    let loose = project::loose(&block, projection.head.position.writer)?;
    loose.iter().try_for_each(|record| record.decode().map(|_| ()).map_err(|_| Unsound))
}

#[cfg(test)]
mod tests {
    use journal::StreamPosition;
    use proptest::prelude::*;
    use quantity::WriterId;

    use super::*;
    use crate::bytes::put_counted;
    use crate::column::Column;
    use crate::labels::LAST;
    use crate::projection::{ADMITTED_AT, BUSY_ROW, CODES, DICTIONARIES, Head, MEASURES, encode};

    /// Blocks that are read, some of them whole dictionaries, with any numbers about them.
    fn any_block(rows: usize) -> impl Strategy<Value = (u16, Column)> {
        let number = prop_oneof![
            Just(ADMITTED_AT),
            Just(LOOSE),
            BUSY_ROW..BUSY_ROW + 4,
            CODES..=CODES + LAST,
            DICTIONARIES..=DICTIONARIES + LAST,
            MEASURES..MEASURES + 70,
        ];
        let base = prop_oneof![3 => Just(0_i128), 2 => -3..3_i128, 1 => any::<i128>()];
        let width = prop_oneof![0..=8_u8, Just(1), Just(16), any::<u8>()];
        let count = prop_oneof![4 => Just(rows), 1 => any::<usize>()];
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..400),
            prop::collection::vec(0..3_u8, 400),
            prop::collection::vec("[a-c]{0,2}", 0..9).prop_map(|texts| {
                let mut bytes = Vec::new();
                texts.iter().for_each(|text| put_counted(&mut bytes, text.as_bytes()));
                bytes
            }),
        ];
        (number, base, width, count, bytes).prop_map(|(number, base, width, count, bytes)| {
            let dictionary =
                (LOOSE == number) || (DICTIONARIES..=DICTIONARIES + LAST).contains(&number);
            if dictionary {
                return (number, Column::of_bytes(bytes));
            }
            (number, Column { base, width, count, bytes })
        })
    }

    const START: StreamPosition = StreamPosition {
        writer: WriterId(7),
        segment: 1,
        offset: 40,
        next_sequence: 1,
        previous: None,
    };

    fn any_projection() -> impl Strategy<Value = Vec<u8>> {
        let rows = prop_oneof![8 => 0..30_usize, 1 => any::<usize>()];
        let span = any::<(i64, i64)>();
        rows.prop_flat_map(move |rows| {
            let blocks = prop::collection::vec(any_block(rows), 0..30);
            (Just(rows), span, blocks)
        })
        .prop_map(|(rows, (first, last), columns)| {
            let span = (UnixTime::from_nanos(first), UnixTime::from_nanos(last));
            encode(&Head { position: START, rows, span, missing: 0, unknown: 0 }, &columns)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 3_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn whatever_a_projection_says_with_sound_checksums_it_is_read_or_refused(
            bytes in any_projection(),
        ) {
            let _ = is_projection(bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in any_projection(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let cut = cut.index(2 * bytes.len());
            bytes.truncate(cut);
            let _ = is_projection(bytes);
        }
    }

    #[test]
    fn an_empty_projection_is_one_and_a_part_of_it_is_none() {
        let span = (UnixTime::from_nanos(0), UnixTime::from_nanos(0));
        let bytes = encode(&Head { position: START, rows: 0, span, missing: 0, unknown: 0 }, &[]);
        assert!(is_projection(bytes.clone()));
        for length in 0..bytes.len() {
            assert!(!is_projection(bytes[..length].to_vec()), "{length}");
        }
        for rows in [1 << 40, usize::MAX] {
            let head = Head { position: START, rows, span, missing: 0, unknown: 0 };
            assert!(!is_projection(encode(&head, &[])), "no room is made for {rows} rows");
        }
    }
}

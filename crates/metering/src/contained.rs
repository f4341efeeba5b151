//! A panic while something is read is a bug of ours and no affair of the client's: it ends the reading,
//! not the exchange.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A request.
    Request,
    /// An event of a stream.
    Event,
    /// The end of an attempt: a unary reply, its usage, its price.
    End,
}

/// Reads; `None` if that panicked. What was being filled in then may be half filled, and nobody may
/// rely on it.
pub(crate) fn contained<T>(reading: Reading, read: impl FnOnce() -> T) -> Option<T> {
    let read = AssertUnwindSafe(|| {
        trip(reading);
        read()
    });
    catch_unwind(read).ok()
}

#[cfg(not(test))]
fn trip(_: Reading) {}

#[cfg(test)]
use tests::trip;

#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests of the wire, which use all of it")]
#[path = "../tests/wire/fixture.rs"]
mod fixture;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use facts::{Api, Charged, End};
    use quantity::{Doubt, HashKey, UsageSource};

    use super::*;
    use crate::{Close, Request};

    thread_local! {
        /// Readings of this kind panic from one number to another; and how many of it there were.
        static TRIP: Cell<Option<(Reading, [usize; 2], usize)>> = const { Cell::new(None) };
    }

    pub(super) fn trip(reading: Reading) {
        let Some((which, [from, to], count)) = TRIP.get() else { return };
        if which == reading {
            TRIP.set(Some((which, [from, to], count + 1)));
            assert!(!(from..to).contains(&count), "as the test wished");
        }
    }

    /// Runs with readings that panic; tells whether any did.
    fn with_panics<T>(
        reading: Reading,
        [from, to]: [usize; 2],
        run: impl FnOnce() -> T,
    ) -> (T, bool) {
        TRIP.set(Some((reading, [from, to], 0)));
        let done = run();
        (done, TRIP.take().is_some_and(|(.., count)| count > from))
    }

    #[test]
    fn whatever_reading_panics_all_bytes_pass_and_the_usage_is_unknown_for_that_reason() {
        for path in fixture::paths() {
            let text = std::fs::read_to_string(&path).unwrap();
            let fixture = fixture::Fixture::parse(&text).unwrap();
            let body = fixture.body();
            let pieces: Vec<&[u8]> = body.chunks(50).collect();
            let sound = fixture::play(&fixture, &pieces, fixture.close);
            let events = (0..60).flat_map(|from| [[from, from + 1], [from, usize::MAX]]);
            let events = events.map(|panics| (Reading::Event, panics));
            for (reading, panics) in events.chain([(Reading::End, [0, 1])]) {
                let (played, came) = with_panics(reading, panics, || {
                    fixture::run_whatever(fixture.begun(), &pieces, fixture.close)
                });
                if !came {
                    continue;
                }
                let at = format!("{} {reading:?} {panics:?}", path.display());
                // A usage chunk that was ours to take out may pass, or one that was not be taken out.
                let but_usage = |bytes: Vec<u8>| {
                    let text = String::from_utf8(bytes).unwrap();
                    let lines = text.lines().filter(|line| !line.contains("usage"));
                    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(but_usage(played.forwarded()), but_usage(sound.forwarded()), "{at}");
                if fixture.expected_forward() == body && fixture.close == Close::BodyEnd {
                    assert_eq!(played.forwarded(), body, "{at}");
                }
                assert_eq!(played.last.is_some(), sound.last.is_some(), "{at}");
                if sound.last.as_ref().is_some_and(|last| !last.is_empty()) {
                    let held = played.last.is_some_and(|last| !last.is_empty());
                    assert!(held || reading == Reading::End, "{at}: the end waits");
                }
                let end = &played.end;
                assert!(end.metered.doubts.contains(Doubt::MeterFailed), "{at}");
                assert_eq!(end.status, sound.end.status, "{at}");
                assert_eq!(end.response_bytes, sound.end.response_bytes, "{at}");
                if sound.end.charged == Charged::NotBilled {
                    assert_eq!(end.charged, Charged::NotBilled, "{at}");
                } else {
                    assert_eq!(end.metered.source, UsageSource::Unknown, "{at}");
                    assert!(matches!(end.charged, Charged::Unpriced { .. }), "{at}");
                }
                if sound.end.end == End::Complete {
                    assert_eq!(end.end, End::Complete, "{at}: it was not the upstream that failed");
                }
            }
        }
    }

    #[test]
    fn a_request_whose_prompt_cannot_be_described_is_sent_all_the_same() {
        let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let key = HashKey::new([7; 32]);
        let read = || Request::read(Api::OpenAiChat, body, &key);
        let (request, came) = with_panics(Reading::Request, [0, 1], read);
        let request = request.unwrap();
        assert!(came && request.undescribed);
        assert_eq!((request.model.as_deref(), request.stream), (Some("m"), true));
        assert!(request.strips_usage(true) && !request.bounded);
        // Its input is not taken for nothing.
        assert_eq!(request.prompt.text_bytes(), body.len() as u64);
        assert!(!read().unwrap().undescribed);
    }

    #[test]
    fn a_request_that_cannot_be_read_at_all_is_refused_as_our_fault() {
        let key = HashKey::new([7; 32]);
        let read = || Request::read(Api::OpenAiChat, br#"{"model":"m"}"#, &key);
        let (request, came) = with_panics(Reading::Request, [0, 2], read);
        assert!(came);
        assert_eq!(request.unwrap_err(), crate::RequestError::Failed);
    }
}

//! Responses of any upstream: whatever comes, in whatever pieces, ends once, and nothing of it is
//! lost but a usage chunk that is to be taken out.
#![no_main]

use bytes::Bytes;
use facts::{Api, AttemptReason, Charged, Dispatch, ToldCost};
use libfuzzer_sys::fuzz_target;
use metering::{AttemptMeter, Close, Convention, Request};
use quantity::{ExchangeId, HashKey, Money, TokenCount, UnixTime};

const BODY: &[u8] = br#"{"model":"m","stream":true,"messages":[],"input":"x","prompt":"x"}"#;

fuzz_target!(|input: &[u8]| {
    let Some((choices, body)) = input.split_first_chunk::<4>() else { return };
    let [api, convention, how, size] = *choices;
    let api = Api::ALL[usize::from(api) % Api::ALL.len()];
    let convention = Convention::ALL[usize::from(convention) % Convention::ALL.len()];
    let Ok(request) = Request::read(api, BODY, &HashKey::new([7; 32])) else { return };
    let at = UnixTime::from_nanos(0);
    let dispatch = Dispatch {
        exchange: ExchangeId::from_bytes([1; 16]),
        ordinal: 0,
        at,
        reason: AttemptReason::First,
        upstream: String::new(),
        provider: None,
        model: None,
        region: None,
        input_estimate: TokenCount::from(7),
        bound: None,
    };
    let strips = how & 1 == 1;
    let mut meter = AttemptMeter::new(convention, &request, strips, dispatch);
    let media = if how & 2 == 2 { "text/event-stream" } else { "application/json" };
    meter.head(if how & 4 == 4 { 200 } else { 500 }, Some(media), at);
    if how & 8 == 8 {
        meter.told(&String::from_utf8_lossy(body));
    }
    let mut passed = Vec::new();
    let mut finished = false;
    for piece in body.chunks(usize::from(size).max(1)) {
        let step = meter.push(Bytes::copy_from_slice(piece), at);
        step.forward.iter().for_each(|bytes| passed.extend_from_slice(bytes));
        if let Some(last) = step.last {
            assert!(!finished, "a response completes once");
            finished = true;
            last.iter().for_each(|bytes| passed.extend_from_slice(bytes));
        }
    }
    let step = meter.body_end();
    assert_eq!(step.last.is_none(), finished, "a response completes once");
    step.last.iter().flatten().for_each(|bytes| passed.extend_from_slice(bytes));
    if strips {
        assert!(passed.len() <= body.len());
    } else {
        assert_eq!(passed, body, "bytes pass unchanged");
    }
    let close = [Close::BodyEnd, Close::Reset, Close::ClientGone, Close::Timeout];
    let close = close[usize::from(how >> 4) % close.len()];
    let end = meter.close(close, at, |_, _, _| (Charged::Hosted, None));
    let usage = &end.metered.usage;
    assert_eq!(usage.input() + usage.output(), usage.total());
    let told = end.told.and_then(ToldCost::amount);
    assert!(told.is_none_or(|cost| cost >= Money::ZERO), "no negative cost is taken over");
});

//! Requests from anyone: any bytes are read or refused, and what is spliced changes nothing else.
#![no_main]

use bytes::Bytes;
use facts::Api;
use libfuzzer_sys::fuzz_target;
use metering::Request;
use quantity::HashKey;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else { return };
    let api = Api::ALL[usize::from(choice) % Api::ALL.len()];
    let Ok(request) = Request::read(api, body, &HashKey::new([7; 32])) else { return };
    let body = Bytes::copy_from_slice(body);
    let sent = request.rewrite(&body, None, false);
    assert_eq!(sent, body, "nothing to change changes nothing");
    let sent = request.rewrite(&body, Some("another"), true);
    let again = Request::read(api, &sent, &HashKey::new([7; 32]));
    let again = again.expect("what was spliced is as readable as before");
    assert_eq!(again.prompt, request.prompt);
    assert_eq!((again.stream, again.max_tokens), (request.stream, request.max_tokens));
});

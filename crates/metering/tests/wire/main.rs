//! What real servers send, as data: each file of `tests/fixtures` is one exchange and its outcome.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bills;
mod fixture;
mod properties;

use std::path::Path;

use fixture::{Fixture, cut_after_events, play, render, short};
use metering::Close;

/// Plays a file and compares what came out of it with what the file says. With `BLESS` set, the file
/// is rewritten instead, to be read by whoever changes it.
fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let fixture = Fixture::parse(&text)?;
    let body = fixture.body();
    let played = play(&fixture, &[&body], fixture.close);
    let mut outcome = render(&played.end);
    for line in fixture.outcome.lines() {
        let Some(rest) = line.strip_prefix("client gone after ") else { continue };
        let events = rest.split(' ').next().and_then(|n| n.parse().ok()).ok_or(line)?;
        let part = cut_after_events(&body, events);
        let end = play(&fixture, &[part], Close::ClientGone).end;
        outcome += &format!("client gone after {events} events: {}\n", short(&end));
    }
    if played.forwarded() != fixture.expected_forward() {
        let forwarded = String::from_utf8_lossy(&played.forwarded()).into_owned();
        return Err(format!("other bytes were forwarded than marked:\n{forwarded}"));
    }
    if fixture.close == Close::BodyEnd && fixture.is_stream() {
        let last = played.last.as_deref().unwrap_or_default();
        if last != fixture.expected_last() {
            let last = String::from_utf8_lossy(last);
            return Err(format!("other bytes were held until settled than marked:\n{last}"));
        }
    }
    if std::env::var_os("BLESS").is_some() {
        let head = text.strip_suffix(&fixture.outcome).ok_or("the outcome ends the file")?;
        return std::fs::write(path, format!("{head}{outcome}")).map_err(|error| error.to_string());
    }
    if outcome != fixture.outcome {
        return Err(format!("expected\n{}\nfound\n{outcome}", fixture.outcome));
    }
    Ok(())
}

/// The fixtures' errors quote their prompt, and keys.
#[test]
fn neither_prompts_nor_keys_are_kept() {
    for path in fixture::paths() {
        let fixture = Fixture::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let end = play(&fixture, &[&fixture.body()], fixture.close).end;
        let kept = format!("{end:?}");
        for secret in ["small river", "sk-", "Lea", "Cam"] {
            assert!(!kept.contains(secret), "{}: {kept}", path.display());
        }
    }
}

#[test]
fn a_reply_too_large_to_copy_passes_and_is_unknown() {
    let request = br#"{"model":"m","input":"hello"}"#;
    let api = facts::Api::OpenAiEmbeddings;
    let request = metering::Request::read(api, request, &quantity::HashKey::new([7; 32])).unwrap();
    let mut meter = fixture::meter(metering::Convention::OpenAi, &request, false);
    let at = quantity::UnixTime::from_nanos(0);
    meter.head(200, Some("application/json"), at);
    let chunk = bytes::Bytes::from(vec![b' '; 33 << 20]);
    let mut passed = 0;
    for _ in 0..3 {
        passed += meter.push(chunk.clone(), at).forward.concat().len();
    }
    passed += meter.push(bytes::Bytes::from_static(b"{}"), at).forward.concat().len();
    passed += meter.body_end().last.unwrap().concat().len();
    assert_eq!(passed, 3 * chunk.len() + 2);
    let reason = "unknown".to_owned();
    let end =
        meter.close(Close::BodyEnd, at, |_, _, _| (facts::Charged::Unpriced { reason }, None));
    assert_eq!(end.end, facts::End::Complete);
    let doubts = quantity::Doubts::NONE.with(quantity::Doubt::Unread);
    assert_eq!(end.metered, quantity::Metered { doubts, ..quantity::Metered::unknown() });
}

#[test]
fn every_fixture_gives_its_outcome() {
    let mut failures = Vec::new();
    for path in fixture::paths() {
        if let Err(error) = check(&path) {
            failures.push(format!("{}: {error}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What an aborted call is estimated at follows what completed calls of the model told.
#[test]
fn estimates_go_by_what_completed_calls_taught() {
    use metering::{Close, Convention, Learner, Request};
    use quantity::{TokenClass, UnixTime};
    let key = quantity::HashKey::new([7; 32]);
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;
    let request = Request::read(facts::Api::OpenAiChat, body, &key).unwrap();
    let mut learner = Learner::default();
    let mut call = |usage: &str, close| {
        let mut meter = fixture::meter(Convention::OpenAi, &request, true);
        let at = UnixTime::from_nanos(0);
        meter.head(200, Some("text/event-stream"), at);
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"0123456789ab\"}}]}\n\n";
        meter.push(bytes::Bytes::from(format!("{text}{usage}")), at);
        let end =
            meter.close_learning(close, at, &mut learner, |_, _, _| (facts::Charged::Hosted, None));
        let tokens = end.metered.usage.tokens;
        (tokens[TokenClass::InputUncached].get(), tokens[TokenClass::OutputText].get())
    };
    assert_eq!(call("", Close::ClientGone), (2, 3), "four bytes to a token");
    let told = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":16,\"completion_tokens\":30,\
                \"completion_tokens_details\":{\"reasoning_tokens\":6}}}\n\ndata: [DONE]\n\n";
    for _ in 0..4 {
        assert_eq!(call(told, Close::BodyEnd), (16, 24));
    }
    assert_eq!(call("", Close::ClientGone), (16, 24), "thoughts that were hidden stay unknown");
    let error = learner.errors().next().unwrap();
    assert_eq!((error.provider.as_str(), error.model.as_str(), error.calls), ("up", "m", 4));
    assert_eq!((error.mean_error, error.bias), (875_000, -875_000), "3 estimated of 24");
}

/// What is too large to read may be all there is to know.
#[test]
fn an_event_too_large_to_read_passes_and_what_it_said_is_unknown() {
    use quantity::{Doubt, UnixTime, UsageSource};
    let key = quantity::HashKey::new([7; 32]);
    let body = br#"{"model":"m","stream":true,"input":"hi"}"#;
    let request = metering::Request::read(facts::Api::OpenAiResponses, body, &key).unwrap();
    let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"abcd\"}\n\n";
    let end = |text: &str| {
        format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"status\":\"completed\",\
             \"output\":[{{\"text\":\"{text}\"}}],\"usage\":{{\"input_tokens\":3,\"output_tokens\":2}}}}}}\n\n"
        )
    };
    let large = "x".repeat(17 << 20);
    let noise = format!("data: {{\"type\":\"response.image\",\"image\":\"{large}\"}}\n\n");
    for (stream, known) in
        [(format!("{delta}{}", end(&large)), false), (format!("{delta}{noise}{}", end("")), true)]
    {
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(1 << 20).collect();
        let mut meter = fixture::meter(metering::Convention::OpenAi, &request, false);
        meter.head(200, Some("text/event-stream"), UnixTime::from_nanos(1));
        let played = fixture::run(meter, &pieces, Close::BodyEnd);
        assert!(played.forwarded() == stream.as_bytes(), "every byte passes");
        assert!(!played.last.unwrap().is_empty(), "the end waits for the settlement");
        let (end, metered) = (played.end.end, played.end.metered);
        assert_eq!(end, facts::End::Complete);
        let unread = metered.doubts.contains(Doubt::Unread);
        let source = if known { UsageSource::Reported } else { UsageSource::Unknown };
        assert_eq!((metered.source, unread), (source, !known));
    }
}

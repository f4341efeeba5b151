//! What holds for every response, however it is cut and whatever it says.

use facts::{Api, End, ToldCost};
use metering::{Close, Convention, Request};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use quantity::{Doubt, HashKey, UnixTime, Usage, UsageSource};

use crate::fixture::{self, Played, play, run};

const CLOSES: &[Close] = &[
    Close::BodyEnd,
    Close::Reset,
    Close::Unreachable,
    Close::Timeout,
    Close::ClientGone,
    Close::Redirected,
];

fn pieces<'b>(body: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

#[track_caller]
fn assert_same(whole: &Played, cut: &Played, is_stream: bool) {
    assert_eq!(whole.end, cut.end);
    assert_eq!(whole.forwarded(), cut.forwarded());
    assert_eq!(whole.last.is_some(), cut.last.is_some());
    if is_stream {
        assert_eq!(whole.before, cut.before, "nothing is released early, nothing is held in vain");
    }
}

#[test]
fn a_body_that_comes_byte_by_byte_gives_the_same_outcome() {
    for fixture in fixture::all() {
        let body = fixture.body();
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        for close in [Close::BodyEnd, Close::Reset, Close::ClientGone] {
            let whole = play(&fixture, &[&body], close);
            let cut = play(&fixture, &bytes, close);
            if close != Close::ClientGone || fixture.is_stream() {
                assert_same(&whole, &cut, fixture.is_stream());
            }
        }
    }
}

#[test]
fn a_body_cut_in_two_anywhere_gives_the_same_outcome() {
    for fixture in fixture::all() {
        let body = fixture.body();
        let whole = play(&fixture, &[&body], fixture.close);
        for at in 0..=body.len() {
            let cut = play(&fixture, &[&body[..at], &body[at..]], fixture.close);
            if matches!(fixture.close, Close::BodyEnd | Close::Reset) || fixture.is_stream() {
                assert_same(&whole, &cut, fixture.is_stream());
            } else {
                assert_eq!(whole.end, cut.end);
            }
        }
    }
}

/// A client that leaves anywhere gives an attempt that knows no more than was sent.
#[test]
fn a_client_may_leave_at_any_byte() {
    for fixture in fixture::all() {
        let body = fixture.body();
        for at in 0..=body.len() {
            let played = play(&fixture, &[&body[..at]], Close::ClientGone);
            let end = &played.end;
            if end.metered.source == UsageSource::Unknown {
                assert_eq!(end.metered.usage, Usage::default());
                assert_ne!(end.charged, facts::Charged::NotBilled);
            }
            if end.first_token_at.is_some() {
                assert!(end.metered.usage.output() > 0, "output passed and is counted");
            }
            let whole = matches!(end.end, End::Complete | End::StreamError);
            assert_eq!(whole, played.last.is_some(), "complete when its last bytes are released");
        }
    }
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&str] = &[
        "data: ",
        "data:",
        "event: error",
        "\n",
        "\n\n",
        "\r\n\r\n",
        "\r",
        ": ping",
        "[DONE]",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "\"usage\":",
        "\"choices\":[",
        "\"delta\":{",
        "\"content\":\"a\"",
        "\"type\":\"message_delta\"",
        "\"type\":\"message_stop\"",
        "\"type\":\"error\"",
        "\"type\":\"response.completed\"",
        "\"finishReason\":\"STOP\"",
        "\"usageMetadata\":",
        "\"promptTokenCount\":",
        "\"error\":",
        "\"prompt_tokens\":",
        "\"output_tokens\":",
        "\"cost\":",
        "\"cost_in_usd_ticks\":",
        "7",
        "-1",
        "1e99",
        "18446744073709551615",
        "\"",
        "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}",
        "{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}",
        "{\"type\":\"response.failed\",\"response\":{\"usage\":{\"input_tokens\":3}}}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":3}}",
        "{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"candidatesTokenCount\":9}}",
    ];
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    prop_oneof![9 => select(words), 1 => prop::collection::vec(any::<u8>(), 0..6)]
}

fn count() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0_u32..5_000).prop_map(|count| count.to_string()),
        1 => select(vec!["-1", "1.5", "9223372036854775807", "1e30", "null", "\"8\"", "[1]", "{}"])
            .prop_map(str::to_owned),
    ]
}

/// What may stand where a cost is told.
fn told() -> impl Strategy<Value = String> {
    let number = "-?[0-9]{1,12}(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        6 => number.prop_map(|text| json_number(&text)),
        1 => number.prop_map(|text| format!("\"{text}\"")),
        1 => select(vec!["null", "true", "[1]", "{}", "\"\"", "\"NaN\"", "1e999999999999"])
            .prop_map(str::to_owned),
    ];
    let name = select(vec![
        "cost",
        "cost_in_usd_ticks",
        "estimated_cost",
        "is_byok",
        "total_cost",
        "upstream_inference_cost",
    ]);
    let members = move |value: BoxedStrategy<String>| {
        prop::collection::vec((name.clone(), value), 0..4).prop_map(|members| {
            let mut seen = Vec::new();
            let members = members.into_iter().filter_map(|(name, value)| {
                let new = !seen.contains(&name);
                seen.push(name);
                new.then(|| format!("\"{name}\":{value}"))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        })
    };
    let leaf = leaf.boxed();
    let inner = prop_oneof![3 => leaf.clone(), 1 => members.clone()(leaf)].boxed();
    (members.clone()(inner.clone()), inner).prop_map(|(object, details)| {
        let comma = if object == "{}" { "" } else { "," };
        let object = object.trim_start_matches('{');
        format!("{{\"prompt_tokens\":3,\"completion_tokens\":4,\"cost_details\":{details}{comma}{object}")
    })
}

/// A number as JSON writes it: without zeros before it.
fn json_number(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let plain = digits.trim_start_matches('0');
    let zero = if plain.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
    format!("{sign}{zero}{plain}")
}

fn object(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let all = prop::collection::vec(count(), names.len());
    (subsequence(names, 0..=names.len()), all).prop_map(|(names, counts)| {
        let members = names.iter().zip(counts).map(|(name, count)| format!("\"{name}\":{count}"));
        members.collect::<Vec<_>>().join(",")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_segmentation_gives_the_same_outcome(
        which: Index, cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let all = fixture::all();
        let fixture = which.get(&all);
        let body = fixture.body();
        let whole = play(fixture, &[&body], Close::BodyEnd);
        let cut = play(fixture, &pieces(&body, &cuts), Close::BodyEnd);
        assert_same(&whole, &cut, fixture.is_stream());
    }

    #[test]
    fn any_bytes_pass_and_end_once(
        fragments in prop::collection::vec(fragment(), 0..30),
        cuts in prop::collection::vec(any::<Index>(), 0..4),
        api in select(Api::ALL), convention in select(Convention::ALL),
        status in select(&[200_u16, 200, 200, 204, 302, 400, 500][..]),
        stream: bool, close in select(CLOSES), strips: bool,
    ) {
        let request = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
        let (path, key) = ("/models/m:streamGenerateContent", HashKey::new([7; 32]));
        let request = Request::read_at(api, path, request.as_bytes(), &key).unwrap();
        let mut meter = fixture::meter(convention, &request, strips);
        let kind = if stream { "Text/Event-Stream; charset=utf-8" } else { "application/json" };
        meter.head(status, Some(kind), UnixTime::from_nanos(1));
        let body = fragments.concat();
        let played = run(meter, &pieces(&body, &cuts), close);
        if !strips && matches!(close, Close::BodyEnd | Close::Reset) {
            prop_assert_eq!(played.forwarded(), body);
        }
        if played.end.metered.source == UsageSource::Unknown {
            prop_assert_eq!(played.end.metered.usage, Usage::default());
        }
    }

    /// Whatever a usage object tells of a cost, it is an amount that can be, or refused, and the counts
    /// beside it are what they were.
    #[test]
    fn a_told_cost_is_sane_or_refused_and_leaves_the_usage_alone(
        usage in told(), stream: bool, api in select(&[Api::OpenAiChat, Api::OpenAiResponses][..]),
    ) {
        let usage = match api {
            Api::OpenAiChat => usage,
            _ => usage.replace("prompt_", "input_").replace("completion_", "output_"),
        };
        let (kind, body) = match (api, stream) {
            (Api::OpenAiChat, false) => (JSON, format!(r#"{{"choices":[],"usage":{usage}}}"#)),
            (_, false) => (JSON, format!(r#"{{"output":[],"usage":{usage}}}"#)),
            (Api::OpenAiChat, true) => {
                (EVENTS, format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"))
            }
            (_, true) => {
                let event = r#"{"type":"response.completed","response":{"usage":"#;
                (EVENTS, format!("data: {event}{usage}}}}}\n\n"))
            }
        };
        let end = reply_of(api, Convention::OpenRouter, kind, &body);
        prop_assert_eq!(end.metered.source, UsageSource::Reported);
        prop_assert_eq!((end.metered.usage.input(), end.metered.usage.output()), (3, 4));
        if let Some(ToldCost::Of(cost)) = end.told {
            // A fee, and what is beside it.
            prop_assert!((0..2_000_000_000_000_000_000).contains(&cost.pico()), "{cost}");
        }
        // The model of the test: a plain number under `cost` is read as it stands.
        let raw: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(&usage).unwrap();
        let alone = !raw.contains_key("cost_in_usd_ticks") && !raw.contains_key("is_byok");
        if let Some(cost) = raw.get("cost").map(|cost| cost.get())
            && alone && cost.starts_with(|c: char| c.is_ascii_digit())
        {
            let read = quantity::Money::rounded_from(cost, 0).ok().map(|(cost, _)| cost);
            let read = read.filter(|cost| cost.pico() < 1_000_000_000_000_000_000);
            prop_assert_eq!(end.told, Some(read.map_or(ToldCost::Refused, ToldCost::Of)));
        }
    }

    #[test]
    fn openai_classes_sum_to_the_providers_total(
        counts in object(&["prompt_tokens", "completion_tokens", "total_tokens",
            "prompt_cache_hit_tokens", "prompt_cache_miss_tokens"]),
        input in object(&["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"]),
        output in object(&["reasoning_tokens", "audio_tokens", "image_tokens"]),
        convention in select(Convention::ALL),
    ) {
        let comma = if counts.is_empty() { "" } else { "," };
        let usage = format!(
            r#"{{{counts}{comma}"prompt_tokens_details":{{{input}}},"completion_tokens_details":{{{output}}}}}"#
        );
        let body = format!(r#"{{"choices":[{{"message":{{"content":"hi"}}}}],"usage":{usage}}}"#);
        let end = reply(Api::OpenAiChat, convention, &body);
        let raw: serde_json::Value = serde_json::from_str(&usage).unwrap();
        let whole = |name: &str| raw[name].as_u64();
        let refused = end.metered.doubts.contains(Doubt::CountRefused);
        if end.metered.source == UsageSource::Reported {
            prop_assert!(!refused);
            let reasoning = &raw["completion_tokens_details"]["reasoning_tokens"];
            let beside = if convention == Convention::XAi { reasoning.as_u64() } else { None };
            let sum = whole("prompt_tokens").unwrap() + whole("completion_tokens").unwrap();
            prop_assert_eq!(end.metered.usage.total(), sum + beside.unwrap_or(0));
            if let Some(total) = whole("total_tokens") {
                let doubted = end.metered.doubts.contains(Doubt::SumMismatch);
                prop_assert!(doubted || end.metered.usage.total() == total);
            }
        } else {
            prop_assert!(end.metered.usage.output() > 0, "a word passed");
        }
    }

    #[test]
    fn responses_classes_sum_to_the_providers_total(
        counts in object(&["input_tokens", "output_tokens", "total_tokens"]),
        input in object(&["cached_tokens", "cache_write_tokens"]),
        output in object(&["reasoning_tokens"]),
    ) {
        let comma = if counts.is_empty() { "" } else { "," };
        let usage = format!(
            r#"{{{counts}{comma}"input_tokens_details":{{{input}}},"output_tokens_details":{{{output}}}}}"#
        );
        let body = format!(
            r#"{{"output":[{{"type":"message","content":[{{"text":"hi"}}]}}],"usage":{usage}}}"#
        );
        let end = reply(Api::OpenAiResponses, Convention::OpenAi, &body);
        let raw: serde_json::Value = serde_json::from_str(&usage).unwrap();
        if end.metered.source == UsageSource::Reported {
            let whole = |name: &str| raw[name].as_u64();
            prop_assert_eq!(end.metered.usage.input(), whole("input_tokens").unwrap());
            prop_assert_eq!(end.metered.usage.output(), whole("output_tokens").unwrap());
            let doubted = end.metered.doubts.contains(Doubt::SumMismatch);
            let total = end.metered.usage.total();
            prop_assert!(doubted || whole("total_tokens").is_none_or(|told| told == total));
        } else {
            prop_assert!(end.metered.usage.output() > 0, "a word passed");
        }
    }

    #[test]
    fn gemini_classes_sum_to_the_counts(
        counts in object(&["promptTokenCount", "candidatesTokenCount", "totalTokenCount",
            "cachedContentTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount"]),
        details in prop::collection::vec(
            (select(vec!["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "?"]), count()), 0..5),
        of in select(vec!["promptTokensDetails", "cacheTokensDetails",
            "candidatesTokensDetails", "toolUsePromptTokensDetails"]),
    ) {
        let details: Vec<String> = details
            .iter()
            .map(|(modality, count)| format!(r#"{{"modality":"{modality}","tokenCount":{count}}}"#))
            .collect();
        let comma = if counts.is_empty() { "" } else { "," };
        let usage = format!(r#"{{{counts}{comma}"{of}":[{}]}}"#, details.join(","));
        let body = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"hi"}}]}}}}],"usageMetadata":{usage}}}"#
        );
        let end = reply(Api::GeminiGenerate, Convention::Gemini, &body);
        let raw: serde_json::Value = serde_json::from_str(&usage).unwrap();
        if end.metered.source == UsageSource::Reported {
            let count = |name: &str| raw[name].as_u64().unwrap_or(0);
            let input = count("promptTokenCount") + count("toolUsePromptTokenCount");
            prop_assert_eq!(end.metered.usage.input(), input);
            let output = count("candidatesTokenCount") + count("thoughtsTokenCount");
            prop_assert_eq!(end.metered.usage.output(), output);
            let doubted = end.metered.doubts.contains(Doubt::SumMismatch);
            let told = raw["totalTokenCount"].as_u64();
            prop_assert!(doubted || told.is_none_or(|told| told == input + output));
        } else {
            prop_assert!(end.metered.usage.output() > 0, "a word passed");
        }
    }

    #[test]
    fn anthropic_classes_sum_to_the_counts(
        counts in object(&["input_tokens", "output_tokens", "cache_read_input_tokens",
            "cache_creation_input_tokens"]),
        creation in object(&["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]),
        thinking in object(&["thinking_tokens"]),
    ) {
        let comma = if counts.is_empty() { "" } else { "," };
        let usage = format!(
            r#"{{{counts}{comma}"cache_creation":{{{creation}}},"output_tokens_details":{{{thinking}}}}}"#
        );
        let body = format!(r#"{{"content":[{{"type":"text","text":"hi"}}],"usage":{usage}}}"#);
        let end = reply(Api::AnthropicMessages, Convention::Anthropic, &body);
        let raw: serde_json::Value = serde_json::from_str(&usage).unwrap();
        if end.metered.source == UsageSource::Reported {
            let count = |name: &str| raw[name].as_u64();
            prop_assert_eq!(end.metered.usage.output(), count("output_tokens").unwrap());
            let mismatch = end.metered.doubts.contains(Doubt::SumMismatch);
            if let (Some(written), false) = (count("cache_creation_input_tokens"), mismatch) {
                let read = count("cache_read_input_tokens").unwrap_or(0);
                let sum = count("input_tokens").unwrap() + read + written;
                prop_assert_eq!(end.metered.usage.input(), sum);
            }
        } else {
            prop_assert!(end.metered.usage.output() > 0, "a word passed");
        }
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

fn reply(api: Api, convention: Convention, body: &str) -> facts::AttemptEnd {
    reply_of(api, convention, JSON, body)
}

fn reply_of(api: Api, convention: Convention, kind: &str, body: &str) -> facts::AttemptEnd {
    let request = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    let (path, key) = ("/models/m:generateContent", HashKey::new([7; 32]));
    let request = Request::read_at(api, path, request.as_bytes(), &key).unwrap();
    let mut meter = fixture::meter(convention, &request, false);
    meter.head(200, Some(kind), UnixTime::from_nanos(1));
    run(meter, &[body.as_bytes()], Close::BodyEnd).end
}

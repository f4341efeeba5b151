//! Bills that others got wrong by reading a provider's usage otherwise than the provider counts it:
//! the usage as it was sent, the prices of then, and the right amount.

use facts::Api;
use metering::{Close, Convention, Request};
use quantity::HashKey;
use tariff::PriceRow;

use crate::fixture::{meter, run};

/// What a reply with this usage costs.
fn bill(api: Api, convention: Convention, body: &str, prices: &str) -> String {
    let request = br#"{"model":"m","max_tokens":9,"messages":[],"contents":[]}"#;
    let path = if api == Api::GeminiGenerate { "/models/m:generateContent" } else { "" };
    let request = Request::read_at(api, path, request, &HashKey::new([7; 32])).unwrap();
    let mut meter = meter(convention, &request, false);
    let stream = body.starts_with("event: ");
    let content_type = if stream { "text/event-stream" } else { "application/json" };
    meter.head(200, Some(content_type), quantity::UnixTime::from_nanos(1));
    let end = run(meter, &[body.as_bytes()], Close::BodyEnd).end;
    let prices = prices.split(' ').map(|price| price.split_once('=').unwrap());
    let row = PriceRow::own("lab", "m", prices).unwrap();
    row.charge(&end.metered.usage).unwrap().total.to_string()
}

fn anthropic(usage: &str, prices: &str) -> String {
    let body = format!(r#"{{"type":"message","model":"m","content":[],"usage":{usage}}}"#);
    bill(Api::AnthropicMessages, Convention::Anthropic, &body, prices)
}

fn chat(convention: Convention, usage: &str, prices: &str) -> String {
    let body = format!(r#"{{"model":"m","choices":[],"usage":{usage}}}"#);
    bill(Api::OpenAiChat, convention, &body, prices)
}

const SONNET: &str =
    "input_uncached=3 cache_read=0.3 cache_write_5m=3.75 cache_write_1h=6 output_text=15";

#[test]
fn what_is_inside_another_count_is_billed_once() {
    // BerriAI/litellm#14849: hits of Gemini's cache also as input, $0.7642.
    let usage = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":262960,
        "cachedContentTokenCount":257955,"candidatesTokenCount":1744,"totalTokenCount":264704}}"#;
    let prices = "input_uncached=1.25 cache_read=0.625 output_text=10";
    assert_eq!(bill(Api::GeminiGenerate, Convention::Gemini, usage, prices), "0.184918125");
    // anomalyco/opencode#17566: reasoning beside the output that has it, $1.04.
    let usage = r#"{"prompt_tokens":14746,"completion_tokens":1944,"total_tokens":16690,
        "completion_tokens_details":{"reasoning_tokens":1360}}"#;
    let prices = "input_uncached=30 output_text=180";
    assert_eq!(chat(Convention::OpenAi, usage, prices), "0.7923");
    // theopenco/llmgateway#3435: the same with Anthropic's thinking, output 23 % too dear.
    let usage = r#"{"input_tokens":51,"output_tokens":136,
        "output_tokens_details":{"thinking_tokens":31}}"#;
    assert_eq!(anthropic(usage, SONNET), "0.002193");
    // BerriAI/litellm#37407: cached tokens that are an image's too, 72 % above xAI's bill.
    let usage = r#"{"prompt_tokens":2461,"completion_tokens":303,"total_tokens":2764,
        "prompt_tokens_details":{"text_tokens":1319,"image_tokens":1142,"cached_tokens":2432}}"#;
    let prices = "input_uncached=2 cache_read=0.5 output_text=6";
    assert_eq!(chat(Convention::XAi, usage, prices), "0.003092");
    // multica-ai/multica#5838: cached tokens of Grok twice, $0.029296; xAI billed 75,360,000 ticks.
    let usage = r#"{"prompt_tokens":12929,"completion_tokens":29,"total_tokens":12958,
        "prompt_tokens_details":{"cached_tokens":10880}}"#;
    let prices = "input_uncached=2 cache_read=0.3 output_text=6";
    assert_eq!(chat(Convention::XAi, usage, prices), "0.007536");
}

#[test]
fn what_is_beside_another_count_is_billed_too_and_at_its_own_price() {
    // BerriAI/litellm#9812: written tokens twice, $0.091311; Anthropic's console says $0.05439.
    let usage = r#"{"input_tokens":3,"cache_creation_input_tokens":12304,
        "cache_read_input_tokens":0,"output_tokens":550}"#;
    assert_eq!(anthropic(usage, SONNET), "0.054399");
    // BerriAI/litellm#11789, also #11364: in a stream cached tokens at the price of others, $0.002059.
    let stream = r#"event: message_start
data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":2455,"output_tokens":1}}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":23}}

event: message_stop
data: {"type":"message_stop"}

"#;
    let haiku = "input_uncached=0.8 cache_read=0.08 cache_write_5m=1 output_text=4";
    let streamed = bill(Api::AnthropicMessages, Convention::Anthropic, stream, haiku);
    assert_eq!(streamed, "0.0002916");
    // earendil-works/pi#5738, as BerriAI/litellm#29432 and #42663: writes for an hour at the price of
    // those for five minutes, $6.25.
    let usage = r#"{"input_tokens":0,"cache_creation_input_tokens":1000000,"output_tokens":0,
        "cache_creation":{"ephemeral_5m_input_tokens":600000,"ephemeral_1h_input_tokens":400000}}"#;
    let opus = "input_uncached=5 cache_write_5m=6.25 cache_write_1h=10 output_text=25";
    assert_eq!(anthropic(usage, opus), "7.75");
}

//! How fast requests are read and responses are metered: `cargo bench -p metering`.

#[path = "../../../bench/cpu.rs"]
mod cpu;

use std::hint::black_box;

use bytes::Bytes;
use facts::{Api, AttemptReason, Charged, Dispatch};
use metering::{AttemptMeter, Close, Convention, Request};
use quantity::{ExchangeId, HashKey, UnixTime};

fn metered(name: &str, goal: Option<&str>, chunks: &[Bytes], content_type: &str, api: Api) {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let request = Request::read(api, body.as_bytes(), &HashKey::new([7; 32])).expect("readable");
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    let dispatch = Dispatch {
        exchange: ExchangeId::from_bytes([1; 16]),
        ordinal: 0,
        at: UnixTime::from_nanos(0),
        reason: AttemptReason::First,
        upstream: String::new(),
        provider: None,
        model: None,
        region: None,
        input_estimate: request.input_estimate(),
        bound: None,
    };
    cpu::rate(&format!("meter: {name}"), "bytes", 10 * bytes as u64, goal, || {
        for _ in 0..10 {
            let mut meter =
                AttemptMeter::new(Convention::Simulated, &request, true, dispatch.clone());
            let at = UnixTime::from_nanos(1);
            meter.head(200, Some(content_type), at);
            for chunk in chunks {
                black_box(meter.push(chunk.clone(), at));
            }
            black_box(meter.body_end());
            black_box(meter.close(Close::BodyEnd, at, |_, _, _| (Charged::Hosted, None)));
        }
    });
}

fn main() {
    let text = "The gateway meters what every request costs and tells it by route. ".repeat(13);
    let body = format!(
        r#"{{"model":"gpt-5-mini","stream":false,"user":"bench","max_tokens":128,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    cpu::rate("meter: read a request of 1 KB", "requests", 100, None, || {
        for _ in 0..100 {
            black_box(
                Request::read(Api::OpenAiChat, body.as_bytes(), &HashKey::new([7; 32]))
                    .expect("readable"),
            );
        }
    });

    let chunk = |delta: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-7\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\"}},\"finish_reason\":null}}]}}\n\n"
        ))
    };
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":98}}\n\n";
    // Every tenth text is written with escapes.
    let text = |n: usize| if n % 10 == 9 { r".\n\n" } else { " word" };
    let mut stream: Vec<Bytes> = (0..98).map(|n| chunk(text(n))).collect();
    stream.push(Bytes::from_static(usage.as_bytes()));
    stream.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let gigabyte = Some("1 thousand million");
    metered(
        "OpenAI stream, an event a chunk",
        gigabyte,
        &stream,
        "text/event-stream",
        Api::OpenAiChat,
    );

    let whole: Vec<u8> = stream.concat();
    let cut: Vec<Bytes> = whole.chunks(16_384).map(Bytes::copy_from_slice).collect();
    metered("OpenAI stream, 16 KB a chunk", gigabyte, &cut, "text/event-stream", Api::OpenAiChat);
    let cut: Vec<Bytes> = whole.chunks(100).map(Bytes::copy_from_slice).collect();
    metered("OpenAI stream, cut every 100 bytes", None, &cut, "text/event-stream", Api::OpenAiChat);

    let event = |n: usize| {
        let text = text(n);
        Bytes::from(format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        ))
    };
    let stream: Vec<Bytes> = (0..100).map(event).collect();
    metered(
        "Anthropic stream, an event a chunk",
        gigabyte,
        &stream,
        "text/event-stream",
        Api::AnthropicMessages,
    );

    let words = "words and ".repeat(100);
    let reply = format!(
        "{{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"{words}\"}}}}],\
         \"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":200}}}}"
    );
    metered("OpenAI unary, 1 KB", None, &[Bytes::from(reply)], "application/json", Api::OpenAiChat);

    let vectors = "0.0123456789,".repeat(100_000);
    let reply =
        format!("{{\"data\":[{{\"embedding\":[{vectors}0]}}],\"usage\":{{\"prompt_tokens\":9}}}}");
    let cut: Vec<Bytes> = reply.as_bytes().chunks(16_384).map(Bytes::copy_from_slice).collect();
    metered("embeddings, 1.3 MB", None, &cut, "application/json", Api::OpenAiEmbeddings);
}

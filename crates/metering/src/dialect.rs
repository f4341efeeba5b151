//! Which dialect reads what: the one place that tells APIs apart once a response comes.

use facts::Api;

use crate::seen::{Reading, Seen};
use crate::{Convention, anthropic, gemini, openai, responses, sse};

/// What an event of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// The response is complete with it, for better or worse.
    Terminal,
    /// It carries the usage and nothing else.
    UsageOnly,
    /// The response may be complete with it: only the end of the body tells.
    MaybeLast,
    /// It brought this text and nothing else: to be counted alike wherever all around it is alike.
    Text(&'a str),
    /// Anything else.
    Other,
}

/// Reads an event of a stream, as it came, into what was seen so far.
pub(crate) fn read_event(api: Api, event: &[u8], seen: &mut Seen) -> Kind<'static> {
    if let Some(text) = seen.last.text_of(event) {
        seen.output(text, 0);
        return Kind::Other;
    }
    let data = sse::data(event);
    seen.last.forget();
    match read_data(api, &data, seen) {
        Kind::Text(text) => {
            seen.last.learn(event, text);
            Kind::Other
        }
        Kind::Terminal => Kind::Terminal,
        Kind::UsageOnly => Kind::UsageOnly,
        Kind::MaybeLast => Kind::MaybeLast,
        Kind::Other => Kind::Other,
    }
}

fn read_data<'a>(api: Api, data: &'a [u8], seen: &mut Seen) -> Kind<'a> {
    match api {
        Api::AnthropicMessages => anthropic::read_event(data, seen),
        Api::OpenAiResponses | Api::OpenAiResponseShown => responses::read_event(data, seen),
        Api::GeminiGenerate => gemini::read_event(data, seen),
        Api::OpenAiChat
        | Api::OpenAiCompletions
        | Api::OpenAiEmbeddings
        | Api::OpenAiModels
        | Api::AnthropicCountTokens
        | Api::GeminiCountTokens
        | Api::GeminiModels
        | Api::Unmetered => openai::read_chunk(data, seen),
    }
}

/// Reads a unary reply; tells whether it was whole and of the API.
pub(crate) fn read_reply(api: Api, data: &[u8], seen: &mut Seen) -> bool {
    match api {
        Api::OpenAiChat | Api::OpenAiCompletions | Api::OpenAiEmbeddings => {
            openai::read_reply(data, seen)
        }
        Api::OpenAiResponses => responses::read_reply(data, seen),
        Api::OpenAiResponseShown => responses::read_shown(data, seen),
        Api::AnthropicMessages => anthropic::read_reply(data, seen),
        Api::GeminiGenerate => gemini::read_reply(data, seen),
        Api::OpenAiModels
        | Api::AnthropicCountTokens
        | Api::GeminiCountTokens
        | Api::GeminiModels
        | Api::Unmetered => serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok(),
    }
}

/// What the usage objects that came say; `None` when there are none.
pub(crate) fn usage(
    api: Api,
    convention: Convention,
    choices: Option<u32>,
    seen: &Seen,
) -> Option<Reading> {
    match api {
        Api::AnthropicMessages => anthropic::usage(seen, convention),
        Api::GeminiGenerate => gemini::usage(seen),
        _ => openai::usage(seen.raw_usage.last()?, api, convention, choices),
    }
}

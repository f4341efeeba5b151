//! Providers as clients meet them, and what clients ask of them.

use facts::Api;
use metering::Convention;
use workload::Random;

/// A server that speaks some APIs in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) upstream: &'static str,
    pub(crate) convention: Convention,
    pub(crate) provider: Option<&'static str>,
    /// Whether its cache and reasoning are told.
    pub(crate) details: bool,
    /// Whether it is paid by the hour.
    pub(crate) hosted: bool,
    pub(crate) apis: &'static [Api],
}

const fn kind(
    upstream: &'static str,
    convention: Convention,
    provider: Option<&'static str>,
    details: bool,
    apis: &'static [Api],
) -> Kind {
    Kind { upstream, convention, provider, details, hosted: false, apis }
}

const fn hosted(kind: Kind) -> Kind {
    Kind { hosted: true, ..kind }
}

use Api::{
    AnthropicMessages as Messages, GeminiGenerate as Generate, OpenAiChat as Chat,
    OpenAiCompletions as Completions, OpenAiEmbeddings as Embeddings, OpenAiResponses as Responses,
};

/// The upstreams that are paid by the hour.
pub(crate) const HOSTED: [&str; 2] = ["gpu-1", "gpu-2"];

const KINDS: &[Kind] = &[
    kind(
        "openai",
        Convention::OpenAi,
        Some("openai"),
        true,
        &[Chat, Responses, Completions, Embeddings],
    ),
    kind("anthropic", Convention::Anthropic, Some("anthropic"), true, &[Messages]),
    kind("google", Convention::Gemini, Some("google"), true, &[Generate]),
    kind("google-2", Convention::Gemini, Some("google"), true, &[Generate]),
    kind("deepseek", Convention::DeepSeek, Some("deepseek"), true, &[Chat]),
    kind("xai", Convention::XAi, Some("x-ai"), true, &[Chat, Responses]),
    kind("openrouter", Convention::OpenRouter, Some("openrouter"), true, &[Chat, Responses]),
    kind("groq", Convention::Groq, Some("groq"), true, &[Chat, Responses]),
    kind("mistral", Convention::Mistral, Some("mistral"), false, &[Chat]),
    kind("together", Convention::Together, Some("together"), false, &[Chat, Completions]),
    kind("fireworks", Convention::Fireworks, Some("fireworks"), true, &[Chat, Completions]),
    kind("vllm", Convention::Vllm, Some("openai"), false, &[Chat, Completions, Responses]),
    kind("own", Convention::LlamaCpp, None, false, &[Chat, Completions, Messages]),
    kind("other", Convention::OpenAiCompatible, None, false, &[Chat, Completions]),
    hosted(kind(HOSTED[0], Convention::Vllm, None, false, &[Chat, Completions, Messages])),
    hosted(kind(HOSTED[1], Convention::Vllm, None, false, &[Chat, Responses, Messages])),
];

/// What a client asks.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) api: Api,
    /// Below the base URL, where it names the model.
    pub(crate) path: String,
    pub(crate) request: Vec<u8>,
    pub(crate) stream: bool,
    /// Whether the client itself asked for the usage of the stream.
    pub(crate) client_asks: bool,
    /// Choices that come back.
    pub(crate) choices: u32,
}

/// Draws a server and one of its APIs.
pub(crate) fn draw(random: &mut Random) -> (Kind, Api) {
    // The two that most use come more often.
    let kind = match random.below(6) {
        0 => KINDS[0],
        1 => KINDS[1],
        _ => KINDS[random.index(KINDS.len())],
    };
    (kind, kind.apis[random.index(kind.apis.len())])
}

/// Draws another server of an API.
pub(crate) fn draw_for(random: &mut Random, api: Api) -> Kind {
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.apis.contains(&api)).collect();
    *kinds[random.index(kinds.len())]
}

/// Draws a request for a model of this name.
pub(crate) fn ask(random: &mut Random, kind: Kind, api: Api, model: &str) -> Ask {
    let chat = matches!(api, Chat | Completions);
    let stream = api != Embeddings && random.chance(0.75);
    let client_asks = stream && chat && random.chance(0.3);
    let mut choices: u32 = match api {
        Chat | Completions | Generate if !kind.hosted && random.chance(0.2) => 2,
        _ => 1,
    };
    let words = "tell me more ".repeat(1 + random.index(30));
    let limit = random.chance(0.5).then(|| 10 + random.below(1000));
    if api == Generate {
        let method = if stream { "streamGenerateContent" } else { "generateContent" };
        let path = format!("/models/{model}:{method}");
        let mut members =
            vec![format!(r#""contents":[{{"role":"user","parts":[{{"text":"{words}"}}]}}]"#)];
        let mut config = Vec::new();
        config.extend(limit.map(|limit| format!(r#""maxOutputTokens":{limit}"#)));
        config.extend((choices > 1).then(|| format!(r#""candidateCount":{choices}"#)));
        if !config.is_empty() {
            members.push(format!(r#""generationConfig":{{{}}}"#, config.join(",")));
        }
        if random.chance(0.3) {
            members.push(format!(r#""model":"models/{model}""#));
        }
        let request = object(random, members);
        return Ask { api, path, request, stream, client_asks, choices };
    }
    let mut members = vec![format!(r#""model" : "{model}""#)];
    if choices > 1 {
        members.push(format!(r#""n":{choices}"#));
    }
    members.push(match api {
        Embeddings => format!(r#""input":"{words}""#),
        Responses => format!(r#""input":"{words}","instructions":"be brief""#),
        Completions if random.chance(0.2) => {
            // A choice of each prompt.
            choices *= 2;
            format!(r#""prompt":["{words}","{words}"]"#)
        }
        Completions => format!(r#""prompt":"{words}""#),
        _ => format!(r#""messages":[{{"role":"user","content":"{words}"}}]"#),
    });
    if let Some(limit) = limit.filter(|_| api != Embeddings) {
        let name = if api == Responses { "max_output_tokens" } else { "max_tokens" };
        members.push(format!(r#""{name}":{limit}"#));
    }
    if stream {
        members.push(r#""stream": true"#.to_owned());
        if client_asks {
            members.push(r#""stream_options":{"include_usage":true}"#.to_owned());
        } else if random.chance(0.2) && chat {
            let ways = ["{}", "null", r#"{"include_usage": false}"#, r#"{"x":[1]}"#];
            members.push(format!(r#""stream_options":{}"#, ways[random.index(4)]));
        }
    }
    let request = object(random, members);
    Ask { api, path: String::new(), request, stream, client_asks, choices }
}

/// The members in some order.
fn object(random: &mut Random, mut members: Vec<String>) -> Vec<u8> {
    let turn = random.index(members.len());
    members.rotate_left(turn);
    format!("{{{}}}", members.join(", ")).into_bytes()
}

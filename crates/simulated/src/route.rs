//! Paths and what they are for.

use crate::refusal::Refusal;

/// What a path is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Chat,
    Completions,
    Responses,
    /// A stored response, by its id.
    Stored(String),
    Embeddings,
    Messages,
    CountTokens,
    Models,
    /// Gemini's methods of a model, and whether the reply streams.
    Generate {
        model: String,
        stream: bool,
    },
    GeminiCount {
        model: String,
    },
}

/// What a path and its query are for; `None` if nothing is there.
pub(crate) fn route(path: &str, query: &str) -> Option<Result<Route, Refusal>> {
    let known = match path {
        "/v1/chat/completions" => Route::Chat,
        "/v1/completions" => Route::Completions,
        "/v1/responses" => Route::Responses,
        "/v1/embeddings" => Route::Embeddings,
        "/v1/messages" => Route::Messages,
        "/v1/messages/count_tokens" => Route::CountTokens,
        "/v1/models" | "/v1beta/models" => Route::Models,
        _ => {
            if let Some(id) = path.strip_prefix("/v1/responses/") {
                return Some(Ok(Route::Stored(id.to_owned())));
            }
            let below = path.strip_prefix("/v1beta").or_else(|| path.strip_prefix("/v1"))?;
            let (model, method) = below.strip_prefix("/models/")?.split_once(':')?;
            let model = model.to_owned();
            match method {
                "generateContent" => Route::Generate { model, stream: false },
                "streamGenerateContent" if query.split('&').any(|one| one == "alt=sse") => {
                    Route::Generate { model, stream: true }
                }
                "streamGenerateContent" => {
                    return Some(Err(Refusal::invalid("only `alt=sse` is simulated")));
                }
                "countTokens" => Route::GeminiCount { model },
                _ => return None,
            }
        }
    };
    Some(Ok(known))
}

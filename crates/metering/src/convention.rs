//! How each provider counts. The dialects are few; what their numbers mean differs by provider.

use facts::Api;
use quantity::closed_list;

closed_list! {
    /// A provider's usage convention: the `kind` of an upstream.
    ///
    /// Sources: the providers' API references and SDK types as of 2026-10; for vLLM and llama.cpp
    /// their servers' source.
    Convention {
        /// OpenAI: input includes cached tokens, output includes reasoning.
        OpenAi = 1, "openai";
        /// Anthropic: input excludes cached tokens.
        Anthropic = 2, "anthropic";
        /// vLLM: as OpenAI, but cached tokens are told only with `--enable-prompt-tokens-details`.
        Vllm = 3, "vllm";
        /// llama.cpp's server: as OpenAI, but with `n` > 1 one choice is counted.
        LlamaCpp = 4, "llama_cpp";
        /// DeepSeek: input is cache hits plus misses; a miss is not a cache write.
        DeepSeek = 5, "deepseek";
        /// xAI: output excludes reasoning, which is billed beside it.
        XAi = 6, "xai";
        /// Groq: as OpenAI.
        Groq = 7, "groq";
        /// OpenRouter: as OpenAI, for the models of all others.
        OpenRouter = 8, "openrouter";
        /// Mistral: as OpenAI; streams carry usage unasked.
        Mistral = 9, "mistral";
        /// Together: as OpenAI.
        Together = 10, "together";
        /// Fireworks: as OpenAI.
        Fireworks = 11, "fireworks";
        /// Any other server that speaks OpenAI's dialect; cached tokens may go untold.
        OpenAiCompatible = 12, "openai_compatible";
        /// The built-in model server without a model: all dialects by their makers' conventions.
        Simulated = 13, "simulated";
        /// Google's Gemini: input includes cached tokens, output excludes thoughts.
        Gemini = 14, "gemini";
    }
}

impl Convention {
    /// Whether an upstream of this kind speaks an API.
    #[must_use]
    pub fn speaks(self, api: Api) -> bool {
        match api {
            Api::OpenAiChat
            | Api::OpenAiCompletions
            | Api::OpenAiEmbeddings
            | Api::OpenAiModels => !matches!(self, Self::Anthropic | Self::Gemini),
            Api::OpenAiResponses | Api::OpenAiResponseShown => !matches!(
                self,
                Self::Anthropic | Self::Gemini | Self::DeepSeek | Self::Mistral | Self::Together
            ),
            Api::GeminiGenerate | Api::GeminiCountTokens | Api::GeminiModels => {
                matches!(self, Self::Gemini | Self::Simulated)
            }
            // Its upstream is named beside its path.
            Api::Unmetered => false,
            Api::AnthropicMessages | Api::AnthropicCountTokens => {
                matches!(self, Self::Anthropic | Self::Vllm | Self::LlamaCpp | Self::Simulated)
            }
        }
    }

    /// Whose rows of the price book apply unless the configuration says otherwise; `None` for
    /// servers that have no list price.
    #[must_use]
    pub fn provider(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("openai"),
            Self::Anthropic => Some("anthropic"),
            Self::DeepSeek => Some("deepseek"),
            Self::XAi => Some("x-ai"),
            Self::Groq => Some("groq"),
            Self::OpenRouter => Some("openrouter"),
            Self::Mistral => Some("mistral"),
            Self::Together => Some("together"),
            Self::Fireworks => Some("fireworks"),
            Self::Gemini => Some("google"),
            Self::Vllm | Self::LlamaCpp | Self::OpenAiCompatible | Self::Simulated => None,
        }
    }

    /// Whether a stream brings usage only when it is asked for with `stream_options`.
    #[must_use]
    pub fn must_ask_for_usage(self) -> bool {
        self != Self::Mistral
    }

    /// Whether a missing count of cached tokens leaves the split of the input unknown, rather than
    /// meaning that none were cached.
    pub(crate) fn may_hide_cache(self) -> bool {
        matches!(self, Self::Vllm | Self::OpenAiCompatible)
    }

    /// Whether `completion_tokens` leaves reasoning out.
    pub(crate) fn reasoning_beside_output(self) -> bool {
        self == Self::XAi
    }

    /// Whether usage with several choices counts one of them.
    pub(crate) fn counts_one_choice(self) -> bool {
        self == Self::LlamaCpp
    }
}

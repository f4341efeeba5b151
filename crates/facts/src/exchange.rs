//! What is known of an exchange, in the order it becomes known.

use quantity::{
    Billable, ExchangeId, Fingerprint, Metered, Money, PriceRowId, TokenCount, UnitPrice, UnixTime,
    closed_list,
};

use crate::ToldCost;

closed_list! {
    /// The API that a client speaks.
    Api {
        /// OpenAI Chat Completions.
        OpenAiChat = 1, "openai.chat";
        /// OpenAI Embeddings.
        OpenAiEmbeddings = 2, "openai.embeddings";
        /// OpenAI's list of models.
        OpenAiModels = 3, "openai.models";
        /// Anthropic Messages.
        AnthropicMessages = 4, "anthropic.messages";
        /// Anthropic's token counter.
        AnthropicCountTokens = 5, "anthropic.count_tokens";
        /// OpenAI Responses.
        OpenAiResponses = 6, "openai.responses";
        /// A stored response of OpenAI's, shown again.
        OpenAiResponseShown = 7, "openai.response_shown";
        /// OpenAI Completions, the API before Chat.
        OpenAiCompletions = 8, "openai.completions";
        /// Gemini's generateContent and streamGenerateContent.
        GeminiGenerate = 9, "gemini.generate";
        /// Gemini's token counter.
        GeminiCountTokens = 10, "gemini.count_tokens";
        /// Gemini's list of models.
        GeminiModels = 11, "gemini.models";
        /// A path that passes without being metered, because the configuration lists it.
        Unmetered = 12, "unmetered";
    }
}

impl Api {
    /// Whether it only shows what is there already: it has no request body and runs no model.
    #[must_use]
    pub const fn only_shows(self) -> bool {
        matches!(self, Self::OpenAiModels | Self::OpenAiResponseShown | Self::GeminiModels)
    }

    /// Whether no provider bills it.
    #[must_use]
    pub const fn is_free(self) -> bool {
        self.only_shows() || matches!(self, Self::AnthropicCountTokens | Self::GeminiCountTokens)
    }
}

closed_list! {
    /// How an exchange came by its route.
    RouteSource {
        /// The `x-farthing-route` header.
        Header = 1, "header";
        /// The `/r/{route}` path prefix.
        Path = 2, "path";
        /// The request's `metadata`.
        Metadata = 3, "metadata";
        /// Nothing said: a keyed hash of the system prompt.
        Derived = 4, "derived";
        /// The virtual key that was presented.
        Key = 5, "key";
    }
}

closed_list! {
    /// Why an attempt was made.
    AttemptReason {
        /// The first try.
        First = 1, "first";
        /// The same target again.
        Retry = 2, "retry";
        /// The next target after one failed.
        Fallback = 3, "fallback";
    }
}

closed_list! {
    /// How an attempt ended.
    End {
        /// The response ended as its API says it should.
        Complete = 1, "complete";
        /// Refused with a 4xx status before a model ran.
        Refused = 2, "refused";
        /// Failed with a 5xx status, or with a reply that is not of the API.
        UpstreamError = 3, "upstream_error";
        /// An error event inside a stream that began with 200.
        StreamError = 4, "stream_error";
        /// The upstream closed before the terminal event or the promised length.
        Cut = 5, "cut";
        /// No connection: nothing was sent.
        Unreachable = 6, "unreachable";
        /// A time limit of ours ran out.
        Timeout = 7, "timeout";
        /// The client left before the terminal event.
        ClientGone = 8, "client_gone";
        /// The gateway died first; written by its next start.
        Lost = 9, "lost";
    }
}

closed_list! {
    /// What became of an exchange.
    Verdict {
        /// The client was given a whole response.
        Completed = 1, "completed";
        /// The client was given an error.
        Failed = 2, "failed";
        /// The client left first.
        Aborted = 3, "aborted";
        /// Nobody knows: the gateway died first.
        Unknown = 4, "unknown";
    }
}

closed_list! {
    /// Why the tokens of an attempt were wasted. An attempt has at most one cause: the first that
    /// fits, in this order.
    WasteCause {
        /// The provider refused.
        Rejected = 1, "rejected";
        /// The attempt failed.
        Failed = 2, "failed";
        /// The client left.
        Aborted = 3, "aborted";
        /// The answer was cut at its token limit.
        Truncated = 4, "truncated";
    }
}

closed_list! {
    /// Who said a message.
    Role {
        /// The system prompt.
        System = 1, "system";
        /// OpenAI's developer message, a system prompt by another name.
        Developer = 2, "developer";
        /// The user.
        User = 3, "user";
        /// The model.
        Assistant = 4, "assistant";
        /// The result of a tool.
        Tool = 5, "tool";
        /// A role that this version does not know.
        Other = 6, "other";
    }
}

/// Whom an exchange is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The product feature that calls.
    pub route: String,
    /// How we know.
    pub route_source: RouteSource,
    /// The business unit of work: `ticket-4711`.
    pub task: Option<String>,
    /// Its type: `ticket`.
    pub task_type: Option<String>,
    /// The end user.
    pub user: Option<String>,
    /// The team that pays.
    pub team: Option<String>,
    /// Further labels, sorted by name, names unique.
    pub tags: Vec<(String, String)>,
}

/// One message of a request, without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageShape {
    /// Who said it.
    pub role: Role,
    /// Bytes of text in it.
    pub text_bytes: u64,
    /// Images, audio clips and files in it.
    pub media: u32,
    /// Keyed hash of its content: equal contents are equal.
    pub content: Fingerprint,
    /// Keyed hash of it and all before it: equal prefixes are equal.
    pub chain: Fingerprint,
}

/// A request's prompt, without its words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromptShape {
    /// The messages in order; an Anthropic system prompt is the first.
    pub messages: Vec<MessageShape>,
    /// Names of the tools offered.
    pub tools: Vec<String>,
    /// Bytes of the tools' schemas as sent.
    pub tool_schema_bytes: u64,
}

impl PromptShape {
    /// Bytes of text in messages and tool schemas.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        let messages = self.messages.iter().map(|message| message.text_bytes);
        messages.fold(self.tool_schema_bytes, u64::saturating_add)
    }

    /// Splits a count of input tokens over the parts of the prompt by their bytes, so that the parts
    /// sum to the count (largest remainder): one for each [`Role`], then the tool schemas. An
    /// estimate: providers report one total. `None` when the prompt has no text.
    #[must_use]
    pub fn split(&self, input: TokenCount) -> Option<(Vec<(Role, u64)>, u64)> {
        let mut weights: Vec<u64> = Role::ALL
            .iter()
            .map(|role| {
                let said = self.messages.iter().filter(|message| message.role == *role);
                said.fold(0, |sum: u64, message| sum.saturating_add(message.text_bytes))
            })
            .collect();
        weights.push(self.tool_schema_bytes);
        // Tokens are split as money is: whole units, nothing lost.
        let parts = Money::from_pico(i128::from(input.get())).allocate(&weights)?;
        let mut counts = parts.iter().map(|part| u64::try_from(part.pico()).unwrap_or(0));
        let roles = Role::ALL.iter().copied().zip(counts.by_ref()).filter(|(_, count)| *count > 0);
        let roles = roles.collect();
        Some((roles, counts.next().unwrap_or(0)))
    }
}

/// An exchange is admitted: journalled before anything is sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When its request had been read.
    pub at: UnixTime,
    /// The API spoken.
    pub api: Api,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The model asked for; `None` where the API has none.
    pub model_asked: Option<String>,
    /// Of a path that is not metered, its pattern in the configuration.
    pub path: Option<String>,
    /// The cap on output tokens that was asked for.
    pub max_tokens: Option<TokenCount>,
    /// Choices asked for (`n`), where said.
    pub choices: Option<u32>,
    /// The service tier asked for.
    pub tier_asked: Option<String>,
    /// Whom it is for.
    pub labels: Labels,
    /// Keyed hash of the credential presented: who may look the exchange up.
    pub caller: Option<Fingerprint>,
    /// The name of the virtual key presented; it is no secret.
    pub key: Option<String>,
    /// The client SDK's own count of retries, where it sends one.
    pub client_retry: Option<u32>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// The prompt, without its words.
    pub prompt: PromptShape,
}

/// An attempt is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which of its attempts, from 0.
    pub ordinal: u32,
    /// When: the time that chooses the price.
    pub at: UnixTime,
    /// Why.
    pub reason: AttemptReason,
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// Whose price rows apply; `None` for a server of our own.
    pub provider: Option<String>,
    /// The model asked of the upstream.
    pub model: Option<String>,
    /// The region in which the upstream runs, as its configuration says, in lower case.
    pub region: Option<String>,
    /// Input tokens expected, from the bytes of the prompt.
    pub input_estimate: TokenCount,
    /// What it may cost at most, where the price and a cap on output are known.
    pub bound: Option<Money>,
}

/// One line of a charge. `list` is count × price exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeLine {
    /// What for.
    pub item: Billable,
    /// How many.
    pub count: TokenCount,
    /// The list price of one.
    pub price: UnitPrice,
    /// At the list price.
    pub list: Money,
    /// At the contracted price.
    pub contracted: Money,
}

/// What an attempt cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// At a row of the price book.
    Priced {
        /// The row used.
        row: PriceRowId,
        /// Its lines; they sum to the charge.
        lines: Vec<ChargeLine>,
    },
    /// By the hour of the upstream it ran on, not by the token.
    Hosted,
    /// Nothing was consumed: refused before a model ran, or an API that is free.
    NotBilled,
    /// It may have cost something and nobody knows what: never $0.
    Unpriced {
        /// Why.
        reason: String,
    },
}

impl Charged {
    /// The contracted cost, where it is known by the token.
    #[must_use]
    pub fn cost(&self) -> Option<Money> {
        match self {
            Self::Priced { lines, .. } => Some(lines.iter().map(|line| line.contracted).sum()),
            Self::NotBilled => Some(Money::ZERO),
            Self::Hosted | Self::Unpriced { .. } => None,
        }
    }
}

/// An attempt has ended and is priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which of its attempts, from 0.
    pub ordinal: u32,
    /// When the upstream's response head came.
    pub first_byte_at: Option<UnixTime>,
    /// When the first piece of output came, of a stream.
    pub first_token_at: Option<UnixTime>,
    /// When the last piece of output came, of a stream.
    pub last_token_at: Option<UnixTime>,
    /// When it ended.
    pub at: UnixTime,
    /// The upstream's HTTP status.
    pub status: Option<u16>,
    /// How it ended.
    pub end: End,
    /// The class of the error in the provider's words: `rate_limit_error`.
    pub error: Option<String>,
    /// The provider's id of the response.
    pub response_id: Option<String>,
    /// The model that answered.
    pub model_served: Option<String>,
    /// The service tier that served.
    pub tier_served: Option<String>,
    /// The region that served, where the provider tells it.
    pub region_served: Option<String>,
    /// Why the model stopped, in the provider's words.
    pub finish_reason: Option<String>,
    /// What was consumed.
    pub metered: Metered,
    /// The provider's own usage object, verbatim.
    pub raw_usage: Option<String>,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Names of the tools called.
    pub tools_called: Vec<String>,
    /// What it cost.
    pub charged: Charged,
    /// What the provider itself says that it cost, where it does.
    pub told: Option<ToldCost>,
}

/// An exchange is settled: written once, before its last byte is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When.
    pub at: UnixTime,
    /// What became of it.
    pub verdict: Verdict,
}

/// A price that came into use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceRecord {
    /// A row of a price book, written before its first charge.
    PerUse {
        /// Its id.
        row: PriceRowId,
        /// Its canonical text.
        text: String,
    },
    /// What an upstream costs by the hour from now on; `None` ends it.
    PerHour {
        /// The upstream's name.
        upstream: String,
        /// US dollars an hour.
        cost: Option<Money>,
        /// From when.
        from: UnixTime,
    },
}

/// One upstream try, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As it was sent.
    pub dispatch: Dispatch,
    /// As it ended.
    pub end: AttemptEnd,
}

impl Attempt {
    /// The model it is accounted to: as served, else as asked of the upstream.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.end.model_served.as_deref().or(self.dispatch.model.as_deref())
    }

    /// The region whose prices apply: as served, else that of the upstream.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.end.region_served.as_deref().or(self.dispatch.region.as_deref())
    }

    /// Why it was wasted; `None` when it was of use.
    #[must_use]
    pub fn waste(&self) -> Option<WasteCause> {
        match self.end.end {
            End::Refused => Some(WasteCause::Rejected),
            End::UpstreamError
            | End::StreamError
            | End::Cut
            | End::Unreachable
            | End::Timeout
            | End::Lost => Some(WasteCause::Failed),
            End::ClientGone => Some(WasteCause::Aborted),
            End::Complete => match self.end.finish_reason.as_deref() {
                Some("length" | "max_tokens" | "max_output_tokens" | "MAX_TOKENS") => {
                    Some(WasteCause::Truncated)
                }
                _ => None,
            },
        }
    }
}

/// A settled exchange, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// As it was admitted.
    pub admission: Admission,
    /// Its attempts in order.
    pub attempts: Vec<Attempt>,
    /// As it was settled.
    pub settlement: Settlement,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_splits_into_parts_that_sum() {
        let message = |role, text_bytes| MessageShape {
            role,
            text_bytes,
            media: 0,
            content: Fingerprint(0),
            chain: Fingerprint(0),
        };
        let prompt = PromptShape {
            messages: vec![
                message(Role::System, 100),
                message(Role::User, 50),
                message(Role::User, 50),
            ],
            tools: vec!["search".to_owned()],
            tool_schema_bytes: 100,
        };
        let (roles, tools) = prompt.split(TokenCount::from(100)).unwrap();
        assert_eq!(roles, [(Role::System, 34), (Role::User, 33)]);
        assert_eq!(tools, 33);
        assert_eq!(PromptShape::default().split(TokenCount::from(100)), None);
    }
}

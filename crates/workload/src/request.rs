//! One exchange as its client means it.

use std::time::Duration;

use quantity::TokenCount;

use crate::Fault;

/// One exchange that is to happen: when, through which interface, for whom, and how large.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// When it is sent.
    pub arrival: Arrival,
    /// The interface it uses.
    pub api: Api,
    /// Whether the reply is wanted as a stream.
    pub stream: bool,
    /// The model that is asked for.
    pub model: String,
    /// What the client says about whom and what it is for.
    pub labels: Labels,
    /// How large it is.
    pub shape: Shape,
    /// What should go wrong, if anything.
    pub fault: Option<Fault>,
    /// How often the client has tried the same before; 0 for the first time.
    pub retry: u32,
}

/// When an exchange is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// At this offset from the start, whatever else happens (open arrivals).
    At(Duration),
    /// So long after another exchange has ended, however it ended (closed arrivals).
    After {
        /// Index of the other exchange in the workload; smaller than one's own.
        parent: usize,
        /// From its end to this start.
        think: Duration,
    },
}

/// The interface of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// OpenAI Chat Completions.
    OpenAiChat,
    /// Anthropic Messages.
    AnthropicMessages,
    /// OpenAI Embeddings.
    OpenAiEmbeddings,
}

/// What a client says about whom and what a request is for. All empty for an application that was
/// never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The product feature that calls.
    pub route: Option<String>,
    /// The kind of business work, such as `ticket`.
    pub task_type: Option<String>,
    /// The piece of business work.
    pub task_id: Option<String>,
    /// Who uses the product.
    pub user: Option<String>,
    /// Who pays.
    pub team: Option<String>,
    /// Anything else, in order.
    pub tags: Vec<(String, String)>,
}

/// How large an exchange is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// What is sent, in order: tool schemas and system prompt first, then the conversation.
    pub prompt: Vec<Segment>,
    /// Whether the client marks where the provider should cache (only Anthropic's interface asks):
    /// after the system prompt and after the last message.
    pub marks_cache: bool,
    /// How many tools are offered; their schemas are segments of [`Role::Tools`].
    pub tools_offered: u32,
    /// How many tools the model calls.
    pub tools_called: u32,
    /// What the model would answer if nothing capped it, calls of tools included.
    pub output: TokenCount,
    /// What it thinks before.
    pub reasoning: TokenCount,
    /// The cap that the client sets on output and reasoning together, if it does.
    pub max_tokens: Option<TokenCount>,
}

/// A piece of a prompt. Equal segments have equal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Whose words they are.
    pub role: Role,
    /// How many tokens.
    pub tokens: TokenCount,
    /// Stands for the text.
    pub identity: u64,
}

/// Whose words a segment of a prompt holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Schemas of the tools that are offered.
    Tools,
    /// The application's instructions.
    System,
    /// Documents that were looked up for this request.
    Retrieved,
    /// The user's words.
    User,
    /// Earlier replies.
    Assistant,
    /// What tools gave back.
    ToolResult,
}

impl Shape {
    /// All tokens that are sent.
    #[must_use]
    pub fn input(&self) -> TokenCount {
        sum(self.prompt.iter().map(|segment| segment.tokens))
    }

    /// The tokens that are sent in a role.
    #[must_use]
    pub fn input_of(&self, role: Role) -> TokenCount {
        sum(self.prompt.iter().filter(|one| one.role == role).map(|one| one.tokens))
    }

    /// The tokens that come back, reasoning included, after the cap.
    #[must_use]
    pub fn generated(&self) -> TokenCount {
        let wanted = sum([self.output, self.reasoning].into_iter());
        self.max_tokens.map_or(wanted, |cap| wanted.min(cap))
    }

    /// Tokens at the start that both prompts have in common.
    #[must_use]
    pub fn shared_prefix(&self, other: &Self) -> TokenCount {
        let both = self.prompt.iter().zip(&other.prompt);
        sum(both.take_while(|(mine, theirs)| mine == theirs).map(|(mine, _)| mine.tokens))
    }
}

/// The largest count, which no prompt comes near.
pub(crate) const MOST: TokenCount = TokenCount::new(i64::MAX as u64).expect("fits");

/// Saturates at the largest count.
pub(crate) fn sum(counts: impl Iterator<Item = TokenCount>) -> TokenCount {
    counts.fold(TokenCount::ZERO, |total, count| total.plus(count).unwrap_or(MOST))
}

//! What was seen of a response so far, and what its usage objects say.

use facts::ToldCost;
use quantity::{Doubt, Doubts, PerUnit, TokenClass, TokenCount, Unit, Usage};
use serde_json::value::RawValue;

use crate::json::{Text, read};
use crate::learner::Ratio;
use crate::repeat::Repeat;
use crate::told;

/// Names of called tools that are kept.
const MAX_TOOLS: usize = 256;
/// No error class that we know is longer.
const MAX_ERROR_CLASS: usize = 64;

/// What was seen of a response so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) response_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) tier_served: Option<String>,
    /// In lower case.
    pub(crate) region_served: Option<String>,
    pub(crate) finish_reason: Option<String>,
    /// Choices that have finished.
    finished: u32,
    pub(crate) error: Option<String>,
    pub(crate) tools: Vec<String>,
    /// What the provider ran beside the model, where the usage does not count it.
    pub(crate) units: PerUnit<TokenCount>,
    /// What the response itself makes doubtful.
    pub(crate) doubts: Doubts,
    /// Usage objects as they were written: one, or Anthropic's first and last.
    pub(crate) raw_usage: Vec<String>,
    /// What the provider says that it cost: the last that told it.
    pub(crate) told: Option<ToldCost>,
    /// Choices that had finished when the last usage object came: those it counts in full.
    usage_covers: u32,
    /// Everything that passed.
    pub(crate) output: Output,
    /// What passed after the last usage object, which it cannot have counted.
    pub(crate) output_since_usage: Output,
    /// The event before, if the next may be the same but for its text.
    pub(crate) last: Repeat,
}

/// Output that passed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Output {
    bytes: u64,
    reasoning_bytes: u64,
    /// Pieces that carried output; each is a token at least.
    pub(crate) pieces: u64,
}

/// What usage objects say, in disjoint classes.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) usage: Usage,
    pub(crate) doubts: Doubts,
    /// Whether the input was counted.
    pub(crate) has_input: bool,
    /// Whether the output was counted, or there is none to count.
    pub(crate) has_output: bool,
}

impl Seen {
    pub(crate) fn identify(&mut self, id: &Text<'_>, model: &Text<'_>, tier: &Text<'_>) {
        for (held, found) in [(&mut self.response_id, id), (&mut self.model, model)] {
            if held.is_none() {
                *held = found.owned();
            }
        }
        // The last word on the tier is said with the usage.
        self.tier_served = tier.owned().or(self.tier_served.take());
    }

    /// Keeps an error's code or type, never its message: providers quote prompts and keys in those.
    pub(crate) fn error(&mut self, raw: Option<&RawValue>) {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct ErrorObject<'a> {
            #[serde(borrow, rename = "type")]
            kind: Text<'a>,
            #[serde(borrow)]
            code: Text<'a>,
            /// Google's word.
            #[serde(borrow)]
            status: Text<'a>,
        }
        let error: ErrorObject<'_> = read(raw);
        // A class is a word; a key or a sentence in its place has digits, dashes or spaces.
        let word = |text: &Text<'_>| {
            let plain = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.');
            text.owned().filter(|word| word.len() <= MAX_ERROR_CLASS && word.bytes().all(plain))
        };
        let class = word(&error.code).or_else(|| word(&error.status));
        let class = class.or_else(|| word(&error.kind));
        self.error = Some(class.unwrap_or_else(|| "error".to_owned()));
    }

    pub(crate) fn finish(&mut self, reason: &Text<'_>) {
        if let Some(reason) = reason.owned() {
            self.finish_reason = Some(reason);
            self.finished = self.finished.saturating_add(1);
        }
    }

    pub(crate) fn output(&mut self, bytes: u64, reasoning_bytes: u64) {
        for output in [&mut self.output, &mut self.output_since_usage] {
            output.bytes += bytes;
            output.reasoning_bytes += reasoning_bytes;
            output.pieces += u64::from(bytes + reasoning_bytes > 0);
        }
    }

    pub(crate) fn tool(&mut self, name: String) {
        self.output.pieces += 1;
        self.output_since_usage.pieces += 1;
        if self.tools.len() < MAX_TOOLS {
            self.tools.push(name);
        }
    }

    pub(crate) fn unit(&mut self, unit: Unit, count: u32) {
        let held = &mut self.units[unit];
        *held = held.plus(TokenCount::from(count)).unwrap_or(*held);
    }

    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.doubts = self.doubts.with(doubt);
    }

    /// Keeps a usage object. The last one holds, and beside it the first where `keep_first` says so.
    /// `last` tells that no other can follow.
    pub(crate) fn usage(&mut self, raw: &RawValue, keep_first: bool, last: bool) {
        self.raw_usage.truncate(usize::from(keep_first));
        self.raw_usage.push(raw.get().to_owned());
        self.told = told::in_usage(raw).or(self.told);
        self.usage_covers = if last { u32::MAX } else { self.finished };
        self.output_since_usage = Output::default();
    }

    /// Whether output passed that was not thought alone.
    pub(crate) fn shows_text(&self) -> bool {
        self.output.bytes > 0 || !self.tools.is_empty()
    }

    /// Whether the last usage object counts all of a response of so many choices.
    pub(crate) fn usage_is_final(&self, choices: Option<u32>) -> bool {
        self.usage_covers >= choices.unwrap_or(1).max(1)
    }
}

impl Output {
    /// Tokens, at least, by what was learned of the model.
    pub(crate) fn tokens(&self, ratio: &Ratio) -> TokenCount {
        ratio.output(self.text_bytes(), self.pieces)
    }

    /// Bytes of all text that was shown.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.bytes + self.reasoning_bytes
    }

    pub(crate) fn shows_reasoning(&self) -> bool {
        self.reasoning_bytes > 0
    }
}

/// Takes the parts out of the whole, in order; what is left is of the class `rest`. Parts that do
/// not fit are cut, so that the classes always sum to the provider's own total, and flagged.
pub(crate) fn split(
    whole: TokenCount,
    parts: &[(TokenClass, TokenCount)],
    rest: TokenClass,
    usage: &mut Usage,
    doubts: &mut Doubts,
) {
    let mut left = whole;
    for &(class, part) in parts {
        let fits = part.min(left);
        if fits < part {
            *doubts = doubts.with(Doubt::SumMismatch);
        }
        usage.tokens[class] = fits;
        left = left.minus(fits).expect("the part was cut to what is left");
    }
    usage.tokens[rest] = left;
}

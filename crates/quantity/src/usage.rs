//! What an attempt consumed: disjoint token classes that add up, other units, and how sure we are.

use std::fmt;
use std::ops::{Index, IndexMut};

use crate::closed_list;

/// A number of tokens (or other counted units), at most 2⁶³ − 1, so that a count times a price
/// always fits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TokenCount(u64);

impl TokenCount {
    /// None of them: a count that was reported as zero. An unknown count is `Option::None`.
    pub const ZERO: Self = Self(0);

    /// A count; `None` beyond 2⁶³ − 1.
    #[must_use]
    pub const fn new(count: u64) -> Option<Self> {
        if count > i64::MAX as u64 { None } else { Some(Self(count)) }
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum; `None` beyond 2⁶³ − 1.
    #[must_use]
    pub const fn plus(self, other: Self) -> Option<Self> {
        Self::new(self.0.saturating_add(other.0))
    }

    /// The difference; `None` below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }
}

impl From<u32> for TokenCount {
    fn from(count: u32) -> Self {
        Self(u64::from(count))
    }
}

impl fmt::Display for TokenCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TokenCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

closed_list! {
    /// The billable classes of tokens. They are disjoint: no token is in two.
    TokenClass {
        /// Input that no cache served, text.
        InputUncached = 1, "input_uncached";
        /// Input read from the provider's prompt cache.
        CacheRead = 2, "cache_read";
        /// Input written to a cache that lives five minutes, or as long as the provider likes.
        CacheWrite5m = 3, "cache_write_5m";
        /// Input written to a cache that lives an hour.
        CacheWrite1h = 4, "cache_write_1h";
        /// Output that the caller sees, text.
        OutputText = 5, "output_text";
        /// Output that the model thought and the caller pays for.
        Reasoning = 6, "reasoning";
        /// Audio in, not cached.
        InputAudio = 7, "input_audio";
        /// Images in, not cached.
        InputImage = 8, "input_image";
        /// Video in, not cached.
        InputVideo = 9, "input_video";
        /// Audio in, read from a cache.
        CacheReadAudio = 10, "cache_read_audio";
        /// Images in, read from a cache.
        CacheReadImage = 11, "cache_read_image";
        /// Video in, read from a cache.
        CacheReadVideo = 12, "cache_read_video";
        /// Audio out.
        OutputAudio = 13, "output_audio";
        /// Images out.
        OutputImage = 14, "output_image";
        /// Video out.
        OutputVideo = 15, "output_video";
    }
}

const CLASSES: usize = TokenClass::ALL.len();

impl TokenClass {
    /// Whether it is part of what was sent to the model.
    #[must_use]
    pub const fn is_input(self) -> bool {
        match self {
            Self::InputUncached
            | Self::CacheRead
            | Self::CacheWrite5m
            | Self::CacheWrite1h
            | Self::InputAudio
            | Self::InputImage
            | Self::InputVideo
            | Self::CacheReadAudio
            | Self::CacheReadImage
            | Self::CacheReadVideo => true,
            Self::OutputText
            | Self::Reasoning
            | Self::OutputAudio
            | Self::OutputImage
            | Self::OutputVideo => false,
        }
    }

    /// Whether it was read from a prompt cache.
    #[must_use]
    pub const fn is_cache_read(self) -> bool {
        matches!(
            self,
            Self::CacheRead | Self::CacheReadAudio | Self::CacheReadImage | Self::CacheReadVideo
        )
    }

    const fn index(self) -> usize {
        self as usize - 1
    }
}

closed_list! {
    /// What is billed beside tokens.
    Unit {
        /// Calls that have a fee of their own.
        Call = 1, "calls";
        /// Web searches that the provider ran.
        WebSearch = 2, "web_searches";
        /// Searches of the provider's own file store.
        FileSearch = 3, "file_searches";
        /// Seconds of audio.
        AudioSecond = 4, "audio_seconds";
        /// Characters.
        Character = 5, "characters";
        /// Pages of documents.
        Page = 6, "pages";
    }
}

const UNITS: usize = Unit::ALL.len();

impl Unit {
    const fn index(self) -> usize {
        self as usize - 1
    }
}

/// Whatever can have a price: a class of tokens, or a unit beside tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Billable {
    /// A class of tokens.
    Tokens(TokenClass),
    /// Something counted beside tokens.
    Unit(Unit),
}

impl Billable {
    /// All of them, classes first, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let units = Unit::ALL.iter().copied().map(Self::Unit);
        TokenClass::ALL.iter().copied().map(Self::Tokens).chain(units)
    }

    /// Its name in price files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens(class) => class.name(),
            Self::Unit(unit) => unit.name(),
        }
    }

    /// How many units a price in text is for: a million tokens or characters, a thousand calls,
    /// searches or pages, an hour of audio.
    #[must_use]
    pub const fn quoted_per(self) -> u32 {
        match self {
            Self::Tokens(_) | Self::Unit(Unit::Character) => 1_000_000,
            Self::Unit(Unit::Call | Unit::WebSearch | Unit::FileSearch | Unit::Page) => 1_000,
            Self::Unit(Unit::AudioSecond) => 3_600,
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let class = TokenClass::from_name(name).map(Self::Tokens);
        class.or_else(|| Unit::from_name(name).map(Self::Unit))
    }
}

impl fmt::Display for Billable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One value for each token class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerClass<T>([T; CLASSES]);

/// One value for each other unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerUnit<T>([T; UNITS]);

macro_rules! indexed_by {
    ($name:ident, $key:ident) => {
        impl<T> $name<T> {
            /// The values that a function gives for each key.
            #[must_use]
            pub fn from_fn(mut value: impl FnMut($key) -> T) -> Self {
                Self(std::array::from_fn(|i| value($key::ALL[i])))
            }

            /// Keys with their values, in the order of their numbers.
            pub fn iter(&self) -> impl Iterator<Item = ($key, &T)> {
                $key::ALL.iter().copied().zip(&self.0)
            }
        }

        impl<T: Copy + Default> Default for $name<T> {
            fn default() -> Self {
                Self::from_fn(|_| T::default())
            }
        }

        impl<T> Index<$key> for $name<T> {
            type Output = T;
            fn index(&self, key: $key) -> &T {
                &self.0[key.index()]
            }
        }

        impl<T> IndexMut<$key> for $name<T> {
            fn index_mut(&mut self, key: $key) -> &mut T {
                &mut self.0[key.index()]
            }
        }
    };
}
indexed_by!(PerClass, TokenClass);
indexed_by!(PerUnit, Unit);

/// Everything one attempt consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens by class; classes are disjoint and sum to the provider's total.
    pub tokens: PerClass<TokenCount>,
    /// What is billed beside tokens.
    pub units: PerUnit<TokenCount>,
}

impl Usage {
    /// All input tokens, cached or not: what context-length thresholds look at.
    #[must_use]
    pub fn input(&self) -> u64 {
        self.sum(TokenClass::is_input)
    }

    /// All output tokens, reasoning included.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.sum(|class| !class.is_input())
    }

    /// All tokens.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    fn sum(&self, wanted: impl Fn(TokenClass) -> bool) -> u64 {
        let counts = self.tokens.iter().filter(|(class, _)| wanted(*class));
        counts.fold(0_u64, |sum, (_, count)| sum.saturating_add(count.get()))
    }
}

closed_list! {
    /// Where a usage comes from.
    UsageSource {
        /// The provider said so, in full.
        Reported = 1, "reported";
        /// The provider said a part (Anthropic's input at the start of a stream that was cut); the
        /// rest is estimated.
        Partial = 2, "partial";
        /// Estimated from the bytes that passed.
        Estimated = 3, "estimated";
        /// Nothing is known: never zero.
        Unknown = 4, "unknown";
    }
}

closed_list! {
    /// What is doubtful about a usage. Flagged, never guessed.
    Doubt {
        /// The provider does not say how its input splits into cached and uncached.
        SplitUnknown = 1, "split_unknown";
        /// Two details of the provider may overlap (cached audio, say).
        OverlapOpen = 2, "overlap_open";
        /// The provider's parts do not sum to its total.
        SumMismatch = 3, "sum_mismatch";
        /// At least this much: more may have been billed.
        LowerBound = 4, "lower_bound";
        /// The model may have reasoned out of sight.
        ReasoningUnknown = 5, "reasoning_unknown";
        /// The provider reports one choice of several (`n` > 1).
        ChoicesUnderReported = 6, "choices_under_reported";
        /// A count was negative, fractional or beyond 2⁶³ and was left out.
        CountRefused = 7, "count_refused";
        /// Several models served and their tokens are told as one: no one model's price is right.
        MixedModels = 8, "mixed_models";
        /// The reply was not read in full: encoded, or larger than is read.
        Unread = 9, "unread";
        /// Reading it broke down, which is a bug of ours.
        MeterFailed = 10, "meter_failed";
    }
}

/// A set of doubts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Doubts(u32);

impl Doubts {
    /// No doubt.
    pub const NONE: Self = Self(0);

    /// The set with one more.
    #[must_use]
    pub const fn with(self, doubt: Doubt) -> Self {
        Self(self.0 | 1 << doubt.number())
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn contains(self, doubt: Doubt) -> bool {
        self.0 & (1 << doubt.number()) != 0
    }

    /// The bits as stored: bit n is the doubt with number n.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set stored as these bits; unknown bits are kept.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Those that this version knows.
    pub fn iter(self) -> impl Iterator<Item = Doubt> {
        Doubt::ALL.iter().copied().filter(move |doubt| self.contains(*doubt))
    }
}

impl fmt::Debug for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Doubt::name)).finish()
    }
}

/// A usage with where it comes from and what is doubtful about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// The counts; meaningless (and zero) when the source is unknown.
    pub usage: Usage,
    /// Where they come from.
    pub source: UsageSource,
    /// What is doubtful about them.
    pub doubts: Doubts,
}

impl Metered {
    /// Nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { usage: Usage::default(), source: UsageSource::Unknown, doubts: Doubts::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for (index, &class) in TokenClass::ALL.iter().enumerate() {
            assert_eq!(usize::from(class.number()), index + 1);
            assert_eq!(TokenClass::from_number(u64::from(class.number())), Some(class));
            assert_eq!(TokenClass::from_name(class.name()), Some(class));
        }
        assert_eq!(TokenClass::from_number(0), None);
        assert_eq!(TokenClass::from_number(99), None);
    }

    #[test]
    fn input_and_output_make_the_total() {
        let tokens = PerClass::from_fn(|class| TokenCount::from(1 << u32::from(class.number())));
        let usage = Usage { tokens, ..Usage::default() };
        assert_eq!(usage.input() + usage.output(), usage.total());
        assert_eq!(usage.total(), (1 << 16) - 2);
    }

    #[test]
    fn unknown_doubts_survive() {
        let doubts = Doubts::from_bits(1 << 30).with(Doubt::LowerBound);
        assert!(doubts.contains(Doubt::LowerBound));
        assert_eq!(doubts.iter().count(), 1);
        assert_eq!(Doubts::from_bits(doubts.bits()), doubts);
    }
}

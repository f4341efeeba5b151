//! Tokens per byte, learned from calls that told both, for calls that broke off.

use std::collections::BTreeMap;

use quantity::TokenCount;

/// Models that are remembered; the one that was heard of least lately makes room.
const MAX_MODELS: usize = 256;
/// Calls after which what was learned is trusted more than the rule of thumb.
const TRUSTED_AFTER: u64 = 4;
/// A call counts for so much less with each one after it: about as many calls are remembered.
const MEMORY: u64 = 64;
/// Sums are kept in fixed point, so that forgetting a part of a small one is not lost.
const SCALE: u64 = 1 << 16;
/// The largest error of one call that enters the mean, in millionths: ten times too much.
const MAX_ERROR: u64 = 10_000_000;

/// Tokens and the bytes of text that they were, exponentially forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    tokens: u64,
    bytes: u64,
    calls: u64,
}

impl Sums {
    fn add(&mut self, tokens: u64, bytes: u64) {
        let newer =
            |old: u64, new: u64| (old - old / MEMORY).saturating_add(new.saturating_mul(SCALE));
        self.tokens = newer(self.tokens, tokens);
        self.bytes = newer(self.bytes, bytes);
        self.calls += 1;
    }

    /// Tokens that so many bytes have: as learned, rounded to the nearest, or else four bytes to a
    /// token, the usual rule of thumb for English.
    fn tokens(&self, bytes: u64) -> u64 {
        if self.calls < TRUSTED_AFTER || self.bytes == 0 {
            return bytes.div_ceil(4);
        }
        let tokens = u128::from(bytes) * u128::from(self.tokens) + u128::from(self.bytes / 2);
        u64::try_from(tokens / u128::from(self.bytes)).unwrap_or(u64::MAX)
    }
}

/// How many tokens a model's bytes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ratio {
    input: Sums,
    output: Sums,
}

impl Ratio {
    /// Whether estimates go by it, rather than by the rule of thumb.
    pub(crate) fn is_learned(&self) -> bool {
        self.input.calls >= TRUSTED_AFTER || self.output.calls >= TRUSTED_AFTER
    }

    /// Input tokens of so many bytes of prompt; `None` while nothing better than the rule of thumb
    /// is known.
    pub(crate) fn input(&self, bytes: u64) -> Option<TokenCount> {
        let trusted = self.input.calls >= TRUSTED_AFTER;
        trusted.then(|| TokenCount::new(self.input.tokens(bytes)).unwrap_or_default())
    }

    /// Output tokens of so many bytes that came in so many pieces, each a token at least.
    pub(crate) fn output(&self, bytes: u64, pieces: u64) -> TokenCount {
        TokenCount::new(self.output.tokens(bytes).max(pieces)).unwrap_or_default()
    }
}

/// What a call that was told in full teaches. Zero bytes teach nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lesson {
    pub(crate) input_tokens: u64,
    pub(crate) input_bytes: u64,
    pub(crate) output_tokens: u64,
    pub(crate) output_bytes: u64,
    pub(crate) pieces: u64,
}

#[derive(Debug, Clone, Default)]
struct Learned {
    ratio: Ratio,
    last: u64,
    calls: u64,
    error: u64,
    bias: i64,
}

/// How good estimates of a model's visible output are: what each completed call would have been
/// estimated at, had it broken off at its end, against what it reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstimateError {
    /// The provider, or the upstream where it has no price list.
    pub provider: String,
    /// The model that served.
    pub model: String,
    /// Calls compared.
    pub calls: u64,
    /// Mean absolute error, in millionths of the reported tokens.
    pub mean_error: u64,
    /// Mean error, in millionths of the reported tokens: below zero, estimates are too low.
    pub bias: i64,
}

/// Learns from completed calls how many tokens a model's bytes have, and how wrong estimates by that
/// would have been. The same calls in the same order teach the same.
#[derive(Debug, Default)]
pub struct Learner {
    models: BTreeMap<(String, String), Learned>,
    lessons: u64,
}

impl Learner {
    /// How good estimates are, model by model.
    pub fn errors(&self) -> impl Iterator<Item = EstimateError> {
        let compared = self.models.iter().filter(|(_, learned)| learned.calls > 0);
        compared.map(|((provider, model), learned)| EstimateError {
            provider: provider.clone(),
            model: model.clone(),
            calls: learned.calls,
            mean_error: learned.error / learned.calls,
            bias: learned.bias / i64::try_from(learned.calls).unwrap_or(i64::MAX),
        })
    }

    pub(crate) fn ratio(&self, provider: &str, model: &str) -> Ratio {
        let key = (provider.to_owned(), model.to_owned());
        self.models.get(&key).map(|learned| learned.ratio).unwrap_or_default()
    }

    pub(crate) fn learn(&mut self, provider: &str, model: &str, lesson: Lesson) {
        let key = (provider.to_owned(), model.to_owned());
        if self.models.len() >= MAX_MODELS && !self.models.contains_key(&key) {
            let oldest = self.models.iter().min_by_key(|(_, learned)| learned.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.models.remove(&oldest);
            }
        }
        self.lessons += 1;
        let learned = self.models.entry(key).or_default();
        learned.last = self.lessons;
        if lesson.input_bytes > 0 && lesson.input_tokens > 0 {
            learned.ratio.input.add(lesson.input_tokens, lesson.input_bytes);
        }
        if lesson.output_bytes > 0 && lesson.output_tokens > 0 {
            // Compared before it is learned from: an estimate never knows its own call.
            let estimate = learned.ratio.output(lesson.output_bytes, lesson.pieces).get();
            let off = u128::from(estimate.abs_diff(lesson.output_tokens)) * 1_000_000;
            let off = off / u128::from(lesson.output_tokens);
            let error = u64::try_from(off).unwrap_or(MAX_ERROR).min(MAX_ERROR);
            learned.calls += 1;
            learned.error = learned.error.saturating_add(error);
            let signed = i64::try_from(error).unwrap_or(i64::MAX);
            let signed = if estimate < lesson.output_tokens { -signed } else { signed };
            learned.bias = learned.bias.saturating_add(signed);
            learned.ratio.output.add(lesson.output_tokens, lesson.output_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(tokens: u64, bytes: u64) -> Lesson {
        Lesson { output_tokens: tokens, output_bytes: bytes, ..Lesson::default() }
    }

    #[test]
    fn the_rule_of_thumb_holds_until_enough_was_learned() {
        let mut learner = Learner::default();
        for call in 0..TRUSTED_AFTER {
            let ratio = learner.ratio("p", "m");
            assert_eq!(ratio.output(400, 0), TokenCount::from(100), "after {call}");
            assert_eq!(ratio.input(400), None);
            let input = Lesson { input_tokens: 50, input_bytes: 100, ..output(200, 400) };
            learner.learn("p", "m", input);
        }
        let ratio = learner.ratio("p", "m");
        assert_eq!(ratio.output(400, 0), TokenCount::from(200));
        assert_eq!(ratio.output(403, 0), TokenCount::from(202), "to the nearest");
        assert_eq!(ratio.output(10, 9), TokenCount::from(9), "a token to each piece");
        assert_eq!(ratio.input(10), Some(TokenCount::from(5)));
        assert_eq!(learner.ratio("p", "other").output(400, 0), TokenCount::from(100));
        assert_eq!(learner.ratio("q", "m").output(400, 0), TokenCount::from(100));
    }

    #[test]
    fn what_is_new_outweighs_what_is_old() {
        let mut learner = Learner::default();
        (0..500).for_each(|_| learner.learn("p", "m", output(100, 400)));
        (0..500).for_each(|_| learner.learn("p", "m", output(200, 400)));
        let now = learner.ratio("p", "m").output(4_000, 0).get();
        assert!((1_990..=2_000).contains(&now), "{now}");
    }

    #[test]
    fn errors_are_those_of_estimates_made_before_the_call() {
        let mut learner = Learner::default();
        // 100 estimated of 125 reported, then as many times as it takes to be trusted.
        (0..TRUSTED_AFTER).for_each(|_| learner.learn("p", "m", output(125, 400)));
        let error = learner.errors().next().unwrap();
        assert_eq!((error.calls, error.mean_error, error.bias), (4, 200_000, -200_000));
        (0..TRUSTED_AFTER).for_each(|_| learner.learn("p", "m", output(125, 400)));
        let error = learner.errors().next().unwrap();
        assert_eq!((error.calls, error.mean_error, error.bias), (8, 100_000, -100_000));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_in_use() {
        let mut learner = Learner::default();
        for number in 0..2_000 {
            learner.learn("p", "used", output(1, 4));
            learner.learn("p", &number.to_string(), output(1, 4));
        }
        assert_eq!(learner.models.len(), MAX_MODELS);
        assert!(learner.errors().any(|error| error.model == "used" && error.calls == 2_000));
    }

    proptest::proptest! {
        #[test]
        fn any_lessons_are_learned_without_harm(
            lessons in proptest::collection::vec(
                (0_u64..1 << 41, 0_u64..1 << 41, 0_u64..1 << 41, 0_u64..1 << 41), 0..80),
            bytes: u64,
        ) {
            let mut learner = Learner::default();
            for (input_tokens, input_bytes, output_tokens, output_bytes) in lessons {
                let lesson =
                    Lesson { input_tokens, input_bytes, output_tokens, output_bytes, pieces: 3 };
                learner.learn("p", "m", lesson);
            }
            let _ = learner.ratio("p", "m").input(bytes);
            let _ = learner.ratio("p", "m").output(bytes, 1);
            for error in learner.errors() {
                proptest::prop_assert!(error.bias.unsigned_abs() <= error.mean_error + 1);
            }
        }
    }
}

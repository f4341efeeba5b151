//! What the name of a model tells of its kin. Names are all that a price book has to go by: nothing
//! here knows how good a model is.

/// Words for a purpose: such a model stands in only for one of the same purpose.
const PURPOSES: &str = "audio banana code codex computer cyber discovery embed embedding exp extended \
    ft guard image instruct live moderation multi nano-banana ocr omni realtime research robotics \
    safeguard search streaming transcribe translate tts vision vl voice whisper";

/// A model's name, taken apart: `claude-opus-4-6` is family `claude`, version 4.6, word `opus`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    family: &'a str,
    version: Vec<&'a str>,
    words: Vec<&'a str>,
}

/// How near one model is to another, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kin {
    /// The same version of the same family.
    SameVersion,
    /// The same first number of it.
    SameGeneration,
    /// A higher first number.
    Newer,
}

impl<'a> Name<'a> {
    /// Of a lower-case name; what precedes the last slash is an owner.
    pub(super) fn of(name: &'a str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name);
        let mut parts = name.split(['-', '.', ':', '_', '@', ' ']).filter(|part| !part.is_empty());
        let mut of = Self { family: parts.next().unwrap_or(name), version: vec![], words: vec![] };
        // `o3` and `qwen3` have the number in the word.
        let digits = of.family.find(|c: char| c.is_ascii_digit()).unwrap_or(of.family.len());
        let (family, number) = of.family.split_at(digits);
        if !family.is_empty() && is_number(number) {
            of.family = family;
            of.version.push(number);
        }
        let mut versioned = !of.version.is_empty();
        let mut last_was_number = versioned;
        for part in parts {
            let number = part.strip_prefix('v').unwrap_or(part);
            if is_number(number) && (!versioned || last_was_number) {
                of.version.push(number);
                versioned = true;
                last_was_number = true;
            } else {
                last_was_number = false;
                of.words.push(part);
            }
        }
        of
    }

    /// How near another is that could stand in for this one; `None` if it is of another family, of an
    /// older generation, or for a purpose that this one does not have.
    pub(super) fn kin(&self, other: &Self) -> Option<Kin> {
        let purposes = || PURPOSES.split_whitespace();
        let foreign =
            |word: &&&str| purposes().any(|one| one == **word) && !self.words.contains(word);
        if self.family != other.family || other.words.iter().any(|word| foreign(&word)) {
            return None;
        }
        let generation = |name: &Self| name.version.first().map(|number| generation(number));
        match (generation(self), generation(other)) {
            _ if self.version == other.version => Some(Kin::SameVersion),
            (Some(one), Some(other)) if one == other => Some(Kin::SameGeneration),
            (Some(one), Some(other)) if one < other => Some(Kin::Newer),
            _ => None,
        }
    }

    /// The version as numbers, to tell the newest.
    pub(super) fn version(&self) -> Vec<u32> {
        self.version.iter().map(|number| generation(number)).collect()
    }
}

/// `4`, `45` or `4o`; four digits are a date.
fn is_number(part: &str) -> bool {
    let digits = part.strip_suffix('o').unwrap_or(part);
    (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

fn generation(number: &str) -> u32 {
    number.trim_end_matches('o').parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Kin, Name};

    #[test]
    fn names_are_taken_apart() {
        for (name, family, version, words) in [
            ("claude-opus-4-6", "claude", vec!["4", "6"], vec!["opus"]),
            ("claude-3-5-haiku-latest", "claude", vec!["3", "5"], vec!["haiku", "latest"]),
            ("gpt-4o-2024-05-13", "gpt", vec!["4o"], vec!["2024", "05", "13"]),
            ("gemini-2.5-flash-lite", "gemini", vec!["2", "5"], vec!["flash", "lite"]),
            ("o3-mini", "o", vec!["3"], vec!["mini"]),
            ("meta-llama/llama-3.3-70b", "llama", vec!["3", "3"], vec!["70b"]),
            ("deepseek-v4-pro", "deepseek", vec!["4"], vec!["pro"]),
            ("", "", vec![], vec![]),
        ] {
            assert_eq!(Name::of(name), Name { family, version, words }, "{name}");
        }
    }

    #[test]
    fn kin_is_of_the_family_not_older_and_for_no_other_purpose() {
        for (one, other, kin) in [
            ("gpt-5", "gpt-5-mini", Some(Kin::SameVersion)),
            ("gpt-5.1", "gpt-5-mini", Some(Kin::SameGeneration)),
            ("claude-haiku-4-5", "claude-haiku-5-5", Some(Kin::Newer)),
            ("gpt-5-mini", "gpt-4.1-nano", None),
            ("gpt-5.1", "gpt-5.1-codex-mini", None),
            ("gpt-5.1-codex", "gpt-5.1-codex-mini", Some(Kin::SameVersion)),
            ("gemini-2.5-pro", "gemma-2-27b-it", None),
        ] {
            assert_eq!(Name::of(one).kin(&Name::of(other)), kin, "{one} {other}");
        }
    }
}

//! Rules that match the names of models and providers.

use crate::text::ParseRowError;

/// Matches a name, without regard to case: alternatives, each of which is a list of conditions.
///
/// Text: `=x` equal, `^x` begins, `$x` ends, `*x` contains, `~x` has that shape, where `#` stands for
/// a digit and a last `*` for anything; `!` before a condition negates it; ` & ` and, ` | ` or.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(Vec<Vec<Term>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    negated: bool,
    test: Test,
    /// Lower case.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals,
    Begins,
    Ends,
    Contains,
    Shape,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`ParseRowError`] with `key` for a condition without operator or text.
    pub fn parse(key: &str, text: &str) -> Result<Self, ParseRowError> {
        let alternatives = text.split(" | ").map(|alternative| {
            alternative.split(" & ").map(|term| Term::parse(key, term)).collect()
        });
        alternatives.collect::<Result<_, _>>().map(Self)
    }

    /// A rule that only this name fulfils.
    #[must_use]
    pub fn equals(name: &str) -> Self {
        Self(vec![vec![Term { negated: false, test: Test::Equals, text: name.to_lowercase() }]])
    }

    /// Whether a name, given in lower case, fulfils it.
    #[must_use]
    pub fn matches(&self, lower: &str) -> bool {
        self.0.iter().any(|terms| terms.iter().all(|term| term.holds(lower)))
    }

    /// The names that are named outright, and the rest of the rule.
    pub(crate) fn split_names(self) -> (Vec<String>, Option<Self>) {
        let (names, rest): (Vec<_>, Vec<_>) = self.0.into_iter().partition(
            |terms| matches!(terms.as_slice(), [one] if one.test == Test::Equals && !one.negated),
        );
        let names = names.into_iter().flatten().map(|term| term.text).collect();
        (names, (!rest.is_empty()).then_some(Self(rest)))
    }
}

impl Term {
    fn parse(key: &str, term: &str) -> Result<Self, ParseRowError> {
        let error = || ParseRowError::new(key, "`=x`, `^x`, `$x`, `*x` or `~x`", term);
        let (negated, rest) = match term.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, term),
        };
        let mut chars = rest.chars();
        let test = match chars.next() {
            Some('=') => Test::Equals,
            Some('^') => Test::Begins,
            Some('$') => Test::Ends,
            Some('*') => Test::Contains,
            Some('~') => Test::Shape,
            _ => return Err(error()),
        };
        if chars.as_str().is_empty() {
            return Err(error());
        }
        Ok(Self { negated, test, text: chars.as_str().to_lowercase() })
    }

    fn holds(&self, name: &str) -> bool {
        let text = self.text.as_str();
        let holds = match self.test {
            Test::Equals => name == text,
            Test::Begins => name.starts_with(text),
            Test::Ends => name.ends_with(text),
            Test::Contains => name.contains(text),
            Test::Shape => has_shape(text, name),
        };
        holds != self.negated
    }
}

fn has_shape(shape: &str, name: &str) -> bool {
    let (shape, open) = match shape.strip_suffix('*') {
        Some(begin) => (begin, true),
        None => (shape, false),
    };
    let long_enough = if open { name.len() >= shape.len() } else { name.len() == shape.len() };
    long_enough
        && shape.bytes().zip(name.bytes()).all(|(wanted, found)| match wanted {
            b'#' => found.is_ascii_digit(),
            _ => wanted == found,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(rule: &str, name: &str) -> bool {
        Rule::parse("match", rule).unwrap().matches(name)
    }

    #[test]
    fn conditions_combine() {
        assert!(matches("=gpt-5 | ^o3", "o3-mini"));
        assert!(!matches("=gpt-5 | ^o3", "gpt-5-mini"));
        assert!(matches("^gemini & !*-tts- & !$-tts", "gemini-ttsx"));
        assert!(!matches("^gemini & !*-tts- & !$-tts", "gemini-tts"));
    }

    #[test]
    fn a_shape_is_the_whole_name_unless_it_is_open() {
        assert!(matches("~gpt-5-####-##-##", "gpt-5-2026-01-02"));
        assert!(!matches("~gpt-5-####-##-##", "gpt-5-2026-01-02-x"));
        assert!(!matches("~gpt-5-####-##-##", "gpt-5-2026-01-0x"));
        assert!(matches("~gemini-#*", "gemini-3-pro"));
        assert!(!matches("~gemini-#*", "gemini-"));
    }

    #[test]
    fn a_rule_without_operator_is_refused() {
        for rule in ["", "gpt", "=", "=a | ", "!x", "=a & b"] {
            assert!(Rule::parse("match", rule).is_err(), "{rule}");
        }
    }
}

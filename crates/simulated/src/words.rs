//! Text of a known number of tokens.

use quantity::TokenCount;

/// Bytes of a token; every word below is one less, and a space goes before all but the first.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

const WORDS: [&str; 64] = [
    "the", "and", "for", "you", "can", "not", "all", "one", "our", "new", "day", "way", "may",
    "use", "how", "two", "now", "who", "its", "out", "see", "get", "few", "set", "own", "say",
    "put", "end", "why", "let", "ask", "men", "run", "big", "old", "top", "low", "key", "map",
    "job", "bit", "cut", "add", "sum", "pay", "fee", "net", "tax", "due", "lot", "box", "log",
    "row", "tag", "hub", "app", "web", "api", "bug", "fix", "try", "per", "any", "yes",
];

/// The tokens of a text: a quarter of its bytes, rounded up.
pub(crate) const fn count(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

/// One token of the text that an identity stands for, with the space before it.
pub(crate) fn word(identity: u64, index: u64) -> &'static str {
    // A multiplicative hash: neighbours differ, equal identities repeat.
    let mixed = (identity ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_mul(0xD6E8_FEB8_6659_FD93)
        >> 58;
    WORDS[usize::try_from(mixed).expect("six bits")]
}

/// Adds text of exactly so many tokens.
pub(crate) fn write(text: &mut String, identity: u64, tokens: TokenCount) {
    for index in 0..tokens.get() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word(identity, index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_tokens_that_were_asked() {
        for tokens in [0_u32, 1, 2, 100] {
            let mut text = String::new();
            write(&mut text, 5, TokenCount::from(tokens));
            assert_eq!(count(text.len()), u64::from(tokens));
        }
        assert!(WORDS.iter().all(|word| word.len() == 3));
    }
}

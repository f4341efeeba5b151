//! Identities: exchanges, writers, price rows, and keyed fingerprints of what must not be stored.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid};

use crate::UnixTime;

/// One client request with its response: a UUIDv7, so that ids sort by time of admission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(Uuid);

/// A journal's writer: drawn once for a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub u64);

/// A price row: the first half of a hash of its content, so that equal rows are one row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceRowId([u8; 16]);

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct ParseIdError {
    expected: &'static str,
    found: String,
}

impl ExchangeId {
    /// An id for an exchange admitted at `at`, with 74 of the given random bits.
    #[must_use]
    pub fn new(at: UnixTime, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.nanos().div_euclid(1_000_000)).unwrap_or(0);
        Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The 16 bytes it is stored as.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id stored as these bytes; any 16 bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExchangeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parsed = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        parsed.map(Self).ok_or_else(|| ParseIdError {
            expected: "an exchange id such as `01936f2e-6a5b-7c3d-8e9f-0123456789ab`",
            found: text.to_owned(),
        })
    }
}

impl PriceRowId {
    /// The id of a row with this canonical content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let hash = blake3::hash(content);
        Self(std::array::from_fn(|i| hash.as_bytes()[i]))
    }

    /// The 16 bytes it is stored as.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id stored as these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PriceRowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PriceRowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret that turns prompts and credentials into fingerprints. One per data directory; without
/// it a fingerprint cannot be tested against a guessed text.
#[derive(Clone)]
pub struct HashKey([u8; 32]);

/// 64 bits of a keyed hash: enough to see that two texts of one data directory are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl HashKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of some parts, each framed by its length so that parts cannot run together.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let hash = hasher.finalize();
        Fingerprint(u64::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i])))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_ids_sort_by_time_and_round_trip() {
        let id = |ms: i64, fill| ExchangeId::new(UnixTime::from_nanos(ms * 1_000_000), [fill; 10]);
        assert!(id(1_000, 0xff) < id(1_001, 0));
        let text = id(1_795_305_605_000, 7).to_string();
        assert_eq!(text.parse::<ExchangeId>().unwrap().to_string(), text);
        assert_eq!(text.as_bytes()[14], b'7');
        assert!("01936f2e6a5b7c3d8e9f0123456789ab".parse::<ExchangeId>().is_err());
    }

    #[test]
    fn fingerprints_depend_on_key_and_framing() {
        let (a, b) = (HashKey::new([1; 32]), HashKey::new([2; 32]));
        assert_eq!(a.fingerprint(&[b"ab", b"c"]), a.fingerprint(&[b"ab", b"c"]));
        assert_ne!(a.fingerprint(&[b"ab", b"c"]), a.fingerprint(&[b"a", b"bc"]));
        assert_ne!(a.fingerprint(&[b"ab"]), b.fingerprint(&[b"ab"]));
    }
}

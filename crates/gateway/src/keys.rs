//! Virtual keys: what the gateway knows of the keys it gave out, which is never the keys themselves.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use facts::Api;
use quantity::UnixTime;

/// What all virtual keys begin with.
const PREFIX: &str = "fk_";
/// Characters of an id.
const ID: usize = 8;
/// Characters of a secret: 62^43 is just above 2^256.
const SECRET: usize = 43;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A BLAKE3 hash of a key. One round is enough: slow hashes are for passwords, which can be guessed,
/// and a virtual key has 256 random bits. Two are compared in constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(blake3::Hash);

/// A text that is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, found `{0}`")]
pub struct ParseHashError(String);

/// A key that was just made. Not for keeping: only its hash is.
pub struct NewKey {
    /// What the client presents: `fk_`, the id, `_`, and 43 letters and digits.
    pub secret: String,
    /// Its id, which is no secret.
    pub id: String,
    /// Its hash.
    pub hash: KeyHash,
}

/// A key that was given out, and what its bearer may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualKey {
    /// By what name it stands in bills and in the journal.
    pub name: String,
    /// Its public part.
    pub id: String,
    /// The hash of the whole key.
    pub hash: KeyHash,
    /// The team that pays, whatever the client says.
    pub team: Option<String>,
    /// The route of calls that name none.
    pub route: Option<String>,
    /// Tags of all its calls, whatever the client says; names in lower case, sorted, each once.
    pub tags: Vec<(String, String)>,
    /// The models that may be asked for; none: any.
    pub models: Vec<String>,
    /// The upstreams that may be used, by name; none: any.
    pub upstreams: Vec<String>,
    /// When it was made.
    pub created: UnixTime,
    /// From when on it is refused.
    pub expires: Option<UnixTime>,
    /// Since when it is refused.
    pub revoked: Option<UnixTime>,
}

/// Whether a key is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// All virtual keys there are, expired and revoked ones included.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(HashMap<String, Arc<VirtualKey>>);

/// The keys in force. They can be replaced while the gateway runs.
#[derive(Debug, Default)]
pub struct KeyRing(RwLock<Arc<Keys>>);

impl KeyHash {
    /// The hash of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(blake3::hash(key))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl FromStr for KeyHash {
    type Err = ParseHashError;
    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        blake3::Hash::from_hex(text).map(Self).map_err(|_| ParseHashError(text.to_owned()))
    }
}

impl NewKey {
    /// A key of 32 random bytes, with an id of 8 others.
    #[must_use]
    pub fn new(mut random: [u8; 32], id: [u8; ID]) -> Self {
        let id: String = id.iter().map(|byte| char::from(DIGITS[usize::from(byte % 62)])).collect();
        let mut secret = format!("{PREFIX}{id}_");
        // All of the bits, as one number in base 62.
        for _ in 0..SECRET {
            let mut rest = 0_u32;
            for byte in &mut random {
                let value = rest << 8 | u32::from(*byte);
                *byte = u8::try_from(value / 62).expect("below 256, for the rest is below 62");
                rest = value % 62;
            }
            secret.push(char::from(DIGITS[rest as usize]));
        }
        let hash = KeyHash::of(secret.as_bytes());
        Self { secret, id, hash }
    }
}

/// Whether a text can be the name of a key: what needs no quoting anywhere, and is no path.
#[must_use]
pub fn is_key_name(text: &str) -> bool {
    crate::labels::is_route(text)
}

/// Whether a text can be the id of a key.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a credential looks like a virtual key, of whatever gateway.
pub(crate) fn is_virtual(credential: &[u8]) -> bool {
    credential.starts_with(PREFIX.as_bytes())
}

impl VirtualKey {
    /// Whether it is good at that time.
    #[must_use]
    pub fn state(&self, now: UnixTime) -> KeyState {
        if self.revoked.is_some() {
            KeyState::Revoked
        } else if self.expires.is_some_and(|expires| expires <= now) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// Whether that model may be asked for. What only shows what is there runs none.
    pub(crate) fn may_ask(&self, api: Api, model: Option<&str>) -> bool {
        let listed = |model: &str| self.models.iter().any(|allowed| allowed == model);
        self.models.is_empty() || api.only_shows() || model.is_some_and(listed)
    }

    /// Whether that upstream may be used.
    pub(crate) fn may_use(&self, upstream: &str) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|allowed| allowed == upstream)
    }
}

impl KeyState {
    /// Its name in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Keys {
    /// These keys; of two with one id, the last.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = VirtualKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect())
    }

    /// Whether there is none, not even a revoked one: then none is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are, and how many of them are good at that time.
    #[must_use]
    pub fn count(&self, now: UnixTime) -> (usize, usize) {
        let active = self.0.values().filter(|key| key.state(now) == KeyState::Active);
        (self.0.len(), active.count())
    }

    /// The key that was presented, be it good or not. An unknown id costs the same hash and the same
    /// comparison as a known one.
    pub(crate) fn find(&self, credential: &[u8]) -> Option<&Arc<VirtualKey>> {
        const NOBODY: KeyHash = KeyHash(blake3::Hash::from_bytes([0; 32]));
        let id = credential.strip_prefix(PREFIX.as_bytes()).and_then(|rest| rest.get(..ID));
        let id = id.and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default();
        let known = self.0.get(id);
        let same = KeyHash::of(credential) == known.map_or(NOBODY, |key| key.hash);
        known.filter(|_| same)
    }
}

impl KeyRing {
    /// A ring of these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self(RwLock::new(Arc::new(keys)))
    }

    /// The keys in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force, from the next request on.
    pub fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(new: &NewKey) -> VirtualKey {
        VirtualKey {
            name: "bot".to_owned(),
            id: new.id.clone(),
            hash: new.hash,
            team: None,
            route: None,
            tags: Vec::new(),
            models: Vec::new(),
            upstreams: Vec::new(),
            created: UnixTime::from_nanos(0),
            expires: Some(UnixTime::from_nanos(10)),
            revoked: None,
        }
    }

    #[test]
    fn a_key_has_all_its_random_bits_and_nothing_that_needs_quoting() {
        let low = NewKey::new([0; 32], [0; 8]);
        assert_eq!(low.secret, format!("fk_00000000_{}", "0".repeat(43)));
        let high = NewKey::new([0xff; 32], [0xff; 8]);
        assert_eq!(high.secret.len(), "fk_".len() + 8 + 1 + 43);
        let drawn: Vec<String> = (0..256)
            .map(|bit| {
                let mut random = [0; 32];
                random[bit / 8] = 1 << (bit % 8);
                NewKey::new(random, [0; 8]).secret
            })
            .collect();
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), 256, "each bit counts");
        for secret in drawn.iter().chain([&high.secret]) {
            assert!(secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{secret}");
            assert_eq!(secret.len(), 55);
        }
    }

    #[test]
    fn only_the_whole_key_is_found() {
        let (one, other) = (NewKey::new([1; 32], [1; 8]), NewKey::new([2; 32], [2; 8]));
        let keys = Keys::new([key(&one), key(&other)]);
        assert_eq!(keys.find(one.secret.as_bytes()).unwrap().id, one.id);
        let mixed = format!("{}{}", &one.secret[..12], &other.secret[12..]);
        let longer = format!("{}0", one.secret);
        let named = format!("fk_{}", one.id);
        let hash = one.hash.to_string();
        for wrong in [&mixed, &longer, &named, &hash, "", "fk_", "fk_é", "Bearer", "fk_99999999_x"]
        {
            assert_eq!(keys.find(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(keys.find(&[0xff; 60]), None);
        // The hash that stands in for unknown ids opens nothing.
        assert_eq!(Keys::default().find(one.secret.as_bytes()), None);
    }

    #[test]
    fn a_key_ends_at_its_time_or_when_it_is_revoked() {
        let mut key = key(&NewKey::new([1; 32], [1; 8]));
        let at = UnixTime::from_nanos;
        assert_eq!([9, 10].map(|n| key.state(at(n))), [KeyState::Active, KeyState::Expired]);
        key.revoked = Some(at(20));
        assert_eq!(key.state(at(0)), KeyState::Revoked, "whatever the clock says");
    }

    #[test]
    fn hashes_have_a_text() {
        let hash = KeyHash::of(b"fk_x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "12", &"g".repeat(64), &"a".repeat(65)] {
            assert!(text.parse::<KeyHash>().is_err(), "{text}");
        }
    }
}

//! Lenient reading of other people's JSON: a field of the wrong type is not an error, it is absent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use quantity::TokenCount;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string, borrowed where it has no escapes; anything else reads as none.
#[derive(Debug, Default, Clone)]
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

impl Text<'_> {
    pub(crate) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The string if it can be a label: not empty, within the bound, and fit for a log's line.
    pub(crate) fn owned(&self) -> Option<String> {
        const MAX_LABEL: usize = 256;
        let text = self.as_deref()?;
        let fits = !text.is_empty() && text.len() <= MAX_LABEL;
        (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

/// No response has this many tokens: a larger number is a bug of its sender, and a few of them would
/// overflow the sums of every report.
const MAX_COUNT: u64 = 1 << 40;

/// A count. Negative, fractional and huge numbers are refused; anything else reads as absent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    #[default]
    Absent,
    Of(TokenCount),
    Refused,
}

impl Count {
    pub(crate) fn get(self) -> Option<TokenCount> {
        match self {
            Self::Of(count) => Some(count),
            Self::Absent | Self::Refused => None,
        }
    }
}

/// The bytes of text in a value: a string's own, or those of all strings inside.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TextBytes(pub(crate) u64);

/// One member of an object as it was written.
pub(crate) struct Member<'a> {
    pub(crate) key: Cow<'a, str>,
    /// Whether the key was spelled with escapes.
    pub(crate) escaped: bool,
    pub(crate) value: &'a RawValue,
}

/// Members of an object, and items of an array, that are read: with a few bytes each, millions would
/// take many times the memory of the text that they are in.
const MAX_ITEMS: usize = 1 << 16;

/// The members of an object, in order, duplicates kept; more than are read are an error.
pub(crate) struct Members<'a>(pub(crate) Vec<Member<'a>>);

/// The items of an array, but for those beyond what is read.
pub(crate) struct List<T>(pub(crate) Vec<T>);

/// Implements the visits that a lenient type answers with its default.
macro_rules! lenient {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Self::Value, E> { Ok(Self::Value::default()) })*
    };
    (unit) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("any value") }
    };
    (containers) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
        fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            lenient!(visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64));
            lenient!(unit);
            lenient!(containers);
        }
        deserializer.deserialize_any(Visit)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Count;
            fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
                let count = TokenCount::new(count).filter(|count| count.get() <= MAX_COUNT);
                Ok(count.map_or(Count::Refused, Count::Of))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Count, E> {
                Ok(Count::Refused)
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Count, E> {
                Ok(Count::Refused)
            }
            lenient!(visit_bool(bool), visit_str(&str));
            lenient!(unit);
            lenient!(containers);
        }
        deserializer.deserialize_any(Visit)
    }
}

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = TextBytes;
            fn visit_str<E: Error>(self, text: &str) -> Result<TextBytes, E> {
                Ok(TextBytes(text.len() as u64))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TextBytes, A::Error> {
                let mut sum = TextBytes(0);
                while let Some(inner) = items.next_element::<TextBytes>()? {
                    sum.0 += inner.0;
                }
                Ok(sum)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<TextBytes, A::Error> {
                let mut sum = TextBytes(0);
                while let Some((_, inner)) = items.next_entry::<IgnoredAny, TextBytes>()? {
                    sum.0 += inner.0;
                }
                Ok(sum)
            }
            lenient!(visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64));
            lenient!(unit);
        }
        deserializer.deserialize_any(Visit)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key<'a>(Cow<'a, str>, bool);
        impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl<'de> Visitor<'de> for Visit {
                    type Value = Key<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a key")
                    }
                    // serde_json borrows a string exactly when it has no escapes.
                    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                        Ok(Key(Cow::Borrowed(key), false))
                    }
                    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
                        Ok(Key(Cow::Owned(key.to_owned()), true))
                    }
                }
                deserializer.deserialize_str(Visit)
            }
        }
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key, escaped), value)) = items.next_entry()? {
                    if members.len() == MAX_ITEMS {
                        return Err(Error::custom("too many members"));
                    }
                    members.push(Member { key, escaped, value });
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while list.len() < MAX_ITEMS
                    && let Some(item) = items.next_element()?
                {
                    list.push(item);
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Visit(PhantomData))
    }
}

/// Reads an array; none of its items when it, or one of them, is of another shape.
pub(crate) fn list<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Vec<T> {
    let list = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
    list.map_or_else(Vec::new, |List(items)| items)
}

/// The text of a string that has no escapes.
pub(crate) fn plain_string(raw: Option<&RawValue>) -> Option<&str> {
    let text = raw?.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// Reads a value, or its default when it is of another shape.
pub(crate) fn read<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millions_of_items_are_passed_over_and_millions_of_members_refused() {
        let count = 20 * MAX_ITEMS;
        let array = format!("[{}1]", "1,".repeat(count));
        let raw: &RawValue = serde_json::from_str(&array).unwrap();
        assert_eq!(list::<&RawValue>(Some(raw)).len(), MAX_ITEMS);
        assert_eq!(list::<&RawValue>(serde_json::from_str("[1,2]").ok()).len(), 2);
        assert!(list::<u8>(serde_json::from_str("[1,true]").ok()).is_empty());
        let object = |count: usize| format!("{{{}\"a\":1}}", "\"a\":1,".repeat(count - 1));
        assert!(serde_json::from_str::<Members<'_>>(&object(count)).is_err());
        let most = object(MAX_ITEMS);
        assert_eq!(serde_json::from_str::<Members<'_>>(&most).unwrap().0.len(), MAX_ITEMS);
    }
}

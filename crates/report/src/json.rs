//! JSON that keeps the order it was written in and knows no floats: money and ratios are decimal
//! strings, everything else is an integer.

use quantity::{Money, UnixTime};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// What is not known or does not apply.
    Null,
    /// A truth.
    Bool(bool),
    /// A count.
    Count(u64),
    /// A text, a decimal or a time.
    Text(String),
    /// Values in order.
    List(Vec<Json>),
    /// Named values in order.
    Object(Vec<(String, Json)>),
}

/// Writes a [`Json::Object`]: `object! { "name" => value, }`.
#[macro_export]
macro_rules! object {
    ($($name:expr => $value:expr),* $(,)?) => {
        $crate::json::Json::Object(vec![$(($name.to_owned(), $crate::json::Json::from($value))),*])
    };
}

impl Json {
    /// On one line.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("text keys and no floats always serialize")
    }

    /// Indented, with a newline at the end.
    #[must_use]
    pub fn pretty(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("text keys and no floats always serialize") + "\n"
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Count(value) => serializer.serialize_u64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| seq.serialize_element(value))?;
                seq.end()
            }
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Count(u64::from(value))
    }
}

impl From<u16> for Json {
    fn from(value: u16) -> Self {
        Self::Count(u64::from(value))
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Json {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

/// The exact decimal number of dollars.
impl From<Money> for Json {
    fn from(value: Money) -> Self {
        Self::Text(value.to_string())
    }
}

/// RFC 3339 in UTC, to the nanosecond, without trailing zeros.
impl From<UnixTime> for Json {
    fn from(value: UnixTime) -> Self {
        Self::Text(format!("{value:?}"))
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

//! The members of an object that decide what we do, read so that nobody can read others.

use serde_json::value::RawValue;

use super::{RequestError, shown};
use crate::json::{Count, Members, Text, read};

/// Members by name; each may stand once and only in its plain spelling.
pub(super) struct Fields<'a> {
    names: &'static [&'static str],
    values: Vec<Option<&'a RawValue>>,
}

/// How names may be spelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As listed.
    Plain,
    /// As listed, `camelCase`, or in `snake_case`, which Google's servers read too.
    Google,
}

impl<'a> Fields<'a> {
    /// Picks the members of these names.
    pub(super) fn pick(
        members: Members<'a>,
        names: &'static [&'static str],
        spelling: Spelling,
    ) -> Result<Self, RequestError> {
        let mut fields = Self { names, values: vec![None; names.len()] };
        for member in members.0 {
            let plain = match spelling {
                Spelling::Plain => member.key.clone(),
                Spelling::Google => camel(&member.key).into(),
            };
            let Some(index) = names.iter().position(|name| name.eq_ignore_ascii_case(&plain))
            else {
                continue;
            };
            if member.escaped || plain != names[index] {
                let spelled = member.key.escape_default().to_string();
                return Err(RequestError::Disguised(names[index], spelled));
            }
            if fields.values[index].replace(member.value).is_some() {
                return Err(RequestError::Duplicate(member.key.into_owned()));
            }
        }
        Ok(fields)
    }

    /// The members of an object inside; none where it is absent or null.
    pub(super) fn inside(
        &self,
        name: &'static str,
        names: &'static [&'static str],
        spelling: Spelling,
    ) -> Result<Self, RequestError> {
        let Some(raw) = self.get(name).filter(|raw| raw.get() != "null") else {
            return Self::pick(Members(Vec::new()), names, spelling);
        };
        let members = serde_json::from_str(raw.get())
            .map_err(|_| RequestError::WrongType(name, "an object", shown(raw)))?;
        Self::pick(members, names, spelling)
    }

    /// Forgets the members of these names.
    pub(super) fn leave_out(&mut self, names: &[&str]) {
        for (known, value) in self.names.iter().zip(&mut self.values) {
            *value = value.filter(|_| !names.contains(known));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let index = self.names.iter().position(|known| *known == name);
        self.values[index.expect("a name that was asked for")]
    }

    /// Whether it is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| raw.get() != "null")
    }

    pub(super) fn count(&self, name: &str) -> Option<quantity::TokenCount> {
        read::<Count>(self.get(name)).get()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        read::<Text<'_>>(self.get(name)).owned()
    }

    /// `true`, or `false` where it is absent or null.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, RequestError> {
        match self.get(name).map(RawValue::get) {
            Some("true") => Ok(true),
            None | Some("false" | "null") => Ok(false),
            Some(_) => {
                let found = self.get(name).map(shown).unwrap_or_default();
                Err(RequestError::WrongType(name, "true or false", found))
            }
        }
    }
}

fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut words = name.split('_');
    out.push_str(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

//! Where in a configuration's text an error belongs.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line of what an error is about, counted from one. Every message names its key in backticks
/// before anything else, `upstreams.a.kind` or `prices[0]`; a key that is not there is missing from the
/// table that its path leads to.
pub(super) fn of(error: &anyhow::Error, text: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut place = Place::Table(root.get_ref());
    let mut found = None;
    for message in error.chain().map(ToString::to_string) {
        let Some(key) = message.split('`').nth(1) else { continue };
        let mut rest = key;
        while let Some((start, inner, after)) = place.step(rest) {
            found = Some(start);
            (place, rest) = (inner, after);
        }
    }
    let before = text.get(..found?)?;
    Some(before.matches('\n').count() + 1)
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Table(&'a DeTable<'a>),
    Array(&'a [Spanned<DeValue<'a>>]),
    Leaf,
}

impl<'a> Place<'a> {
    /// One step along a path: where the next part begins, what is there, and the path that is left.
    fn step(self, path: &str) -> Option<(usize, Self, &str)> {
        match self {
            Self::Leaf => None,
            Self::Array(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item.span().start, Self::of(item.get_ref()), rest))
            }
            Self::Table(table) => {
                // A name may have dots of its own: the longest that fits is meant.
                let path = path.strip_prefix('.').unwrap_or(path);
                let fits = table.iter().filter_map(|(key, value)| {
                    let rest = after(path, key.get_ref())?;
                    Some((key.span().start, Self::of(value.get_ref()), rest))
                });
                fits.min_by_key(|(_, _, rest)| rest.len())
            }
        }
    }

    fn of(value: &'a DeValue<'a>) -> Self {
        match value {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(items) => Self::Array(items),
            _ => Self::Leaf,
        }
    }
}

/// What follows a name, which may stand in quotes, at the beginning of a path.
fn after<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let quoted = || path.strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"');
    let rest = quoted().or_else(|| path.strip_prefix(name))?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

//! The text form of data sheets: rows of named figures, each with its source.
//!
//! ```text
//! # a comment
//! accelerator h100-sxm = H100 SXM, H100     a row: its kind, its name, other names
//!   source NVIDIA data sheet                 where the figures below come from
//!   hbm_gib 80                               a figure
//!   tdp_watts 700 ; elsewhere                a figure with a source of its own
//! ```

use std::fmt;

/// A line of a sheet that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sheet}, line {line}: {what}")]
pub struct SheetError {
    /// The sheet: a file's name.
    pub sheet: String,
    /// The line, from 1.
    pub line: usize,
    /// What was found and what was expected.
    pub what: String,
}

/// A figure that was needed and that the sheets do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sheet}: {kind} `{row}` does not state `{figure}`")]
pub struct Missing {
    /// The sheet: a file's name.
    pub sheet: String,
    /// The kind of the row: `accelerator`, `model`, `engine`.
    pub kind: &'static str,
    /// The row's name.
    pub row: String,
    /// The figure's key; its unit is the end of it.
    pub figure: &'static str,
}

/// One figure of a row.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    key: &'static str,
    value: f64,
    source: String,
}

/// A row: named figures, all finite and not negative, each with its source.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    sheet: String,
    kind: &'static str,
    name: String,
    also: Vec<String>,
    line: usize,
    words: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

/// What rows of a kind may say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Keys whose value is a number.
    pub(crate) figures: &'static [&'static str],
    /// Keys whose value is a word.
    pub(crate) words: &'static [&'static str],
}

impl Row {
    /// A row that was not read from a sheet's text.
    pub(crate) fn new(kind: Kind, sheet: &str, name: &str) -> Self {
        Self {
            sheet: sheet.to_owned(),
            kind: kind.name,
            name: name.to_owned(),
            also: Vec::new(),
            line: 0,
            words: Vec::new(),
            figures: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, key: &'static str, value: f64, source: &str) {
        self.figures.push(Figure { key, value, source: source.to_owned() });
    }

    pub(crate) fn put_word(&mut self, key: &'static str, word: &str) {
        self.words.push((key, word.to_owned()));
    }

    /// The row's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sheet it is in.
    #[must_use]
    pub fn sheet(&self) -> &str {
        &self.sheet
    }

    /// Whether it goes by this name, in any case of letters.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.names().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Its name and its other names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.also.iter().map(String::as_str))
    }

    /// A figure, in the unit that its key ends with; `None` if the sheet does not state it.
    #[must_use]
    pub fn stated(&self, key: &'static str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }

    /// A figure, in the unit that its key ends with.
    ///
    /// # Errors
    /// [`Missing`] names sheet, row and figure.
    pub fn figure(&self, key: &'static str) -> Result<f64, Missing> {
        self.stated(key).ok_or_else(|| self.missing(key))
    }

    pub(crate) fn missing(&self, figure: &'static str) -> Missing {
        Missing { sheet: self.sheet.clone(), kind: self.kind, row: self.name.clone(), figure }
    }

    pub(crate) fn word(&self, key: &'static str) -> Option<&str> {
        self.words.iter().find(|(own, _)| *own == key).map(|(_, word)| word.as_str())
    }

    /// Every figure that is stated: key, value, source.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, f64, &str)> {
        self.figures.iter().map(|figure| (figure.key, figure.value, figure.source.as_str()))
    }

    /// An error at the row's first line.
    pub(crate) fn wrong(&self, what: impl fmt::Display) -> SheetError {
        SheetError {
            sheet: self.sheet.clone(),
            line: self.line,
            what: format!("{} `{}`: {what}", self.kind, self.name),
        }
    }
}

/// Reads the rows of a sheet.
pub(crate) fn rows(kind: Kind, sheet: &str, text: &str) -> Result<Vec<Row>, SheetError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut source = String::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let wrong = |what: String| SheetError { sheet: sheet.to_owned(), line, what };
        let words = text.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        let (key, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        if !text.starts_with(char::is_whitespace) {
            if key != kind.name {
                return Err(wrong(format!("expected `{} NAME`, found `{key}`", kind.name)));
            }
            let (name, also) = rest.split_once('=').unwrap_or((rest, ""));
            let mut row = Row::new(kind, sheet, name.trim());
            row.also = also.split(',').map(|name| name.trim().to_owned()).collect();
            row.also.retain(|name| !name.is_empty());
            row.line = line;
            if row.name.is_empty() {
                return Err(wrong(format!("expected a name after `{}`", kind.name)));
            }
            for name in row.names() {
                if let Some(twin) = rows.iter().find(|twin| twin.is_called(name)) {
                    return Err(wrong(format!("`{name}` is a name of line {} too", twin.line)));
                }
            }
            source.clear();
            rows.push(row);
            continue;
        }
        let Some(row) = rows.last_mut() else {
            return Err(wrong(format!("`{key}` stands before the first `{} NAME`", kind.name)));
        };
        let rest = rest.trim();
        if key == "source" {
            if rest.is_empty() {
                return Err(wrong("expected a source, found nothing".to_owned()));
            }
            rest.clone_into(&mut source);
            continue;
        }
        if let Some(key) = kind.words.iter().find(|own| **own == key) {
            if rest.is_empty() {
                return Err(wrong(format!("`{key}`: expected a word, found nothing")));
            }
            if row.word(key).is_some() {
                return Err(wrong(format!("`{key}` is stated twice")));
            }
            row.words.push((key, rest.to_owned()));
            continue;
        }
        let Some(key) = kind.figures.iter().find(|own| **own == key) else {
            let known = [kind.figures, kind.words].concat().join("`, `");
            return Err(wrong(format!("unknown `{key}`, expected one of `source`, `{known}`")));
        };
        let (value, own) = rest.split_once(';').unwrap_or((rest, ""));
        let value = value.trim();
        let number = value.parse::<f64>().ok();
        let Some(number) = number.filter(|number| number.is_finite() && *number >= 0.0) else {
            return Err(wrong(format!("`{key}`: expected a number, found `{value}`")));
        };
        if row.stated(key).is_some() {
            return Err(wrong(format!("`{key}` is stated twice")));
        }
        let own = own.trim();
        let from = if own.is_empty() { source.as_str() } else { own };
        if from.is_empty() {
            return Err(wrong(format!(
                "`{key}` has no source: expected a line `source ...` before it, or `; ...` after it"
            )));
        }
        row.put(key, number, from);
    }
    Ok(rows)
}

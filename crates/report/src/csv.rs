//! CSV as in RFC 4180, safe to open in a spreadsheet.

/// Rows of fields with CRLF ends.
#[derive(Debug, Clone, Default)]
pub struct Csv(String);

impl Csv {
    /// Adds a row.
    pub fn row<I: IntoIterator<Item = S>, S: AsRef<str>>(&mut self, fields: I) {
        for (index, field) in fields.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            let field = field.as_ref();
            if field.contains([',', '"', '\r', '\n']) {
                self.0.push('"');
                self.0.push_str(&field.replace('"', "\"\""));
                self.0.push('"');
            } else {
                self.0.push_str(field);
            }
        }
        self.0.push_str("\r\n");
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

/// A text from outside as a field. A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@`
/// (or with a tab or line end before one), so such a label is given a leading `'`.
#[must_use]
pub fn label(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

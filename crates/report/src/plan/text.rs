//! A plan for a terminal.

use crate::table::{Style, printable, wrapped};

use super::PlanReport;

impl PlanReport<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let line = wrapped(&printable(&self.headline()), style.width);
        let mut out: String = line.iter().map(|line| style.heading(line) + "\n").collect();
        for section in self.sections() {
            out += &section.text(style);
        }
        out.push('\n');
        for note in self.notes() {
            out += &style.faint_words(&note);
        }
        out
    }
}

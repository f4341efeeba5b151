//! A plan for a terminal.

use crate::table::{Style, printable, wrapped};

use super::PlanReport;
use super::sections::Block;

impl PlanReport<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let line = wrapped(&printable(&self.headline()), style.width);
        let mut out: String = line.iter().map(|line| style.heading(line) + "\n").collect();
        for section in self.sections() {
            out += &format!("\n{}\n", style.heading(&section.title));
            for block in section.blocks {
                out += &match block {
                    Block::Table(table) => table.render(style),
                    Block::Words(words) => style.wrapped_words(&words),
                    Block::Faint(words) => style.faint_words(&words),
                };
            }
        }
        out.push('\n');
        for note in self.notes() {
            out += &style.faint_words(&note);
        }
        out
    }
}

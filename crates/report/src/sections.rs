//! Reports as sections of tables and words, for a terminal and for a page.

use crate::page::words;
use crate::table::{Style, Table, printable, wrapped};

/// A part of a report under a heading.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) blocks: Vec<Block>,
}

/// What stands in a section.
pub(crate) enum Block {
    Table(Table),
    Words(String),
    /// Words of less weight.
    Faint(String),
}

/// A report for a terminal: its headline, its sections, and notes of less weight.
pub(crate) fn text(headline: &str, sections: &[Section], notes: &[String], style: Style) -> String {
    let headline = wrapped(&printable(headline), style.width);
    let headline = headline.iter().map(|line| style.heading(line) + "\n");
    let sections = sections.iter().map(|section| section.text(style));
    let notes = notes.iter().map(|note| style.faint_words(note));
    headline.chain(sections).chain(["\n".to_owned()]).chain(notes).collect()
}

impl Section {
    /// With an empty line and its heading before it.
    pub(crate) fn text(&self, style: Style) -> String {
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Table(table) => table.render(style),
            Block::Words(words) => style.wrapped_words(words),
            Block::Faint(words) => style.faint_words(words),
        });
        format!("\n{}\n{}", style.heading(&self.title), blocks.collect::<String>())
    }

    /// What stands under the heading of a page.
    pub(crate) fn html(&self) -> String {
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Table(table) => table.html(),
            Block::Words(text) | Block::Faint(text) => words(text),
        });
        blocks.collect()
    }
}

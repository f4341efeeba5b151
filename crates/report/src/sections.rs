//! Reports as sections of tables and words, for a terminal and for a page.

use crate::page::words;
use crate::table::{Style, Table};

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

//! Plain tables for terminals.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::page::escape;

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; minor figures are left out and long labels are cut to fit.
    pub width: usize,
    /// Whether ANSI colour may be used.
    pub colour: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 120, colour: false }
    }
}

impl Style {
    /// A text set apart as a heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A text of less weight.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Words of less weight, in lines no wider than asked for.
    #[must_use]
    pub fn faint_words(self, text: &str) -> String {
        wrapped(text, self.width).iter().map(|line| self.faint(line) + "\n").collect()
    }

    /// Words in lines no wider than asked for.
    #[must_use]
    pub fn wrapped_words(self, text: &str) -> String {
        wrapped(text, self.width).iter().map(|line| line.clone() + "\n").collect()
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

#[derive(Debug, Clone)]
struct Column {
    align: Align,
    header: String,
    /// The most cells that its text takes.
    most: usize,
    /// Whether its words may go on in a line below.
    wraps: bool,
    /// Its turn to be left out where there is no room; `None`: never.
    turn: Option<u8>,
}

/// A table: text columns to the left, numbers to the right, a rule under the header, the total
/// below a rule of its own.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    total: Option<Vec<String>>,
}

/// The least that a label column is cut to.
const LABEL_MIN: usize = 8;
/// Before labels are cut below this, minor figures are left out.
const LABEL_READABLE: usize = 16;
/// The least that a column of words is wrapped to.
const PROSE_MIN: usize = 24;
/// The most that a label takes: one long name does not push the figures away.
const LABEL_MAX: usize = 48;
const GAP: &str = "  ";

impl Table {
    /// A column of labels.
    #[must_use]
    pub fn text(self, header: &str) -> Self {
        self.column(Align::Left, printable(header), LABEL_MAX)
    }

    /// A column of words, which go on in a line below where there is no room.
    #[must_use]
    pub fn prose(self, header: &str) -> Self {
        let mut table = self.column(Align::Left, header.to_owned(), usize::MAX);
        if let Some(column) = table.columns.last_mut() {
            column.wraps = true;
        }
        table
    }

    /// A column of numbers. A line end in the header breaks it.
    #[must_use]
    pub fn number(self, header: &str) -> Self {
        self.column(Align::Right, header.to_owned(), usize::MAX)
    }

    /// A column of numbers that is left out where there is no room for it: turn 1 goes first.
    #[must_use]
    pub fn minor(self, header: &str, turn: u8) -> Self {
        let mut table = self.number(header);
        if let Some(column) = table.columns.last_mut() {
            column.turn = Some(turn);
        }
        table
    }

    fn column(mut self, align: Align, header: String, most: usize) -> Self {
        self.columns.push(Column { align, header, most, wraps: false, turn: None });
        self
    }

    /// Adds a row: one cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Sets the row below the rule.
    pub fn total(&mut self, cells: impl IntoIterator<Item = String>) {
        self.total = Some(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table as lines, none wider than `style.width` as long as anything can give way: first
    /// minor figures, in their turns, then labels.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let mut table = self.clone();
        while table.least() > style.width
            && let Some(index) = table.next_to_go()
        {
            table.columns.remove(index);
            for row in table.rows.iter_mut().chain(&mut table.total) {
                row.remove(index);
            }
        }
        table.rendered(style)
    }

    /// The table as HTML, with all columns; minor figures are marked, so that a narrow page can leave
    /// them out.
    #[must_use]
    pub fn html(&self) -> String {
        let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells =
                self.columns.iter().zip(cells).enumerate().map(|(index, (column, cell))| {
                    let class = match column.align {
                        Align::Left => "text",
                        Align::Right if column.turn.is_some() => "number minor",
                        Align::Right => "number",
                    };
                    let (tag, scope) = match (tag, index) {
                        ("th", _) => ("th", " scope=\"col\""),
                        (_, 0) => ("th", " scope=\"row\""),
                        _ => ("td", ""),
                    };
                    format!(
                        "<{tag} class=\"{class}\"{scope}>{}</{tag}>",
                        escape(cell).replace('\n', "<br>")
                    )
                });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let head = line("th", &mut self.columns.iter().map(|column| column.header.as_str()));
        let row = |row: &Vec<String>| line("td", &mut row.iter().map(String::as_str));
        let rows: String = self.rows.iter().map(row).collect();
        let total = self
            .total
            .as_ref()
            .map_or_else(String::new, |total| format!("<tfoot>{}</tfoot>\n", row(total)));
        format!(
            "<div class=\"scroll\"><table>\n<thead>{head}</thead>\n<tbody>\n{rows}</tbody>\n{total}</table></div>\n"
        )
    }

    /// The width with every label cut as far as it stays readable.
    fn least(&self) -> usize {
        let widths = self.natural(&self.marked());
        let least = widths.iter().zip(&self.columns).map(|(width, column)| match column.align {
            Align::Left if column.wraps => (*width).min(PROSE_MIN),
            Align::Left => (*width).min(LABEL_READABLE),
            Align::Right => *width,
        });
        least.sum::<usize>() + self.gaps()
    }

    fn next_to_go(&self) -> Option<usize> {
        let turns = self.columns.iter().enumerate();
        let turns = turns.filter_map(|(index, column)| Some((column.turn?, index)));
        turns.min().map(|(_, index)| index)
    }

    fn rendered(&self, style: Style) -> String {
        let marked = self.marked();
        let widths = self.widths(style.width, &marked);
        let mut out = String::new();
        let lines = self.columns.iter().map(|column| column.header.lines().count()).max();
        for line in 0..lines.unwrap_or(0) {
            let cells = self.columns.iter().zip(&marked).map(|(column, marked)| {
                let parts: Vec<&str> = column.header.lines().collect();
                // Headers of fewer lines stand on the rule.
                let above = lines.unwrap_or(0) - parts.len();
                let part = line.checked_sub(above).and_then(|index| parts.get(index).copied());
                format!("{}{}", part.unwrap_or(""), if *marked { " " } else { "" })
            });
            let line = self.line(&cells.collect::<Vec<_>>(), &widths, &[]);
            out.push_str(&style.heading(&line));
            out.push('\n');
        }
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let rule = style.faint(&rules.join(GAP)) + "\n";
        out.push_str(&rule);
        for row in &self.rows {
            for line in self.wrapped(row, &widths) {
                out.push_str(&self.line(&line, &widths, &marked));
                out.push('\n');
            }
        }
        if let Some(total) = &self.total {
            out.push_str(&rule);
            out.push_str(&style.heading(&self.line(total, &widths, &marked)));
            out.push('\n');
        }
        out
    }

    /// A row as the lines that its words take; cells that do not wrap stand in the first.
    fn wrapped(&self, row: &[String], widths: &[usize]) -> Vec<Vec<String>> {
        let cells = row.iter().zip(&self.columns).zip(widths);
        let cells: Vec<Vec<String>> = cells
            .map(|((cell, column), width)| match column.wraps {
                true => wrapped(cell, *width),
                false => vec![cell.clone()],
            })
            .collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |cell: &Vec<String>, line: usize| cell.get(line).cloned().unwrap_or_default();
        (0..lines).map(|line| cells.iter().map(|one| cell(one, line)).collect()).collect()
    }

    /// Number columns in which some figure carries a `*`: the others get a space in its place, so
    /// that digits stay below digits.
    fn marked(&self) -> Vec<bool> {
        let marked = |index: usize| self.all_rows().any(|row| row[index].ends_with('*'));
        let columns = self.columns.iter().enumerate();
        columns.map(|(index, column)| column.align == Align::Right && marked(index)).collect()
    }

    fn all_rows(&self) -> impl Iterator<Item = &Vec<String>> {
        self.rows.iter().chain(&self.total)
    }

    /// How wide each column would be with room for everything.
    fn natural(&self, marked: &[bool]) -> Vec<usize> {
        let widths = self.columns.iter().enumerate().map(|(index, column)| {
            let header = column.header.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
            let pad = usize::from(marked[index]);
            let cells = self
                .all_rows()
                .map(|row| row[index].width() + if row[index].ends_with('*') { 0 } else { pad });
            cells.max().unwrap_or(0).min(column.most).max(header + pad)
        });
        widths.collect()
    }

    fn gaps(&self) -> usize {
        GAP.len() * self.columns.len().saturating_sub(1)
    }

    fn widths(&self, limit: usize, marked: &[bool]) -> Vec<usize> {
        let mut widths = self.natural(marked);
        // The widest label gives way first.
        while widths.iter().sum::<usize>() + self.gaps() > limit {
            let labels = widths.iter_mut().zip(&self.columns).filter(|(width, column)| {
                let least = if column.wraps { PROSE_MIN } else { LABEL_MIN };
                column.align == Align::Left && **width > least
            });
            // Words are not lost where they wrap, so they give way before labels.
            match labels.max_by_key(|(width, column)| (column.wraps, **width)) {
                Some((width, _)) => *width -= 1,
                None => break,
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize], marked: &[bool]) -> String {
        let mut line = String::new();
        for (index, (column, width)) in self.columns.iter().zip(widths).enumerate() {
            if index > 0 {
                line.push_str(GAP);
            }
            let mut cell = shortened(&cells[index], *width);
            if marked.get(index).copied().unwrap_or(false) && !cell.ends_with('*') {
                cell.push(' ');
            }
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match column.align {
                Align::Left => line.extend([cell, pad]),
                Align::Right => line.extend([pad, cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A text from outside, safe for a terminal and for a log line: control characters and those that
/// turn the direction of writing are shown as escapes.
#[must_use]
pub fn printable(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A text of at most `width` terminal cells, cut with an ellipsis.
#[must_use]
pub fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        out.push(c);
    }
    out.push('\u{2026}');
    out
}

/// A text as lines of at most `width` cells, broken between words; a word that is wider than that
/// goes on in the next line.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let start = |lines: &mut Vec<String>, used: &mut usize| {
            lines.push(String::new());
            *used = 0;
        };
        if used > 0 && used + 1 + word.width() > width {
            start(&mut lines, &mut used);
        }
        if used > 0 {
            lines.last_mut().expect("never empty").push(' ');
            used += 1;
        }
        for c in word.chars() {
            let cells = c.width().unwrap_or(0);
            if used > 0 && used + cells > width {
                start(&mut lines, &mut used);
            }
            lines.last_mut().expect("never empty").push(c);
            used += cells;
        }
    }
    lines
}

//! Text in columns, as wide as it must be and as there is room for.

use super::text;
use unicode_width::UnicodeWidthStr;

/// Spaces between columns.
const GAP: usize = 2;

/// The narrowest that a name is cut to.
const NARROW: usize = 8;

/// A column's cells as they are shown.
pub struct Cells {
    /// The heading.
    pub heading: String,
    /// Numbers stand at the right; only what stands at the left is cut.
    pub right: bool,
    /// Rank where there is little room: the highest goes first, 0 stays.
    pub dispensable: u8,
    /// The cells from the top.
    pub rows: Vec<String>,
    /// The cell below them.
    pub total: String,
    width: usize,
}

impl Cells {
    /// A column with its rows, and nothing below them.
    pub fn new(heading: &str, right: bool, dispensable: u8, rows: Vec<String>) -> Cells {
        Cells { heading: heading.into(), right, dispensable, rows, total: String::new(), width: 0 }
    }

    /// The same with a cell below the rows.
    pub fn with_total(self, total: String) -> Cells {
        Cells { total, ..self }
    }

    fn measure(&mut self) {
        let all = self.rows.iter().chain([&self.heading, &self.total]);
        self.width = all.map(|text| text.width()).max().unwrap_or(0);
    }

    fn pad(&self, text: &str) -> String {
        if self.right { text::right(text, self.width) } else { text::left(text, self.width) }
    }
}

/// Columns that fit.
pub struct Grid {
    columns: Vec<Cells>,
    /// The headings of those that found no room, from left to right.
    pub dropped: Vec<String>,
}

impl Grid {
    /// Takes out the most dispensable columns, then shortens names, until the rest is at most
    /// `width` wide or nothing more can go.
    pub fn fit(columns: Vec<Cells>, width: usize) -> Grid {
        let mut columns: Vec<(usize, Cells)> = columns.into_iter().enumerate().collect();
        columns.iter_mut().for_each(|(_, cells)| cells.measure());
        let excess = |columns: &[(usize, Cells)]| {
            let all: usize = columns.iter().map(|(_, cells)| cells.width + GAP).sum();
            all.saturating_sub(GAP).saturating_sub(width)
        };
        let mut dropped = Vec::new();
        while excess(&columns) > 0 {
            let last = (0..columns.len()).max_by_key(|&at| columns[at].1.dispensable);
            let Some(at) = last.filter(|&at| columns[at].1.dispensable > 0) else { break };
            dropped.push(columns.remove(at));
        }
        for at in 0..columns.len() {
            let excess = excess(&columns);
            let cells = &mut columns[at].1;
            if excess > 0 && !cells.right && cells.width > NARROW {
                let width = cells.width.saturating_sub(excess).max(NARROW);
                cells.rows.iter_mut().for_each(|text| *text = text::clean(text, width));
                cells.measure();
            }
        }
        dropped.sort_by_key(|(at, _)| *at);
        Grid {
            columns: columns.into_iter().map(|(_, cells)| cells).collect(),
            dropped: dropped.into_iter().map(|(_, cells)| cells.heading).collect(),
        }
    }

    /// The line above the rows.
    pub fn header(&self) -> String {
        self.line(|cells| &cells.heading)
    }

    /// The rows from the top.
    pub fn rows(&self) -> impl Iterator<Item = String> {
        let count = self.columns.first().map_or(0, |cells| cells.rows.len());
        (0..count).map(|at| self.line(|cells| &cells.rows[at]))
    }

    /// The line below the rows.
    pub fn total(&self) -> String {
        self.line(|cells| &cells.total)
    }

    fn line(&self, cell: impl Fn(&Cells) -> &str) -> String {
        let cells: Vec<String> = self.columns.iter().map(|cells| cells.pad(cell(cells))).collect();
        cells.join(&" ".repeat(GAP))
    }
}

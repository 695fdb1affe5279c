//! Places on the screen, for keys and the mouse.

use ratatui::layout::{Position, Rect};

/// A heading that can be clicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Its column.
    pub key: &'static str,
    /// Its place.
    pub area: Rect,
}

/// Places of what was drawn last.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// Headings.
    pub headings: Vec<Heading>,
    /// Rows.
    pub rows: Rect,
    /// Number of the first row that is visible.
    pub top: usize,
    /// Number of lines by which text can be scrolled.
    pub lines: usize,
    /// Place of the cursor, if there is one.
    pub cursor: Option<Position>,
}

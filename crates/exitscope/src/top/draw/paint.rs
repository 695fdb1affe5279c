//! Colours, bars, sparklines and text in cells. Only the sixteen colours that every terminal has, on whatever background it
//! has; and nothing is told by colour alone.

use exitscope_view::prose::Kind;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

/// Choice of styles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colours are used.
    pub color: bool,
}

/// Part of a vCPU's time.
pub struct Part {
    /// Name of the part.
    pub name: &'static str,
    /// Character that bars of the part are made of.
    pub glyph: char,
    color: Color,
}

/// The parts of a time, in their order.
pub const PARTS: [Part; 5] = [
    Part { name: "guest", glyph: '█', color: Color::Green },
    Part { name: "kernel", glyph: '▓', color: Color::Cyan },
    Part { name: "user", glyph: '▒', color: Color::Magenta },
    Part { name: "waiting", glyph: '×', color: Color::Red },
    Part { name: "halted", glyph: '·', color: Color::Reset },
];

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Look {
    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// Returns the style of text that stands out.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Returns the style of text in the background.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Returns the style of names of VMs and reasons.
    pub fn name(self) -> Style {
        self.colored(Color::Cyan)
    }

    /// Returns the style of the chosen row, and of keys.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A part of a time.
    pub fn part(self, at: usize) -> Style {
        let style = self.colored(PARTS[at].color);
        if at == 4 { style.add_modifier(Modifier::DIM) } else { style }
    }

    /// Bars and sparklines.
    pub fn figure(self) -> Style {
        self.colored(Color::Green)
    }

    /// A sentence.
    pub fn prose(self, kind: Kind) -> Style {
        match kind {
            Kind::Heading => self.strong(),
            Kind::Plain => Style::new(),
            Kind::Aside => self.faint(),
            Kind::Good => self.colored(Color::Green),
            Kind::Warning => self.colored(Color::Yellow),
            Kind::Alarm => self.colored(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Writes text from (`x`, `y`) on, in at most `width` columns of `area`; says how many it took.
pub fn put(buf: &mut Buffer, area: Rect, x: u16, y: u16, width: usize, text: &str, style: Style) -> u16 {
    let area = area.intersection(buf.area);
    if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
        return 0;
    }
    let room = usize::from(area.right() - x).min(width);
    let (end, _) = buf.set_stringn(x, y, text, room, style);
    end - x
}

/// The same at the right of `width` columns.
pub fn put_right(buf: &mut Buffer, area: Rect, x: u16, y: u16, width: usize, text: &str, style: Style) {
    let indent = u16::try_from(width.saturating_sub(text.width())).unwrap_or(0);
    put(buf, area, x.saturating_add(indent), y, width, text, style);
}

/// Splits `width` cells among the parts, each as near to its share as can be.
pub fn cells(parts: [u64; 5], width: usize) -> [usize; 5] {
    let all: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    let mut cells = [0; 5];
    if all == 0 {
        return cells;
    }
    let exact = |part: u64| u128::from(part) * width as u128;
    for (cells, part) in cells.iter_mut().zip(parts) {
        *cells = usize::try_from(exact(part) / all).unwrap_or(0);
    }
    let mut by_rest: Vec<usize> = (0..parts.len()).filter(|at| parts[*at] > 0).collect();
    by_rest.sort_by_key(|at| std::cmp::Reverse(exact(parts[*at]) % all));
    let missing = width.saturating_sub(cells.iter().sum());
    for at in by_rest.into_iter().cycle().take(missing) {
        cells[at] += 1;
    }
    cells
}

/// A bar of the parts of a time.
pub fn bar(buf: &mut Buffer, area: Rect, x: u16, y: u16, width: usize, parts: [u64; 5], look: Look) {
    let mut x = x;
    for (at, cells) in cells(parts, width).into_iter().enumerate() {
        let text: String = std::iter::repeat_n(PARTS[at].glyph, cells).collect();
        x += put(buf, area, x, y, cells, &text, look.part(at));
    }
}

/// A sparkline: from its lowest line, nothing, to its highest, the greatest of all.
pub fn sparkline(rates: &[Option<f64>]) -> String {
    let most = rates.iter().flatten().copied().fold(0.0, f64::max);
    let level = |rate: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let level = if most > 0.0 { (rate / most * 7.0).ceil() as usize } else { 0 };
        LEVELS[level.min(7)]
    };
    rates.iter().map(|rate| rate.map_or(' ', level)).collect()
}

/// A bar of one figure, to an eighth of a cell; of more than nothing something is seen.
pub fn gauge(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut text: String = std::iter::repeat_n('█', eighths / 8).collect();
    if eighths % 8 > 0 && eighths / 8 < width {
        text.push(EIGHTHS[eighths % 8]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_drawn_to_scale() {
        assert_eq!(sparkline(&[None, Some(0.0), Some(1.0), Some(50.0), Some(100.0)]), " ▁▂▅█");
        assert_eq!(sparkline(&[Some(0.0); 3]), "▁▁▁");
        assert_eq!([0.0, 0.001, 0.5, 0.55, 1.0].map(|share| gauge(share, 4)), ["", "▏", "██", "██▎", "████"]);
        assert_eq!(cells([50, 25, 0, 0, 25], 8), [4, 2, 0, 0, 2]);
        assert_eq!(cells([0; 5], 8), [0; 5]);
    }

    proptest! {
        #[test]
        fn a_bar_is_as_wide_as_asked_and_no_part_is_far_from_its_share(
            parts in any::<[u32; 5]>(), width in 0usize..300,
        ) {
            let parts = parts.map(u64::from);
            let all: u64 = parts.iter().sum();
            prop_assume!(all > 0);
            let cells = cells(parts, width);
            prop_assert_eq!(cells.iter().sum::<usize>(), width);
            for (part, cells) in parts.into_iter().zip(cells) {
                #[allow(clippy::cast_precision_loss)]
                let exact = part as f64 / all as f64 * width as f64;
                #[allow(clippy::cast_precision_loss)]
                let off = (cells as f64 - exact).abs();
                prop_assert!(off <= 1.0, "{} of {}", cells, exact);
            }
        }
    }
}

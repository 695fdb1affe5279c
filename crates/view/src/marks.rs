//! The marks of a machine's life as a list.

use super::{text, unit};
use exitscope_analysis::boot_report::{Mark, Origin};

/// Number of marks that are shown: of more, the first and the last.
const SHOWN: usize = 40;

/// Columns of a mark's text that are shown.
const TEXT: usize = 80;

/// A line for each mark: when, where it comes from, and its text; nothing where there is none.
pub fn render(marks: &[Mark], left_out: u64) -> String {
    if marks.is_empty() && left_out == 0 {
        return String::new();
    }
    let times: Vec<String> = marks.iter().map(|mark| unit::duration(mark.at)).collect();
    let width = times.iter().map(String::len).max().unwrap_or(0);
    let mut lines: Vec<String> = marks
        .iter()
        .zip(&times)
        .map(|(Mark { origin, text, .. }, time)| {
            let origin = match origin {
                Origin::Hand => "by hand",
                Origin::Port { .. } => "guest  ",
            };
            format!("  {}  {origin}  {}\n", text::right(time, width), text::clean(text, TEXT))
        })
        .collect();
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        let between = format!("  and {} between these\n", unit::counted(more as u64, "mark"));
        lines.splice(SHOWN / 2..SHOWN / 2 + more, [between]);
    }
    if left_out > 0 {
        lines.push(format!("  and {} that are not kept\n", unit::counted(left_out, "mark")));
    }
    format!("Marks:\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn marks_are_listed_and_bounded() {
        assert_eq!(render(&[], 0), "");
        let at = Duration::from_millis;
        let hand = Mark { at: at(1500), origin: Origin::Hand, text: "half\x1b[2J\u{202e}way".into() };
        let marks = [hand.clone(), Mark::port(at(12_250), 0xf4, 0x10)];
        insta::assert_snapshot!(render(&marks, 3));
        let many = render(&vec![hand; 10_000], 0);
        assert_eq!(many.lines().count(), SHOWN + 2);
        assert!(many.contains("and 9,960 marks between these"), "{many}");
    }
}

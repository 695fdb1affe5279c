//! Names along an axis, none over another.

use super::timeline::TEXT;
use unicode_width::UnicodeWidthStr;

/// A name and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The text.
    pub text: String,
    /// Its left end, or its right one.
    pub x: f64,
    /// It ends at `x`, because there is no room to the right.
    pub flip: bool,
    /// Its line, from the top; `None` where there is no room for it.
    pub line: Option<usize>,
}

/// Returns the width of a text in pixels, about: the fonts of readers differ.
pub fn width(text: &str) -> f64 {
    let columns = u32::try_from(text.width()).unwrap_or(u32::MAX);
    f64::from(columns) * TEXT * 0.58
}

/// Gives each of `names` (from, to, what) the first of so many lines in which it is free from there on.
/// Names of a longer stretch come first, so that what there is no room for is what lasted least.
pub fn place(names: impl Iterator<Item = (f64, f64, String)>, right: f64, lines: usize) -> Vec<Label> {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    let mut labels: Vec<Label> = names
        .map(|(from, to, text)| {
            stretches.push((from, to));
            let flip = from + width(&text) + 6.0 > right;
            Label { text, x: if flip { from.max(to.min(right)) } else { from + 4.0 }, flip, line: None }
        })
        .collect();
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| {
        let length = |place: usize| stretches[place].1 - stretches[place].0;
        length(b).total_cmp(&length(a)).then(a.cmp(&b))
    });
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); lines];
    for place in order.into_iter().take(200) {
        let label = &labels[place];
        let wide = width(&label.text) + 6.0;
        let (from, to) = if label.flip { (label.x - wide, label.x) } else { (label.x - 4.0, label.x + wide) };
        if label.text.is_empty() || from < 0.0 {
            continue;
        }
        let free = taken.iter().position(|line| line.iter().all(|&(a, b)| b <= from || a >= to));
        if let Some(line) = free {
            taken[line].push((from, to));
            labels[place].line = Some(line);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_meet() {
        let names = [
            (0.0, 10.0, "firmware"),
            (10.0, 12.0, "loader"),
            (12.0, 300.0, "kernel"),
            (395.0, 400.0, "login"),
        ];
        let names = names.map(|(from, to, text)| (from, to, text.to_owned()));
        let labels = place(names.clone().into_iter(), 400.0, 3);
        let lines: Vec<_> = labels.iter().map(|label| label.line).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(0), Some(0)]);
        assert!(labels[3].flip);
        let labels = place(names.into_iter(), 400.0, 1);
        assert_eq!(labels.iter().filter(|label| label.line.is_some()).count(), 2);
    }
}

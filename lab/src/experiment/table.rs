//! What tables consist of: figures with their spread, and Markdown.

use std::fmt::Write;

use super::report::float;
use crate::thousands::group;

/// In place of a figure that makes no sense.
pub(super) const NONE: &str = "–";

/// The middle one of several figures, and the outermost ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of at least one figure; of an even number, the median is the mean of the middle two.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }

    /// `1,234 (1,200 to 1,250)`, and without the spread where there is none.
    pub(super) fn show(self) -> String {
        let (median, min, max) = (group(self.median), group(self.min), group(self.max));
        if min == max { median } else { format!("{median} ({min} to {max})") }
    }
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(super) fn head(first: &str, rest: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(rest).collect()
}

/// The first row is the head. Columns of figures are aligned to the right.
pub(super) fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    if rows.len() < 2 {
        return "No run of these yet.\n".into();
    }
    let is_figure = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit()) || cell == NONE;
    for (number, row) in rows.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if number == 0 {
            for column in 0..row.len() {
                let figures = rows[1..].iter().filter_map(|row| row.get(column)).all(is_figure);
                out.push_str(if figures { "|---:" } else { "|---" });
            }
            out.push_str("|\n");
        }
    }
    out
}

pub(super) fn count(value: u64) -> String {
    group(float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(of(&[1234.0, 1234.4]).unwrap().show(), "1,234");
        assert_eq!(of(&[1_234_567.0, 8.0, 12.0]).unwrap().show(), "12 (8 to 1,234,567)");
    }
}

//! Medians, quartiles and spread of a few figures: the only place that computes them.

/// Median, quartiles and extremes of some figures.
///
/// ```
/// use exitscope_model::Summary;
///
/// let exits = Summary::of([113_407.0, 111_828.0, 115_077.0]).unwrap();
/// assert_eq!((exits.least, exits.median, exits.most), (111_828.0, 113_407.0, 115_077.0));
/// assert_eq!(exits.spread(), 3249.0);
/// assert_eq!(Summary::of([]), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The smallest figure.
    pub least: f64,
    /// The first quartile: a quarter of the figures is below it.
    pub lower: f64,
    /// The figure in the middle; the mean of the two in the middle of an even number of figures.
    pub median: f64,
    /// The third quartile: a quarter of the figures is above it.
    pub upper: f64,
    /// The greatest figure.
    pub most: f64,
}

impl Summary {
    /// Summarizes figures in any order. Returns `None` if there are none.
    ///
    /// A quartile between two figures is interpolated linearly.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        let quartile = |quarter: usize| {
            let (at, rest) = (last * quarter / 4, last * quarter % 4);
            let next = figures[(at + 1).min(last)];
            match rest {
                0 => figures[at],
                1 => figures[at] + (next - figures[at]) / 4.0,
                2 => f64::midpoint(figures[at], next),
                _ => next - (next - figures[at]) / 4.0,
            }
        };
        Some(Summary {
            least: figures[0],
            lower: quartile(1),
            median: quartile(2),
            upper: quartile(3),
            most: figures[last],
        })
    }

    /// Returns the difference between the greatest figure and the smallest.
    pub fn spread(&self) -> f64 {
        self.most - self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[f64]) -> [f64; 5] {
        let summary = Summary::of(figures.iter().copied()).unwrap();
        [summary.least, summary.lower, summary.median, summary.upper, summary.most]
    }

    #[test]
    fn quartiles_are_interpolated_between_figures_in_any_order() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(of(&[7.0]), [7.0; 5]);
        assert_eq!(of(&[4.0, 2.0]), [2.0, 2.5, 3.0, 3.5, 4.0]);
        assert_eq!(of(&[1.0, 2.0, 4.0, 8.0]), [1.0, 1.75, 3.0, 5.0, 8.0]);
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(of(&[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]), [0.0, 12.5, 25.0, 37.5, 50.0]);
    }
}

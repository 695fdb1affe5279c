//! Time that watching adds to an exit, told apart from noise.

use exitscope_model::{Measured, Summary};
use exitscope_view::unit;
use std::fmt::Write;
use std::time::Duration;

/// Times of one exit of the same kind, watched and not, each the mean of many in a row, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Times of an exit while nobody watched (ns).
    pub bare: Vec<f64>,
    /// Times while exits were watched, by level of detail.
    pub watched: Vec<Watched>,
}

/// Times of one exit while it is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Level of detail that is measured at each exit.
    pub measured: Measured,
    /// Time of one exit (ns).
    pub times: Vec<f64>,
    /// Times from each start until exits were counted.
    pub starts: Vec<Duration>,
}

/// The difference between watched and not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Added {
    /// The middle halves of the times lie apart.
    Measured {
        /// Difference of the medians (ns).
        median: f64,
        /// Distance between the nearest ends of the middle halves (ns).
        least: f64,
        /// Distance between their farthest ends (ns).
        most: f64,
    },
    /// The middle halves overlap: the cost is less than this (ns), and no more is known.
    Noise(f64),
}

/// Median and quartiles of some times.
fn middle_half(times: &[f64]) -> Option<Summary> {
    Summary::of(times.iter().copied())
}

/// Returns the time that watching added to an exit; `None` if either was never timed.
pub fn added(bare: &[f64], watched: &[f64]) -> Option<Added> {
    let (bare, watched) = (middle_half(bare)?, middle_half(watched)?);
    let (least, most) = (watched.lower - bare.upper, watched.upper - bare.lower);
    Some(if least > 0.0 {
        Added::Measured { median: watched.median - bare.median, least, most }
    } else {
        Added::Noise(most.max(bare.upper - bare.lower))
    })
}

fn time(ns: f64) -> String {
    // Times are not negative, and far below 2^53.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    unit::time(ns.max(0.0).round() as u64)
}

/// A line for each.
pub fn render(cost: &Cost) -> String {
    let mut out = String::new();
    if let Some(bare) = middle_half(&cost.bare) {
        let range = format!("({} to {})", time(bare.lower), time(bare.upper));
        let _ = writeln!(out, "  {:<32} {:>9}  {range}", "not watched", time(bare.median));
    }
    for watched in &cost.watched {
        let name = match watched.measured {
            Measured::Counts => "added by counting (--no-time)",
            Measured::Latency => "with times (--no-split)",
            Measured::Breakdown => "with times told apart",
        };
        let text = match added(&cost.bare, &watched.times) {
            None => continue,
            Some(Added::Measured { median, least, most }) => {
                format!("{:>9}  ({} to {})", time(median), time(least), time(most))
            }
            Some(Added::Noise(below)) => {
                format!("{:>9}  not measurable: within the noise, below {}", "-", time(below))
            }
        };
        let start = Summary::of(watched.starts.iter().map(|start| start.as_secs_f64() * 1e9))
            .map(|starts| format!("; from start to counting {}", time(starts.median)));
        let _ = writeln!(out, "  {name:<32} {text}{}", start.unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_where_it_exceeds_the_noise() {
        let bare = [100.0, 104.0, 96.0, 500.0, 100.0];
        let watched = [150.0, 154.0, 146.0, 150.0, 900.0];
        assert_eq!(added(&bare, &watched), Some(Added::Measured { median: 50.0, least: 46.0, most: 54.0 }));
        assert_eq!(added(&bare, &bare), Some(Added::Noise(4.0)));
        // Watched was faster: noise, and not less than nothing.
        assert_eq!(added(&watched, &bare), Some(Added::Noise(4.0)));
        assert_eq!(added(&bare, &[]), None);
    }

    #[test]
    fn a_line_for_each_that_was_timed() {
        let watched = |measured, times: &[f64]| Watched {
            measured,
            times: times.to_vec(),
            starts: vec![Duration::from_millis(140), Duration::from_millis(90), Duration::from_millis(131)],
        };
        let cost = Cost {
            bare: vec![1200.0, 1180.0, 1190.0, 1210.0, 1400.0],
            watched: vec![
                watched(Measured::Counts, &[1195.0, 1205.0, 1215.0]),
                watched(Measured::Latency, &[1310.0, 1300.0, 1320.0]),
                watched(Measured::Breakdown, &[1345.0, 1330.0, 1390.0]),
            ],
        };
        insta::assert_snapshot!("cost", render(&cost));
        assert_eq!(render(&Cost::default()), "");
    }
}

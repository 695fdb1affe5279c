//! A machine's life, or a part of it, as it is told: what was counted, what it did when, and what it said.

use super::console::Line;
use super::series::Series;
use super::spike::{self, Spike};
use crate::model::Interval;
use std::time::Duration;

/// Where a mark comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody made it, with `exitscope mark`.
    Hand,
    /// The guest wrote a byte to a port that is for such marks.
    Port {
        /// Which port.
        port: u16,
        /// The byte.
        value: u8,
    },
}

/// A moment that somebody marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, since the start.
    pub at: Duration,
    /// Where it comes from.
    pub origin: Origin,
    /// Its text, which may be anything.
    pub text: String,
}

/// What there is to tell. All times are since the start.
#[derive(Clone, Debug)]
pub struct Life {
    /// Everything that was counted, as one.
    pub whole: Interval,
    /// The same over time, and the phases.
    pub series: Series,
    /// The times that stand out, in their order.
    pub spikes: Vec<Spike>,
    /// What the machine said, in order. It may be anything.
    pub console: Vec<Line>,
    /// How many lines it said after those.
    pub left_out: u64,
    /// The marks, in order.
    pub marks: Vec<Mark>,
    /// What it ended with, e.g. `"inner login: " on the console`: nothing hostile.
    pub end: String,
}

impl Life {
    /// With the spikes of the series, nothing said and nothing marked.
    pub fn new(whole: Interval, series: Series, end: String) -> Life {
        let spikes = spike::find(&series);
        Life { whole, series, spikes, console: Vec::new(), left_out: 0, marks: Vec::new(), end }
    }

    /// The line that was last on the console at a moment, if there was any by then.
    pub fn line(&self, moment: Duration) -> Option<&Line> {
        let until = self.console.partition_point(|line| line.at <= moment);
        self.console[..until].last()
    }
}

//! Result of watching one boot, or a part of a recording: counts, phases, spikes, console and marks.

use super::console::Line;
use super::outcome::{Evidence, Outcome};
use super::phase_detector::PhaseStart;
use super::series::Series;
use super::spike::{self, Spike};
use crate::advice::{self, Advice, Host};
use exitscope_model::Interval;
use std::time::Duration;

/// Source of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user, with `exitscope mark`.
    Hand,
    /// The guest, by writing a byte to a port for marks.
    Port {
        /// The I/O port.
        port: u16,
        /// The byte written.
        value: u8,
    },
}

/// A marked moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Time since the start.
    pub at: Duration,
    /// Source of the mark.
    pub origin: Origin,
    /// Text of the mark: untrusted.
    pub text: String,
}

impl Mark {
    /// Mark of a byte written to a port; its text is like `port 0xf4: 0x10`.
    pub fn port(at: Duration, port: u16, value: u8) -> Mark {
        Mark { at, origin: Origin::Port { port, value }, text: format!("port {port:#x}: {value:#04x}") }
    }
}

/// Events of one interval, beside its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalEvents {
    /// Console lines that ended in the interval.
    pub lines: Vec<Line>,
    /// Marks made in the interval.
    pub marks: Vec<Mark>,
    /// Phases that are now known to have begun, in this interval or an earlier one.
    pub phases: Vec<PhaseStart>,
    /// Items dropped since the start.
    pub left_out: LeftOut,
}

/// Counts of items dropped after a limit was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Console lines.
    pub lines: u64,
    /// Bytes cut off from kept console lines.
    pub bytes: u64,
    /// Marks.
    pub marks: u64,
}

/// Counts, phases, spikes, console and marks of one boot. All times are since the start.
#[derive(Clone, Debug)]
pub struct BootReport {
    /// Sum of all intervals.
    pub whole: Interval,
    /// Counts over time, by phase.
    pub series: Series,
    /// Spikes in the order of time.
    pub spikes: Vec<Spike>,
    /// Console lines in the order of time: untrusted text.
    pub console: Vec<Line>,
    /// Number of console lines dropped after those.
    pub left_out: u64,
    /// Number of bytes cut off from console lines.
    pub bytes_left_out: u64,
    /// Marks in the order of time.
    pub marks: Vec<Mark>,
    /// Number of marks dropped.
    pub marks_left_out: u64,
    /// Event that ended it, in words that continue "until", e.g. `"inner login: " on the console`. Untrusted where
    /// it was read from a file.
    pub end: String,
    /// Outcome, where it was a boot.
    pub outcome: Option<Outcome>,
    /// Times at which lines and the guest's mode told of the same phase.
    pub evidence: Vec<Evidence>,
    /// Advice, what would save most first. Empty until [`BootReport::advise`] is called.
    pub advice: Vec<Advice>,
}

impl BootReport {
    /// Holds the rules of [`crate::advice`] against everything that was counted.
    pub fn advise(&mut self, host: &Host) {
        self.advice = advice::advise(&self.whole, host);
    }

    /// Report with the spikes of the series, without console lines and marks.
    pub fn new(whole: Interval, series: Series, end: String) -> BootReport {
        let spikes = spike::find(&series);
        BootReport {
            whole,
            series,
            spikes,
            console: Vec::new(),
            left_out: 0,
            bytes_left_out: 0,
            marks: Vec::new(),
            marks_left_out: 0,
            end,
            outcome: None,
            evidence: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Drops spikes, lines and marks of times that the series does not cover.
    pub fn cut(&mut self) {
        let places = self.series.forget_empty();
        let slices = self.series.slices();
        let holds = |at| {
            let after = slices.partition_point(|slice| slice.at <= at);
            slices[..after].last().is_some_and(|slice| at < slice.end())
        };
        self.spikes.retain(|spike| holds(spike.at));
        for spike in &mut self.spikes {
            spike.phase = places.get(spike.phase).copied().flatten().unwrap_or(0);
        }
        self.console.retain(|line| holds(line.at));
        self.marks.retain(|mark| holds(mark.at));
    }

    /// Last console line that began by `moment`.
    pub fn line(&self, moment: Duration) -> Option<&Line> {
        let until = self.console.partition_point(|line| line.at <= moment);
        self.console[..until].last()
    }
}

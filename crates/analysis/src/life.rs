//! A machine's life, or a part of it, as it is told: what was counted, what it did when, and what it said.

use super::console::Line;
use super::course::Begun;
use super::series::Series;
use super::spike::{self, Spike};
use exitscope_model::Interval;
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

impl Mark {
    /// What a guest wrote to a port; its text is like `port 0xf4: 0x10`.
    pub fn port(at: Duration, port: u16, value: u8) -> Mark {
        Mark { at, origin: Origin::Port { port, value }, text: format!("port {port:#x}: {value:#04x}") }
    }
}

/// What came with an interval, beside what was counted in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The lines that ended on the console.
    pub lines: Vec<Line>,
    /// The marks.
    pub marks: Vec<Mark>,
    /// The phases that are known by now to have begun.
    pub begun: Vec<Begun>,
    /// What was left out since the beginning.
    pub left_out: LeftOut,
}

/// What there was more than is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Lines of the console.
    pub lines: u64,
    /// Bytes of lines that are kept.
    pub bytes: u64,
    /// Marks.
    pub marks: u64,
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
    /// How many bytes its lines had that were too much for one line.
    pub bytes_left_out: u64,
    /// The marks, in order.
    pub marks: Vec<Mark>,
    /// How many marks there were besides.
    pub marks_left_out: u64,
    /// What it ended with, e.g. `"inner login: " on the console`: nothing hostile, but where it comes out of a file.
    pub end: String,
}

impl Life {
    /// With the spikes of the series, nothing said and nothing marked.
    pub fn new(whole: Interval, series: Series, end: String) -> Life {
        let spikes = spike::find(&series);
        Life {
            whole,
            series,
            spikes,
            console: Vec::new(),
            left_out: 0,
            bytes_left_out: 0,
            marks: Vec::new(),
            marks_left_out: 0,
            end,
        }
    }

    /// Leaves out what was at times that the series has left out.
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

    /// The line that was last on the console at a moment, if there was any by then.
    pub fn line(&self, moment: Duration) -> Option<&Line> {
        let until = self.console.partition_point(|line| line.at <= moment);
        self.console[..until].last()
    }
}

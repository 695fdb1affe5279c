//! Everything that a boot is told from, kept in memory.

use crate::engine::{Observed, Sink};
use exitscope_analysis::boot_report::{BootReport, IntervalEvents, LeftOut};
use exitscope_analysis::console::Line;
use exitscope_analysis::phase::FIRST;
use exitscope_analysis::series::Series;
use exitscope_model::Interval;
use std::time::Duration;

/// Keeps intervals, console lines, marks and phases of a boot.
pub struct BootLog {
    series: Series,
    whole: Option<Interval>,
    length: Duration,
    events: IntervalEvents,
}

impl Default for BootLog {
    /// Returns the log of a boot that has not begun.
    fn default() -> BootLog {
        BootLog {
            series: Series::new(FIRST),
            whole: None,
            length: Duration::ZERO,
            events: IntervalEvents::default(),
        }
    }
}

impl BootLog {
    /// Returns the last line of the console.
    pub fn last_line(&self) -> Option<&Line> {
        self.events.lines.last()
    }

    /// Report on the boot; `end` says what it ended with, in words that continue "until". `None` if there was no interval.
    pub fn report(self, end: String) -> Option<BootReport> {
        let IntervalEvents { lines, mut marks, left_out, .. } = self.events;
        let LeftOut { lines: lines_left_out, bytes, marks: marks_left_out } = left_out;
        marks.sort_by_key(|mark| mark.at);
        Some(BootReport {
            console: lines,
            left_out: lines_left_out,
            bytes_left_out: bytes,
            marks,
            marks_left_out,
            ..BootReport::new(self.whole?, self.series, end)
        })
    }
}

impl Sink for BootLog {
    fn take(&mut self, Observed { interval, events, .. }: &Observed<'_>) -> anyhow::Result<()> {
        // The series has begun with the first phase already.
        let first = self.whole.is_none() && events.phases.first().is_some_and(|phase| phase.name == FIRST);
        let phases = &events.phases[usize::from(first)..];
        let to = self.length + interval.length;
        self.length = to;
        let (by_now, after) = phases.split_at(phases.partition_point(|phase| phase.at < to));
        by_now.iter().for_each(|phase| self.series.begin_at(phase.at, &phase.name));
        self.series.add(interval);
        after.iter().for_each(|phase| self.series.begin(&phase.name));
        match &mut self.whole {
            Some(whole) => whole.extend(interval),
            whole => *whole = Some((*interval).clone()),
        }
        self.events.lines.extend(events.lines.iter().cloned());
        self.events.marks.extend(events.marks.iter().cloned());
        self.events.left_out = events.left_out;
        Ok(())
    }
}

//! The statistics in the kernel log, each time N more exits have happened.

use crate::engine::{Observed, Sink};
use anyhow::Context;
use exitscope_model::Interval;
use exitscope_view as view;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

/// Lines that are written through one open file: the kernel takes ten in five seconds and drops the rest (`devkmsg_write`
/// and DEFAULT_RATELIMIT_BURST, kernel/printk/printk.c). How many are written in all is bounded by --max-lines instead.
const LINES_AT_ONCE: usize = 8;

/// Writes to the kernel log.
pub struct KernelLog {
    /// A report is due after so many exits.
    every: u64,
    /// Largest number of lines a second.
    max_lines: u32,
    whole: Option<Interval>,
    /// Number of exits at which the next report is due.
    next: u64,
    quiet_until: Option<Instant>,
    /// Number of exits at the last report.
    written: u64,
}

impl KernelLog {
    /// Makes sure that the kernel log can be written.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open(every: u64, max_lines: u32) -> anyhow::Result<KernelLog> {
        open()?;
        Ok(KernelLog { every, max_lines, whole: None, next: every, quiet_until: None, written: 0 })
    }

    /// Adds an interval. Returns the lines of a report if one is due at `now`.
    fn add(&mut self, interval: &Interval, now: Instant) -> Option<Vec<String>> {
        let whole = match &mut self.whole {
            Some(whole) => {
                whole.extend(interval);
                whole
            }
            whole => whole.insert(interval.clone()),
        };
        let exits = whole.exits();
        if exits < self.next || self.quiet_until.is_some_and(|moment| now < moment) {
            return None;
        }
        let lines = view::kmsg::lines(whole);
        self.written = exits;
        self.next = (exits / self.every + 1) * self.every;
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        self.quiet_until = Some(now + Duration::from_secs(1) * count / self.max_lines);
        Some(lines)
    }

    /// Lines of the exits since the last report.
    fn rest(&self) -> Option<Vec<String>> {
        let whole = self.whole.as_ref()?;
        (whole.exits() > self.written).then(|| view::kmsg::lines(whole))
    }
}

impl Sink for KernelLog {
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        self.add(observed.interval, Instant::now()).map_or(Ok(()), |lines| write(&lines))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.rest().map_or(Ok(()), |lines| write(&lines))
    }
}

fn open() -> anyhow::Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .context("cannot write to the kernel log /dev/kmsg; run this as root")
}

fn write(lines: &[String]) -> anyhow::Result<()> {
    for some in lines.chunks(LINES_AT_ONCE) {
        let mut log = open()?;
        for line in some {
            // One write is one record.
            log.write_all(format!("{line}\n").as_bytes()).context("cannot write to /dev/kmsg")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    #[test]
    fn reports_come_every_n_exits_and_no_faster_than_lines_may() {
        let (interval, start) = (fixture::busy(), Instant::now());
        let exits = interval.exits();
        let mut log = KernelLog {
            every: 2 * exits,
            max_lines: 1,
            whole: None,
            next: 2 * exits,
            quiet_until: None,
            written: 0,
        };
        assert!(log.add(&interval, start).is_none());
        let lines = log.add(&interval, start).unwrap();
        assert!(log.rest().is_none());
        // Two intervals later a report is due again, and held back: a second for each line.
        let until = start + Duration::from_secs(lines.len() as u64);
        assert!(log.add(&interval, start).is_none());
        assert!(log.add(&interval, until - Duration::from_millis(1)).is_none());
        assert!(log.rest().is_some());
        assert!(log.add(&interval, until).is_some());
        assert!(log.rest().is_none());
    }
}

//! Stall detector: finds out that an emulated machine has stopped for good.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::Process;

/// Longest time without any work on the machine's CPUs. An idle Linux has a timer every four seconds, that of its watchdog
/// for soft lockups (kernel/watchdog.c), so a machine that stands still for longer will never go on.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Time between two readings.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Detector for one emulator: the CPU time of its threads, and when that changed last.
pub(super) struct StallDetector {
    process: u32,
    spent: Option<u128>,
    changed: Instant,
    read_at: Instant,
}

impl StallDetector {
    pub(super) fn of(process: &Process) -> Self {
        let now = Instant::now();
        Self { process: process.id(), spent: None, changed: now, read_at: now }
    }

    /// Returns true if no CPU of the machine has run or waited for a CPU for [`LONGEST_PAUSE`]. Where that cannot be read,
    /// the machine counts as running.
    pub(super) fn has_stalled(&mut self) -> bool {
        let now = Instant::now();
        if now - self.read_at < READ_EVERY {
            return false;
        }
        self.read_at = now;
        let spent = spent(self.process);
        if spent.is_none() || spent != self.spent {
            (self.spent, self.changed) = (spent, now);
        }
        now - self.changed >= LONGEST_PAUSE
    }
}

/// Returns the nanoseconds that all threads but the first were on a CPU or waited for one
/// (Documentation/scheduler/sched-stats.rst). In the first, QEMU keeps devices' clocks going even if every CPU is halted
/// for good.
fn spent(process: u32) -> Option<u128> {
    let first = process.to_string();
    let mut sum = None;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let thread = thread.ok()?;
        if thread.file_name() == *first {
            continue;
        }
        let figures = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut figures = figures.split_whitespace().map(|figure| figure.parse::<u128>().ok());
        sum = Some(sum.unwrap_or(0) + figures.next()?? + figures.next()??);
    }
    sum
}

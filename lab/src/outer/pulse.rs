//! Whether an emulated machine still does anything.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::Process;

/// For how long a machine may do nothing at all. A Linux that idles has a timer every four seconds, that of its watchdog
/// for soft lockups (kernel/watchdog.c), so this one will never wake again.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How often to look.
const PAUSE: Duration = Duration::from_secs(1);

/// What the threads of an emulator's CPUs have spent, and when that changed last.
pub(super) struct Pulse {
    process: u32,
    spent: Option<u128>,
    changed: Instant,
    looked: Instant,
}

impl Pulse {
    pub(super) fn of(process: &Process) -> Self {
        let now = Instant::now();
        Self { process: process.id(), spent: None, changed: now, looked: now }
    }

    /// Whether no CPU of the machine has run or wanted to for so long. Where that is not known, one has.
    pub(super) fn has_stopped(&mut self) -> bool {
        let now = Instant::now();
        if now - self.looked < PAUSE {
            return false;
        }
        self.looked = now;
        let spent = spent(self.process);
        if spent.is_none() || spent != self.spent {
            (self.spent, self.changed) = (spent, now);
        }
        now - self.changed >= LONGEST_SLEEP
    }
}

/// Nanoseconds on a CPU and in wait for one, of all threads but the first (Documentation/scheduler/sched-stats.rst): in
/// that one QEMU keeps devices' clocks going, of which a CPU that is halted for good need not hear.
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

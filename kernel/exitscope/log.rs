// SPDX-License-Identifier: GPL-2.0

//! The report to the kernel log: the total first, then each reason that occurred, number and name.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernel::prelude::*;

use crate::count::Counts;
use crate::name::{Name, Number};
use crate::{cpus, glue, vcpus};

/// A cache line of its own: what every CPU writes shares none with what every exit reads.
#[repr(align(64))]
struct Apart(AtomicU64);

/// Exits that the CPUs have told of.
static PASSED: Apart = Apart(AtomicU64::new(0));

/// Adds exits of a CPU, and asks for a report if one is due. Called in the exit path, now and then.
pub(crate) fn passed(exits: u64) {
    let every = glue::every();
    let before = PASSED.0.fetch_add(exits, Relaxed);
    let periods = |exits: u64| exits.checked_div(every);
    if periods(before) != periods(before.wrapping_add(exits)) {
        glue::report_soon();
    }
}

/// Reports the exits of all CPUs since the last reset, in a workqueue.
pub(crate) fn report() {
    let Ok(sum) = Counts::new() else {
        pr_warn!("no memory for a report\n");
        return;
    };
    cpus::tallies(|_, tally| tally.each(|code, since, _| sum.add_many(code, since)));
    let vmx = vcpus::summary().vmx;
    pr_info!("{} exits in all\n", sum.total());
    sum.each(|code, count| match code {
        Some(code) => pr_info!("exit {} ({}): {count}\n", Number { vmx, code }, Name { vmx, code }),
        None => pr_info!("exits of further kinds: {count}\n"),
    });
}

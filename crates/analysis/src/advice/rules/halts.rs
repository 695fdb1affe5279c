//! Rules about vCPUs that halt.

use super::{exits, ratio};
use crate::advice::{Evidence, Finding, Rule};
use exitscope_model::unit;

const HALT: &[&str] = &["HLT"];

/// Rules about halts.
pub static RULES: &[Rule] = &[
    Rule {
        name: "halts-that-return-at-once",
        source: "Linux Documentation/virt/guest-halt-polling.rst; Documentation/virt/kvm/halt-polling.rst; QEMU \
                 documentation, \"-overcommit\" (cpu-pm); \
                 https://github.com/firecracker-microvm/firecracker/issues/3043; \
                 https://github.com/libkrun/libkrun/pull/28",
        replaces: &["halt-polling", "timer-writes"],
        check: at_once,
    },
    Rule {
        name: "halt-polling",
        source: "Linux Documentation/virt/kvm/halt-polling.rst",
        replaces: &[],
        check: polling,
    },
];

/// Halts so short that the CPU never rests: each costs an exit, and somebody wakes the vCPU at once. Half of them are, so that
/// those do not count during which something else ran.
fn at_once(evidence: &Evidence<'_>) -> Option<Finding> {
    const LONGEST_NS: u64 = 1 << 16;
    const PER_SECOND: f64 = 1000.0;
    /// Least rate of vCPUs that do not rest: their halts are few because each exit is slow.
    const PER_SECOND_WITHOUT_REST: f64 = 200.0;
    let halts = evidence.reasons(HALT);
    if !evidence.has_breakdown() || halts.exits == 0 {
        return None;
    }
    let each = evidence.median_ns(HALT)?;
    let rests = evidence.time().is_none_or(|time| ratio(time.idle_ns(), time.total_ns()) >= 0.5);
    let least = if rests { PER_SECOND } else { PER_SECOND_WITHOUT_REST };
    // Whoever wakes it exits too: the timer is set, the host's interrupt comes, the guest's is ended.
    let often = evidence.rate(halts.exits) >= least && evidence.share(halts.exits) >= 0.2;
    if !often || each >= LONGEST_NS {
        return None;
    }
    let wakers = evidence.msrs(&[0x6e0..=0x6e0, 0x832..=0x832, 0x838..=0x838]).exits;
    let senders = evidence.msrs(&[0x830..=0x830]).exits;
    let by = if wakers * 2 >= halts.exits {
        "The guest's own timer wakes it: it asks for timers that are due at once."
    } else if senders * 2 >= halts.exits {
        "Another vCPU wakes it by interrupts (ICR): keep threads that wake each other on one vCPU."
    } else {
        "Find who wakes it: a busy device, a peer on another host CPU, a timer of the host; or an event that stays pending, as \
         asynchronous page faults did (`no-kvmapf` in the guest)."
    };
    Some(Finding {
        seen: format!(
            "{} of HLT ({} of all), {} a second, half of them back within {}: the vCPUs halt and are woken at once, so that \
             they keep a CPU busy without rest.",
            exits(halts.exits),
            unit::share(evidence.share(halts.exits)),
            unit::count(whole(evidence.rate(halts.exits))),
            unit::time(each)
        ),
        helps: format!(
            "{by} Let the guest poll itself before it halts (`cpuidle_haltpoll`, on Linux), or, where it may keep its \
             CPUs, not halt at all (`idle=poll`; QEMU's `-overcommit cpu-pm=on`)."
        ),
        about: halts,
    })
}

/// Halts in which KVM polls for most of the time, and the CPU is as busy as if there were work.
fn polling(evidence: &Evidence<'_>) -> Option<Finding> {
    let halts = evidence.reasons(HALT);
    let time_of_vcpus = evidence.time()?;
    let share = ratio(halts.polled_ns, time_of_vcpus.total_ns());
    if share < 0.2 {
        return None;
    }
    let now = match evidence.host.parameter("kvm", "halt_poll_ns") {
        Some(ns) => format!(" (it is {ns} ns)"),
        None => String::new(),
    };
    Some(Finding {
        seen: format!(
            "KVM polls for {} of the vCPUs' time after HLT, {} in all: the CPU is busy, and the guest is idle.",
            unit::share(share),
            unit::time(halts.polled_ns)
        ),
        helps: format!(
            "Shorten the polling by KVM's parameter `halt_poll_ns`{now}: `echo 50000 \
             >/sys/module/kvm/parameters/halt_poll_ns`, or 0 for none; wake-ups then take some microseconds longer."
        ),
        about: halts,
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

//! Rules about clocks and timers.

use super::{PM_TIMER, RTC, if_much};
use crate::advice::{Evidence, Finding, Rule, Sum};
use exitscope_model::unit;

/// Rules about clocks.
pub static RULES: &[Rule] = &[
    Rule {
        name: "missing-enlightenments",
        source: "QEMU docs/system/i386/hyperv.rst, hv-time and hv-stimer; Microsoft, Hypervisor Top Level Functional \
                 Specification; https://github.com/MicrosoftDocs/Virtualization-Documentation/issues/1885",
        replaces: &["pm-timer", "rtc", "user-space"],
        check: enlightenments,
    },
    Rule {
        name: "pm-timer",
        source: "ACPI Specification 6.5, 4.8.3.3, \"Power Management Timer (PM_TMR)\"; Linux \
                 Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
        replaces: &["user-space"],
        check: pm_timer,
    },
    Rule {
        name: "hpet",
        source: "IA-PC HPET Specification 1.0a; Linux Documentation/virt/kvm/x86/timekeeping.rst, \"HPET\"; QEMU \
                 docs/about/removed-features.rst, \"-no-hpet\"",
        replaces: &["user-space", "kicks-in-user-space"],
        check: hpet,
    },
    Rule {
        name: "rtc",
        source: "Linux Documentation/virt/kvm/x86/timekeeping.rst, \"RTC\"",
        replaces: &["user-space"],
        check: rtc,
    },
    Rule {
        name: "host-clock",
        source: "Linux Documentation/virt/kvm/x86/timekeeping.rst, \"TSC Hardware\"; pvclock_gtod_notify() in \
                 arch/x86/kvm/x86.c",
        replaces: &[],
        check: host_clock,
    },
    Rule {
        name: "ticks-of-an-idle-guest",
        source: "Linux Documentation/timers/no_hz.rst, \"Omit Scheduling-Clock Ticks For Idle CPUs\"; QEMU \
                 docs/system/i386/hyperv.rst, hv-stimer",
        replaces: &["timer-writes"],
        check: ticks,
    },
    Rule {
        name: "timer-writes",
        source: "Intel SDM vol. 3, \"TSC-Deadline Mode\"; Y. Jiang and P. Bonzini, Linux commit ce7a058a (\"support \
                 using the vmx preemption timer for tsc deadline timer\"); Documentation/timers/no_hz.rst",
        replaces: &[],
        check: timer_writes,
    },
];

/// Enlightenments that a Windows guest asks for, each with what it replaces.
const ENLIGHTENMENTS: [(&str, &str); 6] = [
    ("hv-relaxed", "a watchdog that takes a late timer for a fault"),
    ("hv-vapic", "EOI and ICR by memory"),
    ("hv-time", "a clock without exits"),
    ("hv-stimer", "timers of its own"),
    ("hv-synic", "interrupts for these"),
    ("hv-vpindex", "numbers for vCPUs, which hv-synic needs"),
];

fn enlightenments(evidence: &Evidence<'_>) -> Option<Finding> {
    if !evidence.is_windows() {
        return None;
    }
    let about = evidence.ports(PM_TIMER)
        + evidence.ports(RTC)
        + evidence.msrs(&[0x4000_0020..=0x4000_0020, 0x80b..=0x80b, 0x830..=0x830]);
    let command = evidence.command();
    let passthrough = command.has_part("cpu", "hv-passthrough");
    let missing: Vec<&str> = ENLIGHTENMENTS
        .iter()
        .map(|(option, _)| *option)
        .filter(|option| !passthrough && !command.has_part("cpu", option))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for clocks, timers and interrupts, by a guest that looks like Windows."
        )
    };
    let known =
        if command.is_empty() || !command.has("cpu") { "Give" } else { "The command line lacks them: give" };
    let helps = format!("{known} the guest Hyper-V's interface: `-cpu host,{}`.", missing.join(","));
    if_much(evidence, about, 0.05, seen, helps)
}

fn pm_timer(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(PM_TIMER);
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) read the ACPI timer: it is the guest's clock, and each reading is an exit to user space."
        )
    };
    let helps = if evidence.is_linux() {
        LINUX_CLOCK
    } else if evidence.is_windows() {
        "Windows reads it where it is told to, or has no better clock: `bcdedit /deletevalue useplatformclock` in the guest, and \
         `hv-time` for it."
    } else {
        "Firmware and boot loaders wait by it, and stop when the system has booted. Where it lasts: on Linux \
         `clocksource=kvm-clock` or `tsc` in the guest, on others the TSC."
    };
    if_much(evidence, about, 0.05, seen, helps)
}

/// A clock that a Linux guest reads without an exit.
const LINUX_CLOCK: &str = "Let the guest use a clock that it reads without an exit: `clocksource=kvm-clock` or `tsc` (see \
                           /sys/devices/system/clocksource/clocksource0/available_clocksource).";

fn hpet(evidence: &Evidence<'_>) -> Option<Finding> {
    // Where QEMU's machines have it.
    let about = evidence.addresses(&(0xfed0_0000..=0xfed0_03ff));
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) are for the HPET: each reading of the time is an exit to user space.")
    };
    let without = "`-machine hpet=off` takes it away (`-no-hpet` before QEMU 8.0).";
    let clock = if evidence.is_linux() {
        LINUX_CLOCK
    } else {
        "Let the guest use another clock: on Linux kvm-clock or the TSC, on Windows `hv-time`."
    };
    if_much(evidence, about, 0.05, seen, format!("{clock} {without}"))
}

fn rtc(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(RTC);
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) are for the real-time clock, two for each of its registers.")
    };
    let helps = "Let the guest keep its time by kvm-clock or the TSC, and read the real-time clock at boot alone; a program \
                 that polls /dev/rtc or `hwclock` is the usual cause. Many during a boot's first second are firmware's.";
    if_much(evidence, about, 0.1, seen, helps)
}

/// The host itself has no usable TSC, and every guest's clock pays for it.
fn host_clock(evidence: &Evidence<'_>) -> Option<Finding> {
    let clock = evidence.host.fact("clocksource")?;
    if matches!(clock, "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page") {
        return None;
    }
    let about = evidence.ports(PM_TIMER)
        + evidence.msrs(&[0x4000_0020..=0x4000_0020, 0x4b56_4d00..=0x4b56_4d01, 0x11..=0x12, 0x10..=0x10]);
    let seen = |exits: &str, share: &str| {
        format!(
            "The host's own clock source is `{clock}`, so that KVM cannot give guests a clock without exits; {exits} ({share}) are for clocks."
        )
    };
    let helps = "Find out why the host gave the TSC up (`dmesg | grep -i tsc`): firmware, `tsc=unstable`, or a host that is a \
                 guest itself; then boot with `tsc=reliable` where the hardware allows it.";
    if_much(evidence, about, 0.02, seen, helps)
}

/// Exits that arm or end the guest's timers.
fn timers(evidence: &Evidence<'_>) -> Sum {
    evidence.msrs(&[0x6e0..=0x6e0, 0x832..=0x832, 0x838..=0x838, 0x4000_00b0..=0x4000_00b7])
        + evidence.reasons(&["PREEMPTION_TIMER"])
}

fn ticks(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = timers(evidence);
    let time = evidence.time()?;
    let idle = super::ratio(time.idle_ns(), time.total_ns());
    let each = evidence.rate(about.exits) / super::float(evidence.vcpus() as u64).max(1.0);
    if idle < 0.8 || each < 100.0 {
        return None;
    }
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for timers of a guest that is idle for {} of its time: {each:.0} a second on each vCPU.",
            unit::share(idle)
        )
    };
    let helps = "Let an idle guest's tick rest: a kernel with `nohz=on` (the default of `CONFIG_NO_HZ_IDLE`), no `highres=off`, \
                 fewer programs that wake often (`powertop` in the guest names them); for Windows `hv-stimer`, and no program that \
                 asks for a 1 ms timer.";
    if_much(evidence, about, 0.2, seen, helps)
}

fn timer_writes(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = timers(evidence);
    let off = evidence.host.switch("kvm_intel", "preemption_timer") == Some(false);
    let helps = if off && evidence.is_vmx() {
        "KVM's parameter `kvm_intel.preemption_timer` is off: with `preemption_timer=1` the processor's own timer ends the \
         guest's, without one of the host's."
    } else {
        "Fewer timers: a guest with a lower tick (`CONFIG_HZ=100` or 250, `nohz=on`), programs that sleep longer, or, where \
         each idle period arms one, `cpuidle_haltpoll` in the guest."
    };
    let seen = |exits: &str, share: &str| format!("{exits} ({share}) set or end the guest's own timers.");
    if_much(evidence, about, 0.3, seen, helps)
}

//! Rules about vCPUs that share CPUs.

use super::{exits, if_much, ratio};
use crate::advice::{Evidence, Finding, Rule, Sum};
use exitscope_model::unit;

const PAUSE: &[&str] = &["PAUSE_INSTRUCTION", "PAUSE"];

/// Rules about scheduling.
pub static RULES: &[Rule] = &[
    Rule {
        name: "pause-and-overcommit",
        source: "Linux kvm_vcpu_on_spin() in virt/kvm/kvm_main.c; Intel SDM vol. 3, \"Controls for PAUSE-Loop \
                 Exiting\"; QEMU docs/system/i386/kvm-pv.rst, kvm-pv-unhalt; R. van Riel, directed yield, \
                 https://lwn.net/Articles/419755/",
        replaces: &["waiting-for-a-cpu", "pause"],
        check: overcommit,
    },
    Rule {
        name: "pause",
        source: "Intel SDM vol. 3, \"Controls for PAUSE-Loop Exiting\"; AMD APM vol. 2, 15.14.4, \"Pause Intercept \
                 Filtering\"; Linux Documentation/virt/kvm/api.rst, KVM_CAP_X86_DISABLE_EXITS; QEMU documentation, \
                 \"-overcommit\" (cpu-pm)",
        replaces: &[],
        check: pause,
    },
    Rule {
        name: "waiting-for-a-cpu",
        source: "Linux Documentation/scheduler/sched-stats.rst, \"/proc/<pid>/schedstat\"",
        replaces: &[],
        check: waiting,
    },
    Rule {
        name: "one-busy-vcpu",
        source: "Virtual I/O Device specification 1.2, 5.1.6.5.5, \"Device operation in multiqueue mode\"; Linux \
                 Documentation/core-api/irq/irq-affinity.rst",
        replaces: &[],
        check: one_vcpu,
    },
];

/// Share of the vCPUs' time in which they could run and had no CPU.
fn waited(evidence: &Evidence<'_>) -> Option<f64> {
    let time = evidence.time().filter(|_| evidence.has_breakdown())?;
    Some(ratio(time.waiting_ns, time.total_ns()))
}

fn overcommit(evidence: &Evidence<'_>) -> Option<Finding> {
    let waits = waited(evidence)?;
    if waits < 0.05 {
        return None;
    }
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are PAUSE in a loop, while vCPUs wait for a CPU for {} of their time: a vCPU spins on a lock whose holder does not run.",
            unit::share(waits)
        )
    };
    let cpus = match evidence.host.cpus {
        0 => String::new(),
        n => format!(" (this host has {n} CPUs)"),
    };
    let helps = format!(
        "The host has more vCPUs to run than CPUs{cpus}: give this VM fewer vCPUs, pin them (`taskset`, libvirt's `vcpupin`), or move a \
         VM away. `kvm-pv-unhalt` (paravirtual spinlocks) lets a waiting vCPU sleep instead."
    );
    if_much(evidence, evidence.reasons(PAUSE), 0.1, seen, helps)
}

fn pause(evidence: &Evidence<'_>) -> Option<Finding> {
    let window = match (
        evidence.is_vmx(),
        evidence.host.parameter("kvm_intel", "ple_window"),
        evidence.host.parameter("kvm_amd", "pause_filter_count"),
    ) {
        (true, Some(window), _) => format!(" (`ple_window` is {window})"),
        (false, _, Some(count)) => format!(" (`pause_filter_count` is {count})"),
        _ => String::new(),
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are PAUSE in a loop, and no vCPU waits for a CPU: the guest's own locks are contended."
        )
    };
    let module = if evidence.is_vmx() { "kvm_intel ple_gap=0" } else { "kvm_amd pause_filter_count=0" };
    let helps = format!(
        "Where the host is not overcommitted these exits help nobody: `-overcommit cpu-pm=on` for this VM, or load the module with \
         `{module}`{window}. Then look for the lock in the guest (`perf lock`)."
    );
    if_much(evidence, evidence.reasons(PAUSE), 0.25, seen, helps)
}

fn waiting(evidence: &Evidence<'_>) -> Option<Finding> {
    let waits = waited(evidence)?;
    let all = evidence.all();
    if waits < 0.2 {
        return None;
    }
    let total = evidence.time()?.waiting_ns;
    let about = Sum { busy_ns: all.waiting_ns, ..all.part(0) };
    Some(Finding {
        seen: format!(
            "The vCPUs wait for a CPU for {} of their time, {} in all, {} of that within exits: something else runs where they should.",
            unit::share(waits),
            unit::time(total),
            unit::time(all.waiting_ns)
        ),
        helps: "See what else runs on these CPUs (`top -H`, `perf sched`): other VMs, the VMM's own threads, vhost workers. Give the \
                vCPUs CPUs of their own (cgroup `cpuset`, libvirt's `vcpupin` and `emulatorpin`), or a higher `cpu.weight`."
            .to_owned(),
        about,
    })
}

fn one_vcpu(evidence: &Evidence<'_>) -> Option<Finding> {
    if evidence.vcpus() < 4 {
        return None;
    }
    let (vcpu, count) = evidence.busiest_vcpu()?;
    let share = evidence.share(count);
    let about = evidence.vcpu(vcpu);
    (share >= 0.8 && count > 0).then(|| Finding {
        seen: format!(
            "vCPU {vcpu} makes {} ({}), of {} vCPUs: one of them does the work that exits.",
            exits(count),
            unit::share(share),
            evidence.vcpus()
        ),
        helps: "Spread it: queues for each vCPU (`-device virtio-net-pci,mq=on,vectors=…` with `-netdev …,queues=N`; \
                `virtio-blk-pci,num-queues=N`), and interrupts over vCPUs (`irqbalance` in the guest)."
            .to_owned(),
        about,
    })
}

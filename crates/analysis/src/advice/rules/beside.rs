//! Rules about threads beside the vCPUs.

use super::ratio;
use crate::advice::{Evidence, Finding, Rule, Sum};
use exitscope_model::unit;
use exitscope_model::worker::{IO_THREADS, MAIN_LOOP, OTHERS};

/// Rules about threads beside the vCPUs.
pub static RULES: &[Rule] = &[
    Rule {
        name: "busy-vmm",
        source: "QEMU documentation, \"-object iothread\" (poll-max-ns); G. Hoffmann, \
                 https://www.kraxel.org/blog/2014/03/qemu-and-usb-tablet-cpu-consumtion/; Linux \
                 Documentation/scheduler/sched-stats.rst, \"/proc/<pid>/schedstat\"",
        replaces: &[],
        check: vmm,
    },
    Rule {
        name: "busy-vhost-worker",
        source: "Virtual I/O Device specification 1.2, 5.1.6.5.5, \"Device operation in multiqueue mode\"; M. \
                 Christie, Linux commit c1ecd8e9 (\"vhost: allow userspace to create workers\")",
        replaces: &[],
        check: vhost,
    },
];

/// The VMM is busy, and its guest is idle.
fn vmm(evidence: &Evidence<'_>) -> Option<Finding> {
    let (times, vcpus) = (evidence.workers()?, evidence.time()?);
    let busy: u64 = [&MAIN_LOOP, &IO_THREADS, &OTHERS].iter().map(|worker| worker.cpu.ns(&times)).sum();
    let idle = ratio(vcpus.idle_ns(), vcpus.total_ns());
    if ratio(busy, times.span_ns) < 0.3 || idle < 0.8 {
        return None;
    }
    Some(Finding {
        seen: format!(
            "The VMM takes {} of a CPU beside its vCPUs, which are idle for {} of their time.",
            unit::share(ratio(busy, times.span_ns)),
            unit::share(idle)
        ),
        helps: format!(
            "See which of its threads it is (`top -H -p {}`, `perf top -p {}`). Usual causes: an iothread that polls \
             (`-object iothread,…,poll-max-ns=0`), a display that is redrawn (VNC, SPICE), a USB device that is polled \
             (`-device usb-tablet`; a virtio-tablet is not).",
            evidence.vm.pid, evidence.vm.pid
        ),
        about: Sum { busy_ns: busy, ..Sum::default() },
    })
}

/// A vhost worker has no CPU time left.
fn vhost(evidence: &Evidence<'_>) -> Option<Finding> {
    let times = evidence.workers()?;
    let share = ratio(times.vhost_cpu_ns, times.span_ns);
    if share < 0.8 {
        return None;
    }
    Some(Finding {
        seen: format!(
            "The kernel's vhost workers take {} of a CPU, and waited for one for {}: each is one thread, which may be the limit.",
            unit::share(share),
            unit::time(times.vhost_waiting_ns)
        ),
        helps: "Give the device queues, each of which has a worker: `-netdev tap,…,vhost=on,queues=N` and `-device \
                virtio-net-pci,mq=on,vectors=2N+2`, and `ethtool -L` in the guest. Give the workers CPUs of their own (libvirt's \
                `emulatorpin`)."
            .to_owned(),
        about: Sum { busy_ns: times.vhost_cpu_ns, ..Sum::default() },
    })
}

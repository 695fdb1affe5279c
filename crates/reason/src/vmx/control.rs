//! Reasons 0 to 27: events, the first instructions, and VMX's own instructions.

use super::{SDM, SDM_UAPI};
use crate::Reason;
use crate::table::reasons;

const NESTED: &str = "The guest is a hypervisor itself. Counts grow with the exits of its own guests: \
            every exit of an inner guest costs several of these.";

pub(super) const TABLE: &[Reason] = reasons! { Vmx, SDM_UAPI;
    0 EXCEPTION_NMI ["EXCEPTION"]
        "The guest raised an exception that the host intercepts, or a non-maskable interrupt for the host \
            arrived while the guest ran.",
        "Page faults where EPT is off, #DB and #BP while a debugger is attached to the VM, #AC from split \
            locks, #UD from instructions that KVM emulates, and host NMIs from `perf` sampling or the \
            NMI watchdog.",
        "Keep EPT on (`kvm_intel.ept=1`, the default), detach the debugger, end system-wide `perf record`, \
            or boot the host with `nmi_watchdog=0`. A few per second are normal.";
    1 EXTERNAL_INTERRUPT []
        "An interrupt for the host arrived while the guest was running; the host takes it and returns to \
            the guest.",
        "The host's timer tick, inter-processor interrupts, and devices whose interrupts are routed to the \
            CPUs that run vCPUs.",
        "Keep host work off the vCPUs' CPUs: `isolcpus=`, `nohz_full=` and `rcu_nocbs=` on the host, \
            `/proc/irq/*/smp_affinity` or irqbalance's banned CPUs, and posted interrupts for \
            passed-through devices (`intel_iommu=on`, `kvm_intel.enable_apicv=1`). One per tick and CPU \
            is normal.";
    2 TRIPLE_FAULT []
        "The guest failed to deliver a double fault; the vCPU shuts down, and the VMM usually resets the \
            machine.",
        "A guest that reboots this way on purpose (Linux with `reboot=t`), or a kernel that crashed before \
            it had exception handlers.",
        "One at a reboot is normal. Otherwise start QEMU with `-no-reboot` or `-action reboot=shutdown`, \
            read the guest's serial console, and inspect the vCPU with `info registers`.";
    3 INIT_SIGNAL ["INIT"]
        "An INIT signal reached the physical CPU while it ran the guest.",
        "Firmware or a reboot of the host; in a nested setup the outer hypervisor resetting a vCPU.",
        "Never seen in ordinary use; if it occurs, look at what resets CPUs on the host.";
    4 SIPI_SIGNAL ["SIPI"]
        "A start-up IPI arrived while the vCPU waited for one in hardware.",
        "Only hypervisors that use the wait-for-SIPI activity state see it; KVM emulates CPU start-up for \
            ordinary guests and meets it in nested ones.",
        "Nothing to tune: a few while an inner guest starts its CPUs are normal.";
    5 IO_SMI []
        "A system-management interrupt arrived right after an I/O instruction, and the SMM monitor took \
            it.",
        "Only with the dual-monitor treatment of SMM, which KVM does not use.",
        "Not expected under KVM; a count here is worth a bug report.", @ SDM;
    6 OTHER_SMI ["SMI"]
        "A system-management interrupt arrived at another moment than after an I/O instruction, and the \
            SMM monitor took it.",
        "Only with the dual-monitor treatment of SMM, which KVM does not use; ordinary SMIs are invisible \
            to the hypervisor.",
        "Not expected under KVM; look for lost time with `perf stat -e msr/smi/` instead.", @ SDM;
    7 INTERRUPT_WINDOW ["PENDING_INTERRUPT"]
        "The guest became able to take an interrupt that KVM was holding for it.",
        "Interrupts that arrive while the guest has them disabled and that hardware cannot deliver by \
            itself: no APICv, a guest on the old PIC, or an interrupt controller in user space.",
        "Use APICv (`kvm_intel.enable_apicv=1` on CPUs that have it) and the in-kernel interrupt \
            controller (`-machine kernel_irqchip=on`); avoid `noapic` in the guest. Some are normal.";
    8 NMI_WINDOW ["PENDING_NMI"]
        "The guest became able to take a non-maskable interrupt that KVM was holding for it.",
        "Several NMIs in a row for the guest, from its own NMI watchdog or from `perf` inside it.",
        "Boot the guest with `nmi_watchdog=0` or stop profiling in it. A few are normal.";
    9 TASK_SWITCH []
        "The guest switched tasks through a TSS or a task gate, which VMX always hands to the hypervisor.",
        "32-bit systems with task gates: old operating systems, or a double fault in a 32-bit kernel.",
        "Use a 64-bit guest; hardware task switching does not exist in 64-bit mode.";
    10 CPUID []
        "The guest executed CPUID, which always exits on Intel.",
        "Booting, programs that start (the C library's loader asks for the CPU's features), benchmarks \
            that use CPUID as a barrier, and software that looks for a hypervisor.",
        "It cannot be turned off. In own code read CPUID once and keep the answer, and use LFENCE or \
            SERIALIZE as a barrier; elsewhere look for a storm of short processes in the guest.";
    11 GETSEC []
        "The guest executed GETSEC, the instruction of Trusted Execution Technology.",
        "Software that measures its launch, such as tboot, started inside a guest.",
        "KVM does not offer it to guests; do not start tboot in a VM.", @ SDM;
    12 HLT []
        "The guest had nothing to do and halted the vCPU.",
        "An idle guest; many short sleeps come from threads that wake each other on different vCPUs, and \
            from frequent timers.",
        "Normal: its time is sleep, not cost. Where wake-up latency matters, use the guest's \
            `cpuidle_haltpoll` driver, raise `kvm.halt_poll_ns`, or give the VM its own CPUs and start \
            QEMU with `-overcommit cpu-pm=on`, which ends these exits.";
    13 INVD []
        "The guest asked to invalidate the caches without writing them back.",
        "Firmware, early in a boot.",
        "Normal in tiny numbers; KVM skips the instruction.";
    14 INVLPG []
        "The guest invalidated one page of its TLB and the host intercepts that.",
        "Shadow paging: EPT is off or missing, so KVM must follow every change of the guest's page tables.",
        "Turn EPT on (`kvm_intel.ept=1`); with EPT these exits do not occur.";
    15 RDPMC []
        "The guest read a performance counter with RDPMC.",
        "Profiling inside the guest: `perf`, or applications that read counters from user space.",
        "Hide the counters from guests that do not need them (`-cpu host,pmu=off`, or `kvm.enable_pmu=0` \
            for all), or measure fewer events.";
    16 RDTSC []
        "The guest read the time-stamp counter while the host intercepts that.",
        "KVM lets RDTSC through, so this comes from a hypervisor in the guest that intercepts it for its \
            own guests, or from record-and-replay tools.",
        "Look at the inner hypervisor's timer settings; in VMware for instance \
            `monitor_control.virtual_rdtsc`.";
    17 RSM []
        "The guest executed RSM, which leaves system-management mode.",
        "Only with the dual-monitor treatment of SMM, which KVM does not use.",
        "Not expected under KVM.", @ SDM;
    18 VMCALL ["HYPERCALL"]
        "The guest asked the hypervisor for a service.",
        "Paravirtual functions: kicking a halted vCPU that waits for a lock, sending IPIs in bulk, \
            yielding to a vCPU, and Windows' Hyper-V calls (TLB flush, IPI, timers).",
        "Usually a gain, as one call replaces several dearer exits. With dedicated CPUs the guest can do \
            without most: `-cpu host,kvm-hint-dedicated=on`, and for Windows leave out `hv-tlbflush` and \
            `hv-ipi`.";
    19 VMCLEAR [] "The guest, a hypervisor, executed VMCLEAR to put away a VMCS.", NESTED,
        "Normal when an inner vCPU moves to another CPU of its host; pin the inner vCPUs if there are \
            many.";
    20 VMLAUNCH [] "The guest, a hypervisor, entered its own guest for the first time with this \
            VMCS.", NESTED,
        "Normal in small numbers; later entries are VMRESUME.";
    21 VMPTRLD [] "The guest, a hypervisor, made a VMCS the current one.", NESTED,
        "Grows with the inner hypervisor's switches between vCPUs: fewer inner vCPUs per CPU, pinned, \
            help.";
    22 VMPTRST [] "The guest, a hypervisor, stored the address of its current VMCS.", NESTED,
        "Rare; nothing to tune.";
    23 VMREAD [] "The guest, a hypervisor, read a VMCS field that the shadow VMCS does not hold.", NESTED,
        "Keep VMCS shadowing on (`kvm_intel.enable_shadow_vmcs=1`); for Hyper-V in a KVM guest use `-cpu \
            host,hv-evmcs`, which replaces the reads with plain memory.";
    24 VMRESUME [] "The guest, a hypervisor, entered its own guest.", NESTED,
        "One per entry of the inner guest is normal. Reduce the inner guest's exits: virtio with vhost \
            inside, fewer timers, no serial console.";
    25 VMWRITE [] "The guest, a hypervisor, wrote a VMCS field that the shadow VMCS does not hold.", NESTED,
        "As for VMREAD: `kvm_intel.enable_shadow_vmcs=1`, or `hv-evmcs` for Hyper-V in a guest.";
    26 VMOFF ["VMXOFF"] "The guest, a hypervisor, left VMX operation.", NESTED,
        "Normal when KVM is unloaded, or its last VM ends, inside the guest.";
    27 VMON ["VMXON"] "The guest, a hypervisor, entered VMX operation.", NESTED,
        "Normal when KVM is loaded, or its first VM starts, inside the guest: one per vCPU.";
};

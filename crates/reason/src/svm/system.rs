//! Codes 0x6e to 0x8e: instructions, ports, MSRs, and SVM's own instructions.

use super::APM_UAPI;
use crate::Reason;
use crate::table::reasons;

const NESTED: &str = "The guest is a hypervisor itself. Counts grow with the exits of its own guests.";
const NOT_INTERCEPTED: &str = "KVM does not intercept it; a nested hypervisor may for its own guest.";
const NOT_EXPECTED: &str = "Not expected under KVM; look at the inner hypervisor.";

pub(super) const TABLE: &[Reason] = reasons! { Svm, APM_UAPI;
    0x6e RDTSC []
        "The guest read the time-stamp counter while the host intercepts that.",
        "KVM lets RDTSC through, so this comes from a hypervisor in the guest that intercepts it, or from \
            record-and-replay tools.",
        "Look at the inner hypervisor's timer settings.";
    0x6f RDPMC []
        "The guest read a performance counter with RDPMC.",
        "Profiling inside the guest: `perf`, or applications that read counters from user space.",
        "Hide the counters from guests that do not need them (`-cpu host,pmu=off`, or `kvm.enable_pmu=0` \
            for all), or measure fewer events.";
    0x70 PUSHF [] "The guest executed PUSHF while the host intercepts it.", NOT_INTERCEPTED, NOT_EXPECTED;
    0x71 POPF [] "The guest executed POPF while the host intercepts it.", NOT_INTERCEPTED, NOT_EXPECTED;
    0x72 CPUID []
        "The guest executed CPUID, which KVM always intercepts.",
        "Booting, programs that start (the C library's loader asks for the CPU's features), benchmarks \
            that use CPUID as a barrier, and software that looks for a hypervisor.",
        "It cannot be turned off. In own code read CPUID once and keep the answer, and use LFENCE as a \
            barrier; elsewhere look for a storm of short processes in the guest.";
    0x73 RSM []
        "The guest executed RSM, which leaves system-management mode.",
        "Firmware with emulated SMM (OVMF with secure boot) stores its variables this way.",
        "`-machine q35,smm=off` where secure boot is not needed. Some during boot are normal.";
    0x74 IRET []
        "The guest executed IRET while KVM waited for the end of its NMI handler.",
        "NMIs in the guest, from its own NMI watchdog or from `perf` inside it.",
        "Virtual NMIs (`kvm_amd.vnmi=1` on Zen 4 and later) end these exits; or boot the guest with \
            `nmi_watchdog=0`.";
    0x75 SWINT [] "The guest executed a software interrupt (INT n) while the host intercepts \
            it.", NOT_INTERCEPTED, NOT_EXPECTED;
    0x76 INVD []
        "The guest asked to invalidate the caches without writing them back.",
        "Firmware, early in a boot.",
        "Normal in tiny numbers; KVM skips the instruction.";
    0x77 PAUSE []
        "The guest spun in a loop of PAUSE for longer than the pause filter allows.",
        "vCPUs that wait for a lock whose holder is not running: more vCPUs than CPUs.",
        "Overcommit less or pin vCPUs, and keep paravirtual spinlocks (`kvm-pv-unhalt=on`). With dedicated \
            CPUs the exits only cost: `-cpu host,kvm-hint-dedicated=on` and \
            `kvm_amd.pause_filter_count=0`, or a larger count.";
    0x78 HLT []
        "The guest had nothing to do and halted the vCPU.",
        "An idle guest; many short sleeps come from threads that wake each other on different vCPUs, and \
            from frequent timers.",
        "Normal: its time is sleep, not cost. Where wake-up latency matters, use the guest's \
            `cpuidle_haltpoll` driver, raise `kvm.halt_poll_ns`, or give the VM its own CPUs and start \
            QEMU with `-overcommit cpu-pm=on`, which ends these exits.";
    0x79 INVLPG []
        "The guest invalidated one page of its TLB and the host intercepts that.",
        "Shadow paging: nested paging is off or missing.",
        "`kvm_amd.npt=1`, the default; with it these exits do not occur.";
    0x7a INVLPGA []
        "The guest invalidated a TLB entry of another address space, as only hypervisors do.",
        NESTED, "Rare; nothing to tune.";
    0x7b IOIO ["io"]
        "The guest read or wrote an I/O port: IN, OUT, INS or OUTS.",
        "A serial console (port 0x3f8, an exit or more per byte), emulated disks and network cards, PCI \
            configuration at 0xcf8, the PIC, PIT and CMOS clock, the ACPI timer used as clock, and \
            firmware during boot.",
        "Use virtio devices and a virtio console (`console=hvc0`), boot the guest with `quiet`, use \
            kvm-clock or the TSC as clock source, and modern virtio-pci (`disable-legacy=on`) with \
            ioeventfd and vhost. Many are normal during boot.";
    0x7c MSR ["rdmsr", "wrmsr"]
        "The guest read or wrote a model-specific register that is not passed through.",
        "Arming the TSC deadline timer (0x6e0) at each timer and each idle period; x2APIC IPIs (0x830) and \
            EOIs (0x80b) without AVIC; performance counters; Windows' reference counter and Hyper-V \
            timers.",
        "`kvm_amd.avic=1` where the CPU has it, fewer timers in the guest (a lower HZ, `nohz=on`), \
            `pmu=off`, and `hv-time,hv-vapic` for Windows. Thousands per second in a busy guest are \
            normal.";
    0x7d TASK_SWITCH []
        "The guest switched tasks through a TSS or a task gate.",
        "32-bit systems with task gates: old operating systems, or a double fault in a 32-bit kernel.",
        "Use a 64-bit guest; hardware task switching does not exist in 64-bit mode.";
    0x7e FERR_FREEZE []
        "The CPU froze for an x87 error reported the way of the first PCs.",
        "DOS-era software that takes floating-point errors by interrupt 13.",
        "Not expected under KVM.";
    0x7f SHUTDOWN []
        "The guest failed to deliver a double fault (a triple fault); the vCPU shuts down, and the VMM \
            usually resets the machine.",
        "A guest that reboots this way on purpose (Linux with `reboot=t`), or a kernel that crashed before \
            it had exception handlers.",
        "One at a reboot is normal. Otherwise start QEMU with `-no-reboot` or `-action reboot=shutdown`, \
            and read the guest's serial console.";
    0x80 VMRUN []
        "The guest, a hypervisor, entered its own guest.",
        NESTED, "One per entry of the inner guest is normal. Reduce the inner guest's exits: virtio with \
            vhost inside, fewer timers, no serial console.";
    0x81 VMMCALL ["hypercall"]
        "The guest asked the hypervisor for a service.",
        "Paravirtual functions: kicking a halted vCPU that waits for a lock, sending IPIs in bulk, \
            yielding to a vCPU, and Windows' Hyper-V calls (TLB flush, IPI, timers).",
        "Usually a gain, as one call replaces several dearer exits. With dedicated CPUs the guest can do \
            without most: `-cpu host,kvm-hint-dedicated=on`, and for Windows leave out `hv-tlbflush` and \
            `hv-ipi`.";
    0x82 VMLOAD []
        "The guest, a hypervisor, loaded hidden register state from a VMCB.",
        NESTED, "Virtual VMLOAD and VMSAVE (`kvm_amd.vls=1`, the default) end these exits on CPUs that \
            have it.";
    0x83 VMSAVE []
        "The guest, a hypervisor, saved hidden register state to a VMCB.",
        NESTED, "Virtual VMLOAD and VMSAVE (`kvm_amd.vls=1`, the default) end these exits on CPUs that \
            have it.";
    0x84 STGI []
        "The guest, a hypervisor, set the global interrupt flag.",
        NESTED, "Virtual GIF (`kvm_amd.vgif=1`, the default) ends most of these exits on CPUs that have \
            it.";
    0x85 CLGI []
        "The guest, a hypervisor, cleared the global interrupt flag.",
        NESTED, "Virtual GIF (`kvm_amd.vgif=1`, the default) ends these exits on CPUs that have it.";
    0x86 SKINIT []
        "The guest executed SKINIT, AMD's measured launch.",
        "Trusted boot loaders started inside a guest.",
        "KVM does not offer it and answers with #UD.";
    0x87 RDTSCP []
        "The guest read the time-stamp counter with RDTSCP while the host intercepts that.",
        "A guest uses it although its CPUID does not offer it, or an inner hypervisor intercepts it.",
        "Offer it: `-cpu host` or `+rdtscp`.";
    0x88 ICEBP [] "The guest executed INT1, the one-byte debug trap, while the host intercepts \
            it.", NOT_INTERCEPTED, NOT_EXPECTED;
    0x89 WBINVD []
        "The guest wrote back and invalidated all caches.",
        "Booting (MTRR set-up), graphics drivers, and guests with a passed-through device whose DMA is not \
            cache-coherent.",
        "Cheap without such a device, as KVM then skips it; with one it flushes the host's caches, so \
            prefer a device or IOMMU with snooping.";
    0x8a MONITOR []
        "The guest executed MONITOR while the host intercepts it.",
        "A guest that idles with MONITOR and MWAIT although its CPUID does not offer them.",
        "`-overcommit cpu-pm=on` with dedicated CPUs, or `idle=halt` in the guest.";
    0x8b MWAIT []
        "The guest executed MWAIT while the host intercepts it.",
        "As for MONITOR; KVM treats it as no operation, so the vCPU spins.",
        "`-overcommit cpu-pm=on` with dedicated CPUs, or `idle=halt` in the guest.";
    0x8c MWAIT_COND ["mwait_conditional"]
        "The guest executed MWAIT with its monitor armed, and the host intercepts only that case.",
        "As for MWAIT, in hypervisors that use this intercept; KVM uses the plain one.",
        "Not expected under KVM.";
    0x8d XSETBV []
        "The guest wrote XCR0, the set of enabled processor states.",
        "Once per vCPU at boot; often when a hypervisor in the guest switches between guests with other \
            states.",
        "Give nested guests the same CPU model as their host. One per vCPU is normal.";
    0x8e RDPRU []
        "The guest read a processor register from user space with RDPRU.",
        "Tools that read the CPU's clock counters (APERF, MPERF) this way.",
        "KVM intercepts it and answers with #UD; use the tool on the host.";
};

//! Reasons 28 to 66: registers, ports, MSRs, the APIC, memory.

use super::{SDM, SDM_UAPI};
use crate::Reason;
use crate::table::reasons;

pub(super) const TABLE: &[Reason] = reasons! { Vmx, SDM_UAPI;
    28 CR_ACCESS ["CR"]
        "The guest read or wrote a control register (CR0, CR3, CR4, CR8, or by CLTS or LMSW) in a way the \
            host intercepts.",
        "Booting through real and protected mode, CR3 loads at every context switch where EPT is off, CR4 \
            changes, and CR8 in Windows on CPUs without a TPR shadow.",
        "Keep EPT and unrestricted guests on (`kvm_intel.ept=1`, `kvm_intel.unrestricted_guest=1`) and \
            give the guest PCID (`-cpu host`). Some thousands per boot are normal, few afterwards.";
    29 DR_ACCESS ["DR"]
        "The guest read or wrote a debug register.",
        "Debuggers and hardware breakpoints in the guest; KVM intercepts the first access after each time \
            the vCPU was away and then lets the guest have the registers.",
        "Remove breakpoints, watchpoints and `perf` breakpoint events in the guest. Few are normal.";
    30 IO_INSTRUCTION ["IO", "IOIO"]
        "The guest read or wrote an I/O port: IN, OUT, INS or OUTS.",
        "A serial console (port 0x3f8, an exit or more per byte), emulated disks and network cards, PCI \
            configuration at 0xcf8, the PIC, PIT and CMOS clock, the ACPI timer used as clock, and \
            firmware during boot.",
        "Use virtio devices and a virtio console (`console=hvc0`), boot the guest with `quiet`, use \
            kvm-clock or the TSC as clock source, and modern virtio-pci (`disable-legacy=on`) with \
            ioeventfd and vhost. Many are normal during boot.";
    31 MSR_READ ["RDMSR"]
        "The guest read a model-specific register that is not passed through.",
        "x2APIC registers without APICv, performance counters, power and temperature tools in the guest, \
            and Windows reading its reference counter from the MSR.",
        "For Windows `-cpu host,hv-time,hv-vapic`; `pmu=off` where nobody profiles; APICv \
            (`kvm_intel.enable_apicv=1`); stop monitoring agents that read MSRs in the guest.";
    32 MSR_WRITE ["WRMSR"]
        "The guest wrote a model-specific register that is not passed through.",
        "Arming the TSC deadline timer (0x6e0) at each timer and each idle period; x2APIC IPIs (0x830) and \
            EOIs (0x80b) without APICv; performance counters; Hyper-V timers of Windows.",
        "APICv and IPI virtualisation (`kvm_intel.enable_apicv=1`, `kvm_intel.enable_ipiv=1`), fewer \
            timers in the guest (a lower HZ, `nohz=on`), `pmu=off`. Thousands per second in a busy guest \
            are normal, and KVM handles the timer and IPIs on a fast path.";
    33 INVALID_STATE ["INVALID_GUEST_STATE"]
        "The entry failed: the CPU refused the guest state in the VMCS. The guest did not run.",
        "A fault in the hypervisor or the VMM, a damaged saved or migrated state, or a nested hypervisor \
            that builds a bad VMCS.",
        "Load kvm_intel with `dump_invalid_vmcs=1` and read the kernel log; \
            `emulate_invalid_guest_state=1` helps old CPUs in real mode. Even one is worth a bug report.";
    34 MSR_LOAD_FAIL ["MSR_LOADING"]
        "The entry failed: the CPU could not load an MSR from the entry's list. The guest did not run.",
        "A fault in the hypervisor, or a nested hypervisor with a bad MSR in its list.",
        "The exit qualification is the position in the list; `kvm_intel.dump_invalid_vmcs=1` prints it to \
            the kernel log.";
    36 MWAIT_INSTRUCTION ["MWAIT"]
        "The guest executed MWAIT while the host intercepts it.",
        "A guest that idles with MWAIT although its CPUID does not offer it, such as macOS; KVM treats it \
            as no operation, so the vCPU spins.",
        "Give the VM its own CPUs and start QEMU with `-overcommit cpu-pm=on`, or make the guest idle with \
            HLT (`idle=halt`).";
    37 MONITOR_TRAP_FLAG ["MTF"]
        "The monitor trap flag was set: the guest ran one instruction and came back.",
        "A hypervisor single-steps the guest: introspection tools and nested hypervisors do.",
        "Detach the tool. KVM itself hardly uses it.";
    39 MONITOR_INSTRUCTION ["MONITOR"]
        "The guest executed MONITOR while the host intercepts it.",
        "As for MWAIT: a guest that idles with MONITOR and MWAIT uninvited.",
        "`-overcommit cpu-pm=on` with dedicated CPUs, or `idle=halt` in the guest.";
    40 PAUSE_INSTRUCTION ["PAUSE"]
        "The guest spun in a loop of PAUSE for longer than the host's pause-loop window.",
        "vCPUs that wait for a lock whose holder is not running: more vCPUs than CPUs.",
        "Overcommit less or pin vCPUs, and keep paravirtual spinlocks (`kvm-pv-unhalt=on`). With dedicated \
            CPUs the exits only cost: `-cpu host,kvm-hint-dedicated=on` and `kvm_intel.ple_gap=0`, or a \
            larger `kvm_intel.ple_window`.";
    41 MCE_DURING_VMENTRY ["MACHINE_CHECK"]
        "The entry failed because of a machine check.",
        "Failing hardware: memory, caches or the interconnect.",
        "Read the host's kernel log and rasdaemon's records, and replace the part.";
    43 TPR_BELOW_THRESHOLD []
        "The guest lowered its task priority below that of an interrupt that waits.",
        "Windows, which raises and lowers the task priority all the time, on hosts without APICv.",
        "`kvm_intel.enable_apicv=1`, and `-cpu host,hv-vapic` for Windows.";
    44 APIC_ACCESS []
        "The guest read or wrote the page of its local APIC, and hardware could not do it alone.",
        "A guest in xAPIC mode without APICv: every EOI, IPI and timer is an access.",
        "Let the guest use x2APIC (`-cpu host,x2apic=on`, no `nox2apic` in the guest), turn APICv on, and \
            `hv-vapic` for Windows.";
    45 EOI_INDUCED ["VIRTUALIZED_EOI"]
        "The guest finished an interrupt whose end the hypervisor must know.",
        "Level-triggered interrupts through the IO-APIC: old PCI interrupts (INTx), and the PIT and RTC \
            timers.",
        "Use devices with MSI-X (virtio-pci, NVMe). Normal for devices with level-triggered interrupts.";
    46 GDTR_IDTR ["GDTR_OR_IDTR"]
        "The guest loaded or stored the GDTR or IDTR while the host intercepts descriptor tables.",
        "KVM emulating UMIP for a guest on a CPU that lacks it, or security introspection.",
        "Hide UMIP from the guest (`-cpu ...,-umip`) where the host's CPU lacks it.";
    47 LDTR_TR ["LDTR_OR_TR"]
        "The guest loaded or stored the LDTR or task register while the host intercepts descriptor tables.",
        "As for GDTR_IDTR: emulated UMIP or introspection; loads occur once per vCPU at boot, and at \
            context switches of systems that use LDTs.",
        "Hide UMIP from the guest (`-cpu ...,-umip`) where the host's CPU lacks it.";
    48 EPT_VIOLATION []
        "The guest touched memory that the host has not mapped for it, or not with that right.",
        "The first touch of each page after the start, memory that was swapped, ballooned, merged by KSM \
            or moved between NUMA nodes, write protection for dirty logging during migration, and huge \
            pages split against the iTLB erratum.",
        "Use huge pages (`-object memory-backend-memfd,hugetlb=on`, or transparent ones), `prealloc=on`, \
            no swapping, pinned NUMA memory; `kvm.nx_huge_pages=off` only where the CPU is not affected. \
            A burst at start that ebbs away is normal.";
    49 EPT_MISCONFIG ["EPT_MISCONFIGURATION"]
        "The guest touched the memory of an emulated device: KVM marks such pages with an EPT entry that \
            is wrong on purpose.",
        "Doorbells of virtio queues, registers of emulated network cards, disks and displays, HPET, and \
            the IO-APIC.",
        "Use virtio with ioeventfd and vhost (handled in the kernel) instead of emulated devices, \
            `hpet=off`, and more work per doorbell (event index, more queue depth); pass a device \
            through for the highest rates. Normal in step with I/O.";
    50 INVEPT []
        "The guest, a hypervisor, flushed translations of its own EPT.",
        "Nested virtualisation: the inner hypervisor changes its guests' memory, swaps, balloons or \
            migrates.",
        "Huge pages and preallocated memory in the inner hypervisor; no ballooning there.";
    51 RDTSCP []
        "The guest read the time-stamp counter with RDTSCP while the host intercepts that.",
        "As for RDTSC: an inner hypervisor that intercepts it; KVM lets it through.",
        "Look at the inner hypervisor's timer settings.";
    52 PREEMPTION_TIMER ["VMX_PREEMPTION_TIMER"]
        "The VMX preemption timer ran out.",
        "KVM uses it for the guest's APIC timer, so this is one exit per timer that fires while the guest \
            runs, and also to leave the guest at once.",
        "Fewer timers in the guest (a lower HZ, `nohz_full=` there). Normal, and cheaper than the host \
            timer it replaces: leave `kvm_intel.preemption_timer=1`.";
    53 INVVPID []
        "The guest, a hypervisor, flushed TLB entries tagged for its guests.",
        "Nested virtualisation: context switches and vCPU moves in the inner hypervisor.",
        "Pin inner vCPUs. Some are normal.";
    54 WBINVD ["WBINVD_OR_WBNOINVD"]
        "The guest wrote back and invalidated all caches.",
        "Booting (MTRR set-up), graphics drivers, and guests with a passed-through device whose DMA is not \
            cache-coherent.",
        "Cheap without such a device, as KVM then skips it; with one it flushes the host's caches, so \
            prefer a device or IOMMU with snooping.";
    55 XSETBV []
        "The guest wrote XCR0, the set of enabled processor states; this always exits.",
        "Once per vCPU at boot; often when a hypervisor in the guest switches between guests with other \
            states.",
        "Give nested guests the same CPU model as their host. One per vCPU is normal.";
    56 APIC_WRITE []
        "The guest wrote a register of its virtual APIC that hardware does not handle whole.",
        "IPIs and timer set-up with APICv, but without IPI virtualisation.",
        "`kvm_intel.enable_ipiv=1` on CPUs that have it (Sapphire Rapids and later), x2APIC in the guest, \
            and paravirtual IPIs (`kvm-pv-ipi`). Normal otherwise.";
    57 RDRAND []
        "The guest executed RDRAND while the host intercepts it.",
        "A guest uses RDRAND although its CPUID does not offer it.",
        "Offer it: `-cpu host` or `+rdrand`.";
    58 INVPCID []
        "The guest executed INVPCID while the host intercepts TLB flushes or hides the instruction.",
        "Shadow paging: EPT is off or missing.",
        "`kvm_intel.ept=1`; with EPT it does not exit.";
    59 VMFUNC []
        "The guest executed VMFUNC and the function could not be done in hardware.",
        "A nested hypervisor or an isolation framework that switches EPTs.",
        "Rare; look at the inner hypervisor's EPT switching.";
    60 ENCLS []
        "The guest executed a privileged SGX instruction that the host intercepts.",
        "A guest that creates enclaves, or probes for SGX without having it.",
        "Normal while enclaves are built; otherwise hide SGX (`-cpu host,-sgx`).";
    61 RDSEED []
        "The guest executed RDSEED while the host intercepts it.",
        "A guest uses RDSEED although its CPUID does not offer it.",
        "Offer it: `-cpu host` or `+rdseed`.";
    62 PML_FULL ["PML"]
        "The log of modified pages, 512 entries, is full.",
        "Dirty logging during live migration or a snapshot while the guest writes much memory.",
        "Normal during a migration and over with it. Leave `kvm_intel.pml=1`: without it each page costs a \
            fault of its own; throttle the guest instead (auto-converge, dirty limit).";
    63 XSAVES []
        "The guest executed XSAVES with a state component that the host intercepts.",
        "A guest that saves supervisor states which the host does not virtualise.",
        "Not expected under KVM; use `-cpu host` or drop `xsaves`.";
    64 XRSTORS []
        "The guest executed XRSTORS with a state component that the host intercepts.",
        "As for XSAVES.",
        "Not expected under KVM; use `-cpu host` or drop `xsaves`.";
    65 PCONFIG []
        "The guest executed PCONFIG, which sets up memory encryption keys.",
        "A guest that probes for total memory encryption.",
        "KVM does not offer it; hide `pconfig` from the guest.", @ SDM;
    66 SPP_EVENT ["SPP"]
        "Sub-page write protection met a table that is missing or wrong.",
        "Introspection hypervisors that use sub-page protection; KVM does not.",
        "Not expected under KVM.", @ SDM;
};

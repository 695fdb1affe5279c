//! Codes 0x60 to 0x6d: events from outside, and the tables of segment descriptors.

use super::APM_UAPI;
use crate::Reason;
use crate::table::reasons;

const TABLES_WHY: &str = "Security introspection, KVM emulating UMIP for a guest on a CPU that lacks it \
            (stores), or a nested hypervisor.";
const TABLES_HELP: &str = "Hide UMIP from the guest (`-cpu ...,-umip`) where the host's CPU lacks it. None \
            is normal otherwise.";

/// Reads are SGDT, SIDT, SLDT, STR; writes LGDT, LIDT, LLDT, LTR.
macro_rules! descriptor {
    ($done:literal) => {
        concat!(
            "The guest ",
            $done,
            " while the host intercepts \
            that."
        )
    };
}

pub(super) const TABLE: &[Reason] = reasons! { Svm, APM_UAPI;
    0x60 INTR ["interrupt"]
        "An interrupt for the host arrived while the guest was running; the host takes it and returns to \
            the guest.",
        "The host's timer tick, inter-processor interrupts, and devices whose interrupts are routed to the \
            CPUs that run vCPUs; KVM's timers for the guest arrive this way too.",
        "Keep host work off the vCPUs' CPUs: `isolcpus=`, `nohz_full=` and `rcu_nocbs=` on the host, \
            `/proc/irq/*/smp_affinity` or irqbalance's banned CPUs, and AVIC with the IOMMU for \
            passed-through devices (`kvm_amd.avic=1`). One per tick and CPU is normal.";
    0x61 NMI []
        "A non-maskable interrupt for the host arrived while the guest ran.",
        "`perf` sampling on the host and its NMI watchdog.",
        "End system-wide profiling, or boot the host with `nmi_watchdog=0`. A few per second are normal.";
    0x62 SMI []
        "A system-management interrupt arrived while the guest ran.",
        "The host's firmware: power management, error handling, emulated keyboards.",
        "Look for firmware settings and updates; `kvm_amd.intercept_smi=0` hides them from KVM, not their \
            cost.";
    0x63 INIT []
        "An INIT signal reached the physical CPU while it ran the guest.",
        "Firmware or a reboot of the host.",
        "Never seen in ordinary use.";
    0x64 VINTR []
        "The guest became able to take an interrupt that KVM was holding for it.",
        "Interrupts that arrive while the guest has them disabled and that hardware cannot deliver by \
            itself, without AVIC or with a guest on the old PIC.",
        "`kvm_amd.avic=1` where the CPU has it (on by default with x2AVIC in recent kernels), the \
            in-kernel interrupt controller, and no `noapic` in the guest. Some are normal.";
    0x65 CR0_SEL_WRITE []
        "The guest wrote CR0 and changed a bit other than task-switched and monitor-coprocessor.",
        "Booting and mode switches; KVM prefers this over intercepting every write of CR0.",
        "Normal during boot; few afterwards.";
    0x66 IDTR_READ ["read_idtr"] descriptor!("stored the IDTR (SIDT)"), TABLES_WHY, TABLES_HELP;
    0x67 GDTR_READ ["read_gdtr"] descriptor!("stored the GDTR (SGDT)"), TABLES_WHY, TABLES_HELP;
    0x68 LDTR_READ ["read_ldtr"] descriptor!("stored the LDTR (SLDT)"), TABLES_WHY, TABLES_HELP;
    0x69 TR_READ ["read_rt"] descriptor!("stored the task register (STR)"), TABLES_WHY, TABLES_HELP;
    0x6a IDTR_WRITE ["write_idtr"] descriptor!("loaded the IDTR (LIDT)"), TABLES_WHY, TABLES_HELP;
    0x6b GDTR_WRITE ["write_gdtr"] descriptor!("loaded the GDTR (LGDT)"), TABLES_WHY, TABLES_HELP;
    0x6c LDTR_WRITE ["write_ldtr"] descriptor!("loaded the LDTR (LLDT)"), TABLES_WHY, TABLES_HELP;
    0x6d TR_WRITE ["write_rt"] descriptor!("loaded the task register (LTR)"), TABLES_WHY, TABLES_HELP;
};

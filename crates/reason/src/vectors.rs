//! Vectors of exceptions (SDM vol. 3, "Exception and Interrupt Reference"), and those that a Linux host gives its interrupts
//! (arch/x86/include/asm/irq_vectors.h, which has kept these numbers since 4.16).

use super::detail::{Known, table};

const TIMER: &str =
    "The host's timer tick took the CPU from the guest: `nohz_full=` for the CPUs of vCPUs, or a lower HZ.";
const CALL: &str = "Another CPU of the host had this one run something: TLB flushes, migrations of tasks; isolate the vCPUs' CPUs.";
const RESCHEDULE: &str = "The host woke a task on this CPU: pin vCPUs, and keep other work off their CPUs.";
const DEVICE: &str = "A device of the host, or its timer before it has a vector of its own: /proc/interrupts says which; keep it off \
     the vCPUs' CPUs by /proc/irq/N/smp_affinity.";
const POSTED: &str = "Hardware posts the guest's interrupts; one that comes while the vCPU is out wakes it.";

/// Exceptions by their vector.
pub const EXCEPTIONS: &[Known] = table! {
    0 "#DE divide error";
    1 "#DB debug";
    2 "NMI";
    3 "#BP breakpoint";
    4 "#OF overflow";
    5 "#BR bound range";
    6 "#UD invalid opcode";
    7 "#NM device not available";
    8 "#DF double fault";
    10 "#TS invalid TSS";
    11 "#NP segment not present";
    12 "#SS stack fault";
    13 "#GP general protection";
    14 "#PF page fault";
    16 "#MF x87 error";
    17 "#AC alignment check";
    18 "#MC machine check";
    19 "#XM SIMD error";
    20 "#VE virtualization";
    21 "#CP control protection";
};

/// The host's interrupts by their vector.
pub const HOST: &[Known] = table! {
    0x20..=0xea "device of the host" => DEVICE;
    0xeb "posted MSI";
    0xec "local timer" => TIMER;
    0xed "Hyper-V timer" => TIMER;
    0xee "Hyper-V reenlightenment";
    0xef "managed IRQ shutdown";
    0xf0 "posted interrupt, nested" => POSTED;
    0xf1 "posted interrupt, wake-up" => POSTED;
    0xf2 "posted interrupt" => POSTED;
    0xf3 "hypervisor callback";
    0xf4 "deferred error";
    0xf6 "IRQ work";
    0xf7 "platform IPI";
    0xf8 "reboot";
    0xf9 "threshold";
    0xfa "thermal";
    0xfb "call function, single" => CALL;
    0xfc "call function" => CALL;
    0xfd "reschedule" => RESCHEDULE;
    0xfe "APIC error";
    0xff "spurious";
};

//! Codes 0x40 to 0x5f: intercepted exceptions, one code per vector.

use super::{APM, APM_UAPI};
use crate::Reason;
use crate::table::reasons;

const NOT_INTERCEPTED: &str = "KVM does not intercept this exception; a nested hypervisor may for its own \
            guest.";
const NOT_EXPECTED: &str = "Not expected under KVM; look at the inner hypervisor.";
const RESERVED_WHY: &str = "The architecture raises no exception with this vector.";
const RESERVED_HELP: &str = "Never seen.";

/// An exception that KVM lets the guest handle by itself.
macro_rules! passed {
    ($text:literal) => {
        concat!(
            "The guest raised ",
            $text,
            ", and the host intercepts \
            it."
        )
    };
}
/// A vector that no exception uses.
macro_rules! reserved {
    ($vector:literal) => {
        concat!(
            "An exception with the reserved vector \
            ",
            $vector,
            "."
        )
    };
}

pub(super) const TABLE: &[Reason] = reasons! { Svm, APM_UAPI;
    0x40 EXCP_DE ["DE excp", "EXCP0"] passed!("a divide error (#DE)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x41 EXCP_DB ["DB excp", "EXCP1"]
        "The guest raised a debug exception (#DB): a single step, a breakpoint register, or INT1.",
        "Debugging: a debugger attached to the VM, or one in the guest; KVM also single-steps the guest \
            over IRET to open an NMI window.",
        "Detach the debugger; with virtual NMIs (`kvm_amd.vnmi=1`) the steps over IRET vanish. A few are \
            normal.";
    0x42 EXCP_NMI ["EXCP2"]
        "Vector 2, the non-maskable interrupt: real NMIs are reported as NMI (0x61) instead.",
        RESERVED_WHY, RESERVED_HELP, @ APM;
    0x43 EXCP_BP ["BP excp", "EXCP3"]
        "The guest executed a breakpoint instruction (INT3, #BP) while a debugger is attached to the VM.",
        "Breakpoints set through QEMU's gdb stub; without one KVM leaves them to the guest.",
        "Detach the debugger.";
    0x44 EXCP_OF ["OF excp", "EXCP4"] passed!("an overflow exception (#OF)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x45 EXCP_BR ["BR excp", "EXCP5"] passed!("a bound-range exception \
            (#BR)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x46 EXCP_UD ["UD excp", "EXCP6"]
        "The guest executed an instruction that the CPU does not know or may not run there (#UD).",
        "Instructions that KVM emulates for a guest moved between vendors (VMCALL for VMMCALL, SYSENTER), \
            software that probes for features, and programs built for another CPU.",
        "Choose a CPU model that matches the host (`-cpu host`), or rebuild the program; see \
            `kvm.force_emulation_prefix` if it is set. Few are normal.";
    0x47 EXCP_NM ["NM excp", "EXCP7"]
        "The guest used the FPU while it was marked as unavailable (#NM), and the host intercepts it.",
        "Lazy FPU switching by old kernels, on the host or in a nested hypervisor.",
        "Current kernels switch eagerly; bring the host and the inner hypervisor up to date.";
    0x48 EXCP_DF ["DF excp", "EXCP8"] passed!("a double fault (#DF)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x49 EXCP_9 ["EXCP9"] reserved!("9, once a coprocessor overrun"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x4a EXCP_TS ["TS excp", "EXCP10"] passed!("an invalid-TSS exception \
            (#TS)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x4b EXCP_NP ["NP excp", "EXCP11"] passed!("a segment-not-present exception \
            (#NP)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x4c EXCP_SS ["SS excp", "EXCP12"] passed!("a stack exception (#SS)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x4d EXCP_GP ["GP excp", "EXCP13"]
        "The guest raised a general-protection exception (#GP) and the host intercepts it.",
        "KVM intercepts it for the VMware backdoor port (`kvm.enable_vmware_backdoor=1`) and around an \
            erratum of SVM instructions in nested guests.",
        "Leave `kvm.enable_vmware_backdoor` off. Few are normal.";
    0x4e EXCP_PF ["PF excp", "EXCP14"]
        "The guest raised a page fault (#PF) and the host intercepts it.",
        "Shadow paging: nested paging is off or missing, so KVM handles every fault of the guest's page \
            tables.",
        "`kvm_amd.npt=1`, the default; with it these exits all but vanish.";
    0x4f EXCP_15 ["EXCP15"] reserved!("15"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x50 EXCP_MF ["MF excp", "EXCP16"] passed!("an x87 floating-point exception \
            (#MF)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x51 EXCP_AC ["AC excp", "EXCP17"]
        "The guest raised an alignment check (#AC) and the host intercepts it, so that endless ones cannot \
            hold the CPU.",
        "Programs that turn alignment checks on, or an attack by nested faults.",
        "KVM passes it on to the guest; find the program there. None is normal.";
    0x52 EXCP_MC ["MC excp", "EXCP18"]
        "A machine check (#MC) occurred while the guest ran.",
        "Failing hardware: memory, caches or the interconnect.",
        "Read the host's kernel log and rasdaemon's records, and replace the part.";
    0x53 EXCP_XF ["XF excp", "XM excp", "EXCP_XM", "EXCP19"] passed!("a SIMD floating-point exception \
            (#XF)"), NOT_INTERCEPTED, NOT_EXPECTED;
    0x54 EXCP_20 ["EXCP20"] reserved!("20"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x55 EXCP_CP ["EXCP21"] passed!("a control-protection exception \
            (#CP)"), NOT_INTERCEPTED, NOT_EXPECTED, @ APM;
    0x56 EXCP_22 ["EXCP22"] reserved!("22"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x57 EXCP_23 ["EXCP23"] reserved!("23"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x58 EXCP_24 ["EXCP24"] reserved!("24"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x59 EXCP_25 ["EXCP25"] reserved!("25"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x5a EXCP_26 ["EXCP26"] reserved!("26"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x5b EXCP_27 ["EXCP27"] reserved!("27"), RESERVED_WHY, RESERVED_HELP, @ APM;
    0x5c EXCP_HV ["EXCP28"] passed!("a hypervisor-injection exception \
            (#HV)"), NOT_INTERCEPTED, NOT_EXPECTED, @ APM;
    0x5d EXCP_VC ["EXCP29"] passed!("a VMM-communication exception \
            (#VC)"), NOT_INTERCEPTED, NOT_EXPECTED, @ APM;
    0x5e EXCP_SX ["EXCP30"] passed!("a security exception (#SX)"), NOT_INTERCEPTED, NOT_EXPECTED, @ APM;
    0x5f EXCP_31 ["LAST_EXCP", "EXCP31"] reserved!("31"), RESERVED_WHY, RESERVED_HELP, @ APM;
};

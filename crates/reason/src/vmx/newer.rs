//! Reasons from 67 on: what newer processors added.

use super::{SDM, SDM_UAPI};
use crate::Reason;
use crate::table::reasons;

const NO_PASID: &str = "The guest submits work to an accelerator such as DSA with a process address space \
            the host has not translated.";

pub(super) const TABLE: &[Reason] = reasons! { Vmx, SDM_UAPI;
    67 UMWAIT []
        "The guest waited with UMWAIT while the host intercepts it.",
        "A guest uses UMWAIT although its CPUID does not offer it, or an inner hypervisor intercepts it.",
        "`-overcommit cpu-pm=on` with dedicated CPUs gives guests the instruction without exits.";
    68 TPAUSE []
        "The guest waited with TPAUSE while the host intercepts it.",
        "As for UMWAIT; Linux uses TPAUSE for short delays where the CPU offers it.",
        "`-overcommit cpu-pm=on` with dedicated CPUs gives guests the instruction without exits.";
    69 LOADIWKEY []
        "The guest loaded a wrapping key for Key Locker.",
        "Booting a guest that was offered Key Locker, which KVM does not.",
        "Not expected under KVM.", @ SDM;
    70 ENCLV []
        "The guest executed ENCLV, the SGX instruction of virtual machine monitors.",
        "A hypervisor in the guest that oversubscribes enclave memory.",
        "Not expected under KVM.", @ SDM;
    72 ENQCMD_PASID ["ENQCMD"]
        "The guest executed ENQCMD and its process id for the device (PASID) had no translation.",
        NO_PASID, "Not expected under KVM; check the accelerator's assignment.", @ SDM;
    73 ENQCMDS_PASID ["ENQCMDS"]
        "The guest executed ENQCMDS and its process id for the device (PASID) had no translation.",
        NO_PASID, "Not expected under KVM; check the accelerator's assignment.", @ SDM;
    74 BUS_LOCK []
        "The guest locked the memory bus: an atomic access across two cache lines, or to uncached memory.",
        "Programs with misaligned atomics, which slow every CPU of the host.",
        "Find the program: its kernel logs it with `split_lock_detect=warn` on bare metal. Limit the VM \
            with QEMU's `-machine ...,bus-lock-ratelimit=N`.";
    75 NOTIFY ["INSTRUCTION_TIMEOUT"]
        "For the length of the notify window the guest left no moment at which an event could be \
            delivered.",
        "A guest, perhaps hostile, that holds the CPU in microcode with endless exceptions; a window set \
            very short gives false ones.",
        "QEMU: `-accel kvm,notify-vmexit=run|internal-error|disable,notify-window=N`. None is normal.";
    76 SEAMCALL []
        "The guest executed SEAMCALL, which calls Intel's TDX module.",
        "A hypervisor in the guest that tries to use TDX.",
        "KVM answers with #UD; turn TDX off in the inner hypervisor (`kvm_intel.tdx=0`).";
    77 TDCALL ["TDVMCALL"]
        "A TDX guest asked the hypervisor for something (TDG.VP.VMCALL) that is no reason of its own.",
        "Page conversions (MapGPA) and attestation (GetQuote, GetTdVmCallInfo). What a trust domain asks for by \
            its #VE handler, such as port and device accesses, MSRs, CPUID and HLT, Linux counts as the reason \
            inside: IO_INSTRUCTION, EPT_MISCONFIG, MSR_WRITE and so on.",
        "A guest whose `swiotlb=` fits its load needs no more bounce buffers later, and converts less memory. A \
            burst while the guest starts is normal.";
    78 RDMSRLIST []
        "The guest executed RDMSRLIST and an MSR of the list is not passed through.",
        "A guest that reads MSRs in bulk, for performance counters mostly.",
        "KVM does not offer it to guests.", @ SDM;
    79 WRMSRLIST []
        "The guest executed WRMSRLIST and an MSR of the list is not passed through.",
        "A guest that writes MSRs in bulk, for performance counters mostly.",
        "KVM does not offer it to guests.", @ SDM;
    80 URDMSR []
        "A program in the guest read an MSR from user space with URDMSR, and it is not passed through.",
        "User-space interrupts and their MSRs, where offered.",
        "KVM does not offer it to guests.", @ SDM;
    81 UWRMSR []
        "A program in the guest wrote an MSR from user space with UWRMSR, and it is not passed through.",
        "User-space interrupts and their MSRs, where offered.",
        "KVM does not offer it to guests.", @ SDM;
    84 MSR_READ_IMM ["RDMSR_IMM"]
        "The guest read a model-specific register, named in the instruction itself, that is not passed \
            through.",
        "As for MSR_READ, with the newer form of the instruction.",
        "As for MSR_READ.";
    85 MSR_WRITE_IMM ["WRMSRNS_IMM"]
        "The guest wrote a model-specific register, named in the instruction itself, that is not passed \
            through.",
        "As for MSR_WRITE, with the newer form of the instruction.",
        "As for MSR_WRITE.";
};
